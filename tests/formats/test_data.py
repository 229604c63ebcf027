"""The encoding of samples, and commitment files that fail cleanly when touched."""

from __future__ import annotations

import json
import re
import stat
import struct
from fractions import Fraction

import numpy as np
import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.formats.datasets import (
    FLOATS,
    X,
    Y,
    save,
)
from tests.independent.errors import Reject
from tests.independent.statement import check_schema
from zkcert.core.merkle import leaf_digest, verify_multiproof
from zkcert.core.permutation import sample_indices
from zkcert.core.sis import RHO, ROWS
from zkcert.core.tree import MerkleTree
from zkcert.data import coding
from zkcert.data import committed as data
from zkcert.data.committed import CommittedDataset, commit
from zkcert.data.hashing import hash_samples
from zkcert.errors import UnusableInput
from zkcert.files.saving import save_root
from zkcert.files.writing import Output, replacing
from zkcert.public.kinds import ROOT
from zkcert.public.root import DatasetRoot, Schema, leaf_digests


def test_schema_is_canonical_json():
    schema = Schema(10, "u8", (1, 28, 28))
    assert schema.to_bytes() == b'{"classes":10,"kind":"u8","label_bytes":1,"shape":[1,28,28]}'
    assert coding.sample_size(schema) == 785
    assert coding.sample_size(Schema(257, "q32", (1, 2, 3))) == 38
    assert Schema.from_dict(json.loads(schema.to_bytes())) == schema


@pytest.mark.parametrize(
    "change",
    [
        {"classes": 0},
        {"classes": True},
        {"classes": 65_537},
        {"classes": "10"},
        {"kind": "f32"},
        {"kind": ["u8"]},
        {"label_bytes": 2},
        {"label_bytes": True},
        {"shape": [28, 28]},
        {"shape": [1, 28, 0]},
        {"shape": [1, 28, 28.0]},
        {"shape": [1 << 10, 1 << 10, 1 << 10]},
        {"shape": None},
        {"more": 1},
        {"names": []},
        {"names": None},
        {"names": [str(i) for i in range(9)]},
        {"names": ["a"] * 10},
        {"names": [*"abcdefghi", 1]},
        {"names": [*"abcdefghi", ""]},
        {"names": [*"abcdefghi", " j"]},
        {"names": [*"abcdefghi", "j\xa0"]},
        {"names": [*"abcdefghi", "j\n"]},
        {"names": [*"abcdefghi", "j\x9b"]},
        {"names": [*"abcdefghi", "\ud800"]},
        {"names": [*"abcdefghi", "j" * 201]},
        {"classes": 950, "label_bytes": 2, "names": ["é" * 8 + str(i) for i in range(950)]},
    ],
)
def test_other_schemas_are_refused(change):
    value = {**Schema(10, "u8", (1, 28, 28)).to_dict(), **change}
    with pytest.raises(ValueError, match=r"."):
        Schema.from_dict(value)
    with pytest.raises(Reject):
        check_schema(value)
    with pytest.raises(ValueError, match="has the keys"):
        Schema.from_dict([])


def test_names_of_classes_are_part_of_the_schema_and_of_its_digest():
    plain, named = (Schema(3, "u8", (1, 2, 2), names) for names in ((), ("cat", "Ärmel \U0001f600", "'\\\"")))
    text = b'"names":["cat","\\u00c4rmel \\ud83d\\ude00","\'\\\\\\""],'
    assert named.to_bytes() == plain.to_bytes().replace(b'"shape"', text + b'"shape"')
    for schema in (plain, named):
        assert Schema.from_dict(json.loads(schema.to_bytes())) == schema
        assert check_schema(schema.to_dict()) == schema.to_dict()
    assert DatasetRoot(bytes(32), 3, named).commitment_digest() != DatasetRoot(bytes(32), 3, plain).commitment_digest()
    assert (plain.classes_text(), named.classes_text()) == ("3 classes", "3 classes: cat, Ärmel \U0001f600, '\\\"")


