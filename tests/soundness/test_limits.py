"""A file that costs its sender nothing must not cost the verifier much: sizes are checked before it computes."""

from __future__ import annotations

from fractions import Fraction
from unittest import mock

import numpy as np
import pytest

import circuits.argument.batching
import circuits.compile
import circuits.language.constraints
import circuits.language.layout
import circuits.language.sources
import circuits.limits
import circuits.net
import verifier.argument
import verifier.verify
from circuits.compile import Certificate
from circuits.language.sources import Gather
from circuits.language.tensors import U22
from circuits.limits import column_weights, least_lengths, operands
from circuits.probe import WHOLE_DIVISOR_BITS
from circuits.statement import plan_of
from circuits.windows import Pairs, Windows, heads_of
from tests.builders import Graph, fan, normalised, tiny_cnn
from tests.toys import certified, tiny_model
from verifier.verify import Expectations, verify_proof
from zkcert.core import sis
from zkcert.core.code import matrix_code
from zkcert.core.container import ProofFile
from zkcert.core.field import P
from zkcert.core.proof import Reader, section
from zkcert.core.sis import ROWS
from zkcert.core.tree import MerkleTree
from zkcert.errors import MalformedProof, ProofRejected, UnusableInput
from zkcert.public.config import ProbeConfig
from zkcert.public.defaults import DEFAULT
from zkcert.public.model import Model
from zkcert.public.root import TREE_NAME, DatasetRoot, Schema, leaf_digests
from zkcert.public.statement import Statement

TAU = Expectations(Fraction(30))


def hostile_file(model: Model, config: ProbeConfig, kind: str = "u8", argument: bytes | None = None) -> bytes:
    """A file that passes every check up to the argument, of zeros, as short as can be; making it takes no proof."""
    count = config.steps * config.batch_size
    hashes = np.zeros((count, ROWS), np.uint64)
    tree = MerkleTree(leaf_digests(range(count), hashes), TREE_NAME)
    schema = Schema(model.classes, kind, tuple(model.input["shape"]))
    statement = Statement.of(model, DatasetRoot(tree.root, count, schema), config, Fraction(30))
    if argument is None:
        argument = b"".join(section(bytes(n)) for n in (96, *least_lengths(len(model.params))))
    return ProofFile(statement.header(), hashes, tree.multiproof(range(count)), argument).to_bytes()


def sections_of(argument: bytes) -> list[bytes]:
    reader = Reader(argument)
    return [reader.section(1 << 28) for _ in range(4)]


def many_layers(count: int) -> Model:
    g = Graph(np.random.default_rng(0), [1, 1, 4]).flatten()
    for _ in range(count):
        g.linear(4).relu()
    g.linear(3)
    return Model(g.nodes, g.spec, g.params)


@pytest.mark.parametrize(
    ("layers", "steps", "what"),
    [(40, 1024, "columns, at most 4194304 can be proved"), (400, 2, "more than 65536 terms: fewer layers")],
)
def test_many_layers_and_steps_are_refused_before_they_are_laid_out(layers, steps, what):
    model = many_layers(layers)
    data = hostile_file(model, ProbeConfig(steps=steps, batch_size=1, lr=Fraction(1, 10_000)))
    with (
        mock.patch.object(circuits.language.layout, "Placement", side_effect=AssertionError),
        pytest.raises(ProofRejected, match=what) as caught,
    ):
        verify_proof(data, model, TAU)
    assert caught.value.check == "statement" and "\n" not in str(caught.value)


def test_a_graph_of_the_size_of_a_densenet_121_fits():
    """Sums where a DenseNet concatenates: every layer reads the sum of all before it in its block."""
    g = Graph(np.random.default_rng(0), [3, 32, 32]).conv(64, pad=(1, 1), bias=False)
    for i, layers in enumerate((6, 12, 24, 16)):
        if i:
            g.norm().relu().conv(64, (1, 1), bias=False).pool("avgpool2d")
        for _ in range(layers):
            total = g.last
            g.norm().relu().conv(32, (1, 1), bias=False)
            g.norm().relu().conv(64, pad=(1, 1), bias=False).add(total)
    g.norm().relu().pool("avgpool2d", (4, 4), (4, 4)).flatten().linear(10)
    certificate = Certificate(g.case(steps=5, batch=8).plan)
    layout = certificate.close(Fraction(30))
    assert len(g.nodes) == 424 and certificate.circuit.size.terms > 50_000
    assert len(certificate.sums) + len(certificate.gradient_sums) < 60
    assert sum(place.positions[0].size for place in layout.places.values()) > 100_000


