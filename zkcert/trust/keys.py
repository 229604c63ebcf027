"""Keys and signatures of providers, witnesses and authorities: BLS12-381, public keys in G1, signatures in G2.

The scheme is proof of possession of the BLS signature draft: BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_. A public key
counts only with its proof of possession, a signature of the key itself under a tag of its own: so nobody can pass off
a key that was computed from others' keys, and signatures of one message can be added up.

What is signed is "zkcert/ROLE/1" and canonical JSON, each preceded by its length as u64: a signature made in one role
means nothing in another, nor in drand, whose tag is another one.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zkcert.errors import UnusableInput
from zkcert.files.writing import check_output, write_file
from zkcert.public.config import canonical_json
from zkcert.public.kinds import KEYS, expecting
from zkcert.public.reading import File, opened
from zkcert.trust.json_files import exactly, load_json, octets, printable, written
from zkcert.trust.keystore import LEAST, decrypt, encrypt
from zkcert.trust.points import G1, G2, ORDER, BadPoint, signed, times, total

SIGNATURE_TAG = b"BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_"
POSSESSION_TAG = b"BLS_POP_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_"
PROVIDER, WITNESS, AUTHORITY = "provider", "witness", "authority"
KEYS_FORMAT = "zkcert-keys-1"
KEY_BYTES, SIGNATURE_BYTES, SECRET_BYTES = G1.size, G2.size, 32
MAX_KEYS = 256
_MAX_NAME = 64
_SECRET_KIND = "a secret key"


def framed(role: str, content: Mapping[str, object]) -> bytes:
    """The message that is signed in a role."""
    parts = f"zkcert/{role}/1".encode(), canonical_json(content).encode()
    return b"".join(len(part).to_bytes(8, "little") + part for part in parts)


@dataclass(frozen=True)
class PublicKey:
    """A key of 48 bytes whose proof of possession was checked, and the name that its owner gave it."""

    name: str
    key: bytes
    proof: bytes

    def __str__(self) -> str:
        return f"{self.name} ({self.key.hex()[:8]}...)"

    @staticmethod
    def read(value: Any) -> PublicKey:
        """Of JSON values; ValueError, also if the proof of possession fails."""
        exactly(value, ("key", "name", "possession"))
        name = printable(value, "name", _MAX_NAME)
        key, proof = octets(value, "key", KEY_BYTES), octets(value, "possession", SIGNATURE_BYTES)
        try:
            G1.decode(key)
        except BadPoint as error:
            raise ValueError(f"the key of {name} is a point {error}") from error
        try:
            possessed = signed(G2, key, key, POSSESSION_TAG, proof)
        except BadPoint as error:
            raise ValueError(f"the proof of possession of {name} is a point {error}") from error
        if not possessed:
            raise ValueError(f"the proof of possession of {name} is not its key's: its owner has not shown to know it")
        return PublicKey(name, key, proof)

    def to_dict(self) -> dict[str, str]:
        """JSON values."""
        return {"key": self.key.hex(), "name": self.name, "possession": self.proof.hex()}


def _keys_file(keys: Sequence[PublicKey]) -> bytes:
    return written({"format": KEYS_FORMAT, "keys": [key.to_dict() for key in keys]})


def gather_keys(paths: Iterable[File], out: File, *, force: bool = False) -> Path:
    """Write one file of the keys of several, each of which is checked. UnusableInput."""
    inputs = [os.fspath(path) for path in paths]
    path = check_output(out, KEYS, inputs=inputs, force=force)
    return write_file(path, [_keys_file(load_keys(inputs))], KEYS, force=force)


def load_keys(paths: Iterable[File]) -> list[PublicKey]:
    """The keys of all files; UnusableInput, also for a key that comes twice, which would count twice."""

    def read(value: Any) -> list[PublicKey]:
        exactly(value, ("format", "keys"))
        if value["format"] != KEYS_FORMAT:
            raise ValueError(f"the format is not {KEYS_FORMAT}")
        if not isinstance(value["keys"], list) or not 1 <= len(value["keys"]) <= MAX_KEYS:
            raise ValueError(f"it holds no list of 1 to {MAX_KEYS} keys")
        return [PublicKey.read(entry) for entry in value["keys"]]

    found: list[PublicKey] = []
    for path in paths:
        for key in load_json(path, KEYS, read, "take the .pub that its owner made", _keys_file):
            if any(key.key == other.key for other in found):
                raise UnusableInput(f"{os.fspath(path)}: the key {key} is given twice")
            found.append(key)
    return found


def check_signature(key: bytes, role: str, content: Mapping[str, object], signature: bytes) -> str | None:
    """What is wrong with a signature; None if it is the key's, of this content in this role.

    key  of a `PublicKey`, which was checked.
    """
    return check_total([key], role, content, signature)


def check_total(keys: Sequence[bytes], role: str, content: Mapping[str, object], signature: bytes) -> str | None:
    """What is wrong with a sum of signatures; None if it is that of all these keys, each of this content in this role.

    keys  of `PublicKey`s: without proofs of possession, one of them could be chosen to cancel another.
    """
    try:
        G2.decode(signature)
    except BadPoint as error:
        return f"its signature is a point {error}"
    whole = keys[0] if len(keys) == 1 else G1.encode(total(map(G1.decode, keys)))
    try:
        valid = signed(G2, whole, framed(role, content), SIGNATURE_TAG, signature)
    except BadPoint as error:  # which honest keys have a negligible chance of
        return f"the sum of the keys is a point {error}"
    return None if valid else "its signature is not the key's, of this content in this role"


def add_signatures(signatures: Iterable[bytes]) -> bytes:
    """The sum of signatures of one message."""
    return G2.encode(total(map(G2.decode, signatures)))


class SecretKey:
    """A number from 1 to the group's order - 1. public: its key, 48 bytes."""

    def __init__(self, secret: bytes) -> None:
        """Of 32 bytes, big-endian; ValueError."""
        self._number = int.from_bytes(secret, "big")
        if len(secret) != SECRET_BYTES or not 0 < self._number < ORDER:
            raise ValueError("it is no secret key of BLS12-381")
        self.public = G1.encode(times(G1.base, self._number))

    def __repr__(self) -> str:
        return f"SecretKey of {self.public.hex()}"

    def sign(self, role: str, content: Mapping[str, object]) -> bytes:
        """96 bytes."""
        return self._sign(framed(role, content), SIGNATURE_TAG)

    def named(self, name: str) -> PublicKey:
        """The public key, with its proof of possession. ValueError for an unfit name."""
        proof = self._sign(self.public, POSSESSION_TAG)
        return PublicKey(printable({"name": name}, "name", _MAX_NAME), self.public, proof)

    def _sign(self, message: bytes, tag: bytes) -> bytes:
        return G2.encode(times(G2.hash(message, tag), self._number))


