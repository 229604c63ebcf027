"""The probe's public configuration `C` (arXiv 2606.25004, Algorithm 1), in exact rationals."""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from decimal import Decimal
from fractions import Fraction
from typing import Any

from blake3 import blake3

from circuits.head.statistic import STATISTICS, Statistic
from zkcert.errors import UnusableInput
from zkcert.public.reading import read_file

VARIANTS = ("asam-all", "sam", "asam-samsung", "asam-shifted")
SHIFTED = VARIANTS[2:]
"""Those with an eta."""
MAX_DIVISOR = 1 << 22
"""Largest B/lr: the update divides by the integer 2^32 B/lr, whose remainder needs a table of B/lr rows."""

_MAX_COUNT = 1 << 16
_RHO_LIMIT = 1 << 20  # of rho and eta
_EPS_LIMIT = 1 << 40
# Decimals and ratios only, with a short exponent: "1e999999999" must not be expanded.
_NUMBER = re.compile(r"-?[0-9]{1,40}(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,2})?|-?[0-9]{1,40}/[0-9]{1,40}")


def canonical_json(value: object) -> str:
    """The one JSON text of `value`: ASCII, keys sorted, no spaces, no NaN; what digests are taken of."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def parse_fraction(value: object, name: str) -> Fraction:
    """`value` as the exact rational its decimal text denotes: 0.05 is 1/20, not the nearest binary64.

    Takes Fraction, int, float, Decimal, or text such as "0.05", "5e-2", "1/20". Raises UnusableInput.
    """
    if isinstance(value, Fraction):
        return value
    if isinstance(value, str | int | float | Decimal) and not isinstance(value, bool):
        text = str(value)
        if _NUMBER.fullmatch(text):
            with suppress(ZeroDivisionError):
                return Fraction(text)
    raise UnusableInput(f"{name} must be a number such as 0.05, 1e-4 or 1/20, not {str(value)[:40]!r}")


@dataclass(frozen=True)
class ProbeConfig:
    """Configuration of the directional-sharpness probe (arXiv 2606.25004, Definition 5 and Algorithm 1).

    steps       T, the mini-batches probed, 2..65536.
    batch_size  B, samples per mini-batch, 1..65536.
    rho         radius of the perturbation, in (0, 8), numerator and denominator below 2^20.
    lr          learning rate of the update; B/lr must be an integer from 1 to 2^22.
    eps         added to s_t^2 / L_t before the logarithm, in [0, 1), denominator below 2^40.
    variant     "asam-all": T_w = diag(|w|) over all parameters; "sam": T_w = I; "asam-shifted": diag(|w| + eta);
                "asam-samsung": that for parameters with "weight" in their name, and 1 for others.
    ddof        of the standard deviation, below T; 0, the population's, where the statistic is none.
    statistic   "std-log-ratio", of log(s_t^2 / L_t + eps); of the sharpnesses s_t themselves "std", "rms" or "max".
    eta         of the last two variants, in (0, 8), numerator and denominator below 2^20; None is 1/100 there.

    Numbers may be given as text, int, float, Decimal or Fraction; see `parse_fraction`. Raises UnusableInput.
    """

    steps: int = 10
    batch_size: int = 16
    rho: Fraction = Fraction(1, 20)
    lr: Fraction = Fraction(1, 10_000)
    eps: Fraction = Fraction(1, 10**8)
    variant: str = "asam-all"
    ddof: int = 0
    statistic: str = STATISTICS[0]
    eta: Fraction | None = None

    def __post_init__(self) -> None:
        for name, low in (("steps", 2), ("batch_size", 1)):
            value = getattr(self, name)
            if type(value) is not int or not low <= value <= _MAX_COUNT:
                raise UnusableInput(f"{name} must be an integer from {low} to {_MAX_COUNT}")
        for name in ("rho", "lr", "eps"):
            object.__setattr__(self, name, parse_fraction(getattr(self, name), name))
        rho, eps = self.rho, self.eps
        if not 0 < rho < 8 or max(rho.numerator, rho.denominator) >= _RHO_LIMIT:
            raise UnusableInput(f"rho must lie in (0, 8), numerator and denominator below 2^20, not {rho}")
        if not 0 <= eps < 1 or eps.denominator >= _EPS_LIMIT:
            raise UnusableInput(f"eps must lie in [0, 1), with a denominator below 2^40, not {eps}")
        if self.lr <= 0:
            raise UnusableInput(f"lr must be positive, not {self.lr}")
        ratio = self.batch_size / self.lr
        if ratio.denominator != 1 or not 1 <= ratio <= MAX_DIVISOR:
            nearest = min(max(round(ratio), 1), MAX_DIVISOR)
            raise UnusableInput(
                f"batch_size/lr must be an integer from 1 to {MAX_DIVISOR}: "
                f"change lr to {Fraction(self.batch_size, nearest)}, or change batch_size"
            )
        for name, known in (("variant", VARIANTS), ("statistic", STATISTICS)):
            if getattr(self, name) not in known:
                raise UnusableInput(f"{name} must be one of {', '.join(known)}")
        if type(self.ddof) is not int or not 0 <= self.ddof < self.steps:
            raise UnusableInput(f"ddof must be an integer from 0 to {self.steps - 1}, below the steps")
        if self.ddof and not Statistic(self.statistic).centred:
            raise UnusableInput(f"ddof is of a deviation; with the statistic {self.statistic} it must be 0")
        self._check_eta()

    def _check_eta(self) -> None:
        if self.variant not in SHIFTED:
            if self.eta is not None:
                raise UnusableInput(f"eta is of the variants {' and '.join(SHIFTED)}, not of {self.variant}")
            return
        eta = Fraction(1, 100) if self.eta is None else parse_fraction(self.eta, "eta")
        if not 0 < eta < 8 or max(eta.numerator, eta.denominator) >= _RHO_LIMIT:
            raise UnusableInput(f"eta must lie in (0, 8), numerator and denominator below 2^20, not {eta}")
        object.__setattr__(self, "eta", eta)

    @property
    def divisor(self) -> int:
        """D = B/lr, an integer: w_{t+1} = w_t - (sum over the batch of gradients) / D."""
        return int(self.batch_size / self.lr)

    def canonical(self) -> dict[str, int | str]:
        """The configuration as JSON values; rationals as "numerator/denominator" in lowest terms; without the statistic
        if it is the default, and the eta if there is none."""
        values = {k: str(v) if isinstance(v, Fraction) else v for k, v in asdict(self).items() if v is not None}
        if self.statistic == STATISTICS[0]:
            del values["statistic"]
        return values

    def differing(self, other: ProbeConfig) -> list[str]:
        """The names of the fields in which both differ."""
        return [field.name for field in fields(self) if getattr(self, field.name) != getattr(other, field.name)]

    @property
    def of_steps(self) -> Statistic:
        """The statistic, of T values."""
        return Statistic(self.statistic, self.steps, self.ddof)

    @property
    def digest(self) -> bytes:
        """BLAKE3 of the canonical JSON, 32 bytes."""
        return blake3(b"zkcert config v1\0" + canonical_json(self.canonical()).encode()).digest()

    @classmethod
    def from_canonical(cls, value: object) -> ProbeConfig:
        """Inverse of `canonical`; anything that is not exactly its output raises UnusableInput."""
        *names, last, least = [field.name for field in fields(cls)]
        if not isinstance(value, dict) or not set(names) <= set(value) <= {*names, last, least}:
            raise UnusableInput(f"a configuration has the keys {', '.join(names)}, and may have {last} and {least}")
        config = cls(**value)
        written = config.canonical()
        if written != value or any(type(v) is not type(value[k]) for k, v in written.items()):
            raise UnusableInput("the configuration is not in canonical form")
        return config


_CONFIG_LIMIT = 4096  # bytes of a configuration's file


def read_config(source: str | os.PathLike[str]) -> ProbeConfig:
    """A configuration given as "steps=5,rho=0.05", or as a JSON file of such keys; what is left out has its default.

    Raises UnusableInput for anything else, a key given twice included.
    """
    text = os.fspath(source)
    shown = text[:80] if "=" in text else text  # the whole name of a file
    pairs = [_pair(entry) for entry in text.split(",")] if "=" in text else _read_pairs(text)
    names = [field.name for field in fields(ProbeConfig)]
    given = [key for key, _ in pairs]
    for key in given:
        if key not in names or given.count(key) > 1:
            fault = "is given twice" if key in names else f"is none of {', '.join(names)}"
            raise UnusableInput(f"{shown}: {key[:40]!r} {fault}")
    values: dict[str, Any] = dict(pairs)
    try:
        return ProbeConfig(**values)
    except UnusableInput as error:
        raise UnusableInput(f"{shown}: {error}") from error


def _pair(text: str) -> tuple[str, object]:
    """Of "steps=5"."""
    key, _, value = (part.strip() for part in text.partition("="))
    return key, int(value) if re.fullmatch("[0-9]{1,9}", value) else value


def _read_pairs(path: str) -> list[tuple[str, object]]:
    """The keys and values of a JSON object, repeated ones included; decimals as text, so that they stay exact."""
    try:
        data = read_file(path, _CONFIG_LIMIT)
    except UnusableInput as error:
        raise UnusableInput(f"{error}; a configuration is a file, or text such as steps=5") from error
    try:
        pairs = json.loads(data, object_pairs_hook=tuple, parse_float=str)
    except (ValueError, RecursionError):
        pairs = None
    if not isinstance(pairs, tuple):  # which only an object is
        raise UnusableInput(f'{path}: not a configuration: JSON such as {{"steps": 5}}, or text such as steps=5')
    return list(pairs)
