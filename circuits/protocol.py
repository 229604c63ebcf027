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
    Same,
    Source,
    Tensor,
    View,
    ceil_log2,
)
from .layout import Layout, column_heads, eq_at, prefix_eq, prefix_eq2, prefix_index

U64 = NDArray[np.uint64]
Vectors = Mapping[str, U64]

Phase = Callable[[str], AbstractContextManager[object]]

ALPHA_GRIND = 16


# ------------------------------------------------------------------------------------------------ functionals


@dataclass(frozen=True)
class Term:
    """sum_d coefs[d] * sum_index (prod_axis vecs[axis][index]) * digit_d[index] of one tensor."""

    tensor: Tensor
    coefs: dict[int, F]
    vecs: tuple[U64, ...]


@dataclass(frozen=True)
class Span:
    """sum_{i < count} eq(point, i) * X[start + i]; `start` is 0 or the start of the multiplicities."""

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


class TreeOracle(Protocol):
    def root(self) -> tuple[F, F] | None: ...

    def start_layer(self, depth: int, point: Sequence[F], lam: F) -> None: ...

    def round(self, eq_rest: int) -> tuple[F, F] | None: ...

    def bind(self, r: F) -> None: ...

    def finals(self) -> tuple[F, F, F, F] | None: ...


class BatchOracle(Protocol):
    def round(self) -> tuple[F, F] | None: ...

    def bind(self, r: F) -> None: ...

    def final(self) -> F | None: ...


class Oracle(Protocol):
    """Everything a reduction asks of the prover."""

    def products(self, job: ProductJob) -> ProductOracle: ...

    def trees(self, alpha: F) -> tuple[TreeOracle, TreeOracle]: ...

    def batch(self, claims: Sequence[Claim], weights: Sequence[F]) -> BatchOracle: ...

    def check(self, claims: Sequence[Claim], ch: Channel) -> None:
        """A chance for a strict prover to compare every claim with its witness."""


# ------------------------------------------------------------------------------------------------ constraints


@dataclass
class ProductJob:
    """sum over kept axes of e * sum_k A_k * B_k, with private output axes folded by `vecs`.

    The table index runs over `eq_axes` (weighted by eq(eq_point, .)) then `plain_axes`, most significant first.
    """

    name: str
    eq_axes: tuple[DomainAxis, ...]
    plain_axes: tuple[DomainAxis, ...]
    eq_point: list[F]
    vecs: dict[str, U64]
    pairs: list[tuple[Form, Form]]

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


def resolve(form: Form, vecs: Vectors, broadcast: frozenset[str]) -> Functional:
    """The functional ``sum_index prod vecs * form``; axes in `broadcast` a view does not read are summed out."""
    groups: dict[View, dict[int, F]] = {}
    for v, d, c in form.terms:
        coefs = groups.setdefault(v, {})
        coefs[d] = coefs.get(d, F.ZERO) + c
    terms = []
    sums: dict[str, F] = {}
    known: dict[tuple[str, int], U64] = {}

    def vector(src: Source) -> U64:
        """One array object per plain axis, so that later steps can recognise it."""
        if not isinstance(src, Same):
            return src.vector(vecs)
        if (src.axis, src.size) not in known:
            known[src.axis, src.size] = src.vector(vecs)
        return known[src.axis, src.size]

    for v, coefs in groups.items():
        factor = F.ONE
        for name in sorted(broadcast - v.axes):
            if name not in sums:
                sums[name] = ff.f_item(ff.f_sum(vecs[name]))
            factor = factor * sums[name]
        vectors = tuple(vector(src) for src in v.sources)
        terms.append(Term(v.tensor, {d: c * factor for d, c in coefs.items()}, vectors))
    return Functional(tuple(terms))


