"""The formats datasets come in, and what their arrays may look like. Nobody vouches for the files."""

from __future__ import annotations

import math
import os
import struct
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from zkcert.data.cifar import read_cifar
from zkcert.data.npz import NPY_MAGIC, NpzFile, check_unpacked, read_exactly, read_npy
from zkcert.errors import UnusableInput
from zkcert.public.reading import opened, read_file, read_head
from zkcert.public.root import MAX_CLASSES, MAX_VALUES

FLOAT_LIMIT = 2048.0
MAX_FILE_BYTES = 1 << 38
MAX_CIFAR_BYTES = 1 << 30

Source = str | os.PathLike[str]
Arrays = tuple[npt.NDArray[Any], npt.NDArray[Any]]

_BLOCK = 1 << 18  # bytes read at a time
_PAIRS = (
    ("x", "y"),
    ("X", "y"),
    ("images", "labels"),
    ("data", "labels"),
    ("data", "targets"),
    ("x_train", "y_train"),
    ("X_train", "y_train"),
    ("train_images", "train_labels"),
    ("arr_0", "arr_1"),
)
"""What the images and the labels in an .npz are called."""


def read_dataset(source: Source | Sequence[Source]) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64], str]:
    """Samples (N, C, H, W), uint8 or float32 below 2048 in magnitude, labels (N,) from 0, and the source's name.

    See `zkcert.data.dataset.load_dataset` for the formats. Raises UnusableInput.
    """
    paths = _paths(source)
    name = ",".join(map(str, paths))
    try:
        x, y = _read_pair(*paths) if len(paths) == 2 else _read(paths[0])
        labels = _labels(y)
        return _samples(x, len(labels)), labels, name
    except OSError as error:
        raise UnusableInput(f"{error.filename or name}: {error.strerror or error}") from error
    except ValueError as error:
        raise UnusableInput(f"{name}: {error}") from error


def _paths(source: Source | Sequence[Source]) -> list[Path]:
    if isinstance(source, str | os.PathLike):
        source = [source] if os.path.exists(source) else os.fspath(source).split(",")
    paths = [Path(p) for p in source]
    if not 1 <= len(paths) <= 2:
        raise UnusableInput("expected one dataset path, or an images file and a labels file")
    return paths


def _read(path: Path) -> Arrays:
    if path.is_dir():
        return _read_directory(path)
    head = read_head(path, 6)
    if head.startswith(b"PK"):
        return _read_npz(path)
    if head.startswith(b"\x80"):
        return _read_cifar(path)
    if head == NPY_MAGIC:
        raise UnusableInput(f"{path}: holds one array only; name the labels' file, too, as images.npy,labels.npy")
    if head.startswith((b"\x1f\x8b", b"\0\0")):
        return _read_pair(path, _labels_beside(path))
    raise UnusableInput(
        f"{path}: not an .npz, IDX or CIFAR file; np.savez('data.npz', x=x, y=y) writes one, where x is N x channels x "
        "height x width and y holds N class numbers"
    )


def _read_directory(path: Path) -> Arrays:
    batches = [path / f"data_batch_{i}" for i in range(1, 6)]
    if batches[0].exists():
        parts = [_read_cifar(batch) for batch in batches]
        return np.concatenate([x for x, _ in parts]), np.concatenate([y for _, y in parts])
    if (path / "train").is_file():
        return _read_cifar(path / "train")
    images = _first_existing(
        [path / f"train-images{dot}idx3-ubyte{gz}" for dot in "-." for gz in ("", ".gz")],
        f"{path}: holds neither train-images-idx3-ubyte(.gz) nor data_batch_1, nor CIFAR-100's train",
    )
    return _read_pair(images, _labels_beside(images))


def _first_existing(candidates: Iterable[Path], otherwise: str) -> Path:
    for path in candidates:
        if path.exists():
            return path
    raise UnusableInput(otherwise)


def _labels_beside(images: Path) -> Path:
    stem = images.name.removesuffix(".gz").replace("images", "labels").replace("idx3", "idx1")
    names = [stem, stem + ".gz"] if "images" in images.name else []
    return _first_existing(
        [images.with_name(name) for name in names],
        f"{images}: found no labels file beside it; name both as images,labels",
    )


def _read_pair(images: Path, labels: Path) -> Arrays:
    if read_head(images, 6) != NPY_MAGIC:
        return _read_idx(images, 3)[:, None], _read_idx(labels, 1)
    x, y = (_read_npy(path) for path in (images, labels))
    return _channels_first(x), y


def _read_npy(path: Path) -> npt.NDArray[Any]:
    with opened(path, MAX_FILE_BYTES) as (file, size):
        try:
            return read_npy(file, size)
        except ValueError as error:
            raise UnusableInput(f"{path}: {error}") from error


