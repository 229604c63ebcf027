"""Model files: a graph, an input specification and weights, read without PyTorch and without running code.

`model.pt` is a file that torch.load reads as {"graph": [...], "input": {...}, "state_dict": {...}};
`.safetensors` files carry graph and input as JSON in their metadata. Of each format one form is read, the one that is
written here (`zkcert.public.model_file`). Files are untrusted: see `Model.parse`.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from blake3 import blake3

from circuits.graph import SAMPLES
from circuits.layers import LAYERS
from circuits.layers.spec import MAX_EXTENT
from circuits.net import VALUE_LIMIT
from zkcert.errors import RangeOverflow, UnusableInput, ZkcertError
from zkcert.public import model_file
from zkcert.public.config import canonical_json
from zkcert.public.graph import are_tied, check_input, check_inputs, check_node, output_shape
from zkcert.public.model_file import Content
from zkcert.public.reading import read_file

WEIGHT_LIMIT = 128.0
REBALANCE = (
    "train with weight decay or, where a ReLU follows, divide the layer's weight and bias by a constant and multiply "
    "the next layer's weight by it: the model computes the same"
)
MAX_FILE_BYTES = 4 << 30
MAX_LAYERS = 1 << 10
MAX_ACTIVATION = 1 << 28


@dataclass(frozen=True, eq=False)
class Model:
    """A validated feed-forward model: public input of the statement.

    graph   nodes in order; each {"op", "name", fields of its `LayerSpec`}; a node reads the previous one, or the
            earlier nodes that "inputs" names ("@input" being the samples).
    input   {"shape": [C, H, W], "pad": p, "mean": [C floats], "std": [C floats]}: raw samples, zero padding
            on each side, normalisation; see `input_integers`. Or {"shape": [1, 1, L], "tokens": V}: L tokens.
    params  name -> float32 or float64 array, C-contiguous, read-only, in graph order (weight, then bias); to
            the constructor the buffers as well.
    buffers what is fixed, as the means and variances of batch-norms, likewise; no parameters (computed).
    shapes  output shape of every node for one sample (computed).

    Raises UnusableInput, UnsupportedLayer (an op without circuit), RangeOverflow (|w| >= 128).
    """

    graph: list[dict[str, Any]]
    input: dict[str, Any]
    params: dict[str, np.ndarray]
    buffers: dict[str, np.ndarray] = field(init=False)
    shapes: list[list[int]] = field(init=False)

    def __post_init__(self) -> None:
        if not isinstance(self.graph, list | tuple) or not 1 <= len(self.graph) <= MAX_LAYERS:
            raise UnusableInput(f"graph must list 1 to {MAX_LAYERS} nodes")
        graph = [check_node(node, i) for i, node in enumerate(self.graph)]
        if len({node["name"] for node in graph}) != len(graph):
            raise UnusableInput("two layers have the same name")
        trained, fixed = (
            [node[k] for node in graph for k in LAYERS[node["op"]].spec.arrays(fixed=which) if node[k] is not None]
            for which in (False, True)
        )
        trained = [name for i, name in enumerate(trained) if name not in trained[:i] or not are_tied(graph, name)]
        order = trained + fixed
        for name in order:
            if name not in self.params or order.count(name) > 1:
                raise UnusableInput(f"tensor {name} is {'used twice' if name in self.params else 'missing'}")
        if len({name.casefold() for name in order}) != len(order):
            raise UnusableInput("two tensors have names that differ only in case")
        if unused := sorted(set(self.params) - set(order)):
            raise UnusableInput(f"tensor {unused[0]} is used by no layer")
        spec = check_input(self.input)
        given = self.params
        object.__setattr__(self, "graph", graph)
        object.__setattr__(self, "input", spec)
        object.__setattr__(self, "params", {name: check_param(name, given[name]) for name in trained})
        object.__setattr__(self, "buffers", {name: check_array(name, given[name]) for name in fixed})
        shapes = {SAMPLES: self.input_shape}
        for node, reads in zip(graph, check_inputs(graph), strict=True):
            received = [shapes[name] for name in reads]
            if math.prod(received[0]) > MAX_ACTIVATION:
                raise UnusableInput(f"layer {node['name']}: its input of shape {received[0]} is too large")
            shapes[node["name"]] = output_shape(node, received, self.tensors)
        last = shapes[graph[-1]["name"]]
        if "tokens" in spec:
            if last != [spec["tokens"], *self.input_shape[1:]]:
                raise UnusableInput(f"the last layer must output {[spec['tokens'], *self.input_shape[1:]]}, not {last}")
        elif len(last) != 1 or not 2 <= last[0] <= MAX_EXTENT:
            raise UnusableInput(f"the last layer must output [classes], two or more, not {last}")
        object.__setattr__(self, "shapes", [shapes[node["name"]] for node in graph])
        self.constants  # noqa: B018 - raises where they are out of range

    @property
    def input_shape(self) -> list[int]:
        """[C, H + 2 pad, W + 2 pad], what the first node reads."""
        channels, height, width = self.input["shape"]
        pad = self.input.get("pad", 0)
        return [channels, height + 2 * pad, width + 2 * pad]

    @property
    def classes(self) -> int:
        """Number of outputs."""
        return self.shapes[-1][0]

    @property
    def tensors(self) -> dict[str, np.ndarray]:
        """Parameters, then buffers."""
        return {**self.params, **self.buffers}

    @property
    def constants(self) -> dict[str, dict[str, list[int]]]:
        """The public integers of layers, by layer and by what they are: see `LayerSpec.constants`."""
        found = ((node, LAYERS[node["op"]].spec.constants) for node in self.graph)
        return {node["name"]: of(node, self.tensors) for node, of in found if of is not None}

    @property
    def param_count(self) -> int:
        """P, the number of parameters."""
        return sum(array.size for array in self.params.values())

    def quantized(self, name: str) -> np.ndarray:
        """floor(w 2^32 + 1/2), exactly, as int64 of the tensor's shape; below 2^39 in magnitude."""
        scaled = self.params[name].astype(np.float64) * 2.0**32
        floor = np.floor(scaled)
        return floor.astype(np.int64) + (scaled - floor >= 0.5)

    @property
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
        """Read `model.pt` or, if the name ends so, `.safetensors`. Raises as `parse`; errors name the file."""
        return cls.parse(read_file(path, MAX_FILE_BYTES), path)

    @classmethod
    def parse(cls, data: bytes, path: str | Path | None = None) -> Model:
        """The model held by a file's bytes, which are untrusted: nothing is unpickled, imported or run, and memory is
        bounded by the file's size. Accepted is exactly what `save` writes for it (tensors may have 16 bits).

        path: the file's name, which errors name and which must say the format; None: bytes without a name. Raises
        UnusableInput, UnsupportedLayer, RangeOverflow.
        """
        with nullcontext() if path is None else naming(path):
            content = model_file.read(data)
            if path is not None:
                model_file.check_name(path, content)
            model = cls.of(content)
            model_file.check_form(data, model.stored(content))
            return model

    @classmethod
    def of(cls, content: Content) -> Model:
        """The model that a file's content describes. Raises as `parse`."""
        return cls(content.graph, content.input, {name: t.array() for name, t in content.tensors.items()})

    def stored(self, content: Content) -> Content:
        """The content of a file that this model was made of, as `save` writes it: in the graph's order."""
        tensors = {name: content.tensors[name] for name in self.tensors}
        return Content(self.graph, self.input, tensors, content.safetensors)

    def save(self, path: str | Path, *, force: bool = False) -> None:
        """Write a file in the format that the suffix of `path` says. It appears completely or not at all, replaces no
        file of another kind, and a model file only with `force`. Raises UnusableInput."""
        from zkcert.files.models import write_model

        write_model(path, self, force=force)


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Errors of zkcert in the block begin with the file's name."""
    try:
        yield
    except ZkcertError as error:
        error.args = (f"{path}: {error}",)
        raise


