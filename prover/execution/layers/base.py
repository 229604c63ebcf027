"""The executor of a layer: what fills the tensors that its declaration in `circuits.layers` makes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from circuits.layers import Layer

from ..witness import Witness
from .pytorch import TorchLayer

I64 = NDArray[np.int64]
Accumulators = dict[str, list[I64]]


class Executor(ABC):
    """Executes one layer pass by pass in exact integers. `layer_type` is the declaration a subclass is for,
    `torch` what PyTorch has for it."""

    layer_type: ClassVar[type[Layer]]
    torch: ClassVar[TorchLayer]
    registry: ClassVar[dict[type[Layer], type[Executor]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "layer_type" in cls.__dict__:
            Executor.registry[cls.layer_type] = cls

    def __init__(self, layer: Any) -> None:
        self.layer = layer

    @classmethod
    def of(cls, layer: Layer) -> Executor:
        """The executor of a declared layer."""
        return cls.registry[type(layer)](layer)

    @abstractmethod
    def forward(self, w: Witness, p: int) -> None:
        """Fill the forward tensors of pass p; the input is already in the witness."""

    @abstractmethod
    def backward(self, w: Witness, p: int) -> Accumulators:
        """Fill the backward tensors of pass p; returns the exact limbs of each parameter's accumulator."""
