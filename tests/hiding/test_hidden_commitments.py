"""What the matrix and the pad proof show, and what is never sent."""

from __future__ import annotations

import json
from unittest import mock

import numpy as np
import pytest

from circuits.argument import lookups
from prover.commit import MatrixCommitment, UnluckyMasks, mask_rank
from prover.oracle import ProverOracle
from tests.hiding.views import (
    explain_matrix,
    lagrange,
    message_elements,
    product,
    sections,
    solve,
    vandermonde,
)
from tests.toys import (
    certified,
    light_grinding,
    prove_toy,
    random_f_array,
    random_fs,
    toy_layout,
    toy_proof,
    toy_witness,
)
from zkcert.core import field as ff
from zkcert.core import padcode
from zkcert.core.code import MASK_ROWS, SPARE_TAIL, MatrixCode, matrix_code, pad_code, plain_code
from zkcert.core.container import ProofFile
from zkcert.core.field import F
from zkcert.core.opening import combination_weights
from zkcert.core.transcript import Transcript


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


SMALL = MatrixCode(row_bits=2, data_rows=(3,), log_n=6, queries=3, below=plain_code(3, 2, 128))


def committed(x):
    matrix = MatrixCommitment(SMALL)
    matrix.commit(x, bytes(32))
    return matrix


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
        committed(x).open(Transcript("open"), z)
        # at a real point both rows of weights agree
        with pytest.raises(UnluckyMasks):
            committed(x).open(Transcript("open"), [F(v.re) for v in z])
        # at a point where the block has weight zero nothing is masked
        with pytest.raises(UnluckyMasks):
            committed(x).open(Transcript("open"), [F.ZERO, *z[1:]])


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
