"""Folders of pictures, CSV, Parquet and Arrow, and what is in memory: read rightly, or refused at little cost."""

from __future__ import annotations

import csv
import io
import json
import os
import tracemalloc

import numpy as np
import pyarrow
import pytest
import torch
from PIL import Image
from pyarrow import ipc, parquet

import zkcert
from zkcert.data import arrow, csv_table, folder, npz, pictures
from zkcert.data.committed import CommittedDataset
from zkcert.data.dataset import load_dataset
from zkcert.errors import UnusableInput
from zkcert.files.limits import memory_for
from zkcert.public.root import DatasetRoot

RANDOM = np.random.default_rng(5)
X = RANDOM.integers(0, 256, (6, 3, 7, 5), dtype=np.uint8)
Y = np.array([0, 1, 1, 0, 2, 1])
NAMES = ("cat", "dog", "eel")


def refused(source, **options) -> str:
    with pytest.raises(UnusableInput) as caught:
        load_dataset(source, **options)
    text = str(caught.value)
    assert "\n" not in text and len(text) < 500
    return text


def picture(x) -> Image.Image:
    return Image.fromarray(x[0] if len(x) == 1 else x.transpose(1, 2, 0))


def content(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    image.save(stream := io.BytesIO(), kind, **options)
    return stream.getvalue()


@pytest.fixture
def tree(tmp_path):
    """A folder of the pictures X, in the order of their labels."""
    for name in NAMES:
        (tmp_path / "tree" / name).mkdir(parents=True)
    for i, (x, label) in enumerate(zip(X, Y, strict=True)):
        picture(x).save(tmp_path / "tree" / NAMES[label] / f"{i}.png")
    return tmp_path / "tree"


# ---------------------------------------------------------------------------------------------------- pictures


def test_a_folder_for_each_class_is_read_in_sorted_order(tree):
    order = np.argsort(Y, kind="stable")
    for name in (".DS_Store", "eel/Thumbs.db"):
        (tree / name).write_bytes(b"")
    (tree / "dog" / "more").mkdir()
    os.rename(tree / "dog" / "5.png", tree / "dog" / "more" / "5.PNG")
    os.symlink(tree / "dog" / "1.png", tree / "dog" / "0.png")
    order = np.insert(order, 2, 1)
    loaded = load_dataset(tree)
    assert (loaded.x == X[order]).all() and (loaded.y == Y[order]).all() and loaded.names == NAMES
    assert not loaded.warnings()
    (tree / "README.md").write_text("x")
    (tree / "gnu").mkdir()
    loaded = load_dataset(tree)
    assert loaded.names == (*NAMES, "gnu") and "left out, as no pictures: README.md" in loaded.notes[0]
    assert "1 of 4 classes have no sample: 3" in str(zkcert.look(tree).warnings)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_what_loses_nothing_is_converted(mode):
    pixels = X[0].transpose(1, 2, 0)
    image = Image.fromarray(pixels).quantize(35) if mode == "P" else Image.fromarray(pixels).convert(mode)
    grey = mode in ("1", "L", "LA")
    expected = np.asarray(image.convert("L" if grey else "RGB")).reshape(7, 5, -1).transpose(2, 0, 1)
    assert (pictures.decoded(content(image)) == expected).all()
    assert pictures.size_of(io.BytesIO(content(image))) == (1 if grey else 3, 7, 5)


@pytest.mark.parametrize(
    ("image", "options", "why"),
    [
        (picture(X[0]).convert("CMYK"), {"kind": "JPEG"}, "the mode CMYK; expected grey or RGB of 8 bits"),
        (Image.fromarray(X[0, 0].astype(np.uint16) * 257), {}, "the mode I;16"),
        (Image.merge("RGBA", [*picture(X[0]).split(), picture(X[1, :1])]), {}, "some of it is transparent"),
        (Image.merge("LA", [picture(X[0, :1]), picture(X[1, :1])]), {}, "some of it is transparent"),
        (picture(X[0]), {"transparency": tuple(X[0, :, 0, 0].tolist())}, "some of it is transparent"),
        (picture(X[0]), {"save_all": True, "append_images": [picture(X[1])]}, "an animation"),
    ],
)
def test_what_would_lose_something_is_refused(image, options, why):
    with pytest.raises(ValueError, match=why):
        pictures.decoded(content(image, **options))


def test_deep_pictures_are_not_cut_to_bytes_silently():
    """Pillow reads RGB of 16 bits a channel as bytes."""
    data = bytearray(content(picture(X[0])))
    data[24] = 16
    with pytest.raises(ValueError, match=r"16 bits a channel|no sound"):
        pictures.decoded(bytes(data))


def test_grey_pictures_among_others_are_repeated_in_three_channels_and_said(tree):
    picture(X[0, :1]).save(tree / "cat" / "0.png")
    loaded = load_dataset(tree)
    assert (loaded.x[0] == X[0, :1]).all() and loaded.x.shape[1] == 3
    assert "1 of 6 pictures are grey" in loaded.notes[0]


def test_pictures_are_scaled_only_if_asked(tree):
    picture(X[0][:, :5]).save(tree / "cat" / "0.png")
    assert "different sizes, 7x5 (height x width; 5 of 6), 5x5, ...: --resize 7x5" in refused(tree)
    loaded = load_dataset(tree, resize=(4, 9))
    first = Image.fromarray(X[3].transpose(1, 2, 0)).resize((9, 4), Image.Resampling.BILINEAR)
    assert loaded.x.shape == (6, 3, 4, 9) and (loaded.x[1] == np.asarray(first).transpose(2, 0, 1)).all()
    assert "from 1 to 4096" in refused(tree, resize=(0, 4))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda t: os.symlink("/etc/passwd", t / "cat" / "x.png"), "a link to a folder, or out of"),
        (lambda t: os.symlink(t / "dog", t / "cat" / "x"), "a link to a folder, or out of"),
        (lambda t: os.symlink(t, t / "x"), "a link to a folder, or out of"),
        (lambda t: os.symlink("nothing", t / "cat" / "x.png"), "a link to a folder, or out of"),
        (lambda t: os.mkfifo(t / "cat" / "x.png"), "is a pipe, socket or device"),
        (lambda t: (t / "cat" / "/".join("abcdefgh")).mkdir(parents=True), "nested more than 8 deep"),
        (lambda t: (t / "cat" / "x.png").write_bytes(b"GIF89a"), "cat/x.png: no sound PNG or JPEG"),
        (lambda t: (t / "cat" / "x.png").write_bytes(content(picture(X[0]))[:-30]), "x.png: no sound PNG or JPEG"),
        (lambda t: (t / "cat" / "x.webp").write_bytes(b""), "x.webp: neither PNG nor JPEG"),
        (lambda t: (t / "x.jpg").write_bytes(b""), "x.jpg: lies in no folder of a class"),
        (lambda t: (t / "a\x07").mkdir(), r"'a\\x07' is no name of a class"),
        (lambda t: os.mkdir(os.fsencode(t) + b"/\xff"), r"'\\udcff' is no name of a class"),
    ],
)
def test_odd_trees_are_refused_with_the_file_that_is_odd(tree, change, why):
    change(tree)
    assert why.replace("\\\\", "\\") in refused(tree)


