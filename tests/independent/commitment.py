"""Merkle trees, sample hashes, the shapes of the matrix and of the pad proof, both openings (commitment.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import blake3

from .errors import require
from .field import (
    ONE,
    ZERO,
    El,
    bits,
    dot,
    elements,
    eq_index,
    eq_points,
    eq_vector,
    horner,
    omega,
    powers,
    reverse,
    total,
)
from .files import Reader
from .transcript import H, Transcript, Words, u64

# ---------------------------------------------------------------- Merkle trees


def siblings(depth: int, leaves: Sequence[int]) -> list[tuple[int, int]]:
    """Level and position of each node that a multi-proof for these leaves lists, in order."""
    out, known = [], set(leaves)
    for level in range(depth):
        listed = sorted(i ^ 1 for i in known if i ^ 1 not in known)
        out += [(level, i) for i in listed]
        known = {i >> 1 for i in known}
    return out


def merkle_root(name: bytes, depth: int, leaves: dict[int, bytes], proof: bytes) -> bytes:
    """The root that leaf digests and a multi-proof of the right length lead to."""
    tag = bytes([len(name)]) + name
    nodes = {(0, i): d for i, d in leaves.items()}
    for n, key in enumerate(siblings(depth, list(leaves))):
        nodes[key] = proof[32 * n : 32 * n + 32]
    known = sorted(leaves)
    for level in range(1, depth + 1):
        known = sorted({i >> 1 for i in known})
        for i in known:
            both = nodes[level - 1, 2 * i] + nodes[level - 1, 2 * i + 1]
            nodes[level, i] = H(b"zkcert/merkle/node/1" + tag + bytes([level]) + u64(i) + both)
    return nodes[depth, 0]


def check_samples(n: int, root: bytes, indices: list[int], hashes: bytes, proof: bytes) -> None:
    """The hashes of the drawn samples are leaves of the dataset's tree."""
    tag = b"\x07dataset"
    leaves = {}
    for at, j in enumerate(indices):
        data = hashes[1280 * at : 1280 * at + 1280]
        leaves[j] = H(b"zkcert/merkle/leaf/1" + tag + u64(j) + data)
    depth = bits(n)
    require(len(proof) == 32 * len(siblings(depth, indices)), "dataset multi-proof", "length")
    require(merkle_root(b"dataset", depth, leaves, proof) == root, "dataset multi-proof", "another root")


def sis_column(name: str, j: int) -> list[int]:
    """Column j of the matrix A or S of sample hashes."""
    words = Words(b"zkcert/sis/1\x01" + name.encode() + u64(j))
    return [words.residue() for _ in range(160)]


# ---------------------------------------------------------------- shapes


@cache
def queries(L: int, N: int) -> int:
    """The smallest t with (N + L)^t 2^103 <= (2 N)^t."""
    while L % 2 == 0 and N % 2 == 0:
        L, N = L // 2, N // 2
    t, a, b = 0, 1 << 103, 1
    while a > b:
        t, a, b = t + 1, a * (N + L), b * 2 * N
    return t


