"""Figures of calibrations and of membership inference: scores of two kinds, and ROC curves. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from zkcert.metric.membership import SCORES, Membership
from zkcert.metric.roc import auc, roc

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike

    from zkcert.calibration import Calibration

_BINS = 40
_GOLDEN = (5**0.5 - 1) / 2  # multiples of it modulo 1 keep their distance
FEW = 200
"""Up to so many values of a kind each is shown as a point; histograms of few values mislead."""


def calibration_figure(calibration: Calibration) -> Figure:
    """The scores of good and bad draws with tau; with bad models also the ROC curve, tau marked on it."""
    from matplotlib.figure import Figure

    kinds = {"good": calibration.good, "bad": calibration.bad}
    scores = {name: [score for m in models for score in m.scores] for name, models in kinds.items() if models}
    figure = Figure(figsize=(5.5 * len(scores), 4.2), layout="constrained")
    axes = figure.subplots(1, len(scores), squeeze=False)[0]
    _show(axes[0], {f"{name}: {len(kinds[name])} models": values for name, values in scores.items()}, "draws")
    axes[0].axvline(float(calibration.tau), color="black", linestyle="--", label=f"tau = {calibration.tau_text}")
    axes[0].set_xlabel(f"score: {calibration.probe['statistic']}")
    axes[0].legend(fontsize="small")
    if calibration.false_acceptance is not None:
        _curves(axes[1], {"score": (scores["good"], scores["bad"])})
        at = calibration.false_acceptance.value, 1 - calibration.false_rejection.value
        axes[1].plot(*at, marker="o", linestyle="", color="black", label="tau")
        axes[1].set_xlabel("bad draws accepted")
        axes[1].set_ylabel("good draws accepted")
        axes[1].legend(loc="lower right", fontsize="small")
    return figure


def membership_figure(found: Membership) -> Figure:
    """The ROC curves of all scores, and each score of members and others."""
    from matplotlib.figure import Figure

    pairs = {name: (getattr(found.members, name), getattr(found.others, name)) for name in SCORES}
    figure = Figure(figsize=(3.6 * (1 + len(pairs)), 3.8), layout="constrained")
    first, *others = figure.subplots(1, 1 + len(pairs))
    _curves(first, pairs)
    first.set_xlabel("non-members called members")
    first.set_ylabel("members called members")
    first.legend(loc="lower right", fontsize="small")
    for axes, (name, (members, rest)) in zip(others, pairs.items(), strict=True):
        least = min(float(np.min(v[v > 0], initial=np.inf)) for v in (members, rest))
        if logarithmic := bool(np.isfinite(least)):
            axes.set_xscale("log")
        floor = least if logarithmic else -np.inf
        kinds = {"members": np.maximum(members, floor), "non-members": np.maximum(rest, floor)}
        _show(axes, kinds, "examples", logarithmic)
        axes.set_xlabel(f"{name} (0 is drawn at the left edge)" if logarithmic else name)
        axes.legend(fontsize="small")
    return figure


def _curves(axes: Axes, pairs: Mapping[str, tuple[ArrayLike, ArrayLike]]) -> None:
    """The ROC curve of each pair (low, high) of scores."""
    for name, (low, high) in pairs.items():
        wrong, right, _ = roc(low, high)
        axes.plot(wrong, right, label=f"{name}: AUC {auc(low, high):.3f}")
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":", linewidth=1)
    axes.set_aspect("equal")


def _show(axes: Axes, kinds: Mapping[str, ArrayLike], what: str, logarithmic: bool = False) -> None:
    """Each kind's values: few as points, side by side only so that they do not hide each other; many as a histogram."""
    if max(np.size(values) for values in kinds.values()) > FEW:
        _histograms(axes, kinds, logarithmic)
        axes.set_ylabel(what)
        return
    for row, (name, values) in enumerate(kinds.items()):
        heights = row + 0.6 * (np.arange(np.size(values)) * _GOLDEN % 1 - 0.5)
        axes.plot(
            np.asarray(values, np.float64), heights, marker="o", markersize=4, linestyle="", alpha=0.6, label=name
        )
    axes.set_yticks([])
    axes.set_ylim(len(kinds) - 0.5, -0.5)
    axes.set_ylabel(f"{what}, one point each")


def _histograms(axes: Axes, kinds: Mapping[str, ArrayLike], logarithmic: bool) -> None:
    """A histogram of each kind over shared bins, of equal width or, for positive values, of equal ratio."""
    everything = np.concatenate([np.asarray(v, np.float64) for v in kinds.values()])
    edges = np.histogram_bin_edges(np.log(everything) if logarithmic else everything, bins=_BINS)
    if logarithmic:
        edges = np.exp(edges)
        edges[0], edges[-1] = everything.min(), everything.max()
    for name, values in kinds.items():
        axes.hist(np.asarray(values, np.float64), bins=edges, alpha=0.5, label=name)
