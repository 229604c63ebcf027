"""Where each digit column lies in the committed vector X, and the evaluation of public weights at a point.

X = [digit columns | multiplicities | masking rows], cut into rows of ``2^(row_bits+1)`` entries. Columns are sorted by
size, largest first, so that each starts at a multiple of its length and no entry is wasted between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from zkcert.core import field as ff
from zkcert.core.field import F

from .ir import Circuit, Tensor, ceil_log2

U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]
MULTIPLICITY_BLOCK = 16


@dataclass(frozen=True)
class Segment:
    """A run of X whose entries share a lookup table: entry + shift lies in [0, tables[cls])."""

    start: int
    stop: int
    shift: int
    cls: int


@dataclass
class Placement:
    """Columns of one tensor: `axis_bits[b]` per inner axis and `positions[b]` (n_digits, unroll) for block b."""

    blocks: list[tuple[int, int]]
    axis_bits: list[tuple[int, ...]]
    positions: list[I64]


def column_bits(t: Tensor, block: tuple[int, int]) -> tuple[int, ...]:
    """log2 of the padded length of each inner axis inside a column of the given block."""
    return tuple(block[1] if i + 1 == t.split else ceil_log2(size) for i, size in enumerate(t.shape))


@dataclass
class Layout:
    """Positions of all columns; a function of the circuit alone."""

    circuit: Circuit
    places: dict[Tensor, Placement] = field(default_factory=dict)
    segments: list[Segment] = field(default_factory=list)
    tables: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tables = sorted({d.range.size for t in self.circuit.tensors for d in t.digits}, reverse=True)
        columns = []
        for t in self.circuit.tensors:
            blocks = t.blocks()
            place = Placement(blocks, [column_bits(t, b) for b in blocks], [])
            self.places[t] = place
            for b in range(len(blocks)):
                place.positions.append(np.zeros((len(t.digits), t.unroll), np.int64))
                for d, digit in enumerate(t.digits):
                    key = (-sum(place.axis_bits[b]), -digit.range.size, digit.range.lo)
                    columns.append((key, t, b, d))
        columns.sort(key=lambda c: c[0])
        end = 0
        for (neg_bits, neg_size, lo), t, b, d in columns:
            length = 1 << -neg_bits
            self.places[t].positions[b][d] = end + length * np.arange(t.unroll)
            stop = end + length * t.unroll
            cls = self.tables.index(-neg_size)
            last = self.segments[-1] if self.segments else None
            if last and last.cls == cls and last.shift == -lo:
                self.segments[-1] = Segment(last.start, stop, -lo, cls)
            else:
                self.segments.append(Segment(end, stop, -lo, cls))
            end = stop
        self.digit_count = end
        self.table_entries = sum(self.tables)
        block = 1 << min(MULTIPLICITY_BLOCK, ceil_log2(self.table_entries))
        self.multiplicity_start = -(-end // block) * block
        # Multiplicities are not range-checked: LogUp (ePrint 2022/1530, Lemma 5) allows any field element.
        self.multiplicity_bits = ceil_log2(block)
        self.data_end = self.multiplicity_start + self.table_entries


# ------------------------------------------------------------------------------- multilinear sums over prefixes


def prefix_eq(r: list[F], length: int) -> F:
    """sum_{i < length} eq(r, i)."""
    return prefix_eq2(r, None, length)


def prefix_eq2(r: list[F], z: list[F] | None, length: int) -> F:
    """sum_{i < length} eq(r, i) eq(z, i), in O(n); z = None stands for weight one."""
    n = len(r)
    if length >= 1 << n:
        length = 1 << n
    w0 = [(1 - a) if z is None else (1 - a) * (1 - z[j]) for j, a in enumerate(r)]
    w1 = [a if z is None else a * z[j] for j, a in enumerate(r)]
    free = [F.ONE] * (n + 1)
    for j in reversed(range(n)):
        free[j] = free[j + 1] * (w0[j] + w1[j])
    if length == 1 << n:
        return free[0]
    out, head = F.ZERO, F.ONE
    for j in range(n):
        if (length >> (n - 1 - j)) & 1:
            out, head = out + head * w0[j] * free[j + 1], head * w1[j]
        else:
            head = head * w0[j]
    return out


def prefix_index(r: list[F], length: int) -> F:
    """sum_{i < length} eq(r, i) * i, in O(n^2) bit operations."""
    n = len(r)
    low = [F.ZERO] * (n + 1)  # low[j]: expected value of the bits below position j
    for j in reversed(range(n)):
        low[j] = low[j + 1] + r[j] * (1 << (n - 1 - j))
    if length >= 1 << n:
        return low[0]
    out, head, value = F.ZERO, F.ONE, 0
    for j in range(n):
        if (length >> (n - 1 - j)) & 1:
            out = out + head * (1 - r[j]) * (low[j + 1] + value)
            head, value = head * r[j], value + (1 << (n - 1 - j))
        else:
            head = head * (1 - r[j])
    return out


def eq_at(point: Sequence[F], index: I64) -> U64:
    """eq(point, index) for an array of indices (n,), shape (2, n): two half tables and one product."""
    half = len(point) // 2
    low_bits = len(point) - half
    high, low = ff.eq_table(point[:half]), ff.eq_table(point[half:])
    return ff.f_mul(high[:, index >> low_bits], low[:, index & ((1 << low_bits) - 1)])


def column_heads(layout: Layout, z: list[F]) -> dict[tuple[Tensor, int], U64]:
    """eq(z_high, position of a column) for every column: (2, n_digits, unroll) per tensor and block."""
    by_bits: dict[int, list[tuple[Tensor, int]]] = {}
    for t, place in layout.places.items():
        for b, bits in enumerate(place.axis_bits):
            by_bits.setdefault(sum(bits), []).append((t, b))
    out = {}
    for length, columns in by_bits.items():
        positions = [layout.places[t].positions[b] >> length for t, b in columns]
        values = eq_at(z[: len(z) - length], np.concatenate([p.ravel() for p in positions]))
        start = 0
        for key, p in zip(columns, positions, strict=True):
            out[key] = values[:, start : start + p.size].reshape(2, *p.shape)
            start += p.size
    return out
