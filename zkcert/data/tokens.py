"""Windows of tokens: of a stream of integers, of rows of them, or of a text with a vocabulary."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from zkcert.data.memory import array, is_in_memory
from zkcert.data.npz import NPY_MAGIC, read_npy
from zkcert.errors import UnusableInput
from zkcert.public.kinds import read_head
from zkcert.public.reading import opened, read_file
from zkcert.public.root import MAX_CLASSES, NAME, check_names

MAX_CONTEXT = 1 << 16
MAX_TEXT_BYTES = 1 << 30
MAX_CHARACTERS = 1023
"""Different characters of a text: a model has no more tokens."""

_MAX_NPY_BYTES = 1 << 38
_MAX_VOCABULARY_BYTES = 1 << 16
_PIECE = 1 << 22  # characters looked up at a time

Tokens = npt.NDArray[np.uint16]


@dataclass(frozen=True)
class Windows:
    """How tokens become samples: windows of `context` tokens, each with the token behind it.

    stride      how far the next window is; None: context, so that every token is asked for once.
    vocabulary  of a text: "characters" (those that occur, sorted), "bytes" (of its UTF-8, 256), or the name of a JSON
                file that lists the characters in their order.
    """

    context: int
    stride: int | None = None
    vocabulary: str | None = None

    def __post_init__(self) -> None:
        for what, value in (("context", self.context), ("stride", self.stride)):
            if value is not None and (type(value) is not int or not 1 <= value <= MAX_CONTEXT):
                raise UnusableInput(f"the {what} must be an integer from 1 to {MAX_CONTEXT}, not {ascii(value)[:40]}")

    @property
    def step(self) -> int:
        """From one window to the next."""
        return self.context if self.stride is None else self.stride


@dataclass(frozen=True, eq=False)
class Read:
    """Windows (n, L + 1); how many different tokens there are, if that is known, and what they are called."""

    windows: Tokens
    count: int | None
    names: tuple[str, ...]
    notes: tuple[str, ...]


def read_tokens(source: Any, how: Windows, wanted: Sequence[str] | None) -> tuple[Read, str]:
    """What a source holds, and its name: a .npy file of integers (a stream, or rows of L + 1), a text, or such an array
    in memory. wanted: names of the tokens, which are recorded; empty: none are. Raises UnusableInput."""
    if is_in_memory(source):
        name = type(source).__name__
        with_name = [name]
    else:
        with_name = [os.fspath(s) for s in ([source] if isinstance(source, str | os.PathLike) else source)]
        name = ",".join(with_name)
    try:
        if len(with_name) != 1:
            raise ValueError("windows of tokens are read of one file")
        if is_in_memory(source):
            return _of_integers(array(source), how, wanted), name
        path = with_name[0]
        if os.path.isdir(path):
            raise ValueError("is a directory; windows of tokens are read of a .npy file of integers or a text (.txt)")
        if read_head(path, 6) == NPY_MAGIC:
            with opened(path, _MAX_NPY_BYTES) as (file, size):
                return _of_integers(read_npy(file, size), how, wanted), name
        if not path.lower().endswith(".txt"):
            raise ValueError("windows of tokens are read of a .npy file of integers or a text (.txt)")
        return _of_text(read_file(path, MAX_TEXT_BYTES), how, wanted), name
    except ValueError as error:
        raise UnusableInput(f"{name}: {error}") from error


def _of_integers(tokens: npt.NDArray[Any], how: Windows, wanted: Sequence[str] | None) -> Read:
    if how.vocabulary is not None:
        raise ValueError("tokens that are numbers need no vocabulary: leave it out")
    if tokens.dtype.kind not in "iu" or tokens.ndim not in (1, 2):
        raise ValueError(
            f"holds {tokens.dtype} of shape {tokens.shape}; tokens are integers, one stream of them (N,) or rows "
            f"(N, {how.context + 1})"
        )
    if not tokens.size:
        raise ValueError("holds no tokens")
    low, high = int(tokens.min()), int(tokens.max())
    if low < 0 or high >= MAX_CLASSES:
        raise ValueError(f"tokens span {low} to {high}; expected 0 to {MAX_CLASSES - 1} at most")
    names = check_names(list(wanted), len(wanted)) if wanted else ()
    if names and high >= len(names):
        raise ValueError(f"there is a token {high}, but only {len(names)} names are given")
    if tokens.ndim == 2:
        if tokens.shape[1] != how.context + 1 or how.stride is not None:
            raise ValueError(
                f"rows of {tokens.shape[1]} tokens are windows with a context of {tokens.shape[1] - 1} and no stride"
            )
        return Read(tokens.astype(np.uint16), len(names) or None, names, ())
    windows, notes = _windows(tokens.astype(np.uint16), how)
    return Read(windows, len(names) or None, names, notes)


def _windows(stream: Tokens, how: Windows) -> tuple[Tokens, tuple[str, ...]]:
    """(n, L + 1), which share the stream's memory; and what of it is in none."""
    length = how.context + 1
    if len(stream) < length:
        raise ValueError(f"{len(stream)} tokens make no window of {how.context} and the one behind")
    windows = np.lib.stride_tricks.sliding_window_view(stream, length)[:: how.step]
    left = len(stream) - ((len(windows) - 1) * how.step + length)
    notes: tuple[str, ...] = (
        (f"the last {left} of {len(stream)} tokens make no window, and are left out",) if left else ()
    )
    skipped = how.step - how.context
    if skipped > 0:
        notes += (f"a stride of {how.step} leaves {skipped} tokens out between a window and the next",)
    return windows, notes


