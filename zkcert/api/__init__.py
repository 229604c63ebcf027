"""The commands as functions. PyTorch, numba and the prover are imported only by those that need them.

Numbers of a configuration and thresholds may be text such as "0.05"; see `zkcert.public.config.parse_fraction`. All
functions raise the errors of `zkcert.errors`; an output file appears complete or not at all.
"""

from __future__ import annotations

from zkcert.api.attestation import attest
from zkcert.api.authority import Endorsed, endorse, join, recompute
from zkcert.api.baselines import Baseline, Baselines, baselines, check_baselines
from zkcert.api.calibration import calibrate
from zkcert.api.certificate import (
    Announcement,
    CircuitListing,
    Commitment,
    Inspection,
    Look,
    announce,
    announced,
    circuit,
    commit,
    estimate,
    inspect,
    look,
    root,
    verify,
)
from zkcert.api.checking import Check, DryRun, Margin, check
from zkcert.api.conversion import Conversion, convert_model
from zkcert.api.demonstration import DemoResult, demo, train_lenet
from zkcert.api.evidence import Evidence
from zkcert.api.fetching import Fetched, fetch_round, fetch_stamp
from zkcert.api.files import File
from zkcert.api.fleet import Job, JobResult, prove_many, read_jobs
from zkcert.api.membership import Inference, mia
from zkcert.api.metric import DTYPES, Audit, Draw, Measurement, audit, check_plot, measure, plot_trajectories
from zkcert.api.model_card import save_card
from zkcert.api.phases import PhaseTime, Progress, peak_rss, reset_peak_rss
from zkcert.api.proving import CROSS_CHECK_LIMIT, CrossCheckFailed, ProofResult, prove
from zkcert.api.reporting import Report, report
from zkcert.api.sources import Obstacle
from zkcert.api.training import ARCHITECTURES, Training, train
from zkcert.api.trust import Keys, Witnessed, gather, keygen, request, stamp_query, witness
from zkcert.api.walk_through import TrustDemoResult, demo_trust

__all__ = [
    "ARCHITECTURES",
    "CROSS_CHECK_LIMIT",
    "DTYPES",
    "Announcement",
    "Audit",
    "Baseline",
    "Baselines",
    "Check",
    "CircuitListing",
    "Commitment",
    "Conversion",
    "CrossCheckFailed",
    "DemoResult",
    "Draw",
    "DryRun",
    "Endorsed",
    "Evidence",
    "Fetched",
    "File",
    "Inference",
    "Inspection",
    "Job",
    "JobResult",
    "Keys",
    "Look",
    "Margin",
    "Measurement",
    "Obstacle",
    "PhaseTime",
    "Progress",
    "ProofResult",
    "Report",
    "Training",
    "TrustDemoResult",
    "Witnessed",
    "announce",
    "announced",
    "attest",
    "audit",
    "baselines",
    "calibrate",
    "check",
    "check_baselines",
    "check_plot",
    "circuit",
    "commit",
    "convert_model",
    "demo",
    "demo_trust",
    "endorse",
    "estimate",
    "fetch_round",
    "fetch_stamp",
    "gather",
    "inspect",
    "join",
    "keygen",
    "look",
    "measure",
    "mia",
    "peak_rss",
    "plot_trajectories",
    "prove",
    "prove_many",
    "read_jobs",
    "recompute",
    "report",
    "request",
    "reset_peak_rss",
    "root",
    "save_card",
    "stamp_query",
    "train",
    "train_lenet",
    "verify",
    "witness",
]
