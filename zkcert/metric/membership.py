"""Membership inference from per-example scores, B = 1 (arXiv 2606.25004, section 5.2 and Table 4). Needs PyTorch.

The paper's per-example directional sharpness treats the example as the only training data, with B = 1: so it is every
mini-batch. Three scores of an example z = (x, y), all from the trajectory of Algorithm 1 on that dataset:

loss         L_0 = cross-entropy of z at the model's weights, in nats (Yeom et al., arXiv 1709.01604).
static       s_0 = rho ||T_w g_z||, its first-order sharpness; ASAM's for the per-step function "asam-all".
directional  Std_t log(s_t^2 / L_t + eps), or another fluctuation statistic, over T steps.

Members are expected to have the smaller scores, all three: that is decided here, not from the scores; the paper does
not say which way it takes them. For the loss it is what training does; the gradient of cross-entropy vanishes with the
loss; and so does the change of log(s^2 / L) that a step along that gradient makes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zkcert.errors import UnusableInput
from zkcert.metric.network import Network
from zkcert.metric.perturbation import scales
from zkcert.metric.precision import full_precision
from zkcert.metric.probe import STATISTICS, Probe
from zkcert.metric.roc import Discrimination

SCORES = ("loss", "static", "directional")

_CHUNK_BYTES = 256 << 20
_COPIES = 6
"""Tensors like the weights that an example needs at a time: weights, gradient, T_w, e, moved weights, a temporary."""


@dataclass(frozen=True, eq=False)
class ExampleScores:
    """Scores of n examples; float64 arrays of shape [n].

    vanished  bool [n]: at some step the loss was 0 in floating point, and its log ratio was taken as log(eps), the
              limit of log(s^2 / L + eps) as the example is fitted (s^2 is of order L^2 then).
    """

    loss: np.ndarray
    static: np.ndarray
    directional: np.ndarray
    vanished: np.ndarray


@full_precision()
def example_scores(
    network: Network,
    x: Tensor,
    y: Tensor,
    probe: Probe,
    *,
    chunk: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ExampleScores:
    """The three scores of each of n examples, in the network's dtype and on its device.

    x      inputs [n, ...] as the network reads them.
    y      labels [n], or [n, positions], int64.
    probe  with batch_size 1, eps > 0, and batch-norm in evaluation mode: a single example has no batch statistics.
    chunk  examples at a time, each with weights of its own; None: as many as fit in 256 MB, at most 64.

    Use float64: of a well-fitted example the loss is the small difference of much larger logits, and the log ratio
    hardly changes along the trajectory, so that in float32 the directional score is rounding error.

    The whole trajectory is mapped over examples by `torch.func.vmap`, so `network.forward` must not branch on values.
    progress is called with (examples done, n). Raises UnusableInput, also where a loss or gradient diverges.
    """
    if probe.batch_size != 1 or probe.batch_norm != "eval" or not probe.eps:
        raise UnusableInput("scores of single examples need batch_size 1, batch_norm eval and a positive eps")
    if not len(x) or len(x) != len(y):
        raise UnusableInput(f"{len(x)} examples with {len(y)} labels: expected as many of both, at least one")
    if chunk is None:
        size = _COPIES * sum(w.numel() * w.element_size() for w in network.weights)
        chunk = min(64, max(1, _CHUNK_BYTES // size))
    run = torch.func.vmap(lambda a, b: _trajectory(network, a, b, probe))
    parts = []
    for start in range(0, len(x), chunk):
        rows = slice(start, start + chunk)
        with torch.no_grad():
            pair = run(x[rows].to(network.device), y[rows].to(network.device))
        parts.append(torch.stack(pair).double().cpu().numpy())
        if progress:
            progress(min(start + chunk, len(x)), len(x))
    sharpness, loss = np.concatenate(parts, axis=1)
    bad = ~np.isfinite(sharpness) | ~np.isfinite(loss)
    if bad.any():
        row, step = (int(v) for v in np.argwhere(bad)[0])
        raise UnusableInput(f"example {row}, step {step}: the loss or its gradient diverges")
    ratio = np.divide(sharpness**2, loss, out=np.zeros_like(loss), where=loss > 0)
    log_ratio = np.log(ratio + float(probe.eps))
    statistic = STATISTICS[probe.statistic]
    with np.errstate(invalid="ignore", divide="ignore"):
        directional = np.array([statistic(s, v, probe.ddof) for s, v in zip(sharpness, log_ratio, strict=True)])
    if np.isnan(directional).any():
        raise UnusableInput(f"{probe.statistic} is undefined for example {int(np.isnan(directional).argmax())}")
    return ExampleScores(loss[:, 0], sharpness[:, 0], directional, (loss == 0).any(axis=1))


def _trajectory(network: Network, x: Tensor, y: Tensor, probe: Probe) -> tuple[Tensor, Tensor]:
    """s_t and L_t [T] of one example that is every mini-batch; see `zkcert.metric.probe.trajectory`."""
    rho, lr, eta = float(probe.rho), float(probe.lr), float(probe.eta)
    loss_and_gradient = torch.func.grad_and_value(lambda w: network.loss(w, x[None], y[None]))
    weights = network.weights
    sharpness, losses = [], []
    for t in range(probe.steps):
        gradient, loss = loss_and_gradient(weights)
        scale = scales(probe.variant, network.names, weights, eta)
        scaled = [d * g for d, g in zip(scale, gradient, strict=True)]
        length = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(v) for v in scaled]))
        sharpness.append(rho * length)
        losses.append(loss)
        if t + 1 == probe.steps:
            break
        factor = torch.where(length > 0, rho / length, 0.0)
        moved = tuple(w + factor * d * v for w, d, v in zip(weights, scale, scaled, strict=True))
        gradient, _ = loss_and_gradient(moved)
        weights = tuple(w - lr * g for w, g in zip(weights, gradient, strict=True))
    return torch.stack(sharpness), torch.stack(losses)


@dataclass(frozen=True, eq=False)
class Membership:
    """How well each score tells members from others.

    results            score -> `Discrimination`, members being the `low` kind.
    members, others    the scores themselves.
    """

    results: dict[str, Discrimination]
    members: ExampleScores
    others: ExampleScores

    @staticmethod
    def of(members: ExampleScores, others: ExampleScores) -> Membership:
        """Compare at least two members with at least two others."""
        if min(len(members.loss), len(others.loss)) < 2:
            raise UnusableInput("membership inference needs at least two members and two others")
        results = {name: Discrimination.of(getattr(members, name), getattr(others, name)) for name in SCORES}
        return Membership(results, members, others)

    @property
    def vanished(self) -> tuple[int, int]:
        """Members and others whose loss vanished at some step."""
        return int(self.members.vanished.sum()), int(self.others.vanished.sum())

    def to_dict(self) -> dict[str, Any]:
        """JSON values, without the scores themselves."""
        vanished = self.vanished
        return {
            "members": len(self.members.loss),
            "nonmembers": len(self.others.loss),
            "vanished": {"members": vanished[0], "nonmembers": vanished[1]},
            "scores": {name: result.to_dict() for name, result in self.results.items()},
        }
