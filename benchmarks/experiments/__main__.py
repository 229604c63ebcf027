"""Experiments after arXiv 2606.25004: train models, measure them, judge claims by rules that are part of the code.

Every experiment saves OUT/NAME.json, NAME.md and NAME.png, and prints its tables. `report` writes the saved results of
all experiments into one document and draws their figures anew; the verdicts stay those of the runs.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from tempfile import TemporaryFile
from textwrap import fill
from types import ModuleType
from typing import TYPE_CHECKING, Any

from benchmarks.experiments import claims
from benchmarks.experiments.report import Result, collect, commit, load, machine, markdown, save
from benchmarks.extras import install
from zkcert.errors import UnusableInput
from zkcert.files import signals
from zkcert.files.writing import replacing

if TYPE_CHECKING:
    from benchmarks.experiments.common import Context, Profile

EXPERIMENTS = {
    "table1": "which measures of a model go with its generalisation, over a grid of hyper-parameters",
    "table2": "whether they tell faulty models from benign ones: noisy labels, squares, BadNets, rounding, small tests",
    "table3": "what they cost in seconds, on LeNet-5, VGG and ResNet-18",
    "table4": "membership inference from scores of single examples",
    "figure1": "the probe's trajectory on models trained with SGD and with SAM; with Table 5",
    "table7": "more such pairs: a backdoored ResNet, finer rates of label noise",
    "study": "which statistic carries the signal: statistic x B x T x defect, on the same draws",
    "own_data": "no claim of the paper: defects measured on the data the models were trained on",
    "own_more": "no claim, either: a ResNet, levels of label noise, evasion of the score, a GPT; see --parts",
}
PROFILES = {
    "tiny": "to test the code: tiny models, images that ship with the package; about a minute each on one core",
    "small": "small models, subsets of the data; minutes to hours each on two cores. Needs Fashion-MNIST (--data); "
    "table3, table7 and the backdoor part of own_more need CIFAR-10, too (--cifar)",
    "paper": "the paper's architectures, datasets, grids, epochs and rates, as far as its text gives them; for a GPU "
    "(--device cuda) or a cluster (--cluster). Needs CIFAR-10 (--cifar); table1 CIFAR-100, table3 Fashion-MNIST, too "
    "(--cifar100, --data)",
}
IN_PARTS = ("table2", "table7", "own_more")
"""Experiments of which some parts can be run alone."""

OUT = Path("results")
PROGRAM = "python -m benchmarks.experiments"
_SOURCES = ("data", "test", "cifar", "cifar_test", "cifar100")
_PRIVATE = ("cluster", *_SOURCES)
"""Options whose values name places of this machine."""


def experiment(name: str) -> ModuleType:
    """The module of an experiment: PROFILES, FIGURE_SIZE, run(profile, context), draw(result, figure)."""
    return importlib.import_module(f"benchmarks.experiments.{name}")


def perform(name: str, profile: Profile, context: Context, command: str) -> Result:
    """Run an experiment and save what it found."""
    module, code = experiment(name), commit()
    start, started = time.perf_counter(), datetime.now(UTC).isoformat(timespec="seconds")
    found: Result = module.run(profile, context)
    seconds, today = time.perf_counter() - start, date.today().isoformat()
    result = replace(found, command=command, machine=machine(), date=today, seconds=seconds, commit=code)
    if judged := [claim.id for claim in found.claims if claim.id]:
        began = claims.oldest(found.values, started)
        result = replace(result, started=began, claims_file=claims.stamp(judged))
    save(result, context.out, module.draw, module.FIGURE_SIZE)
    return result


def parser() -> argparse.ArgumentParser:
    """Of the command line."""
    others = {
        "all": "every one of these; goes on with the next if one cannot be run",
        "report": "one document of all results in OUT; may follow experiments, as in `all report`",
    }
    listed = {"names": (EXPERIMENTS | others).items(), "profiles": PROFILES.items()}
    about = [
        "\n".join(
            [f"{heading}:", *(fill(f"  {name:8} {text}", 110, subsequent_indent=" " * 11) for name, text in entries)]
        )
        for heading, entries in listed.items()
    ]
    options = argparse.ArgumentParser(
        prog=PROGRAM,
        description="\n\n".join([str(__doc__).strip(), *about]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = [*EXPERIMENTS, "all", "report"]
    options.add_argument("names", nargs="+", metavar="NAME", choices=names, help=", ".join(names))
    options.add_argument("--profile", choices=PROFILES, default="small", help="see above [default: small]")
    options.add_argument("--seeds", type=int, metavar="K", help="instead of the profile's number")
    options.add_argument("--jobs", type=int, metavar="N", help="processes [default: one per core; with cuda 1]")
    options.add_argument("--cluster", metavar="ADDRESS", help='run on Ray: "ray://HOST:10001", or "local"')
    beside = "its test set [default: beside it]"
    options.add_argument(
        "--data", metavar="PATH", help="Fashion-MNIST [default: where Debian's dataset-fashion-mnist has it]"
    )
    options.add_argument("--test", metavar="PATH", help=beside)
    options.add_argument("--cifar", metavar="PATH", help="CIFAR-10: python batches, an .npz, or a JPEG copy")
    options.add_argument("--cifar-test", metavar="PATH", help=beside)
    options.add_argument("--cifar100", metavar="PATH", help="CIFAR-100: its directory for python")
    options.add_argument("--out", type=Path, default=OUT, metavar="OUT", help="directory [default: %(default)s]")
    options.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options.add_argument("--again", action="store_true", help="train again what OUT/cache holds")
    options.add_argument(
        "--parts",
        metavar="A,B",
        help="of table2 and table7 the claims of settings (t2-noise ...); of own_more of backdoor, noise, fitted, "
        "poisoning, gpt [default: all]",
    )
    options.add_argument("--write", type=Path, metavar="FILE", help="of report: where to [default: OUT/RESULTS.md]")
    options.add_argument(
        "--preface", type=Path, metavar="FILE", help="of report: Markdown to put in before the results"
    )
    return options


def command_of(name: str, args: argparse.Namespace) -> str:
    """How to run one experiment, or the report, as `args` do, without this machine's paths."""
    words = [PROGRAM, name]
    if name == "report":
        for option in ("out", "write", "preface"):
            value = getattr(args, option)
            if value is not None and value != parser().get_default(option):
                words += [f"--{option}", "..." if value.is_absolute() else value.as_posix()]
        return " ".join(words)
    words += ["--profile", args.profile]
    for option in ("seeds", "cluster", *_SOURCES, "device", "parts"):
        value = getattr(args, option)
        if value != parser().get_default(option):
            words += ["--" + option.replace("_", "-"), "..." if option in _PRIVATE and value != "local" else str(value)]
    return " ".join(words)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0; 2 for unusable input, or if an experiment could not be run for that; 130 if interrupted."""
    args = parser().parse_args(arguments)
    try:
        return _run(args)
    except (UnusableInput, OSError) as error:
        return _refused(error)
    except KeyboardInterrupt:
        code, word = signals.ending()
        _say(f"{word}; what is saved in {args.out} stays, and the models in its cache are not trained again")
        return code


def jobs_of(args: argparse.Namespace) -> int:
    """How many processes: a GPU is not shared by several unless that is asked for."""
    if args.jobs is not None:
        return args.jobs
    return 1 if args.device == "cuda" else os.cpu_count() or 1


def _run(args: argparse.Namespace) -> int:
    names = list(EXPERIMENTS) if "all" in args.names else [name for name in args.names if name != "report"]
    _check(args, names)
    preface = _text(args.preface) if args.preface else ""
    failed = []
    for name in names:
        try:
            _perform(name, args)
        except UnusableInput as error:
            failed.append(name)
            _refused(f"{name}: {error}")
    if "report" in args.names:
        for name in EXPERIMENTS:
            if (args.out / f"{name}.json").exists():
                save(load(args.out / f"{name}.json"), args.out, experiment(name).draw, experiment(name).FIGURE_SIZE)
        target = args.write or args.out / "RESULTS.md"
        found = collect(args.out, list(EXPERIMENTS), target, command_of("report", args), preface, claims.ledger)
        write_record(target.parent / "results" / "record.json", [load(args.out / f"{name}.json") for name in found])
        print(f"{target}: {', '.join(found)}")
    if failed and len(names) > 1:
        return _refused(f"{len(failed)} of {len(names)} experiments could not be run: {', '.join(failed)}")
    return 2 if failed else 0


def write_record(path: Path, results: Sequence[Result]) -> None:
    """What `claims.record` says of results that are worth it, beside the document."""
    known = claims.record([result for result in results if result.profile != "tiny"])
    if not known:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, 0o644) as file:
        file.write((json.dumps(known, indent=1) + "\n").encode())


def _refused(reason: object) -> int:
    _say(f"error: {reason}")
    return 2


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UnusableInput(f"{path}: cannot be read ({error})") from error


def _check(args: argparse.Namespace, names: Sequence[str]) -> None:
    """UnusableInput for what no experiment could be run with, before any work."""
    if jobs_of(args) < 1 or (args.seeds is not None and args.seeds < 1):
        raise UnusableInput("--jobs and --seeds must be positive")
    if (args.write or args.preface) and "report" not in args.names:
        raise UnusableInput("--write and --preface are of `report`: add it to the names")
    if args.parts and not set(names) & set(IN_PARTS):
        raise UnusableInput(f"--parts are those of {', '.join(IN_PARTS)}")
    given = [f"--{name.replace('_', '-')}" for name in _SOURCES if getattr(args, name) is not None]
    if names and args.profile == "tiny" and given:
        raise UnusableInput(f"--profile tiny reads only images that ship with the package: leave out {' '.join(given)}")
    needed = ["torch", "scipy", "sklearn"]
    needed += ["ray"] if args.cluster else ["joblib"] * (jobs_of(args) > 1)
    if missing := [package for package in needed if importlib.util.find_spec(package) is None]:
        extras = ("metric", "cluster") if "ray" in missing else ("metric",)
        raise UnusableInput(f"experiments need {', '.join(missing)}: {install(*extras)}")
    if names:
        from zkcert.api.files import check_device

        check_device(args.device)
        _writable(args.out)


def _writable(out: Path) -> None:
    try:
        for directory in (out, out / "cache"):
            directory.mkdir(parents=True, exist_ok=True)
            with TemporaryFile(dir=directory):
                pass
    except OSError as error:
        raise UnusableInput(f"--out {out}: not a directory that can be written to ({error.strerror})") from error


def _perform(name: str, args: argparse.Namespace) -> None:
    """Run one experiment as the command line says, and print it."""
    from benchmarks.experiments.common import Context, load_data
    from benchmarks.experiments.datasets import FASHION_MNIST, Sources

    module = experiment(name)
    profile = module.PROFILES[args.profile]
    if args.seeds is not None:
        profile = replace(profile, seeds=args.seeds)
    parts = tuple(args.parts.split(",")) if args.parts else None
    sources = Sources(args.data or str(FASHION_MNIST), args.test, args.cifar, args.cifar_test, args.cifar100)
    context = Context(args.out, args.device, jobs_of(args), args.cluster, sources, args.again, parts)
    left_out = set(getattr(module, "PARTS", ())) - set(parts) if parts else set()
    for dataset in sorted(set(datasets_of(profile, left_out))):
        load_data(dataset, context)
    _say(f"{name}: begins; profile {profile.name}, {profile.seeds} seeds, {_workers(context)}")
    start = time.perf_counter()
    result = perform(name, profile, context, command_of(name, args))
    _say(f"{name}: done in {time.perf_counter() - start:.0f} s; {args.out / name}.json, .md, .png")
    print(markdown(result), flush=True)


def datasets_of(value: Any, left_out: set[str]) -> Iterator[str]:
    """The datasets of all recipes in a profile, however deep, without those of fields in `left_out`."""
    from benchmarks.experiments.common import Recipe

    if isinstance(value, Recipe):
        yield value.dataset
    elif is_dataclass(value):
        for field in fields(value):
            if field.name not in left_out:
                yield from datasets_of(getattr(value, field.name), left_out)
    elif isinstance(value, dict):
        yield from datasets_of(tuple(value.values()), left_out)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from datasets_of(item, left_out)


def _workers(context: Context) -> str:
    if context.cluster not in (None, "local"):
        return "on a cluster"
    return f"{context.jobs} processes" if context.jobs > 1 else "one process"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    signals.install()
    sys.exit(main())
