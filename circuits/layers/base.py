"""The interface of a layer type. A new type is one file in this package: see docs/ADDING_A_LAYER.md."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..net import Net
from ..value import Value

I64 = NDArray[np.int64]


class Layer(ABC):
    """One node of the graph: declares its constraints once; `prover.execution.layers` fills them.

    `op` is the node's "op" in model files. `shape` is the output shape of one sample as the model states it, e.g.
    (C, H, W); the tensors themselves keep (batch, C, H*W).
    """

    op: ClassVar[str]
    registry: ClassVar[dict[str, type[Layer]]] = {}
    y: Value
    dx: Value | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "op" in cls.__dict__:
            Layer.registry[cls.op] = cls

    @abstractmethod
    def __init__(self, net: Net, node: dict[str, Any], x: Value, shape: tuple[int, ...]) -> None:
        """Declare the forward pass from `x` (whose samples have the given shape); set `self.y`, `self.shape`.

        `x` is the sum of what the node reads, and may be any combination of committed tensors.
        """

    shape: tuple[int, ...]

    @abstractmethod
    def declare_backward(self, net: Net, dy: Value, need_input: bool) -> None:
        """Declare the gradient with respect to the input (`self.dx`) and add the parameters' to `net.gradients`.

        `dy` is the sum of the gradients of all readers of `self.y`.
        """
