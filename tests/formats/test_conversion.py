"""Normalisation, and modules that become models."""

from __future__ import annotations

import copy
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import prune

from tests.formats.models import PARAMS, SMALL_INPUT, STACK
from zkcert.convert import from_module, from_sequential, to_module
from zkcert.data.normalised import input_integers, input_values
from zkcert.errors import RangeOverflow, UnsupportedLayer, UnusableInput
from zkcert.public.model import Model, input_affine
from zkcert.zoo import LENET5_INPUT, fashion_mnist_small, lenet5, mlp


@given(
    st.integers(0, 255),
    st.integers(-(1 << 42), 1 << 42),
    st.floats(-4, 4),
    st.floats(0.05, 50),
)
def test_normalisation_follows_its_definition(byte, q, mean, std):
    spec = {"shape": [1, 1, 2], "pad": 1, "mean": [mean], "std": [std]}
    mean, std, half = Fraction(repr(mean)), Fraction(repr(std)), Fraction(1, 2)
    shift = math.floor(-mean / std * 2**32 + half)
    if mean > 1 and std > 1:  # of 0..255
        with pytest.raises(UnusableInput, match="divide mean and std by 255"):
            input_integers(spec, np.array([[[byte, 0]]], np.uint8))
    else:
        got = input_integers(spec, np.array([[[byte, 0]]], np.uint8))
        expected = math.floor(Fraction(2**32) / (255 * std) + half) * byte + shift
        assert got.tolist() == [[[shift] * 4, [shift, expected, shift, shift], [shift] * 4]] and got.dtype == np.int64
    slope = math.floor(2**16 / std + half)
    expected = math.floor(Fraction(slope * q, 2**16) + half) + shift
    samples = np.array([[[q, 0]]], np.int64)
    if abs(expected) < 1 << 43:
        assert input_integers(spec, samples)[0, 1].tolist() == [shift, expected, shift, shift]
    else:
        with pytest.raises(RangeOverflow):
            input_integers(spec, samples)


def test_normalisation_is_what_training_uses():
    images, labels = fashion_mnist_small()
    assert images.shape == (2000, 1, 28, 28) and images.dtype == labels.dtype == np.uint8
    assert sorted(set(labels.tolist())) == list(range(10))
    got = input_values(LENET5_INPUT, images[:5])
    expected = (np.pad(images[:5] / 255.0, [(0, 0), (0, 0), (2, 2), (2, 2)]) - 0.2860) / 0.3530
    np.testing.assert_allclose(got, expected, atol=255 * 2.0**-32)
    assert got.shape == (5, 1, 32, 32) and got.dtype == np.float64
    assert input_affine(LENET5_INPUT, "u8") == ([round(2**32 / 255 / 0.353)], [round(-0.286 / 0.353 * 2**32)])


def test_unusable_samples_are_refused():
    for samples in (np.zeros((1, 28, 28)), np.zeros((1, 28, 27), np.uint8), np.zeros((28, 28), np.uint8)):
        with pytest.raises(UnusableInput):
            input_integers(LENET5_INPUT, samples)
    with pytest.raises(RangeOverflow):
        input_integers(LENET5_INPUT, np.full((1, 28, 28), 1 << 43, np.int64))
    with pytest.raises(RangeOverflow):
        input_affine({**LENET5_INPUT, "std": [2.0**-12]}, "u8")
    with pytest.raises(UnusableInput):
        input_affine(LENET5_INPUT, "f32")


