"""The demonstration of trust: authority, provider, witnesses, beacon and verifier, each in a folder of its own, and
what stops a provider who cheats."""

from __future__ import annotations

import json
import math
import secrets
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from hashlib import sha256
from pathlib import Path
from shutil import copyfile
from typing import TYPE_CHECKING

import numpy as np

from zkcert.api.authority import endorse, recompute
from zkcert.api.certificate import announce, announced, commit, verify
from zkcert.api.demonstration import train_lenet
from zkcert.api.evidence import Evidence
from zkcert.api.files import File, needs_extras
from zkcert.api.metric import measure
from zkcert.api.notebook import told
from zkcert.api.proving import CrossCheckFailed, prove
from zkcert.api.reporting import report
from zkcert.api.trust import keygen, request, witness
from zkcert.errors import UnusableInput, ZkcertError
from zkcert.files.saving import save_announcement
from zkcert.public.config import ProbeConfig
from zkcert.public.defaults import PAPER_AUDIT
from zkcert.public.statement import Round
from zkcert.trust.drand import SCHEMES, Chain
from zkcert.trust.times import now, time_text

if TYPE_CHECKING:
    from zkcert.api.order import OrderedVerdict

WITNESSES = ("ada", "bob", "cat")
ROLES = ("authority", "provider", *WITNESSES, "beacon", "verifier")
PERIOD, LEAD, MARGIN = 3, 60, 5
"""Seconds: between rounds, from the announcement to its round, and between receipts and the round."""


@dataclass(frozen=True)
class TrustDemoResult:
    """What the demonstration showed. stopped: each attack, and what was said to it."""

    verdict: OrderedVerdict
    stopped: tuple[tuple[str, str], ...]


class _Beacon:
    """A chain of one node: what drand's nodes do together, with a key that lies in a folder."""

    def __init__(self, place: Path) -> None:
        from zkcert.trust.points import G2, ORDER, times

        self.place, self._secret = place, 1 + secrets.randbelow(ORDER - 1)
        key = G2.encode(times(G2.base, self._secret))
        scheme = SCHEMES["bls-unchained-g1-rfc9380"]
        self.chain = Chain("demo", key, scheme, now() - 1000, PERIOD, sha256(key).digest())
        info = {
            "public_key": key.hex(),
            "period": PERIOD,
            "genesis_time": self.chain.genesis,
            "hash": self.chain.hash.hex(),
            "groupHash": self.chain.seed.hex(),
            "schemeID": scheme.name,
            "metadata": {"beaconID": self.chain.name},
        }
        self.info = place / "info.json"
        self.info.write_text(json.dumps(info))

    def sign(self, number: int) -> Path:
        """A round, as a server gives it."""
        from zkcert.trust.points import G1, times

        message = sha256(number.to_bytes(8, "big")).digest()
        signature = G1.encode(times(G1.hash(message, self.chain.scheme.tag), self._secret))
        path = self.place / f"round-{number}.json"
        path.write_text(json.dumps({"round": number, "signature": signature.hex()}))
        return path


def demo_trust(out: File | None = None, *, say: Callable[[str], None] | None = None) -> TrustDemoResult:
    """All roles around a certificate: an authority, a provider, three witnesses, a beacon and a verifier, with a
    LeNet-5 on the images that ship with the program; then the attacks that each step stops. No downloads; it waits a
    minute for the round.

    out  a directory in which the files stay; None: a temporary one. say: as for `demo`.

    Raises UnusableInput.
    """
    with needs_extras("the demonstration"):
        import torch  # noqa: F401
    return _play(out, told(say), train_lenet, PAPER_AUDIT, LEAD, time.sleep)


def _play(
    out: File | None,
    say: Callable[[str], None],
    train: Callable[[Path, Path], None],
    config: ProbeConfig,
    lead: int,
    wait: Callable[[float], None],
) -> TrustDemoResult:
    """`demo_trust` with a model and its data, which `train` writes, a configuration, a lead, and how to wait."""
    with needs_extras("the demonstration of trust", "trust"), tempfile.TemporaryDirectory() as scratch:
        import zkcert.trust.keys  # noqa: F401

        top = Path(scratch if out is None else out)
        at = {role: top / role for role in ROLES}
        if taken := [path for path in at.values() if path.exists()]:
            raise UnusableInput(f"{taken[0]} exists; give a directory without earlier results")
        for path in at.values():
            path.mkdir(parents=True)
        return _Play(at, say, config, lead, wait).run(train)


