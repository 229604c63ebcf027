"""Addition costs nothing: the graph hands every layer the sum of what it reads, and readers' gradients likewise."""

from __future__ import annotations

from .base import Passing
from .spec import LayerSpec, same_shape


class Add(Passing):
    spec = LayerSpec(op="add", inputs=2, transparent=True, output_shape=same_shape)
