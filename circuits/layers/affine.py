"""Linear and convolutional layers: three contractions that differ only in how the input is indexed."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np

from ..ir import DIGIT_BITS, DomainAxis, Form, Same, Source, Sum, View
from ..net import (
    FRACTION_BITS,
    I64,
    Contraction,
    Gradient,
    Net,
    exact_matmul,
    exact_terms,
    floor_limbs,
)
from ..value import Value
from ..wide import Limbs, limb_forms
from ..witness import Witness
from .base import Accumulators, Layer


class Affine(Layer):
    """Shared part of `Linear` and `Conv2d`.

    Subclasses describe the axes: `out_axes` (of the output without the batch), `weight_axes`, `private_axes` (of the
    weight, summed in the forward pass), `position_axes` (of the output that the weight lacks), `input_axes`, and the
    sources of the input's and the output's inner axes when they are read through the kernel.
    """

    out_axes: tuple[DomainAxis, ...]
    weight_axes: tuple[DomainAxis, ...]
    position_axes: tuple[DomainAxis, ...]
    input_axes: tuple[DomainAxis, ...]

    @abstractmethod
    def input_sources(self) -> tuple[Source, ...]:
        """Sources of the input's inner axes in terms of output and kernel axes."""

    @abstractmethod
    def output_sources(self) -> tuple[Source, ...]:
        """Sources of the output's inner axes in terms of input and kernel axes (for the input gradient)."""

    @abstractmethod
    def columns(self, x: I64) -> I64:
        """Input digits (d, B, ...) as (d, B * positions, summed)."""

    @abstractmethod
    def scatter_columns(self, limbs: list[I64], batch: int) -> list[I64]:
        """Transpose of `columns`: (B * positions, summed) limbs to (B, ...) input positions."""

    def declare_forward(self, net: Net, node: dict[str, Any], x: Value, weight_shape: tuple[int, ...]) -> None:
        self.name, self.x, self.net = node["name"], x, net
        self.weight_name, self.bias_name = node["weight"], node["bias"]
        split = 3 if len(self.weight_axes) == 3 and self.position_axes else None
        self.weight = net.weight(self.weight_name, weight_shape, split)
        b, p = net.batch_axis(), net.pass_axis()
        summed = self.weight_axes[1:]
        con = net.circuit.constraint(f"{self.name}/forward", (p, b, *self.out_axes), summed)
        inputs = x.limbs(net.over_passes, Same("b", net.batch), *self.input_sources())
        limbs = Limbs().add_product(inputs, limb_forms(self._weight_view()))
        if self.bias_name:
            self.bias = net.weight(self.bias_name, (self.out_axes[0].size,))
            bias = View(self.bias, (Same("pass", net.passes), Same("o", self.out_axes[0].size)))
            limbs.add_value(bias, 1, FRACTION_BITS)
        self.out = net.output(self.name, "z", (net.batch, *(a.size for a in self.out_axes)))
        self.y = self.out.value
        self.terms = exact_terms(x.peak(), 1 << 21)
        self.run = net.rescaled(con, self._outputs(self.y, net.over_passes), limbs, "z")

    def _weight_view(self) -> View:
        axes = (Same(a.name, a.size) for a in self.weight_axes)
        return View(self.weight, (Same("pass", self.net.passes), *axes))

    def _outputs(self, v: Value, first: Callable[[str], Source]) -> list[Form]:
        """Limbs of a value with the output's axes."""
        return v.limbs(first, Same("b", self.net.batch), *(Same(a.name, a.size) for a in self.out_axes))

    def declare_backward(self, net: Net, dy: Value, need_input: bool) -> None:
        self.dy = dy
        self.terms_back = exact_terms(dy.peak(), max(1 << 21, self.x.peak()))
        b, p = net.batch_axis(), net.pass_axis()
        if need_input:
            o = self.out_axes[0]
            kernel = tuple(a for a in self.weight_axes[1:] if a not in self.input_axes)
            con = net.circuit.constraint(f"{self.name}/input-gradient", (p, b, *self.input_axes), (o, *kernel))
            deltas = dy.limbs(net.over_passes, Same("b", net.batch), *self.output_sources())
            shape = (net.batch, *(a.size for a in self.input_axes))
            self.dx = net.activation(f"{self.name}/dx", shape)
            inner = (Same(a.name, a.size) for a in self.input_axes)
            out = View(self.dx.tensor, (Same("pass", net.passes), Same("b", net.batch), *inner))
            limbs = Limbs().add_product(deltas, limb_forms(self._weight_view()))
            self.run_input: Contraction = net.rescaled(con, out, limbs, "dx")

        def weight_limbs(source: Callable[[str], Source]) -> Limbs:
            inputs = self.x.limbs(source, Same("b", net.batch), *self.input_sources())
            return Limbs().add_product(self._outputs(dy, source), inputs)

        def bias_limbs(source: Callable[[str], Source]) -> Limbs:
            inner = (Same("o", self.out_axes[0].size), *(Sum(a.size) for a in self.position_axes))
            return Limbs().add(dy.whole(source, Sum(net.batch), *inner))

        net.gradients.append(Gradient(self.weight_name, self.weight_axes, (b, *self.position_axes), weight_limbs, True))
        if self.bias_name:
            net.gradients.append(Gradient(self.bias_name, self.out_axes[:1], (), bias_limbs, False))

    def _weight_matrix(self, w: Witness, p: int) -> I64:
        """Weight digits (d, out, summed)."""
        digits = w.array(self.weight)[:, p].astype(np.int64)
        return digits.reshape(len(digits), digits.shape[1], -1)

    def _to_output(self, flat: I64) -> I64:
        """(B * positions, O) to (B, O, positions)."""
        shape = self.y.shape
        return np.moveaxis(flat.reshape(shape[0], -1, shape[1]), 2, 1).reshape(shape)

    def _delta_rows(self, w: Witness, p: int) -> I64:
        """Output gradient digits (d, B * positions, O)."""
        d = self.dy.digits(w, p)
        return np.moveaxis(d.reshape(*d.shape[:3], -1), 2, 3).reshape(len(d), -1, d.shape[2])

    def forward(self, w: Witness, p: int) -> None:
        cols = self.columns(self.x.digits(w, p))
        products = exact_matmul(cols, np.swapaxes(self._weight_matrix(w, p), 1, 2), self.terms)
        limbs = products = [self._to_output(x) for x in products]
        if self.bias_name:
            bias = w.array(self.bias)[:, p].astype(np.int64)
            column = [bias[i].reshape(1, -1, *[1] * (limbs[0].ndim - 2)) << 10 for i in range(2)]
            limbs = [products[0], products[1] + column[0], products[2] + column[1]]
        z, rem = floor_limbs(limbs, 1 << 31, FRACTION_BITS, f"{self.name} output")
        self.out.put(w, z, p)
        self.run.fill(w, products, rem, "pass", p)

    def backward(self, w: Witness, p: int) -> Accumulators:
        rows = self._delta_rows(w, p)
        if self.dx is not None:
            flat = exact_matmul(rows, self._weight_matrix(w, p), self.terms_back)
            limbs = [x.reshape(self.dx.shape) for x in self.scatter_columns(flat, self.net.batch)]
            dx, rem = floor_limbs(limbs, 1 << 31, FRACTION_BITS, f"{self.name} input gradient")
            w.put(self.dx.tensor, dx, p)
            self.run_input.fill(w, limbs, rem, "pass", p)
        cols = self.columns(self.x.digits(w, p))
        shape = self.weight.shape
        out = {
            self.weight_name: [x.reshape(shape) for x in exact_matmul(np.swapaxes(rows, 1, 2), cols, self.terms_back)]
        }
        if self.bias_name:
            whole = sum(row.sum(axis=0) << (DIGIT_BITS * i) for i, row in enumerate(rows))
            out[self.bias_name] = [np.asarray(whole)]
        return out
