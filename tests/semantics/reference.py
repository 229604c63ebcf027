"""The probe in plain Python integers: the executable specification, and the oracle of every faster executor.

Real numbers are signed integers with 32 fractional bits, in the head with 56. Sums and products are exact; an
operation rounds once. An image is a list [C][H][W], a vector a list, a parameter nested lists in the order of
PyTorch. Nothing here is shared with the executor, and nothing is fast.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import product
from math import ceil, floor, isqrt
from typing import Any

from tests.semantics import activations, branches, sequences  # noqa: F401 - further layers, known by their op
from tests.semantics.head import (
    log_ratio,
    loss_scale,
    sharpness,
    softmax,
    step_size,
)
from tests.semantics.layer import LAYERS, Layer, Node, signed
from tests.semantics.rounding import Nested, Refusal, add_up, each, entries, rescale, value, weight, within
from tests.semantics.samples import normalise

Reads = list[tuple[int, int, int, int]]
HALF = Fraction(1, 2)

# ------------------------------------------------------------------------------------------------ layers


# -- sums, and the same in another order


class Add(Layer):
    op, through = "add", True

    def forward(self, node: Node, weights: Mapping[str, Nested], x: Nested) -> Nested:
        return x

    def backward(self, node: Node, weights: Mapping[str, Nested], x: Nested, dy: Nested) -> Nested:
        return dy


class Flatten(Layer):
    op, through = "flatten", True

    def forward(self, node: Node, weights: Mapping[str, Nested], x: Nested) -> Nested:
        return list(entries(x))

    def backward(self, node: Node, weights: Mapping[str, Nested], x: Nested, dy: Nested) -> Nested:
        take = iter(dy)
        return each(lambda _: next(take), x)


class Cat(Add):
    op, joins, moves = "cat", True, True


class Channels(Layer):
    op, through, moves = "channels", True, True

    def order(self, node: Node) -> list[int]:
        """As if the channels of each group were a row of a matrix that is read column by column."""
        channels = [node["first"] + j for j in range(node["count"])]
        size = len(channels) // node.get("groups", 1)
        rows = [channels[j : j + size] for j in range(0, len(channels), size)]
        return [row[k] for k in range(size) for row in rows]

    def forward(self, node: Node, weights: Mapping[str, Nested], x: Nested) -> Nested:
        return [x[c] for c in self.order(node)]

    def backward(self, node: Node, weights: Mapping[str, Nested], x: Nested, dy: Nested) -> Nested:
        dx = each(lambda _: 0, x)
        for c, d in zip(self.order(node), dy, strict=True):
            dx[c] = d
        return dx


# -- entry by entry


class ReLU(Layer):
    op, rectifies = "relu", True

    def forward(self, node: Node, weights: Mapping[str, Nested], x: Nested) -> Nested:
        return each(lambda z: value(max(signed(z, node["name"]), 0), node["name"]), x)

    def backward(self, node: Node, weights: Mapping[str, Nested], x: Nested, dy: Nested) -> Nested:
        return each(lambda z, d: value(d if z > 0 else 0, f"{node['name']} input gradient"), x, dy)


# -- batch-norm


class BatchNorm2d(Layer):
    op = "batchnorm2d"

    def known(self, node: Node, buffers: Mapping[str, Sequence[float]]) -> Node:
        """The nearest integers to 2^32 / sqrt(var + eps) and 2^32 mean, halves up."""
        factors, eps = [], Fraction(repr(node["eps"]))
        for var in buffers[node["var"]]:
            v = Fraction(var) + eps
            a = isqrt(floor(Fraction(1 << 64) / v))
            while (2 * a + 1) ** 2 * v <= 1 << 66:
                a += 1
            factors.append(a)
        means = [floor(Fraction(mean) * (1 << 32) + HALF) for mean in buffers[node["mean"]]]
        return {**node, "factors": factors, "means": means}

    def scales(self, node: Node, weights: Mapping[str, Nested]) -> list[int]:
        """gamma / sqrt(var + eps) per channel."""
        pairs = zip(weights[node["weight"]], node["factors"], strict=True)
        return [within(rescale(gamma * a), 39, f"scale of {node['name']}") for gamma, a in pairs]

    def forward(self, node: Node, weights: Mapping[str, Nested], x: Nested) -> Nested:
        out = []
        for channel, u, m, c in zip(x, self.scales(node, weights), node["means"], range(len(x)), strict=True):
            beta = weights[node["bias"]][c] << 32
            out.append(each(lambda z, u=u, m=m, b=beta: value(rescale(u * (z - m) + b), node["name"]), channel))
        return out

    def backward(self, node: Node, weights: Mapping[str, Nested], x: Nested, dy: Nested) -> Nested:
        what, pairs = f"{node['name']} input gradient", zip(self.scales(node, weights), dy, strict=True)
        return [each(lambda d, u=u: value(rescale(u * d), what), row) for u, row in pairs]

    def collect(self, node: Node, x: Nested, dy: Nested, sums: dict[str, Nested]) -> None:
        for c, m in enumerate(node["means"]):
            pairs = zip(entries(dy[c]), entries(x[c]), strict=True)
            sums[node["weight"]][c] += sum(d * (z - m) for d, z in pairs)
            sums[node["bias"]][c] += sum(entries(dy[c]))

    def accumulators(self, node: Node, sums: dict[str, Nested]) -> None:
        h = [value(rescale(s), f"gradient of {node['name']}") for s in sums[node["weight"]]]
        sums[node["weight"]] = [a * x for a, x in zip(node["factors"], h, strict=True)]


# -- normalisation by a sample's own statistics


class GroupNorm(Layer):
    op = "groupnorm"

    def sets(self, node: Node, x: Nested) -> list[list[tuple[int, int, int]]]:
        """The places (channel, row, column) that are normalised together; features stand at row and column 0."""
        own = len(x) // node["groups"]
        rows, columns = (len(x[0]), len(x[0][0])) if isinstance(x[0], list) else (1, 1)
        places = [(i, j) for i in range(rows) for j in range(columns)]
        out = []
        for first in range(0, len(x), own):
            channels = range(first, first + own)
            for part in [[place] for place in places] if node.get("each", False) else [places]:
                out.append([(c, *place) for c in channels for place in part])
        return out

    def mean(self, values: list[int], what: str) -> int:
        return value(floor(Fraction(sum(values), len(values)) + HALF), what)

    def solved(self, node: Node, x: Nested) -> tuple[list[Any], Nested]:
        """For each set its places, mean and A; and h."""
        h, out, name = each(lambda z: 0, x), [], node["name"]
        for places in self.sets(node, x):
            own = [at(x, place) for place in places]
            n, mean = len(own), self.mean(own, name)
            m = sum((z - mean) ** 2 for z in own) + floor(Fraction(repr(node["eps"])) * (n << 64) + HALF)
            a = value(isqrt(floor(Fraction(n << 128, m))), name)
            out.append((places, mean, a))
            for place, z in zip(places, own, strict=True):
                put(h, place, value(rescale(a * (z - mean)), name))
        return out, h

    def forward(self, node: Node, weights: Mapping[str, Nested], x: Nested) -> Nested:
        _, h = self.solved(node, x)
        beta = weights[node["bias"]] if node["bias"] else [0] * len(h)
        pairs = zip(h, weights[node["weight"]], beta, strict=True)
        return [each(lambda z, u=u, b=b: value(rescale(u * z + (b << 32)), node["name"]), row) for row, u, b in pairs]

    def backward(self, node: Node, weights: Mapping[str, Nested], x: Nested, dy: Nested) -> Nested:
        what, (sets, h) = f"{node['name']} input gradient", self.solved(node, x)
        pairs = zip(dy, weights[node["weight"]], strict=True)
        e = [each(lambda d, u=u: value(rescale(u * d), what), row) for row, u in pairs]
        dx = each(lambda z: 0, x)
        for places, _, a in sets:
            own, n = [at(e, place) for place in places], len(places)
            m1 = self.mean(own, what)
            total = sum(d * at(h, place) for d, place in zip(own, places, strict=True))
            m2 = value(floor(Fraction(total, n << 32) + HALF), what)
            k = value(rescale(a * m2), what)
            for d, place in zip(own, places, strict=True):
                put(dx, place, value(rescale(a * (d - m1) - k * at(h, place)), what))
        return dx

    def collect(self, node: Node, x: Nested, dy: Nested, sums: dict[str, Nested]) -> None:
        _, h = self.solved(node, x)
        for c in range(len(x)):
            sums[node["weight"]][c] += sum(d * z for d, z in zip(entries(dy[c]), entries(h[c]), strict=True))
            if node["bias"]:
                sums[node["bias"]][c] += sum(entries(dy[c]))


def at(x: Nested, place: tuple[int, int, int]) -> int:
    """An entry of an image, or of features, which stand at row and column 0."""
    c, i, j = place
    return x[c][i][j] if isinstance(x[c], list) else x[c]


def put(x: Nested, place: tuple[int, int, int], z: int) -> None:
    """Overwrite an entry."""
    c, i, j = place
    if isinstance(x[c], list):
        x[c][i][j] = z
    else:
        x[c] = z


# -- sums of products


def affine(node: Node, weights: Mapping[str, Nested], total: int, o: int) -> int:
    bias = weights[node["bias"]][o] if node["bias"] else 0
    return value(rescale(total + (bias << 32)), node["name"])


def collect_bias(node: Node, dy: Nested, sums: dict[str, Nested]) -> None:
    if node["bias"]:
        for o, d in enumerate(dy):
            sums[node["bias"]][o] += sum(entries(d))


class Linear(Layer):
    op = "linear"

    def forward(self, node: Node, weights: Mapping[str, Nested], x: Nested) -> Nested:
        rows = [sum(a * b for a, b in zip(row, x, strict=True)) for row in weights[node["weight"]]]
        return [affine(node, weights, total, o) for o, total in enumerate(rows)]

    def backward(self, node: Node, weights: Mapping[str, Nested], x: Nested, dy: Nested) -> Nested:
        columns = zip(*weights[node["weight"]], strict=True)
        totals = [sum(a * d for a, d in zip(column, dy, strict=True)) for column in columns]
        return [value(rescale(total), f"{node['name']} input gradient") for total in totals]

    def collect(self, node: Node, x: Nested, dy: Nested, sums: dict[str, Nested]) -> None:
        collect_bias(node, dy, sums)
        for o, f in product(range(len(dy)), range(len(x))):
            sums[node["weight"]][o][f] += dy[o] * x[f]


def windows(
    image: Nested,
    kernel: Sequence[int],
    stride: Sequence[int],
    pad: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1),
    ceil: bool = False,
) -> list[list[Reads]]:
    """Per output row and column, the (kernel row, kernel column, input row, input column) read, in order."""
    size = len(image[0]), len(image[0][0])

    def starts(n: int, k: int, s: int, p: int, d: int) -> list[int]:
        """Where windows begin: those that end within the border, and with `ceil` one more if it begins before that
        behind the axis does."""
        whole = [at for at in range(-p, n + p, s) if at + d * (k - 1) < n + p]
        late = whole[-1] + s if whole else -p
        return [*whole, late] if ceil and (not whole or whole[-1] + d * (k - 1) < n + p - 1) and late < n else whole

    tops, lefts = (starts(*x) for x in zip(size, kernel, stride, pad, dilation, strict=True))

    def reads(top: int, left: int) -> Reads:
        every = [
            (i, j, top + i * dilation[0], left + j * dilation[1])
            for i, j in product(range(kernel[0]), range(kernel[1]))
        ]
        return [at for at in every if 0 <= at[2] < size[0] and 0 <= at[3] < size[1]]

    return [[reads(top, left) for left in lefts] for top in tops]


class Conv2d(Layer):
    op = "conv2d"

    def places(self, node: Node, w: Nested, x: Nested) -> list[list[Reads]]:
        kernel = len(w[0][0]), len(w[0][0][0])
        return windows(x, kernel, node["stride"], node["padding"], node.get("dilation", (1, 1)))

    def pairs(self, node: Node, w: Nested) -> list[tuple[int, int, int]]:
        """(output channel, input channel of its group, input channel): which read which."""
        groups = node.get("groups", 1)
        own, outputs = len(w[0]), len(w) // groups
        return [(o, k, o // outputs * own + k) for o, k in product(range(len(w)), range(own))]

    def forward(self, node: Node, weights: Mapping[str, Nested], x: Nested) -> Nested:
        w = weights[node["weight"]]
        places, pairs = self.places(node, w, x), self.pairs(node, w)

        def pixel(o: int, reads: Reads) -> int:
            own = [(k, c) for p, k, c in pairs if p == o]
            total = sum(w[o][k][i][j] * x[c][r][q] for k, c in own for i, j, r, q in reads)
            return affine(node, weights, total, o)

        return [[[pixel(o, reads) for reads in row] for row in places] for o in range(len(w))]

    def backward(self, node: Node, weights: Mapping[str, Nested], x: Nested, dy: Nested) -> Nested:
        w, dx = weights[node["weight"]], each(lambda _: 0, x)
        for (y, row), (o, k, c) in product(enumerate(self.places(node, w, x)), self.pairs(node, w)):
            for d, reads in zip(dy[o][y], row, strict=True):
                for i, j, r, q in reads:
                    dx[c][r][q] += d * w[o][k][i][j]
        return each(lambda total: value(rescale(total), f"{node['name']} input gradient"), dx)

    def collect(self, node: Node, x: Nested, dy: Nested, sums: dict[str, Nested]) -> None:
        collect_bias(node, dy, sums)
        w = sums[node["weight"]]
        for (y, row), (o, k, c) in product(enumerate(self.places(node, w, x)), self.pairs(node, w)):
            for d, reads in zip(dy[o][y], row, strict=True):
                for i, j, r, q in reads:
                    w[o][k][i][j] += d * x[c][r][q]


# -- pools


def pooled(image: Nested, node: Node) -> list[list[Reads]]:
    """The windows of a pooling layer."""
    return windows(image, node["kernel"], node["stride"], node.get("padding", (0, 0)), ceil=node.get("ceil", False))


def first_maximum(channel: Nested, reads: Reads) -> tuple[int, int]:
    """Row and column of the first largest entry of a window, row by row."""
    largest = max(channel[r][c] for _, _, r, c in reads)
    return next((r, c) for _, _, r, c in reads if channel[r][c] == largest)


class MaxPool2d(Layer):
    op = "maxpool2d"

    def forward(self, node: Node, weights: Mapping[str, Nested], x: Nested) -> Nested:
        def pixel(channel: Nested, reads: Reads) -> int:
            r, c = first_maximum(channel, reads)
            places = [(a, b) for _, _, a, b in reads]
            before = places.index((r, c))
            if any(channel[r][c] - channel[a][b] - (k < before) >= 1 << 44 for k, (a, b) in enumerate(places)):
                raise Refusal(f"a window of {node['name']} is out of range")
            return value(channel[r][c], node["name"])

        return [[[pixel(channel, reads) for reads in row] for row in pooled(x, node)] for channel in x]

    def backward(self, node: Node, weights: Mapping[str, Nested], x: Nested, dy: Nested) -> Nested:
        dx = each(lambda _: 0, x)
        for (y, row), o in product(enumerate(pooled(x, node)), range(len(x))):
            for d, reads in zip(dy[o][y], row, strict=True):
                r, c = first_maximum(x[o], reads)
                dx[o][r][c] += d
        return each(lambda d: value(d, f"{node['name']} input gradient"), dx)


class AvgPool2d(Layer):
    op = "avgpool2d"

    def windows(self, node: Node, x: Nested) -> list[list[Reads]]:
        return pooled(x, node)

    def divisors(self, node: Node, x: Nested) -> list[list[int]]:
        """By output row and column."""
        places = self.windows(node, x)
        if node.get("divisor"):
            return [[node["divisor"]] * len(row) for row in places]
        if not node.get("inside"):  # as if the border were part of the image
            (p, q), width = node.get("padding", (0, 0)), len(x[0][0])
            row = [0] * (width + 2 * q)
            wide = [[row] * (len(x[0]) + 2 * p)]
            places = windows(wide, node["kernel"], node["stride"], ceil=node.get("ceil", False))
            places = [r[: len(self.windows(node, x)[0])] for r in places[: len(self.windows(node, x))]]
        return [[len(reads) for reads in row] for row in places]

    def mean(self, total: int, count: int, what: str) -> int:
        return value((total + count // 2) // count, what)

    def forward(self, node: Node, weights: Mapping[str, Nested], x: Nested) -> Nested:
        def pixel(channel: Nested, reads: Reads, count: int) -> int:
            return self.mean(sum(channel[r][c] for _, _, r, c in reads), count, node["name"])

        rows = list(zip(self.windows(node, x), self.divisors(node, x), strict=True))
        return [[[pixel(channel, *at) for at in zip(*row, strict=True)] for row in rows] for channel in x]

    def backward(self, node: Node, weights: Mapping[str, Nested], x: Nested, dy: Nested) -> Nested:
        """One rounding of the sum if all windows have one divisor, else one of each window's part."""
        dx, divisors, what = each(lambda _: 0, x), self.divisors(node, x), f"{node['name']} input gradient"
        one = {count for row in divisors for count in row}
        for (y, row), o in product(enumerate(self.windows(node, x)), range(len(x))):
            for d, reads, count in zip(dy[o][y], row, divisors[y], strict=True):
                part = d if len(one) == 1 else self.mean(d, count, what)
                for _, _, r, c in reads:
                    dx[o][r][c] += part
        return each(lambda total: self.mean(total, *one, what) if len(one) == 1 else value(total, what), dx)


