"""calibration.json: how tau is chosen, and what is refused of a file nobody vouches for."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from circuits.head import score
from zkcert.calibration import (
    Calibration,
    Scored,
    Source,
    choose_tau,
    load_calibration,
    read_tau,
    read_threshold,
    reading,
)
from zkcert.calibration.choice import SIGNIFICANT_DIGITS, decimal
from zkcert.calibration.plausible import FLOAT_Y_LIMIT, Y_LIMIT, largest_score, score_limit
from zkcert.calibration.reading import rank_auc
from zkcert.errors import UnusableInput
from zkcert.files.saving import save_calibration
from zkcert.metric import BATCH_NORM_MODES, STATISTICS, STEP_FUNCTIONS, Probe
from zkcert.metric.calibrate import assess
from zkcert.metric.roc import auc
from zkcert.public.config import ProbeConfig
from zkcert.public.kinds import CALIBRATION, kind_of

SCORES = st.lists(st.floats(1e-6, 100), min_size=1, max_size=40)
RISKS = st.fractions(0, Fraction(99, 100), max_denominator=100)

# --------------------------------------------------------------------------------------------- choosing


@settings(deadline=None)
@given(SCORES, SCORES, RISKS)
def test_tau_is_the_largest_rounded_threshold_that_keeps_the_risk(good, bad, risk):
    """A further draw may tie with the k-th smallest, and is then above tau: of n + 1 draws at most k are <= tau."""
    tau = choose_tau(good, bad, risk)
    accepted, allowed = sum(Fraction(score) <= tau for score in bad), math.floor(risk * (len(bad) + 1))
    assert accepted + 1 <= max(allowed, 1)
    digits = Decimal(decimal(tau)).normalize().as_tuple().digits
    assert len(digits) <= SIGNIFICANT_DIGITS and Fraction(decimal(tau)) == tau
    # one more unit of the last digit would accept too many
    edge = sorted(bad)[max(allowed, 1) - 1]
    unit = Fraction(10) ** (math.floor(math.log10(edge)) - SIGNIFICANT_DIGITS + 1)
    assert sum(Fraction(score) <= tau + unit for score in bad) + 1 > allowed


@settings(deadline=None)
@given(SCORES, RISKS)
def test_without_bad_models_at_most_the_risk_of_the_good_draws_is_rejected(good, risk):
    tau = choose_tau(good, [], risk)
    assert sum(Fraction(score) > tau for score in good) <= risk * len(good)
    assert tau <= Fraction(max(good)) * Fraction(1001, 1000)


def test_tau_by_hand():
    bad = [0.3, 0.5, 0.7, 0.9]
    assert choose_tau([0.1], bad, Fraction(0)) == Fraction("0.2999")  # 0.3 is a little below 3/10
    assert choose_tau([0.1], bad, Fraction(1, 5)) == Fraction("0.2999")  # rank 1 of 4: one of five draws may lie below
    assert choose_tau([0.1], bad, Fraction(39, 100)) == Fraction("0.2999")
    assert choose_tau([0.1], bad, Fraction(2, 5)) == Fraction("0.4999")  # exactly 1/2 must not be accepted
    assert choose_tau([0.1], bad, Fraction(99, 100)) == Fraction("0.9")  # rank 4 of 4; the float is a little larger
    good = [i / 64 for i in range(1, 20)]
    assert choose_tau(good, [], Fraction(1, 20)) == Fraction("0.2969")  # rank 19 of 19: 0.296875
    assert choose_tau(good, [], Fraction(1, 10)) == Fraction("0.2813")  # rank 18: 0.28125
    assert choose_tau(good, [], Fraction(1, 100)) == Fraction("0.2969")  # too few for rank 20
    assert choose_tau(good[:10], [], Fraction(1, 4)) == Fraction("0.1407")  # rank 9 of 10: 0.140625
    assert choose_tau([0.5], [], Fraction(0)) == Fraction("0.5")  # nothing to round


def test_a_new_good_draw_exceeds_tau_with_at_most_the_risk():
    rng = np.random.default_rng(0)
    exceeded = []
    for _ in range(2000):
        *draws, further = rng.gamma(2.0, size=40)
        exceeded.append(further > choose_tau(draws, [], Fraction(1, 10)))
    assert 0.07 < np.mean(exceeded) < 0.12  # 37 of 41 ranks: 0.0976


@pytest.mark.parametrize("count", [60, 40, 20])
def test_a_new_bad_draw_scores_at_most_tau_with_at_most_the_risk(count):
    rng = np.random.default_rng(1)
    accepted = []
    for _ in range(4000):
        *draws, further = rng.gamma(2.0, size=count + 1)
        accepted.append(further <= choose_tau([0.1], draws, Fraction(1, 20)))
    wanted = math.floor((count + 1) / 20) / (count + 1)  # 3 of 61, 2 of 41, 1 of 21: all below 0.05
    assert np.mean(accepted) == pytest.approx(wanted, abs=0.01)


@pytest.mark.parametrize(
    ("good", "bad"), [([], [1.0]), ([1.0], [0.0, 2.0]), ([1.0], [1e-13]), ([0.0], []), ([500.0], [])]
)
def test_no_threshold_is_said(good, bad):
    with pytest.raises(UnusableInput, match=r"no threshold|at least one good"):
        choose_tau(good, bad, Fraction(1, 20))


def test_tau_stays_within_what_can_be_stated():
    assert choose_tau([1.0], [1000.0], Fraction(0)) == 128


# ------------------------------------------------------------------------------------------------ files

DATA = Source("data.npz", 100, "d" * 64)


def scored(name: str, scores: list[float]) -> Scored:
    return Scored(name, name.encode().hex().ljust(64, "0"), DATA.digest, tuple(scores))


def example(probe: Probe | None = None, **options: object) -> Calibration:
    good = [scored("g1", [0.1, 0.2, 0.3]), scored("g2", [0.2, 0.25, 0.9])]
    bad = [scored("b1", [0.75, 1.0, 1.1]), scored("b2", [0.7, 1.2, 1.3])]
    values = {"good": good, "bad": bad, "risk": Fraction(2, 7), "seed": "s", "data": [DATA], **options}
    return assess(values.pop("good"), values.pop("bad"), probe or Probe(steps=2, batch_size=2), **values)


@pytest.mark.parametrize("bad", [True, False])
def test_what_is_saved_is_read_back(tmp_path, bad):
    path = tmp_path / "calibration.json"
    made = example() if bad else example(bad=[])
    save_calibration(made, path)
    assert load_calibration(path) == made
    assert kind_of(path) == CALIBRATION
    assert json.loads(path.read_text())["tau"] == made.tau_text == ("0.7499" if bad else "0.3")
    assert Probe.from_dict(dict(load_calibration(path).probe)) == Probe(steps=2, batch_size=2)


def test_rates_and_gap_are_those_of_the_scores():
    made = example()
    assert (made.false_acceptance.count, made.false_acceptance.total) == (1, 6)
    assert (made.false_rejection.count, made.false_rejection.total) == (1, 6)
    assert made.gap == 0.7 - 0.9
    assert [m.accepted(made.tau) for m in (*made.good, *made.bad)] == [3, 2, 0, 1]
    assert made.good[0].mean == pytest.approx(0.2)
    assert example(bad=[]).gap is None


def test_acceptance_is_compared_exactly():
    third = Fraction(1, 3)
    below, above = math.nextafter(float(third), 0), math.nextafter(float(third), 1)
    assert scored("m", [below, float(third), above]).accepted(third) == (2 if Fraction(float(third)) <= third else 1)
    assert scored("m", [0.5]).accepted(Fraction(1, 2)) == 1
    assert scored("m", [0.1]).accepted(Fraction(1, 10)) == 0  # the float is a little larger
    assert scored("m", [0.3]).accepted(Fraction(3, 10)) == 1


def test_names_of_probes_are_those_of_the_metric():
    choices = {"variant": STEP_FUNCTIONS, "statistic": tuple(STATISTICS), "batch_norm": BATCH_NORM_MODES}
    assert choices == reading.PROBE_CHOICES


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def put(*place: object, value: object):
    def change(content):
        for key in place[:-1]:
            content = content[key]
        content[place[-1]] = value

    return change


def swap_kinds(content):
    content["good"], content["bad"] = content["bad"], content["good"]


HOSTILE = {
    "tau lowered": put("tau", value="0.7498"),
    "tau raised": put("tau", value="0.75"),
    "tau far up": put("tau", value="127"),
    "tau a number": put("tau", value=0.7499),
    "tau no decimal": put("tau", value="7499/10000"),
    "tau padded": put("tau", value="0.74990"),
    "tau negative": put("tau", value="-1"),
    "tau not a number": put("tau", value="nan"),
    "risk changed": put("risk", value="1/2"),
    "risk of one": put("risk", value="1"),
    "risk below zero": put("risk", value="-1/5"),
    "risk not in lowest terms": put("risk", value="4/14"),
    "a bad score raised": put("bad", 0, "scores", 0, value=2.0),
    "a bad score removed": lambda c: c["bad"][0]["scores"].pop(),
    "a negative score": put("good", 0, "scores", 0, value=-0.5),
    "an infinite score": put("bad", 0, "scores", 1, value=math.inf),
    "a score of NaN": put("good", 0, "scores", 0, value=math.nan),
    "a score no proof could show": put("bad", 1, "scores", 2, value=31.0),
    "a score too large for a float": put("bad", 1, "scores", 2, value=10**400),
    "a score of text": put("good", 0, "scores", 0, value="0.1"),
    "a score that is true": put("good", 0, "scores", 0, value=True),
    "no scores": put("good", 0, "scores", value=[]),
    "kinds swapped": swap_kinds,
    "no good models": put("good", value=[]),
    "bad models dropped": put("bad", value=[]),
    "a model twice": lambda c: c["good"].append(c["good"][0]),
    "a model both good and bad": put("bad", 0, "model", value="6731".ljust(64, "0")),
    "another digest": put("good", 0, "model", value="X" * 64),
    "data unknown": put("good", 0, "data", value="e" * 64),
    "data unused": lambda c: c["data"].append({"name": "more", "N": 3, "digest": "e" * 64}),
    "data twice": lambda c: c["data"].append(c["data"][0]),
    "no samples": put("data", 0, "N", value=0),
    "a name that drives the terminal": put("good", 0, "name", value="\x1b[2J"),
    "a long name": put("good", 0, "name", value="x" * 1000),
    "rejections undercounted": lambda c: c["false_rejection"].update(count=0, low=0.0),
    "acceptances undercounted": lambda c: c["false_acceptance"].update(count=0, low=0.0),
    "more draws than there are": put("false_rejection", "total", value=600),
    "an interval elsewhere": put("false_acceptance", "low", value=0.5),
    "an interval above one": put("false_acceptance", "high", value=1.5),
    "no false acceptance": put("false_acceptance", value=None),
    "an AUC above one": put("auc", value=1.5),
    "an AUC that flatters": put("auc", value=1.0),
    "an AUC of NaN": put("auc", value=math.nan),
    "no AUC": put("auc", value=None),
    "a format that is a list": put("format", value=[]),
    "a format that is an object": put("format", value={}),
    "a format of the future": put("format", value="zkcert-calibration-2"),
    "a key too many": put("note", value="trust me"),
    "a key too few": lambda c: c.pop("seed"),
    "a seed that is no text": put("seed", value=3),
    "no steps": put("probe", "steps", value=0),
    "a single step": put("probe", "steps", value=1),
    "true steps": put("probe", "steps", value=True),
    "many steps": put("probe", "steps", value=10**9),
    "rho of zero": put("probe", "rho", value="0"),
    "rho negative": put("probe", "rho", value="-1/20"),
    "rho in decimal": put("probe", "rho", value="0.05"),
    "rho a number": put("probe", "rho", value=0.05),
    "rho enormous": put("probe", "rho", value="1e99999999"),
    "an unknown variant": put("probe", "variant", value="asam"),
    "a variant that is a list": put("probe", "variant", value=["sam"]),
    "an unknown statistic": put("probe", "statistic", value="max"),
    "a probe with more": put("probe", "ddof", value=1),
    "a probe that is none": put("probe", value=None),
    "a list": None,
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_files_are_refused(tmp_path, change):
    path = tmp_path / "calibration.json"
    save_calibration(example(), path)
    if change is None:
        path.write_text(f"[{path.read_text()}]")
    else:
        edit(path, change)
    with pytest.raises(UnusableInput, match="not a usable calibration"):
        load_calibration(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"tau": 1, "tau": 2}',
        b'{"tau": ' + b"9" * 5000 + b"}",
    ],
)
def test_files_that_are_no_json_are_refused(tmp_path, content):
    path = tmp_path / "calibration.json"
    path.write_bytes(content)
    with pytest.raises(UnusableInput, match="not a usable calibration"):
        load_calibration(path)


def test_a_file_of_any_length_is_not_read(tmp_path):
    path = tmp_path / "calibration.json"
    save_calibration(example(), path)
    content = path.read_bytes()
    path.write_bytes(content + b" " * (reading.MAX_FILE_BYTES - len(content)))
    with pytest.raises(UnusableInput, match="edited or reformatted"):
        load_calibration(path)
    path.write_bytes(content + b" " * (reading.MAX_FILE_BYTES - len(content) + 1))
    with pytest.raises(UnusableInput, match=f"more than {reading.MAX_FILE_BYTES} bytes"):
        load_calibration(path)


def test_other_files_are_named(tiny):
    with pytest.raises(UnusableInput, match="is an announcement, where a calibration is expected"):
        load_calibration(tiny.announcement)


def test_a_missing_file_and_a_directory_are_one_line(tmp_path):
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(UnusableInput, match=str(path)):
            load_calibration(path)


def test_nothing_is_written_where_writing_fails(tmp_path):
    with pytest.raises(UnusableInput, match="not a file in an existing directory"):
        save_calibration(example(), tmp_path / "no" / "calibration.json")


# ------------------------------------------------------------------------------------------------ --tau


def test_tau_is_a_number_or_a_file(tmp_path):
    made = example()
    path = tmp_path / "calibration.json"
    save_calibration(made, path)
    for number in ("1.2", 1.2, Fraction(6, 5), Decimal("1.2"), "6/5"):
        assert read_tau(number) == (Fraction(6, 5), None)
    assert read_tau(str(path)) == read_tau(path) == (made.tau, made)
    for bad in ("-1", "200", "none.json", "", None, "nan", tmp_path / "none.json"):
        with pytest.raises(UnusableInput):
            read_tau(bad)
    with pytest.raises(UnusableInput, match=r"tau must be a number.* nor is there a calibration"):
        read_tau("calibratoin.json")


def test_a_calibration_pins_the_configuration(tmp_path):
    path = tmp_path / "calibration.json"
    save_calibration(example(), path)
    config = ProbeConfig(steps=2, batch_size=2)
    wanted = (Fraction("0.7499"), config, load_calibration(path))
    assert read_threshold(path, None) == read_threshold(path, config) == wanted
    assert read_threshold("1", config) == (Fraction(1), config, None)
    assert read_threshold("1", None) == (Fraction(1), None, None)
    with pytest.raises(UnusableInput, match="another configuration: steps, rho must be 2, 1/20"):
        read_threshold(path, ProbeConfig(steps=3, batch_size=2, rho="0.1"))


@pytest.mark.parametrize(
    "options",
    [
        {"statistic": "std-sharpness"},
        {"statistic": "cv-sharpness"},
        {"batch_norm": "train"},
        {"lr": "0.3"},
        {"rho": "9"},
        {"variant": "asam-shifted", "eta": "8"},
    ],
)
def test_what_cannot_be_proved_is_no_threshold_for_a_proof(tmp_path, options):
    path = tmp_path / "calibration.json"
    save_calibration(example(Probe(**{"steps": 3, "batch_size": 2, **options})), path)
    assert read_tau(path)[1] is not None  # an audit takes it
    with pytest.raises(UnusableInput, match=r"cannot be proved|batch_size/lr|rho must lie|eta must lie"):
        read_threshold(path, None)


def test_statistics_and_variants_are_pinned(tmp_path):
    """tau is one of the calibrated statistic, with its ddof and its eta; the file says so where it is not the usual."""
    path = tmp_path / "calibration.json"
    probe = Probe(steps=3, batch_size=2, statistic="std", ddof=1, variant="asam-samsung", eta="1/3")
    save_calibration(example(probe), path)
    pinned = ProbeConfig(steps=3, batch_size=2, statistic="std", ddof=1, variant="asam-samsung", eta="1/3")
    assert read_threshold(path, None)[1] == read_threshold(path, pinned)[1] == pinned
    assert json.loads(path.read_text())["probe"] == probe.to_dict() and probe.to_dict()["ddof"] == 1
    assert "ddof" not in Probe().to_dict()
    words = "another configuration: variant, ddof, statistic, eta must be asam-samsung, 1, std, 1/3"
    with pytest.raises(UnusableInput, match=words):
        read_threshold(path, ProbeConfig(steps=3, batch_size=2))
    for value in (0, 3, "1", True, None):
        path.unlink()
        save_calibration(example(probe), path)
        edit(path, put("probe", "ddof", value=value))
        with pytest.raises(UnusableInput, match="not a usable calibration"):
            load_calibration(path)
    path.unlink()
    save_calibration(example(Probe(steps=3, batch_size=2, statistic="max")), path)
    edit(path, put("probe", "ddof", value=1))
    with pytest.raises(UnusableInput, match="not a usable calibration"):
        load_calibration(path)


@pytest.mark.parametrize(
    ("options", "limit"),
    [
        ({"statistic": "rms"}, 2.0**23 / 20 / 2),
        ({"statistic": "max"}, 2.0**23 / 20 / 2),
        ({"statistic": "std"}, 2.0**23 / 20 / 4),
        ({"statistic": "std", "ddof": 4}, 2.0**23 / 20 / 4 * math.sqrt(5)),
    ],
)
def test_sharpnesses_have_the_limit_of_what_can_be_proved(options, limit):
    assert score_limit(Probe(steps=5, batch_size=2, **options).to_dict()) == pytest.approx(limit, rel=1e-12)


# ------------------------------------------------------------------------------------------- plausibility


def with_bad_score(score: float, probe: Probe) -> Calibration:
    return example(probe, good=[scored("g", [0.1])], bad=[scored("b", [score])], risk=Fraction(0))


def test_absurd_scores_are_refused(tmp_path):
    path, probe = tmp_path / "calibration.json", Probe(steps=2, batch_size=2)
    with pytest.raises(UnusableInput, match=r"b has a score of 1e\+300, but this probe gives at most 32"):
        with_bad_score(1e300, probe)
    made = with_bad_score(29.0, probe)
    save_calibration(made, path)
    assert load_calibration(path).tau_text == "28.99"  # large, but a proof could show it
    edit(path, put("bad", 0, "scores", 0, value=1e300))
    edit(path, put("tau", value="128"))
    with pytest.raises(UnusableInput, match=r"calibration\.json: not a usable calibration .*score of 1e\+300"):
        load_calibration(path)


@pytest.mark.parametrize(
    ("options", "limit"),
    [
        ({"batch_norm": "train"}, FLOAT_Y_LIMIT),
        ({"batch_norm": "train", "ddof": 4}, FLOAT_Y_LIMIT * math.sqrt(5)),
        ({"batch_norm": "train", "statistic": "rms"}, math.inf),
        ({"statistic": "cv-sharpness"}, math.sqrt(4)),
        ({"statistic": "std-sharpness"}, math.inf),
        ({"statistic": "mean-sharpness"}, math.inf),
        ({"statistic": "std-log-sharpness"}, FLOAT_Y_LIMIT),
        ({"variant": "asam-shifted", "eta": "9"}, FLOAT_Y_LIMIT),
    ],
)
def test_probes_that_cannot_be_proved_have_limits_of_their_own(tmp_path, options, limit):
    probe, path = Probe(**{"steps": 5, "batch_size": 2, **options}), tmp_path / "calibration.json"
    assert score_limit(probe.to_dict()) == limit
    save_calibration(with_bad_score(min(limit, 1e300), probe), path)
    assert load_calibration(path).tau == choose_tau([0.1], [min(limit, 1e300)], Fraction(0)) <= 128
    if limit < math.inf:
        with pytest.raises(UnusableInput, match="at most"):
            with_bad_score(limit * 1.01, probe)


@given(
    st.lists(st.just(0.0) | st.floats(1e-100, 1e6), min_size=5, max_size=5).filter(any),
    st.floats(5e-324, 1e308),
)
def test_no_trajectory_exceeds_the_limits_of_statistics(sharpness, ratio):
    found = np.array(sharpness)
    assert STATISTICS["cv-sharpness"](found, found) <= math.sqrt(4) * (1 + 1e-9)
    assert abs(math.log(ratio)) < FLOAT_Y_LIMIT


CONFIGS = st.builds(
    lambda rho, lr, eps, batch: ProbeConfig(steps=2, batch_size=batch, rho=rho, lr=Fraction(batch, lr), eps=eps),
    st.fractions(Fraction(1, 1000), 7, max_denominator=1000),
    st.integers(1, 1 << 22),
    st.sampled_from([Fraction(0), Fraction(1, 10**8), Fraction(1, 2)]),
    st.integers(1, 1 << 16),
)


@settings(deadline=None)
@given(CONFIGS, st.data())
def test_what_the_circuit_admits_stays_within_the_largest_score(config, data):
    """Two steps as far apart as the circuit's own limits of n, q, k, L and y let them be."""
    assert (score.LOG_RATIO[1].range.hi + 1) << 22 == int(Y_LIMIT) << 32
    rho, batch = config.rho, config.batch_size
    norms = (1, (1 << 22 * score.NORM_LIMBS) - 1)
    losses = (batch << 24, batch * ((1 << 56) * (1 << 13)))  # the least that is not refused; 2^13 nats

    def ratio(n: int, k: int, loss: int) -> Fraction:
        return rho**2 * n / ((1 << 64) * 4**k * batch**2) / Fraction(loss, batch << 56) + config.eps

    # the least n whose q = floor(rho 2^72 / sqrt(n)) is below the circuit's limit
    least = math.ceil((rho * (1 << 72) / score.Q_LIMIT) ** 2)
    n = data.draw(st.sampled_from([least, norms[1]]))
    k, loss = data.draw(st.sampled_from([0, score.MAX_SCALE])), data.draw(st.sampled_from(losses))
    ends = [ratio(norms[1], 0, losses[0]), ratio(least, score.MAX_SCALE, losses[1])]
    assert ends[1] <= ratio(n, k, loss) <= ends[0]
    high, low = (math.log(end) for end in ends)
    reachable = (min(high, Y_LIMIT) - max(low, -Y_LIMIT)) / 2
    assert reachable <= largest_score(config) * (1 + 1e-9)
    assert largest_score(config) - reachable < 1  # and not far above


