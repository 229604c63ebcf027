"""The sampling permutation: bijective, reproducible from its description, and evenly spread."""

from __future__ import annotations

import numpy as np
import pytest
from blake3 import blake3
from Crypto.Cipher import AES
from hypothesis import given, settings
from hypothesis import strategies as st

from zkcert.core.permutation import MAX_DOMAIN, sample_indices
from zkcert.errors import UnusableInput

KEY = bytes(range(32))


def permuted(key: bytes, n: int, x: int) -> int:
    """pi(x), one element at a time in plain integers, written from the module's description."""
    cipher_key = blake3(key, derive_key_context="zkcert sampling permutation v1").digest()
    bits = (n - 1).bit_length()
    h = max(1, (bits + 1) // 2)
    while True:
        left, right = divmod(x, 2**h)
        for j in range(12):
            block = j.to_bytes(4, "little") + right.to_bytes(4, "little") + n.to_bytes(8, "little")
            output = AES.new(cipher_key, AES.MODE_ECB).encrypt(block)
            left, right = right, left ^ (int.from_bytes(output[:8], "little") % 2**h)
        x = left * 2**h + right
        if x < n:
            return x


@pytest.mark.parametrize("n", [*range(1, 40), 255, 256, 257, 4095, 4097, 60_000])
def test_it_is_a_bijection(n):
    assert sorted(sample_indices(KEY, n, n)) == list(range(n))


@settings(max_examples=60, deadline=None)
@given(st.binary(min_size=32, max_size=32), st.integers(1, MAX_DOMAIN), st.integers(1, 5))
def test_it_follows_its_description(key, n, count):
    count = min(count, n)
    assert sample_indices(key, n, count) == [permuted(key, n, x) for x in range(count)]


def test_first_draws_are_a_prefix_of_more():
    assert sample_indices(KEY, 1000, 300)[:7] == sample_indices(KEY, 1000, 7)
    assert sample_indices(KEY, 1000, 0) == []
    assert all(type(i) is int for i in sample_indices(KEY, 1000, 5))


def test_frozen_values():
    assert sample_indices(KEY, 60_000, 6) == [21915, 30626, 52864, 37824, 20263, 27721]


def test_key_and_size_matter():
    assert sample_indices(KEY, 60_000, 8) != sample_indices(KEY[::-1], 60_000, 8)
    assert sample_indices(KEY, 60_000, 8) != sample_indices(KEY, 60_001, 8)


@pytest.mark.parametrize("n", [2, 3, 5, 10])
def test_every_value_is_drawn_equally_often(n):
    trials = 1500
    draws = [sample_indices(blake3(b"%d" % i).digest(), n, 2) for i in range(trials)]
    pairs = np.zeros((n, n))
    np.add.at(pairs, tuple(np.array(draws).T), 1)
    assert not np.diag(pairs).any()
    expected = trials / (n * (n - 1))
    off_diagonal = pairs[~np.eye(n, dtype=bool)]
    chi_squared = ((off_diagonal - expected) ** 2 / expected).sum()
    freedom = n * (n - 1) - 1
    assert chi_squared < freedom + 5 * np.sqrt(2 * freedom)


def test_more_draws_than_samples_raise():
    with pytest.raises(UnusableInput, match="cannot draw 11 samples from 10"):
        sample_indices(KEY, 10, 11)


@pytest.mark.parametrize(("key", "n", "count"), [(KEY[1:], 5, 1), (KEY, 0, 0), (KEY, MAX_DOMAIN + 1, 1), (KEY, 5, -1)])
def test_other_arguments_raise(key, n, count):
    with pytest.raises(ValueError, match="expected"):
        sample_indices(key, n, count)
