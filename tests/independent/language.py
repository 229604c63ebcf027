"""The language of circuits (circuit-language.md): tensors, views, forms, constraints, layout, listing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import permutations

from .commitment import Shape, matrix_shape
from .errors import Reject, require
from .field import P, bits
from .files import window_outputs
from .transcript import H

Digit = tuple[int, int, int]  # lo, size, shift
Term = tuple[int, int, int]  # view, digit, coefficient
Form = tuple[Term, ...]
Source = tuple  # ("same", axis), ("map", axis, v), ("sum",), ("wsum", v), ("scaled", axis, v), (kind, ..., table)
Worth = tuple[int, int, int]  # view, digit, what it is worth
Range = tuple[int, int]  # lo, size
Axes = Sequence[tuple[str, int]]


def U(b: int) -> Range:
    return 0, 1 << b


def B(b: int) -> Range:
    return -(1 << (b - 1)), 1 << b


def R(n: int) -> Range:
    return 0, n


BIT = U(1)
PRIMES = tuple(2**30 - n for n in (35, 41, 83, 101, 105))
REMAINDER = [(0, 1 << 22, 0), (0, 1 << 8, 22)]  # digits of a residue


def at(r: Range, shift: int) -> Digit:
    """The digit of a range at a shift."""
    return r[0], r[1], shift


def radix(*ranges: Range) -> list[Digit]:
    """Digits with shifts 22 i."""
    out = []
    for i, (lo, size) in enumerate(ranges):
        if size in (1 << 16, 1 << 17, 1 << 19, 1 << 20, 1 << 21) and lo % 1024 == 0:
            out += [(0, 1024, 22 * i), (lo // 1024, size // 1024, 22 * i + 10)]
        else:
            out.append((lo, size, 22 * i))
    return out


def width(n: int) -> int:
    need = bits(max(n, 2))
    return next(w for w in (1, 2, 3, 4, 6, 8, 10, 12, 14, 18, 22) if w >= need)


def digits_for(lo: int, hi: int) -> list[Digit]:
    """Digits that cover [lo, hi]."""
    out: list[Digit] = []
    s = 0
    while (hi >> s) - (lo >> s) >= 1 << 22:
        out.append((0, 1 << 22, s))
        s += 22
    a, b = lo >> s, hi >> s
    if b - a >= 1 << 14 and width((b >> 10) - (a >> 10) + 1) <= 6:
        out.append((0, 1 << 10, s))
        a, b, s = a >> 10, b >> 10, s + 10
    out.append((a, 1 << width(b - a + 1), s))
    return out


class Table:
    """A table of positions [k, s]; two are equal if their rules are, whatever they hold (the vectors show it)."""

    def __init__(self, rule: str, rows: list[list[int]]) -> None:
        self.rule, self.rows = rule, tuple(map(tuple, rows))
        self._hash = hash(rule)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Table) and self.rule == other.rule


class Window:
    """The tables of windows of KH x KW entries over H x W positions."""

    def __init__(self, *pairs_: Sequence[int], ceil: bool = False) -> None:  # size, kernel, stride, padding, dilation
        (h, w), (kh, kw), (sh, sw), (ph, pw), (dh, dw) = pairs_
        oh, ow = window_outputs(h, kh, sh, ph, dh, ceil), window_outputs(w, kw, sw, pw, dw, ceil)
        self.entries, self.outputs, self.positions, self.columns = kh * kw, oh * ow, h * w, ow
        reads, readers, pairs, pairs_of, windows, self.inside = [], [], [], [], [], 0
        for ky in range(kh):
            for kx in range(kw):
                row, inverse, numbers, numbers_of = [], [-1] * (h * w), [-1] * (oh * ow), [-1] * (h * w)
                for s in range(oh * ow):
                    y, x = s // ow * sh + ky * dh - ph, s % ow * sw + kx * dw - pw
                    i = y * w + x if 0 <= y < h and 0 <= x < w else -1
                    row.append(i)
                    if i >= 0:
                        inverse[i] = s
                        numbers[s] = numbers_of[i] = self.inside
                        self.inside += 1
                reads.append(row)
                readers.append(inverse)
                pairs.append(numbers)
                pairs_of.append(numbers_of)
                windows.append([s if i >= 0 else -1 for s, i in enumerate(row)])
        tail = f" {h},{w} {kh},{kw} {sh},{sw} {ph},{pw}"
        tail += (f" dilation {dh},{dw}" if (dh, dw) != (1, 1) else "") + (" ceil" if ceil else "")
        self.reads, self.readers = Table("reads" + tail, reads), Table("readers" + tail, readers)
        self.pairs, self.pairs_of = Table("pairs" + tail, pairs), Table("pairs_of" + tail, pairs_of)
        self.windows = Table("windows" + tail, windows)


class AdaptiveWindow:
    """The tables of an adaptive pooling of H x W positions to OH x OW."""

    def __init__(self, size: Sequence[int], grid: Sequence[int]) -> None:
        spans = [[range(o * n // m, -(-(o + 1) * n // m)) for o in range(m)] for n, m in zip(size, grid)]
        held = [[[o for o, span in enumerate(own) if i in span] for i in range(n)] for own, n in zip(spans, size)]
        tail = f" {size[0]},{size[1]} adaptive {grid[0]},{grid[1]}"
        self.outputs, self.positions = grid[0] * grid[1], size[0] * size[1]
        self.reads = Table("reads" + tail, self.rows(*spans, size[1]))
        self.readers = Table("readers" + tail, self.rows(*held, grid[1]))
        self.divisors = [len(y) * len(x) for y in spans[0] for x in spans[1]]

    @staticmethod
    def rows(ys: Sequence[Sequence[int]], xs: Sequence[Sequence[int]], width_: int) -> list[list[int]]:
        """Rows and columns of each place, as a table of positions."""
        out = []
        for ky in range(max(map(len, ys))):
            for kx in range(max(map(len, xs))):
                places = [(y, x) for y in ys for x in xs]
                out.append([y[ky] * width_ + x[kx] if ky < len(y) and kx < len(x) else -1 for y, x in places])
        return out


def groups_table(groups: int, own: int) -> Table:
    """The channels by group and number within it."""
    return Table(f"groups {groups},{own}", [[g * own + c for c in range(own)] for g in range(groups)])


def channels_table(groups: int, own: int) -> Table:
    """The same by number within the group, and group."""
    return Table(f"channels {own},{groups}", [[g * own + c for g in range(groups)] for c in range(own)])


def heads_table(heads: int, own: int, first: int) -> Table:
    """The channels by head and number within it."""
    rule = f"heads {heads},{own} from {first}"
    return Table(rule, [[first + h * own + d for d in range(own)] for h in range(heads)])


class Pairs:
    """The pairs of positions: the vectors of i and of j, and their tables."""

    def __init__(self, length: int, causal: bool) -> None:
        every = [(i, j) for i in range(length) for j in range(length) if j <= i or not causal]
        self.i, self.j = [i for i, _ in every], [j for _, j in every]
        number = {pair: n for n, pair in enumerate(every)}
        rows = [[number.get((i, j), -1) for j in range(length)] for i in range(length)]
        tail = f" {length}" + (" causal" if causal else "")
        self.queries = Table("queries" + tail, rows)
        self.keys = Table("keys" + tail, [list(column) for column in zip(*rows)])


def same(axis: str) -> Source:
    return "same", axis


def map_(axis: str, v: Sequence[int]) -> Source:
    return "map", axis, tuple(v)


ALL: Source = ("sum",)


def wsum(v: Sequence[int]) -> Source:
    return "wsum", tuple(v)


def scaled(axis: str, v: Sequence[int]) -> Source:
    return "scaled", axis, tuple(v)


def gather(k: str, s: str, table: Table) -> Source:
    return "gather", k, s, table


def suffix(k: str, s: str, table: Table) -> Source:
    return "suffix", k, s, table


def tail(k: str, s: str, table: Table) -> Source:
    return "tail", k, s, table


def total(s: str, table: Table) -> Source:
    return "total", s, table


def weighed(source: Source, axis: str, size: int, weight: tuple[int, int, int]) -> Source:
    """A source that weighs an axis by part j of the weights for the factor c modulo prime i, weight = (i, c, j)."""
    if source == same(axis):
        return "weighed", axis, *weight
    if source[0] == "gather" and axis in source[1:3]:
        kind, other = ("weighed-gather", source[2]) if axis == source[1] else ("weighed-scatter", source[1])
        return kind, axis, *weight, other, source[3]
    assert axis not in source_axes(source), source
    return "weighed-alike", axis, *weight, size, source


def part_of_weight(drawn: int, i: int, c: int, j: int) -> int:
    """Part j of the weight for the factor c of what was drawn for prime i."""
    v = c * drawn % PRIMES[i]
    return v >> 22 if j else v & 0x3FFFFF


def source_axes(source: Source) -> tuple[str, ...]:
    """The axes that a source reads."""
    kind = source[0]
    if kind in ("same", "map", "scaled", "total"):
        return (source[1],)
    if kind in ("weighed-gather", "weighed-scatter"):
        return (source[5],)
    if kind == "weighed-alike":
        return source_axes(source[6])
    return source[1:3] if kind in ("gather", "suffix", "tail") else ()


def source_count(source: Source, size: int) -> int:
    """The count of a source of an axis of this size."""
    kind = source[0]
    if kind == "sum":
        return size
    if kind == "wsum":
        return sum(source[1])
    if kind == "scaled":
        return max(source[2])
    if kind in ("suffix", "tail", "total"):
        return len(source[-1].rows)
    if not kind.startswith("weighed"):
        return 1
    if kind == "weighed":
        added = size
    elif kind == "weighed-alike":
        added = source_count(source[6], size)
    else:
        added = len(source[6].rows) if kind == "weighed-gather" else len(source[6].rows[0])
    return added * ((1 << (8 if source[4] else 22)) - 1)


# ---------------------------------------------------------------- forms and expressions


def scale(form: Form, c: int) -> Form:
    return tuple((v, d, c * k) for v, d, k in form) if c else ()


def merge(*forms: Form) -> Form:
    """A sum at once; two forms are a sum of two."""
    some = [f for f in forms if f]
    if len(some) < 2:
        return some[0] if some else ()
    out: dict[tuple[int, int], int] = {}
    for form in some:
        for v, d, c in form:
            out[v, d] = out.get((v, d), 0) + c
    return tuple((v, d, c) for (v, d), c in out.items() if c)


def join(*forms: Form) -> Form:
    return tuple(t for f in forms for t in f)


Constant = tuple[int, tuple[tuple[str, tuple[int, ...]], ...]]


@dataclass(frozen=True)
class Expr:
    """Products, a linear form and constants."""

    products: tuple[tuple[Form, Form], ...] = ()
    linear: Form = ()
    constants: tuple[Constant, ...] = ()

    def times(self, c: int) -> Expr:
        if c == 1:
            return self
        products = tuple((scale(a, c), b) for a, b in self.products)
        return Expr(products, scale(self.linear, c), tuple((c * k, w) for k, w in self.constants))


def expression(x: Expr | Form | int) -> Expr:
    if isinstance(x, Expr):
        return x
    if isinstance(x, int):
        return Expr(constants=((x, ()),)) if x else Expr()
    return Expr(linear=x)


def product(a: Form, b: Form) -> Expr:
    return Expr(((a, b),))


def add(*items: Expr | Form | int) -> Expr:
    """A sum at once."""
    es = [expression(x) for x in items]
    products = tuple(p for e in es for p in e.products)
    return Expr(products, merge(*(e.linear for e in es)), tuple(c for e in es for c in e.constants))


def left(*items: Expr | Form | int) -> Expr:
    """A sum from the left, two at a time."""
    out = expression(items[0])
    for item in items[1:]:
        out = add(out, item)
    return out


def neg(x: Form) -> Form:
    return scale(x, -1)


def limbs_of(n: int) -> list[int]:
    """The 22-bit limbs of n >= 0 up to the last that is not zero."""
    out = []
    while n:
        out.append(n & 0x3FFFFF)
        n >>= 22
    return out


# ---------------------------------------------------------------- tensors, constraints, the circuit


@dataclass
class TensorDef:
    """A tensor of a circuit; `blocks` and `columns` come with the layout."""

    number: int
    name: str
    unroll: int
    sizes: tuple[int, ...]
    digits: list[Digit]
    late: bool = False
    blocks: list[tuple[tuple[int, int], ...]] = field(default_factory=list)  # (start, log2 length) per axis
    columns: list[list[int]] = field(default_factory=list)  # [block][digit]: position at unrolled index 0


@dataclass
class Constraint:
    """A constraint, or congruence, and its members."""

    name: str
    out: list[tuple[str, int]]
    summed: list[tuple[str, int]]
    congruence: bool = False
    late: bool = False
    members: list[tuple[str, Expr]] = field(default_factory=list)


@dataclass(frozen=True)
class Function:
    """A function table: its rule and its rows."""

    rule: str
    rows: tuple[tuple[int, ...], ...]

    def digest(self) -> str:
        data = b"".join(v.to_bytes(8, "little", signed=True) for row in self.rows for v in row)
        return H(data).hex()


@dataclass
class Lookup:
    """What says that the components are a row of a function table, by its number."""

    name: str
    out: list[tuple[str, int]]
    function: int
    components: list[Form]


@dataclass(frozen=True)
class Domain:
    """The domain of a wire; an unrolled one has its first axis unrolled, and wires of a late one are late."""

    axes: tuple[tuple[str, int], ...]
    unrolled: bool = False
    late: bool = False


@dataclass(frozen=True)
class Order:
    """In which order axes are summed, which of them over entries, and the table's source with the entries it reads."""

    axes: tuple[str, ...]
    over: tuple[bool, ...]
    table: Source | None
    entry: int
    count: int  # of residues


