"""Dataset files as people have them, and as attackers make them: read rightly, or refused at little cost."""

from __future__ import annotations

import gzip
import io
import pickle
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from zkcert.data import cifar as cifar_file
from zkcert.data import formats as dataset_file
from zkcert.data import npz as npz_file
from zkcert.data.cifar import interpret, read_cifar
from zkcert.data.dataset import load_dataset
from zkcert.data.npz import NpzFile
from zkcert.errors import UnusableInput
from zkcert.public.kinds import SAMPLES, kind_of

RANDOM = np.random.default_rng(11)
X = RANDOM.integers(0, 256, (9, 3, 6, 5), dtype=np.uint8)
Y = np.arange(9) % 4


def refused(path) -> str:
    with pytest.raises(UnusableInput) as caught:
        load_dataset(path)
    text = str(caught.value)
    assert text.startswith(str(path)) and "\n" not in text and len(text) < 500
    return text


# ------------------------------------------------------------------------------------------ usual variants


@pytest.mark.parametrize(
    "names",
    [
        *(("X", "y"), ("images", "labels"), ("data", "labels"), ("data", "targets"), ("arr_0", "arr_1")),
        *(("x_train", "y_train"), ("X_train", "y_train"), ("train_images", "train_labels")),
    ],
)
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_usual_names_are_known(tmp_path, names, save):
    """Other arrays in the file do not matter; under these names, channels may be last."""
    save(path := tmp_path / "d.npz", **{names[0]: X, names[1]: Y}, x_test=X[:2], y_test=Y[:2])
    assert (load_dataset(path).x == X).all() and (load_dataset(path).y == Y).all()
    save(path, **{names[0]: X.transpose(0, 2, 3, 1), names[1]: Y})
    assert (load_dataset(path).x == X).all()


def test_other_or_ambiguous_names_are_refused_with_what_is_there(tmp_path):
    np.savez(path := tmp_path / "d.npz", inputs=X, y=Y, **{f"\n{i}": Y for i in range(6)})
    assert r"must hold the arrays x and y, or images and labels; it holds inputs, y, \n0, \n1, " in refused(path)
    np.savez(path, x=X, X=X, y=Y)
    assert "holds x/y and X/y: keep one pair" in refused(path)
    np.savez(path)
    assert "it holds nothing" in refused(path)


@pytest.mark.parametrize(
    "labels",
    [
        *(Y[:, None], Y + 0.0, Y.astype(np.float16), Y.astype(">u2")),
        *(np.eye(4)[Y], np.eye(4, dtype=np.int8)[Y], np.eye(4, dtype=bool)[Y], np.asfortranarray(np.eye(4)[Y])),
    ],
)
def test_labels_in_usual_forms_are_class_numbers(tmp_path, labels):
    np.savez(path := tmp_path / "d.npz", x=X, y=labels)
    loaded = load_dataset(path)
    assert loaded.y.dtype == np.int64 and (loaded.y == Y).all()


def test_truth_values_are_two_classes(tmp_path):
    np.savez(path := tmp_path / "d.npz", x=X, y=Y > 1)
    assert load_dataset(path).y.tolist() == (Y > 1).astype(int).tolist()


@pytest.mark.parametrize("kind", ["i2", ">i4", "i8", "u2", ">u8"])
def test_bytes_in_wider_integers_are_bytes(tmp_path, kind):
    np.savez(path := tmp_path / "d.npz", x=X.astype(kind), y=Y)
    assert load_dataset(path).x.dtype == np.uint8 and (load_dataset(path).x == X).all()


@pytest.mark.parametrize("kind", ["<f2", ">f2", "<f4", ">f4", "<f8", ">f8"])
def test_floats_are_rounded_to_float32(tmp_path, kind):
    values = (X / 255).astype(kind)
    np.savez(path := tmp_path / "d.npz", x=values, y=Y)
    loaded = load_dataset(path)
    assert loaded.kind == "q32" and loaded.x.dtype == np.float32 and (loaded.x == values.astype("f4")).all()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (X[:, 0], X[:, :1]),
        (X.reshape(9, -1), X.reshape(9, 1, 1, -1)),
        (np.asfortranarray(X), X),
        (X[:, :, ::2, ::-1], X[:, :, ::2, ::-1]),
    ],
)
def test_samples_in_usual_forms(tmp_path, given, expected):
    np.savez(path := tmp_path / "d.npz", x=given, y=Y)
    assert load_dataset(path).x.shape == expected.shape and (load_dataset(path).x == expected).all()
    np.save(tmp_path / "x.npy", given)
    np.save(tmp_path / "y.npy", Y)
    for source in (f"{tmp_path}/x.npy,{tmp_path}/y.npy", (tmp_path / "x.npy", tmp_path / "y.npy")):
        assert (load_dataset(source).x == expected).all() and (load_dataset(source).y == Y).all()
    assert "as images.npy,labels.npy" in refused(tmp_path / "x.npy")


