"""What PyTorch calls and computes for a layer type: its `TorchLayer`, which stands beside the layer's executor.

For the shell: converting modules, and the float64 twin. Nothing here imports PyTorch, and no verifier loads it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol


class Read(Protocol):
    """What a `TorchForm` may know beside the arguments of a call."""

    module: Any  # that is called; None for a function or a method

    def extent(self) -> list[int]:
        """Height and width of the images that are read, of a sequence 1 and its length; raises UnsupportedLayer for
        anything else."""

    def channels(self) -> int:
        """How many channels, or features, it has."""

    def rank(self) -> int:
        """How many axes what is read has, that of the batch included."""


@dataclass(frozen=True)
class TorchForm:
    """What PyTorch calls a layer, and its fields from the arguments of a call.

    names: dotted, of modules, functions and methods ("torch.Tensor.relu"). fields(read, ...): its other parameters are
    the arguments of a function behind the tensors read, and the attributes of a module; other arguments than these are
    refused. It returns the fields (but tensors: they are known from the `LayerSpec`), or several whole nodes (but
    names), or None for arguments that no circuit is for; ValueError says why not.
    """

    names: tuple[str, ...]
    fields: Callable[..., Mapping[str, Any] | list[dict[str, Any]] | None]


@dataclass(frozen=True)
class TorchLayer:
    """A layer type as PyTorch has it.

    run(F, node, tensors, *inputs)   the output of PyTorch, F being torch.nn.functional and `tensors` those of the
                                     fields, None for those that are absent; all `fixed` ones are where the statistics
                                     are to be the batch's.
    attributes                       by field: what PyTorch's module calls a tensor, where that is another name.
    """

    run: Callable[..., Any]
    forms: tuple[TorchForm, ...]
    attributes: Mapping[str, str] = field(default_factory=dict)


def one_row(value: Any, across: int) -> list[Any]:
    """A size of PyTorch's along a sequence as one of images with a single row; across: that of the rows."""
    return [across, *(value if isinstance(value, tuple | list) else [value])]


def pair(value: Any) -> list[Any]:
    """A size of PyTorch's, one number or two, as two."""
    return list(value) if isinstance(value, tuple | list) else [value, value]
