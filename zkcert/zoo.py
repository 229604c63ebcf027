"""Models for 28x28 and 32x32 images and for tokens, a slice of Fashion-MNIST, and training. Needs PyTorch."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zkcert.errors import UnusableInput
from zkcert.gpt import GPT, Shape
from zkcert.metric.optim import SAM

LENET5_INPUT: dict[str, Any] = {"shape": [1, 28, 28], "pad": 2, "mean": [0.2860], "std": [0.3530]}
"""Fashion-MNIST bytes, padded to 32x32, normalised with the training set's mean and deviation."""

CIFAR10_INPUT: dict[str, Any] = {
    "shape": [3, 32, 32],
    "pad": 0,
    "mean": [0.4914, 0.4822, 0.4465],
    "std": [0.2470, 0.2435, 0.2616],
}
"""CIFAR-10 bytes, normalised with the training set's means and deviations."""
CIFAR100_INPUT: dict[str, Any] = CIFAR10_INPUT | {"mean": [0.5071, 0.4865, 0.4409], "std": [0.2673, 0.2564, 0.2762]}
"""CIFAR-100 bytes, normalised likewise."""

_VGG: dict[int, list[list[int]]] = {  # widths of the convolutions before each max-pool
    11: [[64], [128], [256, 256], [512, 512], [512, 512]],
    13: [[64, 64], [128, 128], [256, 256], [512, 512], [512, 512]],
    16: [[64, 64], [128, 128], [256, 256, 256], [512, 512, 512], [512, 512, 512]],
    19: [[64, 64], [128, 128], [256] * 4, [512] * 4, [512] * 4],
}

OPTIMIZERS = ("adam", "sgd", "sam", "asam")
"""What `train` can train with."""


def fashion_mnist_small() -> tuple[np.ndarray, np.ndarray]:
    """The first 2,000 training images of Fashion-MNIST: uint8 [2000, 1, 28, 28], labels uint8 [2000]."""
    with np.load(Path(__file__).parent / "assets" / "fashion_mnist_small.npz", allow_pickle=False) as archive:
        return archive["images"], archive["labels"]


def lenet5(avg_or_max: str = "max", *, classes: int = 10, seed: int = 0) -> nn.Sequential:
    """LeNet-5 with ReLU for 1x32x32 inputs; 61,706 parameters for 10 classes, pooling "avg" or "max"."""
    pools: dict[str, type[nn.Module]] = {"avg": nn.AvgPool2d, "max": nn.MaxPool2d}
    if avg_or_max not in pools:
        raise UnusableInput(f'pooling must be "avg" or "max", not {avg_or_max!r}')
    pool = pools[avg_or_max]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers: list[tuple[str, nn.Module]] = [
            ("conv1", nn.Conv2d(1, 6, 5)),
            ("relu1", nn.ReLU()),
            ("pool1", pool(2)),
            ("conv2", nn.Conv2d(6, 16, 5)),
            ("relu2", nn.ReLU()),
            ("pool2", pool(2)),
            ("flatten", nn.Flatten()),
            ("fc1", nn.Linear(400, 120)),
            ("relu3", nn.ReLU()),
            ("fc2", nn.Linear(120, 84)),
            ("relu4", nn.ReLU()),
            ("fc3", nn.Linear(84, classes)),
        ]
    return nn.Sequential(OrderedDict(layers))


def mlp(features: int, hidden: Sequence[int], classes: int, *, seed: int = 0) -> nn.Sequential:
    """Flatten, then linear layers of the given widths with ReLU between them."""
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    widths = [features, *hidden, classes]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for i in range(1, len(widths)):
            layers[f"fc{i}"] = nn.Linear(widths[i - 1], widths[i])
            if i + 1 < len(widths):
                layers[f"relu{i}"] = nn.ReLU()
    return nn.Sequential(layers)


