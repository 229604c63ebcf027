"""What goes through the channel, and where randomness comes from."""

from __future__ import annotations

from unittest import mock

import numpy as np

from circuits.argument.channel import Tape
from prover.channel import Pads, ProverChannel
from prover.commit import MatrixCommitment, UnluckyMasks
from tests.hiding.views import (
    columns_at,
    message_elements,
    sections,
)
from tests.toys import (
    prove_toy,
    random_fs,
    toy_layout,
    toy_proof,
    toy_witness,
    verify_toy,
)
from verifier import opening
from zkcert.core import field as ff
from zkcert.core.field import F, f_array
from zkcert.core.transcript import Transcript, xof_field


def test_messages_on_a_small_tape_fit_any_values_that_satisfy_the_equations():
    """a b = c and a + 2 b = d: for other values there are pads with the same messages and the same collapsed form."""
    rng = np.random.default_rng(1)
    pads = Pads.draw(bytes(32), 2, 1)

    def conversation(a, b, pads):
        ch = ProverChannel(Transcript("small"), pads, strict=True)
        c, d = ch.send("sums", [a * b, a + 2 * b], 2)
        ((na, nb, ab),) = ch.send_pairs("pair", [(a, b)], 1)
        ch.assert_zero(ch.tape.linear([(F.ONE, ab), (F(-1), c)]), "product")
        ch.assert_zero(ch.tape.linear([(F.ONE, na), (F(2), nb), (F(-1), d)]), "sum")
        return ch

    a, b = random_fs(rng, 2)
    first = conversation(a, b, pads)
    messages = ff.f_list(ff.f_from_bytes(bytes(first.messages)))
    a2, b2 = random_fs(rng, 2)
    values = [a2 * b2, a2 + 2 * b2, a2, b2]
    s1, s2, x, y = (m - v for m, v in zip(messages, values, strict=True))
    one = lambda *v: f_array(v)  # noqa: E731
    other = Pads(one(s1, s2), one(x), one(y), one(x * y))
    second = conversation(a2, b2, other)
    assert second.messages == first.messages
    weights = random_fs(rng, 2)
    for ch, p in ((first, pads), (second, other)):
        form = ch.tape.collapse(weights)
        parts = zip(form.parts, (p.singles, p.x, p.y, p.z), strict=True)
        assert sum((ff.f_dot(u, v) for u, v in parts), form.const) == 0
    one_form, other_form = first.tape.collapse(weights), second.tape.collapse(weights)
    assert one_form.const == other_form.const and np.array_equal(one_form.parts[0], other_form.parts[0])


def test_each_pad_is_used_once():
    received = []
    single, pair = Tape.receive, Tape.receive_pair

    def receive(self, message):
        received.append(("s", self.singles))
        return single(self, message)

    def receive_pair(self, ma, mb):
        received.append(("xyz", self.triples))
        return pair(self, ma, mb)

    masked, drawn = [], []
    draw = Pads.draw
    write = ProverChannel._write

    def log(self, label, values):
        masked.extend((label, v) for v in values)
        write(self, label, values)

    def remember(*args):
        drawn.append(draw(*args))
        return drawn[-1]

    with (
        mock.patch.object(Tape, "receive", receive),
        mock.patch.object(Tape, "receive_pair", receive_pair),
        mock.patch.object(ProverChannel, "_write", log),
        mock.patch.object(Pads, "draw", remember),
    ):
        prove_toy()
    (pads,) = drawn
    singles = [i for kind, i in received if kind == "s"]
    pairs = [i for kind, i in received if kind == "xyz"]
    assert singles == list(range(pads.singles.shape[1]))
    assert pairs == list(range(pads.x.shape[1]))
    assert len(masked) == len(singles) + 2 * len(pairs) + 1  # the opened value alone is sent as it is
    assert [label for label, _ in masked].count("opened") == 1
    every = [v for part in (pads.singles, pads.x, pads.y, pads.z) for v in ff.f_list(part)]
    assert len(set(every)) == len(every)


def test_a_message_is_its_value_plus_its_pad():
    """The values behind the messages, recovered with the pads, are those the oracle gave."""
    values, channels = [], []
    init, send, send_pairs = ProverChannel.__init__, ProverChannel.send, ProverChannel.send_pairs

    def new_init(self, transcript, pads, *args):
        init(self, transcript, pads, *args)
        channels.append((self, pads))

    def new_send(self, label, given, count):
        values.extend(given)
        return send(self, label, given, count)

    def new_pairs(self, label, given, count):
        values.extend(v for pair in given for v in pair)
        return send_pairs(self, label, given, count)

    with (
        mock.patch.object(ProverChannel, "__init__", new_init),
        mock.patch.object(ProverChannel, "send", new_send),
        mock.patch.object(ProverChannel, "send_pairs", new_pairs),
    ):
        proof = prove_toy()
    messages = message_elements(proof)[:-1]
    assert len(messages) == len(values)
    differences = [m - v for m, v in zip(messages, values, strict=True)]
    ((_, pads),) = channels
    pools = [v for part in (pads.singles, pads.x, pads.y) for v in ff.f_list(part)]
    assert sorted(map(hash, differences)) == sorted(map(hash, pools))
    assert not set(messages) & {v for v in values if v != 0}


