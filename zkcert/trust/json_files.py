"""JSON that others made: small, without repeated keys, with exactly the entries that are known."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from zkcert.errors import UnusableInput
from zkcert.public.kinds import expecting
from zkcert.public.reading import File, read_file
from zkcert.public.strict_json import as_written, parse

T = TypeVar("T")
LIMIT = 1 << 16
"""Bytes of a file."""

_HEX = re.compile("([0-9a-f]{2})+", re.A)
_TEXT = re.compile(r"[ -~]+(\n[ -~]+)*", re.A)


def load_json(
    path: File, kind: str, read: Callable[[Any], T], advice: str, write: Callable[[T], bytes] | None = None
) -> T:
    """What `read` makes of the JSON object in a file; UnusableInput, which names the file, if it raises.

    write  gives the bytes of what was read: others are refused.
    """
    with expecting(path, kind):
        data = read_file(path, LIMIT)

        def entries(value: Any) -> T:
            if not isinstance(value, dict):
                raise ValueError("it is no JSON object")
            return read(value)

        try:
            return entries(parse(data)) if write is None else as_written(data, entries, write)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            why = str(error) if isinstance(error, ValueError) else "its values are of other types"
            raise UnusableInput(f"{os.fspath(path)}: not {kind} ({why}); {advice}") from error


def written(value: Mapping[str, object]) -> bytes:
    """The one form in which zkcert writes a JSON file."""
    return (json.dumps(value, sort_keys=True, indent=1) + "\n").encode()


def exactly(value: Mapping[str, object], wanted: tuple[str, ...], allowed: tuple[str, ...] = ()) -> None:
    """ValueError unless an object has the wanted keys, and others of `allowed` only."""
    for name in wanted:
        if name not in value:
            raise ValueError(f"{name} is missing")
    for name in value:
        if name not in (*wanted, *allowed):
            raise ValueError(f"{name[:40]!r} has no place in it")


def octets(value: Mapping[str, object], name: str, size: int | None = None) -> bytes:
    """An entry in lower-case hexadecimal: at least one byte, or just `size`. ValueError."""
    text = value[name]
    if not isinstance(text, str) or not _HEX.fullmatch(text):
        raise ValueError(f"{name} is not lower-case hexadecimal")
    data = bytes.fromhex(text)
    if size is not None and len(data) != size:
        raise ValueError(f"{name} has not {size} bytes")
    return data


def number(value: Mapping[str, object], name: str, least: int, most: int) -> int:
    """An integer entry within its bounds. ValueError."""
    found = value[name]
    if type(found) is not int or not least <= found <= most:
        raise ValueError(f"{name} is no integer from {least} to {most}")
    return found


def printable(value: Mapping[str, object], name: str, most: int) -> str:
    """A text entry of ASCII that can be printed, lines being separated by single newlines. ValueError."""
    text = value[name]
    if not isinstance(text, str) or len(text) > most or not _TEXT.fullmatch(text):
        raise ValueError(f"{name} is no text of 1 to {most} ASCII characters without control characters")
    return text
