"""Checks an opening of the matrix commitment (protocol: docs/SPEC.md, "Opening")."""

from __future__ import annotations

import numpy as np

from zkcert.core import field as ff
from zkcert.core.code import PROXIMITY_GRIND, QUERY_GRIND, MatrixCode
from zkcert.core.field import F
from zkcert.core.merkle import verify_multiproof
from zkcert.core.opening import column_leaf, combination_weights, packed_evaluation
from zkcert.core.proof import Reader
from zkcert.core.transcript import Transcript
from zkcert.errors import ProofRejected


def verify_opening(reader: Reader, transcript: Transcript, code: MatrixCode, root: bytes, z: list[F], value: F) -> None:
    """Check an opening of X~(z) = value under `root`. Raises ProofRejected naming the failing check."""
    if not transcript.check_grind(reader.u64(), PROXIMITY_GRIND):
        raise ProofRejected("opening/proximity-nonce")
    weights = combination_weights(transcript, code, z)
    start = reader.at
    rows = reader.field_array(3, code.length)
    transcript.absorb("combined-rows", reader.data[start : reader.at])
    if packed_evaluation(code, rows, z) != value:
        raise ProofRejected("opening/value")
    if not transcript.check_grind(reader.u64(), QUERY_GRIND):
        raise ProofRejected("opening/query-nonce")
    queries = transcript.distinct_indices("queries", code.queries, code.log_n)
    start = reader.at
    columns = reader.field_array(code.queries, code.rows)
    leaves = [column_leaf(q, columns[:, i]) for i, q in enumerate(queries)]
    digests = np.frombuffer(b"".join(leaves), np.uint8).reshape(-1, 32)
    proof = reader.take(len(reader.data) - reader.at)
    transcript.absorb("opened-columns", reader.data[start:])
    if not verify_multiproof(root, 1 << code.log_n, queries, digests, proof, b"matrix"):
        raise ProofRejected("opening/merkle")
    encoded = ff.f_fft(rows, code.log_n)[:, :, queries]
    for k, name in enumerate(("proximity", "row", "conjugate-row")):
        combined = ff.f_matvec(columns, np.ascontiguousarray(weights[:, k]))
        if not np.array_equal(combined, encoded[:, k]):
            raise ProofRejected(f"opening/{name}")
