"""Batch-norm in evaluation mode: per channel a public mean m and factor A = 1 / sqrt(var + eps), both in Q32.

    u = rescale(gamma A),   y = rescale(u (x - m) + 2^32 beta),   dx = rescale(u dy),
    h = rescale(sum dy (x - m)),   accumulator of gamma = A h,   of beta = sum dy.

gamma and beta are parameters like any other. Per activation one rescaling each way; u and h are small.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from circuits.language.constraints import DomainAxis
from circuits.language.forms import Form, View
from circuits.language.sources import Same, Scaled, Source, Sum
from circuits.language.tensors import B22, DIGIT_BITS, balanced, radix
from circuits.language.wide import Limbs
from prover.execution.witness import Witness
from prover.execution.workers import by_rows

from ..net import FRACTION_BITS, I64, Contraction, Gradient, Net, floor_limbs, limb_products
from ..value import Value
from .base import Accumulators, Layer

HALF = 1 << 31
SCALE = radix(B22, balanced(17))  # |u| < 2^38, that is 64: products with values need one carry less than with VALUE
LOW = (1 << DIGIT_BITS) - 1


def split(values: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Two limbs of integers in [0, 2^44)."""
    return [tuple([v & LOW for v in values]), tuple([v >> DIGIT_BITS for v in values])]


