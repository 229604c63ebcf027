"""Who may import what: the verifier stays small and independent, and importing zkcert stays cheap."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.closure import UPWARD
from tests.modules import ROOT, circles, file_of, imports, module_of, modules

HEAVY = {"torch", "numba", "llvmlite", "scipy", "sklearn", "matplotlib", "joblib", "ray", "PIL", "pyarrow", "onnx"}
LIGHT = {"numpy", "blake3", "Crypto"}
ALONE = {"prover.cluster.rays": {"ray"}, "prover.cluster.sealing": {"cryptography"}}
"""Packages that one module only may import."""
PACKAGES = ("zkcert", "circuits", "verifier", "prover")

GROUND = {"zkcert.errors", "zkcert.core"}
DECLARED = GROUND | {"circuits", "circuits.language"}
STATEMENT = DECLARED | {"zkcert.public"}
CIRCUITS = STATEMENT | {"circuits.argument", "circuits.statement"}
OWNER = STATEMENT | {"zkcert.calibration", "zkcert.files", "zkcert.data"}
TOOLS = {f"zkcert.{name}" for name in ("convert", "foreign", "gpt", "metric", "progress", "provable", "sources", "zoo")}
SHELL = CIRCUITS | OWNER | TOOLS | {"zkcert", "zkcert.trust", "zkcert.trust.report"}
ROOMS = {
    "zkcert": set(),
    "zkcert.errors": set(),
    "zkcert.core": {"zkcert.errors"},
    "zkcert.public": DECLARED,  # what a layer's node holds is said where the layer is declared
    "circuits.language": GROUND,
    "circuits.argument": GROUND | {"circuits.language"},
    "circuits": GROUND | {"circuits.language", "circuits.argument"},
    "circuits.statement": CIRCUITS,
    "verifier": CIRCUITS | {"zkcert"},
    "zkcert.calibration": STATEMENT,
    "zkcert.files": STATEMENT | {"zkcert.calibration"},
    "zkcert.data": STATEMENT | {"zkcert.files"},
    "zkcert.trust": STATEMENT | {"zkcert", "zkcert.files"},  # zkcert: for its version
    "zkcert.trust.report": STATEMENT | {"zkcert", "zkcert.calibration", "zkcert.trust", "verifier"},
    "prover.kernels": {"zkcert.core"},
    "prover": CIRCUITS | OWNER | {"prover.kernels"},
    "zkcert.foreign": STATEMENT,
    "zkcert.progress": set(),
    "zkcert.provable": CIRCUITS,
    "zkcert.sources": STATEMENT | {"zkcert.files"},
    "zkcert.convert": STATEMENT | {"zkcert.provable", "zkcert.sources", "prover"},
    "zkcert.metric": OWNER | {"zkcert", "zkcert.convert"},
    "zkcert.gpt": {"zkcert.errors"},
    "zkcert.zoo": STATEMENT | {"zkcert.gpt", "zkcert.metric"},
    "zkcert.api": SHELL | {"verifier", "prover", "prover.kernels"},
    "zkcert.cli": SHELL | {"verifier", "prover", "prover.kernels", "zkcert.api"},
    "zkcert.__main__": {"zkcert.cli", "zkcert.files"},
}
"""The rooms, from the ground up to the shell, and the rooms that each may import."""


def room(name: str) -> str:
    """The innermost room a module stands in; for others their package."""
    parts = name.split(".")
    around = (".".join(parts[:i]) for i in range(len(parts), 0, -1))
    return next((found for found in around if found in ROOMS), parts[0])


def arrows(lazy: bool = True) -> Iterator[tuple[str, str]]:
    """(module, module that it imports) for all of the project, also by `from package import module`."""
    for name, path in modules(*PACKAGES).items():
        for other in imports(path, lazy=lazy):
            if (file := file_of(other)) and name != module_of(file):
                yield name, module_of(file)


def test_imports_run_down():
    up = {(a, b) for a, b in arrows() if room(a) != room(b) and room(b) not in ROOMS[room(a)]}
    assert up == set(UPWARD)


def test_rooms_have_one_direction():
    assert not circles({name: below - {name} for name, below in ROOMS.items()})


def test_no_modules_import_each_other():
    graph: dict[str, set[str]] = {}
    for a, b in arrows():
        graph.setdefault(a, set()).add(b)
    assert not circles(graph)


def test_circles_are_named():
    graph = {"a": ["b"], "b": ["c", "d"], "c": ["a"], "d": ["e"], "e": ["d"], "f": ["a", "f"]}
    assert sorted(circles(graph)) == [["a", "b", "c"], ["d", "e"]]


def test_imports_of_modules_from_packages_and_within_functions_are_seen(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.modules.ROOT", tmp_path)
    (tmp_path / "p" / "q").mkdir(parents=True)
    for name in ("p/__init__.py", "p/q/__init__.py", "p/b.py", "p/q/c.py"):
        (tmp_path / name).write_text("")
    user = tmp_path / "p" / "q" / "a.py"
    user.write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import p.q.nothing\nfrom p import b\n"
        "def f():\n    from . import c\n    from .c import name\n    from .. import b\n    import os.path\n"
    )
    assert imports(user) == {"typing", "p.b", "p.q.c", "os.path"}
    assert imports(user, lazy=False) == {"typing", "p.b"}


def foreign(names: set[str]) -> set[str]:
    """Top-level packages that are not of the standard library."""
    return {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names)


@pytest.mark.parametrize(
    ("package", "allowed"),
    [
        ("verifier", LIGHT | {"verifier", "circuits", "zkcert"}),
        ("circuits", LIGHT | {"circuits", "zkcert"}),
        ("prover", LIGHT | {"prover", "circuits", "zkcert", "numba", "llvmlite"}),
        ("zkcert/core", LIGHT | {"zkcert"}),
    ],
)
def test_package_imports_only_what_its_place_allows(package, allowed):
    for name, path in modules(package).items():
        assert foreign(imports(path)) <= allowed | ALONE.get(name, set()), name


def test_torch_is_imported_at_top_level_only_by_the_modules_that_say_so():
    users = {name for name, path in modules("zkcert").items() if "torch" in foreign(imports(path, lazy=False))}
    others = {name for name in users if not name.startswith(("zkcert.metric.", "zkcert.sources."))}
    assert others == {"zkcert.convert", "zkcert.gpt", "zkcert.zoo"}


def loaded_after(statement: str) -> set[str]:
    """Top-level packages a fresh interpreter has loaded after a statement."""
    code = f"{statement}\nimport sys; print(*{{name.partition('.')[0] for name in sys.modules}})"
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT)
    return set(out.stdout.split())


def test_importing_zkcert_loads_no_third_party_package():
    assert not loaded_after("import zkcert") & (HEAVY | LIGHT | {"typer", "rich", "prover", "verifier"})


def test_importing_api_and_command_line_loads_neither_torch_nor_numba():
    assert not loaded_after("import zkcert.api, zkcert.cli; zkcert.prove") & (HEAVY | {"prover"})


def test_every_public_name_resolves_without_torch():
    names = "import zkcert; [getattr(zkcert, name) for name in zkcert.__all__]; dir(zkcert)"
    assert not loaded_after(names) & HEAVY


def test_type_checkers_are_told_the_same_public_names():
    import zkcert

    (names,) = (
        node.value
        for node in ast.parse((ROOT / "zkcert" / "__init__.pyi").read_text()).body
        if isinstance(node, ast.Assign)
    )
    assert ast.literal_eval(names) == zkcert.__all__


def test_unknown_name_is_an_attribute_error():
    import zkcert

    with pytest.raises(AttributeError, match="nonsense"):
        zkcert.nonsense  # noqa: B018


BASE_ONLY = """
import sys
class Barred:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {barred!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name.partition(".")[0])
sys.meta_path.insert(0, Barred())
from {module} import main
sys.exit(main(sys.argv[1:]))
"""


def run_without(barred: set[str], module: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a command's main in an interpreter that cannot import some packages."""
    code = BASE_ONLY.format(barred=barred, module=module)
    return subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, cwd=ROOT)


