"""The models that people have, by name: what `python -m benchmarks.models` converts and proves.

Torchvision, timm and transformers are looked for and not required. Install them beside the CPU build of PyTorch without
what they depend on, which would be another build: `pip install --no-deps torchvision`, for one.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from zkcert import zoo


@dataclass(frozen=True)
class Subject:
    """A model: its title, what makes it (with random weights), the package that this takes, and the samples it reads.

    shape: [C, H, W] of them; task: of what else than pictures they are; tokens: whether they are windows of tokens.
    """

    title: str
    make: Callable[[], nn.Module]
    package: str = ""
    shape: tuple[int, int, int] = (3, 64, 64)
    classes: int = 10
    task: str = ""
    tokens: bool = False


class Absent(Exception):
    """A package is not installed, or does not run here."""


def imported(package: str) -> Any:
    """A package that makes models. Raises Absent."""
    try:
        if package == "torchvision":
            return torchvision()
        with suppress(Exception):  # which others import, if it is there
            torchvision()
        return importlib.import_module(package)
    except Exception as error:  # whatever a package of another version does
        first = next(iter(str(error).splitlines()), type(error).__name__)
        raise Absent(f"{package} is not installed, or does not load: {first}") from error


_OPERATORS = ("nms", "qnms", "roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool", "deform_conv2d")
_LIBRARIES: list[torch.library.Library] = []  # which live as long as they are referred to


def torchvision() -> Any:
    """Torchvision, whose compiled operators are made of another build of PyTorch than the CPU's: where they do not load
    they are declared, so that it can be imported, and cannot be called. None of its classifiers does."""
    with suppress(RuntimeError):
        return importlib.import_module("torchvision")
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    if not _LIBRARIES:
        library = torch.library.Library("torchvision", "DEF")
        for name in _OPERATORS:
            library.define(f"{name}(Tensor x) -> Tensor")
        _LIBRARIES.append(library)
    return importlib.import_module("torchvision")


def _vision(name: str, **options: Any) -> nn.Module:
    make = getattr(imported("torchvision").models, name)
    found: nn.Module = make(weights=None, num_classes=10, **options)
    return found


def _timm(name: str, **options: Any) -> nn.Module:
    found: nn.Module = imported("timm").create_model(name, pretrained=False, num_classes=10, **options)
    return found


def _gpt2() -> nn.Module:
    config = imported("transformers").GPT2Config(n_layer=4, n_embd=128, n_head=4, n_positions=64, vocab_size=256)
    found: nn.Module = imported("transformers.models.gpt2.modeling_gpt2").GPT2LMHeadModel(config)
    return found


def _lenet_tanh() -> nn.Module:
    """LeCun's: tanh, and averages for pooling."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2),
        nn.Tanh(),
        nn.AvgPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.Tanh(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(400, 120),
        nn.Tanh(),
        nn.Linear(120, 84),
        nn.Tanh(),
        nn.Linear(84, 10),
    )


def _tabular(classes: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(30, 64),
        nn.BatchNorm1d(64),
        nn.ReLU(),
        nn.Linear(64, 64),
        nn.BatchNorm1d(64),
        nn.ReLU(),
        nn.Linear(64, classes),
    )


def _audio() -> nn.Module:
    """M3 of arXiv 1610.00087, for short clips: convolutions over the samples of a sound."""
    return nn.Sequential(
        nn.Conv1d(1, 16, 80, stride=4),
        nn.BatchNorm1d(16),
        nn.ReLU(),
        nn.MaxPool1d(4),
        nn.Conv1d(16, 32, 3),
        nn.BatchNorm1d(32),
        nn.ReLU(),
        nn.MaxPool1d(4),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(32, 10),
    )


def _of_vision(title: str, name: str, size: int = 64, **options: Any) -> Subject:
    return Subject(title, partial(_vision, name, **options), "torchvision", (3, size, size))


DIGIT = (1, 28, 28)
SMALL = (3, 32, 32)

SUBJECTS = {
    "mlp": Subject("MLP of a table", partial(_tabular, 3), shape=(1, 1, 30), classes=3, task="rows of 30 numbers"),
    "mlp_binary": Subject(
        "MLP with one logit", partial(_tabular, 1), shape=(1, 1, 30), classes=2, task="rows of 30 numbers, yes or no"
    ),
    "lenet": Subject("LeNet-5 (`zkcert.zoo`)", zoo.lenet5, shape=(1, 32, 32)),
    "lenet_avg": Subject("LeNet-5 with averages (`zkcert.zoo`)", partial(zoo.lenet5, "avg"), shape=(1, 32, 32)),
    "lenet_tanh": Subject("LeNet-5 with tanh", _lenet_tanh, shape=DIGIT),
    "audio_m3": Subject("M3, a 1-D audio net", _audio, shape=(1, 1, 2000), task="2,000 samples of a sound"),
    "squeezenet1_1": _of_vision("SqueezeNet 1.1", "squeezenet1_1"),
    "shufflenet_v2_x0_5": _of_vision("ShuffleNet V2 x0.5", "shufflenet_v2_x0_5"),
    "shufflenet_v2_x1_0": _of_vision("ShuffleNet V2 x1.0", "shufflenet_v2_x1_0"),
    "mobilenet_v2": _of_vision("MobileNet V2", "mobilenet_v2"),
    "mobilenet_v3_small": _of_vision("MobileNet V3 small", "mobilenet_v3_small"),
    "efficientnet_b0": _of_vision("EfficientNet-B0", "efficientnet_b0"),
    "densenet121": _of_vision("DenseNet-121", "densenet121"),
    "resnet18": _of_vision("ResNet-18, original stem", "resnet18"),
    "resnet34": _of_vision("ResNet-34, original stem", "resnet34"),
    "wide_resnet": Subject("WRN-16-2 (`zkcert.zoo`)", partial(zoo.wide_resnet, 16, 2, classes=10), shape=SMALL),
    "vgg11_cifar": Subject("VGG-11 of CIFAR (`zkcert.zoo`)", zoo.vgg11, shape=SMALL),
    "vgg16_bn_cifar": Subject("VGG-16 of CIFAR with batch-norm (`zkcert.zoo`)", zoo.vgg16_bn, shape=SMALL),
    **{
        f"vgg{depth}{'_bn' * norm}": _of_vision(
            f"VGG-{depth}{' with batch-norm' * norm}", f"vgg{depth}{'_bn' * norm}", 32
        )
        for depth in (11, 13, 16, 19)
        for norm in (False, True)
    },
    "convnext_atto": Subject("ConvNeXt atto", partial(_timm, "convnext_atto"), "timm"),
    "vit": Subject("ViT, timm's smallest", partial(_timm, "test_vit", img_size=32), "timm", SMALL),
    "gpt2": Subject("GPT-2, 4 layers of 128", _gpt2, "transformers", (1, 1, 64), 256, "64 bytes of text", True),
    "gpt": Subject(
        "GPT (`zkcert.zoo`), 4 layers of 128", partial(zoo.gpt, 256), "", (1, 1, 64), 256, "64 bytes of text", True
    ),
}
"""In the order of the table."""
