"""zkcert: zero-knowledge certificates of directional sharpness.

The functions `commit`, `root`, `announce`, `check`, `estimate`, `prove`, `verify`, `report`, `inspect`, `measure`,
`audit`, `calibrate`, `mia`, `train` and `demo` do what the commands of the same names do, `prove_many` what
`prove --jobs`, `look` what `commit --look`, `convert_model` what `convert` (the module `zkcert.convert` makes models
of PyTorch modules); `load_dataset` reads what `commit` takes. All names load on first use: importing zkcert needs
neither PyTorch nor numba. `__init__.pyi` lists them for type checkers.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_NAMES = {
    "zkcert.api": "announce audit calibrate check commit convert_model demo estimate inspect look measure mia prove "
    "prove_many report root train verify",
    "zkcert.data.dataset": "load_dataset",
    "zkcert.errors": "MalformedProof ProofRejected RangeOverflow ThresholdExceeded UnsupportedLayer UnusableInput "
    "ZkcertError",
    "zkcert.public.config": "ProbeConfig",
    "zkcert.public.model": "Model",
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names.split()}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    """Load a public name on first use (PEP 562)."""
    if name == "errors":  # `except zkcert.errors.ZkcertError` needs no import of its own
        return import_module("zkcert.errors")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