def group_pairs(con: Constraint, weights: Sequence[F]) -> list[tuple[Form, Form]]:
    """The weighted products of all members, gathered by their left form."""
    grouped: dict[Form, dict[tuple[View, int], Coef]] = {}
    for (_, e), w in zip(con.members, weights, strict=True):
        for a, b in e.products:
            acc = grouped.setdefault(a, {})
            for v, d, c in b.terms:
                acc[v, d] = acc.get((v, d), F.ZERO) + w * c
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
    functional = resolve(Form(tuple((v, d, k) for (v, d), k in linear.items())), vecs, out_names)
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
    kept_names = frozenset(ax.name for ax in job.kept)
    ends = ch.send_pairs(f"ends/{con.name}", prover.finals(), len(pairs))
    check = [(F.ONE, claim)]
    for (fa, fb), (a, b, ab) in zip(pairs, ends, strict=True):
        check.append((F(-1), ab))
        claims.append(Claim(con.name, resolve(fa, kept_vecs, kept_names), a))
        claims.append(Claim(con.name, resolve(fb, kept_vecs, kept_names), b))
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
    value = F.ZERO
    for d, w in enumerate(weights):
        acc = p.values[d]
        if not vecs:  # a single number
            value = value + w * F(int(acc))
            continue
        rows = ff.f_dot_int(acc.reshape(-1, acc.shape[-1]), vecs[-1])
        rows = rows.reshape(2, *acc.shape[:-1])
        for v in reversed(vecs[:-1]):
            rows = ff.f_sum(ff.f_mul(rows, v.reshape(2, *[1] * (rows.ndim - 2), -1)))
        value = value + w * ff.f_item(rows)
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


def fraction_tree(
    ch: Channel, prover: TreeOracle, name: str, depth: int, root: tuple[Node, Node]
) -> tuple[list[F], Node, Node]:
    """LogUp-GKR: from the root fraction (p, q) to p~(r), q~(r) on `2^depth` leaves. Returns r, p, q."""
    p, q = root
    point: list[F] = []
    for layer in range(depth):
        lam = ch.challenge(f"lambda/{name}")
        prover.start_layer(layer, point, lam)
        claim = ch.tape.linear([(F.ONE, p), (lam, q)])
        bound: list[F] = []
        for j in range(layer):
            left = layer - j
            t0, tinf = ch.send(f"tree/{name}", prover.round(left - 1), 2)
            rho = ch.challenge(f"rho/{name}")
            prover.bind(rho)
            claim = next_claim(ch, claim, t0, tinf, rho, point[left - 1])
            bound.insert(0, rho)
        ends = prover.finals()
        if ends is None:
            pairs = None
        else:
            p0, p1, q0, q1 = ends
            pairs = [(p0, q1), (p1 + lam * q1, q0)]
        # p0 q1 + p1 q0 + lam q0 q1 = p0 q1 + (p1 + lam q1) q0
        (n_p0, n_q1, first), (n_m, n_q0, second) = ch.send_pairs(f"tree-ends/{name}", pairs, 2)
        ch.assert_zero(ch.tape.linear([(F.ONE, claim), (F(-1), first), (F(-1), second)]), f"range-check/{name}")
        rho = ch.challenge(f"rho/{name}")
        p = ch.tape.linear([(1 - rho, n_p0), (rho, n_m), (-rho * lam, n_q1)])
        q = ch.tape.linear([(1 - rho, n_q0), (rho, n_q1)])
        point = [*bound, rho]
    return point, p, q


