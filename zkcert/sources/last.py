"""Channels that stand last for a while: networks that permute images to [batch, H, W, C], norm and mix channels there,
and permute back. `channels_first` takes the permutations out of a traced module."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

_THERE, _BACK = (0, 2, 3, 1), (0, 3, 1, 2)
_PERMUTES = {torch.permute, "permute"}
_ALIKE = (nn.Identity, nn.Dropout, nn.ReLU, nn.ReLU6, nn.Hardtanh, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.Sigmoid, nn.Tanh)
_ALIKE_CALLS = {
    *(torch.relu, torch.sigmoid, torch.tanh, torch.add, torch.mul, operator.add, operator.iadd, operator.mul),
    *(F.relu, F.relu6, F.hardtanh, F.leaky_relu, F.gelu, F.silu, F.sigmoid, F.tanh, F.dropout),
    *("relu", "sigmoid", "tanh", "add", "mul", "contiguous"),
}
"""What treats all entries alike, wherever channels stand."""
_PRODUCTS = {operator.mul, torch.mul, "mul"}


class ChannelNorm(nn.Module):
    """PyTorch's LayerNorm over channels, at each position of images [batch, C, H, W] by itself."""

    def __init__(self, weight: nn.Parameter, bias: nn.Parameter | None, eps: float) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = weight, bias, eps

    def forward(self, x: Tensor) -> Tensor:
        """[batch, C, H, W], of the same shape."""
        return F.layer_norm(x.movedim(1, -1), self.weight.shape, self.weight, self.bias, self.eps).movedim(-1, 1)


def channels_first(traced: fx.GraphModule) -> list[str]:
    """Change a traced module in place, where everything between two permutations can be done with channels first: layer
    norms become `ChannelNorm`s, linear layers convolutions of 1x1, numbers per channel that multiply an image
    convolutions of as many groups. Returns what was changed, in words; what cannot be changed stays as it was."""
    change = _Change(traced)
    for node in list(traced.graph.nodes):
        change.look_at(node)
    if change.done:
        traced.graph.eliminate_dead_code()
        traced.recompile()
    return change.done


