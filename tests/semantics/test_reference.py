"""The executor against the big-integer reference: every tensor of the probe, bit for bit."""

from __future__ import annotations

from fractions import Fraction
from math import factorial, floor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from circuits.compile import Certificate
from circuits.head import constants
from circuits.head.score import Q_LIMIT, StepSize
from circuits.language.layout import Layout
from circuits.layers import LAYERS
from circuits.net import Net
from prover.execution.arithmetic import exact_matmul
from prover.execution.head import exponential, logarithm
from prover.execution.head.score import StepSizeExecutor
from prover.execution.head.softmax import GradientTooSmall
from prover.execution.layers import Executor
from prover.execution.values import read_value
from prover.execution.witness import Witness
from tests.activations import clipped, curved, hard
from tests.builders import (
    BATCHES,
    EPS,
    KINDS,
    VARIANTS,
    Case,
    Graph,
    bordered,
    classifier,
    fan,
    grid_case,
    grouped,
    language,
    leaky,
    normalised,
    patches,
    pointwise,
    residual,
    standardised,
    tiny_cnn,
)
from tests.channels import attended, joined, shuffled
from tests.semantics import reference
from tests.semantics.head import ONE, exp_factor, exp_minus, ln, ln_constant, step_size
from tests.semantics.reference import Result
from tests.semantics.rounding import Refusal, entries
from tests.semantics.samples import decode, normalise
from tests.sequences import random_sequence
from zkcert.data.normalised import input_integers
from zkcert.errors import RangeOverflow

SEEDS = range(24)
REFUSED = {9, 16}  # their gradients vanish


def reference_run(case: Case) -> Result:
    """The reference on the committed bytes."""
    p = case.plan
    decoded = [
        [decode(bytes(row.tolist()), p.input["shape"], p.kind, p.label_bytes) for row in batch]
        for batch in case.samples
    ]
    samples = [[image for image, _ in batch] for batch in decoded]
    labels = [[label for _, label in batch] for batch in decoded]
    weights = {name: w.tolist() for name, w in p.weights.items()}
    shape = p.steps, p.batch
    buffers = {name: array.tolist() for name, array in case.model.buffers.items()}
    numbers = p.rho, p.divisor, p.eps, p.variant, p.kind, buffers, p.statistic, p.eta
    return reference.run_probe(p.graph, p.input, weights, samples, labels, *shape, *numbers)


def assert_equal(case: Case, expected: Result | None = None) -> Result:
    """Executor and reference agree on scalars, weights and every network tensor of every pass."""
    certificate, w, trace = case.execute()
    expected = expected or reference_run(case)
    net, plan = certificate.net, case.plan

    def same(tensor, index, nested, what):
        assert w.value(tensor, index).ravel().tolist() == list(entries(nested)), what

    def same_weights(tensor, index, nested, name, what):
        ordered = net.arranged(name, np.array(list(entries(nested))))
        assert w.value(tensor, index).tolist() == ordered.tolist(), f"{what} of {name}, {index}"

    def same_value(v, p, nested, what):
        assert read_value(v, w, p).ravel().tolist() == list(entries(nested)), what

    assert trace.ys == expected.ys
    assert trace.scales == expected.scales
    assert trace.losses == expected.losses
    assert trace.norms == expected.norms
    assert w.value(certificate.size.q.tensor).ravel().tolist() == expected.qs
    assert len(expected.passes) == net.passes == 2 * plan.steps - 1
    for p, found in enumerate(expected.passes):
        for name, tensor in net.weights.items():
            same_weights(tensor, p, found.weights[name], name, "weights")
        for node, layer in zip(plan.graph, certificate.layers, strict=True):
            same_value(layer.y, p, found.outputs[node["name"]], f"{node['name']}, pass {p}")
            if layer.dx is not None:
                delta = found.deltas[node["name"]]
                same_value(layer.dx, p, delta, f"gradient at {node['name']}, pass {p}")
            for i, dx in enumerate(getattr(layer, "dxs", ())):
                if dx is not None:
                    delta = [sample[i] for sample in found.deltas[node["name"]]]
                    same_value(dx, p, delta, f"gradient {i} at {node['name']}, pass {p}")
        same_value(certificate.head.logits, p, found.logits, f"logits of pass {p}")
        same(certificate.head.dz.tensor, p, found.dz, f"dz of pass {p}")
    for t in range(plan.steps):
        for parameter in certificate.parameters:
            name = parameter.g.name
            same_weights(parameter.grad, t, expected.gradients[t][name], name, "G")
            same_weights(parameter.e, t, expected.es[t][name], name, "E")
            if t + 1 < plan.steps:
                same_weights(parameter.v, t, expected.vs[t][name], name, "V")
    return expected