def test_a_file_without_an_argument_costs_no_circuit():
    """Every section that is shorter than any model's, or than this model's parameters need, and none at all."""
    model, config = many_layers(3), ProbeConfig(steps=2, batch_size=1, lr=Fraction(1, 100))
    least = (96, *least_lengths(len(model.params)))
    assert all(a < b for a, b in zip(least_lengths(0), least_lengths(300), strict=True) if a != least[2])
    short = [b"".join(section(bytes(n - (i == j))) for j, n in enumerate(least)) for i in range(4)]
    longer_roots = b"".join(section(bytes(n + (j == 0))) for j, n in enumerate(least))
    with mock.patch.object(verifier.verify, "certificate", side_effect=AssertionError) as built:
        for argument in (b"", bytes(1 << 20), *short, longer_roots):
            with pytest.raises(MalformedProof) as caught:
                verify_proof(hostile_file(model, config, argument=argument), model, TAU)
            assert "\n" not in str(caught.value)
        assert not built.called
        with pytest.raises(AssertionError):
            verify_proof(hostile_file(model, config), model, TAU)


def test_no_argument_is_shorter_than_the_least():
    proved = certified()
    lengths = [len(part) for part in sections_of(ProofFile.parse(proved.proved.data).argument)]
    assert all(a <= b for a, b in zip((64, *least_lengths(len(proved.model.params))), lengths, strict=True))
    assert U22.size in Certificate(tiny_cnn().plan).close(Fraction(30)).tables
    openings = [matrix_code.__wrapped__(round(U22.size * 1.03**i)).opening_bytes for i in range(300)]
    assert min(openings) >= least_lengths(0)[1] > 0.8 * min(openings)


@pytest.mark.parametrize("case", [tiny_cnn, normalised, lambda: fan(4, 5)])
def test_each_parameter_sends_what_the_least_counts(case):
    plan = case().plan
    count = len(plan.weights)
    circuit = Certificate(plan).circuit
    pairs = [
        len({a.primitive[1] for _, e in con.members for a, _ in e.products})
        for con in circuit.constraints
        if con.name.startswith(("squares/", "perturbation/"))
    ]
    assert len(pairs) == 2 * count and sum(pairs) == 5 * count  # squares of two limbs, q of three


def test_nothing_large_is_made_for_a_circuit_that_is_only_built():
    """No index table, no matrix of the sample hash, no quantised weight: a short argument is refused before."""
    model = tiny_cnn().model
    data = hostile_file(model, ProbeConfig(steps=2, batch_size=1, lr=Fraction(1, 100)))
    made = AssertionError("made")
    with (
        mock.patch.object(Model, "quantized", side_effect=made),
        mock.patch.object(Windows, "_reads", side_effect=made),
        mock.patch.object(Windows, "_pairs", side_effect=made),
        mock.patch.object(sis, "columns", side_effect=made),
        pytest.raises(MalformedProof, match=r"messages: [0-9]+ bytes, [0-9]+ wanted"),
    ):
        verify_proof(data, model, TAU)


