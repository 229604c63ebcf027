"""A function of one number, entry by entry, by segments of a public table; the gradient is that of the real function's
derivative: docs/spec/functions.md.

z - 2^21 = 2^22 (g + a - b) + t with t in [-2^21, 2^21), g a segment of the table, and an excess a or b, in [0, 2^22),
only at its last or first one. The table has f (c) and f' (m) in the middle of g, and the slope s of f'. Rounded once
each, w = s t / 2^22 is what f' changes by on half the way from there, and v = (m + w) t / 2^32 what f does:

    y = c + v (+ 2^22 a if f is its argument there),   d = m + 2 w,   dx = rescale(d dy).

The lookup is of (g, c, m, s), c and m being what y and d are less the rest: neither is committed.
"""

from __future__ import annotations

from functools import cache

from circuits.language.constraints import expr, product
from circuits.language.functions import FunctionTable
from circuits.language.tensors import B22, U22, Range, balanced, radix
from circuits.language.wide import Limbs

from ..net import REMAINDER, Net
from ..segments import FUNCTIONS, rows_of
from ..value import Value
from .base import Layer
from .spec import Choice, LayerSpec, Node, same_shape

UNIT = 1 << 22  # a segment
HALF = UNIT >> 1
MOST = 1 << 43  # no number of a segment is larger
SLOPE = radix(B22, balanced(12))  # |d| < 2^33
STEP = radix(U22, Range(2, -1))  # |v| <= 2^22: f' is below 2


@cache
def table(name: str) -> FunctionTable:
    """The segments of a function."""
    first, last = FUNCTIONS[name].first, FUNCTIONS[name].last
    within = (first, last), (-MOST, MOST), (-MOST, MOST), (-MOST, MOST)
    return FunctionTable(f"segments {name}", (last - first + 1, 4), lambda: rows_of(name), within)


class Pointwise(Layer):
    spec = LayerSpec(op="function", fields={"function": Choice(tuple(FUNCTIONS))}, output_shape=same_shape)

    def declare_forward(self, net: Net, node: Node, x: Value, shape: tuple[int, ...]) -> None:
        self.function, self.table = FUNCTIONS[node["function"]], table(node["function"])
        self.segment, self.offset = self.like_input("segment", radix(B22)), self.like_input("offset", radix(B22))
        self.over, self.under = self.like_input("over", radix(U22)), self.like_input("under", radix(U22))
        self.y, self.slope = self.like_input("y"), self.like_input("slope", SLOPE)
        self.bend, self.turn = self.like_input("bend", radix(B22)), self.like_input("turn", radix(B22))
        self.turn_rest = self.like_input("turn.remainder", radix(U22))
        self.step, self.step_rest = self.like_input("step", STEP), self.like_input("step.remainder", REMAINDER)
        g, t, a, b = map(self.form, (self.segment, self.offset, self.over, self.under))
        y, d, s, w, v = map(self.form, (self.y, self.slope, self.bend, self.turn, self.step))
        con = self.constraint("forward")
        con.add("split", expr(t + UNIT * g + UNIT * a - UNIT * b - self.form(x)) + HALF)
        con.add("over", product(a, g) - a * self.function.last)
        con.add("under", product(b, g) - b * self.function.first)
        con.add("turn", product(s, t) - w * UNIT - self.form(self.turn_rest) + HALF)
        con.add("step", product(d - w, t) - v * (1 << 32) - self.form(self.step_rest) + (1 << 31))
        middle = y - v if self.function.above is not None else y - v - UNIT * a
        net.circuit.lookup(f"{self.name}/segment", con.out, self.table, (g, middle, d - 2 * w, s))

    def declare_input_gradient(self, net: Net, dy: Value) -> None:
        self.dx = self.like_input("dx")
        con, limbs = self.constraint("input-gradient"), Limbs().add_product(self.limbs(self.slope), self.limbs(dy))
        self.run_input = net.rescaled(con, self.limbs(self.dx), limbs, "dx")