def test_two_proofs_of_one_statement_and_witness_share_nothing():
    first, second = sections(toy_proof()), sections(prove_toy())
    a, b = message_elements(toy_proof()), message_elements(join(second))
    assert len(a) == len(b) and not any(u == v for u, v in zip(a, b, strict=True))
    assert not set(a) & set(b)
    code = toy_layout().code
    start = columns_at(code)
    rows = [ff.f_list(ff.f_from_bytes(s[2][40 : start - 8])) for s in (first, second)]  # tails, inner products
    assert not set(rows[0]) & set(rows[1])
    columns = [set(ff.f_list(shown.reshape(2, -1))) for shown in map(columns_of, (toy_proof(), join(second)))]
    assert len(columns[0]) == code.queries * code.rows
    assert not columns[0] & columns[1]
    tests = [set(ff.f_list(ff.f_from_bytes(s[3][: 16 * 5 * 256]))) for s in (first, second)]
    assert not tests[0] & tests[1]
    assert all(first[0][i : i + 32] != second[0][i : i + 32] for i in (0, 32, 64))


def columns_of(proof):
    """All columns of the matrix that a proof of the toy shows (2, t, rows)."""
    seen, original = [], opening.open_columns

    def note(reader, transcript, level, *args):
        out = original(reader, transcript, level, *args)
        seen.append(out[1])
        return out

    with mock.patch.object(opening, "open_columns", note):
        verify_toy(proof)
    return seen[0]


def join(parts):
    return b"".join(len(p).to_bytes(8, "little") + p for p in parts)


def test_every_attempt_draws_one_secret_and_nothing_else_is_random():
    tokens = iter([bytes([1]) * 32, bytes([2]) * 32, bytes([1]) * 32])
    asked = []

    def token_bytes(count):
        asked.append(count)
        return next(tokens)

    with mock.patch("prover.checkpoint.secrets.token_bytes", token_bytes):
        proofs = [prove_toy() for _ in range(3)]
    assert asked == [32, 32, 32]
    assert proofs[0] == proofs[2] != proofs[1]


def test_dependent_masks_mean_another_attempt_with_another_secret():
    opened, secrets = MatrixCommitment.open, []
    commit = MatrixCommitment.commit

    def remember(self, x, secret, *args):
        secrets.append(secret)
        return commit(self, x, secret, *args)

    def unlucky(self, t, z):
        if len(secrets) < 6:  # two parts each time
            raise UnluckyMasks
        return opened(self, t, z)

    with (
        mock.patch.object(MatrixCommitment, "commit", remember),
        mock.patch.object(MatrixCommitment, "open", unlucky),
    ):
        verify_toy(prove_toy())
    assert len(set(secrets)) == len(secrets) == 6


def seeds_of(prove, token):
    """The seeds of all random streams of a proof, by label; token: the attempt's secret."""
    seeds = []

    def note(seed, count):
        seeds.append(seed)
        return xof_field(seed, count)

    with (
        mock.patch("prover.checkpoint.secrets.token_bytes", lambda size: token),
        mock.patch("prover.commit.xof_field", note),
        mock.patch("prover.pads.xof_field", note),
        mock.patch("prover.channel.xof_field", note),
    ):
        prove()
    assert len({seed[:-32] for seed in seeds}) == len(seeds)
    return {seed[:-32]: seed[-32:] for seed in seeds}


def test_masks_pads_and_pad_rows_come_from_separate_streams():
    seeds = seeds_of(prove_toy, bytes(32))
    late = seeds.pop(b"zkcert/masks/1")
    assert set(seeds) == {b"zkcert/masks", b"zkcert/pads", b"zkcert/pad-rows"}
    assert len(set(seeds.values())) == 1 and late not in seeds.values()


def test_the_tails_of_the_late_part_follow_what_was_drawn_before_it():
    """Even a secret that is used again gives it other tails and masks where the first part is another one."""
    same = [seeds_of(prove_toy, bytes(32)) for _ in range(2)]
    other, secret = seeds_of(lambda: prove_toy(toy_witness(1)), bytes(32)), seeds_of(prove_toy, bytes([1]) * 32)
    assert same[0] == same[1]
    assert other[b"zkcert/masks/1"] != same[0][b"zkcert/masks/1"]
    assert not set(secret.values()) & set(same[0].values())
