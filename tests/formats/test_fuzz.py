"""The fuzzer finds what it is for, and every target's honest files pass its judge."""

from __future__ import annotations

import os
import random
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from benchmarks.fuzz import __main__ as command
from benchmarks.fuzz import mutations, targets
from benchmarks.fuzz.run import Limits, fuzz
from benchmarks.fuzz.targets import TARGETS, Fault, Target, build, make_input
from zkcert.errors import UnusableInput

FAULTS = {
    "accepts": "Fault in judge",
    "crashes": "the process ends with SIGSEGV",
    "hangs": "takes more than 0.2 s of CPU",
    "hogs": "MemoryError in ones",
    "raises": "KeyError in judge",
    "warns": "RuntimeWarning in judge",
    "nothing": "",
}


def plant(place: Path) -> None:
    (place / "seed").write_bytes(b"honest")


def harmless(rng: random.Random, data: bytes) -> bytes:
    return bytes([rng.randrange(256)])


def load_faulty(place: Path, fault: str) -> targets.Judge:
    def judge(data: bytes, honest: bytes, place: Path) -> None:
        if data[:1] < b"\xc0" or fault == "nothing":
            return
        match fault:
            case "accepts":
                raise Fault("accepted")
            case "crashes":
                os.kill(os.getpid(), 11)
            case "hangs":
                sum(range(10**12))
            case "hogs":
                np.ones(1 << 28)
            case "raises":
                {}["key"]
            case "warns":
                np.uint8(255) + np.uint8(1)

    return judge


@pytest.mark.parametrize("fault", FAULTS)
def test_what_must_not_happen_is_found_kept_and_made_again(tmp_path, fault):
    target = Target("planted", plant, harmless, partial(load_faulty, fault=fault))
    keep = tmp_path / "found"
    count, found = fuzz(target, inputs=12, limits=Limits(0.2, 1 << 29), keep=keep)
    assert count == 12
    if fault == "nothing":
        assert not found and not keep.exists()
        return
    assert found[0].reason.startswith(FAULTS[fault]), found
    kept = keep / f"planted-0-{found[0].index}"
    with build(target) as place:
        assert make_input(target, Path(place), 0, found[0].index) == (kept.read_bytes(), b"honest")
    assert kept.read_bytes()[:1] >= b"\xc0" and kept.with_name(kept.name + ".txt").read_text() == found[0].reason + "\n"


QUICK = sorted(set(TARGETS) - {"proofs"})  # whose honest file takes long to make


@pytest.mark.parametrize("name", QUICK)
def test_honest_files_pass_and_changed_ones_break_nothing(tmp_path, name):
    target = TARGETS[name]
    with build(target) as folder:
        place, seen = Path(folder), set()
        judge = target.load(place)
        for honest in sorted(place.glob("seed*")):
            judge(honest.read_bytes(), honest.read_bytes(), place)
        for index in range(15):
            data, honest = make_input(target, place, 1, index)
            seen.add(data)
            judge(data, honest, place)
        assert len(seen) > 10


@pytest.mark.parametrize("name", QUICK)
def test_inputs_follow_from_seed_and_number(name):
    """Also the honest files are the same, though their making needs randomness."""
    made = []
    for _ in range(2):
        with build(TARGETS[name]) as folder:
            made.append([make_input(TARGETS[name], Path(folder), 5, i) for i in range(5)])
    assert made[0] == made[1]


def test_mutations_survive_any_bytes():
    rng = random.Random(0)
    for target in TARGETS.values():
        for data in (b"", b"\0", b"{}", b"PK\3\4", os.urandom(100)):
            assert isinstance(mutations.rounds(rng, data, target.mutate), bytes)


def test_the_command_reports_and_its_exit_code_tells(monkeypatch, capsys):
    found = partial(load_faulty, fault="raises")
    monkeypatch.setitem(TARGETS, "planted", Target("planted", plant, harmless, found))
    assert command.main(["--target", "planted,roots", "--inputs", "12"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["planted", "12", "inputs,", "1", "found"] and lines[2].split()[:2] == ["roots", "12"]
    assert "--target planted --seed 0 --start " in lines[1] and "KeyError" in lines[1]
    start = time.monotonic()
    assert command.main(["--target", "roots", "--minutes", "0.01"]) == 0
    assert time.monotonic() - start < 60
    with pytest.raises(SystemExit):
        command.main(["--target", "nonsense"])


def test_an_honest_file_that_is_refused_is_a_fault(tmp_path):
    def refuse(path: Path) -> None:
        raise UnusableInput("no")

    judge = targets._file_judge("file", refuse)
    judge(b"changed", b"honest", tmp_path)
    with pytest.raises(Fault, match="honest file is refused"):
        judge(b"honest", b"honest", tmp_path)
