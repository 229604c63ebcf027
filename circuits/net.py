"""What layer files build with: the probe's passes, parameters, activations, and exact fixed-point contractions.

A probe of T steps makes 2T - 1 passes: pass 2t is the gradient at w_t, pass 2t + 1 the one at w_t + d_t (the last step
needs only the first). Tensors of the network have one column per pass (unrolled axis "pass") or, for what both
passes of a step share, one per step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from math import prod
from typing import Any, TypeVar

from circuits.language.combination import Order, Term, combine, terms_of, value_terms, whole
from circuits.language.constraints import Circuit, Constraint
from circuits.language.forms import Form, View
from circuits.language.sources import Axis, Map, Source, Sum
from circuits.language.tensors import B22, BIT, DIGIT_BITS, U22, Digit, Tensor, balanced, radix, unsigned
from circuits.language.wide import CarryStep, Domain, Limbs
from zkcert.core.field import I64
from zkcert.errors import UnusableInput

from .value import Unrolled, Value
from .windows import AdaptiveWindows, Windows

Tables = TypeVar("Tables", Windows, AdaptiveWindows)
Factors = Callable[[Unrolled], tuple[list[Form], list[Form]]]
"""Limbs of the two factors of a contraction, given the source of an unrolled axis."""

FRACTION_BITS = 32
VALUE = radix(B22, B22)  # |x| < 2^43: activations, deltas, gradients
VALUE_LIMIT = 2048.0  # what that is in real units
WEIGHT = radix(B22, balanced(18))  # |w| < 2^39
REMAINDER = (Digit(U22, 0), Digit(unsigned(10), 22))  # [0, 2^32)
BALANCED_REMAINDER = (Digit(U22, 0), Digit(balanced(10), 22))  # [-2^31, 2^31)
RESIDUE_COST = 10
LEAST_SPARE, SPARE_BITS = 1 << 13, 9
MAX_CONGRUENCES = 96  # each has some 400 terms, so this bounds a verifier's work; what comes later has carries
MAX_TABLES = 1 << 22  # entries of the index tables of all windows


@lru_cache(maxsize=64)
def pass_source(per: str, steps: int) -> Source:
    """What an unrolled axis of passes or steps reads for each pass."""
    passes = 2 * steps - 1
    return Axis("pass", passes) if per == "pass" else Map("pass", tuple(p // 2 for p in range(passes)), steps)


@lru_cache(maxsize=64)
def pass_of_step(count: int, offset: int, passes: int) -> Source:
    """Pass 2 t + offset for each of the first `count` steps."""
    return Map("step", tuple(2 * t + offset for t in range(count)), passes)


@lru_cache(maxsize=64)
def first_steps(count: int, steps: int) -> Source:
    """The first `count` of an axis of steps."""
    return Axis("step", count) if count == steps else Map("step", tuple(range(count)), steps)


@dataclass(frozen=True)
class Committed:
    """An output with a tensor of its own."""

    value: Value


@dataclass
class Contraction:
    """What the executor needs to fill the carries of one rescaled contraction; none if it is a congruence."""

    con: Constraint
    steps: list[CarryStep]
    remainder: Tensor


@dataclass(frozen=True)
class Sums:
    """The sums over some axes of the products of two factors, given as limbs; name: of their constraint."""

    name: str
    out: tuple[Axis, ...]
    summed: tuple[Axis, ...]
    factors: tuple[list[Form], list[Form]]


@dataclass
class Net:
    """Shared state of circuit construction.

    residue_cost: outputs of a contraction whose carries cost as much as one residue modulo every prime; weight_count:
    of all parameters; outputs: by layer, what makes its output where that is no tensor of its own; rectifiers: by ReLU,
    the tensors it shares with the layer before it.
    """

    steps: int
    batch: int
    residue_cost: int = RESIDUE_COST
    weight_count: int = 0
    places: int = 1
    circuit: Circuit = field(default_factory=Circuit)
    weights: dict[str, Tensor] = field(default_factory=dict)
    orders: dict[str, tuple[int, ...]] = field(default_factory=dict)
    gradients: list[Gradient] = field(default_factory=list)
    outputs: dict[str, Callable[[Sequence[int]], Output]] = field(default_factory=dict)
    rectifiers: dict[str, Rectifier] = field(default_factory=dict)
    table_entries: int = 0

    @property
    def passes(self) -> int:
        return 2 * self.steps - 1

    @property
    def spare(self) -> int:
        """Residues by which a congruence must be cheaper: each costs a verifier about as much as a layer."""
        return max(LEAST_SPARE, self.steps * self.weight_count >> SPARE_BITS)

    @cached_property
    def scaled_entries(self) -> int:
        """Entries of the parameters whose gradients are scaled; once all are declared."""
        return sum(prod(a.size for a in g.axes) for g in self.gradients if g.scaled)

    @property
    def terms(self) -> int:
        """Of a batch's loss, which is their mean: `places` of each sample."""
        return self.batch * self.places

    def pass_axis(self) -> Axis:
        return Axis("pass", self.passes)

    def batch_axis(self) -> Axis:
        return Axis("b", self.batch)

    def step_axis(self) -> Axis:
        return Axis("step", self.steps)

    def weight(self, name: str, shape: Sequence[int], order: Sequence[int] | None = None) -> Tensor:
        """A parameter; order: which axis of the file's tensor each of its axes is, if they do not stand in order. A
        second reader gets the same tensor."""
        if name in self.weights:
            return self.weights[name]
        t = self.circuit.tensor(f"weight/{name}", self.passes, shape, WEIGHT)
        self.weights[name], self.orders[name] = t, tuple(order or range(len(shape)))
        return t

    def arranged(self, name: str, values: I64) -> I64:
        """The entries of a parameter in its file's order, of any shape, as its tensor has them; a view."""
        order, sizes = self.orders[name], self.weights[name].shape
        return values.reshape([sizes[order.index(axis)] for axis in range(len(sizes))]).transpose(order)

    def activation(self, name: str, shape: Sequence[int], digits: tuple[Digit, ...] = VALUE) -> Value:
        """A tensor with a column for each pass."""
        return Value.of(self.circuit.tensor(name, self.passes, shape, digits))

    def output(self, layer: str, label: str, shape: Sequence[int]) -> Output:
        """What `outputs` foresees for the layer; otherwise a new tensor."""
        if layer in self.outputs:
            return self.outputs[layer](shape)
        return Committed(self.activation(f"{layer}/{label}", shape))

    def count_table(self, entries: int, what: str) -> None:
        """UnusableInput if all tables of the circuit become too large."""
        self.table_entries += entries
        if self.table_entries > MAX_TABLES:
            raise UnusableInput(f"the tables of all windows have more than {MAX_TABLES} entries (here: a {what})")

    def counted(self, windows: Tables, what: str) -> Tables:
        """The windows; raises as `count_table`."""
        self.count_table(windows.entries, f"{what} over {windows.height}x{windows.width} positions")
        return windows

    def windows(self, shape: Sequence[int], kernel: Sequence[int], node: Mapping[str, Any]) -> Windows:
        """The windows of a node over an image of [C, H, W]; raises as `counted`."""
        pairs = [(a, b) for a, b in (kernel, node["stride"], node["padding"], node.get("dilation", (1, 1)))]
        windows = Windows(shape[1], shape[2], pairs[0], pairs[1], pairs[2], pairs[3], node.get("ceil", False))
        return self.counted(windows, f"{kernel[0]}x{kernel[1]} window")

    def over_passes(self, per: str) -> Source:
        """Source of an unrolled axis for the domain axis "pass"."""
        return pass_source(per, self.steps)

    def over_steps(self, per: str, parity: int) -> Source:
        """Source of an unrolled axis for the domain axis "step": passes 2 t + parity."""
        count = self.steps - parity
        return pass_of_step(count, parity, self.passes) if per == "pass" else first_steps(count, self.steps)

    def remainder(self, con: Constraint, name: str, digits: tuple[Digit, ...]) -> View:
        """What a division leaves for every index of a constraint."""
        return Domain(self.circuit, con.out, unrolled=True).wire(name, digits)

    def rescaled(self, con: Constraint, out: list[Form], limbs: Limbs, name: str) -> Contraction:
        """Constrain ``out = floor((limbs + 2^31) / 2^32)``, `out` being given as limbs as well."""
        rest, quotient = self.remainder(con, f"{name}.remainder", REMAINDER), Limbs().add_limbs(out, -1, FRACTION_BITS)
        return self.divided(con, limbs, 1 << FRACTION_BITS - 1, rest, quotient, name)

    def divided(self, con: Constraint, limbs: Limbs, half: int, rest: View, quotient: Limbs, label: str) -> Contraction:
        """Constrain ``limbs + half - rest + quotient = 0``."""
        limbs.add_const(half).add_value(rest, -1)
        for k, part in enumerate(quotient.parts):
            limbs.add(part, DIGIT_BITS * k)
        domain = Domain(self.circuit, con.out, unrolled=True)
        return Contraction(con, domain.zero(con, label, limbs), rest.tensor)

    def contracted(self, sums: Sums, digits: tuple[Digit, ...], rest: Sequence[Term]) -> Contraction | None:
        """Constrain  sum left right + rest = remainder  by a congruence, `digits` being the remainder's, if residues
        cost less than carries and their sums stay below p; otherwise, or if both factors share more than out[0], None,
        and nothing is declared."""
        if len(self.circuit.combinations) >= MAX_CONGRUENCES:
            return None
        out, (left, right) = sums.out, sums.factors
        read, other = (whole(terms_of(side)).axes for side in sums.factors)
        if any(axis.name in read & other for axis in out[1:]):
            return None
        first = [axis for axis in out[1:] if axis.name in read]
        others = [axis for axis in out[1:] if axis not in first]
        sides = [(terms_of(left), first), (terms_of(right), others), (rest, out[1:])]
        count = sum(Order.of(terms, own).residues for terms, own in sides)
        if (count + self.spare) * self.residue_cost > prod(axis.size for axis in out):
            return None

        def declare() -> Contraction:
            con = self.circuit.congruence(sums.name, out, sums.summed)
            rem = self.remainder(con, f"{con.name}.remainder", digits)
            combine(self.circuit, con, left, right, [*rest, *value_terms(rem, -1)], first, others)
            return Contraction(con, [], rem.tensor)

        return self.circuit.tried(declare)

    def scaled_down(self, sums: Sums, bias: View | None, out: list[Form], label: str) -> Contraction:
        """Constrain limbs `out` to be the sums, plus a bias in Q32, rounded to Q32: by a congruence if that is cheaper,
        and otherwise with carries."""
        rest = [(view, d, -coef << FRACTION_BITS) for view, d, coef in terms_of(out)]
        if bias is not None:
            rest += value_terms(bias, 1 << FRACTION_BITS)
        run = self.contracted(sums, BALANCED_REMAINDER, rest)
        if run is not None:
            return run
        limbs = Limbs().add_product(*sums.factors)
        if bias is not None:
            limbs.add_value(bias, 1, FRACTION_BITS)
        return self.rescaled(self.circuit.constraint(sums.name, sums.out, sums.summed), out, limbs, label)


