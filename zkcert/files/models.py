"""Writing model files; the verifier only reads them (`zkcert.public.model_file` has both formats)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from zkcert.public.kinds import MODEL
from zkcert.public.model_file import Content, Stored, is_safetensors, write

from .writing import Piece, write_file

if TYPE_CHECKING:
    from zkcert.public.model import Model


def stored(array: np.ndarray) -> Stored:
    """A float32 or float64 array as a model file has it."""
    numbers = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return Stored(f"F{8 * array.itemsize}", array.shape, numbers.reshape(-1).data.cast("B"))


def model_pieces(model: Model, path: str | os.PathLike[str]) -> Iterator[Piece]:
    """The bytes of a model's file, piece by piece: safetensors if the name says so, else what torch.load reads."""
    tensors = {name: stored(array) for name, array in model.tensors.items()}
    return write(Content(model.graph, model.input, tensors, is_safetensors(path)))


def write_model(path: str | os.PathLike[str], model: Model, *, force: bool = False) -> None:
    """What `Model.save` does."""
    write_file(path, model_pieces(model, path), MODEL, force=force)
