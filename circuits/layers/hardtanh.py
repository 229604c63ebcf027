"""Hardtanh with PyTorch's gradient at its bounds: y = min(max(z, L), H); dz = dy where L < z < H, else 0. ReLU6 is one.

The output is the sum of two tensors of `Clamped`, which nothing needs to commit.
"""

from __future__ import annotations

from circuits.language.tensors import DIGIT_BITS
from zkcert.errors import UnusableInput

from ..net import FRACTION_BITS, Net
from ..value import Value
from .clamp import Clamped
from .spec import LayerSpec, Node, Number

UNIT = 1 << FRACTION_BITS - DIGIT_BITS
BOUND = Number(-1024.0, 1024.0, "between -1024 and 1024")


def _shape(node: Node, shape: list[int]) -> list[int]:
    low, high = (node[key] * UNIT for key in ("low", "high"))
    if low >= high or low % 1 or high % 1:
        raise UnusableInput(f"its bounds must be two multiples of 1/{UNIT}, the lower one first")
    return shape


class Hardtanh(Clamped):
    spec = LayerSpec(op="hardtanh", fields={"low": BOUND, "high": BOUND}, output_shape=_shape)

    def declare_forward(self, net: Net, node: Node, x: Value, shape: tuple[int, ...]) -> None:
        first, last = (int(node[key] * UNIT) for key in ("low", "high"))
        self.declare_clamp(x, first, last, "y", "forward")
        self.y = self.clamped

    def declare_input_gradient(self, net: Net, dy: Value) -> None:
        self.dx = self.like_input("dx")
        self.constraint("backward").add("gradient", self.passed(dy) - self.form(self.dx))