def refusals(case: Case) -> tuple[str, str]:
    """How executor and reference refuse a case."""
    with pytest.raises((RangeOverflow, GradientTooSmall)) as executed:
        case.execute()
    with pytest.raises(Refusal) as expected:
        reference_run(case)
    return executed.typename, str(expected.value)


def test_a_layer_type_is_a_declaration_an_executor_and_a_section_of_the_reference():
    """Of one name, and they agree on what the graph is made of."""
    assert set(reference.LAYERS) == set(LAYERS)
    for op, layer in LAYERS.items():
        executor = Executor.registry[layer]
        assert layer.__module__ == f"circuits.layers.{op}" and executor.__module__ == f"prover.execution.layers.{op}"
        section = reference.LAYERS[op]
        assert (section.through, section.rectifies) == (layer.spec.transparent, layer.spec.rectifies)


# ------------------------------------------------------------------------------------------------ random networks


@pytest.mark.parametrize("seed", SEEDS)
def test_random_networks_execute_exactly_as_the_reference(seed):
    case = grid_case(seed)
    try:
        expected = reference_run(case)
    except Refusal:
        assert seed in REFUSED
        refusals(case)
        return
    assert_equal(case, expected)


def test_the_random_networks_cover_what_they_should():
    nodes, cases = [], [grid_case(seed) for seed in SEEDS]
    for case in cases:
        nodes += case.model.graph
    assert {node["op"] for node in nodes} == {"conv2d", "linear", "relu", "maxpool2d", "avgpool2d", "flatten"}
    assert any(node.get("bias", "") is None for node in nodes)
    convolutions = [node for node in nodes if node["op"] == "conv2d"]
    assert any(node["padding"] != [0, 0] for node in convolutions)
    assert any(node["stride"][0] != node["stride"][1] for node in convolutions)
    for op in ("maxpool2d", "avgpool2d"):
        pools = [node for node in nodes if node["op"] == op]
        assert any(k > s for node in pools for k, s in zip(node["kernel"], node["stride"], strict=True))
        assert any(k < s for node in pools for k, s in zip(node["kernel"], node["stride"], strict=True))
    assert any(case.model.input["pad"] for case in cases)
    assert {(c.plan.batch, c.plan.variant, c.plan.kind) for c in cases} >= {
        (b, v, k) for b in BATCHES for v, k in zip(VARIANTS, KINDS, strict=True)
    }


# ------------------------------------------------------------------------------------------------ chosen networks


def test_ties_in_overlapping_maxima_go_to_the_first():
    rng = np.random.default_rng(1)
    g = Graph(rng, [1, 6, 7], pad=1).conv(2, (1, 1), bias=False).pool("maxpool2d", (3, 2), (1, 1))
    g.relu().pool("maxpool2d", (2, 3), (2, 1)).flatten().linear(3)
    pixels = rng.choice(np.array([0, 255], np.uint8), (2, 2, 1, 6, 7))
    expected = assert_equal(g.case(pixels=pixels, batch=2))
    windows = np.array(expected.passes[0].outputs["conv2d0"])[..., :3, :2]
    assert np.any((windows == windows.max(axis=(-2, -1), keepdims=True)).sum(axis=(-2, -1)) > 1)


