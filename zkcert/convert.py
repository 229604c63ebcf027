"""PyTorch modules to `Model` and back. Needs PyTorch."""

from __future__ import annotations

import copy
import operator
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from zkcert.errors import UnsupportedLayer, UnusableInput, ZkcertError
from zkcert.model import Model

_IDENTITIES = (nn.Identity, nn.Dropout, nn.Dropout2d)
_POOLS = {
    nn.MaxPool2d: "maxpool2d",
    nn.AvgPool2d: "avgpool2d",
    F.max_pool2d: "maxpool2d",
    F.avg_pool2d: "avgpool2d",
}
_POOL_OPTIONS = {
    "padding": 0,
    "dilation": 1,
    "ceil_mode": False,
    "return_indices": False,
    "divisor_override": None,
}
_RELU = (F.relu, torch.relu, "relu")
_FLATTEN = (torch.flatten, "flatten")
_RESHAPE = (torch.reshape, "reshape", "view")
_SIZES = (getattr, operator.getitem, "size")


def from_sequential(module: nn.Sequential, *, input: Mapping[str, Any]) -> Model:
    """The `Model` of an nn.Sequential; `input` and errors as for `from_module`."""
    if not isinstance(module, nn.Sequential):
        raise UnsupportedLayer(f"{type(module).__name__} is no nn.Sequential; use from_module")
    return from_module(module, input=input)


def from_module(module: nn.Module, *, input: Mapping[str, Any]) -> Model:
    """The `Model` of a feed-forward module in evaluation mode, traced with torch.fx.

    input  {"shape": [C, H, W], "pad": p, "mean": [...], "std": [...]}, see `Model`; the module is taken
           to read float tensors [batch, C, H + 2p, W + 2p] that are padded and normalised already: the raw
           image zero-padded by p, then (x/255 - mean)/std for uint8 x, (x - mean)/std for float32 x.

    Supported: Conv2d (groups=1, dilation=1), Linear, ReLU, MaxPool2d and AvgPool2d (no padding, dilation or
    ceil_mode), Flatten, Identity, Dropout, and their functional forms; weights keep their names. Raises
    UnsupportedLayer naming the layer, and what `Model` raises. The result is compared with the module on an
    example, so a reshape that mixes samples or axes is refused.
    """
    if not isinstance(module, nn.Module):
        raise UnusableInput(f"from_module needs an nn.Module, not {type(module).__name__}")
    module = copy.deepcopy(module).cpu().eval()
    try:
        traced = fx.symbolic_trace(module)
    except Exception as error:
        raise UnsupportedLayer(f"the module cannot be traced: {_first_line(error)}") from error
    graph: list[dict[str, Any]] = []
    params: dict[str, np.ndarray] = {}
    owners: dict[int, str] = {}
    previous: fx.Node | None = None
    for node in traced.graph.nodes:
        if node.op == "placeholder" and previous is None:
            previous = node
            continue
        if node.op.startswith("call_") and node.target in _SIZES:
            continue  # the batch size, for a reshape
        name = str(node)
        if node.args[:1] != (previous,):
            _refuse(name, "does not read the layer before it; only feed-forward stacks are supported")
        previous = node
        if node.op == "output":
            break
        if node.op == "call_module":
            submodule = module.get_submodule(node.target)
            if type(submodule) in _IDENTITIES:
                continue
            layer = _module_layer(node.target, submodule)
            for key, parameter in submodule.named_parameters():
                if (owner := owners.setdefault(id(parameter), name)) != name:
                    _refuse(name, f"shares its {key} with layer {owner}; tied weights are not supported")
                params[f"{node.target}.{key}"] = _array(parameter)
            name = name if any(entry["name"] == node.target for entry in graph) else node.target
        else:
            layer = _function_layer(node)
        graph.append({**layer, "name": name})
    model = Model(graph, dict(input), params)
    _compare(model, module.double())
    return model


def to_module(model: Model) -> StackModule:
    """The model as an nn.Module in float64, with the file's weights, not quantised."""
    return StackModule(model)


class StackModule(nn.Module):
    """Float64 rebuild of a `Model`; reads padded, normalised inputs. `weights` follow model.params' order."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.graph = model.graph
        self.names = list(model.params)
        arrays = (torch.tensor(array, dtype=torch.float64) for array in model.params.values())
        self.weights = nn.ParameterList(nn.Parameter(array) for array in arrays)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [batch, classes] of inputs [batch, C, H + 2p, W + 2p], float64."""
        return run_graph(self.graph, dict(zip(self.names, self.weights, strict=True)), x)


