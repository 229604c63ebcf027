"""Every error a user can meet, typed; the message says what to do next."""

from __future__ import annotations

from pathlib import Path


class ZkcertError(Exception):
    """Base of all errors reported to a user as one line; exit code 2 unless it is a rejection."""


class UnusableInput(ZkcertError):
    """A file or option that cannot be used: wrong shape, range, type, or damaged."""


class NotWritten(UnusableInput):
    """An output cannot be written: the disk is full, or a file has appeared that it may not replace.

    kept: where it has been written instead (a Path), or None.
    """

    def __init__(self, text: str, kept: Path | None = None) -> None:
        self.kept = kept
        super().__init__(text)


class UnsupportedLayer(UnusableInput):
    """The model holds a layer that has no circuit."""


class RangeOverflow(ZkcertError):
    """A value of the probe does not fit its fixed-point range.

    Attributes: layer (str), value (float, in real units), limit (float).
    """

    def __init__(self, layer: str, value: float, limit: float, advice: str = "") -> None:
        self.layer, self.value, self.limit = layer, value, limit
        tail = f"; {advice}" if advice else ""
        super().__init__(f"{layer}: |value| {value:.6g} exceeds the limit {limit:.6g}{tail}")


class ThresholdExceeded(ZkcertError):
    """The score is above tau: no proof exists and none is written."""


class MalformedProof(ZkcertError):
    """The proof bytes do not parse (truncated, extended, out of range)."""


class ProofRejected(ZkcertError):
    """The proof parses but a check fails. `check` names it."""

    def __init__(self, check: str, detail: str = "") -> None:
        self.check = check
        super().__init__(f"{check}: {detail}" if detail else check)
