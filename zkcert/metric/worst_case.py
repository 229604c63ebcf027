"""Magnitude-aware worst-case sharpness, both ways. Needs PyTorch.

`worst_case_rise`       how far the loss can rise within a radius: arXiv 2606.25004, Defs. 1 and 2.
`worst_case_sharpness`  how little every weight has to move for the accuracy to fall: Jiang et al.'s, with which the
                        paper's experiments compare.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from zkcert.errors import UnusableInput
from zkcert.metric.evaluate import chunks, correct, full_gradient, on_device
from zkcert.metric.network import Network
from zkcert.metric.perturbation import norm, scales
from zkcert.metric.precision import full_precision

SMALLEST, LARGEST = 2.0**-20, 2.0
"""The search for alpha stays between these. At 1, a box holds the network that answers the same to every input."""


@dataclass(frozen=True)
class WorstCase:
    """What `worst_case_sharpness` found.

    alpha         the smallest magnitude ratio tried at which the accuracy fell far enough; inf: none did.
    below         the largest ratio tried below alpha at which it did not; 0 if there is none.
    accuracy      at the network's weights.
    lowest        the lowest accuracy seen within the box of `alpha` (of LARGEST, if alpha is inf).
    drop          the fall that was asked for.
    samples       on how many samples.
    trials        (ratio, lowest accuracy seen at it) in the order of the search. A ratio that succeeds is left at the
                  first restart that succeeds, so its accuracy is not the lowest there is.
    gradients     how many mini-batch gradients, and
    evaluations   how many passes for the accuracy it took.
    """

    alpha: float
    below: float
    accuracy: float
    lowest: float
    drop: float
    samples: int
    trials: tuple[tuple[float, float], ...]
    gradients: int
    evaluations: int

    @property
    def sharpness(self) -> float:
        """1 / alpha^2; 0 for alpha = inf."""
        return 1 / self.alpha**2

    def to_dict(self) -> dict[str, Any]:
        """JSON values; alpha is None where no ratio sufficed."""
        names = ("below", "accuracy", "lowest", "drop", "samples", "gradients", "evaluations")
        values = {name: getattr(self, name) for name in names}
        alpha = self.alpha if math.isfinite(self.alpha) else None
        return {"sharpness": self.sharpness, "alpha": alpha, **values, "trials": [list(t) for t in self.trials]}


@full_precision()
def worst_case_rise(
    network: Network,
    x: Tensor,
    y: Tensor,
    *,
    variant: str = "asam-all",
    rho: float = 0.05,
    eta: float = 0.01,
    p: float = 2.0,
    ascent_steps: int = 10,
    step_size: float | None = None,
    batch_size: int = 256,
) -> float:
    """A lower bound of max_{||T_w^-1 e||_p <= rho} L(w + e) - L(w), L the mean cross-entropy over all of x, y.

    Worst-case sharpness, arXiv 2606.25004: Def. 1 for variant "sam", Def. 2 for "asam-all"; p is 2 or infinity.
    Projected gradient ascent from e = 0, in u with e = T_w u, so that weights of scale 0 stay where they are:

        v <- T_w g,    u <- P(u + step_size d),    d = rho v / ||v||_2 (p = 2) or rho sign(v) (p = inf),

    P the projection onto ||u||_p <= rho. The largest rise met on the way is returned, at least 0, that of e = 0.

    ascent_steps  each a gradient over all samples; step_size: as a share of rho, 2.5 / ascent_steps by default.

    Raises UnusableInput.
    """
    share = 2.5 / ascent_steps if step_size is None and ascent_steps > 0 else step_size
    if p not in (2, math.inf) or not rho > 0 or not eta >= 0 or ascent_steps < 1 or not share or not share > 0:
        raise UnusableInput("p must be 2 or infinity, rho, ascent steps and the step size positive, eta not negative")
    scale = scales(variant, network.names, network.weights, eta)
    moves = [torch.zeros_like(w) for w in network.weights]
    start, highest = math.nan, 0.0
    for step in range(ascent_steps + 1):
        weights = [w + t * u for w, t, u in zip(network.weights, scale, moves, strict=True)]
        loss, gradient = full_gradient(network, weights, x, y, batch_size)
        start = loss if step == 0 else start
        if not math.isfinite(loss):
            raise UnusableInput(f"the loss {loss:g} is not finite")
        highest = max(highest, loss - start)
        scaled = [t * g for t, g in zip(scale, gradient, strict=True)]
        if p == 2:
            factor = share * rho / max(norm(scaled), torch.finfo(scaled[0].dtype).tiny)
            moves = [u + factor * v for u, v in zip(moves, scaled, strict=True)]
            cut = min(1.0, rho / max(norm(moves), rho))
            moves = [cut * u for u in moves]
        else:
            moves = [(u + share * rho * v.sign()).clamp(-rho, rho) for u, v in zip(moves, scaled, strict=True)]
    return highest


@full_precision()
def worst_case_sharpness(
    network: Network,
    x: Tensor,
    y: Tensor,
    *,
    drop: float = 0.1,
    restarts: int = 3,
    ascent_steps: int = 20,
    step_size: float | None = None,
    bisections: int = 5,
    start: float = 0.125,
    batch_size: int = 256,
    subset: int | None = None,
    seed: int = 0,
) -> WorstCase:
    """1 / alpha^2, where |delta_i| <= alpha |w_i| for all i just suffices to lower the accuracy by `drop`.

    The "Worst-Case" of the experiments of arXiv 2606.25004, which names Jiang et al., arXiv 1912.02178, Algorithm 3,
    for it (also Dziugaite et al., arXiv 2010.11924), who take a fall by 0.1, after Keskar et al., arXiv 1609.04836.
    It is not that paper's Def. 2, which is `worst_case_rise`: there the radius is given and the loss is looked for.
    Larger is sharper.

    Inner search, for a ratio alpha: projected gradient ascent on the mean cross-entropy of mini-batches over the box
    |delta_i| <= alpha |w_i|,

        delta_i <- clip(delta_i + step_size alpha |w_i| sign(g_i), -alpha |w_i|, alpha |w_i|),

    the steepest ascent in the box's own norm max_i |delta_i| / (alpha |w_i|), as Madry et al., arXiv 1706.06083, do
    for inputs; from delta_i uniform in the box, `restarts` times. The accuracy is taken after the last step, on all
    samples; the first restart at which it has fallen by `drop` ends the search at this alpha.
    Outer search: from `start` alpha is doubled, or halved, until the outcome changes, then `bisections` times the
    geometric mean of a failing and a succeeding alpha is tried. Restarts and mini-batches are the same for all alpha.

    The ascent finds a bad point of the box, not the worst, so the true threshold is at most `alpha`, and the
    sharpness reported is a lower bound. A larger box contains a smaller one; the ascent may still fail in it, so
    that the search settles on one of several changes of outcome (`trials` shows them).

    drop          absolute, in (0, 1); the accuracy at the network's weights must be at least this.
    step_size     as a fraction of alpha; 2.5 / ascent_steps by default, as Madry et al.
    batch_size    of the mini-batches, drawn without replacement within each, and of the passes for the accuracy.
    subset        use this many samples of x, y, drawn by `seed`, for the ascent and the accuracy; None: all.

    Step, restarts, the range of the search and the subset are this implementation's. Raises UnusableInput.
    """
    step_size = 2.5 / ascent_steps if step_size is None and ascent_steps > 0 else step_size
    if not 0 < drop < 1 or min(restarts, ascent_steps, bisections + 1) < 1 or not step_size or not step_size > 0:
        raise UnusableInput("drop must be in (0, 1), restarts and ascent steps at least 1, the step size positive")
    if not SMALLEST <= start <= LARGEST:
        raise UnusableInput(f"the search has to start within {SMALLEST:g} and {LARGEST:g}")
    chunks(network, x, y, batch_size)
    draw = torch.Generator().manual_seed(seed)
    if subset is not None:
        if not 1 <= subset <= len(y):
            raise UnusableInput(f"a subset has 1 to {len(y)} samples, not {subset}")
        chosen = torch.randperm(len(y), generator=draw)[:subset]
        x, y = x[chosen], y[chosen]
    seeds = torch.randint(2**62, (restarts,), generator=draw).tolist()
    search = _Search(network, x, y, drop, seeds, ascent_steps, step_size, batch_size)
    alpha, below = search.bracket(start)
    if math.isfinite(alpha) and below > 0:
        for _ in range(bisections):
            middle = math.sqrt(alpha * below)
            if search.succeeds(middle):
                alpha = middle
            else:
                below = middle
    lowest = min(accuracy for tried, accuracy in search.trials if tried <= alpha)
    return WorstCase(
        alpha=alpha,
        below=below,
        accuracy=search.hits / y.numel(),
        lowest=lowest,
        drop=drop,
        samples=len(y),
        trials=tuple(search.trials),
        gradients=search.gradients,
        evaluations=search.evaluations,
    )


class _Search:
    """The attacks of one `worst_case_sharpness`, and what they cost."""

    def __init__(
        self,
        network: Network,
        x: Tensor,
        y: Tensor,
        drop: float,
        seeds: Sequence[int],
        ascent_steps: int,
        step_size: float,
        batch_size: int,
    ) -> None:
        self.network, self.x, self.y, self.batch_size = network, x, y, batch_size
        self.seeds, self.ascent_steps, self.step_size = seeds, ascent_steps, step_size
        self.magnitudes = [w.abs() for w in network.weights]
        self.trials: list[tuple[float, float]] = []
        self.gradients, self.evaluations = 0, 1
        self.hits = correct(network, x, y, batch_size)
        self.target = self.hits - drop * y.numel()  # at most this many right answers
        if self.target < 0:
            raise UnusableInput(f"the accuracy {self.hits / y.numel():g} cannot fall by {drop:g}")

    def bracket(self, start: float) -> tuple[float, float]:
        """Neighbouring powers of two times start: where the accuracy falls enough (or inf), and does not (or 0)."""
        ratio = start
        if self.succeeds(ratio):
            while ratio / 2 >= SMALLEST:
                if not self.succeeds(ratio / 2):
                    return ratio, ratio / 2
                ratio /= 2
            return ratio, 0.0
        while ratio < LARGEST:
            larger = min(2 * ratio, LARGEST)
            if self.succeeds(larger):
                return larger, ratio
            ratio = larger
        return math.inf, ratio

    def succeeds(self, alpha: float) -> bool:
        """Whether some restart lowers the accuracy far enough within the box of alpha."""
        lowest = self.y.numel()
        for seed in self.seeds:
            lowest = min(lowest, self._attack(alpha, seed))
            if self._enough(lowest):
                break
        self.trials.append((alpha, lowest / self.y.numel()))
        return self._enough(lowest)

    def _enough(self, hits: int) -> bool:
        return hits <= self.target + 1e-9 * self.y.numel()  # drop * n may be rounded

    def _attack(self, alpha: float, seed: int) -> int:
        """How many answers are right after one ascent."""
        draw = torch.Generator().manual_seed(seed)
        bounds = [alpha * m for m in self.magnitudes]
        moves = [b * _uniform(b, draw) for b in bounds]
        for _ in range(self.ascent_steps):
            index = torch.randperm(len(self.y), generator=draw)[: self.batch_size]
            batch = on_device(self.network, self.x[index], self.y[index])
            _, gradient = self.network.gradient(self._moved(moves), *batch)
            self.gradients += 1
            for move, bound, g in zip(moves, bounds, gradient, strict=True):
                move.add_(self.step_size * bound * g.sign()).clamp_(-bound, bound)
        self.evaluations += 1
        return correct(self.network, self.x, self.y, self.batch_size, weights=self._moved(moves))

    def _moved(self, moves: Sequence[Tensor]) -> list[Tensor]:
        return [w + move for w, move in zip(self.network.weights, moves, strict=True)]


def _uniform(like: Tensor, draw: torch.Generator) -> Tensor:
    """Uniform in [-1, 1), drawn on the CPU."""
    return (2 * torch.rand(like.shape, generator=draw, dtype=like.dtype) - 1).to(like.device)
