"""measure, audit and train: what they compute and write, and what they say to bad input."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import nn

from tests.conftest import Outcome
from zkcert import api
from zkcert.api.samples import Samples, open_samples
from zkcert.api.training import DEFAULTS, moments
from zkcert.calibration import Scored, Source
from zkcert.convert import from_module
from zkcert.core.permutation import sample_indices
from zkcert.files.saving import save_calibration
from zkcert.metric import (
    BATCH_NORM_MODES,
    STATISTICS,
    STEP_FUNCTIONS,
    Network,
    Probe,
    accuracy,
    coherence,
    directional_sharpness,
    mean_loss,
    scaled_coherence,
    sharpness,
    worst_case_sharpness,
)
from zkcert.metric.calibrate import assess
from zkcert.metric.plots import trajectory_figure
from zkcert.public.model import Model
from zkcert.public.root import Schema
from zkcert.zoo import OPTIMIZERS

INPUT = {"shape": [1, 4, 4], "pad": 0, "mean": [0.5], "std": [0.25]}
N, CLASSES = 60, 3
PROBE = ("--steps", 3, "--batch-size", 4)


@dataclass(frozen=True)
class Files:
    """A convolutional model with batch-norm, and 60 samples of bytes whose class shows in their brightness."""

    model: Path
    data: Path
    test: Path
    x: np.ndarray
    y: np.ndarray

    def network(self, dtype: torch.dtype = torch.float64, batch_norm: str = "eval") -> Network:
        return Network.of_model(Model.load(self.model), dtype=dtype, batch_norm=batch_norm)

    def inputs(self, rows: object = slice(None)) -> tuple[torch.Tensor, torch.Tensor]:
        """Normalised as the README says, up to the circuit's rounding."""
        return torch.tensor((self.x[rows] / 255 - 0.5) / 0.25), torch.tensor(self.y[rows])


def samples(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, CLASSES, N)
    x = rng.integers(0, 120, (N, 1, 4, 4)) + 60 * y[:, None, None, None]
    return x.astype(np.uint8), y.astype(np.int64)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Files:
    place = tmp_path_factory.mktemp("metric")
    with torch.random.fork_rng():
        torch.manual_seed(3)
        module = nn.Sequential(
            nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3)
        )
        module[1].running_mean.normal_(0, 0.3)
        module[1].running_var.uniform_(0.5, 2)
    from_module(module, input=INPUT).save(place / "model.pt")
    (x, y), (other_x, other_y) = samples(0), samples(1)
    np.savez(place / "data.npz", x=x, y=y)
    np.savez(place / "test.npz", x=other_x, y=other_y)
    return Files(place / "model.pt", place / "data.npz", place / "test.npz", x, y)


def refused(outcome: Outcome, *words: str) -> None:
    """Exit code 2, one line on stderr without a traceback, nothing on stdout, no files."""
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (2, "", 1), outcome
    assert outcome.err.startswith("error: ")
    assert all(word in outcome.err for word in words), outcome.err
    assert not list(Path().iterdir())


def drawn(seed: str, count: int = 12, n: int = N) -> list[int]:
    return sample_indices(blake3(seed.encode()).digest(), n, count)


# ------------------------------------------------------------------------------------------------- measure


