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


# ------------------------------------------------------------------------------------------------ fields of a node


@dataclass(frozen=True)
class Field:
    """What a field of a node may hold: which values are `fit`, in words what it `must`, and their normal form."""

    fit: Callable[[Any], bool]
    must: str
    normal: Callable[[Any], Any] = lambda value: value

    def check(self, value: object, what: str) -> Any:
        """The value in its normal form; UnusableInput that says what it is of."""
        if not self.fit(value):
            raise UnusableInput(f"{what} must {self.must}")
        return self.normal(value)


def Integer(low: int) -> Field:
    """An integer from `low` to `MAX_EXTENT`."""
    return Field(lambda v: type(v) is int and low <= v <= MAX_EXTENT, f"be an integer from {low} to {MAX_EXTENT}")


def Integers(count: int, low: int) -> Field:
    """So many integers from `low` to `MAX_EXTENT`."""
    each, must = Integer(low).fit, f"be {count} integers from {low} to {MAX_EXTENT}"
    return Field(lambda v: isinstance(v, list | tuple) and len(v) == count and all(map(each, v)), must, list)


def Flag() -> Field:
    """True or false."""
    return Field(lambda v: isinstance(v, bool), "be true or false")


def Number(low: float, high: float, bounds: str) -> Field:
    """A number; `bounds` says its range in words."""

    def fit(value: Any) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high

    return Field(fit, f"lie {bounds}", float)


def Choice(words: tuple[str, ...]) -> Field:
    """One of some words."""
    return Field(lambda v: isinstance(v, str) and v in words, f"be one of {', '.join(words)}")


def Name() -> Field:
    """A name of a layer or of a tensor."""
    must = "be a name of letters, digits, '_', '-' and '.'"
    return Field(lambda v: isinstance(v, str) and bool(NAME.fullmatch(v)), must)


@dataclass(frozen=True)
class Array:
    """The name of a tensor of the model: a parameter, or `fixed`, a buffer. `optional`: the field may be None."""

    optional: bool = False
    fixed: bool = False

    def check(self, value: object, what: str) -> str | None:
        """As `Field.check`."""
        return None if self.optional and value is None else name_of(value, what)


def name_of(value: object, what: str) -> str:
    """A name; UnusableInput for anything else."""
    return str(Name().check(value, what))


# ------------------------------------------------------------------------------------------------ a layer type


@dataclass(frozen=True)
class LayerSpec:
    """A layer type as everything but the circuit sees it; `op` is the "op" of its nodes, and the name of its files.

    output_shape(node, shape)            of one sample, for a `described` node and an input of the given shape;
                                         UnusableInput says what does not fit. Several inputs have one shape, but for
                                         `joins` and `together`.
    fields                               of a node beside "op", "name" and "inputs", in the order of model files.
    options                              further fields, behind those, that a node lacks where they have the value given
                                         here: see `described`.
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
    output_shape: Callable[[Node, list[int]], list[int]]
    fields: Mapping[str, Field | Array] = field(default_factory=dict)
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

    def described(self, node: Node, shape_of: Callable[[str], Sequence[int]]) -> dict[str, Any]:
        """The same with the shapes of its parameters: of its "weight" as "weight_shape"."""
        out = self.full(node)
        for key in self.arrays(fixed=False):
            if (name := node[key]) is not None:
                out[f"{key}_shape"] = list(shape_of(name))
        return out

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


def same_shape(node: Node, shape: list[int]) -> list[int]:
    """The `output_shape` of what works element by element."""
    return shape


def misfit(node: Node, shape: Shape) -> UnusableInput:
    """The error of a parameter that does not fit the input."""
    return UnusableInput(f"weight of shape {node['weight_shape']} does not fit an input of shape {shape}")


def require_image(shape: Shape) -> None:
    """UnusableInput unless the shape is [C, H, W]."""
    if len(shape) != 3:
        raise UnusableInput(f"its input has shape {shape}, not [C, H, W]")


def require_channels(node: Node, shape: Shape) -> None:
    """UnusableInput unless the shape is [C, H, W] or [C], and weight and bias are [C]."""
    if len(shape) not in (1, 3) or any(
        node[f"{key}_shape"] != shape[:1] for key in ("weight", "bias") if node[key] is not None
    ):
        raise UnusableInput(f"its tensors must have shape [C] for an input of shape {shape} of shape [C, H, W] or [C]")


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