class AdaptiveAvgPool2d(AvgPool2d):
    op = "adaptiveavgpool2d"

    def windows(self, node: Node, x: Nested) -> list[list[Reads]]:
        def spans(n: int, m: int) -> list[range]:
            return [range(floor(Fraction(o * n, m)), ceil(Fraction((o + 1) * n, m))) for o in range(m)]

        rows, columns = (spans(n, m) for n, m in zip((len(x[0]), len(x[0][0])), node["size"], strict=True))
        return [[[(0, 0, r, c) for r, c in product(y, z)] for z in columns] for y in rows]

    def divisors(self, node: Node, x: Nested) -> list[list[int]]:
        return [[len(reads) for reads in row] for row in self.windows(node, x)]


# ------------------------------------------------------------------------------------------------ the probe


@dataclass
class Pass:
    """One gradient: every layer's output and input gradient (name -> per sample); sums, by parameter."""

    weights: dict[str, Nested]
    outputs: dict[str, list[Nested]] = field(default_factory=dict)
    deltas: dict[str, list[Nested]] = field(default_factory=dict)
    logits: list[Nested] = field(default_factory=list)
    dz: list[Nested] = field(default_factory=list)
    sums: dict[str, Nested] = field(default_factory=dict)


@dataclass
class Result:
    """Per step: y (Q32), k, loss (2^-56, batch sum), n, q, and G, E, V by parameter. And every pass."""

    ys: list[int] = field(default_factory=list)
    scales: list[int] = field(default_factory=list)
    losses: list[int] = field(default_factory=list)
    norms: list[int] = field(default_factory=list)
    qs: list[int] = field(default_factory=list)
    gradients: list[dict[str, Nested]] = field(default_factory=list)
    es: list[dict[str, Nested]] = field(default_factory=list)
    vs: list[dict[str, Nested]] = field(default_factory=list)
    passes: list[Pass] = field(default_factory=list)

    def add(self, **values: Any) -> None:
        for name, x in values.items():
            getattr(self, name).append(x)


