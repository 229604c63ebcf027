"""Security of the dataset hash c = A x + S rho mod p (zkcert.core.sis), recomputed from its parameters.

Binding. Two samples with one hash differ by a vector z with entries in [-255, 255] and (A | S) z = 0 mod p.
The attack keeps m of the columns (as many as suit it; their number is not taken to be a limit), so that z
lies in a lattice of dimension m and volume p^160, and reduces its basis with BKZ-beta. A reduced basis has
|b_1| = delta^m p^(160/m), delta = ((pi beta)^(1/beta) beta / (2 pi e))^(1/(2 (beta - 1))) (Chen 2013); beyond
m = sqrt(160 log p / log delta) it ends in unit vectors and more columns are of no use. BKZ-beta is charged as
one sieve in dimension beta (core-SVP), 2^(c beta): c = 0.292 classically (Becker et al. 2016),
0.265 (Laarhoven 2015) or 0.257 (Chailloux and Loyer 2021) quantumly. z counts as found

* Euclidean: as soon as |b_1| <= 255 sqrt(m), the length of the longest admissible vector. This flatters the
  attacker: some entries of a vector of that length are nearly always larger than 255.
* infinity norm (as for Dilithium): the sieve yields (4/3)^(beta/2) vectors of length sqrt(4/3) |b_1|. Their m
  entries are taken as Gaussian of deviation length / sqrt(m); the attack repeats until one has all <= 255.

Hiding. By the leftover hash lemma, (S, S rho mod p) is within 2^-(1 + (8 RHO - 160 log2 p) / 2) of uniform
for uniform bytes rho. (The owner's rho is derived from a secret 256-bit seed, so hiding rests on BLAKE3 too.)

Run: python -m benchmarks.sis_estimate
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from zkcert.core.field import P
from zkcert.core.sis import RHO, ROWS

BOUND = 255
SIEVES = {"classical": 0.292, "quantum (0.265)": 0.265, "quantum (0.257)": 0.257}


@dataclass(frozen=True)
class Attack:
    """An attack's block size, number of columns and cost in bits."""

    beta: int
    m: int
    bits: float


def log2_delta(beta: int) -> float:
    """Logarithm of the root Hermite factor of BKZ-beta."""
    return math.log2((math.pi * beta) ** (1 / beta) * beta / (2 * math.pi * math.e)) / (2 * (beta - 1))


def _lattices(rows: int, beta: int) -> Iterator[tuple[int, float]]:
    """Dimensions m and the log2 |b_1| that BKZ-beta reaches in them."""
    volume, delta = rows * math.log2(P), log2_delta(beta)
    for m in range(rows + 1, math.isqrt(int(volume / delta)) + 2):
        yield m, m * delta + volume / m


def euclidean(sieve: float, rows: int = ROWS, bound: int = BOUND) -> Attack:
    """The cheapest attack that finds a vector of length bound * sqrt(m)."""
    for beta in range(60, 5000):
        for m, log_b1 in _lattices(rows, beta):
            if log_b1 <= math.log2(bound * math.sqrt(m)):
                return Attack(beta, m, sieve * beta)
    raise ValueError("no block size below 5000 suffices")


def infinity(sieve: float, rows: int = ROWS, bound: int = BOUND) -> Attack:
    """The cheapest attack that finds a vector with all entries at most bound, by the heuristic above."""
    best = Attack(0, 0, math.inf)
    beta = 60
    while sieve * beta < best.bits:
        log_vectors = beta / 2 * math.log2(4 / 3)
        for m, log_b1 in _lattices(rows, beta):
            deviation = math.sqrt(4 / 3) * 2**log_b1 / math.sqrt(m)
            excess = math.erfc(bound / (deviation * math.sqrt(2)))
            log_success = m * math.log1p(-excess) / math.log(2) + log_vectors
            bits = sieve * beta + max(0.0, -log_success)
            if bits < best.bits:
                best = Attack(beta, m, bits)
        beta += 1
    return best


def hiding_distance_bits() -> float:
    """d such that a hash is within 2^-d of uniform, however the sample was chosen."""
    return 1 + (8 * RHO - ROWS * math.log2(P)) / 2


def main() -> None:
    """Print both estimates and the hiding margin."""
    print(f"SIS: {ROWS} rows, q = 2^61 - 1, |entries| <= {BOUND}, any number of columns\n")
    print(f"{'':18}{'Euclidean':>30}{'infinity norm':>30}")
    for name, sieve in SIEVES.items():
        attacks = euclidean(sieve), infinity(sieve)
        cells = [f"{a.bits:.1f} bits (beta={a.beta}, m={a.m})" for a in attacks]
        print(f"{name:18}{cells[0]:>30}{cells[1]:>30}")
    spare, distance = 8 * RHO - ROWS * math.log2(P), hiding_distance_bits()
    print(f"\nhiding: {8 * RHO} random bits, {spare:.0f} more than a hash has;")
    print(f"one hash is within 2^-{distance:.0f} of uniform, a million within 2^-{distance - 20:.0f}")


if __name__ == "__main__":
    main()