class Limbs:
    """The limbs of a wide identity."""

    def __init__(self, circuit: Circuit) -> None:
        self.circuit, self.summands = circuit, []

    def add(self, e: Expr | Form | int, exponent: int) -> None:
        k, r = divmod(exponent, 22)
        while len(self.summands) <= k:
            self.summands.append([Expr()])
        self.summands[k].append(expression(e).times(1 << r))

    def value(self, view: int, c: int = 1, exponent: int = 0) -> None:
        for d, (_, _, shift) in enumerate(self.circuit.digits(view)):
            self.add(scale(self.circuit.digit(view, d), c), exponent + shift)

    def const(self, v: int) -> None:
        for k, limb in enumerate(limbs_of(abs(v))):
            self.add((limb if v > 0 else -limb), 22 * k)

    def product(self, a: list[Form], b: list[Form], c: int = 1, exponent: int = 0) -> None:
        for i, x in enumerate(a):
            for j, y in enumerate(b):
                self.add(product(x, scale(y, c)), exponent + 22 * (i + j))


class Circuit:
    """Tensors, views, constraints, public tensors and links, in order of declaration."""

    def __init__(self) -> None:
        self.tensors: list[TensorDef] = []
        self.constraints: list[Constraint] = []
        self.functions: list[Function] = []
        self.lookups: list[Lookup] = []
        self.views: list[tuple[int, tuple[Source, ...]]] = []
        self._view_number: dict[tuple[int, tuple[Source, ...]], int] = {}
        self._reach: dict[int, list[tuple[int, int]]] = {}
        self.public: list[tuple[int, int]] = []
        self.links: list[tuple[str, tuple[int, int, int], list[int]]] = []
        self.window_entries = 0
        self.draws: dict[str, int] = {}  # entries of the draws of an axis name, in the order of first use
        self.weighed_axes = 0  # the most of a congruence

    def tensor(self, name: str, unroll: int, sizes: Sequence[int], digits: list[Digit], late: bool = False) -> int:
        self.tensors.append(TensorDef(len(self.tensors), name, unroll, tuple(sizes), digits, late))
        return len(self.tensors) - 1

    def constraint(self, name: str, out: Axes, summed: Axes = (), congruence: bool = False) -> Constraint:
        self.constraints.append(Constraint(name, list(out), list(summed), congruence))
        return self.constraints[-1]

    def lookup(self, name: str, out: Axes, function: Function, components: Sequence[Form]) -> None:
        """Declare a lookup; Reject if a component could be an entry modulo p only."""
        if function not in self.functions:
            self.functions.append(function)
        rows, firsts = function.rows, [row[0] for row in function.rows]
        assert firsts == sorted(set(firsts)) and {len(row) for row in rows} == {len(components)}
        assert len(components) <= 8 and all(abs(v) < 1 << 60 for row in rows for v in row)
        for form, column in zip(components, zip(*rows)):
            lo, hi = self.form_bounds(form)
            require(max(hi - min(column), max(column) - lo) < P, "circuit", f"bounds of {name}")
        numbers = sum(len(f.rows) * len(f.rows[0]) for f in self.functions)
        require(numbers <= 1 << 20, "limits", "numbers of function tables")
        self.lookups.append(Lookup(name, list(out), self.functions.index(function), list(components)))

    def view(self, tensor: int, *sources: Source) -> int:
        t = self.tensors[tensor]
        assert len(sources) == 1 + len(t.sizes), (t.name, sources)
        key = (tensor, sources)
        if key not in self._view_number:
            self._view_number[key] = len(self.views)
            self.views.append(key)
        return self._view_number[key]

    def digits(self, view: int) -> list[Digit]:
        return self.tensors[self.views[view][0]].digits

    def digit(self, view: int, d: int) -> Form:
        return ((view, d, 1),)

    def whole(self, view: int) -> Form:
        return tuple((view, d, 1 << shift) for d, (_, _, shift) in enumerate(self.digits(view)))

    def limbs(self, view: int) -> list[Form]:
        out: list[list[Term]] = []
        for d, (_, _, shift) in enumerate(self.digits(view)):
            k, r = divmod(shift, 22)
            while len(out) <= k:
                out.append([])
            out[k].append((view, d, 1 << r))
        return [tuple(f) for f in out]

    def view_axes(self, view: int) -> set[str]:
        return {a for s in self.views[view][1] for a in source_axes(s)}

    def wire(self, domain: Domain, name: str, digits: list[Digit]) -> int:
        """Declare a wire; its view."""
        sizes, names = [n for _, n in domain.axes], [a for a, _ in domain.axes]
        if domain.unrolled:
            return self.view(self.tensor(name, sizes[0], sizes[1:], digits, domain.late), *map(same, names))
        return self.view(self.tensor(name, 1, sizes, digits, domain.late), ALL, *map(same, names))

    # ---- bounds

    def reach(self, view: int) -> list[tuple[int, int]]:
        """The reach of each digit of a view."""
        if view not in self._reach:
            tensor, sources = self.views[view]
            t, count = self.tensors[tensor], 1
            for source, size in zip(sources, (t.unroll, *t.sizes)):
                count *= source_count(source, size)
            self._reach[view] = [(min(count * lo, 0), max(count * (lo + size - 1), 0)) for lo, size, _ in t.digits]
        return self._reach[view]

    def form_bounds(self, form: Form) -> tuple[int, int]:
        lo = hi = 0
        for v, d, c in form:
            a, b = self.reach(v)[d]
            lo += c * (a if c > 0 else b)
            hi += c * (b if c > 0 else a)
        return lo, hi

    def bounds(self, e: Expr, constraint: Constraint) -> tuple[int, int]:
        lo, hi = self.form_bounds(e.linear)
        count = math.prod(n for _, n in constraint.summed)
        for x, y in e.products:
            a, b = self.form_bounds(x), self.form_bounds(y)
            ends = [0, a[0] * b[0], a[0] * b[1], a[1] * b[0], a[1] * b[1]]
            lo += count * min(ends)
            hi += count * max(ends)
        for c, weights in e.constants:
            a0 = a1 = 1
            for _, w in weights:
                ends = [x * y for x in (a0, a1) for y in (min(w), max(w))]
                a0, a1 = min(ends), max(ends)
            lo += min(c * a0, c * a1)
            hi += max(c * a0, c * a1)
        return lo, hi

    # ---- members

    def member(self, c: Constraint, label: str, e: Expr | Form | int) -> None:
        e = expression(e)
        lo, hi = self.bounds(e, c)
        require(max(-lo, hi) < (P << 58 if c.congruence else P), "circuit", f"bounds of {c.name} {label}")
        c.members.append((label, e))

    def assert_zero(self, c: Constraint, domain: Domain, label: str, limbs: Limbs) -> None:
        """The members that say that the wide sum is zero."""
        parts = [add(*s) for s in limbs.summands]
        n, k, carry = len(parts), 0, Expr()
        while True:
            chosen, chosen_sum = k + 1, add(carry, parts[k])
            grown: Expr = Expr()
            for end in range(k + 1, n + 1):
                last = parts[end - 1].times(1 << 22 * (end - 1 - k))
                grown = parts[k] if end == k + 1 else add(grown, last)
                t = add(carry, grown)
                lo, hi = self.bounds(t, c)
                if end == n:
                    fits = max(-lo, hi) < P
                else:
                    w = 22 * (end - k)
                    digits = digits_for(lo >> w, hi >> w)
                    a = sum(d[0] << d[2] for d in digits)
                    b = sum((d[0] + d[1] - 1) << d[2] for d in digits)
                    fits = max(hi - (a << w), (b << w) - lo) < P
                if fits:
                    chosen, chosen_sum = end, t
            if chosen == n:
                self.member(c, f"{label}[{k}:]", chosen_sum)
                return
            lo, hi = self.bounds(chosen_sum, c)
            w = 22 * (chosen - k)
            wire = self.wire(domain, f"{c.name}/{label}.carry{chosen}", digits_for(lo >> w, hi >> w))
            self.member(c, f"{label}[{k}:{chosen}]", add(chosen_sum, scale(self.whole(wire), -(1 << w))))
            carry, k = expression(self.whole(wire)), chosen

    # ---- congruences (congruences.md)

    def worths(self, limbs: list[Form]) -> list[Worth]:
        """The terms of limbs."""
        return [(v, d, c << (22 * k)) for k, form in enumerate(limbs) for v, d, c in form]

    def whole_worths(self, view: int, c: int = 1) -> list[Worth]:
        """The terms of a multiple of a whole view."""
        return [(view, d, c << shift) for d, (_, _, shift) in enumerate(self.digits(view))]

    def divide(self, con: Constraint, limbs: Limbs, i: int, residue: bool) -> int | None:
        """That limbs are divisible by a prime, or leave a residue: its view."""
        q, label, domain, rest = PRIMES[i], f"q{i}", Domain(tuple(con.out), True, True), None
        lo = hi = 0
        for k, summands in enumerate(limbs.summands):
            a, b = self.bounds(add(*summands), con)
            lo, hi = lo + (a << (22 * k)), hi + (b << (22 * k))
        if residue:
            rest = self.wire(domain, f"{con.name}/{label}.residue", REMAINDER)
            limbs.value(rest, -1)
            lo -= (1 << 30) - 1
        limbs.value(self.wire(domain, f"{con.name}/{label}.quotient", digits_for(lo // q, hi // q)), -q)
        self.assert_zero(con, domain, label, limbs)
        return rest

    def with_source(self, view: int, n: int, source: Source) -> int:
        tensor, sources = self.views[view]
        return self.view(tensor, *sources[:n], source, *sources[n + 1 :])

    def replaced(self, view: int, old: Source, new: Source) -> int:
        """The view with a source that it must have replaced by another."""
        return self.with_source(view, self.views[view][1].index(old), new)

    def order(self, terms: Sequence[Worth], axes: Sequence[str], sizes: dict[str, int]) -> Order:
        """In which order axes of terms are summed."""
        tensor, sources = self.views[terms[0][0]] if terms else (0, ())
        read = [a for source in sources for a in source_axes(source)]
        table, entry = None, 0
        for source, size in zip(sources, (self.tensors[tensor].unroll, *self.tensors[tensor].sizes)):
            if source[0] == "gather" and set(source[1:3]) & set(axes):
                table, entry = source, size
        best: Order | None = None
        for permuted in permutations(axes):
            count, over = 0, []
            for n in range(len(permuted)):
                gone = set(permuted[: n + 1])
                over.append(table is not None and not gone & set(table[1:3]))
                if over[n]:
                    gone |= set(table[1:3])
                count += math.prod(sizes[a] for a in read if a not in gone) * (entry if over[n] else 1)
            if best is None or count < best.count:
                best = Order(permuted, tuple(over), table, entry, count)
        assert best is not None
        return best

    def residues(self, name: str, terms: Sequence[Worth], order: Order, sizes: dict[str, int]) -> list[int]:
        """Sum axes of terms modulo each prime: the views of the last residues."""
        now, views, entry = [list(terms)] * len(PRIMES), [0], same("entry")
        sizes = {**sizes, "entry": order.entry}
        for axis, over in zip(order.axes, order.over):
            self.draws[axis] = max(self.draws.get(axis, 0), sizes[axis])
            if over:
                assert order.table is not None
                now = [[(self.replaced(v, order.table, entry), d, c) for v, d, c in row] for row in now]
            read = [a for source in self.views[now[0][0][0]][1] for a in source_axes(source)]
            con, views = self.constraint(f"{name}.{axis}", [(a, sizes[a]) for a in read if a != axis]), []
            con.late = True
            for i, q in enumerate(PRIMES):
                limbs = Limbs(self)
                for v, d, c in now[i]:
                    sources = self.views[v][1]
                    at = next((k for k, s in enumerate(sources) if axis in source_axes(s)), 0)
                    for j in (0, 1):
                        weight = weighed(sources[at], axis, sizes[axis], (i, c % q, j))
                        limbs.add(self.digit(self.with_source(v, at, weight), d), 22 * j)
                view = self.divide(con, limbs, i, True)
                assert view is not None
                views.append(self.replaced(view, entry, order.table) if over and order.table else view)
            now = [self.whole_worths(view) for view in views]
        return views

    def contracted(
        self,
        name: str,
        out: Axes,
        summed: Axes,
        left_: list[Form],
        right: list[Form],
        digits: list[Digit],
        rest: list[Worth],
        cost: int,
        spare: int,
    ) -> bool:
        """A congruence with its combinations, if there are few enough residues; whether there are."""
        if sum(c.congruence for c in self.constraints) >= 96:
            return False
        sizes = dict([*out, *summed])
        lefts, rights = self.worths(left_), self.worths(right)
        inner = [a for a, _ in out[1:]]
        read, other = ({a for v, _, _ in side for a in self.view_axes(v)} for side in (lefts, rights))
        if any(a in read and a in other for a in inner):
            return False
        left_axes, right_axes = [a for a in inner if a in read], [a for a in inner if a not in read]
        both = left_axes + right_axes
        orders = [self.order(*x, sizes) for x in ((lefts, left_axes), (rights, right_axes), (rest, both))]
        if cost * (sum(order.count for order in orders) + spare) > math.prod(n for _, n in out):
            return False
        lengths = len(self.tensors), len(self.constraints), len(self.views)
        draws, most = dict(self.draws), self.weighed_axes
        try:
            self.declare_congruence(name, out, summed, left_, right, digits, rest, left_axes, right_axes, orders)
        except Reject:  # a member's bounds
            del self.tensors[lengths[0] :], self.constraints[lengths[1] :]
            for key in self.views[lengths[2] :]:
                del self._view_number[key]
            del self.views[lengths[2] :]
            self._reach = {v: reach for v, reach in self._reach.items() if v < lengths[2]}
            self.draws, self.weighed_axes = draws, most
            return False
        return True

    def declare_congruence(
        self,
        name: str,
        out: Axes,
        summed: Axes,
        left_: list[Form],
        right: list[Form],
        digits: list[Digit],
        rest: list[Worth],
        left_axes: list[str],
        right_axes: list[str],
        orders: list[Order],
    ) -> None:
        """What `contracted` declares; Reject if some member's bounds are too large."""
        sizes, lefts, rights = dict([*out, *summed]), self.worths(left_), self.worths(right)
        con = self.constraint(name, out, summed, True)
        remainder = self.wire(Domain(tuple(out), True), f"{name}.remainder", digits)
        rest = rest + self.whole_worths(remainder, -1)
        self.weighed_axes = max(self.weighed_axes, len(left_axes + right_axes))
        self.member(con, "sum", add(product(tuple(lefts), tuple(rights)), tuple(rest)))
        left_i = [left_] * len(PRIMES)
        if left_axes:
            left_i = [self.limbs(v) for v in self.residues(f"{name}/left", lefts, orders[0], sizes)]
        right_i = [right] * len(PRIMES)
        if right_axes:
            right_i = [self.limbs(v) for v in self.residues(f"{name}/right", rights, orders[1], sizes)]
        rest_i = self.residues(f"{name}/rest", rest, orders[2], sizes)
        con = self.constraint(f"{name}/combined", out[:1], summed)
        con.late = True
        for i in range(len(PRIMES)):
            limbs = Limbs(self)
            limbs.product(left_i[i], right_i[i])
            limbs.value(rest_i[i])
            self.divide(con, limbs, i, False)


# ---------------------------------------------------------------- layout


CUT_BITS = 12


def cut(n: int) -> list[tuple[int, int]]:
    """The blocks of an axis of a large tensor: start and log2 of the length."""
    out, start = [], 0
    while start < n:
        rest = n - start
        b = rest.bit_length() - 1
        if rest > 1 << b and 16 * ((2 << b) - rest) <= n:
            b += 1
        out.append((start, b))
        start += 1 << b
    return out


def blocks(sizes: Sequence[int]) -> list[tuple[tuple[int, int], ...]]:
    if sum(bits(n) for n in sizes) < CUT_BITS:
        return [tuple((0, bits(n)) for n in sizes)]
    out: list[tuple[tuple[int, int], ...]] = [()]
    for n in sizes:
        out = [b + (c,) for b in out for c in cut(n)]
    return out


@dataclass
class Layout:
    """Where everything stands in X."""

    first_count: int  # digits that are not late
    late_start: int
    late_count: int
    runs: list[tuple[int, int, int, int]]  # start, stop, class, lo: neighbouring columns of equal class and lo
    tables: list[int]
    entries: int
    log_piece: int
    multiplicity_start: int
    data_end: int
    column_count: int
    shape: Shape

    @property
    def digit_count(self) -> int:
        return self.first_count + self.late_count


def lay_out(circuit: Circuit) -> Layout:
    columns = []
    for t in circuit.tensors:
        t.blocks = blocks(t.sizes)
        t.columns = [[0] * len(t.digits) for _ in t.blocks]
        for b, block in enumerate(t.blocks):
            log = sum(x for _, x in block)
            columns += [(t.late, -log, -size, lo, t.number, b, d) for d, (lo, size, _) in enumerate(t.digits)]
    columns.sort()
    require(len(columns) <= 1 << 17, "limits", "blocks of digits")
    count = sum(circuit.tensors[c[4]].unroll for c in columns)
    require(count <= 1 << 22, "limits", "columns")
    tables = sorted({d[1] for t in circuit.tensors for d in t.digits}, reverse=True)
    counts = [0, 0]
    for late, log, _, _, number, _, _ in columns:
        counts[late] += circuit.tensors[number].unroll << -log
    entries = sum(tables) + sum(len(f.rows) for f in circuit.functions)
    log_piece = min(16, bits(entries))

    def up(n: int, log: int) -> int:
        return (n + (1 << log) - 1) >> log << log

    longest = max((-c[1] for c in columns if c[0]), default=0)
    shape = matrix_shape(up(counts[0], longest), up(counts[1], log_piece) + entries)
    late_start = shape.parts[0] << (shape.k + 1)
    position: int = 0
    runs: list[list[int]] = []
    for late, log, size, lo, number, b, d in columns:
        t = circuit.tensors[number]
        if late and position < late_start:
            position = late_start
        t.columns[b][d] = position
        length = t.unroll << -log
        cls = tables.index(-size)
        if runs and runs[-1][1:] == [position, cls, lo]:
            runs[-1][1] += length
        else:
            runs.append([position, position + length, cls, lo])
        position += length
    start = late_start + up(counts[1], log_piece)
    joined = [(a, b, cls, lo) for a, b, cls, lo in runs]
    return Layout(
        counts[0], late_start, counts[1], joined, tables, entries, log_piece, start, start + entries, count, shape
    )


# ---------------------------------------------------------------- listing and limits


def numbers(values: Sequence[int]) -> str:
    return ",".join(map(str, values)) or "-"


def progressions(values: Sequence[int]) -> str:
    out, i = [], 0
    while i < len(values):
        j = i + 1
        if i + 2 < len(values) and values[i + 1] - values[i] == values[i + 2] - values[i + 1]:
            step = values[i + 1] - values[i]
            while j < len(values) and values[j] - values[j - 1] == step:
                j += 1
            out.append(f"{values[i]}:{step}:{j - i}")
        else:
            out.append(str(values[i]))
        i = j
    return ",".join(out) or "-"


class _Lister:
    def __init__(self, circuit: Circuit) -> None:
        self.circuit = circuit
        self.lines: list[str] = []
        self.vectors: dict[tuple[int, ...], int] = {}
        self.tables: dict[Table, int] = {}
        self.views: dict[int, int] = {}

    def vector(self, v: tuple[int, ...]) -> int:
        if v not in self.vectors:
            self.vectors[v] = len(self.vectors)
            self.lines.append(f"vector {self.vectors[v]} {progressions(v)}")
        return self.vectors[v]

    def table(self, t: Table) -> int:
        if t not in self.tables:
            self.tables[t] = len(self.tables)
            self.lines.append(f"table {self.tables[t]} {t.rule}")
        return self.tables[t]

    def source(self, s: Source) -> str:
        kind = s[0]
        if kind == "same":
            return f"same({s[1]})"
        if kind == "sum":
            return "sum()"
        if kind == "wsum":
            return f"sum({self.vector(s[1])})"
        if kind in ("map", "scaled"):
            return f"{kind}({s[1]},{self.vector(s[2])})"
        if kind == "weighed":
            return f"weighed({','.join(map(str, s[1:]))})"
        if kind == "weighed-alike":
            return f"{kind}({','.join(map(str, s[1:-1]))},{self.source(s[-1])})"
        return f"{kind}({','.join(map(str, s[1:-1]))},{self.table(s[-1])})"

    def view(self, v: int) -> int:
        if v not in self.views:
            tensor, sources = self.circuit.views[v]
            words = " ".join(self.source(s) for s in sources)
            self.views[v] = len(self.views)
            self.lines.append(f"view {self.views[v]} {tensor} {words}")
        return self.views[v]

    def form(self, f: Form) -> str:
        return " ".join(f"{c}*{self.view(v)}.{d}" for v, d, c in f) or "0"

    def run(self, layout: Layout) -> bytes:
        c, out = self.circuit, self.lines
        out.append("zkcert circuit 2")
        out += [f"draw {axis} {size}" for axis, size in c.draws.items()]
        for t in c.tensors:
            digits = " ".join(f"{lo}:{size}:{shift}" for lo, size, shift in t.digits)
            kind = "late" if t.late else "tensor"
            out.append(f"{kind} {t.number} {t.name} {t.unroll} {numbers(t.sizes)} {digits}")
            for block, positions in zip(t.blocks, t.columns):
                out.append(f"block {','.join(f'{s}:{l}' for s, l in block) or '-'} {numbers(positions)}")
        for con in c.constraints:
            axes = [",".join(f"{a}={n}" for a, n in x) or "-" for x in (con.out, con.summed)]
            kind = "congruence" if con.congruence else "constraint"
            out.append(f"{kind} {con.name} {axes[0]} {axes[1]}")
            for label, e in con.members:
                lines = [f"member {label}"]
                lines += [f"product {self.form(a)} | {self.form(b)}" for a, b in e.products]
                if e.linear:
                    lines.append(f"linear {self.form(e.linear)}")
                for k, weights in e.constants:
                    lines.append(" ".join([f"constant {k}", *(f"{a}*{self.vector(w)}" for a, w in weights)]))
                out += lines
        for number, f in enumerate(c.functions):
            out.append(f"function {number} {len(f.rows)} {len(f.rows[0])} {f.digest()} {f.rule}")
        for lookup in c.lookups:
            lines = [f"component {self.form(form)}" for form in lookup.components]
            over = ",".join(f"{a}={n}" for a, n in lookup.out) or "-"
            out += [f"lookup {lookup.name} {over} {lookup.function}", *lines]
        out += [f"public {t} {u}" for t, u in c.public]
        out += [f"link {name} {numbers(sizes)} {numbers(ts)}" for name, sizes, ts in c.links]
        out.append(f"tables {numbers(layout.tables)}")
        end = f"multiplicities {layout.multiplicity_start} end {layout.data_end}"
        out.append(f"digits {layout.digit_count} late {layout.late_start} {end}")
        return ("\n".join(out) + "\n").encode("ascii")


def listing(circuit: Circuit, layout: Layout) -> bytes:
    """The canonical text of a circuit and its layout."""
    return _Lister(circuit).run(layout)


def term_count(circuit: Circuit) -> int:
    """Terms in linear forms and in both forms of products of all members but those of combinations."""
    members = [e for c in circuit.constraints if not c.late for _, e in c.members]
    looked_up = sum(len(form) for lookup in circuit.lookups for form in lookup.components)
    return looked_up + sum(len(e.linear) + sum(len(a) + len(b) for a, b in e.products) for e in members)
