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
    trust: Annotated[
        bool, typer.Option("--trust", help="Show what surrounds a proof: a public beacon, witnesses, an authority.")
    ] = False,
) -> None:
    """Train, commit, announce, prove, verify and forge, in a few minutes.

    A LeNet-5 on Fashion-MNIST images that ship with the program; says at each step who does what.
    """
    left = None if directory is None else f"the files made so far are in {directory}"
    with leaving(left), PhaseDisplay() as display:

        def say(text: str) -> None:
            display.stop()
            out.print(text)

        if trust:
            api.demo_trust(directory, say=say)
        else:
            api.demo(directory, say=say, progress=display, planned=display.planned)
