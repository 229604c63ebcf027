"""What a file that proves nothing can cost its verifier: `python -m benchmarks.worst_case --minutes N [--out FILE]`.

Searches for models and configurations that keep `python -m verifier` busy: each is written with a proof whose argument
is empty, or has sections of zeros as short as are not refused at once, and verified in a process of its own, whose
processor time and peak memory are measured. The costliest ones are changed a little and tried again. What the length
of the two files costs is allowed, and subtracted (SECONDS_PER_MB, BYTES_PER_BYTE). Exit code 1 beyond the limits.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from circuits.limits import least_lengths
from zkcert.core.container import ProofFile
from zkcert.core.proof import section
from zkcert.core.sis import ROWS
from zkcert.core.tree import MerkleTree
from zkcert.errors import ZkcertError
from zkcert.public.config import ProbeConfig
from zkcert.public.model import Model
from zkcert.public.root import TREE_NAME, DatasetRoot, Schema, leaf_digests
from zkcert.public.statement import Statement

SECONDS, MEGABYTES = 2.0, 300.0  # beyond those of an interpreter that imports the verifier, and of the files
SECONDS_PER_MB = {"model": 0.25, "proof": 0.02}  # the model's: batch-norms, 16 bytes per channel
BYTES_PER_BYTE = {"model": 3.0, "proof": 4.0}
MAX_MODEL_BYTES = 64 << 20
LARGEST = {"count": 1024, "width": 1 << 16, "kernel": 512, "steps": 1024, "batch": 1 << 16, "classes": 1100, "pad": 64}
OPS = ("linear", "conv2d", "batchnorm2d", "relu", "maxpool2d", "avgpool2d", "add", "fan", "doubling")
KINDS = ("u8", "q32")


@dataclass(frozen=True)
class Segment:
    """`count` nodes of one kind one after another; fan: so many layers that read the last node, added up."""

    op: str
    count: int = 1
    width: int = 1
    kernel: int = 1


@dataclass(frozen=True)
class Case:
    """A model and a statement about it."""

    segments: tuple[Segment, ...]
    shape: tuple[int, int, int] = (1, 1, 4)
    pad: int = 0
    classes: int = 2
    steps: int = 2
    batch: int = 1
    kind: str = "u8"
    variant: str = "asam-all"
    empty: bool = True


@dataclass(frozen=True)
class Cost:
    """Seconds of processor time and bytes of memory beyond what is allowed for, and what the command said."""

    seconds: float
    memory: float
    said: str

    @property
    def badness(self) -> float:
        """1 at a limit."""
        return max(self.seconds / SECONDS, self.memory / (MEGABYTES * 1e6))


STARTS = (
    Case((Segment("fan", 255, 2), Segment("fan", 250, 2)), (1, 1, 2)),
    Case((Segment("linear", 150, 4),)),
    Case((Segment("conv2d", 60, 16, 3), Segment("batchnorm2d", 60)), (3, 32, 32), steps=5, batch=8),
    Case((Segment("maxpool2d", 20, 1, 3),), (3, 64, 64)),
    Case((Segment("avgpool2d", 8, 1, 30),), (1, 70, 70)),
    Case((Segment("batchnorm2d", 100),), (1024, 1, 1)),
    Case((Segment("relu", 50), Segment("doubling", 900)), steps=1024, batch=64),
    Case((Segment("relu"),), (3, 290, 290), kind="q32"),
    Case((Segment("relu"),), (1000, 1, 2), kind="q32", classes=1023),
    Case((Segment("linear", 3, 64),), steps=1024, batch=64, classes=1000),
    Case((Segment("linear", 8, 4),), steps=1024),
    Case((Segment("conv2d", 3, 7, 3), Segment("maxpool2d", 2, 1, 2)), (3, 31, 27), steps=800, batch=7),
)


class Builder:
    """Nodes and tensors of a case, flat or spatial as they are needed."""

    def __init__(self, case: Case) -> None:
        channels, height, width = case.shape
        self.spec = {"shape": list(case.shape), "pad": case.pad, "mean": [0.5] * channels, "std": [0.25] * channels}
        self.nodes: list[dict[str, Any]] = []
        self.params: dict[str, np.ndarray] = {}
        self.shape = [channels, height + 2 * case.pad, width + 2 * case.pad]
        self.last = "@input"
        self.size = 0

    def node(self, op: str, inputs: Sequence[str] | None = None, **fields: Any) -> str:
        name = f"n{len(self.nodes)}"
        self.nodes.append({"op": op, "name": name, "inputs": list(inputs or [self.last]), **fields})
        self.last = name
        return name

    def tensor(self, shape: Sequence[int], value: float = 0.01) -> str:
        self.size += 4 * int(np.prod(shape))
        if self.size > MAX_MODEL_BYTES:
            raise ZkcertError("the file would be too large")
        name = f"t{len(self.params)}"
        self.params[name] = np.full(shape, value, np.float32)
        return name

    def linear(self, outputs: int, source: str | None = None) -> str:
        if len(self.shape) == 3:
            self.node("flatten", source and [source])
            self.shape, source = [int(np.prod(self.shape))], None
        weight = self.tensor((outputs, self.shape[0]))
        self.shape = [outputs]
        return self.node("linear", source and [source], weight=weight, bias=None)

    def window(self, op: str, segment: Segment) -> None:
        kernel = [min(segment.kernel, n) for n in self.shape[1:]]
        stride, channels = [1, 1], self.shape[0]
        if op == "conv2d":
            weight, channels = self.tensor((segment.width, channels, *kernel)), segment.width
            self.node(op, weight=weight, bias=None, stride=stride, padding=[k // 2 for k in kernel])
            self.shape = [channels, *(n + 2 * (k // 2) - k + 1 for n, k in zip(self.shape[1:], kernel, strict=True))]
        else:
            self.node(op, kernel=kernel, stride=stride)
            self.shape = [channels, *(n - k + 1 for n, k in zip(self.shape[1:], kernel, strict=True))]

    def segment(self, segment: Segment) -> None:
        op = segment.op
        if op in ("conv2d", "maxpool2d", "avgpool2d", "batchnorm2d") and len(self.shape) != 3:
            raise ZkcertError("flat already")
        if op == "fan":
            if len(self.shape) == 3:
                self.node("flatten")
                self.shape = [int(np.prod(self.shape))]
            source, shape, total = self.last, self.shape, ""
            for _ in range(segment.count):
                self.shape = shape
                branch = self.linear(segment.width, source)
                total = self.node("add", [total, branch]) if total else branch
            return
        for _ in range(segment.count):
            if op == "linear":
                self.linear(segment.width)
            elif op == "batchnorm2d":
                keys = {key: self.tensor((self.shape[0],), 1.0) for key in ("weight", "bias", "mean", "var")}
                self.node(op, eps=1e-5, **keys)
            elif op == "relu":
                self.node(op)
            elif op in ("add", "doubling"):
                other = self.last if op == "doubling" or len(self.nodes) < 2 else self.nodes[-2]["name"]
                self.node("add", [self.last, other])
            else:
                self.window(op, segment)

    def model(self, classes: int) -> Model:
        self.linear(classes)
        return Model(self.nodes, self.spec, self.params)


def files(case: Case, folder: Path) -> tuple[Path, Path]:
    """The model and a proof of nothing, written to the folder. Raises ZkcertError for a case that is no model."""
    builder = Builder(case)
    for segment in case.segments:
        builder.segment(segment)
    model = builder.model(case.classes)
    count = case.steps * case.batch
    config = ProbeConfig(case.steps, case.batch, lr=Fraction(case.batch, 80 * case.batch), variant=case.variant)
    hashes = np.zeros((count, ROWS), np.uint64)
    tree = MerkleTree(leaf_digests(range(count), hashes), TREE_NAME)
    schema = Schema(case.classes, case.kind, case.shape)
    statement = Statement.of(model, DatasetRoot(tree.root, count, schema), config, Fraction(100))
    sections = (64, *least_lengths(len(model.params)))
    argument = b"" if case.empty else b"".join(section(bytes(size)) for size in sections)
    proof = ProofFile(statement.header(), hashes, tree.multiproof(range(count)), argument).to_bytes()
    (folder / "proof.bin").write_bytes(proof)
    model.save(folder / "model.safetensors")
    return folder / "proof.bin", folder / "model.safetensors"


def run(arguments: Sequence[str], seconds: int = 120, memory: int = 8 << 30) -> tuple[float, int, str]:
    """Processor seconds, peak bytes and the last line of a verifier with these arguments, within limits."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))

    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    with tempfile.TemporaryFile() as said:
        command = [sys.executable, "-m", "verifier", *arguments]
        process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT, preexec_fn=limit, env=environment)
        _, _, used = os.wait4(process.pid, 0)
        process.returncode = 0  # waited for already
        said.seek(0)
        text = said.read().decode(errors="replace").strip()
    return used.ru_utime + used.ru_stime, used.ru_maxrss << 10, text.splitlines()[-1] if text else ""


