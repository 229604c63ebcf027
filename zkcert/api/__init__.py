"""The commands as functions. PyTorch, numba and the prover are imported only by those that need them.

Numbers of a configuration and thresholds may be text such as "0.05"; see `zkcert.config.parse_fraction`. All
functions raise the errors of `zkcert.errors`; an output file appears complete or not at all.
"""

from __future__ import annotations

from zkcert.api.certificate import (
    Announcement,
    Commitment,
    Inspection,
    announce,
    announced,
    commit,
    estimate,
    inspect,
    verify,
)
from zkcert.api.demonstration import DemoResult, demo, train_lenet
from zkcert.api.files import File
from zkcert.api.metric import Measurement, measure
from zkcert.api.phases import PhaseTime, Progress, peak_rss, reset_peak_rss
from zkcert.api.proving import CROSS_CHECK_LIMIT, CrossCheckFailed, ProofResult, prove

__all__ = [
    "CROSS_CHECK_LIMIT",
    "Announcement",
    "Commitment",
    "CrossCheckFailed",
    "DemoResult",
    "File",
    "Inspection",
    "Measurement",
    "PhaseTime",
    "Progress",
    "ProofResult",
    "announce",
    "announced",
    "commit",
    "demo",
    "estimate",
    "inspect",
    "measure",
    "peak_rss",
    "prove",
    "reset_peak_rss",
    "train_lenet",
    "verify",
]
