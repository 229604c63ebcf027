"""proof.bin, model files, data.root and announce.json (files.md)."""

from __future__ import annotations

import json
import math
import re
import struct
import zlib
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from .errors import Reject, require
from .functions import FUNCTIONS
from .transcript import u32, u64

MAGIC = b"zkcert proof 5\n\0"


def canonical(value: object) -> bytes:
    """JSON(x) of README.md."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode("ascii")


def _pairs(pairs: list[tuple[str, object]]) -> dict[str, object]:
    keys = [k for k, _ in pairs]
    require(len(set(keys)) == len(keys), "malformed", "a key is repeated")
    return dict(pairs)


def parse_json(data: bytes, what: str) -> Any:
    """JSON without repeated keys, NaN and infinities."""

    def refuse(_: str) -> object:
        raise Reject("malformed", f"{what}: no number")

    try:
        return json.loads(data.decode("ascii"), object_pairs_hook=_pairs, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise Reject("malformed", f"{what}: {error}") from None


class Reader:
    """Reads a byte string from its start to its end."""

    def __init__(self, data: bytes, what: str) -> None:
        self.data, self.at, self.what = data, 0, what

    def take(self, n: int) -> bytes:
        require(n <= len(self.data) - self.at, "malformed", f"{self.what} is too short")
        self.at += n
        return self.data[self.at - n : self.at]

    def u64(self) -> int:
        return int.from_bytes(self.take(8), "little")

    def section(self, limit: int, name: str) -> bytes:
        n = self.u64()
        require(n <= limit, "malformed", f"section {name} is longer than its limit")
        return self.take(n)

    def end(self) -> None:
        require(self.at == len(self.data), "malformed", f"{self.what}: something follows")


@dataclass
class Proof:
    """The sections of proof.bin."""

    header: bytes
    hashes: bytes
    multiproof: bytes
    roots: bytes
    messages: bytes
    opening: bytes
    pads: bytes


def read_proof(data: bytes) -> Proof:
    """Cut proof.bin into its sections."""
    reader = Reader(data, "proof.bin")
    magic = reader.take(16)
    require(magic == MAGIC, "malformed", "no proof of this version")
    header, hashes = reader.section(1 << 16, "header"), reader.section(1 << 30, "sample hashes")
    multiproof, argument = reader.section(1 << 28, "multi-proof"), reader.section(1 << 30, "argument")
    reader.end()
    inner = Reader(argument, "argument")
    roots, messages = inner.section(96, "roots"), inner.section(1 << 28, "messages")
    opening, pads = inner.section(1 << 28, "opening"), inner.section(1 << 28, "pad proof")
    inner.end()
    require(len(roots) == 96, "malformed", "roots")
    return Proof(header, hashes, multiproof, roots, messages, opening, pads)


def is_int(x: object, low: int, high: int) -> bool:
    """An integer (no boolean) from low to high."""
    return type(x) is int and low <= x <= high


# ---------------------------------------------------------------- models

FIELDS = {
    "conv2d": ("weight", "bias", "stride", "padding"),
    "linear": ("weight", "bias"),
    "relu": (),
    "flatten": (),
    "add": (),
    "multiply": (),
    "prelu": ("weight",),
    "binary": (),
    "leaky_relu": ("negative_slope",),
    "maxpool2d": ("kernel", "stride"),
    "avgpool2d": ("kernel", "stride"),
    "batchnorm2d": ("weight", "bias", "mean", "var", "eps"),
    "cat": (),
    "channels": ("first", "count"),
    "hardtanh": ("low", "high"),
    "adaptiveavgpool2d": ("size",),
    "groupnorm": ("weight", "bias", "groups", "eps"),
    "hardsigmoid": (),
    "hardswish": (),
    "function": ("function",),
    "line": (),
    "positions": ("weight",),
    "prepend": ("weight",),
    "embedding": ("weight",),
    "unembedding": ("weight",),
    "take": ("position",),
    "attention": ("heads", "causal"),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "conv2d": {"dilation": [1, 1], "groups": 1},
    "channels": {"groups": 1},
    "groupnorm": {"each": False},
    "maxpool2d": {"padding": [0, 0], "ceil": False},
    "avgpool2d": {"padding": [0, 0], "ceil": False, "inside": False, "divisor": 0},
}
"""By op, the options of nodes and the values that are left out."""
SIZES = {"F16": 2, "BF16": 2, "F32": 4, "F64": 8}
NAME = re.compile(r"[A-Za-z0-9_.\-]{1,200}\Z")


@dataclass
class Tensor:
    """A tensor of a model file."""

    name: str
    dtype: str
    shape: list[int]
    data: bytes

    def numbers(self) -> list[float]:
        """The exact values as binary64."""
        n = len(self.data) // SIZES[self.dtype]
        if self.dtype == "BF16":
            return [struct.unpack("<f", b"\0\0" + self.data[2 * i : 2 * i + 2])[0] for i in range(n)]
        return list(struct.unpack(f"<{n}{ {'F16': 'e', 'F32': 'f', 'F64': 'd'}[self.dtype] }", self.data))

    def hashed(self) -> tuple[int, bytes]:
        """Size of a number and the numbers, as the digest of the weights has them."""
        if self.dtype in ("F32", "F64"):
            return SIZES[self.dtype], self.data
        return 4, struct.pack(f"<{len(self.data) // 2}f", *self.numbers())


class Model:
    """Graph in normal form, input and tensors, with what follows from them at once."""

    def __init__(self, graph: list[dict], input_: dict, tensors: dict[str, Tensor]) -> None:
        self.graph, self.input, self.tensors = graph, input_, tensors
        check_graph(self)
        named = [g[k] for g in graph for k in ("weight", "bias") if g.get(k) is not None]
        self.parameters = list(dict.fromkeys(named))
        self.tokens: int | None = input_.get("tokens")
        self.pad: int = input_.get("pad", 0)
        tables = [g["weight"] for g in graph if g["op"] == "embedding"]
        self.shared = {g["weight"] for g in graph if g["op"] == "unembedding"} & set(tables)
        norms = [g[k] for g in graph if g["op"] == "batchnorm2d" for k in ("mean", "var")]
        self.names = self.parameters + norms
        require(list(tensors) == self.names, "model", "tensors are not those of the graph, in its order")
        self.inputs: list[list[int]] = []
        self.shapes: list[tuple[int, ...]] = []
        check_shapes(self)

    def node_inputs(self, i: int) -> list[int]:
        return self.inputs[i]


def _pair(x: object, low: int, high: int) -> bool:
    return isinstance(x, list) and len(x) == 2 and all(is_int(v, low, high) for v in x)


def _number(x: object, low: float, high: float) -> bool:
    return type(x) is float and math.isfinite(x) and low <= x <= high


def check_graph(model: Model) -> None:
    """The normal form of the graph and of the input."""
    graph, inp = model.graph, model.input
    require(isinstance(graph, list) and 1 <= len(graph) <= 1024, "model", "graph")
    nodes: set[str] = set()
    tensors: set[str] = set()
    tables = [node.get("weight") for node in graph if isinstance(node, dict) and node.get("op") == "embedding"]
    shared = 0
    for node in graph:
        require(isinstance(node, dict) and isinstance(node.get("op"), str) and node["op"] in FIELDS, "model", "op")
        keys = {"op", "name", *FIELDS[node["op"]]}
        options = OPTIONS.get(node["op"], {})
        require(set(node) - {"inputs"} - set(options) == keys, "model", "keys of a node")
        for key in set(options) & set(node):
            kind = type(options[key])
            require(type(node[key]) is kind and node[key] != options[key], "model", "an option that is left out")
        require(isinstance(node["name"], str) and NAME.match(node["name"]), "model", "name of a node")
        require(node["name"] not in nodes, "model", "two nodes have one name")
        nodes.add(node["name"])
        for key in ("weight", "bias", "mean", "var"):
            if key in node and not (key == "bias" and node[key] is None and node["op"] != "batchnorm2d"):
                name = node[key]
                require(isinstance(name, str) and NAME.match(name), "model", "name of a tensor")
                if node["op"] == "unembedding" and tables == [name] and name.lower() in tensors and not shared:
                    shared = 1
                    continue
                require(name.lower() not in tensors, "model", "a tensor is used twice")
                tensors.add(name.lower())
        for key, low in (("kernel", 1), ("stride", 1), ("padding", 0), ("dilation", 1), ("size", 1)):
            require(key not in node or _pair(node[key], low, 1 << 16), "model", key)
        for key, low in (("groups", 1), ("divisor", 0), ("first", 0), ("count", 1), ("heads", 1), ("position", 0)):
            require(key not in node or is_int(node[key], low, 1 << 16), "model", key)
        require("causal" not in node or isinstance(node["causal"], bool), "model", "causal")
        require(node["op"] != "function" or node["function"] in FUNCTIONS, "model", "function")
        if node["op"] == "hardtanh":
            bounds = node["low"], node["high"]
            require(all(_number(v, -1024.0, 1024.0) and v * 1024 % 1 == 0 for v in bounds), "model", "bounds")
            require(bounds[0] < bounds[1], "model", "bounds")
        least = 2.0**-21 if node["op"] == "groupnorm" else 2.0**-40
        require("eps" not in node or _number(node["eps"], least, 1.0), "model", "eps")
        require("negative_slope" not in node or _number(node["negative_slope"], 0.0, 1.0), "model", "negative_slope")
    require(isinstance(inp, dict), "model", "input")
    require(set(inp) in ({"shape", "pad", "mean", "std"}, {"shape", "tokens"}), "model", "input")
    shape = inp["shape"]
    require(isinstance(shape, list) and len(shape) == 3 and all(is_int(v, 1, 1 << 16) for v in shape), "model", "shape")
    if "tokens" in inp:
        require(shape[:2] == [1, 1] and is_int(inp["tokens"], 2, 1023), "model", "tokens")
        return
    require(is_int(inp["pad"], 0, 1 << 16), "model", "pad")
    for key, least, most in (("mean", -2048.0, 2048.0), ("std", 2.0**-16, 2.0**16)):
        values = inp[key]
        require(isinstance(values, list) and len(values) == shape[0], "model", key)
        require(all(_number(v, least, most) for v in values), "model", key)


def window_outputs(n: int, k: int, s: int, p: int, d: int, ceil: bool) -> int:
    """Outputs of windows along an axis."""
    span = n + 2 * p - (d * (k - 1) + 1)
    if not ceil:
        return span // s + 1
    count = -(-span // s) + 1
    return count - 1 if (count - 1) * s >= n + p else count


def option(node: dict, key: str) -> Any:
    """An option of a node, absent or not."""
    return node.get(key, OPTIONS[node["op"]][key])


def window(node: dict, shape: tuple[int, ...], kernel: list[int]) -> tuple[int, int]:
    """Output rows and columns of a convolution or pool."""
    out = []
    pool = node["op"] != "conv2d"
    dilation = [1, 1] if pool else option(node, "dilation")
    padding = option(node, "padding") if pool else node["padding"]
    for n, k, s, p, d in zip(shape[1:], kernel, node["stride"], padding, dilation):
        outputs = window_outputs(n, k, s, p, d, pool and option(node, "ceil"))
        require(outputs >= 1 and (p == 0 or p < d * (k - 1) + 1), "model", "a window does not fit")
        require(not pool or 2 * p <= k, "model", "a window does not fit")
        out.append(outputs)
    return out[0], out[1]


ROWS = ("line", "positions", "prepend", "take", "attention", "embedding", "unembedding")


def row_shape(model: Model, node: dict, x: tuple[int, ...]) -> tuple[int, ...]:
    """What a layer of sequences gives."""
    op, length = node["op"], x[-1]
    shape: list[int] = []
    if "weight" in node:
        require(node["weight"] in model.tensors, "model", "weight")
        shape = model.tensors[node["weight"]].shape
    if op == "line":
        require(len(x) == 3, "model", "a line reads no image")
        return x[0], 1, x[1] * x[2]
    if op == "positions":
        require(len(x) == 3 and shape == list(x), "model", "shape of positions")
        return x
    if op == "prepend":
        require(shape == [x[0]], "model", "shape of what is prepended")
        return x[0], 1, length + 1
    if op == "take":
        require(node["position"] < length, "model", "position")
        return x[0], 1, 1
    if op == "attention":
        require(x[0] % (3 * node["heads"]) == 0 and length <= 1024, "model", "heads")
        return x[0] // 3, 1, length
    if op == "embedding":
        require(len(shape) == 2 and x[0] == 1, "model", "shape of an embedding")
        return shape[1], 1, length
    require(len(shape) == 2 and shape[1] == x[0], "model", "shape of an unembedding")
    return shape[0], 1, length


def check_shapes(model: Model) -> None:
    """Inputs and shapes of all nodes; shapes and numbers of all tensors."""
    c, h, w = model.input["shape"]
    pad = model.pad
    samples = (c, h + 2 * pad, w + 2 * pad)
    names: dict[str, int] = {"@input": -1}
    read: set[int] = set()
    for i, node in enumerate(model.graph):
        if "inputs" in node:
            given = node["inputs"]
            least, most = {"add": (2, 2), "multiply": (2, 2), "cat": (2, 64)}.get(node["op"], (1, 1))
            require(isinstance(given, list) and least <= len(given) <= most, "model", "inputs")
            require(all(isinstance(g, str) and g in names for g in given), "model", "inputs")
            inputs = [names[g] for g in given]
            require(inputs != [i - 1], "model", "inputs name the previous node alone")
        else:
            require(node["op"] not in ("add", "multiply", "cat"), "model", "an add names its inputs")
            inputs = [i - 1]
        names[node["name"]] = i
        read.update(inputs)
        model.inputs.append(inputs)
        shapes = [samples if j < 0 else model.shapes[j] for j in inputs]
        x, op = shapes[0], node["op"]
        if op == "cat":
            require(all(len(s) == len(x) and s[1:] == x[1:] for s in shapes), "model", "a cat reads other shapes")
            x = (sum(s[0] for s in shapes), *x[1:])
        if op == "multiply" and (len(shapes[1]), shapes[1][1:]) > (len(x), x[1:]):
            x = shapes[1]
        require(math.prod(x) <= 1 << 28, "model", "an input is too large")
        if op in ("conv2d", "maxpool2d", "avgpool2d", "adaptiveavgpool2d"):
            require(len(x) == 3, "model", f"{op} reads no image")
        reads_tokens = model.tokens is not None and -1 in inputs
        require(reads_tokens == (op == "embedding"), "model", "embeddings, and nothing else, read tokens")
        if op in ("take", "prepend", "attention", "embedding", "unembedding"):
            require(len(x) == 3 and x[1] == 1, "model", f"{op} reads no row")
        out: tuple[int, ...]
        if op in ROWS:
            out = row_shape(model, node, x)
        elif op in ("conv2d", "linear"):
            shape = model.tensors[node["weight"]].shape if node["weight"] in model.tensors else []
            groups = option(node, "groups") if op == "conv2d" else 1
            rank = 4 if op == "conv2d" else 2
            require(len(shape) == rank and shape[1] * groups == x[0], "model", "shape of a weight")
            require(shape[0] % groups == 0, "model", "groups")
            require(len(x) == (3 if op == "conv2d" else 1), "model", "shape of an input")
            if node["bias"] is not None:
                require(node["bias"] in model.tensors, "model", "bias")
                require(model.tensors[node["bias"]].shape == [shape[0]], "model", "shape of a bias")
            out = (shape[0],) if op == "linear" else (shape[0], *window(node, x, shape[2:]))
        elif op in ("maxpool2d", "avgpool2d"):
            out = (x[0], *window(node, x, node["kernel"]))
        elif op == "batchnorm2d":
            for key in ("weight", "bias", "mean", "var"):
                require(node[key] in model.tensors and model.tensors[node[key]].shape == [x[0]], "model", key)
            out = x
        elif op == "groupnorm":
            require(len(x) in (1, 3) and x[0] % node["groups"] == 0, "model", "groups")
            for key in ("weight", "bias"):
                if key == "weight" or node[key] is not None:
                    require(node[key] in model.tensors and model.tensors[node[key]].shape == [x[0]], "model", key)
            entries = x[0] // node["groups"] * (1 if option(node, "each") else math.prod(x[1:]))
            require(2 <= entries <= 1 << 20, "model", "entries of a group norm")
            out = x
        elif op == "flatten":
            out = (math.prod(x),)
        elif op == "adaptiveavgpool2d":
            out = (x[0], *node["size"])
        elif op == "cat":
            out = x
        elif op == "multiply":
            require(all(s in (x, (x[0], 1, 1), x[:1]) for s in shapes), "model", "a product of two shapes")
            out = x
        elif op == "prelu":
            require(node["weight"] in model.tensors, "model", "a slope")
            require(model.tensors[node["weight"]].shape in ([1], [x[0]]), "model", "shape of a slope")
            out = x
        elif op == "binary":
            require(x == (1,), "model", "more than one logit")
            out = (2,)
        elif op == "channels":
            require(node["first"] + node["count"] <= x[0], "model", "channels")
            require(node["count"] % option(node, "groups") == 0, "model", "channels")
            out = (node["count"], *x[1:])
        else:
            require(all(s == x for s in shapes), "model", "an add reads two shapes")
            out = x
        model.shapes.append(out)
    require(read >= set(range(len(model.graph) - 1)), "model", "an output is not read")
    last = model.shapes[-1]
    if model.tokens is None:
        require(len(last) == 1 and 2 <= last[0] <= 1 << 16, "model", "number of classes")
    else:
        require(last == (model.tokens, 1, w), "model", "shape of the logits of tokens")
    for tensor in model.tensors.values():
        require(all(math.isfinite(v) for v in tensor.numbers()), "model", "a number is not finite")
    for name in model.parameters:
        numbers = model.tensors[name].numbers()
        require(all(Fraction(abs(v)) < 128 - Fraction(1, 1 << 33) for v in numbers), "model", "a large parameter")


def description(model: Model) -> bytes:
    """The text `D` of files.md, as it must stand."""
    meta = [("zkcert.graph", canonical(model.graph).decode()), ("zkcert.input", canonical(model.input).decode())]
    text = '{"__metadata__":{' + ",".join(f"{json.dumps(k)}:{json.dumps(v)}" for k, v in meta) + "}"
    begin = 0
    for t in model.tensors.values():
        end = begin + len(t.data)
        shape = ",".join(map(str, t.shape))
        text += f',"{t.name}":{{"dtype":"{t.dtype}","shape":[{shape}],"data_offsets":[{begin},{end}]}}'
        begin = end
    data = (text + "}").encode("ascii")
    return data + b" " * (-len(data) % 8)


def parse_description(raw: bytes, blob: bytes) -> Model:
    """The model of a description and of the joined data behind it."""
    require(len(raw) <= 1 << 21, "model", "description too long")
    d = parse_json(raw, "model description")
    require(isinstance(d, dict) and isinstance(d.get("__metadata__"), dict), "model", "description")
    meta = d.pop("__metadata__")
    require(set(meta) == {"zkcert.graph", "zkcert.input"}, "model", "metadata")
    require(all(isinstance(v, str) and v.isascii() for v in meta.values()), "model", "metadata")
    graph = parse_json(meta["zkcert.graph"].encode(), "graph")
    inp = parse_json(meta["zkcert.input"].encode(), "input")
    tensors, at = {}, 0
    require(len(d) <= 1 << 12, "model", "too many tensors")
    for name, entry in d.items():
        require(isinstance(entry, dict) and set(entry) == {"dtype", "shape", "data_offsets"}, "model", "tensor")
        shape, dtype = entry["shape"], entry["dtype"]
        require(isinstance(dtype, str) and dtype in SIZES, "model", "dtype")
        require(isinstance(shape, list) and 1 <= len(shape) <= 8, "model", "shape")
        require(all(is_int(n, 1, 1 << 40) for n in shape), "model", "shape")
        size = math.prod(shape) * SIZES[dtype]
        require(at + size <= len(blob), "model", "data too short")
        tensors[name] = Tensor(name, dtype, shape, blob[at : at + size])
        at += size
    require(at == len(blob), "model", "data too long")
    model = Model(graph, inp, tensors)
    require(description(model) == raw, "model", "the description is not as it is written")
    return model


STORAGE = {"F16": "HalfStorage", "BF16": "BFloat16Storage", "F32": "FloatStorage", "F64": "DoubleStorage"}


def _pickle_value(v: object) -> bytes:
    if v is None:
        return b"N"
    if isinstance(v, bool):
        return b"\x88" if v else b"\x89"
    if isinstance(v, int):
        if 0 <= v < 256:
            return b"K" + bytes([v])
        return b"M" + v.to_bytes(2, "little") if 0 <= v < 1 << 16 else b"J" + v.to_bytes(4, "little", signed=True)
    if isinstance(v, float):
        return b"G" + struct.pack(">d", v)
    if isinstance(v, str):
        return b"X" + u32(len(v.encode())) + v.encode()
    if isinstance(v, list):
        return b"](" + b"".join(map(_pickle_value, v)) + b"e"
    if isinstance(v, dict):
        return b"}(" + b"".join(_pickle_value(k) + _pickle_value(x) for k, x in v.items()) + b"u"
    return v.raw


class _Raw:
    def __init__(self, raw: bytes) -> None:
        self.raw = raw


def _pickle(model: Model) -> bytes:
    graph = []
    for node in model.graph:
        keys = ("op", "name", "inputs", *FIELDS[node["op"]], *OPTIONS.get(node["op"], {}))
        graph.append({k: node[k] for k in keys if k in node})
    inp = {k: model.input[k] for k in ("shape", "pad", "mean", "std", "tokens") if k in model.input}
    state: dict[str, _Raw] = {}
    for i, t in enumerate(model.tensors.values()):
        strides = [math.prod(t.shape[j + 1 :]) for j in range(len(t.shape))]
        ints = lambda v: b"".join(map(_pickle_value, v))  # noqa: E731
        raw = b"ctorch._utils\n_rebuild_tensor_v2\n((" + _pickle_value("storage")
        raw += b"ctorch\n" + STORAGE[t.dtype].encode() + b"\n" + _pickle_value(str(i)) + _pickle_value("cpu")
        raw += _pickle_value(math.prod(t.shape)) + b"tQ" + _pickle_value(0)
        raw += b"(" + ints(t.shape) + b"t(" + ints(strides) + b"t\x89ccollections\nOrderedDict\n)RtR"
        state[t.name] = _Raw(raw)
    return b"\x80\x02" + _pickle_value({"graph": graph, "input": inp, "state_dict": state}) + b"."


def write_pt(model: Model) -> bytes:
    """The zip archive of files.md."""
    members = [("model/data.pkl", _pickle(model)), ("model/zkcert.json", description(model))]
    members.append(("model/byteorder", b"little"))
    members += [(f"model/data/{i}", t.data) for i, t in enumerate(model.tensors.values())]
    members.append(("model/version", b"3\n"))
    out, directory = b"", b""
    for name, content in members:
        begin, n = len(out), 0
        while (begin + 30 + len(name) + 4 + n) % 64:
            n += 1
        sizes = struct.pack("<III", zlib.crc32(content), len(content), len(content))
        out += b"PK\3\4" + struct.pack("<5H", 20, 0, 0, 0, 33) + sizes + struct.pack("<2H", len(name), n + 4)
        out += name.encode() + b"FB" + struct.pack("<H", n) + b"Z" * n + content
        directory += b"PK\1\2" + struct.pack("<6H", 20, 20, 0, 0, 0, 33) + sizes
        directory += struct.pack("<5H", len(name), 0, 0, 0, 0) + struct.pack("<II", 0, begin) + name.encode()
    end = struct.pack("<4H", 0, 0, len(members), len(members)) + struct.pack("<IIH", len(directory), len(out), 0)
    return out + directory + b"PK\5\6" + end


def _zip_contents(data: bytes) -> list[tuple[str, bytes]]:
    out, at = [], 0
    while data[at : at + 4] == b"PK\3\4":
        require(at + 30 <= len(data), "model", "zip")
        (size,) = struct.unpack_from("<I", data, at + 22)
        length, extra = struct.unpack_from("<2H", data, at + 26)
        name = data[at + 30 : at + 30 + length]
        begin = at + 30 + length + extra
        require(begin + size <= len(data), "model", "zip")
        out.append((name.decode("latin-1"), data[begin : begin + size]))
        at = begin + size
    return out


def read_model(name: str, data: bytes) -> Model:
    """A model file; refused unless it is byte for byte as it would be written."""
    if name.lower().endswith(".safetensors"):
        require(len(data) >= 8, "model", "too short")
        n = int.from_bytes(data[:8], "little")
        require(n <= len(data) - 8, "model", "too short")
        model = parse_description(data[8 : 8 + n], data[8 + n :])
        require(u64(n) + description(model) + b"".join(t.data for t in model.tensors.values()) == data, "model", "form")
        return model
    members = _zip_contents(data)
    require(len(members) >= 2 and members[1][0] == "model/zkcert.json", "model", "no description in the archive")
    blob = b"".join(c for n, c in members if n.startswith("model/data/"))
    model = parse_description(members[1][1], blob)
    require(write_pt(model) == data, "model", "the archive is not as it is written")
    return model


def read_root(data: bytes) -> dict:
    """data.root."""
    require(len(data) <= 1 << 16, "data.root", "too long")
    root = parse_json(data, "data.root")
    require(isinstance(root, dict) and set(root) == {"N", "format", "root", "schema"}, "data.root", "keys")
    require(json.dumps(root, sort_keys=True).encode() + b"\n" == data, "data.root", "form")
    require(is_int(root["N"], 1, 1 << 40) and root["format"] == "zkcert-root-1", "data.root", "values")
    return root


def read_announcement(data: bytes) -> dict:
    """announce.json, with its key `digest`."""
    require(len(data) <= 1 << 20, "announce.json", "too long")
    a = parse_json(data, "announce.json")
    require(isinstance(a, dict), "announce.json", "no object")
    require(json.dumps(a, sort_keys=True, indent=1).encode() + b"\n" == data, "announce.json", "form")
    return a
