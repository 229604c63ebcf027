"""The profiles nobody runs in a test: every model they name can be built, every training they ask for can begin."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.experiments import common, gpt
from benchmarks.experiments.__main__ import EXPERIMENTS, experiment
from benchmarks.experiments.common import Context, Recipe
from benchmarks.experiments.datasets import INPUTS, Data
from benchmarks.experiments.own_poisoning import Poisoning, kinds
from benchmarks.experiments.own_text import TextRecipe
from benchmarks.experiments.table1 import Grid

FULL = ("small", "paper")


def members(value: Any) -> Iterator[Any]:
    """The value and everything in it: fields of dataclasses, items of containers; of grids also what they run."""
    yield value
    if isinstance(value, Grid):
        yield from (recipe for _, recipe in value.runs())
    if isinstance(value, Poisoning):
        yield from (attacker.recipe for attacker in kinds(value).values())
    if dataclasses.is_dataclass(value):
        parts = [getattr(value, f.name) for f in dataclasses.fields(value)]
    elif isinstance(value, Mapping):
        parts = list(value.values())
    else:
        parts = list(value) if isinstance(value, list | tuple) else []
    for part in parts:
        yield from members(part)


def found(kind: type) -> list[Any]:
    """All distinct objects of a kind in the profiles."""
    every = [m for name in EXPERIMENTS for p in FULL for m in members(experiment(name).PROFILES[p])]
    return list(dict.fromkeys(m for m in every if isinstance(m, kind)))


def data_of(name: str) -> Data:
    """Random images like those of a dataset: 30 for training, 20 for testing."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (50, *INPUTS[name]["shape"]), dtype=np.uint8)
    y = np.arange(50) % 10
    return Data(name, x[:30], y[:30], x[30:], y[30:], INPUTS[name], "random")


RECIPES = found(Recipe)


def test_profiles_have_recipes_of_all_kinds():
    assert {recipe.model for recipe in RECIPES} >= {
        "cnn",
        "lenet5",
        "vgg11",
        "vgg13_bn",
        "vgg16_bn",
        "vgg19_bn",
        "resnet18",
        "wrn28_10",
    }
    assert {recipe.optimizer for recipe in RECIPES} == {"sgd", "adam", "sam", "asam"}
    assert {recipe.dataset for recipe in RECIPES} == {"fashion", "cifar", "cifar100"}


@pytest.mark.parametrize("kind", sorted({(r.dataset, r.model, r.width, r.dropout > 0) for r in RECIPES}), ids=str)
def test_every_model_can_be_built_and_takes_the_images(kind):
    dataset, model, width, drops = kind
    data, dropout = data_of(dataset), 0.25 if drops else 0.0
    module = common.build_module(Recipe(dataset=dataset, model=model, width=width, dropout=dropout), data)
    with torch.no_grad():
        assert module.eval()(data.inputs(data.test_x[:2])).shape == (2, 10)


def training(recipe: Recipe) -> Recipe:
    """The same training of a small model on a few images."""
    few: dict[str, Any] = {"samples": 30, "test_samples": 20, "epochs": min(recipe.epochs, 2), "batch_size": 8}
    if recipe.corruption in common.POISONS:
        few["amount"] = 0.05  # two images
    return recipe.but(model="cnn", width=2, seed=0, data_seed=0, **few)


def way(recipe: Recipe) -> tuple[Any, ...]:
    """What takes other paths through the code than numbers do."""
    names = ("warmup", "until_loss", "until_accuracy", "momentum", "rho")
    optional = tuple(getattr(recipe, name) is None for name in names)
    return recipe.dataset, recipe.optimizer, recipe.corruption, recipe.augment, recipe.weight_decay > 0, *optional


TRAININGS = {way(recipe): training(recipe) for recipe in RECIPES}


@pytest.mark.parametrize("recipe", TRAININGS.values(), ids=lambda r: f"{r.dataset} {r.optimizer} {r.corruption}")
def test_every_training_can_begin(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(common, "load_data", lambda name, context: data_of(name))
    trained = common.train_model(recipe, Context(tmp_path))
    assert len(trained.history) == recipe.epochs or (recipe.until_loss, recipe.until_accuracy) != (None, None)
    assert all(torch.isfinite(p).all() for p in trained.module.parameters())


@pytest.mark.parametrize("shape", dict.fromkeys(recipe.shape for recipe in found(TextRecipe)), ids=str)
def test_every_language_model_can_be_built(shape):
    with torch.no_grad():
        logits = gpt.GPT(shape, seed=0).eval()(torch.zeros(2, shape.context, dtype=torch.int64))
    assert logits.shape[:2] == (2, shape.context)
