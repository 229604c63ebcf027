"""What workers and driver send each other is encrypted with a key of the run, which lies in their memories only.

Ray keeps large objects in shared memory, writes them to disk when that is full, and sends them in the clear. Digits,
tails and what follows from them are as secret as the data.
"""

from __future__ import annotations

import copyreg
import pickle
import secrets
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from numpy.typing import NDArray

from zkcert.core.field import F

copyreg.pickle(F, lambda x: (F, (x.re, x.im)))  # which cannot be filled in afterwards

NONCE_BYTES, TAG_BYTES = 12, 16
KEY_BYTES = 32
PIECE = 1 << 30  # bytes encrypted at once: AESGCM takes less than 2^31
MOST_PARTS = 1 << 16

Message = NDArray[np.uint8]
"""A sealed value: number and lengths of its parts, then each in pieces of nonce, ciphertext and tag.

The parts are a pickle and the arrays in it; the lengths are bound to every piece, with its number.
"""


class Broken(Exception):
    """A message is not one of this run, or was changed on its way."""


class Sealed:
    """Python values as encrypted bytes, pickled: those who hold the key run each other's code anyway.

    A large array is copied once on either side, into memory that is touched for the first time: that costs as much as
    encrypting it.
    """

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def seal(self, value: Any) -> Message:
        buffers: list[pickle.PickleBuffer] = []
        parts = [memoryview(pickle.dumps(value, protocol=5, buffer_callback=buffers.append))]
        parts += [buffer.raw() for buffer in buffers]
        head = np.array([len(parts), *map(len, parts)], "<u8").tobytes()
        pieces = list(_pieces([len(part) for part in parts], len(head)))
        out = np.empty(pieces[-1][-1], np.uint8)
        out[: len(head)] = np.frombuffer(head, np.uint8)
        for number, (part, start, stop, at, end) in enumerate(pieces):
            nonce = secrets.token_bytes(NONCE_BYTES)
            out[at : at + NONCE_BYTES] = np.frombuffer(nonce, np.uint8)
            place = out[at + NONCE_BYTES : end].data
            self._cipher.encrypt_into(nonce, parts[part][start:stop], _bound(head, number), place)
        return out

    def open(self, message: Message) -> Any:
        """The value. Raises Broken."""
        try:
            count = int(message[:8].view("<u8")[0])
            if not 1 <= count <= MOST_PARTS:
                raise Broken("a damaged message")
            head = message[: 8 * (count + 1)].tobytes()
            sizes = [int(size) for size in np.frombuffer(head, "<u8")[1:]]
            if len(sizes) != count or sum(sizes) > len(message):
                raise Broken("a damaged message")
            pieces = list(_pieces(sizes, len(head)))
            if pieces[-1][-1] != len(message):
                raise Broken("a damaged message")
            parts = [np.empty(size, np.uint8) for size in sizes]
            for number, (part, start, stop, at, end) in enumerate(pieces):
                nonce, body = message[at : at + NONCE_BYTES].tobytes(), message[at + NONCE_BYTES : end].data
                self._cipher.decrypt_into(nonce, body, _bound(head, number), parts[part][start:stop].data)
        except (InvalidTag, IndexError, ValueError) as error:
            raise Broken("a message of another run, or a damaged one") from error
        return pickle.loads(parts[0].data, buffers=parts[1:])


def _pieces(sizes: Sequence[int], at: int) -> Iterator[tuple[int, int, int, int, int]]:
    """Part, start and stop in it, and where the piece begins and ends in the message: at least one of each part."""
    for part, size in enumerate(sizes):
        for start in range(0, max(size, 1), PIECE):
            stop = min(start + PIECE, size)
            end = at + NONCE_BYTES + stop - start + TAG_BYTES
            yield part, start, stop, at, end
            at = end


def _bound(head: bytes, number: int) -> bytes:
    return head + number.to_bytes(8, "little")


class Pair:
    """One side of an exchange of keys (X25519): whoever only listens learns nothing."""

    def __init__(self) -> None:
        self._secret = X25519PrivateKey.generate()
        self.public = self._secret.public_key().public_bytes_raw()

    def with_other(self, public: bytes) -> Sealed:
        """What both sides can seal and open for each other."""
        shared = self._secret.exchange(X25519PublicKey.from_public_bytes(public))
        both = b"".join(sorted((self.public, public)))
        return Sealed(blake3(shared + both, derive_key_context="zkcert cluster greeting").digest())
