"""What commands print while they work, what Ctrl-C leaves behind, and warnings about data."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import verifier.__main__ as standalone
from tests.conftest import Tiny
from zkcert import api, cli
from zkcert.cli import display

NOTHING = "interrupted; nothing was written"


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    capsys.readouterr()
    code = cli.main([str(argument) for argument in arguments])
    return code, *capsys.readouterr()


# ------------------------------------------------------------------------------------------------- Ctrl-C


COMMANDS = {
    "commit": ["DATA"],
    "announce": ["MODEL", "ROOT", "--tau", 1],
    "estimate": ["MODEL"],
    "prove": ["MODEL", "SECRET", "--tau", 1],
    "verify": ["PROOF", "MODEL", "--tau", 1],
    "inspect": ["PROOF"],
    "measure": ["MODEL", "DATA"],
    "audit": ["MODEL", "DATA", "--tau", 1],
    "calibrate": ["MODEL", "--data", "DATA"],
    "mia": ["MODEL", "DATA", "DATA"],
    "train": ["mlp", "DATA"],
    "demo": [],
    "check": ["MODEL", "DATA"],
    "convert": ["OLD", "-o", "NEW"],
    "root": ["SECRET"],
    "report": ["PROOF", "MODEL", "--tau", 1],
}
FUNCTIONS = {"convert": "convert_model"}
"""Of other names than their commands."""


def interrupt(*_args: object, **_options: object) -> None:
    raise KeyboardInterrupt


def test_every_command_is_interrupted_here():
    assert set(COMMANDS) == {command.callback.__name__ for command in cli.app.registered_commands}


@pytest.mark.parametrize("command", COMMANDS)
def test_interruption_is_one_line_and_130(capsys, monkeypatch, command):
    monkeypatch.setattr(api, FUNCTIONS.get(command, command), interrupt)
    assert run(capsys, command, *COMMANDS[command]) == (130, "", NOTHING + "\n")


def test_interrupted_demo_says_where_its_files_are(capsys, monkeypatch):
    monkeypatch.setattr(api, "demo", interrupt)
    assert run(capsys, "demo", "--out", "d") == (130, "", "interrupted; the files made so far are in d\n")


def test_interrupted_verifier(capsys, monkeypatch, tiny: Tiny):
    monkeypatch.setattr(standalone, "verify_files", interrupt)
    assert standalone.main([str(tiny.proof), str(tiny.model), "--tau", "1"]) == 130
    assert capsys.readouterr().err == "interrupted; nothing was verified\n"


def test_interruption_during_imports(tmp_path):
    (tmp_path / "typer.py").write_text("raise KeyboardInterrupt\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-m", "zkcert", "train"], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", NOTHING + "\n")


def test_training_into_a_pipe_shows_each_epoch_and_can_be_interrupted(tiny: Tiny, tmp_path):
    command = ["train", "mlp", tiny.dataset, "--epochs", "1000000", "--hidden", "4", "-o", tmp_path / "m.pt"]
    process = subprocess.Popen(
        [sys.executable, "-m", "zkcert", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # where tests run in the background
    )
    assert process.stdout
    try:
        first = process.stdout.readline()  # waits for ever if lines are kept back
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=300)
    finally:
        process.kill()
        process.communicate()
    assert first.startswith("epoch 1    loss ")
    assert (process.returncode, err) == (130, NOTHING + "\n")
    assert not list(tmp_path.iterdir())


# ----------------------------------------------------------------------------------------------- progress


def test_epochs_are_shown_once(capsys, tiny: Tiny, tmp_path):
    code, out, err = run(capsys, "train", "mlp", tiny.dataset, "--epochs", 3, "-o", tmp_path / "m.pt")
    assert (code, err) == (0, "")
    assert [line.split()[:2] for line in out.splitlines()][:3] == [["epoch", str(i)] for i in (1, 2, 3)]
    assert out.count("loss") == 3


@pytest.mark.parametrize(("pause", "lines"), [(0.0, 4), (3600.0, 0)])
def test_other_progress_is_a_line_now_and_then(capsys, monkeypatch, tiny: Tiny, pause, lines):
    monkeypatch.setattr(display, "PAUSE", pause)
    code, _, err = run(
        capsys, "measure", tiny.model, tiny.dataset, "--steps", 2, "--batch-size", 2, "--seed", "a", "--draws", 4
    )
    assert code == 0
    shown = [line for line in err.splitlines() if not line.startswith("WARNING: ")]
    assert shown == [f"draws: {i} of 4" for i in range(1, 5)][:lines]


@pytest.mark.parametrize("compiled", [True, False])
def test_the_first_proof_says_that_it_compiles(capsys, monkeypatch, tiny: Tiny, compiled):
    monkeypatch.setattr("prover.kernels.compiled", lambda: compiled)
    display.PhaseDisplay().planned(api.estimate(tiny.model, config=tiny.config))
    text = capsys.readouterr().err
    assert " digits: about " in text and ("of compiling" in text) != compiled


# --------------------------------------------------------------------------------------- doubtful datasets


@pytest.fixture
def doubtful(tmp_path: Path) -> Path:
    """Channels last, and one label of 200."""
    x, y = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), dtype=np.uint8), np.arange(12) % 3
    y[5] = 200
    np.savez(tmp_path / "d.npz", x=x, y=y)
    return tmp_path / "d.npz"


@pytest.mark.parametrize("command", ["commit", "train"])
def test_doubtful_data_are_warned_of(capsys, doubtful, command, monkeypatch):
    options = {"commit": [doubtful], "train": ["mlp", doubtful, "--epochs", 1, "--hidden", 2]}[command]
    missing = command == "commit"  # which also says which classes have no sample
    for classes, wanted in (((), 2), (("--classes", 201), 1 + missing)):
        out = doubtful.with_name(f"out{len(classes)}.zkd")
        code, _, err = run(capsys, command, *options, *classes, "-o", out)
        lines = err.splitlines()
        assert (code, len(lines)) == (0, wanted), err
        assert lines[0].startswith("WARNING: ") and "8x8x3 looks like height x width x channels" in lines[0]
        assert all(line.startswith("WARNING: ") and "201 classes" in line for line in lines[1:])


def test_a_single_draw_says_what_drew_it(capsys, tiny: Tiny):
    probe = ("--steps", 2, "--batch-size", 2)
    assert "drawn  by the seed 'a'" in run(capsys, "measure", tiny.model, tiny.dataset, *probe, "--seed", "a")[1]
    assert "drawn  by the beacon, or its absence" in run(capsys, "measure", tiny.model, tiny.data, *probe)[1]
    several = run(capsys, "measure", tiny.model, tiny.data, *probe, "--seed", "a", "--draws", 2)[1]
    assert "(mean and standard deviation, ddof 1, of 2 draws)" in several and "drawn" not in several