class Functional(nn.Module):
    """A network in the functional style, with reused modules and a reshape by batch size."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(2, 4, 3, stride=2, padding=1, bias=False), nn.ReLU(inplace=True))
        self.conv = nn.Conv2d(4, 6, (3, 2), padding=(1, 0))
        self.pool = nn.AvgPool2d(2, 1)
        self.relu = nn.ReLU()
        self.drop = nn.Dropout(0.5)
        self.fc1 = nn.Linear(6, 12)
        self.fc2 = nn.Linear(12, 5)

    def forward(self, x):
        x = self.pool(self.features(x))
        x = F.max_pool2d(F.relu(self.conv(x)), (2, 1), stride=2)
        x = x.view(x.size(0), -1)
        x = self.drop(self.relu(self.fc1(x)))
        return self.fc2(self.relu(x))


INPUT_2 = {"shape": [2, 8, 7], "pad": 0, "mean": [0.1, 0.2], "std": [1, 2]}


def agree(module: nn.Module, spec: dict) -> Model:
    model = from_module(module, input=spec)
    x = torch.randn(3, *model.input_shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = module.double().eval()(x.clone())
        rebuilt = to_module(model)
        torch.testing.assert_close(rebuilt(x), expected, rtol=1e-12, atol=1e-12)
    assert list(rebuilt(x).shape[1:]) == model.shapes[-1]
    return model


def test_functional_modules_convert_to_equal_models():
    model = agree(Functional(), INPUT_2)
    names = "features.0 features.1 pool conv relu max_pool2d view fc1 relu_1 relu_2 fc2"
    assert [node["name"] for node in model.graph] == names.split()
    assert list(model.params)[:2] == ["features.0.weight", "conv.weight"]


@pytest.mark.parametrize("pool", ["max", "avg"])
def test_lenet_converts_to_an_equal_model(pool):
    agree(lenet5(pool), LENET5_INPUT)


@pytest.mark.parametrize(
    "reshape",
    [
        lambda x: torch.flatten(x, 1),
        lambda x: x.flatten(start_dim=1),
        lambda x: x.reshape(-1, 12),
        lambda x: torch.reshape(x, (x.shape[0], -1)),
        lambda x: F.avg_pool2d(x, 1).flatten(1),
        lambda x: F.avg_pool2d(x, x.size(3) - 1, stride=1).flatten(1),
    ],
)
def test_reshapes_convert(reshape):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(12, 3)

        def forward(self, x):
            return self.fc(reshape(x))

    agree(Net(), {"shape": [3, 2, 2], "pad": 0, "mean": [0, 0, 0], "std": [1, 1, 1]})


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize(
    ("layer", "named"),
    [
        (nn.Conv2d(2, 4, 2, padding="same"), "0: Conv2d.*pads one side more"),
        (nn.Conv2d(2, 4, 3, padding=1, padding_mode="reflect"), "0: Conv2d"),
        (nn.MaxPool2d(2, dilation=2), "0: maxpool2d with dilation"),
        (nn.MaxPool2d(2, return_indices=True), "0: maxpool2d with dilation or return_indices"),
        (nn.Flatten(0), "0: flatten"),
        (nn.Mish(), "0: Mish"),
        (nn.BatchNorm2d(2, affine=False), "0: a batch-norm"),
        (nn.BatchNorm2d(2, track_running_stats=False), "0: a batch-norm"),
        (nn.GroupNorm(1, 2, affine=False), "0: GroupNorm.*affine=True"),
        (nn.LayerNorm((2, 8, 7)), "0: LayerNorm.*as a GroupNorm"),
        (nn.Softmax(1), "0: Softmax"),
    ],
)
def test_unsupported_modules_are_named(layer, named):
    with pytest.raises(UnsupportedLayer, match=f"layer {named}"):
        from_sequential(nn.Sequential(layer, nn.Flatten(), nn.Linear(1, 2)), input=INPUT_2)


SMALL_IMAGE = {"shape": [1, 4, 4], "pad": 1, "mean": [0.3], "std": [0.35]}


def _small(change) -> nn.Module:
    module = nn.Sequential(nn.Flatten(), nn.Linear(36, 5), nn.ReLU(), nn.Linear(5, 3))
    change(module)
    return module


def _replaced(layer):
    def change(module):
        module[1] = layer()

    return change


class _Quantized(nn.Module):
    __module__ = "torch.ao.nn.quantized.modules"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            _replaced(lambda: nn.LazyLinear(5)),
            r"layer 1: LazyLinear has no weights yet: run module\(torch.zeros\(1, 1, 6, 6",
        ),
        (lambda m: m[3].to("meta"), r"layer 3: its weights are on the meta device: .*assign=True"),
        (_replaced(_Quantized), "layer 1: _Quantized is quantised: convert the float module"),
    ],
)
def test_modules_without_plain_weights_are_told_how_to_get_them(change, words, capfd):
    with pytest.raises(UnsupportedLayer, match=words):
        from_module(_small(change), input=SMALL_IMAGE)
    assert capfd.readouterr() == ("", "")


def test_what_hides_the_weights_can_be_removed():
    module = _small(lambda m: prune.l1_unstructured(m[1], "weight", 0.5))
    prune.remove(module[1], "weight")
    nn.utils.parametrizations.weight_norm(module[3])
    nn.utils.parametrize.remove_parametrizations(module[3], "weight")
    agree(module, SMALL_IMAGE)


@pytest.mark.parametrize("mean", [True, False])
def test_an_input_in_hwc_is_told_so_in_one_line(mean, capfd):
    module = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(8, 2))
    values = [0.5] * (3 if mean else 4)
    with pytest.raises(UnusableInput, match=r"\[C, H, W\], not \[H, W, C\]: \[3, 4, 4\]"):
        from_module(module, input={"shape": [4, 4, 3], "pad": 0, "mean": values, "std": values})
    assert capfd.readouterr() == ("", "")


def test_a_layer_that_does_not_run_is_named_with_what_it_reads(capfd):
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(9, 2))
    with pytest.raises(
        UnsupportedLayer, match=r"layer 3: does not run on a batch of two, where it reads shape \[2, 32\]"
    ):
        from_module(module, input=SMALL_IMAGE)
    assert capfd.readouterr() == ("", "")


def test_mean_and_std_of_0_to_255_are_refused_for_bytes_and_doubted_before():
    module = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    spec = {"shape": [1, 4, 4], "pad": 0, "mean": [125.3], "std": [63]}
    with pytest.warns(UserWarning, match="divide mean and std by 255"):
        model = from_module(module, input=spec)
    input_affine(model.input, "q32")
    with pytest.raises(UnusableInput, match=r"mean 125.3 and std 63 .* divide mean and std by 255"):
        input_affine(model.input, "u8")


def test_a_model_without_a_circuit_is_refused_at_conversion():
    head = nn.Sequential(nn.Conv2d(1, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert from_module(head, input=SMALL_IMAGE).classes == 3
    with pytest.raises(UnusableInput, match=r"must end in a linear layer or .* has 9 positions; put a pooling"):
        from_module(nn.Sequential(nn.Conv2d(1, 3, 4), nn.Flatten()), input=SMALL_IMAGE)
    with pytest.raises(UnusableInput, match="1030 classes: between 2 and 1023"):
        from_module(nn.Sequential(nn.Flatten(), nn.Linear(36, 1030)), input=SMALL_IMAGE)
    with pytest.raises(UnusableInput, match=r"^1/forward.* adds up 131,072 positions of an image; take smaller images"):
        spec = {"shape": [1, 256, 512], "pad": 0, "mean": [0.5], "std": [0.5]}
        from_module(nn.Sequential(nn.Flatten(), nn.Linear(1 << 17, 2)), input=spec)
    wide = nn.Sequential(nn.Conv2d(1, 1, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 2))
    with pytest.raises(UnusableInput, match=r"^layer 1: the tables of all windows have more than 4194304 entries"):
        from_module(wide, input={"shape": [1, 256, 256], "pad": 0, "mean": [0.5], "std": [0.5]})


class _Body(nn.Module):
    def __init__(self, body) -> None:
        super().__init__()
        self.body, self.fc, self.fc2 = body, nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x):
        return self.body(self, x)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (lambda m, x: m.fc(m.fc(x.flatten(1))), "layer fc_1: shares its weight"),
        (lambda m, x: m.fc2(m.fc(x.flatten(1))) + 1, "layer add"),
        (lambda m, x: torch.add(m.fc(y := x.flatten(1)), y, alpha=2), "layer add"),
        (lambda m, x: F.dropout(m.fc(x.flatten(1))), "layer dropout"),
        (lambda m, x: m.fc(x.mean((1, 2))), "layer mean"),
        (lambda m, x: F.log_softmax(m.fc(x.flatten(1)), 1), "layer log_softmax"),
        (lambda m, x: m.fc(x.view(2, -1)) if x.sum() > 0 else x, "decides by values"),
        (lambda m, x: m.fc(x.view(1, -1)), "layer fc: does not run on a batch of two"),
        (lambda m, x: m.fc(x.flatten(1)).view(8, -1), "something else"),
        (lambda m, x: m.fc(x[:, :, :1].flatten(1)), "layer getitem: a slice .getitem. has no circuit"),
        (lambda m, x: m.fc(x[:, ::2].flatten(1)), "layer getitem: a slice .getitem. has no circuit"),
        (lambda m, x: m.fc2(m.fc(x.flatten(1)).roll(1, 1).relu()), "layer roll"),
        (lambda m, x: m.fc(x.chunk(2, 2)[0].flatten(1)), "layer chunk: chunk"),
        (lambda m, x: m.fc(torch.stack([x, x], 1).flatten(1)[:, :8]), "layer stack: stack has no circuit"),
        (lambda m, x: {"logits": m.fc(x.flatten(1))}, "returns a dict, not the logits alone"),
        (lambda m, x: (m.fc(x.flatten(1)), x), "returns a tuple, not the logits alone"),
        (lambda m, x: m.fc(F.max_pool2d(x.transpose(1, 2), 2).flatten(1)), "layer transpose"),
        (lambda m, x: F.max_pool2d(m.fc(x.flatten(1)), 2, 2, 1), "layer max_pool2d"),
    ],
)
def test_modules_that_are_no_stack_are_refused(body, message):
    with pytest.raises((UnsupportedLayer, UnusableInput), match=message):
        from_module(_Body(body), input={"shape": [2, 2, 2], "pad": 0, "mean": [0, 0], "std": [1, 1]})


def _unary(body):
    """Two convolution-like maps and a head around what is tested; images of 2x4x4."""

    class Unary(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(5)
            self.conv, self.conv2, self.fc = nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 2, 1), nn.Linear(2, 3)
            self.pool, self.drop = nn.AdaptiveAvgPool2d((None, 2)), nn.Dropout1d(0.3)
            self.leaky = nn.LeakyReLU()

        def forward(self, x):
            return body(self, x)

    return Unary()


INPUT_4 = {**INPUT_2, "shape": [2, 4, 4]}


def _trained_norms() -> nn.Sequential:
    """A convolution and two batch-norms with statistics of images of 2x4x4."""
    torch.manual_seed(6)
    module = nn.Sequential(nn.BatchNorm2d(2), nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3, eps=1e-3), nn.ReLU())
    module.append(nn.Flatten()).append(nn.Linear(12, 3))
    for _ in range(20):
        module(3 * torch.randn(8, 2, 4, 4) + 1)
    return module


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_batch_norms_convert_and_survive_a_file(tmp_path, suffix):
    module = _trained_norms()
    model = from_module(module, input=INPUT_4)
    assert [node["op"] for node in model.graph] == ["batchnorm2d", "conv2d", "batchnorm2d", "relu", "flatten", "linear"]
    assert list(model.buffers) == [f"{i}.running_{kind}" for i in (0, 2) for kind in ("mean", "var")]
    assert not set(model.buffers) & set(model.params)
    assert model.param_count == sum(p.numel() for p in module.parameters())
    model.save(tmp_path / f"model{suffix}")
    again = Model.load(tmp_path / f"model{suffix}")
    assert again.weights_digest == model.weights_digest
    assert again.circuit_digest_json() == model.circuit_digest_json()
    x = torch.randn(3, 2, 4, 4, dtype=torch.float64)
    assert torch.allclose(to_module(again)(x), module.double().eval()(x), rtol=1e-9)


def test_statistics_are_part_of_the_weights_digest():
    model = from_module(_trained_norms(), input=INPUT_4)
    for name in model.buffers:
        tensors = {key: array.copy() for key, array in model.tensors.items()}
        tensors[name][-1] += 2.0**-10
        assert Model(model.graph, model.input, tensors).weights_digest != model.weights_digest


def test_statistics_become_the_nearest_integers():
    model = from_module(_trained_norms(), input=INPUT_4)
    for node in (model.graph[0], model.graph[2]):
        factors, means = model.constants[node["name"]].values()
        assert node["eps"] == (1e-5 if node["name"] == "0" else 1e-3)
        for a, m, var, mean in zip(
            factors, means, model.buffers[node["var"]], model.buffers[node["mean"]], strict=True
        ):
            v = Fraction(float(var)) + Fraction(repr(node["eps"]))
            assert (2 * a - 1) ** 2 * v <= 1 << 66 < (2 * a + 1) ** 2 * v
            assert abs(Fraction(float(mean)) * (1 << 32) - m) <= Fraction(1, 2)


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("0.running_var", -1e-9, UnusableInput),
        ("0.running_var", np.inf, UnusableInput),
        ("0.running_mean", 2048.0, RangeOverflow),
        ("0.weight", 128.0, RangeOverflow),
    ],
)
def test_statistics_out_of_range_are_refused(name, value, error):
    model = from_module(_trained_norms(), input=INPUT_4)
    tensors = {key: array.copy() for key, array in model.tensors.items()}
    tensors[name][0] = value
    with pytest.raises(error):
        Model(model.graph, model.input, tensors)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("eps", 0.0, "eps must lie"),
        ("eps", "1e-5", "eps must lie"),
        ("eps", 2.0, "eps must lie"),
        ("bias", None, "layer 0: bias"),
        ("mean", "0.bias", "used twice"),
        ("var", "2.running_var", "used twice"),
        ("var", "1.bias", "used twice"),
    ],
)
def test_inconsistent_batch_norms_are_refused(key, value, message):
    model = from_module(_trained_norms(), input=INPUT_4)
    graph = [{**model.graph[0], key: value}, *model.graph[1:]]
    with pytest.raises(UnusableInput, match=message):
        Model(graph, model.input, model.tensors)


def test_a_dead_channel_is_refused_at_conversion_and_told_how_to_mend():
    module = _trained_norms()
    with torch.no_grad():
        module[0].weight[:] = 1
        module[0].running_var[1] = 1e-12
    with pytest.raises(RangeOverflow, match=r"layer 0, channel 1: .* 316.*limit 64; its running_var is 1e-12"):
        from_module(module, input=INPUT_4)
    with torch.no_grad():
        module[0].weight[1] = 0
    from_module(module, input=INPUT_4)


def test_factors_too_large_for_a_value_are_refused():
    model = from_module(_trained_norms(), input=INPUT_4)
    tensors = {key: array.copy() for key, array in model.tensors.items()}
    tensors["0.running_var"][:], tensors["0.weight"][:] = 0, 0.01
    for eps, fits in ((2.0**-21, True), (2.0**-22, False)):
        graph = [{**model.graph[0], "eps": eps}, *model.graph[1:]]
        if fits:
            assert Model(graph, model.input, tensors).constants["0"]["factors"] == [(math.isqrt(1 << 87) + 1) // 2] * 2
        else:
            with pytest.raises(RangeOverflow, match="layer 0"):
                Model(graph, model.input, tensors)


@pytest.mark.parametrize(
    ("body", "ops"),
    [
        (lambda m, x: m.fc(F.relu(m.conv(x) + x).mean((2, 3))), "conv2d add relu avgpool2d flatten linear"),
        (lambda m, x: m.fc(m.conv(y := F.relu(m.conv2(x))).add(y).mean((-1, -2), keepdim=True).flatten(1)),
         "conv2d relu conv2d add avgpool2d flatten linear"),
        (lambda m, x: m.fc(F.adaptive_avg_pool2d(m.conv(x), 1).flatten(1)), "conv2d avgpool2d flatten linear"),
        (lambda m, x: m.fc(F.avg_pool2d(m.pool(x), (4, 2)).flatten(1)), "avgpool2d avgpool2d flatten linear"),
        (lambda m, x: m.drop(F.dropout(m.fc(torch.mean(x, dim=[2, 3])), training=m.training)),
         "avgpool2d flatten linear"),
        (lambda m, x: m.fc((y := x.mean((2, 3))) + F.dropout(y, 0.2, m.training)), "avgpool2d flatten add linear"),
        (lambda m, x: m.fc(F.leaky_relu(m.leaky(m.conv(x)), 0.2, inplace=True).mean((2, 3))),
         "conv2d leaky_relu leaky_relu avgpool2d flatten linear"),
    ],
)  # fmt: skip
def test_branches_global_pools_and_dropouts_convert(body, ops):
    module = _unary(body).double()
    spec = {"shape": [2, 4, 4], "pad": 0, "mean": [0, 0], "std": [1, 1]}
    model = from_module(module, input=spec)
    assert [node["op"] for node in model.graph] == ops.split()
    x = torch.randn(3, 2, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(to_module(model)(x), module.eval()(x), rtol=1e-12)


def _shuffled(x, groups: int):
    """As ShuffleNet does it."""
    batch, channels, height, width = x.size()
    x = x.view(batch, groups, channels // groups, height, width)
    return torch.transpose(x, 1, 2).contiguous().view(batch, channels, height, width)


class _Before(nn.Module):
    """A function of some layers and images of 2 x 5 x 7, and a linear layer of all that it gives."""

    def __init__(self, body, **layers: nn.Module) -> None:
        super().__init__()
        self.body = body
        for name, layer in layers.items():
            self.add_module(name, layer)
        with torch.no_grad():
            self.fc = nn.Linear(body(self.eval(), torch.zeros(1, 2, 5, 7)).numel(), 3)

    def forward(self, x):
        return self.fc(self.body(self, x).flatten(1))


@pytest.mark.parametrize(
    ("body", "layers", "ops"),
    [
        (lambda m, x: m.p(x), {"p": nn.MaxPool2d(3, 2, 1)}, "maxpool2d"),
        (lambda m, x: F.max_pool2d(x, 3, 2, 0, 1, True), {}, "maxpool2d"),
        (lambda m, x: m.p(x), {"p": nn.AvgPool2d(3, 2, 1, count_include_pad=False)}, "avgpool2d"),
        (lambda m, x: F.avg_pool2d(x, 3, 2, 1, True, True, 5), {}, "avgpool2d"),
        (lambda m, x: m.p(x), {"p": nn.AvgPool2d((2, 3), 2, ceil_mode=True)}, "avgpool2d"),
        (lambda m, x: m.p(x), {"p": nn.AdaptiveAvgPool2d(7)}, "adaptiveavgpool2d"),
        (lambda m, x: F.adaptive_avg_pool2d(x, (4, None)), {}, "adaptiveavgpool2d"),
        (lambda m, x: m.c(x), {"c": nn.Conv2d(2, 4, 3, 2, 1, groups=2)}, "conv2d"),
        (lambda m, x: m.c(x), {"c": nn.Conv2d(2, 4, 3, padding="same", dilation=2, groups=2)}, "conv2d"),
        (lambda m, x: m.r(F.relu6(x)), {"r": nn.ReLU6()}, "hardtanh hardtanh"),
        (lambda m, x: m.h(F.hardtanh(x, -0.5, 2.0)), {"h": nn.Hardtanh()}, "hardtanh hardtanh"),
        (lambda m, x: m.h(F.hardswish(x, inplace=False)), {"h": nn.Hardswish(inplace=True)}, "hardswish hardswish"),
        (lambda m, x: m.h(F.hardsigmoid(x)), {"h": nn.Hardsigmoid()}, "hardsigmoid hardsigmoid"),
        (lambda m, x: m.t(m.s(torch.tanh(torch.sigmoid(x)))), {"s": nn.Sigmoid(), "t": nn.Tanh()}, 4 * "function "),
        (lambda m, x: m.s(F.silu(x)) + x.sigmoid(), {"s": nn.SiLU()}, 3 * "function " + "add"),
        (lambda m, x: m.g(F.gelu(x, approximate="tanh")), {"g": nn.GELU()}, "function function"),
        (lambda m, x: F.gelu(m.e(F.elu(F.softplus(m.p(x)), 1.0))), {"e": nn.ELU(), "p": nn.Softplus()},
         5 * "function "),
        (
            lambda m, x: m.n(m.l(x.flatten(1))),
            {"l": nn.Linear(70, 4), "n": nn.BatchNorm1d(4)},
            "flatten linear batchnorm2d",
        ),
        (lambda m, x: m.g(m.h(x)), {"h": nn.GroupNorm(1, 2), "g": nn.GroupNorm(2, 2, eps=1e-3)}, "groupnorm groupnorm"),
        (lambda m, x: m.n(m.l(x.flatten(1))), {"l": nn.Linear(70, 4), "n": nn.LayerNorm(4)},
         "flatten linear groupnorm"),
        (lambda m, x: m.n(m.l(x.flatten(1))), {"l": nn.Linear(70, 4), "n": nn.LayerNorm(4, bias=False)},
         "flatten linear groupnorm"),
        (lambda m, x: torch.cat([x, m.c(x), x], 1), {"c": nn.Conv2d(2, 4, 1)}, "conv2d cat"),
        (lambda m, x: torch.cat([(y := x.chunk(2, 1))[1], y[0]], dim=1), {}, "channels channels cat"),
        (lambda m, x: (y := torch.split(m.c(x), [3, 5], 1))[1][:, -2:] + y[0][:, :2], {"c": nn.Conv2d(2, 8, 1)},
         "conv2d channels channels channels channels add"),
        (lambda m, x: m.s(_shuffled(m.c(x), 3)), {"c": nn.Conv2d(2, 6, 1), "s": nn.ChannelShuffle(2)},
         "conv2d channels channels"),
        (lambda m, x: torch.cat((torch.cat([m.c(x)], 1), x), dim=-3), {"c": nn.Conv2d(2, 4, 1)}, "conv2d cat"),
    ],
)  # fmt: skip
def test_what_convolutional_networks_are_made_of_converts(body, layers, ops):
    spec = {"shape": [2, 5, 7], "pad": 0, "mean": [0, 0], "std": [1, 1]}
    model = agree(_Before(body, **layers), spec)
    assert [node["op"] for node in model.graph] == [*ops.split(), "flatten", "linear"]


def test_concatenations_of_other_axes_and_bounds_between_units_are_refused():
    spec = {"shape": [2, 5, 7], "pad": 0, "mean": [0, 0], "std": [1, 1]}
    for body, why in (
        (lambda m, x: torch.cat([x, x], 2), "concatenation along axis 2: only that of channels"),
        (lambda m, x: torch.cat([x, x]).reshape(x.shape[0], -1), "concatenation along axis 0"),
        (lambda m, x: F.hardtanh(x, -0.1, 1.0), "bounds must be two multiples of 1/1024"),
        (lambda m, x: F.elu(x, 0.5), "an ELU with alpha 0.5: only alpha=1 has a table"),
        (lambda m, x: F.softplus(x, 2), "a softplus with beta 2"),
    ):
        with pytest.raises(UnusableInput, match=why):
            from_module(_Before(body), input=spec)


def test_a_group_norm_without_a_noticeable_eps_is_refused():
    """A constant group would be divided by its square root."""
    module = nn.Sequential(nn.GroupNorm(1, 1, eps=1e-12), nn.Flatten(), nn.Linear(4, 2))
    with pytest.raises(UnusableInput, match="layer 0: eps must lie between 2\\^-21 and 1"):
        from_module(module, input={"shape": [1, 2, 2], "pad": 0, "mean": [0], "std": [1]})


def test_slopes_of_leaky_relus_are_kept_and_must_fit():
    def module(*layers: nn.Module) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(4, 3), *layers, nn.Linear(3, 2))

    spec = {"shape": [1, 2, 2], "pad": 0, "mean": [0], "std": [1]}
    model = agree(module(nn.LeakyReLU(), nn.LeakyReLU(0.2, inplace=True), nn.LeakyReLU(1)), spec)
    assert [node["negative_slope"] for node in model.graph if node["op"] == "leaky_relu"] == [0.01, 0.2, 1.0]
    with pytest.raises(UnusableInput, match="layer 2: negative_slope must lie between 0 and 1"):
        from_module(module(nn.LeakyReLU(-0.5)), input=spec)


def test_conversion_leaves_the_module_alone():
    module = Functional().train().half()
    from_module(module, input=INPUT_2)
    assert module.training and module.fc1.weight.dtype == torch.float16
    with pytest.raises(UnsupportedLayer, match="Sequential"):
        from_sequential(module, input=INPUT_2)
    with pytest.raises(UnusableInput, match="avg"):
        lenet5("median")


def test_an_explicitly_built_stack_equals_torch():
    model = Model(STACK, SMALL_INPUT, PARAMS)
    x = torch.randn(2, 1, 4, 4, dtype=torch.float64)
    w, b, v = (torch.tensor(PARAMS[k], dtype=torch.float64) for k in "wbv")
    expected = F.linear(F.max_pool2d(F.conv2d(x, w, b), 2).flatten(1), v)
    torch.testing.assert_close(to_module(model)(x), expected)


def test_the_digest_is_of_the_weights_as_they_are():
    model = from_sequential(mlp(4, [3], 2, seed=0), input={"shape": [1, 2, 2], "pad": 0, "mean": [0], "std": [1]})
    other = copy.deepcopy(model)
    assert other.weights_digest == model.weights_digest
    name = next(iter(other.params))
    other.params[name] = other.params[name] + 1
    assert other.weights_digest != model.weights_digest
