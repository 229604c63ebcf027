"""The experiments' framework, table 1 and figure 1: pieces against plain implementations, runs end to end."""

from __future__ import annotations

import io
import itertools
import json
import math
import pickle
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.experiments import __main__ as command
from benchmarks.experiments import corruptions, datasets, figure1, jpeg, measures, report, statistics, table1
from benchmarks.experiments.common import Context, Recipe, load_data, run_grid, train_model, training_set
from benchmarks.experiments.grid import TaskFailed
from benchmarks.experiments.models import CHANNELS, MODELS, build
from zkcert import api
from zkcert.convert import from_module
from zkcert.errors import UnusableInput
from zkcert.metric import Network, Probe
from zkcert.model import input_values

TINY = Recipe(dataset="shipped", samples=60, test_samples=50, model="mlp", width=6, lr=0.02, batch_size=16, epochs=2)


def images(n: int = 40, channels: int = 1, classes: int = 10) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(n)
    return rng.integers(0, 256, (n, channels, 12, 12), dtype=np.uint8), rng.integers(0, classes, n)


# ------------------------------------------------------------------------------------- corruptions


@given(n=st.integers(1, 60), rate=st.floats(0, 1), seed=st.integers(0, 9), classes=st.integers(2, 12))
def test_noisy_labels_change_exactly_their_share_to_other_classes(n, rate, seed, classes):
    y = np.arange(n) % classes
    noisy = corruptions.noisy_labels(y, rate, classes=classes, seed=seed)
    assert (noisy != y).sum() == round(rate * n)
    assert noisy.min() >= 0 and noisy.max() < classes
    assert np.array_equal(noisy, corruptions.noisy_labels(y, rate, classes=classes, seed=seed))
    assert np.array_equal(y, np.arange(n) % classes)


def test_noise_reaches_every_wrong_class_about_equally():
    noisy = corruptions.noisy_labels(np.full(9000, 3), 1.0, classes=10, seed=0)
    counts = np.bincount(noisy, minlength=10)
    assert counts[3] == 0 and all(850 < count < 1150 for k, count in enumerate(counts) if k != 3)


def test_seeds_choose_other_samples():
    y = np.zeros(1000, np.int64)
    a, b = (corruptions.noisy_labels(y, 0.5, classes=2, seed=seed) for seed in (0, 1))
    assert 350 < (a != b).sum() < 650


@pytest.mark.parametrize("channels", [1, 3])
def test_spurious_frame_betrays_the_label_of_its_share_and_leaves_the_inside(channels):
    x, y = images(400, channels)
    full = corruptions.spurious(x, y, 1.0, classes=10, seed=0)
    assert np.array_equal(full, corruptions.framed(x, y, classes=10))
    assert np.array_equal(full[..., 2:-2, 2:-2], x[..., 2:-2, 2:-2])
    colours = [full[y == k][:, :, 0, 0] for k in range(10)]
    assert all((c == c[0]).all() for c in colours)
    assert len({tuple(c[0]) for c in colours}) == 10
    half = corruptions.spurious(x, y, 0.5, classes=10, seed=0)
    telling = (half == full).all((1, 2, 3)).sum()
    assert 200 <= telling <= 240  # the others show a random class, which is the right one for a tenth of them


def test_frame_is_two_pixels_of_one_colour():
    x, _ = images(1, 3)
    frame = corruptions.framed(x, np.array([7]), classes=10)[0]
    for channel, k in zip(frame, (7, 1, 5), strict=True):  # 7 + 4 c modulo 10
        border = np.concatenate(
            [channel[:2].ravel(), channel[-2:].ravel(), channel[:, :2].ravel(), channel[:, -2:].ravel()]
        )
        assert set(border.tolist()) == {round(255 * k / 9)}


def test_badnets_marks_and_relabels_exactly_its_share():
    x, y = images(50)
    x[..., -4:, -4:], y[:] = 100, 5
    poisoned, labels = corruptions.badnets(x, y, 0.3, seed=1)
    changed = labels != y
    assert changed.sum() == 15 and (labels[changed] == corruptions.TARGET).all()
    assert np.array_equal(poisoned[changed], corruptions.triggered(x[changed]))
    assert np.array_equal(poisoned[~changed], x[~changed])
    assert poisoned[changed][0, 0, -4:-1, -4:-1].tolist() == [[255, 0, 255], [0, 255, 0], [255, 0, 255]]
    assert (x[..., -4:, -4:] == 100).all()
    outside = corruptions.triggered(x) != x
    assert outside.sum() == 50 * 9


