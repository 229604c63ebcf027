"""Graphs of models: their nodes, what each may hold, and the shapes of what they give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from circuits.graph import SAMPLES
from circuits.layers import LAYERS
from circuits.layers.spec import MAX_JOINED, Field, Integer, Integers, name_of
from circuits.net import VALUE_LIMIT
from zkcert.errors import UnsupportedLayer, UnusableInput

MAX_TOKENS = 1023
"""Different tokens of a model, which are its classes."""


def require_fields(given: dict[str, Any], wanted: Sequence[str], what: str, allowed: Sequence[str] = ()) -> None:
    """UnusableInput unless a dictionary has the wanted keys, and others of `allowed` only."""
    if set(given) - set(allowed) != set(wanted):
        more = f", and may have {', '.join(allowed)}" if allowed else ""
        raise UnusableInput(f"{what} has exactly the fields {', '.join(wanted)}{more}")


def numbers(shape: list[int], low: float, high: float) -> Field:
    """A number for each channel of [C, H, W]."""
    other = f"; shapes are [C, H, W], not [H, W, C]: {[shape[2], *shape[:2]]}" if shape[2] in (1, 3) else ""

    def fit(values: Any) -> bool:
        if not isinstance(values, list | tuple) or len(values) != shape[0]:
            return False
        return all(type(v) in (int, float) and low <= v <= high for v in values)

    must = f"list a number from {low:g} to {high:g} for each channel ({shape[0]}){other}"
    return Field(fit, must, lambda values: [float(v) for v in values])


def check_input(spec: object) -> dict[str, Any]:
    """The specification of the input with all its keys, numbers as floats; raises UnusableInput."""
    if not isinstance(spec, dict):
        raise UnusableInput("the model's input must be a dictionary with the keys shape, pad, mean, std")
    if "tokens" in spec:
        return _check_tokens(spec)
    spec = {"pad": 0, **spec}
    require_fields(spec, ("shape", "pad", "mean", "std"), "the model's input")
    shape = Integers(3, 1).check(spec["shape"], "input shape [C, H, W]")
    mean, std = numbers(shape, -VALUE_LIMIT, VALUE_LIMIT), numbers(shape, 2.0**-16, 2.0**16)
    kinds = {"pad": Integer(0), "mean": mean, "std": std}
    return {"shape": shape, **{key: kind.check(spec[key], f"input {key}") for key, kind in kinds.items()}}


def _check_tokens(spec: dict[str, Any]) -> dict[str, Any]:
    """The specification of windows of tokens: shape [1, 1, L], and how many different tokens there are."""
    require_fields(spec, ("shape", "tokens"), "the input of a model of tokens")
    shape = Integers(3, 1).check(spec["shape"], "input shape [1, 1, L]")
    tokens = Integer(2).check(spec["tokens"], "input tokens")
    if shape[:2] != [1, 1] or tokens > MAX_TOKENS:
        raise UnusableInput(f"the input of a model of tokens has shape [1, 1, L], and at most {MAX_TOKENS} tokens")
    return {"shape": shape, "tokens": tokens}


def check_node(node: object, position: int) -> dict[str, Any]:
    """A node with exactly its fields, lists of ints, names plain; raises UnusableInput, UnsupportedLayer."""
    if not isinstance(node, dict) or not isinstance(op := node.get("op"), str):
        raise UnusableInput(f"graph node {position} must be a dictionary with an op")
    name = name_of(node.get("name"), f"name of graph node {position}")
    if op not in LAYERS:
        raise UnsupportedLayer(f"layer {name}: {ascii(op)[:60]} has no circuit; use {', '.join(LAYERS)}")
    spec = LAYERS[op].spec
    given = {key: value for key, value in node.items() if key != "inputs"}
    require_fields(given, (*spec.fields, "op", "name"), f"layer {name}: {op}", tuple(spec.options))
    checked: dict[str, Any] = {"op": op, "name": name}
    if spec.inputs != 1 or "inputs" in node:
        read = node.get("inputs")
        most = MAX_JOINED if spec.joins else spec.inputs
        if not isinstance(read, list | tuple) or not spec.inputs <= len(read) <= most:
            count = f"{spec.inputs} to {most}" if spec.joins else spec.inputs
            raise UnusableInput(f"layer {name}: {op} has {count} inputs")
        checked["inputs"] = [v if v == SAMPLES else name_of(v, f"layer {name}: input") for v in read]
    checked |= {key: kind.check(node[key], f"layer {name}: {key}") for key, kind in spec.fields.items()}
    for key, (kind, usual) in spec.options.items():
        if key in node and (value := kind.check(node[key], f"layer {name}: {key}")) != usual:
            checked[key] = value
    return checked


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


def are_tied(graph: list[dict[str, Any]], name: str) -> bool:
    """Whether a parameter is the table of an embedding and the weight of one unembedding behind it."""
    users = [node for node in graph for field in LAYERS[node["op"]].spec.arrays(fixed=False) if node[field] == name]
    return [(node["op"], node["weight"]) for node in users] == [("embedding", name), ("unembedding", name)]


def output_shape(node: dict[str, Any], shapes: Sequence[list[int]], params: Mapping[str, np.ndarray]) -> list[int]:
    """Shape of the node's output for one sample, from those of what it reads; raises UnusableInput naming the layer."""
    spec = LAYERS[node["op"]].spec
    try:
        received = spec.received(shapes)
    except UnusableInput as error:
        raise UnusableInput(f"layer {node['name']}: {error}") from error
    try:
        return spec.output_shape(spec.described(node, lambda name: params[name].shape), received)
    except UnusableInput as error:
        raise UnusableInput(f"layer {node['name']} ({node['op']}): {error}") from error
