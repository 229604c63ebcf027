"""Provider, witnesses, time stamping authority and verifier at the command line, and the attacks each step stops."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.soundness.test_imports import HEAVY, run_without
from tests.trust.conftest import refused
from tests.trust.rounds import write
from zkcert import api
from zkcert.errors import UnusableInput
from zkcert.trust.times import now, time_text


def states(found):
    return {step["step"]: step["state"] for step in found["order"]}


ORDER = {"announced": "checked", "draws": "checked", "round": "checked", "beacon": "checked", "proof": "checked"}
ALL = {"data": "missing", **ORDER}


def test_a_quorum_and_the_providers_key_check_the_whole_order(run, named, told):
    done = run("verify", *named.pins(), *told.of("ada", "cat"), *told.provider)
    assert (done.code, done.err) == (0, "")
    order = done.out.partition("order in time\n")[2].splitlines()
    assert [line.split()[:2] for line in order[:6]] == [list(pair) for pair in ALL.items()]
    assert "at that time or earlier: witnessed by ada, cat (2 of 3 wanted)" in order[1]
    assert "one announcement witnessed for this round, it is the first, unless a witness is dishonest" in order[2]
    assert (
        f"{time_text(named.due)}, round {named.number} of our-own" in order[3] and "which is older by 1 h" in order[3]
    )
    assert "which is not built in: that nobody can choose its rounds is for you to know" in order[4]
    found = run("verify", *named.pins(), *told.of("ada", "bob", "cat"), *told.provider, "--announcements", 1, "--json")
    assert states(found.json) == ALL
    times = [step["time"] for step in found.json["order"]]
    assert times[1] < times[3] == times[4] and times[0] is times[2] is times[5] is None


def test_without_the_providers_key_the_number_is_its_word(run, named, told):
    found = run("verify", *named.pins(), *told.of("ada", "bob"), "--json").json
    assert states(found) == {**ALL, "draws": "claimed"}
    assert "that it has no second key is its word" in found["order"][2]["text"]


def test_a_time_stamp_shows_age_and_not_number(run, named, told):
    found = run("verify", *named.pins(), *told.stamp, "--json").json
    assert states(found) == {**ALL, "draws": "missing"}
    assert "stamped by CN=TSA good (revocation not checked)" in found["order"][1]["text"]
    assert "a time stamp shows age, not number" in found["order"][2]["text"]
    both = run("verify", *named.pins(), *told.stamp, *told.of("ada", "bob"), *told.provider, "--json").json
    assert states(both) == ALL and "ada, bob" in both["order"][1]["text"] and "TSA good" in both["order"][1]["text"]


def test_receipts_check_the_order_with_a_beacon_in_hexadecimal_too(run, named, told):
    """But that it is the round's randomness is then the verifier's own knowledge."""
    beacon = api.verify(named.proof, named.tiny.model, tau=3).report.statement.beacon.hex()
    pins = [named.proof, named.tiny.model, "--tau", 3, "--beacon", beacon, "--chain", named.info]
    found = run("verify", *pins, *told.of("ada", "bob"), *told.provider, "--json").json
    assert states(found) == {**ALL, "beacon": "claimed"}
    assert "that it is the randomness of the round is your word" in found["order"][4]["text"]


def test_fewer_than_the_quorum_late_or_others_receipts_are_rejected(run, named, told, tiny):
    pins = named.pins()
    refused(run("verify", *pins, *told.of("ada"), *told.provider), 1, "witnesses: 1 of 3", "2 are wanted")
    refused(run("verify", *pins, *told.of()), 1, "witnesses: 0 of 3")
    refused(run("verify", *pins, *told.of("ada", "ada")), 1, "witnesses: 1 of 3")
    late = ("--margin", 10_000)
    refused(
        run("verify", *pins, *told.of("ada", "bob"), *late), 1, "witnesses: 0 of 3", "ada.json: its time, ", "bob.json"
    )
    refused(
        run("verify", *pins, *told.stamp, *late), 1, "time-stamp: ", "announce.tsr: its time, ", "2 h 46 min before"
    )
    other = ("--provider", told.place / "ada.pub")
    refused(run("verify", *pins, *told.of("ada", "bob"), *other), 1, "witnesses: ", "about another provider")
    refused(run("verify", *pins, "--timestamp-roots", told.authority.root), 1, "time-stamp: no time stamp is given")
    plain = [tiny.proof, tiny.model, "--tau", 3]
    refused(run("verify", *plain, *told.of("ada", "bob")), 1, "round: the announcement names no round")
    refused(run("verify", *plain, *told.stamp), 1, "round: the announcement names no round")


def test_what_only_the_verifier_can_say_is_asked_for(run, named, told):
    place, pins = told.place, named.pins()
    for options, words in {
        ("--receipt", place / "ada.json"): "--receipt needs --witness",
        ("--quorum", 2): "--quorum needs --witness",
        ("--provider", place / "provider.pub"): "--provider needs --witness",
        (*told.of("ada", "bob"), "--announcements", 1): "--announcements needs --provider",
        (*told.of("ada", "bob"), *told.provider, "--announcements", 0): "--announcements is a number from 1",
        ("--timestamp", place / "announce.tsr"): "--timestamp needs --timestamp-roots",
        (*told.of("ada", "bob"), "--margin", -1): "--margin is a number",
        ("--margin", 5): "--margin needs --witness or --timestamp",
        (*told.of("ada", "bob"), "--witness", place / "ada.pub"): "is given twice",
        (*told.of("ada", "bob")[2:], "--quorum", 1): "lets two announcements through",
        (*told.of("ada", "bob"), "--provider", place / "ada.json"): "a witness's receipt, where public keys",
    }.items():
        refused(run("verify", *pins, *options), 2, words)
    refused(run("verify", *pins[:-2], *told.of("ada", "bob")), 2, "is not built in")


def test_a_provider_who_announces_twice_for_a_round_gets_one_receipt(run, named, told, tiny):
    """The second announcement, of a smaller tau, would be another draw of the same model if its data differed; whatever
    it is, the witness refuses."""
    second = ("--beacon", f"drand:our-own@{named.number}", "--chain", named.info, "-o", "second.json")
    assert run("announce", tiny.model, tiny.root, "--tau", 2, "--steps", 2, "--batch-size", 2, *second).code == 0
    assert run("provider", "request", "second.json", "--key", told.place / "provider.key").code == 0
    state = shutil.copytree(told.place / "ada.state", "state")
    sign = ("witness", "sign", "request.json", "--key", told.place / "ada.key", "--chain", named.info)
    refused(run(*sign, "--state", state), 1, "announcements: another announcement", named.digest.hex())
    assert not Path("receipt.json").exists()
    # a witness who forgets has signed both, and whoever sees both receipts knows
    assert run(*sign, "--state", "forgotten").code == 0
    done = run("verify", *named.pins(), *told.of("ada", "bob"), *told.provider, "--receipt", "receipt.json")
    refused(done, 1, "announcements: ada", "has witnessed another announcement of this provider for this round")


def test_a_provider_who_tries_rounds_is_counted(run, named, told, tiny):
    announced = ["announce", tiny.model, tiny.root, "--tau", 3, "--steps", 2, "--batch-size", 2, "--chain", named.info]
    assert run(*announced, "--beacon", f"drand:our-own@{named.number + 5}", "-o", "other.json").code == 0
    assert run("provider", "request", "other.json", "--key", told.place / "provider.key").code == 0
    for name in ("ada", "bob"):
        shutil.copytree(told.place / f"{name}.state", name)
        sign = ("witness", "sign", "request.json", "--key", told.place / f"{name}.key", "--state", name)
        done = run(*sign, "--chain", named.info, "-o", f"{name}.json")
        assert done.code == 0 and "; announcement 2 of this provider" in done.out
    prove = ("prove", tiny.model, tiny.data, "--announcement", "other.json", "--chain", named.info)
    assert run(*prove, "--beacon", write(Path("round.json"), named.own.sign(named.number + 5))).code == 0
    options = told.of()
    options += ["--receipt", "ada.json", "--receipt", "bob.json", *told.provider]
    pins = ["proof.bin", tiny.model, "--tau", 3, "--announcement", "other.json", "--beacon", "round.json"]
    found = run("verify", *pins, "--chain", named.info, *options, "--json").json
    assert states(found) == ALL and "one of 3 at most" in found["order"][2]["text"]
    done = run("verify", *pins, "--chain", named.info, *options, "--announcements", 1)
    refused(done, 1, "announcements: the provider had up to 3 witnessed, and you admit 1")


def test_a_receipt_for_another_announcement_is_of_no_use(run, named, told, tiny):
    """Reused for an announcement of the same round whose proof looks better."""
    second = ("--beacon", f"drand:our-own@{named.number}", "--chain", named.info, "-o", "second.json")
    assert run("announce", tiny.model, tiny.root, "--tau", "2.25", "--steps", 2, "--batch-size", 2, *second).code == 0
    prove = ("prove", tiny.model, tiny.data, "--announcement", "second.json", "--beacon", named.round)
    assert run(*prove, "--chain", named.info).code == 0
    pins = ["proof.bin", tiny.model, "--tau", 3, "--beacon", named.round, "--chain", named.info]
    refused(
        run("verify", *pins, *told.of("ada", "bob")),
        1,
        "witnesses: 0 of 3",
        "ada.json: it is about another announcement",
    )
    refused(run("verify", *pins, *told.stamp), 1, "time-stamp: ", "of something else than the announcement's digest")


def test_announcing_when_the_round_is_out_is_too_late(run, named, told, tiny):
    """Its own clock set back, a provider announces for a past round; witnesses have clocks of their own."""
    chain = named.own.chain
    past = chain.first_from(now() - 100)
    value = {**json.loads(named.announcement.read_text()), "drand": {"chain": chain.hash.hex(), "round": past}}
    del value["digest"]
    from zkcert.files.saving import save_announcement
    from zkcert.public.statement import Statement

    save_announcement(Statement._from(value), "late.json")
    assert run("provider", "request", "late.json", "--key", told.place / "provider.key").code == 0
    sign = (
        "witness",
        "sign",
        "request.json",
        "--key",
        told.place / "ada.key",
        "--state",
        "state",
        "--chain",
        named.info,
    )
    refused(run(*sign), 1, "round: ", "was due at", "too late")
    query = api.stamp_query("late.json")
    told.authority.answer(Path(query).absolute(), Path("late.tsr").absolute())
    prove = ("prove", tiny.model, tiny.data, "--announcement", "late.json", "--chain", named.info)
    assert run(*prove, "--beacon", write(Path("round.json"), named.own.sign(past))).code == 0
    pins = ["proof.bin", tiny.model, "--tau", 3, "--announcement", "late.json", "--beacon", "round.json"]
    stamp = ("--timestamp", "late.tsr", "--timestamp-roots", told.authority.root)
    refused(
        run("verify", *pins, "--chain", named.info, *stamp), 1, "time-stamp: late.tsr: its time", "is not 60 s before"
    )


# ----------------------------------------------------------------------------------------------- the commands


def test_requests_and_receipts_replace_nothing_else(run, named, told, tiny):
    key = ("--key", told.place / "provider.key")
    refused(run("provider", "request", tiny.announcement, *key), 2, "names no round")
    refused(run("provider", "request", named.proof, *key), 2, "is a proof, where an announcement is expected")
    refused(
        run("provider", "request", named.announcement, "--key", told.place / "provider.pub"), 2, "is public keys, where"
    )
    refused(run("provider", "request", named.announcement, "--key", named.proof), 2, "is a proof, where a secret key")
    Path("notes").write_text("mine")
    refused(run("provider", "request", named.announcement, *key, "-o", "notes"), 2, "notes exists and is not")
    assert run("provider", "request", named.announcement, *key, "--json").json == {"request": "request.json"}
    refused(run("provider", "request", named.announcement, *key), 2, "or --force to replace it")
    assert run("provider", "request", named.announcement, *key, "--force").code == 0
    sign = ("witness", "sign", "request.json", "--key", told.place / "ada.key", "--state", told.place / "ada.state")
    refused(run(*sign), 2, "is not built in")
    refused(
        run(*sign[:2], told.place / "ada.json", *sign[3:], "--chain", named.info),
        2,
        "a request to witnesses is expected",
    )
    done = run(*sign, "--chain", named.info, "--json")
    assert done.json["count"] == 1 and Path("receipt.json").read_bytes() == (told.place / "ada.json").read_bytes()
    assert run("provider", "stamp", named.announcement, "--json").json == {"query": "announce.tsq"}
    refused(run("provider", "stamp", named.announcement), 2, "announce.tsq exists")


@pytest.mark.parametrize("group", ["provider", "witness", "authority"])
def test_help_and_usage_of_the_roles(run, group):
    done = run(group, "-h")
    assert done.code == 0 and "keygen" in done.out
    refused(run(group), 2, "Missing command")
    refused(run(group, "nonsense"), 2, "nonsense")
    assert run(group, "keygen", "-h").code == 0


def test_a_base_install_says_what_is_missing(named, told):
    done = run_without(HEAVY | {"py_ecc"}, "zkcert.cli", "witness", "keygen", "W", "-o", told.place / "none")
    assert done.returncode == 2 and "making a key needs py_ecc: pip install" in done.stderr
    done = run_without(
        HEAVY | {"rfc3161_client"}, "zkcert.cli", "verify", *named.pins()[:4], "--chain", named.info, *told.stamp
    )
    assert done.returncode == 2 and "checking time stamps needs rfc3161_client" in done.stderr


def test_evidence_in_python(named, told):
    place = told.place
    evidence = api.Evidence(
        receipts=[place / "ada.json", place / "bob.json"],
        witnesses=[place / "ada.pub", place / "bob.pub"],
        provider=place / "provider.pub",
    )
    verdict = api.verify(named.proof, named.tiny.model, tau=3, chain=named.info, evidence=evidence)
    assert {step.name: step.state for step in verdict.steps} == {**ALL, "beacon": "claimed"}
    with pytest.raises(UnusableInput, match="--receipt needs"):
        api.verify(named.proof, named.tiny.model, tau=3, evidence=api.Evidence(receipts=[place / "ada.json"]))
