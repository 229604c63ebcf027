"""The interactive argument, written once for prover and verifier: identities, lookups, one last sum-check.

Reductions turn identities and range checks into *claims*: public linear functionals of the committed vector X with one
hidden value each. One last sum-check turns all claims into the value of X's multilinear extension at a single point.
"""

from __future__ import annotations

from circuits.language.constraints import Circuit
from circuits.language.layout import Layout
from circuits.language.tensors import ceil_log2
from zkcert.core.field import F

from .batching import batch
from .channel import Channel
from .claims import Claim, Oracle
from .identities import constraint_claims, link_claim, public_claim, split_axes
from .lookups import digit_trees, range_check
from .tuples import leaf_count, tuple_trees

WEIGHT_GRIND = 16


def message_counts(layout: Layout, n: int) -> tuple[int, int]:
    """How many single pads and triples `run` uses."""
    singles = triples = 0
    for con in layout.circuit.constraints:
        pairs = len({a.primitive[1] for _, e in con.members for a, _ in e.products})
        if pairs:
            _, kept = split_axes(con)
            singles += 1 + 2 * sum(ax.bits for ax in kept)
            triples += pairs
    depths = [ceil_log2(count) for _, count in digit_trees(layout)]
    depths += [ceil_log2(leaf_count(tree)) for tree in tuple_trees(layout)]
    table = ceil_log2(layout.table_entries)
    for depth in (*depths, table):
        singles += depth * (depth - 1)  # two per round, d rounds in layer d
        triples += 2 * depth
    triples -= sum(d > 0 for d in depths)  # one product where the leaves are reached
    return singles + 2 + 2 * n, triples + 3 * (len(depths) - 1) + 2


def draw_weights(ch: Channel, circuit: Circuit) -> None:
    """Draw the weights of the circuit's combinations: once all early digits are committed, before any late one is."""
    draws = list(circuit.draws)
    if draws:
        ch.grind("weights", WEIGHT_GRIND)
    for draw in draws:
        draw.drawn = ch.integers(f"weights/{draw.axis}/{draw.prime}", draw.size, draw.prime)


def identity_claims(ch: Channel, oracle: Oracle, circuit: Circuit) -> list[Claim]:
    """What the identities, the public digits and the links come to."""
    claims = [claim for con in circuit.constraints for claim in constraint_claims(ch, oracle, con)]
    claims += [public_claim(ch, p) for p in circuit.publics]
    return claims + [link_claim(ch, link) for link in circuit.links]


def run(ch: Channel, oracle: Oracle, layout: Layout, n: int) -> list[F]:
    """The whole argument up to one evaluation claim on X; returns its point (n coordinates)."""
    claims = identity_claims(ch, oracle, layout.circuit)
    claims += range_check(ch, oracle, layout)
    return batch(ch, oracle, layout, claims, n)
