"""PyTorch modules to `Model` and back. Needs PyTorch."""

from __future__ import annotations

import copy
import operator
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NoReturn

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import is_parametrized
from torch.nn.utils.prune import BasePruningMethod

from zkcert.errors import UnsupportedLayer, UnusableInput, ZkcertError
from zkcert.public.graph import SAMPLES, check_input
from zkcert.public.model import Model, byte_units, in_byte_units

_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
_IDENTITIES = (nn.Identity, *_DROPOUTS)
_DROPOUT = (F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout)
_ADD = (operator.add, operator.iadd, torch.add, "add", "add_")
_MEAN = (torch.mean, "mean")
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
_WITH_CIRCUIT = (
    "make it of Conv2d, Linear, ReLU, BatchNorm2d, MaxPool2d, AvgPool2d, AdaptiveAvgPool2d, flatten(1) and sums"
)
_INSTEAD = {
    "cat": "a convolution or linear layer of a concatenation is the sum of one for each part: write it so",
    "getitem": "flatten(1) after a pooling to 1x1 does the same as [:, :, 0, 0]",
    "concat": "a convolution or linear layer of a concatenation is the sum of one for each part: write it so",
}
"""The mend for what has no circuit, where it is a particular one."""


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

    Supported: Conv2d (groups=1, dilation=1), Linear, ReLU, BatchNorm2d with running statistics, MaxPool2d and
    AvgPool2d (no padding, dilation or ceil_mode), AdaptiveAvgPool2d (to sizes that divide), means over both image
    axes, Flatten, Identity, Dropout, their functional forms, and sums of two branches; weights keep their names.
    Raises UnsupportedLayer naming the layer, what `Model` raises, and UnusableInput if no configuration of the probe
    has a circuit for it. The result is compared with the module on an example, so a reshape that mixes samples or
    axes is refused. Warns of mean and std in units of 0..255, which are right for float32 samples in these units only.
    """
    if not isinstance(module, nn.Module):
        raise UnusableInput(f"from_module needs an nn.Module, not {type(module).__name__}")
    spec = check_input(dict(input) if isinstance(input, Mapping) else input)
    if in_byte_units(spec):
        warnings.warn(f"{byte_units(spec)} (unless samples are float32 in these units)", stacklevel=2)
    return of_module(module, spec)


def of_module(module: nn.Module, spec: dict[str, Any]) -> Model:
    """`from_module` for a checked input whose mean and std are in the units of the samples: without its warning."""
    _require_plain(module, spec)
    module = copy.deepcopy(module).cpu().eval()
    try:
        traced = fx.symbolic_trace(module)
    except Exception as error:
        raise UnsupportedLayer(
            f"the module cannot be traced: {_first_line(error)}; it must treat all inputs alike, without `if` on values"
        ) from error
    traced.graph.eliminate_dead_code()
    example = _Example(traced, spec)
    graph: list[dict[str, Any]] = []
    params: dict[str, np.ndarray] = {}
    owners: dict[int, str] = {}
    values: dict[fx.Node, str] = {}  # the graph's node that stands for a traced one
    for node in traced.graph.nodes:
        if node.op.startswith("call_") and (node.target in _SIZES or "number" in node.meta):
            continue  # a size, for a reshape or a pooling
        if node.op == "placeholder" and not values:
            values[node] = SAMPLES
            continue
        name = str(node)
        if node is example.failed:
            _refuse(_layer(node), example.why)
        reads = node.args[: 2 if node.target in _ADD else 1]
        inputs = [values[arg] for arg in reads if isinstance(arg, fx.Node) and arg in values]
        if not reads or len(inputs) < len(reads):
            _refuse_reader(node, reads, values)
        if node.op == "output":
            break
        if node.op == "call_module":
            submodule = module.get_submodule(node.target)
            layers = _module_layers(node.target, submodule, reads[0])
            for key, parameter in submodule.named_parameters():
                if (owner := owners.setdefault(id(parameter), name)) != name:
                    _refuse(
                        name, f"shares its {key} with layer {owner}; tied weights are not supported: give each a copy"
                    )
                params[f"{node.target}.{key}"] = _array(parameter)
            if type(submodule) is nn.BatchNorm2d:
                for key in ("running_mean", "running_var"):
                    params[f"{node.target}.{key}"] = _array(getattr(submodule, key))
            if all(entry["name"] != node.target for entry in graph):
                name = node.target
        else:
            layers = _function_layers(node)
        for layer in layers:
            unique = name if all(entry["name"] != name for entry in graph) else f"{name}.{layer['op']}"
            default = [graph[-1]["name"] if graph else SAMPLES]
            graph.append({**layer, "name": unique, **({} if inputs == default else {"inputs": inputs})})
            inputs = [unique]
        values[node] = inputs[0]
    model = Model(graph, spec, params)
    _compare(model, module.double())
    from zkcert.provable import require_provable

    require_provable(model)
    return model


def to_module(model: Model) -> GraphModule:
    """The model as an nn.Module in float64, with the file's weights, not quantised."""
    return GraphModule(model)


