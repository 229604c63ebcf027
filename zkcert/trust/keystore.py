"""Secret keys encrypted with a passphrase: EIP-2335 keystores, version 4.

The costs that a file asks for are bounded before anything is derived.
"""

from __future__ import annotations

import hmac
import json
import secrets
import unicodedata
import uuid
from hashlib import pbkdf2_hmac, scrypt, sha256
from typing import Any

from Crypto.Cipher import AES

from zkcert.public.strict_json import parse
from zkcert.trust.json_files import exactly, number, octets

LEAST = 8
"""Characters of a passphrase that keygen takes; a file is decrypted with any."""

SCRYPT = {"dklen": 32, "n": 1 << 18, "p": 1, "r": 8}
"""The costs of what is written: about a second and 256 MiB."""

MAX_MEMORY = 1 << 30
"""Bytes that scrypt may take, 128 n r."""

MAX_WORK = 1 << 32
"""128 n r p: 16 times that of SCRYPT."""

MAX_ITERATIONS = 1 << 24
_SECRET = 32


def encoded(passphrase: str) -> bytes:
    """NFKD, without control characters, in UTF-8."""
    text = unicodedata.normalize("NFKD", passphrase)
    return "".join(c for c in text if not (ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0)).encode()


def _crypt(key: bytes, iv: bytes, data: bytes) -> bytes:
    return AES.new(key[:16], AES.MODE_CTR, nonce=b"", initial_value=iv).encrypt(data)


def encrypt(secret: bytes, passphrase: str, public: bytes, costs: dict[str, int] = SCRYPT) -> bytes:
    """A keystore. costs: of scrypt, others than SCRYPT are for tests."""
    salt, iv = secrets.token_bytes(32), secrets.token_bytes(16)
    params: dict[str, Any] = {**costs, "salt": salt.hex()}
    key = _derive("scrypt", params, passphrase)
    message = _crypt(key, iv, secret)
    crypto = {
        "checksum": {"function": "sha256", "message": sha256(key[16:] + message).hexdigest(), "params": {}},
        "cipher": {"function": "aes-128-ctr", "message": message.hex(), "params": {"iv": iv.hex()}},
        "kdf": {"function": "scrypt", "message": "", "params": params},
    }
    known = {"description": "", "path": "", "pubkey": public.hex(), "uuid": str(uuid.uuid4()), "version": 4}
    return (json.dumps({"crypto": crypto, **known}, indent=1) + "\n").encode()


def decrypt(data: bytes, passphrase: str) -> tuple[bytes, bytes | None]:
    """The secret of a keystore, and the public key that it states; ValueError."""
    store = parse(data)
    try:
        exactly(store, ("crypto", "path", "uuid", "version"), ("description", "pubkey", "name"))
        if store["version"] != 4:
            raise ValueError("only keystores of version 4 (EIP-2335) are read")
        crypto = store["crypto"]
        exactly(crypto, ("checksum", "cipher", "kdf"))
        for module in crypto.values():
            exactly(module, ("function", "message", "params"))
        checksum, cipher, kdf = crypto["checksum"], crypto["cipher"], crypto["kdf"]
        if (checksum["function"], cipher["function"]) != ("sha256", "aes-128-ctr"):
            raise ValueError("its checksum or cipher is not that of EIP-2335")
        message, iv = octets(cipher, "message", _SECRET), octets(cipher["params"], "iv", 16)
        wanted = octets(checksum, "message", 32)
        key = _derive(kdf["function"], kdf["params"], passphrase)
        public = octets(store, "pubkey") if "pubkey" in store else None
    except (TypeError, KeyError) as error:
        raise ValueError("it is no keystore") from error
    if not hmac.compare_digest(sha256(key[16:] + message).digest(), wanted):
        raise ValueError("the passphrase is wrong, or the file is damaged")
    return _crypt(key, iv, message), public


def _derive(function: str, params: dict[str, Any], passphrase: str) -> bytes:
    """32 bytes; ValueError before any work if that is too much."""
    exactly(params, ("dklen", "salt", *(("n", "p", "r") if function == "scrypt" else ("c", "prf"))))
    number(params, "dklen", 32, 32)
    salt = octets(params, "salt")
    if function == "scrypt":
        n, r, p = (number(params, name, 1, MAX_WORK) for name in ("n", "r", "p"))
        if n < 2 or n & (n - 1) or 128 * n * r > MAX_MEMORY or 128 * n * r * p > MAX_WORK:
            raise ValueError("scrypt's n is no power of two, or its costs are beyond reason")
        return scrypt(encoded(passphrase), salt=salt, n=n, r=r, p=p, maxmem=2 * MAX_MEMORY - 1, dklen=32)
    if function == "pbkdf2":
        if params["prf"] != "hmac-sha256":
            raise ValueError("its prf is not hmac-sha256")
        rounds = number(params, "c", 1, MAX_ITERATIONS)
        return pbkdf2_hmac("sha256", encoded(passphrase), salt, rounds, 32)
    raise ValueError("its key derivation is neither scrypt nor pbkdf2")