@pytest.mark.parametrize(
    ("options", "probe", "dtype"),
    [
        ((), {}, "float64"),
        (("--rho", "0.2", "--lr", "3e-3", "--eps", "1e-3", "--variant", "sam"),
         {"rho": "1/5", "lr": "3/1000", "eps": "1/1000", "variant": "sam"}, "float64"),
        (("--variant", "asam-samsung", "--eta", "0.3"), {"variant": "asam-samsung", "eta": "3/10"}, "float64"),
        (("--statistic", "cv-sharpness"), {"statistic": "cv-sharpness"}, "float64"),
        (("--batch-norm", "train"), {"batch_norm": "train"}, "float64"),
        (("--dtype", "float32"), {}, "float32"),
    ],
)  # fmt: skip
def test_measure_passes_every_option_on(run, made, options, probe, dtype):
    done = run("measure", made.model, made.data, "--seed", "a", *PROBE, *options, "--json")
    assert (done.code, done.err.splitlines()) == (0, [f"WARNING: {text}" for text in done.json["warnings"]])
    wanted = Probe(steps=3, batch_size=4, **probe)
    rows = np.reshape(drawn("a"), (3, 4))
    kind = {"float64": torch.float64, "float32": torch.float32}[dtype]
    found = directional_sharpness(Model.load(made.model), made.x[rows], made.y[rows], wanted, dtype=kind)
    (draw,) = done.json["draws"]
    assert draw.pop("fit") == done.json["fit"]
    assert draw == {**found.to_dict(), "indices": rows.tolist(), "seed": "a"}
    assert done.json["probe"] == wanted.to_dict()
    assert (done.json["N"], done.json["spread"], done.json["score"]) == (N, None, found.score)
    assert done.json["weights"] == Model.load(made.model).weights_digest.hex()
    assert set(done.json["seconds"]) == {"reading", "probing"}


def test_every_probe_option_changes_the_score(run, made):
    options = [(), ("--rho", "0.2"), ("--lr", "0.1"), ("--eps", "0.1"), ("--variant", "sam"),
               ("--variant", "asam-samsung"), ("--variant", "asam-samsung", "--eta", "0.5"), ("--dtype", "float32"),
               ("--statistic", "std-sharpness"), ("--batch-norm", "train"), ("--seed", "b")]  # fmt: skip
    scores = [run("measure", made.model, made.data, *PROBE, *more, "--json").json["score"] for more in options]
    assert len(set(scores)) == len(options)


def test_several_draws_are_single_draws_of_numbered_seeds(run, made):
    many = run("measure", made.model, made.data, *PROBE, "--seed", "a", "--draws", 3, "--json").json
    single = [
        run("measure", made.model, made.data, *PROBE, "--seed", f"a/{i}", "--json").json["draws"] for i in range(3)
    ]
    assert [[draw] for draw in many["draws"]] == single
    scores = [draw["score"] for draw in many["draws"]]
    assert len(set(scores)) == 3
    assert many["score"] == pytest.approx(sum(scores) / 3, rel=1e-14)
    assert many["spread"] == pytest.approx(np.sqrt(np.sum(np.square(scores - np.mean(scores))) / 2), rel=1e-12)
    shown = run("measure", made.model, made.data, *PROBE, "--seed", "a", "--draws", 3).out
    assert all(f"{score:.9f}" in shown for score in (*scores, many["score"], many["spread"], min(scores), max(scores)))


def test_the_table_of_one_draw_shows_the_trajectory(run, made):
    draw = run("measure", made.model, made.data, *PROBE, "--json").json["draws"][0]
    shown = run("measure", made.model, made.data, *PROBE).out
    values = [*draw["sharpness"], *draw["loss"], *draw["log_ratio"]]
    assert all(f"{value:.9g}" in shown for value in values) and f"score  {draw['score']:.9f}" in shown


