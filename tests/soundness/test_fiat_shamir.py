"""The conversation behind a proof: what is absorbed, which challenges are drawn, and in which order.

The lists here were reviewed by hand: whoever changes the protocol changes them too, and looks again at whether
everything the prover says is absorbed before the challenge that depends on it.
"""

from __future__ import annotations

import json
from contextlib import ExitStack, contextmanager
from copy import copy
from dataclasses import replace
from fractions import Fraction
from functools import cache
from unittest import mock

import numpy as np
import pytest

from circuits.language.drawn import PRIMES
from circuits.listing import listing_digest
from circuits.statement import certificate, start_transcript
from tests.functions import function_proof, verify_functions
from tests.toys import (
    certified,
    drawn_circuit,
    drawn_proof,
    prove_toy,
    toy_circuit,
    toy_layout,
    toy_proof,
    verify_drawn,
    verify_toy,
)
from verifier.soundness import soundness
from verifier.verify import Expectations, verify_proof
from zkcert.core.container import ProofFile
from zkcert.core.field import F
from zkcert.core.proof import Reader
from zkcert.core.transcript import Transcript
from zkcert.errors import ProofRejected
from zkcert.public.model import Model

DRAWS = ("challenge", "challenges", "challenge_array", "integers", "distinct_indices")


@contextmanager
def recorded():
    """All operations on transcripts: (kind, label, data or count, state afterwards)."""
    log = []

    def logging(name):
        original = getattr(Transcript, name)

        def call(self, label, *args):
            out = original(self, label, *args)
            log.append((name, label, args[0] if args else 1, self.state))
            return out

        return mock.patch.object(Transcript, name, call)

    with ExitStack() as stack:
        for name in ("absorb", *DRAWS):
            stack.enter_context(logging(name))
        yield log


@cache
def toy_conversation():
    proof = toy_proof()  # made before recording
    with recorded() as log:
        verify_toy(proof)
    return log


@cache
def drawn_conversation():
    proof = drawn_proof()
    with recorded() as log:
        verify_drawn(proof)
    return log


@cache
def certified_conversation():
    c = certified()
    with recorded() as log:
        verify_proof(c.proved.data, c.model, Expectations(Fraction(30)))
    return log


# ------------------------------------------------------------------------------------------------ inventories

# Absorbed before anything is drawn: the whole statement, everything derived from it that the circuit or the codes
# depend on, and the two commitments.
BEFORE_THE_FIRST_CHALLENGE = [
    "statement",  # config, dataset root, N, schema, tau, beacon, variance, digests of circuit and weights
    "listing",  # digest of the circuit and its layout as one text
    "indices",  # of the drawn samples, in order
    "sample-hashes",
    "dataset-multiproof",
    "parameters",  # shapes of the layout and of the matrix code, lookup tables
    "roots",  # of the first part of the matrix (digits) and of the pads
    "late-root",  # of the second part (late digits, multiplicities, masks); before it the weights, if any
]


def absorb(label):
    return ("absorb", label)


def draw(label, count=None):
    return ("draw", label, count)


def point(**bits):
    return [draw(f"point/{axis}", n) for axis, n in bits.items()]


def rounds(label, challenge, count):
    """A sum-check: per round the message, then the point."""
    return [absorb(label), draw(challenge)] * count


def product(name, members, bits, **axes):
    return [
        draw(f"members/{name}", members),
        *point(**axes),
        absorb(f"linear/{name}"),
        *rounds(f"round/{name}", f"rho/{name}", bits),
        absorb(f"ends/{name}"),
    ]


def tree(name, depth, last):
    """Per layer: combine p and q, a sum-check over the layer's variables, the children's values, their combination."""
    out = []
    for layer in range(depth):
        out += [draw(f"lambda/{name}"), *rounds(f"tree/{name}", f"rho/{name}", layer)]
        out += [absorb(last if layer == depth - 1 else f"tree-ends/{name}"), draw(f"rho/{name}")]
    return out