@pytest.mark.parametrize("rate", [-0.1, 1.1, math.nan])
def test_rates_beyond_all_samples_are_refused(rate):
    with pytest.raises(UnusableInput, match="within 0 and 1"):
        corruptions.chosen(10, rate, 0)


def test_small_subset_keeps_images_with_their_labels():
    x, y = images(30)
    x[:, 0, 0, 0] = np.arange(30)
    sub_x, sub_y = corruptions.small(x, y, 12, seed=3)
    chosen = sub_x[:, 0, 0, 0]
    assert len(set(chosen.tolist())) == 12 and np.array_equal(sub_y, y[chosen])
    assert not np.array_equal(chosen, corruptions.small(x, y, 12, seed=4)[0][:, 0, 0, 0])
    assert corruptions.small(x, y, 0, seed=3)[0] is x
    with pytest.raises(UnusableInput, match="31 of 30"):
        corruptions.small(x, y, 31, seed=0)


def test_quantized_weights_are_the_nearest_of_sixteen_levels():
    module = build("cnn", 1, 10, width=2, seed=1)
    rounded = corruptions.quantize4(module)
    for (name, before), after in zip(module.named_parameters(), rounded.parameters(), strict=True):
        if "weight" not in name:
            assert torch.equal(before, after)
            continue
        values = before.detach().numpy().ravel()
        unit = np.abs(values).max() / 7
        levels = np.arange(-8, 8) * unit
        nearest = levels[np.abs(values[:, None] - levels).argmin(1)]
        assert np.allclose(after.detach().numpy().ravel(), nearest, atol=1e-6 * unit)
        assert not torch.equal(before, after)


# ---------------------------------------------------------------------------- data, models, training


def test_inputs_are_those_of_the_model_file():
    data = load_data("shipped", Context(Path("unused")))
    found = data.inputs(data.test_x[:30])
    assert found.dtype == torch.float32 and found.shape == (30, 1, 32, 32)
    assert np.allclose(found.numpy(), input_values(data.input, data.test_x[:30]), atol=1e-6)


def jpeg_copy(path: Path, n: int = 6) -> np.ndarray:
    """Write a copy of smooth images; the images."""
    from PIL import Image

    ramp = np.add.outer(np.arange(32), np.arange(32))
    pixels = np.stack([np.stack([(c * 60 + i * 9 + ramp) % 200 for c in range(3)], -1) for i in range(n)]).astype(
        np.uint8
    )
    files = []
    for image in pixels:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=95)
        files.append(buffer.getvalue())
    offsets = np.cumsum([0, *map(len, files)]).astype(np.uint32)
    data = np.frombuffer(b"".join(files), np.uint8)
    np.savez(path, jpeg=data, offsets=offsets, labels=np.arange(n, dtype=np.uint8))
    return pixels.transpose(0, 3, 1, 2)


def test_jpeg_copies_are_decoded_once_and_named(tmp_path):
    expected = jpeg_copy(tmp_path / "train.npz")
    jpeg_copy(tmp_path / "test.npz", 3)
    sources = datasets.Sources(cifar=str(tmp_path / "train.npz"), cifar_test=str(tmp_path / "test.npz"))
    data = load_data("cifar", Context(tmp_path / "out", sources=sources))
    assert data.origin == "CIFAR-10 (JPEG copy)" and data.train_x.shape == (6, 3, 32, 32) and len(data.test_y) == 3
    assert np.abs(data.train_x.astype(int) - expected).mean() < 4
    assert data.train_y.tolist() == list(range(6))
    assert len(list((tmp_path / "out" / "cache").glob("jpeg-*.npz"))) == 2
    jpeg.convert(tmp_path / "test.npz", tmp_path / "plain.npz")
    again = replace(sources, cifar_test=str(tmp_path / "plain.npz"))
    assert load_data("cifar", Context(tmp_path / "out", sources=again)).origin == "CIFAR-10 (JPEG copy)"


