"""The report says what was checked and, as loudly, what was not; it verifies anew, and nothing can be injected."""

from __future__ import annotations

import base64
import shlex
from dataclasses import replace
from fractions import Fraction
from hashlib import sha256
from pathlib import Path

import pytest

from tests.soundness.test_imports import HEAVY, run_without
from tests.trust.conftest import refused
from tests.trust.pages import CONFIG, REVEALED, Shape, calibrated, write_calibration
from zkcert import api
from zkcert.api.reporting import _Asked, _quoted
from zkcert.cli.verification import PINS
from zkcert.errors import MalformedProof, ProofRejected, UnusableInput
from zkcert.trust.order import Step
from zkcert.trust.report.page import Circumstances, Given, accepted, rejected
from zkcert.trust.report.plot import MOST_ROWS, ticks
from zkcert.trust.report.words import NO_YARDSTICK

NOTHING_LEFT = "Nothing left open"


def read(path: object = "report.html") -> Shape:
    return Shape(Path(str(path)).read_text())


@pytest.fixture(scope="module")
def revealed():
    """The verdict on a proof that reveals its score, with all that can be insisted on of it."""
    given = {"data_root": REVEALED / "data.root", "announcement": REVEALED / "announce.json", "config": CONFIG}
    return api.verify(REVEALED / "proof.bin", REVEALED / "model.pt", tau=20, **given)


AROUND = Circumstances((Given("proof", "proof.bin", "aa", 3),), "zkcert verify", None, 0)


def test_a_report_says_what_verify_says(run, tiny):
    pins = (tiny.proof, tiny.model, "--tau", 3, "--announcement", tiny.announcement, "--beacon", tiny.beacon)
    done = run("report", *pins)
    assert done.code == 0 and done.out.splitlines()[-1] == "report  report.html"
    page, found = read(), run("verify", *pins, "--json").json
    assert "ACCEPTED: the score is at most 2.5 (asked: 3)" in done.out
    for text in (
        "Accepted",
        "The score of this model file is at most 2.5; asked for was at most 3.",
        "It is private.",
        *found["warnings"],
        *found["sha256"].values(),
        *(step["text"] for step in found["order"]),
        *(name for name in found["soundness_terms"]),
        *(found[name] for name in ("circuit", "model", "announcement", "seed", "beacon")),
        f"2^{found['soundness_bits']:.1f} of them",
        f"2^-{found['attempt_bits']:.2f}",
    ):
        assert " ".join(text.split()) in page.text, text
    for path in (tiny.proof, tiny.model, tiny.announcement):
        assert sha256(path.read_bytes()).hexdigest() in page.text and path.name in page.text
    left = [step for step in found["order"] if step["state"] != "checked"]
    assert len(left) == 4 and f"Not checked: {1 + len(left)} of 9" in page.text  # and the configuration


def test_the_command_in_it_repeats_the_verification(run, named, told, tiny):
    api.keygen("ann", "Ann")
    api.endorse(tiny.root, "an endorsement.json", key="ann.key", text="Good", licence="MIT")
    vouched = ("--authority", "ann.pub", "--endorsement", "an endorsement.json", "--authority-quorum", 1)
    options = [*told.of("ada", "bob")[2:], "--witness-quorum", 2, *told.provider, "--announcements", 1, *told.stamp]
    pins = [
        *named.pins(),
        *options,
        *vouched,
        "--margin",
        61,
        "--data-root",
        tiny.root,
        "--config",
        "steps=2,batch_size=2",
    ]
    assert run("report", *pins).code == 0
    page, text = read(), Path("report.html").read_text()
    command, alone = (Shape(f"<pre>{part.partition('</pre>')[0]}</pre>").texts[-1] for part in text.split("<pre>")[1:])
    commands = [shlex.split(each.replace("\\\n", " ")) for each in (command, alone)]
    assert commands[0][:2] == ["zkcert", "verify"] and commands[1][:3] == ["python", "-m", "verifier"]
    again = run(*commands[0][1:], "--json")
    assert again.code == 0 and {step["state"] for step in again.json["order"]} == {"checked"}
    assert run("python -m verifier", *commands[1][3:]).code == 0
    assert NOTHING_LEFT not in page.text  # the configuration is warned of, although it was insisted on
    assert "Not checked" in page.text and "Nothing: every point that can be checked was." in page.text
    assert len([row for row in page.elements if row[0] == "tr"]) > 30


