"""What prover and verifier of the pad proof share.

A row holds ``message`` pads and then random values as its evaluations on the subgroup H of order 2^block_bits; its
codeword is its polynomial on the coset ``g K`` with |K| = 16 |H| and g of order 2 |K|, disjoint from H. Rows in order:
single pads, then all x, all y and all z rows of the triples, then three blinding rows.
"""

from __future__ import annotations

import numpy as np
from blake3 import blake3

from . import field as ff
from .code import PadCode
from .field import U64, F

PAD_GRIND = 16
PAD_LEAF_PREFIX = b"zkcert/pad-column"
TREE_NAME = b"pads"


def message_rows(code: PadCode, singles: U64, x: U64, y: U64, z: U64) -> U64:
    """Arrange values (2, n) per pad in rows (2, rows, message), zero where there is no pad."""
    parts = []
    for values, rows in ((singles, code.single_rows), *((v, code.triple_rows) for v in (x, y, z))):
        block = np.zeros((2, rows * code.message), np.uint64)
        block[:, : values.shape[1]] = values
        parts.append(block.reshape(2, rows, code.message))
    return np.concatenate(parts, axis=1)


def interpolate(code: PadCode, values: U64) -> U64:
    """Coefficients (2, rows, 2^block_bits) of the rows with the given evaluations on H (zero-padded)."""
    full = np.zeros((2, values.shape[1], 1 << code.block_bits), np.uint64)
    full[:, :, : values.shape[2]] = values
    return ff.f_ifft(full)


def coset_shift(code: PadCode) -> F:
    return ff.root_of_unity(code.log_n + 1)


def query_points(code: PadCode, queries: list[int]) -> list[F]:
    """g w^q for each query."""
    w, g = ff.root_of_unity(code.log_n), coset_shift(code)
    return [g * w**q for q in queries]


def pad_leaf(index: int, column: U64) -> bytes:
    """Digest of one codeword column (2, rows + 3)."""
    return blake3(PAD_LEAF_PREFIX + index.to_bytes(8, "little") + ff.f_to_bytes(column)).digest()
