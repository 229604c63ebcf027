"""A module that is built call by call, of what a foreign file describes: its layers are PyTorch's own."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NoReturn

import torch
from torch import Tensor, fx, nn

from zkcert.errors import UnusableInput


class Rebuilt:
    """The calls so far. `input` is the samples; calls give nodes, which other calls take."""

    def __init__(self) -> None:
        self.root, self.graph = nn.Module(), fx.Graph()
        self.input = self.graph.placeholder("x")
        self._paths: set[str] = set()

    def call(self, function: Callable[..., Any], *args: Any, **options: Any) -> fx.Node:
        """The output of a function of PyTorch's, whose first argument is an output, or several. TypeError for arguments
        that are neither outputs nor plain values."""
        first = args[0] if isinstance(args[0], list | tuple) else [args[0]]
        if not first or not all(isinstance(value, fx.Node) for value in first) or not _plain([args, options]):
            raise TypeError("an argument is of another kind")
        return self.graph.call_function(function, args, options)

    def layer(self, wanted: str, layer: nn.Module, *args: fx.Node) -> fx.Node:
        """The output of a new layer, at a path as near to the wanted one as is free. TypeError as of `call`."""
        if not all(isinstance(value, fx.Node) for value in args):
            raise TypeError("an argument is of another kind")
        path = self._free(wanted)
        parent = self.root
        *above, name = path.split(".")
        for step in above:
            if not hasattr(parent, step):
                parent.add_module(step, nn.Module())
            parent = getattr(parent, step)
        parent.add_module(name, layer)
        self._paths.add(path)
        return self.graph.call_module(path, args)

    def again(self, path: str, *args: fx.Node) -> fx.Node:
        """The output of a layer that is there already."""
        return self.graph.call_module(path, args)

    def _free(self, wanted: str) -> str:
        steps = [re.sub(r"\W", "_", step, flags=re.ASCII)[:60] or "layer" for step in wanted.split(".")[:12]]
        if steps[0][:1].isdigit() and len(steps) == 1:
            steps = [f"layer_{steps[0]}"]
        path, i = ".".join(steps), 1
        while path in self._paths or self._taken(path):
            i += 1
            path = ".".join(steps) + f"_{i}"
        return path

    def _taken(self, path: str) -> bool:
        """Whether there is something at a path already, or a layer above it."""
        if any(known.startswith(f"{path}.") or path.startswith(f"{known}.") for known in self._paths):
            return True
        here: Any = self.root
        for step in path.split("."):
            if step not in dict(here.named_children()):
                return hasattr(here, step)
            here = getattr(here, step)
        return True

    def module(self, output: fx.Node) -> nn.Module:
        """All of it."""
        self.graph.output(output)
        return fx.GraphModule(self.root, self.graph).eval()


def _plain(value: Any) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return all(map(_plain, value))
    return value is None or isinstance(value, fx.Node | bool | int | float | str | torch.dtype)


def refuse(file: str, what: str) -> NoReturn:
    """Raise UnusableInput."""
    raise UnusableInput(f"{file}: {what}")


def alike(values: list[int]) -> Any:
    """One number for all axes, where they have the same."""
    return values[0] if values and len(set(values)) == 1 else values


def conv(weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, dilation: Any, groups: int) -> nn.Module:
    """A convolution over one or two axes."""
    kind = {3: nn.Conv1d, 4: nn.Conv2d}[weight.ndim]
    layer = kind(
        weight.shape[1] * groups,
        weight.shape[0],
        tuple(weight.shape[2:]),
        stride=tuple(stride),
        padding=padding if isinstance(padding, str) else tuple(padding),
        dilation=tuple(dilation),
        groups=groups,
        bias=bias is not None,
        device="meta",
    )
    return _filled(layer, weight=weight, bias=bias)


def linear(weight: Tensor, bias: Tensor | None) -> nn.Module:
    """A linear layer; weight (outputs, inputs)."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    return _filled(layer, weight=weight, bias=bias)


def batch_norm(rank: int, weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor, eps: float) -> nn.Module:
    """A batch-norm over outputs of so many axes."""
    kind = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d}[rank]
    layer = kind(len(weight), eps=eps, device="meta")
    for name, value in (("running_mean", mean), ("running_var", var)):
        setattr(layer, name, value.detach().clone())
    layer.num_batches_tracked = torch.zeros((), dtype=torch.int64)
    return _filled(layer, weight=weight, bias=bias)


def prelu(slopes: Tensor) -> nn.Module:
    """A PReLU; slopes (C,) or (1,)."""
    return _filled(nn.PReLU(len(slopes), device="meta"), weight=slopes)


def _filled(layer: nn.Module, **tensors: Tensor | None) -> nn.Module:
    for name, value in tensors.items():
        if value is not None:
            setattr(layer, name, nn.Parameter(value.detach().clone(), requires_grad=False))
    return layer.eval()