def test_bytes_are_encoded_as_described():
    schema = Schema(300, "u8", (2, 3, 4))
    y = np.array([0, 1, 255, 256, 257, 299, 2])
    encoded = coding.encode(schema, X, y)
    assert encoded.dtype == np.uint8 and encoded.shape == (7, 26)
    for row, sample, label in zip(encoded, X, y, strict=True):
        assert row.tobytes() == sample.tobytes() + int(label).to_bytes(2, "little")
    assert (coding.images(schema, encoded) == X).all() and (coding.labels(schema, encoded) == y).all()


EDGES = [0.0, -0.0, 2.0**-33, -(2.0**-33), 0.5 - 2.0**-25, 2048 - 2.0**-13, -(2048 - 2.0**-13), 1e-40, -1e-40]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(-2047, 2047, width=32) | st.floats(-(2.0**-20), 2.0**-20, width=32), max_size=8))
def test_floats_are_rounded_exactly(values):
    values = np.array(EDGES + values, np.float32)
    schema = Schema(2, "q32", (1, 1, len(values)))
    encoded = coding.encode(schema, values.reshape(1, 1, 1, -1), np.array([1]))
    expected = [(Fraction(float(v)) * 2**32 + Fraction(1, 2)).__floor__() for v in values]
    assert encoded.tobytes() == b"".join((q + 2**43).to_bytes(6, "little") for q in expected) + b"\1"
    images = coding.images(schema, encoded)
    assert images.dtype == np.float64 and images.shape == (1, 1, 1, len(values))
    assert [Fraction(v) for v in images.ravel()] == [Fraction(q, 2**32) for q in expected]


