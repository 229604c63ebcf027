"""The identities of tokens and of layers of sequences, stated again from docs/spec: see `stated`."""

from __future__ import annotations

from math import isqrt

import numpy as np

from tests.soundness.stated import StatedActivations

HALF, WHOLE = 1 << 31, 32
SEGMENT = 1 << 22
LAST = 23 << 10  # the segment from which on exp(-x) is zero


class StatedSequences(StatedActivations):
    """`affine`, of the class that has this one as its base, states a product with a weight."""

    def tokens(self) -> None:
        samples = self.certificate.samples
        data, bits = self.value(samples.bytes), self.value(samples.onehot)
        data = data.reshape(*data.shape[:2], -1, self.plan.label_bytes)
        number = (data * [256**i for i in range(self.plan.label_bytes)]).sum(axis=-1)
        self.state("token/one", bits.sum(axis=2) - 1)
        self.state("token/index", (bits * np.arange(bits.shape[2])[:, None]).sum(axis=2) - number)

    def embedding(self, node, layer) -> None:
        bits = self.on_passes(layer.x)[..., :-1]
        table, y = self.digits(layer.weight), self.digits(layer.y.tensor)
        for d in range(2):
            self.state(f"{layer.name}/forward/digit{d}", table[d].swapaxes(1, 2)[:, None] @ bits - y[d])
        self.sums[node["weight"]] = (bits @ self.on_passes(layer.dy).swapaxes(2, 3)).sum(axis=1)

    def unembedding(self, node, layer) -> None:
        of_embedding = self.sums.pop(node["weight"], 0)
        self.affine({**node, "bias": None}, layer, self.on_passes(layer.x), None)
        self.sums[node["weight"]] = self.sums[node["weight"]] + (of_embedding << WHOLE)

    def positions(self, node, layer) -> None:
        w = self.value(layer.weight)[:, None]
        self.state(f"{layer.name}/forward/sum", self.on_passes(layer.x) + w - self.value(layer.y.tensor))
        self.sums[node["weight"]] = self.on_passes(layer.dy).sum(axis=1)

    def prepend(self, node, layer) -> None:
        w, y, dy = self.value(layer.weight)[:, None], self.value(layer.y.tensor), self.on_passes(layer.dy)
        self.state(f"{layer.name}/first/first", y[..., 0] - w)
        self.state(f"{layer.name}/later/later", y[..., 1:] - self.on_passes(layer.x))
        if layer.dx is not None:
            self.state(f"{layer.name}/input-gradient/later", self.value(layer.dx.tensor) - dy[..., 1:])
        self.sums[node["weight"]] = dy[..., 0].sum(axis=1)

    def take(self, node, layer) -> None:
        at = node["position"]
        self.state(f"{layer.name}/forward/taken", self.value(layer.y.tensor)[..., 0] - self.on_passes(layer.x)[..., at])
        if layer.dx is not None:
            dx = self.value(layer.dx.tensor)
            put = np.zeros_like(dx)
            put[..., at] = self.on_passes(layer.dy).reshape(put[..., at].shape)
            self.state(f"{layer.name}/input-gradient/put", dx - put)

    def line(self, node, layer) -> None:
        pass

    def attention(self, node, layer) -> None:
        name, heads = layer.name, node["heads"]
        for total in [layer.total] if layer.total else []:
            self.state(f"{total.value.tensor.name}/sum", self.on_passes(total.x) - self.value(total.value.tensor))
        read = self.on_passes(layer.read)
        count, channels = read.shape[3], read.shape[2] // 3
        pairs = [(i, j) for i in range(count) for j in range(count) if j <= i or not node["causal"]]
        i, j = (list(places) for places in zip(*pairs, strict=True))

        def by_head(x: np.ndarray) -> np.ndarray:  # (pass, b, head, channel, position)
            return x.reshape(*x.shape[:2], heads, -1, count)

        def added(x: np.ndarray, places: list[int]) -> np.ndarray:
            """Of pairs that have the same place."""
            out = np.zeros((*x.shape[:-1], count), object)
            for t, place in enumerate(places):
                out[..., place] += x[..., t]
            return out

        def rescaled(label: str, exact: np.ndarray, out: np.ndarray, run) -> None:
            rem = self.value(run.remainder)
            self.state(f"{name}/{label}", (exact + HALF - (out << WHOLE)).reshape(rem.shape) - rem)

        def times(label: str, x: np.ndarray, out: np.ndarray, run) -> None:
            factor = (isqrt((1 << 66) // (channels // heads)) + 1) // 2
            rescaled(f"{label}/scaled", factor * x, out, run)

        def turned(x: np.ndarray) -> np.ndarray:  # constraints have the channel behind the position
            return x.swapaxes(3, 4)

        q = self.value(layer.scaled.tensor)
        times("scaled", read[:, :, :channels], q, layer.run_scaled)
        q, k, v = by_head(q), *(by_head(read[:, :, n * channels : (n + 1) * channels]) for n in (1, 2))
        names = ("top", "segment", "offset", "over", "is_top", "e", "slope", "bend", "turn", "turn_rest", "step")
        top, g, t, over, bit, e, d, s, w, w_rest, step = (self.value(getattr(layer, n).tensor) for n in names)
        step_rest, total, p, slack = (self.value(getattr(layer, n).tensor) for n in ("step_rest", "sum", "p", "slack"))
        x = t + SEGMENT * (g + over) + (1 << 21)
        rescaled("scores/z", (q[..., i] * k[..., j]).sum(axis=3), top[..., i] - x, layer.run_scores)
        self.state(f"{name}/max/attained", bit * x)
        self.state(f"{name}/max/over", over * (g - LAST))
        self.state(f"{name}/one-max/one", added(bit, i) - 1)
        self.state(f"{name}/exp/turn", s * t + (1 << 21) - w * SEGMENT - w_rest)
        self.state(f"{name}/exp/step", (d + w) * t + HALF - (step << WHOLE) - step_rest)
        for n, component in enumerate((g, e - step, d, s)):
            self.state(f"{name}/segment/{n}", component)
        self.state(f"{name}/sum/sum", added(e, i) - total)
        rest, every = self.value(layer.run_p.remainder), total[..., i]
        self.state(f"{name}/p/p", p * every + rest - (e << WHOLE))
        self.state(f"{name}/p/below", rest + slack + 1 - every)
        y = by_head(self.value(layer.y.tensor))
        rescaled("forward/sum", turned(added(p[:, :, :, None] * v[..., j], i)), turned(y), layer.run_y)
        if layer.dx is None:
            return

        dy, dx = by_head(self.on_passes(layer.dy)), self.value(layer.dx.tensor)
        dk, dv = (by_head(dx[:, :, n * channels : (n + 1) * channels]) for n in (1, 2))
        m, dz, u = (self.value(x.tensor) for x in (layer.m, layer.dz, layer.u))
        rescaled("dv/sum", turned(added(p[:, :, :, None] * dy[..., i], j)), turned(dv), layer.run_dv)
        rescaled("dp/dp", (dy[..., i] * v[..., j]).sum(axis=3), m, layer.run_m)
        rescaled("mean/mean", added(p * m, i), u, layer.run_u)
        rescaled("dz/dz", p * (m - u[..., i]), dz, layer.run_dz)
        rescaled("dk/sum", turned(added(dz[:, :, :, None] * q[..., i], j)), turned(dk), layer.run_dk)
        dr = self.value(layer.dr.tensor)
        rescaled("dq/sum", turned(added(dz[:, :, :, None] * k[..., j], i)), turned(by_head(dr)), layer.run_dr)
        times("dq-scaled", dr, dx[:, :, :channels], layer.run_dq)
