"""Choosing tau from models of known quality: the calibration of arXiv 2606.25004, section 5.3. Needs PyTorch.

The paper has three steps: (i) construct a small calibration set of models of known quality for the task family; (ii)
select a threshold tau that separates them, at an acceptable level of risk; (iii) apply tau to new models of the family.
Here are the first two: (i) every good and bad model is scored on several draws of the probe, (ii) tau is chosen, and
what it does to these draws is reported. The third is `audit` or a proof with `--tau calibration.json`. How tau follows
from the risk, draws as units, and what is reported are ours, see `zkcert.calibration`: the paper states no rule.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from blake3 import blake3

from zkcert import __version__
from zkcert.calibration import Calibration, Rate, Scored, Source, choose_tau
from zkcert.calibration.plausible import check_scores
from zkcert.calibration.reading import MAX_ENTRIES, check_models, check_probe, check_text
from zkcert.core.permutation import sample_indices
from zkcert.errors import UnusableInput
from zkcert.metric.network import Network
from zkcert.metric.probe import Probe, as_inputs, trajectory
from zkcert.metric.roc import auc
from zkcert.public.model import Model

CONFIDENCE = 0.95


@dataclass(frozen=True, eq=False)
class Pool:
    """A dataset to draw from. take: k sample indices -> raw samples [k, C, H, W], uint8 or int64 (Q31.32; see
    `zkcert.public.model.input_integers`), and labels [k], integers."""

    source: Source
    take: Callable[[Sequence[int]], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True, eq=False)
class Candidate:
    """A model of known quality, and the data it is scored on."""

    name: str
    model: Model
    samples: Pool


def clopper_pearson(count: int, total: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The exact two-sided interval for a binomial probability (Clopper and Pearson, Biometrika 26, 1934)."""
    from scipy.stats import binomtest

    interval = binomtest(count, total).proportion_ci(confidence, method="exact")
    return float(interval.low), float(interval.high)


def draw_seed(seed: str, model: Model, draw: int) -> str:
    """The text whose BLAKE3 draws the samples of one draw; what `measure --seed` takes. Draws of different models
    are different, whatever else is calibrated with them."""
    return f"{seed}/{model.weights_digest.hex()[:16]}/{draw}"


def scores(
    candidate: Candidate,
    probe: Probe,
    seeds: Sequence[str],
    *,
    device: str = "cpu",
    dtype: torch.dtype = torch.float64,
    done: Callable[[], None] = lambda: None,
) -> tuple[float, ...]:
    """The score of each draw of T B samples; `done` is called after each. Raises UnusableInput."""
    model, samples, shape = candidate.model, candidate.samples, (probe.steps, probe.batch_size)
    network = Network.of_model(model, device=device, dtype=dtype, batch_norm=probe.batch_norm)
    found = []
    for draw, text in enumerate(seeds):
        try:
            indices = sample_indices(blake3(text.encode()).digest(), samples.source.n, math.prod(shape))
            x, y = samples.take(indices)
            if y.min() < 0 or y.max() >= model.classes:
                raise UnusableInput(f"labels must be integers from 0 to {model.classes - 1}")
            inputs = as_inputs(model, x, dtype)
            labels = torch.tensor(y.astype(np.int64)).reshape(*shape, *y.shape[1:])
            found.append(trajectory(network, inputs.reshape(*shape, *inputs.shape[1:]), labels, probe).score)
        except UnusableInput as error:
            raise UnusableInput(f"{candidate.name}, draw {draw}: {error}") from error
        done()
    return tuple(found)


def calibrate(
    good: Sequence[Candidate],
    bad: Sequence[Candidate],
    probe: Probe,
    *,
    risk: Fraction = Fraction(1, 20),
    draws: int = 20,
    seed: str = "",
    device: str = "cpu",
    dtype: torch.dtype = torch.float64,
    progress: Callable[[int, int], None] | None = None,
) -> Calibration:
    """Steps (i) and (ii); progress is called with (draws done, draws). See `zkcert.calibration.choose_tau` for tau.

    Draw i of a model is what `draw_seed` says; a draw on which the probe fails is an error, not a bad score. With bad
    models the false-acceptance rate is that of the draws tau was chosen on, and the false-rejection rate of draws that
    had no part in it; without, the false-rejection rate is that of the draws tau was chosen on. Raises UnusableInput.
    """
    if not 0 <= risk < 1:
        raise UnusableInput(f"the risk must lie in [0, 1), not {float(risk):g}")
    if type(draws) is not int or not 1 <= draws <= MAX_ENTRIES:
        raise UnusableInput(f"draws must be an integer from 1 to {MAX_ENTRIES}")
    if not good:
        raise UnusableInput("a calibration needs at least one good model")
    everything = [*good, *bad]
    sources = tuple({c.samples.source.digest: c.samples.source for c in everything}.values())
    unscored = [Scored(c.name, c.model.weights_digest.hex(), c.samples.source.digest, (0.0,)) for c in everything]
    try:
        for text, what in ((seed, "the seed"), *((c.name, "the name of a model") for c in everything)):
            check_text(text, what)
        check_probe(probe.to_dict())
        check_models(unscored, (), sources)
    except ValueError as error:
        raise UnusableInput(str(error)) from error
    finished = 0

    def done() -> None:
        nonlocal finished
        finished += 1
        if progress:
            progress(finished, draws * len(everything))

    scored = []
    for candidate, blank in zip(everything, unscored, strict=True):
        seeds = [draw_seed(seed, candidate.model, draw) for draw in range(draws)]
        found = scores(candidate, probe, seeds, device=device, dtype=dtype, done=done)
        scored.append(Scored(blank.name, blank.model, blank.data, found))
    return assess(scored[: len(good)], scored[len(good) :], probe, risk=risk, seed=seed, data=sources)


def assess(
    good: Sequence[Scored], bad: Sequence[Scored], probe: Probe, *, risk: Fraction, seed: str, data: Sequence[Source]
) -> Calibration:
    """Step (ii) and its report, on scores at hand; UnusableInput if one is more than the probe can give."""
    check_scores((*good, *bad), probe.to_dict())
    low, high = ([score for model in models for score in model.scores] for models in (good, bad))
    tau = choose_tau(low, high, risk)
    rejected = len(low) - sum(model.accepted(tau) for model in good)
    accepted = sum(model.accepted(tau) for model in bad)
    return Calibration(
        tau=tau,
        risk=risk,
        probe=probe.to_dict(),
        seed=seed,
        good=tuple(good),
        bad=tuple(bad),
        data=tuple(data),
        false_acceptance=Rate(accepted, len(high), *clopper_pearson(accepted, len(high))) if bad else None,
        false_rejection=Rate(rejected, len(low), *clopper_pearson(rejected, len(low))),
        auc=auc(low, high) if bad else None,
        version=__version__,
    )
