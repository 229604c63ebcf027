"""Conversion of networks whose channels stand last for a while."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.formats.test_conversion import agree
from zkcert.convert import from_module
from zkcert.errors import UnusableInput

SPEC = {"shape": [2, 5, 7], "pad": 0, "mean": [0, 0], "std": [1, 1]}


class ImageNorm(nn.LayerNorm):
    """A layer norm of images, as torchvision and timm have it."""

    def forward(self, x: Tensor) -> Tensor:
        x = F.layer_norm(x.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)


class Permute(nn.Module):
    def __init__(self, *axes: int) -> None:
        super().__init__()
        self.axes = axes

    def forward(self, x: Tensor) -> Tensor:
        return torch.permute(x, self.axes)


class Block(nn.Module):
    """A block as ConvNeXt's, with another activation."""

    def __init__(self, width: int, **options: Any) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, groups=width),
            Permute(0, 2, 3, 1),
            nn.LayerNorm(width, eps=1e-6, **options),
            nn.Linear(width, 2 * width),
            nn.ReLU(),
            nn.Linear(2 * width, width, **options),
            Permute(0, 3, 1, 2),
        )
        self.scale = nn.Parameter(0.5 + torch.rand(width, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * self.block(x) + x


def network(*layers: nn.Module) -> nn.Module:
    stem = nn.Sequential(nn.Conv2d(2, 4, 2, 2), ImageNorm(4, eps=1e-6))
    return nn.Sequential(stem, *layers, nn.Flatten(), nn.Linear(24, 3))


def test_blocks_with_channels_last_are_converted():
    model = agree(network(Block(4), Block(4, bias=False)), SPEC)
    block = ["conv2d", "groupnorm", "conv2d", "relu", "conv2d", "conv2d", "add"]
    assert [node["op"] for node in model.graph] == ["conv2d", "groupnorm", *block, *block, "flatten", "linear"]
    assert all(node["each"] for node in model.graph if node["op"] == "groupnorm")
    assert [node["bias"] is None for node in model.graph if node["op"] == "groupnorm"] == [False, False, True]
    assert model.params["1.block.3.weight"].shape == (8, 4, 1, 1)
    assert model.params["1.scale_convolution.weight"].shape == (4, 1, 1, 1)


class Stays(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1)


class Mixes(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1).flip(1).permute(0, 3, 1, 2)


@pytest.mark.parametrize("layer", [Stays(), Mixes()])
def test_another_order_is_that_of_the_weights_behind_it_or_refused(layer):
    agree(network(layer), SPEC)
    with pytest.raises(UnusableInput, match="permute has no circuit"):
        from_module(network(layer, nn.Conv2d(4 if isinstance(layer, Mixes) else 2, 4, 1)), input=SPEC)
