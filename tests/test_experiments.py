"""The experiments' framework: grids, measures, reports; table 1 and figure 1 end to end."""

from __future__ import annotations

import json
import math
import os
import pickle
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from benchmarks.experiments import __main__ as command
from benchmarks.experiments import datasets, failures, measures, report
from benchmarks.experiments.common import Context, Profile, Recipe, load_data, run_grid, train_model
from benchmarks.experiments.grid import TaskFailed
from benchmarks.experiments.models import build
from zkcert import api
from zkcert.convert import from_module
from zkcert.errors import UnusableInput
from zkcert.metric import Network, Probe

TINY = Recipe(dataset="shipped", samples=60, test_samples=50, model="mlp", width=6, lr=0.02, batch_size=16, epochs=2)


# ------------------------------------------------------------------------------------------- grids


def cube(item: int, context: Context) -> tuple[int, int, str]:
    """A task: what it got, and how many threads it has."""
    if item == 13:
        raise ValueError("thirteen is unlucky")
    if item == 14:
        raise UnusableInput("fourteen is unusable")
    return item**3, torch.get_num_threads(), context.device


@pytest.fixture(scope="module")
def ray_instance():
    """A local Ray for all tests, so that it starts once."""
    ray = pytest.importorskip("ray")
    options = {"num_cpus": 2, "object_store_memory": 100_000_000, "include_dashboard": False}
    ray.init(log_to_driver=False, logging_level="error", **options)
    yield ray
    ray.shutdown()


@pytest.fixture(params=["here", "joblib", "ray"])
def spread(request, tmp_path):
    """A context of each way to spread work."""
    if request.param == "ray":
        assert request.getfixturevalue("ray_instance").is_initialized()
    cluster = "local" if request.param == "ray" else None
    return Context(tmp_path, jobs=1 if request.param == "here" else 2, cluster=cluster)


def test_grids_give_the_same_results_in_order_however_they_run(tmp_path, spread):
    threads = torch.get_num_threads()
    assert run_grid(cube, list(range(6)), spread, "cubes") == [(i**3, 1, "cpu") for i in range(6)]
    assert torch.get_num_threads() == threads
    here = Context(tmp_path / "here")
    there = replace(spread, out=tmp_path / "there")
    recipes = [TINY, TINY.but(seed=1)]
    found = [
        [(t.test_loss, t.module.state_dict()["fc1.weight"]) for t in run_grid(train_model, recipes, c, "models")]
        for c in (here, there)
    ]
    for (loss, weight), (loss_there, weight_there) in zip(*found, strict=True):
        assert loss == loss_there and torch.equal(weight, weight_there)


def test_failing_tasks_name_their_item(spread):
    with pytest.raises(TaskFailed, match=r"(?s)cubes: 13: .*ValueError: thirteen is unlucky"):
        run_grid(cube, [1, 13], spread, "cubes")
    with pytest.raises(UnusableInput, match="cubes: 14: fourteen is unusable"):
        run_grid(cube, [1, 14, 2], spread, "cubes")
    assert run_grid(cube, [], spread, "cubes") == []


def test_a_grid_starts_its_own_ray_and_ends_it(tmp_path):
    ray = pytest.importorskip("ray")
    ray.shutdown()
    context = Context(tmp_path, jobs=1, cluster="local")
    assert run_grid(cube, [3, 2], context, "cubes") == [(27, 1, "cpu"), (8, 1, "cpu")]
    assert not ray.is_initialized()


def test_contexts_and_recipes_can_be_sent_to_workers(tmp_path):
    context = Context(tmp_path, sources=datasets.Sources(cifar="x"), parts=("gpt",))
    assert pickle.loads(pickle.dumps((context, TINY))) == (context, TINY)


# ---------------------------------------------------------------------------------------- measures


def test_draws_are_those_of_the_command(tmp_path):
    module = build("mlp", 1, 10, width=5)
    data = load_data("shipped", Context(tmp_path))
    raw, labels = data.test_x[:40], data.test_y[:40]
    from_module(module, input=data.input).save(tmp_path / "model.pt")
    np.savez(tmp_path / "data.npz", x=raw, y=labels)
    probe = Probe(steps=3, batch_size=4)
    expected = api.measure(tmp_path / "model.pt", tmp_path / "data.npz", config=probe.to_config(), seed="1").score
    network = Network.of_module(module.double())
    x, y = data.inputs(raw).double(), torch.from_numpy(labels)
    assert measures.scores(network, x, y, probe, [1])[0] == pytest.approx(expected, rel=1e-5)
    [found] = measures.trajectories(network, x, y, probe, ["1"])
    assert found.score == measures.scores(network, x, y, probe, [1])[0]


