"""Which of zkcert's files a file is, by its content, for telling somebody who mixed them up."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager

from zkcert.core.container import MAGIC
from zkcert.errors import MalformedProof, UnusableInput, ZkcertError
from zkcert.public.reading import File, opened, read_file

Name = str | os.PathLike[str]
MODEL = "a model file"
PROOF = "a proof"
SECRET = "the secret file of a commitment (data.zkd)"
ROOT = "the public file of a commitment (data.root)"
ANNOUNCEMENT = "an announcement"
CALIBRATION = "a calibration"
KEYS, REQUEST, RECEIPT = "public keys", "a request to witnesses", "a witness's receipt"
ENDORSEMENT = "an endorsement of a dataset"
SAMPLES, REPORT = "a dataset", "a report"
PICTURE = "a plot"
PLOT_MARK = "zkcert plot"
"""What a figure's metadata say; other pictures are not ours to replace."""
CALIBRATION_FORMAT = "zkcert-calibration-1"
_FORMATS = {
    "zkcert-root-1": ROOT,
    CALIBRATION_FORMAT: CALIBRATION,
    "zkcert-keys-1": KEYS,
    "zkcert-request-1": REQUEST,
    "zkcert-receipt-1": RECEIPT,
    "zkcert-endorsement-1": ENDORSEMENT,
}
_HEAD = 4096
_PLOT_LIMIT = 64 << 20
_JSON_LIMIT = 5 << 20  # a calibration has at most 4 MiB


def read_head(path: File, count: int) -> bytes:
    """The first `count` bytes of a file, fewer if it is shorter. Raises as `opened`."""
    with opened(path) as (file, _):
        return file.read(count) or b""


def kind_of(path: str | os.PathLike[str]) -> str | None:
    """One of the kinds above; None if the file is none of them, or cannot be read."""
    try:
        if os.path.isdir(path):
            names = set(os.listdir(path))
            known = any(n.startswith(("data_batch_", "train-images")) for n in names)
            return SAMPLES if known or os.path.isfile(os.path.join(path, "train")) else None
        head = read_head(path, _HEAD)
        if head.startswith(MAGIC[:12]):
            return PROOF
        if head.startswith(b"zkcert-d"):
            return SECRET
        if head.startswith(b"PK\3\4"):
            length = int.from_bytes(head[26:28], "little")  # of the first file's name
            first = head[30 : 30 + length]
            return SAMPLES if first.endswith(b".npy") else MODEL if first.endswith(b"/data.pkl") else None
        if b'"zkcert.graph"' in head:
            return MODEL
        if b'content="zkcert report"' in head:
            return REPORT
        if head.startswith(b"{"):
            return _json_kind(path)
        if head[:2] == b"\0\0" and head[3:4] in (b"\1", b"\3", b"\4"):
            return SAMPLES
        if head.startswith((b"\x89PNG\r\n", b"%PDF-", b"<?xml")):
            return PICTURE if PLOT_MARK.encode() in read_file(path, _PLOT_LIMIT) else None
    except Exception:  # a hostile file; what it is stays unknown
        pass
    return None


def _json_kind(path: str | os.PathLike[str]) -> str | None:
    value = json.loads(read_file(path, _JSON_LIMIT))
    name = value.get("format")
    if str(name).startswith("zkcert-announcement-"):  # of any version
        return ANNOUNCEMENT
    return _FORMATS.get(name)


def _told(path: Name, found: str, wanted: str) -> str:
    return f"{os.fspath(path)} is {found}, where {wanted} is expected: see --help for the order"


@contextmanager
def expecting_all(proof: Name, *wanted: tuple[Name | None, str]) -> Iterator[None]:
    """If the block refuses its input, and one of its files is recognisably of another kind, the error says so; it
    names the proof if its bytes are refused."""
    try:
        with expecting(proof, PROOF, errors=MalformedProof):
            yield
    except UnusableInput as error:
        for path, kind in (*wanted, (proof, PROOF)):
            if path is not None and (found := kind_of(path)) not in (None, kind):
                raise UnusableInput(_told(path, str(found), kind)) from error
        raise


@contextmanager
def expecting(
    path: Name, wanted: str, errors: type[ZkcertError] | tuple[type[ZkcertError], ...] = (UnusableInput, MalformedProof)
) -> Iterator[None]:
    """If the block refuses a file that is recognisably of another kind, the error says so; that of a proof names it."""
    try:
        yield
    except errors as error:
        found = kind_of(path)
        if found is None or found == wanted:
            if isinstance(error, MalformedProof):
                raise MalformedProof(f"{os.fspath(path)}: {error}", error.section, error.offset) from error
            raise
        kind = MalformedProof if isinstance(error, MalformedProof) else UnusableInput
        raise kind(_told(path, found, wanted)) from error
