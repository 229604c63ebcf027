"""Parameters of the two codes: the matrix commitment to X and the pad proof. All choices are derived, none is free."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import accumulate

from .field import ELEMENT_BYTES
from .merkle import DIGEST_BYTES

QUERY_BITS = 103  # what the queries of one level alone must give, without grinding
QUERY_GRIND = 16
PROXIMITY_GRIND = 16
SPARE_TAIL = 8
MASK_ROWS = 4
ROW_GROUP = 4  # rows whose values at one point fill a block of the hash: a part's rows are a multiple of it
MAX_TAIL = 264
MAX_ROW_BITS = 22  # the encoder takes 256 bytes for each coefficient of a row
COMBINED_ROWS = 3  # of the matrix: proximity, and two for the value
PLAIN_ROWS = 2  # of every level below: proximity, and one for the claim
ENCODED_AT_ONCE = 16  # rows that the prover encodes side by side
LEAST_PRICE = 128  # of a byte of the opening: so many encoded elements cost the prover as much
PRICE_BITS = 21  # or one for each 2^21 entries of X, if these are more
PAD_INVERSE_RATE_BITS = 4
PAD_BLOCK_BITS = range(8, 14)
PAD_TESTS = 3  # test polynomials, and rows that blind them
PAD_TEST_BLOCKS = 1 + 2 + 2  # their coefficients, in rows


@lru_cache
def queries_for(rate: Fraction, bits: int = QUERY_BITS) -> int:
    """Smallest t with ((1 + rate)/2)^t <= 2^-bits (unique decoding), rate < 1; in integers."""
    top, bottom = ((1 + rate) / 2).as_integer_ratio()
    t, left, right = 0, 1 << bits, 1
    while left > right:
        t, left, right = t + 1, left * top, right * bottom
    return t


def round_up(count: int, unit: int) -> int:
    """The next multiple of `unit`."""
    return -(-count // unit) * unit


def overhead(log_n: int, queries: int, rows: int, price: int) -> int:
    """Bytes, about, of the siblings of a tree's queried columns, and what its rows cost the prover.

    He encodes them ENCODED_AT_ONCE at a time, and a tree of hashes costs him about as much as one such block; `price`
    elements are worth a byte.
    """
    siblings = DIGEST_BYTES * queries * (log_n - queries.bit_length() + 1)
    encoded = round_up(rows, ENCODED_AT_ONCE) + ENCODED_AT_ONCE << log_n
    return siblings + encoded // price


class Shape:
    """Rows of 2^row_bits coefficients and a tail, encoded at 2^log_n points."""

    row_bits: int
    log_n: int

    @property
    def tail(self) -> int:
        return 0

    @property
    def width(self) -> int:
        return 1 << self.row_bits

    @property
    def length(self) -> int:
        return self.width + self.tail

    @property
    def rate(self) -> Fraction:
        return Fraction(self.length, 1 << self.log_n)


@dataclass(frozen=True)
class PlainCode(Shape):
    """Shape of the commitment to the combined rows of the level above: no masks, no tails.

    They are one vector, one combined row after the other, cut into rows of 2^row_bits coefficients; zero rows fill up
    a multiple of 4. Two combinations of these rows are committed at the level `below`, or sent if there is none.
    """

    row_bits: int
    data_rows: int
    log_n: int
    queries: int
    below: PlainCode | None = None

    combined = PLAIN_ROWS

    @property
    def rows(self) -> int:
        return round_up(self.data_rows, ROW_GROUP)

    @property
    def rounds(self) -> int:
        """Rounds of the sum-check of the claims on the vector: which combined row, and a coefficient of it."""
        return (self.data_rows * self.width - 1).bit_length()

    @property
    def levels(self) -> tuple[PlainCode, ...]:
        """This level and those below."""
        return (self,) if self.below is None else (self, *self.below.levels)

    def cost(self, price: int) -> int:
        """Bytes of this level and those below, without nonces, roots and siblings, and the `overhead` unless 0."""
        own = 2 * self.rounds + self.queries * self.rows + (0 if self.below else self.combined * self.width)
        more = overhead(self.log_n, self.queries, self.rows, price) if price else 0
        return ELEMENT_BYTES * own + more + (self.below.cost(price) if self.below else 0)


@lru_cache
def plain_code(combined: int, row_bits: int, price: int) -> PlainCode:
    """The cheapest levels for `combined` rows of 2^row_bits coefficients."""
    shapes = []
    for bits in range(row_bits + 1):
        rests = [None, plain_code(PLAIN_ROWS, bits, price)] if 0 < bits < row_bits else [None]
        for log_n in range(bits + 1, bits + 9):
            queries = queries_for(Fraction(1 << bits, 1 << log_n))
            if 2 * queries <= 1 << log_n:
                data_rows = combined << row_bits - bits
                shapes += [PlainCode(bits, data_rows, log_n, queries, below) for below in rests]
    return min(shapes, key=lambda code: code.cost(price))


@dataclass(frozen=True)
class MatrixCode(Shape):
    """Shape of the commitment to X: rows of 2^row_bits packed coefficients and `tail` random ones.

    The rows lie under several roots, one after the other: part i has data_rows[i] rows that hold data (two entries of
    X per coefficient), zero rows that fill up a multiple of 4, and the last part 4 random rows behind them.
    """

    row_bits: int
    data_rows: tuple[int, ...]
    log_n: int
    queries: int
    below: PlainCode

    combined = COMBINED_ROWS

    @property
    def tail(self) -> int:
        return self.queries + SPARE_TAIL

    @property
    def parts(self) -> tuple[int, ...]:
        """Rows of each part."""
        rows = [round_up(count, ROW_GROUP) for count in self.data_rows]
        rows[-1] += MASK_ROWS
        return tuple(rows)

    @property
    def starts(self) -> tuple[int, ...]:
        """The first row of each part. Its entries begin at index 2 * width * start of X."""
        return (0, *accumulate(self.parts[:-1]))

    @property
    def rows(self) -> int:
        return sum(self.parts)

    @property
    def mask_row(self) -> int:
        return self.rows - MASK_ROWS

    @property
    def row_variables(self) -> int:
        return (self.rows - 1).bit_length()

    @property
    def variables(self) -> int:
        """Number of coordinates of the evaluation point: row bits, column bits, the real/imaginary bit."""
        return self.row_variables + self.row_bits + 1

    @property
    def levels(self) -> tuple[PlainCode, ...]:
        """The commitments to combined rows, from the one to the three of this matrix on."""
        return self.below.levels

    @property
    def opening_bytes(self) -> int:
        """All levels without nonces, roots and Merkle siblings."""
        return self.cost(0)

    def cost(self, price: int) -> int:
        """See `PlainCode.cost`."""
        own = COMBINED_ROWS * self.tail + 2 + self.queries * self.rows
        more = sum(overhead(self.log_n, self.queries, rows, price) for rows in self.parts) if price else 0
        return ELEMENT_BYTES * own + more + self.below.cost(price)


@lru_cache
def matrix_code(*entries: int) -> MatrixCode:
    """The cheapest shape for so many entries of X in each part, for prover and proof together (MatrixCode.cost)."""
    if not entries or min(entries) < 1:
        raise ValueError("every part of X has entries")
    shapes, price = [], max(LEAST_PRICE, sum(entries) >> PRICE_BITS)
    for row_bits in range(5, MAX_ROW_BITS + 1):
        length = (1 << row_bits) + MAX_TAIL
        for log_n in (row_bits + 1, row_bits + 2, row_bits + 3):
            # The query count is computed for the longest admissible tail, so that it cannot depend on itself.
            rate = Fraction(length, 1 << log_n)
            if rate < 1 and queries_for(rate) + SPARE_TAIL <= MAX_TAIL:
                data_rows = tuple(-(-count // (2 << row_bits)) for count in entries)
                below = plain_code(COMBINED_ROWS, row_bits, price)
                shapes.append(MatrixCode(row_bits, data_rows, log_n, queries_for(rate), below))
    return min(shapes, key=lambda code: code.cost(price))


@dataclass(frozen=True)
class PadCode:
    """Shape of the pad proof: rows of 2^block_bits evaluations, `message` of them pads and the rest random."""

    block_bits: int
    singles: int
    triples: int

    @property
    def queries(self) -> int:
        return queries_for(Fraction(2, 1 << PAD_INVERSE_RATE_BITS))

    @property
    def message(self) -> int:
        """Pads per row; the rest is random: one value per query, and spare ones so that no unqueried column is a
        function of the pads and the queried columns (or its leaf would confirm a guess of the witness)."""
        return (1 << self.block_bits) - self.queries - SPARE_TAIL

    @property
    def log_n(self) -> int:
        return self.block_bits + PAD_INVERSE_RATE_BITS

    @property
    def single_rows(self) -> int:
        return -(-self.singles // self.message)

    @property
    def triple_rows(self) -> int:
        return -(-self.triples // self.message)

    @property
    def rows(self) -> int:
        return self.single_rows + 3 * self.triple_rows

    @property
    def opening_bytes(self) -> int:
        columns = self.queries * (self.rows + PAD_TESTS)
        return ELEMENT_BYTES * ((PAD_TEST_BLOCKS << self.block_bits) + columns)


def pad_code(singles: int, triples: int) -> PadCode:
    """The shape with the smallest opening."""
    return min((PadCode(b, singles, triples) for b in PAD_BLOCK_BITS), key=lambda c: c.opening_bytes)
