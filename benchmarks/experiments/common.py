"""What the experiments share: recipes of models, their training and its cache, profiles, the context of a run."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.experiments import cache
from benchmarks.experiments.corruptions import CORRUPTIONS, small
from benchmarks.experiments.datasets import INPUTS, Data, Sources, load
from benchmarks.experiments.grid import run_grid
from benchmarks.experiments.hidden_trigger import Crafting, poisons
from benchmarks.experiments.models import build
from zkcert import zoo
from zkcert.errors import UnusableInput
from zkcert.metric import Network
from zkcert.metric.evaluate import accuracy, mean_loss

__all__ = [
    "Context",
    "Data",
    "Profile",
    "Recipe",
    "Trained",
    "build_module",
    "load_data",
    "run_grid",
    "train_model",
    "training_set",
]

OPTIMIZERS = ("sgd", "adam", "sam", "asam")
_CACHE_VERSION = 2

POISONS = {"hidden_trigger": Crafting(), "sapa": Crafting(radius=0.05)}
"""Corruptions that take a surrogate, a model of the same recipe without them, of another seed; the second is SAPA's."""

_SURROGATE = 1000
"""How far the surrogate's seed is from the recipe's."""

CLAIMS_FIRST = 100
"""The first seed of experiments that test the paper's claims: docs/results/claims.toml says why."""


@dataclass(frozen=True)
class Recipe:
    """Everything that determines one trained model (on one machine).

    dataset        "fashion", "cifar", "cifar100" or "shipped", see `datasets.load`
    samples        size of the training subset, 0 for all; drawn with `data_seed`
    data_seed      of the subset and of the corruption
    test_samples   size of the test subset, the same whatever the seeds; 0 for all
    model          a name of `models.MODELS`; width (0: its own) and dropout, where it has them
    optimizer      "sgd", "adam", "sam" or "asam", as in `zkcert.zoo.train`, and so are lr, momentum (None: 0.9; Adam
                   has none), weight_decay, batch_size, warmup (None: constant rate), augment, and rho (of SAM and
                   ASAM; None: 0.05 and 0.5)
    epochs         at most so many
    until_loss     training stops after the first epoch at whose end the mean loss on the training set, in evaluation
                   mode, is at most this; it is estimated on so many random mini-batches as until_batches says, 0: on
                   the whole set
    until_accuracy training stops after the first epoch at whose end the accuracy on the training set (as corrupted), in
                   evaluation mode, is at least this
    seed           of initialisation, order of samples, augmentation and dropout
    corruption     a name of `corruptions.CORRUPTIONS` or of `POISONS`, applied to the training subset, by `amount`

    Raises UnusableInput.
    """

    dataset: str = "fashion"
    samples: int = 0
    data_seed: int = 0
    test_samples: int = 0
    model: str = "cnn"
    width: int = 0
    dropout: float = 0.0
    optimizer: str = "sgd"
    lr: float = 0.05
    momentum: float | None = None
    weight_decay: float = 0.0
    batch_size: int = 64
    epochs: int = 10
    until_loss: float | None = None
    until_batches: int = 0
    until_accuracy: float | None = None
    warmup: float | None = None
    augment: bool = False
    rho: float | None = None
    seed: int = 0
    corruption: str = "none"
    amount: float = 0.0

    def __post_init__(self) -> None:
        choices = {"dataset": INPUTS, "optimizer": OPTIMIZERS, "corruption": (*CORRUPTIONS, *POISONS)}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise UnusableInput(f"{name} must be one of {', '.join(allowed)}, not {getattr(self, name)!r}")

    def but(self, **changes: Any) -> Recipe:
        """The recipe with some fields changed."""
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Profile:
    """The size of an experiment; each experiment adds its fields, in a subclass.

    name    "tiny", "small" or "paper"
    seeds   how many seeds: repetitions of whatever the experiment draws at random
    ours    what of this configuration is our choice, for the report
    first   the first seed's number
    """

    name: str
    seeds: int
    ours: str = ""
    first: int = 0

    @property
    def numbers(self) -> range:
        """The seeds."""
        return range(self.first, self.first + self.seeds)


