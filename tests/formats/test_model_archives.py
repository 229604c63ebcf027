"""Archives with every part as one likes: never read in two ways."""

from __future__ import annotations

import io
import json
import pickletools
import random
import struct
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import safetensors
import torch

from tests.formats.archives import (
    Archive,
    Member,
    Reading,
    by_safetensors,
    by_torch,
    lenient,
    saved,
    saved_file,
    small,
    small_file,
    strict,
    unpacked,
)
from zkcert.zoo import mlp

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
