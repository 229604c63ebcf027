"""Changes of files that keep most of their structure: lengths, offsets, keys, numbers, members, entries."""

from __future__ import annotations

import gzip
import io
import json
import pickletools
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from blake3 import blake3

from zkcert.core.container import MAGIC
from zkcert.core.field import P
from zkcert.public.config import canonical_json

Mutation = Callable[[Random, bytes], bytes]

EXTREMES = [0, 1, 2, 3, 127, 128, 255, 256, 4096, 65_535, 65_536, (1 << 31) - 1, 1 << 31, (1 << 32) - 1]
EXTREMES += [1 << 32, P - 1, P, P + 1, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]
DEEP = 20_000  # levels of nesting


def rounds(rng: Random, data: bytes, mutation: Mutation) -> bytes:
    """One to three changes; what the mutation cannot take apart any more is changed as bytes."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        try:
            data = mutation(rng, data) if rng.random() < 0.9 else as_bytes(rng, data)
        except Exception:  # what was changed before may have no structure left
            data = as_bytes(rng, data)
    return data


def as_bytes(rng: Random, data: bytes) -> bytes:
    """A change that knows no structure."""
    at, size = rng.randrange(len(data) + 1), rng.choice((1, 2, 4, 8))
    if rng.random() < 0.5:
        at = min(at, rng.randrange(300))  # headers
    other = rng.randrange(len(data) + 1)
    match rng.randrange(8):
        case 0:
            return data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
        case 1:
            return data[:at] + bytes(byte ^ 1 << rng.randrange(8) for byte in data[at : at + 1]) + data[at + 1 :]
        case 2:
            number = rng.choice(EXTREMES) % (1 << 8 * size)
            return data[:at] + number.to_bytes(size, rng.choice(("little", "big"))) + data[at + size :]
        case 3:
            return data[:at]
        case 4:
            return data + rng.randbytes(rng.choice((1, 8, 16, 32, 1000)))
        case 5:
            return data[:at] + data[at + size * rng.randrange(1, 5) :]
        case 6:
            return data[:at] + data[min(at, other) : max(at, other)][:1000] + data[at:]
        case _:
            return data[:at] + data[other : other + 8 * size] + data[at + 8 * size :]


# ----------------------------------------------------------------------------------------------------- JSON


class Pairs(list[tuple[str, Any]]):
    """A JSON object whose keys may be repeated."""


def as_json(rng: Random, data: bytes) -> bytes:
    """Change keys, values, numbers and the spelling of a JSON text."""
    value = json.loads(data, object_pairs_hook=Pairs)
    places: list[tuple[Any, int]] = []

    def collect(node: Any) -> None:
        if isinstance(node, list):
            for i, entry in enumerate(node):
                places.append((node, i))
                collect(entry[1] if isinstance(node, Pairs) else entry)

    collect(value)
    holder, i = rng.choice(places)
    old = holder[i][1] if isinstance(holder, Pairs) else holder[i]
    match rng.randrange(6):
        case 0:
            del holder[i]
        case 1:
            holder.insert(rng.randrange(len(holder) + 1), holder[i])
        case 2 if isinstance(holder, Pairs):
            key = holder[i][0]
            holder[i] = (rng.choice((key.upper(), key + "\0", key[:-1], "", "\ud800", key * 50)), old)
        case _:
            new = _other_value(rng, old)
            holder[i] = (holder[i][0], new) if isinstance(holder, Pairs) else new
    text = _dump(value, rng.choice(("", "", " ", "\n\t")))
    text = text.replace('"@deep"', rng.choice(("[" * DEEP + "]" * DEEP, '{"a":' * DEEP + "1" + "}" * DEEP)))
    encoding = rng.choice(("utf-8",) * 12 + ("utf-16", "utf-8-sig", "latin-1"))
    return text.encode(encoding, "surrogatepass" if encoding == "utf-8" else "replace")


def _dump(value: Any, space: str) -> str:
    if isinstance(value, Pairs):
        return "{" + ("," + space).join(f"{json.dumps(k)}:{space}{_dump(v, space)}" for k, v in value) + "}"
    if isinstance(value, list):
        return "[" + ("," + space).join(_dump(entry, space) for entry in value) + "]"
    return value.text if isinstance(value, Raw) else json.dumps(value)


class Raw:
    """A number in a spelling of its own."""

    def __init__(self, text: str) -> None:
        self.text = text


def _other_value(rng: Random, old: Any) -> Any:
    if isinstance(old, int) and not isinstance(old, bool) and rng.random() < 0.7:
        return rng.choice((old + 1, old - 1, -old, 2 * old, old * 1.0, rng.choice(EXTREMES), Raw(f"{old}e0")))
    if isinstance(old, float) and rng.random() < 0.7:
        return rng.choice((old + 1e-9, -old, old * 1e300, int(old), Raw(f"{old}0"), Raw("1e999"), Raw("-0.0")))
    if isinstance(old, str) and old and rng.random() < 0.7:
        at = rng.randrange(len(old))
        other = rng.choice("019afAF./-_ \0\u00e9\u0661\U0001f600")
        return rng.choice((old[:at] + other + old[at + 1 :], old[:at] + old[at + 1 :], old + old[at], old.upper()))
    odd: tuple[Any, ...] = (None, True, 0, -1, 1.5, "", "0", "1/3", "nan", [], Pairs(), [0] * 9, "x" * 5000, "@deep")
    return rng.choice((*odd, Raw("NaN"), Raw("-Infinity"), Raw("9" * 5000), Raw("0." + "1" * 5000), Raw("1e400")))


def as_announcement(rng: Random, data: bytes) -> bytes:
    """An announcement, as often as not with the digest of its new content."""
    data = as_json(rng, data)
    content = json.loads(data)
    if rng.random() < 0.5:
        content.pop("digest", None)
        text = canonical_json(content)
        content["digest"] = blake3(b"zkcert/announcement/1" + text.encode()).hexdigest()
        return json.dumps(content).encode()
    return data


# ------------------------------------------------------------------------------------------------ containers


def as_zip(rng: Random, data: bytes, member: Callable[[Random, str, bytes], bytes]) -> bytes:
    """Change a member's content, the list of members, or a field of the zip's records."""
    if rng.random() < 0.4:
        return _zip_field(rng, data)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        parts = [(info.filename, archive.read(info)) for info in archive.infolist()]
    i = rng.randrange(len(parts))
    name, content = parts[i]
    match rng.randrange(8):
        case 0:
            del parts[i]
        case 1:
            parts.insert(rng.randrange(len(parts) + 1), (name, content if rng.random() < 0.5 else b"x"))
        case 2:
            parts[i] = (rng.choice((name.upper(), name + "x", "../" + name, "", name[:-1], parts[0][0])), content)
        case 3:
            rng.shuffle(parts)
        case _:
            parts[i] = (name, member(rng, name, content))
    out = io.BytesIO()
    kind = rng.choice((zipfile.ZIP_STORED,) * 6 + (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
    with zipfile.ZipFile(out, "w", kind) as archive:
        names: set[str] = set()
        for name, content in parts:
            if name in names:  # zipfile warns of these
                archive.NameToInfo.clear()
            names.add(name)
            archive.writestr(zipfile.ZipInfo(name), content, kind)
    return out.getvalue()


_RECORDS = {b"PK\1\2": 46, b"PK\3\4": 30, b"PK\5\6": 22}


def _zip_field(rng: Random, data: bytes) -> bytes:
    signature = rng.choice(list(_RECORDS))
    places = [at for at in range(len(data) - 3) if data[at : at + 4] == signature]
    at = rng.choice(places) + rng.randrange(4, _RECORDS[signature], 2)
    size = rng.choice((2, 4))
    old = int.from_bytes(data[at : at + size], "little")
    number = rng.choice((old + 1, old - 1, old ^ 8, len(data), rng.choice(EXTREMES))) % (1 << 8 * size)
    return data[:at] + number.to_bytes(size, "little") + data[at + size :]


def as_gzip(rng: Random, data: bytes) -> bytes:
    """An IDX file in gzip."""
    match rng.randrange(8):
        case 0:
            return data + data
        case 1:
            return as_bytes(rng, data)
        case 2:
            return gzip.compress(gzip.decompress(data) + bytes(1 << 24), 1, mtime=0)
        case _:
            return gzip.compress(as_idx(rng, gzip.decompress(data)), 1, mtime=0)


def as_idx(rng: Random, data: bytes) -> bytes:
    """Change an extent of the header, or something else."""
    if rng.random() < 0.3:
        return as_bytes(rng, data)
    at = 4 * rng.randrange(4)
    number = rng.choice((int.from_bytes(data[at : at + 4], "big") + rng.choice((-1, 1)), rng.choice(EXTREMES)))
    return data[:at] + (number % (1 << 32)).to_bytes(4, "big") + data[at + 4 :]


_TYPES = ["|u1", "|b1", "<i8", ">i4", "<u8", "<f2", ">f4", "<f8", "<f16", "|O", "<U4", "|S9", "<c8", "<M8[s]", "u1"]


def as_npy(rng: Random, data: bytes) -> bytes:
    """Change a .npy file's header, its length, or the content."""
    length = int.from_bytes(data[8:10], "little")
    text, body = data[10 : 10 + length].decode("latin1"), data[10 + length :]
    match rng.randrange(8):
        case 0:
            return data[:6] + bytes([rng.choice((1, 2, 3, 4, 255)), 0]) + data[8:]
        case 1:
            return data[:8] + (rng.choice(EXTREMES) % 65_536).to_bytes(2, "little") + data[10:]
        case 2:
            body = as_bytes(rng, body)
        case 3:
            text = as_bytes(rng, text.encode("latin1")).decode("latin1")
        case 4:
            text = text.replace("False", rng.choice(("True", "0", "None", "[]")))
        case 5 | 6:
            start, stop = text.index("("), text.index(")")
            old = [int(part) for part in text[start + 1 : stop].split(",") if part.strip()]
            i = rng.randrange(len(old))
            new = rng.choice((*([*old[:i], n, *old[i + 1 :]] for n in (-1, 0, old[i] + 1)), [1, *old], old[:i]))
            new = rng.choice((new, new, [*old[:i], rng.choice(EXTREMES), *old[i + 1 :]], [0, 1 << 62, *old[1:]]))
            text = text[:start] + rng.choice((str(tuple(new)), str(new), "(" * 900 + ")" * 900)) + text[stop + 1 :]
        case _:
            start = text.index("'descr': '") + 10
            text = text[:start] + rng.choice(_TYPES) + text[text.index("'", start) :]
    return data[:8] + len(text).to_bytes(2, "little") + text.encode("latin1") + body


