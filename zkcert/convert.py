"""PyTorch modules to `Model` and back. Needs PyTorch."""

from __future__ import annotations

import copy
import inspect
import operator
import pkgutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.parameter import is_lazy

from circuits.graph import SAMPLES
from circuits.layers import LAYERS
from circuits.layers.spec import Array, LayerSpec
from prover.execution.layers import Executor
from prover.execution.layers.pytorch import TorchForm
from zkcert.errors import UnsupportedLayer, UnusableInput, ZkcertError
from zkcert.public.graph import check_input
from zkcert.public.model import Model, byte_units, check_array, check_param, in_byte_units
from zkcert.sources.channels import Moved
from zkcert.sources.following.entries import (
    ONE_LOGIT,
    NotConverted,
    as_samples,
    config_without_cache,
    example,
    logits_of,
    padded,
)
from zkcert.sources.following.follower import Follower, InFloat64, plain_attention
from zkcert.sources.last import channels_first
from zkcert.sources.plain import plain
from zkcert.sources.samples import IMAGES, Reading, possible_readings, what_is_read
from zkcert.sources.tracing import Example, Tracer, first_line, place_of

_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
_IDENTITIES = (nn.Identity, *_DROPOUTS)
_DROPOUT = (F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout)
_SIZES = (getattr, operator.getitem, "size")
_TORCH = {op: Executor.registry[layer].torch for op, layer in LAYERS.items()}
_MODULES = [name.removeprefix("torch.nn.") for layer in _TORCH.values() for form in layer.forms for name in form.names]
_WITH_CIRCUIT = (
    f"make it of {', '.join(n for n in _MODULES if n[0].isupper() and n != 'Flatten')}, cat, sums, products, flatten(1)"
)
_LOGITS = "return the logits, from which the loss is computed: leave it out at the end"
_INSTEAD = {
    **dict.fromkeys(("softmax", "log_softmax", "logsoftmax"), _LOGITS),
    "getitem": "flatten(1) after a pooling to 1x1 does the same as [:, :, 0, 0]",
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

    Supported: Conv2d with zero padding, Linear, ReLU, ReLU6, Hardtanh, LeakyReLU, PReLU, Hardsigmoid, Hardswish,
    Sigmoid, Tanh, SiLU, GELU, ELU, Softplus, BatchNorm2d and (of features) BatchNorm1d with running statistics,
    GroupNorm and LayerNorm (of features, and of channels that stand last between two permutations) with weights,
    MaxPool2d without dilation, AvgPool2d, AdaptiveAvgPool2d, means over both image axes, Flatten, Identity, Dropout,
    their functional forms, sums and products of two branches and concatenations of channels; weights keep their names.
    What attends is followed as it runs. A module that reads sequences [batch, C, L], for samples of shape [C, 1, L],
    may have the same over one axis (Conv1d, ...): it becomes a model of images of one row. One that gives a single
    logit z becomes a model of two classes with the logits 0 and z.
    DataParallel and torch.compile are taken off; weight-norm, spectral-norm, pruning and other parametrisations are
    folded into the weights that they compute.
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
    model, problems, _ = examine(module, spec)
    if model is None:
        others = len({problem.why for problem in problems}) - 1
        more = f" (and {others} more reasons, which zkcert check lists)" if others else ""
        error = problems[0].error
        error.args = (f"{error}{more}",)
        raise error
    return model


@dataclass(frozen=True)
class Problem:
    """What stands in the way of a conversion.

    error  as `from_module` raises it; layer: its module path or the name of a call, empty for the whole; at: the line
           of source that calls it, "file.py:12", where that is known.
    """

    error: ZkcertError
    layer: str = ""
    at: str = ""

    @property
    def why(self) -> str:
        """The reason, and what to do, without the layer's name."""
        return self.error.why if isinstance(self.error, _Refused | NotConverted) else str(self.error)


def examine(module: nn.Module, spec: dict[str, Any]) -> tuple[Model | None, list[Problem], list[str]]:
    """The `Model` of a module for a checked input, or None; all problems that can be seen at once, and notes: what was
    folded or taken off before."""
    problems = _not_plain(module, spec)
    if problems:
        return None, problems + _without_circuit(module), []
    module, notes = plain(module)
    if "tokens" in spec:
        return _followed(copy.deepcopy(module).double(), spec, notes)
    traced = _examine(module, spec, list(notes))
    if traced and traced[0]:
        return traced
    own = copy.deepcopy(module).double()
    readings = possible_readings(spec)
    reading = next((r for r in readings if _runs(own, r.of(example(spec)))), readings[0])
    return _followed(own, spec, [*notes, *filter(None, [reading.note])], reading, traced)


def _runs(module: nn.Module, x: Tensor) -> bool:
    with suppress(Exception), torch.no_grad():
        module(x)
        return True
    return False


_Examined = tuple[Model | None, list[Problem], list[str]]


def _followed(
    module: nn.Module,
    spec: dict[str, Any],
    notes: list[str],
    reading: Reading = IMAGES,
    otherwise: _Examined | None = None,
) -> _Examined:
    """`examine` by running a module of float64 on an example, which it reads so; `otherwise` for one without a circuit
    or attention."""
    recurrent = [(path, m) for path, m in module.named_modules() if isinstance(m, nn.RNNBase | nn.RNNCellBase)]
    if recurrent:
        why = "recurrent layers have no circuit: attention and convolutions have"
        errors = [_Refused(path or "the module", f"{type(m).__name__}: {why}") for path, m in recurrent]
        return None, [Problem(error, error.layer) for error in errors], notes
    if "tokens" in spec and spec["shape"][2] == 1:
        return None, [Problem(UnsupportedLayer("the window has one token: give --shape at least 2"))], notes
    x = reading.of(example(spec))
    follower = Follower(module, x, spec["shape"] if "tokens" in spec else padded(spec), tokens="tokens" in spec)
    with config_without_cache(module):
        try:
            with follower.following():
                returned = module(x)
            seen = follower.finish(logits_of(returned))
            problems = [Problem(p, p.layer, p.at) for p in dict.fromkeys((*follower.problems, *seen.problems))]
            problems = problems or [Problem(error) for error in _out_of_range(follower.graph, follower.params)]
            if not problems:
                model = Model(follower.graph, spec, follower.params)
                _compare_followed(model, module, reading)
                from zkcert.provable import require_provable

                require_provable(model)
                return model, [], notes + follower.notes
        except ZkcertError as error:
            problems = [Problem(error)]
        except Exception as error:
            asked = "tokens" in spec and isinstance(error, IndexError)
            rows = f" (has its embedding a row for each of {spec['tokens']} tokens?)" if asked else ""
            failed = UnsupportedLayer(f"the module does not run on a batch of two: {first_line(error)}{rows}")
            problems = [Problem(failed, at=place_of(error))]
    return (None, problems, notes) if otherwise is None or follower.attends else otherwise


def _examine(module: nn.Module, spec: dict[str, Any], notes: list[str]) -> _Examined | None:
    """`examine` by torch.fx, of a plain module; None if it cannot be traced."""
    problems: list[Problem] = []
    tracer = Tracer()
    try:
        graph = tracer.trace(module)
        traced = fx.GraphModule(tracer.root, graph)
    except Exception:
        return None
    traced.graph.eliminate_dead_code()
    try:
        kind = what_is_read(module, spec)
    except ZkcertError as error:
        return None, [Problem(error)], notes
    if kind.note:
        notes.append(kind.note)
    if kind.change is not None:
        first = next(node for node in traced.graph.nodes if node.op == "placeholder")
        with traced.graph.inserting_after(first):
            changed = traced.graph.call_function(*kind.change(first))
        first.replace_all_uses_with(changed, lambda user: user is not changed)
    notes += channels_first(traced)
    try:
        model = _read(module, traced, spec, problems, notes, kind)
    except ZkcertError as error:
        problems.append(Problem(error))
    return (None if problems else model), problems, notes


def _read(
    module: nn.Module,
    traced: fx.GraphModule,
    spec: dict[str, Any],
    problems: list[Problem],
    notes: list[str],
    kind: Reading,
) -> Model | None:
    """The model of a traced module; None if there are problems, which are appended, as notes are. Raises
    ZkcertError."""
    reader = _Reader(traced, Example(traced, spec))
    for node in traced.graph.nodes:
        try:
            reader.read(node)
        except ZkcertError as error:
            layer = error.layer if isinstance(error, _Refused) else ""
            problems.append(Problem(error, layer, node.meta.get("source", "")))
            reader.values[node] = SAMPLES  # whatever it is, what reads it is looked at as well
            if node is reader.example.failed:
                break
    if problems:
        return None
    if reader.one_logit():
        reader.graph.append({"op": "binary", "name": reader.unused("binary")})
        notes.append(ONE_LOGIT)
    problems += [Problem(error) for error in _out_of_range(reader.graph, reader.params)]
    if problems:
        return None
    model = Model(reader.graph, spec, reader.params)
    _compare(model, module.double(), kind)
    from zkcert.provable import require_provable

    require_provable(model)
    return model


class _Reader:
    """Nodes of a traced module become nodes of a graph."""

    def __init__(self, module: nn.Module, example: Example) -> None:
        self.module, self.example = module, example
        self.graph: list[dict[str, Any]] = []
        self.params: dict[str, np.ndarray] = {}
        self.owners: dict[int, str] = {}
        self.values: dict[fx.Node, str] = {}  # the graph's node that stands for a traced one
        self.moved = Moved()
        self.result: Any = None  # what the module returns

    def unused(self, name: str, *others: str) -> str:
        """The first of these that is no node's name; the last one if all are."""
        known = {entry["name"] for entry in self.graph}
        return next((text for text in (name, *others) if text not in known), (name, *others)[-1])

    def one_logit(self) -> bool:
        """Whether the module returns a single number per sample."""
        shape = self.result.meta.get("shape", []) if isinstance(self.result, fx.Node) else []
        return len(shape) in (1, 2) and shape[1:] in ([], [1])

    def read(self, node: fx.Node) -> None:
        """Add what a node stands for. Raises UnsupportedLayer."""
        module, graph, params, owners, values = self.module, self.graph, self.params, self.owners, self.values
        found = self.moved.of(node) if node.op.startswith("call_") and "number" not in node.meta else False
        if found is True:
            return  # whoever reads it is known by it
        if not found and node.op.startswith("call_") and (node.target in _SIZES or "number" in node.meta):
            return  # a size, for a reshape or a pooling
        if node.op == "get_attr":
            return  # whoever reads it says so
        if node.op == "placeholder" and not values:
            values[node] = SAMPLES
            return
        name = str(node)
        if node is self.example.failed:
            _refuse(_layer(node), self.example.why)
        reads = [found[0]] if found else _reads(node)
        inputs = [values[arg] for arg in reads if isinstance(arg, fx.Node) and arg in values]
        if not reads or len(inputs) < len(reads):
            _refuse_reader(node, reads, values)
        if node.op == "output":
            self.result = reads[0]
            return
        if _same_values(node):
            values[node] = inputs[0]
            return
        if node.op == "call_module":
            submodule = module.get_submodule(node.target)
            layers = _module_layers(node.target, submodule, reads[0])
            for key, parameter in submodule.named_parameters():
                if (owner := owners.setdefault(id(parameter), name)) != name:
                    _refuse(
                        name, f"shares its {key} with layer {owner}; tied weights are not supported: give each a copy"
                    )
                array = _array(parameter)
                rows = isinstance(submodule, nn.Conv1d) and key == "weight"
                params[f"{node.target}.{key}"] = array[:, :, None] if rows else array
            for key, buffer in submodule.named_buffers():
                if any(f"{node.target}.{key}" in layer.values() for layer in layers):
                    params[f"{node.target}.{key}"] = _array(buffer)
            if all(entry["name"] != node.target for entry in graph):
                name = node.target
        else:
            layers = [{"op": "channels", **found[1]}] if found else _function_layers(node)
        for layer in layers:
            unique = self.unused(name, f"{name}.{layer['op']}")
            default = [graph[-1]["name"] if graph else SAMPLES]
            graph.append({**layer, "name": unique, **({} if inputs == default else {"inputs": inputs})})
            inputs = [unique]
        values[node] = inputs[0]


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
    graph: Sequence[Mapping[str, Any]],
    params: Mapping[str, Tensor],
    x: Tensor,
    *,
    batch_statistics: bool = False,
    seen: Callable[[str, Tensor], None] = lambda name, value: None,
) -> Tensor:
    """Logits [batch, classes] of the graph with the given tensors, in the dtype of its arguments.

    batch_statistics: batch-norm divides by the statistics of this batch instead of the running ones; UnusableInput if
    they are of single values. seen: called with the name of each layer and its output.
    """
    values, previous = {SAMPLES: x}, SAMPLES
    for node in graph:
        x, *others = [values[name] for name in node.get("inputs", [previous])]
        spec = LAYERS[node["op"]].spec
        absent = spec.arrays(fixed=True) if batch_statistics else ()
        named = {key: node[key] for key in (*spec.arrays(fixed=False), *spec.arrays(fixed=True))}
        tensors = {key: None if name is None or key in absent else params[name] for key, name in named.items()}
        x = _TORCH[spec.op].run(F, spec.full(node), tensors, x, *others)
        previous = node["name"]
        values[previous] = x
        seen(previous, x)
    return x


