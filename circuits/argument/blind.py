"""The oracle of somebody who has only the proof: a verifier, or a prover who repeats recorded messages.

It has no messages to give, so every answer is None and the channel reads the message instead. The weight of the batched
claims is no message: it is evaluated here, whatever the proof says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from circuits.language.layout import Layout
from zkcert.core.field import F

from .batching import weight_at
from .channel import Channel
from .claims import Claim, ProductJob
from .tuples import Box


class BlindSumcheck:
    """A `ProductOracle` and a `LayerOracle`: all of its messages are read."""

    def total(self) -> None: ...

    def round(self, eq_point: Sequence[F] | None = None) -> None: ...

    def bind(self, r: F) -> None: ...

    def finals(self) -> None: ...


class BlindTree:
    """A `DigitTreeOracle`: the root and all layers are read."""

    def root(self) -> None: ...

    def layer(self, point: Sequence[F], lam: F) -> BlindSumcheck:
        return BlindSumcheck()

    def leaves(self, point: Sequence[F], lam: F) -> BlindSumcheck:
        return BlindSumcheck()


@dataclass
class BlindBatch(BlindSumcheck):
    """A `BatchOracle`: reads the rounds and the opened value, evaluates the weight."""

    layout: Layout
    claims: Sequence[Claim]
    weights: Sequence[F]

    def final(self) -> None: ...

    def weight(self, z: list[F]) -> F:
        return weight_at(self.layout, self.claims, self.weights, z)


@dataclass
class Blind:
    """An `Oracle` without a witness."""

    layout: Layout

    def products(self, job: ProductJob) -> BlindSumcheck:
        return BlindSumcheck()

    def digit_tree(self, alpha: F, start: int, count: int) -> BlindTree:
        return BlindTree()

    def tuple_tree(self, alpha: F, gamma: F, tree: Sequence[Box]) -> BlindTree:
        return BlindTree()

    def table_tree(self, alpha: F, gamma: F) -> BlindTree:
        return BlindTree()

    def batch(self, claims: Sequence[Claim], weights: Sequence[F]) -> BlindBatch:
        return BlindBatch(self.layout, claims, weights)

    def check(self, claims: Sequence[Claim], ch: Channel) -> None:
        """There is no witness to compare with."""