def test_zero_pre_activations_have_gradient_zero():
    rng = np.random.default_rng(2)
    g = Graph(rng, [1, 4, 4]).conv(3).relu().flatten().linear(4).relu().linear(3)
    for name, rows in (("conv2d0", [0]), ("linear3", [1, 2])):
        g.params[f"{name}.weight"][rows] = 0
        g.params[f"{name}.bias"][rows] = 0
    expected = assert_equal(g.case(variant="sam", steps=3))
    first = expected.passes[0]
    assert {z for sample in first.outputs["conv2d0"] for z in entries(sample[0])} == {0}
    assert {d for sample in first.deltas["relu1"] for d in entries(sample[0])} == {0}
    assert any(d for sample in first.deltas["relu1"] for d in entries(sample[1:]))


def test_zero_inputs_leave_only_the_biases():
    g = Graph(np.random.default_rng(3), [1, 3, 3], pad=1)
    g.spec["mean"] = [0.0]
    g.conv(2, pad=(1, 1)).relu().flatten().linear(3)
    expected = assert_equal(g.case(pixels=np.zeros((2, 2, 1, 3, 3), np.uint8), batch=2))
    assert set(entries(expected.gradients[0]["conv2d0.weight"])) == {0}
    assert any(expected.gradients[0]["linear3.bias"])


@pytest.mark.parametrize(("margin", "scale"), [(0.2, 4), (0.5, 10), (1.0, 19)])
@pytest.mark.parametrize("variant", VARIANTS)
def test_saturated_logits_are_scaled_up_and_their_exponentials_underflow(margin, scale, variant):
    """Classes 16 margin and 16 nats behind, one 240 nats: k grows with the margin, exp is 0 at the last."""
    weights = [[0.0, 0.25], [-margin, 0.0], [-15.0, 0.25], [-1.0, 0.5]]
    expected = assert_equal(classifier(weights, [[64, 0], [56, 8]], [0, 0], variant=variant))
    assert expected.scales == [scale, scale]
    logits = expected.passes[0].logits[0]
    assert exp_minus(max(logits) - logits[2]) == 0


@pytest.mark.parametrize("variant", VARIANTS)
def test_confident_errors_cost_their_distance(variant):
    weights = [[1.5, 0.25], [-1.5, 0.125], [0.5, -0.5]]
    expected = assert_equal(classifier(weights, [[255, 3], [200, 255]], [1, 1], variant=variant))
    assert expected.scales == [0, 0]
    assert expected.losses[0] > 300 * ONE


def test_magnitudes_close_to_their_limits_are_exact():
    """Inputs, logits, gradients of almost 2048 and a loss of almost 4096 nats."""
    x = np.array([(1 << 43) - (1 << 23), 5, -(1 << 43) + (1 << 23)]).reshape(1, 1, 1, 1, 3)
    g = Graph(np.random.default_rng(4), [1, 1, 3]).flatten().linear(2, bias=False)
    g.spec.update(mean=[0.0], std=[1.0])
    g.params["linear1.weight"] = np.array([[0.5, 0.9, -0.49], [-0.5, -15.9, 0.49]])
    pixels = np.repeat(x, 2, axis=0)
    for variant in VARIANTS:
        case = g.case(
            pixels=pixels, labels=np.array([[1], [1]]), batch=1, divisor=1 << 22, variant=variant, rho=Fraction(1, 1000)
        )
        expected = assert_equal(case)
        assert expected.losses[0] > 4000 * ONE
        assert max(entries(expected.gradients[0]["linear1.weight"])) > 0.99 * 2**43
    assert expected.passes[0].logits[0][0] > 0.98 * 2**43


def test_weights_close_to_their_limit_are_exact():
    weights = [[15.99, -15.99, 3.0], [-15.99, 15.99, -15.99]]
    expected = assert_equal(classifier(weights, [[230, 20, 3]], [1], variant="sam", steps=3))
    assert min(expected.qs) > 0
    assert max(entries(expected.passes[2].weights["linear1.weight"])) > 15 << 32


def test_divisor_one_is_the_plainest_update():
    g = Graph(np.random.default_rng(5), [1, 2, 3], scale=0.3).conv(2, (2, 2)).relu().flatten().linear(3)
    assert_equal(g.case(divisor=1, batch=1, steps=3))


