"""A layer by itself, between inputs and a gradient of one's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from circuits.language.layout import Layout
from circuits.language.tensors import Tensor
from circuits.layers import LAYERS, Layer
from circuits.net import Net
from prover.execution.layers import Executor
from prover.execution.witness import Witness
from tests.soundness.determined import Contradiction, Knowledge
from tests.soundness.unrolled import Unrolled
from zkcert.errors import RangeOverflow

ONE = 1 << 32
MOST = (1 << 43) - (1 << 21) - 1  # the largest value
LEAST = -(1 << 43) - (1 << 21)
HEAVY = (1 << 39) - (1 << 21) - 1  # the largest weight


class Alone:
    """A layer type with inputs, gradient and weights of one's own: known are these, and nothing else."""

    def __init__(
        self,
        op: str,
        shapes: Sequence[tuple[int, ...]],
        xs: Sequence[np.ndarray],
        dy: Sequence[int] = (),
        weights: Mapping[str, Sequence[int]] | None = None,
        **fields: Any,
    ) -> None:
        """shapes: of inputs of one sample; xs: their entries by sample; dy: repeated as far as the output goes."""
        batch, spec = len(xs[0]), LAYERS[op].spec
        self.net = net = Net(1, batch)
        self.weights = dict(weights or {})
        self.node = {"op": op, "name": "layer", **{key: key for key in spec.arrays(fixed=False)}, **fields}
        full = {**spec.full(self.node), **{f"{key}_shape": [len(w)] for key, w in self.weights.items()}}
        # three quarters of an input are zero: whatever layers read is wider than a tensor
        self.inputs = [net.activation(f"x{i}", self.inner(batch, shape)) for i, shape in enumerate(shapes)]
        read = [4 * v for v in self.inputs] if spec.together is None else self.inputs
        self.layer: Layer = LAYERS[op](net, full, read, tuple(shapes[0]))
        self.dy = net.activation("dy", self.layer.y.shape)
        self.layer.declare_backward(net, self.dy, [True] * len(shapes))
        self.w = Witness(Layout(net.circuit, smallest_cut=1))
        self.known: list[Tensor] = [v.tensor for v in (*self.inputs, self.dy)]
        self.scale = read[0].parts[0].coef
        for v, x in zip(self.inputs, xs, strict=True):
            assert not (x % self.scale).any()
            self.w.put(v.tensor, x.reshape(1, *v.shape) // self.scale)
        self.gradient = np.resize(np.array(dy or [0], np.int64), self.dy.shape)
        self.w.put(self.dy.tensor, self.gradient[None])
        for key, values in self.weights.items():
            self.known.append(net.weights[key])
            self.w.put(net.weights[key], np.array(values, np.int64)[None])
        self.xs = xs

    @staticmethod
    def inner(batch: int, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (batch, shape[0], shape[1] * shape[2]) if len(shape) == 3 else (batch, *shape)

    def run(self) -> None:
        """The honest execution; RangeOverflow where there is none."""
        executor = Executor.of(self.layer)
        executor.forward(self.w, 0)
        executor.backward(self.w, 0)

    def knowledge(
        self, known: Sequence[Tensor] = (), bounds: Mapping[int, tuple[int, int]] | None = None
    ) -> tuple[Unrolled, list[int], Knowledge]:
        """With more tensors known than the inputs, or other bounds than the circuit's."""
        u = Unrolled(self.net.circuit)
        given = {v for v, (t, _, _) in enumerate(u.names) if t in self.known or t in known}
        values = u.values(self.w)
        return u, values, Knowledge(u, values, [v for v in range(len(u.names)) if v not in given], bounds=bounds)

    def determined(self, *roots: Tensor) -> list[str]:
        """Digits that do not follow; every equation holds, and what follows is what was executed.

        roots: tensors of which every other number, on either side and below zero, is excluded first.
        """
        self.run()
        u, values, k = self.knowledge(roots)
        assert [e.label for e in u.equations if e.value(values)] == []
        for v in (v for t in roots for v in u.wholes(t)):
            lo, hi = u.bounds[v]
            for others in ((lo, -1), (0, values[v] - 1), (values[v] + 1, hi)):
                if others[0] <= others[1]:
                    with pytest.raises(Contradiction):
                        self.knowledge(bounds={v: others})[2].solve()
        k.solve(patient=True)
        assert all(lo <= x <= hi for lo, x, hi in zip(k.lo, values, k.hi, strict=True))
        return [u.describe(v) for v in k.free()]

    def refused(self) -> None:
        """No digits at all satisfy the equations, and the executor stops."""
        with pytest.raises(RangeOverflow):
            self.run()
        _, _, k = self.knowledge()
        with pytest.raises(Contradiction):
            k.solve(patient=True)


def line(op: str, values: Sequence[int], dy: Sequence[int] = (ONE,), **more: Any) -> Alone:
    """Of features: one sample."""
    return Alone(op, [(len(values),)], [np.array([values], np.int64)], dy, **more)


def quarters(*values: int) -> list[int]:
    """Multiples of four next to values, on both sides."""
    return sorted({4 * q for v in values for q in (v // 4 - 1, v // 4, v // 4 + 1)})


DELTAS = (ONE, -ONE, 1, -1, 0, MOST, LEAST, 3, 1 << 31, -(1 << 31))
SMALLER = (ONE, -ONE, 1, -1, 0, 3, 1 << 31, -(1 << 31))  # for slopes above 1, and rounding
