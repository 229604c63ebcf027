"""Whether data fit a model: accuracy and loss, shown beside a score. Wrong labels or pixels lower the score."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from zkcert.metric import Network

DEVIATIONS = 3.0
"""Standard deviations above what guessing gives, from which a number of right answers is no guessing."""

_CAUSES = (
    "so that the score says nothing. Usual causes: labels shifted or in another order, pixels not normalised as in "
    "training, axes swapped, another dataset"
)


@dataclass(frozen=True)
class Fit:
    """How a model does on n labelled samples, or positions of windows of tokens (`what`).

    correct    those whose label has the largest logit.
    loss       mean cross-entropy in nats.
    classes    of the model.
    guessed, deviation  mean and standard deviation of `correct` if the same answers met the same labels in random
               order: a model that always answers the most frequent label is right no more often than that.
    """

    correct: int
    n: int
    loss: float
    classes: int
    guessed: float
    deviation: float
    what: str = "samples"

    @staticmethod
    def of(answers: np.ndarray, labels: np.ndarray, losses: np.ndarray, classes: int) -> Fit:
        """answers, labels: n integers below `classes`, or rows of them, an answer of -1 being none; losses: numbers."""
        what = "samples" if labels.ndim == 1 else "positions"
        answers, labels, losses = answers.ravel(), labels.ravel(), losses.ravel()
        n = len(labels)
        given = np.bincount(answers[answers >= 0], minlength=classes).astype(float)
        wanted = np.bincount(labels, minlength=classes).astype(float)
        pairs = float(given @ wanted)  # of an answer and a label that agree
        spread = pairs - float(given @ wanted**2 + given**2 @ wanted) / n + pairs**2 / n**2
        deviation = math.sqrt(max(spread, 0.0) / (n - 1)) if n > 1 else 0.0
        correct = int((answers == labels).sum())
        return Fit(correct, n, math.fsum(losses) / n, classes, pairs / n, deviation, what)

    @property
    def accuracy(self) -> float:
        """correct / n."""
        return self.correct / self.n

    @property
    def near_chance(self) -> bool:
        """Whether guessing explains the right answers; not if all are right."""
        return self.correct < self.n and self.correct <= self.guessed + DEVIATIONS * self.deviation

    @property
    def warnings(self) -> tuple[str, ...]:
        """None or one."""
        if self.near_chance:
            found = (
                f"NEAR CHANCE: {self.correct} of {self.n} {self.what} are classified rightly, by guessing it would be "
            )
            return (f"{found}{self.guessed:.1f}: the data do not fit the model, {_CAUSES}",)
        if not self.loss <= math.log(max(self.classes, 2)):
            found = (
                f"HIGH LOSS: the mean loss {self.loss:.3g} is above ln {self.classes} = {math.log(self.classes):.3g}"
            )
            return (f"{found}, which equal odds for all classes give: the data do not fit the model, {_CAUSES}",)
        return ()

    def line(self) -> str:
        """For people."""
        return f"accuracy {self.accuracy:.4f} ({self.correct} of {self.n} {self.what}), mean loss {self.loss:.6g}"

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "accuracy": self.accuracy,
            "correct": self.correct,
            self.what: self.n,
            "mean_loss": self.loss,
            "guessed": self.guessed,
        }


@dataclass(frozen=True)
class Answers:
    """What a network says to samples: answers (n,), int64, -1 where a logit is no number; labels (n,); losses (n,). Of
    tokens each (n, L)."""

    answers: np.ndarray
    labels: np.ndarray
    losses: np.ndarray

    @staticmethod
    def joined(parts: Sequence[Answers]) -> Answers:
        """One after the other."""
        answers, labels, losses = zip(*((p.answers, p.labels, p.losses) for p in parts), strict=True)
        return Answers(np.concatenate(answers), np.concatenate(labels), np.concatenate(losses))

    def fit(self, classes: int, rows: object = slice(None)) -> Fit:
        """On those samples."""
        return Fit.of(self.answers[rows], self.labels[rows], self.losses[rows], classes)


def answer(network: Network, x: Tensor, y: Tensor, batch_size: int) -> Answers:
    """x: inputs [n, ...] of the network; y: labels [n] or [n, L], int64; so many samples at a time."""
    from zkcert.metric import predictions

    answers, losses = predictions(network, x, y, batch_size)
    return Answers(answers.numpy(), y.cpu().numpy(), losses.numpy())
