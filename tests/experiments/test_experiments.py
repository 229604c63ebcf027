"""The experiments' framework: grids, measures, reports; table 1 and figure 1 end to end."""

from __future__ import annotations

import math
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.experiments import __main__ as command
from benchmarks.experiments import claims, datasets, failures, measures, report
from benchmarks.experiments.common import Context, Recipe, load_data, run_grid, train_model
from benchmarks.experiments.grid import TaskFailed
from benchmarks.experiments.models import build
from zkcert import api
from zkcert.convert import from_module
from zkcert.errors import UnusableInput
from zkcert.metric import Network, Probe

TINY = Recipe(dataset="shipped", samples=60, test_samples=50, model="mlp", width=6, lr=0.02, batch_size=16, epochs=2)


# ------------------------------------------------------------------------------------------- grids


def cube(item: int, context: Context) -> tuple[int, int, str]:
    """A task: what it got, and how many threads it has."""
    if item == 13:
        raise ValueError("thirteen is unlucky")
    if item == 14:
        raise UnusableInput("fourteen is unusable")
    return item**3, torch.get_num_threads(), context.device


@pytest.fixture(scope="module")
def ray_instance():
    """A local Ray for all tests, so that it starts once."""
    ray = pytest.importorskip("ray")
    options = {"num_cpus": 2, "object_store_memory": 100_000_000, "include_dashboard": False}
    ray.init(log_to_driver=False, logging_level="error", **options)
    yield ray
    ray.shutdown()


@pytest.fixture(params=["here", "joblib", "ray"])
def spread(request, tmp_path):
    """A context of each way to spread work."""
    if request.param == "ray":
        assert request.getfixturevalue("ray_instance").is_initialized()
    cluster = "local" if request.param == "ray" else None
    return Context(tmp_path, jobs=1 if request.param == "here" else 2, cluster=cluster)


def test_grids_give_the_same_results_in_order_however_they_run(tmp_path, spread):
    threads = torch.get_num_threads()
    assert run_grid(cube, list(range(6)), spread, "cubes") == [(i**3, 1, "cpu") for i in range(6)]
    assert torch.get_num_threads() == threads
    here = Context(tmp_path / "here")
    there = replace(spread, out=tmp_path / "there")
    recipes = [TINY, TINY.but(seed=1)]
    found = [
        [(t.test_loss, t.module.state_dict()["fc1.weight"]) for t in run_grid(train_model, recipes, c, "models")]
        for c in (here, there)
    ]
    for (loss, weight), (loss_there, weight_there) in zip(*found, strict=True):
        assert loss == loss_there and torch.equal(weight, weight_there)


def test_failing_tasks_name_their_item(spread):
    with pytest.raises(TaskFailed, match=r"(?s)cubes: 13: .*ValueError: thirteen is unlucky"):
        run_grid(cube, [1, 13], spread, "cubes")
    with pytest.raises(UnusableInput, match="cubes: 14: fourteen is unusable"):
        run_grid(cube, [1, 14, 2], spread, "cubes")
    assert run_grid(cube, [], spread, "cubes") == []


def test_a_grid_starts_its_own_ray_and_ends_it(tmp_path):
    ray = pytest.importorskip("ray")
    ray.shutdown()
    context = Context(tmp_path, jobs=1, cluster="local")
    assert run_grid(cube, [3, 2], context, "cubes") == [(27, 1, "cpu"), (8, 1, "cpu")]
    assert not ray.is_initialized()


def test_contexts_and_recipes_can_be_sent_to_workers(tmp_path):
    context = Context(tmp_path, sources=datasets.Sources(cifar="x"), parts=("gpt",))
    assert pickle.loads(pickle.dumps((context, TINY))) == (context, TINY)


# ---------------------------------------------------------------------------------------- measures


def test_draws_are_those_of_the_command(tmp_path):
    module = build("mlp", 1, 10, width=5)
    data = load_data("shipped", Context(tmp_path))
    raw, labels = data.test_x[:40], data.test_y[:40]
    from_module(module, input=data.input).save(tmp_path / "model.pt")
    np.savez(tmp_path / "data.npz", x=raw, y=labels)
    probe = Probe(steps=3, batch_size=4)
    expected = api.measure(tmp_path / "model.pt", tmp_path / "data.npz", config=probe.to_config(), seed="1").score
    network = Network.of_module(module.double())
    x, y = data.inputs(raw).double(), torch.from_numpy(labels)
    assert measures.scores(network, x, y, probe, [1])[0] == pytest.approx(expected, rel=1e-5)
    [found] = measures.trajectories(network, x, y, probe, ["1"])
    assert found.score == measures.scores(network, x, y, probe, [1])[0]


