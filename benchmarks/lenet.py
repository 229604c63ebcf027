"""Prove and verify LeNet-5 with B = 8, T = 5, and compare with the paper's estimate: `python -m benchmarks.lenet`.

Proving runs in a process of its own, after a tiny proof that compiles the kernels; its time covers everything from
reading the files to the finished, self-checked proof. Verifying runs as `python -m verifier`, a fresh process.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from zkcert import api
from zkcert.config import ProbeConfig

PAPER_SECONDS = 23.63 * 60
PAPER_BYTES = 9.85e6
"""arXiv 2606.25004: its estimate for LeNet, B = 8, T = 5."""

TAU = "3"  # far above the score, which the benchmark is not about
BEACON = "5a" * 32
CONFIG = ProbeConfig(steps=5, batch_size=8)


def run(data: str | None) -> dict[str, Any]:
    """Train briefly, commit, prove, verify: the figures."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        api.train_lenet(place / "model.pt", place / "slice.npz")
        committed = api.commit(data or place / "slice.npz", place / "data.zkd")
        proved = json.loads(_python("-m", "benchmarks.lenet", "--prove-in", name))
        start = time.perf_counter()
        verdict = json.loads(_python("-m", "verifier", place / "proof.bin", place / "model.pt", "--tau", TAU, "--json"))
        seconds = time.perf_counter() - start
    return {
        "prove_seconds": proved["seconds"],
        "peak_rss_bytes": proved["peak_rss_bytes"],
        "proof_bytes": proved["bytes"],
        "verify_seconds": round(seconds, 3),
        "verify_in_process_seconds": verdict["seconds"],
        "prove_ratio_to_paper": proved["seconds"] / PAPER_SECONDS,
        "bytes_ratio_to_paper": proved["bytes"] / PAPER_BYTES,
        "samples_committed": committed.root.n,
        "commit_seconds": round(committed.seconds, 3),
        "phases": proved["phases"],
    }


def _python(*arguments: object) -> str:
    """Standard output of a Python process; its errors show, and end the benchmark."""
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def prove_in(place: Path) -> dict[str, Any]:
    """Warm the kernels up, then prove in this process."""
    _warm_up(place)
    result = api.prove(
        place / "model.pt", place / "data.zkd", place / "proof.bin", tau=TAU, config=CONFIG, beacon=BEACON
    )
    return result.to_dict()


def _warm_up(place: Path) -> None:
    """A proof of a tiny network."""
    from zkcert.convert import from_sequential
    from zkcert.zoo import mlp

    shape = {"shape": [1, 3, 4], "pad": 0, "mean": [0.5], "std": [0.25]}
    from_sequential(mlp(12, [4], 2), input=shape).save(place / "tiny.safetensors")
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (8, 1, 3, 4), dtype=np.uint8), np.arange(8) % 2
    np.savez(place / "tiny.npz", x=x, y=y)
    api.commit(place / "tiny.npz", place / "tiny.zkd")
    config = ProbeConfig(steps=2, batch_size=2)
    api.prove(place / "tiny.safetensors", place / "tiny.zkd", place / "tiny.bin", tau="100", config=config)


def report(figures: dict[str, Any]) -> str:
    """The figures for people."""
    lines = [f"{'phase':<16}{'seconds':>9}{'peak GB':>9}"]
    for phase in figures["phases"]:
        lines.append(f"{phase['name']:<16}{phase['seconds']:9.2f}{phase['peak_rss_bytes'] / 1e9:9.2f}")
    return "\n".join(
        [
            *lines,
            f"prove   {figures['prove_seconds']:.1f} s; paper {PAPER_SECONDS:.1f} s; "
            f"ratio {figures['prove_ratio_to_paper']:.4f}",
            f"proof   {figures['proof_bytes'] / 1e6:.3f} MB; paper {PAPER_BYTES / 1e6:.2f} MB; "
            f"ratio {figures['bytes_ratio_to_paper']:.4f}",
            f"memory  {figures['peak_rss_bytes'] / 1e9:.2f} GB at most",
            f"verify  {figures['verify_seconds']:.1f} s as a fresh process, "
            f"{figures['verify_in_process_seconds']:.1f} s of it verifying",
            f"commit  {figures['commit_seconds']:.1f} s for {figures['samples_committed']:,} samples",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lenet", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--data", metavar="DIR", help="Fashion-MNIST in IDX files [default: 2,000 shipped images]")
    parser.add_argument("--prove-in", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.prove_in:
        print(json.dumps(prove_in(args.prove_in)))
        return
    figures = run(args.data)
    print(json.dumps(figures, indent=1) if args.json else report(figures))


if __name__ == "__main__":
    main()