@pytest.fixture(scope="module", params=["u8", "q32"])
def committed(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("committed")
    x, y = (X, Y) if request.param == "u8" else (FLOATS, Y[:5])
    root = commit(save(folder / "d.npz", x, y), folder / "data.zkd", keep_order=True)
    return folder / "data.zkd", root, x, y


def test_opening_gives_back_what_was_committed(committed):
    path, root, x, y = committed
    opened = CommittedDataset.open(path)
    assert opened.root == root == DatasetRoot.load(path.with_suffix(".root"))
    assert (opened.n, opened.schema) == (len(x), root.schema)
    rows = [4, 0, 3, 3]
    assert (opened.labels(rows) == y[rows]).all()
    assert np.abs(opened.images(rows) - x[rows].astype(float)).max() <= 2.0**-33
    samples = opened.sample_bytes(np.array(rows))
    assert type(samples) is np.ndarray and (samples == coding.encode(root.schema, x, y)[rows]).all()
    rho, hashes = opened.rho(rows), opened.sample_hashes(rows)
    assert rho.shape == (4, RHO) and len(np.unique(rho, axis=0)) == 3
    assert hashes.shape == (4, ROWS) and (hashes == hash_samples(samples, rho)).all()


def test_opened_samples_verify_against_the_root(committed):
    path, root, *_ = committed
    opened, rows = CommittedDataset.open(path), [0, 2, 4]
    leaves = leaf_digests(rows, opened.sample_hashes(rows))
    proof = opened.multiproof([4, 0, 2])
    assert verify_multiproof(root.root, root.n, rows, leaves, proof, b"dataset")
    assert not verify_multiproof(root.root, root.n, [0, 1, 4], leaves, proof, b"dataset")
    first = opened.sample_hashes([2])[0]
    encoded = b"".join(int(c).to_bytes(8, "little") for c in first)
    assert leaves[1].tobytes() == leaf_digest(b"dataset", 2, encoded)


def test_no_rows_and_wrong_rows(committed):
    opened = CommittedDataset.open(committed[0])
    assert opened.sample_bytes([]).shape == (0, coding.sample_size(opened.schema))
    assert opened.rho([]).shape == (0, RHO) and opened.sample_hashes([]).shape == (0, ROWS)
    assert leaf_digests([], opened.sample_hashes([])).shape == (0, 32)
    for rows in ([-1], [opened.n], [0, 1 << 70]):
        for method in (
            opened.sample_bytes,
            opened.rho,
            opened.labels,
            opened.sample_hashes,
            opened.multiproof,
        ):
            with pytest.raises(ValueError, match="within"):
                method(rows)


def test_files_follow_the_description(tmp_path, monkeypatch):
    """The layout, rebuilt by hand, and a frozen root: a change of format fails here."""
    monkeypatch.setattr(data.secrets, "token_bytes", lambda n: bytes(range(n)))
    x, y = np.arange(12, dtype=np.uint8).reshape(3, 1, 2, 2), np.array([1, 0, 2])
    root = commit(save(tmp_path / "d.npz", x, y), tmp_path / "data.zkd", keep_order=True)
    seed, schema = bytes(range(32)), b'{"classes":3,"kind":"u8","label_bytes":1,"shape":[1,2,2]}'
    samples = [bytes(range(4 * i, 4 * i + 4)) + bytes([y[i]]) for i in range(3)]
    leaves = []
    for i, sample in enumerate(samples):
        rho = blake3(b"zkcert/data/rho/1" + i.to_bytes(8, "little"), key=seed).digest(1280)
        c = hash_samples(np.frombuffer(sample, np.uint8)[None], np.frombuffer(rho, np.uint8)[None])
        leaves.append(leaf_digest(b"dataset", i, c.astype("<u8").tobytes()))
    body = b"zkcert-d" + struct.pack("<II", 1, len(schema)) + schema + struct.pack("<Q", 3) + seed
    body += b"".join(samples) + b"".join(leaves)
    assert (tmp_path / "data.zkd").read_bytes() == body + blake3(body).digest()
    assert root.root == MerkleTree(np.frombuffer(b"".join(leaves), np.uint8).reshape(3, 32), b"dataset").root
    assert json.loads((tmp_path / "data.root").read_text()) == {
        "format": "zkcert-root-1",
        "root": "313b5d4de85396b41ccdac951ea97aa0c994f54c22aa9dce0569003605be5bc7",
        "N": 3,
        "schema": json.loads(schema),
    }
    statement = len(schema).to_bytes(4, "little") + schema + (3).to_bytes(8, "little") + root.root
    assert root.commitment_digest() == blake3(b"zkcert/data/commitment/1" + statement).digest()


def test_every_part_of_a_root_changes_the_digest():
    schema = Schema(10, "u8", (1, 2, 3))
    roots = [
        DatasetRoot(bytes(32), 5, schema),
        DatasetRoot(bytes(31) + b"\1", 5, schema),
        DatasetRoot(bytes(32), 6, schema),
        DatasetRoot(bytes(32), 5, Schema(11, "u8", (1, 2, 3))),
        DatasetRoot(bytes(32), 5, Schema(10, "q32", (1, 2, 3))),
        DatasetRoot(bytes(32), 5, Schema(10, "u8", (1, 3, 2))),
    ]
    assert len({root.commitment_digest() for root in roots}) == len(roots)


def test_samples_are_shuffled_by_a_secret_permutation(tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (50, 1, 2, 2), np.uint8), np.arange(50)
    orders = []
    for name in ("a", "b"):
        commit(save(tmp_path / "d.npz", x, y), tmp_path / f"{name}.zkd")
        opened = CommittedDataset.open(tmp_path / f"{name}.zkd")
        order = opened.labels(range(50)).tolist()  # label i marks the source's sample i
        seed = (tmp_path / f"{name}.zkd").read_bytes()
        start = seed.index(b"}") + 9
        key = blake3(b"zkcert/data/order/1", key=seed[start : start + 32]).digest()
        assert order == sample_indices(key, 50, 50)
        assert (opened.images(range(50)) == x[order]).all()
        orders.append(order)
    assert orders[0] != orders[1] and sorted(orders[0]) == list(range(50)) != orders[0]


def test_committing_twice_gives_unrelated_roots(tmp_path):
    source = save(tmp_path / "d.npz")
    first = commit(source, tmp_path / "a.zkd")
    second = commit(source, tmp_path / "b.zkd")
    assert first.root != second.root and first.schema == second.schema
    assert first == CommittedDataset.open(tmp_path / "a.zkd").root


def test_several_chunks_equal_one(tmp_path, monkeypatch):
    monkeypatch.setattr(data.secrets, "token_bytes", bytes)
    source, calls = save(tmp_path / "d.npz"), []
    whole = commit(source, tmp_path / "a.zkd")
    monkeypatch.setattr(data, "_CHUNK", 3)
    assert commit(source, tmp_path / "b.zkd", progress=lambda *call: calls.append(call)) == whole
    assert calls == [(3, 7), (6, 7), (7, 7)]
    assert (tmp_path / "a.zkd").read_bytes() == (tmp_path / "b.zkd").read_bytes()


def test_classes_can_exceed_the_labels(tmp_path):
    source = save(tmp_path / "d.npz")
    assert commit(source, tmp_path / "a.zkd").schema == Schema(4, "u8", (2, 3, 4))
    assert commit(source, tmp_path / "b.zkd", classes=300, keep_order=True).schema.label_bytes == 2
    assert (CommittedDataset.open(tmp_path / "b.zkd").labels(range(7)) == Y).all()
    for classes in (3, 0, -1, 65_537):
        with pytest.raises(UnusableInput, match=f"labels up to 3 do not fit {classes} classes"):
            commit(source, tmp_path / "c.zkd", classes=classes)


def test_the_secret_file_is_private_and_the_root_is_not(committed):
    assert stat.S_IMODE(committed[0].stat().st_mode) == 0o600
    assert stat.S_IMODE(committed[0].with_suffix(".root").stat().st_mode) & 0o400


def test_unwritable_outputs_are_refused(tmp_path):
    source = save(tmp_path / "d.npz")
    with pytest.raises(UnusableInput, match="must end in"):
        commit(source, tmp_path / "data")
    with pytest.raises(UnusableInput, match="not a file in an existing directory"):
        commit(source, tmp_path / "missing" / "data.zkd")
    (tmp_path / "data.zkd").mkdir()
    with pytest.raises(UnusableInput, match="is a directory"):
        commit(source, tmp_path / "data.zkd")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["d.npz", "data.zkd"]


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_an_interrupted_commit_leaves_the_old_files(tmp_path):
    source = save(tmp_path / "d.npz")
    old = DatasetRoot(bytes(32), 3, Schema(2, "u8", (1, 2, 2)))
    save_root(old, tmp_path / "data.root")
    with pytest.raises(KeyboardInterrupt):
        commit(source, tmp_path / "data.zkd", force=True, progress=interrupt)
    assert DatasetRoot.load(tmp_path / "data.root") == old
    assert sorted(p.name for p in tmp_path.iterdir()) == ["d.npz", "data.root"]


def test_a_commit_interrupted_between_its_two_files_leaves_none(tmp_path, monkeypatch):
    source = save(tmp_path / "d.npz")
    publish = Output.publish

    def interrupted(self):
        if self.kind == ROOT:
            assert (tmp_path / "data.zkd").exists()
            raise KeyboardInterrupt
        publish(self)

    monkeypatch.setattr(Output, "publish", interrupted)
    with pytest.raises(KeyboardInterrupt):
        commit(source, tmp_path / "data.zkd")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["d.npz"]


def test_truncated_or_extended_files_are_refused(committed, tmp_path):
    content, path = committed[0].read_bytes(), tmp_path / "bad.zkd"
    for bad in [content[:k] for k in range(len(content))] + [content + b"\0", content + content[-32:]]:
        path.write_bytes(bad)
        with pytest.raises(UnusableInput, match="not a usable committed dataset"):
            CommittedDataset.open(path)


def test_a_flipped_bit_anywhere_is_refused(committed, tmp_path):
    content, path = committed[0].read_bytes(), tmp_path / "bad.zkd"
    for i in range(len(content)):
        bad = bytearray(content)
        bad[i] ^= 1 << i % 8
        path.write_bytes(bad)
        with pytest.raises(UnusableInput, match="not a usable committed dataset"):
            CommittedDataset.open(path)


def resealed(content: bytes) -> bytes:
    return content[:-32] + blake3(content[:-32]).digest()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"zkcert-d", b"zkcert-e", "another format"),
        (b"zkcert-d\1", b"zkcert-d\2", "version 2 is not supported"),
        (b'"kind":"u8"', b'"kind":"u9"', "kind must be"),
        (b'{"classes":4,', b'{"classes":5,', None),
        (b'{"classes":4,"k', b'{"classes":04,"', "."),
        (b'"classes":4,', b'"classes":0,', "classes"),
        (b"[2,3,4]", b"[2,4,3]", None),
        (b"[2,3,4]", b"[2,3,5]", "size does not fit"),
        (b"[2,3,4]", b"[4,3 2]", "."),
        (b'"kind":"u8","label_bytes":1', b'"label_bytes":1,"kind":"u8"', "not canonical"),
        (b"}" + (7).to_bytes(8, "little"), b"}" + (6).to_bytes(8, "little"), "size does not fit"),
        (b"}" + (7).to_bytes(8, "little"), b"}" + b"\xff" * 8, "size does not fit"),
        (b"}" + (7).to_bytes(8, "little"), b"}" + bytes(8), "size does not fit"),
    ],
)
def test_forged_headers_are_refused(tmp_path, old, new, message):
    """Also under a right checksum; a different but consistent schema is what the file says it is."""
    commit(save(tmp_path / "d.npz"), tmp_path / "data.zkd")
    content = (tmp_path / "data.zkd").read_bytes()
    assert content.count(old) == 1 and len(old) == len(new)
    (tmp_path / "data.zkd").write_bytes(resealed(content.replace(old, new)))
    if message is None:
        assert CommittedDataset.open(tmp_path / "data.zkd").n == 7
        return
    with pytest.raises(UnusableInput, match=message):
        CommittedDataset.open(tmp_path / "data.zkd")


