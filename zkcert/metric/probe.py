"""Directional sharpness (arXiv 2606.25004, Def. 5, Algorithm 1): what is measured and proved. Needs PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zkcert.calibration.record import provable
from zkcert.data.normalised import input_values
from zkcert.errors import UnusableInput
from zkcert.metric.network import BATCH_NORM_MODES, Network
from zkcert.metric.perturbation import STEP_FUNCTIONS, perturbation, scales
from zkcert.metric.precision import full_precision
from zkcert.public.config import ProbeConfig, parse_fraction
from zkcert.public.defaults import DEFAULT
from zkcert.public.model import Model

STATISTICS: dict[str, Callable[..., float]] = {
    "std-log-ratio": lambda sharpness, log_ratio, ddof=0: float(np.std(log_ratio, ddof=ddof)),
    "std": lambda sharpness, log_ratio, ddof=0: float(np.std(sharpness, ddof=ddof)),
    "rms": lambda sharpness, log_ratio, ddof=0: float(np.sqrt(np.mean(sharpness**2))),
    "max": lambda sharpness, log_ratio, ddof=0: float(np.max(sharpness)),
    "std-sharpness": lambda sharpness, log_ratio, ddof=0: float(np.std(sharpness, ddof=ddof)),
    "cv-sharpness": lambda sharpness, log_ratio, ddof=0: float(np.std(sharpness) / np.mean(sharpness)),
    "mean-sharpness": lambda sharpness, log_ratio, ddof=0: float(np.mean(sharpness)),
    "std-log-sharpness": lambda sharpness, log_ratio, ddof=0: float(np.std(np.log(sharpness), ddof=ddof)),
}
"""Statistics `fluc` of (s_t, y_t), y_t = log(s_t^2 / L_t + eps); a ddof is of the deviations, 0 being the population's.

