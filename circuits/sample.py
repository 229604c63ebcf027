"""The samples of the batches: bytes linked to the committed dataset, normalised inputs, one-hot labels."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from circuits.language.constraints import Constraint, ModularLink, expr
from circuits.language.forms import View
from circuits.language.sources import Axis, Map, Sum
from circuits.language.tensors import BIT, Tensor, radix, unsigned
from circuits.language.wide import Domain, Limbs
from zkcert.core import sis
from zkcert.core.field import U64

from .net import VALUE, Net
from .value import Value

if TYPE_CHECKING:
    from .compile import Plan

BYTE = unsigned(8)
Q32_BYTES = 6


def linked_bytes(net: Net, count: int, hashes: U64) -> tuple[Tensor, Tensor]:
    """The bytes of the samples, so many of each, and their randomness, per step, tied to the hashes (T, B, 160)."""
    made = [
        net.circuit.tensor(f"sample/{name}", net.steps, (net.batch, size), radix(BYTE))
        for name, size in (("bytes", count), ("randomness", sis.RHO))
    ]
    parts = [(made[0], partial(sis.columns, b"A")), (made[1], partial(sis.columns, b"S"))]
    net.circuit.links.append(ModularLink("sample", parts, hashes))
    return made[0], made[1]


class Samples:
    """Declares byte, randomness, input and label tensors (per step) and ties them to the public sample hashes."""

    def __init__(self, net: Net, plan: Plan) -> None:
        (channels, height, width), pad = plan.input["shape"], plan.input["pad"]
        self.kind, self.classes, self.label_bytes = plan.kind, plan.classes, plan.label_bytes
        self.pixels, (self.slope, self.offset) = channels * height * width, plan.affine
        per = 1 if self.kind == "u8" else Q32_BYTES
        self.count = self.pixels * per + self.label_bytes
        circuit, step, b = net.circuit, net.step_axis(), net.batch_axis()
        self.bytes, self.rho = linked_bytes(net, self.count, plan.hashes)

        padded = (height + 2 * pad) * (width + 2 * pad)
        s = Axis("s", padded)
        self.input_shape = (channels, height + 2 * pad, width + 2 * pad)
        self.x = Value.of(circuit.tensor("input", net.steps, (net.batch, channels, padded), VALUE), "step")
        # position in the padded image -> position in the sample, -1 in the border
        image = np.full((height + 2 * pad, width + 2 * pad), -1, np.int64)
        image[pad : pad + height, pad : pad + width] = np.arange(height * width).reshape(height, width)
        self.source = image.ravel()
        self.rounding: list[tuple[View, Constraint]] = []
        for c in range(channels):
            con = circuit.constraint(f"input/channel{c}", (step, b, s))
            one = (0,) * c + (1,) + (0,) * (channels - c - 1)
            x = View(self.x.tensor, (step, b, Sum(channels, one), s))

            def raw(byte: int, c: int = c) -> View:
                place = np.where(self.source < 0, -1, per * (c * height * width + self.source) + byte).tolist()
                return View(self.bytes, (step, b, Map("s", tuple(place), self.count)))

            if self.kind == "u8":
                con.add("normalise", expr(raw(0).whole(self.slope[c]) - x.whole()) + self.offset[c])
                continue
            # q = sum 256^i byte_i - 2^43; x = floor((A q + 2^15) / 2^16) + C, with zero (not -2^43) in the border
            domain = Domain(circuit, (step, b, s), unrolled=True)
            rem = domain.wire(f"input/channel{c}.remainder", radix(unsigned(16)))
            limbs = Limbs()
            for i in range(Q32_BYTES):
                limbs.add(raw(i).whole(self.slope[c]), 8 * i)
            limbs.add_value(x, -1, 16).add_value(rem, -1).add_const((1 << 15) + (self.offset[c] << 16))
            inside = tuple(int(i >= 0) for i in self.source.tolist())
            limbs.add_const(-(self.slope[c] << 43), ("s", inside))
            domain.zero(con, "normalise", limbs)
            self.rounding.append((rem, con))

        self.onehot = circuit.tensor("label", net.steps, (net.batch, self.classes), radix(BIT))
        con = circuit.constraint("label", (step, b))
        ones = View(self.onehot, (step, b, Sum(self.classes)))
        index = View(self.onehot, (step, b, Sum(self.classes, tuple(range(self.classes)))))
        con.add("one", expr(ones.whole()) - 1)
        place = [0] * self.count
        for i in range(self.label_bytes):
            place[self.pixels * per + i] = 256**i
        label = View(self.bytes, (step, b, Sum(self.count, tuple(place))))
        con.add("index", index.whole() - label.whole())
