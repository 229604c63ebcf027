"""GUARANTEES.md names tests that exist, and everything that it rests on is a test."""

from __future__ import annotations

import ast
import re
from pathlib import Path

HERE = Path(__file__).parents[1]
TEXT = (HERE / "GUARANTEES.md").read_text()


def named_in(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    return {n.name for n in tree.body if isinstance(n, ast.FunctionDef) and n.name.startswith("test_")}


def test_every_test_that_is_named_exists():
    named = re.findall(r"`((?:\w+/)+test_\w+\.py)(?:::(\w+))?`", TEXT)
    assert len(named) > 30
    for file, test in named:
        assert (HERE / file).is_file(), file
        assert not test or test in named_in(HERE / file), f"{file}::{test}"


def test_every_promise_has_a_test():
    promises = TEXT.split("## Not tested")[0]
    rows = [
        line for line in promises.splitlines() if line.startswith("| ") and not line.startswith(("| ---", "| promise"))
    ]
    assert len(rows) > 25
    for row in rows:
        assert re.search(r"`(?:\w+/)+test_\w+\.py", row.split("|")[2]), row
