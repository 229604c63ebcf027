"""The identities of functions of single entries, stated again from docs/spec; what all statements are made of."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from circuits.compile import Certificate
from circuits.language.forms import View
from circuits.language.sources import ONCE
from circuits.language.tensors import Tensor
from circuits.value import Value
from prover.execution.witness import Witness
from tests.semantics.functions import FUNCTIONS


class StatedActivations:
    """out: the left sides by name, on whole values (Python integers); sums: those of gradients, by parameter."""

    certificate: Certificate
    w: Witness
    passes: int
    out: dict[str, list[np.ndarray]]
    sums: dict[str, np.ndarray]

    def state(self, name: str, value: np.ndarray) -> None:
        self.out.setdefault(name, []).append(value)

    def value(self, t: Tensor | View | Value) -> np.ndarray:
        """Values (unrolled axis first); of a wire inside one column, without that axis."""
        if isinstance(t, Value):
            return self.value(t.tensor)
        if isinstance(t, View):
            return self.value(t.tensor)[0] if t.sources[0] == ONCE else self.value(t.tensor)
        return sum(self.w.array(t)[i].astype(object) << d.shift for i, d in enumerate(t.digits))

    def digits(self, t: Tensor) -> np.ndarray:
        return self.w.array(t).astype(object)

    def on_passes(self, v) -> np.ndarray:
        """A network value with one entry per pass."""
        every = range(self.passes)
        parts = [part.coef * self.value(part.tensor)[[part.index(p) for p in every]] for part in v.parts]
        for n, part in enumerate(v.parts):
            if part.channels is not None:
                own = [parts[n][:, :, c] if c >= 0 else np.zeros_like(parts[n][:, :, 0]) for c in part.channels]
                parts[n] = np.stack(own, axis=2)
        return sum(parts)

    def clamp(self, layer, low: int, high: int, label: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Inner values and the bits above and below."""
        values = (layer.inner, layer.above, layer.below, layer.excess)
        q, u, l, e = (self.value(v.tensor) for v in values)
        self.state(f"{layer.name}/{label}/value", q + u + (u - l) * e - self.on_passes(layer.x))
        self.state(f"{layer.name}/{label}/low", l * (q - low))
        self.state(f"{layer.name}/{label}/high", u * (q - high + 1))
        self.state(f"{layer.name}/{label}/inside", (1 - u - l) * (low + 1 + e - q))
        return q, u, l

    def hardsigmoid(self, node, layer) -> None:
        name, three = layer.name, 3 << 32
        q, u, l = self.clamp(layer, -three, three, "clamp")
        y, rem = self.value(layer.y.tensor), self.value(layer.remainder)
        self.state(f"{name}/forward/sixth", 6 * y + rem - (q + u) - three - 3)
        if layer.dx is not None:
            dx, rem = self.value(layer.dx.tensor), self.value(layer.remainder_back)
            dy = self.on_passes(layer.dy).reshape(q.shape)
            self.state(f"{name}/backward/sixth", 6 * dx + rem - (1 - u - l) * dy - 3)

    def hardswish(self, node, layer) -> None:
        name, three = layer.name, 3 << 32
        q, u, l = self.clamp(layer, -three, three, "clamp")
        y, rem = self.value(layer.y.tensor), self.value(layer.run.remainder)
        z = self.on_passes(layer.x)
        self.state(f"{name}/forward/y", z * (q + u + three) + three - 2 * three * y - rem)
        if layer.dx is not None:
            dx, rem = self.value(layer.dx.tensor), self.value(layer.run_input.remainder)
            dy = self.on_passes(layer.dy).reshape(q.shape)
            total = dy * (2 * (q + u) + three * (1 - u + l))
            self.state(f"{name}/input-gradient/dx", total + three - 2 * three * dx - rem)

    def function(self, node, layer) -> None:
        name, known = layer.name, FUNCTIONS[node["function"]]
        named = ("segment", "offset", "over", "under", "y", "slope", "bend", "turn", "turn_rest", "step", "step_rest")
        g, t, a, b, y, d, s, w, r, v, q = (self.value(getattr(layer, which).tensor) for which in named)
        self.state(f"{name}/forward/split", ((g + a - b) << 22) + t + (1 << 21) - self.on_passes(layer.x))
        self.state(f"{name}/forward/over", a * (g - 1024 * known.high))
        self.state(f"{name}/forward/under", b * (g - 1024 * known.low + 1))
        self.state(f"{name}/forward/turn", s * t + (1 << 21) - (w << 22) - r)
        self.state(f"{name}/forward/step", (d - w) * t + (1 << 31) - (v << 32) - q)
        middle = y - v - ((a << 22) if known.above is None else 0)
        for k, component in enumerate((g, middle, d - 2 * w, s)):
            self.state(f"{name}/segment/{k}", component)
        if layer.dx is not None:
            dx, rem = self.value(layer.dx.tensor), self.value(layer.run_input.remainder)
            dy = self.on_passes(layer.dy).reshape(d.shape)
            self.state(f"{name}/input-gradient/dx", d * dy + (1 << 31) - (dx << 32) - rem)

    def hardtanh(self, node, layer) -> None:
        name, low, high = layer.name, int(node["low"] * 2**32), int(node["high"] * 2**32)
        q, u, l = self.clamp(layer, low, high, "forward")
        if layer.dx is not None:
            dy = self.on_passes(layer.dy).reshape(q.shape)
            self.state(f"{name}/backward/gradient", (1 - u - l) * dy - self.value(layer.dx.tensor))

    def relu(self, node, layer) -> None:
        name, z, y = layer.name, self.on_passes(layer.x), self.value(layer.y.tensor)
        bit, magnitude = self.value(layer.bit), self.value(layer.magnitude)
        self.state(f"{name}/forward/output", bit * magnitude + bit - y)
        if name not in self.certificate.net.rectifiers:
            self.state(f"{name}/forward/sign", 2 * y - magnitude - bit - z)
        else:
            assert np.array_equal(z, 2 * y - magnitude - bit)
        if layer.dx is not None:
            dy = self.on_passes(layer.dy).reshape(bit.shape)
            self.state(f"{name}/backward/gradient", bit * dy - self.value(layer.dx.tensor))

    def leaky_relu(self, node, layer) -> None:
        name, z, half = layer.name, self.on_passes(layer.x), 1 << 31
        bit, magnitude = self.value(layer.bit), self.value(layer.magnitude)
        self.state(f"{name}/sign/sign", bit * (2 * magnitude + 1) - magnitude - z)
        slope = (Fraction(repr(node["negative_slope"])) * (1 << 33) + 1) // 2
        factor = slope + ((1 << 32) - slope) * bit
        rem = self.value(layer.run.remainder)
        self.state(f"{name}/forward/y", factor * z + half - (self.on_passes(layer.y) << 32) - rem)
        if layer.dx is not None:
            dy, rem = self.on_passes(layer.dy).reshape(bit.shape), self.value(layer.run_input.remainder)
            total = factor * dy + half - (self.value(layer.dx.tensor) << 32)
            self.state(f"{name}/input-gradient/dx", total - rem)

    def prelu(self, node, layer) -> None:
        name, z, half = layer.name, self.on_passes(layer.x), 1 << 31
        values = (layer.positive, layer.bit, layer.magnitude)
        q, bit, magnitude = (self.value(v.tensor) for v in values)
        self.state(f"{name}/sign/positive", bit * (magnitude + 1) - q)
        self.state(f"{name}/sign/sign", 2 * q - magnitude - bit - z)
        slope = self.value(layer.weight).reshape(self.passes, 1, -1, *[1] * (z.ndim - 3))
        below = q - magnitude - bit
        rem = self.value(layer.run.remainder)
        self.state(f"{name}/forward/y", slope * below + half - ((self.on_passes(layer.y) - q) << 32) - rem)
        dy = self.on_passes(layer.dy).reshape(q.shape)
        if layer.dx is not None:
            kept, dx, rem = (self.value(t) for t in (layer.kept.tensor, layer.dx.tensor, layer.run_input.remainder))
            self.state(f"{name}/kept/kept", bit * dy - kept)
            self.state(f"{name}/input-gradient/dx", slope * (dy - kept) + half - ((dx - kept) << 32) - rem)
        rest = tuple(i for i in range(1, z.ndim) if i != 2 or layer.weight.shape == (1,))
        self.sums[node["weight"]] = (dy * below).sum(axis=rest)
