"""The verifier: from bytes nobody vouches for to accept or reject.

Everything read is untrusted: the proof, the model file and the optional pins. Nothing here needs PyTorch or numba.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import isqrt

from circuits.compile import collector_paused
from circuits.layout import SMALLEST_CUT
from circuits.statement import certificate, start_transcript
from zkcert.config import ProbeConfig
from zkcert.core.container import ProofFile
from zkcert.core.merkle import verify_multiproof
from zkcert.data import TREE_NAME, DatasetRoot, leaf_digests
from zkcert.errors import MalformedProof, ProofRejected, RangeOverflow, UnusableInput
from zkcert.model import Model
from zkcert.statement import Statement, circuit_digest

from .argument import require_plausible, verify_circuit
from .doubts import differences, statement_doubts
from .soundness import SoundnessTable, soundness

REQUIRED_BITS = 100


@dataclass(frozen=True)
class Report:
    """What an accepted proof shows."""

    statement: Statement
    soundness: SoundnessTable
    parameters: int
    proof_bytes: int
    announced: bool
    warnings: tuple[str, ...] = ()

    @property
    def score(self) -> float | None:
        """The exact score if the proof reveals it."""
        if self.statement.variance is None:
            return None
        steps = self.statement.config.steps
        return float(Fraction(isqrt(self.statement.variance << 64), steps << 64))


@dataclass(frozen=True)
class Expectations:
    """What the verifier insists on; None leaves a point open (and the report says so)."""

    tau: Fraction
    root: bytes | DatasetRoot | None = None
    announcement: bytes | None = None
    beacon: bytes | None = None
    config: ProbeConfig | None = None


def warnings(statement: Statement, expected: Expectations) -> list[str]:
    """What an accepted proof leaves open, and what is unusual about it: for the reader to judge."""
    out = statement_doubts(statement.config, statement.dataset.n, expected.config is not None)
    if expected.announcement is not None:
        return out  # it fixes root, N and schema
    if expected.root is None:
        out.append("DATASET NOT CHECKED: the proof may be about any data; pass --data-root")
    elif not isinstance(expected.root, DatasetRoot):
        out.append("only the 32-byte root is pinned: the provider chose N and the schema (give the data.root file)")
    return out


def check_statement(statement: Statement, model: Model, expected: Expectations) -> None:
    """Compare the proof's statement with the model and with what the verifier expects."""
    if statement.circuit_digest != circuit_digest(model) or statement.weights_digest != model.weights_digest:
        raise ProofRejected("model", "the proof is about another model")
    if statement.tau > expected.tau:
        raise ProofRejected(
            "tau", f"the proof shows a score of at most {float(statement.tau)}, not {float(expected.tau)}"
        )
    pinned = expected.root
    proved = statement.dataset if isinstance(pinned, DatasetRoot) else statement.dataset.root
    if pinned is not None and pinned != proved:
        raise ProofRejected("data-root", "the proof is about another dataset")
    if expected.config is not None and expected.config != statement.config:
        found = "; ".join(differences(statement.config, expected.config))
        raise ProofRejected("config", f"the proof is about another configuration of the probe: {found}")
    if expected.announcement is not None and expected.announcement != statement.announcement_digest:
        raise ProofRejected("announcement", "the proof is about another announcement")
    if expected.beacon is not None and expected.beacon != statement.beacon:
        raise ProofRejected("beacon", "the proof uses another beacon, or none")


def verify_proof(data: bytes, model: Model, expected: Expectations, *, smallest_cut: int = SMALLEST_CUT) -> Report:
    """Accept a proof or raise ProofRejected (a check failed) or MalformedProof (the bytes do not parse).

    smallest_cut: of the layout; the constant is the specification's, others are for toy proofs.
    """
    with collector_paused():
        return _verified(data, model, expected, smallest_cut)


def _verified(data: bytes, model: Model, expected: Expectations, smallest_cut: int) -> Report:
    """Cheap checks first: what a file costs before one of them fails grows with its own length and the model's."""
    proof = ProofFile.parse(data)
    try:
        statement = Statement.parse_header(proof.header)
    except UnusableInput as error:
        raise MalformedProof(str(error)) from error
    check_statement(statement, model, expected)
    config, dataset = statement.config, statement.dataset
    count = config.steps * config.batch_size
    if len(proof.hashes) != count:
        raise MalformedProof(f"{len(proof.hashes)} sample hashes for {count} samples")
    try:
        Statement.of(model, dataset, config, statement.tau)  # shapes, classes and sizes fit
        require_plausible(proof.argument, len(model.params))
        indices = statement.indices()
        order = sorted(range(count), key=indices.__getitem__)
        rising = [indices[i] for i in order]
        leaves = leaf_digests(rising, proof.hashes[order])
        if not verify_multiproof(dataset.root, dataset.n, rising, leaves, proof.multiproof, TREE_NAME):
            raise ProofRejected("dataset", "the sample hashes do not belong to the dataset root")
        cert = certificate(statement, model, proof.hashes)
        layout = cert.close(statement.tau, statement.variance, smallest_cut)
    except (UnusableInput, RangeOverflow) as error:
        raise ProofRejected("statement", str(error)) from error
    table = soundness(layout)
    if table.bits < REQUIRED_BITS:
        raise ProofRejected("soundness", f"{table.bits:.1f} bits of work, {REQUIRED_BITS} required")
    transcript = start_transcript(statement, proof.hashes, proof.multiproof, layout)
    verify_circuit(layout, transcript, proof.argument)
    return Report(
        statement,
        table,
        model.param_count,
        len(data),
        expected.announcement is not None,
        tuple(warnings(statement, expected)),
    )
