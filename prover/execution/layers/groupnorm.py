"""How `circuits.layers.groupnorm` is filled."""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from circuits.language.tensors import DIGIT_BITS, Tensor
from circuits.layers.groupnorm import GroupNorm
from circuits.layers.spec import Node
from circuits.net import FRACTION_BITS
from circuits.value import Value

from ..arithmetic import I64, floor_limbs, limb_products
from ..values import fill_contraction, put_output, read_value, value_limbs
from ..witness import Part, Witness
from ..workers import by_rows
from .base import Accumulators, Executor
from .pytorch import Read, TorchForm, TorchLayer

HALF = 1 << 31
Ints = NDArray[np.object_]


def _run(F: Any, node: Node, tensors: Mapping[str, Any], x: Any) -> Any:
    groups, weight, bias, eps = node["groups"], tensors["weight"], tensors["bias"], node["eps"]
    if not node["each"] or x.dim() == 2:
        return F.group_norm(x, groups, weight, bias, eps)
    batch, channels, *extent = x.shape
    flat = x.movedim(1, -1).reshape(-1, channels)  # a sample for each position
    return F.group_norm(flat, groups, weight, bias, eps).reshape(batch, *extent, channels).movedim(-1, 1)


def _group_fields(read: Read, num_groups: Any, eps: Any, affine: Any = True) -> dict[str, Any]:
    if not affine:
        raise ValueError(f"{read.module}: only with a weight: affine=True")
    return {"groups": num_groups, "eps": eps, "each": False}


def _layer_fields(read: Read, normalized_shape: Any, eps: Any, elementwise_affine: Any = True) -> dict[str, Any]:
    if not elementwise_affine:
        raise ValueError(f"{read.module}: only with a weight: elementwise_affine=True")
    if read.rank() != 2:
        raise ValueError(f"{read.module}: over channels that stand last; of images [C, H, W] as a GroupNorm(1, C)")
    return {"groups": 1, "eps": eps, "each": False}


def _channel_fields(read: Read, eps: Any) -> dict[str, Any]:
    return {"groups": 1, "eps": eps, "each": True}


