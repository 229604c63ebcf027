"""Whenever a command is killed, nothing is half-written or open to others, and the same command, run again, leaves
nothing behind."""

from __future__ import annotations

import contextlib
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.killing import FILE_SYSTEMS, Killer
from zkcert.core.container import ProofFile
from zkcert.data.committed import CommittedDataset
from zkcert.public.model import Model
from zkcert.public.root import DatasetRoot

TEMPORARY = re.compile(r"\.(.+)\.[0-9a-f]{16}\.tmp")
CHECKPOINT = re.compile(r"lock|checkpoint\.json|digits\.i32|leaves\.bin")
PROBE = ("--tau", 9, "--steps", 2, "--batch-size", 2)


@dataclass(frozen=True)
class Files:
    """What commands start from: samples, a commitment, a model, and a place to work in."""

    killer: Killer
    root: Path

    def command(self, name: str) -> list[object]:
        """A command, whose outputs are in the current directory."""
        prove = ["prove", self.root / "model.pt", self.root / "data.zkd", *PROBE, "-o", "proof.bin"]
        return {
            "commit": ["commit", self.root / "d.npz", "-o", "data.zkd"],
            "train": ["train", "mlp", self.root / "d.npz", "--hidden", 4, "--epochs", 1, "-o", "model.pt"],
            "prove": prove,
            "checkpoint": [*prove, "--checkpoint", "kept"],
            "scratch": [*prove, "--scratch", "."],
        }[name]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Files]:
    root = tmp_path_factory.mktemp("killed")
    x = np.random.default_rng(0).integers(0, 256, (12, 1, 2, 3), np.uint8)
    np.savez(root / "d.npz", x=x, y=np.arange(12) % 3)
    with contextlib.closing(Killer()) as killer:
        found = Files(killer, root)
        for name in ("commit", "train"):
            assert killer(root, *found.command(name)).code == 0
        yield found


OUTPUTS = {
    "commit": ["data.root", "data.zkd"],
    "train": ["model.pt"],
    "prove": ["proof.bin"],
    "checkpoint": ["proof.bin"],
    "scratch": ["proof.bin"],
}


def check_whole(place: Path) -> None:
    """Every file has a known name, is complete unless its name is a temporary one, and secrets are private."""
    for path in place.rglob("*"):
        mode, temporary = stat.S_IMODE(path.stat().st_mode), TEMPORARY.fullmatch(path.name)
        name = temporary[1] if temporary else path.name
        if path.is_dir() or path.parent != place:
            assert path.is_dir() or CHECKPOINT.fullmatch(name), path
            assert not mode & 0o077, path
            continue
        assert name in ("data.zkd", "data.root", "model.pt", "proof.bin"), path
        assert not mode & 0o077 or name != "data.zkd", path
        if temporary or not path.stat().st_size:  # of the weakest file system; see zkcert/files/drafts.py
            assert temporary or any(TEMPORARY.fullmatch(other.name) for other in place.iterdir())
        elif name == "data.zkd":
            CommittedDataset.open(path)
        elif name == "data.root":
            DatasetRoot.load(path)
        elif name == "model.pt":
            Model.load(path)
        else:
            ProofFile.parse(path.read_bytes())


def check_again(files: Files, place: Path, name: str, file_system: str) -> None:
    """The same command succeeds, or what it says to do does; only the outputs are there."""
    done = files.killer(place, *files.command(name), file_system=file_system)
    if done.code:
        assert (done.code, len(done.err.splitlines())) == (2, 1), done
        if name == "commit" and not (place / "data.root").exists():
            assert "data.root is missing: zkcert root data.zkd writes it again" in done.err
            assert files.killer(place, "root", "data.zkd").code == 0
        else:
            assert f"{OUTPUTS[name][-1]} exists" in done.err
    assert sorted(path.name for path in place.iterdir()) == OUTPUTS[name], done
    check_whole(place)
    if name == "commit":
        assert CommittedDataset.open(place / "data.zkd").root == DatasetRoot.load(place / "data.root")


def kill_everywhere(files: Files, tmp_path: Path, name: str, file_system: str, force: bool = False) -> int:
    """Kill before each change; how many there are."""
    for stop in range(200):
        place = tmp_path / f"{stop}"
        place.mkdir()
        command = [*files.command(name), *(["--force"] if force else [])]
        if force:
            for output in OUTPUTS[name][:1]:
                (place / output).write_bytes((files.root / output).read_bytes())
        done = files.killer(place, *command, stop=stop, file_system=file_system)
        check_whole(place)
        assert done.code in (0, -9), done
        check_again(files, place, name, file_system)
        if done.code == 0:
            return stop
    raise AssertionError("it never ends")


@pytest.mark.parametrize("file_system", FILE_SYSTEMS)
def test_a_killed_commit(files, tmp_path, file_system):
    assert kill_everywhere(files, tmp_path, "commit", file_system) >= 4


@pytest.mark.parametrize("file_system", ["unnamed", "weakest"])
def test_a_killed_training(files, tmp_path, file_system):
    assert kill_everywhere(files, tmp_path, "train", file_system) >= 2


def test_a_killed_training_that_replaces(files, tmp_path):
    assert kill_everywhere(files, tmp_path, "train", "unnamed", force=True) == 4


def test_a_killed_proof(files, tmp_path):
    assert kill_everywhere(files, tmp_path, "prove", "unnamed") == 2


def test_a_killed_proof_with_a_checkpoint(files, tmp_path):
    assert kill_everywhere(files, tmp_path, "checkpoint", "unnamed") > 30


def test_a_killed_proof_with_a_scratch_file(files, tmp_path):
    assert kill_everywhere(files, tmp_path, "scratch", "unnamed") >= 3


@pytest.mark.slow
@pytest.mark.parametrize("file_system", FILE_SYSTEMS[1:])
@pytest.mark.parametrize("name", ["prove", "checkpoint"])
def test_a_killed_proof_on_lesser_file_systems(files, tmp_path, name, file_system):
    assert kill_everywhere(files, tmp_path, name, file_system) >= 2


# --------------------------------------------------------------------------------------------- signals that are caught


@pytest.mark.parametrize("sign", ["INT", "TERM", "HUP", "QUIT", "XCPU", "USR1"])
@pytest.mark.parametrize("file_system", ["unnamed", "named"])
def test_a_signal_leaves_nothing_of_a_commitment(files, tmp_path, sign, file_system):
    import signal

    for stop in range(1, 4):
        place = tmp_path / f"{stop}"
        place.mkdir()
        done = files.killer(place, *files.command("commit"), stop=stop, sign=sign, file_system=file_system)
        word = "interrupted" if sign == "INT" else f"ended by SIG{sign}"
        assert (done.code, len(done.err.splitlines())) == (128 + getattr(signal, f"SIG{sign}"), 1), done
        left = sorted(path.name for path in place.iterdir())
        if left:  # both, as the signal came while they got their names
            assert (left, done.err) == (OUTPUTS["commit"], f"{word}; data.zkd, data.root is written\n")
            check_again(files, place, "commit", file_system)
        else:
            assert done.err == f"{word}; nothing was written\n"


@pytest.mark.parametrize("stop", [0, 5, 12, 25])
def test_a_signal_leaves_the_checkpoint_of_a_proof(files, tmp_path, stop):
    place = tmp_path / "place"
    place.mkdir()
    done = files.killer(place, *files.command("checkpoint"), stop=stop, sign="TERM", file_system="named")
    assert done.code == 143, done
    check_whole(place)
    assert not any(TEMPORARY.fullmatch(path.name) for path in place.rglob("*"))
    check_again(files, place, "checkpoint", "named")
