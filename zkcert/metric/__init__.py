"""The float side: directional sharpness and the measures it is compared with, on any PyTorch network. Needs PyTorch.

probe         directional sharpness (Algorithm 1), its statistics
perturbation  the per-step functions sam, asam-all and asam-samsung
network       networks as functions of their parameters
precision     float32 on CUDA devices
evaluate      accuracy, loss and gradient over a dataset
static        full-dataset SAM and ASAM sharpness
worst_case    magnitude-aware worst-case sharpness
coherence     agreement of the gradients of single samples
optim         the optimisers SAM and ASAM
calibrate     a threshold from models of known quality
membership    scores of single examples, and membership inference
roc           how well scores tell two kinds apart
"""

from __future__ import annotations

from zkcert.metric.coherence import Coherence, coherence
from zkcert.metric.evaluate import accuracy, full_gradient, mean_loss, predictions
from zkcert.metric.membership import ExampleScores, Membership, example_scores
from zkcert.metric.network import BATCH_NORM_MODES, Network
from zkcert.metric.optim import SAM, frozen_statistics
from zkcert.metric.perturbation import STEP_FUNCTIONS
from zkcert.metric.probe import STATISTICS, Probe, Trajectory, directional_sharpness, trajectory
from zkcert.metric.roc import Discrimination
from zkcert.metric.static import StaticSharpness, sharpness
from zkcert.metric.worst_case import WorstCase, worst_case_sharpness

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
    "sharpness",
    "trajectory",
    "worst_case_sharpness",
]
