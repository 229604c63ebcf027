"""The search for files that cost a verifier much, as far as no time is measured."""

from __future__ import annotations

import json
import random
import re

import pytest

from benchmarks import worst_case
from benchmarks.worst_case import OPS, STARTS, Builder, Case, Segment, main, mutated, search
from zkcert.errors import ZkcertError


def model_of(case: Case):
    builder = Builder(case)
    for segment in case.segments:
        builder.segment(segment)
    return builder.model(case.classes)


@pytest.mark.parametrize("case", STARTS)
def test_every_start_is_a_model(case):
    model = model_of(case)
    assert model.classes == case.classes and len(model.graph) >= sum(s.count for s in case.segments)


def test_changed_cases_are_others_and_many_are_models():
    rng, models, ops = random.Random(1), 0, set()
    small = Case((Segment("conv2d", 2, 3, 3), Segment("linear", 3, 4)), (2, 5, 6))
    for _ in range(300):
        case = mutated(small, rng)
        ops |= {segment.op for segment in case.segments}
        try:
            models += model_of(case).classes >= 2
        except ZkcertError:
            continue
    assert models > 200 and ops == set(OPS)


def test_a_search_reports_what_it_found(tmp_path, capsys, monkeypatch):
    small = Case((Segment("linear", 1, 4),), empty=True)
    monkeypatch.setattr(worst_case, "search", lambda minutes, seed: search(minutes, seed, [small]))
    main(["--minutes", "0", "--out", str(tmp_path / "worst.json")])
    (found,) = json.loads((tmp_path / "worst.json").read_text())
    assert found["case"]["segments"] == [{"op": "linear", "count": 1, "width": 4, "kernel": 1}]
    assert re.match(r"REJECTED format: (messages|roots): [0-9]+ bytes", found["cost"]["said"])
    assert found["cost"]["said"] in capsys.readouterr().out
