"""The prover's side of a product sum-check."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from circuits.protocol import ProductJob
from circuits.witness import Witness
from zkcert.core import field as ff
from zkcert.core.field import F

from . import kernels
from .tables import form_table


class Products:
    """Tables of one product sum-check."""

    def __init__(self, job: ProductJob, witness: Witness) -> None:
        self.job = job
        self.pairs = [(form_table(witness, a, job), form_table(witness, b, job)) for a, b in job.pairs]
        self.left = sum(ax.bits for ax in job.kept)
        self.levels = kernels.eq_levels(job.eq_point, 1 << len(job.eq_point))

    def total(self) -> F:
        """sum_s e(s) sum_k A_k(s) B_k(s): t(0) of the round kernel over even, then over odd entries."""
        if self.left == 0:
            return sum((ff.f_item(a, 0) * ff.f_item(b, 0) for a, b in self.pairs), F.ZERO)
        eq, plain = self.levels[-1], self.left - len(self.job.eq_point)
        even, odd = (eq, eq) if plain else kernels.split_children(eq, F.ZERO)
        shift = max(plain - 1, 0)
        out = F.ZERO
        for a, b in self.pairs:
            out = out + kernels.product_round(even, shift, a, b)[0]
            a, b = np.roll(a, -1, axis=1), np.roll(b, -1, axis=1)
            out = out + kernels.product_round(odd, shift, a, b)[0]
        return out

    def round(self, eq_point: Sequence[F] | None) -> tuple[F, F]:
        if eq_point is None:
            e = self.levels[-1]
            shift = self.left - 1 - len(self.job.eq_point)
        else:
            e, shift = self.levels[len(eq_point)], 0
        t0 = tinf = F.ZERO
        for a, b in self.pairs:
            x, y = kernels.product_round(e, shift, a, b)
            t0, tinf = t0 + x, tinf + y
        return t0, tinf

    def bind(self, r: F) -> None:
        self.pairs = [(kernels.bind(a, r, F.ZERO), kernels.bind(b, r, F.ZERO)) for a, b in self.pairs]
        self.left -= 1

    def finals(self) -> list[tuple[F, F]]:
        return [(ff.f_item(a, 0), ff.f_item(b, 0)) for a, b in self.pairs]
