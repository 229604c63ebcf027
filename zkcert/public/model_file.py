"""Model files, which are untrusted: one form of torch.save's zip format and one of safetensors (docs/spec/files.md).

A file is read by way of its header alone, a JSON text; what the header, the tensors and the format make of it is then
compared with the file, so that a file has exactly one reading. `zkcert convert` reads others
(`zkcert.foreign.model_file`).
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from math import prod
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from circuits.layers.spec import NAME
from zkcert.errors import UnusableInput
from zkcert.public.config import canonical_json
from zkcert.public.strict_json import parse
from zkcert.public.torch_archive import NAME_AT, SIZE_AT, Bytes, archive, beginnings, pickled

MAX_HEADER_BYTES = 2 << 20
MAX_TENSORS = 1 << 12
MAX_AXES = 8
NUMPY = {"F16": "<f2", "BF16": "<u2", "F32": "<f4", "F64": "<f8"}
"""The numbers a tensor may hold, and numpy's name for their bytes."""

HOW_TO_SAVE = "write the file with zkcert.convert.from_module(module, input=...).save(path)"
SAFETENSORS = ".safetensors"

_METADATA = "__metadata__"
_BLOCK = 1 << 20
_PICKLE, _HEADER = "model/data.pkl", "model/zkcert.json"


def damaged(what: str) -> NoReturn:
    """Raise the UnusableInput of a file that cannot be read."""
    raise UnusableInput(f"model file is damaged or not supported: {what}")


def is_safetensors(path: str | os.PathLike[str]) -> bool:
    """The format that a file's name says: safetensors, or torch.save's."""
    return Path(path).suffix.lower() == SAFETENSORS


@dataclass(frozen=True)
class Stored:
    """A tensor as it is in a file: a key of `NUMPY`, the shape, and the numbers in C order, little-endian."""

    dtype: str
    shape: tuple[int, ...]
    data: Bytes

    def array(self) -> np.ndarray:
        """The numbers as float32 (F16 and BF16 too, exactly) or float64; a view where that is possible."""
        numbers = np.frombuffer(self.data, NUMPY[self.dtype]).reshape(self.shape)
        if self.dtype == "BF16":
            return (numbers.astype(np.uint32) << 16).view(np.float32)
        with np.errstate(all="ignore"):
            return numbers.astype(np.float64 if self.dtype == "F64" else np.float32, copy=False)


@dataclass(frozen=True)
class Content:
    """Graph, input and tensors of a file, unchecked, and its format."""

    graph: Any
    input: Any
    tensors: dict[str, Stored]
    safetensors: bool


# --- Writing ---


