"""One model file, one reading: what is accepted is what PyTorch and safetensors read from the same bytes."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import pickletools
import random
import struct
import subprocess
import sys
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise, product
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import safetensors
import torch
from safetensors import safe_open

import zkcert
from zkcert import cli
from zkcert.convert import from_module
from zkcert.errors import UnusableInput, ZkcertError
from zkcert.foreign import model_file as other_model_file
from zkcert.public import model_file, torch_archive
from zkcert.public.kinds import MODEL, kind_of
from zkcert.public.model import Model
from zkcert.public.model_file import Content, Stored
from zkcert.zoo import mlp

INPUT = {"shape": [1, 2, 2], "pad": 1, "mean": [0.5], "std": [0.25]}
TORCH = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64}


@functools.cache
def small(seed: int = 0) -> Model:
    return from_module(mlp(16, [3], 2, seed=seed), input=INPUT)


@functools.cache
def small_file(kind: str = ".pt", dtype: str = "F32", seed: int = 0) -> bytes:
    """The canonical file of a small model, with numbers of a type."""
    model = small(seed)
    tensors = {name: stored(torch.tensor(array).to(TORCH[dtype])) for name, array in model.tensors.items()}
    return b"".join(model_file.write(Content(model.graph, model.input, tensors, kind == ".safetensors")))


def stored(tensor: torch.Tensor) -> Stored:
    dtype = next(name for name, kind in TORCH.items() if kind == tensor.dtype)
    return Stored(dtype, tuple(tensor.shape), raw(tensor))


def raw(tensor: torch.Tensor) -> bytes:
    """The numbers in C order, little-endian."""
    return tensor.detach().resolve_neg().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


Reading = tuple[Any, Any, dict[str, Stored]]
"""Graph, input and tensors; `Stored` with data of bytes, so that readings can be compared."""


def ours(content: Content, model: Model) -> Reading:
    """A content that was accepted, with graph and input as the model has them."""
    tensors = {name: replace(tensor, data=bytes(tensor.data)) for name, tensor in content.tensors.items()}
    return model.graph, model.input, tensors


def strict(data: bytes) -> Reading | None:
    """What `verify` reads; None if it refuses."""
    try:
        model = Model.parse(data)
        return ours(model_file.read(data), model)
    except ZkcertError:
        return None


def lenient(data: bytes) -> Reading | None:
    """What `convert` reads in files that are not zkcert's."""
    try:
        content = other_model_file.read(data)
        return ours(content, Model.of(content))
    except ZkcertError:
        return None


def by_torch(data: bytes) -> Reading | None:
    """What PyTorch reads; None if it refuses."""
    try:
        value = torch.load(io.BytesIO(data), weights_only=True)
        state = {name: stored(tensor) for name, tensor in value["state_dict"].items()}
        model = Model(value["graph"], value["input"], {name: t.array() for name, t in state.items()})
    except Exception:  # whatever a damaged file makes it raise
        return None
    return model.graph, model.input, state


def by_safetensors(data: bytes, path: Path) -> Reading | None:
    """What the safetensors library reads; None if it refuses."""
    path.write_bytes(data)
    try:
        with safe_open(path, "np") as file:
            metadata = file.metadata()
        state = {
            name: Stored(found["dtype"], tuple(found["shape"]), bytes(found["data"]))
            for name, found in safetensors.deserialize(data)
        }
        graph, spec = (json.loads(metadata[key]) for key in ("zkcert.graph", "zkcert.input"))
        model = Model(graph, spec, {name: t.array() for name, t in state.items()})
    except Exception:  # whatever a damaged file makes it raise
        return None
    return model.graph, model.input, state


# --- zip archives, with every part as one likes ---


@dataclass
class Member:
    """A member: what the local header says, what the central directory says instead, and what else is there."""

    name: bytes
    content: bytes
    central: dict[str, Any] = field(default_factory=dict)
    local: dict[str, Any] = field(default_factory=dict)
    before: bytes = b""
    listed: bool = True

    def header(self, changes: dict[str, Any]) -> dict[str, Any]:
        size = len(self.content)
        parts = {"name": self.name, "crc": zlib.crc32(self.content), "size": size, "packed": size, "flags": 0}
        return {**parts, "method": 0, "extra": b"", "comment": b"", "shift": 0, **changes}


