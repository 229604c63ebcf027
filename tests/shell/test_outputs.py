"""No command replaces inputs, directories, files of another kind or, unasked, of the same kind."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import Tiny
from zkcert import api, cli
from zkcert.errors import UnusableInput
from zkcert.files.writing import check_output
from zkcert.public.kinds import ANNOUNCEMENT, CALIBRATION, MODEL, PICTURE, PROOF, ROOT, SAMPLES, SECRET, kind_of

PROBE = ("--steps", "2", "--batch-size", "2")
PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)
PLOT = PNG + b"tEXtSoftware\0zkcert plot"


@pytest.fixture(scope="session")
def calibration(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("calibration") / "calibration.json"
    api.calibrate([tiny.model], out=path, data=tiny.dataset, draws=2, config={"steps": 2, "batch_size": 2})
    return path


@pytest.fixture
def kinds(tiny: Tiny, calibration: Path, tmp_path: Path) -> dict[str, Path]:
    """Copies of a file of each kind, in a directory of its own."""
    place = tmp_path / "kinds"
    place.mkdir()
    picture = place / "old.png"
    picture.write_bytes(PLOT)
    originals = {
        SECRET: tiny.data,
        ROOT: tiny.root,
        ANNOUNCEMENT: tiny.announcement,
        PROOF: tiny.proof,
        MODEL: tiny.model,
        CALIBRATION: calibration,
        SAMPLES: tiny.dataset,
    }
    copies = {kind: Path(shutil.copy(path, place / f"copy{path.suffix}.{i}")) for i, (kind, path) in
              enumerate(originals.items())}  # fmt: skip
    return copies | {PICTURE: picture}


def commands(tiny: Tiny) -> dict[str, tuple[str, str, list[object]]]:
    """By command: the option of its output, the kind of that, and arguments without it."""
    data = ("--data", tiny.dataset, "--draws", 2, "--seed", "other", *PROBE)
    return {
        "announce": ("-o", ANNOUNCEMENT, ["announce", tiny.model, tiny.root, "--tau", 3, *PROBE]),
        "prove": (
            "-o",
            PROOF,
            ["prove", tiny.model, tiny.data, "--announcement", tiny.announcement, "--beacon", tiny.beacon],
        ),
        "train": ("-o", MODEL, ["train", "mlp", tiny.dataset, "--epochs", 1, "--hidden", 4]),
        "calibrate": ("-o", CALIBRATION, ["calibrate", tiny.model, *data]),
    }


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    capsys.readouterr()
    code = cli.main([str(argument) for argument in arguments])
    return code, capsys.readouterr().err


COMMANDS = ("announce", "prove", "train", "calibrate")


@pytest.mark.parametrize("name", COMMANDS)
def test_files_of_another_kind_are_never_replaced(capsys, tiny, kinds, tmp_path, name):
    option, wanted, arguments = commands(tiny)[name]
    other = tmp_path / "notes.txt"
    other.write_text("mine")
    for kind, path in (*kinds.items(), (None, other)):
        if kind == wanted:
            continue
        before = path.read_bytes()
        for force in ((), ("--force",)):
            code, err = run(capsys, *arguments, option, path, *force)
            assert (code, f"{path} exists and is {kind + ', ' if kind else ''}not {wanted}" in err) == (2, True), err
            assert path.read_bytes() == before
    assert len(list(kinds[MODEL].parent.iterdir())) == len(kinds)


@pytest.mark.parametrize("name", COMMANDS)
def test_files_of_the_same_kind_are_replaced_when_forced(capsys, tiny, kinds, name):
    option, kind, arguments = commands(tiny)[name]
    path = kinds[kind]
    before = path.read_bytes()
    code, err = run(capsys, *arguments, option, path)
    assert (code, f"{path} exists ({kind}): choose another name, or --force" in err) == (2, True), err
    assert path.read_bytes() == before
    assert run(capsys, *arguments, option, path, "--force")[0] == 0
    assert path.read_bytes() != before and kind_of(path) == kind


@pytest.mark.parametrize("name", COMMANDS)
def test_outputs_are_refused_before_the_work_begins(capsys, tiny, tmp_path, name, monkeypatch):
    def work(*_args: object, **_options: object) -> None:
        raise AssertionError("the work began")

    for place in ("circuits.statement.certificate", "prover.resources.estimate", "zkcert.zoo.train",
                  "zkcert.metric.calibrate.calibrate"):  # fmt: skip
        monkeypatch.setattr(place, work)
    option, _, arguments = commands(tiny)[name]
    code, err = run(capsys, *arguments, option, tmp_path)
    assert (code, f"{tmp_path} is a directory: give the name of a file" in err) == (2, True), err
    code, err = run(capsys, *arguments, option, tmp_path / "none" / "x")
    assert (code, "not a file in an existing directory" in err) == (2, True), err
    for given in (argument for argument in arguments if isinstance(argument, Path)):
        link = tmp_path / f"link-to-{given.name}"
        link.symlink_to(given)
        code, err = run(capsys, *arguments, option, link, "--force")
        assert (code, "is an input of this command" in err) == (2, True), err
    assert not [path for path in tmp_path.iterdir() if not path.is_symlink()]


def test_commit_refuses_files_of_other_kinds_and_its_input(capsys, tiny, kinds, tmp_path):
    target, public = tmp_path / "d.zkd", tmp_path / "d.root"
    for kind, path in kinds.items():
        if kind == SECRET:
            continue
        shutil.copy(path, target)
        code, err = run(capsys, "commit", tiny.dataset, "-o", target, "--force")
        assert (code, f"{target} exists and is {kind}" in err) == (2, True), err
        target.unlink()
        if kind == ROOT:
            continue
        shutil.copy(path, public)
        code, err = run(capsys, "commit", tiny.dataset, "-o", target, "--force")
        assert (code, f"{public} exists and is {kind}" in err) == (2, True), err
        public.unlink()
    shutil.copy(tiny.dataset, target)
    code, err = run(capsys, "commit", target, "-o", target, "--force")
    assert (code, "is an input of this command" in err) == (2, True), err


def test_announcing_the_same_again_is_no_replacement(capsys, tiny, kinds):
    arguments = ("announce", tiny.model, tiny.root, *PROBE, "-o", kinds[ANNOUNCEMENT], "--tau")
    assert run(capsys, *arguments, tiny.tau)[0] == 0
    assert run(capsys, *arguments, 3)[0] == 2


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_plots_replace_plots_only(capsys, tiny, kinds, tmp_path, suffix):
    path = tmp_path / f"plot.{suffix}"
    command = ("measure", tiny.model, tiny.dataset, *PROBE, "--plot", path)
    assert run(capsys, *command)[0] == 0
    assert kind_of(path) == PICTURE
    assert run(capsys, *command)[0] == 0  # as often as you like
    for kind, other in kinds.items():
        if kind != PICTURE:
            shutil.copy(other, path)
            code, err = run(capsys, *command)
            assert (code, f"exists and is {kind}, not a plot" in err) == (2, True), err


@pytest.mark.parametrize("content", [PNG, b"%PDF-1.7 a thesis", b"<?xml version='1.0'?><html><svg/></html>", b"<svg/>"])
def test_pictures_of_others_are_no_plots_to_replace(capsys, tiny, tmp_path, content):
    path = tmp_path / "page.svg"
    path.write_bytes(content)
    code, err = run(capsys, "measure", tiny.model, tiny.dataset, *PROBE, "--plot", path)
    assert (code, "exists and is not a plot" in err) == (2, True), err
    assert path.read_bytes() == content


def test_plot_and_calibration_need_names_of_their_own(capsys, tiny, tmp_path):
    path = tmp_path / "one.png"
    code, err = run(capsys, *commands(tiny)["calibrate"][2], "-o", path, "--plot", path)
    assert (code, "names of their own" in err) == (2, True), err
    assert not path.exists()


@pytest.mark.parametrize(
    "names", [lambda p: [f"{p},x"], lambda p: [["y", str(p)]], lambda p: [f"model.pt@{p}"], lambda p: [None, 1.5, p]]
)
def test_inputs_are_recognised_however_they_are_named(tmp_path, names: Callable[[Path], list[object]]):
    path = tmp_path / "f.bin"
    path.write_bytes(b"x")
    with pytest.raises(UnusableInput, match="input of this command"):
        check_output(path, MODEL, inputs=names(path), force=True)


def test_what_is_no_file_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UnusableInput, match="not a regular file"):
        check_output(tmp_path / "pipe", MODEL, force=True)
    assert check_output(tmp_path / "new", MODEL) == tmp_path / "new"


def test_archives_of_something_else_are_no_models(tmp_path):
    import zipfile

    with zipfile.ZipFile(tmp_path / "thesis.docx", "w") as file:
        file.writestr("word/document.xml", "<w/>")
    assert kind_of(tmp_path / "thesis.docx") is None
    np.savez(tmp_path / "d.npz", x=np.zeros(3))
    assert kind_of(tmp_path / "d.npz") == SAMPLES
