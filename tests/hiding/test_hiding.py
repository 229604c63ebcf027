"""A proof says nothing about the witness: explained again for another witness, byte for byte.

The strongest test here takes a proof made with one witness and solves for the prover's randomness that gives the very
same bytes with another witness of the same statement. Only hashes (roots and Merkle siblings) may differ: they hide by
the random oracle as long as what they cover stays unpredictable, which has tests of its own.
"""

from __future__ import annotations

import json
from copy import copy
from dataclasses import dataclass
from functools import cache
from unittest import mock

import numpy as np
import pytest

from circuits.argument import lookups
from circuits.argument.blind import Blind
from circuits.argument.channel import Tape
from circuits.argument.protocol import run
from prover.channel import Pads, ProverChannel
from prover.commit import MatrixCommitment, UnluckyMasks, mask_rank
from prover.oracle import ProverOracle
from tests.builders import Digits
from tests.toys import (
    certified,
    committed_vector,
    light_grinding,
    prove_toy,
    random_f_array,
    random_fs,
    toy_layout,
    toy_proof,
    toy_transcript,
    toy_witness,
    verify_toy,
)
from verifier.channel import VerifierChannel
from verifier.opening import verify_opening
from zkcert.core import field as ff
from zkcert.core import padcode
from zkcert.core.code import MASK_ROWS, SPARE_TAIL, MatrixCode, matrix_code, pad_code
from zkcert.core.container import ProofFile
from zkcert.core.field import F, f_array
from zkcert.core.merkle import multiproof_bytes
from zkcert.core.opening import combination_weights, query_points
from zkcert.core.proof import Reader
from zkcert.core.transcript import Transcript, xof_field

SECTIONS = ("roots", "messages", "opening", "pad proof")


def sections(proof):
    reader = Reader(proof)
    return [reader.section(1 << 28) for _ in SECTIONS]


def solve(a, b):
    """x with a x = b for F arrays a (2, n, n), b (2, n, m); a must be invertible."""
    n = a.shape[1]
    m = np.concatenate([a, b], axis=2)
    for i in range(n):
        pivot = next(j for j in range(i, n) if m[0, j, i] or m[1, j, i])
        m[:, [i, pivot]] = m[:, [pivot, i]]
        m[:, i] = ff.f_mul_scalar(np.ascontiguousarray(m[:, i]), ff.f_item(m, (i, i)).inv())
        column = m[:, :, i].copy()
        column[:, i] = 0
        m = ff.f_sub(m, ff.f_mul(column[:, :, None], m[:, None, i]))
    return m[:, :, n:]


def product(a, b):
    """Matrix product of F arrays (2, n, k) and (2, k, m)."""
    return np.stack([ff.f_matvec(a, np.ascontiguousarray(b[:, :, j])) for j in range(b.shape[2])], axis=2)


def vandermonde(points, start, count):
    """x^start, ..., x^(start + count - 1) for each point, (2, points, count)."""
    rows = [ff.f_mul_scalar(padcode.powers(x, count), x**start) for x in points]
    return np.stack(rows, axis=1)


# ------------------------------------------------------------------------------------------------ explaining a proof


class Listener(VerifierChannel):
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
    """A proof, and the three combined rows that its second matrix commits to."""
    original, seen = MatrixCommitment.combine, []

    def combine(self, weights):
        seen.append(original(self, weights))
        return seen[-1].copy()

    with mock.patch.object(MatrixCommitment, "combine", combine):
        return prove_toy(), seen[-1]


def columns_at(code):
    """Where the columns of an opening start: after two nonces, the second root, the tails and two inner products."""
    return 8 + 32 + 48 * code.tail + 32 + 8


def hear(proof):
    layout = toy_layout()
    told, rows = shown_proof()
    assert proof == told
    roots, messages, opening, pad_proof = (Reader(s) for s in sections(proof))
    code = matrix_code(layout.data_end)
    t = toy_transcript()
    t.absorb("roots", roots.data)
    with light_grinding():
        ch = Listener(t, messages)
        z = run(ch, Blind(layout), layout, code.variables)
        after = copy(t)
        verify_opening(Reader(opening.data), after, code, roots.data[:32], z, ch.opened)
        t.check_grind(opening.u64(), 16)
        weights = combination_weights(t, code, z)
        start = opening.at
        opening.take(32)
        assert np.array_equal(opening.field_array(3, code.tail), rows[:, :, code.width :])
        opening.take(32)
        t.absorb("combined-rows", opening.data[start : opening.at])
        t.check_grind(opening.u64(), 16)
        queries = t.distinct_indices("queries", code.queries, code.log_n)
        assert opening.at == columns_at(code)
        columns = opening.field_array(code.queries, code.rows)
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


