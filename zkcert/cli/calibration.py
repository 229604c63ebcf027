"""What needs models or data of known kind: calibrate and mia."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.table import Table
from typer.core import TyperCommand

from zkcert import api
from zkcert.calibration import Calibration, Rate
from zkcert.cli.application import app
from zkcert.cli.display import out, print_json, print_lines, progress_bar, warn
from zkcert.cli.options import METRIC, AsJson, Device, Given, ModelFile, Precision, with_options

CHOSEN_ON = ": tau was chosen on these"
"""What is added to the rate that is no estimate for others."""

NOT_INDEPENDENT = (
    "intervals (95 %, Clopper-Pearson) take draws as independent; the draws of one model are not independent models: "
    "see the rates per model"
)


class ManyBad(TyperCommand):
    """Lets --bad be followed by several files: all up to the next option."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As the base class does, `--bad A B` being read as `--bad A --bad B`."""
        return super().parse_args(ctx, spread(args, "--bad"))


def spread(arguments: Sequence[str], option: str) -> list[str]:
    """Every argument after `option`, up to the next option, with `option` of its own."""
    found: list[str] = []
    following = False
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if name == option:
            following = True
            found += [option, value] if equals else []
        elif argument.startswith("-") and argument != "-":
            following = False
            found.append(argument)
        else:
            found += [option, argument] if following else [argument]
    return found


@app.command(cls=ManyBad)
@with_options(METRIC)
def calibrate(
    *,
    good: Annotated[
        list[str], typer.Argument(metavar="GOOD...", help="Models known to be good: MODEL, or MODEL@DATA.")
    ],
    bad: Annotated[
        list[str] | None,
        typer.Option(
            "--bad", metavar="BAD...", help="Models known to be bad: MODEL, or MODEL@DATA; several may follow."
        ),
    ] = None,
    data: Annotated[
        str | None, typer.Option(metavar="DATA", help="Dataset or data.zkd of the models without @DATA.")
    ] = None,
    risk: Annotated[
        str, typer.Option(help="Of accepting a bad draw; without --bad, of rejecting a good one.")
    ] = "0.05",
    draws: Annotated[int, typer.Option(metavar="K", help="Draws of the probe for each model.")] = 20,
    seed: Annotated[str, typer.Option(metavar="TEXT", help="Draws the samples.")] = "",
    file: Annotated[str, typer.Option("--out", "-o", help="The calibration.")] = "calibration.json",
    plot: Annotated[
        str | None, typer.Option(metavar="FILE", help="Plot scores and ROC curve: .png, .pdf or .svg.")
    ] = None,
    given: Given,
    device: Device = "cpu",
    dtype: Precision = "float64",
    force: Annotated[bool, typer.Option("--force", help="Replace a calibration of that name.")] = False,
    as_json: AsJson = False,
) -> None:
    """Choose tau from the scores of models known to be good or bad.

    Scores each on several draws, takes the largest threshold that a further bad
    draw passes with a probability of at most --risk, and says how well the two kinds separate. audit, announce, prove
    and verify take the file for --tau, and the probe with it.
    """
    with progress_bar("draws") as progress:
        found = api.calibrate(
            good,
            bad or [],
            file,
            data=data,
            config=given,
            risk=risk,
            draws=draws,
            seed=seed,
            device=device,
            dtype=dtype,
            plot=plot,
            force=force,
            progress=progress,
        )
    if as_json:
        print_json({"file": file, **found.to_dict(), "gap": found.gap, "warnings": found.warnings()})
        for text in found.warnings():
            warn(text)
        return
    _show_calibration(found, file)


def _show_calibration(found: Calibration, file: str) -> None:
    table = Table("model", "kind", "data")
    for heading in ("mean", "least", "largest", "accepted"):
        table.add_column(heading, justify="right")
    names = {source.digest: source.name for source in found.data}
    for kind, models in (("good", found.good), ("bad", found.bad)):
        for model in models:
            numbers = (model.mean, min(model.scores), max(model.scores))
            accepted = f"{model.accepted(found.tau)} of {len(model.scores)}"
            table.add_row(model.name, kind, names[model.data], *(f"{value:.6g}" for value in numbers), accepted)
    out.print(table)
    lines = {"tau": f"{found.tau_text}, at a risk of {float(found.risk):g}"}
    if found.false_acceptance is not None and found.auc is not None:
        lines["accepted"] = _rate_text(found.false_acceptance, "bad") + CHOSEN_ON
    lines["rejected"] = _rate_text(found.false_rejection, "good") + ("" if found.bad else CHOSEN_ON)
    if found.auc is not None:
        lines["AUC"] = f"{found.auc:.4f} (a bad draw scores above a good one)"
        lines["gap"] = f"{found.gap:.6g} (least bad score minus largest good one)"
    lines["note"] = NOT_INDEPENDENT
    lines["file"] = file
    print_lines([*(f"{k:<10}{v}" for k, v in lines.items()), *(f"WARNING: {text}" for text in found.warnings())])


def _rate_text(rate: Rate, kind: str) -> str:
    return f"{rate.count} of {rate.total} {kind} draws, {rate.value:.1%} ({rate.low:.1%} to {rate.high:.1%})"


EXAMPLE = {name: annotation for name, annotation in METRIC.items() if name not in ("batch_size", "batch_norm")}
"""The probe of single examples: B = 1, batch-norm in evaluation mode."""


@app.command()
@with_options(EXAMPLE)
def mia(
    *,
    model: ModelFile,
    members: Annotated[str, typer.Argument(metavar="MEMBERS", help="Training data: data.zkd, or a dataset.")],
    nonmembers: Annotated[str, typer.Argument(metavar="NONMEMBERS", help="Data the model was not trained on.")],
    samples: Annotated[int, typer.Option(metavar="K", help="Examples to draw of either.")] = 1000,
    seed: Annotated[str, typer.Option(metavar="TEXT", help="Draws the examples.")] = "",
    plot: Annotated[
        str | None, typer.Option(metavar="FILE", help="Plot ROC curves and scores: .png, .pdf or .svg.")
    ] = None,
    given: Given,
    device: Device = "cpu",
    dtype: Precision = "float64",
    as_json: AsJson = False,
) -> None:
    """Guess from scores which examples a model was trained on.

    Scores single examples (B = 1) by loss, static and directional sharpness; members are expected to score lower.
    """
    with progress_bar("examples") as progress:
        found = api.mia(
            model,
            members,
            nonmembers,
            samples=samples,
            seed=seed,
            config=given,
            device=device,
            dtype=dtype,
            plot=plot,
            progress=progress,
        )
    if as_json:
        print_json(found.to_dict())
        for text in found.warnings:
            warn(text)
        return
    table = Table("score")
    for heading in ("AUC", "95 % interval", "best balanced accuracy"):
        table.add_column(heading, justify="right")
    for name, result in found.found.results.items():
        interval = f"{result.auc_low:.4f} to {result.auc_high:.4f}"
        table.add_row(name, f"{result.auc:.4f}", interval, f"{result.accuracy:.4f}")
    out.print(table)
    vanished = found.found.vanished
    print_lines(
        [
            f"{samples} members, {samples} non-members; members are taken to score lower; DeLong intervals",
            "the accuracy is that of the threshold best on these examples: chance gives somewhat more than 0.5",
            f"loss 0 in floating point at some step: {vanished[0]} members, {vanished[1]} non-members",
            *(f"WARNING: {text}" for text in found.warnings),
        ]
    )
