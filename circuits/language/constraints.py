"""Identities over the integers, with their bounds, and the circuit they make."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from zkcert.core.field import I64, U64, P
from zkcert.errors import UnusableInput

from .drawn import PRIMES, Draws
from .forms import ZERO, Form, View, total
from .functions import MAX_NUMBERS, FunctionTable, Lookup
from .sources import Axis
from .tensors import Digit, Tensor

if TYPE_CHECKING:
    from .combination import Combination
    from .wide import CarryStep

T = TypeVar("T")

MAX_TERMS = 1 << 16  # of all constraints of a circuit


@dataclass(frozen=True)
class Constant:
    """coef * prod_axis weights[axis][index]; axes not named weigh 1."""

    coef: int
    weights: tuple[tuple[str, tuple[int, ...]], ...] = ()


@dataclass(slots=True, unsafe_hash=True)
class Expr:
    """sum of products + linear + constants: one side of an identity. Immutable (`frozen` costs time)."""

    products: tuple[tuple[Form, Form], ...] = ()
    linear: Form = ZERO
    constants: tuple[Constant, ...] = ()

    def __add__(self, other: Expr | Form | int) -> Expr:
        return expr_total((self, expr(other)))

    __radd__ = __add__

    def __mul__(self, k: int) -> Expr:
        if k == 1:
            return self
        consts = tuple(Constant(c.coef * k, c.weights) for c in self.constants)
        return Expr(tuple((a * k, b) for a, b in self.products), self.linear * k, consts)

    __rmul__ = __mul__

    def __neg__(self) -> Expr:
        return self * -1

    def __sub__(self, other: Expr | Form | int) -> Expr:
        return self + -expr(other)

    def bounds(self, count: int) -> tuple[int, int]:
        """Interval of the value when products are summed over `count` indices."""
        lo, hi = self.linear.bounds
        for a, b in self.products:
            (al, ah), (bl, bh) = a.bounds, b.bounds
            corners = [al * bl, al * bh, ah * bl, ah * bh, 0]
            lo, hi = lo + count * min(corners), hi + count * max(corners)
        for c in self.constants:
            low = high = c.coef
            for _, w in c.weights:
                corners = [x * y for x in (low, high) for y in (min(w), max(w))]
                low, high = min(corners), max(corners)
            lo, hi = lo + low, hi + high
        return lo, hi


def expr_total(parts: Sequence[Expr]) -> Expr:
    """The sum of expressions."""
    if len(parts) == 1:
        return parts[0]
    products = tuple([pair for e in parts for pair in e.products])
    constants = tuple([c for e in parts for c in e.constants])
    return Expr(products, total([e.linear for e in parts]), constants)


def expr(x: Expr | Form | int) -> Expr:
    if isinstance(x, Expr):
        return x
    return Expr(linear=x) if isinstance(x, Form) else Expr(constants=(Constant(x),) if x else ())


def product(a: Form, b: Form) -> Expr:
    return Expr(((a, b),))


class BoundError(UnusableInput):
    """An identity could wrap around p: the circuit does not close and is refused (smaller layers or batches do)."""


@dataclass
class Size:
    """The terms of all constraints of a circuit: each is a digit of a view, in a linear part or an operand."""

    most: int = field(default_factory=lambda: MAX_TERMS)
    terms: int = 0

    def spend(self, terms: int) -> None:
        """Count terms; UnusableInput once there are too many, so that nobody builds what is refused."""
        self.terms += terms
        if self.terms > self.most:
            raise UnusableInput(f"the circuit has more than {self.most} terms: fewer layers can be proved")


@dataclass
class Constraint:
    """Identities over common output and summed axes; they are proved as one random combination.

    carries: of each wide identity among them, for the prover to fill.
    """

    name: str
    out: tuple[Axis, ...]
    summed: tuple[Axis, ...] = ()
    members: list[tuple[str, Expr]] = field(default_factory=list)
    size: Size | None = None
    carries: list[list[CarryStep]] = field(default_factory=list)
    _checked: dict[int, View] = field(default_factory=dict, repr=False)
    limit: ClassVar[int] = P
    limit_text: ClassVar[str] = "p is 2^61-1"

    def reach(self, e: Expr) -> int:
        """The largest magnitude of an expression over the summed axes."""
        lo, hi = e.bounds(prod(ax.size for ax in self.summed))
        return max(-lo, hi)

    def add(self, label: str, e: Expr | Form) -> None:
        e = expr(e)
        reach = self.reach(e)
        if reach >= self.limit:
            text = f"|value| can reach 2^{reach.bit_length()}, {self.limit_text}"
            raise BoundError(f"{self.name}/{label}: {text}{self._advice()}")
        names = {a.name for a in self.out}
        used = set(e.linear.axes) | {a for c in e.constants for a, _ in c.weights}
        if not used <= names:
            raise ValueError(f"{self.name}/{label}: linear part uses axes {used - names}")
        sizes = {a.name: a.size for a in (*self.out, *self.summed)}
        for form in (e.linear, *(f for pair in e.products for f in pair)):
            for view, _, _ in form.terms:
                if id(view) not in self._checked:
                    view.check(sizes)
                    self._checked[id(view)] = view
        for form in (f for pair in e.products for f in pair):
            if len({v.axes for v, _, _ in form.terms}) > 1:
                raise ValueError(f"{self.name}/{label}: the views of an operand read different axes")
        if self.size is not None:
            self.size.spend(len(e.linear.terms) + sum(len(a.terms) + len(b.terms) for a, b in e.products))
        self.members.append((label, e))

    def _advice(self) -> str:
        """What a sum of this constraint goes over, and so what to make smaller."""
        summed = [(a.size, *_COUNTED.get(a.name, _OTHER)) for a in self.summed if a.size > 1]
        if not summed:
            return ""
        counts = " x ".join(f"{size:,} {what}" for size, what, _ in summed)
        return f": it adds up {counts}; take smaller {' or '.join(dict.fromkeys(less for *_, less in summed))}"


@dataclass
class Congruence(Constraint):
    """Identities modulo p only. Below the limit an integer that p divides is p times one of less than 58 bits, which is
    zero if two of the PRIMES divide it: random combinations modulo all of them (`combination.py`) show that it is.

    combined: the primes for which the circuit holds them.
    """

    combined: set[int] = field(default_factory=set)
    limit: ClassVar[int] = P << 58
    limit_text: ClassVar[str] = "a congruence holds less than 2^119"


_COUNTED = {
    "b": ("samples", "batches"),
    "s": ("positions of an image", "images"),
    "i": ("positions of an image", "images"),
    "k": ("positions of a kernel", "kernels"),
}
"""What the indices of summed axes stand for, and what has fewer of them."""
_OTHER = ("channels or features", "layers")


@dataclass
class PublicTensor:
    """Ties unrolled index `index` of a tensor to public digits (n_digits, *shape) int64, or to what makes them."""

    tensor: Tensor
    index: int
    digits: I64 | Callable[[], I64]

    @property
    def values(self) -> I64:
        return self.digits() if callable(self.digits) else self.digits


@dataclass
class ModularLink:
    """Equations over F_p (not integers): for unrolled index u and entry b of axis 1,
    sum_parts sum_f M[row, f] * tensor[u, b, f] = target[u, b, row]; M is public, and made column by column:
    M(start, stop)."""

    name: str
    parts: Sequence[tuple[Tensor, Callable[[int, int], U64]]]
    target: U64


@dataclass
class Circuit:
    """Everything prover and verifier agree on before a proof: tensors and constraints, in order."""

    tensors: list[Tensor] = field(default_factory=list)
    constraints: list[Constraint] = field(default_factory=list)
    publics: list[PublicTensor] = field(default_factory=list)
    links: list[ModularLink] = field(default_factory=list)
    size: Size = field(default_factory=Size)
    draws: Draws = field(default_factory=Draws)
    combinations: list[Combination] = field(default_factory=list)
    lookups: list[Lookup] = field(default_factory=list)

    def tensor(
        self, name: str, unroll: int, shape: Iterable[int], digits: tuple[Digit, ...], late: bool = False
    ) -> Tensor:
        t = Tensor(name, unroll, tuple(shape), digits, late)
        self.tensors.append(t)
        return t

    def constraint(
        self, name: str, out: Iterable[Axis], summed: Iterable[Axis] = (), *, late: bool = False
    ) -> Constraint:
        """late: of a combination, whose terms are bounded by the number of congruences."""
        c = Constraint(name, tuple(out), tuple(summed), size=None if late else self.size)
        self.constraints.append(c)
        return c

    def congruence(self, name: str, out: Iterable[Axis], summed: Iterable[Axis] = ()) -> Congruence:
        c = Congruence(name, tuple(out), tuple(summed), size=self.size)
        self.constraints.append(c)
        return c

    def lookup(self, name: str, out: Iterable[Axis], table: FunctionTable, components: Iterable[Form]) -> Lookup:
        """Say that for every index of `out` the components are a row of the table."""
        made = Lookup(name, tuple(out), table, tuple(components))
        self.size.spend(made.check())
        if not made.closed:
            raise BoundError(f"{name}: a component can differ from an entry by p = 2^61 - 1 or more")
        self.lookups.append(made)
        numbers = sum(rows * count for rows, count in (known.shape for known in self.functions))
        if numbers > MAX_NUMBERS:
            raise UnusableInput(f"function tables of {numbers} numbers, at most {MAX_NUMBERS} can be proved")
        return made

    @property
    def functions(self) -> list[FunctionTable]:
        """The tables of all lookups, each once, in the order in which they are first used."""
        return list(dict.fromkeys(lookup.table for lookup in self.lookups))

    def tried(self, declare: Callable[[], T]) -> T | None:
        """What `declare` gives; None, and nothing is declared, if an identity of its could wrap around p."""
        lists: list[list[Any]] = [self.tensors, self.constraints, self.combinations, self.lookups]
        lengths, terms, sizes = list(map(len, lists)), self.size.terms, self.draws.sizes
        try:
            return declare()
        except BoundError:
            for declared, length in zip(lists, lengths, strict=True):
                del declared[length:]
            self.size.terms = terms
            self.draws.restore(sizes)
            return None

    def require_combined(self) -> None:
        """ValueError if a congruence lacks its combination modulo one of the primes: it would hold modulo p only."""
        for con in self.constraints:
            if isinstance(con, Congruence) and con.combined != set(PRIMES):
                raise ValueError(f"{con.name}: a congruence without its combinations")
