"""What a stranger has to read to believe the verifier: `python -m tests.closure` lists it and counts its lines.

The closure are the project's files that `python -m verifier` loads, whether at once or by an import within a function.
A code line is one of the file as ruff writes it (120 columns) that is neither blank nor a comment nor a docstring.

`ZKCERT_ENTERED=FOLDER pytest ...` notes which of these lines run, and which while a function of `verifier` does;
`python -m tests.closure --entered FOLDER` counts them. A statement counts with all its lines as soon as it has begun;
those outside of functions run when the file is loaded.
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import os
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from tests.modules import ROOT, file_of, imports, module_of

BUDGET = 7832
"""Code lines of all: no more than there are, but for a few."""

BASE_BUDGET, LAYER_BUDGET = 4500, 150
"""What was meant for everything with the FIRST types of layers, and for each of the LATER ones. The base is larger than
that, and has been from the beginning: `python -m tests.closure` prints by how much. Each later type keeps its share."""

FIRST = ("add", "avgpool2d", "batchnorm2d", "conv2d", "flatten", "linear", "maxpool2d", "relu")
LATER = (
    *("adaptiveavgpool2d", "attention", "binary", "cat", "channels", "embedding", "function", "groupnorm"),
    *("hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "line", "multiply", "positions", "prelu", "prepend"),
    *("take", "unembedding"),
)
"""Types of layers, by the names of their files in circuits/layers."""

OF_LATER = {
    "circuits/layers/clamp.py": ("hardsigmoid", "hardswish", "hardtanh"),
    "circuits/segments.py": ("attention", "function"),
    "circuits/language/functions.py": ("attention", "function"),
    "circuits/argument/tuples.py": ("attention", "function"),
    "circuits/tokens.py": ("embedding",),
}
"""Files besides that only these types need: they count as the later types' as well, but as none's own."""

ROOMS = ("zkcert.errors", "zkcert.core", "zkcert.public", "circuits", "verifier")
"""Where the closure's files stand; besides them `zkcert/__init__.py`, which loads nothing more by itself."""

FORBIDDEN = (
    *("torch", "numba", "llvmlite", "scipy", "sklearn", "matplotlib", "joblib", "ray", "typer", "rich"),
    *("pickle", "shelve", "marshal", "multiprocessing", "concurrent"),
)
"""What else no file of the closure may import: the prover's and the shell's libraries, unsafe readers, workers."""

TESTS = (
    *(
        "shell/test_cli",
        "shell/test_doubts",
        "formats/test_config",
        "formats/test_model",
        "formats/test_hostile_models",
    ),
    *("formats/test_model_file", "formats/test_model_archives", "formats/test_reading", "formats/test_strict_json"),
    *("soundness/test_limits", "soundness/test_tampering", "soundness/test_tampered_statements"),
    *("soundness/test_vectors", "soundness/test_field", "soundness/test_merkle", "soundness/test_permutation"),
    *("soundness/test_transcript", "soundness/test_sis", "soundness/test_refusals"),
)
"""The tests of the verifier, in tests/, besides `tests/soundness/malicious`."""

UPWARD = {("zkcert.public.model", "zkcert.files.models"): "Model.save, for whoever made a model; no verifier calls it"}
"""The one import that is not followed, (module, what it imports within a function), and why it is there."""

_LOADED = """
import sys, verifier.__main__
print(*(m.__file__ for m in list(sys.modules.values()) if getattr(m, "__file__", None)), sep="\\n")
"""


@cache
def loaded() -> tuple[Path, ...]:
    """The project's files that a fresh interpreter has loaded for `python -m verifier`."""
    out = subprocess.run([sys.executable, "-c", _LOADED], check=True, capture_output=True, text=True, cwd=ROOT)
    files = {Path(line).resolve() for line in out.stdout.splitlines()}
    return tuple(sorted(file for file in files if file.is_relative_to(ROOT) and file.suffix == ".py"))