class BatchNorm2d(Layer):
    op = "batchnorm2d"

    def __init__(self, net: Net, node: dict[str, Any], x: Value, shape: tuple[int, ...]) -> None:
        """The node carries the public integers of `Model.norms` as "factors" (A) and "means" (m)."""
        self.name, self.net, self.x, self.shape = node["name"], net, x, shape
        self.weight_name, self.bias_name = node["weight"], node["bias"]
        factors, means = tuple(node["factors"]), tuple(node["means"])
        self.b, self.c = net.batch_axis(), DomainAxis("c", x.shape[1])
        self.s = DomainAxis("s", x.shape[2])
        self.factors = split(factors)
        self.signed_means = [
            (sign, k, limb)
            for sign in (1, -1)
            for k, limb in enumerate(split(tuple([sign * m if sign * m > 0 else 0 for m in means])))
            if any(limb)
        ]
        p, c = net.pass_axis(), self.c.size
        self.weight, self.bias = net.weight(self.weight_name, (c,)), net.weight(self.bias_name, (c,))

        con = net.circuit.constraint(f"{self.name}/scale", (p, self.c))
        self.u = Value.of(net.circuit.tensor(f"{self.name}/u", net.passes, (c,), SCALE))
        limbs = self._multiple(self.weight, net.over_passes)
        self.run_u = net.rescaled(con, self.u.limbs(net.over_passes, self._channels()), limbs, "u")

        con = net.circuit.constraint(f"{self.name}/forward", (p, self.b, self.c, self.s))
        limbs = Limbs().add_product(self._scale(), self._entries(x, net.over_passes))
        self._subtract_mean(limbs, self.u, net.over_passes)
        limbs.add_value(View(self.bias, (Same("pass", net.passes), self._channels())), 1, FRACTION_BITS)
        self.out = net.output(self.name, "y", x.shape)
        self.y = self.out.value
        self.run = net.rescaled(con, self._entries(self.y, net.over_passes), limbs, "y")

    def _channels(self) -> Same:
        return Same("c", self.c.size)

    def _entries(self, v: Value, first: Callable[[str], Source]) -> list[Form]:
        """Limbs of a value (batch, channels, positions)."""
        return v.limbs(first, Same("b", self.b.size), self._channels(), Same("s", self.s.size))

    def _scale(self) -> list[Form]:
        return self.u.limbs(self.net.over_passes, self._channels())

    def _multiple(self, t: Any, first: Callable[[str], Source]) -> Limbs:
        """A times the values of a tensor (passes, channels)."""
        limbs = Limbs()
        for k, weights in enumerate(self.factors):
            limbs.add_value(View(t, (first("pass"), Scaled("c", weights, self.c.size))), 1, DIGIT_BITS * k)
        return limbs

    def _subtract_mean(self, limbs: Limbs, v: Value, first: Callable[[str], Source]) -> None:
        """Subtract m times a value, summed over batch and positions if it has them."""
        for sign, k, weights in self.signed_means:
            inner: tuple[Source, ...] = (Scaled("c", weights, self.c.size),)
            if len(v.shape) > 1:
                inner = (Sum(self.b.size), *inner, Sum(self.s.size))
            for i, form in enumerate(v.limbs(first, *inner)):
                limbs.add(form * -sign, DIGIT_BITS * (k + i))

    def declare_backward(self, net: Net, dy: Value, need_input: bool) -> None:
        self.dy = dy
        p = net.pass_axis()
        if need_input:
            con = net.circuit.constraint(f"{self.name}/input-gradient", (p, self.b, self.c, self.s))
            self.dx = net.activation(f"{self.name}/dx", self.x.shape)
            limbs = Limbs().add_product(self._scale(), self._entries(dy, net.over_passes))
            self.run_input: Contraction = net.rescaled(con, self._entries(self.dx, net.over_passes), limbs, "dx")
        con = net.circuit.constraint(f"{self.name}/sums", (p, self.c), (self.b, self.s))
        self.h = net.activation(f"{self.name}/h", (self.c.size,))
        limbs = Limbs().add_product(self._entries(dy, net.over_passes), self._entries(self.x, net.over_passes))
        self._subtract_mean(limbs, dy, net.over_passes)
        self.run_h = net.rescaled(con, self.h.limbs(net.over_passes, self._channels()), limbs, "h")

        def weight_limbs(source: Callable[[str], Source]) -> Limbs:
            return self._multiple(self.h.tensor, source)

        def bias_limbs(source: Callable[[str], Source]) -> Limbs:
            return Limbs().add(dy.whole(source, Sum(self.b.size), self._channels(), Sum(self.s.size)))

        net.gradients.append(Gradient(self.weight_name, (self.c,), (), weight_limbs, True, linear=True))
        net.gradients.append(Gradient(self.bias_name, (self.c,), (), bias_limbs, False, linear=True))

    # -- execution

    def _times_factor(self, digits: list[I64]) -> list[I64]:
        return limb_products(digits, [np.array(weights, np.int64) for weights in self.factors])

    def _minus_mean(self, limbs: list[I64], digits: list[I64]) -> list[I64]:
        """limbs - m * digits, all (channels,); at most one limb more."""
        out = [*limbs, *[np.zeros(self.c.size, np.int64)] * (len(digits) + 1 - len(limbs))]
        for sign, k, weights in self.signed_means:
            for i, d in enumerate(digits):
                out[k + i] = out[k + i] - sign * np.array(weights, np.int64) * d
        return out

    def forward(self, w: Witness, p: int) -> None:
        whole = slice(0, self.c.size)
        products = self._times_factor(w.digits(self.weight, p))
        u, rem = floor_limbs(products, HALF, FRACTION_BITS, f"scale of {self.name}", limit=38)
        w.put(self.u.tensor, u, p)
        self.run_u.fill(w, [], rem, p, whole)
        scale, bias = [d.astype(np.int64) for d in self.u.digits(w, p)], w.digits(self.bias, p)
        zero = np.zeros(self.c.size, np.int64)
        shift = self._minus_mean([zero, bias[0] << 10, bias[1] << 10], scale)
        x = self.x.digits(w, p)

        def run(part: slice) -> None:
            own = limb_products([d[:, None] for d in scale], [d[part].astype(np.int64) for d in x])
            own += [np.zeros_like(own[0])] * (len(shift) - len(own))
            limbs = [a + b[:, None] for a, b in zip(own[: len(shift)], shift, strict=True)] + own[len(shift) :]
            y, rem = floor_limbs(limbs, HALF, FRACTION_BITS, f"{self.name} output")
            self.out.put(w, y, p, part)
            self.run.fill(w, own, rem, p, part)

        by_rows(self.x.shape, run)

    def backward(self, w: Witness, p: int) -> Accumulators:
        dy, x = self.dy.digits(w, p), self.x.digits(w, p)
        if (dx := self.dx) is not None:
            scale = [d.astype(np.int64)[:, None] for d in self.u.digits(w, p)]

            def run(part: slice) -> None:
                limbs = limb_products(scale, [d[part].astype(np.int64) for d in dy])
                values, rem = floor_limbs(limbs, HALF, FRACTION_BITS, f"{self.name} input gradient")
                w.put(dx.tensor, values, p, part)
                self.run_input.fill(w, limbs, rem, p, part)

            by_rows(dx.shape, run)
        products = [np.zeros(self.c.size, np.int64) for _ in range(len(dy) + len(x) - 1)]
        sums = [np.zeros(self.c.size, np.int64) for _ in dy]
        for sample in range(self.b.size):
            d = [limb[sample].astype(np.int64) for limb in dy]
            for total, limb in zip(sums, d, strict=True):
                total += limb.sum(axis=1)
            for total, limb in zip(products, limb_products(d, [limb[sample] for limb in x]), strict=True):
                total += limb.sum(axis=1)
        limbs = self._minus_mean(products, sums)
        h, rem = floor_limbs(limbs, HALF, FRACTION_BITS, f"gradient of {self.name}")
        w.put(self.h.tensor, h, p)
        self.run_h.fill(w, products, rem, p, slice(0, self.c.size))
        bias = sum(total << (DIGIT_BITS * i) for i, total in enumerate(sums))
        return {
            self.weight_name: self._times_factor(w.digits(self.h.tensor, p)),
            self.bias_name: [np.asarray(bias)],
        }
