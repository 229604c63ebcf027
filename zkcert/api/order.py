"""What a verifier knows about the order of announcement, beacon and proof."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from verifier.report import Verdict
from zkcert.api.beacons import Beacon
from zkcert.public.statement import Statement
from zkcert.trust.drand import BUILT_IN
from zkcert.trust.order import CHECKED, CLAIMED, MISSING, Step, order_lines


@dataclass(frozen=True)
class OrderedVerdict(Verdict):
    """A verdict with the steps that came before the proof, in the order of time."""

    steps: tuple[Step, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), "order": [step.to_dict() for step in self.steps]}

    def lines(self) -> list[str]:
        """As of a verdict, with the order in time before warnings and ACCEPTED."""
        lines = super().lines()
        at = len(lines) - 1 - len(self.warnings)
        return [*lines[:at], *order_lines(self.steps), *lines[at:]]


def steps_of(statement: Statement, given: bool, beacon: Beacon | None) -> Iterator[Step]:
    """The steps that a statement says or that were checked.

    given   an announcement was insisted on.
    beacon  what was insisted on.
    """
    if given:
        yield Step("announced", CLAIMED, "you gave its digest; that it was published before the beacon is your word")
    else:
        yield Step("announced", MISSING, "no announcement was compared (--announcement)")
    yield _round(statement, beacon)
    if statement.beacon is None:
        yield Step("beacon", MISSING, "the proof uses none")
    elif beacon is None:
        yield Step("beacon", CLAIMED, "the prover's word (--beacon)")
    elif beacon.chain is not None and beacon.number is not None:
        key = f"the signature of {beacon.chain.describe(beacon.number)}, under the key of the chain"
        yield Step("beacon", CHECKED, key, beacon.chain.time(beacon.number))
    else:
        yield Step("beacon", CHECKED, "it is the one you gave; where that came from is for you to know")
    yield Step("proof", CHECKED, "it is about this announcement and this beacon" if given else "")


def _round(statement: Statement, beacon: Beacon | None) -> Step:
    """Which randomness the announcement names."""
    named = statement.drand
    if named is None:
        return Step(
            "round", MISSING, "the announcement names no public round: the beacon may have been chosen after others"
        )
    known = {chain.hash: chain for chain in (*BUILT_IN.values(), *([beacon.chain] if beacon and beacon.chain else []))}
    chain = known.get(named.chain)
    due = None if chain is None else chain.time(named.number)
    what = (
        f"round {named.number} of the drand chain {named.chain.hex()}"
        if chain is None
        else chain.describe(named.number)
    )
    return Step("round", CLAIMED, f"{what}, named in the announcement; not shown to have been in the future then", due)
