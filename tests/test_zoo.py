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
from zkcert.model import input_affine

MODELS = {
    "lenet5": (zoo.lenet5, zoo.LENET5_INPUT, 61_706),
    "alexnet": (zoo.alexnet, zoo.CIFAR10_INPUT, 4_361_034),
    "vgg11": (zoo.vgg11, zoo.CIFAR10_INPUT, 9_225_610),
    "vgg16_bn": (zoo.vgg16_bn, zoo.CIFAR10_INPUT, 14_728_266),
    "resnet18": (zoo.resnet18, zoo.CIFAR10_INPUT, 11_173_962),
}


@pytest.mark.parametrize("name", MODELS)
def test_circuits_of_all_models_close_at_eight_samples_and_five_steps(name):
    """From the module to the layout; the most expensive one has 2^31.6 digits."""
    make, spec, count = MODELS[name]
    model = from_module(make(), input=spec)
    assert model.param_count == count and model.shapes[-1] == [10]
    plan = Plan(
        graph=model.graph,
        input=model.input,
        affine=input_affine(model.input, "u8"),
        weights={key: model.quantized(key) for key in model.params},
        kind="u8",
        classes=10,
        label_bytes=1,
        steps=5,
        batch=8,
        rho=Fraction(1, 20),
        divisor=800,
        eps=Fraction(1, 10**6),
        variant="asam-all",
        hashes=np.zeros((5, 8, 160), np.uint64),
        norms=model.norms,
    )
    assert Certificate(plan).close(Fraction(3)).digit_count < 3.5e9


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
        norms=model.norms,
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
    [{"lr": 3e-3}, {"lr": 0.05, "momentum": 0.9, "weight_decay": 1e-4, "warmup": 0.2}, {"augment": True, "lr": 3e-3}],
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
