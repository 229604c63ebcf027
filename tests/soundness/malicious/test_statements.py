"""Errors that cancel, whole proofs, and statements."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from unittest import mock

import numpy as np
import pytest

from circuits.language.constraints import Circuit, ModularLink, PublicTensor
from circuits.language.forms import View
from circuits.language.layout import Layout
from circuits.language.sources import Axis
from circuits.language.tensors import Digit, balanced
from prover.argument import prove_circuit
from prover.execution.witness import Witness
from tests.builders import Digits
from tests.soundness.malicious.forging import altered, full_name, lying_threshold, other_digit, transcript, verdict
from tests.toys import certified, light_grinding, prove_toy, toy_layout, toy_witness, verify_toy
from verifier.argument import verify_circuit
from verifier.verify import Expectations, verify_proof
from zkcert.core.container import ProofFile
from zkcert.core.field import P
from zkcert.errors import MalformedProof, ProofRejected

# ------------------------------------------------------------------------------------------------ random combinations


def cancelling_circuit():
    """Small equations between zeros: with the witnesses below, two errors add up to zero."""
    c = Circuit()
    u, i = Axis("u", 2), Axis("i", 3)
    digits = (Digit(balanced(4), 0), Digit(balanced(4), 4))
    a, b, x, p = (c.tensor(n, 2, (3,), digits) for n in "abxp")
    h = c.tensor("h", 2, (2, 3), digits[:1])
    on = lambda t: View(t, (Axis("u", 2), Axis("i", 3))).whole()  # noqa: E731
    con = c.constraint("members", (u, i))
    con.add("one way", on(a) - on(b))
    con.add("other way", on(b) - on(a))
    c.constraint("entries", (u, i)).add("zero", on(x))
    for index in range(2):
        c.publics.append(PublicTensor(p, index, np.zeros((2, 3), np.int64)))
    rows = np.array([[1, 1, 2], [P - 1, 3, 1]], np.uint64)
    c.links.append(ModularLink("rows", [(h, lambda i, j: rows[:, i:j])], np.zeros((2, 2, 2), np.uint64)))
    layout = Layout(c)
    return layout, Witness(layout), {t.name: t for t in c.tensors}


# Name of the constraint, tensor, digits (digit, u, ...) set to one, digits set to minus one.
CANCELLING = {
    "two members": ("members", "a", [(0, 0, 0)], []),
    "two entries": ("entries", "x", [(0, 0, 0)], [(0, 0, 1)]),
    "two steps": ("entries", "x", [(0, 0, 2)], [(0, 1, 2)]),
    "two public entries": ("public/p", "p", [(0, 0, 1)], [(0, 0, 2)]),
    "two public digits": ("public/p", "p", [(0, 1, 1)], [(1, 1, 1)]),
    "two rows of a hash": ("link/rows", "h", [(0, 0, 0, 0)], []),
    "two hashes of a step": ("link/rows", "h", [(0, 0, 0, 1)], [(0, 0, 1, 1)]),
    "hashes of two steps": ("link/rows", "h", [(0, 0, 0, 1)], [(0, 1, 0, 1)]),
}


@pytest.mark.parametrize("lie", CANCELLING)
def test_errors_of_several_equations_do_not_cancel(lie):
    layout, w, tensors = cancelling_circuit()
    name, tensor, up, down = CANCELLING[lie]
    for value, places in ((1, up), (-1, down)):
        for at in places:
            Digits(w, tensors[tensor])[at] = value
    with light_grinding():
        assert full_name(layout, w) == f"constraint/{name}"
        assert verdict(layout, w) == "hidden-equations"


def test_zeros_are_a_witness_of_the_cancelling_circuit():
    layout, w, _ = cancelling_circuit()
    with light_grinding():
        verify_circuit(layout, transcript(), prove_circuit(layout, w, transcript(), strict=True))


# ------------------------------------------------------------------------------------------------ whole proofs


@pytest.mark.parametrize("name", ["x", "w", "y", "a", "sign", "magnitude", "total", "r"])
def test_proof_of_a_toy_witness_with_one_altered_digit_is_rejected(name):
    w = toy_witness(2)
    t = next(t for t in toy_layout().circuit.tensors if t.name == name)
    digits = Digits(w, t)
    at = digits.at(0, 0)
    digits[at] = other_digit(digits[at], t.digits[0].range)
    with pytest.raises(ProofRejected) as caught:
        verify_toy(prove_toy(w))
    assert caught.value.check == "hidden-equations"


def test_proof_of_a_toy_circuit_with_other_public_values_is_rejected():
    layout = toy_layout()
    public = layout.circuit.publics[0]
    values = public.values.copy()
    values.flat[2] = other_digit(values.flat[2], public.tensor.digits[0].range)
    proof = prove_toy()
    with (
        mock.patch.object(layout.circuit, "publics", [PublicTensor(public.tensor, 0, values)]),
        pytest.raises(ProofRejected, match="hidden-equations"),
    ):
        verify_toy(proof)


@pytest.mark.parametrize("lie", ["weight", "threshold"])
def test_full_proof_of_a_false_witness_is_rejected(mlp, lie):
    if lie == "threshold":
        certificate, layout, w, _ = lying_threshold(mlp.case)
        w.put(certificate.score.slack.tensor, np.array([0], object))
        w.fill_carries_in(certificate.score.threshold)
        assert verdict(layout, w) == "hidden-equations"
        return
    t = mlp.tensor("weight/linear1.weight")
    with altered(mlp.witness, t) as (digits,):
        at = (0, t.unroll - 1, *(0 for _ in t.shape))
        digits[at] = other_digit(digits[at], t.digits[0].range)
        assert verdict(mlp.layout, mlp.witness) == "hidden-equations"


# ------------------------------------------------------------------------------------------------ statements


def judged(hashes=None, multiproof=None):
    """How the verifier judges the tiny statement's proof with other public data."""
    c = certified()
    file = ProofFile.parse(c.proved.data)
    file = replace(
        file,
        hashes=file.hashes if hashes is None else hashes,
        multiproof=file.multiproof if multiproof is None else multiproof,
    )
    with pytest.raises((ProofRejected, MalformedProof)) as caught:
        verify_proof(file.to_bytes(), c.model, Expectations(Fraction(30)))
    return getattr(caught.value, "check", "malformed")


def test_hashes_of_samples_that_were_not_drawn_are_rejected():
    c = certified()
    drawn = c.statement.indices()
    others = [i for i in range(c.dataset.n) if i not in drawn][: len(drawn)]
    assert judged(c.dataset.sample_hashes(others), c.dataset.multiproof(others)) == "dataset"
    one_other = [others[0], *drawn[1:]]
    assert judged(c.dataset.sample_hashes(one_other), c.dataset.multiproof(one_other)) == "dataset"


def test_hashes_in_another_order_are_rejected():
    c = certified()
    drawn = c.statement.indices()
    assert judged(c.dataset.sample_hashes(sorted(drawn, reverse=True))) == "dataset"
    assert judged(c.dataset.sample_hashes([drawn[1], drawn[0], *drawn[2:]])) == "dataset"


def test_too_few_or_repeated_hashes_are_rejected():
    c = certified()
    hashes = c.dataset.sample_hashes(c.statement.indices())
    assert judged(hashes[:-1]) == "malformed"
    assert judged(np.concatenate([hashes, hashes[:1]])) == "malformed"
    assert judged(np.concatenate([hashes[:-1], hashes[:1]])) == "dataset"
