"""Many proofs from a table of jobs: one after the other in one process, or each on a worker of a cluster."""

from __future__ import annotations

import csv
import io
import os
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zkcert.api.certificate import configuration, inspect
from zkcert.api.files import File
from zkcert.api.phases import Phases, PhaseTime, Progress
from zkcert.api.proving import Order, ProofResult, intended, made, ordered, prove
from zkcert.api.workers import check_cluster, gathered
from zkcert.data.committed import DrawnSamples, Samples
from zkcert.errors import ThresholdExceeded, UnusableInput, ZkcertError
from zkcert.public.config import ProbeConfig
from zkcert.public.model import Model
from zkcert.public.reading import read_file
from zkcert.public.statement import Statement

if TYPE_CHECKING:
    from prover.cluster.driver import Cluster, Promise
    from prover.prove import Proved

REQUIRED = ("model", "data", "out")
OPTIONS = ("tau", "announcement", "beacon", "chain")
PROBE = ("steps", "batch_size", "rho", "lr", "eps", "variant", "eta", "statistic", "ddof")
COLUMNS = (*REQUIRED, *OPTIONS, "reveal_score", *PROBE)
MAX_BYTES, MAX_JOBS = 4 << 20, 10_000
PROVED, KEPT, ABOVE, FAILED = "proved", "kept", "above tau", "failed"
FAILURES = (ZkcertError, OSError, MemoryError)
"""What ends a job, but not the others."""


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
    for name in ("steps", "batch_size", "ddof"):
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
    cluster: str | Cluster | None = None,
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
    cluster     "local:W" or "ray://HOST:PORT", as `prove` takes it; but each proof is made by one worker, in its
                memory: without checkpoint and scratch file, and without calls of `progress` but for loading.
    force       replace whatever has a proof's name, and go on although memory seems to be too small.
    progress    called at the beginning and at the end of each phase, as by `prove`.
    started     called with each job before it begins, and `done` with what became of it.

    A job that fails does not end the others. Kernels are loaded and compiled once.
    Returns the JobResults in the order of the jobs: `state`, `why` and, if it was proved now, `proof`.
    Raises UnusableInput for the table, and WorkerFailed if a worker of the cluster is lost: the same call goes on.
    """
    table = read_jobs(jobs) if isinstance(jobs, str | os.PathLike) else list(jobs)
    if cluster is not None:
        if checkpoint is not None or scratch is not None:
            raise UnusableInput(
                "with jobs and a cluster each proof is made in a worker's memory: leave out checkpoint and scratch"
            )
        check_cluster(cluster)
        with gathered(cluster, Phases(progress)) as team:
            assert team is not None
            shared = _Shared(team, device=device, force=force, phases=Phases(progress), done=done)
            return shared.run(table, started)
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
        config = _config(job)
        if _is_there(job, config, force):
            return JobResult(job, KEPT)
        return JobResult(
            job, PROVED, "", prove(job.model, job.data, job.out, config=config, force=force, **job.options, **options)
        )
    except FAILURES as error:
        return JobResult(job, *_state(error))


def _config(job: Job) -> ProbeConfig | None:
    return configuration(job.given, job.options.get("tau"), job.options.get("announcement"))


def _is_there(job: Job, config: ProbeConfig | None, force: bool) -> bool:
    """Whether the job's proof is kept; UnusableInput if something else has its name."""
    there = not force and os.path.lexists(job.out)
    if there:
        _require_same(job, config)
    return there


def _state(error: BaseException) -> tuple[str, str]:
    """What became of a job that ended with an error of FAILURES, and why."""
    return ABOVE if isinstance(error, ThresholdExceeded) else FAILED, str(error) or type(error).__name__


@dataclass(frozen=True)
class _Running:
    """A job that a worker has."""

    job: Job
    order: Order
    promise: Promise


class _Shared:
    """Jobs that are given to workers as they become free. Files are read and written here."""

    def __init__(
        self, team: Cluster, *, device: str, force: bool, phases: Phases, done: Callable[[JobResult], None] | None
    ) -> None:
        self.team, self.device, self.force, self.phases, self.done = team, device, force, phases, done
        self.results: dict[int, JobResult] = {}

    def run(self, jobs: Sequence[Job], started: Callable[[Job], None] | None) -> list[JobResult]:
        """All results, in the order of the jobs."""
        waiting, free, running = deque(jobs), list(range(self.team.size)), dict[int, _Running]()
        while waiting or running:
            while waiting and free:
                job = waiting.popleft()
                if started:
                    started(job)
                begun = self._begin(job, free[-1])
                if isinstance(begun, JobResult):
                    self._end(begun)
                else:
                    running[free.pop()] = begun
            if running:
                workers = list(running)
                free.append(workers[self.team.first([running[worker].promise for worker in workers])])
                self._end(self._collected(running.pop(free[-1])))
        return [self.results[job.line] for job in jobs]

    def _end(self, result: JobResult) -> None:
        self.results[result.job.line] = result
        if self.done:
            self.done(result)

    def _begin(self, job: Job, worker: int) -> JobResult | _Running:
        try:
            config = _config(job)
            if _is_there(job, config, self.force):
                return JobResult(job, KEPT)
            options = {"config": config, **job.options}
            order = ordered(
                job.model, job.data, job.out, phases=self.phases, device=self.device, force=self.force, **options
            )
            drawn = DrawnSamples(order.dataset, order.statement.indices())
        except FAILURES as error:
            return JobResult(job, *_state(error))
        given = order.statement, order.model, drawn, job.options["reveal_score"], self.device, self.force
        return _Running(job, order, self.team.ask(worker, f"{__name__}:prove_there", *given))

    def _collected(self, running: _Running) -> JobResult:
        ((state, why, proved, phases),) = self.team.get([running.promise])
        if proved is None:
            return JobResult(running.job, state, why)
        try:
            return JobResult(running.job, PROVED, "", running.order.written(proved, phases, self.force))
        except FAILURES as error:
            return JobResult(running.job, *_state(error))


def prove_there(
    statement: Statement, model: Model, samples: Samples, reveal_score: bool, device: str, force: bool
) -> tuple[str, str, Proved | None, list[PhaseTime]]:
    """On a worker: what becomes of a job, why, and its proof with the phases that it took."""
    from prover.resources import estimate

    phases = Phases(None)
    try:
        if not force:
            estimate(statement, model).require_memory(False)
        proved = made(statement, model, samples, reveal_score=reveal_score, device=device, phases=phases)
        return PROVED, "", proved, phases.done
    except FAILURES as error:
        return *_state(error), None, []


def _require_same(job: Job, config: ProbeConfig | None) -> None:
    """UnusableInput if the file with the proof's name is no proof of the job's statement."""
    options = {name: job.options.get(name) for name in OPTIONS}
    wanted = intended(job.model, job.data, config=config, **options).statement
    found: Statement = inspect(job.out).statement
    if replace(found, variance=None) != wanted or (found.variance is not None) != job.options["reveal_score"]:
        raise UnusableInput(f"{job.out} is the proof of another statement: move it away, or give another name")
