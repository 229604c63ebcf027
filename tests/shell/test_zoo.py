"""The models of the zoo: sizes, conversion, circuits at full size, training."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

from circuits.compile import Certificate, Plan
from zkcert import zoo
from zkcert.convert import from_module
from zkcert.errors import UnusableInput
from zkcert.public.model import input_affine

MODELS = {
    "lenet5": (zoo.lenet5, zoo.LENET5_INPUT, 61_706),
    "alexnet": (zoo.alexnet, zoo.CIFAR10_INPUT, 4_361_034),
    "vgg11": (zoo.vgg11, zoo.CIFAR10_INPUT, 9_225_610),
    "vgg16_bn": (zoo.vgg16_bn, zoo.CIFAR10_INPUT, 14_728_266),
    "resnet18": (zoo.resnet18, zoo.CIFAR10_INPUT, 11_173_962),
    "wrn28_10": (zoo.wrn28_10, zoo.CIFAR100_INPUT, 36_536_884),
}


@pytest.mark.parametrize("name", MODELS)
def test_circuits_of_all_models_close_at_eight_samples_and_five_steps(name):
    """From the module to the layout; the most expensive one has 2^33.4 digits."""
    make, spec, count = MODELS[name]
    model = from_module(make(), input=spec)
    assert model.param_count == count and model.classes == (100 if name == "wrn28_10" else 10)
    plan = Plan(
        graph=model.graph,
        input=model.input,
        affine=input_affine(model.input, "u8"),
        weights={key: model.quantized(key) for key in model.params},
        kind="u8",
        classes=model.classes,
        label_bytes=1,
        steps=5,
        batch=8,
        rho=Fraction(1, 20),
        divisor=800,
        eps=Fraction(1, 10**6),
        variant="asam-all",
        hashes=np.zeros((5, 8, 160), np.uint64),
        constants=model.constants,
    )
    assert Certificate(plan).close(Fraction(3)).digit_count < (11.2e9 if name == "wrn28_10" else 3.5e9)


def test_residual_blocks_commit_nothing_for_sums_and_rectified_outputs():
    """A small ResNet: no pre-activation that a ReLU alone reads has a tensor of its own."""
    with torch.random.fork_rng(devices=[]):
        block = zoo.ResidualBlock(2, 3, 2)
    module = nn.Sequential(block, zoo.ResidualBlock(3, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
    model = from_module(module, input={"shape": [2, 6, 6], "pad": 0, "mean": [0, 0], "std": [1, 1]})
    plan = Plan(
        graph=model.graph,
        input=model.input,
        affine=input_affine(model.input, "u8"),
        weights={key: model.quantized(key) for key in model.params},
        kind="u8",
        classes=2,
        label_bytes=1,
        steps=2,
        batch=2,
        rho=Fraction(1, 20),
        divisor=160,
        eps=Fraction(0),
        variant="sam",
        hashes=np.zeros((2, 2, 160), np.uint64),
        constants=model.constants,
    )
    names = {t.name for t in Certificate(plan).circuit.tensors}
    assert {name for name in names if name.endswith(("norm1/y", "norm2/y", "norm/y"))} == {"0.norm2/y"}
    assert not any("add" in name for name in names)


def test_models_follow_their_seed_and_leave_the_generator_alone():
    state = torch.get_rng_state()
    first, again, other = (list(zoo.alexnet(seed=s).parameters()) for s in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])


@pytest.mark.parametrize(
    "options",
    [
        {"lr": 3e-3},
        {"lr": 0.05, "momentum": 0.9, "weight_decay": 1e-4, "warmup": 0.2},
        {"augment": True, "lr": 3e-3},
        {"optimizer": "sam", "lr": 0.05, "rho": 0.1},
        {"optimizer": "asam", "lr": 0.3, "momentum": 0.0, "weight_decay": 1e-4, "device": "cpu"},
    ],
)
def test_training_lowers_the_loss_reproducibly(options):
    x, y = zoo.fashion_mnist_small()
    inputs = torch.tensor(x[:128] / 255.0, dtype=torch.float32) - 0.3
    labels = torch.tensor(y[:128].astype(np.int64))
    histories = []
    for _ in range(2):
        module = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Dropout(0.1), zoo.mlp(49, [32], 10))
        histories.append(zoo.train(module, inputs, labels, epochs=8, batch_size=16, seed=3, **options))
        assert not module.training
    assert histories[0] == histories[1] and histories[0][-1] < 0.8 * histories[0][0]
    assert zoo.accuracy(module, inputs, labels) > 0.4


def plain_training(module, x, y, step):
    """Epochs of zoo.train's order of mini-batches, each handed to step(x, y) -> loss."""
    draw, history = torch.Generator().manual_seed(3), []
    for _ in range(3):
        batches = [index.tolist() for index in torch.randperm(len(x), generator=draw).split(16)]
        losses = [step(x[index], y[index]) * len(index) for index in batches]
        history.append(sum(losses) / len(x))
    return history


