"""What a layer type says of itself to those who read and connect models: its `LayerSpec`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zkcert.errors import UnusableInput

from ..windows import outputs_along

Node = Mapping[str, Any]
Arrays = Mapping[str, NDArray[np.floating[Any]]]
Shape = Sequence[int]

MAX_JOINED = 64
MAX_EXTENT = 1 << 16
"""Of an axis of a tensor, a kernel, a stride."""

NAME = re.compile(r"[A-Za-z0-9_.\-]{1,200}")
"""Of layers and tensors."""


def integers(value: object, count: int, low: int, what: str) -> list[int]:
    """`count` integers from `low` to `MAX_EXTENT`; UnusableInput for anything else."""
    fits = isinstance(value, list | tuple) and len(value) == count
    if fits and isinstance(value, list | tuple) and all(type(v) is int and low <= v <= MAX_EXTENT for v in value):
        return list(value)
    raise UnusableInput(f"{what} must be {count} integers from {low} to {MAX_EXTENT}")


def name_of(value: object, what: str) -> str:
    """A name; UnusableInput for anything else."""
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise UnusableInput(f"{what} must be a name of letters, digits, '_', '-' and '.'")
    return value


# ------------------------------------------------------------------------------------------------ fields of a node


@dataclass(frozen=True)
class Integers:
    """So many integers from `low` to `MAX_EXTENT`."""

    count: int
    low: int

    def check(self, value: object, what: str) -> list[int]:
        """The value in its normal form; UnusableInput that says what it is of."""
        return integers(value, self.count, self.low, what)


@dataclass(frozen=True)
class Integer:
    """An integer from `low` to `MAX_EXTENT`."""

    low: int

    def check(self, value: object, what: str) -> int:
        """The value in its normal form; UnusableInput that says what it is of."""
        if type(value) is int and self.low <= value <= MAX_EXTENT:
            return value
        raise UnusableInput(f"{what} must be an integer from {self.low} to {MAX_EXTENT}")


@dataclass(frozen=True)
class Flag:
    """True or false."""

    def check(self, value: object, what: str) -> bool:
        """The value in its normal form; UnusableInput that says what it is of."""
        if isinstance(value, bool):
            return value
        raise UnusableInput(f"{what} must be true or false")


@dataclass(frozen=True)
class Number:
    """A number; `bounds` says its range in words."""

    low: float
    high: float
    bounds: str

    def check(self, value: object, what: str) -> float:
        """The value in its normal form; UnusableInput that says what it is of."""
        if isinstance(value, int | float) and not isinstance(value, bool) and self.low <= value <= self.high:
            return float(value)
        raise UnusableInput(f"{what} must lie {self.bounds}")


@dataclass(frozen=True)
class Choice:
    """One of some words."""

    words: tuple[str, ...]

    def check(self, value: object, what: str) -> str:
        """The value in its normal form; UnusableInput that says what it is of."""
        if isinstance(value, str) and value in self.words:
            return value
        raise UnusableInput(f"{what} must be one of {', '.join(self.words)}")


@dataclass(frozen=True)
class Array:
    """The name of a tensor of the model: a parameter, or `fixed`, a buffer. `optional`: the field may be None."""

    optional: bool = False
    fixed: bool = False

    def check(self, value: object, what: str) -> str | None:
        """The value in its normal form; UnusableInput that says what it is of."""
        return None if self.optional and value is None else name_of(value, what)


Field = Integers | Integer | Flag | Number | Choice | Array


# ------------------------------------------------------------------------------------------------ a layer type


@dataclass(frozen=True)
class LayerSpec:
    """A layer type as everything but the circuit sees it; `op` is the "op" of its nodes, and the name of its files.

    output_shape(node, shape, tensors)   of one sample, for an input of the given shape; UnusableInput says what does
                                         not fit. Several inputs have one shape, but for `joins` and `together`.
    fields                               of a node beside "op", "name" and "inputs", in the order of model files.
    options                              further fields, behind those, that a node lacks where they have the value given
                                         here: see `full`.
    inputs                               how many nodes it reads.
    joins                                it reads so many nodes or more, up to MAX_JOINED, and what it gets is their
                                         channels one behind the other; others get a sum.
    together(shapes)                     it gets what it reads apart, and this shape, if they are not all of one;
                                         UnusableInput if they do not fit.
    transparent                          it commits nothing: its output is what it gets, perhaps reshaped.
    moves                                ... or others of its channels than it gets, as if it joined some.
    splits                               its channels are read by two axes, so that the gradient of joined ones is a
                                         tensor for it, as for a layer with parameters.
    rectifies                            a layer that nothing else reads need not commit its output: see `Rectifier`.
    constants(node, tensors)             public integers by name that follow from the node and its tensors; raises
                                         UnusableInput, RangeOverflow.
    """

    op: str
    output_shape: Callable[[Node, list[int], Arrays], list[int]]
    fields: Mapping[str, Field] = field(default_factory=dict)
    options: Mapping[str, tuple[Field, Any]] = field(default_factory=dict)
    inputs: int = 1
    joins: bool = False
    together: Callable[[Sequence[list[int]]], list[int]] | None = None
    moves: bool = False
    splits: bool = False
    transparent: bool = False
    rectifies: bool = False
    constants: Callable[[Node, Arrays], dict[str, list[int]]] | None = None

    def arrays(self, *, fixed: bool) -> list[str]:
        """The fields that name parameters, or those that name buffers."""
        return [key for key, f in self.fields.items() if isinstance(f, Array) and f.fixed == fixed]

    def full(self, node: Node) -> dict[str, Any]:
        """The node with all options."""
        return {**{key: usual for key, (_, usual) in self.options.items()}, **node}

    @property
    def trained(self) -> bool:
        """Whether it has parameters."""
        return bool(self.arrays(fixed=False))

    @property
    def adds(self) -> bool:
        """Whether it is the sum of several inputs."""
        return self.transparent and self.inputs > 1 and not self.joins

    def received(self, shapes: Sequence[list[int]]) -> list[int]:
        """The shape of what a node gets that reads outputs of these shapes; UnusableInput if they do not fit."""
        if self.together is not None:
            return self.together(shapes)
        first, *others = shapes
        for other in others:
            if other != first and not (self.joins and other[1:] == first[1:] and len(other) == len(first)):
                raise UnusableInput(f"its inputs have shapes {first} and {other}")
        return [sum(shape[0] for shape in shapes), *first[1:]] if self.joins else first


def same_shape(node: Node, shape: list[int], tensors: Arrays) -> list[int]:
    """The `output_shape` of what works element by element."""
    return shape


def require_image(shape: Shape) -> None:
    """UnusableInput unless the shape is [C, H, W]."""
    if len(shape) != 3:
        raise UnusableInput(f"its input has shape {shape}, not [C, H, W]")


def window_shape(
    shape: Shape, kernel: Shape, stride: Shape, padding: Shape, dilation: Shape = (1, 1), *, ceil: bool = False
) -> list[int]:
    """[rows, columns] of windows over an image [C, H, W]; UnusableInput if they do not fit."""
    extents = []
    for size, k, s, pad, d in zip(shape[1:], kernel, stride, padding, dilation, strict=True):
        outputs = outputs_along(size, k, s, pad, d, ceil)
        if outputs < 1 or (pad and pad > d * (k - 1)):
            spread = "" if tuple(dilation) == (1, 1) else f", dilation {list(dilation)}"
            received = f"an input of shape {shape}"
            raise UnusableInput(f"kernel {list(kernel)}, padding {list(padding)}{spread} do not fit {received}")
        extents.append(outputs)
    return extents