@pytest.mark.parametrize(("suffix", "start"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_plots_are_written_and_depend_on_nothing_but_the_numbers(run, made, suffix, start):
    for name, seed in (("a", "a"), ("b", "a"), ("c", "c")):
        command = ("measure", made.model, made.data, *PROBE, "--seed", seed, "--draws", 3, "--plot", f"{name}.{suffix}")
        assert run(*command).code == 0
    first, again, other = (Path(f"{name}.{suffix}").read_bytes() for name in "abc")
    assert first.startswith(start) and first == again != other
    assert {path.name for path in Path().iterdir()} == {f"{name}.{suffix}" for name in "abc"}


def test_a_plot_shows_each_draw_their_mean_and_their_deviation(made):
    found = api.measure(made.model, made.data, config={"steps": 5, "batch_size": 4}, draws=3)
    panels = trajectory_figure(found.draws).axes
    assert len(panels) == 3
    for axes, name in zip(panels, ("sharpness", "loss", "log_ratio"), strict=True):
        values = np.array([getattr(draw, name) for draw in found.draws])
        *lines, mean = axes.lines
        assert np.array_equal([line.get_ydata() for line in lines], values)
        assert np.allclose(mean.get_ydata(), values.mean(0), rtol=1e-14)
        (band,) = axes.collections
        corners = band.get_paths()[0].vertices
        spread = np.sqrt(((values - values.mean(0)) ** 2).sum(0) / 2)
        for t in range(5):
            heights = corners[corners[:, 0] == t, 1]
            assert (heights.min(), heights.max()) == pytest.approx(
                (values[:, t].mean() - spread[t], values[:, t].mean() + spread[t]), rel=1e-12
            )
    single = trajectory_figure(found.draws[:1]).axes
    assert [len(axes.lines) for axes in single] == [1, 1, 1] and not single[0].collections


def test_baselines_are_the_metrics_of_the_package(run, made):
    command = ("measure", made.model, made.data, *PROBE, "--rho", "0.1", "--variant", "asam-samsung", "--eta", "0.2")
    done = run(*command, "--baselines", "--test", made.test, "--json")
    assert done.code == 0
    found, network, (x, y) = done.json["baselines"], made.network(), made.inputs()
    close = {"rel": 1e-6, "abs": 1e-9}  # the circuit's inputs are rounded to 2^-32
    assert (found["N"], found["test_N"]) == (N, N)
    for name, (a, b) in {"train": (x, y), "test": test_inputs()}.items():
        assert found[name]["accuracy"] == accuracy(network, a, b)
        assert found[name]["loss"] == pytest.approx(mean_loss(network, a, b), **close)
    assert found["train"]["loss"] != found["test"]["loss"]
    for variant in ("sam", "asam-all", "asam-samsung"):
        wanted = sharpness(network, x, y, variant=variant, rho=0.1, eta=0.2)
        assert found[variant]["first_order"] == pytest.approx(wanted.first_order, **close)
        assert found[variant]["ascent"] == pytest.approx(wanted.ascent, **close)
    assert found["coherence"]["coherence"] == pytest.approx(coherence(network, x, y).coherence, **close)
    wanted = scaled_coherence(network, x, y, variant="asam-samsung", eta=0.2)
    assert found["scaled-coherence"]["coherence"] == pytest.approx(wanted.coherence, **close)
    number = int.from_bytes(blake3(b"").digest()[:7], "little")
    assert found["worst-case"]["alpha"] == worst_case_sharpness(network, x, y, seed=number).alpha
    assert all(row["seconds"] >= 0 for name, row in found.items() if name not in ("N", "test_N"))
    shown = run(*command, "--baselines", "--test", made.test).out
    assert f"{found['asam-samsung']['ascent']:.6g}" in shown and f"baselines on {N} samples; test: {N}" in shown


def test_inputs() -> tuple[torch.Tensor, torch.Tensor]:
    x, y = samples(1)
    return torch.tensor((x / 255 - 0.5) / 0.25), torch.tensor(y)


test_inputs.__test__ = False


def test_baselines_of_a_subset_take_the_drawn_samples(run, made):
    command = ("measure", made.model, made.data, *PROBE, "--seed", "a", "--baselines", "--subset", 10, "--json")
    found = run(*command).json["baselines"]
    assert "test" not in found and (found["N"], found["test_N"], found["worst-case"]["samples"]) == (10, None, 10)
    wanted = mean_loss(made.network(), *made.inputs(drawn("a", 10)))
    assert found["train"]["loss"] == pytest.approx(wanted, rel=1e-6)


def test_a_baseline_that_is_not_defined_says_why(run, made):
    command = ("measure", made.model, made.data, *PROBE, "--batch-norm", "train", "--baselines")
    found = run(*command, "--json").json["baselines"]
    assert set(found["coherence"]) == {"refused", "seconds"}
    assert found["train"]["loss"] == pytest.approx(
        mean_loss(made.network(batch_norm="train"), *made.inputs()), rel=1e-6
    )
    assert f"coherence: {found['coherence']['refused']}\n" in run(*command).out


def test_nothing_touches_the_global_random_state(run, made):
    before = torch.get_rng_state()
    assert run("measure", made.model, made.data, *PROBE, "--baselines", "--draws", 2, "--plot", "p.png").code == 0
    assert run("train", "mlp", made.data, "--epochs", 1, "--augment", "--test", made.test).code == 0
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--draws", 0), ["number of draws"]),
        (("--steps", 1), ["steps must be an integer of at least 2"]),
        (("--batch-size", 0), ["batch_size must be an integer of at least 1"]),
        (("--steps", 100), ["cannot draw 400 samples from 60"]),
        (("--variant", "asam"), ["sam, asam-all, asam-samsung"]),
        (("--statistic", "mean"), ["std-log-ratio"]),
        (("--batch-norm", "off"), ["eval, train"]),
        (("--eta", "x"), ["eta must be a number"]),
        (("--dtype", "float16"), ["float64, float32"]),
        (("--device", "tpu"), ["device tpu"]),
        (("--beacon", "00"), ["use --seed"]),
        (("--plot", "p.txt"), ["p.txt", ".png or .pdf or .svg"]),
        (("--plot", "none/p.png"), ["existing directory"]),
        (("--test", "x.npz"), ["belong to --baselines"]),
        (("--baselines", "--test", "x.npz"), ["x.npz"]),
        (("--baselines", "--subset", N + 1), ["1 to 60"]),
        (("--lr", "1e90"), ["vanishes or diverges"]),
    ],
)
def test_measure_refuses(run, made, options, words):
    refused(run("measure", made.model, made.data, *PROBE, *options), *words)


