"""Average pooling: y = (sum over the window) / K, rounded to the nearest unit; the gradient likewise."""

from __future__ import annotations

from typing import Any

from circuits.language.constraints import expr
from circuits.language.forms import View
from circuits.language.sources import GatherSum, Same
from circuits.language.tensors import Range, radix

from ..net import Net
from ..value import Value
from .pool import WINDOW, Pool, pool_shape
from .spec import LayerSpec


class AvgPool2d(Pool):
    spec = LayerSpec(op="avgpool2d", fields=WINDOW, output_shape=pool_shape)

    def declare_forward(self, net: Net, node: dict[str, Any], x: Value, shape: tuple[int, ...]) -> None:
        self.declare_windows(net, node, shape)
        self.rem = self._divide("forward", self.y, Same("s", self.s.size), x, "s", self.reads, self.i.size)

    def _divide(self, label: str, out: Value, place: Same, source: Value, axis: str, table: Any, size: int) -> Any:
        """Constrain K out + remainder = (sum of the entries of `source` that `table` lists) + floor(K/2)."""
        net, count = self.net, self.k.size
        rem = net.circuit.tensor(f"{self.name}/{label}.remainder", net.passes, out.shape, radix(Range(count)))
        domain = (net.pass_axis(), self.b, self.c, self.s if axis == "s" else self.i)
        con = net.circuit.constraint(f"{self.name}/{label}", domain)
        r = View(rem, tuple(Same(a.name, a.size) for a in domain)).whole()
        total = self.form(source, GatherSum(axis, table, size))
        con.add("mean", expr(self.form(out, place) * count + r - total) - count // 2)
        return rem

    def declare_input_gradient(self, net: Net, dy: Value) -> None:
        self.dx = net.activation(f"{self.name}/dx", (net.batch, self.c.size, self.i.size))
        place = Same("i", self.i.size)
        self.rem_back = self._divide("backward", self.dx, place, dy, "i", self.readers, self.s.size)
