"""Keys, requests, receipts and time stamps, for providers, witnesses and authorities (docs/TRUST.md)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zkcert.api.certificate import announced
from zkcert.api.files import File, needs_extras, read_passphrase
from zkcert.errors import UnusableInput
from zkcert.files.writing import check_output, write_file
from zkcert.public.kinds import RECEIPT, REQUEST
from zkcert.trust.drand import chain_of
from zkcert.trust.times import time_text

if TYPE_CHECKING:
    from zkcert.trust.keys import PublicKey, SecretKey
    from zkcert.trust.witness import Receipt

_QUERY = "a query for a time stamp"


@dataclass(frozen=True)
class Keys:
    """A fresh key: the file of the secret, the file to hand out, and what that says."""

    secret: Path
    public: Path
    key: PublicKey

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {"secret": str(self.secret), "public": str(self.public), **self.key.to_dict()}


def keygen(out: File, name: str, *, passphrase: File | None = None) -> Keys:
    """Make a key: OUT.key, its owner's alone, and OUT.pub, for everybody, with a proof of possession.

    Neither file is ever replaced.

    name        of the owner, as verifiers will see it: ASCII, 64 characters at most.
    passphrase  a file with a passphrase, with which the secret is encrypted (EIP-2335).

    Raises UnusableInput.
    """
    with needs_extras("making a key", "trust"):
        from zkcert.trust.keys import make_key
    return Keys(*make_key(out, name, read_passphrase(passphrase)))


def gather(keys: Sequence[File], out: File, *, force: bool = False) -> Path:
    """Make one file of several public keys, such as those of all witnesses that count: where `verify` takes the file of
    a key it takes this one, too. Each key is checked. Returns the file. Raises UnusableInput."""
    with needs_extras("checking keys", "trust"):
        from zkcert.trust.keys import gather_keys
    return gather_keys(keys, out, force=force)


def load_signer(key: File, passphrase: File | None) -> SecretKey:
    """A secret key, and what signing needs to be installed."""
    with needs_extras("signing", "trust"):
        from zkcert.trust.keys import load_secret
    return load_secret(key, read_passphrase(passphrase))


def request(
    announcement: File, out: File = "request.json", *, key: File, passphrase: File | None = None, force: bool = False
) -> Path:
    """Ask witnesses to sign an announcement that names a round: write `out`, signed with the provider's secret key.

    Raises UnusableInput.
    """
    path = check_output(out, REQUEST, inputs=(announcement, key, passphrase), force=force)
    statement = announced(announcement)
    secret = load_signer(key, passphrase)
    from zkcert.trust.witness import make_request

    return write_file(path, [make_request(statement, secret).to_bytes()], REQUEST, force=force)


@dataclass(frozen=True)
class Witnessed:
    """A written receipt."""

    receipt: Receipt
    path: Path

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        seen = self.receipt.seen
        return {"receipt": str(self.path), **seen.to_dict(), "time": time_text(seen.time)}


def witness(
    request: File,
    out: File = "receipt.json",
    *,
    key: File,
    state: File,
    chain: File | None = None,
    passphrase: File | None = None,
    force: bool = False,
) -> Witnessed:
    """Sign that an announcement exists now: one announcement for each provider, chain and round, the same one again
    whenever it is asked for.

    request  the file of a provider's `request`.
    key      the witness's secret key.
    state    the directory in which the witness keeps what it has signed: one, never set back to an earlier copy.
    chain    the info.json of a chain that is not built in.

    Returns the receipt. Raises ProofRejected if the request is not the provider's, the round is out, or another
    announcement was signed for it; else UnusableInput.
    """
    path = check_output(out, RECEIPT, inputs=(request, key, chain, passphrase), force=force)
    if not os.fspath(state):
        raise UnusableInput("an empty name is given for the state: an unset variable?")
    secret = load_signer(key, passphrase)
    from zkcert.trust.witness import Request
    from zkcert.trust.witness import witness as sign

    asked = Request.load(request)
    trusted = chain_of(asked.announced.round.chain.hex() if chain is None else chain)
    receipt = sign(asked, trusted, secret, state)
    return Witnessed(receipt, write_file(path, [receipt.to_bytes()], RECEIPT, force=force))


def stamp_query(announcement: File, out: File = "announce.tsq") -> Path:
    """Write a query for a time stamp of an announcement's digest, to be sent to an authority. UnusableInput.

    The answer, announce.tsr, is what `verify` takes. A query is never replaced.
    """
    path = check_output(out, _QUERY, inputs=(announcement,))
    digest = announced(announcement).announcement_digest
    with needs_extras("asking for a time stamp", "trust"):
        from zkcert.trust.timestamp import request_of
    return write_file(path, [request_of(digest)], _QUERY)
