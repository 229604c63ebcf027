"""The float side: directional sharpness and the measures it is compared with, on any PyTorch network. Needs PyTorch.

probe         directional sharpness (Algorithm 1), its statistics
perturbation  the per-step functions sam, asam-all and asam-samsung
network       networks as functions of their parameters
"""

from __future__ import annotations

from zkcert.metric.network import BATCH_NORM_MODES, Network
from zkcert.metric.perturbation import STEP_FUNCTIONS
from zkcert.metric.probe import STATISTICS, Probe, Trajectory, directional_sharpness, trajectory

__all__ = [
    "BATCH_NORM_MODES",
    "STATISTICS",
    "STEP_FUNCTIONS",
    "Network",
    "Probe",
    "Trajectory",
    "directional_sharpness",
    "trajectory",
]
