"""The soundness error of a proof of a given circuit, term by term (docs/spec/soundness.md).

Each term bounds the chance, over one verifier challenge, that a false statement survives that round: the error of one
attempt. Where a round is ground, each attempt costs 2^grind hashes, so the work of an attacker is 2^grind / error.
|F| = (2^61 - 1)^2.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log2

from circuits.argument.lookups import ALPHA_GRIND, digit_trees
from circuits.argument.protocol import WEIGHT_GRIND, message_counts
from circuits.argument.tuples import leaf_count, tuple_trees
from circuits.language.constraints import Circuit
from circuits.language.drawn import PRIMES
from circuits.language.layout import Layout
from circuits.language.tensors import ceil_log2
from zkcert.core.code import PAD_INVERSE_RATE_BITS, PROXIMITY_GRIND, QUERY_GRIND, MatrixCode, PlainCode, pad_code
from zkcert.core.field import P
from zkcert.core.padcode import PAD_GRIND

FIELD_BITS = 2 * log2(P)


@dataclass(frozen=True)
class Term:
    """One way to cheat: log2 of the error of one attempt, and log2 of the hashes that an attempt costs."""

    name: str
    error: float
    grind: int = 0

    @property
    def work(self) -> float:
        """log2 of the chance of success for each hash computed."""
        return self.error - self.grind


@dataclass(frozen=True)
class SoundnessTable:
    """All terms of a circuit, and their sums.

    bits          the work of an attacker is at least 2^bits hashes; what `verify` requires.
    attempt_bits  one attempt, whatever it costs, succeeds with a chance of at most 2^-attempt_bits.
    """

    terms: tuple[Term, ...]

    @property
    def bits(self) -> float:
        return -log2(sum(2.0**term.work for term in self.terms))

    @property
    def attempt_bits(self) -> float:
        return -log2(sum(2.0**term.error for term in self.terms))


def over_field(count: float) -> float:
    """log2(count / |F|)."""
    return log2(count) - FIELD_BITS


def opening_terms(code: MatrixCode) -> list[Term]:
    """Those of each level of the opening; level 1 is the matrix."""
    out = []
    levels: tuple[MatrixCode | PlainCode, ...] = (code, *code.levels)
    for number, level in enumerate(levels, 1):
        if isinstance(level, PlainCode):
            out.append(Term(f"level {number} claims", over_field(2 + 2 * level.rounds)))
        queries = level.queries * log2((1 + level.rate) / 2)
        out.append(Term(f"level {number} proximity", over_field(1 << level.log_n), PROXIMITY_GRIND))
        out.append(Term(f"level {number} queries", queries, QUERY_GRIND))
    return out


def combinations(circuit: Circuit) -> list[Term]:
    """The chance that a false congruence passes: p divides it, and so at most one of the primes does."""
    if not circuit.combinations:
        return []
    weighed = max(combination.weighed for combination in circuit.combinations)
    error = (len(PRIMES) - 1) * (log2(weighed) - log2(min(PRIMES)))
    return [Term("combinations modulo five primes", error, WEIGHT_GRIND)]


def denominators(layout: Layout) -> int:
    """The degree in alpha and gamma of the product of all leaves' denominators, those of the tables included."""
    degree = layout.digit_count + layout.table_entries
    for table in layout.functions:
        degree += table.shape[0] * max(0, table.shape[1] - 2)
    for box in (box for tree in tuple_trees(layout) for box in tree):
        degree += max(1, box.lookup.table.shape[1] - 1) << box.block.bits
    return degree


def soundness(layout: Layout) -> SoundnessTable:
    """Add up every term for the circuit."""
    circuit = layout.circuit
    code = layout.code
    singles, triples = message_counts(layout, code.variables)
    pads = pad_code(singles, triples)

    points = rounds = 0
    for con in circuit.constraints:
        out = sum(ax.bits for ax in con.out)
        points += len(con.members) + out
        if any(e.products for _, e in con.members):
            # degree 2 in each variable, the eq factor being taken out
            rounds += 2 * (out + sum(ax.bits for ax in con.summed))
    links = sum(sum(link.target.shape) for link in circuit.links)
    publics = sum(len(p.tensor.digits) + sum(ceil_log2(n) for n in p.tensor.shape) for p in circuit.publics)
    trees = [*(count for _, count in digit_trees(layout)), *map(leaf_count, tuple_trees(layout))]
    tree_rounds = 0
    for count in (*trees, layout.table_entries):
        # per layer: degree 2 in each variable, two challenges; the leaves' equation is quadratic in lambda
        tree_rounds += sum(2 * d + 2 for d in range(ceil_log2(count))) + 1
    claims = len(circuit.constraints) + 2 * triples + len(circuit.publics) + len(circuit.links) + len(trees) + 1
    pad_rate = 2.0**-PAD_INVERSE_RATE_BITS
    terms = (
        Term("random points and member weights", over_field(points + publics + links)),
        *combinations(circuit),
        Term("product sum-checks", over_field(max(rounds, 1))),
        Term("LogUp challenge alpha", over_field(denominators(layout)), ALPHA_GRIND),
        Term("fraction trees", over_field(tree_rounds)),
        Term("batching and its sum-check", over_field(claims + 2 * code.variables)),
        *opening_terms(code),
        Term("combined equations", over_field(2)),
        Term("pad proximity and tests", over_field((1 << pads.log_n) + 2)),
        Term("pad queries", pads.queries * log2((1 + 2 * pad_rate) / 2), PAD_GRIND),
    )
    return SoundnessTable(terms)
