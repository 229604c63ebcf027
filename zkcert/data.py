"""Datasets: reading them, committing to them, and the two files of a commitment.

A sample is encoded as bytes: its values in C order, then its label in 1 byte (2 above 256 classes). A value
in a "u8" dataset is one byte. A value v in a "q32" dataset (float32) is q + 2^43 in 6 bytes, where
q = floor(v 2^32 + 1/2). All integers are little-endian.

``data.root`` (public) is a line of JSON: the Merkle root over the samples' SIS hashes, their number and the schema.
``data.zkd`` (secret): magic, u32 version, u32 length of the schema, schema, u64 N, 32-byte seed, samples
(N rows), leaf digests (N x 32), BLAKE3 of all that precedes. Sample i is hidden by rho_i = BLAKE3, keyed by
the seed, of "zkcert/data/rho/1" || u64 i, as XOF. Proofs name samples by their index, so the order of the samples is
secret, too: sample i is the source's sample pi(i), with the permutation of `zkcert.core.permutation` under the key
BLAKE3, keyed by the seed, of "zkcert/data/order/1".
"""

from __future__ import annotations

import json
import math
import secrets
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from zkcert.core.field import U64Array
from zkcert.core.merkle import DIGEST_BYTES, MerkleTree, U8Array, leaf_digest
from zkcert.core.permutation import sample_indices
from zkcert.core.sis import RHO, hash_samples
from zkcert.dataset_file import MAX_CLASSES, MAX_VALUES, Source, read_dataset
from zkcert.errors import UnusableInput
from zkcert.files import ROOT, SECRET, Output, require_space, write_file, writing
from zkcert.reading import OpenFile, read_file
from zkcert.signals import held
from zkcert.strict_json import as_written, parse

TREE_NAME = b"dataset"
MAX_SAMPLES = 1 << 40

_VALUE_BYTES = {"u8": 1, "q32": 6}
_Q32_OFFSET = 1 << 43
_ROOT_FORMAT = "zkcert-root-1"
_ROOT_LIMIT = 4096  # bytes of a data.root or a schema
_MAGIC = b"zkcert-d"
_VERSION = 1
_CUT = "its size does not fit the number of samples, as if it were cut short: take another copy"
_CHUNK = 2048  # samples hashed at a time
_PIECE = 1 << 24  # bytes read at a time
_ORDER = b"zkcert/data/order/1"


# ------------------------------------------------------------------------------------------- loading


@dataclass(frozen=True)
class Dataset:
    """Samples x (N, C, H, W), uint8 or float32, and labels y (N,), int64, as read from `source`."""

    x: npt.NDArray[Any]
    y: npt.NDArray[np.int64]
    source: str

    @property
    def kind(self) -> str:
        """The kind in the schema: u8 or q32."""
        return "u8" if self.x.dtype == np.uint8 else "q32"

    def __len__(self) -> int:
        return len(self.x)

    def warnings(self, classes: int | None = None) -> list[str]:
        """What looks like a mistake: channels in the last axis and, unless somebody says how many classes there are, a
        label of at least twice the number of different labels."""
        out, shape = [], self.x.shape[1:]
        if shape[2] in (1, 3, 4) and shape[0] not in (1, 3, 4) and min(shape[:2]) > 4:
            out.append(
                f"{self.source}: {shape[0]}x{shape[1]}x{shape[2]} looks like height x width x channels; expected are "
                "channels x height x width, as x.transpose(0, 3, 1, 2) gives them"
            )
        present, counts = np.unique(self.y, return_counts=True)
        if classes is None and present[-1] >= 2 * len(present):
            times = "once" if counts[-1] == 1 else f"{counts[-1]} times"
            out.append(
                f"{self.source}: the largest label is {present[-1]}, which makes {present[-1] + 1} classes, but only "
                f"{len(present)} different labels occur; {present[-1]} occurs {times}: is that a mistake? (If not, "
                f"say --classes {present[-1] + 1}.)"
            )
        return out


def load_dataset(source: Source | Sequence[Source]) -> Dataset:
    """Read a dataset, recognised by content.

    * ``.npz`` with the arrays `x` and `y`, or `images` and `labels`, or other usual names, or a pair of ``.npy`` files
      (``"images.npy,labels.npy"``). Samples are (N, C, H, W), or (N, H, W) with one channel, or vectors (N, d), which
      become N x 1 x 1 x d, or, but for `x` and `y`, (N, H, W, C) with C = 1 or 3: integers from 0 to 255, or floats
      below 2048 in magnitude, which are rounded to float32. Labels are class numbers from 0 of any numeric type, (N,)
      or (N, 1), or one-hot rows (N, K);
    * an IDX pair, plain or gzipped: the images file (the labels file is found beside it by its name), two
      paths (or ``"images,labels"``), or a directory such as ``/usr/share/datasets/fashion-mnist`` holding
      ``train-images-idx3-ubyte``;
    * CIFAR-10 or CIFAR-100 (fine labels) for Python: the directory ``cifar-10-batches-py`` or ``cifar-100-python``, of
      which the training part is read, or one batch file.

    Raises UnusableInput.
    """
    return Dataset(*read_dataset(source))


