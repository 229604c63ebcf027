"""Points in time: whole seconds since 1970, in UTC."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime

from zkcert.errors import UnusableInput

LATEST = 253_402_300_799
"""The last second of the year 9999."""

MARGIN = 60
"""Seconds that must lie between what is shown to be older and a round: for clocks that disagree."""

_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2})?(?P<zone>Z|[+-][0-9]{2}:[0-9]{2})?", re.A
)
_LATER = re.compile(r"\+([0-9]{1,6})(s|min|h|d)", re.A)
_UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86400}


def now() -> int:
    """By this machine's clock."""
    return int(time.time())


def parse_time(text: str) -> int:
    """Of "2026-12-01T18:00Z", "2026-12-01 19:00:00+01:00", or "+2h" (s, min, h, d from now). UnusableInput."""
    later, found = _LATER.fullmatch(text), _TIME.fullmatch(text)
    if later:
        return now() + int(later[1]) * _UNITS[later[2]]
    if found and not found["zone"]:
        raise UnusableInput(f"the time {text} has no zone: append Z for UTC, or an offset such as +01:00")
    try:
        when = int(datetime.fromisoformat(text).timestamp()) if found else -1
    except ValueError:
        when = -1
    if not 0 <= when <= LATEST:
        raise UnusableInput(f"a time such as 2026-12-01T18:00:00Z or +2h is expected, not {text[:40]!r}")
    return when


def time_text(seconds: int) -> str:
    """For people, in UTC."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}Z"


def span_text(seconds: int) -> str:
    """A length of time: "90 s", "2 h 5 min"."""
    if seconds < 120:
        return f"{seconds} s"
    minutes, hours = seconds // 60, seconds // 3600
    if hours < 1:
        return f"{minutes} min"
    return f"{hours} h {minutes % 60} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"
