"""Programs that torch.export wrote. PyTorch loads them, and may run code from them: it is whoever converts that trusts
the file."""

from __future__ import annotations

import logging
import operator
import warnings
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from zkcert.errors import UnusableInput
from zkcert.public.reading import opened
from zkcert.sources import rebuilt
from zkcert.sources.rebuilt import Rebuilt, refuse
from zkcert.sources.samples import SEQUENCES

MAX_BYTES = 1 << 34

_TRAINING = "a batch-norm in training mode: call module.eval() before exporting"
_SAME = {"alias", "clone", "contiguous", "detach", "lift_fresh_copy", "to", "_to_copy"}
_FUNCTIONS = {"add": operator.add, "sub": operator.sub, "mul": operator.mul, "flatten": torch.flatten}
"""Where the function of PyTorch is not the one of the operator's name in torch.nn.functional, or torch."""


def read_exported(file: str) -> tuple[nn.Module, Mapping[str, Any], list[str]]:
    """The module of a program, what it reads, and notes. Raises UnusableInput."""
    log = logging.getLogger("torch.export")
    with opened(file, MAX_BYTES) as (stream, _):
        if stream.read(2) != b"PK":
            refuse(file, "no program of torch.export")
        stream.seek(0)
        level = log.level
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                log.setLevel(logging.CRITICAL)
                program = torch.export.load(stream)
        except MemoryError:
            raise
        except Exception as error:
            text = " ".join(str(error).split())[:100]
            refuse(file, f"no program that this torch.export loads ({text or type(error).__name__})")
        finally:
            log.setLevel(level)
    return of_program(program, file)


def of_program(program: torch.export.ExportedProgram, file: str) -> tuple[nn.Module, Mapping[str, Any], list[str]]:
    """Likewise, of a program in memory."""
    try:
        return _Reader(program, file).result()
    except (UnusableInput, MemoryError):
        raise
    except Exception as error:  # of what no case is for
        refuse(file, f"holds what is not read ({type(error).__name__}: {' '.join(str(error).split())[:100]})")