class GraphModule(nn.Module):
    """Float64 rebuild of a `Model`; reads padded, normalised inputs. `weights` follow model.params' order."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.graph = model.graph
        self.names = list(model.params)
        arrays = (torch.tensor(array, dtype=torch.float64) for array in model.params.values())
        self.weights = nn.ParameterList(nn.Parameter(array) for array in arrays)
        self.statistics = {name: torch.tensor(array, dtype=torch.float64) for name, array in model.buffers.items()}

    def forward(self, x: Tensor) -> Tensor:
        """Logits [batch, classes] of inputs [batch, C, H + 2p, W + 2p], float64."""
        return run_graph(self.graph, {**dict(zip(self.names, self.weights, strict=True)), **self.statistics}, x)


def run_graph(
    graph: Sequence[Mapping[str, Any]], params: Mapping[str, Tensor], x: Tensor, *, batch_statistics: bool = False
) -> Tensor:
    """Logits [batch, classes] of the graph with the given tensors, in the dtype of its arguments.

    batch_statistics: batch-norm divides by the statistics of this batch instead of the running ones; UnusableInput if
    they are of single values.
    """
    values = {SAMPLES: x}
    for node in graph:
        if "inputs" in node:
            x, *others = [values[name] for name in node["inputs"]]
        match node["op"]:
            case "conv2d":
                bias = None if node["bias"] is None else params[node["bias"]]
                x = F.conv2d(x, params[node["weight"]], bias, node["stride"], node["padding"])
            case "linear":
                x = F.linear(x, params[node["weight"]], None if node["bias"] is None else params[node["bias"]])
            case "batchnorm2d":
                if batch_statistics and x.numel() == x.shape[1]:
                    raise UnusableInput(f"layer {node['name']}: a single value per channel has no batch statistics")
                mean, var, weight, bias = (params[node[key]] for key in ("mean", "var", "weight", "bias"))
                running = (None, None) if batch_statistics else (mean, var)
                x = F.batch_norm(x, *running, weight, bias, training=batch_statistics, eps=node["eps"])
            case "relu":
                x = F.relu(x)
            case "maxpool2d":
                x = F.max_pool2d(x, node["kernel"], node["stride"])
            case "avgpool2d":
                x = F.avg_pool2d(x, node["kernel"], node["stride"])
            case "flatten":
                x = x.flatten(1)
            case "add":
                x = x + others[0]
            case op:
                _refuse(node["name"], f"{op} has no float64 definition")
        values[node["name"]] = x
    return x


def _refuse(layer: str, why: str) -> NoReturn:
    raise UnsupportedLayer(f"layer {layer}: {why}")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)[:200]


def _pair(value: int | Sequence[int | None] | None) -> list[Any]:
    return list(value) if isinstance(value, tuple | list) else [value, value]


def _module_layers(name: str, m: Any, source: fx.Node) -> list[dict[str, Any]]:
    """The nodes, without names, of a module of exactly a supported type that reads `source`."""
    if type(m) in _IDENTITIES:
        return []
    if type(m) is nn.ReLU:
        return [{"op": "relu"}]
    if type(m) is nn.Flatten:
        return [_flatten(name, m.start_dim, m.end_dim)]
    if type(m) in (nn.MaxPool2d, nn.AvgPool2d):
        options = {key: getattr(m, key) for key in _POOL_OPTIONS if hasattr(m, key)}
        return [_pool(name, _POOLS[type(m)], m.kernel_size, m.stride, **options)]
    if type(m) is nn.AdaptiveAvgPool2d:
        return [_adaptive_pool(name, source, m.output_size)]
    if type(m) is nn.BatchNorm2d:
        if not m.affine or m.running_mean is None:
            _refuse(
                name, "a batch-norm needs running statistics, weight and bias: affine=True, track_running_stats=True"
            )
        tensors = {"weight": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
        return [{"op": "batchnorm2d", "eps": m.eps, **{key: f"{name}.{own}" for key, own in tensors.items()}}]
    if type(m) not in (nn.Linear, nn.Conv2d):
        _refuse(name, f"{type(m).__name__} has no circuit: {_WITH_CIRCUIT}")
    layer = {"op": "linear", "weight": f"{name}.weight", "bias": None if m.bias is None else f"{name}.bias"}
    if type(m) is nn.Linear:
        return [layer]
    padding = 0 if m.padding == "valid" else m.padding
    if m.groups != 1 or m.dilation != (1, 1) or m.padding_mode != "zeros" or isinstance(padding, str):
        _refuse(name, f"{m}: only groups=1, dilation=1 and numeric zero padding are supported")
    return [{**layer, "op": "conv2d", "stride": _pair(m.stride), "padding": _pair(padding)}]


def _function_layers(node: fx.Node) -> list[dict[str, Any]]:
    """The nodes, without names, of a functional call or tensor method."""
    name, target = _layer(node), node.target
    args, options = fx.node.map_arg((node.args[1:], dict(node.kwargs)), lambda n: n.meta.get("number", n))
    if target in _RELU and not args and set(options) <= {"inplace"}:
        return [{"op": "relu"}]
    if target in _FLATTEN and set(options) <= {"start_dim", "end_dim"}:
        return [_flatten(name, *args, **options)]
    if target in _RESHAPE and not options:
        shape = args[0] if len(args) == 1 and isinstance(args[0], tuple | list) else args
        if len(shape) == 2:  # [batch, features]; that it is so is checked on the example
            return [{"op": "flatten"}]
    if target in _POOLS and len(args) <= 2 and (args or "kernel_size" in options):
        return [_pool(name, _POOLS[target], *args, **options)]
    if target is F.adaptive_avg_pool2d and len(args) + len(options) == 1:
        return [_adaptive_pool(name, node.args[0], *args, **options)]
    if target in _MEAN and set(options) <= {"dim", "keepdim"}:
        return _mean(node, *args, **options)
    if target in _ADD and len(args) == 1 and not options:
        return [{"op": "add"}]
    if target in _DROPOUT and (args[1:2] or (options.get("training", True),)) == (False,):
        return []
    _refuse(name, f"{_called(node)} with these arguments has no circuit: {_instead(node)}")


def _called(node: fx.Node) -> str:
    """What a traced node calls."""
    if node.target is operator.getitem:
        return f"a slice ({node})"
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))


def _instead(node: fx.Node) -> str:
    """What to do about a traced node without a circuit."""
    return _INSTEAD.get(
        node.target if isinstance(node.target, str) else getattr(node.target, "__name__", ""), _WITH_CIRCUIT
    )


def _layer(node: fx.Node) -> str:
    """A node's name, with the submodule whose code makes the call where that is not the module itself."""
    path = next(reversed(node.meta.get("nn_module_stack") or {"": None}))
    if node.op == "call_module":
        return str(node.target)
    return f"{node} (in {path})" if path else str(node)