# -------------------------------------------------------------------------------------------- warnings


def told(calibration: Calibration) -> str:
    return " | ".join(calibration.warnings())


def test_a_bad_model_that_passes_within_the_risk_of_all_is_named():
    """One of 20 bad models passes in all of its 8 draws: 8 of 160, the risk of 0.06 is kept."""
    good = [scored(f"g{n}", [0.1 + 0.01 * i for i in range(8)]) for n in "abc"]
    bad = [scored(f"b{n:02}", [(0.2 if n == 7 else 1.0) + 0.001 * i for i in range(8)]) for n in range(20)]
    found = example(good=good, bad=bad, risk=Fraction(6, 100))
    assert found.false_acceptance.count == 8 and found.false_acceptance.value <= 0.06
    text = "BAD MODELS PASS in a larger share of their draws than the risk of 0.06: b07 (8 of 8)"
    assert found.warnings() == [text]
    kept = example(good=good, bad=bad[:7] + bad[8:], risk=Fraction(6, 100))
    assert kept.false_acceptance.count == 0 and kept.warnings() == []


def test_a_warning_names_five_bad_models_the_most_accepted_first():
    good = [scored(f"g{n}", [0.1 + 0.01 * i for i in range(8)]) for n in "abc"]
    bad = [scored(f"b{n}", [0.2] * n + [1.0] * (8 - n)) for n in range(1, 8)]
    found = example(good=good, bad=bad, risk=Fraction(52, 100))  # rank 29 of 56: all 28 draws of 0.2 pass
    assert [m.accepted(found.tau) for m in found.bad] == list(range(1, 8))
    assert found.warnings()[0].endswith("risk of 0.52: b7 (7 of 8), b6 (6 of 8), b5 (5 of 8)")
    bad = [scored(f"b{n:02}", [0.2 if n < 8 else 1.0] + [1.0] * 7) for n in range(20)]
    text = example(good=good, bad=bad, risk=Fraction(1, 10)).warnings()[0]
    assert text.endswith(f"risk of 0.1: {', '.join(f'b{n:02} (1 of 8)' for n in range(5))}, and 3 more")
    assert "BAD" not in told(example(good=good, bad=bad, risk=Fraction(1, 8)))  # a share of 1/8 is within 1/8


