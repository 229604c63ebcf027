"""Chains and rounds of drand: real ones are accepted, and whatever is not the round that was named is refused."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

import pytest

from tests.trust.rounds import FASTNET, REAL, UNCHAINED, Own, write
from tests.trust.test_points import changed, first_that
from zkcert.errors import ProofRejected, UnusableInput
from zkcert.public.statement import Round
from zkcert.trust.drand import BUILT_IN, SCHEMES, Signed, chain_of, load_chain, require_round
from zkcert.trust.points import FQ12, G1, G2, ORDER, _pair, decompress_G1, final_exponentiate, neg, times, total
from zkcert.trust.times import time_text

HASHES = {
    "quicknet": "52db9ba70e0cc0f6eaf7803dd07447a1f5477735fd3f661792ba94600c84e971",
    "default": "8990e7a9aaed2ffed73dbd7092123d6f289930540d7651336225dc172e51b2ce",
}


def chain(name, place):
    if name in BUILT_IN:
        return BUILT_IN[name]
    return load_chain(write(place / "info.json", FASTNET if name == "fastnet" else UNCHAINED))


def load(place, value):
    return Signed.load(write(place / "round.json", value))


def refused(check, words, found, of, named=None):
    with pytest.raises(ProofRejected, match=words) as error:
        require_round(found, of, named)
    assert error.value.check == check and "\n" not in str(error.value)


@pytest.mark.parametrize(("name", "number"), REAL, ids=str)
def test_a_real_round_is_accepted_and_no_other_number_or_chain(name, number, tmp_path):
    of, found = chain(name, tmp_path), load(tmp_path, REAL[name, number])
    require_round(found, of, Round(of.hash, number))
    assert found.randomness.hex() == REAL[name, number].get("randomness", found.randomness.hex())
    refused("round", "names round", found, of, Round(of.hash, number + 1))
    refused("chain", "names the drand chain 0000", found, of, Round(bytes(32), number))
    other = replace(found, number=number + 1)
    refused("beacon", "is not the chain's" if number > 1 or not of.scheme.chained else "lacks", other, of)


def test_the_schemes_of_real_rounds_are_all_there_are(tmp_path):
    assert {chain(name, tmp_path).scheme.name for name, _ in REAL} == set(SCHEMES)


def test_built_in_chains_have_drands_hashes_and_times():
    assert {name: of.hash.hex() for name, of in BUILT_IN.items()} == HASHES
    for name, hexadecimal in HASHES.items():
        assert chain_of(name) is chain_of(hexadecimal) is BUILT_IN[name]
    quicknet = BUILT_IN["quicknet"]
    assert time_text(quicknet.time(1)) == "2023-08-23 15:09:27Z"
    assert quicknet.time(1000) == 1692803367 + 999 * 3
    for number in (1, 2, 77, 10**9):
        at = quicknet.time(number)
        assert [quicknet.first_from(at + late) for late in (-2, 0, 1, 3)] == [number, number, number + 1, number + 1]
    assert quicknet.first_from(0) == 1
    with pytest.raises(UnusableInput, match="no round"):
        quicknet.round(0)
    with pytest.raises(UnusableInput, match="no round"):
        quicknet.round((1 << 40) - 1)  # beyond the year 9999


@pytest.mark.parametrize("name", SCHEMES)
def test_a_signature_under_another_tag_or_message_is_refused(name, tmp_path):
    """Every pair of schemes that share a group, and so the forms of key and signature."""
    own = Own.make(scheme=name)
    scheme = own.chain.scheme
    previous = bytes(range(96)) if scheme.chained else b""
    require_round(load(tmp_path, own.sign(9, previous)), own.chain, None)
    tags = {other.tag for other in SCHEMES.values()} | {scheme.tag.replace(b"_NUL_", b"_POP_")}
    for tag in tags - {scheme.tag}:
        forged = own.sign(9, previous, replace(scheme, tag=tag))
        refused("beacon", "is not the chain's", load(tmp_path, forged), own.chain)
    signed = load(tmp_path, own.sign(9, previous))
    refused("beacon", "is not the chain's", replace(signed, number=10), own.chain)
    refused("beacon", "is not the chain's", signed, Own.make(scheme=name, secret=12).chain)


def test_previous_signatures_are_there_exactly_where_they_are_signed(tmp_path):
    of, found = BUILT_IN["default"], load(tmp_path, REAL["default", 3311596])
    for previous in (b"", bytes(48), found.previous + b"\0"):
        refused("beacon", "lacks the previous signature", replace(found, previous=previous), of)
    refused("beacon", "is not the chain's", replace(found, previous=bytes(96)), of)
    first = load(tmp_path, REAL["default", 1])
    for previous in (b"", bytes(32), bytes(96)):
        refused("beacon", "signs the chain's seed", replace(first, previous=previous), of)
    # the first round's signature and what it signs cannot be passed off as another round's
    refused("beacon", "lacks", replace(first, number=2), of)
    unchained = load(tmp_path, REAL["quicknet", 657413])
    refused("beacon", "does not sign", replace(unchained, previous=bytes(48)), BUILT_IN["quicknet"])
    load(tmp_path, {**REAL["quicknet", 657413], "previous_signature": ""}).check(BUILT_IN["quicknet"])


@pytest.mark.parametrize("name", ["quicknet", "default"])
def test_malformed_signatures_are_refused_by_name(name, tmp_path):
    of = BUILT_IN[name]
    number = next(n for which, n in REAL if which == name)
    found = load(tmp_path, REAL[name, number])
    group, data = (G1 if of.scheme.group == "G1" else G2), found.signature
    zero = bytes(group.size)
    examples = {
        "at infinity": changed(zero, add=0xC0),
        "marked as infinity": changed(data, add=0x40),
        "not in compressed form": changed(data, clear=0x80),
        "modulus": changed(b"\x1f" + b"\xff" * 47 + data[48:], add=0x80),
        "off the curve": first_that(group, 1, "off the curve"),
        "outside the subgroup": first_that(group, 1, "outside the subgroup"),
        "bytes, where": data + data,
        "is not the chain's": changed(data, clear=0x20) if data[0] & 0x20 else changed(data, add=0x20),
    }
    for word, signature in examples.items():
        refused("beacon", word, replace(found, signature=signature), of)


def test_only_the_subgroup_check_tells_a_second_signature(tmp_path):
    """Another round.json, and so another seed, for the same round: the signature plus a point of the cofactor's order,
    which no pairing sees."""
    own = Own.make()
    found = load(tmp_path, own.sign(7))
    stray = decompress_G1(int.from_bytes(first_that(G1, 1, "outside the subgroup"), "big"))
    second = total([G1.decode(found.signature), times(stray, ORDER)])
    message = sha256((7).to_bytes(8, "big")).digest()
    hashed, key = G1.hash(message, own.chain.scheme.tag), G2.decode(own.chain.key)
    assert final_exponentiate(_pair(second, G2.base) * _pair(neg(hashed), key)) == FQ12.one()
    refused("beacon", "outside the subgroup", replace(found, signature=G1.encode(second)), own.chain)


def test_a_chain_with_a_bad_key_is_unusable(tmp_path):
    own = Own.make()
    for key, word in ((changed(bytes(96), add=0xC0), "at infinity"), (first_that(G2, 1, "outside"), "subgroup")):
        with pytest.raises(UnusableInput, match=f"the public key of the chain our-own is .*{word}"):
            require_round(load(tmp_path, own.sign(5)), replace(own.chain, key=key), None)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"round": 0}, "not a number from 1"),
        ({"round": True}, "not a number from 1"),
        ({"round": "657413"}, "not a number from 1"),
        ({"round": 1 << 70}, "not a number from 1"),
        ({"round": None}, "not a number from 1"),
        ({"signature": ""}, "signature is not lower-case"),
        ({"signature": REAL["quicknet", 657413]["signature"].upper()}, "signature is not lower-case"),
        ({"signature": "abc"}, "signature is not lower-case"),
        ({"signature": 5}, "signature is not lower-case"),
        ({"previous_signature": 5}, "previous_signature is not lower-case"),
        ({"randomness": "00" * 32}, "randomness is not SHA-256"),
        ({"more": 1}, "'more' has no place"),
    ],
)
def test_a_round_with_odd_values_is_unusable(changes, words, tmp_path):
    with pytest.raises(UnusableInput, match=words) as error:
        load(tmp_path, {**REAL["quicknet", 657413], **changes})
    assert str(error.value).startswith(f"{tmp_path / 'round.json'}: not a drand round")


def test_a_round_is_one_json_object_without_repeated_keys(tmp_path):
    path = tmp_path / "round.json"
    texts = {"[]": "no JSON object", "": "empty", '{"round": 1, "round": 2, "signature": "aa"}': "a key occurs twice"}
    for text, words in {**texts, "{}": "round is missing", '{"round": 1}': "signature is missing"}.items():
        path.write_text(text)
        with pytest.raises(UnusableInput, match=words):
            Signed.load(path)


@pytest.mark.parametrize("info", [FASTNET, UNCHAINED], ids=["old", "new"])
def test_an_info_is_what_its_hash_says(info, tmp_path):
    hash_name, seed_name = ("hash", "groupHash") if "hash" in info else ("chain_hash", "genesis_seed")
    of = load_chain(write(tmp_path / "info.json", info))
    assert of.hash.hex() == info[hash_name] and chain_of(tmp_path / "info.json") == of
    key = info["public_key"]
    wrong = {
        "period": (4, "its hash is"),
        "genesis_time": (info["genesis_time"] + 1, "its hash is"),
        "public_key": (key[:-1] + ("0" if key[-1] != "0" else "1"), "its hash is"),
        hash_name: ("00" * 32, "its hash is"),
        seed_name: ("00" * 31, "has not 32 bytes"),
    }
    names = {"schemeID": "x", "metadata": {"beaconID": "a b"}} if "hash" in info else {"scheme": "x", "beacon_id": 5}
    for name, value in names.items():
        wrong[name] = (value, "none of|beacon ID")
    for name, (value, words) in wrong.items():
        with pytest.raises(UnusableInput, match=words):
            load_chain(write(tmp_path / "info.json", {**info, name: value}))
        with pytest.raises(UnusableInput, match=f"{name} is missing|chain_hash is missing"):
            load_chain(write(tmp_path / "info.json", {k: v for k, v in info.items() if k != name}))
    for odd in ({"period": 0}, {"period": 3.0}, {"genesis_time": -1}, {"public_key": key[:96] * 3}, {"extra": 1}):
        with pytest.raises(UnusableInput, match="not a drand chain's info"):
            load_chain(write(tmp_path / "info.json", {**info, **odd}))


def test_the_hash_does_not_cover_the_scheme_so_a_wrong_one_is_told_by_the_signature(tmp_path):
    """drand's hash leaves it out; that is why a chain comes from the verifier."""
    info = {**FASTNET, "schemeID": "bls-unchained-g1-rfc9380"}
    of = load_chain(write(tmp_path / "info.json", info))
    assert of.hash.hex() == FASTNET["hash"]
    refused("beacon", "is not the chain's", load(tmp_path, REAL["fastnet", 614294]), of)


def test_randomness_is_the_hash_of_the_signature(tmp_path):
    found = load(tmp_path, {k: v for k, v in REAL["fastnet", 614294].items() if k != "randomness"})
    assert found.randomness == sha256(found.signature).digest()
    assert found.randomness.hex() == REAL["fastnet", 614294]["randomness"]
