"""Max-pooling; the gradient goes to the first maximum of a window in row-major order.

Per pair of a window s and an entry k of it that lies in the image a choice bit c_k with sum_k c_k = 1, and a slack
d_k = y - x_k - [k before the choice] >= 0 with c_k d_k = 0: entries before the choice are strictly below the maximum,
later ones at most equal. Entries outside have neither, so that they lose to every value.
"""

from __future__ import annotations

from typing import Any

from circuits.language.constraints import expr, product
from circuits.language.forms import View
from circuits.language.sources import DomainAxis, Gather, GatherSum, SuffixGather, TailGather
from circuits.language.tensors import BIT, U22, radix

from ..net import Net
from ..value import Value
from .pool import BORDER, WINDOW, Pool, pool_shape
from .spec import LayerSpec, Node


class MaxPool2d(Pool):
    spec = LayerSpec(op="maxpool2d", fields=WINDOW, options=BORDER, output_shape=pool_shape)

    def declare_forward(self, net: Net, node: Node, x: Value, shape: tuple[int, ...]) -> None:
        self.windows = windows = net.windows(shape, node["kernel"], node)
        self.declare_windows(net, windows, shape[0])
        outputs, count = self.s.size, windows.inside
        self.joint = windows.pairs()
        inner = (net.batch, self.c.size, count)
        self.choice = net.circuit.tensor(f"{self.name}/choice", net.passes, inner, radix(BIT))
        self.slack = net.circuit.tensor(f"{self.name}/slack", net.passes, inner, radix(U22, U22))
        out = (net.pass_axis(), self.b, self.c)
        con = net.circuit.constraint(f"{self.name}/forward", (*out, self.k, self.s))
        at = Gather("k", "s", self.joint, count)
        slack = self._choices(self.slack, at).whole()
        xk = self.form(x, Gather("k", "s", self.reads, self.i.size))
        if count == self.k.size * outputs:
            so_far = self._choices(self.choice, SuffixGather("k", "s", self.joint, count)).whole()
            con.add("slack", expr(slack - self.form(self.y, DomainAxis("s", outputs)) + xk - so_far) + 1)
        else:
            y = self.form(self.y, Gather("k", "s", windows.windows(), outputs))
            after = self._choices(self.choice, TailGather("k", "s", self.joint, count)).whole()
            con.add("slack", expr(slack - y + xk + after))
        con.add("maximum", product(self._choices(self.choice, at).whole(), slack))
        con = net.circuit.constraint(f"{self.name}/choice", (*out, self.s))
        total = GatherSum("s", self.joint, count)
        con.add("one", expr(self._choices(self.choice, total).whole()) - 1)

    def _choices(self, t: Any, last: Any) -> View:
        return View(t, (self.net.pass_axis(), DomainAxis("b", self.b.size), DomainAxis("c", self.c.size), last))

    def declare_input_gradient(self, net: Net, dy: Value) -> None:
        self.dx = net.activation(f"{self.name}/dx", (net.batch, self.c.size, self.i.size))
        out = (net.pass_axis(), self.b, self.c, self.i)
        con = net.circuit.constraint(f"{self.name}/backward", out, (self.k,))
        back = Gather("k", "i", self.windows.pairs_of(), self.windows.inside)
        d = self.form(dy, Gather("k", "i", self.readers, self.s.size))
        dx = self.form(self.dx, DomainAxis("i", self.i.size))
        con.add("gradient", product(self._choices(self.choice, back).whole(), d) - dx)
