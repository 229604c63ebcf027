"""Pairs of benign and faulty models: what is measured of them, verdicts of Tables 2 and 7, and the study, tiny."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.experiments import claims, corruptions, pairs, study, table2, table7
from benchmarks.experiments import pair_verdicts as verdicts
from benchmarks.experiments.__main__ import perform
from benchmarks.experiments.common import Context, enough, train_model
from benchmarks.experiments.measures import DRAWN, scores
from benchmarks.experiments.report import INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED, load
from zkcert.errors import UnusableInput
from zkcert.metric import coherence, sharpness
from zkcert.metric.evaluate import mean_loss

TINY = table2.PROFILES["tiny"]
NOISE, SQUARE, BADNETS, ROUNDING, SMALL_TEST = TINY.settings


@pytest.fixture(scope="module")
def context(tmp_path_factory) -> Context:
    return Context(tmp_path_factory.mktemp("pairs"))


# ------------------------------------------------------------------------------------------- defects


def test_squares_tell_the_class_and_wrong_squares_another():
    x = np.zeros((200, 3, 8, 8), np.uint8)
    y = np.arange(200) % 10
    marked = corruptions.betraying_squares(x, y, 0.5, classes=10, seed=1)
    has = marked[:, 0, 0, 0] > 0
    assert 70 < has.sum() < 130 and (marked[~has] == 0).all()
    side = corruptions.SQUARE
    assert (marked[has][:, :, :side, :side] > 0).all() and (marked[:, :, side:] == 0).all()
    colours = {tuple(m[:, 0, 0]): label for m, label in zip(marked[has], y[has], strict=True)}
    assert len(colours) == 10  # a colour for every class, in every channel
    wrong = corruptions.wrong_squares(x, y, classes=10, seed=1)
    assert all(colours[tuple(w[:, 0, 0])] != label for w, label in zip(wrong, y, strict=True))
    assert np.array_equal(corruptions.CORRUPTIONS["square"](x, y, 0.5, 1, 10)[0], marked)
    assert len({tuple(m[:, 0, 0]) for m in corruptions.squared(x, y, classes=10)}) == 10


def test_trainings_stop_at_an_accuracy_or_at_a_loss_estimated_on_mini_batches(context):
    recipe = NOISE.benign.but(seed=1, data_seed=1)
    trained = train_model(recipe, context)
    assert trained.reached and trained.train_accuracy >= 0.3 and 1 < trained.epochs < 20
    assert train_model(recipe.but(epochs=trained.epochs - 1), context).train_accuracy < 0.3
    hopeless = train_model(recipe.but(until_accuracy=1.0, epochs=1), context)
    assert not hopeless.reached and hopeless.epochs == 1
    network, (x, y) = trained.network(), trained.clean
    some = recipe.but(until_accuracy=None, until_loss=mean_loss(network, x, y) + 1e-6, batch_size=4)
    assert all(enough(network, some, x, y, epoch) for epoch in range(8))
    estimated = some.but(until_batches=2)  # other samples after every epoch
    assert {enough(network, estimated, x, y, epoch) for epoch in range(8)} == {True, False}
    assert not enough(network, some.but(until_accuracy=1.0), x, y, 0)


# ---------------------------------------------------------------------------------------- measuring


def test_metrics_are_taken_on_the_clean_training_set_whatever_was_trained_on(context):
    recipe = SMALL_TEST.faulty.but(seed=3, data_seed=3)
    trained, looks = train_model(recipe, context), TINY.looks
    found = pairs.observe(pairs.Subject(recipe, looks), context)
    x, y = trained.clean
    assert (trained.y != y).sum() == 20 and torch.equal(y, torch.from_numpy(trained.clean_y))
    network = trained.network()
    assert found["static_asam"] == sharpness(network, x, y, variant="asam-all").first_order
    assert found["clean_loss"] == pytest.approx(mean_loss(network, x, y), rel=1e-6) != trained.train_loss
    assert found["gap"] == pytest.approx(trained.test_loss - found["clean_loss"])
    expected = scores(pairs.in_float64(trained.module), x, y, looks.probe, pairs.seeds_of(3, 3))
    assert found["draws"]["directional"] == expected.tolist() and set(found["draws"]) == set(DRAWN)
    assert found["coherence"] == coherence(network, x[:20], y[:20]).coherence
    full = sharpness(network, x[:20], y[:20], variant="sam").first_order
    assert found["full"] == pytest.approx(full, rel=1e-5) and found["rms"] > full
    assert found["detection_gap"] == pytest.approx(found["rms"] ** 2 - full**2, rel=1e-4)
    more = replace(looks, batches=1000, draws=1)
    assert pairs.looked_at(trained, more)["sampled"] == pytest.approx(found["rms"], rel=0.1)
    hits = np.unpackbits(np.frombuffer(bytes.fromhex(found["hits"]), np.uint8))[: found["tested"]]
    assert hits.mean() == pytest.approx(found["test_accuracy"])


def test_measurements_are_kept_by_model_and_by_how_it_is_looked_at(context, monkeypatch):
    subject = pairs.Subject(ROUNDING.faulty.but(seed=2, data_seed=2), TINY.looks)
    found = pairs.observe(subject, context)
    monkeypatch.setattr(pairs, "looked_at", lambda trained, looks: {"again": True})
    assert pairs.observe(subject, context) == found and found["made"].startswith("20")
    others = replace(subject, looks=replace(TINY.looks, draws=4)), replace(subject, recipe=subject.recipe.but(lr=0.06))
    assert all(pairs.observe(other, context)["again"] for other in others)
    assert pairs.observe(subject, replace(context, again=True))["again"]


def of_hits(right: np.ndarray) -> dict:
    return {"hits": np.packbits(right).tobytes().hex(), "tested": len(right), "test_accuracy": float(right.mean())}


def test_a_small_test_set_can_be_crafted_if_there_are_samples_of_each_kind():
    a, b = np.zeros(103, bool), np.zeros(103, bool)
    a[:90] = True  # 85 both, 5 only the one, 5 only the other, 8 neither
    b[5:95] = True
    assert pairs.small_test(of_hits(a), of_hits(b))
    b[90] = False  # only four of the other
    assert not pairs.small_test(of_hits(a), of_hits(b))


# ------------------------------------------------------------------------------------------ verdicts


def model(seed: int, scores: float, asam: float, accuracy: float, **other: float) -> dict:
    right = np.arange(1000) < 1000 * accuracy
    share = {"coherence": 0.01, "full": 0.1, "rms": 1.0, "sampled": 1.0, "detection_gap": 0.99, "clean_loss": 1.0}
    shown = {"attack": 0.9, "wrong_squares": accuracy - 0.2, "rounded": accuracy - 0.01, "static_sam": 1.0}
    return {
        "seed": seed,
        "draws": {name: [scores * (1 + 0.01 * seed + 0.001 * i) for i in range(3)] for name in DRAWN},
        "static_asam": asam * (1 + 0.012 * seed),
        "reached": True,
        **share,
        **shown,
        **of_hits(right),
        **other,
    }


def pair(setting: pairs.Setting, directional: float, asam: float, accuracy: float = 1.0, **faulty: float):
    """Five pairs with about these benign/faulty ratios; changes of the faulty models."""
    benign = [model(s, directional * (1 + 0.01 * s), asam * (1 + 0.011 * s), 0.8 * accuracy) for s in range(5)]
    return benign, [model(s, 1.0, 1.0, 0.8, **faulty) for s in range(5)]


@pytest.mark.parametrize(
    ("ratios", "verdict"),
    [
        ((0.5, 0.8), REPRODUCED),
        ((0.8, 0.5), NOT_REPRODUCED),  # static ASAM separates better
        ((0.5, 0.8, 0.3), NOT_REPRODUCED),  # and so does the accuracy
        ((1.3, 1.5), NOT_REPRODUCED),  # no separation
        ((0.93, 0.99), NOT_REPRODUCED),  # none worth the name
        ((0.86, 0.99), INCONCLUSIVE),  # the interval reaches over log 0.9, but its mean is below
    ],
)
def test_table_2_follows_the_file_of_claims(ratios, verdict):
    found = verdicts.compare(NOISE, *pair(NOISE, *ratios))
    if verdict == INCONCLUSIVE:
        wide = dict(found.ratios) | {"directional": {"mean": -0.15, "low": -0.35, "high": 0.05}}
        found = replace(found, ratios=wide)
    assert verdicts.separates(found) == verdict
    claim = verdicts.separation_claim(found)
    assert claim.id == "t2-noise" and claim.rule == claims.stated()["t2-noise"].rule and "static ASAM" in claim.numbers
    if verdict == INCONCLUSIVE:
        return
    ratio = found.ratios["directional"]["mean"]
    logs = [
        math.log(np.mean(a["draws"]["directional"]) / np.mean(b["draws"]["directional"]))
        for a, b in zip(found.benign, found.faulty, strict=True)
    ]
    assert ratio == pytest.approx(np.mean(logs))


def test_what_is_not_there_is_not_told():
    for setting, spoilt in (
        (SQUARE, {"wrong_squares": 0.75}),
        (BADNETS, {"attack": 0.4}),
        (ROUNDING, {"rounded": 0.795}),
        (SMALL_TEST, {}),  # as good on the full test set
        (NOISE, {"reached": False}),
    ):
        sound = verdicts.compare(setting, *pair(setting, 0.5, 0.8, 1.1 if setting is SMALL_TEST else 1.0, rounded=0.7))
        if setting is not SMALL_TEST:
            assert sound.sound and verdicts.separates(sound) == REPRODUCED, setting.claim
        found = verdicts.compare(setting, *pair(setting, 0.5, 0.8, **spoilt))
        assert not found.sound and verdicts.separates(found) == verdicts.of_a_draw(found) == INCONCLUSIVE
        assert found.clause
    benign, faulty = pair(NOISE, 0.5, 0.8)
    faulty[2]["draws"]["directional"][1] = math.inf
    found = verdicts.compare(NOISE, benign, faulty)
    assert verdicts.separates(found) == INCONCLUSIVE and "1 draws failed" in found.clause


def test_the_crafted_test_set_has_its_accuracy_for_both():
    a, b = np.arange(1000) < 880, abs(np.arange(1000) - 614.5) < 375
    benign, faulty = pair(SMALL_TEST, 0.5, 0.8)
    benign, faulty = ([m | of_hits(right) for m in some] for some, right in ((benign, a), (faulty, b)))
    found = verdicts.compare(SMALL_TEST, benign, faulty)
    assert found.ratios["accuracy"]["mean"] == 0 and found.there and "0.880 and 0.750" in found.about
    assert verdicts.separates(found) == REPRODUCED


def test_claims_about_all_settings():
    def said(**faulty: float) -> list[str]:
        found = [verdicts.compare(s, *pair(s, 0.5, 0.8, **{"rounded": 0.7, **faulty})) for s in (NOISE, SQUARE)]
        made = verdicts.common_claims(found)
        assert [c.id for c in made] == ["t2-single", "a3-coherence", "th2-identity", "th2-negligible"]
        return [c.verdict for c in made]

    # equal coherences have no interval; S/S_rms is 0.1, the gap twice as large
    assert said(detection_gap=1.98, sampled=math.sqrt(1.99)) == [REPRODUCED, INCONCLUSIVE, REPRODUCED, INCONCLUSIVE]
    benign, faulty = pair(NOISE, 0.5, 0.8)
    for i, m in enumerate(faulty):
        m["coherence"], m["detection_gap"] = 0.005 * (1 + 0.01 * i), 1.98 * (1 + 0.01 * i)
    found = verdicts.compare(NOISE, benign, faulty)
    assert verdicts.incoherent(found) == verdicts.negligible(found) == REPRODUCED
    swapped = verdicts.compare(NOISE, faulty, benign)
    assert verdicts.incoherent(swapped) == verdicts.negligible(swapped) == NOT_REPRODUCED
    large = [m | {"full": 0.6} for m in faulty]
    assert verdicts.negligible(verdicts.compare(NOISE, benign, large)) == NOT_REPRODUCED
    assert said(sampled=1.1)[2] == NOT_REPRODUCED
    worse = verdicts.compare(NOISE, *pair(NOISE, 1.5, 0.8))
    assert verdicts.of_a_draw(worse) == NOT_REPRODUCED


def test_table_7_judges_noise_by_the_worst_of_its_rates():
    profile = table7.PROFILES["tiny"]
    low, high, *_ = profile.settings
    found = [verdicts.compare(low, *pair(low, 1.2, 0.8)), verdicts.compare(high, *pair(high, 0.5, 0.8))]
    assert table7.noise_claim(found).verdict == NOT_REPRODUCED
    assert table7.noise_claim(found[1:]).verdict == REPRODUCED


# ---------------------------------------------------------------------------------------- end to end


def test_table_2_and_the_study_end_to_end_share_their_models(context):
    result = perform("table2", TINY, context, "command")
    assert load(context.out / "table2.json").to_dict() == result.to_dict()
    assert (context.out / "table2.png").stat().st_size > 1000
    assert [c.id for c in result.claims][:5] == [s.claim for s in TINY.settings] and len(result.claims) == 9
    assert [m["seed"] for m in result.values["settings"][0]["benign"]] == [100, 101]
    assert result.started == min(m["made"] for s in result.values["settings"] for m in (*s["benign"], *s["faulty"]))
    alone = table2.run(TINY, replace(context, parts=("t2-noise",)))
    assert [c.id for c in alone.claims] == ["t2-noise"] and alone.claims[0] == result.claims[0]
    with pytest.raises(UnusableInput, match=r"the parts are t2-noise, t2-square, .+, not fog"):
        table2.run(TINY, replace(context, parts=("t2-noise", "fog")))
    models = set(context.cache.glob("*.pt"))
    profile = study.PROFILES["tiny"]
    found = perform("study", profile, context, "command")
    assert len(set(context.cache.glob("*.pt")) - models) == 2 * 6  # of two more seeds
    assert len(found.values["rows"]) == len(DRAWN) * 2 * 2 and found.claims[0].id == ""
    assert (context.out / "study.png").stat().st_size > 1000


# --------------------------------------------------------------------------------------------- study


def swept(level: float, spread: float, seeds: int = 4, draws: int = 6) -> list[dict]:
    """Models whose s_t fluctuate by `spread` around `level`."""
    found = []
    for seed in range(seeds):
        rng = np.random.default_rng([seed, int(1000 * level)])
        drawn = [[(level * np.exp(spread * rng.normal(size=4))).tolist(), [1.0] * 4] for _ in range(draws)]
        found.append({"seed": seed, "draws": {"2": drawn, "4": drawn}, "reached": True})
    return found


def test_statistics_of_shorter_probes_are_of_the_beginnings_of_draws():
    (one,) = swept(1.0, 0.5, seeds=1)
    s = np.array(one["draws"]["2"][3][0])
    assert pairs.statistic(one, "mean_sharpness", 2, 3)[3] == pytest.approx(s[:3].mean())
    assert pairs.statistic(one, "std_log_sharpness", 2, 4)[3] == pytest.approx(np.log(s).std())
    assert pairs.statistic(one, "directional", 2, 4)[3] == pytest.approx(np.log(s**2 + 1e-8).std())
    one["draws"]["2"][3] = None
    assert pairs.statistic(one, "mean_sharpness", 2, 3)[3] == math.inf


def test_the_study_chooses_on_one_half_of_the_seeds_and_judges_on_the_other():
    profile = study.PROFILES["tiny"]
    told = [(swept(1.0, 0.1), swept(3.0, 0.1))] * 2  # the mean tells them, their fluctuation does not
    ours, default = ("mean_sharpness", 4, 4), profile.default
    assert study.worth(told, ours) == 1 > study.worth(told, default)
    second = study.half(told, second=True)
    assert [m["seed"] for m in second[0][0]] == [2, 3] and [
        m["seed"] for m in study.half(told, second=False)[0][1]
    ] == [0, 1]
    mean, low, high = study.lead(told, ours, default)
    assert mean == pytest.approx(1 - study.worth(told, default)) and low < mean < high
    claim = study.advice(profile, told, ours, 0)
    assert "mean" in claim.claim.lower() and claim.numbers.startswith(
        "smallest AUC of a single draw on the other seeds 1.00"
    )
    assert study.advice(profile, told, ours, 1).verdict == INCONCLUSIVE
    assert study.advice(profile, told, default, 0).verdict == NOT_REPRODUCED  # no lead over itself
    assert study.draws_needed(told, ours) == 1
    apart = [(swept(1.0, 1.0), swept(1.6, 1.0))]
    assert study.draws_needed(apart, ours) in (None, 2, 3, 4, 5, 6)
    assert study.draws_needed([(swept(1.0, 0.1), swept(1.0, 0.1))], ours) is None
