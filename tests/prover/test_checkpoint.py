"""Checkpoints: an interrupted proof goes on with the same messages, and only for the same statement and code."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from unittest import mock

import pytest

from prover import argument
from prover.argument import prove_circuit
from prover.checkpoint import DIGITS, LEAVES, LOCK, STATE, Attempt, Checkpoint, NoCheckpoint
from prover.commit import ColumnTree, MatrixCommitment, UnluckyMasks
from prover.execution import workers
from prover.execution.witness import Witness
from prover.kernels import arith, count
from prover.phase import Phase
from prover.prove import Proved, prove_statement
from tests.functions import function_witness
from tests.toys import (
    certified,
    drawn_layout,
    drawn_proof,
    drawn_transcript,
    drawn_witness,
    light_grinding,
    tiny_dataset,
    tiny_model,
    toy_layout,
    toy_transcript,
    toy_witness,
    verify_toy,
)
from verifier.verify import Expectations, verify_proof
from zkcert import api
from zkcert.errors import ProofRejected, UnusableInput, ZkcertError

PHASES = ["witness", "reference", "commit", "late digits", "constraints", "range checks", "batch", "open", "pads"]
REPLAYED = ["constraints", "range checks", "batch"]


class Interrupted(Exception):
    """Stands for a power failure."""


def stopping_after(name: str) -> Phase:
    """A phase hook that ends the process, so to speak, when a phase is finished."""

    @contextmanager
    def hook(phase: str) -> Iterator[None]:
        yield
        if phase == name:
            raise Interrupted

    return hook


# ------------------------------------------------------------------------------------ one attempt, a toy circuit


class Kept(NoCheckpoint):
    """A checkpoint in memory."""

    def __init__(self) -> None:
        self.saved: list[Attempt] = []
        self.forgotten = 0

    def attempt(self, transcript):
        return replace(self.saved[-1]) if self.saved else super().attempt(transcript)

    def record(self, attempt):
        self.saved.append(replace(attempt))

    def forget(self):
        self.saved.clear()
        self.forgotten += 1


def prove_toy_with(kept: NoCheckpoint, stop: str = "", witness: Witness | None = None) -> bytes:
    witness = witness or toy_witness()
    with light_grinding():
        return prove_circuit(witness.layout, witness, toy_transcript(), phase=stopping_after(stop), checkpoint=kept)


@pytest.mark.parametrize("stop", PHASES[2:])
def test_resumed_attempt_gives_the_proof_it_would_have_given(stop):
    whole, broken = Kept(), Kept()
    with pytest.raises(Interrupted):
        prove_toy_with(broken, stop)
    if stop == "commit":  # the roots are complete with the late one
        assert not broken.saved
        broken.record(Attempt(bytes(range(32))))
    whole.record(Attempt(broken.saved[-1].secret))
    proof = prove_toy_with(broken)
    assert proof == prove_toy_with(whole)
    verify_toy(proof)


@pytest.mark.parametrize("stop", REPLAYED)
def test_resumed_attempt_with_lookups_gives_the_proof_it_would_have_given(stop):
    whole, broken = Kept(), Kept()
    with pytest.raises(Interrupted):
        prove_toy_with(broken, stop, function_witness())
    whole.record(Attempt(broken.saved[-1].secret))
    assert prove_toy_with(broken, "", function_witness()) == prove_toy_with(whole, "", function_witness())


@contextmanager
def threads(number: int) -> Iterator[None]:
    """As on a machine of so many cores; work is cut into pieces, however small it is."""
    with (
        mock.patch.object(arith, "THREADS", number),
        mock.patch.object(arith, "MAX_GRAIN", 1),
        mock.patch.object(count, "THREADS", number),
        mock.patch.object(workers, "THREADS", number),
        mock.patch.object(workers, "PIECE", 1),
    ):
        for pool in (arith.pool, workers.pool):
            pool.cache_clear()
        try:
            yield
        finally:
            for pool in (arith.pool, workers.pool):
                pool().shutdown()
                pool.cache_clear()


def test_resumed_proof_is_the_same_with_any_number_of_threads():
    """Interrupted in every phase, and resumed on another machine."""
    proofs = set()
    for numbers in ((1, 2, 4), (4, 1, 2)):
        kept = Kept()
        kept.record(Attempt(bytes(range(32))))
        for i, stop in enumerate(PHASES[2:]):
            with threads(numbers[i % 3]), pytest.raises(Interrupted):
                prove_toy_with(kept, stop)
        with threads(numbers[2]):
            proofs.add(prove_toy_with(kept))
    kept = Kept()
    kept.record(Attempt(bytes(range(32))))
    assert proofs == {prove_toy_with(kept)}


def test_finished_phases_ask_nothing_of_the_witness():
    """The recorded messages are enough: what replays never makes a table or a tree."""
    kept = Kept()
    with pytest.raises(Interrupted):
        prove_toy_with(kept, "range checks")
    names = []

    class Watched(argument.ProverOracle):
        def __getattribute__(self, name):
            names.append(name)
            return super().__getattribute__(name)

    with mock.patch.object(argument, "ProverOracle", Watched):
        verify_toy(prove_toy_with(kept))
    assert "batch" in names
    assert not {"products", "trees"} & set(names)


def test_pads_are_never_used_under_other_messages():
    """Resumed again and again, every finished phase keeps its messages byte for byte."""
    kept = Kept()
    for stop in REPLAYED:
        with pytest.raises(Interrupted):
            prove_toy_with(kept, stop)
    prove_toy_with(kept)
    last = kept.saved[-1]
    assert last.phases == tuple(REPLAYED)
    for earlier in kept.saved:
        assert earlier.secret == last.secret
        assert last.messages.startswith(earlier.messages)
        assert earlier.roots == last.roots


def test_unlucky_masks_take_a_new_secret():
    kept, secrets = Kept(), []
    honest = MatrixCommitment.open

    def unlucky(self, transcript, z):
        secrets.append(kept.saved[-1].secret)
        if len(secrets) == 1:
            raise UnluckyMasks
        return honest(self, transcript, z)

    with mock.patch.object(MatrixCommitment, "open", unlucky):
        verify_toy(prove_toy_with(kept))
    assert kept.forgotten == 1
    assert secrets[0] != secrets[1]


@pytest.mark.parametrize("damage", ["flipped", "cut", "lane"])
def test_damaged_messages_are_refused_or_rejected(damage):
    kept = Kept()
    with pytest.raises(Interrupted):
        prove_toy_with(kept, "range checks")
    messages = bytearray(kept.saved[-1].messages)
    if damage == "flipped":
        messages[3] ^= 1  # the proof of work of the range check no longer fits
    elif damage == "cut":
        del messages[-1]
    else:
        messages[:8] = b"\xff" * 8
    kept.saved[-1].messages = bytes(messages)
    try:
        proof = prove_toy_with(kept)
    except UnusableInput as error:
        assert "recorded messages" in str(error)
    else:  # the light proof of work fitted by chance
        assert damage == "flipped"
        with pytest.raises(ProofRejected):
            verify_toy(proof)


def test_other_roots_are_refused():
    kept = Kept()
    with pytest.raises(Interrupted):
        prove_toy_with(kept, "late digits")
    kept.saved[-1].secret = bytes(32)
    with pytest.raises(UnusableInput, match="roots"):
        prove_toy_with(kept)


def test_other_late_rows_are_refused():
    """Though the first part, whose leaves are kept, is the same: tails of the second one answer its weights only."""
    kept = Kept()
    with pytest.raises(Interrupted):
        prove_toy_with(kept, "late digits")
    with mock.patch.object(argument, "count_multiplicities"), pytest.raises(UnusableInput, match="roots"):
        prove_toy_with(kept)


@pytest.mark.slow
def test_attempt_with_drawn_weights_is_resumed_with_the_same_late_part():
    def prove(witness, stop=""):
        phase = stopping_after(stop)
        with light_grinding():
            return prove_circuit(drawn_layout(), witness, drawn_transcript(), phase=phase, checkpoint=kept)

    kept = Kept()
    kept.record(Attempt(bytes(range(32))))
    with pytest.raises(Interrupted):
        prove(drawn_witness(), "constraints")
    with pytest.raises(UnusableInput, match=r"roots|damaged"):  # the nonce is that of another root
        prove(drawn_witness(1))
    assert prove(drawn_witness()) == drawn_proof()


# ----------------------------------------------------------------------------------------- statements, on disk


@dataclass(frozen=True)
class Run:
    """A proof of the tiny statement, with a directory."""

    place: Path
    reveal_score: bool = False

    def __call__(self, stop: str = "", seen: list[str] | None = None, **changes) -> Proved:
        hook = stopping_after(stop)

        @contextmanager
        def phase(name: str) -> Iterator[None]:
            if seen is not None:
                seen.append(name)
            with hook(name):
                yield

        statement = replace(certified().statement, **changes)
        reveal = self.reveal_score
        with Checkpoint(self.place, statement, reveal) as kept:
            return prove_statement(
                statement,
                tiny_model(),
                tiny_dataset(),
                reveal_score=reveal,
                check=lambda *_: 0.25,
                phase=phase,
                checkpoint=kept,
            )

    def state(self) -> dict:
        return json.loads((self.place / STATE).read_text())


def accepted(proved: Proved) -> None:
    own = proved.statement
    verify_proof(proved.data, tiny_model(), Expectations(own.tau, own.dataset, own.announcement_digest, own.beacon))


@pytest.mark.parametrize("stop", ["witness", "reference", "late digits", "range checks", "pads"])
def test_interrupted_statement_is_still_proved(tmp_path, stop):
    run, seen = Run(tmp_path / "kept"), []
    with pytest.raises(Interrupted):
        run(stop)
    proved = run(seen=seen)
    accepted(proved)
    assert proved.difference == 0.25
    assert proved.trace == certified().proved.trace
    assert ("reference" in seen) == (stop in ("witness", "reference"))


@pytest.mark.slow
def test_statement_interrupted_everywhere_has_the_same_proof_with_any_number_of_threads(tmp_path):
    proofs = set()
    for number in (1, 2, 4):
        run = Run(tmp_path / f"kept{number}")
        with mock.patch("prover.checkpoint.secrets.token_bytes", lambda size: bytes(range(size))), threads(number):
            for stop in PHASES:
                with pytest.raises(Interrupted):
                    run(stop)
            proofs.add(run().data)
    assert len(proofs) == 1


def test_revealed_score_survives_an_interruption(tmp_path):
    run = Run(tmp_path / "kept", reveal_score=True)
    with pytest.raises(Interrupted):
        run("constraints")
    proved = run()
    assert proved.statement.variance == certified().proved.trace.variance
    accepted(proved)


def test_files_are_private_and_complete(tmp_path):
    run = Run(tmp_path / "kept")
    with pytest.raises(Interrupted):
        run("constraints")
    assert stat.S_IMODE(run.place.stat().st_mode) == 0o700
    assert {p.name for p in run.place.iterdir()} == {STATE, DIGITS, LEAVES, LOCK}
    for path in run.place.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path.name


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory) -> Run:
    run = Run(tmp_path_factory.mktemp("interrupted") / "kept")
    with pytest.raises(Interrupted):
        run("constraints")
    return run


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tau": Fraction(29)}, "the tau differs"),
        ({"beacon": b"another"}, "the beacon differs"),
        ({"weights_digest": bytes(32)}, "the model differs"),
        ({"circuit_digest": bytes(32)}, "the model differs"),
    ],
)
def test_other_statements_are_refused(interrupted, changes, words):
    with pytest.raises(UnusableInput, match=words):
        interrupted(**changes)


def test_other_configuration_dataset_or_disclosure_is_refused(interrupted):
    statement = certified().statement
    config = replace(statement.config, rho=Fraction(1, 10))
    with pytest.raises(UnusableInput, match="the configuration differs"):
        interrupted(config=config)
    with pytest.raises(UnusableInput, match="the dataset differs"):
        interrupted(dataset=replace(statement.dataset, n=41))
    with pytest.raises(UnusableInput, match="without --reveal-score"):
        Run(interrupted.place, reveal_score=True)()


def test_other_code_is_refused(interrupted):
    with (
        mock.patch("prover.checkpoint.CODE", "other"),
        pytest.raises(UnusableInput, match="another version"),
    ):
        interrupted()


def test_attempt_is_bound_to_the_whole_transcript(interrupted):
    """Also to what the header does not say: sample hashes, multi-proof, derived parameters."""
    with (
        Checkpoint(interrupted.place, certified().statement, False) as kept,
        pytest.raises(UnusableInput, match="another statement"),
    ):
        kept.attempt(toy_transcript())


def test_one_process_at_a_time(interrupted):
    with (
        Checkpoint(interrupted.place, certified().statement, False),
        pytest.raises(UnusableInput, match="being made right now"),
    ):
        interrupted()


def test_damaged_files_are_refused(interrupted):
    for name in (STATE, DIGITS):
        path = interrupted.place / name
        content = path.read_bytes()
        for bad in (content[:-4], content[:100] + bytes([content[100] ^ 1]) + content[101:], b""):
            path.write_bytes(bad)
            with pytest.raises(UnusableInput, match="damaged"):
                interrupted()
        path.write_bytes(content)
    path = interrupted.place / LEAVES
    content = path.read_bytes()
    for bad, words in ((content[:-1], "damaged"), (bytes([content[0] ^ 1]) + content[1:], "the roots of another")):
        path.write_bytes(bad)
        with pytest.raises(UnusableInput, match=words):
            interrupted()
    path.write_bytes(content)


def test_finished_commitment_is_not_made_again(interrupted):
    """That of the first part, which holds nearly all; the late part is committed to again."""
    hashed, original = [], ColumnTree._hashed

    def note(self):
        hashed.append(self.name)
        return original(self)

    with mock.patch.object(ColumnTree, "_hashed", note), pytest.raises(Interrupted):
        interrupted("constraints")
    assert hashed == [b"matrix/1"]


def test_directory_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UnusableInput, match=r"thesis\.tex"):
        Checkpoint(tmp_path, certified().statement, False)
    assert [p.name for p in tmp_path.iterdir() if p.name != LOCK] == ["thesis.tex"]


# -------------------------------------------------------------------------------------------------- the command


def test_prove_removes_the_checkpoint_when_the_proof_is_written(tiny, tmp_path):
    def interrupt(name: str, done: api.PhaseTime | None) -> None:
        if (name, done) == ("range checks", None):
            raise Interrupted

    kept, out = tmp_path / "kept", tmp_path / "proof.bin"
    options = {"announcement": tiny.announcement, "beacon": tiny.beacon, "checkpoint": kept}
    with pytest.raises(Interrupted):
        api.prove(tiny.model, tiny.data, out, **options, progress=interrupt)
    assert kept.exists()
    assert not out.exists()
    result = api.prove(tiny.model, tiny.data, out, **options)
    assert not kept.exists()
    assert result.cross_check == tiny.result.cross_check
    assert "reference" not in {phase.name for phase in result.phases}
    api.verify(out, tiny.model, tau=tiny.tau)


def test_refused_score_leaves_no_checkpoint(tiny, tmp_path):
    kept = tmp_path / "kept"
    with pytest.raises(ZkcertError, match="tau"):
        api.prove(tiny.model, tiny.data, tmp_path / "proof.bin", tau="0.001", config=tiny.config, checkpoint=kept)
    assert not kept.exists()


@pytest.mark.parametrize("name", [STATE, DIGITS, LEAVES])
def test_half_written_files_of_a_killed_process_do_not_stay(interrupted, name, tmp_path):
    """They hold the secret or the witness."""
    for place in (interrupted.place, tmp_path / "new"):
        place.mkdir(exist_ok=True)
        left = place / f".{name}.0123456789abcdef.tmp"
        left.write_bytes(b"half a secret")
        with Checkpoint(place, certified().statement, False):
            assert not left.exists()


def test_files_of_others_survive_a_refusal(tmp_path):
    for name in ("thesis.tex", LOCK, LEAVES):
        (tmp_path / name).write_text("years of work")
    with pytest.raises(UnusableInput, match=r"thesis\.tex"):
        Checkpoint(tmp_path, certified().statement, False)
    assert len(list(tmp_path.iterdir())) == 3


def test_secret_serves_one_statement():
    """The same stored secret under another statement gives other pads."""
    roots = []
    for label in ("a", "b"):
        kept, transcript = Kept(), toy_transcript()
        kept.record(Attempt(bytes(32)))
        transcript.absorb("statement", label.encode())
        with pytest.raises(Interrupted), light_grinding():
            prove_circuit(toy_layout(), toy_witness(), transcript, phase=stopping_after("constraints"), checkpoint=kept)
        roots.append(kept.saved[-1].roots)
    assert roots[0][:32] != roots[1][:32] and roots[0][32:] != roots[1][32:]
