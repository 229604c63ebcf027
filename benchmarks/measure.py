"""Commit, announce, prove and verify one model, each step as a user would see it; what other benchmarks are made of.

Proving runs in a process of its own, after a tiny proof that compiles the kernels; its time covers everything from
reading the files to the finished, self-checked proof. Verifying runs as `python -m verifier`, a fresh process.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from zkcert import api
from zkcert.api.phases import peak_rss, reset_peak_rss
from zkcert.data.dataset import Dataset
from zkcert.errors import UnusableInput
from zkcert.public.config import ProbeConfig
from zkcert.public.model import Model
from zkcert.public.root import DatasetRoot
from zkcert.public.statement import Statement, check_tau

BEACON = "5a" * 32
MODEL, DATA, ROOT, ANNOUNCED, PROOF = "model.pt", "data.zkd", "data.root", "announce.json", "proof.bin"


def measure(
    place: Path,
    config: ProbeConfig,
    tau: str,
    data: str | Path | Dataset,
    classes: int | None = None,
    scratch: Path | None = None,
    log: Path | None = None,
) -> dict[str, Any]:
    """The figures of model.pt in `place`, which also gets data.zkd, data.root, announce.json and proof.bin.

    tau should be far above the score, which a benchmark is not about; `data` is read as `zkcert commit` does; scratch:
    the directory of a scratch file. log: where the processes' standard errors go; then UnusableInput says why one of
    them failed, else they show, and the error is CalledProcessError.
    """
    reset_peak_rss()
    committed = api.commit(data, place / DATA, classes=classes, force=True)
    commit_peak = peak_rss()
    api.announce(place / MODEL, place / ROOT, place / ANNOUNCED, tau=tau, config=config, force=True)
    command = ["--prove-in", place, "--steps", config.steps, "--batch-size", config.batch_size, "--tau", tau]
    command += ["--announced", *(["--scratch", scratch] if scratch else [])]
    proved = json.loads(_python("-m", "benchmarks.measure", *command, log=log))
    start = time.perf_counter()
    pins = ["--announcement", place / ANNOUNCED, "--beacon", BEACON, "--data-root", place / ROOT]
    pins += ["--config", f"steps={config.steps},batch_size={config.batch_size}"]
    verdict = json.loads(
        _python("-m", "verifier", place / PROOF, place / MODEL, "--tau", tau, *pins, "--json", log=log)
    )
    seconds = time.perf_counter() - start
    return {
        "prove_seconds": proved["seconds"],
        "peak_rss_bytes": proved["peak_rss_bytes"],
        "peak_anonymous_bytes": proved["peak_anonymous_bytes"],
        "proof_bytes": proved["bytes"],
        "verify_seconds": round(seconds, 3),
        "verify_in_process_seconds": verdict["seconds"],
        "soundness_bits": verdict["soundness_bits"],
        "samples_committed": committed.root.n,
        "commit_seconds": round(committed.seconds, 3),
        "commit_peak_rss_bytes": commit_peak,
        "steps": config.steps,
        "batch_size": config.batch_size,
        "sizes": proved["sizes"],
        "phases": proved["phases"],
    }


def _python(*arguments: object, log: Path | None = None) -> str:
    """Standard output of a Python process; for `log` and errors see `measure`."""
    command = [sys.executable, *map(str, arguments)]
    if log is None:
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    with log.open("w") as errors:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=errors, text=True)
    if done.returncode:
        last = next(reversed(log.read_text().splitlines()), f"ended with exit code {done.returncode}")
        raise UnusableInput(last.removeprefix("zkcert.errors."))
    return done.stdout


def prove_in(
    place: Path, config: ProbeConfig, tau: str, scratch: Path | None = None, *, announced: bool = False
) -> dict[str, Any]:
    """Warm the kernels up, then prove in this process. announced: by announce.json."""
    from prover.resources import sizes_of

    warm_up()
    with _anonymous_memory() as peaks:
        result = api.prove(
            place / MODEL,
            place / DATA,
            place / PROOF,
            tau=tau,
            config=config,
            announcement=place / ANNOUNCED if announced else None,
            beacon=BEACON,
            force=True,
            scratch=scratch,
            progress=lambda name, done: _say(name) if done is None else None,
        )
    model = Model.load(place / MODEL)
    statement = Statement.of(model, DatasetRoot.load(place / ROOT), config, check_tau(tau))
    return {**result.to_dict(), "peak_anonymous_bytes": peaks, "sizes": asdict(sizes_of(statement, model))}


@contextmanager
def _anonymous_memory(every: float = 0.2) -> Iterator[dict[str, int]]:
    """The most memory that is no file's, so that the system cannot drop it, of this process and of its control groups:
    looked at again and again, and left out where the system does not tell."""
    peaks: dict[str, int] = {}
    ended = threading.Event()
    sources = {"process": (Path("/proc/self/status"), "RssAnon:", 1024)}
    for line in _lines(Path("/proc/self/cgroup")):
        _, controllers, path = line.split(":", 2)
        if controllers == "memory":
            sources["group"] = Path(f"/sys/fs/cgroup/memory{path}/memory.stat"), "total_rss", 1
        elif not controllers:
            sources.setdefault("group", (Path(f"/sys/fs/cgroup{path}/memory.stat"), "anon", 1))

    def look() -> None:
        while not ended.wait(every):
            for name, (path, key, unit) in sources.items():
                found = [unit * int(line.split()[1]) for line in _lines(path) if line.split()[0] == key]
                peaks[name] = max([peaks.get(name, 0), *found])

    watch = threading.Thread(target=look, daemon=True)
    watch.start()
    try:
        yield peaks
    finally:
        ended.set()
        watch.join()


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def warm_up() -> None:
    """A proof of a tiny network."""
    from zkcert.convert import from_sequential
    from zkcert.zoo import mlp

    shape = {"shape": [1, 3, 4], "pad": 0, "mean": [0.5], "std": [0.25]}
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        from_sequential(mlp(12, [4], 2), input=shape).save(place / "tiny.safetensors")
        rng = np.random.default_rng(0)
        x, y = rng.integers(0, 256, (8, 1, 3, 4), dtype=np.uint8), np.arange(8) % 2
        np.savez(place / "tiny.npz", x=x, y=y)
        api.commit(place / "tiny.npz", place / "tiny.zkd")
        config = ProbeConfig(steps=2, batch_size=2)
        api.prove(place / "tiny.safetensors", place / "tiny.zkd", place / "tiny.bin", tau="100", config=config)


def random_samples(path: Path, shape: list[int], classes: int, count: int = 2000) -> Path:
    """Write noise as a dataset, .npz: the cost of a proof does not depend on the samples."""
    rng = np.random.default_rng(0)
    np.savez(path, x=rng.integers(0, 256, (count, *shape), dtype=np.uint8), y=np.arange(count) % classes)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.measure", description="Run by the other benchmarks.")
    parser.add_argument("--prove-in", type=Path, required=True, help="a directory with model.pt and data.zkd")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--tau", type=Fraction, required=True)
    parser.add_argument("--scratch", type=Path, metavar="DIR", help="where a scratch file may be")
    parser.add_argument("--announced", action="store_true", help="by the directory's announce.json")
    args = parser.parse_args()
    config = ProbeConfig(steps=args.steps, batch_size=args.batch_size)
    print(json.dumps(prove_in(args.prove_in, config, str(args.tau), args.scratch, announced=args.announced)))


if __name__ == "__main__":
    main()
