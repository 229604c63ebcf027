"""Options that several commands share."""

from __future__ import annotations

import functools
import inspect
import os
import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Annotated, Any

import typer

from zkcert import api
from zkcert.api.files import is_committed
from zkcert.cli.display import err
from zkcert.data.dataset import load_dataset
from zkcert.errors import MalformedProof, UnusableInput
from zkcert.public.defaults import DEFAULT
from zkcert.public.kinds import ANNOUNCEMENT, PROOF, kind_of
from zkcert.public.reading import read_file
from zkcert.public.root import NAMES_LIMIT

ModelFile = Annotated[
    str, typer.Argument(metavar="MODEL", help="The model, as `zkcert.convert` writes it: .pt or .safetensors.")
]
ProofFile = Annotated[str, typer.Argument(metavar="PROOF", help="The certificate, proof.bin.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Device = Annotated[str, typer.Option(help="Where PyTorch computes: cpu or cuda.")]
Precision = Annotated[str, typer.Option("--dtype", help="Precision of PyTorch's computation: float64 or float32.")]
CALIBRATED = "or a calibration.json, which also fixes the configuration."
ChainInfo = Annotated[
    str | None,
    typer.Option("--chain", metavar="FILE|NAME", help="info.json of a drand chain other than quicknet and default."),
]
Fetch = Annotated[
    str | None,
    typer.Option(
        "--fetch",
        metavar="drand|URL",
        help="If the file of --beacon is not there yet, fetch the announced round into it: from drand's servers, or "
        "that of URL. [default file: round.json]",
    ),
]
Samples = Annotated[str, typer.Argument(metavar="DATA", help="The samples: a data.zkd, or a dataset as for commit.")]


def _probe_option(name: str, kind: Any, text: str) -> Any:
    default = getattr(DEFAULT, name) if name != "eta" else Fraction(1, 100)
    shown = default if isinstance(default, str | int) else f"{float(default):g}"
    flag = f"--{name.replace('_', '-')}"
    return Annotated[kind | None, typer.Option(flag, help=f"{text} [default: {shown}]")]


_VARIANT = "How each weight's step is scaled: asam-all by its size, sam not at all, asam-shifted by its size plus eta"


PROBE: dict[str, Any] = {
    name: _probe_option(name, kind, text)
    for name, kind, text in (
        ("steps", int, "T: how many mini-batches the score is computed from."),
        ("batch_size", int, "B: samples in each mini-batch."),
        ("rho", str, "How far the weights are moved to see how the loss reacts."),
        ("lr", str, "Learning rate of the update between mini-batches; B/lr must be an integer."),
        ("eps", str, "Added to sharpness^2/loss before the logarithm; what is smaller hardly counts."),
        ("variant", str, f"{_VARIANT}, asam-samsung so for weights only."),
        ("eta", str, "The eta of asam-samsung and asam-shifted."),
        ("statistic", str, "The score: std-log-ratio, or of the sharpness by itself std, rms or max."),
        ("ddof", int, "What the deviation takes off the number of mini-batches."),
    )
}
"""The configuration of a proof."""

METRIC: dict[str, Any] = {
    **PROBE,
    "lr": _probe_option("lr", str, "Learning rate of the update between mini-batches."),
    "statistic": _probe_option(
        "statistic",
        str,
        "The score: std-log-ratio; of the sharpness by itself std, rms or max; or, without a proof, std-sharpness, "
        "std-log-sharpness, mean-sharpness or the cv-sharpness.",
    ),
    "batch_norm": Annotated[
        str | None, typer.Option(help="Running statistics (eval) or each mini-batch's (train). [default: eval]")
    ],
}
"""The probe of the float metrics."""

READING: dict[str, Any] = {
    "resize": Annotated[
        str | None, typer.Option(metavar="HxW", help="Scale pictures to this height and width. [default: not]")
    ],
    "label": Annotated[
        str | None, typer.Option(metavar="COLUMN", help="The labels' column of a table, by name or number.")
    ],
    "values": Annotated[
        str | None, typer.Option(help="Take the samples as bytes or as float32. [default: whole 0..255 as bytes]")
    ],
    "names": Annotated[
        str | None,
        typer.Option(
            metavar="A,B,...",
            help="The classes' public names, in the order of the labels, or a file of a name a line; empty: none.",
        ),
    ],
    "context": Annotated[
        int | None,
        typer.Option(metavar="L", help="The samples are windows of L tokens, of a .npy file or a text (.txt)."),
    ],
    "stride": Annotated[int | None, typer.Option(metavar="S", help="From one window to the next. [default: L]")],
    "vocabulary": Annotated[
        str | None,
        typer.Option(metavar="V", help="Of a text: characters, bytes, or a JSON file that lists characters."),
    ],
}
"""How datasets are read that can be read in several ways; see `reading`."""


def reading(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of READING that were typed, as `load_dataset` takes them. Raises UnusableInput."""
    out = dict(given)
    if (size := given.get("resize")) is not None:
        match = re.fullmatch(r"([0-9]{1,4})(?:x([0-9]{1,4}))?", size)
        if not match:
            raise UnusableInput(f"--resize takes a height and a width such as 32x32, not {size[:40]!r}")
        out["resize"] = int(match[1]), int(match[2] or match[1])
    if (names := given.get("names")) is not None:
        if os.path.isfile(names):
            try:
                out["names"] = read_file(names, NAMES_LIMIT).decode().splitlines()
            except UnicodeDecodeError as error:
                raise UnusableInput(f"{names}: no UTF-8 text of a name a line") from error
        else:
            out["names"] = names.split(",") if names else ()
    return out


def samples(data: str | None, given: Mapping[str, Any]) -> Any:
    """Samples as the functions take them: read here if options say how, else the name of their file."""
    if data is None or not given:
        return data
    if is_committed(data):
        raise UnusableInput(f"{data}: is committed, and read as it is: leave out --{' and --'.join(given)}")
    return load_dataset(data, **reading(given))


def fetched(server: str | None, source: str, beacon: str | None, chain: str | None) -> str | None:
    """The beacon; with a server the file of the round that `source`, an announcement or a proof, names: fetched from
    there unless it is there already."""
    if server is None or kind_of(source) not in (ANNOUNCEMENT, PROOF):
        return beacon  # what is wrong with the source is for others to say
    try:
        found = api.fetch_round(source, beacon or "round.json", server=server, chain=chain)
    except MalformedProof:
        return beacon
    if found.url is None:
        err.print(f"{found.path} is there already: nothing was fetched")
    else:
        err.print(f"fetched {found.url} into {found.path}")
    return str(found.path)


Given = dict[str, Any]
"""The options of a group that somebody typed; see `with_options`."""


def with_options(group: Mapping[str, Any], **others: Mapping[str, Any]) -> Callable[..., Callable[..., None]]:
    """A decorator that puts the options of `group` (name -> annotation) in the place of the parameter `given`, and
    those of other groups in the place of parameters of their names.

    The command is called with each of these holding those that were typed; fractional numbers are left as text, for
    whoever takes them exactly.
    """
    groups = {"given": group, **others}

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        kind = inspect.Parameter.KEYWORD_ONLY
        parameters: list[inspect.Parameter] = []
        for parameter in inspect.signature(command, eval_str=True).parameters.values():
            if parameter.name in groups:
                options = groups[parameter.name].items()
                parameters += [inspect.Parameter(n, kind, default=None, annotation=a) for n, a in options]
            else:
                parameters.append(parameter.replace(kind=kind))

        @functools.wraps(command)
        def call(**options: Any) -> None:
            typed = {
                place: {name: value for name in names if (value := options.pop(name)) is not None}
                for place, names in groups.items()
            }
            command(**typed, **options)

        vars(call)["__signature__"] = inspect.Signature(parameters)
        call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return call

    return decorate
