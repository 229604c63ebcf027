"""Where each digit column lies in the committed vector X, and the evaluation of public weights at a point.

X = [digit columns | late digit columns | multiplicities | masking rows], cut into rows of ``2^(row_bits+1)`` entries.
The late part, from the late columns on, begins a row and has a root of its own. Columns are sorted by size, largest
first, so that each starts at a multiple of its length and no entry is wasted between them.

The inner axes of a column have powers of two as lengths. Those of a large tensor are cut into blocks (9 = 8 + 1) rather
than padded (9 to 16); a tensor is then the union of its columns' blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import product

import numpy as np

from zkcert.core import field as ff
from zkcert.core.code import MatrixCode, matrix_code
from zkcert.core.field import I64, U64, F
from zkcert.errors import UnusableInput

from .constraints import Circuit
from .functions import FunctionTable
from .tensors import Range, Tensor, ceil_log2

MULTIPLICITY_BLOCK = 16
SMALLEST_CUT = 1 << 12  # entries; shorter columns are padded, not cut
MAX_COLUMNS = 1 << 22
MAX_PIECES = 1 << 17  # blocks of digits: columns but for their unrolled index


@dataclass(frozen=True)
class Segment:
    """A run of X whose entries share a lookup table: entry + shift lies in [0, tables[cls])."""

    start: int
    stop: int
    shift: int
    cls: int


@dataclass(frozen=True)
class Block:
    """A box of a tensor's inner axes that makes up one column: first index and log2 of the length on each axis."""

    axes: tuple[tuple[int, int], ...]

    @cached_property
    def bits(self) -> int:
        """log2 of the column's length."""
        return sum(bits for _, bits in self.axes)

    def window(self, shape: Sequence[int]) -> tuple[slice, ...]:
        """The part of a tensor of this inner shape that the column holds (the rest of the column is padding)."""
        return tuple(
            slice(start, min(start + (1 << bits), size)) for (start, bits), size in zip(self.axes, shape, strict=True)
        )


@dataclass
class Placement:
    """Columns of one tensor: blocks, and `positions[b]` (n_digits, unroll) for block b."""

    blocks: Sequence[Block]
    positions: list[I64]


@dataclass(frozen=True, eq=False)
class Columns:
    """The columns of one digit of a block, one for each unrolled index: log2 of their length, and where they start."""

    bits: int
    range: Range
    positions: I64

    @property
    def entries(self) -> int:
        """Of all of them together."""
        return len(self.positions) << self.bits


def axis_blocks(size: int) -> list[tuple[int, int]]:
    """Cut `size` into power-of-two blocks (start, log2 length), the last padded by at most a sixteenth of `size`."""
    out, start = [], 0
    while start < size:
        rest = size - start
        bits = rest.bit_length() - 1
        if rest > 1 << bits and 16 * ((2 << bits) - rest) <= size:
            bits += 1
        out.append((start, bits))
        start += 1 << bits
    return out


@lru_cache(maxsize=1 << 10)
def column_blocks(shape: tuple[int, ...], smallest_cut: int = SMALLEST_CUT) -> tuple[Block, ...]:
    """The blocks of a tensor; one padded block if that has fewer than `smallest_cut` entries."""
    padded = Block(tuple((0, ceil_log2(size)) for size in shape))
    if 1 << padded.bits < smallest_cut:
        return (padded,)
    return tuple(Block(axes) for axes in product(*(axis_blocks(size) for size in shape)))


