"""Average pooling: y = (sum over the window) / D, rounded to the nearest unit.

Where all windows have one divisor D the gradient is rounded likewise, once. Otherwise what a window hands back, its
dy / D, is rounded and committed, and a position gets the exact sum of what its windows hand back.
"""

from __future__ import annotations

from typing import Any

from circuits.language.constraints import Constant, Expr, expr
from circuits.language.forms import Form
from circuits.language.sources import DomainAxis, GatherSum, Scaled
from circuits.language.tensors import Range, Tensor, radix

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
        total = self.form(x, GatherSum("s", self.reads, self.i.size))
        self.parts = self._divide("forward", self.y, DomainAxis("s", self.s.size), total)

    def _divide(self, label: str, out: Value, place: DomainAxis, total: Form) -> list[Tensor]:
        """Constrain D out + remainder = total + floor(D/2) with 0 <= remainder < D; the remainder, and D - 1 - it where
        D is not the same everywhere."""
        net, largest = self.net, max(self.divisors)
        domain = (net.pass_axis(), self.b, self.c, self.s if place.name == "s" else self.i)
        names = ["remainder"] if self.even else ["remainder", "slack"]
        digits = radix(Range(largest))
        parts = [net.circuit.tensor(f"{self.name}/{label}.{name}", net.passes, out.shape, digits) for name in names]
        con = net.circuit.constraint(f"{self.name}/{label}", domain)
        remainder, *slack = [self.form(Value.of(t), place) for t in parts]
        if self.even:
            con.add("mean", expr(self.form(out, place) * largest + remainder - total) - largest // 2)
            return parts
        times = self.form(out, Scaled("s", tuple(self.divisors), self.s.size))
        half, less = tuple(d // 2 for d in self.divisors), tuple(d - 1 for d in self.divisors)
        con.add("mean", expr(times + remainder - total) + Expr(constants=(Constant(-1, (("s", half),)),)))
        con.add("below", expr(remainder + slack[0]) + Expr(constants=(Constant(-1, (("s", less),)),)))
        return parts

    def declare_input_gradient(self, net: Net, dy: Value) -> None:
        shape, place, total = (net.batch, self.c.size, self.i.size), DomainAxis("i", self.i.size), dy
        if not self.even:
            self.share = total = net.activation(f"{self.name}/share", self.y.shape)
            own = DomainAxis("s", self.s.size)
            self.parts_back = self._divide("share", self.share, own, self.form(dy, own))
        self.dx = net.activation(f"{self.name}/dx", shape)
        back = self.form(total, GatherSum("i", self.readers, self.s.size))
        if self.even:
            self.parts_back = self._divide("backward", self.dx, place, back)
        else:
            con = net.circuit.constraint(f"{self.name}/backward", (net.pass_axis(), self.b, self.c, self.i))
            con.add("gradient", expr(back - self.form(self.dx, place)))


class AvgPool2d(Averaging):
    spec = LayerSpec(op="avgpool2d", fields=WINDOW, options=OPTIONS, output_shape=pool_shape)

    def declare_forward(self, net: Net, node: Node, x: Value, shape: tuple[int, ...]) -> None:
        windows = net.windows(shape, node["kernel"], node)
        divisors = windows.divisors(padding=not node["inside"])
        if node["divisor"]:
            divisors = [node["divisor"]] * len(divisors)
        self.declare_averages(net, windows, divisors, x, shape[0])
