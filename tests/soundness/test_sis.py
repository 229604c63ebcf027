"""The SIS hash against plain integers, and its parameters against the security estimate."""

from __future__ import annotations

from unittest.mock import Mock

import numpy as np
import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.sis_estimate import euclidean, hiding_distance_bits, infinity
from zkcert.core import sis
from zkcert.core.field import P
from zkcert.core.sis import RHO, ROWS
from zkcert.data import hashing
from zkcert.data.hashing import hash_samples, matrix


def oracle(x: np.ndarray, rho: np.ndarray) -> list[list[int]]:
    """A x + S rho with python integers."""
    a, s = matrix(b"A", x.shape[1]).astype(object), matrix(b"S", RHO).astype(object)
    return ((x.astype(object) @ a.T + rho.astype(object) @ s.T) % P).tolist()


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 3), st.integers(1, 40), st.integers(0, 2**32))
def test_hashes_equal_the_integer_oracle(n, columns, seed):
    random = np.random.default_rng(seed)
    x = random.integers(0, 256, (n, columns), dtype=np.uint8)
    rho = random.integers(0, 256, (n, RHO), dtype=np.uint8)
    hashes = hash_samples(x, rho)
    assert hashes.dtype == np.uint64 and hashes.shape == (n, ROWS)
    assert hashes.tolist() == oracle(x, rho)


def test_largest_sums_are_exact_over_several_blocks(monkeypatch):
    """The extreme: 2^14 columns of bytes 255 times entries p - 1, then a second block."""
    columns = hashing._BLOCK_COLUMNS + 3
    extreme = np.full((ROWS, columns), P - 1, np.uint64)
    monkeypatch.setattr(hashing, "matrix", lambda name, count: extreme[:, :count])
    x, rho = np.full((2, columns), 255, np.uint8), np.zeros((2, RHO), np.uint8)
    assert (hash_samples(x, rho) == columns * 255 * (P - 1) % P).all()


def test_rows_in_several_pieces_agree(monkeypatch):
    random = np.random.default_rng(1)
    x = random.integers(0, 256, (9, 50), dtype=np.uint8)
    rho = random.integers(0, 256, (9, RHO), dtype=np.uint8)
    whole = hash_samples(x, rho)
    monkeypatch.setattr(hashing, "_BLOCK_ENTRIES", 4 * RHO)
    assert (hash_samples(x, rho) == whole).all()


def test_matrices_follow_the_description():
    for name in (b"A", b"S"):
        m = matrix(name, 5)
        assert m.shape == (ROWS, 5) and m.dtype == np.uint64 and not m.flags.writeable
        for j in range(5):
            stream = blake3(b"zkcert/sis/1\x01" + name + j.to_bytes(8, "little")).digest(8 * ROWS)
            words = [int.from_bytes(stream[8 * i : 8 * i + 8], "little") % 2**61 for i in range(ROWS)]
            assert m[:, j].tolist() == words  # no word is p
    assert (matrix(b"A", 3) == matrix(b"A", 5)[:, :3]).all()
    assert (matrix(b"A", 5) != matrix(b"S", 5)).any()
    assert matrix(b"A", 5) is matrix(b"A", 5)


def test_a_column_whose_stream_holds_p_skips_it(monkeypatch):
    plain = hashing.matrix(b"skipping", 3).T.copy()

    def hasher(seed):
        stream = blake3(seed)
        if seed.endswith((1).to_bytes(8, "little")):
            words = stream.digest(length=8 * 400)
            stream = Mock(digest=lambda length, seek=0: (b"\xff" * 8 + words)[seek : seek + length])
        return stream

    monkeypatch.setattr(sis, "blake3", hasher)
    monkeypatch.setattr("zkcert.core.transcript.blake3", hasher)
    hashing.matrix.cache_clear()
    assert np.array_equal(hashing.matrix(b"skipping", 3).T, plain)
    hashing.matrix.cache_clear()


def test_frozen_hash():
    x, rho = np.arange(10, dtype=np.uint8)[None], np.arange(RHO, dtype=np.uint16).astype(np.uint8)[None]
    digest = blake3(hash_samples(x, rho).astype("<u8").tobytes()).hexdigest()
    assert digest == "5fc2b7d63e358197e329f1b5ab40cf4324844b19629b33863e1d2d4e7a38dd73"


def test_the_hash_is_linear():
    x, rho = np.array([[3, 5], [4, 6], [7, 11]], np.uint8), np.zeros((3, RHO), np.uint8)
    rho[:, 0] = 100, 30, 130
    first, second, both = hash_samples(x, rho).astype(object)
    assert ((first + second - both) % P == 0).all()


@pytest.mark.parametrize(
    ("x", "rho"),
    [
        (np.zeros((2, 5), np.int64), np.zeros((2, RHO), np.uint8)),
        (np.zeros((2, 5), np.uint8), np.zeros((2, RHO), np.int8)),
        (np.zeros(5, np.uint8), np.zeros((5, RHO), np.uint8)),
        (np.zeros((2, 5), np.uint8), np.zeros((3, RHO), np.uint8)),
        (np.zeros((2, 5), np.uint8), np.zeros((2, RHO - 1), np.uint8)),
    ],
)
def test_other_shapes_raise(x, rho):
    with pytest.raises(ValueError, match="expected uint8 arrays"):
        hash_samples(x, rho)


def test_parameters_are_secure():
    assert 8 * RHO >= ROWS * 61 + 256
    assert hiding_distance_bits() > 128
    assert euclidean(0.292).bits > 128 and euclidean(0.257).bits > 128


def test_estimates_react_to_the_parameters():
    fewer_rows = euclidean(0.292, rows=128)
    assert 120 < fewer_rows.bits < 128
    assert euclidean(0.292, rows=64, bound=4).bits > euclidean(0.292, rows=64).bits
    assert infinity(0.292, rows=48).bits > euclidean(0.292, rows=48).bits


def test_matrices_made_in_several_pieces_agree(monkeypatch):
    whole = hashing.matrix.__wrapped__(b"A", 23)
    monkeypatch.setattr(sis, "_BLOCK_SEEDS", 5)
    assert np.array_equal(hashing.matrix.__wrapped__(b"A", 23), whole) and whole.shape == (sis.ROWS, 23)
    assert not hashing.matrix.__wrapped__(b"A", 3).flags.writeable
