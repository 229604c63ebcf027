"""Function tables: both implementations list, count and verify the same circuit."""

from __future__ import annotations

import random
from copy import copy

import pytest

from circuits import limits
from circuits.argument import tuples as reductions
from circuits.argument.protocol import message_counts
from circuits.language.layout import SMALLEST_CUT, Layout
from circuits.listing import lines
from prover import argument as prover_argument
from prover.argument import prove_circuit
from prover.execution.witness import Witness
from tests.functions import (
    DOUBLES,
    LINES,
    ROWS,
    SOME,
    SQUARES,
    STEPS,
    WIDTH,
    function_circuit,
    function_layout,
    function_witness,
)
from tests.independent import argument, language
from tests.independent.argument import Argument, column_weights, counts
from tests.independent.commitment import check_opening, check_pads, pad_shape
from tests.independent.errors import Reject
from tests.independent.language import (
    ALL,
    B,
    Circuit,
    Function,
    U,
    add,
    at,
    lay_out,
    left,
    listing,
    merge,
    neg,
    product,
    same,
    scale,
    term_count,
)
from tests.independent.soundness import terms
from tests.independent.transcript import Transcript
from verifier.argument import verify_circuit
from verifier.soundness import soundness
from zkcert.core import transcript
from zkcert.core.proof import Reader
from zkcert.errors import ProofRejected
from zkcert.public.statement import VERSION


def built() -> Circuit:
    """`function_circuit`, written again."""
    c = Circuit()
    axes = [("t", STEPS), ("r", ROWS), ("k", WIDTH)]
    coefficient = [at(U(8), 0), at(U(8), 8), at(U(8), 16), at(B(11), 24)]
    y = [*coefficient[:3], at(U(8), 24), at(B(8), 32)]
    shapes = {
        "x": [at((-64, 128), 0)], "segment": [at(U(3), 0)], "offset": [at(U(4), 0)], "slope": coefficient,
        "intercept": coefficient, "y": y,
    }  # fmt: skip
    whole = {}
    for name, digits in shapes.items():
        whole[name] = c.whole(c.view(c.tensor(name, STEPS, (ROWS, WIDTH), digits), *(same(a) for a, _ in axes)))
    tensors = {name: c.tensor(name, 1, (STEPS,), [at(r, 0)]) for name, r in SMALL.items()}
    one = c.tensor("one", 1, (), [at(B(5), 0)])
    con = c.constraint("split", axes)
    c.member(con, "x", add(left(scale(whole["segment"], 16), whole["offset"], neg(whole["x"])), -40))
    con = c.constraint("line", axes)
    c.member(con, "y", left(product(whole["slope"], whole["offset"]), whole["intercept"], neg(whole["y"])))
    small = {name: c.whole(c.view(t, ALL, same("t"))) for name, t in tensors.items()}
    tables = [Function(t.rule, tuple(map(tuple, t.rows.tolist()))) for t in (LINES, SQUARES, DOUBLES, SOME)]
    c.lookup("line/coefficients", axes, tables[0], [whole["segment"], whole["slope"], whole["intercept"]])
    c.lookup("square", axes[:1], tables[1], [small["sign"], small["square"]])
    c.lookup("double", axes[:1], tables[2], [small["sign"], small["double"]])
    total = c.whole(c.view(tensors["sign"], ALL, ALL))
    c.lookup("sum", [], tables[3], [merge(total, c.whole(c.view(one, ALL)))])
    return c


SMALL = {"sign": B(5), "square": U(8), "double": B(5)}


