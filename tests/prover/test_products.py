"""Product sum-checks over real circuits: the prover's tables against lists of scalars, and the forms they come from."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

import prover.products
from circuits.argument.claims import Oracle, ProductJob
from circuits.argument.identities import constraint_claims, group_pairs
from circuits.language.constraints import Circuit, Constraint, product
from circuits.language.forms import Form, View
from circuits.language.layout import SMALLEST_CUT, Layout
from circuits.language.sources import Axis, Gather, Map, Sum
from circuits.language.tensors import Tensor, radix, unsigned
from prover.execution.witness import Witness
from prover.kernels import arith
from prover.products import Members, Products
from prover.tables import distinct_digits
from tests import twins
from tests.builders import tiny_cnn, tiny_mlp
from tests.toys import table_of
from zkcert.core.field import F, P, eq_table, f_list
from zkcert.core.transcript import Transcript

PATHS = {
    "tables": {"DIRECT_SIZE": 1 << 40},
    "digits": {"DIRECT_SIZE": 2},
    "small blocks": {"DIRECT_SIZE": 2, "BLOCK_ENTRIES": 64, "INNER_WEIGHTS": 3},
    "chunks": {"DIRECT_SIZE": 2, "BLOCK_ENTRIES": 64, "TABLE_BYTES": 1 << 11},
    "chunks of a window": {"DIRECT_SIZE": 2, "BLOCK_ENTRIES": 8, "TABLE_BYTES": 1},
}


@pytest.fixture(params=PATHS)
def path(request, monkeypatch):
    """Start from tables, from digits, or from digits in many blocks on several threads."""
    for name, value in PATHS[request.param].items():
        monkeypatch.setattr(prover.products, name, value)
    if request.param == "small blocks":
        monkeypatch.setattr(arith, "THREADS", 3)
        monkeypatch.setattr(arith, "MAX_GRAIN", 1)
    return request.param


class Jobs(Oracle):
    """Collects the jobs of the constraints it sees."""

    def __init__(self):
        self.jobs = []

    def products(self, job):
        self.jobs.append(job)
        return super().products(job)


class Deaf:
    """A channel with the challenges of a transcript that hears nothing."""

    def __init__(self):
        self.transcript, self.tape = Transcript("unit"), self

    def challenge(self, label):
        return self.transcript.challenge(label)

    def challenges(self, label, count):
        return self.transcript.challenges(label, count)

    def send(self, label, values, count):
        return [0] * count

    def send_pairs(self, label, values, count):
        return [(0, 0, 0)] * count

    def known(self, value):
        return 0

    def linear(self, terms, const=F.ZERO):
        return 0

    def assert_zero(self, node, name):
        pass


@cache
def circuit(builder, cut):
    certificate, witness, _ = builder().run(smallest_cut=cut)
    oracle, channel = Jobs(), Deaf()
    for con in certificate.circuit.constraints:
        constraint_claims(channel, oracle, con)
    return oracle.jobs, witness


def plain_table(w, form, job, private):
    """The form at every point of the padded kept axes, as scalars."""
    axes = [*job.kept, *private]
    total = np.zeros([ax.size for ax in job.kept], object)
    for v, d, c in form.terms:
        x = w.read(v, d, axes).astype(object)
        for ax in reversed(private):
            weights = np.array(f_list(job.vecs[ax.name]), object) if ax.name in v.axes else np.ones(1, object)
            x = (x * weights).sum(axis=-1)
        total = total + x * c
    out = np.zeros([1 << ax.bits for ax in job.kept], object)
    out[tuple(slice(ax.size) for ax in job.kept)] = total
    return [F.ZERO + x for x in out.ravel()]


def plain_products(w, job):
    private = [Axis(name, vec.shape[1]) for name, vec in job.vecs.items()]
    tables = [(plain_table(w, a, job, private), plain_table(w, b, job, private)) for a, b in job.pairs]
    return twins.Products(tables, job.eq_point)


def same_conversation(job, w, seed=0):
    """Both oracles answer alike to random challenges. Returns whether the first rounds came straight from digits."""
    rng = np.random.default_rng(seed)
    plain, fast = plain_products(w, job), Products(job, w)
    direct = fast.direct is not None
    assert fast.total() == plain.total()
    bits = sum(ax.bits for ax in job.kept)
    for left in reversed(range(bits)):
        eq_point = job.eq_point[:left] if left < len(job.eq_point) else None
        assert fast.round(eq_point) == plain.round(eq_point), f"{left} variables left"
        r = F(*rng.integers(0, P, 2).tolist())
        fast.bind(r)
        plain.bind(r)
    assert fast.finals() == plain.finals()
    return direct


@pytest.mark.parametrize("builder, cut", [(tiny_mlp, SMALLEST_CUT), (tiny_mlp, 1), (tiny_cnn, 8)])
def test_every_product_job_of_a_circuit(builder, cut, path):
    jobs, w = circuit(builder, cut)
    small = [job for job in jobs if sum(ax.bits for ax in job.kept) <= 9 and len(job.pairs) <= 3]
    assert len(small) > 20
    direct = [same_conversation(job, w) for job in small]
    assert any(direct) == (path != "tables")


def lone_tensor(sizes, bits=22, count=2, name="t"):
    return Tensor(name, sizes[0], tuple(sizes[1:]), radix(*[unsigned(bits)] * count))


def filled(*tensors, seed=0, cut=SMALLEST_CUT):
    circuit, rng = Circuit(), np.random.default_rng(seed)
    circuit.tensors += tensors
    w = Witness(Layout(circuit, cut))
    for t in tensors:
        for d, digit in enumerate(t.digits):
            w.write(t, d, rng.integers(0, digit.range.size, t.sizes))
    return w


def job_of(eq_axes, plain_axes, products, vecs=(), seed=0):
    """A job with one member per product and random weights and points."""
    rng = np.random.default_rng(seed)
    draw = lambda n: [F(*rng.integers(0, P, 2).tolist()) for _ in range(n)]  # noqa: E731
    eq_axes, plain_axes = ([Axis(*ax) for ax in axes] for axes in (eq_axes, plain_axes))
    weights = draw(len(products))
    pairs = [(a, b * w) for (a, b), w in zip(products, weights, strict=True)]
    members = [(w, (pair,)) for pair, w in zip(products, weights, strict=True)]
    folded = {name: eq_table(draw((n - 1).bit_length()))[:, :n] for name, n in vecs}
    point = draw(sum(ax.bits for ax in eq_axes))
    return ProductJob("unit", tuple(eq_axes), tuple(plain_axes), point, folded, pairs, members)


@pytest.mark.parametrize(
    "eq_sizes, plain_sizes",
    [([3, 5], [9]), ([9], [5, 3]), ([1, 7, 1], [1, 6, 1]), ([2, 3, 5], []), ([], [3, 10, 2]), ([25], []), ([1], [])],
)
def test_awkward_axis_sizes(eq_sizes, plain_sizes, path):
    eq = [(f"e{i}", n) for i, n in enumerate(eq_sizes)]
    plain = [(f"s{i}", n) for i, n in enumerate(plain_sizes)]
    axes = [*eq, *plain]
    t, first = lone_tensor([n for _, n in axes]), lone_tensor([axes[0][1]], name="first")
    whole = View(t, tuple(Axis(*ax) for ax in axes))
    part = View(first, (Axis(*axes[0]),))
    products = [(whole.digit(0), whole.digit(1) - 3 * whole.digit(0)), (whole.digit(1), 5 * part.digit(0))]
    for cut in (1, SMALLEST_CUT):
        same_conversation(job_of(eq, plain, products), filled(t, first, cut=cut))


def test_maps_and_gathers(path):
    """Absent entries, steps, repeats; a window's axes in the other order; a column all indices share."""
    t, u = lone_tensor([7, 6]), lone_tensor([1, 4], name="u")
    table = table_of(np.array([[0, 3, -1], [5, -1, 2], [1, 1, 4]])[:2])
    views = [
        View(t, (Map("p", (0, 2, 4, 6), 7), Gather("k", "s", table, 6))),
        View(t, (Map("p", (1, -1, 1, 0), 7), Gather("k", "s", table, 6))),
        View(u, (Sum(1), Axis("p", 4))),
    ]
    products = [(views[0].digit(0), views[1].digit(1)), (views[1].digit(0), views[2].digit(0))]
    for eq, plain in (([("p", 4), ("k", 2)], [("s", 3)]), ([("s", 3)], [("k", 2), ("p", 4)])):
        for cut in (1, 8, SMALLEST_CUT):
            same_conversation(job_of(eq, plain, products), filled(t, u, cut=cut))