class _Refused(UnsupportedLayer):
    """Of a layer, with the reason and what to do."""

    def __init__(self, layer: str, why: str) -> None:
        self.layer, self.why = layer, why
        super().__init__(f"layer {layer}: {why}")


def _refuse(layer: str, why: str) -> NoReturn:
    raise _Refused(layer, why)


_RESHAPED = {torch.squeeze, torch.unsqueeze, torch.reshape, "squeeze", "unsqueeze", "reshape", "view"}
_EXPANDED = {"expand", "expand_as"}


def _same_values(node: fx.Node) -> bool:
    """Whether a traced node only takes off or puts on the single row of images, or axes of one entry behind features or
    a single logit; or expands numbers per channel, as a product does anyway."""
    if node.target not in _RESHAPED | _EXPANDED or not isinstance(node.args[0], fx.Node):
        return False
    before, after = (n.meta.get("shape", []) for n in (node.args[0], node))
    if node.target in _EXPANDED:
        return before[2:] == [1, 1] and after[:2] == before[:2]
    short, long = sorted([before, after], key=len)
    rows = (len(short), len(long)) == (3, 4) and long == [*short[:2], 1, *short[2:]]
    put_on = len(before) == 2 and after in ([*before, 1], [*before, 1, 1])
    return rows or put_on or (before[1:] == [1] and after == before[:1])


