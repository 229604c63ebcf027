"""What models are made of: exported programs, ONNX files, checkpoints; converted into what computes the same, or
refused."""

from __future__ import annotations

import copy

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper
from torch import nn

import zkcert
from zkcert import cli
from zkcert.api.sources import read_source
from zkcert.convert import from_module, to_module
from zkcert.errors import UnusableInput, ZkcertError
from zkcert.public.model import Model
from zkcert.sources import onnx_file
from zkcert.sources.checkpoint import load_weights
from zkcert.sources.exported import of_program

SPEC = {"mean": 0.5, "std": 0.25}
FULL = {"shape": [2, 8, 8], "pad": 0, "mean": [0.5, 0.5], "std": [0.25, 0.25]}


class Net(nn.Module):
    """A residual network of most of what has a circuit."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.stem = nn.Sequential(nn.Conv2d(2, 4, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(4))
        self.conv, self.drop = nn.Conv2d(4, 4, 3, padding=1), nn.Dropout(0.5)
        self.head = nn.Sequential(nn.Linear(4, 6), nn.LeakyReLU(0.125), nn.Linear(6, 3))
        for _ in range(3):
            self.stem(torch.randn(4, 2, 8, 8))
        self.eval()

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.stem(x)), 2)
        x = F.relu(self.conv(x) + x)
        x = F.adaptive_avg_pool2d(x, 1)
        return self.head(self.drop(x.view(x.size(0), -1)))


X = torch.randn(2, 2, 8, 8, generator=torch.Generator().manual_seed(1))


def same(model: Model, module: nn.Module) -> bool:
    return torch.allclose(to_module(model)(X.double()), copy.deepcopy(module).double()(X.double()), atol=1e-6)


# ----------------------------------------------------------------------------------------------- exported programs


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("free", [False, True])
def test_exported_programs_are_converted_with_their_names(tmp_path, free):
    module, shapes = Net(), ({0: torch.export.Dim("b")},) if free else None
    torch.export.save(torch.export.export(module, (X,), dynamic_shapes=shapes), path := tmp_path / "m.pt2")
    found = zkcert.convert_model(path, tmp_path / "m.pt", input=SPEC)
    assert found.model.weights_digest == from_module(module, input=FULL).weights_digest
    assert found.model.input == FULL and same(found.model, module)
    padded = read_source(path, input={**SPEC, "pad": 1}).model
    assert padded.input["shape"] == [2, 6, 6] and padded.input["pad"] == 1


@pytest.mark.filterwarnings("ignore")
def test_what_a_program_has_no_circuit_for_is_said_at_once(tmp_path):
    class Bad(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.scale = nn.Linear(128, 3), nn.Parameter(torch.ones(3))

        def forward(self, x):
            return torch.erf(self.fc(F.mish(x).flatten(1)))

    assert of_program(torch.export.export(Bad(), (X,)), "m.pt2")[1] == {"reads": [2, 8, 8]}
    torch.export.save(torch.export.export(Bad(), (X,)), path := tmp_path / "m.pt2")
    found = read_source(path, input=SPEC)
    assert [o.layers for o in found.obstacles] == [("mish",), ("erf",)]
    Bad.forward = lambda self, x: self.fc(x.flatten(1)) * self.scale
    with pytest.raises(UnusableInput, match=r"m: mul: mul reads scale, not the output of a layer"):
        of_program(torch.export.export(Bad(), (X,)), "m")
    with pytest.raises(UnusableInput, match=r"m: .*training mode: call module.eval\(\)"):
        of_program(torch.export.export(Net().train(), (X,)), "m")
    Bad.forward = lambda self, x, y: self.fc(x.flatten(1))
    with pytest.raises(UnusableInput, match="m: the program reads several inputs"):
        of_program(torch.export.export(Bad(), (X, X)), "m")


def test_files_that_are_no_programs_are_refused_in_one_line(tmp_path, capfd):
    path = tmp_path / "m.pt2"
    for content in (b"", b"PK\3\4" + bytes(100), b"\x80\x02."):
        path.write_bytes(content)
        with pytest.raises(UnusableInput, match=r"m.pt2: no program"):
            read_source(path, input=SPEC)
    assert capfd.readouterr() == ("", "")


# ------------------------------------------------------------------------------------------------------------ ONNX


def tensor(name, value):
    return numpy_helper.from_array(np.asarray(value), name)


def graph(nodes, weights, dims=("b", 2, 8, 8), **options):
    """A model of nodes (op, inputs, output, attributes) and named weights."""
    made = [helper.make_node(op, inputs, [output], **more) for op, inputs, output, more in nodes]
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, dims)
    out = helper.make_tensor_value_info(nodes[-1][2], TensorProto.FLOAT, None)
    body = helper.make_graph(made, "g", [value], [out], [tensor(k, v) for k, v in weights.items()])
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", options.pop("opset", 17))], ir_version=8)


def weights_of(module: Net) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in module.state_dict().items() if value.ndim}


NODES = [
    ("Conv", ["x", "stem.0.weight"], "a", {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
    ("BatchNormalization", ["a", *(f"stem.1.{n}" for n in ("weight", "bias", "running_mean", "running_var"))], "b", {}),
    ("Relu", ["b"], "c", {}),
    ("MaxPool", ["c"], "d", {"kernel_shape": [2, 2], "strides": [2, 2]}),
    ("Conv", ["d", "conv.weight", "conv.bias"], "e", {"pads": [1, 1, 1, 1]}),
    ("Add", ["e", "d"], "f", {}),
    ("Relu", ["f"], "g", {}),
    ("GlobalAveragePool", ["g"], "h", {}),
]
SHAPED = [
    ("Shape", ["h"], "s", {}),
    ("Constant", [], "zero", {"value": tensor("", np.array(0))}),
    ("Gather", ["s", "zero"], "n", {}),
    ("Unsqueeze", ["n", "axes"], "u", {}),
    ("Concat", ["u", "rest"], "t", {"axis": 0}),
    ("Reshape", ["h", "t"], "i", {}),
]
HEAD = [
    ("Gemm", ["i", "head.0.weight", "head.0.bias"], "j", {"transB": 1}),
    ("LeakyRelu", ["j"], "k", {"alpha": 0.125}),
]
LAST = [("Gemm", ["k", "head.2.weight", "head.2.bias"], "y", {"transB": 1})]
PRODUCT = [("MatMul", ["k", "last"], "l", {}), ("Add", ["l", "head.2.bias"], "y", {})]


@pytest.mark.parametrize("flat", [[("Flatten", ["h"], "i", {})], SHAPED, [("Squeeze", ["h", "both"], "i", {})],
                                  [("Reshape", ["h", "target"], "i", {})]])  # fmt: skip
@pytest.mark.parametrize("last", [LAST, PRODUCT])
def test_onnx_files_are_converted(tmp_path, flat, last):
    module = Net()
    more = {
        "axes": [0],
        "rest": [-1],
        "both": [2, 3],
        "target": [0, 4],
        "last": module.head[2].weight.detach().numpy().T,
    }
    used = {key for _, inputs, _, _ in [*NODES, *flat, *HEAD, *last] for key in inputs}
    weights = {k: v for k, v in {**weights_of(module), **more}.items() if k in used}
    onnx.save(graph([*NODES, *flat, *HEAD, *last], weights), path := tmp_path / "m.onnx")
    found = zkcert.convert_model(path, tmp_path / "m.pt", input=SPEC)
    assert same(found.model, module) and found.model.input == FULL
    if last is LAST:
        assert found.model.weights_digest == from_module(module, input=FULL).weights_digest


def test_vectors_half_precision_and_fixed_batches_are_read(tmp_path):
    weight = np.arange(12, dtype=np.float16).reshape(3, 4) / 8
    nodes = [("Gemm", ["x", "w"], "z", {"transB": 1}), ("Identity", ["z"], "y", {})]
    made = graph(nodes, {"w": weight.astype(np.float32)}, dims=(1, 4))
    onnx.save(made, path := tmp_path / "m.onnx")
    found = read_source(path, input=SPEC)
    assert found.model.input["shape"] == [1, 1, 4] and "vectors of length 4" in found.notes[0]
    assert (next(iter(found.model.params.values())) == weight).all()


def linear_after(*nodes, **weights):
    """These nodes from x to z, and a head."""
    return graph([*nodes, ("Flatten", ["z"], "f", {}), ("Gemm", ["f", "w"], "y", {"transB": 1})],
                 {"w": np.ones((3, 128), np.float32), **weights})  # fmt: skip


ONE = np.ones((2, 2, 1, 1), np.float32)


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (linear_after(("Erf", ["x"], "z", {})), "layer erf: erf has no circuit"),
        (linear_after(("Softmax", ["x"], "z", {})), "layer softmax: .*return the logits"),
        (linear_after(("Det", ["x"], "q", {}), ("Sin", ["q"], "z", {})), "operators that no circuit is for: Det, Sin"),
        (linear_after(("node", ["x"], "z", {})), "operators that no circuit is for: node"),
        (linear_after(("Conv", ["x", "c"], "z", {"pads": [1, 0, 0, 0]}), c=ONE), "node z: Conv with these inputs and"),
        (linear_after(("Conv", ["x", "c"], "z", {"auto_pad": "SAME_UPPER"}), c=ONE), "Conv with these inputs"),
        (linear_after(("Conv", ["x", "c"], "z", {"group": 0}), c=ONE), "node z: Conv does not fit its inputs"),
        (linear_after(("Conv", ["x", "c"], "z", {"group": 7}), c=ONE), "node z: Conv does not fit its inputs"),
        (linear_after(("Conv", ["x"], "z", {})), "node z: Conv does not fit its inputs"),
        (linear_after(("Conv", ["x", "c"], "z", {}), c=ONE.astype(np.int64)), "node z: Conv with these inputs"),
        (linear_after(("Add", ["x", "c"], "z", {}), c=ONE), "node z: Add with these inputs"),
        (linear_after(("Clip", ["x"], "z", {})), "node z: Clip with these inputs"),
        (linear_after(("MaxPool", ["x"], "z", {"kernel_shape": [0, 1]})), "it does not run on 2x2x8x8"),
        (linear_after(("Dropout", ["x", "", "t"], "z", {}), t=np.array(True)), "node z: Dropout with these"),
        (linear_after(("If", ["t"], "z", {"then_branch": helper.make_graph([], "", [], [])}), t=np.array(True)),
         "operators that no circuit is for: If"),
        (linear_after(("Relu", ["none"], "z", {})), "reads what is not there"),
        (graph([("Gemm", ["x", "w"], "y", {"alpha": 2.0})], {"w": ONE[:, :, 0, 0]}, dims=("b", 2)), "Gemm with"),
        (graph([("Relu", ["x"], "y", {})], {}, dims=("b", "c", 8, 8)), r"input of the shape \[0, 0, 8, 8\]; expected"),
        (graph([("Relu", ["x"], "y", {})], {}, dims=("b", 2, 1 << 20, 1 << 20)), "input of the shape"),
        (graph([("Relu", ["x"], "y", {})], {}, dims=(1000, 2, 2, 2)), "is made for batches of 1000"),
        (graph([("Identity", ["w"], "y", {})], {"w": np.ones(3, np.float32)}), "its output follows from no layer"),
    ],
)  # fmt: skip
def test_onnx_files_that_cannot_be_used_are_refused(tmp_path, made, why):
    (path := tmp_path / "m.onnx").write_bytes(made.SerializeToString())
    with pytest.raises(ZkcertError, match=why) as error:
        zkcert.convert_model(path, tmp_path / "m.pt", input=SPEC)
    assert "\n" not in str(error.value) and str(error.value).startswith(str(path)) and not (tmp_path / "m.pt").exists()


def test_odd_onnx_files_are_refused(tmp_path):
    path = tmp_path / "m.onnx"
    made = linear_after(("Relu", ["x"], "z", {}))
    outside = copy.deepcopy(made)
    outside.graph.initializer[0].data_location = TensorProto.EXTERNAL
    cut, deep = copy.deepcopy(made), copy.deepcopy(made)
    cut.graph.initializer[0].raw_data = b"abc"
    deep.graph.initializer[0].dims[:] = [1 << 40, 1]
    two = copy.deepcopy(made)
    two.graph.input.append(helper.make_tensor_value_info("y2", TensorProto.FLOAT, [1]))
    for content, why in (
        (b"", "has 0 inputs and 0 outputs"),
        (b"\xff" * 20, "no ONNX file"),
        (outside.SerializeToString(), "keeps its weights in another file: save it in one"),
        (cut.SerializeToString(), "no sound ONNX file .tensor 'w'"),
        (deep.SerializeToString(), "a tensor of the shape"),
        (two.SerializeToString(), "has 2 inputs and 1 outputs"),
    ):
        path.write_bytes(content)
        with pytest.raises(UnusableInput, match=why):
            read_source(path, input=SPEC)


def test_a_wrong_reading_of_an_operator_would_be_noticed(tmp_path, monkeypatch):
    onnx.save(linear_after(("Relu", ["x"], "z", {})), path := tmp_path / "m.onnx")
    assert read_source(path, input=SPEC).model is not None
    monkeypatch.setitem(onnx_file._PLAIN, "Relu", torch.abs)
    with pytest.raises(UnusableInput, match="computes something else than the file: this is a defect"):
        read_source(path, input=SPEC)


# ----------------------------------------------------------------------------------------------------- checkpoints


def test_checkpoints_are_put_in_whatever_wrapped_them(tmp_path):
    path, state = tmp_path / "c.pth", Net().state_dict()
    plain = {k: v for k, v in state.items() if "num_batches" not in k}
    for content, count in (
        (state, 0),
        (plain, 0),
        ({"state_dict": state, "epoch": 3, "loss": 0.5}, 1),
        ({"model_state_dict": {f"module.{k}": v for k, v in state.items()}}, 2),
        ({f"module._orig_mod.{k}": v for k, v in state.items()}, 2),
        ({f"_orig_mod.module.{k}": v for k, v in state.items()}, 2),
        ({"state_dict": {f"model.{k}": v for k, v in state.items()}, "pytorch-lightning_version": "2.0"}, 2),
        ({f"net.inner.{k}": v for k, v in state.items()}, 1),
        ({k.replace("head.", "head._orig_mod."): v for k, v in state.items()}, 0),
    ):
        torch.save(content, path)
        module = Net()
        for parameter in module.parameters():
            nn.init.zeros_(parameter)
        assert len(load_weights(module, path)) == count
        assert all(torch.equal(v, state[k]) for k, v in module.state_dict().items())


class Evil:
    def __reduce__(self):
        return print, ("ran",)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda s: {k: v for k, v in s.items() if k != "conv.bias"}, r"of another module: it lacks conv.bias$"),
        (lambda s: {**s, "more": torch.ones(1)}, "of another module: has more beside"),
        (lambda s: {**s, "conv.bias": torch.ones(5)}, r"conv.bias has the shape \[5\], in the module it has \[4\]"),
        (lambda s: {"state_dict": s, "model": s}, "holds state_dict and model: save the one"),
        (lambda s: {"a": 1}, "holds no state_dict"),
        (lambda s: [1, 2], "holds no state_dict"),
        (lambda s: {**s, "x": Evil()}, "which is not unpickled, as that runs code"),
        (lambda s: Net(), "which is not unpickled, as that runs code"),
    ],
)
def test_checkpoints_that_do_not_fit_are_refused(tmp_path, change, why, capsys):
    torch.save(change(Net().state_dict()), path := tmp_path / "c.pth")
    with pytest.raises(UnusableInput, match=why) as error:
        load_weights(Net(), path)
    assert "\n" not in str(error.value) and capsys.readouterr().out == ""


def test_files_that_are_no_checkpoints_are_refused(tmp_path):
    path = tmp_path / "c.pth"
    for content in (b"", b"abc", b"PK\3\4" + bytes(200), b"\x80\x02."):
        path.write_bytes(content)
        with pytest.raises(UnusableInput, match=r"no sound checkpoint|holds no state_dict|not unpickled"):
            load_weights(Net(), path)


def test_safetensors_checkpoints_are_read(tmp_path):
    from safetensors.torch import save_file

    save_file(Net().state_dict(), path := tmp_path / "c.safetensors")
    module = Net()
    nn.init.zeros_(module.conv.weight)
    load_weights(module, path)
    assert torch.equal(module.conv.weight, Net().conv.weight)


# ---------------------------------------------------------------------------------------------------- the command


def test_the_command_converts_a_factory_and_a_checkpoint(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(
        "from tests.formats.test_sources import Net, SPEC\n\ndef make():\n    return Net(), SPEC\n"
    )
    torch.save({f"module.{k}": v for k, v in Net().state_dict().items()}, "c.pth")
    assert cli.main(["convert", "net.py:make", "--weights", "c.pth", "--shape", "2x8x8", "-o", "m.pt"]) == 0
    out = capsys.readouterr().out
    assert "note    c.pth: the prefix module. is taken off all names" in out
    assert Model.load("m.pt").weights_digest == from_module(Net(), input=FULL).weights_digest
    assert cli.main(["convert", "net.py:make", "--shape", "2x8x8", "-o", "m.pt"]) == 2
    assert "m.pt exists" in capsys.readouterr().err
    assert cli.main(["convert", "m.pt", "--mean", "1", "-o", "n.pt"]) == 2
    assert "has weights and input of its own" in capsys.readouterr().err
    assert zkcert.convert_model(Net(), "n.safetensors", input={**SPEC, "shape": [2, 8, 8]}).sha256
    assert zkcert.convert_model(Model.load("m.pt"), "o.pt").model.weights_digest == Model.load("m.pt").weights_digest


def test_modules_of_vectors_are_flattened_and_it_is_said(tmp_path):
    module = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2))
    found = read_source(module, input={"shape": [1, 1, 5], "mean": 0, "std": 1})
    assert [node["op"] for node in found.model.graph] == ["flatten", "linear", "relu", "linear"]
    assert found.notes == ("the module reads vectors: samples are flattened first",)
    x = torch.randn(3, 5, dtype=torch.float64)
    assert torch.allclose(to_module(found.model)(x[:, None, None]), module.double()(x))
