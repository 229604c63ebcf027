"""Announcements that name a round, and the round as the beacon of a proof."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from tests.formats.test_strict_json import STATEMENT, others
from tests.independent.errors import Reject
from tests.independent.statement import announcement_digest, parse_header
from tests.modules import ROOT
from tests.soundness.test_imports import HEAVY, run_without
from tests.trust.conftest import refused
from tests.trust.rounds import REAL, Own, write
from verifier import __main__ as standalone
from zkcert import api
from zkcert.core.container import ProofFile
from zkcert.errors import UnusableInput
from zkcert.files.saving import save_announcement
from zkcert.public.config import canonical_json
from zkcert.public.statement import ANNOUNCEMENT_FORMAT, ROUND_FORMAT, Round, Statement, load_announcement
from zkcert.trust.drand import BUILT_IN
from zkcert.trust.times import now, parse_time, span_text, time_text

NAMED = replace(STATEMENT, drand=Round(BUILT_IN["quicknet"].hash, 123_456_789))


# ------------------------------------------------------------------------------------------- the announcement


def test_the_round_is_part_of_the_announcement_and_its_digest(tmp_path):
    seen = {STATEMENT.announcement_digest, NAMED.announcement_digest}
    for other in (replace(NAMED.drand, number=123_456_790), replace(NAMED.drand, chain=bytes(32))):
        seen.add(replace(NAMED, drand=other).announcement_digest)
    assert len(seen) == 4
    assert (STATEMENT.announcement()["format"], NAMED.announcement()["format"]) == (ANNOUNCEMENT_FORMAT, ROUND_FORMAT)
    assert NAMED.seed == STATEMENT.seed  # which follows from the beacon, wherever that comes from


def test_an_announcement_with_a_round_is_read_only_as_it_was_written(tmp_path):
    path = tmp_path / "announce.json"
    save_announcement(NAMED, path)
    assert load_announcement(path) == NAMED
    written = path.read_bytes()
    for what, data in others(written):
        path.write_bytes(data)
        with pytest.raises(UnusableInput):
            load_announcement(path)
        assert data != written, what


ODD = {
    "no round": {"drand": None},
    "another format": {"format": ANNOUNCEMENT_FORMAT},
    "round 0": {"drand": {"chain": "ab" * 32, "round": 0}},
    "a large round": {"drand": {"chain": "ab" * 32, "round": 1 << 40}},
    "text": {"drand": {"chain": "ab" * 32, "round": "5"}},
    "true": {"drand": {"chain": "ab" * 32, "round": True}},
    "a float": {"drand": {"chain": "ab" * 32, "round": 5.0}},
    "a short chain": {"drand": {"chain": "ab" * 31, "round": 5}},
    "upper case": {"drand": {"chain": "AB" * 32, "round": 5}},
    "more keys": {"drand": {"chain": "ab" * 32, "round": 5, "scheme": "x"}},
    "fewer keys": {"drand": {"chain": "ab" * 32}},
    "a list": {"drand": ["ab" * 32, 5]},
}


@pytest.mark.parametrize("name", ODD)
def test_headers_with_an_odd_round_are_refused_by_both_verifiers(name):
    header = json.loads(replace(NAMED, beacon=b"b").header())
    data = canonical_json({**header, **ODD[name]}).encode()
    with pytest.raises(UnusableInput):
        Statement.parse_header(data)
    with pytest.raises(Reject):
        parse_header(data)


def test_headers_with_a_round_are_read_by_both_verifiers():
    named = replace(NAMED, beacon=b"b")
    assert Statement.parse_header(named.header()) == named
    assert announcement_digest(parse_header(named.header()).announcement) == named.announcement_digest
    plain = json.loads(replace(STATEMENT, beacon=b"b").header())
    with pytest.raises(UnusableInput):
        Statement.parse_header(canonical_json({**plain, "drand": NAMED.drand.to_dict()}).encode())


# ----------------------------------------------------------------------------------------------- announcing


def announce(run, tiny, *options):
    return run("announce", tiny.model, tiny.root, "--tau", 3, "--steps", 2, "--batch-size", 2, *options)


def test_a_future_round_is_named_by_number_or_time(run, tiny):
    quicknet = BUILT_IN["quicknet"]
    number = quicknet.first_from(now() + 5000)
    done = announce(run, tiny, "--beacon", f"drand:quicknet@{number}")
    assert done.code == 0, done.err
    assert f"beacon  round {number} of quicknet (52db9ba7...), due at {time_text(quicknet.time(number))}" in done.out
    assert "witnessed or time-stamped before" in done.err
    assert load_announcement("announce.json").drand == Round(quicknet.hash, number)
    by_time = announce(run, tiny, "--beacon-at", time_text(quicknet.time(number)), "-o", "b.json", "--json").json
    assert Path("b.json").read_bytes() == Path("announce.json").read_bytes()
    assert by_time["due"] == time_text(quicknet.time(number))
    for chosen in (("--beacon", "drand:default"), ("--beacon", f"drand:{BUILT_IN['default'].hash.hex()}")):
        assert announce(run, tiny, *chosen, "--beacon-at", "+1h", "-o", "c.json", "--force").code == 0
        assert load_announcement("c.json").drand.chain == BUILT_IN["default"].hash


def test_rounds_that_are_out_and_odd_names_are_refused(run, tiny, named):
    hour = ("--beacon-at", "+1h")
    for options, words in {
        ("--beacon", "drand:quicknet@1000"): ("round 1000 of quicknet", "was due at 2023-08-23 15:59:24Z"),
        ("--beacon-at", "2023-08-24T00:00Z"): ("was due at",),
        ("--beacon", "00ff"): ("names a future round", "drand:quicknet@ROUND"),
        ("--beacon", "drand:quicknet"): ("names a future round",),
        ("--beacon", "drand:quicknet@5", *hour): ("names a future round",),
        ("--beacon", "drand:quicknet@x"): ("a number from 1 on",),
        ("--beacon", "drand:quicknet@0"): ("a number from 1 on",),
        ("--beacon", "drand:quicknet@9999999999999"): ("there is no round",),
        ("--beacon", "drand:nonsense@5"): ("no chain 'nonsense'", "--chain info.json"),
        ("--beacon", f"drand:{'ab' * 32}@5"): ("is not built in",),
        ("--beacon", "drand:quicknet", *hour, "--chain", named.info): ("--chain is our-own",),
        ("--chain", "quicknet"): ("names no round",),
        ("--beacon-at", "2030-01-01T00:00"): ("has no zone",),
        ("--beacon-at", "soon"): ("a time such as",),
        ("--chain", "missing.json", *hour): ("missing.json",),
        ("--chain", tiny.model, *hour): ("is a model file, where a drand chain's info is expected",),
    }.items():
        refused(announce(run, tiny, *options), 2, *words)
        assert not list(Path().iterdir())


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00Z", 0),
        ("1970-01-01 00:00:01Z", 1),
        ("1970-01-01T01:00:00+01:00", 0),
        ("2026-12-01T18:00:30-05:00", 1796166030),
    ],
)
def test_times_have_a_zone(text, seconds):
    assert parse_time(text) == seconds


def test_odd_times_are_refused():
    for text in ("", "now", "2026-12-01", "2026-12-01T18:00", "2026-13-01T18:00Z", "2026-12-01T25:00Z", "+1", "-1h",
                 "2026-12-01T18:00:00.5Z", "２026-12-01T18:00Z", "1969-12-31T23:59Z", "2026-12-01T18:00+99:00",
                 "2026-W49-2T18:00Z"):  # fmt: skip
        with pytest.raises(UnusableInput, match=r"zone|a time such as"):
            parse_time(text)
    before = now()
    assert before + 7200 <= parse_time("+2h") <= now() + 7200
    assert [span_text(s) for s in (0, 119, 600, 7500, 200_000)] == ["0 s", "119 s", "10 min", "2 h 5 min", "2 d 7 h"]


# ------------------------------------------------------------------------------------------ proving, verifying


def test_the_beacon_of_the_proof_is_the_round_and_its_signature_is_checked(run, named):
    done = run("verify", *named.pins())
    assert (done.code, done.err) == (0, "")
    due = time_text(named.due)
    assert f"  beacon      checked  {due}, the signature of round {named.number} of our-own" in done.out
    assert f"  round       claimed  {due}, round {named.number} of our-own" in done.out
    assert f"round         {named.number} of the drand chain {named.own.chain.hash.hex()}, as announced" in done.out
    found = run("verify", *named.pins(), "--json").json
    assert found["drand"] == {"chain": named.own.chain.hash.hex(), "round": named.number}
    assert {step["step"]: step["state"] for step in found["order"]} == {
        "data": "missing",
        "announced": "claimed",
        "draws": "missing",
        "round": "claimed",
        "beacon": "checked",
        "proof": "checked",
    }


def test_whoever_has_only_the_verifier_compares_the_randomness(named, capsys):
    """`python -m verifier` needs no elliptic curve: drand gives the randomness beside the signature."""
    beacon = api.verify(named.proof, named.tiny.model, tau=3).report.statement.beacon.hex()
    pins = ["--tau", "3", "--announcement", named.digest.hex(), "--beacon", beacon]
    done = run_without(HEAVY | {"py_ecc", "typer", "rich", "prover"}, "verifier.__main__", named.proof,
                       named.tiny.model, *pins)  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert f"round         {named.number} of the drand chain" in done.stdout
    assert standalone.main([str(named.proof), str(named.tiny.model), *pins[:-1], "00" * 32]) == 1
    assert "REJECTED beacon" in capsys.readouterr().err


def test_another_round_or_chain_is_rejected(run, named, tmp_path):
    start = named.pins()[:6]
    others = {
        "later.json": (named.own.sign(named.number + 1), "round", f"names round {named.number}"),
        "forged.json": ({**named.own.sign(named.number + 1), "round": named.number}, "beacon", "is not the chain's"),
    }
    for name, (content, check, words) in others.items():
        done = run("verify", *start, "--beacon", write(tmp_path / name, content), "--chain", named.info)
        refused(done, 1, f"{check}: ", words)
    other = write(tmp_path / "other.json", Own.make(secret=12).info())
    refused(run("verify", *start, "--beacon", named.round, "--chain", other), 1, "chain: ", "names the drand chain")
    refused(run("verify", *start, "--beacon", named.round, "--chain", "quicknet"), 1, "chain: ", "not quicknet")
    refused(run("verify", *start, "--beacon", named.round), 2, "is not built in")
    refused(run("verify", *start, "--chain", named.info), 2, "--chain is for a drand round")
    done = run("verify", *start, "--beacon", named.round, "--chain", other, "--json")
    assert (done.code, done.json["check"]) == (1, "chain")


def test_a_proof_with_another_beacon_than_the_rounds_is_rejected(run, named):
    """The prover names a round, and takes a beacon that suits him."""
    file = ProofFile.parse(named.proof.read_bytes())
    statement = replace(Statement.parse_header(file.header), beacon=b"chosen")
    Path("chosen.bin").write_bytes(replace(file, header=statement.header()).to_bytes())
    refused(run("verify", "chosen.bin", *named.pins()[1:]), 1, "beacon: ", "uses another beacon")


def test_a_round_can_be_the_beacon_of_an_announcement_that_names_none(run, tiny):
    """Then the verifier says whose it is; that it was chosen after the announcement is nobody's claim."""
    write(Path("round.json"), REAL["quicknet", 657413])
    given = ("--announcement", tiny.announcement, "--beacon", "round.json")
    refused(run("prove", tiny.model, tiny.data, *given), 2, "names no chain", "--chain (quicknet, default")
    assert run("prove", tiny.model, tiny.data, *given, "--chain", "quicknet", "-o", "p.bin").code == 0
    done = run("verify", "p.bin", tiny.model, "--tau", 3, *given, "--chain", "quicknet")
    assert done.code == 0 and "beacon      checked  2023-09-15" in done.out
    assert "round       missing  the announcement names no public round" in done.out
    randomness = REAL["quicknet", 657413]["randomness"]
    assert run("verify", "p.bin", tiny.model, "--tau", 3, "--beacon", randomness).code == 0


