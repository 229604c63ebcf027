"""Witnesses: one announcement for each provider, chain and round, whatever happens to their processes."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.formats.test_strict_json import others
from tests.modules import ROOT
from tests.trust.rounds import Own
from zkcert.errors import ProofRejected, UnusableInput
from zkcert.public.statement import Round
from zkcert.trust import evidence
from zkcert.trust import witness as module
from zkcert.trust.evidence import Jury, require_quorum
from zkcert.trust.keys import AUTHORITY, PROVIDER, WITNESS, SecretKey
from zkcert.trust.points import G2, times
from zkcert.trust.times import now
from zkcert.trust.witness import Announced, Receipt, Request, Seen, witness

OWN = Own.make(genesis=now() - 1000)
NUMBER = OWN.chain.first_from(now() + 3600)
DUE = OWN.chain.time(NUMBER)
NAMED = Round(OWN.chain.hash, NUMBER)
PROVIDER_KEY, OTHER_PROVIDER, *WITNESSES = [SecretKey(bytes([0] * 31 + [i])) for i in range(21, 28)]
KNOWN = [key.named(f"W{i}") for i, key in enumerate(WITNESSES)]


def asked(digest=b"\1" * 32, number=NUMBER, key=PROVIDER_KEY):
    announced = Announced(digest, Round(OWN.chain.hash, number), key.public)
    return Request(announced, key.sign(PROVIDER, announced.to_dict()))


def rejected(check, words, *given, **more):
    with pytest.raises(ProofRejected, match=words) as error:
        witness(*given, **more)
    assert error.value.check == check


# ------------------------------------------------------------------------------------------------- the witness


def test_a_witness_signs_one_announcement_for_each_provider_chain_and_round(tmp_path):
    state, key = tmp_path / "state", WITNESSES[0]
    first = witness(asked(), OWN.chain, key, state)
    assert first.fault() is None and abs(first.seen.time - now()) < 60
    assert (first.seen.count, first.seen.announced.digest) == (1, b"\1" * 32)
    assert witness(asked(), OWN.chain, key, state) == first  # the same again, its time too
    rejected("announcements", "another announcement, 0101", asked(b"\2" * 32), OWN.chain, key, state)
    assert witness(asked(b"\2" * 32, key=OTHER_PROVIDER), OWN.chain, key, state).seen.count == 1
    later = witness(asked(b"\2" * 32, NUMBER + 1), OWN.chain, key, state)
    assert (later.seen.count, witness(asked(), OWN.chain, key, state)) == (2, first)
    other = Own.make(genesis=OWN.chain.genesis, secret=12).chain
    elsewhere = Announced(b"\3" * 32, Round(other.hash, NUMBER), PROVIDER_KEY.public)
    request = Request(elsewhere, PROVIDER_KEY.sign(PROVIDER, elsewhere.to_dict()))
    assert witness(request, other, key, state).seen.count == 3
    assert witness(asked(b"\2" * 32), OWN.chain, WITNESSES[1], state).seen.count == 1  # a state for several keys


def test_a_witness_signs_nothing_late_nor_for_others(tmp_path, monkeypatch):
    key, state = WITNESSES[0], tmp_path / "state"
    past = OWN.chain.first_from(now() - 100)
    rejected("round", "it is too late", asked(number=past), OWN.chain, key, state)
    forged = replace(asked(), announced=replace(asked().announced, digest=b"\2" * 32))
    rejected("request", "not the key's", forged, OWN.chain, key, state)
    theirs = replace(asked(), announced=replace(asked().announced, provider=OTHER_PROVIDER.public))
    rejected("request", "not the key's", theirs, OWN.chain, key, state)
    none = replace(asked(), announced=replace(asked().announced, provider=bytes([0xC0]) + bytes(47)))
    rejected("request", "at infinity", none, OWN.chain, key, state)
    with pytest.raises(UnusableInput, match="the request is about the chain"):
        witness(asked(), Own.make(secret=12).chain, key, state)
    assert not list(state.glob("**/*.json"))
    witness(asked(), OWN.chain, key, state)
    monkeypatch.setattr(module, "now", lambda: 1_000_000)
    with pytest.raises(UnusableInput, match="before the last receipt"):
        witness(asked(b"\2" * 32, NUMBER + 1), OWN.chain, key, state)


def test_a_damaged_or_foreign_state_stops_the_witness(tmp_path):
    key, state = WITNESSES[0], tmp_path / "state"
    first = witness(asked(), OWN.chain, key, state)
    (path,) = state.glob("**/*.json")
    good = path.read_bytes()
    for content in (b"", good[:-1], good.replace(b'"count": 1', b'"count": 0'), b"{}"):
        path.write_bytes(content)
        with pytest.raises(UnusableInput, match="sign nothing until it is mended"):
            witness(asked(), OWN.chain, key, state)
    foreign = replace(first.seen, witness=WITNESSES[1].public)
    path.write_bytes(module.written({"format": module.RECEIPT_FORMAT, **foreign.to_dict()}))
    with pytest.raises(UnusableInput, match="holds what another witness"):
        witness(asked(), OWN.chain, key, state)
    path.write_bytes(good)
    assert witness(asked(), OWN.chain, key, state) == first
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(UnusableInput, match="cannot be made"):
        witness(asked(), OWN.chain, key, file)


SIGN = """
import os, signal, sys
from zkcert.trust import witness as module
from zkcert.trust.keys import SecretKey
from zkcert.trust.witness import Request, witness
from tests.trust.rounds import Own
own = Own.make(genesis=int(sys.argv[1]))
write = module.write_file
def killed(*args, **options):
    if sys.argv[4] == "after":
        write(*args, **options)
    os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[4] in ("before", "after"):
    module.write_file = killed