def test_all_measures_are_those_of_the_toolkit(tmp_path):
    from zkcert.metric.static import sharpness
    from zkcert.metric.worst_case import worst_case_sharpness

    trained = train_model(TINY, Context(tmp_path))
    probe = Probe(steps=2, batch_size=4)
    train = trained.x, trained.y
    options = {"restarts": 1, "ascent_steps": 2, "bisections": 1}
    found = measures.measure_all(
        trained.network(), train, trained.test, probe, range(3), which=list(measures.MEASURES), worst_case=options
    )
    assert set(found) == {*measures.MEASURES, "directional/0", "directional/1", "directional/2"}
    draws = [found[f"directional/{i}"] for i in range(3)]
    assert found["directional"] == pytest.approx(sum(draws) / 3) and len(set(draws)) == 3
    for kind, variant in (("sam", "sam"), ("asam", "asam-all")):
        static = sharpness(trained.network(), *train, variant=variant, rho=0.05)
        assert found[f"static_{kind}"] == static.first_order and found[f"static_{kind}_ascent"] == static.ascent
    assert found["worst_case"] == worst_case_sharpness(trained.network(), *train, **options, subset=60).sharpness
    for name in ("train_loss", "train_accuracy", "test_loss", "test_accuracy"):
        assert found[name] == pytest.approx(getattr(trained, name), rel=1e-6)


def test_divergence_is_an_infinite_score_and_bad_names_are_refused(tmp_path):
    trained = train_model(TINY, Context(tmp_path))
    module = trained.module
    with torch.no_grad():
        module.get_parameter("fc1.weight").fill_(math.nan)
    train = trained.x, trained.y
    network, probe = Network.of_module(module), Probe(steps=2, batch_size=2)
    assert measures.scores(network, *train, probe, [0]).tolist() == [math.inf]
    assert measures.trajectories(network, *train, probe, range(2)) == [None, None]
    for which, match in ((("nonsense",), "unknown measures nonsense"), (("test_loss",), "needs test samples")):
        with pytest.raises(UnusableInput, match=match):
            measures.measure_all(trained.network(), train, None, Probe(), [0], which=which)


def test_failed_draws_are_counted_and_leave_nothing_to_conclude():
    draws = {"clean": [[0.1, 0.2], [0.3, math.inf]], "noisy": [0.4, math.nan]}
    assert [failures.failed(scores) for scores in draws.values()] == [1, 1] and failures.failed([]) == 0
    assert "clean 1 of 4, noisy 1 of 2." in failures.note(draws)
    for verdict in report.VERDICTS:
        assert failures.settled(verdict, [1.0, 2.0], np.zeros((2, 2)), 0.5) == verdict
        assert failures.settled(verdict, [1.0], [2.0, math.inf]) == report.INCONCLUSIVE
        assert failures.settled(verdict, math.nan) == report.INCONCLUSIVE


# ------------------------------------------------------------------------------------------ report


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
    parser = pytest.importorskip("markdown_it").MarkdownIt("gfm-like", {"linkify": False})
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


# -------------------------------------------------------------------------------------- end to end


@pytest.mark.parametrize("name", ["table1", "figure1"])
def test_tiny_profiles_run_end_to_end(tmp_path, name, capsys):
    arguments = [name, "report", "--profile", "tiny", "--jobs", "1", "--out", str(tmp_path), "--seeds", "2"]
    assert command.main(arguments) == 0
    result = report.load(tmp_path / f"{name}.json")
    assert result.profile == "tiny" and result.seeds == 2 and "Fashion-MNIST" in result.data
    assert result.command == f"python -m benchmarks.experiments {name} --profile tiny --seeds 2"
    assert result.claims and all(claim.rule and claim.numbers for claim in result.claims)
    assert result.date and result.machine and result.seconds > 0 and result.commit == report.commit()
    assert 1000 < (tmp_path / f"{name}.png").stat().st_size < report.MAX_FIGURE_BYTES
    assert result.title in (tmp_path / "RESULTS.md").read_text()
    assert result.title in capsys.readouterr().out
    cached = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()}
    assert command.main(arguments) == 0
    assert cached == {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()}
    assert repr(report.load(tmp_path / f"{name}.json").values) == repr(result.values)


