"""Checks an opening of the matrix commitment, test by test (docs/spec/commitment.md, whose steps are numbered here)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from zkcert.core import field as ff
from zkcert.core.code import COMBINED_ROWS, PROXIMITY_GRIND, QUERY_GRIND, MatrixCode, PlainCode
from zkcert.core.field import U64, F
from zkcert.core.merkle import DIGEST_BYTES, multiproof_bytes, verify_multiproof
from zkcert.core.opening import (
    Claims,
    column_leaf,
    combination_weights,
    level_tree,
    packed_value,
    part_tree,
    plain_weights,
    query_points,
    tail_values,
    value_claims,
    vector_claim,
)
from zkcert.core.proof import Reader
from zkcert.core.transcript import Transcript
from zkcert.errors import ProofRejected


def verify_opening(
    reader: Reader, transcript: Transcript, code: MatrixCode, roots: Sequence[bytes], z: list[F], value: F
) -> None:
    """Check an opening of X~(z) = value under the roots of X's parts. Raises ProofRejected naming the failing check."""
    reader.check_work(transcript, PROXIMITY_GRIND, "opening/proximity-nonce/1")  # 1
    weights = combination_weights(transcript, code, z)
    combined = CombinedRows.read(reader, transcript, code)  # 2
    check_value(combined, z, value)
    trees = [Tree(part_tree(i), root, rows) for i, (root, rows) in enumerate(zip(roots, code.parts, strict=True))]
    queries, columns = open_columns(reader, transcript, 1, code, trees)  # 3
    points = query_points(code.log_n, queries)
    claims = Claims.draw(transcript, 2, code, points, value_claims(code, z, combined.inner))  # 4
    values = ff.f_sub(column_values(columns, weights), tail_values(code, combined.tails, points))
    verify_level(reader, transcript, 2, code, claims, values, combined.root)
    reader.end()


def verify_level(
    reader: Reader,
    transcript: Transcript,
    level: int,
    above: MatrixCode | PlainCode,
    claims: Claims,
    values: U64,
    root: bytes,
) -> None:
    """Check the claims on the combined rows of the level above, which are committed under `root`.

    values (2, combined, t): of these rows at the queried points, according to the columns of the level above.
    """
    code = above.below
    assert code is not None
    s, claim = fold_claim(reader, transcript, level, code, claims.total(values))  # 4
    factor = claims.weight_at(s, above.row_bits)
    reader.check_work(transcript, PROXIMITY_GRIND, f"opening/proximity-nonce/{level}")  # 5
    weights = plain_weights(transcript, level, code, s)
    tree = Tree(level_tree(level), root, code.rows)
    inner = vector_claim(code, s, factor, claim)
    if code.below is None:
        rows = read_rows(reader, transcript, level, code)
        check_claim(rows, inner.col, factor, claim)
        queries, columns = open_columns(reader, transcript, level, code, [tree])  # 6
        check_rows(columns, weights, rows, query_points(code.log_n, queries), level)
        return
    next_root = reader.take(DIGEST_BYTES)
    transcript.absorb(f"combined-rows/{level}", next_root)
    queries, columns = open_columns(reader, transcript, level, code, [tree])  # 6
    deeper = Claims.draw(transcript, level + 1, code, query_points(code.log_n, queries), (inner,))
    verify_level(reader, transcript, level + 1, code, deeper, column_values(columns, weights), next_root)


# ------------------------------------------------------------------------------------------- what is read


@dataclass(frozen=True)
class CombinedRows:
    """What is said of v_1, v_2, v_3: the root of level 2, which holds their first 2^k coefficients, their tails
    (2, 3, tail), and h, h'."""

    root: bytes
    tails: U64
    inner: tuple[F, F]

    @staticmethod
    def read(reader: Reader, transcript: Transcript, code: MatrixCode) -> CombinedRows:
        start = reader.at
        root, tails = reader.take(DIGEST_BYTES), reader.field_array(COMBINED_ROWS, code.tail)
        h, h_bar = ff.f_list(reader.field_array(2))
        transcript.absorb("combined-rows/1", reader.since(start))
        return CombinedRows(root, tails, (h, h_bar))


class Tree(NamedTuple):
    """A Merkle tree over columns: its name, its root, and the rows whose values the columns hold."""

    name: bytes
    root: bytes
    rows: int


