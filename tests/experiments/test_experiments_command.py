"""The command around the experiments: options, help, progress, what fails and how."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass

import pytest
import torch

from benchmarks.experiments import __main__ as command
from benchmarks.experiments import report
from benchmarks.experiments.common import Context, Profile, Recipe, run_grid
from tests.experiments.test_experiments import TINY, cube
from tests.experiments.test_experiments_report import COMMAND, dot, example
from zkcert.errors import UnusableInput


def test_commands_in_reports_hide_the_paths_of_the_machine():
    arguments = [
        "own_more",
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
    expected = "own_more --profile small --cluster ... --cifar ... --device cuda --parts gpt,noise"
    assert command.command_of("own_more", args) == f"python -m benchmarks.experiments {expected}"


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
        (["table1", "--parts", "gpt"], "--parts are those of table2, table7, own_more"),
        (["table1", "--profile", "paper"], "--cifar PATH"),
        (["table3"], "--cifar PATH"),
        (["table7"], "--cifar PATH"),
        (["own_more"], "--cifar PATH"),
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


class Fake:
    """An experiment that finds `example()`, or raises."""

    FIGURE_SIZE, draw = (2, 2), staticmethod(dot)

    def __init__(self, name: str, error: BaseException | None = None, dataset: str = "shipped") -> None:
        self.name, self.error = name, error
        profile = Sized("tiny", 2, "", inside={"a": [(TINY.but(dataset=dataset),)]})
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
    assert lines[-1] == "error: 2 of 9 experiments could not be run: table1, table4"
    assert (
        "Of table2" in captured.out
        and "RESULTS.md: table2, table3, figure1, table7, study, own_data, own_more\n" in captured.out
    )
    saved = ["figure1", "own_data", "own_more", "study", "table2", "table3", "table7"]
    assert sorted(path.stem for path in tmp_path.glob("*.json")) == saved
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
    own_more = command.experiment("own_more")
    assert all(found == {"shipped"} for found in read["tiny"].values())
    assert {name for name, found in read["small"].items() if "cifar" in found} == {"table3", "table7", "own_more"}
    assert all("fashion" in found for found in read["small"].values())
    assert set(command.datasets_of(own_more.PROFILES["small"], {"backdoor"})) == {"fashion"}
    assert all("cifar" in found for found in read["paper"].values())
    assert {name for name, found in read["paper"].items() if "fashion" in found} == {"table3"}
    assert {name for name, found in read["paper"].items() if "cifar100" in found} == {"table1"}
    text = command.parser().format_help()
    assert all(re.search(rf"^  {name} ", text, re.M) for name in (*command.EXPERIMENTS, *command.PROFILES))
    assert f"of {', '.join(own_more.PARTS)} [default: all]" in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= 120


def test_an_interruption_is_one_line_and_code_130(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(command, "experiment", lambda name: Fake(name, KeyboardInterrupt()))
    assert command.main(["table1", "table2", "--jobs", "1", "--out", str(tmp_path)]) == 130
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("table1: begins") and len(lines) == 2
    assert lines[1].startswith(f"interrupted; what is saved in {tmp_path} stays")