def test_every_option_of_verify_is_in_the_command():
    several = {name: (name,) for name in ("receipts", "witnesses", "stamps", "endorsements", "authorities")}
    asked = _Asked("p", "m", 3, *[None] * 5, api.Evidence(**several), None, None)
    offered = {annotation.__metadata__[0].default for annotation in PINS.values()}  # as typer has it
    assert {name for name, _ in asked.options()} - {"--tau"} == offered - {"--quorum", "--fetch"}


def test_nothing_left_open_is_said_only_where_it_is_so(revealed):
    usual = replace(revealed, expected=replace(revealed.expected, beacon=b"x"))
    usual = replace(
        usual, report=replace(usual.report, warnings=(), statement=replace(usual.report.statement, beacon=b"x"))
    )
    done = tuple(replace(step, state="checked") for step in usual.steps)
    assert not usual.warnings
    whole = Shape(accepted(usual, done, None, AROUND)).text
    assert NOTHING_LEFT in whole and NO_YARDSTICK in whole
    for at in range(len(done)):
        for state in ("claimed", "missing"):
            steps = (*done[:at], replace(done[at], state=state), *done[at + 1 :])
            text = Shape(accepted(usual, steps, None, AROUND)).text
            assert NOTHING_LEFT not in text and f"Not checked: 1 of {3 + len(done)}" in text
    warned = replace(usual, doubts=("calibration: nothing good",))
    text = Shape(accepted(warned, done, None, AROUND)).text
    assert NOTHING_LEFT not in text and "With warnings" in text and "calibration: nothing good" in text
    open_config = replace(usual, expected=replace(usual.expected, config=None))
    assert "a configuration of the provider's choice" in Shape(accepted(open_config, done, None, AROUND)).text


@pytest.mark.parametrize(
    ("root", "announcement", "state", "words"),
    [
        (None, None, "missing", "it may be any that the provider chose."),
        (b"r", None, "claimed", "its root is the one that was given; its size and its shape are the provider's word"),
        (b"r", b"a", "checked", "the one of the root that the verifier gave"),
        (None, b"a", "checked", "the one of the announcement that the verifier gave"),
    ],
)
def test_which_dataset_is_said_as_it_is(revealed, root, announcement, state, words):
    found = replace(revealed, expected=replace(revealed.expected, root=root, announcement=announcement))
    text = Shape(accepted(found, (), None, AROUND)).text
    shown = {"checked": "", "claimed": " (? claimed)", "missing": " (✗ missing)"}
    assert f"Which dataset{shown[state]}: {words}" in text


# ---------------------------------------------------------------------------------------------------- rejected


def test_a_rejected_proof_is_reported_with_the_exit_code_of_verify(run, tiny):
    pins = (tiny.proof, tiny.model, "--tau", 2)
    done, verified = run("report", *pins), run("verify", *pins)
    assert (done.code, done.out) == (1, "") and done.err.splitlines() == [
        "the report is report.html",
        verified.err.strip(),
    ]
    text = read().text
    assert "Rejected" in text and "Accepted" not in text and "Failed: tau" in text
    assert verified.err.strip().removeprefix("REJECTED tau: ") in text
    assert "Nothing is shown about the model." in text
    Path("cut.bin").write_bytes(tiny.proof.read_bytes()[:5000])
    assert run("report", "cut.bin", tiny.model, "--tau", 3, "--force").code == 1
    assert "Failed: format" in read().text and "a format that this program does not read" in read().text
    assert run("report", "cut.bin", tiny.model, "--tau", 3, "--fetch", "drand", "--force").code == 1
    assert run("report", *pins, "--force", "--json").json["check"] == "tau"
    with pytest.raises(ProofRejected):
        api.report(tiny.proof, tiny.model, "other.html", tau=1)
    with pytest.raises(MalformedProof):
        api.report("cut.bin", tiny.model, "other.html", tau=1, force=True)
    assert "Rejected" in read("other.html").text