def test_unreadable_commitments_are_refused(tmp_path):
    for open_file in (CommittedDataset.open, DatasetRoot.load):
        with pytest.raises(UnusableInput, match="No such file"):
            open_file(tmp_path / "missing")
        with pytest.raises(UnusableInput):
            open_file(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"format": "zkcert-root-2"},
        {"N": 0},
        {"N": True},
        {"N": 3.0},
        {"N": 1 << 41},
        {"root": "00" * 31},
        {"root": "AB" * 32},
        {"root": 5},
        {"schema": {}},
        {"schema": None},
        {"more": 1},
    ],
)
def test_other_roots_are_refused(tmp_path, change):
    content = {
        "format": "zkcert-root-1",
        "root": "ab" * 32,
        "N": 3,
        "schema": Schema(10, "u8", (1, 2, 3)).to_dict(),
    }
    path = tmp_path / "data.root"
    path.write_text(json.dumps(content, sort_keys=True) + "\n")
    assert DatasetRoot.load(path) == DatasetRoot(bytes.fromhex("ab" * 32), 3, Schema(10, "u8", (1, 2, 3)))
    path.write_text(json.dumps({**content, **change}, sort_keys=True) + "\n")
    with pytest.raises(UnusableInput, match="not a dataset root"):
        DatasetRoot.load(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"\xff\xfe",
        b"[" * 4000,
        b'{"N":' + b"1" * 4050,
        b" " * 4097,
        b"nul",
        b'{"N":1,"N":1}',
        b"NaN",
    ],
)
def test_other_bytes_are_no_root(tmp_path, content):
    (tmp_path / "data.root").write_bytes(content)
    with pytest.raises(UnusableInput, match=r"not a dataset root|more than 65536 bytes"):
        DatasetRoot.load(tmp_path / "data.root")


