"""Language models, trained or taken from the cache."""

from __future__ import annotations

import time
from typing import Protocol

from benchmarks.experiments import cache, gpt
from benchmarks.experiments.common import Context


class Recipe(Protocol):
    """What a model is trained by, beside its windows."""

    @property
    def shape(self) -> gpt.Shape: ...
    @property
    def steps(self) -> int: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def lr(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def seed(self) -> int: ...


def cached_training(recipe: Recipe, texts: gpt.Window, name: str, context: Context) -> tuple[gpt.GPT, float]:
    """The recipe's model of these windows and how many seconds its training took; name: of its entry in the cache."""
    module, path = gpt.GPT(recipe.shape, seed=recipe.seed), context.cache / f"{name}.pt"
    entry = None if context.again else cache.read(path)
    if entry is None:
        start = time.perf_counter()
        options = {key: getattr(recipe, key) for key in ("steps", "batch_size", "lr", "weight_decay", "seed")}
        gpt.train(module, texts, device=context.device, **options)
        state = {key: value.cpu() for key, value in module.state_dict().items()}
        entry = {"state": state, "seconds": time.perf_counter() - start}
        cache.write(path, entry)
    module.load_state_dict(entry["state"])
    return module.to(context.device).eval(), entry["seconds"]
