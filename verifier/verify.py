"""The verifier: from bytes nobody vouches for to accept or reject. `verify_proof` lists its stages in order.

Everything read is untrusted: the proof, the model file and the optional pins. Nothing here needs PyTorch or numba.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from circuits.compile import collector_paused
from circuits.head.statistic import STATISTICS
from circuits.language.layout import SMALLEST_CUT, Layout
from circuits.net import RESIDUE_COST
from circuits.statement import certificate, start_transcript
from zkcert.core.container import ProofFile
from zkcert.core.merkle import verify_multiproof
from zkcert.errors import MalformedProof, ProofRejected, RangeOverflow, UnusableInput
from zkcert.public.config import ProbeConfig
from zkcert.public.model import Model
from zkcert.public.root import TREE_NAME, DatasetRoot, leaf_digests
from zkcert.public.statement import Statement, circuit_digest, require_fit

from .argument import read_argument, require_plausible, verify_circuit
from .doubts import differences, statement_doubts
from .soundness import SoundnessTable, soundness

REQUIRED_BITS = 100


@dataclass(frozen=True)
class Expectations:
    """What the verifier insists on; None leaves a point open (and the report says so)."""

    tau: Fraction
    root: bytes | DatasetRoot | None = None
    announcement: bytes | None = None
    beacon: bytes | None = None
    config: ProbeConfig | None = None


@dataclass(frozen=True)
class Report:
    """What an accepted proof shows."""

    statement: Statement
    soundness: SoundnessTable
    parameters: int
    proof_bytes: int
    warnings: tuple[str, ...] = ()

    @property
    def score(self) -> float | None:
        """The exact score if the proof reveals it."""
        return revealed_score(self.statement)


def revealed_score(statement: Statement) -> float | None:
    """The score a proof reveals: a root of the exact variance; None if the statement keeps it private."""
    return None if statement.variance is None else statement.config.of_steps.score(statement.variance)


def verify_proof(
    data: bytes,
    model: Model,
    expected: Expectations,
    *,
    smallest_cut: int = SMALLEST_CUT,
    residue_cost: int = RESIDUE_COST,
) -> Report:
    """Accept a proof or raise ProofRejected (a check failed) or MalformedProof (the bytes do not parse).

    Cheap checks first: what a file costs before one of them fails grows with its own length and the model's.
    smallest_cut, residue_cost: the constants are the specification's, others are for toy proofs.
    """
    with collector_paused():
        # the statement: what is claimed, and whether that is what was asked for
        proof, statement = parse_proof(data)
        check_statement(statement, model, expected)
        try:
            check_shape(proof, statement, model)
            check_samples(proof, statement)
            # the circuit: what it means that the statement is true
            layout = build_circuit(proof, statement, model, smallest_cut, residue_cost)
        except (UnusableInput, RangeOverflow) as error:
            raise ProofRejected("statement", str(error), cause=error) from error
        table = check_soundness(layout)
        # the argument: that the circuit has a witness
        read_argument(proof.argument, layout)  # its lengths, before anything is computed for it
        transcript = start_transcript(statement, proof.hashes, proof.multiproof, layout)
        verify_circuit(layout, transcript, proof.argument)
    return Report(statement, table, model.param_count, len(data), tuple(warnings(statement, expected)))


# ------------------------------------------------------------------------------------------------- stages


def parse_proof(data: bytes) -> tuple[ProofFile, Statement]:
    """The file's sections, and the statement that its header holds."""
    proof = ProofFile.parse(data)
    try:
        return proof, Statement.parse_header(proof.header)
    except UnusableInput as error:
        raise MalformedProof(str(error), "header", 0) from error


def check_statement(statement: Statement, model: Model, expected: Expectations) -> None:
    """Compare the proof's statement with the model and with what the verifier expects."""
    check_same("model", statement.circuit_digest, circuit_digest(model), "the proof is about another model")
    check_same("model", statement.weights_digest, model.weights_digest, "the proof is about another model")
    if statement.tau > expected.tau:
        kind = statement.config.of_steps
        text = f"the proof shows a {kind.text} of at most {float(statement.tau)}, not {float(expected.tau)}"
        raise ProofRejected("tau", text, proved=statement.tau, asked=expected.tau)
    data = statement.dataset if isinstance(expected.root, DatasetRoot) else statement.dataset.root
    check_same("data-root", data, expected.root, "the proof is about another dataset")
    if expected.config is None and not statement.config.of_steps.of_ratios:
        name = statement.config.statistic
        text = f"the proof is about the {name} of s_t, not about {STATISTICS[0]}; insist with --config statistic={name}"
        raise ProofRejected("config", text, proved=name, asked=STATISTICS[0])
    config = expected.config or statement.config
    text = f"the proof is about another configuration of the probe: {'; '.join(differences(statement.config, config))}"
    check_same("config", statement.config, config, text)
    announced = statement.announcement_digest
    check_same("announcement", announced, expected.announcement, "the proof is about another announcement")
    check_same("beacon", statement.beacon, expected.beacon, "the proof uses another beacon, or none")


def check_same(check: str, proved: object, asked: object, text: str) -> None:
    """What is proved is what is asked for, if anything is (not None)."""
    if asked is not None and proved != asked:
        raise ProofRejected(check, text, proved=proved, asked=asked)


def check_shape(proof: ProofFile, statement: Statement, model: Model) -> None:
    """The sections have the statement's sizes. UnusableInput where model, data and configuration do not fit."""
    count = statement.config.steps * statement.config.batch_size
    if len(proof.hashes) != count:
        raise MalformedProof(f"{len(proof.hashes)} sample hashes for {count} samples", "sample hashes", 0)
    require_fit(model, statement.dataset, statement.config)
    require_plausible(proof.argument, len(model.params))


def check_samples(proof: ProofFile, statement: Statement) -> None:
    """The sample hashes are leaves of the dataset's tree, at the indices that the seed draws."""
    indices = statement.indices()
    order = sorted(range(len(indices)), key=indices.__getitem__)
    rising = [indices[i] for i in order]
    leaves = leaf_digests(rising, proof.hashes[order])
    root = statement.dataset.root
    if not verify_multiproof(root, statement.dataset.n, rising, leaves, proof.multiproof, TREE_NAME):
        text = "the sample hashes do not belong to the dataset root"
        raise ProofRejected("dataset", text, root=root, indices=indices)


def build_circuit(proof: ProofFile, statement: Statement, model: Model, smallest_cut: int, residue_cost: int) -> Layout:
    """The circuit of the statement, and where its tensors lie in X."""
    cert = certificate(statement, model, proof.hashes, residue_cost)
    return cert.close(statement.tau, statement.variance, smallest_cut)


def check_soundness(layout: Layout) -> SoundnessTable:
    """An argument for the circuit costs a forger enough."""
    table = soundness(layout)
    if table.bits < REQUIRED_BITS:
        text = f"{table.bits:.1f} bits of work, {REQUIRED_BITS} required"
        raise ProofRejected("soundness", text, bits=table.bits, required=REQUIRED_BITS)
    return table


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
