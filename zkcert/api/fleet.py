"""Many proofs, one after the other in one process, from a table of jobs."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from zkcert.api.certificate import configuration, inspect
from zkcert.api.files import File
from zkcert.api.phases import Progress
from zkcert.api.proving import ProofResult, intended, prove
from zkcert.errors import ThresholdExceeded, UnusableInput, ZkcertError
from zkcert.public.config import ProbeConfig
from zkcert.public.reading import read_file
from zkcert.public.statement import Statement

REQUIRED = ("model", "data", "out")
OPTIONS = ("tau", "announcement", "beacon", "chain")
PROBE = ("steps", "batch_size", "rho", "lr", "eps", "variant")
COLUMNS = (*REQUIRED, *OPTIONS, "reveal_score", *PROBE)
MAX_BYTES, MAX_JOBS = 4 << 20, 10_000
PROVED, KEPT, ABOVE, FAILED = "proved", "kept", "above tau", "failed"


@dataclass(frozen=True)
class Job:
    """One row of a table: what `prove` is called with, and the row's line."""

    line: int
    model: Path
    data: Path
    out: Path
    options: dict[str, Any]
    given: dict[str, Any]


@dataclass(frozen=True)
class JobResult:
    """What became of a job: `proved`; `kept`, if its proof was there already; `above tau` or `failed`, and then why."""

    job: Job
    state: str
    why: str = ""
    proof: ProofResult | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON values; "private" is not in any proof."""
        out = {"line": self.job.line, "proof": str(self.job.out), "state": self.state}
        return {**out, "why": self.why} if self.proof is None else {**self.proof.to_dict(), **out}


def read_jobs(table: File) -> list[Job]:
    """The jobs of a CSV file, whose first line names its columns: model, data and out, and any others of COLUMNS.

    Files are found from the table's folder; an empty cell says nothing. Raises UnusableInput, naming the line.
    """
    path = Path(table)
    try:
        text = read_file(path, MAX_BYTES).decode("utf-8-sig")
        rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        names = [name.strip() for name in rows.fieldnames or ()]
        rows.fieldnames = names
        if unknown := [name for name in names if name not in COLUMNS]:
            raise UnusableInput(f"{path}: no column {unknown[0][:40]!r}; there may be {', '.join(COLUMNS)}")
        if missing := [name for name in REQUIRED if name not in names] or [n for n in names if names.count(n) > 1]:
            raise UnusableInput(f"{path}: its first line must name the column {missing[0]} once")
        jobs, outs = [], dict[Path, int]()
        for row in rows:
            job = _job(path, rows.line_num, row)
            if job.out in outs:
                raise UnusableInput(f"{path}, line {job.line}: line {outs[job.out]} writes {job.out}, too")
            outs[job.out] = job.line
            jobs.append(job)
            if len(jobs) > MAX_JOBS:
                raise UnusableInput(f"{path}: more than {MAX_JOBS} jobs: cut the table")
    except (UnicodeDecodeError, csv.Error) as error:
        raise UnusableInput(f"{path} is no table of jobs, CSV in UTF-8: {error}") from error
    if not jobs:
        raise UnusableInput(f"{path} holds no job")
    return jobs


def _job(path: Path, line: int, row: dict[str | None, Any]) -> Job:
    where = f"{path}, line {line}"
    if None in row or None in row.values():
        raise UnusableInput(f"{where}: it has not as many cells as the first line")
    cells = {name: value.strip() for name, value in row.items() if name is not None and value.strip()}
    if missing := [name for name in REQUIRED if name not in cells]:
        raise UnusableInput(f"{where}: {missing[0]} is empty")
    revealed = cells.pop("reveal_score", "no").lower()
    if revealed not in ("yes", "no"):
        raise UnusableInput(f"{where}: reveal_score is yes or no")
    for name in (*REQUIRED, "announcement"):
        if name in cells:
            cells[name] = os.fspath(path.parent / cells[name])
    for name in ("tau", "beacon", "chain"):  # a file there, or a number, digits or a name
        if name in cells and (path.parent / cells[name]).is_file():
            cells[name] = os.fspath(path.parent / cells[name])
    given: dict[str, Any] = {name: cells.pop(name) for name in PROBE if name in cells}
    for name in ("steps", "batch_size"):
        if name in given:
            if not (given[name].isascii() and given[name].isdigit() and len(given[name]) < 10):
                raise UnusableInput(f"{where}: {name} must be an integer")
            given[name] = int(given[name])
    model, data, out = (Path(cells.pop(name)) for name in REQUIRED)
    return Job(line, model, data, out, {**cells, "reveal_score": revealed == "yes"}, given)


def prove_many(
    jobs: File | Sequence[Job],
    *,
    device: str = "cpu",
    checkpoint: File | None = None,
    scratch: File | None = None,
    force: bool = False,
    progress: Progress | None = None,
    started: Callable[[Job], None] | None = None,
    done: Callable[[JobResult], None] | None = None,
) -> list[JobResult]:
    """Prove all jobs of a table (see `read_jobs`) one after the other; what is proved already is left alone.

    jobs        a CSV file, or what `read_jobs` gave.
    device      of the float64 reference, "cpu" or "cuda".
    checkpoint  a directory in which each unfinished job keeps its state.
    scratch     a directory for the file that holds the digits of one proof at a time, as `prove` takes it.
    force       replace whatever has a proof's name, and go on although memory seems to be too small.
    progress    called at the beginning and at the end of each phase, as by `prove`.
    started     called with each job before it begins, and `done` with what became of it.

    A job that fails does not end the others. Kernels are loaded and compiled once.
    Returns the JobResults in the order of the jobs: `state`, `why` and, if it was proved now, `proof`.
    Raises UnusableInput for the table.
    """
    table = read_jobs(jobs) if isinstance(jobs, str | os.PathLike) else list(jobs)
    results = []
    for job in table:
        if started:
            started(job)
        place = None if checkpoint is None else Path(checkpoint) / f"{job.out.name}-{job.line}"
        results.append(_result(job, force=force, device=device, checkpoint=place, scratch=scratch, progress=progress))
        if done:
            done(results[-1])
    return results


def _result(job: Job, *, force: bool, **options: Any) -> JobResult:
    try:
        config = configuration(job.given, job.options.get("tau"), job.options.get("announcement"))
        if not force and os.path.lexists(job.out):
            _require_same(job, config)
            return JobResult(job, KEPT)
        return JobResult(
            job, PROVED, "", prove(job.model, job.data, job.out, config=config, force=force, **job.options, **options)
        )
    except ThresholdExceeded as error:
        return JobResult(job, ABOVE, str(error))
    except (ZkcertError, OSError, MemoryError) as error:
        return JobResult(job, FAILED, str(error) or type(error).__name__)


def _require_same(job: Job, config: ProbeConfig | None) -> None:
    """UnusableInput if the file with the proof's name is no proof of the job's statement."""
    options = {name: job.options.get(name) for name in OPTIONS}
    wanted = intended(job.model, job.data, config=config, **options).statement
    found: Statement = inspect(job.out).statement
    if replace(found, variance=None) != wanted or (found.variance is not None) != job.options["reveal_score"]:
        raise UnusableInput(f"{job.out} is the proof of another statement: move it away, or give another name")