def test_archives_of_unstated_origin_are_called_so(tmp_path):
    x, y = np.zeros((4, 3, 32, 32), np.uint8), np.arange(4)
    np.savez(tmp_path / "a.npz", x=x, y=y)
    path = str(tmp_path / "a.npz")
    data = load_data("cifar", Context(tmp_path, sources=datasets.Sources(cifar=path, cifar_test=path)))
    assert data.origin == "CIFAR-10 (an .npz of unstated origin)"


def test_damaged_copies_and_missing_data_are_refused(tmp_path):
    jpeg_copy(tmp_path / "copy.npz")
    with np.load(tmp_path / "copy.npz") as archive:
        arrays = dict(archive)
    np.savez(tmp_path / "short.npz", **{**arrays, "offsets": arrays["offsets"][:-1]})
    np.savez(tmp_path / "noise.npz", **{**arrays, "jpeg": arrays["jpeg"][::-1]})
    for name in ("short", "noise"):
        with pytest.raises(UnusableInput, match=name):
            jpeg.decode(tmp_path / f"{name}.npz")
    for sources, expected in (
        (datasets.Sources(), "--cifar"),
        (datasets.Sources(cifar=str(tmp_path / "nothing")), "nothing"),
    ):
        with pytest.raises(UnusableInput, match=expected):
            load_data("cifar", Context(tmp_path, sources=sources))
    np.savez(tmp_path / "grey.npz", x=np.zeros((4, 1, 32, 32), np.uint8), y=np.arange(4))
    grey = datasets.Sources(cifar=str(tmp_path / "grey.npz"), cifar_test=str(tmp_path / "grey.npz"))
    with pytest.raises(UnusableInput, match=r"expected uint8 images of shape \[3, 32, 32\]"):
        load_data("cifar", Context(tmp_path, sources=grey))


def test_models_take_the_options_they_name_and_refuse_others():
    for name in MODELS:
        module = build(name, CHANNELS.get(name, 1), 10, dropout=0.0 if name in ("mlp", "lenet5") else 0.25)
        drops = [layer.p for layer in module.modules() if isinstance(layer, torch.nn.Dropout)]
        assert all(p == 0.25 for p in drops) and bool(drops) == (name not in ("mlp", "lenet5"))
    assert build("cnn", 3, 7, width=4)(torch.zeros(2, 3, 32, 32)).shape == (2, 7)
    before = torch.random.get_rng_state()
    a, b, c = (build("cnn", 1, 10, seed=seed).state_dict()["fc1.weight"] for seed in (1, 1, 2))
    assert torch.equal(a, b) and not torch.equal(a, c)
    assert torch.equal(torch.random.get_rng_state(), before)
    for options, match in (
        ({"name": "gpt"}, "must be one of"),
        ({"name": "lenet5", "width": 3}, "no width"),
        ({"name": "mlp", "dropout": 0.1}, "no dropout"),
        ({"name": "lenet5", "channels": 3}, "images of 1 channel"),
    ):
        with pytest.raises(UnusableInput, match=match):
            build(**{"channels": 1, "classes": 10, **options})


def test_digest_depends_on_every_field_and_on_nothing_else():
    other = {str: "adam", int: 7, float: 0.123, bool: True, type(None): 0.5}
    values = {"dataset": "fashion", "model": "cnn", "corruption": "badnets"}
    digests = {TINY.digest}
    for field in fields(Recipe):
        digests.add(TINY.but(**{field.name: values.get(field.name, other[type(getattr(TINY, field.name))])}).digest)
    assert len(digests) == len(fields(Recipe)) + 1
    assert Recipe(**TINY.to_dict()).digest == TINY.digest
    with pytest.raises(UnusableInput, match="optimizer"):
        TINY.but(optimizer="lbfgs")


