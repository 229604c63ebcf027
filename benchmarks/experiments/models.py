"""The networks a recipe can name: those of the zoo, and a small one for grids of many models."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from zkcert import zoo
from zkcert.errors import UnusableInput

CHANNELS = {"lenet5": 1, **dict.fromkeys(("alexnet", "vgg11", "vgg11_bn"), 3)}
CHANNELS |= dict.fromkeys(("vgg13_bn", "vgg16_bn", "vgg19_bn", "resnet18", "wrn28_10"), 3)
"""Of the images; other models take any number."""

MODELS = ("mlp", "cnn", *CHANNELS)
"""What `build` knows."""


def cnn(channels: int, classes: int = 10, *, width: int = 8, dropout: float = 0.0, seed: int = 0) -> nn.Sequential:
    """A small CNN for 32x32 images: two strided convolutions of `width` and 2 `width`, two linear layers.

    The hidden linear layer has 8 `width` units. Dropout before each linear layer, if any. He initialisation of all
    weights but the last layer's.
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
        module = nn.Sequential(layers)
        for name in ("conv1", "conv2", "fc1"):
            nn.init.kaiming_normal_(module.get_parameter(f"{name}.weight"), nonlinearity="relu")
    return module


def build(name: str, channels: int, classes: int, *, width: int = 0, dropout: float = 0.0, seed: int = 0) -> nn.Module:
    """A model by name, for 32x32 images of 1 or 3 channels.

    width    0 for the model's own; of "mlp" the hidden units, of "cnn", "resnet18" and the VGGs of 13 to 19 layers the
             first layer's channels.
    dropout  of "cnn" and "alexnet" before their linear layers; of VGG and ResNets before the last.

    Raises UnusableInput for an unknown name, and for options or channels the model does not take.
    """
    if name not in MODELS:
        raise UnusableInput(f"the model must be one of {', '.join(MODELS)}, not {name!r}")
    if width and name not in ("mlp", "cnn", "resnet18", "vgg13_bn", "vgg16_bn", "vgg19_bn"):
        raise UnusableInput(f"{name} has no width to choose")
    if dropout and name in ("mlp", "lenet5"):
        raise UnusableInput(f"{name} has no dropout to choose")
    if CHANNELS.get(name, channels) != channels:
        raise UnusableInput(f"{name} takes images of {CHANNELS[name]} channel(s), not {channels}")
    chosen = {"width": width} if width else {}
    match name:
        case "mlp":
            return zoo.mlp(channels * 32 * 32, [width or 32], classes, seed=seed)
        case "cnn":
            return cnn(channels, classes, dropout=dropout, seed=seed, **chosen)
        case "lenet5":
            return zoo.lenet5(seed=seed)
        case "alexnet":
            return zoo.alexnet(classes, dropout=dropout, seed=seed)
        case "vgg11" | "vgg11_bn":
            return _with_dropout(zoo.vgg11(name.endswith("bn"), classes=classes, seed=seed), dropout)
        case "vgg13_bn" | "vgg16_bn" | "vgg19_bn":
            return _with_dropout(getattr(zoo, name)(classes=classes, seed=seed, **chosen), dropout)
        case "wrn28_10":
            return _with_dropout(zoo.wrn28_10(classes=classes, seed=seed), dropout)
    return _with_dropout(zoo.resnet18(classes=classes, seed=seed, **chosen), dropout)


def _with_dropout(module: nn.Sequential, dropout: float) -> nn.Sequential:
    """The same layers under the same names, with dropout before the last; unchanged without any."""
    if not dropout:
        return module
    layers = OrderedDict(module.named_children())
    name, last = layers.popitem()
    layers["drop"] = nn.Dropout(dropout)
    layers[name] = last
    return nn.Sequential(layers)
