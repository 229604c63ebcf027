"""Honest witnesses of small networks, to be lied about."""

from __future__ import annotations

import pytest

from tests.builders import normalised, residual, tiny_cnn, tiny_mlp
from tests.malicious.forging import honest


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
def norms():
    return honest(normalised())