def _out_of_range(graph: list[dict[str, Any]], params: Mapping[str, np.ndarray]) -> list[ZkcertError]:
    """What is wrong with the numbers of each tensor and each layer."""
    out: list[ZkcertError] = []
    for node in graph:
        spec = LAYERS[node["op"]].spec
        before = len(out)
        for fixed, check in ((False, check_param), (True, check_array)):
            for key in spec.arrays(fixed=fixed):
                if node.get(key) in params:
                    try:
                        check(node[key], params[node[key]])
                    except ZkcertError as error:
                        out.append(error)
        if spec.constants is not None and len(out) == before:
            try:
                spec.constants(node, params)
            except ZkcertError as error:
                out.append(error)
    return out


def _without_circuit(module: nn.Module) -> list[Problem]:
    """Modules of PyTorch's that no circuit is for, where no trace shows all calls."""
    known = (*_IDENTITIES, *(form for form in _FORMS if isinstance(form, type)))
    found = []
    for path, m in module.named_modules():
        own = type(m).__module__.startswith("torch.nn.modules.") and not any(m.children())
        if own and not isinstance(m, known) and not isinstance(m, nn.Sequential | nn.ModuleList | nn.ModuleDict):
            error = _Refused(path or "the module", f"{type(m).__name__} has no circuit: {_WITH_CIRCUIT}")
            found.append(Problem(error, error.layer))
    return found


