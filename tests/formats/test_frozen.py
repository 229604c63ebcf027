"""Proofs that were made once stay what they are: those of today's format are accepted for ever, and of those of earlier
formats, each made by the program of its time, `verify` says which commit of zkcert reads them.

`frozen/N` holds the beginning of a proof of format N with its model and its announcement. When FORMAT is raised, those
of the format before go there, and its commit into READERS.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest

from verifier.__main__ import verify_files
from zkcert.core.container import FORMAT, MAGIC, READERS, ProofFile
from zkcert.errors import MalformedProof
from zkcert.public.statement import load_announcement

FROZEN = Path(__file__).parent / "frozen"
VECTORS = Path(__file__).parents[2] / "docs" / "spec" / "vectors"
EARLIER = sorted(READERS)

TODAY = {
    "linear": "bf26fba528a14a1036c3f93e9368a337e658d3d428999b91953253ee02006852",
    "pools": "bcf58eac2fc6a2c153442815e4625ea1feb495dac6fad40b2bbee0b8f5bd3bf1",
    "conv-relu": "9aec082151356d8020546212d1d8199c9f5270d79b7d8ceb6da87780661ab984",
    "norm-add": "fd7b34ed55b561ec3029d81175d44c45550042897dc74b9e91994a2ca2fd0982",
    "drand": "84a2fc0dc9cb17904f1173748ebef91d8e6f95c849b82e8cddfb470aa878becb",
    "congruence": "d079c211d57d6bf56353cf1571084075e0574a4a59cca5f25571b48e60e082fb",
    "branches": "e2435523652298540edd7db8476021c4c86da27740c55011177404191c3fa8ec",
    "statistics": "4628677b5a8316d7019ed648c37a5108264e52e82a825558e1a98056164aed2e",
    "functions": "9b65e60b5887d06e0484fa26ceabf14312f9640a5a6fb0b6aee2deb050b0f40a",
}
"""SHA-256 of stored proofs of format 5, by vector. A change that makes one of them unreadable is another format."""


@pytest.mark.parametrize("name", TODAY)
def test_a_proof_of_this_format_is_accepted_for_ever(name):
    place = VECTORS / name
    assert sha256((place / "proof.bin").read_bytes()).hexdigest() == TODAY[name], "these bytes are frozen"
    (model,) = place.glob("model.*")
    announced = load_announcement(place / "announce.json")
    pins = {"data_root": place / "data.root", "announcement": place / "announce.json", "config": announced.config}
    verdict = verify_files(place / "proof.bin", model, tau=20, **pins)
    assert verdict.report.soundness.bits >= 100


def test_there_is_a_proof_of_every_earlier_format():
    assert list(range(1, FORMAT)) == EARLIER == sorted(int(path.name) for path in FROZEN.iterdir() if path.is_dir())


@pytest.mark.parametrize("number", EARLIER)
def test_of_an_earlier_format_it_is_said_what_reads_it(run, number):
    place = FROZEN / str(number)
    assert (place / "proof.head").read_bytes().startswith(b"zkcert proof %d\n\0" % number)
    words = f"a proof of format {number}; this zkcert reads format {FORMAT} (zkcert at commit {READERS[number]}"
    for command, model in (
        ("verify", place),
        ("verify", VECTORS / "linear"),
        ("python -m verifier", VECTORS / "linear"),
    ):
        done = run(command, place / "proof.head", model / "model.pt", "--tau", 20)
        assert (done.code, done.out) == (1, "")
        assert done.err.startswith("REJECTED format: ") and words in done.err and len(done.err.splitlines()) == 1
    done = run("inspect", place / "proof.head")
    assert done.code == 1 and words in done.err
    assert run("report", place / "proof.head", place / "model.pt", "--tau", 20).code == 1
    assert words in Path("report.html").read_text()


@pytest.mark.parametrize("number", EARLIER)
def test_its_announcement_beside_it_changes_nothing(run, number):
    """Announcements of the first two formats are of another form, too."""
    place = FROZEN / str(number)
    done = run(
        "verify", place / "proof.head", place / "model.pt", "--tau", 20, "--announcement", place / "announce.json"
    )
    assert done.code == 1 and f"zkcert at commit {READERS[number]}" in done.err


def test_later_formats_and_others_are_told_apart():
    for number, words in ((FORMAT + 1, "a newer zkcert reads it"), (0, "not a zkcert proof")):
        with pytest.raises(MalformedProof, match=words):
            ProofFile.parse(MAGIC.replace(b"%d" % FORMAT, b"%d" % number) + bytes(100))