@pytest.mark.parametrize("cut", [1, 32, SMALLEST_CUT])
def test_private_axes_and_sums(cut):
    """Each operand folds axes of its own, through a gather or not, next to plain and weighted sums."""
    t, u = lone_tensor([3, 5, 6, 2]), lone_tensor([3, 4, 2, 3], name="u")
    table = table_of(np.array([[0, 3, -1, 1], [5, -1, 2, 0]]))
    left = View(t, (Axis("p", 3), Axis("a", 5), Gather("k", "s", table, 6), Sum(2)))
    right = View(u, (Map("p", (0, 0, 2), 3), Axis("b", 4), Axis("k", 2), Sum(3, (1, 0, 7))))
    products = [(left.digit(0), right.digit(1)), (left.digit(1), right.whole())]
    w = filled(t, u, cut=cut)
    assert not same_conversation(job_of([("p", 3)], [("k", 2)], products, [("a", 5), ("s", 4), ("b", 4)]), w)
    right = View(u, (Map("p", (0, 0, 2), 3), Axis("s", 4), Axis("c", 2), Sum(3)))
    products = [(left.digit(0), right.digit(1))]
    same_conversation(job_of([("p", 3)], [("s", 4)], products, [("a", 5), ("k", 2), ("c", 2)]), w)


