"""Witnesses: they sign that an announcement existed at a time, and one announcement per provider, chain and round.

A provider signs a request: its announcement's digest, the round that this names, and its own key. A witness answers
with a receipt: the request's content, the time by its clock, and the count of announcements that it has witnessed for
this provider, this one included. What it has signed stands in its state, before it signs.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zkcert.errors import ProofRejected, UnusableInput
from zkcert.files.writing import write_file
from zkcert.public.kinds import RECEIPT, REQUEST
from zkcert.public.reading import File
from zkcert.public.statement import MAX_ROUND, Round, Statement
from zkcert.trust.drand import Chain
from zkcert.trust.json_files import exactly, load_json, number, octets, written
from zkcert.trust.keys import KEY_BYTES, PROVIDER, SIGNATURE_BYTES, WITNESS, SecretKey, check_signature
from zkcert.trust.points import G1, BadPoint
from zkcert.trust.times import LATEST, now, time_text

REQUEST_FORMAT, RECEIPT_FORMAT = "zkcert-request-1", "zkcert-receipt-1"
MAX_COUNT = 1 << 40


@dataclass(frozen=True)
class Announced:
    """An announcement as witnesses know it: its digest, 32 bytes, the round that it names, the provider's key."""

    digest: bytes
    round: Round
    provider: bytes

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {"announcement": self.digest.hex(), "provider": self.provider.hex(), **self.round.to_dict()}

    @staticmethod
    def read(value: Mapping[str, Any]) -> Announced:
        """Of JSON values, among others; ValueError."""
        chain, round_number = octets(value, "chain", 32), number(value, "round", 1, MAX_ROUND - 1)
        provider = octets(value, "provider", KEY_BYTES)
        return Announced(octets(value, "announcement", 32), Round(chain, round_number), provider)


_ANNOUNCED = ("announcement", "provider", "chain", "round")


@dataclass(frozen=True)
class Request:
    """What a provider asks witnesses to sign; its signature is checked by `check`."""

    announced: Announced
    signature: bytes

    def to_bytes(self) -> bytes:
        """The file."""
        return written({"format": REQUEST_FORMAT, **self.announced.to_dict(), "signature": self.signature.hex()})

    @staticmethod
    def load(path: File) -> Request:
        """UnusableInput unless it is such a file."""

        def read(value: Any) -> Request:
            _format(value, REQUEST_FORMAT, (*_ANNOUNCED, "signature"))
            return Request(Announced.read(value), octets(value, "signature", SIGNATURE_BYTES))

        return load_json(path, REQUEST, read, "take the file that the provider wrote, as it is", Request.to_bytes)

    def check(self) -> None:
        """ProofRejected ("request") unless the provider signed it."""
        try:
            G1.decode(self.announced.provider)
        except BadPoint as error:
            raise ProofRejected("request", f"the provider's key is a point {error}") from error
        fault = check_signature(self.announced.provider, PROVIDER, self.announced.to_dict(), self.signature)
        if fault:
            raise ProofRejected("request", fault)


def make_request(statement: Statement, key: SecretKey) -> Request:
    """For an announcement that names a round; UnusableInput for others."""
    if statement.drand is None:
        raise UnusableInput("the announcement names no round: witnesses sign one announcement per round (--beacon-at)")
    announced = Announced(statement.announcement_digest, statement.drand, key.public)
    return Request(announced, key.sign(PROVIDER, announced.to_dict()))


@dataclass(frozen=True)
class Seen:
    """What a witness signs. count: of the announcements that it has witnessed for the provider, from 1; time: of its
    clock."""

    announced: Announced
    witness: bytes
    count: int
    time: int

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        known = {"count": self.count, "time": self.time, "witness": self.witness.hex()}
        return {**self.announced.to_dict(), **known}

    @staticmethod
    def read(value: Mapping[str, Any]) -> Seen:
        """Of JSON values, among others; ValueError."""
        count, time = number(value, "count", 1, MAX_COUNT), number(value, "time", 0, LATEST)
        return Seen(Announced.read(value), octets(value, "witness", KEY_BYTES), count, time)


_SEEN = (*_ANNOUNCED, "count", "time", "witness")