def measure(case: Case, base: tuple[float, int]) -> Cost | None:
    """What a case costs beyond `base`, the seconds and bytes of a verifier without work; None if it is no model."""
    with tempfile.TemporaryDirectory() as name:
        try:
            proof, model = files(case, Path(name))
        except ZkcertError:
            return None
        sizes = {"proof": proof.stat().st_size, "model": model.stat().st_size}
        seconds, memory, said = run([str(proof), str(model), "--tau", "100"])
    for which, size in sizes.items():
        seconds -= SECONDS_PER_MB[which] * size / 1e6
        memory -= round(BYTES_PER_BYTE[which] * size)
    return Cost(seconds - base[0], memory - base[1], said)


def mutated(case: Case, rng: random.Random) -> Case:
    """The case with one thing changed."""

    def scaled(value: int, most: int, least: int = 1) -> int:
        return min(max(least, round(value * rng.choice((0.25, 0.5, 0.8, 1.25, 2, 4))) + rng.choice((-1, 0, 1))), most)

    def of_segments(segments: tuple[Segment, ...]) -> tuple[Segment, ...]:
        i, out = rng.randrange(len(segments)), list(segments)
        key = rng.choice(("count", "count", "width", "kernel", "op", "more", "less"))
        if key == "op":
            out[i] = replace(out[i], op=rng.choice(OPS))
        elif key == "more":
            numbers = [rng.choice(x) for x in ((1, 10, 100), (1, 8, 64), (1, 3))]
            out.insert(i, Segment(rng.choice(OPS), *numbers))
        elif key == "less" and len(out) > 1:
            del out[i]
        elif key in LARGEST:
            out[i] = replace(out[i], **{key: scaled(getattr(out[i], key), LARGEST[key])})
        return tuple(out)

    changes: list[Callable[[], dict[str, Any]]] = [
        *[lambda: {"segments": of_segments(case.segments)}] * 6,
        lambda: {"shape": tuple(scaled(n, LARGEST["width"]) for n in case.shape)},
        lambda: {"pad": scaled(case.pad, LARGEST["pad"], 0)},
        lambda: {"classes": scaled(case.classes, LARGEST["classes"], 2)},
        lambda: {"steps": scaled(case.steps, LARGEST["steps"], 2)},
        lambda: {"batch": scaled(case.batch, LARGEST["batch"])},
        lambda: {"kind": rng.choice(KINDS)},
        lambda: {"variant": rng.choice(("asam-all", "sam"))},
        lambda: {"empty": not case.empty},
    ]
    return replace(case, **rng.choice(changes)())


