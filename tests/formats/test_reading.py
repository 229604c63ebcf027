"""Files that nobody vouches for: what is no regular file is refused at once, before anything is read."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from verifier.files import read_proof
from zkcert.calibration import load_calibration
from zkcert.data.committed import CommittedDataset
from zkcert.data.dataset import load_dataset
from zkcert.errors import UnusableInput
from zkcert.public import reading
from zkcert.public.kinds import kind_of, read_head
from zkcert.public.model import Model
from zkcert.public.reading import opened, read_file
from zkcert.public.root import DatasetRoot
from zkcert.public.statement import load_announcement

READERS = [read_proof, Model.load, DatasetRoot.load, CommittedDataset.open, load_announcement, load_calibration]
READERS += [load_dataset, lambda path: read_file(path, 1 << 20), lambda path: read_head(path, 4)]


def refusal(call, path) -> str:
    with pytest.raises(UnusableInput) as caught:
        call(path)
    text = str(caught.value)
    assert text.startswith(str(path)) and "\n" not in text
    return text


@pytest.fixture
def odd_files(tmp_path):
    """Things that are no regular files."""
    os.mkfifo(tmp_path / "fifo")
    os.symlink("fifo", tmp_path / "link")
    with tempfile.TemporaryDirectory() as short, socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{short}/s")  # names of sockets have at most 107 bytes
        yield [tmp_path / "fifo", tmp_path / "link", Path(short, "s"), Path("/dev/zero"), Path("/dev/tty")]


@pytest.mark.parametrize("reader", READERS)
def test_what_is_no_regular_file_is_refused_by_every_reader(odd_files, reader):
    for path in odd_files:
        assert "is a pipe, socket or device" in refusal(reader, path)
        assert kind_of(path) is None


@pytest.mark.parametrize("reader", READERS)
def test_names_of_no_file_are_refused_by_every_reader(tmp_path, reader):
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "here").mkdir()
    for name in ("missing", "loop", "here", "x" * 5000):
        refusal(reader, tmp_path / name)
    for name in ("nul\0nul", "\udcff\ud800"):
        with pytest.raises(UnusableInput):
            reader(name)


@pytest.mark.parametrize("reader", [r for r in READERS if r is not READERS[-1]])
def test_sparse_files_of_terabytes_are_refused_unread(tmp_path, reader):
    with open(tmp_path / "sparse", "wb") as file:
        file.truncate(3 << 40)
    refusal(reader, tmp_path / "sparse")


def test_a_file_is_read_up_to_its_limit(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"abcde")
    (tmp_path / "link").symlink_to(path)
    assert read_file(path, 5) == read_file(str(tmp_path / "link"), 5) == b"abcde"
    assert (read_head(path, 2), read_head(path, 9)) == (b"ab", b"abcde")
    assert "more than 4 bytes" in refusal(lambda p: read_file(p, 4), path)
    path.write_bytes(b"")
    assert read_file(path, 0) == b""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="there is no /proc")
def test_files_that_the_system_makes_up_are_refused():
    assert "is said to have" in refusal(lambda p: read_file(p, 1 << 20), "/proc/self/status")


@pytest.mark.parametrize("change", ["grow", "shrink", "rewrite"])
def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path, change):
    path = tmp_path / "f"
    path.write_bytes(bytes(100_000))

    def read(path):
        with opened(path) as (file, size):
            assert len(file.read(10)) == 10 and size == 100_000
            if change == "rewrite":
                path.write_bytes(bytes(100_000))
                os.utime(path, ns=(0, 0))
            else:
                os.truncate(path, 100_001 if change == "grow" else 99_999)

    assert "was changed" in refusal(read, path)


@pytest.mark.parametrize("real", [100, 102])
def test_exactly_the_size_seen_is_read(tmp_path, monkeypatch, real):
    """The size changes between the look and the read."""
    path = tmp_path / "f"
    path.write_bytes(bytes(101))
    look = os.fstat

    def then_change(descriptor):
        found = look(descriptor)
        os.truncate(path, real)
        return found

    monkeypatch.setattr(reading.os, "fstat", then_change)
    assert "is said to have" in refusal(lambda p: read_file(p, 1000), path)


def test_a_pipe_that_takes_the_place_of_a_file_does_not_block(tmp_path, monkeypatch):
    """What is opened counts, not what was looked at."""
    path = tmp_path / "f"
    path.write_bytes(b"abc")
    look, seen = reading._check_regular, []

    def then_swap(name, mode):
        look(name, mode)
        if not seen:
            path.unlink()
            os.mkfifo(path)
        seen.append(mode)

    monkeypatch.setattr(reading, "_check_regular", then_swap)
    assert "is a pipe" in refusal(lambda p: read_file(p, 10), path)
    assert len(seen) == 1


def test_errors_of_the_block_are_its_own(tmp_path):
    (tmp_path / "f").write_bytes(b"abc")
    with pytest.raises(ValueError, match="inner"), opened(tmp_path / "f"):
        raise ValueError("inner")


@pytest.mark.parametrize("odd", ["fifo", "/dev/zero", "/proc/self/status"])
def test_the_verifiers_command_refuses_them_in_one_line(tiny, tmp_path, odd):
    if odd == "fifo":
        os.mkfifo(odd := str(tmp_path / "fifo"))
    elif not os.path.exists(odd):
        pytest.skip(f"there is no {odd}")
    for given in (
        [odd, tiny.model, "--tau", tiny.tau],
        [tiny.proof, odd, "--tau", tiny.tau],
        [tiny.proof, tiny.model, "--tau", tiny.tau, "--data-root", odd],
        [tiny.proof, tiny.model, "--tau", tiny.tau, "--announcement", odd],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "verifier", *map(str, given)], capture_output=True, text=True, timeout=60
        )
        assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1), done.stderr
        assert odd in done.stderr
