"""Parameters of the two codes: the matrix commitment to X and the pad proof. All choices are derived, none is free."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from .field import ELEMENT_BYTES

QUERY_BITS = 87  # what the queries alone must give
QUERY_GRIND = 16
PROXIMITY_GRIND = 16
SPARE_TAIL = 8
MASK_ROWS = 4
MAX_TAIL = 224
MAX_ROW_BITS = 20  # the encoder's buffer takes 256 bytes per coefficient of a row
COMBINED_ROWS = 3
ENCODED_PER_BYTE = 64  # encoded elements that cost the prover as much as one byte of the opening
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


@dataclass(frozen=True)
class SecondCode:
    """Shape of the commitment to the three combined rows: rows of 2^row_bits coefficients, no masks, no tails.

    The vector is their first 2^k coefficients, one row after the other; zero rows fill up a multiple of 4.
    """

    row_bits: int
    data_rows: int
    log_n: int
    queries: int

    @property
    def width(self) -> int:
        return 1 << self.row_bits

    @property
    def rows(self) -> int:
        return -(-self.data_rows // 4) * 4

    @property
    def rate(self) -> Fraction:
        return Fraction(self.width, 1 << self.log_n)

    @property
    def opening_bytes(self) -> int:
        return ELEMENT_BYTES * (2 * self.width + self.queries * self.rows)

    @property
    def cost(self) -> int:
        """Bytes of the opening, and what encoding costs the prover (all rows) and the verifier (two)."""
        return self.opening_bytes + (self.rows << self.log_n) // ENCODED_PER_BYTE + (1 << self.log_n)


@lru_cache
def second_code(row_bits: int) -> SecondCode:
    """The cheapest shape for three rows of 2^row_bits coefficients."""
    shapes = []
    for bits in range(row_bits + 1):
        for log_n in range(bits + 2, bits + 9):
            queries = queries_for(Fraction(1 << bits, 1 << log_n))
            if 2 * queries <= 1 << log_n:
                shapes.append(SecondCode(bits, COMBINED_ROWS << row_bits - bits, log_n, queries))
    return min(shapes, key=lambda code: code.cost)


@dataclass(frozen=True)
class MatrixCode:
    """Shape of the commitment to X: `rows` rows of 2^row_bits packed coefficients and `tail` random ones.

    Rows [0, mask_row) hold data (two entries of X per coefficient), rows [mask_row, mask_row + 4) are random.
    """

    row_bits: int
    data_rows: int
    log_n: int
    queries: int
    first: int = 0

    @property
    def starts(self) -> tuple[int, ...]:
        return (0, self.first)

    @property
    def width(self) -> int:
        return 1 << self.row_bits

    @property
    def tail(self) -> int:
        return self.queries + SPARE_TAIL

    @property
    def length(self) -> int:
        return self.width + self.tail

    @property
    def mask_row(self) -> int:
        return -(-self.data_rows // MASK_ROWS) * MASK_ROWS

    @property
    def rows(self) -> int:
        return self.mask_row + MASK_ROWS

    @property
    def rate(self) -> Fraction:
        return Fraction(self.length, 1 << self.log_n)

    @property
    def row_variables(self) -> int:
        return (self.rows - 1).bit_length()

    @property
    def variables(self) -> int:
        """Number of coordinates of the evaluation point: row bits, column bits, the real/imaginary bit."""
        return self.row_variables + self.row_bits + 1

    @property
    def second(self) -> SecondCode:
        """The commitment to the three combined rows."""
        return second_code(self.row_bits)

    @property
    def rounds(self) -> int:
        """Rounds of the opening's sum-check: a coefficient of a combined row, and which row."""
        return self.row_bits + (COMBINED_ROWS - 1).bit_length()

    @property
    def opening_bytes(self) -> int:
        """Both levels without nonces, roots and Merkle siblings."""
        first = COMBINED_ROWS * self.tail + 2 + 2 * self.rounds + self.queries * self.rows
        return ELEMENT_BYTES * first + self.second.opening_bytes

    @property
    def cost(self) -> int:
        columns = ELEMENT_BYTES * self.queries * self.rows
        return columns + (self.rows << self.log_n) // ENCODED_PER_BYTE + self.second.cost


@lru_cache
def matrix_code(*entries: int) -> MatrixCode:
    """The cheapest shape for `entries` entries of X, for prover, verifier and proof together (MatrixCode.cost)."""
    shapes = []
    for row_bits in range(5, MAX_ROW_BITS + 1):
        length = (1 << row_bits) + MAX_TAIL
        for log_n in (row_bits + 1, row_bits + 2, row_bits + 3):
            # The query count is computed for the longest admissible tail, so that it cannot depend on itself.
            rate = Fraction(length, 1 << log_n)
            if rate < 1:
                rows = [-(-(-(-n // (2 << row_bits))) // 4) * 4 for n in entries]
                code = MatrixCode(row_bits, sum(rows), log_n, queries_for(rate), rows[0])
                if code.tail <= MAX_TAIL:
                    shapes.append(code)
    return min(shapes, key=lambda code: code.cost)


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
