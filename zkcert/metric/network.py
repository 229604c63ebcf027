"""Networks as functions of their parameters: what every metric is computed on. Needs PyTorch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zkcert.convert import run_graph
from zkcert.errors import UnusableInput
from zkcert.public.model import Model

BATCH_NORM_MODES = ("eval", "train")
"""Statistics of batch-norm: the running ones, as in the circuit, or those of the batch at hand."""

_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass(frozen=True, eq=False)
class Network:
    """A network as a function of its parameters, and the parameters it has.

    names    of the parameters; what `asam-samsung` looks at.
    weights  the parameters, detached; all on one device and of one dtype.
    forward  (parameters in the order of `names`, inputs [n, ...]) -> logits [n, classes], or [n, positions, classes].
    """

    names: tuple[str, ...]
    weights: tuple[Tensor, ...]
    forward: Callable[[Sequence[Tensor], Tensor], Tensor]

    @property
    def device(self) -> torch.device:
        """Where the parameters are, and inputs have to be."""
        return self.weights[0].device

    @property
    def dtype(self) -> torch.dtype:
        """Of the parameters and of inputs that are not integers."""
        return self.weights[0].dtype

    def losses(self, weights: Sequence[Tensor], x: Tensor, y: Tensor) -> Tensor:
        """Cross-entropy in nats of each of the labels y ([n] or [n, positions], int64), flattened."""
        logits = self.forward(weights, x)
        return F.cross_entropy(logits.flatten(0, -2), y.flatten(), reduction="none")

    def loss(self, weights: Sequence[Tensor], x: Tensor, y: Tensor) -> Tensor:
        """Mean cross-entropy in nats, a scalar."""
        return self.losses(weights, x, y).mean()

    def gradient(self, weights: Sequence[Tensor], x: Tensor, y: Tensor) -> tuple[float, list[Tensor]]:
        """The mean loss at `weights`, and its gradient with respect to each of them; `weights` stay as they are."""
        leaves = [w.detach().requires_grad_() for w in weights]
        loss = self.loss(leaves, x, y)
        return float(loss.detach()), list(torch.autograd.grad(loss, leaves))

    @staticmethod
    def of_model(
        model: Model, *, device: str = "cpu", dtype: torch.dtype = torch.float64, batch_norm: str = "eval"
    ) -> Network:
        """The network of a model file, its weights rounded to Q31.32 as in the circuit."""
        _check_mode(batch_norm)
        where = {"device": device, "dtype": dtype}
        weights = tuple(torch.tensor(model.quantized(name) / 2.0**32, **where) for name in model.params)
        statistics = {name: torch.tensor(array, **where) for name, array in model.buffers.items()}

        def forward(values: Sequence[Tensor], x: Tensor) -> Tensor:
            tensors = {**dict(zip(model.params, values, strict=True)), **statistics}
            logits = run_graph(model.graph, tensors, x, batch_statistics=batch_norm == "train")
            return logits[:, :, 0].mT if "tokens" in model.input else logits

        return Network(tuple(model.params), weights, forward)

    @staticmethod
    def of_module(module: nn.Module, *, batch_norm: str = "eval") -> Network:
        """The network of any module with one input; a copy is evaluated, dropout off. Shared parameters count once."""
        _check_mode(batch_norm)
        own = copy.deepcopy(module).eval()
        for layer in own.modules():
            if batch_norm == "train" and isinstance(layer, _BATCH_NORMS):
                layer.train().momentum = 0.0  # the running statistics stay as they are
        parameters = {name: p.detach() for name, p in own.named_parameters()}

        def forward(values: Sequence[Tensor], x: Tensor) -> Tensor:
            return torch.func.functional_call(own, dict(zip(parameters, values, strict=True)), (x,))

        return Network(tuple(parameters), tuple(parameters.values()), forward)


def _check_mode(batch_norm: str) -> None:
    if batch_norm not in BATCH_NORM_MODES:
        raise UnusableInput(f"batch_norm must be one of {', '.join(BATCH_NORM_MODES)}, not {batch_norm!r}")
