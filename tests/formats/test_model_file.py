"""A model file has one form, byte for byte."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import zipfile
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tests.formats.archives import (
    INPUT,
    TORCH,
    Archive,
    Member,
    by_safetensors,
    by_torch,
    raw,
    saved_file,
    small,
    small_file,
    stored,
    strict,
    unpacked,
)
from zkcert.convert import from_module
from zkcert.errors import UnusableInput, ZkcertError
from zkcert.public import model_file, torch_archive
from zkcert.public.kinds import MODEL, kind_of
from zkcert.public.model import Model
from zkcert.public.model_file import Content, Stored


@pytest.mark.parametrize("dtype", TORCH)
def test_a_file_is_read_by_pytorch_and_safetensors(tmp_path, dtype):
    data, model = small_file(dtype=dtype), Model.parse(small_file(dtype=dtype))
    (tmp_path / "m.pt").write_bytes(data)
    for mapped in (False, True):
        value = torch.load(tmp_path / "m.pt", weights_only=True, mmap=mapped)
        assert list(value) == ["graph", "input", "state_dict"] and list(value["state_dict"]) == list(model.tensors)
        assert value["graph"] == model.graph and value["input"] == model.input
        for name, tensor in value["state_dict"].items():
            assert tensor.dtype == TORCH[dtype] and tensor.is_contiguous() and tensor.storage_offset() == 0
            assert tensor.untyped_storage().nbytes() == tensor.nbytes and not tensor.requires_grad
            np.testing.assert_array_equal(tensor.double().numpy(), model.tensors[name])
    assert strict(data) == by_torch(data)
    other = small_file(".safetensors", dtype)
    assert strict(other) == by_safetensors(other, tmp_path / "m.safetensors") == strict(data)
    with zipfile.ZipFile(tmp_path / "m.pt") as file:
        assert file.testzip() is None and len(file.namelist()) == 4 + len(model.tensors)
        for info in file.infolist():
            assert data.index(file.read(info), info.header_offset + 30 + len(info.filename)) % 64 == 0
    assert unpacked(data).pack() == data, "the archive of the tests is that of zkcert"


@pytest.mark.parametrize("suffix", [".pt", ".pth", "", ".safetensors"])
def test_saving_is_deterministic_and_the_name_says_the_format(tmp_path, suffix):
    paths = [tmp_path / f"{name}{suffix}" for name in ("a", "b")]
    for path in paths:
        small().save(path)
        assert kind_of(path) == MODEL
    data = paths[0].read_bytes()
    assert data == paths[1].read_bytes() == small_file(suffix)
    assert Model.load(paths[0]).weights_digest == small().weights_digest
    wrong = tmp_path / ("c.pt" if suffix == ".safetensors" else "c.SafeTensors")
    wrong.write_bytes(data)
    with pytest.raises(UnusableInput, match=rf"^{wrong}: it holds .*its name must (not )?end in \.safetensors$"):
        Model.load(wrong)


def test_saving_needs_no_pytorch_and_verifying_no_reader_of_pickles(tmp_path):
    small().save(tmp_path / "m.pt")
    code = (
        "import sys, verifier.files as v; v.read_model('m.pt')[0].save('again.pt');"
        "assert not {'torch', 'pickletools', 'zkcert.foreign.torch_pickle', 'zkcert.foreign.model_file'}"
        " & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
    assert (tmp_path / "again.pt").read_bytes() == small_file()


def test_a_batch_norm_and_branches_survive(tmp_path):
    torch.manual_seed(1)

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.conv = torch.nn.BatchNorm2d(1), torch.nn.Conv2d(1, 1, 3, padding=1)
            self.head = torch.nn.Linear(16, 2, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.norm(x)
            return self.head((self.conv(x) + x).flatten(1))

    model = from_module(Net(), input=INPUT)
    for name in ("m.pt", "m.safetensors"):
        model.save(tmp_path / name)
        again = Model.load(tmp_path / name)
        assert again.weights_digest == model.weights_digest and again.graph == model.graph
    assert strict((tmp_path / "m.pt").read_bytes()) == by_torch((tmp_path / "m.pt").read_bytes())


def test_values_of_every_kind_are_pickled_as_pytorch_reads_them():
    values = [
        0,
        255,
        256,
        65535,
        65536,
        -1,
        (1 << 31) - 1,
        0.1,
        -0.0,
        1e-300,
        "a",
        "\u00e9",
        True,
        False,
        None,
        [],
        {},
        [1],
    ]
    graph = [{"op": value, "inner": [values]} for value in values]
    tensors = {"w": torch.arange(4.0).reshape(2, 1, 2), "s": torch.tensor([0.5], dtype=torch.float64)}
    content = Content(graph, {"x": values}, {name: stored(t) for name, t in tensors.items()}, False)
    found = torch.load(io.BytesIO(b"".join(model_file.write(content))), weights_only=True)
    assert repr(found["graph"]) == repr(graph) and found["input"] == {"x": values}
    assert {name: raw(t) for name, t in found["state_dict"].items()} == {name: raw(t) for name, t in tensors.items()}
    assert [t.shape for t in found["state_dict"].values()] == [t.shape for t in tensors.values()]


def by_the_text(model: Model) -> bytes:
    """model.pt of float32 numbers as docs/spec/files.md has it."""

    def v(value: Any) -> bytes:
        if isinstance(value, dict):
            return b"}(" + b"".join(v(k) + v(x) for k, x in value.items()) + b"u"
        if isinstance(value, list):
            return b"](" + b"".join(map(v, value)) + b"e"
        if isinstance(value, str):
            return b"X" + struct.pack("<I", len(value)) + value.encode()
        if isinstance(value, float):
            return b"G" + struct.pack(">d", value)
        for letter, form in ("KB", "MH", "Ji"):
            if value is not None and value < 1 << 8 * struct.calcsize(form):
                return letter.encode() + struct.pack("<" + form, value)
        return b"N"

    def tensor(i: int, array: np.ndarray) -> bytes:
        shape, strides = (b"(" + b"".join(map(v, x)) + b"t" for x in (array.shape, np.array(array.strides) // 4))
        storage = v("storage") + b"ctorch\nFloatStorage\n" + v(str(i)) + v("cpu") + v(array.size)
        head = b"ctorch._utils\n_rebuild_tensor_v2\n((" + storage + b"tQ" + v(0)
        return head + shape + strides + b"\x89ccollections\nOrderedDict\n)RtR"

    state = b"".join(v(name) + tensor(i, array) for i, (name, array) in enumerate(model.tensors.items()))
    content = v("graph") + v(model.graph) + v("input") + v(model.input) + v("state_dict")
    graph, spec = (json.dumps(x, sort_keys=True, separators=(",", ":")) for x in (model.graph, model.input))
    description: dict[str, Any] = {"__metadata__": {"zkcert.graph": graph, "zkcert.input": spec}}
    end = 0
    for name, array in model.tensors.items():
        begin, end = end, end + array.nbytes
        description[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [begin, end]}
    text = json.dumps(description, separators=(",", ":")).encode()
    members = {"data.pkl": b"\x80\x02}(" + content + b"}(" + state + b"uu."}
    members |= {"zkcert.json": text.ljust(-(-len(text) // 8) * 8), "byteorder": b"little"}
    members |= {f"data/{i}": array.tobytes() for i, array in enumerate(model.tensors.values())}
    members["version"] = b"3\n"
    return Archive([Member(b"model/" + name.encode(), content) for name, content in members.items()]).pack()


def test_the_specification_suffices():
    module = torch.nn.Sequential(torch.nn.BatchNorm2d(1), torch.nn.Conv2d(1, 2, 3, bias=False), torch.nn.MaxPool2d(2))
    module.extend([torch.nn.Flatten(), torch.nn.Linear(2, 300)])
    model = from_module(module, input=INPUT)
    assert by_the_text(small()) == small_file()
    assert strict(by_the_text(model)) is not None


def test_files_are_compared_block_by_block(monkeypatch):
    monkeypatch.setattr(model_file, "_BLOCK", 7)
    data = small_file()
    assert strict(data) is not None
    for at in range(0, len(data), 5):
        assert strict(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]) is None


def test_archives_too_large_for_the_format_are_refused(monkeypatch, tmp_path):
    size = len(small_file())
    for name, limit, fits in (
        ("MAX_BYTES", size, True), ("MAX_BYTES", size - 1, False), ("MAX_BYTES", size - 900, False),
        ("MAX_MEMBERS", 8, True), ("MAX_MEMBERS", 7, False),
    ):  # fmt: skip
        with monkeypatch.context() as patch:
            patch.setattr(torch_archive, name, limit)
            if fits:
                small().save(tmp_path / "m.pt", force=True)
                continue
            with pytest.raises(UnusableInput, match=r"does not fit the zip format .*use \.safetensors"):
                small().save(tmp_path / "n.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["m.pt"]
    content = replace(model_file.read(small_file()), tensors={"x": Stored("F32", (1 << 16, 1 << 15), b"")})
    with pytest.raises(UnusableInput, match=r"2\^31 numbers or more.*use \.safetensors"):
        list(model_file.write(content))


def test_names_that_differ_in_case_only_are_refused():
    model = small()
    first, *_ = model.params
    graph = [{**node, "bias": first.upper()} if node.get("weight") == first else node for node in model.graph]
    tensors = {name: array for name, array in model.params.items() if name != "fc1.bias"}
    with pytest.raises(UnusableInput, match="differ only in case"):
        Model(graph, model.input, {**tensors, first.upper(): model.params["fc1.bias"]})


def test_descriptions_of_any_size_are_neither_written_nor_read(monkeypatch):
    data, other = small_file(), small_file(".safetensors")
    content = model_file.read(data)
    with pytest.raises(UnusableInput, match="no tensor may be called __metadata__"):
        list(model_file.write(replace(content, tensors={"__metadata__": content.tensors["fc1.bias"]})))
    with monkeypatch.context() as patch:
        patch.setattr(model_file, "MAX_HEADER_BYTES", 500)
        with pytest.raises(UnusableInput, match="shorten its names"):
            list(model_file.write(content))
        for file in (data, other):
            with pytest.raises(UnusableInput, match=r"more than 500 bytes|neither"):
                Model.parse(file)
    monkeypatch.setattr(model_file, "MAX_TENSORS", 3)
    with pytest.raises(UnusableInput, match="more than 3 tensors"):
        Model.parse(data)


def test_errors_name_the_file(tmp_path):
    data = small_file()
    for content in (b"", data[:-1], data + b"\0", saved_file(), data.replace(b"relu", b"gelu")):
        path = tmp_path / "some.pt"
        path.write_bytes(content)
        with pytest.raises(ZkcertError) as error:
            Model.load(path)
        assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)
