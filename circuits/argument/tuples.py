"""Lookups in function tables: trees over tuples, and what stands at their leaves (docs/spec/argument.md).

Leaf i of a lookup is 1/(alpha - (v_0 + gamma v_1 + gamma^2 v_2 + ...) - c i) for the components v at an index of its
domain, c being the class of its table. The domain is cut into boxes like a tensor; an index of a box beyond the domain
stands for the first row of the table.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from circuits.language.forms import Form, total
from circuits.language.functions import FunctionTable, Lookup
from circuits.language.layout import Block, Layout, column_blocks, eq_at, prefix_eq
from zkcert.core import field as ff
from zkcert.core.field import I64, U64, F

from .claims import Functional, Term
from .identities import Resolver

TUPLE_TREE_BITS = 24  # log2 of the most tuples of one fraction tree


@dataclass(frozen=True)
class Box:
    """A part of a lookup's domain, as the leaves [start, start + 2^block.bits) of a tree, row by row."""

    lookup: Lookup
    block: Block
    start: int


def pieces(block: Block, bits: int) -> Iterator[Block]:
    """A block cut, from its first axes on, into blocks of at most 2^bits entries, in their order within it."""
    if block.bits <= bits:
        yield block
        return
    at = next(i for i, (_, own) in enumerate(block.axes) if own)
    start, own = block.axes[at]
    for half in (start, start + (1 << own - 1)):
        yield from pieces(Block((*block.axes[:at], (half, own - 1), *block.axes[at + 1 :])), bits)


def tuple_trees(layout: Layout) -> list[list[Box]]:
    """The boxes of each tree, the largest first: each starts at a multiple of its size."""
    found = []
    for lookup in layout.circuit.lookups:
        for block in column_blocks(lookup.sizes, layout.smallest_cut):
            for piece in pieces(block, TUPLE_TREE_BITS):
                if all(s.start < s.stop for s in piece.window(lookup.sizes)):
                    found.append((lookup, piece))
    trees: list[list[Box]] = []
    used = 1 << TUPLE_TREE_BITS
    for lookup, block in sorted(found, key=lambda pair: -pair[1].bits):
        if used == 1 << TUPLE_TREE_BITS:
            trees.append([])
            used = 0
        trees[-1].append(Box(lookup, block, used))
        used += 1 << block.bits
    return trees


def leaf_count(tree: Sequence[Box]) -> int:
    return sum(1 << box.block.bits for box in tree)


def encoded(rows: I64, gamma: F) -> U64:
    """v_0 + gamma v_1 + gamma^2 v_2 + ... of each row of int64 (n, components): (2, n)."""
    out = np.zeros((2, len(rows)), np.uint64)
    for column in reversed(rows.T):
        out = ff.f_add(ff.f_mul_scalar(out, gamma), ff.f_from_fp(ff.fp_from_int(np.ascontiguousarray(column))))
    return out


def base(layout: Layout, table: FunctionTable, alpha: F) -> F:
    """alpha - c i for the class of the table: those of digits come first."""
    return alpha - F(0, len(layout.tables) + layout.functions.index(table))


def eq_index(point: Sequence[F], index: int) -> F:
    """eq(point, index)."""
    out = F.ONE
    for r in reversed(point):
        out = out * (r if index & 1 else 1 - r)
        index >>= 1
    return out


def tuple_denominators(layout: Layout, tree: Sequence[Box], alpha: F, gamma: F, point: list[F]) -> tuple[F, Functional]:
    """The extension of the leaves' denominators at a point: what is public, less a functional of X."""
    public, terms = F.ONE - prefix_eq(point, leaf_count(tree)), list[Term]()
    forms: dict[Lookup, Form] = {}
    for box in tree:
        lookup, table = box.lookup, box.lookup.table
        if lookup not in forms:
            scaled, scale = list[Form](), F.ONE
            for component in lookup.components:
                scaled.append(component * scale)
                scale = scale * gamma
            forms[lookup] = total(scaled)
        left = len(point) - box.block.bits
        head, position, inside = eq_index(point[:left], box.start >> box.block.bits), left, F.ONE
        vecs: dict[str, U64] = {}
        windows = box.block.window(lookup.sizes)
        for ax, window, (_, bits) in zip(lookup.out, windows, box.block.axes, strict=True):
            own, count = point[position : position + bits], window.stop - window.start
            vecs[ax.name] = np.zeros((2, ax.size), np.uint64)
            vecs[ax.name][:, window] = ff.eq_table(own)[:, :count]
            inside, position = inside * prefix_eq(own, count), position + bits
        first = ff.f_item(encoded(table.rows[:1], gamma), 0)
        public = public + head * (base(layout, table, alpha) - (1 - inside) * first)
        terms += Resolver(vecs, frozenset(vecs)).functional(forms[lookup] * head).terms
    return public, Functional(tuple(terms))


def table_denominators(layout: Layout, alpha: F, gamma: F, point: Sequence[F]) -> F:
    """What the rows of the function tables contribute to the extension of the tables' denominators at a point."""
    value, start = F.ZERO, sum(layout.tables)
    for table in layout.functions:
        eq = eq_at(point, np.arange(start, start + table.shape[0]))
        values = ff.f_sub(ff.f_array([base(layout, table, alpha)]), encoded(table.rows, gamma))
        value = value + ff.f_dot(eq, values)
        start += table.shape[0]
    return value
