"""Datasets that are in memory already: arrays, PyTorch datasets, and others with `len` and items."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from zkcert.data import pictures
from zkcert.data.arrays import Options, Raw, taken_as_bytes
from zkcert.data.columns import listed

PAIRS = (
    ("x", "y"),
    ("X", "y"),
    ("images", "labels"),
    ("image", "label"),
    ("img", "label"),
    ("data", "labels"),
    ("data", "targets"),
    ("data", "target"),
    ("x_train", "y_train"),
    ("X_train", "y_train"),
    ("train_images", "train_labels"),
    ("arr_0", "arr_1"),
)
"""What samples and labels are called."""


def is_in_memory(source: object) -> bool:
    """Whether a source is no name of files."""
    if isinstance(source, str | os.PathLike):
        return False
    return not (isinstance(source, list | tuple) and source and all(isinstance(s, str | os.PathLike) for s in source))


def read_memory(source: Any, options: Options, progress: Callable[[int, int], None] | None = None) -> tuple[Raw, str]:
    """What is in memory, and what to call it: a pair of arrays (samples, labels), a mapping that holds such a pair, or
    anything with `len` whose items are pairs of a sample and a label (or mappings that hold them): a PyTorch dataset,
    one of `datasets`. Samples are arrays, tensors or pictures; labels are numbers or texts. ValueError.
    """
    name = type(source).__name__
    if isinstance(source, Mapping):
        pair = pair_of(list(source))
        return Raw(array(source[pair[0]]), array(source[pair[1]])), name
    if isinstance(source, tuple | list) and len(source) == 2 and all(_is_array(part) for part in source):
        x, y = map(array, source)
        return Raw(x, y, notes=tuple(taken_as_bytes(x, options)) if x.ndim == 2 and x.dtype != np.uint8 else ()), name
    if not hasattr(source, "__len__") or not hasattr(source, "__getitem__"):
        raise ValueError("expected a pair of arrays (x, y), or a dataset with a length and items")
    return _read_items(source, options, progress), name


def pair_of(names: Sequence[str]) -> tuple[str, str]:
    """The one pair of `PAIRS` that is there; ValueError."""
    pairs = [pair for pair in PAIRS if set(pair) <= set(names)]
    if len(pairs) == 1:
        return pairs[0]
    if pairs:
        raise ValueError(f"holds {' and '.join('/'.join(pair) for pair in pairs)}: keep one pair of images and labels")
    raise ValueError(f"must hold the arrays x and y, or images and labels; it holds {listed(names) or 'nothing'}")


def _is_array(value: object) -> bool:
    return hasattr(value, "__array__") or isinstance(value, list)


def array(value: Any) -> npt.NDArray[Any]:
    """An array, tensor, picture, list or number as an array; ValueError."""
    if hasattr(value, "getbands"):  # a picture of Pillow
        return pictures.pixels(value)
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        if str(value.dtype) in ("torch.bfloat16", "torch.float16"):
            value = value.float()
        value = value.numpy()
    out = np.asarray(value)
    if out.dtype.kind not in "biufUS":
        raise ValueError(f"holds {out.dtype}, where numbers are expected")
    return out


def _read_items(source: Any, options: Options, progress: Callable[[int, int], None] | None) -> Raw:
    count = len(source)
    if not count:
        raise ValueError("the dataset is empty")
    x: npt.NDArray[Any] | None = None
    labels = []
    for i in range(count):
        sample, label = _item(source, i, options)
        if x is None:
            x = np.empty((count, *sample.shape), sample.dtype)
        if sample.shape != x.shape[1:] or sample.dtype != x.dtype:
            raise ValueError(
                f"sample {i} is {sample.dtype} of shape {sample.shape}, the first {x.dtype} of shape {x.shape[1:]}"
            )
        x[i] = sample
        labels.append(label)
        if progress:
            progress(i + 1, count)
    assert x is not None
    for i in {0, count // 2, count - 1}:
        again, label = _item(source, i, options)
        if not np.array_equal(again, x[i], equal_nan=again.dtype.kind == "f") or label != labels[i]:
            raise ValueError(f"sample {i} is another one each time it is read: turn random transforms off")
    return Raw(x, array(labels), _names(source))


def _item(source: Any, i: int, options: Options) -> tuple[npt.NDArray[Any], Any]:
    item = source[i]
    if isinstance(item, Mapping):
        sample, label = (item[key] for key in pair_of(list(item)))
    elif isinstance(item, tuple | list) and len(item) == 2:
        sample, label = item
    else:
        raise ValueError(f"item {i} is no pair of a sample and a label, but {type(item).__name__}")
    is_picture = hasattr(sample, "getbands")
    values = pictures.pixels(sample, options.resize) if is_picture else array(sample)
    label = label if isinstance(label, str) else array(label).tolist()
    return values, label


def _names(source: Any) -> tuple[str, ...] | None:
    """What the labels stand for, if the dataset knows."""
    features = getattr(source, "features", None)
    if isinstance(features, Mapping):
        found = [names for feature in features.values() if (names := getattr(feature, "names", None))]
        if len(found) == 1:
            return tuple(found[0])
    classes = getattr(source, "classes", None)
    if isinstance(classes, list | tuple) and classes and all(isinstance(name, str) for name in classes):
        return tuple(classes)
    return None
