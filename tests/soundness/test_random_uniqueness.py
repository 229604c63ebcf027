"""Random networks of any layers in any order: the executor does what the reference says, or both refuse; and samples
and public values determine every digit."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from prover.execution.head.softmax import GradientTooSmall
from tests.builders import Case, violations
from tests.random_graphs import random_network
from tests.semantics.rounding import Refusal
from tests.semantics.test_reference import assert_equal, reference_run
from tests.soundness.determined import Knowledge
from tests.soundness.test_uniqueness import TIES
from tests.soundness.unrolled import Unrolled
from zkcert.errors import RangeOverflow, UnusableInput


def random_case(seed: int) -> Case | None:
    """A case of few digits; None if its circuit is refused. Every third has weights of few values, and so ties."""
    g, rng = random_network(seed, small=True), np.random.default_rng([seed, 23])
    if seed % 3 == 0:
        g.params.update({k: (np.round(v * 2) / 4).astype(np.float32) for k, v in g.params.items() if ".var" not in k})
    options = {"batch": int(rng.integers(1, 3)), "variant": str(rng.choice(["sam", "asam-all"]))}
    try:
        case = g.case(seed=seed, rho=Fraction(1, 1000), residue_cost=0 if rng.random() < 0.3 else 10, **options)
        case.execute()
    except UnusableInput:
        return None
    except (RangeOverflow, GradientTooSmall):
        with pytest.raises(Refusal):
            reference_run(case)
        return None
    return case


def undetermined(case: Case) -> set[str]:
    """Tensors with digits that do not follow. Integer roots count as known: of both, any other one is excluded apart
    (test_edges.py, test_lies.py), which the search for bounds does not always find."""
    certificate, w, _ = case.run()
    assert violations(certificate.circuit, w) == []
    roots = {"step-size/q", *(f"{node['name']}/a" for node in case.plan.graph if node["op"] == "groupnorm")}
    u = Unrolled(certificate.circuit)
    bounds = {}
    for made in certificate.circuit.combinations:
        for division in (d for reduction in made.reductions for d in reduction.divisions if d.residue is not None):
            bounds |= {v: (0, division.prime - 1) for v in u.wholes(division.residue.tensor)}  # see test_uniqueness.py
    values, unknown = u.values(w), [v for v in u.unknown() if u.names[v][0].name not in roots]
    k = Knowledge(u, values, unknown, bounds=bounds).solve(patient=True)
    assert all(lo <= x <= hi for lo, x, hi in zip(k.lo, values, k.hi, strict=True))
    return {u.names[v][0].name for v in k.free()}


def look_at(seeds: range) -> int:
    """How many of the seeds give a case, all digits of which are determined."""
    cases = [case for seed in seeds if (case := random_case(seed)) is not None]
    for case in cases:
        assert_equal(case)
        assert undetermined(case) <= TIES
    return len(cases)


def test_every_digit_of_a_random_network_is_determined():
    assert look_at(range(6, 7)) == 1


@pytest.mark.slow
def test_every_digit_of_many_random_networks_is_determined():
    assert look_at(range(60)) >= 30
