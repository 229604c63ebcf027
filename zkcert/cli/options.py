"""Options that several commands share."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Annotated, Any

import typer

from zkcert.config import DEFAULT, VARIANTS

ModelFile = Annotated[str, typer.Argument(metavar="MODEL", help="model.pt or .safetensors; see README, Files.")]
ProofFile = Annotated[str, typer.Argument(metavar="PROOF", help="proof.bin.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Device = Annotated[str, typer.Option(help="Of the float computation: cpu or cuda.")]
Precision = Annotated[str, typer.Option("--dtype", help="Of the float computation: float64 or float32.")]
Samples = Annotated[str, typer.Argument(metavar="DATA", help="data.zkd, or a dataset as for commit.")]


def _default(name: str) -> str:
    """What a help text says of the value that holds where an option is not given."""
    value = getattr(DEFAULT, name)
    return f"[default: {f'{float(value):g}' if isinstance(value, Fraction) else value}]"


PROBE: dict[str, Any] = {
    "steps": Annotated[int | None, typer.Option(help=f"T, mini-batches probed. {_default('steps')}")],
    "batch_size": Annotated[int | None, typer.Option(help=f"B, samples per mini-batch. {_default('batch_size')}")],
    "rho": Annotated[str | None, typer.Option(help=f"Radius of the perturbation. {_default('rho')}")],
    "lr": Annotated[str | None, typer.Option("--lr", help=f"Learning rate; B/lr must be an integer. {_default('lr')}")],
    "eps": Annotated[str | None, typer.Option("--eps", help=f"Added to s^2/L. {_default('eps')}")],
    "variant": Annotated[str | None, typer.Option(help=f"{' or '.join(VARIANTS)}. {_default('variant')}")],
}
"""The configuration of a proof."""

METRIC: dict[str, Any] = {
    **PROBE,
    "lr": Annotated[str | None, typer.Option("--lr", help=f"Learning rate. {_default('lr')}")],
    "variant": Annotated[
        str | None, typer.Option(help=f"Step function: sam, asam-all or asam-samsung. {_default('variant')}")
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
