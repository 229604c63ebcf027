"""The fixed-point probe follows the float64 metric."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from zkcert.metric import directional_sharpness

from .builders import KINDS, VARIANTS, Case, classifier, random_case, tiny_cnn, tiny_mlp

TOLERANCE = 1e-6  # measured: at most 1e-8 on fifty networks


def assert_agreement(case: Case) -> None:
    _, _, trace = case.execute()
    expected = directional_sharpness(case.model, case.pixels, case.labels, case.config)
    assert np.allclose(np.array(trace.ys) / 2.0**32, expected.log_ratio, rtol=0, atol=TOLERANCE)
    assert abs(trace.score - expected.score) < TOLERANCE
    losses = np.array([loss / 2.0**56 / case.plan.batch for loss in trace.losses])
    assert np.allclose(losses, expected.loss, rtol=TOLERANCE)
    norms = [n**0.5 / 2.0 ** (32 + k) / case.plan.batch for n, k in zip(trace.norms, trace.scales, strict=True)]
    assert np.allclose(float(case.plan.rho) * np.array(norms), expected.sharpness, rtol=TOLERANCE)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("kind", KINDS)
def test_small_networks_agree_with_the_float_metric(kind, variant):
    for build in (tiny_mlp, tiny_cnn):
        assert_agreement(build(kind=kind, variant=variant, steps=3))


@pytest.mark.parametrize("seed", [2, 4, 12, 18, 22, 25])
def test_random_networks_agree_with_the_float_metric(seed):
    rho, eps = Fraction(1, 1000), Fraction(0)
    assert_agreement(random_case(seed, variant=VARIANTS[seed % 2], batch=5, rho=rho, divisor=400, eps=eps))


@pytest.mark.parametrize("variant", VARIANTS)
def test_saturated_batches_agree_with_the_float_metric(variant):
    """The loss scale k = 10 keeps the gradient's significant bits."""
    weights = [[0.0, 0.25], [-0.5, 0.0], [-15.0, 0.25]]
    assert_agreement(classifier(weights, [[64, 0], [56, 8]], [0, 0], variant=variant, eps=Fraction(0)))
