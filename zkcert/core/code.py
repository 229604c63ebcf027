"""Parameters of the two codes: the matrix commitment to X and the pad proof. All choices are derived, none is free."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log2

QUERY_BITS = 87  # what the queries alone must give
QUERY_GRIND = 16
PROXIMITY_GRIND = 16
SPARE_TAIL = 8
MASK_ROWS = 4
MAX_RATE = 0.3
MAX_TAIL = 160
PAD_INVERSE_RATE_BITS = 4


def queries_for(rate: float, bits: int = QUERY_BITS) -> int:
    """Smallest t with ((1 + rate)/2)^t <= 2^-bits (unique decoding)."""
    return ceil(bits / -log2((1 + rate) / 2))


@dataclass(frozen=True)
class MatrixCode:
    """Shape of the commitment to X: `rows` rows of 2^row_bits packed coefficients and `tail` random ones.

    Rows [0, mask_row) hold data (two entries of X per coefficient), rows [mask_row, mask_row + 4) are random.
    """

    row_bits: int
    data_rows: int
    log_n: int
    queries: int

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
    def rate(self) -> float:
        return self.length / (1 << self.log_n)

    @property
    def row_variables(self) -> int:
        return (self.rows - 1).bit_length()

    @property
    def variables(self) -> int:
        """Number of coordinates of the evaluation point: row bits, column bits, the real/imaginary bit."""
        return self.row_variables + self.row_bits + 1

    @property
    def opening_bytes(self) -> int:
        return 16 * (3 * self.length + self.queries * self.rows)


def matrix_code(entries: int) -> MatrixCode:
    """The shape with the smallest opening for `entries` entries of X."""
    best: MatrixCode | None = None
    for row_bits in range(5, 21):
        length = (1 << row_bits) + MAX_TAIL
        log_n = row_bits + 2
        while length / (1 << log_n) > MAX_RATE:
            log_n += 1
        # The query count is computed for the longest admissible tail, so that it cannot depend on itself.
        queries = queries_for(length / (1 << log_n))
        code = MatrixCode(row_bits, -(-entries // (2 << row_bits)), log_n, queries)
        if code.tail <= MAX_TAIL and (best is None or code.opening_bytes < best.opening_bytes):
            best = code
    assert best is not None
    return best


@dataclass(frozen=True)
class PadCode:
    """Shape of the pad proof: rows of 2^block_bits evaluations, `message` of them pads and the rest random."""

    block_bits: int
    singles: int
    triples: int

    @property
    def queries(self) -> int:
        rate = 2.0**-PAD_INVERSE_RATE_BITS
        return ceil(QUERY_BITS / -log2((1 + 2 * rate) / 2))

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
        return 16 * (5 * (1 << self.block_bits) + self.queries * (self.rows + 3))


def pad_code(singles: int, triples: int) -> PadCode:
    """The shape with the smallest opening."""
    return min((PadCode(b, singles, triples) for b in range(8, 14)), key=lambda c: c.opening_bytes)
