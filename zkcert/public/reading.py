"""Reading files that nobody vouches for: only regular ones, of bounded size, that do not change meanwhile."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from zkcert.errors import UnusableInput

File = str | os.PathLike[str]


@contextmanager
def opened(path: File, limit: int | None = None) -> Iterator[tuple[BinaryIO, int]]:
    """A regular file, opened without waiting for anybody, and its size in bytes: at most `limit`.

    Symbolic links are followed. UnusableInput, which names the file, if it is missing, no regular file or too large, if
    the system refuses to read it, and if it has changed when the block ends.
    """
    name = os.fspath(path)
    try:
        with open(_descriptor(path), "rb") as file:
            before = os.fstat(file.fileno())
            _check_regular(name, before.st_mode)
            if limit is not None and before.st_size > limit:
                raise UnusableInput(f"{name}: more than {limit} bytes; this is not such a file")
            yield file, before.st_size
            check_unchanged(name, file.fileno(), before)
    except OSError as error:
        raise UnusableInput(f"{name}: {error.strerror or error}") from error


def read_file(path: File, limit: int) -> bytes:
    """All bytes of a file: at most `limit`, which is checked before anything is read. Raises as `opened`."""
    with opened(path, limit) as (file, size):
        data = file.read(size + 1)
        if data is None or len(data) != size:  # files that the system makes up have no size
            raise UnusableInput(f"{os.fspath(path)}: does not have the {size} bytes it is said to have; give a copy")
    return data


def check_unchanged(name: str, descriptor: int, before: os.stat_result) -> None:
    """UnusableInput if an open file has been written to since it had this status."""
    after = os.fstat(descriptor)
    if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        raise UnusableInput(f"{name}: was changed while it was read; try again when it is complete")


def _descriptor(path: File) -> int:
    if not os.fspath(path):
        raise UnusableInput("an empty name is given where a file is expected: an unset variable?")
    try:
        _check_regular(os.fspath(path), os.stat(path).st_mode)  # opening a device may already do something
        # It may be a pipe by now; and some files of the system wait for an event when they are read.
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except ValueError as error:
        raise UnusableInput(f"{os.fspath(path)[:200]!a}: not the name of a file ({error})") from error


def _check_regular(name: str, mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise UnusableInput(f"{name}: is a directory, where a file is expected")
    if not stat.S_ISREG(mode):
        raise UnusableInput(f"{name}: is a pipe, socket or device; write its content to a file and give that")
