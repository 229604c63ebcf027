"""The per-step functions: how far, and in which direction, the weights of a step are moved. Needs PyTorch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from zkcert.errors import UnusableInput

STEP_FUNCTIONS = ("sam", "asam-all", "asam-samsung", "asam-shifted")


def scales(variant: str, names: Sequence[str], weights: Sequence[Tensor], eta: float = 0.0) -> list[Tensor]:
    """The diagonal of T_w, a tensor like each of `weights`.

    sam           T_w = I: Foret et al., arXiv 2010.01412; arXiv 2606.25004, Def. 3.
    asam-all      T_w = diag(|w|) over all parameters: arXiv 2606.25004, Def. 4; SAM with `adaptive=True` elsewhere.
    asam-samsung  T_w = diag(|w| + eta) for tensors with "weight" in their name, 1 for the others: Kwon et al.,
                  arXiv 2102.11600, as in its authors' code.
    asam-shifted  T_w = diag(|w| + eta) over all parameters: the remark of arXiv 2606.25004, section 4.3, eta its eps_0.

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
        case "asam-shifted":
            return [w.detach().abs() + eta for w in weights]
    raise UnusableInput(f"the per-step function must be one of {', '.join(STEP_FUNCTIONS)}, not {variant!r}")


def norm(tensors: Sequence[Tensor], q: float = 2.0) -> float:
    """The q-norm of all entries together, the Euclidean one by default."""
    parts = [torch.linalg.vector_norm(t.detach(), q) for t in tensors]
    return float(torch.linalg.vector_norm(torch.stack(parts), q))


def dual(p: float) -> float:
    """q with 1/p + 1/q = 1, 1 for p = inf. Raises UnusableInput unless p > 1, where Eq. 2 holds."""
    if not p > 1:
        raise UnusableInput(f"the norm's p must be above 1, not {p:g}")
    return 1.0 if math.isinf(p) else p / (p - 1)


def perturbation(
    scale: Sequence[Tensor], gradient: Sequence[Tensor], rho: float, p: float = 2.0
) -> tuple[float, list[Tensor]]:
    """The sharpness s = rho ||T_w g||_q and the perturbation e that has it: Eq. 2 and Defs. 3, 4 of arXiv 2606.25004.

    e = rho T_w sign(v) |v|^(q-1) / ||v||_q^(q-1) with v = T_w g and 1/p + 1/q = 1; for p = 2, which probes and proofs
    take, e = rho T_w^2 g / ||T_w g||_2. It maximises <g, e> under ||T_w^-1 e||_p <= rho, and s is that maximum. scale:
    T_w, see `scales`. Where the gradient vanishes, s is 0 and e is 0; where it is not finite, s is not either. Raises
    UnusableInput unless p > 1.
    """
    scaled = [t * g for t, g in zip(scale, gradient, strict=True)]
    q = dual(p)
    length = norm(scaled, q)
    if p == 2:
        factor = rho / length if length > 0 else 0.0
        return rho * length, [factor * t * v for t, v in zip(scale, scaled, strict=True)]
    if not length > 0:
        return rho * length, [torch.zeros_like(v) for v in scaled]
    shares = (v.sign() * (v.abs() / length) ** (q - 1) for v in scaled)
    return rho * length, [rho * t * share for t, share in zip(scale, shares, strict=True)]
