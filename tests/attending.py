"""Networks of attention that tests convert and prove, written as people write them."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SelfAttention(nn.Module):
    """Of width channels. `kind`: "manual" as in nanoGPT, with a causal mask kept as a buffer, or "sdpa"; "full" without
    a mask; "apart" with three projections."""

    def __init__(self, width: int, heads: int, length: int, kind: str = "manual") -> None:
        super().__init__()
        self.heads, self.kind = heads, kind
        if kind == "apart":
            self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        else:
            self.c_attn = nn.Linear(width, 3 * width)
        self.c_proj = nn.Linear(width, width)
        self.register_buffer("mask", torch.tril(torch.ones(length, length)).view(1, 1, length, length))

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.size()
        own = width // self.heads
        if self.kind == "apart":
            parts = [layer(x) for layer in (self.query, self.key, self.value)]
        else:
            parts = list(self.c_attn(x).split(width, dim=2))
        q, k, v = (part.view(batch, length, self.heads, own).transpose(1, 2) for part in parts)
        if self.kind == "sdpa":
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            scores = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(own))
            if self.kind == "manual":
                scores = scores.masked_fill(self.mask[:, :, :length, :length] == 0, float("-inf"))
            y = F.softmax(scores, dim=-1) @ v
        return self.c_proj(y.transpose(1, 2).contiguous().view(batch, length, width))


class TanhGELU(nn.Module):
    """As GPT-2's, written out."""

    def forward(self, x: Tensor) -> Tensor:
        return 0.5 * x * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * torch.pow(x, 3.0))))


class Block(nn.Module):
    def __init__(self, width: int, heads: int, length: int, kind: str = "manual") -> None:
        super().__init__()
        self.ln_1, self.attn = nn.LayerNorm(width), SelfAttention(width, heads, length, kind)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), TanhGELU(), nn.Linear(2 * width, width), nn.Dropout(0.1))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class GPT(nn.Module):
    """nanoGPT's, small; `block`: the positions it has weights for."""

    def __init__(
        self,
        tokens: int = 7,
        length: int = 6,
        width: int = 8,
        heads: int = 2,
        layers: int = 1,
        kind: str = "manual",
        *,
        tied: bool = True,
        block: int | None = None,
    ) -> None:
        super().__init__()
        self.block = block or length
        self.wte, self.wpe = nn.Embedding(tokens, width), nn.Embedding(self.block, width)
        self.drop = nn.Dropout(0.1)
        self.h = nn.ModuleList([Block(width, heads, self.block, kind) for _ in range(layers)])
        self.ln_f = nn.LayerNorm(width)
        self.lm_head = nn.Linear(width, tokens, bias=False)
        if tied:
            self.lm_head.weight = self.wte.weight

    def forward(self, index: Tensor) -> Tensor:
        _, length = index.size()
        assert length <= self.block, "a window that is too long"
        x = self.drop(self.wte(index) + self.wpe(torch.arange(length, device=index.device)))
        for block in self.h:
            x = block(x)
        return self.lm_head(self.ln_f(x))


class ViT(nn.Module):
    """Of images 2x4x6: patches 2x2, a class token (or the mean of all positions), PyTorch's encoder."""

    def __init__(self, *, token: bool = True, **options: Any) -> None:
        super().__init__()
        self.patches = nn.Conv2d(2, 8, 2, stride=2)
        self.cls = nn.Parameter(0.5 * torch.randn(1, 1, 8)) if token else None
        self.positions = nn.Parameter(0.5 * torch.randn(1, 7 if token else 6, 8))
        layer = nn.TransformerEncoderLayer(8, 2, 16, **{"batch_first": True, "norm_first": True, **options})
        self.encoder = nn.TransformerEncoder(layer, 1, norm=nn.LayerNorm(8), enable_nested_tensor=False)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        if self.cls is not None:
            x = torch.cat([self.cls.expand(x.shape[0], -1, -1), x], dim=1)
        x = self.encoder(x + self.positions)
        return self.head(x[:, 0] if self.cls is not None else x.mean(dim=1))


def spread(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module with all its parameters drawn anew, also those that begin at 0 or 1, so that each matters."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            drawn = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter.copy_(0.3 * drawn + (1.0 if ("ln" in name or "norm" in name) and "weight" in name else 0.0))
    return module.eval()
