"""What makes a score say little, whatever is proved about it: an odd configuration, or few data.

The usual score is the deviation of y_t = ln(s_t^2/L_t + eps) with s_t = rho ||T g_t||, which is ln(rho^2) plus ln(r_t +
eps/rho^2) with r_t = ||T g_t||^2/L_t. So rho^2 itself is no more than a constant; but where eps/rho^2 outweighs r_t,
y_t is nearly ln(eps) at every step and the score nearly 0, whatever the model. It is the ratio that tells, not rho or
eps. Ordinary models have r_t from about 0.1 to 100, flat ones less.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from zkcert.public.config import ProbeConfig

HIDING_RATIO = Fraction(1, 100)
"""eps/rho^2 from which ordinary models begin to lose their differences."""

HIGH_RATIO = Fraction(1, 10_000)
"""eps/rho^2 from which flat models do; 25 times that of the default configuration."""

MOVING_LR, STILL_LR = Fraction(1, 100), Fraction(1, 10**6)
"""Learning rates from and below which the steps of the probe train the model, or leave it where it is."""

LARGE_BATCH = 64
FEW_STEPS = 4
FEW_SAMPLES = 10
SPARE = 20
"""A dataset with fewer than this many times the samples of a draw is nearly all in it."""


def differences(config: ProbeConfig, other: ProbeConfig) -> list[str]:
    """Where `config` differs from `other`: "rho is 1/1000, not 1/20"."""

    def text(value: object) -> object:
        return "none" if value is None else value

    names = config.differing(other)
    return [f"{name} is {text(getattr(config, name))}, not {text(getattr(other, name))}" for name in names]


def statement_doubts(config: ProbeConfig, n: int, chosen: bool) -> list[str]:
    """Of a configuration and the number n of samples; `chosen`: the reader chose the configuration."""
    out = list(_meaning(config))
    other = differences(config, ProbeConfig())
    if other and not chosen:
        out.append(
            f"the configuration is not the default: {'; '.join(other)}. Scores of different configurations cannot be "
            "compared; insist on yours with --config"
        )
    count = config.steps * config.batch_size
    if n < SPARE * count:
        out.append(
            f"the draw takes {count} of only {n} samples: with fewer than {SPARE} times as many as are drawn, the "
            "owner of the data knows beforehand much of what the score is about, and the draw hides little"
        )
    return out


def _meaning(config: ProbeConfig) -> Iterator[str]:
    usual = ProbeConfig()
    ratio = config.eps / config.rho**2
    numbers = f"eps / rho^2 = {float(ratio):.3g} (default {float(usual.eps / usual.rho**2):.3g})"
    kind = config.of_steps
    if not kind.of_ratios:
        pass  # eps is of log ratios
    elif ratio >= HIDING_RATIO:
        yield (
            f"THE SCORE MAY MEAN NOTHING: {numbers}. Where ||T g||^2 / L is below that, eps hides it, and a model "
            "scores near 0 however bad it is; refuse it, or insist on --config"
        )
    elif ratio >= HIGH_RATIO:
        yield f"{numbers} is high: what eps adds to s^2/L lowers the score of flat models"
    if config.lr >= MOVING_LR:
        yield (
            f"THE PROBE MOVES THE MODEL: lr = {float(config.lr):g} (default {float(usual.lr):g}) trains it on the "
            "batches that are measured, so that the score is about other weights than those published"
        )
    elif config.lr < STILL_LR:
        yield f"lr = {float(config.lr):g} leaves the weights where they are: the score is the spread between batches"
    if config.rho > 1:
        yield (
            f"rho = {float(config.rho):g} (default {float(usual.rho):g}) moves the weights so far that the perturbed "
            "gradient is that of another model"
        )
    if config.batch_size >= LARGE_BATCH:
        yield (f"batches of {config.batch_size} average differences away: the larger they are, the lower scores become")
    if config.steps < FEW_STEPS:
        of = "deviation" if kind.centred else kind.name
        yield f"{config.steps} steps: the {of} of so few values is often small by chance"
    if config.steps * config.batch_size < FEW_SAMPLES:
        yield f"only {config.steps * config.batch_size} samples were probed"
