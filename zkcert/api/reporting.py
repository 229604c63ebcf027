"""A verification as one page of HTML: verified anew, and written down whatever comes out."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from zkcert.api.beacons import is_round
from zkcert.api.certificate import verify
from zkcert.api.evidence import Evidence
from zkcert.api.files import File
from zkcert.calibration import read_tau
from zkcert.errors import MalformedProof, ProofRejected, UnusableInput
from zkcert.files.writing import check_output, write_file
from zkcert.public.config import ProbeConfig
from zkcert.public.defaults import DEFAULT
from zkcert.public.kinds import REPORT
from zkcert.public.reading import opened
from zkcert.trust.drand import BUILT_IN
from zkcert.trust.times import MARGIN, now

if TYPE_CHECKING:
    from verifier.report import Verdict
    from zkcert.api.order import OrderedVerdict
    from zkcert.trust.report.page import Given

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Report:
    """A written page, and the verdict that it shows."""

    path: Path
    verdict: OrderedVerdict


def report(
    proof: File,
    model: File,
    out: File = "report.html",
    *,
    tau: object,
    data_root: File | None = None,
    announcement: File | None = None,
    beacon: File | None = None,
    chain: File | None = None,
    config: ProbeConfig | File | None = None,
    evidence: Evidence | None = None,
    attestation: File | None = None,
    attestation_key: File | None = None,
    force: bool = False,
) -> Report:
    """Verify a proof, and write what comes out as one self-contained page of HTML, for people.

    The page says what was proved, what was checked and what was not, names all files with their SHA-256 and the command
    that repeats it, and shows a revealed score among the models of a calibration. It loads nothing, and is signed by
    nobody.

    out    the page, report.html. force: replace another report of that name.

    proof, model, tau, data_root, announcement, beacon, chain, config, evidence, attestation, attestation_key as for
    `verify`.

    Returns the Report: `path` and `verdict`. Raises as `verify` does: for a rejected proof (ProofRejected,
    MalformedProof) *after* writing a page that says so, for unusable input (UnusableInput) without one.
    """
    from zkcert.trust.report.page import Circumstances, accepted, rejected

    asked = _Asked(
        proof, model, tau, data_root, announcement, beacon, chain, config, evidence or Evidence(), attestation,
        attestation_key,
    )  # fmt: skip
    before = asked.states()
    path = check_output(out, REPORT, inputs=list(before), force=force)
    calibration = read_tau(tau)[1]
    given = {name: value for name, value in vars(asked).items() if name not in ("proof", "model")}
    failed: ProofRejected | MalformedProof | None = None
    try:
        verdict = verify(proof, model, **given)
    except (ProofRejected, MalformedProof) as error:
        failed = error
    files, after = asked.digests(), asked.states()
    if changed := [name for name in before if before[name] != after[name]]:
        raise UnusableInput(f"{changed[0]}: was changed while it was read; try again when it is complete")
    if failed is not None:
        from verifier.report import failure_dict

        told = failure_dict(failed)
        why = told["reason"].removeprefix(f"{told['check']}: ")
        around = Circumstances(files, asked.command(), None, now())
        write_file(path, [rejected(told["check"], why, around).encode()], REPORT, force=force)
        raise failed
    around = Circumstances(files, asked.command(), asked.alone(verdict), now())
    text = accepted(verdict, verdict.steps, calibration, around)
    return Report(write_file(path, [text.encode()], REPORT, force=force), verdict)


@dataclass(frozen=True)
class _Asked:
    """The arguments of `verify`."""

    proof: File
    model: File
    tau: object
    data_root: File | None
    announcement: File | None
    beacon: File | None
    chain: File | None
    config: ProbeConfig | File | None
    evidence: Evidence
    attestation: File | None
    attestation_key: File | None

    def files(self) -> Iterator[tuple[str, File]]:
        """What each file is, and its name."""
        from verifier.files import DIGEST

        given, evidence = self, self.evidence
        yield "proof", given.proof
        yield "model", given.model
        if isinstance(given.tau, str | os.PathLike) and read_tau(given.tau)[1] is not None:
            yield "calibration", given.tau
        for role, value in (("dataset's root", given.data_root), ("announcement", given.announcement)):
            if value is not None and not DIGEST.fullmatch(os.fspath(value)):
                yield role, value
        if is_round(given.beacon) and given.beacon is not None:
            yield "round of the beacon", given.beacon
        if given.chain is not None and os.fspath(given.chain) not in _chains():
            yield "chain of the beacon", given.chain
        if isinstance(given.config, str | os.PathLike) and "=" not in os.fspath(given.config):
            yield "configuration", given.config
        for role, several in (
            ("receipt of a witness", evidence.receipts),
            ("key of a witness", evidence.witnesses),
            ("time stamp", evidence.stamps),
            ("endorsement of the dataset", evidence.endorsements),
            ("key of an authority", evidence.authorities),
        ):
            for each in several:
                yield role, each
        for role, value in (
            ("key of the provider", evidence.provider),
            ("roots of time stamps", evidence.roots),
            ("attestation", given.attestation),
            ("key of the attestation", given.attestation_key),
        ):
            if value is not None:
                yield role, value

    def states(self) -> dict[str, tuple[int, int, int] | None]:
        """What shows that a file is another one by now; None where there is none."""
        found: dict[str, tuple[int, int, int] | None] = {}
        for _, path in self.files():
            found[os.fspath(path)] = None
            with suppress(OSError, ValueError):
                state = os.stat(path)
                found[os.fspath(path)] = (state.st_ino, state.st_size, state.st_mtime_ns)
        return found

    def digests(self) -> list[Given]:
        """Of all files, as they are now."""
        from zkcert.trust.report.page import Given

        found = []
        for role, path in self.files():
            digest = sha256()
            with opened(path) as (file, size):
                while chunk := file.read(_CHUNK):
                    digest.update(chunk)
            found.append(Given(role, os.fspath(path), digest.hexdigest(), size))
        return found

    def options(self) -> Iterator[tuple[str, object]]:
        """As the command line has them, each once for each value."""
        evidence = self.evidence
        yield "--tau", self.tau
        yield "--data-root", self.data_root
        yield "--announcement", self.announcement
        yield "--beacon", self.beacon
        yield "--chain", self.chain
        yield "--config", self.config
        for name, several in (("--witness", evidence.witnesses), ("--receipt", evidence.receipts)):
            yield from ((name, each) for each in several)
        yield "--witness-quorum", evidence.quorum
        yield "--provider", evidence.provider
        yield "--announcements", evidence.announcements
        yield from (("--timestamp", each) for each in evidence.stamps)
        yield "--timestamp-roots", evidence.roots
        yield "--margin", None if evidence.margin == MARGIN else evidence.margin
        for name, several in (("--authority", evidence.authorities), ("--endorsement", evidence.endorsements)):
            yield from ((name, each) for each in several)
        yield "--authority-quorum", evidence.authority_quorum
        yield "--attestation", self.attestation
        yield "--attestation-key", self.attestation_key

    def command(self) -> str:
        """What a shell runs to verify the same again."""
        return _line("zkcert verify", self.proof, self.model, self.options())

    def alone(self, verdict: Verdict) -> str:
        """The same for `python -m verifier`, which takes numbers where `zkcert verify` also takes files."""
        expected, names = verdict.expected, ("--data-root", "--announcement")
        options: list[tuple[str, object]] = [
            ("--tau", expected.tau),
            *((name, value) for name, value in self.options() if name in names),
        ]
        options.append(("--beacon", None if expected.beacon is None else expected.beacon.hex()))
        options.append(("--config", expected.config))
        return _line("python -m verifier", self.proof, self.model, options)


def _chains() -> set[str]:
    return {name for chain in BUILT_IN.values() for name in (chain.name, chain.hash.hex())}


def _line(program: str, proof: File, model: File, options: Iterable[tuple[str, object]]) -> str:
    parts = [f"{program} {_quoted(proof)} {_quoted(model)}"]
    parts += [f"{name} {_quoted(value)}" for name, value in options if value is not None]
    return " \\\n    ".join(parts)


def _quoted(value: object) -> str:
    """For bash: with escapes where a name holds what cannot be seen."""
    if isinstance(value, ProbeConfig):
        usual = DEFAULT.canonical()
        pairs = [(name, entry) for name, entry in value.canonical().items() if entry != usual.get(name)]
        value = ",".join(f"{name}={entry}" for name, entry in pairs or [("steps", value.steps)])
    text = os.fspath(value) if isinstance(value, str | os.PathLike) else str(value)
    if text.isprintable():
        return shlex.quote(text)
    known = (chr(b) if 32 <= b < 127 and b not in b"'\\" else f"\\x{b:02x}" for b in os.fsencode(text))
    return f"$'{''.join(known)}'"
