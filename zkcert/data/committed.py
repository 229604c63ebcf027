"""Datasets: reading them, committing to them, and the two files of a commitment.

A sample is encoded as bytes: its values in C order, then its label in 1 byte (2 above 256 classes). A value
in a "u8" dataset is one byte. A "tokens" dataset has windows of L + 1 tokens, 1 byte each (2 above 256): L values and
the label. A value v in a "q32" dataset (float32) is q + 2^43 in 6 bytes, where
q = floor(v 2^32 + 1/2). All integers are little-endian.

``data.root`` (public) is a line of JSON: the Merkle root over the samples' SIS hashes, their number and the schema.
``data.zkd`` (secret): magic, u32 version, u32 length of the schema, schema, u64 N, 32-byte seed, samples
(N rows), leaf digests (N x 32), BLAKE3 of all that precedes. Sample i is hidden by rho_i = BLAKE3, keyed by
the seed, of "zkcert/data/rho/1" || u64 i, as XOF. Proofs name samples by their index, so the order of the samples is
secret, too: sample i is the source's sample pi(i), with the permutation of `zkcert.core.permutation` under the key
BLAKE3, keyed by the seed, of "zkcert/data/order/1".
"""

from __future__ import annotations

import secrets
import struct
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from zkcert.core.field import U64
from zkcert.core.merkle import DIGEST_BYTES, U8Array
from zkcert.core.permutation import sample_indices
from zkcert.core.sis import RHO
from zkcert.core.tree import MerkleTree
from zkcert.data import coding
from zkcert.data.formats import Source
from zkcert.data.hashing import hash_samples
from zkcert.errors import UnusableInput
from zkcert.files.open_file import OpenFile
from zkcert.files.signals import held
from zkcert.files.writing import Output, require_space, writing
from zkcert.public.kinds import ROOT, SECRET
from zkcert.public.root import MAX_CLASSES, MAX_SAMPLES, ROOT_LIMIT, TREE_NAME, DatasetRoot, Schema, leaf_digests
from zkcert.public.strict_json import parse

from .dataset import Dataset, load_dataset

_MAGIC = b"zkcert-d"
_VERSION = 1
_CUT = "its size does not fit the number of samples, as if it were cut short: take another copy"
_PIECE = 1 << 24  # bytes read at a time
_CHUNK = 2048  # samples hashed at a time
_ORDER = b"zkcert/data/order/1"


def _rho(seed: bytes, indices: Iterable[int]) -> U8Array:
    """The commitment randomness (k, RHO) of samples."""
    rows = [blake3(b"zkcert/data/rho/1" + int(i).to_bytes(8, "little"), key=seed).digest(RHO) for i in indices]
    return np.frombuffer(b"".join(rows), np.uint8).reshape(-1, RHO)


def commit(
    source: Any,
    out_path: Source,
    *,
    classes: int | None = None,
    keep_order: bool = False,
    force: bool = False,
    progress: Callable[[int, int], None] | None = None,
    seen: Callable[[Dataset], None] | None = None,
) -> DatasetRoot:
    """Commit to a dataset: write the secret out_path (ending in .zkd) and, beside it, the public .root file.

    source is one of `load_dataset`. classes defaults to the number of names, or the largest label plus
    one. The samples are shuffled, unless keep_order asks for the source's
    order: then the index of a sample in a proof is public knowledge about it. progress is called with (samples done,
    samples), seen, before the work, with what was read.
    Every call draws a new seed, hence a new root, and nothing can be proved any more about a root whose .zkd file is
    lost: an existing one is never replaced, a .root file is with `force`. Raises UnusableInput.
    """
    out = Path(out_path)
    if out.suffix != ".zkd":
        raise UnusableInput(f"{out}: the name of the secret file must end in .zkd")
    data = load_dataset(source)
    schema = schema_of(data, classes)
    if seen:
        seen(data)
    size = 4096 + len(data) * (coding.sample_size(schema) + DIGEST_BYTES)
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


def schema_of(data: Dataset, classes: int | None = None) -> Schema:
    """The schema of a dataset with so many classes, by default those that it shows. UnusableInput."""
    least = data.largest + 1
    wanted = data.classes if classes is None else classes
    if not least <= wanted <= MAX_CLASSES:
        what = ("tokens", f"{wanted} of them") if data.kind == "tokens" else ("labels", f"{wanted} classes")
        raise UnusableInput(f"{data.source}: {what[0]} up to {least - 1} do not fit {what[1]}")
    if data.names and wanted != len(data.names):
        raise UnusableInput(
            f"{data.source}: {len(data.names)} names of classes do not fit {wanted} classes: give --names"
        )
    channels, height, width = data.x.shape[1:]
    return Schema(wanted, data.kind, (channels, height, width), data.names)


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
        samples = coding.encode(schema, data.x[taken], data.y[taken])
        hashes = hash_samples(samples, _rho(seed, rows))
        leaves[start : rows.stop] = leaf_digests(rows, hashes)
        write(samples.tobytes())
        if progress:
            progress(rows.stop, n)
    write(leaves.tobytes())
    file.write(checksum.digest())
    return leaves


