"""Checks an opening of the matrix commitment (docs/spec/commitment.md)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zkcert.core import field as ff
from zkcert.core.code import COMBINED_ROWS, PROXIMITY_GRIND, QUERY_GRIND, MatrixCode, SecondCode
from zkcert.core.field import F
from zkcert.core.merkle import multiproof_bytes, verify_multiproof
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

U64 = NDArray[np.uint64]


def verify_opening(reader: Reader, transcript: Transcript, code: MatrixCode, root: bytes, z: list[F], value: F) -> None:
    """Check an opening of X~(z) = value under `root`. Raises ProofRejected naming the failing check."""
    if not transcript.check_grind(reader.u64(), PROXIMITY_GRIND):
        raise ProofRejected("opening/proximity-nonce")
    weights = combination_weights(transcript, code, z)
    start = reader.at
    second_root = reader.take(32)
    tails = reader.field_array(COMBINED_ROWS, code.tail)
    h, h_bar = ff.f_list(reader.field_array(2))
    inner = h, h_bar
    transcript.absorb("combined-rows", reader.data[start : reader.at])
    if packed_value(inner, z[-1]) != value:
        raise ProofRejected("opening/value")
    if not transcript.check_grind(reader.u64(), QUERY_GRIND):
        raise ProofRejected("opening/query-nonce")
    queries = transcript.distinct_indices("queries", code.queries, code.log_n)
    columns = read_columns(reader, transcript, "opened-columns", code, root, MATRIX_TREE, queries)

    points = query_points(code.log_n, queries)
    values = np.stack([ff.f_matvec(columns, np.ascontiguousarray(weights[:, i])) for i in range(COMBINED_ROWS)], axis=1)
    claims = Claims.draw(transcript, code, z, points)
    claim = claims.total(ff.f_sub(values, tail_values(code, tails, points)), inner)
    s: list[F] = []
    start = reader.at
    rounds = ff.f_list(reader.field_array(2 * code.rounds))
    for i in range(code.rounds):
        t0, tinf = rounds[2 * i : 2 * i + 2]
        transcript.absorb("claims/round", reader.data[start + 32 * i : start + 32 * (i + 1)])
        rho = transcript.challenge("rho/claims")
        claim = t0 * (1 - rho) + (claim - t0) * rho + tinf * rho * (rho - 1)
        s.insert(0, rho)
    verify_second(reader, transcript, code.second, second_root, s, claims.weight_at(s), claim)
    reader.end()


def verify_second(
    reader: Reader, transcript: Transcript, code: SecondCode, root: bytes, s: list[F], factor: F, claim: F
) -> None:
    """Check that factor V~(s) = claim for the vector V under the root of the second matrix."""
    weights = second_weights(transcript, code, s)
    start = reader.at
    rows = reader.field_array(2, code.width)
    transcript.absorb("second-rows", reader.data[start : reader.at])
    eq = ff.eq_table(s[len(s) - code.row_bits :])
    if factor * ff.f_dot(np.ascontiguousarray(rows[:, 1]), eq) != claim:
        raise ProofRejected("opening/claims")
    if not transcript.check_grind(reader.u64(), QUERY_GRIND):
        raise ProofRejected("opening/second-query-nonce")
    queries = transcript.distinct_indices("second-queries", code.queries, code.log_n)
    columns = read_columns(reader, transcript, "second-columns", code, root, SECOND_TREE, queries)
    encoded = values_at(rows, code.log_n, queries)
    for i, name in enumerate(("proximity", "row")):
        if not np.array_equal(ff.f_matvec(columns, np.ascontiguousarray(weights[:, i])), encoded[:, i]):
            raise ProofRejected(f"opening/second-{name}")


def read_columns(
    reader: Reader,
    transcript: Transcript,
    label: str,
    code: MatrixCode | SecondCode,
    root: bytes,
    tree: bytes,
    queries: list[int],
) -> U64:
    """The queried columns (2, t, rows), checked against the root by the Merkle proof that follows them."""
    start, size = reader.at, 16 * code.rows
    columns = reader.field_array(code.queries, code.rows)
    data = reader.data[start : reader.at]
    proof = reader.take(multiproof_bytes(1 << code.log_n, queries))
    transcript.absorb(label, data + proof)
    leaves = b"".join(column_leaf(data[i : i + size]) for i in range(0, len(data), size))
    digests = np.frombuffer(leaves, np.uint8).reshape(-1, 32)
    if not verify_multiproof(root, 1 << code.log_n, queries, digests, proof, tree):
        raise ProofRejected("opening/merkle" if tree == MATRIX_TREE else "opening/second-merkle")
    return columns


def values_at(rows: U64, log_n: int, positions: list[int]) -> U64:
    """Values (2, k, t) of polynomials (2, k, width) at positions of the order of `query_points`."""
    exponents = [int(f"{j:0{log_n}b}"[::-1], 2) for j in positions]
    return ff.f_fft(rows, log_n)[:, :, exponents]