def test_a_plot_that_cannot_be_written_is_refused_before_the_work(run, made, monkeypatch):
    monkeypatch.setattr(api, "measure", lambda *_, **__: pytest.fail("measured"))
    refused(run("measure", made.model, made.data, *PROBE, "--plot", "p.txt"), "p.txt")


@pytest.mark.parametrize(("options", "words"), [(("--test", "x.npz"), "x.npz"), (("--subset", N + 1), "1 to 60")])
def test_baselines_that_cannot_be_made_are_refused_before_the_work(run, made, monkeypatch, options, words):
    monkeypatch.setattr(api, "measure", lambda *_, **__: pytest.fail("measured"))
    refused(run("measure", made.model, made.data, *PROBE, "--baselines", *options), words)


def test_measure_refuses_samples_of_other_shapes_and_classes(run, made, tmp_path_factory):
    place = tmp_path_factory.mktemp("other")
    np.savez(place / "wide.npz", x=np.zeros((20, 1, 4, 5), np.uint8), y=np.arange(20) % 3)
    np.savez(place / "many.npz", x=made.x[:20], y=np.arange(20))
    refused(run("measure", made.model, place / "wide.npz", *PROBE), "[1, 4, 4]", "[1, 4, 5]")
    refused(run("measure", made.model, place / "many.npz", *PROBE), "0 to 2")
    refused(run("measure", made.model, made.data, *PROBE, "--baselines", "--test", place / "wide.npz"), "[1, 4, 5]")


def test_batch_statistics_of_single_values_are_refused(run, made, tmp_path_factory):
    place = tmp_path_factory.mktemp("single")
    module = nn.Sequential(nn.Conv2d(1, 2, 4), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 3))
    from_module(module, input=INPUT).save(place / "m.pt")
    options = ("--steps", 2, "--batch-size", 1, "--batch-norm", "train")
    refused(run("measure", place / "m.pt", made.data, *options), "layer", "no batch statistics")


# --------------------------------------------------------------------------------------------------- audit


