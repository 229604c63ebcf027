"""Lookups by LogUp-GKR: fraction trees over the digits, the tuples and the tables (docs/spec/argument.md)."""

from __future__ import annotations

from collections.abc import Sequence

from circuits.language.layout import Layout, prefix_eq, prefix_index
from circuits.language.tensors import ceil_log2
from zkcert.core.field import F

from .channel import Channel, Node
from .claims import Claim, Functional, Oracle, Span, Sumcheck, Tree
from .tuples import Box, leaf_count, table_denominators, tuple_denominators, tuple_trees

ALPHA_GRIND = 16
TREE_BITS = 27  # log2 of the most digits of one fraction tree


def digit_trees(layout: Layout) -> list[tuple[int, int]]:
    """Start and number of the digits of each fraction tree."""
    size = 1 << TREE_BITS
    return [(first + done, min(size, count - done)) for first, count in layout.runs for done in range(0, count, size)]


def layer_sumcheck(ch: Channel, prover: Sumcheck, name: str, claim: Node, point: Sequence[F]) -> tuple[Node, list[F]]:
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


def fraction_layer(ch: Channel, tree: Tree, name: str, point: list[F], p: Node, q: Node) -> tuple[list[F], Node, Node]:
    """From p~, q~ at a point of one level to the level below, whose first coordinate says which child."""
    lam = ch.challenge(f"lambda/{name}")
    prover = tree.layer(point, lam)
    claim = ch.tape.linear([(F.ONE, p), (lam, q)])
    claim, bound = layer_sumcheck(ch, prover, name, claim, point)
    # p0 q1 + p1 q0 + lam q0 q1 = p0 q1 + u q0 with u = p1 + lam q1
    (p0, q1, first), (u, q0, second) = ch.send_pairs(f"tree-ends/{name}", prover.finals(), 2)
    ch.assert_zero(ch.tape.linear([(F.ONE, claim), (F(-1), first), (F(-1), second)]), f"range-check/{name}")
    rho = ch.challenge(f"rho/{name}")
    p = ch.tape.linear([(1 - rho, p0), (rho, u), (-rho * lam, q1)])
    q = ch.tape.linear([(1 - rho, q0), (rho, q1)])
    return [rho, *bound], p, q


def unit_leaves(
    ch: Channel, tree: Tree, name: str, count: int, point: list[F], p: Node, q: Node
) -> tuple[list[F], Node]:
    """From p~, q~ above 2^(n+1) leaves to q~ of the leaves: `count` > 2^n of them are 1/q, the others 0/1.

    With b = p + lam q of the leaves and p known, lam (p0 q1 + p1 q0 + lam q0 q1) = b0 b1 - p0 p1.
    """
    lam = ch.challenge(f"lambda/{name}")
    prover = tree.leaves(point, lam)
    pairs = count - (1 << len(point))  # these have two leaves
    claim = ch.tape.linear([(lam, p), (lam * lam, q)], prefix_eq(point, pairs))
    claim, bound = layer_sumcheck(ch, prover, name, claim, point)
    ((b0, b1, product),) = ch.send_pairs(f"leaves/{name}", prover.finals(), 1)
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

    def add(self, root: tuple[F, F] | None, *, last: bool = False) -> tuple[Node, Node]:
        """Send a root p/q and add it: P q + p Q over Q q, which is zero with the last one. Returns p and q."""
        if self.sum is None:
            p, q = self.ch.send("roots", root, 2)
            self.sum, self.values = (p, q), root
            return p, q
        pairs, count = None, 2 if last else 3
        if root is not None and self.values is not None:
            (vp, vq), (tp, tq) = root, self.values
            pairs = [(tp, vq), (vp, tq), (tq, vq)][:count]
            self.values = tp * vq + vp * tq, tq * vq
        (top, q, first), (p, bottom, second), *rest = self.ch.send_pairs("roots", pairs, count)
        self._same(top, self.sum[0])
        self._same(bottom, self.sum[1])
        total = self.ch.tape.linear([(F.ONE, first), (F.ONE, second)])
        if last:
            self.ch.assert_zero(total, "range-check/roots")
            return p, q
        ((again, other, product),) = rest
        self._same(again, self.sum[1])
        self._same(other, q)
        self.sum = total, product
        return p, q


