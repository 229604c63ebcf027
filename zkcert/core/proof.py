"""Strict byte sections of a proof: every length is known to the reader before it reads."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

from zkcert.errors import MalformedProof

from .field import F, f_from_bytes

U64 = NDArray[np.uint64]


class Reader:
    """Reads a byte string front to back; anything unexpected is a MalformedProof."""

    def __init__(self, data: bytes, what: str = "proof") -> None:
        self.data, self.at, self.what = data, 0, what

    def take(self, count: int) -> bytes:
        if count < 0 or count > len(self.data) - self.at:
            raise MalformedProof(f"{self.what}: cut short, {count} bytes wanted, {len(self.data) - self.at} left")
        self.at += count
        return self.data[self.at - count : self.at]

    def u64(self) -> int:
        return int(struct.unpack("<Q", self.take(8))[0])

    def section(self, limit: int) -> bytes:
        """A length-prefixed section of at most `limit` bytes."""
        size = self.u64()
        if size > limit:
            raise MalformedProof(f"{self.what}: a section of {size} bytes, at most {limit} allowed")
        return self.take(size)

    def field(self) -> F:
        try:
            return F.from_bytes(self.take(16))
        except ValueError as e:
            raise MalformedProof(f"{self.what}: {e}") from e

    def field_array(self, *shape: int) -> U64:
        """F elements in row-major order, as a (2, *shape) array."""
        count = 1
        for s in shape:
            count *= s
        try:
            return f_from_bytes(self.take(16 * count)).reshape(2, *shape)
        except ValueError as e:
            raise MalformedProof(f"{self.what}: {e}") from e

    def end(self) -> None:
        if self.at != len(self.data):
            raise MalformedProof(f"{self.what}: {len(self.data) - self.at} bytes too many")


def section(data: bytes) -> bytes:
    """A section as `Reader.section` reads it."""
    return struct.pack("<Q", len(data)) + data
