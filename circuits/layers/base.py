"""The interface of a declaration of a layer type: see docs/ADDING_A_LAYER.md."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import ClassVar

from circuits.language.constraints import Constraint
from circuits.language.forms import Form, View
from circuits.language.sources import Axis, Source
from circuits.language.tensors import Digit, Tensor

from ..net import VALUE, Net
from ..value import Value
from .spec import LayerSpec, Node


class Layer(ABC):
    """One node of the graph: declares its constraints once; `prover.execution.layers` fills them.

    `shape` is the output shape of one sample as the model states it, e.g. (C, H, W); the tensors themselves keep
    (batch, C, H*W).
    """

    spec: ClassVar[LayerSpec]
    y: Value
    dy: Value
    dx: Value | None = None

    def __init__(self, net: Net, node: Node, branches: Sequence[Value], shape: tuple[int, ...]) -> None:
        """Declare the forward pass from `x`, whose samples have the given shape.

        `x` is the sum of what the node reads, and may be any combination of committed tensors; of a node that gets its
        inputs apart, as `branches`, it is the first. The node holds what `spec.constants` gives as well, and for each
        field of `spec` that names a parameter its shape: "weight_shape".
        """
        x = branches[0]
        self.name, self.net, self.x, self.branches = node["name"], net, x, tuple(branches)
        self.shape = tuple(self.spec.output_shape(node, list(shape)))
        self.declare_forward(net, node, x, shape)

    @abstractmethod
    def declare_forward(self, net: Net, node: Node, x: Value, shape: tuple[int, ...]) -> None:
        """Set the output `self.y`."""

    def declare_backward(self, net: Net, dy: Value, needed: Sequence[bool]) -> None:
        """Declare the gradients that are needed, those of which inputs included; `dy` is the sum of the gradients of
        all readers of `self.y`."""
        self.dy, self.needed = dy, needed
        if any(needed):
            self.declare_input_gradient(net, dy)
        self.declare_parameter_gradients(net, dy)

    def handed(self, i: int) -> Value | None:
        """What input i gets of the gradient, or, if inputs are joined, all of them."""
        return self.dx

    @abstractmethod
    def declare_input_gradient(self, net: Net, dy: Value) -> None:
        """Set `self.dx`, the gradient with respect to the input, or what `handed` gives for those that are `needed`."""

    def declare_parameter_gradients(self, net: Net, dy: Value) -> None:  # noqa: B027 - most layers have none
        """Add those of the parameters to `net.gradients`."""

    # -- what they declare with

    @cached_property
    def axes(self) -> tuple[Axis, ...]:
        """Those of its constraints but for the passes, as far as it does not say others: x0, x1, ... of its input."""
        return tuple(Axis(f"x{i}", size) for i, size in enumerate(self.x.shape))

    def tensor(self, label: str, shape: Sequence[int], digits: tuple[Digit, ...] = VALUE) -> Value:
        """A tensor of its own with a column for each pass."""
        return self.net.activation(f"{self.name}/{label}", shape, digits)

    def like_input(self, label: str, digits: tuple[Digit, ...] = VALUE) -> Value:
        """A tensor of the input's shape."""
        return self.tensor(label, self.x.shape, digits)

    def output(self, label: str, shape: Sequence[int]) -> Value:
        """A tensor for the output, unless a ReLU behind it has what makes it up: see `Net.output`."""
        self.out = self.net.output(self.name, label, shape)
        return self.out.value

    def constraint(self, label: str, *axes: Axis, summed: Iterable[Axis] = ()) -> Constraint:
        """A constraint for every pass and index of these axes; none: of its `axes`."""
        return self.net.circuit.constraint(f"{self.name}/{label}", (self.net.pass_axis(), *(axes or self.axes)), summed)

    def form(self, v: Value, *inner: Source) -> Form:
        """A value as one form, its axes read through the sources; none: as its `axes`."""
        return v.whole(self.net.over_passes, *(inner or self.axes))

    def limbs(self, v: Value, *inner: Source) -> list[Form]:
        """A value as forms worth 2^(22 k), likewise."""
        return v.limbs(self.net.over_passes, *(inner or self.axes))

    def view(self, t: Tensor, *inner: Source) -> View:
        """A tensor that has a column for each pass, by passes and these sources."""
        return View(t, (self.net.pass_axis(), *inner))


class Passing(Layer):
    """A layer that hands on what it gets, and the gradient as well: only the shape may be another."""

    def declare_forward(self, net: Net, node: Node, x: Value, shape: tuple[int, ...]) -> None:
        self.y = x

    def declare_input_gradient(self, net: Net, dy: Value) -> None:
        self.dx = dy