def test_verifier_runs_where_only_numpy_blake3_and_pycryptodome_exist(tiny):
    barred = HEAVY | {"prover", "typer", "rich"}
    done = run_without(barred, "verifier.__main__", tiny.proof, tiny.model, "--tau", tiny.tau)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert "ACCEPTED" in done.stdout


def test_zkcert_verify_runs_in_a_base_install(tiny):
    done = run_without(HEAVY | {"prover"}, "zkcert.cli", "verify", tiny.proof, tiny.model, "--tau", tiny.tau)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", ["prove", "measure", "audit", "train", "check"])
def test_base_install_says_which_package_is_missing(tiny, tmp_path, command):
    more = {
        "prove": ["--tau", 1, "--beacon", "00", "-o", tmp_path / "proof.bin"],
        "measure": ["--plot", tmp_path / "plot.png", "--baselines"],
        "audit": ["--tau", 1],
        "check": [],
        "train": ["-o", tmp_path / "model.pt"],
    }
    probe = [tiny.model, tiny.data, "--steps", 2, "--batch-size", 2]
    arguments = ["mlp", tiny.dataset] if command == "train" else probe
    done = run_without(HEAVY, "zkcert.cli", command, *arguments, *more[command])
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    extra = "metric" if command == "measure" else "prove"
    assert f"pip install -c constraints.txt -e '.[{extra}]'" in done.stderr.splitlines()[-1]
    assert not list(tmp_path.iterdir())
