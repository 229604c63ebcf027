"""The committed vector X in a file: what a model that is larger than memory is proved with.

No phase needs random access to X: each goes over it in pieces that memory holds, so the system can write what was
touched last to the disk and read it again. The proof is the same, byte for byte.
"""

from __future__ import annotations

import errno
import mmap
import os
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zkcert.errors import UnusableInput
from zkcert.files.writing import NotWritten, require_space

PERIOD = 1.0  # seconds


class Scratch:
    """A file in the directory `place`, mapped into memory as `x`, int32 (entries,), zero at first.

    It is as secret as the data: its owner's alone, and without a name, from the beginning where the file system has
    such files, elsewhere before anything is in it. So it vanishes with the process, however that ends.
    Within the context, the mapping is dropped every PERIOD seconds: what was touched before is no longer this process's
    memory, but the system's cache, which it writes to the disk when it needs the memory. After the context the file is
    empty, and `x` zero, where the file system can do that.
    """

    def __init__(self, place: Path, entries: int) -> None:
        """Takes the disk's space at once. Raises UnusableInput, NotWritten without room for four bytes per entry."""
        size = 4 * entries
        try:
            with tempfile.TemporaryFile(dir=place) as file:
                _allocate(file.fileno(), size)
                self._map = mmap.mmap(file.fileno(), size)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise NotWritten(
                    f"{place} has no room for {size / 1e9:.1f} GB ({error.strerror}): give another directory for the "
                    "scratch file"
                ) from error
            raise UnusableInput(f"{place}: no scratch file can be kept there ({error.strerror})") from error
        self.x: NDArray[np.int32] = np.frombuffer(self._map, np.int32)
        self._ended = threading.Event()
        self._dropping = threading.Thread(target=self._drop, daemon=True)

    def __enter__(self) -> Scratch:
        self._dropping.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._dropping.join()
        if hasattr(mmap, "MADV_REMOVE"):  # at once, and not when the last view of it happens to be collected
            with suppress(OSError):
                self._map.madvise(mmap.MADV_REMOVE)

    def _drop(self) -> None:
        while not self._ended.wait(PERIOD):
            self._map.madvise(mmap.MADV_DONTNEED)  # of a shared mapping: the file keeps what was written


def check_room(place: Path, size: int) -> None:
    """UnusableInput if there is no such directory, NotWritten if that has no room for such a file."""
    if not place.is_dir():
        raise UnusableInput(f"{place} is no directory: give one for the scratch file")
    require_space(place, size)


def _allocate(descriptor: int, size: int) -> None:
    """Give a file that many bytes, and the disk's space for them where the system can promise it."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:
        os.truncate(descriptor, size)
