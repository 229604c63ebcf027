"""Model files: reading them safely, checking them, converting modules, normalising samples."""

from __future__ import annotations

import copy
import io
import json
import math
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import prune

from zkcert.convert import from_module, from_sequential, to_module
from zkcert.data.normalised import input_integers, input_values
from zkcert.errors import RangeOverflow, UnsupportedLayer, UnusableInput
from zkcert.foreign import model_file as other_model_file
from zkcert.public.model import Model, input_affine
from zkcert.zoo import LENET5_INPUT, fashion_mnist_small, lenet5, mlp

SMALL_INPUT = {"shape": [1, 4, 4], "pad": 0, "mean": [0.5], "std": [0.25]}


def small_model() -> Model:
    return from_module(mlp(16, [6], 3), input=SMALL_INPUT)


def file_bytes(model: Model, tmp_path, suffix: str = ".pt") -> bytes:
    path = tmp_path / f"model{suffix}"
    model.save(path)
    return path.read_bytes()


def pack(pickled: bytes, members: dict[str, bytes] | None = None, compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.writestr("model/data.pkl", pickled)
        if "version" not in (members or {}):
            archive.writestr("model/version", b"3\n")
        for name, data in (members or {}).items():
            archive.writestr(f"model/{name}", data)
    return buffer.getvalue()


def unpack(data: bytes) -> tuple[bytes, dict[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    return members.pop("data.pkl"), members


def converted(data: bytes) -> Model:
    """The model that `zkcert convert` reads in a file that zkcert did not write."""
    return Model.of(other_model_file.read(data))


def torch_bytes(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def small_pt(tmp_path_factory) -> bytes:
    return file_bytes(small_model(), tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def old_pt() -> bytes:
    """As torch.save writes it."""
    model = small_model()
    state = {name: torch.tensor(array) for name, array in model.tensors.items()}
    return torch_bytes({"graph": model.graph, "input": model.input, "state_dict": state})


@pytest.fixture(scope="module")
def small_safetensors(tmp_path_factory) -> bytes:
    return file_bytes(small_model(), tmp_path_factory.mktemp("small"), ".safetensors")


# --- Honest files ---


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


# --- Hostile files ---


class _Runs:
    """Unpickling this with Python's pickle would create a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_a_pickle_that_runs_a_command_is_refused_and_runs_nothing(tmp_path):
    witness = tmp_path / "executed"
    model = small_model()
    honest = {"graph": model.graph, "input": model.input, "state_dict": mlp(16, [6], 3).state_dict()}
    for value in (_Runs(str(witness)), {**honest, "graph": _Runs(str(witness))}):
        for data in (
            torch_bytes(value),
            *(pack(pickle.dumps(value, protocol=p)) for p in range(5) if value is not honest),
        ):
            for read in (Model.parse, converted):
                with pytest.raises(UnusableInput):
                    read(data)
    state = {**mlp(16, [6], 3).state_dict(), "fc1.weight": _Runs(str(witness))}
    with pytest.raises(UnusableInput, match="posix system"):
        converted(torch_bytes({**honest, "state_dict": state}))
    assert not witness.exists()


@pytest.mark.parametrize(
    "body",
    [
        b"cos\nsystem\n(X\x04\x00\x00\x00true\x85R.",
        b"cbuiltins\neval\n.",
        b"ctorch._utils\n_rebuild_tensor_v2\n)R.",
        b"ctorch\nFloatStorage\n)R.",
        b"ccollections\nOrderedDict\n(K\x01tR.",
        b"ccollections OrderedDict\nx\n)R.",
        b"(K\x01K\x02l.",  # LIST
        b"(S'os'\nS'\\x'\no.",  # OBJ, with an invalid escape
        b"(ios\nsystem\n.",  # INST
        b"\x82\x01.",  # EXT1
        b"}q\x00h\x01.",
        b"}.}",
        b"}}.",
        b"(.",
        b"t.",
        b"\x85.",
        b"R.",
        b"Q.",
        b"}K\x01K\x02s.",
        b"}(X\x01\x00\x00\x00aK\x02X\x01\x00\x00\x00aK\x02u.",
        b"]b.",
        b"K\x01Q.",
        b"}",
        b"",
        b"V\\ud8\n.",
        b"X\xff\xff\xff\x7fa.",
        b"\x8a\xff" + b"\xff" * 255 + b".",
        b"(" * 70_000 + b".",
        b"K\x01" * 70_000 + b".",
        b"]" + b"]q\x00a" * 10_000 + b".",
    ],
)
def test_other_pickles_are_refused(body):
    with pytest.raises(UnusableInput) as refusal:
        converted(pack(b"\x80\x02" + body))
    assert "\n" not in str(refusal.value)


def test_deep_and_circular_structures_are_refused(old_pt):
    _, members = unpack(old_pt)
    deep = b"]" * 60_000 + b"a" * 59_999
    circular = b"]q\x00h\x00a"
    for nested in (deep, circular):
        for key in (b"graph", b"input", b"state_dict"):
            fields = b"".join(
                b"X" + struct.pack("<I", len(k)) + k + (nested if k == key else b"]")
                for k in (b"graph", b"input", b"state_dict")
            )
            with pytest.raises(UnusableInput):
                converted(pack(b"\x80\x02}(" + fields + b"u.", members))


def test_an_expanded_tensor_takes_no_memory():
    """A storage of one number with strides 0 and a shape of 2^40 elements."""
    state = dict(mlp(16, [6], 3).state_dict())
    graph = small_model().graph
    state["fc1.weight"] = torch.zeros(1).expand(1 << 20, 1 << 20)
    with pytest.raises(UnusableInput, match=r"fc1\.weight"):
        converted(torch_bytes({"graph": graph, "input": SMALL_INPUT, "state_dict": state}))


def test_tied_tensors_are_refused():
    model = from_module(mlp(16, [16], 16), input=SMALL_INPUT)
    state = dict(mlp(16, [16], 16).state_dict())
    state["fc2.weight"] = state["fc1.weight"]
    with pytest.raises(UnusableInput, match=r"fc2.weight .* tied"):
        converted(torch_bytes({"graph": model.graph, "input": SMALL_INPUT, "state_dict": state}))


def test_zip_tricks_are_refused(old_pt):
    pickled, members = unpack(old_pt)
    assert converted(old_pt).param_count == small_model().param_count
    with pytest.raises(UnusableInput, match="not where PyTorch writes them"):
        converted(pack(pickled, members))
    bomb = pack(b"\x80\x02" + b"N" * 3_000_000 + b".", compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(UnusableInput, match="uncompressed"):
        converted(bomb)
    with pytest.raises(UnusableInput, match="reasonable size"):
        converted(pack(b"N" * 5_000_000))
    with pytest.raises(UnusableInput, match="little"):
        converted(pack(pickled, {**members, "byteorder": b"big"}))
    with pytest.raises(UnusableInput, match="storages"):
        converted(pack(pickled, {**members, "data/99": b"1234"}))
    with pytest.raises(UnusableInput, match="member 'model/more"):
        converted(pack(pickled, {**members, "more": b""}))
    for name in [name for name in members if name.startswith("data/")]:
        for data in (b"", members[name] + b"\0" * 4, members[name][:-4]):
            with pytest.raises(UnusableInput):
                converted(pack(pickled, {**members, name: data}))
    buffer = io.BytesIO(pack(pickled, members))
    with zipfile.ZipFile(buffer, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(archive.namelist()[0], pickled)
    with pytest.raises(UnusableInput, match="same name"):
        converted(buffer.getvalue())


def test_members_that_overlap_are_refused():
    """One megabyte, listed a hundred times in the central directory."""
    data = pack(b"}.", {"data/0": b"x" * 1_000_000})
    end = data.rindex(b"PK\x05\x06")
    start = struct.unpack_from("<I", data, end + 16)[0]
    directory, entry = data[start:end], data[data.rindex(b"PK\x01\x02") : end]
    copies = b"".join(entry[:46] + b"model/d%04d" % i + entry[46 + 12 :] for i in range(100))
    copies = copies.replace(struct.pack("<H", 12) + entry[30:34], struct.pack("<H", 11) + entry[30:34])
    tail = struct.pack("<HHII", 102, 102, len(directory + copies), start)
    for read in (Model.parse, converted):
        with pytest.raises(UnusableInput):
            read(data[:end] + copies + data[end : end + 8] + tail + b"\0\0")


def test_files_that_are_no_models_are_refused(tmp_path):
    for data in (b"", b"PK", b"\x80\x02}.", b"\x00" * 100, b"\xff" * 100, pickle.dumps({}), b"{}" * 50):
        for read in (Model.parse, converted):
            with pytest.raises(UnusableInput):
                read(data)
    for path in (tmp_path, tmp_path / "missing.pt"):
        with pytest.raises(UnusableInput, match=f"^{path}: (is a directory|No such file)"):
            Model.load(path)
    for value in ({}, {"state_dict": {}}, lenet5().state_dict(), [1], torch.zeros(3), None):
        with pytest.raises(UnusableInput, match=r"exactly graph, input and state_dict|call other"):
            converted(torch_bytes(value))


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_a_truncated_file_is_refused(small_pt, small_safetensors, data):
    source = data.draw(st.sampled_from([small_pt, small_safetensors]))
    with pytest.raises(UnusableInput):
        Model.parse(source[: data.draw(st.integers(0, len(source) - 1))])


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_a_flipped_bit_is_refused_or_makes_another_model(small_pt, small_safetensors, data):
    """Checksums guard the zip format; safetensors has none, but nothing in it that does not matter either."""
    zipped = data.draw(st.booleans())
    source = small_pt if zipped else small_safetensors
    bit = data.draw(st.integers(0, 8 * len(source) - 1))
    damaged = bytearray(source)
    damaged[bit // 8] ^= 1 << bit % 8
    try:
        model = Model.parse(bytes(damaged))
    except (UnusableInput, RangeOverflow):
        return
    changed = (model.weights_digest, model.circuit_digest_json())
    assert not zipped and changed != (small_model().weights_digest, small_model().circuit_digest_json())


_EDITS = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 3), st.binary(max_size=4)), max_size=4)


def edited(data: bytes, edits: list[tuple[float, int, bytes]]) -> bytes:
    """Each edit replaces some bytes, at a relative position, by others."""
    for where, removed, inserted in edits:
        at = int(where * len(data))
        data = data[:at] + inserted + data[at + removed :]
    return data


@settings(deadline=None, max_examples=600)
@given(_EDITS)
def test_a_damaged_pickle_raises_nothing_else(old_pt, edits):
    pickled, members = unpack(old_pt)
    try:
        converted(pack(edited(pickled, edits), members))
    except UnusableInput as refusal:
        assert "\n" not in str(refusal)


@settings(deadline=None, max_examples=300)
@given(_EDITS)
def test_a_damaged_safetensors_header_raises_nothing_else(small_safetensors, edits):
    length = int.from_bytes(small_safetensors[:8], "little")
    header = edited(small_safetensors[8 : 8 + length], edits)
    for read in (Model.parse, converted):
        try:
            read(struct.pack("<Q", len(header)) + header + small_safetensors[8 + length :])
        except UnusableInput as refusal:
            assert "\n" not in str(refusal)


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.sampled_from([bytes([b]) for b in b"\x80\x02}]()qXKJNMGctRQbseauth.\x85\x86\x87\x88\x89\x8a\x00\x01"]))
)
def test_random_opcodes_raise_nothing_else(opcodes):
    with pytest.raises(UnusableInput):
        converted(pack(b"".join(opcodes)))


@pytest.mark.parametrize(
    "change",
    [
        lambda h: h.pop("__metadata__"),
        lambda h: h["__metadata__"].pop("zkcert.graph"),
        lambda h: h["__metadata__"].update({"zkcert.input": "{"}),
        lambda h: h["__metadata__"].update({"zkcert.input": "[" * 100_000}),
        lambda h: h["__metadata__"].update({"zkcert.input": '{"pad":0,"pad":0}'}),
        lambda h: h["__metadata__"].update({"zkcert.graph": "[NaN]"}),
        lambda h: h["fc1.bias"].update(dtype="I32"),
        lambda h: h["fc1.bias"].update(dtype="F16"),
        lambda h: h["fc1.bias"].update(shape=[7]),
        lambda h: h["fc1.bias"].update(shape=[6, 1]),
        lambda h: h["fc1.bias"].update(shape=[-6]),
        lambda h: h["fc1.bias"].update(shape=[6.0]),
        lambda h: h["fc1.bias"].update(data_offsets=[0, 24]),
        lambda h: h["fc1.bias"].update(data_offsets=[-24, 0]),
        lambda h: h["fc1.bias"].update(data_offsets=[1 << 70, (1 << 70) + 24]),
        lambda h: h["fc1.bias"].update(extra=1),
        lambda h: h.pop("fc1.bias"),
        lambda h: h.update(other=h["fc1.bias"]),
    ],
)
def test_other_safetensors_headers_are_refused(small_safetensors, change):
    length = int.from_bytes(small_safetensors[:8], "little")
    header = json.loads(small_safetensors[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    for read in (Model.parse, converted):
        with pytest.raises(UnusableInput):
            read(struct.pack("<Q", len(text)) + text + small_safetensors[8 + length :])


# --- Checks of the model itself ---


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


CONV = {"op": "conv2d", "name": "c", "weight": "w", "bias": "b", "stride": [1, 1], "padding": [0, 0]}
LEAKY = {"op": "leaky_relu", "name": "r", "negative_slope": 0.5}
POOL = {"op": "maxpool2d", "name": "p", "kernel": [2, 2], "stride": [2, 2]}
FLATTEN = {"op": "flatten", "name": "f"}
LINEAR = {"op": "linear", "name": "l", "weight": "v", "bias": None}
PARAMS = {
    "w": np.ones((2, 1, 3, 3), np.float32),
    "b": np.ones(2, np.float32),
    "v": np.ones((3, 2), np.float32),
}
STACK = [CONV, POOL, FLATTEN, LINEAR]


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
        ([CONV, {**POOL, "padding": [1, 1]}, *STACK[2:]], UnusableInput, "layer p"),
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


# --- Normalisation ---


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


# --- Conversion ---


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


@pytest.mark.parametrize(
    ("layer", "named"),
    [
        (nn.Conv2d(2, 4, 3, groups=2), "0: Conv2d"),
        (nn.Conv2d(2, 4, 3, dilation=2), "0: Conv2d"),
        (nn.Conv2d(2, 4, 3, padding="same"), "0: Conv2d"),
        (nn.Conv2d(2, 4, 3, padding=1, padding_mode="reflect"), "0: Conv2d"),
        (nn.MaxPool2d(2, padding=1), "0: maxpool2d with padding=1"),
        (nn.MaxPool2d(2, ceil_mode=True), "0: maxpool2d with ceil_mode"),
        (nn.MaxPool2d(2, dilation=2), "0: maxpool2d with dilation"),
        (nn.AvgPool2d(2, divisor_override=3), "0: avgpool2d with divisor_override"),
        (nn.Flatten(0), "0: flatten"),
        (nn.GELU(), "0: GELU"),
        (nn.BatchNorm2d(2, affine=False), "0: a batch-norm"),
        (nn.BatchNorm2d(2, track_running_stats=False), "0: a batch-norm"),
        (nn.GroupNorm(1, 2), "0: GroupNorm"),
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
        (lambda m: nn.utils.weight_norm(m[1]), "layer 1: its weight .* torch.nn.utils.remove_weight_norm"),
        (lambda m: nn.utils.spectral_norm(m[1]), "layer 1: its weight .* torch.nn.utils.remove_spectral_norm"),
        (lambda m: nn.utils.parametrizations.weight_norm(m[1]), "layer 1: its weight is .*remove_parametrizations"),
        (lambda m: prune.l1_unstructured(m[1], "bias", 0.5), r'layer 1: its bias is pruned: .*remove\(layer, "bias"\)'),
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
    with pytest.raises(UnusableInput, match=r"must end in a linear layer.*Linear after pooling and flattening"):
        from_module(head, input=SMALL_IMAGE)
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
        (lambda m, x: m.fc(F.adaptive_avg_pool2d(x, (3, 1)).flatten(1)), "layer adaptive_avg_pool2d.*must divide"),
        (lambda m, x: F.log_softmax(m.fc(x.flatten(1)), 1), "layer log_softmax"),
        (lambda m, x: m.fc(x.view(2, -1)) if x.sum() > 0 else x, "traced"),
        (lambda m, x: m.fc(x.view(1, -1)), "layer fc: does not run on a batch of two"),
        (lambda m, x: m.fc(x.flatten(1)).view(8, -1), "something else"),
        (lambda m, x: m.fc(x.flatten(1)[:, :8]), "layer getitem: a slice .getitem. has no circuit"),
        (lambda m, x: m.fc(torch.cat([x, x], 1).flatten(1)), "layer cat: cat has no circuit"),
        (lambda m, x: {"logits": m.fc(x.flatten(1))}, "returns a dict, not the logits alone"),
        (lambda m, x: (m.fc(x.flatten(1)), x), "returns a tuple, not the logits alone"),
        (lambda m, x: m.fc(x.transpose(1, 2).flatten(1)), "layer transpose"),
        (lambda m, x: F.linear(x.flatten(1), m.fc.weight), "layer"),
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
