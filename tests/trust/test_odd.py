"""Every file of trust, given something that is no such file: one line that names it, exit code 2."""

from __future__ import annotations

import os

import pytest

from tests.trust.conftest import refused


@pytest.fixture
def odd(named, tmp_path):
    place = tmp_path / "odd"
    place.mkdir()
    os.mkfifo(place / "fifo")
    (place / "here").mkdir()
    contents = {"empty": b"", "values.json": b'{"a": [1, 2]}', "zeros": bytes(3000), "large": bytes(1 << 19)}
    contents |= {"deep": b"[" * 50_000, "cut.json": named.round.read_bytes()[:-20]}
    for name, content in contents.items():
        (place / name).write_bytes(content)
    found = [place / name for name in ("fifo", "here", "missing", *contents)]
    return [*found, named.proof, named.info, named.announcement]


ARGUMENTS = {
    "--beacon": lambda n, k, f: ["verify", *n.pins()[:6], "--beacon", f, "--chain", n.info],
    "--chain": lambda n, k, f: ["verify", *n.pins()[:-1], f],
    "--receipt": lambda n, k, f: ["verify", *n.pins(), "--witness", f"{k}.pub", "--receipt", f],
    "--witness": lambda n, k, f: ["verify", *n.pins(), "--witness", f],
    "--provider": lambda n, k, f: ["verify", *n.pins(), "--witness", f"{k}.pub", "--provider", f],
    "--timestamp-roots": lambda n, k, f: ["verify", *n.pins(), "--timestamp-roots", f],
    "request": lambda n, k, f: ["provider", "request", f, "--key", f"{k}.key"],
    "request --key": lambda n, k, f: ["provider", "request", n.announcement, "--key", f],
    "sign": lambda n, k, f: ["witness", "sign", f, "--key", f"{k}.key", "--state", "state"],
    "--authority": lambda n, k, f: ["verify", *n.pins(), "--authority", f],
    "--endorsement": lambda n, k, f: ["verify", *n.pins(), "--authority", f"{k}.pub", "--endorsement", f],
    "join": lambda n, k, f: ["authority", "join", f, f, "--authority", f"{k}.pub"],
    "endorse": lambda n, k, f: ["authority", "sign", f, "--key", f"{k}.key", "--text", "x", "--licence", "x"],
    "stamp": lambda n, k, f: ["provider", "stamp", f],
}


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    from zkcert import api

    place = tmp_path_factory.mktemp("keys") / "k"
    api.keygen(place, "K")
    return place


@pytest.mark.parametrize("argument", ARGUMENTS)
def test_odd_files_are_refused_in_one_line_that_names_them(run, named, key, odd, argument):
    own = {"--chain": named.info, "request": named.announcement, "stamp": named.announcement}
    for path in odd:
        if path == own.get(argument):
            continue
        done = run(*ARGUMENTS[argument](named, key, path))
        refused(done, 2, str(path))
        assert len(done.err.splitlines()) == 1
