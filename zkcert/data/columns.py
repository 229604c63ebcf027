"""Tables: which column holds the labels, and what the others hold together."""

from __future__ import annotations

from collections.abc import Sequence

LABELS = ("label", "labels", "target", "targets", "class", "y")


def label_column(names: Sequence[str], wanted: str | None, *, named: bool = True) -> int:
    """The place of the column of labels: the one that is wanted (a name, or a number), else the one of a usual name.

    named  whether the columns have names, rather than numbers only. ValueError.
    """
    shown = f"the columns are {listed(names)}" if named else f"its {len(names)} columns have no names"
    if wanted is not None:
        places = [i for i, name in enumerate(names) if named and name == wanted]
        if len(places) == 1:
            return places[0]
        if not places and wanted.removeprefix("-").isdecimal() and wanted.isascii() and len(wanted) < 10:
            place = int(wanted)
            if -len(names) <= place < len(names):
                return place % len(names)
        raise ValueError(f"--label {ascii(wanted)[1:-1][:60]} is no column, or several; {shown}")
    places = [i for i, name in enumerate(names) if named and name.strip().lower() in LABELS]
    if len(places) != 1:
        example = names[-1][:40] if named and names else "-1"
        raise ValueError(f"which column holds the labels? {shown}; say it as --label {ascii(example)[1:-1]}")
    return places[0]


def listed(names: Sequence[str]) -> str:
    """Some names, for people."""
    return ", ".join(ascii(name)[1:-1][:40] for name in names[:8]) + (", ..." if len(names) > 8 else "")
