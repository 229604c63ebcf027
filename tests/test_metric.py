"""The float metric against a plain autograd implementation, and against finite differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from zkcert.config import ProbeConfig
from zkcert.convert import from_module, to_module
from zkcert.errors import UnusableInput
from zkcert.metric import directional_sharpness
from zkcert.model import Model, input_values
from zkcert.zoo import LENET5_INPUT, fashion_mnist_small, lenet5, mlp, train

SMALL_INPUT = {"shape": [1, 4, 4], "pad": 0, "mean": [0.5], "std": [0.25]}


def small_model(seed: int = 0) -> Model:
    return from_module(mlp(16, [12], 5, seed=seed), input=SMALL_INPUT)


def small_batches(config: ProbeConfig, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    shape = (config.steps, config.batch_size)
    return rng.integers(0, 256, (*shape, 1, 4, 4), dtype=np.uint8), rng.integers(0, 5, shape)


def quantise(module: torch.nn.Module) -> torch.nn.Module:
    with torch.no_grad():
        for weight in module.parameters():
            weight.copy_(torch.floor(weight * 2**32 + 0.5) / 2**32)
    return module


def plain_probe(module, inputs, labels, rho, lr, eps, adaptive):
    """Algorithm 1 as one would write it with an nn.Module: backward passes, in-place changes, undo."""
    y, s_all, l_all = [], [], []
    parameters = list(module.parameters())
    for x, label in zip(inputs, labels, strict=True):
        x, label = torch.tensor(x), torch.tensor(label)

        def backward(x=x, label=label):
            module.zero_grad()
            logits = module(x)
            loss = (torch.logsumexp(logits, 1) - logits[torch.arange(len(label)), label]).mean()
            loss.backward()
            return loss.item()

        loss = backward()
        with torch.no_grad():
            transform = [p.abs() if adaptive else torch.ones_like(p) for p in parameters]
            flat = torch.cat([(t * p.grad).flatten() for t, p in zip(transform, parameters, strict=True)])
            norm = flat.norm().item()
            steps = [rho * t * t * p.grad / norm for t, p in zip(transform, parameters, strict=True)]
            before = [p.clone() for p in parameters]
            for p, e in zip(parameters, steps, strict=True):
                p.add_(e)
        s_all.append(rho * norm)
        l_all.append(loss)
        y.append(math.log(s_all[-1] ** 2 / loss + eps))
        backward()
        with torch.no_grad():
            for p, w in zip(parameters, before, strict=True):
                p.copy_(w - lr * p.grad)
    mean = sum(y) / len(y)
    return s_all, l_all, y, math.sqrt(sum((v - mean) ** 2 for v in y) / len(y))


def check_against_plain(model, x, y, config):
    found = directional_sharpness(model, x, y, config)
    s, loss, log_ratio, score = plain_probe(
        quantise(to_module(model)),
        input_values(model.input, x),
        y.astype(np.int64),
        float(config.rho),
        float(config.lr),
        float(config.eps),
        config.variant == "asam-all",
    )
    np.testing.assert_allclose(found.sharpness, s, rtol=1e-11)
    np.testing.assert_allclose(found.loss, loss, rtol=1e-11)
    np.testing.assert_allclose(found.log_ratio, log_ratio, rtol=1e-11)
    assert found.score == pytest.approx(score, rel=1e-9)
    assert found.sharpness.dtype == found.loss.dtype == found.log_ratio.dtype == np.float64
    assert found.score > 0


@pytest.mark.parametrize("variant", ["asam-all", "sam"])
@pytest.mark.parametrize("eps", ["1e-8", 0, "0.1"])
def test_metric_equals_plain_autograd(variant, eps):
    config = ProbeConfig(steps=6, batch_size=4, lr="0.5", rho="0.5", eps=eps, variant=variant)
    check_against_plain(small_model(), *small_batches(config), config)


def test_metric_of_a_trained_lenet_equals_plain_autograd():
    images, labels = fashion_mnist_small()
    module = lenet5()
    x = torch.tensor(input_values(LENET5_INPUT, images[:512]), dtype=torch.float32)
    losses = train(module, x, torch.tensor(labels[:512].astype(np.int64)), epochs=3)
    assert losses[-1] < losses[0]
    config = ProbeConfig(steps=5, batch_size=8, lr="1e-4")
    model = from_module(module, input=LENET5_INPUT)
    batches = images[600:640].reshape(5, 8, 1, 28, 28), labels[600:640].reshape(5, 8)
    check_against_plain(model, *batches, config)


def test_sharpness_is_the_slope_of_the_loss_along_the_gradient():
    """For sam, s/rho = ||g||, so moving by h along the normalised gradient changes the loss by h s/rho."""
    config = ProbeConfig(steps=2, batch_size=4, variant="sam")
    model, (x, y) = small_model(), small_batches(config)
    found = directional_sharpness(model, x, y, config)
    inputs, labels = torch.tensor(input_values(model.input, x[0])), torch.tensor(y[0])
    module = quantise(to_module(model))
    torch.nn.functional.cross_entropy(module(inputs), labels).backward()
    norm = torch.cat([p.grad.flatten() for p in module.parameters()]).norm()

    def moved(h):
        with torch.no_grad():
            other = quantise(to_module(model))
            for p, q in zip(other.parameters(), module.parameters(), strict=True):
                p.add_(h * q.grad / norm)
            return float(torch.nn.functional.cross_entropy(other(inputs), labels))

    slope = (moved(1e-5) - moved(-1e-5)) / 2e-5
    assert float(found.sharpness[0]) == pytest.approx(float(config.rho) * slope, rel=1e-6)


def test_each_weight_gradient_matches_finite_differences():
    """With one batch, the two variants differ by T_w = |w| exactly as numerical gradients say."""
    config = ProbeConfig(steps=2, batch_size=3)
    model, (x, y) = small_model(3), small_batches(config, 5)
    inputs, labels = torch.tensor(input_values(model.input, x[0])), torch.tensor(y[0])
    module = quantise(to_module(model))
    total, h = 0.0, 1e-6
    with torch.no_grad():
        for parameter in module.parameters():
            for i, w in enumerate(flat := parameter.view(-1)):
                w, losses = float(w), []
                for step in (h, -h):
                    flat[i] = w + step
                    losses.append(float(torch.nn.functional.cross_entropy(module(inputs), labels)))
                flat[i] = w
                total += (w * (losses[0] - losses[1]) / (2 * h)) ** 2
    expected = float(config.rho) * math.sqrt(total)
    assert float(directional_sharpness(model, x, y, config).sharpness[0]) == pytest.approx(expected, rel=1e-6)


def test_q32_samples_measure_like_the_bytes_they_equal():
    spec = {"shape": [1, 4, 4], "pad": 0, "mean": [0.5], "std": [0.25]}
    config = ProbeConfig(steps=3, batch_size=4)
    x, y = small_batches(config)
    q = (x.astype(np.int64) * (1 << 32) + 127) // 255
    model = from_module(mlp(16, [12], 5), input=spec)
    a, b = directional_sharpness(model, x, y, config), directional_sharpness(model, q, y, config)
    np.testing.assert_allclose(a.log_ratio, b.log_ratio, rtol=1e-6)


def test_a_relu_at_zero_passes_no_gradient():
    """All pre-activations are exactly zero: only the last bias has a gradient."""
    params = {
        "a.weight": np.zeros((3, 16), np.float32),
        "b.weight": np.ones((2, 3), np.float32),
        "b.bias": np.full(2, 0.5, np.float32),
    }
    graph = [
        {"op": "flatten", "name": "flatten"},
        {"op": "linear", "name": "a", "weight": "a.weight", "bias": None},
        {"op": "relu", "name": "relu"},
        {"op": "linear", "name": "b", "weight": "b.weight", "bias": "b.bias"},
    ]
    model = Model(graph, SMALL_INPUT, params)
    config = ProbeConfig(steps=2, batch_size=2, variant="sam")
    x, y = small_batches(config)
    found = directional_sharpness(model, x, np.zeros_like(y), config)
    assert float(found.sharpness[0]) == pytest.approx(0.05 * math.sqrt(0.5), rel=1e-12)


def test_a_vanishing_gradient_is_reported():
    model = small_model()
    zero = Model(model.graph, model.input, {k: np.zeros_like(v) for k, v in model.params.items()})
    config = ProbeConfig(steps=2, batch_size=2)
    with pytest.raises(UnusableInput, match="step 0: the gradient norm 0"):
        directional_sharpness(zero, *small_batches(config), config)


def test_wrong_shapes_types_and_labels_are_refused():
    config = ProbeConfig(steps=2, batch_size=2)
    model, (x, y) = small_model(), small_batches(config)
    for bad_x, bad_y in [
        (x[:1], y),
        (x, y[:, :1]),
        (x.reshape(2, 2, 16), y),
        (x.astype(np.float32), y),
        (x.reshape(2, 2, 1, 2, 8), y),
        (x, y.astype(float)),
        (x, y + 5),
        (x, y - 5),
    ]:
        with pytest.raises(UnusableInput):
            directional_sharpness(model, bad_x, bad_y, config)