@pytest.mark.parametrize("name", zoo.OPTIMIZERS)
def test_every_optimiser_is_the_one_it_is_called(name):
    x, y = zoo.fashion_mnist_small()
    x, y = torch.tensor(x[:40] / 255.0 - 0.3), torch.tensor(y[:40].astype(np.int64))
    module, other = (zoo.mlp(784, [8], 10).double() for _ in range(2))
    if name == "adam":
        plain = torch.optim.Adam(other.parameters(), lr=0.01)  # AdamW: weights shrink first
    else:
        plain = torch.optim.SGD(other.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=0.1)
    named = dict(other.named_parameters())

    def gradient(x, y):
        other.zero_grad()
        loss = nn.functional.cross_entropy(other(x), y)
        loss.backward()
        return loss.item()

    def step(x, y):
        loss = gradient(x, y)
        with torch.no_grad():
            if name == "adam":
                for p in named.values():
                    p *= 1 - 0.01 * 0.1
        if name in ("sam", "asam"):
            before = {key: p.detach().clone() for key, p in named.items()}
            t = {key: p.abs() + 0.01 if name == "asam" and "weight" in key else 1.0 for key, p in before.items()}
            length = torch.cat([(t[key] * p.grad).flatten() for key, p in named.items()]).norm()
            with torch.no_grad():
                for key, p in named.items():
                    p += {"sam": 0.05, "asam": 0.5}[name] * t[key] ** 2 * p.grad / length
            gradient(x, y)
            with torch.no_grad():
                for key, p in named.items():
                    p.copy_(before[key])
        plain.step()
        return loss

    history = zoo.train(module, x, y, epochs=3, optimizer=name, lr=0.01, batch_size=16, weight_decay=0.1, seed=3)
    assert history == pytest.approx(plain_training(other, x, y, step), rel=1e-9)
    for a, b in zip(module.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-10)


def test_training_stops_at_a_loss_and_reads_labels_per_position():
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randint(0, 5, (20, 3), generator=draw), torch.randint(0, 4, (20, 3), generator=draw)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = nn.Sequential(nn.Embedding(5, 8), nn.Linear(8, 4))
    state, first = torch.get_rng_state(), nn.functional.cross_entropy(module(x).flatten(0, 1), y.flatten()).item()
    (whole,) = zoo.train(module, x, y, epochs=1, lr=1e-9, batch_size=20)
    assert whole == pytest.approx(first, rel=1e-5)
    history = zoo.train(module, x, y, epochs=200, lr=0.02, until_loss=first - 0.1)
    assert 1 < len(history) < 200 and history[-1] <= first - 0.1 < history[-2]
    assert torch.equal(torch.get_rng_state(), state)


def test_options_that_no_optimiser_has_are_refused():
    module, x, y = zoo.mlp(4, [], 2), torch.zeros(2, 4), torch.zeros(2, dtype=torch.int64)
    for bad in (
        {"optimizer": "adamw"},
        {"optimizer": "adam", "momentum": 0.9},
        {"optimizer": "sgd", "rho": 0.1},
        {"rho": 0.1},
        {"optimizer": "sam", "rho": 0.0},
    ):
        with pytest.raises(UnusableInput):
            zoo.train(module, x, y, epochs=1, **bad)


def test_augmentation_shifts_and_flips_whole_images():
    x = torch.arange(2 * 16 * 16, dtype=torch.float32).reshape(1, 2, 16, 16) + 1
    draw = torch.Generator().manual_seed(0)
    seen = set()
    for _ in range(50):
        (image,) = zoo._augmented(x, draw)
        row, column = (int(i) for i in np.argwhere(image[0].numpy() == x[0, 0, 8, 8].item())[0])
        flipped = int(image[0, row, column + 1]) < int(image[0, row, column])
        seen.add((row - 8, column - (7 if flipped else 8), flipped))
        kept = image[image > 0]
        assert set(kept.tolist()) <= set(x.flatten().tolist()) and len(kept) >= 2 * 14 * 14
    assert {r for r, _, _ in seen} == {c for _, c, _ in seen} == set(range(-2, 3)) and {f for *_, f in seen} == {
        True,
        False,
    }


def test_depths_that_no_wide_network_has_are_refused():
    for depth, width in ((4, 1), (12, 1), (16, 0)):
        with pytest.raises(UnusableInput, match="10, 16, 22"):
            zoo.wide_resnet(depth, width)
    small = zoo.wide_resnet(10, 1, classes=7)
    assert small(torch.zeros(2, 3, 32, 32)).shape == (2, 7)
    assert sum(isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3) for m in small.modules()) == 10 - 3
