"""Lies about pools with borders, grouped convolutions, bounded activations, concatenations, heads of one position."""

from __future__ import annotations

from fractions import Fraction
from unittest import mock

import numpy as np
import pytest

from circuits.layers.function import table
from circuits.layers.hardtanh import Hardtanh
from circuits.windows import Windows
from prover import argument
from prover.argument import prove_circuit
from prover.execution import values
from prover.execution.layers.avgpool2d import AveragingExecutor
from prover.execution.layers.conv2d import Conv2dExecutor
from prover.execution.layers.function import PointwiseExecutor
from prover.execution.layers.hardsigmoid import HardsigmoidExecutor
from prover.execution.layers.hardswish import HardswishExecutor
from prover.execution.layers.hardtanh import HardtanhExecutor
from prover.execution.layers.maxpool2d import MaxPool2dExecutor
from prover.execution.run import _Run
from prover.execution.values import read_value
from tests.activations import clipped, curved, hard
from tests.builders import Graph, bordered, grouped, pointwise, violations
from tests.channels import joined, shuffled
from tests.soundness.malicious.forging import altered, full_name, honest, name_of_altered_digit, strict_name, transcript
from tests.soundness.malicious.test_lies import after, lying_name
from verifier.argument import verify_circuit

CASES = {make.__name__: make for make in (bordered, grouped, clipped, curved, hard, joined, shuffled, pointwise)}


@pytest.fixture(scope="module")
def made():
    """Honest witnesses by name, made when they are asked for."""
    known = {}

    def of(name):
        if name not in known:
            known[name] = honest(CASES[name]())
        return known[name]

    return of


DIGITS = {
    ("bordered", "maxpool2d1/choice", 0): "maxpool2d1/choice",
    ("bordered", "maxpool2d1/slack", 1): "maxpool2d1/forward",
    ("bordered", "maxpool2d3/dx", 0): "maxpool2d3/backward",
    ("bordered", "avgpool2d8/forward.remainder", 0): "avgpool2d8/forward",
    ("bordered", "avgpool2d8/forward.slack", 0): "avgpool2d8/forward",
    ("bordered", "avgpool2d8/share", 0): "avgpool2d8/share",
    ("bordered", "avgpool2d8/share.remainder", 0): "avgpool2d8/share",
    ("bordered", "avgpool2d8/share.slack", 0): "avgpool2d8/share",
    ("bordered", "avgpool2d8/dx", 1): "avgpool2d8/backward",
    ("bordered", "adaptiveavgpool2d13/y", 1): "adaptiveavgpool2d13/forward",
    ("grouped", "weight/conv2d5.weight", 0): "conv2d5/forward",
    ("grouped", "conv2d5/z", 1): "conv2d5/forward",
    ("grouped", "conv2d2/dx", 0): "conv2d2/input-gradient",
    ("grouped", "gradient/conv2d0.weight", 0): "gradient/conv2d0.weight",
    ("grouped", "gradient/conv2d5.bias", 0): "gradient/conv2d5.bias",
    ("clipped", "hardtanh0/y", 0): "hardtanh0/forward",
    ("clipped", "hardtanh0/above", 0): "hardtanh0/forward",
    ("clipped", "hardtanh2/below", 0): "hardtanh2/forward",
    ("clipped", "hardtanh5/excess", 1): "hardtanh5/forward",
    ("clipped", "hardtanh14/dx", 0): "hardtanh14/backward",
    ("hard", "hardswish0/inner", 0): "hardswish0/clamp",
    ("hard", "hardswish0/y", 1): "hardswish0/forward",
    ("hard", "hardswish5/above", 0): "hardswish5/clamp",
    ("hard", "hardswish12/forward.remainder", 1): "hardswish12/forward",
    ("hard", "hardswish12/dx", 0): "hardswish12/input-gradient",
    ("hard", "hardsigmoid2/excess", 0): "hardsigmoid2/clamp",
    ("hard", "hardsigmoid2/forward.remainder", 0): "hardsigmoid2/forward",
    ("hard", "hardsigmoid8/dx", 0): "hardsigmoid8/backward",
    ("curved", "function0/offset", 0): "function0/forward",
    ("curved", "function2/over", 0): "function2/forward",
    ("curved", "function5/turn", 0): "function5/forward",
    ("curved", "function8/step", 0): "function8/forward",
    ("curved", "function9/step.remainder", 1): "function9/forward",
    ("curved", "function13/dx", 0): "function13/input-gradient",
    ("joined", "cat11/sum", 0): "cat11/sum",
    ("joined", "batchnorm2d12/dy", 1): "batchnorm2d12/dy",
    ("joined", "maxpool2d3/y", 0): "maxpool2d3/forward",
    ("pointwise", "softmax/dz", 0): "softmax",
}


