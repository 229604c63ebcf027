"""What a module reads of samples: images, vectors, or sequences."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from zkcert.errors import UnsupportedLayer


@dataclass(frozen=True)
class Reading:
    """What a module reads of a sample: change(node) is a call that makes it of an image, with its arguments."""

    note: str = ""
    change: Callable[[Any], tuple[Callable[..., Any], tuple[Any, ...]]] | None = None

    def of(self, images: Tensor) -> Tensor:
        """What the module reads of images."""
        if self.change is None:
            return images.clone()
        function, arguments = self.change(images)
        return cast(Tensor, function(*arguments))


IMAGES = Reading()
_VECTORS = Reading("the module reads vectors: samples are flattened first", lambda x: (torch.flatten, (x, 1)))
SEQUENCES = Reading(
    "the module reads sequences [batch, C, L]: they are images of one row, [batch, C, 1, L], and its layers over one "
    "axis are those over two with a kernel of one row",
    lambda x: (torch.squeeze, (x, 2)),
)

ROWS = Reading(
    "the module reads [batch, H, W]: samples are images of one channel, whose rows are positions",
    lambda x: (torch.squeeze, (x, 1)),
)


def possible_readings(spec: Mapping[str, Any]) -> list[Reading]:
    """What a module of attention may read of samples of this shape; images first."""
    channels, height, _ = spec["shape"]
    flat = spec["pad"] == 0
    return [IMAGES, *([SEQUENCES] if flat and height == 1 else []), *([ROWS] if channels == 1 else [])]


def what_is_read(module: nn.Module, spec: Mapping[str, Any]) -> Reading:
    """What a module, a copy, reads of samples of this shape. Raises UnsupportedLayer if it reads sequences, but samples
    have their channels in rows."""
    channels, height, width = spec["shape"]
    if spec["pad"] or (height > 1 and channels > 1):
        return IMAGES
    dtype = next((parameter.dtype for parameter in module.parameters()), torch.float32)

    def runs(*shape: int) -> bool:
        with suppress(Exception), torch.no_grad():
            out = module(torch.zeros(2, *shape, dtype=dtype))
            return out.ndim <= 2 and len(out) == 2
        return False

    if runs(channels, height, width):
        return IMAGES
    if height == 1:
        if channels == 1 and runs(width):
            return _VECTORS
        return SEQUENCES if runs(channels, width) else IMAGES
    if runs(height, width):
        raise UnsupportedLayer(
            f"the module reads sequences [batch, {height}, {width}]: give samples (N, {height}, 1, {width}), as "
            f"x[:, :, None], and the input shape [{height}, 1, {width}]"
        )
    return IMAGES
