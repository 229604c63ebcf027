"""What a dataset looks like, and what looks wrong about it: wrong pixels or labels make a model score lower."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from zkcert.public.graph import MAX_TOKENS

_CHUNK = 1024  # samples looked at at a time
_NOTABLE = 0.01
"""Blank or repeated samples are warned of from this share on."""

_LISTED = 12
"""Classes whose counts are all shown; of more, the extremes."""

_DARK_BYTES, _LARGE_FLOATS = 64, 32.0
"""Bytes below, and floats beyond, are hardly of the scale a model expects."""


@dataclass(frozen=True, eq=False)
class Summary:
    """Of n samples.

    kind         "u8" or "q32", as in the schema; shape (C, H, W).
    low, high, mean  of the values; whole: whether all are integers.
    counts       samples of each class, up to the largest label.
    blank        samples of more than one value whose values are all equal.
    repeated     samples that are equal to an earlier one; contradicting: those of them with another label than that.
    """

    n: int
    kind: str
    shape: tuple[int, ...]
    low: float
    high: float
    mean: float
    whole: bool
    counts: tuple[int, ...]
    blank: int
    repeated: int
    contradicting: int

    @staticmethod
    def of(x: npt.NDArray[Any], y: npt.NDArray[np.int64]) -> Summary:
        """Samples x (n, C, H, W), uint8 or float32, n at least 1, and labels y (n,) from 0."""
        low, high, total, whole = np.inf, -np.inf, 0.0, True
        blank = contradicting = 0
        first: dict[bytes, int] = {}
        for start in range(0, len(x), _CHUNK):
            part = np.ascontiguousarray(x[start : start + _CHUNK]).reshape(len(x[start : start + _CHUNK]), -1)
            least, most = part.min(axis=1), part.max(axis=1)
            low, high = min(low, float(least.min())), max(high, float(most.max()))
            total += float(part.sum(dtype=np.float64))
            whole = whole and (part.dtype == np.uint8 or bool((part == np.floor(part)).all()))
            blank += int((least == most).sum()) if part.shape[1] > 1 else 0
            for row, label in zip(part, y[start : start + _CHUNK].tolist(), strict=True):
                contradicting += first.setdefault(blake3(row.tobytes()).digest(), label) != label
        counts = tuple(np.bincount(y).tolist())
        kind = "u8" if x.dtype == np.uint8 else "q32"
        shape, mean, repeated = x.shape[1:], total / x.size, len(x) - len(first)
        return Summary(len(x), kind, shape, low, high, mean, whole, counts, blank, repeated, contradicting)

    def warnings(self, classes: int | None = None) -> list[str]:
        """What looks like a mistake, and what to do; classes: how many there are, if somebody said so."""
        return [*self._value_warnings(), *self._label_warnings(classes)]

    def _value_warnings(self) -> Iterator[str]:
        if self.low == self.high:
            yield f"every value is {self.low:g}: check how the samples were read"
        elif self.blank > _NOTABLE * self.n:
            yield f"{self.blank} of {self.n} samples are blank, all values equal: check how they were read"
        if self.repeated > _NOTABLE * self.n:
            other = f", {self.contradicting} of them under another label" if self.contradicting else ""
            yield (
                f"{self.repeated} of {self.n} samples repeat an earlier one exactly{other}: leave them out, or they "
                "count several times"
            )
        if self.kind == "u8" and 0 < self.high < _DARK_BYTES:
            yield (
                f"no byte is above {self.high:g}: models read x/255, so multiply the values up to 255, unless the mean "
                "and std of the model are for such bytes"
            )
        if self.kind == "q32" and (max(-self.low, self.high) > _LARGE_FLOATS or (self.whole and self.high > 1)):
            numbers = "whole numbers" if self.whole else "numbers"
            yield (
                f"float32 samples hold {numbers} from {self.low:g} to {self.high:g}, and are not divided by 255: store "
                "pixels as uint8, or scale them, unless the mean and std of the model are for such numbers"
            )

    def _label_warnings(self, classes: int | None) -> Iterator[str]:
        present = np.flatnonzero(self.counts)
        least, most = int(present[0]), int(present[-1])
        if len(present) == 1:
            yield f"all labels are {least}: a score over one class says little; check the labels"
            return
        if least > 0:
            yield f"no label is 0, the least is {least}: subtract {least} if the labels count from {least}"
        missing = sorted(set(range(least, classes or most + 1)) - set(present.tolist()))
        if missing and (classes is not None or most < 2 * len(present)):  # else `Dataset.warnings` asks for the number
            names = ", ".join(map(str, missing[:5])) + (", ..." if len(missing) > 5 else "")
            yield f"{len(missing)} of {classes or most + 1} classes have no sample: {names}; check the labels"

    def lines(self) -> list[str]:
        """For people."""
        kind = "bytes" if self.kind == "u8" else "float32"
        blank = f"; {self.blank} blank, {self.repeated} repeated" if self.blank or self.repeated else ""
        return [
            f"values  {kind}, {self.low:g} to {self.high:g}, mean {self.mean:.4g}{blank}",
            f"labels  {self._counts_text()}",
        ]

    def _counts_text(self) -> str:
        if len(self.counts) <= _LISTED:
            return "  ".join(f"{label}: {count}" for label, count in enumerate(self.counts))
        few, many = int(np.argmin(self.counts)), int(np.argmax(self.counts))
        return (
            f"0 to {len(self.counts) - 1}, {self.counts[few]} to {self.counts[many]} samples of each (fewest of {few}, "
            f"most of {many})"
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON values, of which nothing is public."""
        return {
            "range": [self.low, self.high],
            "mean": self.mean,
            "counts": list(self.counts),
            "blank": self.blank,
            "repeated": self.repeated,
            "contradicting": self.contradicting,
        }


