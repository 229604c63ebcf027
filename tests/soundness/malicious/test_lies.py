"""Lies consistent with themselves, and lies about the threshold: what the constraints of head and layers are for."""

from __future__ import annotations

from dataclasses import replace
from unittest import mock

import numpy as np
import pytest

from circuits.compile import Certificate
from circuits.head.score import SCALED_LOSS_LIMBS
from circuits.layers.maxpool2d import MaxPool2d
from circuits.layers.relu import ReLU
from prover.argument import prove_circuit
from prover.execution import run, values
from prover.execution.head import exponential, logarithm, score, softmax
from prover.execution.head.score import LogRatioExecutor, StepSizeExecutor
from prover.execution.head.softmax import SoftmaxExecutor
from prover.execution.layers.batchnorm2d import BatchNorm2dExecutor
from prover.execution.layers.leaky_relu import LeakyReLUExecutor
from prover.execution.layers.maxpool2d import MaxPool2dExecutor
from prover.execution.layers.relu import ReLUExecutor
from prover.execution.probe import ParameterExecutor
from prover.execution.run import execute, fill_threshold
from prover.execution.values import read_value
from prover.execution.witness import Witness
from tests.builders import Digits, Graph, wide
from tests.soundness.malicious.forging import (
    TAU,
    altered,
    full_name,
    lying_threshold,
    other_digit,
    strict_name,
    transcript,
    verdict,
)
from verifier.argument import verify_circuit
from zkcert.errors import RangeOverflow

# ------------------------------------------------------------------------------------------------ consistent lies


@pytest.mark.parametrize("name", ["relu1", "relu4"])
def test_an_output_that_is_not_the_positive_part_is_named(cnn, name):
    """Output one more, magnitude two more: the pre-activation they stand for is the same."""
    relu = next(layer for layer in cnn.certificate.layers if isinstance(layer, ReLU) and layer.name == name)
    w = cnn.witness
    with altered(w, relu.y.tensor, relu.magnitude.tensor):
        for t, change in ((relu.y.tensor, 1), (relu.magnitude.tensor, 2)):
            values = w.value(t)
            values[0, 0, 0, 0] += change
            w.put(t, values)
        assert strict_name(cnn.layout, w) == f"constraint/{name}/forward"


BRANCHES = {
    ("relu2/y", 0): "conv2d0/forward",  # read by the samples' sum, two convolutions and a shortcut
    ("relu7/y", 1): "conv2d5/forward",
    ("relu7/magnitude", 0): "conv2d5/forward",
    ("conv2d8/z", 0): "conv2d8/forward",
    ("conv2d12/z", 1): "conv2d12/forward",
    ("linear17/z", 0): "linear17/forward",
    ("relu18/sign", 0): "relu18/forward",
    ("relu18/magnitude", 1): "relu18/forward",
    ("linear19/z", 0): "linear19/forward",
    ("softmax/dz", 0): "softmax",
    ("relu18/dx", 0): "relu18/backward",
    ("conv2d10/dx", 0): "conv2d10/input-gradient",
    ("conv2d8/dx", 0): "conv2d8/input-gradient",
    ("relu7/dx", 1): "relu7/backward",
}


@pytest.mark.parametrize(("where", "name"), BRANCHES.items(), ids=lambda v: "-".join(map(str, v)))
def test_one_altered_digit_of_a_branch_is_named(branches, where, name):
    t = branches.tensor(where[0])
    with altered(branches.witness, t) as (digits,):
        at = digits.at(where[1], 0)
        digits[at] = other_digit(int(digits[at]), t.digits[where[1]].range)
        assert strict_name(branches.layout, branches.witness, t) == f"constraint/{name}"


def test_a_forgotten_shortcut_is_named(branches):
    def alone(relu, w, z, p, rows=None):
        w.put(relu.bit.tensor, (z > 0).astype(np.int64), p, rows)
        w.put(relu.magnitude.tensor, abs(z) - (z > 0), p, rows)
        w.put(relu.a.tensor, z * (z > 0), p, rows)

    lie = mock.patch.object(values, "put_rectified", alone)
    assert lying_name(branches.case, lie) == "constraint/conv2d0/forward"


def test_a_gradient_that_forgets_a_branch_is_named(branches):
    def first_reader(self, result, w, p):
        relu = self.layer
        dy = w.value(relu.dy.parts[0].tensor, p)
        w.put(relu.dx.tensor, dy * w.value(relu.bit.tensor, p), p)
        return result

    assert lying_name(branches.case, after(ReLUExecutor, "backward", first_reader)) == "constraint/relu7/backward"


