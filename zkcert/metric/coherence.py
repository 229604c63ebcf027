"""How far the gradients of single samples agree: gradient coherence (Def. 7), and of scaled ones. Needs PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from zkcert.errors import UnusableInput
from zkcert.metric.evaluate import chunks
from zkcert.metric.network import Network
from zkcert.metric.perturbation import norm, scales
from zkcert.metric.precision import full_precision

_CHUNK_VALUES = 1 << 26
"""At most this many entries of per-sample gradients are in memory at once, or those of one sample."""


@dataclass(frozen=True)
class Coherence:
    """Coherence of n samples at fixed weights: v_z = g_z for `coherence`, v_z = T_w g_z for `scaled_coherence`.

    coherence       square_of_mean / mean_square, from 0 to 1.
    mean_square     E_z ||v_z||^2.
    square_of_mean  ||E_z v_z||^2.
    n               the number of samples.
    """

    coherence: float
    mean_square: float
    square_of_mean: float
    n: int

    def expected_square_sharpness(self, batch_size: int, rho: float) -> float:
        """E s^2 of the mini-batch sharpness s = rho ||v_B||_2, v_B a batch's mean, over all batches of this size.

        Batches of B distinct samples, all equally likely: the probe's way of drawing, and Lemma 2 and Theorem 2 of
        arXiv 2606.25004. With c the coherence,

            E s^2 = rho^2 E_z||v_z||^2 (c + (1 - c) (n - B) / (B (n - 1))).

        Of plain gradients that is the S_rms^2 of Theorem 2, of scaled ones the same for the probe's own T_w. For: the
        mean of B of n vectors drawn without replacement has the expectation E_z v_z and the total variance
        (E_z||v_z||^2 - ||E_z v_z||^2) (n - B) / (B (n - 1)). It falls from rho^2 E_z||v_z||^2 at B = 1 to
        rho^2 ||E_z v_z||^2 at B = n, and the lower the coherence, the further it falls. Exact for the weights at which
        coherence was computed, hence for the first step of a probe; later steps are at other weights.

        Raises UnusableInput unless 1 <= batch_size <= n and rho > 0.
        """
        if not 1 <= batch_size <= self.n or not rho > 0:
            raise UnusableInput(f"batch sizes must be within 1 and {self.n}, and rho positive")
        rest = (self.n - batch_size) / (batch_size * (self.n - 1)) if self.n > 1 else 0.0
        return rho**2 * (self.square_of_mean + rest * (self.mean_square - self.square_of_mean))

    def detection_gap(self, batch_size: int, rho: float) -> float:
        """S_rms^2 - S^2 of Theorem 2, Eq. 3: E s^2 of mini-batches less the square of the full-batch sharpness.

        Of plain gradients, as the theorem has it. Raises UnusableInput as `expected_square_sharpness` does.
        """
        return self.expected_square_sharpness(batch_size, rho) - rho**2 * self.square_of_mean

    def to_dict(self) -> dict[str, float | int]:
        """JSON values."""
        return asdict(self)


def coherence(network: Network, x: Tensor, y: Tensor, *, batch_size: int = 256) -> Coherence:
    """Gradient coherence c_g = ||E_z g_z||^2 / E_z ||g_z||^2 at the network's weights: arXiv 2606.25004, Def. 7.

    g_z is the gradient of the loss of sample z alone (the mean over its labels, if it has several), E_z the mean over
    the samples x, y. 1 where all gradients are equal, 1/n where they are orthogonal, 0 where they cancel. The
    gradients are plain, whatever T_w a probe has; `scaled_coherence` has T_w.

    It is m-coherence / n of Chatterjee and Zielinski, arXiv 2008.01217, and 1 / gradient diversity / n of Yin et al.,
    arXiv 1706.05699. What ties it to mini-batch sharpness is `Coherence.expected_square_sharpness`. On a subset it is
    the subset's: the coherence of n samples out of many exceeds that of all in expectation, by about (1 - c)/n.

    x, y, batch_size  as for `zkcert.metric.evaluate.chunks`; batch_size is lowered where gradients would take much
                      memory.

    Raises UnusableInput, also where gradients vanish or diverge, and where a sample's loss depends on the others of
    its batch, as with the batch statistics of batch-norm: then no sample has a gradient of its own.
    """
    return _coherence(network, x, y, None, batch_size)


def scaled_coherence(
    network: Network, x: Tensor, y: Tensor, *, variant: str, eta: float = 0.01, batch_size: int = 256
) -> Coherence:
    """The same of v_z = T_w g_z, ||E_z v_z||^2 / E_z ||v_z||^2. Ours: the paper's coherence has no T_w.

    variant and eta give T_w, see `zkcert.metric.perturbation.scales`; the rest as for `coherence`. It is what decides
    the mean square of a probe's first step, where the probe has that T_w.
    """
    return _coherence(network, x, y, scales(variant, network.names, network.weights, eta), batch_size)


@full_precision()
def _coherence(network: Network, x: Tensor, y: Tensor, scale: Sequence[Tensor] | None, batch_size: int) -> Coherence:
    size = max(1, min(batch_size, _CHUNK_VALUES // sum(w.numel() for w in network.weights)))
    total = [torch.zeros_like(w, dtype=torch.float64) for w in network.weights]
    squares = 0.0
    for gradients in sample_gradients(network, x, y, size):
        for i, (value, g) in enumerate(zip(total, gradients, strict=True)):
            scaled = g if scale is None else g * scale[i]
            value += scaled.sum(0, dtype=torch.float64)
            squares += float(scaled.square().sum(dtype=torch.float64))
    mean_square, square_of_mean = squares / len(y), (norm(total) / len(y)) ** 2
    if not 0 < mean_square < np.inf:
        raise UnusableInput(f"the mean square {mean_square:g} of the samples' gradients vanishes or diverges")
    return Coherence(square_of_mean / mean_square, mean_square, square_of_mean, len(y))


def sample_gradients(network: Network, x: Tensor, y: Tensor, batch_size: int = 256) -> Iterator[list[Tensor]]:
    """The gradient of every sample's loss, chunk after chunk: tensors [chunk, *shape] in the order of the weights.

    Arguments and errors as for `coherence`.
    """
    vectorised = torch.func.vmap(torch.func.grad(_sample_loss(network)), in_dims=(None, 0, 0))
    loop = False
    _check_independence(network, x[:8], y[:8])
    for a, b in chunks(network, x, y, batch_size):
        if not loop:
            try:
                yield list(vectorised(network.weights, a, b))
                continue
            except RuntimeError:  # a network with an operation that vmap has no rule for
                loop = True
        yield _one_by_one(network, a, b)


def _sample_loss(network: Network) -> Callable[[Sequence[Tensor], Tensor, Tensor], Tensor]:
    def loss(weights: Sequence[Tensor], x: Tensor, y: Tensor) -> Tensor:
        return network.loss(weights, x[None], y[None])

    return loss


def _one_by_one(network: Network, x: Tensor, y: Tensor) -> list[Tensor]:
    found = [network.gradient(network.weights, x[i : i + 1], y[i : i + 1])[1] for i in range(len(y))]
    return [torch.stack(tensors) for tensors in zip(*found, strict=True)]


def _check_independence(network: Network, x: Tensor, y: Tensor) -> None:
    """Losses of samples alone have to be those of the samples in one batch."""
    with torch.no_grad():
        (together,) = (network.losses(network.weights, a, b) for a, b in chunks(network, x, y, len(y)))
        try:
            alone = torch.cat([network.losses(network.weights, a, b) for a, b in chunks(network, x, y, 1)])
        except ValueError:  # batch-norm, for the statistics of one value
            alone = together + torch.inf
    if not torch.allclose(together, alone, rtol=1e-2, atol=1e-3, equal_nan=True):
        raise UnusableInput("the loss of a sample depends on its batch: coherence needs batch-norm in eval mode")
