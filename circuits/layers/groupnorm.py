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

from collections.abc import Callable
from fractions import Fraction
from math import prod

from circuits.language.constraints import Constraint, expr
from circuits.language.forms import Form, View
from circuits.language.sources import DomainAxis, Gather, GatherSum, Source, Sum
from circuits.language.tensors import U22, Digit, Range, Tensor, radix
from circuits.language.wide import CarryStep, Domain, Limbs, assert_zero, limb_forms
from zkcert.errors import UnusableInput

from ..net import FRACTION_BITS, REMAINDER, Contraction, Gradient, Net, summed_gradient
from ..value import Value
from ..windows import groups_of
from .base import Layer
from .spec import Array, Arrays, Flag, Integer, LayerSpec, Node, Number

MAX_ENTRIES = 1 << 20


def _shape(node: Node, shape: list[int], tensors: Arrays) -> list[int]:
    if len(shape) not in (1, 3) or any(tensors[node[key]].shape != (shape[0],) for key in ("weight", "bias")):
        raise UnusableInput(f"its tensors must have shape [C] for an input of shape {shape} of shape [C, H, W] or [C]")
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
            "weight": Array(),
            "bias": Array(),
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
        self.table = groups_of(self.groups, own)
        net.count_table(channels, f"normalisation of {channels} channels")
        self.b, self.g, self.c = net.batch_axis(), DomainAxis("g", self.groups), DomainAxis("c", own)
        self.positions = tuple(DomainAxis("s", size) for size in positions)
        self.alone: tuple[DomainAxis, ...] = self.positions if self.each else ()
        self.joint: tuple[DomainAxis, ...] = () if self.each else self.positions
        self.n = entries(node, list(shape))
        self.epsilon = int(Fraction(repr(node["eps"])) * (self.n << 64) + Fraction(1, 2))
        self.stats = Domain((net.pass_axis(), self.b, self.g, *self.alone), unrolled=True)
        self.entries = (net.pass_axis(), self.b, self.g, self.c, *self.positions)

        self.mean, self.mean_rest = self._mean("mean", x)
        con = net.circuit.constraint(f"{self.name}/squares", self.stats.axes, (self.c, *self.joint))
        self.squares = self._unsigned("squares", 5)
        limbs = Limbs().add_product(self._limbs(x), self._limbs(x)).add_value(self.squares, -1)
        self.squares_carries, self.squares_con = assert_zero(net.circuit, con, self.stats, "sum", limbs), con
        self._declare_root()

        con = net.circuit.constraint(f"{self.name}/normalised", self.entries)
        self.h = net.activation(f"{self.name}/h", x.shape)
        self.run_h = net.rescaled(con, self._limbs(self.h), self._of_centred(x, self.mean), "h")

        self.weight, self.bias = net.weight(self.weight_name, (channels,)), net.weight(self.bias_name, (channels,))
        self.o = DomainAxis("o", channels)
        con = net.circuit.constraint(f"{self.name}/forward", (net.pass_axis(), self.b, self.o, *self.positions))
        limbs = Limbs().add_product(self._scale(), self._flat(self.h))
        limbs.add_value(View(self.bias, (net.pass_axis(), DomainAxis("o", channels))), 1, FRACTION_BITS)
        self.out = net.output(self.name, "y", x.shape)
        self.y = self.out.value
        self.run = net.rescaled(con, self._flat(self.y), limbs, "y")

    # -- how tensors are read

    def _inner(self, axes: tuple[DomainAxis, ...]) -> list[Source]:
        return [a for a in axes]

    def _limbs(self, v: Value) -> list[Form]:
        """Limbs of a value (batch, channels, positions) by group and channel of it."""
        channel = Gather("c", "g", self.table, self.c.size * self.groups)
        return v.limbs(self.net.over_passes, DomainAxis("b", self.b.size), channel, *self._inner(self.positions))

    def _flat(self, v: Value, first: Callable[[str], Source] | None = None) -> list[Form]:
        """The same by channel."""
        return v.limbs(first or self.net.over_passes, *self._inner((self.b, self.o, *self.positions)))

    def _of_statistic(self, v: Value) -> list[Form]:
        return v.limbs(self.net.over_passes, *self._inner((self.b, self.g, *self.alone)))

    def _of_centred(self, v: Value, mean: Value) -> Limbs:
        """A (v - mean)."""
        a = self._of_statistic(self.a)
        return Limbs().add_product(self._limbs(v), a).add_product(self._of_statistic(mean), a, -1)

    def _scale(self) -> list[Form]:
        return limb_forms(View(self.weight, (self.net.pass_axis(), DomainAxis("o", self.o.size))))

    def _statistic(self, label: str) -> Value:
        return self.net.activation(f"{self.name}/{label}", (self.b.size, *(a.size for a in (self.g, *self.alone))))

    # -- identities of statistics

    def _mean(self, label: str, v: Value) -> tuple[Value, Tensor]:
        """round(sum v / n) and what the division leaves."""
        net, out = self.net, self._statistic(label)
        rest = self.stats.wire(net.circuit, f"{self.name}/{label}.remainder", radix(Range(self.n)))
        channel = GatherSum("g", self.table, self.c.size * self.groups)
        inner = [DomainAxis("b", self.b.size), channel, *self._inner(self.alone), *(Sum(a.size) for a in self.joint)]
        con = net.circuit.constraint(f"{self.name}/{label}", self.stats.axes)
        whole = out.whole(net.over_passes, *self._inner((self.b, self.g, *self.alone)))
        con.add("mean", expr(whole * self.n + rest.whole() - v.whole(net.over_passes, *inner)) - self.n // 2)
        return out, rest.tensor

    def _unsigned(self, label: str, limbs: int) -> View:
        return self.stats.wire(self.net.circuit, f"{self.name}/{label}", radix(*[U22] * limbs))

    def _declare_root(self) -> None:
        net, n, eps = self.net, self.n, self.epsilon
        self.root_con = con = net.circuit.constraint(f"{self.name}/root", self.stats.axes)
        self.v, self.a = self._unsigned("v", 5), self._statistic("a")
        self.aa, self.low, self.high = self._unsigned("a2", 4), self._unsigned("low", 7), self._unsigned("high", 7)
        mean, a, aa, v = (*map(self._of_statistic, (self.mean, self.a)), limb_forms(self.aa), limb_forms(self.v))
        self.root_carries: list[list[CarryStep]] = []

        def zero(label: str, limbs: Limbs) -> None:
            self.root_carries.append(assert_zero(net.circuit, con, self.stats, label, limbs))

        # V = sum x^2 - n mean^2 - 2 mean (r - floor(n / 2)), sum x being n mean + r - floor(n / 2)
        limbs = Limbs().add_value(self.squares).add_value(self.v, -1).add_product(mean, mean, -n)
        limbs.add_product(mean, [View(self.mean_rest, self.v.sources).whole()], -2)
        zero("v", limbs.add_multiple(View(self.mean.tensor, self.v.sources), 2 * (n // 2)))
        zero("a2", Limbs().add_product(a, a).add_value(self.aa, -1))
        limbs = Limbs().add_const(n << 128).add_product(aa, v, -1).add_multiple(self.aa, -eps)
        zero("low", limbs.add_value(self.low, -1))
        limbs = Limbs().add_product(aa, v).add_multiple(self.aa, eps).add_product(a, v, 2).add_value(self.v)
        limbs.add_multiple(View(self.a.tensor, self.v.sources), 2 * eps).add_const(eps - (n << 128) - 1)
        zero("high", limbs.add_value(self.high, -1))

    # -- gradients

    def declare_input_gradient(self, net: Net, dy: Value) -> None:
        con = net.circuit.constraint(f"{self.name}/scaled", (net.pass_axis(), self.b, self.o, *self.positions))
        self.e = net.activation(f"{self.name}/e", self.x.shape)
        limbs = Limbs().add_product(self._scale(), self._flat(dy))
        self.run_e = net.rescaled(con, self._flat(self.e), limbs, "e")
        self.m1, self.m1_rest = self._mean("m1", self.e)
        self._declare_correlation()

        con = net.circuit.constraint(f"{self.name}/slope", self.stats.axes)
        self.slope = self._statistic("slope")
        limbs = Limbs().add_product(self._of_statistic(self.a), self._of_statistic(self.m2))
        self.run_slope: Contraction = net.rescaled(con, self._of_statistic(self.slope), limbs, "slope")

        con = net.circuit.constraint(f"{self.name}/input-gradient", self.entries)
        self.dx = net.activation(f"{self.name}/dx", self.x.shape)
        limbs = self._of_centred(self.e, self.m1)
        limbs.add_product(self._limbs(self.h), self._of_statistic(self.slope), -1)
        self.run_input: Contraction = net.rescaled(con, self._limbs(self.dx), limbs, "dx")

    def _declare_correlation(self) -> None:
        """m2, of which the remainder lies in [0, 2^32 n)."""
        net = self.net
        self.m2_con: Constraint = net.circuit.constraint(f"{self.name}/m2", self.stats.axes, (self.c, *self.joint))
        self.m2 = self._statistic("m2")
        digits = (*REMAINDER, Digit(Range(self.n), FRACTION_BITS))
        self.m2_rest = self.stats.wire(net.circuit, f"{self.name}/m2.remainder", digits)
        limbs = Limbs().add_product(self._limbs(self.e), self._limbs(self.h)).add_const(self.n << FRACTION_BITS - 1)
        limbs.add_value(self.m2_rest, -1).add_multiple(View(self.m2.tensor, self.m2_rest.sources), -self.n << 32)
        self.m2_carries = assert_zero(net.circuit, self.m2_con, self.stats, "m2", limbs)

    def declare_parameter_gradients(self, net: Net, dy: Value) -> None:
        def weight_limbs(source: Callable[[str], Source]) -> Limbs:
            return Limbs().add_product(self._flat(dy, source), self._flat(self.h, source))

        summed = (self.b, *self.positions)
        net.gradients.append(Gradient(self.weight_name, (self.o,), summed, weight_limbs, True))
        inner = (Sum(self.b.size), DomainAxis("o", self.o.size), *(Sum(a.size) for a in self.positions))
        net.gradients.append(summed_gradient(self.bias_name, self.o, dy, *inner))
