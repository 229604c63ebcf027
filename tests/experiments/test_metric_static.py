"""Evaluation over datasets, static and worst-case sharpness, against plain implementations and closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from zkcert.errors import UnusableInput
from zkcert.metric import STEP_FUNCTIONS, Network
from zkcert.metric.evaluate import accuracy, full_gradient, mean_loss
from zkcert.metric.perturbation import norm, perturbation
from zkcert.metric.static import sharpness
from zkcert.metric.worst_case import LARGEST, worst_case_rise, worst_case_sharpness
from zkcert.zoo import mlp


def samples(count: int, seed: int = 0, classes: int = 5) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 1, 4, 4, dtype=torch.float64, generator=draw)
    return x, torch.randint(0, classes, (count,), generator=draw)


def small_network(seed: int = 0) -> Network:
    return Network.of_module(mlp(16, [12], 5, seed=seed).double())


def plain_loss(module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    logits = module(x)
    return (torch.logsumexp(logits, 1) - logits[torch.arange(len(y)), y]).mean()


# ---------------------------------------------------------------------------------------- evaluation


@settings(max_examples=20, deadline=None)
@given(count=st.integers(1, 23), batch_size=st.integers(1, 30), seed=st.integers(0, 9))
def test_chunks_of_any_size_give_the_mean_over_the_dataset(count, batch_size, seed):
    module = mlp(16, [6], 5, seed=seed).double()
    network, (x, y) = Network.of_module(module), samples(count, seed)
    loss = plain_loss(module, x, y)
    wanted = torch.autograd.grad(loss, list(module.parameters()))
    found, gradient = full_gradient(network, network.weights, x, y, batch_size)
    assert found == pytest.approx(loss.item(), rel=1e-12)
    assert mean_loss(network, x, y, batch_size) == pytest.approx(loss.item(), rel=1e-12)
    for a, b in zip(gradient, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-14)
    hits = sum(max(range(5), key=module(x[i : i + 1])[0].tolist().__getitem__) == int(y[i]) for i in range(count))
    assert accuracy(network, x, y, batch_size) == hits / count


def test_evaluation_at_other_weights_and_in_single_precision():
    network, other, (x, y) = small_network(0), small_network(1), samples(20)
    assert mean_loss(network, x, y, weights=other.weights) == mean_loss(other, x, y) != mean_loss(network, x, y)
    assert accuracy(network, x, y, weights=other.weights) == accuracy(other, x, y)
    single = Network.of_module(mlp(16, [12], 5))
    assert mean_loss(single, x, y) == pytest.approx(mean_loss(network, x, y), rel=1e-5)
    assert full_gradient(single, single.weights, x, y)[1][0].dtype == torch.float32


def test_labels_per_position_count_one_by_one():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 7)).double()
    network = Network.of_module(module)
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randint(0, 9, (5, 3), generator=draw), torch.randint(0, 7, (5, 3), generator=draw)
    flat = Network.of_module(module)
    assert mean_loss(network, x, y, 2) == pytest.approx(mean_loss(flat, x.reshape(15), y.reshape(15)), rel=1e-12)
    assert accuracy(network, x, y, 2) == accuracy(flat, x.reshape(15), y.reshape(15))
    _, gradient = full_gradient(network, network.weights, x, y, 2)
    _, wanted = full_gradient(flat, flat.weights, x.reshape(15), y.reshape(15))
    for a, b in zip(gradient, wanted, strict=True):
        torch.testing.assert_close(a, b)


def test_logits_that_are_no_numbers_are_never_right():
    network, (x, y) = small_network(), samples(8)
    broken = [w * math.nan for w in network.weights]
    assert accuracy(network, x, torch.zeros_like(y), weights=broken) == 0.0


@pytest.mark.parametrize("measure", [accuracy, mean_loss, lambda n, *a: full_gradient(n, n.weights, *a), sharpness])
def test_samples_and_labels_that_do_not_fit_are_refused(measure):
    network, (x, y) = small_network(), samples(6)
    for bad_x, bad_y in ((x, y[:5]), (x[:0], y[:0]), (x, y.double()), (x, y.int())):
        with pytest.raises(UnusableInput):
            measure(network, bad_x, bad_y)


def test_batch_sizes_below_one_are_refused():
    with pytest.raises(UnusableInput, match="batch size"):
        mean_loss(small_network(), *samples(6), batch_size=0)


# ----------------------------------------------------------------------------------- static sharpness


def plain_sharpness(module, x, y, rho, scaled, eta):
    """Perturb an nn.Module in place, by the formulas of the SAM and ASAM papers."""
    named = list(module.named_parameters())
    loss = plain_loss(module, x, y)
    gradients = torch.autograd.grad(loss, [p for _, p in named])
    with torch.no_grad():
        t = [p.abs() + eta if scaled(name) else torch.ones_like(p) for name, p in named]
        length = math.sqrt(sum(float(((a * g) ** 2).sum()) for a, g in zip(t, gradients, strict=True)))
        for (_, p), a, g in zip(named, t, gradients, strict=True):
            p += rho * a**2 * g / length
        return rho * length, float(plain_loss(module, x, y) - loss)


@pytest.mark.parametrize("variant", STEP_FUNCTIONS)
@pytest.mark.parametrize("batch_size", [7, 256])
def test_static_sharpness_equals_a_plain_implementation(variant, batch_size):
    scaled = {"sam": lambda _: False, "asam-all": lambda _: True, "asam-samsung": lambda name: "weight" in name}
    scaled["asam-shifted"] = scaled["asam-all"]
    module = mlp(16, [12], 5).double()
    x, y = samples(40)
    found = sharpness(Network.of_module(module), x, y, variant=variant, rho=0.3, eta=0.02, batch_size=batch_size)
    eta = 0.02 if variant in ("asam-samsung", "asam-shifted") else 0.0
    assert found.loss == pytest.approx(plain_loss(module, x, y).item(), rel=1e-12)
    first_order, ascent = plain_sharpness(module, x, y, 0.3, scaled[variant], eta)
    assert found.first_order == pytest.approx(first_order, rel=1e-10)
    assert found.ascent == pytest.approx(ascent, rel=1e-9)
    assert found.to_dict() == {"first_order": found.first_order, "ascent": found.ascent, "loss": found.loss}


@pytest.mark.parametrize("variant", STEP_FUNCTIONS)
def test_both_numbers_agree_for_small_radii_and_no_direction_rises_more(variant):
    network, (x, y) = small_network(), samples(40)
    found = sharpness(network, x, y, variant=variant, rho=1e-4)
    assert found.ascent == pytest.approx(found.first_order, rel=1e-2)
    draw = torch.Generator().manual_seed(3)
    for _ in range(20):  # directions of length rho in the metric of T_w
        v = [torch.randn(w.shape, dtype=w.dtype, generator=draw) for w in network.weights]
        length = norm(v)
        t = {"sam": lambda w: 1.0, "asam-all": abs, "asam-samsung": lambda w: abs(w) + 0.01 if w.ndim > 1 else 1.0}
        t["asam-shifted"] = lambda w: abs(w) + 0.01
        moved = [w + t[variant](w) * 1e-4 * a / length for w, a in zip(network.weights, v, strict=True)]
        assert mean_loss(network, x, y, weights=moved) - found.loss < found.ascent


@pytest.mark.parametrize("p", [1.25, 2.0, 4.0, math.inf])
def test_the_perturbation_of_eq_2_has_its_norm_and_its_rise_whatever_p(p):
    """||T^-1 e||_p = rho, <g, e> = rho ||T g||_q, and Hoelder: no other direction of that norm promises more."""
    rho, draw = 0.3, torch.Generator().manual_seed(5)
    g, t = ([torch.randn(7, dtype=torch.float64, generator=draw) for _ in range(2)] for _ in range(2))
    t = [v.abs() for v in t]
    found, moves = perturbation(t, g, rho, p)
    unscaled = torch.cat([e / d for e, d in zip(moves, t, strict=True)])
    assert torch.linalg.vector_norm(unscaled, p).item() == pytest.approx(rho, rel=1e-12)
    promised = sum(float((a * e).sum()) for a, e in zip(g, moves, strict=True))
    q = 1.0 if math.isinf(p) else p / (p - 1)
    scaled = torch.cat([a * d for a, d in zip(g, t, strict=True)])
    assert found == pytest.approx(promised, rel=1e-12) == rho * torch.linalg.vector_norm(scaled, q).item()
    for _ in range(20):
        other = torch.randn(14, dtype=torch.float64, generator=draw)
        assert float((scaled * other).sum()) * rho / torch.linalg.vector_norm(other, p).item() < found
    if p == 2:  # the formula for all p against the one of the proofs
        nearly = perturbation(t, g, rho, 2 + 1e-12)[1]
        assert all(torch.allclose(a, b, rtol=1e-9) for a, b in zip(moves, nearly, strict=True))
    nothing, still = perturbation(t, [torch.zeros_like(a) for a in g], rho, p)
    assert nothing == 0 and all((e == 0).all() for e in still)
    for bad in (1.0, 0.5, math.nan):
        with pytest.raises(UnusableInput, match="above 1"):
            perturbation(t, g, rho, bad)


def quadratic(weights: Tensor) -> tuple[Network, Tensor, Tensor]:
    """A network of one sample whose loss is log(1 + exp(|w|^2))."""
    network = Network(("weight",), (weights,), lambda w, x: torch.stack([0 * x[:, 0], x[:, 0] * (w[0] ** 2).sum()], 1))
    return network, torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, dtype=torch.int64)


@pytest.mark.parametrize("p", [2.0, math.inf])
def test_the_rise_of_the_loss_within_a_radius_by_hand(p):
    """Along u of |w|: of (0, 3) only the second entry can move, to 3 (1 + rho); of (3, 3) all entries, by p's norm."""
    loss = lambda square: math.log1p(math.exp(square))  # noqa: E731
    network, x, y = quadratic(torch.tensor([0.0, 3.0], dtype=torch.float64))
    found = worst_case_rise(network, x, y, rho=0.1, p=p)
    assert found == pytest.approx(loss((3 * 1.1) ** 2) - loss(9), rel=1e-9)
    network, x, y = quadratic(torch.tensor([3.0, 3.0], dtype=torch.float64))
    both = 0.1 if math.isinf(p) else 0.1 / math.sqrt(2)
    assert worst_case_rise(network, x, y, rho=0.1, p=p) == pytest.approx(
        loss(18 * (1 + both) ** 2) - loss(18), rel=1e-6
    )


