"""Tables of jobs: what is proved, kept, refused, and told."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.conftest import Tiny
from zkcert import api
from zkcert.api.fleet import MAX_JOBS
from zkcert.errors import UnusableInput

PROBE = "steps,batch_size"


@pytest.fixture
def place(tiny: Tiny, tmp_path: Path) -> Path:
    """A folder with a model and its data, to which tables can be written."""
    shutil.copy(tiny.model, tmp_path / "model.pt")
    shutil.copy(tiny.data, tmp_path / "data.zkd")
    return tmp_path


def table(place: Path, *lines: str, name: str = "jobs.csv") -> Path:
    (place / name).write_text("\n".join(lines) + "\n")
    return place / name


def test_what_is_missing_is_proved_and_the_rest_is_kept(run, place, monkeypatch):
    """Files are found from the table's folder; one that fails does not end the others; the same command goes on."""
    lines = [
        f"model,data,out,tau,beacon,reveal_score,{PROBE}",
        "model.pt,data.zkd,one.bin,30,5a,,2,2",
        "missing.pt,data.zkd,two.bin,30,,,2,2",
        "model.pt,data.zkd,three.bin,30,5b,yes,2,3",
    ]
    elsewhere = place / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    first = run("prove", "--jobs", table(place, *lines), "--json")
    assert first.code == 2, first.err
    assert [job["state"] for job in first.json] == ["proved", "failed", "proved"]
    assert "missing.pt" in first.json[1]["why"] and not (place / "two.bin").exists()
    kept = {name: (place / name).read_bytes() for name in ("one.bin", "three.bin")}
    shutil.copy(place / "model.pt", place / "missing.pt")
    second = run("prove", "--jobs", place / "jobs.csv")
    assert second.code == 0, second.err
    assert [line.split()[0] for line in second.out.splitlines()] == ["kept", "proved", "kept"]
    assert kept == {name: (place / name).read_bytes() for name in kept}
    for name, pins in (("one", ("--beacon", "5a")), ("two", ()), ("three", ("--beacon", "5b"))):
        checked = run("verify", place / f"{name}.bin", place / "model.pt", "--tau", 30, *pins)
        assert checked.code == 0, checked.err


def test_a_score_above_tau_and_a_proof_of_something_else(run, place):
    lines = [f"model,data,out,tau,{PROBE}", "model.pt,data.zkd,one.bin,0.001,2,2", "model.pt,data.zkd,two.bin,30,2,2"]
    first = run("prove", "--jobs", table(place, *lines))
    assert first.code == 1 and [line.split()[0] for line in first.out.splitlines()] == ["above", "proved"]
    lines[2] = "model.pt,data.zkd,two.bin,30,2,3"
    found = api.prove_many(table(place, *lines, name="others.csv"))
    assert [result.state for result in found] == ["above tau", "failed"]
    assert "two.bin is the proof of another statement" in found[1].why


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ([], "must name the column model once"),
        (["model,data"], "must name the column out once"),
        (["model,data,out,model"], "must name the column model once"),
        (["model,data,out,colour"], "no column 'colour'"),
        (["model,data,out"], "holds no job"),
        (["model,data,out", "a,b"], "line 2: it has not as many cells"),
        (["model,data,out", "a,b,c,d"], "line 2: it has not as many cells"),
        (["model,data,out", "a,,c"], "line 2: data is empty"),
        (["model,data,out,steps", "a,b,c,two"], "line 2: steps must be an integer"),
        (["model,data,out,reveal_score", "a,b,c,1"], "line 2: reveal_score is yes or no"),
        (["model,data,out", "a,b,c", "d,e,c"], "line 3: line 2 writes"),
        (['model,data,out\na,b,"c'], "no table of jobs"),
        (["model,data,out", *(f"a,b,{i}" for i in range(MAX_JOBS + 1))], "more than 10000 jobs"),
    ],
)
def test_a_table_that_cannot_be_used(tmp_path, lines, why):
    with pytest.raises(UnusableInput, match=why):
        api.read_jobs(table(tmp_path, *lines))


def test_options_that_stand_in_the_table(run, tmp_path):
    found = run("prove", "--jobs", "jobs.csv", "--tau", 3)
    assert found.code == 2 and "stand in the table" in found.err
    assert run("prove").code == 2
