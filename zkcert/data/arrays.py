"""What the arrays of a dataset may look like, whatever they were read from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from zkcert.public.root import MAX_CLASSES, MAX_VALUES, check_names

if TYPE_CHECKING:
    from zkcert.data.tokens import Windows

FLOAT_LIMIT = 2048.0
VALUES = ("bytes", "float32")


@dataclass(frozen=True)
class Options:
    """How to read what can be read in several ways.

    resize  (height, width) that pictures are scaled to, bilinear and antialiased; None: they must have one size.
    label   the column of a table that holds the labels: its name, or its number from 0, from -1 backwards.
    values  "bytes" or "float32": what the samples are taken as; None: whole numbers from 0 to 255 as bytes.
    names   the classes' names, in the order of the labels; None: texts are sorted; empty: texts
            are sorted, and not recorded.
    windows how tokens are read; None: the samples are no tokens.
    """

    resize: tuple[int, int] | None = None
    label: str | None = None
    values: str | None = None
    names: tuple[str, ...] | None = None
    windows: Windows | None = None


@dataclass(frozen=True)
class Raw:
    """What a reader found: samples x, labels y (numbers, or texts), names of the labels 0, 1, ... if it knows them, and
    notes for whoever looks at the data."""

    x: npt.NDArray[Any]
    y: npt.NDArray[Any]
    names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()


def taken_as_bytes(x: npt.NDArray[Any], options: Options) -> list[str]:
    """What to say of a table of whole numbers from 0 to 255, if nobody said what they are."""
    if options.values is not None or x.dtype.kind not in "iu" or (x.size and (x.min() < 0 or x.max() > 255)):
        return []
    return [
        "all values are whole numbers from 0 to 255 and are taken as bytes, of which models read x/255; "
        "--values float32 takes them as they are"
    ]


def labelled(
    y: npt.NDArray[Any], known: Sequence[str] | None, wanted: Sequence[str] | None
) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    """Class numbers (N,) and the names of the classes, if there are any; ValueError.

    y       numbers as `numbers` takes them, or texts.
    known   what the numbers stand for; wanted: the order that the names are to have, which may be more; if it is empty,
            the names are dropped.
    """
    if y.dtype.kind == "S":
        try:
            y = np.char.decode(y, "utf-8")
        except UnicodeDecodeError as error:
            raise ValueError("the labels are bytes that are no UTF-8 texts") from error
    if y.dtype.kind == "U":
        if y.ndim == 2 and y.shape[1] == 1:
            y = y[:, 0]
        if y.ndim != 1:
            raise ValueError(f"labels of shape {y.shape}; expected one for each sample")
        y, known = number_texts(y.tolist())
    found = numbers(y)
    if known is not None and wanted is None:
        try:
            known = check_names(list(known), max(len(known), int(found.max()) + 1))
        except ValueError as error:
            raise ValueError(f"{error}; give --names A,B,..., or --names '' to leave the names out") from error
    if not wanted:
        return found, tuple(known or ()) if wanted is None else ()
    names = check_names(list(wanted), len(wanted))
    if known is None:
        if (most := int(found.max())) >= len(names):
            raise ValueError(f"there is a label {most}, but only {len(names)} names of classes are given")
        return found, names
    place = {name: i for i, name in enumerate(names)}
    used = np.unique(found).tolist()
    if missing := [known[i] for i in used if known[i] not in place]:
        shown = ", ".join(ascii(name)[:60] for name in missing[:5])
        raise ValueError(f"the labels {shown} are not among the names of classes that are given")
    order = np.array([place.get(name, 0) for name in known], np.int64)
    return order[found], names


def number_texts(texts: Sequence[str]) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    """The place of each text among the sorted ones, and these; ValueError if they are too many."""
    names = sorted(set(texts))
    if len(names) > MAX_CLASSES:
        raise ValueError(f"the labels are {len(names)} different texts, as {ascii(names[0])[:60]}: are they labels?")
    place = {name: i for i, name in enumerate(names)}
    return np.array([place[text] for text in texts], np.int64), tuple(names)


def numbers(y: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Class numbers (N,) from numbers (N,) or (N, 1) without a fraction, truth values, or one-hot rows (N, K)."""
    if y.dtype.kind not in "biuf":
        raise ValueError(f"labels of type {y.dtype}; expected integers or texts")
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim == 2:
        if not 2 <= y.shape[1] <= MAX_CLASSES or not (((y == 0) | (y == 1)).all() and (y.sum(1) == 1).all()):
            raise ValueError(
                f"labels of shape {y.shape} are no one-hot rows of zeros and one 1; expected one number per sample"
            )
        y = y.argmax(1)
    if y.ndim != 1:
        raise ValueError(f"labels of shape {y.shape}; expected one class number per sample")
    if not len(y):
        raise ValueError("the dataset is empty")
    if y.dtype.kind == "f" and (broken := y != np.floor(y)).any():
        raise ValueError(f"the label of sample {broken.argmax()} is no integer; expected class numbers")
    low, high = y.min().item(), y.max().item()
    if low < 0 or high >= MAX_CLASSES:
        hint = ": leave out the samples without a label, as x[y >= 0], y[y >= 0]" if low < 0 else ""
        raise ValueError(f"labels span {low:.12g} to {high:.12g}; expected 0 to {MAX_CLASSES - 1} at most{hint}")
    return y.astype(np.int64)


