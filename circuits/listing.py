"""The canonical listing: a closed circuit and its layout as one text, of which a transcript absorbs the digest.

Two implementations that build different circuits for one statement so differ at once, and `zkcert inspect --circuit`
shows where. docs/spec/circuit.md, "Listing", has the grammar. What is named here and not held (public digits, targets
and matrices of links) is bound by the rest of the statement. The length is linear in terms, blocks and public tables.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from blake3 import blake3

from .ir import (
    Constraint,
    DomainAxis,
    Expr,
    Form,
    Gather,
    GatherSum,
    Map,
    Same,
    Scaled,
    Source,
    SuffixGather,
    Sum,
    Table,
    Tensor,
    View,
)
from .layout import Layout

HEAD = "zkcert circuit 1"
LINES = 1 << 12  # hashed at once


def progressions(values: Sequence[int]) -> str:
    """Integers as text: from the left, the longest arithmetic progression if it has three members or more, as
    first:step:count, otherwise one number alone."""
    out, i, n = [], 0, len(values)
    while i < n:
        if i + 2 < n and values[i + 1] - values[i] == (step := values[i + 2] - values[i + 1]):
            stop = i + 3
            while stop < n and values[stop] - values[stop - 1] == step:
                stop += 1
            out.append(f"{values[i]}:{step}:{stop - i}")
            i = stop
        else:
            out.append(str(values[i]))
            i += 1
    return ",".join(out)


def numbers(values: Sequence[int]) -> str:
    return ",".join(map(str, values)) or "-"


def axes(domain: Sequence[DomainAxis]) -> str:
    return ",".join(f"{axis.name}={axis.size}" for axis in domain) or "-"


class Names:
    """Numbers of tensors, views and public tables; the last two in the order in which they are met."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self.tensors = {t: i for i, t in enumerate(tensors)}
        self.views: dict[View, int] = {}
        self.vectors: dict[tuple[int, ...], int] = {}
        self.tables: dict[Table, int] = {}
        self.new: list[str] = []  # definitions not written yet
        self._sources: dict[int, tuple[Source, str]] = {}  # by identity: hashing a source reads its whole table

    def view(self, view: View) -> int:
        if view not in self.views:
            sources = " ".join(map(self._source, view.sources))
            self.views[view] = len(self.views)
            self.new.append(f"view {self.views[view]} {self.tensors[view.tensor]} {sources}")
        return self.views[view]

    def _source(self, source: Source) -> str:
        if id(source) not in self._sources:
            self._sources[id(source)] = source, self._written(source)
        return self._sources[id(source)][1]

    def _written(self, source: Source) -> str:
        match source:
            case Same(axis=axis):
                return f"same({axis})"
            case Map(axis=axis, table=entries):
                return f"map({axis},{self.vector(entries)})"
            case Sum(weights=None):
                return "sum()"
            case Sum(weights=weights) if weights is not None:
                return f"sum({self.vector(weights)})"
            case Scaled(axis=axis, weights=weights):
                return f"scaled({axis},{self.vector(weights)})"
            case Gather(k=k, s=s, table=table):
                return f"gather({k},{s},{self.table(table)})"
            case SuffixGather(k=k, s=s, table=table):
                return f"suffix({k},{s},{self.table(table)})"
            case GatherSum(s=s, table=table):
                return f"total({s},{self.table(table)})"
        raise TypeError(f"a source of no kind that is listed: {source}")

    def vector(self, values: tuple[int, ...]) -> int:
        if values not in self.vectors:
            self.vectors[values] = len(self.vectors)
            self.new.append(f"vector {self.vectors[values]} {progressions(values)}")
        return self.vectors[values]

    def table(self, table: Table) -> int:
        if table not in self.tables:
            self.tables[table] = len(self.tables)
            rule = table.rule or f"given {numbers(table.shape)} {progressions(table.index.ravel().tolist())}"
            self.new.append(f"table {self.tables[table]} {rule}")
        return self.tables[table]

    def form(self, form: Form) -> str:
        return " ".join([f"{c}*{self.view(v)}.{d}" for v, d, c in form.terms]) or "0"

    def member(self, label: str, e: Expr) -> Iterator[str]:
        """The lines of one member, those of what it is the first to use before them."""
        lines = [f"product {self.form(a)} | {self.form(b)}" for a, b in e.products]
        if e.linear.terms:
            lines.append(f"linear {self.form(e.linear)}")
        for c in e.constants:
            weights = "".join(f" {axis}*{self.vector(values)}" for axis, values in c.weights)
            lines.append(f"constant {c.coef}{weights}")
        yield from self.new
        self.new.clear()
        yield f"member {label}"
        yield from lines


def _tensor(number: int, t: Tensor, layout: Layout) -> Iterator[str]:
    digits = " ".join(f"{d.range.lo}:{d.range.size}:{d.shift}" for d in t.digits)
    yield f"tensor {number} {t.name} {t.unroll} {numbers(t.shape)} {digits}"
    place = layout.places[t]
    for block, positions in zip(place.blocks, place.positions, strict=True):
        extents = ",".join(f"{start}:{bits}" for start, bits in block.axes) or "-"
        yield f"block {extents} {numbers(positions[:, 0].tolist())}"


def _constraint(con: Constraint, names: Names) -> Iterator[str]:
    yield f"constraint {con.name} {axes(con.out)} {axes(con.summed)}"
    for label, e in con.members:
        yield from names.member(label, e)


def lines(layout: Layout) -> Iterator[str]:
    """The lines of the listing, without their newlines; after `Certificate.close` and `reveal`."""
    circuit = layout.circuit
    names = Names(circuit.tensors)
    yield HEAD
    for number, t in enumerate(circuit.tensors):
        yield from _tensor(number, t, layout)
    for con in circuit.constraints:
        yield from _constraint(con, names)
    for public in circuit.publics:
        yield f"public {names.tensors[public.tensor]} {public.index}"
    for link in circuit.links:
        yield f"link {link.name} {numbers(link.target.shape)} {numbers([names.tensors[t] for t, _ in link.parts])}"
    yield f"tables {numbers(layout.tables)}"
    yield f"digits {layout.digit_count} multiplicities {layout.multiplicity_start} end {layout.data_end}"


def listing_digest(layout: Layout) -> bytes:
    """BLAKE3 of the listing, 32 bytes."""
    hasher, rest = blake3(), lines(layout)
    while part := list(islice(rest, LINES)):
        hasher.update(("\n".join(part) + "\n").encode())
    return hasher.digest()
