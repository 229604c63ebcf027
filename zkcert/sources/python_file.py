"""A module that a Python file makes: FILE.py:NAME. The file is run; it is whoever converts that trusts it."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from zkcert.errors import UnusableInput
from zkcert.public.reading import opened

MAX_BYTES = 1 << 24


def is_factory(source: str) -> bool:
    """Whether a source is FILE.py:NAME, or a Python file without a name."""
    file, _, name = source.rpartition(":")
    return source.endswith(".py") or (file.endswith(".py") and name.isidentifier())


def made_by(source: str) -> tuple[nn.Module, Mapping[str, Any] | None]:
    """The module that FILE.py:NAME names (a module, or a function or class that makes one without arguments), and the
    input's description, if it makes a pair of both. Whatever the file prints goes to stderr. Raises UnusableInput."""
    file, _, name = source.rpartition(":")
    if not file:
        raise UnusableInput(f"{source}: name the function or class that makes the module, as {source}:NAME")
    path = Path(file)
    with opened(path, MAX_BYTES):
        pass
    with contextlib.redirect_stdout(sys.stderr):
        found = getattr(_run(path), name, None)
        if found is None:
            raise UnusableInput(f"{file}: has no {name}")
        if callable(found) and not isinstance(found, nn.Module):
            found = _call(path, name, found)
    module, spec = found if isinstance(found, tuple) and len(found) == 2 else (found, None)
    if not isinstance(module, nn.Module) or not (spec is None or isinstance(spec, Mapping)):
        raise UnusableInput(
            f"{source}: makes a {type(found).__name__}; expected an nn.Module, or a pair of it and "
            '{"shape": [C, H, W], "pad": 0, "mean": [...], "std": [...]}'
        )
    return module, spec


def _run(path: Path) -> Any:
    """The Python module of a file, run as if it were imported from its folder."""
    name = f"zkcert_source_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UnusableInput(f"{path}: is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, os.fspath(path.resolve().parent))
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise UnusableInput(f"{path}: {_said(path, error)}") from error
    finally:
        sys.path.pop(0)
    return module


def _call(path: Path, name: str, function: Any) -> Any:
    try:
        return function()
    except (Exception, SystemExit) as error:
        needs = ""
        if isinstance(error, TypeError) and "required" in str(error):
            needs = f"; it is called without arguments: add def make(): return {name}(...) and name that"
        raise UnusableInput(f"{path}: {name}() fails: {_said(path, error)}{needs}") from error


def _said(path: Path, error: BaseException) -> str:
    """An error in one line, with the line of the file."""
    own = os.path.realpath(path)
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if os.path.realpath(f.filename) == own]
    at = getattr(error, "lineno", None) if isinstance(error, SyntaxError) else lines[-1] if lines else None
    text = " ".join(str(error).split())[:200]
    return f"{type(error).__name__}{f': {text}' if text else ''}{f' (line {at})' if at else ''}"
