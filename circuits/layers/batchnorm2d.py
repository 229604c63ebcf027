"""Batch-norm in evaluation mode: per channel a public mean m and factor A = 1 / sqrt(var + eps), both in Q32.

    u = rescale(gamma A),   y = rescale(u (x - m) + 2^32 beta),   dx = rescale(u dy),
    h = rescale(sum dy (x - m)),   accumulator of gamma = A h,   of beta = sum dy.

gamma and beta are parameters like any other. Per activation one rescaling each way; u and h are small.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from circuits.language.constraints import DomainAxis
from circuits.language.forms import Form, View
from circuits.language.sources import Same, Scaled, Source, Sum
from circuits.language.tensors import B22, DIGIT_BITS, balanced, radix
from circuits.language.wide import Limbs

from ..net import FRACTION_BITS, Contraction, Gradient, Net
from ..value import Value
from .base import Layer

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
