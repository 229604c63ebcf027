"""Commit, announce and estimate; verify and inspect; list a circuit."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zkcert.api.attestation import check_attestation
from zkcert.api.beacons import future_round, is_round, read_beacon
from zkcert.api.evidence import Evidence, judge, judge_data
from zkcert.api.files import File, expecting_samples, load_model, load_root, open_dataset
from zkcert.api.notebook import counts_shown
from zkcert.calibration import read_tau, read_threshold
from zkcert.core.container import MAGIC
from zkcert.data.committed import commit as commit_dataset
from zkcert.data.committed import schema_of
from zkcert.data.dataset import Dataset, load_dataset
from zkcert.data.summary import Summary, TokenSummary, summary_of
from zkcert.errors import UnusableInput
from zkcert.files.drafts import remove_dead
from zkcert.files.saving import save_announcement, save_root
from zkcert.files.writing import check_output
from zkcert.public.config import ProbeConfig, read_config
from zkcert.public.defaults import DEFAULT
from zkcert.public.kinds import ANNOUNCEMENT, MODEL, PROOF, ROOT, SECRET, expecting, expecting_all, kind_of, read_head
from zkcert.public.model import Model
from zkcert.public.root import DatasetRoot, Schema
from zkcert.public.statement import MAX_TAU, Statement, load_announcement
from zkcert.trust.drand import Chain
from zkcert.trust.times import time_text

if TYPE_CHECKING:
    from prover.resources import Estimate
    from zkcert.api.order import OrderedVerdict


@dataclass(frozen=True)
class Look:
    """What a dataset holds: its name, n samples of a schema, a private summary, and what looks like a mistake."""

    source: str
    n: int
    schema: Schema
    summary: Summary | TokenSummary
    warnings: tuple[str, ...]

    @staticmethod
    def of(data: Dataset, classes: int | None = None) -> Look:
        """Raises UnusableInput if the classes do not fit."""
        schema, summary = schema_of(data, classes), summary_of(data.x, data.y, data.names)
        known = classes or (len(data.names) or data.vocabulary)
        warnings = (*data.warnings(classes), *summary.warnings(known))
        return Look(data.source, len(data), schema, summary, warnings)

    def lines(self) -> list[str]:
        """For people."""
        return [
            f"N       {self.n} {self.schema.samples_text()}, {self.schema.classes_text()}",
            *self.summary.lines(),
        ]

    def to_dict(self) -> dict[str, Any]:
        """JSON values, of which only the schema and N will be public."""
        return {
            "source": self.source,
            "N": self.n,
            "schema": self.schema.to_dict(),
            "private": self.summary.to_dict(),
            "warnings": list(self.warnings),
        }


def look(
    data: Any,
    *,
    classes: int | None = None,
    resize: tuple[int, int] | None = None,
    label: str | int | None = None,
    values: str | None = None,
    names: Sequence[str] | None = None,
    context: int | None = None,
    stride: int | None = None,
    vocabulary: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Look:
    """What `commit` would commit to, and write nothing. Arguments as for `commit`.

    data, classes, resize, label, values, names, context, stride, vocabulary, progress  as for `commit` (where progress
    is called reading).

    Returns the Look: `n`, `schema`, a private `summary`, `warnings`. Raises UnusableInput.
    """
    with expecting_samples(data):
        found = load_dataset(
            data,
            resize=resize,
            label=label,
            values=values,
            names=names,
            context=context,
            stride=stride,
            vocabulary=vocabulary,
            progress=progress,
        )
    return Look.of(found, classes)


@dataclass(frozen=True)
class Commitment:
    """A committed dataset: `root` is public, the file `secret` is what proofs are made from.

    summary   of the samples, if they were read; private. warnings: what looks like a mistake in them.
    """

    root: DatasetRoot
    secret: Path
    public: Path
    seconds: float
    summary: Summary | TokenSummary | None = None
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "root": self.root.root.hex(),
            "N": self.root.n,
            "schema": self.root.schema.to_dict(),
            "secret": str(self.secret),
            "public": str(self.public),
            "private": None if self.summary is None else self.summary.to_dict(),
            "warnings": list(self.warnings),
            "seconds": round(self.seconds, 3),
        }


def commit(
    data: Any,
    out: File = "data.zkd",
    *,
    classes: int | None = None,
    resize: tuple[int, int] | None = None,
    label: str | int | None = None,
    values: str | None = None,
    names: Sequence[str] | None = None,
    context: int | None = None,
    stride: int | None = None,
    vocabulary: str | None = None,
    keep_order: bool = False,
    force: bool = False,
    progress: Callable[[int, int], None] | None = None,
    warned: Callable[[str], None] | None = None,
    reading: Callable[[int, int], None] | None = None,
    seen: Callable[[Look], None] | None = None,
) -> Commitment:
    """Commit to a dataset: write the secret file `out` and, beside it, the public .root.

    data        an .npz with x (uint8 or float32; N, C, H, W) and y (N labels), or images and labels; a folder of PNG or
                JPEG pictures for each class; CSV, Parquet, Arrow; IDX files; CIFAR for Python; or arrays (x, y) and
                PyTorch datasets in memory; or tokens. See `zkcert.data.load_dataset`, which explains resize, label,
                values and names, too.
    out         ends in .zkd. Never replaced if it exists: nothing more could be proved about its root (`root` writes
                its .root again).
    classes     the number of classes; None: that of their names, or the largest label + 1.
    resize      (height, width) that pictures are scaled to; None: they must have one size.
    label       the column of a table that holds the labels.
    values      "bytes" or "float32": what the samples are taken as; None: whole numbers from 0 to 255 as bytes.
    names       the classes' names, in the order of the labels; they become public, in the .root; None: as the
                data have them; empty: none.
    context     L: the samples are windows of L + 1 tokens, of a .npy file of integers or a text.
    stride      from one window to the next; None: L.
    vocabulary  of a text: "characters", "bytes", or a JSON file that lists the characters; they become public names.
    keep_order  do not shuffle the samples: then an index in a proof tells a sample's place in `data`.
    force       replace a .root of that name.
    progress    called with (samples done, samples).
    warned      called, before the work, with each thing that looks like a mistake in the data.
    reading     called with (samples read, samples), where reading takes time; seen: before the work, with the Look.

    Returns the Commitment: root, paths, and a private summary of the data with warnings. Raises UnusableInput.
    """
    start = time.perf_counter()
    secret, public = Path(out), Path(out).with_suffix(".root")
    remove_dead(public)
    try:
        check_output(secret, SECRET, inputs=[data])
    except UnusableInput as error:
        if public.exists() or kind_of(secret) != SECRET:
            raise
        raise UnusableInput(
            f"{secret} exists and is never replaced, {public} is missing: zkcert root {secret} writes it again"
        ) from error
    check_output(public, ROOT, inputs=[data], force=force)
    progress = counts_shown("hashing samples", progress)
    looks: list[Look] = []

    def read(dataset: Dataset) -> None:
        looks.append(Look.of(dataset, classes))
        if seen:
            seen(looks[0])
        for text in looks[0].warnings if warned else ():
            warned(text)

    with expecting_samples(data):
        dataset = load_dataset(
            data,
            resize=resize,
            label=label,
            values=values,
            names=names,
            context=context,
            stride=stride,
            vocabulary=vocabulary,
            progress=reading,
        )
    found = commit_dataset(
        dataset, secret, classes=classes, keep_order=keep_order, force=force, progress=progress, seen=read
    )
    seconds = time.perf_counter() - start
    return Commitment(found, secret, public, seconds, looks[0].summary, looks[0].warnings)


def _is_root(path: Path, root: DatasetRoot) -> bool:
    try:
        return DatasetRoot.load(path) == root
    except UnusableInput:
        return False


def root(data: File, out: File | None = None, *, force: bool = False) -> Commitment:
    """Write the public .root file of the commitment `data` (data.zkd) again, by default beside it.

    Nothing is written if that is what `out` holds; the root of another commitment is replaced only with `force`.
    Returns the Commitment, without a summary. Raises UnusableInput.
    """
    start = time.perf_counter()
    public = Path(data).with_suffix(".root") if out is None else Path(out)
    check_output(public, ROOT, inputs=[data], force=True)
    found = open_dataset(data).root
    if not _is_root(public, found):
        save_root(found, public, force=force)
    return Commitment(found, Path(data), public, time.perf_counter() - start)


@dataclass(frozen=True)
class Announcement:
    """What is fixed before the beacon exists; publish `digest`. `warnings`: why it may say little, of the
    configuration, the number of samples, and the calibration tau comes from. `chain`: of the drand round that it names
    in `statement.drand`, if it names one."""

    statement: Statement
    path: Path
    warnings: tuple[str, ...] = ()
    chain: Chain | None = None

    @property
    def digest(self) -> bytes:
        """32 bytes."""
        return self.statement.announcement_digest

    @property
    def due(self) -> int | None:
        """When the round that it names is due, in seconds since 1970."""
        named = self.statement.drand
        return None if named is None or self.chain is None else self.chain.time(named.number)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "due": None if self.due is None else time_text(self.due),
            "announcement": str(self.path),
            "digest": self.digest.hex(),
            "statement": self.statement.announcement(),
            "warnings": list(self.warnings),
        }


def _announces(path: File, statement: Statement) -> bool:
    try:
        return load_announcement(os.fspath(path)).announcement_digest == statement.announcement_digest
    except UnusableInput:
        return False


def announce(
    model: File,
    data_root: File,
    out: File = "announce.json",
    *,
    tau: object,
    config: ProbeConfig | None = None,
    beacon: str | None = None,
    beacon_at: str | None = None,
    chain: File | None = None,
    force: bool = False,
) -> Announcement:
    """Fix circuit, weights, dataset, configuration and threshold, so that a beacon can be drawn afterwards.

    The beacon decides which samples are drawn. Whoever knows it before the model is fixed can try tiny changes of
    the model until good samples come up; therefore announce first.

    model      a model file, .pt or .safetensors.
    data_root  the data.root of `commit`.
    out        the announcement, JSON.
    tau        the largest score that will be proved: a number or text such as "1.2", or a calibration.json, whose
               configuration is then announced (`config`, if given, must be the same).
    config     of the probe; None: the default ProbeConfig.
    beacon     the future round of a drand chain that will be the beacon, as "drand:quicknet@ROUND"; None: whoever
               verifies gives a beacon.
    beacon_at  or a time: the first round from then on, of quicknet unless `beacon` is "drand:CHAIN". A text such as
               "2026-12-01T18:00Z" or "+2h".
    chain      the info.json of a chain that is not built in.
    force      replace another announcement of that name, whose digest may have been published.

    Returns the Announcement, with the 32-byte `digest` to publish and warnings. Raises UnusableInput (UnsupportedLayer
    is one), also for statements that have no circuit.
    """
    from circuits.statement import certificate
    from verifier.doubts import statement_doubts

    check_output(out, ANNOUNCEMENT, inputs=(model, data_root, tau, chain), force=True)
    threshold, config, calibration = read_threshold(tau, config)
    loaded, root = load_model(model), load_root(data_root)
    named = future_round(beacon, beacon_at, chain)
    statement = Statement.of(loaded, root, config or DEFAULT, threshold)
    if named:
        statement = replace(statement, drand=named[1])
    force = force or _announces(out, statement)
    check_output(out, ANNOUNCEMENT, force=force)
    count = statement.config.steps * statement.config.batch_size
    certificate(statement, loaded, np.zeros((count, 160), np.uint64)).close(statement.tau)
    save_announcement(statement, os.fspath(out), force=force)
    warnings = statement_doubts(statement.config, root.n, chosen=True)
    doubts = (*warnings, *(calibration.doubts if calibration else ()))
    return Announcement(statement, Path(out), doubts, named[0] if named else None)


def announced(path: File) -> Statement:
    """The statement that an announce.json fixes, without a beacon."""
    with expecting(path, ANNOUNCEMENT):
        return load_announcement(os.fspath(path))


def configuration(
    given: Mapping[str, Any], tau: str | None = None, announcement: File | None = None
) -> ProbeConfig | None:
    """What is `given` of a configuration, in the one that holds without it: of a calibration, an announcement, or the
    default. None if nothing is given."""
    if not given:
        return None
    calibration = None if tau is None else read_tau(tau)[1]
    if calibration is not None:
        return replace(calibration.config(), **given)
    return replace(DEFAULT if announcement is None else announced(announcement).config, **given)


def _bytes_root(model: Model, config: ProbeConfig) -> DatasetRoot:
    """Of some 50,000 samples of bytes."""
    channels, height, width = model.input["shape"]
    schema = Schema(model.classes, "tokens" if "tokens" in model.input else "u8", (channels, height, width))
    return DatasetRoot(bytes(32), max(50_000, config.steps * config.batch_size), schema)


def estimate(
    model: File, *, config: ProbeConfig | None = None, data_root: File | None = None, rates: File | None = None
) -> Estimate:
    """What a proof will take: exact sizes, and time and memory on this machine. Needs no data and computes no proof.

    model      a model file.
    config     of the probe; None: the default ProbeConfig.
    data_root  data.root, for the number and kind of samples; None: 50,000 samples of bytes.
    rates      measured costs, of `python -m benchmarks.scaling`; None: the machine's own, or those shipped.

    Returns the Estimate: `seconds`, `peak_bytes`, with `prove(scratch=...)` `scratch_peak_bytes` and on the disk
    `scratch_file_bytes`, `phases` (name -> seconds) and `sizes` (among them proof_bytes).
    Raises UnusableInput.
    """
    from prover.resources import Rates
    from prover.resources import estimate as predict

    loaded, config = load_model(model), config or DEFAULT
    root = _bytes_root(loaded, config) if data_root is None else load_root(data_root)
    statement = Statement.of(loaded, root, config, Fraction(MAX_TAU))
    return predict(statement, loaded, None if rates is None else Rates.load(Path(rates)))


@dataclass(frozen=True)
class CircuitListing:
    """A circuit as text: its lines, and BLAKE3 of them with a newline after each, to which proofs are bound."""

    lines: tuple[str, ...]
    digest: bytes

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {"digest": self.digest.hex(), "lines": list(self.lines)}


def circuit(model: File, *, config: ProbeConfig | None = None, announcement: File | None = None) -> CircuitListing:
    """The circuit that is proved about a model, in the form of docs/spec/circuit-language.md. Needs no data.

    model         a model file.
    config        of the probe; None: that of the announcement, if one is given, else the default ProbeConfig.
    announcement  an announce.json, for kind and number of the samples and tau; None: bytes, and the largest tau.

    A proof that reveals its score has one line more, which makes a tensor public. Raises UnusableInput.
    """
    from circuits.listing import lines, listing_digest
    from circuits.statement import certificate

    loaded = load_model(model)
    if announcement is None:
        statement = Statement.of(loaded, _bytes_root(loaded, config or DEFAULT), config or DEFAULT, Fraction(MAX_TAU))
    else:
        known = announced(announcement)
        statement = Statement.of(loaded, known.dataset, config or known.config, known.tau)
    count = statement.config.steps * statement.config.batch_size
    layout = certificate(statement, loaded, np.zeros((count, 160), np.uint64)).close(statement.tau)
    return CircuitListing(tuple(lines(layout)), listing_digest(layout))


def verify(
    proof: File,
    model: File,
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
) -> OrderedVerdict:
    """Check a proof file: return what it proves, or raise. Imports neither PyTorch nor numba.

    proof         the proof.bin of `prove`.
    model         the model file that the proof is to be about, .pt or .safetensors.
    tau           the largest score you accept: a number or text such as "1.2", or a calibration.json, which then fixes
                  the configuration of the probe as well.
    data_root     the dataset you insist on: a data.root, or the 64 hexadecimal digits of its root.
    announcement  what was announced before the beacon: an announce.json, or its digest in hexadecimal.
    beacon        the beacon you gave after the announcement, in hexadecimal; or the JSON file of a drand round, whose
                  signature is checked, and which must be the one the announcement names, if it names one.
    chain         the name or the info.json of the round's chain; None: the chain the announcement names, if built in.
    config        the probe you insist on: a ProbeConfig, text such as "steps=5,batch_size=8", or a JSON file of such
                  keys; what is left out has its default.

    evidence      that the announcement is older than the round it names (receipts of witnesses, time stamps), and that
                  authorities vouch for the data; and whom you believe; see `zkcert.api.Evidence`.

    attestation   what somebody signed of these two files (`attest`), and `attestation_key`, the public key in PEM.

    What is None is left open: it is the prover's choice, and a warning says so.

    Returns the verdict on an accepted proof: `report.statement` (what was proved), `report.score` (None unless the
    prover revealed it), `steps` (the order in time: what was checked, claimed, missing), `warnings`, `seconds`;
    `lines()` for people, `to_dict()` for JSON. Raises ProofRejected, whose `check` names what failed, or MalformedProof
    if the bytes do not parse; UnusableInput if one of your own files or values cannot be used. An exception of any
    other kind is a defect, and nothing was verified.
    """
    from verifier.files import verify_files
    from zkcert.api.order import OrderedVerdict, steps_of

    pins = [None if pin is None else os.fspath(pin) for pin in (data_root, announcement)]
    given = config if config is None or isinstance(config, ProbeConfig) else read_config(config)
    threshold, wanted, calibration = read_threshold(tau, given)
    evidence = Evidence() if evidence is None else evidence
    evidence.check_options()
    if (attestation is None) != (attestation_key is None):
        raise UnusableInput("--attestation and --attestation-key go together: whose word it is, you must say")
    read = inspect(proof).statement if is_round(beacon) or evidence else None
    known = read_beacon(beacon, None if read is None else read.drand, chain, used=evidence.of_order)
    found = None if read is None else judge(evidence, read, chain)
    vouched = None if read is None else judge_data(evidence, read)
    try:
        with expecting_all(proof, (pins[0], ROOT), (pins[1], ANNOUNCEMENT), (model, MODEL)):
            verdict = verify_files(
                os.fspath(proof),
                os.fspath(model),
                tau=threshold,
                data_root=pins[0],
                announcement=pins[1],
                beacon=None if known is None else known.value.hex(),
                config=wanted,
                doubts=calibration.doubts if calibration else (),
            )
    except UnusableInput:
        if kind_of(proof) == PROOF and not read_head(proof, len(MAGIC)).startswith(MAGIC):
            inspect(proof)  # of an earlier format, as its model and announcement may be: says which zkcert reads them
        raise
    if read is not None and verdict.report.statement != read:
        raise UnusableInput(f"{os.fspath(proof)}: was changed while it was read; try again when it is complete")
    values = {field.name: getattr(verdict, field.name) for field in fields(verdict)}
    steps = steps_of(verdict.report.statement, announcement is not None, known, found, vouched)
    result = OrderedVerdict(**values, steps=tuple(steps))
    if attestation is not None and attestation_key is not None:
        result = replace(result, steps=(*result.steps, check_attestation(attestation, attestation_key, result)))
    return result


@dataclass(frozen=True)
class Inspection:
    """What a proof says about itself; nothing of it has been checked. `sections`: name -> bytes."""

    statement: Statement
    sections: dict[str, int]
    size: int

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        from verifier.report import statement_dict

        return {**statement_dict(self.statement), "bytes": self.size, "sections": self.sections}


def inspect(proof: File) -> Inspection:
    """What a proof file says of itself, without the model, and without checking anything.

    Returns the Inspection: `statement`, `sections` (name -> bytes) and `size` in bytes. Raises UnusableInput if there
    is no such file, MalformedProof if it is no proof.
    """
    from verifier.files import read_proof
    from verifier.verify import parse_proof

    data = read_proof(os.fspath(proof))
    with expecting(proof, PROOF):
        parts, statement = parse_proof(data)
    sections = {
        "header": len(parts.header),
        "sample hashes": parts.hashes.nbytes,
        "dataset multiproof": len(parts.multiproof),
        "argument": len(parts.argument),
    }
    return Inspection(statement, sections, len(data))
