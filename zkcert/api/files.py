"""The files that commands read, and what they need to be installed."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from zkcert.data.committed import CommittedDataset
from zkcert.errors import UnusableInput
from zkcert.files.extras import needs_extras as needs_extras
from zkcert.public.config import ProbeConfig
from zkcert.public.kinds import MODEL, ROOT, SAMPLES, SECRET, expecting, kind_of
from zkcert.public.model import Model
from zkcert.public.reading import read_file
from zkcert.public.root import DatasetRoot

File = str | os.PathLike[str]
_PASSPHRASE_LIMIT = 4096


def check_device(device: str) -> None:
    """UnusableInput unless the device is there."""
    import torch

    if device not in ("cpu", "cuda") or (device == "cuda" and not torch.cuda.is_available()):
        raise UnusableInput(f"device {device[:40]} is not available; cpu always is")


def load_model(path: File) -> Model:
    """A model file; the error says so if it is another file of zkcert's."""
    from verifier.files import read_model

    with expecting(path, MODEL):
        return read_model(Path(path))[0]


def load_root(path: File) -> DatasetRoot:
    """A data.root; the error says so if it is another file of zkcert's."""
    with expecting(path, ROOT):
        return DatasetRoot.load(Path(path))


def open_dataset(path: File) -> CommittedDataset:
    """A data.zkd."""
    with expecting(path, SECRET):
        return CommittedDataset.open(os.fspath(path))


def expecting_samples(data: object) -> AbstractContextManager[None]:
    """If the block refuses a file that is no dataset, the error says so."""
    return expecting(data, SAMPLES) if isinstance(data, str | os.PathLike) else nullcontext()


def raw_samples(images: np.ndarray) -> np.ndarray[Any, Any]:
    """Samples as the metrics take them: uint8, and uint16 (tokens), as it is, floats as int64 in Q31.32."""
    if images.dtype in (np.uint8, np.uint16):
        return images
    return np.floor(images.astype(np.float64) * 2.0**32 + 0.5).astype(np.int64)


def batches(config: ProbeConfig, images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Samples (T B, C, H, W) as mini-batches of `raw_samples`; labels (T, B), or (T, B, L)."""
    shape = (config.steps, config.batch_size)
    return raw_samples(images).reshape(*shape, *images.shape[1:]), labels.reshape(*shape, *labels.shape[1:])


def is_committed(path: File) -> bool:
    """Whether a file begins as a .zkd does, or is called so."""
    return kind_of(path) == SECRET or Path(path).suffix == ".zkd"


def read_passphrase(path: File | None) -> str | None:
    """The text of a file, without a newline at its end; UnusableInput."""
    if path is None:
        return None
    try:
        text = read_file(path, _PASSPHRASE_LIMIT).decode()
    except UnicodeDecodeError as error:
        raise UnusableInput(f"{os.fspath(path)}: a passphrase is text in UTF-8") from error
    return text.removesuffix("\n").removesuffix("\r")
