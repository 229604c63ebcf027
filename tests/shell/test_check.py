"""`zkcert check`: everything that stands in the way at once, what a proof takes, and the probe without a proof."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch
from torch import nn

import zkcert
from zkcert import api, cli
from zkcert.convert import from_module
from zkcert.errors import UnsupportedLayer, UnusableInput
from zkcert.public.config import ProbeConfig

SPEC = {"shape": [1, 4, 4], "mean": 0.5, "std": [0.25]}
CONFIG = ProbeConfig(steps=2, batch_size=3)

FILE = """
import torch
from torch import nn
import torch.nn.functional as F

INPUT = {"shape": [1, 4, 4], "mean": [0.5], "std": [0.25]}


class Net(nn.Module):
    def __init__(self, bad=False):
        super().__init__()
        self.conv, self.act, self.fc = nn.Conv2d(1, 2, 3), nn.Mish() if bad else nn.ReLU(), nn.Linear(8, 3)
        self.bad = bad

    def forward(self, x):
        x = self.act(self.conv(x))
        if self.bad:
            x = self.act(torch.erf(x))
        x = self.fc(x.flatten(1))
        return F.softmax(x, 1) if self.bad else x


def good():
    torch.manual_seed(0)
    return Net(), INPUT


def bad():
    return Net(True), INPUT


def without():
    return Net()


def needs(width):
    return Net()


def fails():
    raise ValueError("no\\nweights")


