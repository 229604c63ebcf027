"""Sequences and tokens: both implementations build the same circuits, and a language model's proof is accepted."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from benchmarks import vectors
from circuits.listing import lines
from circuits.segments import rows_of_decay
from circuits.statement import certificate
from tests.builders import Case, language, patches
from tests.channels import attended
from tests.independent.__main__ import differences
from tests.independent.circuit import Builder
from tests.independent.files import Model as Again
from tests.independent.files import read_model
from tests.independent.functions import decay
from tests.independent.language import lay_out, listing
from tests.independent.statement import parse_header
from tests.independent.verify import read_folder, verify
from tests.sequences import random_sequence
from zkcert.public.root import DatasetRoot, Schema
from zkcert.public.statement import Statement

OWN, ALL = 10, 0  # the specification's residue cost, and one under which every contraction is a congruence

LONG = language(length=16, divisor=1 << 22, batch=1)  # the divisor of an update is 2^26, which is split


def read_again(case: Case, place: Path) -> Again:
    case.model.save(place / "model.pt")
    return read_model("model.pt", (place / "model.pt").read_bytes())


def assert_same_circuit(case: Case, place: Path, cost: int = OWN) -> str:
    """The listing."""
    plan = case.plan
    root = DatasetRoot(bytes(32), 1000, Schema(case.model.classes, plan.kind, tuple(plan.input["shape"])))
    statement = Statement.of(case.model, root, case.config, Fraction(3))
    hashes = np.zeros((plan.steps * plan.batch, 160), np.uint64)
    layout = certificate(statement, case.model, hashes, cost).close(statement.tau)
    built = Builder(parse_header(statement.header()), read_again(case, place), cost).c
    ours = "".join(f"{line}\n" for line in lines(layout))
    assert listing(built, lay_out(built)).decode() == ours
    return ours


@pytest.mark.parametrize(
    "case",
    [language(), language(tied=False, causal=False), language(divisor=1 << 22, batch=3), LONG, patches(), attended()],
)
@pytest.mark.parametrize("cost", [OWN, ALL])
def test_both_build_the_same_circuit_of_sequences(case, cost, tmp_path):
    text = assert_same_circuit(case, tmp_path, cost)
    assert ("\ncongruence " in text) == (cost == ALL)


@pytest.mark.parametrize("seed", range(16))
def test_both_build_the_same_circuit_of_random_sequences(seed, tmp_path):
    assert_same_circuit(random_sequence(seed), tmp_path, (OWN, ALL)[seed % 2])


def test_both_make_the_same_table_of_exponentials():
    assert np.array_equal(decay(), rows_of_decay())


@pytest.mark.slow
def test_a_proof_of_a_language_model_without_shared_weights_is_accepted(tmp_path):
    """In which every position attends to all."""
    graph = language(tied=False, causal=False).model.graph
    shapes = {name: array.shape for name, array in language(tied=False, causal=False).model.params.items()}
    nodes = [{**node, "shape": shapes[node["weight"]]} if "weight" in node else node for node in graph]
    case = vectors.Case(nodes, (1, 1, 3), classes=5, kind="tokens")
    with mock.patch.dict(vectors.CASES, {"untied": case}):
        vectors.write_case("untied", tmp_path / "untied")
    found = verify(read_folder(tmp_path / "untied"))
    assert found.listing == (tmp_path / "untied" / "circuit.txt").read_bytes()
    assert not differences(found.values, json.loads((tmp_path / "untied" / "values.json").read_text()))
