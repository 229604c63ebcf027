"""Authorities vouch for a dataset: they sign its commitment, and what they say about it.

Several may say the same; their signatures, of one content, can be added up.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from zkcert.errors import ProofRejected, UnusableInput
from zkcert.public.kinds import ENDORSEMENT
from zkcert.public.reading import File
from zkcert.public.root import MAX_SAMPLES, DatasetRoot, Schema
from zkcert.trust.json_files import exactly, load_json, number, octets, printable, written
from zkcert.trust.keys import (
    AUTHORITY,
    KEY_BYTES,
    MAX_KEYS,
    SIGNATURE_BYTES,
    PublicKey,
    SecretKey,
    add_signatures,
    check_total,
)

FORMAT = "zkcert-endorsement-1"
MAX_TEXT, MAX_LICENCE = 4000, 200
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.A)


@dataclass(frozen=True)
class About:
    """What is said about a dataset: a text, the licence, and the day, YYYY-MM-DD. ValueError for odd ones."""

    text: str
    licence: str
    day: str

    def __post_init__(self) -> None:
        printable({"text": self.text}, "text", MAX_TEXT)
        printable({"licence": self.licence}, "licence", MAX_LICENCE)
        if not isinstance(self.day, str) or not _DATE.fullmatch(self.day):
            raise ValueError("the date is not of the form 2026-12-01")
        date.fromisoformat(self.day)

    def to_dict(self) -> dict[str, str]:
        """JSON values."""
        return {"date": self.day, "licence": self.licence, "text": self.text}

    def __str__(self) -> str:
        return f'"{" ".join(self.text.split())}" (licence: {self.licence}; {self.day})'


@dataclass(frozen=True)
class Endorsement:
    """A dataset, what is said about it, the keys of those who say it, and the sum of their signatures; name: of its
    file."""

    dataset: DatasetRoot
    about: About
    keys: tuple[bytes, ...]
    signature: bytes
    name: str = ""

    @property
    def content(self) -> dict[str, Any]:
        """What each of them signs."""
        return {"about": self.about.to_dict(), "dataset": _dataset(self.dataset)}

    def to_bytes(self) -> bytes:
        """The file."""
        signed = {"keys": [key.hex() for key in self.keys], "signature": self.signature.hex()}
        return written({"format": FORMAT, **self.content, **signed})

    @staticmethod
    def load(path: File) -> Endorsement:
        """UnusableInput unless it is such a file."""

        def read(value: Any) -> Endorsement:
            exactly(value, ("about", "dataset", "format", "keys", "signature"))
            if value["format"] != FORMAT:
                raise ValueError(f"the format is not {FORMAT}")
            exactly(value["about"], ("date", "licence", "text"))
            about = About(*(value["about"][name] for name in ("text", "licence", "date")))
            if not isinstance(value["keys"], list) or not 1 <= len(value["keys"]) <= MAX_KEYS:
                raise ValueError(f"it has no list of 1 to {MAX_KEYS} keys")
            keys = tuple(octets({"key": key}, "key", KEY_BYTES) for key in value["keys"])
            if list(keys) != sorted(set(keys)):
                raise ValueError("its keys are not sorted, or one comes twice")
            signature = octets(value, "signature", SIGNATURE_BYTES)
            return Endorsement(_root(value["dataset"]), about, keys, signature, Path(path).name)

        return load_json(
            path, ENDORSEMENT, read, "take the file that the authority wrote, as it is", Endorsement.to_bytes
        )

    def fault(self, known: Mapping[bytes, PublicKey]) -> str | None:
        """What is wrong with it; None if all its keys are known and have signed it."""
        for key in self.keys:
            if key not in known:
                return f"the key {key.hex()[:8]}... is not among the authorities that count"
        return check_total(self.keys, AUTHORITY, self.content, self.signature)


def _dataset(root: DatasetRoot) -> dict[str, Any]:
    return {"N": root.n, "root": root.root.hex(), "schema": root.schema.to_dict()}


def _root(value: Any) -> DatasetRoot:
    exactly(value, ("N", "root", "schema"))
    return DatasetRoot(octets(value, "root", 32), number(value, "N", 1, MAX_SAMPLES), Schema.from_dict(value["schema"]))


def endorse(root: DatasetRoot, about: About, key: SecretKey) -> Endorsement:
    """Sign it."""
    unsigned = Endorsement(root, about, (key.public,), b"")
    return Endorsement(root, about, (key.public,), key.sign(AUTHORITY, unsigned.content))


def join(endorsements: Sequence[Endorsement], authorities: Sequence[PublicKey]) -> Endorsement:
    """One endorsement of several that say the same, each of which is checked first, so that a bad one is named.

    ProofRejected ("authorities"), UnusableInput.
    """
    known = {key.key: key for key in authorities}
    first, *_ = endorsements
    keys: list[bytes] = []
    for each in endorsements:
        if each.content != first.content:
            raise UnusableInput(f"{each.name} says something else than {first.name}, so they cannot be joined")
        if set(keys) & set(each.keys):
            raise UnusableInput(f"{each.name}: an authority of it has signed another of these files as well")
        if (fault := each.fault(known)) is not None:
            raise ProofRejected("authorities", f"{each.name}: {fault}")
        keys += each.keys
    signature = add_signatures(each.signature for each in endorsements)
    return Endorsement(first.dataset, first.about, tuple(sorted(keys)), signature)


@dataclass(frozen=True)
class Vouched:
    """What authorities say about a dataset: each text, with the names of those who say it."""

    said: tuple[tuple[About, tuple[str, ...]], ...]
    quorum: int
    known: int

    def __str__(self) -> str:
        told = "; ".join(f"{', '.join(names)}: {about}" for about, names in self.said)
        return f"{told} ({self.quorum} of {self.known} authorities wanted)"


def require_authorities(
    endorsements: Sequence[Endorsement], authorities: Sequence[PublicKey], quorum: int, dataset: DatasetRoot
) -> Vouched:
    """What so many of the authorities, at least, say about the dataset; ProofRejected ("authorities") if they do not.

    The text says why an endorsement does not count. UnusableInput for an impossible quorum.
    """
    if not 1 <= quorum <= len(authorities):
        raise UnusableInput(f"{quorum} of {len(authorities)} authorities: give a number from 1 to {len(authorities)}")
    known = {key.key: key for key in authorities}
    counted: set[bytes] = set()
    said, faults = [], []
    for each in endorsements:
        fault = each.fault(known) if each.dataset == dataset else "it is about another dataset"
        if fault is None:
            counted |= set(each.keys)
            said.append((each.about, tuple(known[key].name for key in each.keys)))
        else:
            faults.append(f"{each.name}: {fault}")
    if len(counted) < quorum:
        reasons = "".join(f"; {fault}" for fault in faults)
        text = f"{len(counted)} of {len(known)} authorities vouch for the dataset, {quorum} are wanted{reasons}"
        raise ProofRejected("authorities", text)
    return Vouched(tuple(said), quorum, len(known))
