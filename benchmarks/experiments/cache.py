"""Entries of the cache of trained models: dictionaries of tensors, numbers and text."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from zkcert.data import replacing


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
