"""Arrays of .npy and .npz files that nobody vouches for: headers are read before anything is unpacked or allocated."""

from __future__ import annotations

import math
import re
import zipfile
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

MAX_RATIO = 100
FREE_BYTES = 64 << 20
"""Compressed data may unpack to MAX_RATIO times their size, or to this if that is more."""

MAX_HEADER = 4096
NPY_MAGIC = b"\x93NUMPY"
_BLOCK = 1 << 18  # bytes read at a time

_VALUE = r"'(?:[^'\\]{1,40})'|\"(?:[^\"\\]{1,40})\"|True|False|\[[^\]]{1,400}\]|\([\d, L]{0,400}\)"
_ENTRY = rf" ?['\"](descr|fortran_order|shape)['\"] ?: ?({_VALUE}) ?"


class _Bounded:
    """A file as `zipfile` wants it, of which no single read is long: a zip's directory is read in one, whatever the
    archive claims of it."""

    def __init__(self, file: BinaryIO) -> None:
        self.seek, self.tell, self._file = file.seek, file.tell, file

    def seekable(self) -> bool:
        return True

    def read(self, count: int = -1) -> bytes:
        data = self._file.read(count if 0 <= count <= _BLOCK else _BLOCK + 1)
        if len(data) > _BLOCK:
            raise ValueError(f"its directory has more than {_BLOCK} bytes")
        return data


def check_unpacked(unpacked: int, packed: int) -> None:
    """ValueError if so much cannot come honestly from `packed` bytes."""
    if unpacked > max(MAX_RATIO * packed, FREE_BYTES):
        raise ValueError(
            f"{packed} compressed bytes claim to hold {unpacked}: if that is right, store the data uncompressed"
        )


def read_exactly(file: Any, count: int) -> npt.NDArray[np.uint8]:
    """The `count` bytes that a binary file still has; ValueError if it has fewer or more."""
    out, done = np.empty(count, np.uint8), 0
    while done < count:
        block = file.read(min(_BLOCK, count - done))
        if not block:
            raise ValueError(f"holds {done} bytes, its header says {count}")
        out[done : done + len(block)] = np.frombuffer(block, np.uint8)
        done += len(block)
    if file.read(1):
        raise ValueError(f"holds more than the {count} bytes that its header says")
    return out


def read_npy(
    file: Any, size: int, check: Callable[[int], None] = lambda count: None, *, texts: bool = False
) -> npt.NDArray[Any]:
    """The array of a .npy file of `size` bytes, read from its start: numbers, or texts if they are asked for; `check`
    is called with the size of the content before that is read. ValueError."""
    head = file.read(12)
    if head[:6] != NPY_MAGIC or head[6:8] not in (b"\1\0", b"\2\0", b"\3\0"):
        raise ValueError("it is no .npy file")
    wide = head[6] > 1
    length, start = int.from_bytes(head[8 : 12 if wide else 10], "little"), 12 if wide else 10
    if not 12 - start <= length <= MAX_HEADER:
        raise ValueError(f"its .npy header has {length} bytes")
    text = head[start:] + file.read(length - (12 - start))
    dtype, fortran, shape = _header(text.decode("latin1"), texts)
    count = math.prod(shape) * dtype.itemsize
    if size != start + length + count:
        raise ValueError(f"holds {size - start - length} bytes, its header says {count}")
    check(count)
    content = read_exactly(file, count)
    if dtype == np.bool_ and count and content.max() > 1:
        raise ValueError("holds truth values other than 0 and 1")
    if dtype.kind == "U" and not _are_characters(content.view(dtype.str[0] + "u4")):
        raise ValueError("holds texts of other things than characters")
    return content.view(dtype).reshape(shape, order="F" if fortran else "C")


def _are_characters(points: npt.NDArray[np.uint32]) -> bool:
    return bool(((points < 0xD800) | ((points > 0xDFFF) & (points <= 0x10FFFF))).all())


def _header(text: str, texts: bool) -> tuple[np.dtype[Any], bool, tuple[int, ...]]:
    """dtype, Fortran order and shape that a .npy header describes; numpy would evaluate it as an expression."""
    text = " ".join(text.split())
    if not re.fullmatch(rf"\{{{_ENTRY},{_ENTRY},{_ENTRY},? ?\}}", text):
        raise ValueError("its .npy header is of an unknown form")
    entries = re.findall(_ENTRY, text)
    values = {key: value.strip("'\"") for key, value in entries}
    if len(values) != 3 or values["fortran_order"] not in ("True", "False"):
        raise ValueError("its .npy header is of an unknown form")
    if re.fullmatch(r"[|<>=]?O\d?", values["descr"]):
        raise ValueError("it holds Python objects, which are not read: convert it to numbers first, as by .astype(int)")
    string = re.fullmatch(r"([<>]U|[|]?S)[1-9]\d{0,2}", values["descr"])
    if re.fullmatch(r"[|<>=]?[USa]\d*", values["descr"]) and not (texts and string):
        raise ValueError(
            "it holds texts, where numbers are expected" if not texts else "its texts are too long, or empty"
        )
    if not string and not re.fullmatch(r"[|<>=]?(b1|[iu][1248]|f[248])", values["descr"]):
        raise ValueError(f"its numbers are of type {values['descr'][:40]}; expected uint8 or float32, and integers")
    if not re.fullmatch(r"\(( ?\d{1,18}L? ?,)*( ?\d{1,18}L?)? ?\)", values["shape"]) or values["shape"].count(",") > 8:
        raise ValueError("its .npy header is of an unknown form")
    shape = tuple(int(number) for number in re.findall(r"\d+", values["shape"]))
    return np.dtype(values["descr"]), values["fortran_order"] == "True", shape


class NpzFile:
    """The arrays of an .npz file, by name; each is read when it is asked for. ValueError if the archive is damaged or
    hostile: for the names, members or sizes it claims."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        try:
            self._archive = zipfile.ZipFile(_Bounded(file))
        except (zipfile.BadZipFile, NotImplementedError, OverflowError, LookupError) as error:
            raise ValueError(f"damaged .npz file ({str(error)[:100]})") from error
        infos = self._archive.infolist()
        self.members = {info.filename.removesuffix(".npy"): info for info in infos}
        if len(self.members) != len(infos):
            raise ValueError("two of its arrays have the same name")
        end = 0
        for info in sorted(infos, key=lambda info: info.header_offset):
            if info.header_offset < end:
                raise ValueError("damaged .npz file (its members overlap)")
            end = info.header_offset + 30 + len(info.filename) + info.compress_size
        if end > size:
            raise ValueError("damaged .npz file (it is cut short)")

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        return self.get(name)

    def get(self, name: str, *, texts: bool = False) -> npt.NDArray[Any]:
        """An array: of numbers, or of texts if they are asked for."""
        info = self.members[name]
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or info.flag_bits & 1:
            raise ValueError(f"{name}: it is compressed or encrypted in a way that is not read; use np.savez")
        try:
            with self._archive.open(info) as member:
                return read_npy(
                    member, info.file_size, lambda count: check_unpacked(count, info.compress_size), texts=texts
                )
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
            raise ValueError(f"{name}: damaged .npz file ({str(error)[:100]})") from error
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
