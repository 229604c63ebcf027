"""`python -m benchmarks.experiments NAME... --profile small|paper`, and `... report --write docs/RESULTS.md`.

The report writes and draws the saved results anew; their verdicts stay those of the runs.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from types import ModuleType

from benchmarks.experiments.common import PROFILES, Context, Profile
from benchmarks.experiments.datasets import FASHION_MNIST, Sources
from benchmarks.experiments.report import Result, collect, commit, load, machine, markdown, save
from zkcert.errors import UnusableInput

EXPERIMENTS = ("table1", "table2", "table3", "table4", "figure1", "table7")
OUT = Path("results")


def experiment(name: str) -> ModuleType:
    """The module of an experiment: PROFILES, FIGURE_SIZE, run(profile, context), draw(result, figure)."""
    return importlib.import_module(f"benchmarks.experiments.{name}")


def perform(name: str, profile: Profile, context: Context, command: str) -> Result:
    """Run an experiment and save what it found."""
    module, code = experiment(name), commit()
    start = time.perf_counter()
    found: Result = module.run(profile, context)
    seconds, today = time.perf_counter() - start, date.today().isoformat()
    result = replace(found, command=command, machine=machine(), date=today, seconds=seconds, commit=code)
    save(result, context.out, module.draw, module.FIGURE_SIZE)
    return result


def parser() -> argparse.ArgumentParser:
    """Of the command line."""
    options = argparse.ArgumentParser(prog="python -m benchmarks.experiments", description=__doc__)
    names = [*EXPERIMENTS, "all", "report"]
    options.add_argument("names", nargs="+", metavar="NAME", choices=names, help=", ".join(names))
    options.add_argument("--profile", choices=PROFILES, default="small", help="[default: small]")
    options.add_argument("--seeds", type=int, metavar="K", help="instead of the profile's number")
    options.add_argument("--jobs", type=int, metavar="N", help="processes [default: one per core; with cuda 1]")
    options.add_argument("--cluster", metavar="ADDRESS", help='run on Ray: "ray://HOST:10001", or "local"')
    options.add_argument("--data", metavar="PATH", default=str(FASHION_MNIST), help="[default: %(default)s]")
    options.add_argument("--test", metavar="PATH", help="its test set [default: beside it]")
    options.add_argument("--cifar", metavar="PATH", help="CIFAR-10: python batches, an .npz, or a JPEG copy")
    options.add_argument("--cifar-test", metavar="PATH", help="its test set [default: beside it]")
    options.add_argument("--out", type=Path, default=OUT, metavar="DIR", help="of results [default: %(default)s]")
    options.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options.add_argument("--again", action="store_true", help="train again what DIR/cache holds")
    options.add_argument("--parts", metavar="A,B", help="of table7, see its file [default: all]")
    options.add_argument("--write", type=Path, metavar="FILE", help="of report: where to [default: OUT/RESULTS.md]")
    return options


def command_of(name: str, args: argparse.Namespace) -> str:
    """How to run one experiment as `args` do, without this machine's paths."""
    options = parser()
    words = ["python -m benchmarks.experiments", name, "--profile", args.profile]
    for option in ("seeds", "cluster", "data", "test", "cifar", "cifar_test", "device", "parts"):
        value = getattr(args, option)
        if value != options.get_default(option):
            private = option in ("cluster", "data", "test", "cifar", "cifar_test")
            words += ["--" + option.replace("_", "-"), "..." if private and value != "local" else str(value)]
    return " ".join(words)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0, or 2 for unusable input."""
    args = parser().parse_args(arguments)
    try:
        return _run(args)
    except UnusableInput as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def jobs_of(args: argparse.Namespace) -> int:
    """How many processes: a GPU is not shared by several unless that is asked for."""
    if args.jobs is not None:
        return args.jobs
    return 1 if args.device == "cuda" else os.cpu_count() or 1


def _run(args: argparse.Namespace) -> int:
    if jobs_of(args) < 1 or (args.seeds is not None and args.seeds < 1):
        raise UnusableInput("--jobs and --seeds must be positive")
    names = EXPERIMENTS if "all" in args.names else [name for name in args.names if name != "report"]
    sources = Sources(args.data, args.test, args.cifar, args.cifar_test)
    parts = tuple(args.parts.split(",")) if args.parts else None
    context = Context(args.out, args.device, jobs_of(args), args.cluster, sources, args.again, parts)
    for name in names:
        profile = experiment(name).PROFILES[args.profile]
        if args.seeds is not None:
            profile = replace(profile, seeds=args.seeds)
        print(markdown(perform(name, profile, context, command_of(name, args))), flush=True)
    if "report" in args.names:
        for name in EXPERIMENTS:
            if (args.out / f"{name}.json").exists():
                save(load(args.out / f"{name}.json"), args.out, experiment(name).draw, experiment(name).FIGURE_SIZE)
        target = args.write or args.out / "RESULTS.md"
        print(f"{target}: {', '.join(collect(args.out, EXPERIMENTS, target))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
