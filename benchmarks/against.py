"""This code against another commit, in time, memory and bytes: `python -m benchmarks.against COMMIT --out FILE`.

COMMIT is the base. The other side is the working tree (what git tracks, as it lies there; a new file counts once it is
`git add`ed), or --other COMMIT2. Each is taken from git into a temporary folder, with a virtual environment that holds
this interpreter's packages or, where the two sides' dependencies differ, what each asks for. Kernels are compiled
before anything counts, and a run that compiles one is repeated.

A run is a fresh `zkcert prove` and a fresh `python -m verifier`, of files that the side made from the same weights and
samples. Runs alternate (base, other, other, base, ...) and are compared in pairs: a ratio is other / base, the mean of
its logarithm over the pairs, with Student's 95 % interval (three pairs are too few for a bootstrap). Times include
starting Python. Memory is that of the largest process, with a floor of some 60 MB. FILE is written after every pair,
and the same command goes on from there, also with more --runs or --models.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import re
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scipy.special import stdtrit  # not scipy.stats: the memory of a child is never below its parent's

from zkcert.errors import UnusableInput, ZkcertError
from zkcert.files import signals
from zkcert.files.writing import replace_file
from zkcert.public.defaults import DEFAULT

FILES = Path(__file__).with_name("against_files.py")
SIDES = ("base", "other")
BEACON, TAU = "5a" * 32, "100"  # tau: far above the score, which this is not about
FIGURES = (  # label, step of a run, key in it, unit, name of the ratio
    ("prove, seconds", "prove", "seconds", 1, "ratio_time"),
    ("prove, CPU seconds", "prove", "cpu_seconds", 1, "ratio_cpu"),
    ("prove, GB", "prove", "peak_rss_bytes", 1e9, "ratio_memory"),
    ("proof, MB", "prove", "proof_bytes", 1e6, "ratio_bytes"),
    ("verify, seconds", "verify", "seconds", 1, "ratio_verify_time"),
    ("verify, CPU seconds", "verify", "cpu_seconds", 1, "ratio_verify_cpu"),
    ("verify, GB", "verify", "peak_rss_bytes", 1e9, "ratio_verify_memory"),
)


def ratio(base: Sequence[float], other: Sequence[float]) -> dict[str, float]:
    """other / base over at least two pairs: the geometric mean, and the ends of Student's 95 % interval."""
    logs = [math.log(y / x) for x, y in zip(base, other, strict=True)]
    mean = statistics.fmean(logs)
    reach = float(stdtrit(len(logs) - 1, 0.975)) * statistics.stdev(logs) / math.sqrt(len(logs))
    return {"ratio": math.exp(mean), "low": math.exp(mean - reach), "high": math.exp(mean + reach)}


