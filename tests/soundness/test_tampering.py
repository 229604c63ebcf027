"""Every field of proof.bin, changed, cut, extended or swapped: rejected with a typed error, quickly.

`MANIFEST` lists the fields. The verifier's reads of an accepted proof are recorded with their labels, so that a field
without an entry, or a byte nobody reads, fails a test.
"""

from __future__ import annotations

import struct
import tracemalloc
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from itertools import chain, cycle
from unittest import mock

import numpy as np
import pytest

from circuits.argument.channel import Channel
from tests.soundness.fields import (
    ARGUMENT,
    CHAIN,
    OPEN,
    WORK,
    check_of,
    join,
    judge,
    split_argument,
)
from tests.toys import (
    certified,
    drawn_proof,
    toy_proof,
    verify_drawn,
    verify_toy,
)
from verifier.verify import Expectations, verify_proof
from zkcert.core.container import MAGIC, ProofFile
from zkcert.core.field import P
from zkcert.core.proof import Reader, section
from zkcert.errors import MalformedProof, ProofRejected


@dataclass(frozen=True)
class Field:
    """A run of bytes of a proof that the verifier reads at once."""

    name: str
    start: int
    stop: int


ORDER = {
    "proof": ["roots", "messages", "opening", "pad proof"],
    "roots": ["matrix root", "pad root", "late root"],
    "opening": [
        *("proximity nonce", "root", "tails", "inner products", "query nonce"),
        *("columns", "merkle", "late columns", "late merkle"),
    ],
    "pad proof": ["proximity test", "linear test", "product test", "nonce", "columns", "merkle"],
}

LEVEL = ["rounds", "lower proximity nonce", "lower rows", "lower query nonce", "lower columns", "lower merkle"]

CONTAINER = ["header", "sample hashes", "dataset multiproof", "argument"]


def message_kind(label):
    """Messages of all constraints are alike."""
    head = label.split("/")[0]
    return head if head in ("linear", "round", "ends") else label


@contextmanager
def recorded_reads(data, container):
    """Collects the fields of `data` while the verifier reads it; `container`: it starts with the magic."""
    fields, homes, labels, alive = [], {}, [], []
    take, init, read, grind = Reader.take, Reader.__init__, Channel._read, Channel.grind
    outer = CONTAINER if container else ORDER["proof"]

    def new_init(self, content, what="proof"):
        init(self, content, what)
        alive.append(content)
        self.base = homes.get(id(content), 0)
        self.top = self.base == 0 and id(content) not in homes
        self.names = iter(ORDER.get(what, []))
        if what == "opening":
            self.names = chain(ORDER[what], cycle(LEVEL))
        if what == "proof":
            names = ["magic"] * (container and self.top)
            for name in outer if self.top else ORDER["proof"]:
                names += [f"length of {name}", name]
            self.names = iter(names)

    def new_take(self, count):
        start = self.at
        out = take(self, count)
        alive.append(out)
        homes[id(out)] = self.base + start
        name = labels[-1] if self.what == "messages" else f"{self.what}: {next(self.names)}"
        fields.append(Field(name, self.base + start, self.base + self.at))
        return out

    def labelled(original, name):
        def call(self, label, *args):
            labels.append(name(label))
            return original(self, label, *args)

        return call

    with (
        mock.patch.object(Reader, "__init__", new_init),
        mock.patch.object(Reader, "take", new_take),
        mock.patch.object(Channel, "_read", labelled(read, lambda l: f"message: {message_kind(l)}")),
        mock.patch.object(Channel, "grind", labelled(grind, lambda l: f"nonce: {l}")),
    ):
        yield fields


def leaves(fields):
    """The fields that hold no others, in order of place."""
    inner = dict.fromkeys(f for f in fields if f.stop > f.start)  # some are read twice
    starts = sorted(inner, key=lambda f: (f.start, -f.stop))
    out = []
    for f, following in zip(starts, [*starts[1:], None], strict=True):
        if following is None or following.start >= f.stop or following == f:
            out.append(f)
    return out


@cache
def certified_fields():
    data = certified().proved.data
    with recorded_reads(data, True) as fields:
        verify_proof(data, certified().model, OPEN)
    return leaves(fields)


@cache
def drawn_fields():
    with recorded_reads(drawn_proof(), False) as fields:
        verify_drawn(drawn_proof())
    return leaves(fields)


@cache
def toy_fields():
    with recorded_reads(toy_proof(), False) as fields:
        verify_toy(toy_proof())
    return leaves(fields)


