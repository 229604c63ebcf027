"""The `zkcert` command. Every command is a function of `zkcert.api`; here are options, progress and printing.

The modules imported from here register their commands with `app`.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence

import typer

from verifier.output import broken_pipe, flush
from verifier.report import failure
from zkcert.cli import (  # noqa: F401
    calibration,
    certificate,
    conversion,
    demonstration,
    metric,
    training,
    trust,
    verification,
)
from zkcert.cli.application import INTERRUPTED, Interrupted, app
from zkcert.cli.display import err
from zkcert.errors import UnusableInput, ZkcertError
from zkcert.files import signals
from zkcert.files.writing import finished

__all__ = ["app", "main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code. Errors are one line on stderr."""
    arguments = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    finished.clear()
    try:
        code, line = app(arguments, prog_name="zkcert", standalone_mode=False) or 0, ""
        if code == INTERRUPTED:  # typer's reading of Ctrl-C
            raise KeyboardInterrupt
        flush()
        return code
    except BrokenPipeError:
        return broken_pipe()
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):  # typer's reading of it
            return broken_pipe()
        raise
    except (ZkcertError, OSError, MemoryError) as error:
        code, line = failure(error)
    except (typer.Abort, KeyboardInterrupt, Interrupted) as error:
        code, word = signals.ending()
        written = ", ".join(str(path) for path in finished if path.exists())
        text = f"{written} is written" if written else "nothing was written"
        line = f"{word}; {error if isinstance(error, Interrupted) and not written else text}"
    except Exception as error:
        message = getattr(error, "format_message", None)  # typer's usage errors, whichever click it brings
        if message is None:  # a defect: not to be taken for a rejection
            traceback.print_exc()
            return 2
        code, line = failure(UnusableInput(f"{message().rstrip('.')} (see --help)"))
    err.print(line, style="bold red")
    return code
