"""The application that commands register with."""

from __future__ import annotations

import typer

from verifier.__main__ import EXIT_CODES

app = typer.Typer(
    name="zkcert",
    help="Zero-knowledge certificates of directional sharpness: prove that a public model's score on committed "
    f"private data is at most a threshold. {EXIT_CODES.capitalize()}.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
