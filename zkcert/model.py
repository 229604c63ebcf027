"""Model files: a graph, an input specification and weights, read without PyTorch and without running code.

`model.pt` is what torch.save writes for {"graph": [...], "input": {...}, "state_dict": {...}};
`.safetensors` files carry graph and input as JSON in their metadata. Files are untrusted: see `Model.parse`.
"""

from __future__ import annotations

import io
import json
import math
import pickletools
import re
import struct
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from blake3 import blake3

from zkcert.config import canonical_json
from zkcert.data import replacing
from zkcert.errors import RangeOverflow, UnsupportedLayer, UnusableInput

WEIGHT_LIMIT = 16.0
VALUE_LIMIT = 2048.0
MAX_FILE_BYTES = 4 << 30
MAX_HEADER_BYTES = 4 << 20
MAX_STACK = 1 << 16
MAX_LAYERS = 1 << 10
MAX_EXTENT = 1 << 16
MAX_ACTIVATION = 1 << 28

LAYER_KEYS = {
    "conv2d": ("weight", "bias", "stride", "padding"),
    "linear": ("weight", "bias"),
    "relu": (),
    "maxpool2d": ("kernel", "stride"),
    "avgpool2d": ("kernel", "stride"),
    "flatten": (),
    "add": (),
    "batchnorm2d": ("weight", "bias", "mean", "var", "eps"),
}
"""The fields of a node of each kind, besides "op", "name" and "inputs"."""

SAMPLES = "@input"
"""What "inputs" call the samples; no name of a node."""

_NAME = re.compile(r"[A-Za-z0-9_.\-]{1,200}")
_SIZES = {"F16": 2, "BF16": 2, "F32": 4, "F64": 8}
_STORAGES = {"HalfStorage": "F16", "BFloat16Storage": "BF16", "FloatStorage": "F32", "DoubleStorage": "F64"}
_ORDERED_DICT, _REBUILD_TENSOR, _REBUILD_PARAMETER = (
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
)
_GLOBALS = {_ORDERED_DICT, _REBUILD_TENSOR, _REBUILD_PARAMETER, *(f"torch {name}" for name in _STORAGES)}
_HOW_TO_SAVE = "write the file with zkcert.convert.from_module(module, input=...).save(path)"


# --- Reading torch.save's pickle: opcodes are interpreted here, nothing is imported or called ---


@dataclass(frozen=True)
class _Global:
    """An admitted `module name`; inert."""

    name: str


@dataclass(frozen=True)
class _Storage:
    dtype: str
    key: str
    count: int


