"""Lies in pairs: a wrong number, and a second one that makes up for it in every identity.

What is left to catch them is the range of a digit, or one identity. A digit is written as it is, also beyond its table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest import mock

import numpy as np
import pytest

from circuits.layers.function import HALF, UNIT
from circuits.net import Contraction
from circuits.segments import FUNCTIONS
from prover.argument import prove_circuit
from prover.execution.layers import function, groupnorm, leaky_relu, multiply, prelu
from prover.execution.layers.avgpool2d import AveragingExecutor
from prover.execution.layers.groupnorm import GroupNormExecutor
from prover.execution.witness import Part, Witness
from tests.builders import violations
from tests.soundness.alone import ONE, Alone, line
from tests.soundness.malicious.forging import full_name, transcript
from verifier.argument import verify_circuit
from zkcert.errors import ProofRejected


@contextmanager
def spilling() -> Iterator[None]:
    """The top digit of a number takes what is left of it, whatever its range."""

    def put(self, t, values, index, rows):
        rest = values.reshape(values.shape or (1,)).astype(object)
        for i, d in enumerate(t.digits):
            digit = rest
            if i + 1 < len(t.digits):
                width = t.digits[i + 1].shift - d.shift
                digit, rest = (rest - d.range.lo) % (1 << width) + d.range.lo, (rest - d.range.lo) >> width
            self.write(t, i, digit.astype(np.int64).reshape(self._shape(t, index, rows)), index, rows)

    with mock.patch.object(Witness, "_put", put):
        yield


def broken(alone: Alone) -> set[str]:
    """The digits beyond their tables, and the identities that do not hold."""
    return {v.replace("layer/", "").removeprefix("range of ") for v in violations(alone.net.circuit, alone.w)}


def told(alone: Alone, *patches) -> set[str]:
    """What is broken when the layer is executed under patches."""
    with spilling():
        for p in patches:
            p.start()
        try:
            alone.run()
        finally:
            mock.patch.stopall()
    return broken(alone)


def carried(w: Witness, run: Contraction) -> None:
    """The carries of an identity as its digits are now."""
    first, second, *_ = run.con.out
    w.fill_carries_of(run.steps, run.con.out, None, Part((first.name, second.name), 0, slice(0, second.size)))


# ------------------------------------------------------------------------------------------------ divisions


def one_more(original: Callable) -> Callable:
    """Every rounded quotient is one more, and its remainder a divisor less."""

    def floor_limbs(limbs, const, bits, where, limit=43):
        values, rest = original(limbs, const, bits, where, limit)
        return values + 1, rest - (1 << bits)

    return floor_limbs


X = np.array([[ONE, -ONE, 4, -4, 3 * ONE, 0]])
RESCALED = {
    "leaky_relu": (leaky_relu, lambda: line("leaky_relu", X[0], negative_slope=0.3), {"y", "dx"}),
    "prelu": (prelu, lambda: line("prelu", X[0], weights={"weight": [ONE // 3]}), {"y", "dx"}),
    "multiply": (multiply, lambda: Alone("multiply", [(6,), (6,)], [X, X], [ONE]), {"y", "dx0", "dx1"}),
    "function": (function, lambda: line("function", X[0], function="elu"), {"dx"}),
    "groupnorm": (groupnorm, lambda: norm(), {"h", "y", "e", "slope", "dx"}),
}


def norm(x: np.ndarray = X) -> Alone:
    weights = {"weight": [ONE] * x.shape[1], "bias": [0] * x.shape[1]}
    return Alone("groupnorm", [x.shape[1:]], [x], [3, -ONE, 5], weights, groups=1, eps=1e-5)


@pytest.mark.parametrize("op", RESCALED)
def test_a_quotient_that_is_one_more_needs_a_remainder_out_of_range(op):
    module, make, names = RESCALED[op]
    lie = mock.patch.object(module, "floor_limbs", one_more(module.floor_limbs))
    assert told(make(), lie) == {f"{name}.remainder[1]" for name in names}


def test_a_quotient_of_a_hardswish_that_is_one_more_needs_a_remainder_out_of_range():
    alone = line("hardswish", X[0])
    alone.run()
    layer, w = alone.layer, alone.w
    with spilling():
        for out, run in ((layer.y, layer.run), (layer.dx, layer.run_input)):
            w.put(out.tensor, w.value(out.tensor) + 1)
            w.put(run.remainder, w.value(run.remainder) - 2 * layer.high)
            carried(w, run)
    assert broken(alone) == {"forward.remainder[1]", "input-gradient.remainder[1]"}


@pytest.mark.parametrize("op", ["hardsigmoid", "avgpool2d", "avgpool2d of two divisors", "groupnorm"])
def test_a_mean_that_is_one_more_needs_a_remainder_out_of_range(op):
    plane = 4 * np.arange(16).reshape(1, 1, 4, 4) - 28
    if op == "hardsigmoid":
        alone = line(op, X[0])
        alone.run()
        layer, w = alone.layer, alone.w
        with spilling():
            for out, rest in ((layer.y, layer.remainder), (layer.dx, layer.remainder_back)):
                w.put(out.tensor, w.value(out.tensor) + 1)
                w.put(rest.tensor, w.value(rest.tensor) - 6)
        assert broken(alone) == {"forward.remainder[0]", "backward.remainder[0]"}
        return
    if op == "groupnorm":
        assert told(norm(), mock.patch.object(GroupNormExecutor, "_put_mean", shifted_mean)) == {
            "mean.remainder[0]",
            "m1.remainder[0]",
        }
        return
    even = op == "avgpool2d"
    options = {"kernel": [2, 2], "stride": [2, 2]} if even else {"kernel": [3, 3], "stride": [2, 2], "ceil": True}
    alone = Alone("avgpool2d", [(1, 4, 4)], [plane], [5, -3], **options)
    names = {"forward.remainder[0]", "backward.remainder[0]"}
    if not even:  # one less: the remainder is in the range of the largest divisor, and its slack is below zero
        assert len(set(alone.layer.divisors)) > 1
        names = {f"{which}.{name}[0]" for which in ("forward", "share") for name in ("remainder", "slack")}
    assert told(alone, mock.patch.object(AveragingExecutor, "_divide", shifted_division(1 if even else -1))) == names


def shifted_mean(self, v, out, rest, w, p):
    n = self.layer.n
    mean, left = np.divmod(self._summed(self._grouped(groupnorm.read_value(v, w, p))) + n // 2, n)
    w.put(out.tensor, mean + 1, p)
    w.put(rest, left - n, p)


def shifted_division(by: int) -> Callable:
    def divide(self, w, p, out, total, parts):
        divisors = np.array(self.layer.divisors[:1] if self.layer.even else self.layer.divisors)
        values, rest = np.divmod(total + divisors // 2, divisors)
        w.put(out.tensor, values + by, p)
        for t, left in zip(parts, (rest - by * divisors, divisors - 1 - rest + by * divisors), strict=False):
            w.put(t.tensor, left, p)

    return divide


# ------------------------------------------------------------------------------------------------ statistics


@pytest.mark.parametrize(("by", "name"), [(1, "low[6]"), (-1, "high[6]"), (-2, "high[6]")])
def test_another_root_needs_a_slack_out_of_range(by, name):
    """All that follows from it, gradients too, is computed with it."""
    root = groupnorm.isqrt
    assert told(norm(), mock.patch.object(groupnorm, "isqrt", lambda x: root(x) + by)) == {name}


def test_a_deviation_from_the_honest_mean_beside_another_mean_is_named():
    """The mean is shifted, with a remainder that makes up for it; the variance is the honest one."""
    honest, alone = norm(), norm()
    honest.run()
    v = honest.w.array(honest.layer.v.tensor)
    put_root = GroupNormExecutor._put_root

    def matched(self, w, p):
        put_root(self, w, p)
        for i, digit in enumerate(v):
            w.write(self.layer.v.tensor, i, digit)

    patches = [
        mock.patch.object(GroupNormExecutor, "_put_mean", shifted_mean),
        mock.patch.object(GroupNormExecutor, "_put_root", matched),
    ]
    found = told(alone, *patches)
    assert {"mean.remainder[0]", "m1.remainder[0]"} < found
    assert any(name.startswith("root/v[") for name in found)


def test_a_correlation_that_is_one_more_needs_a_remainder_out_of_range():
    put = GroupNormExecutor._put_correlation

    def more(self, w, p):
        put(self, w, p)
        w.put(self.layer.m2.tensor, w.value(self.layer.m2.tensor, p) + 1, p)
        w.put(self.layer.m2_rest.tensor, w.value(self.layer.m2_rest.tensor, p) - (self.layer.n << 32), p)

    found = told(norm(), mock.patch.object(GroupNormExecutor, "_put_correlation", more))
    assert found == {"m2.remainder[2]"}


# ------------------------------------------------------------------------------------------------ functions


def function_of(z: int, *, segments: int = 0, turned: int = 0, stepped: int = 0, name: str = "tanh") -> Alone:
    """A function at z that takes another segment than the one z lies in, or quotients that are too large."""
    alone = line("function", [z], function=name)
    alone.run()
    layer, w, f = alone.layer, alone.w, FUNCTIONS[name]
    g = min(max(z >> 22, f.first), f.last)
    excess = (z >> 22) - g
    g, t = g - segments, z % UNIT - HALF + segments * UNIT
    _, middle, mean, bend = map(int, layer.table.rows[g - f.first])
    turn = (bend * t + HALF) // UNIT + turned
    step = ((mean + turn) * t + (1 << 31)) // ONE + stepped
    slope = mean + 2 * turn
    values = {
        layer.segment: g,
        layer.offset: t,
        layer.over: max(excess, 0),
        layer.under: max(-excess, 0),
        layer.y: middle + step,
        layer.slope: slope,
        layer.bend: bend,
        layer.turn: turn,
        layer.turn_rest: bend * t + HALF - turn * UNIT,
        layer.step: step,
        layer.step_rest: (mean + turn) * t + (1 << 31) - step * ONE,
    }
    with spilling():
        for v, value in values.items():
            w.put(v.tensor, np.array([[[value]]]))
        function.PointwiseExecutor(layer).backward(w, 0)
    return alone


def test_a_function_that_is_filled_this_way_without_a_lie_breaks_nothing():
    for z in (ONE // 3 * 4, -40 * ONE, 40 * ONE):
        assert broken(function_of(z)) == set()


@pytest.mark.parametrize(
    ("lie", "name"),
    [
        ({"segments": 1}, "offset[0]"),
        ({"segments": -1}, "offset[0]"),
        ({"turned": 1}, "turn.remainder[0]"),
        ({"turned": -1}, "turn.remainder[0]"),
        ({"stepped": 1}, "step.remainder[1]"),
        ({"stepped": -1}, "step.remainder[1]"),
    ],
    ids=lambda v: "-".join(map(str, *v.items())) if isinstance(v, dict) else v,
)
def test_a_neighbouring_row_or_quotient_needs_a_digit_out_of_range(lie, name):
    """The row is one of the table, and what it gives is computed without another mistake."""
    assert broken(function_of(ONE // 3 * 4, **lie)) == {name}


@pytest.mark.parametrize("last", [True, False])
def test_a_function_that_saturates_early_needs_an_excess_below_zero(last):
    z, f = ONE // 3 * 4, FUNCTIONS["tanh"]
    alone = function_of(z, segments=(z >> 22) - (f.last if last else f.first))
    layer, w = alone.layer, alone.w
    with spilling():  # what it takes for the offset is the excess
        w.put(layer.offset.tensor, np.array([[[z % UNIT - HALF]]]))
        v, by = (layer.over, (z >> 22) - f.last) if last else (layer.under, f.first - (z >> 22))
        w.put(v.tensor, np.array([[[by]]]))
        rows = {layer.turn_rest: HALF, layer.step_rest: 1 << 31, layer.turn: 0, layer.step: 0, layer.slope: 0}
        for tensor, value in rows.items():
            w.put(tensor.tensor, np.array([[[value]]]))
        w.put(layer.y.tensor, np.array([[[ONE if last else -ONE]]]))
        function.PointwiseExecutor(layer).backward(w, 0)
    assert broken(alone) == {"over[0]" if last else "under[0]"}


# ------------------------------------------------------------------------------------------------ signs and bounds


@pytest.mark.parametrize("op", ["leaky_relu", "prelu"])
@pytest.mark.parametrize("z", [-ONE, 0, ONE])
def test_the_other_sign_needs_a_magnitude_below_zero(op, z):
    """Zero too: it would be one more than minus one."""
    alone = line(op, [z], **({"negative_slope": 0.5} if op == "leaky_relu" else {"weights": {"weight": [ONE // 2]}}))
    alone.run()
    layer, w, bit = alone.layer, alone.w, int(z <= 0)
    y = z if bit else z // 2
    values = {layer.bit: bit, layer.magnitude: z - 1 if bit else -z, layer.y: y, layer.dx: ONE if bit else ONE // 2}
    if op == "prelu":
        values |= {layer.positive: z * bit, layer.kept: ONE * bit}
    with spilling():
        for v, value in values.items():
            w.put(v.tensor, np.array([[[value]]]))
        for run in (layer.run, layer.run_input):
            carried(w, run)
    assert broken(alone) == {"magnitude[1]"}


BOUNDS = {"low": -ONE, "high": 2 * ONE}


@pytest.mark.parametrize(
    ("z", "bits", "q", "e", "names"),
    [
        (ONE, (1, 0), "high", "above", {"excess[1]"}),  # called too large
        (ONE, (0, 1), "low", "below", {"excess[1]"}),  # called too small
        (3 * ONE, (0, 0), "itself", "inside", {"y[1]"}),  # called inside
        (-3 * ONE, (0, 0), "itself", "inside", {"y[1]", "excess[1]"}),
        (ONE, (1, 1), "low", "inside", {"forward/high", "forward/value"}),  # called both
        (ONE, (1, 1), "high", "inside", {"forward/low", "forward/value"}),
    ],
)
def test_the_wrong_side_of_a_bound_needs_a_digit_out_of_range(z, bits, q, e, names):
    alone = line("hardtanh", [z], low=-1.0, high=2.0)
    alone.run()
    layer, w = alone.layer, alone.w
    inner = {"low": BOUNDS["low"], "high": BOUNDS["high"] - 1, "itself": z}[q]
    excess = {"above": z - BOUNDS["high"], "below": BOUNDS["low"] - z, "inside": inner - BOUNDS["low"] - 1}[e]
    values = {layer.inner: inner, layer.excess: excess, layer.above: bits[0], layer.below: bits[1]}
    values[layer.dx] = ONE * (1 - sum(bits))
    with spilling():
        for v, value in values.items():
            w.put(v.tensor, np.array([[[value]]]))
    found = broken(alone)
    assert found - {"excess[1]"} == names - {"excess[1]"} and (found >= names or sum(bits) == 2)


# ------------------------------------------------------------------------------------------------ maxima


@pytest.mark.parametrize(
    ("plane", "taken"),
    [([4, 8, 0, -4], 0), ([4, 8, 0, -4], 3), ([8, 4, 8, 0], 2), ([-4, -4, -4, -4], 1)],
    ids=["smaller", "smallest", "second of two", "second of four"],
)
def test_another_choice_needs_a_slack_below_zero(plane, taken):
    """Also a later one of equal entries."""
    alone = Alone("maxpool2d", [(1, 2, 2)], [np.array(plane).reshape(1, 1, 2, 2)], [7], kernel=[2, 2], stride=[2, 2])
    alone.run()
    layer, w = alone.layer, alone.w
    order = np.arange(4)
    with spilling():
        w.put(layer.y.tensor, np.array([plane[taken]]).reshape(1, 1, 1, 1))
        w.put(layer.choice.tensor, (order == taken).astype(int).reshape(1, 1, 1, 4))
        w.put(layer.slack.tensor, (plane[taken] - np.array(plane) - (order < taken)).reshape(1, 1, 1, 4))
        w.put(layer.dx.tensor, (7 * (order == taken)).reshape(1, 1, 1, 4))
    assert broken(alone) == {"slack[1]"}


# ------------------------------------------------------------------------------------------------ proofs of them

PROVED = {
    "a function's neighbouring segment": lambda: function_of(ONE // 3 * 4, segments=1, name="gelu"),
    "a norm's other root": lambda: lying_norm(
        mock.patch.object(groupnorm, "isqrt", lambda x, f=groupnorm.isqrt: f(x) + 1)
    ),
    "a norm's other mean": lambda: lying_norm(mock.patch.object(GroupNormExecutor, "_put_mean", shifted_mean)),
}


def lying_norm(lie) -> Alone:
    alone = norm()
    assert told(alone, lie)
    return alone


@pytest.mark.parametrize("lie", PROVED)
def test_no_proof_of_a_digit_out_of_range_is_accepted(lie):
    alone = PROVED[lie]()
    assert full_name(alone.w.layout, alone.w) == "range-check/roots"
    proof = prove_circuit(alone.w.layout, alone.w, transcript())
    with pytest.raises(ProofRejected, match="hidden-equations"):
        verify_circuit(alone.w.layout, transcript(), proof)


def test_a_layer_alone_is_proved():
    alone = norm()
    alone.run()
    verify_circuit(alone.w.layout, transcript(), prove_circuit(alone.w.layout, alone.w, transcript()))
