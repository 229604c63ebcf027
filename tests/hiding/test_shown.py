"""Everything a proof shows, part by part, and its joint distribution as a function of the prover's randomness.

The parts are what the verifier reads from an actual proof: a part that SHOWN does not name fails the first test. With
challenges held fixed, what the opening and the pad proof show is an affine function of the random words the prover
draws; if the difference that other data make lies in the image of its linear part, both show one distribution.
"""

from __future__ import annotations

from contextlib import contextmanager
from unittest import mock

import numpy as np
import pytest
from blake3 import blake3

from circuits.argument.channel import PadForm
from circuits.argument.protocol import message_counts
from prover.channel import Pads, ProverChannel
from prover.commit import MatrixCommitment
from prover.pads import PadCommitment
from tests.functions import function_layout, function_proof, verify_functions
from tests.toys import (
    drawn_layout,
    drawn_proof,
    random_f_array,
    random_fs,
    toy_layout,
    toy_proof,
    verify_drawn,
    verify_toy,
)
from zkcert.core import field as ff
from zkcert.core.code import SPARE_TAIL, MatrixCode, PadCode, PlainCode, pad_code
from zkcert.core.field import F, P
from zkcert.core.merkle import multiproof_bytes
from zkcert.core.proof import Reader
from zkcert.core.transcript import Transcript

# Each part of each section, in order, and what hides it. Elements of F that are masked are in the maps below.
HASH, NONCE, PAD, MASKED = "hash", "public function of the rest", "one-time pad", "in the joint map"
SHOWN = {
    "roots": [("matrix", HASH), ("pads", HASH), ("late part of the matrix", HASH)],
    "messages": [("weights nonce", NONCE), ("messages", PAD), ("range nonce", NONCE), ("opened value", MASKED)],
    "opening": [
        ("proximity nonce", NONCE), ("root", HASH), ("tails", MASKED), ("inner products", MASKED),
        ("query nonce", NONCE), ("columns", MASKED), ("siblings", HASH), ("late columns", MASKED), ("siblings", HASH),
    ],
    "pad proof": [
        ("proximity", MASKED), ("linear", MASKED), ("products", MASKED), ("nonce", NONCE), ("columns", MASKED),
        ("siblings", HASH),
    ],
}  # fmt: skip


# Level 1, and each one below: its rows are sent at the last one, and a root in their place at the others.
LEVEL = [
    ("rounds", MASKED), ("proximity nonce", NONCE), ("rows", MASKED), ("query nonce", NONCE), ("columns", MASKED),
    ("siblings", HASH),
]  # fmt: skip


def shown_by(code: MatrixCode) -> list[tuple[str, str, int]]:
    """Name, kind and elements of F (if it is masked) of each part of an opening."""
    first, last = (code.queries * rows for rows in code.parts)
    sizes = {"tails": 3 * code.tail, "inner products": 2, "columns": first, "late columns": last}
    out = [(name, kind, sizes.get(name, 0)) for name, kind in SHOWN["opening"]]
    for level in code.levels:
        sizes = {"rounds": 2 * level.rounds, "rows": 2 * level.width, "columns": level.queries * level.rows}
        parts = [("root", HASH) if name == "rows" and level.below else (name, kind) for name, kind in LEVEL]
        out += [(name, kind, sizes.get(name, 0)) for name, kind in parts]
    return out


def pad_sizes(code: PadCode) -> dict[str, int]:
    block = 1 << code.block_bits
    return {
        "proximity": block,
        "linear": 2 * block,
        "products": 2 * block,
        "columns": code.queries * (code.rows + 3),
    }


@contextmanager
def noted_reads(log: list):
    """Adds (section, bytes) of everything a `Reader` hands out; a section's length is not counted."""
    take = Reader.take

    def noting(self, count):
        log.append((self.what, count))
        return take(self, count)

    with mock.patch.object(Reader, "take", noting):
        yield


