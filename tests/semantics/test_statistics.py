"""Certified statistics and perturbations: beside the reference, beside PyTorch, and what a threshold of them says of
real numbers."""

from __future__ import annotations

from fractions import Fraction
from math import isqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from circuits.compile import Certificate
from circuits.head.statistic import STATISTICS, Statistic
from tests.builders import Case, tiny_cnn, tiny_mlp
from tests.semantics.test_reference import assert_equal
from zkcert.metric import directional_sharpness

ETA = Fraction(1, 100)
VARIANTS = {"asam-all": None, "asam-samsung": ETA, "asam-shifted": Fraction(5, 2)}
CENTRED = [name for name in STATISTICS if Statistic(name).centred]


def case_of(statistic: str, variant: str, ddof: int = 0, **options) -> Case:
    return tiny_cnn(statistic=statistic, variant=variant, eta=VARIANTS.get(variant), ddof=ddof, **options)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("statistic", STATISTICS)
def test_executor_and_reference_agree(statistic, variant):
    assert_equal(case_of(statistic, variant, batch=2, steps=3))


@pytest.mark.parametrize(
    "options",
    [
        {"kind": "q32"},
        {"rho": Fraction(7, 1 << 19), "batch": 5},
        {"rho": Fraction((1 << 20) - 1, 1 << 20), "batch": 1},
        {"residue_cost": 0},
    ],
    ids=["q32", "small rho", "large rho", "congruences"],
)
def test_executor_and_reference_agree_on_roots(options):
    assert_equal(case_of("std", "asam-shifted", **{"steps": 3, **options}))


@pytest.mark.parametrize("variant", ["sam", *VARIANTS])
@pytest.mark.parametrize("statistic", STATISTICS)
def test_values_and_scores_are_those_of_pytorch(statistic, variant):
    case = case_of(statistic, variant, ddof=1 if statistic in CENTRED else 0, steps=4, batch=2)
    _, _, trace = case.execute()
    found = directional_sharpness(case.model, case.pixels, case.labels, case.config)
    assert trace.difference(found) < 1e-5
    assert trace.score == pytest.approx(found.score, rel=1e-5, abs=1e-5 if statistic == "std-log-ratio" else 0)
    if statistic != "std-log-ratio":
        norms = [rho_n(case, n, k) for n, k in zip(trace.norms, trace.scales, strict=True)]
        assert trace.ys == [isqrt(x.numerator * (1 << 96) // x.denominator) for x in norms]


def rho_n(case: Case, n: int, k: int) -> Fraction:
    """s_t^2, exactly."""
    return (case.plan.rho / (case.plan.batch << (32 + k))) ** 2 * n


def squared(statistic: Statistic, values: list[Fraction]) -> Fraction:
    """The square of the score of real values, exactly."""
    if statistic.name == "max":
        return max(0, *values) ** 2
    squares = sum(v * v for v in values)
    gathered = statistic.steps * squares - sum(values) ** 2 if statistic.centred else squares
    return Fraction(gathered) / statistic.weight


@given(st.data())
@settings(deadline=None, max_examples=300)
def test_what_meets_the_threshold_is_at_most_tau_in_real_numbers(data):
    """Whatever the real values are, as far from the integers as they may be."""
    name = data.draw(st.sampled_from(STATISTICS))
    steps = data.draw(st.integers(2, 6))
    kind = Statistic(name, steps, data.draw(st.integers(0, steps - 1)) if Statistic(name).centred else 0)
    error = 2048 * 5 if kind.of_ratios else 1
    most = 1 << data.draw(st.sampled_from([3, 20, 45]))
    ys = data.draw(st.lists(st.integers(0, most), min_size=steps, max_size=steps))
    least = -error if kind.of_ratios else 0  # a root is rounded down
    units = [Fraction(y) + Fraction(data.draw(st.integers(least * 1000, error * 1000)), 1000) for y in ys]
    score = isqrt(kind.gathered(ys) // kind.weight) + data.draw(st.integers(0, 2))
    tau = Fraction(score + kind.charged_error(3), 1 << kind.bits)
    threshold = kind.tau_units(tau, 3)
    assert threshold == score
    if kind.gathered(ys) <= kind.weight * threshold**2:
        assert squared(kind, [u / (1 << kind.bits) for u in units]) <= tau**2


def test_the_charged_error_is_that_of_one_value_times_the_root_that_ddof_asks_for():
    assert [Statistic(steps=t).charged_error(10) for t in (2, 5, 1024)] == [2048 * 12] * 3
    for steps in (2, 3, 7, 1024):
        for ddof in (0, 1, steps - 1):
            for name in CENTRED:
                one = 2048 * 12 if name == STATISTICS[0] else 1
                found = Statistic(name, steps, ddof).charged_error(10)
                assert found**2 * (steps - ddof) >= one**2 * steps > (found - 1) ** 2 * (steps - ddof)
    assert Statistic("rms", 9).charged_error(10) == Statistic("max", 9).charged_error(10) == 1


def test_scores_are_those_of_numpy():
    ys = [3 << 40, 5 << 41, 7 << 42, 1 << 40]
    for name, expected in {
        "std": lambda v: np.std(v, ddof=2),
        "rms": lambda v: np.sqrt(np.mean(v**2)),
        "max": np.max,
        "std-log-ratio": lambda v: np.std(v, ddof=2),
    }.items():
        kind = Statistic(name, 4, 2 if name in CENTRED else 0)
        values = np.array(ys) / 2.0**kind.bits
        assert kind.score(kind.gathered(ys)) == pytest.approx(expected(values), rel=1e-12)


@pytest.mark.parametrize("name", STATISTICS[1:])
def test_circuits_of_as_many_steps_as_there_may_be_are_built(name):
    """No sum of theirs reaches p, and the largest threshold there is fits what is revealed."""
    certificate = Certificate(tiny_mlp(statistic=name, steps=1024, batch=1).plan)
    certificate.close(Fraction(128))
    score = certificate.score
    gathered = score.statistic.weight * score.tau**2
    assert len(str(gathered)) <= 40 and score.slack.tensor.bounds()[1] >= (score.tau if name == "max" else gathered)


def test_a_probe_of_all_weights_or_of_those_called_so_differ():
    scores = {v: case_of("rms", v, steps=3, batch=2).execute()[2].score for v in VARIANTS}
    assert len(set(scores.values())) == 3
    small = tiny_mlp(statistic="rms", variant="asam-shifted", eta=Fraction(1, 1 << 19)).execute()[2].score
    assert small == pytest.approx(tiny_mlp(statistic="rms").execute()[2].score, rel=1e-4)