@dataclass(frozen=True)
class _Tensor:
    """A strided view of a storage; offset, shape and stride in elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


def _damaged(what: str) -> NoReturn:
    raise UnusableInput(f"model file is damaged or not supported: {what}")


def _naturals(value: object) -> bool:
    return type(value) is tuple and all(type(v) is int and v >= 0 for v in value)


def _storage(pid: object) -> _Storage:
    match pid:
        case ("storage", _Global(name), str(key), str(), int(count)):
            dtype = _STORAGES.get(name.removeprefix("torch "))
            if dtype and re.fullmatch("[0-9]{1,9}", key) and _naturals((count,)):
                return _Storage(dtype, key, count)
    _damaged("unknown kind of storage")


def _reduce(function: object, args: object) -> object:
    match function, args:
        case _Global(name=name), () if name == _ORDERED_DICT:
            return {}
        case _Global(name=name), (_Tensor() as tensor, bool(), dict()) if name == _REBUILD_PARAMETER:
            return tensor
        case (
            _Global(name=name),
            (_Storage() as storage, int(offset), tuple(shape), tuple(stride), bool(), dict(), *_),
        ) if name == _REBUILD_TENSOR:
            if _naturals((offset, *shape, *stride)) and len(shape) == len(stride) <= 8:
                return _Tensor(storage, offset, shape, stride)
    _damaged("a call other than that of a tensor")


def _extend(target: object, items: list[object]) -> None:
    if type(target) is not list:
        _damaged("appending to what is no list")
    target.extend(items)


def _set_items(target: object, items: list[object]) -> None:
    if type(target) is not dict or len(items) % 2:
        _damaged("setting items of what is no dictionary")
    for key, value in zip(items[::2], items[1::2], strict=True):
        if type(key) is not str or key in target:
            _damaged("a dictionary key is repeated or no text")
        target[key] = value


def _interpret(data: bytes) -> Any:
    """The value a torch.save pickle (protocol 2) denotes, with tensors as `_Tensor`; raises UnusableInput."""
    stack: list[Any] = []
    marks: list[list[Any]] = []
    memo: dict[Any, Any] = {}

    def pop_mark() -> list[Any]:
        nonlocal stack
        items, stack = stack, marks.pop()
        return items

    for opcode, arg, position in pickletools.genops(data):
        match opcode.name:
            case "PROTO" if arg == 2 and position == 0:
                pass
            case "BINUNICODE" | "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT":
                stack.append(arg)
            case "NONE":
                stack.append(None)
            case "NEWTRUE" | "NEWFALSE":
                stack.append(opcode.name == "NEWTRUE")
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_TUPLE":
                stack.append(())
            case "MARK":
                marks.append(stack)
                stack = []
            case "BINPUT" | "LONG_BINPUT":
                memo[arg] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[arg])
            case "TUPLE":
                items = pop_mark()
                stack.append(tuple(items))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                count = int(opcode.name[-1])
                stack.append(tuple([stack.pop() for _ in range(count)][::-1]))
            case "APPEND":
                value = stack.pop()
                _extend(stack[-1], [value])
            case "APPENDS":
                items = pop_mark()
                _extend(stack[-1], items)
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                _set_items(stack[-1], [key, value])
            case "SETITEMS":
                items = pop_mark()
                _set_items(stack[-1], items)
            case "GLOBAL":
                if arg not in _GLOBALS:
                    raise UnusableInput(f"model file refers to {ascii(arg)[:80]}, refused; {_HOW_TO_SAVE}")
                stack.append(_Global(arg))
            case "BINPERSID":
                stack.append(_storage(stack.pop()))
            case "REDUCE":
                args, function = stack.pop(), stack.pop()
                stack.append(_reduce(function, args))
            case "BUILD":  # an OrderedDict's attributes, such as state_dict()._metadata: not needed
                stack.pop()
                if type(stack[-1]) is not dict:
                    _damaged("attributes of what is no dictionary")
            case "STOP":
                if len(stack) != 1 or marks or position != len(data) - 1:
                    _damaged("data after the end")
                return stack[0]
            case name:
                _damaged(f"pickle opcode {name}")
        if len(stack) > MAX_STACK or len(marks) > MAX_STACK or len(memo) > MAX_STACK:
            _damaged("too many values")
    _damaged("no end")


# --- Reading files ---


def _floats(raw: bytes | memoryview, dtype: str) -> np.ndarray:
    """Little-endian bytes as float32 (F16 and BF16 too, exactly) or float64."""
    if dtype == "BF16":
        return (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
    with np.errstate(all="ignore"):
        return np.frombuffer(raw, {"F16": "<f2", "F32": "<f4", "F64": "<f8"}[dtype]).astype(
            np.float64 if dtype == "F64" else np.float32
        )


def _gather(tensors: dict[str, _Tensor], members: Mapping[str, bytes | memoryview]) -> dict[str, np.ndarray]:
    """The tensors' values; together they take no more memory than their storages."""
    used: dict[str, int] = {}
    arrays: dict[str, np.ndarray] = {}
    for name, tensor in tensors.items():
        storage, size = tensor.storage, math.prod(tensor.shape)
        used[storage.key] = used.get(storage.key, 0) + size
        if used[storage.key] > storage.count:
            raise UnusableInput(f"tensor {name} shares its values: tied weights are not supported")
        last = tensor.offset + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride, strict=True))
        raw = members.get(storage.key, b"")
        if size == 0 or last >= storage.count or len(raw) != storage.count * _SIZES[storage.dtype]:
            _damaged(f"tensor {name} does not fit its storage")
        flat = _floats(raw, storage.dtype)
        strides = tuple(s * flat.itemsize if n > 1 else 0 for n, s in zip(tensor.shape, tensor.stride, strict=True))
        view = np.lib.stride_tricks.as_strided(flat[tensor.offset :], tensor.shape, strides, writeable=False)
        arrays[name] = np.array(view, order="C")
    return arrays


