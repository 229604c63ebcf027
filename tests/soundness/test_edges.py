"""Every kind of layer by itself, on inputs at the edges of what it takes: every digit is determined, and nothing is
where the semantics refuses. Of an input only its range is known, which is that of a sum of four values."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from circuits.language.constraints import BoundError
from circuits.layers import LAYERS
from circuits.net import Net
from circuits.segments import FUNCTIONS
from tests.semantics import reference
from tests.semantics.rounding import entries
from tests.soundness.alone import DELTAS, HEAVY, LEAST, MOST, ONE, SMALLER, Alone, line, quarters
from tests.soundness.unrolled import Row, Terms, Unrolled
from zkcert.core.field import P

# ------------------------------------------------------------------------------------------------ functions


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_is_determined_at_the_borders_of_its_segments_and_tables(name):
    first, last = FUNCTIONS[name].first, FUNCTIONS[name].last
    borders = [g << 22 for g in (first, first + 1, last - 1, last, last + 1, 0, -1, 1)]
    middles = [(g << 22) + (1 << 21) for g in (first + 1, 0, last - 1)]
    assert line("function", quarters(*borders, *middles), DELTAS[:4], function=name).determined() == []


@pytest.mark.parametrize("name", ["tanh", "gelu"])
def test_a_function_is_determined_as_far_beyond_its_table_as_it_reads(name):
    """And refused beyond; a function that is its argument there is refused where a value is."""
    function = FUNCTIONS[name]
    top = (function.last + (1 << 22)) << 22  # refused from here on
    bottom = (function.first + 1 - (1 << 22)) << 22  # refused below
    read = [bottom, bottom + 4, MOST - 3 if function.above is None else top - 4]
    assert line("function", read, function=name).determined() == []
    beyond = [bottom - 4, top, *([4 * (MOST // 4 + 1)] if function.above is None else [])]
    for z in beyond:
        line("function", [z], function=name).refused()


# ------------------------------------------------------------------------------------------------ bounds


HARD = {"hardtanh": {"low": -1.0, "high": 1 / 1024}, "hardsigmoid": {}, "hardswish": {}}


def bounds_of(op: str) -> tuple[int, int]:
    return (-ONE, 1 << 22) if op == "hardtanh" else (-3 * ONE, 3 * ONE)


@pytest.mark.parametrize("op", HARD)
def test_what_clamps_is_determined_at_its_bounds_and_as_far_beyond_as_it_reads(op):
    low, high = bounds_of(op)
    far = [low - (1 << 44) + 4, high + (1 << 44) - 4 if op != "hardswish" else MOST - 3]
    deltas = SMALLER if op == "hardswish" else DELTAS
    assert line(op, [*quarters(low, high, 0), *far], deltas, **HARD[op]).determined() == []
    for z in (low - (1 << 44), high + (1 << 44), *([4 * (MOST // 4 + 1)] if op == "hardswish" else [])):
        line(op, [z], **HARD[op]).refused()


@pytest.mark.parametrize(("low", "high"), [(-1024.0, 1024.0), (0.0, 6.0), (-1024.0, -1023.9990234375)])
def test_the_widest_and_the_narrowest_bounds_are_determined(low, high):
    values = quarters(int(low * ONE), int(high * ONE))
    assert line("hardtanh", values, DELTAS, low=low, high=high).determined() == []


# ------------------------------------------------------------------------------------------------ slopes


@pytest.mark.parametrize("slope", [0.0, 2.0**-33, 2.0**-32, 0.5, 1 - 2.0**-32, 1.0])
def test_a_leaky_relu_is_determined_around_zero_and_as_far_below_as_it_reads(slope):
    far = -(1 << 44) + 4 if slope < 0.5 else -(1 << 42)
    assert line("leaky_relu", [*quarters(0), far, MOST - 3], SMALLER, negative_slope=slope).determined() == []
    line("leaky_relu", [-(1 << 44)], negative_slope=slope).refused()
    line("leaky_relu", [4 * (MOST // 4 + 1)], negative_slope=slope).refused()


SLOPES = (0, 1, -1, 1 << 31, -(1 << 31), ONE, -ONE, (1 << 31) - 1)


@pytest.mark.parametrize("slope", [*SLOPES, HEAVY, -HEAVY])
@pytest.mark.parametrize("own", [False, True])
def test_a_prelu_is_determined_whatever_its_slope(slope, own):
    values = [*quarters(0), 1 << 30, -(1 << 30), *([MOST - 3, -(1 << 42)] if abs(slope) <= ONE else [])]
    deltas = DELTAS if abs(slope) < 1 << 31 else SMALLER
    slopes = [slope] * (len(values) if own else 1)
    assert line("prelu", values, deltas, weights={"weight": slopes}).determined() == []
    line("prelu", [-(1 << 44)], weights={"weight": [slope]}).refused()


def test_a_slope_that_makes_a_value_too_large_is_refused():
    line("prelu", [LEAST], weights={"weight": [2 * ONE]}).refused()
    line("prelu", [-4], [MOST], weights={"weight": [2 * ONE]}).refused()


# ------------------------------------------------------------------------------------------------ products


@pytest.mark.parametrize("gate", [0, 1, -1, ONE, -ONE, 1 << 31, MOST, LEAST])
def test_a_product_is_determined_with_any_factor(gate):
    values = [0, 1, -1, 1 << 21, -(1 << 21), 1 << 31, -(1 << 31)]
    x = np.array([values], np.int64)
    deltas = (1, -1, 0, 1 << 31)
    assert Alone("multiply", [(7,), (7,)], [x, np.full_like(x, gate)], deltas).determined() == []
    image, one = x[:, :6].reshape(1, 2, 3), np.full((1, 2), gate)
    for single in ((2,), (2, 1, 1)):
        for order in (1, -1):
            shapes, xs = [(2, 1, 3), single][::order], [image, one][::order]
            assert Alone("multiply", shapes, xs, deltas).determined() == []


def test_a_product_that_is_too_large_is_refused():
    x = np.array([[MOST]], np.int64)
    Alone("multiply", [(1,), (1,)], [x, x]).refused()


# ------------------------------------------------------------------------------------------------ pools


PLANES = {
    "all equal": lambda rng: np.full((1, 1, 4, 4), 4 * 7),
    "all equal, below zero": lambda rng: np.full((1, 1, 4, 4), -4 * 7),
    "zeros": lambda rng: np.zeros((1, 1, 4, 4), np.int64),
    "many ties": lambda rng: 4 * rng.integers(-1, 1, (1, 1, 4, 4)),
    "far apart": lambda rng: rng.choice([4 * (LEAST // 8), 4 * (MOST // 8), 0], (1, 1, 4, 4)),
}
POOLS = {
    "overlapping": {"kernel": [2, 2], "stride": [1, 1]},
    "padded": {"kernel": [3, 2], "stride": [2, 1], "padding": [1, 1]},
    "ceil": {"kernel": [3, 3], "stride": [2, 3], "ceil": True},
    "padded, ceil": {"kernel": [2, 3], "stride": [3, 2], "padding": [1, 1], "ceil": True},
}


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("plane", PLANES)
def test_a_maximum_is_determined_with_ties_and_borders(plane, pool):
    x = PLANES[plane](np.random.default_rng(5))
    assert Alone("maxpool2d", [(1, 4, 4)], [x], (5, -3, 1 << 40), **POOLS[pool]).determined() == []


def test_a_maximum_is_determined_as_far_above_the_others_as_it_reads():
    """By one more above those that stand before it."""
    top = MOST - 3
    for window, fits in (
        ([top - (1 << 44), top], True),
        ([top, top - (1 << 44) + 4], True),
        ([top, top - (1 << 44)], False),
    ):
        alone = Alone("maxpool2d", [(1, 1, 2)], [np.array([[[window]]])], (3,), kernel=[1, 2], stride=[1, 1])
        if fits:
            assert alone.determined() == []
        else:
            alone.refused()


@pytest.mark.parametrize("more", [{}, {"inside": True}, {"divisor": 1}, {"divisor": 7}])
@pytest.mark.parametrize("pool", POOLS)
def test_an_average_is_determined_with_any_divisors(pool, more):
    x = PLANES["many ties"](np.random.default_rng(6))
    assert Alone("avgpool2d", [(1, 4, 4)], [x], (2, -2, 3, -3, 1), **POOLS[pool], **more).determined() == []


@pytest.mark.parametrize("size", [[1, 1], [3, 3], [4, 4], [7, 5], [1, 6]])
def test_an_adaptive_average_is_determined_also_where_there_are_more_windows_than_positions(size):
    x = PLANES["many ties"](np.random.default_rng(7))
    assert Alone("adaptiveavgpool2d", [(1, 4, 4)], [x], (2, -2, 3, -3, 1), size=size).determined() == []


# ------------------------------------------------------------------------------------------------ normalisation


def normalised(x: np.ndarray, dy: Sequence[int], *, groups: int = 1, each: bool = False, eps: float = 1e-5) -> Alone:
    channels = x.shape[1]
    weights = {"weight": np.resize([ONE, -ONE, 0, 1], channels).tolist(), "bias": np.resize([0, 1], channels).tolist()}
    fields = {"groups": groups, "eps": eps, **({"each": True} if each else {})}
    return Alone("groupnorm", [x.shape[1:]], [x], dy, weights, **fields)


SAMPLES = {
    "zeros": np.zeros((1, 4), np.int64),
    "all equal": np.full((1, 4), 4 * 12345),
    "all equal and negative": np.full((1, 3), -4 * 12345),
    "almost equal": np.array([[0, 0, 0, 4]]),
    "opposite": np.array([[MOST - 3, -(MOST - 3)]]),
    "one that is large": np.array([[MOST - 3, 0, 0]]),
    "all as large as can be": np.full((1, 2), MOST - 3),
    "small": np.array([[4, -4, 8, -8, 0]]),
    "ones": np.array([[ONE, -ONE, ONE, -ONE, 0, 4]]),
}


@pytest.mark.parametrize("eps", [2.0**-21, 1e-5, 1.0])
@pytest.mark.parametrize("sample", SAMPLES)
def test_a_group_norm_is_determined_whatever_the_deviation(sample, eps):
    dy = (1, -1, ONE // 2048, 0) if eps < 1 else (ONE, -ONE, 3, 0)
    own = normalised(SAMPLES[sample], dy, eps=eps)
    assert own.determined(own.layer.a.tensor) == []


@pytest.mark.parametrize("each", [False, True])
@pytest.mark.parametrize("groups", [1, 2])
def test_a_group_norm_of_images_is_determined(groups, each):
    x = 4 * np.random.default_rng(8).integers(-3, 3, (2, 4, 1, 3)) << 28
    own = normalised(x, (3, -1, ONE, 0, 7), groups=groups, each=each)
    assert own.determined(own.layer.a.tensor) == []


def test_means_that_are_too_large_are_refused():
    normalised(np.full((1, 2), 4 * (MOST // 4 + 1)), (0,)).refused()


# ------------------------------------------------------------------------------------------------ what is determined


REFERENCE = {
    "function": ({"function": "silu"}, [*quarters(0, 27 << 32, -27 << 32), ONE, -ONE]),
    "hardtanh": (HARD["hardtanh"], quarters(*bounds_of("hardtanh"))),
    "hardsigmoid": ({}, quarters(*bounds_of("hardsigmoid"), 0)),
    "hardswish": ({}, quarters(*bounds_of("hardswish"), 0)),
    "leaky_relu": ({"negative_slope": 0.3}, quarters(0, ONE, -ONE)),
}


@pytest.mark.parametrize("op", REFERENCE)
def test_what_is_determined_is_what_the_reference_says(op):
    fields, values = REFERENCE[op]
    alone = line(op, values, SMALLER, **fields)
    assert alone.determined() == []
    section, delta = reference.LAYERS[op], alone.gradient[0].tolist()
    found = [sum(p.coef * alone.w.value(p.tensor, 0) for p in v.parts) for v in (alone.layer.y, alone.layer.dx)]
    assert found[0].ravel().tolist() == list(entries(section.forward(alone.node, {}, values)))
    assert found[1].ravel().tolist() == list(entries(section.backward(alone.node, {}, values, delta)))


# ------------------------------------------------------------------------------------------------ wrapping


WIDE = {
    **{f"function {name}": lambda name=name: line("function", [0], function=name) for name in ("elu", "gelu")},
    **{op: lambda op=op: line(op, [0], **HARD[op]) for op in HARD},
    "widest hardtanh": lambda: line("hardtanh", [0], low=-1024.0, high=1024.0),
    "leaky_relu": lambda: line("leaky_relu", [0], negative_slope=0.5),
    "prelu": lambda: line("prelu", [0], weights={"weight": [1]}),
    "multiply": lambda: Alone("multiply", [(1, 8, 8), (1,)], [np.zeros((1, 1, 8, 8), int), np.zeros((1, 1), int)]),
    "maxpool2d": lambda: Alone("maxpool2d", [(1, 4, 4)], [np.zeros((1, 1, 4, 4), int)], **POOLS["padded, ceil"]),
    "avgpool2d": lambda: Alone("avgpool2d", [(1, 4, 4)], [np.zeros((1, 1, 4, 4), int)], **POOLS["padded, ceil"]),
    "groupnorm": lambda: normalised(np.zeros((1, 2, 8, 8), int), (), eps=2.0**-21),
    "groupnorm at each position": lambda: normalised(np.zeros((1, 9, 1, 2), int), (), eps=1.0, each=True),
}


def interval(bounds: Sequence[tuple[int, int]], terms: Terms) -> tuple[int, int]:
    ends = [sorted((c * bounds[v][0], c * bounds[v][1])) for v, c in terms]
    return sum(lo for lo, _ in ends), sum(hi for _, hi in ends)


@pytest.mark.parametrize("name", WIDE)
def test_no_identity_of_a_layer_and_no_component_can_wrap(name):
    """By the digits' ranges alone, index by index; what is refused is counted as it is here, or as more."""
    u = Unrolled(WIDE[name]().net.circuit)
    for e in (e for e in u.equations if e.constraint is not None and len(e.members) == 1):
        if isinstance(e, Row):
            for form, column in zip(e.components, e.rows.T, strict=True):
                lo, hi = interval(u.bounds, form)
                assert max(hi - int(column.min()), int(column.max()) - lo) < P
            continue
        lo, hi = (e.const + end for end in interval(u.bounds, e.linear))
        for pair in e.products:
            (a, b), (c, d) = (interval(u.bounds, form) for form in pair)
            corners = (a * c, a * d, b * c, b * d)
            lo, hi = lo + min(corners), hi + max(corners)
        member = e.constraint.members[e.members[0]][1]
        assert max(-lo, hi) <= e.constraint.reach(member) < P, e.label
    assert max((lookup.reach for lookup in u.circuit.lookups), default=0) < P


