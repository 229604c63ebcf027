"""Congruences: both implementations build the same circuits, and a proof that is full of them is accepted by both."""

from __future__ import annotations

import json
import random
from contextlib import ExitStack
from fractions import Fraction
from functools import partial
from unittest import mock

import numpy as np
import pytest

from benchmarks import vectors
from circuits import limits
from circuits.argument.protocol import message_counts
from circuits.listing import lines
from circuits.statement import certificate
from prover import prove
from tests.builders import Graph
from tests.independent import mutate
from tests.independent.__main__ import differences
from tests.independent.argument import column_weights, counts
from tests.independent.circuit import Builder
from tests.independent.commitment import pad_shape
from tests.independent.errors import Reject
from tests.independent.files import read_model
from tests.independent.language import lay_out, listing
from tests.independent.soundness import terms
from tests.independent.statement import parse_header
from tests.independent.verify import read_folder, verify
from verifier.soundness import soundness
from zkcert.public.config import ProbeConfig
from zkcert.public.model import Model
from zkcert.public.root import DatasetRoot, Schema
from zkcert.public.statement import Statement

OWN, ALL = 10, 0  # the specification's residue cost, and one under which every contraction is a congruence
LR = {"odd": Fraction(1, 37), "even": Fraction(1, 4000), "few": Fraction(1)}


def image(seed: int, *shape: int, pad: int = 0) -> Graph:
    return Graph(np.random.default_rng(seed), shape, pad)


def strided() -> Graph:
    g = image(1, 2, 5, 6, pad=1).conv(3, (3, 2), (2, 1), (1, 0)).relu()
    return g.conv(4, (2, 3), (1, 2), (1, 1), bias=False).relu().flatten().linear(3)


def branches() -> Graph:
    g = image(2, 2, 4, 4).norm().conv(2, pad=(1, 1)).add("@input").relu()
    stem = g.last
    g.conv(2, pad=(1, 1), bias=False).norm().add(stem).relu()
    return g.conv(3, (1, 1)).add(g.last).pool("avgpool2d").flatten().linear(4).leaky_relu().linear(3)


def ties() -> Graph:
    """Axes of one size, so that several orders have as few residues."""
    g = image(4, 9, 3, 3).conv(9, (3, 3), (1, 1), (1, 1)).relu().conv(9, (3, 3), (1, 1), (1, 1), bias=False)
    return g.relu().flatten().linear(9)


def vector() -> Graph:
    g, model = image(0, 1, 18, 18), vectors.model_of("congruence")
    g.nodes, g.params = list(model.graph), dict(model.params)
    return g


def many_positions() -> Graph:
    """So many that the bounds of the forward congruence's combinations are too large."""
    g = image(3, 2, 150, 150).conv(2, (1, 1)).add("@input").relu()
    return g.pool("avgpool2d", (10, 10), (10, 10)).flatten().linear(2)


CONGRUENCES = {  # network, residue cost, options of the probe, congruences
    "strided": (strided, ALL, {"steps": 3, "batch_size": 2, "variant": "sam", "lr": LR["odd"]}, 16),
    "strided-even": (strided, ALL, {"steps": 2, "batch_size": 3, "lr": LR["even"]}, 16),
    "branches": (branches, ALL, {"steps": 5, "batch_size": 1, "lr": LR["even"]}, 33),
    "ties": (ties, ALL, {"steps": 2, "batch_size": 9, "lr": LR["few"]}, 16),
    "vector": (vector, OWN, {"steps": 9, "batch_size": 1, "lr": LR["odd"]}, 6),
    "vector-linear": (vector, ALL, {"steps": 4, "batch_size": 1, "lr": LR["few"]}, 22),
    "many-positions": (many_positions, ALL, {"steps": 2, "batch_size": 1}, 10),
}


@pytest.mark.parametrize("name", CONGRUENCES)
def test_both_build_the_same_congruences_and_count_alike(name, tmp_path):
    graph, cost, options, congruences = CONGRUENCES[name]
    g, config = graph(), ProbeConfig(**options)
    model = Model(g.nodes, g.spec, g.params)
    model.save(tmp_path / "model.pt")
    root = DatasetRoot(bytes(32), 1000, Schema(model.classes, "u8", tuple(g.spec["shape"])))
    statement = Statement.of(model, root, config, Fraction(3))
    hashes = np.zeros((config.steps * config.batch_size, 160), np.uint64)
    layout = certificate(statement, model, hashes, cost).close(statement.tau)
    read = read_model("model.pt", (tmp_path / "model.pt").read_bytes())
    built = Builder(parse_header(statement.header()), read, cost).c
    mine = lay_out(built)
    assert listing(built, mine).decode() == "".join(f"{line}\n" for line in lines(layout))
    assert sum(c.congruence for c in built.constraints) == congruences
    sent = counts(built, mine, mine.shape.variables)
    assert (sent.singles, sent.triples) == message_counts(layout, layout.code.variables)
    assert column_weights(built) == limits.column_weights(layout)
    table = terms(built, mine, mine.shape, pad_shape(sent.singles, sent.triples), sent)
    theirs = {term.name: (pytest.approx(term.error, abs=1e-9), term.grind) for term in soundness(layout).terms}
    assert table == theirs and list(table) == list(theirs)


@pytest.mark.slow
def test_a_proof_in_which_every_contraction_is_a_congruence_is_accepted(tmp_path):
    case = vectors.Case(
        [
            vectors.conv("a", (3, 2, 3, 2), (2, 1), (1, 0), bias=True),
            vectors.RELU,
            vectors.conv("b", (4, 3, 2, 3), (1, 2), (1, 1)),
            vectors.FLATTEN,
            vectors.linear("fc", 3, 80),
        ],
        (2, 5, 6),
        pad=1,
        kind="q32",
        config=ProbeConfig(steps=3, batch_size=3, variant="sam", lr=Fraction(3, 4000)),
    )
    with ExitStack() as stack:
        stack.enter_context(mock.patch.dict(vectors.CASES, {"all": case}))
        for module, name in ((prove, "prove_statement"), (vectors, "verify_proof"), (vectors, "certificate")):
            wanted = partial(getattr(module, name), residue_cost=ALL)
            stack.enter_context(mock.patch.object(module, name, wanted))
        vectors.write_case("all", tmp_path / "all")
    inputs = read_folder(tmp_path / "all")
    found = verify(inputs, ALL)
    assert found.listing == (tmp_path / "all" / "circuit.txt").read_bytes()
    assert found.transcript == (tmp_path / "all" / "transcript.txt").read_text().splitlines()
    assert not differences(found.values, json.loads((tmp_path / "all" / "values.json").read_text()))
    with pytest.raises(Reject):
        verify(inputs)  # under the specification's constant it is another circuit
    for what, changed in list(mutate.mutations(inputs, random.Random(1)))[::8]:
        with pytest.raises(Reject):
            verify(changed, ALL)
            pytest.fail(f"accepted: {what}")