def as_npz(rng: Random, data: bytes) -> bytes:
    """An archive of arrays."""
    return as_zip(rng, data, lambda rng, name, content: as_npy(rng, content))


# --------------------------------------------------------------------------------------- pictures and tables


def as_picture(rng: Random, data: bytes) -> bytes:
    """Change a chunk of a PNG, with a right checksum, or a segment of a JPEG."""
    if rng.random() < 0.2:
        return as_bytes(rng, data)
    return _as_png(rng, data) if data.startswith(b"\x89PNG") else _as_jpeg(rng, data)


def _as_png(rng: Random, data: bytes) -> bytes:
    parts, at = [], 8
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        parts.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    i = rng.randrange(len(parts))
    kind, content = parts[i]
    match rng.randrange(8):
        case 0:
            del parts[i]
        case 1:
            parts[i:i] = [(kind, content)] * rng.choice((1, 2, 500))
        case 2:
            bomb = zlib.compress(bytes(1 << 22), 1)
            new = [(b"iCCP", b"x\0\0" + bomb), (b"zTXt", b"x\0\0" + bomb), (b"acTL", b"\0\0\0\2\0\0\0\0")]
            parts.insert(rng.randrange(1, len(parts)), rng.choice([*new, (b"tRNS", b"\0" * 9), (b"IDAT", bomb)]))
        case 3:
            parts[i] = (rng.choice((b"IHDR", b"PLTE", b"IDAT", b"tRNS", b"gAMA", b"eXIf", b"fdAT")), content)
        case 4:
            size = rng.choice((0, 1, 6, 8, 1000, 65_536, 1 << 20, (1 << 31) - 1, 1 << 31, (1 << 32) - 1))
            at = rng.choice((0, 4))
            parts[0] = (parts[0][0], parts[0][1][:at] + size.to_bytes(4, "big") + parts[0][1][at + 4 :])
        case 5:
            at = rng.randrange(8, 13)  # depth, colours, compression, filter, interlacing
            parts[0] = (parts[0][0], parts[0][1][:at] + bytes([rng.randrange(17)]) + parts[0][1][at + 1 :])
        case _:
            parts[i] = (kind, as_bytes(rng, content))
    body = ((k, c, struct.pack(">I", zlib.crc32(k + c))) for k, c in parts)
    return data[:8] + b"".join(struct.pack(">I", len(c)) + k + c + crc for k, c, crc in body)


