"""Sharpness-aware training: SAM and ASAM around any optimiser. Needs PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from zkcert.errors import UnusableInput
from zkcert.metric.perturbation import perturbation, scales


class SAM(torch.optim.Optimizer):
    """Sharpness-aware minimisation with a base optimiser: w is updated with the gradient of the loss at w + e.

    For the gradient g of a mini-batch's loss at w: e = rho T_w^2 g / ||T_w g||_2, and the base optimiser steps from w
    with the gradient of the same mini-batch's loss at w + e. T_w by `variant` and `eta`, see
    `zkcert.metric.perturbation.scales`:

    sam           Foret et al., arXiv 2010.01412, Algorithm 1.
    asam-samsung  Kwon et al., arXiv 2102.11600, Algorithm 1; they take eta = 0.01 and a rho ten times SAM's.
    asam-all      the same with T_w = diag(|w|) for all parameters.

    module  whose parameters are trained; the base optimiser's have to be among them. Names and batch-norm layers are
            looked up in it.
    base    an optimiser, for instance torch.optim.SGD(module.parameters(), ...). Its momentum, and its weight decay
            with the weights w (not w + e), act on the gradient at w + e. Groups and state are shared with it, so
            learning-rate schedules and `state_dict` work as on the base.

    Either `step(closure)`, or between two backward passes `first_step` and `second_step`:

        loss(module(x)).backward(); optimizer.first_step(zero_grad=True)
        with frozen_statistics(module):
            loss(module(x)).backward()
        optimizer.second_step(zero_grad=True)

    Batch-norm: the second pass normalises by the statistics of the mini-batch at w + e, but these do not enter the
    running ones, which `step` sees to. Dropout draws a new mask in each pass. Parameters without a gradient are
    neither perturbed nor counted in the norm.
    """

    def __init__(
        self,
        module: nn.Module,
        base: torch.optim.Optimizer,
        *,
        rho: float = 0.05,
        variant: str = "sam",
        eta: float = 0.01,
    ) -> None:
        scales(variant, [], [], eta)  # the name is checked here, not at the first step
        if not rho > 0 or not eta >= 0:
            raise UnusableInput("rho must be positive and eta not negative")
        self.module, self.base, self.rho, self.variant, self.eta = module, base, rho, variant, eta
        self._names = {parameter: name for name, parameter in module.named_parameters()}
        self._before: dict[Tensor, Tensor] = {}
        if not all(p in self._names for group in base.param_groups for p in group["params"]):
            raise UnusableInput("the base optimiser has parameters that the module has not")
        super().__init__(base.param_groups, dict(base.defaults))
        self._share()

    def _share(self) -> None:
        self.param_groups, self.state = self.base.param_groups, self.base.state

    @torch.no_grad()
    def first_step(self, zero_grad: bool = False) -> float:
        """Move the parameters from w to w + e, by the gradients at w; returns rho ||T_w g||_2."""
        if self._before:
            raise RuntimeError("first_step has been called already; second_step comes next")
        parameters = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        if not parameters:
            raise RuntimeError("no parameter has a gradient: call backward before first_step")
        scale = scales(self.variant, [self._names[p] for p in parameters], parameters, self.eta)
        sharpness, moves = perturbation(scale, [p.grad for p in parameters], self.rho)
        self._before = {p: p.detach().clone() for p in parameters}
        for parameter, move in zip(parameters, moves, strict=True):
            parameter.add_(move)
        if zero_grad:
            self.zero_grad()
        return sharpness

    @torch.no_grad()
    def second_step(self, zero_grad: bool = False) -> None:
        """Move the parameters back to w exactly, then step with the base optimiser and the gradients at w + e."""
        if not self._before:
            raise RuntimeError("second_step without a first_step")
        self._restore()
        self.base.step()
        if zero_grad:
            self.zero_grad()

    @torch.no_grad()
    def _restore(self) -> None:
        for parameter, value in self._before.items():
            parameter.copy_(value)
        self._before = {}

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Both steps. closure() clears gradients, computes the loss, calls backward, returns the loss.

        It is called twice, at w and at w + e; the first loss is returned. The gradients left behind are those at
        w + e. If it raises, the parameters are those it was called with.
        """
        if closure is None:
            raise RuntimeError("SAM needs a closure, which evaluates the loss and its gradient twice")
        with torch.enable_grad():
            loss = closure()
        self.first_step()
        try:
            with torch.enable_grad(), frozen_statistics(self.module):
                closure()
        except BaseException:
            self._restore()
            raise
        self.second_step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """The base optimiser's: SAM has no state of its own between steps."""
        return self.base.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Inverse of `state_dict`."""
        self.base.load_state_dict(state_dict)
        self._share()


@contextmanager
def frozen_statistics(module: nn.Module) -> Iterator[None]:
    """Whatever passes run inside, batch-norm's running statistics (and their counts) are afterwards as before."""
    buffers = [b for layer in module.modules() if isinstance(layer, _NormBase) for b in layer.buffers(recurse=False)]
    before = [buffer.clone() for buffer in buffers]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in zip(buffers, before, strict=True):
                buffer.copy_(value)