three, one = 3, Net()
print("running")
"""


@pytest.fixture
def net(tmp_path):
    (path := tmp_path / "net.py").write_text(FILE)
    return path


@pytest.fixture
def data(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(path := tmp_path / "d.npz", x=rng.integers(0, 256, (12, 1, 4, 4), dtype=np.uint8), y=np.arange(12) % 3)
    return path


def run(capsys, *arguments):
    code = cli.main([str(argument) for argument in arguments])
    return code, *capsys.readouterr()


def test_all_that_stands_in_the_way_is_said_at_once_with_layer_line_and_mend(net, capsys):
    found = api.check(f"{net}:bad")
    assert not found.passed and found.model is None and found.estimate is None
    lines = FILE.split("\n")
    mish, erf, again, soft = (o for o in found.obstacles for _ in range(2 if "Mish" in o.why else 1))
    at = [i + 1 for i, line in enumerate(lines) if "self.act(" in line]
    assert mish.layers == ("act",) and mish.at == tuple(f"net.py:{i}" for i in at) and "make it of Conv2d" in mish.why
    assert erf is mish and again.layers == ("erf",) and again.at == (f"net.py:{at[1]}",)
    assert soft.layers == ("softmax",) and "return the logits" in soft.why
    code, out, err = run(capsys, "check", f"{net}:bad")
    assert code == 2 and out.count("OBSTACLE ") == 3 and err.splitlines()[-1] == "3 things in the way of a certificate"
    code, out, err = run(capsys, "check", f"{net}:bad", "--json")
    assert code == 2 and [o["layers"] for o in json.loads(out)["obstacles"]] == [["act"], ["erf"], ["softmax"]]
    with pytest.raises(
        UnsupportedLayer, match=r"^layer act: Mish has no circuit.*and 2 more reasons, which zkcert check"
    ):
        from_module(_module(net, "bad"), input={**SPEC, "pad": 0, "mean": [0.5]})


def _module(net, name):
    from zkcert.sources.python_file import made_by

    return made_by(f"{net}:{name}")[0]


def test_a_module_that_cannot_be_traced_still_has_its_layers_looked_at():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.act, self.norm, self.fc = nn.Mish(), nn.InstanceNorm2d(1), nn.Linear(16, 2)

        def forward(self, x):
            return self.fc(self.act(x).flatten(1)) if x.sum() < 1e9 else self.norm(x)

    found = api.check(Net(), input=SPEC)
    assert [o.layers for o in found.obstacles] == [("the module",), ("act",)]
    assert "without `if` on values" in found.obstacles[0].why and found.obstacles[0].at[0].startswith("test_check.py:")


def test_numbers_out_of_range_are_all_said():
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3))
    with torch.no_grad():
        module[0].weight[0], module[3].bias[1], module[1].running_var[1] = 300, float("nan"), 1e-12
    found = api.check(module, input=SPEC)
    text = " | ".join(o.line() for o in found.obstacles)
    assert (
        len(found.obstacles) == 3 and "tensor 0.weight" in text and "3.bias holds NaN" in text and "channel 1" in text
    )
    assert not any(o.at for o in api.check(nn.Sequential(nn.Mish(), nn.Flatten()), input=SPEC).obstacles)
    empty = nn.Sequential(nn.Flatten(), nn.LazyLinear(3), nn.Mish(), nn.LazyLinear(3))
    found = api.check(empty, input=SPEC)
    assert [o.layers for o in found.obstacles] == [("1", "3"), ("2",)]


def test_what_a_proof_takes_and_margins_are_said(net, capsys):
    found = api.check(f"{net}:good", config=CONFIG)
    assert capsys.readouterr() == ("", "running\n")
    assert found.passed and found.dry_run is None
    assert found.estimate.to_dict()["digits"] == api.check(found.model, config=CONFIG).estimate.sizes.digits
    (weights,) = found.margins
    assert weights.value == max(float(abs(a).max()) for a in found.model.params.values()) and weights.limit == 128
    code, out, _ = run(capsys, "check", f"{net}:good", "--steps", 2, "--batch-size", 3)
    assert code == 0 and out.endswith("nothing stands in the way that shows without data\n")


@pytest.mark.parametrize("committed", [False, True])
def test_with_data_the_probe_runs_without_a_proof(net, data, tmp_path, committed, capsys):
    found = api.check(f"{net}:good", data, config=CONFIG, seed="s")
    measured = api.measure(_saved(found.model, tmp_path), data, config=CONFIG, seed="s")
    assert found.passed and found.dry_run.score == pytest.approx(measured.score, abs=1e-6)
    assert found.dry_run.difference < 1e-5 and found.dry_run.fit == measured.fit
    values = found.margins[1]
    assert values.what == "values" and 0 < values.value < values.limit == 2048
    if committed:
        api.commit(data, tmp_path / "d.zkd", keep_order=True)
        again = api.check(f"{net}:good", tmp_path / "d.zkd", config=CONFIG, seed="s", scratch=tmp_path)
        assert again.dry_run == found.dry_run
    code, out, _ = run(capsys, "check", f"{net}:good", data, "--steps", 2, "--batch-size", 3, "--seed", "s")
    assert code == 0 and f"score {found.dry_run.score:.9f}" in out and out.endswith("nothing stands in the way\n")


def _saved(model, folder):
    model.save(folder / "m.pt", force=True)
    return folder / "m.pt"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda x, y: (x[:4], y[:4]), "2 steps of 3 samples need 6; the dataset has 4"),
        (lambda x, y: (x, y + 5), "the model has 3 classes, the dataset 8"),
        (lambda x, y: (x[..., :2], y), r"the model takes samples of shape \[1, 4, 4\], the dataset has \[1, 4, 2\]"),
        (lambda x, y: (x.astype("f4"), y), None),
        (lambda x, y: (x.astype("f4") * 8, y), "exceeds the limit"),
    ],
)
def test_data_that_do_not_fit_stand_in_the_way(net, change, why):
    x, y = np.random.default_rng(0).integers(0, 256, (12, 1, 4, 4), dtype=np.uint8), np.arange(12) % 3
    found = api.check(f"{net}:good", change(x, y), config=CONFIG)
    assert found.passed == (why is None)
    assert not why or re.search(why, found.obstacles[0].why)


@pytest.mark.parametrize(
    ("source", "options", "why"),
    [
        ("net.py", {}, "name the function or class that makes the module, as .*net.py:NAME"),
        ("net.py:none", {}, "net.py: has no none"),
        ("net.py:three", {}, "makes a int; expected an nn.Module"),
        ("net.py:needs", {}, r"needs\(\) fails: TypeError.*called without arguments: add def make"),
        ("net.py:fails", {}, r"fails\(\) fails: ValueError: no weights \(line \d+\)"),
        ("other.py:x", {}, "other.py: No such file"),
        ("net.py:without", {}, "the shape of the samples is not known: say it, as --shape"),
        ("net.py:one", {"input": {"shape": [1, 4, 4]}}, "say it, as --mean .*--mean 0 --std 1 if bytes"),
        ("net.py:one", {"input": {"shape": [1, 4, 4], "mean": 1, "std": 1, "more": 1}}, "not 'more'"),
        ("missing.pt", {"input": {"pad": 0}}, "has weights and input of its own"),
        (3, {}, "expected a model file, an nn.Module or a Model, not int"),
    ],
)
def test_what_cannot_be_looked_at_is_refused_in_one_line(net, source, options, why):
    name = str(net.parent / source) if isinstance(source, str) else source
    with pytest.raises(UnusableInput, match=why) as error:
        api.check(name, **options)
    assert "\n" not in str(error.value)


def test_a_file_that_does_not_run_is_refused_with_its_line(tmp_path):
    texts = {
        "1/0": r"ZeroDivisionError: division by zero \(line 1\)",
        "\nx =": r"SyntaxError.*\(line 2\)",
        "import nothing_of_that_name": "ModuleNotFoundError",
        "raise SystemExit(0)": "SystemExit",
    }
    for text, why in texts.items():
        (path := tmp_path / "n.py").write_text(text)
        with pytest.raises(UnusableInput, match=why):
            api.check(f"{path}:x")


def test_packaging_is_taken_off_and_folded_and_said():
    from torch.nn.utils import parametrizations, prune

    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.Linear(8, 3)
    )
    parametrizations.weight_norm(module[0])
    prune.l1_unstructured(module[2], "weight", 0.5)
    parametrizations.spectral_norm(module[4])
    with pytest.warns(FutureWarning):
        nn.utils.weight_norm(module[5])
    module.eval()
    x = torch.randn(2, 1, 4, 4)
    expected = module(x)
    found = api.check(nn.DataParallel(torch.compile(module, backend="eager")), input=SPEC, config=CONFIG)
    assert found.passed and [note.split(" ")[0] for note in found.notes] == ["DataParallel", "OptimizedModule", *(
        f"{i}:" for i in (0, 2, 4, 5))]  # fmt: skip
    assert torch.allclose(zkcert.convert.to_module(found.model)(x.double()).float(), expected, atol=1e-5)
    assert hasattr(module[0], "parametrizations"), "the module itself stays as it is"


def test_the_commands_options_say_what_the_file_does_not(net, tmp_path, capsys):
    torch.save(
        {"state_dict": {f"module.{k}": v for k, v in _module(net, "good").state_dict().items()}}, tmp_path / "w.pt"
    )
    capsys.readouterr()
    options = ["--shape", "1x4x4", "--mean", "0.5", "--std", "0.25", "--pad", 0, "--weights", tmp_path / "w.pt"]
    code, out, _ = run(capsys, "check", f"{net}:without", *options, "--json")
    assert code == 0
    found = json.loads(out)
    assert found["model"] == api.check(f"{net}:good").model.weights_digest.hex() and len(found["notes"]) == 2
    for bad, why in ((["--shape", "4x4"], "--shape takes"), (["--mean", "x"], "--mean takes numbers")):
        code, _, err = run(capsys, "check", f"{net}:without", *bad)
        assert code == 2 and why in err
