"""Gradient coherence against loops, closed forms, and the identity with mini-batch sharpness by enumeration."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from zkcert import zoo
from zkcert.errors import UnusableInput
from zkcert.metric import STEP_FUNCTIONS, Coherence, Network, Probe, coherence, scaled_coherence, sharpness, trajectory
from zkcert.metric.coherence import sample_gradients


def samples(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 1, 4, 4, dtype=torch.float64, generator=draw)
    return x, torch.randint(0, 5, (count,), generator=draw)


def small_module(seed: int = 0) -> nn.Module:
    return zoo.mlp(16, [6], 5, seed=seed).double()


def plain_vectors(module: nn.Module, x: Tensor, y: Tensor, variant: str, eta: float) -> np.ndarray:
    """T_w g_z of every sample, flat, by one backward pass each."""
    rows = []
    for i in range(len(y)):
        module.zero_grad()
        logits = module(x[i : i + 1]).flatten(0, -2)
        (-torch.log_softmax(logits, -1)[torch.arange(len(logits)), y[i].flatten()]).mean().backward()
        row = []
        for name, p in module.named_parameters():
            t = {"sam": torch.ones_like(p), "asam-all": p.abs(), "asam-shifted": p.abs() + eta}.get(variant)
            if t is None:
                t = p.abs() + eta if "weight" in name else torch.ones_like(p)
            row.append((t * p.grad).flatten())
        rows.append(torch.cat(row).detach().numpy())
    return np.array(rows)


def check(module: nn.Module, x: Tensor, y: Tensor, found: Coherence, variant: str = "sam") -> None:
    v = plain_vectors(module, x, y, variant, 0.02)
    mean_square, square_of_mean = np.mean(np.sum(v**2, 1)), np.sum(np.mean(v, 0) ** 2)
    assert found.mean_square == pytest.approx(mean_square, rel=1e-10)
    assert found.square_of_mean == pytest.approx(square_of_mean, rel=1e-9)
    assert found.coherence == pytest.approx(square_of_mean / mean_square, rel=1e-9)
    assert found.n == len(y)


@pytest.mark.parametrize("variant", STEP_FUNCTIONS)
@pytest.mark.parametrize("batch_size", [1, 4, 256])
def test_coherence_equals_one_backward_pass_per_sample(variant, batch_size):
    module, (x, y) = small_module(), samples(11)
    network = Network.of_module(module)
    check(module, x, y, scaled_coherence(network, x, y, variant=variant, eta=0.02, batch_size=batch_size), variant)
    found = coherence(network, x, y, batch_size=batch_size)
    check(module, x, y, found)  # Def. 7 has no T_w
    assert found.to_dict()["coherence"] == found.coherence


class Attention(nn.Module):
    """Tokens to logits at every position."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.key, self.out = nn.Embedding(7, 8), nn.Linear(8, 8), nn.Linear(8, 7)

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x)
        return self.out(nn.functional.scaled_dot_product_attention(self.key(h), h, h, is_causal=True))


