"""The paper's cost table (arXiv 2606.25004, Table 6) beside measurements: `python -m benchmarks.cost --out DIR`.

Per model, at B = 8 and T = 5: time, size and memory of a proof as made here; the paper's estimate for its proof; and
its estimate for proving the whole sharpness-aware training (zkPoT of LATE-SAM), which goes per SGD iteration:

    cost = iterations * cost per iteration,  iterations = 155 |D| / B = 155 * 50,000 / 16 = 484,375.

What is timed, and how: benchmarks/measure.py. Results are saved after each model; a second run with the same DIR takes
what is there. The cost of a proof depends on the model's shape only, so random weights measure the same.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import MODEL, measure, random_samples
from benchmarks.plots import save_figure
from zkcert.data.dataset import load_dataset
from zkcert.errors import UnusableInput
from zkcert.files.writing import replace_file
from zkcert.public.defaults import PAPER_AUDIT
from zkcert.zoo import CIFAR10_INPUT, CIFAR100_INPUT, LENET5_INPUT

CONFIG = PAPER_AUDIT
TAU = "100"  # far above the score, which the benchmark is not about
EPOCHS = 45_000_000
"""A short training: as many epochs as give about so many parameter-samples, at least one."""

SAM_EPOCHS, SAM_SAMPLES, SAM_BATCH = 155, 50_000, 16
SAM_ITERATIONS = SAM_EPOCHS * SAM_SAMPLES // SAM_BATCH


@dataclass(frozen=True)
class Paper:
    """The paper's estimates: for its proof, and for the proof of training."""

    minutes: float
    megabytes: float
    training_hours: float
    training_gigabytes: float


@dataclass(frozen=True)
class Subject:
    """A model of the zoo: the name of its constructor, and the input it takes."""

    title: str
    constructor: str
    input: dict[str, Any]
    paper: Paper | None = None
    classes: int = 10


SUBJECTS = {
    "lenet": Subject("LeNet-5", "lenet5", LENET5_INPUT, Paper(23.63, 9.85, 26_016, 471.64)),
    "alexnet": Subject("AlexNet", "alexnet", CIFAR10_INPUT, Paper(55.43, 11.59, 63_830, 579.72)),
    "vgg11": Subject("VGG-11", "vgg11", CIFAR10_INPUT, Paper(88.87, 15.28, 118_671, 751.59)),
    "resnet18": Subject("ResNet-18", "resnet18", CIFAR10_INPUT),
    "vgg16bn": Subject("VGG-16 with batch-norm", "vgg16_bn", CIFAR10_INPUT),
    "wrn28_10": Subject("WRN-28-10", "wrn28_10", CIFAR100_INPUT, classes=100),
}


# --------------------------------------------------------------------------------------------------- running


def run(name: str, weights: Path | None, datasets: Sequence[str], room: Path | None = None) -> dict[str, Any]:
    """Measure one model. weights: a directory that may hold NAME.pt; datasets: what `zkcert commit` reads; the first
    with samples of the model's shape is used; room: the directory of a scratch file."""
    subject = SUBJECTS[name]
    shape = subject.input["shape"]
    data = next((path for path in datasets if list(load_dataset(path).x.shape[1:]) == shape), None)
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        trained = None if weights is None else next((p for p in candidates(weights, name) if p.exists()), None)
        if trained is not None:
            (place / MODEL).write_bytes(trained.read_bytes())
            origin = f"trained ({trained.name})"
        else:
            origin = build(subject, place / MODEL, data)
        samples: str | Path = data or random_samples(place / "noise.npz", shape, subject.classes)
        figures = measure(place, CONFIG, TAU, samples, subject.classes, room)
    return {"model": name, "title": subject.title, "weights": origin, **figures, **ratios(subject, figures)}


def candidates(weights: Path, name: str) -> tuple[Path, ...]:
    """Where a trained model may be."""
    return weights / f"{name}.pt", weights / f"{name}.safetensors", weights / name / MODEL


