"""A file that costs its sender nothing must not cost the verifier much: sizes are checked before it computes."""

from __future__ import annotations

import time
from fractions import Fraction
from unittest import mock

import numpy as np
import pytest

import circuits.batching
import circuits.layout
import circuits.limits
import verifier.argument
from circuits.compile import Certificate
from circuits.limits import column_weights, operands
from circuits.statement import plan_of
from tests.builders import Graph
from tests.toys import certified, tiny_model
from verifier.verify import Expectations, verify_proof
from zkcert.config import ProbeConfig
from zkcert.core.container import ProofFile
from zkcert.core.merkle import MerkleTree
from zkcert.core.proof import Reader, section
from zkcert.core.sis import ROWS
from zkcert.data import TREE_NAME, DatasetRoot, Schema, leaf_digests
from zkcert.errors import MalformedProof, ProofRejected, UnusableInput
from zkcert.model import Model
from zkcert.statement import Statement

TAU = Expectations(Fraction(30))


def hostile_file(model: Model, config: ProbeConfig) -> bytes:
    """A file that passes every check up to the argument, which is empty; making it takes no proof."""
    count = config.steps * config.batch_size
    hashes = np.zeros((count, ROWS), np.uint64)
    tree = MerkleTree(leaf_digests(range(count), hashes), TREE_NAME)
    schema = Schema(3, "u8", (1, 1, 4))
    statement = Statement.of(model, DatasetRoot(tree.root, count, schema), config, Fraction(30))
    return ProofFile(statement.header(), hashes, tree.multiproof(range(count)), b"").to_bytes()


def test_many_layers_and_steps_are_refused_at_once():
    g = Graph(np.random.default_rng(0), [1, 1, 4]).flatten()
    for _ in range(40):
        g.linear(4).relu()
    g.linear(3)
    model = Model(g.nodes, g.spec, g.params)
    data = hostile_file(model, ProbeConfig(steps=1024, batch_size=1, lr=Fraction(1, 10_000)))
    start = time.process_time()
    with pytest.raises(ProofRejected, match=r"columns, at most 4194304 can be proved") as caught:
        verify_proof(data, model, TAU)
    assert caught.value.check == "statement"
    assert time.process_time() - start < 20


@pytest.mark.parametrize(
    ("module", "limit", "what"),
    [
        (circuits.layout, "MAX_COLUMNS", "columns"),
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
    code = circuits.limits.matrix_code(layout.data_end)
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

    original = circuits.batching.weight_at
    proved = certified()
    with mock.patch.object(circuits.batching, "weight_at", weight_at):
        verify_proof(proved.proved.data, proved.model, TAU)
    assert found["counted"] == found["weights"] > 1000
    assert found["operands"] == found["claims"]


@pytest.mark.parametrize("part", [1, 2, 3])
@pytest.mark.parametrize("change", ["cut", "lengthened"])
def test_sections_of_another_length_are_refused_before_anything_is_computed(part, change):
    proved = certified()
    file = ProofFile.parse(proved.proved.data)
    reader = Reader(file.argument)
    sections = [reader.section(1 << 28) for _ in range(4)]
    # more than the Merkle siblings; lengthened sections with siblings cost what reading them costs
    sections[part] = sections[part][: len(sections[part]) // 2] if change == "cut" else sections[part] + bytes(16)
    argument = b"".join(map(section, sections))
    data = ProofFile(file.header, file.hashes, file.multiproof, argument).to_bytes()
    computed = mock.Mock(side_effect=verifier.argument.run)
    with mock.patch.object(verifier.argument, "run", computed), pytest.raises((MalformedProof, ProofRejected)):
        verify_proof(data, proved.model, TAU)
    assert computed.called == (change == "lengthened" and part > 1)
