"""Function tables: public tables of tuples, and lookups, which say that values are a row of one.

A table is the graph of a function on few integers: the first component of a row is the argument, the others are what
the function gives. Digits of the components are range-checked as all digits are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from blake3 import blake3

from zkcert.core.field import I64, P

from .forms import Form, View

if TYPE_CHECKING:
    from .sources import Axis

MAX_COMPONENTS = 8  # of a row
MAX_NUMBERS = 1 << 20  # in all rows of all function tables of a circuit
LARGEST = 1 << 60  # magnitudes of entries lie below


@dataclass(frozen=True)
class FunctionTable:
    """The rows (v_0, v_1, ...) of a function of v_0.

    rule: a text that determines the rows; shape: rows, and components of a row; make: the rows, int64 of this shape;
    within: bounds (least, largest) of each component that are known without the rows, which then nobody makes before
    they are needed.
    """

    rule: str
    shape: tuple[int, int]
    make: Callable[[], I64] = field(compare=False, repr=False)
    within: tuple[tuple[int, int], ...] = field(default=(), compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.shape[0] < 1 or not 1 <= self.shape[1] <= MAX_COMPONENTS:
            raise ValueError(f"{self.rule}: a table of {self.shape[0]} rows of {self.shape[1]} components")

    @cached_property
    def rows(self) -> I64:
        """int64 of `shape`, not to be written to. ValueError unless the arguments rise and all entries are small."""
        rows = np.ascontiguousarray(self.make(), np.int64)
        if rows.shape != self.shape or rows.max() >= LARGEST or rows.min() <= -LARGEST:
            raise ValueError(f"{self.rule}: rows of another shape, or an entry of 2^60 or more")
        if not (np.diff(rows[:, 0]) > 0).all():
            raise ValueError(f"{self.rule}: the first components do not rise")
        if any(low < lo or high > hi for (low, high), (lo, hi) in zip(extremes(rows), self.within, strict=False)):
            raise ValueError(f"{self.rule}: an entry beyond the bounds of its component")
        return rows

    @cached_property
    def bounds(self) -> Sequence[tuple[int, int]]:
        """No entry of a component is less, or larger."""
        return self.within or extremes(self.rows)

    @property
    def digest(self) -> str:
        """BLAKE3 of the entries, row by row, as little-endian int64, in hexadecimal."""
        return blake3(self.rows.astype("<i8").tobytes()).hexdigest()


def extremes(rows: I64) -> list[tuple[int, int]]:
    """The least and the largest entry of each component."""
    return [(int(column.min()), int(column.max())) for column in rows.T]


@dataclass(frozen=True, eq=False)
class Lookup:
    """For every index of its axes the components are a row of the table: modulo p, and by their bounds as integers."""

    name: str
    out: tuple[Axis, ...]
    table: FunctionTable
    components: tuple[Form, ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple(ax.size for ax in self.out)

    def check(self) -> int:
        """The number of terms. ValueError unless the components fit the axes and the table."""
        if len(self.components) != self.table.shape[1]:
            raise ValueError(f"{self.name}: {len(self.components)} components of a row of {self.table.shape[1]}")
        sizes = {ax.name: ax.size for ax in self.out}
        views: set[View] = {view for form in self.components for view, _, _ in form.terms}
        for view in views:
            if not view.axes <= sizes.keys():
                raise ValueError(f"{self.name}: a component uses axes {view.axes - sizes.keys()}")
            view.check(sizes)
        return sum(len(form.terms) for form in self.components)

    @property
    def reach(self) -> int:
        """The largest difference of a component and an entry that it is compared with."""
        pairs = zip((form.bounds for form in self.components), self.table.bounds, strict=True)
        return max(max(hi - low, high - lo) for (lo, hi), (low, high) in pairs)

    @property
    def closed(self) -> bool:
        """Whether components that are entries modulo p are entries."""
        return self.reach < P