def test_warnings_say_what_is_wrong():
    names = "abc"
    good = [scored(f"g{n}", [0.1 + 0.01 * i for i in range(8)]) for n in names]
    bad = [scored(f"b{n}", [1.0 + 0.01 * i for i in range(8)]) for n in names]
    assert example(good=good, bad=bad, risk=Fraction(1, 10)).warnings() == []
    swapped = example(good=bad, bad=good, risk=Fraction(1, 10))
    assert "INVERTED" in told(swapped) and "rejects most draws" in told(swapped)
    alike = [Scored(m.name, "f" * 63 + m.name[1], m.data, m.scores) for m in good]
    assert "NO SEPARATION" in told(example(good=good, bad=alike, risk=Fraction(1, 10)))
    assert told(example(good=good, bad=[], risk=Fraction(1, 10))).startswith("NO BAD MODELS")
    assert "24 bad draws cannot resolve a risk of 0.01" in told(example(good=good, bad=bad, risk=Fraction(1, 100)))
    assert "cannot resolve" not in told(example(good=good, bad=bad, risk=Fraction(1, 25)))
    assert "cannot resolve" in told(example(good=good, bad=bad, risk=Fraction(39, 1000)))
    assert "24 good draws cannot resolve" in told(example(good=good, bad=[], risk=Fraction(39, 1000)))
    few = told(example(good=good[:1], bad=bad[:2], risk=Fraction(1, 10)))
    assert "only 1 good model:" in few and "only 2 bad models:" in few


@settings(deadline=None)
@given(
    st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0, 3.5]), min_size=1, max_size=12),
    st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0, 3.5]), min_size=1, max_size=12),
)
def test_auc_by_ranks_counts_pairs(low, high):
    pairs = [(a < b) + (a == b) / 2 for a in low for b in high]
    assert rank_auc(low, high) == pytest.approx(sum(pairs) / len(pairs))
    assert rank_auc(low, high) == pytest.approx(auc(low, high))