def _as_jpeg(rng: Random, data: bytes) -> bytes:
    starts = [at for at in range(len(data) - 1) if data[at] == 0xFF and data[at + 1] not in (0, 0xFF)]
    at = rng.choice(starts)
    end = next((other for other in starts if other > at), len(data))
    match rng.randrange(7):
        case 0:
            return data[:at] + data[end:]
        case 1:
            return data[:at] + data[at:end] * rng.choice((2, 3, 500)) + data[end:]
        case 2:
            return data[: at + 1] + bytes([rng.randrange(0xC0, 256)]) + data[at + 2 :]
        case 3:
            return data[: at + 2] + (rng.choice(EXTREMES) % 65_536).to_bytes(2, "big") + data[at + 4 :]
        case 4:  # the extents, where there are any
            head = next((s for s in starts if data[s + 1] in (0xC0, 0xC2)), at)
            return (
                data[: head + 5] + struct.pack(">2H", *rng.choices((0, 1, 8, 9, 8192, 65_535), k=2)) + data[head + 9 :]
            )
        case 5:
            return data[:at] + data[rng.choice(starts) :]
        case _:
            return data[:at] + as_bytes(rng, data[at:end]) + data[end:]


_CELLS = (
    "",
    " ",
    "nan",
    "inf",
    "-0",
    "1e400",
    "0x1",
    "1_0",
    "\u0661",
    '"',
    '""',
    "1" * 5000,
    "\0",
    "a,b",
    "caf\u00e9",
    "\u202e",
)