def test_training_is_cached_and_the_cache_gives_the_same_model(tmp_path):
    context = Context(tmp_path)
    first = train_model(TINY, context)
    entry = tmp_path / "cache" / f"{TINY.digest}.pt"
    written = entry.stat().st_mtime_ns
    second = train_model(TINY, context)
    assert entry.stat().st_mtime_ns == written
    for name, value in first.module.state_dict().items():
        assert torch.equal(value, second.module.state_dict()[name])
    assert not second.module.training
    numbers = ("train_accuracy", "train_loss", "test_accuracy", "test_loss", "history", "seconds", "reached")
    assert all(getattr(first, name) == getattr(second, name) for name in numbers)
    assert len(first.history) == 2 and first.reached
    third = train_model(TINY, replace(context, again=True))
    assert entry.stat().st_mtime_ns != written
    assert torch.equal(third.module.state_dict()["fc1.weight"], first.module.state_dict()["fc1.weight"])
    entry.write_bytes(entry.read_bytes()[:-100])
    assert train_model(TINY, context).test_loss == first.test_loss


def test_numbers_of_a_trained_model_are_those_of_its_module(tmp_path):
    trained = train_model(TINY.but(corruption="noisy_labels", amount=0.5, data_seed=3), Context(tmp_path))
    data = load_data("shipped", Context(tmp_path))
    raw, labels, clean = training_set(trained.recipe, data)
    assert np.array_equal(raw, trained.raw_x) and np.array_equal(labels, trained.labels)
    x, y = corruptions.small(data.train_x, data.train_y, 60, seed=3)
    assert np.array_equal(raw, x) and np.array_equal(clean, y) and np.array_equal(clean, trained.clean_y)
    assert np.array_equal(labels, corruptions.noisy_labels(y, 0.5, classes=10, seed=3)) and (labels != y).sum() == 30
    for (x, y), accuracy, loss in (
        ((trained.x, trained.y), trained.train_accuracy, trained.train_loss),
        (trained.test, trained.test_accuracy, trained.test_loss),
    ):
        with torch.no_grad():
            logits = trained.module(x)
        assert accuracy == float((logits.argmax(1) == y).double().mean())
        assert loss == pytest.approx(float(torch.nn.functional.cross_entropy(logits, y)), rel=1e-5)
    assert trained.gap == trained.train_accuracy - trained.test_accuracy
    assert len(trained.test[1]) == 50


def test_training_stops_at_the_loss_in_evaluation_mode(tmp_path):
    recipe = TINY.but(model="cnn", width=2, dropout=0.4, epochs=40, until_loss=1.5)
    stopped = train_model(recipe, Context(tmp_path))
    assert stopped.reached and stopped.train_loss <= 1.5 and len(stopped.history) < 40
    before = train_model(recipe.but(epochs=len(stopped.history) - 1), Context(tmp_path))
    assert not before.reached and before.train_loss > 1.5
    assert before.history == stopped.history[:-1]


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
    assert set(found) == {*measures.MEASURES, "directional/0", "directional/1", "directional/2"}
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
    assert measures.scores(Network.of_module(module), *train, Probe(steps=2, batch_size=2), [0]).tolist() == [math.inf]
    for which, match in ((("nonsense",), "unknown measures nonsense"), (("test_loss",), "needs test samples")):
        with pytest.raises(UnusableInput, match=match):
            measures.measure_all(trained.network(), train, None, Probe(), [0], which=which)


# -------------------------------------------------------------------------------------- statistics


def plain_tau(pairs: list[tuple[float, float]]) -> float:
    """Jiang et al., Eq. 2, as printed: over all ordered pairs of different models."""
    ordered = list(itertools.permutations(pairs, 2))
    return sum(np.sign(m1 - m2) * np.sign(g1 - g2) for (m1, g1), (m2, g2) in ordered) / len(ordered)


def plain_psi(models: list[tuple[dict, float, float]], axes: list[str]) -> float:
    """Eq. 6: the mean over axes of the mean over settings of the others of tau along the axis."""
    psis = []
    for axis in axes:
        taus = []
        for setting in {tuple(v for k, v in sorted(c.items()) if k != axis) for c, _, _ in models}:
            there = [(m, g) for c, m, g in models if tuple(v for k, v in sorted(c.items()) if k != axis) == setting]
            if len(there) > 1:
                taus.append(plain_tau(there))
        if taus:
            psis.append(sum(taus) / len(taus))
    return sum(psis) / len(psis)


