"""The verifier written from docs/spec alone accepts what is stored there, refuses changes, and agrees on circuits.

It imports nothing of the project (`test_it_shares_no_code`).
"""

from __future__ import annotations

import ast
import json
import random
import sys
from dataclasses import replace
from fractions import Fraction
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from circuits.listing import lines
from circuits.segments import rows_of
from circuits.statement import certificate
from prover.commit import MatrixCommitment
from tests.activations import FUNCTIONS, clipped, curved, hard
from tests.branching import learned, products
from tests.builders import bordered, grouped, pointwise, standardised
from tests.channels import joined, shuffled
from tests.independent import mutate
from tests.independent.__main__ import differences
from tests.independent.circuit import Builder
from tests.independent.commitment import Plain, Shape, check_opening, matrix_shape, pad_shape
from tests.independent.errors import Reject
from tests.independent.field import El
from tests.independent.files import read_model, read_proof
from tests.independent.functions import rows as rows_again
from tests.independent.language import lay_out, listing
from tests.independent.statement import parse_header
from tests.independent.transcript import Transcript as Plainly
from tests.independent.verify import read_folder, verify
from tests.toys import multilinear, random_fs
from zkcert.core.code import MatrixCode, PlainCode, matrix_code, pad_code
from zkcert.core.field import F
from zkcert.core.transcript import Transcript
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


def test_the_beacon_of_a_named_round_is_the_hash_of_its_signature():
    """As the text says; that the chain has signed it is for other tools."""
    place = VECTORS / "drand"
    stored, values = json.loads((place / "round.json").read_text()), json.loads((place / "values.json").read_text())
    statement = parse_header(read_proof((place / "proof.bin").read_bytes()).header)
    assert statement.announcement["drand"] == values["statement"]["drand"]
    assert statement.announcement["drand"]["round"] == stored["round"]
    assert statement.beacon == sha256(bytes.fromhex(stored["signature"])).digest()
    assert statement.beacon.hex() == stored["randomness"] == values["statement"]["beacon"]
    assert [n for n in NAMES if "drand" in json.loads((VECTORS / n / "announce.json").read_text())] == ["drand"]


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
    steps, batch, model = network(name)
    assert_same_circuit(model, ProbeConfig(steps=steps, batch_size=batch, variant=variant), tmp_path)


@pytest.mark.parametrize(
    "given",
    [
        {"ddof": 1},
        {"statistic": "std", "rho": Fraction(7, 11)},
        {"statistic": "std", "ddof": 2, "variant": "asam-samsung"},
        {"statistic": "rms", "variant": "asam-shifted", "eta": Fraction(5, 2)},
        {"statistic": "max", "variant": "asam-samsung", "eta": Fraction(1, 3)},
    ],
    ids=lambda given: "-".join(map(str, given.values())),
)
def test_both_build_the_same_circuit_of_statistics_and_variants(given, tmp_path):
    _, batch, model = network("wide")
    assert_same_circuit(model, ProbeConfig(steps=3, batch_size=batch, **given), tmp_path)


def network(name: str) -> tuple[int, int, Model]:
    nodes, shape, sizes, steps, batch = NETWORKS[name]
    rng, params = np.random.default_rng(0), {}
    for layer, size in sizes.items():
        params[f"{layer}.weight"] = (rng.standard_normal(size) / 8).astype(np.float32)
        params[f"{layer}.bias"] = (rng.standard_normal(size[0]) / 8).astype(np.float32)
    used = {value for node in nodes for value in node.values() if isinstance(value, str)}
    spec = {"shape": list(shape), "pad": 0, "mean": [0.5] * shape[0], "std": [0.25] * shape[0]}
    return steps, batch, Model(nodes, spec, {key: array for key, array in params.items() if key in used})


@pytest.mark.parametrize(
    "make", [bordered, grouped, clipped, hard, joined, shuffled, pointwise, standardised, products, learned]
)
def test_both_build_the_same_circuit_of_what_convolutional_networks_are_made_of(make, tmp_path):
    assert_same_circuit(make().model, ProbeConfig(steps=2, batch_size=2), tmp_path)


