"""What the driver asks of the workers, whoever carries the messages."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from circuits.argument.claims import Tree
from circuits.language.layout import Layout
from circuits.language.tensors import ceil_log2
from prover.checkpoint import CODE
from prover.commit import Part
from prover.phase import Phase
from prover.trees import digit_tree
from zkcert.core.field import F
from zkcert.errors import UnusableInput

from . import WorkerFailed
from .parts import SharedPart
from .sealing import KEY_BYTES, Broken, Message, Pair, Sealed
from .station import Greeting, Refused, Use, reply_of
from .trees import SharedTree

LEAST_SHARE = 1 << 22  # digits of a tree: fewer take less time than the messages of its rounds
SEGMENTS = 16  # of the columns: so many hashes' states travel from worker to worker one after the other


class Crew(Protocol):
    """Workers, each with a `Station`, and the way to them. References are opaque; all methods raise WorkerFailed."""

    size: int

    def greet(self, public: bytes) -> list[Greeting]:
        """The greetings of all workers."""

    def admit(self, sealed: Sequence[Message]) -> None:
        """`Station.admit` of each worker."""

    def ask(self, worker: int, request: Message, others: Sequence[Any]) -> Any:
        """A reference to the reply of `Station.do`; others: references to other replies, which go from worker to
        worker. A worker does what it is asked for in this order."""

    def replies(self, references: Sequence[Any]) -> list[Message]:
        """The replies, waited for."""

    def first(self, references: Sequence[Any]) -> int:
        """The number of one whose reply is there, waited for."""

    def uses(self) -> list[dict[str, Use]]:
        """`Station.uses` of all workers."""


def tree_bits(count: int, workers: int, least_share: int = LEAST_SHARE) -> int:
    """log2 of the workers that share a tree of so many digits: each has at least `least_share` of them, and two."""
    return max(0, min(workers.bit_length(), (count // least_share).bit_length(), ceil_log2(count)) - 1)


@dataclass(frozen=True)
class Promise:
    """A reply that some worker owes."""

    worker: int
    reference: Any


@dataclass
class Traffic:
    """Of one phase: bytes sent to and received from each worker by the driver, bytes each received from other workers,
    CPU seconds each spent; and how often the driver waited for replies."""

    sent: list[int]
    received: list[int]
    passed: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    waits: int = 0


class Cluster:
    """A crew that has been greeted. One proof at a time."""

    def __init__(self, crew: Crew, *, least_share: int = LEAST_SHARE, segments: int = SEGMENTS) -> None:
        """least_share: see `tree_bits`; segments: see SEGMENTS. Neither changes a proof.

        Raises UnusableInput if a worker has other code than this process.
        """
        self.crew, self.least_share, self.segments = crew, least_share, segments
        pair, key = Pair(), secrets.token_bytes(KEY_BYTES)
        self.greetings = crew.greet(pair.public)
        for greeting in self.greetings:
            if greeting.code != CODE:
                raise UnusableInput(
                    f"the worker on {greeting.host} has another version of zkcert: install the same one"
                )
        crew.admit([pair.with_other(greeting.public).seal(key) for greeting in self.greetings])
        self._sealed = Sealed(key)
        self._phase = ""
        self._traffic: dict[str, Traffic] = {}

    @property
    def size(self) -> int:
        """How many workers there are."""
        return self.crew.size

    # -- messages

    def ask(self, worker: int, method: str, *arguments: Any, after: Sequence[Promise] = ()) -> Promise:
        """Ask a worker for the task of that name (see `Station.do`); values of other promises come behind the rest."""
        request = self._sealed.seal((self._phase, method, arguments))
        self._now.sent[worker] += len(request)
        return Promise(worker, self.crew.ask(worker, request, [promise.reference for promise in after]))

    def get(self, promises: Sequence[Promise]) -> list[Any]:
        """The values of promises. Raises WorkerFailed."""
        self._now.waits += 1
        values = []
        for promise, reply in zip(promises, self.crew.replies([p.reference for p in promises]), strict=True):
            self._now.received[promise.worker] += len(reply)
            try:
                values.append(reply_of(self._sealed.open(reply)))
            except (Refused, Broken) as error:
                raise WorkerFailed(f"a worker could not go on: {error}") from error
        return values

    def first(self, promises: Sequence[Promise]) -> int:
        """The number of a promise that is kept by now, waited for."""
        return self.crew.first([promise.reference for promise in promises])

    def everyone(self, method: str, *arguments: Any) -> list[Any]:
        """The values of one method on all workers."""
        return self.get([self.ask(worker, method, *arguments) for worker in range(self.size)])

    # -- what is counted

    @property
    def _now(self) -> Traffic:
        if self._phase not in self._traffic:
            self._traffic[self._phase] = Traffic([0] * self.size, [0] * self.size)
        return self._traffic[self._phase]

    def watched(self, phase: Phase) -> Phase:
        """The phase hook, for a cluster that counts what each phase sends."""

        @contextmanager
        def hook(name: str) -> Iterator[None]:
            before, self._phase = self._phase, name
            with phase(name):
                yield
            self._phase = before

        return hook

    def traffic(self) -> dict[str, Traffic]:
        """What was sent and spent since the last call, by phase."""
        found, self._traffic = self._traffic, {}
        uses = self.crew.uses()
        for name, traffic in found.items():
            own = [use.get(name, Use()) for use in uses]
            traffic.passed, traffic.seconds = [use.received for use in own], [use.seconds for use in own]
        return found

    # -- what a prover needs

    @property
    def part(self) -> Callable[..., Part]:
        """Makes a `Part` whose rows the workers keep; arguments as those of `Part`."""
        return partial(SharedPart, self)

    def digit_tree(self, layout: Layout, x: NDArray[np.int32], alpha: F, start: int, count: int) -> Tree:
        """As `prover.trees.digit_tree`, shared by as many workers as `tree_bits` says."""
        if not (bits := tree_bits(count, self.size, self.least_share)):
            return digit_tree(layout, x, alpha, start, count)
        return SharedTree(self, bits, layout, x, alpha, start, count)

    def end(self) -> None:
        """The proof is done: the workers forget what they have of it."""
        self.everyone("end")