def test_commands_in_reports_hide_the_paths_of_the_machine():
    arguments = [
        "table7",
        "figure1",
        "--cifar",
        "/secret/c",
        "--cluster",
        "ray://host:1",
        "--device",
        "cuda",
        "--out",
        "/secret",
    ]
    args = command.parser().parse_args([*arguments, "--parts", "gpt,noise"])
    expected = "table7 --profile small --cluster ... --cifar ... --device cuda --parts gpt,noise"
    assert command.command_of("table7", args) == f"python -m benchmarks.experiments {expected}"


def test_the_command_of_a_report_hides_absolute_paths_only(tmp_path):
    arguments = ["report", "--out", str(tmp_path), "--write", "docs/RESULTS.md", "--preface", "docs/results/preface.md"]
    expected = "report --out ... --write docs/RESULTS.md --preface docs/results/preface.md"
    args = command.parser().parse_args(arguments)
    assert command.command_of("report", args) == f"python -m benchmarks.experiments {expected}"
    assert command.command_of("report", command.parser().parse_args(["report"])) == COMMAND


def test_a_gpu_is_used_by_one_process_unless_more_are_asked_for():
    for arguments, jobs in (
        ([], os.cpu_count()),
        (["--device", "cuda"], 1),
        (["--device", "cuda", "--jobs", "3"], 3),
        (["--jobs", "5"], 5),
    ):
        assert command.jobs_of(command.parser().parse_args(["table1", *arguments])) == jobs


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["table1", "--jobs", "0"], "--jobs and --seeds must be positive"),
        (["table1", "--seeds", "0"], "--jobs and --seeds must be positive"),
        (["report"], "no results of"),
        (["report", "--preface", "nowhere.md"], "nowhere.md: cannot be read"),
        (["table1", "--preface", "x.md"], "--write and --preface are of `report`"),
        (["table1", "--write", "x.md"], "--write and --preface are of `report`"),
        (["table1", "--parts", "gpt"], "--parts are those of table7"),
        (["table1", "--profile", "paper"], "--cifar PATH"),
        (["table3"], "--cifar PATH"),
        (["table7"], "--cifar PATH"),
        (["table1", "--data", "nowhere"], "nowhere"),
        (["table1", "--profile", "tiny", "--data", "x"], "leave out --data"),
        (["all", "--profile", "tiny", "--cifar", "x", "--cifar-test", "y"], "leave out --cifar --cifar-test"),
        (["table1", "--profile", "tiny", "--device", "cuda"], "cuda is not available"),
    ],
)
def test_unusable_options_are_one_line_and_exit_code_2(tmp_path, capsys, monkeypatch, arguments, message):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert command.main([*arguments, "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_results_go_into_a_directory_that_can_be_written_to(tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "below", "/proc/nowhere"):
        assert command.main(["table1", "--profile", "tiny", "--jobs", "1", "--out", str(out)]) == 2
        error = capsys.readouterr().err
        assert f"--out {out}: not a directory that can be written to" in error and error.count("\n") == 1
    report.save(example(), tmp_path, dot, (2, 2))
    with pytest.raises(UnusableInput, match="cannot be written"):
        report.collect(tmp_path, ["table1"], tmp_path / "file" / "RESULTS.md", COMMAND)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    ("package", "options", "extras"),
    [
        ("scipy", [], "metric"),
        ("sklearn", [], "metric"),
        ("joblib", ["--jobs", "2"], "metric"),
        ("ray", ["--cluster", "local"], "metric,cluster"),
    ],
)
def test_a_missing_package_is_named_with_the_command_that_installs_it(
    tmp_path, capsys, monkeypatch, package, options, extras
):
    monkeypatch.setitem(sys.modules, package, None)
    arguments = ["table1", "--profile", "tiny", "--out", str(tmp_path), "--jobs", "1", *options]
    assert command.main(arguments) == 2
    expected = f'error: experiments need {package}: pip install -c constraints.txt -e ".[{extras}]" in the checkout\n'
    assert capsys.readouterr().err == expected
    if options:
        with pytest.raises(UnusableInput, match=re.escape(extras)):
            cluster = "local" if package == "ray" else None
            run_grid(cube, [1, 2], Context(tmp_path, jobs=2, cluster=cluster), "cubes")


def test_without_matplotlib_results_have_no_figure_and_say_why(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    report.save(example(), tmp_path, dot, (2, 2))
    assert 'matplotlib: pip install -c constraints.txt -e ".[metric]"' in capsys.readouterr().err
    assert not list(tmp_path.glob("*.png")) and "![" not in (tmp_path / "table1.md").read_text()


class Fake:
    """An experiment that finds `example()`, or raises."""

    FIGURE_SIZE, draw = (2, 2), staticmethod(dot)

    def __init__(self, name: str, error: BaseException | None = None, dataset: str = "shipped") -> None:
        self.name, self.error = name, error
        profile = measures_profile(TINY.but(dataset=dataset))
        self.PROFILES = {"tiny": profile, "small": profile}

    def run(self, profile: Profile, context: Context) -> report.Result:
        if self.error is not None:
            raise self.error
        return example(name=self.name, title=f"Of {self.name}")


@dataclass(frozen=True)
class Sized(Profile):
    """A profile with a recipe inside of other things."""

    inside: object = None
    text: object = None


def measures_profile(recipe: Recipe) -> Sized:
    return Sized("tiny", 2, "", inside={"a": [(recipe,)]}, text=TINY.but(dataset="fashion"))


def test_all_goes_on_after_an_experiment_that_cannot_be_run(tmp_path, capsys, monkeypatch):
    errors = {"table1": UnusableInput("spoilt"), "table4": UnusableInput("bad")}
    fakes = {name: Fake(name, errors.get(name)) for name in command.EXPERIMENTS}
    monkeypatch.setattr(command, "experiment", fakes.__getitem__)
    assert command.main(["all", "report", "--jobs", "1", "--out", str(tmp_path)]) == 2
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert lines[:3] == [
        "table1: begins; profile tiny, 2 seeds, one process",
        "error: table1: spoilt",
        "table2: begins; profile tiny, 2 seeds, one process",
    ]
    assert re.fullmatch(rf"table2: done in \d+ s; {tmp_path}/table2.json, .md, .png", lines[3])
    assert lines[-1] == "error: 2 of 6 experiments could not be run: table1, table4"
    assert "Of table2" in captured.out and "RESULTS.md: table2, table3, figure1, table7\n" in captured.out
    assert sorted(path.stem for path in tmp_path.glob("*.json")) == ["figure1", "table2", "table3", "table7"]
    assert command.main(["table2", "table3", "--jobs", "1", "--out", str(tmp_path)]) == 0


def test_missing_data_are_said_before_any_work(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(command, "experiment", lambda name: Fake(name, AssertionError("it ran"), dataset="cifar"))
    assert command.main(["table2", "--jobs", "1", "--out", str(tmp_path)]) == 2
    assert "--cifar PATH" in capsys.readouterr().err
    profile = measures_profile(TINY)
    assert set(command.datasets_of(profile, set())) == {"shipped", "fashion"}
    assert set(command.datasets_of(profile, {"text"})) == {"shipped"}


def test_help_says_truly_what_each_profile_reads():
    read = {
        profile: {
            name: set(command.datasets_of(command.experiment(name).PROFILES[profile], set()))
            for name in command.EXPERIMENTS
        }
        for profile in command.PROFILES
    }
    table7 = command.experiment("table7")
    assert all(found == {"shipped"} for found in read["tiny"].values())
    assert {name for name, found in read["small"].items() if "cifar" in found} == {"table3", "table7"}
    assert all("fashion" in found for found in read["small"].values())
    assert set(command.datasets_of(table7.PROFILES["small"], {"backdoor"})) == {"fashion"}
    assert all("cifar" in found for found in read["paper"].values())
    assert {name for name, found in read["paper"].items() if "fashion" in found} == {"table3"}
    text = command.parser().format_help()
    assert all(re.search(rf"^  {name} ", text, re.M) for name in (*command.EXPERIMENTS, *command.PROFILES))
    assert max(map(len, text.splitlines())) <= 120


def test_an_interruption_is_one_line_and_code_130(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(command, "experiment", lambda name: Fake(name, KeyboardInterrupt()))
    assert command.main(["table1", "table2", "--jobs", "1", "--out", str(tmp_path)]) == 130
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("table1: begins") and len(lines) == 2
    assert lines[1].startswith(f"interrupted; what is saved in {tmp_path} stays")