@pytest.mark.parametrize("where", DIGITS, ids=lambda v: "-".join(map(str, v)))
def test_one_altered_digit_is_named(made, where):
    name, tensor, digit = where
    own = made(name)
    assert name_of_altered_digit(own, tensor, digit) == f"constraint/{DIGITS[where]}"


@pytest.mark.parametrize("name", CASES)
def test_each_is_proved(made, name):
    own = made(name)
    verify_circuit(own.layout, transcript(), prove_circuit(own.layout, own.witness, transcript()))


# ------------------------------------------------------------------------------------------------ pools


def lowest_case():
    """All values are far below zero: a border of zeros would win everywhere that it can be read."""
    g = Graph(np.random.default_rng(3), [1, 3, 3]).conv(2, (1, 1)).pool("maxpool2d", (3, 3), (2, 2), padding=[1, 1])
    g.params["conv2d0.bias"][:] = -9
    return g.flatten().linear(3).case(batch=1)


def test_a_border_that_wins_is_named():
    """The prover takes entries outside for zeros and calls the window's maximum zero; no entry can be its choice."""

    def forward(self, w, p):
        inside = self.layer.reads.index >= 0
        x = read_value(self.layer.x, w, p)[:, :, self.layer.reads.index]
        y = np.zeros(self.layer.y.shape, np.int64)
        w.put(self.layer.y.tensor, y, p)
        choice = self.layer.choice.tensor
        w.put(choice, np.zeros(choice.shape), p)
        w.put(self.layer.slack.tensor, (y[:, :, None] - x)[:, :, inside], p)

    lie = mock.patch.object(MaxPool2dExecutor, "forward", forward)
    assert lying_name(lowest_case(), lie) == "constraint/maxpool2d1/choice"


def test_an_average_that_counts_other_entries_is_named(made):
    """The prover divides by the whole window where the image's entries count, and the other way round."""
    case = made("bordered").case
    honest_divide = AveragingExecutor._divide

    def divide(self, *args):
        own = self.layer.divisors
        self.layer.divisors = [max(own)] * len(own)
        try:
            honest_divide(self, *args)
        finally:
            self.layer.divisors = own

    lie = mock.patch.object(AveragingExecutor, "_divide", divide)
    assert lying_name(case, lie) == "constraint/avgpool2d8/forward"


def test_a_remainder_above_its_divisor_is_named(made):
    """One unit less, the remainder a divisor more: in the range of the largest divisor, but the slack is negative."""
    own = made("bordered")
    layer = next(x for x in own.certificate.layers if x.name == "avgpool2d12")
    w, (rem, slack) = own.witness, [part.tensor for part in layer.parts]
    s = int(np.argmin(layer.divisors))
    divisor = layer.divisors[s]
    assert 2 * divisor <= max(layer.divisors)
    with altered(w, layer.y.tensor, rem, slack):
        y, r = w.value(layer.y.tensor), w.value(rem)
        y[..., s] -= 1
        r[..., s] += divisor
        w.put(layer.y.tensor, y)
        w.put(rem, r)
        free = w.value(slack)
        free[..., s] = 0  # it would have to be negative
        w.put(slack, free)
        assert strict_name(own.layout, w, rem) == "constraint/avgpool2d12/forward"


def test_a_gradient_of_windows_that_leaves_one_out_is_named(made):
    def leave(self, result, w, p):
        if self.layer.name == "avgpool2d8":
            dx = w.value(self.layer.dx.tensor, p)
            s = self.layer.readers.index[:, 0].max()
            dx[:, :, 0] -= w.value(self.layer.share.tensor, p)[:, :, s]
            w.put(self.layer.dx.tensor, dx, p)
        return result

    assert lying_name(made("bordered").case, after(AveragingExecutor, "backward", leave)) == (
        "constraint/avgpool2d8/backward"
    )


# ------------------------------------------------------------------------------------------------ convolutions


def test_channels_of_another_group_are_named(made):
    """Groups interleave: input channel c belongs to group c modulo their number."""
    honest_columns = Conv2dExecutor.input_columns

    def columns(self, x):
        groups = self.layer.groups
        return honest_columns(self, x.reshape(len(x), -1, groups, x.shape[-1]).swapaxes(1, 2).reshape(x.shape))

    lie = mock.patch.object(Conv2dExecutor, "input_columns", columns)
    assert lying_name(made("grouped").case, lie) == "constraint/conv2d6/forward"


def test_a_kernel_without_gaps_is_named(made):
    case = made("grouped").case
    honest_forward = Conv2dExecutor.forward

    def forward(self, w, p):
        table = self.layer.table
        if self.layer.name == "conv2d2":
            self.layer.table = Windows(5, 2, (3, 3), (1, 1), (1, 1)).reads()
        try:
            honest_forward(self, w, p)
        finally:
            self.layer.table = table

    assert lying_name(case, mock.patch.object(Conv2dExecutor, "forward", forward)) == "constraint/conv2d2/forward"