def summary(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Both sides' medians and their ratio for each of FIGURES, and again the two that are told in their own units."""
    found: dict[str, Any] = {}
    for _, step, key, _, name in FIGURES:
        base, other = ([pair[side][step][key] for pair in runs] for side in SIDES)
        found[name] = {"base": statistics.median(base), "other": statistics.median(other), **ratio(base, other)}
    for name, source in (("proof_bytes", "ratio_bytes"), ("verify_seconds", "ratio_verify_time")):
        found[name] = {side: found[source][side] for side in SIDES}
    return found


def table(entry: dict[str, Any]) -> str:
    """The summary of a model, for people."""
    head = f"{entry['model']}, {len(entry['runs'])} pairs"
    lines = [f"{head:<22}{'base':>10}{'other':>10}{'ratio':>9}   95 % interval"]
    for label, _, _, unit, name in FIGURES:
        base, other, middle, low, high = entry[name].values()
        lines.append(f"{label:<22}{base / unit:10.3f}{other / unit:10.3f}{middle:9.3f}   {low:.3f} to {high:.3f}")
    return "\n".join(lines)


def git(repository: Path, *words: str, index: Path | None = None) -> str:
    """What git prints; index: instead of the repository's. Raises UnusableInput with its complaint."""
    environment = os.environ | ({"GIT_INDEX_FILE": str(index)} if index else {})
    done = subprocess.run(["git", "-C", str(repository), *words], capture_output=True, text=True, env=environment)
    if done.returncode:
        raise UnusableInput(f"git {words[0]} {words[-1]}: {last_line(done.stderr)}")
    return done.stdout.strip()


def last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no message"])[-1].strip()


def committed(repository: Path, name: str) -> tuple[str, str]:
    """The id of a commit, and that of its tree, which says what files it has."""
    commit = git(repository, "rev-parse", "--verify", "--end-of-options", f"{name}^{{commit}}")
    return commit, git(repository, "rev-parse", f"{commit}^{{tree}}")


def working_tree(repository: Path) -> tuple[str, str]:
    """HEAD with the changes of tracked files, which git keeps as a tree that nothing refers to."""
    commit, tree = committed(repository, "HEAD")
    with tempfile.TemporaryDirectory() as folder:
        index = Path(folder) / "index"
        shutil.copy(repository / git(repository, "rev-parse", "--git-path", "index"), index)
        git(repository, "add", "-u", index=index)
        changed = git(repository, "write-tree", index=index)
    return commit if changed == tree else f"{commit} with changes", changed


def dependencies(code: Path) -> tuple[list[str], str]:
    """What proving needs: of pyproject.toml, and the text of constraints.txt."""
    project = tomllib.loads((code / "pyproject.toml").read_text())["project"]
    extra = project.get("optional-dependencies", {}).get("prove", [])
    constraints = code / "constraints.txt"
    return [*project.get("dependencies", []), *extra], constraints.read_text() if constraints.exists() else ""


class Side:
    """The code of a commit, taken from git, with an interpreter of its own, in a new folder."""

    def __init__(self, name: str, folder: Path, repository: Path, tree: str) -> None:
        self.name, self.folder, self.code = name, folder, folder / "code"
        self.python = folder / "environment" / "bin" / "python"
        folder.mkdir()
        git(repository, "archive", "--format=zip", "-o", str(folder / "code.zip"), tree)
        shutil.unpack_archive(folder / "code.zip", self.code)

    def install(self, shared: bool) -> None:
        """Make the environment, with this interpreter's packages if `shared`; the code comes before them."""
        environment, (needed, constraints) = self.folder / "environment", dependencies(self.code)
        self.run(self.folder, sys.executable, "-m", "venv", environment, *(["--without-pip"] if shared else []))
        here = [p for p in sys.path if Path(p).name in ("site-packages", "dist-packages")]
        if not shared:
            here, limits = [], self.folder / "constraints.txt"
            limits.write_text(constraints)
            self.run(self.folder, self.python, "-m", "pip", "install", "--quiet", "-c", limits, *needed)
        (packages,) = environment.glob("lib/python*/site-packages")
        (packages / "code.pth").write_text("\n".join([str(self.code), *here]) + "\n")

    def run(self, place: Path, *command: object) -> tuple[dict[str, float], str]:
        """Seconds, seconds of CPU and peak memory of a process that succeeds, and what it prints; UnusableInput if it
        does not. It sees none of the variables that lead Python or numba to other code."""
        apart = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON") and k != "NUMBA_CACHE_DIR"}
        words = list(map(str, command))
        logs = self.folder / "stdout", self.folder / "stderr"
        with logs[0].open("w") as output, logs[1].open("w") as errors:
            start = time.perf_counter()
            child = subprocess.Popen(words, cwd=place, env=apart, stdout=output, stderr=errors)
            try:
                _, status, usage = os.wait4(child.pid, 0)
            except BaseException:
                child.terminate()
                child.wait()
                raise
            seconds = time.perf_counter() - start
        child.returncode = os.waitstatus_to_exitcode(status)
        printed, complaint = (log.read_text() for log in logs)
        if code := child.returncode:
            raise UnusableInput(f"{self.name}: {shlex.join(words[1:5])} ...: exit code {code}: {last_line(complaint)}")
        peak, cpu = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024), usage.ru_utime + usage.ru_stime
        return {"seconds": round(seconds, 3), "cpu_seconds": round(cpu, 3), "peak_rss_bytes": peak}, printed

    def prepare(self, model: str, config: dict[str, int]) -> dict[str, Any]:
        """Make the files of a model that proofs are made from; what benchmarks/against_files.py says of them."""
        place = self.folder / model
        place.mkdir()
        samples = max(2000, 4 * config["steps"] * config["batch_size"])
        about: dict[str, Any] = json.loads(last_line(self.run(place, self.python, "-P", FILES, model, samples)[1]))
        if not Path(about["zkcert"]).is_relative_to(self.code):
            raise UnusableInput(f"{self.name}: its interpreter took zkcert from {about['zkcert']}")
        self.run(place, self.python, "-m", "zkcert", "commit", "data.npz")
        options = ["--steps", config["steps"], "--batch-size", config["batch_size"], "--tau", TAU]
        self.run(place, self.python, "-m", "zkcert", "announce", "model.pt", "data.root", *options)
        return about

    def prove(self, model: str) -> dict[str, dict[str, float]]:
        """Figures of a proof, by step: made and verified, and once more if that compiled a kernel."""
        place, proof = self.folder / model, self.folder / model / "proof.bin"
        pins = ["--announcement", "announce.json", "--beacon", BEACON]
        while True:
            kernels, load = set(self.code.rglob("*.nb?")), os.getloadavg()[0]
            proof.unlink(missing_ok=True)
            prove, _ = self.run(place, self.python, "-m", "zkcert", "prove", "model.pt", "data.zkd", *pins)
            verify, _ = self.run(place, self.python, "-m", "verifier", "proof.bin", "model.pt", "--tau", TAU, *pins)
            if kernels == set(self.code.rglob("*.nb?")):
                return {"prove": prove | {"proof_bytes": proof.stat().st_size, "load": load}, "verify": verify}


def machine() -> dict[str, Any]:
    """What figures depend on besides the code."""
    cpuinfo = Path("/proc/cpuinfo")  # of Linux, where `platform` does not know
    named = re.search(r"model name\s*: (.*)", cpuinfo.read_text() if cpuinfo.exists() else "")
    return {
        "processor": named[1] if named else platform.processor(),
        "cores": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "python": platform.python_version(),
        "platform": platform.platform(),
    }


