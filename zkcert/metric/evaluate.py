"""Accuracy, loss and gradient over a whole dataset, chunk by chunk. Needs PyTorch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from zkcert.errors import UnusableInput
from zkcert.metric.network import Network
from zkcert.metric.precision import full_precision


def chunks(network: Network, x: Tensor, y: Tensor, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Consecutive chunks of at most batch_size samples on the network's device, floats in the network's dtype.

    x  inputs [n, ...] as the network reads them: floats, or integers where it embeds tokens.
    y  labels [n] or [n, positions], int64.

    Raises UnusableInput, at once, where the two do not belong together.
    """
    if len(x) != len(y) or len(y) == 0:
        raise UnusableInput(f"{len(x)} inputs and {len(y)} labels: as many of both are needed, and at least one")
    if y.dtype != torch.int64:
        raise UnusableInput(f"labels must be int64, not {str(y.dtype).removeprefix('torch.')}")
    if batch_size < 1:
        raise UnusableInput("the batch size must be positive")
    return (on_device(network, a, b) for a, b in zip(x.split(batch_size), y.split(batch_size), strict=True))


def on_device(network: Network, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """A mini-batch where the network is, floats in its dtype."""
    return x.to(network.device, network.dtype if x.is_floating_point() else x.dtype), y.to(network.device)


@full_precision()
def correct(
    network: Network, x: Tensor, y: Tensor, batch_size: int = 256, *, weights: Sequence[Tensor] | None = None
) -> int:
    """How many of the labels have the largest logit (of equal logits the first counts), at `weights`.

    Arguments as for `chunks`; weights: those of the network by default. Logits that are no numbers are never right.
    """
    values = network.weights if weights is None else weights
    count = 0
    with torch.no_grad():
        for a, b in chunks(network, x, y, batch_size):
            count += int((_largest(network.forward(values, a)) == b).sum())
    return count


def _largest(logits: Tensor) -> Tensor:
    """[..., classes] -> [...]: the index of the largest logit, of equal ones the first; -1 where one is no number."""
    return logits.argmax(-1).masked_fill(logits.isnan().any(-1), -1)


@full_precision()
def predictions(network: Network, x: Tensor, y: Tensor, batch_size: int = 256) -> tuple[Tensor, Tensor]:
    """For each label, on the CPU: the class with the largest logit as `correct` counts it, int64, and the cross-entropy
    in nats, float64; both of the shape of y. Arguments as for `chunks`."""
    classes, losses = [], []
    with torch.no_grad():
        for a, b in chunks(network, x, y, batch_size):
            logits = network.forward(network.weights, a)
            classes.append(_largest(logits).cpu())
            found = F.cross_entropy(logits.double().flatten(0, -2), b.flatten(), reduction="none")
            losses.append(found.reshape(b.shape).cpu())
    return torch.cat(classes), torch.cat(losses)


def accuracy(
    network: Network, x: Tensor, y: Tensor, batch_size: int = 256, *, weights: Sequence[Tensor] | None = None
) -> float:
    """The fraction of labels that `correct` counts."""
    return correct(network, x, y, batch_size, weights=weights) / y.numel()


@full_precision()
def mean_loss(
    network: Network, x: Tensor, y: Tensor, batch_size: int = 256, *, weights: Sequence[Tensor] | None = None
) -> float:
    """The mean cross-entropy over all labels in nats, at `weights`; arguments as for `correct`.

    Where batch-norm uses the statistics of the batch, they are those of each chunk.
    """
    values = network.weights if weights is None else weights
    total = 0.0
    with torch.no_grad():
        for a, b in chunks(network, x, y, batch_size):
            total += float(network.losses(values, a, b).sum(dtype=torch.float64))
    return total / y.numel()


@full_precision()
def full_gradient(
    network: Network, weights: Sequence[Tensor], x: Tensor, y: Tensor, batch_size: int = 256
) -> tuple[float, list[Tensor]]:
    """The mean cross-entropy over all labels at `weights`, and its gradient with respect to each of them.

    The mean over the dataset: every chunk counts by its number of labels. Arguments and batch-norm as for
    `mean_loss`.
    """
    total, gradient = 0.0, [torch.zeros_like(w) for w in weights]
    for a, b in chunks(network, x, y, batch_size):
        share = b.numel() / y.numel()
        loss, part = network.gradient(weights, a, b)
        total += share * loss
        for g, p in zip(gradient, part, strict=True):
            g.add_(p, alpha=share)
    return total, gradient
