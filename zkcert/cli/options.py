"""Options that several commands share."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer

from zkcert.public.config import DEFAULT

ModelFile = Annotated[
    str, typer.Argument(metavar="MODEL", help="The model, as `zkcert.convert` writes it: .pt or .safetensors.")
]
ProofFile = Annotated[str, typer.Argument(metavar="PROOF", help="The certificate, proof.bin.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Device = Annotated[str, typer.Option(help="Where PyTorch computes: cpu or cuda.")]
Precision = Annotated[str, typer.Option("--dtype", help="Precision of PyTorch's computation: float64 or float32.")]
Samples = Annotated[str, typer.Argument(metavar="DATA", help="The samples: a data.zkd, or a dataset as for commit.")]


def _probe_option(name: str, kind: Any, text: str) -> Any:
    default = getattr(DEFAULT, name)
    shown = default if isinstance(default, str | int) else f"{float(default):g}"
    flag = f"--{name.replace('_', '-')}"
    return Annotated[kind | None, typer.Option(flag, help=f"{text} [default: {shown}]")]


_VARIANT = "How each weight's step is scaled: asam-all by the size of the weight, sam not at all"


PROBE: dict[str, Any] = {
    name: _probe_option(name, kind, text)
    for name, kind, text in (
        ("steps", int, "T: how many mini-batches the score is computed from."),
        ("batch_size", int, "B: samples in each mini-batch."),
        ("rho", str, "How far the weights are moved to see how the loss reacts."),
        ("lr", str, "Learning rate of the update between mini-batches; B/lr must be an integer."),
        ("eps", str, "Added to sharpness^2/loss before the logarithm; what is smaller hardly counts."),
        ("variant", str, f"{_VARIANT}."),
    )
}
"""The configuration of a proof."""

METRIC: dict[str, Any] = {
    **PROBE,
    "lr": _probe_option("lr", str, "Learning rate of the update between mini-batches."),
    "variant": _probe_option("variant", str, f"{_VARIANT}, asam-samsung as Samsung's ASAM does."),
    "eta": Annotated[str | None, typer.Option("--eta", help="The eta of asam-samsung. [default: 0.01]")],
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
