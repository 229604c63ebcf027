"""The `zkcert` command. Every command is a function of `zkcert.api`; here are options, progress and printing.

The modules imported from here register their commands with `app`.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence

import typer

from verifier.__main__ import failure
from zkcert.cli import calibration, certificate, conversion, demonstration, metric, training  # noqa: F401
from zkcert.cli.application import INTERRUPTED, Interrupted, app
from zkcert.cli.display import err
from zkcert.errors import UnusableInput, ZkcertError

__all__ = ["app", "main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code. Errors are one line on stderr."""
    arguments = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    try:
        code, line = app(arguments, prog_name="zkcert", standalone_mode=False) or 0, ""
        if code == INTERRUPTED:  # typer's reading of Ctrl-C
            raise KeyboardInterrupt
        return code
    except (ZkcertError, OSError, MemoryError) as error:
        code, line = failure(error)
    except (typer.Abort, KeyboardInterrupt):
        code, line = INTERRUPTED, "interrupted; nothing was written"
    except Interrupted as error:
        code, line = INTERRUPTED, f"interrupted; {error}"
    except Exception as error:
        message = getattr(error, "format_message", None)  # typer's usage errors, whichever click it brings
        if message is None:  # a defect: not to be taken for a rejection
            traceback.print_exc()
            return 2
        code, line = failure(UnusableInput(f"{message().rstrip('.')} (see --help)"))
    err.print(line, style="bold red")
    return code