@cache
def closure() -> tuple[Path, ...]:
    """`loaded`, and what these files would load later on."""
    found, left = set(loaded()), list(loaded())
    while left:
        user = left.pop()
        for name in imports(user):
            file = file_of(name)
            if file and file not in found and (module_of(user), name) not in UPWARD:
                found.add(file)
                left.append(file)
    return tuple(sorted(found))


def forbidden(modules: set[str]) -> set[str]:
    """Those of the modules that the closure may not hold."""

    def within(name: str, packages: tuple[str, ...]) -> bool:
        return any(name == package or name.startswith(f"{package}.") for package in packages)

    elsewhere = {name for name in modules if file_of(name) and name != "zkcert" and not within(name, ROOMS)}
    return elsewhere | {name for name in modules if within(name, FORBIDDEN)}


@cache
def code_lines(file: Path) -> frozenset[int]:
    """The numbers of a file's code lines."""
    text = file.read_text()
    silent = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in silent:
            lines |= set(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            lines -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return frozenset(lines)


def lines_of_layers() -> dict[str, int]:
    """The code lines of each later type's own file, and "shared" those of `OF_LATER`."""
    own = {op: len(code_lines(ROOT / "circuits" / "layers" / f"{op}.py")) for op in LATER}
    return {**own, "shared": sum(len(code_lines(ROOT / name)) for name in OF_LATER)}


def shares() -> list[str]:
    """What the base and the later types of layers have, beside what was meant for them."""
    total, layers = sum(len(code_lines(file)) for file in closure()), lines_of_layers()
    later, allowed = sum(layers.values()), LAYER_BUDGET * len(LATER)
    base = total - later
    largest = ", ".join(f"{op} {layers[op]}" for op in sorted(LATER, key=lambda op: -layers[op])[:4])
    return [
        f"base, with {len(FIRST)} types of layers: {base} code lines; {BASE_BUDGET} were meant, {base - BASE_BUDGET:+}",
        f"{len(LATER)} later types: {later}; {LAYER_BUDGET} each are allowed, {allowed} in all, {later - allowed:+}",
        f"  of these {layers['shared']} are in files that several share; the largest of their own: {largest}",
        f"together: {total}; {BASE_BUDGET + allowed} were meant, {total - BASE_BUDGET - allowed:+}",
    ]


# --------------------------------------------------------------------------------------- lines that tests enter


def statements(file: Path) -> Iterator[tuple[set[int], bool]]:
    """The lines of every statement, of a compound one those of its head; and whether it lies within a function."""

    def walk(node: ast.AST, inside: bool) -> Iterator[tuple[set[int], bool]]:
        for child in ast.iter_child_nodes(node):
            blocks = [getattr(child, name, []) for name in ("body", "orelse", "finalbody", "handlers", "cases")]
            inner = [each for block in blocks if isinstance(block, list) for each in block]
            if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant) and child.value.value is ...:
                continue  # the body of a protocol's method
            if isinstance(child, ast.stmt | ast.ExceptHandler | ast.match_case):
                first = child.pattern.lineno if isinstance(child, ast.match_case) else child.lineno
                last = min((each.lineno for each in inner if hasattr(each, "lineno")), default=None)
                end = (last - 1 if last else 0) or getattr(child, "end_lineno", first)
                decorators = getattr(child, "decorator_list", [])
                yield set(range(min([first, *(d.lineno for d in decorators)]), max(first, end) + 1)), inside
            deeper = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
            yield from walk(child, inside or deeper)

    yield from walk(ast.parse(file.read_text()), False)


def never_entered(file: Path, entered: set[int]) -> set[int]:
    """Code lines of statements within functions none of whose lines were entered."""
    lines: set[int] = set()
    for span, inside in statements(file):
        if inside and not span & entered:
            lines |= span
    return lines & code_lines(file)


