"""Whether data fit a model is shown beside the score, and said aloud where they do not."""

from __future__ import annotations

import json
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import zkcert
from tests.conftest import Tiny
from zkcert import cli
from zkcert.api.fit import Fit
from zkcert.convert import from_module
from zkcert.core.container import ProofFile

PROBE = {"steps": 3, "batch_size": 10}
OPTIONS = ("--steps", 3, "--batch-size", 10, "--lr", "1e-4")


def fit(answers: list[int], labels: list[int], classes: int = 3, loss: float = 0.1) -> Fit:
    return Fit.of(np.array(answers), np.array(labels), np.full(len(labels), loss), classes)


@pytest.mark.parametrize("seed", range(5))
def test_what_guessing_gives_is_the_mean_over_all_orders(seed):
    rng = np.random.default_rng(seed)
    answers, labels = rng.integers(-1, 3, 6), rng.integers(0, 3, 6)
    found = Fit.of(answers, labels, np.zeros(6), 3)
    counts = [int((answers == labels[list(order)]).sum()) for order in permutations(range(6))]
    assert found.guessed == pytest.approx(np.mean(counts))
    assert found.deviation == pytest.approx(np.std(counts))
    assert found.correct == counts[0]


def test_guessing_is_told_from_knowing():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 10, 40)
    for answers, near in (
        (labels, False),
        ((labels + 1) % 10, True),  # labels shifted by one
        (np.zeros(40, int), True),  # one answer to everything
        (rng.integers(0, 10, 40), True),
        (np.where(rng.random(40) < 0.5, labels, 0), False),
    ):
        assert Fit.of(answers, labels, np.zeros(40), 10).near_chance == near


def test_the_most_frequent_label_is_no_knowledge():
    labels = [0] * 36 + [1] * 4
    assert fit([0] * 40, labels, 2).near_chance
    assert fit([0] * 39 + [1], labels, 2).accuracy == pytest.approx(0.925)
    assert not fit([0] * 37 + [1] * 3, labels, 2).near_chance


def test_a_loss_above_that_of_equal_odds_is_said():
    labels = [0, 1, 2] * 10
    assert fit(labels, labels, loss=1.0).warnings == ()
    for loss in (1.2, float("nan"), float("inf")):
        (text,) = fit(labels, labels, loss=loss).warnings
        assert text.startswith("HIGH LOSS") and "ln 3" in text


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that knows its data (the class is the brightest quarter), and those data spoiled in several ways."""
    place = tmp_path_factory.mktemp("fit")
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, 300)
    x = rng.integers(0, 100, (300, 1, 4, 4))
    for k in range(4):
        x[y == k, :, 2 * (k // 2) : 2 * (k // 2) + 2, 2 * (k % 2) : 2 * (k % 2) + 2] += 100
    x = x.astype(np.uint8)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 4))
        optimizer = torch.optim.Adam(net.parameters(), 0.01)
        for _ in range(150):
            optimizer.zero_grad()
            inputs = (torch.tensor(x) / 255 - 0.5) / 0.25
            nn.functional.cross_entropy(net(inputs), torch.tensor(y)).backward()
            optimizer.step()
    from_module(net, input={"shape": [1, 4, 4], "pad": 0, "mean": [0.5], "std": [0.25]}).save(place / "model.pt")
    for name, a, b in (
        ("right", x, y),
        ("shifted", x, (y + 1) % 4),
        ("black", x * 0, y),
        ("mirrored", np.ascontiguousarray(x[:, :, :, ::-1]), y),
        ("unscaled", x.astype(np.float32), y),
    ):
        np.savez(place / f"{name}.npz", x=a, y=b)
    return place


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    capsys.readouterr()
    return cli.main([str(argument) for argument in arguments]), *capsys.readouterr()


@pytest.mark.parametrize(
    ("data", "word"),
    [("right", None), ("shifted", "NEAR"), ("black", "NEAR"), ("mirrored", "NEAR"), ("unscaled", "HIGH")],
)
def test_measure_and_audit_show_whether_the_data_fit(capsys, trained, data, word):
    model, samples = trained / "model.pt", trained / f"{data}.npz"
    for command in (("measure",), ("measure", "--draws", 3), ("audit", "--tau", 100)):
        arguments = (command[0], model, samples, *command[1:], *OPTIONS, "--seed", "a")
        code, out, err = run(capsys, *arguments)
        assert code == 0 and "accuracy" in out and "mean loss" in out
        warned = [line for line in (out + err).splitlines() if line.startswith("WARNING: ")]
        words = [line.split()[1] for line in warned if "NOT PROVABLE" not in line]  # as wrong data may happen to be
        assert words == ([word] if word else [])
        found = json.loads(run(capsys, *arguments, "--json")[1])
        assert [f"WARNING: {text}" for text in found["warnings"]] == warned
        assert (found["fit"]["accuracy"] > 0.95) == (word is None)


def test_the_figures_are_those_of_the_samples_drawn(trained):
    from zkcert.data.normalised import input_values
    from zkcert.metric import Network, accuracy, mean_loss
    from zkcert.public.model import Model

    found = zkcert.measure(trained / "model.pt", trained / "right.npz", config=PROBE, seed="s", draws=12)
    network = Network.of_model(Model.load(trained / "model.pt"))
    with np.load(trained / "right.npz") as arrays:
        x, y = arrays["x"], arrays["y"]

    def check(shown: Fit, rows: list[int]) -> None:
        inputs = torch.tensor(input_values(Model.load(trained / "model.pt").input, x[rows]))
        labels = torch.tensor(y[rows].astype(np.int64))
        assert shown.n == len(rows)
        assert shown.accuracy == pytest.approx(accuracy(network, inputs, labels))
        assert shown.loss == pytest.approx(mean_loss(network, inputs, labels))

    drawn = [np.ravel(draw.indices).tolist() for draw in found.draws]
    for draw, rows in zip(found.draws, drawn, strict=True):
        check(draw.fit, rows)
    everything = sorted({row for rows in drawn for row in rows})
    assert len(everything) < sum(map(len, drawn))  # some were drawn twice, and count once
    check(found.fit, everything)


def test_a_proof_shows_it_to_the_prover_only(capsys, tiny: Tiny, tmp_path):
    """The tiny model knows nothing, which is said; neither the proof nor its verifier learns that."""
    options = ("--announcement", tiny.announcement, "--beacon", tiny.beacon, "-o", tmp_path / "p.bin")
    code, out, err = run(capsys, "prove", tiny.model, tiny.data, *options)
    shown = tiny.result.fit
    assert code == 0
    assert f"accuracy {shown.accuracy:.4f} ({shown.correct} of 4 samples)" in out and "(private)" in out
    assert [f"WARNING: {text}" for text in shown.warnings] == [
        line for line in err.splitlines() if line.startswith("WARNING: ")
    ]
    assert tiny.result.to_dict()["private"]["fit"] == shown.to_dict()
    header = ProofFile.parse((tmp_path / "p.bin").read_bytes()).header
    assert set(json.loads(header)) == {
        "beacon", "circuit", "config", "dataset", "format", "tau", "variance", "weights",
    }  # fmt: skip
    verdict = zkcert.verify(tmp_path / "p.bin", tiny.model, tau=3)
    for text in (json.dumps(verdict.to_dict()), "\n".join(verdict.lines())):
        assert "accuracy" not in text and "loss" not in text
