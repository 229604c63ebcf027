"""JSON with one reading: what others write for us is read only if it is, byte for byte, what we would have written."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

T = TypeVar("T")
_DIGITS = 4000  # Python's own limit is 4300, unless somebody changes it


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key occurs twice")
    return found


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _integer(text: str) -> int:
    if text == "-0":
        raise ValueError("-0 is no integer")
    if len(text) > _DIGITS:
        raise ValueError(f"a number has more than {_DIGITS} digits")
    return int(text)


def parse(text: bytes | str) -> Any:
    """The value of ASCII JSON without repeated keys, NaN or Infinity; ValueError. Nesting is bounded by Python's."""
    try:
        text = text.decode("ascii") if isinstance(text, bytes) else text
        return json.loads(text, object_pairs_hook=_unique, parse_int=_integer, parse_constant=_constant)
    except UnicodeDecodeError as error:
        raise ValueError("it is not ASCII") from error
    except json.JSONDecodeError as error:
        raise ValueError(_where(error)) from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _where(error: json.JSONDecodeError) -> str:
    """What is wrong with a text that is no JSON."""
    if not error.doc.strip():
        return "it is empty"
    if error.pos >= len(error.doc.rstrip()) or error.msg.startswith("Unterminated string"):
        return "it is cut short"
    return f"it is no JSON from line {error.lineno}, character {error.colno} on"


def as_written(data: bytes, read: Callable[[Any], T], write: Callable[[T], bytes]) -> T:
    """What a file that zkcert wrote holds; ValueError unless `write` would write just these bytes for it.

    read  makes it of JSON values that nobody vouches for; raises ValueError if they are unfit.
    """
    found = read(parse(data))
    if write(found) != data:
        raise ValueError("it was edited or reformatted: take it as zkcert wrote it")
    return found
