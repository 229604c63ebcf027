"""Keys with proofs of possession, signatures bound to roles, and sums that no rogue key gets into."""

from __future__ import annotations

import json
import os
import stat

import pytest

from tests.formats.test_strict_json import others
from tests.trust.conftest import refused
from tests.trust.test_points import changed, first_that
from zkcert.errors import UnusableInput
from zkcert.trust import keys
from zkcert.trust.keys import (
    AUTHORITY,
    POSSESSION_TAG,
    PROVIDER,
    SIGNATURE_TAG,
    WITNESS,
    SecretKey,
    add_signatures,
    check_signature,
    check_total,
    framed,
    load_keys,
    load_secret,
    make_key,
)
from zkcert.trust.keystore import encrypt
from zkcert.trust.points import G1, G2, ORDER, signed, times, total

ROLES = (PROVIDER, WITNESS, AUTHORITY)
CONTENT = {"number": 7, "text": "some content"}


def secret(number):
    return SecretKey(number.to_bytes(32, "big"))


@pytest.fixture
def cheap(monkeypatch):
    """Keystores at the least costs."""
    monkeypatch.setattr(keys, "encrypt", lambda *given: encrypt(*given, {"dklen": 32, "n": 2, "p": 1, "r": 1}))


def test_a_signature_means_something_in_its_role_only():
    """In every other one the message is another one; of each role one pair is tried."""
    key = secret(5)
    assert len({framed(role, CONTENT) for role in ROLES}) == len(ROLES)
    for role, other in zip(ROLES, (*ROLES[1:], ROLES[0]), strict=True):
        signature = key.sign(role, CONTENT)
        assert check_signature(key.public, role, CONTENT, signature) is None
        assert "not the key's" in check_signature(key.public, other, CONTENT, signature)
    assert "not the key's" in check_signature(secret(6).public, WITNESS, CONTENT, key.sign(WITNESS, CONTENT))
    assert "not the key's" in check_signature(key.public, WITNESS, {**CONTENT, "number": 8}, key.sign(WITNESS, CONTENT))


def test_messages_of_different_content_differ():
    """Lengths come first, so that nothing of one part can be read as another's."""
    content = b'{"number":7,"text":"some content"}'
    wanted = (16).to_bytes(8, "little") + b"zkcert/witness/1" + len(content).to_bytes(8, "little") + content
    assert framed(WITNESS, CONTENT) == framed(WITNESS, dict(reversed(CONTENT.items()))) == wanted


def test_malformed_signatures_are_refused_by_name():
    key = secret(5)
    good = key.sign(WITNESS, CONTENT)
    for signature, word in (
        (changed(bytes(96), add=0xC0), "at infinity"),
        (first_that(G2, 1, "off the curve"), "off the curve"),
        (first_that(G2, 1, "outside the subgroup"), "outside the subgroup"),
        (changed(good, clear=0x80), "not in compressed form"),
        (good[:48], "of 48 bytes"),
        (changed(good, clear=0x20) if good[0] & 0x20 else changed(good, add=0x20), "not the key's"),
    ):
        assert word in check_signature(key.public, WITNESS, CONTENT, signature)


# ----------------------------------------------------------------------------------------------- sums, rogue keys


def test_signatures_of_one_content_add_up():
    several = [secret(number) for number in (5, 6, 7)]
    public = [key.public for key in several]
    signatures = [key.sign(AUTHORITY, CONTENT) for key in several]
    whole = add_signatures(signatures)
    assert check_total(public, AUTHORITY, CONTENT, whole) is None
    assert check_total(public[:2], AUTHORITY, CONTENT, whole) is not None
    assert check_total(public, WITNESS, CONTENT, whole) is not None
    assert check_total(public, AUTHORITY, CONTENT, add_signatures(signatures[:2])) is not None


def test_a_rogue_key_signs_for_others_and_cannot_be_loaded(tmp_path):
    """Mallory publishes mine - honest for a key: the sum of both is his own key, so he alone signs for both. All that
    stops him is that he cannot show to know the secret of that key."""
    honest, mine = secret(5), secret(1234)
    rogue = G1.encode(total([G1.decode(mine.public), times(G1.decode(honest.public), ORDER - 1)]))
    forged = mine.sign(AUTHORITY, CONTENT)
    assert check_total([honest.public, rogue], AUTHORITY, CONTENT, forged) is None
    attempts = [
        mine.named("m").proof,
        honest.named("h").proof,
        G2.encode(total([G2.decode(mine.named("m").proof), times(G2.decode(honest.named("h").proof), ORDER - 1)])),
        G2.encode(times(G2.hash(rogue, POSSESSION_TAG), 1234)),
        mine.sign(AUTHORITY, {"key": rogue.hex()}),
    ]
    for proof in attempts:
        path = tmp_path / "rogue.pub"
        path.write_bytes(keys._keys_file([keys.PublicKey("rogue", rogue, proof)]))
        with pytest.raises(UnusableInput, match="the proof of possession of rogue is not its key's"):
            load_keys([path])


def test_a_proof_of_possession_is_no_signature_and_no_signature_is_one(tmp_path):
    key = secret(5)
    proof = key.named("w").proof
    for role in ROLES:
        assert check_signature(key.public, role, CONTENT, proof) is not None
    assert signed(G2, key.public, key.public, POSSESSION_TAG, proof)
    assert not signed(G2, key.public, key.public, SIGNATURE_TAG, proof)


# ----------------------------------------------------------------------------------------------------- key files


