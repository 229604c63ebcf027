"""Where a threshold, and a score if it is revealed, stand among the scores of calibration models."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from zkcert.calibration import Calibration, Scored
from zkcert.trust.report.html import clean, element

WIDTH, LEFT, RIGHT, TOP, ROW, FOOT = 860, 200, 20, 46, 26, 46
"""Of the drawing, in its own units: names stand to the left, the axis at the foot."""

MOST_ROWS = 15
"""Models of a kind that get a row of their own; of more, all are drawn in one row."""

_NAME = 22
Scale = Callable[[float], float]


@dataclass(frozen=True)
class Row:
    """A row: a label, good or bad, and scores."""

    label: str
    kind: str
    scores: Sequence[float]


def kinds(calibration: Calibration) -> Iterator[tuple[str, Sequence[Scored]]]:
    """The good models and the bad ones, if there are any."""
    for kind, models in (("good", calibration.good), ("bad", calibration.bad)):
        if models:
            yield kind, models


def rows_of(calibration: Calibration) -> Iterator[Row]:
    """A row for each model, the good ones first, or for each kind if its models are many."""
    for kind, models in kinds(calibration):
        if len(models) > MOST_ROWS:
            yield Row(f"{len(models)} {kind} models", kind, [score for model in models for score in model.scores])
        else:
            yield from (Row(f"{kind}: {_short(model.name)}", kind, model.scores) for model in models)


def _short(name: str) -> str:
    name = clean(name)
    return name if len(name) <= _NAME else f"{name[: _NAME - 1]}…"


def ticks(most: float) -> list[float]:
    """Round numbers from 0 to at least `most`, which is positive: at most 11 of them."""
    power = 10.0 ** math.floor(math.log10(most))
    step = next(power * part for part in (0.1, 0.2, 0.5, 1.0) if most <= 10 * power * part)
    return [i * step for i in range(math.ceil(most / step - 1e-9) + 1)]


def standing(calibration: Calibration, value: float, what: str) -> str:
    """In words: how many draws of each kind lie at or below a value."""
    out = []
    for kind, models in kinds(calibration):
        scores = [score for model in models for score in model.scores]
        below = sum(score <= value for score in scores)
        out.append(f"{below} of {len(scores)} draws of {kind} models score at most {what}")
    return "; ".join(out)


def plot(calibration: Calibration, tau: float, score: float | None) -> Element:
    """The picture, with its title and a description for whoever does not see it.

    tau    the threshold that was proved. score: the score, if the proof reveals it.
    """
    rows = list(rows_of(calibration))
    known = [tau, *(s for row in rows for s in row.scores), *(() if score is None else (score,))]
    marks = ticks(max(*known, 1e-6))
    foot = TOP + ROW * len(rows)

    def place(value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * min(value / marks[-1], 1)

    said = [f"the proven threshold, tau = {tau:.6g}"] + ([] if score is None else [f"the revealed score, {score:.6g}"])
    told = standing(calibration, tau, "tau") if score is None else standing(calibration, score, "this score")
    text = f"Each dot is the score of one draw of one model. Lines mark {' and '.join(said)}. {told}."
    return element(
        "svg",
        element("title", "Scores of the calibration models", id="plot-title"),
        element("desc", text, id="plot-desc"),
        _axis(marks, place, foot),
        (_row(row, TOP + ROW * i + ROW / 2, place) for i, row in enumerate(rows)),
        _marked("tau", tau, place, foot, 34),
        None if score is None else _marked("score", score, place, foot, 16),
        viewBox=f"0 0 {WIDTH} {foot + FOOT}",
        role="img",
        aria_labelledby="plot-title plot-desc",
    )


def _axis(marks: Sequence[float], place: Scale, foot: float) -> Iterator[Element]:
    for value in marks:
        at = f"{place(value):.1f}"
        yield element("line", class_="grid", x1=at, x2=at, y1=f"{TOP}", y2=f"{foot}")
        yield element("text", f"{value:.4g}", x=at, y=f"{foot + 18}", text_anchor="middle")
    yield element("line", class_="axis", x1=f"{LEFT}", x2=f"{WIDTH - RIGHT}", y1=f"{foot}", y2=f"{foot}")
    middle = f"{(LEFT + WIDTH - RIGHT) / 2}"
    yield element("text", "score: the lower, the flatter", x=middle, y=f"{foot + 38}", text_anchor="middle")


def _row(row: Row, y: float, place: Scale) -> Iterator[Element]:
    """Its label and its dots, one for each place on the screen; good ones are round, bad ones square."""
    yield element("text", row.label, class_="label", x=f"{LEFT - 12}", y=f"{y + 4:.1f}", text_anchor="end")
    for at in sorted({round(place(score)) for score in row.scores}):
        if row.kind == "good":
            yield element("circle", class_="draw-good", cx=f"{at}", cy=f"{y:.1f}", r="4")
        else:
            yield element("rect", class_="draw-bad", x=f"{at - 4}", y=f"{y - 4:.1f}", width="8", height="8")


def _marked(name: str, value: float, place: Scale, foot: float, y: float) -> Iterator[Element]:
    """A line across all rows, and what it is, written to the side where there is room."""
    at = place(value)
    yield element("line", class_=name, x1=f"{at:.1f}", x2=f"{at:.1f}", y1=f"{y - 10}", y2=f"{foot}")
    left = at > (LEFT + WIDTH) / 2
    where = {"x": f"{at - 6 if left else at + 6:.1f}", "y": f"{y}", "text_anchor": "end" if left else "start"}
    yield element("text", f"{name} {value:.4g}", class_=name, **where)
