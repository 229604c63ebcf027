"""Signals that end a command are one exception, so that whatever must be cleaned up is."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = ("INT", "TERM", "HUP", "QUIT", "XCPU", "ALRM", "VTALRM", "PROF", "USR1", "USR2", "IO", "PWR")
"""What would end a process at once, where it can be caught and is no defect of the program."""
TOGETHER = 1.0
"""Seconds within which further signals count as the first: a closed terminal or a shutdown often sends two."""


class Ended(KeyboardInterrupt):
    """A signal asks the process to end."""


_first: tuple[int, float] | None = None  # the number and the time of the signal that ends the process
_held = 0
_pending = False


def install() -> None:
    """From here on, signals of ENDING raise Ended in the main thread; those somebody else handles or ignores (nohup)
    are left alone."""
    for name in ENDING:
        number = getattr(signal, f"SIG{name}", None)
        if number is not None and signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _handle)


def _handle(number: int, _frame: FrameType | None) -> None:
    global _first, _pending
    now = time.monotonic()
    if _first is not None and now - _first[1] < TOGETHER:
        return
    _first = number, now
    if _held:
        _pending = True
    else:
        raise Ended


@contextmanager
def held() -> Iterator[None]:
    """A signal during the block, which must be short, ends the process after it."""
    global _held, _pending
    _held += 1
    try:
        yield
    finally:
        _held -= 1
    if _pending and not _held:
        _pending = False
        raise Ended


def ending() -> tuple[int, str]:
    """Exit code, and the word for it, of a process that a signal ends: Ctrl-C unless another was handled."""
    number = signal.SIGINT if _first is None else _first[0]
    word = "interrupted" if number == signal.SIGINT else f"ended by {signal.Signals(number).name}"
    return 128 + number, word
