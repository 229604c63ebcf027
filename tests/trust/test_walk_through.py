"""The demonstration of trust, with a tiny model, and without waiting: its beacon is our own."""

from __future__ import annotations

import shutil

import pytest

from zkcert import api
from zkcert.api.walk_through import ROLES, _play
from zkcert.errors import UnusableInput


@pytest.mark.slow
def test_all_roles_agree_and_every_attack_is_stopped(tiny, tmp_path):
    def train(model, data):
        shutil.copy(tiny.model, model)
        shutil.copy(tiny.dataset, data)

    lines, waits = [], []
    found = _play(tmp_path / "play", lines.append, train, tiny.config, 3600, waits.append)
    assert {step.state for step in found.verdict.steps} == {"checked"}
    assert "it is the first, unless more than 1 of 3 witnesses are dishonest" in "\n".join(lines)
    said = [text.partition(":")[0] for _, text in found.stopped]
    assert said == ["announcements", "announcements", "witnesses", "beacon", "round", "authorities"]
    assert [3000 < seconds < 3700 for seconds in waits] == [True]
    assert {path.name for path in (tmp_path / "play").iterdir()} == set(ROLES)
    secrets = {path.parent.name for path in (tmp_path / "play").rglob("*.key")}
    assert secrets == set(ROLES) - {"beacon", "verifier"}  # each where it belongs
    assert not list((tmp_path / "play" / "verifier").glob("*.zkd"))
    assert "Accepted" in (tmp_path / "play" / "verifier" / "report.html").read_text()
    with pytest.raises(UnusableInput, match="exists; give a directory"):
        _play(tmp_path / "play", lines.append, train, tiny.config, 3600, waits.append)


@pytest.mark.slow
def test_the_demonstration_of_trust(tmp_path):
    found = api.demo_trust(tmp_path / "kept", say=print)
    assert len(found.stopped) == 6
