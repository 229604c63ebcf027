"""From constraints and ranges to one value of a polynomial (argument.md)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from .commitment import sis_column
from .errors import require
from .field import (
    ONE,
    ZERO,
    El,
    I,
    bits,
    dot,
    elements,
    eq_index,
    eq_prefix,
    eq_prefix_index,
    eq_product_prefix,
    eq_vector,
    powers,
    total,
)
from .files import Reader
from .language import PRIMES, Circuit, Constraint, Form, Layout, Lookup, Source, blocks, part_of_weight
from .transcript import Transcript

CONST = -1
Draws = dict[tuple[str, int], list[int]]  # what was drawn for an axis name and the number of a prime


class Affine:
    """An affine form in the pads: coefficients by key, `CONST` for the constant.

    Single pad n has the key 4n; x, y, z of triple n have 4n + 1, 4n + 2, 4n + 3.
    """

    __slots__ = ("terms",)

    def __init__(self, terms: dict[int, El]) -> None:
        self.terms = terms

    @staticmethod
    def constant(c: El) -> Affine:
        return Affine({CONST: c})

    def __add__(self, o: Affine | El | int) -> Affine:
        out = dict(self.terms)
        if isinstance(o, Affine):
            for k, c in o.terms.items():
                out[k] = out[k] + c if k in out else c
        else:
            out[CONST] = out.get(CONST, ZERO) + o
        return Affine(out)

    def __sub__(self, o: Affine | El | int) -> Affine:
        return self + o * -1

    def __mul__(self, c: El | int) -> Affine:
        return Affine({k: v * c for k, v in self.terms.items()})

    def __neg__(self) -> Affine:
        return self * -1


@dataclass
class Product:
    """A hidden product: its factors and itself."""

    a: Affine
    b: Affine
    ab: Affine


# ---------------------------------------------------------------- functionals


class Evaluator:
    """eq of the opened point at the columns of X."""

    def __init__(self, circuit: Circuit, layout: Layout, z: list[El], draws: Draws) -> None:
        self.circuit, self.layout, self.z, self.draws = circuit, layout, z, draws
        self._high: dict[tuple[int, int], El] = {}
        self._axis: dict[tuple[int, int], list[El]] = {}

    def high(self, position: int, log: int) -> El:
        """eq(z_high, position / 2^log)."""
        key = (position >> log, log)
        if key not in self._high:
            self._high[key] = eq_index(self.z[: len(self.z) - log], position >> log)
        return self._high[key]

    def axis(self, after: int, log: int) -> list[El]:
        """eq over the `log` coordinates of z that `after` coordinates follow."""
        key = (after, log)
        if key not in self._axis:
            n = len(self.z) - after
            self._axis[key] = eq_vector(self.z[n - log : n], 1 << log)
        return self._axis[key]

    def tensor(self, number: int, digits: Iterable[tuple[int, El]], weights: Sequence[Sequence[El]]) -> El:
        """A functional of a tensor: weights of its digits and of the entries of its axes, the unrolled one first."""
        t = self.circuit.tensors[number]
        digits = list(digits)
        unrolled = [(u, w) for u, w in enumerate(weights[0]) if w]
        out = ZERO
        for block, positions in zip(t.blocks, t.columns):
            log = after = sum(l for _, l in block)
            inner = ONE
            for (start, l), w in zip(block, weights[1:]):
                after -= l
                inner = inner * dot(w[start : start + (1 << l)], self.axis(after, l))
            for d, c in digits:
                outer = total(w * self.high(positions[d] + (u << log), log) for u, w in unrolled)
                out = out + c * inner * outer
        return out


class Functional(ABC):
    """A public linear functional of X."""

    @abstractmethod
    def at(self, e: Evaluator) -> El:
        """Its extension at the point of e."""


@dataclass
class FormFunctional(Functional):
    """A form, summed over axes with vectors; an axis that a view does not read counts with the vector's sum."""

    form: list[tuple[int, int, El]]
    vectors: dict[str, list[El]]

    def at(self, e: Evaluator) -> El:
        cache: dict[tuple[Source, int], list[El]] = {}
        views: dict[int, dict[int, El]] = {}
        for v, d, c in self.form:
            ds = views.setdefault(v, {})
            ds[d] = ds.get(d, ZERO) + c
        sums = {a: total(v) for a, v in self.vectors.items()}
        out = ZERO
        for v, ds in views.items():
            tensor, sources = e.circuit.views[v]
            t = e.circuit.tensors[tensor]
            weights = []
            for source, size in zip(sources, (t.unroll, *t.sizes)):
                if (source, size) not in cache:
                    cache[source, size] = source_weights(source, size, self.vectors, e.draws)
                weights.append(cache[source, size])
            factor, read = ONE, e.circuit.view_axes(v)
            for a, s in sums.items():
                if a not in read:
                    factor = factor * s
            out = out + factor * e.tensor(tensor, ds.items(), weights)
        return out


