"""Training models."""

from __future__ import annotations

from typing import Annotated

import typer

from zkcert import api
from zkcert.cli.application import app
from zkcert.cli.display import err, out, print_json, progress_bar, warn
from zkcert.cli.options import READING, AsJson, Device, Given, Samples, samples, with_options
from zkcert.errors import UnusableInput
from zkcert.progress import duration


@app.command()
@with_options(READING)
def train(
    *,
    architecture: Annotated[str, typer.Argument(metavar="ARCH", help=f"{', '.join(api.ARCHITECTURES)}.")],
    data: Samples,
    file: Annotated[str, typer.Option("--out", "-o", help="The model file.")] = "model.pt",
    test: Annotated[str | None, typer.Option(metavar="DATA", help="Accuracy on these after each epoch.")] = None,
    optimizer: Annotated[str, typer.Option(help="adam, sgd, sam or asam.")] = "adam",
    epochs: Annotated[int, typer.Option(help="Passes over the data.")] = 10,
    batch_size: Annotated[int, typer.Option(help="Samples per mini-batch.")] = 64,
    lr: Annotated[
        float | None, typer.Option("--lr", help="Learning rate. [default: 0.001 for adam, else 0.05]")
    ] = None,
    momentum: Annotated[float | None, typer.Option(help="Of all but adam. [default: 0.9]")] = None,
    weight_decay: Annotated[float, typer.Option(help="Weight decay.")] = 0.0,
    rho: Annotated[float | None, typer.Option(help="Radius. [default: 0.05 for sam, 0.5 for asam]")] = None,
    warmup: Annotated[
        float | None,
        typer.Option(
            help="Share of the steps over which the rate rises; then it falls as a cosine. [default: constant]"
        ),
    ] = None,
    augment: Annotated[bool, typer.Option("--augment", help="Flip and shift the images at random.")] = False,
    hidden: Annotated[
        str | None, typer.Option(metavar="W,W,...", help="Widths of the hidden layers of an mlp: 128 by default.")
    ] = None,
    classes: Annotated[int | None, typer.Option(help="Number of classes. [default: the dataset's]")] = None,
    seed: Annotated[int, typer.Option(help="Of initialisation, order, augmentation and dropout.")] = 0,
    device: Device = "cpu",
    given: Given,
    force: Annotated[bool, typer.Option("--force", help="Replace a model file of that name.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train a model that can be measured and proved.

    Without GPU, take the small architectures.
    """
    lines: list[str] = []
    bar = err.is_terminal and (as_json or out.is_terminal)
    with progress_bar("training") as progress:

        def epoch_done(epoch: int, loss: float, accuracy: float | None) -> None:
            reached = "" if accuracy is None else f"  test accuracy {accuracy:.4f}"
            lines.append(f"epoch {epoch + 1:<4} loss {loss:.6f}{reached}")
            if err.is_terminal:
                progress(epoch + 1, epochs, f"loss {loss:.4f}{reached}")
            if not bar:
                (err if as_json else out).print(lines[-1])

        found = api.train(
            architecture,
            samples(data, given),
            file,
            test=samples(test, given),
            optimizer=optimizer,
            epochs=epochs,
            batch_size=batch_size,
            lr=lr,
            momentum=momentum,
            weight_decay=weight_decay,
            rho=rho,
            warmup=warmup,
            augment=augment,
            hidden=_widths(hidden),
            classes=classes,
            seed=seed,
            device=device,
            force=force,
            progress=epoch_done,
            warned=warn,
        )
    if as_json:
        print_json(found.to_dict())
        return
    for line in lines if bar else ():
        out.print(line)
    out.print(f"model  {found.path}: {found.architecture}, {found.parameters:,} parameters, {found.classes} classes")
    out.print(f"train accuracy {found.accuracy:.4f} in {duration(found.seconds)}")


def _widths(text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise UnusableInput(f"--hidden takes numbers such as 128 or 256,128, not {text[:40]!r}") from error
