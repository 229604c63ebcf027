"""Proofs with workers of a Ray on this machine: the same bytes, jobs, lost workers, what is left behind."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

import pytest

from prover.cluster import WorkerFailed
from prover.cluster.driver import Cluster
from prover.cluster.rays import crew
from zkcert import api
from zkcert.errors import UnusableInput

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own


@pytest.fixture(scope="module")
def team() -> Iterator[Cluster]:
    """Two workers, among which small trees are shared, too."""
    with crew("local:2") as workers:
        yield Cluster(workers, least_share=1 << 8)


def left_over() -> set[Path]:
    return set(Path(tempfile.gettempdir()).glob("zkcert-*"))


def test_a_proof_with_workers_is_the_same(tiny, tmp_path, team):
    options = {"announcement": tiny.announcement, "beacon": tiny.beacon}
    with mock.patch("prover.checkpoint.secrets.token_bytes", lambda size: bytes(range(size))):
        api.prove(tiny.model, tiny.data, tmp_path / "alone.bin", **options)
        found = api.prove(tiny.model, tiny.data, tmp_path / "shared.bin", **options, cluster=team)
    assert (tmp_path / "alone.bin").read_bytes() == (tmp_path / "shared.bin").read_bytes()
    traffic = team.traffic()
    assert {"commit", "late digits", "range checks", "open"} <= set(traffic) <= {p.name for p in found.phases} | {""}
    for name in ("late digits", "range checks", "open"):  # the tables' multiplicities are late
        assert min(traffic[name].sent) > 0 and min(traffic[name].seconds) > 0, name


def test_jobs_are_given_to_workers(run, place, team):
    """As without a cluster: what fails does not end the others, and what is there is kept."""
    table = place / "jobs.csv"
    lines = ["model,data,out,tau,beacon,reveal_score,steps,batch_size", "model.pt,data.zkd,one.bin,30,5a,,2,2"]
    lines += ["missing.pt,data.zkd,two.bin,30,,,2,2", "model.pt,data.zkd,three.bin,0.001,,,2,2"]
    lines += ["model.pt,data.zkd,four.bin,30,5b,yes,2,3"]
    table.write_text("\n".join(lines) + "\n")
    started = []
    found = api.prove_many(table, cluster=team, started=started.append)
    assert [result.state for result in found] == ["proved", "failed", "above tau", "proved"]
    assert ("missing.pt" in found[1].why and "exceeds tau" in found[2].why) or "above" in found[2].why
    assert [job.line for job in started] == [2, 3, 4, 5] == [result.job.line for result in found]
    for name, pins in (("one", ("--beacon", "5a")), ("four", ("--beacon", "5b"))):
        checked = run("verify", place / f"{name}.bin", place / "model.pt", "--tau", 30, *pins)
        assert checked.code == 0, checked.err
    again = api.prove_many(table, cluster=team)
    assert [result.state for result in again] == ["kept", "failed", "above tau", "kept"]


@pytest.fixture
def place(tiny, tmp_path) -> Path:
    shutil.copy(tiny.model, tmp_path / "model.pt")
    shutil.copy(tiny.data, tmp_path / "data.zkd")
    return tmp_path


def test_unusable_clusters_are_one_line(run, tiny):
    arguments = ("prove", tiny.model, tiny.data, "--tau", 9)
    for address, why in (("local:0", "--cluster takes local:W"), ("", "--cluster takes"), ("here", "--cluster takes")):
        found = run(*arguments, "--cluster", address)
        assert (found.code, len(found.err.splitlines())) == (2, 1) and why in found.err, found.err
    with mock.patch.dict(sys.modules, {"ray": None}):
        found = run(*arguments, "--cluster", "local:2")
    assert (found.code, len(found.err.splitlines())) == (2, 1)
    assert "a cluster needs ray: pip install -c constraints.txt -e '.[cluster]' in the checkout" in found.err


def test_a_ray_that_does_not_start_is_one_line(run, tiny):
    arguments = ("prove", tiny.model, tiny.data, "--announcement", tiny.announcement, "--beacon", tiny.beacon)
    late = mock.patch("ray.init", side_effect=Exception("The current node timed out during startup.\n"))
    for address, why in (("local:2", "Ray cannot be started"), ("ray://a:1", "no cluster can be reached")):
        with late, mock.patch("ray.is_initialized", lambda: False), mock.patch("ray.shutdown"):
            found = run(*arguments, "--cluster", address)
        lines = [line for line in found.err.splitlines() if line.startswith("error")]
        assert found.code == 2 and lines == found.err.splitlines()[-1:], found.err
        assert why in lines[0] and "timed out during startup" in lines[0]


def test_jobs_in_workers_memory_have_no_checkpoints(place, tmp_path):
    (place / "jobs.csv").write_text("model,data,out,tau\nmodel.pt,data.zkd,one.bin,30\n")
    for option in ("checkpoint", "scratch"):
        with pytest.raises(UnusableInput, match="leave out checkpoint and scratch"):
            api.prove_many(place / "jobs.csv", cluster="local:2", **{option: tmp_path})


def test_a_lost_worker_ends_the_command_and_loses_nothing(run, tiny, tmp_path, team):
    """Killed as the last long phase begins; the same proof goes on alone. The last test of these workers."""
    options = {"announcement": tiny.announcement, "beacon": tiny.beacon, "checkpoint": tmp_path / "state"}
    victim = team.greetings[1].process

    def kill(phase: str, done: object) -> None:
        if phase == "range checks" and done is None:
            os.kill(victim, signal.SIGKILL)

    with pytest.raises(WorkerFailed) as lost:
        api.prove(tiny.model, tiny.data, tmp_path / "proof.bin", **options, cluster=team, progress=kill)
    assert "\n" not in str(lost.value)
    assert str(lost.value).startswith(f"worker 2 of 2, process {victim} on ")
    assert str(lost.value).endswith(f"the same command goes on from {tmp_path / 'state'}")
    assert not (tmp_path / "proof.bin").exists()
    seen = []
    api.prove(tiny.model, tiny.data, tmp_path / "proof.bin", **options, progress=lambda name, done: seen.append(name))
    assert "reference" not in seen
    pins = ("--beacon", tiny.beacon, "--announcement", tiny.announcement)
    assert run("verify", tmp_path / "proof.bin", tiny.model, "--tau", tiny.tau, *pins).code == 0


@pytest.mark.slow
@pytest.mark.parametrize("sign", ["INT", "TERM", "KILL"])
def test_workers_end_with_the_command(tiny, tmp_path, sign):
    """Also if it is killed; then Ray's folder is left, and for a minute or so helpers of Ray, which hold no data."""
    before = left_over()
    command = ["prove", tiny.model, tiny.data, "--announcement", tiny.announcement, "--beacon", tiny.beacon]
    options = {"cwd": tmp_path, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(
        [sys.executable, "-m", "zkcert", *map(str, command), "--cluster", "local:2"], env=environment, **options
    )
    lines = []
    for line in process.stderr:
        lines.append(line)
        if line.startswith("witness"):
            break
    process.send_signal(getattr(signal, f"SIG{sign}"))
    rest = process.stderr.read()
    code = process.wait()
    if sign == "KILL":
        assert code == -signal.SIGKILL
        for folder in left_over() - before:
            shutil.rmtree(folder, ignore_errors=True)
    else:
        word = "interrupted" if sign == "INT" else "ended by SIGTERM"
        assert (code, rest.splitlines()[-1]) == (128 + getattr(signal, f"SIG{sign}"), f"{word}; nothing was written")
        assert left_over() == before
    end = time.monotonic() + 60
    while (alive := descendants(process.pid)) and time.monotonic() < end:
        if sign == "KILL":
            alive = [name for name in alive if "Agent" not in name]
        if not alive:
            break
        time.sleep(0.2)
    assert alive == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("token", ["5a" * 32, None], ids=["token", "open"])
def test_a_cluster_that_is_there_already(tiny, tmp_path, token):
    """`ray start --head`, of which the command is a client, as docs/USING.md has it."""
    port, client_port = free_ports(2)
    mode = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token} if token else {"RAY_AUTH_MODE": "disabled"}
    apart = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment = apart | mode | {"PYTHONPATH": str(Path(__file__).parents[2])}
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:
        options = [f"--port={port}", f"--ray-client-server-port={client_port}", f"--temp-dir={folder}", "--num-cpus=1"]
        started = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", *options]
        head = subprocess.Popen(
            [*started, "--include-dashboard=false", "--disable-usage-stats"],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip
        try:
            assert any("block forever" in line for line in head.stdout), "the head did not start"
            command = ["prove", tiny.model, tiny.data, "--announcement", tiny.announcement, "--beacon", tiny.beacon]
            command += ["--out", "proof.bin", "--cluster", f"ray://127.0.0.1:{client_port}"]
            words = [sys.executable, "-m", "zkcert", *map(str, command)]
            run = lambda env: subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True)  # noqa: E731
            done = run(environment)
            assert done.returncode == 0, done.stderr
            if token:
                refused = run({name: value for name, value in environment.items() if not name.startswith("RAY_")})
                assert refused.returncode == 2 and "set RAY_AUTH_MODE=token" in refused.stderr.splitlines()[-1]
        finally:
            os.killpg(head.pid, signal.SIGKILL)
            head.wait()
    pins = ["--tau", str(tiny.tau), "--beacon", tiny.beacon, "--announcement", str(tiny.announcement)]
    words = [sys.executable, "-m", "verifier", "proof.bin", str(tiny.model), *pins]
    assert subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True).returncode == 0


def free_ports(count: int) -> list[int]:
    """Of TCP on this machine, free at the moment."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [s.getsockname()[1] for s in sockets]


def descendants(session: int) -> list[str]:
    """Commands of the processes of a session, Ray's own included."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] != "Z":
                found.append((status.parent / "cmdline").read_text().replace("\0", " ")[:100])
        except (OSError, ValueError, IndexError):
            continue
    return found