def _read_torch(data: bytes) -> tuple[Any, Any, dict[str, np.ndarray]]:
    """Graph, input and tensors of a torch.save zip archive."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # genops warns of odd escapes in opcodes that are refused anyway
            infos = archive.infolist()
            if any(i.compress_type or i.file_size != i.compress_size or i.flag_bits & 1 for i in infos):
                _damaged("its zip members must be stored uncompressed")
            if sum(i.file_size for i in infos) > len(data) or len({i.filename for i in infos}) != len(infos):
                _damaged("its zip members overlap")
            heads = [i for i in infos if re.fullmatch(r"[^/]+/data\.pkl", i.filename)]
            if len(heads) != 1 or heads[0].file_size > MAX_HEADER_BYTES:
                _damaged("no data.pkl of reasonable size")
            root = heads[0].filename.removesuffix("data.pkl")
            names = {i.filename for i in infos}
            if root + "byteorder" in names and archive.read(root + "byteorder") != b"little":
                _damaged("it is not little-endian")
            value = _interpret(archive.read(heads[0]))
            prefix = root + "data/"
            members = {n.removeprefix(prefix): archive.read(n) for n in sorted(names) if n.startswith(prefix)}
    except (
        zipfile.BadZipFile,
        NotImplementedError,
        RuntimeError,
        EOFError,
        struct.error,
        OSError,
        OverflowError,
    ) as error:
        _damaged(str(error)[:100])
    except (ValueError, LookupError) as error:
        _damaged(f"its pickle does not parse ({type(error).__name__})")
    match value:
        case {"graph": graph, "input": spec, "state_dict": dict(state)} if len(value) == 3:
            pass
        case _:
            raise UnusableInput(f"model file must hold exactly graph, input and state_dict; {_HOW_TO_SAVE}")
    for name, tensor in state.items():
        if not _NAME.fullmatch(name) or not isinstance(tensor, _Tensor):
            _damaged("state_dict must map plain names to tensors")
    return graph, spec, _gather(state, members)


def _json(text: bytes | str) -> Any:
    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        if len(dict(pairs)) != len(pairs):
            _damaged("a JSON key is repeated")
        return dict(pairs)

    try:
        text = text if isinstance(text, str) else text.decode()
        return json.loads(text, object_pairs_hook=unique, parse_constant=lambda name: _damaged(name))
    except (ValueError, RecursionError):
        _damaged("its JSON does not parse")


def _read_safetensors(data: bytes) -> tuple[Any, Any, dict[str, np.ndarray]]:
    """Graph, input and tensors of a safetensors file; tensors must tile the data without gaps."""
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > min(len(data) - 8, MAX_HEADER_BYTES):
        _damaged(f"neither torch.save's zip format nor safetensors; {_HOW_TO_SAVE}")
    header, body = _json(data[8 : 8 + length]), memoryview(data)[8 + length :]
    match header:
        case {"__metadata__": {"zkcert.graph": str(graph), "zkcert.input": str(spec)}}:
            del header["__metadata__"]
        case _:
            raise UnusableInput(f"safetensors metadata lacks zkcert.graph and zkcert.input; {_HOW_TO_SAVE}")
    tensors, spans, members = {}, [], {}
    for name, entry in header.items():
        match entry:
            case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [int(begin), int(end)]} if (
                len(entry) == 3 and dtype in _SIZES and _NAME.fullmatch(name)
            ):
                extents = tuple(shape)
            case _:
                _damaged("a tensor's description (F64, F32, F16 and BF16 are read)")
        count = (end - begin) // _SIZES[dtype]
        fits = _naturals((begin, end, *extents)) and len(extents) <= 8 and begin <= end <= len(body)
        if not fits or count != math.prod(extents):
            _damaged(f"tensor {name} does not fit its data")
        stride = tuple(math.prod(extents[i + 1 :]) for i in range(len(extents)))
        members[name] = body[begin:end]
        tensors[name] = _Tensor(_Storage(dtype, name, count), 0, extents, stride)
        spans.append((begin, end))
    spans.sort()
    edges = [0, *(end for _, end in spans)]
    if [begin for begin, _ in spans] != edges[:-1] or edges[-1] != len(body):
        _damaged("its tensors do not tile the data")
    return _json(graph), _json(spec), _gather(tensors, members)


# --- Checking graphs ---


def _integers(value: Any, count: int, low: int, what: str) -> list[int]:
    fits = isinstance(value, list | tuple) and len(value) == count
    if fits and all(type(v) is int and low <= v <= MAX_EXTENT for v in value):
        return list(value)
    raise UnusableInput(f"{what} must be {count} integers from {low} to {MAX_EXTENT}")


def _name(value: object, what: str) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise UnusableInput(f"{what} must be a name of letters, digits, '_', '-' and '.'")
    return value


def _check_input(spec: object) -> dict[str, Any]:
    if not isinstance(spec, dict):
        raise UnusableInput("the model's input must be a dictionary with the keys shape, pad, mean, std")
    spec = {"pad": 0, **spec}
    keys = {"shape", "pad", "mean", "std"}
    if lacking := sorted(keys - set(spec)):
        raise UnusableInput(f"the model's input lacks {', '.join(lacking)}; it has shape, pad, mean, std")
    if unknown := sorted(ascii(k)[:40] for k in set(spec) - keys):
        raise UnusableInput(f"the model's input has an unknown key {unknown[0]}; it has shape, pad, mean, std")
    shape = _integers(spec["shape"], 3, 1, "input shape [C, H, W]")
    (pad,) = _integers([spec["pad"]], 1, 0, "input pad")
    checked = {"shape": shape, "pad": pad}
    for key, low, high in (("mean", -VALUE_LIMIT, VALUE_LIMIT), ("std", 2.0**-16, 2.0**16)):
        values = spec[key]
        if not isinstance(values, list | tuple) or len(values) != shape[0]:
            raise UnusableInput(f"input {key} must list one number per channel ({shape[0]})")
        if not all(type(v) in (int, float) and low <= v <= high for v in values):
            raise UnusableInput(f"input {key} must lie between {low:g} and {high:g}")
        checked[key] = [float(v) for v in values]
    return checked


def _check_node(node: object, position: int) -> dict[str, Any]:
    """A node with exactly its fields, lists of ints, names plain."""
    if not isinstance(node, dict) or not isinstance(op := node.get("op"), str):
        raise UnusableInput(f"graph node {position} must be a dictionary with an op")
    name = _name(node.get("name"), f"name of graph node {position}")
    if op not in LAYER_KEYS:
        raise UnsupportedLayer(f"layer {name}: {ascii(op)[:60]} has no circuit; use {', '.join(LAYER_KEYS)}")
    if set(node) - {"inputs"} != {"op", "name", *LAYER_KEYS[op]}:
        raise UnusableInput(f"layer {name}: {op} has exactly the fields {', '.join((*LAYER_KEYS[op], 'op', 'name'))}")
    checked: dict[str, Any] = {"op": op, "name": name}
    if op == "add" or "inputs" in node:
        count, given = 2 if op == "add" else 1, node.get("inputs")
        if not isinstance(given, list | tuple) or len(given) != count:
            raise UnusableInput(f"layer {name}: {op} has {count} inputs")
        checked["inputs"] = [v if v == SAMPLES else _name(v, f"layer {name}: input") for v in given]
    for key in LAYER_KEYS[op]:
        if key == "bias" and node[key] is None and op != "batchnorm2d":
            checked[key] = None
        elif key == "eps":
            checked[key] = _check_eps(node[key], f"layer {name}: eps")
        elif key in ("weight", "bias", "mean", "var"):
            checked[key] = _name(node[key], f"layer {name}: {key}")
        else:
            checked[key] = _integers(node[key], 2, 0 if key == "padding" else 1, f"layer {name}: {key}")
    return checked


def _check_eps(value: object, what: str) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and 2.0**-40 <= value <= 1:
        return float(value)
    raise UnusableInput(f"{what} must lie between 2^-40 and 1")


def _check_inputs(graph: list[dict[str, Any]]) -> list[list[str]]:
    """What each node reads: the previous node, or earlier ones by name; every output but the last is read."""
    known, reads = [SAMPLES], []
    for node in graph:
        if node.get("inputs") == known[-1:]:
            del node["inputs"]
        reads.append(node.get("inputs", known[-1:]))
        for name in reads[-1]:
            if name not in known:
                raise UnusableInput(f"layer {node['name']}: its input {name} is no earlier layer")
        known.append(node["name"])
    read = {name for names in reads for name in names}
    if unread := [name for name in known[1:-1] if name not in read]:
        raise UnusableInput(f"the output of layer {unread[0]} is read by no layer")
    return reads


def _output_shape(node: dict[str, Any], shape: list[int], params: Mapping[str, np.ndarray]) -> list[int]:
    """Shape of the node's output for one sample; raises UnusableInput naming the layer."""
    op, where, received = node["op"], f"layer {node['name']} ({node['op']})", f"an input of shape {shape}"
    if op in ("relu", "add"):
        return shape
    if op == "batchnorm2d":
        if len(shape) != 3 or any(params[node[key]].shape != (shape[0],) for key in ("weight", "bias", "mean", "var")):
            raise UnusableInput(f"{where}: its tensors must have shape [C] for {received} of shape [C, H, W]")
        return shape
    if op == "flatten":
        return [math.prod(shape)]
    rank = 1 if op == "linear" else 3
    if len(shape) != rank:
        wanted = "[features]; put a flatten before it" if rank == 1 else "[C, H, W]"
        raise UnusableInput(f"{where}: its input has shape {shape}, not {wanted}")
    kernel, channels = node.get("kernel", []), shape[0]
    if "weight" in node:
        weight = params[node["weight"]].shape
        if len(weight) != rank + 1 or weight[1] != shape[0]:
            raise UnusableInput(f"{where}: weight of shape {list(weight)} does not fit {received}")
        if node["bias"] is not None and params[node["bias"]].shape != weight[:1]:
            raise UnusableInput(f"{where}: bias must have shape [{weight[0]}]")
        channels, kernel = weight[0], weight[2:]
    if op == "linear":
        return [channels]
    padding = node.get("padding", [0, 0])
    extents = []
    for size, k, stride, pad in zip(shape[1:], kernel, node["stride"], padding, strict=True):
        if k > size + 2 * pad or (pad and pad >= k):
            raise UnusableInput(f"{where}: kernel {list(kernel)}, padding {padding} do not fit {received}")
        extents.append((size + 2 * pad - k) // stride + 1)
    return [channels, *extents]


# --- The model ---


@dataclass(frozen=True, eq=False)
class Model:
    """A validated feed-forward model: public input of the statement.

    graph   nodes in order; each {"op", "name", fields of LAYER_KEYS}; a node reads the previous one, or the
            earlier nodes that "inputs" names ("@input" being the samples): two for an add, otherwise one.
    input   {"shape": [C, H, W], "pad": p, "mean": [C floats], "std": [C floats]}: raw samples, zero padding
            on each side, normalisation; see `input_integers`.
    params  name -> float32 or float64 array, C-contiguous, read-only, in graph order (weight, then bias); to
            the constructor the buffers as well.
    buffers the means and variances of batch-norms, likewise; no parameters (computed).
    shapes  output shape of every node for one sample (computed).

    Raises UnusableInput, UnsupportedLayer (an op without circuit), RangeOverflow (|w| >= 16).
    """

    graph: list[dict[str, Any]]
    input: dict[str, Any]
    params: dict[str, np.ndarray]
    buffers: dict[str, np.ndarray] = field(init=False)
    shapes: list[list[int]] = field(init=False)

    def __post_init__(self) -> None:
        if not isinstance(self.graph, list | tuple) or not 1 <= len(self.graph) <= MAX_LAYERS:
            raise UnusableInput(f"graph must list 1 to {MAX_LAYERS} nodes")
        graph = [_check_node(node, i) for i, node in enumerate(self.graph)]
        if len({node["name"] for node in graph}) != len(graph):
            raise UnusableInput("two layers have the same name")
        trained, fixed = (
            [node[k] for node in graph for k in keys if node.get(k) is not None]
            for keys in (("weight", "bias"), ("mean", "var"))
        )
        order = trained + fixed
        for name in order:
            if name not in self.params or order.count(name) > 1:
                raise UnusableInput(f"tensor {name} is {'used twice' if name in self.params else 'missing'}")
        if unused := sorted(set(self.params) - set(order)):
            raise UnusableInput(f"tensor {unused[0]} is used by no layer")
        spec = _check_input(self.input)
        given = self.params
        object.__setattr__(self, "graph", graph)
        object.__setattr__(self, "input", spec)
        object.__setattr__(self, "params", {name: _check_param(name, given[name]) for name in trained})
        object.__setattr__(self, "buffers", {name: _check_array(name, given[name]) for name in fixed})
        shapes = {SAMPLES: self.input_shape}
        for node, reads in zip(graph, _check_inputs(graph), strict=True):
            received, *others = [shapes[name] for name in reads]
            if math.prod(received) > MAX_ACTIVATION:
                raise UnusableInput(f"layer {node['name']}: its input of shape {received} is too large")
            if any(other != received for other in others):
                raise UnusableInput(f"layer {node['name']}: its inputs have shapes {received} and {others[0]}")
            shapes[node["name"]] = _output_shape(node, received, self.tensors)
        last = shapes[graph[-1]["name"]]
        if len(last) != 1 or not 2 <= last[0] <= MAX_EXTENT:
            raise UnusableInput(f"the last layer must output [classes], two or more, not {last}")
        object.__setattr__(self, "shapes", [shapes[node["name"]] for node in graph])
        _ = self.norms  # raises where they are out of range

    @property
    def input_shape(self) -> list[int]:
        """[C, H + 2 pad, W + 2 pad], what the first node reads."""
        channels, height, width = self.input["shape"]
        return [channels, height + 2 * self.input["pad"], width + 2 * self.input["pad"]]

    @property
    def classes(self) -> int:
        """Number of outputs."""
        return self.shapes[-1][0]

    @property
    def tensors(self) -> dict[str, np.ndarray]:
        """Parameters, then buffers."""
        return {**self.params, **self.buffers}

    @property
    def norms(self) -> dict[str, tuple[list[int], list[int]]]:
        """By batch-norm the integers (A, m), one each per channel, that stand for 1/sqrt(var + eps) and the mean."""
        batch_norms = (node for node in self.graph if node["op"] == "batchnorm2d")
        return {node["name"]: _norm(node, self.buffers) for node in batch_norms}

    @property
    def param_count(self) -> int:
        """P, the number of parameters."""
        return sum(array.size for array in self.params.values())

    def quantized(self, name: str) -> np.ndarray:
        """floor(w 2^32 + 1/2), exactly, as int64 of the tensor's shape; below 2^36 in magnitude."""
        scaled = self.params[name].astype(np.float64) * 2.0**32
        floor = np.floor(scaled)
        return floor.astype(np.int64) + (scaled - floor >= 0.5)

    @cached_property
    def weights_digest(self) -> bytes:
        """BLAKE3 (32 bytes) of the parameters in graph order, then the buffers: name, dtype, shape, little-endian
        bytes."""
        hasher = blake3(b"zkcert weights v1\0" + struct.pack("<Q", len(self.tensors)))
        for name, array in self.tensors.items():
            text = name.encode()
            hasher.update(struct.pack("<QQQ", len(text), array.itemsize, array.ndim) + text)
            hasher.update(struct.pack(f"<{array.ndim}Q", *array.shape))
            hasher.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
        return hasher.digest()

    def circuit_digest_json(self) -> str:
        """Canonical JSON of graph and input: the text the circuit's digest is taken of."""
        return canonical_json({"graph": self.graph, "input": self.input})

    @classmethod
    def load(cls, path: str | Path) -> Model:
        """Read `model.pt` or `.safetensors`; the kind is told by content. Raises as `parse`."""
        try:
            if Path(path).stat().st_size > MAX_FILE_BYTES:
                raise UnusableInput(f"{path} is larger than {MAX_FILE_BYTES >> 30} GiB")
            data = Path(path).read_bytes()
        except OSError as error:
            raise UnusableInput(f"cannot read {path}: {error.strerror}") from error
        return cls.parse(data)

    @classmethod
    def parse(cls, data: bytes) -> Model:
        """The model held by a file's bytes, which are untrusted: nothing is unpickled, imported or run, and
        memory is bounded by the file's size. Raises UnusableInput, UnsupportedLayer, RangeOverflow."""
        return cls(*(_read_torch if data[:2] == b"PK" else _read_safetensors)(data))

    def save(self, path: str | Path) -> None:
        """Write safetensors if `path` ends so, else torch.save's zip format (needs PyTorch). The file appears
        completely or not at all."""
        if Path(path).suffix == ".safetensors":
            with replacing(Path(path), 0o666) as file:
                file.writelines(self._safetensors())
            return
        import torch

        state = {name: torch.tensor(array) for name, array in self.tensors.items()}
        with replacing(Path(path), 0o666) as file:
            torch.save({"graph": self.graph, "input": self.input, "state_dict": state}, file)

    def _safetensors(self) -> Iterable[bytes]:
        metadata = {"zkcert.graph": canonical_json(self.graph), "zkcert.input": canonical_json(self.input)}
        header: dict[str, Any] = {"__metadata__": metadata}
        end = 0
        for name, array in self.tensors.items():
            begin, end = end, end + array.nbytes
            dtype = f"F{8 * array.itemsize}"
            header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [begin, end]}
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        yield struct.pack("<Q", len(text)) + text
        yield from (array.astype(array.dtype.newbyteorder("<")).tobytes() for array in self.tensors.values())


