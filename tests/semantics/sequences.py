"""The reference semantics of sequences: positions, tokens, attention. A sequence is an image of one row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from math import floor, isqrt

from tests.semantics.functions import Function
from tests.semantics.layer import Layer, Node
from tests.semantics.rounding import Nested, Refusal, each, entries, rescale, value

DECAY = Function(lambda x: (-x).exp(), lambda x: -(-x).exp(), 0, 23, 1, 0)
FAR = (23 << 32) + (1 << 44)


class Line(Layer):
    op, through = "line", True

    def forward(self, node: Node, weights: Mapping[str, Nested], x: Nested) -> Nested:
        return [[list(entries(channel))] for channel in x]

    def backward(self, node: Node, weights: Mapping[str, Nested], x: Nested, dy: Nested) -> Nested:
        take = iter(list(entries(dy)))
        return each(lambda _: next(take), x)


class Positions(Layer):
    op, exact = "positions", True

    def forward(self, node: Node, weights: Mapping[str, Nested], x: Nested) -> Nested:
        return each(lambda a, b: value(a + b, node["name"]), x, weights[node["weight"]])

    def backward(self, node: Node, weights: Mapping[str, Nested], x: Nested, dy: Nested) -> Nested:
        return dy

    def collect(self, node: Node, x: Nested, dy: Nested, sums: dict[str, Nested]) -> None:
        sums[node["weight"]] = each(lambda a, b: a + b, sums[node["weight"]], dy)


class Prepend(Layer):
    op, exact = "prepend", True

    def forward(self, node: Node, weights: Mapping[str, Nested], x: Nested) -> Nested:
        return [[[w, *row]] for w, [row] in zip(weights[node["weight"]], x, strict=True)]

    def backward(self, node: Node, weights: Mapping[str, Nested], x: Nested, dy: Nested) -> Nested:
        return each(lambda d: value(d, f"{node['name']} input gradient"), [[row[1:]] for [row] in dy])

    def collect(self, node: Node, x: Nested, dy: Nested, sums: dict[str, Nested]) -> None:
        for c, [row] in enumerate(dy):
            sums[node["weight"]][c] += row[0]


class Take(Layer):
    op = "take"

    def forward(self, node: Node, weights: Mapping[str, Nested], x: Nested) -> Nested:
        return each(lambda z: value(z, node["name"]), [[[row[node["position"]]]] for [row] in x])

    def backward(self, node: Node, weights: Mapping[str, Nested], x: Nested, dy: Nested) -> Nested:
        dx = each(lambda _: 0, x)
        for c, [[d]] in enumerate(dy):
            dx[c][0][node["position"]] = value(d, f"{node['name']} input gradient")
        return dx


class Embedding(Layer):
    """Of samples of tokens; `worth`: what a sum of its weight counts, 2^32 if it is an unembedding's too."""

    op, exact = "embedding", True

    def forward(self, node: Node, weights: Mapping[str, Nested], x: Nested) -> Nested:
        table = weights[node["weight"]]
        if any(token >= len(table) for token in x[0][0]):
            raise Refusal(f"{node['name']} has no such token")
        return [[[table[token][c] for token in x[0][0]]] for c in range(len(table[0]))]

    def collect(self, node: Node, x: Nested, dy: Nested, sums: dict[str, Nested]) -> None:
        for c, [row] in enumerate(dy):
            for token, d in zip(x[0][0], row, strict=True):
                sums[node["weight"]][token][c] += node["worth"] * d