def test_no_other_output_takes_the_place_of_a_secret_file(tmp_path):
    root = commit(save(tmp_path / "d.npz"), tmp_path / "data.zkd")
    before = (tmp_path / "data.zkd").read_bytes()
    with pytest.raises(UnusableInput, match="secret file of a commitment"), replacing(tmp_path / "data.zkd", 0o666):
        pass
    with pytest.raises(UnusableInput, match="secret file of a commitment"):
        save_root(root, tmp_path / "data.zkd", force=True)
    with pytest.raises(UnusableInput, match="secret file is never replaced"):
        commit(tmp_path / "d.npz", tmp_path / "data.zkd", force=True)
    assert (tmp_path / "data.zkd").read_bytes() == before
    with replacing(tmp_path / "data.root", 0o666) as file:
        file.write(b"x")
    assert (tmp_path / "data.root").read_bytes() == b"x"


def labelled(tmp_path, y: list[int], shape: tuple[int, ...] = (1, 4, 4)):
    np.savez(tmp_path / "w.npz", x=np.zeros((len(y), *shape), np.uint8), y=np.array(y))
    return data.load_dataset(tmp_path / "w.npz")


@pytest.mark.parametrize(
    ("y", "words"),
    [
        ([0, 1, 2, 3, 4, 200], "the largest label is 200, which makes 201 classes, but only 6 .* 200 occurs once"),
        ([0, 4, 4], "the largest label is 4, which makes 5 classes, but only 2 .* 4 occurs 2 times: .* --classes 5"),
        ([0, 1, 3], None),
        ([0, 1, 2], None),
        ([1, 1], None),
        ([2, 2], "makes 3 classes, but only 1 "),
    ],
)
def test_a_label_far_above_the_number_of_labels_is_warned_of(tmp_path, y, words):
    found = labelled(tmp_path, y)
    if words is None:
        assert found.warnings() == []
        return
    (warning,) = found.warnings()
    assert re.search(words, warning)
    assert found.warnings(max(y) + 1) == []


