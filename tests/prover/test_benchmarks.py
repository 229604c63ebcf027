"""The benchmarks' own arithmetic and tables, on made-up measurements."""

from __future__ import annotations

import dataclasses
import json
import sys
from unittest import mock

import pytest

from benchmarks import cluster, cost, scaling
from prover.resources import Sizes
from zkcert.errors import UnusableInput

PHASES = [{"name": "commit", "seconds": 2.0, "peak_rss_bytes": 10**9}]


def figures(**changes):
    sizes = {"parameters": 1000, "batch_size": 8, "steps": 5, "digits": 10**6} | changes
    return {
        "prove_seconds": 1e-3 * sizes["parameters"],
        "peak_rss_bytes": 10**9,
        "proof_bytes": 2 * 10**6,
        "verify_seconds": 1.0,
        "samples_committed": 2000,
        "commit_seconds": 0.25,
        "commit_peak_rss_bytes": 2 * 10**9,
        "sizes": sizes,
        "phases": PHASES,
    }


def test_training_proofs_formula():
    assert cost.SAM_ITERATIONS == 484_375


def test_cost_table_compares_with_the_paper(tmp_path, capsys):
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
    # 1 s for 10 gradients of 8: 0.2 s for one of 16
    assert "| VGG-11 | 80,120 | 0.2 s | 26.9 h | 96,875 |" in printed and "they mix two systems" in printed
    assert "| of LeNet-5 | 2,000 | 0.2 s | 2.00 GB |" in printed
    assert all((tmp_path / f"cost-{name}.png").stat().st_size > 1000 for name in ("time", "bytes"))


def test_figures_speak_in_units_that_fit():
    assert [cost.span(x) for x in (12.0, 1418, 88.87 * 60, 118_671 * 3600)] == [
        "12 s",
        "23.6 min",
        "88.9 min",
        "13.5 years",
    ]
    assert [cost.amount(x) for x in (1.63e6, 751.59e9)] == ["1.63 MB", "752 GB"]
    assert cost.times([(2.0, 5.0), (1.0, 130.0)]) == "2.5 to 130 times"
    assert cost.times([(2.0, 5.0)]) == "2.5 times"


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
    scaling.plot({"parameters": runs, "steps": runs[::-1]}, tmp_path)
    assert len(list(tmp_path.glob("scaling-*.png"))) == len(scaling.COLUMNS)
    (tmp_path / "a.json").write_text(json.dumps(runs[0]))
    (tmp_path / "slopes.json").write_text(json.dumps(found))
    assert scaling.measurements([tmp_path]) == [runs[0]]


def test_each_proof_is_predicted_from_the_others_alone():
    sizes = dict.fromkeys((field.name for field in dataclasses.fields(Sizes)), 0) | {"parameters": 1}
    runs = []
    for cells, seconds in ((10**6, 1.0), (2 * 10**6, 2.0), (4 * 10**6, 8.0)):  # the last is off the line of the others
        phase = {"name": "commit", "seconds": seconds, "peak_rss_bytes": 10**9}
        figures = {"prove_seconds": seconds, "peak_rss_bytes": 10**9, "phases": [phase]}
        runs.append({"name": f"n{cells}", "sizes": sizes | {"cells": cells, "digits": cells}, **figures})
    rows = [line.split(" | ") for line in scaling.held_out(runs).splitlines()[2:]]
    assert [row[1] for row in rows] == ["1,000,000", "2,000,000", "4,000,000"]
    assert rows[2][2:5] == ["8", "4", "0.50"]  # 4 s on the line through the first two
    assert rows[2][5:] == ["1", "1", "1.00 |"]
    assert float(rows[0][3]) != 1.0


def shared_figures() -> dict:
    """Of a proof with two workers: two seconds of load, and phases that the workers take three quarters of."""

    def traffic(sent: int, passed: int, waits: int) -> dict:
        return {"sent": [sent, sent], "received": [0, 0], "passed": [passed] * 2, "seconds": [3.0, 3.0], "waits": waits}

    return {
        "model": "small",
        "steps": 5,
        "batch_size": 8,
        "workers": 2,
        "sizes": {"digits": 10**6, "rows": 100, "row_bits": 20, "tree": 1 << 20},
        "least_share": 1 << 17,
        "blocks": 7,
        "seconds_alone": {"load": 2.0, "commit": 40.0, "range checks": 40.0, "open": 40.0},
        "seconds_shared": {"load": 2.0, "commit": 50.0, "range checks": 50.0, "open": 50.0},
        "driver_cpu_seconds": {"load": 1.0, "commit": 2.0, "range checks": 2.0, "open": 2.0},
        "traffic": {
            "commit": traffic(10**9, 4 * 10**8, 0),
            "range checks": traffic(0, 0, 1000),
            "open": traffic(0, 5 * 10**8, 0),
        },
        "call_seconds": 1e-4,
        "sealing_bytes_per_second": 2e9,
    }


def test_times_on_a_cluster_follow_from_shares_pieces_bytes_and_waits():
    found = cluster.predicted(shared_figures(), machines=6, bandwidth=1e9, latency=1e-3)
    assert found["load"] == 2.0
    assert found["commit"] == pytest.approx(10 + 30 * 2 / 7 + 2 * (1 + 0.5) + 0.8 / 6)  # seven blocks: two at most
    assert found["range checks"] == pytest.approx(10 + 30 / 4 + 1000 * 1.4e-3)  # four workers: a power of two
    assert cluster.predicted(shared_figures(), 8, 1e9, 1e-3)["open"] == pytest.approx(10 + 30 / 7 + 3)
    text = cluster.time_table(shared_figures(), [4, 16], 1.25e9, 1e-3)
    assert "Predicted for 10 Gbit/s and 1 ms" in text and "| load | 2.00 | 2.00 | 2.00 | 2.00 |" in text
    assert "| commit | 1 | 1000.00 | 0.00 | 400.00 | 3.00 | 0 |" in cluster.sent_table(shared_figures())