def test_parts_of_a_dataset_are_not_classes(tree):
    os.rename(tree, tree.with_name("train"))
    (tree.parent / "val" / "cat").mkdir(parents=True)
    assert "holds train, val: give one part of the data, as" in refused(tree.parent)
    (tree.parent / "val" / "cat" / "train").mkdir()
    assert load_dataset(tree.with_name("train")).names == NAMES


def test_the_number_of_entries_is_bounded(tree, monkeypatch):
    monkeypatch.setattr(folder, "MAX_ENTRIES", 8)
    assert "holds more than 8 files" in refused(tree)


def test_pictures_that_unpack_to_far_more_than_they_are_are_refused_before_that(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    for i in range(2):
        Image.new("L", (3000, 3000)).save(tmp_path / "a" / f"{i}.png")
    monkeypatch.setattr(npz, "FREE_BYTES", 1 << 20)
    Image.init()  # what it loads is not counted
    tracemalloc.start()
    try:
        assert "compressed bytes claim to hold 9000000" in refused(tmp_path, resize=(2, 2))
        assert tracemalloc.get_traced_memory()[1] < 2e6
    finally:
        tracemalloc.stop()
    monkeypatch.setattr(pictures, "MAX_PIXELS", 1000)
    assert "3000x3000 pixels; expected 1000" in refused(tmp_path)


def test_pixels_times_scans_are_bounded(monkeypatch):
    data = content(picture(X[0]), "JPEG", progressive=True)
    scans = data.count(b"\xff\xda")
    assert scans > 1 and pictures.decoded(data).shape == (3, 7, 5)
    monkeypatch.setattr(pictures, "MAX_WORK", 35 * scans - 1)
    with pytest.raises(ValueError, match="too many scans"):
        pictures.decoded(data)


# ------------------------------------------------------------------------------------------------------ tables


def table(path, rows, delimiter=","):
    with open(path, "w", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)
    return path


def test_tables_as_text_are_read(tmp_path):
    path = tmp_path / "t.csv"
    rows = [[1.5, -2, "dog"], [0, 1e3, "cat"], [3, 4, "dog"]]
    for mark in ",;\t":
        table(path, [["a", "b", "Label"], *rows], mark)
        loaded = load_dataset(path)
        assert (
            loaded.x.tolist() == [[[[1.5, -2.0]]], [[[0.0, 1000.0]]], [[[3.0, 4.0]]]] and loaded.x.dtype == np.float32
        )
        assert loaded.y.tolist() == [1, 0, 1] and loaded.names == ("cat", "dog")
    path.write_bytes(b"\xef\xbb\xbfkind,a\r\n7,1\r\n\r\n5,255\r\n")
    assert "the columns are kind, a; say it as --label a" in refused(path)
    loaded = load_dataset(path, label="kind")
    assert loaded.x.dtype == np.uint8 and loaded.y.tolist() == [7, 5] and "are taken as bytes" in loaded.notes[0]
    assert load_dataset(path, label="kind", values="float32").x.dtype == np.float32
    table(path, rows)
    assert "its 3 columns have no names" in refused(path, label="dog")
    loaded = load_dataset(path, label=-1)
    assert loaded.y.tolist() == [1, 0, 1] and loaded.names == ("cat", "dog")
    table(path, [[0, 1.5], [1, 2.5]])
    assert "its 2 columns have no names; say it as --label -1" in refused(path)
    assert load_dataset(path, label=0).x.ravel().tolist() == [1.5, 2.5]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a,y\n1,0\n,1\n", "column a of sample 2 is empty"),
        ("a,y\n1,0\nBern,1\n", "column a of sample 2 holds 'Bern', which is no number"),
        ("a,y\n1_0,0\n", "holds '1_0', which is no number"),
        ("a,y\n\u0661,0\n", r"holds '\u0661', which is no number"),
        ("a,y\n1,\n", "sample 1 has no label"),
        ("a,y\n1,0,2\n", "sample 1 has 3 cells, others have 2"),
        ("a,y\n1,0\n2048,1\n", "column a of sample 2 is 2048: scale it to |x| < 2048"),
        ("a,y\n1,0\nnan,1\n", "column a of sample 2 is nan: leave the sample out"),
        ("a,y\n1,0\n1e999,1\n", "column a of sample 2 is inf"),
        ("a,y\n1,0.5\n", "the label of sample 0 is no integer"),
        ("a,y\n1,nan\n", "the label of sample 0 is no integer"),
        ("a,y\n", "it has no samples"),
        (",a,y\n0,1,0\n", "column 0 has no name: if it is an index, as pandas writes one"),
        ("", "it is empty"),
        ("a\n1\n", "it has one column"),
        ("y,label\n1,2\n", "which column holds the labels?"),
        ('a,y\n"1,0\n', "no table"),
        ("a,y\n1,\x7f\n", "is no name of a class"),
        ("a,y\n1," + "x" * 201 + "\n", "is no name of a class"),
        ("\x00a,y\n", "not an .npz"),
    ],
)
def test_tables_that_cannot_be_used_are_refused_with_the_place(tmp_path, text, why):
    (path := tmp_path / "t.csv").write_text(text)
    assert why.replace("\\\\", "\\") in refused(path)