def test_labels_of_two_bytes_are_read():
    g = Graph(np.random.default_rng(6), [1, 1, 2]).flatten().linear(300)
    labels = np.array([[299, 256], [255, 0]])
    expected = assert_equal(g.case(labels=labels, batch=2, label_bytes=2, rho=Fraction(1, 1000)))
    assert all(expected.passes[0].dz[b][label] < 0 for b, label in enumerate([299, 256]))


def test_layers_before_the_first_weight_and_after_the_last_are_exact():
    g = Graph(np.random.default_rng(7), [2, 5, 6], pad=1).pool("avgpool2d", (2, 2), (1, 2)).relu()
    g.pool("maxpool2d", (2, 1), (1, 1)).conv(2, (2, 2), bias=False).flatten().relu().linear(3).flatten().relu()
    assert_equal(g.case(rho=Fraction(1, 1000)))


@pytest.mark.parametrize(("seed", "options"), [(0, {}), (1, {"kind": "q32", "variant": "sam", "steps": 3})])
@pytest.mark.parametrize("make", [bordered, grouped, clipped, curved, hard, joined, shuffled, pointwise, standardised])
def test_what_convolutional_networks_are_made_of_equals_the_reference(make, seed, options):
    assert_equal(make(seed, **options))


@pytest.mark.parametrize(
    "case",
    [
        language(),
        language(1, tied=False, causal=False, variant="sam", steps=3),
        language(2, label_bytes=2, causal=False, divisor=37),
        patches(),
        patches(1, kind="q32", variant="sam", steps=3),
        attended(),
        attended(1, kind="q32", variant="sam"),
    ],
)
def test_sequences_equal_the_reference(case):
    assert_equal(case)


@pytest.mark.parametrize("seed", range(8))
def test_random_sequences_equal_the_reference(seed):
    assert_equal(random_sequence(seed))


@pytest.mark.parametrize("divisor", [1 << 22, 5 << 20, 1 << 26])
@pytest.mark.parametrize("cost", [10, 0])
def test_large_divisors_of_updates_equal_the_reference(divisor, cost):
    """Of windows of 16 tokens: 2^26, from which on a divisor is split, and up to 2^30, the largest."""
    assert_equal(language(length=16, divisor=divisor, batch=1, residue_cost=cost))


def test_a_border_is_larger_than_no_value():
    g = Graph(np.random.default_rng(13), [1, 3, 3]).conv(2, (1, 1)).pool("maxpool2d", (3, 3), (2, 2), padding=[1, 1])
    g.params["conv2d0.bias"][:] = -9
    expected = assert_equal(g.flatten().linear(3).case(batch=1)).passes[0]
    assert max(entries(expected.outputs["maxpool2d1"])) < 0


@pytest.mark.parametrize(("seed", "options"), [(0, {}), (1, {"kind": "q32", "variant": "sam", "steps": 3})])
def test_branches_equal_the_reference(seed, options):
    assert_equal(residual(seed, **options))


@pytest.mark.parametrize(("branches", "readers"), [(3, 3), (4, 5), (9, 6)])
def test_long_sums_equal_the_reference(branches, readers):
    case = fan(branches, readers)
    assert_equal(case)
    own = {t.name.split("/")[1] for t in Certificate(case.plan).circuit.tensors if t.name.startswith(("add", "@"))}
    assert own == ({"sum", "dy"} if branches > 3 else set())


def test_a_sum_with_itself_has_its_terms_twice():
    g = Graph(np.random.default_rng(11), [2, 3, 3], scale=0.2).conv(2, (1, 1))
    for _ in range(3):
        g.add(g.last)
    g.relu()  # of eight terms, which nothing else reads
    rectified = g.last
    g.conv(2, (1, 1)).add(rectified).add(rectified).add(g.last).norm().flatten().linear(3)
    case = g.case(rho=Fraction(1, 1000))
    assert_equal(case)
    own = {t.name for t in Certificate(case.plan).circuit.tensors if t.name.endswith(("/sum", "/dy"))}
    assert own == {"add8/sum", "relu4/dy", "conv2d0/dy", "score/sum"}


