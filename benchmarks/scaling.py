"""How time, memory and proof size grow with the model, B and T: `python -m benchmarks.scaling --out DIR`.

Proves a family of small convolutional networks (random weights, random samples) and fits slopes. The measurements also
give the rates that `zkcert estimate` and the memory check use: `--calibrate` keeps them for this machine,
`--rates FILE` writes them elsewhere, and `--with DIR ...` adds measurements of benchmarks.cost or earlier runs.
Each proof is also predicted from all the others (prediction.md).
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import MODEL, measure, random_samples
from benchmarks.plots import save_figure
from zkcert.files.writing import replace_file
from zkcert.public.config import ProbeConfig

TAU = "100"
CLASSES = 10
INPUT = {"shape": [1, 16, 16], "pad": 0, "mean": [0.5], "std": [0.25]}


@dataclass(frozen=True)
class Point:
    """One network of the family: `width` channels, then twice as many."""

    width: int = 8
    batch_size: int = 4
    steps: int = 3

    @property
    def name(self) -> str:
        return f"width{self.width}-B{self.batch_size}-T{self.steps}"


SWEEPS: dict[str, tuple[Point, ...]] = {
    "parameters": tuple(Point(width=w) for w in (4, 8, 16, 32)),
    "batch_size": tuple(Point(batch_size=b) for b in (2, 4, 8, 16)),
    "steps": tuple(Point(steps=t) for t in (2, 3, 6, 12)),
}
COLUMNS = {
    "prove_seconds": "prove s",
    "peak_rss_bytes": "memory GB",
    "proof_bytes": "proof MB",
    "verify_seconds": "verify s",
}
TITLES = {
    "prove_seconds": "Time to prove",
    "peak_rss_bytes": "Memory of the prover",
    "proof_bytes": "Size of the proof",
    "verify_seconds": "Time to verify, in a fresh process",
}
UNITS = {"prove_seconds": 1.0, "peak_rss_bytes": 1e9, "proof_bytes": 1e6, "verify_seconds": 1.0}


def network(width: int) -> Any:
    """Two convolutions with pooling and a linear layer, PyTorch."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * width, CLASSES),
    )


def run(point: Point) -> dict[str, Any]:
    """Measure one network."""
    from zkcert.convert import from_sequential

    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        from_sequential(network(point.width), input=INPUT).save(place / MODEL)
        data = random_samples(place / "noise.npz", [1, 16, 16], CLASSES)
        config = ProbeConfig(steps=point.steps, batch_size=point.batch_size)
        return {"name": point.name, **measure(place, config, TAU, data)}


def slopes(sweep: str, figures: Sequence[dict[str, Any]]) -> dict[str, list[float]]:
    """Per column the least-squares line (intercept, slope) against the size the sweep varies."""
    x = np.array([f["sizes"][sweep] for f in figures], float)
    rows = np.stack([np.ones_like(x), x], axis=1)
    return {c: np.linalg.lstsq(rows, np.array([f[c] for f in figures], float), rcond=None)[0].tolist() for c in COLUMNS}


def table(sweep: str, figures: Sequence[dict[str, Any]]) -> str:
    """One sweep as Markdown, with the slopes."""
    lines = [
        f"| {sweep.replace('_', ' ')} | digits | {' | '.join(COLUMNS.values())} |",
        "|" + " --- |" * (2 + len(COLUMNS)),
    ]
    for f in figures:
        values = [f"{f[c] / UNITS[c]:.3g}" for c in COLUMNS]
        lines.append(f"| {f['sizes'][sweep]:,} | {f['sizes']['digits']:,} | {' | '.join(values)} |")
    found = slopes(sweep, figures)
    values = [f"{found[c][0] / UNITS[c]:.3g} + {found[c][1] / UNITS[c]:.3g} n" for c in COLUMNS]
    lines.append(f"| fit | | {' | '.join(values)} |")
    return "\n".join(lines)