@dataclass
class Archive:
    """A zip archive; `pack` writes it as zkcert does, but for what is said otherwise."""

    members: list[Member]
    prefix: bytes = b""
    suffix: bytes = b""
    comment: bytes = b""
    gap: bytes = b""
    end: dict[str, int] = field(default_factory=dict)
    zip64: dict[str, int] | None = None
    order: Callable[[list[bytes]], list[bytes]] = list

    def pack(self) -> bytes:
        body, entries = self.prefix, []
        for m in self.members:
            body += m.before
            at = len(body)
            pad = -(at + 34 + len(m.name)) % 64
            h = m.header({"extra": b"FB" + struct.pack("<H", pad) + b"Z" * pad, **m.local})
            numbers = (20, h["flags"], h["method"], 0, 33, h["crc"], h["packed"], h["size"])
            body += struct.pack("<4s5H3I2H", b"PK\3\4", *numbers, len(h["name"]), len(h["extra"]))
            body += h["name"] + h["extra"] + m.content
            if h["flags"] & 8:
                body += struct.pack("<4s3I", b"PK\7\x08", h["crc"], h["packed"], h["size"])
            if not m.listed:
                continue
            h = m.header(m.central)
            numbers = (20, 20, h["flags"], h["method"], 0, 33, h["crc"], h["packed"], h["size"])
            lengths = (len(h["name"]), len(h["extra"]), len(h["comment"]))
            entry = struct.pack("<4s6H3I3H", b"PK\1\2", *numbers, *lengths)
            entries.append(
                entry + struct.pack("<HHII", 0, 0, 0, at + h["shift"]) + h["name"] + h["extra"] + h["comment"]
            )
        body += self.gap
        listing = b"".join(self.order(entries))
        end = {"count": len(entries), "size": len(listing), "at": len(body), **self.end}
        record = b""
        if self.zip64 is not None:
            wide = {**end, **self.zip64}
            record = struct.pack(
                "<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, wide["count"], wide["count"], wide["size"], wide["at"]
            )
            record += struct.pack("<4sIQI", b"PK\6\7", 0, len(body) + len(listing), 1)
        tail = struct.pack(
            "<4s4H2IH", b"PK\5\6", 0, 0, end["count"], end["count"], end["size"], end["at"], len(self.comment)
        )
        return body + listing + record + tail + self.comment + self.suffix


def unpacked(data: bytes) -> Archive:
    """An archive of the same members."""
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        return Archive([Member(info.filename.encode(), file.read(info)) for info in file.infolist()])


@functools.cache
def saved_file(seed: int = 0) -> bytes:
    """As torch.save writes a small model."""
    return saved(small(seed))


def saved(model: Model, **others: Any) -> bytes:
    """As torch.save writes it."""
    buffer = io.BytesIO()
    state = {name: torch.tensor(array) for name, array in model.tensors.items()}
    torch.save({"graph": model.graph, "input": model.input, "state_dict": state, **others}, buffer)
    return buffer.getvalue()


ZIP_FIELDS = ("name", "crc", "size", "packed", "flags", "method", "extra", "comment", "shift")


def zip_value(rng: random.Random, key: str, member: Member) -> Any:
    """A surprising value of a field of a header."""
    name = member.name
    unicode_name = struct.pack("<HHBI", 0x7075, 5 + len(name), 1, zlib.crc32(name)) + name.upper()
    choices: dict[str, list[Any]] = {
        "name": [name.upper(), name + b"x", name.replace(b"/", b"\\"), name.replace(b"0", b"1"), b"./" + name, b""],
        "crc": [0, zlib.crc32(member.content) ^ 1],
        "size": [0, len(member.content) + rng.choice((-1, 1, 64)) & 0xFFFFFFFF, 0xFFFFFFFF],
        "packed": [0, len(member.content) + rng.choice((-1, 1, 64)) & 0xFFFFFFFF, 0xFFFFFFFF],
        "flags": [1, 8, 1 << 11, 1 << 13],
        "method": [8, 99],
        "extra": [b"FB\2\0ZZ", b"FB\2\0Z", struct.pack("<HHQ", 1, 8, 5), unicode_name, b"abc"],
        "comment": [b"hello", b"PK\5\6" + bytes(18)],
        "shift": [rng.choice((1, 30, 64))],
    }
    return rng.choice(choices[key])


