"""RFC 3161 time stamps, of authorities made with openssl."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from cryptography.x509 import load_pem_x509_certificate
from rfc3161_client import decode_timestamp_response

from tests.trust.stamping import Authority, openssl
from zkcert.errors import ProofRejected, UnusableInput
from zkcert.trust.times import now
from zkcert.trust.timestamp import check_stamp, load_roots, only_stamps, request_of

DIGEST = bytes(range(32))


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority.make(tmp_path_factory.mktemp("authority") / "tsa", accuracy=30)


@pytest.fixture(scope="module")
def query(authority):
    path = authority.place / "query.tsq"
    path.write_bytes(request_of(DIGEST))
    return path


@pytest.fixture(scope="module")
def stamp(authority, query):
    return authority.answer(query, authority.place / "good.tsr")


def refused(words, path, roots, digest=DIGEST):
    with pytest.raises(ProofRejected, match=words) as error:
        check_stamp(path, roots, digest)
    assert error.value.check == "time-stamp" and str(path) in str(error.value)


def test_a_stamp_is_accepted_at_its_time_with_its_accuracy(authority, stamp):
    found = check_stamp(stamp, load_roots(authority.root), DIGEST)
    assert found.authority == "CN=TSA good"
    assert now() - 60 <= found.latest - 30 <= now() + 1


def test_openssl_says_the_same(authority, stamp, tmp_path):
    data = tmp_path / "digest"
    data.write_bytes(DIGEST)
    openssl(authority.place, "ts", "-verify", "-in", str(stamp), "-data", str(data), "-CAfile", "root.pem")


def test_a_stamp_of_something_else_is_refused(authority, stamp, tmp_path):
    roots = load_roots(authority.root)
    refused("of something else", stamp, roots, bytes(32))
    openssl(authority.place, "ts", "-query", "-data", "tsa.cnf", "-sha512", "-cert", "-out", str(tmp_path / "q"))
    refused("of something else", authority.answer(tmp_path / "q", tmp_path / "other.tsr"), roots)


def test_a_stamp_of_an_authority_that_is_not_trusted_is_refused(stamp, tmp_path):
    other = Authority.make(tmp_path / "other", names=())
    refused("not signed as it should be", stamp, load_roots(other.root))


def test_a_changed_stamp_is_refused(authority, stamp, tmp_path):
    """One byte after another is changed. What is accepted says the same: a few bytes of the signer's algorithms are not
    signed, and mean nothing where the signature verifies."""
    data, roots, path = stamp.read_bytes(), load_roots(authority.root), tmp_path / "changed.tsr"
    good = check_stamp(stamp, roots, DIGEST)
    time = decode_timestamp_response(data).tst_info.gen_time.strftime("%Y%m%d%H%M%SZ").encode()
    assert data.count(time) == 1
    path.write_bytes(data.replace(time, b"2001" + time[4:]))
    refused("not signed as it should be", path, roots)
    accepted = 0
    for at in range(len(data)):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        try:
            assert check_stamp(path, roots, DIGEST) == good
            accepted += 1
        except (ProofRejected, UnusableInput):
            continue
    assert accepted < 20


def test_a_certificate_must_have_been_valid_then(authority, query, tmp_path):
    authority.expired("expired")
    answer = authority.answer(query, tmp_path / "expired.tsr", "expired")
    refused("not signed as it should be", answer, load_roots(authority.root))


def test_stamps_without_certificates_are_refused(authority, tmp_path):
    (tmp_path / "digest").write_bytes(DIGEST)
    openssl(authority.place, "ts", "-query", "-data", str(tmp_path / "digest"), "-sha256", "-out", str(tmp_path / "q"))
    answer = authority.answer(tmp_path / "q", tmp_path / "bare.tsr")
    refused("certificate is not in it", answer, load_roots(authority.root))


def test_time_stamping_is_a_certificates_one_and_critical_purpose(authority):
    for name, good in {"good": True, "not_critical": False, "also_others": False, "other_use": False}.items():
        authority.certify(f"purpose_{name}", name)
        assert only_stamps(load_pem_x509_certificate((authority.place / f"purpose_{name}.pem").read_bytes())) is good
    assert not only_stamps(load_pem_x509_certificate(authority.root.read_bytes()))


def test_what_is_no_answer_is_unusable(authority, query, tmp_path):
    roots = load_roots(authority.root)
    for content in (b"", b"hello", query.read_bytes(), bytes(500), b"\x30\x82\xff\xff" + bytes(100)):
        path = tmp_path / "odd.tsr"
        path.write_bytes(content)
        with pytest.raises(UnusableInput, match=r"odd\.tsr: not the answer"):
            check_stamp(path, roots, DIGEST)
    refusal = tmp_path / "refusal.tsr"
    (tmp_path / "bad.tsq").write_bytes(b"nonsense")
    command = ["openssl", "ts", "-reply", "-config", "tsa.cnf", "-queryfile", str(tmp_path / "bad.tsq"), "-signer",
               "good.pem", "-inkey", "good.key", "-out", str(refusal)]  # fmt: skip
    subprocess.run(command, cwd=authority.place, capture_output=True, check=False)
    if refusal.exists():
        with pytest.raises(UnusableInput, match="not the answer"):
            check_stamp(refusal, roots, DIGEST)


def test_roots_are_certificates(tmp_path):
    path = tmp_path / "roots.pem"
    for content in (b"", b"hello", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"):
        path.write_bytes(content)
        with pytest.raises(UnusableInput, match=r"roots\.pem: no certificates in PEM"):
            load_roots(path)
    with pytest.raises(UnusableInput, match="No such file"):
        load_roots(Path(tmp_path / "missing.pem"))