def source_weights(source: Source, size: int, vectors: dict[str, list[El]], draws: Draws) -> list[El]:
    """The weights of the entries of an axis."""
    kind = source[0]
    if kind == "same":
        return vectors[source[1]]
    if kind == "sum":
        return [ONE] * size
    if kind == "wsum":
        return [El(w) for w in source[1]]
    if kind == "scaled":
        return [v * w for v, w in zip(vectors[source[1]], source[2], strict=True)]
    if kind == "weighed":
        return [El(part_of_weight(d, *source[2:5])) for d in draws[source[1], source[2]][:size]]
    if kind == "weighed-alike":
        added = sum(draws[source[1], source[2]][: source[5]])
        weight = part_of_weight(added, *source[2:5])
        return [v * weight for v in source_weights(source[6], size, vectors, draws)]
    out = [ZERO] * size
    if kind == "map":
        for v, e in zip(vectors[source[1]], source[2], strict=True):
            if e >= 0:
                out[e] = out[e] + v
        return out
    rows = source[-1].rows
    if kind == "total":
        outer = [ONE] * len(rows)
    elif kind == "weighed-gather":
        outer = [El(part_of_weight(d, *source[2:5])) for d in draws[source[1], source[2]][: len(rows)]]
    elif kind == "weighed-scatter":
        outer = list(vectors[source[5]])
    else:
        outer = list(vectors[source[1]])
        if kind == "suffix":
            for k in range(len(outer) - 2, -1, -1):
                outer[k] = outer[k] + outer[k + 1]
    if kind == "weighed-scatter":
        inner = [El(part_of_weight(d, *source[2:5])) for d in draws[source[1], source[2]][: len(rows[0])]]
    else:
        inner = vectors[source[-2]]
    if kind == "tail":
        for s, v in enumerate(inner):
            before = ZERO
            for o, row in zip(outer, rows, strict=True):
                if row[s] >= 0:
                    out[row[s]] = out[row[s]] + before * v
                    before = before + o
        return out
    for o, row in zip(outer, rows, strict=True):
        for v, e in zip(inner, row, strict=True):
            if e >= 0:
                out[e] = out[e] + o * v
    return out


@dataclass
class TensorFunctional(Functional):
    """Weights of digits and axes of tensors."""

    parts: list[tuple[int, list[El], list[list[El]]]]

    def at(self, e: Evaluator) -> El:
        return total(e.tensor(t, enumerate(digits), weights) for t, digits, weights in self.parts)