def build(subject: Subject, path: Path, data: str | None) -> str:
    """Write the zoo's model, trained for a short while if there are data; says which."""
    from zkcert import zoo
    from zkcert.convert import from_module

    constructor = getattr(zoo, subject.constructor, None)
    if constructor is None:
        raise UnusableInput(f"zkcert.zoo has no {subject.constructor}: {subject.title} cannot be measured")
    module, origin = constructor(seed=0), "untrained (random)"
    if data is not None:
        import torch

        from zkcert.data.normalised import input_values

        found = load_dataset(data)
        parameters = sum(p.numel() for p in module.parameters())
        count = min(len(found), 10_000)
        inputs = torch.tensor(input_values(subject.input, found.x[:count]), dtype=torch.float32)
        labels = torch.tensor(found.y[:count].astype(np.int64))
        epochs = max(1, min(8, EPOCHS // parameters))
        zoo.train(module, inputs, labels, epochs=epochs)
        origin = f"trained ({epochs} epochs on {count:,} samples)"
    module.eval()
    from_module(module, input=subject.input).save(path)
    return origin


def ratios(subject: Subject, figures: dict[str, Any]) -> dict[str, float]:
    """Measured over estimated; keys as benchmarks.lenet has them."""
    if subject.paper is None:
        return {}
    paper = subject.paper
    return {
        "prove_ratio_to_paper": figures["prove_seconds"] / (60 * paper.minutes),
        "bytes_ratio_to_paper": figures["proof_bytes"] / (1e6 * paper.megabytes),
        "speedup_to_paper": 60 * paper.minutes / figures["prove_seconds"],
        "speedup_to_training_proof": 3600 * paper.training_hours / figures["prove_seconds"],
        "shrink_to_training_proof": 1e9 * paper.training_gigabytes / figures["proof_bytes"],
    }


def iteration_seconds(prove_seconds: float) -> float:
    """What this prover takes for a gradient of SAM_BATCH samples, by its time for a probe of 2 T gradients of B."""
    return prove_seconds / (2 * CONFIG.steps) * SAM_BATCH / CONFIG.batch_size


# -------------------------------------------------------------------------------------------------- reporting


def markdown(found: Sequence[dict[str, Any]]) -> str:
    """The tables."""
    lines = [
        f"Probe with B = {CONFIG.batch_size}, T = {CONFIG.steps}; measured: this implementation; the other columns "
        "are the paper's estimates.",
        "",
        "| model | parameters | weights | prove | paper | speed-up | proof | paper | peak memory | verify |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for f in found:
        paper, speed = SUBJECTS[f["model"]].paper, f.get("speedup_to_paper")
        cells = [
            f["title"],
            f"{f['sizes']['parameters']:,}",
            f["weights"],
            f"{f['prove_seconds']:.1f} s",
            f"{60 * paper.minutes:.0f} s" if paper else "",
            f"{speed:.0f}" if speed else "",
            f"{f['proof_bytes'] / 1e6:.2f} MB",
            f"{paper.megabytes:.2f} MB" if paper else "",
            f"{f['peak_rss_bytes'] / 1e9:.2f} GB",
            f"{f['verify_seconds']:.1f} s",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        f"Against a proof of the whole training (zkPoT, LATE-SAM): {SAM_EPOCHS} |D| / B = {SAM_EPOCHS} * "
        f"{SAM_SAMPLES:,} / {SAM_BATCH} = {SAM_ITERATIONS:,} SGD iterations.",
        "",
        "| model | training proof | per iteration | its size | per iteration | speed-up | size ratio |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for f in found:
        if paper := SUBJECTS[f["model"]].paper:
            cells = [
                f["title"],
                f"{paper.training_hours:,.0f} h",
                f"{3600 * paper.training_hours / SAM_ITERATIONS:.1f} s",
                f"{paper.training_gigabytes:.2f} GB",
                f"{1e3 * paper.training_gigabytes / SAM_ITERATIONS:.3f} MB",
                f"{f['speedup_to_training_proof']:,.0f}",
                f"{f['shrink_to_training_proof']:,.0f}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "The last two columns set this prover beside the paper's estimate for another one: they mix two systems. "
        "Within one system: the paper's two estimates over each other, and this prover with itself, "
        f"{SAM_ITERATIONS:,} iterations of B = {SAM_BATCH} at the measured time of a gradient (a probe has "
        f"{2 * CONFIG.steps} of B = {CONFIG.batch_size}; what a proof shares between its steps is counted in). "
        "The latter follows from these counts, whatever the model: nothing of a training proof was run.",
        "",
        "| model | paper over paper | iteration, this prover | training, this prover | over a probe, this prover |",
        "| --- | --- | --- | --- | --- |",
    ]
    for f in found:
        if paper := SUBJECTS[f["model"]].paper:
            iteration = iteration_seconds(f["prove_seconds"])
            cells = [
                f["title"],
                f"{60 * paper.training_hours / paper.minutes:,.0f}",
                f"{iteration:.3g} s",
                f"{SAM_ITERATIONS * iteration / 3600:,.3g} h",
                f"{SAM_ITERATIONS * iteration / f['prove_seconds']:,.0f}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "Seconds per phase:", ""]
    names = list(dict.fromkeys(p["name"] for f in found for p in f["phases"]))
    lines += [f"| model | {' | '.join(names)} |", "|" + " --- |" * (1 + len(names))]
    for f in found:
        seconds = {p["name"]: f"{p['seconds']:.1f}" for p in f["phases"]}
        lines.append(f"| {f['title']} | {' | '.join(seconds.get(n, '') for n in names)} |")
    lines += ["", "| dataset | samples | commit | peak memory |", "| --- | --- | --- | --- |"]
    for f in found:
        peak = f"{f['commit_peak_rss_bytes'] / 1e9:.2f} GB" if "commit_peak_rss_bytes" in f else ""
        lines.append(f"| of {f['title']} | {f['samples_committed']:,} | {f['commit_seconds']:.1f} s | {peak} |")
    return "\n".join(lines) + "\n"


SHADES = ("#0b3c5d", "#6c9bb8", "#d7dee3")
"""Dark, middle, light: told apart on paper as well."""


def plot(found: Sequence[dict[str, Any]], place: Path) -> None:
    """cost-time.png and cost-bytes.png: what is measured between the paper's estimates, on a logarithmic axis."""
    both = [(f, paper) for f in found if (paper := SUBJECTS[f["model"]].paper)]
    if not both:
        return
    seconds = [(f["prove_seconds"], 60 * p.minutes, 3600 * p.training_hours) for f, p in both]
    size = [(f["proof_bytes"], 1e6 * p.megabytes, 1e9 * p.training_gigabytes) for f, p in both]
    titles = [f["title"] for f, _ in both]
    bars(
        place / "cost-time.png",
        f"Proving takes {times(seconds)} less time than the paper estimates",
        titles,
        seconds,
        span,
    )
    bars(place / "cost-bytes.png", f"Proofs are {times(size)} smaller than the paper estimates", titles, size, amount)


def times(values: Sequence[tuple[float, ...]]) -> str:
    """By how much the second number exceeds the first: the range over all."""
    found = sorted(theirs / ours for ours, theirs, *_ in values)
    low, high = (f"{x:.0f}" if x >= 10 else f"{x:.1f}" for x in (found[0], found[-1]))
    return f"{low} times" if low == high else f"{low} to {high} times"


def span(seconds: float) -> str:
    """Seconds in a unit that fits."""
    for unit, size in (("years", 365.25 * 86400), ("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def amount(size: float) -> str:
    """Bytes in a unit that fits."""
    return f"{size / 1e9:.3g} GB" if size >= 1e9 else f"{size / 1e6:.3g} MB"


def bars(
    path: Path,
    title: str,
    names: Sequence[str],
    values: Sequence[tuple[float, ...]],
    text: Callable[[float], str],
) -> None:
    """A group of three bars for each name, with their values beside them."""
    labels = ("measured", "the paper's estimate for its proof", "its estimate for a proof of the training")

    def draw(figure: Any) -> None:
        ax, y = figure.subplots(), np.arange(len(names))
        for i, (label, shade) in enumerate(zip(labels, SHADES, strict=True)):
            series = [v[i] for v in values]
            drawn = ax.barh(
                y + 0.27 * (i - 1), series, 0.25, label=label, color=shade, edgecolor="black", linewidth=0.5
            )
            ax.bar_label(drawn, [text(v) for v in series], padding=3)
        ax.set_xscale("log")
        ax.set_xlim(min(map(min, values)) / 3, max(map(max, values)) * 12)
        ax.set_yticks(y, names)
        ax.invert_yaxis()
        ax.tick_params(axis="x", which="both", bottom=False, labelbottom=False)  # each bar has its value
        ax.set_xlabel("logarithmic scale")
        ax.spines[["top", "right", "bottom"]].set_visible(False)
        figure.suptitle(title)
        figure.legend(loc="outside lower center", ncols=3, frameon=False)

    save_figure(path, draw, (9, 1.4 + 0.9 * len(names)))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cost", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", default="lenet,alexnet,vgg11", help=f"of {', '.join(SUBJECTS)}")
    parser.add_argument("--out", type=Path, metavar="DIR", required=True, help="JSON, Markdown and PNG go there")
    parser.add_argument("--weights", type=Path, metavar="DIR", help="trained models: NAME.pt or NAME/model.pt")
    parser.add_argument(
        "--data",
        nargs="+",
        default=[],
        metavar="PATH",
        help="datasets, as for zkcert commit: train for a while",
    )
    parser.add_argument("--scratch", type=Path, metavar="DIR", help="keep the digits in a file there, as zkcert prove")
    parser.add_argument("--again", action="store_true", help="measure also what DIR has already")
    args = parser.parse_args()
    names = args.models.split(",")
    if unknown := set(names) - set(SUBJECTS):
        parser.error(f"no model {', '.join(sorted(unknown))}: choose of {', '.join(SUBJECTS)}")
    args.out.mkdir(parents=True, exist_ok=True)
    found = []
    for name in names:
        path = args.out / f"{name}.json"
        if args.again or not path.exists():
            try:
                figures = run(name, args.weights, args.data, args.scratch)
            except UnusableInput as error:
                parser.exit(2, f"error: {error}\n")
            replace_file(path, (json.dumps(figures, indent=1) + "\n").encode())
        found.append(json.loads(path.read_text()))
        replace_file(args.out / "cost.md", markdown(found).encode())
        plot(found, args.out)
    print(markdown(found), end="")


if __name__ == "__main__":
    main()
