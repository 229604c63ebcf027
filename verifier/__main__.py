"""The verifier's command: `python -m verifier proof.bin model.pt --tau 1.2`.

Needs numpy, blake3 and pycryptodome only. `zkcert verify` prints what is assembled here.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import re
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal, localcontext
from fractions import Fraction
from hashlib import sha256
from math import isqrt
from pathlib import Path
from typing import Any, NoReturn

from zkcert import __version__
from zkcert.core.container import MAX_PROOF_BYTES
from zkcert.errors import MalformedProof, ProofRejected, ThresholdExceeded, UnusableInput, ZkcertError
from zkcert.public.calibration import Calibration, read_threshold
from zkcert.public.config import ProbeConfig, read_config
from zkcert.public.kinds import ANNOUNCEMENT, MODEL, PROOF, ROOT, expecting
from zkcert.public.model import MAX_FILE_BYTES, Model
from zkcert.public.reading import read_file
from zkcert.public.root import DatasetRoot
from zkcert.public.statement import Statement, load_announcement, parse_beacon

from .verify import Expectations, Report, verify_proof

EXIT_CODES = "exit codes: 0 accepted, 1 rejected, 2 unusable input"
TAU_HELP = "accept only if the proven threshold is at most this; a calibration.json also fixes the configuration"
CONFIG_HELP = (
    "the configuration insisted on, such as steps=5,batch_size=8, or a JSON file of such keys; what is left out must "
    "have its default"
)
BEACON_ORDER = (
    "Everything but the beacon must be announced before the beacon exists: the beacon decides which samples are "
    "drawn, and a prover who knows it can try tiny changes of the model until good samples come up."
)

_DIGEST = re.compile(r"(0x)?[0-9a-fA-F]{64}")
_NO_BEACON = (
    "NO BEACON: the seed follows from the statement alone, so the prover could have tried any number of models, "
    "datasets or configurations until one drew good samples. Ask for an announcement, then give a beacon."
)
_BEACON_NOT_PINNED = (
    "BEACON NOT CHECKED: it is the prover's word that this beacon is the one you gave, and that it came after the "
    "announcement; compare it, or pass --beacon."
)
_NOT_ANNOUNCED = (
    "NOT COMPARED WITH AN ANNOUNCEMENT: the prover may have chosen model, dataset or configuration after seeing "
    "the beacon; pass --announcement with the one published before it."
)


# --------------------------------------------------------------------------------------------- statements


def decimal_text(value: Fraction) -> str:
    """The value in decimal if that is exact, otherwise as numerator/denominator."""
    with localcontext() as context:
        context.prec = 100
        quotient = Decimal(value.numerator) / value.denominator
    return f"{quotient:f}" if Fraction(quotient) == value else str(value)


def revealed_score(statement: Statement) -> float | None:
    """The score a proof reveals: the root of the exact variance; None if the statement keeps it private."""
    if statement.variance is None:
        return None
    return float(Fraction(isqrt(statement.variance << 64), statement.config.steps << 64))


def statement_dict(statement: Statement) -> dict[str, Any]:
    """The public statement as JSON values."""
    data = statement.dataset
    return {
        "circuit": statement.circuit_digest.hex(),
        "model": statement.weights_digest.hex(),
        "dataset": {"root": data.root.hex(), "N": data.n, "schema": data.schema.to_dict()},
        "config": statement.config.canonical(),
        "beacon": None if statement.beacon is None else statement.beacon.hex(),
        "seed": statement.seed.hex(),
        "announcement": statement.announcement_digest.hex(),
        "tau": decimal_text(statement.tau),
        "score": revealed_score(statement),
    }


def statement_lines(statement: Statement, parameters: int | None = None) -> list[str]:
    """The public statement for people, one point a line; `parameters` counts the model's, if it is at hand."""
    data, config = statement.dataset, statement.config
    shape = "x".join(map(str, data.schema.shape))
    model = statement.weights_digest.hex() + ("" if parameters is None else f" ({parameters:,} parameters)")
    source = "the statement alone: NO BEACON"
    if statement.beacon is not None:
        source = f"the beacon {statement.beacon.hex()}"
    score = revealed_score(statement)
    values = {
        "circuit": statement.circuit_digest.hex(),
        "model": model,
        "dataset": data.root.hex(),
        "": f"N = {data.n:,} samples, {data.schema.kind} {shape}, {data.schema.classes} classes",
        "configuration": f"T = {config.steps} batches of B = {config.batch_size}, "
        + ", ".join(f"{name} {decimal_text(getattr(config, name))}" for name in ("rho", "lr", "eps"))
        + f", {config.variant}, ddof {config.ddof}",
        "announcement": statement.announcement_digest.hex(),
        "seed": f"{statement.seed.hex()} from {source}",
        "claim": f"directional sharpness of the fixed-point probe <= tau = {decimal_text(statement.tau)}",
        "score": "private" if score is None else f"{score:.9f} (revealed)",
    }
    return [f"{name:<14}{value}" for name, value in values.items()]


