"""Fuzz the readers and the verifier: `python -m benchmarks.fuzz --minutes 5 --target all --keep found`.

Reported are inputs that are accepted though changed, errors of other types than a user should see, warnings of Python,
crashes, and what takes too much time or memory. Input I of a target follows from --seed and I alone.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.fuzz.run import Finding, Limits, fuzz
from benchmarks.fuzz.targets import TARGETS


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 1 if anything was found."""
    description, _, more = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=description, epilog=more)
    parser.add_argument("--minutes", type=float, default=1.0, help="in all, shared by the targets [default: 1]")
    parser.add_argument("--target", default="all", help=f"of {', '.join(TARGETS)}; several with commas, or all")
    parser.add_argument("--seed", type=int, default=0, help="of the inputs [default: 0]")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="where found inputs are written")
    parser.add_argument("--inputs", type=int, help="so many for each target, instead of --minutes")
    parser.add_argument("--start", type=int, default=0, help="number of the first input [default: 0]")
    parser.add_argument("--cpu", type=float, default=10.0, help="seconds of CPU for an input [default: 10]")
    parser.add_argument("--memory", type=int, default=1024, help="MiB for an input [default: 1024]")
    args = parser.parse_args(argv)
    names = list(TARGETS) if args.target == "all" else args.target.split(",")
    if unknown := [name for name in names if name not in TARGETS]:
        parser.error(f"no target {unknown[0]}; there are {', '.join(TARGETS)}")
    found: list[Finding] = []
    for name in names:
        seconds = None if args.inputs is not None else 60 * args.minutes / len(names)
        count, new = fuzz(
            TARGETS[name],
            seed=args.seed,
            start=args.start,
            inputs=args.inputs,
            seconds=seconds,
            limits=Limits(args.cpu, args.memory << 20),
            keep=args.keep,
        )
        print(f"{name:<14} {count:>8,} inputs, {len(new)} found", flush=True)
        for finding in new:
            print(
                f"  --target {name} --seed {args.seed} --start {finding.index} --inputs 1: {finding.reason}", flush=True
            )
        found += new
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