def explain_matrix(code, x, weights, rows, points, columns, rng):
    """Masks and tails with which the matrix of x shows these combined rows and columns."""
    t, m0 = len(points), code.mask_row
    data = np.zeros(2 * code.width * m0, np.int64)
    data[: len(x)] = x
    heads = np.zeros((2, code.rows, code.width), np.uint64)
    heads[:, :m0] = np.moveaxis(ff.fp_from_int(data).reshape(m0, code.width, 2), 2, 0)
    last = code.rows - 1
    heads[:, last] = random_f_array(rng, code.width)
    three = np.ascontiguousarray(weights[:, :, m0:last])
    rest = [*range(m0), last]
    known = product(weights[:, :, rest], heads[:, rest])
    heads[:, m0:last] = solve(three, ff.f_sub(rows[:, :, : code.width], known))

    tails = random_f_array(rng, code.rows, code.tail)  # the last SPARE_TAIL of each row stay as they are
    low = vandermonde(points, 0, code.length)
    fixed = np.concatenate([heads, tails], axis=2)
    fixed[:, :, code.width : code.width + t] = 0
    want = ff.f_sub(columns, product(low, fixed.transpose(0, 2, 1)))
    tails[:, :, :t] = solve(vandermonde(points, code.width, t), want).transpose(0, 2, 1)
    known = product(weights[:, :, rest], tails[:, rest])
    tails[:, m0:last] = solve(three, ff.f_sub(rows[:, :, code.width :], known))
    return heads[:, m0:], tails


