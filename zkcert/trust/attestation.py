"""An accepted proof as an in-toto Statement v1 in a DSSE envelope: what a verifier says of two files, signed.

Subjects are model and proof by their SHA-256; the predicate is the verdict, its order in time included. Signatures are
Ed25519, or ECDSA over P-256 with SHA-256 (DER), which other tools for DSSE verify. Keys are PEM files of openssl.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from zkcert.errors import ProofRejected, UnusableInput
from zkcert.public.config import canonical_json
from zkcert.public.reading import File, opened, read_file
from zkcert.public.strict_json import parse
from zkcert.trust.json_files import exactly, load_json

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "urn:x-zkcert:certificate:1"
KIND = "a signed attestation"
MAX_SIGNATURES = 16
_KEY_LIMIT = 1 << 14
_ADVICE = "take the file that verify --attest wrote"

Private = Ed25519PrivateKey | EllipticCurvePrivateKey
Public = Ed25519PublicKey | EllipticCurvePublicKey


def pae(kind: str, payload: bytes) -> bytes:
    """What a DSSE signature is of: the type and the payload, each preceded by its length in decimal."""
    name = kind.encode()
    return b"DSSEv1 %d %b %d %b" % (len(name), name, len(payload), payload)


def key_id(key: Public) -> str:
    """SHA-256 of the key in DER (SubjectPublicKeyInfo), in hexadecimal."""
    return sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def load_private(path: File, passphrase: str | None = None) -> Private:
    """A secret key in PEM that only its owner may read; UnusableInput."""
    name = os.fspath(path)
    with opened(path, _KEY_LIMIT) as (file, size):
        mode, data = os.fstat(file.fileno()).st_mode, file.read(size + 1)
    try:
        key = load_pem_private_key(data, None if passphrase is None else passphrase.encode())
    except TypeError as error:
        raise UnusableInput(f"{name}: {error}; see --passphrase") from error
    except Exception as error:  # which may be of many kinds
        raise UnusableInput(f"{name}: no secret key in PEM, or another passphrase's") from error
    if mode & 0o077 and passphrase is None:
        raise UnusableInput(f"{name} may be read by others: chmod 600 {name}, and think about who has read it")
    if isinstance(key, Ed25519PrivateKey) or (
        isinstance(key, EllipticCurvePrivateKey) and isinstance(key.curve, SECP256R1)
    ):
        return key
    raise UnusableInput(
        f"{name}: neither an Ed25519 key nor one of P-256: openssl genpkey -algorithm ed25519 makes one"
    )


def load_public(path: File) -> Public:
    """A public key in PEM; UnusableInput."""
    name = os.fspath(path)
    data = read_file(path, _KEY_LIMIT)
    try:
        key = load_pem_public_key(data)
    except Exception as error:  # which may be of many kinds
        raise UnusableInput(f"{name}: no public key in PEM; openssl pkey -in SECRET -pubout gives it") from error
    if isinstance(key, Ed25519PublicKey) or (
        isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1)
    ):
        return key
    raise UnusableInput(f"{name}: neither an Ed25519 key nor one of P-256")


def statement(subjects: Mapping[str, str], predicate: Mapping[str, Any]) -> bytes:
    """The payload. subjects: name -> SHA-256 in hexadecimal."""
    listed = [{"name": name, "digest": {"sha256": digest}} for name, digest in subjects.items()]
    content = {"_type": STATEMENT_TYPE, "subject": listed, "predicateType": PREDICATE_TYPE, "predicate": predicate}
    return canonical_json(content).encode()


def envelope(payload: bytes, key: Private) -> bytes:
    """The file."""
    message = pae(PAYLOAD_TYPE, payload)
    signature = key.sign(message) if isinstance(key, Ed25519PrivateKey) else key.sign(message, ECDSA(SHA256()))
    signed = {"keyid": key_id(key.public_key()), "sig": base64.b64encode(signature).decode()}
    content = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [signed],
    }
    return (json.dumps(content, indent=1) + "\n").encode()


@dataclass(frozen=True)
class Attestation:
    """A payload whose signature was checked. subjects: the SHA-256 of them, in hexadecimal; signer: the key's id."""

    subjects: frozenset[str]
    predicate: Mapping[str, Any]
    signer: str


def check(path: File, key: Public) -> Attestation:
    """What a key has attested; ProofRejected ("attestation") unless it signed the envelope, UnusableInput for files
    that are none. Signatures of other keys may stand beside it."""
    name = os.fspath(path)
    payload, signatures = load_json(path, KIND, _read, _ADVICE)
    message = pae(PAYLOAD_TYPE, payload)
    if not any(_valid(key, signature, message) for signature in signatures):
        raise ProofRejected("attestation", f"{name}: the key {key_id(key)[:8]}... has not signed it")
    try:
        content = parse(payload)
        if not isinstance(content, dict):
            raise ValueError("it is no JSON object")
        exactly(content, ("_type", "predicate", "predicateType", "subject"))
        if (content["_type"], content["predicateType"]) != (STATEMENT_TYPE, PREDICATE_TYPE):
            raise ValueError("it is no statement about a certificate of zkcert")
        digests = [entry["digest"]["sha256"] for entry in content["subject"]]
        if not isinstance(content["predicate"], dict) or not all(isinstance(each, str) for each in digests):
            raise ValueError("its predicate or subjects are of other types")
    except (ValueError, TypeError, KeyError) as error:
        why = str(error) if isinstance(error, ValueError) else "its values are of other types"
        raise UnusableInput(f"{name}: not {KIND} ({why}); {_ADVICE}") from error
    return Attestation(frozenset(digests), content["predicate"], key_id(key))


def _read(value: Any) -> tuple[bytes, list[bytes]]:
    exactly(value, ("payload", "payloadType", "signatures"))
    if value["payloadType"] != PAYLOAD_TYPE:
        raise ValueError(f"its payload is not {PAYLOAD_TYPE}")
    listed = value["signatures"]
    if not isinstance(listed, list) or not 1 <= len(listed) <= MAX_SIGNATURES:
        raise ValueError(f"it has not 1 to {MAX_SIGNATURES} signatures")
    for entry in listed:
        exactly(entry, ("sig",), ("keyid",))
    return _base64(value["payload"]), [_base64(entry["sig"]) for entry in listed]


def _base64(text: object) -> bytes:
    """Of either alphabet, as DSSE allows. ValueError."""
    if not isinstance(text, str):
        raise ValueError("payload and signatures are texts in base64")
    return base64.b64decode(text.translate({ord("-"): "+", ord("_"): "/"}), validate=True)


def _valid(key: Public, signature: bytes, message: bytes) -> bool:
    try:
        if isinstance(key, Ed25519PublicKey):
            key.verify(signature, message)
        else:
            key.verify(signature, message, ECDSA(SHA256()))
    except InvalidSignature:
        return False
    return True
