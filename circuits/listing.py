"""The canonical listing: a closed circuit and its layout as one text, of which a transcript absorbs the digest.

Two implementations that build different circuits for one statement so differ at once, and `zkcert inspect --circuit`
shows where. docs/spec/circuit-language.md has the grammar. What is named here and not held (public digits, targets
and matrices of links) is bound by the rest of the statement. The length is linear in terms, blocks and public tables.
"""

from __future__ import annotations

from collections.abc import Sequence

from blake3 import blake3

from circuits.language.constraints import Congruence, Expr
from circuits.language.drawn import PRIMES, Weighed, WeighedAlike, WeighedGather, Weighing
from circuits.language.forms import Form, View
from circuits.language.functions import Lookup
from circuits.language.layout import Layout
from circuits.language.sources import Axis, Gather, GatherSum, Map, Scaled, Source, SuffixGather, Sum, Table, TailGather
from circuits.language.tensors import Tensor

HEAD = "zkcert circuit 2"


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


def axes(domain: Sequence[Axis]) -> str:
    return ",".join(f"{axis.name}={axis.size}" for axis in domain) or "-"


def drawn(source: Weighing) -> str:
    """The weights of a source: axis, number of the prime, factor, part."""
    return f"{source.draw.axis},{PRIMES.index(source.draw.prime)},{source.factor},{source.part}"


class Listing:
    """The lines so far, and the numbers of tensors, views and public tables, the last two as they are met."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.lines = [HEAD]
        self.tensors = {t: i for i, t in enumerate(layout.circuit.tensors)}
        self.views: dict[View, int] = {}
        self.vectors: dict[tuple[int, ...], int] = {}
        self.tables: dict[Table, int] = {}
        self._sources: dict[int, tuple[Source, str]] = {}  # by identity: hashing a source reads its whole table

    def tensor(self, number: int, t: Tensor) -> None:
        """A tensor and its blocks."""
        digits = " ".join([f"{d.range.lo}:{d.range.size}:{d.shift}" for d in t.digits])
        self.lines.append(f"{'late' if t.late else 'tensor'} {number} {t.name} {t.unroll} {numbers(t.shape)} {digits}")
        place = self.layout.places[t]
        for block, positions in zip(place.blocks, place.positions, strict=True):
            extents = ",".join([f"{start}:{bits}" for start, bits in block.axes]) or "-"
            self.lines.append(f"block {extents} {numbers(positions[:, 0].tolist())}")

    def member(self, label: str, e: Expr) -> None:
        """A member, behind the definitions of what it is the first to use."""
        own = [f"member {label}", *[f"product {self.form(a)} | {self.form(b)}" for a, b in e.products]]
        if e.linear.terms:
            own.append(f"linear {self.form(e.linear)}")
        for c in e.constants:
            weights = [f" {axis}*{self.vector(values)}" for axis, values in c.weights]
            own.append(f"constant {c.coef}{''.join(weights)}")
        self.lines += own

    def lookup(self, lookup: Lookup) -> None:
        """A lookup, behind the definitions of what it is the first to use."""
        number = self.layout.functions.index(lookup.table)
        own = [f"component {self.form(component)}" for component in lookup.components]
        self.lines += [f"lookup {lookup.name} {axes(lookup.out)} {number}", *own]

    def form(self, form: Form) -> str:
        return " ".join([f"{c}*{self.view(v)}.{d}" for v, d, c in form.terms]) or "0"

    def view(self, view: View) -> int:
        number = self.views.get(view)
        if number is None:
            sources = " ".join([self.source(source) for source in view.sources])
            number = self.views[view] = len(self.views)
            self.lines.append(f"view {number} {self.tensors[view.tensor]} {sources}")
        return number

    def source(self, source: Source) -> str:
        if id(source) not in self._sources:
            self._sources[id(source)] = source, self._written(source)
        return self._sources[id(source)][1]

    def _written(self, source: Source) -> str:
        match source:
            case Axis(name=axis):
                return f"same({axis})"
            case Sum(weights=None):
                return "sum()"
            case Sum(weights=weights) if weights is not None:
                return f"sum({self.vector(weights)})"
            case Map(axis=axis, table=entries):
                return f"map({axis},{self.vector(entries)})"
            case Scaled(axis=axis, weights=weights):
                return f"scaled({axis},{self.vector(weights)})"
            case Gather(k=k, s=s, table=table):
                return f"gather({k},{s},{self.table(table)})"
            case SuffixGather(k=k, s=s, table=table):
                return f"suffix({k},{s},{self.table(table)})"
            case TailGather(k=k, s=s, table=table):
                return f"tail({k},{s},{self.table(table)})"
            case GatherSum(s=s, table=table):
                return f"total({s},{self.table(table)})"
            case Weighed():
                return f"weighed({drawn(source)})"
            case WeighedGather(axis=axis, table=table, rows=rows):
                kind = "weighed-gather" if rows else "weighed-scatter"
                return f"{kind}({drawn(source)},{axis},{self.table(table)})"
            case WeighedAlike(inner=inner, count=count):
                return f"weighed-alike({drawn(source)},{count},{self.source(inner)})"
        raise TypeError(f"a source of no kind that is listed: {source}")

    def vector(self, values: tuple[int, ...]) -> int:
        number = self.vectors.get(values)
        if number is None:
            number = self.vectors[values] = len(self.vectors)
            self.lines.append(f"vector {number} {progressions(values)}")
        return number

    def table(self, table: Table) -> int:
        if table not in self.tables:
            self.tables[table] = len(self.tables)
            self.lines.append(f"table {self.tables[table]} {table.rule}")
        return self.tables[table]


def lines(layout: Layout) -> list[str]:
    """The lines of the listing, without their newlines; after `Certificate.close` and `reveal`."""
    circuit, out = layout.circuit, Listing(layout)
    out.lines += [f"draw {axis} {draws[0].size}" for axis, draws in circuit.draws.of.items()]
    for number, t in enumerate(circuit.tensors):
        out.tensor(number, t)
    for con in circuit.constraints:
        kind = "congruence" if isinstance(con, Congruence) else "constraint"
        out.lines.append(f"{kind} {con.name} {axes(con.out)} {axes(con.summed)}")
        for label, e in con.members:
            out.member(label, e)
    for number, function in enumerate(layout.functions):
        out.lines.append(f"function {number} {function.shape[0]} {function.shape[1]} {function.digest} {function.rule}")
    for lookup in circuit.lookups:
        out.lookup(lookup)
    for public in circuit.publics:
        out.lines.append(f"public {out.tensors[public.tensor]} {public.index}")
    for link in circuit.links:
        parts = numbers([out.tensors[t] for t, _ in link.parts])
        out.lines.append(f"link {link.name} {numbers(link.target.shape)} {parts}")
    out.lines.append(f"tables {numbers(layout.tables)}")
    places = f"late {layout.late_start} multiplicities {layout.multiplicity_start} end {layout.data_end}"
    out.lines.append(f"digits {layout.digit_count} {places}")
    return out.lines


def listing_digest(layout: Layout) -> bytes:
    """BLAKE3 of the listing, a newline behind each line: 32 bytes."""
    return blake3("\n".join([*lines(layout), ""]).encode()).digest()