def test_a_network_with_branches_is_proved(branches):
    verify_circuit(branches.layout, transcript(), prove_circuit(branches.layout, branches.witness, transcript()))


NORMS = {
    ("batchnorm2d0/u", 0): "batchnorm2d0/scale",
    ("batchnorm2d0/u", 1): "batchnorm2d0/scale",
    ("batchnorm2d0/y", 0): "batchnorm2d0/forward",
    ("weight/batchnorm2d2.weight", 0): "batchnorm2d2/scale",
    ("weight/batchnorm2d2.bias", 1): "batchnorm2d2/forward",
    ("y.remainder", 0): "batchnorm2d0/forward",
    ("relu3/magnitude", 1): "batchnorm2d2/forward",
    ("relu7/sign", 0): "batchnorm2d5/forward",
    ("batchnorm2d5/dx", 0): "batchnorm2d5/input-gradient",
    ("batchnorm2d2/dx", 1): "batchnorm2d2/input-gradient",
    ("batchnorm2d0/h", 0): "batchnorm2d0/sums",
    ("h.remainder", 1): "batchnorm2d10/sums",
    ("gradient/batchnorm2d2.weight", 0): "gradient/batchnorm2d2.weight",
    ("gradient/batchnorm2d2.bias", 0): "gradient/batchnorm2d2.bias",
    ("update/batchnorm2d2.weight.remainder", 2): "update/batchnorm2d2.weight",
}


@pytest.mark.parametrize(("where", "name"), NORMS.items(), ids=lambda v: "-".join(map(str, v)))
def test_one_altered_digit_of_a_batch_norm_is_named(norms, where, name):
    t = norms.tensor(where[0])
    with altered(norms.witness, t) as (digits,):
        at = digits.at(where[1], 0)
        digits[at] = other_digit(int(digits[at]), t.digits[where[1]].range)
        assert strict_name(norms.layout, norms.witness, t) == f"constraint/{name}"


@pytest.mark.parametrize(("change", "name"), [("factors", "scale"), ("signed_means", "forward")])
def test_other_public_statistics_are_named(norms, change, name):
    """The executor believes in a factor, or a mean, one unit larger."""

    def swapped(original):
        def run(self, *args):
            own = getattr(self.layer, change)
            if change == "factors":
                other = [(own[0][0] + 1, *own[0][1:]), own[1]]
            else:
                (sign, k, limb), *rest = own
                other = [(sign, k, (limb[0] + 1, *limb[1:])), *rest]
            setattr(self.layer, change, other)
            try:
                return original(self, *args)
            finally:
                setattr(self.layer, change, own)

        return run

    method = "_times_factor" if change == "factors" else "_minus_mean"
    lie = mock.patch.object(BatchNorm2dExecutor, method, swapped(getattr(BatchNorm2dExecutor, method)))
    assert lying_name(norms.case, lie) == f"constraint/batchnorm2d0/{name}"


def test_a_network_with_batch_norms_is_proved(norms):
    verify_circuit(norms.layout, transcript(), prove_circuit(norms.layout, norms.witness, transcript()))


SUMS = ("add7/sum", "add16/sum", "add7/dy")


@pytest.mark.parametrize("digit", [0, 1])
@pytest.mark.parametrize("name", SUMS)
def test_one_altered_digit_of_a_long_sum_is_named(sums, name, digit):
    t = sums.tensor(name)
    with altered(sums.witness, t) as (digits,):
        at = digits.at(digit, 0)
        digits[at] = other_digit(int(digits[at]), t.digits[digit].range)
        assert strict_name(sums.layout, sums.witness, t) == f"constraint/{name}"


ADDENDS = {
    "one is forgotten": lambda self, w, p: -part_of(self, 0, w, p),
    "one counts twice": lambda self, w, p: part_of(self, -1, w, p),
    "one stands for another": lambda self, w, p: part_of(self, 0, w, p) - part_of(self, 1, w, p),
    "one unit more": lambda self, w, p: np.ones(self.x.shape, np.int64),
}


def part_of(total, which, w, p):
    """One addend of a long sum in pass p."""
    part = total.x.parts[which]
    return w.value(part.tensor, part.index(p)) * part.coef