def test_both_build_the_same_circuit_of_functions(tmp_path):
    small = ("tanh", "elu", "elu", "tanh", "elu", "gelu_tanh", "tanh")
    assert_same_circuit(curved(functions=small).model, ProbeConfig(steps=2, batch_size=2), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", FUNCTIONS)
def test_both_make_the_same_tables_of_functions(name):
    assert np.array_equal(rows_again(name), rows_of(name))


def assert_same_circuit(model: Model, config: ProbeConfig, tmp_path: Path) -> None:
    model.save(tmp_path / "model.pt")
    root = DatasetRoot(bytes(32), 1000, Schema(model.classes, "u8", tuple(model.input["shape"])))
    statement = replace(Statement.of(model, root, config, Fraction(3)), beacon=b"b")
    hashes = np.zeros((config.steps * config.batch_size, 160), np.uint64)
    ours = "".join(f"{line}\n" for line in lines(certificate(statement, model, hashes).close(statement.tau)))
    built = Builder(parse_header(statement.header()), read_model("model.pt", (tmp_path / "model.pt").read_bytes())).c
    assert listing(built, lay_out(built)).decode() == ours


# ------------------------------------------------------------------------------------------------ the opening


@pytest.mark.parametrize("later", [(), (1,), (3_000_000, 80_000_000)])
def test_shapes_are_those_of_the_text(later):
    for entries in (1, 1000, 4_700_000, 24_341_598, 110_000_000, 1_586_000_000, 11 * 10**9):
        code, shape = matrix_code(entries, *later), matrix_shape(entries, *later)
        assert (shape.k, shape.m, shape.t, shape.data_rows) == (code.row_bits, code.log_n, code.queries, code.data_rows)
        assert (shape.parts, shape.rows, shape.variables) == (code.parts, code.rows, code.variables)
        price = max(128, sum((entries, *later)) >> 21)
        levels = [(v.k, v.m, v.t, v.rows, v.rounds, v.cost) for v in shape.levels]
        assert levels == [(v.row_bits, v.log_n, v.queries, v.rows, v.rounds, v.cost(price)) for v in code.levels]
        shape_of_pads, pads = pad_shape(entries % 5000, entries % 300), pad_code(entries % 5000, entries % 300)
        assert (shape_of_pads.b, shape_of_pads.rows) == (pads.block_bits, pads.rows)


@pytest.mark.parametrize("parts", [(3,), (2, 5), (4, 1, 1)])
@pytest.mark.parametrize("levels", [((1, 4, 3),), ((3, 6, 5), (2, 4, 3), (1, 3, 2))])
def test_an_opening_of_several_parts_and_levels_is_accepted(parts, levels):
    """By the verifier that follows the text; and refused with a bit of any part changed."""
    plain: PlainCode | None = None
    below: Plain | None = None
    for i, (bits, log_n, t) in reversed(list(enumerate(levels))):
        count, above = (2, levels[i - 1][0]) if i else (3, 4)
        plain = PlainCode(bits, count << above - bits, log_n, t, plain)
        below = Plain(count, above, bits, log_n, t, plain.rows, 0, below)
    code = MatrixCode(4, parts, 6, 4, plain)
    shape = Shape(4, 6, 4, parts, code.parts, below)
    rng, matrix = np.random.default_rng(sum(parts)), MatrixCommitment(code)
    for rows in parts:
        matrix.commit(rng.integers(-(1 << 21), 1 << 22, 32 * rows - 3).astype(np.int32), bytes(32))
    z = random_fs(rng, code.variables)
    full = np.zeros((code.rows, code.width, 2), object)
    for part, start in zip(matrix.parts, code.starts, strict=True):
        full[start:].reshape(-1)[: len(part.x)] = part.x.tolist()
    full[code.mask_row :] = np.moveaxis(matrix.masks, 0, -1).astype(object)
    value = multilinear([F(int(v)) for v in full.ravel()], z)
    opening, roots = matrix.open(Transcript("zkcert-5"), z), [part.root for part in matrix.parts]
    point = [El(c.re, c.im) for c in z]
    found = check_opening(Plainly(), opening, roots, shape, point, El(value.re, value.im))
    assert [len(queries) for queries in found] == [4, *(t for _, _, t in levels)]
    for at in (rng.integers(40, len(opening), 12) // 8 * 8).tolist():
        changed = opening[:at] + bytes([opening[at] ^ 1]) + opening[at + 1 :]
        with pytest.raises(Reject):
            check_opening(Plainly(), changed, roots, shape, point, El(value.re, value.im))
