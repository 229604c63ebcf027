"""Measuring in float32 must not use TF32, and leaves the settings of PyTorch as they were."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from zkcert import metric
from zkcert.metric.precision import full_precision, settings
from zkcert.zoo import mlp


def current() -> list[object]:
    places, name, _ = settings()
    return [getattr(place, name) for place in places]


@pytest.fixture(params=["as it is", "TF32 everywhere"])
def before(request):
    """The settings outside of a measurement: PyTorch's own, or TF32 for products, too."""
    places, name, value = settings()
    old = current()
    if request.param == "TF32 everywhere":
        for place in places:
            setattr(place, name, "tf32" if isinstance(value, str) else True)
    yield current()
    for place, setting in zip(places, old, strict=True):
        setattr(place, name, setting)


class Spy(torch.autograd.Function):
    """The identity; notes the settings of its forward and of its backward pass."""

    generate_vmap_rule = True
    seen: list[tuple[str, list[object]]]

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        Spy.seen.append(("forward", current()))
        return x.clone()

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        pass

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        Spy.seen.append(("backward", current()))
        return gradient


def spied() -> metric.Network:
    own = metric.Network.of_module(mlp(4, [5], 3))

    def forward(weights: Sequence[Tensor], x: Tensor) -> Tensor:
        return Spy.apply(own.forward(weights, x))

    return metric.Network(own.names, own.weights, forward)


X = torch.rand(4, 4, generator=torch.Generator().manual_seed(0))
Y = torch.tensor([0, 1, 2, 0])
PROBE = metric.Probe(steps=2, batch_size=2)
MEASURES: dict[str, tuple[bool, Callable[[metric.Network], object]]] = {
    "trajectory": (True, lambda n: metric.trajectory(n, X.reshape(2, 2, 4), Y.reshape(2, 2), PROBE)),
    "example_scores": (True, lambda n: metric.example_scores(n, X, Y, metric.Probe(steps=2, batch_size=1))),
    "coherence": (True, lambda n: metric.coherence(n, X, Y)),
    "sharpness": (True, lambda n: metric.sharpness(n, X, Y)),
    "worst_case": (True, lambda n: metric.worst_case_sharpness(n, X, Y, restarts=1, ascent_steps=1, bisections=1)),
    "full_gradient": (True, lambda n: metric.full_gradient(n, n.weights, X, Y)),
    "accuracy": (False, lambda n: metric.accuracy(n, X, Y)),
    "mean_loss": (False, lambda n: metric.mean_loss(n, X, Y)),
}


@pytest.mark.parametrize("name", MEASURES)
def test_no_measure_uses_tf32(name, before):
    gradients, measure = MEASURES[name]
    Spy.seen = []
    measure(spied())
    assert {kind for kind, _ in Spy.seen} == ({"forward", "backward"} if gradients else {"forward"})
    _, _, full = settings()
    assert all(value == full for _, values in Spy.seen for value in values)
    assert current() == before and any(value != full for value in before)


def test_settings_are_restored_after_an_error(before):
    with pytest.raises(ValueError, match="inside"), full_precision():
        assert current() != before
        raise ValueError("inside")
    assert current() == before