@pytest.mark.parametrize(("name", "lie"), [*zip(SUMS, list(ADDENDS)[:3], strict=True), (SUMS[0], "one unit more")])
def test_a_long_sum_of_something_else_is_named(sums, name, lie):
    """What follows is computed from the wrong sum, consistently."""

    def change(self, result, w, p):
        t = self.value.tensor
        if t.name == name:
            w.put(t, w.value(t, p) + ADDENDS[lie](self, w, p), p)

    assert lying_name(sums.case, after(run, "fill_total", change)) == f"constraint/{name}"


def test_a_network_with_long_sums_is_proved_and_with_a_wrong_one_rejected(sums):
    verify_circuit(sums.layout, transcript(), prove_circuit(sums.layout, sums.witness, transcript()))
    with altered(sums.witness, sums.tensor("add7/dy")) as (digits,):
        at = digits.at(0, 1)
        digits[at] = other_digit(int(digits[at]), sums.tensor("add7/dy").digits[0].range)
        assert verdict(sums.layout, sums.witness) == "hidden-equations"


LEAKS = {
    ("leaky_relu0/sign", 0): "leaky_relu0/sign",
    ("leaky_relu13/magnitude", 1): "leaky_relu13/sign",
    ("leaky_relu0/y", 0): "leaky_relu0/forward",
    ("y.remainder", 1): "leaky_relu0/forward",
    ("relu5/magnitude", 0): "leaky_relu4/forward",
    ("leaky_relu7/dx", 1): "leaky_relu7/input-gradient",
    ("leaky_relu2/dx", 0): "leaky_relu2/input-gradient",
}


@pytest.mark.parametrize(("where", "name"), LEAKS.items(), ids=lambda v: "-".join(map(str, v)))
def test_one_altered_digit_of_a_leaky_relu_is_named(leaks, where, name):
    t = leaks.tensor(where[0])
    with altered(leaks.witness, t) as (digits,):
        at = digits.at(where[1], 0)
        digits[at] = other_digit(int(digits[at]), t.digits[where[1]].range)
        assert strict_name(leaks.layout, leaks.witness, t) == f"constraint/{name}"


@pytest.mark.parametrize(
    ("method", "name"), [("forward", "leaky_relu0/forward"), ("backward", "leaky_relu13/input-gradient")]
)
def test_another_slope_is_named(leaks, method, name):
    """The executor believes in a slope one unit larger."""
    original = getattr(LeakyReLUExecutor, method)

    def steeper(self, *args):
        self.layer.slope += 1
        try:
            return original(self, *args)
        finally:
            self.layer.slope -= 1

    assert lying_name(leaks.case, mock.patch.object(LeakyReLUExecutor, method, steeper)) == f"constraint/{name}"


def test_a_negative_value_that_a_leaky_relu_lets_pass_is_named(leaks):
    """Its bit says that it is positive, and all else follows; the magnitude would have to be negative."""
    w = leaks.witness
    layer = leaks.certificate.layers[0]
    y, bit, magnitude, rem = layer.y.tensor, layer.bit.tensor, layer.magnitude.tensor, layer.run.remainder
    z = read_value(layer.x, w, 0)
    at = 0, *np.argwhere(z < 0)[0]
    with altered(w, y, bit, magnitude, rem):
        for t, value in ((y, z[at[1:]]), (bit, 1), (magnitude, -z[at[1:]] - 1), (rem, 1 << 31)):
            values = w.value(t)
            values[at] = value
            w.put(t, values)
        assert strict_name(leaks.layout, w) == "constraint/leaky_relu0/sign"


def test_a_network_with_leaky_relus_is_proved(leaks):
    verify_circuit(leaks.layout, transcript(), prove_circuit(leaks.layout, leaks.witness, transcript()))


def test_a_window_without_a_choice_is_named(cnn):
    """y one above the maximum, no choice bit: slacks and products are as they must be, only the sum of bits is not."""
    pool = next(layer for layer in cnn.certificate.layers if isinstance(layer, MaxPool2d))
    w, windows = cnn.witness, pool.s.size
    with altered(w, pool.y.tensor, pool.choice.tensor, pool.slack.tensor) as (_, choice, _):
        y, slack = w.value(pool.y.tensor), w.value(pool.slack.tensor)
        own = choice[0, 0, 0, 0, ::windows]
        before = np.arange(len(own)) < int(own.argmax())
        y[0, 0, 0, 0] += 1
        slack[0, 0, 0, ::windows] += before  # y - x_k - 1 for every k, with y one more
        choice[0, 0, 0, 0, ::windows] = 0
        w.put(pool.y.tensor, y)
        w.put(pool.slack.tensor, slack)
        assert strict_name(cnn.layout, w) == "constraint/maxpool2d2/choice"