def cifar_batch(**more: object) -> dict[str, object]:
    pixels = np.arange(2 * 3072, dtype=np.uint32).astype(np.uint8).reshape(2, 3072)
    return {"data": pixels, "labels": [7, 1], "filenames": ["a", "b"], **more}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_cifar_batches_as_python_3_writes_them(protocol):
    plain = cifar_batch()
    pixels = plain["data"]
    assert isinstance(pixels, np.ndarray)
    pixels.flags.writeable = protocol % 2 == 0
    for batch in (
        plain,
        {key.encode(): value for key, value in plain.items()} | {b"filenames": [b"a", b""]},
        cifar_batch(labels=np.array([7, 1])),
        cifar_batch(labels=np.array([7, 1], ">i2")),
        cifar_batch(labels=[np.int64(7), np.uint8(1)]),
        cifar_batch(data=np.asfortranarray(pixels)),
        cifar_batch(batch_label="x" * 5000, nested={"a": [None, True, 1.5, -3, 1 << 70, (), (1, 2, 3, 4)]}),
    ):
        x, y = read_cifar(pickle.dumps(batch, protocol))
        assert x.dtype == np.uint8 and (x == pixels.reshape(2, 3, 32, 32)).all() and y.tolist() == [7, 1]


def test_cifar_100_is_read_with_its_fine_labels(tmp_path):
    batch = {b"data": cifar_batch()["data"], b"fine_labels": [99, 3], b"coarse_labels": [1, 2]}
    (tmp_path / "train").mkdir()
    assert "its folders hold no PNG or JPEG" in refused(tmp_path)
    (tmp_path / "train").rmdir()
    for name in ("train", "test"):
        (tmp_path / name).write_bytes(pickle.dumps(batch if name == "train" else {}, 2))
    assert kind_of(tmp_path) == SAMPLES
    assert load_dataset(tmp_path).y.tolist() == load_dataset(tmp_path / "train").y.tolist() == [99, 3]
    assert "not a CIFAR batch" in refused(tmp_path / "test")


# ------------------------------------------------------------------------------------------ hostile pickles


TOWER = b"".join(b"q" + bytes([i]) + b"h" + bytes([i]) + b"\x86" for i in range(60))
HOSTILE = {
    "memo index": b"\x80\x02}r\xff\xff\xff\x7f.",
    "memo of nothing": b"\x80\x02q\x01.",
    "memo not set": b"\x80\x02h\x01.",
    "long bytes": b"\x80\x04\x8e" + struct.pack("<Q", 8 << 30) + b"x.",
    "long bytearray": b"\x80\x05\x96" + struct.pack("<Q", (1 << 64) - 1) + b"x.",
    "long text": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 62) + b"x.",
    "negative length": b"\x80\x02T\xff\xff\xff\xffx.",
    "lists in lists": b"\x80\x02" + b"]" * 30_000 + b"a" * 29_999 + b".",
    "marks": b"\x80\x02" + b"(" * 30_000 + b".",
    "tuples in tuples": b"\x80\x02)" + b"\x85" * 30_000 + b".",
    "tuple as key": b"\x80\x02})" + b"\x85" * 30_000 + b"K\x01s.",
    "tuple of 2^60 leaves as key": b"\x80\x02}K\x01" + TOWER + b"K\x01s.",
    "a list of itself": b"\x80\x02]q\x01h\x01a.",
    "a dictionary of itself": b"\x80\x02}q\x01(U\x04datah\x01U\x06labelsh\x01u.",
    "opcodes": b"\x80\x02" + b"N0" * 10 + b".",
    "no end": b"\x80\x02N",
    "nothing": b"\x80\x02.",
    "more after the end": b"\x80\x02N.N.",
    "protocol 0": b"(dp0\n.",
    "protocol 9": b"\x80\x09N.",
    "a call of nothing": b"\x80\x02R.",
    "a state of nothing": b"\x80\x02NNb.",
    "a name without end": b"\x80\x02c" + b"a" * 1000,
    "shape of huge numbers": b"\x80\x04}(\x8c\x04data\x8c\x15numpy.core.multiarray\x8c\x0c_reconstruct\x93"
    b"(\x8c\x05numpy\x8c\x07ndarray\x93K\0\x85C\x01btR(K\x01(\x8a\xff" + b"\x7f" * 255 + b"K\x01t\x8c\x05numpy"
    b"\x8c\x05dtype\x93\x8c\x02u1\x89\x88\x87R\x89C\x01xtb\x8c\x06labels]u.",
    "an array without content": b"\x80\x04}(\x8c\x04data\x8c\x15numpy.core.multiarray\x8c\x0c_reconstruct\x93"
    b"(\x8c\x05numpy\x8c\x07ndarray\x93K\0\x85C\x01btR\x8c\x06labels]u.",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickles_are_refused_with_little_memory(tmp_path, name):
    path = tmp_path / "batch"
    path.write_bytes(HOSTILE[name])
    tracemalloc.start()
    try:
        assert "not a CIFAR batch" in refused(path) or name == "protocol 0"
        assert tracemalloc.get_traced_memory()[1] < 1e6 + 200 * len(HOSTILE[name])
    finally:
        tracemalloc.stop()


