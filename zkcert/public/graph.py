"""Graphs of models: their nodes, what each may hold, and the shapes of what they give."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from zkcert.errors import UnsupportedLayer, UnusableInput

VALUE_LIMIT = 2048.0
"""Values are below this in magnitude."""

MAX_EXTENT = 1 << 16
"""Of an axis of a tensor, a kernel, a stride."""

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

NAME = re.compile(r"[A-Za-z0-9_.\-]{1,200}")
"""Of layers and tensors."""


def _integers(value: Any, count: int, low: int, what: str) -> list[int]:
    fits = isinstance(value, list | tuple) and len(value) == count
    if fits and all(type(v) is int and low <= v <= MAX_EXTENT for v in value):
        return list(value)
    raise UnusableInput(f"{what} must be {count} integers from {low} to {MAX_EXTENT}")


def _name(value: object, what: str) -> str:
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise UnusableInput(f"{what} must be a name of letters, digits, '_', '-' and '.'")
    return value


def check_input(spec: object) -> dict[str, Any]:
    """The specification of the input with all its keys, numbers as floats; raises UnusableInput."""
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
            other = [shape[2], *shape[:2]]
            last = isinstance(values, list | tuple) and len(values) == shape[2] in (1, 3)
            hint = f"; shapes are [C, H, W], not [H, W, C]: {other}" if last else ""
            raise UnusableInput(f"input {key} must list one number per channel ({shape[0]}){hint}")
        if not all(type(v) in (int, float) and low <= v <= high for v in values):
            raise UnusableInput(f"input {key} must lie between {low:g} and {high:g}")
        checked[key] = [float(v) for v in values]
    return checked


def check_node(node: object, position: int) -> dict[str, Any]:
    """A node with exactly its fields, lists of ints, names plain; raises UnusableInput, UnsupportedLayer."""
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


def check_inputs(graph: list[dict[str, Any]]) -> list[list[str]]:
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


def output_shape(node: dict[str, Any], shape: list[int], params: Mapping[str, np.ndarray]) -> list[int]:
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
