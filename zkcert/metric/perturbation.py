"""The per-step functions: how far, and in which direction, the weights of a step are moved. Needs PyTorch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from zkcert.errors import UnusableInput

STEP_FUNCTIONS = ("sam", "asam-all", "asam-samsung")


def scales(variant: str, names: Sequence[str], weights: Sequence[Tensor], eta: float = 0.0) -> list[Tensor]:
    """The diagonal of T_w, a tensor like each of `weights`.

    sam           T_w = I: Foret et al., arXiv 2010.01412.
    asam-all      T_w = diag(|w|) over all parameters: arXiv 2606.25004, Def. 4; SAM with `adaptive=True` elsewhere.
    asam-samsung  T_w = diag(|w| + eta) for tensors with "weight" in their name, 1 for the others: Kwon et al.,
                  arXiv 2102.11600, as in its authors' code.

    Raises UnusableInput for another name.
    """
    match variant:
        case "sam":
            return [torch.ones_like(w) for w in weights]
        case "asam-all":
            return [w.detach().abs() for w in weights]
        case "asam-samsung":
            return [
                w.detach().abs() + eta if "weight" in name else torch.ones_like(w)
                for name, w in zip(names, weights, strict=True)
            ]
    raise UnusableInput(f"the per-step function must be one of {', '.join(STEP_FUNCTIONS)}, not {variant!r}")


def norm(tensors: Sequence[Tensor]) -> float:
    """The Euclidean norm of all entries together."""
    return float(torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(t.detach()) for t in tensors])))


def perturbation(scale: Sequence[Tensor], gradient: Sequence[Tensor], rho: float) -> tuple[float, list[Tensor]]:
    """The sharpness s = rho ||T_w g||_2 and the perturbation e = rho T_w^2 g / ||T_w g||_2.

    e maximises <g, e> under ||T_w^-1 e||_2 <= rho, and s is that maximum. scale: T_w, see `scales`. Where the gradient
    vanishes, s is 0 and e is 0; where it is not finite, s is not either.
    """
    scaled = [t * g for t, g in zip(scale, gradient, strict=True)]
    length = norm(scaled)
    factor = rho / length if length > 0 else 0.0
    return rho * length, [factor * t * v for t, v in zip(scale, scaled, strict=True)]
