"""How much work verifying and building circuits is, in calls and field multiplications: the same on every machine.

The budgets are about one and a half times what was counted when they were written. A change that needs more for a good
reason raises them; one that needs more by accident is seen here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from circuits.compile import Certificate
from circuits.layers import function
from tests.activations import curved
from tests.builders import Fraction, tiny_cnn
from tests.toys import toy_proof, verify_toy
from verifier.verify import check_soundness
from zkcert.core import field as ff

OURS = tuple(str(Path(__file__).parents[2] / part) for part in ("circuits", "verifier", "zkcert"))


def calls(run: Callable[[], object]) -> int:
    """Calls of Python functions of the packages."""
    count = 0

    def note(frame, event, _):
        nonlocal count
        if event == "call" and frame.f_code.co_filename.startswith(OURS):
            count += 1

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(before)
    return count


def multiplications(run: Callable[[], object]) -> int:
    """Multiplications in F_p of arrays, by entries of the result."""
    count, multiply = 0, ff._mul_lazy

    def counted(*args):
        nonlocal count
        out = multiply(*args)
        count += np.size(out)
        return out

    with mock.patch.object(ff, "_mul_lazy", counted):
        run()
    return count


def build(steps: int) -> Callable[[], object]:
    plan = tiny_cnn(steps=steps).plan
    return lambda: Certificate(plan).close(Fraction(3))


def verify() -> None:
    verify_toy(toy_proof())


VERIFY_CALLS, VERIFY_MULTIPLICATIONS, BUILD_CALLS = 30_000, 2_200_000, 170_000


@pytest.mark.parametrize(
    ("count", "run", "budget"),
    [
        (calls, lambda: verify, VERIFY_CALLS),
        (multiplications, lambda: verify, VERIFY_MULTIPLICATIONS),
        (calls, lambda: build(2), BUILD_CALLS),
    ],
    ids=["calls of verify", "multiplications of verify", "calls of a circuit"],
)
def test_work_stays_within_its_budget(count, run, budget):
    job = run()
    job()  # what is computed once and kept is not counted
    found = count(job)
    assert found == count(job)
    assert budget / 3 < found <= budget


def test_declaring_a_circuit_does_not_cost_more_for_more_steps():
    few, many = build(2), build(12)
    few()
    assert calls(many) <= 1.2 * calls(few)


def test_rows_of_function_tables_are_not_made_for_a_circuit_alone():
    """They take up to half a second for each function: nobody makes them before the lengths of a proof are right."""
    plan = curved().plan
    function.table.cache_clear()
    certificate = Certificate(plan)
    certificate.close(Fraction(30))
    layout = certificate.layout
    assert len(layout.functions) == 7 and check_soundness(layout).bits > 100
    assert not any("rows" in vars(table) for table in layout.functions)
