"""What a layer type of the reference semantics is: `LAYERS` has them all, which other files define."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tests.semantics.rounding import Nested, Refusal

Node = Mapping[str, Any]


class Layer:
    """A layer type, one section each; `LAYERS` has them by their op.

    through: its output is what it reads, or its sum. rectifies: what only it reads is no value of its own. joins: it
    gets the channels of what it reads one behind the other, and not the sum. apart: it gets a list of what it reads,
    and gives as many gradients, whose range is not checked yet. moves: it hands on other channels than one node gives.
    exact: the sums of its weight have 32 fractional bits, like a bias's.
    """

    op: str
    through = rectifies = joins = apart = moves = exact = False

    def __init_subclass__(cls) -> None:
        if "op" in cls.__dict__:
            LAYERS[cls.op] = cls()

    def known(self, node: Node, buffers: Mapping[str, Sequence[float]]) -> Node:
        """The node with its public integers."""
        return node

    def forward(self, node: Node, weights: Mapping[str, Nested], x: Nested) -> Nested:
        """The output for one sample."""
        raise NotImplementedError

    def backward(self, node: Node, weights: Mapping[str, Nested], x: Nested, dy: Nested) -> Nested:
        """One sample's input gradient."""
        raise NotImplementedError

    def collect(self, node: Node, x: Nested, dy: Nested, sums: dict[str, Nested]) -> None:
        """Add one sample's part of the parameters' exact sums."""

    def accumulators(self, node: Node, sums: dict[str, Nested]) -> None:
        """From the sums over the batch to the parameters' accumulators."""


LAYERS: dict[str, Layer] = {}


def signed(z: int, name: str) -> int:
    """z, whose sign and magnitude are told apart; a sum of branches may be out of range."""
    if z <= -(1 << 44):
        raise Refusal(f"{name} is out of range")
    return z