def alexnet(classes: int = 10, *, dropout: float = 0.5, seed: int = 0) -> nn.Sequential:
    """AlexNet for 3x32x32 inputs: five convolutions, three linear layers; 4,361,034 parameters for 10 classes."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    channels = 3
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for i, width in enumerate((64, 192, 384, 256, 256), 1):
            layers[f"conv{i}"] = nn.Conv2d(channels, width, 3, stride=2 if i == 1 else 1, padding=1)
            layers[f"relu{i}"] = nn.ReLU()
            if i in (1, 2, 5):
                layers[f"pool{i}"] = nn.MaxPool2d(2)
            channels = width
        layers["flatten"] = nn.Flatten()
        for i, (inputs, outputs) in enumerate(((1024, 1024), (1024, 1024), (1024, classes)), 1):
            if i < 3:
                layers[f"drop{i}"] = nn.Dropout(dropout)
            layers[f"fc{i}"] = nn.Linear(inputs, outputs)
            if i < 3:
                layers[f"relu{i + 5}"] = nn.ReLU()
        return _initialised(nn.Sequential(layers))


def vgg11(batch_norm: bool = False, *, classes: int = 10, seed: int = 0) -> nn.Sequential:
    """VGG-11 for 3x32x32 inputs with one linear layer; 9,225,610 parameters for 10 classes without batch-norm."""
    return _vgg(11, batch_norm, classes, seed)


def vgg13_bn(*, classes: int = 10, width: int = 64, seed: int = 0) -> nn.Sequential:
    """VGG-13 with batch-norm, otherwise as `vgg16_bn`; 9,416,010 parameters for 10 classes."""
    return _vgg(13, True, classes, seed, width)


def vgg16_bn(*, classes: int = 10, width: int = 64, seed: int = 0) -> nn.Sequential:
    """VGG-16 with batch-norm for 3x32x32 inputs and one linear layer; 14,728,266 parameters for 10 classes.

    width  channels of the first convolutions, up to 8 times as many later; 64 is VGG-16.
    """
    return _vgg(16, True, classes, seed, width)


def vgg19_bn(*, classes: int = 10, width: int = 64, seed: int = 0) -> nn.Sequential:
    """VGG-19 with batch-norm, otherwise as `vgg16_bn`; 20,040,522 parameters for 10 classes."""
    return _vgg(19, True, classes, seed, width)


def _vgg(depth: int, batch_norm: bool, classes: int, seed: int, first: int = 64) -> nn.Sequential:
    if first < 1:
        raise UnusableInput(f"the width must be positive, not {first}")
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    channels = 3
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for i, block in enumerate(_VGG[depth], 1):
            for j, width in enumerate((first * w // 64 for w in block), 1):
                layers[f"conv{i}_{j}"] = nn.Conv2d(channels, width, 3, padding=1)
                if batch_norm:
                    layers[f"norm{i}_{j}"] = nn.BatchNorm2d(width)
                layers[f"relu{i}_{j}"] = nn.ReLU()
                channels = width
            layers[f"pool{i}"] = nn.MaxPool2d(2)
        layers["flatten"] = nn.Flatten()
        layers["fc"] = nn.Linear(channels, classes)
        return _initialised(nn.Sequential(layers))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch-norm around a shortcut, which is a 1x1 convolution where sizes change."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            convolution = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.shortcut = nn.Sequential(OrderedDict(conv=convolution, norm=nn.BatchNorm2d(outputs)))

    def forward(self, x: Tensor) -> Tensor:
        """[batch, inputs, H, W] to [batch, outputs, H / stride, W / stride]."""
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


def resnet18(*, classes: int = 10, width: int = 64, seed: int = 0) -> nn.Sequential:
    """ResNet-18 for 3x32x32 inputs: a 3x3 stem without pooling; 11,173,962 parameters for 10 classes.

    width  channels of the stem and the first two blocks; 2, 4 and 8 times as many in the next ones. 64 is ResNet-18.
    """
    if width < 1:
        raise UnusableInput(f"the width must be positive, not {width}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers: OrderedDict[str, nn.Module] = OrderedDict(
            conv=nn.Conv2d(3, width, 3, padding=1, bias=False), norm=nn.BatchNorm2d(width), relu=nn.ReLU()
        )
        channels = width
        for i, outputs in enumerate((width, 2 * width, 4 * width, 8 * width), 1):
            for j in (1, 2):
                layers[f"block{i}_{j}"] = ResidualBlock(channels, outputs, 2 if i > 1 and j == 1 else 1)
                channels = outputs
        layers.update(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), fc=nn.Linear(channels, classes))
        return _initialised(nn.Sequential(layers))


class WideBlock(nn.Module):
    """Batch-norm, ReLU and a 3x3 convolution, twice, added to the input; where sizes change, to a 1x1 convolution of
    what the first ReLU gives."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.shortcut: nn.Module | None = None
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, inputs, H, W] to [batch, outputs, H / stride, W / stride]."""
        y = F.relu(self.norm1(x))
        out: Tensor = self.conv2(F.relu(self.norm2(self.conv1(y))))
        return out + (x if self.shortcut is None else self.shortcut(y))


def wide_resnet(depth: int, width: int, *, classes: int = 100, seed: int = 0) -> nn.Sequential:
    """A wide residual network (arXiv 1605.07146) for 3x32x32 inputs, without dropout.

    depth  6 n + 4 convolutions: the stem, 2 n in each of three groups of blocks, and three shortcuts.
    width  how many times 16, 32 and 64 channels the groups have.
    """
    if depth < 10 or depth % 6 != 4 or width < 1:
        raise UnusableInput(f"the depth must be 10, 16, 22, 28, ... and the width positive, not {depth} and {width}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers: OrderedDict[str, nn.Module] = OrderedDict(conv=nn.Conv2d(3, 16, 3, padding=1, bias=False))
        channels = 16
        for i, outputs in enumerate((16 * width, 32 * width, 64 * width), 1):
            for j in range(1, (depth - 4) // 6 + 1):
                layers[f"block{i}_{j}"] = WideBlock(channels, outputs, 2 if i > 1 and j == 1 else 1)
                channels = outputs
        layers.update(norm=nn.BatchNorm2d(channels), relu=nn.ReLU())
        layers.update(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), fc=nn.Linear(channels, classes))
        return _initialised(nn.Sequential(layers))


def wrn28_10(*, classes: int = 100, seed: int = 0) -> nn.Sequential:
    """WRN-28-10; 36,536,884 parameters for the 100 classes of CIFAR-100."""
    return wide_resnet(28, 10, classes=classes, seed=seed)


def gpt(tokens: int, *, context: int = 64, width: int = 128, layers: int = 4, heads: int = 4, seed: int = 0) -> GPT:
    """A decoder-only transformer; 867,072 parameters for 256 tokens."""
    return GPT(Shape(context, width, heads, layers, tokens), seed=seed)


def _initialised(module: nn.Sequential) -> nn.Sequential:
    """He initialisation of all convolutions and linear layers but the last, which no ReLU follows."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear) and layer is not module[-1]:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return module


