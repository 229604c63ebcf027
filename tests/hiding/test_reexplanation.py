"""Hiding, shown exactly: everything a proof shows but hashes is independent of the witness.

From a proof of one witness we solve for randomness (masks, tails, pads, pad tails, blinds) with which the unmodified
prover, run on another witness of the same statement under the same challenges, emits the very same bytes. The map is a
bijection, so that part of the view has the same distribution for both. Only roots and Merkle siblings differ: hashes of
columns that keep random values (test_findings.py). An adversarial reader of the system wrote the first version.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import prover.channel
import prover.commit
import prover.grinding
import prover.pads
from circuits.argument.channel import Channel
from circuits.argument.claims import Oracle
from circuits.argument.protocol import draw_weights, message_counts, run
from prover.argument import prove_circuit
from prover.combinations import fill_combinations
from tests.functions import function_layout, function_witness
from tests.hiding.views import column_spans, columns_at, split_words
from tests.toys import committed_vector, drawn_layout, drawn_witness, toy_layout, toy_witness
from verifier.argument import verify_circuit
from zkcert.core import field as ff
from zkcert.core.field import F
from zkcert.core.opening import combination_weights
from zkcert.core.opening import query_points as matrix_points
from zkcert.core.padcode import interpolate, message_rows, query_points
from zkcert.core.proof import Reader
from zkcert.core.transcript import Transcript, xof_field


def solve(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """X with A X = B over F, for invertible a (2, n, n) and b (2, n, k)."""
    a, x, n = a.copy(), b.copy(), a.shape[1]
    for i in range(n):
        p = next(j for j in range(i, n) if a[:, j, i].any())
        if p != i:
            a[:, [i, p]], x[:, [i, p]] = a[:, [p, i]], x[:, [p, i]]
        inverse = ff.f_item(a, (i, i)).inv()
        for m in (a, x):
            m[:, i] = ff.f_mul_scalar(np.ascontiguousarray(m[:, i]), inverse)
        factor = a[:, :, i].copy()
        factor[:, i] = 0
        a = ff.f_sub(a, ff.f_mul(factor[:, :, None], np.ascontiguousarray(a[:, i])[:, None, :]))
        x = ff.f_sub(x, ff.f_mul(factor[:, :, None], np.ascontiguousarray(x[:, i])[:, None, :]))
    return x


class Randomness:
    """Stands for the expansion of the prover's secret: records it, or replaces it by what a test wants."""

    def __init__(self) -> None:
        self.used: dict[bytes, np.ndarray] = {}
        self.forced: dict[bytes, np.ndarray] = {}

    def __call__(self, seed: bytes, count: int) -> np.ndarray:
        name = bytes(seed[:-32])
        values = self.forced.get(name)
        self.used[name] = xof_field(seed, count) if values is None else values
        assert self.used[name].shape == (count,)
        return self.used[name].copy()


class Recorder(Channel):
    """Notes the kind of every message: s, x, y, open, nonce."""

    order: list[str]

    def send(self, label: str, values: Any, count: int) -> Any:
        self.order += ["s"] * count
        return super().send(label, values, count)

    def send_pairs(self, label: str, pairs: Any, count: int) -> Any:
        self.order += ["x", "y"] * count
        return super().send_pairs(label, pairs, count)

    def reveal(self, label: str, value: Any) -> F:
        self.order.append("open")
        return super().reveal(label, value)

    def grind(self, label: str, bits: int) -> None:
        self.order.append("nonce")
        super().grind(label, bits)


def fresh() -> Transcript:
    return Transcript("fixed coins")


def sections(data: bytes) -> tuple[bytes, bytes, bytes]:
    """Messages, opening, pad proof."""
    reader = Reader(data)
    reader.section(96)
    return reader.section(1 << 28), reader.section(1 << 28), reader.section(1 << 28)