def test_a_pooled_value_above_its_window_is_named(cnn):
    """y and all slacks one more: only the chosen position's slack should have been zero."""
    pool = next(layer for layer in cnn.certificate.layers if isinstance(layer, MaxPool2d))
    w, windows = cnn.witness, pool.s.size
    with altered(w, pool.y.tensor, pool.slack.tensor):
        y, slack = w.value(pool.y.tensor), w.value(pool.slack.tensor)
        y[0, 0, 0, 0] += 1
        slack[0, 0, 0, ::windows] += 1
        w.put(pool.y.tensor, y)
        w.put(pool.slack.tensor, slack)
        assert strict_name(cnn.layout, w) == "constraint/maxpool2d2/forward"


def test_an_unattained_maximum_is_named(cnn):
    head, w = cnn.certificate.head, cnn.witness
    with altered(w, head.is_top.tensor) as (bits,):
        bits[...] = 0
        assert strict_name(cnn.layout, w) == "constraint/softmax/rows"


def scaled_deltas(head, w, p, bits, power):
    """Set the scale bits of pass p and follow with everything the softmax constraint holds together."""
    scale = Digits(w, head.scale.tensor)
    scale[0, 0, p] = 0
    scale[0, 0, p, bits] = 1
    delta = wide(w, head.wrong)[0, p] - wide(w, head.true_delta)[0, p]
    scaled = delta * power + (1 << 23)
    w.put(head.dz.tensor, (scaled >> 24).astype(np.int64), p)
    rem = w.value(head.dz_rem.tensor).astype(object)
    rem[0, p] = scaled & ((1 << 24) - 1)
    w.put(head.dz_rem.tensor, rem)
    w.fill_carries(dz_carries(head), head.con.out)


def dz_carries(head):
    """The last that the constraint of the head has."""
    return head.con.carries[-1]


def delta_tensors(head):
    return head.scale.tensor, head.dz.tensor, head.dz_rem.tensor, *(s.carry.tensor for s in dz_carries(head) if s.carry)


def test_two_scales_at_once_are_named(cnn):
    head = cnn.certificate.head
    with altered(cnn.witness, *delta_tensors(head)):
        scaled_deltas(head, cnn.witness, 1, [0, 1], 3)
        assert strict_name(cnn.layout, cnn.witness) == "constraint/scale/one"


def test_a_scaled_second_gradient_is_named(cnn):
    head = cnn.certificate.head
    with altered(cnn.witness, *delta_tensors(head)):
        scaled_deltas(head, cnn.witness, 1, [3], 8)
        assert strict_name(cnn.layout, cnn.witness) == "constraint/scale/second-passes"


# -- executions with another rule, honest ever after


def wrapping_put(self, t, values, index=None, rows=None):
    """`Witness.put` of a prover who squeezes what does not fit into the range."""
    shape = self.digit(t, 0, index, rows).shape
    rest = np.asarray(values).reshape(shape).astype(object)
    for i, d in enumerate(t.digits):
        width = t.digits[i + 1].shift - d.shift if i + 1 < len(t.digits) else None
        size = d.range.size if width is None else 1 << width
        digit = ((rest - d.range.lo) % size) + d.range.lo
        if width is not None:
            rest = (rest - digit) >> width
        self.write(t, i, np.asarray(digit, np.int64).reshape(shape), index, rows)


def lying_name(case, *patches, plan=None):
    """The constraint named when the executor follows patched rules (and squeezes what no longer fits)."""
    certificate = Certificate(case.plan)
    if plan:
        certificate.plan = plan
    layout = certificate.close(TAU)
    with mock.patch.object(Witness, "put", wrapping_put):
        for p in patches:
            p.start()
        try:
            witness, trace = execute(certificate, case.samples, case.randomness)
        finally:
            for p in patches:
                p.stop()
        certificate.plan = case.plan  # which says what is public
        fill_threshold(certificate, witness, trace)
    return strict_name(layout, witness)


def after(cls, method, change):
    """Patch a method: `change(self, result, *args)` gives the new result."""
    original = getattr(cls, method)

    def changed(self, *args):
        return change(self, original(self, *args), *args)

    return mock.patch.object(cls, method, changed)


@pytest.mark.parametrize("lie", [-1, 1])
def test_another_step_size_is_named(cnn, lie):
    assert lying_name(cnn.case, after(StepSizeExecutor, "solve", lambda self, q, *_: q + lie)) == "constraint/step-size"


