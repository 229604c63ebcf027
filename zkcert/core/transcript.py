"""Fiat-Shamir transcript over BLAKE3: docs/spec/hash-and-transcript.md.

State: 32 bytes. ``absorb(label, data)``: state <- BLAKE3("zkcert/absorb" || state || u32 |label| || label || u64 |data|
|| data). ``challenge(label)``: of 64 bytes of BLAKE3-XOF("zkcert/challenge" || state || u32 |label| || label || u64 0)
the first half is the new state and the other seeds the XOF that challenges are read from. Integers are little-endian.
"""

from __future__ import annotations

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from .field import U64, F, P

XOF_WORDS = 1 << 17  # read at once


def _frame(label: str, data: bytes = b"") -> bytes:
    name = label.encode()
    return len(name).to_bytes(4, "little") + name + len(data).to_bytes(8, "little") + data


def xof_field(seed: bytes, count: int) -> U64:
    """`count` uniform elements of F_p from BLAKE3-XOF(seed): 64-bit words masked to 61 bits, p itself rejected."""
    stream, offset, done, out = blake3(seed), 0, 0, np.empty(count, np.uint64)
    while done < count:
        size = 8 * min(count - done + 4, XOF_WORDS)
        words = np.frombuffer(stream.digest(length=size, seek=offset), "<u8") & np.uint64(P)
        offset += size
        words = words[words != np.uint64(P)][: count - done]
        out[done : done + len(words)] = words
        done += len(words)
    return out


def nonce_fits(prefix: bytes, nonce: int, bits: int) -> bool:
    """Whether the hash of prefix and nonce begins with so many zero bits, from below."""
    h = blake3(prefix + nonce.to_bytes(8, "little")).digest(length=8)
    return int.from_bytes(h, "little") & ((1 << bits) - 1) == 0


class Transcript:
    """Deterministic challenge source. Everything the prover says must be absorbed before the challenge it precedes."""

    def __init__(self, protocol: str) -> None:
        self.state = blake3(b"zkcert/transcript" + _frame(protocol)).digest()

    def absorb(self, label: str, data: bytes) -> None:
        self.state = blake3(b"zkcert/absorb" + self.state + _frame(label, data)).digest()

    def _stream(self, label: str) -> bytes:
        seed = blake3(b"zkcert/challenge" + self.state + _frame(label)).digest(length=64)
        self.state = seed[:32]
        return seed[32:]

    def challenge(self, label: str) -> F:
        """One uniform element of F."""
        return F(*xof_field(self._stream(label), 2).tolist())

    def challenges(self, label: str, count: int) -> list[F]:
        """`count` uniform elements of F."""
        a = xof_field(self._stream(label), 2 * count).tolist()
        return [F(a[2 * i], a[2 * i + 1]) for i in range(count)]

    def challenge_array(self, label: str, count: int) -> U64:
        """`count` uniform elements of F as a (2, count) array."""
        return np.ascontiguousarray(xof_field(self._stream(label), 2 * count).reshape(count, 2).T)

    def integers(self, label: str, count: int, bound: int) -> NDArray[np.int64]:
        """`count` uniform integers below bound <= 2^32: 32-bit words cut to its bits, those from bound on rejected."""
        seed, mask, offset = self._stream(label), (1 << (bound - 1).bit_length()) - 1, 0
        stream, out = blake3(seed), np.empty(0, np.int64)
        while len(out) < count:
            size = 4 * (count - len(out) + 4)
            words = np.frombuffer(stream.digest(length=size, seek=offset), "<u4").astype(np.int64) & mask
            offset += size
            out = np.concatenate([out, words[words < bound]])
        return out[:count]

    def distinct_indices(self, label: str, count: int, log_n: int) -> list[int]:
        """`count` distinct uniform indices below 2^log_n, sorted."""
        stream, offset = blake3(self._stream(label)), 0
        found: set[int] = set()
        while len(found) < count:
            word = int.from_bytes(stream.digest(length=8, seek=offset), "little")
            offset += 8
            found.add(word & ((1 << log_n) - 1))
        return sorted(found)

    @property
    def puzzle(self) -> bytes:
        """What proof of work is done on: with a nonce behind it, its hash ends in zero bits."""
        return b"zkcert/grind" + self.state

    def check_grind(self, nonce: int, bits: int) -> bool:
        """Verify and absorb a nonce."""
        ok = nonce_fits(self.puzzle, nonce, bits)
        self.absorb("grind", nonce.to_bytes(8, "little"))
        return ok