class DataDependent(nn.Module):
    """An operation that vmap refuses."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = small_module()

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) if float(x.sum()) < 1e9 else self.inner(-x)


def test_coherence_of_other_kinds_of_networks():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        residual = nn.Sequential(
            nn.Conv2d(1, 2, 3, padding=1), zoo.ResidualBlock(2, 3, 2), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(3, 5)
        )
        attention = Attention().double()
    residual = residual.double().eval()
    x, y = samples(5)
    check(residual, x, y, coherence(Network.of_module(residual), x, y))
    draw = torch.Generator().manual_seed(1)
    tokens, following = (torch.randint(0, 7, (5, 4), generator=draw) for _ in range(2))
    check(attention, tokens, following, coherence(Network.of_module(attention), tokens, following))


def test_networks_that_cannot_be_vectorised_are_looped_over():
    module, (x, y) = DataDependent(), samples(7)
    with pytest.raises(RuntimeError):
        torch.func.vmap(module)(x[:, None])
    check(module, x, y, coherence(Network.of_module(module), x, y, batch_size=3))


def test_sample_gradients_come_in_order_and_average_to_the_gradient():
    network, (x, y) = Network.of_module(small_module()), samples(7)
    parts = list(sample_gradients(network, x, y, 3))
    assert [len(part[0]) for part in parts] == [3, 3, 1]
    _, wanted = network.gradient(network.weights, x, y)
    for i, g in enumerate(wanted):
        torch.testing.assert_close(torch.cat([part[i] for part in parts]).mean(0), g)
    _, last = network.gradient(network.weights, x[6:], y[6:])
    torch.testing.assert_close(parts[2][1][0], last[1])


# ------------------------------------------------------------------------------------- closed forms


def linear(features: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Linear(features, 2, bias=False, dtype=torch.float64)


def test_equal_gradients_have_coherence_one_and_orthogonal_ones_one_over_n():
    network = Network.of_module(linear(6))
    x, y = torch.eye(6, dtype=torch.float64) * torch.arange(1, 7)[:, None], torch.zeros(6, dtype=torch.int64)
    assert coherence(network, x, y).coherence == pytest.approx(1 / 6, rel=1e-12)  # columns of the weight of their own
    same = coherence(network, x[:1].expand(5, 6), y[:5])
    assert same.coherence == pytest.approx(1, rel=1e-12)
    assert coherence(network, x[:1], y[:1]).coherence == pytest.approx(1, rel=1e-12)
    zero = Network(network.names, tuple(torch.zeros_like(w) for w in network.weights), network.forward)
    opposed = coherence(zero, x[:1].expand(2, 6), torch.tensor([0, 1]))  # probabilities 1/2 and 1/2
    assert opposed.coherence == pytest.approx(0, abs=1e-15) and opposed.mean_square > 0


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 12), variant=st.sampled_from(STEP_FUNCTIONS))
def test_coherence_lies_between_nought_and_one(seed, n, variant):
    found = scaled_coherence(Network.of_module(small_module(seed)), *samples(n, seed), variant=variant)
    assert 0 <= found.coherence <= 1 + 1e-12 and (n > 1 or found.coherence == pytest.approx(1))


# ----------------------------------------------------------------------- coherence and mini-batches


@pytest.mark.parametrize("variant", STEP_FUNCTIONS)
def test_the_mean_square_of_the_probes_first_step_follows_from_coherence(variant):
    """All batches of distinct samples of a tiny dataset, each through the probe itself."""
    n, rho = 6, 0.3
    network, (x, y) = Network.of_module(small_module()), samples(n)
    found = scaled_coherence(network, x, y, variant=variant, eta=0.02)
    assert 0.05 < found.coherence < 0.95  # neither term of the identity vanishes
    for size in range(1, n + 1):
        probe = Probe(steps=2, batch_size=size, rho="0.3", variant=variant, eta="0.02")
        chosen = [torch.tensor([batch, batch]) for batch in itertools.combinations(range(n), size)]
        squares = [trajectory(network, x[b], y[b], probe).sharpness[0] ** 2 for b in chosen]
        assert len(squares) == math.comb(n, size)
        assert found.expected_square_sharpness(size, rho) == pytest.approx(np.mean(squares), rel=1e-10)


def test_the_detection_gap_is_the_formula_of_theorem_2():
    """Eq. 3 as printed, and its two ends: mini-batch less full-batch sharpness, squared."""
    n, rho, network, (x, y) = 7, 0.3, Network.of_module(small_module()), samples(7)
    found = coherence(network, x, y)
    for size in range(1, n + 1):
        printed = rho**2 * (n - size) / (size * (n - 1)) * found.mean_square * (1 - found.coherence)
        assert found.detection_gap(size, rho) == pytest.approx(printed, rel=1e-12, abs=1e-15)
    static = sharpness(network, x, y, variant="sam", rho=rho).first_order
    assert found.expected_square_sharpness(n, rho) == pytest.approx(static**2, rel=1e-9)


def test_the_ends_of_the_identity():
    found = Coherence(coherence=0.25, mean_square=8.0, square_of_mean=2.0, n=5)
    assert found.expected_square_sharpness(1, 2.0) == pytest.approx(4 * 8.0)
    assert found.expected_square_sharpness(5, 2.0) == pytest.approx(4 * 2.0)
    assert found.expected_square_sharpness(2, 1.0) == pytest.approx(8 * (0.25 + 0.75 * 3 / (2 * 4)))
    assert Coherence(1.0, 3.0, 3.0, 1).expected_square_sharpness(1, 1.0) == pytest.approx(3.0)
    for size, rho in ((0, 1.0), (6, 1.0), (1, 0.0)):
        with pytest.raises(UnusableInput):
            found.expected_square_sharpness(size, rho)


# ---------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize("shape", ["image", "flat"])
def test_batch_statistics_are_refused_and_running_ones_are_not(shape):
    norm = nn.BatchNorm2d(1) if shape == "image" else nn.BatchNorm1d(16)
    layers = [norm, nn.Flatten()] if shape == "image" else [nn.Flatten(), norm]
    module = nn.Sequential(*layers, zoo.mlp(16, [], 5)).double()
    x, y = samples(9)
    with pytest.raises(UnusableInput, match="eval mode"):
        coherence(Network.of_module(module, batch_norm="train"), 3 * x, y)
    check(module.eval(), 3 * x, y, coherence(Network.of_module(module), 3 * x, y))


def test_samples_that_do_not_fit_and_gradients_that_vanish_are_refused():
    network, (x, y) = Network.of_module(small_module()), samples(10)
    for bad_x, bad_y in ((x, y[:9]), (x[:0], y[:0]), (x, y.int())):
        with pytest.raises(UnusableInput):
            coherence(network, bad_x, bad_y)
    with pytest.raises(UnusableInput, match="per-step function"):
        scaled_coherence(network, x, y, variant="asam")
    flat = Network(network.names, network.weights, lambda w, x: 0.0 * network.forward(w, x))
    with pytest.raises(UnusableInput, match="vanishes"):
        coherence(flat, x, y)
