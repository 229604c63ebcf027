"""data.root, announce.json and calibration.json: read only as zkcert wrote them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import fields
from fractions import Fraction
from pathlib import Path

import pytest

from tests.formats.test_calibration import example
from zkcert.calibration import load_calibration
from zkcert.calibration.record import PROBE_FIELDS
from zkcert.core.container import FORMAT
from zkcert.errors import UnusableInput
from zkcert.files.saving import save_announcement, save_calibration, save_root
from zkcert.metric.probe import Probe
from zkcert.public.config import ProbeConfig
from zkcert.public.kinds import ANNOUNCEMENT, kind_of
from zkcert.public.root import DatasetRoot, Schema
from zkcert.public.statement import ANNOUNCEMENT_FORMAT, DRAW_VERSION, VERSION, Statement, load_announcement
from zkcert.public.strict_json import parse

ROOT = DatasetRoot(bytes(range(32)), 60000, Schema(10, "u8", (1, 28, 28)))
STATEMENT = Statement(bytes(32), bytes(32), ROOT, ProbeConfig(), Fraction(6, 5))

FILES: dict[str, tuple[Callable[[Path], object], Callable[[Path], object]]] = {
    "data.root": (lambda path: save_root(ROOT, path), DatasetRoot.load),
    "announce.json": (lambda path: save_announcement(STATEMENT, path), load_announcement),
    "calibration.json": (lambda path: save_calibration(example(), path), load_calibration),
}


def others(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Files that a lenient reader would read alike."""
    text = data.decode()
    value = json.loads(text)
    key = next(iter(value))
    yield "an order of keys", json.dumps(dict(reversed(value.items())), indent=1).encode() + b"\n"
    for indent in (None, 0, 2, "\t"):
        yield (
            f"indent {indent}",
            json.dumps(value, sort_keys=True, indent=indent, separators=(",", ":")).encode() + b"\n",
        )
    yield "no newline", data[:-1]
    yield "more newlines", data + b"\n"
    yield "a space", b" " + data
    yield "a zero byte", data + b"\0"
    yield "line ends", text.replace("\n", "\r\n").encode()
    yield "a mark", b"\xef\xbb\xbf" + data
    yield "UTF-16", text.encode("utf-16")
    yield "UTF-32", text.encode("utf-32-le")
    yield "an escape", text.replace('"format"', '"\\u0066ormat"').encode()
    yield "a key twice", text.replace("{", '{"' + key + '": ' + json.dumps(value[key]) + ",", 1).encode()
    yield "a number", text.replace(": 1", ": 1.0", 1).replace(": 60000", ": 6e4").encode()
    yield "a comment", text.replace("{", "{ /* */", 1).encode()
    yield "NaN", text.replace(": 1", ": NaN", 1).replace(": 60000", ": Infinity").encode()
    yield "depth", b"[" * 4000


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_read_only_as_it_was_written(tmp_path, name):
    save, load = FILES[name]
    path = tmp_path / name
    save(path)
    written = path.read_bytes()
    assert load(path) is not None and written.isascii() and written.endswith(b"\n")
    path.unlink()
    save(path)
    assert path.read_bytes() == written
    for what, data in others(written):
        assert data != written, what
        path.write_bytes(data)
        with pytest.raises(UnusableInput) as error:
            load(path)
        assert str(error.value).startswith(str(path)) and "\n" not in str(error.value), what


def test_an_announcement_is_of_one_version(tmp_path, monkeypatch):
    """The seed depends on the draw's version: an announcement good for two would be two draws. The proof system's may
    go on without it."""
    assert ANNOUNCEMENT_FORMAT.rpartition("-")[2] == DRAW_VERSION.rpartition("-")[2]
    assert VERSION.rpartition("-")[2] == str(FORMAT)
    with monkeypatch.context() as patch:
        patch.setattr("zkcert.public.statement.ANNOUNCEMENT_FORMAT", "zkcert-announcement-1")
        save_announcement(STATEMENT, tmp_path / "announce.json")
        old = STATEMENT.announcement_digest
    assert old != STATEMENT.announcement_digest and kind_of(tmp_path / "announce.json") == ANNOUNCEMENT
    with pytest.raises(UnusableInput, match="another version of zkcert: announce again"):
        load_announcement(tmp_path / "announce.json")


def test_a_probe_is_written_in_one_order():
    assert [*PROBE_FIELDS.split(), "ddof"] == [field.name for field in fields(Probe)]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"a":1,"a":1}', "occurs twice"),
        ("[NaN]", "no number"),
        ("[-Infinity]", "no number"),
        ("[-0]", "no integer"),
        ('"é"', "not ASCII"),
        ("[" * 100_000, "too deeply"),
        ('{"a":' * 100_000, "too deeply"),
        ("1" * 5000, "more than 4000 digits"),
        ("", "it is empty"),
        (" \n", "it is empty"),
        ("[1]]", "no JSON from line 1, character 4 on"),
        ("[1,\nx]", "no JSON from line 2, character 1 on"),
        ('{"a": [1, 2', "cut short"),
        ('{"a": "b', "cut short"),
        ("\0" * 9, "no JSON from line 1, character 1 on"),
    ],
)
def test_what_has_no_one_value_is_refused(text, why):
    with pytest.raises(ValueError, match=why):
        parse(text.encode())
