"""The public side of a committed dataset: its schema, its root, and the file of the root."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from zkcert.core.field import U64Array
from zkcert.core.merkle import DIGEST_BYTES, U8Array, leaf_digest
from zkcert.errors import UnusableInput
from zkcert.public.kinds import ROOT
from zkcert.public.reading import read_file
from zkcert.public.strict_json import as_written

TREE_NAME = b"dataset"
MAX_SAMPLES = 1 << 40
MAX_VALUES = 1 << 24  # of one sample
MAX_CLASSES = 1 << 16
_VALUE_BYTES = {"u8": 1, "q32": 6}
_Q32_OFFSET = 1 << 43
_ROOT_FORMAT = "zkcert-root-1"
ROOT_LIMIT = 4096  # bytes of a data.root or a schema


@dataclass(frozen=True)
class Schema:
    """What every sample of a dataset looks like. kind is "u8" or "q32", shape (C, H, W)."""

    classes: int
    kind: str
    shape: tuple[int, int, int]

    @property
    def label_bytes(self) -> int:
        """1 up to 256 classes, otherwise 2."""
        return 1 if self.classes <= 256 else 2

    @property
    def sample_size(self) -> int:
        """Bytes of one encoded sample, label included."""
        return math.prod(self.shape) * _VALUE_BYTES[self.kind] + self.label_bytes

    def to_dict(self) -> dict[str, object]:
        """The schema as JSON values."""
        shape = list(self.shape)
        return {"classes": self.classes, "kind": self.kind, "label_bytes": self.label_bytes, "shape": shape}

    def to_bytes(self) -> bytes:
        """Canonical JSON: sorted keys, no spaces."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":")).encode()

    @staticmethod
    def from_dict(value: object) -> Schema:
        """Inverse of to_dict for untrusted values; ValueError if any is out of place."""
        if not isinstance(value, dict) or set(value) != {"classes", "kind", "label_bytes", "shape"}:
            raise ValueError("a schema has the keys classes, kind, label_bytes and shape")
        classes, kind, shape = value["classes"], value["kind"], value["shape"]
        if type(classes) is not int or not 1 <= classes <= MAX_CLASSES:
            raise ValueError(f"the number of classes must be within 1 and {MAX_CLASSES}")
        if kind not in ("u8", "q32"):
            raise ValueError("the kind must be u8 or q32")
        if not isinstance(shape, list) or len(shape) != 3 or not all(type(d) is int and d > 0 for d in shape):
            raise ValueError("the shape must be three positive integers")
        if math.prod(shape) > MAX_VALUES:
            raise ValueError(f"a sample has at most {MAX_VALUES} values")
        schema = Schema(classes, kind, (shape[0], shape[1], shape[2]))
        if type(value["label_bytes"]) is not int or value["label_bytes"] != schema.label_bytes:
            raise ValueError(f"{classes} classes need {schema.label_bytes} label byte(s)")
        return schema

    def encode(self, x: npt.NDArray[Any], y: npt.NDArray[np.int64]) -> U8Array:
        """The bytes (n, sample_size) of samples x (n, C, H, W), uint8 or float32, with labels y (n,)."""
        if self.kind == "q32":
            # Exact in float64: v 2^32 has 24 bits, so adding 1/2 needs at most 53 unless |v 2^32| < 2^-28,
            # and then rounding cannot change the floor.
            q = np.floor(x.astype(np.float64) * 2.0**32 + 0.5).astype(np.int64) + _Q32_OFFSET
            x = _low_bytes(q, _VALUE_BYTES["q32"])
        return np.hstack((x.reshape(len(x), -1), _low_bytes(y, self.label_bytes)))

    def images(self, samples: U8Array) -> npt.NDArray[Any]:
        """The values (n, C, H, W) of encoded samples (n, sample_size): uint8, or float64 for q32."""
        pixels, shape = samples[:, : -self.label_bytes], (len(samples), *self.shape)
        if self.kind == "u8":
            return pixels.reshape(shape)
        return ((_from_bytes(pixels.reshape(*shape, -1)) - _Q32_OFFSET) / 2.0**32).astype(np.float64)

    def labels(self, samples: U8Array) -> npt.NDArray[np.int64]:
        """The labels (n,) of encoded samples (n, sample_size)."""
        return _from_bytes(samples[:, -self.label_bytes :])