@dataclass(frozen=True)
class Context:
    """How and where an experiment runs; small and picklable, for it goes to every worker.

    out      directory of results; its `cache` holds trained models and decoded images
    jobs     processes; cluster: address of a Ray cluster, "local" for one on this machine, None for joblib
    again    train again what is in the cache
    parts    of an experiment that has parts: those to run, None for all
    """

    out: Path
    device: str = "cpu"
    jobs: int = 1
    cluster: str | None = None
    sources: Sources = field(default_factory=Sources)
    again: bool = False
    parts: tuple[str, ...] | None = None

    @property
    def cache(self) -> Path:
        """Of trained models and decoded images."""
        return self.out / "cache"


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained model and what it was trained on.

    module      in evaluation mode, on the context's device, float32
    raw_x, y    training samples, corrupted if the recipe says so: uint8 [n, C, H, W] and int64 [n]
    clean_y     the labels before the corruption
    data        the dataset it is a subset of; test_x, test_y: inputs and labels of the recipe's test subset
    history     the mean loss of each epoch, as met during training
    reached     whether `until_loss` and `until_accuracy` were reached, True without them
    seconds     of training, when it was trained
    """

    recipe: Recipe
    module: nn.Module
    data: Data
    raw_x: np.ndarray
    labels: np.ndarray
    clean_y: np.ndarray
    train_accuracy: float
    train_loss: float
    test_accuracy: float
    test_loss: float
    history: tuple[float, ...]
    reached: bool
    seconds: float

    @cached_property
    def x(self) -> Tensor:
        """Training inputs as the network reads them, on the CPU."""
        return self.data.inputs(self.raw_x)

    @cached_property
    def y(self) -> Tensor:
        """Training labels."""
        return torch.from_numpy(self.labels)

    @cached_property
    def test(self) -> tuple[Tensor, Tensor]:
        """Inputs and labels of the test subset, on the CPU."""
        return _test_set(self.recipe, self.data)

    @property
    def epochs(self) -> int:
        """How many epochs the training took."""
        return len(self.history)

    @property
    def gap(self) -> float:
        """The generalisation gap, as the paper has it: test loss less training loss."""
        return self.test_loss - self.train_loss

    @cached_property
    def clean(self) -> tuple[Tensor, Tensor]:
        """Inputs and labels of the training subset before the corruption, on the CPU."""
        raw, labels = small(self.data.train_x, self.data.train_y, self.recipe.samples, self.recipe.data_seed)
        return self.data.inputs(raw), torch.from_numpy(labels)

    def network(self, batch_norm: str = "eval") -> Network:
        """The model as the metrics take it."""
        return Network.of_module(self.module, batch_norm=batch_norm)


def load_data(name: str, context: Context) -> Data:
    """A dataset, see `datasets.load`."""
    return load(name, context.sources, context.cache)


def training_set(recipe: Recipe, data: Data, context: Context) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The raw images, labels, and labels before corruption that the recipe trains on."""
    x, y = small(data.train_x, data.train_y, recipe.samples, recipe.data_seed)
    if recipe.corruption in POISONS:
        return _with_poisons(recipe, data, context, x, y), y, y
    corrupted = CORRUPTIONS[recipe.corruption](x, y, recipe.amount, recipe.data_seed, data.classes)
    return *corrupted, y