def test_unusable_input_gives_no_report(run, tiny):
    for pins in ((tiny.proof, tiny.proof), (tiny.proof, "none.pt"), ("none.bin", tiny.model)):
        refused(run("report", *pins, "--tau", 3), 2, "error: ")
    refused(run("report", tiny.proof, tiny.model, "--tau", 3, "--announcement", "none.json"), 2, "none.json")
    assert not Path("report.html").exists()


def test_a_report_replaces_reports_only(run, tiny):
    pins = (tiny.proof, tiny.model, "--tau", 3)
    Path("mine.html").write_text("<!DOCTYPE html>\n<html><body>mine</body></html>")
    refused(run("report", *pins, "-o", "mine.html", "--force"), 2, "mine.html exists and is not a report")
    assert run("report", *pins).code == 0
    refused(run("report", *pins), 2, "report.html exists (a report)", "--force")
    assert run("report", *pins, "--force").code == 0
    refused(run("report", "report.html", tiny.model, "--tau", 3, "-o", "new.html"), 1, "is a report, where a proof")
    refused(run("report", tiny.proof, "report.html", "--tau", 3, "-o", "other.html"), 2, "is a report, where a model")


def test_a_file_that_changes_meanwhile_is_told(run, tiny, monkeypatch):
    Path("announce.json").write_bytes(tiny.announcement.read_bytes())
    real = api.verify

    def verify(*args, **options):
        found = real(*args, **options)
        Path("announce.json").write_text("another")
        return found

    monkeypatch.setattr("zkcert.api.reporting.verify", verify)
    done = run("report", tiny.proof, tiny.model, "--tau", 3, "--announcement", "announce.json")
    refused(done, 2, "announce.json: was changed while it was read")
    assert not Path("report.html").exists()


# ------------------------------------------------------------------------------------------------------ the score


def test_a_revealed_score_stands_among_the_models_of_a_calibration(run):
    path = write_calibration(Path("calibration.json"))
    assert run("report", REVEALED / "proof.bin", REVEALED / "model.pt", "--tau", path).code == 0
    page = read()
    score = api.inspect(REVEALED / "proof.bin").statement
    shown = api.verify(REVEALED / "proof.bin", REVEALED / "model.pt", tau=20).report.score
    assert score.variance is not None and f"It is {shown:.9f}, which the proof reveals and proves." in page.text
    below = sum(value <= shown for value in (1.0, 1.5, 2.0, 2.5, 3.0, 3.5))
    assert f"{below} of 6 draws of good models score at most this score" in page.text
    assert "0 of 4 draws of bad models score at most this score" in page.text
    (svg,) = (attributes for name, attributes in page.elements if name == "svg")
    assert {"role", "aria-labelledby"} <= set(svg) and ("title", ("id",)) in page.elements
    assert (
        sum(name == "circle" for name, _ in page.elements) == 6
        and sum(name == "rect" for name, _ in page.elements) == 4
    )
    for text in ("good: m 0", "bad: m b1", "24.0000", "the revealed score", "only 2 bad models"):
        assert text in page.text, text


def test_without_a_calibration_or_a_revealed_score_that_is_said(run, tiny, revealed):
    assert "this page cannot say whether that is low or high" in Shape(accepted(revealed, (), None, AROUND)).text
    statement = replace(revealed.report.statement, variance=None)
    private = replace(revealed, report=replace(revealed.report, statement=statement))
    page = Shape(accepted(private, (), calibrated(), AROUND))
    assert "It is private." in page.text and "6 of 6 draws of good models score at most tau" in page.text
    assert "revealed score" not in page.text and "svg" in dict(page.elements)


def test_many_models_have_one_row(revealed):
    page = Shape(accepted(revealed, (), calibrated(good=MOST_ROWS + 1, bad=70), AROUND))
    assert f"{MOST_ROWS + 1} good models" in page.text and "70 bad models" in page.text
    assert "10 more models are not listed." in page.text


