"""What the tests of model file share."""

from __future__ import annotations

import functools
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors import safe_open

from zkcert.convert import from_module
from zkcert.errors import ZkcertError
from zkcert.foreign import model_file as other_model_file
from zkcert.public import model_file
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
