"""RFC 3161 time stamps of an announcement's digest: an authority's word that the digest existed at a time.

The imprint is SHA-256 of the digest's 32 bytes. Parsing, the authority's signature and its chain of certificates at
the time of the stamp are rfc3161-client's. Revocation is not checked.
"""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from math import ceil

from cryptography.x509 import (
    Certificate,
    ExtendedKeyUsage,
    ExtensionNotFound,
    ObjectIdentifier,
    load_der_x509_certificate,
    load_pem_x509_certificates,
)
from rfc3161_client import (
    HashAlgorithm,
    TimestampRequestBuilder,
    TimeStampResponse,
    VerifierBuilder,
    decode_timestamp_response,
)

from zkcert.errors import ProofRejected, UnusableInput
from zkcert.public.reading import File, read_file

ANSWER_LIMIT = 1 << 18
"""Bytes of an answer, or of a file of certificates."""

_SHA256 = ObjectIdentifier("2.16.840.1.101.3.4.2.1")
_STAMPING = ObjectIdentifier("1.3.6.1.5.5.7.3.8")


def request_of(digest: bytes) -> bytes:
    """What is sent to an authority (application/timestamp-query): a request for a stamp of the digest, in DER."""
    return bytes(TimestampRequestBuilder().data(digest).hash_algorithm(HashAlgorithm.SHA256).build().as_bytes())


def is_about(data: bytes, digest: bytes) -> bool:
    """Whether bytes are an authority's answer, granted, about a digest; nothing else of it is checked."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return bytes(decode_timestamp_response(data).tst_info.message_imprint.message) == sha256(digest).digest()
        except Exception:  # hostile bytes make the library raise what it likes
            return False


@dataclass(frozen=True)
class Stamp:
    """A checked time stamp. latest: when the digest existed, the stated accuracy included; authority: the name in its
    certificate."""

    latest: int
    authority: str


def load_roots(path: File) -> list[Certificate]:
    """The certificates of a PEM file, which are trusted; UnusableInput."""
    try:
        return load_pem_x509_certificates(read_file(path, ANSWER_LIMIT))
    except ValueError as error:
        raise UnusableInput(f"{os.fspath(path)}: no certificates in PEM: give those you trust") from error


def check_stamp(path: File, roots: list[Certificate], digest: bytes) -> Stamp:
    """The time stamp of a file (an authority's answer, in DER) over a digest of 32 bytes.

    ProofRejected ("time-stamp") unless an authority under one of the roots stamped it, with a certificate whose one,
    critical purpose that is; UnusableInput for a file that is no answer.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of certificates with odd entries, which are refused or not
        return _check(os.fspath(path), read_file(path, ANSWER_LIMIT), roots, digest)


def _check(name: str, data: bytes, roots: list[Certificate], digest: bytes) -> Stamp:
    try:
        answer = decode_timestamp_response(data)
        info = answer.tst_info
        imprint, when, accuracy = info.message_imprint, info.gen_time, info.accuracy
        signer = _signer(answer)
    except Exception as error:  # hostile bytes make the library raise what it likes
        raise UnusableInput(f"{name}: not the answer of a time stamping authority, or a refusal") from error

    def refuse(why: str) -> ProofRejected:
        return ProofRejected("time-stamp", f"{name}: {why}")

    if imprint.hash_algorithm != _SHA256 or imprint.message != sha256(digest).digest():
        raise refuse("it is of something else than the announcement's digest")
    if signer is None:
        raise refuse("its authority's certificate is not in it: ask for a stamp with certificates")
    builder = VerifierBuilder()
    for root in dict.fromkeys(roots):
        builder = builder.add_root_certificate(root)
    try:
        builder.build().verify_message(answer, digest)
    except Exception as error:  # VerificationError, and whatever hostile certificates cause
        raise refuse(f"it is not signed as it should be ({error})") from error
    if not only_stamps(signer):
        raise refuse("its authority's certificate is not for time stamping and nothing else")
    late = 0.0 if accuracy is None else accuracy.seconds + (accuracy.millis or 0) / 1e3 + (accuracy.micros or 0) / 1e6
    return Stamp(ceil(_seconds(when) + late), signer.subject.rfc4514_string())


def _seconds(when: datetime) -> float:
    if when.tzinfo is None:
        raise ValueError("a time without a zone")
    return when.timestamp()


def _signer(answer: TimeStampResponse) -> Certificate | None:
    """The certificate, in the answer, of who signed it."""
    (signer,) = answer.signed_data.signer_infos
    found = [load_der_x509_certificate(data) for data in answer.signed_data.certificates]
    own = [c for c in found if (c.issuer, c.serial_number) == (signer.issuer, signer.serial_number)]
    return own[0] if len(own) == 1 else None


def only_stamps(certificate: Certificate) -> bool:
    """Whether the one, critical purpose of a certificate is time stamping (RFC 3161, 2.3)."""
    try:
        usage = certificate.extensions.get_extension_for_class(ExtendedKeyUsage)
    except ExtensionNotFound:
        return False
    return usage.critical and list(usage.value) == [_STAMPING]
