"""Provers that lie about one thing and are honest about the rest: each is rejected, and the check is named.

A strict prover compares every hidden equation and every claim with its witness, in the circuit's order, so a lie is
named after the first constraint it breaks. `strict_name` skips the commitments and the range checks, which say nothing
about identities; `full_name` runs everything.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from unittest import mock

import numpy as np
import pytest

from circuits.argument.identities import constraint_claims
from circuits.compile import Certificate
from circuits.language.layout import Layout
from prover import argument
from prover.argument import prove_circuit
from prover.execution.run import Trace, fill_threshold
from prover.execution.witness import Witness
from tests.builders import Case, Digits
from tests.toys import prove_toy, verify_toy
from verifier.argument import verify_circuit
from zkcert.core.transcript import Transcript
from zkcert.errors import ProofRejected, ThresholdExceeded

TAU = Fraction(3)


@dataclass
class Honest:
    """A circuit with its honest witness."""

    case: Case
    certificate: Certificate
    layout: Layout
    witness: Witness
    trace: Trace

    def tensor(self, name, which=0):
        return [t for t in self.certificate.circuit.tensors if t.name == name][which]


def honest(case: Case) -> Honest:
    certificate, witness, trace = case.run(TAU)
    return Honest(case, certificate, certificate.layout, witness, trace)


class NoCommitment:
    """A commitment nobody opens: strict proofs that fail early do not get that far."""

    root = bytes(32)
    masks = np.zeros((2, 4, 1), np.uint64)
    columns = mock.Mock()

    def __init__(self, *args):
        pass

    def commit(self, *args):
        return self


def transcript():
    t = Transcript("malicious")
    t.absorb("statement", b"")
    return t


def reads(e):
    """The tensors an expression reads."""
    forms = [e.linear, *(f for pair in e.products for f in pair)]
    return {v.tensor for f in forms for v, _, _ in f.terms}


def strict_name(layout, witness, *tensors):
    """The first false constraint of a witness, by a strict proof without commitments and range checks.

    With `tensors`, only constraints that read one of them are looked at: the rest of the witness is honest.
    """

    def checked_claims(ch, oracle, con):
        if tensors and not any(reads(e) & set(tensors) for _, e in con.members):
            return []
        claims = constraint_claims(ch, oracle, con)
        oracle.check(claims, ch)
        return claims

    with (
        mock.patch("circuits.argument.protocol.constraint_claims", checked_claims),
        mock.patch.object(argument, "MatrixCommitment", NoCommitment),
        mock.patch.object(argument, "PadCommitment", NoCommitment),
        mock.patch.object(argument, "count_multiplicities"),
        mock.patch("prover.argument.range_check", lambda *args: []),
        pytest.raises(ProofRejected) as caught,
    ):
        prove_circuit(layout, witness, transcript(), strict=True)
    return caught.value.check


def full_name(layout, witness):
    """The first check a complete strict proof fails."""
    with pytest.raises(ProofRejected) as caught:
        prove_circuit(layout, witness, transcript(), strict=True)
    return caught.value.check


def verdict(layout, witness):
    """The check by which the verifier rejects the proof of a prover who does not look."""
    proof = prove_circuit(layout, witness, transcript())
    with pytest.raises(ProofRejected) as caught:
        verify_circuit(layout, transcript(), proof)
    return caught.value.check


@contextmanager
def altered(witness, *tensors):
    """The witness, whose given tensors may be changed inside the block."""
    saved = [witness.array(t) for t in tensors]
    try:
        yield [Digits(witness, t) for t in tensors]
    finally:
        for t, old in zip(tensors, saved, strict=True):
            Digits(witness, t)[...] = old


def other_digit(value, rng):
    """The neighbour of a digit within its range."""
    return value + 1 if value < rng.hi else value - 1


def name_of_altered_digit(own, tensor, digit):
    """What a strict prover says if the first entry of a digit of a tensor is another one."""
    t = own.tensor(tensor)
    with altered(own.witness, t) as (digits,):
        at = digits.at(digit, 0)
        digits[at] = other_digit(int(digits[at]), t.digits[digit].range)
        return strict_name(own.layout, own.witness, t)


def toy_verdict(*patches, strict=False, witness=None):
    """The check a toy proof made under patches falls to: the prover's own if strict, else the verifier's."""
    for p in patches:
        p.start()
    try:
        with pytest.raises(ProofRejected) as caught:
            proof = prove_toy(witness, strict=strict)
            for p in patches:
                p.stop()
            verify_toy(proof)
    finally:
        mock.patch.stopall()
    return caught.value.check


def lying_threshold(case):
    """A circuit whose tau lies below the score, with the slack a prover might invent."""
    _, _, trace = case.execute()
    certificate, witness, trace = case.execute(Fraction(trace.score) / 2)
    with pytest.raises(ThresholdExceeded):
        fill_threshold(certificate, witness, trace)
    return certificate, certificate.layout, witness, trace