def long_sums(graph: Sequence[Node], reads: Mapping[str, list[str]], most: int = 4) -> tuple[set[str], set[str]]:
    """The nodes whose output, and those at whose output the gradient, is a sum of more than `most` terms."""
    readers = {name: [node for node in graph if name in reads[node["name"]]] for name in reads}
    through = {node["name"] for node in graph if LAYERS[node["op"]].through}
    cats = {node["name"] for node in graph if LAYERS[node["op"]].moves}
    trained = {node["name"] for node in graph if node.get("weight")}
    terms, gradient_terms = {"@input": 1}, dict[str, int]()
    sums, gradient_sums = set[str](), set[str]()
    joined, gradient_joined = set[str](), set[str]()
    for node in graph:
        name = node["name"]
        terms[name] = sum(terms[x] for x in reads[name]) if name in through else 1
        if name in cats or (name in through and joined & set(reads[name])):
            joined.add(name)
        apart = any(x["name"] in trained or x["op"] == "add" for x in readers[name])
        if (terms[name] > most and [LAYERS[x["op"]].rectifies for x in readers[name]] != [True]) or (
            name in joined and apart
        ):
            sums.add(name)
            joined.discard(name)
            terms[name] = 1
    for node in reversed(graph):
        name, total = node["name"], 0
        for x in readers[name]:
            total += reads[x["name"]].count(name) * (gradient_terms[x["name"]] if x["name"] in through else 1)
        gradient_terms[name] = total or 1
        if any(x["name"] in cats or (x["name"] in through & gradient_joined) for x in readers[name]):
            gradient_joined.add(name)
        if total > most or (name in gradient_joined and name in trained):
            gradient_sums.add(name)
            gradient_joined.discard(name)
            gradient_terms[name] = 1
    return sums, gradient_sums


