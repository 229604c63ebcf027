"""Progress in notebooks: functions called there without a `progress` of their own print what they do."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from zkcert.api.phases import PhaseTime, Progress

PAUSE = 5.0
"""Seconds between two lines about the same."""


def in_notebook() -> bool:
    """Whether this is the kernel of a Jupyter notebook, where waiting without a word is unpleasant."""
    get_ipython = getattr(sys.modules.get("IPython"), "get_ipython", None)
    shell = get_ipython() if get_ipython else None
    return shell is not None and "IPKernelApp" in shell.config


def phases_shown(progress: Progress | None) -> Progress | None:
    """`progress`; without one in a notebook, a line for each phase, begun when it begins."""
    if progress or not in_notebook():
        return progress

    def show(name: str, done: PhaseTime | None) -> None:
        if done is None:
            print(f"{name:<16}", end="", flush=True)
        else:
            print(f"{done.seconds:8.1f} s", flush=True)

    return show


def counts_shown(what: str, progress: Callable[[int, int], None] | None) -> Callable[[int, int], None] | None:
    """`progress`; without one in a notebook, a line now and then."""
    if progress or not in_notebook():
        return progress
    last = time.monotonic()

    def show(done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= PAUSE:
            last = time.monotonic()
            print(f"{what}: {done:,} of {total:,}", flush=True)

    return show


def epochs_shown(
    progress: Callable[[int, float, float | None], None] | None,
) -> Callable[[int, float, float | None], None] | None:
    """`progress`; without one in a notebook, a line for each epoch."""
    if progress or not in_notebook():
        return progress

    def show(epoch: int, loss: float, accuracy: float | None) -> None:
        reached = "" if accuracy is None else f"  test accuracy {accuracy:.4f}"
        print(f"epoch {epoch + 1:<4} loss {loss:.6f}{reached}", flush=True)

    return show


def told(say: Callable[[str], None] | None) -> Callable[[str], None]:
    """`say`; without one, `print` in a notebook, and nothing elsewhere."""
    if say:
        return say
    return print if in_notebook() else _silent


def _silent(_: str) -> None:
    """Say nothing."""
