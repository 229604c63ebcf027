"""Scoring models of known quality, rates and their intervals, and the ROC statistics."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
import torch
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from zkcert.calibration import Scored, Source
from zkcert.convert import from_module
from zkcert.core.permutation import sample_indices
from zkcert.errors import UnusableInput
from zkcert.metric import Probe, directional_sharpness
from zkcert.metric.calibrate import Candidate, Pool, assess, calibrate, clopper_pearson, draw_seed
from zkcert.metric.roc import Discrimination, auc, delong, roc
from zkcert.zoo import mlp

INPUT = {"shape": [1, 4, 4], "pad": 0, "mean": [0.5], "std": [0.25]}
PROBE = Probe(steps=3, batch_size=4, lr="0.1")
RNG = np.random.default_rng(3)
X, Y = RNG.integers(0, 256, (60, 1, 4, 4), dtype=np.uint8), RNG.integers(0, 3, 60)
SAMPLES = Pool(Source("x.npz", 60, "a" * 64), lambda rows: (X[list(rows)], Y[list(rows)]))


def candidate(seed: int, name: str | None = None) -> Candidate:
    return Candidate(name or f"m{seed}", from_module(mlp(16, [6], 3, seed=seed), input=INPUT), SAMPLES)


# --------------------------------------------------------------------------------------------- scoring


def test_every_score_is_that_of_the_draw_it_says():
    good, bad = [candidate(0), candidate(1)], [candidate(2)]
    seen = []
    found = calibrate(
        good, bad, PROBE, risk=Fraction(1, 4), draws=4, seed="s", progress=lambda *done: seen.append(done)
    )
    assert seen == [(i, 12) for i in range(1, 13)]
    for one, scored in zip((*good, *bad), (*found.good, *found.bad), strict=True):
        assert (scored.name, scored.model) == (one.name, one.model.weights_digest.hex())
        for draw, score in enumerate(scored.scores):
            text = f"s/{one.model.weights_digest.hex()[:16]}/{draw}"
            assert draw_seed("s", one.model, draw) == text
            rows = sample_indices(blake3(text.encode()).digest(), 60, 12)
            wanted = directional_sharpness(one.model, X[rows].reshape(3, 4, 1, 4, 4), Y[rows].reshape(3, 4), PROBE)
            assert score == pytest.approx(wanted.score, rel=1e-12)
    assert len({score for m in found.good for score in m.scores}) == 8
    assert found.probe == PROBE.to_dict() and found.seed == "s" and found.data == (SAMPLES.source,)


def test_scores_of_a_model_depend_on_the_seed_but_not_on_its_company():
    alone = calibrate([candidate(0)], [], PROBE, draws=3, seed="s").good[0]
    together = calibrate([candidate(1), candidate(0)], [candidate(2)], PROBE, draws=3, seed="s").good[1]
    assert alone == together
    assert calibrate([candidate(0)], [], PROBE, draws=3, seed="t").good[0].scores != alone.scores


def test_the_probe_is_followed():
    usual = calibrate([candidate(0)], [], PROBE, draws=2).good[0].scores
    for options in ({"variant": "sam"}, {"statistic": "cv-sharpness"}, {"variant": "asam-samsung", "eta": "0.1"}):
        probe = Probe(steps=3, batch_size=4, lr="0.1", **options)
        found = calibrate([candidate(0)], [], probe, draws=2)
        assert found.good[0].scores != usual and found.probe == probe.to_dict()


def test_batch_norm_follows_the_probe():
    module = torch.nn.Sequential(
        torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(8, 3)
    )
    model = from_module(module.eval(), input=INPUT)
    for mode in ("eval", "train"):
        probe = Probe(steps=3, batch_size=4, lr="0.1", batch_norm=mode)
        (score,) = calibrate([Candidate("m", model, SAMPLES)], [], probe, draws=1, seed="s").good[0].scores
        rows = sample_indices(blake3(draw_seed("s", model, 0).encode()).digest(), 60, 12)
        wanted = directional_sharpness(model, X[rows].reshape(3, 4, 1, 4, 4), Y[rows].reshape(3, 4), probe)
        assert score == pytest.approx(wanted.score, rel=1e-10)


def test_global_randomness_is_left_alone():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    calibrate([candidate(0)], [], PROBE, draws=2)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_failing_probe_is_an_error_that_names_the_model():
    model = from_module(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3)), input=INPUT)
    zero = type(model)(model.graph, model.input, {k: np.zeros_like(v) for k, v in model.tensors.items()})
    with pytest.raises(UnusableInput, match=r"nought, draw 0: step 0: the gradient norm 0"):
        calibrate([candidate(0), Candidate("nought", zero, SAMPLES)], [], PROBE, draws=2)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"risk": Fraction(1)}, "risk"),
        ({"risk": Fraction(-1, 2)}, "risk"),
        ({"draws": 0}, "draws"),
        ({"draws": True}, "draws"),
        ({"seed": "a\nb"}, "printable"),
        ({"probe": Probe(steps=1 << 17, batch_size=1)}, "steps must be"),
        ({"good": [candidate(0, "n" * 300)]}, "at most 200"),
        ({"good": []}, "at least one good"),
        ({"bad": [candidate(0)]}, "occurs twice"),
        ({"good": [candidate(0), candidate(0, "again")]}, "occurs twice"),
        ({"probe": Probe(steps=10, batch_size=10)}, "cannot draw 100 samples from 60"),
    ],
)
def test_bad_input(options, what):
    options = {"good": [candidate(0)], "bad": [], "probe": PROBE, "draws": 2, **options}
    with pytest.raises(UnusableInput, match=what):
        calibrate(options.pop("good"), options.pop("bad"), options.pop("probe"), **options)


def test_labels_a_model_does_not_know():
    odd = Pool(SAMPLES.source, lambda rows: (X[list(rows)], Y[list(rows)] + 1))
    with pytest.raises(UnusableInput, match="labels must be integers from 0 to 2"):
        calibrate([Candidate("m", candidate(0).model, odd)], [], PROBE, draws=9)


# ----------------------------------------------------------------------------------------------- rates


def test_assessment_by_hand():
    def models(kind, *scores):
        return [
            Scored(f"{kind}{i}", f"{kind}{i}".encode().hex().ljust(64, "0"), "a" * 64, s) for i, s in enumerate(scores)
        ]

    found = assess(
        models("g", (0.1, 0.2), (0.3, 0.6)),
        models("b", (0.5, 0.7), (0.9, 1.1)),
        PROBE,
        risk=Fraction(2, 5),
        seed="",
        data=[SAMPLES.source],
    )
    assert found.tau == Fraction("0.6999")
    assert (found.false_acceptance.count, found.false_acceptance.total) == (1, 4)
    assert (found.false_rejection.count, found.false_rejection.total) == (0, 4)
    assert found.auc == 15 / 16
    assert found.gap == 0.5 - 0.6


def binomial(count: int, total: int, p: float) -> float:
    """P(X >= count)."""
    return math.fsum(math.comb(total, k) * p**k * (1 - p) ** (total - k) for k in range(count, total + 1))


@pytest.mark.parametrize(("count", "total"), [(0, 12), (1, 20), (7, 20), (20, 20)])
def test_interval_of_a_rate_leaves_a_fortieth_on_either_side(count, total):
    low, high = clopper_pearson(count, total)
    assert low == 0 if count == 0 else binomial(count, total, low) == pytest.approx(0.025, rel=1e-6)
    assert high == 1 if count == total else 1 - binomial(count + 1, total, high) == pytest.approx(0.025, rel=1e-6)


# ------------------------------------------------------------------------------------------------- ROC

LISTS = st.lists(st.integers(0, 12).map(float), min_size=2, max_size=12)


def psi(a: float, b: float) -> float:
    return 1.0 if a < b else 0.5 if a == b else 0.0


@settings(deadline=None, max_examples=40)
@given(LISTS, LISTS)
def test_auc_counts_the_pairs_in_order(low, high):
    assert auc(low, high) == pytest.approx(np.mean([psi(a, b) for a, b in product(low, high)]))


@settings(deadline=None, max_examples=40)
@given(LISTS, LISTS)
def test_best_accuracy_is_that_of_the_best_threshold(low, high):
    found = Discrimination.of(low, high)

    def accuracy(threshold):
        return (np.mean([a <= threshold for a in low]) + np.mean([b > threshold for b in high])) / 2

    assert found.accuracy == pytest.approx(max(accuracy(t) for t in (-math.inf, *low, *high)))
    assert found.accuracy == pytest.approx(accuracy(found.threshold))


@settings(deadline=None, max_examples=40)
@given(LISTS, LISTS)
def test_interval_of_the_auc_equals_delongs_formula(low, high):
    area = np.mean([psi(a, b) for a, b in product(low, high)])
    v10 = [np.mean([psi(a, b) for b in high]) for a in low]
    v01 = [np.mean([psi(a, b) for a in low]) for b in high]
    error = 1.959963984540054 * math.sqrt(np.var(v10, ddof=1) / len(low) + np.var(v01, ddof=1) / len(high))
    assert delong(low, high) == pytest.approx((max(0.0, area - error), min(1.0, area + error)))


def test_interval_of_the_auc_covers_the_truth():
    """Normal scores a distance of 1 apart: AUC = Phi(1 / sqrt 2)."""
    rng, truth, hits = np.random.default_rng(0), 0.5 * (1 + math.erf(0.5)), 0
    for _ in range(400):
        low, high = delong(rng.normal(size=80), rng.normal(1.0, size=60))
        hits += low <= truth <= high
    assert 0.92 < hits / 400 < 0.98


def test_roc_runs_from_corner_to_corner():
    wrong, right, thresholds = roc([1.0, 2.0, 4.0], [3.0, 5.0])
    assert wrong.tolist() == [0, 0, 0, 0.5, 0.5, 1]
    assert right.tolist() == pytest.approx([0, 1 / 3, 2 / 3, 2 / 3, 1, 1])
    assert thresholds.tolist() == [-math.inf, 1, 2, 3, 4, 5]
    assert Discrimination.of([2.0, 3.0], [1.0, 0.5]).to_dict() == {
        "auc": 0.0,
        "auc_interval": [0.0, 0.0],
        "balanced_accuracy": 0.5,
        "threshold": None,
    }