def received(node: Node, xs: Sequence[list[Nested]]) -> list[Nested]:
    """What a node gets of the outputs that it reads, per sample."""
    if LAYERS[node["op"]].apart:
        return [list(sample) for sample in zip(*xs, strict=True)]
    if LAYERS[node["op"]].joins:
        return [[channel for x in sample for channel in x] for sample in zip(*xs, strict=True)]
    return add_up(xs)


def heads_of(logits: Nested, label: Nested) -> list[tuple[list[int], int]]:
    """A sample's logits with its label; of tokens those of each position."""
    if not isinstance(label, list):
        return [(logits, label)]
    return [([row[i] for [row] in logits], token) for i, token in enumerate(label)]


def run_pass(
    graph: Sequence[Node], weights: dict[str, Nested], inputs: list[Nested], labels: Sequence[Nested], first: bool
) -> tuple[Pass, int, int]:
    """One gradient over a batch, with its loss scale k (0 unless it is a `first` pass) and loss."""
    out = Pass(weights, sums={name: each(lambda _: 0, w) for name, w in weights.items()})
    outputs = {"@input": inputs}  # by node, per sample
    reads, previous = {}, "@input"
    for node in graph:
        reads[node["name"]] = node.get("inputs", [previous])
        previous = node["name"]
    sums, gradient_sums = long_sums(graph, reads)
    for node in graph:
        previous = node["name"]
        xs = received(node, [outputs[name] for name in reads[previous]])
        outputs[previous] = [LAYERS[node["op"]].forward(node, weights, x) for x in xs]
        if previous in sums:
            each(lambda x, name=previous: value(x, f"the sum {name}"), outputs[previous])
    out.outputs = {name: x for name, x in outputs.items() if name != "@input"}
    out.logits = outputs[previous]
    rows = [heads_of(z, label) for z, label in zip(out.logits, labels, strict=True)]
    heads = [[(*softmax(z, label), label) for z, label in own] for own in rows]
    k = loss_scale(max(-d[label] for own in heads for d, _, label in own)) if first else 0
    scaled = [[[rescale(d << k, 24) for d in deltas] for deltas, _, _ in own] for own in heads]
    of_tokens = any(node["op"] == "embedding" for node in graph)
    out.dz = [[[list(row)] for row in zip(*own, strict=True)] if of_tokens else own[0] for own in scaled]
    needed: set[str] = set()  # nodes with weights at or before them
    for node in graph:
        if node.get("weight") or needed & set(reads[node["name"]]):
            needed.add(node["name"])
    grads: dict[str, list[list[Nested]]] = {previous: [out.dz]}  # by node, one entry per reader
    for node in reversed(graph):
        name = node["name"]
        if name not in needed:
            continue
        xs, dys = received(node, [outputs[source] for source in reads[name]]), add_up(grads[name])
        if name in gradient_sums:
            each(lambda d, name=name: value(d, f"the gradient at {name}"), dys)
        layer = LAYERS[node["op"]]
        for x, dy in zip(xs, dys, strict=True):
            layer.collect(node, x, dy, out.sums)
        layer.accumulators(node, out.sums)
        if needed & set(reads[name]):
            out.deltas[name] = [layer.backward(node, weights, x, dy) for x, dy in zip(xs, dys, strict=True)]
            start = 0
            for n, source in enumerate(reads[name]):
                own = out.deltas[name]
                if layer.apart:
                    own = [d[n] for d in own]
                    if source in needed:
                        each(lambda d, name=name: value(d, f"{name} input gradient"), own)
                if layer.joins:
                    count = len(outputs[source][0])
                    own = [d[start : start + count] for d in own]
                    start += count
                grads.setdefault(source, []).append(own)
    return out, k, sum(loss for own in heads for _, loss, _ in own)


