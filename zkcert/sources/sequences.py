"""Modules of attention: run once on an example, while every operation of PyTorch's is followed.

What a module does to sequences is mostly to move numbers: to split channels into heads, to put positions before them and
back. So each tensor is known by where its entries stand in the output of a node of the graph (or in a parameter): an
index for every entry, made by the same moves. An operation that computes reads from the indices which channels and
positions it gets. Masks, and whatever else does not follow from the samples, are numbers, and are looked at.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from types import FrameType
from typing import Any, NoReturn

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from circuits.graph import SAMPLES
from circuits.layers import LAYERS
from zkcert.errors import UnsupportedLayer, ZkcertError
from zkcert.public.graph import output_shape

BATCH = 2
_MASKED = -1e4
"""What is added to a score at least so far below 0 leaves nothing of its share."""

_MOVES = frozenset(
    "view _unsafe_view _reshape_alias reshape permute transpose t expand slice select squeeze unsqueeze split "
    "split_with_sizes unbind clone alias detach lift_fresh index_select flip roll repeat view_as".split()
)
_SAME = frozenset(("_to_copy", "contiguous", "dropout"))
_CALLS = frozenset(
    "tanh sigmoid relu gelu silu erf exp neg add sub rsub mul div pow hardtanh hardswish hardsigmoid leaky_relu elu "
    "softplus".split()
)
"""What treats all entries alike, with numbers beside."""

_KNOWN: dict[str, tuple[Callable[[Tensor], Tensor], dict[str, Any]]] = {
    "relu": (F.relu, {"op": "relu"}),
    "gelu": (F.gelu, {"op": "function", "function": "gelu"}),
    "gelu_tanh": (partial(F.gelu, approximate="tanh"), {"op": "function", "function": "gelu_tanh"}),
    "silu": (F.silu, {"op": "function", "function": "silu"}),
    "sigmoid": (torch.sigmoid, {"op": "function", "function": "sigmoid"}),
    "tanh": (torch.tanh, {"op": "function", "function": "tanh"}),
    "elu": (F.elu, {"op": "function", "function": "elu"}),
    "softplus": (F.softplus, {"op": "function", "function": "softplus"}),
    "hardswish": (F.hardswish, {"op": "hardswish"}),
    "hardsigmoid": (F.hardsigmoid, {"op": "hardsigmoid"}),
}
"""Functions that have a circuit, by which ones written out are known again."""


class NotConverted(UnsupportedLayer):
    """Of a layer, `why`, and the line of source that calls it."""

    def __init__(self, layer: str, why: str, at: str = "") -> None:
        self.layer, self.why, self.at = layer, why, at
        super().__init__(f"layer {layer}: {why}")


class _Refused(Exception):
    """An operation that has no circuit, and why."""


def _refuse(why: str) -> NoReturn:
    raise _Refused(why)


@dataclass(eq=False)
class Source:
    """Where numbers come from: kind "node" of the graph, the "tokens", a "parameter", the "scores" of attention (before
    their softmax) or their "shares" (behind it); shape of one sample, or of the parameter."""

    kind: str
    name: str
    shape: tuple[int, ...]
    pairs: _Scores | None = None

    @property
    def positions(self) -> int:
        """Of an output, beside its channels."""
        return math.prod(self.shape[1:])


@dataclass(frozen=True)
class _Scores:
    queries: _Heads
    keys: _Heads
    scale: float
    causal: bool = False


@dataclass(frozen=True, eq=False)
class _Heads:
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
            return x
        return self.function(*(a.of(x) if isinstance(a, Expression) else a for a in self.arguments))


_ENTRY = Expression()


@dataclass(frozen=True, eq=False)
class Seen:
    """What a tensor is: an expression of the entries of a source at these indices (of a batch of two samples, or in the
    parameter); problems: what on the way to it has no circuit."""

    source: Source
    index: Tensor
    expression: Expression = _ENTRY
    problems: tuple[NotConverted, ...] = ()


@dataclass(frozen=True, eq=False)
class _Rows:
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


class Follower(TorchDispatchMode):
    """Follows what a module computes of `inputs`, whose samples have this shape."""

    def __init__(self, module: nn.Module, inputs: Tensor, shape: Sequence[int], *, tokens: bool) -> None:
        super().__init__()
        self.graph: list[dict[str, Any]] = []
        self.params: dict[str, np.ndarray] = {}
        self.notes: list[str] = []
        self.attends = False  # whether it has found attention
        self.problems: list[NotConverted] = []  # that concern the whole
        self._sources: dict[str, Source] = {}
        self._seen: dict[int, tuple[Tensor, Seen]] = {}
        self._resolved: dict[tuple[int, int], Source] = {}
        self._kept: list[Seen] = []
        self._used: dict[str, list[tuple[Tensor, str]]] = {}
        self._path: list[str] = []
        self._names = {id(buffer): (name, buffer) for name, buffer in module.named_buffers()}
        self._module = module
        start = Source("tokens" if tokens else "node", SAMPLES, tuple(shape))
        self._sources[SAMPLES] = start
        entries = torch.arange(BATCH * math.prod(shape))
        self._note(inputs, Seen(start, entries.reshape(inputs.shape)))
        for name, parameter in module.named_parameters():
            of = Source("parameter", name, tuple(parameter.shape))
            self._note(parameter, Seen(of, torch.arange(parameter.numel()).reshape(parameter.shape)))

    # ------------------------------------------------------------------------------------------------ the run

    @contextmanager
    def following(self) -> Iterator[None]:
        """In the block calls are followed, and the module that makes them is known."""
        hooks = []
        for path, child in self._module.named_modules():
            hooks.append(child.register_forward_pre_hook(lambda m, a, path=path: self._path.append(path)))
            hooks.append(child.register_forward_hook(self._left, always_call=True))
        fast = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), self:
                yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fast)
            for hook in hooks:
                hook.remove()

    @property
    def _here(self) -> str:
        """The module that makes the call at hand."""
        return self._path[-1] if self._path else ""

    def _left(self, module: nn.Module, args: Any, result: Any) -> None:
        self._path.pop()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        known = [s for t in tree_leaves([args, kwargs]) if isinstance(t, Tensor) and (s := self.seen(t))]
        samples = [s for s in known if s.source.kind != "parameter"]
        if not known:
            return func(*args, **kwargs)
        result = func(*args, **kwargs)
        name = func._schema.name.partition("::")[2]
        name = name if name.endswith("__") else name.rstrip("_")
        problems = tuple(dict.fromkeys(p for s in known for p in s.problems))
        try:
            found = self._follow(name, func, args, kwargs, result)
        except (_Refused, ZkcertError) as error:
            if not samples:
                return result  # numbers that are computed of parameters
            layer = self._here or name
            problem = NotConverted(layer, str(error), _place())
            if name == "_local_scalar_dense":
                self.problems.append(problem)
                return result
            problems = (*problems, problem)
            found = next((s for s in samples if s.index.shape == getattr(result, "shape", None)), samples[0])
        if found is not None:
            many = isinstance(result, list | tuple)
            for t, s in zip(result if many else [result], found if isinstance(found, list) else [found], strict=False):
                if isinstance(t, Tensor):
                    self._note(t, replace(s, problems=tuple(dict.fromkeys((*s.problems, *problems)))))
        return result

    def _note(self, t: Tensor, seen: Seen) -> None:
        self._seen[id(t)] = t, seen  # which keeps the tensor, and so its id

    def seen(self, t: Any) -> Seen | None:
        """What is known of a tensor."""
        found = self._seen.get(id(t)) if isinstance(t, Tensor) else None
        return found[1] if found and found[0] is t else None

    def _follow(self, name: str, func: Any, args: Any, kwargs: Any, result: Any) -> Any:
        if name in _MOVES or name == "index":
            return self._moved(name, func, args, kwargs)
        if name in _SAME:
            return self.seen(args[0])
        if hasattr(self, f"_on_{name}"):
            return getattr(self, f"_on_{name}")(*args, **kwargs)
        if name in _CALLS:
            return self._called(name, func, args, kwargs)
        if name in ("_softmax", "_safe_softmax", "softmax"):
            return self._shares(args[0], args[1])
        if name in ("bmm", "mm", "addmm", "baddbmm", "embedding", "cat"):
            return getattr(self, f"_{name}")(*args, **kwargs)
        if name == "_local_scalar_dense":
            _refuse("it decides by values of the samples: it must treat all inputs alike")
        if self.seen(args[0]) and self.seen(args[0]).source.kind == "tokens":  # type: ignore[union-attr]
            _refuse(f"{name} of the tokens has no circuit: they are embedded only")
        instead = "; return the logits, from which the loss is computed" if name == "_log_softmax" else ""
        _refuse(f"the operation {name} has no circuit{instead}")

    def _moved(self, name: str, func: Any, args: Any, kwargs: Any) -> Any:
        read = self.seen(args[0])
        if read is None or any(self.seen(t) for t in tree_leaves([args[1:], kwargs])):
            _refuse(f"{name} picks by what follows from the samples, which has no circuit")
        if name == "clone":
            return read
        moved = func(read.index.contiguous(), *args[1:], **kwargs)
        if isinstance(moved, list | tuple):
            return [replace(read, index=part) for part in moved]
        return replace(read, index=moved)

    # ------------------------------------------------------------------------------------------------ entry by entry

    def _called(self, name: str, func: Any, args: Any, kwargs: Any) -> Any:
        """A function of entries, with numbers beside, or of two outputs."""
        tensors = [a for a in args if isinstance(a, Tensor)]
        read = [s for t in tensors if (s := self.seen(t))]
        numbers = [t for t in tensors if self.seen(t) is None and t.numel() > 1]
        if any(s.source.kind == "tokens" for s in read):
            _refuse(f"{name} of the tokens has no circuit: they are embedded only")
        pairs = next((s for s in read if s.source.pairs), None)
        if pairs is not None and name == "add" and len(read) == 1 and numbers:
            return self._masked(pairs, numbers[0].expand(pairs.index.shape) < _MASKED, numbers[0])
        if pairs is not None and len(read) > 1:
            _refuse("numbers that are added to scores by pairs of positions have no circuit: only a causal mask has")
        if numbers:
            _refuse(f"{name} of an output and fixed numbers has no circuit: learned positions (a parameter) have one")
        parameters = [s for s in read if s.source.kind == "parameter"]
        if parameters and len(read) > len(parameters):
            if len(read) != 2 or kwargs.get("alpha", 1) != 1 or read[0].problems or read[1].problems:
                _refuse(f"{name} of an output and a parameter has no circuit")
            (own,) = parameters
            other = next(s for s in read if s is not own)
            return self._with_parameter(name, other, replace(own, index=own.index.expand(other.index.shape)))
        if parameters:
            _refuse(f"{name} of parameters")
        first = read[0]
        if all(s.source is first.source and _equal(s.index, first.index) for s in read):
            filled = tuple(
                s.expression if (s := self.seen(a)) else a.item() if isinstance(a, Tensor) else a for a in args
            )
            function = partial(func, **kwargs) if kwargs else func
            return replace(first, expression=Expression(_on_tensors(function), filled, name, self._here))
        if name not in ("add", "mul", "sub") or kwargs.get("alpha", 1) != 1 or name == "sub":
            _refuse(f"{name} of two outputs has no circuit: sums and products have")
        shape = torch.broadcast_shapes(*(s.index.shape for s in read))
        if any(s.index.shape != shape for s in read):
            _refuse(f"{name} of outputs of shapes {' and '.join(str(list(s.index.shape)[1:]) for s in read)}")
        return self._combined("multiply" if name == "mul" else "add", *read)

    def _combined(self, op: str, one: Seen, other: Seen) -> Seen:
        """A sum or product of two outputs."""
        first, second = self.resolve(one), self.resolve(other)
        same = first.source.shape == second.source.shape and _equal(first.index, second.index)
        if not (same and first.index.unique().numel() == BATCH * math.prod(first.source.shape)):
            rows, others = self._rows(first), self._rows(second)
            if rows.source.shape != others.source.shape or not (
                _equal(rows.b, others.b) and _equal(rows.p, others.p)
            ):
                _refuse("outputs that are added or multiplied stand in different arrangements")
            made = self._emit({"op": op}, [rows.source, others.source], op)
            return Seen(made, rows.index(made))
        made = self._emit({"op": op}, [first.source, second.source], op)
        return Seen(made, first.index)

    def _with_parameter(self, name: str, read: Seen, own: Seen) -> Seen:
        """A bias, learned positions, or a factor for each channel."""
        read = self.resolve(read)
        rows = self._rows(read)
        values = own.index.reshape(len(rows.b), -1)
        source, count = rows.source, rows.source.positions
        alike = bool((values == values[:1]).all())
        node = next((n for n in self.graph if n["name"] == source.name), None)
        if name == "add" and alike and node and node["op"] in ("conv2d", "linear") and node["bias"] is None:
            node["bias"] = self._weight(own.source, values[0])
            return read
        if name == "mul" and alike and count > 1:
            weight = self._weight(own.source, values[0][:, None, None, None])
            fields = {"op": "conv2d", "weight": weight, "bias": None, "stride": [1, 1], "padding": [0, 0]}
            made = self._emit({**fields, "groups": len(values[0])}, [source], weight)
            return Seen(made, rows.index(made))
        by_position = torch.empty(count, values.shape[1], dtype=torch.int64)
        by_position[rows.p] = values
        if name != "add" or count == 1 or not _equal(by_position[rows.p], values):
            _refuse(f"{name} of an output and a parameter has no circuit: learned positions have, which are added")
        if by_position.unique().numel() != by_position.numel():
            _refuse("a parameter that is added to several positions or channels has no circuit")
        source = self._in_line(source)
        weight = self._weight(own.source, by_position.T[:, None, :])
        made = self._emit({"op": "positions", "weight": weight}, [source], weight)
        return Seen(made, rows.index(made))

    def resolve(self, seen: Seen) -> Seen:
        """The same as entries of an output, whose node is added where its expression is a function with a circuit."""
        if seen.expression.function is None:
            return seen
        if seen.source.kind != "node":
            _refuse(f"a function of {seen.source.kind} has no circuit")
        key = id(seen.source), id(seen.expression)
        if key not in self._resolved:
            node = self._function(seen.expression)
            if node is None and len(seen.expression.arguments) >= 2:  # as x + f(x)
                one, other, *more = seen.expression.arguments
                op = {"add": "add", "mul": "multiply"}.get(seen.expression.called)
                if op and isinstance(one, Expression) and isinstance(other, Expression) and not more:
                    return self._combined(op, replace(seen, expression=one), replace(seen, expression=other))
            if node is None:
                _refuse(_unknown(seen.expression))
            wanted = node.get("function", node["op"])
            self._resolved[key] = self._emit(node, [seen.source], wanted, seen.expression.path)
            self._kept.append(seen)  # and so the ids of its parts
        return Seen(self._resolved[key], seen.index, problems=seen.problems)

    def _function(self, e: Expression) -> dict[str, Any] | None:
        """The node, without a name, that computes an expression."""
        x = torch.linspace(-9, 9, 2305, dtype=torch.float64)
        y = e.of(x)
        for function, node in _KNOWN.values():
            if torch.allclose(y, function(x), rtol=1e-12, atol=1e-12):
                return node
        plain = e.arguments and e.arguments[0] is _ENTRY and not any(isinstance(a, Expression) for a in e.arguments[1:])
        if e.called == "hardtanh" and plain:
            low, high = (*e.arguments[1:], -1.0, 1.0)[:2] if len(e.arguments) > 2 else (-1.0, 1.0)
            return {"op": "hardtanh", "low": float(low), "high": float(high)}
        if e.called == "leaky_relu" and plain:
            return {"op": "leaky_relu", "negative_slope": float((*e.arguments, 0.01)[1])}
        return None

    # ------------------------------------------------------------------------------------------------ arrangements

    def _rows(self, seen: Seen) -> _Rows:
        """The rows of an output whose channels stand last; nodes are added that pick channels or a position."""
        if seen.source.kind != "node":
            _refuse(f"a layer reads {seen.source.kind}, not the output of an earlier layer")
        seen = self.resolve(seen)
        source, (*lead, count) = seen.source, seen.index.shape
        index = seen.index.reshape(-1, count)
        b, c, p = _places(source, index)
        if not (b == b[:, :1]).all() or not (p == p[:, :1]).all() or not (c == c[:1]).all():
            _refuse("it mixes channels and positions in a way that has no circuit")
        b, p = b[:, 0], p[:, 0]
        source = self._picked(source, c[0].tolist())
        own, other = p[b == 0], p[b == 1]
        if not _equal(own, other):
            _refuse("it treats samples differently")
        if not _equal(own.sort().values, torch.arange(source.positions)):
            if own.numel() != 1:
                _refuse("a slice of some positions has no circuit: take one, or the mean of all")
            source = self._emit({"op": "take", "position": int(own[0])}, [self._in_line(source)], "take")
            p = torch.zeros_like(p)
        return _Rows(source, b, p, tuple(lead))

    def _picked(self, source: Source, channels: list[int]) -> Source:
        """An output of these channels of a source."""
        count, first = len(channels), min(channels)
        if channels == list(range(source.shape[0])):
            return source
        for groups in (1, *(g for g in range(2, count) if count % g == 0)):
            if channels == [first + j % groups * (count // groups) + j // groups for j in range(count)]:
                options = {"groups": groups} if groups > 1 else {}
                return self._emit({"op": "channels", "first": first, "count": count, **options}, [source], "channels")
        _refuse("channels in another order have no circuit: keep those of a head together")

    def _in_line(self, source: Source) -> Source:
        return source if source.shape[1] == 1 else self._emit({"op": "line"}, [source], "line")

    def _image(self, seen: Seen | None, what: str) -> Source:
        """The output that a tensor is, as [batch, C, H, W]."""
        if seen is None or seen.source.kind != "node":
            _refuse(f"{what} reads something else than the output of an earlier layer")
        seen = self.resolve(seen)
        shape = (BATCH, *seen.source.shape)
        if seen.index.shape != shape or not _equal(seen.index, torch.arange(seen.index.numel()).reshape(shape)):
            _refuse(f"{what} of a sequence that was put into another arrangement has no circuit")
        return seen.source

    # ------------------------------------------------------------------------------------------------ layers

    def _affine(self, x: Seen | None, weight: Seen | None, bias: Seen | None) -> Seen:
        """x [rows, inputs] times weight [inputs, outputs]."""
        if x is None or weight is None or weight.source.kind != "parameter" or weight.problems:
            _refuse("a product with something else than a parameter has no circuit")
        rows = self._rows(x)
        matrix = weight.index.T
        linear = rows.source.positions == 1
        name = self._weight(weight.source, matrix if linear else matrix[:, :, None, None])
        own = None if bias is None else self._weight(bias.source, bias.index.reshape(-1))
        source = rows.source
        if linear and len(source.shape) == 3:
            source = self._emit({"op": "flatten"}, [source], "flatten")
        plain = {"op": "linear", "weight": name, "bias": own}
        image = {**plain, "op": "conv2d", "stride": [1, 1], "padding": [0, 0]}
        made = self._emit(plain if linear else image, [source if linear else self._in_line(source)], name)
        return Seen(made, rows.index(made))

    def _mm(self, x: Tensor, weight: Tensor) -> Seen:
        return self._affine(self.seen(x), self.seen(weight), None)

    def _addmm(self, bias: Tensor, x: Tensor, weight: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Seen:
        own = self.seen(bias)
        if own is None or own.source.kind != "parameter" or own.index.dim() != 1 or (beta, alpha) != (1, 1):
            _refuse("a bias that is no parameter has no circuit")
        return self._affine(self.seen(x), self.seen(weight), own)

    def _embedding(self, weight: Tensor, tokens: Tensor, padding_idx: int = -1, *args: Any, **options: Any) -> Seen:
        table, read = self.seen(weight), self.seen(tokens)
        if table is None or table.source.kind != "parameter" or table.index.dim() != 2:
            _refuse("an embedding whose table is no parameter has no circuit")
        if read is None:
            return replace(table, index=table.index[tokens])
        if read.source.kind != "tokens":
            _refuse("an embedding of something else than the tokens has no circuit")
        name = self._weight(table.source, table.index)
        made = self._emit({"op": "embedding", "weight": name}, [read.source], name)
        length = read.source.shape[2]
        b, p = read.index // length, read.index % length
        return Seen(made, _Rows(made, b.reshape(-1), p.reshape(-1), tuple(read.index.shape)).index(made))

    def _on_native_layer_norm(self, x: Tensor, shape: Any, weight: Any, bias: Any, eps: float) -> list[Seen]:
        own = [self.seen(t) for t in (weight, bias)]
        if len(shape) != 1 or any(s is None or s.source.kind != "parameter" for s in own):
            _refuse("a layer norm has a circuit over the channels alone, with weight and bias")
        read = self.seen(x)
        rows = self._rows(read) if read is not None else _refuse("a layer norm reads no output")
        names = {key: self._weight(s.source, s.index) for key, s in zip(("weight", "bias"), own, strict=True) if s}
        each = {"each": True} if rows.source.positions > 1 else {}
        made = self._emit({"op": "groupnorm", **names, "groups": 1, "eps": eps, **each}, [rows.source], names["weight"])
        return [Seen(made, rows.index(made))]

    def _on_convolution(
        self, x: Tensor, weight: Tensor, bias: Any, stride: Any, padding: Any, dilation: Any, turned: bool, out: Any, groups: int
    ) -> Seen:
        table, own = self.seen(weight), self.seen(bias)
        if turned or weight.dim() != 4 or table is None or table.source.kind != "parameter" or (bias is not None and not own):
            _refuse("a transposed convolution, or one not over two axes, has no circuit here")
        source = self._image(self.seen(x), "a convolution")
        fields = {"weight": self._weight(table.source, table.index), "bias": own and self._weight(own.source, own.index)}
        more = {"stride": list(stride), "padding": list(padding), "dilation": list(dilation), "groups": groups}
        made = self._emit({"op": "conv2d", **fields, **more}, [source], str(fields["weight"]))
        return _whole(made)

    def _on_max_pool2d_with_indices(
        self, x: Tensor, kernel: Any, stride: Any = (), padding: Any = 0, dilation: Any = 1, ceil: bool = False
    ) -> list[Seen]:
        if set(_pair(dilation)) != {1}:
            _refuse("a dilated pooling has no circuit")
        fields = {"kernel": _pair(kernel), "stride": _pair(stride or kernel), "padding": _pair(padding), "ceil": ceil}
        return [_whole(self._emit({"op": "maxpool2d", **fields}, [self._image(self.seen(x), "a pooling")], "maxpool2d"))]

    def _on_native_batch_norm(
        self, x: Tensor, weight: Any, bias: Any, mean: Any, var: Any, training: bool, momentum: float, eps: float
    ) -> list[Seen]:
        own = [self.seen(t) for t in (weight, bias)]
        if training or any(s is None for s in own) or any(id(t) not in self._names for t in (mean, var)):
            _refuse("a batch norm has a circuit with weight, bias and running statistics")
        names = {key: self._weight(s.source, s.index) for key, s in zip(("weight", "bias"), own, strict=True) if s}
        for key, t in (("mean", mean), ("var", var)):
            names[key] = self._names[id(t)][0]
            self.params[names[key]] = array(t)
        source = self._image(self.seen(x), "a batch norm")
        return [_whole(self._emit({"op": "batchnorm2d", **names, "eps": eps}, [source], names["weight"]))]

    def _on__native_batch_norm_legit_no_training(
        self, x: Tensor, weight: Any, bias: Any, mean: Any, var: Any, momentum: float, eps: float
    ) -> list[Seen]:
        return self._on_native_batch_norm(x, weight, bias, mean, var, False, momentum, eps)

    def _on_mean(self, x: Tensor, dims: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Seen:
        read = self.seen(x)
        if read is None or read.source.kind != "node" or dims is None:
            _refuse("this mean has no circuit: only one over all positions has")
        read = self.resolve(read)
        dims = sorted(d % x.dim() for d in (dims if isinstance(dims, list | tuple) else [dims]))
        last = read.index.movedim(dims, tuple(range(-len(dims), 0))).flatten(-len(dims))
        count, channels = read.source.positions, read.source.shape[0]
        own = last // count
        if last.shape[-1] != count or not (own == own[..., :1]).all() or last.unique().numel() != last.numel():
            _refuse("this mean has no circuit: only one over all positions has")
        rows, columns = read.source.shape[1:]
        fields = {"op": "avgpool2d", "kernel": [rows, columns], "stride": [rows, columns]}
        made = self._emit(fields, [read.source], "mean")
        index = own[..., 0]  # sample and channel
        assert made.shape == (channels, 1, 1)
        if keepdim:
            for d in dims:
                index = index.unsqueeze(d)
        return Seen(made, index)

    def _cat(self, tensors: Sequence[Tensor], dim: int = 0) -> Seen:
        read = [self.seen(t) for t in tensors if t.numel()]
        if any(s is None for s in read):
            _refuse("cat of an output and fixed numbers has no circuit")
        parts: list[Seen] = [s for s in read if s is not None]
        kinds = [s.source.kind for s in parts]
        dim %= parts[0].index.dim()
        if kinds == ["parameter"] * len(kinds):
            if len({id(s.source) for s in parts}) > 1:
                _refuse("cat of several parameters has no circuit")
            return replace(parts[0], index=torch.cat([s.index for s in parts], dim))
        if kinds == ["parameter", "node"] and dim == 1 and parts[0].index.dim() == 3:
            own, other = parts
            rows = self._rows(other)
            token = own.index.reshape(BATCH, -1)
            in_order = _equal(rows.p, torch.arange(rows.source.positions).repeat(BATCH))
            if token.shape[1] != rows.source.shape[0] or not (token == token[:1]).all() or not in_order:
                _refuse("cat has a circuit for one learned token before a sequence")
            weight = self._weight(own.source, token[0])
            made = self._emit({"op": "prepend", "weight": weight}, [self._in_line(rows.source)], weight)
            return Seen(made, torch.arange(BATCH * math.prod(made.shape)).reshape(BATCH, made.shape[0], -1).mT)
        if set(kinds) != {"node"}:
            _refuse(f"cat of {' and '.join(dict.fromkeys(kinds))} has no circuit")
        found = [self._rows(replace(self.resolve(s), index=self.resolve(s).index.movedim(dim, -1))) for s in parts]
        if not all(_equal(r.b, found[0].b) and _equal(r.p, found[0].p) for r in found):
            _refuse("cat has a circuit for channels")
        made = self._emit({"op": "cat"}, [r.source for r in found], "cat")
        return Seen(made, found[0].index(made).movedim(-1, dim))

    # ------------------------------------------------------------------------------------------------ attention

    def _baddbmm(self, added: Tensor, one: Tensor, other: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Any:
        scores = self._bmm(one, other)
        if (beta, alpha) != (1, 1) or scores.source.kind != "scores" or self.seen(added):
            _refuse("a product of outputs, with something added, has no circuit: attention with a causal mask has")
        return self._masked(scores, added.expand(scores.index.shape) < _MASKED, added)

    def _bmm(self, one: Tensor, other: Tensor) -> Seen:
        first, second = self.seen(one), self.seen(other)
        if first is None or second is None:
            _refuse("a product of an output and fixed numbers has no circuit")
        if second.source.kind == "parameter" and (second.index == second.index[:1]).all():
            flat = replace(first, index=first.index.reshape(-1, first.index.shape[-1]))
            found = self._affine(flat, replace(second, index=second.index[0]), None)
            return replace(found, index=found.index.reshape(*first.index.shape[:-1], -1))
        if first.source.kind == second.source.kind == "node":
            return self._scored(first, second)
        if first.source.kind == "shares" and second.source.kind == "node":
            return self._attended(first, second)
        _refuse("a product of outputs has no circuit: attention of positions to each other has")

    def _heads(self, seen: Seen) -> _Heads:
        """Of [batch * heads, positions, channels]."""
        index = seen.index
        b, c, p = _places(seen.source, index)
        heads = len(index) // BATCH
        wanted = torch.arange(len(index))[:, None, None] // heads
        positions = torch.arange(index.shape[1])[None, :, None]
        if index.shape[1] != seen.source.positions or (b != wanted).any() or (p != positions).any():
            _refuse("attention has a circuit from all positions of a sequence to all of them")
        if (c != c[:, :1]).any() or not _equal(c[:heads], c[heads:]):
            _refuse("attention with other channels at other positions has no circuit")
        return _Heads(seen.source, c[:heads, 0])

    def _scored(self, queries: Seen, keys: Seen) -> Seen:
        """Scores of queries [batch * heads, positions, channels] and keys, turned."""
        scale = self._factor(queries) * self._factor(keys)
        q, k = self._heads(queries), self._heads(replace(keys, index=keys.index.mT))
        if q.channels.shape != k.channels.shape or q.source.positions != k.source.positions:
            _refuse("attention to another sequence has no circuit")
        length = q.source.positions
        shape = (len(q.channels), length, length)
        index = torch.arange(BATCH * math.prod(shape)).reshape(-1, length, length)
        return Seen(Source("scores", "", shape, _Scores(q, k, scale)), index)

    def _factor(self, seen: Seen) -> float:
        """By what entries were multiplied."""
        at = torch.tensor([0.0, 1.0, -2.0], dtype=torch.float64)
        y = seen.expression.of(at)
        factor = float(y[1])
        if y[0] != 0 or not math.isclose(float(y[2]), -2 * factor, rel_tol=1e-12):
            _refuse("queries, keys or scores are changed otherwise than by a factor, which has no circuit")
        return factor

    def _masked(self, seen: Seen, forbidden: Tensor, numbers: Tensor | None = None) -> Seen:
        """Scores of which some count for nothing."""
        pairs = self._pairs(seen)
        if numbers is not None and not ((numbers == 0) | (numbers < _MASKED)).all():
            _refuse("numbers that are added to scores have no circuit: only a causal mask has")
        scale = pairs.scale * self._factor(seen)
        heads, length = seen.source.shape[:2]
        wide = forbidden.expand(seen.index.shape).reshape(BATCH * heads, length, length)
        causal = torch.ones(length, length, dtype=torch.bool).triu(1)
        if wide.any() and not (wide == causal).all():
            _refuse("this mask has no circuit: attention is to all positions, or to those up to one's own (causal)")
        made = _Scores(pairs.queries, pairs.keys, scale, pairs.causal or bool(wide.any()))
        return Seen(Source("scores", "", seen.source.shape, made), seen.index, problems=seen.problems)

    def _pairs(self, seen: Seen) -> _Scores:
        if seen.source.kind != "scores" or seen.source.pairs is None:
            _refuse("this has a circuit for the scores of attention only")
        if not _equal(seen.index.reshape(-1), torch.arange(seen.index.numel())):
            _refuse("scores that were moved have no circuit")
        return seen.source.pairs

    def _on_masked_fill(self, x: Tensor, mask: Tensor, value: Any) -> Seen:
        seen = self.seen(x)
        number = float(value)
        if seen is None or self.seen(mask) or not number < _MASKED:
            _refuse("masked_fill has a circuit for a causal mask of scores, with -inf")
        return self._masked(seen, mask)

    def _on_where(self, mask: Tensor, x: Any, otherwise: Any) -> Seen:
        seen = self.seen(x)
        if seen is None or self.seen(mask) or self.seen(otherwise) or not (torch.as_tensor(otherwise) < _MASKED).all():
            _refuse("where has a circuit for a causal mask of scores, with -inf")
        return self._masked(seen, ~mask.bool())

    def _shares(self, x: Tensor, dim: int) -> Seen:
        seen = self.seen(x)
        if seen is None or seen.source.kind != "scores" or dim % x.dim() != x.dim() - 1:
            _refuse("a softmax of something else than the scores of attention has no circuit: return the logits")
        pairs = self._pairs(seen)
        made = replace(pairs, scale=pairs.scale * self._factor(seen))
        return Seen(Source("shares", "", seen.source.shape, made), seen.index)

    def _attended(self, shares: Seen, values: Seen) -> Seen:
        """What attention gives, [batch * heads, positions, channels]."""
        pairs = shares.source.pairs
        if shares.expression.function is not None or pairs is None:
            _refuse("a function of the shares of attention has no circuit")
        if not _equal(shares.index.reshape(-1), torch.arange(shares.index.numel())):
            _refuse("shares that were moved have no circuit")
        resolved = self.resolve(values)
        v, (heads, count) = self._heads(resolved), pairs.queries.channels.shape
        if v.channels.shape != (heads, count) or v.source.positions != pairs.queries.source.positions:
            _refuse("values of another number of heads, channels or positions than the queries have no circuit")
        if not math.isclose(pairs.scale * math.sqrt(count), 1, rel_tol=1e-6):
            _refuse(f"scores are multiplied by {pairs.scale:.6g}: a circuit is for 1/sqrt({count}), what a head has")
        parts = [pairs.queries, pairs.keys, v]
        channels = torch.stack([part.channels.reshape(-1) for part in parts])
        source = v.source
        if {id(part.source) for part in parts} == {id(source)} and _equal(
            channels.reshape(-1), torch.arange(3 * heads * count)
        ):
            read = self._picked(source, channels.reshape(-1).tolist())
        else:
            picked = [self._picked(p.source, c.tolist()) for p, c in zip(parts, channels, strict=True)]
            read = self._emit({"op": "cat"}, [self._in_line(p) for p in picked], "cat")
        self.attends = True
        made = self._emit({"op": "attention", "heads": heads, "causal": pairs.causal}, [self._in_line(read)], "attention")
        index = torch.arange(BATCH * math.prod(made.shape)).reshape(BATCH * heads, count, -1).mT
        return Seen(made, index)

    # ------------------------------------------------------------------------------------------------ the graph

    def _emit(self, node: dict[str, Any], inputs: Sequence[Source], wanted: str, path: str | None = None) -> Source:
        """A new node of the graph, called as a parameter's owner or, in the module at `path`, as wanted; and where its
        output is."""
        spec, known = LAYERS[node["op"]].spec, {n["name"] for n in self.graph}
        path = self._here if path is None else path
        stem = wanted.removesuffix("weight").rstrip("._") or wanted
        if wanted not in self.params:
            stem = f"{path}.{wanted}".strip(".")
        elif stem in known and path:
            stem = path  # which has another's parameter
        name, i = stem, 1
        while name in known:
            i += 1
            name = f"{stem}_{i}"
        given = {k: v for k, v in node.items() if k not in spec.options or v != spec.options[k][1]}
        full = {**given, "name": name, "inputs": [source.name for source in inputs]}
        if spec.arrays(fixed=False):
            for key in spec.fields:
                full.setdefault(key, None)
        shape = output_shape(full, [list(source.shape) for source in inputs], self.params)
        self.graph.append(full)
        self._sources[name] = Source("node", name, tuple(shape))
        return self._sources[name]

    def _weight(self, source: Source, index: Tensor) -> str:
        """The name of the tensor of these entries of a parameter, which is kept for the model."""
        used = self._used.setdefault(source.name, [])
        flat = index.reshape(-1)
        for earlier, name in used:
            if _equal(earlier.reshape(-1), flat) and earlier.squeeze().shape == index.squeeze().shape:
                return name
            if np.intersect1d(earlier.numpy(), flat.numpy()).size:
                _refuse(f"parts of {source.name} are used several times: give each a copy")
        name = source.name if not used else f"{source.name}.{len(used) + 1}"
        values = self._module.get_parameter(source.name).detach().reshape(-1)
        self.params[name] = array(values[index])
        used.append((index, name))
        return name

    def finish(self, output: Any) -> Seen:
        """What the module returned, whose node is the last; those that nothing reads are taken out."""
        seen = self.seen(output)
        if seen is None:
            raise UnsupportedLayer("what the module returns does not follow from the samples")
        try:
            seen = self.resolve(seen)
        except (_Refused, ZkcertError) as error:
            seen = replace(seen, problems=(*seen.problems, NotConverted("the output", str(error))))
        needed, kept = {seen.source.name}, []
        for node in reversed(self.graph):
            if node["name"] in needed:
                needed |= set(node["inputs"])
                kept.append(node)
        self.graph = kept[::-1]
        fields = {v for n in self.graph for k, v in n.items() if isinstance(v, str) and k not in ("op", "name")}
        self.params = {name: values for name, values in self.params.items() if name in fields}
        for name, values in self.params.items():
            whole = dict(self._module.named_parameters()).get(name)
            if whole is not None and whole.numel() != values.size:
                self.notes.append(f"{name}: {values.size} of its {whole.numel()} numbers are used, and kept")
        return seen


def array(values: Tensor) -> np.ndarray:
    """Numbers as a model keeps them: float64 if they need it, else float32."""
    found = values.detach().double().numpy()
    narrow = found.astype(np.float32)
    return narrow if (narrow == found).all() else found


def _on_tensors(function: Callable[..., Any]) -> Callable[..., Tensor]:
    """A call whose first argument may be a number."""

    def call(first: Any, *others: Any) -> Tensor:
        if not isinstance(first, Tensor):
            first = torch.tensor(first, dtype=torch.float64)
        others = tuple(torch.tensor(o, dtype=torch.float64) if type(o) is float and _wants_tensor(function) else o for o in others)
        return function(first, *others)

    return call


def _wants_tensor(function: Any) -> bool:
    schema = getattr(getattr(function, "func", function), "_schema", None)
    return schema is not None and len(schema.arguments) > 1 and "Tensor" in str(schema.arguments[1].type)


def _unknown(e: Expression) -> str:
    if e.called in ("mul", "div") and not all(isinstance(a, Expression) for a in e.arguments):
        return "an output that is multiplied by a number has no circuit: multiply the weights before it"
    return f"the function that ends in {e.called} has no circuit: use {', '.join(_KNOWN)}"


def _places(source: Source, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Sample, channel and position of entries of an output."""
    channels, positions = source.shape[0], source.positions
    return index // (channels * positions), index // positions % channels, index % positions


def _whole(source: Source) -> Seen:
    shape = (BATCH, *source.shape)
    return Seen(source, torch.arange(math.prod(shape)).reshape(shape))


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and bool((one == other).all())


def _pair(value: Any) -> list[int]:
    values = list(value) if isinstance(value, list | tuple) else [value]
    return values * 2 if len(values) == 1 else values


def _place() -> str:
    """The line of source that makes the call at hand, the innermost that is neither PyTorch's nor ours."""
    ours = os.path.dirname(os.path.dirname(__file__)), os.path.dirname(torch.__file__)
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith((*ours, "<")):
        frame = frame.f_back
    return f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}" if frame else ""


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
