"""Train: model files from the architectures of the zoo."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zkcert.api.files import File, check_device, needs_extras
from zkcert.api.notebook import epochs_shown
from zkcert.api.samples import Samples, open_samples
from zkcert.errors import UnusableInput
from zkcert.files.models import model_pieces
from zkcert.files.writing import check_output, keep_file, require_space
from zkcert.public.graph import check_input
from zkcert.public.kinds import MODEL

if TYPE_CHECKING:
    from torch import nn

ARCHITECTURES = ("mlp", "lenet5", "alexnet", "vgg11", "vgg11-bn", "vgg16-bn", "resnet18", "gpt")
"""What can be trained: mlp takes samples of any shape, gpt windows of tokens, lenet5 one channel, the others three, of
at most 32x32."""

DEFAULTS: dict[str, dict[str, float]] = {
    "adam": {"lr": 0.001},
    "sgd": {"lr": 0.05, "momentum": 0.9},
    "sam": {"lr": 0.05, "momentum": 0.9, "rho": 0.05},
    "asam": {"lr": 0.05, "momentum": 0.9, "rho": 0.5},
}
"""By optimiser, what holds where nothing is given."""

_SIDE = 32
_MODEL_FRAME = 1 << 16  # bytes, about what a model file holds beside its tensors
_LEAST_DEVIATION = 2.0**-16  # see `zkcert.public.model.Model`

EpochDone = Callable[[int, float, float | None], None]
"""Called after each epoch with its number from 0, its mean loss, and the accuracy on the test data, if any."""


@dataclass(frozen=True)
class Training:
    """A trained and written model.

    losses      the mean cross-entropy of each epoch, as met during it.
    accuracies  on the test data after each epoch; empty without such data.
    accuracy    of the trained model on the training data, without augmentation.
    options     what was asked for, with the values that hold where nothing was given.
    """

    path: Path
    architecture: str
    parameters: int
    classes: int
    input: dict[str, Any]
    weights: str
    options: dict[str, Any]
    losses: tuple[float, ...]
    accuracies: tuple[float, ...]
    accuracy: float
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "model": str(self.path),
            "architecture": self.architecture,
            "parameters": self.parameters,
            "classes": self.classes,
            "input": self.input,
            "weights": self.weights,
            "options": self.options,
            "losses": list(self.losses),
            "train_accuracy": self.accuracy,
            "test_accuracies": list(self.accuracies),
            "seconds": round(self.seconds, 3),
        }


def train(
    architecture: str,
    data: Any,
    out: File = "model.pt",
    *,
    test: Any = None,
    optimizer: str = "adam",
    epochs: int = 10,
    batch_size: int = 64,
    lr: float | None = None,
    momentum: float | None = None,
    weight_decay: float = 0.0,
    rho: float | None = None,
    warmup: float | None = None,
    augment: bool = False,
    hidden: Sequence[int] | None = None,
    classes: int | None = None,
    seed: int = 0,
    device: str = "cpu",
    force: bool = False,
    progress: EpochDone | None = None,
    warned: Callable[[str], None] | None = None,
) -> Training:
    """Train a model on a dataset and write the model file `out`.

    architecture  mlp (samples of any shape), lenet5 (one channel), alexnet, vgg11, vgg11-bn, vgg16-bn or resnet18
                  (three channels), at most 32x32; gpt (windows of tokens).
    data       committed (data.zkd), or a dataset as `commit` reads it.
    test       data for the accuracy after each epoch; training does not depend on them.
    optimizer  adam, sgd, sam or asam.
    epochs, batch_size  passes over the data, samples per mini-batch.
    lr         learning rate; None: 0.001 for adam, else 0.05. momentum: of all but adam; None: 0.9.
    rho        radius of sam (None: 0.05) and asam (None: 0.5). weight_decay: for all.
    warmup     share of the steps over which the rate rises; then it falls as a cosine. None: it is constant.
    augment    flip and shift the images at random.
    hidden     widths of the hidden layers of an mlp; None: one of 128.
    classes    by default the dataset's: what it was committed with, or the largest label + 1.
    seed       of initialisation, order, augmentation and dropout, from 0.
    device     "cpu" or "cuda".
    force      replace a model file of that name.
    progress   called after each epoch with its number from 0, its mean loss, and the accuracy on `test` or None.
    warned     called, before the training, with what looks like a mistake in `data`.

    The input is normalised with the means and deviations of each channel of `data`, to four decimals. Images smaller
    than 32x32 are zero-padded to that, except for an mlp. In float32; on the CPU of one machine
    deterministic under the seed, on a CUDA device up to the rounding of its kernels. Returns the Training: `path`,
    `losses`, `accuracies`, `accuracy` (on `data`). Raises UnusableInput.
    """
    progress = epochs_shown(progress)
    with needs_extras("training"):
        import torch

        from zkcert import zoo
        from zkcert.convert import of_module
    if architecture not in ARCHITECTURES:
        is_one = isinstance(data, str) and data in ARCHITECTURES
        swapped = f": ARCH comes before DATA, zkcert train {data} ..." if is_one else ""
        names = ", ".join(ARCHITECTURES)
        raise UnusableInput(f"the architecture must be one of {names}, not {architecture[:40]!r}{swapped}")
    path = check_output(out, MODEL, inputs=(data, test), force=force)
    given = {"lr": lr, "momentum": momentum, "rho": rho}
    options: dict[str, Any] = {
        "optimizer": optimizer,
        "epochs": epochs,
        "batch_size": batch_size,
        **{name: DEFAULTS.get(optimizer, {}).get(name) if value is None else value for name, value in given.items()},
        "weight_decay": weight_decay,
        "warmup": warmup,
        "augment": augment,
        "seed": seed,
        "device": device,
    }
    _check(options)
    check_device(device)
    start = time.perf_counter()
    samples, held_out = open_samples(data), None if test is None else open_samples(test)
    if warned and samples.plain:
        for text in samples.plain.warnings(classes):
            warned(text)
    count = samples.classes if classes is None else classes
    spec = _input(architecture, samples, count)
    if augment and architecture == "gpt":
        raise UnusableInput("windows of tokens are not augmented: leave --augment out")
    if hidden is not None and architecture != "mlp":
        raise UnusableInput(f"--hidden is of an mlp: leave it out for {architecture}, whose widths are fixed")
    hidden = HIDDEN if hidden is None else hidden
    module = _module(architecture, spec, count, hidden, seed)
    draft = of_module(module, spec)  # what has no circuit is refused now rather than afterwards
    require_space(path, sum(array.nbytes for array in draft.tensors.values()) + _MODEL_FRAME)
    x, y = samples.inputs(draft, range(samples.n), torch.float32)
    tests = None if held_out is None else held_out.inputs(draft, range(held_out.n), torch.float32)
    if architecture == "gpt":  # which reads [n, L]
        x, tests = x[:, 0, 0], None if tests is None else (tests[0][:, 0, 0], tests[1])
    accuracies: list[float] = []

    def epoch_done(epoch: int, loss: float) -> None:
        if not math.isfinite(loss):
            raise UnusableInput(f"the training diverged in epoch {epoch + 1}: a smaller --lr may help")
        if tests is not None:
            accuracies.append(zoo.accuracy(module, *tests))
            module.train()
        if progress:
            progress(epoch, loss, accuracies[-1] if accuracies else None)

    losses = zoo.train(module, x, y, progress=epoch_done, **options)
    accuracy = zoo.accuracy(module, x, y)
    model = of_module(module, spec)
    keep_file(path, lambda: model_pieces(model, path), MODEL, force=force)
    extra = {"hidden": list(hidden)} if architecture == "mlp" else {}
    return Training(
        path=path,
        architecture=architecture,
        parameters=model.param_count,
        classes=count,
        input=spec,
        weights=model.weights_digest.hex(),
        options=options | extra,
        losses=tuple(losses),
        accuracies=tuple(accuracies),
        accuracy=accuracy,
        seconds=time.perf_counter() - start,
    )


def _check(options: Mapping[str, Any]) -> None:
    if options["optimizer"] not in DEFAULTS:
        raise UnusableInput(f"the optimiser must be one of {', '.join(DEFAULTS)}, not {options['optimizer'][:40]!r}")
    for name, low in (("epochs", 1), ("batch_size", 1), ("seed", 0)):
        if type(options[name]) is not int or not low <= options[name] < 1 << 63:
            raise UnusableInput(f"{name} must be an integer from {low}")
    ranges: dict[str, Callable[[float], bool]] = {
        "lr": lambda value: 0 < value < math.inf,
        "rho": lambda value: 0 < value < math.inf,
        "momentum": lambda value: 0 <= value < 1,
        "weight_decay": lambda value: 0 <= value < math.inf,
        "warmup": lambda value: 0 <= value <= 1,
    }
    for name, fits in ranges.items():
        if options[name] is not None and not fits(options[name]):
            raise UnusableInput(f"{name} is out of range: {options[name]:g}")


def _input(architecture: str, samples: Samples, classes: int) -> dict[str, Any]:
    """The input specification: padding to 32x32, mean and deviation of each channel to four digits."""
    channels, height, width = samples.shape
    if (architecture == "gpt") != (samples.schema.kind == "tokens"):
        wanted = "windows of tokens (say --context)" if architecture == "gpt" else "samples of numbers"
        raise UnusableInput(f"{architecture} takes {wanted}, not {samples.schema.samples_text()}")
    if architecture == "gpt":
        return check_input({"shape": [channels, height, width], "tokens": classes})
    pad = 0
    if architecture != "mlp":
        wanted = 1 if architecture == "lenet5" else 3
        pad, odd = divmod(_SIDE - height, 2)
        if channels != wanted or height != width or pad < 0 or odd:
            raise UnusableInput(
                f"{architecture} takes square images of {wanted} channel{'s' * (wanted > 1)} and an even side of at "
                f"most {_SIDE}; the samples are {channels}x{height}x{width}"
            )
    means, deviations = moments(samples)
    return {"shape": [channels, height, width], "pad": pad, "mean": means, "std": deviations}


def moments(samples: Samples) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel to four digits, of bytes/255 or of the float values; where a channel
    is constant, 1 instead of its deviation."""
    count = samples.n * math.prod(samples.shape[1:])

    def mean(of: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        scaled = (raw / (255 if raw.dtype == np.uint8 else 2.0**32) for raw in samples.chunks())
        total: np.ndarray = sum((of(values).sum((0, 2, 3)) for values in scaled), np.zeros(samples.shape[0])) / count
        return total

    means = mean(lambda values: values)
    deviations = np.sqrt(mean(lambda values: np.square(values - means[:, None, None])))
    rounded = [[float(f"{value:.4g}") for value in row] for row in (means, deviations)]
    return rounded[0], [value if value >= _LEAST_DEVIATION else 1.0 for value in rounded[1]]


HIDDEN = (128,)


def _module(architecture: str, spec: Mapping[str, Any], classes: int, hidden: Sequence[int], seed: int) -> nn.Module:
    from zkcert import zoo

    if type(classes) is not int or classes < 2:
        raise UnusableInput("a model has at least two classes")
    match architecture:
        case "mlp":
            if not all(type(width) is int and width >= 1 for width in hidden):
                raise UnusableInput("the widths of hidden layers must be positive integers")
            return zoo.mlp(math.prod(spec["shape"]), hidden, classes, seed=seed)
        case "gpt":
            return zoo.gpt(classes, context=spec["shape"][2], seed=seed)
        case "lenet5":
            return zoo.lenet5(classes=classes, seed=seed)
        case "alexnet":
            return zoo.alexnet(classes, seed=seed)
        case "vgg11" | "vgg11-bn":
            return zoo.vgg11(architecture == "vgg11-bn", classes=classes, seed=seed)
        case "vgg16-bn":
            return zoo.vgg16_bn(classes=classes, seed=seed)
    return zoo.resnet18(classes=classes, seed=seed)
