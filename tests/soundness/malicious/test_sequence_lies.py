"""Lies about tokens and attention: each breaks what is named, and nothing else stops the liar."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest

from circuits.compile import Certificate
from prover.execution.head.softmax import SoftmaxExecutor
from prover.execution.layers import attention
from prover.execution.layers.attention import AttentionExecutor
from prover.execution.layers.embedding import EmbeddingExecutor
from prover.execution.layers.positions import PositionsExecutor
from prover.execution.layers.prepend import PrependExecutor
from prover.execution.layers.take import TakeExecutor
from prover.execution.layers.unembedding import UnembeddingExecutor
from prover.execution.run import execute, fill_threshold
from prover.execution.witness import Witness
from tests.builders import language, patches, violations
from tests.soundness.malicious.forging import TAU, altered, honest, name_of_altered_digit, strict_name
from tests.soundness.malicious.test_lies import after, lying_name, wrapping_put

CASES = {make.__name__: make for make in (language, patches)}


@pytest.fixture(scope="module")
def made():
    """Honest witnesses by name."""
    return {name: honest(make()) for name, make in CASES.items()}


def broken(case, *lies):
    """All that the witness of an executor with patched rules breaks."""
    certificate = Certificate(case.plan)
    certificate.close(TAU)
    with mock.patch.object(Witness, "put", wrapping_put):
        for lie in lies:
            lie.start()
        try:
            witness, trace = execute(certificate, case.samples, case.randomness)
        finally:
            for lie in lies:
                lie.stop()
        fill_threshold(certificate, witness, trace)
    return violations(certificate.circuit, witness)


DIGITS = {
    ("language", "token", 0): "token",
    ("language", "embedding0/y", 0): "embedding0/forward",
    ("language", "embedding0/y", 1): "embedding0/forward",
    ("language", "positions1/y", 0): "positions1/forward",
    ("language", "attention4/q", 0): "attention4/scaled",
    ("language", "attention4/max", 0): "attention4/scores",
    ("language", "attention4/segment", 0): "attention4/scores",
    ("language", "attention4/offset", 0): "attention4/scores",
    ("language", "attention4/over", 0): "attention4/scores",
    ("language", "attention4/is-max", 0): "attention4/one-max",
    ("language", "attention4/exp", 0): "attention4/sum",
    ("language", "attention4/slope", 0): "attention4/exp",
    ("language", "attention4/bend", 0): "attention4/exp",
    ("language", "attention4/turn", 0): "attention4/exp",
    ("language", "attention4/step", 0): "attention4/exp",
    ("language", "attention4/sum", 0): "attention4/sum",
    ("language", "attention4/p", 0): "attention4/p",
    ("language", "attention4/p.remainder", 0): "attention4/p",
    ("language", "attention4/p.slack", 0): "attention4/p",
    ("language", "attention4/y", 0): "attention4/forward",
    ("language", "attention4/dp", 0): "attention4/dp",
    ("language", "attention4/mean", 0): "attention4/mean",
    ("language", "attention4/dz", 0): "attention4/dz",
    ("language", "attention4/dq", 0): "attention4/dq",
    ("language", "scale/below", 0): "scale/samples",
    ("language", "loss/x-true", 0): "loss/true-logit",
    ("language", "gradient/embedding0.weight", 0): "gradient/embedding0.weight",
    ("language", "gradient/positions1.weight", 0): "gradient/positions1.weight",
    ("patches", "prepend2/y", 0): "prepend2/first",
    ("patches", "prepend2/dx", 0): "prepend2/input-gradient",
    ("patches", "take8/y", 0): "take8/forward",
    ("patches", "take8/dx", 0): "take8/input-gradient",
    ("patches", "gradient/prepend2.weight", 0): "gradient/prepend2.weight",
}


@pytest.mark.parametrize("where", DIGITS, ids=lambda v: "-".join(map(str, v)))
def test_one_altered_digit_is_named(made, where):
    name, tensor, digit = where
    own = made[name]
    assert name_of_altered_digit(own, tensor, digit) == f"constraint/{DIGITS[where]}"


@pytest.mark.parametrize(("part", "name"), [(0, "dq-scaled"), (1, "dk"), (2, "dv")])
def test_each_third_of_a_gradient_is_named(made, part, name):
    own = made["language"]
    t = own.tensor("attention4/dx")
    with altered(own.witness, t):
        value = own.witness.value(t)
        value[0, 0, 4 * part, 1] += 1
        own.witness.put(t, value)
        assert strict_name(own.layout, own.witness, t) == f"constraint/attention4/{name}"


# ------------------------------------------------------------------------------------------------ tokens


def test_tokens_whose_numbers_add_up_are_no_token(made):
    """None, for token 0, and two for their sum: the index alone would let both pass."""
    own = made["language"]
    t = own.tensor("token")
    bits = own.witness.value(t)
    token = bits.argmax(axis=2)
    for number, instead in ((0, []), (3, [1, 2]), (4, [1, 3])):
        step, b, s = np.argwhere(token == number)[0]
        with altered(own.witness, t):
            changed = bits.copy()
            changed[step, b, :, s] = 0
            changed[step, b, instead, s] = 1
            own.witness.put(t, changed)
            found = violations(own.certificate.circuit, own.witness)
            assert "token/one" in found and "token/index" not in found
            assert strict_name(own.layout, own.witness, t) == "constraint/token"


def test_a_token_of_two_bytes_is_not_its_first(made):
    case = language(label_bytes=2)
    samples = case.samples.copy()
    samples[0, 0, 1] = 1  # 256 more: there is no such token
    certificate = Certificate(case.plan)
    certificate.close(TAU)
    witness, _ = execute(certificate, case.samples, case.randomness)
    t = certificate.samples.bytes
    bytes_ = witness.value(t)
    bytes_[...] = samples
    witness.put(t, bytes_)
    assert [name for name in violations(certificate.circuit, witness) if name.startswith("token")] == ["token/index"]


def test_a_label_that_is_the_token_itself_is_named():
    def early(self, labels, w, t):
        return self._by_row(w.value(self.head.labels, t)[:, :, :-1]).astype(object)

    found = broken(language(), after(SoftmaxExecutor, "_labels", early))
    assert {"softmax/wrong0", "softmax/true0", "loss/true-logit/x0"} <= set(found)
    assert all(name.startswith(("softmax/wrong", "softmax/true", "loss/true-logit")) for name in found)


def test_an_embedding_of_the_tokens_behind_is_named():
    lie = mock.patch.object(
        EmbeddingExecutor, "_tokens", lambda self, w, p: w.value(self.layer.x.tensor, p // 2).argmax(axis=1)[:, 1:]
    )
    named = {"embedding0/forward/digit0", "embedding0/forward/digit1"}
    gradients = {"gradient/embedding0.weight/g", "update/embedding0.weight/w"}
    assert {name.partition("[")[0] for name in broken(language(), lie)} == named | gradients


def test_an_embedding_that_is_not_perturbed_is_named():
    def first(self, w, p):
        rows = w.value(self.layer.weight, p - p % 2)[self._tokens(w, p)]
        w.put(self.layer.y.tensor, rows.swapaxes(1, 2), p)

    found = broken(language(), mock.patch.object(EmbeddingExecutor, "forward", first))
    assert found and set(found) <= {"embedding0/forward/digit0", "embedding0/forward/digit1"}


@pytest.mark.parametrize("part", ["embedding", "unembedding", "unit"])
def test_a_tied_gradient_needs_both_parts_in_their_units(part):
    def change(self, found, w, p):
        name = self.layer.weight_name
        low, *rest = found[name]
        if part == "embedding":
            return {name: [np.zeros_like(limb) for limb in found[name]]}
        return {name: [low, *(limb >> 10 for limb in rest)] if part == "unit" else found[name]}

    lies = [after(EmbeddingExecutor, "backward", change)]
    if part == "unembedding":
        lies.append(
            after(
                UnembeddingExecutor,
                "backward",
                lambda self, found, w, p: {k: [np.zeros_like(limb) for limb in v] for k, v in found.items()},
            )
        )
    found = broken(language(), *lies)
    assert {name.partition("[")[0] for name in found} == {"gradient/embedding0.weight/g", "update/embedding0.weight/w"}


# ------------------------------------------------------------------------------------------------ sequences


def test_a_position_left_out_of_a_gradient_is_named():
    def change(self, found, w, p):
        return {name: [np.where(np.arange(limb.shape[1]) == 2, 0, limb) for limb in acc] for name, acc in found.items()}

    found = broken(language(), after(PositionsExecutor, "backward", change))
    assert set(found) == {"gradient/positions1.weight/sum", *(n for n in found if n.startswith("update/positions1"))}


@pytest.mark.parametrize(("executor", "name"), [(PrependExecutor, "prepend2"), (TakeExecutor, "take8")])
def test_a_position_that_changes_places_is_named(executor, name):
    """The class token behind the others, or another position taken."""

    def change(self, found, w, p):
        y = self.layer.y.tensor
        if name == "prepend2":
            w.put(y, np.roll(w.value(y, p), 1, axis=2), p)
        else:
            x = sum(part.coef * w.value(part.tensor, part.index(p)) for part in self.layer.x.parts)
            w.put(y, x[:, :, 1:2], p)

    found = broken(patches(), after(executor, "forward", change))
    assert {name.partition("[")[0] for name in found} == (
        {"prepend2/first/first", "prepend2/later/later"} if name == "prepend2" else {"take8/forward/taken"}
    )


# ------------------------------------------------------------------------------------------------ attention


def test_what_stands_behind_is_not_attended_to():
    """A prover whose outputs read all positions although attention is causal."""

    def change(self, found, v, w, p):
        return [np.where(np.eye(self.layer.count, k=1) > 0, 1.0, limb) for limb in found]

    square = after(AttentionExecutor, "_square", change)

    def forward(self, w, p):
        with square:
            honest_forward(self, w, p)

    honest_forward = AttentionExecutor.forward
    found = broken(language(), mock.patch.object(AttentionExecutor, "forward", forward))
    assert {name.partition("[")[0] for name in found} == {"attention4/forward/sum"}


def test_another_factor_of_queries_is_named():
    """Scores of heads of two channels, not divided by the root of two."""

    def one(self, x):
        low, high = (np.asarray(limb, np.int64) << 10 for limb in x)
        return [np.zeros_like(low), low, high]

    lie = mock.patch.object(AttentionExecutor, "_times_factor", one)
    found = broken(language(), lie)
    assert {name.partition("[")[0] for name in found} == {"attention4/scaled/scaled", "attention4/dq-scaled/scaled"}


def test_a_larger_maximum_is_named():
    """All differences one unit larger: shares are the same, but for roundings."""

    class Maximum:
        @staticmethod
        def reduceat(z, starts, axis):
            return np.maximum.reduceat(z, starts, axis=axis) + 1

    class Numpy:
        maximum = Maximum

        def __getattr__(self, name):
            return getattr(np, name)

    def bits(self, here):
        made = np.zeros(here.shape, np.int64)
        made[:, :, self.starts] = 1
        return made

    lies = mock.patch.object(attention, "np", Numpy()), mock.patch.object(AttentionExecutor, "_first", bits)
    assert broken(language(), *lies) == ["attention4/max/attained"]


def test_no_maximum_and_two_are_named(made):
    own = made["language"]
    t = own.tensor("attention4/is-max")
    with altered(own.witness, t):
        bits = own.witness.value(t)
        bits[0, 0, 0, 0] = 0  # position 0 attends to itself alone
        own.witness.put(t, bits)
        assert violations(own.certificate.circuit, own.witness) == ["attention4/one-max/one"]
    with altered(own.witness, t):
        bits = own.witness.value(t)
        bits[0, 0, 0, 1:3] = 1
        own.witness.put(t, bits)
        assert set(violations(own.certificate.circuit, own.witness)) == {
            "attention4/max/attained",
            "attention4/one-max/one",
        }


def test_an_excess_below_the_last_segment_is_named():
    """The exponential of another segment, the difference made up by an excess."""

    honest_exponentials = AttentionExecutor._exponentials

    def lie(self, w, p, g, t):
        lower = np.maximum(g - 1, 0)
        w.put(self.layer.segment.tensor, lower, p)
        w.put(self.layer.over.tensor, g - lower, p)
        return honest_exponentials(self, w, p, lower, t)

    assert broken(language(), mock.patch.object(AttentionExecutor, "_exponentials", lie)) == ["attention4/max/over"]


def test_an_exponential_that_is_no_row_is_named():
    """Everything that follows from it is as it should be."""

    def change(self, e, w, p, g, t):
        w.put(self.layer.e.tensor, e + 1, p)
        return e + 1

    found = broken(language(), after(AttentionExecutor, "_exponentials", change))
    assert found == ["lookup attention4/segment"]


def test_a_share_that_is_not_rounded_down_is_named():
    """One unit less, whose remainder is the sum or more."""

    def change(self, found, w, p, e):
        layer = self.layer
        total = w.value(layer.sum.tensor, p)[:, :, self.i]
        share = w.value(layer.p.tensor, p) - 1
        w.put(layer.p.tensor, share, p)
        digits = [d.astype(np.int64) for d in attention.value_limbs(layer.p, w, p)]
        sums = [d.astype(np.int64)[:, :, self.i] for d in attention.value_limbs(layer.sum, w, p)]
        rest = (e.astype(object) << 32) - share.astype(object) * total
        self._fill(layer.run_p, w, attention.limb_products(digits, sums), rest.astype(np.int64), p)
        w.put(layer.slack.tensor, np.zeros_like(share), p)

    found = broken(language(), after(AttentionExecutor, "_probabilities", change))
    assert found == ["attention4/p/below"]


def test_a_gradient_of_scores_without_their_mean_is_named():
    """The gradient of exponentials that are not divided by their sum."""

    def lie(self, run, w, limbs, out, p, joined=True):
        honest_rescaled(self, run, w, [limb * 0 for limb in limbs] if out is self.layer.u else limbs, out, p, joined)

    honest_rescaled = AttentionExecutor._rescaled
    found = broken(language(), mock.patch.object(AttentionExecutor, "_rescaled", lie))
    assert {name.partition("[")[0] for name in found} == {"attention4/mean/mean"}


def test_the_protocol_names_such_a_lie():
    lie = mock.patch.object(
        EmbeddingExecutor, "_tokens", lambda self, w, p: w.value(self.layer.x.tensor, p // 2).argmax(axis=1)[:, 1:]
    )
    assert lying_name(language(), lie) == "constraint/embedding0/forward"