class _Play:
    """at: the folder of each role."""

    def __init__(
        self,
        at: dict[str, Path],
        say: Callable[[str], None],
        config: ProbeConfig,
        lead: int,
        wait: Callable[[float], None],
    ) -> None:
        self.at, self.say, self.config, self.lead, self.wait = at, say, config, lead, wait
        self.mine, self.hers = at["provider"], at["verifier"]
        self.stopped: list[tuple[str, str]] = []

    def run(self, train: Callable[[Path, Path], None]) -> TrustDemoResult:
        """From the keys to the attacks."""
        self.keys()
        tau = self.data_and_model(train)
        beacon = _Beacon(self.at["beacon"])
        self.say("Beacon: a chain of one node plays drand here; its info.json goes to everybody.")
        number = beacon.chain.first_from(now() + self.lead)
        due = beacon.chain.time(number)
        self.announce(beacon, number, tau, "announce.json")
        self.witness(beacon, "announce.json", WITNESSES, "")
        self.attack_at_once(beacon, number, tau)
        self.say(f"Everybody waits for round {number}, due at {time_text(due)}.")
        self.wait(max(0, due + PERIOD - now()))
        self.prove(beacon, number, "announce.json", "proof.bin")
        verdict = self.verify(beacon, number)
        self.attack_afterwards(beacon, number)
        return TrustDemoResult(verdict, tuple(self.stopped))

    def keys(self) -> None:
        """Keys of all but the verifier, who gets the public ones."""
        self.say("Everybody makes keys; the verifier gets the public ones, from people she trusts.")
        for role in ("authority", "provider", *WITNESSES):
            made = keygen(self.at[role] / role, role)
            copyfile(made.public, self.hers / made.public.name)

    def data_and_model(self, train: Callable[[Path, Path], None]) -> Fraction:
        """Model, commitment, endorsement; tau."""
        data, model = self.mine / "data.npz", self.mine / "model.pt"
        self.say("Provider: train a model, and commit to the data.")
        train(model, data)
        commit(data, self.mine / "data.zkd")
        self.say("Authority: compare its own copy of the data with the commitment, then vouch for it.")
        recompute(data, self.mine / "data.zkd", self.mine / "data.root")
        said = {"text": "The data of the demonstration, as we hold them", "licence": "MIT"}
        key = self.at["authority"] / "authority.key"
        endorse(self.mine / "data.root", self.hers / "endorsement.json", key=key, **said)
        score = max(measure(model, data, config=self.config, seed=f"trial {i}").score for i in range(4))
        return Fraction(math.ceil(30 * score), 10)

    def announce(self, beacon: _Beacon, number: int, tau: Fraction, name: str) -> None:
        """Name a round of the beacon."""
        files = self.mine / "model.pt", self.mine / "data.root", self.mine / name
        chosen = {"beacon": f"drand:demo@{number}", "chain": beacon.info}
        made = announce(*files, tau=tau, config=self.config, **chosen)
        self.say(f"Provider: announce, and name round {number}, due at {time_text(made.due or 0)}.")

    def witness(self, beacon: _Beacon, name: str, who: tuple[str, ...], suffix: str) -> None:
        """Ask for receipts, and give them to the verifier."""
        asked = request(self.mine / name, self.mine / f"request{suffix}.json", key=self.mine / "provider.key")
        for role in who:
            place = self.at[role]
            known = {"key": place / f"{role}.key", "state": place / "state", "chain": beacon.info}
            found = witness(asked, self.hers / f"{role}{suffix}.json", **known)
            seen = found.receipt.seen
            self.say(f"Witness {role}: sign at {time_text(seen.time)}; announcement {seen.count} of this provider.")

    def prove(self, beacon: _Beacon, number: int, name: str, proof: str) -> None:
        """With the round, once it is out."""
        out = beacon.sign(number)
        self.say(f"Provider: prove, with round {number} as the beacon.")
        known = {"announcement": self.mine / name, "beacon": out, "chain": beacon.info}
        prove(self.mine / "model.pt", self.mine / "data.zkd", self.mine / proof, **known)
        for file in (name, proof, "model.pt"):
            copyfile(self.mine / file, self.hers / file)

    def check(
        self,
        beacon: _Beacon,
        number: int,
        /,
        proof: str = "proof.bin",
        suffix: str = "",
        most: int | None = None,
        page: str | None = None,
        **changes: object,
    ) -> OrderedVerdict:
        """What the verifier runs; page: the name of a report to write."""
        hers = self.hers
        who = WITNESSES if not suffix else WITNESSES[:2]
        evidence = Evidence(
            receipts=[hers / f"{role}{suffix}.json" for role in who],
            witnesses=[hers / f"{role}.pub" for role in WITNESSES],
            quorum=2,
            provider=hers / "provider.pub",
            announcements=most,
            margin=MARGIN,
            endorsements=[hers / "endorsement.json"],
            authorities=[hers / "authority.pub"],
        )
        pins: dict[str, object] = {
            "beacon": self.at["beacon"] / f"round-{number}.json",
            "chain": beacon.info,
            **changes,
        }
        pins |= {"tau": 128, "evidence": evidence, "config": self.config}
        if page is not None:
            return report(hers / proof, hers / "model.pt", hers / page, **pins).verdict
        return verify(hers / proof, hers / "model.pt", **pins)

    def verify(self, beacon: _Beacon, number: int) -> OrderedVerdict:
        """The honest proof."""
        self.say("Verifier: check the proof and everything around it.")
        verdict = self.check(beacon, number, most=1, page="report.html", announcement=self.hers / "announce.json")
        for line in verdict.lines():
            self.say(f"    {line}")
        self.say("Verifier: the same is in her folder as a page for people, report.html.")
        return verdict

    def attack(self, name: str, run: Callable[[], object]) -> None:
        """What is said to an attack; a defect if nothing is."""
        try:
            run()
        except ZkcertError as error:
            self.stopped.append((name, str(error)))
            self.say(f"    {name}:\n        {error}")
        else:
            raise CrossCheckFailed(f"nothing stopped this attack: {name}")

    def attack_at_once(self, beacon: _Beacon, number: int, tau: Fraction) -> None:
        """Before the round: a second announcement for it; and one for the next round, which is counted."""
        self.say("A provider who cheats, before the round:")
        self.announce(beacon, number, tau + 1, "second.json")
        name = "a second announcement for the same round, to show the better one"
        self.attack(name, lambda: self.witness(beacon, "second.json", ("ada",), "-second"))
        self.say("    another round as well, to show the better proof; witnesses sign, and count:")
        self.announce(beacon, number + 1, tau, "another.json")
        self.witness(beacon, "another.json", WITNESSES[:2], "-another")

    def attack_afterwards(self, beacon: _Beacon, number: int) -> None:
        """When the rounds are out."""
        self.prove(beacon, number + 1, "another.json", "another.bin")
        self.say("A provider who cheats, afterwards:")
        self.attack(
            "the proof of the other round, shown as if it were the only one",
            lambda: self.check(beacon, number + 1, "another.bin", "-another", most=1),
        )
        self.attack(
            "the receipts of the first announcement, reused for the other one",
            lambda: self.check(beacon, number + 1, "another.bin"),
        )
        forged = self.mine / "forged.json"
        forged.write_text(json.dumps({"round": number, "signature": self._signature(number + 1)}))
        self.attack("another beacon in the place of the round", lambda: self.check(beacon, number, beacon=forged))
        late = beacon.chain.first_from(now() - 20 * PERIOD)
        self.attack(
            "an announcement for a round that is out, with the clock set back", lambda: self._late(beacon, late)
        )
        self.attack("another dataset than the one vouched for", lambda: self._swapped(beacon, number))

    def _signature(self, number: int) -> str:
        return str(json.loads((self.at["beacon"] / f"round-{number}.json").read_text())["signature"])

    def _late(self, beacon: _Beacon, number: int) -> None:
        """What `announce` refuses to write, by its own clock."""
        honest = announced(self.mine / "announce.json")
        save_announcement(replace(honest, drand=Round(beacon.chain.hash, number)), self.mine / "late.json")
        self.witness(beacon, "late.json", ("cat",), "-late")

    def _swapped(self, beacon: _Beacon, number: int) -> None:
        """A commitment to easier data: one class left out; announced and proved as it should be."""
        data = np.load(self.mine / "data.npz")
        kept = data["y"] != data["y"][0]
        np.savez(self.mine / "easier.npz", x=data["x"][kept], y=data["y"][kept])
        model, classes = self.mine / "model.pt", int(data["y"].max()) + 1
        commit(self.mine / "easier.npz", self.mine / "easier.zkd", classes=classes)
        announce(model, self.mine / "easier.root", self.mine / "easier.json", tau=128, config=self.config)
        known = {"announcement": self.mine / "easier.json", "beacon": "00"}
        prove(model, self.mine / "easier.zkd", self.mine / "easier.bin", **known)
        authority = {"endorsements": [self.hers / "endorsement.json"], "authorities": [self.hers / "authority.pub"]}
        verify(self.mine / "easier.bin", model, tau=128, beacon="00", evidence=Evidence(**authority))
