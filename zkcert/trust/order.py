"""The order of things in time, as a verifier knows it: each step was checked, is claimed, or is missing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from zkcert.trust.times import time_text

CHECKED, CLAIMED, MISSING = "checked", "claimed", "missing"
"""Shown by what the verifier holds; somebody's word; not even that."""


@dataclass(frozen=True)
class Step:
    """One step. time: in seconds since 1970, None where nobody says when; text: what was checked, or what is not."""

    name: str
    state: str
    text: str
    time: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        when = None if self.time is None else time_text(self.time)
        return {"step": self.name, "state": self.state, "time": when, "text": self.text}


def order_lines(steps: Iterable[Step]) -> Iterator[str]:
    """The steps for people, one a line."""
    yield "order in time"
    for step in steps:
        when = "" if step.time is None else f"{time_text(step.time)}, "
        yield f"  {step.name:<12}{step.state:<9}{when}{step.text}"