def test_what_branches_cost_grows_with_their_number_and_not_with_that_of_their_readers():
    """A fan of k branches read by k layers costs terms, tensors and messages in proportion to k."""

    def counts(k: int) -> np.ndarray:
        circuit = Certificate(fan(k, k).plan).circuit
        views = {v for con in circuit.constraints for form in forms_of(con) for v, _, _ in form.terms}
        return np.array([circuit.size.terms, len(circuit.tensors), len(views)])

    def forms_of(con):
        return [form for _, e in con.members for form in (e.linear, *(f for pair in e.products for f in pair))]

    small, twice, four_times = counts(16), counts(32), counts(64)
    assert np.all(four_times - twice <= 2.05 * (twice - small))


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"MAX_STEPS": 1}, "at most 1 steps"),
        ({"MAX_SAMPLES": 5}, "and 5 samples in all"),
        ({"MAX_INPUT": 2 * 7 * 8 - 1}, "too large to prove"),
        ({"MAX_CHANNELS": 1}, "too many channels"),
        ({"MAX_DENSE": 2 * (2 * 5 * 6 + 1) - 1}, "too many channels"),
        ({"MAX_NORM_CHANNELS": 2}, "3 channels of batch-norms, at most 2"),
    ],
)
def test_what_is_known_beforehand_is_refused_before_anything_is_declared(changes, what):
    g = Graph(np.random.default_rng(0), [2, 5, 6], pad=1).conv(3).norm().flatten().linear(3)
    plan = g.case().plan
    (name,) = changes
    Certificate(plan)
    with mock.patch.object(circuits.limits, name, changes[name] + 1):
        Certificate(plan)
    with (
        mock.patch.object(circuits.limits, name, changes[name]),
        mock.patch.object(circuits.compile, "Net", side_effect=AssertionError),
        pytest.raises(UnusableInput, match=what),
    ):
        Certificate(plan)


@pytest.mark.parametrize(
    ("module", "limit", "what"),
    [
        (circuits.language.constraints, "MAX_TERMS", "terms"),
        (circuits.language.layout, "MAX_PIECES", "blocks of digits"),
        (circuits.net, "MAX_TABLES", "entries"),
    ],
)
def test_counts_are_refused_as_soon_as_they_are_above_their_limits(module, limit, what):
    plan = tiny_cnn().plan
    certificate = Certificate(plan)
    layout = certificate.close(Fraction(30))
    pieces = sum(len(place.blocks) * len(t.digits) for t, place in layout.places.items())
    count = {
        "MAX_TERMS": certificate.circuit.size.terms,
        "MAX_PIECES": pieces,
        "MAX_TABLES": certificate.net.table_entries,
    }[limit]
    terms = [
        len(form.terms)
        for con in layout.circuit.constraints
        for _, e in con.members
        for form in (e.linear, *(f for pair in e.products for f in pair))
    ]
    assert limit != "MAX_TERMS" or count == sum(terms)
    with mock.patch.object(module, limit, count):
        Certificate(plan).close(Fraction(30))
    with (
        mock.patch.object(module, limit, count - 1),
        pytest.raises(UnusableInput, match=rf"more than {count - 1} {what}"),
    ):
        Certificate(plan).close(Fraction(30))


@pytest.mark.parametrize(
    ("module", "limit", "what"),
    [
        (circuits.language.layout, "MAX_COLUMNS", "columns"),
        (circuits.limits, "MAX_WEIGHTS", "weights of columns"),
        (circuits.limits, "MAX_MESSAGES", "messages"),
    ],
)
def test_each_limit_is_that_of_the_count_it_names(module, limit, what):
    proved = certified()
    hashes = ProofFile.parse(proved.proved.data).hashes
    plan = plan_of(proved.statement, tiny_model(), hashes)
    layout = Certificate(plan).close(Fraction(30))
    columns = sum(p.size for place in layout.places.values() for p in place.positions)
    code = layout.code
    singles, triples = circuits.limits.message_counts(layout, code.variables)
    count = {"MAX_COLUMNS": columns, "MAX_WEIGHTS": column_weights(layout), "MAX_MESSAGES": singles + 2 * triples}[
        limit
    ]
    with mock.patch.object(module, limit, count):
        Certificate(plan).close(Fraction(30))
    with (
        mock.patch.object(module, limit, count - 1),
        pytest.raises(UnusableInput, match=rf"^{count} {what}, at most {count - 1}"),
    ):
        Certificate(plan).close(Fraction(30))


def test_column_weights_are_those_of_the_claims():
    found = {}

    def weight_at(layout, claims, *rest):
        named = {con.name for con in layout.circuit.constraints}
        terms = [term for claim in claims if claim.name in named for term in claim.functional.terms]
        found["weights"] = sum(p.size for term in terms for p in layout.places[term.tensor].positions)
        found["claims"] = sum(claim.name in named for claim in claims)
        found["counted"] = column_weights(layout)
        found["operands"] = sum(len(operands(con)) for con in layout.circuit.constraints)
        return original(layout, claims, *rest)

    original = circuits.argument.batching.weight_at
    proved = certified()
    with mock.patch.object(circuits.argument.batching, "weight_at", weight_at):
        verify_proof(proved.proved.data, proved.model, TAU)
    assert found["counted"] == found["weights"] > 1000
    assert found["operands"] == found["claims"]