def range_check(ch: Channel, oracle: Oracle, layout: Layout) -> list[Claim]:
    """Every digit lies in its table: sum_i 1/(alpha - leaf_i) = sum_j m_j/(alpha - t_j), leaf = entry + i * class."""
    ch.grind("alpha", ALPHA_GRIND)
    alpha = ch.challenge("alpha")
    digits, table = oracle.trees(alpha)
    roots_w, roots_t = digits.root(), table.root()
    pairs = None
    if roots_w is not None and roots_t is not None:
        pairs = [(roots_w[0], roots_t[1]), (roots_t[0], roots_w[1])]
    (pw, qt, first), (pt, qw, second) = ch.send_pairs("roots", pairs, 2)
    ch.assert_zero(ch.tape.linear([(F.ONE, first), (F.ONE, second)]), "range-check/roots")

    count = layout.digit_count
    point, p, q = fraction_tree(ch, digits, "digits", ceil_log2(count), (pw, qw))
    ch.assert_zero(ch.tape.linear([(F.ONE, p)], -prefix_eq(point, count)), "range-check/digit-numerators")
    public, previous = F.ONE - prefix_eq(point, count), F.ZERO
    for seg in layout.segments:
        here = prefix_eq(point, seg.stop)
        public = public + (here - previous) * (alpha - F(seg.shift, seg.cls))
        previous = here
    # q = public - sum eq(point, i) X_i
    node = ch.tape.linear([(F(-1), q)], public)
    claims = [Claim("range-check/digits", Functional(spans=(Span(0, count, tuple(point)),)), node)]

    point, p, q = fraction_tree(ch, table, "table", ceil_log2(layout.table_entries), (pt, qt))
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
    claims.append(Claim("range-check/multiplicities", Functional(spans=(span,)), node))
    return claims


# ------------------------------------------------------------------------------------------------ batching


def weight_at(layout: Layout, claims: Sequence[Claim], weights: Sequence[F], z: list[F]) -> F:
    """The multilinear extension at z of the combined weight vector sum_j weights[j] * functional_j."""
    heads = column_heads(layout, z)
    tables: dict[tuple[int, int], U64] = {}
    dots: dict[tuple[int, int, int, int], F] = {}

    def dot(vec: U64, position: int, bits: int, start: int) -> F:
        """<vec[start:], eq(z[position:position + bits], .)>, remembered: claims share their vectors."""
        key = (id(vec), position, bits, start)
        if key not in dots:
            if (position, bits) not in tables:
                tables[position, bits] = ff.eq_table(z[position : position + bits])
            part = vec[:, start : start + (1 << bits)]
            dots[key] = ff.f_dot(part, tables[position, bits][:, : part.shape[1]])
        return dots[key]

    total = F.ZERO
    for claim, w in zip(claims, weights, strict=True):
        value = F.ZERO
        for span in claim.functional.spans:
            value = value + span_at(layout, span, z)
        for term in claim.functional.terms:
            place = layout.places[term.tensor]
            digits = sorted(term.coefs)
            coefs = ff.f_array([term.coefs[d] for d in digits])
            for b, block in enumerate(place.blocks):
                position, low = len(z) - block.bits, F.ONE
                for axis, (start, bits) in enumerate(block.axes, 1):
                    low = low * dot(term.vecs[axis], position, bits, start)
                    position += bits
                head = ff.f_mul(heads[term.tensor, b][:, digits], term.vecs[0][:, None, :])
                head = ff.f_mul(head, coefs[:, :, None])
                value = value + low * ff.f_item(ff.f_sum(head.reshape(2, -1)))
        total = total + w * value
    return total


def span_at(layout: Layout, span: Span, z: list[F]) -> F:
    """sum_{i < count} eq(point, i) eq(z, start + i)."""
    n = len(z)
    point = [F.ZERO] * (n - len(span.point)) + list(span.point)
    if span.start == 0:
        return prefix_eq2(point, z, span.count)
    bits = layout.multiplicity_bits
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
    w = weight_at(layout, claims, weights, z)
    ch.assert_zero(ch.tape.linear([(F.ONE, claim)], -value * w), "batch")
    return z


def message_counts(layout: Layout, n: int) -> tuple[int, int]:
    """How many single pads and triples `run` uses."""
    singles = triples = 0
    for con in layout.circuit.constraints:
        pairs = len({a for _, e in con.members for a, _ in e.products})
        if pairs:
            _, kept = split_axes(con)
            singles += 1 + 2 * sum(ax.bits for ax in kept)
            triples += pairs
    for depth in (ceil_log2(layout.digit_count), ceil_log2(layout.table_entries)):
        singles += depth * (depth - 1)  # two per round, d rounds in layer d
        triples += 2 * depth
    return singles + 2 * n, triples + 2


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
