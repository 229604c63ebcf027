"""Writing outputs, which replace nothing that they should not, and appear complete or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from zkcert.errors import UnusableInput
from zkcert.public.kinds import SECRET, Name, kind_of

from .drafts import Draft, remove_dead
from .signals import held

Piece = bytes | bytearray | memoryview


class NotWritten(UnusableInput):
    """An output cannot be written: the disk is full, or a file has appeared that it may not replace.

    kept: where it has been written instead (a Path), or None.
    """

    def __init__(self, text: str, kept: Path | None = None) -> None:
        self.kept = kept
        super().__init__(text)


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
    secret file of a commitment cannot be made again, so it is refused always. Raises UnusableInput. What a process that
    died left of such an output is removed.
    """
    out = Path(path)
    if out.is_dir():
        raise UnusableInput(f"{out} is a directory: give the name of a file")
    if not out.parent.is_dir():
        raise UnusableInput(f"{out}: not a file in an existing directory")
    remove_dead(out)
    if not out.exists():
        if out.is_symlink():
            raise UnusableInput(f"{out} is a link to a file that does not exist: choose another name")
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


finished: list[Path] = []
"""The outputs written so far, for saying what an interrupted command leaves."""


class Output(Draft):
    """A draft of one of zkcert's files, which `publish` puts where `check_output` allows it, as things are then.

    secret  readable by its owner only.

    Errors are UnusableInput, and those of writing NotWritten, also from the block of a `with`.
    """

    def __init__(self, path: Name, kind: str, *, force: bool = False, secret: bool = False) -> None:
        self.kind, self.force = kind, force
        out = check_output(path, kind, force=force)
        with writing(out):
            super().__init__(out, 0o600 if secret else 0o666)

    def publish(self, *, replace: bool = False) -> None:
        """Give it its name; it replaces a file of the same kind with `force` only, and no data.zkd."""
        with writing(self.path), held():
            try:
                super().publish()
            except FileExistsError:
                if not self.force:
                    raise
                check_output(self.path, self.kind, force=True)
                super().publish(replace=True)
            finished.append(self.path)

    def withdraw(self) -> None:
        with held():
            super().withdraw()
            if self.path in finished:
                finished.remove(self.path)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Errors of the operating system, as NotWritten."""
    try:
        yield
    except FileExistsError as error:
        raise NotWritten(f"{path} exists by now, and is not replaced: choose another name") from error
    except OSError as error:
        raise NotWritten(f"{path}: cannot be written ({error.strerror or error})") from error


@contextmanager
def output(path: Name, kind: str, *, force: bool = False, secret: bool = False) -> Iterator[BinaryIO]:
    """The file of an `Output` that is published if the block succeeds, and otherwise vanishes. Raises UnusableInput."""
    with Output(path, kind, force=force, secret=secret) as draft, writing(draft.path):
        yield draft.file
        draft.publish()


def write_file(path: Name, pieces: Iterable[Piece], kind: str, *, force: bool = False, secret: bool = False) -> Path:
    """Write the pieces, one after the other, as an output of that kind (see `output`); the path."""
    with output(path, kind, force=force, secret=secret) as file:
        for piece in pieces:
            file.write(piece)
    return Path(path)


@contextmanager
def replacing(path: Path, mode: int) -> Iterator[BinaryIO]:
    """A new file that takes the place of path, whatever that is, if the block succeeds, and vanishes otherwise: for
    files whose names are the program's own. The secret file of a commitment is replaced by none. Raises UnusableInput.
    """
    if path.is_file() and kind_of(path) == SECRET:
        raise UnusableInput(f"{path} is the secret file of a commitment: choose another name")
    with writing(path), Draft(path, mode) as draft:
        yield draft.file
        draft.publish(replace=True)


def replace_file(path: Path, content: bytes, mode: int = 0o666) -> None:
    """Write a file as `replacing` does."""
    with replacing(path, mode) as file:
        file.write(content)


def keep_file(path: Name, pieces: Callable[[], Iterable[Piece]], kind: str, *, force: bool = False) -> Path:
    """`write_file` for what took long to make. If it cannot be written there it is written elsewhere, for its owner
    alone: beside it under a name that is free, in the current directory, or in the one for temporary files; then the
    NotWritten says where, in its attribute `kept`, too."""
    out = Path(path)
    try:
        return write_file(out, pieces(), kind, force=force)
    except UnusableInput as error:
        for place in dict.fromkeys((out.parent, Path(), Path(tempfile.gettempdir()))):
            other = place / f"{out.stem}.{secrets.token_hex(4)}{out.suffix}"
            try:
                write_file(other, pieces(), kind, secret=True)
            except UnusableInput:
                continue
            raise NotWritten(f"{error}; {kind} is kept as {other.absolute()}", other) from error
        raise


def require_space(path: Name, size: int) -> None:
    """NotWritten unless about `size` bytes can be written where path is, or will be; to be called before the work."""
    place = Path(path).absolute()
    while not place.is_dir() and place != place.parent:
        place = place.parent
    with suppress(OSError):  # nobody knows
        usage = shutil.disk_usage(place)
        if usage.total and usage.free < size:
            raise NotWritten(f"{path} will take {size / 1e6:.1f} MB, {usage.free / 1e6:.1f} MB of the disk are free")
