"""Poisons with a hidden trigger keep their bound and their labels, and their gradient turns towards the attack's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from benchmarks.experiments.common import POISONS, Context, Recipe, load_data, train_model, training_set
from benchmarks.experiments.corruptions import TARGET, triggered
from benchmarks.experiments.hidden_trigger import Crafting, poisons
from zkcert.errors import UnusableInput

RECIPE = Recipe(dataset="shipped", samples=100, test_samples=50, model="mlp", width=8, epochs=2, batch_size=16)
HOW = Crafting(bound=24, steps=20)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return train_model(RECIPE, Context(tmp_path_factory.mktemp("cache")))


def gradient(module, images, radius=0.0):
    """Of the loss for the target class, by hand: at the weights, or after a step of that length along it."""
    weights = [p.detach().clone() for p in module.parameters()]
    labels = torch.full((len(images),), TARGET)
    try:
        for _ in range(2 if radius else 1):
            parts = torch.autograd.grad(cross_entropy(module(images), labels), list(module.parameters()))
            flat = torch.cat([g.flatten() for g in parts])
            with torch.no_grad():
                for p, g in zip(module.parameters(), parts, strict=True):
                    p += radius * g / flat.norm()
        return flat
    finally:
        with torch.no_grad():
            for p, w in zip(module.parameters(), weights, strict=True):
                p.copy_(w)


@pytest.mark.parametrize("radius", [0.0, 0.05])
def test_poisons_point_where_the_attack_does(trained, radius):
    x, y, inputs, module = trained.raw_x, trained.labels, trained.data.inputs, trained.module
    how = replace(HOW, radius=radius)
    before = [p.detach().clone() for p in module.parameters()]
    index, images = poisons(x, y, 0.04, module, inputs, how, seed=1)
    assert len(index) == 4 and (np.diff(index) > 0).all() and (y[index] == TARGET).all()
    assert images.dtype == np.uint8 and images.shape == x[index].shape
    assert 0 < np.abs(images.astype(int) - x[index]).max() <= how.bound
    assert all(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))
    others = np.random.default_rng([1, 10]).permutation(np.flatnonzero(y != TARGET))[: how.sources]
    wanted = gradient(module, inputs(triggered(x[others])), radius)
    cosine = [torch.cosine_similarity(gradient(module, inputs(a)), wanted, dim=0) for a in (x[index], images)]
    assert cosine[1] > cosine[0] + 0.05


def test_the_images_with_the_largest_gradients_are_changed(trained):
    x, y, inputs, module = trained.raw_x, trained.labels, trained.data.inputs, trained.module
    own = np.flatnonzero(y == TARGET)
    norms = {int(i): float(gradient(module, inputs(x[i : i + 1])).norm()) for i in own}
    index, _ = poisons(x, y, 0.03, module, inputs, replace(HOW, steps=1), seed=1)
    assert sorted(norms, key=norms.__getitem__)[-3:] == sorted(index.tolist(), key=norms.__getitem__)


@pytest.mark.parametrize("share", [0.0, 0.9])
def test_as_many_images_as_the_class_has(trained, share):
    with pytest.raises(UnusableInput, match=f"images of class {TARGET}"):
        poisons(trained.raw_x, trained.labels, share, trained.module, trained.data.inputs, HOW, seed=1)


def test_a_recipe_names_them_and_the_cache_keeps_them(tmp_path, monkeypatch):
    context, sapa = Context(tmp_path), RECIPE.but(corruption="sapa", amount=0.03)
    data = load_data("shipped", context)
    monkeypatch.setitem(POISONS, "sapa", replace(HOW, radius=0.05))
    raw, labels, clean = training_set(sapa, data, context)
    changed = (raw != train_model(RECIPE, context).raw_x).any((1, 2, 3))
    assert changed.sum() == 3 and np.array_equal(labels, clean) and (labels[changed] == TARGET).all()
    kept = {path: path.stat().st_mtime_ns for path in context.cache.iterdir()}
    assert np.array_equal(training_set(sapa, data, context)[0], raw)
    assert kept == {path: path.stat().st_mtime_ns for path in context.cache.iterdir()}
    model = train_model(sapa, context)
    assert np.array_equal(model.raw_x, raw)
    assert not torch.equal(model.clean[0], model.x)
    surrogates = [torch.load(path, weights_only=True).get("recipe", {}).get("seed") for path in kept]
    assert 1000 in surrogates  # not the victim's own seed