@dataclass
class Run(Functional):
    """sum_{j < count} eq(w, j) X_{begin + j}, in pieces whose length, a power of two, divides `begin`."""

    w: list[El]
    begin: int
    count: int

    def at(self, e: Evaluator) -> El:
        piece = len(self.w)
        while self.begin % (1 << piece):
            piece -= 1
        wn, zn = len(self.w) - piece, len(e.z) - piece
        out = ZERO
        for i in range(-(-self.count // (1 << piece))):
            inner = eq_product_prefix(self.w[wn:], e.z[zn:], self.count - (i << piece))
            out = out + eq_index(self.w[:wn], i) * e.high(self.begin + (i << piece), piece) * inner
        return out


@dataclass
class Joined(Functional):
    """A sum of functionals."""

    parts: list[Functional]

    def at(self, e: Evaluator) -> El:
        return total(part.at(e) for part in self.parts)


# ---------------------------------------------------------------- pairs


@dataclass
class Pair:
    """A left form and the right forms that belong to it, with number of the member and factor."""

    left: Form
    rights: list[tuple[int, int, Form]] = field(default_factory=list)


def pairs_of(con: Constraint) -> list[Pair]:
    out: dict[Form, Pair] = {}
    for number, (_, e) in enumerate(con.members):
        for a, b in e.products:
            g = 1
            if a:
                g = math.gcd(*(c for _, _, c in a)) * (1 if a[0][2] > 0 else -1)
            key = tuple((v, d, c // g) for v, d, c in a)
            out.setdefault(key, Pair(key)).rights.append((number, g, b))
    return list(out.values())


def form_axes(circuit: Circuit, form: Form) -> set[str]:
    return circuit.view_axes(form[0][0]) if form else set()


def split_axes(circuit: Circuit, con: Constraint) -> tuple[list[tuple[str, int, bool]], set[str]]:
    """Kept axes (name, size, whether summed) and the private ones."""
    private = set()
    for axis, _ in con.out:
        products = [p for _, e in con.members for p in e.products]
        if all((axis in form_axes(circuit, a)) != (axis in form_axes(circuit, b)) for a, b in products):
            private.add(axis)
    kept = [(a, n, False) for a, n in con.out if a not in private] + [(a, n, True) for a, n in con.summed]
    return kept, private


@dataclass
class Counts:
    """Numbers of hidden elements."""

    singles: int
    triples: int
    trees: list[int]  # leaves of each tree of digits and of tuples


RUN = 1 << 27
TUPLE_RUN = 1 << 24


@dataclass
class Box:
    """Indices [start, start + 2^log) of each axis of a lookup, as 2^(sum of the logs) leaves from `first` on."""

    lookup: Lookup
    axes: list[tuple[int, int]]
    first: int = 0

    @property
    def size(self) -> int:
        return 1 << sum(log for _, log in self.axes)


def boxes(lookup: Lookup) -> list[Box]:
    left, out = [Box(lookup, list(block)) for block in blocks([n for _, n in lookup.out])], []
    while left:
        box = left.pop(0)
        if box.size > TUPLE_RUN:
            at = [log > 0 for _, log in box.axes].index(True)
            start, log = box.axes[at]
            halves = [[*box.axes[:at], (s, log - 1), *box.axes[at + 1 :]] for s in (start, start + (1 << log - 1))]
            left = [Box(lookup, half) for half in halves] + left
        elif all(start < n for (start, _), (_, n) in zip(box.axes, lookup.out)):
            out.append(box)
    return out


def tuple_trees(circuit: Circuit) -> list[list[Box]]:
    """The boxes of each tree of tuples."""
    found = [box for lookup in circuit.lookups for box in boxes(lookup)]
    trees: list[list[Box]] = []
    at = 0
    for box in sorted(found, key=lambda b: -b.size):
        if at % TUPLE_RUN == 0:
            trees.append([])
        box.first = at % TUPLE_RUN
        trees[-1].append(box)
        at += box.size
    return trees


def trees_of(layout: Layout) -> list[tuple[int, int]]:
    """Where each tree of digits begins, and its leaves."""
    out = []
    for start, count in ((0, layout.first_count), (layout.late_start, layout.late_count)):
        out += [(start + at, min(RUN, count - at)) for at in range(0, count, RUN)]
    return out


def counts(circuit: Circuit, layout: Layout, n: int) -> Counts:
    singles, triples = 2 + 2 * n, 2
    for con in circuit.constraints:
        pairs = pairs_of(con)
        if pairs:
            kept, _ = split_axes(circuit, con)
            singles += 1 + 2 * sum(bits(size) for _, size, _ in kept)
            triples += len(pairs)
    trees = [count for _, count in trees_of(layout)]
    trees += [sum(box.size for box in tree) for tree in tuple_trees(circuit)]
    for count in trees:
        depth = bits(count)
        singles += depth * (depth - 1)
        triples += 2 * depth - (depth > 0)
    depth = bits(layout.entries)
    singles += depth * (depth - 1)
    triples += 2 * depth + 3 * (len(trees) - 1)
    return Counts(singles, triples, trees)


def column_weights(circuit: Circuit) -> int:
    """The column weights of circuit-language.md, "Limits"."""

    def operand(forms: Iterable[Form]) -> int:
        views = {v for f in forms for v, _, _ in f}
        out = 0
        for v in views:
            t = circuit.tensors[circuit.views[v][0]]
            out += t.unroll * len(t.blocks) * len(t.digits)
        return out

    count = 0
    for con in circuit.constraints:
        count += operand(e.linear for _, e in con.members)
        for pair in pairs_of(con):
            count += operand([pair.left]) + operand(b for _, _, b in pair.rights)
    for lookup in circuit.lookups:
        count += operand(lookup.components) * len(boxes(lookup))
    return count


# ---------------------------------------------------------------- the argument


class Argument:
    """Reads the messages and redoes the reductions."""

    def __init__(
        self,
        tr: Transcript,
        circuit: Circuit,
        layout: Layout,
        messages: bytes,
        variables: int,
        public_digits: list[list[list[int]]],
        hashes: bytes,
        late_root: bytes,
    ) -> None:
        self.tr, self.circuit, self.layout, self.n = tr, circuit, layout, variables
        self.reader = Reader(messages, "messages")
        self.singles = self.triples = 0
        self.equations: list[Affine] = []
        self.claims: list[tuple[Functional, Affine]] = []
        self.draws: Draws = {}
        if circuit.draws:
            tr.grind(self.reader.take(8), "before the weights")
            for axis, size in circuit.draws.items():
                for i, q in enumerate(PRIMES):
                    self.draws[axis, i] = tr.integers(f"weights/{axis}/{q}", size, q)
        tr.absorb("late-root", late_root)
        for con in circuit.constraints:
            self.constraint(con)
        for (tensor, index), digits in zip(circuit.public, public_digits, strict=True):
            self.public(tensor, index, digits)
        for name, sizes, tensors in circuit.links:
            self.link(name, sizes, tensors, hashes)
        tr.grind(self.reader.take(8), "before alpha")
        self.alpha = tr.draw_one("alpha")
        self.gammas = powers(tr.draw_one("gamma"), 8) if circuit.lookups else []
        self.range_check()
        self.batch()
        self.reader.end()

    # ---- hidden values

    def values(self, label: str, n: int) -> list[Affine]:
        raw = self.reader.take(16 * n)
        self.tr.absorb(label, raw)
        out = []
        for m in elements(raw, label):
            out.append(Affine({CONST: m, 4 * self.singles: El(-1)}))
            self.singles += 1
        return out

    def products(self, label: str, n: int) -> list[Product]:
        raw = self.reader.take(32 * n)
        self.tr.absorb(label, raw)
        ms = elements(raw, label)
        out = []
        for i in range(n):
            a, b = ms[2 * i], ms[2 * i + 1]
            x = 4 * self.triples + 1
            y, z = x + 1, x + 2
            self.triples += 1
            ab = Affine({CONST: a * b, y: -a, x: -b, z: ONE})
            out.append(Product(Affine({CONST: a, x: El(-1)}), Affine({CONST: b, y: El(-1)}), ab))
        return out

    # ---- constraints

    def constraint(self, con: Constraint) -> None:
        tr = self.tr
        mu = tr.draw(f"members/{con.name}", len(con.members))
        r = {a: tr.draw(f"point/{a}", bits(n)) for a, n in con.out}
        vectors = {a: eq_vector(r[a], n) for a, n in con.out}
        sums = {a: total(v) for a, v in vectors.items()}
        linear: list[tuple[int, int, El]] = []
        const = ZERO
        for m, (_, e) in zip(mu, con.members):
            linear += [(v, d, m * c) for v, d, c in e.linear]
            for c, weights in e.constants:
                by_axis = dict(weights)
                value = m * c
                for a, vector in vectors.items():
                    value = value * (total(v * w for v, w in zip(vector, by_axis[a])) if a in by_axis else sums[a])
                const = const + value
        functional = FormFunctional(linear, vectors)
        pairs = pairs_of(con)
        if not pairs:
            self.claims.append((functional, Affine.constant(-const)))
            return
        kept, private = split_axes(self.circuit, con)
        h = self.values(f"linear/{con.name}", 1)[0]
        claim = -(h + const)
        coordinates: list[El | None] = []
        for a, n, summed in kept:
            coordinates += [None] * bits(n) if summed else r[a]
        rhos: list[El] = []
        for coordinate in reversed(coordinates):
            t0, t2 = self.values(f"round/{con.name}", 2)
            rho = tr.draw_one(f"rho/{con.name}")
            rhos.append(rho)
            if coordinate is None:
                t1 = claim - t0
            else:
                t1 = (claim - t0 * (1 - coordinate)) * coordinate.inverse()
            claim = t0 * (1 - rho) + t1 * rho + t2 * (rho * (rho - 1))
        s = rhos[::-1]
        at: dict[str, list[El]] = {}
        for a, n, _ in kept:
            at[a] = eq_vector(s[: bits(n)], n)
            s = s[bits(n) :]
        ends = self.products(f"ends/{con.name}", len(pairs))
        equation = claim
        for end in ends:
            equation = equation - end.ab
        self.equations.append(equation)
        self.claims.append((functional, h))
        for pair, end in zip(pairs, ends):
            right = [(v, d, mu[i] * (g * c)) for i, g, form in pair.rights for v, d, c in form]
            left = [(v, d, El(c)) for v, d, c in pair.left]
            for form, hidden in ((left, end.a), (right, end.b)):
                read: set[str] = self.circuit.view_axes(form[0][0]) if form else set()
                mine = at | {a: vectors[a] for a in private if a in read}
                self.claims.append((FormFunctional(form, mine), hidden))

    # ---- public tensors and links

    def public(self, tensor: int, index: int, digits: list[list[int]]) -> None:
        t = self.circuit.tensors[tensor]
        label = f"public/{t.name}"
        nu = self.tr.draw(label, len(t.digits))
        axes = [eq_vector(self.tr.draw(label, bits(n)), n) for n in t.sizes]
        entries = [ONE]
        for v in axes:
            entries = [e * x for e in entries for x in v]
        value = ZERO
        for weight, values in zip(nu, digits, strict=True):
            require(len(values) == len(entries), "public tensor", "number of entries")
            value = value + weight * total(e * x for e, x in zip(entries, values))
        unrolled = [ONE if u == index else ZERO for u in range(t.unroll)]
        self.claims.append((TensorFunctional([(tensor, nu, [unrolled, *axes])]), Affine.constant(value)))

    def link(self, name: str, sizes: tuple[int, int, int], tensors: list[int], hashes: bytes) -> None:
        steps, batch, rows = sizes
        gamma = self.tr.draw(f"link/{name}/rows", rows)
        u = self.tr.draw(f"link/{name}/unroll", steps)
        v = self.tr.draw(f"link/{name}/batch", batch)
        value = ZERO
        for t in range(steps):
            for b in range(batch):
                at = 8 * rows * (t * batch + b)
                c = [int.from_bytes(hashes[at + 8 * r : at + 8 * r + 8], "little") for r in range(rows)]
                value = value + u[t] * v[b] * total(g * x for g, x in zip(gamma, c))
        parts = []
        for which, tensor in zip("AS", tensors):
            columns = (sis_column(which, f) for f in range(self.circuit.tensors[tensor].sizes[1]))
            weights = [total(g * x for g, x in zip(gamma, column)) for column in columns]
            parts.append((tensor, [ONE], [u, v, weights]))
        self.claims.append((TensorFunctional(parts), Affine.constant(value)))

    # ---- range check

    def rounds(self, claim: Affine, r: list[El], kind: str) -> tuple[Affine, list[El]]:
        """The rounds of a layer at the point r: the last claim and the point."""
        point: list[El] = []
        for coordinate in r:
            difference, t2 = self.values(f"tree/{kind}", 2)
            rho = self.tr.draw_one(f"rho/{kind}")
            point.append(rho)
            claim = claim + difference * (rho - coordinate) + t2 * (rho * (rho - 1))
        return claim, point

    def layer(self, p: Affine, q: Affine, r: list[El], kind: str) -> tuple[Affine, Affine, list[El]]:
        lam = self.tr.draw_one(f"lambda/{kind}")
        claim, b = self.rounds(p + q * lam, r, kind)
        first, second = self.products(f"tree-ends/{kind}", 2)
        self.equations.append(claim - first.ab - second.ab)
        rho = self.tr.draw_one(f"rho/{kind}")
        p0, q1, u, q0 = first.a, first.b, second.a, second.b
        p = p0 * (1 - rho) + (u - q1 * lam) * rho
        return p, q0 * (1 - rho) + q1 * rho, [rho, *b]

    def range_check(self) -> None:
        big_p = big_q = Affine.constant(ZERO)
        trees: list[tuple[int, int] | list[Box]] = [*trees_of(self.layout), *tuple_trees(self.circuit)]
        for number, tree in enumerate(trees):
            if number == 0:
                p, q = self.values("roots", 2)
                big_p, big_q = p, q
            else:
                one, two, three = self.products("roots", 3)
                p, q = two.a, one.b
                self.equations += [one.a - big_p, two.b - big_q, three.a - big_q, three.b - q]
                big_p, big_q = one.ab + two.ab, three.ab
            if isinstance(tree, list):
                self.tuple_tree(p, q, tree)
            else:
                self.digit_tree(p, q, *tree)
        self.table_tree(big_p, big_q)

    def to_leaves(self, p: Affine, q: Affine, count: int, kind: str) -> tuple[Affine, list[El]]:
        depth = bits(count)
        r: list[El] = []
        if depth == 0:
            self.equations.append(p - 1)
        else:
            for _ in range(depth - 1):
                p, q, r = self.layer(p, q, r, kind)
            k = count - (1 << (depth - 1))
            lam = self.tr.draw_one(f"lambda/{kind}")
            claim = p * lam + q * (lam * lam) + eq_prefix(r, k)
            claim, b = self.rounds(claim, r, kind)
            (end,) = self.products(f"leaves/{kind}", 1)
            self.equations.append(claim - end.ab)
            rho = self.tr.draw_one(f"rho/{kind}")
            inverse = lam.inverse()
            q = (end.a - 1) * ((1 - rho) * inverse) + (end.b - eq_prefix(b, k)) * (rho * inverse)
            r = [rho, *b]
        return q, r

    def digit_tree(self, p: Affine, q: Affine, begin: int, count: int) -> None:
        q, r = self.to_leaves(p, q, count, "digits")
        public = 1 - eq_prefix(r, count)
        for start, stop, cls, lo in self.layout.runs:
            a, z = max(start - begin, 0), min(stop - begin, count)
            if a < z:
                public = public + (eq_prefix(r, z) - eq_prefix(r, a)) * (self.alpha + lo - I * cls)
        self.claims.append((Run(r, begin, count), Affine.constant(public) - q))

    def row(self, function: int, n: int) -> El:
        """A row, encoded."""
        return total(p * v for p, v in zip(self.gammas, self.circuit.functions[function].rows[n]))

    def tuple_tree(self, p: Affine, q: Affine, tree: list[Box]) -> None:
        count = sum(box.size for box in tree)
        q, w = self.to_leaves(p, q, count, "tuples")
        public = 1 - eq_prefix(w, count)
        parts: list[Functional] = []
        for box in tree:
            lookup, log = box.lookup, bits(box.size)
            h, rest = eq_index(w[: len(w) - log], box.first >> log), w[len(w) - log :]
            vectors: dict[str, list[El]] = {}
            t = ONE
            for (axis, n), (start, own) in zip(lookup.out, box.axes):
                inside = eq_vector(rest[:own], min(1 << own, n - start))
                t, rest = t * total(inside), rest[own:]
                vectors[axis] = [ZERO] * start + inside + [ZERO] * (n - start - len(inside))
            cls = len(self.layout.tables) + lookup.function
            public = public + h * (self.alpha - I * cls - (1 - t) * self.row(lookup.function, 0))
            form = [(v, d, h * self.gammas[k] * c) for k, f in enumerate(lookup.components) for v, d, c in f]
            parts.append(FormFunctional(form, vectors))
        self.claims.append((Joined(parts), Affine.constant(public) - q))

    def table_tree(self, big_p: Affine, big_q: Affine) -> None:
        one, two = self.products("roots", 2)
        p, q = two.a, one.b
        self.equations += [one.a - big_p, two.b - big_q, one.ab + two.ab]
        r: list[El] = []
        for _ in range(bits(self.layout.entries)):
            p, q, r = self.layer(p, q, r, "table")
        public, start = 1 - eq_prefix(r, self.layout.entries), 0
        for cls, size in enumerate(self.layout.tables):
            stop = start + size
            weight = eq_prefix(r, stop) - eq_prefix(r, start)
            indices = eq_prefix_index(r, stop) - eq_prefix_index(r, start)
            public = public + weight * (self.alpha + start - I * cls) - indices
            start = stop
        half = len(r) // 2
        high, low = eq_vector(r[: len(r) - half], 1 << len(r) - half), eq_vector(r[len(r) - half :], 1 << half)
        for number, function in enumerate(self.circuit.functions):
            cls = len(self.layout.tables) + number
            for n in range(len(function.rows)):
                at = start + n
                eq = high[at >> half] * low[at & ((1 << half) - 1)]
                public = public + eq * (self.alpha - I * cls - self.row(number, n))
            start += len(function.rows)
        self.equations.append(Affine.constant(public) - q)
        self.claims.append((Run(r, self.layout.multiplicity_start, self.layout.entries), -p))

    # ---- batch

    def batch(self) -> None:
        tr = self.tr
        self.xi = tr.draw_one("batch")
        claim, weight, weights = Affine({}), ONE, []
        for _, value in self.claims:
            for key, c in value.terms.items():
                claim.terms[key] = claim.terms.get(key, ZERO) + weight * c
            weights.append(weight)
            weight = weight * self.xi
        rhos: list[El] = []
        for _ in range(self.n):
            t0, t2 = self.values("batch", 2)
            rho = tr.draw_one("rho/batch")
            rhos.append(rho)
            claim = claim * rho + t0 * (1 - rho - rho) + t2 * (rho * (rho - 1))
        self.z = rhos[::-1]
        raw = self.reader.take(16)
        tr.absorb("opened", raw)
        (self.opened,) = elements(raw, "opened")
        evaluator = Evaluator(self.circuit, self.layout, self.z, self.draws)
        w = total(x * f.at(evaluator) for x, (f, _) in zip(weights, self.claims))
        self.equations.append(claim - w * self.opened)