def _refuse_reader(node: fx.Node, reads: Sequence[Any], values: Mapping[fx.Node, str]) -> NoReturn:
    """Refuse a node that reads something else than outputs of earlier layers, and name what stands in the way."""
    if node.op == "output":
        returned = reads[0] if reads else None
        if not isinstance(returned, fx.Node):
            kind = type(returned).__name__.removeprefix("immutable_")
            raise UnsupportedLayer(f"the module returns a {kind}, not the logits alone: wrap it in one that does")
    strange = [arg for arg in reads if not (isinstance(arg, fx.Node) and arg in values)]
    if strange and isinstance(strange[0], fx.Node):
        between = strange[0]
        if between.op == "get_attr":
            _refuse(_layer(node), f"reads {between.target}, not the output of a layer: {_WITH_CIRCUIT}")
        _refuse(_layer(between), f"{_called(between)} has no circuit: {_instead(between)}")
    if node.op.startswith("call_function") and node.target not in _ADD:
        _refuse(_layer(node), f"{_called(node)} has no circuit: {_instead(node)}")
    _refuse(_layer(node), f"does not read the output of earlier layers alone: {_WITH_CIRCUIT}")


class _Example(fx.Interpreter):
    """Runs the traced module on two samples of zeros. Notes in each node's meta the "shape" of a tensor or the "number"
    it gives; `failed` is the node that does not run, if any, and `why` says more."""

    def __init__(self, traced: fx.GraphModule, spec: Mapping[str, Any]) -> None:
        super().__init__(traced)
        self.failed: fx.Node | None = None
        self.why = ""
        self.shape = spec["shape"]
        channels, *extents = self.shape
        dtype = next((parameter.dtype for parameter in traced.parameters()), torch.float32)
        with suppress(Exception), torch.no_grad():
            self.run(torch.zeros(2, channels, *(n + 2 * spec["pad"] for n in extents), dtype=dtype))

    def run_node(self, n: fx.Node) -> Any:
        try:
            result = super().run_node(n)
        except Exception as error:
            self.failed, self.why = n, self._reason(n, error)
            raise
        if isinstance(result, Tensor):
            n.meta["shape"] = list(result.shape)
        elif type(result) is int:
            n.meta["number"] = result
        return result

    def _reason(self, node: fx.Node, error: Exception) -> str:
        read = next((source.meta["shape"] for source in node.all_input_nodes if "shape" in source.meta), None)
        given = f", where it reads shape {read}" if read else ""
        first, middle, last = self.shape
        right = [last, first, middle]
        advice = f"; input shapes are [C, H, W], not [H, W, C]: {right}" if last in (1, 3) and first > 3 else ""
        return f"does not run on a batch of two{given}{advice} ({_first_line(error)})"


