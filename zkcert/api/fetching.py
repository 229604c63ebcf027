"""Fetching what could as well be given as a file: a round of drand, a time stamp. Never needed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zkcert.api.beacons import is_round
from zkcert.api.certificate import announced, inspect
from zkcert.api.files import File, needs_extras
from zkcert.errors import UnusableInput
from zkcert.files.writing import check_output, write_file
from zkcert.public.kinds import PROOF, kind_of
from zkcert.trust.drand import ROUND, Signed, chain_of
from zkcert.trust.json_files import LIMIT
from zkcert.trust.times import now, span_text, time_text

KNOWN = "drand"
"""In the place of a URL: drand's own servers."""

_STAMP = "a time stamp"


@dataclass(frozen=True)
class Fetched:
    """A file, and the URL that it came from; None if it was there already."""

    path: Path
    url: str | None

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {"file": str(self.path), "url": self.url}


@contextmanager
def _tried(data: bytes) -> Iterator[Path]:
    """The bytes as a file, while the block looks whether they are what they should be."""
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "fetched"
        path.write_bytes(data)
        yield path


def fetch_round(source: File, out: File = "round.json", *, server: str = KNOWN, chain: File | None = None) -> Fetched:
    """Fetch the round of drand that an announcement names, once it is out, and store it as `out`.

    Nothing of it is trusted: `prove` and `verify` check its signature as of any file. A file that is there already is
    left as it is, and nobody is asked.

    source  the announce.json, or the proof.bin.
    server  a URL, to which /CHAIN/public/ROUND is appended; or "drand", for drand's own servers, one after the other.
    chain   the info.json of a chain that is not built in.

    Returns the file and where it came from. Raises UnusableInput.
    """
    from zkcert.trust.fetch import DRAND, ask, check_url

    if server != KNOWN:
        check_url(server)
    if not is_round(out):
        raise UnusableInput(f"--fetch stores the round in a file: give --beacon a name such as round.json, not {out}")
    if os.path.exists(out):
        return Fetched(Path(out), None)
    path = check_output(out, ROUND, inputs=(source, chain))
    named = (inspect(source).statement if kind_of(source) == PROOF else announced(source)).drand
    if named is None:
        raise UnusableInput(f"{os.fspath(source)}: names no round of drand, so there is none to fetch")
    trusted = chain_of(named.chain.hex() if chain is None else chain)
    what, due = trusted.describe(named.number), trusted.time(named.number)
    if due > now():
        raise UnusableInput(f"{what} is due at {time_text(due)}, in {span_text(due - now())}: fetch it then")
    faults = []
    for place in DRAND if server == KNOWN else (server,):
        url = f"{place.rstrip('/')}/{named.chain.hex()}/public/{named.number}"
        try:
            data = ask(url, LIMIT)
            with _tried(data) as tried:
                number = Signed.load(tried).number
        except UnusableInput as error:
            text = str(error)
            faults.append(text if text.startswith(url) else f"{url}: sends something else than a round")
            continue
        if number == named.number:
            return Fetched(write_file(path, [data], ROUND), url)
        faults.append(f"{url}: sends round {number}, not {named.number}")
    raise UnusableInput(f"{what} was not fetched: {'; '.join(faults)}")


def fetch_stamp(announcement: File, out: File = "announce.tsr", *, server: str) -> Fetched:
    """Have an announcement time-stamped (RFC 3161) by a server, by its URL, and store the answer as `out`.

    The answer is trusted by nobody: `verify` checks it as any file, under the verifier's own roots. Returns the file
    and where it came from. Raises UnusableInput, also if the answer is not about this announcement.
    """
    with needs_extras("asking for a time stamp", "trust"):
        from zkcert.trust.timestamp import ANSWER_LIMIT, is_about, request_of
    from zkcert.trust.fetch import ask

    path = check_output(out, _STAMP, inputs=(announcement,))
    digest = announced(announcement).announcement_digest
    kinds = {"Content-Type": "application/timestamp-query", "Accept": "application/timestamp-reply"}
    data = ask(server, ANSWER_LIMIT, body=request_of(digest), headers=kinds)
    if not is_about(data, digest):
        raise UnusableInput(f"{server}: sends something else than a time stamp of this announcement")
    return Fetched(write_file(path, [data], _STAMP), server)
