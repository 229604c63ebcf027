"""Checks an opening of the matrix commitment, test by test (docs/SPEC.md, 5.2, whose steps are numbered here)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zkcert.core import field as ff
from zkcert.core.code import COMBINED_ROWS, PROXIMITY_GRIND, QUERY_GRIND, MatrixCode, SecondCode
from zkcert.core.field import F
from zkcert.core.merkle import DIGEST_BYTES, multiproof_bytes, verify_multiproof
from zkcert.core.opening import (
    MATRIX_TREE,
    SECOND_TREE,
    Claims,
    column_leaf,
    combination_weights,
    packed_value,
    query_points,
    second_weights,
    tail_values,
)
from zkcert.core.proof import Reader
from zkcert.core.transcript import Transcript
from zkcert.errors import ProofRejected

from .channel import check_work

U64 = NDArray[np.uint64]


def verify_opening(reader: Reader, transcript: Transcript, code: MatrixCode, root: bytes, z: list[F], value: F) -> None:
    """Check an opening of X~(z) = value under `root`. Raises ProofRejected naming the failing check."""
    check_work(reader, transcript, PROXIMITY_GRIND, "opening/proximity-nonce")  # 1
    weights = combination_weights(transcript, code, z)
    combined = CombinedRows.read(reader, transcript, code)  # 2
    check_value(combined, z, value)
    check_work(reader, transcript, QUERY_GRIND, "opening/query-nonce")  # 3
    queries = transcript.distinct_indices("queries", code.queries, code.log_n)
    columns = read_columns(reader, transcript, "opened-columns", code, queries)
    check_merkle(columns, code, root, MATRIX_TREE, queries, "opening/merkle")
    claims = Claims.draw(transcript, code, z, query_points(code.log_n, queries))  # 4
    s, claim = fold_claim(reader, transcript, code, column_claim(claims, code, columns.values, weights, combined))
    verify_second(reader, transcript, code.second, combined.root, s, claims.weight_at(s), claim)
    reader.end()


def verify_second(
    reader: Reader, transcript: Transcript, code: SecondCode, root: bytes, s: list[F], factor: F, claim: F
) -> None:
    """Check that factor V~(s) = claim for the vector V under the root of the second matrix."""
    weights = second_weights(transcript, code, s)  # 5
    start = reader.at
    rows = reader.field_array(2, code.width)
    transcript.absorb("second-rows", reader.since(start))
    check_claim(rows, code, s, factor, claim)
    check_work(reader, transcript, QUERY_GRIND, "opening/second-query-nonce")  # 6
    queries = transcript.distinct_indices("second-queries", code.queries, code.log_n)
    columns = read_columns(reader, transcript, "second-columns", code, queries)
    check_merkle(columns, code, root, SECOND_TREE, queries, "opening/second-merkle")
    check_second_rows(columns.values, weights, rows, code, queries)


# ------------------------------------------------------------------------------------------- what is read


@dataclass(frozen=True)
class CombinedRows:
    """What is said of v_1, v_2, v_3: the root of the second matrix, which holds their first 2^k coefficients, their
    tails (2, 3, tail), and h, h'."""

    root: bytes
    tails: U64
    inner: tuple[F, F]

    @staticmethod
    def read(reader: Reader, transcript: Transcript, code: MatrixCode) -> CombinedRows:
        start = reader.at
        root, tails = reader.take(DIGEST_BYTES), reader.field_array(COMBINED_ROWS, code.tail)
        h, h_bar = ff.f_list(reader.field_array(2))
        transcript.absorb("combined-rows", reader.since(start))
        return CombinedRows(root, tails, (h, h_bar))


@dataclass(frozen=True)
class Columns:
    """Queried columns: values (2, t, rows), the digests of their bytes (t, 32), and their Merkle multi-proof."""

    values: U64
    leaves: NDArray[np.uint8]
    proof: bytes


