"""Wrong messages, openings and pads."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from unittest import mock

import numpy as np
import pytest

from prover import commit, grinding
from prover.channel import Pads, ProverChannel
from prover.commit import ColumnTree, MatrixCommitment, Part, PlainCommitment
from prover.pads import PadCommitment
from tests.builders import Digits
from tests.soundness.malicious.forging import toy_verdict
from tests.toys import prove_toy, toy_layout, toy_witness
from zkcert.core import field as ff
from zkcert.core.code import PlainCode
from zkcert.core.field import F, P
from zkcert.core.transcript import nonce_fits

# ------------------------------------------------------------------------------------------------ messages

MESSAGES = {
    "linear/matmul": "sumcheck/matmul",
    "round/matmul": "sumcheck/matmul",
    "ends/matmul": "sumcheck/matmul",
    "linear/relu": "sumcheck/relu",
    "roots": "range-check/digits",
    "leaves/digits": "range-check/digits",
    "tree/digits": "range-check/digits",
    "tree-ends/digits": "range-check/digits",
    "tree/table": "range-check/table",
    "tree-ends/table": "range-check/table",
    "batch": "batch",
}


def one_wrong_message(label):
    """Add one to the first value sent under a label."""
    state = {"done": False}

    def wrap(original, paired):
        def send(self, name, values, count):
            if name == label and not state["done"]:
                state["done"] = True
                values = list(values)
                values[0] = (values[0][0] + 1, values[0][1]) if paired else values[0] + 1
            return original(self, name, values, count)

        return send

    return (
        mock.patch.object(ProverChannel, "send", wrap(ProverChannel.send, False)),
        mock.patch.object(ProverChannel, "send_pairs", wrap(ProverChannel.send_pairs, True)),
    )


@pytest.mark.parametrize(("label", "name"), MESSAGES.items())
def test_an_inconsistent_message_is_named_and_rejected(label, name):
    assert toy_verdict(*one_wrong_message(label), strict=True) == name
    assert toy_verdict(*one_wrong_message(label)) == "hidden-equations"


def test_every_kind_of_message_has_a_lie():
    labels = set()
    original = ProverChannel._write

    def write(self, label, values):
        labels.add(label)
        original(self, label, values)

    with mock.patch.object(ProverChannel, "_write", write):
        prove_toy()
    expected = {*MESSAGES, "round/relu", "ends/relu", "opened"}
    assert labels == expected


def test_a_wrong_opened_value_is_caught_by_the_equations_or_the_opening():
    original = ProverChannel.reveal
    lie = mock.patch.object(ProverChannel, "reveal", lambda self, label, v: original(self, label, v + 1))
    assert toy_verdict(lie, strict=True) == "batch"
    lie = mock.patch.object(ProverChannel, "reveal", lambda self, label, v: original(self, label, v + 1))
    assert toy_verdict(lie) == "opening/value"


# ------------------------------------------------------------------------------------------------ commitments


def changed_rows(change):
    original = MatrixCommitment.combine
    return mock.patch.object(MatrixCommitment, "combine", lambda self, w: change(original(self, w)))


def bumped(rows, *index):
    rows[(0, *index)] = (int(rows[(0, *index)]) + 1) % P
    return rows


@pytest.mark.parametrize(("row", "name"), [(0, "claims"), (1, "value"), (2, "value")])
def test_combined_rows_that_are_not_the_committed_ones_are_caught(row, name):
    assert toy_verdict(changed_rows(lambda rows: bumped(rows, row, 0))) == f"opening/{name}"


@pytest.mark.parametrize("row", range(3))
def test_combined_rows_changed_where_the_value_does_not_look_are_caught(row):
    assert toy_verdict(changed_rows(lambda rows: bumped(rows, row, -1))) == "opening/claims"  # in the tail


@pytest.mark.parametrize("times", [1, 2])
def test_inner_products_that_are_not_those_of_the_rows_are_caught(times):
    """Both are changed so that they still give the opened value."""
    product, original, seen = commit.inner_product, MatrixCommitment.open, []

    def open_with_shift(self, t, z):
        half, unit = F(2).inv(), F(0, 1).inv()
        plus, minus = ((1 - z[-1]) + z[-1] * unit) * half, ((1 - z[-1]) - z[-1] * unit) * half
        shift = [F.ONE, (-(plus / minus)).conj()]

        def moved(row, claim):
            seen.append(None)
            return product(row, claim) + shift[len(seen) - 1] * times

        with mock.patch.object(commit, "inner_product", moved):
            return original(self, t, z)

    assert toy_verdict(mock.patch.object(MatrixCommitment, "open", open_with_shift)) == "opening/claims"
    assert len(seen) == 2


# Levels of the toy's opening; the first one is the matrix.
LEVELS = [ONE_BELOW, THREE_BELOW] = [
    [PlainCode(7, 3, 10, 125)],
    [PlainCode(6, 6, 9, 125, PlainCode(5, 4, 8, 113, PlainCode(4, 4, 8, 110)))],
]


@contextmanager
def below(levels):
    """A toy whose matrix is opened by these levels: prover and verifier have the same shapes."""
    layout = toy_layout()
    with mock.patch.object(layout, "code", replace(layout.code, below=levels[0])):
        yield


def opened_otherwise(level, change):
    """A prover that changes what its column tree of one level opens."""
    original = ColumnTree.open

    def open_columns(self, queries):
        data = bytearray(original(self, queries))
        if self.name == level:
            change(data)
        return bytes(data)

    return mock.patch.object(ColumnTree, "open", open_columns)


TREES = [b"matrix", b"level/2", b"level/3", b"level/4"]


@pytest.mark.parametrize("which", range(4))
def test_other_columns_than_the_committed_ones_are_caught(which):
    def change(data):
        data[0] ^= 1

    with below(THREE_BELOW):
        assert toy_verdict(opened_otherwise(TREES[which], change)) == f"opening/merkle/{which + 1}"


def test_other_columns_of_the_late_part_are_caught():
    def change(data):
        data[0] ^= 1

    assert toy_verdict(opened_otherwise(b"matrix/1", change)) == "opening/merkle/1"


def test_columns_of_another_matrix_do_not_fit_the_claims():
    """The tree is that of another X: consistent with itself, not with the combined rows."""
    original = Part.__init__

    def init(self, x, *args):
        other = x.copy()
        other[0] += 1
        original(self, other, *args)
        self.columns.open = lambda queries, mine=self.columns.open: opened(self, other, mine, queries)
        self.x = x

    def opened(self, other, mine, queries):
        x, self.x = self.x, other
        out = mine(queries)
        self.x = x
        return out

    assert toy_verdict(mock.patch.object(Part, "__init__", init)) == "opening/claims"


@pytest.mark.parametrize("which", range(2, 5))
def test_columns_of_other_combined_rows_do_not_fit_the_claims(which):
    """A level below commits to other rows than those that the level above has."""
    original = PlainCommitment.__init__

    def init(self, v, code, level):
        original(self, bumped(v.copy(), 1, 0) if level == which else v, code, level)

    wanted = "opening/value" if which == 2 else "opening/claims"
    with below(THREE_BELOW):
        assert toy_verdict(mock.patch.object(PlainCommitment, "__init__", init)) == wanted


@pytest.mark.parametrize("row", [0, 1])
@pytest.mark.parametrize("which", [2, 3])
def test_rows_that_are_committed_below_but_not_combined_from_the_level_are_caught(which, row):
    """The prover combines wrongly and is consistent with it from there on."""
    with below(THREE_BELOW):
        assert toy_verdict(*wrong_combination(which, row)) == "opening/claims"


@pytest.mark.parametrize(("row", "name"), [(0, "proximity/4"), (1, "claims")])
def test_rows_of_the_last_level_that_are_not_combined_from_it_are_caught(row, name):
    with below(THREE_BELOW):
        assert toy_verdict(*wrong_combination(4, row)) == f"opening/{name}"
    with below(ONE_BELOW):
        assert toy_verdict(*wrong_combination(2, row)) == f"opening/{name.replace('4', '2')}"


def wrong_combination(which, row):
    original, weights, drawn = commit.kernels.fold_matrix_f, commit.plain_weights, []

    def remember(transcript, level, *args):
        out = weights(transcript, level, *args)
        if level == which:
            drawn.append(out)
        return out

    def fold(x, v):
        out = original(x, v)
        mine = drawn and v.shape[2] <= drawn[-1].shape[2] and np.array_equal(v, drawn[-1][:, :, : v.shape[2]])
        return bumped(out, 0, row, 0) if mine else out  # its two combinations only

    return (
        mock.patch.object(commit, "plain_weights", remember),
        mock.patch.object(commit.kernels, "fold_matrix_f", fold),
    )


@pytest.mark.parametrize(("levels", "last"), [(ONE_BELOW, 2), (THREE_BELOW, 4)])
def test_an_evaluation_row_forged_to_the_claim_is_caught_by_the_last_columns(levels, last):
    """The inner product with eq(s_col) stays the same, the row does not."""
    original, weights = commit.kernels.fold_matrix_f, commit.plain_weights
    point = []

    def remember(transcript, level, code, s):
        point[:] = s[len(s) - code.row_bits :] if level == last else []
        return weights(transcript, level, code, s)

    def fold(x, v):
        out = original(x, v)
        if point:
            eq = ff.f_list(ff.eq_table(point)[:, :2])
            row = np.ascontiguousarray(out[:, 0, 1])
            for k, change in enumerate((eq[1], -eq[0])):
                value = ff.f_item(row, k) + change
                out[:, 0, 1, k] = value.re, value.im
        return out

    patches = (
        mock.patch.object(commit, "plain_weights", remember),
        mock.patch.object(commit.kernels, "fold_matrix_f", fold),
    )
    with below(levels):
        assert toy_verdict(*patches) == f"opening/row/{last}"


@pytest.mark.parametrize("which", range(2, 5))
def test_a_sum_check_message_of_the_claims_that_is_not_the_sum_is_caught(which):
    original = PlainCommitment._fold

    def fold(self, transcript, claims):
        product, calls = commit.kernels.product_round, []

        def lie(*args):
            calls.append(args)
            t0, tinf = product(*args)
            return (t0 + 1, tinf) if len(calls) == 1 and self.level == which else (t0, tinf)

        with mock.patch.object(commit.kernels, "product_round", lie):
            return original(self, transcript, claims)

    with below(THREE_BELOW):
        assert toy_verdict(mock.patch.object(PlainCommitment, "_fold", fold)) == "opening/claims"


def false_triples(*errors):
    """Triples whose z is off by the given amounts, from the first two on at the root of the digits (one equation)."""
    original = Pads.draw

    def draw(*args):
        pads = original(*args)
        for i, error in enumerate(errors, 2):  # the toy's two products come first
            pads.z[0, i] = (int(pads.z[0, i]) + error) % P
        return pads

    return mock.patch.object(Pads, "draw", draw)


def test_triples_that_are_no_products_are_caught():
    assert toy_verdict(false_triples(1), strict=True) == "range-check/digits"
    assert toy_verdict(false_triples(1)) == "hidden-equations"
    # the errors cancel in the only equation that holds them
    assert toy_verdict(false_triples(1, -1)) == "pads/products"


def pad_prover(**changes):
    """A pad prover that alters a test polynomial before it is sent; see PadCommitment.prove."""
    original = PadCommitment.__init__

    def init(self, pads, secret):
        original(self, pads, secret)
        for name, change in changes.items():
            setattr(self, name, change(self, getattr(self, name).copy()))

    return mock.patch.object(PadCommitment, "__init__", init)


def add_one(self, q):
    q[0, 0] = (int(q[0, 0]) + 1) % P
    return q


def test_a_linear_test_forged_to_the_right_sum_is_caught_by_its_columns():
    """An equation is false by some amount; the prover shifts the polynomial so that its sum fits."""
    w = toy_witness()
    t = next(t for t in toy_layout().circuit.tensors if t.name == "total")
    Digits(w, t)[0, 0, 0] ^= 1
    original = PadCommitment.prove

    def prove(self, transcript, form):
        block = 1 << self.code.block_bits
        q = np.zeros((2, 2 * block), np.uint64)
        error = form.const + sum((ff.f_dot(c, v) for c, v in zip(form.parts, self.all_pads, strict=True)), F.ZERO)
        assert error != 0
        shift = -(error / block)
        q[:, 0] = shift.re, shift.im
        self.blind_linear = ff.f_add(self.blind_linear, q)
        return original(self, transcript, form)

    init = PadCommitment.__init__

    def remember(self, pads, secret):
        init(self, pads, secret)
        self.all_pads = (pads.singles, pads.x, pads.y, pads.z)

    patches = (
        mock.patch.object(PadCommitment, "__init__", remember),
        mock.patch.object(PadCommitment, "prove", prove),
    )
    assert toy_verdict(*patches, witness=w) == "pads/linear"


@pytest.mark.parametrize(
    ("polynomial", "name"),
    [("blind_proximity", "pads/proximity"), ("blind_linear", "hidden-equations"), ("blind_product", "pads/products")],
)
def test_test_polynomials_with_another_blinding_than_committed_are_caught(polynomial, name):
    assert toy_verdict(pad_prover(**{polynomial: add_one})) == name


def test_a_product_test_forged_to_vanish_is_caught_by_its_columns():
    """Two false triples; the prover replaces the product polynomial by one that vanishes on the messages."""
    prove = PadCommitment.prove

    def forge(self, transcript, form):
        block, code = 1 << self.code.block_bits, self.code
        fft = ff.f_ifft

        def vanishing(values):
            # the last polynomial interpolated from 2|H| values is the product test
            coefs = fft(values)
            on = ff.f_fft(ff.f_add(coefs, self.blind_product), code.block_bits + 1)
            on[:, 0 : 2 * code.message : 2] = 0
            return ff.f_sub(fft(on), self.blind_product)

        calls = []

        def ifft(values):
            calls.append(values.shape)
            if values.shape == (2, 2 * block) and sum(s == values.shape for s in calls) == 2:
                return vanishing(values)
            return fft(values)

        with mock.patch.object(ff, "f_ifft", ifft):
            return prove(self, transcript, form)

    patches = (false_triples(1, -1), mock.patch.object(PadCommitment, "prove", forge))
    assert toy_verdict(*patches) == "pads/product-columns"


@pytest.mark.parametrize(
    ("which", "name"),
    list(
        enumerate(
            [
                "proof-of-work",
                *(f"opening/{kind}-nonce/{level}" for level in range(1, 5) for kind in ("proximity", "query")),
                "pads/nonce",
            ]
        )
    ),
)
def test_work_that_was_not_done_is_caught(which, name):
    """The prover goes on with a nonce of no worth and is consistent with it ever after."""
    grind, calls = grinding.grind, []

    def lazy(transcript, bits):
        calls.append(bits)
        if len(calls) != which + 1:
            return grind(transcript, bits)
        nonce = next(n for n in range(1 << 20) if not nonce_fits(transcript.puzzle, n, 1))
        transcript.absorb("grind", nonce.to_bytes(8, "little"))
        return nonce

    with below(THREE_BELOW):
        assert toy_verdict(mock.patch.object(grinding, "grind", lazy)) == name
    assert len(calls) >= 10
