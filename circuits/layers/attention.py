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
from circuits.language.sources import DomainAxis, Gather, GatherSum, Map, Source
from circuits.language.tensors import B22, BIT, U22, Digit, radix
from circuits.language.wide import Domain, Limbs, assert_zero
from zkcert.errors import UnusableInput

from ..net import REMAINDER, VALUE, Contraction, Net, Total
from ..segments import DECAY, rows_of_decay
from ..value import Value
from ..windows import Pairs, heads_of
from .base import Layer
from .function import HALF, MOST, SLOPE, STEP, UNIT
from .spec import Arrays, Flag, Integer, LayerSpec, Node, require_image

SUM = radix(U22, U22)  # of at most 2^11 exponentials


def _shape(node: Node, shape: list[int], tensors: Arrays) -> list[int]:
    require_image(shape)
    if shape[1] != 1 or shape[0] % (3 * node["heads"]):
        raise UnusableInput(
            f"an input of shape {shape} does not make queries, keys and values of {node['heads']} heads"
        )
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
        self.i, self.j = (Map("t", tuple(map(int, places)), self.count) for places in self.pairs.listed)
        self.h, self.d, self.t = DomainAxis("h", self.heads), DomainAxis("d", own), DomainAxis("t", len(self.pairs))
        self.query, self.key = DomainAxis("i", self.count), DomainAxis("j", self.count)
        self.by_pair, self.by_row = self._axes(self.h, self.t), self._axes(self.h, self.query)
        self.shape = (self.channels, 1, self.count)

        self.scaled = net.activation(f"{self.name}/q", (batch, self.channels, self.count))
        self.run_scaled = self._times_factor("scaled", x, 0, self.scaled, 0)
        self._declare_scores()
        self._declare_exponentials()
        self._declare_probabilities()
        self.y = net.activation(f"{self.name}/y", (batch, self.channels, self.count))
        limbs = Limbs().add_product(self._by_key(self.p), self._at(x, 2, DomainAxis("j", self.count)))
        out = self._at(self.y, 0, DomainAxis("i", self.count))
        self.run_y = self._contracted("forward", (self.query, self.d), self.key, limbs, out)

    # -- how tensors are read

    def _axes(self, *axes: DomainAxis) -> tuple[DomainAxis, ...]:
        return (self.net.pass_axis(), self.net.batch_axis(), *axes)

    def _at(self, v: Value, part: int, position: Source) -> list[Form]:
        """Limbs of queries (0), keys (1) or values (2), or of a value of queries alone, by head and channel."""
        channels = heads_of(self.heads, self.d.size, part * self.channels)
        own = self.net.batch_axis(), Gather("h", "d", channels, v.shape[1]), position
        return v.limbs(self.net.over_passes, *own)

    def _paired(self, v: Value) -> list[Form]:
        """Limbs of a value of pairs, or of rows, by pair."""
        return v.limbs(self.net.over_passes, *self._of_pair(v))

    def _of_pair(self, v: Value) -> tuple[Source, ...]:
        place = DomainAxis("t", self.t.size) if v.shape[2] == self.t.size else self.i
        return self.net.batch_axis(), DomainAxis("h", self.heads), place

    def _by_key(self, v: Value) -> list[Form]:
        """Limbs of a value of pairs by j and i, zero where there is no pair."""
        place = Gather("j", "i", self.pairs.by_key(), self.t.size)
        return v.limbs(self.net.over_passes, self.net.batch_axis(), DomainAxis("h", self.heads), place)

    def _by_query(self, v: Value) -> list[Form]:
        place = Gather("i", "j", self.pairs.by_query(), self.t.size)
        return v.limbs(self.net.over_passes, self.net.batch_axis(), DomainAxis("h", self.heads), place)

    def _row_sum(self, v: Value) -> Form:
        """Over the pairs of a row."""
        place = GatherSum("i", self.pairs.by_key(), self.t.size)
        return v.whole(self.net.over_passes, self.net.batch_axis(), DomainAxis("h", self.heads), place)

    def _row(self, v: Value) -> Form:
        own = self.net.batch_axis(), DomainAxis("h", self.heads), DomainAxis("i", self.count)
        return v.whole(self.net.over_passes, *own)

    def _pair(self, v: Value) -> Form:
        return v.whole(self.net.over_passes, *self._of_pair(v))

    def _tensor(self, label: str, axis: DomainAxis, digits: tuple[Digit, ...]) -> Value:
        shape = self.net.batch, self.heads, axis.size
        return Value.of(self.net.circuit.tensor(f"{self.name}/{label}", self.net.passes, shape, digits))

    # -- identities

    def _contracted(
        self, label: str, out: tuple[DomainAxis, DomainAxis], summed: DomainAxis, limbs: Limbs, value: list[Form]
    ) -> Contraction:
        con = self.net.circuit.constraint(f"{self.name}/{label}", self._axes(self.h, *out), (summed,))
        return self.net.rescaled(con, value, limbs, "sum")

    def _times_factor(self, label: str, x: Value, first: int, out: Value, to: int) -> Contraction:
        """out = rescale(a x) of the first channels, or those from `first` and `to` on."""
        c, s = DomainAxis("c", self.channels), DomainAxis("s", self.count)
        con = self.net.circuit.constraint(f"{self.name}/{label}", self._axes(c, s))

        def limbs_of(v: Value, start: int) -> list[Form]:
            place = Map("c", tuple(range(start, start + c.size)), v.shape[1])
            return v.limbs(self.net.over_passes, self.net.batch_axis(), place, DomainAxis("s", s.size))

        limbs = Limbs()
        for k, form in enumerate(limbs_of(x, first)):
            limbs.add(form * (self.factor % UNIT), 22 * k).add(form * (self.factor // UNIT), 22 * (k + 1))
        return self.net.rescaled(con, limbs_of(out, to), limbs, "scaled")

    def _declare_scores(self) -> None:
        net = self.net
        self.top = self._tensor("max", self.query, VALUE)
        self.segment, self.offset = (
            self._tensor("segment", self.t, radix(B22)),
            self._tensor("offset", self.t, radix(B22)),
        )
        self.over, self.is_top = self._tensor("over", self.t, radix(U22)), self._tensor("is-max", self.t, radix(BIT))
        con = net.circuit.constraint(f"{self.name}/scores", self.by_pair, (self.d,))
        limbs = Limbs().add_product(self._at(self.scaled, 0, self.i), self._at(self.read, 1, self.j))
        g, t, a, bit = map(self._pair, (self.segment, self.offset, self.over, self.is_top))
        low, high = self._paired(self.top)
        # z = top - x, of which 2^21 is a constant
        self.run_scores = net.rescaled(con, [low - t, high - g - a], limbs.add_const(HALF << 32), "z")
        con = net.circuit.constraint(f"{self.name}/max", self.by_pair)
        con.add("attained", product(bit, t + UNIT * (g + a)) + bit * HALF)
        con.add("over", product(a, g) - a * DECAY.last)
        con = net.circuit.constraint(f"{self.name}/one-max", self.by_row)
        con.add("one", expr(self._row_sum(self.is_top)) - 1)

    def _declare_exponentials(self) -> None:
        net, t = self.net, self.t
        self.e, self.slope = self._tensor("exp", t, VALUE), self._tensor("slope", t, SLOPE)
        self.bend, self.turn = self._tensor("bend", t, radix(B22)), self._tensor("turn", t, radix(B22))
        self.turn_rest = self._tensor("turn.remainder", t, radix(U22))
        self.step, self.step_rest = self._tensor("step", t, STEP), self._tensor("step.remainder", t, REMAINDER)
        g, off, e, d = map(self._pair, (self.segment, self.offset, self.e, self.slope))
        s, w, v = map(self._pair, (self.bend, self.turn, self.step))
        con = net.circuit.constraint(f"{self.name}/exp", self.by_pair)
        con.add("turn", product(s, off) - w * UNIT - self._pair(self.turn_rest) + HALF)
        con.add("step", product(d + w, off) - v * (1 << 32) - self._pair(self.step_rest) + (1 << 31))
        net.circuit.lookup(f"{self.name}/segment", self.by_pair, self.table, (g, e - v, d, s))

    def _declare_probabilities(self) -> None:
        net = self.net
        self.sum = self._tensor("sum", self.query, SUM)
        con = net.circuit.constraint(f"{self.name}/sum", self.by_row)
        con.add("sum", expr(self._row_sum(self.e)) - self._row(self.sum))
        self.p = self._tensor("p", self.t, VALUE)
        self.slack = self._tensor("p.slack", self.t, SUM)
        con = net.circuit.constraint(f"{self.name}/p", self.by_pair)
        rest = Domain(con.out, unrolled=True).wire(net.circuit, f"{self.name}/p.remainder", SUM)
        limbs = Limbs().add_product(self._paired(self.p), self._paired(self.sum)).add_value(rest)
        for k, form in enumerate(self._paired(self.e)):
            limbs.add(-form, 32 + 22 * k)
        self.run_p = Contraction(
            con, assert_zero(net.circuit, con, Domain(con.out, unrolled=True), "p", limbs), rest.tensor
        )
        con.add("below", expr(rest.whole() + self._pair(self.slack) - self._pair(self.sum)) + 1)

    # -- gradients

    def declare_input_gradient(self, net: Net, dy: Value) -> None:
        batch, x = net.batch, self.read
        self.dx = net.activation(f"{self.name}/dx", x.shape)
        i, j = DomainAxis("i", self.count), DomainAxis("j", self.count)
        limbs = Limbs().add_product(self._by_query(self.p), self._at(dy, 0, i))
        self.run_dv = self._contracted("dv", (self.key, self.d), self.query, limbs, self._at(self.dx, 2, j))
        self.m, self.dz = self._tensor("dp", self.t, VALUE), self._tensor("dz", self.t, VALUE)
        self.u = self._tensor("mean", self.query, VALUE)
        con = net.circuit.constraint(f"{self.name}/dp", self.by_pair, (self.d,))
        limbs = Limbs().add_product(self._at(dy, 0, self.i), self._at(x, 2, self.j))
        self.run_m = net.rescaled(con, self._paired(self.m), limbs, "dp")
        con = net.circuit.constraint(f"{self.name}/mean", self.by_row, (self.key,))
        limbs = Limbs().add_product(self._by_key(self.p), self._by_key(self.m))
        row = DomainAxis("b", batch), DomainAxis("h", self.heads), i
        self.run_u = net.rescaled(con, self.u.limbs(net.over_passes, *row), limbs, "mean")
        con = net.circuit.constraint(f"{self.name}/dz", self.by_pair)
        p = self._paired(self.p)
        limbs = Limbs().add_product(p, self._paired(self.m)).add_product(p, self._paired(self.u), -1)
        self.run_dz = net.rescaled(con, self._paired(self.dz), limbs, "dz")
        limbs = Limbs().add_product(self._by_query(self.dz), self._at(self.scaled, 0, i))
        self.run_dk = self._contracted("dk", (self.key, self.d), self.query, limbs, self._at(self.dx, 1, j))
        self.dr = net.activation(f"{self.name}/dq", self.scaled.shape)
        limbs = Limbs().add_product(self._by_key(self.dz), self._at(x, 1, j))
        self.run_dr = self._contracted("dq", (self.query, self.d), self.key, limbs, self._at(self.dr, 0, i))
        self.run_dq = self._times_factor("dq-scaled", self.dr, 0, self.dx, 0)