std-log-ratio      Std(y_t), the paper's default. The paper leaves eps ("small") and ddof open: 1e-8 and 0 are ours.
std                Std(s_t): the paper's raw {s_t}, of which it does not say what statistic it takes.
rms                sqrt(Mean(s_t^2)), what the paper's Theorem 2 bounds the gap by.
max                the largest s_t; ours. These four can be proved, the others cannot.
std-sharpness      std, by the name it has in older calibrations.
std-log-sharpness  Std(log s_t), and
mean-sharpness     Mean(s_t), which is no fluctuation, are others of the raw s_t.
cv-sharpness       Std(s_t) / Mean(s_t), free of the scale of s; ours.
"""


@dataclass(frozen=True)
class Probe:
    """A directional-sharpness probe: `ProbeConfig` and what only the float side offers.

    Of the paper are T, B, rho, lr, the step function and the statistic's form. It leaves open, and ours are: eps, the
    ddof, the statistics of batch-norm, that Phi steps with the same T_w as S and without momentum or weight decay, and
    that the T B samples of a draw are distinct (it draws each mini-batch without replacement).

    steps        T, at least 2: every statistic of a single step is 0, whatever the model.
    batch_size   B.
    rho, lr      radius of the perturbation and learning rate of the update, positive.
    eps          added to s_t^2 / L_t before the logarithm.
    variant      the per-step function, see `zkcert.metric.perturbation.scales`.
    eta          of "asam-samsung" and "asam-shifted".
    statistic    of `STATISTICS`.
    batch_norm   "eval": running statistics, as in the circuit; "train": those of each mini-batch.
    ddof         of a statistic that begins with "std", below T.

    Numbers may be given as text, int, float or Fraction, and are exact. Raises UnusableInput.
    """

    steps: int = DEFAULT.steps
    batch_size: int = DEFAULT.batch_size
    rho: Fraction = DEFAULT.rho
    lr: Fraction = DEFAULT.lr
    eps: Fraction = DEFAULT.eps
    variant: str = DEFAULT.variant
    eta: Fraction = Fraction(1, 100)
    statistic: str = "std-log-ratio"
    batch_norm: str = "eval"
    ddof: int = 0

    def __post_init__(self) -> None:
        for name, low in (("steps", 2), ("batch_size", 1)):
            value = getattr(self, name)
            if type(value) is not int or value < low:
                raise UnusableInput(f"{name} must be an integer of at least {low}, not {value!r:.40}")
        for name in ("rho", "lr", "eps", "eta"):
            object.__setattr__(self, name, parse_fraction(getattr(self, name), name))
        if self.rho <= 0 or self.lr <= 0 or self.eps < 0 or self.eta < 0:
            raise UnusableInput("rho and lr must be positive, eps and eta not negative")
        choices = {"variant": STEP_FUNCTIONS, "statistic": tuple(STATISTICS), "batch_norm": BATCH_NORM_MODES}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise UnusableInput(f"{name} must be one of {', '.join(allowed)}, not {getattr(self, name)!r}")
        most = self.steps - 1 if self.statistic.startswith("std") else 0
        if type(self.ddof) is not int or not 0 <= self.ddof <= most:
            why = "below the steps" if most else f"0: {self.statistic} is no deviation that has one"
            raise UnusableInput(f"ddof must be an integer from 0 to {most}, {why}, not {self.ddof!r:.40}")

    def to_dict(self) -> dict[str, int | str]:
        """JSON values; rationals as "numerator/denominator"; without the ddof if it is 0."""
        values = {k: str(v) if isinstance(v, Fraction) else v for k, v in asdict(self).items()}
        if not self.ddof:
            del values["ddof"]
        return values

    @classmethod
    def from_dict(cls, value: object) -> Probe:
        """Inverse of `to_dict`; UnusableInput for anything else."""
        if not isinstance(value, dict) or set(value) | {"ddof"} != {field.name for field in fields(cls)}:
            raise UnusableInput(f"a probe has exactly the keys {', '.join(field.name for field in fields(cls))}")
        return cls(**value)

    @classmethod
    def of_config(cls, config: ProbeConfig) -> Probe:
        """The probe that a proof with this configuration computes."""
        eta = {} if config.eta is None else {"eta": config.eta}
        return cls(**{name: getattr(config, name) for name in _SHARED}, **eta)

    def to_config(self) -> ProbeConfig:
        """The configuration of a proof of this probe; UnusableInput if it cannot be proved."""
        return provable(self.to_dict())


_SHARED = ("steps", "batch_size", "rho", "lr", "eps", "variant", "statistic", "ddof")


@dataclass(frozen=True, eq=False)
class Trajectory:
    """What the probe saw; arrays are float64 of shape [T].

    sharpness  s_t = rho ||T_w g||_2
    loss       L_t, mean cross-entropy of batch t at w_t, in nats
    log_ratio  y_t = log(s_t^2 / L_t + eps)
    score      the fluctuation statistic; by default the population standard deviation of y_t
    """

    sharpness: np.ndarray
    loss: np.ndarray
    log_ratio: np.ndarray
    score: float

    def statistic(self, name: str) -> float:
        """Another statistic of `STATISTICS` on the same trajectory."""
        return STATISTICS[name](self.sharpness, self.log_ratio)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        arrays = {name: getattr(self, name).tolist() for name in ("sharpness", "loss", "log_ratio")}
        return {**arrays, "score": self.score}


def as_inputs(model: Model, samples: np.ndarray, dtype: torch.dtype) -> Tensor:
    """Raw samples as the network of a model reads them, in `dtype`; tokens as int64. UnusableInput."""
    values = input_values(model.input, samples)
    return torch.tensor(values, dtype=torch.int64 if values.dtype == np.int64 else dtype)


@full_precision()
def trajectory(network: Network, x: Tensor, y: Tensor, probe: Probe) -> Trajectory:
    """Run Algorithm 1 of arXiv 2606.25004 from the network's weights, in its dtype and on its device.

    x  inputs of the mini-batches [T, B, ...] as the network reads them (see `zkcert.public.model.input_values`).
    y  labels [T, B], or [T, B, positions], int64.

    At step t, with g the gradient of the mean loss of batch t at w_t: s_t = rho ||T_w g||, perturbation
    e = rho T_w^2 g / ||T_w g||, then w_{t+1} = w_t - lr * (gradient on the same batch at w_t + e); T_w is
    `scales(probe.variant, ...)` at w_t. The network itself stays as it is. Batch-norm follows the network, see
    `Network`. Raises UnusableInput if shapes do not fit, or if a gradient or loss vanishes or diverges.
    """
    shape = (probe.steps, probe.batch_size)
    if tuple(x.shape[:2]) != shape or tuple(y.shape[:2]) != shape:
        raise UnusableInput(
            f"the probe needs inputs and labels of {shape[0]} batches of {shape[1]}, "
            f"not {list(x.shape[:2])} and {list(y.shape[:2])}"
        )
    rho, lr, eta = float(probe.rho), float(probe.lr), float(probe.eta)
    weights = list(network.weights)
    sharpness, losses = np.empty(probe.steps), np.empty(probe.steps)
    for t in range(probe.steps):
        batch = x[t].to(network.device), y[t].to(network.device)
        losses[t], gradient = network.gradient(weights, *batch)
        sharpness[t], moves = perturbation(scales(probe.variant, network.names, weights, eta), gradient, rho)
        if not 0 < sharpness[t] < np.inf or not 0 < losses[t] < np.inf:
            raise UnusableInput(
                f"step {t}: the gradient norm {sharpness[t] / rho:g} or the loss {losses[t]:g} vanishes or diverges"
            )
        if t + 1 == probe.steps:
            break  # the last step's update is not looked at
        _, gradient = network.gradient([w + e for w, e in zip(weights, moves, strict=True)], *batch)
        weights = [w - lr * g for w, g in zip(weights, gradient, strict=True)]
    log_ratio = np.log(sharpness**2 / losses + float(probe.eps))
    return Trajectory(sharpness, losses, log_ratio, STATISTICS[probe.statistic](sharpness, log_ratio, probe.ddof))


def directional_sharpness(
    model: Model,
    batches_x: np.ndarray,
    batches_y: np.ndarray,
    config: ProbeConfig | Probe,
    device: str = "cpu",
    dtype: torch.dtype = torch.float64,
) -> Trajectory:
    """Directional sharpness of a model file along T steps: `trajectory` on raw samples, in float64 by default.

    batches_x  raw samples [T, B, C, H, W], uint8 (bytes), int64 (Q31.32), or uint16 (tokens); see `input_values`.
    batches_y  labels [T, B], or [T, B, L] behind tokens, integers below the number of classes.
    device     "cpu" or "cuda".

    w_0 is the model's weights rounded to Q31.32, inputs are the circuit's; ReLU'(0) = 0. With a ProbeConfig this is
    what the circuit computes in fixed point. Raises UnusableInput.
    """
    probe = Probe.of_config(config) if isinstance(config, ProbeConfig) else config
    shape = (probe.steps, probe.batch_size)
    places = (*shape, model.input_shape[2]) if "tokens" in model.input else shape
    if batches_x.shape[:2] != shape or batches_x.ndim != 5 or batches_y.shape != places:
        raise UnusableInput(
            f"the probe needs samples [{shape[0]}, {shape[1]}, C, H, W] and labels {list(places)}, "
            f"not {list(batches_x.shape)} and {list(batches_y.shape)}"
        )
    if batches_y.dtype.kind not in "iu" or batches_y.min() < 0 or batches_y.max() >= model.classes:
        raise UnusableInput(f"labels must be integers from 0 to {model.classes - 1}")
    network = Network.of_model(model, device=device, dtype=dtype, batch_norm=probe.batch_norm)
    inputs = as_inputs(model, batches_x, dtype)
    return trajectory(network, inputs, torch.tensor(batches_y.astype(np.int64)), probe)
