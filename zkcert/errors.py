"""Every error a user can meet, typed; the message says what to do next."""

from __future__ import annotations


class ZkcertError(Exception):
    """Base of all errors reported to a user as one line; exit code 2 unless it is a rejection."""


class UnusableInput(ZkcertError):
    """A file or option that cannot be used: wrong shape, range, type, or damaged."""


class UnsupportedLayer(UnusableInput):
    """The model holds a layer that has no circuit."""


class RangeOverflow(ZkcertError):
    """A value of the probe does not fit its fixed-point range.

    Attributes: layer (str), value (float, in real units), limit (float), and where (str), the step and pass of the
    probe, empty outside of it.
    """

    def __init__(self, layer: str, value: float, limit: float, advice: str = "", where: str = "") -> None:
        self.layer, self.value, self.limit, self.advice, self.where = layer, value, limit, advice, where
        found, most = _told_apart(abs(value), limit)
        head = f"{where}, {layer}" if where else layer
        tail = f"; {advice}" if advice else ""
        super().__init__(f"{head}: |value| {found} {'reaches' if found == most else 'exceeds'} the limit {most}{tail}")


def _told_apart(a: float, b: float) -> tuple[str, str]:
    """Both numbers with six significant digits, or as many more as it takes to tell them apart."""
    for digits in range(6, 18):
        texts = f"{a:.{digits}g}", f"{b:.{digits}g}"
        if texts[0] != texts[1] or a == b:
            break
    return texts


class ThresholdExceeded(ZkcertError):
    """The score is above tau: no proof exists and none is written."""


class MalformedProof(ZkcertError):
    """The proof bytes do not parse (truncated, extended, out of range).

    section: the part of the file, such as "opening"; offset: how many of its bytes had been read when it was found.
    """

    def __init__(self, text: str, section: str | None = None, offset: int | None = None) -> None:
        self.section, self.offset = section, offset
        super().__init__(text)


class ProofRejected(ZkcertError):
    """The proof parses but a check fails. `check` names it; `values` are those it compared, by name."""

    def __init__(self, check: str, detail: str = "", **values: object) -> None:
        self.check, self.values = check, values
        super().__init__(f"{check}: {detail}" if detail else check)
