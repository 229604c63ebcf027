"""--quorum is of whoever is named: of witnesses, or of authorities; keys come in one file or in several."""

from __future__ import annotations

import pytest

from tests.trust.conftest import refused
from zkcert import api


@pytest.fixture
def signed(run, tiny):
    """Endorsements of two of three authorities, and the keys of all three in one file."""
    for name in ("ann", "ben", "cay"):
        api.keygen(name, name)
    for name in ("ann", "ben"):
        api.endorse(tiny.root, f"{name}.json", key=f"{name}.key", text="As we hold it", licence="MIT")
    assert run("authority", "gather", "ann.pub", "ben.pub", "cay.pub", "-o", "keys.pub").code == 0
    given = ("--endorsement", "ann.json", "--endorsement", "ben.json")
    return ["verify", tiny.proof, tiny.model, "--tau", 3, "--authority", "keys.pub", *given]


def test_a_quorum_of_authorities(run, signed):
    for option in ("--quorum", "--authority-quorum"):
        done = run(*signed, option, 2)
        assert done.code == 0 and "ann: " in done.out and "(2 of 3 authorities wanted)" in done.out
        refused(run(*signed, option, 3), 1, "authorities: 2 of 3 authorities vouch for the dataset, 3 are wanted")
    refused(run(*signed), 1, "authorities: 2 of 3", "3 are wanted")
    refused(run(*signed, "--quorum", 2, "--authority-quorum", 2), 2, "--quorum is given twice")
    refused(run(*signed, "--quorum", 4), 2, "4 of 3 authorities: give a number from 1 to 3")


def test_a_quorum_of_both_says_of_whom(run, signed, named, told):
    pins = [*named.pins(), *told.of("ada", "bob")[2:]]
    both = [*pins, *signed[5:]]
    refused(run("verify", *both, "--quorum", 2), 2, "--quorum of whom?", "--witness-quorum", "--authority-quorum")
    done = run("verify", *both, "--witness-quorum", 2, "--authority-quorum", 2, "--json")
    assert {"data": "checked", "announced": "checked"}.items() <= {
        s["step"]: s["state"] for s in done.json["order"]
    }.items()
    assert run("verify", *pins, "--witness-quorum", 2).code == 0
    refused(run("verify", *pins, "--witness-quorum", 3), 1, "witnesses: 2 of 3", "3 are wanted")
    refused(run("verify", *named.pins(), "--quorum", 2), 2, "--quorum needs --witness or --authority")
    refused(run("verify", *named.pins(), "--witness-quorum", 2), 2, "--witness-quorum needs --witness")


def test_keys_are_gathered_once_each_and_replace_nothing_else(run, signed, tiny):
    refused(run("witness", "gather", "ann.pub", "keys.pub", "-o", "more.pub"), 2, "the key", "is given twice")
    refused(run("authority", "gather", "ann.pub", "-o", "keys.pub"), 2, "keys.pub exists", "--force")
    refused(run("authority", "gather", "ann.pub", "-o", tiny.root), 2, "not public keys")
    refused(run("authority", "gather", tiny.root, "-o", "new.pub"), 2, "public keys is expected")
    refused(run("authority", "gather", "ann.pub", "-o", "ann.pub", "--force"), 2, "is an input of this command")
    assert run("witness", "gather", "ann.pub", "ben.pub", "-o", "keys.pub", "--force", "--json").json == {
        "keys": "keys.pub"
    }
    refused(run(*signed, "--quorum", 3), 2, "3 of 2 authorities")
