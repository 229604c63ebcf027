"""The experiments' data, defects, models and training."""

from __future__ import annotations

import io
import math
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.experiments import corruptions, datasets, jpeg
from benchmarks.experiments.common import Context, Recipe, entry_of, load_data, train_model, training_set
from benchmarks.experiments.models import CHANNELS, MODELS, build
from zkcert.data.normalised import input_values
from zkcert.errors import UnusableInput

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


def test_entries_of_the_cache_depend_on_every_field_the_device_and_the_samples(tmp_path):
    other = {str: "adam", int: 7, float: 0.123, bool: True, type(None): 0.5}
    values = {"dataset": "fashion", "model": "cnn", "corruption": "badnets"}
    context, samples = Context(tmp_path), (np.zeros((2, 1, 2, 2), np.uint8), np.zeros(2, np.int64))
    entries = {entry_of(TINY, context, *samples)}
    for field in fields(Recipe):
        changed = TINY.but(**{field.name: values.get(field.name, other[type(getattr(TINY, field.name))])})
        entries.add(entry_of(changed, context, *samples))
    entries.add(entry_of(TINY, replace(context, device="cuda"), *samples))
    entries.add(entry_of(TINY, context, samples[0], samples[1] + 1))
    entries.add(entry_of(TINY, context, samples[0].reshape(2, 1, 4, 1), samples[1]))
    assert len(entries) == len(fields(Recipe)) + 4
    again = tuple(a.copy() for a in samples)
    assert entry_of(Recipe(**TINY.to_dict()), replace(context, jobs=2, again=True), *again) in entries
    with pytest.raises(UnusableInput, match="optimizer"):
        TINY.but(optimizer="lbfgs")


def test_other_data_at_the_same_place_are_not_served_from_the_cache(tmp_path):
    rng, recipe = np.random.default_rng(0), TINY.but(dataset="cifar", samples=20, test_samples=0, epochs=1)
    found = []
    for name in ("a", "b", "a"):
        for part in ("train", "test"):
            path = tmp_path / f"{name}-{part}.npz"
            if not path.exists():
                x, y = rng.integers(0, 256, (20, 3, 32, 32), dtype=np.uint8), np.arange(20) % 10
                np.savez(path, x=x, y=y)
        sources = datasets.Sources(cifar=str(tmp_path / f"{name}-train.npz"), cifar_test=str(tmp_path / "a-test.npz"))
        found.append(train_model(recipe, Context(tmp_path / "out", sources=sources)))
    assert found[0].train_loss == found[2].train_loss != found[1].train_loss
    assert len(list((tmp_path / "out" / "cache").glob("*.pt"))) == 2
    sources = datasets.Sources(cifar=str(tmp_path / "a-train.npz"), cifar_test=str(tmp_path / "b-test.npz"))
    assert train_model(recipe, Context(tmp_path / "out", sources=sources)).test_loss != found[0].test_loss


def test_training_is_cached_and_the_cache_gives_the_same_model(tmp_path):
    context = Context(tmp_path)
    first = train_model(TINY, context)
    (entry,) = (tmp_path / "cache").iterdir()
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
    raw, labels, clean = training_set(trained.recipe, data, Context(tmp_path))
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
    assert trained.gap == trained.test_loss - trained.train_loss  # of losses, not of accuracies
    assert len(trained.test[1]) == 50


def test_training_stops_at_the_loss_in_evaluation_mode(tmp_path):
    recipe = TINY.but(model="cnn", width=2, dropout=0.4, epochs=40, until_loss=1.5)
    stopped = train_model(recipe, Context(tmp_path))
    assert stopped.reached and stopped.train_loss <= 1.5 and len(stopped.history) < 40
    before = train_model(recipe.but(epochs=len(stopped.history) - 1), Context(tmp_path))
    assert not before.reached and before.train_loss > 1.5
    assert before.history == stopped.history[:-1]
