"""Reed-Solomon codewords of matrix rows: hashed column by column, or evaluated at a few points.

The points are the N-th roots of unity w^0, w^1, ... in bit-reversed order.  A polynomial modulo ``x^(2h) - c^2`` splits
into its residues modulo ``x^h - c`` and ``x^h + c``; beginning with ``x^N - 1``, node b at depth d is
``x^(N / 2^d) - w^(N / 2^d rev_d(b))``, and its constant does not depend on how the coefficients are arranged.  So rows
longer than the caches are split in two passes: pass 1 takes columns of coefficients 2^log_2 apart, pass 2 the blocks of
2^log_2 consecutive residues that pass 1 leaves, each down to single points.  ROWS rows are encoded side by side; an
array (points, 2 * ROWS) holds their real, then their imaginary lanes.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from contextlib import suppress
from functools import cache, cached_property, lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from zkcert.core.field import U64, F, f_add, f_array, f_mul, f_mul_scalar, f_powers, fp_add, root_of_unity
from zkcert.core.opening import power_of_two, query_points

from .arith import (
    FOUR_P,
    M31,
    ROWS,
    S30,
    S31,
    S61,
    THREADS,
    TWO_P,
    ZERO,
    IntArray,
    P,
    fold,
    inline,
    kernel,
    reduce,
    residue,
    spread,
)
from .blake import GROUP, ColumnHasher, absorb

M30 = np.uint64((1 << 30) - 1)
M32 = np.uint64((1 << 32) - 1)
QUERY_BITS = 6, 12  # log2 of the blocks in which points are queried, and of the points that are split to find them
BLOCK_BITS = 9  # points that are split to the end at once


@inline
def _halves(x):
    """x0, x1 < 2^32 with x0 + 2^31 x1 congruent to any u64."""
    return (x & M31) + (x >> S61), (x >> S31) & M30


@inline
def _scalar(r, i, opaque):
    """Halves (below 2^30, above) of r, i and -i.

    `opaque` is zero: LLVM must not know how small they are, or it multiplies them by a slower instruction.
    """
    n = P - i
    return (
        (r & M30) | opaque,
        (r >> S30) | opaque,
        (i & M30) | opaque,
        (i >> S30) | opaque,
        (n & M30) | opaque,
        (n >> S30) | opaque,
    )


@inline
def _dot2(a0, a1, b0, b1, c0, c1, d0, d1):
    """Canonical a b + c d for halves as above: a, c of variables, b, d of scalars; 2^61 = 1."""
    mid = (
        a0 * (b1 & M32) + a1 * ((b0 + b0) & M32) + c0 * (d1 & M32) + c1 * ((d0 + d0) & M32)
    )  # of weight 2^30, below 2^64
    low = a0 * (b0 & M32) + c0 * (d0 & M32)
    return reduce(low + a1 * (b1 & M32) + c1 * (d1 & M32) + ((mid & M31) << S30) + (mid >> S31))


@inline
def _times(xr, xi, w):
    """Canonical lanes of x times a scalar in halves, for any u64."""
    r0, r1, i0, i1, n0, n1 = w
    a0, a1 = _halves(xr)
    c0, c1 = _halves(xi)
    return _dot2(a0, a1, r0, r1, c0, c1, n0, n1), _dot2(a0, a1, i0, i1, c0, c1, r0, r1)


@inline
def _turn(x):
    """x 2^30 below 2p, for any u64."""
    return ((x & M31) << S30) + (x >> S31)


@inline
def _split2(w, h, t, z, opaque):
    v4 = _scalar(t[6], t[7], opaque)
    for k in range(h):
        x0, x1 = w[k], w[k + h]
        for r in range(ROWS):
            ar, ai = reduce(x0[r]), reduce(x0[ROWS + r])
            br, bi = _times(x1[r], x1[ROWS + r], v4)
            z[r], z[ROWS + r] = ar + br, ai + bi
            z[2 * ROWS + r], z[3 * ROWS + r] = ar + P - br, ai + P - bi
        for r in range(2 * ROWS):
            x0[r], x1[r] = z[r], z[2 * ROWS + r]


@inline
def _split4(w, h, t, z, opaque):
    v2, v4, v6 = _scalar(t[2], t[3], opaque), _scalar(t[6], t[7], opaque), _scalar(t[10], t[11], opaque)
    for k in range(h):
        x0, x1, x2, x3 = w[k], w[k + h], w[k + 2 * h], w[k + 3 * h]
        for r in range(ROWS):
            ar, ai = reduce(x0[r]), reduce(x0[ROWS + r])
            er, ei = _times(x2[r], x2[ROWS + r], v4)
            cr, ci, dr, di = ar + er, ai + ei, ar + P - er, ai + P - ei
            ar, ai = _times(x1[r], x1[ROWS + r], v2)
            er, ei = _times(x3[r], x3[ROWS + r], v6)
            fr, fi, gr, gi = ar + er, ai + ei, ar + P - er, ai + P - ei
            z[r], z[ROWS + r] = cr + fr, ci + fi
            z[2 * ROWS + r], z[3 * ROWS + r] = cr + TWO_P - fr, ci + TWO_P - fi
            z[4 * ROWS + r], z[5 * ROWS + r] = dr + TWO_P - gi, di + gr
            z[6 * ROWS + r], z[7 * ROWS + r] = dr + gi, di + TWO_P - gr
        for q in range(4):
            x = w[k + q * h]
            for r in range(2 * ROWS):
                x[r] = z[2 * ROWS * q + r]


@kernel
def _split8(w, h, t, z, opaque):
    """Three levels at once: out[p] = sum_q x_q v^q zeta^(q rev(p)), zeta = 2^30 (1 + i) of order 8.

    All of w is any u64.  The products are canonical and every addition doubles the bound: at most 8 p = 2^64 - 8.
    """
    v1, v2, v3 = _scalar(t[0], t[1], opaque), _scalar(t[2], t[3], opaque), _scalar(t[4], t[5], opaque)
    v4, v5, v6 = _scalar(t[6], t[7], opaque), _scalar(t[8], t[9], opaque), _scalar(t[10], t[11], opaque)
    v7 = _scalar(t[12], t[13], opaque)
    for k in range(h):
        x0, x1, x2, x3 = w[k], w[k + h], w[k + 2 * h], w[k + 3 * h]
        x4, x5, x6, x7 = w[k + 4 * h], w[k + 5 * h], w[k + 6 * h], w[k + 7 * h]
        for r in range(ROWS):
            ar, ai = reduce(x0[r]), reduce(x0[ROWS + r])
            er, ei = _times(x4[r], x4[ROWS + r], v4)
            a0r, a0i, b0r, b0i = ar + er, ai + ei, ar + P - er, ai + P - ei
            ar, ai = _times(x1[r], x1[ROWS + r], v1)
            er, ei = _times(x5[r], x5[ROWS + r], v5)
            a1r, a1i, b1r, b1i = ar + er, ai + ei, ar + P - er, ai + P - ei
            ar, ai = _times(x2[r], x2[ROWS + r], v2)
            er, ei = _times(x6[r], x6[ROWS + r], v6)
            a2r, a2i, b2r, b2i = ar + er, ai + ei, ar + P - er, ai + P - ei
            ar, ai = _times(x3[r], x3[ROWS + r], v3)
            er, ei = _times(x7[r], x7[ROWS + r], v7)
            a3r, a3i, b3r, b3i = ar + er, ai + ei, ar + P - er, ai + P - ei
            cr, ci, dr, di = a0r + a2r, a0i + a2i, a1r + a3r, a1i + a3i
            z[r], z[ROWS + r] = cr + dr, ci + di
            z[2 * ROWS + r], z[3 * ROWS + r] = cr + FOUR_P - dr, ci + FOUR_P - di
            cr, ci, dr, di = a0r + TWO_P - a2r, a0i + TWO_P - a2i, a1r + TWO_P - a3r, a1i + TWO_P - a3i  # -+ i d
            z[4 * ROWS + r], z[5 * ROWS + r] = cr + FOUR_P - di, ci + dr
            z[6 * ROWS + r], z[7 * ROWS + r] = cr + di, ci + FOUR_P - dr
            cr, ci, dr, di = b0r + TWO_P - b2i, b0i + b2r, b1r + TWO_P - b3i, b1i + b3r  # +- zeta d
            sr, si = _turn(dr + FOUR_P - di), _turn(dr + di)
            z[8 * ROWS + r], z[9 * ROWS + r] = cr + sr, ci + si
            z[10 * ROWS + r], z[11 * ROWS + r] = cr + TWO_P - sr, ci + TWO_P - si
            cr, ci, dr, di = b0r + b2i, b0i + TWO_P - b2r, b1r + b3i, b1i + TWO_P - b3r  # +- i zeta d
            sr, si = _turn(dr + di), _turn(dr + FOUR_P - di)
            z[12 * ROWS + r], z[13 * ROWS + r] = cr + TWO_P - sr, ci + si
            z[14 * ROWS + r], z[15 * ROWS + r] = cr + sr, ci + TWO_P - si
        for q in range(8):  # by way of z, so that LLVM need not check that the eight do not overlap
            x = w[k + q * h]
            for r in range(2 * ROWS):
                x[r] = z[2 * ROWS * q + r]


@kernel
def _split(w, levels, block, table, opaque):
    """Split w, any u64, residues modulo node `block` of its depth, `levels` times in place."""
    z = np.empty(16 * ROWS, np.uint64)
    h, count = len(w), 1
    if levels % 3 == 1:
        h //= 2
        _split2(w, h, table[block], z, opaque)
        count = 2
    elif levels % 3 == 2:
        h //= 4
        _split4(w, h, table[block], z, opaque)
        count = 4
    for stage in range(levels // 3, 0, -1):
        h //= 8
        if stage == 2:  # the last two stages of each part one after the other, for the sake of the caches
            for b in range(count):
                part, node = w[8 * b * h : 8 * (b + 1) * h], block * count + b
                _split8(part, h, table[node], z, opaque)
                for c in range(8):
                    _split8(part[c * h : (c + 1) * h], h // 8, table[8 * node + c], z, opaque)
            break
        for b in range(count):
            _split8(w[8 * b * h : 8 * (b + 1) * h], h, table[block * count + b], z, opaque)
        count *= 8


@inline
def _load(ints, lanes, tail, first, tile, n1, n2, w):
    """w[k * tile + j] = coefficient k n2 + first + j of every row.

    ints (any, 2 * width) are the first rows, lanes (2, any, width) the next, the others up to ROWS are zero; the tail
    (2, ROWS, m <= width) is added.
    """
    for k in range(n1):
        at = k * n2 + first
        for r in range(ROWS):
            if r < len(ints):
                x = ints[r, 2 * at : 2 * (at + tile)]
                for j in range(tile):
                    y = w[k * tile + j]
                    y[r], y[ROWS + r] = residue(np.int64(x[2 * j])), residue(np.int64(x[2 * j + 1]))
            elif r - len(ints) < lanes.shape[1]:
                q = r - len(ints)
                xr, xi = lanes[0, q, at : at + tile], lanes[1, q, at : at + tile]
                for j in range(tile):
                    y = w[k * tile + j]
                    y[r], y[ROWS + r] = xr[j], xi[j]
            else:
                for j in range(tile):
                    y = w[k * tile + j]
                    y[r] = y[ROWS + r] = ZERO
        for j in range(min(tile, tail.shape[2] - at)):
            y = w[k * tile + j]
            for r in range(ROWS):
                y[r] += tail[0, r, at + j]
                y[ROWS + r] += tail[1, r, at + j]


@kernel
def _pass_1(ints, lanes, tail, coset, log_1, log_2, tile, table, opaque, out, start, stop):
    """Residues of `tile` columns at a time; see `_load`."""
    n1, n2 = 1 << log_1, 1 << log_2
    w = np.empty((n1 * tile, 2 * ROWS), np.uint64)
    for unit in range(start, stop):
        first = unit * tile
        _load(ints, lanes, tail, first, tile, n1, n2, w)
        _split(w, log_1, coset, table, opaque)
        for b in range(n1):
            for j in range(tile):
                x, y = w[b * tile + j], out[b * n2 + first + j]
                for r in range(2 * ROWS):
                    y[r] = x[r]


@kernel
def _pass_2(w, coset, log_1, log_2, table, opaque, rows, state, key, group, groups, start, stop):
    """Split the blocks start .. stop of w to single points and hash these."""
    n2 = 1 << log_2
    head = max(0, log_2 - BLOCK_BITS)
    size = n2 >> head
    for b in range(start, stop):
        block = coset << log_1 | b
        x = w[b * n2 : (b + 1) * n2]
        _split(x, head, block, table, opaque)
        for c in range(1 << head):
            child, y = block << head | c, x[c * size : (c + 1) * size]
            _split(y, log_2 - head, child, table, opaque)
            absorb(y, rows, state, child * size, key, group, groups)


@kernel
def _evaluate(ints, lanes, tail, coset, log_1, log_2, tile, table, opaque, blocks, low, high, start, stop):
    """What the columns of units start .. stop add to the values (q, 2 * ROWS) at points in the given blocks.

    low (2, q, tile), high (2, q, units): powers of the points up to x^tile, and powers of x^tile. See `_load`.
    """
    n1, n2 = 1 << log_1, 1 << log_2
    w = np.empty((n1 * tile, 2 * ROWS), np.uint64)
    out, total = np.zeros((len(blocks), 2 * ROWS), np.uint64), np.empty(2 * ROWS, np.uint64)
    for unit in range(start, stop):
        _load(ints, lanes, tail, unit * tile, tile, n1, n2, w)
        _split(w, log_1, coset, table, opaque)
        for q in range(len(blocks)):
            total[:] = ZERO
            for j in range(tile):
                x, v = w[blocks[q] * tile + j], _scalar(low[0, q, j], low[1, q, j], opaque)
                for r in range(ROWS):
                    zr, zi = _times(x[r], x[ROWS + r], v)
                    total[r], total[ROWS + r] = fold(total[r]) + zr, fold(total[ROWS + r]) + zi
            y, v = out[q], _scalar(high[0, q, unit], high[1, q, unit], opaque)
            for r in range(ROWS):
                zr, zi = _times(total[r], total[ROWS + r], v)
                y[r], y[ROWS + r] = reduce(y[r] + zr), reduce(y[ROWS + r] + zi)
    return out


def reverse_bits(bits: int) -> npt.NDArray[np.int64]:
    """The bit-reversed numbers below 2^bits."""
    out = np.zeros(1, np.int64)
    for _ in range(bits):
        out = np.concatenate((2 * out, 2 * out + 1))
    return out


@lru_cache(maxsize=2)
def _table(bits: int) -> U64:
    """Row b < 2^bits: v, ..., v^7 for the constant v of a split by 8 of node b, the same at any depth."""
    root = root_of_unity(bits + 3)
    v = f_array([F.ONE])
    for k in range(bits):
        v = np.concatenate((v, f_mul_scalar(v, root ** (1 << k))), axis=1)
    v = v[:, reverse_bits(bits)]
    out = np.empty((1 << bits, 7, 2), np.uint64)
    power = v
    for q in range(7):
        out[:, q] = power.T
        power = f_mul(power, v)
    return out.reshape(-1, 14)


RowBlock = tuple[IntArray, U64, U64]
"""Up to ROWS rows: of digits int32 (k, 2 * width), then of lanes (2, m, width); and their tails (2, k + m, any)."""
Query = tuple[int, IntArray, IntArray, U64, U64]


def cache_bytes(level: int) -> int:
    """Size of the first processor's data cache of this level; 0 where the system does not say."""
    for place in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        with suppress(OSError, ValueError):
            kind, size = (place / "type").read_text().strip(), (place / "size").read_text().strip()
            if int((place / "level").read_text()) == level and kind != "Instruction":
                return int(size.removesuffix("K")) << 10
    return 0


