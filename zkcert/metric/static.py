"""Static sharpness: of the loss on a whole dataset, at the weights as they are. Needs PyTorch."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from torch import Tensor

from zkcert.errors import UnusableInput
from zkcert.metric.evaluate import full_gradient, mean_loss
from zkcert.metric.network import Network
from zkcert.metric.perturbation import perturbation, scales


@dataclass(frozen=True)
class StaticSharpness:
    """How much the loss L on a dataset can rise within rho of the weights w, see `sharpness`.

    first_order  rho ||T_w g||_q: the rise that the gradient g of L at w promises.
    ascent       L(w + e) - L(w): the rise that happens at the maximiser e of the first-order model.
    loss         L(w), mean cross-entropy in nats.
    """

    first_order: float
    ascent: float
    loss: float

    def to_dict(self) -> dict[str, float]:
        """JSON values."""
        return asdict(self)


def sharpness(
    network: Network,
    x: Tensor,
    y: Tensor,
    *,
    variant: str = "sam",
    rho: float = 0.05,
    eta: float = 0.01,
    p: float = 2.0,
    batch_size: int = 256,
) -> StaticSharpness:
    """Full-dataset SAM (arXiv 2606.25004, Def. 3) or ASAM sharpness (Def. 4) of the network at its weights.

    Both approximate S = max_{||T_w^-1 e||_p <= rho} L(w + e) - L(w), with L the mean cross-entropy over all of x, y:
    worst-case sharpness, Def. 1 for T_w = I and Def. 2 for T_w = diag(|w|). SAM has T_w = I (Foret et al., arXiv
    2010.01412), ASAM T_w = diag(|w|) or the like (Kwon et al., arXiv 2102.11600), see
    `zkcert.metric.perturbation.scales` for `variant` and `eta`. The maximum of a network's loss is out of reach; as in
    those papers, L is replaced by its first-order model, with g = grad L(w) and the maximiser e of
    `zkcert.metric.perturbation.perturbation`. S is then approximated by either of

        first_order = <g, e> = rho ||T_w g||_q       the maximum of the model, Defs. 3 and 4; the probe's s_t, on all
                                                     data,
        ascent      = L(w + e) - L(w)                the true rise at e; a lower bound of S, negative where the model
                                                     is that wrong. Ours: the paper does not use it.

    The experiments of the paper compare with first_order at p = q = 2, rho = 0.05 and T_w = diag(|w|), on the clean
    training set. `zkcert.metric.worst_case.worst_case_rise` looks further for S.

    x, y, batch_size  as for `zkcert.metric.evaluate.chunks`; the batch size changes memory and rounding only, except
                      where batch-norm uses the statistics of each chunk.

    One pass with gradients, one without. Raises UnusableInput, also where the loss or its gradient is not finite.
    """
    if not rho > 0 or not eta >= 0:
        raise UnusableInput("rho must be positive and eta not negative")
    scale = scales(variant, network.names, network.weights, eta)
    loss, gradient = full_gradient(network, network.weights, x, y, batch_size)
    first_order, moves = perturbation(scale, gradient, rho, p)
    if not np.isfinite([loss, first_order]).all():
        raise UnusableInput(f"the loss {loss:g} or its sharpness {first_order:g} is not finite")
    moved = [w + e for w, e in zip(network.weights, moves, strict=True)]
    return StaticSharpness(first_order, mean_loss(network, x, y, batch_size, weights=moved) - loss, loss)