def test_psi_of_an_example_by_hand():
    """Two axes with two and three levels. Along a: +1, -1, +1, mean 1/3. Along b: a = 0 gives 1/3, a = 1 gives 1."""
    places = [{"a": a, "b": b} for a in (0, 1) for b in (0, 1, 2)]
    measure, target = np.array([1.0, 3, 2, 4, 5, 6]), np.array([1.0, 2, 3, 7, 1.5, 9])
    axes = {axis: statistics.axis_pairs(places, axis) for axis in ("a", "b")}
    assert statistics.concordance(measure, target, axes["a"]) == pytest.approx(1 / 3)
    # along b, a = 0: (1,1) (3,2) (2,3): two of three pairs agree, (2 - 1) / 3; a = 1: (4,7) (5,1.5) (6,9): again 1/3
    assert statistics.concordance(measure, target, axes["b"]) == pytest.approx(1 / 3)
    assert statistics.granulated(measure, target, axes) == pytest.approx(1 / 3)


small_values = st.lists(st.integers(0, 5), min_size=12, max_size=12)


@given(measure=small_values, target=small_values, kept=st.sets(st.integers(0, 11), min_size=4))
def test_coefficients_agree_with_the_formulas_as_printed(measure, target, kept):
    places = [{"a": a, "b": b, "seed": s} for a in range(3) for b in range(2) for s in range(2)]
    index = sorted(kept)
    models = [(places[i], float(measure[i]), float(target[i])) for i in index]
    m, g = np.array(measure, float)[index], np.array(target, float)[index]
    axes = {axis: statistics.axis_pairs([places[i] for i in index], axis) for axis in ("a", "b")}
    whole = statistics.all_pairs(len(index))
    assert statistics.concordance(m, g, whole) == pytest.approx(plain_tau([(a, b) for _, a, b in models]))
    found = statistics.granulated(m, g, axes)
    if all(len(pairs.a) == 0 for pairs in axes.values()):
        assert math.isnan(found)
    else:
        assert found == pytest.approx(plain_psi(models, ["a", "b"]))
    # twice every model is the same population: only pairs of different models count
    assert statistics.concordance(m, g, whole, np.full(len(index), 2.0)) == pytest.approx(
        statistics.concordance(m, g, whole)
    )


def test_weights_count_models_as_often_as_they_say():
    rng = np.random.default_rng(0)
    m, g, w = rng.normal(size=6), rng.normal(size=6), np.array([2.0, 0, 1, 3, 1, 0])
    pairs = [(i, j) for i, j in itertools.combinations(range(6), 2)]
    signs = [np.sign(m[i] - m[j]) * np.sign(g[i] - g[j]) for i, j in pairs]
    weights = [w[i] * w[j] for i, j in pairs]
    expected = np.average(signs, weights=weights)
    assert statistics.concordance(m, g, statistics.all_pairs(6), w) == pytest.approx(expected)


def test_spearman_agrees_with_scipy_and_takes_counts():
    from scipy.stats import spearmanr

    rng = np.random.default_rng(1)
    m, g = rng.integers(0, 6, 30).astype(float), rng.normal(size=30)
    assert statistics.spearman(m, g) == pytest.approx(spearmanr(m, g).statistic)
    w = rng.integers(0, 3, 30)
    expected = spearmanr(np.repeat(m, w), np.repeat(g, w)).statistic
    assert statistics.spearman(m, g, w.astype(float)) == pytest.approx(expected)
    assert math.isnan(statistics.spearman(np.ones(5), np.arange(5.0)))


def test_bootstrap_intervals_cover_the_mean_of_a_sample():
    values = np.random.default_rng(2).normal(3, 1, 400)
    samples = statistics.bootstrap(lambda w: float(np.average(values, weights=w)), 400, draws=500)
    low, high = statistics.interval(samples)
    error = values.std() / 20
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.3 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.3 * error)
    assert np.array_equal(samples, statistics.bootstrap(lambda w: float(np.average(values, weights=w)), 400, draws=500))
    assert statistics.interval(np.array([math.nan, 1.0, 1.0])) == (1.0, 1.0)
    assert all(map(math.isnan, statistics.interval(np.array([math.nan]))))


def test_students_interval_of_an_example_from_the_tables():
    """Mean 2, deviation 1, n = 3: 2 -+ 4.3027 / sqrt(3)."""
    assert statistics.paired_interval([1, 2, 3]) == pytest.approx((2 - 2.48414, 2 + 2.48414), abs=1e-4)
    assert statistics.paired_interval([1]) == (-math.inf, math.inf)


