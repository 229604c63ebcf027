"""Merkle trees: the documented hashes, complete and minimal multiproofs, and rejection of everything else."""

from __future__ import annotations

import time

import numpy as np
import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from zkcert.core.merkle import MAX_LEAVES, leaf_digest, verify_multiproof
from zkcert.core.tree import MerkleTree

NAME = b"test"


def leaves(n: int) -> np.ndarray:
    digests = b"".join(leaf_digest(NAME, i, b"data %d" % i) for i in range(n))
    return np.frombuffer(digests, np.uint8).reshape(n, 32)


def test_root_follows_the_documented_construction():
    def tagged(kind: bytes, rest: bytes) -> bytes:
        return blake3(b"zkcert/merkle/" + kind + b"/1\x04test" + rest).digest()

    row = [tagged(b"leaf", i.to_bytes(8, "little") + b"data %d" % i) for i in range(5)]
    assert leaves(5).tobytes() == b"".join(row)
    row += [tagged(b"absent", b"")] * 3
    for level in (1, 2, 3):
        row = [
            tagged(b"node", bytes([level]) + i.to_bytes(8, "little") + row[2 * i] + row[2 * i + 1])
            for i in range(len(row) // 2)
        ]
    assert MerkleTree(leaves(5), NAME).root == row[0]


def test_root_of_one_leaf_is_the_leaf():
    tree = MerkleTree(leaves(1), NAME)
    assert tree.root == leaves(1).tobytes()
    assert verify_multiproof(tree.root, 1, [0], leaves(1), tree.multiproof([0]), NAME)


def test_names_positions_and_padding_separate_domains():
    assert MerkleTree(leaves(4), b"a").root != MerkleTree(leaves(4), b"b").root
    assert leaf_digest(b"a", 0, b"x") != leaf_digest(b"a", 1, b"x")
    assert leaf_digest(b"a", 0, b"x") != leaf_digest(b"b", 0, b"x")
    assert MerkleTree(leaves(5), NAME).root != MerkleTree(leaves(6), NAME).root
    with pytest.raises(ValueError, match="at most 255 bytes"):
        leaf_digest(bytes(256), 0, b"")


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 70), st.data())
def test_multiproofs_verify_and_are_minimal(n, data):
    indices = sorted(data.draw(st.sets(st.integers(0, n - 1), min_size=1)))
    tree = MerkleTree(leaves(n), NAME)
    proof = tree.multiproof(data.draw(st.permutations(indices * 2)))
    assert verify_multiproof(tree.root, n, indices, leaves(n)[indices], proof, NAME)
    if len(indices) == 1:
        assert len(proof) == 32 * tree.depth
    if len(indices) == n == 1 << tree.depth:
        assert proof == b""


N, INDICES = 11, [0, 3, 4, 10]


@pytest.fixture(scope="module")
def opened() -> tuple[bytes, np.ndarray, bytes]:
    tree = MerkleTree(leaves(N), NAME)
    return tree.root, leaves(N)[INDICES], tree.multiproof(INDICES)


def test_every_flipped_bit_is_rejected(opened):
    root, digests, proof = opened
    assert verify_multiproof(root, N, INDICES, digests, proof, NAME)
    for i in range(8 * len(proof)):
        bad = bytearray(proof)
        bad[i // 8] ^= 1 << i % 8
        assert not verify_multiproof(root, N, INDICES, digests, bytes(bad), NAME)
    for i in range(8 * digests.size):
        flipped = bytearray(digests.tobytes())
        flipped[i // 8] ^= 1 << i % 8
        wrong = np.frombuffer(flipped, np.uint8).reshape(digests.shape)
        assert not verify_multiproof(root, N, INDICES, wrong, proof, NAME)


def test_proofs_of_other_lengths_are_rejected(opened):
    root, digests, proof = opened
    for bad in [proof[:k] for k in range(len(proof))] + [proof + b"\0", proof + proof[-32:]]:
        assert not verify_multiproof(root, N, INDICES, digests, bad, NAME)


@pytest.mark.parametrize(
    "indices",
    [
        [],
        [0, 3, 4],
        [0, 3, 10, 4],
        [0, 3, 3, 10],
        [0, 3, 5, 10],
        [0, 3, 4, 11],
        [0, 3, 4, 10 + 16],
        [-1, 3, 4, 10],
        [0, 3, 4, 1 << 200],
        [0, 3, 4, 10.0],
        ["0", 3, 4, 10],
    ],
)
def test_other_indices_are_rejected(opened, indices):
    root, digests, proof = opened
    assert not verify_multiproof(root, N, indices, digests, proof, NAME)


def test_other_parameters_are_rejected(opened):
    root, digests, proof = opened
    for n in (10, 17, 0, -1, 1 << 40, MAX_LEAVES, MAX_LEAVES + 1, 1 << 900):
        assert not verify_multiproof(root, n, INDICES, digests, proof, NAME)
    assert not verify_multiproof(root[:-1], N, INDICES, digests, proof, NAME)
    assert not verify_multiproof(root, N, INDICES, digests, proof, b"tesu")
    assert not verify_multiproof(root, N, INDICES, digests[:3], proof, NAME)
    assert not verify_multiproof(root, N, INDICES, digests[:, :31], proof, NAME)
    assert not verify_multiproof(root, N, INDICES, digests.astype(np.uint16), proof, NAME)


def test_an_absent_leaf_cannot_be_opened():
    tree = MerkleTree(leaves(5), NAME)
    absent = np.frombuffer(blake3(b"zkcert/merkle/absent/1\x04test").digest(), np.uint8)[None]
    siblings = MerkleTree(np.vstack((leaves(5), absent)), NAME)
    assert siblings.root == tree.root
    assert not verify_multiproof(tree.root, 5, [5], absent, siblings.multiproof([5]), NAME)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400), st.integers(), st.lists(st.integers(0, 40), max_size=6))
def test_random_bytes_never_crash_or_pass(proof, n, indices):
    digests = np.zeros((len(indices), 32), np.uint8)
    assert not verify_multiproof(b"r" * 32, n, indices, digests, proof, NAME)


@pytest.mark.parametrize("indices", [[], [-1], [5], [0, 5]])
def test_unprovable_indices_raise(indices):
    with pytest.raises(ValueError, match="within"):
        MerkleTree(leaves(5), NAME).multiproof(indices)


@pytest.mark.parametrize("shape", [(0, 32), (4, 31), (32,)])
def test_trees_over_other_shapes_raise(shape):
    with pytest.raises(ValueError, match="shape"):
        MerkleTree(np.zeros(shape, np.uint8), NAME)


def test_a_large_tree_is_built_quickly():
    digests = np.zeros((1 << 16, 32), np.uint8)
    start = time.process_time()
    MerkleTree(digests, NAME)
    assert time.process_time() - start < 1
