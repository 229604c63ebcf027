"""The float side: measure and audit."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from zkcert.api.files import File, check_device, load_model, needs_extras
from zkcert.api.fit import Answers, Fit, answer
from zkcert.api.notebook import counts_shown
from zkcert.api.samples import Samples, open_samples
from zkcert.calibration import read_tau
from zkcert.errors import UnusableInput
from zkcert.public.config import ProbeConfig
from zkcert.public.model import Model
from zkcert.public.statement import MAX_TAU, Statement, parse_beacon

if TYPE_CHECKING:
    import torch

    from zkcert.metric import Network, Probe

Options = Mapping[str, Any]
"""Some of the fields of `zkcert.metric.Probe`; the others keep their defaults."""

DTYPES = ("float64", "float32")

LEAST_LOSS = 2.0**-32
"""Batches with a smaller mean loss are refused by `prove`: docs/spec/semantics.md."""


@dataclass(frozen=True)
class Draw:
    """The probe on one draw of samples.

    seed     the text that drew them; None: the beacon of a committed dataset, or its absence, did.
    indices  (T, B), of the samples; sharpness s_t, loss L_t and log_ratio y_t have T entries each.
    fit      of the model, as it is, to these samples.
    """

    seed: str | None
    indices: tuple[tuple[int, ...], ...]
    sharpness: tuple[float, ...]
    loss: tuple[float, ...]
    log_ratio: tuple[float, ...]
    score: float
    fit: Fit

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "seed": self.seed,
            "score": self.score,
            "sharpness": list(self.sharpness),
            "loss": list(self.loss),
            "log_ratio": list(self.log_ratio),
            "indices": [list(batch) for batch in self.indices],
            "fit": self.fit.to_dict(),
        }


@dataclass(frozen=True)
class Measurement:
    """The float metric on one or more draws.

    weights   hexadecimal digest of the model's weights, as in announcements; n: samples in the dataset.
    fit       of the model, as it is, to all samples drawn, each once.
    reading, probing  seconds for the files, and for the probe.
    """

    probe: Probe
    draws: tuple[Draw, ...]
    weights: str
    n: int
    fit: Fit
    reading: float
    probing: float

    @property
    def score(self) -> float:
        """The score, or the mean over the draws."""
        return float(np.mean([draw.score for draw in self.draws]))

    @property
    def spread(self) -> float | None:
        """The standard deviation over the draws (of the sample, ddof 1); None for a single one."""
        return float(np.std([draw.score for draw in self.draws], ddof=1)) if len(self.draws) > 1 else None

    @property
    def warnings(self) -> tuple[str, ...]:
        """Those of the fit, and one of batches that `prove` would refuse."""
        refused = [draw for draw in self.draws if min(draw.loss) < LEAST_LOSS]
        if not refused:
            return self.fit.warnings
        text = (
            f"NOT PROVABLE: in {len(refused)} of {len(self.draws)} draws a batch has a mean loss below 2^-32 = "
            f"2.33e-10 (the least: {min(min(draw.loss) for draw in refused):.3g}), too small for the fixed point of a "
            "proof; use samples that the model was not trained on, a larger batch, or scale weight and bias of the "
            "last layer down"
        )
        return (*self.fit.warnings, text)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "weights": self.weights,
            "N": self.n,
            "probe": self.probe.to_dict(),
            "score": self.score,
            "spread": self.spread,
            "draws": [draw.to_dict() for draw in self.draws],
            "fit": self.fit.to_dict(),
            "warnings": list(self.warnings),
            "seconds": {"reading": round(self.reading, 4), "probing": round(self.probing, 4)},
        }


def measure(
    model: File,
    data: Any,
    *,
    config: ProbeConfig | Probe | Options | None = None,
    beacon: str | None = None,
    seed: str | None = None,
    draws: int = 1,
    device: str = "cpu",
    dtype: str = "float64",
    progress: Callable[[int, int], None] | None = None,
) -> Measurement:
    """The score in floating point, on the batches a proof would use, without proving anything.

    model     a model file, .pt or .safetensors.
    data      a data.zkd, or a dataset as `commit` reads it.
    config    the probe: a ProbeConfig, a `zkcert.metric.Probe`, or a dict of some of its fields, such as {"steps": 5}.
    seed      a text that draws the samples (default: empty).
    beacon    hexadecimal; draws the samples of a data.zkd, if there is no seed, as in a proof; None: as without beacon.
    draws     with more than one, draw i is that of the seed "SEED/i", i from 0.
    device    "cpu" or "cuda".
    dtype     "float64" or "float32"; weights and inputs are rounded to it from the circuit's.
    progress  called with (draws done, draws).

    Returns the Measurement: `score` (of several draws the mean), `spread`, `fit` (accuracy and loss of the samples
    drawn, with warnings), and `draws` with their trajectories. Raises UnusableInput.
    """
    progress = counts_shown("draws", progress)
    if type(draws) is not int or draws < 1:
        raise UnusableInput("the number of draws must be a positive integer")
    if seed is not None and beacon is not None:
        raise UnusableInput("the samples follow from the beacon or from the seed, not from both")
    with needs_extras("measuring"):
        probe, kind = as_probe(config), as_dtype(dtype)
    check_device(device)
    start = time.perf_counter()
    loaded, samples = load_model(model), open_samples(data)
    samples.require(loaded)
    chosen = _chosen(loaded, samples, probe, beacon, seed, draws)
    reading = time.perf_counter() - start
    start = time.perf_counter()
    network = _network(loaded, probe, device, kind)
    found, said = [], []
    for text, indices in chosen:
        draw, answers = _draw(network, loaded, samples, probe, text, indices)
        found.append(draw)
        said.append(answers)
        if progress:
            progress(len(found), draws)
    _, once = np.unique([indices for _, indices in chosen], return_index=True)
    fit = Answers.joined(said).fit(loaded.classes, once)
    probing = time.perf_counter() - start
    return Measurement(probe, tuple(found), loaded.weights_digest.hex(), samples.n, fit, reading, probing)


def as_probe(config: ProbeConfig | Probe | Options | None) -> Probe:
    """The probe that is meant. Raises UnusableInput."""
    from zkcert.metric import Probe

    if isinstance(config, Probe):
        return config
    if isinstance(config, ProbeConfig):
        return Probe.of_config(config)
    try:
        return Probe(**(config or {}))
    except TypeError as error:
        raise UnusableInput(f"a probe has the fields {', '.join(Probe.__dataclass_fields__)}: {error}") from error


def as_dtype(name: str) -> torch.dtype:
    """One of DTYPES, by its name. Raises UnusableInput."""
    import torch

    if name not in DTYPES:
        raise UnusableInput(f"dtype must be one of {', '.join(DTYPES)}, not {name[:40]!r}")
    kind: torch.dtype = getattr(torch, name)
    return kind


def _chosen(
    model: Model, samples: Samples, probe: Probe, beacon: str | None, seed: str | None, draws: int
) -> list[tuple[str | None, list[int]]]:
    """For each draw its seed and the indices of its samples."""
    count = probe.steps * probe.batch_size
    if samples.root is None and beacon is not None:
        raise UnusableInput("a beacon draws from a committed dataset (data.zkd); use --seed")
    if samples.root is None or seed is not None:
        text = seed or ""
        seeds = [text] if draws == 1 else [f"{text}/{i}" for i in range(draws)]
        return [(s, samples.draw(s, count)) for s in seeds]
    if draws > 1:
        raise UnusableInput("a committed dataset gives one draw for a beacon, or for none: several need a --seed")
    try:
        config = probe.to_config()
    except UnusableInput as error:
        raise UnusableInput(f"{error}: no beacon draws for it; give a --seed") from error
    statement = Statement.of(model, samples.root, config, Fraction(MAX_TAU))  # tau does not move the seed
    return [(None, replace(statement, beacon=parse_beacon(beacon)).indices())]


def _network(model: Model, probe: Probe, device: str, dtype: torch.dtype) -> Network:
    from zkcert.metric import Network

    return Network.of_model(model, device=device, dtype=dtype, batch_norm=probe.batch_norm)


def _draw(
    network: Network, model: Model, samples: Samples, probe: Probe, seed: str | None, indices: Sequence[int]
) -> tuple[Draw, Answers]:
    from zkcert.metric import trajectory

    shape = (probe.steps, probe.batch_size)
    x, y = samples.inputs(model, indices, network.dtype)
    found = trajectory(network, x.reshape(*shape, *x.shape[1:]), y.reshape(*shape, *y.shape[1:]), probe)
    rows = np.reshape(indices, shape).tolist()
    sharpness, loss, log_ratio = (tuple(v.tolist()) for v in (found.sharpness, found.loss, found.log_ratio))
    said = answer(network, x, y, probe.batch_size)
    fit = said.fit(model.classes)
    return Draw(seed, tuple(map(tuple, rows)), sharpness, loss, log_ratio, found.score, fit), said


# ----------------------------------------------------------------------------------------------- audit


@dataclass(frozen=True)
class Audit:
    """One draw against a threshold. `calibration` is the file that gave tau and probe, if one did; `warnings`: why the
    verdict may be worth little, for the data or for the calibration."""

    measurement: Measurement
    tau: Fraction
    calibration: str | None
    warnings: tuple[str, ...] = ()

    @property
    def score(self) -> float:
        return self.measurement.score

    @property
    def seed(self) -> str:
        """What drew the samples."""
        seed = self.measurement.draws[0].seed
        assert seed is not None
        return seed

    @property
    def passed(self) -> bool:
        """score <= tau, exactly compared."""
        return Fraction(self.score) <= self.tau

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        from verifier.report import decimal_text

        measured = self.measurement.to_dict()
        (draw,) = measured.pop("draws")
        del measured["spread"]
        verdict = {"passed": self.passed, "tau": decimal_text(self.tau), "calibration": self.calibration}
        return {**verdict, **measured, **draw, "warnings": list(self.warnings)}


def audit(
    model: File,
    data: Any,
    *,
    tau: object,
    config: ProbeConfig | Probe | Options | None = None,
    seed: str | None = None,
    device: str = "cpu",
    dtype: str = "float64",
) -> Audit:
    """Audit of arXiv 2606.25004 by somebody who holds the data: does the score on one fresh draw stay below tau?

    model   a model file, .pt or .safetensors.
    data    a data.zkd, or a dataset as `commit` reads it.
    tau     a number, or a calibration.json, whose probe is then used: what `config` says must agree with it.
    config  the probe, as for `measure`.
    seed    a text; None: a random one, which nobody could foresee while the model was made.
    device, dtype  as for `measure`.

    Looks at T B samples, twice each, however many the dataset has. Returns the Audit: `passed`, `score`, `seed`,
    `warnings` and the `measurement`. Raises UnusableInput.
    """
    threshold, calibration = read_tau(tau)
    with needs_extras("an audit"):
        probe = as_probe(config) if calibration is None else _calibrated(calibration.probe, config)
    text = secrets.token_hex(16) if seed is None else seed
    found = measure(model, data, config=probe, seed=text, device=device, dtype=dtype)
    if calibration is None:
        return Audit(found, threshold, None, found.fit.warnings)
    return Audit(found, threshold, calibration.path, (*found.fit.warnings, *calibration.doubts))


def _calibrated(pinned: Mapping[str, int | str], config: ProbeConfig | Probe | Options | None) -> Probe:
    from zkcert.metric import Probe

    probe = Probe.from_dict(dict(pinned))
    if config is None:
        return probe
    given = config if isinstance(config, Mapping) else as_probe(config).to_dict()
    wanted = Probe(**{**probe.to_dict(), **given})
    if differing := [name for name in Probe.__dataclass_fields__ if getattr(wanted, name) != getattr(probe, name)]:
        values = ", ".join(f"{name} {getattr(probe, name)}" for name in differing)
        raise UnusableInput(f"the calibration was made with {values}; other options need another calibration")
    return probe


# ------------------------------------------------------------------------------------------------ plot


def check_plot(path: File) -> None:
    """UnusableInput unless `plot_trajectories` can write a file of that name."""
    with needs_extras("plotting", "metric"):
        import matplotlib  # noqa: F401

        from zkcert.metric import plots
    plots.check_plot(path)


def plot_trajectories(measurement: Measurement, path: File) -> None:
    """s_t, L_t and y_t over t, all draws overlaid, to a .png, .pdf or .svg file."""
    with needs_extras("plotting", "metric"):
        import matplotlib  # noqa: F401

        from zkcert.metric import plots
    probe = measurement.probe
    title = f"{probe.variant}, T = {probe.steps}, B = {probe.batch_size}: score {measurement.score:.4g}"
    if measurement.spread is not None:
        title += f" ± {measurement.spread:.2g}"
    plots.save_figure(plots.trajectory_figure(measurement.draws, title), path)
