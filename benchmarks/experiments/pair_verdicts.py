"""What pairs of benign and faulty models say: ratios, verdicts and tables of Tables 2 and 7.

Ratios are benign/faulty as in the paper, compared by their logarithms; seeds are the units. The rules are those of
docs/results/claims.toml, by the names of claims there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.experiments.claims import all_of, judged
from benchmarks.experiments.failures import failed, settled
from benchmarks.experiments.measures import DRAWN, MEASURES
from benchmarks.experiments.pairs import EVIDENCE, Models, Setting, observed
from benchmarks.experiments.report import INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED, Claim, Table, spread
from benchmarks.experiments.separation import CLEAR_AUC, POOR_AUC, Separation, between, separation
from benchmarks.experiments.statistics import over_seeds

NOTICEABLE = math.log(0.9)
"""A log ratio above this is no separation worth the name."""

COHERENT = math.log(1.1)
"""A log ratio of coherences below this is no difference worth the name."""

NEGLIGIBLE, LARGE = 0.3, 0.5
"""S/S_rms: at most the first is negligible, above the second it is not."""

CLOSE = 0.05
"""How far the mean of an identity may be from 1."""

STATIC = ("static_asam", "static_sam")
OURS, BASELINES = "directional", ("static_asam", "accuracy")
NAMES = {**MEASURES, "accuracy": "observed accuracy", "clean_loss": "training loss, clean labels"}
MEASURED = (*DRAWN, *STATIC, "clean_loss", "accuracy")
"""What has a ratio."""


def numbers(models: Models, name: str, setting: Setting) -> np.ndarray:
    """A measure of models, [seeds, draws], or [seeds, 1] for one that is not drawn."""
    if name in DRAWN:
        return np.array([m["draws"][name] for m in models], float)
    return np.array([[observed(m, setting) if name == "accuracy" else m[name]] for m in models], float)


def log_ratio(benign: np.ndarray, faulty: np.ndarray) -> list[float]:
    """log(benign/faulty) of each seed, of the means over draws; NaN where one is not finite or not positive."""
    with np.errstate(invalid="ignore", divide="ignore"):
        found = np.log(benign.mean(1)) - np.log(faulty.mean(1))
    return [float(v) if math.isfinite(v) else math.nan for v in found]


@dataclass(frozen=True)
class Found:
    """What the models of a setting say.

    ratios     log ratios by name of MEASURED, and of "coherence" and "detection_gap", each as `over_seeds`
    leads      the log ratio of directional sharpness less those of BASELINES, by name, as `over_seeds`
    aucs       of single draws, and of the models' means, by name of MEASURED but the accuracy
    there      whether the defect is there, and about: a clause that says so
    short      how many models did not get as far as they were to be trained; lost: draws that failed
    """

    setting: Setting
    benign: Models
    faulty: Models
    ratios: Mapping[str, Mapping[str, Any]]
    leads: Mapping[str, Mapping[str, Any]]
    aucs: Mapping[str, Separation]
    there: bool
    about: str
    short: int
    lost: int

    @property
    def sound(self) -> bool:
        """Whether anything can be concluded."""
        return self.there and not self.short and not self.lost

    def open(self, verdict: str) -> str:
        """The verdict, or that there is none."""
        return verdict if self.sound else INCONCLUSIVE

    @property
    def clause(self) -> str:
        """What a reader has to know beside the numbers."""
        parts = [self.about] if self.about else []
        parts += [f"{self.short} models short of their training"] if self.short else []
        parts += [f"{self.lost} draws failed"] if self.lost else []
        return "".join(f"; {part}" for part in parts)


def compare(setting: Setting, benign: Models, faulty: Models) -> Found:
    """Everything about one setting; models of the same seeds in the same order."""
    both = {name: (numbers(benign, name, setting), numbers(faulty, name, setting)) for name in MEASURED}
    logs = {name: log_ratio(*pair) for name, pair in both.items()}
    for name in ("coherence", "detection_gap"):
        logs[name] = log_ratio(*(np.array([[m[name]] for m in models], float) for models in (benign, faulty)))
    there, about = EVIDENCE[setting.evidence](benign, faulty)
    return Found(
        setting,
        benign,
        faulty,
        ratios={name: over_seeds(values) for name, values in logs.items()},
        leads={name: over_seeds([a - b for a, b in zip(logs[OURS], logs[name], strict=True)]) for name in BASELINES},
        aucs={name: separation(*pair, 1) for name, pair in both.items() if name != "accuracy"},
        there=there,
        about=about,
        short=sum(not m["reached"] for m in (*benign, *faulty)),
        lost=sum(failed(m["draws"][OURS]) for m in (*benign, *faulty)),
    )


# --------------------------------------------------------------------------------------------------- verdicts


def separates(found: Found) -> str:
    """t2-noise and those like it."""
    own, leads = found.ratios[OURS], found.leads.values()
    verdict = INCONCLUSIVE
    if own["low"] > NOTICEABLE or any(lead["low"] > 0 for lead in leads):
        verdict = NOT_REPRODUCED
    elif own["high"] < 0 and own["mean"] <= NOTICEABLE and all(lead["high"] < 0 for lead in leads):
        verdict = REPRODUCED
    return found.open(settled(verdict, own["mean"], [lead["mean"] for lead in leads]))


def of_a_draw(found: Found) -> str:
    """t2-single, of one setting."""
    auc = found.aucs[OURS]
    verdict = INCONCLUSIVE
    if auc.auc >= CLEAR_AUC and auc.low > 0.5:
        verdict = REPRODUCED
    elif auc.high < POOR_AUC:
        verdict = NOT_REPRODUCED
    return found.open(verdict)


def incoherent(found: Found) -> str:
    """a3-coherence, of one setting."""
    ratio = found.ratios["coherence"]
    verdict = REPRODUCED if ratio["low"] > 0 else NOT_REPRODUCED if ratio["high"] < COHERENT else INCONCLUSIVE
    return found.open(settled(verdict, ratio["mean"]))


def negligible(found: Found) -> str:
    """th2-negligible, of one setting."""
    share, gap = share_of(found.faulty), found.ratios["detection_gap"]
    verdict = INCONCLUSIVE
    if share > LARGE or gap["low"] > 0:
        verdict = NOT_REPRODUCED
    elif share <= NEGLIGIBLE and gap["high"] < 0:
        verdict = REPRODUCED
    return found.open(settled(verdict, share, gap["mean"]))


def share_of(models: Models) -> float:
    """The mean of S/S_rms."""
    return float(np.mean([m["full"] / m["rms"] for m in models]))


def identity(models: Models) -> dict[str, Any]:
    """Both sides of Eq. 3, sampled over exact, of each seed, as `over_seeds`."""
    return over_seeds([(m["sampled"] ** 2 - m["full"] ** 2) / m["detection_gap"] for m in models])


def holds(found: Mapping[str, Any]) -> bool:
    """th2-identity, of one kind of model."""
    within = math.isfinite(found["high"]) and found["low"] <= 1 <= found["high"]
    return bool(within or abs(found["mean"] - 1) <= CLOSE)


def separation_claim(found: Found) -> Claim:
    """The verdict of one setting."""
    leads = "; ".join(f"less that of {NAMES[name]} {shown(lead)}" for name, lead in found.leads.items())
    said = (
        f"ratios: directional {ratio(found.ratios[OURS])}, static ASAM {ratio(found.ratios['static_asam'])}, accuracy "
        f"{ratio(found.ratios['accuracy'])}; log ratio {leads}; AUC of single draws {area(found.aucs[OURS])}"
    )
    return judged(found.setting.claim, separates(found), said + found.clause)


def common_claims(settings: Sequence[Found]) -> list[Claim]:
    """The claims about all settings of Table 2 together."""
    kinds = {
        name: models
        for f in settings
        for name, models in ((f"{f.setting.title}, benign", f.benign), (f"{f.setting.title}, faulty", f.faulty))
    }
    sides = {name: identity(models) for name, models in kinds.items()}
    return [
        judged("t2-single", *_of_all(settings, of_a_draw, lambda f: f"AUC {area(f.aucs[OURS])}")),
        judged(
            "a3-coherence",
            *_of_all(settings, incoherent, lambda f: f"benign/faulty {ratio(f.ratios['coherence'])}, {coherences(f)}"),
        ),
        judged(
            "th2-identity",
            REPRODUCED if all(map(holds, sides.values())) else NOT_REPRODUCED,
            "; ".join(f"{name} {shown(side)}" for name, side in sides.items()),
        ),
        judged(
            "th2-negligible",
            *_of_all(
                settings,
                negligible,
                lambda f: (
                    f"S/S_rms {share_of(f.faulty):.2f} (benign {share_of(f.benign):.2f}), gap benign/faulty "
                    f"{ratio(f.ratios['detection_gap'])}"
                ),
            ),
        ),
    ]


def _of_all(settings: Sequence[Found], rule: Any, said: Any) -> tuple[str, str]:
    verdicts = [rule(found) for found in settings]
    parts = [f"{f.setting.title}: {v} ({said(f)})" for f, v in zip(settings, verdicts, strict=True)]
    return all_of(verdicts), "; ".join(parts)


# ----------------------------------------------------------------------------------------------------- tables


def shown(value: Mapping[str, Any]) -> str:
    """A mean over seeds and its interval."""
    return f"{value['mean']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"


def ratio(value: Mapping[str, Any]) -> str:
    """The same of a log ratio, as a ratio; one that is the same for all seeds has no interval."""
    mean = math.exp(value["mean"])
    if math.isinf(value["high"]):
        return f"{mean:.3f}"
    return f"{mean:.3f} [{math.exp(value['low']):.3f}, {math.exp(value['high']):.3f}]"


def area(found: Separation) -> str:
    """The AUC over single draws and its interval."""
    return f"{found.auc:.2f} {between(found.low, found.high, 2)}"


def coherences(found: Found) -> str:
    """Of both kinds."""
    return "c_g " + " and ".join(spread(m["coherence"] for m in models) for models in (found.benign, found.faulty))


def tables(settings: Sequence[Found]) -> list[Table]:
    """As the paper's table; every measure; the models."""
    overview = [
        [
            f.setting.title,
            *(spread(observed(m, f.setting) for m in models) for models in (f.benign, f.faulty)),
            *(ratio(f.ratios[name]) for name in ("accuracy", "static_asam", OURS)),
            area(f.aucs[OURS]),
            f.clause.removeprefix("; "),
        ]
        for f in settings
    ]
    every = [
        [f.setting.title, NAMES[name], ratio(f.ratios[name]), f"{f.aucs[name].auc_models:.2f}", area(f.aucs[name])]
        for f in settings
        for name in MEASURED
        if name != "accuracy"
    ]
    return [
        Table(
            "Benign/faulty ratios, geometric means over seeds with Student's 95 % intervals; a smaller ratio separates "
            "better. AUC: of single draws, a faulty model above a benign one",
            ["setting", "observed, benign", "faulty", "accuracy", "static ASAM", "directional", "AUC of a draw", ""],
            overview,
        ),
        Table(
            "Every measure on the clean training set: ratio of the means over draws, AUC over models, AUC over single "
            "draws (leaving out seeds)",
            ["setting", "measure", "ratio", "AUC, models", "AUC, draws"],
            every,
        ),
        _models(settings),
    ]


