"""The language circuits are written in: digit tensors, views of them, and integer identities over axes.

A *tensor* is a family of range-checked digits; its value is ``sum_d digit_d * 2^shift_d``. A *view* reads a tensor
through public index maps, one *source* per tensor axis. A *form* is a linear combination of view digits. An
*identity* states, for every index of its output axes, that

    sum over summed axes of sum_k A_k * B_k  +  linear  +  constant  =  0        (over the integers)

where A_k, B_k and `linear` are forms. `Constraint.add` proves from the digit ranges that the left side is smaller
than p in magnitude, so that the identity modulo p, which is what is proved, is the identity over the integers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import gcd, prod
from typing import Protocol

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from zkcert.core import field as ff
from zkcert.core.field import F, P
from zkcert.errors import UnusableInput

U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]
Vectors = Mapping[str, U64]

DIGIT_BITS = 22
MAX_TERMS = 1 << 16  # of all constraints of a circuit


def ceil_log2(n: int) -> int:
    """Smallest b with 2^b >= n (n >= 1)."""
    return (n - 1).bit_length()


# ------------------------------------------------------------------------------------------------ digits, tensors


@dataclass(frozen=True, order=True)
class Range:
    """The exact range ``[lo, lo + size)`` of a digit; `size` is the number of entries of its lookup table."""

    size: int
    lo: int = 0

    @property
    def hi(self) -> int:
        return self.lo + self.size - 1


def unsigned(bits: int) -> Range:
    return Range(1 << bits)


def balanced(bits: int) -> Range:
    return Range(1 << bits, -(1 << (bits - 1)))


BIT = unsigned(1)
U22 = unsigned(DIGIT_BITS)
B22 = balanced(DIGIT_BITS)


@dataclass(frozen=True)
class Digit:
    """One digit of a tensor: its exact range and the power of two it is worth."""

    range: Range
    shift: int = 0


LOW = unsigned(10)
RARE_BITS = (16, 17, 19, 20, 21)


def radix(*ranges: Range) -> tuple[Digit, ...]:
    """Digits worth 2^0, 2^22, 2^44, ... with the given ranges.

    A range that only a few small tensors use is two digits, low ten bits first: its table would cost more.
    """
    out = []
    for i, r in enumerate(ranges):
        shift = DIGIT_BITS * i
        if r.size in [1 << bits for bits in RARE_BITS] and r.lo % LOW.size == 0:
            out += [Digit(LOW, shift), Digit(Range(r.size // LOW.size, r.lo // LOW.size), shift + 10)]
        else:
            out.append(Digit(r, shift))
    return tuple(out)


@dataclass(frozen=True, eq=False)
class Tensor:
    """A committed tensor. Axis 0 (`unroll`) has columns of its own per index; the others lie inside a column."""

    name: str
    unroll: int
    shape: tuple[int, ...]
    digits: tuple[Digit, ...]
    views: dict[tuple[Source, ...], View] = field(default_factory=dict, init=False, repr=False)

    @property
    def sizes(self) -> tuple[int, ...]:
        return (self.unroll, *self.shape)

    def bounds(self) -> tuple[int, int]:
        lo = sum(d.range.lo << d.shift for d in self.digits)
        return lo, sum(d.range.hi << d.shift for d in self.digits)


# ------------------------------------------------------------------------------------------------ sources, views


class Source(ABC):
    """How a tensor axis of length `size` is indexed from domain axes `axes`: a public linear map."""

    size: int

    @property
    def axes(self) -> tuple[str, ...]:
        """The domain axes it reads."""
        return ()

    @abstractmethod
    def vector(self, vecs: Vectors) -> U64:
        """Weights (2, size) of the tensor axis induced by weights `vecs[axis]` of the domain axes."""

    def terms(self) -> int:
        """Largest number of tensor entries one domain index reads (for bounds)."""
        return 1

    def extents(self) -> dict[str, int]:
        """The number of indices of each domain axis."""
        return {}


@dataclass(frozen=True)
class Same(Source):
    """Tensor index = domain index."""

    axis: str
    size: int

    @property
    def axes(self) -> tuple[str, ...]:
        return (self.axis,)

    def vector(self, vecs: Vectors) -> U64:
        return vecs[self.axis][:, : self.size]

    def extents(self) -> dict[str, int]:
        return {self.axis: self.size}


@dataclass(frozen=True)
class Map(Source):
    """Tensor index = table[domain index]; -1 reads zero."""

    axis: str
    table: tuple[int, ...]
    size: int
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_hash", hash((self.axis, self.table, self.size)))

    def __hash__(self) -> int:
        return self._hash

    @property
    def axes(self) -> tuple[str, ...]:
        return (self.axis,)

    def vector(self, vecs: Vectors) -> U64:
        return scatter(vecs[self.axis][:, : len(self.table)], np.array(self.table), self.size)

    def extents(self) -> dict[str, int]:
        return {self.axis: len(self.table)}


class Table:
    """A public index table (k, s) -> tensor index or -1; equal to another by name and content.

    rule: the text of the rule that determines the content, if there is one.
    """

    def __init__(self, name: str, index: I64) -> None:
        content = repr(index.shape).encode() + index.astype("<i8").tobytes()
        self._key: Hashable = (name, blake3(content).digest())
        self.shape: tuple[int, ...] = index.shape
        self.rule: str | None = None
        self._make: Callable[[], I64] = lambda: index

    @classmethod
    def made(cls, rule: str, shape: tuple[int, int], make: Callable[[], I64]) -> Table:
        """A table that `make` makes when it is read; `rule` determines its content."""
        self = cls.__new__(cls)
        self._key, self.shape, self.rule, self._make = rule, shape, rule, make
        return self

    @cached_property
    def index(self) -> I64:
        """The entries, int64 of `shape`; not to be written to."""
        return self._make()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Table) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        return f"Table({self._key}, {self.shape})"


@dataclass(frozen=True)
class Gather(Source):
    """Tensor index = table[k, s] for two domain axes; -1 reads zero. Rows of the table are injective."""

    k: str
    s: str
    table: Table
    size: int

    @property
    def axes(self) -> tuple[str, ...]:
        return (self.k, self.s)

    def vector(self, vecs: Vectors) -> U64:
        return self.weigh(vecs[self.k], vecs[self.s])

    def extents(self) -> dict[str, int]:
        return {self.k: self.table.shape[0], self.s: self.table.shape[1]}

    def weigh(self, vk: U64, vs: U64) -> U64:
        """sum_{k,s} vk[k] vs[s] e_{table[k,s]}, shape (2, size)."""
        out = np.zeros((2, self.size), np.uint64)
        for k, row in enumerate(self.table.index):
            ok = row >= 0
            term = ff.f_mul(vs[:, : len(row)][:, ok], vk[:, k : k + 1])
            out[:, row[ok]] = ff.f_add(out[:, row[ok]], term)
        return out


@dataclass(frozen=True)
class SuffixGather(Source):
    """Reads sum_{j <= k} tensor[table[j, s]]: a running sum along k (linear terms only)."""

    k: str
    s: str
    table: Table
    size: int

    @property
    def axes(self) -> tuple[str, ...]:
        return (self.k, self.s)

    def vector(self, vecs: Vectors) -> U64:
        count = len(self.table.index)
        suffix = np.zeros((2, count), np.uint64)
        running = np.zeros(2, np.uint64)
        for k in reversed(range(count)):
            running = ff.f_add(running, vecs[self.k][:, k])
            suffix[:, k] = running
        return Gather(self.k, self.s, self.table, self.size).weigh(suffix, vecs[self.s])

    def extents(self) -> dict[str, int]:
        return {self.k: self.table.shape[0], self.s: self.table.shape[1]}

    def terms(self) -> int:
        return self.table.shape[0]


@dataclass(frozen=True)
class Sum(Source):
    """Sums the tensor axis with public non-negative weights (default: ones over all `size` entries)."""

    size: int
    weights: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.weights is not None and (len(self.weights) != self.size or min(self.weights) < 0):
            raise ValueError(f"a Sum over {self.size} entries needs as many non-negative weights")

    def vector(self, vecs: Vectors) -> U64:
        w = np.ones(self.size, np.int64) if self.weights is None else np.array(self.weights, np.int64)
        return ff.f_from_fp(ff.fp_from_int(w))

    def terms(self) -> int:
        return self.size if self.weights is None else sum(self.weights)


@dataclass(frozen=True)
class Scaled(Source):
    """Tensor index = domain index, the entry times a public non-negative weight of the index (linear terms only)."""

    axis: str
    weights: tuple[int, ...]
    size: int

    def __post_init__(self) -> None:
        if len(self.weights) != self.size or min(self.weights) < 0:
            raise ValueError(f"scaling {self.size} entries needs as many non-negative weights")

    @property
    def axes(self) -> tuple[str, ...]:
        return (self.axis,)

    def vector(self, vecs: Vectors) -> U64:
        return ff.f_scale(vecs[self.axis][:, : self.size], ff.fp_from_int(np.array(self.weights, np.int64)))

    def terms(self) -> int:
        return max(self.weights)

    def extents(self) -> dict[str, int]:
        return {self.axis: self.size}


@dataclass(frozen=True)
class GatherSum(Source):
    """Reads sum_k tensor[table[k, s]] for the domain axis s (linear terms only)."""

    s: str
    table: Table
    size: int

    @property
    def axes(self) -> tuple[str, ...]:
        return (self.s,)

    def vector(self, vecs: Vectors) -> U64:
        ones = ff.f_from_fp(np.ones(len(self.table.index), np.uint64))
        return Gather("", self.s, self.table, self.size).weigh(ones, vecs[self.s])

    def extents(self) -> dict[str, int]:
        return {self.s: self.table.shape[1]}

    def terms(self) -> int:
        return self.table.shape[0]


def scatter(v: U64, index: I64, size: int) -> U64:
    """(2, n) weights added up at `index` (entries -1 dropped) into (2, size); n at most 2^28."""
    low, high = np.zeros((2, 2, size), np.uint64)
    kept = index >= 0
    for lane in range(2):
        np.add.at(low[lane], index[kept], v[lane, kept] & np.uint64((1 << 32) - 1))
        np.add.at(high[lane], index[kept], v[lane, kept] >> np.uint64(32))
    return ff.fp_add(ff.fp_mul(high, np.array(1 << 32, np.uint64)), low)


ONCE = Sum(1)


class View:
    """A tensor read through one source per axis (the unrolled axis first); one object per tensor and sources.

    axes: the domain axes it reads; count: the largest number of tensor entries one domain index reads; reach: per
    digit, the smallest and the largest sum of up to so many.
    """

    __slots__ = ("axes", "count", "reach", "sources", "tensor")
    tensor: Tensor
    sources: tuple[Source, ...]
    axes: frozenset[str]
    count: int
    reach: tuple[tuple[int, int], ...]

    def __new__(cls, tensor: Tensor, sources: tuple[Source, ...]) -> View:
        found = tensor.views.get(sources)
        if found is not None:
            return found
        sizes = tensor.sizes
        if len(sources) != len(sizes):
            raise ValueError(f"{tensor.name}: {len(sources)} sources for {sizes}")
        for src, size in zip(sources, sizes, strict=True):
            if src.size != size:
                raise ValueError(f"{tensor.name}: source {src} does not fit sizes {sizes}")
        axes = [a for s in sources for a in s.axes]
        if len(set(axes)) < len(axes):
            raise ValueError(f"{tensor.name}: two sources read the same axis of {axes}")
        self = super().__new__(cls)
        self.tensor, self.sources = tensor, sources
        self.axes = frozenset(axes)
        self.count = n = prod([s.terms() for s in sources])
        self.reach = tuple([(min(n * d.range.lo, 0), max(n * d.range.hi, 0)) for d in tensor.digits])
        tensor.views[sources] = self
        return self

    def __repr__(self) -> str:
        return f"View({self.tensor.name}, {self.sources})"

    def check(self, sizes: Mapping[str, int]) -> None:
        """Raise ValueError unless every source covers its domain axes exactly."""
        for source in self.sources:
            for axis, size in source.extents().items():
                if sizes.get(axis) != size:
                    raise ValueError(f"{self.tensor.name}: {axis} has {sizes.get(axis)} indices, its source {size}")

    def digit(self, d: int, coef: int = 1) -> Form:
        return Form(((self, d, coef),)) if coef else ZERO

    def whole(self, coef: int = 1) -> Form:
        """The value: sum of the digits times their powers of two."""
        return Form(tuple([(self, i, coef << d.shift) for i, d in enumerate(self.tensor.digits)])) if coef else ZERO


Coef = int | F


Terms = tuple[tuple[View, int, Coef], ...]


class Form:
    """A linear combination of view digits with integer (or, inside a reduction, field) coefficients. Immutable."""

    __slots__ = ("_axes", "_bounds", "_hash", "_primitive", "terms")

    def __init__(self, terms: Terms = ()) -> None:
        self.terms = terms
        self._hash: int | None = None
        self._axes: frozenset[str] | None = None
        self._bounds: tuple[int, int] | None = None
        self._primitive: tuple[int, Form] | None = None

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Form) and self.terms == other.terms)

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash(self.terms)
        return self._hash

    def __repr__(self) -> str:
        return f"Form({self.terms})"

    def __add__(self, other: Form) -> Form:
        return total((self, other))

    def __mul__(self, k: Coef) -> Form:
        if k == 1:
            return self
        if k == 0:
            return ZERO
        return Form(tuple([(v, d, c * k) for v, d, c in self.terms]))

    __rmul__ = __mul__

    def __neg__(self) -> Form:
        return self * -1

    def __sub__(self, other: Form) -> Form:
        return self + -other

    @property
    def axes(self) -> frozenset[str]:
        """The domain axes its views read."""
        if self._axes is None:
            self._axes = frozenset().union(*{v.axes for v, _, _ in self.terms})
        return self._axes

    @property
    def primitive(self) -> tuple[int, Form]:
        """With integer coefficients: an integer times a form that all its non-zero multiples share."""
        if self._primitive is None:
            self._primitive = self._divided()
        return self._primitive

    def _divided(self) -> tuple[int, Form]:
        coefs = [c for _, _, c in self.terms if isinstance(c, int)]
        content = gcd(*coefs)
        if not content:
            return 1, self
        if coefs[0] < 0:
            content = -content
        terms = zip(self.terms, coefs, strict=True)
        return content, self if content == 1 else Form(tuple((v, d, c // content) for (v, d, _), c in terms))

    @property
    def bounds(self) -> tuple[int, int]:
        """With integer coefficients: the exact interval of the value (digits independent, absent reads being zero)."""
        if self._bounds is None:
            lo = hi = 0
            for v, d, c in self.terms:
                assert isinstance(c, int)
                low, high = v.reach[d]
                lo, hi = lo + c * (low if c > 0 else high), hi + c * (high if c > 0 else low)
            self._bounds = lo, hi
        return self._bounds


def total(forms: Iterable[Form]) -> Form:
    """The sum of forms."""
    parts = [form for form in forms if form.terms]
    if len(parts) == 1:
        return parts[0]
    acc: dict[tuple[View, int], Coef] = {}
    for form in parts:
        for v, d, c in form.terms:
            key = v, d
            acc[key] = acc[key] + c if key in acc else c
    return Form(tuple([(v, d, c) for (v, d), c in acc.items() if c != 0]))


ZERO = Form()


# ------------------------------------------------------------------------------------------------ identities


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
            low = high = 1
            for _, w in c.weights:
                low, high = (
                    min(low * min(w), low * max(w), high * min(w), high * max(w)),
                    max(low * min(w), low * max(w), high * min(w), high * max(w)),
                )
            lo, hi = lo + min(c.coef * low, c.coef * high), hi + max(c.coef * low, c.coef * high)
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


@dataclass(frozen=True)
class DomainAxis:
    name: str
    size: int

    @property
    def bits(self) -> int:
        return ceil_log2(self.size)


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
    """Identities over common output and summed axes; they are proved as one random combination."""

    name: str
    out: tuple[DomainAxis, ...]
    summed: tuple[DomainAxis, ...] = ()
    members: list[tuple[str, Expr]] = field(default_factory=list)
    size: Size | None = None
    _checked: dict[int, View] = field(default_factory=dict, repr=False)

    def add(self, label: str, e: Expr | Form) -> None:
        e = expr(e)
        count = 1
        for ax in self.summed:
            count *= ax.size
        lo, hi = e.bounds(count)
        if max(-lo, hi) >= P:
            reach = max(-lo, hi).bit_length()
            raise BoundError(f"{self.name}/{label}: |value| can reach 2^{reach}, p is 2^61-1{self._advice()}")
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


class Matrix(Protocol):
    """A public matrix over F_p, read by columns."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, at: tuple[slice, slice], /) -> U64: ...


@dataclass
class ModularLink:
    """Equations over F_p (not integers): for unrolled index u and entry b of axis 1,
    sum_parts sum_f M[row, f] * tensor[u, b, f] = target[u, b, row]; M is public."""

    name: str
    parts: Sequence[tuple[Tensor, Matrix]]
    target: U64


@dataclass
class Circuit:
    """Everything prover and verifier agree on before a proof: tensors and constraints, in order."""

    tensors: list[Tensor] = field(default_factory=list)
    constraints: list[Constraint] = field(default_factory=list)
    publics: list[PublicTensor] = field(default_factory=list)
    links: list[ModularLink] = field(default_factory=list)
    size: Size = field(default_factory=Size)

    def tensor(
        self,
        name: str,
        unroll: int,
        shape: Iterable[int],
        digits: tuple[Digit, ...],
    ) -> Tensor:
        t = Tensor(name, unroll, tuple(shape), digits)
        self.tensors.append(t)
        return t

    def constraint(self, name: str, out: Iterable[DomainAxis], summed: Iterable[DomainAxis] = ()) -> Constraint:
        c = Constraint(name, tuple(out), tuple(summed), size=self.size)
        self.constraints.append(c)
        return c
