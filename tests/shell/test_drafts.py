"""Outputs appear complete or not at all, are never lost to a full disk, and two at once end in one."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.conftest import TINY_CLASSES, TINY_INPUT
from tests.killing import FILE_SYSTEMS, limited
from zkcert import api, cli
from zkcert.convert import from_sequential
from zkcert.data.committed import CommittedDataset
from zkcert.errors import UnusableInput
from zkcert.files import drafts
from zkcert.files.drafts import Draft, remove_dead
from zkcert.files.saving import save_root
from zkcert.files.writing import NotWritten, keep_file, output, require_space, write_file
from zkcert.public.kinds import MODEL, PROOF, ROOT, SECRET, kind_of
from zkcert.public.model import Model
from zkcert.public.root import DatasetRoot, Schema
from zkcert.zoo import mlp

PROBE = ("--steps", 2, "--batch-size", 2)
A_ROOT = DatasetRoot(bytes(32), 3, Schema(2, "u8", (1, 2, 2)))
ANOTHER = DatasetRoot(b"\1" * 32, 3, Schema(2, "u8", (1, 2, 2)))


@pytest.fixture(params=FILE_SYSTEMS)
def file_system(request: pytest.FixtureRequest) -> Iterator[str]:
    with limited(request.param):
        yield request.param


def names(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir())


# -------------------------------------------------------------------------------------------------- drafts


def test_a_draft_has_its_name_when_it_is_published(tmp_path, file_system):
    with Draft(tmp_path / "x", 0o600) as draft:
        draft.file.write(b"whole")
        assert names(tmp_path) == [] or file_system != "unnamed"
        assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in tmp_path.iterdir())
        draft.publish()
    assert (names(tmp_path), (tmp_path / "x").read_bytes()) == (["x"], b"whole")
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o600
    with Draft(tmp_path / "x", 0o644) as draft:
        draft.file.write(b"again")
        with pytest.raises(FileExistsError):
            draft.publish()
        draft.publish(replace=True)
    assert (names(tmp_path), (tmp_path / "x").read_bytes()) == (["x"], b"again")


def test_nothing_stays_of_a_draft_that_is_not_published(tmp_path, file_system):
    with pytest.raises(KeyboardInterrupt), Draft(tmp_path / "x", 0o600) as draft:
        draft.file.write(b"half")
        raise KeyboardInterrupt
    assert names(tmp_path) == []


def test_dangling_links_and_directories_are_not_replaced(tmp_path, file_system):
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "place").mkdir()
    for name in ("link", "place"):
        with Draft(tmp_path / name, 0o600) as draft, pytest.raises(FileExistsError):
            draft.publish()
    with pytest.raises(UnusableInput, match="a link to a file that does not exist"):
        write_file(tmp_path / "link", [b""], MODEL, force=True)
    assert names(tmp_path) == ["link", "place"]


def test_a_published_draft_is_withdrawn_unless_another_has_its_name(tmp_path, file_system):
    for another in (False, True):
        with Draft(tmp_path / "x", 0o600) as draft:
            draft.publish()
            if another:
                (tmp_path / "x").unlink()
                (tmp_path / "x").write_bytes(b"another's")
            draft.withdraw()
        assert names(tmp_path) == ["x"] * another


def test_one_of_many_drafts_takes_a_name(tmp_path, file_system):
    for attempt in range(20):
        place = tmp_path / str(attempt)
        place.mkdir()
        ready, won = threading.Barrier(4), []

        def write(number: int, place: Path = place, ready: threading.Barrier = ready, won: list[int] = won) -> None:
            with Draft(place / "x", 0o600) as draft:
                draft.file.write(b"%d" % number)
                ready.wait()
                try:
                    draft.publish()
                    won.append(number)
                except FileExistsError:
                    pass

        threads = [threading.Thread(target=write, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        assert (names(place), (place / "x").read_bytes()) == (["x"], b"%d" % won[0])


def test_an_unnamed_file_that_cannot_be_linked_is_copied(tmp_path, monkeypatch):
    if not drafts.UNNAMED:
        pytest.skip("files without a name are of Linux")

    def fails(*_: object, **__: object) -> None:
        raise OSError(errno.EXDEV, "not on this file system")

    monkeypatch.setattr(os, "link", fails)
    for replace in (False, True):
        with Draft(tmp_path / "x", 0o600) as draft:
            draft.file.write(b"whole")
            draft.publish(replace=replace)
        assert (names(tmp_path), (tmp_path / "x").read_bytes()) == (["x"], b"whole")


def test_only_what_a_dead_process_left_is_removed(tmp_path):
    dead, other = tmp_path / ".x.0123456789abcdef.tmp", tmp_path / ".xy.0123456789abcdef.tmp"
    for path in (dead, other, tmp_path / ".x.0123.tmp", tmp_path / "x.0123456789abcdef.tmp"):
        path.write_bytes(b"secret")
    (tmp_path / ".x.aaaaaaaaaaaaaaaa.tmp").symlink_to(other)
    kept = set(names(tmp_path)) - {dead.name}
    with limited("named"), Draft(tmp_path / "x", 0o600) as draft:
        draft.file.write(b"alive")
        alive = set(names(tmp_path)) - kept
        assert len(alive) == 1 and dead.name not in alive
        remove_dead(tmp_path / "x")
        assert set(names(tmp_path)) == kept | alive
        draft.publish()
    assert set(names(tmp_path)) == kept | {"x"}


def test_a_draft_that_is_not_locked_yet_may_be_taken_for_dead_and_begins_again(tmp_path, monkeypatch):
    """Another process finds it between its making and its lock, and removes it a moment later."""
    lock, taken = drafts._locked, []

    def removed(temporary: Path, fd: int) -> None:
        temporary.unlink()
        os.close(fd)

    def late(fd: int) -> int:
        (temporary,) = tmp_path.iterdir()
        if not taken:
            found = drafts._dead(temporary)
            assert found is not None
            taken.append(threading.Timer(0.1, removed, (temporary, found)))
            taken[0].start()
        return lock(fd)

    monkeypatch.setattr(drafts, "_locked", late)
    with limited("named"), Draft(tmp_path / "x", 0o600) as draft:
        taken[0].join()
        draft.file.write(b"whole")
        draft.publish()
    assert (names(tmp_path), (tmp_path / "x").read_bytes()) == (["x"], b"whole")


def test_names_may_be_as_long_as_the_system_takes(tmp_path, file_system):
    path = tmp_path / ("x" * 255)
    for content in (b"1", b"2"):
        with Draft(path, 0o600) as draft:
            draft.file.write(content)
            draft.publish(replace=True)
        assert (names(tmp_path), path.read_bytes()) == ([path.name], content)


# ------------------------------------------------------------------------------------ the rules, also from Python


def test_python_writers_keep_the_rules(tiny, tmp_path):
    model, root = Model.load(tiny.model), DatasetRoot.load(tiny.root)
    for save, suffix in ((model.save, ".pt"), (model.save, ".safetensors"), (partial(save_root, root), ".root")):
        path = tmp_path / f"new{suffix}"
        save(path)
        with pytest.raises(UnusableInput, match="exists"):
            save(path)
        save(path, force=True)
        path.write_bytes(b"a thesis")
        with pytest.raises(UnusableInput, match="exists and is not"):
            save(path, force=True)
        assert path.read_bytes() == b"a thesis"


def test_what_appears_meanwhile_is_replaced_only_if_it_might_have_been(tmp_path):
    path = tmp_path / "data.root"
    with pytest.raises(NotWritten, match="exists by now"), output(path, ROOT) as file:
        file.write(ANOTHER.to_bytes())
        save_root(A_ROOT, path)
    assert DatasetRoot.load(path) == A_ROOT
    path.unlink()
    with output(path, ROOT, force=True) as file:
        file.write(ANOTHER.to_bytes())
        save_root(A_ROOT, path)
    assert DatasetRoot.load(path) == ANOTHER
    path.unlink()
    with pytest.raises(UnusableInput, match="exists and is not"), output(path, ROOT, force=True) as file:
        file.write(ANOTHER.to_bytes())
        path.write_bytes(b"a thesis")
    assert (names(tmp_path), path.read_bytes()) == (["data.root"], b"a thesis")


# -------------------------------------------------------------------------------------------------- full disks


@pytest.fixture
def full(tmp_path, monkeypatch) -> Path:
    """A directory on a full disk, as an application notices it at the latest."""
    place, fsync = tmp_path / "full", os.fsync
    place.mkdir()

    def refuses(fd: int) -> None:
        if os.readlink(f"/proc/self/fd/{fd}").startswith(f"{place}/"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", refuses)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return place


def one_line(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The line on stderr of a command that ends with code 2."""
    capsys.readouterr()
    assert cli.main([str(argument) for argument in arguments]) == 2
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error: ")]
    return line


