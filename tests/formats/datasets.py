"""What the tests of data share."""

from __future__ import annotations

import numpy as np

RANDOM = np.random.default_rng(7)

X = RANDOM.integers(0, 256, (7, 2, 3, 4), dtype=np.uint8)

Y = np.array([0, 3, 1, 2, 3, 0, 1])

FLOATS = RANDOM.normal(size=(5, 1, 2, 3)).astype(np.float32)


def save(path, x=X, y=Y, **more):
    np.savez(path, x=x, y=y, **more)
    return path