def _target_of(name: str) -> Any:
    """What a traced graph calls: the class of a module, a function, or the name of a method."""
    found = pkgutil.resolve_name(name)
    return name.rpartition(".")[2] if name.startswith("torch.Tensor.") else found


_FORMS: dict[Any, tuple[LayerSpec, TorchForm]] = {
    _target_of(name): (LAYERS[op].spec, form)
    for op, layer in _TORCH.items()
    for form in layer.forms
    for name in form.names
}
"""By what is called: the layer it is, and how its fields follow from the arguments."""


class _Read:
    """See `prover.execution.layers.pytorch.Read`."""

    def __init__(self, source: Any, module: nn.Module | None = None) -> None:
        self.source, self.module = source, module

    def extent(self) -> list[int]:
        shape = self.source.meta.get("shape", [])
        if len(shape) == 3:
            return [1, shape[2]]
        if len(shape) != 4:
            _refuse(_layer(self.source), "its output is not [batch, C, H, W], which pooling reads: pool before flatten")
        return list(shape[2:])

    def channels(self) -> int:
        return int(self.source.meta["shape"][1])

    def rank(self) -> int:
        return len(self.source.meta.get("shape", [])) or 4


def _nodes(name: str, called: str, key: Any, read: _Read, *args: Any, **options: Any) -> list[dict[str, Any]]:
    """The nodes, without names, of a call of `key` of `_FORMS` with these arguments behind what it reads."""
    spec, form = _FORMS[key]
    found = None
    with suppress(TypeError):
        inspect.signature(form.fields).bind(read, *args, **options)
        try:
            found = form.fields(read, *args, **options)
        except ValueError as error:
            _refuse(name, str(error))
    if found is None:
        _refuse(name, f"{called} with these arguments has no circuit: {_WITH_CIRCUIT}")
    return found if isinstance(found, list) else [{"op": spec.op, **found}]


