"""Reading calibration.json, which nobody vouches for, and --tau, which may name one."""

from __future__ import annotations

import math
import os
import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from zkcert.calibration.choice import choose_tau
from zkcert.calibration.plausible import check_scores
from zkcert.calibration.record import PROBE_FIELDS, Calibration, File, Rate, Scored, Source
from zkcert.errors import UnusableInput
from zkcert.public.config import ProbeConfig, parse_fraction
from zkcert.public.kinds import CALIBRATION, CALIBRATION_FORMAT, expecting
from zkcert.public.reading import read_file
from zkcert.public.root import MAX_SAMPLES
from zkcert.public.statement import check_tau
from zkcert.public.strict_json import as_written

MAX_FILE_BYTES = 4 << 20
MAX_ENTRIES = 10_000
"""Models of a kind, draws of a model, datasets."""

PROBE_CHOICES = {
    "variant": ("sam", "asam-all", "asam-samsung", "asam-shifted"),
    "statistic": (
        *("std-log-ratio", "std", "rms", "max"),
        *("std-sharpness", "cv-sharpness", "mean-sharpness", "std-log-sharpness"),
    ),
    "batch_norm": ("eval", "train"),
}
"""The names in a probe: those of `zkcert.metric.Probe`, which needs PyTorch."""

_COUNTS, _NUMBERS = {"steps": 2, "batch_size": 1}, ("rho", "lr", "eps", "eta")
_TAU = re.compile(r"(0|[1-9][0-9]{0,2})(\.[0-9]{0,11}[1-9])?")


def load_calibration(path: File) -> Calibration:
    """Read a file nobody vouches for; UnusableInput unless it is, byte for byte, what `Calibration.to_bytes` gives.

    tau must be what the scores and the risk give, no score more than the probe can give (`plausible.score_limit`), and
    the counts of the rates those of the scores.
    """
    name = os.fspath(path)
    with expecting(name, CALIBRATION):
        data = read_file(name, MAX_FILE_BYTES)
        try:
            return as_written(data, lambda value: _parse(value, name), Calibration.to_bytes)
        except (ValueError, UnusableInput) as error:
            raise UnusableInput(
                f"{name}: not a usable calibration ({str(error)[:200]}); "
                "take the file that zkcert calibrate wrote, as it is"
            ) from error


def _keys(value: object, keys: str, what: str) -> dict[str, Any]:
    wanted = keys.split()
    if not isinstance(value, dict) or set(value) != set(wanted):
        raise ValueError(f"{what} has exactly the keys {', '.join(wanted)}")
    return value


def check_text(value: object, what: str, limit: int = 200) -> str:
    """The text, if it can be printed on one line; ValueError."""
    if not isinstance(value, str) or len(value) > limit or not value.isprintable():
        raise ValueError(f"{what} must be a printable text of at most {limit} characters")
    return value


def _hex(value: object, what: str) -> str:
    if not isinstance(value, str) or not re.fullmatch("[0-9a-f]{64}", value):
        raise ValueError(f"{what} must be 64 lower-case hexadecimal digits")
    return value


def _integer(value: object, low: int, high: int, what: str) -> int:
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{what} must be an integer from {low} to {high}")
    return value


def _share(value: object, what: str) -> float:
    if type(value) is not float or not 0 <= value <= 1:
        raise ValueError(f"{what} must be a number from 0.0 to 1.0")
    return value


def _listed(value: object, low: int, what: str) -> list[Any]:
    if not isinstance(value, list) or not low <= len(value) <= MAX_ENTRIES:
        raise ValueError(f"{what} must list {low} to {MAX_ENTRIES} entries")
    return value


def check_probe(value: object) -> dict[str, int | str]:
    """A probe as of `zkcert.metric.Probe.to_dict`, checked without PyTorch; ValueError or UnusableInput."""
    with_ddof = isinstance(value, dict) and "ddof" in value  # which is left out where it is 0
    probe = _keys(value, f"{PROBE_FIELDS} ddof" if with_ddof else PROBE_FIELDS, "a probe")
    for name, low in _COUNTS.items():
        _integer(probe[name], low, 1 << 16, name)
    for name in _NUMBERS:
        number = parse_fraction(check_text(probe[name], name), name)
        if str(number) != probe[name] or number < 0 or (number == 0 and name in ("rho", "lr")):
            raise ValueError(f"{name} must be a positive number in lowest terms")
    for name, allowed in PROBE_CHOICES.items():
        if probe[name] not in allowed:
            raise ValueError(f"{name} must be one of {', '.join(allowed)}")
    if with_ddof:
        _integer(probe["ddof"], 1, probe["steps"] - 1 if probe["statistic"].startswith("std") else 0, "ddof")
    return probe


def _source(value: object) -> Source:
    entry = _keys(value, "name N digest", "a dataset")
    n = _integer(entry["N"], 1, MAX_SAMPLES, "N")
    return Source(
        check_text(entry["name"], "the name of a dataset"), n, _hex(entry["digest"], "the digest of a dataset")
    )


def _scored(value: object) -> Scored:
    entry = _keys(value, "name model data scores", "a model")
    scores = _listed(entry["scores"], 1, "the scores of a model")
    if not all(type(score) is float and 0 <= score < math.inf for score in scores):
        raise ValueError("scores must be finite numbers of at least 0.0")
    name, model = check_text(entry["name"], "the name of a model"), _hex(entry["model"], "the digest of a model")
    return Scored(name, model, _hex(entry["data"], "the digest of a model's data"), tuple(scores))