def test_the_number_of_opcodes_is_bounded():
    content = b"\x80\x02N" + b"\x85" * 50 + b"."
    interpret(content, limit=52)
    with pytest.raises(ValueError, match="more than 51 opcodes"):
        interpret(content, limit=51)


def test_encoding_one_text_over_and_over_is_refused():
    """Each call would copy it."""
    once = b"c_codecs\nencode\nh\x01U\x06latin1\x86R".replace(b"U\x06", b"X\x06\0\0\0")
    text = b"\x80\x02X\xe8\x03\0\0" + b"a" * 1000 + b"q\x01"
    assert interpret(text + once + b"\x86.") == ("a" * 1000, b"a" * 1000)
    with pytest.raises(ValueError, match="encoded again and again"):
        interpret(text + once + once + b"\x87.")


def test_long_texts_are_no_keys():
    """Equal ones would be compared at every use."""
    key = b"X" + struct.pack("<I", 101) + b"a" * 101
    with pytest.raises(ValueError, match="a key that is no short text"):
        interpret(b"\x80\x02}" + key + b"Ns.")


# ------------------------------------------------------------------------------------------ hostile archives


def npy(shape: str, descr: str = "'|u1'", body: bytes = b"", length: int | None = None) -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text) if length is None else length) + text + body


def archive(path, members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as out:
        for name, content in members.items():
            out.writestr(name, content)
    return path


LABELS = npy("(1,)", body=b"\0")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (npy("(1099511627776, 1, 32, 32)", body=b"abc"), "holds 3 bytes, its header says 1125899906842624"),
        (npy("(0, 461168601842738790, 4, 4)"), "samples have shape"),
        (npy("(1, 2)", body=b"abc"), "holds 3 bytes, its header says 2"),
        (npy("(1,)", length=60_000), "its .npy header has 60000 bytes"),
        (b"\x93NUMPY\2\0" + struct.pack("<I", (1 << 32) - 1), "its .npy header has 4294967295 bytes"),
        (b"\x93NUMPY\1\0\0\0", "its .npy header has 0 bytes"),
        (b"\x93NUMPY\4\0\0\0", "it is no .npy file"),
        (b"\x93NUM", "it is no .npy file"),
        (npy("(" * 1000 + ")" * 1000), "of an unknown form"),
        (npy("(1, -2)"), "of an unknown form"),
        (npy("(" + "1, " * 9 + ")", body=b"a"), "of an unknown form"),
        (npy("(9" + "9" * 18 + ",)"), "of an unknown form"),
        (npy("1"), "of an unknown form"),
        (npy("(1,), 'shape': (1,)"), "of an unknown form"),
        (npy("(1,)", "__import__('os').system('true')"), "of an unknown form"),
        (npy("(1,)", "'|O'"), "it holds Python objects"),
        (npy("(1,)", "'O'"), "it holds Python objects"),
        (npy("(1,)", "'<U7'"), "it holds texts"),
        (npy("(1,)", "'<M8[ns]'"), "its numbers are of type <M8"),
        (npy("(1,)", "'|b1'", body=b"\7"), "truth values other than 0 and 1"),
    ],
)
def test_headers_that_lie_are_refused_before_anything_is_read(tmp_path, content, message):
    text = refused(archive(tmp_path / "d.npz", {"x.npy": content, "y.npy": LABELS}))
    assert message in text


def test_headers_are_read_as_other_writers_lay_them_out():
    for text in (
        b"{'descr': '|u1', 'fortran_order': False, 'shape': (3,), }",
        b"{'descr':'|u1','fortran_order':False,'shape':(3,)}",
        b'{"shape": (3L,), "fortran_order": False, "descr": "u1"}   \n',
        b"{'shape':\t( 3 , ),\n 'descr' : '<u1', 'fortran_order': True, }",
    ):
        for version, count in ((1, 2), (2, 4), (3, 4)):
            content = b"\x93NUMPY" + bytes([version, 0]) + len(text).to_bytes(count, "little") + text + b"abc"
            assert npz_file.read_npy(io.BytesIO(content), len(content)).tobytes() == b"abc"