def mutated_zip(rng: random.Random) -> bytes:
    """An archive with one or two things changed, seldom none."""
    sources = [small_file(), small_file(dtype="BF16"), small_file(seed=1), saved_file(), saved_file(1)]
    data = rng.choice(sources)
    archive, other = unpacked(data), unpacked(rng.choice(sources))
    members = archive.members
    if rng.random() < 0.5:  # as if it were not zkcert's own
        archive.members = members = [member for member in members if not member.name.endswith(b".json")]
    for _ in range(rng.choice((0, 1, 1, 1, 2))):
        i = rng.randrange(len(members))
        match rng.randrange(15):
            case 0:
                key = rng.choice(ZIP_FIELDS)
                where = rng.choice((members[i].local, members[i].central))
                where[key] = zip_value(rng, key, members[i])
            case 1:
                key = rng.choice(ZIP_FIELDS)
                members[i].local[key] = members[i].central[key] = zip_value(rng, key, members[i])
            case 2:  # twice, perhaps with other content, perhaps listed once
                twin = rng.choice(other.members)
                copy = Member(members[i].name, rng.choice((members[i].content, twin.content)))
                members.insert(rng.randrange(len(members)), copy)
                rng.choice((copy, members[i])).listed = rng.random() < 0.5
            case 3:
                members[i] = replace(members[i], name=members[i].name.swapcase())
            case 4:
                del members[i]
            case 5:
                rng.shuffle(members)
            case 6:
                archive.order = rng.choice(
                    (sorted, lambda entries: entries[::-1], lambda entries: entries[1:] + entries[:1])
                )
            case 7:
                archive.prefix = rng.choice((b"\0", bytes(64), b"PK\3\4", data, other.pack()))
            case 8:
                archive.suffix = rng.choice((b"\0", bytes(22), data, other.pack(), b"PK\5\6" + bytes(18)))
            case 9:
                archive.comment = rng.choice((b"x", other.pack()[-60:], b"PK\5\6" + bytes(18)))
            case 10:
                archive.zip64 = {rng.choice(("count", "size", "at", "none")): rng.choice((0, 1, 5, 64))}
            case 11:
                archive.end = {rng.choice(("count", "size", "at")): rng.choice((0, 1, 64, 0xFFFF))}
            case 12:
                members[i].before = rng.choice((b"\0", bytes(64), other.pack()))
            case 13:
                archive.gap = rng.choice((b"\0", bytes(64), other.pack()))
            case 14:  # the pickle, or the numbers, of another model
                twins = {member.name: member.content for member in other.members}
                members[i] = replace(members[i], content=twins.get(members[i].name, members[i].content))
    return archive.pack()


def tricky_states() -> Iterator[Any]:
    """State dictionaries whose tensors are not plainly what their storages hold."""
    model = small()
    state = {name: torch.tensor(array) for name, array in model.tensors.items()}
    first, *_ = state
    base = state[first]
    yield OrderedDict(state)
    yield mlp(16, [3], 2).state_dict()
    yield {name: torch.nn.Parameter(tensor) for name, tensor in state.items()}
    yield dict(reversed(state.items()))
    for odd in (
        base.t().contiguous().t(),
        torch.cat([base, base + 1])[1 : 1 + len(base)],
        torch.stack([base, base + 1], 2)[:, :, 1],
        base[:1].expand_as(base),
        torch.zeros(1).expand_as(base),
        torch._neg_view(base.clone()),
        base.requires_grad_(),
        base.double(),
        base.half(),
        base.to(torch.bfloat16),
        base.to(torch.float8_e4m3fn),
        (base * 100).long(),
        base.to_sparse(),
        base.to(torch.complex64),
        base.clone().as_subclass(torch.nn.Buffer) if hasattr(torch.nn, "Buffer") else base,
    ):
        yield {**state, first: odd}
    shared = torch.arange(64, dtype=torch.float32) / 64
    yield {name: shared.as_strided(t.shape, t.stride(), 1) for name, t in state.items()}
    yield {**state, "extra": torch.zeros(2)}
    marked = OrderedDict(state)
    marked.note = "hidden"
    yield marked


def mutated_pickle(rng: random.Random, states: list[Any]) -> bytes:
    """A file whose pickle is unusual: other opcodes, types of storages, tensors, or damage."""
    model = small()
    kind = rng.randrange(4)
    if kind == 0:
        extras: list[dict[str, Any]] = [{}, {}, {}, {"more": 1}, {"graph": tuple(model.graph)}]
        return saved(model, **{"state_dict": rng.choice(states), **rng.choice(extras)})
    archive = unpacked(rng.choice([small_file(), small_file(dtype="F16"), saved_file()]))
    if rng.random() < 0.8:
        archive.members = [member for member in archive.members if not member.name.endswith(b".json")]
    head = archive.members[0]
    text = head.content
    if kind == 1:  # one storage as two types, one number of another kind, one name for another
        swaps = [
            (b"FloatStorage", b"HalfStorage"), (b"FloatStorage", b"DoubleStorage"), (b"Half", b"BFloat16"),
            (b"X\1\0\0\0\x30", b"X\1\0\0\0\x31"), (b"\x89c", b"\x88c"), (b"cpu", b"gpu"), (b"K\x03", b"K\x02"),
            (b"K\x00", b"K\x01"), (b"fc1.weight", b"fc1.wEight"), (b"relu", b"RELU"), (b"K\x01", b"M\x01\x00"),
            (b"K\x01", b"J\x01\0\0\0"), (b"K\x01", b"\x8a\x01\x01"), (b"K\x01", b"\x88"), (b"N", b"N0N"),
            (b"]", b"]0]"), (b"u.", b"u0."), (b"u.", b"uq\0."), (b"\x80\x02", b"\x80\x03"),
            (b"\x80\x02", b"\x80\x02\x80\x02"),
            (b"tR", b"tRq\x07h\x07"), (b")RtR", b")R}tR"), (b")RtR", b")R}X\3\0\0\0neg\x88stR"), (b"tR", b"tR}b"),
        ]  # fmt: skip
        old, new = rng.choice(swaps)
        spots = [i for i in range(len(text)) if text.startswith(old, i)]
        chosen = rng.sample(spots, min(len(spots), rng.choice((1, len(spots)))))
        for at in sorted(chosen, reverse=True):
            text = text[:at] + new + text[at + len(old) :]
    elif kind == 2:
        text = pickletools.optimize(text)
    else:
        at = rng.randrange(len(text))
        text = text[:at] + rng.choice((b"", bytes([rng.randrange(256)]), b"0", b"2")) + text[at + rng.randrange(3) :]
    archive.members[0] = replace(head, content=text)
    return archive.pack()


