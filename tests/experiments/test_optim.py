"""SAM and ASAM against the published algorithms written out, and their place in training."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from zkcert.errors import UnusableInput
from zkcert.metric import STEP_FUNCTIONS
from zkcert.metric.optim import SAM, frozen_statistics
from zkcert.zoo import mlp


def samples(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 1, 4, 4, dtype=torch.float64, generator=draw)
    return x, torch.randint(0, 5, (count,), generator=draw)


def plain_sam(module, batches, variant, rho, eta, lr, momentum, decay):
    """Momentum SGD with weight decay on the gradient at w + e, on dictionaries of arrays."""
    w = {name: p.detach().clone() for name, p in module.named_parameters()}
    v = {name: torch.zeros_like(p) for name, p in w.items()}
    losses = []

    def gradient(point, x, y):
        leaves = {name: p.clone().requires_grad_() for name, p in point.items()}
        logits = torch.func.functional_call(module, leaves, (x,))
        loss = -torch.log_softmax(logits, 1)[torch.arange(len(y)), y].mean()
        loss.backward()
        return loss.item(), {name: leaf.grad for name, leaf in leaves.items()}

    for x, y in batches:
        loss, g = gradient(w, x, y)
        losses.append(loss)
        match variant:
            case "sam":
                t = {name: 1.0 for name in w}
            case "asam-all":
                t = {name: p.abs() for name, p in w.items()}
            case "asam-samsung":
                t = {name: p.abs() + eta if "weight" in name else 1.0 for name, p in w.items()}
            case "asam-shifted":
                t = {name: p.abs() + eta for name, p in w.items()}
        length = torch.cat([(t[name] * g[name]).flatten() for name in w]).norm()
        _, g = gradient({name: w[name] + rho * t[name] ** 2 * g[name] / length for name in w}, x, y)
        for name in w:
            v[name] = momentum * v[name] + g[name] + decay * w[name]
            w[name] = w[name] - lr * v[name]
    return w, losses


@pytest.mark.parametrize("variant", STEP_FUNCTIONS)
@pytest.mark.parametrize(("momentum", "decay"), [(0.0, 0.0), (0.9, 0.01)])
@pytest.mark.parametrize("steps", ["closure", "two"])
def test_several_steps_equal_the_published_algorithms(variant, momentum, decay, steps):
    module = mlp(16, [12], 5).double()
    batches = [samples(8, seed) for seed in range(6)]
    wanted, losses = plain_sam(copy.deepcopy(module), batches, variant, 0.5, 0.02, 0.1, momentum, decay)
    base = torch.optim.SGD(module.parameters(), lr=0.1, momentum=momentum, weight_decay=decay)
    optimizer = SAM(module, base, rho=0.5, variant=variant, eta=0.02)
    for (x, y), loss in zip(batches, losses, strict=True):

        def closure(x=x, y=y):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(module(x), y)
            loss.backward()
            return loss

        if steps == "closure":
            assert optimizer.step(closure).item() == pytest.approx(loss, rel=1e-9)
        else:
            assert closure().item() == pytest.approx(loss, rel=1e-9)
            optimizer.first_step(zero_grad=True)
            nn.functional.cross_entropy(module(x), y).backward()
            optimizer.second_step(zero_grad=True)
            assert all(p.grad is None for p in module.parameters())
    for name, p in module.named_parameters():
        torch.testing.assert_close(p.detach(), wanted[name], rtol=1e-9, atol=1e-12)


def test_the_first_step_returns_the_sharpness_and_the_second_starts_from_the_same_weights():
    module = mlp(16, [12], 5)
    before = [p.detach().clone() for p in module.parameters()]
    x, y = samples(8)
    optimizer = SAM(module, torch.optim.SGD(module.parameters(), lr=0.0), rho=1e4, variant="sam")
    nn.functional.cross_entropy(module(x.float()), y).backward()
    length = torch.cat([p.grad.flatten() for p in module.parameters()]).norm()
    assert optimizer.first_step() == pytest.approx(1e4 * float(length), rel=1e-5)
    move = torch.cat([(p.detach() - b).flatten() for p, b in zip(module.parameters(), before, strict=True)])
    assert float(move.norm()) == pytest.approx(1e4, rel=1e-5)
    optimizer.second_step()
    assert all(torch.equal(p, b) for p, b in zip(module.parameters(), before, strict=True))


def test_running_statistics_see_only_the_first_pass():
    def network():
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(16), nn.Linear(16, 5), nn.BatchNorm1d(5)).double()

    x, y = samples(8)
    x = 3 * x + 1
    module, once = network(), network()
    once(x)
    optimizer = SAM(module, torch.optim.SGD(module.parameters(), lr=0.1), rho=5.0)

    def closure():
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(module(x), y)
        loss.backward()
        return loss

    optimizer.step(closure)
    for (name, a), (_, b) in zip(module.named_buffers(), once.named_buffers(), strict=True):
        assert torch.equal(a, b), name
    assert int(module[1].num_batches_tracked) == 1
    with frozen_statistics(module):
        module(100 * x)
    assert all(torch.equal(a, b) for a, b in zip(module.buffers(), once.buffers(), strict=True))
    module(100 * x)
    assert not torch.equal(module[1].running_mean, once[1].running_mean)


def test_frozen_parameters_stay_and_do_not_count():
    module = mlp(16, [12], 5).double()
    module.fc1.requires_grad_(False)
    before = module.fc1.weight.clone()
    x, y = samples(8)
    optimizer = SAM(module, torch.optim.SGD(module.parameters(), lr=0.1), rho=0.5, variant="asam-all")
    nn.functional.cross_entropy(module(x), y).backward()
    scaled = torch.cat([(p.abs() * p.grad).flatten() for p in module.fc2.parameters()])
    assert optimizer.first_step() == pytest.approx(0.5 * float(scaled.detach().norm()))
    optimizer.second_step()
    assert torch.equal(module.fc1.weight, before)


def test_schedules_and_saved_states_are_the_base_optimisers():
    def run(module, count, state=None):
        base = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
        optimizer = SAM(module, base, rho=0.1)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
        if state is not None:
            optimizer.load_state_dict(state[0])
            schedule.load_state_dict(state[1])
        x, y = samples(8)

        def closure():
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(module(x), y)
            loss.backward()
            return loss

        for _ in range(count):
            optimizer.step(closure)
            schedule.step()
        return optimizer, schedule

    straight, broken = mlp(16, [6], 5).double(), mlp(16, [6], 5).double()
    optimizer, _ = run(straight, 4)
    assert optimizer.base.param_groups[0]["lr"] == 0.1 / 16
    first, schedule = run(broken, 2)
    state = copy.deepcopy((first.state_dict(), schedule.state_dict()))
    assert state[0]["state"]  # momenta
    run(broken, 2, state)
    for a, b in zip(straight.parameters(), broken.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_pass_that_fails_leaves_the_weights_alone():
    module = mlp(16, [6], 5).double()
    before = [p.detach().clone() for p in module.parameters()]
    x, y = samples(8)
    optimizer = SAM(module, torch.optim.SGD(module.parameters(), lr=0.1))
    calls = []

    def closure():
        calls.append(len(calls))
        if len(calls) == 2:
            raise KeyboardInterrupt
        loss = nn.functional.cross_entropy(module(x), y)
        loss.backward()
        return loss

    with pytest.raises(KeyboardInterrupt):
        optimizer.step(closure)
    assert all(torch.equal(p, b) for p, b in zip(module.parameters(), before, strict=True))


def test_misuse_is_reported():
    module, other = mlp(16, [6], 5), mlp(16, [6], 5)
    base = torch.optim.SGD(module.parameters(), lr=0.1)
    for options in ({"rho": 0.0}, {"eta": -1.0}, {"variant": "asam"}):
        with pytest.raises(UnusableInput):
            SAM(module, base, **options)
    with pytest.raises(UnusableInput, match="module has not"):
        SAM(other, base)
    optimizer = SAM(module, base)
    with pytest.raises(RuntimeError, match="closure"):
        optimizer.step()
    with pytest.raises(RuntimeError, match="backward"):
        optimizer.first_step()
    with pytest.raises(RuntimeError, match="first_step"):
        optimizer.second_step()
    nn.functional.cross_entropy(module(samples(4)[0].float()), samples(4)[1]).backward()
    optimizer.first_step()
    with pytest.raises(RuntimeError, match="second_step"):
        optimizer.first_step()
