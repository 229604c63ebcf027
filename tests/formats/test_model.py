"""Model files of one's own, and what a model must satisfy."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.formats.models import (
    CONV,
    FLATTEN,
    LINEAR,
    PARAMS,
    POOL,
    SMALL_INPUT,
    STACK,
    converted,
    small_model,
    torch_bytes,
)
from zkcert.convert import from_module, from_sequential
from zkcert.errors import RangeOverflow, UnsupportedLayer, UnusableInput
from zkcert.files.models import model_pieces, stored
from zkcert.public.model import Model
from zkcert.public.model_file import Content, write
from zkcert.zoo import LENET5_INPUT, lenet5, mlp


def test_reader_equals_torch_load(tmp_path):
    module = lenet5()
    from_sequential(module, input=LENET5_INPUT).save(tmp_path / "model.pt")
    model = Model.load(tmp_path / "model.pt")
    loaded = torch.load(tmp_path / "model.pt", weights_only=True)
    assert loaded["graph"] == model.graph and loaded["input"] == model.input == LENET5_INPUT
    assert list(loaded["state_dict"]) == list(model.params) == list(module.state_dict())
    for name, tensor in module.state_dict().items():
        assert model.params[name].dtype == np.float32 and model.params[name].flags.c_contiguous
        np.testing.assert_array_equal(model.params[name], tensor.numpy())
        np.testing.assert_array_equal(model.params[name], loaded["state_dict"][name].numpy())


def test_user_written_files_with_state_dict_parameters_and_strides_are_read():
    module = mlp(16, [6], 3)
    graph, state = small_model().graph, module.state_dict()
    expected = small_model().weights_digest
    for tensors in (
        state,  # an OrderedDict with _metadata
        dict(module.named_parameters()),
        {name: tensor.t().contiguous().t() if tensor.ndim == 2 else tensor for name, tensor in state.items()},
        dict(reversed(state.items())),
    ):
        data = torch_bytes({"graph": graph, "input": SMALL_INPUT, "state_dict": tensors})
        assert converted(data).weights_digest == expected
        with pytest.raises(UnusableInput, match="zkcert convert"):
            Model.parse(data)


def test_views_of_one_storage_are_read():
    module = mlp(16, [6], 3)
    flat = torch.cat([p.detach().flatten() for p in module.parameters()])
    parts = flat.split([p.numel() for p in module.parameters()])
    state = {n: v.view(p.shape) for v, (n, p) in zip(parts, module.named_parameters(), strict=True)}
    data = torch_bytes({"graph": small_model().graph, "input": SMALL_INPUT, "state_dict": state})
    assert converted(data).weights_digest == small_model().weights_digest


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_float_types_are_read_exactly(dtype, tmp_path):
    state = {name: tensor.to(dtype) for name, tensor in mlp(16, [6], 3).state_dict().items()}
    model = converted(torch_bytes({"graph": small_model().graph, "input": SMALL_INPUT, "state_dict": state}))
    for name, tensor in state.items():
        assert model.params[name].dtype == (np.float64 if dtype == torch.float64 else np.float32)
        np.testing.assert_array_equal(model.params[name], tensor.double().numpy())
    model.save(tmp_path / "again.safetensors")
    assert Model.load(tmp_path / "again.safetensors").weights_digest == model.weights_digest


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_saving_and_loading_changes_nothing(suffix, tmp_path):
    model = from_module(lenet5("avg"), input=LENET5_INPUT)
    model.save(tmp_path / f"m{suffix}")
    again = Model.load(tmp_path / f"m{suffix}")
    assert again.weights_digest == model.weights_digest and len(model.weights_digest) == 32
    assert again.circuit_digest_json() == model.circuit_digest_json()
    assert again.shapes == model.shapes


def test_digests_depend_on_every_part():
    model = small_model()
    digests = {model.weights_digest}
    for name, array in model.params.items():
        other = array.copy()
        other.flat[-1] = np.nextafter(other.flat[-1], np.float32(16))
        digests.add(Model(model.graph, model.input, {**model.params, name: other}).weights_digest)
    wide = {name: array.astype(np.float64) for name, array in model.params.items()}
    digests.add(Model(model.graph, model.input, wide).weights_digest)
    assert len(digests) == len(model.params) + 2
    other = Model(model.graph, {**model.input, "pad": 0, "mean": [0.25]}, model.params)
    assert other.circuit_digest_json() != model.circuit_digest_json()
    assert json.loads(model.circuit_digest_json()) == {"graph": model.graph, "input": model.input}


def test_lenet_shapes_and_size():
    model = from_sequential(lenet5(), input=LENET5_INPUT)
    assert model.param_count == 61_706 and model.classes == 10 and model.input_shape == [1, 32, 32]
    by_name = {node["name"]: shape for node, shape in zip(model.graph, model.shapes, strict=True)}
    assert by_name["pool1"] == [6, 14, 14] and by_name["pool2"] == [16, 5, 5] and by_name["flatten"] == [400]
    assert model.graph[0] == {
        "op": "conv2d",
        "name": "conv1",
        "weight": "conv1.weight",
        "bias": "conv1.bias",
        "stride": [1, 1],
        "padding": [0, 0],
    }


def test_reading_needs_no_torch(small_pt, small_safetensors, tmp_path):
    (tmp_path / "m.pt").write_bytes(small_pt)
    (tmp_path / "m.safetensors").write_bytes(small_safetensors)
    code = (
        "import sys, zkcert, zkcert.public.config; from zkcert.public.model import Model; a = Model.load('m.pt');"
        "b = Model.load('m.safetensors'); assert a.weights_digest == b.weights_digest;"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers_are_refused(value):
    model = small_model()
    bias = np.array([0, value, 0, 0, 0, 0], np.float32)
    with pytest.raises(UnusableInput, match=r"fc1\.bias"):
        Model(model.graph, model.input, {**model.params, "fc1.bias": bias})


@pytest.mark.parametrize("value", [128.0, -128.0, 1e30, math.nextafter(128.0, 0)])
def test_large_weights_are_refused(value):
    model = small_model()
    with pytest.raises(RangeOverflow, match=r"fc2\.bias") as refusal:
        Model(model.graph, model.input, {**model.params, "fc2.bias": np.array([0, value, 0])})
    assert refusal.value.limit == 128.0


LEAKY = {"op": "leaky_relu", "name": "r", "negative_slope": 0.5}
SINE = {"op": "function", "name": "s"}


@pytest.mark.parametrize(
    ("graph", "error", "message"),
    [
        ([], UnusableInput, "graph must list"),
        ("conv2d", UnusableInput, "graph must list"),
        ([CONV, 5], UnusableInput, "node 1"),
        ([{**CONV, "name": None}, *STACK[1:]], UnusableInput, "name of graph node 0"),
        ([{**CONV, "name": "a b"}, *STACK[1:]], UnusableInput, "name of graph node 0"),
        ([CONV, {"op": "gelu", "name": "g"}, *STACK[1:]], UnsupportedLayer, "layer g: 'gelu' has no circuit"),
        ([CONV, {**POOL, "inputs": ["f"]}, *STACK[2:]], UnusableInput, "layer p: its input f is no earlier layer"),
        ([CONV, {**POOL, "inputs": ["p"]}, *STACK[2:]], UnusableInput, "layer p: its input p is no earlier layer"),
        ([CONV, {**POOL, "inputs": ["c", "c"]}, *STACK[2:]], UnusableInput, "layer p: maxpool2d has 1 inputs"),
        ([CONV, {**POOL, "inputs": "c"}, *STACK[2:]], UnusableInput, "layer p: maxpool2d has 1 inputs"),
        ([CONV, {**POOL, "inputs": [1]}, *STACK[2:]], UnusableInput, "layer p: input"),
        ([CONV, {**POOL, "inputs": ["@input"]}, *STACK[2:]], UnusableInput, "layer c is read by no layer"),
        ([*STACK, {"op": "add", "name": "a"}], UnusableInput, "layer a: add has 2 inputs"),
        ([*STACK, {"op": "add", "name": "a", "inputs": ["l"]}], UnusableInput, "layer a: add has 2 inputs"),
        ([*STACK, {"op": "add", "name": "a", "inputs": ["l", "c"]}], UnusableInput, "layer a: its inputs have shapes"),
        ([*STACK, {"op": "relu", "name": "r", "inputs": ["f"]}], UnusableInput, "layer l is read by no layer"),
        ([CONV, {**POOL, "padding": [1, 1], "x": 1}, *STACK[2:]], UnusableInput, "layer p: .* may have padding, ceil"),
        ([CONV, {**POOL, "padding": [2, 1]}, *STACK[2:]], UnusableInput, r"layer p .*\[2, 1\] is more than half"),
        ([CONV, {**POOL, "padding": 1}, *STACK[2:]], UnusableInput, "layer p: padding must be 2 integers"),
        ([CONV, {**POOL, "ceil": 1}, *STACK[2:]], UnusableInput, "layer p: ceil must be true or false"),
        ([{**CONV, "groups": 2}, *STACK[1:]], UnusableInput, "layer c .*does not fit"),
        ([{**CONV, "groups": 0}, *STACK[1:]], UnusableInput, "layer c: groups must be an integer from 1"),
        ([{**CONV, "dilation": [2, 2]}, *STACK[1:]], UnusableInput, r"dilation \[2, 2\] do not fit"),
        ([CONV, {"op": "cat", "name": "x", "inputs": ["c"]}, *STACK[1:]], UnusableInput, "cat has 2 to 64 inputs"),
        ([CONV, {"op": "cat", "name": "x", "inputs": ["c", "@input"]}, *STACK[1:]], UnusableInput, "have shapes"),
        ([CONV, {**POOL, "stride": [0, 1]}, *STACK[2:]], UnusableInput, "layer p: stride"),
        ([CONV, {**POOL, "kernel": [2]}, *STACK[2:]], UnusableInput, "layer p: kernel"),
        ([CONV, {**POOL, "kernel": [3, 3]}, *STACK[2:]], UnusableInput, r"layer p \(maxpool2d\): kernel"),
        ([{**CONV, "padding": [3, 0]}, *STACK[1:]], UnusableInput, "layer c"),
        ([{**CONV, "bias": "w2"}, *STACK[1:]], UnusableInput, "tensor w2 is missing"),
        ([{**CONV, "bias": "w"}, *STACK[1:]], UnusableInput, "tensor w is used twice"),
        ([{**CONV, "bias": None}, *STACK[1:]], UnusableInput, "tensor b is used by no layer"),
        ([{**CONV, "weight": 3}, *STACK[1:]], UnusableInput, "layer c: weight"),
        ([CONV, POOL, LINEAR], UnusableInput, r"layer l \(linear\).*flatten"),
        ([CONV, FLATTEN, {**POOL}, LINEAR], UnusableInput, r"layer p \(maxpool2d\)"),
        ([CONV, FLATTEN, LINEAR], UnusableInput, r"layer l \(linear\): weight of shape \[3, 2\]"),
        ([CONV, POOL, {**FLATTEN, "name": "c"}, LINEAR], UnusableInput, "same name"),
        ([*STACK, {"op": "relu", "name": "r", "x": 1}], UnusableInput, "layer r"),
        ([*STACK, {"op": "leaky_relu", "name": "r"}], UnusableInput, "layer r: leaky_relu has exactly the fields neg"),
        ([*STACK, {**LEAKY, "negative_slope": -0.1}], UnusableInput, "layer r: negative_slope must lie between 0 and"),
        ([*STACK, {**LEAKY, "negative_slope": 1.5}], UnusableInput, "layer r: negative_slope must lie between 0 and"),
        ([*STACK, {**LEAKY, "negative_slope": float("nan")}], UnusableInput, "layer r: negative_slope must lie"),
        ([*STACK, {**LEAKY, "negative_slope": True}], UnusableInput, "layer r: negative_slope must lie between 0 and"),
        ([*STACK, {**SINE, "function": "sine"}], UnusableInput, "layer s: function must be one of sigmoid, tanh, silu"),
        ([*STACK, {**SINE, "function": 1}], UnusableInput, "layer s: function must be one of sigmoid, tanh, silu"),
        ([*STACK, SINE], UnusableInput, "layer s: function has exactly the fields function"),
    ],
)
def test_inconsistent_graphs_are_refused(graph, error, message):
    with pytest.raises(error, match=message):
        Model(graph, SMALL_INPUT, PARAMS)
    assert Model(STACK, SMALL_INPUT, PARAMS).shapes == [[2, 2, 2], [2, 1, 1], [2], [3]]


def test_inputs_that_are_the_previous_layer_are_left_out():
    """So that one network has one digest."""
    named = [{**CONV, "inputs": ["@input"]}, {**POOL, "inputs": ["c"]}, *STACK[2:]]
    assert Model(named, SMALL_INPUT, PARAMS).graph == Model(STACK, SMALL_INPUT, PARAMS).graph == STACK


def test_options_that_have_their_usual_value_are_left_out():
    """So that one network has one digest; a file that states them is none that zkcert wrote."""
    stated = [{**CONV, "dilation": [1, 1], "groups": 1}, {**POOL, "padding": [0, 0], "ceil": False}, *STACK[2:]]
    model = Model(stated, SMALL_INPUT, PARAMS)
    assert model.graph == STACK
    for suffix in (".pt", ".safetensors"):
        data = b"".join(model_pieces(model, f"model{suffix}"))
        tensors = {name: stored(array) for name, array in model.tensors.items()}
        other = b"".join(write(Content(stated, model.input, tensors, suffix == ".safetensors")))
        assert Model.parse(data).graph == STACK
        with pytest.raises(UnusableInput, match="not in the form zkcert writes"):
            Model.parse(other)
    capped = Model([CONV, {**POOL, "ceil": True}, *STACK[2:]], SMALL_INPUT, PARAMS)
    assert list(capped.graph[1]) == ["op", "name", "kernel", "stride", "ceil"]
    assert capped.circuit_digest_json() != model.circuit_digest_json()


def test_branches_are_part_of_the_circuit_digest():
    double = Model([*STACK, {"op": "add", "name": "a", "inputs": ["l", "l"]}], SMALL_INPUT, PARAMS)
    assert double.graph[-1]["inputs"] == ["l", "l"] and '"inputs":["l","l"]' in double.circuit_digest_json()
    again = Model(double.graph, SMALL_INPUT, PARAMS)
    assert again.circuit_digest_json() == double.circuit_digest_json()


def test_a_model_must_output_classes():
    with pytest.raises(UnusableInput, match=r"\[classes\]"):
        Model([CONV], SMALL_INPUT, {k: PARAMS[k] for k in "wb"})
    with pytest.raises(UnusableInput, match="float32 or float64"):
        Model(STACK, SMALL_INPUT, {**PARAMS, "b": np.ones(2, np.int64)})
    with pytest.raises(UnusableInput, match=r"layer c .*bias"):
        Model(STACK, SMALL_INPUT, {**PARAMS, "b": np.ones(3, np.float32)})


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [4, 4]},
        {"shape": [1, 4, 0]},
        {"shape": [1, 4, 1 << 40]},
        {"shape": [1, 1 << 16, 1 << 16]},
        {"pad": -1},
        {"pad": 0.0},
        {"pad": True},
        {"mean": [0.5, 0.5]},
        {"mean": 0.5},
        {"mean": ["0.5"]},
        {"mean": [float("nan")]},
        {"mean": [1e9]},
        {"std": [0.0]},
        {"std": [-1.0]},
        {"std": [1e-300]},
        {"std": [float("inf")]},
        {"more": 1},
    ],
)
def test_unusable_inputs_are_refused(change):
    with pytest.raises(UnusableInput):
        Model(STACK, {**SMALL_INPUT, **change}, PARAMS)


@given(st.lists(st.floats(-15.9, 15.9) | st.floats(-1e-9, 1e-9), min_size=3, max_size=3))
def test_quantisation_is_exact(values):
    half_ulps = [(k + 0.5) / 2**32 for k in (-2, -1, 0, 1, 2**33)] + [math.nextafter(0.5, 0) / 2**32]
    wide = np.array([values + half_ulps + [0.0, 15.9]]).T @ np.ones((1, 2))
    params = {**PARAMS, "v": wide}
    got = Model(STACK, SMALL_INPUT, params).quantized("v")
    want = [[math.floor(Fraction(v) * 2**32 + Fraction(1, 2)) for v in row] for row in wide.tolist()]
    assert got.dtype == np.int64 and got.tolist() == want
