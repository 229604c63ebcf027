"""The probe in exact integers: all passes of all steps, and the witness they leave."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from circuits.compile import Certificate
from circuits.head.statistic import Statistic
from zkcert.errors import RangeOverflow

from .head.score import ScoreExecutor, StepSizeExecutor
from .head.softmax import SoftmaxExecutor
from .layers import Executor
from .probe import ParameterExecutor
from .sample import fill_samples
from .values import fill_total
from .witness import Witness

U8 = NDArray[np.uint8]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]


class Reference(Protocol):
    """What PyTorch finds: float64 of each step."""

    @property
    def sharpness(self) -> NDArray[np.float64]: ...

    @property
    def log_ratio(self) -> NDArray[np.float64]: ...


@dataclass
class Trace:
    """What an execution found: values y_t (log ratios or sharpnesses, as the statistic has them), scales k_t, losses
    (2^-56, batch sums) and norms n."""

    ys: list[int]
    scales: list[int]
    losses: list[int]
    norms: list[int]
    name: str = "std-log-ratio"
    ddof: int = 0

    @property
    def statistic(self) -> Statistic:
        return Statistic(self.name, len(self.ys), self.ddof)

    def difference(self, reference: Reference) -> float:
        """The largest difference of a log ratio, or of the logarithm of a sharpness, from that of the same probe."""
        found = np.array([y / 2.0**self.statistic.bits for y in self.ys])
        if self.statistic.of_ratios:
            return float(np.abs(found - reference.log_ratio).max())
        with np.errstate(divide="ignore"):
            return float(np.abs(np.log(found) - np.log(reference.sharpness)).max())

    @property
    def score(self) -> float:
        return self.statistic.score(self.variance)

    @property
    def variance(self) -> int:
        """What the statistic gathers."""
        return self.statistic.gathered(self.ys)


def execute(certificate: Certificate, samples: U8, rho: U8, x: I32 | None = None) -> tuple[Witness, Trace]:
    """Run the probe and fill the witness (all but the threshold) of a certificate that is closed.

    samples: uint8 (T, B, bytes), rho: uint8 (T, B, 1280); x: as in `Witness`. Raises RangeOverflow, GradientTooSmall.
    """
    run = _Run(certificate, Witness(certificate.layout, x))
    fill_samples(certificate.samples, run.w, samples, rho)
    for name, tensor in certificate.net.weights.items():
        run.w.put(tensor, certificate.net.arranged(name, certificate.plan.weights[name]), 0)
    for p in range(certificate.net.passes):
        try:
            run.execute_pass(p)
        except RangeOverflow as error:
            where = error.where or f"step {p // 2}, pass at {'w + d' if p % 2 else 'w'}"
            raise RangeOverflow(error.layer, error.value, error.limit, error.advice, where) from error
    run.finish()
    return run.w, run.trace


def fill_threshold(certificate: Certificate, w: Witness, trace: Trace) -> None:
    """Fill the slack of the threshold after `execute`; raises ThresholdExceeded."""
    ScoreExecutor.of(certificate.score).finish_threshold(w, trace.ys)


class _Run:
    """The executors of a certificate, and what they have found so far."""

    def __init__(self, certificate: Certificate, w: Witness) -> None:
        kind = certificate.score.statistic
        self.certificate, self.w, self.trace = certificate, w, Trace([], [], [], [], kind.name, kind.ddof)
        self.steps_q: list[int] = []
        self.layers = [Executor.of(layer) for layer in certificate.layers]
        self.head = SoftmaxExecutor(certificate.head)
        self.size, self.score = StepSizeExecutor(certificate.size), ScoreExecutor.of(certificate.score)
        self.parameters = {param.g.name: ParameterExecutor(param) for param in certificate.parameters}

    def execute_pass(self, p: int) -> None:
        """Fill the witness of pass p, and what step p // 2 needs before its next pass."""
        c, w, trace, t = self.certificate, self.w, self.trace, p // 2
        for i, layer in enumerate(self.layers):
            layer.forward(w, p)
            if i in c.sums:
                fill_total(c.sums[i], w, p)
        self.head.forward(w, p)
        if p % 2 == 0:
            trace.losses.append(self.head.batch_loss(w, t))
            trace.scales.append(self.head.scale_of(t))
        tied: dict[str, list[I64]] = {}
        for i, reaches in reversed([*enumerate(c.connections.reaches)]):
            if i in c.gradient_sums:
                fill_total(c.gradient_sums[i], w, p)
            for name, acc in (self.layers[i].backward(w, p) if reaches else {}).items():
                if self.parameters[name].parameter.g.readers > 1:
                    if name not in tied:
                        tied[name] = acc
                        continue
                    acc = [a + b for a, b in zip_longest(tied[name], acc, fillvalue=np.int64(0))]
                if p % 2 == 0:
                    self.parameters[name].first_pass(w, t, acc)
                else:
                    self.parameters[name].second_pass(w, t, acc)
        if p % 2 == 0:
            self._step(t)

    def _step(self, t: int) -> None:
        """Norm, step size and value of step t, and the perturbed weights of its second pass."""
        w, trace = self.w, self.trace
        n = sum(param.norm(w, t) for param in self.parameters.values())
        q = self.size.solve(n, t)
        trace.norms.append(n)
        self.steps_q.append(q)
        trace.ys.append(self.score.value(n, trace.losses[-1], trace.scales[-1]))
        if t + 1 < self.certificate.net.steps:
            for param in self.parameters.values():
                param.perturb(w, t, q)

    def finish(self) -> None:
        """Fill what is filled once every pass is done."""
        w, trace = self.w, self.trace
        self.head.finish(w, trace.losses)
        self.size.finish(w, trace.norms, self.steps_q)
        self.score.finish(w, trace.norms, trace.losses, trace.scales, trace.ys)