def test_audit_says_pass_or_fail_by_text_and_exit_code(run, made):
    score = run("measure", made.model, made.data, *PROBE, "--seed", "s", "--json").json["score"]
    command = ("audit", made.model, made.data, *PROBE, "--seed", "s")
    for tau, code, word in ((f"{score + 1e-9:.9f}", 0, "PASS"), (f"{score - 1e-9:.9f}", 1, "FAIL")):
        done = run(*command, "--tau", tau)
        assert (done.code, done.err) == (code, "")
        assert word in done.out.splitlines()[-1] and f"{score:.9f}" in done.out
        found = run(*command, "--tau", tau, "--json")
        assert (found.code, found.json["passed"]) == (code, code == 0)
        assert (found.json["score"], found.json["seed"], found.json["tau"]) == (score, "s", tau)
        assert found.json["calibration"] is None
        assert found.json["probe"] == Probe(steps=3, batch_size=4).to_dict()
        assert found.json["indices"] == np.reshape(drawn("s"), (3, 4)).tolist()


def test_audit_compares_exactly(made):
    found = api.audit(made.model, made.data, tau=1, config={"steps": 3, "batch_size": 4}, seed="s")
    score = Fraction(found.score)
    assert replace(found, tau=score).passed
    assert not replace(found, tau=score - Fraction(1, 10**40)).passed


def test_audit_draws_anew_each_time_and_can_be_repeated(run, made):
    first, second = (run("audit", made.model, made.data, *PROBE, "--tau", 100, "--json").json for _ in range(2))
    assert first["seed"] != second["seed"] and len(bytes.fromhex(first["seed"])) == 16
    assert first["indices"] != second["indices"]
    again = run("audit", made.model, made.data, *PROBE, "--tau", 100, "--seed", first["seed"], "--json").json
    assert {**again, "seconds": None} == {**first, "seconds": None}


def test_audit_reads_committed_data(run, made, tmp_path_factory):
    place = tmp_path_factory.mktemp("committed")
    api.commit(made.data, place / "d.zkd")
    done = run("audit", made.model, place / "d.zkd", *PROBE, "--tau", 100, "--seed", "s", "--json")
    assert done.code == 0 and done.json["indices"] == np.reshape(drawn("s"), (3, 4)).tolist()
    again = run("measure", made.model, place / "d.zkd", *PROBE, "--seed", "s", "--json")
    assert again.json["score"] == done.json["score"]


def test_audit_converts_the_drawn_samples_only(made, monkeypatch):
    from zkcert.api import samples as module

    seen = []
    honest = module.input_values
    monkeypatch.setattr(module, "input_values", lambda spec, x: seen.append(len(x)) or honest(spec, x))
    api.audit(made.model, made.data, tau=1, config={"steps": 3, "batch_size": 4})
    assert sum(seen) == 12


def calibration(place: Path, made: Files, **options: object) -> tuple[Path, float]:
    """A calibration for tau = 1/2 or so, of another probe than the default."""
    probe = Probe(steps=3, batch_size=4, **options)
    digests = [Model.load(made.model).weights_digest.hex(), "ab" * 32]
    good, bad = (Scored(f"m{i}", digests[i], "cd" * 32, (0.2 + i, 0.3 + i)) for i in range(2))
    found = assess([good], [bad], probe, risk=Fraction(0), seed="", data=[Source("d", N, "cd" * 32)])
    save_calibration(found, place / "calibration.json")
    return place / "calibration.json", float(found.tau)


def test_audit_takes_tau_and_probe_from_a_calibration(run, made, tmp_path_factory):
    path, tau = calibration(tmp_path_factory.mktemp("cal"), made, variant="asam-samsung", eta="0.3")
    command = ("audit", made.model, made.data, "--tau", path, "--seed", "s")
    done = run(*command, "--json")
    assert done.json["probe"] == Probe(steps=3, batch_size=4, variant="asam-samsung", eta="0.3").to_dict()
    assert float(done.json["tau"]) == tau and done.json["calibration"] == str(path)
    assert done.code == (0 if done.json["score"] <= tau else 1)
    same = run(*command, "--steps", 3, "--eta", "3/10", "--json")
    assert same.json["score"] == done.json["score"]
    for options, words in ((("--steps", 4), "steps 3"), (("--variant", "sam"), "variant asam-samsung")):
        refused(run(*command, *options), "the calibration was made with", words)