@dataclass
class Layout:
    """Positions of all columns; a function of the circuit alone. UnusableInput for more than MAX_COLUMNS.

    code: the shape of the matrix. late_start: the first entry of its second part. runs: start and number of the digits
    of each part, if it has any. multiplicity_start: a multiple of 2^multiplicity_bits.

    smallest_cut: entries from which a tensor is cut into blocks. Proofs are made and verified with the default; both
    sides must use the same one, which is no part of a proof. Smaller ones give toy circuits every kind of block.
    """

    circuit: Circuit
    smallest_cut: int = SMALLEST_CUT
    places: dict[Tensor, Placement] = field(default_factory=dict)
    code: MatrixCode = field(init=False)
    runs: list[tuple[int, int]] = field(default_factory=list)
    segments: list[Segment] = field(default_factory=list)
    tables: list[int] = field(default_factory=list)
    functions: list[FunctionTable] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tables = sorted({d.range.size for t in self.circuit.tensors for d in t.digits}, reverse=True)
        count = pieces = 0
        for t in self.circuit.tensors:
            more = len(column_blocks(t.shape, self.smallest_cut)) * len(t.digits)
            count, pieces = count + more * t.unroll, pieces + more
            if pieces > MAX_PIECES:
                raise UnusableInput(f"more than {MAX_PIECES} blocks of digits: fewer or smaller layers can be proved")
        if count > MAX_COLUMNS:
            raise UnusableInput(f"{count} columns, at most {MAX_COLUMNS} can be proved: take fewer steps or layers")
        early, late = self._columns(late=False), self._columns(late=True)
        self.functions = self.circuit.functions
        self.table_entries = sum(self.tables) + sum(table.shape[0] for table in self.functions)
        block = 1 << min(MULTIPLICITY_BLOCK, ceil_log2(self.table_entries))
        count, rest = entries_of(early), entries_of(late)
        first = -(-count >> late[0].bits) << late[0].bits if late else count
        digits = -(-rest // block) * block
        self.code = matrix_code(first, digits + self.table_entries)
        self.late_start = start = self.code.starts[1] * 2 * self.code.width
        self.runs = [run for run in ((0, count), (start, rest)) if run[1]]
        self._place(early, 0)
        self._place(late, start)
        self.digit_count = count + rest
        # Multiplicities are not range-checked: LogUp (ePrint 2022/1530, Lemma 5) allows any field element.
        self.multiplicity_start = at = start + digits
        self.multiplicity_bits = min(block, at & -at).bit_length() - 1
        self.data_end = self.multiplicity_start + self.table_entries

    def _columns(self, *, late: bool) -> list[Columns]:
        """The columns of the tensors of one part, in the order in which they are placed."""
        out = []
        for t in self.circuit.tensors:
            if t.late != late:
                continue
            place = Placement(column_blocks(t.shape, self.smallest_cut), [])
            self.places[t] = place
            for box in place.blocks:
                positions = np.zeros((len(t.digits), t.unroll), np.int64)
                place.positions.append(positions)
                for digit, row in zip(t.digits, positions, strict=True):
                    out.append(Columns(box.bits, digit.range, row))
        return sorted(out, key=lambda c: (-c.bits, -c.range.size, c.range.lo))

    def _place(self, columns: Sequence[Columns], start: int) -> None:
        """Fill in the positions of columns, one behind the other from `start` on, and the segments they make."""
        classes = {size: i for i, size in enumerate(self.tables)}
        segments: list[Segment] = []
        for part in columns:
            np.add(np.arange(len(part.positions)) << part.bits, start, out=part.positions)
            stop, cls, shift = start + part.entries, classes[part.range.size], -part.range.lo
            if segments and (segments[-1].cls, segments[-1].shift) == (cls, shift):
                segments[-1] = Segment(segments[-1].start, stop, shift, cls)
            else:
                segments.append(Segment(start, stop, shift, cls))
            start = stop
        self.segments += segments


def entries_of(columns: Sequence[Columns]) -> int:
    return sum(part.entries for part in columns)


# ------------------------------------------------------------------------------- multilinear sums over prefixes


def prefix_sum(zeros: list[F], ones: list[F], length: int) -> F:
    """sum_{i < length} of the product, over the bits of i, of one's entry of `ones` or of `zeros`, in O(n)."""
    n, free = len(ones), [F.ONE]  # free[k]: the sum over all values of the last k bits
    for zero, one in zip(reversed(zeros), reversed(ones), strict=True):
        free.append(free[-1] * (zero + one))
    if length >= 1 << n:
        return free[n]
    out, head = F.ZERO, F.ONE  # head: of the bits of `length` so far; all that is below it is in `out`
    for j in range(n):
        if (length >> (n - 1 - j)) & 1:
            out, head = out + head * zeros[j] * free[n - 1 - j], head * ones[j]
        else:
            head = head * zeros[j]
    return out


def prefix_eq(r: list[F], length: int) -> F:
    """sum_{i < length} eq(r, i)."""
    return prefix_sum([1 - a for a in r], r, length)


def prefix_eq2(r: list[F], z: list[F], length: int) -> F:
    """sum_{i < length} eq(r, i) eq(z, i)."""
    pairs = list(zip(r, z, strict=True))
    return prefix_sum([(1 - a) * (1 - b) for a, b in pairs], [a * b for a, b in pairs], length)


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
        for b, block in enumerate(place.blocks):
            by_bits.setdefault(block.bits, []).append((t, b))
    out = {}
    for length, columns in by_bits.items():
        positions = [layout.places[t].positions[b] >> length for t, b in columns]
        values = eq_at(z[: len(z) - length], np.concatenate([p.ravel() for p in positions]))
        start = 0
        for key, p in zip(columns, positions, strict=True):
            out[key] = values[:, start : start + p.size].reshape(2, *p.shape)
            start += p.size
    return out