# ---------------------------------------------------------------------------------------------- verifying


@dataclass(frozen=True)
class Verdict:
    """An accepted proof, what it was compared with, and the calibration that tau comes from, if it does.

    model_sha256, proof_sha256: of the files' bytes as they were read, in hexadecimal.
    """

    report: Report
    expected: Expectations
    seconds: float
    model_sha256: str
    proof_sha256: str
    calibration: Calibration | None = None

    @property
    def warnings(self) -> list[str]:
        """What nobody insisted on, and what is unusual about the proof; most important first."""
        out = []
        if self.report.statement.beacon is None:
            out.append(_NO_BEACON)
        elif self.expected.beacon is None:
            out.append(_BEACON_NOT_PINNED)
        if self.expected.announcement is None:
            out.append(_NOT_ANNOUNCED)
        return [*out, *self.report.warnings, *(self.calibration.doubts if self.calibration else ())]

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
        return [
            *statement_lines(report.statement, report.parameters),
            f"{'model file':<14}sha256 {self.model_sha256}",
            f"{'proof file':<14}sha256 {self.proof_sha256}",
            f"{'soundness':<14}a forger has to compute 2^{report.soundness.bits:.1f} hashes; a single attempt succeeds "
            f"with a chance of at most 2^-{report.soundness.attempt_bits:.2f}",
            *(f"WARNING: {text}" for text in self.warnings),
            f"ACCEPTED: the score is at most {decimal_text(report.statement.tau)} (asked: {asked}); "
            f"{report.proof_bytes:,} bytes, {self.seconds:.1f} s",
        ]


def read_proof(path: str | Path) -> bytes:
    """The bytes of a proof; UnusableInput if it cannot be read, or is far too large."""
    return read_file(path, MAX_PROOF_BYTES)


def read_model(path: str | Path) -> tuple[Model, bytes]:
    """The model of a file, and the bytes it was read from; UnusableInput also for one without weights."""
    with expecting(path, MODEL):
        data = read_file(path, MAX_FILE_BYTES)
        model = Model.parse(data, path)
    if not model.params:
        raise UnusableInput(f"{path}: the model has no weights")
    return model, data


def load_model(path: str | Path) -> Model:
    """The model of a file; UnusableInput also for one without weights."""
    return read_model(path)[0]


def load_root(path: str | Path) -> DatasetRoot:
    """The dataset root of a file."""
    with expecting(path, ROOT):
        return DatasetRoot.load(path)