def lagrange(code, queries):
    """The rows that are one at a random position and zero at the others: coefficients, and values at the queries."""
    count, block = (1 << code.block_bits) - code.message, 1 << code.block_bits
    unit = np.zeros((2, count, block), np.uint64)
    unit[0, np.arange(count), code.message + np.arange(count)] = 1
    basis = padcode.interpolate(code, unit)
    at = vandermonde(padcode.query_points(code, queries), 0, block)
    return basis, product(at, basis.transpose(0, 2, 1))


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
    constraint = padcode.interpolate(code, padcode.message_rows(code, form.singles, form.x, form.y, form.z))
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
    code = matrix_code(layout.data_end)
    x = committed_vector(layout, witness)
    points = ff.f_list(query_points(code.log_n, heard.queries))
    masks, tails = explain_matrix(code, x, heard.weights, heard.rows, points, heard.columns, rng)

    roots, messages = sections(proof)[:2]
    t = toy_transcript()
    t.absorb("roots", roots)
    ch = Listener(t, Reader(messages))
    oracle = ProverOracle(layout, witness, x, np.ascontiguousarray(masks), code)
    with light_grinding():
        assert run(ch, oracle, layout, code.variables) == heard.z
    singles, a, b = (f_array(v).reshape(2, -1) for v in (ch.singles, ch.x, ch.y))
    pads = Pads(singles, a, b, ff.f_mul(a, b))
    return {
        b"zkcert/masks": np.concatenate([masks.reshape(2, -1), tails.reshape(2, -1)], axis=1),
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

    def absorb_roots(self, label, data):
        if label == "roots" and not first:
            first.append(data)
            data = roots
        absorb(self, label, data)

    with (
        mock.patch("prover.commit.xof_field", stream),
        mock.patch("prover.pads.xof_field", stream),
        mock.patch("prover.channel.xof_field", stream),
        mock.patch.object(Transcript, "absorb", absorb_roots),
    ):
        # the Merkle siblings are absorbed with the columns: the explained ones are put in below
        return prove_toy(witness)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_proof_can_be_explained_by_another_witness(seed):
    proof, other = shown_proof()[0], toy_witness(seed)
    roots, messages, opening, pad_proof = sections(proof)
    heard = hear(proof)
    words = explanation(proof, other)
    code = matrix_code(toy_layout().data_end)
    start = columns_at(code)
    shown = start + 16 * code.queries * code.rows
    siblings = shown + multiproof_bytes(1 << code.log_n, heard.queries)

    # later challenges follow from the siblings too: let the second prover absorb those of the first
    absorb = Transcript.absorb

    def absorb_columns(self, label, data):
        if label == "opened-columns":
            assert data[: shown - start] == opening[start:shown]
            data = opening[start:siblings]
        absorb(self, label, data)

    with mock.patch.object(Transcript, "absorb", absorb_columns):
        again = sections(proved_with(words, roots, other))
    assert again[0] != roots
    assert again[1] == messages
    assert again[2][:shown] == opening[:shown] and again[2][siblings:] == opening[siblings:]
    assert again[2][shown:siblings] != opening[shown:siblings]
    pads = pad_code(words[b"zkcert/pads"].shape[1] - 2 * triples(heard), triples(heard))
    shown = 16 * 5 * (1 << pads.block_bits) + 8 + 16 * pads.queries * (pads.rows + 3)
    assert again[3][:shown] == pad_proof[:shown] and again[3][shown:] != pad_proof[shown:]
    assert committed_vector(toy_layout(), other).tolist() != committed_vector(toy_layout(), toy_witness()).tolist()


def triples(heard):
    return heard.form.x.shape[1]


def test_explanations_use_free_randomness():
    """Two explanations of one proof by one witness differ in what no query saw."""
    a, b = (explanation(shown_proof()[0], toy_witness(1), seed) for seed in (1, 2))
    assert np.array_equal(a[b"zkcert/pads"], b[b"zkcert/pads"])
    assert not np.array_equal(a[b"zkcert/masks"], b[b"zkcert/masks"])
    assert not np.array_equal(a[b"zkcert/pad-rows"], b[b"zkcert/pad-rows"])


def test_a_false_witness_has_no_explanation():
    """The equations behind the messages hold for valid witnesses only: this is what the pad proof proves."""
    w = toy_witness(1)
    total = next(t for t in toy_layout().circuit.tensors if t.name == "total")
    Digits(w, total)[0, 0, 0] ^= 1
    with pytest.raises(AssertionError, match="the equations do not hold"):
        explanation(shown_proof()[0], w)


# ------------------------------------------------------------------------------------------------ the channel


def test_messages_on_a_small_tape_fit_any_values_that_satisfy_the_equations():
    """a b = c and a + 2 b = d: for other values there are pads with the same messages and the same collapsed form."""
    rng = np.random.default_rng(1)
    pads = Pads.draw(bytes(32), 2, 1)

    def conversation(a, b, pads):
        ch = ProverChannel(Transcript("small"), pads, strict=True)
        c, d = ch.send("sums", [a * b, a + 2 * b], 2)
        ((na, nb, ab),) = ch.send_pairs("pair", [(a, b)], 1)
        ch.assert_zero(ch.tape.linear([(F.ONE, ab), (F(-1), c)]), "product")
        ch.assert_zero(ch.tape.linear([(F.ONE, na), (F(2), nb), (F(-1), d)]), "sum")
        return ch

    a, b = random_fs(rng, 2)
    first = conversation(a, b, pads)
    messages = ff.f_list(ff.f_from_bytes(bytes(first.messages)))
    a2, b2 = random_fs(rng, 2)
    values = [a2 * b2, a2 + 2 * b2, a2, b2]
    s1, s2, x, y = (m - v for m, v in zip(messages, values, strict=True))
    one = lambda *v: f_array(v)  # noqa: E731
    other = Pads(one(s1, s2), one(x), one(y), one(x * y))
    second = conversation(a2, b2, other)
    assert second.messages == first.messages
    weights = random_fs(rng, 2)
    for ch, p in ((first, pads), (second, other)):
        form = ch.tape.collapse(weights)
        parts = zip((form.singles, form.x, form.y, form.z), (p.singles, p.x, p.y, p.z), strict=True)
        assert sum((ff.f_dot(u, v) for u, v in parts), form.const) == 0
    one_form, other_form = first.tape.collapse(weights), second.tape.collapse(weights)
    assert one_form.const == other_form.const and np.array_equal(one_form.singles, other_form.singles)


def test_each_pad_is_used_once():
    received = []
    single, pair = Tape.receive, Tape.receive_pair

    def receive(self, message):
        received.append(("s", self.singles))
        return single(self, message)

    def receive_pair(self, ma, mb):
        received.append(("xyz", self.triples))
        return pair(self, ma, mb)

    masked, drawn = [], []
    draw = Pads.draw
    write = ProverChannel._write

    def log(self, label, values):
        masked.extend((label, v) for v in values)
        write(self, label, values)

    def remember(*args):
        drawn.append(draw(*args))
        return drawn[-1]

    with (
        mock.patch.object(Tape, "receive", receive),
        mock.patch.object(Tape, "receive_pair", receive_pair),
        mock.patch.object(ProverChannel, "_write", log),
        mock.patch.object(Pads, "draw", remember),
    ):
        prove_toy()
    (pads,) = drawn
    singles = [i for kind, i in received if kind == "s"]
    pairs = [i for kind, i in received if kind == "xyz"]
    assert singles == list(range(pads.singles.shape[1]))
    assert pairs == list(range(pads.x.shape[1]))
    assert len(masked) == len(singles) + 2 * len(pairs) + 1  # the opened value alone is sent as it is
    assert [label for label, _ in masked].count("opened") == 1
    every = [v for part in (pads.singles, pads.x, pads.y, pads.z) for v in ff.f_list(part)]
    assert len(set(every)) == len(every)


def test_a_message_is_its_value_plus_its_pad():
    """The values behind the messages, recovered with the pads, are those the oracle gave."""
    values, channels = [], []
    init, send, send_pairs = ProverChannel.__init__, ProverChannel.send, ProverChannel.send_pairs

    def new_init(self, transcript, pads, *args):
        init(self, transcript, pads, *args)
        channels.append((self, pads))

    def new_send(self, label, given, count):
        values.extend(given)
        return send(self, label, given, count)

    def new_pairs(self, label, given, count):
        values.extend(v for pair in given for v in pair)
        return send_pairs(self, label, given, count)

    with (
        mock.patch.object(ProverChannel, "__init__", new_init),
        mock.patch.object(ProverChannel, "send", new_send),
        mock.patch.object(ProverChannel, "send_pairs", new_pairs),
    ):
        proof = prove_toy()
    messages = message_elements(proof)[:-1]
    assert len(messages) == len(values)
    differences = [m - v for m, v in zip(messages, values, strict=True)]
    ((_, pads),) = channels
    pools = [v for part in (pads.singles, pads.x, pads.y) for v in ff.f_list(part)]
    assert sorted(map(hash, differences)) == sorted(map(hash, pools))
    assert not set(messages) & {v for v in values if v != 0}


def message_elements(proof):
    """The field elements among the messages: all but the nonce of the range check's challenge."""
    data = sections(proof)[1]
    at = nonce_position()
    return ff.f_list(ff.f_from_bytes(data[:at] + data[at + 8 :]))


@cache
def nonce_position():
    out = []
    grind = VerifierChannel.grind

    def note(self, label, bits):
        out.append(self.messages.at)
        grind(self, label, bits)

    proof = toy_proof()
    with mock.patch.object(VerifierChannel, "grind", note):
        verify_toy(proof)
    (at,) = out
    return at


# ------------------------------------------------------------------------------------------------ fresh randomness


def test_two_proofs_of_one_statement_and_witness_share_nothing():
    first, second = sections(toy_proof()), sections(prove_toy())
    a, b = message_elements(toy_proof()), message_elements(join(second))
    assert len(a) == len(b) and not any(u == v for u, v in zip(a, b, strict=True))
    assert not set(a) & set(b)
    code = matrix_code(toy_layout().data_end)
    start = columns_at(code)
    rows = [ff.f_list(ff.f_from_bytes(s[2][40 : start - 8])) for s in (first, second)]  # tails, inner products
    assert not set(rows[0]) & set(rows[1])
    stop = start + 16 * code.queries * code.rows
    columns = [set(ff.f_list(ff.f_from_bytes(s[2][start:stop]))) for s in (first, second)]
    assert not columns[0] & columns[1]
    tests = [set(ff.f_list(ff.f_from_bytes(s[3][: 16 * 5 * 256]))) for s in (first, second)]
    assert not tests[0] & tests[1]
    assert first[0][:32] != second[0][:32] and first[0][32:] != second[0][32:]


def join(parts):
    return b"".join(len(p).to_bytes(8, "little") + p for p in parts)


def test_every_attempt_draws_one_secret_and_nothing_else_is_random():
    tokens = iter([bytes([1]) * 32, bytes([2]) * 32, bytes([1]) * 32])
    asked = []

    def token_bytes(count):
        asked.append(count)
        return next(tokens)

    with mock.patch("prover.checkpoint.secrets.token_bytes", token_bytes):
        proofs = [prove_toy() for _ in range(3)]
    assert asked == [32, 32, 32]
    assert proofs[0] == proofs[2] != proofs[1]


def test_dependent_masks_mean_another_attempt_with_another_secret():
    opened, secrets = MatrixCommitment.open, []
    init = MatrixCommitment.__init__

    def remember(self, x, code, secret, *args):
        secrets.append(secret)
        init(self, x, code, secret, *args)

    def unlucky(self, t, z):
        if len(secrets) < 3:
            raise UnluckyMasks
        return opened(self, t, z)

    with (
        mock.patch.object(MatrixCommitment, "__init__", remember),
        mock.patch.object(MatrixCommitment, "open", unlucky),
    ):
        verify_toy(prove_toy())
    assert len(set(secrets)) == 3


def test_masks_pads_and_pad_rows_come_from_separate_streams():
    seeds = []

    def note(seed, count):
        seeds.append(seed)
        return xof_field(seed, count)

    with (
        mock.patch("prover.commit.xof_field", note),
        mock.patch("prover.pads.xof_field", note),
        mock.patch("prover.channel.xof_field", note),
    ):
        prove_toy()
    assert {s[:-32] for s in seeds} == {b"zkcert/masks", b"zkcert/pads", b"zkcert/pad-rows"}
    assert len(seeds) == 3 and len({s[-32:] for s in seeds}) == 1


# ------------------------------------------------------------------------------------------------ the matrix


def revealed_map(code, weights, points):
    """The linear map from masks and tails to combined rows and opened columns, as (2, revealed, random)."""
    masks, tails = MASK_ROWS * code.width, code.rows * code.tail
    out = np.zeros((2, 3 * code.length + len(points) * code.rows, masks + tails), np.uint64)
    powers = vandermonde(points, 0, code.length)

    def put(row, position, column):
        """A random coefficient of one row: into the three combined rows, and into that row of every column."""
        for k in range(3):
            out[:, k * code.length + position, column] = weights[:, k, row]
        for i in range(len(points)):
            out[:, 3 * code.length + i * code.rows + row, column] = powers[:, i, position]

    for r in range(MASK_ROWS):
        for c in range(code.width):
            put(code.mask_row + r, c, r * code.width + c)
    for r in range(code.rows):
        for c in range(code.tail):
            put(r, code.width + c, masks + r * code.tail + c)
    return out


SMALL = MatrixCode(row_bits=2, data_rows=3, log_n=6, queries=3)


def small_weights(seed=0):
    rng = np.random.default_rng(seed)
    return combination_weights(Transcript("masks"), SMALL, random_fs(rng, SMALL.variables)), rng


def small_points():
    w = ff.root_of_unity(SMALL.log_n)
    return [w**q for q in (3, 17, 50)]


def test_combined_rows_and_columns_are_uniform_whatever_the_data():
    """The random part reaches every combination that is consistent: all rows, all columns, less the agreement of
    both at the queries. So the revealed data have one distribution for all X."""
    weights, _ = small_weights()
    m = revealed_map(SMALL, weights, small_points())
    t = SMALL.queries
    assert mask_rank(m) == 3 * SMALL.length + t * SMALL.rows - 3 * t


def test_an_unopened_column_stays_unpredictable():
    """Even given the data, the rows and the opened columns: its digest confirms no guess."""
    weights, _ = small_weights()
    w = ff.root_of_unity(SMALL.log_n)
    known = mask_rank(revealed_map(SMALL, weights, small_points()))
    more = mask_rank(revealed_map(SMALL, weights, [*small_points(), w**5]))
    assert more - known == SMALL.rows - 3


@pytest.mark.parametrize("kept", [0, 1, 2, 3, 4])
def test_fewer_than_three_masking_rows_leak(kept):
    """With `kept` random rows: is there a combination of the three combined rows that shows data alone?"""
    weights, _ = small_weights()
    masks = np.ascontiguousarray(weights[:, :, SMALL.mask_row : SMALL.mask_row + kept])
    rank = mask_rank(masks) if kept else 0
    assert (rank == 3) == (kept >= 3)


def test_one_masking_row_shows_data_and_four_do_not():
    """The trap: conj(L) v1 - L v2, with L the masking row's weight, does not depend on the mask."""
    weights, rng = small_weights(5)
    data = np.zeros((2, SMALL.mask_row, SMALL.width), np.uint64)
    data[:, :3] = rng.integers(0, 1 << 22, (2, 3, SMALL.width), np.uint64)

    def combined(data, masks):
        every = np.concatenate([data, masks], axis=1)
        return product(weights[:, :, : every.shape[1]], every)

    def attack(rows):
        own = ff.f_item(weights, (1, SMALL.mask_row))
        v1, v2 = np.ascontiguousarray(rows[:, 1]), np.ascontiguousarray(rows[:, 2])
        return ff.f_sub(ff.f_mul_scalar(v1, own.conj()), ff.f_mul_scalar(v2, own))

    one = [attack(combined(data, random_f_array(rng, 1, SMALL.width))) for _ in range(2)]
    assert np.array_equal(*one)
    changed = data.copy()
    changed[0, 0, 0] += np.uint64(1)
    assert not np.array_equal(one[0], attack(combined(changed, random_f_array(rng, 1, SMALL.width))))
    four = [attack(combined(data, random_f_array(rng, MASK_ROWS, SMALL.width))) for _ in range(2)]
    assert not np.array_equal(*four)


def test_the_prover_checks_the_rank_of_its_masks():
    x = np.arange(20, dtype=np.int32)
    rng = np.random.default_rng(0)
    z = random_fs(rng, SMALL.variables)
    with light_grinding():
        MatrixCommitment(x, SMALL, bytes(32)).open(Transcript("open"), z)
        # at a real point both rows of weights agree
        with pytest.raises(UnluckyMasks):
            MatrixCommitment(x, SMALL, bytes(32)).open(Transcript("open"), [F(v.re) for v in z])
        # at a point where the block has weight zero nothing is masked
        with pytest.raises(UnluckyMasks):
            MatrixCommitment(x, SMALL, bytes(32)).open(Transcript("open"), [F.ZERO, *z[1:]])


def test_masks_lie_in_a_block_of_their_own_inside_the_index_space():
    for entries in (1, 31, 5000, 4_300_000):
        code = matrix_code(entries)
        assert code.mask_row % MASK_ROWS == 0 and code.rows - code.mask_row == MASK_ROWS
        assert code.tail == code.queries + SPARE_TAIL


def test_small_matrix_is_explained_by_other_data():
    weights, rng = small_weights(2)
    points = small_points()

    def show(heads, tails):
        coefficients = np.concatenate([heads, tails], axis=2)
        columns = product(vandermonde(points, 0, SMALL.length), coefficients.transpose(0, 2, 1))
        return product(weights, coefficients), columns

    def heads_of(x, masks):
        top = ff.fp_from_int(x.reshape(SMALL.mask_row, SMALL.width, 2))
        return np.concatenate([np.moveaxis(top, 2, 0), masks], axis=1)

    size = 2 * SMALL.mask_row * SMALL.width
    x, other = (rng.integers(-(1 << 21), 1 << 21, size) for _ in range(2))
    rows, columns = show(
        heads_of(x, random_f_array(rng, MASK_ROWS, SMALL.width)), random_f_array(rng, SMALL.rows, SMALL.tail)
    )
    masks, tails = explain_matrix(SMALL, other, weights, rows, points, columns, rng)
    again = show(heads_of(other, masks), tails)
    assert np.array_equal(again[0], rows) and np.array_equal(again[1], columns)


# ------------------------------------------------------------------------------------------------ the pad proof


def test_opened_pad_columns_are_uniform_whatever_the_pads():
    """The random evaluations of a row map onto its values at the queries, and some remain: see also test_findings."""
    code = pad_code(60, 20)
    rng = np.random.default_rng(3)
    queries = sorted(rng.choice(1 << code.log_n, code.queries, replace=False).tolist())
    _, values = lagrange(code, queries)
    t = code.queries
    identity = product(
        np.ascontiguousarray(values[:, :, :t]),
        solve(np.ascontiguousarray(values[:, :, :t]), ff.f_from_fp(np.eye(t, dtype=np.uint64))),
    )
    assert np.array_equal(identity, ff.f_from_fp(np.eye(t, dtype=np.uint64)))
    assert values.shape[2] - t == SPARE_TAIL


def test_codeword_positions_hold_no_pad():
    """The coset and the subgroup of the pads are disjoint: no query reads a pad itself."""
    code = pad_code(60, 20)
    order = 1 << code.block_bits
    for x in padcode.query_points(code, list(range(0, 1 << code.log_n, 97))):
        assert x**order != 1 and x ** (2 * order) != 1


# ------------------------------------------------------------------------------------------------ what is never sent


@pytest.mark.parametrize("bits", [26, 8])
def test_root_fractions_of_the_range_trees_are_never_sent(bits, monkeypatch):
    """Neither they nor their partial sums, with one tree of digits and with several."""
    monkeypatch.setattr(lookups, "TREE_BITS", bits)
    seen = []

    def noting(original):
        def tree(self, *args):
            out = original(self, *args)
            seen.append(out.root())
            return out

        return tree

    with (
        mock.patch.object(ProverOracle, "digit_tree", noting(ProverOracle.digit_tree)),
        mock.patch.object(ProverOracle, "table_tree", noting(ProverOracle.table_tree)),
    ):
        proof = prove_toy()
    assert len(seen) == len(lookups.digit_trees(toy_layout())) + 1
    secret, (p, q) = set(), seen[0]
    for top, bottom in seen[1:]:
        secret |= {p, q, top, bottom, p / q, top / bottom, p * bottom, top * q, q * bottom}
        p, q = p * bottom + top * q, q * bottom
    assert p == 0
    secret = {v for v in (*secret, *(v.inv() for v in secret if v)) if v}
    encoded = {v.to_bytes() for v in secret}
    assert not set(message_elements(proof)) & secret
    for other in (sections(proof)[2][8:], sections(proof)[3]):
        for start in range(0, len(other) - 15, 8):
            assert other[start : start + 16] not in encoded


def test_lengths_do_not_depend_on_the_witness():
    """Only Merkle proofs vary in length, with the queries."""
    first = [len(s) for s in sections(toy_proof())]
    for seed in (1, 2):
        lengths = [len(s) for s in sections(prove_toy(toy_witness(seed)))]
        assert lengths[:2] == first[:2]
        assert all((a - b) % 32 == 0 for a, b in zip(lengths[2:], first[2:], strict=True))


def test_a_header_holds_what_the_specification_lists_and_nothing_else():
    c = certified()
    header = json.loads(ProofFile.parse(c.proved.data).header)
    assert set(header) == {
        "beacon", "circuit", "config", "dataset", "format", "tau", "variance", "weights"
    }  # fmt: skip
    assert set(header["config"]) == {"batch_size", "ddof", "eps", "lr", "rho", "steps", "variant"}
    assert set(header["dataset"]) == {"N", "root", "schema"}
    assert set(header["dataset"]["schema"]) == {"classes", "kind", "label_bytes", "shape"}
    assert header["variance"] is None


def test_what_surrounds_the_argument_follows_from_public_data():
    """Header, hashes and multiproof can be written by somebody who has the published tree and no sample."""
    c, file = certified(), ProofFile.parse(certified().proved.data)
    assert file.header == c.statement.header()
    indices = c.statement.indices()
    assert np.array_equal(file.hashes, c.dataset.sample_hashes(indices))
    assert file.multiproof == c.dataset.multiproof(indices)
    raw = c.proved.data
    samples, rho = c.dataset.sample_bytes(indices), c.dataset.rho(indices)
    for i in range(len(indices)):
        assert samples[i].tobytes() not in raw
        assert rho[i].tobytes()[:16] not in raw


def test_the_score_appears_only_where_it_is_revealed():
    private, public = certified(), certified(reveal_score=True)
    variance = str(public.proved.trace.variance).encode()
    assert private.proved.trace.variance == public.proved.trace.variance
    assert variance in ProofFile.parse(public.proved.data).header
    assert variance not in private.proved.data
