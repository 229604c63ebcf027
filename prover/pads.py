"""Proof that the committed pads satisfy the collapsed equation and every triple has z = x y (a small Ligero)."""

from __future__ import annotations

import numpy as np

from circuits.argument.channel import PadForm
from zkcert.core import field as ff
from zkcert.core.code import pad_code
from zkcert.core.padcode import (
    PAD_GRIND,
    TREE_NAME,
    coset_shift,
    interpolate,
    message_rows,
    pad_leaf,
)
from zkcert.core.transcript import Transcript, xof_field
from zkcert.core.tree import MerkleTree

from . import grinding
from .channel import Pads


class PadCommitment:
    """Commits to the pads before the first challenge, answers for all equations at the end."""

    def __init__(self, pads: Pads, secret: bytes) -> None:
        self.code = code = pad_code(pads.singles.shape[1], pads.x.shape[1])
        block, message = 1 << code.block_bits, code.message
        count = code.rows * (block - message) + block + 2 * block + (2 * block - message)
        noise = xof_field(b"zkcert/pad-rows" + secret, 2 * count).reshape(2, count)
        at = code.rows * (block - message)
        values = np.concatenate(
            [
                message_rows(code, pads.singles, pads.x, pads.y, pads.z),
                noise[:, :at].reshape(2, code.rows, block - message),
            ],
            axis=2,
        )
        self.rows = interpolate(code, np.ascontiguousarray(values))
        self.blind_proximity = noise[:, at : at + block]
        linear = np.ascontiguousarray(noise[:, at + block : at + 3 * block])
        # The sum over H of a polynomial of degree < 2|H| is |H| (c_0 + c_|H|): make it zero.
        linear[:, 0] = ff.fp_neg(linear[:, block])
        self.blind_linear = linear
        # Vanishing on the message positions: H is the even half of the subgroup of order 2|H|.
        free = np.zeros((2, 2 * block), np.uint64)
        positions = [i for i in range(2 * block) if i % 2 or i // 2 >= message]
        free[:, positions] = noise[:, at + 3 * block :]
        self.blind_product = ff.f_ifft(free)

        every = np.zeros((2, code.rows + 3, 2 * block), np.uint64)
        every[:, : code.rows, :block] = self.rows
        every[:, code.rows, :block] = self.blind_proximity
        every[:, code.rows + 1], every[:, code.rows + 2] = self.blind_linear, self.blind_product
        shifted = ff.f_mul(every, ff.f_powers(ff.f_array([coset_shift(code)]), 2 * block))
        self.codewords = ff.f_fft(shifted, code.log_n)
        leaves = [pad_leaf(j, self.codewords[:, :, j]) for j in range(1 << code.log_n)]
        self.tree = MerkleTree(np.frombuffer(b"".join(leaves), np.uint8).reshape(-1, 32), TREE_NAME)

    @property
    def root(self) -> bytes:
        return self.tree.root

    def prove(self, transcript: Transcript, form: PadForm) -> bytes:
        """The three test polynomials, the nonce, the queried columns and their Merkle proof."""
        code, block = self.code, 1 << self.code.block_bits
        first = code.single_rows
        proximity = transcript.challenge_array("pads/proximity", code.rows)
        products = transcript.challenge_array("pads/products", code.triple_rows)
        combined = ff.f_sum(ff.f_mul(self.rows, proximity[:, :, None]), axis=1)
        q_proximity = ff.f_add(self.blind_proximity, combined)

        # Products of two row polynomials: evaluate on the subgroup of order 2|H|, multiply, interpolate.
        constraint = interpolate(code, message_rows(code, *form.parts))
        wide = ff.f_fft(self.rows, code.block_bits + 1)
        linear = ff.f_sum(ff.f_mul(wide, ff.f_fft(constraint, code.block_bits + 1)), axis=1)
        q_linear = ff.f_add(self.blind_linear, ff.f_ifft(linear))

        x, y, z = (wide[:, first + i * code.triple_rows : first + (i + 1) * code.triple_rows] for i in range(3))
        defect = ff.f_mul(ff.f_sub(ff.f_mul(x, y), z), products[:, :, None])
        q_product = self.blind_product
        if code.triple_rows:
            q_product = ff.f_add(q_product, ff.f_ifft(ff.f_sum(defect, axis=1)))

        tests = b"".join(ff.f_to_bytes(q) for q in (q_proximity, q_linear, q_product))
        assert len(tests) == 16 * 5 * block
        transcript.absorb("pads/tests", tests)
        nonce = grinding.grind(transcript, PAD_GRIND)
        queries = transcript.distinct_indices("pads/queries", code.queries, code.log_n)
        columns = np.moveaxis(self.codewords[:, :, queries], 2, 1)  # (2, t, rows + 3)
        return tests + nonce.to_bytes(8, "little") + ff.f_to_bytes(columns) + self.tree.multiproof(queries)
