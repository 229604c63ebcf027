"""Datasets as they are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from zkcert.data.formats import Source, read_dataset


@dataclass(frozen=True)
class Dataset:
    """Samples x (N, C, H, W), uint8 or float32, and labels y (N,), int64, as read from `source`."""

    x: npt.NDArray[Any]
    y: npt.NDArray[np.int64]
    source: str

    @property
    def kind(self) -> str:
        """The kind in the schema: u8 or q32."""
        return "u8" if self.x.dtype == np.uint8 else "q32"

    def __len__(self) -> int:
        return len(self.x)

    def warnings(self, classes: int | None = None) -> list[str]:
        """What looks like a mistake: channels in the last axis and, unless somebody says how many classes there are, a
        label of at least twice the number of different labels."""
        out, shape = [], self.x.shape[1:]
        if shape[2] in (1, 3, 4) and shape[0] not in (1, 3, 4) and min(shape[:2]) > 4:
            out.append(
                f"{self.source}: {shape[0]}x{shape[1]}x{shape[2]} looks like height x width x channels; expected are "
                "channels x height x width, as x.transpose(0, 3, 1, 2) gives them"
            )
        present, counts = np.unique(self.y, return_counts=True)
        if classes is None and present[-1] >= 2 * len(present):
            times = "once" if counts[-1] == 1 else f"{counts[-1]} times"
            out.append(
                f"{self.source}: the largest label is {present[-1]}, which makes {present[-1] + 1} classes, but only "
                f"{len(present)} different labels occur; {present[-1]} occurs {times}: is that a mistake? (If not, "
                f"say --classes {present[-1] + 1}.)"
            )
        return out


def load_dataset(source: Source | Sequence[Source]) -> Dataset:
    """Read a dataset, recognised by content.

    * ``.npz`` with the arrays `x` and `y`, or `images` and `labels`, or other usual names, or a pair of ``.npy`` files
      (``"images.npy,labels.npy"``). Samples are (N, C, H, W), or (N, H, W) with one channel, or vectors (N, d), which
      become N x 1 x 1 x d, or, but for `x` and `y`, (N, H, W, C) with C = 1 or 3: integers from 0 to 255, or floats
      below 2048 in magnitude, which are rounded to float32. Labels are class numbers from 0 of any numeric type, (N,)
      or (N, 1), or one-hot rows (N, K);
    * an IDX pair, plain or gzipped: the images file (the labels file is found beside it by its name), two
      paths (or ``"images,labels"``), or a directory such as ``/usr/share/datasets/fashion-mnist`` holding
      ``train-images-idx3-ubyte``;
    * CIFAR-10 or CIFAR-100 (fine labels) for Python: the directory ``cifar-10-batches-py`` or ``cifar-100-python``, of
      which the training part is read, or one batch file.

    Raises UnusableInput.
    """
    return Dataset(*read_dataset(source))
