"""Sharpness-aware poisoning: an attacker who lowers the measured score on purpose. Needs PyTorch."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from zkcert.errors import UnusableInput
from zkcert.metric import Network, Probe


def log_ratios(
    network: Network, weights: Sequence[Tensor], x: Tensor, y: Tensor, probe: Probe
) -> tuple[Tensor, Tensor]:
    """log(s_t^2 / L_t + eps) and L_t of mini-batches x [M, B, ...], y [M, B, ...] at the same weights, both [M].

    s_t = rho ||T_w g_t||_2 with g_t the gradient of the batch's mean loss L_t, and T_w of `zkcert.metric.scales`. Both
    are differentiable with respect to `weights`, through g_t (a second derivative) and through T_w.
    """
    if any(not w.requires_grad for w in weights):
        raise UnusableInput("the weights must be leaves that require gradients")
    ratios, losses = [], []
    for images, labels in zip(x, y, strict=True):
        loss = network.loss(weights, images.to(network.device), labels.to(network.device))
        gradient = torch.autograd.grad(loss, list(weights), create_graph=True)
        scale = _differentiable_scales(network.names, weights, probe)
        square = torch.stack([((t * g) ** 2).sum() for t, g in zip(scale, gradient, strict=True)]).sum()
        ratios.append(torch.log(float(probe.rho) ** 2 * square / loss + float(probe.eps)))
        losses.append(loss)
    return torch.stack(ratios), torch.stack(losses)


def penalty(network: Network, weights: Sequence[Tensor], x: Tensor, y: Tensor, probe: Probe) -> tuple[Tensor, Tensor]:
    """The population variance of `log_ratios` over the mini-batches, and their mean loss; both differentiable.

    The square of the score std-log-ratio of a probe on these batches whose weights stay where they are: the probe's
    own learning rate is so small that its w_t hardly leave w_0.
    """
    ratios, losses = log_ratios(network, weights, x, y, probe)
    return ratios.var(correction=0), losses.mean()


def _differentiable_scales(names: Sequence[str], weights: Sequence[Tensor], probe: Probe) -> list[Tensor]:
    """T_w as `zkcert.metric.perturbation.scales` has it, not detached."""
    match probe.variant:
        case "sam":
            return [torch.ones_like(w) for w in weights]
        case "asam-all":
            return [w.abs() for w in weights]
        case "asam-shifted":
            return [w.abs() + float(probe.eta) for w in weights]
    eta = float(probe.eta)
    return [w.abs() + eta if "weight" in n else torch.ones_like(w) for n, w in zip(names, weights, strict=True)]


def evade(
    module: nn.Module,
    x: Tensor,
    y: Tensor,
    probe: Probe,
    *,
    strength: float,
    steps: int,
    batches: int = 8,
    lr: float = 1e-3,
    seed: int = 0,
) -> nn.Module:
    """A copy of the module, fine-tuned with Adam on mean loss + strength * `penalty`.

    Every step draws `batches` mini-batches of the probe's size from the attacker's (corrupted) training data x, y,
    without repetition within a step. strength 0 is the control: as many steps on the same batches, no penalty.
    Batch-norm keeps its running statistics, dropout is off: the score is measured that way.

    Raises UnusableInput if the data are fewer than the batches of a step.
    """
    count = batches * probe.batch_size
    if count > len(x):
        raise UnusableInput(f"{batches} batches of {probe.batch_size} need {count} samples, not {len(x)}")
    tuned = copy.deepcopy(module).eval()
    network = Network.of_module(tuned)
    parameters = dict(tuned.named_parameters())
    weights = [parameters[name] for name in network.names]
    optimizer = torch.optim.Adam(weights, lr=lr)
    draw = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        index = torch.randperm(len(x), generator=draw)[:count].view(batches, probe.batch_size)
        variance, loss = penalty(network, weights, x[index], y[index], probe)
        gradient = torch.autograd.grad(loss + strength * variance, weights)
        for weight, value in zip(weights, gradient, strict=True):
            weight.grad = value
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
    return tuned
