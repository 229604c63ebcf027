"""A tree over digits that is shared by 2^b workers: worker w has the digits whose numbers end with the b bits of w.

A level's node is the sum of two that are half the level apart, so each worker has a whole tree, and the driver one over
their roots. Variables are bound from the most significant: all but the last b rounds of a layer are sums of what the
workers say, each times eq of its number, and the last b are over one entry of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from circuits.language.layout import Layout, prefix_eq
from circuits.language.tensors import ceil_log2
from prover.trees import Layer, Rounds, Tree, leaf_bases
from zkcert.core import field as ff
from zkcert.core.field import F

if TYPE_CHECKING:
    from .driver import Cluster

U64 = NDArray[np.uint64]


class SharedLayer(Rounds):
    """A layer's sum-check, or that of the leaves; `children` as those of `Layer`."""

    def __init__(self, tree: SharedTree, point: Sequence[F], lam: F, claim: F, leaves: bool = False) -> None:
        super().__init__(point, claim)
        self.cluster, self.workers, self.lam, self.is_leaves = tree.cluster, tree.workers, lam, leaves
        self.local = len(point) - tree.bits  # rounds of the workers
        self.shares = ff.f_list(ff.eq_table(self.point[self.local :]))
        self.tables: U64 | None = None  # (2, factors, workers), of which two neighbours each are multiplied
        self._ask("descend", list(self.point[: self.local]), lam, leaves)

    def _ask(self, method: str, *arguments: Any) -> list[Any]:
        return self.cluster.get([self.cluster.ask(w, method, *arguments) for w in self.workers])

    def _last(self) -> F | None:
        """What the workers have not bound yet."""
        return self.r if self.number else None

    def _own(self) -> U64:
        """The workers' last values, of which the driver goes on."""
        if self.tables is None:
            self.tables = np.stack([ff.f_array(own) for own in self._ask("finals", self._last())], axis=2)
        return self.tables

    def sums(self) -> tuple[F, F]:
        if self.number < self.local:
            parts = self._ask("sum_round", self._last())
            weighed = [(e * t0, e * tinf) for e, (t0, tinf) in zip(self.shares, parts, strict=True)]
            return sum((t for t, _ in weighed), F.ZERO), sum((t for _, t in weighed), F.ZERO)
        zero, one = np.split(self._own(), 2, axis=2)
        eq = ff.eq_table(self.point[self.number + 1 :])
        sums = []
        for x in (zero, ff.f_sub(one, zero)):
            products = ff.f_sum(ff.f_mul(x[:, ::2], x[:, 1::2]), axis=1)
            sums.append(ff.f_item(ff.f_sum(ff.f_mul(products, eq))))
        return sums[0], sums[1]

    def advance(self, r: F) -> None:
        if self.number >= self.local:
            zero, one = np.split(self._own(), 2, axis=2)
            self.tables = ff.f_add(zero, ff.f_mul_scalar(ff.f_sub(one, zero), r))
        super().advance(r)

    def finals(self) -> list[tuple[F, F]]:
        """As those of `Layer` and `LeafLayer`."""
        values = ff.f_list(np.ascontiguousarray(self._own()[:, :, 0]))
        if not self.is_leaves:
            p0, q1, u, q0 = values
            self.children = (p0, q0), (u - self.lam * q1, q1)
        return list(zip(values[::2], values[1::2], strict=True))


class SharedTree(Tree):
    """As `prover.trees.DigitTree`, over the digits x[start:start + count] of X."""

    def __init__(
        self, cluster: Cluster, bits: int, layout: Layout, x: NDArray[np.int32], alpha: F, start: int, count: int
    ) -> None:
        """bits: below log2 of the padded count."""
        self.cluster, self.bits, self.workers = cluster, bits, range(1 << bits)
        self.count, depth = count, ceil_log2(count)
        starts, bases = leaf_bases(layout, alpha, start, count)
        roots = []
        for w in self.workers:
            mine = np.ascontiguousarray(x[start + w : start + count : 1 << bits])
            own = -(-(starts - w) >> bits)  # the first of its digits that are not before
            roots.append(cluster.ask(w, "plant", mine, np.maximum(own, 0), bases, 1 << depth - bits))
        fractions = [np.concatenate((ff.f_array([p]), ff.f_array([q]))) for p, q in cluster.get(roots)]
        self.half = 1 << depth - 1
        super().__init__(np.ascontiguousarray(np.concatenate(fractions, axis=1)), bits)

    def layer(self, point: Sequence[F], lam: F) -> Layer | SharedLayer:
        if self.levels:
            return super().layer(point, lam)
        self.last = SharedLayer(self, point, lam, self.claim(point, lam))
        return self.last

    def leaves(self, point: Sequence[F], lam: F) -> SharedLayer:
        claim = lam * self.claim(point, lam) + prefix_eq(list(point), self.count - self.half)
        return SharedLayer(self, point, lam, claim, leaves=True)