def search(minutes: float, seed: int = 0, starts: Sequence[Case] = STARTS, kept: int = 12) -> list[tuple[Cost, Case]]:
    """The costliest cases found, worst first; at least one is tried."""
    rng, end = random.Random(seed), time.monotonic() + 60 * minutes
    base = run(["missing", "missing", "--tau", "1"])[:2]
    found: list[tuple[Cost, Case]] = []
    waiting = [replace(case, empty=empty) for case in starts for empty in (False, True)]
    seen = set()
    while waiting or time.monotonic() < end:
        case = waiting.pop(0) if waiting else mutated(rng.choice(found)[1], rng)
        if case in seen:
            continue
        seen.add(case)
        cost = measure(case, base)
        if cost is not None and (not found or cost.badness > found[0][0].badness):
            again = measure(case, base)  # whoever else works on this machine slows it down
            cost = min(cost, again, key=lambda x: x.badness) if again else cost
        if cost is not None:
            found = sorted([*found, (cost, case)], key=lambda x: -x[0].badness)[:kept]
            if found[0][1] is case:
                print(f"{len(seen):>6}  {line(cost)}  {case}", flush=True)
        if time.monotonic() >= end and found:
            break
    return found


def line(cost: Cost) -> str:
    return f"{cost.seconds:6.2f} s {cost.memory / 1e6:6.0f} MB  {cost.said[:110]}"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.worst_case", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="a JSON file for the costliest cases")
    args = parser.parse_args(argv)
    found = search(args.minutes, args.seed)
    print("\ncostliest, beyond an idle verifier and what the files' length may cost:")
    for cost, case in found:
        print(f"{line(cost)}  {case}")
    if args.out:
        args.out.write_text(
            json.dumps([{"cost": asdict(c), "case": asdict(case)} for c, case in found], indent=1) + "\n"
        )
    return int(found[0][0].badness > 1)


if __name__ == "__main__":
    sys.exit(main())
