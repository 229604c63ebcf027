"""Complete proofs over steps, batch sizes, classes, layers, kinds of data and blocks: every pair of values once."""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from dataclasses import asdict
from itertools import combinations
from unittest import mock

import pytest

from benchmarks import sweep
from circuits.language.layout import SMALLEST_CUT
from circuits.layers import LAYERS
from zkcert.public.defaults import DEFAULT

POINTS = sweep.covering()
QUICK = 50_000  # of `Point.work`: at most some millions of digits, mostly below two


def marked(point):
    return pytest.param(point, id=point.name, marks=[pytest.mark.slow] if point.work > QUICK else [])


@pytest.mark.parametrize("point", list(map(marked, POINTS)))
def test_proofs_that_cover_every_pair(point):
    found = sweep.prove_and_verify(point)
    assert found["soundness_bits"] >= 100
    assert found["blocks"] > found["tensors"] or point.smallest_cut > 16
    assert found["congruences"] or point.residue_cost


def test_the_array_covers_every_pair():
    covered = {pair for point in POINTS for pair in combinations(asdict(point).items(), 2)}
    for (a, xs), (b, ys) in combinations(sweep.FACTORS.items(), 2):
        assert {((a, x), (b, y)) for x in xs for y in ys if sweep.possible({a: x, b: y})} <= covered
    assert all((p.network == "tokens") == (p.kind == "tokens") for p in POINTS)
    assert len(POINTS) <= 60 and sum(point.work > QUICK for point in POINTS) <= 14


def test_the_factors_hold_what_is_used():
    """The constant of the specification, and blocks of networks of every size; the default's batches among others."""
    assert SMALLEST_CUT in sweep.FACTORS["smallest_cut"] and len(sweep.FACTORS["smallest_cut"]) > 3
    assert DEFAULT.batch_size in sweep.FACTORS["batch_size"]


def test_the_whole_product():
    """Steps, batch size, classes and kind of data, with each layer type; step functions, statistics and cuts often."""
    points = sweep.whole()
    named = {(p.steps, p.batch_size, p.classes, p.network, p.kind) for p in points}
    assert len(named) == len(points) == 5 * 6 * 5 * 5
    networks = {(p.network, classes) for p in points for classes in (2, 3)}
    assert {node["op"] for chosen in networks for node in sweep.network(*chosen).graph} == set(LAYERS)
    turning = ("variant", "smallest_cut", "statistic", "network")
    for pair in combinations(turning, 2):
        turns = Counter(tuple(getattr(p, name) for name in pair) for p in points)
        assert len(turns) == math.prod(3 if name == "network" else len(sweep.FACTORS[name]) for name in pair)


def test_a_sweep_goes_on_and_keeps_failures(tmp_path, capsys):
    """A line per proof; a failure does not end it; the second run takes the next ones."""
    tried = []

    def prove(point, most_digits):
        tried.append(point)
        if len(tried) == 2:
            raise ValueError("no such block")
        if len(tried) == 3:
            return None  # too large
        sizes = {"digits": 10**6, "blocks": 5, "tensors": 3}
        return {**sizes, "prove_seconds": 1.0, "verify_seconds": 0.5}

    def run(*arguments):
        argv = ["sweep", "--out", str(tmp_path), "--only", "classes=257,2", "steps=2,64", *arguments]
        proving = mock.patch.object(sweep, "prove_and_verify", prove)
        with mock.patch.object(sys, "argv", argv), proving, pytest.raises(SystemExit) as ended:
            sweep.main()
        return ended.value.code, capsys.readouterr().out

    code, out = run("--limit", "3")
    assert code == 1 and len(out.splitlines()) == 5 and "FAILED ValueError: no such block" in out
    assert "3 of 120 points, 2 accepted, 1 failed" in out and "1 left out as too large" in out
    with (tmp_path / "results.jsonl").open("a") as file:
        file.write('{"name": "cut o')  # a kill in the middle of a line
    code, out = run("--limit", "2")
    assert code == 1 and "5 of 120 points, 4 accepted, 1 failed" in out
    assert len(tried) == 6 and tried[2] == tried[4]  # what was too large is looked at again
    assert all(point.steps in (2, 64) and point.classes in (2, 257) for point in tried)
    names = [json.loads(line)["name"] for line in (tmp_path / "results.jsonl").read_text().splitlines()[:3]]
    assert len(set(names)) == 3
    code, out = run("--limit", "0")
    assert code == 1 and "5 of 120 points, 4 accepted, 1 failed; in this run 0" in out
    code, _ = run("--only", "steps=4")
    assert code == 2
