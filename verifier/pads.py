"""Checks the pad proof, all hidden equations at once, test by test (docs/spec/commitment.md, "Pad proof")."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from circuits.argument.channel import PadForm
from zkcert.core import field as ff
from zkcert.core.code import PAD_TESTS, PadCode
from zkcert.core.field import U64
from zkcert.core.merkle import DIGEST_BYTES, verify_multiproof
from zkcert.core.padcode import PAD_GRIND, TREE_NAME, interpolate, message_rows, pad_leaf, query_points
from zkcert.core.proof import Reader
from zkcert.core.transcript import Transcript
from zkcert.errors import ProofRejected


def verify_pads(reader: Reader, transcript: Transcript, code: PadCode, root: bytes, form: PadForm) -> None:
    """Raises ProofRejected unless the committed pads satisfy `form` and every triple has z = x y."""
    proximity = transcript.challenge_array("pads/proximity", code.rows)
    products = transcript.challenge_array("pads/products", code.triple_rows)
    tests = Tests.read(reader, transcript, code)
    check_sum(tests, code, form)
    check_vanishing(tests, code)
    reader.check_work(transcript, PAD_GRIND, "pads/nonce")
    queries = transcript.distinct_indices("pads/queries", code.queries, code.log_n)
    columns = read_columns(reader, code, root, queries)
    rows, blinds = np.ascontiguousarray(columns[:, :, : code.rows]), columns[:, :, code.rows :]
    points = ff.f_powers(ff.f_array(query_points(code, queries)), 2 << code.block_bits)  # (2, t, 2 |H|)
    check_proximity(tests, rows, blinds[:, :, 0], points, proximity)
    check_linear(tests, rows, blinds[:, :, 1], points, interpolate(code, message_rows(code, *form.parts)))
    check_products(tests, rows, blinds[:, :, 2], points, products, code)


@dataclass(frozen=True)
class Tests:
    """The three polynomials that are sent, by their coefficients: (2, |H|), (2, 2 |H|), (2, 2 |H|)."""

    proximity: U64
    linear: U64
    product: U64

    @staticmethod
    def read(reader: Reader, transcript: Transcript, code: PadCode) -> Tests:
        start, block = reader.at, 1 << code.block_bits
        tests = Tests(*(reader.field_array(size) for size in (block, 2 * block, 2 * block)))
        transcript.absorb("pads/tests", reader.since(start))
        return tests


def read_columns(reader: Reader, code: PadCode, root: bytes, queries: list[int]) -> U64:
    """The codewords' columns (2, t, rows + 3) at the queries: leaves of the tree with this root. Ends the proof."""
    columns = reader.field_array(code.queries, code.rows + PAD_TESTS)
    leaves = b"".join(pad_leaf(q, columns[:, i]) for i, q in enumerate(queries))
    digests = np.frombuffer(leaves, np.uint8).reshape(-1, DIGEST_BYTES)
    proof = reader.take(len(reader.data) - reader.at)
    if not verify_multiproof(root, 1 << code.log_n, queries, digests, proof, TREE_NAME):
        raise ProofRejected("pads/merkle", root=root, queries=queries)
    return columns


# ---------------------------------------------------------------------------------------------- the tests


def check_sum(tests: Tests, code: PadCode, form: PadForm) -> None:
    """sum over H of q_linear = |H| (c_0 + c_|H|) = -const: the collapsed equation <A, pads> = -const."""
    block = 1 << code.block_bits
    total = (ff.f_item(tests.linear, 0) + ff.f_item(tests.linear, block)) * block
    if total + form.const != 0:
        text = "a value behind the messages does not satisfy its equation"
        raise ProofRejected("hidden-equations", text, total=total, const=form.const)


def check_vanishing(tests: Tests, code: PadCode) -> None:
    """q_product = 0 at the message positions of H, the even half of the subgroup of order 2 |H|: every z = x y."""
    values = ff.f_fft(tests.product, code.block_bits + 1)[:, 0 : 2 * code.message : 2]
    if np.any(values):
        raise ProofRejected("pads/products", values=values)


def check_proximity(tests: Tests, rows: U64, blind: U64, points: U64, weights: U64) -> None:
    """blind + sum_i weights_i row_i = q_proximity at every query."""
    require_equal(ff.f_add(blind, ff.f_matvec(rows, weights)), tests.proximity, points, "pads/proximity")


def check_linear(tests: Tests, rows: U64, blind: U64, points: U64, form: U64) -> None:
    """blind + sum_i A_i row_i = q_linear at every query; form: the coefficients (2, rows, |H|) of the A_i."""
    low = np.ascontiguousarray(points[:, :, : form.shape[2]])
    weights = [ff.f_matvec(low, np.ascontiguousarray(form[:, i])) for i in range(form.shape[1])]
    combined = ff.f_sum(ff.f_mul(rows, np.stack(weights, axis=2)))
    require_equal(ff.f_add(blind, combined), tests.linear, points, "pads/linear")


def check_products(tests: Tests, rows: U64, blind: U64, points: U64, weights: U64, code: PadCode) -> None:
    """blind + sum_k weights_k (x_k y_k - z_k) = q_product at every query."""
    x, y, z = np.split(rows[:, :, code.single_rows :], 3, axis=2)
    combined = ff.f_sum(ff.f_mul(ff.f_sub(ff.f_mul(x, y), z), weights[:, None, :]))
    require_equal(ff.f_add(blind, combined), tests.product, points, "pads/product-columns")


def require_equal(found: U64, polynomial: U64, points: U64, check: str) -> None:
    """ProofRejected unless the values (2, t) are the polynomial's; points: their powers (2, t, at least its length)."""
    low = np.ascontiguousarray(points[:, :, : polynomial.shape[1]])
    expected = ff.f_matvec(low, polynomial)
    if not np.array_equal(found, expected):
        raise ProofRejected(check, found=found, expected=expected)
