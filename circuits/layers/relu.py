"""ReLU with PyTorch's gradient at zero: a = max(z, 0), dz = dy where z > 0, else 0.

A bit b and a magnitude m in [0, 2^44) with z = m + 1 if b = 1 and z = -m if b = 0: one encoding per value, zero
included. Then a = b (m + 1) and z = 2 a - m - b.
"""

from __future__ import annotations

from typing import Any

from ..ir import BIT, U22, DomainAxis, Same, View, product, radix
from ..net import Net, Value
from ..witness import Witness
from .base import Accumulators, Layer


class ReLU(Layer):
    op = "relu"

    def __init__(self, net: Net, node: dict[str, Any], x: Value, shape: tuple[int, ...]) -> None:
        name = node["name"]
        self.x, self.shape = x, shape
        self.axes = (net.pass_axis(), *(DomainAxis(f"x{i}", size) for i, size in enumerate(x.shape)))
        self.y = net.activation(f"{name}/y", x.shape)
        self.bit = net.circuit.tensor(f"{name}/sign", net.passes, x.shape, radix(BIT))
        self.magnitude = net.circuit.tensor(f"{name}/magnitude", net.passes, x.shape, radix(U22, U22))
        con = net.circuit.constraint(f"{name}/forward", self.axes)
        a, b = self._view(self.y, net).whole(), self._plain(self.bit).whole()
        m, z = self._plain(self.magnitude).whole(), self._view(x, net).whole()
        con.add("output", product(b, m) + b - a)
        con.add("sign", 2 * a - m - b - z)
        self.name = name

    def _plain(self, t: Any) -> View:
        return View(t, tuple(Same(a.name, a.size) for a in self.axes))

    def _view(self, v: Value, net: Net) -> View:
        inner = tuple(Same(a.name, a.size) for a in self.axes[1:])
        return View(v.tensor, (net.over_passes(v), *inner))

    def declare_backward(self, net: Net, dy: Value, need_input: bool) -> None:
        if not need_input:
            return
        self.dy = dy
        self.dx = net.activation(f"{self.name}/dx", self.x.shape)
        con = net.circuit.constraint(f"{self.name}/backward", self.axes)
        dx, dz = self._view(dy, net).whole(), self._view(self.dx, net).whole()
        con.add("gradient", product(self._plain(self.bit).whole(), dx) - dz)

    def forward(self, w: Witness, p: int) -> None:
        z = w.value(self.x.tensor, self.x.index(p))
        b = z > 0
        w.put(self.bit, b.astype("int64"), p)
        w.put(self.magnitude, abs(z) - b, p)
        w.put(self.y.tensor, z * b, p)

    def backward(self, w: Witness, p: int) -> Accumulators:
        if self.dx is not None:
            dy = w.value(self.dy.tensor, self.dy.index(p))
            w.put(self.dx.tensor, dy * w.value(self.bit, p), p)
        return {}
