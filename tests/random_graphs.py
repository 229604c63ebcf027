"""Networks of any layers in any order: `random_network(7)` is a graph of up to 14 nodes and what it takes to end it.

Layers read the last node or an earlier one; what does not fit is left out. Every kind of layer but those of sequences
occurs, with all its options, and branches of every kind meet: flattened ones, joined ones, ones of one number per
channel.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from circuits.layers import LAYERS
from circuits.segments import FUNCTIONS
from tests.branching import Branching
from zkcert.errors import UnusableInput

LARGEST = 400  # entries of an output
OPS = (
    "adaptiveavgpool2d", "add", "avgpool2d", "batchnorm2d", "cat", "channels", "conv2d", "flatten", "function",
    "groupnorm", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "linear", "maxpool2d", "multiply", "prelu",
    "relu",
)  # fmt: skip
"""What may stand anywhere; a `binary` may end a network."""


class Wild(Branching):
    """A graph that grows by what chance says."""

    def number(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def chance(self, part: float) -> bool:
        return bool(self.rng.random() < part)

    def divisor(self, n: int) -> int:
        return int(self.rng.choice([d for d in range(1, n + 1) if n % d == 0]))

    def other(self, fits: Callable[[list[int]], bool]) -> str:
        """Some node, the last one included, whose output fits."""
        names = [name for name, shape in self.shapes.items() if fits(shape)]
        return names[self.number(0, len(names) - 1)]

    def pair(self, low: int, high: int) -> list[int]:
        return [self.number(low, high), self.number(low, high)]

    def grow(self, op: str) -> None:
        """A node of this kind; UnusableInput, or nothing, where none fits."""
        shape = self.shape
        image = len(shape) == 3
        if image:
            kernel = [self.number(1, min(3, n)) for n in shape[1:]]
        match op:
            case "conv2d" if image:
                groups = self.divisor(shape[0])
                pad, dilation = [self.number(0, int(k > 1)) for k in kernel], self.pair(1, 2)
                more = {} if dilation == [1, 1] else {"dilation": dilation}
                bias = self.chance(0.6)
                self.conv(groups * self.number(1, 2), kernel, self.pair(1, 2), pad, bias, groups, **more)
            case "linear" if not image:
                self.linear(self.number(1, 5), bias=self.chance(0.6))
            case "relu":
                self.relu()
            case "hardsigmoid" | "hardswish":
                self.plain(op)
            case "flatten":
                self.flatten()
            case "add":
                self.add(self.other(lambda other: other == shape))
            case "multiply":
                self.multiply(self.other(lambda other: other in (shape, [shape[0], 1, 1], shape[:1])))
            case "cat":
                self.source, self.shape = None, self.shapes[self.last]
                like = [len(self.shape), *self.shape[1:]]
                self.cat(*(self.other(lambda o: [len(o), *o[1:]] == like) for _ in range(self.number(1, 3))))
            case "prelu":
                self.prelu(1 if self.chance(0.5) else shape[0])
            case "leaky_relu":
                self.leaky_relu(float(self.rng.choice([0.0, 0.01, 0.3, 1.0])))
            case "hardtanh":
                low = self.number(-2000, 1000) / 1024
                self.hardtanh(*((-32.0, 32.0) if self.chance(0.2) else (low, low + self.number(1, 3000) / 1024)))
            case "function":
                self.function(self.functions[self.number(0, 1)])
            case "maxpool2d" | "avgpool2d" if image:
                kernel = self.pair(1, 3)
                options = {"padding": [self.number(0, k // 2) for k in kernel]}
                options = {} if options["padding"] == [0, 0] else options
                options |= {"ceil": True} if self.chance(0.4) else {}
                if op == "avgpool2d":
                    options |= {"inside": True} if self.chance(0.3) else {}
                    options |= {"divisor": self.number(1, 7)} if self.chance(0.2) else {}
                self.pool(op, kernel, self.pair(1, 3), **options)
            case "adaptiveavgpool2d" if image:
                self.adaptive(*self.pair(1, 6))
            case "batchnorm2d":
                self.norm()
            case "groupnorm":
                self.group_norm(self.divisor(shape[0]), each=self.chance(0.4), bias=self.chance(0.7))
            case "channels":
                first = self.number(0, shape[0] - 1)
                count = self.number(1, shape[0] - first)
                self.channels(first, count, self.divisor(count))

    def fits(self) -> bool:
        """Whether the node just added, if one was, is one of a model, and small."""
        node = self.nodes[-1]
        spec = LAYERS[node["op"]].spec
        names = node.get("inputs", [self.nodes[-2]["name"] if len(self.nodes) > 1 else "@input"])
        try:
            received = spec.received([list(self.shapes[name]) for name in names])
            self.shape = list(spec.output_shape(spec.described(node, lambda name: self.params[name].shape), received))
        except UnusableInput:
            return False
        return int(np.prod(self.shape)) <= LARGEST

    def attempt(self, op: str) -> None:
        """Grow by a node, from the last or an earlier one, or leave everything as it is."""
        self.shapes[self.last] = self.shape
        nodes, params, shape, shapes = len(self.nodes), dict(self.params), self.shape, dict(self.shapes)
        if self.chance(0.3):
            self.branch(self.other(lambda _: True))
        try:
            self.grow(op)
            grown = len(self.nodes) > nodes and self.fits()
        except UnusableInput:
            grown = False
        if not grown:
            del self.nodes[nodes:]
            self.params, self.shape, self.shapes, self.source = params, shape, shapes, None

    def end(self) -> None:
        """Everything that nobody reads yet, flattened, through linear layers to two logits or more, or to one."""
        self.shapes[self.last] = self.shape
        names = ["@input", *(node["name"] for node in self.nodes)]
        read = {name for i, node in enumerate(self.nodes) for name in node.get("inputs", [names[i]])}
        heads = []
        for name in [name for name in names[1:] if name not in read] or ["@input"]:
            self.branch(name)
            if len(self.shape) == 3:
                if self.chance(0.5):
                    self.adaptive(1, 1)
                self.flatten()
            self.linear(self.number(1, 3), bias=False)
            heads.append(self.last)
        self.shapes[self.last] = self.shape
        if len(heads) > 1:
            self.cat(*heads[:-1])
        if self.chance(0.3):
            self.linear(1, bias=False).binary()
        else:
            self.linear(self.number(2, 4))


def random_network(seed: int, *, small: bool = False) -> Wild:
    """small: fewer nodes and positions."""
    rng = np.random.default_rng([seed, 21])
    extent = 3 if small else 5
    g = Wild(rng, [int(n) for n in rng.integers(1, extent, 3)], int(rng.random() < 0.2))
    g.functions = [str(name) for name in rng.choice(list(FUNCTIONS), 2)]
    for _ in range(g.number(3, 6 if small else 14)):
        g.attempt(OPS[g.number(0, len(OPS) - 1)])
    g.end()
    return g
