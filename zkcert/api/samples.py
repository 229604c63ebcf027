"""The samples that float metrics are computed on: any dataset, committed or not."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from blake3 import blake3

from zkcert.api.files import expecting_samples, is_committed, open_dataset, raw_samples
from zkcert.core.permutation import sample_indices
from zkcert.data import coding
from zkcert.data.committed import schema_of
from zkcert.data.dataset import Dataset, load_dataset
from zkcert.data.normalised import input_values
from zkcert.errors import UnusableInput
from zkcert.public.model import Model
from zkcert.public.root import DatasetRoot, Schema

if TYPE_CHECKING:
    from torch import Tensor, dtype

_CHUNK = 1024  # samples converted at a time


@dataclass(frozen=True, eq=False)
class Samples:
    """n samples of one shape [C, H, W].

    classes  of a committed dataset the number its schema has, otherwise that of names, or the largest label + 1.
    take     k indices -> raw samples [k, C, H, W] as `zkcert.public.model.input_integers` reads them, uint8 or int64 in
             Q31.32, and labels [k], int64; or tokens, uint16, and labels [k, L]. Only these
             samples are converted; a data.zkd is not read into memory.
    encoded  k indices, and a schema with so many classes -> their bytes as a proof has them, uint8 [k, bytes].
    root     of a committed dataset.
    plain    of one that is not committed.
    """

    n: int
    shape: tuple[int, ...]
    classes: int
    take: Callable[[Sequence[int]], tuple[np.ndarray, np.ndarray]]
    schema: Schema
    encoded: Callable[[Sequence[int], Schema], np.ndarray]
    root: DatasetRoot | None = None
    plain: Dataset | None = None

    def draw(self, seed: str, count: int) -> list[int]:
        """Indices of `count` different samples: a permutation keyed by BLAKE3 of the text."""
        return sample_indices(blake3(seed.encode()).digest(), self.n, count)

    def chunks(self) -> Iterator[np.ndarray]:
        """All raw samples, some at a time."""
        for start in range(0, self.n, _CHUNK):
            yield self.take(range(start, min(start + _CHUNK, self.n)))[0]

    def require(self, model: Model) -> None:
        """UnusableInput unless the model takes samples of this shape."""
        if ("tokens" in model.input) != (self.schema.kind == "tokens"):
            reads = "windows of tokens" if "tokens" in model.input else "samples of numbers"
            more = ": say --context" if self.schema.kind != "tokens" else ""
            raise UnusableInput(f"the model reads {reads}, the data are {self.schema.samples_text()}{more}")
        if list(self.shape) != model.input["shape"]:
            more = " (say --context)" if "tokens" in model.input else ""
            raise UnusableInput(
                f"the model takes samples of shape {model.input['shape']}, the dataset has {list(self.shape)}{more}"
            )

    def inputs(self, model: Model, indices: Sequence[int], dtype: dtype) -> tuple[Tensor, Tensor]:
        """What the network of `model` reads, [k, C, H + 2p, W + 2p] on the CPU, and labels [k], int64; both checked. Of
        tokens [k, 1, 1, L], int64, and [k, L]."""
        import torch

        self.require(model)
        places = (model.input_shape[2],) if "tokens" in model.input else ()
        x = torch.empty((len(indices), *model.input_shape), dtype=torch.int64 if places else dtype)
        y = torch.empty((len(indices), *places), dtype=torch.int64)
        for start in range(0, len(indices), _CHUNK):
            rows = slice(start, start + _CHUNK)
            raw, labels = self.take(indices[rows])
            x[rows], y[rows] = torch.from_numpy(input_values(model.input, raw)), torch.from_numpy(labels)
        check_labels(model, y.numpy())
        return x, y


def check_labels(model: Model, labels: np.ndarray) -> None:
    """UnusableInput unless all labels are among the model's classes."""
    if labels.min() < 0 or labels.max() >= model.classes:
        wrong = labels.min() if labels.min() < 0 else labels.max()
        raise UnusableInput(f"labels must be integers from 0 to {model.classes - 1}; there is a label {wrong}")


def open_samples(data: Any) -> Samples:
    """A data.zkd file, or a dataset, in files or in memory, as `zkcert.data.dataset.load_dataset` reads it.

    Raises UnusableInput.
    """
    if isinstance(data, str | os.PathLike) and is_committed(data):
        secret = open_dataset(data)

        def committed(indices: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
            return raw_samples(secret.images(indices)), secret.labels(indices)

        schema = secret.schema

        def as_committed(indices: Sequence[int], schema: Schema) -> np.ndarray:
            return secret.sample_bytes(indices)

        return Samples(secret.n, schema.shape, schema.classes, committed, schema, as_committed, secret.root)
    with expecting_samples(data):
        plain = load_dataset(data)

    def take(indices: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        rows = np.asarray(indices, np.int64)
        return raw_samples(plain.x[rows]), plain.labels(rows)

    def encoded(indices: Sequence[int], schema: Schema) -> np.ndarray:
        rows = np.asarray(indices, np.int64)
        return coding.encode(schema, plain.x[rows], plain.y[rows])

    return Samples(len(plain), plain.x.shape[1:], plain.classes, take, schema_of(plain), encoded, plain=plain)
