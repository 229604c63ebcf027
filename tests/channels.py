"""Small networks that join channels, pick some and shuffle them."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from tests.builders import Case, Graph


def joined(seed: int = 0, **options: Any) -> Case:
    """Concatenations of branches, of the samples, of concatenations, of one output twice; read by ReLUs and pools, by
    convolutions, batch-norms and adds, which want a tensor, and by a linear layer; gradients in parts alone, with
    others, at layers with parameters; five terms at once; heads of features."""
    rng = np.random.default_rng([seed, 16])
    g = Graph(rng, [1, 3, 3], scale=0.7).conv(2, (2, 2)).relu()
    stem = g.last
    g.conv(1, (1, 1))
    one = g.last
    g.branch(stem).pool("maxpool2d", (3, 3), (1, 1), padding=[1, 1]).cat(one, stem)
    first = g.last
    g.relu().conv(2, (1, 1))
    point = g.last
    g.branch(first).pool("avgpool2d", (2, 1), (1, 1))
    mean = g.last
    g.branch(first).pool("maxpool2d", (2, 1), (1, 1)).cat(mean)
    pooled = g.last
    g.branch(point).pool("avgpool2d", (2, 1), (1, 1)).cat(pooled, mean, mean).norm()
    g.cat(g.last).pool("avgpool2d", (1, 2), (1, 1)).cat(g.last).flatten().hardtanh(-2.0, 2.0)
    flat = g.last
    g.linear(2)
    side = g.last
    g.branch(flat).relu().linear(2).norm().relu().cat(side, side)
    return g.linear(3).case(seed=seed, **{"rho": Fraction(1, 1000), "batch": 2, **options})


def shuffled(seed: int = 0, **options: Any) -> Case:
    """Some channels, and others in another order, of a convolution, of one another, of a concatenation, of the samples
    and of features; read by ReLUs and pools, by a convolution and an add, which want a tensor; some are read by nobody,
    so that a convolution gets no gradient."""
    rng = np.random.default_rng([seed, 18])
    g = Graph(rng, [2, 3, 3], scale=0.7).channels(1, 1).conv(6, (2, 2)).channels(0, 6, 3)
    mixed = g.last
    g.relu().channels(4, 2)
    right = g.last
    g.branch(mixed).conv(1, (1, 1))
    lost = g.last
    g.branch(mixed).channels(1, 4, 2).channels(1, 2).conv(2, (1, 1)).relu().cat(right, mixed, lost).channels(0, 8, 2)
    g.pool("maxpool2d", (2, 2), (1, 1))
    pooled = g.last
    g.channels(2, 4)
    middle = g.last
    g.branch(pooled).channels(4, 4).add(middle).flatten().linear(4).channels(0, 4, 2).hardtanh(-2.0, 2.0)
    return g.linear(3).case(seed=seed, **{"rho": Fraction(1, 1000), "batch": 2, **options})


def attended(seed: int = 0, **options: Any) -> Case:
    """Attention that reads joined channels, and that joined channels are made of, in one line of a picture; read by
    another one, by a position taken, and by channels."""
    rng = np.random.default_rng([seed, 25])
    g = Graph(rng, [1, 2, 3], scale=0.7).conv(2, (1, 2))
    stem = g.last
    g.conv(1, (1, 1)).cat(stem).moved("line")
    row = g.last
    g.attention(1).cat(row, row).channels(0, 6, 3).attention(2, causal=True)
    mixed = g.last
    g.channels(1, 1).cat(mixed).moved("take", position=3).flatten()
    return g.linear(3).case(seed=seed, **{"rho": Fraction(1, 1000), "batch": 2, **options})