@pytest.mark.parametrize(
    ("tau", "options", "words"),
    [
        ("x", (), ["nor is there a calibration"]),
        ("-1", (), ["tau"]),
        ("1", ("--steps", 1), ["steps must be an integer of at least 2"]),
        ("1", ("--steps", 100), ["cannot draw"]),
        ("1", ("--device", "tpu"), ["device tpu"]),
        ("1", ("--rho", "0"), ["rho"]),
    ],
)
def test_audit_refuses(run, made, tau, options, words):
    refused(run("audit", made.model, made.data, "--tau", tau, *PROBE, *options), *words)


# --------------------------------------------------------------------------------------------------- train


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_training_writes_the_model_it_reports(run, made, optimizer):
    command = (
        "train",
        "mlp",
        made.data,
        "--optimizer",
        optimizer,
        "--epochs",
        4,
        "--batch-size",
        20,
        "--hidden",
        "9,5",
    )
    done = run(*command, "--hidden", "9,5", "--test", made.test, "--json")
    assert done.code == 0
    assert [line.split()[:2] for line in done.err.splitlines()] == [["epoch", str(i)] for i in range(1, 5)]
    assert {path.name for path in Path().iterdir()} == {"model.pt"}
    found, model = done.json, Model.load("model.pt")
    assert found["weights"] == model.weights_digest.hex()
    assert found["parameters"] == model.param_count == 16 * 9 + 9 + 9 * 5 + 5 + 5 * 3 + 3
    assert found["input"] == model.input
    assert model.input["mean"] == pytest.approx([made.x.mean() / 255], rel=1e-3)
    assert model.input["std"] == pytest.approx([made.x.std() / 255], rel=1e-3)
    assert found["options"] == {"optimizer": optimizer, "epochs": 4, "batch_size": 20, "lr": 0.001, "momentum": None,
                                "rho": None, "weight_decay": 0.0, "warmup": None, "augment": False, "seed": 0,
                                "device": "cpu", "hidden": [9, 5], **DEFAULTS[optimizer]}  # fmt: skip
    losses = found["losses"]
    assert len(losses) == len(found["test_accuracies"]) == 4 and losses[-1] < losses[0]
    network = Network.of_model(model, dtype=torch.float32)
    (mean,), (std,) = model.input["mean"], model.input["std"]
    for name, (x, y) in {"train": (made.x, made.y), "test": samples(1)}.items():
        inputs = torch.tensor((x / 255 - mean) / std, dtype=torch.float32)
        reached = found["train_accuracy"] if name == "train" else found["test_accuracies"][-1]
        assert reached == accuracy(network, inputs, torch.tensor(y))
    assert run("measure", "model.pt", made.data, *PROBE).code == 0


def test_training_learns_and_is_shown(run, made):
    done = run("train", "mlp", made.data, "--epochs", 30, "--lr", "0.01", "--test", made.test)
    assert done.code == 0
    lines = done.out.splitlines()
    assert len(lines) == 32 and "test accuracy" in lines[29]
    assert float(lines[-1].split()[2]) > 0.8


