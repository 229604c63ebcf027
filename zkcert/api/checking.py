"""Everything that stands in the way of a certificate, before anybody trains, commits or announces."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zkcert.api.certificate import _bytes_root
from zkcert.api.files import File, needs_extras
from zkcert.api.fit import Fit, answer
from zkcert.api.samples import Samples, check_labels, open_samples
from zkcert.api.sources import Obstacle, read_source
from zkcert.core.sis import RHO, ROWS
from zkcert.data.dataset import load_dataset
from zkcert.errors import UnusableInput, ZkcertError
from zkcert.public.config import ProbeConfig
from zkcert.public.defaults import DEFAULT
from zkcert.public.model import WEIGHT_LIMIT, Model
from zkcert.public.root import DatasetRoot
from zkcert.public.statement import MAX_TAU, Statement

if TYPE_CHECKING:
    from prover.resources import Estimate

_WORK = 1 << 30  # bytes that a dry run takes beside its digits, about


@dataclass(frozen=True)
class Margin:
    """The largest |value| of something, where it is, and the limit that it must stay below."""

    what: str
    where: str
    value: float
    limit: float

    def line(self) -> str:
        """For people."""
        return f"{self.what} up to {self.value:.4g} (limit {self.limit:g}), in {self.where}"

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {"what": self.what, "where": self.where, "value": self.value, "limit": self.limit}


@dataclass(frozen=True)
class DryRun:
    """A probe in fixed point on samples drawn by a text. All of it is private: score, and the fit of the model to the
    samples. difference: of a log ratio from the float64 reference, at most."""

    score: float
    difference: float
    fit: Fit
    seed: str

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {"score": self.score, "cross_check": self.difference, "fit": self.fit.to_dict(), "seed": self.seed}


@dataclass(frozen=True)
class Check:
    """What was found of a source: `passed` if nothing stands in the way.

    obstacles  what does. notes: what was folded or taken off. warnings: what may be a mistake.
    model      if it could be made; estimate, margins, dry_run: of it, as far as it got.
    """

    source: str
    obstacles: tuple[Obstacle, ...]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    model: Model | None
    estimate: Estimate | None
    margins: tuple[Margin, ...]
    dry_run: DryRun | None

    @property
    def passed(self) -> bool:
        return not self.obstacles

    def to_dict(self) -> dict[str, Any]:
        """JSON values. What stands under "private" tells of the data."""
        model = self.model
        return {
            "source": self.source,
            "passed": self.passed,
            "obstacles": [obstacle.to_dict() for obstacle in self.obstacles],
            "notes": list(self.notes),
            "warnings": list(self.warnings),
            "model": None if model is None else model.weights_digest.hex(),
            "input": None if model is None else model.input,
            "classes": None if model is None else model.classes,
            "estimate": None if self.estimate is None else self.estimate.to_dict(),
            "private": {
                "margins": [margin.to_dict() for margin in self.margins],
                "dry_run": None if self.dry_run is None else self.dry_run.to_dict(),
            },
        }


def check(
    model: Any,
    data: Any = None,
    *,
    input: Mapping[str, Any] | None = None,
    weights: File | None = None,
    config: ProbeConfig | None = None,
    seed: str = "",
    resize: tuple[int, int] | None = None,
    label: str | int | None = None,
    values: str | None = None,
    names: Sequence[str] | None = None,
    context: int | None = None,
    stride: int | None = None,
    vocabulary: str | None = None,
    scratch: File | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Check:
    """Everything that stands in the way of a certificate for a model, at once; then what it will take.

    model    a model file; FILE.py:NAME, a function, class or module of a Python file, which is run; an exported program
             (.pt2) or ONNX file; or an nn.Module or Model in memory.
    data     as for `commit`, or a data.zkd: then the probe runs in fixed point, with all its range checks and the
             comparison with the float64 reference, on T B samples drawn by the text `seed`; nothing is proved.
    input    of a module: {"shape": [C, H, W], "pad": 0, "mean": ..., "std": ...}, see `from_module`; the shape
             may be left to the data.
    weights  a checkpoint for the module.
    config   of the probe; None: the default ProbeConfig.
    resize, label, values, names, context, stride, vocabulary  how the data are read, see `load_dataset`.
    scratch  a directory for the digits of the dry run, instead of memory; see `prove`.
    progress called with (samples read, samples), where that takes time.

    Returns the Check: `passed`, `obstacles`, `notes`, `warnings`, `model`, `estimate`, `margins`, `dry_run`.
    Raises UnusableInput where there is nothing to look at: no such file, or nobody says the input's shape.
    """
    config = config or DEFAULT
    if data is not None:
        with needs_extras("a dry run"):
            import torch  # noqa: F401
    samples: Samples | None = None
    if data is not None:
        reading: dict[str, Any] = {"resize": resize, "label": label, "values": values, "names": names}
        reading |= {"context": context, "stride": stride, "vocabulary": vocabulary}
        if any(value is not None for value in reading.values()):
            data = load_dataset(data, **reading, progress=progress)
        samples = open_samples(data)
    shape = None if samples is None else samples.shape
    tokens = samples.classes if samples is not None and samples.schema.kind == "tokens" else None
    source = read_source(model, input=input, weights=weights, sample_shape=shape, tokens=tokens)
    warnings = list(source.warnings)
    if samples is not None and samples.plain is not None:
        warnings += samples.plain.warnings(None if source.model is None else source.model.classes)
    found = source.model
    if found is None:
        return Check(source.name, source.obstacles, source.notes, tuple(warnings), None, None, (), None)
    obstacles: list[Obstacle] = []
    estimate = dry = None
    margins = [_weights_margin(found)]
    try:
        statement = _statement(found, samples, config)
        estimate = _estimate(statement, found)
        if samples is not None:
            taken = samples.draw(seed, config.steps * config.batch_size)
            margins.append(_activations_margin(found, samples, taken))
            dry = _dry_run(statement, found, samples, taken, seed, scratch, estimate)
            warnings += dry.fit.warnings
    except ZkcertError as error:
        obstacles.append(Obstacle(str(error), error=error))
    from zkcert.api.proving import CROSS_CHECK_LIMIT, compared

    if dry is not None and not dry.difference <= CROSS_CHECK_LIMIT:
        obstacles.append(
            Obstacle(
                f"a {compared(config)} differs from the float64 reference by {dry.difference:.3g}, more than "
                f"{CROSS_CHECK_LIMIT:g}: the model amplifies rounding, and prove would write no proof"
            )
        )
    if estimate is not None and estimate.available is not None and estimate.peak_bytes > estimate.available:
        scratched = estimate.scratch_peak_bytes <= estimate.available
        warnings.append(
            f"a proof needs about {estimate.peak_bytes / 1e9:.1f} GB of memory and {estimate.available / 1e9:.1f} GB "
            f"are available: {'prove with --scratch DIR' if scratched else 'take fewer steps or smaller batches'}"
        )
    return Check(source.name, tuple(obstacles), source.notes, tuple(warnings), found, estimate, tuple(margins), dry)


def _statement(model: Model, samples: Samples | None, config: ProbeConfig) -> Statement:
    root = _bytes_root(model, config) if samples is None else DatasetRoot(bytes(32), samples.n, samples.schema)
    if samples is not None and samples.root is None and not samples.schema.names:
        classes = max(samples.classes, model.classes)  # labels of some may not occur: --classes of commit says so
        root = replace(root, schema=replace(root.schema, classes=classes))
    return Statement.of(model, root, config, Fraction(MAX_TAU))


def _estimate(statement: Statement, model: Model) -> Estimate:
    from prover.resources import estimate

    return estimate(statement, model)


def _weights_margin(model: Model) -> Margin:
    peaks = {name: float(np.abs(array).max()) for name, array in model.params.items()}
    name = max(peaks, key=peaks.__getitem__)
    return Margin("weights", name, peaks[name], WEIGHT_LIMIT)


def _activations_margin(model: Model, samples: Samples, taken: Sequence[int]) -> Margin:
    """Of all layers' outputs at w_0."""
    with needs_extras("running a model"):
        import torch

        from circuits.net import VALUE_LIMIT
        from zkcert.convert import run_graph
    peaks: dict[str, float] = {}

    def seen(name: str, value: torch.Tensor) -> None:
        peaks[name] = max(peaks.get(name, 0.0), float(value.abs().max()))

    params = {name: torch.tensor(array, dtype=torch.float64) for name, array in model.tensors.items()}
    with torch.no_grad():
        for start in range(0, len(taken), 64):
            x, _ = samples.inputs(model, taken[start : start + 64], torch.float64)
            run_graph(model.graph, params, x, seen=seen)
    name = max(peaks, key=peaks.__getitem__)
    return Margin("values", f"layer {name}", peaks[name], VALUE_LIMIT)


