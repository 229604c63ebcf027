"""Group and layer normalisation: means and deviations of each sample itself, over `n` entries, in Q32:

    mean = round(sum x / n),   V = sum (x - mean)^2,   A = floor(2^32 / sqrt(V / (2^64 n) + eps)),
    h = rescale(A (x - mean)),   y = rescale(gamma h + 2^32 beta),

and back, with e = rescale(gamma dy):

    m1 = round(sum e / n),   m2 = round(sum e h / (2^32 n)),   slope = rescale(A m2),
    dx = rescale(A (e - m1) - slope h),   accumulator of gamma = sum dy h,   of beta = sum dy.

The entries are those of a group of channels at all positions, or, with `each`, at each position by itself (which is
PyTorch's LayerNorm over channels). A is the integer with  A^2 M <= 2^128 n < (A + 1)^2 M,  M = V + round(2^64 n eps).
"""

from __future__ import annotations

from fractions import Fraction
from math import prod

from circuits.language.constraints import expr
from circuits.language.forms import Form, View
from circuits.language.sources import Axis, Gather, GatherSum, Sum
from circuits.language.tensors import U22, Digit, Range, radix
from circuits.language.wide import Domain, Limbs, limb_forms
from zkcert.errors import UnusableInput

from ..net import FRACTION_BITS, REMAINDER, VALUE, Net, product_gradient, summed_gradient
from ..value import Unrolled, Value
from ..windows import groups_of
from .affine import PARAMETERS
from .base import Layer
from .spec import Flag, Integer, LayerSpec, Node, Number, require_channels

MAX_ENTRIES = 1 << 20


def _shape(node: Node, shape: list[int]) -> list[int]:
    require_channels(node, shape)
    if shape[0] % node["groups"]:
        raise UnusableInput(f"{shape[0]} channels do not make {node['groups']} groups")
    if not 2 <= entries(node, shape) <= MAX_ENTRIES:
        raise UnusableInput(f"it normalises {entries(node, shape)} entries at a time, not 2 to {MAX_ENTRIES}")
    return shape


def entries(node: Node, shape: list[int]) -> int:
    """How many entries are normalised together."""
    return shape[0] // int(node["groups"]) * (1 if node["each"] else prod(shape[1:]))


