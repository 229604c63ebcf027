"""A circuit as explicit integer equations, unrolled from its declarations (circuits/language) and from nothing else.

A *variable* is one digit of a tensor at one index, or one whole value (its digits with their powers of two) of a tensor
of several digits. An *equation* is a member of a constraint at one output index; the limbs of one wide identity also
add up to an equation in which the carries cancel, which is implied by them. No layer is known here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import prod

import numpy as np

from circuits.language.constraints import Circuit, Constraint, Expr, expr
from circuits.language.drawn import Weighed, WeighedAlike, WeighedGather
from circuits.language.forms import Form, View
from circuits.language.functions import Lookup
from circuits.language.sources import Axis, Gather, GatherSum, Map, Scaled, Source, SuffixGather, Sum, TailGather
from circuits.language.tensors import BIT, Tensor
from prover.execution.witness import Witness

Terms = tuple[tuple[int, int], ...]  # (variable, coefficient)
Index = tuple[int, ...]


@dataclass(eq=False)
class Equation:
    """const + sum of linear terms + sum of products of two linear forms = 0.

    members: which of the constraint's members it is or is the sum of; constraint: None where a value is its digits.
    """

    label: str
    index: Index
    const: int
    linear: Terms
    products: list[tuple[Terms, Terms]]
    constraint: Constraint | None = None
    members: tuple[int, ...] = ()
    variables: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        found = {v: None for v, _ in self.linear}
        for a, b in self.products:
            found.update(dict.fromkeys(v for v, _ in a))
            found.update(dict.fromkeys(v for v, _ in b))
        self.variables = tuple(found)

    def value(self, at: Sequence[int]) -> int:
        """The left side for given values of all variables."""
        out = self.const + sum(c * at[v] for v, c in self.linear)
        for a, b in self.products:
            out += sum(c * at[v] for v, c in a) * sum(c * at[v] for v, c in b)
        return out


class Row(Equation):
    """That the values of some linear forms are a row of a table."""

    def __init__(self, con: Constraint, index: Index, components: Sequence[Terms], rows: np.ndarray) -> None:
        self.components, self.rows = tuple(components), rows
        super().__init__(con.name, index, 0, (), [], con, (0,))

    def __post_init__(self) -> None:
        self.variables = tuple(dict.fromkeys(v for form in self.components for v, _ in form))

    def value(self, at: Sequence[int]) -> int:
        """Zero if they are."""
        values = [sum(c * at[v] for v, c in form) for form in self.components]
        return int(values not in self.rows[self.rows[:, 0] == values[0]].tolist())


def entries(src: Source, at: Mapping[str, int]) -> list[tuple[int, int]]:
    """(tensor index, weight) of what a source reads at a domain index, as its docstring says."""
    if isinstance(src, Axis):
        return [(at[src.name], 1)]
    if isinstance(src, Scaled):
        return [(at[src.axis], src.weights[at[src.axis]])]
    if isinstance(src, Sum):
        weights = (1,) * src.size if src.weights is None else src.weights
        return [(i, weight) for i, weight in enumerate(weights) if weight]
    if isinstance(src, Weighed):
        return list(enumerate(src.weights(src.size).tolist()))
    if isinstance(src, WeighedGather):
        here = at[src.axis]
        read = src.table.index[:, here] if src.rows else src.table.index[here]
        return [(int(i), w) for i, w in zip(read, src.weights(src.count).tolist(), strict=True) if i >= 0]
    if isinstance(src, WeighedAlike):
        return [(i, w * src.weight) for i, w in entries(src.inner, at)]
    if isinstance(src, Map):
        found = [src.table[at[src.axis]]]
    elif isinstance(src, Gather):
        found = [src.table.index[at[src.k], at[src.s]]]
    elif isinstance(src, SuffixGather):
        found = src.table.index[: at[src.k] + 1, at[src.s]].tolist()
    elif isinstance(src, TailGather):
        inside = src.table.index[at[src.k], at[src.s]] >= 0
        found = src.table.index[at[src.k] + 1 :, at[src.s]].tolist() if inside else []
    elif isinstance(src, GatherSum):
        found = src.table.index[:, at[src.s]].tolist()
    else:
        raise TypeError(f"what does {type(src).__name__} read?")
    return [(int(i), 1) for i in found if i >= 0]


class Unrolled:
    """Variables and equations of a closed circuit.

    names: per variable (tensor, digit or None for a whole value, index); bounds: its exact range. lookups: as
    constraints with one member each, which says nothing else.
    """

    def __init__(self, circuit: Circuit) -> None:
        self.circuit = circuit
        self.names: list[tuple[Tensor, int | None, Index]] = []
        self.bounds: list[tuple[int, int]] = []
        self._digit: dict[Tensor, int] = {}
        self._whole: dict[Tensor, int] = {}
        self._strides: dict[Tensor, Index] = {}
        for t in circuit.tensors:
            self._strides[t] = tuple(prod(t.sizes[i + 1 :]) for i in range(len(t.sizes)))
            indices = list(product(*map(range, t.sizes)))
            self._digit[t] = len(self.names)
            for d, digit in enumerate(t.digits):
                self.names += [(t, d, i) for i in indices]
                self.bounds += [(digit.range.lo, digit.range.hi)] * len(indices)
            if len(t.digits) > 1:
                self._whole[t] = len(self.names)
                self.names += [(t, None, i) for i in indices]
                self.bounds += [t.bounds()] * len(indices)
        self._reads: dict[tuple[int, Index], list[tuple[int, int]]] = {}
        self._views: dict[int, View] = {}
        self._axes: dict[int, tuple[str, ...]] = {}
        self._unrolled: dict[tuple[int, Index], Terms] = {}
        self._plans: dict[int, tuple[Form, tuple[str, ...], list[tuple[View, list[tuple[int, int]]]]]] = {}
        self.equations: list[Equation] = []
        for t in self._whole:
            self.equations += self._digits_of(t)
        for con in circuit.constraints:
            for o in outputs(con):
                self.equations += [self.equation(con, label, e, o, (m,)) for m, (label, e) in enumerate(con.members)]
            for label, e, members in self.wide(con):
                self.equations += [self.equation(con, label, e, o, members) for o in outputs(con)]
        self.lookups = [Constraint(lookup.name, lookup.out, members=[("row", Expr())]) for lookup in circuit.lookups]
        for con, lookup in zip(self.lookups, circuit.lookups, strict=True):
            self.equations += self._rows(con, lookup)

    def says_one(self, e: Equation) -> bool:
        """Whether it says of some bits that exactly one of them is set."""
        return (
            not e.products and len(e.linear) > 1 and {c for _, c in e.linear} == {-e.const}
            and all(self.bounds[v] == (BIT.lo, BIT.hi) for v in e.variables)
        )  # fmt: skip

    def unknown(self) -> list[int]:
        """All variables but the digits that are public, or tied to the committed samples by a hash."""
        given = self.given()
        return [v for v in range(len(self.names)) if v not in given]

    # -- variables

    def digit(self, t: Tensor, d: int, flat: int) -> int:
        return self._digit[t] + d * prod(t.sizes) + flat

    def wholes(self, t: Tensor) -> range:
        """The whole values of a tensor of several digits."""
        return range(self._whole[t], self._whole[t] + prod(t.sizes))

    def flat(self, t: Tensor, index: Index) -> int:
        return sum(i * s for i, s in zip(index, self._strides[t], strict=True))

    def describe(self, v: int) -> str:
        t, d, index = self.names[v]
        return f"{t.name}{list(index)}" + ("" if d is None else f" digit {d}")

    def is_digit(self, v: int) -> bool:
        return self.names[v][1] is not None

    def given(self) -> set[int]:
        """Digits that are public, or tied to the committed samples by a hash."""
        out = set()
        for link in self.circuit.links:
            for t, _ in link.parts:
                out |= {self.digit(t, d, i) for d in range(len(t.digits)) for i in range(prod(t.sizes))}
        for public in self.circuit.publics:
            t, count = public.tensor, prod(public.tensor.shape)
            start = public.index * count
            out |= {self.digit(t, d, start + i) for d in range(len(t.digits)) for i in range(count)}
        return out

    def values(self, w: Witness) -> list[int]:
        """The value of every variable in a witness."""
        out: list[int] = []
        for t in self.circuit.tensors:
            digits = w.array(t).reshape(len(t.digits), -1).tolist()
            for column in digits:
                out += column
            if len(t.digits) > 1:
                shifted = ([x << d.shift for x in column] for column, d in zip(digits, t.digits, strict=True))
                out += [sum(parts) for parts in zip(*shifted, strict=True)]
        return out

    # -- equations

    def _digits_of(self, t: Tensor) -> Iterator[Equation]:
        for i in range(prod(t.sizes)):
            terms = [(self.digit(t, d, i), 1 << digit.shift) for d, digit in enumerate(t.digits)]
            yield Equation(f"value of {t.name}", (i,), 0, ((self._whole[t] + i, -1), *terms), [])

    def wide(self, con: Constraint, without: int = -1) -> list[tuple[str, Expr, tuple[int, ...]]]:
        """The sums of neighbouring limbs ``name[first:last]`` (see circuits/language/wide.py), leaving one member out.

        Any sum of identities is one: what labels say only decides which are worth adding up."""
        runs: list[list[tuple[str, int, str, Expr, int]]] = [[]]
        for m, (label, e) in enumerate(con.members):
            found = re.fullmatch(r"(.*)\[(\d+):(\d*)\]", label)
            if found is None or m == without:
                continue
            name, first, end = found.groups()
            if not runs[-1] or runs[-1][-1][0] != name or runs[-1][-1][2] != first:
                runs.append([])
            runs[-1].append((name, int(first), end, e, m))
        out = []
        for limbs in runs:
            if len(limbs) > 1:
                name, start, *_ = limbs[0]
                total = expr(0)
                for _, first, _, e, _ in limbs:
                    total = total + e * (1 << 22 * (first - start))
                wide = Expr(tuple(factored(total.products)), total.linear, total.constants)
                out.append((f"{name}[{start}:{limbs[-1][2]}], added up", wide, tuple(m for *_, m in limbs)))
        return out

    def equation(self, con: Constraint, label: str, e: Expr, o: Index, members: tuple[int, ...]) -> Equation:
        """An expression of a constraint at one output index."""
        at = {ax.name: i for ax, i in zip(con.out, o, strict=True)}
        const = 0
        for c in e.constants:
            const += c.coef * prod(w[at[axis]] for axis, w in c.weights)
        products = []
        if e.products:
            for s in product(*(range(ax.size) for ax in con.summed)):
                here = {**at, **{ax.name: i for ax, i in zip(con.summed, s, strict=True)}}
                for a, b in e.products:
                    left = self._form(a, here)
                    right = left and self._form(b, here)
                    if right:
                        products.append((left, right))
        return Equation(f"{con.name}/{label}", o, const, self._form(e.linear, at), products, con, members)

    def _rows(self, con: Constraint, lookup: Lookup) -> Iterator[Row]:
        for o in outputs(con):
            at = {ax.name: i for ax, i in zip(con.out, o, strict=True)}
            yield Row(con, o, [self._form(form, at) for form in lookup.components], lookup.table.rows)

    def _form(self, form: Form, at: Mapping[str, int]) -> Terms:
        plan = self._plans.get(id(form))
        if plan is None:
            plan = self._plans[id(form)] = form, tuple(sorted(form.axes)), self._plan(form)
        key = id(form), tuple(at[a] for a in plan[1])
        found = self._unrolled.get(key)
        if found is None:
            terms: dict[int, int] = {}
            for view, parts in plan[2]:
                for flat, weight in self._read(view, at):
                    for start, coef in parts:
                        terms[start + flat] = terms.get(start + flat, 0) + coef * weight
            found = self._unrolled[key] = tuple((v, c) for v, c in terms.items() if c)
        return found

    def _plan(self, form: Form) -> list[tuple[View, list[tuple[int, int]]]]:
        """Per view: first variable and coefficient; all digits with their powers of two are the whole value."""
        views: dict[View, dict[int, int]] = {}
        for view, d, c in form.terms:
            assert isinstance(c, int)
            views.setdefault(view, {})[d] = c
        out = []
        for view, coefs in views.items():
            t = view.tensor
            unit = coefs.get(0, 0)
            if len(t.digits) > 1 and all(coefs.get(d, 0) == unit << x.shift for d, x in enumerate(t.digits)):
                out.append((view, [(self._whole[t], unit)]))
            else:
                out.append((view, [(self.digit(t, d, 0), c) for d, c in coefs.items()]))
        return out

    def _read(self, view: View, at: Mapping[str, int]) -> list[tuple[int, int]]:
        """(flat index, weight) of the tensor entries a view reads."""
        if id(view) not in self._axes:
            self._views[id(view)], self._axes[id(view)] = view, tuple(sorted(view.axes))
        key = id(view), tuple(at[a] for a in self._axes[id(view)])
        if key not in self._reads:
            found = [(0, 1)]
            for src, stride in zip(view.sources, self._strides[view.tensor], strict=True):
                step = entries(src, at)
                found = [(f + i * stride, w * v) for f, w in found for i, v in step]
            self._reads[key] = found
        return self._reads[key]


def outputs(con: Constraint) -> Iterator[Index]:
    return product(*(range(ax.size) for ax in con.out))


def factored(products: Sequence[tuple[Form, Form]]) -> list[tuple[Form, Form]]:
    """The same sum with few products: limbs times limbs are a value times a value."""
    order: dict[tuple[View, int], int] = {}

    def ordered(form: Form) -> Form:
        for v, d, _ in form.terms:
            order.setdefault((v, d), len(order))
        return Form(tuple(sorted(form.terms, key=lambda term: order[term[0], term[1]])))

    by_right: dict[Form, Form] = {}
    for a, b in products:
        content, right = ordered(b).primitive
        by_right[right] = by_right.get(right, Form()) + a * content
    by_left: dict[Form, Form] = {}
    for b, a in by_right.items():
        content, left = ordered(a).primitive
        by_left[left] = by_left.get(left, Form()) + b * content
    return list(by_left.items())