def test_a_trained_model_is_kept_elsewhere(capsys, tiny, full):
    line = one_line(capsys, "train", "mlp", tiny.dataset, "--epochs", 1, "--hidden", 4, "-o", full / "model.pt")
    (kept,) = Path().iterdir()
    text = f"{full}/model.pt: cannot be written (No space left on device)"
    assert line == f"error: {text}; a model file is kept as {kept.absolute()}"
    assert Model.load(kept).param_count and stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert names(full) == []


def test_a_proof_is_kept_elsewhere_and_its_checkpoint_is_not_needed(tiny, full, tmp_path):
    options = {"announcement": tiny.announcement, "beacon": tiny.beacon, "checkpoint": tmp_path / "kept"}
    with pytest.raises(NotWritten) as error:
        api.prove(tiny.model, tiny.data, full / "proof.bin", **options)
    assert error.value.kept is not None and names(full) == []
    assert not (tmp_path / "kept").exists()
    api.verify(error.value.kept, tiny.model, tau=tiny.tau)


def test_a_calibration_is_kept_elsewhere(capsys, tiny, full):
    command = ("calibrate", tiny.model, "--data", tiny.dataset, "--draws", 2, *PROBE, "-o", full / "calibration.json")
    assert "a calibration is kept as" in one_line(capsys, *command)
    assert names(full) == [] and len(names(Path())) == 1


