"""One target at a time, read in a process whose CPU time for an input and whose memory the system limits."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import signal
import time
import traceback
import warnings
from dataclasses import dataclass
from pathlib import Path

from benchmarks.fuzz.targets import Target, build, make_input

MAX_RESTARTS = 20  # after crashes, of one target


@dataclass(frozen=True)
class Limits:
    """Of one input: seconds of CPU, and bytes of memory beyond what the process has when it begins."""

    cpu: float = 10.0
    memory: int = 1 << 30


@dataclass(frozen=True)
class Finding:
    """Input `index` of a target, and why it must not be."""

    target: str
    index: int
    reason: str


def fuzz(
    target: Target,
    *,
    seed: int = 0,
    start: int = 0,
    inputs: int | None = None,
    seconds: float | None = None,
    limits: Limits = Limits(),
    keep: Path | None = None,
) -> tuple[int, list[Finding]]:
    """Read inputs from number `start` on, so many or for so long: how many were read, and what was found of each kind.

    Found inputs are written to `keep`, with their reasons.
    """
    with build(target) as folder:
        place = Path(folder)
        # Forked from this process the workers would inherit its threads and memory.
        context = multiprocessing.get_context("spawn")
        end = None if seconds is None else time.monotonic() + seconds
        index, found, last = start, [], None if inputs is None else start + inputs
        (place / "found").touch()
        for _ in range(MAX_RESTARTS):
            left = None if end is None else end - time.monotonic()
            if (last is not None and index >= last) or (left is not None and left <= 0):
                break
            (place / "index").write_text(str(index))
            process = context.Process(target=_work, args=(target, place, seed, index, last, left, limits))
            process.start()
            process.join()
            index = int((place / "index").read_text())
            if process.exitcode == 0:
                break
            if process.exitcode == 1:
                raise RuntimeError(f"the fuzzer itself failed, at input {index} of {target.name}")
            found.append(Finding(target.name, index, _crash(process.exitcode or 0, limits)))
            index += 1
        found += [Finding(target.name, *json.loads(line)) for line in (place / "found").read_text().splitlines()]
        if keep is not None:
            for finding in found:
                _keep(keep, finding, seed, make_input(target, place, seed, finding.index)[0])
    return index - start, sorted(found, key=lambda finding: finding.index)


def _crash(code: int, limits: Limits) -> str:
    if code == -signal.SIGPROF:
        return f"takes more than {limits.cpu:g} s of CPU"
    return f"the process ends with {signal.Signals(-code).name if code < 0 else code}"


def _keep(folder: Path, finding: Finding, seed: int, data: bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{finding.target}-{seed}-{finding.index}"
    path.write_bytes(data)
    path.with_name(path.name + ".txt").write_text(finding.reason + "\n")


def _work(
    target: Target, place: Path, seed: int, start: int, last: int | None, seconds: float | None, limits: Limits
) -> None:
    """The process that reads inputs. `index` holds the number of the one being read, `found` gets the findings."""
    warnings.simplefilter("error")
    judge = target.load(place)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # ends the process, whatever it does
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    memory = pages * resource.getpagesize() + limits.memory
    resource.setrlimit(resource.RLIMIT_AS, (memory, resource.RLIM_INFINITY))
    end = None if seconds is None else time.monotonic() + seconds
    index, known = start, set()
    progress = os.open(place / "index", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    with open(place / "found", "a") as found:
        while (last is None or index < last) and (end is None or time.monotonic() < end):
            os.pwrite(progress, f"{index:<20}".encode(), 0)
            data, honest = make_input(target, place, seed, index)
            signal.setitimer(signal.ITIMER_PROF, limits.cpu)
            try:
                judge(data, honest, place)
            except Exception as error:
                place_of_error = traceback.extract_tb(error.__traceback__)[-1]
                kind = f"{type(error).__name__} in {place_of_error.name}, line {place_of_error.lineno}"
                if kind not in known:
                    known.add(kind)
                    text = f"{kind} of {Path(place_of_error.filename).name}: {str(error)[:300]}"
                    found.write(json.dumps([index, text]) + "\n")
                    found.flush()
            signal.setitimer(signal.ITIMER_PROF, 0)
            index += 1
        os.pwrite(progress, f"{index:<20}".encode(), 0)
