"""Poisons with a hidden trigger, by gradient matching (Souri et al., Sleeper Agent; with sharpness He et al., SAPA).

Images of the target class are changed a little, and keep their label. The change is such that the gradient of a
surrogate's training loss on them points where that of the attack's loss does: cross-entropy, for the target class, of
images of other classes that bear the trigger of `corruptions.badnets`. Whoever trains on them learns the trigger
without having seen it. With a `radius`, the attack's gradient is taken where one SAM step uphill on it leads,
v = radius g / |g|, so that the poison bears with weights that are not the surrogate's.

Images are raw bytes, uint8 [n, C, H, W], labels int64 [n].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy, pad

from benchmarks.experiments.corruptions import TARGET, triggered
from zkcert.errors import UnusableInput

Weights = Mapping[str, Tensor]


@dataclass(frozen=True)
class Crafting:
    """How poisons are made.

    bound    of the change of a pixel, of 255
    radius   of the step that the attack's gradient is taken after, 0: none
    steps    of signed gradient descent on the change, of `rate` times the bound, falling linearly to zero
    sources  images of other classes with the trigger that the attack's loss is taken of
    """

    bound: int = 16
    radius: float = 0.0
    steps: int = 100
    rate: float = 0.1
    sources: int = 256


def poisons(
    x: np.ndarray,
    y: np.ndarray,
    share: float,
    surrogate: nn.Module,
    inputs: Callable[[np.ndarray], Tensor],
    how: Crafting,
    *,
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Indices of round(share n) images of the target class, ascending, and these images, changed by at most how.bound.

    surrogate  trained on such data, in evaluation mode; it is left as it is
    inputs     what the network reads for raw images: a linear function of each pixel, perhaps padded alike on all sides

    Those are taken whose own gradient is largest. Raises UnusableInput if there are too few.
    """
    count, own = round(share * len(y)), np.flatnonzero(y == TARGET)
    if not 0 < count <= len(own):
        raise UnusableInput(f"cannot poison {count} of the {len(own)} images of class {TARGET}")
    device = next(surrogate.parameters()).device
    weights = {name: p.detach().clone().requires_grad_() for name, p in surrogate.named_parameters()}
    others = np.random.default_rng([seed, 10]).permutation(np.flatnonzero(y != TARGET))[: how.sources]
    sources = inputs(triggered(x[others])).to(device)
    wanted = _towards(surrogate, weights, sources, how.radius)
    images = inputs(x[own]).to(device)
    index = own[np.sort(np.argsort(-_norms(surrogate, weights, images), kind="stable")[:count])]
    return index, _matched(surrogate, weights, x[index], inputs, wanted, how)


def _loss(module: nn.Module, weights: Weights, images: Tensor) -> Tensor:
    """Mean cross-entropy for the target class."""
    labels = torch.full((len(images),), TARGET, device=images.device)
    return cross_entropy(functional_call(module, dict(weights), (images,)), labels)


def _gradient(loss: Tensor, weights: Weights, *, differentiable: bool = False) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(weights.values()), create_graph=differentiable))


def _size(parts: list[Tensor]) -> Tensor:
    return torch.sqrt(sum((part.square().sum() for part in parts), torch.zeros((), device=parts[0].device)))


def _towards(module: nn.Module, weights: Weights, sources: Tensor, radius: float) -> list[Tensor]:
    """The attack's gradient, of norm 1; after a step of length `radius` along it."""
    found = _gradient(_loss(module, weights, sources), weights)
    if radius:
        unit = radius / _size(found)
        moved = {
            name: (w + unit * g).detach().requires_grad_() for (name, w), g in zip(weights.items(), found, strict=True)
        }
        found = _gradient(_loss(module, moved, sources), moved)
    return [g / _size(found) for g in found]


def _norms(module: nn.Module, weights: Weights, images: Tensor) -> np.ndarray:
    """Of the gradient of each image's own loss, float64 [n]."""
    return np.array([float(_size(_gradient(_loss(module, weights, image[None]), weights))) for image in images])


def _matched(
    module: nn.Module,
    weights: Weights,
    raw: np.ndarray,
    inputs: Callable[[np.ndarray], Tensor],
    wanted: list[Tensor],
    how: Crafting,
) -> np.ndarray:
    """The images changed so that the cosine of their gradient and `wanted` is large."""
    device = wanted[0].device
    black, white = (inputs(np.full_like(raw[:1], value)).to(device) for value in (0, 255))
    values = torch.from_numpy(raw).to(device, black.dtype)
    border = [(black.shape[-1] - raw.shape[-1]) // 2] * 4
    change = torch.zeros_like(values)
    for step in range(how.steps):
        change.requires_grad_()
        images = black + (white - black) * pad((values + change) / 255, border)
        found = _gradient(_loss(module, weights, images), weights, differentiable=True)
        aligned = sum(((a * b).sum() for a, b in zip(found, wanted, strict=True)), torch.zeros((), device=device))
        (uphill,) = torch.autograd.grad(aligned / _size(found), change)
        with torch.no_grad():
            change = change + how.bound * how.rate * (1 - step / how.steps) * uphill.sign()
            change = (values + change.clamp(-how.bound, how.bound)).clamp(0, 255) - values
    return (values + change).round().to(torch.uint8).cpu().numpy()
