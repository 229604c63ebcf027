"""The one way in which zkcert writes torch.save's format: a zip archive, and the pickle in it (docs/spec/files.md).

Only written here, never parsed: a reader writes the file again and compares.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from math import prod

MAX_BYTES = (1 << 32) - 2
"""Of an archive: sizes and offsets have 32 bits, and all ones mean something else."""

MAX_MEMBERS = (1 << 16) - 2
ALIGNMENT = 64
STORAGES = {"F16": "HalfStorage", "BF16": "BFloat16Storage", "F32": "FloatStorage", "F64": "DoubleStorage"}

_JANUARY_1980 = 0x21
_LOCAL, _CENTRAL, _END = "<IHHHHHIIIHH", "<IHHHHHHIIIHHHHHII", "<IHHHHIIH"
SIZE_AT, NAME_AT = 18, 30
"""Where in a member's local header its size (u32) and its name stand."""

Bytes = bytes | memoryview


def beginning(at: int, name: str) -> int:
    """Where the content of a member begins whose local header begins at `at`: aligned, after an extra field."""
    return -(-(at + struct.calcsize(_LOCAL) + len(name) + 4) // ALIGNMENT) * ALIGNMENT


def beginnings(names: Iterable[str], sizes: Iterable[int]) -> list[int]:
    """Where the members' contents begin, the first header being at 0."""
    out, at = [], 0
    for name, size in zip(names, sizes, strict=True):
        out.append(beginning(at, name))
        at = out[-1] + size
    return out


def archive(members: Mapping[str, Bytes]) -> Iterator[Bytes]:
    """A zip archive of the members, stored, piece by piece; contents are handed on, not copied.

    Names are ASCII. Members tile the archive from its first byte; the central directory says what the local headers
    say. ValueError if it is too large.
    """
    if len(members) > MAX_MEMBERS:
        raise ValueError(f"more than {MAX_MEMBERS} members")
    directory, at = [], 0
    for name, content in members.items():
        begin = beginning(at, name)
        extra = begin - at - struct.calcsize(_LOCAL) - len(name)
        if begin + len(content) > MAX_BYTES:
            raise ValueError(f"more than {MAX_BYTES} bytes")
        known = (20, 0, 0, 0, _JANUARY_1980, zlib.crc32(content), len(content), len(content), len(name))
        padding = b"FB" + struct.pack("<H", extra - 4) + b"Z" * (extra - 4)
        yield struct.pack(_LOCAL, 0x04034B50, *known, extra) + name.encode() + padding
        yield content
        directory.append(struct.pack(_CENTRAL, 0x02014B50, 20, *known, 0, 0, 0, 0, 0, at) + name.encode())
        at = begin + len(content)
    listing = b"".join(directory)
    if at + len(listing) + struct.calcsize(_END) > MAX_BYTES:
        raise ValueError(f"more than {MAX_BYTES} bytes")
    yield listing
    yield struct.pack(_END, 0x06054B50, 0, 0, len(members), len(members), len(listing), at, 0)


def pickled(graph: object, spec: object, tensors: Mapping[str, tuple[str, Sequence[int]]]) -> bytes:
    """The pickle, protocol 2, without memo, of {"graph", "input", "state_dict"}.

    tensors: name -> (dtype, shape); tensor i is all of storage i, in C order. Graph and input are JSON values.
    ValueError for a tensor that is too large.
    """
    state = b"".join(
        _value(name) + _tensor(i, dtype, shape) for i, (name, (dtype, shape)) in enumerate(tensors.items())
    )
    content = _value("graph") + _value(graph) + _value("input") + _value(spec) + _value("state_dict")
    return b"\x80\x02}(" + content + b"}(" + state + b"uu."


def _value(value: object) -> bytes:
    match value:
        case None:
            return b"N"
        case bool():
            return b"\x88" if value else b"\x89"
        case int() if 0 <= value < 256:
            return struct.pack("<cB", b"K", value)
        case int() if 0 <= value < 1 << 16:
            return struct.pack("<cH", b"M", value)
        case int() if -1 << 31 <= value < 1 << 31:
            return struct.pack("<ci", b"J", value)
        case int():
            raise ValueError("a tensor of 2^31 numbers or more")
        case float():
            return struct.pack(">cd", b"G", value)
        case str():
            text = value.encode()
            return struct.pack("<cI", b"X", len(text)) + text
        case list() | tuple():
            return b"](" + b"".join(map(_value, value)) + b"e"
        case dict():
            return b"}(" + b"".join(_value(k) + _value(v) for k, v in value.items()) + b"u"
    raise TypeError(f"{type(value).__name__} has no place in a model file")


def _tuple(values: Iterable[object]) -> bytes:
    return b"(" + b"".join(map(_value, values)) + b"t"


def _global(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def _tensor(index: int, dtype: str, shape: Sequence[int]) -> bytes:
    storage = b"(" + _value("storage") + _global("torch", STORAGES[dtype])
    storage += _value(str(index)) + _value("cpu") + _value(prod(shape)) + b"tQ"
    strides = list(accumulate(reversed(shape[1:]), lambda a, b: a * b, initial=1))[::-1] if shape else []
    layout = _value(0) + _tuple(shape) + _tuple(strides) + _value(False)
    hooks = _global("collections", "OrderedDict") + b")R"
    return _global("torch._utils", "_rebuild_tensor_v2") + b"(" + storage + layout + hooks + b"tR"
