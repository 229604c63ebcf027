"""Who may import what: the verifier stays small and independent, and importing zkcert stays cheap."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HEAVY = {"torch", "numba", "llvmlite", "scipy", "sklearn", "matplotlib", "joblib", "ray"}
LIGHT = {"numpy", "blake3", "Crypto"}
INTERFACE = ("zkcert.api.", "zkcert.cli.", "zkcert.__main__", "zkcert.__init__", "zkcert.convert")
"""What users touch stands above prover and verifier; the rest of zkcert lies below the circuits."""


def modules(package: str) -> Iterator[tuple[str, Path]]:
    for path in sorted((ROOT / package).rglob("*.py")):
        yield ".".join(path.relative_to(ROOT).with_suffix("").parts), path


def imported(name: str, path: Path, lazy: bool = True) -> set[str]:
    """Full names of the modules a file imports, at its top level or, if `lazy`, anywhere."""
    tree = ast.parse(path.read_text())
    found = set()
    for node in ast.walk(tree) if lazy else tree.body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = name.split(".")[: -node.level] if node.level else []
            found.add(".".join([*base, *filter(None, [node.module])]))
    return found


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
    for name, path in modules(package):
        assert foreign(imported(name, path)) <= allowed, name


def test_core_needs_nothing_of_zkcert_but_errors():
    for name, path in modules("zkcert/core"):
        ours = {m for m in imported(name, path) if m.startswith("zkcert")}
        assert all(m.startswith("zkcert.core") or m == "zkcert.errors" for m in ours), name


def test_zkcert_below_its_interface_knows_neither_circuits_nor_prover_nor_verifier():
    for name, path in modules("zkcert"):
        if not name.startswith(INTERFACE):
            assert not foreign(imported(name, path)) & {"circuits", "prover", "verifier", "typer", "rich"}, name


def test_circuits_and_verifier_use_only_the_light_part_of_zkcert():
    for package in ("circuits", "verifier"):
        for name, path in modules(package):
            barred = ("zkcert.api", "zkcert.cli", "zkcert.metric", "zkcert.convert", "zkcert.zoo")
            assert not any(m.startswith(barred) for m in imported(name, path)), name


def test_torch_is_imported_at_top_level_only_by_the_modules_that_say_so():
    users = {name for name, path in modules("zkcert") if "torch" in foreign(imported(name, path, lazy=False))}
    assert {name for name in users if not name.startswith("zkcert.metric.")} == {"zkcert.convert", "zkcert.zoo"}


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


@pytest.mark.parametrize("command", ["prove", "measure", "audit", "train"])
def test_base_install_says_which_package_is_missing(tiny, tmp_path, command):
    more = {
        "prove": ["--tau", 1, "--beacon", "00", "-o", tmp_path / "proof.bin"],
        "measure": ["--plot", tmp_path / "plot.png", "--baselines"],
        "audit": ["--tau", 1],
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