def samples(x: npt.NDArray[Any], n: int, values: str | None = None) -> npt.NDArray[Any]:
    """Samples (n, C, H, W), uint8 or float32. Vectors (n, d) become n x 1 x 1 x d, and (n, H, W) one channel; integers
    must be from 0 to 255, unless `values` asks for float32; floats are rounded to float32. ValueError."""
    if x.dtype.kind not in "biuf":
        raise ValueError(f"samples of type {x.dtype}; expected uint8 or float32")
    if x.ndim == 2:
        x = x[:, None, None]
    elif x.ndim == 3:
        x = x[:, None]
    if x.ndim != 4 or not 1 <= math.prod(x.shape[1:]) <= MAX_VALUES:
        raise ValueError(
            f"samples have shape {x.shape}; expected (N, channels, height, width), of 1 to {MAX_VALUES} values each"
        )
    if len(x) != n:
        raise ValueError(f"{len(x)} samples but {n} labels; expected one label per sample")
    if x.dtype.kind == "b":
        raise ValueError("samples are truth values; make bytes of them, as x.astype(np.uint8) * 255, or float32")
    if x.dtype == np.uint8 and values != "float32":
        return x
    low, high = x.min().item(), x.max().item()
    if x.dtype.kind in "iu" and values != "float32":
        if low < 0 or high > 255:
            raise ValueError(
                f"samples are integers from {low} to {high}; scale them to bytes, 0 to 255, or take them as float32 "
                "(--values float32)"
            )
        return x.astype(np.uint8)
    if not np.isfinite([low, high]).all():
        wrong = int(np.argmin(np.isfinite(x).reshape(len(x), -1).all(1)))
        raise ValueError(f"sample {wrong} holds a NaN or an infinity; leave it out or replace the value")
    if values == "bytes":
        if low < 0 or high > 255 or (x != np.floor(x)).any():
            raise ValueError(f"samples from {low:g} to {high:g} are no whole numbers from 0 to 255: they are no bytes")
        return x.astype(np.uint8)
    rounded = x if max(-low, high) >= FLOAT_LIMIT else x.astype(np.float32, copy=False)
    if max(-rounded.min(), rounded.max()) >= FLOAT_LIMIT:
        raise ValueError(f"values span {low:g} to {high:g}; normalise them to |x| < {FLOAT_LIMIT:g}")
    return rounded
