"""How the values of all steps become a score, in exact integers: what can be certified of them.

With y_t the values in units of 2^-bits, and T of them:

    std-log-ratio  Std of the log ratios ln(s_t^2/L_t + eps), 32 bits      gathered: T sum y^2 - (sum y)^2
    std            Std of the sharpnesses s_t themselves, 48 bits          gathered: the same
    rms            root mean square of s_t, 48 bits                        gathered: sum y^2
    max            largest s_t, 48 bits                                    gathered: (max y)^2

and score^2 = gathered / weight, where weight is T (T - ddof), the same, T, and 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import isqrt

STATISTICS = ("std-log-ratio", "std", "rms", "max")
RATIO_BITS, SHARPNESS_BITS = 32, 48


@dataclass(frozen=True)
class Statistic:
    """name: of STATISTICS; steps: T; ddof: below T, and 0 unless the statistic is a deviation."""

    name: str = STATISTICS[0]
    steps: int = 1
    ddof: int = 0

    @property
    def of_ratios(self) -> bool:
        """Whether the values are log ratios; sharpnesses otherwise."""
        return self.name == STATISTICS[0]

    @property
    def bits(self) -> int:
        """Fractional bits of the values."""
        return RATIO_BITS if self.of_ratios else SHARPNESS_BITS

    @property
    def centred(self) -> bool:
        """Whether it is a deviation."""
        return self.name.startswith("std")

    @property
    def weight(self) -> int:
        """What score^2 is multiplied by in `gathered`."""
        return self.steps * (self.steps - self.ddof) if self.centred else {"rms": self.steps, "max": 1}[self.name]

    @property
    def text(self) -> str:
        """The name for people, after "the"."""
        name = "score" if self.of_ratios else f"{self.name} of s_t"
        return f"{name} with ddof {self.ddof}" if self.ddof else name

    def gathered(self, values: Sequence[int]) -> int:
        """weight * score^2 of the values, in units of 2^(-2 bits)."""
        if self.name == "max":
            return max(values) ** 2
        squares = sum(y * y for y in values)
        return self.steps * squares - sum(values) ** 2 if self.centred else squares

    def score(self, gathered: int) -> float:
        """In real units."""
        return float(Fraction(isqrt((gathered << 64) // self.weight), 1 << (self.bits + 32)))

    def charged_error(self, classes: int) -> int:
        """Bound on |score - score of the real values| in units of 2^-bits, given the network's fixed-point logits and
        gradients: that of one value, times sqrt(T / (T - ddof)), rounded up.

        Derived in docs/spec/semantics.md.
        """
        one = 2048 * (classes + 2) if self.of_ratios else 1
        return isqrt(-(-one * one * self.steps // (self.steps - self.ddof)) - 1) + 1

    def tau_units(self, tau: Fraction, classes: int) -> int:
        """The integer threshold compared with the score: tau less the charged error. Negative: tau is too small."""
        return (tau.numerator << self.bits) // tau.denominator - self.charged_error(classes)
