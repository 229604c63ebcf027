"""What a calibration holds, and how it is written."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from zkcert.calibration.choice import decimal
from zkcert.errors import UnusableInput
from zkcert.public.config import SHIFTED, STATISTICS, VARIANTS, ProbeConfig
from zkcert.public.kinds import CALIBRATION_FORMAT

File = str | os.PathLike[str]

WEAK_AUC = 0.7
"""Below this the classes are said not to separate: the usual bound of an acceptable discrimination (Hosmer, Lemeshow
and Sturdivant, Applied Logistic Regression, 2013, section 5.2.4)."""

PROBE_FIELDS = "steps batch_size rho lr eps variant eta statistic batch_norm"
"""Of a probe, in the order of the file; behind them `ddof`, where it is not 0."""

_NAMED = 5
"""Models that one warning names."""

FEW_MODELS = 3
"""With fewer models of a kind the rates are about those models rather than about a kind of model."""


@dataclass(frozen=True)
class Source:
    """A dataset draws came from: its file's name, number of samples and digest (hexadecimal)."""

    name: str
    n: int
    digest: str

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {"name": self.name, "N": self.n, "digest": self.digest}


@dataclass(frozen=True)
class Scored:
    """A model's scores, a float for each draw. model: hexadecimal weights digest; data: digest of a `Source`."""

    name: str
    model: str
    data: str
    scores: tuple[float, ...]

    def accepted(self, tau: Fraction) -> int:
        """The draws that score at most tau, exactly compared."""
        bound = float(tau)
        if bound > tau:
            bound = math.nextafter(bound, 0)
        return sum(score <= bound for score in self.scores)

    @property
    def mean(self) -> float:
        """Of the scores."""
        return math.fsum(self.scores) / len(self.scores)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {"name": self.name, "model": self.model, "data": self.data, "scores": list(self.scores)}


@dataclass(frozen=True)
class Rate:
    """`count` of `total` draws, and the exact 95 % interval (Clopper and Pearson) of its probability.

    The interval takes draws for independent; those of one model are not independent models.
    """

    count: int
    total: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """count / total."""
        return self.count / self.total

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {"count": self.count, "total": self.total, "low": self.low, "high": self.high}


def provable(probe: Mapping[str, int | str]) -> ProbeConfig:
    """The configuration of a proof of a probe as of `zkcert.metric.Probe.to_dict`; UnusableInput if there is none."""
    for name, allowed in (("variant", VARIANTS), ("statistic", STATISTICS), ("batch_norm", ("eval",))):
        if probe[name] not in allowed:
            raise UnusableInput(f"{name} {probe[name]}, which cannot be proved (only {', '.join(allowed)})")
    names = ["steps", "batch_size", "rho", "lr", "eps", "variant", "statistic"]
    names += ["eta"] if probe["variant"] in SHIFTED else []
    shared: dict[str, Any] = {name: probe[name] for name in names}
    return ProbeConfig(**shared, ddof=int(probe.get("ddof", 0)))


@dataclass(frozen=True)
class Calibration:
    """A calibrated threshold.

    tau    what `choose_tau` gives for the scores and the risk.
    risk   in [0, 1).
    probe  as of `zkcert.metric.Probe.to_dict`.
    seed   text; draw i of a model is what `measure --seed SEED/MODEL/i` draws, MODEL the first 16 digits of its digest.
    false_acceptance, auc  None without bad models. auc: the probability that a bad draw scores above a good one.
    version  of zkcert that made it.
    """

    tau: Fraction
    risk: Fraction
    probe: Mapping[str, int | str]
    seed: str
    good: tuple[Scored, ...]
    bad: tuple[Scored, ...]
    data: tuple[Source, ...]
    false_acceptance: Rate | None
    false_rejection: Rate
    auc: float | None
    version: str
    path: str | None = field(default=None, compare=False)

    def config(self) -> ProbeConfig:
        """The configuration of a proof of the calibrated probe; UnusableInput if that probe cannot be proved."""
        try:
            return provable(self.probe)
        except UnusableInput as error:
            raise UnusableInput(f"this calibration is for {error}") from error

    @property
    def gap(self) -> float | None:
        """The smallest bad score minus the largest good one; negative if they overlap, None without bad models."""
        if not self.bad:
            return None
        return min(min(m.scores) for m in self.bad) - max(max(m.scores) for m in self.good)

    @property
    def tau_text(self) -> str:
        """tau in decimal."""
        return decimal(self.tau)

    def warnings(self) -> list[str]:
        """Why this threshold may be worth little; most important first."""
        out, draws = [], sum(len(m.scores) for m in self.bad or self.good)
        if not self.bad:
            out.append("NO BAD MODELS: tau follows from good models alone, and may accept any bad one")
        passing = self._passing()
        if passing:
            more = f", and {len(passing) - _NAMED} more" if len(passing) > _NAMED else ""
            out.append(
                f"BAD MODELS PASS in a larger share of their draws than the risk of {float(self.risk):g}: "
                f"{', '.join(passing[:_NAMED])}{more}"
            )
        if self.auc is not None and self.auc < 0.5:
            out.append(
                f"INVERTED: bad models score lower than good ones (AUC {self.auc:.3f}), so this probe accepts bad "
                "models before good ones"
            )
        elif self.auc is not None and self.auc < WEAK_AUC:
            out.append(f"NO SEPARATION: good and bad models score alike (AUC {self.auc:.3f}, 0.5 is chance)")
        if self.bad and self.false_rejection.value > 0.5:
            out.append(f"tau rejects most draws of good models ({self.false_rejection.value:.1%})")
        if self.risk * (draws + 1) < 1:
            kind = "bad" if self.bad else "good"
            out.append(f"{draws} {kind} draws cannot resolve a risk of {float(self.risk):g}: make more --draws")
        for kind, models in (("good", self.good), ("bad", self.bad)):
            if 0 < len(models) < FEW_MODELS:
                out.append(f"only {len(models)} {kind} model{'s' * (len(models) > 1)}: rates say little about others")
        return out

    @property
    def doubts(self) -> list[str]:
        """The warnings, for whoever uses the threshold."""
        return [f"calibration: {text}" for text in self.warnings()]

    def _passing(self) -> list[str]:
        """Bad models of which tau accepts a larger share of draws than the risk, the most accepted first."""
        counts = [(model.accepted(self.tau), len(model.scores), model.name) for model in self.bad]
        above = [entry for entry in counts if entry[0] > self.risk * entry[1]]
        return [f"{name} ({count} of {total})" for count, total, name in sorted(above, key=lambda entry: -entry[0])]

    def to_dict(self) -> dict[str, Any]:
        """The file's content as JSON values."""
        acceptance = None if self.false_acceptance is None else self.false_acceptance.to_dict()
        return {
            "format": CALIBRATION_FORMAT,
            "version": self.version,
            "tau": self.tau_text,
            "risk": str(self.risk),
            "probe": {name: self.probe[name] for name in f"{PROBE_FIELDS} ddof".split() if name in self.probe},
            "seed": self.seed,
            "data": [source.to_dict() for source in self.data],
            "good": [model.to_dict() for model in self.good],
            "bad": [model.to_dict() for model in self.bad],
            "false_acceptance": acceptance,
            "false_rejection": self.false_rejection.to_dict(),
            "auc": self.auc,
        }

    def to_bytes(self) -> bytes:
        """The content of a file."""
        return (json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n").encode()