def run_graph(graph: Sequence[Mapping[str, Any]], params: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """Logits [batch, classes] of the graph with the given parameters, in the dtype of its arguments."""
    for node in graph:
        match node["op"]:
            case "conv2d":
                bias = None if node["bias"] is None else params[node["bias"]]
                x = F.conv2d(x, params[node["weight"]], bias, node["stride"], node["padding"])
            case "linear":
                x = F.linear(x, params[node["weight"]], None if node["bias"] is None else params[node["bias"]])
            case "relu":
                x = F.relu(x)
            case "maxpool2d":
                x = F.max_pool2d(x, node["kernel"], node["stride"])
            case "avgpool2d":
                x = F.avg_pool2d(x, node["kernel"], node["stride"])
            case "flatten":
                x = x.flatten(1)
            case op:
                _refuse(node["name"], f"{op} has no float64 definition")
    return x


def _refuse(layer: str, why: str) -> NoReturn:
    raise UnsupportedLayer(f"layer {layer}: {why}")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)[:200]


def _pair(value: int | Sequence[int]) -> list[int]:
    return [value, value] if isinstance(value, int) else list(value)


def _module_layer(name: str, m: Any) -> dict[str, Any]:
    """The node, without its name, of a module of exactly a supported type."""
    if type(m) is nn.ReLU:
        return {"op": "relu"}
    if type(m) is nn.Flatten:
        return _flatten(name, m.start_dim, m.end_dim)
    if type(m) in (nn.MaxPool2d, nn.AvgPool2d):
        options = {key: getattr(m, key) for key in _POOL_OPTIONS if hasattr(m, key)}
        return _pool(name, _POOLS[type(m)], m.kernel_size, m.stride, **options)
    if type(m) not in (nn.Linear, nn.Conv2d):
        _refuse(name, f"{type(m).__name__} has no circuit")
    layer = {"op": "linear", "weight": f"{name}.weight", "bias": None if m.bias is None else f"{name}.bias"}
    if type(m) is nn.Linear:
        return layer
    padding = 0 if m.padding == "valid" else m.padding
    if m.groups != 1 or m.dilation != (1, 1) or m.padding_mode != "zeros" or isinstance(padding, str):
        _refuse(name, f"{m}: only groups=1, dilation=1 and numeric zero padding are supported")
    return {**layer, "op": "conv2d", "stride": _pair(m.stride), "padding": _pair(padding)}


def _function_layer(node: fx.Node) -> dict[str, Any]:
    """The node, without its name, of a functional call or tensor method."""
    name, target, args = str(node), node.target, node.args[1:]
    if target in _RELU and not args and set(node.kwargs) <= {"inplace"}:
        return {"op": "relu"}
    if target in _FLATTEN and set(node.kwargs) <= {"start_dim", "end_dim"}:
        return _flatten(name, *args, **node.kwargs)
    if target in _RESHAPE and not node.kwargs:
        shape = args[0] if len(args) == 1 and isinstance(args[0], tuple | list) else args
        if len(shape) == 2:  # [batch, features]; that it is so is checked on the example
            return {"op": "flatten"}
    if target in _POOLS and len(args) <= 2 and (args or "kernel_size" in node.kwargs):
        return _pool(name, _POOLS[target], *args, **node.kwargs)
    called = target if isinstance(target, str) else getattr(target, "__name__", str(target))
    _refuse(name, f"{called} with these arguments has no circuit")


def _flatten(name: str, start_dim: Any = 0, end_dim: Any = -1) -> dict[str, Any]:
    if (start_dim, end_dim) != (1, -1):
        _refuse(name, f"flatten must run from axis 1 to -1, not from {start_dim} to {end_dim}")
    return {"op": "flatten"}


def _pool(name: str, op: str, kernel_size: Any, stride: Any = None, **options: Any) -> dict[str, Any]:
    options.pop("count_include_pad", None)  # there is no padding
    for key, value in options.items():
        default = _POOL_OPTIONS.get(key)
        if value not in (default, (default, default)):
            _refuse(name, f"{op} with {key}={value} is not supported")
    return {
        "op": op,
        "kernel": _pair(kernel_size),
        "stride": _pair(kernel_size if stride is None else stride),
    }


def _array(parameter: Tensor) -> np.ndarray:
    """float64 as it is, other floats as float32 (exactly, for 16-bit ones)."""
    dtype = torch.float64 if parameter.dtype == torch.float64 else torch.float32
    return parameter.detach().to(dtype).numpy()


def _compare(model: Model, module: nn.Module) -> None:
    x = torch.randn(2, *model.input_shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    try:
        with torch.no_grad():
            expected, found = module(x.clone()), to_module(model)(x)
    except ZkcertError:
        raise
    except Exception as error:
        raise UnsupportedLayer(f"the module does not run on a batch of two: {_first_line(error)}") from error
    if expected.shape != found.shape or not torch.allclose(expected, found, rtol=1e-9, atol=1e-9):
        raise UnsupportedLayer("the module computes something else than the stack of its layers does")