@pytest.mark.parametrize(
    ("shape", "warned"),
    [
        ((28, 28, 1), True),
        ((32, 24, 3), True),
        ((8, 8, 4), True),
        ((3, 32, 32), False),
        ((1, 1, 4), False),
        ((1, 28, 3), False),
        ((64, 4, 4), False),
        ((5, 2, 3), False),
        ((16, 16, 2), False),
    ],
)
def test_channels_in_the_last_axis_are_warned_of(tmp_path, shape, warned):
    warnings = labelled(tmp_path, [0, 1], shape).warnings()
    assert len(warnings) == warned
    assert all("height x width x channels" in text and f"{shape[0]}x{shape[1]}" in text for text in warnings)


def test_a_commitment_made_meanwhile_is_not_replaced(tmp_path):
    np.savez(tmp_path / "d.npz", x=np.zeros((3, 1, 2, 2), np.uint8), y=np.arange(3))
    out, kept = tmp_path / "d.zkd", []

    def meanwhile(done: int, total: int) -> None:
        if not kept:
            kept.append(None)
            commit(tmp_path / "d.npz", out)
            kept[0] = out.read_bytes(), out.with_suffix(".root").read_bytes()

    with pytest.raises(UnusableInput, match="exists"):
        commit(tmp_path / "d.npz", out, progress=meanwhile)
    assert kept == [(out.read_bytes(), out.with_suffix(".root").read_bytes())]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["d.npz", "d.root", "d.zkd"]


def test_a_secret_that_another_has_put_there_is_not_removed(tmp_path, monkeypatch):
    np.savez(tmp_path / "d.npz", x=np.zeros((3, 1, 2, 2), np.uint8), y=np.arange(3))
    out = tmp_path / "d.zkd"

    publish = Output.publish

    def fails(self):
        if self.kind == ROOT:
            out.unlink()
            out.write_bytes(b"another's")
            raise OSError("no space")
        publish(self)

    monkeypatch.setattr(Output, "publish", fails)
    with pytest.raises(OSError, match="no space"):
        commit(tmp_path / "d.npz", out)
    assert out.read_bytes() == b"another's"