def verify_files(
    proof: str | Path,
    model: str | Path,
    *,
    tau: object,
    data_root: str | Path | None = None,
    announcement: str | Path | None = None,
    beacon: str | None = None,
    config: ProbeConfig | str | Path | None = None,
) -> Verdict:
    """Accept a proof file, or raise ProofRejected or MalformedProof; UnusableInput for the verifier's own input.

    The proven threshold must be at most `tau`: a number, or a calibration.json, which then fixes the configuration of
    the probe as well (`config`, if given, must be the same). `data_root` is a data.root file or the 64 hexadecimal
    digits of a root, `announcement` an announce.json or its digest, `beacon` hexadecimal, `config` a ProbeConfig or
    what `read_config` takes; None leaves the point open, and the verdict's warnings say what that means.
    """
    root = None if data_root is None else _digest(data_root) or load_root(data_root)
    announced = None
    if announcement is not None:
        with expecting(announcement, ANNOUNCEMENT):
            announced = _digest(announcement) or load_announcement(announcement).announcement_digest
    wanted = config if config is None or isinstance(config, ProbeConfig) else read_config(config)
    threshold, wanted, calibration = read_threshold(tau, wanted)
    expected = Expectations(threshold, root, announced, parse_beacon(beacon), wanted)
    loaded, data = read_model(model)
    model_sha256, data = sha256(data).hexdigest(), read_proof(proof)
    start = time.perf_counter()
    with expecting(proof, PROOF):
        report = verify_proof(data, loaded, expected)
    seconds = time.perf_counter() - start
    return Verdict(report, expected, seconds, model_sha256, sha256(data).hexdigest(), calibration)


def _digest(value: str | Path) -> bytes | None:
    """The 32 bytes that 64 hexadecimal digits denote; None for anything else, which is a file's name."""
    text = str(value)
    return bytes.fromhex(text.removeprefix("0x")) if _DIGEST.fullmatch(text) else None


# ----------------------------------------------------------------------------------------------- command


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


class _Parser(argparse.ArgumentParser):
    """Reports usage errors like any other unusable input: one line, exit code 2."""

    def error(self, message: str) -> NoReturn:
        raise UnusableInput(f"{message} (see --help)")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="verify",
        description="Check a certificate of directional sharpness; needs neither PyTorch nor numba.",
        epilog=f"{BEACON_ORDER} {EXIT_CODES}.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"zkcert {__version__}")
    parser.add_argument("proof", help="proof.bin, from the prover")
    parser.add_argument("model", help="the model, model.pt or .safetensors")
    parser.add_argument("--tau", required=True, help=TAU_HELP)
    parser.add_argument("--data-root", metavar="FILE|HEX", help="data.root, or its root: the dataset insisted on")
    parser.add_argument("--announcement", metavar="FILE|HEX", help="announce.json, or the digest published")
    parser.add_argument("--beacon", metavar="HEX", help="the beacon given after the announcement")
    parser.add_argument("--config", metavar="FILE|K=V,...", help=CONFIG_HELP)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    as_json = False
    try:
        args = _parser().parse_args(argv)
        as_json = args.json
        verdict = verify_files(
            args.proof,
            args.model,
            tau=args.tau,
            data_root=args.data_root,
            announcement=args.announcement,
            beacon=args.beacon,
            config=args.config,
        )
    except (ZkcertError, OSError, MemoryError) as error:
        code, line = failure(error)
        return _print(json.dumps(failure_dict(error), indent=1) if as_json else "", code, line)
    except KeyboardInterrupt:
        print("interrupted; nothing was verified", file=sys.stderr)
        return 130
    except Exception as error:  # a defect: not to be taken for a rejection
        print(f"internal error, nothing was verified: {type(error).__name__}: {error}"[:500], file=sys.stderr)
        return 2
    return _print(json.dumps(verdict.to_dict(), indent=1) if as_json else "\n".join(verdict.lines()), 0)


def _print(text: str, code: int, line: str = "") -> int:
    """Print a verdict and, on stderr, its one line; the exit code, which is another if nobody can read the verdict."""
    try:
        if text:
            print(text)
        flush()
    except BrokenPipeError:
        return broken_pipe()
    except OSError as error:
        code, line = (code, line) if code else failure(error)
    if line:
        print(line, file=sys.stderr)
    return code


def flush() -> None:
    """What is printed is out, or OSError."""
    if sys.stdout is not None:
        sys.stdout.flush()


def broken_pipe() -> int:
    """The exit code where nobody reads any more: that of a process that a closed pipe ends. Nothing more is printed."""
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # one that is closed, or no file
            os.dup2(null, stream.fileno())
    os.close(null)
    return 128 + 13


if __name__ == "__main__":
    gc.disable()  # a process that ends when the proof is checked: looking for garbage only costs time
    code = main()
    gc.freeze()
    sys.exit(code)
