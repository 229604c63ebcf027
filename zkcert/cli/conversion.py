"""Model files: check, convert."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

import typer

from zkcert import api
from zkcert.cli.application import app
from zkcert.cli.display import err, gigabytes, out, print_json, progress_bar, warn
from zkcert.cli.options import PROBE, READING, AsJson, Given, reading, with_options
from zkcert.errors import UnusableInput
from zkcert.progress import duration
from zkcert.public.defaults import DEFAULT

_NUMBERS = "one for each channel, or one for all."
INPUT: dict[str, Any] = {
    "shape": Annotated[
        str | None,
        typer.Option(metavar="CxHxW", help="Of the samples, for a source that is no model file; of tokens, how many."),
    ],
    "tokens": Annotated[
        int | None, typer.Option(metavar="V", help="The module reads tokens, of so many: no pad, mean and std.")
    ],
    "pad": Annotated[int | None, typer.Option(help="Zeros that are put around each image. [default: 0]")],
    "mean": Annotated[
        str | None, typer.Option(metavar="M,M,...", help=f"The module reads (x/255 - mean)/std: {_NUMBERS}")
    ],
    "std": Annotated[str | None, typer.Option(metavar="S,S,...", help=f"Likewise: {_NUMBERS}")],
    "weights": Annotated[
        str | None, typer.Option(metavar="FILE", help="A checkpoint for the module that the source makes.")
    ],
}
"""What is to be known of modules."""

SOURCES = (
    "FILE.py:NAME (a function, class or module; the file is run), an exported program (.pt2; loading it may run code), "
    "or an ONNX file"
)


def _input(module: Mapping[str, Any]) -> dict[str, Any]:
    """The input as `read_source` takes it. Raises UnusableInput."""
    given = {key: value for key, value in module.items() if key != "weights"}
    if (shape := given.get("shape")) is not None:
        if re.fullmatch("[0-9]{1,6}", shape):
            shape = f"1x1x{shape}"
        if not re.fullmatch(r"[0-9]{1,6}(x[0-9]{1,6}){2}", shape):
            raise UnusableInput(
                "--shape takes channels, height and width such as 3x32x32, or the length of a window of tokens, not "
                f"{shape[:40]!r}"
            )
        given["shape"] = [int(n) for n in shape.split("x")]
    for key in ("mean", "std"):
        if key in given:
            try:
                given[key] = [float(part) for part in given[key].split(",")]
            except ValueError as error:
                raise UnusableInput(f"--{key} takes numbers such as 0.49,0.48,0.45, not {given[key][:40]!r}") from error
    return given


@app.command()
@with_options(PROBE, module=INPUT, read=READING)
def check(
    *,
    model: Annotated[str, typer.Argument(metavar="MODEL", help=f"A model file, {SOURCES}.")],
    data: Annotated[
        str | None, typer.Argument(metavar="DATA", help="The samples: as for commit, or a data.zkd.")
    ] = None,
    module: Given,
    given: Given,
    read: Given,
    seed: Annotated[str, typer.Option(metavar="TEXT", help="Draws the samples of the dry run.")] = "",
    scratch: Annotated[
        str | None, typer.Option(metavar="DIR", help="Keep the dry run's digits in a file there, not in memory.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say everything that stands in the way of a certificate, at once, and what one takes.

    With DATA, the probe runs in fixed point with all range checks, and nothing is proved. Exit code 0 if nothing stands
    in the way, else 2.
    """
    with progress_bar("reading samples") as progress:
        found = api.check(
            model,
            data,
            input=_input(module),
            weights=module.get("weights"),
            config=replace(DEFAULT, **given),
            seed=seed,
            scratch=scratch,
            progress=lambda done, total: progress(done, total, "reading samples"),
            **reading(read),
        )
    for text in found.warnings:
        warn(text)
    if as_json:
        print_json(found.to_dict())
    else:
        _show(found)
    if not found.passed:
        raise typer.Exit(2)


def _show(found: api.Check) -> None:
    model, cost, run = found.model, found.estimate, found.dry_run
    if model is not None:
        shape = "x".join(map(str, model.input["shape"]))
        out.print(
            f"model    {len(model.graph)} layers, {model.param_count:,} parameters, {shape}, {model.classes} classes"
        )
    for note in found.notes:
        out.print(f"note     {note}")
    for margin in found.margins:
        out.print(f"margin   {margin.line()}")
    if cost is not None:
        sizes, time = cost.sizes, duration(cost.seconds)
        out.print(f"cost     T = {sizes.steps}, B = {sizes.batch_size}: {sizes.digits:,} digits, about {time}")
        file = f"{gigabytes(cost.scratch_peak_bytes)} and {gigabytes(cost.scratch_file_bytes)} of disk"
        out.print(f"memory   {gigabytes(cost.peak_bytes)}, with --scratch DIR {file}")
        out.print(f"proof    {sizes.proof_bytes / 1e6:.2f} MB")
    if run is not None:
        out.print(
            f"dry run  score {run.score:.9f} (seed {run.seed!r}), {run.difference:.1e} from the float64 reference"
        )
        out.print(f"fit      {run.fit.line()}")
    for obstacle in found.obstacles:
        out.print(f"OBSTACLE {obstacle.line()}", style="bold red")
    count = len(found.obstacles)
    if count:
        err.print(f"{count} thing{'s' if count > 1 else ''} in the way of a certificate", style="bold red")
    elif run is None:
        out.print("nothing stands in the way that shows without data")
    else:
        out.print("nothing stands in the way")


@app.command()
@with_options(INPUT)
def convert(
    *,
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help=f"A file with graph, input and state_dict, {SOURCES}.")
    ],
    file: Annotated[str, typer.Option("--out", "-o", help="The model file; its extension says the format.")],
    given: Given,
    force: Annotated[bool, typer.Option("--force", help="Replace another model file of that name.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write a model file: anew, in the one form that is accepted, or of a PyTorch module or ONNX file.

    Reads what torch.save, safetensors or an earlier zkcert wrote, unless two programs could read different models from
    it. The model and its digest stay the same; model.pt becomes model.safetensors, or the reverse, if --out says so.
    Modules are converted if there is a circuit that computes the same; parametrisations are folded, and said.
    """
    result = api.convert_model(source, file, input=_input(given), weights=given.get("weights"), force=force)
    for text in result.warnings:
        warn(text)
    if as_json:
        print_json(result.to_dict())
        return
    out.print(f"model   {result.model.weights_digest.hex()} ({result.model.param_count:,} parameters)")
    out.print(f"file    {result.path}, {result.size:,} bytes")
    out.print(f"sha256  {result.sha256}")
    for note in result.notes:
        out.print(f"note    {note}")
