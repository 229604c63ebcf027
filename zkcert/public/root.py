"""The public side of a committed dataset: its schema, its root, and the file of the root."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from blake3 import blake3

from zkcert.core.field import U64
from zkcert.core.merkle import DIGEST_BYTES, U8Array, leaf_digest
from zkcert.errors import UnusableInput
from zkcert.public.reading import read_file
from zkcert.public.strict_json import as_written

TREE_NAME = b"dataset"
MAX_SAMPLES = 1 << 40
MAX_VALUES = 1 << 24  # of one sample
MAX_CLASSES = 1 << 16
VALUE_BYTES = {"u8": 1, "q32": 6}
"""Of a kind; a value of the kind "tokens" has as many as a label."""

_ROOT_FORMAT = "zkcert-root-1"
ROOT_LIMIT = 1 << 16  # bytes of a data.root or a schema
NAMES_LIMIT = 49_152  # bytes of all names of classes, as canonical JSON: they stand in a proof's header
NAME = re.compile(
    "[^\0- \x7f-\xa0\ud800-\udfff]([^\0-\x1f\x7f-\x9f\ud800-\udfff]{0,198}[^\0- \x7f-\xa0\ud800-\udfff])?"
)
"""A class's name: 1 to 200 characters, no control characters or surrogates, no space at either end."""


@dataclass(frozen=True)
class Schema:
    """What every sample of a dataset looks like. kind is "u8", "q32" or "tokens", shape (C, H, W), names what the
    labels 0, 1, ... stand for: empty, or one for each class. Of tokens the shape is (1, 1, L), and a sample is a window
    of L + 1, of which the last is the label."""

    classes: int
    kind: str
    shape: tuple[int, int, int]
    names: tuple[str, ...] = ()

    @property
    def label_bytes(self) -> int:
        """1 up to 256 classes, otherwise 2."""
        return 1 if self.classes <= 256 else 2

    @property
    def value_bytes(self) -> int:
        """Of one value of a sample."""
        return self.label_bytes if self.kind == "tokens" else VALUE_BYTES[self.kind]

    def samples_text(self) -> str:
        """What samples are, for people."""
        if self.kind == "tokens":
            return f"windows of {self.shape[2]} tokens and the one behind"
        return f"samples, {self.kind} {'x'.join(map(str, self.shape))}"

    def classes_text(self) -> str:
        """How many classes, and what the first are called, for people."""
        shown = ", ".join(n if n.isprintable() else ascii(n)[1:-1] for n in self.names[:12])
        kind = "tokens" if self.kind == "tokens" else "classes"
        return f"{self.classes} {kind}" + (f": {shown}{', ...' if self.classes > 12 else ''}" if shown else "")

    def to_dict(self) -> dict[str, object]:
        """The schema as JSON values."""
        names = {"names": list(self.names)} if self.names else {}
        shape = list(self.shape)
        return {"classes": self.classes, "kind": self.kind, "label_bytes": self.label_bytes, **names, "shape": shape}

    def to_bytes(self) -> bytes:
        """Canonical JSON: sorted keys, no spaces."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":")).encode()

    @staticmethod
    def from_dict(value: object) -> Schema:
        """Inverse of to_dict for untrusted values; ValueError if any is out of place."""
        if not isinstance(value, dict) or set(value) - {"names"} != {"classes", "kind", "label_bytes", "shape"}:
            raise ValueError("a schema has the keys classes, kind, label_bytes and shape, and perhaps names")
        classes, kind, shape = value["classes"], value["kind"], value["shape"]
        if type(classes) is not int or not 1 <= classes <= MAX_CLASSES:
            raise ValueError(f"the number of classes must be within 1 and {MAX_CLASSES}")
        if kind not in ("u8", "q32", "tokens"):
            raise ValueError("the kind must be u8, q32 or tokens")
        if not isinstance(shape, list) or len(shape) != 3 or not all(type(d) is int and d > 0 for d in shape):
            raise ValueError("the shape must be three positive integers")
        if kind == "tokens" and shape[:2] != [1, 1]:
            raise ValueError("the shape of tokens must be [1, 1, L]")
        if math.prod(shape) > MAX_VALUES:
            raise ValueError(f"a sample has at most {MAX_VALUES} values")
        names = check_names(value["names"], classes) if "names" in value else ()
        schema = Schema(classes, kind, (shape[0], shape[1], shape[2]), names)
        if type(value["label_bytes"]) is not int or value["label_bytes"] != schema.label_bytes:
            raise ValueError(f"{classes} classes need {schema.label_bytes} label byte(s)")
        return schema


def check_names(names: object, classes: int) -> tuple[str, ...]:
    """Names of classes, which nobody vouches for; ValueError unless there is a fit one for each class."""
    if not isinstance(names, list) or len(names) != classes:
        raise ValueError(f"{classes} classes need {classes} names, in a list")
    for name in names:
        if type(name) is not str or not NAME.fullmatch(name):
            raise ValueError(f"{ascii(name)[:80]} is no name of a class: 1 to 200 characters, none for control")
    if len(set(names)) != classes or len(json.dumps(names, separators=(",", ":"))) > NAMES_LIMIT:
        raise ValueError(f"the names of the classes must differ, and have at most {NAMES_LIMIT} bytes")
    return tuple(names)


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

    def to_dict(self) -> dict[str, object]:
        """JSON values."""
        return {"N": self.n, "root": self.root.hex(), "schema": self.schema.to_dict()}

    @staticmethod
    def from_dict(value: Mapping[str, Any]) -> DatasetRoot:
        """Inverse of to_dict for untrusted values; ValueError, or KeyError or TypeError, if any is out of place."""
        n, root = value["N"], value["root"]
        if type(n) is not int or not 1 <= n <= MAX_SAMPLES:
            raise ValueError(f"N must be within 1 and {MAX_SAMPLES}")
        if len(root) != 2 * DIGEST_BYTES or not set(root) <= set("0123456789abcdef"):
            raise ValueError("the root must be 64 lower-case hexadecimal digits")
        return DatasetRoot(bytes.fromhex(root), n, Schema.from_dict(value["schema"]))

    def to_bytes(self) -> bytes:
        """The content of a data.root file."""
        return json.dumps({**self.to_dict(), "format": _ROOT_FORMAT}, sort_keys=True).encode() + b"\n"

    @staticmethod
    def load(path: str | Path) -> DatasetRoot:
        """Read a data.root file; UnusableInput if it is unreadable or not, byte for byte, what `to_bytes` gives."""
        data = read_file(path, ROOT_LIMIT)
        try:
            return as_written(data, DatasetRoot.from_dict, DatasetRoot.to_bytes)
        except (ValueError, TypeError, KeyError) as error:
            raise UnusableInput(
                f"{path}: not a dataset root ({error}); take another copy, or write it again with zkcert root data.zkd"
            ) from error


def leaf_digests(indices: Iterable[int], hashes: U64) -> U8Array:
    """The leaves (k, 32), uint8, at k indices of the tree TREE_NAME, for samples with SIS hashes (k, 160)."""
    rows = zip(indices, hashes.astype("<u8"), strict=True)
    digests = b"".join(leaf_digest(TREE_NAME, int(i), row.tobytes()) for i, row in rows)
    return np.frombuffer(digests, np.uint8).reshape(-1, DIGEST_BYTES)
