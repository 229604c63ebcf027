"""What stands for each token: a row of a table, y[c, s] = sum_o x[o, s] weight[o, c] of one-hot tokens, digit by digit.

The gradient of the table is the exact sum of x[o, s] dy[c, s] over samples and positions. Where the table is the weight
of an `unembedding`, too, that is added to the gradient of the latter.
"""

from __future__ import annotations

from dataclasses import replace

from circuits.language.constraints import product
from circuits.language.forms import Form
from circuits.language.sources import Axis
from circuits.language.wide import Limbs
from zkcert.errors import UnusableInput

from ..net import FRACTION_BITS, WEIGHT, Gradient, Net
from ..tokens import read_at
from ..value import Unrolled, Value
from .base import Layer
from .spec import Array, LayerSpec, Node


def _shape(node: Node, shape: list[int]) -> list[int]:
    if shape[:2] != [1, 1] or len(node["weight_shape"]) != 2:
        raise UnusableInput(f"weight of shape {node['weight_shape']} does not fit tokens of shape {shape}")
    return [node["weight_shape"][1], 1, shape[2]]


class Embedding(Layer):
    spec = LayerSpec(op="embedding", fields={"weight": Array()}, output_shape=_shape)

    def declare_forward(self, net: Net, node: Node, x: Value, shape: tuple[int, ...]) -> None:
        rows, channels = node["weight_shape"]
        batch, tokens, count = x.shape
        if rows != tokens:
            raise UnusableInput(f"it has {rows} rows, the dataset {tokens} tokens")
        self.weight_name, self.weight = node["weight"], net.weight(node["weight"], (rows, channels))
        self.b, self.o = net.batch_axis(), Axis("o", rows)
        self.c, self.s = Axis("c", channels), Axis("s", count - 1)
        self.axes = self.b, self.c, self.s
        self.y = self.tensor("y", (batch, channels, count - 1), WEIGHT)
        con = self.constraint("forward", summed=(self.o,))
        table, out = self.view(self.weight, self.o, self.c), self.view(self.y.tensor, *self.axes)
        for d in range(len(WEIGHT)):
            con.add(f"digit{d}", product(self._tokens(net.over_passes), table.digit(d)) - out.digit(d))

    def _tokens(self, source: Unrolled) -> Form:
        """The bit that says whether the token at s is o."""
        return self.x.whole(source, self.b, self.o, read_at(self.s.size, "s"))

    def declare_input_gradient(self, net: Net, dy: Value) -> None:
        """Nothing is before it."""

    def declare_parameter_gradients(self, net: Net, dy: Value) -> None:
        def limbs(source: Unrolled) -> Limbs:
            return Limbs().add(product(self._tokens(source), dy.whole(source, *self.axes)))

        axes, summed = (self.o, self.c), (self.b, self.s)
        own = Gradient(self.weight_name, axes, summed, limbs, False)
        tied = next((i for i, g in enumerate(net.gradients) if g.name == self.weight_name), None)
        self.tied = tied is not None
        if tied is None:
            net.gradients.append(own)
            return
        other = net.gradients[tied]
        if other.summed != summed:
            raise UnusableInput(f"layer {self.name}: what has its table as well reads another number of positions")

        def both(source: Unrolled) -> Limbs:
            own = [self._tokens(source)], dy.limbs(source, *self.axes)
            return other.limbs(source).add_product(*own, power=FRACTION_BITS)

        net.gradients[tied] = replace(other, limbs=both, operands=None, readers=2)
