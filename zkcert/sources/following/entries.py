"""What a tensor holds while a module is followed: where each of its entries stands in an output or a parameter."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor, nn

from zkcert.errors import UnsupportedLayer

BATCH = 2
"""Samples of the example that is followed."""


class NotConverted(UnsupportedLayer):
    """Of a layer, `why`, and the line of source that calls it."""

    def __init__(self, layer: str, why: str, at: str = "") -> None:
        self.layer, self.why, self.at = layer, why, at
        super().__init__(f"layer {layer}: {why}")


class Refused(Exception):
    """An operation that has no circuit, and why."""


def refuse(why: str) -> NoReturn:
    """Raise Refused."""
    raise Refused(why)


@dataclass(eq=False)
class Source:
    """Where numbers come from: kind "node" of the graph, the "tokens", a "parameter", the "scores" of attention (before
    their softmax) or their "shares" (behind it); shape of one sample, or of the parameter; reordered: the node's
    channels stand in another order since, so that nothing more can be read of this."""

    kind: str
    name: str
    shape: tuple[int, ...]
    pairs: Scores | None = None
    reordered: bool = False

    @property
    def positions(self) -> int:
        """Of an output, beside its channels."""
        return math.prod(self.shape[1:])


@dataclass(frozen=True)
class Scores:
    queries: Heads
    keys: Heads
    scale: float
    causal: bool = False


ONE_LOGIT = (
    "the module gives one logit z: the model has two classes with the logits 0 and z, whose cross-entropy is the "
    "binary cross-entropy of z (BCEWithLogitsLoss), label 1 being the class of z"
)


@dataclass(frozen=True, eq=False)
class Heads:
    """Channels (heads, channels of a head) of an output, at all its positions."""

    source: Source
    channels: Tensor


@dataclass(frozen=True, eq=False)
class Expression:
    """What is computed of every entry by itself: function(arguments), of which those that are expressions read the same
    entry; None: the entry."""

    function: Callable[..., Tensor] | None = None
    arguments: tuple[Any, ...] = ()
    called: str = ""
    path: str = ""

    def of(self, x: Tensor) -> Tensor:
        if self.function is None:
            return x.clone()  # which functions may change in place
        return self.function(*(a.of(x) if isinstance(a, Expression) else a for a in self.arguments))


ENTRY = Expression()


@dataclass(frozen=True, eq=False)
class Seen:
    """What a tensor is: an expression of the entries of a source at these indices (of a batch of two samples, or in the
    parameter); problems: what on the way to it has no circuit."""

    source: Source
    index: Tensor
    expression: Expression = ENTRY
    problems: tuple[NotConverted, ...] = ()


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of channels of an output: of sample b[r] at position p[r]."""

    source: Source
    b: Tensor
    p: Tensor
    lead: tuple[int, ...]

    def index(self, source: Source) -> Tensor:
        """Of another output with the same positions, in the same arrangement: [*lead, channels]."""
        channels, positions = source.shape[0], source.positions
        c = torch.arange(channels) * positions
        return (self.b[:, None] * channels * positions + c + self.p[:, None]).reshape(*self.lead, channels)


def array(values: Tensor) -> np.ndarray:
    """Numbers as a model keeps them: float64 if they need it, else float32."""
    found = values.detach().double().numpy()
    narrow = found.astype(np.float32)
    return narrow if (narrow == found).all() else found


def places(source: Source, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Sample, channel and position of entries of an output."""
    channels, positions = source.shape[0], source.positions
    return index // (channels * positions), index // positions % channels, index % positions


def whole(source: Source) -> Seen:
    shape = (BATCH, *source.shape)
    return Seen(source, torch.arange(math.prod(shape)).reshape(shape))


def equal(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and bool((one == other).all())


def pair(value: Any) -> list[int]:
    values = list(value) if isinstance(value, list | tuple) else [value]
    return values * 2 if len(values) == 1 else values


def padded(spec: Mapping[str, Any]) -> list[int]:
    """The shape of what a model reads of a sample."""
    channels, *extents = spec["shape"]
    return [channels, *(n + 2 * spec.get("pad", 0) for n in extents)]


def example(spec: Mapping[str, Any], count: int = BATCH, seed: int = 0) -> Tensor:
    """So many samples as a module reads them: tokens [count, L], or images."""
    generator = torch.Generator().manual_seed(seed)
    if "tokens" in spec:
        return torch.randint(0, spec["tokens"], (count, spec["shape"][2]), generator=generator)
    return torch.randn(count, *padded(spec), dtype=torch.float64, generator=generator)


def as_samples(spec: Mapping[str, Any], x: Tensor) -> Tensor:
    """Those of `example` as the model of a file reads them."""
    return x[:, None, None] if "tokens" in spec else x


def logits_of(returned: Any) -> Any:
    """What a module returned, or the field that transformers' models call so."""
    return getattr(returned, "logits", returned)


@contextmanager
def config_without_cache(module: nn.Module) -> Iterator[None]:
    """A model of transformers keeps no keys and values in the block."""
    config = getattr(module, "config", None)
    if getattr(config, "use_cache", False) is not True:
        yield
        return
    config.use_cache = False
    try:
        yield
    finally:
        config.use_cache = True
