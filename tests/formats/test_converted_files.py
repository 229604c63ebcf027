"""Files written otherwise are converted, or refused."""

from __future__ import annotations

import hashlib
import json
import random
import struct
from collections import OrderedDict
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path
from unittest import mock

import pytest
import torch

import zkcert
from tests.formats.archives import (
    TORCH,
    by_torch,
    lenient,
    raw,
    saved,
    saved_file,
    small,
    small_file,
    unpacked,
)
from zkcert import cli
from zkcert.errors import UnusableInput, ZkcertError
from zkcert.public import torch_archive
from zkcert.public.model import Model


@pytest.mark.parametrize("dtype, count", [("F32", 48), ("F16", 96), ("BF16", 96), ("F64", 24)])
def test_a_storage_has_one_type(dtype, count):
    """PyTorch keeps a storage as it is loaded first: here among attributes of the state, which `convert` drops."""
    archive = unpacked(small_file())
    archive.members = [member for member in archive.members if not member.name.endswith(b".json")]
    text = archive.members[0].content
    first = torch_archive.pickled(None, None, {"x": (dtype, (count,))})
    storage = first[first.index(b"((") + 1 : first.index(b"tQ") + 2]  # the opcodes that load it
    state = b"ccollections\nOrderedDict\n)R}(X\x09\0\0\0_metadata" + storage + b"ub("
    changed = text.replace(b"X\x0a\0\0\0state_dict}(", b"X\x0a\0\0\0state_dict" + state)
    archive.members[0] = replace(archive.members[0], content=changed)
    data = archive.pack()
    read = by_torch(data)
    assert changed != text and (read is None or read[2]["fc1.weight"].dtype == dtype)
    assert lenient(data) == (read if dtype == "F32" else None)


def by_torch_mapped(data: bytes, path: Path) -> dict[str, bytes] | None:
    """The numbers PyTorch reads if it computes where they are, rather than looks."""
    path.write_bytes(data)
    try:
        with mock.patch.object(torch.utils.serialization.config.load, "calculate_storage_offsets", True):
            return {name: raw(t) for name, t in torch.load(path, mmap=True)["state_dict"].items()}
    except Exception:
        return None


def test_storages_are_where_pytorch_may_compute_that_they_are(tmp_path):
    verdicts = set()
    for described, alignment, version in product((False, True), (b"64", b"128", b"4096", None), (b"1", b"", None)):
        archive = unpacked(saved_file())
        flags = {"flags": 8 * described}
        contents = {b"storage_alignment": alignment, b"format_version": version}
        contents = {b"archive/." + name: content for name, content in contents.items()}
        kept = [m for m in archive.members if contents.get(m.name, b"") is not None]
        archive.members = [
            replace(m, content=contents.get(m.name, m.content), local=flags, central=flags) for m in kept
        ]
        data = archive.pack()
        accepted, mapped = lenient(data), by_torch_mapped(data, tmp_path / "model.pt")
        if accepted is not None and mapped is not None:
            assert mapped == {name: tensor.data for name, tensor in accepted[2].items()}
        verdicts.add((accepted is not None, mapped is not None))
    assert {(True, True), (False, True)} <= verdicts
    assert by_torch_mapped(saved_file(), tmp_path / "model.pt") and lenient(saved_file())


def test_conversion_changes_the_form_and_nothing_else(tmp_path):
    (tmp_path / "old.pt").write_bytes(saved_file())
    chain = ["old.pt", "a.pt", "b.safetensors", "c.pth", "d.safetensors"]
    for source, out in pairwise(chain):
        result = zkcert.convert_model(tmp_path / source, tmp_path / out)
        data = (tmp_path / out).read_bytes()
        assert data == small_file(result.path.suffix)
        assert result.model.weights_digest == small().weights_digest == Model.load(tmp_path / out).weights_digest
        assert (result.size, result.sha256) == (len(data), hashlib.sha256(data).hexdigest())


@pytest.mark.parametrize("dtype", TORCH)
def test_conversion_keeps_the_type_of_numbers(tmp_path, dtype):
    (tmp_path / "m.pt").write_bytes(small_file(dtype=dtype))
    zkcert.convert_model(tmp_path / "m.pt", tmp_path / "m.safetensors")
    assert (tmp_path / "m.safetensors").read_bytes() == small_file(".safetensors", dtype)


def test_conversion_orders_and_flattens(tmp_path):
    header = {"__metadata__": {"zkcert.graph": json.dumps(small().graph), "zkcert.input": json.dumps(small().input)}}
    body = b""
    for name, array in sorted(small().tensors.items(), reverse=True):
        offsets = [len(body), len(body) + array.nbytes]
        header[name] = {"shape": list(array.shape), "data_offsets": offsets, "dtype": "F32"}
        body += array.tobytes()
    text = json.dumps(header, indent=2).encode()
    (tmp_path / "old.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + body)
    state = {
        name: torch.tensor(a).t().contiguous().t() if a.ndim == 2 else torch.tensor(a)
        for name, a in small().params.items()
    }
    (tmp_path / "old.pt").write_bytes(saved(small(), state_dict=OrderedDict(reversed(state.items()))))
    for source in ("old.safetensors", "old.pt"):
        with pytest.raises(UnusableInput, match="`zkcert convert OLD -o NEW` writes it anew"):
            Model.load(tmp_path / source)
        for out in ("new.pt", "new.safetensors"):
            zkcert.convert_model(tmp_path / source, tmp_path / out, force=True)
            assert (tmp_path / out).read_bytes() == small_file(Path(out).suffix)


def test_a_damaged_file_of_ours_is_not_converted(tmp_path):
    path, rng = tmp_path / "m.pt", random.Random(4)
    for _ in range(50):
        data = bytearray(small_file())
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        with pytest.raises(ZkcertError, match=f"^{path}: "):
            zkcert.convert_model(path, tmp_path / "out.pt")
    assert not (tmp_path / "out.pt").exists()


def test_the_command_converts(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("old.pt").write_bytes(saved_file())
    assert cli.main(["convert", "old.pt", "-o", "model.pt"]) == 0
    text, digest = capsys.readouterr().out, hashlib.sha256(small_file()).hexdigest()
    assert small().weights_digest.hex() in text and digest in text
    assert cli.main(["convert", "old.pt", "-o", "model.pt"]) == 2
    assert "--force" in capsys.readouterr().err
    assert cli.main(["convert", "model.pt", "-o", "model.safetensors", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["model"] == small().weights_digest.hex() and found["file"] == "model.safetensors"
    assert found["sha256"] == hashlib.sha256(small_file(".safetensors")).hexdigest()
    for bad in ("missing.pt", "model.pt"):
        assert cli.main(["convert", bad, "-o", "model.pt", "--force"]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
    assert Path("model.pt").read_bytes() == small_file()
