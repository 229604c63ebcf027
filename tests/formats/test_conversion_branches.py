"""Products of branches, learned slopes, sequences and single logits, as PyTorch writes them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.builders import build
from tests.formats.test_sources import graph
from tests.semantics.test_float_agreement import assert_agreement
from zkcert.api.sources import read_source
from zkcert.convert import from_module, to_module
from zkcert.errors import UnsupportedLayer, UnusableInput
from zkcert.public.model import Model
from zkcert.sources.exported import of_program


def spec_of(*shape: int) -> dict:
    return {"shape": list(shape), "pad": 0, "mean": [0.4] * shape[0], "std": [0.3] * shape[0]}


def ops(model: Model) -> str:
    return " ".join(node["op"] for node in model.graph)


class Gated(nn.Module):
    """Squeeze-and-excitation, products of equal branches, one in place, slopes per channel and one for all."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.gate, self.fc = nn.Conv2d(2, 3, 3, padding=1), nn.Conv2d(3, 3, 1), nn.Linear(3, 4)
        self.slopes, self.slope = nn.PReLU(3), nn.PReLU(init=-0.5)

    def forward(self, x):
        x = self.slopes(self.stem(x))
        gate = F.relu6(self.gate(F.adaptive_avg_pool2d(x, 1)))
        x = gate * x
        x = torch.mul(x, gate).mul(self.slope(x))
        x *= x
        return self.fc(x.mean((2, 3), keepdim=True).squeeze(-1).squeeze(-1))


def test_products_and_slopes_convert():
    torch.manual_seed(0)
    module = Gated().double()
    model = from_module(module, input=spec_of(2, 5, 5))
    assert ops(model) == (
        "conv2d prelu avgpool2d conv2d hardtanh multiply multiply prelu multiply multiply avgpool2d flatten linear"
    )
    x = torch.randn(3, 2, 5, 5, dtype=torch.float64)
    torch.testing.assert_close(to_module(model)(x), module(x), rtol=1e-12, atol=1e-12)
    assert_agreement(build(model.graph, model.params, model.input, steps=2, batch=2))


class Excited(nn.Module):
    """Squeeze-and-excitation as it is often written: with linear layers."""

    def __init__(self, expand: bool) -> None:
        super().__init__()
        self.expand, self.stem = expand, nn.Conv2d(2, 4, 3)
        self.gate, self.fc = nn.Sequential(nn.Linear(4, 2), nn.ReLU(), nn.Linear(2, 4), nn.ReLU6()), nn.Linear(4, 3)

    def forward(self, x):
        x = self.stem(x)
        batch, channels, _, _ = x.size()
        gate = self.gate(F.adaptive_avg_pool2d(x, 1).view(batch, channels))
        wide = gate.view(batch, channels, 1, 1).expand_as(x) if self.expand else gate.unsqueeze(-1).unsqueeze(-1)
        return self.fc((wide * x).mean((2, 3)))


@pytest.mark.parametrize("expand", [False, True])
def test_gates_of_features_scale_the_channels_of_images(expand):
    torch.manual_seed(1)
    module = Excited(expand).double()
    model = from_module(module, input=spec_of(2, 5, 5))
    body = "conv2d avgpool2d flatten linear relu linear hardtanh multiply"
    assert ops(model) == f"{body} avgpool2d flatten linear"
    assert_agreement(build(model.graph, model.params, model.input, steps=2, batch=2))


def test_products_that_are_none_of_branches_are_refused():
    class Scaled(nn.Module):
        def __init__(self, by) -> None:
            super().__init__()
            self.by, self.fc = by, nn.Linear(8, 3)

        def forward(self, x):
            return self.fc(self.by(x).flatten(1))

    for by, why in (
        (lambda x: x * 2.0, "mul: does not read the output of earlier layers alone"),
        (lambda x: x * x.mean((2, 3)).reshape(2, 1, 2, 1), "reshape with these arguments has no circuit"),
    ):
        with pytest.raises(UnsupportedLayer, match=why):
            from_module(Scaled(by), input=spec_of(2, 2, 2))
    wide = Scaled(lambda x: x * F.avg_pool2d(x, (1, 2)))
    with pytest.raises(UnusableInput, match=r"have shapes \[2, 2, 2\] and \[2, 2, 1\]: neither equal"):
        from_module(wide, input=spec_of(2, 2, 2))


def stochastic_depth(x, p: float, mode: str, training: bool = True):
    """As torchvision has it: a leaf for torch.fx, and nothing in evaluation mode."""
    return x * torch.empty(len(x), 1).bernoulli_(1 - p) if training else x


torch.fx.wrap("stochastic_depth")


@pytest.mark.parametrize("forced", [False, True])
def test_layers_that_are_left_out_at_random_are_so_in_training_only(forced):
    class Deep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)

        def forward(self, x):
            x = self.stem(x.flatten(1))
            return self.second(x + stochastic_depth(self.first(x), 0.2, "row", forced or self.training))

    if forced:
        with pytest.raises(UnsupportedLayer, match="stochastic_depth"):
            from_module(Deep(), input=spec_of(1, 2, 2))
    else:
        assert ops(from_module(Deep(), input=spec_of(1, 2, 2))) == "flatten linear linear add linear"