def open_columns(
    reader: Reader, transcript: Transcript, level: int, code: MatrixCode | PlainCode, trees: Sequence[Tree]
) -> tuple[list[int], U64]:
    """The queried positions and the columns there (2, t, rows), those of each tree checked against its root."""
    reader.check_work(transcript, QUERY_GRIND, f"opening/query-nonce/{level}")
    queries = transcript.distinct_indices(f"queries/{level}", code.queries, code.log_n)
    size = multiproof_bytes(1 << code.log_n, queries)
    start, parts = reader.at, []
    for tree in trees:
        at = reader.at
        values = reader.field_array(code.queries, tree.rows)
        parts.append((tree, values, reader.since(at), reader.take(size)))
    transcript.absorb(f"columns/{level}", reader.since(start))
    for tree, _, data, proof in parts:
        if not verify_multiproof(tree.root, 1 << code.log_n, queries, leaves_of(data, code.queries), proof, tree.name):
            raise ProofRejected(f"opening/merkle/{level}", root=tree.root, queries=queries)
    return queries, np.concatenate([values for _, values, _, _ in parts], axis=2)


def leaves_of(data: bytes, count: int) -> NDArray[np.uint8]:
    """The digests (count, 32) of columns that stand one behind the other."""
    size = len(data) // count
    digests = b"".join(column_leaf(data[i : i + size]) for i in range(0, len(data), size))
    return np.frombuffer(digests, np.uint8).reshape(-1, DIGEST_BYTES)


def read_rows(reader: Reader, transcript: Transcript, level: int, code: PlainCode) -> U64:
    """Both combined rows (2, 2, width) of the last level."""
    start = reader.at
    rows = reader.field_array(code.combined, code.width)
    transcript.absorb(f"combined-rows/{level}", reader.since(start))
    return rows


# ---------------------------------------------------------------------------------------------- the tests


def check_value(combined: CombinedRows, z: list[F], value: F) -> None:
    """X~(z) = (1 - z_0) W_re + z_0 W_im, with W_re = (h + conj h')/2 and W_im = (h - conj h')/(2i)."""
    found = packed_value(combined.inner, z[-1])
    if found != value:
        raise ProofRejected("opening/value", found=found, revealed=value)


def column_values(columns: U64, weights: U64) -> U64:
    """What the columns (2, t, rows) say of the combined rows with these weights (2, combined, rows): (2, combined, t).

    Of the matrix these are the values of the rows with their tails.
    """
    rows = [ff.f_matvec(columns, np.ascontiguousarray(weights[:, i])) for i in range(weights.shape[1])]
    return np.stack(rows, axis=1)


def fold_claim(reader: Reader, transcript: Transcript, level: int, code: PlainCode, claim: F) -> tuple[list[F], F]:
    """The sum-check of <V, W> = claim: its point s, and what W~(s) V~(s) has to be.

    A round says t(0) and t_2 of a quadratic t; t(0) + t(1) is the claim by construction, and t(rho) the next one.
    """
    s: list[F] = []
    messages = reader.field_array(code.rounds, 2)
    for i in range(code.rounds):
        transcript.absorb(f"claims-round/{level}", ff.f_to_bytes(messages[:, i]))
        t0, tinf = ff.f_list(messages[:, i])
        rho = transcript.challenge(f"rho/claims/{level}")
        claim = t0 * (1 - rho) + (claim - t0) * rho + tinf * rho * (rho - 1)
        s.insert(0, rho)
    return s, claim


def check_claim(rows: U64, col: list[F], factor: F, claim: F) -> None:
    """factor <u_2, eq(s_col)> is the claim: the value of V~ at s, from the row of the last level."""
    found = factor * ff.f_dot(np.ascontiguousarray(rows[:, 1]), ff.eq_table(col))
    if found != claim:
        raise ProofRejected("opening/claims", found=found, claimed=claim)


def check_rows(columns: U64, weights: U64, rows: U64, points: U64, level: int) -> None:
    """Each column's combination is the value of u_1 (proximity) and of u_2 (the row that the claim is about)."""
    found = column_values(columns, weights)
    basis = ff.f_powers(points, rows.shape[2])
    for i, name in enumerate(("proximity", "row")):
        encoded = ff.f_matvec(basis, np.ascontiguousarray(rows[:, i]))
        if not np.array_equal(found[:, i], encoded):
            raise ProofRejected(f"opening/{name}/{level}", found=found[:, i], encoded=encoded)