# ------------------------------------------------------------------------------ schema and encoding


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


# -------------------------------------------------------------------------------------- commitments


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

    def save(self, path: Source, *, force: bool = False) -> None:
        """Write the data.root file; UnusableInput if that fails, or, unless `force`, if there is one."""
        write_file(path, [self.to_bytes()], ROOT, force=force)

    @staticmethod
    def load(path: Source) -> DatasetRoot:
        """Read a data.root file; UnusableInput if it is unreadable or not, byte for byte, what `save` writes."""
        data = read_file(path, _ROOT_LIMIT)
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


def _rho(seed: bytes, indices: Iterable[int]) -> U8Array:
    """The commitment randomness (k, RHO) of samples."""
    rows = [blake3(b"zkcert/data/rho/1" + int(i).to_bytes(8, "little"), key=seed).digest(RHO) for i in indices]
    return np.frombuffer(b"".join(rows), np.uint8).reshape(-1, RHO)


def leaf_digests(indices: Iterable[int], hashes: U64Array) -> U8Array:
    """The leaves (k, 32), uint8, at k indices of the tree TREE_NAME, for samples with SIS hashes (k, 160)."""
    rows = zip(indices, hashes.astype("<u8"), strict=True)
    digests = b"".join(leaf_digest(TREE_NAME, int(i), row.tobytes()) for i, row in rows)
    return np.frombuffer(digests, np.uint8).reshape(-1, DIGEST_BYTES)


def commit(
    data_path: Source | Sequence[Source],
    out_path: Source,
    *,
    classes: int | None = None,
    keep_order: bool = False,
    force: bool = False,
    progress: Callable[[int, int], None] | None = None,
    seen: Callable[[Dataset], None] | None = None,
) -> DatasetRoot:
    """Commit to a dataset: write the secret out_path (ending in .zkd) and, beside it, the public .root file.

    classes defaults to the largest label plus one. The samples are shuffled, unless keep_order asks for the source's
    order: then the index of a sample in a proof is public knowledge about it. progress is called with (samples done,
    samples), seen, before the work, with what was read.
    Every call draws a new seed, hence a new root, and nothing can be proved any more about a root whose .zkd file is
    lost: an existing one is never replaced, a .root file is with `force`. Raises UnusableInput.
    """
    out = Path(out_path)
    if out.suffix != ".zkd":
        raise UnusableInput(f"{out}: the name of the secret file must end in .zkd")
    data = load_dataset(data_path)
    if seen:
        seen(data)
    least = int(data.y.max()) + 1
    classes = least if classes is None else classes
    if not least <= classes <= MAX_CLASSES:
        raise UnusableInput(f"{data.source}: labels up to {least - 1} do not fit {classes} classes")
    schema = Schema(classes, data.kind, data.x.shape[1:])
    size = 4096 + len(data) * (schema.sample_size + DIGEST_BYTES)
    require_space(out, size)
    with Output(out, SECRET, secret=True) as secret, Output(out.with_suffix(".root"), ROOT, force=force) as public:
        with writing(out):
            leaves = _write_secret(secret.file, data, schema, keep_order, progress)
        root = DatasetRoot(MerkleTree(leaves, TREE_NAME).root, len(data), schema)
        with writing(public.path):
            public.file.write(root.to_bytes())
            public.file.flush()
        with held():
            secret.publish()
            try:
                public.publish()
            except BaseException:
                secret.withdraw()  # its root has been seen by nobody
                raise
    return root


def _write_secret(
    file: BinaryIO, data: Dataset, schema: Schema, keep_order: bool, progress: Callable[[int, int], None] | None
) -> U8Array:
    """Write a .zkd file with a fresh seed; the leaf digests (N, 32)."""
    checksum = blake3()

    def write(part: bytes) -> None:
        checksum.update(part)
        file.write(part)

    seed, n, description = secrets.token_bytes(32), len(data), schema.to_bytes()
    write(_MAGIC + struct.pack("<II", _VERSION, len(description)) + description + struct.pack("<Q", n) + seed)
    leaves = np.empty((n, DIGEST_BYTES), np.uint8)
    order = np.arange(n) if keep_order else np.array(sample_indices(blake3(_ORDER, key=seed).digest(), n, n))
    for start in range(0, n, _CHUNK):
        rows = range(start, min(start + _CHUNK, n))
        taken = order[start : rows.stop]
        samples = schema.encode(data.x[taken], data.y[taken])
        hashes = hash_samples(samples, _rho(seed, rows))
        leaves[start : rows.stop] = leaf_digests(rows, hashes)
        write(samples.tobytes())
        if progress:
            progress(rows.stop, n)
    write(leaves.tobytes())
    file.write(checksum.digest())
    return leaves


