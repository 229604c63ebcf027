"""The comparison of two commits: its statistics on invented figures, runs of a tiny repository, and of this one."""

from __future__ import annotations

import json
import math
import re
import subprocess

import pytest

from benchmarks import against

ZOO = """
from types import SimpleNamespace

import numpy as np

def mlp(features, hidden, classes):
    parameter = SimpleNamespace(detach=lambda: SimpleNamespace(numpy=lambda: np.ones((classes, features))))
    return SimpleNamespace(parameters=lambda: [parameter])
"""  # without PyTorch, which takes seconds to load
CONVERT = """
from pathlib import Path
from types import SimpleNamespace

def from_module(module, *, input):
    return SimpleNamespace(save=lambda path: Path(path).write_bytes(b"model"))
"""
COMMANDS = """
import sys
from pathlib import Path

match sys.argv[1:]:
    case ["commit", "data.npz"]:
        Path("data.root").write_text("root")
    case ["announce", "model.pt", "data.root", "--steps", "3", "--batch-size", "2", "--tau", _]:
        Path("announce.json").write_text("{}")
    case ["prove", "model.pt", "data.zkd", "--announcement", "announce.json", "--beacon", _]:
        Path("proof.bin").write_bytes(b"proof")
    case _:
        raise SystemExit("no such command")
"""
COUNTING = """
if sys.argv[1] == "prove":
    count = Path(__file__).with_name("count")
    count.write_text(count.read_text() + "." if count.exists() else ".")
    Path("proof.bin").write_text(count.read_text())
    if count.read_text() == "...":
        Path(__file__).with_name("a.nbi").touch()
"""
PROJECT = """
[project]
dependencies = ["numpy"]
"""
VERIFIER = "import sys; open(sys.argv[1]).read()"


def commit(place, text):
    """Write a package like ours as far as a comparison needs it, with `text` at the end of its commands."""
    files = {
        "pyproject.toml": PROJECT,
        "zkcert/__init__.py": "",
        "zkcert/__main__.py": COMMANDS + text,
        "zkcert/zoo.py": ZOO,
        "zkcert/convert.py": CONVERT,
        "verifier/__main__.py": VERIFIER,
    }
    for name, content in files.items():
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).write_text(content)
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "."], [*who, "commit", "-q", "--allow-empty", "-m", "one"]):
        subprocess.run(["git", "-C", str(place), *words], check=True)


def run(place, *words):
    """The exit code and the record of a comparison of HEAD with the working tree of `place`."""
    out = place / "against.json"
    options = ["--models", "toy", "--steps", "3", "--batch-size", "2", "--out", str(out)]
    code = against.main(["HEAD", *options, *words], place)
    return code, json.loads(out.read_text()) if out.exists() else None


def pair(base, other):
    """A pair in which every figure of a side is the same."""
    keys = ("seconds", "cpu_seconds", "peak_rss_bytes", "proof_bytes", "load")
    return {"base": dict.fromkeys(("prove", "verify"), dict.fromkeys(keys, base))} | {
        "other": dict.fromkeys(("prove", "verify"), dict.fromkeys(keys, other))
    }


# ------------------------------------------------------------------------------------------------- statistics


def test_ratio_is_the_geometric_mean_with_students_interval():
    from scipy import stats

    base, other = [10.0, 20.0, 11.0, 30.0], [12.0, 21.0, 12.0, 30.0]
    found = against.ratio(base, other)
    logs = [math.log(b / a) for a, b in zip(base, other, strict=True)]
    middle = stats.ttest_rel([math.log(b) for b in other], [math.log(a) for a in base])
    interval = middle.confidence_interval(0.95)
    assert found["ratio"] == pytest.approx(math.exp(sum(logs) / 4))
    assert (found["low"], found["high"]) == pytest.approx((math.exp(interval.low), math.exp(interval.high)))
    assert against.ratio([2, 4], [3, 6]) == pytest.approx(dict.fromkeys(("ratio", "low", "high"), 1.5))


def test_pairs_take_out_what_both_sides_share():
    """A machine that is twice as slow for a while widens neither interval."""
    assert against.ratio([1, 2, 1], [1.1, 2.2, 1.1])["high"] == pytest.approx(1.1)


def test_summary_and_table_show_medians_and_ratios():
    runs = [pair(1e6, 2e6), pair(2e6, 4e6), pair(9e6, 18e6)]
    found = against.summary(runs)
    assert found["proof_bytes"] == found["verify_seconds"] == {"base": 2e6, "other": 4e6}
    assert found["ratio_memory"]["ratio"] == found["ratio_time"]["high"] == pytest.approx(2)
    lines = against.table({"model": "lenet", "runs": runs, **found}).splitlines()
    assert lines[0].startswith("lenet, 3 pairs") and len(lines) == 1 + len(against.FIGURES)
    assert lines[4].split() == ["proof,", "MB", "2.000", "4.000", "2.000", "2.000", "to", "2.000"]