def _low_bytes(values: npt.NDArray[np.int64], count: int) -> U8Array:
    """(...,) -> (..., count), little-endian."""
    return values.astype("<i8")[..., None].view(np.uint8)[..., :count]


def _from_bytes(data: U8Array) -> npt.NDArray[np.int64]:
    """Inverse of _low_bytes for values that are not negative."""
    return data @ (np.int64(1) << (8 * np.arange(data.shape[-1], dtype=np.int64)))


@dataclass(frozen=True)
class DatasetRoot:
    """The public commitment to a dataset of n samples: a 32-byte Merkle root."""

    root: bytes
    n: int
    schema: Schema

    def commitment_digest(self) -> bytes:
        """BLAKE3("zkcert/data/commitment/1" || u32 length || schema || u64 N || root), 32 bytes."""
        schema = self.schema.to_bytes()
        lengths = len(schema).to_bytes(4, "little"), self.n.to_bytes(8, "little")
        return blake3(b"zkcert/data/commitment/1" + lengths[0] + schema + lengths[1] + self.root).digest()

    def to_bytes(self) -> bytes:
        """The content of a data.root file."""
        schema = self.schema.to_dict()
        content = {"N": self.n, "format": _ROOT_FORMAT, "root": self.root.hex(), "schema": schema}
        return json.dumps(content, sort_keys=True).encode() + b"\n"

    def save(self, path: str | Path, *, force: bool = False) -> None:
        """Write the data.root file; UnusableInput if that fails, or, unless `force`, if there is one."""
        from zkcert.files.writing import write_file

        write_file(path, [self.to_bytes()], ROOT, force=force)

    @staticmethod
    def load(path: str | Path) -> DatasetRoot:
        """Read a data.root file; UnusableInput if it is unreadable or not, byte for byte, what `save` writes."""
        data = read_file(path, ROOT_LIMIT)
        try:
            return as_written(data, DatasetRoot._from, DatasetRoot.to_bytes)
        except ValueError as error:
            raise UnusableInput(
                f"{path}: not a dataset root ({error}); take another copy, or write it again with zkcert root data.zkd"
            ) from error

    @staticmethod
    def _from(content: object) -> DatasetRoot:
        if not isinstance(content, dict) or set(content) != {"N", "format", "root", "schema"}:
            raise ValueError("expected the keys N, format, root and schema")
        n, root = content["N"], content["root"]
        if content["format"] != _ROOT_FORMAT:
            raise ValueError(f"the format is not {_ROOT_FORMAT}")
        if type(n) is not int or not 1 <= n <= MAX_SAMPLES:
            raise ValueError(f"N must be within 1 and {MAX_SAMPLES}")
        if not isinstance(root, str) or len(root) != 64 or not set(root) <= set("0123456789abcdef"):
            raise ValueError("the root must be 64 lower-case hexadecimal digits")
        return DatasetRoot(bytes.fromhex(root), n, Schema.from_dict(content["schema"]))


def leaf_digests(indices: Iterable[int], hashes: U64Array) -> U8Array:
    """The leaves (k, 32), uint8, at k indices of the tree TREE_NAME, for samples with SIS hashes (k, 160)."""
    rows = zip(indices, hashes.astype("<u8"), strict=True)
    digests = b"".join(leaf_digest(TREE_NAME, int(i), row.tobytes()) for i, row in rows)
    return np.frombuffer(digests, np.uint8).reshape(-1, DIGEST_BYTES)