def test_the_directory_for_temporary_files_is_the_last_resort(tmp_path, full, monkeypatch):
    monkeypatch.chdir(full)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "here"))
    with pytest.raises(NotWritten) as error:
        keep_file("model.pt", lambda: [b"a ", b"model"], MODEL)
    assert (error.value.kept.parent, error.value.kept.read_bytes()) == (tmp_path / "here", b"a model")
    monkeypatch.setattr("tempfile.tempdir", str(full))
    with pytest.raises(NotWritten, match=r"No space left on device\)$"):
        keep_file("model.pt", lambda: [b"a model"], MODEL)
    assert names(full) == []


def test_a_commitment_fails_cleanly(capsys, tiny, full):
    line = one_line(capsys, "commit", tiny.dataset, "-o", full / "data.zkd")
    assert line == f"error: {full}/data.zkd: cannot be written (No space left on device)"
    assert names(full) == names(Path()) == []


@pytest.mark.parametrize("command", ["commit", "train", "prove", "checkpoint"])
def test_room_is_looked_for_before_the_work(capsys, tiny, tmp_path, monkeypatch, command):
    def work(*_: object, **__: object) -> None:
        raise AssertionError("the work began")

    for place in ("zkcert.data.committed.hash_samples", "zkcert.zoo.train", "prover.prove.prove_statement"):
        monkeypatch.setattr(place, work)
    whole = shutil.disk_usage(tmp_path)
    free = {"commit": 1000, "train": 1000, "prove": 1000, "checkpoint": 10_000_000}[command]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: whole._replace(free=free))
    prove = ["prove", tiny.model, tiny.data, "--tau", 9, *PROBE, "-o", tmp_path / "proof.bin"]
    arguments = {
        "commit": ["commit", tiny.dataset, "-o", tmp_path / "data.zkd"],
        "train": ["train", "mlp", tiny.dataset, "-o", tmp_path / "model.pt"],
        "prove": prove,
        "checkpoint": [*prove, "--checkpoint", tmp_path / "kept"],
    }[command]
    assert "MB of the disk are free" in one_line(capsys, *arguments)
    assert names(tmp_path) == []


def test_a_disk_that_says_nothing_of_its_size_is_tried(tmp_path, monkeypatch):
    whole = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: whole._replace(total=0, used=0, free=0))
    require_space(tmp_path / "none" / "x", 1 << 60)


# ------------------------------------------------------------------------------------------------- two at once


