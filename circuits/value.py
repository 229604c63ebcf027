"""Network values: linear combinations of committed tensors, so that sums and known multiples cost no digits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from circuits.language.forms import Form, View
from circuits.language.sources import Axis, Map, Source
from circuits.language.tensors import Tensor
from circuits.language.wide import limb_forms
from zkcert.errors import UnusableInput

Unrolled = Callable[[str], Source]
"""The source of an unrolled axis, "pass" or "step"."""


def joined(forms: Sequence[Form]) -> Form:
    """The sum of forms without common terms."""
    return Form(tuple(term for form in forms for term in form.terms))


class Places(tuple[int, ...]):
    """A table of channels that is hashed once: it is a part of many keys."""

    def __hash__(self) -> int:
        if "hash" not in self.__dict__:
            self.__dict__["hash"] = super().__hash__()
        return int(self.__dict__["hash"])


@dataclass(frozen=True)
class Multiple:
    """`coef` times a tensor in radix 2^22 whose unrolled axis is "pass" or "step".

    channels: the tensor's channel by that of the value, -1 where the value has none of it; None if they are the same.
    """

    tensor: Tensor
    per: str
    coef: int = 1
    channels: Places | None = None

    def index(self, p: int) -> int:
        return p if self.per == "pass" else p // 2

    def view(self, first: Source, inner: Sequence[Source]) -> View:
        """The tensor as the value's axes read it. Channels that are not its own are read by single axes only."""
        batch, *rest = inner
        if self.channels is not None:
            axis = rest[0]
            if not isinstance(axis, Axis):
                raise TypeError(f"joined channels of {self.tensor.name} cannot be read by {axis}")
            rest[0] = Map(axis.name, self.channels, self.tensor.shape[1])
        return View(self.tensor, (first, batch, *rest))

    def moved(self, channels: Sequence[int]) -> Multiple:
        """The same for a value whose channels are these of this one's; -1: none."""
        own = self.channels or range(self.tensor.shape[1])
        return Multiple(self.tensor, self.per, self.coef, Places(own[c] if c >= 0 else -1 for c in channels))


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
        if len(self.parts) != 1 or self.parts[0] != Multiple(self.parts[0].tensor, self.parts[0].per):
            raise ValueError("a combination of tensors is not one tensor")
        return self.parts[0].tensor

    def __add__(self, other: Value) -> Value:
        """UnusableInput unless the shapes are equal."""
        if self.shape != other.shape:
            raise UnusableInput("one branch is flattened, the other is not")
        coefs: dict[Multiple, int] = {}
        for part in self.parts + other.parts:
            key = replace(part, coef=1)
            coefs[key] = coefs.get(key, 0) + part.coef
        return Value(tuple(replace(key, coef=c) for key, c in coefs.items() if c), self.shape)

    def __mul__(self, k: int) -> Value:
        return Value(tuple(replace(part, coef=part.coef * k) for part in self.parts), self.shape)

    __rmul__ = __mul__

    def __sub__(self, other: Value) -> Value:
        return self + other * -1

    @property
    def table_entries(self) -> int:
        """Of the tables of channels of as many parts as it has."""
        return len(self.parts) * self.shape[1]

    def picked(self, channels: Sequence[int]) -> Value:
        """These channels of it; -1: zeros."""
        parts = [part.moved(channels) for part in self.parts]
        some = [part for part in parts if max(part.channels or ()) >= 0] or parts[:1]
        return Value(tuple(some), (self.shape[0], len(channels), *self.shape[2:]))

    @staticmethod
    def joined(values: Sequence[Value]) -> Value:
        """The channels of one behind those of another; UnusableInput if the other axes differ."""
        batch, _, *rest = values[0].shape
        total, start, parts = sum(v.shape[1] for v in values), 0, []
        for v in values:
            if (v.shape[0], *v.shape[2:]) != (batch, *rest):
                why = "flattened images of different sizes, or ones that are not flattened, cannot be joined"
                raise UnusableInput(why)
            count = v.shape[1]
            channels = [*[-1] * start, *range(count), *[-1] * (total - start - count)]
            parts += [part.moved(channels) for part in v.parts]
            start += count
        return Value(tuple(parts), (batch, total, *rest))

    # -- in constraints

    def limbs(self, first: Unrolled, *inner: Source) -> list[Form]:
        """Forms worth 2^(22 k), over the axes of the sources; `first(per)` is the source of an unrolled axis."""
        limbs: list[list[Form]] = []
        for part in self.parts:
            forms = limb_forms(part.view(first(part.per), inner))
            limbs += [[] for _ in range(len(forms) - len(limbs))]
            for k, form in enumerate(forms):
                limbs[k].append(form * part.coef)
        return [joined(forms) for forms in limbs]

    def whole(self, first: Unrolled, *inner: Source) -> Form:
        """The value as one form."""
        return joined([part.view(first(part.per), inner).whole(part.coef) for part in self.parts])
