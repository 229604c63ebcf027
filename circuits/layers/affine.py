"""Linear and convolutional layers: three contractions that differ only in how the input is indexed."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from circuits.language.constraints import DomainAxis
from circuits.language.forms import Form, View
from circuits.language.sources import Same, Source, Sum
from circuits.language.tensors import DIGIT_BITS
from circuits.language.wide import Limbs, limb_forms
from prover.execution.witness import Witness
from prover.execution.workers import by_rows

from ..net import (
    F64,
    FRACTION_BITS,
    I64,
    Contraction,
    Gradient,
    Net,
    exact_matmul,
    exact_terms,
    floor_limbs,
)
from ..value import Ints, Value
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

    @abstractmethod
    def weight_order(self, flat: I64) -> I64:
        """(outputs, summed) in the order of `input_columns` to the weight's shape; a view."""

    def declare_forward(self, net: Net, node: dict[str, Any], x: Value, weight_shape: tuple[int, ...]) -> None:
        self.name, self.x, self.net = node["name"], x, net
        self.weight_name, self.bias_name = node["weight"], node["bias"]
        self.weight = net.weight(self.weight_name, weight_shape)
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
            net.gradients.append(Gradient(self.bias_name, self.out_axes[:1], (), bias_limbs, False, linear=True))

    # -- execution

    def forward(self, w: Witness, p: int) -> None:
        weights = [self.forward_matrix(w.digit(self.weight, d, p)) for d in range(2)]
        products = exact_matmul(self._input_columns(w, p), weights, self.terms)
        bias: list[I64] = []
        if self.bias_name:
            bias = [d.reshape(1, -1, *[1] * (len(self.y.shape) - 2)) << 10 for d in w.digits(self.bias, p)]

        def rescale(part: slice) -> None:
            own = by_sample(products, self.y.shape, part)
            limbs = [own[0], own[1] + bias[0], own[2] + bias[1]] if bias else own
            z, rem = floor_limbs(limbs, 1 << 31, FRACTION_BITS, f"{self.name} output")
            self.out.put(w, z, p, part)
            self.run.fill(w, own, rem, p, part)

        by_rows(self.y.shape, rescale)

    def backward(self, w: Witness, p: int) -> Accumulators:
        deltas = self.dy.digits(w, p)
        if self.dx is not None:
            self._input_gradient(w, p, self.dx, deltas)
        rows = [x.reshape(*x.shape[:2], -1).swapaxes(0, 1).reshape(x.shape[1], -1).astype(np.float64) for x in deltas]
        out = {
            self.weight_name: [
                self.weight_order(x) for x in exact_matmul(rows, self._input_columns(w, p), self.terms_back)
            ]
        }
        if self.bias_name:
            whole = sum(x.sum(axis=1).astype(np.int64) << (DIGIT_BITS * i) for i, x in enumerate(rows))
            out[self.bias_name] = [np.asarray(whole)]
        return out

    def _input_columns(self, w: Witness, p: int) -> list[F64]:
        return [self.input_columns(x) for x in self.x.digits(w, p)]

    def _input_gradient(self, w: Witness, p: int, dx: Value, deltas: list[Ints]) -> None:
        weights = [self.backward_matrix(w.digit(self.weight, d, p)) for d in range(2)]
        products = exact_matmul([self.output_columns(x) for x in deltas], weights, self.terms_back)

        def rescale(part: slice) -> None:
            limbs = by_sample(products, dx.shape, part)
            values, rem = floor_limbs(limbs, 1 << 31, FRACTION_BITS, f"{self.name} input gradient")
            w.put(dx.tensor, values, p, part)
            self.run_input.fill(w, limbs, rem, p, part)

        by_rows(dx.shape, rescale)


def by_sample(limbs: Sequence[I64], shape: tuple[int, ...], part: slice) -> list[I64]:
    """Samples `part` of (B * positions, channels) limbs, as (samples, *shape[1:])."""
    return [x.reshape(shape[0], -1, x.shape[1])[part].swapaxes(1, 2).reshape(-1, *shape[1:]) for x in limbs]