@pytest.mark.parametrize(("seed", "options"), [(0, {}), (1, {"kind": "q32", "variant": "sam", "steps": 3})])
def test_batch_norms_equal_the_reference(seed, options):
    assert_equal(normalised(seed, **options))


@pytest.mark.parametrize(("seed", "options"), [(0, {}), (1, {"kind": "q32", "variant": "sam", "steps": 3})])
def test_leaky_relus_equal_the_reference(seed, options):
    expected = assert_equal(leaky(seed, **options)).passes[0]
    assert min(z for sample in expected.outputs["leaky_relu0"] for z in entries(sample)) < 0


def test_the_gradient_of_a_leaky_relu_at_zero_is_its_slope():
    g = Graph(np.random.default_rng(2), [1, 4, 4]).conv(3).leaky_relu(0.25).flatten().linear(3)
    g.params["conv2d0.weight"][0] = 0
    g.params["conv2d0.bias"][0] = 0
    expected = assert_equal(g.case(steps=3, variant="sam")).passes[0]
    assert {z for sample in expected.outputs["conv2d0"] for z in entries(sample[0])} == {0}
    pairs = zip(expected.deltas["flatten2"], expected.deltas["leaky_relu1"], strict=True)
    for before, after in ((entries(d[0]), list(entries(a[0]))) for d, a in pairs):
        assert after == [(d + 2) >> 2 for d in before] and any(after)


def test_windows_that_skip_positions_give_them_no_gradient():
    g = Graph(np.random.default_rng(8), [1, 7, 7]).conv(2, (1, 1), bias=False).pool("avgpool2d", (1, 2), (3, 3))
    case = g.flatten().linear(3).case(rho=Fraction(1, 1000))
    delta = assert_equal(case).passes[0].deltas["avgpool2d1"][0]
    assert set(entries([channel[1] for channel in delta])) == {0}


def test_ys_follow_eps_over_its_whole_range():
    results = [assert_equal(tiny_cnn(eps=eps)).ys for eps in (Fraction(0), EPS, Fraction(2**40 - 2, 2**40 - 1))]
    assert results[0] != results[1] != results[2]
    assert abs(results[2][0]) < 1 << 32  # the logarithm of a little more than one


# ------------------------------------------------------------------------------------------------ refusals


def test_saturated_batches_are_refused_by_both():
    for margin in (-1.39, -4.0):  # 22.24 nats: k = 32; 64 nats: nothing is left
        case = classifier([[0.0], [margin]], [[64]], [0])
        assert refusals(case) == ("GradientTooSmall", "every sample has its true class at a probability too close to 1")
    assert assert_equal(classifier([[0.0], [-1.38]], [[64]], [0])).scales == [31, 31]  # 22.08 nats
    refused = refusals(classifier([[0.0], [-1.38]], [[64], [72]], [0, 0]))  # k = 31, but a mean loss of 2^-32.6
    assert refused == ("GradientTooSmall", "the loss is below 2^-32 or diverges")


def test_vanishing_gradients_are_refused_by_both():
    g = Graph(np.random.default_rng(9), [1, 2, 2]).flatten().linear(3, bias=False)
    g.params["linear1.weight"][:] = 0
    assert refusals(g.case())[0] == "GradientTooSmall"  # w g = 0
    assert_equal(g.case(variant="sam"))


@pytest.mark.parametrize(("bits", "refused"), [(9, False), (12, False), (20, True)])
def test_flat_networks_are_refused_by_both_only_if_rounding_is_all_that_is_left(bits, refused):
    """E is about 2^-(2 bits) of the gradient; the step size has up to 60 bits."""
    g = Graph(np.random.default_rng(10), [1, 2, 2]).flatten().linear(3, bias=False).relu().linear(3)
    for array in g.params.values():
        array *= 2.0**-bits
    case = g.case(rho=Fraction(7))
    if refused:
        assert refusals(case) == ("GradientTooSmall", "the gradient nearly vanishes")
    else:
        assert max(assert_equal(case).qs) >> 44


