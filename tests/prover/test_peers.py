"""Benchmarks beside other provers: what these are given is the network that is proved."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import peers
from zkcert.errors import UnusableInput
from zkcert.sources.onnx_file import read_onnx
from zkcert.zoo import lenet5


def test_the_onnx_file_is_the_network(tmp_path: Any) -> None:
    pytest.importorskip("onnx")
    module = lenet5()
    file = tmp_path / "model.onnx"
    file.write_bytes(peers.onnx_bytes(module, peers.INPUT))
    read = read_onnx(str(file))[0]
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((1, *peers.INPUT)).astype(np.float32))
    assert torch.allclose(read(x), module(x), atol=1e-5)


def test_a_layer_without_a_form_is_refused() -> None:
    pytest.importorskip("onnx")
    with pytest.raises(UnusableInput, match="no ONNX form of Tanh"):
        peers.onnx_bytes(torch.nn.Sequential(torch.nn.Tanh()), (1, 2, 2))


def test_the_table_has_a_line_for_each_figure() -> None:
    steps = {name: {"seconds": 1.5, "cpu_seconds": 2.0, "peak_rss_bytes": 2e9} for name, _ in peers.STEPS}
    ours = {"gradients": 9, "batch_size": 8, "prove_seconds": 9.0, "peak_rss_bytes": 1e9}
    ours |= {"proof_bytes": 800_000, "verify_seconds": 2.0}
    ezkl = {"version": "1", "log_rows": 17, "proof_bytes": 19_000, "steps": steps}
    lines = peers.table({"ezkl": ezkl, "zkcert": ours}).splitlines()
    assert "| witness and proof | 3.0 s | 9.0 s |" in lines
    assert "| proof | 19.0 kB | 800 kB |" in lines
