"""The fixed-point probe follows the float64 metric."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from prover.prove import prove_statement
from tests.activations import clipped, curved, hard
from tests.branching import learned, products
from tests.builders import (
    KINDS,
    VARIANTS,
    Case,
    bordered,
    build,
    classifier,
    grouped,
    leaky,
    pointwise,
    random_case,
    standardised,
    tiny_cnn,
    tiny_mlp,
)
from tests.channels import attended, joined, shuffled
from tests.toys import tiny_dataset, tiny_model
from verifier.verify import Expectations, verify_proof
from zkcert.api.proving import CROSS_CHECK_LIMIT
from zkcert.metric import directional_sharpness
from zkcert.public.config import ProbeConfig
from zkcert.public.model import Model
from zkcert.public.statement import Statement

TOLERANCE = 1e-6  # measured: at most 1e-8 on fifty networks


def assert_agreement(case: Case, tolerance: float = TOLERANCE) -> None:
    _, _, trace = case.execute()
    expected = directional_sharpness(case.model, case.pixels, case.labels, case.config)
    assert np.allclose(np.array(trace.ys) / 2.0**32, expected.log_ratio, rtol=0, atol=tolerance)
    assert abs(trace.score - expected.score) < tolerance
    losses = np.array([loss / 2.0**56 / case.plan.batch for loss in trace.losses])
    assert np.allclose(losses, expected.loss, rtol=tolerance)
    norms = [n**0.5 / 2.0 ** (32 + k) / case.plan.batch for n, k in zip(trace.norms, trace.scales, strict=True)]
    assert np.allclose(float(case.plan.rho) * np.array(norms), expected.sharpness, rtol=tolerance)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("kind", KINDS)
def test_small_networks_agree_with_the_float_metric(kind, variant):
    for make in (tiny_mlp, tiny_cnn, leaky):
        assert_agreement(make(kind=kind, variant=variant, steps=3))


@pytest.mark.parametrize(
    "make",
    [bordered, grouped, clipped, curved, hard, joined, shuffled, attended, pointwise, standardised, products, learned],
)
def test_what_convolutional_networks_are_made_of_agrees_with_the_float_metric(make):
    assert_agreement(make(steps=3))


@pytest.mark.parametrize("seed", [2, 4, 12, 18, 22, 25])
def test_random_networks_agree_with_the_float_metric(seed):
    rho, eps = Fraction(1, 1000), Fraction(0)
    assert_agreement(random_case(seed, variant=VARIANTS[seed % 2], batch=5, rho=rho, divisor=400, eps=eps))


@pytest.mark.parametrize("variant", VARIANTS)
def test_saturated_batches_agree_with_the_float_metric(variant):
    """The loss scale k = 10 keeps the gradient's significant bits."""
    weights = [[0.0, 0.25], [-0.5, 0.0], [-15.0, 0.25]]
    assert_agreement(classifier(weights, [[64, 0], [56, 8]], [0, 0], variant=variant, eps=Fraction(0)))


def flattened(model: Model, bits: int) -> Model:
    """The same with its weights 2^bits times smaller, ||T g|| more than that."""
    return Model(model.graph, model.input, {name: array * 2.0**-bits for name, array in model.params.items()})


@pytest.mark.parametrize("bits", [4, 8, 10])
@pytest.mark.parametrize("variant", VARIANTS)
def test_flat_networks_agree_with_the_float_metric(bits, variant):
    """||T g|| down to 1e-4, and q up to 2^49, for asam-all."""
    case = tiny_mlp()
    model = flattened(case.model, bits)
    data = {"pixels": case.pixels, "labels": case.labels}
    flat = build(model.graph, model.params, model.input, **data, variant=variant, eps=Fraction(0))
    assert_agreement(flat, TOLERANCE if bits < 10 else CROSS_CHECK_LIMIT)


def test_a_flat_network_is_proved_and_verified():
    model, dataset = flattened(tiny_model(), 8), tiny_dataset()
    config = ProbeConfig(steps=2, batch_size=3, lr=Fraction(1, 80))
    statement = Statement.of(model, dataset.root, config, Fraction(30))
    proved = prove_statement(statement, model, dataset)
    assert all(n < (2**33 // 20) ** 2 for n in proved.trace.norms)  # ||T g|| below 2 rho
    verify_proof(proved.data, model, Expectations(Fraction(30)))
