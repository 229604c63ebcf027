"""The last sum-check, from all claims to one value of X~ at a point (docs/spec/argument.md, "Batch")."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import NamedTuple

import numpy as np

from circuits.language.layout import Block, Layout, column_heads, eq_at, prefix_eq2
from zkcert.core import field as ff
from zkcert.core.field import U64, F

from .channel import Channel
from .claims import Claim, Oracle, Span, Term
from .identities import next_claim

CHUNK = 1 << 20  # entries of term heads, or of vectors of axes, in memory at once


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
            for k in range(0, len(parts), step := 1 + (CHUNK >> bits)):
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
    terms: list[WeightedTerm] = []
    for claim, weight in zip(claims, weights, strict=True):
        for span in claim.functional.spans:
            total = total + weight * span_at(span, z)
        for term in claim.functional.terms:
            blocks = []
            for b, block in enumerate(layout.places[term.tensor].blocks):
                position, numbers = len(z) - block.bits, []
                for vec, (_, bits) in zip(block_vectors(term, block), block.axes, strict=True):
                    numbers.append(dots.number(vec, position, bits))
                    position += bits
                blocks.append((columns[term.tensor, b].reshape(2, -1), numbers))
            digits = range(len(term.tensor.digits))
            coefs = [weight * term.coefs[d] if d in term.coefs else F.ZERO for d in digits]
            terms.append(WeightedTerm(coefs, term.vecs[0], blocks))
    values = dots.values()
    start = size = 0
    for stop, weighted in enumerate(terms, 1):
        size += weighted.size
        if size >= CHUNK or stop == len(terms):
            total = total + chunk_at(terms[start:stop], values)
            start, size = stop, 0
    return total


class WeightedTerm(NamedTuple):
    """A term's coefficients times its claim's weight, one per digit; its first vector (2, unroll); and per block of its
    tensor eq(z, .) of the columns (2, digits * unroll) and the numbers of the inner products of the other axes."""

    coefs: list[F]
    unroll: U64
    blocks: list[tuple[U64, list[int]]]

    @property
    def size(self) -> int:
        """Entries of its heads, over all blocks."""
        return len(self.coefs) * int(self.unroll.shape[1]) * len(self.blocks)


def chunk_at(terms: Sequence[WeightedTerm], values: U64) -> F:
    """The sum of what some terms contribute; values: the inner products by number, and 1."""
    coefs = ff.f_array([c for term in terms for c in term.coefs])
    unrolls = [term.unroll for term in terms for _ in term.coefs]
    repeats = [v.shape[1] for v in unrolls]
    heads = ff.f_mul(np.repeat(coefs, repeats, axis=1), np.concatenate(unrolls, axis=1))
    parts = np.split(heads, np.cumsum([len(term.coefs) * term.unroll.shape[1] for term in terms])[:-1], axis=1)
    blocks = [(part, eq, numbers) for part, term in zip(parts, terms, strict=True) for eq, numbers in term.blocks]
    products = ff.f_mul(*(np.concatenate([block[i] for block in blocks], axis=1) for i in (0, 1)))
    sums = run_sums(products, [eq.shape[1] for _, eq, _ in blocks])
    for column in zip_longest(*(numbers for _, _, numbers in blocks), fillvalue=-1):
        sums = ff.f_mul(sums, values[:, list(column)])
    return ff.f_item(ff.f_sum(sums))


def span_at(span: Span, z: list[F]) -> F:
    """sum_{i < count} eq(point, i) eq(z, start + i); the work grows with count over the power of two in start."""
    n = len(z)
    bits = len(span.point)
    if span.start % (1 << bits) == 0:
        bit = [(span.start >> (n - 1 - j)) & 1 for j in range(n - bits)]
        head = F.ONE
        for b, r in zip(bit, z, strict=False):
            head = head * (r if b else 1 - r)
        return head * prefix_eq2(list(span.point), z[n - bits :], span.count)
    point, bits = [F.ZERO] * (n - bits) + list(span.point), (span.start & -span.start).bit_length() - 1
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
    ends = prover.finals()
    value = ch.reveal("opened", ends[0][0] if ends else None)
    weight = ends[0][1] if ends else weight_at(layout, claims, weights, z)
    ch.assert_zero(ch.tape.linear([(F.ONE, claim)], -value * weight), "batch")
    return z
