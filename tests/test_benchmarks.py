"""The benchmarks' own arithmetic and tables, on made-up measurements."""

from __future__ import annotations

import json
import sys
from unittest import mock

import pytest

from benchmarks import cost, scaling
from zkcert.errors import UnusableInput

PHASES = [{"name": "commit", "seconds": 2.0, "peak_rss_bytes": 10**9}]


def figures(**changes):
    sizes = {"parameters": 1000, "batch_size": 8, "steps": 5, "digits": 10**6} | changes
    return {
        "prove_seconds": 1e-3 * sizes["parameters"],
        "peak_rss_bytes": 10**9,
        "proof_bytes": 2 * 10**6,
        "verify_seconds": 1.0,
        "sizes": sizes,
        "phases": PHASES,
    }


def test_training_proofs_formula():
    assert cost.SAM_ITERATIONS == 484_375


def test_cost_table_compares_with_the_paper(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    for name in ("lenet", "vgg11"):
        subject = cost.SUBJECTS[name]
        found = figures()
        found |= {"model": name, "title": subject.title, "weights": "trained", **cost.ratios(subject, found)}
        (tmp_path / f"{name}.json").write_text(json.dumps(found))
    with mock.patch.object(sys, "argv", ["cost", "--models", "lenet,vgg11", "--out", str(tmp_path)]):
        cost.main()
    printed = capsys.readouterr().out
    assert (tmp_path / "cost.md").read_text() == printed
    assert "| LeNet-5 | 1,000 | trained | 1.0 s | 1418 s | 1418 | 2.00 MB | 9.85 MB | 1.00 GB | 1.0 s |" in printed
    assert "| VGG-11 | 118,671 h | 882.0 s | 751.59 GB | 1.552 MB | 427,215,600 | 375,795 |" in printed
    assert (tmp_path / "cost.png").stat().st_size > 1000


def test_model_that_the_zoo_lacks_is_named(tmp_path):
    absent = cost.Subject("Perceptron", "no_such_model", {})
    with pytest.raises(UnusableInput, match=r"zkcert\.zoo has no no_such_model"):
        cost.build(absent, tmp_path / "model.pt", None)


def test_slopes_are_found_and_shown(tmp_path):
    runs = [figures(parameters=p) for p in (1000, 2000, 4000)]
    found = scaling.slopes("parameters", runs)
    assert found["prove_seconds"] == pytest.approx([0, 1e-3], abs=1e-9)
    assert found["proof_bytes"] == pytest.approx([2e6, 0], abs=1e-3)
    assert scaling.table("parameters", runs).count("\n") == 5
    (tmp_path / "a.json").write_text(json.dumps(runs[0]))
    (tmp_path / "slopes.json").write_text(json.dumps(found))
    assert scaling.measurements([tmp_path]) == [runs[0]]
