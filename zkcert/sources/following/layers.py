"""Layers with parameters, pooling and concatenation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from zkcert.sources.following.entries import BATCH, Rows, Seen, Source, array, equal, pair, places, refuse, whole
from zkcert.sources.following.pointwise import Pointwise


@dataclass(frozen=True, eq=False)
class Patches:
    """All patches of an output; entries: which of a row are those of the patch, by channel, row and column; rows: of
    sample b[r] patch p[r], in an arrangement `lead`."""

    source: Source
    entries: Tensor
    kernel: tuple[int, int]
    rows: tuple[Tensor, Tensor, tuple[int, ...]]


class Layers(Pointwise):
    """By the operations of PyTorch that are called: on_NAME(arguments)."""

    buffers: dict[int, tuple[str, Tensor]]

    def affine(self, x: Seen | None, weight: Seen | None, bias: Seen | None) -> Seen:
        """x [rows, inputs] times weight [inputs, outputs]."""
        if x is None or weight is None or weight.source.kind != "parameter" or weight.problems:
            refuse("a product with something else than a parameter has no circuit")
        x = self.flattened(self.resolve(x))
        if (found := self.patches(x)) is not None:
            return self.of_patches(found, weight, bias)
        rows = self.rows(x)
        matrix = weight.index.T
        linear = rows.source.positions == 1
        name = self.weight(weight.source, matrix if linear else matrix[:, :, None, None])
        own = None if bias is None else self.weight(bias.source, bias.index.reshape(-1))
        source = rows.source
        if linear and len(source.shape) == 3:
            source = self.emit({"op": "flatten"}, [source], "flatten")
        plain = {"op": "linear", "weight": name, "bias": own}
        if not linear and self.params[name].ndim == 2:
            if own is not None:
                refuse("a weight that is an embedding's as well, with a bias, has no circuit: leave the bias out")
            made = self.emit({"op": "unembedding", "weight": name}, [self.in_line(source)], name)
            return Seen(made, rows.index(made))
        image = {**plain, "op": "conv2d", "stride": [1, 1], "padding": [0, 0]}
        made = self.emit(plain if linear else image, [source], name)
        return Seen(made, rows.index(made))

    def patches(self, seen: Seen) -> Patches | None:
        """Where each row of a tensor is a patch of an image, of which the patches are all: which they are."""
        if seen.source.kind != "node" or len(seen.source.shape) != 3:
            return None
        (channels, height, width), (*lead, count) = seen.source.shape, seen.index.shape
        b, c, p = places(seen.source, seen.index.reshape(-1, count))
        y, x = p // width, p % width
        top, left = y.amin(1, keepdim=True), x.amin(1, keepdim=True)
        rows, columns = (int((t - first).max()) + 1 for t, first in ((y, top), (x, left)))
        entry = (c * rows + y - top) * columns + x - left  # in the patch
        across, down = width // columns, height // rows
        order = (b[:, :1] * down + top // rows) * across + left // columns
        whole_patches = (
            rows * columns > 1
            and not (height % rows or width % columns or (top % rows).any() or (left % columns).any())
            and (b == b[:, :1]).all()
            and (entry == entry[:1]).all()
            and equal(entry[0].sort().values, torch.arange(channels * rows * columns))
            and equal(order[:, 0].sort().values, torch.arange(BATCH * down * across))
        )
        if not whole_patches:
            return None
        number = order[:, 0] % (down * across)
        return Patches(self.resolve(seen).source, entry[0].argsort(), (rows, columns), (b[:, 0], number, tuple(lead)))

    def of_patches(self, x: Patches, weight: Seen, bias: Seen | None) -> Seen:
        """A linear layer of patches is a convolution."""
        matrix = weight.index.T[:, x.entries].reshape(-1, x.source.shape[0], *x.kernel)
        name = self.weight(weight.source, matrix)
        own = None if bias is None else self.weight(bias.source, bias.index.reshape(-1))
        fields = {"weight": name, "bias": own, "stride": list(x.kernel), "padding": [0, 0]}
        made = self.emit({"op": "conv2d", **fields}, [x.source], name)
        self.notes.append(f"{name}: a linear layer of patches {x.kernel[0]}x{x.kernel[1]}, which is a convolution")
        b, p, lead = x.rows
        return Seen(made, Rows(made, b, p, lead).index(made))

    def on_im2col(self, x: Tensor, kernel: Any, dilation: Any, padding: Any, stride: Any) -> Seen:
        seen = self.seen(x)
        if seen is None or set(pair(padding)) != {0}:
            refuse("unfold with padding has no circuit: take patches by a Conv2d")
        index = F.unfold(seen.index.double(), kernel, dilation, padding, stride)
        return replace(seen, index=index.long())

    def on_mm(self, x: Tensor, weight: Tensor) -> Seen:
        return self.affine(self.seen(x), self.parameter(weight), None)

    def on_addmm(self, bias: Tensor, x: Tensor, weight: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Seen:
        own = self.parameter(bias)
        if own is None or own.source.kind != "parameter" or own.index.dim() != 1 or (beta, alpha) != (1, 1):
            refuse("a bias that is no parameter has no circuit")
        return self.affine(self.seen(x), self.parameter(weight), own)

    def on_embedding(self, weight: Tensor, tokens: Tensor, padding_idx: int = -1, *args: Any, **options: Any) -> Seen:
        table, read = self.seen(weight), self.seen(tokens)
        if table is None or table.source.kind != "parameter" or table.index.dim() != 2:
            refuse("an embedding whose table is no parameter has no circuit")
        if read is None:
            return replace(table, index=table.index[tokens])
        if read.source.kind != "tokens":
            refuse("an embedding of something else than the tokens has no circuit")
        name = self.weight(table.source, table.index)
        made = self.emit({"op": "embedding", "weight": name}, [read.source], name)
        length = read.source.shape[2]
        b, p = read.index // length, read.index % length
        return Seen(made, Rows(made, b.reshape(-1), p.reshape(-1), tuple(read.index.shape)).index(made))

    def on_native_layer_norm(self, x: Tensor, shape: Any, weight: Any, bias: Any, eps: float) -> list[Seen]:
        own = {key: self.seen(t) for key, t in (("weight", weight), ("bias", bias)) if key == "weight" or t is not None}
        if len(shape) != 1 or any(s is None or s.source.kind != "parameter" for s in own.values()):
            refuse("a layer norm has a circuit over the channels alone, with a weight")
        read = self.seen(x)
        rows = self.rows(read) if read is not None else refuse("a layer norm reads no output")
        names: dict[str, Any] = {"bias": None, **{key: self.weight(s.source, s.index) for key, s in own.items() if s}}
        each = {"each": True} if rows.source.positions > 1 else {}
        made = self.emit({"op": "groupnorm", **names, "groups": 1, "eps": eps, **each}, [rows.source], names["weight"])
        return [Seen(made, rows.index(made))]

    def on_convolution(
        self,
        x: Tensor,
        weight: Tensor,
        bias: Any,
        stride: Any,
        padding: Any,
        dilation: Any,
        turned: bool,
        out: Any,
        groups: int,
    ) -> Seen:
        table, own = self.parameter(weight), self.parameter(bias)
        axes = weight.dim() - 2
        if turned or axes not in (1, 2):
            refuse("a transposed convolution, or one over three axes, has no circuit")
        if table is None or table.source.kind != "parameter" or (bias is not None and not own):
            refuse("a convolution with something else than parameters has no circuit")
        source = self.image(self.seen(x), "a convolution")
        index = table.index if axes == 2 else table.index[:, :, None]
        fields = {"weight": self.weight(table.source, index), "bias": own and self.weight(own.source, own.index)}
        more = {"stride": (stride, 1), "padding": (padding, 0), "dilation": (dilation, 1)}
        by_axis = {key: [missing] * (2 - axes) + list(given) for key, (given, missing) in more.items()}
        made = self.emit({"op": "conv2d", **fields, **by_axis, "groups": groups}, [source], str(fields["weight"]))
        found = whole(made)
        return found if axes == 2 else replace(found, index=found.index[:, :, 0])

    def on_max_pool2d_with_indices(
        self, x: Tensor, kernel: Any, stride: Any = (), padding: Any = 0, dilation: Any = 1, ceil: bool = False
    ) -> list[Seen]:
        if set(pair(dilation)) != {1}:
            refuse("a dilated pooling has no circuit")
        fields = {"kernel": pair(kernel), "stride": pair(stride or kernel), "padding": pair(padding), "ceil": ceil}
        return [whole(self.emit({"op": "maxpool2d", **fields}, [self.image(self.seen(x), "a pooling")], "maxpool2d"))]

    def on_avg_pool2d(
        self,
        x: Tensor,
        kernel: Any,
        stride: Any = (),
        padding: Any = 0,
        ceil: bool = False,
        border: bool = True,
        divisor: int | None = None,
    ) -> Seen:
        fields = {"kernel": pair(kernel), "stride": pair(stride or kernel), "padding": pair(padding), "ceil": ceil}
        more = {"inside": not border, "divisor": divisor or 0}
        return whole(
            self.emit({"op": "avgpool2d", **fields, **more}, [self.image(self.seen(x), "a pooling")], "avgpool2d")
        )

    def on__adaptive_avg_pool2d(self, x: Tensor, size: Any) -> Seen:
        source = self.image(self.seen(x), "a pooling")
        fields = {"op": "adaptiveavgpool2d", "size": pair(size)}
        return whole(self.emit(fields, [source], "adaptiveavgpool2d"))

    def on_native_group_norm(
        self, x: Tensor, weight: Any, bias: Any, count: int, channels: int, positions: int, groups: int, eps: float
    ) -> list[Seen]:
        own = [self.seen(t) for t in (weight, bias)]
        if any(s is None or s.source.kind != "parameter" for s in own):
            refuse("a group norm has a circuit with weight and bias")
        source = self.image(self.seen(x), "a group norm")
        names = {key: self.weight(s.source, s.index) for key, s in zip(("weight", "bias"), own, strict=True) if s}
        made = self.emit({"op": "groupnorm", **names, "groups": groups, "eps": eps}, [source], names["weight"])
        return [whole(made)]

    def on_native_batch_norm(
        self, x: Tensor, weight: Any, bias: Any, mean: Any, var: Any, training: bool, momentum: float, eps: float
    ) -> list[Seen]:
        own = [self.seen(t) for t in (weight, bias)]
        if training or any(s is None for s in own) or any(id(t) not in self.buffers for t in (mean, var)):
            refuse("a batch norm has a circuit with weight, bias and running statistics")
        names = {key: self.weight(s.source, s.index) for key, s in zip(("weight", "bias"), own, strict=True) if s}
        for key, t in (("mean", mean), ("var", var)):
            names[key] = self.buffers[id(t)][0]
            self.params[names[key]] = array(t)
        source = self.image(self.seen(x), "a batch norm")
        return [whole(self.emit({"op": "batchnorm2d", **names, "eps": eps}, [source], names["weight"]))]

    def on__native_batch_norm_legit_no_training(
        self, x: Tensor, weight: Any, bias: Any, mean: Any, var: Any, momentum: float, eps: float
    ) -> list[Seen]:
        return self.on_native_batch_norm(x, weight, bias, mean, var, False, momentum, eps)

    def on_mean(self, x: Tensor, dims: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Seen:
        read = self.seen(x)
        if read is None or read.source.kind != "node" or dims is None:
            refuse("this mean has no circuit: only one over all positions has")
        read = self.resolve(read)
        dims = sorted(d % x.dim() for d in (dims if isinstance(dims, list | tuple) else [dims]))
        last = read.index.movedim(dims, tuple(range(-len(dims), 0))).flatten(-len(dims))
        count, channels = read.source.positions, read.source.shape[0]
        own = last // count
        if last.shape[-1] != count or not (own == own[..., :1]).all() or last.unique().numel() != last.numel():
            refuse("this mean has no circuit: only one over all positions has")
        rows, columns = read.source.shape[1:]
        fields = {"op": "avgpool2d", "kernel": [rows, columns], "stride": [rows, columns]}
        made = self.emit(fields, [read.source], "mean")
        index = own[..., 0]  # sample and channel
        assert made.shape == (channels, 1, 1)
        if keepdim:
            for d in dims:
                index = index.unsqueeze(d)
        return Seen(made, index)

    def on_as_strided(self, x: Tensor, size: Sequence[int], stride: Sequence[int], offset: int | None = None) -> Seen:
        """Which adaptive pooling ends in where channels stand last in memory: of an axis of one, any stride will do."""
        kept = all(n == 1 or own == new for n, own, new in zip(size, x.stride(), stride, strict=False))
        read = self.seen(x)
        if read is None or list(size) != list(x.shape) or not kept or offset not in (None, x.storage_offset()):
            refuse("as_strided has no circuit: use reshape, permute or a slice")
        return read

    def on_cat(self, tensors: Sequence[Tensor], dim: int = 0) -> Seen:
        read = [self.seen(t) for t in tensors if t.numel()]
        if any(s is None for s in read):
            refuse("cat of an output and fixed numbers has no circuit")
        parts: list[Seen] = [s for s in read if s is not None]
        kinds = [s.source.kind for s in parts]
        if len(parts) == 1:
            return parts[0]
        dim %= parts[0].index.dim()
        if kinds == ["parameter"] * len(kinds):
            if len({id(s.source) for s in parts}) > 1:
                refuse("cat of several parameters has no circuit")
            return replace(parts[0], index=torch.cat([s.index for s in parts], dim))
        if kinds == ["parameter", "node"] and dim == 1 and parts[0].index.dim() == 3:
            own, other = parts
            rows = self.rows(other)
            token = own.index.reshape(BATCH, -1)
            in_order = equal(rows.p, torch.arange(rows.source.positions).repeat(BATCH))
            if token.shape[1] != rows.source.shape[0] or not (token == token[:1]).all() or not in_order:
                refuse("cat has a circuit for one learned token before a sequence")
            weight = self.weight(own.source, token[0])
            made = self.emit({"op": "prepend", "weight": weight}, [self.in_line(rows.source)], weight)
            return Seen(made, torch.arange(BATCH * math.prod(made.shape)).reshape(BATCH, made.shape[0], -1).mT)
        if set(kinds) != {"node"}:
            what = {"node": "an output", "parameter": "a parameter"}
            named = " and ".join(what.get(kind, kind) for kind in dict.fromkeys(kinds))
            refuse(f"cat of {named} has no circuit: it has for channels, and for one learned token before a sequence")
        found = [self.rows(replace(self.resolve(s), index=self.resolve(s).index.movedim(dim, -1))) for s in parts]
        if not all(equal(r.b, found[0].b) and equal(r.p, found[0].p) for r in found):
            refuse("cat has a circuit for channels")
        made = self.emit({"op": "cat"}, [r.source for r in found], "cat")
        return Seen(made, found[0].index(made).movedim(-1, dim))
