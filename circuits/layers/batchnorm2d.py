"""Batch-norm in evaluation mode, of images or features, with a public mean m and factor A = 1 / sqrt(var + eps) per
channel, both in Q32:

    u = rescale(gamma A),   y = rescale(u (x - m) + 2^32 beta),   dx = rescale(u dy),
    h = rescale(sum dy (x - m)),   accumulator of gamma = A h,   of beta = sum dy.

gamma and beta are parameters like any other. Per activation one rescaling each way; u and h are small.
"""

from __future__ import annotations

from fractions import Fraction
from functools import partial
from math import isqrt

import numpy as np

from circuits.language.sources import Axis, Scaled, Source, Sum
from circuits.language.tensors import B22, DIGIT_BITS, balanced, radix
from circuits.language.wide import Limbs
from zkcert.errors import RangeOverflow, UnusableInput

from ..net import FRACTION_BITS, VALUE_LIMIT, Gradient, Net, summed_gradient
from ..value import Unrolled, Value
from .base import Layer
from .spec import Array, Arrays, LayerSpec, Node, Number, require_channels

SCALE = radix(B22, balanced(17))  # |u| < 2^38, that is 64: products with values need one carry less than with VALUE
SCALE_LIMIT = 64.0
LOW = (1 << DIGIT_BITS) - 1


