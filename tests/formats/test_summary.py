"""commit shows what the data look like, and says what looks like a mistake."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from zkcert import cli
from zkcert.data.summary import _CHUNK, Summary

N = 120


def samples(seed: int = 0, n: int = N) -> tuple[np.ndarray, np.ndarray]:
    return np.random.default_rng(seed).integers(0, 256, (n, 1, 4, 4), dtype=np.uint8), np.arange(n) % 4


def spoiled(how: str) -> tuple[np.ndarray, np.ndarray]:
    x, y = samples()
    match how:
        case "black":
            x = x * 0
        case "blank":
            x[::20] = np.arange(6, dtype=np.uint8)[:, None, None, None]
        case "repeated":
            x[60:] = x[:60]
        case "contradicting":
            x[60:] = x[1:61]
        case "0..16":
            x //= 16
        case "0..255 as floats":
            x = x.astype(np.float32)
        case "floats to 100":
            x = x.astype(np.float32) / np.float32(2.55)
        case "labels from 1":
            y = y + 1
        case "one class":
            y = y * 0 + 3
        case "a class missing":
            y[y == 2] = 1
        case "unit floats":
            x = x.astype(np.float32) / np.float32(255)
        case "bits as floats":
            x = (x > 127).astype(np.float32)
    return x, y


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("right", []),
        ("unit floats", []),
        ("bits as floats", []),
        ("black", ["every value is 0", "119 of 120 samples repeat an earlier one exactly, 90 of them under another"]),
        ("blank", ["6 of 120 samples are blank"]),
        ("repeated", ["60 of 120 samples repeat an earlier one exactly: leave them out"]),
        ("contradicting", ["59 of 120 samples repeat an earlier one exactly, 59 of them under another label"]),
        ("0..16", ["no byte is above 15: models read x/255"]),
        ("0..255 as floats", ["whole numbers from 0 to 255, and are not divided by 255"]),
        ("floats to 100", ["float32 samples hold numbers from 0 to 100"]),
        ("labels from 1", ["no label is 0, the least is 1: subtract 1"]),
        ("one class", ["all labels are 3"]),
        ("a class missing", ["1 of 4 classes have no sample: 2"]),
    ],
)
def test_mistakes_are_said_one_line_each(how, words):
    found = Summary.of(*spoiled(how)).warnings()
    assert len(found) == len(words)
    for text, word in zip(found, words, strict=True):
        assert word in text and "\n" not in text


def test_classes_that_were_promised_and_a_few_repeats():
    x, y = samples()
    assert "1 of 5 classes have no sample: 4" in Summary.of(x, y).warnings(5)[0]
    x[7] = x[3]
    assert (Summary.of(x, y).repeated, Summary.of(x, y).warnings()) == (1, [])


@pytest.mark.parametrize("kind", ["right", "unit floats"])
def test_the_figures_are_those_of_all_samples(kind):
    (x, y), more = spoiled(kind), 2 * _CHUNK + 5
    x, y = np.resize(x, (more, *x.shape[1:])), np.resize(y, more)
    found = Summary.of(x, y)
    assert (found.n, found.shape, found.low, found.high) == (more, (1, 4, 4), x.min(), x.max())
    assert found.mean == pytest.approx(x.mean(dtype=np.float64))
    assert found.counts == tuple(np.bincount(y))
    assert (found.repeated, found.contradicting, found.blank) == (more - N, 0, 0)
    assert Summary.of(x[:, :, :1, :1], y).blank == 0  # of single values, none is blank


@pytest.mark.parametrize("classes", [4, 100])
def test_commit_prints_them_to_the_owner(capsys, tmp_path: Path, classes: int):
    x, y = samples(n=200)
    y = np.arange(200) % classes
    y[0] = 1
    np.savez(tmp_path / "d.npz", x=x // 16, y=y)
    assert cli.main(["commit", str(tmp_path / "d.npz"), "-o", str(tmp_path / "a.zkd")]) == 0
    out, err = capsys.readouterr()
    assert "200 samples, u8 1x4x4" in out and "values  bytes, 0 to 15, mean" in out
    counts = (
        "0: 49  1: 51  2: 50  3: 50" if classes == 4 else "0 to 99, 1 to 3 samples of each (fewest of 0, most of 1)"
    )
    assert f"labels  {counts}" in out
    assert err.startswith("WARNING: no byte is above 15") and err.count("\n") == 1
    assert cli.main(["commit", str(tmp_path / "d.npz"), "-o", str(tmp_path / "b.zkd"), "--json"]) == 0
    out, again = capsys.readouterr()
    found = json.loads(out)
    assert again == err and [f"WARNING: {text}\n" for text in found["warnings"]] == [err]
    assert found["private"]["counts"] == np.bincount(y).tolist() and found["private"]["range"] == [0, 15]
    root = json.loads((tmp_path / "a.root").read_text())
    assert set(root) == {"N", "format", "root", "schema"}  # nothing of this is public
