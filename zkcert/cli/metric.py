"""The float side: measure and audit."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from zkcert import api
from zkcert.cli.application import app
from zkcert.cli.display import out, print_json, print_lines, progress_bar, warn
from zkcert.cli.options import (
    METRIC,
    READING,
    AsJson,
    Device,
    Given,
    ModelFile,
    Precision,
    Samples,
    samples,
    with_options,
)
from zkcert.errors import UnusableInput
from zkcert.public.defaults import DEFAULT


@app.command()
@with_options(METRIC, read=READING)
def measure(
    *,
    model: ModelFile,
    data: Samples,
    beacon: Annotated[
        str | None, typer.Option(metavar="HEX", help="Draws the samples from a data.zkd, as for a proof.")
    ] = None,
    seed: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Draws the samples from any dataset. [default: empty]")
    ] = None,
    draws: Annotated[
        int, typer.Option(metavar="K", help="Draw K times; above 1 with the seeds TEXT/0, TEXT/1, ...")
    ] = 1,
    given: Given,
    read: Given,
    plot: Annotated[str | None, typer.Option(metavar="FILE", help="Plot the trajectories: .png, .pdf or .svg.")] = None,
    baselines: Annotated[
        bool, typer.Option("--baselines", help="Accuracy, loss, static and worst-case sharpness, coherence, too.")
    ] = False,
    test: Annotated[
        str | None, typer.Option(metavar="DATA", help="For --baselines: accuracy and loss on these, too.")
    ] = None,
    subset: Annotated[
        int | None, typer.Option(metavar="N", help="For --baselines: on N samples of DATA. [default: all]")
    ] = None,
    device: Device = "cpu",
    dtype: Precision = "float64",
    as_json: AsJson = False,
) -> None:
    """Compute the score, on as many draws as you like, and prove nothing.

    With a data.zkd and no seed, on the samples a proof would use. Offers more probes than can be proved.
    """
    if not baselines and (test is not None or subset is not None):
        raise UnusableInput("--test and --subset belong to --baselines")
    if plot is not None:
        api.check_plot(plot)
    taken, held_out = samples(data, read), samples(test, read)
    if baselines:
        api.check_baselines(model, taken, test=held_out, subset=subset)
    with progress_bar("draws") as progress:
        found = api.measure(
            model,
            taken,
            config=given,
            beacon=beacon,
            seed=seed,
            draws=draws,
            device=device,
            dtype=dtype,
            progress=progress,
        )
    if plot is not None:
        api.plot_trajectories(found, plot)
    others = None
    if baselines:
        with progress_bar("baselines") as progress:
            others = api.baselines(
                model,
                taken,
                test=held_out,
                config=given,
                subset=subset,
                seed=seed or "",
                device=device,
                dtype=dtype,
                progress=lambda name, done, total: progress(done, total, name),
            )
    for text in found.warnings:
        warn(text)
    if as_json:
        print_json(found.to_dict() | ({} if others is None else {"baselines": others.to_dict()}))
        return
    _show_draws(found)
    if others is not None:
        _show_baselines(others)


def _table(first: str, *numbers: str) -> Table:
    table = Table(first)
    for heading in numbers:
        table.add_column(heading, justify="right")
    return table


def _show_draws(found: api.Measurement) -> None:
    if found.spread is None:
        (draw,) = found.draws
        table = _table("t", "sharpness", "loss", "log ratio")
        for t, row in enumerate(zip(draw.sharpness, draw.loss, draw.log_ratio, strict=True)):
            table.add_row(str(t), *(f"{value:.9g}" for value in row))
        out.print(table)
        out.print(f"score  {found.score:.9f}")
        out.print(f"fit    {found.fit.line()}")
        out.print(f"drawn  {'by the beacon, or its absence' if draw.seed is None else f'by the seed {draw.seed!r}'}")
        _show_time(found)
        return
    table = _table("seed", "mean sharpness", "mean loss", "mean log ratio", "accuracy", "score")
    for draw in found.draws:
        means = (sum(values) / len(values) for values in (draw.sharpness, draw.loss, draw.log_ratio))
        table.add_row(draw.seed, *(f"{value:.6g}" for value in means), f"{draw.fit.accuracy:.4f}", f"{draw.score:.9f}")
    out.print(table)
    scores = [draw.score for draw in found.draws]
    out.print(
        f"score  {found.score:.9f} +- {found.spread:.9f} (mean and standard deviation, ddof 1, of {len(scores)} draws)"
    )
    out.print(f"range  {min(scores):.9f} to {max(scores):.9f}")
    out.print(f"fit    {found.fit.line()}")
    _show_time(found)


def _show_time(found: api.Measurement) -> None:
    out.print(f"time   {found.probing:.2f} s, and {found.reading:.2f} s reading files")


def _show_baselines(found: api.Baselines) -> None:
    table = _table("baseline", "quantity", "value", "seconds")
    for row in found.rows:
        if row.refused is not None:
            table.add_row(row.name, "none", "", f"{row.seconds:.2f}")
        for i, name in enumerate(_SHOWN[row.name] if row.refused is None else ()):
            value = row.values[name]
            text = "none" if value is None else f"{value:.6g}"
            table.add_row("" if i else row.name, name, text, "" if i else f"{row.seconds:.2f}")
    out.print(table)
    for row in found.rows:
        if row.refused is not None:
            out.print(f"{row.name}: {row.refused}")
    test = "" if found.test_n is None else f"; test: {found.test_n} samples"
    out.print(f"baselines on {found.n} samples{test}")


_SHOWN = {
    **dict.fromkeys(("train", "test"), ("accuracy", "loss")),
    **dict.fromkeys(("sam", "asam-all", "asam-samsung", "asam-shifted"), ("first_order", "ascent")),
    "worst-case": ("sharpness", "alpha"),
    **dict.fromkeys(("coherence", "scaled-coherence"), ("coherence",)),
}
"""The numbers of each baseline that the table shows; JSON has all."""


@app.command()
@with_options(METRIC, read=READING)
def audit(
    *,
    model: ModelFile,
    data: Samples,
    tau: Annotated[
        str,
        typer.Option(
            help="The largest score that passes, such as 1.2; or a calibration.json, which also fixes the probe."
        ),
    ],
    seed: Annotated[str | None, typer.Option(metavar="TEXT", help="Draws the samples. [default: random]")] = None,
    given: Given,
    read: Given,
    device: Device = "cpu",
    dtype: Precision = "float64",
    as_json: AsJson = False,
) -> None:
    """Compute the score of one random draw, and compare it with tau.

    One draw of a few samples, by a seed that nobody could foresee; no proof. Exit code 0 if the score is at most tau,
    1 if it is above.
    """
    found = api.audit(model, samples(data, read), tau=tau, config=given, seed=seed, device=device, dtype=dtype)
    if as_json:
        print_json(found.to_dict())
        for text in found.warnings:
            warn(text)
    else:
        measured, probe = found.measurement, found.measurement.probe
        of = "" if probe.statistic == DEFAULT.statistic else f", {probe.statistic}"
        verdict = "PASS: the score is at most tau" if found.passed else "FAIL: the score is above tau"
        print_lines(
            [
                f"score   {found.score:.9f}",
                f"fit     {measured.fit.line()}",
                f"tau     {float(found.tau):g}",
                f"seed    {found.seed}",
                f"probe   {probe.steps} batches of {probe.batch_size}, from {measured.n} samples; {probe.variant}{of}",
                f"time    {measured.probing:.2f} s, and {measured.reading:.2f} s reading files",
                *(f"WARNING: {text}" for text in found.warnings),
                verdict,
            ]
        )
    if not found.passed:
        raise typer.Exit(1)