class CommittedDataset:
    """The owner's view of a committed dataset, read from a .zkd file by `open`.

    root (DatasetRoot), schema and n describe it. The methods take k indices within [0, n), in any order and
    possibly repeated, and raise ValueError for others.
    """

    def __init__(self, file: OpenFile) -> None:
        """Of a .zkd file; ValueError if it is no sound one, UnusableInput if it cannot be read."""
        if file.size < len(_MAGIC) + 8 or file.read(0, len(_MAGIC)) != _MAGIC:
            raise ValueError("it has another format: give the data.zkd that zkcert commit wrote")
        version, length = struct.unpack("<II", file.read(len(_MAGIC), 8))
        if version != _VERSION:
            raise ValueError(f"version {version} is not supported: take the version of zkcert that wrote it")
        position = len(_MAGIC) + 8
        if length > _ROOT_LIMIT or file.size < position + length + 8 + 2 * 32:
            raise ValueError(_CUT)
        description = file.read(position, length)
        self.schema = Schema.from_dict(parse(description))
        if self.schema.to_bytes() != description:
            raise ValueError("its schema is not canonical")
        position += length
        self.n = int.from_bytes(file.read(position, 8), "little")
        self._seed = file.read(position + 8, 32)
        self._file, self._start = file, position + 40
        split = self._start + self.n * self.schema.sample_size
        end = split + self.n * DIGEST_BYTES
        if not 1 <= self.n <= MAX_SAMPLES or end + 32 != file.size:
            raise ValueError(_CUT)
        checksum = blake3()
        for at in range(0, end, _PIECE):
            checksum.update(file.read(at, min(_PIECE, end - at)))
        if checksum.digest() != file.read(end, 32):
            raise ValueError("it is damaged, its checksum is wrong: take another copy")
        leaves = np.frombuffer(file.read(split, end - split), np.uint8).reshape(-1, DIGEST_BYTES)
        file.check_unchanged()
        self._tree = MerkleTree(leaves, TREE_NAME)
        self.root = DatasetRoot(self._tree.root, self.n, self.schema)

    @staticmethod
    def open(path: Source) -> CommittedDataset:
        """Read a .zkd file (samples stay on disk); UnusableInput if it is damaged, cut short or foreign."""
        try:
            return CommittedDataset(OpenFile(path))
        except ValueError as error:
            raise UnusableInput(f"{path}: not a usable committed dataset ({error})") from error

    def _rows(self, indices: Iterable[int]) -> list[int]:
        rows = [int(i) for i in indices]
        if not all(0 <= i < self.n for i in rows):
            raise ValueError(f"sample indices must be within [0, {self.n})")
        return rows

    def sample_bytes(self, indices: Iterable[int]) -> U8Array:
        """The encoded samples, uint8 (k, schema.sample_size). UnusableInput if the file has changed by now."""
        rows, size = self._rows(indices), self.schema.sample_size
        found = np.empty((len(rows), size), np.uint8)
        for i, row in zip(rows, found, strict=True):
            self._file.readinto(self._start + i * size, row.data)
        self._file.check_unchanged()
        return found

    def rho(self, indices: Iterable[int]) -> U8Array:
        """The samples' commitment randomness, uint8 (k, RHO)."""
        return _rho(self._seed, self._rows(indices))

    def labels(self, indices: Iterable[int]) -> npt.NDArray[np.int64]:
        """The labels, int64 (k,)."""
        return self.schema.labels(self.sample_bytes(indices))

    def images(self, indices: Iterable[int]) -> npt.NDArray[Any]:
        """The samples, (k, C, H, W): uint8, or float64 multiples of 2^-32 for q32."""
        return self.schema.images(self.sample_bytes(indices))

    def sample_hashes(self, indices: Iterable[int]) -> U64Array:
        """The SIS hashes, uint64 (k, 160)."""
        rows = self._rows(indices)
        return hash_samples(self.sample_bytes(rows), self.rho(rows))

    def multiproof(self, indices: Iterable[int]) -> bytes:
        """The Merkle multiproof of the set of samples (see zkcert.core.merkle)."""
        return self._tree.multiproof(self._rows(indices))
