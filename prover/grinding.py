"""Finding the nonces that `Transcript.check_grind` accepts."""

from __future__ import annotations

from zkcert.core.transcript import Transcript

from .kernels import first_nonce


def grind(transcript: Transcript, bits: int) -> int:
    """Find and absorb the smallest nonce with `bits` zero bits (about 2^bits hashes)."""
    nonce = first_nonce(transcript.puzzle, bits)
    transcript.absorb("grind", nonce.to_bytes(8, "little"))
    return nonce