def go_on(path: Path, record: dict[str, Any]) -> None:
    """Give the record what `path` has measured already. Raises UnusableInput if that is another comparison."""
    try:
        before = json.loads(path.read_text())
        same = all(before[key] == record[key] for key in ("trees", "config", "machine"))
        record["models"] = {entry["model"]: entry for entry in before["models"]}
        record["packages"] = before["packages"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UnusableInput(f"{path} is no file of this benchmark: give another --out") from error
    if not same:
        raise UnusableInput(f"{path} compares other code, or otherwise, or elsewhere: give another --out")


def save(path: Path, record: dict[str, Any]) -> None:
    """Write the record, with the summaries of what has enough pairs."""
    for entry in record["models"].values():
        entry.update(summary(entry["runs"]) if len(entry["runs"]) > 1 else {})
    replace_file(path, (json.dumps(record | {"models": list(record["models"].values())}, indent=1) + "\n").encode())


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def measure(repository: Path, record: dict[str, Any], todo: Sequence[dict[str, Any]], runs: int, path: Path) -> None:
    """Build both sides, and add pairs to the entries of `todo` until each has `runs`."""
    with tempfile.TemporaryDirectory() as folder:
        sides = [Side(name, Path(folder).resolve() / name, repository, record["trees"][name]) for name in SIDES]
        shared = dependencies(sides[0].code) == dependencies(sides[1].code)
        for side in sides:
            say(f"{side.name}: compiling" if shared else f"{side.name}: installing its dependencies, compiling")
            side.install(shared)
            record["packages"][side.name] = side.prepare("toy", record["config"])["packages"]
            side.prove("toy")
        for model in {entry["model"] for entry in todo} - {"toy"}:
            if len({side.prepare(model, record["config"])["weights"] for side in sides}) > 1:
                say(f"{model}: the two sides build different networks or weights")
        for entry in todo:
            model, pairs = entry["model"], entry["runs"]
            while len(pairs) < runs:
                pairs.append({side.name: side.prove(model) for side in (sides[::-1] if len(pairs) % 2 else sides)})
                save(path, record)
                seconds = ", ".join(f"{side} {pairs[-1][side]['prove']['seconds']:.1f} s" for side in SIDES)
                say(f"{model} {len(pairs)}/{runs}: {seconds}")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.against", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("commit", metavar="COMMIT", help="the base: whatever git takes for a commit")
    add("--other", metavar="COMMIT2", help="what to compare with it [default: the working tree]")
    add("--models", nargs="+", default=["lenet"], metavar="NAME", help="toy, or a model of zkcert.zoo [default: lenet]")
    add("--runs", type=int, default=7, metavar="N", help="pairs of each model, at least 2 [default: 7]")
    add("--steps", type=int, default=DEFAULT.steps, metavar="T", help=f"[default: {DEFAULT.steps}]")
    add("--batch-size", type=int, default=DEFAULT.batch_size, metavar="B", help=f"[default: {DEFAULT.batch_size}]")
    add("--out", type=Path, required=True, metavar="FILE", help="JSON")
    add("--fail-above", type=float, metavar="X", help="exit with 1 if the interval of a time to prove ends above X")
    args = parser.parse_args(arguments)
    if args.runs < 2:
        parser.error("--runs must be at least 2: a single pair has no interval")
    return args


def main(arguments: Sequence[str], repository: Path = FILES.parent.parent) -> int:
    """The command; its exit code."""
    args = parse(arguments)
    try:
        base = committed(repository, args.commit)
        other = committed(repository, args.other) if args.other else working_tree(repository)
        record: dict[str, Any] = {
            "command": shlex.join(["python", "-m", "benchmarks.against", *arguments]),
            "commits": {"base": base[0], "other": other[0]},
            "trees": {"base": base[1], "other": other[1]},
            "config": {"steps": args.steps, "batch_size": args.batch_size},
            "machine": machine(),
            "packages": {},
            "models": {},
        }
        if args.out.exists():
            go_on(args.out, record)
        entries = [
            record["models"].setdefault(name, {"model": name, "runs": []}) for name in dict.fromkeys(args.models)
        ]
        save(args.out, record)  # if it cannot be written, now
        if todo := [entry for entry in entries if len(entry["runs"]) < args.runs]:
            measure(repository, record, todo, args.runs, args.out)
    except ZkcertError as error:
        say(f"error: {error}")
        return 2
    except KeyboardInterrupt:
        code, word = signals.ending()
        say(f"{word}: the same command goes on after the last pair of {args.out}")
        return code
    print("\n".join(map(table, entries)))
    ends = [entry["ratio_time"]["high"] for entry in entries]
    if too_slow := args.fail_above is not None and max(ends) > args.fail_above:
        say(f"the interval of a ratio of times to prove ends at {max(ends):.3f}, above {args.fail_above:g}")
    return int(too_slow)


if __name__ == "__main__":
    signals.install()
    sys.exit(main(sys.argv[1:]))
