"""Small networks of functions of single entries."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from tests.builders import Case, Graph

FUNCTIONS = ("tanh", "gelu", "silu", "elu", "softplus", "sigmoid", "gelu_tanh")


def clipped(seed: int = 0, **options: Any) -> Case:
    """Hardtanhs of the samples, of a sum that others read, behind one another, of features; one that is narrow, and
    one whose table is split; weights so large that all three cases occur."""
    rng = np.random.default_rng([seed, 15])
    g = Graph(rng, [2, 3, 3], scale=2).hardtanh(-0.25, 0.5).conv(2, pad=(1, 1)).hardtanh(-1.0, 1.0)
    stem = g.last
    g.conv(2, (1, 1)).add(stem).hardtanh(-1 / 1024, 2.0)
    wide = g.last
    g.relu().conv(2, (1, 1), bias=False).add(wide).hardtanh(-32.0, 32.0).hardtanh().flatten().linear(4)
    return g.norm().hardtanh(-0.5, 0.0).linear(3).case(seed=seed, **{"rho": Fraction(1, 1000), "batch": 2, **options})


def hard(seed: int = 0, **options: Any) -> Case:
    """Hardswishes and Hardsigmoids of the samples, of a sum that others read, before a pool, of features; weights so
    large that values lie on both sides of the bounds."""
    rng = np.random.default_rng([seed, 19])
    g = Graph(rng, [2, 3, 3], scale=3).plain("hardswish").conv(2, pad=(1, 1)).plain("hardsigmoid")
    stem = g.last
    g.conv(2, (1, 1)).add(stem).plain("hardswish")
    wide = g.last
    g.conv(2, (1, 1), bias=False).add(wide).plain("hardsigmoid").pool("avgpool2d").flatten().linear(4)
    return g.plain("hardswish").linear(3).case(seed=seed, **{"rho": Fraction(1, 1000), "batch": 2, **options})


def curved(seed: int = 0, functions: Sequence[str] = FUNCTIONS, **options: Any) -> Case:
    """Functions of tables: of the samples, of a sum that others read, behind one another, before a pool, of features;
    weights so large that some values lie beyond the tables."""
    rng = np.random.default_rng([seed, 20])
    g = Graph(rng, [2, 3, 3], scale=2).function(functions[0]).conv(2, pad=(1, 1)).function(functions[1])
    stem = g.last
    g.conv(2, (1, 1)).add(stem).function(functions[2])
    wide = g.last
    g.conv(2, (1, 1), bias=False).add(wide).function(functions[3]).function(functions[4]).pool("avgpool2d")
    g.flatten().linear(4).function(functions[5]).linear(4).function(functions[6]).linear(3)
    g.params["linear12.weight"] *= 8
    return g.case(seed=seed, **{"rho": Fraction(1, 1000), "batch": 2, **options})
