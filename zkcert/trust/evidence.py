"""What receipts and time stamps show about an announcement: that it is older than its round, and how many there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from zkcert.errors import ProofRejected, UnusableInput
from zkcert.public.statement import Round
from zkcert.trust.keys import PublicKey
from zkcert.trust.times import MARGIN, span_text, time_text
from zkcert.trust.witness import Receipt


@dataclass(frozen=True)
class Jury:
    """The witnesses whose receipts count, and how many of them must agree: more than half, so that two announcements
    for one round and provider need a witness who signs both."""

    witnesses: Sequence[PublicKey]
    quorum: int

    def __post_init__(self) -> None:
        n = len(self.witnesses)
        if not 1 <= self.quorum <= n:
            raise UnusableInput(f"a quorum of {self.quorum} of {n}: give one from {n // 2 + 1} to {n}")
        if 2 * self.quorum <= n:
            raise UnusableInput(
                f"a quorum of {self.quorum} among {n} witnesses lets two announcements through, each with witnesses of "
                f"its own: at least {n // 2 + 1} are needed"
            )


@dataclass(frozen=True)
class Testimony:
    """What a quorum shows: the receipts that count, and the names of their witnesses."""

    receipts: tuple[Receipt, ...]
    jury: Jury
    names: tuple[str, ...]

    @property
    def time(self) -> int:
        """The latest of the receipts."""
        return max(receipt.seen.time for receipt in self.receipts)

    @property
    def most(self) -> int:
        """The provider's announcements that a quorum has witnessed up to this one, for whatever round: at most so many.

        Each earlier one has an honest witness in common with this one (see `tolerated`), whose count it raised.
        """
        return 1 + sum(receipt.seen.count - 1 for receipt in self.receipts)

    @property
    def provider(self) -> bytes:
        """The key that the receipts name."""
        return self.receipts[0].seen.announced.provider

    @property
    def tolerated(self) -> int:
        """How many dishonest witnesses among all n change nothing.

        Another announcement needs a quorum of its own, which shares at least (receipts + quorum - n) witnesses with
        this one; an honest one signs one announcement only.
        """
        return len(self.receipts) + self.jury.quorum - len(self.jury.witnesses) - 1


def require_quorum(
    receipts: Sequence[Receipt],
    jury: Jury,
    digest: bytes,
    named: Round,
    due: int,
    *,
    margin: int = MARGIN,
    provider: bytes | None = None,
) -> Testimony:
    """The testimony about an announcement, by its digest, which names a round that is due at a time.

    provider  the key that the receipts must name; None: any, but one for all.

    A witness sees the digest only: that the announcement names the round which the receipt is about is checked here.
    ProofRejected: "announcements" if a witness that counts has signed two announcements for the round, "witnesses" if
    those that count are fewer than the quorum; the text says why the others do not.
    """
    known = {key.key: key for key in jury.witnesses}
    counted: dict[bytes, Receipt] = {}
    faults, second = [], []
    for receipt in receipts:
        seen, about = receipt.seen, receipt.seen.announced
        if seen.witness not in known:
            fault: str | None = f"the witness {seen.witness.hex()[:8]}... is not among those that count"
        elif (fault := receipt.fault()) is not None:
            pass
        elif about.digest != digest:
            second += [receipt] if about.round == named else []
            fault = "it is about another announcement"
        elif about.round != named:
            fault = "it is about another chain or round than the announcement names"
        elif provider not in (None, about.provider):
            fault = f"it is about another provider, {about.provider.hex()[:8]}..."
        elif seen.time + margin > due:
            fault = f"its time, {time_text(seen.time)}, is not {span_text(margin)} before the round, {time_text(due)}"
        elif any(other.seen.announced != about for other in counted.values()):
            fault = "it names another provider than the one before"
        else:
            old = counted.setdefault(seen.witness, receipt).seen
            if (seen.count, seen.time) > (old.count, old.time):
                counted[seen.witness] = receipt
        if fault is not None:
            faults.append(f"{receipt.name}: {fault}")
    for mine in counted.values():
        for other in second:
            if other.seen.announced.provider == mine.seen.announced.provider:
                text = f"{known[other.seen.witness]} has witnessed another announcement of this provider for this round"
                digest = other.seen.announced.digest
                raise ProofRejected("announcements", f"{text}, {digest.hex()} ({other.name})")
    if len(counted) < jury.quorum:
        reasons = "".join(f"; {fault}" for fault in faults)
        text = f"{len(counted)} of {len(jury.witnesses)} witnesses have signed, {jury.quorum} are wanted{reasons}"
        raise ProofRejected("witnesses", text)
    names = tuple(known[witness].name for witness in counted)
    return Testimony(tuple(counted.values()), jury, names)
