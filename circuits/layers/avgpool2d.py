"""Average pooling: y = (sum over the window) / K, rounded to the nearest unit; the gradient likewise."""

from __future__ import annotations

from typing import Any

from circuits.language.constraints import expr
from circuits.language.forms import View
from circuits.language.sources import GatherSum, Same
from circuits.language.tensors import Range, radix

from ..net import Net
from ..value import Value
from .pool import Pool, pool_spec
from .spec import Read, TorchForm, pair


def _adaptive(read: Read, output_size: Any) -> dict[str, Any]:
    """The windows of an adaptive pooling; sizes must divide."""
    extent = read.extent()
    size = [extent[i] if n is None else n for i, n in enumerate(pair(output_size))]
    if any(n < 1 or e % n for e, n in zip(extent, size, strict=True)):
        raise ValueError(f"adaptive pooling from {extent} to {size}: sizes must divide, as 1 does")
    kernel = [e // n for e, n in zip(extent, size, strict=True)]
    return {"kernel": kernel, "stride": kernel}


def _mean(read: Read, dim: Any = None, keepdim: Any = False) -> list[dict[str, Any]]:
    """The mean over both image axes."""
    if ({d % 4 for d in dim} if isinstance(dim, tuple | list) else {dim}) != {2, 3}:
        raise ValueError(f"mean over axes {dim}: only the mean over both image axes is supported: dim=(2, 3)")
    pool = {"op": "avgpool2d", **_adaptive(read, 1)}
    return [pool] if keepdim else [pool, {"op": "flatten"}]


class AvgPool2d(Pool):
    spec = pool_spec(
        "avgpool2d",
        ("torch.nn.AvgPool2d", "torch.nn.functional.avg_pool2d"),
        lambda F: F.avg_pool2d,
        TorchForm(("torch.nn.AdaptiveAvgPool2d", "torch.nn.functional.adaptive_avg_pool2d"), _adaptive),
        TorchForm(("torch.mean", "torch.Tensor.mean"), _mean),
    )

    def __init__(self, net: Net, node: dict[str, Any], x: Value, shape: tuple[int, ...]) -> None:
        self.declare_windows(net, node, x, shape)
        self.rem = self._divide("forward", self.y, Same("s", self.s.size), x, "s", self.reads, self.i.size)

    def _divide(self, label: str, out: Value, place: Same, source: Value, axis: str, table: Any, size: int) -> Any:
        """Constrain K out + remainder = (sum of the entries of `source` that `table` lists) + floor(K/2)."""
        net, count = self.net, self.k.size
        rem = net.circuit.tensor(f"{self.name}/{label}.remainder", net.passes, out.shape, radix(Range(count)))
        domain = (net.pass_axis(), self.b, self.c, self.s if axis == "s" else self.i)
        con = net.circuit.constraint(f"{self.name}/{label}", domain)
        r = View(rem, tuple(Same(a.name, a.size) for a in domain)).whole()
        total = self.form(source, GatherSum(axis, table, size))
        con.add("mean", expr(self.form(out, place) * count + r - total) - count // 2)
        return rem

    def declare_backward(self, net: Net, dy: Value, need_input: bool) -> None:
        if not need_input:
            return
        self.dy = dy
        self.dx = net.activation(f"{self.name}/dx", (net.batch, self.c.size, self.i.size))
        place = Same("i", self.i.size)
        self.rem_back = self._divide("backward", self.dx, place, dy, "i", self.readers, self.s.size)