@pytest.mark.parametrize(("cut", "bits"), [(12, 24), (0, 24), (0, 3), (0, 0)])
def test_both_build_and_verify_the_same_lookups(cut, bits, monkeypatch):
    monkeypatch.setattr(language, "CUT_BITS", cut)
    monkeypatch.setattr(argument, "TUPLE_RUN", 1 << bits)
    monkeypatch.setattr(reductions, "TUPLE_TREE_BITS", bits)
    layout, mine = Layout(function_circuit(), smallest_cut=1 << cut), built()
    assert cut != 12 or 1 << cut == SMALLEST_CUT
    own = lay_out(mine)
    text = listing(mine, own)
    assert text.decode() == "".join(f"{line}\n" for line in lines(layout))
    sent = counts(mine, own, own.shape.variables)
    assert (sent.singles, sent.triples) == message_counts(layout, layout.code.variables)
    assert column_weights(mine) == limits.column_weights(layout)
    assert term_count(mine) == layout.circuit.size.terms
    pads = pad_shape(sent.singles, sent.triples)
    table = terms(mine, own, own.shape, pads, sent)
    theirs = {term.name: (pytest.approx(term.error, abs=1e-9), term.grind) for term in soundness(layout).terms}
    assert table == theirs and list(table) == list(theirs)

    started = transcript.Transcript(VERSION)
    started.absorb("statement", b"a toy")
    proof = prove_circuit(layout, function_witness(layout=layout), started)
    reader = Reader(proof)
    roots, messages, opening, pad_proof = (reader.section(1 << 28) for _ in range(4))

    def verify(messages: bytes) -> None:
        tr = Transcript()
        tr.absorb("statement", b"a toy")
        tr.absorb("roots", roots[:64])
        found = Argument(tr, mine, own, messages, own.shape.variables, [], b"", roots[64:])
        assert (found.singles, found.triples) == (sent.singles, sent.triples)
        check_opening(tr, opening, [roots[:32], roots[64:]], own.shape, found.z, found.opened)
        check_pads(tr, pad_proof, roots[32:64], pads, found.equations)

    verify(messages)
    changed = bytearray(messages)
    changed[random.Random(0).randrange(len(messages) // 16) * 16] ^= 1
    with pytest.raises(Reject):
        verify(bytes(changed))


def refused(witness: Witness) -> str:
    """What the second verifier says of a proof from a witness, or ""; the first one refuses it too, or neither does."""
    layout, mine = witness.layout, built()
    own = lay_out(mine)
    started = transcript.Transcript(VERSION)
    started.absorb("statement", b"a toy")
    proof = prove_circuit(layout, witness, copy(started))
    try:
        verify_circuit(layout, started, proof)
        accepted = True
    except ProofRejected:
        accepted = False
    reader = Reader(proof)
    roots, messages, opening, pad_proof = (reader.section(1 << 28) for _ in range(4))
    tr = Transcript()
    tr.absorb("statement", b"a toy")
    tr.absorb("roots", roots[:64])
    found = Argument(tr, mine, own, messages, own.shape.variables, [], b"", roots[64:])
    check_opening(tr, opening, [roots[:32], roots[64:]], own.shape, found.z, found.opened)
    pads = pad_shape(found.singles, found.triples)
    try:
        check_pads(tr, pad_proof, roots[32:64], pads, found.equations)
    except Reject as reject:
        assert not accepted
        return reject.check
    assert accepted
    return ""


@pytest.fixture
def default_cut() -> Layout:
    return function_layout(SMALLEST_CUT)


def test_both_accept_an_honest_prover(default_cut):
    assert refused(function_witness(layout=default_cut)) == ""


@pytest.mark.parametrize("lie", ["a row of another table", "two rows mixed", "a multiplicity", "a class"])
def test_both_refuse_a_prover_who_lies_about_tuples(lie, default_cut, monkeypatch):
    """A tuple that is none of its table's, also where it is counted in the other; a row counted once more."""
    w, count = function_witness(layout=default_cut), prover_argument.count_multiplicities
    named = {t.name: t for t in w.circuit.tensors}
    if lie in ("a row of another table", "a class"):
        for name, value in (("sign", 3), ("square", 9), ("double", 9)):  # the double of 3 is 9, as its square is
            values = w.value(named[name])
            values[0, 1] = value
            w.put(named[name], values)
    elif lie == "two rows mixed":
        values = w.value(named["intercept"])
        at = w.value(named["segment"])[0, 1, 2]
        change = int(LINES.rows[(at + 1) % len(LINES.rows), 2]) - values[0, 1, 2]
        for name in ("intercept", "y"):
            values = w.value(named[name])
            values[0, 1, 2] += change
            w.put(named[name], values)

    def counted(layout, x):
        count(layout, x)
        start = layout.multiplicity_start + sum(layout.tables) + LINES.shape[0]
        if lie in ("a multiplicity", "a class"):
            x[start + SQUARES.rows[:, 0].tolist().index(3)] += 1

    monkeypatch.setattr(prover_argument, "count_multiplicities", counted)
    assert refused(w) != ""