key = SecretKey(bytes([0] * 31 + [23]))
try:
    receipt = witness(Request.load(sys.argv[2]), own.chain, key, sys.argv[3])
    print(receipt.seen.announced.digest.hex(), receipt.seen.count)
except Exception as error:
    print(type(error).__name__)
"""


def start(tmp_path, name, digest, when):
    (tmp_path / name).write_bytes(asked(digest).to_bytes())
    command = [sys.executable, "-c", SIGN, str(OWN.chain.genesis), str(tmp_path / name), str(tmp_path / "state"), when]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_of_two_processes_at_once_one_signs(tmp_path):
    processes = [start(tmp_path, f"{i}.json", bytes([i]) * 32, "-") for i in (1, 2)]
    said = sorted(process.communicate()[0].split() for process in processes)
    assert [words[-1] for words in said] == ["1", "ProofRejected"] and said[0][0] in ("01" * 32, "02" * 32)
    assert len(list((tmp_path / "state").glob("**/*.json"))) == 1


def test_looking_and_noting_are_done_under_a_lock(tmp_path, monkeypatch):
    look, tried = module._find_or_note, []

    def watched(place, *rest):
        with open(place / "lock") as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        tried.append(place)
        return look(place, *rest)

    monkeypatch.setattr(module, "_find_or_note", watched)
    witness(asked(), OWN.chain, WITNESSES[0], tmp_path)
    assert len(tried) == 1


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_killed_witness_does_not_sign_another(tmp_path, when):
    """Killed before it has noted anything it has signed nothing; afterwards what it noted holds, though no receipt
    was given."""
    process = start(tmp_path, "1.json", b"\1" * 32, when)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    key, state = WITNESSES[0], tmp_path / "state"
    if when == "before":
        assert witness(asked(b"\2" * 32), OWN.chain, key, state).seen.announced.digest == b"\2" * 32
    else:
        rejected("announcements", "another announcement, 0101", asked(b"\2" * 32), OWN.chain, key, state)
        assert witness(asked(b"\1" * 32), OWN.chain, key, state).fault() is None


# --------------------------------------------------------------------------------------------------- receipts


def receipt(i, digest=b"\1" * 32, number=NUMBER, time=DUE - 3600, count=1, provider=PROVIDER_KEY, role=WITNESS):
    """Of witness i, honest or not."""
    announced = Announced(digest, Round(OWN.chain.hash, number), provider.public)
    seen = Seen(announced, WITNESSES[i].public, count, time)
    return Receipt(seen, WITNESSES[i].sign(role, seen.to_dict()), f"{i}.json")


def judged(receipts, n=3, quorum=2, **options):
    return require_quorum(receipts, Jury(KNOWN[:n], quorum), b"\1" * 32, NAMED, DUE, **options)


def refused(check, words, receipts, n=3, quorum=2, **options):
    with pytest.raises(ProofRejected, match=words) as error:
        judged(receipts, n, quorum, **options)
    assert error.value.check == check


def test_a_quorum_of_different_witnesses_counts():
    found = judged([receipt(0), receipt(2, time=DUE - 100)])
    assert (found.time, found.most, found.names, found.provider) == (DUE - 100, 1, ("W0", "W2"), PROVIDER_KEY.public)
    assert judged([receipt(0), receipt(1)], provider=PROVIDER_KEY.public).most == 1
    refused("witnesses", "0 of 3 witnesses have signed, 2 are wanted", [])
    refused("witnesses", "1 of 3 witnesses", [receipt(0), receipt(0)])
    refused("witnesses", "1 of 3 witnesses", [receipt(0), receipt(0, time=DUE - 200), receipt(0, count=2)])


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (lambda: receipt(3), "is not among those that count"),
        (lambda: receipt(1, digest=b"\2" * 32, number=NUMBER + 1), "1.json: it is about another announcement"),
        (lambda: receipt(1, number=NUMBER + 1), "1.json: it is about another chain or round"),
        (lambda: receipt(1, provider=OTHER_PROVIDER), "1.json: it names another provider than"),
        (lambda: receipt(1, time=DUE - 59), "1.json: its time, .* is not 60 s before the round"),
        (lambda: receipt(1, time=DUE), "is not 60 s before"),
        (lambda: receipt(1, role=PROVIDER), "1.json: its signature is not the key's, of this content in this role"),
        (lambda: receipt(1, role=AUTHORITY), "not the key's"),
        (lambda: replace(receipt(1), seen=receipt(0).seen), "1 of 3"),
        (lambda: replace(receipt(1), signature=receipt(0).signature), "not the key's"),
        (lambda: replace(receipt(1), signature=bytes([0xC0]) + bytes(95)), "its signature is a point at infinity"),
    ],
)  # fmt: skip
def test_receipts_that_do_not_count_are_named(bad, words):
    refused("witnesses", words, [receipt(0), bad()])


def test_the_provider_can_be_insisted_on():
    refused("witnesses", "about another provider", [receipt(0), receipt(1)], provider=OTHER_PROVIDER.public)


def test_margins_are_kept():
    assert judged([receipt(0), receipt(1, time=DUE - 60)]).time == DUE - 60
    refused("witnesses", "is not 2 h 0 min before", [receipt(0), receipt(1)], margin=7200)


def test_a_quorum_that_two_announcements_could_have_is_refused():
    for n, quorum in ((2, 1), (4, 2), (5, 2)):
        with pytest.raises(UnusableInput, match="lets two announcements through"):
            Jury(KNOWN[:1] * n, quorum)
    for n, quorum in ((2, 0), (2, 3), (2, -1)):
        with pytest.raises(UnusableInput, match="a quorum of"):
            Jury(KNOWN[:1] * n, quorum)
    Jury(KNOWN[:3], 2)


def test_how_many_dishonest_witnesses_change_nothing():
    """By trying all: with so many who sign anything, no second announcement gets a quorum; with one more, it does."""
    for n in range(1, 6):
        for quorum in range(n // 2 + 1, n + 1):
            for count in range(quorum, n + 1):
                found = evidence.Testimony((None,) * count, Jury([None] * n, quorum), ())
                # those who have not signed the first may sign the second; of those who have, the dishonest
                second = [n - count + min(dishonest, count) for dishonest in range(n + 1)]
                assert found.tolerated == max(f for f in range(n + 1) if second[f] < quorum)
    found = judged([receipt(0), receipt(1), receipt(2)])
    assert (found.tolerated, judged([receipt(0), receipt(1)]).tolerated) == (1, 0)


def test_a_second_announcement_for_the_round_is_evidence_against_all():
    """A provider who shows the better of two announcements, of which a dishonest witness has signed both."""
    refused(
        "announcements", "W2.* has witnessed another announcement", [receipt(0), receipt(1), receipt(2, b"\2" * 32)]
    )
    refused("announcements", "W0.*has witnessed another", [receipt(0), receipt(1), receipt(0, b"\2" * 32)])
    # of another provider or another round it is none
    judged([receipt(0), receipt(1), receipt(2, b"\2" * 32, provider=OTHER_PROVIDER)])
    judged([receipt(0), receipt(1), receipt(2, b"\2" * 32, number=NUMBER + 1)])
    forged = replace(receipt(2), seen=receipt(2, b"\2" * 32).seen)
    judged([receipt(0), receipt(1), forged])


def test_earlier_announcements_for_other_rounds_are_counted(tmp_path, monkeypatch):
    """A provider who tries rounds: with 3 witnesses and a quorum of 2 he spreads his announcements over all pairs, and
    whichever he shows, it says at least how many there were up to it. (Without signatures, which take long.)"""
    monkeypatch.setattr(module, "check_signature", lambda *_: None)
    monkeypatch.setattr(SecretKey, "sign", lambda *_: bytes(96))
    pairs = [(0, 1), (1, 2), (0, 2), (0, 1), (1, 2), (0, 2)]
    for number, pair in enumerate(pairs):
        digest = bytes([number + 1]) * 32
        request = asked(digest, NUMBER + number)
        receipts = [witness(request, OWN.chain, WITNESSES[i], tmp_path) for i in pair]
        jury, named = Jury(KNOWN[:3], 2), Round(OWN.chain.hash, NUMBER + number)
        found = require_quorum(receipts, jury, digest, named, OWN.chain.time(NUMBER + number))
        assert found.most >= number + 1
        assert number > 0 or found.most == 1


@pytest.mark.parametrize("kind", [Request, Receipt])
def test_requests_and_receipts_are_read_only_as_they_were_written(tmp_path, kind):
    path = tmp_path / "file.json"
    good = asked() if kind is Request else receipt(0)
    path.write_bytes(good.to_bytes())
    assert kind.load(path).to_bytes() == good.to_bytes()
    for _, data in others(good.to_bytes()):
        path.write_bytes(data)
        if data != good.to_bytes():
            with pytest.raises(UnusableInput):
                kind.load(path)
    value = json.loads(good.to_bytes())
    odd = {"round": 0, "chain": "00", "provider": "00" * 47, "announcement": "AA" * 32, "signature": "00" * 95}
    for name, entry in {**odd, "format": "zkcert-receipt-2", "more": 1}.items():
        path.write_bytes(module.written({**value, name: entry}))
        with pytest.raises(UnusableInput):
            kind.load(path)


def test_signatures_in_one_role_are_none_in_another(tmp_path):
    """A provider's request replayed as a receipt, a witness's receipt as a request."""
    seen = receipt(0).seen
    as_request = Request(seen.announced, WITNESSES[0].sign(WITNESS, seen.announced.to_dict()))
    rejected("request", "not the key's", as_request, OWN.chain, WITNESSES[1], tmp_path)
    point = times(G2.hash(b"anything", b"BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_NUL_"), 23)
    assert replace(receipt(0), signature=G2.encode(point)).fault() is not None


def test_the_state_is_a_file_for_each_round_and_nothing_else(tmp_path):
    witness(asked(), OWN.chain, WITNESSES[0], tmp_path / "state")
    names = sorted(path.name for path in (tmp_path / "state").glob("**/*") if path.is_file())
    assert names == [f"{OWN.chain.hash.hex()[:32]}-{NUMBER}.json", "lock"]
    assert os.stat(next(Path(tmp_path / "state").glob("**/lock"))).st_mode & 0o077 == 0
