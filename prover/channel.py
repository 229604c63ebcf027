"""The prover's side of the hiding channel: adds pads, records messages, and can check its own honesty."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from circuits.argument.channel import Channel, Node, Tape
from circuits.argument.claims import Claim, Oracle, ProductJob, Sumcheck, Tree
from circuits.argument.tuples import Box
from zkcert.core.field import F, f_list, f_mul
from zkcert.core.transcript import Transcript, xof_field
from zkcert.errors import ProofRejected, UnusableInput

from . import grinding

U64 = NDArray[np.uint64]


@dataclass
class Pads:
    """One-time pads: `singles` (2, n) and triples x, y, z = x y (2, m). Secret, used for one statement only."""

    singles: U64
    x: U64
    y: U64
    z: U64

    @staticmethod
    def draw(secret: bytes, singles: int, triples: int) -> Pads:
        a = np.ascontiguousarray(xof_field(b"zkcert/pads" + secret, 2 * (singles + 2 * triples)).reshape(2, -1))
        s, x, y = np.split(a, [singles, singles + triples], axis=1)
        return Pads(s, x, y, f_mul(x, y))


class ProverChannel(Channel):
    """The channel that sends: adds pads, and keeps the messages.

    With `strict`, values are tracked and the first false equation raises ProofRejected naming it: the transparent
    twin, for tests and as a self-check. The messages are the same either way.

    As long as there are `recorded` messages (of an interrupted attempt with the same pads), these are sent, and values
    are neither needed nor looked at.
    """

    def __init__(self, transcript: Transcript, pads: Pads, strict: bool = False, recorded: bytes = b"") -> None:
        self.transcript, self.tape, self.strict = transcript, Tape(), strict
        self.messages = bytearray()
        self._recorded = recorded
        self._singles = f_list(pads.singles)
        self._x, self._y = f_list(pads.x), f_list(pads.y)
        self._pads = {"s": self._singles, "x": self._x, "y": self._y, "z": f_list(pads.z)}
        self._values: list[F] = []

    @property
    def replaying(self) -> bool:
        """Whether the next message is a recorded one."""
        return len(self.messages) < len(self._recorded)

    def _next(self, size: int) -> bytes:
        at = len(self.messages)
        if at + size > len(self._recorded):
            raise UnusableInput("the recorded messages end within a step of the protocol")
        return self._recorded[at : at + size]

    def _write(self, label: str, values: list[F]) -> None:
        data = b"".join(v.to_bytes() for v in values)
        self.messages += data
        self.transcript.absorb(label, data)

    def _replay(self, count: int) -> list[F]:
        try:
            data = self._next(16 * count)
            return [F.from_bytes(data[16 * i : 16 * i + 16]) for i in range(count)]
        except ValueError as error:
            raise UnusableInput("the recorded messages are damaged") from error

    def send(self, label: str, values: Sequence[F] | None, count: int) -> list[Node]:
        if self.replaying:
            masked = self._replay(count)
        else:
            assert values is not None and len(values) == count
            first = self.tape.singles
            masked = [v + self._singles[first + i] for i, v in enumerate(values)]
        self._write(label, masked)
        return [self.tape.receive(m) for m in masked]

    def send_pairs(self, label: str, pairs: Sequence[tuple[F, F]] | None, count: int) -> list[tuple[Node, Node, Node]]:
        if self.replaying:
            sent = self._replay(2 * count)
            masked = list(zip(sent[::2], sent[1::2], strict=True))
        else:
            assert pairs is not None and len(pairs) == count
            first = self.tape.triples
            masked = [(a + self._x[first + i], b + self._y[first + i]) for i, (a, b) in enumerate(pairs)]
        self._write(label, [m for pair in masked for m in pair])
        return [self.tape.receive_pair(*m) for m in masked]

    def reveal(self, label: str, value: F | None) -> F:
        if self.replaying:
            (value,) = self._replay(1)
        assert value is not None
        self._write(label, [value])
        return value

    def grind(self, label: str, bits: int) -> None:
        if self.replaying:
            nonce = self._next(8)
            if not self.transcript.check_grind(int.from_bytes(nonce, "little"), bits):
                raise UnusableInput("the recorded messages are damaged")
        else:
            nonce = grinding.grind(self.transcript, bits).to_bytes(8, "little")
        self.messages += nonce

    def value(self, node: Node) -> F:
        """The value behind a node (strict mode and tests)."""
        for n in range(len(self._values), len(self.tape.const)):
            if n in self.tape.pad_of:
                kind, i = self.tape.pad_of[n]
                self._values.append(self._pads[kind][i])
            else:
                acc = self.tape.const[n]
                for coef, parent in self.tape.terms[n]:
                    acc = acc + coef * self._values[parent]
                self._values.append(acc)
        return self._values[node]

    def assert_zero(self, node: Node, name: str) -> None:
        self.tape.assert_zero(node, name)
        if self.strict and self.value(node) != 0:
            raise ProofRejected(name)


class Checked(Oracle):
    """An oracle that may compare claims with a witness; this one has none, as the verifier's."""

    def check(self, claims: Sequence[Claim], ch: Channel) -> None:
        """A chance for a strict prover to compare every claim with its witness."""


class Resumed(Checked):
    """Without an answer while the channel replays, then the oracle that `live` makes."""

    def __init__(self, channel: ProverChannel, live: Callable[[], Checked]) -> None:
        self._channel, self._blind, self._make = channel, Checked(), live
        self._live: Checked | None = None

    @property
    def _oracle(self) -> Checked:
        if self._channel.replaying:
            return self._blind
        if self._live is None:
            self._live = self._make()
        return self._live

    def products(self, job: ProductJob) -> Sumcheck:
        return self._oracle.products(job)

    def digit_tree(self, alpha: F, start: int, count: int) -> Tree:
        return self._oracle.digit_tree(alpha, start, count)

    def tuple_tree(self, alpha: F, gamma: F, tree: Sequence[Box]) -> Tree:
        return self._oracle.tuple_tree(alpha, gamma, tree)

    def table_tree(self, alpha: F, gamma: F) -> Tree:
        return self._oracle.table_tree(alpha, gamma)

    def batch(self, claims: Sequence[Claim], weights: Sequence[F]) -> Sumcheck:
        return self._oracle.batch(claims, weights)

    def check(self, claims: Sequence[Claim], ch: Channel) -> None:
        self._oracle.check(claims, ch)
