"""Options that several commands share."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer

from zkcert.config import VARIANTS

ModelFile = Annotated[str, typer.Argument(metavar="MODEL", help="model.pt or .safetensors; see README, Files.")]
ProofFile = Annotated[str, typer.Argument(metavar="PROOF", help="proof.bin.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Device = Annotated[str, typer.Option(help="Of the float computation: cpu or cuda.")]
Precision = Annotated[str, typer.Option("--dtype", help="Of the float computation: float64 or float32.")]
Samples = Annotated[str, typer.Argument(metavar="DATA", help="data.zkd, or a dataset as for commit.")]

PROBE: dict[str, Any] = {
    "steps": Annotated[int | None, typer.Option(help="T, mini-batches probed. [default: 10]")],
    "batch_size": Annotated[int | None, typer.Option(help="B, samples per mini-batch. [default: 16]")],
    "rho": Annotated[str | None, typer.Option(help="Radius of the perturbation. [default: 0.05]")],
    "lr": Annotated[str | None, typer.Option("--lr", help="Learning rate; B/lr must be an integer. [default: 1e-4]")],
    "eps": Annotated[str | None, typer.Option("--eps", help="Added to s^2/L. [default: 1e-8]")],
    "variant": Annotated[str | None, typer.Option(help=f"{' or '.join(VARIANTS)}. [default: asam-all]")],
}
"""The configuration of a proof."""

METRIC: dict[str, Any] = {
    **PROBE,
    "lr": Annotated[str | None, typer.Option("--lr", help="Learning rate. [default: 1e-4]")],
    "variant": Annotated[
        str | None, typer.Option(help="Step function: sam, asam-all or asam-samsung. [default: asam-all]")
    ],
    "eta": Annotated[str | None, typer.Option("--eta", help="Of asam-samsung. [default: 0.01]")],
    "statistic": Annotated[
        str | None,
        typer.Option(help="The score: std-log-ratio, std-sharpness or cv-sharpness. [default: std-log-ratio]"),
    ],
    "batch_norm": Annotated[
        str | None, typer.Option(help="Running statistics (eval) or each mini-batch's (train). [default: eval]")
    ],
}
"""The probe of the float metrics."""

Given = dict[str, Any]
"""The options of a group that somebody typed; see `with_options`."""


def with_options(group: Mapping[str, Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A decorator that puts the options of `group` (name -> annotation) in the place of the parameter `given`.

    The command is called with `given` holding those that were typed; fractional numbers are left as text, for whoever
    takes them exactly.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        kind = inspect.Parameter.KEYWORD_ONLY
        parameters: list[inspect.Parameter] = []
        for parameter in inspect.signature(command, eval_str=True).parameters.values():
            if parameter.name == "given":
                parameters += [inspect.Parameter(n, kind, default=None, annotation=a) for n, a in group.items()]
            else:
                parameters.append(parameter.replace(kind=kind))

        @functools.wraps(command)
        def call(**options: Any) -> None:
            command(given={name: value for name in group if (value := options.pop(name)) is not None}, **options)

        vars(call)["__signature__"] = inspect.Signature(parameters)
        call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return call

    return decorate
