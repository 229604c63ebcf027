"""Figures, where matplotlib is installed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.extras import install
from zkcert.files.writing import replacing


def save_figure(path: Path, draw: Callable[[Any], None], size: tuple[float, float], dpi: int = 150) -> None:
    """Write what `draw` puts on a figure of `size` inches as PNG; without matplotlib, say so and go on.

    Raises UnusableInput if it cannot be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        print(f"{path.name} needs matplotlib: {install('metric')}", file=sys.stderr)
        return
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    draw(figure)
    with replacing(path, 0o644) as file:
        figure.savefig(file, dpi=dpi, format="png")