def _of_text(data: bytes, how: Windows, wanted: Sequence[str] | None) -> Read:
    kind = how.vocabulary
    if kind is None:
        raise ValueError(
            "a text needs a vocabulary: characters (those that occur), bytes, or a JSON file that lists characters "
            "(--vocabulary)"
        )
    if not data:
        raise ValueError("holds no text")
    if kind == "bytes":
        windows, notes = _windows(np.frombuffer(data, np.uint8).astype(np.uint16), how)
        return Read(windows, 256, (), notes)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"is no UTF-8 text (at byte {error.start}); --vocabulary bytes takes any") from error
    marked = text.startswith("\ufeff")
    points = np.frombuffer(text.removeprefix("\ufeff").encode("utf-32-le"), "<u4")
    if not len(points):
        raise ValueError("holds no text")
    known = points_of(kind) if kind != "characters" else None
    present = np.unique(points)
    if known is None and len(present) > MAX_CHARACTERS:
        raise ValueError(
            f"has {len(present)} different characters, and a model at most {MAX_CHARACTERS} tokens: --vocabulary bytes"
        )
    vocabulary = present if known is None else known
    order = np.argsort(vocabulary)
    if len(strange := np.setdiff1d(present, vocabulary)):
        shown = ", ".join(ascii(chr(c)) for c in strange[:5])
        raise ValueError(f"has {len(strange)} characters that are not in the vocabulary: {shown}")
    if len(vocabulary) < 2:
        raise ValueError("has one character only; a vocabulary has two or more")
    stream = np.empty(len(points), np.uint16)
    for start in range(0, len(points), _PIECE):
        part = slice(start, start + _PIECE)
        stream[part] = order[np.searchsorted(vocabulary, points[part], sorter=order)]
    windows, notes = _windows(stream, how)
    notes += ("the byte order mark at its beginning is left out",) * marked
    names = () if wanted is not None and not wanted else tuple(name_of(chr(c)) for c in vocabulary.tolist())
    if wanted:
        raise ValueError("the characters of a text are the names of its tokens: leave --names out, or give --names ''")
    return Read(windows, len(vocabulary), check_names(list(names), len(names)) if names else (), notes)


def points_of(path: str) -> npt.NDArray[np.uint32]:
    """The characters that a JSON file lists, by their numbers."""
    try:
        characters = json.loads(read_file(path, _MAX_VOCABULARY_BYTES))
    except (ValueError, RecursionError):
        characters = None
    if (
        not isinstance(characters, list)
        or not 2 <= len(characters) <= MAX_CHARACTERS
        or not all(isinstance(c, str) and len(c) == 1 and not 0xD800 <= ord(c) <= 0xDFFF for c in characters)
        or len(set(characters)) != len(characters)
    ):
        raise ValueError(
            f"{path}: a vocabulary is characters, bytes, or a JSON list of 2 to {MAX_CHARACTERS} different characters"
        )
    return np.array([ord(c) for c in characters], np.uint32)


def name_of(character: str) -> str:
    """What a character is called where names have no blanks: itself, or as \\u0020."""
    return character if NAME.fullmatch(character) and character != "\\" else f"\\u{ord(character):04x}"
