"""What treats every entry alike: functions, sums and products, and parameters that are added or multiplied."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zkcert.sources.following.entries import (
    BATCH,
    ENTRY,
    Expression,
    Rows,
    Seen,
    Source,
    equal,
    places,
    refuse,
    whole,
)
from zkcert.sources.following.nodes import Nodes

KNOWN: dict[str, tuple[Callable[[Tensor], Tensor], dict[str, Any]]] = {
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


def samples_of_functions() -> Tensor:
    """Where functions are compared: densely near 0, and far out, where bounds would show."""
    far = torch.tensor([9.5, 10.5, 12, 15, 20, 25, 35, 50, 75, 100, 150, 200, 300], dtype=torch.float64)
    return torch.cat([torch.linspace(-9, 9, 2305, dtype=torch.float64), far, -far])


class Pointwise(Nodes):
    """Expressions of entries, which become nodes where a layer reads them."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__(module)
        self._resolved: dict[tuple[int, int], Source] = {}
        self._kept: list[Seen] = []

    def called(self, name: str, func: Any, args: Any, kwargs: Any) -> Any:
        """A function of entries, with numbers beside, or of two outputs."""
        tensors = [a for a in args if isinstance(a, Tensor)]
        read = [s for t in tensors if (s := self.seen(t))]
        numbers = [t for t in tensors if self.seen(t) is None and t.numel() > 1]
        if any(s.source.kind == "tokens" for s in read):
            refuse(f"{name} of the tokens has no circuit: they are embedded only")
        if numbers:
            refuse(f"{name} of an output and fixed numbers has no circuit: learned positions (a parameter) have one")
        parameters = [s for s in read if s.source.kind == "parameter"]
        if parameters and len(read) > len(parameters):
            if len(read) != 2 or kwargs.get("alpha", 1) != 1 or read[0].problems or read[1].problems:
                refuse(f"{name} of an output and a parameter has no circuit")
            (own,) = parameters
            other = next(s for s in read if s is not own)
            return self.with_parameter(name, other, replace(own, index=own.index.expand(other.index.shape)))
        if parameters:
            refuse(f"{name} of parameters")
        first = read[0]
        if all(s.source is first.source and equal(s.index, first.index) for s in read):
            filled = tuple(
                s.expression if (s := self.seen(a)) else a.item() if isinstance(a, Tensor) else a for a in args
            )
            function = partial(func, **kwargs) if kwargs else func
            return replace(first, expression=Expression(_on_tensors(function), filled, name, self.here))
        if name not in ("add", "mul", "sub") or kwargs.get("alpha", 1) != 1 or name == "sub":
            refuse(f"{name} of two outputs has no circuit: sums and products have")
        if name == "mul" and (gated := self.gated(*read)):
            return gated
        shape = torch.broadcast_shapes(*(s.index.shape for s in read))
        if any(s.index.shape != shape for s in read):
            refuse(f"{name} of outputs of shapes {' and '.join(str(list(s.index.shape)[1:]) for s in read)}")
        return self.combined("multiply" if name == "mul" else "add", *read)

    def gated(self, one: Seen, other: Seen) -> Seen | None:
        """An image [batch, C, H, W] times one number for each channel [batch, C, 1, 1]."""
        image, gate = (one, other) if one.index.numel() > other.index.numel() else (other, one)
        batch_and_channels = image.index.shape[:2]
        if image.index.dim() != 4 or gate.index.shape != (*batch_and_channels, 1, 1):
            return None
        image, gate = self.resolve(image), self.resolve(gate)
        if not equal(gate.index.reshape(-1), torch.arange(BATCH * math.prod(gate.source.shape))):
            return None
        source = self.image(image, "a product with gates")
        return whole(self.emit({"op": "multiply"}, [source, gate.source], "multiply"))

    def on_glu(self, x: Tensor, dim: int = -1) -> Seen:
        seen = self.seen(x)
        if seen is None:
            refuse("a GLU reads no output")
        one, gate = (replace(seen, index=half) for half in seen.index.chunk(2, dim))
        sigmoid = Expression(torch.sigmoid, (gate.expression,), "sigmoid", self.here)
        return self.combined("multiply", one, replace(gate, expression=sigmoid))

    def on__prelu_kernel(self, x: Tensor, slope: Tensor) -> Seen:
        seen, own = self.seen(x), self.seen(slope)
        if seen is None or own is None or own.source.kind != "parameter" or own.index.unique().numel() != 1:
            refuse("a PReLU of sequences has a circuit with one slope for all channels")
        read = self.resolve(seen)
        weight = self.weight(own.source, own.index.reshape(-1)[:1])
        return replace(read, source=self.emit({"op": "prelu", "weight": weight}, [read.source], weight))

    def combined(self, op: str, one: Seen, other: Seen) -> Seen:
        """A sum or product of two outputs."""
        first, second = self.resolve(one), self.resolve(other)
        same = first.source.shape == second.source.shape and equal(first.index, second.index)
        if not (same and first.index.unique().numel() == BATCH * math.prod(first.source.shape)):
            axis = self.axis_of_channels(first)
            rows, others = (self.rows(replace(s, index=s.index.movedim(axis, -1))) for s in (first, second))
            if rows.source.positions != others.source.positions or rows.source.shape[0] != others.source.shape[0]:
                refuse("outputs that are added or multiplied are of different shapes")
            if not (equal(rows.b, others.b) and equal(rows.p, others.p)):
                refuse("outputs that are added or multiplied stand in different arrangements")
            sources = [rows.source, others.source]
            if rows.source.shape != others.source.shape:
                sources = [self.in_line(source) for source in sources]
            made = self.emit({"op": op}, sources, op)
            return Seen(made, rows.index(made).movedim(-1, axis))
        made = self.emit({"op": op}, [first.source, second.source], op)
        return Seen(made, first.index)

    def with_parameter(self, name: str, read: Seen, own: Seen) -> Seen:
        """A bias, learned positions, or a factor for each channel."""
        read = self.resolve(read)
        axis = self.axis_of_channels(read)
        rows = self.rows(replace(read, index=read.index.movedim(axis, -1)))
        values = own.index.movedim(axis, -1).reshape(len(rows.b), -1)
        source, count = rows.source, rows.source.positions
        alike = bool((values == values[:1]).all())
        node = next((n for n in self.graph if n["name"] == source.name), None)
        if name == "add" and alike and node and node["op"] in ("conv2d", "linear") and node["bias"] is None:
            node["bias"] = self.weight(own.source, values[0])
            return read
        if name == "mul" and alike and len(source.shape) == 3:
            weight = self.weight(own.source, values[0][:, None, None, None])
            fields = {"op": "conv2d", "weight": weight, "bias": None, "stride": [1, 1], "padding": [0, 0]}
            made = self.emit({**fields, "groups": len(values[0])}, [source], weight)
            return Seen(made, rows.index(made).movedim(-1, axis))
        by_position = torch.empty(count, values.shape[1], dtype=torch.int64)
        by_position[rows.p] = values
        if name != "add" or count == 1 or not equal(by_position[rows.p], values):
            refuse(f"{name} of an output and a parameter has no circuit: learned positions have, which are added")
        if by_position.unique().numel() != by_position.numel():
            refuse("a parameter that is added to several positions or channels has no circuit")
        source = self.in_line(source)
        weight = self.weight(own.source, by_position.T[:, None, :])
        made = self.emit({"op": "positions", "weight": weight}, [source], weight)
        return Seen(made, rows.index(made).movedim(-1, axis))

    @staticmethod
    def axis_of_channels(seen: Seen) -> int:
        """The axis along which entries of an output are the channels of a position: the last of several."""
        if seen.source.kind != "node":
            return -1
        b, c, p = places(seen.source, seen.index)
        for axis in range(seen.index.dim() - 1, 0, -1):
            first = [of.narrow(axis, 0, 1) for of in (b, p)]
            channels = c.movedim(axis, -1).reshape(-1, c.shape[axis])
            if (b == first[0]).all() and (p == first[1]).all() and (channels == channels[:1]).all():
                return axis
        return -1

    def resolve(self, seen: Seen) -> Seen:
        """The same as entries of an output, whose node is added where its expression is a function with a circuit."""
        if seen.expression.function is None:
            return seen
        if seen.source.kind != "node":
            refuse(f"a function of {seen.source.kind} has no circuit")
        x = samples_of_functions()
        if torch.equal(seen.expression.of(x), x):
            return replace(seen, expression=ENTRY)
        key = id(seen.source), id(seen.expression)
        if key not in self._resolved:
            node = self._function(seen.expression)
            if node is None and len(seen.expression.arguments) >= 2:  # as x + f(x)
                one, other, *more = seen.expression.arguments
                op = {"add": "add", "mul": "multiply"}.get(seen.expression.called)
                if op and isinstance(one, Expression) and isinstance(other, Expression) and not more:
                    return self.combined(op, replace(seen, expression=one), replace(seen, expression=other))
            if node is None:
                refuse(_unknown(seen.expression))
            wanted = node.get("function", node["op"])
            self._resolved[key] = self.emit(node, [seen.source], wanted, seen.expression.path)
            self._kept.append(seen)  # and so the ids of its parts
        return Seen(self._resolved[key], seen.index, problems=seen.problems)

    def _function(self, e: Expression) -> dict[str, Any] | None:
        """The node, without a name, that computes an expression."""
        x = samples_of_functions()
        y = e.of(x)
        for function, node in KNOWN.values():
            if torch.allclose(y, function(x), rtol=1e-12, atol=1e-12):
                return node
        plain = e.arguments and e.arguments[0] is ENTRY and not any(isinstance(a, Expression) for a in e.arguments[1:])
        if e.called == "hardtanh" and plain:
            low, high = (*e.arguments[1:], -1.0, 1.0)[:2] if len(e.arguments) > 2 else (-1.0, 1.0)
            return {"op": "hardtanh", "low": float(low), "high": float(high)}
        if e.called == "leaky_relu" and plain:
            return {"op": "leaky_relu", "negative_slope": float((*e.arguments, 0.01)[1])}
        return None

    def rows(self, seen: Seen) -> Rows:
        """The rows of an output whose channels stand last; nodes are added that pick channels or a position."""
        if seen.source.kind != "node":
            refuse(f"a layer reads {seen.source.kind}, not the output of an earlier layer")
        seen = self.flattened(self.resolve(seen))
        source, (*lead, count) = seen.source, seen.index.shape
        index = seen.index.reshape(-1, count)
        b, c, p = places(source, index)
        if not (b == b[:, :1]).all() or not (p == p[:, :1]).all() or not (c == c[:1]).all():
            refuse("it mixes channels and positions in a way that has no circuit")
        b, p = b[:, 0], p[:, 0]
        source = self.picked(source, c[0].tolist())
        own, other = p[b == 0], p[b == 1]
        if not equal(own, other):
            refuse("it treats samples differently")
        if not equal(own.sort().values, torch.arange(source.positions)):
            if own.numel() != 1:
                refuse("a slice of some positions has no circuit: take one, or the mean of all")
            source = self.emit({"op": "take", "position": int(own[0])}, [self.in_line(source)], "take")
            p = torch.zeros_like(p)
        return Rows(source, b, p, tuple(lead))

    def flattened(self, seen: Seen) -> Seen:
        """The same, of a node of its own if it is a whole image as one row."""
        image = seen.source.positions > 1 and seen.index.shape == (BATCH, math.prod(seen.source.shape))
        if not image or not equal(seen.index.reshape(-1), torch.arange(seen.index.numel())):
            return seen
        return replace(seen, source=self.emit({"op": "flatten"}, [seen.source], "flatten"))

    def image(self, seen: Seen | None, what: str) -> Source:
        """The output that a tensor is, as [batch, C, H, W]."""
        if seen is None or seen.source.kind != "node":
            refuse(f"{what} reads something else than the output of an earlier layer")
        seen = self.resolve(seen)
        index = seen.index[:, :, None] if seen.index.dim() == 3 else seen.index  # of channels and one axis
        shape = (BATCH, *seen.source.shape)
        if index.shape != shape or not equal(index, torch.arange(index.numel()).reshape(shape)):
            refuse(f"{what} of a sequence that was put into another arrangement has no circuit")
        return seen.source


def _on_tensors(function: Callable[..., Any]) -> Callable[..., Tensor]:
    """A call whose first argument may be a number."""

    def call(first: Any, *others: Any) -> Tensor:
        if not isinstance(first, Tensor):
            first = torch.tensor(first, dtype=torch.float64)
        others = tuple(
            torch.tensor(o, dtype=torch.float64) if type(o) is float and _wants_tensor(function) else o for o in others
        )
        return function(first, *others)

    return call


def _wants_tensor(function: Any) -> bool:
    schema = getattr(getattr(function, "func", function), "_schema", None)
    return schema is not None and len(schema.arguments) > 1 and "Tensor" in str(schema.arguments[1].type)


def _unknown(e: Expression) -> str:
    if e.called in ("mul", "div") and not all(isinstance(a, Expression) for a in e.arguments):
        return "an output that is multiplied by a number has no circuit: multiply the weights before it"
    if e.called == "pow":
        return "a square has no circuit: neither has an RMSNorm, but a LayerNorm has"
    return f"the function that ends in {e.called} has no circuit: use {', '.join(KNOWN)}"
