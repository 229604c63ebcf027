"""The positions of an image, row by row, in one row: patches as a sequence."""

from __future__ import annotations

from .base import Passing
from .spec import LayerSpec, Node, require_image


def _shape(node: Node, shape: list[int]) -> list[int]:
    require_image(shape)
    return [shape[0], 1, shape[1] * shape[2]]


class Line(Passing):
    spec = LayerSpec(op="line", transparent=True, output_shape=_shape)
