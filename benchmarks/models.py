"""The table of docs/MODELS.md: `python -m benchmarks.models --out docs`.

Each of the models that people have (benchmarks/subjects.py) is made with random weights, converted, estimated, and, if
that fits the memory, committed to, announced, proved and verified, each step as a user would take it. A row is written
after each model to DIR/models.json, and the table of all rows to DIR/MODELS.md; a second run does what is not done yet.

Random weights have no gradient behind dozens of batch-norms that normalise nothing, so batch-norms get the statistics
of some samples first (and a variance of 2^-10 at least: random weights leave channels that hardly vary, which would be
multiplied by hundreds). What a proof costs depends on the shapes alone.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.measure import MODEL, measure, random_samples
from benchmarks.subjects import SUBJECTS, Absent, Subject
from zkcert import api
from zkcert.api.sources import Obstacle, read_source
from zkcert.data.dataset import Dataset, load_dataset
from zkcert.data.normalised import input_values
from zkcert.errors import UnusableInput, ZkcertError
from zkcert.files.writing import replace_file
from zkcert.public.config import ProbeConfig
from zkcert.public.model import Model

CONFIG = ProbeConfig(steps=2, batch_size=2)
TAU = "100"  # far above the score, which the benchmark is not about
SAMPLES = 64
LEAST_VARIANCE = 2.0**-10
ROWS, TABLE = "models.json", "MODELS.md"
REASONS = 3
"""So many of the reasons for which a model has no circuit are shown."""


@dataclass(frozen=True)
class Options:
    """Which models are proved: those of at most so many digits, and for which the memory is there. room: the directory
    of a scratch file, for those that it makes fit. datasets: what `zkcert commit` reads, for models of their shape."""

    digits: float = float("inf")
    room: Path | None = None
    datasets: Sequence[str] = ()


# --------------------------------------------------------------------------------------------------- running


def run(subject: Subject, options: Options) -> dict[str, Any]:
    """The row of a model; its "state" is "proved", or what stands in the way: "absent" (a package), "refused" (no
    circuit), "large" (no memory), "left" (more digits than were asked for), "failed"."""
    row: dict[str, Any] = {
        "title": subject.title,
        "package": _package(subject.package),
        "shape": list(subject.shape),
        "classes": subject.classes,
        "task": subject.task,
        "date": date.today().isoformat(),
    }
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        try:
            torch.manual_seed(0)
            module = subject.make()
        except Absent as absent:
            return {**row, "state": "absent", "reasons": [str(absent)]}
        row["parameters"] = sum(p.numel() for p in module.parameters())
        shape = list(subject.shape)
        if subject.tokens:
            data, spec = None, {"shape": shape, "tokens": subject.classes}
            samples = random_tokens(shape[2], subject.classes, SAMPLES)
        else:
            data = next((path for path in options.datasets if list(load_dataset(path).x.shape[1:]) == shape), None)
            samples = data or random_samples(place / "noise.npz", shape, subject.classes, SAMPLES)
            spec = {"shape": shape, "pad": 0, "mean": [0.5] * shape[0], "std": [0.25] * shape[0]}
            take_statistics(module, input_values(spec, load_dataset(samples).x[:SAMPLES]))
        row["data"] = Path(data).name if data else "noise"
        start = time.perf_counter()
        source = read_source(module, input=spec)
        row |= {"convert_seconds": round(time.perf_counter() - start, 2), "notes": list(source.notes)}
        if source.model is None:
            return {**row, "state": "refused", "reasons": [reason(obstacle) for obstacle in source.obstacles]}
        return row | proved(source.model, samples, subject.classes, place, options)


def reason(obstacle: Obstacle) -> str:
    """Why, without what to do instead, and how many layers say so."""
    count = len(obstacle.layers)
    return obstacle.why.partition(": make it of ")[0] + (f" ({count} layers)" if count > 1 else "")


def random_tokens(context: int, count: int, n: int) -> Dataset:
    """Windows of random tokens."""
    tokens = np.random.default_rng(0).integers(0, count, (n, context + 1))
    return load_dataset(tokens, context=context)


def proved(model: Model, samples: str | Path | Dataset, classes: int, place: Path, options: Options) -> dict[str, Any]:
    """What is known of a model that was converted: its estimate, and the figures of its proof."""
    model.save(place / MODEL)
    try:
        estimate = api.estimate(place / MODEL, config=CONFIG)
    except ZkcertError as error:
        return {"state": "refused", "reasons": [str(error)]}
    row: dict[str, Any] = {"estimate": estimate.to_dict()}
    if estimate.sizes.digits > options.digits:
        return row | {"state": "left"}
    room = None
    if estimate.available is not None and estimate.peak_bytes > estimate.available:
        room = options.room
        if room is None or estimate.scratch_peak_bytes > estimate.available:
            return row | {"state": "large"}
    try:
        figures = measure(place, CONFIG, TAU, samples, classes, room, log=place / "log")
    except UnusableInput as error:
        return row | {"state": "failed", "reasons": [str(error)]}
    return row | {"state": "proved", "scratch": room is not None, "figures": figures}


def take_statistics(module: nn.Module, x: np.ndarray) -> None:
    """Give batch-norms the statistics of a batch, and LEAST_VARIANCE; a module of sequences or vectors reads
    samples without the axes of one entry. UnusableInput if it reads no such samples."""
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    inputs = torch.tensor(x, dtype=next(module.parameters()).dtype)
    module.train()
    error: Exception | None = None
    for batch in (inputs, inputs.squeeze(2), inputs.flatten(1)):
        for m in norms:
            m.reset_running_stats()
            m.momentum = None  # an average over all batches: of one, that batch
        try:
            with torch.no_grad():
                module(batch)
            break
        except (RuntimeError, ValueError) as refused:
            error = error or refused
    else:
        raise UnusableInput(f"the module does not run on a batch of samples: {error}")
    for m in norms:
        if m.running_var is not None:
            m.running_var.clamp_(min=LEAST_VARIANCE)
    module.eval()


def _package(name: str) -> str:
    """A package with its version, where it has one."""
    with suppress(PackageNotFoundError):
        return f"{name} {version(name)}" if name else ""
    return name


# -------------------------------------------------------------------------------------------------- reporting


HEAD = f"""# The models that people have