def test_lines_and_names_are_bounded(tmp_path, monkeypatch):
    (path := tmp_path / "t.csv").write_text("a,label\n" + "".join(f"1,n{i}\n" for i in range(9)))
    monkeypatch.setattr("zkcert.data.arrays.MAX_CLASSES", 8)
    assert "the labels are 9 different texts, as 'n0': are they labels?" in refused(path)
    monkeypatch.setattr(csv_table, "MAX_LINE", 20)
    path.write_text("a,label\n1,x\n" + "1" * 21)
    assert "line 3 has more than 20 bytes" in refused(path)
    path.write_bytes(b"a,label\n\xff,1\n")
    assert "line 2 is no UTF-8 text" in refused(path)


def features(label="label"):
    content = {"info": {"features": {label: {"names": list(NAMES), "_type": "ClassLabel"}}}}
    return {"huggingface": json.dumps(content)}


def stored(x=X):
    return [{"bytes": content(picture(part)), "path": "x.png"} for part in x]


def save(path, data, kind, **options):
    """As Parquet, an Arrow file or an Arrow stream, in two batches."""
    if kind == "parquet":
        parquet.write_table(data, path, **{"row_group_size": 4, **options})
        return path
    with (ipc.new_file if kind == "file" else ipc.new_stream)(path, data.schema) as out:
        out.write_table(data, max_chunksize=4)
    return path


