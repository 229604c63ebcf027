"""How long a proof will still take: the predicted phases, corrected by what the finished ones took."""

from __future__ import annotations

from collections.abc import Mapping

TRUST = 0.05
"""The prediction counts as much as this share of it, had it already come true."""


class RemainingTime:
    """Follows the phases of `planned` (name -> predicted seconds, in order)."""

    def __init__(self, planned: Mapping[str, float]) -> None:
        self._left = dict(planned)
        self._prior = TRUST * sum(planned.values())
        self._predicted = self._measured = 0.0
        self._current: str | None = None

    def start(self, name: str) -> None:
        """A phase begins; phases planned before it that never began were not needed."""
        if name in self._left:
            for earlier in list(self._left):
                if earlier == name:
                    break
                del self._left[earlier]
        self._current = name

    def finish(self, name: str, seconds: float) -> None:
        """A phase is done. One that was not planned says nothing about the others."""
        if name in self._left:
            self._predicted += self._left.pop(name)
            self._measured += seconds
        self._current = None

    def seconds(self, elapsed: float = 0.0) -> float:
        """What is left after `elapsed` seconds of the present phase.

        A phase that takes longer than it should is taken to be about nine tenths done.
        """
        factor = self._factor()
        later = sum(value for name, value in self._left.items() if name != self._current)
        now = factor * self._left.get(self._current or "", 0.0)
        if elapsed > now and self._current in self._left:
            predicted = self._left[self._current]
            factor = (self._prior + self._measured + elapsed) / (self._prior + self._predicted + predicted)
        return factor * later + (max(now - elapsed, elapsed / 9) if now else 0.0)

    def _factor(self) -> float:
        if not self._prior:
            return 1.0
        return (self._prior + self._measured) / (self._prior + self._predicted)


def duration(seconds: float) -> str:
    """For people: "8 s", "3 min 20 s", "1 h 05 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