@pytest.mark.parametrize("part", [1, 2, 3])
@pytest.mark.parametrize("change", ["cut", "lengthened"])
def test_sections_of_another_length_are_refused_before_anything_is_computed(part, change):
    proved = certified()
    file = ProofFile.parse(proved.proved.data)
    sections = sections_of(file.argument)
    # more than the Merkle siblings; lengthened sections with siblings cost what reading them costs
    sections[part] = sections[part][: len(sections[part]) // 2] if change == "cut" else sections[part] + bytes(16)
    argument = b"".join(map(section, sections))
    data = ProofFile(file.header, file.hashes, file.multiproof, argument).to_bytes()
    computed = mock.Mock(side_effect=verifier.argument.run)
    with mock.patch.object(verifier.argument, "run", computed), pytest.raises((MalformedProof, ProofRejected)):
        verify_proof(data, proved.model, TAU)
    assert computed.called == (change == "lengthened" and part > 1)


@pytest.mark.parametrize("other", ["longer", "shorter"])
def test_a_table_that_is_read_over_other_positions_as_well_is_refused(other):
    """Of an embedding of three tokens, and an unembedding of four positions or two."""
    g = Graph(np.random.default_rng(1), [1, 1, 3]).embedding(5, 4)
    g = g.prepend() if other == "longer" else g.conv(4, (1, 2))
    g.unembedding().conv(5, (1, 2), pad=(0, int(other == "shorter")))
    with pytest.raises(UnusableInput, match="reads another number of positions"):
        Certificate(g.case().plan)


def test_positions_that_attend_to_each_other_are_counted_before_they_are_listed():
    g = Graph(np.random.default_rng(1), [1, 1, 3]).embedding(5, 4).conv(6, (1, 1)).attention(1, True)
    plan = g.conv(5, (1, 1)).case().plan
    with mock.patch.object(circuits.net, "MAX_TABLES", 3 + 2 * 9 + 6 + 3):
        Certificate(plan)
    with (
        mock.patch.object(circuits.net, "MAX_TABLES", 3 + 2 * 9 + 5),
        mock.patch.object(Pairs, "listed", property(mock.Mock(side_effect=AssertionError))),
        pytest.raises(UnusableInput, match="attention of 3 positions"),
    ):
        Certificate(plan)


def test_divisors_of_updates_go_up_to_a_limit():
    """Batch size / lr times positions: the default configuration with the longest window that attends, and beyond."""
    g = Graph(np.random.default_rng(1), [1, 1, 1024]).embedding(5, 4).group_norm(1, each=True).conv(5, (1, 1))
    assert DEFAULT.divisor * 1024 > 1 << WHOLE_DIVISOR_BITS
    Certificate(g.case(batch=DEFAULT.batch_size, divisor=DEFAULT.divisor).plan)
    Certificate(g.case(batch=1, divisor=1 << 20).plan)
    for divisor, product in (((1 << 20) + 1, 1073742848), (1 << 21, 1 << 31)):
        says = f"lr, times the positions of a sample, is {product}, .* take a larger lr, batch size / 2\\^k, that"
        with pytest.raises(UnusableInput, match=says):
            Certificate(g.case(batch=1, divisor=divisor).plan)


def test_many_heads_cost_no_more_than_their_channels():
    """A table with a row for each head is weighed at once, and as it would be row by row."""
    rng = np.random.default_rng(2)
    one, other = (rng.integers(0, P, (2, n), np.uint64) for n in (40, 3))
    gather = Gather("h", "d", heads_of(40, 3, 7), 200)
    with mock.patch.object(circuits.language.sources, "FEW", 0):
        by_row = gather.vector({"h": one, "d": other})
    with mock.patch.object(circuits.language.sources.ff, "f_add", side_effect=AssertionError):
        assert np.array_equal(gather.vector({"h": one, "d": other}), by_row)
