"""The reference semantics of functions of single entries, but for the ReLU."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from math import floor

from tests.semantics.functions import FUNCTIONS
from tests.semantics.layer import Layer, Node, signed
from tests.semantics.rounding import Nested, Refusal, each, nearest, rescale, value

HALF = Fraction(1, 2)
THREE = 3 << 32


def slope(node: Node) -> int:
    return floor(Fraction(repr(node["negative_slope"])) * (1 << 32) + HALF)


class LeakyReLU(Layer):
    op = "leaky_relu"

    def forward(self, node: Node, weights: Mapping[str, Nested], x: Nested) -> Nested:
        s = slope(node)
        return each(lambda z: value(z if signed(z, node["name"]) > 0 else rescale(s * z), node["name"]), x)

    def backward(self, node: Node, weights: Mapping[str, Nested], x: Nested, dy: Nested) -> Nested:
        s, what = slope(node), f"{node['name']} input gradient"
        return each(lambda z, d: value(d if z > 0 else rescale(s * d), what), x, dy)


def clamped(z: int, low: int, high: int, name: str) -> int:
    """z between bounds, from which it must not lie too far."""
    if not low - (1 << 44) < z < high + (1 << 44):
        raise Refusal(f"{name} is out of range")
    return min(max(z, low), high)


class Hardtanh(Layer):
    op = "hardtanh"

    def bounds(self, node: Node) -> list[int]:
        return [int(Fraction(node[key]) * (1 << 32)) for key in ("low", "high")]

    def forward(self, node: Node, weights: Mapping[str, Nested], x: Nested) -> Nested:
        low, high = self.bounds(node)
        return each(lambda z: clamped(z, low, high, node["name"]), x)

    def backward(self, node: Node, weights: Mapping[str, Nested], x: Nested, dy: Nested) -> Nested:
        (low, high), what = self.bounds(node), f"{node['name']} input gradient"
        return each(lambda z, d: value(d if low < z < high else 0, what), x, dy)


class Hardsigmoid(Layer):
    op = "hardsigmoid"

    def forward(self, node: Node, weights: Mapping[str, Nested], x: Nested) -> Nested:
        return each(lambda z: nearest(clamped(z, -THREE, THREE, node["name"]) + THREE, 6), x)

    def backward(self, node: Node, weights: Mapping[str, Nested], x: Nested, dy: Nested) -> Nested:
        what = f"{node['name']} input gradient"
        return each(lambda z, d: value(nearest(d, 6) if -THREE < z < THREE else 0, what), x, dy)


class Hardswish(Layer):
    op = "hardswish"

    def forward(self, node: Node, weights: Mapping[str, Nested], x: Nested) -> Nested:
        name = node["name"]
        return each(lambda z: value(nearest(z * (clamped(z, -THREE, THREE, name) + THREE), 2 * THREE), name), x)

    def backward(self, node: Node, weights: Mapping[str, Nested], x: Nested, dy: Nested) -> Nested:
        def one(z: int, d: int) -> int:
            inside = nearest(d * (2 * z + THREE), 2 * THREE)
            return value(inside if -THREE < z < THREE else d if z > 0 else 0, f"{node['name']} input gradient")

        return each(one, x, dy)


class Function(Layer):
    op = "function"

    def parts(self, node: Node, z: int) -> tuple[int, int]:
        """f(z) and f'(z) as they are computed."""
        f = FUNCTIONS[node["function"]]
        if not f.low * 1024 - 1 - (1 << 22) < z >> 22 < f.high * 1024 + (1 << 22):
            raise Refusal(f"{node['name']} is out of range")
        return f.at(z)

    def forward(self, node: Node, weights: Mapping[str, Nested], x: Nested) -> Nested:
        return each(lambda z: value(self.parts(node, z)[0], node["name"]), x)

    def backward(self, node: Node, weights: Mapping[str, Nested], x: Nested, dy: Nested) -> Nested:
        what = f"{node['name']} input gradient"
        return each(lambda z, d: value(rescale(self.parts(node, z)[1] * d), what), x, dy)
