"""Modules of attention: run once on an example, while every operation of PyTorch's is followed.

What a module does to sequences is mostly to move numbers: to split channels into heads, to put positions before them
and back. So each tensor is known by where its entries stand in the output of a node of the graph (or in a parameter):
an index for every entry, made by the same moves. An operation that computes reads from the indices which channels and
positions it gets. Masks, and whatever else does not follow from the samples, are numbers, and are looked at.
"""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from circuits.graph import SAMPLES
from zkcert.errors import UnsupportedLayer, ZkcertError
from zkcert.sources.following.attention import Attending
from zkcert.sources.following.entries import BATCH, ENTRY, ONE_LOGIT, NotConverted, Refused, Seen, Source, equal, refuse
from zkcert.sources.following.pointwise import KNOWN
from zkcert.sources.tracing import OUR_FOLDER, TORCH_FOLDER

_MOVES = re.compile(
    "view|_unsafe_view|_reshape_alias|reshape|permute|transpose|t|expand|slice|select|squeeze|unsqueeze|split|"
    "split_with_sizes|unbind|unfold|clone|alias|detach|lift_fresh|index_select|index|flip|roll|repeat"
)
"""What only moves entries."""

_SAME = ("_to_copy", "contiguous", "dropout")
_FUNCTIONS = ("mish", "celu", "threshold", "log_sigmoid", "abs", "rrelu", "hardshrink", "softshrink", "sin", "cos")
"""Some of entries that have no circuit."""
_OF_THE_WHOLE = {
    "_local_scalar_dense": "it decides by values of the samples: it must treat all inputs alike, without `if` on "
    "values",
    "embedding_renorm": "an embedding with max_norm changes its weights as it runs: set it to None",
}
"""Refused wherever they are called, also if nothing reads what they give."""
_INSTEAD = {
    "_log_softmax": "return the logits, from which the loss is computed",
    "max": "take one position, or the mean of all",
    "sum": "take one position, or the mean of all",
    "constant_pad_nd": "pad in the convolution, on both sides alike",
}
"""The mend for what has no circuit, where it is a particular one."""
_CALLS = re.compile(
    "tanh|sigmoid|relu|gelu|silu|erf|exp|neg|add|sub|rsub|mul|div|pow|hardtanh|hardswish|hardsigmoid|leaky_relu|elu|"
    "softplus"
)
"""What treats all entries alike, with numbers beside."""