class _Reader:
    def __init__(self, program: torch.export.ExportedProgram, file: str) -> None:
        self.program, self.file, self.out = program, file, Rebuilt()
        self.values: dict[fx.Node, Any] = {}
        self.tensors: dict[fx.Node, tuple[str, Tensor]] = {}
        self.layers: dict[tuple[str, str], str] = {}  # those that are there, by operator and weight

    def result(self) -> tuple[nn.Module, Mapping[str, Any], list[str]]:
        signature, graph = self.program.graph_signature, self.program.graph
        names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        constants = signature.inputs_to_lifted_tensor_constants
        reads: list[int] | None = None
        notes: list[str] = []
        for node in graph.nodes:
            if node.op == "placeholder":
                if node.name in names or node.name in constants:
                    path = names.get(node.name) or constants[node.name]
                    found = self.program.state_dict.get(path, self.program.constants.get(path))
                    if isinstance(found, Tensor):
                        self.tensors[node] = path, found
                    continue
                if reads is not None:
                    refuse(self.file, "the program reads several inputs; expected the images alone")
                reads = _shape(node)[1:]
                self.values[node] = self.out.input
                if len(reads) == 2:
                    self.values[node] = self.out.call(torch.squeeze, self.out.input, 2)
                    notes.append(SEQUENCES.note)
                    reads = [reads[0], 1, reads[1]]
                if len(reads) == 1:
                    self.values[node] = self.out.call(torch.flatten, self.out.input, 1)
                    notes.append(f"vectors of length {reads[0]} are read as 1x1x{reads[0]}")
                    reads = [1, 1, reads[0]]
            elif node.op == "call_function":
                self.values[node] = self._call(node)
            elif node.op == "output":
                outputs = [value for value in node.args[0] if isinstance(value, fx.Node)]
                if len(outputs) != 1 or outputs[0] not in self.values or reads is None or len(reads) != 3:
                    refuse(
                        self.file, "expected a program that reads images [batch, C, H, W] and returns the logits alone"
                    )
                return self.out.module(self.values[outputs[0]]), {"reads": reads}, notes
        refuse(self.file, "the program has no output")

    def _call(self, node: fx.Node) -> Any:
        name = getattr(node.target, "__name__", str(node.target)).split(".")[0]
        name = str(getattr(node.target, "_opname", name)).removesuffix("_")
        args = fx.node.map_arg((node.args, dict(node.kwargs)), lambda n: self.values.get(n, self.tensors.get(n, n)))
        positional, options = args
        tensors = [a for a in node.args if isinstance(a, fx.Node) and a in self.tensors]
        if name.startswith(("_assert", "sym_", "_guards")):
            return None
        if name in ("conv2d", "conv1d", "linear", "batch_norm", "prelu"):
            return self._layer(node, name, positional, options)
        if tensors:
            path = self.tensors[tensors[0]][0]
            if path.endswith("num_batches_tracked"):  # which is counted up
                refuse(self.file, f"{node.name}: {_TRAINING}")
            refuse(self.file, f"{node.name}: {name} reads {path[:80]}, not the output of a layer")
        if name in _SAME:
            return positional[0]
        if name in ("view", "reshape", "_unsafe_view", "flatten"):
            before, after = _shape(node.args[0]), _shape(node)
            if len(after) == 2 and str(before[0]) == str(after[0]):
                return self.out.call(torch.flatten, positional[0], 1)
            if before == after:
                return positional[0]
        if name == "dropout" and (positional[2:] or [options.get("train", True)])[0] is False:
            return positional[0]
        function = _FUNCTIONS.get(name) or getattr(F, name, None) or getattr(torch, name, None)
        if not callable(function):
            refuse(self.file, f"{node.name}: the operator {name} is not known")
        options = {key: value for key, value in options.items() if not (key == "alpha" and value == 1)}
        if "pool" in name:
            positional = [rebuilt.alike(list(v)) if isinstance(v, list | tuple) else v for v in positional]
        return self.out.call(function, *positional, **options)

    def _layer(self, node: fx.Node, name: str, args: Any, options: Any) -> Any:
        """The output of a layer with weights."""
        operator: Any = node.target
        defaults = {a.name: a.default_value for a in operator._schema.arguments}
        given = {**defaults, **dict(zip(defaults, args, strict=False)), **options}
        read = given["self" if name == "prelu" else "input"]
        held = {key: value for key, value in given.items() if isinstance(value, tuple) and len(value) == 2}
        held = {key: value for key, value in held.items() if isinstance(value[1], Tensor)}
        if not isinstance(read, fx.Node) or "weight" not in held:
            refuse(self.file, f"{node.name}: {name} has no stored weight")
        path = held["weight"][0]
        known = self.layers.get((name, path))
        if known is not None:
            return self.out.again(known, read)
        tensor = {key: value[1] for key, value in held.items()}
        if name == "batch_norm":
            if given["training"] or set(tensor) != {"weight", "bias", "running_mean", "running_var"}:
                refuse(self.file, f"{node.name}: {_TRAINING}")
            layer = rebuilt.batch_norm(
                len(_shape(node)),
                *(tensor[key] for key in ("weight", "bias", "running_mean", "running_var")),
                given["eps"],
            )
        elif name == "prelu":
            layer = rebuilt.prelu(tensor["weight"])
        elif name == "linear":
            layer = rebuilt.linear(tensor["weight"], tensor.get("bias"))
        else:
            padding = given["padding"]
            layer = rebuilt.conv(
                tensor["weight"],
                tensor.get("bias"),
                given["stride"],
                padding if isinstance(padding, str) else list(padding),
                given["dilation"],
                given["groups"],
            )
        out = self.out.layer(path.removesuffix(".weight"), layer, read)
        self.layers[name, path] = str(out.target)
        return out


def _shape(node: Any) -> list[Any]:
    value = node.meta.get("val") if isinstance(node, fx.Node) else None
    return list(value.shape) if isinstance(value, Tensor) else []