def test_the_rise_is_at_least_that_at_the_first_order_maximiser():
    network, (x, y) = small_network(), samples(40)
    for variant in STEP_FUNCTIONS:
        found = worst_case_rise(network, x, y, variant=variant, rho=0.3, ascent_steps=10)
        assert found > sharpness(network, x, y, variant=variant, rho=0.3).ascent - 1e-3
        assert found == pytest.approx(worst_case_rise(network, x, y, variant=variant, rho=0.3, batch_size=7), rel=1e-9)
    for bad in ({"p": 3.0}, {"rho": 0.0}, {"ascent_steps": 0}, {"step_size": 0.0}, {"eta": -1.0}):
        with pytest.raises(UnusableInput):
            worst_case_rise(network, x, y, **bad)


def test_adaptive_sharpness_ignores_a_rescaling_of_layers_and_plain_sharpness_does_not():
    """ReLU networks: w1 * c, b1 * c, w2 / c is the same function; Kwon et al., Theorem 1, with eta = 0."""
    module = mlp(16, [12], 5).double()
    x, y = samples(40)
    before = {v: sharpness(Network.of_module(module), x, y, variant=v) for v in ("sam", "asam-all")}
    with torch.no_grad():
        module.fc1.weight *= 8
        module.fc1.bias *= 8
        module.fc2.weight /= 8
    after = {v: sharpness(Network.of_module(module), x, y, variant=v) for v in ("sam", "asam-all")}
    assert after["asam-all"].first_order == pytest.approx(before["asam-all"].first_order, rel=1e-10)
    assert after["asam-all"].ascent == pytest.approx(before["asam-all"].ascent, rel=1e-9)
    assert after["sam"].first_order > 1.5 * before["sam"].first_order


