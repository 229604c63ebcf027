"""Authorities that vouch for datasets: what they sign, how many are wanted, and the data themselves."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import tiny_samples
from tests.formats.test_strict_json import ROOT, others
from tests.trust.conftest import refused
from zkcert import api
from zkcert.errors import ProofRejected, UnusableInput
from zkcert.public.root import Schema
from zkcert.trust import keys
from zkcert.trust.authority import About, Endorsement, endorse, join, require_authorities
from zkcert.trust.json_files import written
from zkcert.trust.keys import AUTHORITY, PROVIDER, WITNESS, PublicKey, SecretKey, check_total
from zkcert.trust.points import G1, ORDER, times, total

SECRETS = [SecretKey(bytes([0] * 31 + [i])) for i in (41, 42, 43)]
KNOWN = [key.named(f"A{i}") for i, key in enumerate(SECRETS)]
ABOUT = About("Collected by us, labelled twice", "CC-BY-4.0", "2026-11-30")


def of(*who, about=ABOUT, root=ROOT):
    """Endorsements, one of each."""
    return [replace(endorse(root, about, SECRETS[i]), name=f"{i}.json") for i in who]


def rejected(words, *given):
    with pytest.raises(ProofRejected, match=words) as error:
        require_authorities(*given)
    assert error.value.check == "authorities"


def test_so_many_authorities_vouch_for_a_dataset():
    found = require_authorities(of(0, 2), KNOWN, 2, ROOT)
    assert [names for _, names in found.said] == [("A0",), ("A2",)]
    assert str(found).endswith("(2 of 3 authorities wanted)") and "CC-BY-4.0" in str(found)
    other = About("Seen by us", "none", "2026-12-01")
    assert len(require_authorities([*of(0), *of(1, about=other)], KNOWN, 2, ROOT).said) == 2
    rejected("1 of 3 authorities vouch for the dataset, 2 are wanted", of(0, 0), KNOWN, 2, ROOT)
    rejected("0 of 1 authorities .*2.json: the key .* is not among", of(2), KNOWN[:1], 1, ROOT)
    for quorum in (0, 4, -1):
        with pytest.raises(UnusableInput, match="give a number from 1 to 3"):
            require_authorities(of(0), KNOWN, quorum, ROOT)


@pytest.mark.parametrize(
    "changed",
    [
        replace(ROOT, n=59_999),
        replace(ROOT, root=bytes(32)),
        replace(ROOT, schema=Schema(11, "u8", (1, 28, 28))),
        replace(ROOT, schema=Schema(10, "q32", (1, 28, 28))),
    ],
)
def test_an_endorsement_is_about_one_dataset(changed):
    rejected("0.json: it is about another dataset", of(0), KNOWN, 1, changed)
    (each,) = of(0)
    rejected("0.json: its signature is not", [replace(each, dataset=changed)], KNOWN, 1, changed)


def test_what_is_said_is_signed():
    (each,) = of(0)
    for about in (replace(ABOUT, text="Other"), replace(ABOUT, licence="other"), replace(ABOUT, day="2026-12-01")):
        rejected("its signature is not the key's", [replace(each, about=about)], KNOWN, 1, ROOT)


@pytest.mark.parametrize("role", [PROVIDER, WITNESS])
def test_signatures_of_other_roles_are_none_here(role):
    (each,) = of(0)
    forged = replace(each, signature=SECRETS[0].sign(role, each.content))
    rejected("not the key's, of this content in this role", [forged], KNOWN, 1, ROOT)


def test_endorsements_that_say_the_same_are_joined():
    both = join(of(0, 1), KNOWN)
    assert len(both.keys) == 2 and both.fault({key.key: key for key in KNOWN}) is None
    assert require_authorities([both], KNOWN, 2, ROOT).said[0][1] == tuple(
        name for _, name in sorted((key.key, key.name) for key in KNOWN[:2])
    )
    three = join([both, *of(2)], KNOWN)
    assert require_authorities([three, *of(0)], KNOWN, 3, ROOT)
    rejected("is not among the authorities", [three], KNOWN[:2], 1, ROOT)
    rejected("not the key's", [replace(both, keys=three.keys)], KNOWN, 2, ROOT)
    rejected("not the key's", [replace(three, keys=both.keys)], KNOWN, 2, ROOT)
    forged = replace(of(1)[0], signature=SECRETS[2].sign(AUTHORITY, of(1)[0].content))
    with pytest.raises(ProofRejected, match=r"1\.json: its signature is not"):
        join([*of(0), forged], KNOWN)
    with pytest.raises(UnusableInput, match="says something else"):
        join([*of(0), *of(1, about=replace(ABOUT, licence="other"))], KNOWN)
    with pytest.raises(UnusableInput, match="has signed another of these"):
        join([both, *of(1)], KNOWN)


def test_a_rogue_authority_cannot_speak_for_an_honest_one(tmp_path):
    """Its key is its own minus the honest one, so its signature alone is the sum of both; no proof of possession."""
    honest, mine = SECRETS[0], SECRETS[1]
    rogue = G1.encode(total([G1.decode(mine.public), times(G1.decode(honest.public), ORDER - 1)]))
    (template,) = of(0)
    pair = tuple(sorted((honest.public, rogue)))
    forged = replace(template, keys=pair, signature=mine.sign(AUTHORITY, template.content))
    assert check_total(pair, AUTHORITY, forged.content, forged.signature) is None  # were the key taken as it is
    rejected("is not among the authorities", [forged], KNOWN, 1, ROOT)
    path = tmp_path / "rogue.pub"
    path.write_bytes(keys._keys_file([PublicKey("rogue", rogue, mine.named("x").proof)]))
    with pytest.raises(UnusableInput, match="proof of possession of rogue is not its key's"):
        keys.load_keys([path])


def test_endorsements_are_read_only_as_they_were_written(tmp_path):
    path = tmp_path / "e.json"
    (good,) = of(0)
    path.write_bytes(good.to_bytes())
    assert Endorsement.load(path) == replace(good, name="e.json")
    for _, data in others(good.to_bytes()):
        path.write_bytes(data)
        if data != good.to_bytes():
            with pytest.raises(UnusableInput):
                Endorsement.load(path)
    value, key = json.loads(good.to_bytes()), SECRETS[0].public.hex()
    about = value["about"]
    for name, odd in (
        ("format", "zkcert-endorsement-2"),
        ("keys", []),
        ("keys", [key, key]),
        ("keys", [SECRETS[1].public.hex(), key] if SECRETS[1].public.hex() > key else [key, SECRETS[1].public.hex()]),
        ("keys", key),
        ("about", {**about, "date": "2026-02-30"}),
        ("about", {**about, "date": "30.11.2026"}),
        ("about", {**about, "text": "\x1b[2J"}),
        ("about", {**about, "text": ""}),
        ("about", {**about, "licence": 5}),
        ("about", {"text": "x", "licence": "y"}),
        ("dataset", {**value["dataset"], "N": 0}),
        ("dataset", {**value["dataset"], "N": True}),
        ("dataset", {**value["dataset"], "schema": {}}),
        ("signature", "00"),
        ("more", 1),
    ):
        path.write_bytes(written({**value, name: odd}))
        with pytest.raises(UnusableInput, match=r"e\.json: not an endorsement"):
            Endorsement.load(path)


# ------------------------------------------------------------------------------------------------ the data


def test_the_data_are_compared_with_the_commitment(run, tiny):
    check = ("authority", "check")
    done = run(*check, tiny.dataset, tiny.data, tiny.root)
    assert done.code == 0 and "these 40 samples, and no others" in done.out
    assert run(*check, tiny.dataset, tiny.data, tiny.root, "--json").json["N"] == 40
    x, y = tiny_samples()
    changed = {
        "pixel": (np.where(np.arange(x.size).reshape(x.shape) == 100, x ^ 1, x), y, "1 of the committed samples"),
        "labels": (x, np.roll(y, 1), "of the committed samples"),
        "fewer": (x[:-1], y[:-1], "are 39 samples, the commitment has 40"),
        "twice": (np.concatenate([x[:-1], x[:1]]), np.concatenate([y[:-1], y[:1]]), "1 of the committed samples"),
        "class": (x, np.where(y == 2, 3, y), "none of the 3 classes"),
        "shape": (x.reshape(40, 1, 4, 3), y, "(1, 4, 3)"),
        "float": (x.astype(np.float32), y, "not u8"),
    }
    for name, (images, labels, words) in changed.items():
        np.savez(f"{name}.npz", x=images, y=labels)
        refused(run(*check, f"{name}.npz", tiny.data, tiny.root), 1, "data: ", words)
    order = np.random.default_rng(1).permutation(40)
    np.savez("shuffled.npz", x=x[order], y=y[order])
    assert run(*check, "shuffled.npz", tiny.data, tiny.root).code == 0
    api.commit(tiny.dataset, "other.zkd")
    refused(run(*check, tiny.dataset, "other.zkd", tiny.root), 1, "data-root: ", "another root")
    refused(run(*check, tiny.dataset, tiny.root, tiny.root), 2, "where the secret file")


def test_repeated_samples_count(tmp_path):
    """A committed sample that is in the data, but not as often."""
    x, y = tiny_samples()
    np.savez(tmp_path / "twice.npz", x=np.concatenate([x[:2], x[:1]]), y=np.concatenate([y[:2], y[:1]]))
    np.savez(tmp_path / "other.npz", x=np.concatenate([x[:2], x[1:2]]), y=np.concatenate([y[:2], y[1:2]]))
    api.commit(tmp_path / "twice.npz", tmp_path / "d.zkd")
    api.recompute(tmp_path / "twice.npz", tmp_path / "d.zkd", tmp_path / "d.root")
    with pytest.raises(ProofRejected, match="not as often"):
        api.recompute(tmp_path / "other.npz", tmp_path / "d.zkd", tmp_path / "d.root")


# ------------------------------------------------------------------------------------------- the command line


def test_authorities_at_the_command_line(run, named, tiny):
    for name in ("ann", "ben"):
        assert run("authority", "keygen", name, "-o", name).code == 0
    said = ("--text", "Fashion images,\nlabelled twice", "--licence", "MIT")
    for name in ("ann", "ben"):
        done = run(
            "authority", "sign", tiny.root, "--key", f"{name}.key", *said, "--date", "2026-11-30", "-o", f"{name}.json"
        )
        assert (done.code, done.err) == (0, "") and 'says    "Fashion images, labelled twice"' in done.out
    both = ("--authority", "ann.pub", "--authority", "ben.pub")
    assert run("authority", "join", "ann.json", "ben.json", *both, "-o", "both.json").code == 0
    pins = named.pins()
    for given in (("--endorsement", "ann.json", "--endorsement", "ben.json"), ("--endorsement", "both.json")):
        done = run("verify", *pins, *both, *given)
        assert (done.code, done.err) == (0, "")
        assert (
            "  data        checked  " in done.out
            and '"Fashion images, labelled twice" (licence: MIT; 2026-11-30)' in done.out
        )
    assert run("verify", *pins, *both, "--endorsement", "ann.json", "--authority-quorum", 1).code == 0
    refused(run("verify", *pins, *both, "--endorsement", "ann.json"), 1, "authorities: 1 of 2", "2 are wanted")
    refused(run("verify", *pins, *both), 1, "authorities: 0 of 2")
    refused(run("verify", *pins, *both, "--endorsement", "both.json", "--authority-quorum", 3), 2, "3 of 2 authorities")
    refused(run("verify", *pins, "--endorsement", "both.json"), 2, "--endorsement needs --authority")
    refused(run("verify", *pins, "--authority-quorum", 1), 2, "--authority-quorum needs --authority")
    refused(run("verify", *pins, *both, "--endorsement", "ann.pub"), 2, "ann.pub is public keys, where an endorsement")
    done = run("verify", tiny.proof, tiny.model, "--tau", 3, *both, "--endorsement", "both.json", "--json")
    assert done.json["order"][0]["state"] == "checked"  # also of a certificate without a named round


def test_another_dataset_than_the_one_vouched_for_is_rejected(run, named, tiny):
    """A provider who swaps the dataset: the endorsement he has is of the other one."""
    api.commit(tiny.dataset, "swapped.zkd")
    api.keygen("ann", "Ann")
    api.endorse("swapped.root", "ann.json", key="ann.key", text="Good data", licence="none")
    done = run("verify", *named.pins(), "--authority", "ann.pub", "--endorsement", "ann.json")
    refused(done, 1, "authorities: 0 of 1", "ann.json: it is about another dataset")


def test_odd_endorsements_are_refused(run, tiny):
    api.keygen("ann", "Ann")
    sign = ("authority", "sign", tiny.root, "--key", "ann.key")
    refused(run(*sign, "--text", "", "--licence", "x"), 2, "text is no text")
    refused(run(*sign, "--text", "\u00e9", "--licence", "x"), 2, "text is no text")
    refused(run(*sign, "--text", "x", "--licence", "x", "--date", "tomorrow"), 2, "the date is not of the form")
    refused(run(*sign, "--text", "x", "--licence", "x", "--date", "2026-02-30"), 2, "error: ")
    refused(run("authority", "sign", tiny.proof, *sign[3:], "--text", "x", "--licence", "x"), 2, "is a proof, where")
    refused(run(*sign, "--text", "x"), 2, "--licence")
    assert run(*sign, "--text", "x", "--licence", "x").code == 0
    refused(
        run("authority", "join", "endorsement.json", "--authority", "ann.pub", "-o", "two.json"), 2, "needs no joining"
    )
    refused(run(*sign, "--text", "x", "--licence", "x"), 2, "--force to replace it")
    assert not Path("two.json").exists()