class Sounds(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv1d(2, 4, 3, stride=2, padding=1, dilation=2), nn.BatchNorm1d(4)
        self.second = nn.Conv1d(4, 4, 3, padding="same", groups=2)
        self.pool, self.mean, self.fc = nn.MaxPool1d(3, stride=1, padding=1), nn.AdaptiveAvgPool1d(3), nn.Linear(4, 3)

    def forward(self, x):
        x = self.pool(F.relu(self.norm(self.first(x))))
        x = F.avg_pool1d(self.second(x), 2, ceil_mode=True)
        return self.fc(self.mean(x).mean(-1))


def test_layers_over_sequences_are_those_over_images_of_one_row():
    torch.manual_seed(0)
    module = Sounds().double().eval()
    source = read_source(module, input=spec_of(2, 1, 20))
    model = source.model
    assert model is not None and len(source.notes) == 1 and "images of one row, [batch, C, 1, L]" in source.notes[0]
    assert ops(model) == "conv2d batchnorm2d relu maxpool2d conv2d avgpool2d adaptiveavgpool2d avgpool2d flatten linear"
    assert model.params["first.weight"].shape == (4, 2, 1, 3) and model.graph[0]["stride"] == [1, 2]
    x = torch.randn(3, 2, 20, dtype=torch.float64)
    torch.testing.assert_close(to_module(model)(x[:, :, None]), module(x), rtol=1e-12, atol=1e-12)
    assert_agreement(build(model.graph, model.tensors, model.input, steps=2, batch=2))


def test_whoever_gives_sequences_as_images_is_told_how_they_are_laid():
    with pytest.raises(UnsupportedLayer, match=r"give samples \(N, 2, 1, 20\), as x\[:, :, None\]"):
        from_module(Sounds(), input=spec_of(1, 2, 20))


class Signal(nn.Module):
    """A gated sequence, with a slope per channel."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.slopes, self.fc = nn.Conv1d(2, 3, 3), nn.PReLU(3), nn.Linear(3, 2)

    def forward(self, x):
        x = self.slopes(self.conv(x))
        return self.fc((x * F.relu6(x)).mean(-1))


def test_exported_programs_of_sequences_are_read():
    torch.manual_seed(0)
    module = Signal().eval()
    program = torch.export.export(module, (torch.randn(2, 2, 9),))
    found, known, notes = of_program(program, "m.pt2")
    assert known == {"reads": [2, 1, 9]} and "images of one row" in notes[0]
    model = from_module(found, input=spec_of(2, 1, 9))
    assert ops(model) == "conv2d prelu hardtanh multiply avgpool2d flatten linear"
    assert model.weights_digest == from_module(module, input=spec_of(2, 1, 9)).weights_digest


def test_onnx_files_of_sequences_are_read(tmp_path):
    torch.manual_seed(0)
    module = Signal().eval()
    weights = {name: value.numpy() for name, value in module.state_dict().items()}
    weights["slopes.weight"] = weights["slopes.weight"][:, None]  # as ONNX wants it
    nodes = [
        ("Conv", ["x", "conv.weight", "conv.bias"], "a", {}),
        ("PRelu", ["a", "slopes.weight"], "b", {}),
        ("Clip", ["b", "low", "high"], "c", {}),
        ("Mul", ["b", "c"], "d", {}),
        ("ReduceMean", ["d"], "e", {"axes": [-1], "keepdims": 0}),
        ("Gemm", ["e", "fc.weight", "fc.bias"], "y", {"transB": 1}),
    ]
    ends = {"low": np.float32(0), "high": np.float32(6)}
    onnx.save(graph(nodes, {**weights, **ends}, dims=("b", 2, 9)), path := tmp_path / "m.onnx")
    source = read_source(path, input={"mean": 0.4, "std": 0.3})
    assert source.model is not None and "images of one row" in source.notes[0]
    assert source.model.weights_digest == from_module(module, input=spec_of(2, 1, 9)).weights_digest


@pytest.mark.parametrize("squeezed", [False, True])
def test_one_logit_is_two_classes_with_the_binary_cross_entropy(squeezed):
    """Loss and log ratios are those of BCEWithLogitsLoss, whose gradient the zero is no part of."""

    class Binary(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 1))

        def forward(self, x):
            z = self.body(x.flatten(1))
            return z.squeeze(1) if squeezed else z

    torch.manual_seed(0)
    module = Binary().double()
    source = read_source(module, input=spec_of(1, 2, 3))
    model = source.model
    assert model is not None and "one logit z" in source.notes[0]
    assert (ops(model), model.classes) == ("flatten linear relu linear binary", 2)
    x = torch.randn(4, 1, 2, 3, dtype=torch.float64)
    y = torch.tensor([0, 1, 1, 0])
    z = module(x).reshape(-1)
    found = F.cross_entropy(to_module(model)(x), y)
    torch.testing.assert_close(found, F.binary_cross_entropy_with_logits(z, y.double()), rtol=1e-12, atol=1e-12)
    case = build(model.graph, model.params, model.input, steps=2, batch=3)
    assert_agreement(case)
    _, _, trace = case.execute()
    pixels = torch.tensor(case.pixels[0] / 255.0)
    z = module((pixels - 0.4) / 0.3).reshape(-1)
    loss = F.binary_cross_entropy_with_logits(z, torch.tensor(case.labels[0]).double())
    assert np.isclose(trace.losses[0] / 2.0**56 / 3, loss.item(), rtol=1e-7)
