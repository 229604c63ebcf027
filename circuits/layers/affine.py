"""Linear and convolutional layers: three contractions that differ only in how the input is indexed."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

from circuits.language.forms import Form, View
from circuits.language.sources import DomainAxis, Source, Sum
from circuits.language.wide import Limbs, limb_forms
from zkcert.errors import UnusableInput

from ..net import Gradient, Net, summed_gradient
from ..value import Value
from .base import Layer
from .spec import Array, Arrays, Node

PARAMETERS = {"weight": Array(), "bias": Array(optional=True)}
"""The first fields of every affine layer."""


def outputs_of(node: Node, shape: list[int], tensors: Arrays, groups: int = 1) -> int:
    """How many channels or features a layer gives whose weight is [outputs, inputs of a group, ...]; UnusableInput if
    the weight and the bias do not fit."""
    weight = tensors[node["weight"]].shape
    if len(weight) != len(shape) + 1 or weight[1] * groups != shape[0]:
        raise UnusableInput(f"weight of shape {list(weight)} does not fit an input of shape {shape}")
    if weight[0] % groups:
        raise UnusableInput(f"weight of shape {list(weight)} does not make {groups} groups")
    if node["bias"] is not None and tensors[node["bias"]].shape != weight[:1]:
        raise UnusableInput(f"bias must have shape [{weight[0]}]")
    return int(weight[0])


class Affine(Layer):
    """Shared part of `Linear` and `Conv2d`.

    Subclasses describe the axes: `out_axes` (of the output without the batch), `weight_axes`, `position_axes` (of the
    output that the weight lacks), `input_axes`, `shared` (a further axis of all three, which comes before theirs),
    `weight_order` (where the weight's axes stand in the file, if that is elsewhere), and the sources of the input's and
    the output's inner axes when they are read through the kernel.
    """

    out_axes: tuple[DomainAxis, ...]
    weight_axes: tuple[DomainAxis, ...]
    weight_order: tuple[int, ...] | None = None
    position_axes: tuple[DomainAxis, ...]
    input_axes: tuple[DomainAxis, ...]
    shared: tuple[DomainAxis, ...] = ()

    @abstractmethod
    def input_sources(self) -> tuple[Source, ...]:
        """Sources of the input's inner axes in terms of output and kernel axes."""

    @abstractmethod
    def output_sources(self) -> tuple[Source, ...]:
        """Sources of the output's inner axes in terms of input and kernel axes (for the input gradient)."""

    def channels(self, axis: DomainAxis) -> Source:
        """The source of the channels of the input or the output, of which `axis` numbers those of a group."""
        return axis

    def plain(self, axes: tuple[DomainAxis, ...]) -> tuple[Source, ...]:
        """The sources of the inner axes of the input or the output, by its own axes."""
        return self.channels(axes[0]), *(a for a in axes[1:])

    def declare_product(self, net: Net, node: Node, x: Value) -> None:
        """The forward pass, once the axes are set."""
        self.weight_name, self.bias_name = node["weight"], node["bias"]
        sizes = [a.size for a in (*self.shared, *self.weight_axes)]
        self.weight = net.weight(self.weight_name, sizes, self.weight_order)
        b, p = net.batch_axis(), net.pass_axis()
        summed = self.weight_axes[1:]
        factors = x.limbs(net.over_passes, net.batch_axis(), *self.input_sources()), self._weight_limbs()
        out = self.plain(self.out_axes)
        bias: View | None = None
        if self.bias_name:
            self.bias = net.weight(self.bias_name, (out[0].size,))
            bias = View(self.bias, (net.pass_axis(), out[0]))
        self.out = net.output(self.name, "z", (net.batch, *(source.size for source in out)))
        self.y = self.out.value
        limbs = self._outputs(self.y, net.over_passes)
        axes = (p, b, *self.shared, *self.out_axes)
        self.run = net.scaled_down(f"{self.name}/forward", axes, summed, factors, bias, limbs, "z")

    def _weight_limbs(self) -> list[Form]:
        axes = (a for a in (*self.shared, *self.weight_axes))
        return limb_forms(View(self.weight, (self.net.pass_axis(), *axes)))

    def _outputs(self, v: Value, first: Callable[[str], Source]) -> list[Form]:
        """Limbs of a value with the output's axes."""
        return v.limbs(first, self.net.batch_axis(), *self.plain(self.out_axes))

    def declare_input_gradient(self, net: Net, dy: Value) -> None:
        b, p = net.batch_axis(), net.pass_axis()
        o = self.out_axes[0]
        kernel = tuple(a for a in self.weight_axes[1:] if a not in self.input_axes)
        deltas = dy.limbs(net.over_passes, net.batch_axis(), *self.output_sources())
        inner = self.plain(self.input_axes)
        self.dx = net.activation(f"{self.name}/dx", (net.batch, *(source.size for source in inner)))
        out = limb_forms(View(self.dx.tensor, (net.pass_axis(), net.batch_axis(), *inner)))
        axes, factors = (p, b, *self.shared, *self.input_axes), (deltas, self._weight_limbs())
        self.run_input = net.scaled_down(f"{self.name}/input-gradient", axes, (o, *kernel), factors, None, out, "dx")

    def declare_parameter_gradients(self, net: Net, dy: Value) -> None:
        b, outputs = net.batch_axis(), dy.shape[1]

        def operands(source: Callable[[str], Source]) -> tuple[list[Form], list[Form]]:
            return self._outputs(dy, source), self.x.limbs(source, net.batch_axis(), *self.input_sources())

        def weight_limbs(source: Callable[[str], Source]) -> Limbs:
            return Limbs().add_product(*operands(source))

        summed, axes = (b, *self.position_axes), (*self.shared, *self.weight_axes)
        net.gradients.append(Gradient(self.weight_name, axes, summed, weight_limbs, True, operands=operands))
        if self.bias_name:
            inner = (Sum(net.batch), DomainAxis("o", outputs), *(Sum(a.size) for a in self.position_axes))
            net.gradients.append(summed_gradient(self.bias_name, DomainAxis("o", outputs), dy, *inner))