def range_check(ch: Channel, oracle: Oracle, layout: Layout) -> list[Claim]:
    """Every digit and every tuple lies in its table: sum_i 1/(alpha - leaf_i) = sum_j m_j/(alpha - t_j).

    A digit's leaf is entry + i * class, a tuple's v_0 + gamma v_1 + gamma^2 v_2 + ... + i * class.
    """
    ch.grind("alpha", ALPHA_GRIND)
    alpha = ch.challenge("alpha")
    gamma = ch.challenge("gamma") if layout.functions else F.ZERO
    roots = FractionSum(ch)
    claims = [digit_claim(ch, oracle, layout, alpha, roots, *block) for block in digit_trees(layout)]
    claims += [tuple_claim(ch, oracle, layout, alpha, gamma, roots, tree) for tree in tuple_trees(layout)]
    return [*claims, table_claim(ch, oracle, layout, alpha, gamma, roots)]


def to_leaves(ch: Channel, tree: Tree, roots: FractionSum, name: str, count: int) -> tuple[list[F], Node]:
    """Reduce the root of a tree of `count` leaves 1/q to q~ of the leaves at a point."""
    p, q = roots.add(tree.root())
    point: list[F] = []
    if count == 1:
        ch.assert_zero(ch.tape.linear([(F.ONE, p)], F(-1)), f"range-check/{name}")
        return point, q
    for _ in range(ceil_log2(count) - 1):
        point, p, q = fraction_layer(ch, tree, name, point, p, q)
    return unit_leaves(ch, tree, name, count, point, p, q)


def digit_claim(
    ch: Channel, oracle: Oracle, layout: Layout, alpha: F, roots: FractionSum, start: int, count: int
) -> Claim:
    """Reduce the root of one tree of digits to a claim on them."""
    point, q = to_leaves(ch, oracle.digit_tree(alpha, start, count), roots, "digits", count)
    public, previous = F.ONE - prefix_eq(point, count), F.ZERO
    for seg in layout.segments:
        if start < seg.stop and seg.start < start + count:
            here = prefix_eq(point, min(seg.stop - start, count))
            public = public + (here - previous) * (alpha - F(seg.shift, seg.cls))
            previous = here
    # q = public - sum eq(point, i) X_i
    node = ch.tape.linear([(F(-1), q)], public)
    return Claim("range-check/digits", Functional(spans=(Span(start, count, tuple(point)),)), node)


def tuple_claim(
    ch: Channel, oracle: Oracle, layout: Layout, alpha: F, gamma: F, roots: FractionSum, tree: Sequence[Box]
) -> Claim:
    """Reduce the root of one tree of tuples to a claim on the digits in them."""
    point, q = to_leaves(ch, oracle.tuple_tree(alpha, gamma, tree), roots, "tuples", leaf_count(tree))
    public, functional = tuple_denominators(layout, tree, alpha, gamma, point)
    return Claim("range-check/tuples", functional, ch.tape.linear([(F(-1), q)], public))


def table_claim(ch: Channel, oracle: Oracle, layout: Layout, alpha: F, gamma: F, roots: FractionSum) -> Claim:
    """Reduce the root of the tables to a claim on the multiplicities."""
    tree = oracle.table_tree(alpha, gamma)
    p, q = roots.add(tree.root(), last=True)
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
    public = public + table_denominators(layout, alpha, gamma, point)
    ch.assert_zero(ch.tape.linear([(F(-1), q)], public), "range-check/table-denominators")
    node = ch.tape.linear([(F(-1), p)])
    span = Span(layout.multiplicity_start, layout.table_entries, tuple(point))
    return Claim("range-check/multiplicities", Functional(spans=(span,)), node)