@pytest.mark.parametrize(
    ("layout_of", "witness_of"),
    [
        (toy_layout, toy_witness),
        (function_layout, function_witness),
        pytest.param(drawn_layout, drawn_witness, marks=pytest.mark.slow),
    ],
    ids=["toy", "function tables", "congruences"],
)
def test_a_proof_of_one_witness_is_byte_for_byte_a_proof_of_another_under_other_randomness(
    layout_of: Any, witness_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Fixed coins stand for an honest verifier: nothing absorbed moves a challenge.
    monkeypatch.setattr(Transcript, "absorb", lambda self, label, data: None)
    monkeypatch.setattr(prover.grinding, "grind", lambda transcript, bits: 0)
    monkeypatch.setattr(Transcript, "check_grind", lambda self, nonce, bits: True)
    randomness = Randomness()
    for module in (prover.channel, prover.commit, prover.pads):
        monkeypatch.setattr(module, "xof_field", randomness)
    kept: dict[str, Any] = {}
    prove_pads = prover.pads.PadCommitment.prove

    def keep(self: Any, transcript: Transcript, form: Any) -> bytes:
        kept.update(pads=self, form=form, state=transcript.state)
        return prove_pads(self, transcript, form)

    monkeypatch.setattr(prover.pads.PadCommitment, "prove", keep)

    layout, first, second = layout_of(), witness_of(0), witness_of(1)
    code = layout.code
    proof = prove_circuit(layout, first, fresh())
    verify_circuit(layout, fresh(), proof)
    original = dict(randomness.used)
    pads, form, state = kept["pads"], kept["form"], kept["state"]
    messages = sections(proof)[0]

    # -- masks and tails: same queried columns, same three rows
    transcript = fresh()
    channel = Recorder(transcript, Reader(messages))
    channel.order = []
    draw_weights(channel, layout.circuit)
    z = run(channel, Oracle(), layout, code.variables)
    weights = combination_weights(transcript, code, z)
    queries = transcript.distinct_indices("queries/1", code.queries, code.log_n)

    def lanes(witness: Any) -> np.ndarray:
        data = np.zeros(2 * code.width * code.mask_row, np.int64)
        data[: layout.data_end] = committed_vector(layout, witness)
        rows = data.reshape(code.mask_row, code.width, 2)
        return np.stack([ff.fp_from_int(np.ascontiguousarray(rows[:, :, i])) for i in range(2)])

    fill_combinations(second)  # with the weights that were drawn: fixed coins again
    change = ff.f_sub(lanes(second), lanes(first))
    assert change.any()
    values = ff.f_powers(matrix_points(code.log_n, queries), code.length)
    head = np.ascontiguousarray(values[:, :, : code.width])
    moved = np.stack(
        [ff.fp_neg(ff.f_matvec(head, np.ascontiguousarray(change[:, r]))) for r in range(code.mask_row)], axis=2
    )
    tail = solve(np.ascontiguousarray(values[:, :, code.width : code.width + code.queries]), moved)
    delta = np.zeros((2, code.rows, code.length), np.uint64)
    delta[:, : code.mask_row, : code.width] = change
    delta[:, : code.mask_row, code.width : code.width + code.queries] = np.swapaxes(tail, 1, 2)
    data_rows = np.swapaxes(delta[:, : code.mask_row], 1, 2)
    combined = [
        ff.fp_neg(ff.f_sum(ff.f_mul(data_rows, np.ascontiguousarray(weights[:, k, : code.mask_row])[:, None, :])))
        for k in range(3)
    ]
    of_masks = np.ascontiguousarray(weights[:, :, code.mask_row : code.mask_row + 3])
    delta[:, code.mask_row : code.mask_row + 3] = solve(of_masks, np.stack(combined, axis=1))
    change = split_words(code, delta[:, code.mask_row :, : code.width], delta[:, :, code.width :])
    matrix = {label: ff.f_add(original[label].reshape(2, -1), words).reshape(-1) for label, words in change.items()}

    # -- pads: message less value, the values taken from a run with zero pads
    singles, triples = message_counts(layout, code.variables)
    none = np.zeros(2 * (singles + 2 * triples), np.uint64)
    randomness.forced = {
        b"zkcert/pads": none,
        **matrix,
        b"zkcert/pad-rows": original[b"zkcert/pad-rows"],
    }
    plain = sections(prove_circuit(layout, second, fresh()))[0]
    found: dict[str, list[F]] = {"s": [], "x": [], "y": []}
    at = 0
    for kind in channel.order:
        if kind == "nonce":
            at += 8
            continue
        shown, value = F.from_bytes(messages[at : at + 16]), F.from_bytes(plain[at : at + 16])
        at += 16
        if kind == "open":
            assert shown == value
        else:
            found[kind].append(shown - value)
    s, x, y = (ff.f_array(found[k]) for k in "sxy")
    new_pads = np.concatenate([s, x, y], axis=1).reshape(-1)

    # -- pad rows: same queried columns; blinds: same three test polynomials
    pad_code = pads.code
    block, spare = 1 << pad_code.block_bits, pad_code.message + pad_code.queries
    transcript.state = state
    proximity = transcript.challenge_array("pads/proximity", pad_code.rows)
    products = transcript.challenge_array("pads/products", pad_code.triple_rows)
    pad_queries = transcript.distinct_indices("pads/queries", pad_code.queries, pad_code.log_n)
    old_values = ff.f_fft(pads.rows, pad_code.block_bits)
    fixed = np.zeros((2, pad_code.rows, block), np.uint64)
    fixed[:, :, : pad_code.message] = message_rows(pad_code, s, x, y, ff.f_mul(x, y))
    fixed[:, :, spare:] = old_values[:, :, spare:]  # the spare values may stay
    points = ff.f_powers(ff.f_array(query_points(pad_code, pad_queries)), block)

    def at_queries(rows: np.ndarray) -> np.ndarray:
        return np.stack([ff.f_matvec(points, np.ascontiguousarray(rows[:, i])) for i in range(rows.shape[1])], axis=2)

    unit = np.zeros((2, pad_code.queries, block), np.uint64)
    unit[0, np.arange(pad_code.queries), pad_code.message + np.arange(pad_code.queries)] = 1
    wanted = ff.f_sub(at_queries(pads.rows), at_queries(interpolate(pad_code, fixed)))
    fixed[:, :, pad_code.message : spare] = np.swapaxes(solve(at_queries(ff.f_ifft(unit)), wanted), 1, 2)
    rows = interpolate(pad_code, fixed)

    def tests(rows: np.ndarray) -> list[np.ndarray]:
        one, count = pad_code.single_rows, pad_code.triple_rows
        constraint = interpolate(pad_code, message_rows(pad_code, *form.parts))
        wide = ff.f_fft(rows, pad_code.block_bits + 1)
        a, b, c = (wide[:, one + i * count : one + (i + 1) * count] for i in range(3))
        linear = ff.f_sum(ff.f_mul(wide, ff.f_fft(constraint, pad_code.block_bits + 1)), axis=1)
        defect = ff.f_mul(ff.f_sub(ff.f_mul(a, b), c), products[:, :, None])
        mixed = ff.f_sum(ff.f_mul(rows, proximity[:, :, None]), axis=1)
        return [mixed, ff.f_ifft(linear), ff.f_ifft(ff.f_sum(defect, axis=1))]

    old_blinds = (pads.blind_proximity, pads.blind_linear, pads.blind_product)
    blinds = [
        ff.f_sub(ff.f_add(blind, was), now)
        for blind, was, now in zip(old_blinds, tests(pads.rows), tests(rows), strict=True)
    ]
    assert ff.f_item(blinds[1], 0) + ff.f_item(blinds[1], block) == 0
    on_double = ff.f_fft(blinds[2], pad_code.block_bits + 1)
    assert not on_double[:, 0 : 2 * pad_code.message : 2].any()
    free = [i for i in range(2 * block) if i % 2 or i // 2 >= pad_code.message]
    tail_values = np.ascontiguousarray(fixed[:, :, pad_code.message :]).reshape(2, -1)
    noise = np.concatenate([tail_values, blinds[0], blinds[1], on_double[:, free]], axis=1).reshape(-1)

    randomness.forced = {b"zkcert/pads": new_pads, **matrix, b"zkcert/pad-rows": noise}
    other = prove_circuit(layout, second, fresh())
    verify_circuit(layout, fresh(), other)
    ours, theirs = sections(proof), sections(other)
    assert ours[0] == theirs[0]
    spans, end = column_spans(code, queries)
    shown_parts = [(0, columns_at(code)), *spans, (end, None)]
    assert all(ours[1][start:stop] == theirs[1][start:stop] for start, stop in shown_parts)
    shown = 8 + 16 * (5 * block + pad_code.queries * (pad_code.rows + 3))
    assert ours[2][:shown] == theirs[2][:shown]
    assert [len(a) for a in ours] == [len(b) for b in theirs]