def mutated_safetensors(rng: random.Random) -> bytes:
    """A file with its header written in another way, or saying something else."""
    data = small_file(".safetensors", rng.choice(("F32", "BF16", "F64")))
    length = int.from_bytes(data[:8], "little")
    text, body = data[8 : 8 + length], data[8 + length :]
    header = json.loads(text)
    names = [name for name in header if name != "__metadata__"]
    one, two = rng.sample(names, 2)
    kind = rng.randrange(12)
    if kind == 0:
        pairs = list(header.items())
        rng.shuffle(pairs)
        text = json.dumps(dict(pairs), separators=(",", ":")).encode()
    elif kind == 1:
        text = json.dumps(header, indent=rng.choice((None, 1)), sort_keys=rng.random() < 0.5).encode()
    elif kind == 2:  # a key twice
        entry = json.dumps(header[rng.choice(names)]).encode()
        text = text.rstrip()[:-1] + b',"' + one.encode() + b'":' + entry + b"}"
    elif kind == 3:
        old, new = rng.choice(
            [(b"[0,", b"[-0,"), (b"[0,", b"[0.0,"), (b"[0,", b"[00,"), (b"[0,", b"[0e0,"), (b":[3", b":[3.0"),
             (b":[3", b":[30e-1"), (b"F32", b"F16"), (b"F32", b"f32"), (b"F32", b"I32"), (b"BF16", b"F16"),
             (b"fc1.weight", b"fc1\\u002eweight"), (b"fc1", b"FC1"), (b'"dtype"', b'"x":1,"dtype"'), (b"0.5", b"0.50"),
             (b"shape", b"Shape"), (b"[0,", b"[NaN,"), (b"zkcert.input", b"zkcert.Input"), (b"{", b"\xef\xbb\xbf{"),
             (b":[", b": ["), (b":[", b":\t["), (b"0.5", b"5e-1"), (b"linear", b"line\\u0061r")]
        )  # fmt: skip
        text = text.replace(old, new, rng.choice((1, 99)))
    elif kind == 4:
        header[one], header[two] = header[two], header[one]
        text = json.dumps(header, separators=(",", ":")).encode()
    elif kind == 5:
        header[one]["data_offsets"] = [v + rng.choice((-4, 4, 8)) for v in header[one]["data_offsets"]]
        text = json.dumps(header, separators=(",", ":")).encode()
    elif kind == 6:
        header[one]["shape"] = rng.choice((header[one]["shape"][::-1], [*header[one]["shape"], 1], [], [-1, -3]))
        text = json.dumps(header, separators=(",", ":")).encode()
    elif kind == 7:
        header["__metadata__"][rng.choice(("format", "more", "zkcert.graph2"))] = "pt"
        text = json.dumps(header, separators=(",", ":")).encode()
    elif kind == 8:
        text = rng.choice((text + b" " * rng.choice((1, 8)), b" " + text, text.rstrip(), text + b"\0", text + b"\n"))
    elif kind == 9:
        body = rng.choice((body + bytes(4), body[:-4], body[4:] + body[:4]))
    elif kind == 10:
        header["zero"] = {"dtype": "F32", "shape": [0], "data_offsets": [len(body)] * 2}
        text = json.dumps(header, separators=(",", ":")).encode()
    length = len(text) + (rng.choice((-1, 1, 1 << 40)) if kind == 11 else 0)
    return struct.pack("<Q", length) + text + body


def read_alike(files: Iterator[bytes], other: Callable[[bytes], Reading | None]) -> tuple[int, int, int]:
    """Files that are accepted as they are, by conversion, and by the other reader; all readings are compared."""
    counts = [0, 0, 0]
    for data in files:
        theirs = other(data)
        for i, read in enumerate((strict, lenient)):
            if (found := read(data)) is not None:
                assert found == theirs, read.__name__
                counts[i] += 1
        counts[2] += theirs is not None
    return counts[0], counts[1], counts[2]


def test_zip_archives_are_read_as_pytorch_reads_them_or_refused():
    rng = random.Random(1)
    accepted, converted, theirs = read_alike((mutated_zip(rng) for _ in range(2000)), by_torch)
    assert 100 < accepted < converted < theirs - 500, (accepted, converted, theirs)