class Total:
    """A sum of values with a tensor of its own, so that every reader reads one term."""

    def __init__(self, net: Net, name: str, x: Value) -> None:
        self.x, self.value = x, net.activation(name, x.shape)
        axes = (net.pass_axis(), *(Axis(f"x{i}", size) for i, size in enumerate(x.shape)))
        con = net.circuit.constraint(name, axes)
        con.add("sum", x.whole(net.over_passes, *axes[1:]) - self.value.whole(net.over_passes, *axes[1:]))


class Rectifier:
    """The tensors of one ReLU. As the output of the layer before it: ``z - rest`` for known earlier values `rest`."""

    def __init__(self, net: Net, name: str, shape: Sequence[int], rest: Value | None = None) -> None:
        self.a = net.activation(f"{name}/y", shape)
        self.bit = net.activation(f"{name}/sign", shape, radix(BIT))
        self.magnitude = net.activation(f"{name}/magnitude", shape, radix(U22, U22))
        self.z = 2 * self.a - self.magnitude - self.bit
        self.rest = rest

    @property
    def value(self) -> Value:
        return self.z if self.rest is None else self.z - self.rest


Output = Committed | Rectifier
"""Where a layer writes its output."""


@dataclass
class Gradient:
    """The exact gradient accumulator of one parameter, summed over the batch.

    `limbs(source)` builds it over the domain ("step", *axes) with `source(per)` the source of an unrolled axis.
    `scaled`: it carries 64 fractional bits (a contraction) rather than 32 (a bias).
    `readers`: how many layers read the parameter, whose accumulators are added up.
    `operands(source)`: limbs of the two factors of a contraction, of which the first reads `axes[0]` and the second the
    other axes.
    """

    name: str
    axes: tuple[Axis, ...]
    summed: tuple[Axis, ...]
    limbs: Callable[[Unrolled], Limbs]
    scaled: bool
    readers: int = 1
    operands: Factors | None = None


def summed_gradient(name: str, axes: tuple[Axis, ...], dy: Value, *every: Source) -> Gradient:
    """That of a parameter with these axes which is added: the sum of what arrives; every: the sources of the inner axes
    of `dy`, of which other axes than the parameter's are summed."""
    inner = [Sum(a.size) if isinstance(a, Axis) and a not in axes else a for a in every]
    return Gradient(name, axes, (), lambda source: Limbs().add(dy.whole(source, *inner)), False)


def product_gradient(
    name: str, axes: tuple[Axis, ...], summed: tuple[Axis, ...], factors: Factors, congruent: bool = False
) -> Gradient:
    """That of a parameter which is multiplied: a contraction, which may be shown by a congruence if `congruent`."""

    def limbs(source: Unrolled) -> Limbs:
        return Limbs().add_product(*factors(source))

    return Gradient(name, axes, summed, limbs, True, operands=factors if congruent else None)
