"""Every file argument of every command, given something that is no such file: one line that names it, exit code 2 (1
for what is taken for a proof), and nothing written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import Tiny
from zkcert import api, cli, zoo
from zkcert.data.committed import CommittedDataset
from zkcert.errors import UnusableInput
from zkcert.files.open_file import OpenFile

SIZE = ("--steps", 2, "--batch-size", 2)
MADE = (f"{zoo.__file__}:lenet5", "--shape", "1x28x28", "--pad", 2, "--mean", 0.3, "--std", 0.35)
PNG = b"\x89PNG\r\n\x1a\n" + bytes(50)

Given = Callable[[object], list[object]]


def arguments(tiny: Tiny, place: Path) -> dict[str, tuple[str, Given]]:
    """By command and argument: the suffix of the file that belongs there, and the arguments with another."""
    model, data, secret, root, proof = tiny.model, tiny.dataset, tiny.data, tiny.root, tiny.proof
    after = ("--announcement", tiny.announcement, "--beacon", tiny.beacon)
    out = ("-o", place / "out")
    trained = ("--epochs", 1, "--hidden", 4, *out)
    drawn = ("--draws", 2, *SIZE, *out)
    checking = ("verify", proof, model, "--tau", 3)
    few = ("--samples", 5, "--steps", 2)
    return {
        "commit DATA": (".npz", lambda f: ["commit", f, "-o", place / "out.zkd"]),
        "commit A,B": ("", lambda f: ["commit", f"{f},{f}", "-o", place / "out.zkd"]),
        "root ZKD": (".zkd", lambda f: ["root", f, *out]),
        "announce MODEL": (".pt", lambda f: ["announce", f, root, "--tau", 3, *SIZE, *out]),
        "announce ROOT": (".root", lambda f: ["announce", model, f, "--tau", 3, *SIZE, *out]),
        "announce --tau": (".json", lambda f: ["announce", model, root, "--tau", f, *SIZE, *out]),
        "announce --chain": (
            "",
            lambda f: ["announce", model, root, "--tau", 3, "--chain", f, "--beacon-at", "+1h", *out],
        ),
        "estimate MODEL": (".pt", lambda f: ["estimate", f, *SIZE]),
        "estimate --data-root": (".root", lambda f: ["estimate", model, "--data-root", f, *SIZE]),
        "estimate --rates": ("", lambda f: ["estimate", model, "--rates", f, *SIZE]),
        "prove MODEL": (".pt", lambda f: ["prove", f, secret, *after, *out]),
        "prove ZKD": (".zkd", lambda f: ["prove", model, f, *after, *out]),
        "prove --announcement": (".json", lambda f: ["prove", model, secret, "--announcement", f, *out]),
        "prove --beacon": (
            "",
            lambda f: ["prove", model, secret, *after[:2], "--beacon", f, "--chain", "quicknet", *out],
        ),
        "prove --tau": (".json", lambda f: ["prove", model, secret, "--tau", f, *SIZE, *out]),
        "verify PROOF": (".bin", lambda f: ["verify", f, model, "--tau", 3]),
        "verify MODEL": (".pt", lambda f: ["verify", proof, f, "--tau", 3]),
        "verify --tau": (".json", lambda f: ["verify", proof, model, "--tau", f]),
        "verify --data-root": (".root", lambda f: ["verify", proof, model, "--tau", 3, "--data-root", f]),
        "verify --announcement": (".json", lambda f: ["verify", proof, model, "--tau", 3, "--announcement", f]),
        "verify --beacon": ("", lambda f: [*checking, "--beacon", f, "--chain", "quicknet"]),
        "report MODEL": (".pt", lambda f: ["report", proof, f, "--tau", 3, *out]),
        "report --announcement": (".json", lambda f: ["report", proof, model, "--tau", 3, "--announcement", f, *out]),
        "verify --config": ("", lambda f: ["verify", proof, model, "--tau", 3, "--config", f]),
        "inspect PROOF": (".bin", lambda f: ["inspect", f]),
        "train DATA": (".npz", lambda f: ["train", "mlp", f, *trained]),
        "train --test": (".npz", lambda f: ["train", "mlp", data, "--test", f, *trained]),
        "measure MODEL": (".pt", lambda f: ["measure", f, data, *SIZE]),
        "measure DATA": (".npz", lambda f: ["measure", model, f, *SIZE]),
        "measure --test": (".npz", lambda f: ["measure", model, data, *SIZE, "--baselines", "--test", f]),
        "audit MODEL": (".pt", lambda f: ["audit", f, data, "--tau", 3, *SIZE]),
        "audit DATA": (".npz", lambda f: ["audit", model, f, "--tau", 3, *SIZE]),
        "audit --tau": (".json", lambda f: ["audit", model, data, "--tau", f, *SIZE]),
        "calibrate GOOD": (".pt", lambda f: ["calibrate", f, "--data", data, *drawn]),
        "calibrate --bad": (".pt", lambda f: ["calibrate", model, "--bad", f, "--data", data, *drawn]),
        "calibrate --data": (".npz", lambda f: ["calibrate", model, "--data", f, *drawn]),
        "calibrate @DATA": (".npz", lambda f: ["calibrate", f"{model}@{f}", *drawn]),
        "mia MODEL": (".pt", lambda f: ["mia", f, data, data, *few]),
        "mia MEMBERS": (".npz", lambda f: ["mia", model, f, data, *few]),
        "mia NONMEMBERS": (".npz", lambda f: ["mia", model, data, f, *few]),
        "convert SOURCE": (".pt", lambda f: ["convert", f, "-o", place / "out.safetensors"]),
        "convert --weights": ("", lambda f: ["convert", *MADE, "--weights", f, *out]),
        "check MODEL": (".pt", lambda f: ["check", f, *SIZE]),
        "check DATA": (".npz", lambda f: ["check", model, f, *SIZE]),
        "check --weights": ("", lambda f: ["check", *MADE, "--weights", f, *SIZE]),
    }


NAMES = list(arguments(Tiny(Path(), None, "", "", None), Path()))  # type: ignore[arg-type]


@pytest.fixture
def odd(tiny: Tiny, tmp_path: Path) -> dict[str, Path]:
    """Files that are nothing of ours, and ours, cut short."""
    place = tmp_path / "odd"
    place.mkdir()
    os.mkfifo(place / "fifo")
    (place / "here").mkdir()
    for name in ("dangling", "loop"):
        (place / name).symlink_to("loop" if name == "loop" else "nowhere")
    contents = {
        "empty": b"",
        "text": b"hello\n" * 9,
        "values.json": b'{"a": [1, 2]}',
        "picture.png": PNG,
        "zeros": bytes(3000),
        "random": np.random.default_rng(0).bytes(3000),
    }
    for name, content in contents.items():
        (place / name).write_bytes(content)
    ours = [tiny.model, tiny.dataset, tiny.data, tiny.root, tiny.announcement, tiny.proof]
    for path in ours:
        (place / f"cut{path.suffix}").write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    names = ("fifo", "here", "dangling", "loop", *contents, *(f"cut{path.suffix}" for path in ours), "missing")
    found = {name: place / name for name in names} | {"beneath": place / "text" / "x"}
    return found | {path.suffix: path for path in ours} | {"/dev/zero": Path("/dev/zero")}


def accepted(command: str, own: str, name: str) -> bool:
    """Whether a file belongs there after all."""
    samples = own == ".npz" and name == ".zkd" and not command.startswith("commit")
    return samples or (name == own and "--tau" not in command)


@pytest.mark.parametrize("command", NAMES)
def test_odd_files_are_refused_in_one_line_that_names_them(capsys, tiny, odd, tmp_path, command):
    place = tmp_path / "place"
    place.mkdir()
    own, given = arguments(tiny, place)[command]
    for name, path in odd.items():
        if accepted(command, own, name):
            continue
        capsys.readouterr()
        code = cli.main([str(argument) for argument in given(path)])
        out, err = capsys.readouterr()
        no_proof = own == ".bin" and name not in ("fifo", "here", "dangling", "loop", "missing", "beneath", "/dev/zero")
        assert (code, out, len(err.splitlines())) == (1 if no_proof else 2, "", 1), (name, err)
        named = path.parent if name == "beneath" else path
        assert str(named) in err and "Expecting" not in err and "Error" not in err, (name, err)
        assert list(place.iterdir()) == [], name


@pytest.mark.parametrize("command", NAMES)
def test_files_that_may_not_be_read(capsys, tiny, tmp_path, monkeypatch, command):
    """Also where the tests run as a user who may read everything."""
    path, opens = tmp_path / "closed", os.open

    def refuse(name: object, *rest: object, **options: object) -> int:
        if os.fspath(name) == str(path):  # type: ignore[call-overload]
            raise PermissionError(13, "Permission denied", str(path))
        return opens(name, *rest, **options)  # type: ignore[arg-type]

    path.write_bytes(b"secret")
    monkeypatch.setattr(os, "open", refuse)
    place = tmp_path / "place"
    place.mkdir()
    code = cli.main([str(argument) for argument in arguments(tiny, place)[command][1](path)])
    err = capsys.readouterr().err
    assert (code, len(err.splitlines())) == (2, 1) and f"{path}: Permission denied" in err, err
    assert list(place.iterdir()) == []


def test_an_empty_name_is_said_to_be_one(capsys, tiny, tmp_path):
    """As an unset variable of a shell gives it."""
    for command in ("root ZKD", "prove ZKD", "prove --announcement", "verify --announcement", "convert SOURCE"):
        assert cli.main([str(argument) for argument in arguments(tiny, tmp_path)[command][1]("")]) == 2
        assert "an empty name is given" in capsys.readouterr().err, command


@pytest.mark.parametrize("option", ["--checkpoint", "--scratch"])
@pytest.mark.parametrize("name", ["fifo", "empty", "dangling", "loop", "beneath", ".zkd", "/dev/zero", ""])
def test_what_is_no_directory_is_refused_before_the_work(capsys, tiny, odd, tmp_path, monkeypatch, name, option):
    monkeypatch.chdir(tmp_path)
    given = odd[name] if name else ""
    after = ("--announcement", tiny.announcement, "--beacon", tiny.beacon, "-o", tmp_path / "out")
    arguments = ["prove", tiny.model, tiny.data, *after, option, given]
    before = sorted(tmp_path.rglob("*"))
    code = cli.main([str(argument) for argument in arguments])
    err = capsys.readouterr().err
    wrong = given.parent if (name, option) == ("beneath", "--checkpoint") else given
    words = f"{wrong} is no directory" if name else "an empty name is given"
    assert (code, len(err.splitlines())) == (2, 1) and words in err, err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "command", ["commit", "root", "announce", "prove", "report", "train", "measure", "calibrate", "mia", "convert"]
)
def test_odd_outputs_are_refused_in_one_line_and_lose_nothing(capsys, tiny, odd, tmp_path, command):
    """A directory, a pipe, a device, a dangling link, a missing folder, the input, a file of another kind."""
    place = tmp_path / "place"
    place.mkdir()
    own, suffix = {
        "commit": (["commit", tiny.dataset], ".zkd"),
        "root": (["root", tiny.data], ".root"),
        "announce": (["announce", tiny.model, tiny.root, "--tau", 3, *SIZE], ".json"),
        "prove": (["prove", tiny.model, tiny.data, "--announcement", tiny.announcement, "--beacon", "aa"], ".bin"),
        "report": (["report", tiny.proof, tiny.model, "--tau", 3], ".html"),
        "train": (["train", "mlp", tiny.dataset, "--epochs", 1, "--hidden", 4], ".pt"),
        "measure": (["measure", tiny.model, tiny.dataset, *SIZE], ".png"),
        "calibrate": (["calibrate", tiny.model, "--data", tiny.dataset, "--draws", 2, *SIZE], ".json"),
        "mia": (["mia", tiny.model, tiny.dataset, tiny.dataset, "--samples", 5, "--steps", 2], ".png"),
        "convert": (["convert", tiny.model], ".pt"),
    }[command]
    option = "--plot" if suffix == ".png" else "-o"
    for name in ("fifo", "here", "dangling", "loop", "text", "picture.png"):
        target = place / f"{name}{suffix}"
        shutil.move(odd[name], target)
        before = target.read_bytes() if target.is_file() else None
        code = cli.main([str(argument) for argument in (*own, option, target)])
        err = capsys.readouterr().err
        assert (code, len(err.splitlines())) == (2, 1) and str(target) in err, (name, err)
        assert os.path.lexists(target) and (before is None or target.read_bytes() == before), name
    for target in (place / "none" / f"x{suffix}", tiny.dataset / f"x{suffix}", Path(f"/dev/zero/x{suffix}")):
        code = cli.main([str(argument) for argument in (*own, option, target)])
        err = capsys.readouterr().err
        assert (code, len(err.splitlines())) == (2, 1) and str(target) in err, err
    assert len(list(place.iterdir())) == 6


@pytest.mark.parametrize("change", ["cut", "grow", "rewrite"])
def test_a_secret_file_that_changes_while_it_is_in_use_is_an_error(tiny, tmp_path, change):
    """Mapped into memory, one that is cut short would end the process."""
    path = tmp_path / "data.zkd"
    shutil.copy(tiny.data, path)
    data = CommittedDataset.open(path)
    assert data.sample_bytes([3, 1]).tolist() == CommittedDataset.open(tiny.data).sample_bytes([3, 1]).tolist()
    if change == "rewrite":
        path.write_bytes(path.read_bytes())
        os.utime(path, ns=(0, 0))
    else:
        os.truncate(path, 100 if change == "cut" else path.stat().st_size + 1)
    with pytest.raises(UnusableInput, match=f"{path}: was c(ut short|hanged) while it was read"):
        data.sample_bytes([data.n - 1])


def test_an_open_file_is_closed_when_nobody_has_it(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"abcde")
    file = OpenFile(path)
    descriptor = file._descriptor
    assert (file.size, file.read(1, 3)) == (5, b"bcd")
    with pytest.raises(UnusableInput, match="cut short"):
        file.read(3, 3)
    del file
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
    for odd in (tmp_path, "/dev/zero", tmp_path / "missing"):
        with pytest.raises(UnusableInput):
            OpenFile(odd)


def test_a_measurement_of_a_truncated_secret_file(tiny, tmp_path):
    """Cut at every place: refused, whatever is missing."""
    whole = tiny.data.read_bytes()
    for size in (0, 7, 8, 15, 16, 40, 90, len(whole) // 2, len(whole) - 33, len(whole) - 1):
        path = tmp_path / f"{size}.zkd"
        path.write_bytes(whole[:size])
        with pytest.raises(UnusableInput, match="not a usable committed dataset"):
            api.measure(tiny.model, path, config={"steps": 2, "batch_size": 2})


def test_messages_hold_no_control_characters(capsys):
    assert cli.main(["inspect", "no\x1b[31m\nsuch.bin"]) == 2
    shown = capsys.readouterr().err
    assert r"no\x1b[31m such.bin" in shown and "\x1b" not in shown
