from zkcert.api import (
    announce,
    audit,
    calibrate,
    check,
    commit,
    convert_model,
    demo,
    estimate,
    inspect,
    look,
    measure,
    mia,
    prove,
    prove_many,
    root,
    train,
    verify,
)
from zkcert.data.dataset import load_dataset as load_dataset
from zkcert.errors import (
    MalformedProof,
    ProofRejected,
    RangeOverflow,
    ThresholdExceeded,
    UnsupportedLayer,
    UnusableInput,
    ZkcertError,
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
    "check",
    "commit",
    "convert_model",
    "demo",
    "estimate",
    "inspect",
    "load_dataset",
    "look",
    "measure",
    "mia",
    "prove",
    "prove_many",
    "root",
    "train",
    "verify",
]

__version__: str
