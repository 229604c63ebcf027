"""The float metric against a plain autograd implementation, and against finite differences."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch

from zkcert.convert import from_module, to_module
from zkcert.data.normalised import input_values
from zkcert.errors import UnusableInput
from zkcert.metric import STEP_FUNCTIONS, Network, Probe, directional_sharpness, trajectory
from zkcert.metric.perturbation import norm, perturbation, scales
from zkcert.public.config import ProbeConfig
from zkcert.public.model import Model
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


# ----------------------------------------------------------------------------------- per-step functions


def davda54_epsilon(module, rho, adaptive):
    """The perturbation as the usual SAM optimiser for PyTorch computes it from gradients in place."""
    parameters = [p for p in module.parameters() if p.grad is not None]
    norm = torch.norm(torch.stack([((p.abs() if adaptive else 1.0) * p.grad).norm(p=2) for p in parameters]), p=2)
    return [(p**2 if adaptive else 1.0) * p.grad * (rho / (norm + 1e-12)) for p in parameters]


def samsung_epsilon(module, rho, eta, scaled="weight"):
    """The perturbation as the authors of ASAM compute it: tensors called weight are scaled, others are not."""
    named, squares = [(n, p, p.grad.clone()) for n, p in module.named_parameters()], 0.0
    for name, p, grad in named:
        if scaled in name:
            grad *= p.abs() + eta
        squares += float((grad**2).sum())
    for name, p, grad in named:
        if scaled in name:
            grad *= p.abs() + eta
        grad *= rho / math.sqrt(squares)
    return [grad for _, _, grad in named]


@pytest.mark.parametrize("variant", STEP_FUNCTIONS)
def test_epsilon_of_every_step_function_equals_an_independent_implementation(variant):
    module = lenet5().double()
    x, y = torch.randn(8, 1, 32, 32, dtype=torch.float64), torch.arange(8) % 10
    torch.nn.functional.cross_entropy(module(x), y).backward()
    with torch.no_grad():
        wanted = {
            "sam": lambda: davda54_epsilon(module, 0.3, adaptive=False),
            "asam-all": lambda: davda54_epsilon(module, 0.3, adaptive=True),
            "asam-samsung": lambda: samsung_epsilon(module, 0.3, 0.01),
            "asam-shifted": lambda: samsung_epsilon(module, 0.3, 0.01, scaled=""),  # all of them
        }[variant]()
    network = Network.of_module(module)
    _, gradient = network.gradient(network.weights, x, y)
    t = scales(variant, network.names, network.weights, 0.01)
    sharpness, found = perturbation(t, gradient, 0.3)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-15)
    # s is the first-order gain <g, e>, and e has length rho in the metric of T_w
    assert sharpness == pytest.approx(sum(float((g * e).sum()) for g, e in zip(gradient, found, strict=True)))
    assert norm([e / s for e, s in zip(found, t, strict=True) if s.all()]) == pytest.approx(0.3)


def test_unknown_step_function_and_bad_probes_are_refused():
    with pytest.raises(UnusableInput, match="per-step function"):
        scales("asam", ["w"], [torch.ones(1)])
    for bad in (
        {"batch_size": 0},
        {"rho": 0},
        {"variant": "x"},
        {"statistic": "x"},
        {"batch_norm": "x"},
        {"eta": "-1"},
    ):
        with pytest.raises(UnusableInput):
            Probe(**bad)


@pytest.mark.parametrize("steps", [1, 0, -3, True, 2.0, "2"])
def test_a_probe_of_one_step_which_any_model_would_pass_is_refused(steps):
    for make in (lambda: Probe(steps=steps), lambda: Probe.from_dict({**Probe().to_dict(), "steps": steps})):
        with pytest.raises(UnusableInput, match="steps must be an integer of at least 2"):
            make()
    assert Probe(steps=2).steps == 2


def test_probe_round_trips_and_knows_what_can_be_proved():
    probe = Probe(steps=5, batch_size=8, rho="0.1", variant="sam")
    assert Probe.from_dict(probe.to_dict()) == probe == Probe.of_config(probe.to_config())
    for field, value in {"statistic": "cv-sharpness", "batch_norm": "train"}.items():
        with pytest.raises(UnusableInput, match="cannot be proved"):
            Probe(**{field: value}).to_config()
    for more in ({"variant": "asam-samsung", "eta": "1/3"}, {"statistic": "std", "ddof": 2}, {"statistic": "max"}):
        probe = Probe(steps=5, batch_size=8, **more)
        assert Probe.from_dict(probe.to_dict()) == probe == Probe.of_config(probe.to_config())
    for more in ({"ddof": 10}, {"ddof": True}, {"ddof": -1}, {"statistic": "rms", "ddof": 1}):
        with pytest.raises(UnusableInput, match="ddof must be an integer from 0 to"):
            Probe(**more)
    with pytest.raises(UnusableInput, match="exactly the keys"):
        Probe.from_dict({**probe.to_dict(), "more": 1})


def test_statistics_of_a_trajectory():
    module = mlp(16, [12], 5).double()
    x, y = torch.randn(4, 3, 1, 4, 4, dtype=torch.float64), torch.randint(0, 5, (4, 3))
    found = trajectory(Network.of_module(module), x, y, Probe(steps=4, batch_size=3, statistic="std-sharpness"))
    assert found.score == found.statistic("std-sharpness") == float(np.std(found.sharpness))
    assert found.statistic("std-log-ratio") == float(np.std(found.log_ratio))
    assert found.statistic("std") == found.score and found.statistic("max") == found.sharpness.max()
    assert found.statistic("rms") == pytest.approx(np.linalg.norm(found.sharpness) / 2, rel=1e-12)
    other = trajectory(Network.of_module(module), x, y, Probe(steps=4, batch_size=3, ddof=3))
    assert other.score == pytest.approx(2 * np.std(found.log_ratio), rel=1e-9)
    assert found.statistic("cv-sharpness") == pytest.approx(np.std(found.sharpness) / np.mean(found.sharpness))


# ---------------------------------------------------------------------------------------- networks


def test_batch_norm_modes_and_unchanged_modules():
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(1, 3, 3), torch.nn.BatchNorm2d(3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(12, 4)
    ).double()
    module[1].running_mean.uniform_()
    module[1].running_var.uniform_(0.5, 2.0)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    x, y = torch.randn(6, 1, 4, 4, dtype=torch.float64), torch.randint(0, 4, (6,))
    for mode in ("eval", "train"):
        module.train(mode == "train")
        wanted = torch.nn.functional.cross_entropy(copy.deepcopy(module)(x), y).detach()
        of_module = Network.of_module(module, batch_norm=mode)
        assert float(of_module.loss(of_module.weights, x, y)) == pytest.approx(float(wanted), rel=1e-12)
        again = float(of_module.loss(of_module.weights, x, y))
        assert again == pytest.approx(float(wanted), rel=1e-12)  # running statistics did not move
        model = from_module(module, input=SMALL_INPUT)
        of_model = Network.of_model(model, batch_norm=mode)
        assert float(of_model.loss(of_model.weights, x, y)) == pytest.approx(float(wanted), rel=1e-6)
    after = module.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    with pytest.raises(UnusableInput, match="batch_norm"):
        Network.of_module(module, batch_norm="test")


def test_dropout_is_off_and_losses_are_per_label():
    module = torch.nn.Sequential(torch.nn.Dropout(0.9), torch.nn.Linear(3, 7)).double().train()
    network = Network.of_module(module)
    x, y = torch.randn(2, 5, 3, dtype=torch.float64), torch.randint(0, 7, (2, 5))  # [n, positions, features]
    losses = network.losses(network.weights, x, y)
    wanted = -torch.log_softmax(module[1](x), -1).gather(2, y[..., None]).flatten().detach()
    torch.testing.assert_close(losses, wanted)
    assert float(network.loss(network.weights, x, y)) == pytest.approx(float(wanted.mean()))


def test_a_model_file_and_its_module_have_the_same_trajectory():
    module = quantise(mlp(16, [12], 5).double())
    model = from_module(module, input=SMALL_INPUT)
    config = ProbeConfig(steps=5, batch_size=4, lr="0.5")
    x, y = small_batches(config)
    inputs = torch.tensor(input_values(model.input, x))
    found = trajectory(Network.of_module(module), inputs, torch.tensor(y), Probe.of_config(config))
    np.testing.assert_allclose(found.log_ratio, directional_sharpness(model, x, y, config).log_ratio, rtol=1e-10)