@dataclass(frozen=True)
class Receipt:
    """What a witness has signed; the signature is checked by `fault`. name: of its file."""

    seen: Seen
    signature: bytes
    name: str = ""

    def to_bytes(self) -> bytes:
        """The file."""
        return written({"format": RECEIPT_FORMAT, **self.seen.to_dict(), "signature": self.signature.hex()})

    @staticmethod
    def load(path: File) -> Receipt:
        """UnusableInput unless it is such a file."""

        def read(value: Any) -> Receipt:
            _format(value, RECEIPT_FORMAT, (*_SEEN, "signature"))
            signature = octets(value, "signature", SIGNATURE_BYTES)
            return Receipt(Seen.read(value), signature, Path(path).name)

        return load_json(path, RECEIPT, read, "take the file that the witness wrote, as it is", Receipt.to_bytes)

    def fault(self) -> str | None:
        """What is wrong with the signature, the witness's key being one that was checked."""
        return check_signature(self.seen.witness, WITNESS, self.seen.to_dict(), self.signature)


def _format(value: Mapping[str, Any], name: str, entries: tuple[str, ...]) -> None:
    exactly(value, ("format", *entries))
    if value["format"] != name:
        raise ValueError(f"the format is not {name}")


# ---------------------------------------------------------------------------------------------------- the state


def witness(request: Request, chain: Chain, key: SecretKey, state: File) -> Receipt:
    """The receipt for a request; the same one again for the same request.

    chain  whose round the announcement names. state: a directory, made if it is missing, in which the witness keeps
    what it has signed: one for all its processes, and never set back to an earlier copy.

    Raises ProofRejected ("request": not the provider's; "round": it is out; "announcements": another announcement of
    this provider for this round has been signed), UnusableInput for a state that cannot be used.
    """
    request.check()
    announced = request.announced
    if announced.round.chain != chain.hash:
        raise UnusableInput(f"the request is about the chain {announced.round.chain.hex()}, not {chain.name}")
    place = Path(state) / key.public.hex()[:32] / announced.provider.hex()[:32]
    try:
        place.mkdir(parents=True, exist_ok=True)
        for folder in (place.parent, place.parent.parent, Path(state).absolute().parent):
            _flush(folder)
    except OSError as error:
        raise UnusableInput(f"{place}: cannot be made ({error.strerror or error})") from error
    with _locked(place):
        seen = _find_or_note(place, announced, chain, key)
    return Receipt(seen, key.sign(WITNESS, seen.to_dict()))


def _find_or_note(place: Path, announced: Announced, chain: Chain, key: SecretKey) -> Seen:
    """What is signed for a request, as it stands in the state by now."""
    known = [_noted(path) for path in sorted(place.glob("*.json"))]
    for seen in known:
        if (seen.witness, seen.announced.provider) != (key.public, announced.provider):
            raise UnusableInput(f"{place}: holds what another witness, or for another provider, has signed")
        if seen.announced.round == announced.round:
            if seen.announced == announced:
                return seen
            text = f"another announcement, {seen.announced.digest.hex()}, was witnessed for {_what(announced, chain)}"
            raise ProofRejected("announcements", f"{text} at {time_text(seen.time)}")
    time, due = now(), chain.time(announced.round.number)
    latest = max((seen.time for seen in known), default=0)
    if time < latest:
        raise UnusableInput(
            f"the clock says {time_text(time)}, before the last receipt, {time_text(latest)}: set it right"
        )
    if time >= due:
        raise ProofRejected(
            "round", f"{_what(announced, chain)} was due at {time_text(due)}: it is too late to witness it"
        )
    seen = Seen(announced, key.public, len(known) + 1, time)
    path = place / f"{chain.hash.hex()[:32]}-{announced.round.number}.json"
    write_file(path, [written({"format": RECEIPT_FORMAT, **seen.to_dict()})], RECEIPT)
    return seen


def _flush(folder: Path) -> None:
    """The names in a folder are on the disk."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(OSError):  # not every file system knows this of directories
            os.fsync(fd)
    finally:
        os.close(fd)


def _noted(path: Path) -> Seen:
    """What stands in a file of the state."""

    def read(value: Any) -> Seen:
        _format(value, RECEIPT_FORMAT, _SEEN)
        return Seen.read(value)

    def write(seen: Seen) -> bytes:
        return written({"format": RECEIPT_FORMAT, **seen.to_dict()})

    return load_json(path, RECEIPT, read, "the state is damaged; sign nothing until it is mended", write)


def _what(announced: Announced, chain: Chain) -> str:
    return f"{chain.describe(announced.round.number)} and the provider {announced.provider.hex()[:8]}..."


@contextmanager
def _locked(place: Path) -> Iterator[None]:
    """No other process is between looking and noting; UnusableInput where the file system has no locks."""
    try:
        fd = os.open(place / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise UnusableInput(f"{place}: cannot be written ({error.strerror or error})") from error
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
        except OSError as error:
            raise UnusableInput(f"{place}: cannot be locked, so it cannot hold the state of a witness") from error
        yield
    finally:
        os.close(fd)
