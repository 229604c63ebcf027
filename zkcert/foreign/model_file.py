"""Model files in forms other than zkcert's own, for `zkcert convert`: what PyTorch, safetensors or an earlier zkcert
wrote. Nothing here is needed to verify.

A form is read only if all programs read the same from it: whatever could be read twice is refused, not resolved.
"""

from __future__ import annotations

import re
import struct
import warnings
import zlib
from collections.abc import Mapping
from itertools import accumulate
from math import prod
from typing import Any

import numpy as np

from circuits.layers.spec import NAME
from zkcert.errors import UnusableInput
from zkcert.foreign.torch_pickle import Storage, Tensor, interpret, naturals
from zkcert.public.model_file import HOW_TO_SAVE, MAX_HEADER_BYTES, NUMPY, Content, Stored, damaged, described
from zkcert.public.strict_json import parse
from zkcert.public.torch_archive import beginning

_MEMBER = re.compile(
    r"([^/]+/)(data\.pkl|data/[0-9]{1,9}|byteorder|version|\.format_version|\.storage_alignment|\.data/serialization_id)"
)
_PADDING = re.compile(rb"(FB..Z*)?", re.DOTALL)
_CENTRAL, _LOCAL, _END, _END64, _LOCATOR = "<4s6H3I5H2I", "<4s5H3I2H", "<4s4H2IH", "<4sQ2H2I4Q", "<4sIQI"
_DESCRIBED, _UTF8 = 1 << 3, 1 << 11
_DESCRIPTION = 16  # bytes behind a member


def read(data: bytes) -> Content:
    """Graph, input and tensors of a file, unchecked. Raises UnusableInput, also where two readings are possible."""
    return _read_torch(data) if data[:2] == b"PK" else _read_safetensors(data)


# --- zip archives ---


def _unpack(form: str, data: bytes, at: int) -> tuple[Any, ...]:
    if at < 0 or at + struct.calcsize(form) > len(data):
        damaged("its zip structure is cut short")
    return struct.unpack_from(form, data, at)


def _directory(data: bytes) -> tuple[int, int, int]:
    """Offset, size and number of entries of the central directory, which must reach to the end records."""
    at = len(data) - struct.calcsize(_END)
    signature, *rest = _unpack(_END, data, at)
    disk, first, here, count, size, offset, comment = rest
    if signature != b"PK\5\6" or disk or first or here != count or comment:
        damaged("its zip structure does not end the file")
    end = at
    if data[at - 20 : at - 16] == b"PK\6\7":
        _, disk, record, disks = _unpack(_LOCATOR, data, at - 20)
        signature, length, _, _, *rest = _unpack(_END64, data, record)
        if signature != b"PK\6\6" or disk or disks != 1 or length != 44 or record + 56 != at - 20:
            damaged("its zip structure has gaps")
        if rest != [0, 0, count, count, size, offset]:
            damaged("its zip structure says two things")
        end = record
    if offset + size != end:
        damaged("its zip structure has gaps")
    return offset, size, count


def members(data: bytes) -> dict[str, tuple[int, memoryview]]:
    """Where the members of a zip archive begin, and what they hold. Every program reads them alike: stored, tiling the
    file, with the same names, sizes and checksums in both places, names unique in any case, no comments."""
    start, size, count = _directory(data)
    found: dict[str, tuple[int, memoryview]] = {}
    at, entry, seen = 0, start, set()
    for _ in range(count):
        signature, *fields = _unpack(_CENTRAL, data, entry)
        flags, method, crc, packed, length = (fields[i] for i in (2, 3, 6, 7, 8))
        name_size, extra, comment, disk, where = (fields[i] for i in (9, 10, 11, 12, 15))
        raw = data[entry + 46 : entry + 46 + name_size]
        entry += 46 + name_size
        local = _unpack(_LOCAL, data, at)
        named = at + 30 + local[9]
        begin = named + local[10]
        late = bool(flags & _DESCRIBED)
        known = {(crc, packed, length)} | ({(0, 0, 0)} if late else set())
        if signature != b"PK\1\2" or extra or comment or disk or flags & ~(_DESCRIBED | _UTF8) or method:
            damaged("its zip members must be stored uncompressed")
        if local[0] != b"PK\3\4" or local[2:4] != (flags, method) or local[6:9] not in known or packed != length:
            damaged("its zip structure says two things")
        if (
            where != at
            or data[at + 30 : named] != raw
            or not raw.isascii()
            or not _PADDING.fullmatch(data, named, begin)
        ):
            damaged("its zip members do not tile the file")
        content = memoryview(data)[begin : begin + length]
        at = begin + length
        if late and data[at : at + _DESCRIPTION] == struct.pack("<4s3I", b"PK\7\x08", crc, length, length):
            at += _DESCRIPTION
        elif late:
            damaged("its zip structure says two things")
        if at > start or zlib.crc32(content) != crc:
            damaged("a zip member's checksum is wrong")
        name = raw.decode()
        if name.casefold() in seen:
            damaged("two of its zip members have the same name")
        seen.add(name.casefold())
        found[name] = begin, content
    if at != start or entry != start + size:
        damaged("its zip members do not tile the file")
    return found