# ------------------------------------------------------------------------------------------------ bounds


def bounded(own, name):
    return next(x for x in own.certificate.layers if isinstance(x, Hardtanh) and x.name == name)


@pytest.mark.parametrize("side", ["above", "below"])
def test_a_value_beyond_a_bound_that_passes_as_inside_is_named(made, side):
    """Its bit is zero; then the value itself would have to lie in the range."""
    own = made("clipped")
    layer, w = bounded(own, "hardtanh0"), own.witness
    bit = getattr(layer, side).tensor
    with altered(w, bit) as (digits,):
        at = tuple(np.argwhere(digits[...] == 1)[0])
        digits[at] = 0
        assert strict_name(own.layout, w, bit) == "constraint/hardtanh0/forward"


def test_both_bits_at_once_are_named(made):
    own = made("clipped")
    layer, w = bounded(own, "hardtanh2"), own.witness
    with altered(w, layer.above.tensor, layer.below.tensor) as (above, below):
        above[0, 0, 0, 0, 0] = below[0, 0, 0, 0, 0] = 1
        assert strict_name(own.layout, w, layer.above.tensor) == "constraint/hardtanh2/forward"


@pytest.mark.parametrize("side", ["low", "high"])
def test_a_gradient_at_a_bound_is_named(side):
    """Of a value that is exactly the bound: one that PyTorch, and so the circuit, does not let through."""
    g = Graph(np.random.default_rng(4), [1, 1, 3]).flatten().linear(2).hardtanh(-1.0, 1.0).linear(3)
    g.params["linear1.weight"][:] = 0
    g.params["linear1.bias"][:] = 1 if side == "high" else -1
    case = g.case(batch=1)

    def forward(self, result, w, p):
        layer = self.layer
        for v in (layer.above, layer.below):
            w.put(v.tensor, np.zeros(v.shape), p)
        z = np.full(layer.x.shape, layer.high if side == "high" else layer.low)
        w.put(layer.inner.tensor, np.clip(z, layer.low, layer.high - 1), p)
        w.put(layer.excess.tensor, np.maximum(z - layer.low - 1, 0), p)

    assert case.execute()[2].norms  # the honest one passes
    lie = after(HardtanhExecutor, "forward", forward)
    assert lying_name(case, lie) == "constraint/hardtanh2/forward"


def test_other_bounds_are_named(made):
    honest_forward = HardtanhExecutor.forward

    def forward(self, w, p):
        self.layer.high += 1
        try:
            honest_forward(self, w, p)
        finally:
            self.layer.high -= 1

    lie = mock.patch.object(HardtanhExecutor, "forward", forward)
    assert lying_name(made("clipped").case, lie) == "constraint/hardtanh0/forward"


@pytest.mark.parametrize(("back", "name"), [(False, "hardswish0/forward"), (True, "hardswish12/input-gradient")])
def test_another_rounding_of_a_hardswish_is_named(made, back, name):
    """The prover adds one unit more before it divides."""
    divide = HardswishExecutor._divide

    def other(self, w, p, out, *args):
        self.layer.high += (out is self.layer.dx) == back
        try:
            divide(self, w, p, out, *args)
        finally:
            self.layer.high = 3 << 32

    assert lying_name(made("hard").case, mock.patch.object(HardswishExecutor, "_divide", other)) == f"constraint/{name}"


