"""Checks the pad proof: all hidden equations at once (docs/spec/commitment.md, "Pad proof")."""

from __future__ import annotations

import numpy as np

from circuits.channel import PadForm
from zkcert.core import field as ff
from zkcert.core.code import PadCode
from zkcert.core.merkle import verify_multiproof
from zkcert.core.opening import powers
from zkcert.core.padcode import PAD_GRIND, TREE_NAME, interpolate, message_rows, pad_leaf, query_points
from zkcert.core.proof import Reader
from zkcert.core.transcript import Transcript
from zkcert.errors import ProofRejected


def verify_pads(reader: Reader, transcript: Transcript, code: PadCode, root: bytes, form: PadForm) -> None:
    """Raises ProofRejected unless the committed pads satisfy `form` and every triple has z = x y."""
    block = 1 << code.block_bits
    proximity = transcript.challenge_array("pads/proximity", code.rows)
    products = transcript.challenge_array("pads/products", code.triple_rows)
    start = reader.at
    q_proximity = reader.field_array(block)
    q_linear, q_product = reader.field_array(2 * block), reader.field_array(2 * block)
    transcript.absorb("pads/tests", reader.data[start : reader.at])

    # sum over H of q_linear must be minus the constant of the collapsed equation
    total = (ff.f_item(q_linear, 0) + ff.f_item(q_linear, block)) * block
    if total + form.const != 0:
        raise ProofRejected("hidden-equations", "a value behind the messages does not satisfy its equation")
    on_double = ff.f_fft(q_product, code.block_bits + 1)
    if np.any(on_double[:, 0 : 2 * code.message : 2]):
        raise ProofRejected("pads/products")

    if not transcript.check_grind(reader.u64(), PAD_GRIND):
        raise ProofRejected("pads/nonce")
    queries = transcript.distinct_indices("pads/queries", code.queries, code.log_n)
    columns = reader.field_array(code.queries, code.rows + 3)
    leaves = [pad_leaf(q, columns[:, i]) for i, q in enumerate(queries)]
    digests = np.frombuffer(b"".join(leaves), np.uint8).reshape(-1, 32)
    proof = reader.take(len(reader.data) - reader.at)
    if not verify_multiproof(root, 1 << code.log_n, queries, digests, proof, TREE_NAME):
        raise ProofRejected("pads/merkle")

    constraint = interpolate(code, message_rows(code, form.singles, form.x, form.y, form.z))
    vander = powers(ff.f_array(query_points(code, queries)), 2 * block)  # (2, t, 2|H|)
    rows, blind = columns[:, :, : code.rows], columns[:, :, code.rows :]
    low = np.ascontiguousarray(vander[:, :, :block])

    def mismatch(expected: np.ndarray, q: np.ndarray, v: np.ndarray) -> bool:
        return not np.array_equal(expected, ff.f_matvec(v, q))

    combined = ff.f_matvec(np.ascontiguousarray(rows), proximity)
    if mismatch(ff.f_add(blind[:, :, 0], combined), q_proximity, low):
        raise ProofRejected("pads/proximity")
    weights = np.stack([ff.f_matvec(low, np.ascontiguousarray(constraint[:, i])) for i in range(code.rows)], axis=2)
    combined = ff.f_sum(ff.f_mul(rows, weights))
    if mismatch(ff.f_add(blind[:, :, 1], combined), q_linear, vander):
        raise ProofRejected("pads/linear")
    first, count = code.single_rows, code.triple_rows
    x, y, z = (rows[:, :, first + i * count : first + (i + 1) * count] for i in range(3))
    combined = ff.f_sum(ff.f_mul(ff.f_sub(ff.f_mul(x, y), z), products[:, None, :]))
    if mismatch(ff.f_add(blind[:, :, 2], combined), q_product, vander):
        raise ProofRejected("pads/product-columns")
