"""The windows of convolutions and pools, as public index tables over flattened positions.

What a table holds follows from a few numbers per axis, so that it is made when somebody reads it, and not before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from circuits.language.sources import Table
from zkcert.core.field import I64

Pair = tuple[int, int]


def outputs_along(size: int, kernel: int, stride: int, pad: int, dilation: int = 1, ceil: bool = False) -> int:
    """How many windows an axis of `size` positions has; `ceil`: a last one may reach beyond the padding, if it begins
    before the padding behind the axis does."""
    span = size + 2 * pad - dilation * (kernel - 1) - 1
    count = (span + (stride - 1) * ceil) // stride + 1
    return count - (ceil and (count - 1) * stride >= size + pad)


@dataclass(frozen=True)
class Windows:
    """Windows of `kernel` entries, `dilation` apart, over height x width positions with a border of `pad`; they fit."""

    height: int
    width: int
    kernel: Pair
    stride: Pair
    pad: Pair
    dilation: Pair = (1, 1)
    ceil: bool = False

    @property
    def _numbers(self) -> list[tuple[int, int, int, int, int]]:
        """Positions, entries, stride, padding and dilation of each axis."""
        sizes = self.height, self.width
        return list(zip(sizes, self.kernel, self.stride, self.pad, self.dilation, strict=True))

    @property
    def grid(self) -> Pair:
        """Rows and columns of output positions."""
        rows, columns = (outputs_along(*numbers, self.ceil) for numbers in self._numbers)
        return rows, columns

    @property
    def positions(self) -> int:
        return self.height * self.width

    @property
    def outputs(self) -> int:
        rows, columns = self.grid
        return rows * columns

    @property
    def count(self) -> int:
        """Entries of a window."""
        return self.kernel[0] * self.kernel[1]

    @property
    def entries(self) -> int:
        """Those of the larger one of the tables `reads` and `readers`."""
        return self.count * max(self.outputs, self.positions)

    @property
    def inside(self) -> int:
        """Pairs of a window and an entry of it that lies inside the image."""
        rows, columns = (int((at >= 0).sum()) for at in self._axes())
        return rows * columns

    def divisors(self, *, padding: bool) -> list[int]:
        """By output position, the entries of its window that lie inside the image, or inside its border as well."""
        extents = []
        for at, (size, k, stride, pad, _), count in zip(self._axes(), self._numbers, self.grid, strict=True):
            start = np.arange(count) * stride - pad
            extents.append(np.minimum(k, size + pad - start) if padding else (at >= 0).sum(axis=0))
        out: list[int] = np.outer(*extents).ravel().tolist()
        return out

    def reads(self) -> Table:
        """[k, s]: the input position that output position s reads through kernel position k, or -1 outside."""
        return self._table("reads", (self.count, self.outputs))

    def readers(self) -> Table:
        """[k, i]: the output position that reads input position i through kernel position k, or -1."""
        return self._table("readers", (self.count, self.positions))

    def windows(self) -> Table:
        """[k, s]: s, or -1 where `reads` is -1."""
        return self._table("windows", (self.count, self.outputs))

    def pairs(self) -> Table:
        """[k, s]: the number of the pair, those that lie inside being numbered one k after the other; or -1."""
        return self._table("pairs", (self.count, self.outputs))

    def pairs_of(self) -> Table:
        """[k, i]: the number of the pair through which input position i is read, or -1."""
        return self._table("pairs_of", (self.count, self.positions))

    @property
    def rule(self) -> str:
        """All that the tables follow from."""
        pairs = [(self.height, self.width), self.kernel, self.stride, self.pad]
        words = [f"{rows},{columns}" for rows, columns in pairs]
        if self.dilation != (1, 1):
            words.append("dilation {},{}".format(*self.dilation))
        return " ".join(words + ["ceil"] * self.ceil)

    def _table(self, which: str, shape: Pair) -> Table:
        return Table(f"{which} {self.rule}", shape, partial(getattr(self, f"_{which}")))

    def _axes(self) -> list[I64]:
        """[k, o] of each axis: the position that output o reads through entry k, or -1 outside."""
        axes = []
        for (size, k, stride, pad, dilation), count in zip(self._numbers, self.grid, strict=True):
            at = np.arange(count) * stride + np.arange(k)[:, None] * dilation - pad
            axes.append(np.where((at >= 0) & (at < size), at, -1))
        return axes

    def _reads(self) -> I64:
        return joined(self._axes(), self.width)

    def _readers(self) -> I64:
        out = np.full((self.count, self.positions), -1, np.int64)
        for k, row in enumerate(self._reads()):
            s = np.flatnonzero(row >= 0)
            out[k, row[s]] = s
        return out

    def _windows(self) -> I64:
        return np.where(self._reads() >= 0, np.arange(self.outputs), -1)

    def _pairs(self) -> I64:
        inside = self._reads() >= 0
        return np.where(inside, inside.cumsum().reshape(inside.shape) - 1, -1)

    def _pairs_of(self) -> I64:
        pairs, readers = self._pairs(), self._readers()
        return np.where(readers >= 0, np.take_along_axis(pairs, np.maximum(readers, 0), axis=1), -1)


@dataclass(frozen=True)
class AdaptiveWindows:
    """The windows of an adaptive pooling to `grid` outputs: along an axis of n positions and m outputs, output o reads
    those from floor(o n / m) to before ceil((o + 1) n / m)."""

    height: int
    width: int
    grid: Pair

    @property
    def positions(self) -> int:
        return self.height * self.width

    @property
    def outputs(self) -> int:
        return self.grid[0] * self.grid[1]

    @property
    def entries(self) -> int:
        """Those of the larger one of the tables `reads` and `readers`."""
        return max(self.reads().shape[0] * self.outputs, self.readers().shape[0] * self.positions)

    def divisors(self) -> list[int]:
        """The entries of each window."""
        out: list[int] = np.outer(*((at >= 0).sum(axis=0) for at in self._axes())).ravel().tolist()
        return out

    def reads(self) -> Table:
        """[k, s]: the k-th position of window s, in a rectangle as large as the largest one; -1 outside."""
        return self._table("reads", self._axes(), self.width)

    def readers(self) -> Table:
        """[k, i]: the k-th window that reads position i, likewise."""
        return self._table("readers", self._axes(back=True), self.grid[1])

    def _table(self, which: str, axes: list[I64], width: int) -> Table:
        (rows, height), (columns, across) = (at.shape for at in axes)
        numbers = f"{self.height},{self.width} adaptive {self.grid[0]},{self.grid[1]}"
        return Table(f"{which} {numbers}", (rows * columns, height * across), partial(joined, axes, width))

    def _axes(self, *, back: bool = False) -> list[I64]:
        """[k, o] of each axis: the k-th position of window o; `back`: the k-th window of position o."""
        axes = []
        for n, m in zip((self.height, self.width), self.grid, strict=True):
            o, i = np.arange(m), np.arange(n)
            first, last = o * n // m, -(-(o + 1) * n // m) - 1
            if back:
                first, last = np.searchsorted(last, i), np.searchsorted(first, i, "right") - 1
            at = first + np.arange((last - first).max() + 1)[:, None]
            axes.append(np.where(at <= last, at, -1))
        return axes


def channels_of(groups: int, own: int) -> Table:
    """[g, c]: the number of channel c of group g."""
    return Table(f"groups {groups},{own}", (groups, own), lambda: np.arange(groups * own).reshape(groups, own))


def groups_of(groups: int, own: int) -> Table:
    """[c, g]: the same, transposed."""
    return Table(f"channels {own},{groups}", (own, groups), lambda: np.arange(groups * own).reshape(groups, own).T)


def heads_of(heads: int, own: int, first: int) -> Table:
    """[h, d]: the number of channel d of head h, the first one's being `first`."""
    rule = f"heads {heads},{own} from {first}"
    return Table(rule, (heads, own), lambda: first + np.arange(heads * own).reshape(heads, own))