def test_training_is_deterministic_under_its_seed_and_options_matter(run, made):
    options = [(), (), ("--seed", 1), ("--lr", "0.01"), ("--batch-size", 7), ("--weight-decay", "0.1"),
               ("--warmup", "0.3"), ("--augment",), ("--hidden", ""), ("--optimizer", "sgd"),
               ("--optimizer", "sgd", "--momentum", "0.5"), ("--optimizer", "sam"),
               ("--optimizer", "sam", "--rho", "0.5"), ("--optimizer", "asam"), ("--classes", 4)]  # fmt: skip
    command = ("train", "mlp", made.data, "--epochs", 2, "--batch-size", 20, "--force", "--json")
    digests = [run(*command, *more).json["weights"] for more in options]
    assert digests[0] == digests[1]
    assert len(set(digests[1:])) == len(options) - 1
    assert run(*command, "--test", made.test).json["weights"] == digests[0]
    first, other = (run(*command, "--batch-size", N, "--seed", seed).json["losses"][0] for seed in (0, 1))
    assert abs(first - other) > 1e-3  # of one mini-batch, before any step: the initialisation differs


def test_evaluating_does_not_end_training_mode(run, made, tmp_path_factory):
    """With --test, dropout and batch-norm go on as without."""
    place = tmp_path_factory.mktemp("rgb")
    rng = np.random.default_rng(0)
    np.savez(place / "rgb.npz", x=rng.integers(0, 256, (8, 3, 32, 32), dtype=np.uint8), y=np.arange(8) % 2)
    command = ("train", "alexnet", place / "rgb.npz", "--epochs", 2, "--batch-size", 4, "--force", "--json")
    plain, tested = run(*command).json, run(*command, "--test", place / "rgb.npz").json
    assert plain["losses"] == tested["losses"] and plain["weights"] == tested["weights"]


def test_images_are_padded_to_what_an_architecture_reads(run, tmp_path_factory):
    place = tmp_path_factory.mktemp("grey")
    rng = np.random.default_rng(0)
    y = np.arange(12) % 3
    np.savez(place / "d.npz", x=(rng.normal(2, 3, (12, 1, 28, 28))).astype(np.float32), y=y)
    done = run("train", "lenet5", place / "d.npz", "--epochs", 1, "-o", "m.safetensors", "--json")
    assert done.code == 0, done.err
    model = Model.load("m.safetensors")
    assert (model.input["pad"], model.input_shape, model.classes) == (2, [1, 32, 32], 3)
    with np.load(place / "d.npz") as archive:
        x = archive["x"].astype(np.float64)
    assert model.input["mean"] == pytest.approx([x.mean()], rel=1e-3)
    assert model.input["std"] == pytest.approx([x.std()], rel=1e-3)


@given(
    arrays(np.uint8, st.tuples(st.integers(1, 5), st.integers(1, 3), st.just(2), st.just(3))),
    st.floats(0.01, 1000),
)
def test_moments_are_those_of_each_channel(x, scale):
    for raw, unit in ((x, 255.0), (np.round(x * scale * 2.0**32).astype(np.int64), 2.0**32)):
        schema, none = Schema(2, "u8", x.shape[1:]), np.zeros((len(x), 0), np.uint8)
        taken = lambda rows, raw=raw: (raw[np.asarray(rows)], np.zeros(len(rows)))  # noqa: E731
        source = Samples(len(x), x.shape[1:], 2, taken, schema, none.__getitem__)
        values = raw / unit
        means, deviations = moments(source)
        assert means == pytest.approx(values.mean((0, 2, 3)), rel=1e-3, abs=1e-12)
        for found, channel in zip(deviations, np.moveaxis(values, 1, 0), strict=True):
            assert found == (1.0 if len(np.unique(channel)) == 1 else pytest.approx(channel.std(), rel=1e-3))


def test_samples_do_not_depend_on_the_chunks_they_are_converted_in(made, monkeypatch):
    from zkcert.api import samples as module

    model, source = Model.load(made.model), open_samples(made.data)
    whole = source.inputs(model, range(N), torch.float64)
    monkeypatch.setattr(module, "_CHUNK", 7)
    parts = source.inputs(model, range(N), torch.float64)
    assert all(torch.equal(a, b) for a, b in zip(whole, parts, strict=True))
    assert np.array_equal(np.concatenate(list(source.chunks())), made.x)
    assert torch.allclose(whole[0], made.inputs()[0], atol=1e-6)


