"""What both pooling layers share: windows as a public index table over flattened positions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from circuits.language.constraints import DomainAxis
from circuits.language.forms import Form
from circuits.language.sources import Same, Source

from ..net import I64, Net
from ..value import Value
from .base import Layer
from .spec import Arrays, Integers, LayerSpec, Node, Read, TorchForm, pair, require_image, window_shape


def pool_shape(node: Node, shape: list[int], tensors: Arrays) -> list[int]:
    """Of windows without padding."""
    require_image(shape)
    return [shape[0], *window_shape(shape, node["kernel"], node["stride"], (0, 0))]


def pool_spec(op: str, names: tuple[str, ...], run: Callable[..., Any], *more: TorchForm) -> LayerSpec:
    """Of a pooling layer whose function is `run`(F)(inputs, kernel, stride); more: other forms."""

    def fields(
        read: Read,
        kernel_size: Any,
        stride: Any = None,
        *,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: Any = False,
        return_indices: Any = False,
        divisor_override: Any = None,
        count_include_pad: Any = True,  # there is no padding
    ) -> dict[str, Any]:
        for key, value, usual in (
            ("padding", padding, 0),
            ("dilation", dilation, 1),
            ("ceil_mode", ceil_mode, False),
            ("return_indices", return_indices, False),
            ("divisor_override", divisor_override, None),
        ):
            if value not in (usual, (usual, usual)):
                raise ValueError(f"{op} with {key}={value} is not supported: leave {key} at {usual}")
        return {"kernel": pair(kernel_size), "stride": pair(kernel_size if stride is None else stride)}

    return LayerSpec(
        op=op,
        fields={"kernel": Integers(2, 1), "stride": Integers(2, 1)},
        output_shape=pool_shape,
        run=lambda F, node, tensors, x: run(F)(x, node["kernel"], node["stride"]),
        forms=(TorchForm(names, fields), *more),
    )


class Pool(Layer):
    def declare_windows(self, net: Net, node: dict[str, Any], x: Value, shape: tuple[int, ...]) -> None:
        self.name, self.x, self.net = node["name"], x, net
        self.windows = net.windows(shape, node["kernel"], node["stride"], (0, 0))
        self.reads, self.readers = self.windows.reads(), self.windows.readers()
        channels = shape[0]
        self.shape = (channels, *self.windows.grid)
        self.b, self.c = net.batch_axis(), DomainAxis("c", channels)
        self.k, self.s = DomainAxis("k", self.windows.count), DomainAxis("s", self.windows.outputs)
        self.i = DomainAxis("i", self.windows.positions)
        self.y = net.activation(f"{self.name}/y", (net.batch, channels, self.s.size))

    @property
    def index(self) -> I64:
        """[k, s]: the input position that output position s reads through window position k."""
        return self.reads.index

    def form(self, v: Value, last: Source) -> Form:
        """The value as one form, its positions read through `last`."""
        return v.whole(self.net.over_passes, Same("b", self.b.size), Same("c", self.c.size), last)