@pytest.mark.parametrize("limit", [1 << 30, 1 << 8, 1])
def test_members_too_large_for_differences_start_later(monkeypatch, limit):
    monkeypatch.setattr(prover.products, "DIRECT_SIZE", 2)
    monkeypatch.setattr(prover.products, "TABLE_BYTES", limit)
    t = lone_tensor([3, 9])
    view = View(t, (Axis("a", 3), Axis("b", 9)))
    used = []
    for power in (0, 14, 15, 16, 17):
        job = job_of([("a", 3)], [("b", 9)], [(view.digit(0) * (1 << power), view.digit(1))])
        same_conversation(job, filled(t))
        direct = Products(job, filled(t)).direct
        used.append(direct.rounds if direct else None)
    assert used == [2, 2, 1, 1, None if limit == 1 << 30 else 0]
    job = job_of([("a", 3)], [("b", 9)], [(view.digit(0), view.digit(1)), (view.digit(0), view.digit(0))])
    assert Members(job, distinct_digits(job)).reach == ((1 << 22) - 1) ** 2


def test_pairs_are_grouped_by_left_form_up_to_an_integer():
    t = lone_tensor([4], count=3)
    view = View(t, (Axis("a", 4),))
    x, y, z = (view.digit(i) for i in range(3))
    assert (x * -6 + y * 4).primitive == (-2, x * 3 - y * 2)
    assert x.primitive == (1, x) and (x * 0 + x * -1).primitive == (-1, x)
    assert Form().primitive == (1, Form())
    con = Constraint("unit", (Axis("a", 4),))
    con.add("one", product(x, y) + product(2 * y, z))
    con.add("two", product(-3 * y, x) + product(x, 5 * y))
    pairs = group_pairs(con, [F(2), F(7, 1)])
    assert [a for a, _ in pairs] == [x, y]
    assert {(v, d): c for v, d, c in pairs[0][1].terms} == {(view, 1): F(37, 5)}
    assert {(v, d): c for v, d, c in pairs[1][1].terms} == {(view, 2): F(4), (view, 0): F(-21, -3)}