def four(n: int) -> int:
    return 4 * -(-n // 4)


def tree_cost(m: int, t: int, rows: int, price: int) -> int:
    log_t = bits(t + 1) - 1
    return 16 * t * rows + 32 * t * (m - log_t) + ((16 * -(-rows // 16) + 16) << m) // price


@dataclass(frozen=True)
class Plain:
    """A level below the matrix: rows of 2^k, of `combined` rows of 2^above; `below` is None at the last one."""

    combined: int
    above: int
    k: int
    m: int
    t: int
    rows: int
    cost: int
    below: Plain | None

    @property
    def rounds(self) -> int:
        return bits(self.combined) + self.above


@cache
def plain_shape(c: int, k: int, price: int) -> Plain:
    best: Plain | None = None
    for k2 in range(k + 1):
        for m2 in range(k2 + 1, k2 + 9):
            t2 = queries(1 << k2, 1 << m2)
            if 2 * t2 > 1 << m2:
                continue
            rows2 = four(c << (k - k2))
            own = 32 * bits(c << k) + tree_cost(m2, t2, rows2, price)
            choices: list[tuple[int, Plain | None]] = [(own + (32 << k2), None)]
            if 0 < k2 < k:
                follows = plain_shape(2, k2, price)
                choices.append((own + follows.cost, follows))
            for cost, below in choices:
                if best is None or cost < best.cost:
                    best = Plain(c, k, k2, m2, t2, rows2, cost, below)
    assert best is not None
    return best


@dataclass(frozen=True)
class Shape:
    """The matrix and the levels below it."""

    k: int
    m: int
    t: int
    data_rows: tuple[int, ...]
    parts: tuple[int, ...]
    below: Plain

    @property
    def rows(self) -> int:
        return sum(self.parts)

    @property
    def levels(self) -> list[Plain]:
        out: list[Plain] = []
        level: Plain | None = self.below
        while level is not None:
            out.append(level)
            level = level.below
        return out

    @property
    def variables(self) -> int:
        return bits(self.rows) + self.k + 1

    @property
    def tail(self) -> int:
        return self.t + 8


def matrix_shape(*ends: int) -> Shape:
    """The shape for so many entries of X in each part."""
    best, least, price = None, -1, max(128, sum(ends) >> 21)
    for k in range(5, 23):
        data_rows = [(end + (2 << k) - 1) >> (k + 1) for end in ends]
        parts = [four(n) for n in data_rows]
        parts[-1] += 4
        for m in (k + 1, k + 2, k + 3):
            if (1 << k) + 264 >= 1 << m:
                continue
            t = queries((1 << k) + 264, 1 << m)
            if t + 8 > 264:
                continue
            below = plain_shape(3, k, price)
            cost = 48 * (t + 8) + sum(tree_cost(m, t, rows, price) for rows in parts) + below.cost
            if best is None or cost < least:
                best, least = Shape(k, m, t, tuple(data_rows), tuple(parts), below), cost
    assert best is not None
    return best


@dataclass(frozen=True)
class PadShape:
    """The pad proof."""

    b: int
    message: int
    single_rows: int
    triple_rows: int
    t: int = 125

    @property
    def rows(self) -> int:
        return self.single_rows + 3 * self.triple_rows


def pad_shape(singles: int, triples: int) -> PadShape:
    best, least = None, -1
    for b in range(8, 14):
        message = (1 << b) - 125 - 8
        shape = PadShape(b, message, -(-singles // message), -(-triples // message))
        cost = (5 << b) + 125 * (shape.rows + 3)
        if best is None or cost < least:
            best, least = shape, cost
    assert best is not None
    return best


# ---------------------------------------------------------------- columns


def read_columns(
    reader: Reader, transcript: Transcript | None, label: str, t: int, rows: int, proof: int
) -> tuple[list[bytes], bytes]:
    """`t` columns and a multi-proof of `proof` nodes; absorbed where there is a transcript."""
    raw, nodes = reader.take(16 * t * rows), reader.take(32 * proof)
    if transcript is not None:
        transcript.absorb(label, raw + nodes)
    return [raw[16 * rows * i : 16 * rows * (i + 1)] for i in range(t)], nodes


COLUMN_KEY = H(b"zkcert/matrix-column")


def check_columns(
    name: bytes, root: bytes, m: int, positions: list[int], raw: list[bytes], proof: bytes
) -> list[list[El]]:
    """Columns of a matrix are leaves of its tree; the columns, as elements."""
    leaves = {j: blake3.blake3(c, key=COLUMN_KEY).digest() for j, c in zip(positions, raw)}
    require(merkle_root(name, m, leaves, proof) == root, f"columns of {name.decode()}", "another root")
    return [elements(c, f"columns of {name.decode()}") for c in raw]


def points(m: int, positions: list[int]) -> list[El]:
    """omega_m^rev(j) for each position."""
    w = omega(m)
    return [w ** reverse(j, m) for j in positions]


# ---------------------------------------------------------------- the opening


@dataclass(frozen=True)
class Inner:
    """f <row i, eq(e, .)> = g, rows counted from 0."""

    i: int
    f: El
    e: list[El]
    g: El


def check_opening(
    tr: Transcript, data: bytes, roots: list[bytes], shape: Shape, z: list[El], opened: El
) -> list[list[int]]:
    """The opening of X~(z); the queried positions of each level."""
    reader = Reader(data, "opening")
    k, m, t, rows, tail = shape.k, shape.m, shape.t, shape.rows, shape.tail
    row_bits = bits(rows)
    z_row, z_col, z_0 = z[:row_bits], z[row_bits:-1], z[-1]
    # 1. rows
    tr.grind(reader.take(8), "before proximity")
    rho = tr.draw("proximity/1", rows)
    by_eq = eq_vector(z_row, rows)
    weights = [rho, by_eq, [e.conj() for e in by_eq]]
    # 2. values
    message = reader.take(32 + 16 * (3 * tail + 2))
    tr.absorb("combined-rows/1", message)
    root, values = message[:32], elements(message[32:], "combined rows")
    tails = [values[i * tail : (i + 1) * tail] for i in range(3)]
    h, h2 = values[-2:]
    half = El(2).inverse()
    w_re, w_im = (h + h2.conj()) * half, (h - h2.conj()) * El(0, 2).inverse()
    require(opened == (1 - z_0) * w_re + z_0 * w_im, "opened value", "h and h' give another one")
    # 3. columns
    names = [b"matrix" + (b"/%d" % i if i else b"") for i in range(len(shape.parts))]
    trees = list(zip(names, roots, shape.parts, strict=True))
    positions, columns = open_columns(reader, tr, 1, m, t, trees)
    found = [positions]
    xs = points(m, positions)
    ys = []
    for i in range(3):
        whole = [dot(weights[i], column) for column in columns]
        ys.append([y - horner(tails[i], x) * x ** (1 << k) for y, x in zip(whole, xs)])
    inner = [Inner(1, ONE, z_col, h), Inner(2, ONE, [e.conj() for e in z_col], h2)]
    # 4. to 6., for each level below
    for number, level in enumerate(shape.levels, 2):
        s, claim, w_s = check_claims(reader, tr, number, k, xs, ys, inner)
        tr.grind(reader.take(8), f"before proximity {number}")
        delta = tr.draw(f"proximity/{number}", level.rows)
        s_row, s_col = s[: len(s) - level.k], s[len(s) - level.k :]
        weights = [delta, eq_vector(s_row, level.rows)]
        tree, last = [(b"level/%d" % number, root, level.rows)], level.below is None
        said = reader.take(32 << level.k if last else 32)
        tr.absorb(f"combined-rows/{number}", said)
        if last:
            us = elements(said, "last rows")
            u1, u2 = us[: 1 << level.k], us[1 << level.k :]
            require(claim == w_s * dot(u2, eq_vector(s_col, 1 << level.k)), "claims on the combined rows")
        positions, columns = open_columns(reader, tr, number, level.m, level.t, tree)
        found.append(positions)
        xs = points(level.m, positions)
        ys = [[dot(w, column) for column in columns] for w in weights]
        if last:
            require(ys[0] == [horner(u1, x) for x in xs], "last rows", "u_1 at a queried column")
            require(ys[1] == [horner(u2, x) for x in xs], "last rows", "u_2 at a queried column")
        k, root, inner = level.k, said, [Inner(1, w_s, s_col, claim)]
    reader.end()
    return found


def open_columns(
    reader: Reader, tr: Transcript, number: int, m: int, t: int, trees: list[tuple[bytes, bytes, int]]
) -> tuple[list[int], list[list[El]]]:
    """The queried positions, and the columns there, of all trees (name, root, rows) one behind the other."""
    tr.grind(reader.take(8), f"before queries {number}")
    positions = tr.positions(f"queries/{number}", t, m)
    count, start, parts = len(siblings(m, positions)), reader.at, []
    for name, root, rows in trees:
        raw, proof = read_columns(reader, None, "", t, rows, count)
        parts.append(check_columns(name, root, m, positions, raw, proof))
    tr.absorb(f"columns/{number}", reader.data[start : reader.at])
    return positions, [[e for part in parts for e in part[j]] for j in range(t)]


def check_claims(
    reader: Reader, tr: Transcript, number: int, k: int, xs: list[El], ys: list[list[El]], inner: list[Inner]
) -> tuple[list[El], El, El]:
    """Step 4: the point s, the last claim, W~(s)."""
    c = len(ys)
    drawn = tr.draw(f"claims/{number}", c + len(inner) + len(xs))
    a, d, b = drawn[:c], drawn[c : c + len(inner)], drawn[c + len(inner) :]
    claim = total(a_i * dot(b, y) for a_i, y in zip(a, ys))
    claim = claim + total(d_q * q.g for d_q, q in zip(d, inner))
    s_rev: list[El] = []
    for _ in range(bits(c) + k):
        raw_round = reader.take(32)
        tr.absorb(f"claims-round/{number}", raw_round)
        t0, t2 = elements(raw_round, "claims")
        r = tr.draw_one(f"rho/claims/{number}")
        s_rev.append(r)
        claim = t0 * (1 - r) + (claim - t0) * r + t2 * r * (r - 1)
    s = s_rev[::-1]
    s_block, s_c = s[: bits(c)], s[bits(c) :]
    lagrange = []
    for x in xs:
        value = ONE
        for u in range(k):
            r = s_c[k - 1 - u]
            value, x = value * (1 - r + r * x), x * x
        lagrange.append(value)
    blocks = [eq_index(s_block, i) for i in range(c)]
    w_s = dot(b, lagrange) * dot(blocks, a)
    for d_q, q in zip(d, inner):
        w_s = w_s + blocks[q.i] * d_q * q.f * eq_points(q.e, s_c)
    return s, claim, w_s


# ---------------------------------------------------------------- the pad proof


def check_pads(tr: Transcript, data: bytes, root: bytes, shape: PadShape, equations: Sequence[object]) -> list[int]:
    """All equations of the channel; the queried positions. An equation has `terms`: key to coefficient."""
    reader = Reader(data, "pad proof")
    n, log = 1 << shape.b, shape.b + 4
    weights = tr.draw("equations", len(equations))
    rows: list[list[El]] = [[ZERO] * shape.message for _ in range(shape.rows)]
    constant = ZERO
    for weight, equation in zip(weights, equations):
        for key, c in equation.terms.items():
            if key < 0:
                constant = constant + weight * c
                continue
            number, kind = divmod(key, 4)
            row, place = divmod(number, shape.message)
            if kind:
                row += shape.single_rows + (kind - 1) * shape.triple_rows
            rows[row][place] = rows[row][place] + weight * c
    delta = tr.draw("pads/proximity", shape.rows)
    epsilon = tr.draw("pads/products", shape.triple_rows)
    raw_tests = reader.take(16 * 5 * n)
    tr.absorb("pads/tests", raw_tests)
    tests = elements(raw_tests, "pad tests")
    q1, q2, q3 = tests[:n], tests[n : 3 * n], tests[3 * n :]
    require((q2[0] + q2[n]) * n == -constant, "pad equations", "the sum of q_2")
    folded = [q3[i] + q3[n + i] for i in range(n)]
    domain = powers(omega(shape.b), n)
    for j in range(shape.message):
        require(not horner(folded, domain[j]), "pad products", "q_3 is not zero at a pad")
    tr.grind(reader.take(8), "before pad queries")
    positions = tr.positions("pads/queries", shape.t, log)
    count = len(siblings(log, positions))
    raw, proof = read_columns(reader, None, "", shape.t, shape.rows + 3, count)
    reader.end()
    leaves = {j: H(b"zkcert/pad-column" + u64(j) + c) for j, c in zip(positions, raw)}
    require(merkle_root(b"pads", log, leaves, proof) == root, "columns of pads", "another root")
    w, g = omega(log), omega(log + 1)
    first_x = shape.single_rows
    inverse_n = El(n).inverse()
    for j, raw_column in zip(positions, raw):
        column = elements(raw_column, "columns of pads")
        x = g * w**j
        values, blind = column[: shape.rows], column[shape.rows :]
        outer = (x**n - 1) * inverse_n
        basis = [outer * d * (x - d).inverse() for d in domain[: shape.message]]
        require(horner(q1, x) == blind[0] + dot(delta, values), "pad proximity")
        combined = dot((dot(row, basis) for row in rows), values)
        require(horner(q2, x) == blind[1] + combined, "pad equations", "q_2 at a queried column")
        k = shape.triple_rows
        vx, vy, vz = (values[first_x + i * k : first_x + (i + 1) * k] for i in range(3))
        products = total(e * (p * q - r) for e, p, q, r in zip(epsilon, vx, vy, vz))
        require(horner(q3, x) == blind[2] + products, "pad products", "q_3 at a queried column")
    return positions
