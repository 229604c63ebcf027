"""What the tests of constraints share."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from math import prod
from typing import Any

import numpy as np

from circuits.compile import Certificate
from circuits.language.constraints import Circuit, Constraint, Expr
from circuits.language.tensors import Tensor
from prover.execution.witness import Witness
from tests.activations import clipped, curved, hard
from tests.branching import learned, products
from tests.builders import (
    Case,
    Graph,
    attending,
    bordered,
    build,
    classifier,
    fan,
    grouped,
    language,
    leaky,
    normalised,
    patches,
    pointwise,
    residual,
    standardised,
    tiny_cnn,
    tiny_mlp,
    violations,
)
from tests.channels import joined, shuffled
from zkcert.errors import RangeOverflow


def members(circuit: Circuit) -> Iterator[tuple[Constraint, str, Expr, int]]:
    """Every identity, with the number of indices its products are summed over."""
    for con in circuit.constraints:
        for label, e in con.members:
            yield con, label, e, prod(a.size for a in con.summed)


def minute() -> Case:
    """Few enough digits to try each: one sample, every kind of layer on at most six positions, B / lr = 1."""
    g = Graph(np.random.default_rng(5), [1, 3, 3]).conv(2, (1, 2)).relu().pool("maxpool2d", (2, 1), (1, 1))
    return g.pool("avgpool2d", (1, 2), (1, 1)).flatten().linear(2).case(batch=1, divisor=1, rho=Fraction(1, 1000))


def strides() -> Case:
    """Pools before the first weight, windows that overlap or skip positions, strides, paddings."""
    g = Graph(np.random.default_rng(14), [2, 6, 7], pad=1).pool("avgpool2d", (2, 2), (1, 2)).relu()
    g.conv(2, (2, 3), (2, 1), (1, 1)).pool("maxpool2d", (2, 3), (1, 1)).relu().pool("avgpool2d", (1, 1), (2, 2))
    return g.flatten().linear(3, bias=False).relu().linear(3).case(batch=2, rho=Fraction(1, 10**5), steps=3)


def flat() -> Case:
    """||T g|| is between .0002 and .004 for a radius of 1/2: q has a third limb."""
    case = tiny_mlp()
    small = {name: array * 2.0**-9 for name, array in case.model.params.items()}
    return build(case.model.graph, small, case.model.input, pixels=case.pixels, labels=case.labels, rho=Fraction(1, 2))


def of_sharpness(statistic: str, variant: str, eta: Fraction | None = None, **options: Any) -> Case:
    """A statistic of s_t itself."""
    return tiny_mlp(steps=3, batch=2, statistic=statistic, variant=variant, eta=eta, **options)


STATED = (
    "cnn",
    "cnn, q32, sam",
    "two-byte labels",
    "minute",
    "strides",
    "residual",
    "batch-norm",
    "leaky",
    "borders",
    "groups",
    "bounds",
    "hard",
    "functions",
    "joined",
    "shuffled",
    "pointwise",
    "products",
    "learned",
    "statistics",
    "long sums",
    "std of s",
    "rms of s",
    "max of s",
    "ddof",
    "language",
    "language, untied, two bytes",
    "patches",
    "joined attention",
)
"""Those of CASES that together have every layer type, and every option that changes a circuit."""
CASES = {
    "cnn": tiny_cnn,
    "cnn, q32, sam": lambda: tiny_cnn(kind="q32", variant="sam", steps=3, batch=2, eps=Fraction(0)),
    "saturated": lambda: classifier([[0.0, 0.25], [-0.5, 0.0], [-15.0, 0.25]], [[64, 0], [56, 8]], [0, 0]),
    "well fitted": lambda: classifier([[0.0], [-1.375]], [[64], [65]], [0, 0]),  # a mean loss of 2^-31.96
    "ties": lambda: classifier([[0.5, 1.0], [0.5, 1.0], [0.5, 1.0]], [[64, 0], [56, 8], [64, 0]], [0, 1, 2]),
    "two-byte labels": lambda: tiny_mlp(label_bytes=2),
    "strides": strides,
    "residual": residual,
    "batch-norm": normalised,
    "leaky": leaky,
    "borders": bordered,
    "groups": grouped,
    "bounds": clipped,
    "hard": hard,
    "functions": curved,
    "joined": joined,
    "shuffled": shuffled,
    "pointwise": pointwise,
    "products": products,
    "learned": learned,
    "statistics": standardised,
    "long sums": lambda: fan(4, 5),
    "std of s": lambda: of_sharpness("std", "asam-samsung", Fraction(1, 100), ddof=2),
    "rms of s": lambda: of_sharpness("rms", "asam-shifted", Fraction(5, 3), rho=Fraction(1, 1000)),
    "max of s": lambda: of_sharpness("max", "sam"),
    "ddof": lambda: tiny_mlp(steps=3, batch=2, ddof=1),
    "language": language,
    "language, untied, two bytes": lambda: language(
        tied=False, causal=False, label_bytes=2, variant="sam", batch=1, divisor=1 << 26
    ),
    "patches": patches,
    "joined attention": attending,
    "minute": minute,
    "flat": flat,
    "congruences": lambda: tiny_cnn(residue_cost=0),
    "congruences, sam": lambda: tiny_mlp(residue_cost=0, variant="sam", steps=3, divisor=37),
}


@cache
def honest(name: str) -> tuple[Certificate, Witness]:
    """The closed circuit and honest witness of a named case; whoever changes the witness restores it."""
    certificate, witness, _ = CASES[name]().run()
    return certificate, witness


def copy_of(w: Witness) -> Witness:
    out = Witness(w.layout)
    out.x[:] = w.x
    return out


def rejected(w: Witness, changes: dict[Tensor, np.ndarray]) -> bool:
    """Whether a witness with these values instead has no digits, or violates something."""
    w = copy_of(w)
    try:
        for t, values in changes.items():
            w.put(t, values)
    except RangeOverflow:
        return True
    return bool(violations(w.circuit, w))
