"""A proof says nothing about the witness: explained again for another witness, byte for byte.

The strongest test here takes a proof made with one witness and solves for the prover's randomness that gives the very
same bytes with another witness of the same statement. Only hashes (roots and Merkle siblings) may differ: they hide by
the random oracle as long as what they cover stays unpredictable, which has tests of its own.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from functools import cache
from unittest import mock

import numpy as np
import pytest

from circuits.argument.channel import Channel
from circuits.argument.claims import Oracle
from circuits.argument.protocol import run
from prover.channel import Pads
from prover.commit import MatrixCommitment
from prover.oracle import ProverOracle
from tests.builders import Digits
from tests.hiding.views import (
    column_spans,
    columns_at,
    explain_matrix,
    lagrange,
    product,
    read_columns,
    sections,
    solve,
    split_words,
    vandermonde,
)
from tests.toys import (
    committed_vector,
    light_grinding,
    prove_toy,
    random_f_array,
    toy_layout,
    toy_transcript,
    toy_witness,
)
from verifier.opening import verify_opening
from zkcert.core import field as ff
from zkcert.core import padcode
from zkcert.core.code import pad_code
from zkcert.core.field import f_array
from zkcert.core.opening import combination_weights, query_points
from zkcert.core.proof import Reader
from zkcert.core.transcript import Transcript


class Listener(Channel):
    """Hears a proof's messages; remembers the challenges and the values it is told stand behind the messages."""

    def __init__(self, transcript, messages):
        super().__init__(transcript, messages)
        self.singles, self.x, self.y = [], [], []

    def send(self, label, values, count):
        heard = self._read(label, count)
        if values is not None:
            self.singles += [m - v for m, v in zip(heard, values, strict=True)]
        return [self.tape.receive(m) for m in heard]

    def send_pairs(self, label, pairs, count):
        heard = self._read(label, 2 * count)
        if pairs is not None:
            self.x += [heard[2 * i] - a for i, (a, _) in enumerate(pairs)]
            self.y += [heard[2 * i + 1] - b for i, (_, b) in enumerate(pairs)]
        return [self.tape.receive_pair(*heard[2 * i : 2 * i + 2]) for i in range(count)]

    def reveal(self, label, value):
        out = super().reveal(label, value)
        assert value is None or value == out
        return out


@dataclass
class Heard:
    """What a verifier sees in a proof of the toy circuit, by meaning."""

    z: list
    weights: np.ndarray
    rows: np.ndarray
    queries: list
    columns: np.ndarray
    form: object
    proximity: np.ndarray
    products: np.ndarray
    tests: tuple
    pad_queries: list
    pad_columns: np.ndarray


@cache
def shown_proof():
    """A proof, and the three combined rows that level 2 commits to."""
    original, seen = MatrixCommitment.combine, []

    def combine(self, weights):
        seen.append(original(self, weights))
        return seen[-1].copy()

    with mock.patch.object(MatrixCommitment, "combine", combine):
        return prove_toy(), seen[-1]


def absorb_roots(transcript, roots):
    transcript.absorb("roots", roots[:64])
    transcript.absorb("late-root", roots[64:])


def hear(proof):
    layout = toy_layout()
    told, rows = shown_proof()
    assert proof == told
    roots, messages, opening, pad_proof = (Reader(s) for s in sections(proof))
    code = layout.code
    t = toy_transcript()
    absorb_roots(t, roots.data)
    with light_grinding():
        ch = Listener(t, messages)
        z = run(ch, Oracle(), layout, code.variables)
        after = copy(t)
        verify_opening(Reader(opening.data), after, code, [roots.data[:32], roots.data[64:]], z, ch.opened)
        t.check_grind(opening.u64(), 16)
        weights = combination_weights(t, code, z)
        start = opening.at
        opening.take(32)
        assert np.array_equal(opening.field_array(3, code.tail), rows[:, :, code.width :])
        opening.take(32)
        t.absorb("combined-rows/1", opening.data[start : opening.at])
        t.check_grind(opening.u64(), 16)
        queries = t.distinct_indices("queries/1", code.queries, code.log_n)
        assert opening.at == columns_at(code)
        columns = read_columns(code, queries, opening.data)
        t = after
        form = ch.tape.collapse(t.challenges("equations", len(ch.tape.equations)))
        pads = pad_code(ch.tape.singles, ch.tape.triples)
        block = 1 << pads.block_bits
        proximity = t.challenge_array("pads/proximity", pads.rows)
        products = t.challenge_array("pads/products", pads.triple_rows)
        tests = tuple(pad_proof.field_array(n * block) for n in (1, 2, 2))
        t.absorb("pads/tests", pad_proof.data[: pad_proof.at])
        t.check_grind(pad_proof.u64(), 16)
        pad_queries = t.distinct_indices("pads/queries", pads.queries, pads.log_n)
        pad_columns = pad_proof.field_array(pads.queries, pads.rows + 3)
    return Heard(z, weights, rows, queries, columns, form, proximity, products, tests, pad_queries, pad_columns)