def test_compressed_data_may_unpack_to_a_hundred_times_their_size(tmp_path, monkeypatch):
    monkeypatch.setattr(npz_file, "FREE_BYTES", 1000)
    zeros, noise = np.zeros((6000, 1, 4, 4), np.uint8), RANDOM.integers(0, 256, (300, 1, 4, 4), dtype=np.uint8)
    for x, bomb in ((zeros, True), (noise, False), (zeros[:9], False)):
        np.savez_compressed(path := tmp_path / "d.npz", x=x, y=(y := np.arange(len(x)).astype(np.uint8)))
        header = bytes((0, 0, 8, 3)) + struct.pack(">3I", len(x), 4, 4)
        (tmp_path / "images").write_bytes(gzip.compress(header + x.tobytes()))
        (tmp_path / "labels").write_bytes(bytes((0, 0, 8, 1)) + struct.pack(">I", len(x)) + y.tobytes())
        for source in (path, tmp_path / "images"):
            if bomb:
                assert "compressed bytes claim to hold 96000: if that is right" in refused(source)
            else:
                assert (load_dataset(source).x == x).all()
        np.savez(path, x=x, y=y)
        assert (load_dataset(path).x == x).all()


def test_a_bomb_is_refused_with_little_memory(tmp_path):
    zeros = bytes(1 << 20)
    with gzip.open(tmp_path / "images", "wb", 1) as out:  # what follows what the header says is not unpacked
        out.write(bytes((0, 0, 8, 3)) + struct.pack(">3I", 1, 2, 2))
        for _ in range(100):
            out.write(zeros)
    (tmp_path / "labels").write_bytes(bytes((0, 0, 8, 1)) + struct.pack(">I", 1) + b"\0")
    with zipfile.ZipFile(tmp_path / "d.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as out:
        out.writestr("y.npy", LABELS)
        with out.open("x.npy", "w") as member:
            member.write(npy(f"({100 << 20}, 1, 1, 1)"))
            for _ in range(100):
                member.write(zeros)
    tracemalloc.start()
    try:
        assert "holds more than the 4 bytes" in refused(tmp_path / "images")
        assert "if that is right, store the data uncompressed" in refused(tmp_path / "d.npz")
        assert tracemalloc.get_traced_memory()[1] < 8e6
    finally:
        tracemalloc.stop()


def test_archives_that_lie_are_refused(tmp_path):
    path = tmp_path / "d.npz"
    assert "the same name" in refused(archive(path, {"x": LABELS, "x.npy": LABELS, "y.npy": LABELS}))
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(path, "w") as out:
        for _ in range(2):
            out.writestr("x.npy", LABELS)
    assert "the same name" in refused(path)
    assert "not read; use np.savez" in refused(archive(path, {"x": LABELS, "y": LABELS}, zipfile.ZIP_LZMA))
    content = archive(path, {"x": LABELS, "y": LABELS}, zipfile.ZIP_STORED).read_bytes()
    second = content.rindex(b"PK\1\2")
    for at, value, message in (
        (second + 42, 5, "overlap"),
        (second + 42, 1 << 31, "damaged .npz file"),
        (second + 20, 1 << 31, "cut short"),
        (second + 20, 1, "damaged .npz file"),
        (second + 24, 1 << 31, "damaged .npz file|its header says"),
        (second + 16, 0, "damaged .npz file"),
    ):
        changed = bytearray(content)
        changed[at : at + 4] = struct.pack("<I", value)
        path.write_bytes(changed)
        assert any(part in refused(path) for part in message.split("|")), message
    path.write_bytes(content.replace(b"x", b"y"))  # the names of both, in both places
    assert "the same name" in refused(path)


def test_a_long_directory_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(npz_file, "_BLOCK", 300)
    small = archive(tmp_path / "d.npz", {f"{i}": b"" for i in range(3)})
    with open(small, "rb") as file:
        assert len(NpzFile(file, small.stat().st_size).members) == 3
    assert "its directory has more than 300 bytes" in refused(archive(small, {f"{i}": b"" for i in range(20)}))


def test_sizes_of_idx_files_are_checked_before_they_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(dataset_file, "read_exactly", None)
    with open(tmp_path / "images", "wb") as file:
        file.write(bytes((0, 0, 8, 3)) + struct.pack(">3I", 1 << 20, 100, 1 << 15))
        file.truncate(1 << 36)
    (tmp_path / "labels").write_bytes(b"")
    assert "its header says 3435973836800" in refused(tmp_path / "images")


def test_limits_fit_real_batches():
    """CIFAR-100's training batch holds 50,000 file names and two labels each."""
    assert cifar_file.MAX_OPCODES > 50_000 * 4 + 1000
    assert dataset_file.MAX_CIFAR_BYTES > 50_000 * (3072 + 40)
