"""The verifier written from docs/spec alone accepts what is stored there, refuses changes, and agrees on circuits.

It imports nothing of the project (`test_it_shares_no_code`).
"""

from __future__ import annotations

import ast
import json
import random
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from circuits.listing import lines
from circuits.statement import certificate
from tests.independent import mutate
from tests.independent.__main__ import differences
from tests.independent.circuit import Builder
from tests.independent.errors import Reject
from tests.independent.files import read_model
from tests.independent.language import lay_out, listing
from tests.independent.statement import parse_header
from tests.independent.verify import read_folder, verify
from zkcert.public.config import ProbeConfig
from zkcert.public.model import Model
from zkcert.public.root import DatasetRoot, Schema
from zkcert.public.statement import Statement

HERE = Path(__file__).parent
VECTORS = HERE.parents[1] / "docs" / "spec" / "vectors"
NAMES = sorted(path.name for path in VECTORS.iterdir() if path.is_dir())


def test_it_shares_no_code():
    allowed = set(sys.stdlib_module_names) | {"blake3", "Crypto"}
    for path in HERE.glob("*.py"):
        if path.name.startswith("test_"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert {alias.name.partition(".")[0] for alias in node.names} <= allowed, path
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 1 or (node.level == 0 and node.module.partition(".")[0] in allowed), path


@pytest.mark.parametrize("name", NAMES)
def test_a_stored_proof_is_accepted_with_the_stored_values(name):
    place = VECTORS / name
    found = verify(read_folder(place))
    assert found.listing == (place / "circuit.txt").read_bytes()
    assert found.transcript == (place / "transcript.txt").read_text().splitlines()
    assert not differences(found.values, json.loads((place / "values.json").read_text()))


def refuse(name: str, which: slice) -> int:
    """How many of the mutations are refused, all or an assertion fails."""
    changed = list(mutate.mutations(read_folder(VECTORS / name), random.Random(1)))[which]
    for what, inputs in changed:
        with pytest.raises(Reject):
            verify(inputs)
            pytest.fail(f"accepted: {what}")
    return len(changed)


@pytest.mark.parametrize("name", NAMES)
def test_changes_are_refused(name):
    assert refuse(name, slice(None, None, 8)) == 13


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_hundred_changes_are_refused(name):
    assert refuse(name, slice(None)) == 100


# ------------------------------------------------------------------------------------------------ circuits


def conv(name: str, pad: int = 0) -> dict[str, object]:
    tensors = {"weight": f"{name}.weight", "bias": None}
    return {"op": "conv2d", "name": name, **tensors, "stride": [1, 1], "padding": [pad, pad]}


def linear(name: str) -> dict[str, object]:
    return {"op": "linear", "name": name, "weight": f"{name}.weight", "bias": f"{name}.bias"}


FLATTEN, RELU = {"op": "flatten", "name": "flatten"}, {"op": "relu", "name": "relu"}
LEAKY = {"op": "leaky_relu", "name": "leaky", "negative_slope": 0.25}
NETWORKS = {  # what no vector has: cut axes, two label bytes, many classes, a slope of zero, a rectified leaky ReLU
    "wide": ([FLATTEN, linear("a"), RELU, linear("b")], (1, 17, 17), {"a": (33, 289), "b": (10, 33)}, 4, 5),
    "classes": ([FLATTEN, linear("a")], (1, 2, 2), {"a": (300, 4)}, 2, 3),
    "channels": ([conv("c", 1), RELU, FLATTEN, linear("a")], (9, 9, 9), {"c": (17, 9, 3, 3), "a": (2, 1377)}, 2, 2),
    "leaky": ([conv("c"), LEAKY, RELU, FLATTEN, linear("a")], (2, 3, 3), {"c": (4, 2, 1, 1), "a": (3, 36)}, 3, 1),
    "zero slope": (
        [FLATTEN, linear("a"), {**LEAKY, "negative_slope": 0.0}, linear("b")],
        (1, 2, 2),
        {"a": (5, 4), "b": (3, 5)},
        2,
        2,
    ),
}


@pytest.mark.parametrize("variant", ["sam", "asam-all"])
@pytest.mark.parametrize("name", NETWORKS)
def test_both_build_the_same_circuit(name, variant, tmp_path):
    nodes, shape, sizes, steps, batch = NETWORKS[name]
    rng, params = np.random.default_rng(0), {}
    for layer, size in sizes.items():
        params[f"{layer}.weight"] = (rng.standard_normal(size) / 8).astype(np.float32)
        params[f"{layer}.bias"] = (rng.standard_normal(size[0]) / 8).astype(np.float32)
    used = {value for node in nodes for value in node.values() if isinstance(value, str)}
    spec = {"shape": list(shape), "pad": 0, "mean": [0.5] * shape[0], "std": [0.25] * shape[0]}
    model = Model(nodes, spec, {key: array for key, array in params.items() if key in used})
    model.save(tmp_path / "model.pt")
    root = DatasetRoot(bytes(32), 1000, Schema(model.classes, "u8", shape))
    config = ProbeConfig(steps=steps, batch_size=batch, variant=variant)
    statement = Statement.of(model, root, config, Fraction(3)).with_beacon(b"b")
    hashes = np.zeros((steps * batch, 160), np.uint64)
    ours = "".join(f"{line}\n" for line in lines(certificate(statement, model, hashes).close(statement.tau)))
    built = Builder(parse_header(statement.header()), read_model("model.pt", (tmp_path / "model.pt").read_bytes())).c
    assert listing(built, lay_out(built)).decode() == ours
