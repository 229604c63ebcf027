"""Concatenation costs nothing: the graph hands every layer the channels it reads, and each input its channels of the
gradient."""

from __future__ import annotations

from .base import Passing
from .spec import LayerSpec, same_shape


class Cat(Passing):
    spec = LayerSpec(op="cat", inputs=2, joins=True, moves=True, transparent=True, output_shape=same_shape)
