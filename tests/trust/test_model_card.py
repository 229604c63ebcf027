"""The block for a model card says what was verified, and what was not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tests.trust.conftest import refused
from zkcert import api
from zkcert.api.model_card import TITLE, card
from zkcert.trust.order import Step


def test_a_card_is_written_with_what_was_checked_and_warned_of(run, tiny):
    pins = ("verify", tiny.proof, tiny.model, "--tau", 3)
    assert run(*pins, "--beacon", tiny.beacon, "--model-card", "card.md").code == 0
    text = Path("card.md").read_text()
    verdict = api.verify(tiny.proof, tiny.model, tau=3, beacon=tiny.beacon)
    assert text == card(verdict) and text.startswith(TITLE)
    for word in (
        verdict.model_sha256,
        verdict.proof_sha256,
        "the score is at most 2.5",
        "| data | **missing**",
        "ddof 0",
        "none is named",
    ):
        assert word in text
    assert all(warning.replace("`", "'").replace("|", "/") in text for warning in verdict.warnings)
    refused(run(*pins, "--model-card", "card.md"), 2, "card.md exists")
    refused(run("verify", tiny.proof, tiny.model, "--tau", 1, "--model-card", "other.md"), 1, "tau")
    assert not Path("other.md").exists()


def test_what_others_wrote_stays_text(tiny):
    verdict = api.verify(tiny.proof, tiny.model, tau=3)
    said = 'A: "` | <img src=x onerror=alert(1)> **good** |"'
    text = card(replace(verdict, steps=(Step("data", "checked", said),)))
    (line,) = (line for line in text.splitlines() if line.startswith("| data |"))
    assert line.count("|") == 3 and line.count("`") == 2 and line.endswith("` |")
