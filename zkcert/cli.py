"""The `zkcert` command. Every command is a function of `zkcert.api`; here are options, progress and printing."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

from verifier.__main__ import BEACON_ORDER, EXIT_CODES, failure, failure_dict, statement_lines
from zkcert import api
from zkcert.config import VARIANTS, ProbeConfig, parse_fraction
from zkcert.errors import UnusableInput, ZkcertError
from zkcert.progress import RemainingTime, duration

if TYPE_CHECKING:
    from prover.resources import Estimate

out = Console(highlight=False, soft_wrap=True, markup=False)
err = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)

app = typer.Typer(
    name="zkcert",
    help="Zero-knowledge certificates of directional sharpness: prove that a public model's score on committed "
    f"private data is at most a threshold. {EXIT_CODES.capitalize()}.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

# ------------------------------------------------------------------------------------------------ options

ModelFile = Annotated[str, typer.Argument(metavar="MODEL", help="model.pt or .safetensors; see README, Files.")]
ProofFile = Annotated[str, typer.Argument(metavar="PROOF", help="proof.bin.")]
Steps = Annotated[int | None, typer.Option(help="T, mini-batches probed. [default: 10]")]
BatchSize = Annotated[int | None, typer.Option(help="B, samples per mini-batch. [default: 16]")]
Rho = Annotated[str | None, typer.Option(help="Radius of the perturbation. [default: 0.05]")]
Rate = Annotated[
    str | None,
    typer.Option("--lr", help="Learning rate; B/lr must be an integer. [default: 1e-4]"),
]
Epsilon = Annotated[str | None, typer.Option("--eps", help="Added to s^2/L. [default: 1e-8]")]
Variant = Annotated[str | None, typer.Option(help=f"{' or '.join(VARIANTS)}. [default: asam-all]")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Device = Annotated[str, typer.Option(help="Of the float64 reference: cpu or cuda.")]


def _given(**options: Any) -> dict[str, Any]:
    """The probe options somebody typed, numbers exact."""
    numbers = ("rho", "lr", "eps")
    return {
        name: parse_fraction(value, name) if name in numbers else value
        for name, value in options.items()
        if value is not None
    }


def _json(value: Any) -> None:
    print(json.dumps(value, indent=1))


# ----------------------------------------------------------------------------------------------- progress


class PhaseDisplay:
    """Phases with time and memory on stderr, and what is left: live on a terminal, elsewhere a line for each phase
    that is done."""

    def __init__(self) -> None:
        columns = (SpinnerColumn(), TextColumn("{task.description:<14}"), TimeElapsedColumn())
        self._bars = Progress(*columns, TextColumn("{task.fields[memory]}"), _Left(self), console=err)
        self._live = err.is_terminal
        self._remaining = RemainingTime({})

    def __enter__(self) -> PhaseDisplay:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def planned(self, estimate: Estimate) -> None:
        """From here on, say how long it will take."""
        self._remaining = RemainingTime(estimate.phases)
        err.print(
            f"{estimate.sizes.digits:,} digits: about {duration(estimate.seconds)}, {_gigabytes(estimate.peak_bytes)} "
            f"of memory, a proof of {estimate.sizes.proof_bytes / 1e6:.2f} MB"
        )

    def left(self, elapsed: float = 0.0) -> str:
        """What remains, for people; empty if nobody knows."""
        seconds = self._remaining.seconds(elapsed)
        return f"about {duration(seconds)} left" if seconds >= 1 else ""

    def stop(self) -> None:
        """Leave the display as it is; what is printed from here on comes below it."""
        if self._live:
            self._bars.stop()

    def __call__(self, name: str, done: api.PhaseTime | None) -> None:
        if done is None:
            self._remaining.start(name)
        else:
            self._remaining.finish(name, done.seconds)
        if not self._live:
            if done:
                figures = f"{name:<14}{done.seconds:8.2f} s  {_gigabytes(done.peak_rss_bytes):>9}  {self.left()}"
                err.print(figures.rstrip())
        elif done is None:
            self._bars.start()
            self._bars.add_task(name, total=None, memory="")
        else:
            task = self._bars.task_ids[-1]
            self._bars.update(task, total=1, completed=1, memory=_gigabytes(done.peak_rss_bytes))


class _Left(ProgressColumn):
    """The remaining time, beside the phase that runs."""

    def __init__(self, display: PhaseDisplay) -> None:
        super().__init__()
        self._display = display

    def render(self, task: Task) -> Text:
        return Text("" if task.finished else self._display.left(task.elapsed or 0.0))


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.2f} GB"


def _warn(text: str) -> None:
    err.print(f"WARNING: {text}", style="bold red")


def _lines(lines: Sequence[str]) -> None:
    """Report lines, the important ones in colour."""
    for line in lines:
        style = {"WARNING": "bold red", "ACCEPTED": "bold green"}.get(line.partition(":")[0])
        out.print(line, style=style)


# ----------------------------------------------------------------------------------------------- commands


@app.command()
def commit(
    data: Annotated[
        str, typer.Argument(metavar="DATA", help=".npz with x and y, IDX images (or images,labels), CIFAR-10.")
    ],
    file: Annotated[str, typer.Option("--out", "-o", help="The secret file, *.zkd.")] = "data.zkd",
    classes: Annotated[int | None, typer.Option(help="Number of classes. [default: largest label + 1]")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace an existing commitment; its root becomes useless.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Commit to a dataset.

    Writes the secret data.zkd and, beside it, the public data.root, and prints the root.
    """
    columns = (TextColumn("hashing samples"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, disable=not err.is_terminal) as bars:
        task = bars.add_task("", total=None)
        result = api.commit(
            data,
            file,
            classes=classes,
            force=force,
            progress=lambda done, total: bars.update(task, completed=done, total=total),
        )
    if as_json:
        _json(result.to_dict())
        return
    root, schema = result.root, result.root.schema
    out.print(f"root    {root.root.hex()}")
    out.print(f"N       {root.n} samples, {schema.kind} {'x'.join(map(str, schema.shape))}, {schema.classes} classes")
    out.print(f"secret  {result.secret} (keep it: without it nothing can be proved about this root)")
    out.print(f"public  {result.public}")


@app.command(
    short_help="Fix everything but the beacon.",
    help=f"Fix model, dataset, configuration and tau, and print the digest to publish. {BEACON_ORDER}",
)
def announce(
    model: ModelFile,
    data_root: Annotated[str, typer.Argument(metavar="DATA.ROOT", help="The public file of the commitment.")],
    tau: Annotated[str, typer.Option(help="The threshold that will be proved.")],
    file: Annotated[str, typer.Option("--out", "-o", help="The announcement.")] = "announce.json",
    steps: Steps = None,
    batch_size: BatchSize = None,
    rho: Rho = None,
    lr: Rate = None,
    eps: Epsilon = None,
    variant: Variant = None,
    force: Annotated[bool, typer.Option("--force", help="Replace another announcement of that name.")] = False,
) -> None:
    """Fix everything but the beacon and print the digest to publish."""
    given = _given(steps=steps, batch_size=batch_size, rho=rho, lr=lr, eps=eps, variant=variant)
    result = api.announce(model, data_root, file, tau=tau, config=ProbeConfig(**given), force=force)
    out.print(f"digest  {result.digest.hex()}")
    out.print(f"file    {result.path}")
    err.print("Publish the digest first; only then let the verifier, or public randomness, give the beacon.")


@app.command()
def estimate(
    model: ModelFile,
    data_root: Annotated[
        str | None, typer.Option(metavar="FILE", help="data.root. [default: 50,000 samples of bytes]")
    ] = None,
    steps: Steps = None,
    batch_size: BatchSize = None,
    rho: Rho = None,
    lr: Rate = None,
    eps: Epsilon = None,
    variant: Variant = None,
    rates: Annotated[
        str | None, typer.Option(metavar="FILE", help="Measured costs. [default: this machine's, or those shipped]")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what a proof will take.

    Sizes are exact; time and memory follow from measured rates. Needs no data.
    """
    given = _given(steps=steps, batch_size=batch_size, rho=rho, lr=lr, eps=eps, variant=variant)
    found = api.estimate(model, config=ProbeConfig(**given), data_root=data_root, rates=rates)
    if as_json:
        _json(found.to_dict())
        return
    sizes = found.sizes
    for name, text in {
        "parameters": f"{sizes.parameters:,}; T = {sizes.steps}, B = {sizes.batch_size}",
        "digits": f"{sizes.digits:,} in {sizes.columns:,} columns, {sizes.table_entries:,} table entries",
        "matrix": f"{sizes.rows:,} rows of 2^{sizes.row_bits} pairs, codewords of 2^{sizes.log_n}",
        "proof": f"{sizes.proof_bytes:,} bytes",
    }.items():
        out.print(f"{name:<14}{text}")
    for name, seconds in found.phases.items():
        out.print(f"  {name:<12}{seconds:10.1f} s")
    out.print(f"{'time':<14}{duration(found.seconds)}")
    available = "" if found.available is None else f" ({_gigabytes(found.available)} available)"
    out.print(f"{'memory':<14}{_gigabytes(found.peak_bytes)}{available}")


@app.command()
def prove(
    model: ModelFile,
    data: Annotated[str, typer.Argument(metavar="DATA.ZKD", help="The secret file of the commitment.")],
    tau: Annotated[str | None, typer.Option(help="The threshold; needed without an announcement.")] = None,
    file: Annotated[str, typer.Option("--out", "-o", help="The proof.")] = "proof.bin",
    announcement: Annotated[
        str | None, typer.Option(metavar="FILE", help="announce.json; other options must agree with it.")
    ] = None,
    beacon: Annotated[
        str | None, typer.Option(metavar="HEX", help="Public randomness from after the announcement.")
    ] = None,
    reveal_score: Annotated[
        bool, typer.Option("--reveal-score", help="Put the exact score into the public statement.")
    ] = False,
    steps: Steps = None,
    batch_size: BatchSize = None,
    rho: Rho = None,
    lr: Rate = None,
    eps: Epsilon = None,
    variant: Variant = None,
    device: Device = "cpu",
    checkpoint: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Keep the state there: after an interruption, go on. Secret."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Go on although more memory seems to be needed than there is.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Prove that the score is at most tau.

    Nothing is written unless the proof holds; exit code 1 if the score is above tau.
    """
    given = _given(steps=steps, batch_size=batch_size, rho=rho, lr=lr, eps=eps, variant=variant)
    config = None
    if given or announcement is None:
        config = replace(ProbeConfig() if announcement is None else api.announced(announcement).config, **given)
    if beacon is None:
        _warn("no --beacon: verifiers will be told that you could have tried many seeds.")
    elif announcement is None:
        _warn("no --announcement: verifiers cannot tell that the statement was fixed before the beacon.")
    with PhaseDisplay() as display:
        result = api.prove(
            model,
            data,
            file,
            tau=tau,
            config=config,
            announcement=announcement,
            beacon=beacon,
            reveal_score=reveal_score,
            device=device,
            progress=display,
            planned=display.planned,
            checkpoint=checkpoint,
            force=force,
        )
    if as_json:
        _json(result.to_dict())
    else:
        _summary(result)


def _summary(result: api.ProofResult) -> None:
    privacy = "private" if result.statement.variance is None else "REVEALED in the proof"
    _lines(
        [
            *statement_lines(result.statement)[:-1],
            f"{'score':<14}{result.score:.9f} ({privacy}), tau {float(result.tau):g}",
            f"{'cross-check':<14}log r_t within {result.cross_check:.2e} of PyTorch float64 "
            f"(limit {api.CROSS_CHECK_LIMIT:g})",
            f"{'proof':<14}{result.path}, {result.size:,} bytes, verified",
            f"{'cost':<14}{duration(result.seconds)}, {_gigabytes(result.peak_rss_bytes)} of memory",
        ]
    )


@app.command(
    short_help="Check a proof.",
    help=f"Check a proof and print what it proves. {BEACON_ORDER} {EXIT_CODES.capitalize()}.",
)
def verify(
    proof: ProofFile,
    model: ModelFile,
    tau: Annotated[str, typer.Option(help="Accept only if the proven threshold is at most this.")],
    data_root: Annotated[
        str | None, typer.Option(metavar="FILE|HEX", help="data.root, or its root: the dataset insisted on.")
    ] = None,
    announcement: Annotated[
        str | None, typer.Option(metavar="FILE|HEX", help="announce.json, or the digest published.")
    ] = None,
    beacon: Annotated[str | None, typer.Option(metavar="HEX", help="The beacon given after the announcement.")] = None,
    as_json: AsJson = False,
) -> None:
    """Check a proof and print what it proves."""
    try:
        verdict = api.verify(proof, model, tau=tau, data_root=data_root, announcement=announcement, beacon=beacon)
    except (ZkcertError, OSError, MemoryError) as error:
        if as_json:
            _json(failure_dict(error))
        raise
    if as_json:
        _json(verdict.to_dict())
    else:
        _lines(verdict.lines())


@app.command()
def inspect(proof: ProofFile, as_json: AsJson = False) -> None:
    """Show a proof's statement, unchecked."""
    found = api.inspect(proof)
    if as_json:
        _json(found.to_dict())
        return
    _lines(statement_lines(found.statement))
    for name, size in (*found.sections.items(), ("total", found.size)):
        out.print(f"{name:<20}{size:>12,} bytes")
    out.print("Nothing of this has been checked; see zkcert verify.")


@app.command()
def measure(
    model: ModelFile,
    data: Annotated[str, typer.Argument(metavar="DATA", help="data.zkd, or a dataset as for commit.")],
    beacon: Annotated[str | None, typer.Option(metavar="HEX", help="Draws from a data.zkd.")] = None,
    seed: Annotated[str | None, typer.Option(metavar="TEXT", help="Draws from any other dataset.")] = None,
    steps: Steps = None,
    batch_size: BatchSize = None,
    rho: Rho = None,
    lr: Rate = None,
    eps: Epsilon = None,
    variant: Variant = None,
    device: Device = "cpu",
    as_json: AsJson = False,
) -> None:
    """Compute the score in float64.

    Uses the samples a proof would use, and proves nothing.
    """
    given = _given(steps=steps, batch_size=batch_size, rho=rho, lr=lr, eps=eps, variant=variant)
    found = api.measure(model, data, config=ProbeConfig(**given), beacon=beacon, seed=seed, device=device)
    if as_json:
        _json(found.to_dict())
        return
    table = Table("t")
    for heading in ("sharpness", "loss", "log ratio"):
        table.add_column(heading, justify="right")
    for t, row in enumerate(zip(found.sharpness, found.loss, found.log_ratio, strict=True)):
        table.add_row(str(t), *(f"{value:.9g}" for value in row))
    out.print(table)
    out.print(f"score  {found.score:.9f}")


@app.command()
def demo(
    directory: Annotated[
        str | None, typer.Option("--out", metavar="DIR", help="Keep model, data, announcement and proof there.")
    ] = None,
) -> None:
    """Show the whole path on LeNet-5.

    Trains on shipped Fashion-MNIST images, commits, announces, proves, verifies, and rejects forgeries.
    """
    with PhaseDisplay() as display:

        def say(text: str) -> None:
            display.stop()
            out.print(text)

        api.demo(directory, say=say, progress=display, planned=display.planned)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code. Errors are one line on stderr."""
    arguments = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    try:
        return app(arguments, prog_name="zkcert", standalone_mode=False) or 0
    except (ZkcertError, OSError, MemoryError) as error:
        code, line = failure(error)
    except (typer.Abort, KeyboardInterrupt):
        code, line = 130, "interrupted"
    except Exception as error:
        message = getattr(error, "format_message", None)  # typer's usage errors, whichever click it brings
        if message is None:  # a defect: not to be taken for a rejection
            traceback.print_exc()
            return 2
        code, line = failure(UnusableInput(f"{message().rstrip('.')} (see --help)"))
    err.print(line, style="bold red")
    return code


if __name__ == "__main__":
    sys.exit(main())