# ------------------------------------------------------------------------------------- runs of a tiny repository


def test_a_comparison_is_measured_shown_and_kept(tmp_path, capsys):
    commit(tmp_path, "")
    main = tmp_path / "zkcert" / "__main__.py"
    main.write_text(COMMANDS.replace('b"proof"', 'b"larger proof"'))  # the working tree, not committed
    code, record = run(tmp_path, "--runs", "2")
    assert code == 0
    (entry,) = record["models"]
    assert entry["proof_bytes"] == {"base": 5, "other": 12}
    assert entry["ratio_bytes"]["ratio"] == pytest.approx(2.4)
    assert record["commits"]["other"] == f"{record['commits']['base']} with changes"
    assert record["packages"]["base"]["torch"] and record["machine"]["cores"] > 0
    for side in against.SIDES:
        for step in ("prove", "verify"):
            figures = entry["runs"][1][side][step]
            assert figures["seconds"] > 0 and figures["cpu_seconds"] > 0 and figures["peak_rss_bytes"] > 10**6
    assert "toy, 2 pairs" in capsys.readouterr().out

    assert run(tmp_path, "--runs", "2", "--fail-above", "0.0001")[0] == 1  # of what is there, nothing measured
    assert "ends at" in capsys.readouterr().err
    main.write_text(COMMANDS)
    assert run(tmp_path, "--runs", "2")[0] == 2  # another tree
    assert "compares other code" in capsys.readouterr().err


def test_an_interrupted_comparison_keeps_its_pairs_and_goes_on(tmp_path, capsys, monkeypatch):
    commit(tmp_path, "")
    order, prove = [], against.Side.prove

    def interrupted(side, model):
        order.append(side.name)
        if len(order) == 2 + 3:  # after those that compile: in the second pair
            raise KeyboardInterrupt
        return prove(side, model)

    monkeypatch.setattr(against.Side, "prove", interrupted)
    code, record = run(tmp_path, "--runs", "3")
    assert code == 130 and len(record["models"][0]["runs"]) == 1
    assert "the same command goes on" in capsys.readouterr().err
    first = record["models"][0]["runs"][0]
    code, record = run(tmp_path, "--runs", "3")
    assert code == 0 and len(record["models"][0]["runs"]) == 3 and record["models"][0]["runs"][0] == first
    assert order[2:] == ["base", "other", "other", "base", "other", "other", "base", "base", "other"]


def test_a_run_that_compiles_is_repeated(tmp_path):
    """Here a kernel's cache appears in each side's third proof, which is its second measured one."""
    commit(tmp_path, COUNTING)
    _, record = run(tmp_path, "--runs", "2")
    assert [pair["other"]["prove"]["proof_bytes"] for pair in record["models"][0]["runs"]] == [2, 4]


@pytest.mark.parametrize(
    "words, text, expected",
    [
        (["--other", "nowhere"], "", "git rev-parse nowhere"),
        (
            ["--models", "lenet"],
            "",
            "base: -P .*: exit code 1: AttributeError: .*zkcert.zoo.* has no attribute .lenet5.",
        ),
        ([], 'sys.exit("it broke") if sys.argv[1] == "prove" else None', "base: -m zkcert prove .*: it broke"),
    ],
)
def test_what_fails_is_one_line(tmp_path, capsys, words, text, expected):
    commit(tmp_path, text)
    code, _ = run(tmp_path, *words)
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("error: "))
    assert code == 2
    assert re.search(expected, line), line


def test_a_file_of_something_else_is_refused(tmp_path, capsys):
    commit(tmp_path, "")
    for text in ("[]", "{}", "no JSON"):
        (tmp_path / "against.json").write_text(text)
        assert against.main(["HEAD", "--out", str(tmp_path / "against.json")], tmp_path) == 2
        assert "is no file of this benchmark" in capsys.readouterr().err
        assert (tmp_path / "against.json").read_text() == text


# ---------------------------------------------------------------------------------------------- of this one


@pytest.mark.slow
def test_this_commit_against_itself(tmp_path):
    out = tmp_path / "against.json"
    options = ["--other", "HEAD", "--models", "toy", "--steps", "2", "--batch-size", "2", "--runs", "2"]
    assert against.main(["HEAD", *options, "--out", str(out)]) == 0
    (entry,) = json.loads(out.read_text())["models"]
    assert 0.9 < entry["ratio_bytes"]["ratio"] < 1.1
    assert entry["ratio_memory"]["ratio"] == pytest.approx(1, abs=0.2)
