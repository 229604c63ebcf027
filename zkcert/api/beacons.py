"""Beacons as commands take them: hexadecimal, or a round of a drand chain."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from zkcert.api.files import File, needs_extras
from zkcert.errors import ProofRejected, UnusableInput
from zkcert.public.statement import Round, parse_beacon
from zkcert.trust.drand import BUILT_IN, Chain, Signed, chain_of, require_round
from zkcert.trust.times import now, parse_time, time_text

PREFIX = "drand:"
_DIGITS = re.compile("(0x)?[0-9a-fA-F]*", re.A)


@dataclass(frozen=True)
class Beacon:
    """The bytes that go into the seed; and the round they come from, with its chain, if its signature was checked."""

    value: bytes
    number: int | None = None
    chain: Chain | None = None


def future_round(beacon: str | None, at: str | None, chain: File | None) -> tuple[Chain, Round] | None:
    """The round that an announcement is to name, by "drand:CHAIN@ROUND", or by a time and, unless it is quicknet,
    "drand:CHAIN" or the chain's info; None if nothing is given. UnusableInput, also for a round that is out."""
    if beacon is None and at is None:
        if chain is not None:
            raise UnusableInput("--chain alone names no round: add --beacon drand:CHAIN@ROUND or --beacon-at TIME")
        return None
    name, _, digits = (beacon or "").removeprefix(PREFIX).partition("@")
    if beacon is not None and (not beacon.startswith(PREFIX) or bool(digits) == (at is not None)):
        advice = f"{PREFIX}quicknet@ROUND, or {PREFIX}quicknet and --beacon-at TIME"
        raise UnusableInput(f"an announcement names a future round, {advice}, not {beacon[:40]!r}")
    found = _chain(chain, name or (None if chain else "quicknet"))
    if at is not None:
        number = found.first_from(parse_time(at))
    elif re.fullmatch("[1-9][0-9]{0,12}", digits, re.A):
        number = int(digits)
    else:
        raise UnusableInput(f"a round is a number from 1 on, not {digits[:40]!r}")
    named = found.round(number)
    if found.time(number) <= now():
        raise UnusableInput(
            f"{found.describe(number)} was due at {time_text(found.time(number))}: whoever knows it can choose what to "
            "announce; name a future one, for instance with --beacon-at +1h"
        )
    return found, named


def _chain(source: File | None, name: str | None) -> Chain:
    """That of an info, or of a name or a hash; of both if they agree."""
    given = None if source is None else chain_of(source)
    if name is None or (given and name in (given.name, given.hash.hex())):
        if given is None:
            names = ", ".join(BUILT_IN)
            raise UnusableInput(
                f"the announcement names no chain: say with --chain ({names}, or info.json) whose round it is"
            )
        return given
    if given is not None:
        raise UnusableInput(f"--chain is {given.name} ({given.hash.hex()}), not {name[:64]}")
    if name not in BUILT_IN and not re.fullmatch("[0-9a-f]{64}", name, re.A):
        raise UnusableInput(f"no chain {name[:40]!r} is built in, only {', '.join(BUILT_IN)}: give --chain info.json")
    return chain_of(name)


def is_round(beacon: File | None) -> bool:
    """Whether a beacon is given as a file, and not in hexadecimal."""
    return beacon is not None and not (isinstance(beacon, str) and _DIGITS.fullmatch(beacon))


def read_beacon(beacon: File | None, named: Round | None, chain: File | None, *, used: bool = False) -> Beacon | None:
    """What a beacon is that is given as hexadecimal or as a round.json, whose signature is checked.

    named  the round that the announcement names. chain: the name or the info.json of a chain that is insisted on.
    used   something else needs the chain, so it may be given without a round.

    Raises ProofRejected for a round that is not the one named or not signed by its chain, else UnusableInput.
    """
    if beacon is None or not is_round(beacon):
        if chain is not None and not used:
            raise UnusableInput("--chain is for a drand round: give its JSON with --beacon")
        value = parse_beacon(None if beacon is None else os.fspath(beacon))
        return None if value is None else Beacon(value)
    if isinstance(beacon, str) and not os.path.exists(beacon):
        raise UnusableInput(
            f"the beacon must be hexadecimal digits, an even number, or a drand round's file, not {beacon[:200]!r}"
        )
    found = Signed.load(beacon)
    trusted = chain_of(named.chain.hex()) if named is not None and chain is None else _chain(chain, None)
    with needs_extras("checking a drand round", "trust"):
        require_round(found, trusted, named)
    return Beacon(found.randomness, found.number, trusted)


def own_beacon(beacon: File | None, named: Round | None, chain: File | None) -> bytes | None:
    """The bytes of the beacon that a proof is made with, which must be the round that is named. UnusableInput."""
    try:
        found = read_beacon(beacon, named, chain)
    except ProofRejected as error:
        raise UnusableInput(f"--beacon {os.fspath(beacon or '')}: {error}") from error
    if named is not None and (found is None or found.chain is None):
        text = f"the announcement names round {named.number} of the drand chain {named.chain.hex()} as its beacon"
        raise UnusableInput(f"{text}: give that round's JSON with --beacon, when it is out")
    return None if found is None else found.value
