"""Figures: probe trajectories, and writing any figure to a file. Needs matplotlib."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from zkcert.errors import UnusableInput
from zkcert.files.writing import check_output, output
from zkcert.public.kinds import PICTURE, PLOT_MARK

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NO_DATE: dict[str, dict[str, Any]] = {
    "png": {"Software": PLOT_MARK},
    "pdf": {"Creator": PLOT_MARK, "CreationDate": None},
    "svg": {"Creator": PLOT_MARK, "Date": None},
}
FORMATS = tuple(_NO_DATE)
"""What a figure can be written as; the name's suffix says which."""

_PANELS = (
    ("sharpness", "$s_t$", "sharpness"),
    ("loss", "$L_t$", "loss of the mini-batch (nats)"),
    ("log_ratio", "$y_t$", r"log ratio $\log(s_t^2/L_t + \epsilon)$"),
)


class Course(Protocol):
    """What is plotted of a draw: three sequences of T numbers, as `zkcert.metric.Trajectory` has them."""

    @property
    def sharpness(self) -> Sequence[float]: ...
    @property
    def loss(self) -> Sequence[float]: ...
    @property
    def log_ratio(self) -> Sequence[float]: ...


def check_plot(path: str | os.PathLike[str]) -> None:
    """UnusableInput unless a figure can be written to a file of that name, where at most an earlier plot may be:
    worth knowing before the work is done."""
    name = Path(path)
    if name.suffix.removeprefix(".").lower() not in FORMATS:
        raise UnusableInput(f"{name}: the name of a plot ends in {' or '.join('.' + kind for kind in FORMATS)}")
    check_output(name, PICTURE, force=True)


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure completely or not at all, the same bytes for the same figure; `check_plot` says what may fail."""
    from matplotlib import rc_context

    check_plot(path)
    kind = Path(path).suffix.removeprefix(".").lower()
    with rc_context({"svg.hashsalt": "zkcert"}), output(path, PICTURE, force=True) as file:
        figure.savefig(file, format=kind, metadata=_NO_DATE[kind])


def trajectory_figure(draws: Sequence[Course], title: str = "") -> Figure:
    """s_t, L_t and y_t over t: a line for each draw; of several draws also the mean and, as a band, mean +- standard
    deviation over the draws (that of the sample, ddof 1) at each t."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(12, 3.6), layout="constrained")
    for axes, (name, symbol, label) in zip(figure.subplots(1, 3), _PANELS, strict=True):
        values = np.array([getattr(draw, name) for draw in draws], np.float64)
        steps = np.arange(values.shape[1])
        single = len(values) == 1
        for row in values:
            axes.plot(steps, row, marker="o", markersize=3, color="C0", alpha=1.0 if single else 0.35, linewidth=1)
        if not single:
            mean, deviation = values.mean(0), values.std(0, ddof=1)
            axes.plot(steps, mean, color="C1", linewidth=2, label=f"mean of {len(values)} draws")
            axes.fill_between(steps, mean - deviation, mean + deviation, color="C1", alpha=0.25, label="± std")
            axes.legend(fontsize="small")
        axes.set_xlabel("t")
        axes.set_ylabel(symbol)
        axes.set_title(label, fontsize="medium")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if title:
        figure.suptitle(title)
    return figure
