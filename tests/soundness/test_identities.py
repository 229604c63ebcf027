"""Every identity says what the specification says."""

from __future__ import annotations

import re
from fractions import Fraction
from math import floor, gcd, prod

import numpy as np
import pytest

from circuits.compile import Certificate
from circuits.head.constants import ONE
from circuits.head.exponential import Exponential
from circuits.head.logarithm import Logarithm
from circuits.language.constraints import Circuit
from circuits.language.layout import Layout
from circuits.language.tensors import Tensor
from prover.execution.witness import Witness
from tests.builders import (
    Case,
)
from tests.semantics.head import exp_factor, ln_constant
from tests.semantics.reference import LAYERS
from tests.soundness.honest import (
    CASES,
    STATED,
    honest,
    members,
)
from tests.soundness.stated_sequences import StatedSequences
from zkcert.core.field import P, f_from_fp


def random_witness(circuit: Circuit, rng: np.random.Generator) -> Witness:
    w = Witness(Layout(circuit))
    for t in circuit.tensors:
        for i, d in enumerate(t.digits):
            w.write(t, i, rng.integers(d.range.lo, d.range.hi + 1, t.sizes))
    return w


def statements(circuit: Circuit, w: Witness) -> dict[str, list[np.ndarray]]:
    """Left sides of all identities by name, those of one wide identity added up limb by limb: carries cancel. And the
    components of lookups."""
    out: dict[str, list[np.ndarray]] = {}
    for con, label, e, _ in members(circuit):
        name, first = re.fullmatch(r"([^\[]*)(?:\[(\d+):\d*\])?", label).groups()
        key = f"{con.name}/{name}"
        value = w.expression(e, con.out, con.summed).astype(object)
        if first is None or first == "0":
            out.setdefault(key, []).append(value)
        else:
            out[key][-1] = out[key][-1] + (value << 22 * int(first))
    for lookup in circuit.lookups:
        values = [w.form(form, lookup.out) for form in lookup.components]
        out.update({f"{lookup.name}/{k}": [value] for k, value in enumerate(values)})
    return out