def train(
    module: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    epochs: int,
    optimizer: str | None = None,
    lr: float = 1e-3,
    batch_size: int = 64,
    momentum: float | None = None,
    weight_decay: float = 0.0,
    rho: float | None = None,
    warmup: float | None = None,
    augment: bool = False,
    until_loss: float | None = None,
    device: str | None = None,
    seed: int = 0,
    progress: Callable[[int, float], None] | None = None,
) -> list[float]:
    """Train in place on the mean cross-entropy; returns each epoch's mean loss.

    x             inputs [N, C, H, W] as the module reads them (see `input_values`), in the module's dtype.
    y             labels [N], or [N, positions] for logits [N, positions, classes], int64.
    optimizer     "adam": AdamW, weight decay apart from the gradient. "sgd": with Nesterov momentum, weight decay as
                  part of the gradient. "sam", "asam": `zkcert.metric.optim.SAM` around that SGD, with the variants
                  "sam" and "asam-samsung" (eta 0.01). Default: "sgd" if a momentum is given, else "adam".
    momentum      of all but Adam; 0.9 by default.
    rho           radius of SAM (0.05 by default) and ASAM (0.5 by default).
    warmup        fraction of all steps over which the rate rises to `lr`, to fall as a cosine afterwards; None: the
                  rate is constant.
    augment       flip images horizontally and shift them by up to an eighth, at random.
    until_loss    stop after the first epoch whose mean loss is at most this.
    device        where to train; the module stays there. Default: where it is.

    Order, augmentation and dropout follow from `seed`; on a CUDA device kernels may still round differently from run
    to run. `progress(epoch, loss)` is called after every epoch. The loss
    of an epoch is the mean over its mini-batches as they are met, before each step. Raises UnusableInput for options
    that do not go together.
    """
    draw = torch.Generator().manual_seed(seed)
    place = torch.device(device) if device is not None else next(module.parameters()).device
    module.to(place)
    stepper = _optimizer(module, optimizer, lr, momentum, weight_decay, rho)
    count = epochs * -(-len(x) // batch_size)

    def rate(step: int) -> float:
        if warmup is None:
            return 1.0
        rise = max(1.0, warmup * count)
        return min((step + 1) / rise, 0.5 * (1 + math.cos(math.pi * max(0.0, step - rise) / max(1.0, count - rise))))

    def backward(images: Tensor, labels: Tensor) -> float:
        stepper.zero_grad()
        loss = F.cross_entropy(module(images).flatten(0, -2), labels)
        loss.backward()
        return float(loss.detach())

    schedule = torch.optim.lr_scheduler.LambdaLR(stepper, rate)
    history: list[float] = []
    module.train()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count()) if place.type == "cuda" else []):
        torch.manual_seed(seed)
        for epoch in range(epochs):
            total = 0.0
            for index in torch.randperm(len(x), generator=draw).split(batch_size):
                images = (_augmented(x[index], draw) if augment else x[index]).to(place)
                labels = y[index].to(place).flatten()
                total += stepper.step(partial(backward, images, labels)) * len(index)
                schedule.step()
            history.append(total / len(x))
            if progress is not None:
                progress(epoch, history[-1])
            if until_loss is not None and history[-1] <= until_loss:
                break
    module.eval()
    return history


