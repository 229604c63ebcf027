"""calibration.json: a threshold chosen from models of known quality, and the probe it was chosen for.

choice     how the threshold is chosen
record     what is kept of it
plausible  how large a score can be
reading    the file, and what --tau says

A model is accepted if its score is at most tau: a draw of a bad model with score <= tau is a false acceptance, a draw
of a good model with score > tau a false rejection. Light enough for `zkcert verify`: nothing here needs PyTorch or a
library of statistics. `zkcert.metric.calibrate` makes what is read here.
"""

from __future__ import annotations

from zkcert.calibration.choice import choose_tau
from zkcert.calibration.reading import load_calibration, read_tau, read_threshold
from zkcert.calibration.record import Calibration, Rate, Scored, Source

__all__ = [
    "Calibration",
    "Rate",
    "Scored",
    "Source",
    "choose_tau",
    "load_calibration",
    "read_tau",
    "read_threshold",
]