def nudge(passes):
    """Moves one weight by one unit in the last place."""

    def change(self, result, w, t, *_):
        if self.parameter.g.name == "conv2d3.weight":
            weight = self.parameter.weight
            value = w.value(weight, 2 * t + passes)
            value.flat[4] += 1
            w.put(weight, value, 2 * t + passes)
        return result

    return change


def test_a_later_weight_off_by_one_unit_is_named(cnn):
    lie = after(ParameterExecutor, "second_pass", nudge(2))
    assert lying_name(cnn.case, lie) == "constraint/update/conv2d3.weight"


def test_a_perturbed_weight_off_by_one_unit_is_named(cnn):
    lie = after(ParameterExecutor, "perturb", nudge(1))
    assert lying_name(cnn.case, lie) == "constraint/perturbation/conv2d3.weight"


def test_other_public_weights_are_named(cnn):
    weights = {**cnn.case.plan.weights}
    weights["conv2d0.bias"] = weights["conv2d0.bias"] + np.array([0, 1, 0])
    plan = replace(cnn.case.plan, weights=weights)
    assert lying_name(cnn.case, plan=plan) == "constraint/public/weight/conv2d0.bias"


def test_a_gradient_through_a_negative_pre_activation_is_named(cnn):
    def leak(self, result, w, p):
        relu = self.layer
        if relu.dx is not None:
            dx = w.value(relu.dx.tensor, p)
            closed = np.argwhere(w.value(relu.bit.tensor, p) == 0)[0]
            dx[tuple(closed)] += 5
            w.put(relu.dx.tensor, dx, p)
        return result

    assert lying_name(cnn.case, after(ReLUExecutor, "backward", leak)) == "constraint/relu4/backward"


@pytest.mark.parametrize("rule", ["last of equals", "smallest"])
def test_another_pooling_choice_is_named(cnn, rule):
    def choose(self, w, p):
        pool = self.layer
        x = read_value(pool.x, w, p)[:, :, pool.reads.index]
        if rule == "smallest":
            pick = x.argmin(axis=2)
        else:
            pick = x.shape[2] - 1 - x[:, :, ::-1].argmax(axis=2)
            assert np.any(pick != x.argmax(axis=2))  # zeros after a ReLU: there are ties
        y = np.take_along_axis(x, pick[:, :, None], axis=2)
        order = np.arange(pool.k.size)[:, None]
        w.put(pool.y.tensor, y[:, :, 0], p)
        w.put(pool.choice.tensor, (order == pick[:, :, None]).astype(np.int64).reshape(pool.choice.tensor.shape), p)
        w.put(pool.slack.tensor, (y - x - (order < pick[:, :, None])).reshape(pool.choice.tensor.shape), p)

    lie = mock.patch.object(MaxPool2dExecutor, "forward", choose)
    assert lying_name(cnn.case, lie) == "constraint/maxpool2d2/forward"


def confident_case():
    """A network that is sure of itself, and right in the first batch: its loss scale is not zero."""
    graph = Graph(np.random.default_rng(3), [1, 3, 4], scale=6).flatten().linear(4)
    certificate, w, _ = graph.case(batch=1).execute()
    guess = w.value(certificate.head.logits.tensor, 0).argmax(axis=1)
    case = graph.case(batch=1, labels=np.array([guess, guess]))
    assert case.execute()[2].scales[0] > 0
    return case


@pytest.mark.parametrize("shift", [-1, 1])
def test_another_loss_scale_is_named(shift):
    original = SoftmaxExecutor.forward

    def forward(self, w, p):
        original(self, w, p)
        r = self.results[p]
        if p == 0:
            r["k"] += shift
            scaled = ((r["wrong"] - r["true"]) << r["k"]) + (1 << 23)
            w.put(self.head.dz.tensor, (scaled >> 24).astype(np.int64), p)
            r["dz_rem"] = scaled & ((1 << 24) - 1)

    lie = mock.patch.object(SoftmaxExecutor, "forward", forward)
    assert lying_name(confident_case(), lie) == "constraint/scale"


def test_a_log_ratio_off_by_one_unit_is_named(cnn):
    lie = after(LogRatioExecutor, "value", lambda self, y, *_: y + 1)
    assert lying_name(cnn.case, lie) == "constraint/score/ratios"


