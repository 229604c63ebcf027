"""What a forger can hope for, term by term (soundness.md)."""

from __future__ import annotations

from math import log2

from .argument import Counts, boxes, pairs_of
from .commitment import PadShape, Shape
from .field import P, bits
from .language import PRIMES, Circuit, Layout

Table = dict[str, tuple[float, int]]  # log2 of each error, and its bits of grinding


def terms(circuit: Circuit, layout: Layout, shape: Shape, pads: PadShape, counts: Counts) -> Table:
    """The table of soundness.md for a circuit."""
    field = 2 * log2(P)
    points = products = 0
    for con in circuit.constraints:
        out = sum(bits(n) for _, n in con.out)
        points += len(con.members) + out
        if pairs_of(con):
            products += 2 * (out + sum(bits(n) for _, n in con.summed))
    for tensor, _ in circuit.public:
        t = circuit.tensors[tensor]
        points += len(t.digits) + sum(bits(n) for n in t.sizes)
    points += sum(sum(sizes) for _, sizes, _ in circuit.links)
    depths = [bits(c) for c in counts.trees] + [bits(layout.entries)]
    trees = sum(1 + sum(2 * d + 2 for d in range(depth)) for depth in depths)
    batch = len(circuit.constraints) + 2 * counts.triples + len(circuit.public) + len(circuit.links)
    batch += len(counts.trees) + 1 + 2 * shape.variables
    degree = layout.digit_count + sum(layout.tables)
    degree += sum(len(f.rows) * max(1, len(f.rows[0]) - 1) for f in circuit.functions)
    for lookup in circuit.lookups:
        degree += max(1, len(lookup.components) - 1) * sum(box.size for box in boxes(lookup))
    rate = ((1 << shape.k) + shape.t + 8) / (1 << shape.m)
    opening: Table = {
        "level 1 proximity": (shape.m - field, 16),
        "level 1 queries": (shape.t * log2((1 + rate) / 2), 16),
    }
    for number, level in enumerate(shape.levels, 2):
        opening[f"level {number} claims"] = (log2(2 + 2 * level.rounds) - field, 0)
        opening[f"level {number} proximity"] = (level.m - field, 16)
        opening[f"level {number} queries"] = (level.t * log2((1 + 2.0 ** (level.k - level.m)) / 2), 16)
    combinations: Table = {}
    if circuit.draws:
        combinations["combinations modulo five primes"] = (4 * log2(circuit.weighed_axes / PRIMES[-1]), 16)
    return {
        "random points and member weights": (log2(points) - field, 0),
        **combinations,
        "product sum-checks": (log2(max(1, products)) - field, 0),
        "LogUp challenge alpha": (log2(degree) - field, 16),
        "fraction trees": (log2(trees) - field, 0),
        "batching and its sum-check": (log2(batch) - field, 0),
        **opening,
        "combined equations": (1 - field, 0),
        "pad proximity and tests": (log2((16 << pads.b) + 2) - field, 0),
        "pad queries": (125 * log2(9 / 16), 16),
    }


def security(table: Table) -> tuple[float, float]:
    """Bits of work and bits of an attempt."""
    work = -log2(sum(2.0 ** (e - ground) for e, ground in table.values()))
    return work, -log2(sum(2.0**e for e, _ in table.values()))