class GroupNorm(Layer):
    spec = LayerSpec(
        op="groupnorm",
        fields={
            **PARAMETERS,
            "groups": Integer(1),
            "eps": Number(2.0**-21, 1.0, "between 2^-21 and 1"),
        },
        options={"each": (Flag(), False)},
        output_shape=_shape,
    )

    def declare_forward(self, net: Net, node: Node, x: Value, shape: tuple[int, ...]) -> None:
        self.weight_name, self.bias_name, (channels, *positions) = node["weight"], node["bias"], x.shape[1:]
        self.groups, self.each = node["groups"], node["each"]
        if channels != shape[0]:
            raise UnusableInput("a normalisation of flattened images: put it before the flatten")
        own = channels // self.groups
        net.count_table(channels, f"normalisation of {channels} channels")
        self.b, self.g, self.c = net.batch_axis(), Axis("g", self.groups), Axis("c", own)
        self.o, self.positions = Axis("o", channels), tuple(Axis("s", size) for size in positions)
        alone = self.positions if self.each else ()
        self.joint = () if self.each else self.positions
        self.table = groups_of(self.groups, own)
        grouped = Gather("c", "g", self.table, channels)
        self.n = entries(node, list(shape))
        self.epsilon = int(Fraction(repr(node["eps"])) * (self.n << 64) + Fraction(1, 2))
        self.axes = self.b, self.o, *self.positions
        self.statistic = self.b, self.g, *alone
        self.stats = Domain(net.circuit, (net.pass_axis(), *self.statistic), unrolled=True)
        self.entries, self.by_group = (self.b, self.g, self.c, *self.positions), (self.b, grouped, *self.positions)

        self.mean, self.mean_rest = self._mean("mean", x)
        self.squares_con = self.constraint("squares", *self.statistic, summed=(self.c, *self.joint))
        self.squares = self._statistic("squares", *[U22] * 5)
        own_limbs = self.limbs(x, *self.by_group)
        limbs = Limbs().add_product(own_limbs, own_limbs).add_limbs(self._of_statistic(self.squares), -1)
        self.stats.zero(self.squares_con, "sum", limbs)
        self._declare_root()

        con = self.constraint("normalised", *self.entries)
        self.h = self.like_input("h")
        self.run_h = net.rescaled(con, self.limbs(self.h, *self.by_group), self._of_centred(x, self.mean), "h")

        self.weight = net.weight(self.weight_name, (channels,))
        self.bias = net.weight(self.bias_name, (channels,)) if self.bias_name else None
        con = self.constraint("forward")
        limbs = Limbs().add_product(limb_forms(self.view(self.weight, self.o)), self.limbs(self.h))
        if self.bias:
            limbs.add_value(self.view(self.bias, self.o), 1, FRACTION_BITS)
        self.y = self.output("y", x.shape)
        self.run = net.rescaled(con, self.limbs(self.y), limbs, "y")

    # -- how tensors are read: entries by channel (`axes`) or `by_group`

    def _of_statistic(self, v: Value) -> list[Form]:
        return self.limbs(v, *self.statistic)

    def _seen(self, v: Value) -> View:
        return self.view(v.tensor, *self.statistic)

    def _of_centred(self, v: Value, mean: Value) -> Limbs:
        """A (v - mean)."""
        a, own = self._of_statistic(self.a), self.limbs(v, *self.by_group)
        return Limbs().add_product(own, a).add_product(self._of_statistic(mean), a, -1)

    def _statistic(self, label: str, *limbs: Range) -> Value:
        """A number for each statistic: of these limbs, or a value like any other."""
        return self.tensor(label, [axis.size for axis in self.statistic], radix(*limbs) if limbs else VALUE)

    # -- identities of statistics

    def _mean(self, label: str, v: Value) -> tuple[Value, Value]:
        """round(sum v / n) and what the division leaves."""
        out, rest = self._statistic(label), self._statistic(f"{label}.remainder", Range(self.n))
        channel = GatherSum("g", self.table, self.c.size * self.groups)
        total = self.form(v, self.b, channel, *self.statistic[2:], *(Sum(a.size) for a in self.joint))
        mean, left = self.form(out, *self.statistic), self.form(rest, *self.statistic)
        self.constraint(label, *self.statistic).add("mean", expr(mean * self.n + left - total) - self.n // 2)
        return out, rest

    def _declare_root(self) -> None:
        n, eps = self.n, self.epsilon
        self.root_con = con = self.constraint("root", *self.statistic)
        self.v, self.a = self._statistic("v", *[U22] * 5), self._statistic("a")
        self.aa = self._statistic("a2", *[U22] * 4)
        self.low, self.high = self._statistic("low", *[U22] * 7), self._statistic("high", *[U22] * 7)
        mean, a, aa, v, low, high = map(self._of_statistic, (self.mean, self.a, self.aa, self.v, self.low, self.high))
        # V = sum x^2 - n mean^2 - 2 mean (r - floor(n / 2)), sum x being n mean + r - floor(n / 2)
        limbs = Limbs().add_limbs(self._of_statistic(self.squares)).add_limbs(v, -1).add_product(mean, mean, -n)
        limbs.add_product(mean, self._of_statistic(self.mean_rest), -2)
        self.stats.zero(con, "v", limbs.add_multiple(self._seen(self.mean), 2 * (n // 2)))
        self.stats.zero(con, "a2", Limbs().add_product(a, a).add_limbs(aa, -1))
        limbs = Limbs().add_const(n << 128).add_product(aa, v, -1).add_multiple(self._seen(self.aa), -eps)
        self.stats.zero(con, "low", limbs.add_limbs(low, -1))
        limbs = Limbs().add_product(aa, v).add_multiple(self._seen(self.aa), eps).add_product(a, v, 2).add_limbs(v)
        limbs.add_multiple(self._seen(self.a), 2 * eps).add_const(eps - (n << 128) - 1)
        self.stats.zero(con, "high", limbs.add_limbs(high, -1))

    # -- gradients

    def declare_input_gradient(self, net: Net, dy: Value) -> None:
        con = self.constraint("scaled")
        self.e = self.like_input("e")
        limbs = Limbs().add_product(limb_forms(self.view(self.weight, self.o)), self.limbs(dy))
        self.run_e = net.rescaled(con, self.limbs(self.e), limbs, "e")
        self.m1, self.m1_rest = self._mean("m1", self.e)
        self._declare_correlation()

        con = self.constraint("slope", *self.statistic)
        self.slope = self._statistic("slope")
        limbs = Limbs().add_product(self._of_statistic(self.a), self._of_statistic(self.m2))
        self.run_slope = net.rescaled(con, self._of_statistic(self.slope), limbs, "slope")

        con = self.constraint("input-gradient", *self.entries)
        self.dx = self.like_input("dx")
        limbs = self._of_centred(self.e, self.m1)
        limbs.add_product(self.limbs(self.h, *self.by_group), self._of_statistic(self.slope), -1)
        self.run_input = net.rescaled(con, self.limbs(self.dx, *self.by_group), limbs, "dx")

    def _declare_correlation(self) -> None:
        """m2, of which the remainder lies in [0, 2^32 n)."""
        self.m2_con = self.constraint("m2", *self.statistic, summed=(self.c, *self.joint))
        self.m2 = self._statistic("m2")
        digits = (*REMAINDER, Digit(Range(self.n), FRACTION_BITS))
        self.m2_rest = self.tensor("m2.remainder", self.m2.shape, digits)
        limbs = Limbs().add_product(self.limbs(self.e, *self.by_group), self.limbs(self.h, *self.by_group))
        limbs.add_const(self.n << FRACTION_BITS - 1).add_value(self._seen(self.m2_rest), -1)
        limbs.add_multiple(self._seen(self.m2), -self.n << FRACTION_BITS)
        self.stats.zero(self.m2_con, "m2", limbs)

    def declare_parameter_gradients(self, net: Net, dy: Value) -> None:
        def factors(source: Unrolled) -> tuple[list[Form], list[Form]]:
            return dy.limbs(source, *self.axes), self.h.limbs(source, *self.axes)

        net.gradients.append(product_gradient(self.weight_name, (self.o,), (self.b, *self.positions), factors))
        if self.bias:
            net.gradients.append(summed_gradient(self.bias_name, (self.o,), dy, *self.axes))
