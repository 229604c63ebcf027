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
    """The smallest t with (N + L)^t 2^87 <= (2 N)^t."""
    while L % 2 == 0 and N % 2 == 0:
        L, N = L // 2, N // 2
    t, a, b = 0, 1 << 87, 1
    while a > b:
        t, a, b = t + 1, a * (N + L), b * 2 * N
    return t


@dataclass(frozen=True)
class Second:
    """The second matrix."""

    k: int
    m: int
    t: int
    rows: int
    cost: int


@cache
def second_shape(k: int) -> Second:
    best: Second | None = None
    for k2 in range(k + 1):
        for m2 in range(k2 + 2, k2 + 9):
            t2 = queries(1 << k2, 1 << m2)
            if 2 * t2 > 1 << m2:
                continue
            rows2 = 4 * -(-3 * (1 << (k - k2)) // 4)
            cost = 16 * (2 * (1 << k2) + t2 * rows2) + (rows2 << m2) // 64 + (1 << m2)
            if best is None or cost < best.cost:
                best = Second(k2, m2, t2, rows2, cost)
    assert best is not None
    return best


@dataclass(frozen=True)
class Shape:
    """The matrix and its second matrix."""

    k: int
    m: int
    t: int
    rows: int
    data_rows: int
    second: Second

    @property
    def variables(self) -> int:
        return bits(self.rows) + self.k + 1

    @property
    def tail(self) -> int:
        return self.t + 8


def matrix_shape(end: int) -> Shape:
    """The shape for `end` entries of X that are used."""
    best, least = None, -1
    for k in range(5, 21):
        data_rows = (end + (2 << k) - 1) >> (k + 1)
        rows = 4 * -(-data_rows // 4) + 4
        for m in (k + 1, k + 2, k + 3):
            if (1 << k) + 224 >= 1 << m:
                continue
            t = queries((1 << k) + 224, 1 << m)
            if t + 8 > 224:
                continue
            second = second_shape(k)
            cost = 16 * t * rows + (rows << m) // 64 + second.cost
            if best is None or cost < least:
                best, least = Shape(k, m, t, rows, data_rows, second), cost
    assert best is not None
    return best


@dataclass(frozen=True)
class PadShape:
    """The pad proof."""

    b: int
    message: int
    single_rows: int
    triple_rows: int
    t: int = 105

    @property
    def rows(self) -> int:
        return self.single_rows + 3 * self.triple_rows


def pad_shape(singles: int, triples: int) -> PadShape:
    best, least = None, -1
    for b in range(8, 14):
        message = (1 << b) - 105 - 8
        shape = PadShape(b, message, -(-singles // message), -(-triples // message))
        cost = (5 << b) + 105 * (shape.rows + 3)
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


def check_opening(
    tr: Transcript, data: bytes, root: bytes, shape: Shape, z: list[El], opened: El
) -> dict[str, list[int]]:
    """The opening of X~(z); the queried positions."""
    reader = Reader(data, "opening")
    k, m, t, rows, tail, second = shape.k, shape.m, shape.t, shape.rows, shape.tail, shape.second
    row_bits = bits(rows)
    z_row, z_col, z_0 = z[:row_bits], z[row_bits:-1], z[-1]
    # 1. rows
    tr.grind(reader.take(8), "before proximity")
    rho = tr.draw("proximity", rows)
    second_weights = eq_vector(z_row, rows)
    weights = [rho, second_weights, [e.conj() for e in second_weights]]
    # 2. values
    message = reader.take(32 + 16 * (3 * tail + 2))
    tr.absorb("combined-rows", message)
    second_root, values = message[:32], elements(message[32:], "combined rows")
    tails = [values[i * tail : (i + 1) * tail] for i in range(3)]
    h, h2 = values[-2:]
    half = El(2).inverse()
    w_re, w_im = (h + h2.conj()) * half, (h - h2.conj()) * El(0, 2).inverse()
    require(opened == (1 - z_0) * w_re + z_0 * w_im, "opened value", "h and h' give another one")
    # 3. columns
    tr.grind(reader.take(8), "before queries")
    positions = tr.positions("queries", t, m)
    raw, proof = read_columns(reader, tr, "opened-columns", t, rows, len(siblings(m, positions)))
    columns = check_columns(b"matrix", root, m, positions, raw, proof)
    # 4. claims
    xs = points(m, positions)
    drawn = tr.draw("claims", 5 + t)
    a, b = drawn[:5], drawn[5:]
    squares = []  # x^(2^l), l = 0, ..., k, for each point
    for x in xs:
        row = [x]
        for _ in range(k):
            row.append(row[-1] * row[-1])
        squares.append(row)
    claim = a[3] * h + a[4] * h2
    for i in range(3):
        ys = (dot(weights[i], c) - horner(tails[i], s[0]) * s[k] for c, s in zip(columns, squares))
        claim = claim + a[i] * dot(b, ys)
    s_rev: list[El] = []
    for _ in range(k + 2):
        raw_round = reader.take(32)
        tr.absorb("claims/round", raw_round)
        t0, t2 = elements(raw_round, "claims")
        r = tr.draw_one("rho/claims")
        s_rev.append(r)
        claim = t0 * (1 - r) + (claim - t0) * r + t2 * r * (r - 1)
    s = s_rev[::-1]
    s_block, s_c = s[:2], s[2:]
    lagrange = []
    for row in squares:
        value = ONE
        for l in range(k):
            r = s_c[k - 1 - l]
            value = value * (1 - r + r * row[l])
        lagrange.append(value)
    powers_sum = dot(b, lagrange)
    blocks = [eq_index(s_block, i) for i in range(3)]
    w_s = powers_sum * (blocks[0] * a[0] + blocks[1] * a[1] + blocks[2] * a[2])
    w_s = w_s + blocks[1] * a[3] * eq_points(z_col, s_c)
    w_s = w_s + blocks[2] * a[4] * eq_points([c.conj() for c in z_col], s_c)
    # 5. second matrix
    delta = tr.draw("second-proximity", second.rows)
    raw_rows = reader.take(32 << second.k)
    tr.absorb("second-rows", raw_rows)
    us = elements(raw_rows, "second rows")
    u1, u2 = us[: 1 << second.k], us[1 << second.k :]
    split = k + 2 - second.k
    s_row, s_col = s[:split], s[split:]
    require(claim == w_s * dot(u2, eq_vector(s_col, 1 << second.k)), "claims on the combined rows")
    # 6. second columns
    tr.grind(reader.take(8), "before second queries")
    positions2 = tr.positions("second-queries", second.t, second.m)
    n = len(siblings(second.m, positions2))
    raw, proof = read_columns(reader, tr, "second-columns", second.t, second.rows, n)
    reader.end()
    columns = check_columns(b"second", second_root, second.m, positions2, raw, proof)
    eqs = eq_vector(s_row, second.rows)
    for x, column in zip(points(second.m, positions2), columns):
        require(dot(delta, column) == horner(u1, x), "second rows", "u_1 at a queried column")
        require(dot(eqs, column) == horner(u2, x), "second rows", "u_2 at a queried column")
    return {"queries": positions, "second_queries": positions2}


# ---------------------------------------------------------------- the pad proof


def check_pads(tr: Transcript, data: bytes, root: bytes, shape: PadShape, equations: Sequence[object]) -> list[int]:
    """All equations of the channel; the queried positions. An equation has `terms`: key to coefficient."""
    reader = Reader(data, "pad proof")
    n, log = 1 << shape.b, shape.b + 4
    weights = tr.draw("equations", len(equations))
    rows: list[list[El]] = [[ZERO] * shape.message for _ in range(shape.rows)]
    constant = ZERO
    for weight, equation in zip(weights, equations):
        for key, c in equation.terms.items():  # type: ignore[attr-defined]
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