def _module_layers(name: str, m: nn.Module, source: Any) -> list[dict[str, Any]]:
    """The nodes, without names, of a module of exactly a supported type that reads `source`."""
    if type(m) in _IDENTITIES:
        return []
    if type(m) not in _FORMS:
        _refuse(name, f"{type(m).__name__} has no circuit: {_INSTEAD.get(type(m).__name__.lower(), _WITH_CIRCUIT)}")
    spec, form = _FORMS[type(m)]
    known = list(inspect.signature(form.fields).parameters)[1:]
    options = {key: getattr(m, key) for key in known if hasattr(m, key)}
    nodes = _nodes(name, type(m).__name__, type(m), _Read(source, m), **options)
    for key, field in spec.fields.items():
        if isinstance(field, Array):
            attribute = _TORCH[spec.op].attributes.get(key, key)
            nodes[0][key] = None if getattr(m, attribute) is None else f"{name}.{attribute}"
    return nodes


def _function_layers(node: fx.Node) -> list[dict[str, Any]]:
    """The nodes, without names, of a functional call or tensor method."""
    name, target = _layer(node), node.target
    behind = 1 if _joins(node) else len(_reads(node))
    args, options = fx.node.map_arg((node.args[behind:], dict(node.kwargs)), lambda n: n.meta.get("number", n))
    if target in _DROPOUT and (args[1:2] or (options.get("training", True),)) == (False,):
        return []
    if _joins(node) and len(_reads(node)) == 1:
        return []
    if _called(node) == "stochastic_depth" and (args[2:3] or (options.get("training", True),)) == (False,):
        return []  # torchvision's, which is traced as a call
    if target not in _FORMS:
        how = " with these arguments" if target in _DROPOUT else ""
        _refuse(name, f"{_called(node)}{how} has no circuit: {_instead(node)}")
    return _nodes(name, _called(node), target, _Read(_reads(node)[0]), *args, **options)


def _joins(node: fx.Node) -> bool:
    """Whether its first argument is a list of outputs."""
    return node.target in _FORMS and _FORMS[node.target][0].joins


