"""Linear and convolutional layers: three contractions that differ only in how the input is indexed."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..ir import DomainAxis, Form, Same, Source, Sum, View
from ..net import (
    F64,
    FRACTION_BITS,
    I32,
    I64,
    VALUE,
    Contraction,
    Gradient,
    Net,
    Value,
    exact_matmul,
    floor_limbs,
    product_limbs,
)
from ..wide import Limbs
from ..witness import Witness
from ..workers import by_rows
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
    def input_columns(self, x: I32) -> F64:
        """An input digit (B, ...) as (B * positions, summed)."""

    @abstractmethod
    def forward_matrix(self, weight: I32) -> F64:
        """A weight digit as (summed, outputs)."""

    @abstractmethod
    def output_columns(self, dy: I32) -> F64:
        """A digit of the output gradient (B, ...) as (B * input positions, summed), for the input gradient."""

    @abstractmethod
    def backward_matrix(self, weight: I32) -> F64:
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
        limbs = product_limbs(
            View(x.tensor, (net.over_passes(x), Same("b", net.batch), *self.input_sources())),
            self._weight_view(),
        )
        if self.bias_name:
            self.bias = net.weight(self.bias_name, (self.out_axes[0].size,))
            bias = View(self.bias, (Same("pass", net.passes), Same("o", self.out_axes[0].size)))
            limbs.add_value(bias, 1, FRACTION_BITS)
        self.y = net.activation(f"{self.name}/z", (net.batch, *(a.size for a in self.out_axes)))
        self.run = net.rescaled(con, self._output_view("pass"), limbs, "z")

    def _weight_view(self) -> View:
        axes = (Same(a.name, a.size) for a in self.weight_axes)
        return View(self.weight, (Same("pass", self.net.passes), *axes))

    def _output_view(self, first: str) -> View:
        inner = (Same(a.name, a.size) for a in self.out_axes)
        return View(self.y.tensor, (Same(first, self.net.passes), Same("b", self.net.batch), *inner))

    def declare_backward(self, net: Net, dy: Value, need_input: bool) -> None:
        self.dy = dy
        b, p = net.batch_axis(), net.pass_axis()
        if need_input:
            o = self.out_axes[0]
            kernel = tuple(a for a in self.weight_axes[1:] if a not in self.input_axes)
            con = net.circuit.constraint(f"{self.name}/input-gradient", (p, b, *self.input_axes), (o, *kernel))
            view = View(dy.tensor, (net.over_passes(dy), Same("b", net.batch), *self.output_sources()))
            shape = (net.batch, *(a.size for a in self.input_axes))
            self.dx = net.activation(f"{self.name}/dx", shape)
            inner = (Same(a.name, a.size) for a in self.input_axes)
            out = View(self.dx.tensor, (Same("pass", net.passes), Same("b", net.batch), *inner))
            self.run_input: Contraction = net.rescaled(con, out, product_limbs(view, self._weight_view()), "dx")

        def weight_limbs(source: Callable[[str], Source]) -> Limbs:
            inner = (Same(a.name, a.size) for a in self.out_axes)
            d = View(dy.tensor, (source(dy.per), Same("b", net.batch), *inner))
            x = View(self.x.tensor, (source(self.x.per), Same("b", net.batch), *self.input_sources()))
            return product_limbs(d, x)

        def bias_limbs(source: Callable[[str], Source]) -> Limbs:
            inner = (Same("o", self.out_axes[0].size), *(Sum(a.size) for a in self.position_axes))
            view = View(dy.tensor, (source(dy.per), Sum(net.batch), *inner))
            total = Form()
            for i, digit in enumerate(VALUE):
                total = total + view.digit(i, 1 << digit.shift)
            return Limbs().add(total)

        net.gradients.append(Gradient(self.weight_name, self.weight_axes, (b, *self.position_axes), weight_limbs, True))
        if self.bias_name:
            net.gradients.append(Gradient(self.bias_name, self.out_axes[:1], (), bias_limbs, False))

    # -- execution

    def forward(self, w: Witness, p: int) -> None:
        weights = [self.forward_matrix(w.digit(self.weight, d, p)) for d in range(2)]
        products = exact_matmul(self._input_columns(w, p), weights)
        bias: list[I64] = []
        if self.bias_name:
            bias = [d.reshape(1, -1, *[1] * (len(self.y.shape) - 2)) << 10 for d in w.digits(self.bias, p)]

        def rescale(part: slice) -> None:
            own = by_sample(products, self.y.shape, part)
            limbs = [own[0], own[1] + bias[0], own[2] + bias[1]] if bias else own
            z, rem = floor_limbs(limbs, 1 << 31, FRACTION_BITS, f"{self.name} output")
            w.put(self.y.tensor, z, p, part)
            self.run.fill(w, own, rem, p, part)

        by_rows(self.y.shape, rescale)

    def backward(self, w: Witness, p: int) -> Accumulators:
        deltas = [w.digit(self.dy.tensor, d, self.dy.index(p)) for d in range(2)]
        if self.dx is not None:
            self._input_gradient(w, p, self.dx, deltas)
        rows = [x.reshape(*x.shape[:2], -1).swapaxes(0, 1).reshape(x.shape[1], -1).astype(np.float64) for x in deltas]
        out = {self.weight_name: [self.weight_order(x) for x in exact_matmul(rows, self._input_columns(w, p))]}
        if self.bias_name:
            whole = sum(x.sum(axis=1).astype(np.int64) << d.shift for x, d in zip(rows, VALUE, strict=True))
            out[self.bias_name] = [np.asarray(whole)]
        return out

    def _input_columns(self, w: Witness, p: int) -> list[F64]:
        return [self.input_columns(w.digit(self.x.tensor, d, self.x.index(p))) for d in range(2)]

    def _input_gradient(self, w: Witness, p: int, dx: Value, deltas: list[I32]) -> None:
        weights = [self.backward_matrix(w.digit(self.weight, d, p)) for d in range(2)]
        products = exact_matmul([self.output_columns(x) for x in deltas], weights)

        def rescale(part: slice) -> None:
            limbs = by_sample(products, dx.shape, part)
            values, rem = floor_limbs(limbs, 1 << 31, FRACTION_BITS, f"{self.name} input gradient")
            w.put(dx.tensor, values, p, part)
            self.run_input.fill(w, limbs, rem, p, part)

        by_rows(dx.shape, rescale)


def by_sample(limbs: Sequence[I64], shape: tuple[int, ...], part: slice) -> list[I64]:
    """Samples `part` of (B * positions, channels) limbs, as (samples, *shape[1:])."""
    return [x.reshape(shape[0], -1, x.shape[1])[part].swapaxes(1, 2).reshape(-1, *shape[1:]) for x in limbs]