# ------------------------------------------------------------------------- verdicts of the two here


def coefficients(psi: tuple[float, float, float], leads: list[tuple[float, float]]) -> dict:
    return {
        "directional": {"kendall": [0.3, 0.1, 0.5], "psi": list(psi)},
        **{rival: {"lead": list(lead)} for rival, lead in zip(table1.RIVALS, leads, strict=True)},
    }


@pytest.mark.parametrize(
    ("psi", "leads", "count", "verdicts"),
    [
        ((0.3, 0.1, 0.5), [(0.1, 0.2)] * 3, 60, ("reproduced", "reproduced")),
        ((0.0, -0.1, 0.09), [(0.1, 0.2), (0.1, 0.2), (-0.3, -0.1)], 60, ("not reproduced", "not reproduced")),
        ((0.1, -0.1, 0.3), [(0.1, 0.2), (0.1, 0.2), (-0.3, 0.1)], 60, ("inconclusive", "inconclusive")),
        ((0.3, 0.1, 0.5), [(0.1, 0.2)] * 3, 9, ("inconclusive", "inconclusive")),
        ((math.nan,) * 3, [(math.nan, math.nan)] * 3, 60, ("inconclusive", "inconclusive")),
    ],
)
def test_verdicts_of_table_1_follow_their_rules(psi, leads, count, verdicts):
    found = table1.claims(coefficients(psi, leads), count)
    assert [claim.verdict.partition(" at")[0] for claim in found[1:]] == list(verdicts)


@pytest.mark.parametrize(
    ("sam", "verdict"),
    [([0.1, 0.2, 0.1], "reproduced"), ([2.1, 2.0, 2.2], "not reproduced"), ([0, 5, 1], "inconclusive")],
)
def test_verdicts_of_figure_1_follow_their_rule(sam, verdict):
    def models(values: list[float]) -> list[dict[str, float]]:
        return [{"score": v, "sharpness": v} for v in values]

    found = figure1.claims("lenet5", {"sgd": models([1.0, 1.1, 1.0]), "sam": models(sam)})
    assert [claim.verdict.partition(" at")[0] for claim in found] == [verdict] * 2
    assert "lenet5" in found[0].claim


def test_the_grid_of_table_1_is_full_and_pairs_levels_across_optimisers():
    grid = table1.PROFILES["small"]
    runs = grid.runs()
    assert len({recipe.digest for _, recipe in runs}) == len(runs) == 64 * grid.seeds
    places = [place for place, _ in runs]
    for axis in table1.AXES:
        pairs = statistics.axis_pairs(places, axis)
        assert len(pairs.a) == len(runs) / 2  # two levels everywhere
        assert all(places[a]["seed"] == places[b]["seed"] for a, b in zip(pairs.a, pairs.b, strict=True))


# ------------------------------------------------------------------------------------------ report


def example(**changes: object) -> report.Result:
    result = report.Result(
        name="table1",
        title="An example",
        profile="tiny",
        data="CIFAR-10 (JPEG copy)",
        seeds=2,
        ours="all of it",
        tables=[report.Table("T", ["a|b", "c"], [["x", 0.123456], ["y", None], ["z", math.inf]])],
        claims=[report.Claim("it works", report.REPRODUCED, "1 of 1", "more than none")],
        notes=["A note."],
        values={"points": [[1.0, math.nan], [math.inf, -math.inf]], "flag": True, "no": None},
    )
    return replace(result, **changes)


def dot(result: report.Result, figure: object) -> None:
    figure.subplots().plot([0, 1], [0, 1])


