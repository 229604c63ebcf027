"""Datasets as they are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from zkcert.data.arrays import VALUES, Options, Raw, labelled, samples
from zkcert.data.formats import Progress, read_files
from zkcert.data.memory import is_in_memory, read_memory
from zkcert.data.tokens import Windows, read_tokens
from zkcert.errors import UnusableInput


@dataclass(frozen=True, eq=False)
class Dataset:
    """Samples x (N, C, H, W), uint8 or float32, and labels y (N,), int64, as read from `source`; or windows of tokens,
    x (N, 1, 1, L), uint16, with the token behind each.

    names  what the labels 0, 1, ... stand for, if that is known; else empty.
    notes  what whoever looks at the data should know of their reading.
    """

    x: npt.NDArray[Any]
    y: npt.NDArray[np.int64]
    source: str
    names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    vocabulary: int | None = None
    """How many different tokens there are, if that is known."""

    @property
    def kind(self) -> str:
        """The kind in the schema: u8, q32 or tokens."""
        return {1: "u8", 2: "tokens"}.get(self.x.itemsize, "q32")

    @property
    def largest(self) -> int:
        """The largest label, or token."""
        top = int(self.y.max())
        return max(top, int(self.x.max())) if self.kind == "tokens" else top

    def labels(self, rows: Any) -> npt.NDArray[np.int64]:
        """The labels of some samples (k,); of tokens (k, L), those behind each position."""
        last: npt.NDArray[np.int64] = self.y[rows]
        if self.kind != "tokens":
            return last
        return np.concatenate([self.x[rows][:, 0, 0, 1:].astype(np.int64), last[:, None]], axis=1)

    def __len__(self) -> int:
        return len(self.x)

    @property
    def classes(self) -> int:
        """One for each name, or token of a known vocabulary, else the largest label plus one."""
        return len(self.names) or self.vocabulary or self.largest + 1

    def warnings(self, classes: int | None = None) -> list[str]:
        """What was noted while reading, and what looks like a mistake: channels in the last axis and,
        unless somebody says how many classes there are, a label of at least twice the number of different labels."""
        out, shape = [f"{self.source}: {note}" for note in self.notes], self.x.shape[1:]
        if self.kind == "tokens":
            return out
        if shape[2] in (1, 3, 4) and shape[0] not in (1, 3, 4) and min(shape[:2]) > 4:
            out.append(
                f"{self.source}: {shape[0]}x{shape[1]}x{shape[2]} looks like height x width x channels; expected are "
                "channels x height x width, as x.transpose(0, 3, 1, 2) gives them"
            )
        present, counts = np.unique(self.y, return_counts=True)
        if classes is None and not self.names and present[-1] >= 2 * len(present):
            times = "once" if counts[-1] == 1 else f"{counts[-1]} times"
            out.append(
                f"{self.source}: the largest label is {present[-1]}, which makes {present[-1] + 1} classes, but only "
                f"{len(present)} different labels occur; {present[-1]} occurs {times}: is that a mistake? (If not, "
                f"say --classes {present[-1] + 1}.)"
            )
        return out


def load_dataset(
    source: Any,
    *,
    resize: tuple[int, int] | None = None,
    label: str | int | None = None,
    values: str | None = None,
    names: Sequence[str] | None = None,
    context: int | None = None,
    stride: int | None = None,
    vocabulary: str | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Read a dataset, recognised by content.

    source  the name of a file or directory, or of two files, as a text with a comma or a sequence:

    * ``.npz`` with the arrays `x` and `y`, or `images` and `labels`, or other usual names, or a pair of ``.npy`` files
      (``"images.npy,labels.npy"``). Samples are (N, C, H, W), or (N, H, W) with one channel, or vectors (N, d), which
      become N x 1 x 1 x d, or, but for `x` and `y`, (N, H, W, C) with C = 1 or 3: integers from 0 to 255, or floats
      below 2048 in magnitude, which are rounded to float32. Labels are class numbers from 0 of any numeric type, (N,)
      or (N, 1), one-hot rows (N, K), or texts;
    * a folder that holds a folder of PNG or JPEG pictures for each class (ImageFolder);
    * CSV, Parquet or Arrow: a column of labels, and one of pictures, one of lists of numbers, or columns of numbers;
      a directory that `save_to_disk` of `datasets` wrote;
    * an IDX pair, plain or gzipped: the images file (the labels file is found beside it by its name), two
      paths (or ``"images,labels"``), or a directory such as ``/usr/share/datasets/fashion-mnist`` holding
      ``train-images-idx3-ubyte``;
    * CIFAR-10 or CIFAR-100 (fine labels) for Python: the directory ``cifar-10-batches-py`` or ``cifar-100-python``, of
      which the training part is read, or one batch file;

    or, with a context, tokens: a ``.npy`` file (or an array in memory) of integers, one stream (N,) or rows (N, L + 1);
    or a text (``.txt``), with a vocabulary;

    or what is in memory: a pair (x, y) of arrays or tensors, a PyTorch dataset (anything with `len` and items that are
    pairs of a sample and a label), or a `Dataset`.

    resize    (height, width) that pictures are scaled to; None: they must have one size.
    label     the column of a table that holds the labels, by name or number; None: the one called label, target, ...
    values    "bytes" or "float32": what the samples are taken as; None: whole numbers from 0 to 255 as bytes.
    names     the classes' names, in the order of the labels; None: as the source says, or texts in sorted order;
              empty: likewise, but they are not recorded.
    context   L: the samples are windows of L + 1 tokens, of which a model reads L and is asked for the one behind each.
    stride    from one window to the next; None: L.
    vocabulary  of a text: "characters" (those that occur), "bytes" (256), or a JSON file that lists the characters.
    progress  called with (pictures or items read, all), where that takes time.

    Returns the Dataset: `x`, `y`, `names`, `notes`. Raises UnusableInput.
    """
    options = Options(
        None if resize is None else (resize[0], resize[1]),
        None if label is None else str(label),
        values,
        None if names is None else tuple(names),
        None if context is None else Windows(context, stride, vocabulary),
    )
    if context is None and (stride is not None or vocabulary is not None):
        raise UnusableInput("a stride or a vocabulary is of windows of tokens: say their length, as --context 64")
    _check(options)
    if isinstance(source, Dataset):
        if options != Options():
            raise UnusableInput(f"{source.source}: is read already; give the options to the call that reads it")
        return source
    if options.windows is not None:
        return _tokens(source, options, options.windows)
    if is_in_memory(source):
        name = type(source).__name__
        try:
            raw, name = read_memory(source, options, progress)
            return _dataset(raw, name, options)
        except ValueError as error:
            raise UnusableInput(f"{name}: {error}") from error
    raw, name = read_files(source, options, progress)
    try:
        return _dataset(raw, name, options)
    except ValueError as error:
        raise UnusableInput(f"{name}: {error}") from error


def _dataset(raw: Raw, name: str, options: Options) -> Dataset:
    y, names = labelled(raw.y, raw.names, options.names)
    return Dataset(samples(raw.x, len(y), options.values), y, name, names, raw.notes)


def _tokens(source: Any, options: Options, windows: Windows) -> Dataset:
    if (options.resize, options.label, options.values) != (None, None, None):
        raise UnusableInput("tokens are read without resize, label and values: leave these options out")
    read, name = read_tokens(source, windows, options.names)
    x, y = read.windows[:, None, None, :-1], read.windows[:, -1].astype(np.int64)
    return Dataset(x, y, name, read.names, read.notes, read.count)


def _check(options: Options) -> None:
    if options.resize is not None and not (
        len(options.resize) == 2 and all(type(n) is int and 1 <= n <= 1 << 12 for n in options.resize)
    ):
        raise UnusableInput(f"pictures can be scaled to a height and a width from 1 to 4096, not {options.resize}")
    if options.values not in (None, *VALUES):
        raise UnusableInput(f"values are {' or '.join(VALUES)}, not {ascii(options.values)[:40]}")
