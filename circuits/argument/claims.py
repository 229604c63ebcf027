"""Claims about the committed vector X, and what a reduction asks of the prover to arrive at them.

A claim is a public linear functional of X with one hidden value. Every reduction is written once for prover and
verifier: it runs on a `Channel` and an `Oracle`, which holds the prover's tables or nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from circuits.language.forms import Form
from circuits.language.sources import Axis
from circuits.language.tensors import Tensor
from zkcert.core.field import U64, F

from .channel import Node

if TYPE_CHECKING:
    from .tuples import Box


@dataclass(frozen=True)
class Term:
    """sum_d coefs[d] * sum_index (prod_axis vecs[axis][index]) * digit_d[index] of one tensor."""

    tensor: Tensor
    coefs: dict[int, F]
    vecs: tuple[U64, ...]


@dataclass(frozen=True)
class Span:
    """sum_{i < count} eq(point, i) * X[start + i]; `start` is that of a tree of digits or of the multiplicities."""

    start: int
    count: int
    point: tuple[F, ...]


@dataclass(frozen=True)
class Functional:
    """A public linear functional of X: the sum of its tensor terms and spans."""

    terms: tuple[Term, ...] = ()
    spans: tuple[Span, ...] = ()


@dataclass(frozen=True)
class Claim:
    """functional(X) = value of the tape node."""

    name: str
    functional: Functional
    node: Node


@dataclass
class ProductJob:
    """sum over kept axes of e * sum_k A_k * B_k, with private output axes folded by `vecs`.

    The table index runs over `eq_axes` (weighted by eq(eq_point, .)) then `plain_axes`, most significant first.
    `members`: weight and products, with integer coefficients, of each member; their weighted sum is that of the pairs.
    """

    name: str
    eq_axes: tuple[Axis, ...]
    plain_axes: tuple[Axis, ...]
    eq_point: list[F]
    vecs: dict[str, U64]
    pairs: list[tuple[Form, Form]]
    members: list[tuple[F, tuple[tuple[Form, Form], ...]]]

    @property
    def kept(self) -> tuple[Axis, ...]:
        return self.eq_axes + self.plain_axes


class Sumcheck:
    """The prover's part of a sum-check; `finals`: the factors at its end, as pairs that are multiplied."""

    def total(self) -> F | None: ...

    def round(self, eq_point: Sequence[F] | None = None) -> tuple[F, F] | None: ...

    def bind(self, r: F) -> None: ...

    def finals(self) -> list[tuple[F, F]] | None: ...


class Tree:
    """The prover's part of a fraction tree: its root, and the sum-checks of its layers and, of 1/q, of its leaves."""

    def root(self) -> tuple[F, F] | None: ...

    def layer(self, point: Sequence[F], lam: F) -> Sumcheck:
        return Sumcheck()

    def leaves(self, point: Sequence[F], lam: F) -> Sumcheck:
        return Sumcheck()


class Oracle:
    """Everything a reduction asks of the prover.

    This one is of those who have only the proof, verifiers and provers who repeat recorded messages: every answer is
    None, and the channel reads the message instead.
    """

    def products(self, job: ProductJob) -> Sumcheck:
        return Sumcheck()

    def digit_tree(self, alpha: F, start: int, count: int) -> Tree:
        return Tree()

    def tuple_tree(self, alpha: F, gamma: F, tree: Sequence[Box]) -> Tree:
        return Tree()

    def table_tree(self, alpha: F, gamma: F) -> Tree:
        return Tree()

    def batch(self, claims: Sequence[Claim], weights: Sequence[F]) -> Sumcheck:
        """Its `finals`: X~ and the weight of the claims at the point of the last round."""
        return Sumcheck()
