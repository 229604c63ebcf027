"""A file that stays open while parts of it are read."""

from __future__ import annotations

import os
import weakref

from zkcert.errors import UnusableInput
from zkcert.public.reading import File, check_unchanged, opened


class OpenFile:
    """A regular file that stays open, of which parts are read when they are needed. Raises as `opened`.

    A part that is missing by then is an error like any other, which it would not be of a file mapped into memory: there
    the system ends the process.

    size  in bytes.
    """

    def __init__(self, path: File) -> None:
        self.name = os.fspath(path)
        with opened(path) as (file, self.size):
            self._descriptor = os.dup(file.fileno())
            self._before = os.fstat(self._descriptor)
        weakref.finalize(self, os.close, self._descriptor)

    def readinto(self, at: int, buffer: memoryview) -> None:
        """Fill a buffer of bytes from place `at` on."""
        done = 0
        try:
            while done < len(buffer):
                count = os.preadv(self._descriptor, [buffer[done:]], at + done)
                if not count:
                    raise UnusableInput(f"{self.name}: was cut short while it was read; give a complete copy")
                done += count
        except OSError as error:
            raise UnusableInput(f"{self.name}: {error.strerror or error}") from error

    def read(self, at: int, count: int) -> bytes:
        """Bytes [at, at + count)."""
        data = bytearray(count)
        self.readinto(at, memoryview(data))
        return bytes(data)

    def check_unchanged(self) -> None:
        """UnusableInput if the file has been written to since it was opened."""
        check_unchanged(self.name, self._descriptor, self._before)
