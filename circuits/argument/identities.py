"""From identities (constraints, public tensors, modular links) to claims: docs/spec/argument.md."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence

import numpy as np

from circuits.language.constraints import Constraint, ModularLink, PublicTensor
from circuits.language.drawn import Weighing
from circuits.language.forms import Coef, Form, View
from circuits.language.sources import Axis, Source
from circuits.language.tensors import ceil_log2
from zkcert.core import field as ff
from zkcert.core.field import U64, F

from .channel import Channel, Node
from .claims import Claim, Functional, Oracle, ProductJob, Sumcheck, Term

Vectors = Mapping[str, U64]
LINK_COLUMNS = 1 << 12  # of a link's matrix in memory, extended to F, at once


def draw_point(ch: Channel, axes: Iterable[Axis]) -> tuple[dict[str, list[F]], dict[str, U64]]:
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
        self._seen: dict[int, tuple[Source, U64]] = {}  # by identity: hashing a source reads its whole table

    def _vector(self, src: Source) -> U64:
        if id(src) not in self._seen:
            if src not in self._vectors:
                self._vectors[src] = src.vector(self.vecs)
            self._seen[id(src)] = src, self._vectors[src]
        return self._seen[id(src)][1]

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
        weighed: dict[Hashable, tuple[View, int, int, U64]] = {}
        for v, coefs in groups.items():
            for name in sorted(self.broadcast - v.axes):
                factor = self._sum(name)
                coefs = {d: c * factor for d, c in coefs.items()}
            at = next((i for i, source in enumerate(v.sources) if isinstance(source, Weighing)), None)
            if at is None:
                terms.append(Term(v.tensor, coefs, tuple(map(self._vector, v.sources))))
                continue
            # Views that differ in drawn weights only: one vector for all primes and parts.
            vector = self._vector(v.sources[at])
            for d, c in coefs.items():
                key = v.tensor, d, at, v.sources[:at], v.sources[at + 1 :]
                more = ff.f_mul_scalar(vector, c)
                known = weighed.get(key)
                weighed[key] = v, d, at, more if known is None else ff.f_add(known[3], more)
        for v, d, at, vector in weighed.values():
            vecs = [vector if i == at else self._vector(source) for i, source in enumerate(v.sources)]
            terms.append(Term(v.tensor, {d: F.ONE}, tuple(vecs)))
        return Functional(tuple(terms))


def group_pairs(con: Constraint, weights: Sequence[F]) -> list[tuple[Form, Form]]:
    """The weighted products of all members, gathered by their left form up to an integer factor."""
    grouped: dict[Form, dict[tuple[View, int], Coef]] = {}
    for (_, e), w in zip(con.members, weights, strict=True):
        for a, b in e.products:
            content, left = a.primitive
            acc = grouped.setdefault(left, {})
            for v, d, c in b.terms:
                acc[v, d] = acc.get((v, d), F.ZERO) + w * (content * c)
    return [(a, Form(tuple((v, d, c) for (v, d), c in acc.items()))) for a, acc in grouped.items()]


def split_axes(con: Constraint) -> tuple[tuple[Axis, ...], tuple[Axis, ...]]:
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


def product_sumcheck(ch: Channel, prover: Sumcheck, claim: Node, job: ProductJob) -> tuple[Node, list[F]]:
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
    for tensor, columns in link.parts:
        count = tensor.shape[-1]
        parts = [columns(j, min(j + LINK_COLUMNS, count)) for j in range(0, count, LINK_COLUMNS)]
        sums = [ff.f_sum(ff.f_scale(gamma.reshape(2, 1, rows), np.ascontiguousarray(part.T))) for part in parts]
        terms.append(Term(tensor, {0: F.ONE}, (vu, vb, np.concatenate(sums, axis=1))))
    per = ff.f_sum(ff.f_scale(gamma.reshape(2, 1, 1, rows), link.target))
    per = ff.f_sum(ff.f_mul(per, vb.reshape(2, 1, batch)))
    value = ff.f_item(ff.f_sum(ff.f_mul(per, vu)))
    return Claim(f"link/{link.name}", Functional(tuple(terms)), ch.tape.known(value))
