"""The claims of the paper are written down, and were committed, before any result that is judged by them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from benchmarks.experiments import claims, report
from benchmarks.experiments.__main__ import EXPERIMENTS, write_record
from tests.experiments.test_experiments_report import example
from zkcert.errors import UnusableInput

RECORD = report.CHECKOUT / "docs" / "results" / "record.json"
CODE = Path(claims.__file__).parent


def test_the_file_says_everything_of_every_claim():
    found = claims.stated()
    assert len(found) >= 30
    for one in found.values():
        assert one.experiment in (*EXPERIMENTS, "benchmarks.cost"), one.id
        assert re.search(r"reproduced", one.rule) or re.match(r"as t\d", one.rule), one.id
        for named in re.findall(
            r"\bas ((?:t|f|th)\d-[\w-]+)", f"{one.setting} {one.statistic} {one.rule} {one.change}"
        ):
            assert named in found, (one.id, named)


def test_code_judges_claims_of_the_file_only_and_leaves_none_out_that_it_could():
    text = "".join(path.read_text() for path in sorted(CODE.glob("*.py")))
    named = {name for name in claims.stated() if f'"{name}"' in text}
    left = set(claims.stated()) - named
    assert left == {"t6-cost"}  # of benchmarks.cost
    with pytest.raises(KeyError):
        claims.judged("t0-nothing", report.REPRODUCED, "")


def test_claims_about_several_settings_fail_with_any_of_them():
    yes, no, unclear = report.REPRODUCED, report.NOT_REPRODUCED, report.INCONCLUSIVE
    assert claims.all_of([yes, yes]) == yes
    assert claims.all_of([yes, unclear]) == claims.all_of([]) == unclear
    assert claims.all_of([yes, unclear, no]) == no


BROKEN = {
    "no TOML": b"= 1",
    "no claims": b"x = 1",
    "a key missing": b'[[claim]]\nid = "a"\n',
    "a key empty": b"[[claim]]\n" + b"".join(f'{f} = ""\n'.encode() for f in claims.Stated.__dataclass_fields__),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_one_line(tmp_path, name):
    path = tmp_path / claims.PLACE
    path.parent.mkdir(parents=True)
    path.write_bytes(BROKEN[name])
    with pytest.raises(UnusableInput, match="not the file of claims"):
        claims.stated(tmp_path)


# ------------------------------------------------------------------------------------------- commits


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    if shutil.which("git") is None:
        pytest.skip("no git")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    path = tmp_path / claims.PLACE
    path.parent.mkdir(parents=True)
    path.write_bytes((report.CHECKOUT / claims.PLACE).read_bytes())
    return tmp_path


def git(place: Path, *words: str, when: str = "2026-01-02T03:04:05+00:00") -> None:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    environment = {**os.environ, "GIT_COMMITTER_DATE": when, "GIT_AUTHOR_DATE": when}
    subprocess.run(["git", "-C", str(place), *identity, *words], check=True, capture_output=True, env=environment)


def test_the_stamp_is_the_first_commit_since_which_the_claims_are_worded_so(checkout):
    names = ["t2-noise"]
    assert claims.stamp(names, checkout) == {}
    git(checkout, "init", "-q")
    assert claims.stamp(names, checkout) == {}
    git(checkout, "add", ".")
    git(checkout, "commit", "-qm", "claims")
    first = claims.stamp(names, checkout)
    assert first["time"] == "2026-01-02T03:04:05+00:00" and len(first["commit"]) == 40
    (checkout / "code").write_text("x")
    git(checkout, "add", ".")
    git(checkout, "commit", "-qm", "code", when="2026-02-02T03:04:05+00:00")
    assert claims.stamp(names, checkout) == first  # other commits do not matter
    path = checkout / claims.PLACE
    before = path.read_bytes()
    path.write_bytes(before.replace(b"at most at log 0.9", b"at most at log 0.99"))
    assert claims.stamp(names, checkout) == {}  # not committed as it is
    git(checkout, "commit", "-qam", "later", when="2026-03-02T03:04:05+00:00")
    assert claims.stamp(names, checkout)["time"].startswith("2026-03")
    assert claims.stamp(["t1-kendall"], checkout) == first  # this one is worded as it was
    assert claims.stamp(["t1-kendall", *names], checkout) == claims.stamp(names, checkout)
    assert [v.content == before for v in claims.committed(checkout)] == [False, True]


def test_a_result_is_as_old_as_its_oldest_measurement():
    values = {"models": [{"made": "2026-02-02"}, {"a": [{"made": "2026-01-01"}]}], "made": 3}
    assert claims.oldest(values, "2026-03-03") == "2026-01-01" and claims.oldest([], "2026-03-03") == "2026-03-03"


def faults(entry: dict, checkout: Path = report.CHECKOUT) -> list[str]:
    """What makes a recorded result none; without git only what the record itself says."""
    known = entry["claims_file"]
    if set(known) != {"commit", "time", "digest"}:
        return ["the claims were not committed before the run"]
    found = []
    if not datetime.fromisoformat(known["time"]) < datetime.fromisoformat(entry["started"]):
        found.append("the claims were committed after the run began")
    if history := {v.digest: v for v in claims.committed(checkout)}:
        if known["digest"] not in history:
            return [*found, "these claims were never committed"]
        version = history[known["digest"]]  # the first commit of that content
        if version.time != known["time"]:
            found.append("the time is not that of the commit")
        then, now = claims.parsed(version.content), claims.stated(checkout)
        changed = [name for name in entry["verdicts"] if name not in now or then.get(name) != now[name]]
        found += [f"{name} was worded otherwise" for name in changed]
    return found


@pytest.mark.parametrize("entry", json.loads(RECORD.read_text()) if RECORD.exists() else [], ids=lambda e: e["name"])
def test_recorded_results_were_judged_by_claims_committed_before(entry):
    assert faults(entry) == [] and set(entry["verdicts"].values()) <= set(report.VERDICTS)


def test_a_result_that_precedes_its_claims_is_found(checkout):
    git(checkout, "init", "-q")
    git(checkout, "add", ".")
    git(checkout, "commit", "-qm", "claims")
    good = {
        "claims_file": claims.stamp(["t2-noise"], checkout),
        "started": "2026-01-02T03:05:00+00:00",
        "verdicts": {"t2-noise": report.REPRODUCED},
    }
    assert faults(good, checkout) == []
    assert "after the run" in faults({**good, "started": "2026-01-02T03:04:00+00:00"}, checkout)[0]
    assert "not committed" in faults({**good, "claims_file": {}}, checkout)[0]
    assert "never committed" in faults({**good, "claims_file": {**good["claims_file"], "digest": "00"}}, checkout)[0]
    forged = {**good["claims_file"], "time": "2025-01-01T00:00:00+00:00"}
    assert "not that of the commit" in faults({**good, "claims_file": forged}, checkout)[0]
    path = checkout / claims.PLACE
    path.write_text(path.read_text().replace("at most at log 0.9", "at most at log 0.99"))
    claims.stated.cache_clear()
    assert faults(good, checkout) == ["t2-noise was worded otherwise"]


def test_the_ledger_has_a_row_for_every_claim_and_the_record_only_runs(tmp_path):
    claim = claims.judged("t2-noise", report.NOT_REPRODUCED, "ratio 1.2")
    run = example(name="table2", profile="small", claims=[claim], started="2030-01-01T00:00:00+00:00")
    text = claims.ledger([replace(run, claims_file={"commit": "c", "time": "t", "digest": "d"})])
    assert text.count("\n| ") == len(claims.stated()) + 2 and text.count("not run yet") == len(claims.stated()) - 1
    assert "ratio 1.2 (profile small, 2 seeds) | **not reproduced**" in text
    assert "**void: the claim was not committed before the run**" in claims.ledger([run])
    assert [entry["verdicts"] for entry in claims.record([run, example()])] == [{"t2-noise": report.NOT_REPRODUCED}]
    write_record(tmp_path / "results" / "record.json", [run])
    assert json.loads((tmp_path / "results" / "record.json").read_text()) == claims.record([run])
    write_record(tmp_path / "other.json", [example()])
    assert not (tmp_path / "other.json").exists()
