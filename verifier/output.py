"""Printing, also where the disk is full or nobody reads any more."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from signal import SIGPIPE

from .report import failure

ENDED_BY_SIGNAL = 128  # shells add the number of the signal


def print_verdict(text: str, code: int, line: str = "") -> int:
    """Print a verdict and, on stderr, its one line; the exit code, which is another if nobody can read the verdict."""
    try:
        if text:
            print(text)
        flush()
    except BrokenPipeError:
        return broken_pipe()
    except OSError as error:
        code, line = (code, line) if code else failure(error)
    if line:
        print(line, file=sys.stderr)
    return code


def flush() -> None:
    """What is printed is out, or OSError."""
    if sys.stdout is not None:
        sys.stdout.flush()


def broken_pipe() -> int:
    """The exit code where nobody reads any more: that of a process that a closed pipe ends. Nothing more is printed."""
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # one that is closed, or no file
            os.dup2(null, stream.fileno())
    os.close(null)
    return ENDED_BY_SIGNAL + SIGPIPE
