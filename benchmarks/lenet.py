"""Prove and verify LeNet-5 with B = 8, T = 5, and compare with the paper's estimate: `python -m benchmarks.lenet`.

What is timed, and how: benchmarks/measure.py.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.measure import MODEL, measure
from zkcert import api
from zkcert.public.defaults import PAPER_AUDIT

PAPER_SECONDS = 23.63 * 60
PAPER_BYTES = 9.85e6
"""arXiv 2606.25004: its estimate for LeNet, B = 8, T = 5."""

TAU = "3"  # far above the score, which the benchmark is not about
CONFIG = PAPER_AUDIT


def run(data: str | None) -> dict[str, Any]:
    """Train briefly, commit, prove, verify: the figures."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        api.train_lenet(place / MODEL, place / "slice.npz")
        figures = measure(place, CONFIG, TAU, data or place / "slice.npz")
    ratios = {
        "prove_ratio_to_paper": figures["prove_seconds"] / PAPER_SECONDS,
        "bytes_ratio_to_paper": figures["proof_bytes"] / PAPER_BYTES,
    }
    return figures | ratios


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
    args = parser.parse_args()
    figures = run(args.data)
    print(json.dumps(figures, indent=1) if args.json else report(figures))


if __name__ == "__main__":
    main()
