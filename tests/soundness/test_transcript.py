"""The transcript, and the sum of errors."""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from math import ceil, log2
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from circuits.compile import Certificate
from circuits.language.sources import scatter
from prover.grinding import grind
from tests.builders import tiny_cnn, tiny_mlp
from tests.toys import (
    toy_layout,
)
from verifier.soundness import soundness
from verifier.verify import REQUIRED_BITS
from zkcert.core import code as codes
from zkcert.core import field as ff
from zkcert.core.code import PadCode, PlainCode, matrix_code, pad_code, queries_for
from zkcert.core.field import F, P
from zkcert.core.transcript import Transcript, nonce_fits, xof_field


def test_transcript_follows_its_description():
    def frame(label, data=b""):
        name = label.encode()
        return len(name).to_bytes(4, "little") + name + len(data).to_bytes(8, "little") + data

    state = blake3(b"zkcert/transcript" + frame("kat")).digest()
    state = blake3(b"zkcert/absorb" + state + frame("label", b"data")).digest()
    stream = blake3(b"zkcert/challenge" + state + frame("c")).digest(length=64)
    words = blake3(stream[32:]).digest(length=32)
    lanes = [int.from_bytes(words[8 * i : 8 * i + 8], "little") & P for i in range(4)]

    t = Transcript("kat")
    t.absorb("label", b"data")
    assert t.challenges("c", 2) == [F(*lanes[:2]), F(*lanes[2:])]
    assert t.state == stream[:32]


KNOWN_ONE = (1002479058261730249, 1247160189485141024)

KNOWN_ARRAY = [
    [1802487424677775852, 843328685326197563, 929989170261915420],
    [1523910323085567538, 159618233711824207, 145751650851980110],
]

KNOWN_INDICES, KNOWN_NONCE = [1, 7, 10, 11, 15], 23

KNOWN_STATE = "b19409a48bbb3a714939ccff0f54018bf2aa6c6581aeb715f5a27b1e912e949b"


def test_transcript_known_answers():
    t = Transcript("known answers")
    t.absorb("a", b"")
    t.absorb("b", b"\x01" * 40)
    one = t.challenge("one")
    many = t.challenge_array("array", 3)
    indices = t.distinct_indices("indices", 5, 4)
    nonce = grind(t, 6)
    assert (one.re, one.im) == KNOWN_ONE
    assert many.tolist() == KNOWN_ARRAY
    assert (indices, nonce) == (KNOWN_INDICES, KNOWN_NONCE)
    assert t.state.hex() == KNOWN_STATE


def test_equal_histories_give_equal_challenges_and_others_do_not():
    def history(*items):
        t = Transcript("p")
        for label, data in items:
            t.absorb(label, data)
        return t.challenge("c")

    assert history(("a", b"1"), ("b", b"2")) == history(("a", b"1"), ("b", b"2"))
    distinct = [
        history(("a", b"1"), ("b", b"2")),
        history(("b", b"2"), ("a", b"1")),
        history(("a", b"1b2")),
        history(("a", b"12")),
        history(("a1", b""), ("b", b"2")),
        history(("a", b"1"), ("b", b"2"), ("", b"")),
        Transcript("p").challenge("c"),
        Transcript("p").challenge("d"),
        Transcript("q").challenge("c"),
    ]
    assert len(set(distinct)) == len(distinct)


def test_challenges_advance_the_state_even_if_none_is_drawn():
    t = Transcript("p")
    before = t.state
    assert t.challenges("none", 0) == []
    assert t.state != before


def test_field_elements_of_a_stream_skip_p_and_keep_the_low_bits():
    class Stream:
        def __init__(self, words):
            self.data = b"".join(w.to_bytes(8, "little") for w in words)

        def digest(self, length, seek):
            return self.data[seek : seek + length]

    words = [P, (1 << 64) - 1, 5, (7 << 61) | 9, 0, P - 1, *range(20)]
    with mock.patch("zkcert.core.transcript.blake3", lambda seed: Stream(words)):
        assert xof_field(b"", 4).tolist() == [5, 9, 0, P - 1]


@pytest.mark.parametrize("skipped", [0, 1, 3])
def test_one_challenge_is_the_first_of_many_also_where_p_is_skipped(monkeypatch, skipped):
    """Streams of words P, which are skipped, before the two that are taken."""
    words = [P] * skipped + [5, 9, *range(20)]

    class Stream:
        def digest(self, length, seek=0):
            return b"".join(w.to_bytes(8, "little") for w in words)[seek : seek + length]

    one, many = Transcript("p"), Transcript("p")
    monkeypatch.setattr(Transcript, "_stream", lambda self, label: b"seed")
    monkeypatch.setattr("zkcert.core.transcript.blake3", lambda seed: Stream())
    assert [one.challenge("c")] == many.challenges("c", 1) == [F(5, 9)]


