"""The float side: measure."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from blake3 import blake3

from zkcert.api.files import (
    File,
    batches,
    check_device,
    expecting_samples,
    is_committed,
    load_model,
    needs_extras,
    open_dataset,
)
from zkcert.config import ProbeConfig
from zkcert.core.permutation import sample_indices
from zkcert.data import load_dataset
from zkcert.errors import UnusableInput
from zkcert.statement import MAX_TAU, Statement, parse_beacon


@dataclass(frozen=True)
class Measurement:
    """The float64 metric. indices (T, B); sharpness s_t, loss L_t and log_ratio y_t have T entries each."""

    config: ProbeConfig
    indices: tuple[tuple[int, ...], ...]
    sharpness: tuple[float, ...]
    loss: tuple[float, ...]
    log_ratio: tuple[float, ...]
    score: float

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "config": self.config.canonical(),
            "indices": [list(batch) for batch in self.indices],
            "sharpness": list(self.sharpness),
            "loss": list(self.loss),
            "log_ratio": list(self.log_ratio),
            "score": self.score,
        }


def measure(
    model: File,
    data: File | Sequence[File],
    *,
    config: ProbeConfig | None = None,
    beacon: str | None = None,
    seed: str | None = None,
    device: str = "cpu",
) -> Measurement:
    """The float64 metric on the batches a proof would use, without proving anything.

    Of a committed dataset (data.zkd), the samples are those that `beacon` draws, or no beacon; of any other dataset
    those that BLAKE3 of the text `seed` (default: empty) draws.
    """
    config = config or ProbeConfig()
    loaded = load_model(model)
    if isinstance(data, str | os.PathLike) and is_committed(data):
        if seed is not None:
            raise UnusableInput("the samples of a committed dataset follow from the beacon: no --seed")
        dataset = open_dataset(data)
        statement = Statement.of(loaded, dataset.root, config, Fraction(MAX_TAU))  # tau does not move the seed
        indices = statement.with_beacon(parse_beacon(beacon)).indices()
        images, labels = dataset.images(indices), dataset.labels(indices)
    else:
        if beacon is not None:
            raise UnusableInput("a beacon draws from a committed dataset (data.zkd); use --seed")
        with expecting_samples(data):
            plain = load_dataset(data)
        if list(plain.x.shape[1:]) != loaded.input["shape"]:
            raise UnusableInput(
                f"the model takes samples of shape {loaded.input['shape']}, the dataset has {list(plain.x.shape[1:])}"
            )
        key = blake3((seed or "").encode()).digest()
        indices = sample_indices(key, len(plain), config.steps * config.batch_size)
        images, labels = plain.x[indices], plain.y[indices]
    with needs_extras("measuring"):
        from zkcert.metric import directional_sharpness
    check_device(device)
    found = directional_sharpness(loaded, *batches(config, images, labels), config, device)
    rows = np.reshape(indices, (config.steps, config.batch_size)).tolist()
    sharpness, loss, log_ratio = (tuple(v.tolist()) for v in (found.sharpness, found.loss, found.log_ratio))
    return Measurement(config, tuple(map(tuple, rows)), sharpness, loss, log_ratio, found.score)
