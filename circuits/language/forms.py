"""Views of tensors, and linear combinations of their digits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import gcd, prod

from zkcert.core.field import F

from .sources import Source
from .tensors import Tensor


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
