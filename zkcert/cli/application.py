"""The application that commands register with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from verifier.__main__ import EXIT_CODES

INTERRUPTED = 130
"""The exit code of what Ctrl-C ended."""

app = typer.Typer(
    name="zkcert",
    help="Zero-knowledge certificates of directional sharpness: prove that a public model's score on committed "
    f"private data is at most a threshold. {EXIT_CODES.capitalize()}.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


class Interrupted(Exception):
    """Ctrl-C, or another signal; the text says what is left behind."""


@contextmanager
def leaving(text: str | None) -> Iterator[None]:
    """Ctrl-C, or another signal, during the block leaves something behind, unless text is None: say what."""
    try:
        yield
    except KeyboardInterrupt as error:
        if text is None:
            raise
        raise Interrupted(text) from error