TOY = [
    absorb("statement"),
    absorb("roots"),
    absorb("late-root"),
    # x w - y over t, b, o (the batch belongs to x alone and the output to w alone: folded), summed over k
    *product("matmul", 1, 4, t=1, b=2, o=2),
    *product("relu", 2, 5, t=1, b=2, o=2),
    draw("members/sum", 1),
    *point(t=1),
    draw("public/w", 1),
    draw("public/w", 2),
    draw("public/w", 3),
    draw("link/hash/rows", 1),
    draw("link/hash/unroll", 2),
    draw("link/hash/batch", 3),
    absorb("grind"),
    draw("alpha"),
    absorb("roots"),
    *tree("digits", 8, "leaves/digits"),
    absorb("roots"),
    *tree("table", 9, "tree-ends/table"),
    draw("batch"),
    *rounds("batch", "rho/batch", 12),
    absorb("opened"),
    absorb("grind"),
    draw("proximity/1", 12),
    absorb("combined-rows/1"),
    absorb("grind"),
    draw("queries/1", 194),
    absorb("columns/1"),
    draw("claims/2", 5 + 194),
    *rounds("claims-round/2", "rho/claims/2", 9),
    absorb("grind"),
    draw("proximity/2", 4),
    absorb("combined-rows/2"),
    absorb("grind"),
    draw("queries/2", 152),
    absorb("columns/2"),
    draw("equations", 24),
    draw("pads/proximity", 5),
    draw("pads/products", 1),
    absorb("pads/tests"),
    absorb("grind"),
    draw("pads/queries", 125),
]


LOOKUPS = [
    absorb("late-root"),  # with all multiplicities
    *product("line", 1, 8, t=2, r=3, k=3),
    absorb("grind"),
    draw("alpha"),
    draw("gamma"),
    absorb("roots"),
    *tree("digits", 11, "leaves/digits"),
    absorb("roots"),
    *tree("tuples", 7, "leaves/tuples"),
    absorb("roots"),
    *tree("table", 12, "tree-ends/table"),
    draw("batch"),
]


def heard_in(conversation):
    return [
        absorb(label) if kind == "absorb" else draw(label, None if kind == "challenge" else data)
        for kind, label, data, _ in conversation
    ]


def test_toy_conversation_is_the_reviewed_one():
    assert heard_in(toy_conversation()) == TOY


def test_gamma_is_drawn_with_alpha_and_tuples_come_behind_the_digits():
    proof = function_proof()
    with recorded() as log:
        verify_functions(proof)
    heard = heard_in(log)
    start, end = heard.index(absorb("late-root")), heard.index(draw("batch")) + 1
    split = [draw("members/split", 1), *point(t=2, r=3, k=3)]
    assert heard[start:end] == [LOOKUPS[0], *split, *LOOKUPS[1:]]


def test_a_statement_is_absorbed_before_the_first_challenge():
    log = certified_conversation()
    first = next(i for i, entry in enumerate(log) if entry[0] in DRAWS)
    assert [label for _, label, _, _ in log[:first]] == BEFORE_THE_FIRST_CHALLENGE
    c, file = certified(), ProofFile.parse(certified().proved.data)
    data = {label: content for _, label, content, _ in log[:first]}
    assert data["statement"] == file.header == c.statement.header()
    assert data["listing"] == listing_digest(c_layout())
    assert np.frombuffer(data["indices"], "<u8").tolist() == c.statement.indices()
    assert data["sample-hashes"] == file.hashes.astype("<u8").tobytes()
    assert data["dataset-multiproof"] == file.multiproof
    assert data["roots"] + data["late-root"] == Reader(file.argument).section(96)
    assert set(json.loads(data["parameters"])) == {
        "data_end",
        "digits",
        "levels",
        "log_n",
        "queries",
        "row_bits",
        "rows",
        "tables",
    }


