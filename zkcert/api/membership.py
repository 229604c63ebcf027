"""Membership inference from per-example scores: mia."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zkcert.api.files import File, check_device, load_model, needs_extras
from zkcert.api.metric import Options, as_dtype, as_probe, check_plot
from zkcert.api.notebook import counts_shown
from zkcert.api.samples import open_samples
from zkcert.errors import UnusableInput

if TYPE_CHECKING:
    from zkcert.metric import Probe
    from zkcert.metric.membership import Membership


@dataclass(frozen=True, eq=False)
class Inference:
    """How well scores of single examples tell members from non-members.

    dtype    of the computation.
    shared   drawn members that are among the drawn non-members, too: they cannot be told apart.
    weights  hexadecimal digest of the model's weights.
    """

    found: Membership
    probe: Probe
    weights: str
    seed: str
    dtype: str
    shared: int

    @property
    def warnings(self) -> list[str]:
        """What spoils the comparison."""
        out = []
        if self.shared:
            out.append(
                f"{self.shared} of the members drawn are among the non-members drawn: this is no fair comparison"
            )
        if self.dtype != "float64":
            out.append(
                f"in {self.dtype} the directional scores of well-fitted examples are rounding error: use float64"
            )
        return out

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "weights": self.weights,
            "probe": self.probe.to_dict(),
            "seed": self.seed,
            "dtype": self.dtype,
            **self.found.to_dict(),
            "shared": self.shared,
            "warnings": self.warnings,
        }


def mia(
    model: File,
    members: File,
    nonmembers: File,
    *,
    samples: int = 1000,
    seed: str = "",
    config: Options | Probe | None = None,
    device: str = "cpu",
    dtype: str = "float64",
    plot: File | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Inference:
    """Loss, static and directional sharpness (B = 1) of single examples as tests of membership.

    model                a model file, .pt or .safetensors.
    members, nonmembers  datasets, or data.zkd files, of which `samples` examples each are drawn.
    seed                 a text: "SEED/members" and "SEED/nonmembers" draw the examples.
    config               the probe, as for `measure`; its batch_size is 1.
    device, dtype        as for `measure`.
    plot                 a .png, .pdf or .svg file of the ROC curves and the scores.
    progress             called with (examples done, examples).

    Returns the Inference: `found.results` (name of the score -> AUC with interval, best accuracy), and `warnings`.
    Raises UnusableInput.
    """
    progress = counts_shown("examples", progress)
    with needs_extras("membership inference", "metric"):
        import scipy.stats  # noqa: F401
        import sklearn.metrics  # noqa: F401

        from zkcert.metric import Network
        from zkcert.metric.membership import Membership, example_scores
    if type(samples) is not int or samples < 2:
        raise UnusableInput("samples must be an integer of at least 2")
    if plot is not None:
        check_plot(plot)
    single = {"batch_size": 1, **(config or {})} if config is None or isinstance(config, Mapping) else config
    probe = as_probe(single)
    kind = as_dtype(dtype)
    check_device(device)
    loaded = load_model(model)
    inputs, digests = [], []
    for name, file in (("members", members), ("nonmembers", nonmembers)):
        source = open_samples(file)
        if source.n < samples:
            raise UnusableInput(f"{file}: {samples} samples asked for, it has {source.n}: give fewer --samples")
        rows = source.draw(f"{seed}/{name}", samples)
        inputs.append(source.inputs(loaded, rows, kind))
        raw, labels = source.take(rows)
        digests.append({(x.tobytes(), int(y)) for x, y in zip(raw, labels, strict=True)})
    network = Network.of_model(loaded, device=device, dtype=kind, batch_norm=probe.batch_norm)
    scores = []
    for i, (x, y) in enumerate(inputs):

        def done(count: int, _: int, before: int = i * samples) -> None:
            if progress:
                progress(before + count, 2 * samples)

        scores.append(example_scores(network, x, y, probe, progress=done))
    found = Membership.of(*scores)
    if plot is not None:
        from zkcert.metric.plots import save_figure
        from zkcert.metric.roc_plots import membership_figure

        save_figure(membership_figure(found), plot)
    return Inference(found, probe, loaded.weights_digest.hex(), seed, dtype, len(digests[0] & digests[1]))
