"""The metric in float64: what the circuit computes in fixed point follows this. Needs PyTorch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from zkcert.config import ProbeConfig
from zkcert.convert import run_graph
from zkcert.errors import UnusableInput
from zkcert.model import Model, input_values


@dataclass(frozen=True, eq=False)
class Trajectory:
    """What the probe saw; arrays are float64 of shape [T].

    sharpness  s_t = rho ||T_w g||_2
    loss       L_t, mean cross-entropy of batch t at w_t, in nats
    log_ratio  y_t = log(s_t^2 / L_t + eps)
    score      population standard deviation of y_t
    """

    sharpness: np.ndarray
    loss: np.ndarray
    log_ratio: np.ndarray
    score: float


def directional_sharpness(
    model: Model,
    batches_x: np.ndarray,
    batches_y: np.ndarray,
    config: ProbeConfig,
    device: str = "cpu",
) -> Trajectory:
    """Directional sharpness along T SAM steps, in float64 (arXiv 2606.25004, Def. 4, Algorithm 1).

    batches_x  raw samples [T, B, C, H, W], uint8 (bytes) or int64 (Q31.32); see `input_integers`.
    batches_y  labels [T, B], integers below the number of classes.
    device     "cpu" or "cuda".

    At step t, with g the gradient of the mean loss of batch t at w_t: s_t = rho ||T_w g||, perturbation
    e = rho T_w^2 g / ||T_w g||, then w_{t+1} = w_t - lr * (gradient on the same batch at w_t + e). T_w is
    diag(|w_t|) over all parameters ("asam-all") or the identity ("sam"). w_0 is the model's weights rounded
    to Q31.32, inputs are the circuit's; ReLU'(0) = 0. Raises UnusableInput, also if a gradient or loss
    vanishes.
    """
    shape = (config.steps, config.batch_size)
    if batches_x.shape[:2] != shape or batches_x.ndim != 5 or batches_y.shape != shape:
        raise UnusableInput(
            f"the probe needs samples [{shape[0]}, {shape[1]}, C, H, W] and labels {list(shape)}, "
            f"not {list(batches_x.shape)} and {list(batches_y.shape)}"
        )
    if batches_y.dtype.kind not in "iu" or batches_y.min() < 0 or batches_y.max() >= model.classes:
        raise UnusableInput(f"labels must be integers from 0 to {model.classes - 1}")
    inputs, labels = input_values(model.input, batches_x), batches_y.astype(np.int64)
    rho, lr, adaptive = float(config.rho), float(config.lr), config.variant == "asam-all"
    weights = [_leaf(torch.tensor(model.quantized(name) / 2.0**32, device=device)) for name in model.params]
    sharpness, losses = np.empty(config.steps), np.empty(config.steps)
    for t in range(config.steps):
        x, y = torch.tensor(inputs[t], device=device), torch.tensor(labels[t], device=device)
        loss, gradient = _loss_and_gradient(model, weights, x, y)
        with torch.no_grad():
            transform = [w.abs() if adaptive else torch.ones_like(w) for w in weights]
            scaled = [s * g for s, g in zip(transform, gradient, strict=True)]
            norm = float(torch.cat([v.flatten() for v in scaled]).norm())
        if not 0 < norm < np.inf or not 0 < loss < np.inf:
            raise UnusableInput(f"step {t}: the gradient norm {norm:g} or the loss {loss:g} vanishes or diverges")
        sharpness[t], losses[t] = rho * norm, loss
        if t + 1 == config.steps:
            break  # the last step's update is not looked at
        moved = [_leaf(w + rho / norm * s * v) for w, s, v in zip(weights, transform, scaled, strict=True)]
        _, gradient = _loss_and_gradient(model, moved, x, y)
        weights = [_leaf(w - lr * g) for w, g in zip(weights, gradient, strict=True)]
    log_ratio = np.log(sharpness**2 / losses + float(config.eps))
    return Trajectory(sharpness, losses, log_ratio, float(np.std(log_ratio)))


def _leaf(weight: Tensor) -> Tensor:
    return weight.detach().requires_grad_()


def _loss_and_gradient(model: Model, weights: list[Tensor], x: Tensor, y: Tensor) -> tuple[float, list[Tensor]]:
    """Mean cross-entropy of the batch and its gradient with respect to each of `weights`."""
    statistics = {name: torch.tensor(array, dtype=x.dtype, device=x.device) for name, array in model.buffers.items()}
    logits = run_graph(model.graph, {**dict(zip(model.params, weights, strict=True)), **statistics}, x)
    loss = F.cross_entropy(logits, y)
    return float(loss.detach()), list(torch.autograd.grad(loss, weights))
