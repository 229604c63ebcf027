"""The product of two branches: y = rescale(a b). One of them may have one number per channel, which then scales all
positions of the other's (squeeze-and-excitation). Their gradients are rescale(dy b) and rescale(dy a), for such a
branch of the exact products added up over the positions.
"""

from __future__ import annotations

from collections.abc import Sequence

from circuits.language.forms import Form
from circuits.language.sources import Axis, Sum
from circuits.language.wide import Limbs
from zkcert.errors import UnusableInput

from ..net import Contraction, Net
from ..value import Value
from .base import Layer
from .spec import LayerSpec, Node, same_shape


def _together(shapes: Sequence[list[int]]) -> list[int]:
    large = max(shapes, key=lambda shape: (len(shape), shape[1:]))
    if any(shape not in (large, [large[0], 1, 1], large[:1]) for shape in shapes):
        raise UnusableInput(f"its inputs have shapes {shapes[0]} and {shapes[1]}: neither equal ones nor one of [C]")
    return large


class Multiply(Layer):
    spec = LayerSpec(op="multiply", inputs=2, together=_together, output_shape=same_shape)

    def declare_forward(self, net: Net, node: Node, x: Value, shape: tuple[int, ...]) -> None:
        sizes = max((v.shape for v in self.branches), key=lambda sizes: (len(sizes), sizes[2:]))
        self.axes = tuple(Axis(f"x{i}", size) for i, size in enumerate(sizes))
        if any(v.shape not in (sizes, (*sizes[:2], 1), sizes[:2]) for v in self.branches):
            raise UnusableInput("one branch is flattened, the other is not")
        self.dxs: list[Value | None] = [None, None]  # by input
        self.runs: list[Contraction | None] = [None, None]
        self.y, (a, b) = self.output("y", sizes), self.branches
        limbs = Limbs().add_product(self._read(a), self._read(b))
        self.run = net.rescaled(self.constraint("forward"), self._read(self.y), limbs, "y")

    def single(self, v: Value) -> bool:
        """Whether it has one number per channel, and the output positions."""
        return v.shape != tuple(a.size for a in self.axes)

    def _read(self, v: Value) -> list[Form]:
        """The limbs of what may be single."""
        ones = [Sum(1)] * (len(v.shape) - 2)
        return self.limbs(v, *self.axes[:2], *ones) if self.single(v) else self.limbs(v)

    def declare_input_gradient(self, net: Net, dy: Value) -> None:
        for i in (i for i in range(2) if self.needed[i]):
            v, label = self.branches[i], f"dx{i}"
            kept = 2 if self.single(v) else len(self.axes)
            con = self.constraint(f"input-gradient{i}", *self.axes[:kept], summed=self.axes[kept:])
            self.dxs[i] = dx = self.tensor(label, v.shape)
            limbs = Limbs().add_product(self.limbs(dy), self._read(self.branches[1 - i]))
            self.runs[i] = net.rescaled(con, self._read(dx), limbs, label)

    def handed(self, i: int) -> Value | None:
        return self.dxs[i]