def as_csv(rng: Random, data: bytes) -> bytes:
    """Change, remove or repeat cells and lines of a table as text."""
    text = data.decode("utf-8-sig")
    mark = next((m for m in ",;\t" if m in text.split("\n")[0]), ",")
    rows = [line.split(mark) for line in text.split("\n")]
    row = rng.choice(rows)
    i = rng.randrange(len(row))
    match rng.randrange(7):
        case 0:
            del row[i]
        case 1:
            row.insert(i, row[i])
        case 2:
            rows.insert(rng.randrange(len(rows)), row * rng.choice((1, 2, 100_000)))
        case 3:
            rows.remove(row)
        case 4:
            rows += [row] * 3000
        case _:
            row[i] = rng.choice(_CELLS)
    encoding = rng.choice(("utf-8",) * 12 + ("utf-16", "utf-8-sig", "latin-1"))
    return rng.choice(("\n", "\n", "\r", "\r\n")).join(mark.join(row) for row in rows).encode(encoding, "replace")


def as_parquet(rng: Random, data: bytes) -> bytes:
    """Change the footer, which describes all, its length, or a page's header."""
    length = int.from_bytes(data[-8:-4], "little")
    body, footer = data[: -8 - length], data[-8 - length : -8]
    match rng.randrange(5):
        case 0:
            body = as_bytes(rng, body)
        case 1:
            length = rng.choice(EXTREMES) % (1 << 32)
            return body + footer + length.to_bytes(4, "little") + b"PAR1"
        case 2:  # thrift's numbers: seven bits a byte
            at = rng.randrange(len(footer))
            footer = footer[:at] + rng.choice((b"\xff\xff\xff\xff\x0f", b"\xff" * 9 + b"\1", b"\0")) + footer[at + 1 :]
        case _:
            footer = as_bytes(rng, footer)
    return body + footer + len(footer).to_bytes(4, "little") + b"PAR1"


