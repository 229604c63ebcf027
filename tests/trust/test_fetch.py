"""--fetch is a convenience: a server on this machine answers, well or badly, and what it sends is checked as a file."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.trust.conftest import refused
from tests.trust.rounds import Own, write
from zkcert import api
from zkcert.errors import UnusableInput
from zkcert.files.saving import save_announcement
from zkcert.trust import fetch
from zkcert.trust.times import now


class Server(ThreadingHTTPServer):
    """Answers with what `answer` gives for a path and a body: a status and bytes; notes what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, bytes, dict[str, str]]] = []
        self.answer = lambda path, body: (404, b"")
        self.drip = 0.0
        self.to = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append((self.path, body, dict(self.headers)))
        status, data = self.server.answer(self.path, body)
        self.send_response(status)
        if self.server.to:
            self.send_header("Location", self.server.to)
        self.end_headers()
        with suppress(ConnectionError):
            for byte in [data] if not self.server.drip else [data[i : i + 1] for i in range(len(data))]:
                self.wfile.write(byte)
                self.wfile.flush()
                time.sleep(self.server.drip)

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serving() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def server(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with serving() as found:
        yield found


@pytest.fixture
def out(run, named, monkeypatch):
    """The clock stands after the round: it is out."""
    monkeypatch.setattr("zkcert.api.fetching.now", lambda: named.due + 1)
    return named


def of(named, server):
    """What a server that has the round answers."""
    path = f"/{named.own.chain.hash.hex()}/public/{named.number}"
    server.answer = lambda asked, body: (200, named.round.read_bytes()) if asked == path else (404, b"")
    return path


def test_a_round_is_fetched_stored_and_checked(run, out, server):
    path = of(out, server)
    proof, model, *_ = out.pins()
    pins = ["verify", proof, model, "--tau", 3, "--announcement", out.announcement, "--chain", out.info]
    done = run(*pins, "--fetch", server.url)
    assert done.code == 0 and f"fetched {server.url}{path} into round.json" in done.err
    assert "  beacon      checked" in done.out and Path("round.json").read_bytes() == out.round.read_bytes()
    assert [asked[:2] for asked in server.asked] == [(path, b"")]
    again = run(*pins, "--fetch", server.url)
    assert again.code == 0 and "round.json is there already: nothing was fetched" in again.err
    assert len(server.asked) == 1
    # given by hand, the file says the same
    assert run(*pins, "--beacon", "round.json").code == 0


def test_proving_fetches_it_as_well(run, out, server, tiny):
    of(out, server)
    known = ("prove", tiny.model, tiny.data, "--announcement", out.announcement, "--chain", out.info)
    done = run(*known, "--fetch", server.url, "--beacon", "mine.json", "--json")
    assert done.code == 0 and Path("mine.json").exists()
    assert api.verify("proof.bin", tiny.model, tau=3, beacon="mine.json", chain=out.info).steps
    refused(run(*known[:3], "--tau", 3, "--fetch", server.url), 2, "--fetch needs --announcement")


def test_a_forged_round_is_stored_and_refused_like_any_file(run, out, server):
    """That it names the right number is all that is looked at before it is stored."""
    forged = write(Path("forged.json"), Own.make(secret=12).sign(out.number)).read_bytes()
    server.answer = lambda path, body: (200, forged)
    proof, model, *_ = out.pins()
    done = run("verify", proof, model, "--tau", 3, "--chain", out.info, "--fetch", server.url)
    assert done.code == 1 and done.out == "" and "REJECTED beacon: the signature of round" in done.err


@pytest.mark.parametrize(
    ("answer", "words"),
    {
        (404, b"no"): "it answers 404",
        (500, b""): "it answers 500",
        (200, b""): "sends something else than a round",
        (200, b"<html>Log in to this network</html>"): "sends something else than a round",
        (200, b'{"round": 1, "signature": "00"}'): "sends round 1, not ",
        (200, bytes(100_000)): "it sends more than 65536 bytes",
    }.items(),
)
def test_what_is_no_round_is_not_stored(run, out, server, answer, words):
    server.answer = lambda path, body: answer
    proof, model, *_ = out.pins()
    pins = ["verify", proof, model, "--tau", 3, "--chain", out.info, "--fetch", server.url]
    refused(run(*pins), 2, "was not fetched", server.url, words)
    assert not Path("round.json").exists()


def test_other_refusals_are_one_line(run, out, server, tiny, monkeypatch):
    proof, model, *_ = out.pins()
    pins = ["verify", proof, model, "--tau", 3, "--chain", out.info]
    with serving() as gone:
        url = gone.url
    refused(run(*pins, "--fetch", url), 2, url, "cannot be reached")
    for url in ("ftp://x/y", "file:///etc/passwd", "x", "http://", "http://a b/", "http://u@x/", "http://x:0/"):
        refused(run(*pins, "--fetch", url), 2, "a URL such as https://SERVER is expected")
    for to, words in (("ftp://127.0.0.1/", "points to another protocol"), ("file:///etc/passwd", "is not allowed")):
        server.answer, server.to = lambda path, body: (302, b""), to
        refused(run(*pins, "--fetch", server.url), 2, words)
    server.to = server.url
    refused(run(*pins, "--fetch", server.url), 2, "it answers 302")  # round and round
    refused(run(*pins, "--beacon", "aa", "--fetch", server.url), 2, "give --beacon a name such as round.json")
    refused(run("verify", tiny.proof, tiny.model, "--tau", 3, "--fetch", server.url), 2, "names no round of drand")
    monkeypatch.setattr("zkcert.api.fetching.now", now)
    refused(run(*pins, "--fetch", server.url), 2, "is due at", "fetch it then")
    assert not Path("round.json").exists()


def test_a_server_that_drips_is_given_up(server):
    server.answer, server.drip = lambda path, body: (200, bytes(1000)), 0.1
    start = time.monotonic()
    with pytest.raises(UnusableInput, match=r"no answer within 0\.5 s"):
        fetch.ask(server.url, 2000, seconds=0.5)
    assert time.monotonic() - start < 30


def test_drands_own_servers_are_asked_one_after_the_other(run, out, server, monkeypatch):
    path = of(out, server)
    monkeypatch.setattr(fetch, "DRAND", (f"{server.url}/none", server.url, f"{server.url}/never"))
    found = api.fetch_round(out.announcement, server="drand", chain=out.info)
    assert found.url == f"{server.url}{path}"
    assert [asked[0] for asked in server.asked] == [f"/none{path}", path]


def test_a_time_stamp_is_fetched_stored_and_checked(run, named, told, server, tmp_path):
    authority = told.authority

    def answer(path, body):
        Path("asked.tsq").write_bytes(body)
        return 200, authority.answer(tmp_path / "asked.tsq", tmp_path / "answer.tsr").read_bytes()

    server.answer = answer
    done = run("provider", "stamp", named.announcement, "--fetch", server.url, "--json")
    assert done.json == {"file": "announce.tsr", "url": server.url}
    ((_, _, headers),) = server.asked
    assert headers["Content-Type"] == "application/timestamp-query"
    stamp = ("--timestamp", "announce.tsr", "--timestamp-roots", authority.root)
    found = run("verify", *named.pins(), *stamp, "--json")
    assert "stamped by CN=TSA good" in found.json["order"][1]["text"]
    refused(run("provider", "stamp", named.announcement, "--fetch", server.url), 2, "announce.tsr exists")


def test_an_answer_about_something_else_is_not_stored(run, named, told, server, tiny):
    other = told.place / "announce.tsr"
    save_announcement(api.announced(tiny.announcement), "mine.json")
    for data in (b"", b"no", other.read_bytes()):
        server.answer = lambda path, body, data=data: (200, data)
        done = run("provider", "stamp", "mine.json", "--fetch", server.url)
        refused(done, 2, server.url, "sends something else than a time stamp of this announcement")
    server.answer = lambda path, body: (503, b"")
    refused(run("provider", "stamp", "mine.json", "--fetch", server.url), 2, server.url, "it answers 503")
    assert not Path("announce.tsr").exists()


def test_nothing_is_asked_of_the_network_without_it(run, named, monkeypatch):
    def never(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr("urllib.request.OpenerDirector.open", never)
    monkeypatch.setattr("socket.socket.connect", never)
    assert run("verify", *named.pins()).code == 0
    assert json.loads(Path(named.round).read_text())["round"] == named.number