def _reads(node: fx.Node) -> Sequence[Any]:
    """Those of its arguments that are outputs of layers."""
    if _joins(node):
        return node.args[0] if node.args and isinstance(node.args[0], list | tuple) else ()
    return node.args[: _FORMS[node.target][0].inputs if node.target in _FORMS else 1]


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
    if node.op.startswith("call_function") and len(_reads(node)) == 1:
        _refuse(_layer(node), f"{_called(node)} has no circuit: {_instead(node)}")
    _refuse(_layer(node), f"does not read the output of earlier layers alone: {_WITH_CIRCUIT}")


def _not_plain(module: nn.Module, spec: Mapping[str, Any]) -> list[Problem]:
    """Modules that have no weights yet, or none that are floats."""
    out = []
    for path, m in module.named_modules():
        at, kind = path or "the module", type(m).__name__
        own = [*m.parameters(recurse=False), *m.buffers(recurse=False)]
        why = ""
        if any(is_lazy(tensor) for tensor in own):
            shape = ", ".join(map(str, (1, *padded(spec))))
            why = f"{kind} has no weights yet: run module(torch.zeros({shape})) once, then load or train them"
        elif any(tensor.is_meta for tensor in own):
            why = "its weights are on the meta device: load them with load_state_dict(..., assign=True)"
        elif "quantized" in type(m).__module__.split("."):
            why = f"{kind} is quantised: convert the float module it was made of"
        if why:
            error = _Refused(at, why)
            out.append(Problem(error, at))
    return out


def _array(parameter: Tensor) -> np.ndarray:
    """float64 as it is, other floats as float32 (exactly, for 16-bit ones)."""
    dtype = torch.float64 if parameter.dtype == torch.float64 else torch.float32
    return parameter.detach().to(dtype).numpy()


def _compare(model: Model, module: nn.Module, kind: Reading) -> None:
    x = torch.randn(2, *model.input_shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    try:
        with torch.no_grad():
            expected, found = module(kind.of(x)), to_module(model)(x)
    except ZkcertError:
        raise
    except Exception as error:
        raise UnsupportedLayer(f"the module does not run on a batch of two: {first_line(error)}") from error
    expected = _of_classes(model, expected)
    if expected.shape != found.shape or not torch.allclose(expected, found, rtol=1e-9, atol=1e-9):
        raise UnsupportedLayer(
            "the module computes something else than the graph of its layers does: reshape with flatten(1) only, which "
            "mixes neither samples nor axes, and change nothing in place"
        )


def _of_classes(model: Model, logits: Tensor) -> Tensor:
    """Those of two classes, where a module gives one."""
    return F.pad(logits.reshape(-1, 1), (1, 0)) if model.graph[-1]["op"] == "binary" else logits


def _compare_followed(model: Model, module: nn.Module, reading: Reading) -> None:
    """UnsupportedLayer unless both compute the same of other samples, more of them than were followed."""
    x = example(model.input, 3, 1)
    try:
        with plain_attention(), InFloat64():
            expected = _of_classes(model, logits_of(module(reading.of(x))))
        with torch.no_grad():
            as_it_runs = _of_classes(model, logits_of(module(reading.of(x))))
    except Exception as error:
        raise UnsupportedLayer(f"the module does not run on a batch of three: {first_line(error)}") from error
    if not torch.allclose(expected, as_it_runs.double(), rtol=1e-5, atol=1e-5):
        raise UnsupportedLayer(
            "PyTorch's fast path for encoder layers, which it takes in evaluation mode, computes something else than "
            'the module does (a GELU of another form): use activation="gelu", or switch that path off by '
            "torch.backends.mha.set_fastpath_enabled(False)"
        )
    with torch.no_grad():
        found = to_module(model)(as_samples(model.input, x))
    if found.dim() == 4:
        found = found[:, :, 0].mT
    if expected.shape != found.shape or not torch.allclose(expected, found, rtol=1e-8, atol=1e-8):
        raise UnsupportedLayer(
            "the module computes something else than the graph of its layers does: it must treat all inputs alike, and "
            "change nothing in place"
        )
