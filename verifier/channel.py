"""The verifier's side of the hiding channel: reads messages from the proof and keeps them as affine forms in pads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from circuits.argument.channel import Node, Tape
from zkcert.core.field import F
from zkcert.core.proof import Reader
from zkcert.core.transcript import Transcript
from zkcert.errors import ProofRejected


class VerifierChannel:
    """Implements `circuits.argument.channel.Channel` over the bytes of a proof."""

    def __init__(self, transcript: Transcript, messages: Reader) -> None:
        self.transcript, self.messages, self.tape = transcript, messages, Tape()
        self.opened = F.ZERO

    def challenge(self, label: str) -> F:
        return self.transcript.challenge(label)

    def challenges(self, label: str, count: int) -> list[F]:
        return self.transcript.challenges(label, count)

    def integers(self, label: str, count: int, bound: int) -> NDArray[np.int64]:
        return self.transcript.integers(label, count, bound)

    def _read(self, label: str, count: int) -> list[F]:
        start = self.messages.at
        out = [self.messages.field() for _ in range(count)]
        self.transcript.absorb(label, self.messages.since(start))
        return out

    def send(self, label: str, values: Sequence[F] | None, count: int) -> list[Node]:
        return [self.tape.receive(m) for m in self._read(label, count)]

    def send_pairs(self, label: str, pairs: Sequence[tuple[F, F]] | None, count: int) -> list[tuple[Node, Node, Node]]:
        m = self._read(label, 2 * count)
        return [self.tape.receive_pair(m[2 * i], m[2 * i + 1]) for i in range(count)]

    def reveal(self, label: str, value: F | None) -> F:
        self.opened = self._read(label, 1)[0]
        return self.opened

    def grind(self, label: str, bits: int) -> None:
        check_work(self.messages, self.transcript, bits, "proof-of-work", f"{label} needs {bits} bits")

    def assert_zero(self, node: Node, name: str) -> None:
        self.tape.assert_zero(node, name)


def check_work(reader: Reader, transcript: Transcript, bits: int, check: str, detail: str = "") -> None:
    """Proof of work: the hash of the transcript's state and the nonce, which is read, ends in so many zero bits."""
    nonce = reader.u64()
    if not transcript.check_grind(nonce, bits):
        raise ProofRejected(check, detail, nonce=nonce, bits=bits)