def _with_poisons(recipe: Recipe, data: Data, context: Context, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The images with the poisons that the recipe's corruption names, from the cache if they are there."""
    how = POISONS[recipe.corruption]
    surrogate = recipe.but(corruption="none", amount=0.0, seed=recipe.seed + _SURROGATE)
    facts = {"poisons": asdict(how), "share": recipe.amount, "surrogate": surrogate.to_dict()}
    path = context.cache / f"{cache.key({'version': _CACHE_VERSION, 'device': context.device, **facts}, x, y)}.pt"
    entry = None if context.again else cache.read(path)
    if entry is None:
        module = train_model(surrogate, context).module
        index, made = poisons(x, y, recipe.amount, module, data.inputs, how, seed=recipe.data_seed)
        entry = {**facts, "index": torch.from_numpy(index), "images": torch.from_numpy(made)}
        cache.write(path, entry)
    changed = x.copy()
    changed[entry["index"].numpy()] = entry["images"].numpy()
    return changed


def _test_set(recipe: Recipe, data: Data) -> tuple[Tensor, Tensor]:
    raw, labels = small(data.test_x, data.test_y, recipe.test_samples, 0)
    return data.inputs(raw), torch.from_numpy(labels)


def build_module(recipe: Recipe, data: Data) -> nn.Module:
    """The recipe's network at its initialisation."""
    options = {"width": recipe.width, "dropout": recipe.dropout, "seed": recipe.seed}
    return build(recipe.model, data.train_x.shape[1], data.classes, **options)


def entry_of(recipe: Recipe, context: Context, *samples: np.ndarray) -> Path:
    """The model's place in the cache: it belongs to the recipe, the device, and the samples of training and test."""
    facts = {"version": _CACHE_VERSION, "device": context.device, **recipe.to_dict()}
    return context.cache / f"{cache.key(facts, *samples)}.pt"


def train_model(recipe: Recipe, context: Context) -> Trained:
    """The recipe's model, from the cache if it is there. Raises UnusableInput."""
    data = load_data(recipe.dataset, context)
    raw_x, y, clean_y = training_set(recipe, data, context)
    module = build_module(recipe, data).to(context.device)
    tested = small(data.test_x, data.test_y, recipe.test_samples, 0)
    path = entry_of(recipe, context, raw_x, y, *tested)
    entry = None if context.again else cache.read(path)
    if entry is None:
        entry = _train(module, recipe, data, raw_x, y, context.device)
        cache.write(path, entry)
    module.load_state_dict(entry["state"])
    module.eval()
    numbers = {key: entry[key] for key in ("train_accuracy", "train_loss", "test_accuracy", "test_loss", "seconds")}
    history, reached = tuple(entry["history"]), entry["reached"]
    return Trained(recipe, module, data, raw_x, y, clean_y, history=history, reached=reached, **numbers)


class _Reached(Exception):
    """What training goes on to is reached."""


def _options(recipe: Recipe) -> dict[str, Any]:
    """Of `zkcert.zoo.train`."""
    names = ("epochs", "lr", "batch_size", "optimizer", "momentum", "weight_decay", "rho", "warmup", "augment", "seed")
    return {name: getattr(recipe, name) for name in names}


Samples = tuple[Tensor, Tensor]


def follow(
    recipe: Recipe, data: Data, context: Context, after: Callable[[int, nn.Module, Samples, Samples], None]
) -> nn.Module:
    """Train the recipe's model for all its epochs, nothing from the cache nor into it.

    after  called with (epoch from 0, the module, training samples, test samples) after each; it must not change the
           module.
    """
    raw, labels, _ = training_set(recipe, data, context)
    train, test = (data.inputs(raw), torch.from_numpy(labels)), _test_set(recipe, data)
    module = build_module(recipe, data)
    progress = lambda epoch, loss: after(epoch, module, train, test)  # noqa: E731
    zoo.train(module, *train, device=context.device, progress=progress, **_options(recipe))
    return module


def enough(network: Network, recipe: Recipe, x: Tensor, y: Tensor, epoch: int) -> bool:
    """Whether a training that has somewhere to stop may stop after this epoch (from 0)."""
    wanted = []
    if recipe.until_accuracy is not None:
        wanted.append(accuracy(network, x, y) >= recipe.until_accuracy)
    if recipe.until_loss is not None:
        size = recipe.until_batches * recipe.batch_size
        if 0 < size < len(y):
            index = torch.from_numpy(np.random.default_rng([recipe.seed, 6, epoch]).permutation(len(y))[:size])
            x, y = x[index], y[index]
        wanted.append(mean_loss(network, x, y) <= recipe.until_loss)
    return bool(wanted) and all(wanted)


def _train(
    module: nn.Module, recipe: Recipe, data: Data, raw_x: np.ndarray, labels: np.ndarray, device: str
) -> dict[str, Any]:
    """Train the module in place; a cache entry."""
    x, y = data.inputs(raw_x), torch.from_numpy(labels)
    history: list[float] = []

    def after_epoch(epoch: int, loss: float) -> None:
        history.append(loss)
        if not math.isfinite(loss):
            raise _Reached  # a training that diverged does not come back
        if enough(Network.of_module(module), recipe, x, y, epoch):
            raise _Reached

    start = time.perf_counter()
    with suppress(_Reached):
        zoo.train(module, x, y, device=device, progress=after_epoch, **_options(recipe))
    seconds = time.perf_counter() - start
    network, test = Network.of_module(module), _test_set(recipe, data)
    train_loss = mean_loss(network, x, y)
    stops = recipe.until_loss is not None or recipe.until_accuracy is not None
    return {
        "recipe": recipe.to_dict(),
        "state": {name: value.cpu() for name, value in module.state_dict().items()},
        "train_accuracy": accuracy(network, x, y),
        "train_loss": train_loss,
        "test_accuracy": accuracy(network, *test),
        "test_loss": mean_loss(network, *test),
        "history": history,
        "reached": not stops or enough(network, recipe, x, y, len(history) - 1),
        "seconds": seconds,
    }