# What a changed field of the container falls to.
OUTER = {
    "proof: magic": {"malformed"},
    "proof: length of header": {"malformed"},
    "proof: header": {"malformed", "dataset", "model"},  # its entries one by one: HEADER
    "proof: length of sample hashes": {"malformed"},
    "proof: sample hashes": {"dataset"},
    "proof: length of dataset multiproof": {"malformed"},
    "proof: dataset multiproof": {"dataset"},
    "proof: length of argument": {"malformed"},
}

LOWER = {f"opening/{kind}/{level}" for kind in ("proximity-nonce", "query-nonce", "merkle") for level in range(2, 6)}

# What a changed field of the argument may fall to: messages move every later challenge, so the first check that
# depends on a challenge fails; later fields are checked directly.
INNER = {
    "proof: length of roots": {"malformed"},
    "roots: matrix root": CHAIN,
    "roots: pad root": CHAIN,
    "roots: late root": CHAIN,
    "proof: length of messages": {"malformed"},
    "message: linear": CHAIN,
    "message: round": CHAIN,
    "message: ends": CHAIN,
    "nonce: alpha": CHAIN,
    "message: roots": CHAIN,
    "message: tree/digits": CHAIN,
    "message: tree-ends/digits": CHAIN,
    "message: leaves/digits": CHAIN,
    "message: tree/table": CHAIN,
    "message: tree-ends/table": CHAIN,
    "message: batch": CHAIN,
    "message: opened": {"opening/value", "opening/proximity-nonce/1"},
    "proof: length of opening": {"malformed"},
    "opening: proximity nonce": {"opening/proximity-nonce/1", "opening/query-nonce/1", "opening/merkle/1"},
    "opening: root": {"opening/query-nonce/1", "opening/merkle/1"},
    "opening: tails": {"opening/query-nonce/1", "opening/merkle/1"},
    "opening: inner products": {"opening/value"},
    "opening: query nonce": {"opening/query-nonce/1", "opening/merkle/1"},
    "opening: columns": {"opening/merkle/1"},
    "opening: merkle": {"opening/merkle/1"},
    "opening: late columns": {"opening/merkle/1"},
    "opening: late merkle": {"opening/merkle/1"},
    "opening: rounds": {"opening/claims", *LOWER},
    "opening: lower proximity nonce": LOWER,
    "opening: lower rows": {"opening/claims", *LOWER},
    "opening: lower query nonce": LOWER,
    "opening: lower columns": LOWER,
    "opening: lower merkle": LOWER,
    "proof: length of pad proof": {"malformed"},
    "pad proof: proximity test": {"pads/nonce", "pads/merkle"},
    "pad proof: linear test": {"hidden-equations", "pads/nonce", "pads/merkle"},
    "pad proof: product test": {"pads/products", "pads/nonce", "pads/merkle"},
    "pad proof: nonce": {"pads/nonce", "pads/merkle"},
    "pad proof: columns": {"pads/merkle"},
    "pad proof: merkle": {"pads/merkle"},
}

# Of a circuit with congruences only.
WEIGHTS = {"nonce: weights": CHAIN}

MANIFEST = {**OUTER, **INNER}


def test_every_byte_of_a_proof_belongs_to_a_listed_field():
    data, fields = certified().proved.data, certified_fields()
    assert sum(f.stop - f.start for f in fields) == len(data)
    assert [f.start for f in fields] == [0, *(f.stop for f in fields[:-1])]
    assert {f.name for f in fields} == set(MANIFEST)


def test_toy_proofs_have_the_fields_of_an_argument():
    fields = toy_fields()
    assert sum(f.stop - f.start for f in fields) == len(toy_proof())
    assert {f.name for f in fields} == set(INNER)


def test_proofs_of_congruences_have_a_nonce_before_their_weights():
    fields = drawn_fields()
    assert sum(f.stop - f.start for f in fields) == len(drawn_proof())
    assert {f.name for f in fields} == {*INNER, *WEIGHTS}
    first = next(f for f in fields if f.name.startswith(("message: ", "nonce: ")))
    assert first.name == "nonce: weights" and [f.name for f in fields].count(first.name) == 1


@pytest.mark.parametrize("name", [*WEIGHTS, "roots: matrix root", "roots: late root", "message: linear"])
def test_a_changed_field_of_a_proof_of_congruences_is_rejected(name):
    field = next(f for f in drawn_fields() if f.name == name)
    for at in places(field):
        assert check_of(verify_drawn, flipped(drawn_proof(), at)) in {**INNER, **WEIGHTS}[name]


