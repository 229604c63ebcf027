"""Other statements and hostile headers are rejected."""

from __future__ import annotations

import copy
import json
import tracemalloc
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from tests.soundness.fields import (
    ARGUMENT,
    CHAIN,
    OPEN,
    check_of,
    join,
    judge,
    split_argument,
)
from tests.toys import (
    certified,
    light_grinding,
    prove_toy,
    tiny_dataset,
    tiny_model,
    toy_layout,
    toy_proof,
    toy_transcript,
    toy_witness,
    verify_toy,
)
from verifier.argument import verify_circuit
from verifier.verify import Expectations, verify_proof
from zkcert.core.container import HEADER_LIMIT, ProofFile
from zkcert.public.config import canonical_json
from zkcert.public.statement import Statement

# Every entry of the header, another value of the same kind, and what a verifier without expectations says.
HEADER = {
    ("beacon",): ("00ff", "dataset"),
    ("circuit",): ("00" * 32, "model"),
    ("config", "batch_size"): (2, "malformed"),
    ("config", "ddof"): (1, "dataset"),
    ("config", "eps"): ("1/1000", "dataset"),
    ("config", "lr"): ("1/81", "dataset"),
    ("config", "rho"): ("1/21", "dataset"),
    ("config", "steps"): (3, "malformed"),
    ("config", "variant"): ("sam", "dataset"),
    ("dataset", "N"): (41, "dataset"),
    ("dataset", "root"): ("11" * 32, "dataset"),
    ("dataset", "schema", "classes"): (5, "statement"),
    ("dataset", "schema", "kind"): ("q32", "dataset"),
    ("dataset", "schema", "label_bytes"): (2, "malformed"),
    ("dataset", "schema", "shape"): ([1, 4, 3], "statement"),
    ("format",): ("zkcert-announcement-2", "malformed"),
    ("tau",): ("29", "proof-of-work"),
    ("variance",): ("5", "proof-of-work"),
    ("weights",): ("22" * 32, "model"),
}


def paths(value, at=()):
    """The paths of all leaves of a JSON object."""
    if isinstance(value, dict):
        return [p for k, v in value.items() for p in paths(v, (*at, k))]
    return [at]


def with_entry(path, value):
    """The certificate with one entry of its header changed."""
    file = ProofFile.parse(certified().proved.data)
    content = json.loads(file.header)
    at = content
    for key in path[:-1]:
        at = at[key]
    assert at[path[-1]] != value
    at[path[-1]] = value
    return replace(file, header=canonical_json(content).encode()).to_bytes()


def test_every_entry_of_the_header_is_listed():
    assert set(paths(json.loads(certified().statement.header()))) == set(HEADER)


@pytest.mark.parametrize("path", HEADER, ids="-".join)
def test_a_changed_entry_of_the_header_is_rejected(path):
    value, check = HEADER[path]
    assert judge(with_entry(path, value)) == check


def test_expectations_are_compared_with_the_statement():
    c = certified()
    data, statement = c.proved.data, c.statement
    exact = Expectations(statement.tau, c.dataset.root.root, statement.announcement_digest, statement.beacon)
    assert verify_proof(data, c.model, exact).statement == statement
    assert judge(data, expected=replace(exact, tau=statement.tau - Fraction(1, 1 << 40))) == "tau"
    assert judge(data, expected=replace(exact, root=bytes(32))) == "data-root"
    assert judge(data, expected=replace(exact, announcement=bytes(32))) == "announcement"
    for beacon in (b"", b"another beacon", statement.beacon + b"\0"):
        assert judge(data, expected=replace(exact, beacon=beacon)) == "beacon"


def test_another_model_is_rejected():
    model = certified().model
    params = {k: v.copy() for k, v in model.params.items()}
    weights = next(iter(params.values()))
    weights.flat[0] = np.nextafter(weights.flat[0], np.float32(1))
    assert judge(certified().proved.data, replace(model, params=params)) == "model"
    assert judge(certified().proved.data, tiny_model(1)) == "model"
    spec = {**model.input, "std": [0.5]}
    assert judge(certified().proved.data, replace(model, input=spec)) == "model"


@pytest.mark.parametrize("part", ["header", "argument"])
def test_sections_of_another_statements_proof_are_rejected(part):
    """The same model, data and samples; the second statement reveals its score."""
    a, b = (ProofFile.parse(c.proved.data) for c in (certified(), certified(reveal_score=True)))
    verify_proof(b.to_bytes(), certified().model, OPEN)
    assert np.array_equal(a.hashes, b.hashes) and a.multiproof == b.multiproof
    mixed = replace(a, **{part: getattr(b, part)})
    assert judge(mixed.to_bytes()) in CHAIN


def test_hashes_of_another_dataset_are_rejected():
    file = ProofFile.parse(certified().proved.data)
    other = tiny_dataset(1)
    indices = certified().statement.indices()
    changed = replace(file, hashes=other.sample_hashes(indices), multiproof=other.multiproof(indices))
    assert judge(changed.to_bytes()) == "dataset"
    assert other.root != certified().dataset.root


