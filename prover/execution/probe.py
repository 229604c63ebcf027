"""How the steps of the probe are filled."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from circuits.language.tensors import DIGIT_BITS, Tensor
from circuits.net import Contraction
from circuits.probe import STEP_BITS, Parameter

from .arithmetic import I64, floor_limbs, limb_products
from .values import fill_contraction
from .witness import Witness
from .workers import by_rows


class ParameterExecutor:
    """Gradients, squares, perturbations and updates of one parameter."""

    def __init__(self, parameter: Parameter) -> None:
        self.parameter = parameter

    def first_pass(self, w: Witness, t: int, acc: list[I64]) -> None:
        """Gradient, E, V and squares of step t from the accumulator of pass 2 t."""
        name = self.parameter.g.name
        jobs: list[tuple[Tensor, Tensor, Contraction, str]] = []
        if self.parameter.e is not self.parameter.grad:
            jobs.append((self.parameter.grad, self.parameter.e, self.parameter.run_e, "w * g"))
            if t + 1 < self.parameter.net.steps:
                jobs.append((self.parameter.e, self.parameter.v, self.parameter.run_v, "w * w * g"))

        def run(rows: slice) -> None:
            own = [np.ascontiguousarray(x[rows]) for x in acc]
            if (contraction := self.parameter.run_gradient) is None:
                w.put(self.parameter.grad, own[0], t, rows)
            else:
                g, rem = floor_limbs(own, 1 << 31, 32, f"gradient of {name}")
                w.put(self.parameter.grad, g, t, rows)
                fill_contraction(contraction, w, _products(contraction, own), rem, t, rows)
            scale = self._scale(w, t, rows)
            for source, out, contraction, what in jobs:
                digits = w.digits(source, t, rows)
                products = limb_products(scale, digits)
                x, rem = floor_limbs(self._shifted(products, digits), 1 << 31, 32, f"{what} of {name}")
                w.put(out, x, t, rows)
                fill_contraction(contraction, w, products, rem, t, rows)
            if len(self.parameter.shape) > 1:
                self._fill_squares(w, t, rows)

        by_rows(self.parameter.shape, run)
        if len(self.parameter.shape) == 1:
            self._fill_squares(w, t, None)

    def _scale(self, w: Witness, t: int, rows: slice) -> list[I64]:
        """Limbs of w_t, or of its magnitude, which is filled."""
        if not self.parameter.shift:
            return w.digits(self.parameter.weight, 2 * t, rows)
        value = w.value(self.parameter.weight, 2 * t, rows)
        sign = (value > 0).astype(np.int64)
        w.put(self.parameter.sign, sign, t, rows)
        w.put(self.parameter.magnitude, abs(value) - sign, t, rows)
        low, high = w.digits(self.parameter.magnitude, t, rows)
        return [low + sign, high]

    def _shifted(self, products: Sequence[I64], digits: Sequence[I64]) -> Sequence[I64]:
        """Limbs of the products with T_w, from those with w or |w|."""
        shift, mask = self.parameter.shift or 0, (1 << DIGIT_BITS) - 1
        if not shift:
            return products
        added = limb_products([np.array(shift & mask), np.array(shift >> DIGIT_BITS)], digits)
        return [a + b for a, b in zip(products, added, strict=True)]

    def _fill_squares(self, w: Witness, t: int, rows: slice | None) -> None:
        e = w.digits(self.parameter.e, t, rows)
        axes = tuple(range(1, len(self.parameter.shape))) if len(self.parameter.shape) > 1 else (0,)
        for s, (i, j) in zip(self.parameter.squares, ((0, 0), (0, 1), (1, 1)), strict=True):
            w.put(s.tensor, (e[i] * e[j]).sum(axis=axes), t, rows)

    def perturb(self, w: Witness, t: int, q: int) -> None:
        """Weights of pass 2 t + 1."""
        limbs = balanced_limbs(q)

        def run(rows: slice) -> None:
            products = limb_products(limbs, w.digits(self.parameter.v, t, rows))
            d, rem = floor_limbs(products, 1 << (STEP_BITS - 1), STEP_BITS, f"perturbation of {self.parameter.g.name}")
            w.put(self.parameter.weight, w.value(self.parameter.weight, 2 * t, rows) + d, 2 * t + 1, rows)
            fill_contraction(self.parameter.run_perturbation, w, products, rem, t, rows)

        by_rows(self.parameter.shape, run)

    def norm(self, w: Witness, t: int) -> int:
        """sum E^2 of step t, exact."""
        return sum(
            sum(w.value(s.tensor, t).ravel().tolist()) << power
            for s, power in zip(self.parameter.squares, (0, 23, 44), strict=True)
        )

    def second_pass(self, w: Witness, t: int, acc: list[I64]) -> None:
        """Weights of pass 2 t + 2 from the accumulator of pass 2 t + 1."""
        d = self.parameter.divisor

        def run(rows: slice) -> None:
            own = [np.ascontiguousarray(x[rows]) for x in acc]
            if self.parameter.g.scaled:
                # floor(x / (2^32 D)) = floor(floor(x / 2^32) / D)
                high, low = floor_limbs(
                    own, (d << 32) // 2, 32, f"second gradient of {self.parameter.g.name}", limit=52
                )
                u, rest = np.divmod(high, d)
                rest = low + (rest << 32)
            else:
                u, rest = np.divmod(own[0] + d // 2, d)
            w.put(self.parameter.weight, w.value(self.parameter.weight, 2 * t, rows) - u, 2 * t + 2, rows)
            fill_contraction(self.parameter.run_update, w, _products(self.parameter.run_update, own), rest, t, rows)

        by_rows(self.parameter.shape, run)


def balanced_limbs(q: int) -> list[I64]:
    """q as limbs worth 2^(22 k), as in its tensor: the first two in [-2^21, 2^21)."""
    half, limbs = 1 << (DIGIT_BITS - 1), []
    for _ in range(2):
        low = ((q + half) & (2 * half - 1)) - half
        limbs.append(np.array(low))
        q = (q - low) >> DIGIT_BITS
    return [*limbs, np.array(q)]


def _products(run: Contraction, accumulator: list[I64]) -> list[I64]:
    """The bilinear part of the limbs of an accumulator: all of it, or nothing where it holds no products."""
    return accumulator if any(e.products for _, e in run.con.members) else []
