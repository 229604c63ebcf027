"""The float side: directional sharpness and the measures it is compared with, on any PyTorch network. Needs PyTorch.

probe         directional sharpness (Algorithm 1), its statistics
perturbation  the per-step functions sam, asam-all and asam-samsung
network       networks as functions of their parameters
evaluate      accuracy, loss and gradient over a dataset
static        full-dataset SAM and ASAM sharpness
optim         the optimisers SAM and ASAM
"""

from __future__ import annotations

from zkcert.metric.evaluate import accuracy, full_gradient, mean_loss
from zkcert.metric.network import BATCH_NORM_MODES, Network
from zkcert.metric.optim import SAM, frozen_statistics
from zkcert.metric.perturbation import STEP_FUNCTIONS
from zkcert.metric.probe import STATISTICS, Probe, Trajectory, directional_sharpness, trajectory
from zkcert.metric.static import StaticSharpness, sharpness

__all__ = [
    "BATCH_NORM_MODES",
    "SAM",
    "STATISTICS",
    "STEP_FUNCTIONS",
    "Network",
    "Probe",
    "StaticSharpness",
    "Trajectory",
    "accuracy",
    "directional_sharpness",
    "frozen_statistics",
    "full_gradient",
    "mean_loss",
    "sharpness",
    "trajectory",
]