def make_key(out: File, name: str, passphrase: str | None = None) -> tuple[Path, Path, PublicKey]:
    """Write a fresh secret key OUT.key, its owner's alone, and OUT.pub; their paths. Neither is replaced.

    passphrase  the secret key is encrypted with it (an EIP-2335 keystore). UnusableInput.
    """
    secret, public = Path(f"{os.fspath(out)}.key"), Path(f"{os.fspath(out)}.pub")
    check_output(secret, _SECRET_KIND)
    check_output(public, KEYS)
    if passphrase is not None and len(passphrase) < LEAST:
        raise UnusableInput(f"the passphrase has fewer than {LEAST} characters")
    number = (1 + secrets.randbelow(ORDER - 1)).to_bytes(SECRET_BYTES, "big")
    key = SecretKey(number)
    try:
        known = key.named(name)
    except ValueError as error:
        raise UnusableInput(str(error)) from error
    content = number if passphrase is None else encrypt(number, passphrase, key.public)
    write_file(secret, [content], _SECRET_KIND, secret=True)
    write_file(public, [_keys_file([known])], KEYS)
    return secret, public, known


def load_secret(path: File, passphrase: str | None = None) -> SecretKey:
    """A secret key: 32 bytes that only their owner may read, or a keystore and its passphrase. UnusableInput."""
    name = os.fspath(path)
    with expecting(path, _SECRET_KIND):
        with opened(path, 1 << 14) as (file, size):
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(size + 1)
        try:
            if data.startswith(b"{") and b'"crypto"' in data:
                if passphrase is None:
                    raise UnusableInput(f"{name} is encrypted: give its passphrase in a file, with --passphrase")
                number, stated = decrypt(data, passphrase)
                key = SecretKey(number)
                if stated not in (None, key.public):
                    raise ValueError("its public key is another secret key's")
                return key
            if len(data) != SECRET_BYTES:
                raise ValueError(f"neither {SECRET_BYTES} bytes nor a keystore")
            if mode & 0o077:
                raise UnusableInput(f"{name} may be read by others: chmod 600 {name}, and think about who has read it")
            if passphrase is not None:
                raise UnusableInput(f"{name} is not encrypted: leave --passphrase out")
            return SecretKey(data)
        except ValueError as error:
            raise UnusableInput(f"{name}: not {_SECRET_KIND} ({error}); take the .key that keygen wrote") from error