class Unembedding(Layer):
    op = "unembedding"

    def forward(self, node: Node, weights: Mapping[str, Nested], x: Nested) -> Nested:
        columns = list(zip(*(row for [row] in x), strict=True))
        return [[[value(rescale(dot(row, z)), node["name"]) for z in columns]] for row in weights[node["weight"]]]

    def backward(self, node: Node, weights: Mapping[str, Nested], x: Nested, dy: Nested) -> Nested:
        what, columns = f"{node['name']} input gradient", list(zip(*(row for [row] in dy), strict=True))
        return [
            [[value(rescale(dot(own, d)), what) for d in columns]] for own in zip(*weights[node["weight"]], strict=True)
        ]

    def collect(self, node: Node, x: Nested, dy: Nested, sums: dict[str, Nested]) -> None:
        for o, [d] in enumerate(dy):
            for c, [z] in enumerate(x):
                sums[node["weight"]][o][c] += dot(d, z)


def dot(a: Iterable[int], b: Iterable[int]) -> int:
    return sum(p * q for p, q in zip(a, b, strict=True))


class Attention(Layer):
    op = "attention"

    def parts(self, node: Node, x: Nested) -> list[tuple[Nested, Nested, Nested]]:
        """Queries, keys and values of each head, [D][L]."""
        rows, h = [row for [row] in x], node["heads"]
        third = len(rows) // 3
        cut = [rows[i : i + third // h] for i in range(0, len(rows), third // h)]
        return list(zip(cut[:h], cut[h : 2 * h], cut[2 * h :], strict=True))

    def scale(self, d: int) -> int:
        """The nearest integer to 2^32 / sqrt(d)."""
        a = isqrt(floor(Fraction(1 << 64, d)))
        return a + 1 if (2 * a + 1) ** 2 * d <= 1 << 66 else a

    def scores(self, node: Node, q: Nested, k: Nested) -> tuple[Nested, Callable[[int], range], Nested]:
        """Queries as they are used, to what each position attends, and P."""
        name, count, a = node["name"], len(q[0]), self.scale(len(q))
        seen = lambda i: range(i + 1 if node["causal"] else count)  # noqa: E731
        q, p = each(lambda z: value(rescale(a * z), name), q), []
        for i in range(count):
            own = [row[i] for row in q]
            z = [rescale(dot(own, (row[j] for row in k))) for j in seen(i)]
            most = value(max(z), name)
            if most - min(z) >= FAR:
                raise Refusal(f"{name} is out of range")
            e = [DECAY.at(most - s)[0] for s in z]
            p.append([(s << 32) // sum(e) for s in e])
        return q, seen, p

    def forward(self, node: Node, weights: Mapping[str, Nested], x: Nested) -> Nested:
        out = []
        for q, k, v in self.parts(node, x):
            _, seen, p = self.scores(node, q, k)
            for row in v:
                mixed = [sum(p[i][j] * row[j] for j in seen(i)) for i in range(len(p))]
                out.append([[value(rescale(total), node["name"]) for total in mixed]])
        return out

    def backward(self, node: Node, weights: Mapping[str, Nested], x: Nested, dy: Nested) -> Nested:
        what, own = f"{node['name']} input gradient", len(dy) // node["heads"]
        r = lambda total: value(rescale(total), what)  # noqa: E731
        out: list[list[Nested]] = [[], [], []]
        for head, (q, k, v) in enumerate(self.parts(node, x)):
            d = [row for [row] in dy[head * own : (head + 1) * own]]
            q, seen, p = self.scores(node, q, k)
            every = range(len(p))
            m = [[r(sum(a[i] * b[j] for a, b in zip(d, v, strict=True))) for j in seen(i)] for i in every]
            u = [r(dot(p[i], m[i])) for i in every]
            dz = [[r(p[i][j] * (m[i][j] - u[i])) for j in seen(i)] for i in every]
            a = self.scale(len(q))
            for c in range(own):
                out[0].append([[r(a * r(sum(dz[i][j] * k[c][j] for j in seen(i)))) for i in every]])
                out[1].append([[r(sum(dz[i][j] * q[c][i] for i in every if j in seen(i))) for j in every]])
                out[2].append([[r(sum(p[i][j] * d[c][i] for i in every if j in seen(i))) for j in every]])
        return out[0] + out[1] + out[2]
