"""The interactive reductions, written once for prover and verifier.

Each function runs on a `Channel` and an *oracle*. The prover's oracle holds tables and computes messages; the
verifier's answers `None` everywhere and the channel reads the messages from the proof. Reductions turn identities and
range checks into *claims*: public linear functionals of the committed vector X with one hidden value each. One last
sum-check turns all claims into the value of X's multilinear extension at a single point.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import zip_longest
from math import gcd
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from zkcert.core import field as ff
from zkcert.core.field import F

from .channel import Channel, Node
from .ir import (
    Circuit,
    Coef,
    Constraint,
    DomainAxis,
    Form,
    ModularLink,
    PublicTensor,
    Source,
    Tensor,
    View,
    ceil_log2,
)
from .layout import Block, Layout, column_heads, eq_at, prefix_eq, prefix_eq2, prefix_index

U64 = NDArray[np.uint64]
Vectors = Mapping[str, U64]

Phase = Callable[[str], AbstractContextManager[object]]

ALPHA_GRIND = 16
TREE_BITS = 27  # log2 of the most digits of one fraction tree


# ------------------------------------------------------------------------------------------------ functionals


@dataclass(frozen=True)
class Term:
    """sum_d coefs[d] * sum_index (prod_axis vecs[axis][index]) * digit_d[index] of one tensor."""

    tensor: Tensor
    coefs: dict[int, F]
    vecs: tuple[U64, ...]


@dataclass(frozen=True)
class Span:
    """sum_{i < count} eq(point, i) * X[start + i]; `start` is that of a tree of digits or of the multiplicities."""

    start: int
    count: int
    point: tuple[F, ...]


@dataclass(frozen=True)
class Functional:
    """A public linear functional of X: the sum of its tensor terms and spans."""

    terms: tuple[Term, ...] = ()
    spans: tuple[Span, ...] = ()


@dataclass(frozen=True)
class Claim:
    """functional(X) = value of the tape node."""

    name: str
    functional: Functional
    node: Node


class ProductOracle(Protocol):
    def total(self) -> F | None: ...

    def round(self, eq_point: Sequence[F] | None) -> tuple[F, F] | None: ...

    def bind(self, r: F) -> None: ...

    def finals(self) -> list[tuple[F, F]] | None: ...


class LayerOracle(Protocol):
    def round(self) -> tuple[F, F] | None: ...

    def bind(self, r: F) -> None: ...

    def finals(self) -> list[F] | None: ...


class TreeOracle(Protocol):
    def root(self) -> tuple[F, F] | None: ...

    def layer(self, point: Sequence[F], lam: F) -> LayerOracle: ...


class DigitTreeOracle(TreeOracle, Protocol):
    def leaves(self, point: Sequence[F], lam: F) -> LayerOracle: ...


class BatchOracle(Protocol):
    def round(self) -> tuple[F, F] | None: ...

    def bind(self, r: F) -> None: ...

    def final(self) -> F | None: ...

    def weight(self) -> F | None:
        """`weight_at`, which a prover has at hand after the last round."""


class Oracle(Protocol):
    """Everything a reduction asks of the prover."""

    def products(self, job: ProductJob) -> ProductOracle: ...

    def digit_tree(self, alpha: F, start: int, count: int) -> DigitTreeOracle: ...

    def table_tree(self, alpha: F) -> TreeOracle: ...

    def batch(self, claims: Sequence[Claim], weights: Sequence[F]) -> BatchOracle: ...

    def check(self, claims: Sequence[Claim], ch: Channel) -> None:
        """A chance for a strict prover to compare every claim with its witness."""


# ------------------------------------------------------------------------------------------------ constraints


@dataclass
class ProductJob:
    """sum over kept axes of e * sum_k A_k * B_k, with private output axes folded by `vecs`.

    The table index runs over `eq_axes` (weighted by eq(eq_point, .)) then `plain_axes`, most significant first.
    `members`: weight and products, with integer coefficients, of each member; their weighted sum is that of the pairs.
    """

    name: str
    eq_axes: tuple[DomainAxis, ...]
    plain_axes: tuple[DomainAxis, ...]
    eq_point: list[F]
    vecs: dict[str, U64]
    pairs: list[tuple[Form, Form]]
    members: list[tuple[F, tuple[tuple[Form, Form], ...]]]

    @property
    def kept(self) -> tuple[DomainAxis, ...]:
        return self.eq_axes + self.plain_axes


def draw_point(ch: Channel, axes: Iterable[DomainAxis]) -> tuple[dict[str, list[F]], dict[str, U64]]:
    """A random point per axis and the truncated eq vector (2, size) it induces."""
    points, vecs = {}, {}
    for ax in axes:
        points[ax.name] = ch.challenges(f"point/{ax.name}", ax.bits)
        vecs[ax.name] = ff.eq_table(points[ax.name])[:, : ax.size]
    return points, vecs


class Resolver:
    """Turns forms into functionals: the form's sum over the domain with weights `vecs[axis]`.

    Axes in `broadcast` that a view does not read are summed out. Equal sources give one and the same array object, so
    that later steps can recognise it.
    """

    def __init__(self, vecs: Vectors, broadcast: frozenset[str]) -> None:
        self.vecs, self.broadcast = vecs, broadcast
        self._sums: dict[str, F] = {}
        self._vectors: dict[Source, U64] = {}

    def _vector(self, src: Source) -> U64:
        if src not in self._vectors:
            self._vectors[src] = src.vector(self.vecs)
        return self._vectors[src]

    def _sum(self, name: str) -> F:
        if name not in self._sums:
            self._sums[name] = ff.f_item(ff.f_sum(self.vecs[name]))
        return self._sums[name]

    def functional(self, form: Form) -> Functional:
        """``sum_index prod vecs * form``."""
        groups: dict[View, dict[int, F]] = {}
        for v, d, c in form.terms:
            coefs = groups.setdefault(v, {})
            coefs[d] = coefs.get(d, F.ZERO) + c
        terms = []
        for v, coefs in groups.items():
            for name in sorted(self.broadcast - v.axes):
                factor = self._sum(name)
                coefs = {d: c * factor for d, c in coefs.items()}
            terms.append(Term(v.tensor, coefs, tuple(map(self._vector, v.sources))))
        return Functional(tuple(terms))


def primitive(form: Form) -> tuple[int, Form]:
    """A form with integer coefficients as an integer times a form that all its non-zero multiples share."""
    coefs = [c for _, _, c in form.terms if isinstance(c, int)]
    content = gcd(*coefs)
    if not content:
        return 1, form
    if coefs[0] < 0:
        content = -content
    terms = zip(form.terms, coefs, strict=True)
    return content, form if content == 1 else Form(tuple((v, d, c // content) for (v, d, _), c in terms))


def group_pairs(con: Constraint, weights: Sequence[F]) -> list[tuple[Form, Form]]:
    """The weighted products of all members, gathered by their left form up to an integer factor."""
    grouped: dict[Form, dict[tuple[View, int], Coef]] = {}
    for (_, e), w in zip(con.members, weights, strict=True):
        for a, b in e.products:
            content, left = primitive(a)
            acc = grouped.setdefault(left, {})
            for v, d, c in b.terms:
                acc[v, d] = acc.get((v, d), F.ZERO) + w * (content * c)
    return [(a, Form(tuple((v, d, c) for (v, d), c in acc.items()))) for a, acc in grouped.items()]


def split_axes(con: Constraint) -> tuple[tuple[DomainAxis, ...], tuple[DomainAxis, ...]]:
    """(private output axes, kept axes): an output axis that exactly one operand of every product reads is folded
    into that operand; the other output axes and the summed axes are the variables of the sum-check."""
    products = [p for _, e in con.members for p in e.products]
    private = tuple(ax for ax in con.out if all((ax.name in a.axes) != (ax.name in b.axes) for a, b in products))
    return private, (*(ax for ax in con.out if ax not in private), *con.summed)


def constraint_claims(ch: Channel, oracle: Oracle, con: Constraint) -> list[Claim]:
    """Reduce one constraint to claims on X (a random combination of its members at a random output point)."""
    weights = ch.challenges(f"members/{con.name}", len(con.members))
    points, vecs = draw_point(ch, con.out)
    out_names = frozenset(a.name for a in con.out)
    linear: dict[tuple[View, int], F] = {}
    const = F.ZERO
    for (_, e), w in zip(con.members, weights, strict=True):
        for view, d, k in e.linear.terms:
            linear[view, d] = linear.get((view, d), F.ZERO) + w * k
        for c in e.constants:
            value = w * c.coef
            given = dict(c.weights)
            for ax in con.out:
                v = vecs[ax.name]
                if ax.name in given:
                    v = ff.f_scale(v, ff.fp_from_int(np.array(given[ax.name], np.int64)))
                value = value * ff.f_item(ff.f_sum(v))
            const = const + value
    functional = Resolver(vecs, out_names).functional(Form(tuple((v, d, k) for (v, d), k in linear.items())))
    pairs = group_pairs(con, weights)
    if not pairs:
        return [Claim(con.name, functional, ch.tape.known(-const))]

    private, kept = split_axes(con)
    eq_axes = kept[: len(kept) - len(con.summed)]
    job = ProductJob(
        con.name,
        eq_axes,
        con.summed,
        [x for ax in eq_axes for x in points[ax.name]],
        {ax.name: vecs[ax.name] for ax in private},
        pairs,
        [(w, e.products) for (_, e), w in zip(con.members, weights, strict=True) if e.products],
    )
    prover = oracle.products(job)
    total = prover.total()
    (lin,) = ch.send(f"linear/{con.name}", None if total is None else [-total - const], 1)
    claims = [Claim(con.name, functional, lin)]
    claim = ch.tape.linear([(F(-1), lin)], -const)
    claim, point = product_sumcheck(ch, prover, claim, job)

    kept_vecs = dict(job.vecs)
    for ax in job.kept:
        kept_vecs[ax.name] = ff.eq_table(point[: ax.bits])[:, : ax.size]
        point = point[ax.bits :]
    resolver = Resolver(kept_vecs, frozenset(ax.name for ax in job.kept))
    ends = ch.send_pairs(f"ends/{con.name}", prover.finals(), len(pairs))
    check = [(F.ONE, claim)]
    for (fa, fb), (a, b, ab) in zip(pairs, ends, strict=True):
        check.append((F(-1), ab))
        claims.append(Claim(con.name, resolver.functional(fa), a))
        claims.append(Claim(con.name, resolver.functional(fb), b))
    ch.assert_zero(ch.tape.linear(check), f"sumcheck/{con.name}")
    return claims


def next_claim(ch: Channel, claim: Node, t0: Node, tinf: Node, rho: F, eq: F | None) -> Node:
    """t(rho) for the degree-2 t with given t(0), leading coefficient, and the previous claim.

    ``claim = t(0) + t(1)``, or ``claim = (1 - eq) t(0) + eq t(1)`` where the variable carries an eq factor (which is
    then left out of the next claim).
    """
    if eq is None:
        c_claim, c_t0 = F.ONE, F(-1)
    else:
        inv = eq.inv()
        c_claim, c_t0 = inv, -(1 - eq) * inv
    # t(rho) = t0 (1 - rho) + t1 rho + tinf rho (rho - 1)
    return ch.tape.linear([(rho * c_claim, claim), ((1 - rho) + rho * c_t0, t0), (rho * (rho - 1), tinf)])


def product_sumcheck(ch: Channel, prover: ProductOracle, claim: Node, job: ProductJob) -> tuple[Node, list[F]]:
    """Sum-check over the kept axes, least significant variable first. Returns the end claim and its point."""
    rounds = sum(ax.bits for ax in job.kept)
    eq_rounds = len(job.eq_point)
    point: list[F] = []
    for j in range(rounds):
        left = rounds - j  # variables not yet bound
        eq = job.eq_point[left - 1] if left <= eq_rounds else None
        message = prover.round(None if eq is None else job.eq_point[: left - 1])
        t0, tinf = ch.send(f"round/{job.name}", message, 2)
        rho = ch.challenge(f"rho/{job.name}")
        prover.bind(rho)
        claim = next_claim(ch, claim, t0, tinf, rho, eq)
        point.insert(0, rho)
    return claim, point


def public_claim(ch: Channel, p: PublicTensor) -> Claim:
    """Digits of one unrolled index equal public values: compared at a random point."""
    t = p.tensor
    weights = ch.challenges(f"public/{t.name}", len(t.digits))
    vecs: list[U64] = []
    for size in t.shape:
        vecs.append(ff.eq_table(ch.challenges(f"public/{t.name}", ceil_log2(size)))[:, :size])
    rest = ff.f_array([F.ONE])
    for v in vecs[1:]:
        rest = ff.f_mul(rest[:, :, None], v[:, None, :]).reshape(2, -1)
    value = F.ZERO
    for w, digit in zip(weights, p.values, strict=True):
        rows = ff.f_dot_int(digit.reshape(-1, rest.shape[1]), rest)
        value = value + w * (ff.f_dot(rows, vecs[0]) if vecs else ff.f_item(rows, 0))
    unroll = np.zeros((2, t.unroll), np.uint64)
    unroll[0, p.index] = 1
    term = Term(t, dict(enumerate(weights)), (unroll, *vecs))
    return Claim(f"public/{t.name}", Functional((term,)), ch.tape.known(value))


def link_claim(ch: Channel, link: ModularLink) -> Claim:
    """All equations of a modular link, combined at random."""
    unroll, batch, rows = link.target.shape
    gamma = ff.f_array(ch.challenges(f"link/{link.name}/rows", rows))
    vu = ff.f_array(ch.challenges(f"link/{link.name}/unroll", unroll))
    vb = ff.f_array(ch.challenges(f"link/{link.name}/batch", batch))
    terms = []
    for tensor, matrix in link.parts:
        vf = ff.f_sum(ff.f_scale(gamma.reshape(2, 1, rows), np.ascontiguousarray(matrix.T)))
        terms.append(Term(tensor, {0: F.ONE}, (vu, vb, vf)))
    per = ff.f_sum(ff.f_scale(gamma.reshape(2, 1, 1, rows), link.target))
    per = ff.f_sum(ff.f_mul(per, vb.reshape(2, 1, batch)))
    value = ff.f_item(ff.f_sum(ff.f_mul(per, vu)))
    return Claim(f"link/{link.name}", Functional(tuple(terms)), ch.tape.known(value))


# ------------------------------------------------------------------------------------------------ range checks


def digit_trees(layout: Layout) -> list[tuple[int, int]]:
    """Start and number of the digits of each fraction tree."""
    size = 1 << TREE_BITS
    return [(start, min(size, layout.digit_count - start)) for start in range(0, layout.digit_count, size)]


def layer_sumcheck(
    ch: Channel, prover: LayerOracle, name: str, claim: Node, point: Sequence[F]
) -> tuple[Node, list[F]]:
    """Sum-check of sum_x eq(point, x) g(x), g of degree 2, most significant variable first: end claim and its point.

    With t the round polynomial without its eq factor, a message is t(1) - t(0) and the leading coefficient of t; t(0)
    follows from ``claim = (1 - r) t(0) + r t(1)``, r being the variable's coordinate of the point.
    """
    bound: list[F] = []
    for r in point:
        slope, top = ch.send(f"tree/{name}", prover.round(), 2)
        rho = ch.challenge(f"rho/{name}")
        prover.bind(rho)
        claim = ch.tape.linear([(F.ONE, claim), (rho - r, slope), (rho * (rho - 1), top)])
        bound.append(rho)
    return claim, bound


def fraction_layer(
    ch: Channel, tree: TreeOracle, name: str, point: list[F], p: Node, q: Node
) -> tuple[list[F], Node, Node]:
    """From p~, q~ at a point of one level to the level below, whose first coordinate says which child."""
    lam = ch.challenge(f"lambda/{name}")
    prover = tree.layer(point, lam)
    claim = ch.tape.linear([(F.ONE, p), (lam, q)])
    claim, bound = layer_sumcheck(ch, prover, name, claim, point)
    ends = prover.finals()
    pairs = None if ends is None else [(ends[0], ends[1]), (ends[2], ends[3])]
    # p0 q1 + p1 q0 + lam q0 q1 = p0 q1 + u q0 with u = p1 + lam q1
    (p0, q1, first), (u, q0, second) = ch.send_pairs(f"tree-ends/{name}", pairs, 2)
    ch.assert_zero(ch.tape.linear([(F.ONE, claim), (F(-1), first), (F(-1), second)]), f"range-check/{name}")
    rho = ch.challenge(f"rho/{name}")
    p = ch.tape.linear([(1 - rho, p0), (rho, u), (-rho * lam, q1)])
    q = ch.tape.linear([(1 - rho, q0), (rho, q1)])
    return [rho, *bound], p, q


def unit_leaves(
    ch: Channel, tree: DigitTreeOracle, name: str, count: int, point: list[F], p: Node, q: Node
) -> tuple[list[F], Node]:
    """From p~, q~ above 2^(n+1) leaves to q~ of the leaves: `count` > 2^n of them are 1/q, the others 0/1.

    With b = p + lam q of the leaves and p known, lam (p0 q1 + p1 q0 + lam q0 q1) = b0 b1 - p0 p1.
    """
    lam = ch.challenge(f"lambda/{name}")
    prover = tree.leaves(point, lam)
    pairs = count - (1 << len(point))  # these have two leaves
    claim = ch.tape.linear([(lam, p), (lam * lam, q)], prefix_eq(point, pairs))
    claim, bound = layer_sumcheck(ch, prover, name, claim, point)
    ends = prover.finals()
    ((b0, b1, product),) = ch.send_pairs(f"leaves/{name}", None if ends is None else [(ends[0], ends[1])], 1)
    ch.assert_zero(ch.tape.linear([(F.ONE, claim), (F(-1), product)]), f"range-check/{name}")
    rho = ch.challenge(f"rho/{name}")
    inv = lam.inv()
    known = -inv * ((1 - rho) + rho * prefix_eq(bound, pairs))
    return [rho, *bound], ch.tape.linear([(inv * (1 - rho), b0), (inv * rho, b1)], known)


class FractionSum:
    """The sum P/Q of the roots of all trees, none of which is sent in clear."""

    def __init__(self, ch: Channel) -> None:
        self.ch = ch
        self.sum: tuple[Node, Node] | None = None
        self.values: tuple[F, F] | None = None

    def _same(self, a: Node, b: Node) -> None:
        self.ch.assert_zero(self.ch.tape.linear([(F.ONE, a), (F(-1), b)]), "range-check/roots")

    def add(self, root: tuple[F, F] | None) -> tuple[Node, Node]:
        """Send a root p/q and add it: P q + p Q over Q q. Returns p and q."""
        if self.sum is None:
            p, q = self.ch.send("roots", root, 2)
            self.sum, self.values = (p, q), root
            return p, q
        pairs = None
        if root is not None and self.values is not None:
            (vp, vq), (tp, tq) = root, self.values
            pairs = [(tp, vq), (vp, tq), (tq, vq)]
            self.values = tp * vq + vp * tq, tq * vq
        (top, q, first), (p, bottom, second), (again, other, product) = self.ch.send_pairs("roots", pairs, 3)
        for a, b in ((top, self.sum[0]), (bottom, self.sum[1]), (again, self.sum[1]), (other, q)):
            self._same(a, b)
        self.sum = self.ch.tape.linear([(F.ONE, first), (F.ONE, second)]), product
        return p, q

    def finish(self, root: tuple[F, F] | None) -> tuple[Node, Node]:
        """Send the last root p/q, for which P q + p Q = 0. Returns p and q."""
        assert self.sum is not None
        pairs = None
        if root is not None and self.values is not None:
            pairs = [(self.values[0], root[1]), (root[0], self.values[1])]
        (top, q, first), (p, bottom, second) = self.ch.send_pairs("roots", pairs, 2)
        self._same(top, self.sum[0])
        self._same(bottom, self.sum[1])
        self.ch.assert_zero(self.ch.tape.linear([(F.ONE, first), (F.ONE, second)]), "range-check/roots")
        return p, q


def range_check(ch: Channel, oracle: Oracle, layout: Layout) -> list[Claim]:
    """Every digit lies in its table: sum_i 1/(alpha - leaf_i) = sum_j m_j/(alpha - t_j), leaf = entry + i * class."""
    ch.grind("alpha", ALPHA_GRIND)
    alpha = ch.challenge("alpha")
    roots = FractionSum(ch)
    claims = [digit_claim(ch, oracle, layout, alpha, roots, *block) for block in digit_trees(layout)]
    return [*claims, table_claim(ch, oracle, layout, alpha, roots)]


def digit_claim(
    ch: Channel, oracle: Oracle, layout: Layout, alpha: F, roots: FractionSum, start: int, count: int
) -> Claim:
    """Reduce the root of one tree of digits to a claim on them."""
    tree = oracle.digit_tree(alpha, start, count)
    p, q = roots.add(tree.root())
    point: list[F] = []
    if count == 1:
        ch.assert_zero(ch.tape.linear([(F.ONE, p)], F(-1)), "range-check/digits")
    else:
        for _ in range(ceil_log2(count) - 1):
            point, p, q = fraction_layer(ch, tree, "digits", point, p, q)
        point, q = unit_leaves(ch, tree, "digits", count, point, p, q)
    public, previous = F.ONE - prefix_eq(point, count), F.ZERO
    for seg in layout.segments:
        if start < seg.stop and seg.start < start + count:
            here = prefix_eq(point, min(seg.stop - start, count))
            public = public + (here - previous) * (alpha - F(seg.shift, seg.cls))
            previous = here
    # q = public - sum eq(point, i) X_i
    node = ch.tape.linear([(F(-1), q)], public)
    return Claim("range-check/digits", Functional(spans=(Span(start, count, tuple(point)),)), node)


def table_claim(ch: Channel, oracle: Oracle, layout: Layout, alpha: F, roots: FractionSum) -> Claim:
    """Reduce the root of the tables to a claim on the multiplicities."""
    tree = oracle.table_tree(alpha)
    p, q = roots.finish(tree.root())
    point: list[F] = []
    for _ in range(ceil_log2(layout.table_entries)):
        point, p, q = fraction_layer(ch, tree, "table", point, p, q)
    public = F.ONE - prefix_eq(point, layout.table_entries)
    start = 0
    for cls, size in enumerate(layout.tables):
        stop = start + size
        mass = prefix_eq(point, stop) - prefix_eq(point, start)
        entries = prefix_index(point, stop) - prefix_index(point, start) - mass * start
        public = public + mass * (alpha - F(0, cls)) - entries
        start = stop
    ch.assert_zero(ch.tape.linear([(F(-1), q)], public), "range-check/table-denominators")
    node = ch.tape.linear([(F(-1), p)])
    span = Span(layout.multiplicity_start, layout.table_entries, tuple(point))
    return Claim("range-check/multiplicities", Functional(spans=(span,)), node)


# ------------------------------------------------------------------------------------------------ batching


def block_vectors(term: Term, block: Block) -> list[U64]:
    """The vectors of the inner axes restricted to a block; shorter than its axes where these are padded."""
    return [v[:, start : start + (1 << bits)] for v, (start, bits) in zip(term.vecs[1:], block.axes, strict=True)]


class AxisDots:
    """Inner products of vectors of tensor axes with eq(z[position:position + bits], .), all at once in the end."""

    def __init__(self, z: list[F]) -> None:
        self.z = z
        self.known: dict[tuple[object, ...], int] = {}
        self.parts: dict[tuple[int, int], list[tuple[int, U64]]] = {}

    def number(self, vec: U64, position: int, bits: int) -> int:
        """The number of <vec, eq>, vec (2, n <= 2^bits) alive until `values`; equal views of one array share it."""
        memory = vec.__array_interface__["data"]
        key = (memory, vec.strides, vec.shape[1], position, bits)
        if key not in self.known:
            self.known[key] = len(self.known)
            self.parts.setdefault((position, bits), []).append((self.known[key], vec))
        return self.known[key]

    def values(self) -> U64:
        """F array (2, count + 1): the inner products by number, and 1."""
        out = np.zeros((2, len(self.known) + 1), np.uint64)
        out[0, -1] = 1
        for (position, bits), parts in self.parts.items():
            eq = ff.eq_table(self.z[position : position + bits])
            for k in range(0, len(parts), step := 1 + (1 << 20 >> bits)):
                vecs = np.zeros((2, len(parts[k : k + step]), 1 << bits), np.uint64)
                for row, (_, vec) in enumerate(parts[k : k + step]):
                    vecs[:, row, : vec.shape[1]] = vec
                out[:, [number for number, _ in parts[k : k + step]]] = ff.f_matvec(vecs, eq)
        return out


def run_sums(x: U64, lengths: Sequence[int]) -> U64:
    """Sums (2, k) of consecutive runs of x (2, n) of the given positive lengths, which add up to n."""
    first = np.cumsum([0, *lengths[:-1]])
    low = np.add.reduceat(x & np.uint64((1 << 32) - 1), first, axis=1)
    high = np.add.reduceat(x >> np.uint64(32), first, axis=1)
    return ff.fp_add(ff.fp_mul(high, np.array(1 << 32, np.uint64)), low)


def weight_at(layout: Layout, claims: Sequence[Claim], weights: Sequence[F], z: list[F]) -> F:
    """The multilinear extension at z of the combined weight vector sum_j weights[j] * functional_j.

    A term contributes, per block of its tensor, <its heads, eq(z, .) of the columns> times one inner product per axis.
    """
    total = F.ZERO
    dots, columns = AxisDots(z), column_heads(layout, z)
    coefs: list[F] = []  # of each term's digits, with the claim's weight
    unrolls: list[U64] = []  # each term's first vector, once per digit
    sizes: list[int] = []  # of each term's heads
    eqs: list[U64] = []  # from here on one entry per term and block
    owners: list[int] = []
    factors: list[list[int]] = []
    for claim, weight in zip(claims, weights, strict=True):
        for span in claim.functional.spans:
            total = total + weight * span_at(layout, span, z)
        for term in claim.functional.terms:
            digits = len(term.tensor.digits)
            for b, block in enumerate(layout.places[term.tensor].blocks):
                position, numbers = len(z) - block.bits, []
                for vec, (_, bits) in zip(block_vectors(term, block), block.axes, strict=True):
                    numbers.append(dots.number(vec, position, bits))
                    position += bits
                factors.append(numbers)
                eqs.append(columns[term.tensor, b].reshape(2, -1))
                owners.append(len(sizes))
            coefs += [weight * term.coefs[d] if d in term.coefs else F.ZERO for d in range(digits)]
            unrolls += [term.vecs[0]] * digits
            sizes.append(digits * term.tensor.unroll)
    if not owners:
        return total
    repeats = [v.shape[1] for v in unrolls]
    heads = ff.f_mul(np.repeat(ff.f_array(coefs), repeats, axis=1), np.concatenate(unrolls, axis=1))
    parts = np.split(heads, np.cumsum(sizes), axis=1)
    terms = ff.f_mul(np.concatenate([parts[i] for i in owners], axis=1), np.concatenate(eqs, axis=1))
    sums, values = run_sums(terms, [v.shape[1] for v in eqs]), dots.values()
    for column in zip_longest(*factors, fillvalue=-1):
        sums = ff.f_mul(sums, values[:, list(column)])
    return total + ff.f_item(ff.f_sum(sums))


def span_at(layout: Layout, span: Span, z: list[F]) -> F:
    """sum_{i < count} eq(point, i) eq(z, start + i)."""
    n = len(z)
    bits = len(span.point)
    if span.start % (1 << bits) == 0:
        bit = [(span.start >> (n - 1 - j)) & 1 for j in range(n - bits)]
        head = F.ONE
        for b, r in zip(bit, z, strict=False):
            head = head * (r if b else 1 - r)
        return head * prefix_eq2(list(span.point), z[n - bits :], span.count)
    point, bits = [F.ZERO] * (n - bits) + list(span.point), layout.multiplicity_bits
    full, cut = ff.eq_eval(point[n - bits :], z[n - bits :]), n - bits
    blocks = np.arange(-(-span.count >> bits))
    heads = ff.f_mul(eq_at(point[:cut], blocks), eq_at(z[:cut], blocks + (span.start >> bits)))
    rest = span.count & ((1 << bits) - 1)
    last = prefix_eq2(point[cut:], z[cut:], rest) if rest else full
    value = ff.f_item(ff.f_sum(heads[:, :-1])) * full if len(blocks) > 1 else F.ZERO
    return value + ff.f_item(heads, -1) * last


def batch(ch: Channel, oracle: Oracle, layout: Layout, claims: Sequence[Claim], n: int) -> list[F]:
    """All claims to one: returns the point z; the revealed value of X~(z) is checked against the claims here."""
    xi = ch.challenge("batch")
    weights, power = [], F.ONE
    for _ in claims:
        weights.append(power)
        power = power * xi
    prover = oracle.batch(claims, weights)
    claim = ch.tape.linear([(w, c.node) for w, c in zip(weights, claims, strict=True)])
    z: list[F] = []
    for _ in range(n):
        t0, tinf = ch.send("batch", prover.round(), 2)
        rho = ch.challenge("rho/batch")
        prover.bind(rho)
        claim = next_claim(ch, claim, t0, tinf, rho, None)
        z.insert(0, rho)
    value = ch.reveal("opened", prover.final())
    w = prover.weight()
    if w is None:
        w = weight_at(layout, claims, weights, z)
    ch.assert_zero(ch.tape.linear([(F.ONE, claim)], -value * w), "batch")
    return z


def message_counts(layout: Layout, n: int) -> tuple[int, int]:
    """How many single pads and triples `run` uses."""
    singles = triples = 0
    for con in layout.circuit.constraints:
        pairs = len({primitive(a)[1] for _, e in con.members for a, _ in e.products})
        if pairs:
            _, kept = split_axes(con)
            singles += 1 + 2 * sum(ax.bits for ax in kept)
            triples += pairs
    depths = [ceil_log2(count) for _, count in digit_trees(layout)]
    table = ceil_log2(layout.table_entries)
    for depth in (*depths, table):
        singles += depth * (depth - 1)  # two per round, d rounds in layer d
        triples += 2 * depth
    triples -= sum(d > 0 for d in depths)  # one product where the leaves are reached
    return singles + 2 + 2 * n, triples + 3 * (len(depths) - 1) + 2


def no_phase(name: str) -> AbstractContextManager[object]:
    return nullcontext()


def run(
    ch: Channel,
    oracle: Oracle,
    layout: Layout,
    n: int,
    *,
    phase: Phase = no_phase,
) -> list[F]:
    """The whole argument up to one evaluation claim on X; returns its point (n coordinates)."""
    circuit: Circuit = layout.circuit
    claims: list[Claim] = []
    with phase("constraints"):
        for con in circuit.constraints:
            claims += constraint_claims(ch, oracle, con)
        claims += [public_claim(ch, p) for p in circuit.publics]
        claims += [link_claim(ch, link) for link in circuit.links]
    with phase("range checks"):
        claims += range_check(ch, oracle, layout)
    with phase("batch"):
        oracle.check(claims, ch)
        return batch(ch, oracle, layout, claims, n)