def explain_pads(code, form, heard, pads, rng):
    """Random evaluations and blinding rows with which these pads show the same tests and columns."""
    block, t = 1 << code.block_bits, code.queries
    basis, values = lagrange(code, heard.pad_queries)
    message = padcode.interpolate(code, padcode.message_rows(code, pads.singles, pads.x, pads.y, pads.z))
    tails = random_f_array(rng, code.rows, (1 << code.block_bits) - code.message)
    at = vandermonde(padcode.query_points(code, heard.pad_queries), 0, block)
    spare = product(values[:, :, t:], tails[:, :, t:].transpose(0, 2, 1))
    known = ff.f_add(product(at, message.transpose(0, 2, 1)), spare)
    tails[:, :, :t] = solve(
        np.ascontiguousarray(values[:, :, :t]), ff.f_sub(heard.pad_columns[:, :, : code.rows], known)
    ).transpose(0, 2, 1)
    rows = ff.f_add(message, product(tails, basis))

    q_proximity, q_linear, q_product = heard.tests
    proximity = ff.f_sub(q_proximity, ff.f_sum(ff.f_mul(rows, heard.proximity[:, :, None]), axis=1))
    double = code.block_bits + 1
    wide = ff.f_fft(rows, double)
    constraint = padcode.interpolate(code, padcode.message_rows(code, *form.parts))
    linear = ff.f_ifft(ff.f_sum(ff.f_mul(wide, ff.f_fft(constraint, double)), axis=1))
    linear = ff.f_sub(q_linear, linear)
    first, count = code.single_rows, code.triple_rows
    x, y, z = (wide[:, first + i * count : first + (i + 1) * count] for i in range(3))
    defect = ff.f_sum(ff.f_mul(ff.f_sub(ff.f_mul(x, y), z), heard.products[:, :, None]), axis=1)
    vanishing = ff.f_sub(ff.f_fft(q_product, double), defect)

    # Both blinding rows are such as an honest prover draws: one sums to zero, the other vanishes on the messages.
    assert ff.f_item(linear, 0) + ff.f_item(linear, block) == 0, "the equations do not hold"
    assert not vanishing[:, 0 : 2 * code.message : 2].any()
    free = [i for i in range(2 * block) if i % 2 or i // 2 >= code.message]
    parts = (tails.reshape(2, -1), proximity, linear, vanishing[:, free])
    return np.concatenate(parts, axis=1)


def explanation(proof, witness, seed=0):
    """The random words of a prover who says the same with another witness: by the label of their seed."""
    layout, rng, heard = toy_layout(), np.random.default_rng(seed), hear(proof)
    code = layout.code
    x = committed_vector(layout, witness)
    points = ff.f_list(query_points(code.log_n, heard.queries))
    masks, tails = explain_matrix(code, x, heard.weights, heard.rows, points, heard.columns, rng)

    roots, messages = sections(proof)[:2]
    t = toy_transcript()
    absorb_roots(t, roots)
    ch = Listener(t, Reader(messages))
    oracle = ProverOracle(layout, witness, x, np.ascontiguousarray(masks), code)
    with light_grinding():
        assert run(ch, oracle, layout, code.variables) == heard.z
    singles, a, b = (f_array(v).reshape(2, -1) for v in (ch.singles, ch.x, ch.y))
    pads = Pads(singles, a, b, ff.f_mul(a, b))
    return {
        **split_words(code, masks, tails),
        b"zkcert/pads": np.concatenate([singles, a, b], axis=1),
        b"zkcert/pad-rows": explain_pads(pad_code(ch.tape.singles, ch.tape.triples), heard.form, heard, pads, rng),
    }


def proved_with(words, roots, witness):
    """The proof of a prover with these random words, under the challenges that follow from given roots."""

    def stream(seed, count):
        (values,) = [v for label, v in words.items() if seed.startswith(label) and len(seed) == len(label) + 32]
        assert values.size == count
        return values.ravel()

    absorb = Transcript.absorb
    first = []

    def absorb_other(self, label, data):
        if label == "roots" and not first:
            first.append(data)
            data = roots[:64]
        absorb(self, label, roots[64:] if label == "late-root" else data)

    with (
        mock.patch("prover.commit.xof_field", stream),
        mock.patch("prover.pads.xof_field", stream),
        mock.patch("prover.channel.xof_field", stream),
        mock.patch.object(Transcript, "absorb", absorb_other),
    ):
        # the Merkle siblings are absorbed with the columns: the explained ones are put in below
        return prove_toy(witness)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_proof_can_be_explained_by_another_witness(seed):
    proof, other = shown_proof()[0], toy_witness(seed)
    roots, messages, opening, pad_proof = sections(proof)
    heard = hear(proof)
    words = explanation(proof, other)
    code = toy_layout().code
    (start, spans, end) = columns_at(code), *column_spans(code, heard.queries)

    # later challenges follow from the siblings too: let the second prover absorb those of the first
    absorb = Transcript.absorb

    def absorb_columns(self, label, data):
        if label == "columns/1":
            assert all(data[a - start : b - start] == opening[a:b] for a, b in spans)
            data = opening[start:end]
        absorb(self, label, data)

    with mock.patch.object(Transcript, "absorb", absorb_columns):
        again = sections(proved_with(words, roots, other))
    assert all(again[0][i : i + 32] != roots[i : i + 32] for i in (0, 32, 64))
    assert again[1] == messages
    assert again[2][:start] == opening[:start] and again[2][end:] == opening[end:]
    assert all(again[2][a:b] == opening[a:b] for a, b in spans)
    for siblings in (slice(spans[0][1], spans[1][0]), slice(spans[1][1], end)):
        assert again[2][siblings] != opening[siblings]
    pads = pad_code(words[b"zkcert/pads"].shape[1] - 2 * triples(heard), triples(heard))
    shown = 16 * 5 * (1 << pads.block_bits) + 8 + 16 * pads.queries * (pads.rows + 3)
    assert again[3][:shown] == pad_proof[:shown] and again[3][shown:] != pad_proof[shown:]
    assert committed_vector(toy_layout(), other).tolist() != committed_vector(toy_layout(), toy_witness()).tolist()


def triples(heard):
    return heard.form.parts[1].shape[1]


def test_explanations_use_free_randomness():
    """Two explanations of one proof by one witness differ in what no query saw."""
    a, b = (explanation(shown_proof()[0], toy_witness(1), seed) for seed in (1, 2))
    assert np.array_equal(a[b"zkcert/pads"], b[b"zkcert/pads"])
    assert all(not np.array_equal(a[label], b[label]) for label in (b"zkcert/masks", b"zkcert/masks/1"))
    assert not np.array_equal(a[b"zkcert/pad-rows"], b[b"zkcert/pad-rows"])


def test_a_false_witness_has_no_explanation():
    """The equations behind the messages hold for valid witnesses only: this is what the pad proof proves."""
    w = toy_witness(1)
    total = next(t for t in toy_layout().circuit.tensors if t.name == "total")
    Digits(w, total)[0, 0, 0] ^= 1
    with pytest.raises(AssertionError, match="the equations do not hold"):
        explanation(shown_proof()[0], w)