def test_results_survive_their_files(tmp_path):
    result = example(command="python -m x", machine="m", date="2026-01-01", seconds=61.5)
    report.save(result, tmp_path, dot, (2, 2))
    loaded = report.load(tmp_path / "table1.json")
    assert repr(loaded.to_dict()) == repr(result.to_dict())
    assert math.isnan(loaded.values["points"][0][1]) and loaded.values["points"][1] == [math.inf, -math.inf]
    assert loaded.values["flag"] is True and loaded.claims[0] == result.claims[0]
    assert "NaN" not in json.dumps(result.to_dict(), allow_nan=False).replace('"NaN"', "")
    text = (tmp_path / "table1.md").read_text()
    for part in (
        "python -m x",
        "2026-01-01",
        "1.0 min",
        "CIFAR-10 (JPEG copy)",
        "**reproduced**",
        "a\\|b",
        "0.1235",
        "inf",
    ):
        assert part in text
    assert (tmp_path / "table1.png").read_bytes().startswith(b"\x89PNG")


def test_reports_collect_what_is_there_and_refuse_large_figures(tmp_path):
    report.save(example(), tmp_path / "out", dot, (2, 2))
    target = tmp_path / "docs" / "RESULTS.md"
    assert report.collect(tmp_path / "out", ["figure1", "table1"], target) == ["table1"]
    text = target.read_text()
    assert "| An example | it works | **reproduced** |" in text and "![An example](results/table1.png)" in text
    assert (tmp_path / "docs" / "results" / "table1.png").exists()
    (tmp_path / "out" / "table1.png").write_bytes(b"x" * (report.MAX_FIGURE_BYTES + 1))
    with pytest.raises(UnusableInput, match="150001 bytes"):
        report.collect(tmp_path / "out", ["table1"], target)
    with pytest.raises(UnusableInput, match="no results of figure1"):
        report.collect(tmp_path / "out", ["figure1"], target)
    (tmp_path / "out" / "table1.json").write_text('{"name": 1}')
    with pytest.raises(UnusableInput, match="not a result"):
        report.collect(tmp_path / "out", ["table1"], target)


def test_verdicts_are_three():
    with pytest.raises(ValueError, match="one of reproduced, not reproduced, inconclusive"):
        report.Claim("a", "promising", "", "")


def test_spread_is_mean_and_sample_deviation():
    assert report.spread([1, 2, 3]) == "2 ± 1"
    assert report.spread([0.5]) == "0.5"
    assert report.spread([1, math.inf]) == "inf ± nan"


# -------------------------------------------------------------------------------------- end to end


@pytest.mark.parametrize("name", ["table1", "figure1"])
def test_tiny_profiles_run_end_to_end(tmp_path, name, capsys):
    arguments = [name, "report", "--profile", "tiny", "--jobs", "1", "--out", str(tmp_path), "--seeds", "2"]
    assert command.main(arguments) == 0
    result = report.load(tmp_path / f"{name}.json")
    assert result.profile == "tiny" and result.seeds == 2 and "Fashion-MNIST" in result.data
    assert result.command == f"python -m benchmarks.experiments {name} --profile tiny --seeds 2"
    assert result.claims and all(claim.rule and claim.numbers for claim in result.claims)
    assert result.date and result.machine and result.seconds > 0
    assert 1000 < (tmp_path / f"{name}.png").stat().st_size < report.MAX_FIGURE_BYTES
    assert result.title in (tmp_path / "RESULTS.md").read_text()
    assert result.title in capsys.readouterr().out
    cached = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()}
    assert command.main(arguments) == 0
    assert cached == {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()}
    assert repr(report.load(tmp_path / f"{name}.json").values) == repr(result.values)


def test_commands_in_reports_hide_the_paths_of_the_machine():
    arguments = [
        "table7",
        "figure1",
        "--cifar",
        "/secret/c",
        "--cluster",
        "ray://host:1",
        "--device",
        "cuda",
        "--out",
        "/secret",
    ]
    args = command.parser().parse_args([*arguments, "--parts", "gpt,noise"])
    expected = "table7 --profile small --cluster ... --cifar ... --device cuda --parts gpt,noise"
    assert command.command_of("table7", args) == f"python -m benchmarks.experiments {expected}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["table1", "--jobs", "0"], "--jobs and --seeds must be positive"),
        (["table1", "--seeds", "0"], "--jobs and --seeds must be positive"),
        (["report"], "no results of"),
        (["table1", "--profile", "paper"], "--cifar PATH"),
        (["table1", "--data", "nowhere"], "nowhere"),
    ],
)
def test_unusable_options_are_one_line_and_exit_code_2(tmp_path, capsys, arguments, message):
    assert command.main([*arguments, "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