def general(label):
    """Labels of all constraints and public tensors are alike."""
    head, _, rest = label.partition("/")
    if head == "link":
        return "link/" + rest.rpartition("/")[2]
    if rest.isdigit() or (head == "rho" and rest.startswith("claims/")):  # of a level of the opening
        return label.rpartition("/")[0]
    return head if head in ("members", "point", "linear", "round", "ends", "public") else label


def test_a_certificate_is_a_conversation_of_the_same_kinds():
    heard = {(entry[0], general(entry[1])) for entry in certified_conversation()}
    toy = {(entry[0], general(entry[1])) for entry in toy_conversation()}
    extra = {("absorb", label) for label in BEFORE_THE_FIRST_CHALLENGE}
    constraints = [con.name for con in certificate_circuit().constraints]
    rho = {("challenge", f"rho/{name}") for name in (*constraints, "matmul", "relu")}
    assert heard - rho == (toy | extra) - rho


@cache
def certificate_circuit():
    c = certified()
    file = ProofFile.parse(c.proved.data)
    cert = certificate(c.statement, c.model, file.hashes)
    cert.close(c.statement.tau)
    return cert.circuit


def test_every_constraint_public_tensor_and_link_draws_its_own_weights():
    drawn = [label for kind, label, _, _ in certified_conversation() if kind in DRAWS]
    circuit = certificate_circuit()
    for con in circuit.constraints:
        assert drawn.count(f"members/{con.name}") == 1
    for public in circuit.publics:
        assert drawn.count(f"public/{public.tensor.name}") == 1 + len(public.tensor.shape)
    for link in circuit.links:
        assert {f"link/{link.name}/{part}" for part in ("rows", "unroll", "batch")} <= set(drawn)
    points = sum(len(con.out) for con in circuit.constraints)
    assert sum(label.startswith("point/") for label in drawn) == points


# ------------------------------------------------------------------------------------------------ order and coverage


CONVERSATIONS = [toy_conversation, drawn_conversation, certified_conversation]


@pytest.mark.parametrize("conversation", CONVERSATIONS)
def test_every_challenge_is_drawn_after_the_roots(conversation):
    log = conversation()
    kinds = [(kind, label) for kind, label, _, _ in log]
    roots = kinds.index(("absorb", "roots"))
    late = kinds.index(("absorb", "late-root"))
    assert not any(kind in DRAWS for kind, _ in kinds[:roots])
    assert {kind for kind, _ in kinds[roots + 1 : late]} <= {"absorb", "integers"}
    assert (len(log[roots][2]), len(log[late][2])) == (64, 32)


def test_weights_of_combinations_are_drawn_once_the_first_part_is_committed_and_before_the_second_is():
    """Between both roots there is work, and one draw for each axis and prime; what is drawn later is no weight."""
    log = drawn_conversation()
    kinds = [(kind, label) for kind, label, _, _ in log]
    roots, late = (kinds.index(("absorb", label)) for label in ("roots", "late-root"))
    sizes = {"l": 3, "r": 5}
    labels = [f"weights/{axis}/{q}" for axis in sizes for q in PRIMES]
    assert kinds[roots + 1 : late] == [("absorb", "grind"), *(("integers", label) for label in labels)]
    assert [count for _, _, count, _ in log[roots + 2 : late]] == [sizes[label.split("/")[1]] for label in labels]
    assert "integers" not in {kind for kind, _ in (*kinds[:roots], *kinds[late:])}
    reader = Reader(drawn_proof())
    assert log[roots][2] + log[late][2] == reader.section(96)
    assert log[roots + 1][2] == reader.section(1 << 28)[:8]
    assert kinds[late + 1] == ("challenges", "members/product")
    assert all(f"members/{con.name}" in {label for _, label in kinds[late:]} for con in drawn_circuit().constraints)