@pytest.mark.parametrize(
    ("proof_of", "verify", "layout_of", "nonces"),
    [
        (toy_proof, verify_toy, toy_layout, 1),
        (drawn_proof, verify_drawn, drawn_layout, 2),
        (function_proof, verify_functions, function_layout, 1),
    ],
    ids=["toy", "congruences", "function tables"],
)
def test_every_byte_a_verifier_reads_is_accounted_for(proof_of, verify, layout_of, nonces):
    """A message or a section more has to be put into SHOWN, and into the tests of its kind. The nonce of the weights
    is there where weights are drawn."""
    proof, log = proof_of(), []
    with noted_reads(log):
        verify(proof)
    read = {name: [count for what, count in log if what == name] for name in SHOWN}
    assert {what for what, _ in log} == {"proof", *SHOWN}
    framing = [count for what, count in log if what == "proof"]
    assert framing[::2] == [8] * len(SHOWN) and framing[1::2] == [sum(read[name]) for name in SHOWN]
    assert sum(framing) == len(proof)

    assert read["roots"] == [32] * len(SHOWN["roots"])
    hidden, rest = (sum(c for c in read["messages"] if (c % 16 == 0) == full) for full in (True, False))
    layout = layout_of()
    code = layout.code
    pads = pad_code(*message_counts(layout, code.variables))
    assert rest == 8 * nonces and hidden == 16 * (pads.singles + 2 * pads.triples + 1)
    assert (read["messages"][0] == 8) == (nonces == 2)

    shown = {
        "opening": shown_by(code),
        "pad proof": [(name, kind, pad_sizes(pads).get(name, 0)) for name, kind in SHOWN["pad proof"]],
    }
    for section, parts in shown.items():
        for count, (name, kind, size) in zip(read[section], parts, strict=True):
            if kind == HASH:
                assert count % 32 == 0, name
            else:
                assert count == (8 if kind == NONCE else 16 * size), name


# ------------------------------------------------------------------------------------------------ linear algebra


def image(rows: np.ndarray, extra: np.ndarray) -> tuple[int, list[bool]]:
    """Rank of rows (2, n, k) over F, and whether each of extra (2, m, k) lies in their span."""
    m, count, rank = np.concatenate([rows, extra], axis=1), rows.shape[1], 0
    for c in range(m.shape[2]):
        pivots = np.flatnonzero(m[:, rank:count, c].any(axis=0))
        if not len(pivots):
            continue
        pivot = rank + pivots[0]
        m[:, [rank, pivot]] = m[:, [pivot, rank]]
        m[:, rank] = ff.f_mul_scalar(np.ascontiguousarray(m[:, rank]), ff.f_item(m, (rank, c)).inv())
        below = rank + 1 + np.flatnonzero(m[:, rank + 1 :, c].any(axis=0))
        factors = np.ascontiguousarray(m[:, below, c])
        m[:, below, c:] = ff.f_sub(m[:, below, c:], ff.f_mul(factors[:, :, None], m[:, None, rank, c:]))
        rank += 1
        if rank == count:
            break
    return rank, [not m[:, i].any() for i in range(count, m.shape[1])]


def jacobian(f, r: np.ndarray) -> np.ndarray:
    """The linear part of an affine f at random words r (2, n): (2, n, shown)."""
    base, out = f(r), []
    for k in range(r.shape[1]):
        moved = r.copy()
        moved[0, k] = (int(moved[0, k]) + 1) % P
        out.append(ff.f_sub(f(moved), base))
    return np.stack(out, axis=1)


class Fixed(Transcript):
    """Challenges that are functions of their labels: they do not follow what is absorbed."""

    def __init__(self) -> None:
        super().__init__("fixed")
        self.drawn: dict[str, int] = {}

    def absorb(self, label, data):
        pass

    def _stream(self, label):
        self.drawn[label] = self.drawn.get(label, 0) + 1
        return blake3(f"{self.drawn[label]} {label}".encode()).digest()

    def grind(self, bits, search=None):
        return 0

    def check_grind(self, nonce, bits):
        return True


# ------------------------------------------------------------------------------------------------ the opening

# Two parts and three levels
MATRIX = MatrixCode(2, (2, 3), 6, 3, PlainCode(1, 6, 3, 3, PlainCode(0, 4, 2, 2)))
POINT = random_fs(np.random.default_rng(4), MATRIX.variables)
FIRST, LAST = MATRIX.parts
WORDS = 4 * MATRIX.width + MATRIX.rows * MATRIX.tail


