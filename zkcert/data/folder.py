"""A tree of pictures, a folder for each class: what torchvision calls ImageFolder. Nobody vouches for it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from zkcert.data import pictures
from zkcert.data.arrays import Options, Raw
from zkcert.data.npz import check_unpacked
from zkcert.errors import UnusableInput
from zkcert.public.reading import opened, read_file
from zkcert.public.root import MAX_CLASSES, MAX_VALUES

MAX_ENTRIES = 1 << 22
MAX_DEPTH = 8
_SUFFIXES = {".png", ".jpg", ".jpeg", ".jpe", ".jfif"}
_OTHERS = {".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".heic", ".avif", ".jp2", ".tga"}
"""Pictures that are not read: to leave them out would change the data."""

_PARTS = {"train", "training", "val", "valid", "validation", "test", "testing", "eval"}
_CONVERTED = "save it as PNG first"


class _Tree:
    """The entries of a folder, counted."""

    def __init__(self, root: Path) -> None:
        self.root, self.count = root, 0
        self.real = os.path.realpath(root)
        self.left_out: list[str] = []

    def entries(self, folder: str) -> Iterator[tuple[str, bool]]:
        """Names in a folder, sorted, and whether each is a folder; hidden ones are skipped. UnusableInput for links
        that lead out of the tree or to folders, and for what is neither file nor folder."""
        found = []
        with os.scandir(self.root / folder) as entries:
            for entry in entries:
                self.count += 1
                if self.count > MAX_ENTRIES:
                    raise UnusableInput(f"{self.root}: holds more than {MAX_ENTRIES} files")
                if entry.name.startswith(".") or entry.name in ("Thumbs.db", "desktop.ini"):
                    continue
                found.append((entry.name, self._is_folder(entry)))
        yield from sorted(found)

    def _is_folder(self, entry: os.DirEntry[str]) -> bool:
        if entry.is_symlink():
            target = os.path.realpath(entry.path)
            if os.path.commonpath((self.real, target)) != self.real or not os.path.isfile(target):
                raise UnusableInput(
                    f"{entry.path}: a link to a folder, or out of {self.root}: copy what it points to, as cp -rL does"
                )
            return False
        if not entry.is_dir(follow_symlinks=False) and not entry.is_file(follow_symlinks=False):
            raise UnusableInput(f"{entry.path}: is a pipe, socket or device; remove it")
        return entry.is_dir(follow_symlinks=False)

    def pictures(self, folder: str, depth: int = 1) -> Iterator[str]:
        """The paths, below the root, of all pictures in a folder and those in it."""
        if depth > MAX_DEPTH:
            raise UnusableInput(f"{self.root / folder}: folders are nested more than {MAX_DEPTH} deep")
        for name, is_folder in self.entries(folder):
            path = os.path.join(folder, name)
            suffix = os.path.splitext(name)[1].lower()
            if is_folder:
                yield from self.pictures(path, depth + 1)
            elif suffix in _SUFFIXES:
                yield path
            elif suffix in _OTHERS:
                raise UnusableInput(
                    f"{self.root / path}: neither PNG nor JPEG, which are all that is read: {_CONVERTED}"
                )
            else:
                self.left_out.append(path)


def is_folder_of_pictures(path: Path) -> bool:
    """Whether a directory has others in it."""
    with os.scandir(path) as entries:
        return any(entry.is_dir() and not entry.name.startswith(".") for entry in entries)


def read_folder(root: Path, options: Options, progress: Callable[[int, int], None] | None = None) -> Raw:
    """All pictures (N, C, H, W), uint8, with labels in the sorted order of the classes' folders; by class and by path.

    Grey ones are repeated in three channels where others have colours, and noted. UnusableInput.
    """
    tree = _Tree(root)
    names, paths, labels = _classes(tree)
    sizes = _sizes(root, paths)
    channels = max(size.channels for size in sizes)
    extents = options.resize or _common(root, sizes)
    if (each := channels * extents[0] * extents[1]) > MAX_VALUES:
        raise UnusableInput(f"{root}: pictures of {each} values; expected {MAX_VALUES} at most: use --resize HxW")
    x = np.empty((len(paths), channels, *extents), np.uint8)
    packed = unpacked = 0
    for i, path in enumerate(paths):
        data = read_file(root / path, pictures.MAX_BYTES)
        packed, unpacked = packed + len(data), unpacked + sizes[i].channels * sizes[i].height * sizes[i].width
        try:
            check_unpacked(unpacked, packed)
            values = pictures.decoded(data, options.resize)
            if values.shape[1:] != extents or values.shape[0] > channels:
                raise ValueError("it was changed while it was read")
        except ValueError as error:
            raise UnusableInput(f"{root / path}: {error}") from error
        x[i] = values
        if progress:
            progress(i + 1, len(paths))
    return Raw(x, labels, names, tuple(_notes(sizes, channels, tree.left_out)))


def _classes(tree: _Tree) -> tuple[tuple[str, ...], list[str], npt.NDArray[np.int64]]:
    """Names of the classes, paths of the pictures, and their labels."""
    root, top = tree.root, list(tree.entries(""))
    names = [name for name, is_folder in top if is_folder]
    loose = [name for name, is_folder in top if not is_folder]
    if picture := next((n for n in loose if os.path.splitext(n)[1].lower() in _SUFFIXES | _OTHERS), None):
        raise UnusableInput(f"{root / picture}: lies in no folder of a class; expected {root}/CLASS/PICTURE.png")
    tree.left_out += loose
    if len(names) > MAX_CLASSES:
        raise UnusableInput(f"{root}: {len(names)} folders; expected one for each of at most {MAX_CLASSES} classes")
    for part in names:
        if part.lower() in _PARTS and {is_folder for _, is_folder in tree.entries(part)} == {True}:
            raise UnusableInput(f"{root}: holds {', '.join(names)[:100]}: give one part of the data, as {root / part}")
    paths: list[str] = []
    counts = []
    for name in names:
        before = len(paths)
        paths += tree.pictures(name)
        counts.append(len(paths) - before)
    if not paths:
        raise UnusableInput(f"{root}: its folders hold no PNG or JPEG; expected {root}/CLASS/PICTURE.png")
    return tuple(names), paths, np.repeat(np.arange(len(names)), counts)


def _sizes(root: Path, paths: list[str]) -> list[pictures.Size]:
    out = []
    for path in paths:
        with opened(root / path, pictures.MAX_BYTES) as (file, _):
            try:
                out.append(pictures.size_of(file))
            except ValueError as error:
                raise UnusableInput(f"{root / path}: {error}") from error
    return out


def _common(root: Path, sizes: list[pictures.Size]) -> tuple[int, int]:
    """The height and width that all pictures have."""
    counts = Counter((size.height, size.width) for size in sizes).most_common(2)
    if len(counts) == 1:
        return counts[0][0]
    (first, often), (second, _) = counts
    raise UnusableInput(
        f"{root}: the pictures have different sizes, {first[0]}x{first[1]} (height x width; {often} of {len(sizes)}), "
        f"{second[0]}x{second[1]}, ...: --resize {first[0]}x{first[1]} scales them all"
    )


def _notes(sizes: list[pictures.Size], channels: int, left_out: list[str]) -> Iterator[str]:
    if grey := sum(size.channels < channels for size in sizes):
        yield f"{grey} of {len(sizes)} pictures are grey, and are repeated in three channels"
    if left_out:
        more = f", ... ({len(left_out)} in all)" if len(left_out) > 3 else ""
        yield f"left out, as no pictures: {', '.join(ascii(path)[1:-1][:60] for path in left_out[:3])}{more}"
