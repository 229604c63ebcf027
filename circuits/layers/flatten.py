"""Flatten costs nothing: the next linear layer reads the (channel, position) axes as they are."""

from __future__ import annotations

from math import prod

from .base import Passing
from .spec import LayerSpec


class Flatten(Passing):
    spec = LayerSpec(op="flatten", transparent=True, output_shape=lambda node, shape: [prod(shape)])
