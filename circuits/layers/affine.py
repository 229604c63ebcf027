"""Linear and convolutional layers: three contractions that differ only in how the input is indexed."""

from __future__ import annotations

from circuits.language.forms import Form, View
from circuits.language.sources import Axis, Source
from circuits.language.wide import limb_forms
from zkcert.errors import UnusableInput

from ..net import Net, Sums, product_gradient, summed_gradient
from ..value import Unrolled, Value
from .base import Layer
from .spec import Array, Node, misfit

PARAMETERS = {"weight": Array(), "bias": Array(optional=True)}
"""The first fields of every affine layer."""


def outputs_of(node: Node, shape: list[int], groups: int = 1) -> int:
    """How many channels or features a layer gives whose weight is [outputs, inputs of a group, ...]; UnusableInput if
    the weight and the bias do not fit."""
    weight = node["weight_shape"]
    if len(weight) != len(shape) + 1 or weight[1] * groups != shape[0]:
        raise misfit(node, shape)
    if weight[0] % groups:
        raise UnusableInput(f"weight of shape {weight} does not make {groups} groups")
    if node["bias"] is not None and node["bias_shape"] != weight[:1]:
        raise UnusableInput(f"bias must have shape [{weight[0]}]")
    return int(weight[0])


class Affine(Layer):
    """Shared part of `Linear`, `Conv2d` and `Unembedding`.

    Subclasses describe the axes: `out_axes` (of the output without the batch, those that the weight lacks behind the
    first), `weight_axes`, `input_axes`, `shared` (a further axis of all three, which comes before theirs),
    `weight_order` (where the weight's axes stand in the file, if that is elsewhere), and the sources of the input's and
    the output's inner axes when they are read through the kernel.
    """

    out_axes: tuple[Axis, ...]
    weight_axes: tuple[Axis, ...]
    weight_order: tuple[int, ...] | None = None
    input_axes: tuple[Axis, ...]
    shared: tuple[Axis, ...] = ()

    def input_sources(self) -> tuple[Source, ...]:
        """Sources of the input's inner axes in terms of output and kernel axes."""
        return self.plain(self.input_axes)

    def output_sources(self) -> tuple[Source, ...]:
        """Sources of the output's inner axes in terms of input and kernel axes (for the input gradient)."""
        return self.plain(self.out_axes)

    def channels(self, axis: Axis) -> Source:
        """The source of the channels of the input or the output, of which `axis` numbers those of a group."""
        return axis

    def plain(self, axes: tuple[Axis, ...]) -> tuple[Source, ...]:
        """The sources of the inner axes of the input or the output, by its own axes."""
        return self.channels(axes[0]), *axes[1:]

    def declare_product(self, net: Net, node: Node, x: Value) -> None:
        """The forward pass, once the axes are set."""
        self.weight_name, self.bias_name, self.b = node["weight"], node["bias"], net.batch_axis()
        sizes = [a.size for a in (*self.shared, *self.weight_axes)]
        self.weight = net.weight(self.weight_name, sizes, self.weight_order)
        factors = self.limbs(x, self.b, *self.input_sources()), self._weight_limbs()
        out = self.plain(self.out_axes)
        bias: View | None = None
        if self.bias_name:
            self.bias = net.weight(self.bias_name, (out[0].size,))
            bias = self.view(self.bias, out[0])
        self.y = self.output("z", (net.batch, *(source.size for source in out)))
        axes = (net.pass_axis(), self.b, *self.shared, *self.out_axes)
        sums = Sums(f"{self.name}/forward", axes, self.weight_axes[1:], factors)
        self.run = net.scaled_down(sums, bias, self.limbs(self.y, self.b, *out), "z")

    def _weight_limbs(self) -> list[Form]:
        return limb_forms(self.view(self.weight, *self.shared, *self.weight_axes))

    def declare_input_gradient(self, net: Net, dy: Value) -> None:
        kernel = tuple(a for a in self.weight_axes[1:] if a not in self.input_axes)
        factors = self.limbs(dy, self.b, *self.output_sources()), self._weight_limbs()
        inner = self.plain(self.input_axes)
        self.dx = self.tensor("dx", (net.batch, *(source.size for source in inner)))
        axes, summed = (net.pass_axis(), self.b, *self.shared, *self.input_axes), (self.out_axes[0], *kernel)
        sums = Sums(f"{self.name}/input-gradient", axes, summed, factors)
        self.run_input = net.scaled_down(sums, None, self.limbs(self.dx, self.b, *inner), "dx")

    def declare_parameter_gradients(self, net: Net, dy: Value) -> None:
        def operands(source: Unrolled) -> tuple[list[Form], list[Form]]:
            out = dy.limbs(source, self.b, *self.plain(self.out_axes))
            return out, self.x.limbs(source, self.b, *self.input_sources())

        positions, axes = self.out_axes[1:], (*self.shared, *self.weight_axes)
        net.gradients.append(product_gradient(self.weight_name, axes, (self.b, *positions), operands, congruent=True))
        if self.bias_name:
            outputs = Axis("o", dy.shape[1])
            net.gradients.append(summed_gradient(self.bias_name, (outputs,), dy, self.b, outputs, *positions))
