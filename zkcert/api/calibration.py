"""Choosing a threshold from models of known quality: calibrate."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from blake3 import blake3

from zkcert.api.files import File, check_device, load_model, needs_extras
from zkcert.api.metric import Options, as_dtype, as_probe, check_plot
from zkcert.api.notebook import counts_shown
from zkcert.api.samples import Samples, open_samples
from zkcert.calibration import Calibration, Source
from zkcert.errors import UnusableInput
from zkcert.files.writing import check_output, keep_file
from zkcert.public.config import ProbeConfig, canonical_json, parse_fraction
from zkcert.public.kinds import CALIBRATION

if TYPE_CHECKING:
    from zkcert.metric import Probe
    from zkcert.metric.calibrate import Candidate

_CHUNK = 1024  # samples hashed at a time


def calibrate(
    good: Sequence[File],
    bad: Sequence[File] = (),
    out: File | None = "calibration.json",
    *,
    data: File | None = None,
    config: ProbeConfig | Probe | Options | None = None,
    risk: object = "0.05",
    draws: int = 20,
    seed: str = "",
    device: str = "cpu",
    dtype: str = "float64",
    plot: File | None = None,
    force: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Calibration:
    """Score models known to be good or bad on several draws, choose tau at a risk, and write `out` (None: nothing).

    good, bad  model files, or "MODEL@DATA" for a model that is scored on data of its own (labels may differ).
    data       dataset or data.zkd of those without.
    config     the probe, as for `measure`.
    risk       of accepting a further bad draw; without bad models, of rejecting a further good one; from 0 to 1.
    draws      of each model.
    seed       a text that draws the samples.
    device, dtype  as for `measure`.
    force      replace a calibration of that name.
    plot       a .png, .pdf or .svg file of the scores and the ROC curve.
    progress   called with (draws done, draws).

    Returns the Calibration: `tau`, the scores, the rates of error with intervals, and `warnings()`. See
    `zkcert.calibration.choose_tau` for the rule. Raises UnusableInput.
    """
    progress = counts_shown("draws", progress)
    with needs_extras("a calibration", "metric"):
        import scipy.stats  # noqa: F401
        import sklearn.metrics  # noqa: F401

        from zkcert.metric import calibrate as steps
    if plot is not None:
        check_plot(plot)
    if out is not None:
        check_output(out, CALIBRATION, inputs=(*good, *bad, data), force=force)
        if plot is not None and os.path.abspath(out) == os.path.abspath(plot):
            raise UnusableInput(f"{plot}: the plot and the calibration need names of their own")
    probe, kind, share = as_probe(config), as_dtype(dtype), parse_fraction(risk, "risk")
    check_device(device)
    candidates = _candidates([*good, *bad], data)
    found = steps.calibrate(
        candidates[: len(good)],
        candidates[len(good) :],
        probe,
        risk=share,
        draws=draws,
        seed=seed,
        device=device,
        dtype=kind,
        progress=progress,
    )
    if out is not None:
        keep_file(out, lambda: [found.to_bytes()], CALIBRATION, force=force)
    if plot is not None:
        from zkcert.metric.plots import save_figure
        from zkcert.metric.roc_plots import calibration_figure

        save_figure(calibration_figure(found), plot)
    return found


def _candidates(models: Sequence[File], data: File | None) -> list[Candidate]:
    """The models with what they are scored on; a dataset is read once."""
    from zkcert.metric.calibrate import Candidate, Pool

    pairs = [_split(os.fspath(model), data) for model in models]
    files = _names([model for model, _ in pairs])
    sources = {name: open_samples(name) for name in dict.fromkeys(name for _, name in pairs)}
    titles = _names(list(sources))
    pools = {
        name: Pool(Source(titles[name], samples.n, data_digest(samples)), samples.take)
        for name, samples in sources.items()
    }
    candidates = []
    for file, name in pairs:
        model = load_model(file)
        sources[name].require(model)
        candidates.append(Candidate(files[file], model, pools[name]))
    return candidates


def _split(text: str, data: File | None) -> tuple[str, str]:
    """Model and data of "MODEL@DATA"; a file of that whole name is a model."""
    model, at, own = text.rpartition("@")
    if at and model and own and not os.path.exists(text):
        return model, own
    if data is None:
        raise UnusableInput(f"{text}: which data? Give --data, or {text}@DATA")
    return text, os.fspath(data)


def _names(paths: Sequence[str]) -> dict[str, str]:
    """What a calibration calls files: the last part of the name, numbered where files share it. The file is passed on,
    so it does not say where things are."""
    short = {path: ",".join(Path(part).name for part in path.split(",")) for path in paths}
    same = {path: [p for p in short if short[p] == name] for path, name in short.items()}
    unique = {p: name if len(same[p]) == 1 else f"{name} ({same[p].index(p) + 1})" for p, name in short.items()}
    return {path: "".join(c if c.isprintable() else "?" for c in name)[-200:] for path, name in unique.items()}


def data_digest(samples: Samples) -> str:
    """The root of a committed dataset; of another the BLAKE3 of N, type, shape, and all samples and labels."""
    if samples.root is not None:
        return samples.root.root.hex()
    head = canonical_json({"N": samples.n, "kind": samples.take([0])[0].dtype.name, "shape": list(samples.shape)})
    hasher = blake3(b"zkcert/calibration/data/1" + head.encode())
    for start in range(0, samples.n, _CHUNK):
        raw, labels = samples.take(range(start, min(start + _CHUNK, samples.n)))
        hasher.update(raw.astype(raw.dtype.newbyteorder("<")).tobytes() + labels.astype("<i8").tobytes())
    return hasher.hexdigest()
