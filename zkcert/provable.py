"""Whether a model has a circuit at all, before anybody trains or commits to it."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from circuits.compile import Certificate, Plan
from zkcert.core.sis import ROWS
from zkcert.public.model import Model
from zkcert.public.statement import MAX_TAU


def require_provable(model: Model) -> None:
    """UnusableInput if the model has no circuit even for the smallest probe: two steps of one sample."""
    zeros, channels = np.int64(0), model.input["shape"][0]
    tokens = "tokens" in model.input
    plan = Plan(
        graph=model.graph,
        input=model.input,
        affine=([], []) if tokens else ([1] * channels, [0] * channels),
        weights={name: np.broadcast_to(zeros, array.shape) for name, array in model.params.items()},
        kind="tokens" if tokens else "u8",
        classes=model.classes,
        label_bytes=1 if model.classes <= 256 else 2,
        steps=2,
        batch=1,
        rho=Fraction(1, 20),
        divisor=1,
        eps=Fraction(0),
        variant="sam",
        hashes=np.zeros((2, 1, ROWS), np.uint64),
        constants=model.constants,
    )
    Certificate(plan).close(Fraction(MAX_TAU))