@pytest.mark.parametrize("kind", ["parquet", "file", "stream"])
def test_pictures_lists_and_numbers_in_columns_are_read(tmp_path, kind):
    path = tmp_path / "t"
    data = pyarrow.table({"image": stored(), "label": Y, "id": list("abcdef")})
    loaded = load_dataset(save(path, data.replace_schema_metadata(features()), kind))
    assert (loaded.x == X).all() and (loaded.y == Y).all() and loaded.names == NAMES
    assert loaded.notes == ("left out, as other columns: id",)
    texts = np.array(NAMES)[Y].tolist()
    for labels in (
        pyarrow.array(texts),
        pyarrow.array(texts).dictionary_encode(),
        pyarrow.array(texts).cast("large_string"),
    ):
        loaded = load_dataset(save(path, pyarrow.table({"x": X.tolist(), "y": labels}), kind))
        assert (loaded.x == X).all() and (loaded.y == Y).all() and loaded.names == NAMES
    fixed = pyarrow.FixedShapeTensorArray.from_numpy_ndarray(X.astype(np.float32) / 256)
    loaded = load_dataset(save(path, pyarrow.table({"x": fixed, "label": Y}), kind))
    assert (loaded.x == X / np.float32(256)).all() and not loaded.names
    columns = {"a": X[:, 0, 0, 0], "b": np.arange(6) / 2, "target": Y, "__index_level_0__": Y}
    loaded = load_dataset(save(path, pyarrow.table(columns), kind))
    assert loaded.notes == ("left out, as other columns: __index_level_0__",)
    assert (loaded.x[:, 0, 0] == np.stack([X[:, 0, 0, 0], np.arange(6) / 2], 1)).all()


