"""The prover's answers to the reductions, one file per phase: products, trees, batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from circuits.argument.channel import Channel
from circuits.argument.claims import Claim, ProductJob, Tree
from circuits.argument.tuples import Box
from circuits.language.layout import Layout
from prover.execution.witness import Witness
from zkcert.core.code import MatrixCode
from zkcert.core.field import F
from zkcert.errors import ProofRejected, UnusableInput

from . import kernels
from .batch import Batch
from .channel import Checked, ProverChannel
from .products import Products
from .tables import functional_value
from .trees import TableTree, TupleTree, count_rows, digit_tree, tuple_tree

U64 = NDArray[np.uint64]


class ProverOracle(Checked):
    """The oracle that has a witness and the committed vector X."""

    def __init__(
        self,
        layout: Layout,
        witness: Witness,
        x: NDArray[np.int32],
        masks: U64,
        code: MatrixCode,
        strict: bool = False,
        tree: Callable[[Layout, NDArray[np.int32], F, int, int], Tree] = digit_tree,
    ) -> None:
        """x: int32 (data_end,) digits and multiplicities; masks: F rows (2, 4, width); tree: makes trees of digits."""
        self.layout, self.witness, self.x, self.masks, self.code = layout, witness, x, masks, code
        self.strict, self.tree = strict, tree

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

    def digit_tree(self, alpha: F, start: int, count: int) -> Tree:
        return self.tree(self.layout, self.x, alpha, start, count)

    def tuple_tree(self, alpha: F, gamma: F, tree: Sequence[Box]) -> TupleTree:
        return tuple_tree(self.layout, self.witness, alpha, gamma, tree)

    def table_tree(self, alpha: F, gamma: F) -> TableTree:
        return TableTree(self.layout, self.x, alpha, gamma)

    def batch(self, claims: Sequence[Claim], weights: Sequence[F]) -> Batch:
        return Batch(self.layout, self.x, self.masks, claims, weights, self.code)


def count_multiplicities(layout: Layout, x: NDArray[np.int32]) -> None:
    """Write behind the digits of X, int32 (data_end,), how often they use each table entry.

    Raises UnusableInput where one is used 2^31 times.
    """
    firsts = np.cumsum([0, *layout.tables])
    counts = np.zeros(layout.table_entries, np.int64)
    for start, count in layout.runs:
        seg = [s for s in layout.segments if start <= s.start < start + count]
        counts += kernels.count_entries(
            x[start : start + count],
            np.array([s.start - start for s in seg], np.int64),
            np.array([s.shift for s in seg], np.int64),
            np.array([firsts[s.cls] for s in seg], np.int64),
            np.array([layout.tables[s.cls] for s in seg], np.int64),
            layout.table_entries,
        )
    counts[firsts[-1] :] = count_rows(layout, Witness(layout, x))
    if counts.max() >= 1 << 31:
        raise UnusableInput("too many equal digits to prove in one piece")
    x[layout.multiplicity_start :] = counts