def test_public_keys_are_read_only_as_they_were_written(tmp_path):
    path = tmp_path / "w.pub"
    path.write_bytes(keys._keys_file([secret(5).named("w")]))
    assert load_keys([path]) == [secret(5).named("w")]
    written = path.read_bytes()
    for what, data in others(written):
        if what in ("an order of keys", "indent 2", "no newline", "a space", "a key twice", "line ends", "an escape"):
            path.write_bytes(data)
            with pytest.raises(UnusableInput):
                load_keys([path])


def test_odd_public_keys_are_refused_by_name(tmp_path):
    path = tmp_path / "w.pub"
    good = secret(5).named("w").to_dict()
    for change, words in {
        ("key", changed(bytes(48), add=0xC0).hex()): "the key of w is a point at infinity",
        ("key", first_that(G1, 1, "outside the subgroup").hex()): "outside the subgroup",
        ("key", first_that(G1, 1, "off the curve").hex()): "off the curve",
        ("key", "00"): "has not 48 bytes",
        ("possession", changed(bytes(96), add=0xC0).hex()): "the proof of possession of w is a point at infinity",
        ("possession", secret(6).named("w").proof.hex()): "is not its key's",
        ("name", ""): "no text of",
        ("name", "a\nb\n"): "no text of",
        ("name", "\x1b[31mred"): "no text of",
        ("name", "x" * 65): "no text of",
        ("more", "x"): "no place",
    }.items():
        value = {"format": "zkcert-keys-1", "keys": [{**good, change[0]: change[1]}]}
        path.write_text(json.dumps(value, sort_keys=True, indent=1) + "\n")
        with pytest.raises(UnusableInput, match=words):
            load_keys([path])
    for content in ({"keys": [good]}, {"format": "zkcert-keys-1", "keys": []}, {"format": "x", "keys": [good]}):
        path.write_text(json.dumps(content, sort_keys=True, indent=1) + "\n")
        with pytest.raises(UnusableInput):
            load_keys([path])


def test_a_key_counts_once(tmp_path):
    one, two = tmp_path / "one.pub", tmp_path / "two.pub"
    one.write_bytes(keys._keys_file([secret(5).named("w")]))
    two.write_bytes(keys._keys_file([secret(6).named("v"), secret(5).named("under another name")]))
    for given in ([one, one], [one, two]):
        with pytest.raises(UnusableInput, match="is given twice"):
            load_keys(given)


def test_keygen_writes_a_secret_for_its_owner_and_replaces_nothing(run, tmp_path):
    done = run("witness", "keygen", "A witness", "-o", "w")
    assert done.code == 0 and "secret  w.key (keep it)" in done.out
    path = tmp_path / "w.key"
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600 and len(path.read_bytes()) == 32
    (known,) = load_keys([tmp_path / "w.pub"])
    assert (known.name, known.key) == ("A witness", load_secret(path).public)
    before = path.read_bytes()
    refused(run("witness", "keygen", "A witness", "-o", "w"), 2, "w.key exists")
    path.rename("kept.key")
    refused(run("witness", "keygen", "A witness", "-o", "w"), 2, "w.pub exists")
    assert (tmp_path / "kept.key").read_bytes() == before and not path.exists()
    refused(run("witness", "keygen", "\u00e9", "-o", "v"), 2, "name is no text")
    assert not (tmp_path / "v.key").exists()
    assert run("provider", "keygen", "P", "-o", "p", "--json").json["name"] == "P"


def test_encrypted_secrets_need_their_passphrase(run, tmp_path, cheap):
    (tmp_path / "pass").write_text("correct horse\n")
    (tmp_path / "wrong").write_text("battery staple")
    assert run("witness", "keygen", "W", "-o", "w", "--passphrase", "pass").code == 0
    content = (tmp_path / "w.key").read_bytes()
    assert json.loads(content)["version"] == 4
    assert load_secret(tmp_path / "w.key", "correct horse").public == load_keys([tmp_path / "w.pub"])[0].key
    with pytest.raises(UnusableInput, match="is encrypted: give its passphrase"):
        load_secret(tmp_path / "w.key")
    with pytest.raises(UnusableInput, match="the passphrase is wrong"):
        load_secret(tmp_path / "w.key", "battery staple")
    value = json.loads(content)
    value["pubkey"] = secret(5).public.hex()
    (tmp_path / "w.key").write_text(json.dumps(value))
    with pytest.raises(UnusableInput, match="another secret key's"):
        load_secret(tmp_path / "w.key", "correct horse")
    (tmp_path / "short").write_text("short")
    refused(run("witness", "keygen", "W", "-o", "v", "--passphrase", "short"), 2, "fewer than 8")


def test_secrets_that_others_may_read_or_that_are_none_are_refused(tmp_path):
    path, _, _ = make_key(tmp_path / "w", "W")
    path.chmod(0o640)
    with pytest.raises(UnusableInput, match="may be read by others: chmod 600"):
        load_secret(path)
    path.chmod(0o600)
    with pytest.raises(UnusableInput, match="leave --passphrase out"):
        load_secret(path, "x")
    for data in (b"", bytes(32), b"\xff" * 32, ORDER.to_bytes(32, "big"), bytes(31), bytes(33)):
        path.write_bytes(data)
        with pytest.raises(UnusableInput, match=r"w\.key: not a secret key"):
            load_secret(path)
    assert "SecretKey of" in repr(secret(5)) and "0005" not in repr(secret(5)).replace(secret(5).public.hex(), "")
