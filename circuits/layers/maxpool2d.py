"""Max-pooling; the gradient goes to the first maximum of a window in row-major order.

Per pair of a window s and an entry k of it that lies in the image a choice bit c_k with sum_k c_k = 1, and a slack
d_k = y - x_k - [k before the choice] >= 0 with c_k d_k = 0: entries before the choice are strictly below the maximum,
later ones at most equal. Entries outside have neither, so that they lose to every value.
"""

from __future__ import annotations

from circuits.language.constraints import expr, product
from circuits.language.sources import Gather, GatherSum, SuffixGather, TailGather
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
        self.joint, count = windows.pairs(), windows.inside
        inner = (net.batch, self.c.size, count)
        self.choice, self.slack = self.tensor("choice", inner, radix(BIT)), self.tensor("slack", inner, radix(U22, U22))
        con = self.constraint("forward", self.b, self.c, self.k, self.s)
        pair = Gather("k", "s", self.joint, count)
        slack, xk = self.at(self.slack, pair), self.at(x, Gather("k", "s", self.reads, self.i.size))
        if count == self.k.size * self.s.size:
            so_far = self.at(self.choice, SuffixGather("k", "s", self.joint, count))
            con.add("slack", expr(slack - self.at(self.y, self.s) + xk - so_far) + 1)
        else:
            y = self.at(self.y, Gather("k", "s", windows.windows(), self.s.size))
            after = self.at(self.choice, TailGather("k", "s", self.joint, count))
            con.add("slack", expr(slack - y + xk + after))
        con.add("maximum", product(self.at(self.choice, pair), slack))
        total = self.at(self.choice, GatherSum("s", self.joint, count))
        self.constraint("choice", self.b, self.c, self.s).add("one", expr(total) - 1)

    def declare_input_gradient(self, net: Net, dy: Value) -> None:
        self.dx = self.tensor("dx", (net.batch, self.c.size, self.i.size))
        con = self.constraint("backward", self.b, self.c, self.i, summed=(self.k,))
        chosen = self.at(self.choice, Gather("k", "i", self.windows.pairs_of(), self.windows.inside))
        d = self.at(dy, Gather("k", "i", self.readers, self.s.size))
        con.add("gradient", product(chosen, d) - self.at(self.dx, self.i))
