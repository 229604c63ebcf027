"""The measures that directional sharpness is compared with, of a model file on a dataset."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from blake3 import blake3

from zkcert.api.files import File, check_device, load_model, needs_extras
from zkcert.api.metric import Options, as_dtype, as_probe
from zkcert.api.samples import Samples, open_samples
from zkcert.errors import UnusableInput
from zkcert.public.config import ProbeConfig
from zkcert.public.model import Model

if TYPE_CHECKING:
    import torch

    from zkcert.metric import Probe

Measure = Callable[[], dict[str, Any]]


@dataclass(frozen=True)
class Baseline:
    """One measure: its numbers, or why there are none. seconds: what computing it took."""

    name: str
    values: dict[str, Any]
    seconds: float
    refused: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        refused = {} if self.refused is None else {"refused": self.refused}
        return {**self.values, **refused, "seconds": round(self.seconds, 4)}


@dataclass(frozen=True)
class Baselines:
    """Measures on n samples of the data; those of the test data on test_n samples, None without such."""

    n: int
    test_n: int | None
    rows: tuple[Baseline, ...]

    def __getitem__(self, name: str) -> Baseline:
        return next(row for row in self.rows if row.name == name)

    def to_dict(self) -> dict[str, Any]:
        """JSON values; the measures by name."""
        return {"N": self.n, "test_N": self.test_n, **{row.name: row.to_dict() for row in self.rows}}


def baselines(
    model: File,
    data: Any,
    *,
    test: Any = None,
    config: ProbeConfig | Probe | Options | None = None,
    subset: int | None = None,
    seed: str = "",
    device: str = "cpu",
    dtype: str = "float64",
    progress: Callable[[str, int, int], None] | None = None,
) -> Baselines:
    """Measures on a whole dataset, beside which the score of `measure` is read. Names and numbers:

    train, test   accuracy and loss (mean cross-entropy in nats) on `data` and on `test`.
    sam, asam-all, asam-samsung, asam-shifted
                  static sharpness on `data`, see `zkcert.metric.sharpness`; the last two only if the probe's step
                  function is that one. rho and eta are the probe's.
    worst-case    magnitude-aware worst-case sharpness on `data`, see `zkcert.metric.worst_case_sharpness`.
    coherence     of the gradients of single samples of `data`, see `zkcert.metric.coherence`.
    scaled-coherence
                  of these gradients scaled by the probe's T_w, unless that is 1: `zkcert.metric.scaled_coherence`.

    subset    take that many samples of `data`, drawn by the text `seed`, instead of all; all of `test` are taken.
    progress  called with (name of the measure that begins, measures done, measures).

    Raises UnusableInput; a measure that is not defined here has its reason in place of numbers.
    """
    with needs_extras("measuring"):
        probe, kind = as_probe(config), as_dtype(dtype)
    check_device(device)
    loaded, samples, held_out = _opened(model, data, test, subset)
    indices: Sequence[int] = range(samples.n) if subset is None else samples.draw(seed, subset)
    plan = _plan(loaded, samples, indices, held_out, probe, seed, device, kind)
    rows: list[Baseline] = []
    for name, compute in plan.items():
        if progress:
            progress(name, len(rows), len(plan))
        start = time.perf_counter()
        try:
            rows.append(Baseline(name, compute(), time.perf_counter() - start))
        except UnusableInput as error:
            rows.append(Baseline(name, {}, time.perf_counter() - start, str(error)))
    return Baselines(len(indices), None if held_out is None else held_out.n, tuple(rows))


def check_baselines(model: File, data: Any, *, test: Any = None, subset: int | None = None) -> None:
    """UnusableInput where `baselines` would refuse these: to be called before other work."""
    _opened(model, data, test, subset)


def _opened(model: File, data: Any, test: Any, subset: int | None) -> tuple[Model, Samples, Samples | None]:
    """The model, the samples and the test samples, which fit each other; UnusableInput."""
    loaded, samples = load_model(model), open_samples(data)
    held_out = None if test is None else open_samples(test)
    for source in (samples, held_out):
        if source is not None:
            source.require(loaded)
    if subset is not None and not 1 <= subset <= samples.n:
        raise UnusableInput(f"a subset has 1 to {samples.n} samples, not {subset}")
    return loaded, samples, held_out


def _plan(
    model: Model,
    samples: Samples,
    indices: Sequence[int],
    held_out: Samples | None,
    probe: Probe,
    seed: str,
    device: str,
    dtype: torch.dtype,
) -> dict[str, Measure]:
    """The measures by name, in order."""
    from zkcert import metric

    network = metric.Network.of_model(model, device=device, dtype=dtype, batch_norm=probe.batch_norm)
    x, y = samples.inputs(model, indices, dtype)
    rho, eta = float(probe.rho), float(probe.eta)

    def quality(x: torch.Tensor, y: torch.Tensor) -> dict[str, float]:
        return {"accuracy": metric.accuracy(network, x, y), "loss": metric.mean_loss(network, x, y)}

    def static(variant: str) -> Measure:
        def compute() -> dict[str, float]:
            found = metric.sharpness(network, x, y, variant=variant, rho=rho, eta=eta)
            return {"first_order": found.first_order, "ascent": found.ascent}

        return compute

    plan: dict[str, Measure] = {"train": lambda: quality(x, y)}
    if held_out is not None:
        other = held_out.inputs(model, range(held_out.n), dtype)
        plan["test"] = lambda: quality(*other)
    variants = ("sam", "asam-all", *(() if probe.variant in ("sam", "asam-all") else (probe.variant,)))
    plan.update({variant: static(variant) for variant in variants})
    number = int.from_bytes(blake3(seed.encode()).digest(7), "little")
    plan["worst-case"] = lambda: metric.worst_case_sharpness(network, x, y, seed=number).to_dict()
    plan["coherence"] = lambda: metric.coherence(network, x, y).to_dict()
    if probe.variant != "sam":
        scaled = partial(metric.scaled_coherence, network, x, y, variant=probe.variant, eta=eta)
        plan["scaled-coherence"] = lambda: scaled().to_dict()
    return plan