def test_useless_radii_variants_and_networks_are_refused():
    network, data = small_network(), samples(6)
    for options in ({"rho": 0.0}, {"rho": math.nan}, {"eta": -1.0}, {"variant": "asam"}):
        with pytest.raises(UnusableInput):
            sharpness(network, *data, **options)
    broken = Network(network.names, tuple(w * math.inf for w in network.weights), network.forward)
    with pytest.raises(UnusableInput, match="not finite"):
        sharpness(broken, *data)


# ------------------------------------------------------------------------------------- worst case


def threshold_network(weights: Tensor) -> Network:
    """Says 0 where the sum of its weights is at least the input, 1 elsewhere; a smooth loss in between."""

    def forward(values, x):
        return torch.cat([values[0].sum().expand(len(x), 1), x], 1)

    return Network(("weight",), (weights,), forward)


@pytest.mark.parametrize(("drop", "wrong"), [(0.1, 10), (0.07, 7), (0.29, 29)])
def test_the_ratio_is_the_closed_form_where_the_worst_case_is_known(drop, wrong):
    """Inputs (i + 1/2)/100, all of class 0: within the box the sum falls by alpha times the sum of magnitudes."""
    weights = torch.tensor([1.5, -0.75, 0.25], dtype=torch.float64)
    x = (torch.arange(100, dtype=torch.float64)[:, None] + 0.5) / 100
    found = worst_case_sharpness(
        threshold_network(weights), x, torch.zeros(100, dtype=torch.int64), drop=drop, bisections=20, restarts=1
    )
    exact = (1 - (100 - wrong + 0.5) / 100) / 2.5
    assert found.accuracy == 1 and found.lowest == pytest.approx(1 - drop)
    assert found.below <= exact <= found.alpha  # the box is closed, and wrong answers need a little more
    assert found.alpha == pytest.approx(exact, rel=1e-5)
    assert found.sharpness == pytest.approx(1 / exact**2, rel=1e-4)