def read_columns(
    reader: Reader, transcript: Transcript, label: str, code: MatrixCode | SecondCode, queries: list[int]
) -> Columns:
    """The columns at the queries and their multi-proof, unchecked."""
    start = reader.at
    values = reader.field_array(code.queries, code.rows)
    data = reader.since(start)
    proof = reader.take(multiproof_bytes(1 << code.log_n, queries))
    transcript.absorb(label, data + proof)
    size = len(data) // code.queries
    leaves = b"".join(column_leaf(data[i : i + size]) for i in range(0, len(data), size))
    return Columns(values, np.frombuffer(leaves, np.uint8).reshape(-1, DIGEST_BYTES), proof)


# ---------------------------------------------------------------------------------------------- the tests


def check_value(combined: CombinedRows, z: list[F], value: F) -> None:
    """X~(z) = (1 - z_0) W_re + z_0 W_im, with W_re = (h + conj h')/2 and W_im = (h - conj h')/(2i)."""
    found = packed_value(combined.inner, z[-1])
    if found != value:
        raise ProofRejected("opening/value", found=found, revealed=value)


def check_merkle(
    columns: Columns, code: MatrixCode | SecondCode, root: bytes, tree: bytes, queries: list[int], check: str
) -> None:
    """The columns' digests are the leaves at the queried positions of the tree with this root."""
    if not verify_multiproof(root, 1 << code.log_n, queries, columns.leaves, columns.proof, tree):
        raise ProofRejected(check, root=root, queries=queries)


def column_claim(claims: Claims, code: MatrixCode, columns: U64, weights: U64, combined: CombinedRows) -> F:
    """sum_ij a_i b_j y_ij + a_4 h + a_5 h', y_ij = <weights of v_i, column j> - sum_l tail_il x_j^(2^k + l).

    It is <V, W> if v_1, v_2, v_3 are the combinations of the columns: proximity, and both halves of the value.
    """
    rows = [ff.f_matvec(columns, np.ascontiguousarray(weights[:, i])) for i in range(COMBINED_ROWS)]
    values = ff.f_sub(np.stack(rows, axis=1), tail_values(code, combined.tails, claims.points))
    return claims.total(values, combined.inner)


def fold_claim(reader: Reader, transcript: Transcript, code: MatrixCode, claim: F) -> tuple[list[F], F]:
    """The sum-check of <V, W> = claim: its point s, and what W~(s) V~(s) has to be.

    t(rho) = t(0) (1 - rho) + t(1) rho + t_inf rho (rho - 1), where t(0), t_inf are sent and t(1) = claim - t(0).
    """
    s: list[F] = []
    messages = reader.field_array(code.rounds, 2)
    for i in range(code.rounds):
        transcript.absorb("claims/round", ff.f_to_bytes(messages[:, i]))
        t0, tinf = ff.f_list(messages[:, i])
        rho = transcript.challenge("rho/claims")
        claim = t0 * (1 - rho) + (claim - t0) * rho + tinf * rho * (rho - 1)
        s.insert(0, rho)
    return s, claim


def check_claim(rows: U64, code: SecondCode, s: list[F], factor: F, claim: F) -> None:
    """W~(s) <u_2, eq(s_col)> = claim; rows: u_1 and u_2 (2, 2, 2^(k_2)), factor: W~(s)."""
    eq = ff.eq_table(s[len(s) - code.row_bits :])
    found = factor * ff.f_dot(np.ascontiguousarray(rows[:, 1]), eq)
    if found != claim:
        raise ProofRejected("opening/claims", found=found, claim=claim)


def check_second_rows(columns: U64, weights: U64, rows: U64, code: SecondCode, queries: list[int]) -> None:
    """<weights of u_i, column j> = u_i(x_j) at every query: i = 1 proximity, i = 2 the row that the claim is about."""
    exponents = [int(f"{j:0{code.log_n}b}"[::-1], 2) for j in queries]
    encoded = ff.f_fft(rows, code.log_n)[:, :, exponents]
    for i, name in enumerate(("proximity", "row")):
        found = ff.f_matvec(columns, np.ascontiguousarray(weights[:, i]))
        if not np.array_equal(found, encoded[:, i]):
            raise ProofRejected(f"opening/second-{name}", found=found, encoded=encoded[:, i])
