"""Model files: convert."""

from __future__ import annotations

from typing import Annotated

import typer

from zkcert import api
from zkcert.cli.application import app
from zkcert.cli.display import out, print_json
from zkcert.cli.options import AsJson


@app.command()
def convert(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A file with graph, input and state_dict.")],
    file: Annotated[str, typer.Option("--out", "-o", help="The model file; its extension says the format.")],
    force: Annotated[bool, typer.Option("--force", help="Replace another model file of that name.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write a model file anew, in the one form that is accepted.

    Reads what torch.save, safetensors or an earlier zkcert wrote, unless two programs could read different models from
    it. The model and its digest stay the same; model.pt becomes model.safetensors, or the reverse, if --out says so.
    """
    result = api.convert_model(source, file, force=force)
    if as_json:
        print_json(result.to_dict())
        return
    out.print(f"model   {result.model.weights_digest.hex()} ({result.model.param_count:,} parameters)")
    out.print(f"file    {result.path}, {result.size:,} bytes")
    out.print(f"sha256  {result.sha256}")
