"""Which of zkcert's files a file is, by its content: for telling somebody who mixed them up, and for keeping outputs
from replacing what they should not."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from zkcert.core.container import MAGIC
from zkcert.errors import MalformedProof, UnusableInput
from zkcert.reading import read_file, read_head

MODEL = "a model file"
PROOF = "a proof"
SECRET = "the secret file of a commitment (data.zkd)"
ROOT = "the public file of a commitment (data.root)"
ANNOUNCEMENT = "an announcement"
CALIBRATION = "a calibration"
SAMPLES = "a dataset"
PICTURE = "a plot"

PLOT_MARK = "zkcert plot"
"""What a figure's metadata say; other pictures are not ours to replace."""

CALIBRATION_FORMAT = "zkcert-calibration-1"
_HEAD = 4096
_PLOT_LIMIT = 64 << 20
_JSON_LIMIT = 17 << 20  # a calibration has at most 16 MiB


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
    kinds = {"zkcert-root-1": ROOT, "zkcert-announcement-1": ANNOUNCEMENT, CALIBRATION_FORMAT: CALIBRATION}
    return kinds.get(value.get("format"))


@contextmanager
def expecting(path: str | os.PathLike[str], wanted: str) -> Iterator[None]:
    """If the block refuses a file that is recognisably of another kind, the error says so."""
    try:
        yield
    except (UnusableInput, MalformedProof) as error:
        found = kind_of(path)
        if found is None or found == wanted:
            raise
        kind = MalformedProof if isinstance(error, MalformedProof) else UnusableInput
        raise kind(f"{os.fspath(path)} is {found}, where {wanted} is expected: see --help for the order") from error


def _names(inputs: Iterable[object]) -> Iterator[str]:
    for entry in inputs:
        if isinstance(entry, str | os.PathLike):
            text = os.fspath(entry)
            yield from (text, *text.split(","), *text.rpartition("@")[::2])
        elif isinstance(entry, list | tuple):
            yield from _names(entry)


def check_output(
    path: str | os.PathLike[str],
    kind: str,
    *,
    inputs: Iterable[object] = (),
    force: bool = False,
) -> Path:
    """The path, if an output of that kind may be written there; to be called before the work begins.

    Refused are directories, what is no file, the command's `inputs` (those of them that are names of files, or two with
    a comma between, or several), and existing files: of another kind always, of the same kind unless `force`. The
    secret file of a commitment cannot be made again, so it is refused always. Raises UnusableInput.
    """
    out = Path(path)
    if out.is_dir():
        raise UnusableInput(f"{out} is a directory: give the name of a file")
    if not out.parent.is_dir():
        raise UnusableInput(f"{out}: not a file in an existing directory")
    if not out.exists():
        return out
    if not out.is_file():
        raise UnusableInput(f"{out} is not a regular file: choose another name")
    if any(os.path.exists(name) and out.samefile(name) for name in _names(inputs)):
        raise UnusableInput(f"{out} is an input of this command: choose another name for the output")
    found = kind_of(out)
    if found == kind == SECRET:
        raise UnusableInput(
            f"{out} exists, and a secret file is never replaced: nothing could be proved about its root any more; "
            "choose another name, or remove it yourself"
        )
    if found != kind:
        what = "is" if found is None else f"is {found},"
        raise UnusableInput(f"{out} exists and {what} not {kind}: choose another name")
    if not force:
        raise UnusableInput(f"{out} exists ({kind}): choose another name, or --force to replace it")
    return out
