"""The prover's answers to the reductions, one file per phase: products, trees, batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from circuits.channel import Channel
from circuits.layout import Layout
from circuits.protocol import Claim, ProductJob
from circuits.witness import Witness
from zkcert.core.code import MatrixCode
from zkcert.core.field import F
from zkcert.errors import ProofRejected

from .batch import Batch
from .channel import ProverChannel
from .products import Products
from .tables import functional_value
from .trees import Tree, range_check_trees

U64 = NDArray[np.uint64]


class ProverOracle:
    """Implements `circuits.protocol.Oracle` over a witness and the committed vector X."""

    def __init__(
        self,
        layout: Layout,
        witness: Witness,
        x: NDArray[np.int32],
        masks: U64,
        code: MatrixCode,
        strict: bool = False,
    ) -> None:
        """x: int32 (data_end,) digits and multiplicities; masks: F rows (2, 4, width)."""
        self.layout, self.witness, self.x, self.masks, self.code = layout, witness, x, masks, code
        self.strict = strict

    def check(self, claims: Sequence[Claim], ch: Channel) -> None:
        """In strict mode, compare every claim with the witness; the first false one is named."""
        if not self.strict:
            return
        assert isinstance(ch, ProverChannel)
        for claim in claims:
            if claim.functional.terms and functional_value(self.witness, claim.functional) != ch.value(claim.node):
                raise ProofRejected(f"constraint/{claim.name}")

    def products(self, job: ProductJob) -> Products:
        return Products(job, self.witness)

    def trees(self, alpha: F) -> tuple[Tree, Tree]:
        return range_check_trees(self.layout, self.x, alpha)

    def batch(self, claims: Sequence[Claim], weights: Sequence[F]) -> Batch:
        return Batch(self.layout, self.x, self.masks, claims, weights, self.code)


def place_digits(layout: Layout, witness: Witness) -> NDArray[np.int32]:
    """The data part of X, int32 (data_end,): digit columns and the multiplicities they imply."""
    x = np.zeros(layout.data_end, np.int32)
    for t in layout.circuit.tensors:
        place, arr = layout.places[t], witness.array(t)
        for b, (start, length) in enumerate(place.blocks):
            bits = place.axis_bits[b]
            part = arr
            if t.split:
                part = np.take(arr, np.arange(start, min(start + (1 << length), t.sizes[t.split])), t.split + 1)
            column = np.zeros([1 << k for k in bits], np.int32)
            window = tuple(slice(n) for n in part.shape[2:])
            for d in range(len(t.digits)):
                for u in range(t.unroll):
                    column[window] = part[d, u]
                    at = int(place.positions[b][d, u])
                    x[at : at + column.size] = column.ravel()
    counts = [np.zeros(size, np.int64) for size in layout.tables]
    for seg in layout.segments:
        looked_up = x[seg.start : seg.stop].astype(np.int64) + seg.shift
        inside = looked_up[(looked_up >= 0) & (looked_up < layout.tables[seg.cls])]
        counts[seg.cls] += np.bincount(inside, minlength=layout.tables[seg.cls])
    x[layout.multiplicity_start :] = np.concatenate(counts)
    return x
