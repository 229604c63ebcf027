"""How large a score can be: what a file nobody vouches for must not exceed.

The population deviation of values in an interval is at most half its length (Popoviciu, 1935), that with a ddof at most
sqrt(T / (T - ddof)) times that, and a root mean square or a maximum at most the largest value. So the range of the log
ratios y_t = ln(s_t^2/L_t + eps) bounds the score. docs/spec/semantics.md bounds them for whatever can be proved:

    n < 2^110 and L_t >= 2^-32, so s_t^2/L_t = rho^2 n / (2^64 4^k B^2 L_t) < rho^2 2^78 / B^2;
    q < 2^60, so n > rho^2 2^24, k <= 31 and L_t < 2^13, so s_t^2/L_t > rho^4 2^-115 / B^2;
    |y_t| < 128, and 0 <= s_t < rho 2^23 / B.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from zkcert.calibration.record import Scored, provable
from zkcert.errors import UnusableInput
from zkcert.public.config import ProbeConfig

Y_LIMIT = 128.0
"""Nats: 2^39 in units of 2^-32, see `circuits.head.score.LOG_RATIO`."""

FLOAT_Y_LIMIT = 746.0
"""Nats: the logarithm of every positive binary64 number is smaller in magnitude."""

_SLACK = 1 + 1e-9
"""For the rounding of scores that are computed in floating point."""


def largest_score(config: ProbeConfig) -> float:
    """The bound of the module's formulas on the scores of proofs with this configuration."""
    rho, batch, eps = map(float, (config.rho, config.batch_size, config.eps))
    spread = math.sqrt(config.steps / (config.steps - config.ddof))
    if not config.of_steps.of_ratios:
        return rho * 2.0**23 / batch * (spread / 2 if config.of_steps.centred else 1)
    high = math.log(rho**2 * 2.0**78 / batch**2 + eps)
    low = math.log(rho**4 * 2.0**-115 / batch**2 + eps)
    return (min(high, Y_LIMIT) - max(low, -Y_LIMIT)) / 2 * spread


def score_limit(probe: Mapping[str, int | str]) -> float:
    """No draw of a probe (as of `zkcert.metric.Probe.to_dict`) scores more.

    Of a probe that can be proved: `largest_score`. Of others: Std(y_t) and Std(log s_t) are bounded by the range of
    floating-point logarithms, Std(s_t)/Mean(s_t) by sqrt(T - 1) as s_t >= 0, and Std(s_t) and Mean(s_t) by nothing.
    """
    try:
        return largest_score(provable(probe))
    except UnusableInput:
        logarithms = dict.fromkeys(("std-log-ratio", "std-log-sharpness"), FLOAT_Y_LIMIT)
        steps, ddof = int(probe["steps"]), int(probe.get("ddof", 0))
        logarithms = {name: limit * math.sqrt(steps / (steps - ddof)) for name, limit in logarithms.items()}
        limits = {**logarithms, "cv-sharpness": math.sqrt(steps - 1)}
        return limits.get(str(probe["statistic"]), math.inf)


def check_scores(models: Iterable[Scored], probe: Mapping[str, int | str]) -> None:
    """UnusableInput if a model has a score above the `score_limit` of the probe."""
    limit = score_limit(probe)
    for model in models:
        worst = max(model.scores)
        if worst > limit * _SLACK:
            raise UnusableInput(f"{model.name} has a score of {worst:g}, but this probe gives at most {limit:.4g}")