@dataclass(frozen=True)
class Pairs:
    """The pairs (i, j) of positions of which i attends to j: all, or, if `causal`, those with j <= i; in this order."""

    count: int
    causal: bool

    @property
    def listed(self) -> I64:
        """(2, pairs): i and j of each."""
        full = np.ones((self.count, self.count), bool)
        return np.array(np.nonzero(np.tril(full) if self.causal else full))

    def __len__(self) -> int:
        return self.count * (self.count + 1) // 2 if self.causal else self.count**2

    def _table(self, order: str) -> Table:
        def make() -> I64:
            table = np.full((self.count, self.count), -1)
            i, j = self.listed
            table[(i, j) if order == "queries" else (j, i)] = np.arange(len(self))
            return table

        rule = f"{order} {self.count}" + (" causal" if self.causal else "")
        return Table(rule, (self.count, self.count), make)

    def by_query(self) -> Table:
        """[i, j]: the number of the pair, -1 for none."""
        return self._table("queries")

    def by_key(self) -> Table:
        """[j, i]: the same, transposed."""
        return self._table("keys")


def joined(axes: Sequence[I64], width: int) -> I64:
    """Tables of two axes, (ky, oy) and (kx, ox), as one of flattened positions, (ky kx, oy ox); -1 if either is."""
    rows, columns = axes
    y, x = rows[:, None, :, None], columns[None, :, None, :]
    index = y * width + x
    index[np.broadcast_to((y < 0) | (x < 0), index.shape)] = -1
    return index.reshape(rows.shape[0] * columns.shape[0], -1)