def test_ticks_are_round_and_reach_as_far():
    for most in (1e-6, 0.07, 0.99, 1.0, 1.01, 1.99, 4.3, 5.0, 9.99, 20, 24.5, 99.9, 128):
        marks = ticks(most)
        assert marks[0] == 0 and marks[-1] >= most * (1 - 1e-8) and 4 <= len(marks) <= 12, (most, marks)
        assert marks[-1] <= 1.5 * most


# ------------------------------------------------------------------------------------------------- hostile texts

HOSTILE = "\"><script>alert(1)</script><img src=x onerror=alert(1)>&amp;\u202e\x00\ud800'--><svg onload=x>"


def test_texts_of_others_stay_text(revealed):
    """The page is made of the same elements, whatever stands in them."""

    def page(text: str) -> Shape:
        files = tuple(Given(role, f"{text}", "aa", 3) for role in ("proof", text))
        around = Circumstances(files, text, text, 0)
        steps = (Step("data", "checked", text), Step(text, "missing", text, 5))
        schema = replace(revealed.report.statement.dataset.schema, names=(text, "b", "c"))
        dataset = replace(revealed.report.statement.dataset, schema=schema)
        report = replace(revealed.report, statement=replace(revealed.report.statement, dataset=dataset))
        calibration = replace(calibrated(), good=tuple(replace(m, name=text) for m in calibrated().good))
        return Shape(accepted(replace(revealed, report=report, doubts=(text,)), steps, calibration, around))

    plain, hostile = page("x" * 5), page(HOSTILE)
    assert plain.elements == hostile.elements and plain.links == hostile.links
    assert {name for name, _ in hostile.elements} & {
        "script",
        "img",
        "iframe",
        "object",
        "link",
        "base",
        "form",
    } == set()
    assert not [
        a for _, attributes in hostile.elements for a in attributes if a.startswith("on") or a in ("style", "src")
    ]
    assert "<script>alert(1)</script>" in hostile.text and r"\u202e\x00\ud800" in hostile.text
    plain, hostile = (Shape(rejected(text, text, AROUND)) for text in ("x", HOSTILE))
    assert plain.elements == hostile.elements


def test_a_page_needs_nothing_else_and_runs_nothing(run, tiny):
    assert run("report", tiny.proof, tiny.model, "--tau", 3).code == 0
    page = read()
    assert page.links and all(link.startswith("#") for link in page.links)
    assert "url(" not in page.style and "@import" not in page.style
    known = base64.b64encode(sha256(page.style.encode()).digest()).decode()
    assert page.policy == f"default-src 'none'; style-src 'sha256-{known}'; base-uri 'none'; form-action 'none'"
    assert Path("report.html").stat().st_size < 60_000


def test_names_of_files_with_anything_in_them_can_be_repeated(run, tiny):
    for name in ("a b'c.bin", "-x.bin", "a\nb.bin", "$(touch bad).bin", "\udcff\\x.bin"):
        assert list(map(str, shlex.split(_quoted(name)))) == [name] or name in ("a\nb.bin", "\udcff\\x.bin"), name
    assert _quoted("a\nb\udcff\\'.bin") == r"$'a\x0ab\xff\x5c\x27.bin'"
    assert _quoted(Fraction(5, 2)) == "5/2" and _quoted(CONFIG) == "steps=3,batch_size=1,eps=0,variant=sam"
    Path("a\nb.bin").write_bytes(tiny.proof.read_bytes())
    assert run("report", "a\nb.bin", tiny.model, "--tau", 3).code == 0
    assert r"$'a\x0ab.bin'" in read().text


def test_a_base_install_makes_reports(tiny, tmp_path):
    done = run_without(
        HEAVY | {"py_ecc", "rfc3161_client", "cryptography", "jinja2"},
        *("zkcert.cli", "report", tiny.proof, tiny.model, "--tau", 3, "-o", tmp_path / "report.html"),
    )
    assert done.returncode == 0, done.stderr
    with pytest.raises(UnusableInput, match="an empty name"):
        api.report("", tiny.model, tmp_path / "none.html", tau=3)