def test_all_measures_are_those_of_the_toolkit(tmp_path):
    from zkcert.metric.static import sharpness
    from zkcert.metric.worst_case import worst_case_sharpness

    trained = train_model(TINY, Context(tmp_path))
    probe = Probe(steps=2, batch_size=4)
    train = trained.x, trained.y
    options = {"restarts": 1, "ascent_steps": 2, "bisections": 1}
    found = measures.measure_all(
        trained.network(), train, trained.test, probe, range(3), which=list(measures.MEASURES), worst_case=options
    )
    assert set(found) == {*measures.MEASURES, *(f"{name}/{i}" for name in measures.DRAWN for i in range(3))}
    losses = [t.loss for t in measures.trajectories(trained.network(), *train, probe, range(3))]
    alone = [abs(math.log(a) - math.log(b)) / 2 for a, b in losses]  # the deviation of two numbers
    assert [found[f"log_loss/{i}"] for i in range(3)] == pytest.approx(alone)
    assert found["log_loss"] == pytest.approx(sum(alone) / 3)
    draws = [found[f"directional/{i}"] for i in range(3)]
    assert found["directional"] == pytest.approx(sum(draws) / 3) and len(set(draws)) == 3
    for kind, variant in (("sam", "sam"), ("asam", "asam-all")):
        static = sharpness(trained.network(), *train, variant=variant, rho=0.05)
        assert found[f"static_{kind}"] == static.first_order and found[f"static_{kind}_ascent"] == static.ascent
    assert found["worst_case"] == worst_case_sharpness(trained.network(), *train, **options, subset=60).sharpness
    for name in ("train_loss", "train_accuracy", "test_loss", "test_accuracy"):
        assert found[name] == pytest.approx(getattr(trained, name), rel=1e-6)


def test_divergence_is_an_infinite_score_and_bad_names_are_refused(tmp_path):
    trained = train_model(TINY, Context(tmp_path))
    module = trained.module
    with torch.no_grad():
        module.get_parameter("fc1.weight").fill_(math.nan)
    train = trained.x, trained.y
    network, probe = Network.of_module(module), Probe(steps=2, batch_size=2)
    assert measures.scores(network, *train, probe, [0]).tolist() == [math.inf]
    assert measures.trajectories(network, *train, probe, range(2)) == [None, None]
    for which, match in ((("nonsense",), "unknown measures nonsense"), (("test_loss",), "needs test samples")):
        with pytest.raises(UnusableInput, match=match):
            measures.measure_all(trained.network(), train, None, Probe(), [0], which=which)


def test_failed_draws_are_counted_and_leave_nothing_to_conclude():
    draws = {"clean": [[0.1, 0.2], [0.3, math.inf]], "noisy": [0.4, math.nan]}
    assert [failures.failed(scores) for scores in draws.values()] == [1, 1] and failures.failed([]) == 0
    assert "clean 1 of 4, noisy 1 of 2." in failures.note(draws)
    for verdict in report.VERDICTS:
        assert failures.settled(verdict, [1.0, 2.0], np.zeros((2, 2)), 0.5) == verdict
        assert failures.settled(verdict, [1.0], [2.0, math.inf]) == report.INCONCLUSIVE
        assert failures.settled(verdict, math.nan) == report.INCONCLUSIVE


# -------------------------------------------------------------------------------------- end to end


@pytest.mark.parametrize("name", ["table1", "figure1", "table7"])
def test_tiny_profiles_run_end_to_end(tmp_path, name, capsys):
    arguments = [name, "report", "--profile", "tiny", "--jobs", "1", "--out", str(tmp_path), "--seeds", "2"]
    assert command.main(arguments) == 0
    result = report.load(tmp_path / f"{name}.json")
    assert result.profile == "tiny" and result.seeds == 2 and "Fashion-MNIST" in result.data
    assert result.command == f"python -m benchmarks.experiments {name} --profile tiny --seeds 2"
    assert result.started and result.claims_file == claims.stamp([c.id for c in result.claims])
    assert result.claims and all(claim.rule and claim.numbers for claim in result.claims)
    assert result.date and result.machine and result.seconds > 0 and result.commit == report.commit()
    assert 1000 < (tmp_path / f"{name}.png").stat().st_size < report.MAX_FIGURE_BYTES
    assert result.title in (tmp_path / "RESULTS.md").read_text()
    assert result.title in capsys.readouterr().out
    cached = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()}
    assert command.main(arguments) == 0
    assert cached == {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()}
    assert repr(report.load(tmp_path / f"{name}.json").values) == repr(result.values)
