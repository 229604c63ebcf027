"""The demonstration."""

from __future__ import annotations

from typing import Annotated

import typer

from zkcert import api
from zkcert.cli.application import app, leaving
from zkcert.cli.display import PhaseDisplay, out


@app.command()
def demo(
    directory: Annotated[
        str | None, typer.Option("--out", metavar="DIR", help="Keep model, data, announcement and proof there.")
    ] = None,
) -> None:
    """Show the whole path on LeNet-5.

    Trains on shipped Fashion-MNIST images, commits, announces, proves, verifies, and rejects forgeries.
    """
    left = None if directory is None else f"the files made so far are in {directory}"
    with leaving(left), PhaseDisplay() as display:

        def say(text: str) -> None:
            display.stop()
            out.print(text)

        api.demo(directory, say=say, progress=display, planned=display.planned)
