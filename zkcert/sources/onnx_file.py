"""ONNX files that nobody vouches for: read with `onnx`, in one file, and compared with what `onnx` itself computes."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from zkcert.errors import UnusableInput
from zkcert.files.extras import needs_extras
from zkcert.files.limits import memory_for
from zkcert.public.reading import read_file
from zkcert.sources import rebuilt
from zkcert.sources.rebuilt import Rebuilt, refuse
from zkcert.sources.samples import SEQUENCES

if TYPE_CHECKING:
    import onnx

MAX_BYTES = (1 << 31) - 1
MAX_NODES = 1 << 14
MAX_BATCH = 64
MAX_VALUES = 1 << 22  # of an input
_WORK = 1 << 30
_FLOATS = {"float16", "float32", "float64"}
_NEAR = 1e-4

_PLAIN: dict[str, Callable[..., Any]] = {
    **{"Relu": F.relu, "Sigmoid": torch.sigmoid, "Tanh": torch.tanh, "HardSwish": F.hardswish, "Mish": F.mish},
    **{"Erf": torch.erf, "Exp": torch.exp, "Sqrt": torch.sqrt, "Softplus": F.softplus, "Softsign": F.softsign},
}
"""Operators of one input, without attributes."""


def read_onnx(file: str) -> tuple[nn.Module, Mapping[str, Any], list[str]]:
    """The module of an ONNX file, what it reads, and notes. Raises UnusableInput."""
    with needs_extras("reading ONNX", "onnx"):
        import onnx
    data = read_file(file, MAX_BYTES)
    try:
        with memory_for(_WORK + 8 * len(data)):
            model = onnx.load_model_from_string(data)
            reader = _Reader(model, file)
            return reader.result()
    except MemoryError:
        refuse(file, f"claims to hold far more than its {len(data)} bytes")
    except (_Damaged, onnx.onnx_cpp2py_export.checker.ValidationError) as error:
        refuse(file, f"no sound ONNX file ({' '.join(str(error).split())[:150]})")
    except Exception as error:
        if type(error).__name__ in ("DecodeError", "ParseError"):
            refuse(file, "no ONNX file")
        raise


def _other_than(usual: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """What is given and not as usual."""
    return {key: value for key, value in given.items() if value != usual[key]}


class _Damaged(Exception):
    """The file contradicts itself."""


class _Reader:
    """Values are nodes (outputs of layers), arrays (constants), or lists of integers (shapes, where 0 stands for the
    size of the batch)."""

    def __init__(self, model: onnx.ModelProto, file: str) -> None:
        self.model, self.file, self.out = model, file, Rebuilt()
        self.values: dict[str, Any] = {}
        self.ranks: dict[str, int] = {}
        self.uses: dict[str, int] = {}
        self.sums: dict[fx.Node, nn.Module] = {}  # products that may get a bias

    def result(self) -> tuple[nn.Module, Mapping[str, Any], list[str]]:
        graph = self.model.graph
        if self.model.functions or len(graph.node) > MAX_NODES:
            refuse(self.file, f"has functions of its own, or more than {MAX_NODES} nodes: export plain operators")
        names = [
            name for node in graph.node for name in (node.op_type, node.domain, node.name, *node.input, *node.output)
        ]
        names += [value.name for value in (*graph.initializer, *graph.input, *graph.output)]
        if not all(isinstance(name, str) for name in names):
            raise _Damaged("a name is no UTF-8 text")
        if unknown := sorted({node.op_type for node in graph.node} - {*_PLAIN, *_OPERATORS}):
            shown = ", ".join(ascii(name)[1:-1][:40] for name in unknown[:8])
            refuse(self.file, f"has operators that no circuit is for: {shown}; export a module of others")
        if graph.sparse_initializer:
            refuse(self.file, "has sparse weights")
        for tensor in graph.initializer:
            self.values[tensor.name] = self._array(tensor)
        inputs = [value for value in graph.input if value.name not in self.values]
        if len(inputs) != 1 or len(graph.output) != 1:
            refuse(
                self.file,
                f"has {len(inputs)} inputs and {len(graph.output)} outputs; expected images, and logits alone",
            )
        reads, batch, notes = self._reads(inputs[0])
        for node in graph.node:
            for name in node.input:
                self.uses[name] = self.uses.get(name, 0) + 1
        for i, node in enumerate(graph.node):
            self._node(node, f"{node.op_type.lower()}_{i}")
        output = self.values.get(graph.output[0].name)
        if not isinstance(output, fx.Node):
            refuse(self.file, "its output follows from no layer")
        module = self.out.module(output)
        self._compare(module, reads, batch, inputs[0].name)
        return module, {"reads": reads}, notes

    def _reads(self, value: onnx.ValueInfoProto) -> tuple[list[int], int, list[str]]:
        """What the input is: [C, H, W], the size of the batch, or 0 if it is free, and notes."""
        dims = [dim.dim_value if dim.HasField("dim_value") else 0 for dim in value.type.tensor_type.shape.dim]
        if len(dims) not in (2, 3, 4) or not (min(dims[1:]) > 0 and math.prod(dims[1:]) <= MAX_VALUES):
            refuse(
                self.file, f"reads an input of the shape {dims[:9]}; expected [batch, C, H, W], fixed but for the batch"
            )
        if not 0 <= dims[0] <= MAX_BATCH:
            refuse(self.file, f"is made for batches of {dims[0]}: export it with a free batch size, or a small one")
        self.ranks[value.name] = len(dims)
        self.values[value.name] = self.out.input
        if len(dims) == 4:
            return dims[1:], dims[0], []
        if len(dims) == 3:
            self.values[value.name] = self.out.call(torch.squeeze, self.out.input, 2)
            return [dims[1], 1, dims[2]], dims[0], [SEQUENCES.note]
        self.values[value.name] = self.out.call(torch.flatten, self.out.input, 1)
        return [1, 1, dims[1]], dims[0], [f"vectors of length {dims[1]} are read as 1x1x{dims[1]}"]

    def _array(self, tensor: onnx.TensorProto) -> npt.NDArray[Any]:
        from onnx import TensorProto, numpy_helper

        if tensor.data_location == TensorProto.EXTERNAL:
            refuse(
                self.file, "keeps its weights in another file: save it in one, as onnx.save(onnx.load(...), FILE) does"
            )
        if len(tensor.dims) > 8 or any(not 0 <= n < 1 << 31 for n in tensor.dims):
            raise _Damaged(f"a tensor of the shape {list(tensor.dims)[:9]}")
        try:
            return np.array(numpy_helper.to_array(tensor))
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            raise _Damaged(f"tensor {tensor.name[:40]!a}: {error}") from error

    # ------------------------------------------------------------------------------------------------- nodes

    def _node(self, node: onnx.NodeProto, name: str) -> None:
        if node.domain not in ("", "ai.onnx") or len(node.output) < 1:
            self._no(node, f"the operator {node.domain[:40]}.{node.op_type[:40]} is not one of ONNX's own")
        if any(attribute.type in (5, 10) for attribute in node.attribute):
            self._no(node, "has branches of its own; expected a plain sequence of layers")
        inputs = [self.values.get(key) if key else None for key in node.input]
        if any(key and key not in self.values for key in node.input):
            raise _Damaged(f"node {node.name[:40]!a} reads what is not there")
        given = self._attributes(node)
        rank = self.ranks.get(node.input[0], 0) if node.input else 0
        try:
            if node.op_type in _PLAIN:
                value: Any = self.out.call(_PLAIN[node.op_type], inputs[0])
            else:
                value = _OPERATORS[node.op_type](self, node, inputs, given, name, rank)
        except (UnusableInput, MemoryError, _Damaged):
            raise
        except Exception as error:  # inputs that are missing, or numbers that fit nothing
            text = " ".join(str(error).split())[:80]
            self._no(node, f"{node.op_type} does not fit its inputs ({type(error).__name__}: {text})")
        if value is None:
            self._no(node, f"{node.op_type} with these inputs and attributes has no circuit")
        value, new = value if isinstance(value, tuple) else (value, rank)
        self.values[node.output[0]], self.ranks[node.output[0]] = value, new

    def _no(self, node: onnx.NodeProto, what: str) -> NoReturn:
        refuse(self.file, f"node {ascii(node.name or (node.output or ['?'])[0])[1:-1][:60]}: {what}")

    def _attributes(self, node: onnx.NodeProto) -> dict[str, Any]:
        from onnx import helper

        out = {}
        for attribute in node.attribute:
            value = helper.get_attribute_value(attribute)
            out[attribute.name] = value.decode("latin1") if isinstance(value, bytes) else value
        return out

    def _path(self, node: onnx.NodeProto, name: str) -> str:
        """Where a layer goes: where its weight is said to be."""
        weight = node.input[1]
        return weight.removesuffix(".weight") if weight.endswith(".weight") else name

    def _tensor(self, value: Any) -> Tensor | None:
        if not isinstance(value, np.ndarray) or str(value.dtype) not in _FLOATS:
            return None
        return torch.from_numpy(value.astype(np.float32) if value.dtype == np.float16 else value.copy())

    def _window(self, given: Mapping[str, Any], axes: int) -> tuple[list[int], list[int], list[int]] | None:
        """Strides, padding and dilations over so many axes; None if the padding differs at two sides."""
        pads = list(given.get("pads", [0] * 2 * axes))
        if given.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID") or pads[:axes] != pads[axes:]:
            return None
        return list(given.get("strides", [1] * axes)), pads[:axes], list(given.get("dilations", [1] * axes))

    def _Conv(self, node: Any, inputs: list[Any], given: dict[str, Any], name: str, rank: int) -> Any:
        weight, bias = self._tensor(inputs[1]), self._tensor(inputs[2]) if inputs[2:] else None
        if weight is None or weight.ndim not in (3, 4) or (inputs[2:] and bias is None):
            return None
        window = self._window(given, weight.ndim - 2)
        if window is None or not isinstance(inputs[0], fx.Node):
            return None
        layer = rebuilt.conv(weight, bias, *window, int(given.get("group", 1)))
        return self.out.layer(self._path(node, name), layer, inputs[0]), weight.ndim

    def _Gemm(self, node: Any, inputs: list[Any], given: dict[str, Any], name: str, rank: int) -> Any:
        weight, bias = self._tensor(inputs[1]), self._tensor(inputs[2]) if inputs[2:] else None
        scaled = given.get("alpha", 1.0) != 1.0 or given.get("beta", 1.0) != 1.0 or given.get("transA", 0)
        if weight is None or weight.ndim != 2 or scaled or not isinstance(inputs[0], fx.Node):
            return None
        weight = weight if given.get("transB", 0) else weight.T.contiguous()
        if inputs[2:] and (bias is None or bias.shape != (len(weight),)):
            return None
        return self.out.layer(self._path(node, name), rebuilt.linear(weight, bias), inputs[0]), 2

    def _MatMul(self, node: Any, inputs: list[Any], given: dict[str, Any], name: str, rank: int) -> Any:
        weight = self._tensor(inputs[1])
        if weight is None or weight.ndim != 2 or not isinstance(inputs[0], fx.Node):
            return None
        layer = rebuilt.linear(weight.T.contiguous(), None)
        out = self.out.layer(self._path(node, name), layer, inputs[0])
        if self.uses.get(node.output[0]) == 1:
            self.sums[out] = layer
        return out, rank

    def _Add(self, node: Any, inputs: list[Any], given: dict[str, Any], name: str, rank: int) -> Any:
        left, right = inputs
        if isinstance(left, np.ndarray):
            left, right = right, left
        if isinstance(left, fx.Node) and isinstance(right, fx.Node):
            return self.out.call(operator.add, left, right)
        bias, layer = self._tensor(right), self.sums.pop(left, None) if isinstance(left, fx.Node) else None
        if bias is None or not isinstance(layer, nn.Linear) or bias.shape != (layer.out_features,):
            return None
        layer.bias = nn.Parameter(bias, requires_grad=False)
        return left, self.ranks.get(node.input[0], 0) or self.ranks.get(node.input[1], 0)

    def _Mul(self, node: Any, inputs: list[Any], given: dict[str, Any], name: str, rank: int) -> Any:
        return self.out.call(operator.mul, *inputs) if all(isinstance(v, fx.Node) for v in inputs) else None

    def _BatchNormalization(self, node: Any, inputs: list[Any], given: dict[str, Any], name: str, rank: int) -> Any:
        tensors = [self._tensor(value) for value in inputs[1:5]]
        if any(t is None or t.ndim != 1 for t in tensors) or given.get("training_mode", 0) or rank not in (2, 3, 4):
            return None
        layer = rebuilt.batch_norm(rank, *(t for t in tensors if t is not None), float(given.get("epsilon", 1e-5)))
        return self.out.layer(self._path(node, name), layer, inputs[0])

    def _LeakyRelu(self, node: Any, inputs: list[Any], given: dict[str, Any], name: str, rank: int) -> Any:
        return self.out.call(F.leaky_relu, inputs[0], round(float(given.get("alpha", 0.01)), 9))

    def _PRelu(self, node: Any, inputs: list[Any], given: dict[str, Any], name: str, rank: int) -> Any:
        slopes = self._tensor(inputs[1])
        if slopes is None or not isinstance(inputs[0], fx.Node):
            return None
        per_channel = slopes.ndim == rank - 1 and len(slopes) == slopes.numel()
        if slopes.numel() != 1 and not per_channel:
            return None
        return self.out.layer(self._path(node, name), rebuilt.prelu(slopes.flatten()), inputs[0])

    def _Elu(self, node: Any, inputs: list[Any], given: dict[str, Any], name: str, rank: int) -> Any:
        return self.out.call(F.elu, inputs[0], round(float(given.get("alpha", 1.0)), 9))

    def _Gelu(self, node: Any, inputs: list[Any], given: dict[str, Any], name: str, rank: int) -> Any:
        return self.out.call(F.gelu, inputs[0], approximate=str(given.get("approximate", "none")))

    def _HardSigmoid(self, node: Any, inputs: list[Any], given: dict[str, Any], name: str, rank: int) -> Any:
        plain = abs(given.get("alpha", 0.2) - 1 / 6) < 1e-6 and given.get("beta", 0.5) == 0.5
        return self.out.call(F.hardsigmoid, inputs[0]) if plain else None

    def _Clip(self, node: Any, inputs: list[Any], given: dict[str, Any], name: str, rank: int) -> Any:
        ends = [given.get("min"), given.get("max")]
        for i, value in enumerate(inputs[1:3]):
            ends[i] = value.item() if isinstance(value, np.ndarray) and value.size == 1 else None
        if None in ends:
            return None
        low, high = (float(end) for end in ends)
        if (low, high) == (0.0, 6.0):
            return self.out.call(F.relu6, inputs[0])
        return self.out.call(F.hardtanh, inputs[0], low, high)

    def _MaxPool(self, node: Any, inputs: list[Any], given: dict[str, Any], name: str, rank: int) -> Any:
        window = self._window(given, rank - 2) if rank in (3, 4) else None
        if window is None or given.get("storage_order", 0) or len(node.output) > 1:
            return None
        pool = F.max_pool2d if rank == 4 else F.max_pool1d
        stride, padding, dilation = map(rebuilt.alike, window)
        kernel = rebuilt.alike(list(given["kernel_shape"]))
        options = {"padding": padding, "dilation": dilation, "ceil_mode": self._ceil(given)}
        usual = {"padding": 0, "dilation": 1, "ceil_mode": False}
        return self.out.call(pool, inputs[0], kernel, stride, **_other_than(usual, options))

    def _AveragePool(self, node: Any, inputs: list[Any], given: dict[str, Any], name: str, rank: int) -> Any:
        window = self._window(given, rank - 2) if rank in (3, 4) else None
        if window is None or set(window[2]) != {1}:
            return None
        pool = F.avg_pool2d if rank == 4 else F.avg_pool1d
        counted = bool(given.get("count_include_pad", 0)) or not any(window[1])
        kernel, stride, padding = map(rebuilt.alike, (list(given["kernel_shape"]), *window[:2]))
        options = {"padding": padding, "ceil_mode": self._ceil(given), "count_include_pad": counted}
        usual = {"padding": 0, "ceil_mode": False, "count_include_pad": True}
        return self.out.call(pool, inputs[0], kernel, stride, **_other_than(usual, options))

    def _ceil(self, given: Mapping[str, Any]) -> bool:
        return bool(given.get("ceil_mode", 0))

    def _GlobalAveragePool(self, node: Any, inputs: list[Any], given: dict[str, Any], name: str, rank: int) -> Any:
        pools = {3: F.adaptive_avg_pool1d, 4: F.adaptive_avg_pool2d}
        return self.out.call(pools[rank], inputs[0], 1) if rank in pools else None

    def _ReduceMean(self, node: Any, inputs: list[Any], given: dict[str, Any], name: str, rank: int) -> Any:
        axes = inputs[1].tolist() if inputs[1:] and isinstance(inputs[1], np.ndarray) else list(given.get("axes", []))
        keep = bool(given.get("keepdims", 1))
        behind = list(range(2, rank))
        if rank not in (3, 4) or sorted(a % rank for a in axes) != behind:
            return None
        return self.out.call(torch.mean, inputs[0], behind, keep), rank if keep else 2

    def _Flatten(self, node: Any, inputs: list[Any], given: dict[str, Any], name: str, rank: int) -> Any:
        return (self.out.call(torch.flatten, inputs[0], 1), 2) if given.get("axis", 1) == 1 else None

    def _Reshape(self, node: Any, inputs: list[Any], given: dict[str, Any], name: str, rank: int) -> Any:
        target = inputs[1].tolist() if isinstance(inputs[1], np.ndarray) else inputs[1]
        if not isinstance(target, list) or len(target) != 2 or given.get("allowzero", 0):
            return None
        return self.out.call(torch.flatten, inputs[0], 1), 2

    def _Squeeze(self, node: Any, inputs: list[Any], given: dict[str, Any], name: str, rank: int) -> Any:
        axes = inputs[1].tolist() if inputs[1:] and isinstance(inputs[1], np.ndarray) else list(given.get("axes", []))
        if isinstance(inputs[0], list):
            return inputs[0], 0
        return (
            (self.out.call(torch.flatten, inputs[0], 1), 2)
            if (rank == 4 and sorted(axes) in ([2, 3], [-2, -1])) or (rank == 3 and axes in ([2], [-1]))
            else None
        )

    def _Concat(self, node: Any, inputs: list[Any], given: dict[str, Any], name: str, rank: int) -> Any:
        if all(isinstance(value, fx.Node) for value in inputs):
            return self.out.call(torch.cat, inputs, int(given.get("axis", 1)))
        lists = [value.ravel().tolist() if isinstance(value, np.ndarray) else value for value in inputs]
        return ([n for part in lists for n in part], 0) if all(isinstance(part, list) for part in lists) else None

    def _Softmax(self, node: Any, inputs: list[Any], given: dict[str, Any], name: str, rank: int) -> Any:
        return self.out.call(F.softmax, inputs[0], int(given.get("axis", -1)))

    def _Transpose(self, node: Any, inputs: list[Any], given: dict[str, Any], name: str, rank: int) -> Any:
        return self.out.call(torch.permute, inputs[0], list(given.get("perm", [])))

    def _Pad(self, node: Any, inputs: list[Any], given: dict[str, Any], name: str, rank: int) -> Any:
        pads = inputs[1].tolist() if inputs[1:] and isinstance(inputs[1], np.ndarray) else list(given.get("pads", []))
        if len(pads) != 2 * rank or rank < 3 or given.get("mode", "constant") != "constant" or any(inputs[2:]):
            return None
        axes = [n for axis in range(rank - 1, 1, -1) for n in (pads[axis], pads[axis + rank])]
        return self.out.call(F.pad, inputs[0], axes) if not any(pads[:2] + pads[rank : rank + 2]) else None

    def _Identity(self, node: Any, inputs: list[Any], given: dict[str, Any], name: str, rank: int) -> Any:
        return inputs[0], rank

    def _Cast(self, node: Any, inputs: list[Any], given: dict[str, Any], name: str, rank: int) -> Any:
        return (inputs[0], rank) if isinstance(inputs[0], list) else None

    def _Dropout(self, node: Any, inputs: list[Any], given: dict[str, Any], name: str, rank: int) -> Any:
        training = inputs[2:] and not (isinstance(inputs[2], np.ndarray) and not inputs[2].any())
        return None if training else (inputs[0], rank)

    def _Constant(self, node: Any, inputs: list[Any], given: dict[str, Any], name: str, rank: int) -> Any:
        from onnx import TensorProto

        ((key, value),) = given.items() if len(given) == 1 else (("", None),)
        if isinstance(value, TensorProto):
            return self._array(value), 0
        kinds = {"value_float": np.float32, "value_int": np.int64, "value_floats": np.float32, "value_ints": np.int64}
        return (np.array(value, kinds[key]), 0) if key in kinds else None

    def _Shape(self, node: Any, inputs: list[Any], given: dict[str, Any], name: str, rank: int) -> Any:
        return (
            ([0] + [-2] * (rank - 1), 0)
            if rank and not set(given) - {"start", "end"} and not any(given.values())
            else None
        )

    def _Gather(self, node: Any, inputs: list[Any], given: dict[str, Any], name: str, rank: int) -> Any:
        shape, at = inputs
        if not isinstance(shape, list) or not isinstance(at, np.ndarray) or at.size != 1 or at.item() != 0:
            return None
        return [0], 0

    def _Unsqueeze(self, node: Any, inputs: list[Any], given: dict[str, Any], name: str, rank: int) -> Any:
        return (inputs[0], 0) if isinstance(inputs[0], list | np.ndarray) else None

    # ------------------------------------------------------------------------------------------- the comparison

    def _compare(self, module: nn.Module, reads: list[int], batch: int, name: str) -> None:
        """UnusableInput unless the module computes what the file says, by `onnx`'s own evaluation."""
        from onnx.reference import ReferenceEvaluator

        size = [batch or 2, *{2: reads[2:], 3: [reads[0], reads[2]], 4: reads}[self.ranks[name]]]
        x = np.random.default_rng(0).standard_normal(size).astype(np.float32)
        try:
            expected = np.asarray(ReferenceEvaluator(self.model).run(None, {name: x})[0])
            with torch.no_grad():
                found = module(torch.from_numpy(x).reshape(size[0], *reads)).numpy()
        except MemoryError:
            raise
        except Exception as error:
            text = " ".join(str(error).split())[:150]
            refuse(self.file, f"it does not run on {'x'.join(map(str, size))} ({text or type(error).__name__})")
        if not np.isfinite(expected).all():
            refuse(self.file, "what it computes are no numbers, on normal ones")
        if expected.shape != found.shape or not np.allclose(
            expected, found, rtol=_NEAR, atol=_NEAR * np.abs(expected).max()
        ):
            refuse(self.file, "what was read computes something else than the file: this is a defect, please report it")


_OPERATORS = {name[1:]: method for name, method in vars(_Reader).items() if re.fullmatch("_[A-Z][A-Za-z]+", name)}
"""By what ONNX calls them."""
