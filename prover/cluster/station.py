"""What a worker does: it keeps blocks of rows and a share of a tree, and computes with them what the driver asks."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prover import kernels
from prover.checkpoint import CODE
from prover.kernels.blake import GROUP, LANES, U32Array
from prover.kernels.encode import block_bits
from prover.trees import DigitTree, Layer, LeafLayer, Leaves
from zkcert.core import field as ff
from zkcert.core.code import COMBINED_ROWS, MatrixCode
from zkcert.core.field import F
from zkcert.core.opening import COLUMN_KEY

from .sealing import Broken, Message, Pair, Sealed

U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]


class Tasks:
    """The tasks, each a method. Blocks of ROWS rows are known by (part, number)."""

    def __init__(self) -> None:
        self.end()

    def end(self) -> None:
        """Forget everything that belongs to a proof."""
        self.blocks: dict[tuple[int, int], kernels.RowBlock] = {}
        self.hashers: dict[int, kernels.ColumnHasher] = {}
        self.encoder: kernels.RowEncoder | None = None
        self.split: tuple[int, int, int] | None = None
        self.sums: U64 | None = None
        self.fell()

    # -- rows of the matrix

    def begin(self, code: MatrixCode) -> None:
        """A proof with a matrix of this shape begins."""
        self.end()
        self.code = code
        self.encoder = kernels.RowEncoder(code.row_bits, code.log_n)

    def hold(self, part: int, number: int, block: kernels.RowBlock) -> None:
        """Keep a block until the end of the proof."""
        self.blocks[part, number] = block

    def hash(self, part: int, number: int, first: int, stop: int, before: U32Array | None = None) -> U32Array:
        """Encode a block, and hash the columns [first, stop) of it, whole multiples of `column_unit`.

        before: the columns' states after the block before, which the first block of a chunk needs not. Returns those
        after this one, of the shape of `ColumnHasher.state` for so many columns.
        """
        if part not in self.hashers:
            self.hashers[part] = kernels.ColumnHasher(1 << self.code.log_n, self.code.parts[part], COLUMN_KEY)
        hasher, encoder = self.hashers[part], self._encoder()
        hasher.group = number * (kernels.ROWS // GROUP)
        state: U32Array = hasher.state[first // LANES : stop // LANES]
        if before is not None:
            state[...] = before
        for coset in range(first >> encoder.log_width, -(-stop >> encoder.log_width)):
            if self.split != (part, number, coset):
                encoder.split(self.blocks[part, number], coset)
                self.split = part, number, coset
            start = coset << encoder.log_width
            units = (max(first - start, 0), min(stop - start, 1 << encoder.log_width))
            encoder.hash(coset, *(at >> encoder.log_2 for at in units), hasher)
        return state.copy()

    def _encoder(self) -> kernels.RowEncoder:
        assert self.encoder is not None
        return self.encoder

    def _hashed(self) -> None:
        """No more columns are hashed: their workspace is not needed."""
        self.hashers.clear()
        self.split = None
        if self.encoder:
            vars(self.encoder).pop("work", None)

    def values(self, part: int, queries: list[int]) -> dict[int, U64]:
        """The values (t, 2, ROWS) of each block of a part at these positions."""
        encoder = self._encoder()
        plan = encoder.plan(queries)
        mine = {number: block for (own, number), block in self.blocks.items() if own == part}
        return {number: encoder.evaluate(block, plan) for number, block in mine.items()}

    def combine(self, weights: dict[tuple[int, int], U64]) -> None:
        """Sum up what the blocks add to the row combinations (2, 3, length), for the weights (2, 3, rows) of each."""
        self._hashed()
        width = self.code.width
        self.sums = np.zeros((2, COMBINED_ROWS, self.code.length), np.uint64)
        data, tail = self.sums[:, :, :width], self.sums[:, :, width:]
        for key, own in weights.items():
            ints, lanes, tails = self.blocks[key]
            if count := len(ints):
                digits = kernels.combine_digits(np.ascontiguousarray(own[:, :2, :count]), ints.ravel(), width)
                data[...] = ff.f_add(data, digits)
            if lanes.shape[1]:
                rest = np.ascontiguousarray(own[:, :, count:])
                data[...] = ff.f_add(data, kernels.fold_matrix_f(lanes[:, None], rest)[:, 0])
            tail[...] = ff.f_add(tail, kernels.fold_matrix_f(tails[:, None], np.ascontiguousarray(own))[:, 0])

    def add(self, other: U64) -> None:
        """Add another worker's combinations to this one's."""
        assert self.sums is not None
        self.sums = ff.f_add(self.sums, other)

    def give(self) -> U64:
        """The combinations summed up so far, which are needed here no longer."""
        sums, self.sums = self.sums, None
        assert sums is not None
        return sums

    # -- a share of a tree

    def plant(self, x: NDArray[np.int32], starts: I64, bases: U64, size: int) -> tuple[F, F]:
        """Build the tree over digits x padded to `size`, with bases as `Leaves` takes them; its root."""
        self._hashed()
        self.fell()
        self.tree = DigitTree(Leaves(x, len(x), starts, bases, size))
        return self.tree.root()

    def descend(self, point: list[F], lam: F, leaves: bool) -> None:
        """The next layer, whose claim the driver knows; the last one is that of the leaves."""
        assert self.tree is not None
        make: Callable[[list[F], F], Layer | LeafLayer] = self.tree.leaves if leaves else self.tree.layer
        self.layer = make(point, lam)

    def sum_round(self, r: F | None) -> tuple[F, F]:
        """Bind the variable of the last round, if there was one, then the next one's t(0) and tinf."""
        assert self.layer is not None
        if r is not None:
            self.layer.advance(r)
        return self.layer.sums()

    def finals(self, r: F | None) -> list[F]:
        """The same, when no variable is left: the layer's last values."""
        assert self.layer is not None
        if r is not None:
            self.layer.advance(r)
        return [value for pair in self.layer.finals() for value in pair]

    def fell(self) -> None:
        """The tree is needed no longer."""
        self.tree: DigitTree | None = None
        self.layer: Layer | LeafLayer | None = None
        kernels.release()


