"""Tracing a module with torch.fx: where each call is made, and what comes out of it on an example."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Mapping
from contextlib import suppress
from types import FrameType
from typing import Any

import torch
from torch import Tensor, fx

from zkcert.sources.channels import pieces

TORCH_FOLDER, OUR_FOLDER = os.path.dirname(torch.__file__), os.path.dirname(os.path.dirname(__file__))


class Tracer(fx.Tracer):
    """Notes in each node's meta its "source": the line that makes the call, the innermost that is neither PyTorch's nor
    ours."""

    def create_proxy(self, *args: Any, **options: Any) -> fx.Proxy:
        proxy = super().create_proxy(*args, **options)
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and frame.f_code.co_filename.startswith((TORCH_FOLDER, "<")):
            frame = frame.f_back
        if frame is not None and not frame.f_code.co_filename.startswith(OUR_FOLDER):
            proxy.node.meta["source"] = f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}"
        return proxy


def place_of(error: Exception) -> str:
    """Likewise, of an exception."""
    frames = [
        f
        for f in traceback.extract_tb(error.__traceback__)
        if not f.filename.startswith((TORCH_FOLDER, OUR_FOLDER, "<"))
    ]
    return f"{os.path.basename(frames[-1].filename)}:{frames[-1].lineno}" if frames else ""


def first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)[:200]


class Example(fx.Interpreter):
    """Runs the traced module on two samples of zeros. Notes in each node's meta the "shape" of a tensor or the "number"
    it gives; `failed` is the node that does not run, if any, and `why` says more."""

    def __init__(self, traced: fx.GraphModule, spec: Mapping[str, Any]) -> None:
        super().__init__(traced)
        self.failed: fx.Node | None = None
        self.why = ""
        self.shape = spec["shape"]
        channels, *extents = self.shape
        dtype = next((parameter.dtype for parameter in traced.parameters()), torch.float32)
        with suppress(Exception), torch.no_grad():
            self.run(torch.zeros(2, channels, *(n + 2 * spec["pad"] for n in extents), dtype=dtype))

    def run_node(self, n: fx.Node) -> Any:
        try:
            result = super().run_node(n)
        except Exception as error:
            self.failed, self.why = n, self._reason(n, error)
            raise
        if isinstance(result, Tensor):
            n.meta["shape"] = list(result.shape)
        elif type(result) is int:
            n.meta["number"] = result
        n.meta.update(pieces(result))
        return result

    def _reason(self, node: fx.Node, error: Exception) -> str:
        read = next((source.meta["shape"] for source in node.all_input_nodes if "shape" in source.meta), None)
        given = f", where it reads shape {read}" if read else ""
        first, middle, last = self.shape
        right = [last, first, middle]
        advice = f"; input shapes are [C, H, W], not [H, W, C]: {right}" if last in (1, 3) and first > 3 else ""
        return f"does not run on a batch of two{given}{advice} ({first_line(error)})"
