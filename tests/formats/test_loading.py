"""Every dataset format, read and refused."""

from __future__ import annotations

import contextlib
import gzip
import os
import pickle
import struct
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.formats.datasets import (
    FLOATS,
    RANDOM,
    X,
    Y,
    save,
)
from zkcert.data.dataset import load_dataset
from zkcert.errors import UnusableInput


def idx(values: np.ndarray) -> bytes:
    return bytes((0, 0, 8, values.ndim)) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


IMAGES, LABELS = X[:, 0], Y.astype(np.uint8)


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
        (X.astype(str), Y, "x: it holds texts, where numbers are expected"),
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
        (b"plain text", r"not an \.npz, IDX, CIFAR, CSV \(\.csv\), Parquet or Arrow file; np.savez"),
        (b"", r"not an \.npz, IDX, CIFAR, CSV"),
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