def _rate(value: object, models: Sequence[Scored], counts: Sequence[int], what: str) -> Rate:
    entry = _keys(value, "count total low high", what)
    count, total = (_integer(entry[name], 0, 1 << 40, name) for name in ("count", "total"))
    rate = Rate(count, total, _share(entry["low"], f"{what}, low"), _share(entry["high"], f"{what}, high"))
    if (rate.count, rate.total) != (sum(counts), sum(len(m.scores) for m in models)):
        raise ValueError(f"{what} is not that of the scores")
    if not rate.low <= rate.value <= rate.high:
        raise ValueError(f"{what} lies outside its interval")
    return rate


_FIELDS = "format version tau risk probe seed data good bad false_acceptance false_rejection auc"


def _parse(value: object, path: str) -> Calibration:
    content = _keys(value, _FIELDS, "a calibration")
    if content["format"] != CALIBRATION_FORMAT:
        raise ValueError(f"the format is not {CALIBRATION_FORMAT}")
    if not isinstance(content["tau"], str) or not _TAU.fullmatch(content["tau"]):
        raise ValueError("tau must be a decimal with at most 12 decimals")
    tau = check_tau(content["tau"])
    risk = parse_fraction(check_text(content["risk"], "risk"), "risk")
    if not 0 <= risk < 1 or str(risk) != content["risk"]:
        raise ValueError("the risk must be a ratio in lowest terms from 0 to below 1")
    data = tuple(map(_source, _listed(content["data"], 1, "data")))
    good, bad = (tuple(map(_scored, _listed(content[name], low, name))) for name, low in (("good", 1), ("bad", 0)))
    check_models(good, bad, data)
    probe = check_probe(content["probe"])
    check_scores((*good, *bad), probe)
    low, high = ([score for model in models for score in model.scores] for models in (good, bad))
    if choose_tau(low, high, risk) != tau:
        raise ValueError("tau is not what the scores and the risk give")
    if bool(bad) == (content["false_acceptance"] is None) or bool(bad) == (content["auc"] is None):
        raise ValueError("false_acceptance and auc belong to bad models")
    separation = _share(content["auc"], "the AUC") if bad else None
    if separation is not None and not abs(separation - rank_auc(low, high)) <= 1e-9:
        raise ValueError("the AUC is not that of the scores")
    accepted = [m.accepted(tau) for m in bad]
    rejected = [len(m.scores) - m.accepted(tau) for m in good]
    return Calibration(
        tau=tau,
        risk=risk,
        probe=probe,
        seed=check_text(content["seed"], "the seed"),
        good=good,
        bad=bad,
        data=data,
        false_acceptance=_rate(content["false_acceptance"], bad, accepted, "the false acceptance") if bad else None,
        false_rejection=_rate(content["false_rejection"], good, rejected, "the false rejection"),
        auc=separation,
        version=check_text(content["version"], "the version", 40),
        path=path,
    )


def check_models(good: Sequence[Scored], bad: Sequence[Scored], data: Sequence[Source]) -> None:
    """ValueError if a model occurs twice with the same data, or its data are not listed, or draws differ in number."""
    if len({(m.model, m.data) for m in (*good, *bad)}) != len(good) + len(bad):
        raise ValueError("a model occurs twice with the same data")
    known = {source.digest for source in data}
    if len(known) != len(data) or known != {m.data for m in (*good, *bad)}:
        raise ValueError("the datasets listed are not those of the models")
    if len({len(m.scores) for m in (*good, *bad)}) != 1:
        raise ValueError("models differ in the number of draws")


def rank_auc(low: Sequence[float], high: Sequence[float]) -> float:
    """P(score of `high` > score of `low`) + P(equal) / 2, by the Mann-Whitney statistic."""
    ordered = sorted(low)
    twice = sum(bisect_left(ordered, score) + bisect_right(ordered, score) for score in high)
    return twice / (2 * len(low) * len(high))


def read_tau(value: object) -> tuple[Fraction, Calibration | None]:
    """What --tau says: a number, or the file of a calibration, which also fixes the probe.

    value  a number as `zkcert.public.statement.check_tau` takes it, or a path. Raises UnusableInput.
    """
    if isinstance(value, str):
        try:
            parse_fraction(value, "tau")
        except UnusableInput as error:
            if not os.path.exists(value):
                text = f"{error}; nor is there a calibration of that name"
                raise UnusableInput(text if value in text else f"{text}: {value[:4096]}") from error
            value = Path(value)
    if not isinstance(value, os.PathLike):
        return check_tau(value), None
    calibration = load_calibration(value)
    return calibration.tau, calibration


def read_threshold(tau: object, config: ProbeConfig | None) -> tuple[Fraction, ProbeConfig | None, Calibration | None]:
    """tau, the configuration that goes with it, and the calibration if it comes from one: then the configuration is
    the calibration's own, with which `config` must agree if given."""
    threshold, calibration = read_tau(tau)
    if calibration is None:
        return threshold, config, None
    pinned = calibration.config()
    if config is not None and config != pinned:
        names = pinned.differing(config)
        raise UnusableInput(
            f"{calibration.path} was made for another configuration: {', '.join(names)} must be "
            f"{', '.join(str(getattr(pinned, name) or 'none') for name in names)}"
        )
    return threshold, pinned, calibration
