"""Attestations: in-toto Statements in DSSE envelopes, which other tools verify."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey

from tests.trust.conftest import refused
from zkcert import api
from zkcert.api.attestation import check_attestation
from zkcert.errors import ProofRejected, UnusableInput
from zkcert.trust.attestation import PREDICATE_TYPE, STATEMENT_TYPE, envelope, load_private, load_public, pae

KINDS = {"ed25519": ["-algorithm", "ed25519"], "p256": ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]}


def openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


def make(place, name, options):
    """name.pem and name.pub.pem, as a user makes them."""
    openssl("genpkey", *options, "-out", place / f"{name}.pem")
    (place / f"{name}.pem").chmod(0o600)
    openssl("pkey", "-in", place / f"{name}.pem", "-pubout", "-out", place / f"{name}.pub.pem")


@pytest.fixture(scope="module")
def signers(tmp_path_factory):
    place = tmp_path_factory.mktemp("signers")
    for name, options in KINDS.items():
        make(place, name, options)
    return place


@pytest.fixture
def attested(run, tiny, signers):
    """Arguments of verify, and how to attest with a key."""
    pins = ["verify", tiny.proof, tiny.model, "--tau", 3, "--announcement", tiny.announcement, "--beacon", tiny.beacon]

    def attest(name, out="a.json"):
        done = run(*pins, "--attest", out, "--attest-key", signers / f"{name}.pem")
        assert (done.code, done.err) == (0, ""), done.err
        return pins

    return attest


def check(run, pins, signers, name, file="a.json"):
    return run(*pins, "--attestation", file, "--attestation-key", signers / f"{name}.pub.pem")


@pytest.fixture(scope="module")
def verdict(tiny):
    """What both verifiers found; verifying again and again takes its time."""
    return api.verify(tiny.proof, tiny.model, tau=3, announcement=tiny.announcement, beacon=tiny.beacon)


def rejected(signers, verdict, *words, kind=ProofRejected):
    with pytest.raises(kind) as error:
        check_attestation("b.json", signers / "ed25519.pub.pem", verdict)
    assert all(word in str(error.value) for word in ("b.json", *words)), error.value


@pytest.mark.parametrize("name", KINDS)
def test_what_one_verifier_signs_another_checks(run, tiny, signers, attested, name):
    pins = attested(name)
    done = check(run, pins, signers, name)
    assert (done.code, done.err) == (0, "") and "  attested    checked  the key " in done.out
    others = run("verify", tiny.proof, tiny.model, "--tau", 5, "--attestation", "a.json",
                 "--attestation-key", signers / f"{name}.pub.pem", "--json")  # fmt: skip
    assert others.json["order"][-1]["step"] == "attested"  # who insists on less is told the same
    other = next(kind for kind in KINDS if kind != name)
    refused(check(run, pins, signers, other), 1, "attestation: a.json: the key ", "has not signed it")


@pytest.mark.parametrize("name", KINDS)
def test_another_tool_verifies_it_and_reads_a_statement(run, tiny, signers, attested, name):
    attested(name)
    content = json.loads(Path("a.json").read_text())
    key = load_pem_public_key((signers / f"{name}.pub.pem").read_bytes())
    known = SSlibKey.from_crypto(key, keyid=content["signatures"][0]["keyid"])
    read = Envelope.from_dict(json.loads(Path("a.json").read_text()))
    assert read.verify([known], 1) and read.pae() == pae(read.payload_type, read.payload)
    statement = json.loads(read.payload)
    assert (statement["_type"], statement["predicateType"]) == (STATEMENT_TYPE, PREDICATE_TYPE)
    verdict = api.verify(tiny.proof, tiny.model, tau=3)
    assert statement["subject"] == [
        {"name": "model.pt", "digest": {"sha256": verdict.model_sha256}},
        {"name": "proof.bin", "digest": {"sha256": verdict.proof_sha256}},
    ]
    told = statement["predicate"]["verdict"]
    assert told["accepted"] is True and told["tau"] == "2.5" and "seconds" not in told
    assert [step["step"] for step in told["order"]][:2] == ["data", "announced"]
    with pytest.raises(VerificationError):
        Envelope(read.payload + b" ", read.payload_type, read.signatures).verify([known], 1)


def test_the_example_of_the_standard():
    assert pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


def test_an_attestation_of_other_files_or_another_statement_is_rejected(run, named, signers, attested, verdict):
    attested("ed25519")
    key = load_private(signers / "ed25519.pem")
    payload = json.loads(base64.b64decode(json.loads(Path("a.json").read_text())["payload"]))
    done = run("verify", *named.pins(), "--attestation", "a.json", "--attestation-key", signers / "ed25519.pub.pem")
    refused(done, 1, "attestation: a.json: it is not about the proof")
    for change, words in (
        (lambda p: p["subject"].pop(0), "it is not about the model"),
        (lambda p: p["predicate"]["verdict"].update(tau="1"), "it says something else"),
        (lambda p: p["predicate"]["verdict"].update(beacon="00"), "it says something else"),
        (lambda p: p.update(predicate={}), "it says something else"),
        (lambda p: p.update(predicate={"verdict": 5}), "it says something else"),
    ):
        content = json.loads(json.dumps(payload))
        change(content)
        Path("b.json").write_bytes(envelope(json.dumps(content).encode(), key))
        rejected(signers, verdict, words)
    for change in (
        lambda p: p.update(_type="https://in-toto.io/Statement/v0.1"),
        lambda p: p.update(predicateType="https://slsa.dev/provenance/v1"),
        lambda p: p.pop("subject"),
        lambda p: p.update(subject=[{"name": "model.pt"}]),
        lambda p: p.update(subject=[{"digest": {"sha256": 5}}]),
        lambda p: p.update(subject=5),
        lambda p: p.update(predicate=[]),
        lambda p: p.update(more=1),
    ):
        content = json.loads(json.dumps(payload))
        change(content)
        Path("b.json").write_bytes(envelope(json.dumps(content).encode(), key))
        rejected(signers, verdict, "not a signed attestation", kind=UnusableInput)
    for data, words in ((b'{"_type": 1, "_type": 2}', "a key occurs twice"), (b"[]", "not a signed"), (b"", "empty")):
        Path("b.json").write_bytes(envelope(data, key))
        rejected(signers, verdict, words, kind=UnusableInput)


def test_changed_envelopes_are_refused(signers, attested, verdict):
    attested("ed25519")
    good = json.loads(Path("a.json").read_text())
    signature = good["signatures"][0]

    def write(**changes):
        Path("b.json").write_text(json.dumps({**good, **changes}))

    payload = base64.b64decode(good["payload"])
    changed = base64.b64encode(payload.replace(b'"accepted":true', b'"accepted":null')).decode()
    for other in (changed, good["payload"][:-4]):
        write(payload=other)
        rejected(signers, verdict, "has not signed it")
    stranger = {"keyid": "x", "sig": base64.b64encode(bytes(64)).decode()}
    for signatures in ([stranger, signature], [{"sig": signature["sig"]}]):  # the key's name is a hint only
        write(signatures=signatures)
        assert check_attestation("b.json", signers / "ed25519.pub.pem", verdict).state == "checked"
    for changes in (
        {"payloadType": "text/plain"},
        {"signatures": []},
        {"signatures": [stranger] * 17},
        {"payload": "*"},
        {"payload": 5},
        {"signatures": [{"keyid": "x"}]},
        {"signatures": {"sig": "x"}},
        {"more": 1},
    ):
        write(**changes)
        rejected(signers, verdict, "not a signed attestation", kind=UnusableInput)


def test_keys_of_other_kinds_open_ones_and_options_that_are_missing_are_refused(run, tiny, signers, tmp_path):
    pins = ["verify", tiny.proof, tiny.model, "--tau", 3]
    make(tmp_path, "p384", ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"])
    make(tmp_path, "rsa", ["-algorithm", "RSA"])
    for name in ("p384", "rsa"):
        refused(run(*pins, "--attest", "a.json", "--attest-key", f"{name}.pem"), 2, "neither an Ed25519 key nor")
        done = run(*pins, "--attestation", signers / "ed25519.pem", "--attestation-key", f"{name}.pub.pem")
        refused(done, 2, "neither an Ed25519 key nor")
    make(tmp_path, "open", KINDS["ed25519"])
    Path("open.pem").chmod(0o644)
    refused(run(*pins, "--attest", "a.json", "--attest-key", "open.pem"), 2, "chmod 600")
    Path("pass").write_text("correct horse\n")
    openssl("pkey", "-in", "open.pem", "-aes256", "-passout", "file:pass", "-out", "locked.pem")
    refused(run(*pins, "--attest", "a.json", "--attest-key", "locked.pem"), 2, "locked.pem: ", "--passphrase")
    Path("wrong").write_text("battery staple\n")
    done = run(*pins, "--attest", "a.json", "--attest-key", "locked.pem", "--passphrase", "wrong")
    refused(done, 2, "another passphrase's")
    assert run(*pins, "--attest", "b.json", "--attest-key", "locked.pem", "--passphrase", "pass").code == 0
    refused(run(*pins, "--attest", "a.json", "--attest-key", tiny.model), 2, "no secret key in PEM")
    refused(run(*pins, "--attest", "a.json", "--attest-key", signers / "p256.pub.pem"), 2, "no secret key in PEM")
    refused(run(*pins, "--attest", "a.json"), 2, "--attest and --attest-key go together")
    refused(run(*pins, "--attestation", "b.json"), 2, "--attestation and --attestation-key go together")
    done = run(*pins, "--attestation", "b.json", "--attestation-key", signers / "p256.pem")
    refused(done, 2, "no public key in PEM")
    done = run("verify", tiny.proof, tiny.model, "--tau", 1, "--attest", "a.json", "--attest-key", signers / "p256.pem")
    refused(done, 1, "tau")
    assert not Path("a.json").exists()  # a rejected proof is attested by nobody


def test_no_file_is_replaced(run, tiny, signers):
    Path("a.json").write_text("mine")
    pins = ["verify", tiny.proof, tiny.model, "--tau", 3, "--attest", "a.json", "--attest-key", signers / "p256.pem"]
    assert run(*pins).code == 2 and Path("a.json").read_text() == "mine"
    assert load_public(signers / "p256.pub.pem")