@pytest.mark.parametrize("rho", [Fraction(1, 20), Fraction(7), Fraction(1, 10**5)])
def test_both_refuse_the_same_step_sizes(rho):
    """The least n whose q is below the limit, and the one before."""
    size = StepSize(Net(2, 1), rho)
    solve = StepSizeExecutor(size).solve
    least = floor(rho * rho * (1 << 144) / Q_LIMIT**2) + 1
    q = solve(least, 0)
    assert q == step_size(least, rho) < Q_LIMIT
    w = Witness(Layout(size.net.circuit))
    w.put(size.q.tensor, np.array([q, Q_LIMIT - 1], object))
    for n in (least - 1, 0):
        with pytest.raises(GradientTooSmall):
            solve(n, 0)
        with pytest.raises(Refusal):
            step_size(n, rho)
    with pytest.raises(RangeOverflow):
        w.put(size.q.tensor, np.array([q, Q_LIMIT], object))


@pytest.mark.parametrize(
    ("weights", "pixels", "what"),
    [
        ([[15.9] * 3, [0.0] * 3], [[255, 255, 200]], "linear1"),  # logits
        ([[0.3, 0.0], [9.0, 0.0]], [[255, 1], [255, 1], [255, 1]], "w * g"),  # E and V
    ],
)
def test_values_out_of_range_are_refused_by_both(weights, pixels, what):
    assert refusals(classifier(weights, pixels, [0] * len(pixels))) == ("RangeOverflow", f"{what} is out of range")


@pytest.mark.parametrize(("weight", "count", "refused"), [(11, 2, 0), (11, 3, 1), (-15, 4, 0), (-15, 5, 1)])
def test_sums_are_refused_by_both_where_a_relu_cannot_hold_them(weight, count, refused):
    """A sum has no limit of its own; the ReLU's output has, 2048, and its magnitude, 4096."""
    g = Graph(np.random.default_rng(12), [1, 1, 1]).flatten().linear(1, bias=False)
    once = g.last
    for _ in range(count - 1):
        g.add(once)
    g.relu().linear(2)
    g.spec.update(mean=[0.0], std=[4 / 255])
    g.params["linear1.weight"][:] = weight  # times 63.75
    g.params[g.nodes[-1]["weight"]] *= 2.0**-10
    pixels = np.full((2, 1, 1, 1, 1), 255, np.uint8)
    case = g.case(batch=1, pixels=pixels, variant="sam", rho=Fraction(1, 1000), divisor=1 << 22)
    if refused:
        assert refusals(case) == ("RangeOverflow", f"relu{count + 1} is out of range")
    else:
        assert_equal(case)


@pytest.mark.parametrize(
    ("weight", "count", "refused"),
    [(8.2, 4, False), (-8.2, 4, False), (6.4, 5, False), (6.5, 5, True), (-6.5, 5, True)],
)
def test_sums_of_more_than_four_terms_are_refused_by_both_from_2048_on(weight, count, refused):
    g = Graph(np.random.default_rng(14), [1, 1, 1]).flatten().linear(1, bias=False)
    once = g.last
    for _ in range(count - 1):
        g.add(once)
    g.linear(2)
    g.spec.update(mean=[0.0], std=[4 / 255])
    g.params["linear1.weight"][:] = weight  # times 63.75
    g.params[g.nodes[-1]["weight"]] *= 2.0**-10
    pixels = np.full((2, 1, 1, 1, 1), 255, np.uint8)
    case = g.case(batch=1, pixels=pixels, variant="sam", rho=Fraction(1, 1000), divisor=1 << 22)
    if refused:
        assert refusals(case) == ("RangeOverflow", f"the sum add{count} is out of range")
    else:
        assert_equal(case)