class Follower(Attending, TorchDispatchMode):
    """Follows what a module computes of `inputs`, whose samples have this shape.

    problems: what concerns the whole.
    """

    def __init__(self, module: nn.Module, inputs: Tensor, shape: Sequence[int], *, tokens: bool) -> None:
        Attending.__init__(self, module)
        TorchDispatchMode.__init__(self)
        self._tokens = tokens
        self.problems: list[NotConverted] = []
        self.buffers = {id(buffer): (name, buffer) for name, buffer in module.named_buffers()}
        start = Source("tokens" if tokens else "node", SAMPLES, tuple(shape))
        entries = torch.arange(BATCH * math.prod(shape))
        self.note(inputs, Seen(start, entries.reshape(inputs.shape)))
        for name, parameter in module.named_parameters():
            of = Source("parameter", name, tuple(parameter.shape))
            self.note(parameter, Seen(of, torch.arange(parameter.numel()).reshape(parameter.shape)))

    @contextmanager
    def following(self) -> Iterator[None]:
        """In the block calls are followed, and the module that makes them is known."""
        hooks = []
        for path, child in self.module.named_modules():
            hooks.append(child.register_forward_pre_hook(lambda m, a, path=path: self._path.append(path)))
            hooks.append(child.register_forward_hook(self._left, always_call=True))
        try:
            with plain_attention(), InFloat64() as wide, self:
                yield
            if wide.met:
                self.notes.append("what the module computes in float32, whatever it reads, the model has in float64")
        finally:
            for hook in hooks:
                hook.remove()

    def _left(self, module: nn.Module, args: Any, result: Any) -> None:
        self._path.pop()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        known = [s for t in tree_leaves([args, kwargs]) if isinstance(t, Tensor) and (s := self.seen(t))]
        samples = [s for s in known if s.source.kind != "parameter"]
        if not known:
            result = func(*args, **kwargs)
            if any(map(self.is_computed, tree_leaves([args, kwargs]))):
                self.compute(tree_leaves(result))
            return result
        result = func(*args, **kwargs)
        name = func._schema.name.partition("::")[2]
        name = name if name.endswith("__") else name.rstrip("_")
        problems = tuple(dict.fromkeys(p for s in known for p in s.problems))
        outputs = list(result) if isinstance(result, list | tuple) else [result]
        try:
            found = self._follow(name, func, args, kwargs)
        except (Refused, ZkcertError, RuntimeError, IndexError, TypeError) as error:
            if not samples:
                self.compute(outputs)
                return result
            decides = name in _OF_THE_WHOLE
            if decides or not any(s.source.kind == "unknown" for s in known):
                own = str(error) if isinstance(error, Refused | ZkcertError) else f"this use of {name} has no circuit"
                where = self.here or ("the module" if decides else name.strip("_"))
                problem = NotConverted(where, own, _place())
                problems = (*problems, problem)
                if decides:
                    self.problems.append(problem)
            found = [self._instead(samples, t) for t in outputs if isinstance(t, Tensor)]
        for t, s in zip(outputs, found if isinstance(found, list) else [found], strict=False):
            if isinstance(t, Tensor) and s is not None:
                self.note(t, replace(s, problems=tuple(dict.fromkeys((*s.problems, *problems)))))
        return result

    @staticmethod
    def _instead(samples: Sequence[Seen], t: Tensor) -> Seen:
        """What takes the place of an output without a circuit, so that what follows is looked at as well."""
        for s in samples:
            if s.source.kind == "node" and s.index.shape == t.shape:
                return replace(s, expression=ENTRY)
        return Seen(Source("unknown", "", tuple(t.shape[1:])), torch.zeros(t.shape, dtype=torch.int64))

    def _follow(self, name: str, func: Any, args: Any, kwargs: Any) -> Any:
        if _MOVES.fullmatch(name):
            return self._moved(name, func, args, kwargs)
        if name in _SAME:
            return self.seen(args[0])
        if hasattr(self, f"on_{name}"):
            return getattr(self, f"on_{name}")(*args, **kwargs)
        if _CALLS.fullmatch(name):
            return self.called(name, func, args, kwargs)
        if name in ("_softmax", "_safe_softmax", "softmax"):
            return self.shares(args[0], args[1])
        if name in ("native_dropout", "empty_like", "bernoulli"):
            refuse(f"{name} has no circuit: if dropout is on, turn it off with eval(), or training=self.training")
        if name in _OF_THE_WHOLE:
            refuse(_OF_THE_WHOLE[name])
        if (read := self.seen(args[0])) and read.source.kind == "tokens":
            refuse(f"{name} of the tokens has no circuit: they are embedded only")
        called = name.strip("_").removesuffix("_kernel").removesuffix("_forward")
        instead = "" if name not in _INSTEAD else f": {_INSTEAD[name]}"
        if called in _FUNCTIONS:
            instead = f": use {', '.join(KNOWN)}"
        refuse(f"the operation {called} has no circuit{instead}")

    def _moved(self, name: str, func: Any, args: Any, kwargs: Any) -> Any:
        read = self.seen(args[0])
        if read is None or any(self.seen(t) for t in tree_leaves([args[1:], kwargs])):
            refuse(f"{name} picks by what follows from the samples, which has no circuit")
        if name == "clone":
            return read
        moved = func(read.index.contiguous(), *args[1:], **kwargs)
        if isinstance(moved, list | tuple):
            return [replace(read, index=part) for part in moved]
        return replace(read, index=moved)

    def _logits(self, seen: Seen) -> Seen:
        """Of an image [batch, classes], or, of tokens, [batch, L, V], in their order."""
        if seen.source.kind != "node":
            refuse("it returns no output of a layer")
        source, tokens = seen.source, self._tokens
        if not tokens and math.prod(source.shape) == 1:
            made = self.emit({"op": "binary"}, [source], "binary")
            self.notes.append(ONE_LOGIT)
            return Seen(made, torch.arange(2 * BATCH).reshape(BATCH, 2), problems=seen.problems)
        shape = (BATCH, source.shape[0], -1) if tokens else (BATCH, -1)
        wanted = torch.arange(BATCH * math.prod(source.shape)).reshape(shape)
        if not seen.problems and not equal(seen.index, wanted.mT if tokens else wanted):
            what = "a number per token for each position, [batch, L, V]" if tokens else "[batch, classes]"
            refuse(f"the module returns shape {list(seen.index.shape[1:])}, or another order; expected is {what}")
        if not tokens and len(source.shape) == 3:
            source = self.emit({"op": "flatten"}, [source], "flatten")
        return replace(seen, source=source)

    def finish(self, output: Any) -> Seen:
        """What the module returned, whose node is the last; those that nothing reads are taken out."""
        seen = self.seen(output)
        if seen is None:
            what = "" if isinstance(output, Tensor) else f"a {type(output).__name__}, not the logits alone: wrap it"
            raise UnsupportedLayer(f"the module returns {what or 'what does not follow from the samples'}")
        try:
            seen = self._logits(self.resolve(seen))
        except (Refused, ZkcertError) as error:
            if not seen.problems and not self.problems:
                seen = replace(seen, problems=(NotConverted("the output", str(error)),))
        needed, kept = {seen.source.name}, []
        for node in reversed(self.graph):
            if node["name"] in needed:
                needed |= set(node["inputs"])
                kept.append(node)
        self.graph = kept[::-1]
        fields = {v for n in self.graph for k, v in n.items() if isinstance(v, str) and k not in ("op", "name")}
        self.params = {name: values for name, values in self.params.items() if name in fields}
        for name, values in self.params.items():
            whole = dict(self.module.named_parameters()).get(name)
            if whole is not None and whole.numel() != values.size:
                self.notes.append(f"{name}: {values.size} of its {whole.numel()} numbers are used, and kept")
        return seen


class InFloat64(TorchDispatchMode):
    """In the block float64 stays float64, where a module computes a softmax or a norm in float32 whatever it reads.

    met: whether one does.
    """

    met = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        to = kwargs.get("dtype")
        if func is torch.ops.aten._to_copy.default and args[0].dtype == torch.float64 and to in _NARROW:
            kwargs["dtype"], self.met = torch.float64, True
        return func(*args, **kwargs)


_NARROW = (torch.float32, torch.bfloat16, torch.float16)


@contextmanager
def plain_attention() -> Iterator[None]:
    """In the block PyTorch computes attention by its parts."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def _place() -> str:
    """The line of source that makes the call at hand, the innermost that is neither PyTorch's nor ours."""
    ours = OUR_FOLDER, TORCH_FOLDER
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith((*ours, "<")):
        frame = frame.f_back
    return f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}" if frame else ""
