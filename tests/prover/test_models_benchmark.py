"""`python -m benchmarks.models` on stand-ins: what is proved, what is not and why, the table, a second run."""

from __future__ import annotations

import json
import re
import sys
from unittest import mock

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks import models
from benchmarks.subjects import SUBJECTS, Absent, Subject, imported
from zkcert.errors import UnusableInput


class Sounds(nn.Module):
    """Of sequences, with a batch-norm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv1d(1, 2, 3), nn.BatchNorm1d(2), nn.Linear(2, 1)

    def forward(self, x):
        return self.fc(torch.relu(self.norm(self.conv(x))).mean(-1))


def absent() -> nn.Module:
    raise Absent("no_such_package is not installed")


def shrunk() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 2, 2), nn.Softshrink(), nn.Flatten(), nn.Linear(8, 10), nn.Softmax(1))


STAND_INS = {
    "sounds": Subject("Sounds", Sounds, shape=(1, 1, 6), classes=2, task="six samples of a sound"),
    "shrunk": Subject("Shrunk", shrunk, shape=(1, 3, 3)),
    "absent": Subject("Absent", absent, "no_such_package"),
    "wide": Subject("Wide", lambda: nn.Sequential(nn.Flatten(), nn.Linear(9, 10)), shape=(1, 3, 3)),
}


def command(*arguments: object) -> None:
    with (
        mock.patch.object(sys, "argv", ["models", *map(str, arguments)]),
        mock.patch.object(models, "SUBJECTS", STAND_INS),
    ):
        models.main()


def test_each_row_says_what_is_proved_or_what_stands_in_the_way(tmp_path, capsys):
    with mock.patch.object(models, "measure", side_effect=UnusableInput("layer x is out of range")):
        command("--out", tmp_path, "--models", "shrunk,absent,wide", "--digits", 1000)
        command("--out", tmp_path, "--models", "wide")
    command("--out", tmp_path, "--models", "sounds")
    printed = capsys.readouterr().out.splitlines()
    rows = json.loads((tmp_path / models.ROWS).read_text())
    assert {name: row["state"] for name, row in rows.items()} == {
        "shrunk": "refused",
        "absent": "absent",
        "wide": "failed",
        "sounds": "proved",
    }
    assert any("Softshrink" in reason for reason in rows["shrunk"]["reasons"]) and len(rows["shrunk"]["reasons"]) > 1
    assert printed[2].startswith("wide: ") and "not run yet" in printed[2]
    assert "**failed**: layer x is out of range" in printed[3]
    figures, estimate = rows["sounds"]["figures"], rows["sounds"]["estimate"]
    assert figures["steps"] == figures["batch_size"] == 2 and figures["soundness_bits"] > 95
    assert figures["sizes"]["digits"] == estimate["digits"] and figures["verify_seconds"] > 0
    assert len(rows["sounds"]["notes"]) == 2  # one logit, of sequences
    table = (tmp_path / models.TABLE).read_text()
    assert [line.split(" | ")[0] for line in table.splitlines() if line.startswith("| ")][2:] == [
        "| Sounds",
        "| Shrunk",
        "| Absent (no_such_package)",
        "| Wide",
    ]
    assert len({len(re.split(r" \| ", line)) for line in table.splitlines() if line.startswith("| ")}) == 1
    with mock.patch.object(models, "run", side_effect=AssertionError("done already")):
        command("--out", tmp_path, "--models", "sounds")
    assert (tmp_path / models.TABLE).read_text() == table


def test_what_does_not_fit_the_memory_is_not_tried(tmp_path):
    with (
        mock.patch("prover.resources.available_memory", return_value=1 << 20),
        mock.patch.object(models, "measure", side_effect=AssertionError("tried")),
    ):
        row = models.run(STAND_INS["wide"], models.Options(room=tmp_path))
    assert row["state"] == "large" and "with `--scratch`" in " ".join(models.cells(row))


def test_batch_norms_get_the_statistics_of_the_samples():
    torch.manual_seed(0)
    module, x = Sounds(), np.random.default_rng(0).standard_normal((40, 1, 1, 6))
    models.take_statistics(module, x)
    with torch.no_grad():
        out = module.conv(torch.tensor(x[:, 0], dtype=torch.float32))
    torch.testing.assert_close(module.norm.running_mean, out.mean((0, 2)))
    torch.testing.assert_close(module.norm.running_var, out.var((0, 2)))
    assert not module.training
    models.take_statistics(module, np.zeros_like(x))
    assert module.norm.running_var.tolist() == [models.LEAST_VARIANCE] * 2
    with pytest.raises(UnusableInput, match="does not run on a batch of samples"):
        models.take_statistics(Sounds(), np.zeros((2, 3, 4, 5)))


def test_a_file_of_another_command_is_no_table(tmp_path):
    (tmp_path / models.ROWS).write_text('{"a": {"state": "unheard of"}}')
    with pytest.raises(UnusableInput, match="holds no rows of this command"):
        models.load_rows(tmp_path / models.ROWS)


def test_the_models_of_the_table_are_those_that_the_documents_have():
    """Whatever is not installed is said."""
    assert len({subject.title for subject in SUBJECTS.values()}) == len(SUBJECTS)
    for name in ("mlp", "mlp_binary", "lenet_tanh", "audio_m3"):
        assert sum(p.numel() for p in SUBJECTS[name].make().parameters()) > 1000
    with pytest.raises(Absent, match="no_such_package is not installed, or does not load"):
        imported("no_such_package")