@pytest.mark.parametrize(
    ("architecture", "options", "words"),
    [
        ("mlp2", (), ["mlp, lenet5", "'mlp2'"]),
        ("vgg11", (), ["3 channels", "1x4x4"]),
        ("mlp", ("--optimizer", "lion"), ["adam, sgd, sam, asam"]),
        ("mlp", ("--epochs", 0), ["epochs"]),
        ("mlp", ("--batch-size", 0), ["batch_size"]),
        ("mlp", ("--seed", -1), ["seed"]),
        ("mlp", ("--lr", 0), ["lr"]),
        ("mlp", ("--lr", "nan"), ["lr"]),
        ("mlp", ("--momentum", "0.9"), ["Adam takes no momentum"]),
        ("mlp", ("--optimizer", "sgd", "--rho", "0.1"), ["rho"]),
        ("mlp", ("--optimizer", "sgd", "--momentum", 1), ["momentum"]),
        ("mlp", ("--weight-decay", -1), ["weight_decay"]),
        ("mlp", ("--warmup", 2), ["warmup"]),
        ("mlp", ("--hidden", "a"), ["--hidden"]),
        ("mlp", ("--hidden", "0"), ["widths"]),
        ("lenet5", ("--hidden", "9"), ["--hidden is of an mlp"]),
        ("mlp", ("--classes", 1), ["two classes"]),
        ("mlp", ("--classes", 2), ["labels must be integers from 0 to 1; there is a label 2"]),
        ("mlp", ("-o", "none/m.pt"), ["existing directory"]),
        ("mlp", ("--device", "tpu"), ["device tpu"]),
        ("mlp", ("--test", "missing.npz"), ["missing.npz"]),
    ],
)
def test_train_refuses_and_leaves_no_file(run, made, architecture, options, words):
    refused(run("train", architecture, made.data, *options), *words)


def test_diverged_training_leaves_no_file(run, made):
    done = run("train", "mlp", made.data, "--optimizer", "sgd", "--lr", "1e30", "--epochs", 3)
    assert [line.split()[0] for line in done.out.splitlines()] == ["epoch"]  # what came before is shown
    refused(replace(done, out=""), "diverged in epoch 2")


def test_train_says_which_arguments_are_swapped(run, made):
    done = run("train", made.data, "lenet5")
    refused(done, "ARCH comes before DATA", "zkcert train lenet5")


def test_train_refuses_test_data_of_another_shape(run, made, tmp_path_factory):
    place = tmp_path_factory.mktemp("other")
    np.savez(place / "wide.npz", x=np.zeros((3, 1, 4, 5), np.uint8), y=np.arange(3))
    refused(run("train", "mlp", made.data, "--test", place / "wide.npz"), "[1, 4, 5]")


@pytest.mark.parametrize("name", ["m.pt", "m.safetensors"])
def test_a_model_that_cannot_be_written_leaves_the_old_one(run, made, monkeypatch, name):
    assert run("train", "mlp", made.data, "--epochs", 1, "-o", name).code == 0
    before = Path(name).read_bytes()
    monkeypatch.setattr("os.fsync", Mock(side_effect=OSError(28, "No space left on device")))
    done = run("train", "mlp", made.data, "--epochs", 1, "--seed", 1, "-o", name, "--force")
    assert done.code == 2 and "No space left" in done.err
    assert {path.name: path.read_bytes() for path in Path().iterdir()} == {name: before}


def test_what_the_help_names_is_what_there_is(run):
    measured, trained = (" ".join(run(command, "--help").out.split()) for command in ("measure", "train"))
    assert not [n for n in (*STEP_FUNCTIONS, *STATISTICS, *BATCH_NORM_MODES, *api.DTYPES) if n not in measured]
    assert not [n for n in (*OPTIMIZERS, *api.ARCHITECTURES) if n not in trained]
    assert tuple(DEFAULTS) == OPTIMIZERS
