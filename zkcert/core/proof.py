"""Strict byte sections of a proof: every length is known to the reader before it reads."""

from __future__ import annotations

import struct
from math import prod

from zkcert.errors import MalformedProof, ProofRejected

from .field import ELEMENT_BYTES, U64, F, f_from_bytes
from .transcript import Transcript


class Reader:
    """Reads a byte string front to back; anything unexpected is a MalformedProof that names the section and offset."""

    def __init__(self, data: bytes, what: str = "proof") -> None:
        self.data, self.at, self.what = data, 0, what

    def malformed(self, fault: object) -> MalformedProof:
        """The error of something wrong at the present offset."""
        return MalformedProof(f"{self.what}: {fault}", self.what, self.at)

    def take(self, count: int) -> bytes:
        if count < 0 or count > len(self.data) - self.at:
            raise self.malformed(f"cut short, {count} bytes wanted, {len(self.data) - self.at} left")
        self.at += count
        return self.data[self.at - count : self.at]

    def u64(self) -> int:
        return int.from_bytes(self.take(8), "little")

    def section(self, limit: int) -> bytes:
        """A length-prefixed section of at most `limit` bytes."""
        size = self.u64()
        if size > limit:
            raise self.malformed(f"a section of {size} bytes, at most {limit} allowed")
        return self.take(size)

    def field(self) -> F:
        try:
            return F.from_bytes(self.take(ELEMENT_BYTES))
        except ValueError as error:
            raise self.malformed(error) from error

    def field_array(self, *shape: int) -> U64:
        """F elements in row-major order, as a (2, *shape) array."""
        try:
            return f_from_bytes(self.take(ELEMENT_BYTES * prod(shape))).reshape(2, *shape)
        except ValueError as error:
            raise self.malformed(error) from error

    def check_work(self, transcript: Transcript, bits: int, check: str, detail: str = "") -> None:
        """Proof of work: the hash of the transcript's state and the nonce, which is read, ends in so many zero bits."""
        nonce = self.u64()
        if not transcript.check_grind(nonce, bits):
            raise ProofRejected(check, detail, nonce=nonce, bits=bits)

    def since(self, start: int) -> bytes:
        """What was read from an offset on."""
        return self.data[start : self.at]

    def end(self) -> None:
        if self.at != len(self.data):
            raise self.malformed(f"{len(self.data) - self.at} bytes too many")


def section(data: bytes) -> bytes:
    """A section as `Reader.section` reads it."""
    return struct.pack("<Q", len(data)) + data
