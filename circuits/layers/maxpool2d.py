"""Max-pooling; the gradient goes to the first maximum of a window in row-major order.

Per window position k a choice bit c_k with sum_k c_k = 1, and a slack d_k = y - x_k - [k before the choice] >= 0 with
c_k d_k = 0: positions before the choice are strictly below the maximum, later ones at most equal.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from circuits.language.constraints import expr, product
from circuits.language.forms import View
from circuits.language.sources import Gather, GatherSum, Same, SuffixGather
from circuits.language.tensors import BIT, U22, radix
from prover.execution.witness import Witness

from ..net import Net
from ..value import Value
from .base import Accumulators
from .pool import Pool


class MaxPool2d(Pool):
    op = "maxpool2d"

    def __init__(self, net: Net, node: dict[str, Any], x: Value, shape: tuple[int, ...]) -> None:
        self.declare_windows(net, node, x, shape)
        count, outputs = self.k.size, self.s.size
        self.joint = self.windows.pairs()
        inner = (net.batch, self.c.size, count * outputs)
        self.choice = net.circuit.tensor(f"{self.name}/choice", net.passes, inner, radix(BIT))
        self.slack = net.circuit.tensor(f"{self.name}/slack", net.passes, inner, radix(U22, U22))
        out = (net.pass_axis(), self.b, self.c)
        con = net.circuit.constraint(f"{self.name}/forward", (*out, self.k, self.s))
        at = Gather("k", "s", self.joint, count * outputs)
        so_far = SuffixGather("k", "s", self.joint, count * outputs)
        slack = self._choices(self.slack, at).whole()
        y = self.form(self.y, Same("s", outputs))
        xk = self.form(x, Gather("k", "s", self.reads, self.i.size))
        con.add("slack", expr(slack - y + xk - self._choices(self.choice, so_far).whole()) + 1)
        con.add("maximum", product(self._choices(self.choice, at).whole(), slack))
        con = net.circuit.constraint(f"{self.name}/choice", (*out, self.s))
        total = GatherSum("s", self.joint, count * outputs)
        con.add("one", expr(self._choices(self.choice, total).whole()) - 1)

    def _choices(self, t: Any, last: Any) -> View:
        return View(t, (Same("pass", self.net.passes), Same("b", self.b.size), Same("c", self.c.size), last))

    def declare_backward(self, net: Net, dy: Value, need_input: bool) -> None:
        if not need_input:
            return
        self.dy = dy
        self.dx = net.activation(f"{self.name}/dx", (net.batch, self.c.size, self.i.size))
        out = (net.pass_axis(), self.b, self.c, self.i)
        con = net.circuit.constraint(f"{self.name}/backward", out, (self.k,))
        count, outputs = self.k.size, self.s.size
        back = Gather("k", "i", self.windows.pairs_of(), count * outputs)
        d = self.form(dy, Gather("k", "i", self.readers, outputs))
        dx = self.form(self.dx, Same("i", self.i.size))
        con.add("gradient", product(self._choices(self.choice, back).whole(), d) - dx)

    def forward(self, w: Witness, p: int) -> None:
        x = self.x.read(w, p)[:, :, self.index]  # (B, C, K, S)
        first = x.argmax(axis=2)
        y = np.take_along_axis(x, first[:, :, None], axis=2)
        order = np.arange(self.k.size)[:, None]
        shape = self.choice.shape
        w.put(self.y.tensor, y[:, :, 0], p)
        w.put(self.choice, (order == first[:, :, None]).astype(np.int64).reshape(shape), p)
        w.put(self.slack, (y - x - (order < first[:, :, None])).reshape(shape), p)

    def backward(self, w: Witness, p: int) -> Accumulators:
        if self.dx is not None:
            dy = self.dy.read(w, p)
            chosen = w.value(self.choice, p).reshape(*dy.shape[:2], self.k.size, -1)
            dx = np.zeros(self.dx.shape, np.int64)
            for k, row in enumerate(self.index):
                dx[:, :, row] += chosen[:, :, k] * dy
            w.put(self.dx.tensor, dx, p)
        return {}