@pytest.mark.parametrize("conversation", CONVERSATIONS)
def test_challenges_that_need_work_come_right_after_it(conversation):
    kinds = [(kind, label) for kind, label, _, _ in conversation()]
    levels = {label for _, label in kinds if label.partition("/")[0] in ("proximity", "queries")}
    assert {"proximity/1", "queries/1", "proximity/2", "queries/2"} <= levels
    weights = [label for kind, label in kinds if kind == "integers"][:1]
    assert bool(weights) == (conversation is drawn_conversation)
    for label in ("alpha", *weights, *levels, "pads/queries"):
        at = next(i for i, (kind, name) in enumerate(kinds) if kind in DRAWS and name == label)
        assert kinds[at - 1] == ("absorb", "grind")
    assert kinds.count(("absorb", "grind")) == 2 + len(weights) + len(levels)


def test_all_a_prover_says_is_absorbed_before_the_next_challenge():
    """The absorbed data are the proof's bytes in order, but for lengths and the columns after the last challenge."""
    reader = Reader(toy_proof())
    roots, messages, opening, pads = (reader.section(1 << 28) for _ in range(4))
    said = b"".join(data for kind, label, data, _ in toy_conversation() if kind == "absorb" and label != "statement")
    assert (roots + messages + opening + pads).startswith(said)
    rest = len(roots + messages + opening + pads) - len(said)
    last = toy_conversation()[-1]
    assert last[1] == "pads/queries"
    columns = 16 * 125 * (5 + 3)
    assert 0 < rest - columns < 32 * 12 * 125  # the pads' columns and their Merkle proof


def test_prover_and_verifier_have_the_same_conversation():
    with recorded() as told:
        proof = prove_toy()
    with recorded() as heard:
        verify_toy(proof)
    attempt = [i for i, entry in enumerate(told) if entry[:2] == ("absorb", "statement")][-1]
    assert told[attempt:] == heard
    assert told[-1][3] == heard[-1][3]


def test_work_is_as_much_as_the_soundness_table_counts():
    bits, c = [], certified()
    check = Transcript.check_grind
    with mock.patch.object(Transcript, "check_grind", lambda s, n, b: bits.append(b) or check(s, n, b)):
        verify_proof(c.proved.data, c.model, Expectations(Fraction(30)))
    table = soundness(c_layout())
    assert bits == [16] * sum(term.grind > 0 for term in table.terms) and {t.grind for t in table.terms} == {0, 16}


# ------------------------------------------------------------------------------------------------ sensitivity


def replay(log, changed=None):
    """The states after each operation when one absorbed item has its first bit flipped."""
    t, states = Transcript("toy"), []
    for i, (kind, label, data, _) in enumerate(log):
        if kind == "absorb":
            t.absorb(label, data if i != changed else bytes([data[0] ^ 1]) + data[1:])
        elif kind == "challenge":
            t.challenge(label)
        else:
            t.challenges(label, 0)  # the state does not depend on how many are drawn
        states.append(t.state)
    return states


def test_changing_any_absorbed_item_changes_all_later_challenges():
    log = toy_conversation()
    honest = [state for _, _, _, state in log]
    assert replay(log) == honest
    for i, entry in enumerate(log):
        if entry[0] == "absorb":
            states = replay(log, i)
            assert states[:i] == honest[:i]
            assert not set(states[i:]) & set(honest[i:])


def started(statement=None, hashes=None, multiproof=None, layout=None):
    """The state before the roots for the certified statement, with some of it replaced."""
    c = certified()
    file = ProofFile.parse(c.proved.data)
    return start_transcript(
        statement or c.statement,
        file.hashes if hashes is None else hashes,
        file.multiproof if multiproof is None else multiproof,
        layout or c_layout(),
    ).state


@cache
def c_layout():
    return layout_of(certified().model)


def layout_of(model):
    """The layout of the certified statement, about a model."""
    c = certified()
    return certificate(c.statement, model, ProofFile.parse(c.proved.data).hashes).close(c.statement.tau)


