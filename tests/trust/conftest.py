"""A certificate whose beacon is a round that its announcement names, of a chain whose key we hold."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import Outcome, Tiny
from tests.trust.rounds import Own, write
from tests.trust.stamping import Authority
from zkcert import api
from zkcert.trust.times import now


def refused(outcome: Outcome, code: int, *words: str) -> None:
    """One line on stderr that says what it should, no traceback, nothing on stdout."""
    assert (outcome.code, outcome.out) == (code, ""), outcome
    line = outcome.err.splitlines()[-1]
    assert line.startswith("REJECTED " if code == 1 else "error: ") and "Traceback" not in outcome.err
    assert all(word in line for word in words), line


@dataclass(frozen=True)
class Named:
    """A finished certificate; tests must not change its files. due: the round's time, two hours from the start on."""

    tiny: Tiny
    place: Path
    own: Own
    number: int

    @property
    def due(self) -> int:
        return self.own.chain.time(self.number)

    @property
    def info(self) -> Path:
        return self.place / "info.json"

    @property
    def announcement(self) -> Path:
        return self.place / "announce.json"

    @property
    def round(self) -> Path:
        return self.place / "round.json"

    @property
    def proof(self) -> Path:
        return self.place / "proof.bin"

    @property
    def digest(self) -> bytes:
        return bytes.fromhex(json.loads(self.announcement.read_text())["digest"])

    def pins(self) -> list[object]:
        """Of verify: all but what shows the order in time."""
        pins = ["--announcement", self.announcement, "--beacon", self.round, "--chain", self.info]
        return [self.proof, self.tiny.model, "--tau", 3, *pins]


@pytest.fixture(scope="session")
def named(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Named:
    """See `Named`."""
    place = tmp_path_factory.mktemp("named")
    own = Own.make(genesis=now() - 1000)
    number = own.chain.first_from(now() + 7200)
    found = Named(tiny, place, own, number)
    write(found.info, own.info())
    write(found.round, own.sign(number))
    chosen = {"beacon": f"drand:our-own@{number}", "chain": found.info}
    api.announce(tiny.model, tiny.root, found.announcement, tau="2.5", config=tiny.config, **chosen)
    known = {"announcement": found.announcement, "beacon": found.round, "chain": found.info}
    api.prove(tiny.model, tiny.data, found.proof, **known)
    return found


@dataclass(frozen=True)
class Told:
    """What everybody has given to the verifier; tests must not change it."""

    named: Named
    place: Path
    authority: Authority

    def of(self, *names: str) -> list[object]:
        """Options of verify: the receipts of these witnesses, of whom all three are insisted on, two suffice."""
        options: list[object] = ["--quorum", 2]
        for name in ("ada", "bob", "cat"):
            options += ["--witness", self.place / f"{name}.pub"]
        for name in names:
            options += ["--receipt", self.place / f"{name}.json"]
        return options

    @property
    def provider(self) -> list[object]:
        return ["--provider", self.place / "provider.pub"]

    @property
    def stamp(self) -> list[object]:
        return ["--timestamp", self.place / "announce.tsr", "--timestamp-roots", self.authority.root]


@pytest.fixture(scope="session")
def told(named: Named, tmp_path_factory: pytest.TempPathFactory) -> Told:
    """See `Told`: keys, a request, three receipts and a time stamp."""
    place = tmp_path_factory.mktemp("told")
    for name in ("provider", "ada", "bob", "cat"):
        api.keygen(place / name, name)
    request = api.request(named.announcement, place / "request.json", key=place / "provider.key")
    for name in ("ada", "bob", "cat"):
        known = {"key": place / f"{name}.key", "state": place / f"{name}.state", "chain": named.info}
        api.witness(request, place / f"{name}.json", **known)
    authority = Authority.make(place / "tsa")
    authority.answer(api.stamp_query(named.announcement, place / "announce.tsq"), place / "announce.tsr")
    return Told(named, place, authority)
