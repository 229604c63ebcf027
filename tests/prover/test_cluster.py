"""Workers of a cluster: whoever takes part, the proof is the one that is made alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import numpy as np
import pytest

from circuits.language.layout import Layout, Segment
from prover.argument import prove_circuit
from prover.cluster import WorkerFailed
from prover.cluster.driver import Cluster
from prover.cluster.rays import check_address
from prover.cluster.sealing import Broken, Pair, Sealed
from prover.cluster.station import Station
from prover.commit import MatrixCommitment
from prover.trees import digit_tree
from tests.prover.test_checkpoint import PHASES, Attempt, Interrupted, Kept, stopping_after
from tests.toys import (
    drawn_layout,
    drawn_proof,
    drawn_transcript,
    drawn_witness,
    light_grinding,
    random_fs,
    toy_layout,
    toy_transcript,
    toy_witness,
    verify_toy,
)
from zkcert.core.code import MASK_ROWS, MatrixCode, PlainCode
from zkcert.core.field import F
from zkcert.errors import UnusableInput

SECRET = bytes(range(32))


class Here:
    """A crew in this process: every message is sealed and opened as on other machines."""

    def __init__(self, size: int) -> None:
        self.size, self.stations = size, [Station() for _ in range(size)]
        self.seen: list[np.ndarray] = []

    def greet(self, public):
        return [station.greet(public) for station in self.stations]

    def admit(self, sealed):
        for station, own in zip(self.stations, sealed, strict=True):
            station.admit(own)

    def ask(self, worker, request, others):
        self.seen += [request, self.stations[worker].do(request, *others)]
        return self.seen[-1]

    def replies(self, references):
        return list(references)

    def first(self, references):
        return 0

    def uses(self):
        return [station.uses() for station in self.stations]


def cluster(size: int) -> Cluster:
    return Cluster(Here(size), least_share=1, segments=4)


def matrix_code(row_bits: int, log_n: int, *rows: int) -> MatrixCode:
    """A shape that nothing has chosen."""
    return MatrixCode(row_bits, rows, log_n, 7, PlainCode(row_bits, 3, log_n, 7))


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize(("row_bits", "log_n", "rows"), [(5, 6, (3, 9)), (7, 8, (70, 150)), (10, 12, (64, 12))])
def test_parts_are_the_same(size, row_bits, log_n, rows):
    """Fewer rows than a block, several chunks of the hash, whole ones, cosets shorter and longer than a segment; rows
    that are cut off, empty or masks."""
    code, rng = matrix_code(row_bits, log_n, *rows), np.random.default_rng(row_bits)
    entries = [2 * code.width * count - rng.integers(0, 2 * code.width) for count in rows]
    x = [rng.integers(-(1 << 21), 1 << 21, n).astype(np.int32) for n in entries]
    queries = sorted(rng.choice(1 << log_n, code.queries, replace=False).tolist())
    team = cluster(size)
    alone, shared = MatrixCommitment(code), MatrixCommitment(code, team.part)
    for digits in x:
        a, b = (matrix.commit(digits, SECRET) for matrix in (alone, shared))
        assert np.array_equal(a.columns.leaves, b.columns.leaves)
    assert sum(len(station._tasks.blocks) for station in team.crew.stations) == sum(-(-n // 16) for n in code.parts)
    weights = rng.integers(0, 1 << 60, (2, 3, code.rows), np.uint64)
    weights[:, 2] = weights[:, 1]
    weights[1, 2] = ((1 << 61) - 1) - weights[1, 1]
    assert np.array_equal(alone.combine(weights), shared.combine(weights))
    for a, b in zip(alone.parts, shared.parts, strict=True):
        assert a.columns.open(queries) == b.columns.open(queries)
    assert code.parts[-1] == -(-rows[-1] // 4) * 4 + MASK_ROWS


@pytest.mark.parametrize("bits", [1, 2, 3])
@pytest.mark.parametrize("count", [9, 16, 33, 1000, 9001])
def test_trees_are_the_same(bits, count):
    """All messages, for claims that are what they may be: segments shorter than a worker's share, an end that is padded
    or not, depths where a worker has a few digits or stored and computed levels."""
    rng = np.random.default_rng(count)
    start, cuts = 8, np.unique(np.concatenate(([0], rng.integers(1, count, 5), [3, 4])))
    stops = [*cuts[1:].tolist(), count + 5]
    segments = [
        Segment(start + int(a), start + b, int(rng.integers(0, 9)), i)
        for i, (a, b) in enumerate(zip(cuts, stops, strict=True))
    ]
    layout = mock.Mock(spec=Layout, segments=segments)
    x = rng.integers(-(1 << 21), 1 << 21, start + count + 5).astype(np.int32)
    alpha, *challenges = random_fs(rng, 600)
    assert transcript_of(digit_tree(layout, x, alpha, start, count), count, challenges) == transcript_of(
        cluster(1 << bits).digit_tree(layout, x, alpha, start, count), count, challenges
    )


def transcript_of(tree, count: int, challenges: list[F]) -> list[object]:
    """What a tree says, from the root to the leaves."""
    said, drawn = [tree.root()], iter(challenges)
    point: list[F] = []
    depth = (count - 1).bit_length()
    for level in range(depth):
        layer = (tree.layer if level < depth - 1 else tree.leaves)(point, next(drawn))
        bound = []
        for _ in point:
            said.append(layer.round())
            bound.append(next(drawn))
            layer.bind(bound[-1])
        said.append(layer.finals())
        point = [next(drawn), *bound]
    return said


def prove_toy(team: Cluster | None, kept: Kept, stop: str = "") -> bytes:
    with light_grinding():
        return prove_circuit(
            toy_layout(), toy_witness(), toy_transcript(), phase=stopping_after(stop), checkpoint=kept, cluster=team
        )


def kept() -> Kept:
    """A checkpoint whose randomness is known."""
    out = Kept()
    out.record(Attempt(SECRET))
    return out


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_the_proof_is_the_same(size):
    proof = prove_toy(cluster(size), kept())
    assert proof == prove_toy(None, kept())
    verify_toy(proof)


def test_an_attempt_goes_on_with_other_workers_or_none():
    whole, broken = prove_toy(None, kept()), kept()
    for stop, size in zip(PHASES[2:], (2, 0, 4, 1, 0, 3, 2), strict=True):
        with pytest.raises(Interrupted):
            prove_toy(cluster(size) if size else None, broken, stop)
    assert prove_toy(cluster(3), broken) == whole


def test_workers_serve_one_proof_after_the_other():
    team = cluster(2)
    assert prove_toy(team, kept()) == prove_toy(team, kept())
    team.end()
    assert not any(station._tasks.blocks for station in team.crew.stations)


@pytest.mark.slow
def test_a_proof_with_a_late_part_and_large_tables_is_the_same():
    with mock.patch("prover.checkpoint.secrets.token_bytes", lambda size: bytes(range(size))), light_grinding():
        shared = prove_circuit(drawn_layout(), drawn_witness(), drawn_transcript(), cluster=cluster(3))
    assert shared == drawn_proof()


# ------------------------------------------------------------------------------------------------ secrets, failures


def test_what_leaves_a_process_is_sealed():
    """Digits, which are few and known here, are nowhere to be read; every message is another one."""
    team = cluster(2)
    witness = toy_witness()
    prove_toy(team, kept())
    sent = b"".join(message.tobytes() for message in team.crew.seen)
    assert len(sent) > 100_000
    for part in (witness.x[:64], witness.x[1:64:2], witness.x[: 1 << 12 : 4]):
        assert part.tobytes() not in sent
    assert b"numpy" not in sent and b"hold" not in sent
    assert len({message.tobytes() for message in team.crew.seen}) == len(team.crew.seen)


def test_messages_of_another_run_or_changed_ones_are_noticed():
    message = Sealed(SECRET).seal([1, np.arange(9)])
    one, array = Sealed(SECRET).open(message)
    assert one == 1 and array.tolist() == list(range(9)) and array.flags.writeable
    for i in range(len(message)):
        wrong = message.copy()
        wrong[i] ^= 1
        with pytest.raises(Broken):
            Sealed(SECRET).open(wrong)
        with pytest.raises(Broken):
            Sealed(SECRET).open(message[:i])
    with pytest.raises(Broken):
        Sealed(bytes(32)).open(message)
    one, two = Pair(), Pair()
    assert two.with_other(one.public).open(one.with_other(two.public).seal("key")) == "key"


def test_long_messages_are_sealed_in_pieces(monkeypatch):
    monkeypatch.setattr("prover.cluster.sealing.PIECE", 1000)
    value = np.arange(1000)
    message = Sealed(SECRET).seal(value)
    assert np.array_equal(Sealed(SECRET).open(message), value)
    assert len(message) > value.nbytes + 8 * 28
    piece, moved = 12 + 1000 + 16, message.copy()
    moved[-piece:], moved[-2 * piece : -piece] = message[-2 * piece : -piece], message[-piece:]
    with pytest.raises(Broken):
        Sealed(SECRET).open(moved)


def test_workers_with_other_code_are_refused():
    with (
        mock.patch("prover.cluster.station.CODE", "other"),
        pytest.raises(UnusableInput, match="has another version of zkcert: install the same one"),
    ):
        cluster(2)


@contextmanager
def failing(method: str) -> Iterator[None]:
    """A task for which no worker has memory."""
    with mock.patch(f"prover.cluster.station.Tasks.{method}", side_effect=MemoryError):
        yield


@pytest.mark.parametrize("method", ["hold", "hash", "plant", "sum_round", "combine", "values"])
def test_a_worker_that_cannot_go_on_ends_the_proof_in_one_line_and_loses_nothing(method):
    team, broken = cluster(2), kept()
    with failing(method), pytest.raises(WorkerFailed, match=r"^a worker could not go on: MemoryError on [^\n]*$"):
        prove_toy(team, broken)
    assert prove_toy(None, broken) == prove_toy(None, kept())


def test_traffic_is_counted_by_phase_and_worker():
    team = cluster(2)
    with light_grinding():
        prove_circuit(
            toy_layout(), toy_witness(), toy_transcript(), phase=team.watched(stopping_after("")), cluster=team
        )
    found = team.traffic()
    assert {"commit", "late digits", "range checks", "open"} <= set(found)
    assert sum(sum(t.sent) for t in found.values()) == sum(map(len, team.crew.seen[::2]))
    assert all(min(found[name].sent) > 0 for name in ("commit", "range checks", "open"))
    assert found["range checks"].waits > 20 and sum(found["open"].passed) > 0
    assert team.traffic() == {}


@pytest.mark.parametrize(
    "address", ["", "local", "local:0", "local:65", "local:x", "ray://", "ray://host", "http://a:1", "local:2 "]
)
def test_addresses_that_are_none_are_refused(address):
    with pytest.raises(UnusableInput, match=r"--cluster takes local:W, .* or ray://HOST:PORT"):
        check_address(address)


def test_addresses():
    assert check_address("local:3") == 3 and check_address("ray://head:10001") is None
