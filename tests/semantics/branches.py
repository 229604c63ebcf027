"""The reference semantics of products of branches, of learned slopes and of a single logit."""

from __future__ import annotations

from collections.abc import Mapping

from tests.semantics.layer import Layer, Node, signed
from tests.semantics.rounding import Nested, each, entries, rescale, value


class PReLU(Layer):
    op = "prelu"

    def slopes(self, node: Node, weights: Mapping[str, Nested], x: Nested) -> Nested:
        """One for each entry."""
        own = weights[node["weight"]]
        own = own if len(own) == len(x) else own * len(x)
        return [each(lambda _, a=a: a, channel) for a, channel in zip(own, x, strict=True)]

    def forward(self, node: Node, weights: Mapping[str, Nested], x: Nested) -> Nested:
        def one(z: int, a: int) -> int:
            return value(z if signed(z, node["name"]) > 0 else rescale(a * z), node["name"])

        return each(one, x, self.slopes(node, weights, x))

    def backward(self, node: Node, weights: Mapping[str, Nested], x: Nested, dy: Nested) -> Nested:
        what = f"{node['name']} input gradient"
        slopes = self.slopes(node, weights, x)
        return each(lambda z, d, a: value(d if z > 0 else rescale(a * d), what), x, dy, slopes)

    def collect(self, node: Node, x: Nested, dy: Nested, sums: dict[str, Nested]) -> None:
        own = sums[node["weight"]]
        for c, (zs, ds) in enumerate(zip(x, dy, strict=True)):
            pairs = zip(entries(zs), entries(ds), strict=True)
            own[c if len(own) == len(x) else 0] += sum(min(z, 0) * d for z, d in pairs)


class Binary(Layer):
    op, through, moves = "binary", True, True

    def forward(self, node: Node, weights: Mapping[str, Nested], x: Nested) -> Nested:
        return [0, *x]

    def backward(self, node: Node, weights: Mapping[str, Nested], x: Nested, dy: Nested) -> Nested:
        return dy[1:]


def spread(x: Nested, other: Nested) -> Nested:
    """One number per channel as an image of the other's size; anything else as it is."""
    size = sum(1 for _ in entries(x[0]))
    if size > 1 or size == sum(1 for _ in entries(other[0])):
        return x
    return [each(lambda _, a=a: next(entries(a)), channel) for a, channel in zip(x, other, strict=True)]


class Multiply(Layer):
    op, apart = "multiply", True

    def forward(self, node: Node, weights: Mapping[str, Nested], x: Nested) -> Nested:
        a, b = x
        a, b = spread(a, b), spread(b, a)
        return each(lambda p, q: value(rescale(p * q), node["name"]), a, b)

    def backward(self, node: Node, weights: Mapping[str, Nested], x: Nested, dy: Nested) -> Nested:
        out = []
        for own, other in (x, reversed(x)):
            exact = each(lambda d, b: d * b, dy, spread(other, dy))
            if spread(own, dy) is not own:
                exact = [sum(entries(channel)) for channel in exact]
                exact = [[[total]] for total in exact] if isinstance(own[0], list) else exact
            out.append(each(rescale, exact))
        return out
