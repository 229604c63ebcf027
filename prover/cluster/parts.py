"""A part of the hiding matrix whose rows lie with the workers, ROWS at a time.

A column is hashed in chunks of CHUNK_GROUPS groups of rows, one block behind the other: the states of the hash go from
the worker of one block to that of the next. Columns are taken in segments, so that all workers of a chunk are busy at
once. What a chunk ends with, 32 bytes a column, goes to the driver, who joins it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from prover import kernels
from prover.commit import ColumnTree, Part
from prover.kernels.blake import CHUNK_GROUPS, GROUP
from zkcert.core.code import MatrixCode
from zkcert.core.merkle import U8Array
from zkcert.core.opening import COLUMN_KEY, part_tree

from .station import column_unit

if TYPE_CHECKING:
    from .driver import Cluster, Promise

U64 = NDArray[np.uint64]
CHUNK_BLOCKS = CHUNK_GROUPS * GROUP // kernels.ROWS


class SharedColumns(ColumnTree):
    """A `ColumnTree` whose blocks of rows the workers encode, hash and evaluate: block b is worker b's, mod size."""

    def __init__(self, cluster: Cluster, part: int, *arguments: Any) -> None:
        """part: its index; arguments: those of `ColumnTree`."""
        self.cluster, self.part, self.held = cluster, part, False
        super().__init__(*arguments)

    @property
    def numbers(self) -> range:
        """Of the blocks."""
        return range(-(-self.rows // kernels.ROWS))

    def worker(self, number: int) -> int:
        """Who has a block."""
        return number % self.cluster.size

    def _hold(self, numbers: Sequence[int]) -> list[Promise]:
        """Send blocks to their workers."""
        ask = self.cluster.ask
        return [ask(self.worker(b), "hold", self.part, b, self.block(b * kernels.ROWS)) for b in numbers]

    def hold(self) -> None:
        """Send all blocks, if that has not been done: as in an attempt that is resumed."""
        if not self.held:
            pending: deque[Promise] = deque()
            for number in self.numbers:
                if len(pending) > self.cluster.size:
                    self.cluster.get([pending.popleft()])
                pending += self._hold([number])
            self.cluster.get(pending)
            self.held = True

    def _segments(self) -> list[list[tuple[int, int]]]:
        """First and last column, but one, of each segment, coset by coset (or all of them where these are shorter)."""
        assert isinstance(self.code, MatrixCode)
        columns, coset = 1 << self.code.log_n, 1 << self.code.row_bits
        size = min(columns, max(column_unit(self.code), columns // self.cluster.segments))
        coset = max(coset, size)
        return [[(a, a + size) for a in range(c, c + coset, size)] for c in range(0, columns, coset)]

    def _hashed(self) -> U8Array:
        hasher = kernels.ColumnHasher(1 << self.code.log_n, self.rows, COLUMN_KEY)
        pending: deque[tuple[list[Promise], list[Promise]]] = deque()
        ahead = 1 + -(-self.cluster.size // CHUNK_BLOCKS)  # chunks that the workers have at once

        def collect() -> None:
            holds, states = pending.popleft()
            self.cluster.get(holds)
            np.concatenate(self.cluster.get(states), out=hasher.state)
            hasher.advance(min(CHUNK_GROUPS, hasher.groups - hasher.group))

        for first in self.numbers[::CHUNK_BLOCKS]:
            if len(pending) == ahead:
                collect()
            pending.append(self._chunk(self.numbers[first : first + CHUNK_BLOCKS]))
        while pending:
            collect()
        self.held = True
        return hasher.digests()

    def _chunk(self, numbers: Sequence[int]) -> tuple[list[Promise], list[Promise]]:
        """Have the blocks of a chunk kept and hashed: promises that they are kept, and of the states of all columns."""
        holds, states = self._hold(numbers), []
        for segments in self._segments():
            last: list[Sequence[Promise]] = [()] * len(segments)
            for number in numbers:
                place: tuple[Any, ...] = self.worker(number), "hash", self.part, number
                last = [[self.cluster.ask(*place, *s, after=t)] for s, t in zip(segments, last, strict=True)]
            states += [promise for after in last for promise in after]
        return holds, states

    def _values(self, queries: list[int]) -> list[U64]:
        self.hold()
        found: dict[int, U64] = {}
        for part in self.cluster.everyone("values", self.part, queries):
            found |= part
        return [found[number] for number in self.numbers]


class SharedPart(Part):
    """A `Part` whose rows the workers keep."""

    columns: SharedColumns

    def __init__(self, cluster: Cluster, x: NDArray[np.int32], code: MatrixCode, index: int, *rest: Any) -> None:
        """rest: as for `Part`."""
        self.cluster = cluster
        if not index:
            cluster.everyone("begin", code)
        super().__init__(x, code, index, *rest)

    def _tree(self, leaves: U8Array | None) -> SharedColumns:
        arguments = self._block, self.rows, self.code, part_tree(self.index), leaves
        return SharedColumns(self.cluster, self.index, *arguments)

    def combine(self, weights: U64) -> U64:
        """Every worker sums up its blocks, then pairs of workers their sums: the driver receives one."""
        self.columns.hold()
        ask, size = self.cluster.ask, self.cluster.size
        shares: list[dict[tuple[int, int], U64]] = [{} for _ in range(size)]
        for number in self.columns.numbers:
            start = number * kernels.ROWS
            own = weights[:, :, start : min(start + kernels.ROWS, self.rows)]
            shares[self.columns.worker(number)][self.index, number] = np.ascontiguousarray(own)
        done = [ask(worker, "combine", share) for worker, share in enumerate(shares)]
        step = 1
        while step < size:
            for worker in range(0, size - step, 2 * step):
                done.append(ask(worker, "add", after=[ask(worker + step, "give")]))
            step *= 2
        total, *_ = self.cluster.get([ask(0, "give"), *done])
        return np.asarray(total, np.uint64)
