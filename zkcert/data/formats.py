"""The formats datasets come in. Nobody vouches for the files."""

from __future__ import annotations

import math
import os
import struct
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from zkcert.data.arrays import Options, Raw
from zkcert.data.arrow import ARROW_HEADS, is_saved, read_arrow, read_saved
from zkcert.data.cifar import read_cifar
from zkcert.data.csv_table import CSV_SUFFIXES, is_text, read_csv
from zkcert.data.folder import is_folder_of_pictures, read_folder
from zkcert.data.memory import PAIRS, pair_of
from zkcert.data.npz import NPY_MAGIC, NpzFile, check_unpacked, read_exactly, read_npy
from zkcert.errors import UnusableInput
from zkcert.public.kinds import read_head
from zkcert.public.reading import opened, read_file

MAX_FILE_BYTES = 1 << 38
MAX_CIFAR_BYTES = 1 << 30

Source = str | os.PathLike[str]
Progress = Callable[[int, int], None]

_BLOCK = 1 << 18  # bytes read at a time
_HEAD = 512  # bytes by which a format is told


def read_files(
    source: Source | Sequence[Source], options: Options, progress: Progress | None = None
) -> tuple[Raw, str]:
    """What files hold, and their names. See `zkcert.data.dataset.load_dataset` for the formats.

    progress  called with (pictures decoded, pictures). Raises UnusableInput.
    """
    paths = _paths(source)
    name = ",".join(map(str, paths))
    try:
        return (_read_pair(*paths) if len(paths) == 2 else _read(paths[0], options, progress)), name
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


def _read(path: Path, options: Options, progress: Progress | None) -> Raw:
    if path.is_dir():
        return _read_directory(path, options, progress)
    head = read_head(path, _HEAD)
    if head.startswith(b"PK"):
        return _read_npz(path)
    if head.startswith(b"\x80"):
        return _read_cifar(path)
    if head.startswith(NPY_MAGIC):
        raise UnusableInput(
            f"{path}: holds one array only; name the labels' file, too, as images.npy,labels.npy; of tokens say "
            "--context"
        )
    if head.startswith((b"\x1f\x8b", b"\0\0")):
        return _read_pair(path, _labels_beside(path))
    if head.startswith(ARROW_HEADS):
        return read_arrow([path], options)
    if head.startswith((b"\x89PNG", b"\xff\xd8\xff")):
        raise UnusableInput(f"{path}: is one picture; give a folder that holds a folder of pictures for each class")
    if path.suffix.lower() in CSV_SUFFIXES and is_text(head):
        try:
            with opened(path, MAX_FILE_BYTES) as (file, _):
                return read_csv(file, options)
        except ValueError as error:
            text = "; a text of tokens takes --context 64 --vocabulary characters" if path.suffix == ".txt" else ""
            raise ValueError(f"{error}{text}") from error
    raise UnusableInput(
        f"{path}: not an .npz, IDX, CIFAR, CSV (.csv), Parquet or Arrow file; np.savez('data.npz', x=x, y=y) writes "
        "one that is read, where x is N x channels x height x width and y holds N class numbers"
    )


def _read_directory(path: Path, options: Options, progress: Progress | None) -> Raw:
    batches = [path / f"data_batch_{i}" for i in range(1, 6)]
    if batches[0].exists():
        parts = [_read_cifar(batch) for batch in batches]
        return Raw(np.concatenate([part.x for part in parts]), np.concatenate([part.y for part in parts]))
    if (path / "train").is_file():
        return _read_cifar(path / "train")
    if is_saved(path):
        return read_saved(path, options)
    names = [f"train-images{dot}idx3-ubyte{gz}" for dot in "-." for gz in ("", ".gz")]
    if not any((path / name).exists() for name in names) and is_folder_of_pictures(path):
        return read_folder(path, options, progress)
    images = _first_existing(
        [path / name for name in names],
        f"{path}: holds neither train-images-idx3-ubyte(.gz) nor data_batch_1, nor CIFAR-100's train, nor a folder of "
        "pictures for each class, nor what datasets' save_to_disk writes",
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


def _read_pair(images: Path, labels: Path) -> Raw:
    if read_head(images, 6) != NPY_MAGIC:
        return Raw(_read_idx(images, 3)[:, None], _read_idx(labels, 1))
    return Raw(_channels_first(_read_npy(images)), _read_npy(labels, texts=True))


def _read_npy(path: Path, texts: bool = False) -> npt.NDArray[Any]:
    with opened(path, MAX_FILE_BYTES) as (file, size):
        try:
            return read_npy(file, size, texts=texts)
        except ValueError as error:
            raise UnusableInput(f"{path}: {error}") from error


def _read_npz(path: Path) -> Raw:
    with opened(path, MAX_FILE_BYTES) as (file, size):
        try:
            archive = NpzFile(file, size)
            pair = pair_of(list(archive.members))
            x, y = archive[pair[0]], archive.get(pair[1], texts=True)
        except ValueError as error:
            raise UnusableInput(f"{path}: {error}") from error
    return Raw(x if pair == PAIRS[0] else _channels_first(x), y)


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


def _read_cifar(path: Path) -> Raw:
    data = read_file(path, MAX_CIFAR_BYTES)
    try:
        return Raw(*read_cifar(data))
    except ValueError as error:
        raise UnusableInput(f"{path}: not a CIFAR batch ({error})") from error
