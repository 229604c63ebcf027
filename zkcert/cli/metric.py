"""The float side: measure."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from zkcert import api
from zkcert.cli.application import app
from zkcert.cli.display import out, print_json
from zkcert.cli.options import PROBE, AsJson, Device, Given, ModelFile, with_options
from zkcert.config import ProbeConfig


@app.command()
@with_options(PROBE)
def measure(
    *,
    model: ModelFile,
    data: Annotated[str, typer.Argument(metavar="DATA", help="data.zkd, or a dataset as for commit.")],
    beacon: Annotated[str | None, typer.Option(metavar="HEX", help="Draws from a data.zkd.")] = None,
    seed: Annotated[str | None, typer.Option(metavar="TEXT", help="Draws from any other dataset.")] = None,
    given: Given,
    device: Device = "cpu",
    as_json: AsJson = False,
) -> None:
    """Compute the score in float64.

    Uses the samples a proof would use, and proves nothing.
    """
    found = api.measure(model, data, config=ProbeConfig(**given), beacon=beacon, seed=seed, device=device)
    if as_json:
        print_json(found.to_dict())
        return
    table = Table("t")
    for heading in ("sharpness", "loss", "log ratio"):
        table.add_column(heading, justify="right")
    for t, row in enumerate(zip(found.sharpness, found.loss, found.log_ratio, strict=True)):
        table.add_row(str(t), *(f"{value:.9g}" for value in row))
    out.print(table)
    out.print(f"score  {found.score:.9f}")