def test_pickles_are_read_as_pytorch_reads_them_or_refused():
    rng, states = random.Random(2), list(tricky_states())
    accepted, converted, theirs = read_alike((mutated_pickle(rng, states) for _ in range(800)), by_torch)
    assert 20 < accepted < converted < theirs - 50, (accepted, converted, theirs)


def test_safetensors_are_read_as_their_library_reads_them_or_refused(tmp_path):
    rng = random.Random(3)
    files = (mutated_safetensors(rng) for _ in range(800))
    accepted, converted, theirs = read_alike(files, lambda data: by_safetensors(data, tmp_path / "m.safetensors"))
    assert 15 < accepted < converted < theirs - 30, (accepted, converted, theirs)


def refused(data: bytes) -> bool:
    return strict(data) is None and lenient(data) is None


def test_a_safetensors_file_that_begins_like_a_zip_archive_is_refused(tmp_path):
    """Its header has a length of PK..., and an archive stands at its end."""
    data = small_file(".safetensors")
    length = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    for archive in (small_file(seed=1), saved_file(1)):
        header["z"] = {"dtype": "U8", "shape": [len(archive)], "data_offsets": [len(body), len(body) + len(archive)]}
        text = json.dumps(header).encode().ljust(0x4B50)
        both = struct.pack("<Q", len(text)) + text + body + archive
        assert both.startswith(b"PK") and {name for name, _ in safetensors.deserialize(both)} > set(small().params)
        assert zipfile.ZipFile(io.BytesIO(both)).testzip() is None
        assert refused(both)


def test_two_archives_in_one_file_are_refused():
    """The directory is the first archive's for PyTorch, the last one's for Python."""
    one, two = (Archive([m for m in unpacked(small_file(seed=i)).members if m.name[-4:] != b"json"]) for i in (1, 0))
    first = one.pack()[:-22]
    at, size = struct.unpack("<II", one.pack()[-10:-2])[::-1]
    second = two.pack()[:-22]
    start = len(second) - size
    entries = second[start:]
    both = first + second[:start]
    shift = len(both) - at  # what Python adds to all offsets
    moved, i = b"", 0
    while i < size:
        length = 46 + int.from_bytes(entries[i + 28 : i + 30], "little")
        offset = int.from_bytes(entries[i + 42 : i + 46], "little") + len(first) - shift
        moved += entries[i : i + 42] + struct.pack("<i", offset) + entries[i + 46 : i + length]
        i += length
    both += moved + one.pack()[-22:]
    assert by_torch(both) == by_torch(one.pack()) != by_torch(two.pack())
    with zipfile.ZipFile(io.BytesIO(both)) as file:
        assert file.read("model/data/0") == unpacked(two.pack()).members[2].content
    assert refused(both)


# --- The one form ---


@pytest.mark.parametrize("dtype", TORCH)
def test_a_file_is_read_by_pytorch_and_safetensors(tmp_path, dtype):
    data, model = small_file(dtype=dtype), Model.parse(small_file(dtype=dtype))
    (tmp_path / "m.pt").write_bytes(data)
    for mapped in (False, True):
        value = torch.load(tmp_path / "m.pt", weights_only=True, mmap=mapped)
        assert list(value) == ["graph", "input", "state_dict"] and list(value["state_dict"]) == list(model.tensors)
        assert value["graph"] == model.graph and value["input"] == model.input
        for name, tensor in value["state_dict"].items():
            assert tensor.dtype == TORCH[dtype] and tensor.is_contiguous() and tensor.storage_offset() == 0
            assert tensor.untyped_storage().nbytes() == tensor.nbytes and not tensor.requires_grad
            np.testing.assert_array_equal(tensor.double().numpy(), model.tensors[name])
    assert strict(data) == by_torch(data)
    other = small_file(".safetensors", dtype)
    assert strict(other) == by_safetensors(other, tmp_path / "m.safetensors") == strict(data)
    with zipfile.ZipFile(tmp_path / "m.pt") as file:
        assert file.testzip() is None and len(file.namelist()) == 4 + len(model.tensors)
        for info in file.infolist():
            assert data.index(file.read(info), info.header_offset + 30 + len(info.filename)) % 64 == 0
    assert unpacked(data).pack() == data, "the archive of the tests is that of zkcert"


@pytest.mark.parametrize("suffix", [".pt", ".pth", "", ".safetensors"])
def test_saving_is_deterministic_and_the_name_says_the_format(tmp_path, suffix):
    paths = [tmp_path / f"{name}{suffix}" for name in ("a", "b")]
    for path in paths:
        small().save(path)
        assert kind_of(path) == MODEL
    data = paths[0].read_bytes()
    assert data == paths[1].read_bytes() == small_file(suffix)
    assert Model.load(paths[0]).weights_digest == small().weights_digest
    wrong = tmp_path / ("c.pt" if suffix == ".safetensors" else "c.SafeTensors")
    wrong.write_bytes(data)
    with pytest.raises(UnusableInput, match=rf"^{wrong}: it holds .*its name must (not )?end in \.safetensors$"):
        Model.load(wrong)


