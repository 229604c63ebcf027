"""How `circuits.layers.attention` is filled."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from circuits.layers.attention import Attention
from circuits.layers.function import HALF, UNIT
from circuits.net import Contraction
from circuits.segments import DECAY
from circuits.value import Value

from ..arithmetic import exact_matmul, exact_terms, floor_limbs, limb_products
from ..values import fill_contraction, fill_total, peak, value_limbs
from ..witness import Witness
from .base import Accumulators, Executor
from .pytorch import TorchLayer

I64 = NDArray[np.int64]
ROUND = 1 << 31


def _run(F: Any, node: Any, tensors: Any, x: Any) -> Any:
    batch, channels, _, length = x.shape
    parts = x.reshape(batch, 3, node["heads"], channels // (3 * node["heads"]), length).swapaxes(3, 4).unbind(1)
    out = F.scaled_dot_product_attention(*parts, is_causal=node["causal"])
    return out.swapaxes(2, 3).reshape(batch, channels // 3, 1, length)


class AttentionExecutor(Executor):
    """Scores by pair, their exponentials and shares; and the gradients of all three inputs."""

    layer_type = Attention
    layer: Attention
    torch = TorchLayer(run=_run, forms=())

    def __init__(self, layer: Attention) -> None:
        super().__init__(layer)
        self.i, self.j = layer.pairs.listed
        self.starts = np.searchsorted(self.i, np.arange(layer.count))

    # -- matrices of heads: (batch, heads, positions, channels of a head)

    def _heads(self, x: Any) -> NDArray[np.float64]:
        layer = self.layer
        made = x.reshape(len(x), layer.heads, layer.d.size, layer.count).swapaxes(2, 3)
        return np.ascontiguousarray(made, np.float64)

    def _joined(self, x: I64) -> I64:
        return x.swapaxes(2, 3).reshape(len(x), self.layer.channels, self.layer.count)

    def _limbs(self, v: Value, w: Witness, p: int, part: int = 0) -> list[NDArray[np.float64]]:
        """Of queries (0), keys (1) or values (2)."""
        own = slice(part * self.layer.channels, (part + 1) * self.layer.channels)
        return [self._heads(limb[:, own]) for limb in value_limbs(v, w, p)]

    def _square(self, v: Value, w: Witness, p: int) -> list[NDArray[np.float64]]:
        """Limbs of a value of pairs, (batch, heads, i, j), zero where there is no pair."""
        out = []
        for limb in value_limbs(v, w, p):
            made = np.zeros((*limb.shape[:2], self.layer.count, self.layer.count))
            made[:, :, self.i, self.j] = limb
            out.append(made)
        return out

    def _terms(self, a: Value, b: Value) -> int:
        return exact_terms(peak(a), peak(b))

    def _fill(self, run: Contraction, w: Witness, limbs: list[I64], rest: I64, p: int) -> None:
        fill_contraction(run, w, limbs, rest, p, slice(0, len(rest)))

    def _rescaled(
        self, run: Contraction, w: Witness, limbs: list[I64], out: Value, p: int, joined: bool = True
    ) -> None:
        values, rest = floor_limbs(limbs, ROUND, 32, f"{self.layer.name} {run.con.name.rpartition('/')[2]}")
        w.put(out.tensor, self._joined(values) if joined else values, p)
        self._fill(run, w, limbs, rest, p)

    def _times_factor(self, x: list[Any]) -> list[I64]:
        low, high = (x[k].astype(np.int64) for k in range(2))
        small, large = self.layer.factor % UNIT, self.layer.factor // UNIT
        return [low * small, low * large + high * small, high * large]

    # -- passes

    def forward(self, w: Witness, p: int) -> None:
        layer = self.layer
        if layer.total is not None:
            fill_total(layer.total, w, p)
        limbs = self._times_factor([limb[:, : layer.channels] for limb in value_limbs(layer.read, w, p)])
        values, rest = floor_limbs(limbs, ROUND, 32, f"{layer.name} queries")
        w.put(layer.scaled.tensor, values, p)
        self._fill(layer.run_scaled, w, [], rest, p)  # it is linear

        q, k = self._limbs(layer.scaled, w, p), self._limbs(layer.read, w, p, 1)
        products = exact_matmul(q, [x.swapaxes(2, 3) for x in k], self._terms(layer.scaled, layer.read))
        paired = [np.ascontiguousarray(x[:, :, self.i, self.j]) for x in products]
        z, rest = floor_limbs(paired, ROUND, 32, f"{layer.name} scores")
        top = np.maximum.reduceat(z, self.starts, axis=2)
        x = top[:, :, self.i] - z
        w.put(layer.top.tensor, top, p)
        w.put(layer.is_top.tensor, self._first(x == 0), p)
        segment = x >> 22
        g = np.minimum(segment, DECAY.last)
        t = (x & (UNIT - 1)) - HALF
        for v, found in ((layer.segment, g), (layer.offset, t), (layer.over, segment - g)):
            w.put(v.tensor, found, p)
        self._fill(layer.run_scores, w, paired, rest, p)
        self._probabilities(w, p, self._exponentials(w, p, g, t))

        limbs = exact_matmul(
            self._square(layer.p, w, p), self._limbs(layer.read, w, p, 2), self._terms(layer.p, layer.read)
        )
        self._rescaled(layer.run_y, w, limbs, layer.y, p)

    def _first(self, here: NDArray[np.bool_]) -> I64:
        """The first of each row, as a bit."""
        seen = np.cumsum(here, axis=2)
        before = seen[:, :, self.starts] - here[:, :, self.starts]
        return (here & (seen - before[:, :, self.i] == 1)).astype(np.int64)

    def _exponentials(self, w: Witness, p: int, g: I64, t: I64) -> I64:
        layer = self.layer
        _, middle, mean, bend = np.moveaxis(layer.table.rows[g], -1, 0)
        turned = bend * t + HALF
        turn = turned >> 22
        stepped = (mean + turn) * t + ROUND
        step = stepped >> 32
        e = middle + step
        for v, found in (
            (layer.e, e),
            (layer.slope, mean),
            (layer.bend, bend),
            (layer.turn, turn),
            (layer.turn_rest, turned - (turn << 22)),
            (layer.step, step),
            (layer.step_rest, stepped - (step << 32)),
        ):
            w.put(v.tensor, found, p)
        return np.asarray(e)

    def _probabilities(self, w: Witness, p: int, e: I64) -> None:
        layer = self.layer
        total = np.add.reduceat(e, self.starts, axis=2)
        w.put(layer.sum.tensor, total, p)
        every = total[:, :, self.i]
        high, rest = np.divmod(e << 20, every)
        low, rest = np.divmod(rest << 12, every)
        w.put(layer.p.tensor, (high << 12) + low, p)
        w.put(layer.slack.tensor, every - 1 - rest, p)
        digits = [d.astype(np.int64) for d in value_limbs(layer.p, w, p)]
        sums = [d.astype(np.int64)[:, :, self.i] for d in value_limbs(layer.sum, w, p)]
        self._fill(layer.run_p, w, limb_products(digits, sums), rest, p)

    def backward(self, w: Witness, p: int) -> Accumulators:
        layer = self.layer
        if layer.dx is None:
            return {}
        i, j = self.i, self.j
        dx = np.empty(layer.dx.shape, np.int64)
        prob, dy = self._square(layer.p, w, p), self._limbs(layer.dy, w, p)
        v = self._limbs(layer.read, w, p, 2)

        def turned(x: list[NDArray[np.float64]]) -> list[NDArray[np.float64]]:
            return [a.swapaxes(2, 3) for a in x]

        def kept(limbs: list[I64], part: int, what: str) -> I64:
            values, rest = floor_limbs(limbs, ROUND, 32, f"{layer.name} {what}")
            own = slice(part * layer.channels, (part + 1) * layer.channels)
            dx[:, own] = self._joined(values) if values.ndim == 4 else values
            return rest

        of_v = exact_matmul(turned(prob), dy, self._terms(layer.p, layer.dy))
        rest_v = kept(of_v, 2, "dv")
        limbs = exact_matmul(dy, turned(v), self._terms(layer.dy, layer.read))
        paired = [np.ascontiguousarray(x[:, :, i, j]) for x in limbs]
        self._rescaled(layer.run_m, w, paired, layer.m, p, joined=False)
        shares = [d.astype(np.int64) for d in value_limbs(layer.p, w, p)]
        own = [d.astype(np.int64) for d in value_limbs(layer.m, w, p)]
        sums = [np.add.reduceat(x, self.starts, axis=2) for x in limb_products(shares, own)]
        self._rescaled(layer.run_u, w, sums, layer.u, p, joined=False)
        mean = [d.astype(np.int64)[:, :, i] for d in value_limbs(layer.u, w, p)]
        centred = [a - b for a, b in zip(own, mean, strict=True)]
        self._rescaled(layer.run_dz, w, limb_products(shares, centred), layer.dz, p, joined=False)

        dz = self._square(layer.dz, w, p)
        of_k = exact_matmul(turned(dz), self._limbs(layer.scaled, w, p), self._terms(layer.dz, layer.scaled))
        rest_k = kept(of_k, 1, "dk")
        limbs = exact_matmul(dz, self._limbs(layer.read, w, p, 1), self._terms(layer.dz, layer.read))
        self._rescaled(layer.run_dr, w, limbs, layer.dr, p)
        of_q = self._times_factor(value_limbs(layer.dr, w, p))
        rest_q = kept(of_q, 0, "dq")  # linear, too
        w.put(layer.dx.tensor, dx, p)
        for run, found, rest in (
            (layer.run_dv, of_v, rest_v),
            (layer.run_dk, of_k, rest_k),
            (layer.run_dq, [], rest_q),
        ):
            self._fill(run, w, found, rest, p)
        return {}
