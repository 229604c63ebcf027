"""What the figures of calibrations and membership inference show."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from zkcert.calibration import Scored, Source
from zkcert.metric import Probe, roc_plots
from zkcert.metric.calibrate import assess
from zkcert.metric.membership import ExampleScores, Membership
from zkcert.metric.plots import save_figure
from zkcert.metric.roc_plots import calibration_figure, membership_figure


def calibration(bad: bool):
    def models(kind: str, *scores: tuple[float, ...]):
        digests = [f"{kind}{i}".encode().hex().ljust(64, "0") for i in range(len(scores))]
        return [Scored(kind, digest, "a" * 64, s) for digest, s in zip(digests, scores, strict=True)]

    good, others = models("g", (0.1, 0.2, 0.6), (0.3, 0.35, 0.4)), models("b", (0.5, 0.7, 0.9)) if bad else []
    return assess(good, others, Probe(), risk=Fraction(1, 2), seed="", data=[Source("x", 9, "a" * 64)])


def test_figure_of_a_calibration_marks_tau_on_histogram_and_curve():
    made = calibration(True)
    assert made.tau_text == "0.6999"
    histogram, curve = calibration_figure(made).axes
    (line,) = [line for line in histogram.lines if line.get_label() == "tau = 0.6999"]
    assert line.get_xdata()[0] == 0.6999
    points = [line for line in histogram.lines if line.get_linestyle() == "None"]
    assert [sorted(line.get_xdata()) for line in points] == [[0.1, 0.2, 0.3, 0.35, 0.4, 0.6], [0.5, 0.7, 0.9]]
    assert [set(np.round(line.get_ydata())) for line in points] == [{0}, {1}]  # each kind in a band of its own
    (point,) = [line for line in curve.lines if line.get_label() == "tau"]
    assert (point.get_xdata()[0], point.get_ydata()[0]) == (1 / 3, 1.0)
    x, y = curve.lines[0].get_data()
    assert any(np.isclose(x, 1 / 3) & np.isclose(y, 1.0))  # tau lies on the ROC curve
    assert len(calibration_figure(calibration(False)).axes) == 1


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_figures_are_written_twice_alike(tmp_path, kind):
    members = ExampleScores(np.array([0.0, 1.0, 2.0]), np.ones(3), np.zeros(3), np.zeros(3, bool))
    others = ExampleScores(np.array([3.0, 4.0]), np.array([1.0, 5.0]), np.zeros(2), np.zeros(2, bool))
    contents = []
    for name in ("a", "b"):
        path = tmp_path / f"{name}.{kind}"
        save_figure(membership_figure(Membership.of(members, others)), path)
        contents.append(path.read_bytes())
    assert contents[0] == contents[1] and len(contents[0]) > 1000


@pytest.mark.parametrize("many", [False, True], ids=["points", "bars"])
def test_figure_of_membership_shows_every_example(many, monkeypatch):
    monkeypatch.setattr(roc_plots, "FEW", 29 if many else 30)
    rng = np.random.default_rng(0)
    members, others = (
        ExampleScores(*(np.append(rng.lognormal(s, 3.0, size=n - 1), 0.0) for _ in range(3)), np.zeros(n, bool))
        for s, n in ((0.0, 30), (1.0, 20))
    )
    curves, *histograms = membership_figure(Membership.of(members, others)).axes
    assert len(curves.lines) == 4 and len(histograms) == 3
    for axes in histograms:
        assert axes.get_xscale() == "log"
        bars = [sum(patch.get_height() for patch in bars) for bars in axes.containers]
        points = [len(line.get_xdata()) for line in axes.lines]
        assert (bars, points) == (([30, 20], []) if many else ([], [30, 20]))
        assert axes.get_ylabel() == ("examples" if many else "examples, one point each")
