"""Random combinations under which a congruence holds over the integers (docs/spec/congruences.md).

A congruence  sum_s x[l, s] y[s, r] + z[l, r] = 0 (mod p), its outputs having left and right axes and shared ones, is
multiplied by drawn weights g_l e_r and added up over l and r. Modulo a prime q, what is left is

    sum_s (sum_l g_l x[l, s]) (sum_r e_r y[s, r]) + sum_l,r g_l e_r z[l, r] = 0 (mod q)

for each shared index. Every sum over one axis is an integer identity with a residue and a quotient, both committed and
range-checked: sum = r + q c. A residue lies in [0, 2^30), not in [0, q): only its congruence is used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from math import prod

from .constraints import Circuit, Congruence, Constraint, Expr
from .drawn import PARTS, PRIMES, WEIGHT_BITS, Draw, weighed
from .forms import Form, View
from .sources import Axis, Gather
from .tensors import DIGIT_BITS, Digit, radix, unsigned
from .wide import CarryStep, Domain, Limbs, digits_for, limb_forms

RESIDUE = radix(unsigned(DIGIT_BITS), unsigned(WEIGHT_BITS - DIGIT_BITS))
Term = tuple[View, int, int]  # a digit of a view, and what it is worth
ENTRIES = "entry"  # the axis that an index table reads, as a domain axis


@dataclass
class Division:
    """A value, in limbs, as residue + q quotient, the residue left out where it has to be zero; the carries of it."""

    prime: int
    residue: View | None
    quotient: View
    steps: list[CarryStep]


@dataclass
class Reduction:
    """For each prime, terms[prime] with `axis` summed by drawn weights, divided by the prime.

    A term that does not read the axis is the same for all of its indices.
    """

    con: Constraint
    axis: str
    size: int
    draws: tuple[Draw, ...]
    terms: list[list[Term]]
    divisions: list[Division]

    @property
    def residues(self) -> list[View]:
        return [division.residue for division in self.divisions if division.residue is not None]


@dataclass
class Closing:
    """For each prime, sum_s left right + rest = q quotient; the factors as limbs worth 2^(22 k)."""

    con: Constraint
    left: list[list[Form]]
    right: list[list[Form]]
    rest: list[View]
    divisions: list[Division]


@dataclass
class Combination:
    """What the prover fills, in this order, once the weights are drawn; `weighed`: the number of axes with weights."""

    reductions: list[Reduction]
    closing: Closing
    weighed: int


def terms_of(limbs: Sequence[Form]) -> list[Term]:
    """The digits of limbs worth 2^(22 k), and what each is worth."""
    out = []
    for k, form in enumerate(limbs):
        for view, d, coef in form.terms:
            assert isinstance(coef, int)
            out.append((view, d, coef << DIGIT_BITS * k))
    return out


def value_terms(view: View, coef: int) -> list[Term]:
    """A multiple of a whole value."""
    return [(view, i, coef << d.shift) for i, d in enumerate(view.tensor.digits)]


def whole(terms: Sequence[Term]) -> Form:
    """The sum of terms as one form."""
    return Form(tuple(terms))


def divided(con: Constraint, domain: Domain, label: str, limbs: Limbs, prime: int, *, remains: bool) -> Division:
    """Constrain limbs to be a multiple of a prime, or a residue more (`remains`)."""
    count = prod(axis.size for axis in con.summed)
    bounds = [part.bounds(count) for part in limbs.parts]
    lo, hi = (sum(b[i] << DIGIT_BITS * k for k, b in enumerate(bounds)) for i in (0, 1))
    residue = None
    if remains:
        residue = domain.wire(f"{con.name}/{label}.residue", RESIDUE)
        limbs.add_value(residue, -1)
        lo -= (1 << WEIGHT_BITS) - 1
    digits: tuple[Digit, ...] = digits_for(lo // prime, hi // prime)
    quotient = domain.wire(f"{con.name}/{label}.quotient", digits)
    limbs.add_value(quotient, -prime)
    return Division(prime, residue, quotient, domain.zero(con, label, limbs))


def reduction(circuit: Circuit, name: str, axis: Axis, terms: Sequence[Sequence[Term]]) -> Reduction:
    """Sum `axis` of terms, given for each prime; the first one reads all axes, and first the one that is unrolled."""
    read = [(a, n) for source in terms[0][0][0].sources for a, n in source.extents().items() if a != axis.name]
    con = circuit.constraint(name, [Axis(a, n) for a, n in read], late=True)
    domain, draws = Domain(circuit, con.out, unrolled=True, late=True), circuit.draws.axis(axis.name, axis.size)
    divisions = []
    for i, (draw, own) in enumerate(zip(draws, terms, strict=True)):
        limbs = Limbs()
        for view, d, coef in own:
            for part, (shift, _) in enumerate(PARTS):
                sources = weighed(view.sources, axis.name, axis.size, draw, coef % draw.prime, part)
                limbs.add(View(view.tensor, sources).digit(d), shift)
        divisions.append(divided(con, domain, f"q{i}", limbs, draw.prime, remains=True))
    return Reduction(con, axis.name, axis.size, draws, [list(own) for own in terms], divisions)


@dataclass(frozen=True)
class Order:
    """The order in which axes of terms are summed; sizes: of all axes that the terms read.

    gather: the index table through which the terms read one of the axes. Axes before that one are reduced over the
    entries of the table's own axis, which are read through the table when it is summed.
    """

    axes: tuple[Axis, ...]
    gather: Gather | None
    sizes: Mapping[str, int]

    @classmethod
    def of(cls, terms: Sequence[Term], axes: Sequence[Axis]) -> Order:
        """The one with the fewest residues, and among equals the first."""
        view = terms[0][0]
        names = {axis.name for axis in axes}
        gather = next((s for s in view.sources if isinstance(s, Gather) and names & set(s.axes)), None)
        sizes = {a: n for source in view.sources for a, n in source.extents().items()}
        return min((cls(order, gather, sizes) for order in permutations(axes)), key=lambda order: order.residues)

    def entries(self, number: int) -> Gather | None:
        """The table, if axis `number` comes before the one that is read through it."""
        read = self.gather is None or any(a.name in self.gather.axes for a in self.axes[: number + 1])
        return None if read else self.gather

    @property
    def residues(self) -> int:
        """How many of them it takes modulo each prime."""
        left, total = dict(self.sizes), 0
        for number, axis in enumerate(self.axes):
            left.pop(axis.name)
            gather = self.entries(number)
            read = gather.axes if gather else ()
            total += (gather.size if gather else 1) * prod(n for a, n in left.items() if a not in read)
        return total


def reductions(
    circuit: Circuit, name: str, terms: Sequence[Term], axes: Sequence[Axis]
) -> tuple[list[Reduction], list[View]]:
    """Sum axes of terms one after the other: the steps, and the residues in the end (none if there are no axes)."""
    order = Order.of(terms, axes)
    steps: list[Reduction] = []
    own, views = [list(terms) for _ in PRIMES], list[View]()
    for number, axis in enumerate(order.axes):
        if gather := order.entries(number):
            own = [[(_entries(view, gather), d, coef) for view, d, coef in part] for part in own]
        steps.append(reduction(circuit, f"{name}.{axis.name}", axis, own))
        views = [_gathered(view, gather) if gather else view for view in steps[-1].residues]
        own = [value_terms(view, 1) for view in views]
    return steps, views


def _entries(view: View, gather: Gather) -> View:
    """The view with the entries of the axis that `gather` reads as a domain axis."""
    return View(view.tensor, tuple(Axis(ENTRIES, s.size) if s == gather else s for s in view.sources))


def _gathered(view: View, gather: Gather) -> View:
    """The inverse of `_entries`."""
    return View(view.tensor, tuple(gather if ENTRIES in s.axes else s for s in view.sources))


def combine(
    circuit: Circuit,
    con: Congruence,
    left: Sequence[Form],
    right: Sequence[Form],
    rest: Sequence[Term],
    left_axes: Sequence[Axis],
    right_axes: Sequence[Axis],
) -> Combination:
    """Add  sum_s left right + rest = 0  to a congruence, and its combination modulo every prime.

    left, right: limbs worth 2^(22 k), of which one need have no output axes; rest: terms over all outputs. The other
    axes of `con.out` are shared, the first of them unrolled.
    """
    product = (whole(terms_of(left)), whole(terms_of(right)))
    con.add("sum", Expr((product,), whole(rest)))
    steps: list[Reduction] = []

    def factor(label: str, limbs: Sequence[Form], axes: Sequence[Axis]) -> list[list[Form]]:
        own, views = reductions(circuit, f"{con.name}/{label}", terms_of(limbs), axes)
        steps.extend(own)
        return [limb_forms(view) for view in views] if axes else [list(limbs)] * len(PRIMES)

    factors = factor("left", left, left_axes), factor("right", right, right_axes)
    own, residues = reductions(circuit, f"{con.name}/rest", rest, (*left_axes, *right_axes))
    steps += own
    summed = {axis.name for axis in (*left_axes, *right_axes)}
    shared = [axis for axis in con.out if axis.name not in summed]
    closing = circuit.constraint(f"{con.name}/combined", shared, con.summed, late=True)
    domain, divisions = Domain(circuit, closing.out, unrolled=True, late=True), []
    for i, (prime, a, b, z) in enumerate(zip(PRIMES, *factors, residues, strict=True)):
        limbs = Limbs().add_product(a, b).add_value(z)
        divisions.append(divided(closing, domain, f"q{i}", limbs, prime, remains=False))
        con.combined.add(prime)
    made = Combination(steps, Closing(closing, *factors, residues, divisions), len(summed))
    circuit.combinations.append(made)
    return made
