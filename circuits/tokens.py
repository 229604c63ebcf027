"""The samples of a language model: windows of L + 1 tokens, bytes of the committed dataset, as one-hot rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from circuits.language.constraints import expr
from circuits.language.forms import View
from circuits.language.sources import Axis, Map, Source, Sum
from circuits.language.tensors import BIT, radix

from .net import Net
from .sample import linked_bytes
from .value import Value

if TYPE_CHECKING:
    from .compile import Plan


class Tokens:
    """Declares byte, randomness and token tensors (per step) and ties them to the public sample hashes.

    `x`, `onehot`: (batch, tokens, L + 1); an embedding reads the first L positions, the loss the last L.
    """

    def __init__(self, net: Net, plan: Plan) -> None:
        self.input_shape, self.tokens, self.token_bytes = (1, 1, plan.places), plan.classes, plan.label_bytes
        tokens, token_bytes, count = self.tokens, self.token_bytes, plan.places + 1
        self.bytes, self.rho = linked_bytes(net, count * token_bytes, plan.hashes)
        self.onehot = net.circuit.tensor("token", net.steps, (net.batch, tokens, count), radix(BIT))
        self.x = Value.of(self.onehot, "step")
        step, b, s = net.step_axis(), net.batch_axis(), Axis("s", count)
        con = net.circuit.constraint("token", (step, b, s))

        def over_tokens(weights: tuple[int, ...] | None = None) -> View:
            return View(self.onehot, (step, b, Sum(tokens, weights), s))

        con.add("one", expr(over_tokens().whole()) - 1)
        index = over_tokens(tuple(range(tokens))).whole()
        for i in range(token_bytes):
            place = tuple(token_bytes * k + i for k in range(count))
            index = index - View(self.bytes, (step, b, Map("s", place, self.bytes.shape[1]))).whole(256**i)
        con.add("index", index)


def read_at(count: int, axis: str) -> Source:
    """The positions that an embedding reads, of `count` + 1, by a domain axis of `count`."""
    return Map(axis, tuple(range(count)), count + 1)


def behind(count: int, axis: str) -> Source:
    """The positions one behind."""
    return Map(axis, tuple(range(1, count + 1)), count + 1)