class Specification(StatedSequences):
    """The left sides of all identities, stated again from docs/spec on whole values (Python integers)."""

    def __init__(self, case: Case, certificate: Certificate, w: Witness) -> None:
        self.model, self.plan, self.certificate, self.w = case.model, case.plan, certificate, w
        self.steps, self.passes = case.plan.steps, 2 * case.plan.steps - 1
        self.out: dict[str, list[np.ndarray]] = {}
        self.sums: dict[str, np.ndarray] = {}  # of gradients, by parameter
        self.tokens() if case.plan.kind == "tokens" else self.inputs()
        for node, layer in zip(case.plan.graph, certificate.layers, strict=True):
            getattr(self, node["op"])(node, layer)
        for kind, totals in (("sum", certificate.sums), ("dy", certificate.gradient_sums)):
            for i, total in totals.items():
                value = self.on_passes(total.x) - self.value(total.value.tensor)
                self.state(f"{self.plan.graph[i]['name']}/{kind}/sum", value)
        self.softmax()
        for parameter in certificate.parameters:
            self.parameter(parameter)
        self.step_size()
        self.score()

    def inputs(self) -> None:
        plan, samples = self.plan, self.certificate.samples
        (channels, height, width), pad = plan.input["shape"], plan.input["pad"]
        data, x, onehot = (self.value(t) for t in (samples.bytes, samples.x.tensor, samples.onehot))
        per = 1 if plan.kind == "u8" else 6
        raw = data[..., : data.shape[-1] - plan.label_bytes].reshape(*data.shape[:2], channels, height, width, per)
        raw = (raw * [256**i for i in range(per)]).sum(axis=-1) - (0 if per == 1 else 1 << 43)
        raw = np.pad(raw, [(0, 0)] * 3 + [(pad, pad)] * 2).reshape(x.shape)
        for c in range(channels):
            slope, offset = plan.affine[0][c], plan.affine[1][c]
            total = slope * raw[:, :, c] + (offset - x[:, :, c]) * (1 if per == 1 else 1 << 16)
            if per == 6:
                total = total + (1 << 15) - self.value(samples.rounding[c][0])
            self.state(f"input/channel{c}/normalise", total)
        label = sum(data[..., i - plan.label_bytes] << (8 * i) for i in range(plan.label_bytes))
        self.state("label/one", onehot.sum(axis=-1) - 1)
        self.state("label/index", (onehot * range(plan.classes)).sum(axis=-1) - label)

    # -- layers

    def windows(self, node) -> np.ndarray:
        """index[k, s]: the position that output position s reads through kernel position k, or -1."""
        names = ["@input", *(other["name"] for other in self.plan.graph)]
        place = names.index(node["name"])
        shapes = dict(zip(names, [self.model.input_shape, *self.model.shapes], strict=True))
        size = shapes[node.get("inputs", [names[place - 1]])[0]][1:]
        kernel = node.get("kernel") or self.plan.weights[node["weight"]].shape[2:]
        pad, gap, out = node.get("padding", (0, 0)), node.get("dilation", (1, 1)), shapes[node["name"]][1:]
        index = np.full((*kernel, *out), -1)
        for i, j, y, x in np.ndindex(index.shape):
            r, c = y * node["stride"][0] + i * gap[0] - pad[0], x * node["stride"][1] + j * gap[1] - pad[1]
            if 0 <= r < size[0] and 0 <= c < size[1]:
                index[i, j, y, x] = r * size[1] + c
        return index.reshape(prod(kernel), prod(out))

    def conv2d(self, node, layer) -> None:
        index = self.windows(node)
        x = self.on_passes(layer.x)
        columns = np.where(index >= 0, x[..., np.maximum(index, 0)], 0)  # (pass, b, c, k, s)
        columns = np.swapaxes(columns, 2, 3)
        self.affine(node, layer, columns.reshape(*x.shape[:2], -1, index.shape[1]), index)

    def linear(self, node, layer) -> None:
        x = self.on_passes(layer.x)
        self.affine(node, layer, x.reshape(*x.shape[:2], -1, 1), None)

    def affine(self, node, layer, columns: np.ndarray, index: np.ndarray | None) -> None:
        name, half = layer.name, 1 << 31
        outputs, groups = self.plan.weights[node["weight"]].shape[0], node.get("groups", 1)
        own = self.value(layer.weight).reshape(self.passes, outputs, -1)
        places = 1 if index is None else len(index)
        every = np.arange(columns.shape[2]).reshape(places, groups, -1)  # (kernel position, group, channel)
        blocks = [every[:, o * groups // outputs].ravel() for o in range(outputs)]
        w = np.zeros((self.passes, outputs, columns.shape[2]), object)  # of all pairs of channels
        for o, inputs in enumerate(blocks):
            w[:, o, inputs] = own[:, o]
        total = w[:, None] @ columns
        if node["bias"]:
            total = total + (self.value(layer.bias)[:, None, :, None] << 32)
        rem = self.value(layer.run.remainder)
        z = self.on_passes(layer.y)
        self.state(f"{name}/forward/z", total.reshape(z.shape) + half - (z << 32) - rem.reshape(z.shape))
        if not hasattr(layer, "dy"):
            return
        dy = self.on_passes(layer.dy).reshape(total.shape)
        if layer.dx is not None:
            dx, rem = self.value(layer.dx.tensor), self.value(layer.run_input.remainder)
            back = np.swapaxes(w, 1, 2)[:, None] @ dy
            total = np.zeros_like(dx)
            if index is None:
                total = back.reshape(dx.shape)
            else:
                back = back.reshape(*dx.shape[:2], len(index), dx.shape[2], -1).swapaxes(2, 3)
                for k, s in np.argwhere(index >= 0):
                    total[..., index[k, s]] += back[..., k, s]
            self.state(f"{name}/input-gradient/dx", total + half - (dx << 32) - rem.reshape(dx.shape))
        sums = (dy @ np.swapaxes(columns, 2, 3)).sum(axis=1)
        self.sums[node["weight"]] = np.stack([sums[:, o, inputs] for o, inputs in enumerate(blocks)], axis=1)
        if node["bias"]:
            self.sums[node["bias"]] = dy.sum(axis=(1, 3))

    def flatten(self, node, layer) -> None:
        pass

    add = cat = channels = binary = flatten

    def multiply(self, node, layer) -> None:
        name, half, y = layer.name, 1 << 31, self.on_passes(layer.y)
        a, b = map(self.on_passes, layer.branches)  # one of them may have one number per channel
        a, b = (v.reshape(*v.shape, *[1] * (y.ndim - v.ndim)) for v in (a, b))
        self.state(f"{name}/forward/y", a * b + half - (y << 32) - self.value(layer.run.remainder))
        dy = self.on_passes(layer.dy)
        for i, (own, other) in enumerate(((a, b), (b, a))):
            if layer.dxs[i] is not None:
                dx, rem = self.value(layer.dxs[i].tensor), self.value(layer.runs[i].remainder)
                total = dy * other
                if own.shape != total.shape:
                    total = total.sum(axis=-1, keepdims=True)
                total = total.reshape(dx.shape) + half - (dx << 32) - rem.reshape(dx.shape)
                self.state(f"{name}/input-gradient{i}/dx{i}", total.reshape(rem.shape))

    def batchnorm2d(self, node, layer) -> None:
        name, half = layer.name, 1 << 31
        buffers = {key: array.tolist() for key, array in self.model.buffers.items()}
        known = LAYERS["batchnorm2d"].known(node, buffers)
        factor, mean = np.array(known["factors"], object), np.array(known["means"], object)
        gamma, beta, u, h = (self.value(t) for t in (layer.weight, layer.bias, layer.u.tensor, layer.h.tensor))
        rem = self.value(layer.run_u.remainder)
        self.state(f"{name}/scale/u", gamma * factor + half - (u << 32) - rem)
        at = (slice(None), None, slice(None), *[None] * len(layer.positions))
        spread = lambda v: v[at]  # noqa: E731
        centred = self.on_passes(layer.x) - (mean[:, None] if layer.positions else mean)
        rest = (1, 3)[: 1 + len(layer.positions)]
        total = spread(u) * centred + (spread(beta) << 32) + half
        self.state(f"{name}/forward/y", total - (self.on_passes(layer.y) << 32) - self.value(layer.run.remainder))
        dy = self.on_passes(layer.dy)
        if layer.dx is not None:
            dx, rem = self.value(layer.dx.tensor), self.value(layer.run_input.remainder)
            self.state(f"{name}/input-gradient/dx", spread(u) * dy + half - (dx << 32) - rem)
        rem = self.value(layer.run_h.remainder)
        self.state(f"{name}/sums/h", (dy * centred).sum(axis=rest) + half - (h << 32) - rem)
        self.sums[node["weight"]], self.sums[node["bias"]] = factor * h, dy.sum(axis=rest)

    def groupnorm(self, node, layer) -> None:
        name, half, n = layer.name, 1 << 31, layer.n
        image = (self.passes, layer.b.size, layer.groups, layer.c.size, -1)  # and positions, one of features
        statistic, alone = (self.passes, layer.b.size, layer.groups, 1, -1), node.get("each", False)
        grouped = lambda v: self.on_passes(v).reshape(image)  # noqa: E731
        read = lambda v: (self.value(v) if isinstance(v, Tensor) else self.on_passes(v)).reshape(statistic)  # noqa: E731
        summed = lambda x: x.sum(axis=3 if alone else (3, 4)).reshape(statistic)  # noqa: E731
        x, h, mean, rest = grouped(layer.x), grouped(layer.h), read(layer.mean), read(layer.mean_rest)
        squares, v, a, aa = (read(t) for t in (layer.squares.tensor, layer.v.tensor, layer.a, layer.aa.tensor))
        low, high = (read(t.tensor) for t in (layer.low, layer.high))
        eps = int(Fraction(repr(node["eps"])) * (n << 64) + Fraction(1, 2))
        self.state(f"{name}/mean/mean", n * mean + rest - summed(x) - n // 2)
        self.state(f"{name}/squares/sum", summed(x * x) - squares)
        self.state(f"{name}/root/v", squares - n * mean * mean - 2 * mean * (rest - n // 2) - v)
        self.state(f"{name}/root/a2", a * a - aa)
        self.state(f"{name}/root/low", (n << 128) - aa * (v + eps) - low)
        self.state(f"{name}/root/high", (aa + 2 * a) * v + v + eps * (aa + 2 * a + 1) - (n << 128) - 1 - high)
        rem = self.value(layer.run_h.remainder).reshape(image)
        self.state(f"{name}/normalised/h", a * (x - mean) + half - (h << 32) - rem)
        wide = (self.passes, 1, -1, 1)
        flat = (*image[:2], layer.o.size, image[4])
        gamma, beta = (self.value(t).reshape(wide) if t else 0 for t in (layer.weight, layer.bias))
        y, rem = (z.reshape(flat) for z in (self.on_passes(layer.y), self.value(layer.run.remainder)))
        self.state(f"{name}/forward/y", gamma * h.reshape(flat) + (beta << 32) + half - (y << 32) - rem)
        dy = self.on_passes(layer.dy).reshape(flat)
        self.sums[node["weight"]] = (dy * h.reshape(flat)).sum(axis=(1, 3))
        if node["bias"]:
            self.sums[node["bias"]] = dy.sum(axis=(1, 3))
        if layer.dx is None:
            return
        e, rem = self.on_passes(layer.e).reshape(flat), self.value(layer.run_e.remainder).reshape(flat)
        self.state(f"{name}/scaled/e", gamma * dy + half - (e << 32) - rem)
        e, m1, m2, slope = e.reshape(image), read(layer.m1), read(layer.m2), read(layer.slope)
        self.state(f"{name}/m1/mean", n * m1 + read(layer.m1_rest) - summed(e) - n // 2)
        self.state(f"{name}/m2/m2", summed(e * h) + (n << 31) - (m2 * n << 32) - read(layer.m2_rest.tensor))
        self.state(f"{name}/slope/slope", a * m2 + half - (slope << 32) - read(layer.run_slope.remainder))
        dx, rem = grouped(layer.dx), self.value(layer.run_input.remainder).reshape(image)
        self.state(f"{name}/input-gradient/dx", a * (e - m1) - slope * h + half - (dx << 32) - rem)

    def maxpool2d(self, node, layer) -> None:
        name, index, y = layer.name, self.windows(node), self.value(layer.y.tensor)
        shape, inside = (*y.shape[:3], *index.shape), index >= 0
        choice, slack = np.zeros(shape, object), np.zeros(shape, object)
        for whole, t in ((choice, layer.choice), (slack, layer.slack)):
            whole[..., inside] = self.value(t)  # one k after the other
        later = choice.sum(axis=3, keepdims=True) - np.cumsum(choice, axis=3)
        if inside.all():
            later = 1 - np.cumsum(choice, axis=3)
        x = self.on_passes(layer.x)[..., np.maximum(index, 0)]
        self.state(f"{name}/forward/slack", (slack - y[:, :, :, None] + x + later) * inside)
        self.state(f"{name}/forward/maximum", choice * slack)
        self.state(f"{name}/choice/one", choice.sum(axis=3) - 1)
        if layer.dx is not None:
            dx = -self.value(layer.dx.tensor)
            dy = self.on_passes(layer.dy).reshape(y.shape)
            for k, s in np.argwhere(inside):
                dx[..., index[k, s]] += choice[..., k, s] * dy[..., s]
            self.state(f"{name}/backward/gradient", dx)

    def avgpool2d(self, node, layer) -> None:
        index = self.windows(node)
        rows, columns = layer.shape[1:]
        if node.get("divisor"):
            divisors = np.full(rows * columns, node["divisor"])
        elif node.get("inside"):
            divisors = (index >= 0).sum(axis=0)
        else:  # windows that end at most where the border does
            height, width = layer.x.shape[2] // self.width(node), self.width(node)
            extents = []
            for n, k, s, p, count in zip(
                (height, width), node["kernel"], node["stride"], node.get("padding", (0, 0)), (rows, columns),
                strict=True,
            ):  # fmt: skip
                extents.append([min(o * s + k, n + 2 * p) - o * s for o in range(count)])
            divisors = np.outer(*extents).ravel()
        self.averages(layer, [[i for i in column if i >= 0] for column in index.T.tolist()], divisors)

    def width(self, node) -> int:
        """Of the image that a node reads."""
        names = ["@input", *(other["name"] for other in self.plan.graph)]
        shapes = dict(zip(names, [self.model.input_shape, *self.model.shapes], strict=True))
        return shapes[node.get("inputs", [names[names.index(node["name"]) - 1]])[0]][2]

    def averages(self, layer, reads: list[list[int]], divisors: np.ndarray) -> None:
        """reads: by output, the positions of its window."""
        name, y, x = layer.name, self.value(layer.y.tensor), self.on_passes(layer.x)
        even = len(set(divisors.tolist())) == 1
        total = np.stack([x[..., at].sum(axis=-1) for at in reads], axis=-1)

        def divided(label, out, total, parts, divisors) -> None:
            rest = [self.value(t) for t in parts]
            self.state(f"{name}/{label}/mean", divisors * out + rest[0] - total - divisors // 2)
            if not even:
                self.state(f"{name}/{label}/below", sum(rest) - divisors + 1)

        divided("forward", y, total, layer.parts, divisors)
        if layer.dx is None:
            return
        dx, back = self.value(layer.dx.tensor), self.on_passes(layer.dy).reshape(y.shape)
        if not even:
            share = self.value(layer.share.tensor)
            divided("share", share, back, layer.parts_back, divisors)
            back = share
        total = np.zeros_like(dx)
        for s, at in enumerate(reads):
            for i in at:
                total[..., i] += back[..., s]
        if even:
            divided("backward", dx, total, layer.parts_back, divisors[0])
        else:
            self.state(f"{name}/backward/gradient", total - dx)

    def adaptiveavgpool2d(self, node, layer) -> None:
        width = self.width(node)
        spans = [
            [range(o * n // m, -(-(o + 1) * n // m)) for o in range(m)]
            for n, m in zip((layer.x.shape[2] // width, width), node["size"], strict=True)
        ]
        reads = [[r * width + c for r in y for c in x] for y in spans[0] for x in spans[1]]
        self.averages(layer, reads, np.array([len(at) for at in reads]))

    # -- head

    def softmax(self) -> None:
        head, plan = self.certificate.head, self.plan
        z = self.rows_of(self.on_passes(head.logits))
        top, is_top, x = (self.value(t) for t in (head.top, head.is_top, head.x))
        labels = self.value(head.labels)
        o = self.rows_of(labels[..., 1:] if plan.kind == "tokens" else labels)[[p // 2 for p in range(self.passes)]]
        self.state("softmax/shift", x + z - top[..., None])
        self.state("softmax/attained", is_top * x)
        self.state("softmax/rows/one-max", is_top.sum(axis=-1) - 1)
        e = self.exponential("softmax", head.exp, x)
        s, p, rem, slack = (self.value(v) for v in (head.total, head.p, head.rem, head.slack))
        self.state("softmax/rows/total", e.sum(axis=-1) - s)
        self.state("softmax/p", (e << 56) - rem - p * s[..., None])
        self.state("softmax/p-below", rem + slack + 1 - s[..., None])
        p, wrong, missing, true = (
            self.digits(v.tensor)[:, 0] for v in (head.p, head.wrong, head.missing, head.true_delta)
        )
        for d in range(3):
            self.state(f"softmax/wrong{d}", p[d] - wrong[d] - o * p[d])
            self.state(f"softmax/true{d}", o * missing[d][..., None] - true[d])
        wrong, missing, true = (self.value(v) for v in (head.wrong, head.missing, head.true_delta))
        self.state("softmax/rows/missing", wrong.sum(axis=-1) - missing)

        def added(x: np.ndarray) -> np.ndarray:
            """Over all terms of a batch."""
            return x.reshape(self.steps, -1).sum(axis=1)

        # the loss scale
        bits, largest, below = (self.value(v) for v in (head.scale, head.largest, head.below))
        is_largest, upper, lower = (self.value(v) for v in (head.is_largest, head.upper, head.lower))
        self.state("scale/samples/below", below + missing[::2] - largest.reshape(-1, *[1] * (below.ndim - 1)))
        self.state("scale/samples/attained", is_largest * below)
        self.state("scale/one-largest", added(is_largest) - 1)
        ends = [1 << (56 - k) if k else 1 << 57 for k in range(32)]
        starts = [1 << (55 - k) for k in range(32)]
        self.state("scale/upper", upper + largest - (bits[::2] * ends).sum(axis=-1) + 1)
        self.state("scale/lower", lower + (bits[::2] * starts).sum(axis=-1) - largest)
        self.state("scale/one/one", bits.sum(axis=-1) - 1)
        self.state("scale/second-passes/unscaled", bits[1::2, 0] - 1)
        dz, rem = self.rows_of(self.value(head.dz.tensor)), self.value(head.dz_rem)
        power = (bits * [1 << k for k in range(32)]).sum(axis=-1).reshape(-1, *[1] * (z.ndim - 1))
        self.state("softmax/dz", power * (wrong - true) + (1 << 23) - (dz << 24) - rem)
        # the loss
        x_true = self.digits(head.x_true.tensor)[:, 0]
        x = self.digits(head.x.tensor)[:, 0, ::2]
        for d in range(2):
            self.state(f"loss/true-logit/x{d}", (o[::2] * x[d]).sum(axis=-1) - x_true[d])
        logs = self.logarithm("loss/samples", head.log, s[::2])
        loss, above = self.value(head.loss), self.value(head.loss_slack)
        logs = logs + (self.value(head.x_true) << 24) - 56 * ln_constant(Fraction(2))
        self.state("loss/sum", added(logs) - loss)
        self.state("loss/minimum", loss - above - plan.batch * plan.places * (1 << 24))

    def rows_of(self, x: np.ndarray) -> np.ndarray:
        """By sample and class; of tokens by sample, position and class."""
        return x.swapaxes(2, 3) if self.plan.kind == "tokens" else x.reshape(*x.shape[:2], self.plan.classes)

    def exponential(self, name: str, exp: Exponential, x: np.ndarray) -> np.ndarray:
        u, bits, far, rest = (self.value(v) for v in (exp.low, exp.chunks, exp.far, exp.rest))
        total = u + ((far + rest) << 38) - x
        for i in range(5):
            self.state(f"{name}/chunk{i}", bits[i].sum(axis=-1) - 1)
            total = total + ((bits[i] * range(16)).sum(axis=-1) << (18 + 4 * i))
        self.state(f"{name}/split", total)
        self.state(f"{name}/far", far * rest - rest)
        a2, r2, a3, r3 = (self.value(v) for v in (exp.a2, exp.r2, exp.a3, exp.r3))
        self.state(f"{name}/square", u * u + (1 << 8) - (a2 << 9) - r2)
        self.state(f"{name}/cube", a2 * u + (3 << 31) - (3 << 32) * a3 - r3)
        ys = [self.value(v) for v in exp.ys]
        self.state(f"{name}/series", ys[0] - ONE + (u << 24) - a2 + a3)
        for i in range(5):
            factor = (bits[i] * [exp_factor(i, v) for v in range(16)]).sum(axis=-1)
            self.state(f"{name}/y{i}", ys[i] * factor + (1 << 55) - (ys[i + 1] << 56) - self.value(exp.rems[i]))
        last, y = (self.digits(v.tensor)[:, 0] for v in (exp.ys[-1], exp.y))
        for d in range(3):
            self.state(f"{name}/value{d}", last[d] - y[d] - far * last[d])
        return self.value(exp.y)

    def logarithm(self, name: str, log: Logarithm, v: np.ndarray) -> np.ndarray:
        """States everything about ln v and returns it."""
        limbs = log.count
        bits = self.value(log.bit_shift)
        shift = (bits * range(bits.shape[-1])).sum(axis=-1)
        moved = v
        if log.limb_shift is not None:
            choice, moved_digits = self.value(log.limb_shift), self.digits(log.moved.tensor)[:, 0]
            parts = [(v >> 22 * l) % (1 << 22) for l in range(limbs)]
            self.state(f"{name}/limb-shift", choice.sum(axis=-1) - 1)
            for l in range(limbs):
                terms = [choice[..., a] * parts[l - a] for a in range(min(l, choice.shape[-1] - 1) + 1)]
                self.state(f"{name}/moved{l}", sum(terms) - moved_digits[l])
            lost = [(l, a) for l in range(limbs) for a in range(choice.shape[-1]) if l + a >= limbs]
            self.state(f"{name}/nothing-lost", sum(choice[..., a] * parts[l] for l, a in lost))
            shift = shift + 22 * (choice * range(choice.shape[-1])).sum(axis=-1)
            moved = self.value(log.moved)
        normal = self.value(log.normal)
        self.state(f"{name}/bit-shift", bits.sum(axis=-1) - 1)
        self.state(f"{name}/normal", moved * (bits * [1 << b for b in range(bits.shape[-1])]).sum(axis=-1) - normal)
        leading, out = (normal >> 22 * (limbs - 1)) - (1 << 21) - self.value(log.top_rest), 0
        w = normal >> 22 * (limbs - 3)
        for i in range(4):
            c, (scale, base) = self.value(log.choices[i]), (66, 2 * ONE) if i == 0 else (56, ONE)
            self.state(f"{name}/c{i}", c.sum(axis=-1) - 1)
            unit, index = 16 ** (i + 1), range(c.shape[-1])
            if i == 0:
                self.state(f"{name}/top", leading - ((c * index).sum(axis=-1) << 17))
            else:
                rest = self.value(log.rests[i - 1])
                self.state(f"{name}/stage{i}", w - ONE - ((c * index).sum(axis=-1) << (52 - 4 * i)) - rest)
            factors = [-(-base * unit // (unit + v)) for v in index]
            out = out - (c * [ln_constant(Fraction(f, base)) for f in factors]).sum(axis=-1)
            new, rem = self.value(log.ws[i]), self.value(log.rems[i])
            self.state(f"{name}/w{i + 1}", w * (c * factors).sum(axis=-1) - (new << scale) - rem)
            w = new
        z, a2, r2, a3, r3 = (self.value(v) for v in (log.z, log.a2, log.r2, log.a3, log.r3))
        self.state(f"{name}/z", z - w + ONE)
        self.state(f"{name}/a2", z * z - (a2 << 57) - r2)
        self.state(f"{name}/a3", 2 * a2 * z - (3 << 56) * a3 - r3)
        return out + z - a2 + a3 + (22 * limbs - 1 - shift) * ln_constant(Fraction(2))

    # -- the probe

    def parameter(self, parameter) -> None:
        name, shape, d = parameter.g.name, parameter.shape, self.plan.divisor * self.plan.places
        total = self.sums[name].reshape(self.passes, *shape)
        w, g, e, v = (self.value(t) for t in (parameter.weight, parameter.grad, parameter.e, parameter.v))
        before, v = w[:-1:2], v[: self.steps - 1]
        if scaled := parameter.run_gradient is not None:
            rem = self.value(parameter.run_gradient.remainder)
            self.state(f"gradient/{name}/g", total[::2] + (1 << 31) - (g << 32) - rem)
        else:
            self.state(f"gradient/{name}/sum", total[::2] - g)
        scale = w[::2] if self.plan.variant == "asam-all" else None
        if self.plan.variant == "asam-shifted" or (self.plan.variant == "asam-samsung" and "weight" in name):
            b, m = self.value(parameter.sign), self.value(parameter.magnitude)
            self.state(f"sign/{name}/sign", b * (2 * m + 1) - m - w[::2])
            scale = m + b + floor(self.plan.eta * 2**32 + Fraction(1, 2))
        if scale is not None:
            rem = self.value(parameter.run_e.remainder)
            self.state(f"E/{name}/e", scale * g + (1 << 31) - (e << 32) - rem)
            rem = self.value(parameter.run_v.remainder)
            self.state(f"V/{name}/v", scale[:-1] * e[:-1] + (1 << 31) - (v << 32) - rem)
        digits = self.digits(parameter.e)
        summed = tuple(range(2, 1 + len(shape))) if len(shape) > 1 else (1,)
        for (i, j), view in zip(((0, 0), (0, 1), (1, 1)), parameter.squares, strict=True):
            self.state(f"squares/{name}/{i}{j}", (digits[i] * digits[j]).sum(axis=summed) - self.value(view))
        q = self.value(self.certificate.size.q)[:-1].reshape(-1, *[1] * len(shape))
        rem = self.value(parameter.run_perturbation.remainder)
        self.state(f"perturbation/{name}/d", q * v + (1 << 39) - rem - ((w[1::2] - before) << 40))
        rem, d = self.value(parameter.run_update.remainder), d << 32 if scaled else d
        self.state(f"update/{name}/w", total[1::2] + d // 2 - rem + d * (w[2::2] - before))

    def step_size(self) -> None:
        size = self.certificate.size
        a, b = self.plan.rho.numerator**2 << 144, self.plan.rho.denominator**2
        q, n, qq, x1, x2, low, high = (
            self.value(v) for v in (size.q, size.n, size.qq, size.x1, size.x2, size.low, size.high)
        )
        total = -n
        for parameter in self.certificate.parameters:
            for view, power in zip(parameter.squares, (0, 23, 44), strict=True):
                total = total + (self.value(view).reshape(self.steps, -1).sum(axis=1) << power)
        self.state("step-size/n", total)
        self.state("step-size/q2", q * q - qq)
        self.state("step-size/q2n", qq * n - x1)
        self.state("step-size/2qn", (2 * q + 1) * n - x2)
        self.state("step-size/low", a - b * x1 - low)
        self.state("step-size/high", b * (x1 + x2) - a - 1 - high)

    def score(self) -> None:
        score, plan = self.certificate.score, self.plan
        self.log_ratios() if plan.statistic == "std-log-ratio" else self.roots()
        y, steps = self.value(score.y), plan.steps
        if plan.statistic == "max":
            self.state("score/threshold/threshold", score.tau - y - self.value(score.slack))
            return
        squares, slack = (self.value(v.tensor)[0] for v in (score.sum_yy, score.slack))
        self.state("score/squares/squares", (y * y).sum() - squares)
        if plan.statistic == "rms":
            self.state("score/threshold/threshold", steps * score.tau**2 - squares - slack)
            return
        total = self.value(score.sum_y.tensor)[0]
        self.state("score/threshold/sum", y.sum() - total)
        bound = steps * (steps - plan.ddof) * score.tau**2
        self.state("score/threshold/threshold", bound - steps * squares + total**2 - slack)

    def roots(self) -> None:
        score, plan = self.certificate.score, self.plan
        n, norm, y, yy = (self.value(v) for v in (self.certificate.size.n, score.norm, score.y, score.yy))
        power = (self.value(self.certificate.head.scale)[::2] * [4 ** (31 - k) for k in range(32)]).sum(axis=-1)
        a, c = plan.rho.numerator**2, (plan.rho.denominator * plan.batch) ** 2 << 30
        self.state("score/roots/scaled-norm", power * n - norm)
        self.state("score/roots/y2", y * y - yy)
        self.state("score/roots/low", a * norm - c * yy - self.value(score.low))
        self.state("score/roots/high", c * (yy + 2 * y + 1) - a * norm - 1 - self.value(score.high))

    def log_ratios(self) -> None:
        score, head, plan = self.certificate.score, self.certificate.head, self.plan
        ratio = plan.rho**2 / (256 * plan.batch * plan.places)
        common = ratio.denominator * plan.eps.denominator
        c1, c2 = int(ratio * common), int(plan.eps * common)
        divisor = gcd(c1, c2)
        c1, c2, scale = c1 // divisor, c2 // divisor, Fraction(common, divisor)
        lk, top, n = self.value(score.lk), self.value(score.top), self.value(self.certificate.size.n)
        power = (self.value(head.scale)[::2] * [4**k for k in range(32)]).sum(axis=-1)
        self.state("score/ratios/scaled-loss", power * self.value(head.loss) - lk)
        self.state("score/ratios/numerator", c1 * n + c2 * lk - top)
        logs = self.logarithm("score/ratios", score.ln_top, top) - self.logarithm("score/ratios", score.ln_loss, lk)
        y, rem = self.value(score.y), self.value(score.y_rem)
        self.state("score/ratios/y", logs - ln_constant(scale) + (1 << 23) - (y << 24) - rem)


@pytest.mark.parametrize("name", STATED)
def test_every_identity_says_what_the_specification_says(name):
    """On random digits, which satisfy nothing: no identity is missing, none is there that is not stated here."""
    certificate, _ = honest(name)
    w = random_witness(certificate.circuit, np.random.default_rng(3))
    found, expected = statements(certificate.circuit, w), Specification(CASES[name](), certificate, w).out
    assert found.keys() == expected.keys()
    for key, values in found.items():
        assert len(values) == len(expected[key]), key
        for value, other in zip(values, expected[key], strict=True):
            assert np.array_equal(np.ravel(value), np.ravel(other)), key  # groups are an axis


@pytest.mark.parametrize(
    "name",
    [
        "cnn, q32, sam",
        "minute",
        "strides",
        "residual",
        "batch-norm",
        "leaky",
        "borders",
        "groups",
        "hard",
        "functions",
        "joined",
        "shuffled",
        "statistics",
        "long sums",
        "language",
        "patches",
        "joined attention",
    ],
)
def test_views_are_weighed_as_they_are_read(name):
    """The verifier weighs a tensor's entries by `Source.vector`; that is the transpose of `Witness.read`."""
    certificate, _ = honest(name)
    rng = np.random.default_rng(15)
    w = random_witness(certificate.circuit, rng)
    done = set()
    for con, _, e, _ in members(certificate.circuit):
        axes = (*con.out, *con.summed)
        weights = {a.name: f_from_fp(rng.integers(0, P, a.size, np.uint64)) for a in axes}
        forms = (e.linear, *(f for pair in e.products for f in pair))
        for view in {view for form in forms for view, _, _ in form.terms} - done:
            done.add(view)
            read, entries = w.read(view, 0, axes).astype(object), w.array(view.tensor)[0].astype(object)
            for a in axes:
                read = read[0] if a.name not in view.axes else np.tensordot(weights[a.name][0].astype(object), read, 1)
            for source in view.sources:
                entries = np.tensordot(source.vector(weights)[0].astype(object), entries, 1)
            assert int(read) % P == int(entries) % P, (con.name, view)