def test_grey_pictures_in_a_column_are_repeated_and_other_sizes_refused(tmp_path):
    data = pyarrow.table({"image": stored([X[0], X[1, :1]]), "label": [0, 1]})
    loaded = load_dataset(save(tmp_path / "t", data, "parquet"))
    assert (loaded.x[1] == X[1, :1]).all() and "1 of 2 pictures are grey" in loaded.notes[0]
    data = pyarrow.table({"image": stored([X[0], X[1, :, :4]]), "label": [0, 1]})
    assert "--resize 7x5 scales them all" in refused(save(tmp_path / "t", data, "parquet"))
    assert load_dataset(tmp_path / "t", resize=(3, 3)).x.shape == (2, 3, 3, 3)


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ({"a": [1, None], "y": [0, 1]}, "column a has empty cells"),
        ({"a": [1, 2], "y": [0, None]}, "column y has empty cells"),
        ({"a": [1, 2], "y": ["x", None]}, "column y has empty cells"),
        ({"a": ["p", "q"], "y": [0, 1]}, "column a holds string: make numbers of it"),
        ({"a": [[1], [2, 3]], "y": [0, 1]}, "holds lists of different lengths"),
        ({"a": [["p"], ["q"]], "y": [0, 1]}, "holds lists of string"),
        ({"a": [[1], None], "y": [0, 1]}, "column a has empty cells"),
        ({"a": [[1], [2]], "b": [[1], [2]], "y": [0, 1]}, "it has 2 columns of lists (a, b): keep one"),
        ({"a": [{"bytes": None, "path": "x"}, {"bytes": b"x", "path": ""}], "y": [0, 1]}, "without holding it"),
        ({"a": [{"bytes": b"x", "path": ""}], "y": [0]}, "a of sample 0: no sound PNG or JPEG"),
        ({"y": [0, 1]}, "it has no column beside the labels"),
        ({"a": [1, 2], "y": [[0], [1]]}, "expected labels: numbers, or texts"),
        ({"a": [1, 2], "b": [0, 1]}, "which column holds the labels?"),
        ({"a": pyarrow.array([], "int8"), "y": pyarrow.array([], "int8")}, "the dataset is empty"),
        ({"a": [300, 2], "y": [0, 1]}, "take them as float32 (--values float32)"),
    ],
)
def test_columns_that_cannot_be_used_are_refused(tmp_path, columns, why):
    for kind in ("parquet", "stream"):
        assert why in refused(save(tmp_path / "t", pyarrow.table(columns), kind))


def test_what_datasets_saves_is_read(tmp_path):
    data = pyarrow.table({"image": stored(), "label": Y}).replace_schema_metadata(features())
    files = [save(tmp_path / f"data-{i}.arrow", data.slice(3 * i, 3), "stream") for i in range(2)]
    state = {"_data_files": [{"filename": path.name} for path in files], "_fingerprint": "x"}
    (tmp_path / "state.json").write_text(json.dumps(state))
    loaded = load_dataset(tmp_path)
    assert (loaded.x == X).all() and (loaded.y == Y).all() and loaded.names == NAMES
    for name in ("../data-0.arrow", "/etc/passwd", "", ".x", 3, None):
        (tmp_path / "state.json").write_text(json.dumps({"_data_files": [{"filename": name}]}))
        assert "is no name of a data file" in refused(tmp_path)
    for bad in ("[]", "{}", "", "[" * 9999, '{"_data_files":[]}', '{"_data_files":[1],"_indices_data_files":[2]}'):
        (tmp_path / "state.json").write_text(bad)
        assert str(tmp_path / "state.json") in refused(tmp_path)
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    assert "holds the parts train, test: give one of them, as" in refused(tmp_path)
    other = save(tmp_path / "o.arrow", pyarrow.table({"x": [1], "label": [1]}), "stream")
    renamed = data.replace_schema_metadata({"huggingface": features()["huggingface"].replace("cat", "cow")})
    save(again := tmp_path / "r.arrow", renamed, "stream")
    for second in (other, again):
        with pytest.raises(UnusableInput, match="its columns are others than those of the first file"):
            arrow.read_arrow([files[0], second], zkcert.data.arrays.Options())


def test_columns_that_unpack_to_far_more_than_they_are_are_refused(tmp_path, monkeypatch):
    zeros = pyarrow.FixedSizeListArray.from_arrays(np.zeros(2_000_000, np.int32), 1000)
    compressed = {"compression": "zstd", "row_group_size": 2000}
    path = save(tmp_path / "t", pyarrow.table({"x": zeros, "y": [0] * 2000}), "parquet", **compressed)
    assert load_dataset(path).x.shape == (2000, 1, 1, 1000)
    monkeypatch.setattr(npz, "FREE_BYTES", 1000)
    assert "if that is right, store the data uncompressed" in refused(path)
    monkeypatch.setattr(arrow, "_WORK", 0)
    monkeypatch.setattr(arrow, "FREE_BYTES", 0)
    monkeypatch.setattr(arrow, "MAX_RATIO", 0)
    data = pyarrow.table({"x": [bytes(1 << 26)], "y": [0]})
    save(path, data, "parquet", **compressed, use_dictionary=False)
    assert "column x holds binary" in refused(path) or "claim to hold far more" in refused(path)