def plot(done: dict[str, list[dict[str, Any]]], place: Path) -> None:
    """A figure per column, scaling-COLUMN.png: measurements and the fitted line, side by side for each sweep."""
    for column, label in COLUMNS.items():

        def draw(figure: Any, column: str = column, label: str = label) -> None:
            axes = figure.subplots(1, len(done), squeeze=False, sharey=True)[0]
            for ax, (sweep, figures) in zip(axes, done.items(), strict=True):
                x = np.array([f["sizes"][sweep] for f in figures], float)
                y, (a, b) = [f[column] / UNITS[column] for f in figures], slopes(sweep, figures)[column]
                ax.plot(x, (a + b * x) / UNITS[column], "-", color="#6c9bb8")
                ax.plot(x, y, "o", color="#0b3c5d")
                for at, value in zip(x, y, strict=True):
                    ax.annotate(f"{value:.3g}", (at, value), (0, 6), textcoords="offset points", ha="center")
                ax.set_ylim(0, 1.15 * max(max(f[column] for f in row) for row in done.values()) / UNITS[column])
                ax.margins(x=0.1)
                ax.set_xlabel(sweep.replace("_", " "))
                ax.spines[["top", "right"]].set_visible(False)
            axes[0].set_ylabel(label)
            figure.suptitle(f"{TITLES[column]}: measured, and a line fitted to it")

        save_figure(place / f"scaling-{column.split('_')[0]}.png", draw, (3.6 * len(done), 3.2))


def measurements(places: Iterable[Path]) -> list[dict[str, Any]]:
    """All measurements saved in directories by this benchmark and by benchmarks.cost."""
    found = []
    for place in places:
        for path in sorted(place.glob("*.json")):
            value = json.loads(path.read_text())
            if isinstance(value, dict) and {"sizes", "phases"} <= set(value):
                found.append(value)
    return found


def held_out(found: Sequence[dict[str, Any]]) -> str:
    """Each measured proof beside what rates fitted to all the others say of it, as Markdown."""
    from prover.resources import Sizes, fit_rates

    runs = [(Sizes(**f["sizes"]), f["phases"]) for f in found]
    lines = [
        "| proof | digits | prove s | predicted | ratio | memory GB | predicted | ratio |",
        "|" + " --- |" * 8,
    ]
    for i, (f, (sizes, _)) in enumerate(zip(found, runs, strict=True)):
        rates = fit_rates(runs[:i] + runs[i + 1 :])
        pairs = [
            (f["prove_seconds"], sum(rates.predict(sizes).values())),
            (f["peak_rss_bytes"] / 1e9, rates.peak_bytes(sizes) / 1e9),
        ]
        cells = [f"{actual:.3g} | {said:.3g} | {said / actual:.2f}" for actual, said in pairs]
        lines.append(f"| {f.get('title', f.get('name', ''))} | {sizes.digits:,} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("--out", type=Path, metavar="DIR", required=True, help="JSON, Markdown and PNG go there")
    parser.add_argument("--sweeps", default=",".join(SWEEPS), help=f"which of {', '.join(SWEEPS)} [default: all]")
    parser.add_argument("--with", dest="more", type=Path, nargs="*", default=[], metavar="DIR", help="fit these too")
    parser.add_argument("--calibrate", action="store_true", help="keep the rates for zkcert estimate on this machine")
    parser.add_argument("--rates", type=Path, metavar="FILE", help="write the rates there")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    done: dict[str, list[dict[str, Any]]] = {}
    for sweep in filter(None, args.sweeps.split(",")):
        done[sweep] = []
        for point in SWEEPS[sweep]:
            path = args.out / f"{point.name}.json"
            if not path.exists():
                replace_file(path, (json.dumps(run(point), indent=1) + "\n").encode())
            done[sweep].append(json.loads(path.read_text()))
        print(table(sweep, done[sweep]), end="\n\n", flush=True)
    if done:
        replace_file(args.out / "scaling.md", ("\n\n".join(table(s, f) for s, f in done.items()) + "\n").encode())
        fits = {sweep: slopes(sweep, figures) for sweep, figures in done.items()}
        replace_file(args.out / "slopes.json", (json.dumps(fits, indent=1) + "\n").encode())
        plot(done, args.out)
    found = measurements([args.out, *args.more])
    if len(found) > 2:
        prediction = held_out(found)
        replace_file(args.out / "prediction.md", (prediction + "\n").encode())
        print(prediction)
    if args.calibrate or args.rates:
        from prover.resources import Sizes, fit_rates, own_rates

        runs = [(Sizes(**f["sizes"]), f["phases"]) for f in found]
        path = args.rates or own_rates()
        fit_rates(runs).save(path)
        print(f"rates of {len(runs)} proofs in {path}")


if __name__ == "__main__":
    main()