def step_scale(variant: str, eta: Fraction | None, name: str, w: Nested) -> Nested | None:
    """T_w of a parameter, up to signs, in Q32; None where it is 1."""
    shift = None if eta is None else floor(eta * (1 << 32) + Fraction(1, 2))
    match variant:
        case "asam-all":
            return w
        case "asam-samsung" if "weight" in name:
            return each(lambda a: abs(a) + shift, w)
        case "asam-shifted":
            return each(lambda a: abs(a) + shift, w)
    return None


def run_probe(
    graph: Sequence[Node],
    input_spec: Mapping[str, Any],
    weights: Mapping[str, Nested],
    samples: Sequence[Sequence[Nested]],
    labels: Sequence[Sequence[Nested]],
    steps: int,
    batch: int,
    rho: Fraction,
    divisor: int,
    eps: Fraction,
    variant: str,
    kind: str = "u8",
    buffers: Mapping[str, Sequence[float]] | None = None,
    statistic: str = "std-log-ratio",
    eta: Fraction | None = None,
) -> Result:
    """Algorithm 1 of arXiv 2606.25004, or a Refusal. samples[t][b]: raw [C][H][W]; divisor: batch / lr; buffers: the
    means and variances of batch-norms. Of tokens every position counts as a sample."""
    out = Result()
    graph = [LAYERS[node["op"]].known(node, buffers or {}) for node in graph]
    shared = {node["weight"] for node in graph if node["op"] == "unembedding"}
    graph = [{**node, "worth": 1 << 32 if node.get("weight") in shared else 1} for node in graph]
    biases = {node.get("bias") for node in graph}  # their sums have 32 fractional bits, all others 64
    biases |= {node["weight"] for node in graph if LAYERS[node["op"]].exact} - shared
    if kind == "tokens":
        batch, divisor = batch * len(labels[0][0]), divisor * len(labels[0][0])
    multiply = lambda a, b: value(rescale(a * b), "w * g")  # noqa: E731
    w = {name: each(lambda a: weight(a, "weight"), x) for name, x in weights.items()}
    for t in range(steps):
        inputs = [normalise(image, input_spec, kind) for image in samples[t]]
        first, k, loss = run_pass(graph, w, inputs, labels[t], first=True)
        if not batch << 24 <= loss < 1 << 82:
            raise Refusal("the loss is below 2^-32 or diverges")
        g, e, v = {}, {}, {}
        for name, total in first.sums.items():
            bits = 0 if name in biases else 32
            g[name] = each(lambda a, bits=bits: value(rescale(a, bits), "gradient"), total)
            scale = step_scale(variant, eta, name, w[name])
            e[name] = g[name] if scale is None else each(multiply, scale, g[name])
            if t + 1 < steps:
                v[name] = g[name] if scale is None else each(multiply, scale, e[name])
        n = sum(a * a for x in e.values() for a in entries(x))
        q = step_size(n, rho)
        y = log_ratio(n, loss, k, batch, rho, eps) if statistic == "std-log-ratio" else sharpness(n, k, batch, rho)
        out.add(ys=y, scales=k, losses=loss, norms=n, qs=q, gradients=g, es=e, vs=v, passes=first)
        if t + 1 == steps:
            break
        move = lambda a, b, q=q: weight(a + rescale(q * b, 40), "w + d")  # noqa: E731
        second, _, _ = run_pass(graph, {x: each(move, w[x], v[x]) for x in w}, inputs, labels[t], first=False)
        out.add(passes=second)
        new = {}
        for name, total in second.sums.items():
            d = divisor if name in biases else divisor << 32
            new[name] = each(lambda a, s, d=d: weight(a - (s + d // 2) // d, "new w"), w[name], total)
        w = new
    return out