@pytest.mark.parametrize(("readers", "sign", "refused"), [(4, 1, False), (5, 1, True), (5, -1, True)])
def test_gradients_of_more_than_four_terms_are_refused_by_both_from_2048_on(readers, sign, refused):
    """Each reader passes on 15 * 31.8: four of them 1908, five 2385."""
    g = Graph(np.random.default_rng(15), [1, 1, 1]).flatten().linear(1, bias=False)
    once, total = g.last, None
    for _ in range(readers):
        g.linear(1, bias=False).read(once)
        g.params[g.nodes[-1]["weight"]][:] = 15
        if total:
            g.add(total)
        total = g.last
    g.linear(2)
    g.spec.update(mean=[0.0], std=[4 / 255])
    g.params["linear1.weight"][:] = 0
    g.params[g.nodes[-1]["weight"]][:] = [[-15.9 * sign], [15.9 * sign]]
    g.params[g.nodes[-1]["bias"]][:] = [-8, 8]  # the wrong class for certain
    ones = np.ones((2, 1, 1, 1, 1), np.uint8)
    case = g.case(
        batch=1, pixels=ones, labels=np.zeros((2, 1), int), variant="sam", rho=Fraction(1, 1000), divisor=1 << 22
    )
    if refused:
        assert refusals(case) == ("RangeOverflow", "the gradient at linear1 is out of range")
    else:
        assert_equal(case)


@pytest.mark.parametrize(("gamma", "refused"), [(15.5, False), (-15.5, False), (15.99, True), (-15.99, True)])
def test_scales_of_a_batch_norm_are_refused_by_both_from_64_on(gamma, refused):
    """1 / sqrt(var + eps) is 4.064 here."""
    g = Graph(np.random.default_rng(13), [1, 1, 2]).norm().flatten().linear(2)
    g.params["batchnorm2d0.weight"][:], g.params["batchnorm2d0.var"][:] = 1, 0.06054
    case = g.case(batch=1, variant="sam", rho=Fraction(1, 10**5), divisor=1 << 22)
    case.plan.weights["batchnorm2d0.weight"][:] = round(gamma * 2**32)  # a model that has it is refused by itself
    if refused:
        assert refusals(case) == ("RangeOverflow", "scale of batchnorm2d0 is out of range")
    else:
        assert_equal(case)


def test_weights_that_drift_out_of_range_are_refused_by_both():
    weights = [[127.9, 0.0], [-127.9, 0.0]]
    refused = refusals(classifier(weights, [[60, 0]] * 18, [1] * 18, variant="sam", divisor=1))
    assert refused == ("RangeOverflow", "new w is out of range")
    refused = refusals(classifier(weights, [[1, 0]], [1], variant="sam", rho=Fraction(1, 7)))
    assert refused == ("RangeOverflow", "w + d is out of range")


def test_range_errors_name_step_pass_layer_value_and_limit():
    case = classifier([[15.9] * 3, [0.0] * 3], [[255, 255, 200]], [0])
    with pytest.raises(RangeOverflow, match=r"^step 0, pass at w, linear1.*: .value. [0-9.]+ exceeds the limit 2048;"):
        case.execute()
    case = classifier([[127.9, 0.0], [-127.9, 0.0]], [[1, 0]], [1], variant="sam", rho=Fraction(1, 7))
    with pytest.raises(RangeOverflow) as refusal:
        case.execute()
    error = refusal.value
    assert (error.layer, error.where) == ("weight/linear1.weight", "step 0, pass at w")
    assert error.limit == pytest.approx(128, abs=1e-3) and error.limit <= error.value < 128.1


@pytest.mark.parametrize(
    ("value", "limit", "words"),
    [
        (16.24, 16, "16.24 exceeds the limit 16"),
        (16.0000001, 16, "16.0000001 exceeds the limit 16"),
        (-2048.0, 2048.0, "2048 reaches the limit 2048"),
    ],
)
def test_a_value_and_its_limit_have_digits_enough_to_differ(value, limit, words):
    assert words in str(RangeOverflow("x", value, limit))


# ------------------------------------------------------------------------------------------------ parts


@pytest.mark.parametrize("kind", KINDS)
def test_inputs_are_the_models(kind):
    g = Graph(np.random.default_rng(10), [3, 2, 3], pad=2)
    g.spec.update(mean=[0.1, -0.3, 1e-3], std=[0.25, 1 / 3, 7.1])
    case = g.flatten().linear(2).case(kind=kind)
    found = [[normalise(x, g.spec, kind) for x in batch] for batch in case.pixels.tolist()]
    assert found == input_integers(g.spec, case.pixels).tolist()


