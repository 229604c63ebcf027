"""Committed samples in plain Python integers: from bytes to what the network reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from math import floor
from typing import Any

from tests.semantics.rounding import Nested, each, rescale, value

HALF = Fraction(1, 2)


def decode(data: bytes, shape: Sequence[int], kind: str, label_bytes: int) -> tuple[Nested, Nested]:
    """Committed bytes as (raw image, label): a byte per value, or q + 2^43 in six; then the label. Of tokens all but
    the last, and those one behind."""
    if kind == "tokens":
        tokens = [int.from_bytes(data[i : i + label_bytes], "little") for i in range(0, len(data), label_bytes)]
        return [[tokens[:-1]]], tokens[1:]
    size, offset = (1, 0) if kind == "u8" else (6, 1 << 43)
    pixels, label = data[: len(data) - label_bytes], data[len(data) - label_bytes :]
    raw = iter([int.from_bytes(pixels[i : i + size], "little") - offset for i in range(0, len(pixels), size)])
    image = [[[next(raw) for _ in range(shape[2])] for _ in range(shape[1])] for _ in range(shape[0])]
    return image, int.from_bytes(label, "little")


def normalise(image: Nested, spec: Mapping[str, Any], kind: str) -> Nested:
    """Pad with raw zeros, then x = (raw - mean) / std: A byte + C, or floor((A q + 2^15) / 2^16) + C. Tokens stay."""
    if kind == "tokens":
        return image
    pad, width, out = spec["pad"], spec["shape"][2], []
    for channel, mean, std in zip(image, spec["mean"], spec["std"], strict=True):
        mean, std = Fraction(repr(float(mean))), Fraction(repr(float(std)))
        unit, shift = (Fraction(1 << 32, 255), 0) if kind == "u8" else (Fraction(1 << 16), 16)
        slope, offset = floor(unit / std + HALF), floor(-mean / std * (1 << 32) + HALF)
        rows = [[0] * width] * pad + channel + [[0] * width] * pad
        rows = [[0] * pad + row + [0] * pad for row in rows]
        out.append(each(lambda q, a=slope, c=offset, s=shift: value(rescale(a * q, s) + c, "input"), rows))
    return out