def test_memory_is_bounded_for_a_while():
    with memory_for(1 << 28):
        np.zeros(1 << 20, np.uint8)
        with pytest.raises(MemoryError):
            np.zeros(1 << 30, np.uint8)
    np.zeros(1 << 30, np.uint8)


# --------------------------------------------------------------------------------------------------- in memory


class Items(torch.utils.data.Dataset):
    classes = NAMES

    def __init__(self, x, y) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, i):
        return self.x[i], self.y[i]


def test_arrays_tensors_and_pytorch_datasets_are_read():
    for source in (
        (X, Y),
        [torch.from_numpy(X), torch.from_numpy(Y)],
        {"data": X, "target": Y.tolist(), "more": 1},
        torch.utils.data.TensorDataset(torch.from_numpy(X), torch.from_numpy(Y)),
        Items([picture(x) for x in X], Y.tolist()),
        [{"image": picture(x), "label": int(y)} for x, y in zip(X, Y, strict=True)],
        load_dataset((X, Y)),
    ):
        loaded = load_dataset(source)
        assert (loaded.x == X).all() and (loaded.y == Y).all()
        assert loaded.names == (NAMES if isinstance(source, Items) else ())
    assert load_dataset((torch.from_numpy(X).bfloat16() / 256, Y)).x.dtype == np.float32
    loaded = load_dataset((X, [NAMES[label] for label in Y]))
    assert (loaded.y == Y).all() and loaded.names == NAMES
    assert load_dataset(Items(X, [NAMES[label] for label in Y]), names=["eel", "dog", "cat", "fox"]).y.tolist() == [
        *(2 - Y).tolist()
    ]


@pytest.mark.parametrize(
    ("source", "why"),
    [
        (3, "int: expected a pair of arrays"),
        ((X, Y, Y), "tuple: item 0 is no pair of a sample and a label, but ndarray"),
        (Items([X[0], X[1, :1]], [0, 1]), "sample 1 is uint8 of shape (1, 7, 5), the first uint8 of shape (3, 7, 5)"),
        (Items([], []), "the dataset is empty"),
        ((X.astype(object), Y), "holds object, where numbers are expected"),
        ((X, Y[:3]), "6 samples but 3 labels"),
        ((iter([]), iter([])), "tuple: item 0 is no pair of a sample and a label, but list_iterator"),
        ({"x": X}, "it holds x"),
    ],
)
def test_other_things_in_memory_are_refused(source, why):
    assert why in refused(source)


def test_random_transforms_are_noticed():
    class Augmented(Items):
        def __getitem__(self, i):
            return RANDOM.random((1, 2, 2)), self.y[i]

    assert "is another one each time it is read: turn random transforms off" in refused(Augmented(X, Y))


# ------------------------------------------------------------------------------------------------ names of classes


def test_names_are_recorded_in_the_public_root_and_read_again(tree, tmp_path):
    zkcert.commit(tree, tmp_path / "d.zkd", names=["eel", "cat", "dog", "fox"], keep_order=True)
    root = DatasetRoot.load(tmp_path / "d.root")
    assert root.schema.names == ("eel", "cat", "dog", "fox") and root.schema.classes == 4
    opened = CommittedDataset.open(tmp_path / "d.zkd")
    assert opened.root == root and opened.labels(range(6)).tolist() == [1, 1, 2, 2, 2, 0]
    found = zkcert.commit((X, np.array(NAMES)[Y]), tmp_path / "e.zkd", names=())
    assert found.root.schema.names == () and found.root.schema.classes == 3


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"names": ["cat", "dog"]}, "the labels 'eel' are not among the names of classes that are given"),
        ({"names": ["cat", "cat", "dog", "eel"]}, "must differ"),
        ({"names": ["cat", "dog", "eel\n"]}, "is no name of a class"),
        ({"values": "int8"}, "values are bytes or float32"),
    ],
)
def test_names_that_do_not_fit_are_refused(tree, options, why):
    assert why in refused(tree, **options)
    with pytest.raises(UnusableInput, match="3 names of classes do not fit 4 classes: give --names"):
        zkcert.look(tree, classes=4)
    assert "there is a label 2, but only 2 names of classes" in refused((X, Y), names=["a", "b"])