def check_array(name: str, array: object) -> np.ndarray:
    """A tensor's numbers, if they are fit ones; UnusableInput."""
    if not isinstance(array, np.ndarray) or array.dtype not in (np.float32, np.float64) or not array.size:
        raise UnusableInput(f"tensor {name} must be a float32 or float64 array, not empty")
    if not np.isfinite(array).all():
        raise UnusableInput(f"tensor {name} holds NaN or infinity")
    checked = np.array(array, order="C")
    checked.setflags(write=False)
    return checked


def check_param(name: str, array: object) -> np.ndarray:
    """Those of a parameter; UnusableInput, RangeOverflow."""
    checked = check_array(name, array)
    largest = float(np.abs(checked).max())
    if largest >= WEIGHT_LIMIT - 2.0**-33:  # the quantised weight would be 2^39
        where = ", ".join(map(str, np.unravel_index(int(np.abs(checked).argmax()), checked.shape)))
        raise RangeOverflow(f"tensor {name}[{where}]", largest, WEIGHT_LIMIT, REBALANCE)
    return checked


# --- From samples to integers ---


def in_byte_units(spec: Mapping[str, Any]) -> bool:
    """Whether mean and std look like those of values from 0 to 255."""
    return "tokens" not in spec and all(
        1 < mean <= 255 and 1 < std <= 255 for mean, std in zip(spec["mean"], spec["std"], strict=True)
    )


def byte_units(spec: Mapping[str, Any]) -> str:
    """What is wrong with a mean and std in such units where samples are bytes."""
    return (
        f"input mean {spec['mean'][0]:g} and std {spec['std'][0]:g} are in units of 0..255, but bytes are divided by "
        "255 before they are normalised: divide mean and std by 255"
    )


def input_affine(spec: Mapping[str, Any], kind: str) -> tuple[list[int], list[int]]:
    """Integers (A, C), one per channel, of the normalisation x = (raw - mean)/std in Q31.32.

    kind "u8":  raw = byte/255; x = A byte + C with A = floor(2^32/(255 std) + 1/2).
    kind "q32": raw = q/2^32; x = floor((A q + 2^15)/2^16) + C with A = floor(2^16/std + 1/2).
    Both: C = floor(-mean/std 2^32 + 1/2). mean and std are the rationals their shortest decimals denote.
    Raises RangeOverflow if a byte would normalise to 2048 or more, UnusableInput if mean and std are in units of 0..255
    for bytes.
    """
    if kind == "tokens":
        return [], []
    if kind not in ("u8", "q32"):
        raise UnusableInput(f"kind of samples must be u8 or q32, not {kind[:40]!r}")
    half = Fraction(1, 2)
    scale = Fraction(1 << 32, 255) if kind == "u8" else Fraction(1 << 16)
    means, stds = ([Fraction(repr(float(v))) for v in spec[key]] for key in ("mean", "std"))
    slope = [math.floor(scale / std + half) for std in stds]
    shift = [math.floor(-mean / std * (1 << 32) + half) for mean, std in zip(means, stds, strict=True)]
    if kind == "u8":
        if in_byte_units(spec):
            raise UnusableInput(byte_units(spec))
        largest = max(max(abs(c), abs(255 * a + c)) for a, c in zip(slope, shift, strict=True)) / 2.0**32
        if largest >= VALUE_LIMIT:
            raise RangeOverflow("input", largest, VALUE_LIMIT, "check mean and std")
    return slope, shift
