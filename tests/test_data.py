"""Datasets: every loader, the encoding, and commitment files that fail cleanly when touched."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import pickle
import re
import stat
import struct
import zipfile
from fractions import Fraction

import numpy as np
import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from zkcert.core.merkle import leaf_digest, verify_multiproof
from zkcert.core.permutation import sample_indices
from zkcert.core.sis import RHO, ROWS
from zkcert.core.tree import MerkleTree
from zkcert.data import coding
from zkcert.data import committed as data
from zkcert.data.committed import CommittedDataset, commit
from zkcert.data.dataset import load_dataset
from zkcert.data.hashing import hash_samples
from zkcert.errors import UnusableInput
from zkcert.files.saving import save_root
from zkcert.files.writing import Output, replacing
from zkcert.public.kinds import ROOT
from zkcert.public.root import DatasetRoot, Schema, leaf_digests

RANDOM = np.random.default_rng(7)
X = RANDOM.integers(0, 256, (7, 2, 3, 4), dtype=np.uint8)
Y = np.array([0, 3, 1, 2, 3, 0, 1])
FLOATS = RANDOM.normal(size=(5, 1, 2, 3)).astype(np.float32)


def save(path, x=X, y=Y, **more):
    np.savez(path, x=x, y=y, **more)
    return path


def idx(values: np.ndarray) -> bytes:
    return bytes((0, 0, 8, values.ndim)) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


IMAGES, LABELS = X[:, 0], Y.astype(np.uint8)


# ------------------------------------------------------------------------------------------- loading


@pytest.mark.parametrize("label_type", [np.uint8, np.int16, np.int64, np.uint64, ">i4"])
def test_npz_of_bytes_loads(tmp_path, label_type):
    loaded = load_dataset(save(tmp_path / "d.npz", y=Y.astype(label_type)))
    assert loaded.kind == "u8" and loaded.x.dtype == np.uint8 and loaded.y.dtype == np.int64
    assert (loaded.x == X).all() and (loaded.y == Y).all() and len(loaded) == 7


@pytest.mark.parametrize("value_type", ["<f4", ">f4"])
def test_npz_of_floats_loads(tmp_path, value_type):
    loaded = load_dataset(str(save(tmp_path / "d.npz", FLOATS.astype(value_type), Y[:5])))
    assert loaded.kind == "q32" and loaded.x.dtype == np.float32
    assert (loaded.x == FLOATS).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_npz_of_images_and_labels_loads(tmp_path, channels):
    x = RANDOM.integers(0, 256, (7, channels, 4, 5), dtype=np.uint8)
    shapes = [x, x.transpose(0, 2, 3, 1), *([x[:, 0]] if channels == 1 else [])]
    for i, images in enumerate(shapes):
        np.savez(path := tmp_path / f"{i}.npz", images=images, labels=Y.astype(np.uint8))
        loaded = load_dataset(path)
        assert loaded.kind == "u8" and (loaded.x == x).all() and (loaded.y == Y).all()
    np.savez(path, images=x)
    with pytest.raises(UnusableInput, match="or images and labels"):
        load_dataset(path)


def with_value(value: float) -> np.ndarray:
    x = FLOATS.copy()
    x[3, 0, 1, 1] = value
    return x


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (with_value(np.nan), Y[:5], "sample 3 holds a NaN or an infinity"),
        (with_value(-np.inf), Y[:5], "sample 3 holds a NaN or an infinity"),
        (with_value(2048), Y[:5], r"to 2048; normalise them to \|x\| < 2048"),
        (with_value(-2048), Y[:5], "values span -2048 to"),
        (FLOATS * np.float64(1e300), Y[:5], r"normalise them to \|x\| < 2048"),
        (with_value(2047).astype(np.float64) + (1 - 2.0**-20), Y[:5], r"to 2048; normalise"),
        (X.astype(np.int16) - 1, Y, "samples are integers from -1 to"),
        (X.astype(np.uint16) * 257, Y, "scale them to bytes"),
        (X > 9, Y, r"make bytes of them, as x.astype\(np.uint8\) \* 255"),
        (X[0, 0, 0], Y[:4], r"expected \(N, channels, height, width\)"),
        (X[None], Y[:1], r"expected \(N, channels, height, width\)"),
        (X[:, :0], Y, r"expected \(N, channels, height, width\)"),
        (X, Y[:6], "7 samples but 6 labels"),
        (X, Y[0], r"labels of shape \(\)"),
        (X, np.stack([Y, Y], 1), r"labels of shape \(7, 2\) are no one-hot rows"),
        (X, np.zeros((7, 3), bool), "are no one-hot rows"),
        (X, np.ones((7, 3), np.float32) / 3, "are no one-hot rows"),
        (X, Y[:, None, None], r"labels of shape \(7, 1, 1\)"),
        (X[:0], Y[:0], "is empty"),
        (X, Y + 0.5, "the label of sample 0 is no integer"),
        (X, np.where(Y == 2, np.nan, Y), "the label of sample 3 is no integer"),
        (X, np.where(Y == 2, np.inf, Y), "labels span 0 to inf"),
        (X, Y - 1, r"labels span -1 to 2; .* leave out the samples without a label"),
        (X, Y.astype(str), "y: it holds texts: number the classes"),
        (X, Y.astype(np.longdouble), "its numbers are of type <f16"),
        (X, Y.astype([("a", "i4")]), r"its numbers are of type \[\('a'"),
        (X, Y + 65_533, "expected 0 to 65535"),
        (X, Y.astype(object), "y: it holds Python objects"),
    ],
)
def test_unusable_arrays_are_refused(tmp_path, x, y, message):
    path = save(tmp_path / "d.npz", x, y)
    with pytest.raises(UnusableInput, match=message) as caught:
        load_dataset(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_npz_without_labels_is_refused(tmp_path):
    np.savez(tmp_path / "d.npz", x=X)
    with pytest.raises(UnusableInput, match="must hold the arrays x and y"):
        load_dataset(tmp_path / "d.npz")


def test_damaged_npz_is_refused(tmp_path):
    content = save(tmp_path / "d.npz").read_bytes()
    np.savez(tmp_path / "raw", y=Y)
    with zipfile.ZipFile(tmp_path / "raw.npz", "a") as archive:
        archive.writestr("x.npy", b"no array")
    with pytest.raises(UnusableInput, match=r"x: it is no \.npy file"):
        load_dataset(tmp_path / "raw.npz")
    for damaged in (content[:100], content[:-30], b"PK\3\4", content.replace(b"NUMPY", b"NUMPI")):
        (tmp_path / "d.npz").write_bytes(damaged)
        with pytest.raises(UnusableInput, match=r"damaged \.npz|it is no \.npy file"):
            load_dataset(tmp_path / "d.npz")


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_idx_pair_loads_however_it_is_named(tmp_path, compress):
    end = ".gz" if compress is gzip.compress else ""
    images, labels = tmp_path / f"train-images-idx3-ubyte{end}", tmp_path / f"train-labels-idx1-ubyte{end}"
    images.write_bytes(compress(idx(IMAGES)))
    labels.write_bytes(compress(idx(LABELS)))
    for source in (tmp_path, images, f"{images},{labels}", (images, str(labels))):
        loaded = load_dataset(source)
        assert (loaded.x == IMAGES[:, None]).all() and (loaded.y == Y).all() and loaded.kind == "u8"


def test_idx_labels_are_found_across_compression_and_dots(tmp_path):
    images = tmp_path / "t10k-images.idx3-ubyte"
    images.write_bytes(idx(IMAGES))
    (tmp_path / "t10k-labels.idx1-ubyte.gz").write_bytes(gzip.compress(idx(LABELS)))
    assert (load_dataset(images).y == Y).all()


def test_a_path_with_a_comma_is_one_path(tmp_path):
    assert len(load_dataset(str(save(tmp_path / "a,b.npz")))) == 7


GOOD = idx(IMAGES)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (GOOD[:-1], "holds 83 bytes, its header says 84"),
        (GOOD + b"\0", "holds 85 bytes"),
        (GOOD[:9], "not an IDX file of unsigned bytes with 3 axes"),
        (idx(LABELS), "with 3 axes"),
        (b"\0\0\x0d\3" + GOOD[4:], "not an IDX file"),
        (b"\0\0\x08\3" + b"\xff" * 12, "holds 0 bytes"),
        (gzip.compress(GOOD)[:-9], "damaged gzip file"),
        (b"\x1f\x8b" + bytes(20), "damaged gzip file"),
        (gzip.compress(GOOD[:-1]), "holds 83 bytes, its header says 84"),
        (gzip.compress(GOOD + b"\0"), "holds more than the 84 bytes"),
        (gzip.compress(GOOD) * 2, "something follows its end"),
        (gzip.compress(GOOD)[:-5] + b"\0" * 5, "damaged gzip file"),
        (idx(IMAGES[:3]), "3 samples but 7 labels"),
        (b"plain text", r"not an \.npz, IDX or CIFAR file; np.savez"),
        (b"", r"not an \.npz, IDX or CIFAR file"),
    ],
)
def test_damaged_idx_is_refused(tmp_path, content, message):
    images = tmp_path / "images"
    images.write_bytes(content)
    (tmp_path / "labels").write_bytes(idx(LABELS))
    with pytest.raises(UnusableInput, match=message):
        load_dataset(images)


def test_idx_without_labels_is_refused(tmp_path):
    for name in ("images", "pictures"):
        (tmp_path / name).write_bytes(GOOD)
        with pytest.raises(UnusableInput, match="no labels file beside it; name both as images,labels"):
            load_dataset(tmp_path / name)


def test_missing_paths_are_refused(tmp_path):
    with pytest.raises(UnusableInput, match="no-such-file: No such file"):
        load_dataset(tmp_path / "no-such-file")
    with pytest.raises(UnusableInput, match=r"holds neither .* nor data_batch_1"):
        load_dataset(tmp_path)
    for unusable in ("a,b,c", [], "x" * 5000, "nul\0nul"):
        with pytest.raises(UnusableInput):
            load_dataset(unusable)


def batch(first: int, count: int = 2) -> dict[str, object]:
    pixels = np.arange(first, first + 3072 * count, dtype=np.uint32).astype(np.uint8)
    return {"data": pixels.reshape(count, 3072), "labels": [first % 10] * count, "filenames": ["a"] * count}


def python2_pickle(content: dict[str, object]) -> bytes:
    """The opcodes that Python 2 and an old numpy emit for {"data": array, "labels": [...]}."""
    pixels = content["data"]
    assert isinstance(pixels, np.ndarray)
    shape = b"".join(b"J" + struct.pack("<i", d) for d in pixels.shape)
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\0tU\x01btR(K\x01(" + shape + b"t"
        b"cnumpy\ndtype\n(U\x02u1K\0K\x01tR(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb\x89"
        b"T" + struct.pack("<i", pixels.size) + pixels.tobytes() + b"tb"
    )
    labels = b"](" + b"".join(b"K" + bytes([label]) for label in content["labels"]) + b"e"
    return b"\x80\x02}(U\x04data" + array + b"U\x06labels" + labels + b"u."


@pytest.mark.parametrize("protocol", [2, 3, 4, "python 2"])
def test_cifar_batches_load(tmp_path, protocol):
    for i in range(1, 6):
        content = batch(i)
        dumped = python2_pickle(content) if protocol == "python 2" else pickle.dumps(content, protocol)
        (tmp_path / f"data_batch_{i}").write_bytes(dumped)
    loaded = load_dataset(tmp_path)
    assert loaded.x.shape == (10, 3, 32, 32) and loaded.x.dtype == np.uint8
    assert loaded.y.tolist() == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert (loaded.x[4:6].reshape(2, -1) == batch(3)["data"]).all()
    assert (load_dataset(tmp_path / "data_batch_2").x == loaded.x[2:4]).all()
    (tmp_path / "data_batch_4").unlink()
    with pytest.raises(UnusableInput, match="data_batch_4: No such file"):
        load_dataset(tmp_path)


class Attack:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [2, 4])
def test_hostile_pickles_are_not_executed(tmp_path, protocol):
    marker, path = tmp_path / "executed", tmp_path / "data_batch_1"
    for call in (
        Attack(os.mkdir, str(marker)),
        Attack(eval, f"__import__('os').mkdir({str(marker)!r})"),
        Attack(getattr, 1, "real"),
        Attack(np.load, str(marker)),
    ):
        content = {**batch(1), "extra": call}
        path.write_bytes(pickle.dumps(content, protocol))
        with pytest.raises(UnusableInput, match=r"not a CIFAR batch \(it refers to"):
            load_dataset(path)
    assert not marker.exists()
    pickle.loads(pickle.dumps(Attack(os.mkdir, str(marker))))
    assert marker.exists()


@pytest.mark.parametrize(
    "content",
    [
        [1, 2],
        {"data": batch(1)["data"]},
        {**batch(1), "data": [1, 2]},
        {**batch(1), "data": np.zeros((2, 3071), np.uint8)},
        {**batch(1), "data": np.zeros((2, 3072), np.float32)},
        {**batch(1), "data": np.zeros((2, 3072), object)},
        {**batch(1), "labels": ["1", "2"]},
        {**batch(1), "labels": [1, True]},
        {**batch(1), "labels": [1, 1 << 70]},
        {**batch(1), "labels": 3},
        {**batch(1), "labels": np.zeros(2)},
        {**batch(1), b"labels": [1, 1]},
        {**batch(1), ("a", 1): 1},
        {**batch(1), "a" * 101: 1},
        {**batch(1), "data": np.zeros((2, 3072, 1), np.uint8)},
    ],
)
def test_other_pickles_are_refused(tmp_path, content):
    (tmp_path / "batch").write_bytes(pickle.dumps(content, 4))
    with pytest.raises(UnusableInput, match="not a CIFAR batch"):
        load_dataset(tmp_path / "batch")


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_pickles_never_crash(tmp_path_factory, data):
    content = bytearray(pickle.dumps(batch(1, 1), 2))
    for _ in range(data.draw(st.integers(1, 3))):
        where = st.integers(1, 300) | st.integers(len(content) - 80, len(content) - 1)
        opcode = st.integers(0, 255) | st.sampled_from(b"R.btc0}s")
        content[data.draw(where)] = data.draw(opcode)
    path = tmp_path_factory.getbasetemp() / "batch"
    path.write_bytes(content[: data.draw(st.just(len(content)) | st.integers(1, len(content)))])
    with contextlib.suppress(UnusableInput):
        assert load_dataset(path).x.shape == (1, 3, 32, 32)


# ------------------------------------------------------------------------------ schema and encoding


def test_schema_is_canonical_json():
    schema = Schema(10, "u8", (1, 28, 28))
    assert schema.to_bytes() == b'{"classes":10,"kind":"u8","label_bytes":1,"shape":[1,28,28]}'
    assert schema.sample_size == 785
    assert Schema(257, "q32", (1, 2, 3)).sample_size == 38
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
    ],
)
def test_other_schemas_are_refused(change):
    value = {**Schema(10, "u8", (1, 28, 28)).to_dict(), **change}
    with pytest.raises(ValueError, match=r"."):
        Schema.from_dict(value)
    with pytest.raises(ValueError, match="has the keys"):
        Schema.from_dict([])


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


# -------------------------------------------------------------------------------------- commitments


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
    assert opened.sample_bytes([]).shape == (0, opened.schema.sample_size)
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
    with pytest.raises(UnusableInput, match=r"not a dataset root|more than 4096 bytes"):
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
