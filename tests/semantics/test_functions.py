"""Tables of functions: both ways to make them agree, and they are as near to the real functions as is said."""

from __future__ import annotations

import math
import re

import pytest

from circuits.segments import BITS, FUNCTIONS, rows_of
from tests.modules import ROOT
from tests.semantics.functions import FUNCTIONS as AGAIN

REAL = {
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
    "tanh": math.tanh,
    "silu": lambda x: x / (1 + math.exp(-x)),
    "gelu": lambda x: x * math.erfc(-x / math.sqrt(2)) / 2,
    "gelu_tanh": lambda x: x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2,
    "elu": lambda x: x if x > 0 else math.expm1(x),
    "softplus": lambda x: math.log1p(math.exp(x)),
}


def documented() -> dict[str, list[float]]:
    """The errors in docs/spec/functions.md."""
    text = (ROOT / "docs" / "spec" / "functions.md").read_text()
    return {
        name: [float(y), float(d)] for name, y, d in re.findall(r"^\| `(\w+)` \| ([0-9.]+) \| (\d+) \|$", text, re.M)
    }


@pytest.mark.parametrize("name", FUNCTIONS)
def test_segments_are_those_that_decimals_give(name):
    """At the ends of a table, beyond them, around zero, and here and there."""
    f, rows = FUNCTIONS[name], rows_of(name)
    assert rows[:, 0].tolist() == list(range(f.first, f.last + 1))
    ends = [f.first - 9, f.first, f.first + 1, -2, -1, 0, 1, f.last - 1, f.last, f.last + 9]
    for g in (*ends, *range(f.first + 5, f.last, 397)):
        at = min(max(g, f.first), f.last)
        assert tuple(rows[at - f.first, 1:].tolist()) == AGAIN[name].row(at), g


@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_entry_depends_on_a_last_digit(name):
    """What is rounded lies further from the next half than any error of a number of `BITS` bits."""
    f, unit = FUNCTIONS[name], BITS - 11
    for k in range(2 * f.first + 2, 2 * f.last + 1, 31):
        rest = (f.value(k << unit) << 32) % (1 << BITS)
        assert abs(rest - (1 << BITS - 1)) > 1 << 60


@pytest.mark.parametrize("name", FUNCTIONS)
def test_errors_are_those_of_the_specification(name):
    found, limits = AGAIN[name].errors(331), documented()[name]
    assert all(x <= limit + 0.5 * 10**-digits for x, limit, digits in zip(found, limits, (2, 0), strict=True))
    assert found[0] > limits[0] / 2


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_what_they_are_called(name):
    """Against Python's floats, also beyond the tables."""
    for x in (-40.0, -27.5, -12.25, -6.9, -3.0, -1.0, -0.125, 0.0, 0.3, 1.0, 2.5, 6.99, 11.5, 22.5, 30.0):
        y, _ = AGAIN[name].at(round(x * 2**32))
        assert y / 2**32 == pytest.approx(REAL[name](x), abs=1e-9), x


def test_the_gradient_is_that_of_the_real_derivative():
    """Where its curve is strongest a line through a segment's ends misses the derivative by 2^-22, and half of that."""
    for g in (0, 700, -700, -1):
        for offset in (0, 1 << 20, 1 << 21, 3 << 20, (1 << 22) - 1):
            z = (g << 22) + offset
            slope = AGAIN["tanh"].at(z)[1] / 2**32
            assert abs(slope - 1 / math.cosh(z / 2**32) ** 2) < 1.01 * 2.0**-23
