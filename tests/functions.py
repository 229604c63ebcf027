"""A small circuit with function tables, which tests of tuple lookups share.

A piecewise linear function of x = 16 segment + offset - 40: the row (segment, slope, intercept) of its table gives
y = slope offset + intercept. Besides, the square and the double of a number, tables of one shape, and of rows with one
component, which a sum over a domain of one index is read from. `one` is free.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from unittest import mock

import numpy as np

from circuits.language.constraints import Circuit, expr, product
from circuits.language.forms import View
from circuits.language.functions import FunctionTable
from circuits.language.layout import Layout
from circuits.language.sources import ONCE, Axis, Sum
from circuits.language.tensors import Digit, Range, balanced, unsigned
from prover.argument import prove_circuit
from prover.execution.witness import Witness
from tests.toys import light_grinding
from verifier.argument import verify_circuit
from zkcert.core.transcript import Transcript

STEPS, ROWS, WIDTH = 3, 5, 6
SEGMENTS = 6
LARGE = 1 << 33


def lines() -> np.ndarray:
    """(segment, slope, intercept), with numbers of up to 34 bits."""
    s = np.arange(SEGMENTS)
    return np.stack([s, (s - 3) * (LARGE // 4) + s, 7 - s * (LARGE // 8)], axis=1)


def of_small(function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    v = np.arange(-9, 10)
    return np.stack([v, function(v)], axis=1)


LINES = FunctionTable("lines 6", (SEGMENTS, 3), lines)
SQUARES = FunctionTable("squares -9,9", (19, 2), lambda: of_small(np.square))
DOUBLES = FunctionTable("doubles -9,9", (19, 2), lambda: of_small(lambda v: 2 * v))
SOME = FunctionTable("some", (3, 1), lambda: np.array([[-5], [0], [12]]))
COEFFICIENT = (Digit(unsigned(8), 0), Digit(unsigned(8), 8), Digit(unsigned(8), 16), Digit(balanced(11), 24))


@cache
def function_circuit() -> Circuit:
    c = Circuit()
    t, r, k = (Axis(n, s) for n, s in (("t", STEPS), ("r", ROWS), ("k", WIDTH)))
    shape = (ROWS, WIDTH)
    x = c.tensor("x", STEPS, shape, (Digit(Range(1 << 7, -64)),))
    segment = c.tensor("segment", STEPS, shape, (Digit(unsigned(3)),))
    offset = c.tensor("offset", STEPS, shape, (Digit(unsigned(4)),))
    slope, intercept = (c.tensor(n, STEPS, shape, COEFFICIENT) for n in ("slope", "intercept"))
    y = c.tensor("y", STEPS, shape, (*COEFFICIENT[:3], Digit(unsigned(8), 24), Digit(balanced(8), 32)))
    sign = c.tensor("sign", 1, (STEPS,), (Digit(balanced(5)),))
    square = c.tensor("square", 1, (STEPS,), (Digit(unsigned(8)),))
    double = c.tensor("double", 1, (STEPS,), (Digit(balanced(5)),))
    one = c.tensor("one", 1, (), (Digit(balanced(5)),))

    same = (t, r, k)
    on = lambda tensor: View(tensor, same).whole()  # noqa: E731
    con = c.constraint("split", (t, r, k))
    con.add("x", expr(on(segment) * 16 + on(offset) - on(x)) - 40)
    con = c.constraint("line", (t, r, k))
    con.add("y", product(on(slope), on(offset)) + on(intercept) - on(y))
    one_of = lambda tensor: View(tensor, (ONCE, same[0])).whole()  # noqa: E731
    c.lookup("line/coefficients", (t, r, k), LINES, (on(segment), on(slope), on(intercept)))
    c.lookup("square", (t,), SQUARES, (one_of(sign), one_of(square)))
    c.lookup("double", (t,), DOUBLES, (one_of(sign), one_of(double)))
    total = View(sign, (ONCE, Sum(STEPS)))
    c.lookup("sum", (), SOME, (total.whole() + View(one, (ONCE,)).whole(),))
    return c


@cache
def function_layout(smallest_cut: int = 1) -> Layout:
    return Layout(function_circuit(), smallest_cut=smallest_cut)


def function_witness(seed: int = 0, layout: Layout | None = None) -> Witness:
    """A valid witness."""
    rng = np.random.default_rng(seed)
    w = Witness(layout or function_layout())
    named = {t.name: t for t in w.circuit.tensors}
    segment = rng.integers(0, SEGMENTS, (STEPS, ROWS, WIDTH))
    offset = rng.integers(0, 16, segment.shape)
    rows = LINES.rows[segment]
    sign = rng.integers(-5, 6, (1, STEPS))
    values = {
        "x": 16 * segment + offset - 40,
        "segment": segment,
        "offset": offset,
        "slope": rows[..., 1],
        "intercept": rows[..., 2],
        "y": rows[..., 1] * offset + rows[..., 2],
        "sign": sign,
        "square": sign**2,
        "double": 2 * sign,
        "one": np.array([min((v - int(sign.sum()) for v in (-5, 0, 12)), key=abs)]),
    }
    for name, value in values.items():
        w.put(named[name], value)
    return w


def function_transcript() -> Transcript:
    t = Transcript("toy")
    t.absorb("statement", b"the toy circuit with function tables")
    return t


def prove_functions(witness: Witness | None = None, strict: bool = False) -> bytes:
    witness = witness or function_witness()
    with light_grinding():
        return prove_circuit(witness.layout, witness, function_transcript(), strict=strict)


def verify_functions(proof: bytes, layout: Layout | None = None) -> None:
    with light_grinding():
        verify_circuit(layout or function_layout(), function_transcript(), proof)


@cache
def function_proof() -> bytes:
    """An honest one, from fixed randomness."""
    with mock.patch("prover.checkpoint.secrets.token_bytes", lambda size: bytes(range(size))):
        return prove_functions()
