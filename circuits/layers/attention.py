"""Attention of positions to each other, of several heads: channels are queries, keys, values, those of a head together.

For every pair (i, j) of which i attends to j, all or those with j <= i; a = round(2^32 / sqrt(D)), D channels a head:

    r = rescale(a q),   z_ij = rescale(sum_d r_di k_dj),   x_ij = max_j z_ij - z_ij,   e_ij = exp(-x_ij) by segments,
    S_i = sum_j e_ij,   P_ij = floor(2^32 e_ij / S_i),   y_di = rescale(sum_j P_ij v_dj),

and back:

    dv_dj = rescale(sum_i P_ij dy_di),   m_ij = rescale(sum_d dy_di v_dj),   u_i = rescale(sum_j P_ij m_ij),
    dz_ij = rescale(P_ij (m_ij - u_i)),  dk_dj = rescale(sum_i dz_ij r_di),
    dr_di = rescale(sum_j dz_ij k_dj),   dq = rescale(a dr).

x = 2^22 (g + a) + 2^21 + t with t in [-2^21, 2^21), g >= 0 a segment, and an excess a >= 0 only at the last one, so no
x is negative; it is not committed, and neither is z.
"""

from __future__ import annotations

from functools import cache
from math import isqrt

from circuits.language.constraints import expr, product
from circuits.language.forms import Form
from circuits.language.functions import FunctionTable
from circuits.language.sources import Axis, Gather, GatherSum, Map, Source
from circuits.language.tensors import B22, BIT, U22, Digit, radix
from circuits.language.wide import Domain, Limbs
from zkcert.errors import UnusableInput

from ..net import REMAINDER, VALUE, Contraction, Net, Total
from ..segments import DECAY, rows_of_decay
from ..value import Value
from ..windows import Pairs, heads_of
from .base import Layer
from .function import HALF, MOST, SLOPE, STEP, UNIT
from .spec import Flag, Integer, LayerSpec, Node, require_image

SUM = radix(U22, U22)  # of at most 2^11 exponentials