@pytest.mark.parametrize("terms", [1, 1024, 1025, 3001])
def test_matrix_products_of_extreme_digits_are_exact(terms):
    """Odd sums of odd numbers around 2^42: beyond 2^11 terms binary64 cannot hold them."""
    rng = np.random.default_rng(11)
    for sign in (1, -1):
        a = (1 << 21) - 1 - 2 * rng.integers(0, 2, (2, 3, terms))
        b = sign * (1 << 21) - sign - 2 * rng.integers(0, 2, (2, terms, 2))
        x, y = a.astype(object), b.astype(object)
        limbs = exact_matmul(a, b)
        assert limbs[0].tolist() == (x[0] @ y[0]).tolist() and limbs[2].tolist() == (x[1] @ y[1]).tolist()
        assert limbs[1].tolist() == (x[0] @ y[1] + x[1] @ y[0]).tolist()


def nearest(x: Fraction) -> int:
    return floor(x + Fraction(1, 2))


def series_exp(x: Fraction) -> Fraction:
    """exp(-x) by halving the argument and the exponential series, to about 2^-150."""
    halvings = max(0, (x.numerator // x.denominator).bit_length())
    small = x / 2**halvings
    y = sum((-small) ** i / factorial(i) for i in range(45))
    for _ in range(halvings):
        y = Fraction(floor(y * y * 2**300), 2**300)
    return y


def series_ln(x: Fraction) -> Fraction:
    """ln x for x in [1/2, 1] by 2 artanh((x - 1) / (x + 1)), to about 2^-150."""
    z = (x - 1) / (x + 1)
    return 2 * sum(z ** (2 * i + 1) / (2 * i + 1) for i in range(50))


def test_tables_are_the_nearest_integers_to_their_definitions():
    for chunk in range(5):
        expected = [nearest(ONE * series_exp(Fraction(v << (18 + 4 * chunk), 1 << 32))) for v in range(16)]
        assert expected == [exp_factor(chunk, v) for v in range(16)] == list(constants.exp_table(chunk))
    for stage in range(4):
        base, unit = (2 if stage == 0 else 1) * ONE, 16 ** (stage + 1)
        factors = [-(-base * unit // (unit + c)) for c in range(16 if stage == 0 else 17)]
        assert factors == list(constants.log_factors(stage))
        logs = [nearest(-ONE * series_ln(Fraction(f, base))) for f in factors]
        assert logs == list(constants.log_table(stage)) == [-ln_constant(Fraction(f, base)) for f in factors]
    assert -nearest(ONE * series_ln(Fraction(1, 2))) == ln_constant(Fraction(2)) == constants.ln_scaled(2)


def as_array(values: list[int]) -> np.ndarray:
    return np.array(values, object)


def test_exponentials_equal_the_reference_at_the_edges_of_every_chunk():
    points = {v << (18 + 4 * i) for i in range(6) for v in range(17)}
    points |= {((1 << 38) - 1) - (15 << (18 + 4 * i)) for i in range(5)} | {(1 << 44) - 1, (1 << 38) + 1}
    points = sorted({x + d for x in points for d in (-1, 0, 1)} - {-1})
    assert exponential.evaluate(as_array(points))["y"].tolist() == [exp_minus(x) for x in points]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 44).flatmap(lambda b: st.integers(0, (1 << b) - 1)), min_size=1, max_size=40))
def test_exponentials_equal_the_reference(points):
    assert exponential.evaluate(as_array(points))["y"].tolist() == [exp_minus(x) for x in points]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 154).flatmap(lambda b: st.integers(1, (1 << b) - 1)), min_size=1, max_size=40))
def test_logarithms_equal_the_reference_whatever_the_number_of_limbs(points):
    expected = [ln(v) for v in points]
    limbs = max(3, -(-max(points).bit_length() // 22))
    for count in (limbs, limbs + 2):
        assert logarithm.evaluate(as_array(points), count)["ln"].tolist() == expected
