"""How long numba compiles."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from numba.core.event import Event, Listener, install_listener


class CompileClock(Listener):
    """Adds up the time in which at least one thread compiles, loads compiled code, or waits for another that does."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._depth = 0
        self._since = self._total = 0.0

    def on_start(self, event: Event) -> None:
        """A thread begins."""
        with self._lock:
            if not self._depth:
                self._since = time.perf_counter()
            self._depth += 1

    def on_end(self, event: Event) -> None:
        """A thread is done."""
        with self._lock:
            self._depth -= 1
            if not self._depth:
                self._total += time.perf_counter() - self._since

    def seconds(self) -> float:
        """So far."""
        with self._lock:
            return self._total + (time.perf_counter() - self._since if self._depth else 0.0)


@contextmanager
def compile_clock() -> Iterator[CompileClock]:
    """A clock that runs during the block."""
    clock = CompileClock()
    with install_listener("numba:compiler_lock", clock):
        yield clock