@settings(deadline=None)
@given(st.lists(st.integers(-1, 4), min_size=1, max_size=40), st.integers(0, 2**32))
def test_scattered_weights_add_up_where_entries_repeat(index, seed):
    v = np.random.default_rng(seed).integers(0, P, (2, len(index)), np.uint64)
    v[:, 0] = P - 1
    wanted = [F.ZERO] * 5
    for i, weight in zip(index, ff.f_list(v), strict=True):
        if i >= 0:
            wanted[i] = wanted[i] + weight
    assert ff.f_list(scatter(v, np.array(index), 5)) == wanted


@pytest.mark.parametrize("bits", [0, 1, 5, 10])
def test_grinding_finds_what_the_check_accepts(bits):
    a, b, c = (Transcript("grind") for _ in range(3))
    nonce = grind(a, bits)
    assert b.check_grind(nonce, bits)
    assert a.state == b.state
    failing = next(n for n in range(1 << 12) if not nonce_fits(c.puzzle, n, 10))
    assert not c.check_grind(failing, 10)
    assert c.state != Transcript("grind").state  # a bad nonce is absorbed all the same


def test_query_indices_are_distinct_sorted_and_below_the_length():
    t = Transcript("indices")
    for log_n, count in ((3, 8), (12, 120), (20, 135)):
        found = t.distinct_indices("q", count, log_n)
        assert all(a < b for a, b in pairwise(found)) and len(found) == count
        assert found[0] >= 0 and found[-1] < 1 << log_n


@pytest.mark.parametrize("rate", [Fraction(1, 100), Fraction(1, 4), Fraction(3, 10), Fraction(1, 2)])
@pytest.mark.parametrize("bits", [1, 40, 103])
def test_queries_for_is_the_smallest_sufficient_number(rate, bits):
    t = queries_for(rate, bits)
    assert ((1 + rate) / 2) ** t <= Fraction(1, 1 << bits) < ((1 + rate) / 2) ** (t - 1)


def test_the_numbers_of_queries_are_those_of_the_formula():
    """Of every shape that any number of entries may get: all rows and levels."""
    for bits in range(codes.MAX_ROW_BITS + 1):
        for log_n in range(bits + 1, bits + 9):
            for length in ((1 << bits), (1 << bits) + codes.MAX_TAIL):
                if length < 1 << log_n:
                    t = queries_for(Fraction(length, 1 << log_n))
                    assert t == ceil(103 / -log2((1 + length / (1 << log_n)) / 2))
    assert pad_code(1, 1).queries == ceil(103 / -log2((1 + 2 / 16) / 2)) == 125


def test_representative_circuits_have_a_hundred_bits():
    for layout in (
        toy_layout(),
        Certificate(tiny_mlp().plan).close(Fraction(3)),
        Certificate(tiny_cnn(steps=3, batch=5).plan).close(Fraction(3)),
    ):
        assert soundness(layout).bits >= REQUIRED_BITS


def test_every_term_of_the_soundness_table_counts_and_fewer_queries_lower_it(monkeypatch):
    table = soundness(toy_layout())
    assert all(term.work < -REQUIRED_BITS for term in table.terms)
    for bad in table.terms:
        worse = replace(table, terms=tuple(replace(t, error=-50.0) if t is bad else t for t in table.terms))
        assert worse.attempt_bits < 50.1 and worse.bits < 50.1 + bad.grind, bad
    code = toy_layout().code
    deep = replace(code, below=PlainCode(6, 6, 9, 125, PlainCode(5, 4, 8, 125)))
    for strong, weak in (
        (code, replace(code, queries=code.queries // 2)),
        (deep, replace(deep, below=replace(deep.below, queries=60))),
        (deep, replace(deep, below=replace(deep.below, below=PlainCode(5, 4, 8, 60)))),
    ):
        found = []
        for shape in (strong, weak):
            layout = copy(toy_layout())
            layout.code = shape
            found.append(soundness(layout))
        assert len(found[0].terms) == len(table.terms) + 3 * (strong is deep)
        assert found[1].bits < found[0].bits - 20 and found[1].attempt_bits < found[0].attempt_bits - 20
    monkeypatch.setattr(PadCode, "queries", 70)
    assert soundness(toy_layout()).bits < table.bits - 20


def test_soundness_of_a_large_layout_stays_above_the_bar():
    layout = toy_layout()
    entries = {"digit_count": 1 << 31, "runs": [(0, 1 << 31)], "table_entries": 1 << 22}
    entries["code"] = matrix_code(1 << 31, 1 << 22)
    large = SimpleNamespace(**{**layout.__dict__, **entries})
    assert soundness(large).bits >= REQUIRED_BITS