def test_saving_needs_no_pytorch_and_verifying_no_reader_of_pickles(tmp_path):
    small().save(tmp_path / "m.pt")
    code = (
        "import sys, verifier.files as v; v.load_model('m.pt').save('again.pt');"
        "assert not {'torch', 'pickletools', 'zkcert.foreign.torch_pickle', 'zkcert.foreign.model_file'}"
        " & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
    assert (tmp_path / "again.pt").read_bytes() == small_file()


def test_a_batch_norm_and_branches_survive(tmp_path):
    torch.manual_seed(1)

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.conv = torch.nn.BatchNorm2d(1), torch.nn.Conv2d(1, 1, 3, padding=1)
            self.head = torch.nn.Linear(16, 2, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.norm(x)
            return self.head((self.conv(x) + x).flatten(1))

    model = from_module(Net(), input=INPUT)
    for name in ("m.pt", "m.safetensors"):
        model.save(tmp_path / name)
        again = Model.load(tmp_path / name)
        assert again.weights_digest == model.weights_digest and again.graph == model.graph
    assert strict((tmp_path / "m.pt").read_bytes()) == by_torch((tmp_path / "m.pt").read_bytes())


def test_values_of_every_kind_are_pickled_as_pytorch_reads_them():
    values = [
        0,
        255,
        256,
        65535,
        65536,
        -1,
        (1 << 31) - 1,
        0.1,
        -0.0,
        1e-300,
        "a",
        "\u00e9",
        True,
        False,
        None,
        [],
        {},
        [1],
    ]
    graph = [{"op": value, "inner": [values]} for value in values]
    tensors = {"w": torch.arange(4.0).reshape(2, 1, 2), "s": torch.tensor([0.5], dtype=torch.float64)}
    content = Content(graph, {"x": values}, {name: stored(t) for name, t in tensors.items()}, False)
    found = torch.load(io.BytesIO(b"".join(model_file.write(content))), weights_only=True)
    assert repr(found["graph"]) == repr(graph) and found["input"] == {"x": values}
    assert {name: raw(t) for name, t in found["state_dict"].items()} == {name: raw(t) for name, t in tensors.items()}
    assert [t.shape for t in found["state_dict"].values()] == [t.shape for t in tensors.values()]


def by_the_text(model: Model) -> bytes:
    """model.pt of float32 numbers as docs/spec/files.md has it."""

    def v(value: Any) -> bytes:
        if isinstance(value, dict):
            return b"}(" + b"".join(v(k) + v(x) for k, x in value.items()) + b"u"
        if isinstance(value, list):
            return b"](" + b"".join(map(v, value)) + b"e"
        if isinstance(value, str):
            return b"X" + struct.pack("<I", len(value)) + value.encode()
        if isinstance(value, float):
            return b"G" + struct.pack(">d", value)
        for letter, form in ("KB", "MH", "Ji"):
            if value is not None and value < 1 << 8 * struct.calcsize(form):
                return letter.encode() + struct.pack("<" + form, value)
        return b"N"

    def tensor(i: int, array: np.ndarray) -> bytes:
        shape, strides = (b"(" + b"".join(map(v, x)) + b"t" for x in (array.shape, np.array(array.strides) // 4))
        storage = v("storage") + b"ctorch\nFloatStorage\n" + v(str(i)) + v("cpu") + v(array.size)
        head = b"ctorch._utils\n_rebuild_tensor_v2\n((" + storage + b"tQ" + v(0)
        return head + shape + strides + b"\x89ccollections\nOrderedDict\n)RtR"

    state = b"".join(v(name) + tensor(i, array) for i, (name, array) in enumerate(model.tensors.items()))
    content = v("graph") + v(model.graph) + v("input") + v(model.input) + v("state_dict")
    graph, spec = (json.dumps(x, sort_keys=True, separators=(",", ":")) for x in (model.graph, model.input))
    description: dict[str, Any] = {"__metadata__": {"zkcert.graph": graph, "zkcert.input": spec}}
    end = 0
    for name, array in model.tensors.items():
        begin, end = end, end + array.nbytes
        description[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [begin, end]}
    text = json.dumps(description, separators=(",", ":")).encode()
    members = {"data.pkl": b"\x80\x02}(" + content + b"}(" + state + b"uu."}
    members |= {"zkcert.json": text.ljust(-(-len(text) // 8) * 8), "byteorder": b"little"}
    members |= {f"data/{i}": array.tobytes() for i, array in enumerate(model.tensors.values())}
    members["version"] = b"3\n"
    return Archive([Member(b"model/" + name.encode(), content) for name, content in members.items()]).pack()


def test_the_specification_suffices():
    module = torch.nn.Sequential(torch.nn.BatchNorm2d(1), torch.nn.Conv2d(1, 2, 3, bias=False), torch.nn.MaxPool2d(2))
    module.extend([torch.nn.Flatten(), torch.nn.Linear(2, 300)])
    model = from_module(module, input=INPUT)
    assert by_the_text(small()) == small_file()
    assert strict(by_the_text(model)) is not None


def test_files_are_compared_block_by_block(monkeypatch):
    monkeypatch.setattr(model_file, "_BLOCK", 7)
    data = small_file()
    assert strict(data) is not None
    for at in range(0, len(data), 5):
        assert strict(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]) is None


def test_archives_too_large_for_the_format_are_refused(monkeypatch, tmp_path):
    size = len(small_file())
    for name, limit, fits in (
        ("MAX_BYTES", size, True), ("MAX_BYTES", size - 1, False), ("MAX_BYTES", size - 900, False),
        ("MAX_MEMBERS", 8, True), ("MAX_MEMBERS", 7, False),
    ):  # fmt: skip
        with monkeypatch.context() as patch:
            patch.setattr(torch_archive, name, limit)
            if fits:
                small().save(tmp_path / "m.pt", force=True)
                continue
            with pytest.raises(UnusableInput, match=r"does not fit the zip format .*use \.safetensors"):
                small().save(tmp_path / "n.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["m.pt"]
    content = replace(model_file.read(small_file()), tensors={"x": Stored("F32", (1 << 16, 1 << 15), b"")})
    with pytest.raises(UnusableInput, match=r"2\^31 numbers or more.*use \.safetensors"):
        list(model_file.write(content))


def test_names_that_differ_in_case_only_are_refused():
    model = small()
    first, *_ = model.params
    graph = [{**node, "bias": first.upper()} if node.get("weight") == first else node for node in model.graph]
    tensors = {name: array for name, array in model.params.items() if name != "fc1.bias"}
    with pytest.raises(UnusableInput, match="differ only in case"):
        Model(graph, model.input, {**tensors, first.upper(): model.params["fc1.bias"]})


def test_descriptions_of_any_size_are_neither_written_nor_read(monkeypatch):
    data, other = small_file(), small_file(".safetensors")
    content = model_file.read(data)
    with pytest.raises(UnusableInput, match="no tensor may be called __metadata__"):
        list(model_file.write(replace(content, tensors={"__metadata__": content.tensors["fc1.bias"]})))
    with monkeypatch.context() as patch:
        patch.setattr(model_file, "MAX_HEADER_BYTES", 500)
        with pytest.raises(UnusableInput, match="shorten its names"):
            list(model_file.write(content))
        for file in (data, other):
            with pytest.raises(UnusableInput, match=r"more than 500 bytes|neither"):
                Model.parse(file)
    monkeypatch.setattr(model_file, "MAX_TENSORS", 3)
    with pytest.raises(UnusableInput, match="more than 3 tensors"):
        Model.parse(data)


def test_errors_name_the_file(tmp_path):
    data = small_file()
    for content in (b"", data[:-1], data + b"\0", saved_file(), data.replace(b"relu", b"gelu")):
        path = tmp_path / "some.pt"
        path.write_bytes(content)
        with pytest.raises(ZkcertError) as error:
            Model.load(path)
        assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)


# --- Conversion ---


@pytest.mark.parametrize("dtype, count", [("F32", 48), ("F16", 96), ("BF16", 96), ("F64", 24)])
def test_a_storage_has_one_type(dtype, count):
    """PyTorch keeps a storage as it is loaded first: here among attributes of the state, which `convert` drops."""
    archive = unpacked(small_file())
    archive.members = [member for member in archive.members if not member.name.endswith(b".json")]
    text = archive.members[0].content
    first = torch_archive.pickled(None, None, {"x": (dtype, (count,))})
    storage = first[first.index(b"((") + 1 : first.index(b"tQ") + 2]  # the opcodes that load it
    state = b"ccollections\nOrderedDict\n)R}(X\x09\0\0\0_metadata" + storage + b"ub("
    changed = text.replace(b"X\x0a\0\0\0state_dict}(", b"X\x0a\0\0\0state_dict" + state)
    archive.members[0] = replace(archive.members[0], content=changed)
    data = archive.pack()
    read = by_torch(data)
    assert changed != text and (read is None or read[2]["fc1.weight"].dtype == dtype)
    assert lenient(data) == (read if dtype == "F32" else None)


def by_torch_mapped(data: bytes, path: Path) -> dict[str, bytes] | None:
    """The numbers PyTorch reads if it computes where they are, rather than looks."""
    path.write_bytes(data)
    try:
        with mock.patch.object(torch.utils.serialization.config.load, "calculate_storage_offsets", True):
            return {name: raw(t) for name, t in torch.load(path, mmap=True)["state_dict"].items()}
    except Exception:
        return None


def test_storages_are_where_pytorch_may_compute_that_they_are(tmp_path):
    verdicts = set()
    for described, alignment, version in product((False, True), (b"64", b"128", b"4096", None), (b"1", b"", None)):
        archive = unpacked(saved_file())
        flags = {"flags": 8 * described}
        contents = {b"storage_alignment": alignment, b"format_version": version}
        contents = {b"archive/." + name: content for name, content in contents.items()}
        kept = [m for m in archive.members if contents.get(m.name, b"") is not None]
        archive.members = [
            replace(m, content=contents.get(m.name, m.content), local=flags, central=flags) for m in kept
        ]
        data = archive.pack()
        accepted, mapped = lenient(data), by_torch_mapped(data, tmp_path / "model.pt")
        if accepted is not None and mapped is not None:
            assert mapped == {name: tensor.data for name, tensor in accepted[2].items()}
        verdicts.add((accepted is not None, mapped is not None))
    assert {(True, True), (False, True)} <= verdicts
    assert by_torch_mapped(saved_file(), tmp_path / "model.pt") and lenient(saved_file())


def test_conversion_changes_the_form_and_nothing_else(tmp_path):
    (tmp_path / "old.pt").write_bytes(saved_file())
    chain = ["old.pt", "a.pt", "b.safetensors", "c.pth", "d.safetensors"]
    for source, out in pairwise(chain):
        result = zkcert.convert_model(tmp_path / source, tmp_path / out)
        data = (tmp_path / out).read_bytes()
        assert data == small_file(result.path.suffix)
        assert result.model.weights_digest == small().weights_digest == Model.load(tmp_path / out).weights_digest
        assert (result.size, result.sha256) == (len(data), hashlib.sha256(data).hexdigest())


@pytest.mark.parametrize("dtype", TORCH)
def test_conversion_keeps_the_type_of_numbers(tmp_path, dtype):
    (tmp_path / "m.pt").write_bytes(small_file(dtype=dtype))
    zkcert.convert_model(tmp_path / "m.pt", tmp_path / "m.safetensors")
    assert (tmp_path / "m.safetensors").read_bytes() == small_file(".safetensors", dtype)


def test_conversion_orders_and_flattens(tmp_path):
    header = {"__metadata__": {"zkcert.graph": json.dumps(small().graph), "zkcert.input": json.dumps(small().input)}}
    body = b""
    for name, array in sorted(small().tensors.items(), reverse=True):
        offsets = [len(body), len(body) + array.nbytes]
        header[name] = {"shape": list(array.shape), "data_offsets": offsets, "dtype": "F32"}
        body += array.tobytes()
    text = json.dumps(header, indent=2).encode()
    (tmp_path / "old.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + body)
    state = {
        name: torch.tensor(a).t().contiguous().t() if a.ndim == 2 else torch.tensor(a)
        for name, a in small().params.items()
    }
    (tmp_path / "old.pt").write_bytes(saved(small(), state_dict=OrderedDict(reversed(state.items()))))
    for source in ("old.safetensors", "old.pt"):
        with pytest.raises(UnusableInput, match="`zkcert convert OLD -o NEW` writes it anew"):
            Model.load(tmp_path / source)
        for out in ("new.pt", "new.safetensors"):
            zkcert.convert_model(tmp_path / source, tmp_path / out, force=True)
            assert (tmp_path / out).read_bytes() == small_file(Path(out).suffix)


def test_a_damaged_file_of_ours_is_not_converted(tmp_path):
    path, rng = tmp_path / "m.pt", random.Random(4)
    for _ in range(50):
        data = bytearray(small_file())
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        with pytest.raises(ZkcertError, match=f"^{path}: "):
            zkcert.convert_model(path, tmp_path / "out.pt")
    assert not (tmp_path / "out.pt").exists()


def test_the_command_converts(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("old.pt").write_bytes(saved_file())
    assert cli.main(["convert", "old.pt", "-o", "model.pt"]) == 0
    text, digest = capsys.readouterr().out, hashlib.sha256(small_file()).hexdigest()
    assert small().weights_digest.hex() in text and digest in text
    assert cli.main(["convert", "old.pt", "-o", "model.pt"]) == 2
    assert "--force" in capsys.readouterr().err
    assert cli.main(["convert", "model.pt", "-o", "model.safetensors", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["model"] == small().weights_digest.hex() and found["file"] == "model.safetensors"
    assert found["sha256"] == hashlib.sha256(small_file(".safetensors")).hexdigest()
    for bad in ("missing.pt", "model.pt"):
        assert cli.main(["convert", bad, "-o", "model.pt", "--force"]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
    assert Path("model.pt").read_bytes() == small_file()
