"""What the tests of protocol units share."""

from __future__ import annotations

from zkcert.core.field import F


def total(values):
    return sum(values, F.ZERO)


def eq(point, index):
    """eq(point, bits of index), most significant first."""
    out = F.ONE
    for j, r in enumerate(point):
        out = out * (r if (index >> (len(point) - 1 - j)) & 1 else 1 - r)
    return out
