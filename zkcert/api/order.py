"""The order of announcement, beacon and proof in time, as a verdict tells it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from verifier.report import Verdict
from zkcert.api.beacons import Beacon
from zkcert.api.evidence import Found
from zkcert.public.statement import Statement
from zkcert.trust.drand import BUILT_IN, Chain
from zkcert.trust.order import CHECKED, CLAIMED, MISSING, Step, order_lines
from zkcert.trust.times import span_text

if TYPE_CHECKING:
    from zkcert.trust.authority import Vouched


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


def steps_of(
    statement: Statement, given: bool, beacon: Beacon | None, found: Found | None, vouched: Vouched | None
) -> Iterator[Step]:
    """The steps that a statement says or that were checked.

    given   an announcement was insisted on.
    beacon  what was insisted on.
    found   what evidence showed. vouched: what authorities say about the data.
    """
    if vouched is None:
        yield Step("data", MISSING, "nobody vouches for the dataset (--authority)")
    else:
        yield Step("data", CHECKED, str(vouched))
    yield _announced(given, found)
    yield _draws(found, chosen=statement.drand is None and beacon is not None and beacon.chain is None)
    yield _round(statement, beacon, found)
    if statement.beacon is None:
        yield Step("beacon", MISSING, "the proof uses none")
    elif beacon is None:
        yield Step("beacon", CLAIMED, "the prover's word (--beacon)")
    elif beacon.chain is not None and beacon.number is not None:
        key = f"the signature of {beacon.chain.describe(beacon.number)}, under the key of the chain"
        if beacon.chain.hash not in {chain.hash for chain in BUILT_IN.values()}:
            key += ", which is not built in: that nobody can choose its rounds is for you to know"
        yield Step("beacon", CHECKED, key, beacon.chain.time(beacon.number))
    elif statement.drand is not None:
        text = "it is the one you gave; that it is the randomness of the round is your word (--beacon round.json)"
        yield Step("beacon", CLAIMED, text)
    else:
        yield Step("beacon", CHECKED, "it is the one you gave; where that came from is for you to know")
    yield Step("proof", CHECKED, "valid, for this announcement" if given else "valid, for what it says itself")


def _announced(given: bool, found: Found | None) -> Step:
    """Whether the announcement is shown to have existed at some time."""
    if found is not None:
        texts = []
        if found.testimony is not None:
            jury, names = found.testimony.jury, ", ".join(found.testimony.names)
            texts.append(f"witnessed by {names} ({jury.quorum} of {len(jury.witnesses)} wanted)")
        texts += [f"stamped by {stamp.authority} (revocation not checked)" for stamp in found.stamps]
        return Step("announced", CHECKED, f"at that time or earlier: {'; '.join(texts)}", found.earliest)
    if given:
        return Step("announced", CLAIMED, "you gave its digest; that it was published before the beacon is your word")
    return Step("announced", MISSING, "no announcement was compared (--announcement)")


def _draws(found: Found | None, chosen: bool) -> Step:
    """Whether it is known how many draws the provider had. chosen: the beacon is the verifier's own."""
    name = "draws"
    if chosen:
        return Step(name, CLAIMED, "one, if you gave this beacon for no other announcement")
    if found is None or found.testimony is None:
        more = "" if found is None else "; a time stamp shows age, not number"
        return Step(name, MISSING, f"number of announcements unknown: this may be the best of many (--witness){more}")
    told, jury = found.testimony, found.testimony.jury
    who = f"the provider {told.provider.hex()[:8]}..."
    unless = f"unless more than {told.tolerated} of {len(jury.witnesses)} witnesses are dishonest"
    if not told.tolerated:
        unless = "unless a witness is dishonest"
    count = "it is the first" if told.most == 1 else f"with others for other rounds it is one of {told.most} at most"
    text = f"{who} had one announcement witnessed for this round, {count}, {unless}"
    if found.pinned:
        return Step(name, CHECKED, text)
    return Step(name, CLAIMED, f"{text}; that it has no second key is its word (--provider)")


def _round(statement: Statement, beacon: Beacon | None, found: Found | None) -> Step:
    """Which randomness the announcement names, and whether it was in the future then."""
    named = statement.drand
    if named is None:
        return Step("round", MISSING, "the announcement names no public round: somebody has chosen the beacon")
    known: dict[bytes, Chain] = {chain.hash: chain for chain in BUILT_IN.values()}
    for given in (beacon, found):
        if given is not None and given.chain is not None:
            known[given.chain.hash] = given.chain
    chain = known.get(named.chain)
    what = (
        f"round {named.number} of the drand chain {named.chain.hex()}"
        if chain is None
        else chain.describe(named.number)
    )
    if found is not None:
        older = span_text(found.due - found.earliest)
        return Step("round", CHECKED, f"{what}, named in the announcement, which is older by {older}", found.due)
    due = None if chain is None else chain.time(named.number)
    return Step("round", CLAIMED, f"{what}, named in the announcement; not shown to have been in the future then", due)