@dataclass(frozen=True, eq=False)
class TokenSummary:
    """Of n windows of tokens.

    counts       by token: how often it is asked for, up to the largest one. names of the tokens, if they have some.
    blank        windows of one token alone. repeated: windows that are equal to an earlier one.
    """

    n: int
    counts: tuple[int, ...]
    names: tuple[str, ...]
    blank: int
    repeated: int

    @staticmethod
    def of(x: npt.NDArray[np.uint16], y: npt.NDArray[np.int64], names: tuple[str, ...] = ()) -> TokenSummary:
        """Windows x (n, 1, 1, L) and the tokens behind them, y (n,)."""
        seen: set[bytes] = set()
        counts, blank = np.zeros(1 << 16, np.int64), 0
        for start in range(0, len(x), _CHUNK):
            part = np.ascontiguousarray(x[start : start + _CHUNK, 0, 0])
            last = y[start : start + _CHUNK]
            counts += np.bincount(part[:, 1:].ravel(), minlength=1 << 16) + np.bincount(last, minlength=1 << 16)
            blank += int(((part == part[:, :1]).all(1) & (last == part[:, 0])).sum())
            for row, token in zip(part, last.tolist(), strict=True):
                seen.add(blake3(row.tobytes() + token.to_bytes(2, "little")).digest())
        known = counts[: max(int(np.flatnonzero(counts)[-1]) + 1, len(names))]
        return TokenSummary(len(x), tuple(known.tolist()), names, blank, len(x) - len(seen))

    def _name(self, token: int) -> str:
        return f"'{self.names[token]}'" if self.names else str(token)

    def warnings(self, classes: int | None = None) -> list[str]:
        """What looks like a mistake, and what to do; classes: how many tokens there are, if somebody said so."""
        out, total = [], sum(self.counts)
        if (count := classes or len(self.counts)) > MAX_TOKENS:
            out.append(f"there are {count} tokens, and a model of at most {MAX_TOKENS} can be proved")
        if self.repeated > _NOTABLE * self.n:
            out.append(f"{self.repeated} of {self.n} windows repeat an earlier one exactly: they count several times")
        if self.blank > _NOTABLE * self.n:
            out.append(f"{self.blank} of {self.n} windows hold one token only: padding? Leave them out")
        most = int(np.argmax(self.counts))
        if len(self.counts) > 1 and self.counts[most] > total / 2 and not self.blank > _NOTABLE * self.n:
            out.append(f"more than half of what is asked for is the token {self._name(most)}: is that padding?")
        unused = self.counts.count(0) + max((classes or 0) - len(self.counts), 0)
        if unused and not self.names and unused > (classes or len(self.counts)) / 2 and classes != 256:
            out.append(f"{unused} of {classes or len(self.counts)} tokens never occur behind another; is that right?")
        return out

    def lines(self) -> list[str]:
        """For people."""
        order = np.argsort([-count for count in self.counts], kind="stable")[:8].tolist()
        shown = "  ".join(f"{self._name(t)}: {self.counts[t]}" for t in order if self.counts[t])
        unused = self.counts.count(0)
        blank = f"; windows: {self.blank} of one token, {self.repeated} repeated" if self.blank or self.repeated else ""
        return [
            f"tokens  {sum(self.counts)} asked for, {len(self.counts) - unused} different, {unused} unused{blank}",
            f"often   {shown}",
        ]

    def to_dict(self) -> dict[str, Any]:
        """JSON values, of which nothing is public."""
        return {"counts": list(self.counts), "blank": self.blank, "repeated": self.repeated}


def summary_of(x: npt.NDArray[Any], y: npt.NDArray[np.int64], names: tuple[str, ...] = ()) -> Summary | TokenSummary:
    """Of samples or windows of tokens, which are uint16."""
    return TokenSummary.of(x, y, names) if x.dtype == np.uint16 else Summary.of(x, y)