def _shape(node: Node, shape: list[int]) -> list[int]:
    require_image(shape)
    heads = node["heads"]
    if shape[1] != 1 or shape[0] % (3 * heads):
        raise UnusableInput(f"an input of shape {shape} does not make queries, keys and values of {heads} heads")
    if shape[2] > MAX_POSITIONS:
        raise UnusableInput(f"it attends to {shape[2]} positions, at most {MAX_POSITIONS} can be proved")
    return [shape[0] // 3, 1, shape[2]]


MAX_POSITIONS = 1 << 10


@cache
def decay() -> FunctionTable:
    """The segments of exp(-x)."""
    within = (0, DECAY.last), (-MOST, MOST), (-MOST, MOST), (-MOST, MOST)
    return FunctionTable("segments decay", (DECAY.last + 1, 4), rows_of_decay, within)


class Attention(Layer):
    spec = LayerSpec(op="attention", fields={"heads": Integer(1), "causal": Flag()}, splits=True, output_shape=_shape)

    def declare_forward(self, net: Net, node: Node, x: Value, shape: tuple[int, ...]) -> None:
        self.total = Total(net, f"{self.name}/x", x) if any(part.channels for part in x.parts) else None
        self.read = x = self.total.value if self.total else x
        batch, channels, self.count = x.shape
        self.heads, self.channels = node["heads"], channels // 3
        own = self.channels // self.heads
        self.factor = (isqrt((1 << 66) // own) + 1) // 2  # 2^32 / sqrt(D), to the nearest
        self.pairs, self.table = Pairs(self.count, node["causal"]), decay()
        net.count_table(2 * self.count**2 + len(self.pairs), f"attention of {self.count} positions")
        self.b, self.h, self.d = net.batch_axis(), Axis("h", self.heads), Axis("d", own)
        self.i, self.j = Axis("i", self.count), Axis("j", self.count)
        self.t = Axis("t", len(self.pairs))
        self.by_pair, self.by_row = (self.b, self.h, self.t), (self.b, self.h, self.i)
        # how pairs read rows, and matrices of i and j pairs: zero where there is no pair
        self.i_of, self.j_of = (Map("t", tuple(map(int, places)), self.count) for places in self.pairs.listed)
        self.by_key = Gather("j", "i", self.pairs.by_key(), self.t.size)
        self.by_query = Gather("i", "j", self.pairs.by_query(), self.t.size)

        self.scaled = self.tensor("q", (batch, self.channels, self.count))
        self.run_scaled = self._times_factor("scaled", x, self.scaled)
        self._declare_scores()
        self._declare_exponentials()
        self._declare_probabilities()
        self.y = self.tensor("y", self.scaled.shape)
        limbs = Limbs().add_product(self._matrix(self.p, self.by_key), self._at(x, 2, self.j))
        self.run_y = self._rescaled("forward", (self.i, self.d), self.j, self._at(self.y, 0, self.i), limbs, "sum")

    # -- how tensors are read

    def _at(self, v: Value, part: int, position: Source) -> list[Form]:
        """Limbs of queries (0), keys (1) or values (2), or of a value of queries alone, by head and channel."""
        channels = heads_of(self.heads, self.d.size, part * self.channels)
        return self.limbs(v, self.b, Gather("h", "d", channels, v.shape[1]), position)

    def _matrix(self, v: Value, place: Source) -> list[Form]:
        """Limbs of a value of pairs by i and j."""
        return self.limbs(v, self.b, self.h, place)

    def _of_pair(self, v: Value) -> tuple[Source, ...]:
        """The sources of a value of pairs, or of rows, by pair."""
        return self.b, self.h, self.t if v.shape[2] == self.t.size else self.i_of

    def _paired(self, v: Value) -> list[Form]:
        return self.limbs(v, *self._of_pair(v))

    def _pair(self, v: Value) -> Form:
        return self.form(v, *self._of_pair(v))

    def _row_sum(self, v: Value) -> Form:
        """Over the pairs of a row."""
        return self.form(v, self.b, self.h, GatherSum("i", self.pairs.by_key(), self.t.size))

    def _tensor(self, label: str, axis: Axis, digits: tuple[Digit, ...] = VALUE) -> Value:
        return self.tensor(label, (self.net.batch, self.heads, axis.size), digits)

    # -- identities

    def _rescaled(
        self, label: str, out: tuple[Axis, ...], summed: Axis, value: list[Form], limbs: Limbs, name: str
    ) -> Contraction:
        """Constrain `value`, by head and the axes `out`, to be rescaled limbs."""
        return self.net.rescaled(self.constraint(label, self.b, self.h, *out, summed=(summed,)), value, limbs, name)

    def _times_factor(self, label: str, x: Value, out: Value) -> Contraction:
        """out = rescale(a x) of the first channels."""
        c, s = Axis("c", self.channels), Axis("s", self.count)

        def first(v: Value) -> list[Form]:
            return self.limbs(v, self.b, Map("c", tuple(range(c.size)), v.shape[1]), s)

        limbs = Limbs()
        for k, form in enumerate(first(x)):
            limbs.add(form * (self.factor % UNIT), 22 * k).add(form * (self.factor // UNIT), 22 * (k + 1))
        return self.net.rescaled(self.constraint(label, self.b, c, s), first(out), limbs, "scaled")

    def _declare_scores(self) -> None:
        self.top, self.segment = self._tensor("max", self.i), self._tensor("segment", self.t, radix(B22))
        self.offset, self.over = self._tensor("offset", self.t, radix(B22)), self._tensor("over", self.t, radix(U22))
        self.is_top = self._tensor("is-max", self.t, radix(BIT))
        limbs = Limbs().add_product(self._at(self.scaled, 0, self.i_of), self._at(self.read, 1, self.j_of))
        g, t, a, bit = map(self._pair, (self.segment, self.offset, self.over, self.is_top))
        low, high = self._paired(self.top)
        # z = top - x, of which 2^21 is a constant
        z, limbs = [low - t, high - g - a], limbs.add_const(HALF << 32)
        self.run_scores = self._rescaled("scores", (self.t,), self.d, z, limbs, "z")
        con = self.constraint("max", *self.by_pair)
        con.add("attained", product(bit, t + UNIT * (g + a)) + bit * HALF)
        con.add("over", product(a, g) - a * DECAY.last)
        self.constraint("one-max", *self.by_row).add("one", expr(self._row_sum(self.is_top)) - 1)

    def _declare_exponentials(self) -> None:
        t = self.t
        self.e, self.slope = self._tensor("exp", t), self._tensor("slope", t, SLOPE)
        self.bend, self.turn = self._tensor("bend", t, radix(B22)), self._tensor("turn", t, radix(B22))
        self.turn_rest = self._tensor("turn.remainder", t, radix(U22))
        self.step, self.step_rest = self._tensor("step", t, STEP), self._tensor("step.remainder", t, REMAINDER)
        g, off, e, d = map(self._pair, (self.segment, self.offset, self.e, self.slope))
        s, w, v = map(self._pair, (self.bend, self.turn, self.step))
        con = self.constraint("exp", *self.by_pair)
        con.add("turn", product(s, off) - w * UNIT - self._pair(self.turn_rest) + HALF)
        con.add("step", product(d + w, off) - v * (1 << 32) - self._pair(self.step_rest) + (1 << 31))
        self.net.circuit.lookup(f"{self.name}/segment", con.out, self.table, (g, e - v, d, s))

    def _declare_probabilities(self) -> None:
        self.sum = self._tensor("sum", self.i, SUM)
        total = expr(self._row_sum(self.e)) - self.form(self.sum, *self.by_row)
        self.constraint("sum", *self.by_row).add("sum", total)
        self.p, self.slack = self._tensor("p", self.t), self._tensor("p.slack", self.t, SUM)
        con, rest = self.constraint("p", *self.by_pair), self._tensor("p.remainder", self.t, SUM)
        limbs = Limbs().add_product(self._paired(self.p), self._paired(self.sum)).add_limbs(self._paired(rest))
        limbs.add_limbs(self._paired(self.e), -1, 32)
        steps = Domain(self.net.circuit, con.out, unrolled=True).zero(con, "p", limbs)
        self.run_p = Contraction(con, steps, rest.tensor)
        con.add("below", expr(self._pair(rest) + self._pair(self.slack) - self._pair(self.sum)) + 1)

    # -- gradients

    def declare_input_gradient(self, net: Net, dy: Value) -> None:
        x, i, j, d, t = self.read, self.i, self.j, self.d, self.t
        self.dx = self.tensor("dx", x.shape)
        limbs = Limbs().add_product(self._matrix(self.p, self.by_query), self._at(dy, 0, i))
        self.run_dv = self._rescaled("dv", (j, d), i, self._at(self.dx, 2, j), limbs, "sum")
        self.m, self.dz, self.u = self._tensor("dp", t), self._tensor("dz", t), self._tensor("mean", i)
        limbs = Limbs().add_product(self._at(dy, 0, self.i_of), self._at(x, 2, self.j_of))
        self.run_m = self._rescaled("dp", (t,), d, self._paired(self.m), limbs, "dp")
        limbs = Limbs().add_product(self._matrix(self.p, self.by_key), self._matrix(self.m, self.by_key))
        self.run_u = self._rescaled("mean", (i,), j, self.limbs(self.u, *self.by_row), limbs, "mean")
        p = self._paired(self.p)
        limbs = Limbs().add_product(p, self._paired(self.m)).add_product(p, self._paired(self.u), -1)
        self.run_dz = net.rescaled(self.constraint("dz", *self.by_pair), self._paired(self.dz), limbs, "dz")
        limbs = Limbs().add_product(self._matrix(self.dz, self.by_query), self._at(self.scaled, 0, i))
        self.run_dk = self._rescaled("dk", (j, d), i, self._at(self.dx, 1, j), limbs, "sum")
        self.dr = self.tensor("dq", self.scaled.shape)
        limbs = Limbs().add_product(self._matrix(self.dz, self.by_key), self._at(x, 1, j))
        self.run_dr = self._rescaled("dq", (i, d), j, self._at(self.dr, 0, i), limbs, "sum")
        self.run_dq = self._times_factor("dq-scaled", self.dr, self.dx)
