"""Honest witnesses of small networks, to be lied about."""

from __future__ import annotations

import pytest

from tests.builders import fan, leaky, normalised, residual, tiny_cnn, tiny_mlp
from tests.soundness.malicious.forging import honest


@pytest.fixture(scope="module")
def cnn():
    return honest(tiny_cnn())


@pytest.fixture(scope="module")
def mlp():
    return honest(tiny_mlp())


@pytest.fixture(scope="module")
def branches():
    return honest(residual())


@pytest.fixture(scope="module")
def leaks():
    return honest(leaky())


@pytest.fixture(scope="module")
def norms():
    return honest(normalised())


@pytest.fixture(scope="module")
def sums():
    """Sums of five branches, of the branches that read them, and of the gradients of these."""
    return honest(fan(4, 5, batch=1))