def _read_torch(data: bytes) -> Content:
    found = members(data)
    matches = {name: _MEMBER.fullmatch(name) for name in found}
    if unknown := [name for name, match in matches.items() if not match]:
        damaged(f"it has a member {ascii(unknown[0])[:80]}")
    if len({match[1] for match in matches.values() if match}) != 1:
        damaged("its zip members are in several folders")
    content = {match[2]: found[name][1] for name, match in matches.items() if match}
    if len(content.get("data.pkl", b"")) not in range(1, MAX_HEADER_BYTES + 1):
        damaged("no data.pkl of reasonable size")
    if content.get("byteorder", b"little") != b"little":
        damaged("it is not little-endian")
    if not re.fullmatch(rb"[1-9]\n?", content.get("version", b"")):
        damaged("it does not say a version of the format that is known")
    if ".format_version" in content:
        _check_places({name: found[name] for name, match in matches.items() if match and match[2].startswith("data/")})
        if content.get(".storage_alignment", b"64") != b"64":
            damaged("its storages are not aligned as usual")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # genops warns of odd escapes in opcodes that are refused anyway
            value = interpret(bytes(content["data.pkl"]))
    except (ValueError, LookupError, EOFError, struct.error, OverflowError) as error:
        damaged(f"its pickle does not parse ({type(error).__name__})")
    match value:
        case {"graph": graph, "input": spec, "state_dict": dict(state)} if len(value) == 3:
            pass
        case _:
            raise UnusableInput(f"model file must hold exactly graph, input and state_dict; {HOW_TO_SAVE}")
    storages = {name.removeprefix("data/"): part for name, part in content.items() if name.startswith("data/")}
    return Content(graph, spec, _gather(state, storages), False)


def _check_places(storages: Mapping[str, tuple[int, memoryview]]) -> None:
    """From the number of a format on PyTorch may compute where storages begin, one behind the other in the order of
    their loading, rather than look: that must be where they are."""
    at = 0
    for name, (begin, content) in sorted(storages.items(), key=lambda item: int(item[0].rpartition("/")[2])):
        if at and begin != beginning(at, name):
            damaged("its storages are not where PyTorch writes them")
        at = begin + len(content) + _DESCRIPTION


def _gather(state: dict[str, Any], raw: Mapping[str, memoryview]) -> dict[str, Stored]:
    """The tensors' numbers; together they take no more memory than their storages, all of which are used."""
    used: dict[Storage, int] = {}
    tensors: dict[str, Stored] = {}
    for name, tensor in state.items():
        if not NAME.fullmatch(name) or not isinstance(tensor, Tensor):
            damaged("state_dict must map plain names to tensors")
        storage, size = tensor.storage, prod(tensor.shape)
        used[storage] = used.get(storage, 0) + size
        if used[storage] > storage.count:
            raise UnusableInput(f"tensor {name} shares its values: tied weights are not supported")
        last = tensor.offset + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride, strict=True))
        kind = np.dtype(NUMPY[storage.dtype])
        content = raw.get(storage.key, b"")
        if size == 0 or last >= storage.count or len(content) != storage.count * kind.itemsize:
            damaged(f"tensor {name} does not fit its storage")
        flat = np.frombuffer(content, kind)
        strides = tuple(s * kind.itemsize if n > 1 else 0 for n, s in zip(tensor.shape, tensor.stride, strict=True))
        view = np.lib.stride_tricks.as_strided(flat[tensor.offset :], tensor.shape, strides, writeable=False)
        tensors[name] = Stored(storage.dtype, tensor.shape, view.tobytes())
    if sorted(storage.key for storage in used) != sorted(raw):
        damaged("its storages are not those of its tensors")
    return tensors


# --- safetensors ---


def _read_safetensors(data: bytes) -> Content:
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > min(len(data) - 8, MAX_HEADER_BYTES) or data[8:9] != b"{":
        damaged(f"neither torch.save's zip format nor safetensors; {HOW_TO_SAVE}")
    try:
        entries = parse(data[8 : 8 + length])
        match entries:
            case {"__metadata__": {"zkcert.graph": str(graph), "zkcert.input": str(spec), **others}}:
                del entries["__metadata__"]
            case _:
                raise UnusableInput(f"its metadata lack zkcert.graph and zkcert.input; {HOW_TO_SAVE}")
        if others not in ({}, {"format": "pt"}):
            damaged("its metadata hold more than graph and input")
        graph, spec = parse(graph), parse(spec)
    except ValueError as error:
        damaged(f"of its description, {error}")
    body, found = memoryview(data)[8 + length :], {}
    for name, entry in entries.items():
        dtype, extents = described(name, entry)
        begin, end = entry["data_offsets"]
        size = np.dtype(NUMPY[dtype]).itemsize * prod(extents)
        if not naturals((begin, end)) or end > len(body) or end - begin != size:
            damaged(f"tensor {name} does not fit its data")
        found[name] = begin, Stored(dtype, extents, body[begin:end])
    placed = sorted(found.values(), key=lambda pair: pair[0])
    ends = list(accumulate((len(tensor.data) for _, tensor in placed), initial=0))
    if [begin for begin, _ in placed] != ends[:-1] or ends[-1] != len(body):
        damaged("its tensors do not tile the data")
    return Content(graph, spec, {name: tensor for name, (_, tensor) in found.items()}, True)