def header(graph: object, spec: object, tensors: Mapping[str, Stored]) -> bytes:
    """The JSON text that describes a model: safetensors' header, which the zip format holds as well."""
    metadata = {"zkcert.graph": canonical_json(graph), "zkcert.input": canonical_json(spec)}
    content: dict[str, Any] = {_METADATA: metadata}
    if _METADATA in tensors:
        raise UnusableInput(f"no tensor may be called {_METADATA}")
    end = 0
    for name, tensor in tensors.items():
        begin, end = end, end + len(tensor.data)
        content[name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(content, separators=(",", ":")).encode()
    if len(text) > MAX_HEADER_BYTES - 8:
        raise UnusableInput(f"the model's description takes more than {MAX_HEADER_BYTES} bytes: shorten its names")
    return text + b" " * (-len(text) % 8)


def write(content: Content) -> Iterator[Bytes]:
    """The file of a model, piece by piece; tensors are handed on, not copied. Raises UnusableInput if it is too large
    for its format."""
    text = header(content.graph, content.input, content.tensors)
    if content.safetensors:
        yield struct.pack("<Q", len(text)) + text
        yield from (tensor.data for tensor in content.tensors.values())
        return
    kinds = {name: (tensor.dtype, tensor.shape) for name, tensor in content.tensors.items()}
    try:
        contents: list[Bytes] = [pickled(content.graph, content.input, kinds), text, b"little"]
        contents += [*(tensor.data for tensor in content.tensors.values()), b"3\n"]
        yield from archive(dict(zip(_names(len(kinds)), contents, strict=True)))
    except ValueError as error:
        raise UnusableInput(f"the model does not fit the zip format ({error}): use {SAFETENSORS}") from error


def _names(tensors: int) -> list[str]:
    """The members of the zip archive, in order."""
    return [_PICKLE, _HEADER, "model/byteorder", *(f"model/data/{i}" for i in range(tensors)), "model/version"]


# --- Reading ---


class NotAsWritten(UnusableInput):
    """The file may be a model's, but it is not in zkcert's own form."""

    def __init__(self) -> None:
        super().__init__(
            "not in the form zkcert writes, so programs could read different models from it; "
            "`zkcert convert OLD -o NEW` writes it anew"
        )


def read(data: bytes) -> Content:
    """What a file's header says, and the tensors at the places that follow from it; `check_form` has to follow.

    Raises UnusableInput. Beyond the header, of at most MAX_HEADER_BYTES, nothing is looked at.
    """
    zipped = data[:4] == b"PK\3\4"
    text = _zip_header(data) if zipped else _safetensors_header(data)
    graph, spec, table = _parse_header(text)
    sizes = [size for _, _, size in table.values()]
    if zipped:
        first = [len(_first(data)), len(text), len(b"little")]
        begins = beginnings(_names(len(sizes))[:-1], first + sizes)[3:]
    else:
        begins = list(accumulate(sizes, initial=8 + len(text)))[:-1]
    view, tensors = memoryview(data), {}
    for begin, (name, (dtype, shape, size)) in zip(begins, table.items(), strict=True):
        if begin + size > len(data):
            damaged("it is cut short: take another copy")
        tensors[name] = Stored(dtype, shape, view[begin : begin + size])
    return Content(graph, spec, tensors, not zipped)


def check_name(path: str | Path, content: Content) -> None:
    """UnusableInput unless the name of the file says its format."""
    if is_safetensors(path) != content.safetensors:
        what, name = ("safetensors", "must") if content.safetensors else ("torch.save's zip format", "must not")
        raise UnusableInput(f"it holds {what}, so its name {name} end in {SAFETENSORS}")


def check_form(data: bytes, content: Content) -> None:
    """Raises NotAsWritten unless `write` gives exactly the file."""
    at = 0
    for piece in write(content):
        for start in range(0, len(piece), _BLOCK):
            block = bytes(piece[start : start + _BLOCK])
            if data[at : at + len(block)] != block:
                raise NotAsWritten
            at += len(block)
    if at != len(data):
        raise NotAsWritten


def _first(data: bytes) -> bytes | memoryview:
    """The content of the zip archive's first member, as far as it is there."""
    (begin,) = beginnings([_PICKLE], [0])
    return memoryview(data)[begin : begin + int.from_bytes(data[SIZE_AT : SIZE_AT + 4], "little")]


def _zip_header(data: bytes) -> bytes:
    (begin,) = beginnings([_PICKLE], [0])
    at = begin + len(_first(data))
    size = int.from_bytes(data[at + SIZE_AT : at + SIZE_AT + 4], "little")
    _, begin = beginnings([_PICKLE, _HEADER], [at - begin, size])
    if data[at + NAME_AT : at + NAME_AT + len(_HEADER)] != _HEADER.encode():
        raise NotAsWritten
    if size > MAX_HEADER_BYTES:
        damaged(f"its {_HEADER} has more than {MAX_HEADER_BYTES} bytes")
    return data[begin : begin + size]


def _safetensors_header(data: bytes) -> bytes:
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or size > min(len(data) - 8, MAX_HEADER_BYTES):
        damaged(f"neither torch.save's zip format nor safetensors; {HOW_TO_SAVE}")
    return data[8 : 8 + size]


def _parse_header(text: bytes) -> tuple[Any, Any, dict[str, tuple[str, tuple[int, ...], int]]]:
    """Graph, input, and each tensor's dtype, shape and number of bytes."""
    try:
        match entries := parse(text):
            case {"__metadata__": {"zkcert.graph": str(graph), "zkcert.input": str(spec)}}:
                del entries[_METADATA]
            case _:
                raise UnusableInput(f"its metadata lack zkcert.graph and zkcert.input; {HOW_TO_SAVE}")
        graph, spec = parse(graph), parse(spec)
    except ValueError as error:
        damaged(f"of its description, {error}")
    if len(entries) > MAX_TENSORS:
        damaged(f"it lists more than {MAX_TENSORS} tensors")
    table, end = {}, 0
    for name, entry in entries.items():
        dtype, shape = described(name, entry)
        begin, end = end, end + prod(shape) * np.dtype(NUMPY[dtype]).itemsize
        if entry["data_offsets"] != [begin, end]:
            raise NotAsWritten
        table[name] = dtype, shape, end - begin
    return graph, spec, table


def described(name: str, entry: Any) -> tuple[str, tuple[int, ...]]:
    """Dtype and shape of an entry of a safetensors header that also has data_offsets; raises UnusableInput."""
    match entry:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [int(), int()]} if (
            len(entry) == 3 and dtype in NUMPY and NAME.fullmatch(name)
        ):
            if len(shape) <= MAX_AXES and all(type(n) is int and 0 <= n < 1 << 32 for n in shape):
                return dtype, tuple(shape)
    damaged(f"a tensor's description ({', '.join(NUMPY)} are read)")