def test_the_second_of_two_trainings_is_kept_beside_the_first(capsys, tiny, tmp_path):
    out = tmp_path / "model.pt"
    from_sequential(mlp(12, [6], TINY_CLASSES, seed=9), input=TINY_INPUT).save(tmp_path / "first.pt")

    def meanwhile(*_: object) -> None:
        if not out.exists():
            shutil.copy(tmp_path / "first.pt", out)

    with pytest.raises(NotWritten, match=r"exists \(a model file\): .*; a model file is kept as") as error:
        api.train("mlp", tiny.dataset, out, epochs=1, hidden=[4], progress=meanwhile)
    assert out.read_bytes() == (tmp_path / "first.pt").read_bytes()
    assert error.value.kept.parent == tmp_path and Model.load(error.value.kept).param_count
    assert len(names(tmp_path)) == 3


def test_the_second_of_two_proofs_is_kept_beside_the_first(tiny, tmp_path):
    out = tmp_path / "proof.bin"

    def meanwhile(name: str, done: object) -> None:
        if name == "self-check":
            shutil.copy(tiny.proof, out)

    with pytest.raises(NotWritten) as error:
        api.prove(tiny.model, tiny.data, out, announcement=tiny.announcement, beacon=tiny.beacon, progress=meanwhile)
    assert out.read_bytes() == tiny.proof.read_bytes()
    assert kind_of(error.value.kept) == PROOF and len(names(tmp_path)) == 2


# -------------------------------------------------------------------------------------------------- zkcert root


def test_the_root_is_written_again_from_the_secret_file(capsys, tiny, tmp_path):
    secret, public = tmp_path / "data.zkd", tmp_path / "data.root"
    shutil.copy(tiny.data, secret)
    line = one_line(capsys, "commit", tiny.dataset, "-o", secret)
    text = f"{secret} exists and is never replaced, {public} is missing: zkcert root {secret} writes it again"
    assert line == f"error: {text}"
    assert cli.main(["root", str(secret)]) == 0
    assert DatasetRoot.load(tiny.root).root.hex() in capsys.readouterr().out
    assert public.read_bytes() == tiny.root.read_bytes()
    before = public.stat().st_ino
    assert api.root(secret).public == public  # it is there
    assert public.stat().st_ino == before
    assert "secret file is never replaced" in one_line(capsys, "commit", tiny.dataset, "-o", secret)
    public.unlink()
    save_root(A_ROOT, public)
    assert f"{public} exists ({ROOT})" in one_line(capsys, "root", secret)
    assert DatasetRoot.load(public) == A_ROOT
    assert api.root(secret, force=True).root == CommittedDataset.open(secret).root == DatasetRoot.load(public)


@pytest.mark.parametrize("force", [(), ("--force",)])
def test_the_root_replaces_nothing_else(capsys, tiny, tmp_path, force):
    shutil.copy(tiny.model, tmp_path / "model.pt")
    shutil.copy(tiny.data, tmp_path / "data.zkd")
    assert "exists and is a model file" in one_line(capsys, "root", tiny.data, "-o", tmp_path / "model.pt", *force)
    assert "is an input of this command" in one_line(
        capsys, "root", tmp_path / "data.zkd", "-o", tmp_path / "data.zkd", *force
    )
    assert f"is {ROOT}, where {SECRET} is expected" in one_line(
        capsys, "root", tiny.root, "-o", tmp_path / "r.root", *force
    )
    assert names(tmp_path) == ["data.zkd", "model.pt"]


# ------------------------------------------------------------------------------------------------- closed pipes


@pytest.mark.parametrize(
    "command", [("-m", "verifier"), ("-m", "zkcert", "verify"), ("-m", "zkcert", "verify", "--json"), ("-m", "zkcert")]
)
def test_nobody_reads_the_output(tiny, command):
    arguments = [tiny.proof, tiny.model, "--tau", tiny.tau] if len(command) > 2 or "verifier" in command else []
    for closed in (True, False):
        if closed:
            reader, out = os.pipe()
            os.close(reader)
        else:
            out = os.open("/dev/full", os.O_WRONLY)
        done = subprocess.run(
            [sys.executable, *command, *map(str, arguments)], stdout=out, stderr=subprocess.PIPE, text=True
        )
        os.close(out)
        if closed:
            assert (done.returncode, done.stderr) == (141, "")
        else:
            assert done.returncode == 2
            assert done.stderr == "error: input/output: No space left on device\n"
