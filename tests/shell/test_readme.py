"""What README and specification print is what happens: examples and commands run, the numbers are right."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import zkcert
from circuits.statement import certificate
from verifier.soundness import soundness
from zkcert import api, cli
from zkcert.cli.application import GROUPS
from zkcert.errors import UnusableInput
from zkcert.public.config import ProbeConfig
from zkcert.public.root import DatasetRoot, Schema
from zkcert.public.statement import Statement

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_examples_of_the_readme_run_as_printed(tmp_path):
    """In order, in one empty folder, as a stranger would; the commands in the middle."""
    first, second = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    (commands,) = (block for block in README.split("```") if block.startswith("\nzkcert commit"))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

    def run(*command: str) -> str:
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run(sys.executable, "-c", first)
    shell = 'zkcert() { python -m zkcert "$@"; }\n'  # this source tree's, whatever is installed
    for shown in (run("bash", "-ec", shell + commands), run(sys.executable, "-c", second)):
        assert "\nACCEPTED: the score is at most 3 (asked: 3)" in shown
        assert "WARNING" not in shown


def test_the_first_command_needs_nothing_beforehand():
    first = README.split("```")[1].strip().splitlines()
    assert first[0].startswith("git clone ") and first[0].endswith("&& cd zkcert")
    assert first[1] == 'pip install -c constraints.txt ".[prove]" && zkcert demo'


# -------------------------------------------------------------------------------------------- soundness


def test_both_columns_of_the_soundness_table_are_those_of_lenet5():
    from zkcert.convert import from_sequential
    from zkcert.zoo import LENET5_INPUT, lenet5

    model = from_sequential(lenet5(), input=LENET5_INPUT)
    root = DatasetRoot(bytes(32), 60_000, Schema(10, "u8", (1, 28, 28)))
    statement = Statement.of(model, root, ProbeConfig(steps=5, batch_size=8), Fraction(2))
    table = soundness(certificate(statement, model, np.zeros((40, 160), np.uint64)).close(statement.tau))
    spec = (ROOT / "docs" / "spec" / "soundness.md").read_text()
    rows = re.findall(r"^\| (.+) \| (-[0-9.]+) \| (-[0-9.]+) \|$", spec, re.MULTILINE)
    assert rows == [(term.name, f"{term.error:.1f}", f"{term.work:.1f}") for term in table.terms]
    assert f"| **-{table.attempt_bits:.2f}** | **-{table.bits:.2f}** |" in spec
    assert f"2^-{table.attempt_bits:.2f}" in README and f"for LeNet-5 2^{table.bits:.1f}" in README
    assert 16 > table.bits - table.attempt_bits > 10  # grinding, of the terms that count most in an attempt


# ---------------------------------------------------------------------------------------- first contact


def test_the_package_shows_its_public_names_only():
    assert dir(zkcert) == sorted(zkcert.__all__)
    done = subprocess.run(
        [sys.executable, "-c", "import zkcert; zkcert.errors; print(*dir(zkcert))"], capture_output=True, text=True
    )
    assert done.stdout.split() == sorted(zkcert.__all__)


FUNCTIONS = [name for name in zkcert.__all__ if name[0].islower()]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_help_of_every_function_names_arguments_result_and_errors(name):
    function = getattr(zkcert, name)
    text = function.__doc__
    assert "Returns the " in " ".join(text.split()) and "Raises " in text
    arguments = function.__code__.co_varnames[: function.__code__.co_argcount + function.__code__.co_kwonlyargcount]
    assert not [a for a in arguments if not re.search(rf"\b{a}\b", text)]
    assert not re.search(r"\bsee `verifier", text)


def test_version_and_help(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"zkcert {zkcert.__version__}\n"
    names = [command.name or command.callback.__name__ for command in cli.app.registered_commands]
    assert set(names) <= {name for group in GROUPS.values() for name in group}
    for command in ([], *([name] for name in names)):
        shown = []
        for option in ("-h", "--help"):
            assert cli.main([*command, option]) == 0
            shown.append(capsys.readouterr().out)
        assert shown[0] == shown[1] and "-h, --help" in shown[0]
    assert cli.main(["-h"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for word in ("Make and check certificates:", "asam-all", "u8", "eps", "beacon", "tau", "data.zkd"):
        assert word in text


def test_every_command_has_one_sentence():
    for command in cli.app.registered_commands:
        text = command.short_help or command.callback.__doc__.partition("\n")[0]
        assert text.endswith(".") and text.count(".") == 1 and len(text.split()) >= 5, text


def test_errors_in_a_model_file_name_the_file(tmp_path, tiny):
    for content in (b"", b"PK\3\4" + bytes(50), tiny.model.read_bytes()[:-30], b"x" * 100):
        path = tmp_path / "some-model.pt"
        path.write_bytes(content)
        with pytest.raises(UnusableInput, match=r"some-model\.pt"):
            api.estimate(path)
        with pytest.raises(UnusableInput, match=r"some-model\.pt"):
            api.verify(tiny.proof, path, tau=1)


# -------------------------------------------------------------------------------------------- notebooks


class Kernel:
    """What IPython looks like inside a notebook, or in a terminal."""

    def __init__(self, *config: str) -> None:
        self.config = dict.fromkeys(config)

    def get_ipython(self) -> Kernel:
        return self


@pytest.mark.parametrize(("config", "shown"), [(("IPKernelApp",), True), (("TerminalIPythonApp",), False)])
def test_notebooks_see_progress_of_functions(capsys, monkeypatch, tiny, tmp_path, config, shown):
    monkeypatch.setitem(sys.modules, "IPython", Kernel(*config))
    monkeypatch.setattr("zkcert.api.notebook.PAUSE", 0.0)
    api.commit(tiny.dataset, tmp_path / "d.zkd")
    api.measure(tiny.model, tiny.dataset, config=tiny.config, seed="a", draws=2)
    api.train("mlp", tiny.dataset, tmp_path / "m.pt", epochs=2, hidden=[2])
    api.prove(tiny.model, tiny.data, tmp_path / "p.bin", announcement=tiny.announcement, beacon=tiny.beacon)
    out = capsys.readouterr().out
    for line in ("hashing samples: 40 of 40", "draws: 2 of 2", "epoch 2 ", "witness   ", "self-check   "):
        assert (line in out) == shown, line
    seen: list[tuple[int, int]] = []
    api.commit(tiny.dataset, tmp_path / "e.zkd", progress=lambda *done: seen.append(done))
    assert seen and capsys.readouterr().out == ""  # somebody's own progress is the only one
