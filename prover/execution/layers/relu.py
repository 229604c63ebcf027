"""How `circuits.layers.relu` is filled."""

from __future__ import annotations

from circuits.layers.relu import ReLU

from ..values import put_rectified, read_value
from ..witness import Witness
from ..workers import by_rows
from .base import Accumulators, Executor
from .pytorch import TorchForm, TorchLayer


class ReLUExecutor(Executor):
    """Signs, magnitudes and outputs, unless the layer before filled them."""

    layer_type = ReLU
    layer: ReLU
    torch = TorchLayer(
        run=lambda F, node, tensors, x: F.relu(x),
        forms=(
            TorchForm(
                ("torch.nn.ReLU", "torch.nn.functional.relu", "torch.relu", "torch.Tensor.relu"),
                lambda read, *, inplace=False: {},
            ),
        ),
    )

    def forward(self, w: Witness, p: int) -> None:
        layer = self.layer
        if not layer.fused:
            by_rows(
                layer.x.shape,
                lambda part: put_rectified(layer.rectifier, w, read_value(layer.x, w, p, part), p, part),
            )

    def backward(self, w: Witness, p: int) -> Accumulators:
        if (dx := self.layer.dx) is not None:

            def run(part: slice) -> None:
                bit = w.value(self.layer.bit.tensor, p, part)
                w.put(dx.tensor, read_value(self.layer.dy, w, p, part) * bit, p, part)

            by_rows(dx.shape, run)
        return {}