def test_a_gradient_that_a_hardsigmoid_lets_pass_outside_is_named(made):
    def leak(self, result, w, p):
        dx, rest = self.layer.dx, self.layer.remainder_back.tensor
        total = read_value(self.layer.dy, w, p) + 3
        w.put(dx.tensor, total // 6, p)
        w.put(rest, total % 6, p)
        return result

    assert lying_name(made("hard").case, after(HardsigmoidExecutor, "backward", leak)) == (
        "constraint/hardsigmoid8/backward"
    )


# ------------------------------------------------------------------------------------------------ functions


def small_function(name, bias):
    """Two numbers, which a function is taken of."""
    g = Graph(np.random.default_rng(5), [1, 1, 2]).flatten().linear(2).function(name).linear(2)
    g.params["linear1.bias"][:] = bias
    return g.case(batch=1, rho=Fraction(1, 1000))


@pytest.mark.parametrize("column", [1, 2, 3])
def test_rows_of_another_table_are_rejected(column):
    """One entry more in every row: all identities hold, and only the lookup does not."""
    case, own = small_function("tanh", 0.5), table("tanh")
    with mock.patch.dict(own.__dict__, rows=own.rows + (np.arange(4) == column)):
        certificate, witness, _ = case.run(Fraction(30))
    assert violations(certificate.circuit, witness) == ["lookup function2/segment"]
    if column == 2:
        assert full_name(certificate.layout, witness) == "range-check/roots"


@pytest.mark.parametrize("counted", [False, True])
def test_rows_of_another_functions_table_are_rejected(counted):
    """Of the same segments, and a table of the circuit: the rows may be counted there."""
    g = Graph(np.random.default_rng(5), [1, 1, 2]).flatten().linear(2).function("gelu").linear(2)
    case = g.function("gelu_tanh").linear(2).case(batch=1, rho=Fraction(1, 1000))
    forward, count, first = PointwiseExecutor.forward, argument.count_multiplicities, table("gelu")

    def swapped(self, w, p):
        with mock.patch.object(self.layer, "table", first):
            forward(self, w, p)

    with mock.patch.object(PointwiseExecutor, "forward", swapped):
        certificate, w, _ = case.run(Fraction(30))
    layout = certificate.layout
    assert violations(certificate.circuit, w) == ["lookup function4/segment"]
    used = w.array(certificate.layers[4].segment.tensor).ravel() - first.rows[0, 0]

    def count_there(layout, x):
        count(layout, x)
        rows = x[layout.multiplicity_start + sum(layout.tables) :][: first.shape[0]]
        np.add.at(rows, used, 1)

    with mock.patch.object(argument, "count_multiplicities", count_there if counted else count):
        assert layout.functions[0] is first
        assert full_name(layout, w) == "range-check/roots"


def test_a_value_beyond_a_table_that_saturates_early_is_named():
    """The prover takes another segment for the last one, and calls the rest an excess."""
    own = honest(small_function("sigmoid", 30))
    layer, w = own.certificate.layers[2], own.witness
    with altered(w, layer.segment.tensor, layer.over.tensor) as (segment, over):
        assert over[0].min() > 0
        segment[0] -= 1
        over[0] += 1
        assert strict_name(own.layout, w, layer.over.tensor) == "constraint/function2/forward"


def test_an_excess_on_both_sides_is_named():
    own = honest(small_function("sigmoid", 30))
    layer, w = own.certificate.layers[2], own.witness
    with altered(w, layer.over.tensor, layer.under.tensor) as (over, under):
        over[0] += 1
        under[0] += 1
        assert strict_name(own.layout, w, layer.under.tensor) == "constraint/function2/forward"


def test_a_gradient_of_the_parabola_is_rejected():
    """The slope of the polynomial itself, without what is on the other half of the way."""

    def own_slope(self, result, w, p):
        slope = self.layer.slope
        w.put(slope.tensor, read_value(slope, w, p) - read_value(self.layer.turn, w, p), p)
        return result

    assert lying_name(small_function("tanh", 0.5), after(PointwiseExecutor, "forward", own_slope)) == (
        "constraint/function2/forward"
    )


# ------------------------------------------------------------------------------------------------ concatenations


def test_channels_in_another_order_are_named(made):
    """The prover joins what a cat reads the other way round."""

    def turned(part, x):
        return x if part.channels is None else honest_placed(part, x)[:, ::-1]

    honest_placed = values.placed
    assert lying_name(made("joined").case, mock.patch.object(values, "placed", turned)) == ("constraint/relu5/forward")


def test_channels_that_are_not_the_ones_picked_are_named(made):
    """The prover shuffles by the other number of groups: two of three instead of three of two."""
    own = made("shuffled")
    w, at = own.witness, next(i for i, x in enumerate(own.certificate.layers) if x.name == "channels2")
    total, layer = own.certificate.sums[at].value.tensor, own.certificate.layers[at]
    assert layer.order == [0, 2, 4, 1, 3, 5]
    other = layer.x.picked([0, 3, 1, 4, 2, 5])
    with altered(w, total):
        for p in range(own.certificate.net.passes):
            w.put(total, read_value(other, w, p), p)
        assert strict_name(own.layout, w, total) == "constraint/channels2/sum"


def test_a_gradient_of_the_neighbours_channels_is_named(made):
    """The prover hands each input of a cat the gradient of the channels one further."""
    original = _Run.execute_pass

    def execute(self, p):
        backward = {"on": False}
        honest_placed = values.placed
        head = self.head.forward

        def forward(*args):
            head(*args)
            backward["on"] = True

        def placed(part, x):
            found = honest_placed(part, x)
            return np.roll(found, 1, axis=1) if backward["on"] and part.channels and min(part.channels) >= 0 else found

        with mock.patch.object(values, "placed", placed), mock.patch.object(self.head, "forward", forward):
            original(self, p)

    name = lying_name(made("joined").case, mock.patch.object(_Run, "execute_pass", execute))
    assert name == "constraint/relu22/backward"
