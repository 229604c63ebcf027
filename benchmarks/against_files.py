"""Run by benchmarks.against with each side's interpreter: writes model.pt and data.npz here, and prints what they are.

Uses of a side only what its README shows, `zkcert.zoo` and `zkcert.convert.from_module`. Weights and samples are noise
from a fixed seed, which cost as much as any others.
"""

from __future__ import annotations

import hashlib
import json
import sys
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import numpy as np

import zkcert
from zkcert import zoo
from zkcert.convert import from_module

NAMES = {"lenet": "lenet5", "vgg16bn": "vgg16_bn"}  # that the other benchmarks use


def network(name: str) -> tuple[Any, dict[str, Any]]:
    """A module, and the input that it takes: "toy", or a constructor of the zoo, or its short name."""
    if name == "toy":
        return zoo.mlp(12, [6], 3), {"shape": [1, 3, 4], "pad": 0, "mean": [0.5], "std": [0.25]}
    module = getattr(zoo, NAMES.get(name, name))(seed=0).eval()
    return module, zoo.LENET5_INPUT if next(module.parameters()).shape[1] == 1 else zoo.CIFAR10_INPUT


if __name__ == "__main__":
    name, samples = sys.argv[1], int(sys.argv[2])
    module, spec = network(name)
    from_module(module, input=spec).save("model.pt")
    arrays = [p.detach().numpy() for p in module.parameters()]
    x = np.random.default_rng(0).integers(0, 256, (samples, *spec["shape"]), dtype=np.uint8)
    np.savez("data.npz", x=x, y=np.arange(samples) % len(arrays[-1]))
    weights = hashlib.sha256(b"".join(a.tobytes() for a in arrays)).hexdigest()
    packages = {package: version(package) for package in ("numpy", "numba", "torch") if find_spec(package)}
    print(json.dumps({"weights": weights, "packages": packages, "zkcert": zkcert.__file__}))
