"""The canonical listing says all that an argument depends on, at once and in a bounded text."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from math import prod

import numpy as np
import pytest
from blake3 import blake3

from circuits.compile import Certificate
from circuits.language.layout import Layout
from circuits.language.tensors import Digit, Range
from circuits.listing import lines, listing_digest, progressions
from tests.builders import fan, normalised, residual, tiny_cnn, tiny_mlp
from tests.toys import toy_layout

CASES = {"mlp": tiny_mlp, "cnn": tiny_cnn, "residual": residual, "normalised": normalised, "fan": lambda: fan(5, 5)}


def listed(plan, tau=Fraction(30), revealed=None):
    return list(lines(Certificate(plan).close(tau, revealed)))


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([5], "5"),
        ([5, 6], "5,6"),
        ([5, 6, 7], "5:1:3"),
        ([0, 0, 0, 0, 1], "0:0:4,1"),
        ([1, 0, 0, 0], "1,0:0:3"),
        ([0, 1, 2, 4, 6], "0:1:3,4,6"),
        ([9, 7, 5, 1], "9:-2:3,1"),
        ([-1, -1, 0, 1, 2, -1, -1], "-1,-1:1:4,-1,-1"),
    ],
)
def test_integers_are_written_in_one_way(values, text):
    assert progressions(values) == text


@pytest.mark.parametrize("name", CASES)
def test_a_circuit_is_listed_in_the_order_in_which_it_is_declared(name):
    certificate = Certificate(CASES[name]().plan)
    layout = certificate.close(Fraction(30))
    text = list(lines(layout))
    circuit = layout.circuit
    assert all(line.isascii() and line == line.strip() for line in text)
    words = [line.split(" ") for line in text]
    assert [w[2] for w in words if w[0] == "tensor"] == [t.name for t in circuit.tensors]
    assert [w[1] for w in words if w[0] == "constraint"] == [c.name for c in circuit.constraints]
    assert [w[1] for w in words if w[0] == "member"] == [label for c in circuit.constraints for label, _ in c.members]
    terms = sum(word.count("*") for w in words if w[0] in ("product", "linear") for word in w[1:])
    assert terms == circuit.size.terms
    assert len([w for w in words if w[0] == "public"]) == len(circuit.publics)
    whole = "".join(f"{line}\n" for line in text)
    assert listing_digest(layout) == blake3(whole.encode()).digest()


def test_definitions_stand_before_their_use():
    seen = set()
    for line in listed(tiny_cnn().plan):
        kind, *words = line.split(" ")
        if kind in ("view", "vector", "table"):
            assert (kind, words[0]) not in seen and int(words[0]) == sum(k == kind for k, _ in seen)
            seen.add((kind, words[0]))
        if kind in ("product", "linear"):
            assert all(("view", w.partition("*")[2].partition(".")[0]) in seen for w in words if "*" in w)


def test_whatever_changes_the_circuit_changes_the_listing():
    case = tiny_mlp()
    plan = case.plan
    slope, offset = plan.affine
    texts = {
        "honest": listed(plan),
        "revealed": listed(plan, revealed=1),
        "tau": listed(plan, tau=Fraction(29)),
        "rho": listed(replace(plan, rho=Fraction(1, 21))),
        "eps": listed(replace(plan, eps=Fraction(1, 3))),
        "divisor": listed(replace(plan, divisor=81)),
        "variant": listed(replace(plan, variant="sam")),
        "slope": listed(replace(plan, affine=([slope[0] + 1], offset))),
        "offset": listed(replace(plan, affine=(slope, [offset[0] + 1]))),
        "steps": listed(replace(plan, steps=3, hashes=np.zeros((3, 3, 160), np.uint64))),
        "batch": listed(replace(plan, batch=4, hashes=np.zeros((2, 4, 160), np.uint64))),
    }
    assert len({tuple(text) for text in texts.values()}) == len(texts)
    norms = normalised().plan
    name = next(iter(norms.constants))
    first, *rest = norms.constants[name]["factors"]
    changed = {**norms.constants[name], "factors": [first + 1, *rest]}
    other = replace(norms, constants={**norms.constants, name: changed})
    assert listed(norms) != listed(other)


def test_a_narrower_digit_and_another_block_change_the_digest():
    layout = toy_layout()
    before = listing_digest(layout)
    assert listing_digest(Layout(layout.circuit, smallest_cut=1 << 12)) != before
    tensors = list(layout.circuit.tensors)
    first = tensors[0]
    narrower = Range(first.digits[0].range.size // 2, first.digits[0].range.lo)
    object.__setattr__(first, "digits", (Digit(narrower, first.digits[0].shift), *first.digits[1:]))
    try:
        assert listing_digest(Layout(layout.circuit, smallest_cut=1)) != before
    finally:
        object.__setattr__(first, "digits", (Digit(Range(2 * narrower.size, narrower.lo)), *first.digits[1:]))
    assert listing_digest(layout) == before


def test_public_tables_stand_once_however_often_they_are_read():
    """So the text is linear in what is declared: terms, blocks, and each table once."""
    layout = Certificate(normalised().plan).close(Fraction(30))
    text = list(lines(layout))
    for kind in ("vector", "table", "view"):
        definitions = [line.split(" ", 2)[2] for line in text if line.startswith(f"{kind} ")]
        assert len(definitions) == len(set(definitions))
    pieces = sum(len(p.blocks) * len(t.digits) for t, p in layout.places.items())
    vectors = sum(len(line) for line in text if line.startswith("vector "))
    assert sum(map(len, text)) < 40 * (layout.circuit.size.terms + pieces) + 200 * len(layout.circuit.tensors) + vectors
    assert prod(layout.places[layout.circuit.tensors[0]].positions[0].shape) > 0
