"""Complete proofs over everything a layout depends on: `python -m benchmarks.sweep --out DIR`.

The full product of steps, batch sizes, classes and kinds of data, with three networks that have every layer type; step
functions, statistics, and the size from which tensors are cut into blocks, are drawn. Each point commits to noise,
proves and verifies, in this process. The points come in one shuffled order, so that any first part of a run is a fair
sample; a line is printed per point, and kept in DIR, so that the same command goes on where it was interrupted.
Whatever is not accepted is recorded with its error, and the command ends with exit code 1.

    python -m benchmarks.sweep --out sweep --limit 100              the next hundred proofs
    python -m benchmarks.sweep --out sweep --only classes=257 steps=2,3
    python -m benchmarks.sweep --out sweep --covering               `covering`: every pair of values of all `FACTORS`
    python -m benchmarks.sweep --out sweep --digits 5e7             leave out what has more digits

The product has 750 points, the covering array some sixty, each of a second to some minutes.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from itertools import combinations, product
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from circuits.head.statistic import STATISTICS
from circuits.language.layout import SMALLEST_CUT, Layout
from circuits.net import RESIDUE_COST
from circuits.statement import certificate
from zkcert.core import sis
from zkcert.data.committed import CommittedDataset, commit
from zkcert.data.dataset import load_dataset
from zkcert.public.config import VARIANTS, ProbeConfig
from zkcert.public.model import Model
from zkcert.public.statement import MAX_TAU, Statement

SHAPE = (2, 5, 5)
WINDOW = 3
NETWORKS = ("mlp", "max", "avg", "add", "norm", "images", "patches", "tokens")
"""The last three have each layer type, all together every feature of a graph; see `network`."""
LAST = (("images", "u8"), ("images", "float32"), ("patches", "u8"), ("patches", "float32"), ("tokens", "tokens"))
"""With the data that they read."""

FACTORS: dict[str, tuple[Any, ...]] = {
    "steps": (2, 3, 7, 16, 64),
    "batch_size": (1, 2, 3, 7, 16, 64),
    "classes": (2, 10, 11, 100, 257),
    "network": NETWORKS,
    "kind": ("u8", "float32", "tokens"),
    "variant": VARIANTS,
    "statistic": STATISTICS,
    "smallest_cut": (2, 4, 16, 256, SMALLEST_CUT),
}
BEACON = b"sweep"


@dataclass(frozen=True)
class Point:
    """One proof."""

    steps: int
    batch_size: int
    classes: int
    network: str
    kind: str
    variant: str
    statistic: str
    smallest_cut: int

    @property
    def name(self) -> str:
        """Unique, and short enough for a line."""
        probe = f"T{self.steps}-B{self.batch_size}-{self.variant}-{self.statistic}"
        return f"{probe}-{self.network}-{self.classes}-{self.kind}-cut{self.smallest_cut}"

    @property
    def residue_cost(self) -> int:
        """With two of the sizes from which tensors are cut, every contraction that can be is a congruence."""
        return 0 if self.smallest_cut in (4, 256) else RESIDUE_COST

    @property
    def work(self) -> int:
        """What the cost of these small networks roughly goes with: passes, samples, and logits beside the layers."""
        places = WINDOW if self.kind == "tokens" else 1
        layers = 300 if self.network in ("patches", "tokens") else 100
        return (2 * self.steps - 1) * self.batch_size * (places * self.classes + layers)


def possible(values: Mapping[str, Any]) -> bool:
    """Whether some point has these values of factors: tokens are read by one network, which reads nothing else."""
    read = {values[name] == "tokens" for name in ("network", "kind") if name in values}
    return len(read) < 2


def whole() -> list[Point]:
    """The full product of steps, batch sizes, classes and kinds of data, in one shuffled order."""
    drawn = Random(2)
    points = [
        Point(*chosen, *last, *(drawn.choice(FACTORS[name]) for name in ("variant", "statistic", "smallest_cut")))
        for *chosen, last in product(*(FACTORS[name] for name in ("steps", "batch_size", "classes")), LAST)
    ]
    Random(0).shuffle(points)
    return points


# ------------------------------------------------------------------------------------------------ a covering array


def pairs_of(values: Mapping[str, Any]) -> set[tuple[str, Any, str, Any]]:
    """All pairs (factor, value, factor, value), factors in the order of `values`."""
    return {(a, x, b, y) for (a, x), (b, y) in combinations(values.items(), 2)}


def covering(candidates: int = 40) -> list[Point]:
    """Points that cover every pair of values of two factors: greedily, the cheapest of the best of some candidates."""
    rng, out = Random(1), list[Point]()
    left = {
        (a, x, b, y)
        for a, b in combinations(FACTORS, 2)
        for x, y in product(FACTORS[a], FACTORS[b])
        if possible({a: x, b: y})
    }
    while left:
        best: tuple[tuple[int, int], Point] | None = None
        pending = sorted(left, key=repr)
        for _ in range(candidates):
            a, x, b, y = rng.choice(pending)
            chosen = {a: x, b: y}
            for name in rng.sample(list(FACTORS), len(FACTORS)):
                if name not in chosen:
                    values = rng.sample(FACTORS[name], len(FACTORS[name]))
                    values = [value for value in values if possible({**chosen, name: value})]
                    gains = [_covered({**chosen, name: value}, left) for value in values]
                    chosen[name] = values[gains.index(max(gains))]
            point = Point(**chosen)
            merit = _covered(chosen, left), -point.work
            if best is None or merit > best[0]:
                best = merit, point
        assert best is not None
        out.append(best[1])
        left -= pairs_of(asdict(best[1]))
    return out


def _covered(chosen: Mapping[str, Any], left: set[tuple[str, Any, str, Any]]) -> int:
    return len(pairs_of({name: chosen[name] for name in FACTORS if name in chosen}) & left)


# ------------------------------------------------------------------------------------------------ one proof


def network(name: str, classes: int) -> Model:
    """A small network with random weights (the same for the same arguments)."""
    import torch
    from torch import nn

    from zkcert.convert import from_module

    class Residual(nn.Module):
        """Shortcuts of the samples and of a layer, a sum that no ReLU reads, and a sum of logits."""

        def __init__(self) -> None:
            super().__init__()
            self.convs = nn.ModuleList([nn.Conv2d(2, 2, 3, padding=1, bias=i != 1) for i in range(4)])
            self.hidden, self.first, self.second = nn.Linear(8, 8), nn.Linear(8, classes), nn.Linear(8, classes)

        def forward(self, x: Any) -> Any:
            x = torch.relu(self.convs[0](x) + x)
            x = torch.relu(self.convs[2](torch.relu(self.convs[1](x))) + x)
            x = self.convs[3](x) + x
            x = torch.flatten(nn.functional.max_pool2d(x, 2), 1)
            return self.first(x) + self.second(torch.relu(self.hidden(x)))

    class Normalised(nn.Module):
        """Batch-norms of the samples, before a ReLU, and before a sum and its ReLU."""

        def __init__(self) -> None:
            super().__init__()
            self.norms = nn.ModuleList([nn.BatchNorm2d(c) for c in (2, 3, 3)])
            self.convs = nn.ModuleList([nn.Conv2d(c, 3, 3, padding=1, bias=False) for c in (2, 3)])
            self.last = nn.Linear(3, classes)
            for norm in self.norms:
                nn.init.uniform_(norm.weight, 0.5, 1.5)
                nn.init.normal_(norm.running_mean)
                nn.init.uniform_(norm.running_var, 0.2, 3.0)

        def forward(self, x: Any) -> Any:
            x = torch.relu(self.norms[1](self.convs[0](self.norms[0](x))))
            x = torch.relu(self.norms[2](self.convs[1](x)) + x)
            return self.last(torch.flatten(nn.functional.adaptive_avg_pool2d(x, 1), 1))

    class Images(nn.Module):
        """Each layer type of images; of two classes with one logit."""

        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(2, 3, 3, padding=1, bias=False)
            self.second = nn.Conv2d(3, 3, 3, padding=2, dilation=2, groups=3)
            self.norm, self.own, self.slope = nn.BatchNorm2d(3), nn.GroupNorm(1, 3), nn.PReLU()
            self.last = nn.Linear(24, 1 if classes == 2 else classes)

        def forward(self, x: Any) -> Any:
            functional = nn.functional
            x = functional.max_pool2d(torch.relu(self.norm(self.first(x))), 3, stride=2, padding=1)
            y = functional.avg_pool2d(torch.relu(self.own(self.second(x)) + x), 2, ceil_mode=True)
            x = functional.relu6(functional.adaptive_avg_pool2d(x, 2))
            y = functional.hardswish(functional.leaky_relu(y)) * functional.hardsigmoid(
                self.slope(functional.adaptive_avg_pool2d(y, 1))
            )
            x = functional.gelu(x, approximate="tanh")
            x = functional.channel_shuffle(torch.cat([y, x], 1), 2)
            return self.last(torch.flatten(x, 1))

    class Patches(nn.Module):
        """A class token and four patches, each of which attends to all."""

        def __init__(self) -> None:
            super().__init__()
            self.first, self.own = nn.Conv2d(2, 4, 2, stride=2), nn.Parameter(torch.randn(1, 1, 4))
            self.places, self.last = nn.Parameter(torch.randn(5, 4)), nn.Linear(4, classes)
            self.layer = nn.TransformerEncoderLayer(4, 2, 6, 0, "gelu", batch_first=True)

        def forward(self, x: Any) -> Any:
            x = self.first(x).flatten(2).mT
            x = torch.cat([self.own.expand(len(x), 1, 4), x], 1) + self.places
            return self.last(self.layer(x)[:, 0])

    class Words(nn.Module):
        """Tokens of a window, which attend to themselves and those before; logits by the embedding's table."""

        def __init__(self) -> None:
            super().__init__()
            self.words, self.places = nn.Embedding(classes, 4), nn.Parameter(torch.randn(WINDOW, 4))
            self.layer = nn.TransformerEncoderLayer(4, 1, 6, 0, batch_first=True, norm_first=True)

        def forward(self, x: Any) -> Any:
            before = torch.ones(WINDOW, WINDOW).triu(1).bool()
            return self.layer(self.words(x) + self.places, before) @ self.words.weight.T

    torch.manual_seed(0)
    build: dict[str, Any] = {
        "mlp": lambda: nn.Sequential(nn.Flatten(), nn.Linear(50, 9), nn.ReLU(), nn.Linear(9, classes)),
        "max": lambda: nn.Sequential(  # of 7 x 7: the samples are padded
            nn.Conv2d(2, 3, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(3, 5, 2, bias=False),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(20, classes),
        ),
        "avg": lambda: nn.Sequential(
            nn.Conv2d(2, 4, (3, 2), stride=(2, 1), padding=(1, 0)),
            nn.ReLU(),
            nn.AvgPool2d(2, stride=1),
            nn.Flatten(),
            nn.Linear(24, classes, bias=False),
        ),
        "add": Residual,
        "norm": Normalised,
        "images": Images,
        "patches": Patches,
        "tokens": Words,
    }
    pad = int(name == "max")
    images = {"shape": list(SHAPE), "pad": pad, "mean": [0.4, 0.5], "std": [0.3, 0.25]}
    words = {"shape": [1, 1, WINDOW], "tokens": classes}
    return from_module(build[name]().eval(), input=words if name == "tokens" else images)


def statement_of(point: Point, place: Path) -> tuple[Statement, Model, CommittedDataset]:
    """The statement of a point about noise, which is committed in `place`."""
    rng = np.random.default_rng(0)
    count = point.steps * point.batch_size + 5
    data: Any = place / "noise.npz"
    if point.kind == "tokens":
        np.save(place / "noise.npy", rng.integers(0, point.classes, (count, WINDOW + 1)))
        data = load_dataset(place / "noise.npy", context=WINDOW)
    else:
        x: np.ndarray = rng.integers(0, 256, (count, *SHAPE), np.uint8)
        if point.kind == "float32":
            x = (x / 255).astype(np.float32)
        np.savez(data, x=x, y=rng.integers(0, point.classes, count))
    commit(data, place / "data.zkd", classes=point.classes)
    dataset = CommittedDataset.open(place / "data.zkd")
    model = network(point.network, point.classes)
    probe = {"variant": point.variant, "statistic": point.statistic}
    config = ProbeConfig(steps=point.steps, batch_size=point.batch_size, **probe)
    return replace(Statement.of(model, dataset.root, config, Fraction(MAX_TAU)), beacon=BEACON), model, dataset


def layout_of(statement: Statement, model: Model, point: Point) -> Layout:
    """Where everything will lie, known before the proof."""
    count = statement.config.steps * statement.config.batch_size
    hashes = np.zeros((count, sis.ROWS), np.uint64)
    cert = certificate(statement, model, hashes, point.residue_cost)
    return cert.close(statement.tau, smallest_cut=point.smallest_cut)


def prove_and_verify(point: Point, most_digits: float = float("inf")) -> dict[str, Any] | None:
    """The figures of a proof that was accepted; raises if it is not. None, if it would have more digits."""
    from prover.prove import prove_statement
    from verifier.verify import Expectations, verify_proof

    with tempfile.TemporaryDirectory() as folder:
        statement, model, dataset = statement_of(point, Path(folder))
        layout, scale = layout_of(statement, model, point), {"smallest_cut": point.smallest_cut}
        scale["residue_cost"] = point.residue_cost
        if layout.digit_count > most_digits:
            return None
        start = time.perf_counter()
        proved = prove_statement(statement, model, dataset, **scale)
        middle = time.perf_counter()
        expected = Expectations(statement.tau, dataset.root, statement.announcement_digest, BEACON, statement.config)
        report = verify_proof(proved.data, model, expected, **scale)
        stop = time.perf_counter()
    return {
        "digits": layout.digit_count,
        "congruences": len(layout.circuit.combinations),
        "blocks": sum(len(place.blocks) for place in layout.places.values()),
        "tensors": len(layout.places),
        "prove_seconds": round(middle - start, 2),
        "verify_seconds": round(stop - middle, 2),
        "proof_bytes": len(proved.data),
        "soundness_bits": round(report.soundness.bits, 2),
    }


# ------------------------------------------------------------------------------------------------ many of them


def selected(points: Iterable[Point], only: Sequence[str]) -> list[Point]:
    """The points with one of the given values of each factor; only: texts FACTOR=VALUE,... ValueError for others."""
    wanted: dict[str, set[str]] = {}
    for text in only:
        name, _, values = text.partition("=")
        known = set(map(str, FACTORS.get(name, ())))
        if not values or not set(values.split(",")) <= known:
            raise ValueError(f"{text}: give FACTOR=VALUE,... with the factors and values {FACTORS}")
        wanted[name] = set(values.split(","))
    return [p for p in points if all(str(getattr(p, name)) in values for name, values in wanted.items())]


def done_before(path: Path) -> dict[str, dict[str, Any]]:
    """Earlier results by name; of a line cut off by a kill there is none."""
    out = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        out[record["name"]] = record
    return out


def attempt(point: Point, most_digits: float) -> dict[str, Any] | None:
    """The record of a point, None if it is too large; no exception but an interruption ends the sweep."""
    try:
        found = prove_and_verify(point, most_digits)
    except Exception as error:
        return {"name": point.name, "error": f"{type(error).__name__}: {error}"}
    return None if found is None else {"name": point.name, **found}


def line_of(record: Mapping[str, Any]) -> str:
    if "error" in record:
        return f"{record['name']:<55} FAILED {record['error']}"
    figures = f"{record['digits'] / 1e6:8.2f} M digits, {record['blocks']:5} blocks of {record['tensors']} tensors"
    return f"{record['name']:<55} {figures}, {record['prove_seconds']:6.1f} s, {record['verify_seconds']:5.1f} s"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sweep", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, metavar="DIR", required=True, help="results.jsonl goes there")
    parser.add_argument("--limit", type=int, metavar="N", help="at most so many proofs in this run")
    parser.add_argument("--only", nargs="+", default=[], metavar="FACTOR=VALUE,...", help="of these values only")
    parser.add_argument("--covering", action="store_true", help="the covering array only")
    parser.add_argument("--digits", type=float, default=float("inf"), metavar="N", help="leave out larger proofs")
    args = parser.parse_args()
    try:
        points = selected(covering() if args.covering else whole(), args.only)
    except ValueError as error:
        parser.error(str(error))
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "results.jsonl"
    done = done_before(path)
    tried, large, started = 0, 0, time.perf_counter()
    with path.open("a") as file:
        if path.stat().st_size and not path.read_text().endswith("\n"):
            file.write("\n")
        for point in points:
            if point.name in done:
                continue
            if tried == args.limit:
                break
            record = attempt(point, args.digits)
            if record is None:
                large += 1
                continue
            tried += 1
            done[point.name] = record
            file.write(json.dumps(record) + "\n")
            file.flush()
            print(line_of(record), flush=True)
    mine = [done[p.name] for p in points if p.name in done]
    failed = [record for record in mine if "error" in record]
    print(
        f"{len(mine)} of {len(points)} points, {len(mine) - len(failed)} accepted, {len(failed)} failed; in this run "
        f"{tried} in {time.perf_counter() - started:.0f} s, {large} left out as too large"
    )
    for record in failed:
        print(line_of(record))
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
