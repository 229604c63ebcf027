"""Network values: linear combinations of committed tensors, so that sums and known multiples cost no digits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from circuits.language.forms import Form, View
from circuits.language.sources import Source
from circuits.language.tensors import Tensor
from circuits.language.wide import limb_forms


def joined(forms: Sequence[Form]) -> Form:
    """The sum of forms without common terms."""
    return Form(tuple(term for form in forms for term in form.terms))


@dataclass(frozen=True)
class Multiple:
    """`coef` times a tensor in radix 2^22 whose unrolled axis is "pass" or "step"."""

    tensor: Tensor
    per: str
    coef: int = 1

    def index(self, p: int) -> int:
        return p if self.per == "pass" else p // 2


@dataclass(frozen=True)
class Value:
    """A sum of parts with the same inner axes `shape`: (batch, ...)."""

    parts: tuple[Multiple, ...]
    shape: tuple[int, ...]

    @classmethod
    def of(cls, tensor: Tensor, per: str = "pass", coef: int = 1) -> Value:
        return cls((Multiple(tensor, per, coef),), tensor.shape)

    @property
    def tensor(self) -> Tensor:
        """The tensor of a value that is one, as it is committed; ValueError for any other."""
        if len(self.parts) != 1 or self.parts[0].coef != 1:
            raise ValueError("a combination of tensors is not one tensor")
        return self.parts[0].tensor

    def __add__(self, other: Value) -> Value:
        """ValueError unless the shapes are equal."""
        if self.shape != other.shape:
            raise ValueError(f"values of shapes {self.shape} and {other.shape} have no sum")
        coefs: dict[tuple[Tensor, str], int] = {}
        for part in self.parts + other.parts:
            key = part.tensor, part.per
            coefs[key] = coefs.get(key, 0) + part.coef
        return Value(tuple(Multiple(*key, c) for key, c in coefs.items() if c), self.shape)

    def __mul__(self, k: int) -> Value:
        return Value(tuple(Multiple(part.tensor, part.per, part.coef * k) for part in self.parts), self.shape)

    __rmul__ = __mul__

    def __sub__(self, other: Value) -> Value:
        return self + other * -1

    # -- in constraints

    def limbs(self, first: Callable[[str], Source], *inner: Source) -> list[Form]:
        """Forms worth 2^(22 k), over the axes of the sources; `first(per)` is the source of an unrolled axis."""
        limbs: list[list[Form]] = []
        for part in self.parts:
            forms = limb_forms(View(part.tensor, (first(part.per), *inner)))
            limbs += [[] for _ in range(len(forms) - len(limbs))]
            for k, form in enumerate(forms):
                limbs[k].append(form * part.coef)
        return [joined(forms) for forms in limbs]

    def whole(self, first: Callable[[str], Source], *inner: Source) -> Form:
        """The value as one form."""
        return joined([View(part.tensor, (first(part.per), *inner)).whole(part.coef) for part in self.parts])
