"""Networks that torch.fx cannot trace, or whose parameters are used outside of layers, convert by following one run."""

from __future__ import annotations

import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.formats.test_transformers import IMAGES, agree, ops
from zkcert.convert import examine, from_module


class Block(nn.Module):
    """A ConvNeXt block whose layer scale is a parameter."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.norm, self.up = nn.LayerNorm(channels), nn.Linear(channels, 2 * channels)
        self.down = nn.Linear(2 * channels, channels)
        self.gamma = nn.Parameter(torch.linspace(0.2, 1.0, channels))

    def forward(self, x):
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.down(F.gelu(self.up(y))).permute(0, 3, 1, 2)
        return x + y.mul(self.gamma.reshape(1, -1, 1, 1))


class Untraceable(nn.Module):
    """Asks for shapes in ways that torch.fx cannot know, and has its parameters at hand."""

    def __init__(self, logits: int = 3) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.stem, self.norm = nn.Conv2d(2, 4, 3, padding=1), nn.GroupNorm(2, 4)
        self.gain, self.head = nn.Parameter(torch.tensor([0.5, 2.0, 1.0, 0.25]).reshape(4, 1, 1)), nn.Linear(16, logits)

    def forward(self, x):
        if x.shape[0] < 1 or x.dim() != 4:
            raise ValueError("no samples")
        y = F.avg_pool2d(F.relu(self.norm(self.stem(x))), 3, 1, 1, count_include_pad=False)
        y = y + self.gain * F.silu(y)
        y = F.adaptive_avg_pool2d(y, (2, 2)).flatten(1)
        return F.linear(y, self.head.weight, self.head.bias).squeeze(1)


class Standardised(nn.Conv2d):
    """A convolution whose weights have mean 0 and variance 1, as in NFNets and BiT."""

    def forward(self, x):
        mean, var = self.weight.mean((1, 2, 3), keepdim=True), self.weight.var((1, 2, 3), keepdim=True)
        return F.conv2d(x, (self.weight - mean) * torch.rsqrt(var + 1e-6), self.bias, padding=1)


class Normed(nn.BatchNorm2d):
    """A batch-norm with its activation, in place, as timm has them."""

    def forward(self, x):
        torch._assert(x.dim() == 4, "expected images")
        y = F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, self.training, 0.1, self.eps)
        return F.silu(y, inplace=True) + 0


class Gated(nn.Module):
    """Gates of channels, made of their means."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce, self.expand = nn.Conv2d(channels, 2, 1), nn.Conv2d(2, channels, 1)

    def forward(self, x):
        if x.shape[2] < 1:
            raise ValueError("no positions")
        gates = self.expand(F.relu(self.reduce(x.mean((2, 3), keepdim=True))))
        return torch.cat([x]) * gates.sigmoid()


def test_what_others_build_on_pytorch_is_followed():
    torch.manual_seed(4)
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    module = nn.Sequential(Standardised(2, 4, 3), Normed(4), Gated(4), Standardised(4, 4, 3), Normed(4), head).eval()
    module[1].running_var.fill_(0.5)
    model, problems, notes = examine(module, IMAGES)
    assert model is not None, problems
    agree(module, model)
    expected = ["conv2d", "batchnorm2d", "function", "avgpool2d", "conv2d", "relu", "conv2d", "function", "multiply"]
    assert ops(model) == [*expected, "conv2d", "batchnorm2d", "function", "avgpool2d", "flatten", "linear"]
    assert sum("computes of its parameters" in note for note in notes) == 2


def test_factors_of_channels_outside_of_layers_are_convolutions():
    torch.manual_seed(1)
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(4), nn.Linear(4, 3))
    module = nn.Sequential(nn.Conv2d(2, 4, 2, 2), Block(4), Block(4), head)
    model = from_module(module, input=IMAGES)
    agree(module, model)
    scales = [node for node in model.graph if node.get("weight", "").endswith("gamma")]
    assert [(node["op"], node["groups"]) for node in scales] == [("conv2d", 4)] * 2


def test_what_cannot_be_traced_is_followed():
    module = Untraceable()
    model = from_module(module, input=IMAGES)
    agree(module, model)
    expected = ["conv2d", "groupnorm", "relu", "avgpool2d", "function", "conv2d", "add", "adaptiveavgpool2d"]
    assert ops(model) == [*expected, "flatten", "linear"]


def test_a_single_logit_of_a_followed_network_makes_two_classes():
    module = Untraceable(1)
    model, problems, notes = examine(module, IMAGES)
    assert model is not None and not problems and ops(model)[-1] == "binary"
    assert any("one logit z" in note for note in notes)


@pytest.mark.parametrize(("low", "high"), [(-10.0, 10.0), (0.0, 10.0)])
def test_a_wide_bound_is_no_identity_and_no_relu(low, high):
    class Bounded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Untraceable()

        def forward(self, x):
            return self.inner(F.hardtanh(x, low, high)) if x.shape[0] > 0 else x

    module = Bounded()
    model = from_module(module, input=IMAGES)
    agree(module, model)
    assert model.graph[0]["op"] == "hardtanh" and (model.graph[0]["low"], model.graph[0]["high"]) == (low, high)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (lambda x: x if x.mean() > 0 else -x, "decides by values of the samples"),
        (lambda x: x[:, :, : int(x.abs().max()) + 1], "decides by values of the samples"),
        (lambda x: x * torch.rand(()) if x.dim() else x, "numbers|no circuit"),
        (lambda x: x.as_strided((2, 2, 4, 6), (0, 24, 6, 1)) if x.dim() else x, "as_strided"),
    ],
)
def test_what_does_not_treat_all_inputs_alike_is_refused(body, why):
    class Strange(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Untraceable()

        def forward(self, x):
            return self.inner(body(x)) if x.shape[0] > 0 else x

    model, problems, _ = examine(Strange(), IMAGES)
    assert model is None and any(re.search(why, problem.why) for problem in problems), problems