def _check_array(name: str, array: object) -> np.ndarray:
    if not isinstance(array, np.ndarray) or array.dtype not in (np.float32, np.float64) or not array.size:
        raise UnusableInput(f"tensor {name} must be a float32 or float64 array, not empty")
    if not np.isfinite(array).all():
        raise UnusableInput(f"tensor {name} holds NaN or infinity")
    checked = np.array(array, order="C")
    checked.setflags(write=False)
    return checked


def _check_param(name: str, array: object) -> np.ndarray:
    checked = _check_array(name, array)
    largest = float(np.abs(checked).max())
    if largest >= WEIGHT_LIMIT - 2.0**-33:  # the quantised weight would be 2^36
        raise RangeOverflow(f"tensor {name}", largest, WEIGHT_LIMIT, "use weight decay")
    return checked


def _norm(node: Mapping[str, Any], buffers: Mapping[str, np.ndarray]) -> tuple[list[int], list[int]]:
    """A = floor(2^32 / sqrt(var + eps) + 1/2) and m = floor(mean 2^32 + 1/2), from the exact values of the floats and
    the shortest decimal of eps. Raises RangeOverflow from A = 2^43 or |m| = 2^43 on."""
    eps, half = Fraction(repr(node["eps"])), Fraction(1, 2)
    variances = [Fraction(float(v)) + eps for v in buffers[node["var"]]]
    if min(buffers[node["var"]]) < 0 or max(variances) >= 1 << 64:
        raise UnusableInput(f"layer {node['name']}: variances must be from 0 to 2^64")
    # floor(x + 1/2) = floor((floor(2 x) + 1) / 2), and 2 x = sqrt(2^66 / (var + eps))
    factors = [(math.isqrt(math.floor(Fraction(1 << 66) / v)) + 1) // 2 for v in variances]
    means = [math.floor(Fraction(float(v)) * (1 << 32) + half) for v in buffers[node["mean"]]]
    largest = max(*factors, *map(abs, means))
    if largest >= int(VALUE_LIMIT) << 32:
        shown = min(largest, 1 << 200) / 2.0**32
        raise RangeOverflow(f"layer {node['name']}", shown, VALUE_LIMIT, "its mean or 1 / sqrt(var + eps) is too large")
    return factors, means


# --- From samples to integers ---


def input_affine(spec: Mapping[str, Any], kind: str) -> tuple[list[int], list[int]]:
    """Integers (A, C), one per channel, of the normalisation x = (raw - mean)/std in Q31.32.

    kind "u8":  raw = byte/255; x = A byte + C with A = floor(2^32/(255 std) + 1/2).
    kind "q32": raw = q/2^32; x = floor((A q + 2^15)/2^16) + C with A = floor(2^16/std + 1/2).
    Both: C = floor(-mean/std 2^32 + 1/2). mean and std are the rationals their shortest decimals denote.
    Raises RangeOverflow if a byte would normalise to 2048 or more.
    """
    if kind not in ("u8", "q32"):
        raise UnusableInput(f"kind of samples must be u8 or q32, not {kind[:40]!r}")
    half = Fraction(1, 2)
    scale = Fraction(1 << 32, 255) if kind == "u8" else Fraction(1 << 16)
    means, stds = ([Fraction(repr(float(v))) for v in spec[key]] for key in ("mean", "std"))
    slope = [math.floor(scale / std + half) for std in stds]
    shift = [math.floor(-mean / std * (1 << 32) + half) for mean, std in zip(means, stds, strict=True)]
    if kind == "u8":
        largest = max(max(abs(c), abs(255 * a + c)) for a, c in zip(slope, shift, strict=True)) / 2.0**32
        if largest >= VALUE_LIMIT:
            raise RangeOverflow("input", largest, VALUE_LIMIT, "check mean and std")
    return slope, shift


def input_integers(spec: Mapping[str, Any], samples: np.ndarray) -> np.ndarray:
    """Raw samples [..., C, H, W], zero-padded, then normalised: int64 [..., C, H + 2p, W + 2p] in Q31.32.

    uint8 samples are bytes; int64 samples are in Q31.32. Padding becomes the channel's C, not 0.
    Raises RangeOverflow if an int64 sample is 2048 or more, raw or normalised.
    """
    kind = {np.dtype(np.uint8): "u8", np.dtype(np.int64): "q32"}.get(samples.dtype)
    if kind is None or list(samples.shape[-3:]) != spec["shape"]:
        raise UnusableInput(
            f"samples must be uint8 or int64 of shape [..., {', '.join(map(str, spec['shape']))}], "
            f"not {samples.dtype} {list(samples.shape)}"
        )
    slope, shift = (np.array(v, dtype=np.int64)[:, None, None] for v in input_affine(spec, kind))
    width = [(0, 0)] * (samples.ndim - 2) + [(spec["pad"], spec["pad"])] * 2
    raw = np.pad(samples.astype(np.int64), width)
    if kind == "u8":
        return slope * raw + shift
    _check_range(raw)
    # A q needs more than 64 bits: the upper part of q contributes an integer to the quotient.
    return _check_range(slope * (raw >> 16) + ((slope * (raw & 0xFFFF) + (1 << 15)) >> 16) + shift)


def _check_range(values: np.ndarray) -> np.ndarray:
    largest = max(int(values.max(initial=0)), -int(values.min(initial=0))) / 2.0**32
    if largest >= VALUE_LIMIT:
        raise RangeOverflow("input", largest, VALUE_LIMIT, "scale the samples")
    return values


def input_values(spec: Mapping[str, Any], samples: np.ndarray) -> np.ndarray:
    """`input_integers` in real units: float64 [..., C, H + 2p, W + 2p], exact."""
    return input_integers(spec, samples) / 2.0**32
