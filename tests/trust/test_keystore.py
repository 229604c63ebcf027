"""Keystores of EIP-2335: its vectors, what this program writes, and hostile files, whose costs are bounded."""

from __future__ import annotations

import copy
import json

import pytest

from zkcert.trust.keystore import decrypt, encoded, encrypt

PASSPHRASE = "𝔱𝔢𝔰𝔱𝔭𝔞𝔰𝔰𝔴𝔬𝔯𝔡🔑"
SECRET = bytes.fromhex("000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f")
PUBLIC = bytes.fromhex(
    "9612d7a727c9d0a22e185a1c768478dfe919cada9266988cb32359c11f2b7b27f4ae4040902382ae2910c15e2b420d07"
)
SALT = "d4e56740f876aef8c010b86a40d5f56745a118d0906a34e69aec8c0db1cb8fa3"


def store(function, params, checksum, message):
    """One of the EIP's two examples."""
    return {
        "crypto": {
            "kdf": {"function": function, "params": {"dklen": 32, "salt": SALT, **params}, "message": ""},
            "checksum": {"function": "sha256", "params": {}, "message": checksum},
            "cipher": {
                "function": "aes-128-ctr",
                "params": {"iv": "264daa3f303d7259501c93d997d84fe6"},
                "message": message,
            },
        },
        "description": "This is a test keystore.",
        "pubkey": PUBLIC.hex(),
        "path": "m/12381/60/0/0",
        "uuid": "64625def-3331-4eea-ab6f-782f3ed16a83",
        "version": 4,
    }


SCRYPT = store(
    "scrypt",
    {"n": 262144, "p": 1, "r": 8},
    "d2217fe5f3e9a1e34581ef8a78f7c9928e436d36dacc5e846690a5581e8ea484",
    "06ae90d55fe0a6e9c5c3bc5b170827b2e5cce3929ed3f116c2811e6366dfe20f",
)
PBKDF2 = store(
    "pbkdf2",
    {"c": 262144, "prf": "hmac-sha256"},
    "8a9f5d9912ed7e75ea794bc5a89bca5f193721d30868ade6f73043c6ea6febf1",
    "cee03fde2af33149775b7223e7845e4fb2c8ae1792e5f99fe9ecf474cc8c16ad",
)


@pytest.mark.parametrize("vector", [SCRYPT, PBKDF2], ids=["scrypt", "pbkdf2"])
def test_the_examples_of_the_standard_are_decrypted(vector):
    assert decrypt(json.dumps(vector).encode(), PASSPHRASE) == (SECRET, PUBLIC)
    with pytest.raises(ValueError, match="the passphrase is wrong"):
        decrypt(json.dumps(vector).encode(), "testpassword")


def test_passphrases_are_normalised_and_lose_control_characters():
    assert encoded(PASSPHRASE) == b"testpassword\xf0\x9f\x94\x91"
    assert encoded("a\x00b\x1f\x7f\x80\x9f c\u00e9") == encoded("ab c\u0065\u0301")


def test_what_is_written_is_read():
    costs = {"dklen": 32, "n": 2, "p": 1, "r": 1}
    data = encrypt(SECRET, "a phrase", PUBLIC, costs)
    assert decrypt(data, "a phrase") == (SECRET, PUBLIC)
    assert data.isascii() and SECRET.hex() not in data.decode()
    assert data != encrypt(SECRET, "a phrase", PUBLIC, costs)  # salt, iv and uuid are fresh


def changes():
    """Of the vectors: where, what, and words of the refusal."""
    kdf = ("crypto", "kdf")
    yield SCRYPT, (*kdf, "params", "n"), 1 << 30, "beyond reason"
    yield SCRYPT, (*kdf, "params", "n"), 1 << 3000, "no integer"
    yield SCRYPT, (*kdf, "params", "n"), 262143, "no power of two"
    yield SCRYPT, (*kdf, "params", "n"), 1, "no power of two"
    yield SCRYPT, (*kdf, "params", "n"), -2, "no integer"
    yield SCRYPT, (*kdf, "params", "n"), 262144.0, "no integer"
    yield SCRYPT, (*kdf, "params", "p"), 1 << 20, "beyond reason"
    yield SCRYPT, (*kdf, "params", "r"), 1 << 20, "beyond reason"
    yield SCRYPT, (*kdf, "params", "dklen"), 1 << 40, "no integer from 32 to 32"
    yield SCRYPT, (*kdf, "params", "salt"), "", "not lower-case hexadecimal"
    yield SCRYPT, (*kdf, "params", "more"), 1, "no place"
    yield SCRYPT, (*kdf, "function"), "argon2", "is missing"
    yield SCRYPT, (*kdf, "function"), "pbkdf2", "is missing"
    yield SCRYPT, (*kdf,), [], "params is missing|function is missing|no keystore"
    yield PBKDF2, (*kdf, "params", "c"), 1 << 40, "no integer"
    yield PBKDF2, (*kdf, "params", "c"), 0, "no integer"
    yield PBKDF2, (*kdf, "params", "prf"), "hmac-md5", "not hmac-sha256"
    yield PBKDF2, ("crypto", "cipher", "function"), "aes-256-ctr", "not that of EIP-2335"
    yield PBKDF2, ("crypto", "cipher", "message"), "00" * 31, "has not 32 bytes"
    yield PBKDF2, ("crypto", "cipher", "params"), {"iv": "00"}, "has not 16 bytes"
    yield PBKDF2, ("crypto", "checksum", "message"), 5, "not lower-case"
    yield PBKDF2, ("version",), 3, "version 4"
    yield PBKDF2, ("crypto",), None, "no keystore"


def test_hostile_keystores_are_refused_before_any_work(monkeypatch):
    def work(*_args, **_options):
        raise AssertionError("something is derived")

    monkeypatch.setattr("zkcert.trust.keystore.scrypt", work)
    monkeypatch.setattr("zkcert.trust.keystore.pbkdf2_hmac", work)
    for vector, path, value, words in changes():
        changed = copy.deepcopy(vector)
        at = changed
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = value
        with pytest.raises(ValueError, match=words):
            decrypt(json.dumps(changed).encode(), PASSPHRASE)
    for data in (
        b"{",
        b"{}",
        b"[]",
        b"[" * 50_000,
        json.dumps(PBKDF2).replace('"version"', '"uuid": "", "version"').encode(),
    ):
        with pytest.raises(ValueError):
            decrypt(data, PASSPHRASE)
