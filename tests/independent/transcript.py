"""Hashes and the transcript (hash-and-transcript.md)."""

from __future__ import annotations

import blake3

from .errors import require
from .field import El, P


def H(data: bytes) -> bytes:
    """BLAKE3 with 32 bytes of output."""
    return blake3.blake3(data).digest()


def u32(n: int) -> bytes:
    return n.to_bytes(4, "little")


def u64(n: int) -> bytes:
    return n.to_bytes(8, "little")


def frame(label: str, data: bytes) -> bytes:
    return u32(len(label)) + label.encode("ascii") + u64(len(data)) + data


class Words:
    """The 8-byte words of an extended output."""

    def __init__(self, seed: bytes) -> None:
        self.hash, self.at, self.buffer = blake3.blake3(seed), 0, b""

    def next(self) -> int:
        if self.at % 1024 == 0:
            self.buffer = self.hash.digest(length=1024, seek=self.at)
        at = self.at % 1024
        self.at += 8
        return int.from_bytes(self.buffer[at : at + 8], "little")

    def residue(self) -> int:
        """The next element of F_p: words masked to 61 bits, those equal to p skipped."""
        while True:
            x = self.next() & P
            if x != P:
                return x


class Transcript:
    """A state of 32 bytes; `lines` are those of transcript.txt."""

    def __init__(self) -> None:
        self.state = H(b"zkcert/transcript" + frame("zkcert-5", b""))
        self.lines: list[str] = []
        self.first: tuple[str, list[El]] | None = None

    def _line(self, kind: str, label: str, count: int) -> None:
        self.lines.append(f"{kind} {label} {count} {self.state[:6].hex()}")

    def absorb(self, label: str, data: bytes) -> None:
        self.state = H(b"zkcert/absorb" + self.state + frame(label, data))
        self._line("absorb", label, len(data))

    def _stream(self, label: str) -> Words:
        s = blake3.blake3(b"zkcert/challenge" + self.state + frame(label, b"")).digest(length=64)
        self.state = s[:32]
        return Words(s[32:])

    def draw(self, label: str, n: int) -> list[El]:
        """`n` elements of F."""
        words = self._stream(label)
        self._line("draw", label, n)
        out = [El(words.residue(), words.residue()) for _ in range(n)]
        if self.first is None:
            self.first = label, out
        return out

    def draw_one(self, label: str) -> El:
        return self.draw(label, 1)[0]

    def positions(self, label: str, t: int, m: int) -> list[int]:
        """`t` distinct positions below 2^m, rising."""
        words = self._stream(label)
        seen: set[int] = set()
        self._line("positions", label, t)
        while len(seen) < t:
            seen.add(words.next() & ((1 << m) - 1))
        return sorted(seen)

    def integers(self, label: str, n: int, bound: int) -> list[int]:
        """`n` integers below a bound."""
        words, mask, out = self._stream(label), (1 << (bound - 1).bit_length()) - 1, []
        self._line("integers", label, n)
        while len(out) < n:
            word = words.next()
            out += [v for v in (word & 0xFFFFFFFF & mask, word >> 32 & mask) if v < bound]
        return out[:n]

    def grind(self, nonce: bytes, what: str) -> None:
        """Check a nonce for 16 bits and absorb it."""
        word = int.from_bytes(H(b"zkcert/grind" + self.state + nonce)[:8], "little")
        require(word & 0xFFFF == 0, "nonce", what)
        self.absorb("grind", nonce)
