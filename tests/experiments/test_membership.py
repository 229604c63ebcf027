"""Per-example scores against plain loops, and membership inference."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from zkcert.convert import from_module
from zkcert.errors import UnusableInput
from zkcert.metric import STATISTICS, Network, Probe, trajectory
from zkcert.metric.membership import SCORES, ExampleScores, Membership, example_scores
from zkcert.zoo import mlp

PROBE = Probe(steps=4, batch_size=1, lr="0.05")


def convolutional() -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = torch.nn.Sequential(
            torch.nn.Conv2d(1, 3, 3, padding=1),
            torch.nn.BatchNorm2d(3),
            torch.nn.ReLU(),
            torch.nn.MaxPool2d(2),
            torch.nn.Conv2d(3, 4, 3, stride=2, padding=1),
            torch.nn.AvgPool2d(1),
            torch.nn.ReLU(),
            torch.nn.Flatten(),
            torch.nn.Linear(4, 3),
        )
        module[1].running_mean.uniform_()
        module[1].running_var.uniform_(0.5, 2.0)
    return module.double().eval()


def examples(count: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(count, 1, 4, 4, dtype=torch.float64, generator=generator)
    return x, torch.randint(0, 3, (count,), generator=generator)


def networks() -> dict[str, Network]:
    module = convolutional()
    spec = {"shape": [1, 4, 4], "pad": 0, "mean": [0.0], "std": [1.0]}
    return {
        "perceptron": Network.of_module(mlp(16, [5], 3).double()),
        "module": Network.of_module(module),
        "model file": Network.of_model(from_module(module, input=spec)),
    }


@pytest.mark.parametrize("variant", ["asam-all", "sam", "asam-samsung"])
@pytest.mark.parametrize("name", networks())
def test_scores_equal_the_trajectory_with_the_example_as_every_batch(name, variant):
    network, (x, y) = networks()[name], examples()
    probe = Probe(steps=4, batch_size=1, lr="0.05", rho="0.2", variant=variant)
    found = example_scores(network, x, y, probe, chunk=3)
    for i in range(len(x)):
        wanted = trajectory(network, x[i].expand(4, 1, *x[i].shape), y[i].expand(4, 1), probe)
        assert found.loss[i] == pytest.approx(wanted.loss[0], rel=1e-10)
        assert found.static[i] == pytest.approx(wanted.sharpness[0], rel=1e-10)
        assert found.directional[i] == pytest.approx(wanted.score, rel=1e-7)
    assert not found.vanished.any()


def test_scores_equal_plain_backward_passes():
    """With an nn.Module, one example at a time, nothing of zkcert.metric."""
    module, (x, y) = mlp(16, [5], 3).double(), examples()
    found = example_scores(Network.of_module(module), x, y, Probe(steps=3, batch_size=1, lr="0.05", rho="0.2"))
    start = [p.detach().clone() for p in module.parameters()]
    for i in range(len(x)):
        with torch.no_grad():
            for p, w in zip(module.parameters(), start, strict=True):
                p.copy_(w)
        ratios = []
        for t in range(3):
            loss = F.cross_entropy(module(x[i : i + 1]), y[i : i + 1])
            g = torch.autograd.grad(loss, list(module.parameters()))
            with torch.no_grad():
                before = [p.clone() for p in module.parameters()]
                norm = math.sqrt(sum(float(((p * v) ** 2).sum()) for p, v in zip(before, g, strict=True)))
                for p, v in zip(module.parameters(), g, strict=True):
                    p.add_(0.2 * p * p * v / norm)
            moved = torch.autograd.grad(F.cross_entropy(module(x[i : i + 1]), y[i : i + 1]), list(module.parameters()))
            with torch.no_grad():
                for p, w, v in zip(module.parameters(), before, moved, strict=True):
                    p.copy_(w - 0.05 * v)
            ratios.append(math.log((0.2 * norm) ** 2 / loss.item() + 1e-8))
            if t == 0:
                assert found.loss[i] == pytest.approx(loss.item(), rel=1e-10)
                assert found.static[i] == pytest.approx(0.2 * norm, rel=1e-10)
        mean = sum(ratios) / 3
        wanted = math.sqrt(sum((v - mean) ** 2 for v in ratios) / 3)
        assert found.directional[i] == pytest.approx(wanted, rel=1e-7)


def test_the_size_of_chunks_does_not_matter():
    network, (x, y) = networks()["module"], examples(5)
    seen = []
    one, many = (
        example_scores(network, x, y, PROBE, chunk=c, progress=lambda *done: seen.append(done)) for c in (1, 64)
    )
    assert seen == [(i, 5) for i in range(1, 6)] + [(5, 5)]
    for score in SCORES:
        np.testing.assert_allclose(getattr(one, score), getattr(many, score), rtol=1e-9)


def test_sequences_are_examples_with_a_mean_loss():
    module = torch.nn.Linear(3, 7).double()
    network = Network.of_module(module)
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(4, 5, 3, dtype=torch.float64, generator=generator)
    y = torch.randint(0, 7, (4, 5), generator=generator)
    found = example_scores(network, x, y, PROBE)
    wanted = [F.cross_entropy(module(a), b).item() for a, b in zip(x, y, strict=True)]
    assert found.loss == pytest.approx(wanted)


def test_well_fitted_examples_need_float64():
    """Why float32 is warned of: an example of loss 1e-5, whose scores but one agree in both precisions."""
    module = torch.nn.Linear(2, 2, bias=False).double()
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[5.7, 0.3], [-5.7, 0.4]], dtype=torch.float64))
    x, y, probe = torch.tensor([[1.01, 0.2]], dtype=torch.float64), torch.tensor([0]), Probe(batch_size=1)
    exact = example_scores(Network.of_module(module), x, y, probe)
    rounded = example_scores(Network.of_module(module.float()), x.float(), y, probe)
    assert 1e-6 < exact.loss[0] < 1e-4
    assert rounded.loss == pytest.approx(exact.loss, rel=0.02)
    assert rounded.static == pytest.approx(exact.static, rel=0.02)
    assert rounded.directional != pytest.approx(exact.directional, rel=0.5)


def test_other_statistics():
    network, (x, y) = networks()["perceptron"], examples(3)
    for statistic in [name for name in STATISTICS if name != "std-log-ratio"]:
        probe = Probe(steps=4, batch_size=1, lr="0.05", statistic=statistic)
        found = example_scores(network, x, y, probe)
        for i in range(3):
            wanted = trajectory(network, x[i].expand(4, 1, *x[i].shape), y[i].expand(4, 1), probe)
            assert found.directional[i] == pytest.approx(wanted.score, rel=1e-7)


def certain() -> tuple[Network, torch.Tensor, torch.Tensor]:
    """Logits so far apart that the loss of the first example is 0 in floating point; that of the second is not."""
    module = torch.nn.Linear(2, 2, bias=False).double()
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[1.0, 0.5], [-1.0, 0.25]], dtype=torch.float64))
    return Network.of_module(module), torch.tensor([[100.0, 0.0], [0.1, 0.2]]).double(), torch.tensor([0, 0])


def test_a_vanishing_loss_is_counted_and_has_the_limit_of_its_log_ratio():
    network, x, y = certain()
    found = example_scores(network, x, y, PROBE)
    assert found.loss[0] == 0 and found.vanished.tolist() == [True, False]
    assert found.directional[0] == 0 and found.directional[1] > 0
    # the limit: an example with a loss of 1e-12 is already there
    almost = example_scores(network, torch.tensor([[14.0, 0.0]]).double(), y[:1], PROBE)
    assert 0 < almost.loss[0] < 1e-11 and not almost.vanished[0]
    assert almost.directional[0] < 1e-6


def test_a_loss_that_vanishes_on_the_way_is_counted():
    """A large step fits the example: the first log ratio is an ordinary one, the others are log(eps)."""
    network, x, y = certain()
    probe = Probe(steps=3, batch_size=1, lr=1000, rho="0.01", variant="sam")
    found = example_scores(network, x[1:], y[1:], probe)
    assert found.loss[0] > 0 and found.vanished[0]
    first = math.log(found.static[0] ** 2 / found.loss[0] + 1e-8)
    assert found.directional[0] == pytest.approx(np.std([first, math.log(1e-8), math.log(1e-8)]))


def test_an_example_without_gradient_does_not_spoil_the_others():
    module = torch.nn.Linear(2, 2, bias=False).double()
    network = Network.of_module(module)
    x = torch.tensor([[0.0, 0.0], [1.0, 2.0]]).double()
    found = example_scores(network, x, torch.tensor([0, 1]), PROBE)
    assert found.static[0] == 0 and found.loss[0] == pytest.approx(math.log(2))
    assert found.directional[0] == 0 and np.isfinite(found.directional).all()


@pytest.mark.parametrize(
    "options", [{"batch_size": 2}, {"batch_norm": "train"}, {"eps": 0}], ids=["batches", "batch-norm", "eps"]
)
def test_probes_that_are_not_of_single_examples(options):
    x, y = examples()
    with pytest.raises(UnusableInput, match="single examples"):
        example_scores(networks()["perceptron"], x, y, Probe(**{"steps": 2, "batch_size": 1, **options}))


def test_bad_examples():
    network, (x, y) = networks()["perceptron"], examples()
    for a, b in ((x, y[:3]), (x[:0], y[:0])):
        with pytest.raises(UnusableInput, match="at least one"):
            example_scores(network, a, b, PROBE)
    x = x.clone()
    x[5] = math.nan
    with pytest.raises(UnusableInput, match="example 5, step 0"):
        example_scores(network, x, y, PROBE)
    zero = torch.zeros(1, 1, 4, 4, dtype=torch.float64)
    flat = Network.of_module(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3, bias=False)).double())
    with pytest.raises(UnusableInput, match="cv-sharpness is undefined for example 0"):
        example_scores(flat, zero, y[:1], Probe(steps=2, batch_size=1, statistic="cv-sharpness"))


# ------------------------------------------------------------------------------------------- inference


def test_members_of_an_overfitted_network_score_lower():
    """Twenty random labels learnt by heart, twenty not seen: every score tells them apart, in the direction decided."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 16, dtype=torch.float64, generator=generator)
    y = torch.randint(0, 3, (40,), generator=generator)
    module = mlp(16, [32], 3).double()
    optimizer = torch.optim.Adam(module.parameters(), lr=0.01)
    for _ in range(150):
        optimizer.zero_grad()
        F.cross_entropy(module(x[:20]), y[:20]).backward()
        optimizer.step()
    network = Network.of_module(module)
    members, others = (example_scores(network, x[s], y[s], PROBE) for s in (slice(20), slice(20, None)))
    found = Membership.of(members, others)
    for score in SCORES:
        assert found.results[score].auc > 0.7, score
    turned = Membership.of(others, members)
    for score in SCORES:
        assert turned.results[score].auc == pytest.approx(1 - found.results[score].auc)


def fixed(*values: float, vanished: bool = False) -> ExampleScores:
    array = np.array(values)
    return ExampleScores(array, 2 * array, -array, np.full(len(values), vanished))


def test_report_of_given_scores():
    found = Membership.of(fixed(1.0, 2.0, 4.0, vanished=True), fixed(3.0, 5.0))
    assert found.results["loss"].auc == found.results["static"].auc == 5 / 6
    assert found.results["directional"].auc == pytest.approx(1 / 6)
    content = found.to_dict()
    assert (content["members"], content["nonmembers"]) == (3, 2)
    assert content["vanished"] == {"members": 3, "nonmembers": 0}
    assert content["scores"]["loss"]["balanced_accuracy"] == pytest.approx(5 / 6)
    assert content["scores"]["loss"]["threshold"] == 2.0
    with pytest.raises(UnusableInput, match="at least two"):
        Membership.of(fixed(1.0), fixed(1.0, 2.0))