def column_unit(code: MatrixCode) -> int:
    """So many columns at least are hashed at once: what lies side by side in a state, and in pass 2 of the encoder."""
    return max(LANES, 1 << block_bits(code.row_bits))


# ---------------------------------------------------------------------------------------------------------- envelope


@dataclass(frozen=True)
class Greeting:
    """What a worker says first: its public key, the digest of its code, and who it is."""

    public: bytes
    code: str
    host: str
    process: int


@dataclass
class Use:
    """What a worker spent in a phase: CPU seconds, and bytes that came from other workers."""

    seconds: float = 0.0
    received: int = 0


class Station:
    """The tasks, with every message sealed; see `Sealed`."""

    def __init__(self) -> None:
        self._tasks = Tasks()
        self._failed: tuple[bool, str] | None = None  # the reply to everything, until another proof begins
        self._uses: dict[str, Use] = {}

    def greet(self, public: bytes) -> Greeting:
        """Exchange keys with the driver, whose public key is given."""
        pair = Pair()
        self._sealed = pair.with_other(public)
        return Greeting(pair.public, CODE, socket.gethostname(), os.getpid())

    def admit(self, sealed: Message) -> None:
        """Take the key of the run, which all workers share."""
        self._sealed = Sealed(self._sealed.open(sealed))
        if not kernels.compiled():
            kernels.warm_up()

    def do(self, request: Message, *others: Message) -> Message:
        """Do what a request (phase, task, arguments) says, with the replies of others behind its arguments.

        A task is a method of `Tasks`, or a function anywhere in the project, as module:function.
        The reply is (True, value), or (False, why not): also where one of the others is, and to all that comes after.
        """
        start, phase = time.process_time(), ""
        reply: tuple[bool, Any]
        try:
            phase, name, arguments = self._sealed.open(request)
            given = [self._sealed.open(other) for other in others]
            if name in ("begin", "end"):
                self._failed = None
            self._failed = self._failed or next((other for other in given if not other[0]), None)
            if not self._failed:
                module, _, function = name.rpartition(":")
                task = getattr(import_module(module) if module else self._tasks, function)
                reply = True, task(*arguments, *(value for _, value in given))
        except (Broken, MemoryError, OSError) as error:
            self._failed = False, f"{str(error) or type(error).__name__} on {socket.gethostname()}"
        sealed = self._sealed.seal(self._failed or reply)
        use = self._uses.setdefault(phase, Use())
        use.seconds += time.process_time() - start
        use.received += sum(map(len, others))
        return sealed

    def uses(self) -> dict[str, Use]:
        """What was spent since the last call, by phase."""
        uses, self._uses = self._uses, {}
        return uses


def reply_of(value: Any) -> Any:
    """The value of an opened reply; Refused if it is none."""
    ok, content = value
    if not ok:
        raise Refused(content)
    return content


class Refused(Exception):
    """A worker could not do what it was asked for."""
