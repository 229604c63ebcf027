"""A small GPT. Needs PyTorch."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zkcert.errors import UnusableInput


@dataclass(frozen=True)
class Shape:
    """Size of a GPT: positions it reads at most, width of the residual stream, heads per layer, layers."""

    context: int = 64
    width: int = 64
    heads: int = 4
    layers: int = 2
    vocabulary: int = 96

    def __post_init__(self) -> None:
        if min(self.context, self.width, self.heads, self.layers, self.vocabulary) < 1 or self.width % self.heads:
            raise UnusableInput("sizes of a GPT are positive and its width is a multiple of its heads")


class Attention(nn.Module):
    """Causal self-attention: softmax(q k^T / sqrt(d)) v per head over this and earlier positions, then a projection."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.projection = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, positions, width] to the same."""
        batch, positions, width = x.shape
        parts = self.qkv(x).view(batch, positions, 3, self.heads, width // self.heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.projection(mixed.transpose(1, 2).reshape(batch, positions, width))


class Block(nn.Module):
    """Pre-norm transformer block: x + attention(norm(x)), then x + MLP(norm(x)) with GELU and fourfold width."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, positions, width] to the same."""
        x = x + self.attention(self.norm1(x))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class GPT(nn.Module):
    """A decoder-only transformer with learned positions; no weights are shared between embedding and head.

    Initialised as GPT-2: normal with deviation 0.02, projections into the residual stream divided by
    sqrt(2 layers), biases 0, norms 1. The matrices have "weight" in their names, as `asam-samsung` wants.
    """

    def __init__(self, shape: Shape, *, seed: int = 0) -> None:
        super().__init__()
        self.shape = shape
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.tokens = nn.Embedding(shape.vocabulary, shape.width)
            self.positions = nn.Embedding(shape.context, shape.width)
            self.blocks = nn.ModuleList(Block(shape.width, shape.heads) for _ in range(shape.layers))
            self.norm = nn.LayerNorm(shape.width)
            self.head = nn.Linear(shape.width, shape.vocabulary, bias=False)
            for name, parameter in self.named_parameters():
                if parameter.ndim == 2:
                    inner = name.endswith(("projection.weight", "fc2.weight"))
                    nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * shape.layers) if inner else 0.02)
                elif name.endswith("bias"):
                    nn.init.zeros_(parameter)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens int64 [batch, positions <= context] to logits [batch, positions, vocabulary] of the next ones."""
        places = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.tokens(tokens) + self.positions(places)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))