@pytest.mark.parametrize("which", range(4), ids=ARGUMENT)
@pytest.mark.parametrize("witness", [0, 1], ids=["same witness", "another witness"])
def test_sections_of_another_proof_of_the_same_statement_are_rejected(which, witness):
    parts, other = split_argument(toy_proof()), split_argument(prove_toy(toy_witness(witness)))
    verify_toy(join(other))
    parts[which] = other[which]
    assert check_of(verify_toy, join(parts)) in CHAIN | {"pads/merkle", "hidden-equations", "malformed"}


def test_an_argument_replayed_under_another_transcript_is_rejected():
    t = toy_transcript()
    t.absorb("more", b"")
    with light_grinding():
        assert check_of(verify_circuit, toy_layout(), t, toy_proof()) in CHAIN


def edits():
    """Headers that are wrong in one entry, by name."""
    content = json.loads(certified().statement.header())
    values = [
        None,
        True,
        False,
        -1,
        0,
        1.5,
        1e308,
        1 << 70,
        10**3000,
        "",
        "x",
        "-1",
        "\u00b2",
        "\ud800",
        [],
        {},
        [[]] * 50,
    ]
    for path in paths(content):
        for i, value in enumerate(values):
            changed = copy.deepcopy(content)
            at = changed
            for key in path[:-1]:
                at = at[key]
            if at[path[-1]] == value and type(at[path[-1]]) is type(value):
                continue
            at[path[-1]] = value
            yield f"{'-'.join(path)} {i}", json.dumps(changed, sort_keys=True, separators=(",", ":")).encode()
    for path in paths(content):
        changed = copy.deepcopy(content)
        at = changed
        for key in path[:-1]:
            at = at[key]
        del at[path[-1]]
        yield f"without {'-'.join(path)}", canonical_json(changed).encode()


RAW = {
    "empty": b"",
    "null": b"null",
    "number": b"1e999",
    "text": b'"text"',
    "list": b"[]",
    "object": b"{}",
    "deep lists": b"[" * 60_000,
    "deep objects": b'{"config":' * 6000 + b"1" + b"}" * 6000,
    "not utf-8": b"\xff\xfe{}",
    "nul": b"\0" * 100,
    "NaN": b'{"tau":NaN}',
    "huge integer": b'{"tau":' + b"9" * 60_000 + b"}",
    "bom": b"\xef\xbb\xbf{}",
}


def judge_header(header):
    """How the verifier judges a certificate with this header and an empty argument."""
    file = ProofFile.parse(certified().proved.data)
    return judge(replace(file, header=header, argument=b"").to_bytes())


@pytest.mark.parametrize("name", RAW)
def test_headers_that_are_no_statement_are_malformed(name):
    assert judge_header(RAW[name]) == "malformed"


def test_headers_with_an_impossible_entry_are_rejected_without_effort():
    certified()
    tracemalloc.start()
    try:
        for name, header in edits():
            assert judge_header(header) in {"malformed", "statement", "model", "tau", "dataset"}, name
        assert tracemalloc.get_traced_memory()[1] < 1 << 26
    finally:
        tracemalloc.stop()


def test_headers_that_are_not_canonical_are_malformed():
    header = certified().statement.header()
    content = json.loads(header)
    text = header.decode()
    for changed in (
        header + b" ",
        b" " + header,
        json.dumps(content).encode(),
        json.dumps({**content, "extra": 1}, sort_keys=True, separators=(",", ":")).encode(),
        canonical_json(dict(content, tau="60/2")).encode(),
        canonical_json(dict(content, tau="30.0")).encode(),
        canonical_json(dict(content, tau=30)).encode(),
        canonical_json(dict(content, beacon=content["beacon"].upper())).encode(),
        canonical_json(dict(content, beacon="0x" + content["beacon"])).encode(),
        canonical_json(dict(content, circuit=content["circuit"].upper())).encode(),
        canonical_json(dict(content, weights=" " + content["weights"])).encode(),
        text.replace('"tau":"30"', '"tau":"30","tau":"30"').encode(),
        text.replace('"tau"', '"\\u0074au"').encode(),
    ):
        assert judge_header(changed) == "malformed"


def test_a_header_beyond_its_limit_is_malformed():
    assert judge_header(b" " * (HEADER_LIMIT + 1)) == "malformed"


@pytest.mark.parametrize(("steps", "batch"), [(65536, 65536), (65536, 1), (1 << 16, 3), (2, 65536), (7, 1)])
def test_more_samples_than_hashes_are_malformed_at_once(steps, batch):
    file = ProofFile.parse(certified().proved.data)
    content = json.loads(file.header)
    content["config"] |= {"steps": steps, "batch_size": batch, "lr": str(Fraction(batch, 80))}
    content["dataset"]["N"] = (1 << 40) - 1
    assert judge_header(canonical_json(content).encode()) == "malformed"


@pytest.mark.parametrize("n", [1, 5, 6, 1 << 20, (1 << 40) - 1])
def test_another_dataset_size_is_rejected(n):
    file = ProofFile.parse(certified().proved.data)
    content = json.loads(file.header)
    content["dataset"]["N"] = n
    changed = replace(file, header=canonical_json(content).encode()).to_bytes()
    assert judge(changed) in {"dataset", "statement"}


def test_a_parsed_header_is_the_statement_it_came_from():
    statement = certified().statement
    assert Statement.parse_header(statement.header()) == statement
