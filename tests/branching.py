"""Small models of branches that are multiplied, of learned slopes, and of a single logit."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from tests.builders import Case, Graph


class Branching(Graph):
    """With what this file is about."""

    def prelu(self, slopes: int = 1) -> Branching:
        """slopes: one for all, or as many as channels."""
        name = f"prelu{len(self.nodes)}.weight"
        self._node("prelu", weight=name)
        self.params[name] = (0.25 + 0.5 * self.rng.standard_normal(slopes)).astype(np.float32)
        return self

    def binary(self) -> Branching:
        self._node("binary")
        self.shape = [2]
        return self

    def multiply(self, other: str) -> Branching:
        """The product with the output of an earlier node: of the same shape, or one of them a number per channel."""
        own = self.shape
        self._with("multiply", other)
        self.shape = max(own, self.shapes[other], key=lambda shape: (len(shape), shape[1:]))
        return self


def products(seed: int = 0, **options: Any) -> Case:
    """Products of branches: of the samples with a gate of one number per channel, of a gate with a sum of branches
    before a ReLU, of two sums, of an output with itself, of channels that were joined, of features, with images too."""
    rng = np.random.default_rng([seed, 19])
    g = Branching(rng, [2, 3, 3], scale=0.7).conv(2, (3, 3)).hardtanh(-1.0, 1.0).multiply("@input").conv(2, (1, 1))
    stem = g.last
    g.pool("avgpool2d", (3, 3), (3, 3)).conv(2, (1, 1)).leaky_relu()
    gate = g.last
    g.branch(stem).add("@input")
    wide = g.last
    g.branch(gate).multiply(wide).relu()
    kept = g.last
    g.branch(wide).multiply(stem).cat(kept).channels(1, 2).multiply(kept).conv(2, (2, 2)).multiply(g.last)
    square = g.last
    g.pool("avgpool2d", (2, 2), (2, 2)).flatten().linear(2)
    g.multiply(square).flatten().linear(3)
    side = g.last
    return g.relu().multiply(side).linear(3).case(seed=seed, **{"rho": Fraction(1, 1000), "batch": 2, **options})


def learned(seed: int = 0, **options: Any) -> Case:
    """PReLUs with a slope per channel, of the samples, of a sum that others read, before a ReLU, with one for all, of
    features and of flattened images; one logit as two."""
    rng = np.random.default_rng([seed, 20])
    g = Branching(rng, [2, 3, 3], scale=0.7).prelu(2).conv(2, pad=(1, 1)).prelu(2).relu().conv(2, (1, 1)).prelu()
    stem = g.last
    g.conv(2, (1, 1), bias=False).add(stem).prelu(2)
    g.pool("avgpool2d", (2, 2), (1, 1)).flatten().prelu().linear(3).prelu(3).linear(1).binary()
    return g.case(seed=seed, **{"rho": Fraction(1, 1000), "batch": 2, **options})
