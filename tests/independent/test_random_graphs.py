"""Both implementations build, or refuse, the same circuits of networks of any layers in any order."""

from __future__ import annotations

from fractions import Fraction
from itertools import count

import numpy as np
import pytest

from circuits import limits
from circuits.argument.protocol import message_counts
from circuits.layers import LAYERS
from circuits.listing import lines
from circuits.segments import rows_of
from circuits.statement import certificate
from tests.independent import circuit
from tests.independent.argument import column_weights, counts
from tests.independent.circuit import Builder
from tests.independent.commitment import pad_shape
from tests.independent.errors import Reject
from tests.independent.files import read_model
from tests.independent.language import lay_out, listing, term_count
from tests.independent.soundness import terms
from tests.independent.statement import parse_header
from tests.random_graphs import random_network
from verifier.soundness import soundness
from zkcert.errors import UnusableInput
from zkcert.public.config import ProbeConfig
from zkcert.public.model import Model
from zkcert.public.root import DatasetRoot, Schema
from zkcert.public.statement import Statement


@pytest.fixture(autouse=True)
def known_tables(monkeypatch):
    """Tables of functions are compared elsewhere."""
    monkeypatch.setattr(circuit, "function_rows", lambda name: tuple(map(tuple, rows_of(name).tolist())))


def compare(seed: int, folder) -> bool:
    """Whether both build the circuit, the same one with the same numbers; or neither does."""
    rng, g = np.random.default_rng([seed, 22]), random_network(seed)
    model = Model(g.nodes, g.spec, g.params)
    steps, batch = int(rng.integers(2, 4)), int(rng.integers(1, 4))
    config = ProbeConfig(steps=steps, batch_size=batch, variant=str(rng.choice(["sam", "asam-all"])))
    model.save(folder / f"{seed}.pt")
    schema = Schema(model.classes, str(rng.choice(["u8", "q32"])), tuple(g.spec["shape"]))
    statement = Statement.of(model, DatasetRoot(bytes(32), 1000, schema), config, Fraction(3))
    cost = 0 if rng.random() < 0.2 else 10
    try:
        layout = certificate(statement, model, np.zeros((steps * batch, 160), np.uint64), cost).close(statement.tau)
    except UnusableInput:
        layout = None
    try:
        read = read_model("model.pt", (folder / f"{seed}.pt").read_bytes())
        built = Builder(parse_header(statement.header()), read, cost).c
    except Reject:
        built = None
    assert (layout is None) == (built is None)
    if layout is None:
        return False
    mine = lay_out(built)
    assert listing(built, mine).decode() == "".join(f"{line}\n" for line in lines(layout))
    sent = counts(built, mine, mine.shape.variables)
    assert (sent.singles, sent.triples) == message_counts(layout, layout.code.variables)
    assert column_weights(built) == limits.column_weights(layout)
    assert term_count(built) == layout.circuit.size.terms
    table = terms(built, mine, mine.shape, pad_shape(sent.singles, sent.triples), sent)
    assert table == {t.name: (pytest.approx(t.error, abs=1e-9), t.grind) for t in soundness(layout).terms}
    return True


def test_both_build_the_same_circuits_of_random_networks(tmp_path):
    assert sum(compare(seed, tmp_path) for seed in range(8)) >= 6


@pytest.mark.slow
def test_both_build_the_same_circuits_of_many_random_networks(tmp_path):
    assert sum(compare(seed, tmp_path) for seed in range(8, 200)) >= 150


def test_every_kind_of_layer_occurs():
    seen: set[str] = set()
    for seed in count():
        seen |= {node["op"] for node in random_network(seed).nodes}
        if seen == set(LAYERS):
            return
        assert seed < 100, set(LAYERS) - seen
