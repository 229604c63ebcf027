"""How an axis of a tensor is read: public linear maps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from zkcert.core import field as ff
from zkcert.core.field import I64, U64

from .tensors import ceil_log2

Vectors = Mapping[str, U64]
SCATTERED = 1 << 18  # entries of an index table at once
FEW = 32  # ... and the rows of a table with fewer columns


class Source(ABC):
    """How a tensor axis of length `size` is indexed from domain axes `axes`: a public linear map."""

    size: int

    @property
    def axes(self) -> tuple[str, ...]:
        """The domain axes it reads."""
        return tuple(self.extents())

    @abstractmethod
    def vector(self, vecs: Vectors) -> U64:
        """Weights (2, size) of the tensor axis induced by weights `vecs[axis]` of the domain axes."""

    def terms(self) -> int:
        """Largest number of tensor entries one domain index reads (for bounds)."""
        return 1

    def extents(self) -> dict[str, int]:
        """The domain axes that it reads, and the number of indices of each."""
        return {}


@dataclass(frozen=True)
class Axis(Source):
    """An axis of the indices for which an identity is stated; as a source: tensor index = its index."""

    name: str
    size: int

    @property
    def bits(self) -> int:
        return ceil_log2(self.size)

    def vector(self, vecs: Vectors) -> U64:
        return vecs[self.name][:, : self.size]

    def extents(self) -> dict[str, int]:
        return {self.name: self.size}


@dataclass(frozen=True)
class Map(Source):
    """Tensor index = table[domain index]; -1 reads zero."""

    axis: str
    table: tuple[int, ...]
    size: int
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_hash", hash((self.axis, self.table, self.size)))

    def __hash__(self) -> int:
        return self._hash

    def vector(self, vecs: Vectors) -> U64:
        return scatter(vecs[self.axis][:, : len(self.table)], np.array(self.table), self.size)

    def extents(self) -> dict[str, int]:
        return {self.axis: len(self.table)}


@dataclass(frozen=True)
class Table:
    """A public index table (k, s) -> tensor index or -1; its rule, a text, determines what `make` makes."""

    rule: str
    shape: tuple[int, int]
    make: Callable[[], I64] = field(compare=False, repr=False)

    @cached_property
    def index(self) -> I64:
        """The entries, int64 of `shape`; not to be written to."""
        return self.make()


@dataclass(frozen=True)
class Tabled(Source):
    """What reads by table[k, s] for two domain axes. Rows of the table are injective."""

    k: str
    s: str
    table: Table
    size: int

    def extents(self) -> dict[str, int]:
        return {self.k: self.table.shape[0], self.s: self.table.shape[1]}


@dataclass(frozen=True)
class Gather(Tabled):
    """Tensor index = table[k, s]; -1 reads zero."""

    def vector(self, vecs: Vectors) -> U64:
        return self.weigh(vecs[self.k], vecs[self.s])

    def weigh(self, vk: U64, vs: U64) -> U64:
        """sum_{k,s} vk[k] vs[s] e_{table[k,s]}, shape (2, size)."""
        index, out = self.table.index, np.zeros((2, self.size), np.uint64)
        if index.shape[1] < FEW:
            each = ff.f_mul(vk[:, : len(index), None], vs[:, None, : index.shape[1]])
            return scatter(each.reshape(2, -1), index.ravel(), self.size)
        for k, row in enumerate(index):
            ok = row >= 0
            term = ff.f_mul(vs[:, : len(row)][:, ok], vk[:, k : k + 1])
            out[:, row[ok]] = ff.f_add(out[:, row[ok]], term)
        return out


@dataclass(frozen=True)
class SuffixGather(Tabled):
    """Reads sum_{j <= k} tensor[table[j, s]]: a running sum along k (linear terms only)."""

    def vector(self, vecs: Vectors) -> U64:
        count = len(self.table.index)
        suffix = np.zeros((2, count), np.uint64)
        running = np.zeros(2, np.uint64)
        for k in reversed(range(count)):
            running = ff.f_add(running, vecs[self.k][:, k])
            suffix[:, k] = running
        return Gather(self.k, self.s, self.table, self.size).weigh(suffix, vecs[self.s])

    def terms(self) -> int:
        return self.table.shape[0]


@dataclass(frozen=True)
class TailGather(Tabled):
    """Reads sum_{j > k} tensor[table[j, s]], and zero where table[k, s] is -1 (linear terms only)."""

    def vector(self, vecs: Vectors) -> U64:
        vs = vecs[self.s][:, : self.table.shape[1]]
        out, before = np.zeros((2, self.size), np.uint64), np.zeros_like(vs)
        for k, row in enumerate(self.table.index):
            ok = row >= 0
            out[:, row[ok]] = ff.f_add(out[:, row[ok]], ff.f_mul(before[:, ok], vs[:, ok]))
            before[:, ok] = ff.f_add(before[:, ok], vecs[self.k][:, k : k + 1])
        return out

    def terms(self) -> int:
        return self.table.shape[0]


@dataclass(frozen=True)
class Sum(Source):
    """Sums the tensor axis with public non-negative weights (default: ones over all `size` entries)."""

    size: int
    weights: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.weights is not None and (len(self.weights) != self.size or min(self.weights) < 0):
            raise ValueError(f"a Sum over {self.size} entries needs as many non-negative weights")

    def vector(self, vecs: Vectors) -> U64:
        w = np.ones(self.size, np.int64) if self.weights is None else np.array(self.weights, np.int64)
        return ff.f_from_fp(ff.fp_from_int(w))

    def terms(self) -> int:
        return self.size if self.weights is None else sum(self.weights)


@dataclass(frozen=True)
class Scaled(Source):
    """Tensor index = domain index, the entry times a public non-negative weight of the index (linear terms only)."""

    axis: str
    weights: tuple[int, ...]
    size: int

    def __post_init__(self) -> None:
        if len(self.weights) != self.size or min(self.weights) < 0:
            raise ValueError(f"scaling {self.size} entries needs as many non-negative weights")

    def vector(self, vecs: Vectors) -> U64:
        return ff.f_scale(vecs[self.axis][:, : self.size], ff.fp_from_int(np.array(self.weights, np.int64)))

    def terms(self) -> int:
        return max(self.weights)

    def extents(self) -> dict[str, int]:
        return {self.axis: self.size}


@dataclass(frozen=True)
class GatherSum(Source):
    """Reads sum_k tensor[table[k, s]] for the domain axis s (linear terms only). An entry may occur several times."""

    s: str
    table: Table
    size: int

    def vector(self, vecs: Vectors) -> U64:
        index, out = self.table.index, np.zeros((2, self.size), np.uint64)
        vs, step = vecs[self.s][:, : index.shape[1]], max(1, SCATTERED // index.shape[1])
        for k in range(0, len(index), step):
            rows = index[k : k + step]
            out = ff.f_add(out, scatter(np.tile(vs, (1, len(rows))), rows.ravel(), self.size))
        return out

    def extents(self) -> dict[str, int]:
        return {self.s: self.table.shape[1]}

    def terms(self) -> int:
        return self.table.shape[0]


def scatter(v: U64, index: I64, size: int) -> U64:
    """(2, n) weights added up at `index` (entries -1 dropped) into (2, size); n at most 2^28."""
    low, high = np.zeros((2, 2, size), np.uint64)
    kept = index >= 0
    for lane in range(2):
        np.add.at(low[lane], index[kept], v[lane, kept] & np.uint64((1 << 32) - 1))
        np.add.at(high[lane], index[kept], v[lane, kept] >> np.uint64(32))
    return ff.fp_add(ff.fp_mul(high, np.array(1 << 32, np.uint64)), low)


ONCE = Sum(1)