def _optimizer(
    module: nn.Module, name: str | None, lr: float, momentum: float | None, weight_decay: float, rho: float | None
) -> torch.optim.Optimizer:
    name = name or ("adam" if momentum is None else "sgd")
    if name not in OPTIMIZERS:
        raise UnusableInput(f"the optimiser must be one of {', '.join(OPTIMIZERS)}, not {name!r}")
    if name == "adam" and momentum is not None:
        raise UnusableInput("Adam takes no momentum")
    if name in ("adam", "sgd") and rho is not None:
        raise UnusableInput(f"rho belongs to SAM and ASAM, not to {name}")
    if name == "adam":
        return torch.optim.AdamW(module.parameters(), lr=lr, weight_decay=weight_decay)
    momentum = 0.9 if momentum is None else momentum
    base = torch.optim.SGD(
        module.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=momentum > 0
    )
    match name:
        case "sam":
            return SAM(module, base, rho=0.05 if rho is None else rho)
        case "asam":
            return SAM(module, base, rho=0.5 if rho is None else rho, variant="asam-samsung", eta=0.01)
    return base


def _augmented(x: Tensor, draw: torch.Generator) -> Tensor:
    """Random horizontal flips and shifts of images [n, C, H, W], zeros coming in."""
    count, _, height, width = x.shape
    flips = torch.rand(count, generator=draw) < 0.5
    x = torch.where(flips[:, None, None, None], x.flip(3), x)
    reach = max(1, height // 8)
    padded = F.pad(x, [reach] * 4)
    down, right = torch.randint(0, 2 * reach + 1, (2, count), generator=draw)
    rows = down[:, None] + torch.arange(height)
    columns = right[:, None] + torch.arange(width)
    every = torch.arange(count)[:, None, None]
    return padded.permute(0, 2, 3, 1)[every, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def accuracy(module: nn.Module, x: Tensor, y: Tensor, *, batch_size: int = 256) -> float:
    """The fraction of labels, [N] or [N, positions], that the module, in evaluation mode, gives its inputs [N, ...]."""
    module.eval()
    place = next(module.parameters()).device
    with torch.no_grad():
        batches = zip(x.split(batch_size), y.split(batch_size), strict=True)
        return sum(int((module(a.to(place)).argmax(-1) == b.to(place)).sum()) for a, b in batches) / y.numel()
