"""The matrix opening, the pad proof, whole arguments."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from circuits.argument.channel import Channel, PadForm, Tape
from circuits.argument.claims import Oracle
from circuits.argument.protocol import message_counts, run
from circuits.language.constraints import Circuit, product
from circuits.language.forms import View
from circuits.language.layout import Layout
from circuits.language.sources import ONCE, Axis
from circuits.language.tensors import Digit, Range, unsigned
from prover.argument import prove_circuit
from prover.channel import Pads, ProverChannel
from prover.commit import MatrixCommitment, claim_table, inner_product
from prover.execution.witness import Witness
from prover.pads import PadCommitment
from tests.soundness.oracles import (
    total,
)
from tests.toys import (
    light_grinding,
    multilinear,
    prove_toy,
    random_f_array,
    random_fs,
    toy_layout,
    toy_proof,
    toy_transcript,
    toy_witness,
    verify_toy,
)
from verifier.argument import verify_circuit
from verifier.opening import verify_opening
from verifier.pads import verify_pads
from zkcert.core import code as codes
from zkcert.core import field as ff
from zkcert.core import opening as opening_names
from zkcert.core.code import MatrixCode, PlainCode, matrix_code, pad_code, plain_code, queries_for
from zkcert.core.field import F
from zkcert.core.opening import Claims, packed_value, query_points, tail_values, value_claims, vector_claim
from zkcert.core.proof import Reader
from zkcert.core.transcript import Transcript
from zkcert.errors import ProofRejected


def chain(blocks, row_bits, *levels):
    """Plain levels of (row_bits, queries), the first one of `blocks` rows of 2^row_bits, at a rate of 1/8."""
    if not levels:
        return None
    (bits, queries), *rest = levels
    return PlainCode(bits, blocks << row_bits - bits, bits + 3, queries, chain(2, bits, *rest))


def small_code(*data_rows, row_bits=3, queries=4, levels=((1, 3),)):
    return MatrixCode(row_bits, data_rows, row_bits + 2, queries, chain(3, row_bits, *levels))


def commit_to(code, *entries, secret=bytes(32)):
    """A matrix of random entries, so many in each part."""
    rng, matrix = np.random.default_rng(entries), MatrixCommitment(code)
    for count in entries:
        matrix.commit(rng.integers(-(1 << 21), 1 << 22, count).astype(np.int32), secret)
    return matrix


def opened(matrix, code):
    """A point, the value there and what opens it."""
    z = random_fs(np.random.default_rng(code.rows), code.variables)
    return z, multilinear(whole_vector(matrix), z), matrix.open(Transcript("open"), z)


def check(code, matrix, z, value, opening, roots=None):
    verify_opening(Reader(opening), Transcript("open"), code, roots or [p.root for p in matrix.parts], z, value)


def whole_vector(matrix):
    """X with its masking rows, as integers and residues."""
    code = matrix.code
    full = np.zeros((code.rows, code.width, 2), object)
    for part, start in zip(matrix.parts, code.starts, strict=True):
        full[start:].reshape(-1)[: len(part.x)] = part.x.tolist()
    full[code.mask_row :] = np.moveaxis(matrix.masks, 0, -1).astype(object)
    return [F(int(v)) for v in full.ravel()]


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 7, 9, 60, 61, 63, 65])
def test_matrix_opening_is_complete_for_every_number_of_rows(rows):
    code = small_code(rows)
    matrix = commit_to(code, 2 * code.width * rows - 3)
    z, value, opening = opened(matrix, code)
    check(code, matrix, z, value, opening)
    with pytest.raises(ProofRejected, match="opening/value"):
        check(code, matrix, z, value + 1, opening)


@pytest.mark.parametrize(("row_bits", "levels"), [(0, ((0, 2),)), (1, ((0, 2),)), (5, ((2, 3),)), (3, ((3, 4),))])
def test_matrix_opening_is_complete_for_every_row_length(row_bits, levels):
    code = small_code(3, row_bits=row_bits, levels=levels)
    matrix = commit_to(code, 6 << row_bits)
    check(code, matrix, *opened(matrix, code))


@pytest.mark.parametrize("levels", [((4, 3), (2, 2)), ((5, 3), (3, 2), (1, 2)), ((4, 3), (3, 3), (2, 2), (0, 2))])
@pytest.mark.parametrize("rows", [(5,), (3, 1), (9, 4, 17)])
def test_an_opening_of_several_levels_and_parts_is_complete(rows, levels):
    code = small_code(*rows, row_bits=5, levels=levels)
    matrix = commit_to(code, *(2 * code.width * count - 5 for count in rows))
    assert len(code.levels) == len(levels)
    assert code.starts[-1] + code.parts[-1] == code.rows == code.mask_row + codes.MASK_ROWS
    z, value, opening = opened(matrix, code)
    check(code, matrix, z, value, opening)
    with pytest.raises(ProofRejected, match="opening/value"):
        check(code, matrix, z, value + 1, opening)


def test_another_root_or_point_is_refused():
    code = small_code(5)
    matrix = commit_to(code, 70)
    z, value, opening = opened(matrix, code)
    with pytest.raises(ProofRejected, match="opening/merkle/1"):
        check(code, matrix, z, value, opening, [bytes(32)])
    with pytest.raises(ProofRejected, match="opening/"):
        check(code, matrix, [z[0] + 1, *z[1:]], value, opening)


def test_each_part_stands_under_its_own_root():
    """Also of parts with equally many rows."""
    code = small_code(4, 1, 4, row_bits=2)
    matrix = commit_to(code, 32, 1, 32)
    z, value, opening = opened(matrix, code)
    first, second, last = (part.root for part in matrix.parts)
    for roots in ([second, first, last], [first, first, last], [first, bytes(32), last], [first, second, first]):
        with pytest.raises(ProofRejected, match="opening/merkle/1"):
            check(code, matrix, z, value, opening, roots)
    names = [opening_names.part_tree(i) for i in range(3)]
    assert len({*names, *(opening_names.level_tree(i) for i in range(2, 9))}) == 10


def test_parts_have_streams_of_their_own():
    """Even if their secrets are equal no two rows have the same tail."""
    code = small_code(3, 3)
    first, last = commit_to(code, 40, 40).parts
    assert first.masks.size == 0 and last.masks.shape == (2, codes.MASK_ROWS, code.width)
    tails = [*first.tails.transpose(1, 0, 2).reshape(first.rows, -1), *last.tails.transpose(1, 0, 2).reshape(8, -1)]
    assert len({t.tobytes() for t in tails}) == first.rows + last.rows


def test_packed_value_is_the_extension_of_both_halves():
    rng, code = np.random.default_rng(8), small_code(6)
    packed = random_f_array(rng, code.rows, code.width)
    z = random_fs(rng, code.variables)
    row = ff.eq_table(z[: code.row_variables])[:, : code.rows]
    combine = lambda w: np.ascontiguousarray(ff.f_sum(ff.f_mul(packed, w[:, :, None]), axis=1))  # noqa: E731
    eq = ff.eq_table(z[code.row_variables : -1])
    inner = ff.f_dot(combine(row), eq), ff.f_dot(combine(ff.f_conj(row)), ff.f_conj(eq))
    real_and_imaginary = np.moveaxis(packed, 0, -1).ravel()
    want = multilinear([F(int(v)) for v in real_and_imaginary], z)
    assert packed_value(inner, z[-1]) == want


def test_query_points_are_the_roots_in_bit_reversed_order():
    for log_n in (0, 1, 3, 7):
        w = ff.root_of_unity(log_n)
        got = ff.f_list(query_points(log_n, range(1 << log_n)))
        assert got == [w ** int(f"{j:0{log_n}b}"[::-1], 2) for j in range(1 << log_n)]
    rng = np.random.default_rng(6)
    points = random_fs(rng, 3)
    for count in (1, 2, 5, 8):
        table = ff.f_powers(ff.f_array(points), count)
        assert [ff.f_list(table[:, i]) for i in range(3)] == [[x**c for c in range(count)] for x in points]


@pytest.mark.parametrize("row_bits", [0, 1, 4])
def test_claims_on_the_combined_rows(row_bits):
    """Total, table and extension of the combined weights against the definitions, scalar by scalar."""
    rng, code = np.random.default_rng(row_bits), small_code(6, row_bits=row_bits, queries=2, levels=((0, 2),))
    z = random_fs(rng, code.variables)
    col = z[code.row_variables : -1]
    rows = random_f_array(rng, 3, code.length)
    points = query_points(code.log_n, [1, 5][: code.queries])
    v, xs = [ff.f_list(rows[:, i]) for i in range(3)], ff.f_list(points)
    values = [[sum((c * x**k for k, c in enumerate(row)), F.ZERO) for x in xs] for row in v]
    tails = tail_values(code, np.ascontiguousarray(rows[:, :, code.width :]), points)
    heads = ff.f_sub(np.stack([ff.f_array(row) for row in values], axis=1), tails)
    eq = ff.eq_table(col)
    inner = tuple(ff.f_dot(np.ascontiguousarray(rows[:, i, : code.width]), e) for i, e in ((1, eq), (2, ff.f_conj(eq))))
    claims = Claims.draw(Transcript("claims"), 2, code, points, value_claims(code, z, inner))
    assert [inner_product(rows[:, c.row, : code.width].copy(), c) for c in claims.inner] == list(inner)
    check_claims(rng, claims, rows[:, :, : code.width], heads, [[], [(0, eq)], [(1, ff.f_conj(eq))]], code.below.rounds)


@pytest.mark.parametrize("row_bits", [0, 1, 4])
def test_claims_of_a_level_below(row_bits):
    rng, code = np.random.default_rng(row_bits), PlainCode(row_bits, 6, row_bits + 3, 2)
    s, factor = random_fs(rng, row_bits + 3), random_fs(rng, 1)[0]
    rows, points = random_f_array(rng, 2, code.width), query_points(code.log_n, [1, 5])
    basis = ff.f_powers(points, code.width)
    heads = np.stack([ff.f_matvec(basis, np.ascontiguousarray(rows[:, i])) for i in range(2)], axis=1)
    eq = ff.f_mul_scalar(ff.eq_table(s[3:]), factor)
    claim = vector_claim(code, s, factor, ff.f_dot(np.ascontiguousarray(rows[:, 1]), eq))
    claims = Claims.draw(Transcript("claims"), 3, code, points, (claim,))
    check_claims(rng, claims, rows, heads, [[], [(0, eq)]], row_bits + 1)


def check_claims(rng, claims, rows, heads, inner, rounds):
    """inner: for each row the weights of claims on it, and vectors."""
    width, xs = rows.shape[2], ff.f_list(claims.points)
    table = claim_table(claims, width.bit_length() - 1)
    assert ff.f_dot(np.ascontiguousarray(rows).reshape(2, -1), table.reshape(2, -1)) == claims.total(heads)
    for i in range(rows.shape[1]):
        for c in range(width):
            want = claims.rows[i] * total(b * x**c for b, x in zip(ff.f_list(claims.columns), xs, strict=True))
            want += total(claims.weights[which] * ff.f_item(vector, c) for which, vector in inner[i])
            assert ff.f_item(table, (i, c)) == want
    s = random_fs(rng, rounds)
    assert claims.weight_at(s, width.bit_length() - 1) == multilinear(ff.f_list(table.reshape(2, -1)), s)


def levels_fit(above, blocks):
    """Each level holds the combined rows of the one above, and has as many queries as its rate needs."""
    for code in above.levels:
        assert code.width * code.data_rows == blocks * above.width
        assert code.rows % 4 == 0 and code.data_rows <= code.rows <= 1 << code.rounds - code.row_bits
        assert 1 << code.rounds - above.row_bits >= blocks
        assert code.queries == queries_for(code.rate) and 2 * code.queries <= 1 << code.log_n
        above, blocks = code, codes.PLAIN_ROWS


@pytest.mark.parametrize("later", [(), (1,), (7_000_000,), (1, 50_000_000)])
def test_matrix_code_fits_its_entries_and_meets_its_own_query_count(later):
    for entries in (1, 100, 4_200_000, 5_000_000, 60_000_000, 10**9, 11 * 10**9):
        code = matrix_code(entries, *later)
        for count, rows, padded in zip((entries, *later), code.data_rows, code.parts, strict=True):
            assert 2 * code.width * (rows - 1) < count <= 2 * code.width * rows and padded % 4 == 0 and padded >= rows
        assert code.mask_row % codes.MASK_ROWS == 0 and code.mask_row >= code.starts[-1] + code.data_rows[-1]
        assert code.rows <= 1 << code.row_variables
        assert code.rate < 1 and code.tail <= codes.MAX_TAIL and code.row_bits <= codes.MAX_ROW_BITS
        assert code.queries >= queries_for(code.rate)
        assert code.tail >= code.queries + codes.SPARE_TAIL
        levels_fit(code, codes.COMBINED_ROWS)


def test_parts_without_entries_are_refused():
    for entries in ((), (0,), (5, 0)):
        with pytest.raises(ValueError, match="entries"):
            matrix_code(*entries)


def test_large_matrices_are_opened_by_several_levels():
    """And by no level that costs more than it saves."""
    for entries, levels in ((24_000_000, 3), (1_600_000_000, 4)):
        assert len(matrix_code(entries).levels) >= levels
    for row_bits in range(codes.MAX_ROW_BITS + 1):
        best = plain_code(codes.COMBINED_ROWS, row_bits, codes.LEAST_PRICE)
        while best.below is not None:
            shorter = replace(best, below=None)
            assert best.cost(codes.LEAST_PRICE) <= shorter.cost(codes.LEAST_PRICE)
            assert best.cost(0) < shorter.cost(0)
            best = best.below


def affine_form(pads, rng, wrong=0):
    parts = [random_f_array(rng, v.shape[1]) for v in (pads.singles, pads.x, pads.y, pads.z)]
    value = total(ff.f_dot(c, v) for c, v in zip(parts, (pads.singles, pads.x, pads.y, pads.z), strict=True))
    return PadForm(tuple(parts), wrong - value)


def pad_proof(pads, form, secret=bytes(32)):
    commitment = PadCommitment(pads, secret)
    return commitment, commitment.prove(Transcript("pads"), form)


def check_pads(commitment, proof, form, counts):
    code = pad_code(*counts)
    assert code == commitment.code
    verify_pads(Reader(proof), Transcript("pads"), code, commitment.root, form)


MESSAGE = pad_code(1, 0).message


@pytest.mark.parametrize(
    ("singles", "triples"),
    [(1, 0), (1, 1), (MESSAGE, 0), (MESSAGE + 1, 1), (5, MESSAGE), (0, MESSAGE + 1), (0, 2), (700, 40)],
)
def test_pad_proof_is_complete_at_the_edges_of_its_blocks(singles, triples):
    pads = Pads.draw(b"s" * 32, singles, triples)
    form = affine_form(pads, np.random.default_rng(singles))
    check_pads(*pad_proof(pads, form), form, (singles, triples))


def test_pad_proof_refuses_a_false_equation_and_a_false_triple():
    pads = Pads.draw(b"s" * 32, 9, 4)
    form = affine_form(pads, np.random.default_rng(1), wrong=1)
    commitment, proof = pad_proof(pads, form)
    with pytest.raises(ProofRejected, match="hidden-equations"):
        check_pads(commitment, proof, form, (9, 4))

    z = pads.z.copy()
    z[0, 2] ^= np.uint64(1)
    lying = replace(pads, z=z)
    form = affine_form(lying, np.random.default_rng(1))
    commitment, proof = pad_proof(lying, form)
    with pytest.raises(ProofRejected, match="pads/products"):
        check_pads(commitment, proof, form, (9, 4))


def test_collapsed_equations_are_their_random_combination():
    rng = np.random.default_rng(6)
    tape = Tape()
    nodes = [tape.receive(m) for m in random_fs(rng, 4)]
    for a, b in zip(random_fs(rng, 3), random_fs(rng, 3), strict=True):
        nodes += tape.receive_pair(a, b)
    nodes.append(tape.known(F(5)))
    for _ in range(6):
        chosen = rng.choice(len(nodes), 3)
        coefs = random_fs(rng, 3)
        nodes.append(tape.linear([(c, nodes[i]) for c, i in zip(coefs, chosen, strict=True)], random_fs(rng, 1)[0]))
    for i in (0, 5, 9, len(nodes) - 1, len(nodes) - 2):
        tape.assert_zero(nodes[i], f"equation {i}")
    pads = Pads.draw(b"t" * 32, tape.singles, tape.triples)
    ch = ProverChannel(Transcript("unit"), pads)
    ch.tape = tape
    weights = random_fs(rng, 5)
    want = total(w * ch.value(n) for w, (n, _) in zip(weights, tape.equations, strict=True))
    form = tape.collapse(weights)
    got = form.const + total(
        ff.f_dot(c, v) for c, v in zip(form.parts, (pads.singles, pads.x, pads.y, pads.z), strict=True)
    )
    assert got == want


def test_pad_code_keeps_a_random_evaluation_for_every_query():
    for singles, triples in ((1, 0), (300, 60), (20_000, 400), (10**6, 10**5)):
        code = pad_code(singles, triples)
        assert (1 << code.block_bits) - code.message >= code.queries
        assert code.single_rows * code.message >= singles and code.triple_rows * code.message >= triples
        assert code.queries * -np.log2((1 + 2 / 16) / 2) >= codes.QUERY_BITS


def test_toy_argument_is_complete_for_several_witnesses():
    for seed in range(4):
        verify_toy(prove_toy(toy_witness(seed), strict=True))


def test_toy_argument_is_complete_with_all_its_grinding():
    proof = prove_circuit(toy_layout(), toy_witness(), toy_transcript())
    verify_circuit(toy_layout(), toy_transcript(), proof)


def test_message_counts_are_those_of_the_conversation():
    layout = toy_layout()
    reader = Reader(toy_proof())
    transcript = toy_transcript()
    roots = reader.section(96)
    transcript.absorb("roots", roots[:64])
    transcript.absorb("late-root", roots[64:])
    messages = Reader(reader.section(1 << 28))
    ch = Channel(transcript, messages)
    n = layout.code.variables
    with light_grinding():
        assert len(run(ch, Oracle(), layout, n)) == n
    messages.end()
    assert message_counts(layout, n) == (ch.tape.singles, ch.tape.triples)
    assert len(messages.data) == 16 * (ch.tape.singles + 2 * ch.tape.triples + 1) + 8


def test_an_axis_of_one_and_products_without_a_sum_are_proved():
    c = Circuit()
    axis = Axis("i", 1)
    a, b = (c.tensor(n, 1, (1,), (Digit(unsigned(3)),)) for n in "ab")
    y = c.tensor("y", 1, (1,), (Digit(Range(64)),))
    on = lambda t: View(t, (ONCE, Axis("i", 1))).whole()  # noqa: E731
    c.constraint("product", (axis,)).add("y", product(on(a), on(b)) - on(y))
    layout = Layout(c)
    w = Witness(layout)
    for t, v in ((a, 3), (b, 7), (y, 21)):
        w.put(t, np.array([[v]]))
    with light_grinding():
        proof = prove_circuit(layout, w, Transcript("one"), strict=True)
        verify_circuit(layout, Transcript("one"), proof)
