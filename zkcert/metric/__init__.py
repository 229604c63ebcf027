"""The float side: directional sharpness and the measures it is compared with, on any PyTorch network. Needs PyTorch.

Definitions are numbered as in arXiv 2606.25004; docs/METRICS.md says what its text settles and what is ours.

probe         directional sharpness (Def. 5, Algorithm 1), its statistics
perturbation  the per-step functions (Defs. 3 and 4, Eq. 2): sam, asam-all, asam-samsung, asam-shifted
network       networks as functions of their parameters
precision     float32 on CUDA devices
evaluate      accuracy, loss and gradient over a dataset
static        full-dataset SAM and ASAM sharpness
worst_case    worst-case sharpness: the rise of the loss (Defs. 1 and 2), and Jiang et al.'s
coherence     agreement of the gradients of single samples (Def. 7), and of scaled ones
optim         the optimisers SAM and ASAM
calibrate     a threshold from models of known quality
membership    scores of single examples, and membership inference
roc           how well scores tell two kinds apart
"""

from __future__ import annotations

from zkcert.metric.coherence import Coherence, coherence, scaled_coherence
from zkcert.metric.evaluate import accuracy, full_gradient, mean_loss, predictions
from zkcert.metric.membership import ExampleScores, Membership, example_scores
from zkcert.metric.network import BATCH_NORM_MODES, Network
from zkcert.metric.optim import SAM, frozen_statistics
from zkcert.metric.perturbation import STEP_FUNCTIONS
from zkcert.metric.probe import STATISTICS, Probe, Trajectory, directional_sharpness, trajectory
from zkcert.metric.roc import Discrimination
from zkcert.metric.static import StaticSharpness, sharpness
from zkcert.metric.worst_case import WorstCase, worst_case_rise, worst_case_sharpness

__all__ = [
    "BATCH_NORM_MODES",
    "SAM",
    "STATISTICS",
    "STEP_FUNCTIONS",
    "Coherence",
    "Discrimination",
    "ExampleScores",
    "Membership",
    "Network",
    "Probe",
    "StaticSharpness",
    "Trajectory",
    "WorstCase",
    "accuracy",
    "coherence",
    "directional_sharpness",
    "example_scores",
    "frozen_statistics",
    "full_gradient",
    "mean_loss",
    "predictions",
    "scaled_coherence",
    "sharpness",
    "trajectory",
    "worst_case_rise",
    "worst_case_sharpness",
]