class GroupNormExecutor(Executor):
    """Statistics of each sample, what is normalised by them, and gradients."""

    layer_type = GroupNorm
    layer: GroupNorm
    torch = TorchLayer(
        run=_run,
        forms=(
            TorchForm(("torch.nn.GroupNorm",), _group_fields),
            TorchForm(("torch.nn.LayerNorm",), _layer_fields),
            TorchForm(("zkcert.sources.last.ChannelNorm",), _channel_fields),
        ),
    )

    def _whole(self, p: int) -> Part:
        return Part(("pass", "b"), p, slice(0, self.layer.b.size))

    def _grouped(self, x: I64) -> I64:
        """(rows, channels, ...) as (rows, groups, channels of a group, positions or 1)."""
        return x.reshape(len(x), self.layer.groups, self.layer.c.size, -1)

    def _summed(self, x: I64) -> I64:
        """Sums (rows, groups, positions or 1) of what `_grouped` gives."""
        return x.sum(axis=2) if self.layer.each else x.sum(axis=(2, 3))[..., None]

    def _spread(self, x: I64) -> I64:
        """A statistic (rows, groups, ...) as something that broadcasts with what `_grouped` gives."""
        return x.reshape(*x.shape[:2], 1, -1)

    def _of_centred(self, v: Value, mean: Value, a: list[I64], w: Witness, p: int, rows: slice) -> list[I64]:
        """Limbs of A (v - mean), a being A's."""
        own = limb_products([self._grouped(d[rows].astype(np.int64)) for d in value_limbs(v, w, p)], a)
        means = limb_products([self._spread(d[rows].astype(np.int64)) for d in value_limbs(mean, w, p)], a)
        return [x - means[k] if k < len(means) else x for k, x in enumerate(own)]

    def _put_mean(self, v: Value, out: Value, rest: Tensor, w: Witness, p: int) -> None:
        n = self.layer.n
        mean, left = np.divmod(self._summed(self._grouped(read_value(v, w, p))) + n // 2, n)
        w.put(out.tensor, mean, p)
        w.put(rest, left, p)

    def forward(self, w: Witness, p: int) -> None:
        layer = self.layer
        self._put_mean(layer.x, layer.mean, layer.mean_rest.tensor, w, p)
        self._put_root(w, p)
        a = [self._spread(d.astype(np.int64)) for d in value_limbs(layer.a, w, p)]

        def normalise(rows: slice) -> None:
            own = self._of_centred(layer.x, layer.mean, [d[rows] for d in a], w, p, rows)
            h, rem = floor_limbs(own, HALF, FRACTION_BITS, f"{layer.name} normalised")
            w.put(layer.h.tensor, h, p, rows)
            fill_contraction(layer.run_h, w, own, rem, p, rows)

        by_rows(layer.x.shape, normalise)
        weight, wide = w.digits(layer.weight, p), [1, -1, *[1] * len(layer.positions)]
        bias = [d.reshape(wide) << 10 for d in w.digits(layer.bias, p)] if layer.bias else [np.array(0)] * 2

        def scale(rows: slice) -> None:
            h = [d[rows].astype(np.int64) for d in value_limbs(layer.h, w, p)]
            own = limb_products([d.reshape(wide) for d in weight], h)
            limbs = [own[0], own[1] + bias[0], own[2] + bias[1]]
            y, rem = floor_limbs(limbs, HALF, FRACTION_BITS, f"{layer.name} output")
            put_output(layer.out, w, y, p, rows)
            fill_contraction(layer.run, w, own, rem, p, rows)

        by_rows(layer.x.shape, scale)

    def _put_root(self, w: Witness, p: int) -> None:
        layer, n = self.layer, self.layer.n
        products, squares = self._correlated(layer.x, layer.x, w, p)
        w.put(layer.squares.tensor, squares, p)
        w.fill_carries_of(layer.squares_con.carries[0], layer.squares_con.out, products, self._whole(p))
        mean, rest = (w.value(t, p).astype(object) for t in (layer.mean.tensor, layer.mean_rest.tensor))
        v = squares - n * mean * mean - 2 * mean * (rest - n // 2)
        m = v + layer.epsilon
        a: Ints = np.array([isqrt((n << 128) // int(x)) for x in m.ravel()], object).reshape(m.shape)
        w.put(layer.v.tensor, v, p)
        w.put(layer.a.tensor, a, p)
        w.put(layer.aa.tensor, a * a, p)
        w.put(layer.low.tensor, (n << 128) - a * a * m, p)
        w.put(layer.high.tensor, (a + 1) * (a + 1) * m - (n << 128) - 1, p)
        for steps in layer.root_con.carries:
            w.fill_carries_of(steps, layer.root_con.out, None, self._whole(p))

    def _correlated(self, x: Value, y: Value, w: Witness, p: int) -> tuple[list[I64], Ints]:
        """Sums of products for each statistic: limbs, and whole."""
        limbs = [[self._grouped(d.astype(np.int64)) for d in value_limbs(v, w, p)] for v in (x, y)]
        sizes = [axis.size for axis in self.layer.stats.axes[1:]]
        sums = [self._summed(limb).reshape(sizes) for limb in limb_products(*limbs)]
        return sums, sum(limb.astype(object) << DIGIT_BITS * k for k, limb in enumerate(sums))

    def backward(self, w: Witness, p: int) -> Accumulators:
        layer = self.layer
        if layer.dx is not None:
            self._put_input_gradient(w, p, layer.dx)
        dy, h = value_limbs(layer.dy, w, p), value_limbs(layer.h, w, p)
        axes = (0, *range(2, len(layer.x.shape)))
        products = limb_products([d.astype(np.int64) for d in dy], [d.astype(np.int64) for d in h])
        found = {layer.weight_name: [x.sum(axis=axes) for x in products]}
        if layer.bias:
            bias = sum(d.sum(axis=axes, dtype=np.int64) << (DIGIT_BITS * k) for k, d in enumerate(dy))
            found[layer.bias_name] = [np.asarray(bias)]
        return found

    def _put_input_gradient(self, w: Witness, p: int, dx: Value) -> None:
        layer = self.layer
        weight = [d.reshape(1, -1, *[1] * len(layer.positions)) for d in w.digits(layer.weight, p)]

        def scale(rows: slice) -> None:
            own = limb_products(weight, [d[rows].astype(np.int64) for d in value_limbs(layer.dy, w, p)])
            e, rem = floor_limbs(own, HALF, FRACTION_BITS, f"{layer.name} scaled gradient")
            w.put(layer.e.tensor, e, p, rows)
            fill_contraction(layer.run_e, w, own, rem, p, rows)

        by_rows(layer.x.shape, scale)
        self._put_mean(layer.e, layer.m1, layer.m1_rest.tensor, w, p)
        self._put_correlation(w, p)
        a, m2 = ([d.astype(np.int64) for d in value_limbs(v, w, p)] for v in (layer.a, layer.m2))
        own = limb_products(a, m2)
        slope, rem = floor_limbs(own, HALF, FRACTION_BITS, f"{layer.name} correlation")
        w.put(layer.slope.tensor, slope, p)
        fill_contraction(layer.run_slope, w, own, rem, p, slice(0, layer.b.size))
        a = [self._spread(d) for d in a]
        back = [self._spread(d.astype(np.int64)) for d in value_limbs(layer.slope, w, p)]

        def gradient(rows: slice) -> None:
            h = [self._grouped(d[rows].astype(np.int64)) for d in value_limbs(layer.h, w, p)]
            own = self._of_centred(layer.e, layer.m1, [d[rows] for d in a], w, p, rows)
            own = [x - y for x, y in zip(own, limb_products([d[rows] for d in back], h), strict=True)]
            values, rem = floor_limbs(own, HALF, FRACTION_BITS, f"{layer.name} input gradient")
            w.put(dx.tensor, values, p, rows)
            fill_contraction(layer.run_input, w, own, rem, p, rows)

        by_rows(dx.shape, gradient)

    def _put_correlation(self, w: Witness, p: int) -> None:
        layer, unit = self.layer, self.layer.n << FRACTION_BITS
        products, total = self._correlated(layer.e, layer.h, w, p)
        w.put(layer.m2.tensor, (total + unit // 2) // unit, p)
        w.put(layer.m2_rest.tensor, (total + unit // 2) % unit, p)
        w.fill_carries_of(layer.m2_con.carries[0], layer.m2_con.out, products, self._whole(p))
