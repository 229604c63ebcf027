"""zkcert: zero-knowledge certificates of directional sharpness.

The functions `commit`, `root`, `announce`, `estimate`, `prove`, `verify`, `inspect`, `measure`, `audit`, `calibrate`,
`mia`, `train` and `demo` do what the commands of the same names do, `convert_model` what `zkcert convert` does (the
module `zkcert.convert` makes models of PyTorch modules). All names load on first use: importing zkcert needs
neither PyTorch nor numba.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from zkcert.errors import (
    MalformedProof,
    ProofRejected,
    RangeOverflow,
    ThresholdExceeded,
    UnsupportedLayer,
    UnusableInput,
    ZkcertError,
)

__version__ = "0.1.0"

if TYPE_CHECKING:
    from zkcert.api import (
        announce,
        audit,
        calibrate,
        commit,
        convert_model,
        demo,
        estimate,
        inspect,
        measure,
        mia,
        prove,
        root,
        train,
        verify,
    )
    from zkcert.public.config import ProbeConfig
    from zkcert.public.model import Model

__all__ = [
    "MalformedProof",
    "Model",
    "ProbeConfig",
    "ProofRejected",
    "RangeOverflow",
    "ThresholdExceeded",
    "UnsupportedLayer",
    "UnusableInput",
    "ZkcertError",
    "announce",
    "audit",
    "calibrate",
    "commit",
    "convert_model",
    "demo",
    "estimate",
    "inspect",
    "measure",
    "mia",
    "prove",
    "root",
    "train",
    "verify",
]

_HOMES = {"Model": "zkcert.public.model", "ProbeConfig": "zkcert.public.config"}


def __getattr__(name: str) -> Any:
    """Load a public name on first use (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES.get(name, "zkcert.api")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