Which models go through announce, prove and verify as they come, with figures, and why the others do not. One command
makes the rows and this text:

    python -m benchmarks.models --out docs

Weights are random, with the statistics of some samples in batch-norms; samples are noise unless the row names data;
B = {CONFIG.batch_size}, T = {CONFIG.steps}. What a proof takes depends on the shapes alone. Predicted are digits,
memory and time by `zkcert estimate`; measured is a proof in a process of its own, from reading the files to the
self-check, and `python -m verifier`. Rows are of the day they name, on two cores and 23 GiB that other programs used
as well: times, the predicted ones too, can be up to twice those of a free machine. Torchvision, timm and
transformers are taken if they are installed (benchmarks/subjects.py says how).

| model | samples | parameters | digits | predicted | proved in | peak | proof | verified in | |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
"""

STATES = {
    "absent": "not tried",
    "refused": "**no circuit**",
    "large": "**does not fit the memory**",
    "left": "not run yet: the command without `--digits` does it",
    "failed": "**failed**",
    "proved": "",
}


def markdown(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """The text of docs/MODELS.md, in the order of the subjects."""
    known = [name for name in SUBJECTS if name in rows] + [name for name in rows if name not in SUBJECTS]
    left = [subject.title for name, subject in SUBJECTS.items() if name not in rows]
    tail = f"\nWithout a row yet, until the command is run for them: {', '.join(left)}.\n" if left else ""
    return HEAD + "".join(f"| {' | '.join(cells(rows[name]))} |\n" for name in known) + tail


def cells(row: Mapping[str, Any]) -> list[str]:
    """Those of a row of the table."""
    package = f" ({row['package']})" if row["package"] else ""
    samples = row["task"] or "x".join(map(str, row["shape"]))
    if row.get("data", "noise") != "noise":
        samples += f", {row['data']}"
    out = [row["title"] + package, samples, f"{row['parameters']:,}" if "parameters" in row else ""]
    estimate = row.get("estimate")
    if estimate is None:
        out += [""] * 2
    else:
        predicted = f"{estimate['peak_bytes'] / 1e9:.1f} GB"
        if row["state"] == "large":
            predicted += f" ({estimate['scratch_peak_bytes'] / 1e9:.1f} with `--scratch`)"
        out += [f"{estimate['digits'] / 1e6:,.1f} M", f"{predicted}, {estimate['seconds']:.0f} s"]
    if row["state"] == "proved":
        figures = row["figures"]
        out += [
            f"{figures['prove_seconds']:.0f} s",
            f"{figures['peak_rss_bytes'] / 1e9:.2f} GB",
            f"{figures['proof_bytes'] / 1e6:.2f} MB",
            f"{figures['verify_seconds']:.1f} s",
        ]
    else:
        out += [""] * 4
    reasons = row.get("reasons", [])
    more = f"; and {len(reasons) - REASONS} more reasons" if len(reasons) > REASONS else ""
    said = [STATES[row["state"]], "; ".join(map(shortened, reasons[:REASONS])) + more]
    said += ["with `--scratch`"] if row.get("scratch") else []
    said += row.get("notes", []) if row["state"] == "proved" else []
    return [*out, ": ".join(filter(None, said[:2])) + "; ".join(said[2:]) + f" ({row['date']})"]


def shortened(text: str, most: int = 160) -> str:
    """A reason as a part of a cell of a table."""
    text = text.replace("|", "\\|").replace("\n", " ")
    return text if len(text) <= most else text[: most - 3] + "..."


def load_rows(path: Path) -> dict[str, dict[str, Any]]:
    """Earlier rows; UnusableInput if the file is none of ours."""
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text())
        if not isinstance(found, dict) or not all(row["state"] in STATES for row in found.values()):
            raise ValueError("no rows")
    except (ValueError, TypeError, KeyError) as error:
        raise UnusableInput(f"{path} holds no rows of this command: {error}; give another --out") from error
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.models",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"models: {', '.join(SUBJECTS)}",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", required=True, help=f"{ROWS} and {TABLE} go there")
    parser.add_argument("--models", metavar="NAME,...", default=",".join(SUBJECTS), help="these only")
    parser.add_argument("--digits", type=float, default=float("inf"), metavar="N", help="estimate only what has more")
    parser.add_argument("--scratch", type=Path, metavar="DIR", help="for what does not fit the memory otherwise")
    parser.add_argument(
        "--data", nargs="+", default=[], metavar="PATH", help="datasets, instead of noise where they fit"
    )
    parser.add_argument("--again", action="store_true", help="also what was proved or refused already")
    args = parser.parse_args()
    names = args.models.split(",")
    if unknown := set(names) - set(SUBJECTS):
        parser.error(f"no model {', '.join(sorted(unknown))}: choose of {', '.join(SUBJECTS)}")
    args.out.mkdir(parents=True, exist_ok=True)
    options = Options(args.digits, args.scratch, args.data)
    path = args.out / ROWS
    try:
        for name in names:
            rows = load_rows(path)  # of another run meanwhile too
            if not args.again and rows.get(name, {}).get("state") == "proved":
                continue
            row = run(SUBJECTS[name], options)
            rows = {**load_rows(path), name: row}
            replace_file(path, (json.dumps(rows, indent=1) + "\n").encode())
            replace_file(args.out / TABLE, markdown(rows).encode())
            print(f"{name}: {' | '.join(cells(row)[3:])}", flush=True)
    except UnusableInput as error:
        parser.exit(2, f"error: {error}\n")


if __name__ == "__main__":
    main()