def words_of(words: np.ndarray, seed: bytes) -> np.ndarray:
    """Those of the part of X that this seed is for: the first ones are the last part's."""
    last = 4 * MATRIX.width + LAST * MATRIX.tail
    return (words[:, :last] if b"masks/1" in seed else words[:, last:]).ravel()


def queries_of(level: int) -> list[int]:
    code = (MATRIX, *MATRIX.levels)[level - 1]
    return Fixed().distinct_indices(f"queries/{level}", code.queries, code.log_n)


def shown_by_opening(x: np.ndarray, words: np.ndarray, more: list[int] | None = None) -> np.ndarray:
    """All masked parts of the opening of x with these masks and tails; `more`: and these unopened columns."""
    matrix = MatrixCommitment(MATRIX)
    with mock.patch("prover.commit.xof_field", lambda seed, count: words_of(words, seed)):
        for part, count in zip(split_data(x), MATRIX.data_rows, strict=True):
            assert len(matrix.commit(part, bytes(32)).x) == 2 * MATRIX.width * count
    with mock.patch("prover.commit.mask_rank", lambda m: 3):
        data = matrix.open(Fixed(), POINT)
    reader, out = Reader(data, "opening"), []
    queries = [queries_of(level) for level in range(1, 2 + len(MATRIX.levels))]
    codes = [MATRIX, MATRIX, *MATRIX.levels]
    positions = [queries[0], *queries]
    siblings = [multiproof_bytes(1 << code.log_n, found) for code, found in zip(codes, positions, strict=True)]
    for name, kind, size in shown_by(MATRIX):
        if kind == MASKED:
            out.append(reader.field_array(size))
        elif kind == NONCE:
            reader.u64()
        else:
            reader.take(32 if "root" in name else siblings.pop(0))
    reader.end()
    assert not set(more or []) & set(queries[0])
    for part in matrix.parts if more else ():
        opened = part.columns.open(more)
        out.append(ff.f_from_bytes(opened[: 16 * len(more) * part.rows]))
    return np.concatenate(out, axis=1)


def split_data(x: np.ndarray) -> list[np.ndarray]:
    return np.split(x, [2 * MATRIX.width * MATRIX.data_rows[0]])


def other_data(rng: np.random.Generator) -> list[np.ndarray]:
    count = 2 * MATRIX.width * sum(MATRIX.data_rows)
    out = [rng.integers(-(1 << 21), 1 << 21, count).astype(np.int32) for _ in range(3)]
    out.append(out[0].copy())
    out[-1][5] += 1
    return out


def joint_opening(change=lambda words: words, more: list[int] | None = None) -> tuple[int, list[bool]]:
    """Rank of the map from the random words, and whether other data make a difference in its image."""
    rng = np.random.default_rng(11)
    first, *others = other_data(rng)
    words = random_f_array(rng, WORDS)

    def f(r):
        return shown_by_opening(first, change(r.copy()), more)

    base = f(words)
    differences = [ff.f_sub(shown_by_opening(x, change(words.copy()), more), base) for x in others]
    return image(jacobian(f, words), np.stack(differences, axis=1))


def test_an_opening_shows_one_distribution_whatever_the_data():
    """Rows, columns, tails, inner products, sum-checks, all levels, all at once; and it is affine over F."""
    rank, inside = joint_opening()
    assert all(inside)
    assert rank == 3 * MATRIX.length + MATRIX.queries * (MATRIX.rows - 3)
    rng = np.random.default_rng(2)
    x, r, d, e = other_data(rng)[0], *(random_f_array(rng, WORDS) for _ in range(3))
    base = shown_by_opening(x, r)
    step = lambda v: ff.f_sub(shown_by_opening(x, ff.f_add(r, v)), base)  # noqa: E731
    assert np.array_equal(step(ff.f_add(d, e)), ff.f_add(step(d), step(e)))
    assert np.array_equal(step(ff.f_mul_scalar(d, F(3, 7))), ff.f_mul_scalar(step(d), F(3, 7)))


