"""What is printed of a statement, of an accepted proof and of an error: as lines for people and as JSON values."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any

from zkcert.errors import MalformedProof, ProofRejected, ThresholdExceeded
from zkcert.public.root import DatasetRoot
from zkcert.public.statement import Statement

from .verify import Expectations, Report, revealed_score

NO_BEACON = (
    "NO BEACON: the seed follows from the statement alone, so the prover could have tried any number of models, "
    "datasets or configurations until one drew good samples. Ask for an announcement, then give a beacon."
)
BEACON_NOT_PINNED = (
    "BEACON NOT CHECKED: it is the prover's word that this beacon is the one you gave, and that it came after the "
    "announcement; compare it, or pass --beacon."
)
NOT_ANNOUNCED = (
    "NOT COMPARED WITH AN ANNOUNCEMENT: the prover may have chosen model, dataset or configuration after seeing "
    "the beacon; pass --announcement with the one published before it."
)


def decimal_text(value: Fraction) -> str:
    """The value in decimal if that is exact, otherwise as numerator/denominator."""
    with localcontext() as context:
        context.prec = 100
        quotient = Decimal(value.numerator) / value.denominator
    return f"{quotient:f}" if Fraction(quotient) == value else str(value)


def statement_dict(statement: Statement) -> dict[str, Any]:
    """The public statement as JSON values."""
    data = statement.dataset
    return {
        "circuit": statement.circuit_digest.hex(),
        "model": statement.weights_digest.hex(),
        "dataset": {"root": data.root.hex(), "N": data.n, "schema": data.schema.to_dict()},
        "config": statement.config.canonical(),
        "beacon": None if statement.beacon is None else statement.beacon.hex(),
        "drand": None if statement.drand is None else statement.drand.to_dict(),
        "seed": statement.seed.hex(),
        "announcement": statement.announcement_digest.hex(),
        "tau": decimal_text(statement.tau),
        "score": revealed_score(statement),
    }


def statement_lines(statement: Statement, parameters: int | None = None) -> list[str]:
    """The public statement for people, one point a line; `parameters` counts the model's, if it is at hand."""
    data, config, kind = statement.dataset, statement.config, statement.config.of_steps
    variant = config.variant + ("" if config.eta is None else f" with eta {decimal_text(config.eta)}")
    claim = "directional sharpness" if kind.text == "score" else kind.text
    model = statement.weights_digest.hex() + ("" if parameters is None else f" ({parameters:,} parameters)")
    source = "the statement alone: NO BEACON"
    if statement.beacon is not None:
        source = f"the beacon {statement.beacon.hex()}"
    score = revealed_score(statement)
    drand = statement.drand
    named = {} if drand is None else {"round": f"{drand.number} of the drand chain {drand.chain.hex()}, as announced"}
    values = {
        "circuit": statement.circuit_digest.hex(),
        "model": model,
        "dataset": data.root.hex(),
        "": f"N = {data.n:,} {data.schema.samples_text()}, {data.schema.classes_text()}",
        "configuration": f"T = {config.steps} batches of B = {config.batch_size}, "
        + ", ".join(f"{name} {decimal_text(getattr(config, name))}" for name in ("rho", "lr", "eps"))
        + f", {variant}, {'' if kind.of_ratios else f'{kind.name}, '}ddof {config.ddof}",
        "announcement": statement.announcement_digest.hex(),
        **named,
        "seed": f"{statement.seed.hex()} from {source}",
        "claim": f"{claim} of the fixed-point probe <= tau = {decimal_text(statement.tau)}",
        "score": "private" if score is None else f"{score:.9f} (revealed)",
    }
    return [f"{name:<14}{value}" for name, value in values.items()]


@dataclass(frozen=True)
class Verdict:
    """An accepted proof, what it was compared with, and warnings about tau of whoever chose it.

    model_sha256, proof_sha256: of the files' bytes as they were read, in hexadecimal.
    """

    report: Report
    expected: Expectations
    seconds: float
    model_sha256: str
    proof_sha256: str
    doubts: tuple[str, ...] = ()

    @property
    def warnings(self) -> list[str]:
        """What nobody insisted on, and what is unusual about the proof; most important first."""
        out = []
        if self.report.statement.beacon is None:
            out.append(NO_BEACON)
        elif self.expected.beacon is None:
            out.append(BEACON_NOT_PINNED)
        if self.expected.announcement is None:
            out.append(NOT_ANNOUNCED)
        return [*out, *self.report.warnings, *self.doubts]

    def to_dict(self) -> dict[str, Any]:
        """The verdict as JSON values."""
        report, expected = self.report, self.expected
        root = expected.root.root if isinstance(expected.root, DatasetRoot) else expected.root
        return {
            "accepted": True,
            **statement_dict(report.statement),
            "parameters": report.parameters,
            "proof_bytes": report.proof_bytes,
            "sha256": {"model": self.model_sha256, "proof": self.proof_sha256},
            "soundness_bits": round(report.soundness.bits, 2),
            "attempt_bits": round(report.soundness.attempt_bits, 2),
            "soundness_terms": {
                term.name: {"attempt": round(term.error, 1), "work": round(term.work, 1)}
                for term in report.soundness.terms
            },
            "checked": {
                "tau": decimal_text(expected.tau),
                "config": None if expected.config is None else expected.config.canonical(),
                "data_root": None if root is None else root.hex(),
                "announcement": None if expected.announcement is None else expected.announcement.hex(),
                "beacon": None if expected.beacon is None else expected.beacon.hex(),
            },
            "warnings": self.warnings,
            "seconds": round(self.seconds, 3),
        }

    def lines(self) -> list[str]:
        """The verdict for people: the statement, warnings, and ACCEPTED with what that means."""
        report, asked = self.report, decimal_text(self.expected.tau)
        kind = report.statement.config.of_steps
        return [
            *statement_lines(report.statement, report.parameters),
            f"{'model file':<14}sha256 {self.model_sha256}",
            f"{'proof file':<14}sha256 {self.proof_sha256}",
            f"{'soundness':<14}a forger has to compute 2^{report.soundness.bits:.1f} hashes; a single attempt succeeds "
            f"with a chance of at most 2^-{report.soundness.attempt_bits:.2f}",
            *(f"WARNING: {text}" for text in self.warnings),
            f"ACCEPTED: the {kind.text} is at most {decimal_text(report.statement.tau)} (asked: {asked}); "
            f"{report.proof_bytes:,} bytes, {self.seconds:.1f} s",
        ]


def failure(error: Exception) -> tuple[int, str]:
    """Exit code and the one line on stderr for an error."""
    code, text = 2, f"error: {error}"
    match error:
        case ProofRejected():
            code, text = 1, f"REJECTED {error}"
        case MalformedProof():
            code, text = 1, f"REJECTED format: {error}"
        case ThresholdExceeded():
            code = 1
        case MemoryError():
            text = "error: out of memory"
        case OSError():
            text = f"error: {error.filename or 'input/output'}: {error.strerror or error}"
    line = " ".join(text.split())
    return code, "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)


def failure_dict(error: Exception) -> dict[str, Any]:
    """The JSON values of a verdict other than acceptance; `check` is null for unusable input."""
    check = None
    if isinstance(error, ProofRejected):
        check = error.check
    elif isinstance(error, MalformedProof):
        check = "format"
    return {"accepted": False, "check": check, "reason": failure(error)[1].partition(" ")[2]}