def _read_npz(path: Path) -> Arrays:
    with opened(path, MAX_FILE_BYTES) as (file, size):
        try:
            archive = NpzFile(file, size)
            pairs = [pair for pair in _PAIRS if set(pair) <= set(archive.members)]
            if len(pairs) != 1:
                raise ValueError(_which_arrays(list(archive.members), pairs))
            x, y = (archive[name] for name in pairs[0])
        except ValueError as error:
            raise UnusableInput(f"{path}: {error}") from error
    return (x if pairs[0] == _PAIRS[0] else _channels_first(x)), y


def _which_arrays(names: list[str], pairs: list[tuple[str, str]]) -> str:
    if pairs:
        return f"holds {' and '.join('/'.join(pair) for pair in pairs)}: keep one pair of images and labels"
    shown = ", ".join(ascii(name)[1:-1][:40] for name in names[:6]) + (", ..." if len(names) > 6 else "")
    return f"must hold the arrays x and y, or images and labels; it holds {shown or 'nothing'}"


def _channels_first(images: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """(N, H, W, C), C = 1 or 3, to (N, C, H, W); other shapes as they are."""
    if images.ndim == 4 and images.shape[3] in (1, 3) and images.shape[1] not in (1, 3):
        return np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    return images


class _Gunzip:
    """The content of a gzip file of one member."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._inflate = file, zlib.decompressobj(31)

    def read(self, count: int) -> bytes:
        """The next `count` bytes, fewer at the end; ValueError if the file is damaged."""
        out = b""
        try:
            while len(out) < count and not self._inflate.eof:
                data = self._inflate.unconsumed_tail or self._file.read(_BLOCK)
                if not data:
                    raise ValueError("damaged gzip file (it is cut short)")
                out += self._inflate.decompress(data, count - len(out))
        except zlib.error as error:
            raise ValueError(f"damaged gzip file ({error})") from error
        if self._inflate.eof and (self._inflate.unused_data or self._file.read(1)):
            raise ValueError("damaged gzip file (something follows its end)")
        return out


def _read_idx(path: Path, rank: int) -> npt.NDArray[np.uint8]:
    with opened(path, MAX_FILE_BYTES) as (file, size):
        try:
            return _idx(file, size, rank)
        except ValueError as error:
            raise UnusableInput(f"{path}: {error}") from error


def _idx(file: BinaryIO, size: int, rank: int) -> npt.NDArray[np.uint8]:
    packed = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    stream = _Gunzip(file) if packed else file
    start = 4 + 4 * rank
    head = stream.read(start)
    if head[:4] != bytes((0, 0, 8, rank)) or len(head) < start:
        raise ValueError(f"not an IDX file of unsigned bytes with {rank} axes")
    shape = struct.unpack_from(f">{rank}I", head, 4)
    count = math.prod(shape)
    if packed:
        check_unpacked(count, size)
    elif size != start + count:
        raise ValueError(f"holds {size - start} bytes, its header says {count}")
    return read_exactly(stream, count).reshape(shape)


def _read_cifar(path: Path) -> Arrays:
    data = read_file(path, MAX_CIFAR_BYTES)
    try:
        return read_cifar(data)
    except ValueError as error:
        raise UnusableInput(f"{path}: not a CIFAR batch ({error})") from error


# ------------------------------------------------------------------------------------------- the arrays


def _labels(y: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Class numbers (N,) from numbers (N,) or (N, 1) without a fraction, truth values, or one-hot rows (N, K)."""
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


def _samples(x: npt.NDArray[Any], n: int) -> npt.NDArray[Any]:
    """Samples (n, C, H, W), uint8 or float32. Vectors (n, d) become n x 1 x 1 x d, and (n, H, W) one channel; integers
    must be from 0 to 255; floats are rounded to float32."""
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
    if x.dtype == np.uint8:
        return x
    if x.dtype.kind == "b":
        raise ValueError("samples are truth values; make bytes of them, as x.astype(np.uint8) * 255, or float32")
    low, high = x.min().item(), x.max().item()
    if x.dtype.kind in "iu":
        if low < 0 or high > 255:
            raise ValueError(
                f"samples are integers from {low} to {high}; scale them to bytes, 0 to 255, or convert them to float32"
            )
        return x.astype(np.uint8)
    if not np.isfinite([low, high]).all():
        wrong = int(np.argmin(np.isfinite(x).reshape(len(x), -1).all(1)))
        raise ValueError(f"sample {wrong} holds a NaN or an infinity; leave it out or replace the value")
    rounded = x if max(-low, high) >= FLOAT_LIMIT else x.astype(np.float32, copy=False)
    if max(-rounded.min(), rounded.max()) >= FLOAT_LIMIT:
        raise ValueError(f"values span {low:g} to {high:g}; normalise them to |x| < {FLOAT_LIMIT:g}")
    return rounded
