"""The datasets of the experiments: raw images as zkcert reads them, and how a network reads them."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.experiments import jpeg
from zkcert.data.dataset import load_dataset
from zkcert.errors import UnusableInput
from zkcert.zoo import CIFAR10_INPUT, CIFAR100_INPUT, LENET5_INPUT, fashion_mnist_small

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts it."""

INPUTS: dict[str, dict[str, Any]] = {
    "fashion": LENET5_INPUT,
    "shipped": LENET5_INPUT,
    "cifar": CIFAR10_INPUT,
    "cifar100": CIFAR100_INPUT,
}
"""Input specifications (padding, mean, deviation) by name of the dataset."""

SHIPPED_TEST = 500
"""Of the 2,000 images that ship with the package, the last so many are the test set."""


@dataclass(frozen=True)
class Sources:
    """Where the datasets are. Paths as `zkcert.data.dataset.load_dataset` takes them, or JPEG copies, see `jpeg`.

    A missing test path means the file beside the training data: t10k-images-idx3-ubyte(.gz), test_batch, or test.
    """

    fashion: str = str(FASHION_MNIST)
    fashion_test: str | None = None
    cifar: str | None = None
    cifar_test: str | None = None
    cifar100: str | None = None


@dataclass(frozen=True, eq=False)
class Data:
    """A dataset: raw images uint8 [n, C, H, W], labels int64 [n], the input specification, and where it comes from."""

    name: str
    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray
    input: dict[str, Any]
    origin: str

    @property
    def classes(self) -> int:
        """The number of classes."""
        return int(max(self.train_y.max(), self.test_y.max())) + 1

    def inputs(self, raw: np.ndarray) -> Tensor:
        """Raw images as the network reads them: padded, (x / 255 - mean) / std; float32 [n, C, H + 2p, W + 2p]."""
        pad = self.input["pad"]
        padded = np.pad(raw, [(0, 0), (0, 0), (pad, pad), (pad, pad)])
        mean, std = (np.array(self.input[key], np.float32)[:, None, None] for key in ("mean", "std"))
        return torch.from_numpy((padded.astype(np.float32) / np.float32(255) - mean) / std)


def load(name: str, sources: Sources, cache: Path) -> Data:
    """The dataset "fashion", "cifar", "cifar100", or "shipped" (2,000 images of Fashion-MNIST inside the package).

    JPEG copies are decoded once, into `cache`. Raises UnusableInput. The last two are kept in memory.
    """
    return _load(name, sources, cache)


@functools.lru_cache(maxsize=2)
def _load(name: str, sources: Sources, cache: Path) -> Data:
    if name == "shipped":
        x, y = fashion_mnist_small()
        y = y.astype(np.int64)
        origin = "the first 2,000 training images of Fashion-MNIST, the last 500 of them for testing"
        cut = len(x) - SHIPPED_TEST
        return Data(name, x[:cut], y[:cut], x[cut:], y[cut:], INPUTS[name], origin)
    match name:
        case "fashion":
            train, test, official = sources.fashion, sources.fashion_test, "Fashion-MNIST"
        case "cifar":
            if sources.cifar is None:
                raise UnusableInput("this experiment needs CIFAR-10: --cifar PATH (and --cifar-test PATH)")
            train, test, official = sources.cifar, sources.cifar_test, "CIFAR-10"
        case "cifar100":
            if sources.cifar100 is None:
                raise UnusableInput("this experiment needs CIFAR-100: --cifar100 PATH")
            train, test, official = sources.cifar100, None, "CIFAR-100"
        case _:
            raise UnusableInput(f"the dataset must be one of {', '.join(INPUTS)}, not {name!r}")
    spec = INPUTS[name]
    train_x, train_y, origin = _read(train, cache, official)
    test_x, test_y, test_origin = _read(test or _test_beside(Path(train)), cache, official)
    for x, path in ((train_x, train), (test_x, test)):
        if list(x.shape[1:]) != spec["shape"] or x.dtype != np.uint8:
            raise UnusableInput(f"{path}: expected uint8 images of shape {spec['shape']}, not {list(x.shape[1:])}")
    if test_origin != origin:
        origin = f"{origin}; tested on {test_origin}"
    return Data(name, train_x, train_y, test_x, test_y, spec, origin)


def _read(path: str, cache: Path, official: str) -> tuple[np.ndarray, np.ndarray, str]:
    source = Path(path)
    if source.suffix == ".npz" and jpeg.is_copy(source):
        state = source.stat()
        key = hashlib.sha256(f"{source.resolve()} {state.st_size} {state.st_mtime_ns}".encode()).hexdigest()[:16]
        decoded = cache / f"jpeg-{key}.npz"
        if not decoded.exists():
            jpeg.convert(source, decoded)
        source = decoded
    loaded = load_dataset(source)
    return loaded.x, loaded.y, _origin(source, official)


def _origin(source: Path, official: str) -> str:
    """What the data are: an .npz made by `jpeg` says so, another .npz could hold anything."""
    if source.suffix != ".npz":
        return official
    with np.load(source, allow_pickle=False) as archive:
        return str(archive["origin"]) if "origin" in archive else f"{official} (an .npz of unstated origin)"


def _test_beside(train: Path) -> str:
    names = [f"t10k-images{dot}idx3-ubyte{gz}" for dot in "-." for gz in ("", ".gz")]
    for path in [train / name for name in (*names, "test_batch", "test")]:
        if path.exists():
            return str(path)
    raise UnusableInput(f"{train}: found no test set beside it; name it with --test or --cifar-test")
