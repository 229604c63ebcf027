"""What the tests of model share."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch

from zkcert.convert import from_module
from zkcert.foreign import model_file as other_model_file
from zkcert.public.model import Model
from zkcert.zoo import mlp

SMALL_INPUT = {"shape": [1, 4, 4], "pad": 0, "mean": [0.5], "std": [0.25]}


def small_model() -> Model:
    return from_module(mlp(16, [6], 3), input=SMALL_INPUT)


def file_bytes(model: Model, tmp_path, suffix: str = ".pt") -> bytes:
    path = tmp_path / f"model{suffix}"
    model.save(path)
    return path.read_bytes()


def converted(data: bytes) -> Model:
    """The model that `zkcert convert` reads in a file that zkcert did not write."""
    return Model.of(other_model_file.read(data))


def torch_bytes(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def small_pt(tmp_path_factory) -> bytes:
    return file_bytes(small_model(), tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def small_safetensors(tmp_path_factory) -> bytes:
    return file_bytes(small_model(), tmp_path_factory.mktemp("small"), ".safetensors")


CONV = {"op": "conv2d", "name": "c", "weight": "w", "bias": "b", "stride": [1, 1], "padding": [0, 0]}

POOL = {"op": "maxpool2d", "name": "p", "kernel": [2, 2], "stride": [2, 2]}

FLATTEN = {"op": "flatten", "name": "f"}

LINEAR = {"op": "linear", "name": "l", "weight": "v", "bias": None}

PARAMS = {
    "w": np.ones((2, 1, 3, 3), np.float32),
    "b": np.ones(2, np.float32),
    "v": np.ones((3, 2), np.float32),
}

STACK = [CONV, POOL, FLATTEN, LINEAR]
