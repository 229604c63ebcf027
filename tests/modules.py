"""The project's modules and their imports, as they stand in the source."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from pathlib import Path

ROOT = Path(__file__).parent.parent


def file_of(module: str) -> Path | None:
    """The project's file that holds a module; None for any other module, and for names inside of one."""
    base = ROOT.joinpath(*module.split("."))
    return next((file for file in (base.with_suffix(".py"), base / "__init__.py") if file.is_file()), None)


def module_of(file: Path) -> str:
    """Inverse of `file_of`."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def only_for_types(node: ast.AST) -> bool:
    """Whether it is a block that no interpreter enters: `if TYPE_CHECKING:`."""
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def imports(file: Path, *, lazy: bool = True) -> set[str]:
    """Full names of the modules that a file imports: at its top level and, if `lazy`, anywhere; not for types alone.

    `from package import name` is package.name where that is a module of the project.
    """
    name = module_of(file)
    package = name.split(".") if file.name == "__init__.py" else name.split(".")[:-1]
    found: set[str] = set()

    def walk(node: ast.AST) -> None:
        if only_for_types(node):
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *filter(None, [node.module])])
            inner = [f"{module}.{alias.name}" for alias in node.names]
            modules = [each for each in inner if file_of(each)]
            found.update(modules)
            if len(modules) < len(inner):
                found.add(module)
        elif not lazy and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            return
        for child in ast.iter_child_nodes(node):
            walk(child)

    walk(ast.parse(file.read_text()))
    return found


def modules(*folders: str) -> dict[str, Path]:
    """The modules below some folders of the project, by full name, and their files."""
    return {module_of(path): path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))}


def circles(graph: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """The sets of nodes that lead to each other (Tarjan's strongly connected components of two nodes or more)."""
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    path: list[str] = []
    out: list[list[str]] = []

    def visit(node: str) -> None:
        number[node] = lowest[node] = len(number)
        path.append(node)
        for other in graph.get(node, ()):
            if other not in number:
                visit(other)
                lowest[node] = min(lowest[node], lowest[other])
            elif other in path:
                lowest[node] = min(lowest[node], number[other])
        if lowest[node] == number[node]:
            found = path[path.index(node) :]
            del path[path.index(node) :]
            if len(found) > 1:
                out.append(sorted(found))

    for node in graph:
        if node not in number:
            visit(node)
    return out