def test_proving_takes_the_round_that_was_announced(run, named, tmp_path):
    prove = ("prove", named.tiny.model, named.tiny.data, "--announcement", named.announcement)
    chain = ("--chain", named.info)
    later = write(tmp_path / "later.json", named.own.sign(named.number + 1))
    for options, words in {
        (): "names round",
        ("--beacon", "00" * 32): "give that round's JSON",
        ("--beacon", later, *chain): f"names round {named.number}, and this is",
        ("--beacon", named.round): "is not built in",
        ("--beacon", named.announcement, *chain): "is an announcement, where a drand round is expected",
        ("--beacon", "missing.json", *chain): "must be hexadecimal digits",
        ("--beacon", named.info, *chain): "not a drand round",
    }.items():
        refused(run(*prove, *options), 2, words)
        assert not Path("proof.bin").exists()


def test_steps_say_what_is_claimed_and_what_is_missing(named, tiny):
    model = named.tiny.model
    states = {step.name: step.state for step in api.verify(named.proof, model, tau=3).steps}
    assert states == {
        "data": "missing",
        "announced": "missing",
        "draws": "missing",
        "round": "claimed",
        "beacon": "claimed",
        "proof": "checked",
    }
    verdict = api.verify(tiny.proof, model, tau=3, announcement=tiny.announcement, beacon=tiny.beacon)
    assert [(step.name, step.state) for step in verdict.steps] == [
        ("data", "missing"),
        ("announced", "claimed"),
        ("draws", "claimed"),
        ("round", "missing"),
        ("beacon", "checked"),
        ("proof", "checked"),
    ]
    lines = verdict.lines()
    assert lines.index("order in time") < len(lines) - 1 - len(verdict.warnings) and lines[-1].startswith("ACCEPTED")


