"""X in a scratch file: the same proof, and nobody else sees the file."""

from __future__ import annotations

import gc
import os
import stat
import time
from contextlib import suppress
from unittest import mock

import numpy as np
import pytest

from prover import scratch
from prover.scratch import Scratch
from zkcert import api
from zkcert.errors import UnusableInput
from zkcert.files.writing import NotWritten


def unnamed_files() -> list[os.stat_result]:
    """Files without a name that this process has open."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # of listing them
            found.append(os.fstat(int(name)))
    return [status for status in found if stat.S_ISREG(status.st_mode) and not status.st_nlink]


@pytest.mark.parametrize("checkpoint", [False, True])
def test_the_proof_is_the_same_and_the_file_private(tiny, tmp_path, checkpoint):
    """Nothing is in the directory, at any time."""
    place, sizes = tmp_path / "place", set()
    place.mkdir()
    before = {status.st_ino for status in unnamed_files()}

    def look(name: str, done: api.PhaseTime | None) -> None:
        assert list(place.iterdir()) == []
        files = [status for status in unnamed_files() if status.st_ino not in before]
        if name not in ("load", "self-check"):
            (file,) = files
            assert (file.st_mode, file.st_nlink, file.st_uid) == (stat.S_IFREG | 0o600, 0, os.getuid())
            sizes.add((file.st_size, min(512 * file.st_blocks, file.st_size)))

    options = {"announcement": tiny.announcement, "beacon": tiny.beacon}
    with mock.patch("prover.checkpoint.secrets.token_bytes", lambda size: bytes(range(size))):
        api.prove(tiny.model, tiny.data, tmp_path / "memory.bin", **options)
        more = {"checkpoint": tmp_path / "kept"} if checkpoint else {}
        with mock.patch.object(scratch, "PERIOD", 0.01):
            api.prove(tiny.model, tiny.data, tmp_path / "file.bin", **options, **more, scratch=place, progress=look)
    assert (tmp_path / "file.bin").read_bytes() == (tmp_path / "memory.bin").read_bytes()
    needed = api.estimate(tiny.model, config=tiny.config, data_root=tiny.root).scratch_file_bytes
    assert sizes == {(needed, needed)}  # all of it is the file's from the beginning
    assert all(not status.st_blocks for status in unnamed_files() if status.st_ino not in before)
    gc.collect()
    assert {status.st_ino for status in unnamed_files()} <= before


def test_what_was_written_stays_when_the_mapping_is_dropped(tmp_path, monkeypatch):
    monkeypatch.setattr(scratch, "PERIOD", 1e-4)
    rng = np.random.default_rng(0)
    with Scratch(tmp_path, 1 << 18) as room:
        assert not room.x.any() and room.x.flags.carray
        wanted, end = np.zeros(len(room.x), np.int32), time.monotonic() + 0.3
        while time.monotonic() < end:
            start = int(rng.integers(0, len(room.x) - 5000))
            room.x[start : start + 5000] += np.int32(start)
            wanted[start : start + 5000] += np.int32(start)
        assert np.array_equal(room.x, wanted)


def test_a_directory_without_room_is_refused_before_the_work(tiny, tmp_path):
    with pytest.raises(
        NotWritten, match=rf"^{tmp_path} has no room for 4611686018\.4 GB \(.*\): give another directory"
    ):
        Scratch(tmp_path, 1 << 60)
    full, seen = OSError(28, "No space left on device"), set()
    options = {"announcement": tiny.announcement, "beacon": tiny.beacon, "scratch": tmp_path}
    with (
        mock.patch.object(os, "posix_fallocate", side_effect=full),
        pytest.raises(NotWritten, match=r"has no room for 0\.0 GB \(No space left on device\)"),
    ):
        api.prove(tiny.model, tiny.data, tmp_path / "p", **options, progress=lambda name, done: seen.add(name))
    with (
        mock.patch("shutil.disk_usage", return_value=mock.Mock(total=100, free=40)),
        pytest.raises(NotWritten, match=r"will take .* MB, 0\.0 MB of the disk are free"),
    ):
        api.prove(tiny.model, tiny.data, tmp_path / "p", **options, progress=lambda name, done: seen.add(name))
    assert seen == {"load"}
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_may_not_be_written_to_is_refused(tmp_path):
    with (
        mock.patch("tempfile.TemporaryFile", side_effect=PermissionError(13, "Permission denied")),
        pytest.raises(UnusableInput, match=r"no scratch file can be kept there \(Permission denied\)"),
    ):
        Scratch(tmp_path, 1)


def test_systems_that_cannot_take_space_get_a_file_of_the_same_size(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "posix_fallocate")
    with Scratch(tmp_path, 1000) as room:
        room.x[:] = np.arange(1000)
        assert room.x.sum() == 499_500