def split(values: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Two limbs of integers in [0, 2^44)."""
    return [tuple([v & LOW for v in values]), tuple([v >> DIGIT_BITS for v in values])]


def _constants(node: Node, tensors: Arrays) -> dict[str, list[int]]:
    """A = floor(2^32 / sqrt(var + eps) + 1/2) and m = floor(mean 2^32 + 1/2), from the exact values of the floats and
    the shortest decimal of eps. RangeOverflow from A = 2^43 or |m| = 2^43 on, and for scales of 64 and more."""
    eps, variances = Fraction(repr(node["eps"])), tensors[node["var"]].tolist()
    if any(tensors[node[key]].shape != tensors[node["weight"]].shape for key in ("mean", "var")):
        raise UnusableInput(f"layer {node['name']}: its mean and var must have the shape of its weight")
    if min(variances) < 0 or Fraction(max(variances)) + eps >= 1 << 64:
        raise UnusableInput(f"layer {node['name']}: variances must be from 0 to 2^64")
    factors, means = [], []
    for v in variances:
        # floor(x + 1/2) = floor((floor(2 x) + 1) / 2), and 2 x = sqrt(2^66 / (var + eps))
        top, bottom = v.as_integer_ratio()
        ratio = ((bottom * eps.denominator) << 66) // (top * eps.denominator + eps.numerator * bottom)
        factors.append((isqrt(ratio) + 1) // 2)
    for m in tensors[node["mean"]].tolist():
        top, bottom = m.as_integer_ratio()
        means.append(((top << 33) // bottom + 1) // 2)
    largest = max(*factors, *map(abs, means))
    if largest >= int(VALUE_LIMIT) << FRACTION_BITS:
        shown = min(largest, 1 << 200) / 2.0**FRACTION_BITS
        raise RangeOverflow(f"layer {node['name']}", shown, VALUE_LIMIT, "its mean or 1 / sqrt(var + eps) is too large")
    _check_scales(node, tensors, factors)
    return {"factors": factors, "means": means}


def _check_scales(node: Node, tensors: Arrays, factors: list[int]) -> None:
    """RangeOverflow where it multiplies by 64 or more, which `SCALE` does not hold."""
    scales = np.abs(tensors[node["weight"]].astype(np.float64)) * np.array(factors) / 2.0**FRACTION_BITS
    channel = int(scales.argmax())
    if scales[channel] >= SCALE_LIMIT - 2.0**-10:
        raise RangeOverflow(
            f"layer {node['name']}, channel {channel}: weight / sqrt(running_var + eps)",
            float(scales[channel]),
            SCALE_LIMIT,
            f"its running_var is {tensors[node['var']][channel]:.3g}: a dead channel gives the same for "
            f"weight[{channel}] = 0, else divide its weight and bias and multiply the next layer's weight",
        )


def _shape(node: Node, shape: list[int]) -> list[int]:
    require_channels(node, shape)
    return shape


class BatchNorm2d(Layer):
    spec = LayerSpec(
        op="batchnorm2d",
        fields={
            "weight": Array(),
            "bias": Array(),
            "mean": Array(fixed=True),
            "var": Array(fixed=True),
            "eps": Number(2.0**-40, 1.0, "between 2^-40 and 1"),
        },
        output_shape=_shape,
        constants=_constants,
    )

    def declare_forward(self, net: Net, node: Node, x: Value, shape: tuple[int, ...]) -> None:
        """The node carries the public integers "factors" (A) and "means" (m)."""
        self.weight_name, self.bias_name = node["weight"], node["bias"]
        factors, means = tuple(node["factors"]), tuple(node["means"])
        self.b, self.c = net.batch_axis(), Axis("c", x.shape[1])
        self.positions = tuple(Axis("s", size) for size in x.shape[2:])
        self.axes = self.b, self.c, *self.positions
        if self.c.size != len(factors):
            raise UnusableInput("a batch-norm of flattened images: put it before the flatten, or after a linear layer")
        self.factors = split(factors)
        self.signed_means = [
            (sign, k, limb)
            for sign in (1, -1)
            for k, limb in enumerate(split(tuple([sign * m if sign * m > 0 else 0 for m in means])))
            if any(limb)
        ]
        count = (self.c.size,)
        self.weight, self.bias = net.weight(self.weight_name, count), net.weight(self.bias_name, count)

        con = self.constraint("scale", self.c)
        self.u = self.tensor("u", count, SCALE)
        limbs = self._multiple(Value.of(self.weight), net.over_passes)
        self.run_u = net.rescaled(con, self.limbs(self.u, self.c), limbs, "u")

        con = self.constraint("forward")
        limbs = Limbs().add_product(self.limbs(self.u, self.c), self.limbs(x))
        self._subtract_mean(limbs, self.u)
        limbs.add_value(self.view(self.bias, self.c), 1, FRACTION_BITS)
        self.y = self.output("y", x.shape)
        self.run = net.rescaled(con, self.limbs(self.y), limbs, "y")

    def _multiple(self, v: Value, first: Unrolled) -> Limbs:
        """A times a value of channels."""
        limbs = Limbs()
        for k, weights in enumerate(self.factors):
            limbs.add_limbs(v.limbs(first, Scaled("c", weights, self.c.size)), power=DIGIT_BITS * k)
        return limbs

    def _subtract_mean(self, limbs: Limbs, v: Value) -> None:
        """Subtract m times a value, summed over batch and positions if it has them."""
        for sign, k, weights in self.signed_means:
            inner: list[Source] = [Scaled("c", weights, self.c.size)]
            if len(v.shape) > 1:
                inner = [Sum(self.b.size), *inner, *(Sum(a.size) for a in self.positions)]
            limbs.add_limbs(self.limbs(v, *inner), -sign, DIGIT_BITS * k)

    def declare_input_gradient(self, net: Net, dy: Value) -> None:
        con = self.constraint("input-gradient")
        self.dx = self.like_input("dx")
        limbs = Limbs().add_product(self.limbs(self.u, self.c), self.limbs(dy))
        self.run_input = net.rescaled(con, self.limbs(self.dx), limbs, "dx")

    def declare_parameter_gradients(self, net: Net, dy: Value) -> None:
        con = self.constraint("sums", self.c, summed=(self.b, *self.positions))
        self.h = self.tensor("h", (self.c.size,))
        limbs = Limbs().add_product(self.limbs(dy), self.limbs(self.x))
        self._subtract_mean(limbs, dy)
        self.run_h = net.rescaled(con, self.limbs(self.h, self.c), limbs, "h")
        multiple = partial(self._multiple, self.h)
        net.gradients.append(Gradient(self.weight_name, (self.c,), (), multiple, True))
        net.gradients.append(summed_gradient(self.bias_name, (self.c,), dy, *self.axes))
