"""Commit, announce and estimate; verify and inspect."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zkcert.api.files import File, expecting_samples, load_model, load_root, open_dataset
from zkcert.calibration import read_threshold
from zkcert.config import ProbeConfig
from zkcert.core.container import ProofFile
from zkcert.data import DatasetRoot, Schema
from zkcert.data import commit as commit_dataset
from zkcert.drafts import remove_dead
from zkcert.errors import MalformedProof, UnusableInput
from zkcert.files import ANNOUNCEMENT, PROOF, ROOT, SECRET, check_output, expecting, kind_of
from zkcert.statement import MAX_TAU, Statement, load_announcement, save_announcement

if TYPE_CHECKING:
    from prover.resources import Estimate
    from verifier.__main__ import Verdict


@dataclass(frozen=True)
class Commitment:
    """A committed dataset: `root` is public, the file `secret` is what proofs are made from."""

    root: DatasetRoot
    secret: Path
    public: Path
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "root": self.root.root.hex(),
            "N": self.root.n,
            "schema": self.root.schema.to_dict(),
            "secret": str(self.secret),
            "public": str(self.public),
            "seconds": round(self.seconds, 3),
        }


def commit(
    data: File | Sequence[File],
    out: File = "data.zkd",
    *,
    classes: int | None = None,
    keep_order: bool = False,
    force: bool = False,
    progress: Callable[[int, int], None] | None = None,
    warned: Callable[[str], None] | None = None,
) -> Commitment:
    """Commit to a dataset (see `zkcert.data.load_dataset`): the secret `out` and, beside it, the public .root.

    The samples are shuffled, so that their indices in proofs say nothing; keep_order leaves them as they are. An
    existing secret file is never replaced, as nothing more could be proved about its root (`root` writes its .root
    again); a .root without one is with `force`. progress is called with (samples done, samples), warned, before the
    work, with what looks like a mistake.
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
    source = os.fspath(data) if isinstance(data, str | os.PathLike) else data
    with expecting_samples(data):
        found = commit_dataset(
            source, secret, classes=classes, keep_order=keep_order, force=force, progress=progress, warned=warned
        )
    return Commitment(found, secret, public, time.perf_counter() - start)


def _is_root(path: Path, root: DatasetRoot) -> bool:
    try:
        return DatasetRoot.load(path) == root
    except UnusableInput:
        return False


def root(data: File, out: File | None = None, *, force: bool = False) -> Commitment:
    """Write the public .root file of the commitment `data` (data.zkd) again, by default beside it.

    Nothing is written if that is what `out` holds; the root of another commitment is replaced only with `force`.
    """
    start = time.perf_counter()
    public = Path(data).with_suffix(".root") if out is None else Path(out)
    check_output(public, ROOT, inputs=[data], force=True)
    found = open_dataset(data).root
    if not _is_root(public, found):
        found.save(public, force=force)
    return Commitment(found, Path(data), public, time.perf_counter() - start)


@dataclass(frozen=True)
class Announcement:
    """What is fixed before the beacon exists; publish `digest`. `warnings`: those of the calibration tau comes from."""

    statement: Statement
    path: Path
    warnings: tuple[str, ...] = ()

    @property
    def digest(self) -> bytes:
        """32 bytes."""
        return self.statement.announcement_digest


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
    force: bool = False,
) -> Announcement:
    """Fix circuit, weights, dataset, configuration and threshold, so that a beacon can be drawn afterwards.

    The beacon decides which samples are drawn. Whoever knows it before the model is fixed can try tiny changes of
    the model until good samples come up; therefore announce first. tau is a number, or a calibration.json, whose
    configuration is then announced (`config`, if given, must be the same). Statements without a circuit are refused
    here. Another file of that name is replaced only with `force`: its digest may have been published.
    """
    from circuits.statement import certificate

    check_output(out, ANNOUNCEMENT, inputs=(model, data_root, tau), force=True)
    threshold, config, calibration = read_threshold(tau, config)
    loaded, root = load_model(model), load_root(data_root)
    statement = Statement.of(loaded, root, config or ProbeConfig(), threshold)
    force = force or _announces(out, statement)
    check_output(out, ANNOUNCEMENT, force=force)
    count = statement.config.steps * statement.config.batch_size
    certificate(statement, loaded, np.zeros((count, 160), np.uint64)).close(statement.tau)
    save_announcement(statement, os.fspath(out), force=force)
    return Announcement(statement, Path(out), tuple(calibration.doubts) if calibration else ())


def announced(path: File) -> Statement:
    """The statement that an announce.json fixes, without a beacon."""
    with expecting(path, ANNOUNCEMENT):
        return load_announcement(os.fspath(path))


def estimate(
    model: File, *, config: ProbeConfig | None = None, data_root: File | None = None, rates: File | None = None
) -> Estimate:
    """What a proof will take: exact sizes, and time and memory on this machine. Needs no data and computes no proof.

    data_root  data.root, for the number and kind of samples; None: 50,000 samples of bytes.
    rates      measured costs, of `python -m benchmarks.scaling`; None: the machine's own, or those shipped.
    """
    from prover.resources import Rates
    from prover.resources import estimate as predict

    loaded, config = load_model(model), config or ProbeConfig()
    if data_root is None:
        channels, height, width = loaded.input["shape"]
        schema = Schema(loaded.classes, "u8", (channels, height, width))
        root = DatasetRoot(bytes(32), max(50_000, config.steps * config.batch_size), schema)
    else:
        root = load_root(data_root)
    statement = Statement.of(loaded, root, config, Fraction(MAX_TAU))
    return predict(statement, loaded, None if rates is None else Rates.load(Path(rates)))


def verify(
    proof: File,
    model: File,
    *,
    tau: object,
    data_root: File | None = None,
    announcement: File | None = None,
    beacon: str | None = None,
    config: ProbeConfig | None = None,
) -> Verdict:
    """Accept a proof file or raise; see `verifier.__main__.verify_files`. Imports neither PyTorch nor numba."""
    from verifier.__main__ import verify_files

    pins = [None if pin is None else os.fspath(pin) for pin in (data_root, announcement)]
    return verify_files(
        os.fspath(proof),
        os.fspath(model),
        tau=tau,
        data_root=pins[0],
        announcement=pins[1],
        beacon=beacon,
        config=config,
    )


@dataclass(frozen=True)
class Inspection:
    """What a proof says about itself; nothing of it has been checked. `sections`: name -> bytes."""

    statement: Statement
    sections: dict[str, int]
    size: int

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        from verifier.__main__ import statement_dict

        return {**statement_dict(self.statement), "bytes": self.size, "sections": self.sections}


def inspect(proof: File) -> Inspection:
    """The statement and the sizes of the sections of a proof file, without the model and without checking it."""
    from verifier.__main__ import read_proof

    data = read_proof(os.fspath(proof))
    with expecting(proof, PROOF):
        parts = ProofFile.parse(data)
    sections = {
        "header": len(parts.header),
        "sample hashes": parts.hashes.nbytes,
        "dataset multiproof": len(parts.multiproof),
        "argument": len(parts.argument),
    }
    try:
        statement = Statement.parse_header(parts.header)
    except UnusableInput as error:
        raise MalformedProof(str(error)) from error
    return Inspection(statement, sections, len(data))
