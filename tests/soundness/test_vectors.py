"""The specification's test vectors are accepted, and what is stored beside them is what is computed today."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from blake3 import blake3

from benchmarks.vectors import CASES, PLACE, derived, write_case
from circuits.language.layout import axis_blocks
from circuits.language.wide import Limbs
from circuits.layers import LAYERS
from circuits.windows import Windows
from verifier.__main__ import verify_files
from zkcert.public.model import Model
from zkcert.public.statement import load_announcement

STORED = sorted(path.name for path in PLACE.iterdir() if path.is_dir())


def model_path(name: str) -> Path:
    (path,) = (PLACE / name).glob("model.*")
    return path


def test_there_is_a_vector_of_every_layer_type_and_kind_of_probe():
    assert sorted(CASES) == STORED
    ops = {node["op"] for name in STORED for node in Model.load(model_path(name)).graph}
    assert ops == set(LAYERS)
    announced = [load_announcement(PLACE / name / "announce.json") for name in STORED]
    assert {s.config.variant for s in announced} == {"sam", "asam-all", "asam-samsung"}
    assert {s.dataset.schema.kind for s in announced} == {"u8", "q32", "tokens"}
    assert any("\ncongruence " in (PLACE / name / "circuit.txt").read_text() for name in STORED)
    assert len({s.config.steps for s in announced}) > 1 and any(s.config.eps == 0 for s in announced)
    assert {CASES[name].reveal for name in STORED} == {CASES[name].beacon is None for name in STORED} == {False, True}
    assert {model_path(name).suffix for name in STORED} == {".pt", ".safetensors"}


@pytest.mark.parametrize("name", STORED)
def test_a_stored_proof_is_accepted_and_its_values_are_those_of_today(name):
    place = PLACE / name
    values = json.loads((place / "values.json").read_text())
    verdict = verify_files(
        place / "proof.bin",
        model_path(name),
        tau="20",
        data_root=place / "data.root",
        announcement=place / "announce.json",
        beacon=values["statement"]["beacon"],
        config=CASES[name].config,
    )
    assert verdict.report.statement.seed.hex() == values["statement"]["seed"]
    for file, text in derived(place).items():
        assert (place / file).read_text() == text, file
    listed = (place / "circuit.txt").read_bytes()
    assert blake3(listed).hexdigest() == values["circuit"]["listing"]


def general(label: str) -> str:
    """The label as the specification's table has it."""
    label = re.sub("/tuples$", "/digits", label)
    head, _, rest = label.partition("/")
    if rest == "tuples":
        return f"{head}/digits"
    if level := re.fullmatch(r"(rho/claims|[a-z-]+)/([0-9]+)", label):
        return f"{level[1]}/{1 if level[2] == '1' else 'l'}"
    if head == "rho" and rest not in ("digits", "table", "batch"):
        return "rho/C"
    if head == "link":
        return "link/L/" + rest.rpartition("/")[2]
    if head == "weights":
        return "weights/AXIS/PRIME"
    names = {"members": "C", "linear": "C", "round": "C", "ends": "C", "point": "AXIS", "public": "T"}
    return f"{head}/{names[head]}" if head in names else label


@pytest.mark.parametrize("name", STORED)
def test_the_table_of_the_transcript_has_every_message_in_its_order(name):
    table = re.findall(r"^\| `([^`]+)` \|", (PLACE.parent / "hash-and-transcript.md").read_text(), re.MULTILINE)
    heard = [general(line.split(" ")[1]) for line in (PLACE / name / "transcript.txt").read_text().splitlines()]
    if "weights/AXIS/PRIME" not in heard:
        at = table.index("weights/AXIS/PRIME")
        del table[at - 1 : at + 1]  # with its nonce
    if "gamma" not in heard:
        table.remove("gamma")
    assert set(heard) == set(table)

    def first(labels: list[str]) -> list[str]:  # the first layer of a tree has no rounds
        return [label for label in dict.fromkeys(labels) if not label.startswith(("tree/", "rho/"))]

    assert first(heard) == first(table)


def test_the_specification_refers_to_no_file_of_the_implementation():
    for path in PLACE.parent.glob("*.md"):
        assert not re.findall(r"[a-z_]+\.py\b|\bcircuits/|\bverifier/|\bprover/", path.read_text()), path.name


def test_the_specification_is_right_where_no_vector_shows_it():
    """Its examples in circuit-language.md."""
    assert axis_blocks(784) == [(0, 9), (512, 8), (768, 4)] and axis_blocks(31) == [(0, 5)]
    assert axis_blocks(4352) == [(0, 12), (4096, 8)]
    assert Limbs().add_const(0).parts == []
    same, other = (Windows(2, 2, (2, 2), (stride, stride), (0, 0)).reads() for stride in (1, 2))
    assert (same.index == other.index).all() and same != other


@pytest.mark.slow
@pytest.mark.parametrize("name", STORED)
def test_vectors_are_made_the_same_again(tmp_path, name):
    write_case(name, tmp_path / name)
    for path in sorted((PLACE / name).iterdir()):
        assert (tmp_path / name / path.name).read_bytes() == path.read_bytes(), path.name