def test_a_base_install_says_what_checking_a_round_needs(named, tmp_path):
    done = run_without(HEAVY | {"py_ecc"}, "zkcert.cli", "verify", *named.pins())
    assert done.returncode == 2 and done.stderr.splitlines() == [
        "error: checking a drand round needs py_ecc: pip install -c constraints.txt -e '.[trust]' in the checkout"
    ]


def test_the_verifier_loads_nothing_of_trust_and_reading_it_needs_no_extra():
    code = "import verifier.__main__, sys; print([m for m in sys.modules if m.startswith('zkcert.trust')])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert loaded.stdout == "[]\n"
    code = "import zkcert.api, zkcert.cli, sys; print([m for m in ('py_ecc', 'cryptography') if m in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert loaded.stdout == "[]\n"


def test_tau_is_not_part_of_the_draw():
    """Two announcements for one round that differ in tau only are one draw."""
    assert replace(NAMED, tau=Fraction(1)).seed == NAMED.seed


def test_the_stored_proof_with_a_real_round_is_accepted_with_its_signature(run):
    """What tests/independent leaves open: that the chain, which is built in, has signed it."""
    place = Path(__file__).parents[2] / "docs" / "spec" / "vectors" / "drand"
    pins = ("verify", place / "proof.bin", place / "model.pt", "--tau", 20, "--announcement", place / "announce.json")
    found = run(*pins, "--beacon", place / "round.json", "--json").json["order"]
    assert [step["state"] for step in found if step["step"] in ("round", "beacon")] == ["claimed", "checked"]
    assert "the signature of round 657413 of quicknet (52db9ba7...)" in found[4]["text"]
