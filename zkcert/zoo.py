"""Small models, a slice of Fashion-MNIST, and training, for demonstration and tests. Needs PyTorch."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zkcert.errors import UnusableInput

LENET5_INPUT: dict[str, Any] = {"shape": [1, 28, 28], "pad": 2, "mean": [0.2860], "std": [0.3530]}
"""Fashion-MNIST bytes, padded to 32x32, normalised with the training set's mean and deviation."""


def fashion_mnist_small() -> tuple[np.ndarray, np.ndarray]:
    """The first 2,000 training images of Fashion-MNIST: uint8 [2000, 1, 28, 28], labels uint8 [2000]."""
    with np.load(Path(__file__).parent / "assets" / "fashion_mnist_small.npz", allow_pickle=False) as archive:
        return archive["images"], archive["labels"]


def lenet5(avg_or_max: str = "max", *, seed: int = 0) -> nn.Sequential:
    """LeNet-5 with ReLU for 1x32x32 inputs and 10 classes; 61,706 parameters, pooling "avg" or "max"."""
    pools: dict[str, type[nn.Module]] = {"avg": nn.AvgPool2d, "max": nn.MaxPool2d}
    if avg_or_max not in pools:
        raise UnusableInput(f'pooling must be "avg" or "max", not {avg_or_max!r}')
    pool = pools[avg_or_max]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers: list[tuple[str, nn.Module]] = [
            ("conv1", nn.Conv2d(1, 6, 5)),
            ("relu1", nn.ReLU()),
            ("pool1", pool(2)),
            ("conv2", nn.Conv2d(6, 16, 5)),
            ("relu2", nn.ReLU()),
            ("pool2", pool(2)),
            ("flatten", nn.Flatten()),
            ("fc1", nn.Linear(400, 120)),
            ("relu3", nn.ReLU()),
            ("fc2", nn.Linear(120, 84)),
            ("relu4", nn.ReLU()),
            ("fc3", nn.Linear(84, 10)),
        ]
    return nn.Sequential(OrderedDict(layers))


def mlp(features: int, hidden: Sequence[int], classes: int, *, seed: int = 0) -> nn.Sequential:
    """Flatten, then linear layers of the given widths with ReLU between them."""
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    widths = [features, *hidden, classes]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for i in range(1, len(widths)):
            layers[f"fc{i}"] = nn.Linear(widths[i - 1], widths[i])
            if i + 1 < len(widths):
                layers[f"relu{i}"] = nn.ReLU()
    return nn.Sequential(layers)


def train(
    module: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    epochs: int,
    lr: float = 1e-3,
    batch_size: int = 64,
    seed: int = 0,
    progress: Callable[[int, float], None] | None = None,
) -> list[float]:
    """Train in place with Adam on the mean cross-entropy; returns each epoch's mean loss.

    x  inputs [N, C, H, W] as the module reads them (see `input_values`), in the module's dtype.
    y  labels [N], int64.
    The order of samples follows from `seed`. `progress(epoch, loss)` is called after every epoch.
    """
    order = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(module.parameters(), lr=lr)
    history: list[float] = []
    module.train()
    for epoch in range(epochs):
        total = 0.0
        for index in torch.randperm(len(x), generator=order).split(batch_size):
            loss = F.cross_entropy(module(x[index]), y[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += float(loss.detach()) * len(index)
        history.append(total / len(x))
        if progress is not None:
            progress(epoch, history[-1])
    module.eval()
    return history