def test_an_exponential_beyond_64_nats_that_is_not_zero_is_named():
    """The prover calls the excess over 64 nats a remainder and keeps exp of the rest."""
    graph = Graph(np.random.default_rng(7), [1, 3, 4]).flatten().linear(4)
    weights = graph.params["linear1.weight"]
    weights[0], weights[1:] = 14, -14  # about 170 nats between the first class and the others
    case = graph.case(labels=np.ones((2, 3), np.int64))
    honest_evaluate = exponential.evaluate
    far = []

    def evaluate(x):
        out = honest_evaluate(x)
        far.append(np.any(out["far"]))
        return {**out, "far": out["far"] * 0, "y": out["ys"][-1]}

    patches = (mock.patch.object(exponential, "evaluate", evaluate), mock.patch.object(softmax, "evaluate", evaluate))
    assert lying_name(case, *patches) == "constraint/softmax"
    assert any(far)


def test_a_logarithm_that_loses_the_top_of_its_argument_is_named(cnn):
    """The scaled loss is shifted past its last limb, and the logarithm of what remains is taken."""
    honest_evaluate = logarithm.evaluate

    def evaluate(v, limbs):
        return honest_evaluate(v & ((1 << 44) - 1) if limbs == SCALED_LOSS_LIMBS else v, limbs)

    patches = (mock.patch.object(logarithm, "evaluate", evaluate), mock.patch.object(score, "evaluate_ln", evaluate))
    assert lying_name(cnn.case, *patches) == "constraint/score/ratios"


# -- other data


def retold(case, samples=None, randomness=None):
    """The witness of other private data under the same public hashes."""
    certificate = Certificate(case.plan)
    chosen = case.samples if samples is None else samples
    layout = certificate.close(TAU)
    witness, trace = execute(certificate, chosen, case.randomness if randomness is None else randomness)
    fill_threshold(certificate, witness, trace)
    return strict_name(layout, witness)


def test_another_pixel_is_named_by_the_hash(cnn):
    samples = cnn.case.samples.copy()
    samples[1, 2, 7] ^= 1
    assert retold(cnn.case, samples) == "constraint/link/sample"


def test_another_label_is_named_by_the_hash(cnn):
    samples = cnn.case.samples.copy()
    samples[0, 1, -1] = (samples[0, 1, -1] + 1) % cnn.case.plan.classes
    assert retold(cnn.case, samples) == "constraint/link/sample"


def test_samples_in_another_order_are_named_by_the_hash(cnn):
    samples, randomness = cnn.case.samples[::-1].copy(), cnn.case.randomness[::-1].copy()
    assert retold(cnn.case, samples, randomness) == "constraint/link/sample"


def test_a_label_that_is_not_the_committed_byte_is_named(cnn):
    onehot = cnn.certificate.samples.onehot
    with altered(cnn.witness, onehot) as (bits,):
        bits[0, 0, 0] = np.roll(bits[0, 0, 0], 1)
        assert strict_name(cnn.layout, cnn.witness) == "constraint/label"
    with altered(cnn.witness, onehot) as (bits,):
        bits[0, 0, 0] = 0
        assert strict_name(cnn.layout, cnn.witness) == "constraint/label"


# ------------------------------------------------------------------------------------------------ the threshold


def test_a_threshold_below_the_score_is_named(mlp):
    certificate, layout, w, trace = lying_threshold(mlp.case)
    score = certificate.score
    slack = (certificate.net.steps * score.tau) ** 2 - trace.variance
    assert slack < 0
    for invented in (0, -slack, slack % (1 << 110)):
        w.put(score.slack.tensor, np.array([invented], object))
        with mock.patch.object(Witness, "put", wrapping_put):
            w.fill_carries_in(score.threshold)
        assert strict_name(layout, w) == "constraint/score/threshold"


def test_a_negative_slack_fits_no_digits_and_the_proof_falls_to_the_range_check(mlp):
    certificate, layout, w, trace = lying_threshold(mlp.case)
    score = certificate.score
    slack = (certificate.net.steps * score.tau) ** 2 - trace.variance
    with pytest.raises(RangeOverflow):
        w.put(score.slack.tensor, np.array([slack], object))
    digits = [(slack >> (22 * i)) & ((1 << 22) - 1) for i in range(4)]
    Digits(w, score.slack.tensor)[:, 0] = [*digits, slack >> 88]
    w.fill_carries_in(score.threshold)
    assert np.all(w.expression(certificate.circuit.constraints[-1].members[-1][1], ()) == 0)
    assert full_name(layout, w) == "range-check/roots"
