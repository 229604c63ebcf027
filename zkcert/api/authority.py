"""Vouching for a dataset: sign, join, and compare the data with the commitment (docs/TRUST.md)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zkcert.api.files import File, expecting_samples, load_root, needs_extras, open_dataset
from zkcert.api.trust import load_signer
from zkcert.core.merkle import U8Array
from zkcert.core.tree import MerkleTree
from zkcert.data import coding
from zkcert.data.dataset import load_dataset
from zkcert.errors import ProofRejected, UnusableInput
from zkcert.files.writing import check_output, write_file
from zkcert.public.kinds import ENDORSEMENT
from zkcert.public.root import TREE_NAME, DatasetRoot, leaf_digests

if TYPE_CHECKING:
    from zkcert.trust.authority import Endorsement

_CHUNK = 2048  # samples hashed at a time


@dataclass(frozen=True)
class Endorsed:
    """A written endorsement."""

    endorsement: Endorsement
    path: Path

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        keys = [key.hex() for key in self.endorsement.keys]
        return {"endorsement": str(self.path), **self.endorsement.content, "keys": keys}


def endorse(
    data_root: File,
    out: File = "endorsement.json",
    *,
    key: File,
    text: str,
    licence: str,
    day: str | None = None,
    passphrase: File | None = None,
    force: bool = False,
) -> Endorsed:
    """Vouch for a dataset: sign its commitment (data.root), and what you say about it.

    Nothing is checked: compare the data first, with `recompute`.

    key      the authority's secret key.
    text     what you vouch for: where the data come from, how they were labelled. ASCII.
    licence  of the data. day: "YYYY-MM-DD"; None: today, in UTC.

    Raises UnusableInput.
    """
    path = check_output(out, ENDORSEMENT, inputs=(data_root, key, passphrase), force=force)
    root, secret = load_root(data_root), load_signer(key, passphrase)
    from zkcert.trust.authority import About
    from zkcert.trust.authority import endorse as sign

    try:
        about = About(text, licence, f"{datetime.now(UTC):%Y-%m-%d}" if day is None else day)
    except ValueError as error:
        raise UnusableInput(str(error)) from error
    made = sign(root, about, secret)
    return Endorsed(made, write_file(path, [made.to_bytes()], ENDORSEMENT, force=force))


def join(
    endorsements: Sequence[File], out: File = "endorsement.json", *, authorities: Sequence[File], force: bool = False
) -> Endorsed:
    """Make one endorsement of several that say the same about the same dataset: their signatures are added up.

    authorities  the public keys of those who signed them; each is checked first, so that a bad one is named.

    Raises ProofRejected for a bad one, UnusableInput.
    """
    path = check_output(out, ENDORSEMENT, inputs=(list(endorsements), list(authorities)), force=force)
    if len(endorsements) < 2:
        raise UnusableInput("one endorsement alone needs no joining: give two or more")
    with needs_extras("checking endorsements", "trust"):
        from zkcert.trust.authority import Endorsement
        from zkcert.trust.authority import join as add
        from zkcert.trust.keys import load_keys
    made = add([Endorsement.load(each) for each in endorsements], load_keys(authorities))
    return Endorsed(made, write_file(path, [made.to_bytes()], ENDORSEMENT, force=force))


def recompute(
    data: File | Sequence[File],
    secret: File,
    data_root: File,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> DatasetRoot:
    """Compare data that an authority holds with a commitment: the samples of data.zkd are those of `data`, in some
    order, and data.root is computed from them anew.

    data      as for `commit`. secret: the data.zkd, of whoever made the commitment.
    progress  called with (samples done, samples).

    Returns the root. Raises ProofRejected ("data", "data-root") if they differ, UnusableInput.
    """
    wanted, committed = load_root(data_root), open_dataset(secret)
    if committed.root != wanted:
        raise ProofRejected(
            "data-root", f"{secret} is the commitment to another root, N or schema than {data_root} says"
        )
    with expecting_samples(data):
        given = load_dataset(data, context=wanted.schema.shape[2] if wanted.schema.kind == "tokens" else None)
    schema, n = wanted.schema, wanted.n
    if given.kind != schema.kind or given.x.shape[1:] != schema.shape:
        raise ProofRejected("data", f"the data are {given.kind} {given.x.shape[1:]}, not {schema.kind} {schema.shape}")
    if len(given) != n:
        raise ProofRejected("data", f"the data are {len(given)} samples, the commitment has {n}")
    if given.largest >= schema.classes:
        raise ProofRejected("data", f"a label of the data is none of the {schema.classes} classes")
    leaves = np.empty((n, 32), np.uint8)
    inside: list[bytes] = []
    for rows in _chunks(n):
        leaves[rows.start : rows.stop] = leaf_digests(rows, committed.sample_hashes(rows))
        inside += _digests(committed.sample_bytes(rows))
        if progress:
            progress(rows.stop, n)
    if MerkleTree(leaves, TREE_NAME).root != wanted.root:
        raise ProofRejected("data-root", f"the root of the samples of {secret} is not that of {data_root}")
    outside: list[bytes] = []
    for rows in _chunks(n):
        taken = slice(rows.start, rows.stop)
        outside += _digests(coding.encode(schema, given.x[taken], given.y[taken]))
    if sorted(inside) != sorted(outside):
        missing = len(set(inside) - set(outside))
        raise ProofRejected(
            "data", f"{missing or 'some'} of the committed samples are not among the data, or not as often"
        )
    return wanted


def _chunks(n: int) -> Iterator[range]:
    return (range(start, min(start + _CHUNK, n)) for start in range(0, n, _CHUNK))


def _digests(samples: U8Array) -> list[bytes]:
    return [sha256(row.tobytes()).digest() for row in samples]