def test_an_unopened_column_of_an_actual_matrix_stays_unpredictable():
    """Its leaf is a hash of MATRIX.rows - 3 random elements more, even for who knows the data."""
    opened = queries_of(1)
    other = next(j for j in range(1 << MATRIX.log_n) if j not in opened)
    known, _ = joint_opening()
    more, inside = joint_opening(more=[other])
    assert more - known == MATRIX.rows - 3 and all(inside)


def masks_and_tails(words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tails of the last part, then of the first."""
    at = 4 * MATRIX.width
    return words[:, :at].reshape(2, 4, MATRIX.width), words[:, at:].reshape(2, MATRIX.rows, MATRIX.tail)


def broken(name: str):
    def change(words):
        masks, tails = masks_and_tails(words)
        if name == "two masking rows":
            masks[:, 2:] = 0
        elif name == "equal masking rows":
            masks[:, 1:] = masks[:, :1]
        elif name == "a tail shorter than the queries":
            tails[:, 0, MATRIX.queries - 1 :] = 0
        elif name == "one tail for two rows":
            tails[:, 1] = tails[:, 0]
        return words

    return change


@pytest.mark.parametrize(
    "name", ["two masking rows", "equal masking rows", "a tail shorter than the queries", "one tail for two rows"]
)
def test_an_opening_with_less_randomness_shows_data(name):
    _, inside = joint_opening(broken(name))
    assert not all(inside)


# ------------------------------------------------------------------------------------------------ the pad proof


class FewQueries(PadCode):
    """So small that every word can be moved: five queries."""

    @property
    def queries(self) -> int:
        return 5


class FewWords(FewQueries):
    """Rows with fewer random values than queries."""

    @property
    def message(self) -> int:
        return (1 << self.block_bits) - self.queries + 1


def pad_words(code: PadCode) -> tuple[int, int]:
    """Random words of the rows, and of the three blinding rows."""
    block = 1 << code.block_bits
    return code.rows * (block - code.message), 3 * block + 2 * block - code.message


def shown_by_pads(code: PadCode, pads: Pads, form: PadForm, words: np.ndarray) -> dict[str, np.ndarray]:
    with (
        mock.patch("prover.pads.xof_field", lambda seed, count: words.ravel()),
        mock.patch("prover.pads.pad_code", lambda singles, triples: code),
    ):
        data = PadCommitment(pads, bytes(32)).prove(Fixed(), form)
    reader, sizes, out = Reader(data, "pad proof"), pad_sizes(code), {}
    for name, kind in SHOWN["pad proof"]:
        if kind == MASKED:
            out[name] = reader.field_array(sizes[name])
        elif kind == NONCE:
            reader.u64()
    out["columns"] = out["columns"].reshape(2, code.queries, code.rows + 3)
    return out


def two_pads(singles: int, triples: int) -> tuple[list[Pads], PadForm]:
    """Pads of two provers, and equations that hold for both."""
    rng = np.random.default_rng(6)
    weights = [random_f_array(rng, n) for n in (singles, triples, triples, triples)]
    both = []
    for _ in range(2):
        s, x, y = (random_f_array(rng, n) for n in (singles, triples, triples))
        both.append(Pads(s, x, y, ff.f_mul(x, y)))

    def total(p: Pads) -> F:
        parts = zip(weights, (p.singles, p.x, p.y, p.z), strict=True)
        return sum((ff.f_dot(a, v) for a, v in parts), F.ZERO)

    move = (total(both[0]) - total(both[1])) * ff.f_item(weights[0], (0,)).inv()
    singles_of = both[1].singles.copy()
    singles_of[:, :1] = ff.f_add(singles_of[:, :1], ff.f_array([move]))
    both[1] = Pads(singles_of, both[1].x, both[1].y, both[1].z)
    assert total(both[0]) == total(both[1])
    return both, PadForm(tuple(weights), -total(both[0]))


def joint_pads(code: PadCode, change=lambda words: words) -> tuple[bool, bool]:
    """Whether other pads make a difference in the image: in the columns of the rows (by the words of the rows), and,
    where these columns agree, in all the rest (by the words of the blinding rows)."""
    (one, two), form = two_pads(code.singles, code.triples)
    rng = np.random.default_rng(8)
    own, blind = pad_words(code)
    words = random_f_array(rng, own + blind)

    def columns(pads):
        def f(r):
            shown = shown_by_pads(code, pads, form, change(np.concatenate([r, words[:, own:]], axis=1)))
            return np.ascontiguousarray(shown["columns"][:, :, : code.rows]).reshape(2, -1)

        return f

    rows = np.ascontiguousarray(words[:, :own])
    j = jacobian(columns(two), rows)
    missing = ff.f_sub(columns(one)(rows), columns(two)(rows))
    _, inside = image(j.copy(), missing[:, None])
    if not all(inside):
        return False, False
    again = ff.f_add(rows, solve_any(j, missing))
    assert np.array_equal(columns(two)(again), columns(one)(rows))

    def rest(pads, own_words):
        def f(r):
            shown = shown_by_pads(code, pads, form, change(np.concatenate([own_words, r], axis=1)))
            return np.concatenate([v.reshape(2, -1) for v in shown.values()], axis=1)

        return f

    blinds = np.ascontiguousarray(words[:, own:])
    difference = ff.f_sub(rest(two, again)(blinds), rest(one, rows)(blinds))
    _, inside = image(jacobian(rest(one, rows), blinds), difference[:, None])
    return True, all(inside)


def solve_any(rows: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Some v (2, n) with v rows = target, for rows (2, n, k)."""
    count = rows.shape[1]
    m = np.concatenate([rows.transpose(0, 2, 1), target[:, :, None]], axis=2)
    pivots: list[int] = []
    for c in range(count):
        left = np.flatnonzero(m[:, len(pivots) :, c].any(axis=0))
        if not len(left):
            continue
        at, pivot = len(pivots), len(pivots) + left[0]
        m[:, [at, pivot]] = m[:, [pivot, at]]
        m[:, at] = ff.f_mul_scalar(np.ascontiguousarray(m[:, at]), ff.f_item(m, (at, c)).inv())
        column = m[:, :, c].copy()
        column[:, at] = 0
        m = ff.f_sub(m, ff.f_mul(column[:, :, None], m[:, None, at]))
        pivots.append(c)
        if len(pivots) == m.shape[1]:
            break
    out = np.zeros((2, count), np.uint64)
    for i, c in enumerate(pivots):
        out[:, c] = m[:, i, -1]
    return out


PAD_CODE = FewQueries(4, 5, 3)


def test_a_pad_proof_shows_one_distribution_whatever_the_pads():
    assert PAD_CODE.message == (1 << 4) - PAD_CODE.queries - SPARE_TAIL
    assert joint_pads(PAD_CODE) == (True, True)


@pytest.mark.parametrize("row", ["proximity", "linear", "products"])
def test_a_test_polynomial_without_its_blinding_row_shows_pads(row):
    own, _ = pad_words(PAD_CODE)
    block = 1 << PAD_CODE.block_bits
    start = own + {"proximity": 0, "linear": block, "products": 3 * block}[row]
    stop = start + {"proximity": block, "linear": 2 * block, "products": 2 * block}[row]

    def change(words):
        words[:, start:stop] = 0
        return words

    assert joint_pads(PAD_CODE, change) == (True, False)


def test_pad_rows_with_fewer_random_values_than_queries_show_pads():
    assert joint_pads(FewWords(4, 5, 3)) == (False, False)


# ------------------------------------------------------------------------------------------------ the channel


def messages_of(values: list[F], pads: Pads) -> np.ndarray:
    channel = ProverChannel(Transcript("shown"), pads)
    channel.send("values", values, len(values))
    return ff.f_from_bytes(bytes(channel.messages))


def joint_messages(reused: bool) -> tuple[int, list[bool]]:
    rng = np.random.default_rng(1)
    none = np.zeros((2, 0), np.uint64)
    values, other, words = random_fs(rng, 3), random_fs(rng, 3), random_f_array(rng, 3)

    def f(r, values=values):
        singles = r.copy()
        if reused:
            singles[:, 2] = singles[:, 1]
        return messages_of(values, Pads(singles, none, none, none))

    return image(jacobian(f, words), ff.f_sub(f(words, other), f(words))[:, None])


def test_messages_are_uniform_unless_a_pad_is_used_twice():
    assert joint_messages(reused=False) == (3, [True])
    assert joint_messages(reused=True) == (2, [False])
