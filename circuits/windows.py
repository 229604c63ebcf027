"""The windows of convolutions and pools, as public index tables over flattened positions.

What a table holds follows from five numbers per axis, so that it is made when somebody reads it, and not before.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from circuits.language.sources import Table

I64 = NDArray[np.int64]
Pair = tuple[int, int]


@dataclass(frozen=True)
class Windows:
    """Windows of size `kernel` over height x width positions with zeros around them; they fit."""

    height: int
    width: int
    kernel: Pair
    stride: Pair
    pad: Pair

    @property
    def grid(self) -> Pair:
        """Rows and columns of output positions."""
        sizes = zip((self.height, self.width), self.kernel, self.stride, self.pad, strict=True)
        rows, columns = ((n + 2 * p - k) // s + 1 for n, k, s, p in sizes)
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

    def reads(self) -> Table:
        """[k, s]: the input position that output position s reads through kernel position k, or -1 outside."""
        return self._table("reads", self.outputs)

    def readers(self) -> Table:
        """[k, i]: the output position that reads input position i through kernel position k, or -1."""
        return self._table("readers", self.positions)

    def pairs(self) -> Table:
        """[k, s]: the number k * outputs + s."""
        return self._table("pairs", self.outputs)

    def pairs_of(self) -> Table:
        """[k, i]: the number of the pair through which input position i is read, or -1."""
        return self._table("pairs_of", self.positions)

    def _table(self, which: str, columns: int) -> Table:
        pairs = ((self.height, self.width), self.kernel, self.stride, self.pad)
        rule = " ".join([which, *(f"{rows},{columns}" for rows, columns in pairs)])
        return Table(rule, (self.count, columns), partial(getattr(self, f"_{which}")))

    def _reads(self) -> I64:
        axes = []
        for size, count, k, s, p in zip(
            (self.height, self.width), self.grid, self.kernel, self.stride, self.pad, strict=True
        ):
            at = np.arange(count) * s + np.arange(k)[:, None] - p
            axes.append(np.where((at >= 0) & (at < size), at, -1))
        rows, columns = axes[0][:, None, :, None], axes[1][None, :, None, :]
        index = rows * self.width + columns
        index[np.broadcast_to((rows < 0) | (columns < 0), index.shape)] = -1
        return index.reshape(self.count, self.outputs)

    def _readers(self) -> I64:
        out = np.full((self.count, self.positions), -1, np.int64)
        for k, row in enumerate(self._reads()):
            s = np.flatnonzero(row >= 0)
            out[k, row[s]] = s
        return out

    def _pairs(self) -> I64:
        return np.arange(self.count * self.outputs).reshape(self.count, self.outputs)

    def _pairs_of(self) -> I64:
        readers = self._readers()
        return np.where(readers >= 0, np.arange(self.count)[:, None] * self.outputs + readers, -1)
