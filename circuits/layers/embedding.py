"""What stands for each token: a row of a table, y[c, s] = sum_o x[o, s] weight[o, c] of one-hot tokens, digit by digit.

The gradient of the table is the exact sum of x[o, s] dy[c, s] over samples and positions. Where the table is the weight
of an `unembedding`, too, that is added to the gradient of the latter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from circuits.language.constraints import product
from circuits.language.forms import Form, View
from circuits.language.sources import DomainAxis, Source
from circuits.language.tensors import DIGIT_BITS
from circuits.language.wide import Limbs
from zkcert.errors import UnusableInput

from ..net import FRACTION_BITS, WEIGHT, Gradient, Net
from ..tokens import read_at
from ..value import Value
from .base import Layer
from .spec import Array, Arrays, LayerSpec, Node


def _shape(node: Node, shape: list[int], tensors: Arrays) -> list[int]:
    weight = tensors[node["weight"]].shape
    if shape[:2] != [1, 1] or len(weight) != 2:
        raise UnusableInput(f"weight of shape {list(weight)} does not fit tokens of shape {shape}")
    return [weight[1], 1, shape[2]]


class Embedding(Layer):
    spec = LayerSpec(op="embedding", fields={"weight": Array()}, output_shape=_shape)

    def declare_forward(self, net: Net, node: Node, x: Value, shape: tuple[int, ...]) -> None:
        rows, channels = node["weight_shape"]
        batch, tokens, count = x.shape
        if rows != tokens:
            raise UnusableInput(f"it has {rows} rows, the dataset {tokens} tokens")
        self.count, self.shape, self.weight_name = count - 1, (channels, 1, count - 1), node["weight"]
        self.o, self.c, self.s = DomainAxis("o", rows), DomainAxis("c", channels), DomainAxis("s", self.count)
        self.weight = net.weight(node["weight"], (rows, channels))
        made = net.circuit.tensor(f"{self.name}/y", net.passes, (batch, channels, self.count), WEIGHT)
        self.y = Value.of(made)
        axes = (net.pass_axis(), net.batch_axis(), self.c, self.s)
        con = net.circuit.constraint(f"{self.name}/forward", axes, (self.o,))
        out = View(
            made,
            (
                net.pass_axis(),
                DomainAxis("b", batch),
                DomainAxis("c", channels),
                DomainAxis("s", self.count),
            ),
        )
        table = View(self.weight, (net.pass_axis(), DomainAxis("o", rows), DomainAxis("c", channels)))
        for d in range(len(WEIGHT)):
            con.add(f"digit{d}", product(self._tokens(net.over_passes), table.digit(d)) - out.digit(d))

    def _tokens(self, source: Callable[[str], Source]) -> Form:
        """The bit that says whether the token at s is o."""
        inner = self.net.batch_axis(), DomainAxis("o", self.o.size), read_at(self.count, "s")
        return self.x.whole(source, *inner)

    def declare_input_gradient(self, net: Net, dy: Value) -> None:
        """Nothing is before it."""

    def declare_parameter_gradients(self, net: Net, dy: Value) -> None:
        inner = net.batch_axis(), DomainAxis("c", self.c.size), DomainAxis("s", self.count)

        def limbs(source: Callable[[str], Source]) -> Limbs:
            return Limbs().add(product(self._tokens(source), dy.whole(source, *inner)))

        axes, summed = (self.o, self.c), (net.batch_axis(), self.s)
        own = Gradient(self.weight_name, axes, summed, limbs, False)
        tied = next((i for i, g in enumerate(net.gradients) if g.name == self.weight_name), None)
        self.tied = tied is not None
        if tied is None:
            net.gradients.append(own)
            return
        other = net.gradients[tied]
        if other.summed != summed:
            raise UnusableInput(f"layer {self.name}: what has its table as well reads another number of positions")

        def both(source: Callable[[str], Source]) -> Limbs:
            total, bit = other.limbs(source), self._tokens(source)
            for k, limb in enumerate(dy.limbs(source, *inner)):
                total.add(product(bit, limb), FRACTION_BITS + DIGIT_BITS * k)
            return total

        net.gradients[tied] = replace(other, limbs=both, operands=None, readers=2)
