"""What commands print: results on stdout, progress and warnings on stderr."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from zkcert import api
from zkcert.progress import RemainingTime, duration

if TYPE_CHECKING:
    from prover.resources import Estimate


class _Console(Console):
    """Leaves a closed pipe to the command, where rich would exit with the code of a rejected proof."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


out = _Console(highlight=False, soft_wrap=True, markup=False)
err = _Console(stderr=True, highlight=False, soft_wrap=True, markup=False)


class PhaseDisplay:
    """Phases with time and memory on stderr, and what is left: live on a terminal, elsewhere a line for each phase
    that is done."""

    def __init__(self) -> None:
        columns = (SpinnerColumn(), TextColumn("{task.description:<14}"), TimeElapsedColumn())
        self._bars = Progress(*columns, TextColumn("{task.fields[memory]}"), _Left(self), console=err)
        self._live = err.is_terminal
        self._remaining = RemainingTime({})

    def __enter__(self) -> PhaseDisplay:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def planned(self, estimate: Estimate, *, scratch: bool = False, cluster: bool = False) -> None:
        """From here on, say how long it will take, which is corrected by what is done. Whether there is a scratch file,
        and a cluster, with which it may be less."""
        from prover.kernels import compiled

        self._remaining = RemainingTime(estimate.phases)
        first = "" if compiled() else " and, this first time, up to a minute or two of compiling"
        alone = ", if it were done alone" if cluster else ""
        memory = f"{gigabytes(estimate.peak_bytes)} of memory"
        if scratch:
            file = gigabytes(estimate.scratch_file_bytes)
            memory = f"{gigabytes(estimate.scratch_peak_bytes)} of memory and {file} of disk"
        err.print(
            f"{estimate.sizes.digits:,} digits: about {duration(estimate.seconds)}{alone}{first}, {memory}, "
            f"a proof of {estimate.sizes.proof_bytes / 1e6:.2f} MB"
        )

    def left(self, elapsed: float = 0.0) -> str:
        """What remains, for people; empty if nobody knows."""
        seconds = self._remaining.seconds(elapsed)
        return f"about {duration(seconds)} left" if seconds >= 1 else ""

    def stop(self) -> None:
        """Leave the display as it is; what is printed from here on comes below it."""
        if self._live:
            self._bars.stop()

    def __call__(self, name: str, done: api.PhaseTime | None) -> None:
        if done is None:
            self._remaining.start(name)
        else:
            self._remaining.finish(name, done.seconds - done.compiling)
        if not self._live:
            if done:
                figures = f"{name:<14}{done.seconds:8.2f} s  {gigabytes(done.peak_rss_bytes):>9}  {self.left()}"
                err.print(figures.rstrip())
        elif done is None:
            self._bars.start()
            self._bars.add_task(name, total=None, memory="")
        else:
            task = self._bars.task_ids[-1]
            self._bars.update(task, total=1, completed=1, memory=gigabytes(done.peak_rss_bytes))


class _Left(ProgressColumn):
    """The remaining time, beside the phase that runs."""

    def __init__(self, display: PhaseDisplay) -> None:
        super().__init__()
        self._display = display

    def render(self, task: Task) -> Text:
        return Text("" if task.finished else self._display.left(task.elapsed or 0.0))


class Update(Protocol):
    """Called with what is done, of how much, and optionally what to say of it from now on."""

    def __call__(self, done: int, total: int, text: str | None = None) -> None: ...


PAUSE = 10.0
"""Seconds between two lines of progress where there is no terminal."""


@contextmanager
def progress_bar(what: str) -> Iterator[Update]:
    """A bar on stderr; where that is no terminal, a line now and then."""
    if not err.is_terminal:
        last = time.monotonic()

        def line(done: int, total: int, text: str | None = None) -> None:
            nonlocal last
            if time.monotonic() - last >= PAUSE:
                last = time.monotonic()
                err.print(f"{text or what}: {done:,} of {total:,}")

        yield line
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, redirect_stdout=False) as bars:
        task = bars.add_task(what, total=None)
        yield lambda done, total, text=None: bars.update(task, completed=done, total=total, description=text)


def gigabytes(count: int) -> str:
    """Bytes, for people."""
    return f"{count / 1e9:.2f} GB"


def warn(text: str) -> None:
    """A warning on stderr."""
    err.print(f"WARNING: {text}", style="bold red")


def print_lines(lines: Sequence[str]) -> None:
    """Report lines, the important ones in colour."""
    for line in lines:
        style = {"WARNING": "bold red", "ACCEPTED": "bold green"}.get(line.partition(":")[0])
        out.print(line, style=style)


def print_json(value: Any) -> None:
    """One JSON value on stdout."""
    print(json.dumps(value, indent=1))