class _Change:
    """`first`: by a node whose channels stand last, the one that gives the same with channels first."""

    def __init__(self, traced: fx.GraphModule) -> None:
        self.traced, self.graph = traced, traced.graph
        self.first: dict[fx.Node, fx.Node] = {}
        self.done: list[str] = []

    def look_at(self, node: fx.Node) -> None:
        read = node.args[0] if node.args and isinstance(node.args[0], fx.Node) else None
        if _axes(node) == _THERE and read is not None and read not in self.first:
            self.first[node] = read
        elif _axes(node) == _BACK and read in self.first:
            node.replace_all_uses_with(self.first[read])
        elif any(source in self.first for source in node.all_input_nodes):
            self._last(node)
        elif node.target in _PRODUCTS and len(node.args) == 2:
            self._scaled(node)

    def _last(self, node: fx.Node) -> None:
        """A node that reads channels where they stand last."""
        read = node.args[0]
        if not isinstance(read, fx.Node):
            return
        module = self.traced.get_submodule(str(node.target)) if node.op == "call_module" else None
        if type(module) is nn.LayerNorm and len(module.normalized_shape) == 1 and module.elementwise_affine:
            self._put(node, str(node.target), ChannelNorm(module.weight, module.bias, module.eps), read)
            self.done.append(f"{node.target}: a layer norm over channels that stand last")
        elif type(module) is nn.Linear:
            self._put(node, str(node.target), _pointwise(module), read)
            self.done.append(f"{node.target}: a linear layer over channels that stand last, as a convolution of 1x1")
        elif node.target is F.layer_norm:
            self._norm_called(node, read)
        elif all(source in self.first for source in node.all_input_nodes) and (
            type(module) in _ALIKE if module else node.target in _ALIKE_CALLS
        ):
            with self.graph.inserting_before(node):
                new = self.graph.node_copy(node, lambda n: self.first[n])
            self._now(node, new)

    def _norm_called(self, node: fx.Node, read: fx.Node) -> None:
        """F.layer_norm(x, shape, weight, bias, eps) with parameters of the module."""
        names = ("input", "normalized_shape", "weight", "bias", "eps")
        given: dict[str, Any] = {"eps": 1e-5, **dict(zip(names, node.args, strict=False)), **node.kwargs}
        weight, bias = (self._parameter(given.get(key)) for key in ("weight", "bias"))
        other = bias is None and given.get("bias") is not None  # something else than a parameter
        if weight is None or other or len(given["normalized_shape"]) != 1:
            return
        path = str(given["weight"].target).rpartition(".")[0] or "norm"
        self._put(node, path, ChannelNorm(weight, bias, given["eps"]), read)
        self.done.append(f"{path}: a layer norm over channels that stand last")

    def _scaled(self, node: fx.Node) -> None:
        """Numbers per channel, of shape [C, 1, 1] or [1, C, 1, 1], times an image."""
        for own, read in (node.args, node.args[::-1]):
            scale = self._parameter(own)
            if (
                scale is None
                or scale.dim() not in (3, 4)
                or scale.shape[-2:] != (1, 1)
                or not isinstance(read, fx.Node)
            ):
                continue
            if scale.numel() != scale.shape[-3]:
                continue
            channels = scale.numel()
            convolution = nn.Conv2d(channels, channels, 1, groups=channels, bias=False, dtype=scale.dtype)
            convolution.weight = nn.Parameter(scale.detach().reshape(channels, 1, 1, 1))
            assert isinstance(own, fx.Node)
            path = f"{own.target}_convolution"
            with self.graph.inserting_before(node):
                self._module(path, convolution)
                new = self.graph.call_module(path, (read,))
            new.meta.update(node.meta)
            node.replace_all_uses_with(new)
            self.done.append(f"{own.target}: numbers per channel that multiply an image, as a convolution of 1x1")
            return

    def _parameter(self, node: Any) -> nn.Parameter | None:
        """The parameter that a traced node gets."""
        if not isinstance(node, fx.Node) or node.op != "get_attr":
            return None
        found: Any = self.traced
        for name in str(node.target).split("."):
            found = getattr(found, name)
        return found if isinstance(found, nn.Parameter) else None

    def _put(self, node: fx.Node, path: str, module: nn.Module, read: fx.Node) -> None:
        """Let a module read, with channels first, what the node reads with channels last."""
        with self.graph.inserting_before(node):
            self._module(path, module)
            self._now(node, self.graph.call_module(path, (self.first[read],)))

    def _module(self, path: str, module: nn.Module) -> None:
        *parents, name = path.split(".")
        owner: nn.Module = self.traced
        for parent in parents:
            if not hasattr(owner, parent):
                setattr(owner, parent, nn.Module())
            owner = getattr(owner, parent)
        setattr(owner, name, module)

    def _now(self, node: fx.Node, new: fx.Node) -> None:
        new.meta.update(node.meta)
        self.first[node] = new


def _axes(node: fx.Node) -> Sequence[int]:
    """The axes of a permutation, from 0 to 3; empty for any other node."""
    if node.target not in _PERMUTES or node.op not in ("call_function", "call_method"):
        return ()
    axes = node.kwargs.get("dims", node.args[1:])
    axes = axes[0] if isinstance(axes, tuple) and len(axes) == 1 and isinstance(axes[0], tuple | list) else axes
    return tuple(a % 4 for a in axes if isinstance(a, int)) if isinstance(axes, tuple | list) else ()


def _pointwise(linear: nn.Linear) -> nn.Conv2d:
    """The convolution of 1x1 with the weights of a linear layer."""
    outputs, inputs = linear.weight.shape
    made = nn.Conv2d(inputs, outputs, 1, bias=linear.bias is not None, dtype=linear.weight.dtype)
    made.weight = nn.Parameter(linear.weight.detach()[:, :, None, None])
    if linear.bias is not None:
        made.bias = linear.bias
    return made
