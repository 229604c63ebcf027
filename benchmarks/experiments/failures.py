"""One policy for draws of the probe that fail, in every experiment.

A draw fails where a loss or a gradient vanishes or diverges (`zkcert.metric.trajectory` raises UnusableInput). Its
score is infinite, worse than any threshold, as an audit would refuse the model; it is never left out of a mean. Failed
draws are counted by kind of model and printed (`note`), and a comparison that rests on a number that is not finite is
inconclusive (`settled`).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from benchmarks.experiments.report import INCONCLUSIVE

RULE = "inconclusive, too, if a number it rests on is not finite, as the mean over a model's draws is if one failed"
"""To be said beside every rule that `settled` has a part in."""


def failed(scores: npt.ArrayLike) -> int:
    """How many of the draws' scores, of any shape, are those of failed draws."""
    return int(np.sum(~np.isfinite(np.asarray(scores, float))))


def note(draws: Mapping[str, npt.ArrayLike]) -> str:
    """A sentence with the number of failed draws of each kind of model, given the scores of all its draws."""
    counts = [f"{kind} {failed(scores)} of {np.size(scores)}" for kind, scores in draws.items()]
    return (
        f"Draws of the probe that failed (a loss or gradient vanished or diverged): {', '.join(counts)}. Their score "
        "counts as infinite."
    )


def settled(verdict: str, *numbers: npt.ArrayLike) -> str:
    """`verdict`, or INCONCLUSIVE if any of the numbers it rests on is infinite or undefined."""
    return verdict if not any(failed(values) for values in numbers) else INCONCLUSIVE