def _dry_run(
    statement: Statement,
    model: Model,
    samples: Samples,
    taken: Sequence[int],
    seed: str,
    scratch: File | None,
    estimate: Estimate,
) -> DryRun:
    """Raises what `prove` would raise before it proves."""
    with needs_extras("a dry run"):
        import torch

        from circuits.statement import certificate
        from prover.execution.run import execute
        from prover.scratch import Scratch, check_room
        from zkcert.metric import Network, directional_sharpness
    config = statement.config
    need = _WORK + (0 if scratch is not None else estimate.sizes.x_bytes)
    if estimate.available is not None and need > estimate.available:
        raise UnusableInput(
            f"a dry run needs about {need / 1e9:.1f} GB of memory and {estimate.available / 1e9:.1f} GB are available: "
            "give --scratch DIR, or fewer --steps or a smaller --batch-size"
        )
    raw, labels = samples.take(taken)
    check_labels(model, labels)
    inputs, targets = samples.inputs(model, taken, torch.float64)
    fit = answer(Network.of_model(model), inputs, targets, config.batch_size).fit(model.classes)
    encoded = samples.encoded(taken, statement.dataset.schema).reshape(config.steps, config.batch_size, -1)
    if scratch is not None:
        check_room(Path(os.fspath(scratch)), estimate.scratch_file_bytes)
    with nullcontext() if scratch is None else Scratch(Path(os.fspath(scratch)), estimate.sizes.entries) as room:
        cert = certificate(statement, model, np.zeros((len(taken), ROWS), np.uint64))
        cert.close(statement.tau)
        rho = np.zeros((config.steps, config.batch_size, RHO), np.uint8)
        _, trace = execute(cert, encoded, rho, None if room is None else room.x)
    shape = (config.steps, config.batch_size)
    shaped, given = raw.reshape(*shape, *raw.shape[1:]), labels.reshape(*shape, *labels.shape[1:])
    reference = directional_sharpness(model, shaped, given, config)
    return DryRun(trace.score, trace.difference(reference), fit, seed)
