"""How the head of the network is filled."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from circuits.head.constants import HEAD_BITS, ONE, ln_scaled
from circuits.head.softmax import MAX_SCALE, MIN_LOSS, Softmax
from circuits.language.forms import View
from zkcert.errors import RangeOverflow, ZkcertError

from ..values import read_value
from ..witness import Witness
from .exponential import evaluate, fill_exponential
from .logarithm import evaluate as evaluate_ln
from .logarithm import fill_logarithm

Ints = NDArray[np.object_]


class GradientTooSmall(ZkcertError):
    """A batch is fitted so well that its loss or gradient has too few significant bits to be certified."""


REMEDY = (
    "the score would be made of rounding errors; use samples that the model was not trained on, a larger batch, or "
    "scale weight and bias of the last layer down, which changes no answer (`zkcert measure` shows the losses)"
)


class SoftmaxExecutor:
    """Runs the head pass by pass, and fills its wires once every pass is done."""

    def __init__(self, head: Softmax) -> None:
        self.head = head
        self.results: list[dict[str, Any]] = []

    def _by_row(self, x: Any) -> Any:
        """Of tokens, (batch, classes, L) to (batch, L, classes) and back; otherwise (batch, classes)."""
        return x.swapaxes(1, 2) if self.head.spots else x.reshape(len(x), -1)

    def _labels(self, w: Witness, t: int) -> Ints:
        """One bit for each class, of step t, by row."""
        onehot = w.value(self.head.labels, t)
        return np.asarray(self._by_row(onehot[:, :, 1:] if self.head.spots else onehot).astype(object))

    def forward(self, w: Witness, p: int) -> None:
        """Deltas of pass p from its logits."""
        z = self._by_row(read_value(self.head.logits, w, p)).astype(object)
        onehot = self._labels(w, p // 2)
        top = z.max(axis=-1)
        x = top[..., None] - z
        e = evaluate(x)["y"]
        total = e.sum(axis=-1)
        prob = (e << HEAD_BITS) // total[..., None]
        wrong = prob * (1 - onehot)
        missing = wrong.sum(axis=-1)
        largest = missing.max()
        k = 0
        if p % 2 == 0:
            k = max(0, HEAD_BITS - int(largest).bit_length())
            if k > MAX_SCALE:
                raise GradientTooSmall(
                    f"step {p // 2}: every sample of the batch has its true class at a probability within 2^-32 = "
                    f"2.33e-10 of 1, closer than can be resolved: {REMEDY}"
                )
        true_delta = onehot * missing[..., None]
        scaled = ((wrong - true_delta) << k) + (1 << 23)
        w.put(self.head.dz.tensor, self._by_row((scaled >> 24).astype(np.int64)).reshape(self.head.dz.shape), p)
        self.results.append(
            {"top": top, "x": x, "total": total, "p": prob, "rem": (e << HEAD_BITS) - prob * total[..., None],
             "wrong": wrong, "missing": missing, "true": true_delta, "k": k, "dz_rem": scaled & ((1 << 24) - 1),
             "is_top": (np.arange(self.head.classes) == z.argmax(axis=-1)[..., None]).astype(np.int64)}
        )  # fmt: skip

    def batch_loss(self, w: Witness, t: int) -> int:
        """L of step t (sum over the batch, 56 fractional bits), after pass 2t; raises GradientTooSmall."""
        r = self.results[2 * t]
        ln = evaluate_ln(r["total"], 3)["ln"]
        x_true = (r["x"] * self._labels(w, t)).sum(axis=-1)
        loss = int((ln - HEAD_BITS * ln_scaled(2) + (x_true << (HEAD_BITS - 32))).sum())
        if loss < self.head.net.terms * MIN_LOSS:
            mean = loss / self.head.net.terms / ONE
            raise GradientTooSmall(
                f"step {t}: the mean loss {mean:.3g} is below the 2^-32 = 2.33e-10 that can be resolved: {REMEDY}"
            )
        if loss >= 1 << 82:
            raise RangeOverflow("loss", loss / ONE, 2.0**26)
        return loss

    def finish(self, w: Witness, losses: list[int]) -> None:
        """Fill all wires once every pass is done."""
        h = self.head

        def all_of(key: str) -> Ints:
            return np.stack([r[key] for r in self.results])

        def put(view: View, value: NDArray[Any]) -> None:
            w.put(view.tensor, value)

        firsts = self.results[::2]
        for view, key in (
            (h.top, "top"), (h.x, "x"), (h.is_top, "is_top"), (h.total, "total"), (h.p, "p"),
            (h.rem, "rem"), (h.wrong, "wrong"), (h.missing, "missing"), (h.true_delta, "true"),
            (h.dz_rem, "dz_rem"),
        ):  # fmt: skip
            put(view, all_of(key))
        put(h.slack, all_of("total")[..., None] - 1 - all_of("rem"))
        fill_exponential(h.exp, w, all_of("x"))
        scales = np.array([r["k"] for r in self.results])
        put(h.scale, (scales[:, None] == np.arange(MAX_SCALE + 1)).astype(np.int64))
        missing = np.stack([r["missing"] for r in firsts])
        flat = missing.reshape(len(missing), -1)
        largest = flat.max(axis=1)
        put(h.largest, largest)
        put(h.below, largest.reshape(-1, *[1] * (missing.ndim - 1)) - missing)
        chosen = np.array([list(row).index(m) for row, m in zip(flat, largest, strict=True)])
        put(h.is_largest, (np.arange(h.net.terms) == chosen[:, None]).astype(np.int64).reshape(missing.shape))
        k = [int(s) for s in scales[::2]]
        bound = np.array([1 << (HEAD_BITS - i) if i else 1 << (HEAD_BITS + 1) for i in k], object)
        put(h.upper, bound - 1 - largest)
        put(h.lower, largest - np.array([1 << (HEAD_BITS - 1 - i) for i in k], object))
        fill_logarithm(h.log, w, np.stack([r["total"] for r in firsts]))
        onehot = np.stack([self._labels(w, t) for t in range(h.net.steps)])
        put(h.x_true, (np.stack([r["x"] for r in firsts]) * onehot).sum(axis=-1))
        put(h.loss, np.array(losses, object))
        put(h.loss_slack, np.array(losses, object) - h.net.terms * MIN_LOSS)
        for con in (h.con, h.row, h.log.con, h.loss_con):
            w.fill_carries_in(con)

    def scale_of(self, t: int) -> int:
        return int(self.results[2 * t]["k"])
