"""What a verifier is given beside a proof, and what it shows about the announcement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zkcert.api.files import File, needs_extras
from zkcert.errors import ProofRejected, UnusableInput
from zkcert.public.statement import Statement
from zkcert.trust.drand import Chain, chain_of
from zkcert.trust.times import MARGIN, span_text, time_text

if TYPE_CHECKING:
    from zkcert.trust.authority import Vouched
    from zkcert.trust.evidence import Testimony
    from zkcert.trust.timestamp import Stamp


@dataclass(frozen=True)
class Evidence:
    """What a verifier is given to show that the announcement is older than its round, and whom she believes.

    receipts, witnesses, quorum   of witnesses: the files of their receipts, of the keys that count, and how many must
                                  agree; None: all.
    provider                      the file of the provider's key, which the receipts must name.
    announcements                 how many the provider may have had witnessed up to this one; None: any number.
    stamps, roots                 time stamps, and the certificates of the authorities that count (PEM).
    margin                        seconds that must lie between all that and the round.
    endorsements, authorities, authority_quorum   of authorities that vouch for the dataset, as for witnesses.
    """

    receipts: Sequence[File] = ()
    witnesses: Sequence[File] = ()
    quorum: int | None = None
    provider: File | None = None
    announcements: int | None = None
    stamps: Sequence[File] = ()
    roots: File | None = None
    margin: int = MARGIN
    endorsements: Sequence[File] = ()
    authorities: Sequence[File] = ()
    authority_quorum: int | None = None

    @property
    def of_order(self) -> bool:
        """Whether something of it is about the order in time."""
        return bool(self.witnesses or self.roots)

    def __bool__(self) -> bool:
        return bool(self.of_order or self.authorities)

    def check_options(self) -> None:
        """UnusableInput where something is missing that only the verifier can say."""
        alone = {
            "--receipt": (self.receipts, self.witnesses, "--witness, the keys of those whose receipts count"),
            "--witness-quorum": (self.quorum is not None, self.witnesses, "--witness"),
            "--provider": (self.provider is not None, self.witnesses, "--witness"),
            "--announcements": (self.announcements is not None, self.provider is not None, "--provider and --witness"),
            "--endorsement": (self.endorsements, self.authorities, "--authority, the keys of those who count"),
            "--authority-quorum": (self.authority_quorum is not None, self.authorities, "--authority"),
            "--timestamp": (self.stamps, self.roots is not None, "--timestamp-roots, the certificates that you trust"),
        }
        if self.margin != MARGIN:
            alone["--margin"] = (True, self.of_order, "--witness or --timestamp, which it is about")
        for name, (given, needed, what) in alone.items():
            if given and not needed:
                raise UnusableInput(f"{name} needs {what}")
        if not 0 <= self.margin <= 10**9:
            raise UnusableInput("--margin is a number of seconds from 0 on")
        if self.announcements is not None and self.announcements < 1:
            raise UnusableInput("--announcements is a number from 1 on: the one that was proved counts")


@dataclass(frozen=True)
class Found:
    """What evidence showed: `testimony` of a quorum of witnesses, and time stamps, all before the round by a margin."""

    testimony: Testimony | None = None
    stamps: tuple[Stamp, ...] = ()
    pinned: bool = False
    due: int = 0
    chain: Chain | None = None

    @property
    def earliest(self) -> int:
        """When the announcement is shown to have existed."""
        times = [stamp.latest for stamp in self.stamps]
        return min([*times, *([self.testimony.time] if self.testimony else [])])


def judge(evidence: Evidence, statement: Statement, chain: File | None) -> Found | None:
    """What the evidence shows about a statement's announcement; None without any that is about the order in time.

    chain  as of `read_beacon`.

    ProofRejected where something that is insisted on is missing or wrong, else UnusableInput.
    """
    if not evidence.of_order:
        return None
    named = statement.drand
    if named is None:
        raise ProofRejected("round", "the announcement names no round that receipts or time stamps could be older than")
    trusted = chain_of(named.chain.hex() if chain is None else chain)
    if trusted.hash != named.chain:
        raise ProofRejected("chain", f"the announcement names the drand chain {named.chain.hex()}, not {trusted.name}")
    due, digest = trusted.time(named.number), statement.announcement_digest
    testimony, stamps = None, []
    if evidence.witnesses:
        with needs_extras("checking receipts", "trust"):
            from zkcert.trust.evidence import Jury, require_quorum
            from zkcert.trust.keys import load_keys
            from zkcert.trust.witness import Receipt
        keys = load_keys(evidence.witnesses)
        jury = Jury(keys, len(keys) if evidence.quorum is None else evidence.quorum)
        provider = None if evidence.provider is None else _one_key(evidence.provider)
        receipts = [Receipt.load(path) for path in evidence.receipts]
        testimony = require_quorum(receipts, jury, digest, named, due, margin=evidence.margin, provider=provider)
        if evidence.announcements is not None and testimony.most > evidence.announcements:
            text = f"the provider had up to {testimony.most} witnessed, and you admit {evidence.announcements}"
            raise ProofRejected("announcements", f"{text}: this may be the best of several draws")
    if evidence.roots is not None:
        with needs_extras("checking time stamps", "trust"):
            from zkcert.trust.timestamp import check_stamp, load_roots
        roots = load_roots(evidence.roots)
        if not evidence.stamps:
            raise ProofRejected("time-stamp", "no time stamp is given (--timestamp)")
        for path in evidence.stamps:
            stamp = check_stamp(path, roots, digest)
            if stamp.latest + evidence.margin > due:
                text = (
                    f"{path}: its time, {time_text(stamp.latest)}, is not {span_text(evidence.margin)} before the round"
                )
                raise ProofRejected("time-stamp", f"{text}, {time_text(due)}")
            stamps.append(stamp)
    return Found(testimony, tuple(stamps), evidence.provider is not None, due, trusted)


def judge_data(evidence: Evidence, statement: Statement) -> Vouched | None:
    """Who vouches for a statement's dataset; None if nobody is asked for. Raises as `judge`."""
    if not evidence.authorities:
        return None
    with needs_extras("checking endorsements", "trust"):
        from zkcert.trust.authority import Endorsement, require_authorities
        from zkcert.trust.keys import load_keys
    keys = load_keys(evidence.authorities)
    quorum = len(keys) if evidence.authority_quorum is None else evidence.authority_quorum
    endorsements = [Endorsement.load(path) for path in evidence.endorsements]
    return require_authorities(endorsements, keys, quorum, statement.dataset)


def _one_key(path: File) -> bytes:
    """The provider's key, of a file that holds no other."""
    from zkcert.trust.keys import load_keys

    keys = load_keys([path])
    if len(keys) != 1:
        raise UnusableInput(f"{path}: holds {len(keys)} keys, where the provider has one")
    return keys[0].key
