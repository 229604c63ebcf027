"""Hostile model files: refused with one line, at the cost of their size."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.formats.models import SMALL_INPUT, converted, small_model, torch_bytes
from zkcert.convert import from_module
from zkcert.errors import RangeOverflow, UnusableInput
from zkcert.public.model import Model
from zkcert.zoo import lenet5, mlp


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


@pytest.fixture(scope="module")
def old_pt() -> bytes:
    """As torch.save writes it."""
    model = small_model()
    state = {name: torch.tensor(array) for name, array in model.tensors.items()}
    return torch_bytes({"graph": model.graph, "input": model.input, "state_dict": state})


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
