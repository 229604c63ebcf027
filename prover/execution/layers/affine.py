"""Linear and convolutional layers: exact matrix products of digits, rescaled."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from circuits.language.tensors import DIGIT_BITS
from circuits.layers.affine import Affine
from circuits.net import FRACTION_BITS
from circuits.value import Value

from ..arithmetic import F64, I64, exact_matmul, exact_terms, floor_limbs
from ..values import fill_contraction, peak, put_output, value_limbs
from ..witness import Witness
from ..workers import by_rows
from .base import Accumulators, Executor

Ints = NDArray[np.int32] | NDArray[np.int64]


class AffineExecutor(Executor):
    """Shared part of linear and convolutional layers: how digits become matrices is left to them."""

    layer: Affine

    @property
    def terms(self) -> int:
        """How many products the forward sums add up in float64."""
        return exact_terms(peak(self.layer.x), 1 << 21)

    @property
    def terms_back(self) -> int:
        """The same for both gradients."""
        return exact_terms(peak(self.layer.dy), max(1 << 21, peak(self.layer.x)))

    # Matrices of a layer with groups have these in front, as a further axis.

    @abstractmethod
    def input_columns(self, x: Ints) -> F64:
        """An input digit (B, ...) as (B * positions, summed)."""

    @abstractmethod
    def forward_matrix(self, weight: Ints) -> F64:
        """A weight digit as (summed, outputs)."""

    @abstractmethod
    def output_columns(self, dy: Ints) -> F64:
        """A digit of the output gradient (B, ...) as (B * input positions, summed), for the input gradient."""

    @abstractmethod
    def backward_matrix(self, weight: Ints) -> F64:
        """A weight digit as (summed, inputs), for the input gradient."""

    def forward(self, w: Witness, p: int) -> None:
        weights = [self.forward_matrix(w.digit(self.layer.weight, d, p)) for d in range(2)]
        products = exact_matmul(self._input_columns(w, p), weights, self.terms)
        bias: list[I64] = []
        if self.layer.bias_name:
            bias = [d.reshape(1, -1, *[1] * (len(self.layer.y.shape) - 2)) << 10 for d in w.digits(self.layer.bias, p)]

        def rescale(part: slice) -> None:
            own = by_sample(products, self.layer.y.shape, part)
            limbs = [own[0], own[1] + bias[0], own[2] + bias[1]] if bias else own
            z, rem = floor_limbs(limbs, 1 << 31, FRACTION_BITS, f"{self.layer.name} output")
            put_output(self.layer.out, w, z, p, part)
            fill_contraction(self.layer.run, w, own, rem, p, part)

        by_rows(self.layer.y.shape, rescale)

    def backward(self, w: Witness, p: int) -> Accumulators:
        deltas = value_limbs(self.layer.dy, w, p)
        if self.layer.dx is not None:
            self._input_gradient(w, p, self.layer.dx, deltas)
        rows = [x.reshape(*x.shape[:2], -1).swapaxes(0, 1).reshape(x.shape[1], -1).astype(np.float64) for x in deltas]
        groups = [axis.size for axis in self.layer.shared]
        grouped = [x.reshape(*groups, -1, x.shape[1]) for x in rows]
        sums = exact_matmul(grouped, self._input_columns(w, p), self.terms_back)
        out = {self.layer.weight_name: [x.reshape(self.layer.weight.shape) for x in sums]}
        if self.layer.bias_name:
            whole = sum(x.sum(axis=1).astype(np.int64) << (DIGIT_BITS * i) for i, x in enumerate(rows))
            out[self.layer.bias_name] = [np.asarray(whole)]
        return out

    def _input_columns(self, w: Witness, p: int) -> list[F64]:
        return [self.input_columns(x) for x in value_limbs(self.layer.x, w, p)]

    def _input_gradient(self, w: Witness, p: int, dx: Value, deltas: list[Ints]) -> None:
        weights = [self.backward_matrix(w.digit(self.layer.weight, d, p)) for d in range(2)]
        products = exact_matmul([self.output_columns(x) for x in deltas], weights, self.terms_back)

        def rescale(part: slice) -> None:
            limbs = by_sample(products, dx.shape, part)
            values, rem = floor_limbs(limbs, 1 << 31, FRACTION_BITS, f"{self.layer.name} input gradient")
            w.put(dx.tensor, values, p, part)
            fill_contraction(self.layer.run_input, w, limbs, rem, p, part)

        by_rows(dx.shape, rescale)


def by_sample(limbs: Sequence[I64], shape: tuple[int, ...], part: slice) -> list[I64]:
    """Samples `part` of (B * positions, channels) limbs, perhaps of groups, as (samples, *shape[1:])."""
    groups = limbs[0].shape[0] if limbs[0].ndim == 3 else 1
    own = [x.reshape(groups, shape[0], -1, x.shape[-1])[:, part] for x in limbs]
    return [x.transpose(1, 0, 3, 2).reshape(-1, *shape[1:]) for x in own]