class Entered:
    """Notes the lines of the closure that run, and those that run while a function of `verifier` does.

    By `sys.settrace`, in this thread. What a cache already holds is not run again, so that the second set is a little
    too small. `start` is called again for every test: where a test runs into the recursion limit, tracing ends.
    """

    def __init__(self) -> None:
        self.lines: dict[str, set[int]] = {str(file): set() for file in closure()}
        self.verifying: dict[str, set[int]] = {name: set() for name in self.lines}
        self._left: dict[CodeType, set[int]] = {}
        self._depth = 0

    def start(self) -> None:
        """From now on; no function of `verifier` is running."""
        self._depth = 0
        sys.settrace(self._called)

    def write(self, folder: str) -> None:
        """The lines so far, as a JSON file of its own in a folder."""
        sys.settrace(None)
        os.makedirs(folder, exist_ok=True)
        noted = [{name: sorted(lines) for name, lines in found.items()} for found in (self.lines, self.verifying)]
        Path(folder, f"{os.getpid()}.json").write_text(json.dumps(noted))

    def _called(self, frame: FrameType, event: str, arg: Any) -> Any:
        code = frame.f_code
        lines = self.lines.get(code.co_filename)
        if lines is None:
            return None
        verifier = f"{os.sep}verifier{os.sep}" in code.co_filename
        left = self._left.get(code)
        if left is None:
            left = self._left[code] = {line for *_, line in code.co_lines() if line}
        if not left and not verifier:
            return None
        self._depth += verifier
        verifying = self.verifying[code.co_filename]

        def note(line: int) -> None:
            lines.add(line)
            if self._depth:
                verifying.add(line)
                left.discard(line)

        def within(frame: FrameType, event: str, arg: Any) -> Any:
            if event == "line":
                note(frame.f_lineno)
            elif event == "return":
                self._depth -= verifier
            return within

        note(frame.f_lineno)
        return within


def read_entered(folder: str) -> tuple[dict[Path, set[int]], dict[Path, set[int]]]:
    """What all processes have noted in a folder: `Entered.lines` and `Entered.verifying`."""
    out: tuple[dict[Path, set[int]], dict[Path, set[int]]] = {}, {}
    for path in Path(folder).glob("*.json"):
        for found, noted in zip(out, json.loads(path.read_text()), strict=True):
            for name, lines in noted.items():
                found.setdefault(Path(name), set()).update(lines)
    return out


def ranges(lines: set[int]) -> str:
    """ "3-5, 9" """
    out: list[list[int]] = []
    for line in sorted(lines):
        if out and out[-1][1] == line - 1:
            out[-1][1] = line
        else:
            out.append([line, line])
    return ", ".join(f"{a}-{b}" if a != b else str(a) for a, b in out)


def main() -> None:
    """Print the closure, its size, and what of it the tests enter."""
    parser = argparse.ArgumentParser(prog="python -m tests.closure", description=__doc__)
    parser.add_argument("--entered", metavar="FOLDER", help="notes of a run of tests with ZKCERT_ENTERED=FOLDER")
    parser.add_argument("--tests", action="store_true", help="print the files of the verifier's tests instead")
    options = parser.parse_args()
    if options.tests:
        print(*(f"tests/{name}.py" for name in TESTS), "tests/soundness/malicious")
        return
    folder = options.entered
    entered, verifying = read_entered(folder) if folder else ({}, {})
    sizes = {file: len(code_lines(file)) for file in closure()}
    rooms: dict[str, int] = {}
    missed = unverified = 0
    for file, size in sizes.items():
        room = str(file.relative_to(ROOT).parent)
        rooms[room] = rooms.get(room, 0) + size
        never = never_entered(file, entered.get(file, set())) if folder else set()
        missed += len(never)
        unverified += len(never_entered(file, verifying.get(file, set())))
        print(f"{size:6}  {file.relative_to(ROOT)}" + (f"  (never: {ranges(never)})" if never else ""))
    total = sum(sizes.values())
    print(", ".join(f"{room} {count}" for room, count in rooms.items() if count))
    print("\n".join(shares()))
    print(f"the verifier's closure: {len(sizes)} files, {total} code lines, budget {BUDGET}")
    if folder:
        print(f"tests enter {total - missed} of these ({(total - missed) / total:.1%}), ", end="")
        print(f"{total - unverified} ({(total - unverified) / total:.1%}) while a function of verifier/ runs")


if __name__ == "__main__":
    main()