class Samples(ABC):
    """Samples of a committed dataset, by their indices; `sample_bytes` and `rho` say where they are.

    root (DatasetRoot), schema and n describe the dataset. The methods take k indices within [0, n), in any order and
    possibly repeated, and raise ValueError for others.
    """

    root: DatasetRoot
    schema: Schema
    n: int

    @abstractmethod
    def sample_bytes(self, indices: Iterable[int]) -> U8Array:
        """The encoded samples, uint8 (k, sample_size)."""

    @abstractmethod
    def rho(self, indices: Iterable[int]) -> U8Array:
        """The samples' commitment randomness, uint8 (k, RHO)."""

    @abstractmethod
    def multiproof(self, indices: Iterable[int]) -> bytes:
        """The Merkle multiproof of the set of samples (see zkcert.core.merkle)."""

    def labels(self, indices: Iterable[int]) -> npt.NDArray[np.int64]:
        """The labels, int64 (k,)."""
        return coding.labels(self.schema, self.sample_bytes(indices))

    def images(self, indices: Iterable[int]) -> npt.NDArray[Any]:
        """The samples, (k, C, H, W): uint8, or float64 multiples of 2^-32 for q32."""
        return coding.images(self.schema, self.sample_bytes(indices))

    def sample_hashes(self, indices: Iterable[int]) -> U64:
        """The SIS hashes, uint64 (k, 160)."""
        rows = list(indices)
        return hash_samples(self.sample_bytes(rows), self.rho(rows))


class DrawnSamples(Samples):
    """A few samples of a dataset, in memory: all that a proof on another machine is given of it."""

    def __init__(self, dataset: Samples, indices: Iterable[int]) -> None:
        rows = sorted({int(i) for i in indices})
        self.root, self.schema, self.n = dataset.root, dataset.schema, dataset.n
        self._place = {row: k for k, row in enumerate(rows)}
        self._bytes, self._rho, self._proof = dataset.sample_bytes(rows), dataset.rho(rows), dataset.multiproof(rows)

    def _rows(self, indices: Iterable[int]) -> list[int]:
        try:
            return [self._place[int(i)] for i in indices]
        except KeyError as error:
            raise ValueError(f"sample {error} is not among those drawn") from error

    def sample_bytes(self, indices: Iterable[int]) -> U8Array:
        return self._bytes[self._rows(indices)]

    def rho(self, indices: Iterable[int]) -> U8Array:
        return self._rho[self._rows(indices)]

    def multiproof(self, indices: Iterable[int]) -> bytes:
        """That of all of them; no other can be asked for."""
        if sorted(self._rows(indices)) != list(range(len(self._place))):
            raise ValueError("there is a multiproof of all samples drawn only")
        return self._proof


class CommittedDataset(Samples):
    """The owner's view of a committed dataset, read from a .zkd file by `open`."""

    def __init__(self, file: OpenFile) -> None:
        """Of a .zkd file; ValueError if it is no sound one, UnusableInput if it cannot be read."""
        if file.size < len(_MAGIC) + 8 or file.read(0, len(_MAGIC)) != _MAGIC:
            raise ValueError("it has another format: give the data.zkd that zkcert commit wrote")
        version, length = struct.unpack("<II", file.read(len(_MAGIC), 8))
        if version != _VERSION:
            raise ValueError(f"version {version} is not supported: take the version of zkcert that wrote it")
        position = len(_MAGIC) + 8
        if length > ROOT_LIMIT or file.size < position + length + 8 + 2 * 32:
            raise ValueError(_CUT)
        description = file.read(position, length)
        self.schema = Schema.from_dict(parse(description))
        if self.schema.to_bytes() != description:
            raise ValueError("its schema is not canonical")
        position += length
        self.n = int.from_bytes(file.read(position, 8), "little")
        self._seed = file.read(position + 8, 32)
        self._file, self._start = file, position + 40
        split = self._start + self.n * coding.sample_size(self.schema)
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
        """UnusableInput if the file has changed by now."""
        rows, size = self._rows(indices), coding.sample_size(self.schema)
        found = np.empty((len(rows), size), np.uint8)
        for i, row in zip(rows, found, strict=True):
            self._file.readinto(self._start + i * size, row.data)
        self._file.check_unchanged()
        return found

    def rho(self, indices: Iterable[int]) -> U8Array:
        return _rho(self._seed, self._rows(indices))

    def multiproof(self, indices: Iterable[int]) -> bytes:
        return self._tree.multiproof(self._rows(indices))
