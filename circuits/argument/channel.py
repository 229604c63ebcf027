"""The hiding channel's algebra: values nobody sees, known only as affine forms in one-time pads.

Every message that depends on the witness is sent as ``message = value + pad`` with a fresh committed pad, so both
sides know the value as ``message - pad``. Verifier checks become affine equations in the pads; a product of two hidden
values uses a committed triple (x, y, z = x y): sending ``a + x`` and ``b + y`` gives

    a b = (a+x)(b+y) - (a+x) y - (b+y) x + z,

again affine. All equations are collected here and proved at once by the pad proof.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zkcert.core.field import U64, F, P, f_array
from zkcert.core.proof import Reader
from zkcert.core.transcript import Transcript

Node = int
Terms = Sequence[tuple[F, Node]]


@dataclass(frozen=True)
class PadForm:
    """The pads times their coefficients must sum to -const; parts: the coefficients (2, n) of singles, x, y and z."""

    parts: tuple[U64, U64, U64, U64]
    const: F


class Tape:
    """Hidden values as nodes: a node is ``const + sum coef * parent`` or a pad."""

    def __init__(self) -> None:
        self.const: list[F] = []
        self.terms: list[Terms] = []
        self.pad_of: dict[Node, tuple[str, int]] = {}
        self.singles = 0
        self.triples = 0
        self.equations: list[tuple[Node, str]] = []

    def _node(self, const: F, terms: Terms) -> Node:
        self.const.append(const)
        self.terms.append(terms)
        return len(self.const) - 1

    def known(self, value: F) -> Node:
        return self._node(value, ())

    def linear(self, terms: Terms, const: F = F.ZERO) -> Node:
        return self._node(const, terms)

    def _pad(self, kind: str, index: int) -> Node:
        n = self._node(F.ZERO, ())
        self.pad_of[n] = (kind, index)
        return n

    def receive(self, message: F) -> Node:
        """The value behind ``message = value + s_k`` for the next single pad."""
        pad = self._pad("s", self.singles)
        self.singles += 1
        return self._node(message, ((F(-1), pad),))

    def receive_pair(self, ma: F, mb: F) -> tuple[Node, Node, Node]:
        """The values a, b and a*b behind ``ma = a + x_k``, ``mb = b + y_k`` for the next triple."""
        k = self.triples
        self.triples += 1
        x, y, z = self._pad("x", k), self._pad("y", k), self._pad("z", k)
        a = self._node(ma, ((F(-1), x),))
        b = self._node(mb, ((F(-1), y),))
        ab = self._node(ma * mb, ((-ma, y), (-mb, x), (F.ONE, z)))
        return a, b, ab

    def assert_zero(self, node: Node, name: str) -> None:
        self.equations.append((node, name))

    def collapse(self, weights: Sequence[F]) -> PadForm:
        """One random combination of all equations as an affine form in the pads (reverse accumulation)."""
        # Both lanes of the adjoints and of the constant as integers, reduced when a node is reached.
        re, im, const = [0] * len(self.const), [0] * len(self.const), [0, 0]
        for (node, _), w in zip(self.equations, weights, strict=True):
            re[node] += w.re
            im[node] += w.im
        pads = {"s": [F.ZERO] * self.singles, **{kind: [F.ZERO] * self.triples for kind in "xyz"}}
        for node in reversed(range(len(self.const))):
            a, b = re[node] % P, im[node] % P
            if not (a or b):
                continue
            known = self.const[node]
            const[0] += a * known.re - b * known.im
            const[1] += a * known.im + b * known.re
            for coef, parent in self.terms[node]:
                re[parent] += a * coef.re - b * coef.im
                im[parent] += a * coef.im + b * coef.re
            if node in self.pad_of:
                kind, index = self.pad_of[node]
                pads[kind][index] = F(a, b)
        s, x, y, z = (f_array(pads[k]).reshape(2, -1) for k in "sxyz")
        return PadForm((s, x, y, z), F(*const))


class Channel:
    """The conversation, as a verifier has it: messages are read from the proof, and the values that a reduction hands
    over, None, are not looked at. A prover's subclass sends them."""

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
        self.messages.check_work(self.transcript, bits, "proof-of-work", f"{label} needs {bits} bits")

    def assert_zero(self, node: Node, name: str) -> None:
        self.tape.assert_zero(node, name)
