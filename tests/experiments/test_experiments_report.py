"""Reports of experiments: files, verdicts, Markdown."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
from markdown_it import MarkdownIt

from benchmarks.experiments import report
from zkcert.errors import UnusableInput


def example(**changes: object) -> report.Result:
    result = report.Result(
        name="table1",
        title="An example",
        profile="tiny",
        data="CIFAR-10 (JPEG copy)",
        seeds=2,
        ours="all of it",
        tables=[report.Table("T", ["a|b", "c"], [["x", 0.123456], ["y", None], ["z", math.inf]])],
        claims=[report.Claim("it works", report.REPRODUCED, "1 of 1", "more than none")],
        notes=["A note."],
        values={"points": [[1.0, math.nan], [math.inf, -math.inf]], "flag": True, "no": None},
    )
    return replace(result, **changes)


def dot(result: report.Result, figure: object) -> None:
    figure.subplots().plot([0, 1], [0, 1])


def test_results_survive_their_files(tmp_path):
    result = example(command="python -m x", machine="m", date="2026-01-01", seconds=61.5, commit="12ab with changes")
    report.save(result, tmp_path, dot, (2, 2))
    loaded = report.load(tmp_path / "table1.json")
    assert repr(loaded.to_dict()) == repr(result.to_dict())
    assert math.isnan(loaded.values["points"][0][1]) and loaded.values["points"][1] == [math.inf, -math.inf]
    assert loaded.values["flag"] is True and loaded.claims[0] == result.claims[0]
    assert "NaN" not in json.dumps(result.to_dict(), allow_nan=False).replace('"NaN"', "")
    text = (tmp_path / "table1.md").read_text()
    for part in (
        "python -m x",
        "2026-01-01",
        "1.0 min, code of commit 12ab with changes.",
        "CIFAR-10 (JPEG copy)",
        "**reproduced**",
        "a\\|b",
        "0.1235",
        "inf",
    ):
        assert part in text
    assert (tmp_path / "table1.png").read_bytes().startswith(b"\x89PNG")


COMMAND = "python -m benchmarks.experiments report"


def test_reports_collect_what_is_there_and_refuse_large_figures(tmp_path):
    report.save(example(), tmp_path / "out", dot, (2, 2))
    target = tmp_path / "docs" / "RESULTS.md"
    assert report.collect(tmp_path / "out", ["figure1", "table1"], target, COMMAND) == ["table1"]
    text = target.read_text()
    assert "| [An example](#an-example) | it works | **reproduced** |" in text and "## An example\n" in text
    assert "![An example](results/table1.png)" in text and f"`{COMMAND}`" in text
    figure = tmp_path / "docs" / "results" / "table1.png"
    assert figure.read_bytes() == (tmp_path / "out" / "table1.png").read_bytes()
    (tmp_path / "out" / "table1.png").write_bytes(b"x" * (report.MAX_FIGURE_BYTES + 1))
    with pytest.raises(UnusableInput, match="150001 bytes"):
        report.collect(tmp_path / "out", ["table1"], target, COMMAND)
    with pytest.raises(UnusableInput, match="no results of figure1"):
        report.collect(tmp_path / "out", ["figure1"], target, COMMAND)
    (tmp_path / "out" / "table1.json").write_text('{"name": 1}')
    with pytest.raises(UnusableInput, match="not a result"):
        report.collect(tmp_path / "out", ["table1"], target, COMMAND)


@pytest.mark.parametrize("below", ["", "results", "some results"])
def test_figures_below_the_document_are_linked_and_not_copied(tmp_path, below):
    out = tmp_path / "here" / below
    report.save(example(), out, dot, (2, 2))
    report.collect(out, ["table1"], tmp_path / "here" / "RESULTS.md", COMMAND)
    link = f"{below}/table1.png".lstrip("/").replace(" ", "%20")
    assert f"![An example]({link})" in (tmp_path / "here" / "RESULTS.md").read_text()
    assert [path.parent for path in tmp_path.rglob("*.png")] == [out]


def test_reports_say_what_holds_for_any_results_and_history_only_from_the_preface(tmp_path):
    claims = [report.Claim("it works", report.NOT_REPRODUCED, "1 of 1", "r"), *example().claims]
    report.save(example(claims=claims), tmp_path, dot, (2, 2))
    report.collect(tmp_path, ["table1"], tmp_path / "RESULTS.md", COMMAND)
    plain = (tmp_path / "RESULTS.md").read_text()
    head = " ".join(plain.partition("## ")[0].split())
    assert "judges nothing anew" in head and "it works | **not reproduced**" in head
    assert "Of 2 claims: 1 reproduced, 1 not reproduced, 0 inconclusive at this scale." in head
    assert not any(word in head for word in ("revised", "tuned", "before the runs", "docs/RESULTS.md"))
    assert "of commit" not in plain.partition("## ")[2]
    assert "**Of profile tiny, which tests the code and says nothing about the claims: An example.**" in head
    report.collect(tmp_path, ["table1"], tmp_path / "RESULTS.md", COMMAND, "The rules were\n\n* revised `once`.\n")
    text = (tmp_path / "RESULTS.md").read_text()
    assert text.replace("The rules were\n\n* revised `once`.\n\n", "") == plain
    assert text.index("judges nothing") < text.index("revised `once`") < text.index("| experiment |")


def test_rules_are_written_once_and_claims_name_them_by_number():
    rules = ["more than none", "a | b", "more than none"]
    claims = [report.Claim(f"claim {i}", report.INCONCLUSIVE, "n", rule) for i, rule in enumerate(rules)]
    text = report.markdown(example(claims=claims))
    assert text.count("more than none") == 1 and "\n1. more than none\n2. a | b\n" in text
    for claim, rule in zip(claims, (1, 2, 1), strict=True):
        assert f"| {claim.claim} | **{report.INCONCLUSIVE}** | n | {rule} |" in text


PLAIN = "T * B *x* <b>not</b> x < 3 ~0.5~ _a_ log_ratio $x$ [a](b) &amp; back\\*slash a|b `code*` end"


@pytest.mark.parametrize("text", [PLAIN, "+ 1", "- 1", "3. x", "3) x", "# h", "> q", "---", "=== ", "0.5 is", "-1 is"])
def test_all_text_shows_as_it_is_when_rendered(text):
    """By the reference parser of CommonMark with the extensions of GitHub."""
    parser = MarkdownIt("gfm-like", {"linkify": False})
    shown = text.replace("`", "").strip()

    def blocks(markdown: str, kind: str) -> list[str]:
        tokens = parser.parse(markdown)
        assert not [t for t in tokens if t.type in ("html_block", "hr", "list_item_open")]
        inlines = [(tokens[i - 1].type, t.children) for i, t in enumerate(tokens) if t.type == "inline"]
        assert all(c.type in ("text", "code_inline") for _, children in inlines for c in children)
        return ["".join(c.content for c in children) for before, children in inlines if before == kind]

    assert blocks(report.paragraph(text), "paragraph_open") == [shown]
    grid = "\n".join(report.grid(["a", text], [[text, "b"]]))
    assert blocks(grid, "th_open") == ["a", shown] and blocks(grid, "td_open") == [shown, "b"]


def test_the_commit_of_the_code_is_found_or_left_out(tmp_path, monkeypatch):
    def git(*words: str) -> str:
        identity = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
        command = ["git", "-C", str(tmp_path), *identity, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    if shutil.which("git") is None:
        pytest.skip("no git")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert report.commit(tmp_path) == ""
    git("init", "-q")
    (tmp_path / "file").write_text("a")
    git("add", "file")
    git("commit", "-qm", "first")
    (tmp_path / "results").write_text("not of the code")
    assert report.commit(tmp_path) == git("rev-parse", "HEAD")[:12]
    (tmp_path / "file").write_text("b")
    assert report.commit(tmp_path) == git("rev-parse", "HEAD")[:12] + " with changes"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert report.commit(tmp_path) == ""


def test_verdicts_are_three():
    with pytest.raises(ValueError, match="one of reproduced, not reproduced, inconclusive"):
        report.Claim("a", "promising", "", "")


def test_spread_is_mean_and_sample_deviation():
    assert report.spread([1, 2, 3]) == "2 ± 1"
    assert report.spread([0.5]) == "0.5"
    assert report.spread([1, math.inf]) == "inf ± nan"


def test_without_matplotlib_results_have_no_figure_and_say_why(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    report.save(example(), tmp_path, dot, (2, 2))
    assert 'matplotlib: pip install -c constraints.txt -e ".[metric]"' in capsys.readouterr().err
    assert not list(tmp_path.glob("*.png")) and "![" not in (tmp_path / "table1.md").read_text()


def test_documents_without_tiny_runs_do_not_speak_of_them(tmp_path):
    report.save(example(profile="small"), tmp_path, dot, (2, 2))
    report.collect(tmp_path, ["table1"], tmp_path / "RESULTS.md", COMMAND)
    assert "tiny" not in (tmp_path / "RESULTS.md").read_text()
