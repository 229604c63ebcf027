"""Phases of proving, with their time and memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass


@dataclass(frozen=True)
class PhaseTime:
    """A finished phase of proving; peak_rss_bytes is the most memory the process held during it (where the system does
    not tell: since the process began), compiling the part of `seconds` in which kernels were compiled or loaded."""

    name: str
    seconds: float
    peak_rss_bytes: int
    compiling: float = 0.0


Progress = Callable[[str, PhaseTime | None], None]
"""Called with a phase's name and None when it starts, and with its figures when it is done."""


class Phases:
    """A phase hook that keeps the figures and passes them on."""

    def __init__(self, progress: Progress | None) -> None:
        self.done: list[PhaseTime] = []
        self._progress = progress
        self.compiling: Callable[[], float] = float
        """Seconds of compiling so far, once somebody knows."""

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        if self._progress:
            self._progress(name, None)
        start, compiled = time.perf_counter(), self.compiling()
        reset_peak_rss()
        yield
        compiling = self.compiling() - compiled
        self.done.append(PhaseTime(name, time.perf_counter() - start, peak_rss(), compiling))
        if self._progress:
            self._progress(name, self.done[-1])


def reset_peak_rss() -> None:
    """Make `peak_rss` count from here on, where the system allows it."""
    with suppress(OSError), open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def peak_rss() -> int:
    """Bytes of memory this process has held at most."""
    import resource
    import sys

    with suppress(OSError), open("/proc/self/status") as file:
        for line in file:
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