def _extent(node: fx.Node) -> list[int]:
    """Height and width of what a traced node computes."""
    shape = node.meta.get("shape", [])
    if len(shape) != 4:
        _refuse(_layer(node), "its output is not [batch, C, H, W], which pooling reads: pool before flatten")
    return list(shape[2:])


_HOOKS = {"WeightNorm": "remove_weight_norm", "SpectralNorm": "remove_spectral_norm"}


def _require_plain(module: nn.Module, spec: Mapping[str, Any]) -> None:
    """UnsupportedLayer for a module that has no weights yet, or computes them from others."""
    for path, m in module.named_modules():
        at, kind = path or "the module", type(m).__name__
        own = [*m.parameters(recurse=False), *m.buffers(recurse=False)]
        if any(is_lazy(tensor) for tensor in own):
            shape = ", ".join(map(str, (1, spec["shape"][0], *(n + 2 * spec["pad"] for n in spec["shape"][1:]))))
            _refuse(at, f"{kind} has no weights yet: run module(torch.zeros({shape})) once, then load or train them")
        if any(tensor.is_meta for tensor in own):
            _refuse(at, "its weights are on the meta device: load them with load_state_dict(..., assign=True)")
        if "quantized" in type(m).__module__.split("."):
            _refuse(at, f"{kind} is quantised: convert the float module it was made of")
        if is_parametrized(m):
            names = ", ".join(name for name, _ in m.get_submodule("parametrizations").named_children())
            _refuse(at, f"its {names} is parametrised: call torch.nn.utils.parametrize.remove_parametrizations on it")
        for hook in m._forward_pre_hooks.values():
            name = getattr(hook, "name", getattr(hook, "_tensor_name", "weight"))
            if isinstance(hook, BasePruningMethod):
                _refuse(at, f'its {name} is pruned: call torch.nn.utils.prune.remove(layer, "{name}") on it')
            if remove := _HOOKS.get(type(hook).__name__):
                _refuse(
                    at, f"its {name} is computed by {type(hook).__name__}: call torch.nn.utils.{remove}(layer) on it"
                )


def _adaptive_pool(name: str, source: fx.Node, output_size: Any) -> dict[str, Any]:
    """Average pooling with the windows of an adaptive one; sizes must divide."""
    extent = _extent(source)
    size = [extent[i] if n is None else n for i, n in enumerate(_pair(output_size))]
    if any(n < 1 or e % n for e, n in zip(extent, size, strict=True)):
        _refuse(name, f"adaptive pooling from {extent} to {size}: sizes must divide, as 1 does")
    kernel = [e // n for e, n in zip(extent, size, strict=True)]
    return {"op": "avgpool2d", "kernel": kernel, "stride": kernel}


def _mean(node: fx.Node, dim: Any = None, keepdim: Any = False) -> list[dict[str, Any]]:
    """The mean over both image axes."""
    axes = {d % 4 for d in dim} if isinstance(dim, tuple | list) else {dim}
    if axes != {2, 3}:
        _refuse(str(node), f"mean over axes {dim}: only the mean over both image axes is supported: dim=(2, 3)")
    source = node.args[0]
    assert isinstance(source, fx.Node)
    pool = _adaptive_pool(str(node), source, 1)
    return [pool] if keepdim else [pool, {"op": "flatten"}]


def _flatten(name: str, start_dim: Any = 0, end_dim: Any = -1) -> dict[str, Any]:
    if (start_dim, end_dim) != (1, -1):
        _refuse(name, f"flatten must run from axis 1 to -1, not from {start_dim} to {end_dim}: flatten(1)")
    return {"op": "flatten"}


def _pool(name: str, op: str, kernel_size: Any, stride: Any = None, **options: Any) -> dict[str, Any]:
    options.pop("count_include_pad", None)  # there is no padding
    for key, value in options.items():
        default = _POOL_OPTIONS.get(key)
        if value not in (default, (default, default)):
            _refuse(name, f"{op} with {key}={value} is not supported: leave {key} at {default}")
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
        raise UnsupportedLayer(
            "the module computes something else than the graph of its layers does: reshape with flatten(1) only, which "
            "mixes neither samples nor axes, and change nothing in place"
        )
