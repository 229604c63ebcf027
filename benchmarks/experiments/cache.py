"""Entries of the cache of trained models: dictionaries of tensors, numbers and text."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from blake3 import blake3

from zkcert.files.writing import replacing


def key(facts: Mapping[str, Any], *arrays: np.ndarray) -> str:
    """Names an entry: 16 hexadecimal digits over JSON values and over shape, type and content of the arrays."""
    digest = blake3(json.dumps(facts, sort_keys=True).encode())
    for array in arrays:
        digest.update(f"{array.shape} {array.dtype.str}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest(8)


def read(path: Path) -> dict[str, Any] | None:
    """An entry, on the CPU; None if there is none, or one that is damaged."""
    try:
        entry = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile):
        return None
    return entry if isinstance(entry, dict) else None


def write(path: Path, entry: dict[str, Any]) -> None:
    """Put an entry into the cache, complete or not at all; UnusableInput if that fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = io.BytesIO()
    torch.save(entry, content)
    with replacing(path, 0o644) as file:
        file.write(content.getvalue())
