"""The interface of a declaration of a layer type: see docs/ADDING_A_LAYER.md."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from ..net import Net
from ..value import Value
from .spec import LayerSpec


class Layer(ABC):
    """One node of the graph: declares its constraints once; `prover.execution.layers` fills them.

    `shape` is the output shape of one sample as the model states it, e.g. (C, H, W); the tensors themselves keep
    (batch, C, H*W).
    """

    spec: ClassVar[LayerSpec]
    y: Value
    dy: Value
    dx: Value | None = None

    def __init__(self, net: Net, node: dict[str, Any], branches: Sequence[Value], shape: tuple[int, ...]) -> None:
        """Declare the forward pass from `x`, whose samples have the given shape.

        `x` is the sum of what the node reads, and may be any combination of committed tensors; of a node that gets its
        inputs apart, as `branches`, it is the first. The node holds what `spec.constants` gives as well, and for each
        field of `spec` that names a parameter its shape: "weight_shape".
        """
        x = branches[0]
        self.name, self.net, self.x, self.shape, self.branches = node["name"], net, x, shape, tuple(branches)
        self.declare_forward(net, node, x, shape)

    @abstractmethod
    def declare_forward(self, net: Net, node: dict[str, Any], x: Value, shape: tuple[int, ...]) -> None:
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
