"""Average pooling: y = (sum over the window) / D, rounded to the nearest unit.

Where all windows have one divisor D the gradient is rounded likewise, once. Otherwise what a window hands back, its
dy / D, is rounded and committed, and a position gets the exact sum of what its windows hand back.
"""

from __future__ import annotations

from typing import Any

from circuits.language.constraints import Constant, Expr, expr
from circuits.language.forms import Form
from circuits.language.sources import Axis, GatherSum, Scaled
from circuits.language.tensors import Range, radix

from ..net import Net
from ..value import Value
from ..windows import AdaptiveWindows, Windows
from .pool import BORDER, WINDOW, Pool, pool_shape
from .spec import Field, Flag, Integer, LayerSpec, Node

OPTIONS: dict[str, tuple[Field, Any]] = {**BORDER, "inside": (Flag(), False), "divisor": (Integer(0), 0)}
"""inside: a window is divided by its entries in the image, else by those in its border too; divisor: by this instead,
if it is not 0."""


class Averaging(Pool):
    """Averages over any windows."""

    def declare_averages(
        self, net: Net, windows: Windows | AdaptiveWindows, divisors: list[int], x: Value, channels: int
    ) -> None:
        self.divisors = divisors
        self.even = len(set(divisors)) == 1
        self.declare_windows(net, windows, channels)
        total = self.at(x, GatherSum("s", self.reads, self.i.size))
        self.parts = self._divide("forward", self.y, self.s, total)

    def _divide(self, label: str, out: Value, place: Axis, total: Form) -> list[Value]:
        """Constrain D out + remainder = total + floor(D/2) with 0 <= remainder < D; the remainder, and D - 1 - it where
        D is not the same everywhere."""
        largest = max(self.divisors)
        names = ["remainder"] if self.even else ["remainder", "slack"]
        parts = [self.tensor(f"{label}.{name}", out.shape, radix(Range(largest))) for name in names]
        con = self.constraint(label, self.b, self.c, place)
        remainder, *slack = [self.at(part, place) for part in parts]
        if self.even:
            con.add("mean", expr(self.at(out, place) * largest + remainder - total) - largest // 2)
            return parts
        times = self.at(out, Scaled("s", tuple(self.divisors), self.s.size))
        half, less = tuple(d // 2 for d in self.divisors), tuple(d - 1 for d in self.divisors)
        con.add("mean", expr(times + remainder - total) + Expr(constants=(Constant(-1, (("s", half),)),)))
        con.add("below", expr(remainder + slack[0]) + Expr(constants=(Constant(-1, (("s", less),)),)))
        return parts

    def declare_input_gradient(self, net: Net, dy: Value) -> None:
        total = dy
        if not self.even:
            self.share = total = self.tensor("share", self.y.shape)
            self.parts_back = self._divide("share", self.share, self.s, self.at(dy, self.s))
        self.dx = self.tensor("dx", (net.batch, self.c.size, self.i.size))
        back = self.at(total, GatherSum("i", self.readers, self.s.size))
        if self.even:
            self.parts_back = self._divide("backward", self.dx, self.i, back)
        else:
            con = self.constraint("backward", self.b, self.c, self.i)
            con.add("gradient", expr(back - self.at(self.dx, self.i)))


class AvgPool2d(Averaging):
    spec = LayerSpec(op="avgpool2d", fields=WINDOW, options=OPTIONS, output_shape=pool_shape)

    def declare_forward(self, net: Net, node: Node, x: Value, shape: tuple[int, ...]) -> None:
        windows = net.windows(shape, node["kernel"], node)
        divisors = windows.divisors(padding=not node["inside"])
        if node["divisor"]:
            divisors = [node["divisor"]] * len(divisors)
        self.declare_averages(net, windows, divisors, x, shape[0])