def test_a_proof_of_congruences_without_the_nonce_before_its_weights_is_malformed():
    parts = split_argument(drawn_proof())
    assert check_of(verify_drawn, join([parts[0], parts[1][8:], *parts[2:]])) == "malformed"
    parts = split_argument(toy_proof())
    assert check_of(verify_toy, join([parts[0], bytes(8) + parts[1], *parts[2:]])) == "malformed"


def flipped(data, at):
    """Lowest bit of one byte flipped; at the low end of a word this keeps a field element canonical."""
    out = bytearray(data)
    out[at] ^= 1
    return bytes(out)


def places(field):
    """First, middle and last eight-byte word of a field."""
    words = max(1, (field.stop - field.start) // 8)
    return sorted({field.start + 8 * i for i in (0, words // 2, words - 1)})


@pytest.mark.parametrize("name", INNER)
def test_a_changed_field_of_the_argument_is_rejected(name):
    fields = [f for f in toy_fields() if f.name == name]
    chosen = {fields[0], fields[len(fields) // 2], fields[-1]}
    for at in sorted({p for f in chosen for p in places(f)}):
        assert check_of(verify_toy, flipped(toy_proof(), at)) in INNER[name]


@pytest.mark.parametrize("name", OUTER)
def test_a_changed_field_of_the_container_is_rejected(name):
    (field,) = [f for f in certified_fields() if f.name == name]
    for at in places(field):
        assert judge(flipped(certified().proved.data, at)) in OUTER[name]


@pytest.mark.parametrize("name", ["roots: pad root", "message: ends", "opening: merkle", "pad proof: columns"])
def test_a_changed_field_of_a_certificate_is_rejected(name):
    field = [f for f in certified_fields() if f.name == name][-1]
    assert judge(flipped(certified().proved.data, places(field)[-1])) in INNER[name]


@pytest.mark.parametrize(("name", "rows"), [("tails", 3), ("inner products", 2), ("lower rows", 2)])
def test_each_combined_row_is_checked(name, rows):
    (field,) = [f for f in toy_fields() if f.name == f"opening: {name}"]
    length = (field.stop - field.start) // rows
    for row in range(rows):
        for at in (field.start + row * length, field.start + (row + 1) * length - 16):
            assert check_of(verify_toy, flipped(toy_proof(), at)) in INNER[field.name]


def test_residues_that_are_not_canonical_are_malformed():
    names = ("tails", "inner products", "columns", "rounds", "lower rows", "lower columns")
    for name in ("message: batch", "pad proof: linear test", *(f"opening: {name}" for name in names)):
        field = next(f for f in toy_fields() if f.name == name)
        for value in (P, (1 << 64) - 1):
            data = bytearray(toy_proof())
            data[field.start : field.start + 8] = value.to_bytes(8, "little")
            assert check_of(verify_toy, bytes(data)) == "malformed"
    data = bytearray(certified().proved.data)
    field = next(f for f in certified_fields() if f.name == "proof: sample hashes")
    data[field.start : field.start + 8] = P.to_bytes(8, "little")
    assert judge(bytes(data)) == "malformed"


def test_a_rejection_carries_what_it_compared():
    (field,) = [f for f in toy_fields() if f.name == "opening: inner products"]
    with pytest.raises(ProofRejected) as caught:
        verify_toy(flipped(toy_proof(), field.start))
    assert caught.value.check == "opening/value"
    assert set(caught.value.values) == {"found", "revealed"} and len(set(caught.value.values.values())) == 2
    with pytest.raises(ProofRejected) as caught:
        verify_proof(certified().proved.data, certified().model, Expectations(Fraction(1, 7)))
    assert caught.value.values == {"proved": certified().statement.tau, "asked": Fraction(1, 7)}


def test_a_malformed_proof_says_where():
    (field,) = [f for f in toy_fields() if f.name == "opening: tails"]
    data = bytearray(toy_proof())
    data[field.start : field.start + 8] = P.to_bytes(8, "little")
    with pytest.raises(MalformedProof, match="opening: non-canonical") as caught:
        verify_toy(bytes(data))
    first = next(f for f in toy_fields() if f.name.startswith("opening: "))
    assert (caught.value.section, caught.value.offset) == ("opening", field.stop - first.start)
    with pytest.raises(MalformedProof) as caught:
        verify_proof(b"no proof", certified().model, OPEN)
    assert (caught.value.section, caught.value.offset) == ("proof", 0)


def test_random_changes_anywhere_are_rejected():
    rng = np.random.default_rng(5)
    for _ in range(25):
        data = bytearray(toy_proof())
        for at in rng.integers(0, len(data), int(rng.integers(1, 4))):
            data[at] ^= int(rng.integers(1, 256))
        check_of(verify_toy, bytes(data))


def test_truncated_certificates_are_malformed():
    data = certified().proved.data
    ends = {f.stop for f in certified_fields()[:10]} | {f.start for f in certified_fields()[-10:]}
    cuts = {0, 1, 15, 16, 20, *ends, *range(0, len(data), len(data) // 150)}
    for cut in sorted(c for c in cuts if c < len(data)):
        assert judge(data[:cut]) == "malformed"


def test_extended_certificates_are_malformed():
    data = certified().proved.data
    for tail in (b"\0", b"\0" * 8, section(b""), data):
        assert judge(data + tail) == "malformed"


@pytest.mark.parametrize("which", range(4), ids=ARGUMENT)
def test_sections_of_another_length_are_rejected(which):
    parts = split_argument(toy_proof())
    full = parts[which]
    fine = range(0, len(full), max(1, len(full) // 12))
    for cut in sorted({*fine, len(full) - 1, len(full) - 16, len(full) - 32} - {len(full)}):
        changed = [*parts]
        changed[which] = full[:cut]
        assert check_of(verify_toy, join(changed)) in {
            "malformed",
            "opening/merkle/1",
            *LOWER,
            "pads/merkle",
        }
    for tail in (b"\0", bytes(16), bytes(32)):
        changed = [*parts]
        changed[which] = full + tail
        assert check_of(verify_toy, join(changed)) in {
            "malformed",
            *WORK,
            "opening/merkle/1",
            *LOWER,
            "pads/merkle",
        }
    changed = [*parts]
    changed[which] = b""
    check_of(verify_toy, join(changed))


def test_trailing_sections_are_malformed():
    assert check_of(verify_toy, toy_proof() + section(b"")) == "malformed"
    assert check_of(verify_toy, toy_proof() + b"\0") == "malformed"


@pytest.mark.parametrize("size", [1 << 16, 1 << 31, 1 << 62, (1 << 64) - 1])
def test_lengths_beyond_the_data_are_malformed_before_anything_is_allocated(size):
    data = certified().proved.data
    parts = [f for f in certified_fields() if f.name.startswith("proof: length of")][:4]
    tracemalloc.start()
    try:
        for field in parts:
            changed = data[: field.start] + struct.pack("<Q", size) + data[field.stop : field.stop + 100]
            assert judge(changed) == "malformed"
        assert tracemalloc.get_traced_memory()[1] < 1 << 24
    finally:
        tracemalloc.stop()


def test_random_bytes_are_malformed():
    rng = np.random.default_rng(6)
    for size in (0, 1, 15, 16, 17, 100, 5000):
        noise = rng.bytes(size)
        assert judge(noise) == "malformed"
        assert judge(MAGIC + noise) == "malformed"
        check_of(verify_toy, noise)
    file = ProofFile.parse(certified().proved.data)
    assert judge(replace(file, argument=rng.bytes(1000)).to_bytes()) == "malformed"
    assert judge(replace(file, argument=b"").to_bytes()) == "malformed"
    assert judge(replace(file, multiproof=rng.bytes(len(file.multiproof))).to_bytes()) == "dataset"
    assert judge(replace(file, header=rng.bytes(300)).to_bytes()) == "malformed"


@pytest.mark.parametrize(
    ("version", "words"),
    [
        (b"2", "format 2; this zkcert reads format 5 .zkcert at commit [0-9a-f]+ reads it, or have it proved again"),
        (b"3", "format 3; this zkcert reads format 5 .zkcert at commit [0-9a-f]+ reads it, or have it proved again"),
        (b"4", "format 4; this zkcert reads format 5 .zkcert at commit [0-9a-f]+ reads it, or have it proved again"),
        (b"6", "newer zkcert"),
        (b"x", "not a zkcert"),
    ],
)
def test_a_proof_of_another_version_is_refused_by_its_version(version, words):
    data = certified().proved.data
    changed = data[: len(b"zkcert proof ")] + version + data[len(b"zkcert proof ") + 1 :]
    with pytest.raises(MalformedProof, match=words):
        ProofFile.parse(changed)
    assert judge(changed) == "malformed"