@pytest.mark.parametrize(("side", "fits"), [(128, True), (256, False), (1024, False)])
def test_a_group_norm_of_so_many_entries_that_a_sum_could_wrap_is_refused(side, fits):
    net = Net(1, 1)
    x = net.activation("x", (1, 1, side**2))
    node = {"op": "groupnorm", "name": "n", "weight": "w", "bias": "b", "groups": 1, "eps": 2.0**-21, "each": False}
    node |= {"weight_shape": [1], "bias_shape": [1]}
    if fits:
        layer = LAYERS["groupnorm"](net, node, [x], (1, side, side))
        layer.declare_backward(net, net.activation("dy", x.shape), [True])
        assert all(con.reach(e) < P for con in net.circuit.constraints for _, e in con.members)
    else:
        with pytest.raises(BoundError):
            LAYERS["groupnorm"](net, node, [x], (1, side, side))


def test_every_layer_that_commits_something_of_its_own_is_looked_at():
    here = {"function", *HARD, "leaky_relu", "prelu", "multiply", "maxpool2d", "avgpool2d", "adaptiveavgpool2d"}
    here |= {"groupnorm"}
    others = {"conv2d", "linear", "batchnorm2d", "relu"}  # every_layer of test_uniqueness.py, and test_lies.py
    others |= {"attention", "embedding", "positions", "prepend", "take", "unembedding"}  # of sequences: not yet here
    assert {op for op, layer in LAYERS.items() if not layer.spec.transparent} == here | others
