"""The verifier's closure: what `python -m verifier` loads is small, and holds nothing that only a prover needs."""

from __future__ import annotations

import subprocess
import sys

import pytest

from circuits.layers import LAYERS
from tests import closure
from tests.closure import BUDGET, FIRST, LATER, LAYER_BUDGET, OF_LATER, UPWARD, code_lines, forbidden, never_entered
from tests.modules import ROOT, imports, module_of


def test_the_closure_keeps_its_budget():
    sizes = {module_of(file): len(code_lines(file)) for file in closure.closure()}
    assert sum(sizes.values()) <= BUDGET <= sum(sizes.values()) + 12, sizes


def test_a_later_type_of_layer_keeps_its_share():
    assert sorted((*FIRST, *LATER)) == sorted(LAYERS)
    files, counts = {str(file.relative_to(ROOT)) for file in closure.closure()}, closure.lines_of_layers()
    assert set(OF_LATER) <= files and {op for ops in OF_LATER.values() for op in ops} <= set(LATER)
    assert max(counts[op] for op in LATER) <= LAYER_BUDGET and sum(counts.values()) <= LAYER_BUDGET * len(LATER), counts


def test_what_is_above_the_base_that_was_meant_is_printed():
    total, later = sum(len(code_lines(file)) for file in closure.closure()), sum(closure.lines_of_layers().values())
    first, second, *_, last = closure.shares()
    assert f" {total - later} code lines; 4500 were meant, {total - later - 4500:+}" in first
    assert f" {later}; 150 each are allowed, {150 * len(LATER)} in all" in second and f" {total}; " in last


def test_no_file_of_the_closure_imports_what_only_provers_and_the_shell_need():
    for file in closure.closure():
        excused = {name for user, name in UPWARD if user == module_of(file)}
        assert not forbidden({module_of(file), *imports(file)} - excused), file


def test_a_fresh_interpreter_loads_nothing_forbidden():
    before, after = (
        set(
            subprocess.run(
                [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT
            ).stdout.split()
        )
        for code in (
            "import numpy, argparse, json, sys; print(*sys.modules)",
            "import numpy, argparse, json, verifier.__main__, sys; print(*sys.modules)",
        )
    )
    assert not forbidden(after - before)


def test_only_the_rooms_of_the_verifier_are_allowed():
    assert forbidden({"prover.pads", "zkcert.data", "torch.nn"}) == {"prover.pads", "zkcert.data", "torch.nn"}
    assert not forbidden({"torchlight", "zkcert", "zkcert.public.model", "circuits.net", "verifier.verify"})


def test_the_tests_that_are_listed_exist():
    assert all((ROOT / "tests" / f"{name}.py").is_file() for name in closure.TESTS)


CODE = '''"""A docstring

of three lines."""

X = (
    1,  # two lines more, and this comment is part of one
)


def f(x):
    """A docstring."""
    # a comment
    if x:
        return """text
in two lines"""
    return 0
'''


@pytest.fixture
def example(tmp_path):
    path = tmp_path / "example.py"
    path.write_text(CODE)
    return path


def test_code_lines_are_neither_blank_nor_comments_nor_docstrings(example):
    assert code_lines(example) == {5, 6, 7, 10, 13, 14, 15, 16}


def test_a_statement_is_entered_with_all_its_lines_or_not_at_all(example):
    assert never_entered(example, set()) == {13, 14, 15, 16}
    assert never_entered(example, {13, 16}) == {14, 15}
    assert never_entered(example, {13, 14, 16}) == set()


def test_the_body_of_a_protocols_method_is_no_statement(tmp_path):
    path = tmp_path / "protocol.py"
    path.write_text("class P:\n    def f(self) -> int: ...\n\n    def g(self) -> None:\n        ...\n")
    assert never_entered(path, set()) == set()
