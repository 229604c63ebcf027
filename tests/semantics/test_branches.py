"""Executor and reference agree on products of branches, learned slopes and single logits."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest

from tests.branching import Branching, learned, products
from tests.semantics.rounding import entries
from tests.semantics.test_reference import assert_equal, refusals


@pytest.mark.parametrize("make", [products, learned])
@pytest.mark.parametrize(("seed", "options"), [(0, {}), (1, {"kind": "q32", "variant": "sam", "steps": 3})])
def test_they_equal_the_reference(make, seed, options):
    assert_equal(make(seed, **options))


def test_the_gradient_of_a_prelu_at_zero_is_its_slope_and_the_slopes_own_is_zero():
    g = Branching(np.random.default_rng(2), [1, 4, 4]).conv(3).prelu(3).flatten().linear(3)
    g.params["conv2d0.weight"][0] = 0
    g.params["conv2d0.bias"][0] = 0
    g.params["prelu1.weight"][:] = 0.25
    found = assert_equal(g.case(steps=3, variant="sam"))
    expected = found.passes[0]
    assert {z for sample in expected.outputs["conv2d0"] for z in entries(sample[0])} == {0}
    pairs = zip(expected.deltas["flatten2"], expected.deltas["prelu1"], strict=True)
    for before, after in ((entries(d[0]), list(entries(a[0]))) for d, a in pairs):
        assert after == [(d + 2) >> 2 for d in before] and any(after)
    assert found.gradients[0]["prelu1.weight"][0] == 0 and all(found.gradients[0]["prelu1.weight"][1:])


def test_a_product_of_an_output_with_itself_has_twice_the_gradient():
    g = Branching(np.random.default_rng(3), [1, 1, 4]).flatten().linear(3)
    found = assert_equal(g.multiply(g.last).linear(3).case()).passes[0]
    for sample, z in zip(found.deltas["multiply2"], found.outputs["linear1"], strict=True):
        assert sample[0] == sample[1] and len(sample[0]) == len(z)


def test_a_product_out_of_range_is_refused():
    g = Branching(np.random.default_rng(2), [1, 1, 4], scale=99).flatten().linear(3)
    case = g.multiply(g.last).linear(3).case()
    assert refusals(case) == ("RangeOverflow", "multiply2 is out of range")


def test_a_single_logit_is_the_second_of_two():
    g = Branching(np.random.default_rng(4), [1, 1, 4]).flatten().linear(1).binary()
    found = assert_equal(g.case()).passes[0]
    assert found.logits == [[0, *z] for z in found.outputs["linear1"]]
    assert list(chain(*found.deltas["binary2"])) == [dz[1] for dz in found.dz]