def test_changing_any_part_of_the_statement_changes_the_start():
    c = certified()
    s, config, data = c.statement, c.statement.config, c.statement.dataset
    file = ProofFile.parse(c.proved.data)
    other_hashes = file.hashes.copy()
    other_hashes[3, 7] ^= np.uint64(1)
    spec = {**c.model.input, "mean": [0.25]}
    layout = c_layout()

    def resized(**values):
        out = copy(layout)
        vars(out).update(values)
        return out

    starts = {
        "honest": started(),
        "tau": started(replace(s, tau=s.tau - Fraction(1, 1000))),
        "beacon": started(replace(s, beacon=b"another")),
        "no beacon": started(replace(s, beacon=None)),
        "variance": started(replace(s, variance=1)),
        "weights": started(replace(s, weights_digest=bytes(32))),
        "circuit": started(replace(s, circuit_digest=bytes(32))),
        "root": started(replace(s, dataset=replace(data, root=bytes(32)))),
        "N": started(replace(s, dataset=replace(data, n=data.n + 1))),
        "classes": started(replace(s, dataset=replace(data, schema=replace(data.schema, classes=9)))),
        "kind": started(replace(s, dataset=replace(data, schema=replace(data.schema, kind="q32")))),
        "steps": started(replace(s, config=replace(config, steps=3))),
        "batch": started(replace(s, config=replace(config, batch_size=4))),
        "rho": started(replace(s, config=replace(config, rho=Fraction(1, 21)))),
        "lr": started(replace(s, config=replace(config, lr=Fraction(1, 81)))),
        "eps": started(replace(s, config=replace(config, eps=Fraction(1, 10)))),
        "variant": started(replace(s, config=replace(config, variant="sam"))),
        "model": started(layout=layout_of(Model(c.model.graph, spec, dict(c.model.params)))),
        "hashes": started(hashes=other_hashes),
        "order": started(hashes=file.hashes[::-1]),
        "multiproof": started(multiproof=file.multiproof[:-1] + b"\0\0"),
        "data": started(layout=resized(data_end=layout.data_end + 1)),
        "digits": started(layout=resized(digit_count=layout.digit_count + 1)),
        "tables": started(layout=resized(tables=layout.tables[::-1])),
    }
    assert len(set(starts.values())) == len(starts)
    assert started() == starts["honest"]


def test_a_challenge_of_zero_that_is_divided_by_is_a_rejection():
    draw = Transcript.challenge
    proof = toy_proof()
    with (
        mock.patch.object(Transcript, "challenge", lambda t, at: F.ZERO if at == "lambda/digits" else draw(t, at)),
        pytest.raises(ProofRejected) as error,
    ):
        verify_toy(proof)
    assert error.value.check == "challenge"


def test_two_proofs_of_one_statement_meet_different_challenges():
    def challenges(log):
        return {state for kind, _, _, state in log if kind in DRAWS}

    proof = prove_toy()
    with recorded() as second:
        verify_toy(proof)
    assert not challenges(second) & challenges(toy_conversation())


def test_the_sample_indices_follow_from_the_seed_alone():
    s = certified().statement
    for other in (
        replace(s, beacon=b"another"),
        replace(s, beacon=None),
        replace(s, weights_digest=bytes(32)),
        replace(s, circuit_digest=bytes(32)),
        replace(s, dataset=replace(s.dataset, root=bytes(32))),
        replace(s, config=replace(s.config, eps=Fraction(1, 10))),
    ):
        assert other.seed != s.seed
        assert other.indices() != s.indices()
    # tau and the revealed score are not part of it: they must not be ways to draw again
    assert replace(s, tau=Fraction(1), variance=7).seed == s.seed


def test_toy_conversation_ends_where_the_circuit_says():
    """The inventory above names the circuit's constraints: a new one must be added to it."""
    assert [con.name for con in toy_circuit().constraints] == ["matmul", "relu", "sum"]
    assert toy_layout().digit_count <= 1 << 8 and toy_layout().table_entries <= 1 << 9
    assert len(toy_conversation()) == len(TOY)
