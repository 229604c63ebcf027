"""The interface of a declaration of a layer type: see docs/ADDING_A_LAYER.md."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import ClassVar

from circuits.language.constraints import Constraint
from circuits.language.forms import Form
from circuits.language.sources import DomainAxis
from circuits.language.tensors import Digit, Tensor

from ..net import Net
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
        self.name, self.net, self.x, self.shape, self.branches = node["name"], net, x, shape, tuple(branches)
        self.declare_forward(net, node, x, shape)

    @abstractmethod
    def declare_forward(self, net: Net, node: Node, x: Value, shape: tuple[int, ...]) -> None:
        """Set the output `self.y` and, where it is not the input's, its `self.shape`."""

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


class Elementwise(Layer):
    """A layer that works entry by entry: `axes` are those of all its constraints, x0, x1, ... being its input's."""

    @cached_property
    def axes(self) -> tuple[DomainAxis, ...]:
        return (self.net.pass_axis(), *(DomainAxis(f"x{i}", size) for i, size in enumerate(self.x.shape)))

    def tensor(self, name: str, digits: tuple[Digit, ...]) -> Tensor:
        """A tensor of the input's shape."""
        return self.net.circuit.tensor(f"{self.name}/{name}", self.net.passes, self.x.shape, digits)

    def constraint(self, name: str) -> Constraint:
        """A constraint on every entry."""
        return self.net.circuit.constraint(f"{self.name}/{name}", self.axes)

    def places(self) -> list[DomainAxis]:
        """The sources of the inner axes."""
        return [a for a in self.axes[1:]]

    def form(self, v: Value | Tensor) -> Form:
        """A value as one form."""
        return (Value.of(v) if isinstance(v, Tensor) else v).whole(self.net.over_passes, *self.places())

    def limbs(self, v: Value) -> list[Form]:
        """A value as forms worth 2^(22 k)."""
        return v.limbs(self.net.over_passes, *self.places())
