"""Public beacons: chains of drand, their rounds, and the signature that makes a round's randomness.

A chain signs round after round, each at its time; nobody who holds less than a threshold of its key shares knows a
signature before. The randomness is SHA-256 of the signature, which is the only one there is for a key and a message.
What a chain is (key, scheme, genesis, period) comes from here or from the verifier's file, never from an announcement:
that names the chain by its hash only. The hash covers all but the scheme.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from zkcert.errors import ProofRejected, UnusableInput
from zkcert.public.reading import File
from zkcert.public.statement import MAX_ROUND, Round
from zkcert.trust.json_files import exactly, load_json, octets
from zkcert.trust.times import LATEST

ROUND, INFO = "a drand round", "a drand chain's info"
SOURCE = "take it as drand's servers give it"
SEED_BYTES = 32


@dataclass(frozen=True)
class Scheme:
    """How a chain signs. group: where signatures lie (keys lie in the other one); tag: of hashing to that group;
    chained: the message begins with the signature before."""

    name: str
    group: str
    tag: bytes
    chained: bool

    @property
    def signature_bytes(self) -> int:
        """Of a compressed signature."""
        return 48 if self.group == "G1" else 96

    @property
    def key_bytes(self) -> int:
        """Of a compressed public key."""
        return 144 - self.signature_bytes


_TAG_1, _TAG_2 = (f"BLS_SIG_BLS12381G{i}_XMD:SHA-256_SSWU_RO_NUL_".encode() for i in (1, 2))
SCHEMES = {
    scheme.name: scheme
    for scheme in (
        Scheme("pedersen-bls-chained", "G2", _TAG_2, True),
        Scheme("pedersen-bls-unchained", "G2", _TAG_2, False),
        Scheme("bls-unchained-on-g1", "G1", _TAG_2, False),  # the tag of G2, by a mistake that drand kept
        Scheme("bls-unchained-g1-rfc9380", "G1", _TAG_1, False),
    )
}


@dataclass(frozen=True)
class Chain:
    """A chain. name: its "beacon ID"; key: compressed; genesis: when round 1 is due, period: seconds between rounds;
    seed: 32 bytes, drand's "group hash", which round 1 of a chained scheme signs in the place of a signature before."""

    name: str
    key: bytes
    scheme: Scheme
    genesis: int
    period: int
    seed: bytes

    @property
    def hash(self) -> bytes:
        """SHA-256, as drand computes it."""
        start = self.period.to_bytes(4, "big") + self.genesis.to_bytes(8, "big")
        name = "" if self.name == "default" else self.name
        return sha256(start + self.key + self.seed + name.encode()).digest()

    def time(self, number: int) -> int:
        """When a round is due."""
        return self.genesis + (number - 1) * self.period

    def first_from(self, time: int) -> int:
        """The first round that is due at a time or later."""
        return max(1, -(-(time - self.genesis) // self.period) + 1)

    def round(self, number: int) -> Round:
        """As an announcement names it; UnusableInput if there is none of that number."""
        if not 1 <= number < MAX_ROUND or self.time(number) > LATEST:
            raise UnusableInput(f"there is no round {number} of {self.name}")
        return Round(self.hash, number)

    def describe(self, number: int) -> str:
        """A round, for people."""
        return f"round {number} of {self.name} ({self.hash.hex()[:8]}...)"


def _chain(name: str, scheme: str, genesis: int, period: int, seed: str, key: str) -> Chain:
    return Chain(name, bytes.fromhex(key), SCHEMES[scheme], genesis, period, bytes.fromhex(seed))


BUILT_IN = {
    chain.name: chain
    for chain in (
        _chain(
            "quicknet",
            "bls-unchained-g1-rfc9380",
            1692803367,
            3,
            "f477d5c89f21a17c863a7f937c6a6d15859414d2be09cd448d4279af331c5d3e",
            "83cf0f2896adee7eb8b5f01fcad3912212c437e0073e911fb90022d3e760183c8c4b450b6a0a6c3ac6a5776a2d106451"
            "0d1fec758c921cc22b0e17e63aaf4bcb5ed66304de9cf809bd274ca73bab4af5a6e9c76a4bc09e76eae8991ef5ece45a",
        ),
        _chain(
            "default",
            "pedersen-bls-chained",
            1595431050,
            30,
            "176f93498eac9ca337150b46d21dd58673ea4e3581185f869672e59fa4cb390a",
            "868f005eb8e6e4ca0a47c8a77ceaa5309a47978a7c71bc5cce96366b5d7a569937c529eeda66c7293784a9402801af31",
        ),
    )
}
"""drand's two main chains, by name."""

_OLD = {"hash": "hash", "seed": "groupHash", "scheme": "schemeID"}
_NEW = {"hash": "chain_hash", "seed": "genesis_seed", "scheme": "scheme"}


def load_chain(path: File) -> Chain:
    """A chain of an info.json as drand's servers give it, of either version; UnusableInput, also if the hash it states
    is not its own."""

    def read(value: Any) -> Chain:
        names = _OLD if "schemeID" in value else _NEW
        named = ("metadata",) if names is _OLD else ("beacon_id",)
        exactly(value, ("public_key", "period", "genesis_time", *names.values(), *named))
        name = value["metadata"]["beaconID"] if names is _OLD else value["beacon_id"]
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9._-]{0,64}", name, re.A):
            raise ValueError("the beacon ID is not 64 letters, digits, points and hyphens at most")
        scheme = SCHEMES.get(value[names["scheme"]])
        if scheme is None:
            raise ValueError(f"the scheme is none of {', '.join(SCHEMES)}")
        genesis, period = value["genesis_time"], value["period"]
        if type(genesis) is not int or type(period) is not int or not 0 <= genesis <= LATEST or not 1 <= period < 2**32:
            raise ValueError("genesis_time and period are not seconds")
        seed = octets(value, names["seed"])
        if len(seed) != SEED_BYTES:
            raise ValueError(f"{names['seed']} has not {SEED_BYTES} bytes")
        key = octets(value, "public_key")
        if len(key) != scheme.key_bytes:
            raise ValueError(f"a public key of {scheme.name} has {scheme.key_bytes} bytes")
        chain = Chain(name or "default", key, scheme, genesis, period, seed)
        if chain.hash != octets(value, names["hash"]):
            raise ValueError(f"its hash is {chain.hash.hex()}, not the one it states")
        return chain

    return load_json(path, INFO, read, SOURCE)


def chain_of(source: str | os.PathLike[str]) -> Chain:
    """A built-in chain by its name or hash, or that of an info.json. UnusableInput."""
    text = os.fspath(source)
    known = BUILT_IN.get(text) or _by_hash(text)
    if known is None and re.fullmatch("[0-9a-f]{64}", text, re.A):
        raise UnusableInput(
            f"the chain {text} is not built in: give its info with --chain info.json, from whom you trust"
        )
    return known or load_chain(source)


def _by_hash(text: str) -> Chain | None:
    return next((chain for chain in BUILT_IN.values() if chain.hash.hex() == text), None)


@dataclass(frozen=True)
class Signed:
    """A round as drand publishes it; nothing of it is checked. previous: empty in unchained schemes."""

    number: int
    signature: bytes
    previous: bytes

    @property
    def randomness(self) -> bytes:
        """SHA-256 of the signature: the beacon."""
        return sha256(self.signature).digest()

    @staticmethod
    def load(path: File) -> Signed:
        """Of a round.json as drand's servers give it; UnusableInput."""

        def read(value: Any) -> Signed:
            exactly(value, ("round", "signature"), ("previous_signature", "randomness"))
            number = value["round"]
            if type(number) is not int or not 1 <= number < MAX_ROUND:
                raise ValueError("the round is not a number from 1 on")
            previous = octets(value, "previous_signature") if value.get("previous_signature") else b""
            found = Signed(number, octets(value, "signature"), previous)
            if "randomness" in value and octets(value, "randomness") != found.randomness:
                raise ValueError("the randomness is not SHA-256 of the signature")
            return found

        return load_json(path, ROUND, read, SOURCE)

    def check(self, chain: Chain) -> None:
        """ProofRejected ("beacon") unless the chain signed this round."""
        from zkcert.trust.points import G1, G2, OTHER, BadPoint, signed

        scheme = chain.scheme
        group = G1 if scheme.group == "G1" else G2
        try:
            OTHER[group].decode(chain.key)
        except BadPoint as error:
            raise UnusableInput(f"the public key of the chain {chain.name} is {error}") from error
        what = chain.describe(self.number)
        if not scheme.chained and self.previous:
            raise ProofRejected("beacon", f"{what} has a previous signature, which {scheme.name} does not sign")
        if scheme.chained and self.number == 1 and self.previous != chain.seed:
            raise ProofRejected("beacon", f"{what}: round 1 signs the chain's seed, not this previous signature")
        if scheme.chained and self.number > 1 and len(self.previous) != scheme.signature_bytes:
            raise ProofRejected("beacon", f"{what} lacks the previous signature, of {scheme.signature_bytes} bytes")
        message = sha256(self.previous + self.number.to_bytes(8, "big")).digest()
        try:
            valid = signed(group, chain.key, message, scheme.tag, self.signature)
        except BadPoint as error:
            raise ProofRejected("beacon", f"the signature of {what} is a point {error}") from error
        if not valid:
            raise ProofRejected("beacon", f"the signature of {what} is not the chain's")


def require_round(found: Signed, chain: Chain, named: Round | None) -> None:
    """ProofRejected ("chain", "round", "beacon") unless `found` is the round that an announcement names, if it names
    any, and the chain signed it."""
    if named is not None and named.chain != chain.hash:
        text = f"the announcement names the drand chain {named.chain.hex()}, not {chain.name} ({chain.hash.hex()})"
        raise ProofRejected("chain", text, proved=named.chain, asked=chain.hash)
    if named is not None and named.number != found.number:
        text = f"the announcement names round {named.number}, and this is round {found.number}"
        raise ProofRejected("round", text, proved=named.number, asked=found.number)
    found.check(chain)
