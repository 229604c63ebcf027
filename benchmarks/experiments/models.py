"""The networks a recipe can name: those of the zoo, and a small one for grids of many models."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from zkcert import zoo
from zkcert.errors import UnusableInput


def cnn(channels: int, classes: int = 10, *, width: int = 8, dropout: float = 0.0, seed: int = 0) -> nn.Sequential:
    """A small CNN for 32x32 images: two strided convolutions of `width` and 2 `width`, two linear layers.

    The hidden linear layer has 8 `width` units. Dropout before each linear layer, if any.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers: OrderedDict[str, nn.Module] = OrderedDict(
            conv1=nn.Conv2d(channels, width, 5, stride=2, padding=2),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(width, 2 * width, 3, padding=1),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
        )
        if dropout:
            layers["drop1"] = nn.Dropout(dropout)
        layers["fc1"] = nn.Linear(32 * width, 8 * width)
        layers["relu3"] = nn.ReLU()
        if dropout:
            layers["drop2"] = nn.Dropout(dropout)
        layers["fc2"] = nn.Linear(8 * width, classes)
        return nn.Sequential(layers)


def _mlp(channels: int, classes: int, options: dict[str, Any]) -> nn.Module:
    return zoo.mlp(channels * 32 * 32, [options["width"] or 32], classes, seed=options["seed"])


def _cnn(channels: int, classes: int, options: dict[str, Any]) -> nn.Module:
    width = {"width": options["width"]} if options["width"] else {}
    return cnn(channels, classes, dropout=options["dropout"], seed=options["seed"], **width)


def _lenet5(channels: int, classes: int, options: dict[str, Any]) -> nn.Module:
    return zoo.lenet5(seed=options["seed"])


def _alexnet(channels: int, classes: int, options: dict[str, Any]) -> nn.Module:
    return zoo.alexnet(classes, dropout=options["dropout"], seed=options["seed"])


def _resnet18(channels: int, classes: int, options: dict[str, Any]) -> nn.Module:
    width = {"width": options["width"]} if options["width"] else {}
    return zoo.resnet18(classes=classes, seed=options["seed"], **width)


MODELS: dict[str, Callable[[int, int, dict[str, Any]], nn.Module]] = {
    "mlp": _mlp,
    "cnn": _cnn,
    "lenet5": _lenet5,
    "alexnet": _alexnet,
    "vgg11": lambda channels, classes, options: zoo.vgg11(classes=classes, seed=options["seed"]),
    "vgg11_bn": lambda channels, classes, options: zoo.vgg11(True, classes=classes, seed=options["seed"]),
    "vgg16_bn": lambda channels, classes, options: zoo.vgg16_bn(classes=classes, seed=options["seed"]),
    "resnet18": _resnet18,
}
"""Constructors by name: (channels, classes, {"width", "dropout", "seed"}) -> module, with a width of 0 for its own."""

USES_WIDTH = ("mlp", "cnn", "resnet18")
USES_DROPOUT = ("cnn", "alexnet")
CHANNELS = {"lenet5": 1, "alexnet": 3, "vgg11": 3, "vgg11_bn": 3, "vgg16_bn": 3, "resnet18": 3}


def build(name: str, channels: int, classes: int, *, width: int = 0, dropout: float = 0.0, seed: int = 0) -> nn.Module:
    """A model by name. Raises UnusableInput for an unknown one, and for options or channels it does not take."""
    if name not in MODELS:
        raise UnusableInput(f"the model must be one of {', '.join(MODELS)}, not {name!r}")
    if width and name not in USES_WIDTH:
        raise UnusableInput(f"{name} has no width to choose")
    if dropout and name not in USES_DROPOUT:
        raise UnusableInput(f"{name} has no dropout to choose")
    if CHANNELS.get(name, channels) != channels:
        raise UnusableInput(f"{name} takes images of {CHANNELS[name]} channels, not {channels}")
    return MODELS[name](channels, classes, {"width": width, "dropout": dropout, "seed": seed})