@cache
def tiled_bits() -> int:
    """log2 of the points, of 256 bytes, of the columns that pass 1 takes side by side: all threads together fill a
    quarter of the L3 cache, since whole lines of X matter more than the L2 cache does."""
    size = max(cache_bytes(2), cache_bytes(3) // (4 * THREADS))
    return min(14, max(11, (size >> 8).bit_length() - 1))


def block_bits(log_width: int) -> int:
    """log2 of the points that pass 2 takes at once, for rows of 2^log_width coefficients: it splits by 8 only, and
    blocks of at most 2^12 points fit in the L2 cache."""
    return 12 if log_width > 16 else min(BLOCK_BITS, log_width // 3 * 3)


class RowEncoder:
    """Encodes blocks of ROWS rows of 2^log_width coefficients at 2^log_n points (positions: bit-reversed exponents)."""

    def __init__(
        self, log_width: int, log_n: int, *, tile_bits: int | None = None, query_bits: tuple[int, int] = QUERY_BITS
    ) -> None:
        """tile_bits: see `tiled_bits`; query_bits: see QUERY_BITS. Neither changes a value."""
        self.log_width, self.log_n = log_width, log_n
        self.cosets = 1 << log_n - log_width
        self.log_2 = block_bits(log_width)
        self.log_1 = log_width - self.log_2
        self.tile_bits = min(self.log_2, max(2, (tile_bits or tiled_bits()) - self.log_1))
        # A few points need few levels: with more, little is saved in `_evaluate`, and more memory is gone over.
        self.query_log_1 = min(query_bits[0], log_width)
        self.query_log_2 = log_width - self.query_log_1
        self.query_tile_bits = min(self.query_log_2, max(2, query_bits[1] - self.query_log_1))
        self.table = _table(log_n - min(3, log_width))

    @cached_property
    def work(self) -> U64:
        """What pass 1 leaves of a coset."""
        return np.empty((1 << self.log_width, 2 * ROWS), np.uint64)

    def _with_tail(self, rows: RowBlock, coset: int) -> tuple[IntArray, U64, U64]:
        """What `_load` takes: the rows, their tails wrapped around on this coset."""
        ints, lanes, tail = rows
        width, w = 1 << self.log_width, root_of_unity(self.log_n)
        node = w ** (int(reverse_bits(self.log_n - self.log_width)[coset]) << self.log_width)  # x^width on this coset
        added = np.zeros((2, ROWS, min(width, tail.shape[2])), np.uint64)
        factor = F.ONE
        for start in range(0, tail.shape[2], width):
            factor = factor * node
            part = tail[:, :, start : start + width]
            own = added[:, : part.shape[1], : part.shape[2]]
            own[...] = f_add(own, f_mul_scalar(part, factor))
        ints = ints.view()
        ints.flags.writeable = False
        return ints, lanes, added

    def absorb(self, block: RowBlock, hasher: ColumnHasher) -> None:
        """Encode a block and hash the columns of its rows, as far as the hasher has not all its rows then."""
        for coset in range(self.cosets):
            self.split(block, coset)
            self.hash(coset, 0, 1 << self.log_1, hasher)
        hasher.advance(hasher.due)

    def split(self, block: RowBlock, coset: int) -> None:
        """Pass 1 of a block on a coset, into `work`."""
        rows, shape = self._with_tail(block, coset), (coset, self.log_1, self.log_2)
        units, grain = 1 << self.log_2 - self.tile_bits, 1 + (1 << 13 >> self.log_1 + self.tile_bits)
        spread(_pass_1, units, grain, *rows, *shape, 1 << self.tile_bits, self.table, ZERO, self.work)

    def hash(self, coset: int, first: int, stop: int, hasher: ColumnHasher) -> None:
        """Pass 2 of what `split` left in `work`, which is used up, for the blocks first .. stop of 2^log_2 points.

        The rows are hashed into the hasher's state, which does not advance.
        """
        place = GROUP * hasher.due, hasher.state, hasher.key, hasher.group, hasher.groups
        args = self.work, coset, self.log_1, self.log_2, self.table, ZERO, *place

        def blocks(start: int, end: int) -> None:
            _pass_2(*args, first + start, first + end)

        spread(blocks, stop - first, 1 + (1 << 12 >> self.log_2))

    def plan(self, positions: Sequence[int]) -> list[Query]:
        """What `evaluate` needs to know of the positions, coset by coset."""
        where, points = np.array(positions, np.int64), query_points(self.log_n, positions)
        out = []
        for coset in range(self.cosets):
            mine = np.flatnonzero(where >> self.log_width == coset)
            blocks = where[mine] >> self.query_log_2 & ((1 << self.query_log_1) - 1)
            own = np.ascontiguousarray(points[:, mine])
            low = f_powers(own, 1 << self.query_tile_bits)
            high = f_powers(power_of_two(own, self.query_tile_bits), 1 << self.query_log_2 - self.query_tile_bits)
            out.append((coset, mine, blocks, low, high))
        return [query for query in out if len(query[1])]

    def evaluate(self, block: RowBlock, plan: list[Query]) -> U64:
        """Values (t, 2, ROWS) of the block's rows at the positions of the plan."""
        out = np.empty((sum(len(query[1]) for query in plan), 2, ROWS), np.uint64)
        units = 1 << self.query_log_2 - self.query_tile_bits
        grain = 1 + (1 << 13 >> self.query_log_1 + self.query_tile_bits)
        for coset, mine, blocks, low, high in plan:
            shape = coset, self.query_log_1, self.query_log_2, 1 << self.query_tile_bits
            args = *self._with_tail(block, coset), *shape, self.table, ZERO, blocks, low, high
            parts = spread(_evaluate, units, grain, *args)
            out[mine] = functools.reduce(fp_add, parts).reshape(-1, 2, ROWS)
        return out
