"""The public side of a committed dataset: its schema, its root, and the file of the root."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from blake3 import blake3

from zkcert.core.field import U64Array
from zkcert.core.merkle import DIGEST_BYTES, U8Array, leaf_digest
from zkcert.errors import UnusableInput
from zkcert.public.reading import read_file
from zkcert.public.strict_json import as_written

TREE_NAME = b"dataset"
MAX_SAMPLES = 1 << 40
MAX_VALUES = 1 << 24  # of one sample
MAX_CLASSES = 1 << 16
VALUE_BYTES = {"u8": 1, "q32": 6}
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

    @staticmethod
    def load(path: str | Path) -> DatasetRoot:
        """Read a data.root file; UnusableInput if it is unreadable or not, byte for byte, what `to_bytes` gives."""
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
