"""The configuration that holds where none is given: the same for every command, and proved with."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from zkcert.convert import from_sequential
from zkcert.metric import Probe
from zkcert.public.config import ProbeConfig
from zkcert.public.defaults import DEFAULT
from zkcert.zoo import mlp


def test_one_default():
    """T = 10 and B = 16, as in the paper's experiments; whatever leaves a field out means this one."""
    assert ProbeConfig() == DEFAULT
    assert (DEFAULT.steps, DEFAULT.batch_size, DEFAULT.variant) == (10, 16, "asam-all")
    assert Probe() == Probe.of_config(DEFAULT)
    assert Probe().to_config() == DEFAULT


@pytest.mark.parametrize("classes", [10, 100])
def test_every_command_without_options(run, classes):
    """Commit, announce, prove, verify; measure, audit and estimate of the same. 100 classes: CIFAR-100's head."""
    rng = np.random.default_rng(classes)
    np.savez("samples.npz", x=rng.integers(0, 256, (200, 1, 3, 4), np.uint8), y=np.arange(200) % classes)
    spec = {"shape": [1, 3, 4], "pad": 0, "mean": [0.5], "std": [0.25]}
    from_sequential(mlp(12, [8], classes), input=spec).save("model.pt")
    assert run("commit", "samples.npz").code == 0
    assert run("announce", "model.pt", "data.root", "--tau", 30).code == 0
    announced = json.loads(Path("announce.json").read_text())
    assert announced["config"] == DEFAULT.canonical()
    proved = run("prove", "model.pt", "data.zkd", "--announcement", "announce.json", "--beacon", "5a", "--json")
    assert proved.code == 0, proved.err
    pins = ("--announcement", "announce.json", "--data-root", "data.root", "--beacon", "5a")
    for command in ("verify", "python -m verifier"):
        checked = run(command, "proof.bin", "model.pt", "--tau", 30, *pins)
        assert checked.code == 0, checked.err

    measured = run("measure", "model.pt", "data.zkd", "--beacon", "5a", "--json").json
    assert measured["probe"] == Probe.of_config(DEFAULT).to_dict()
    assert measured["score"] == pytest.approx(proved.json["private"]["score"], abs=1e-6)
    audited = run("audit", "model.pt", "data.zkd", "--tau", 30, "--json").json
    assert audited["probe"] == measured["probe"]
    estimated = run("estimate", "model.pt", "--data-root", "data.root", "--json").json
    assert (estimated["steps"], estimated["batch_size"]) == (DEFAULT.steps, DEFAULT.batch_size)