def _models(settings: Sequence[Found]) -> Table:
    columns = {
        "epochs": "epochs",
        "own_accuracy": "accuracy, labels trained on",
        "clean_accuracy": "clean training accuracy",
        "clean_loss": "clean training loss",
        "test_accuracy": "test accuracy",
        "gap": "gap (losses)",
        "coherence": "coherence",
    }
    rows = []
    for f in settings:
        for kind, models in (("benign", f.benign), ("faulty", f.faulty)):
            cells = [spread(m[name] for m in models) for name in columns]
            rows.append([f.setting.title, kind, *cells, f"{share_of(models):.2f}", shown(identity(models))])
    title = "The models: mean ± deviation over seeds; S/S_rms and the identity of Theorem 2 (sampled over exact)"
    return Table(title, ["setting", "model", *columns.values(), "S/S_rms", "Eq. 3"], rows)


def draw_ratios(settings: Sequence[Mapping[str, Any]], axis: Any) -> None:
    """The ratio of each of three measures by setting, with its interval; one message: which is the smallest."""
    marks = (("accuracy", "s", "0.6"), ("static_asam", "D", "0.35"), (OURS, "o", "black"))
    for row, found in enumerate(settings):
        for i, (name, mark, colour) in enumerate(marks):
            value = found["ratios"][name]
            place = row + 0.22 * (i - 1)
            if math.isfinite(value["mean"]):
                if math.isfinite(value["low"]):
                    axis.plot([math.exp(value["low"]), math.exp(value["high"])], [place] * 2, color=colour)
                axis.plot(math.exp(value["mean"]), place, mark, color=colour, markersize=6)
    axis.axvline(1, color="0.8", zorder=0)
    axis.set_xscale("log")
    axis.set_yticks(range(len(settings)), [found["title"] for found in settings])
    axis.invert_yaxis()
    axis.set_xlabel(
        "value on the benign model over value on the faulty one (smaller separates better)\n"
        "circle: directional sharpness; diamond: static ASAM sharpness; square: observed accuracy"
    )


def values_of(settings: Sequence[Found]) -> list[dict[str, Any]]:
    """JSON values of every setting."""
    return [
        {
            "claim": f.setting.claim,
            "title": f.setting.title,
            "ratios": f.ratios,
            "leads": f.leads,
            "aucs": {name: found.to_dict() for name, found in f.aucs.items()},
            "benign": [{k: v for k, v in m.items() if k != "hits"} for m in f.benign],
            "faulty": [{k: v for k, v in m.items() if k != "hits"} for m in f.faulty],
        }
        for f in settings
    ]