def as_arrow(rng: Random, data: bytes) -> bytes:
    """Change messages, of which numbers are aligned."""
    if rng.random() < 0.3:
        return as_bytes(rng, data)
    size = rng.choice((4, 8))
    at = size * rng.randrange(len(data) // size)
    old = int.from_bytes(data[at : at + size], "little")
    number = rng.choice((old + 1, old - 1, old + 8, 2 * old, len(data), -1, *EXTREMES)) % (1 << 8 * size)
    return data[:at] + number.to_bytes(size, "little") + data[at + size :]


# --------------------------------------------------------------------------------------------------- pickles

_SNIPPETS = [
    *(bytes([opcode]) for opcode in b"\x94(t]})N021\x85\x86\x87aesuRb.\x88"),
    *(b"q\0", b"h\0", b"h\1", b"r\xff\xff\xff\x7f", b"j\0\0\0\0", b"K\1", b"\x8a\xff" + b"\xff" * 255, b"U\4data"),
    *(b"\x8e\0\0\0\0\2\0\0\0", b"X\xff\xff\xff\x7f", b"T\xff\xff\xff\xff", b"\x95" + b"\xff" * 8),
    *(b"c__builtin__\neval\n", b"c_codecs\nencode\n"),
    *(b")" + b"\x85" * DEEP, b"]" * DEEP + b"a" * (DEEP - 1), b"(" * DEEP),
    b"K\1" + b"".join(b"q" + bytes([i]) + b"h" + bytes([i]) + b"\x86" for i in range(60)) + b"K\1s",
]


def as_pickle(rng: Random, data: bytes) -> bytes:
    """Remove, repeat, exchange or insert opcodes, or change an argument."""
    starts = [position for _, _, position in pickletools.genops(data)]
    parts = [data[start:stop] for start, stop in zip(starts, [*starts[1:], len(data)], strict=True)]
    i = rng.randrange(len(parts))
    if rng.random() < 0.5:  # most are of no interest: labels, and what lies about them
        i = rng.choice([i for i, part in enumerate(parts) if part[:1] not in b"K"])
    match rng.randrange(7):
        case 0:
            del parts[i]
        case 1:
            parts.insert(rng.randrange(len(parts)), parts[i])
        case 2:
            other = rng.randrange(len(parts))
            parts[i], parts[other] = parts[other], parts[i]
        case 3:
            parts[i] = rng.choice(_SNIPPETS)
        case 4:
            parts.insert(i, rng.choice(_SNIPPETS))
        case 5:
            parts[i] = parts[i] * rng.choice((2, 3, 1000))
        case _:
            head, rest = parts[i][:1], parts[i][1:]
            parts[i] = head + as_bytes(rng, rest)
    return b"".join(parts)


# ---------------------------------------------------------------------------------------------------- models


def as_torch(rng: Random, data: bytes) -> bytes:
    """A torch.save archive."""

    def member(rng: Random, name: str, content: bytes) -> bytes:
        return as_pickle(rng, content) if name.endswith(".pkl") and rng.random() < 0.8 else as_bytes(rng, content)

    return as_zip(rng, data, member)


def as_safetensors(rng: Random, data: bytes) -> bytes:
    """The header as JSON (graph and input in it are texts of JSON), its length, or the tensors."""
    length = int.from_bytes(data[:8], "little")
    header, body = data[8 : 8 + length], data[8 + length :]
    match rng.randrange(6):
        case 0:
            return (rng.choice((length - 1, length + 1, *EXTREMES)) % (1 << 64)).to_bytes(8, "little") + data[8:]
        case 1:
            body = as_bytes(rng, body)
        case 2 | 3:
            value = json.loads(header)
            texts = value["__metadata__"]
            key = rng.choice(list(texts))
            texts[key] = as_json(rng, texts[key].encode()).decode("latin1")
            header = json.dumps(value).encode()
        case _:
            header = as_json(rng, header)
    return struct.pack("<Q", len(header)) + header + body


# ----------------------------------------------------------------------------------------------------- proofs


def _sections(data: bytes, count: int) -> list[bytes]:
    out, at = [], 0
    for _ in range(count):
        size = int.from_bytes(data[at : at + 8], "little")
        out.append(data[at + 8 : at + 8 + size])
        at += 8 + size
    if at != len(data):
        raise ValueError("not so many sections")
    return out


def _join(sections: list[bytes]) -> bytes:
    return b"".join(struct.pack("<Q", len(part)) + part for part in sections)


def _numbers(rng: Random, data: bytes) -> bytes:
    """Change 64-bit entries: one, or two whose sum stays the same."""
    count = len(data) // 8
    at, other = 8 * rng.randrange(count), 8 * rng.randrange(count)
    if rng.random() < 0.5:  # most structure is at the ends
        at = 8 * min(rng.randrange(count), rng.randrange(40))
    old, delta = int.from_bytes(data[at : at + 8], "little"), rng.choice((1, rng.randrange(1, P)))
    out = bytearray(data)
    match rng.randrange(6):
        case 0:
            out[at : at + 8] = struct.pack("<Q", (old + delta) % P)
        case 1:
            out[at : at + 8] = struct.pack("<Q", rng.choice((*EXTREMES, old + P)) % (1 << 64))
        case 2:
            second = int.from_bytes(data[other : other + 8], "little")
            out[at : at + 8] = struct.pack("<Q", (old + delta) % P)
            out[other : other + 8] = struct.pack("<Q", (second - delta) % P)
        case 3:
            size = 8 * rng.choice((1, 2, 4, 20))
            out[at : at + size], out[other : other + size] = data[other : other + size], data[at : at + size]
        case 4:
            out[at : at + 16] = data[other : other + 16]
        case _:
            out[at : at + 16] = bytes(16)
    return bytes(out)


def _in_sections(rng: Random, parts: list[bytes], mutations: Sequence[Mutation]) -> bytes:
    i = rng.randrange(len(parts))
    match rng.randrange(12):
        case 0:
            parts[i] = parts[i][: -rng.choice((1, 8, 16, 32))]
        case 1:
            parts[i] += rng.randbytes(rng.choice((1, 8, 16, 32)))
        case 2:
            data = _join(parts)  # a length that lies
            at = sum(8 + len(part) for part in parts[:i])
            return data[:at] + struct.pack("<Q", rng.choice((*EXTREMES, len(parts[i]) + 8))) + data[at + 8 :]
        case 3:
            other = rng.randrange(len(parts))
            parts[i], parts[other] = parts[other], parts[i]
        case _:
            parts[i] = mutations[i](rng, parts[i])
    return _join(parts)


def as_argument(rng: Random, data: bytes) -> bytes:
    """Roots, messages, opening, pad proof: entries of the field, and lengths."""
    return _in_sections(rng, _sections(data, 4), [_numbers] * 4)


def as_proof(rng: Random, data: bytes) -> bytes:
    """Header, hashes, multi-proof and argument."""

    def header(rng: Random, text: bytes) -> bytes:
        text = as_json(rng, text)
        return text if rng.random() < 0.2 else canonical_json(json.loads(text)).encode()

    mutations = [header, _numbers, _numbers, as_argument]
    return MAGIC + _in_sections(rng, _sections(data[len(MAGIC) :], 4), mutations)


def as_secret(rng: Random, data: bytes) -> bytes:
    """A data.zkd, with a right checksum."""
    end = data.index(b"}") + 1
    schema, body = data[16:end], data[end:-32]
    match rng.randrange(4):
        case 0:
            schema = as_json(rng, schema)
        case 1:
            body = struct.pack("<Q", rng.choice((*EXTREMES, 7, 9))) + body[8:]
        case 2:
            body = as_bytes(rng, body)
        case _:
            return as_bytes(rng, data)
    content = data[:12] + struct.pack("<I", len(schema)) + schema + body
    return content + blake3(content).digest()


def as_onnx(rng: Random, data: bytes) -> bytes:
    """Change nodes, attributes, extents and weights, or bytes."""
    import onnx

    if rng.random() < 0.2:
        return as_bytes(rng, data)
    model = onnx.load_model_from_string(data)
    graph = model.graph
    node = rng.choice(graph.node)
    tensor = rng.choice(graph.initializer)
    match rng.randrange(9):
        case 0:
            graph.node.remove(node)
        case 1:
            node.op_type = rng.choice((*(n.op_type for n in graph.node), "Erf", "Shape", "If", "Concat", "Clip", "Pad"))
        case 2:
            names = [name for n in graph.node for name in (*n.input, *n.output)] + [t.name for t in graph.initializer]
            which = rng.choice((node.input, node.input, node.output))
            which[rng.randrange(len(which))] = rng.choice((*names, "", "none"))
        case 3:
            tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice((0, -1, 1, 7, 1 << 20, (1 << 63) - 1))
        case 4:
            tensor.raw_data = as_bytes(rng, tensor.raw_data)
        case 5:
            tensor.data_type = rng.randrange(25)
        case 6:
            dims = graph.input[0].type.tensor_type.shape.dim
            dims[rng.randrange(len(dims))].dim_value = rng.choice((0, 1, 3, 5, 1000, 1 << 20, -1, (1 << 63) - 1))
        case _:
            attributes = [a for n in graph.node for a in n.attribute]
            attribute = rng.choice(attributes)
            values = [
                rng.choice((0, 1, -1, 2, 3, 100, 1 << 31, (1 << 63) - 1)) for _ in range(rng.choice((0, 1, 2, 4)))
            ]
            if attribute.ints and rng.random() < 0.8:
                attribute.ints[:] = values
            else:
                attribute.i, attribute.type = rng.choice((0, 1, -1, 1 << 40)), rng.choice((2, 2, 1, 3, 7, 4, 0))
    return bytes(model.SerializeToString())