def plain_attack(module, x, y, alpha, seed, steps, step_size, batch_size):
    """Projected sign ascent on an nn.Module in place; the accuracy at its end."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        origin = [p.clone() for p in module.parameters()]
        for p, w in zip(module.parameters(), origin, strict=True):
            p += alpha * w.abs() * (2 * torch.rand(w.shape, dtype=w.dtype, generator=draw) - 1)
    for _ in range(steps):
        index = torch.randperm(len(y), generator=draw)[:batch_size]
        module.zero_grad()
        plain_loss(module, x[index], y[index]).backward()
        with torch.no_grad():
            for p, w in zip(module.parameters(), origin, strict=True):
                p += step_size * alpha * w.abs() * p.grad.sign()
                p.copy_(torch.minimum(torch.maximum(p, w - alpha * w.abs()), w + alpha * w.abs()))
    with torch.no_grad():
        result = float((module(x).argmax(1) == y).double().mean())
        for p, w in zip(module.parameters(), origin, strict=True):
            p.copy_(w)
    return result


def fitted() -> tuple[nn.Module, Tensor, Tensor]:
    module, (x, y) = mlp(16, [12], 5).double(), samples(60)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        plain_loss(module, x, y).backward()
        optimizer.step()
    return module, x, y


def test_every_trial_of_the_search_is_a_plain_projected_ascent():
    module, x, y = fitted()
    found = worst_case_sharpness(
        Network.of_module(module), x, y, restarts=3, ascent_steps=7, step_size=0.3, batch_size=16, bisections=3, seed=5
    )
    assert found.accuracy > 0.9 and 0 < found.below < found.alpha < LARGEST
    seeds = torch.randint(2**62, (3,), generator=torch.Generator().manual_seed(5)).tolist()
    gradients, evaluations, lowest = 0, 1, 1.0
    for alpha, accuracy_found in found.trials:
        seen = []
        for seed in seeds:
            seen.append(plain_attack(module, x, y, alpha, seed, 7, 0.3, 16))
            gradients, evaluations = gradients + 7, evaluations + 1
            if found.accuracy - seen[-1] > 0.1 - 1e-9:
                break
        assert accuracy_found == pytest.approx(min(seen))
        fell = found.accuracy - accuracy_found > 0.1 - 1e-9
        assert fell == (alpha >= found.alpha) and fell != (alpha <= found.below)
        lowest = min(lowest, accuracy_found) if alpha <= found.alpha else lowest
    assert (found.gradients, found.evaluations, found.lowest) == (gradients, evaluations, lowest)
    assert found.alpha / found.below == pytest.approx(2 ** (1 / 8))
    assert len({alpha for alpha, _ in found.trials}) == len(found.trials)


@pytest.mark.parametrize("start", [1e-4, 0.125, 2.0])
def test_the_search_finds_the_threshold_from_below_and_above(start):
    weights = torch.tensor([1.0], dtype=torch.float64)
    x = (torch.arange(100, dtype=torch.float64)[:, None] + 0.5) / 100
    labels = torch.zeros(100, dtype=torch.int64)
    found = worst_case_sharpness(threshold_network(weights), x, labels, start=start, bisections=12)
    assert found.alpha == pytest.approx(0.095, rel=1e-3) and found.below < found.alpha


def test_networks_that_no_perturbation_hurts_have_sharpness_nought():
    network, (x, y) = small_network(), samples(30)
    truth = nn.functional.one_hot(y, 5).double()
    immune = Network(network.names, network.weights, lambda w, x: truth[: len(x)] + 1e-9 * network.forward(w, x))
    found = worst_case_sharpness(immune, x, y, restarts=2, ascent_steps=2)
    assert found.alpha == math.inf and found.sharpness == 0.0 and found.to_dict()["alpha"] is None
    assert found.below == LARGEST == max(alpha for alpha, _ in found.trials)
    assert found.accuracy == found.lowest == 1.0


def test_networks_that_any_perturbation_hurts_stop_the_search():
    weights = torch.tensor([1.0], dtype=torch.float64)
    x, y = torch.ones(20, 1, dtype=torch.float64), torch.zeros(20, dtype=torch.int64)  # right by a hair
    found = worst_case_sharpness(threshold_network(weights), x, y, restarts=2, ascent_steps=2)
    assert found.below == 0.0 and 2.0**-20 <= found.alpha < 2.0**-18 and found.lowest == 0.0


def test_subsets_and_seeds():
    module, x, y = fitted()
    network = Network.of_module(module)
    options = {"restarts": 2, "ascent_steps": 3, "bisections": 2, "batch_size": 8}
    state = torch.get_rng_state()
    first, again, other = (worst_case_sharpness(network, x, y, subset=20, seed=s, **options) for s in (1, 1, 2))
    assert first == again != other
    assert first.samples == 20 and torch.equal(torch.get_rng_state(), state)
    assert all(round(20 * a, 9) == round(20 * a) for _, a in first.trials)
    for a, b in zip(network.weights, module.parameters(), strict=True):
        assert torch.equal(a, b)


def test_useless_searches_are_refused():
    module, x, y = fitted()
    network = Network.of_module(module)
    for bad in (
        {"drop": 0.0},
        {"drop": 1.0},
        {"drop": math.nan},
        {"restarts": 0},
        {"ascent_steps": 0},
        {"bisections": -1},
        {"step_size": 0.0},
        {"step_size": -1.0},
        {"start": 3.0},
        {"start": 0.0},
        {"subset": 0},
        {"subset": 61},
        {"batch_size": 0},
    ):
        with pytest.raises(UnusableInput):
            worst_case_sharpness(network, x, y, **bad)
    wrong = (network.forward(network.weights, x).argmin(1)).detach()
    with pytest.raises(UnusableInput, match="cannot fall"):
        worst_case_sharpness(network, x, wrong)
