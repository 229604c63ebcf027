"""Writing what `zkcert.public` reads: each file appears completely or not at all.

A file replaces none of another kind, and one of its own kind only with `force`. Raises UnusableInput. Models have a
method of their own: `zkcert.public.model.Model.save`.
"""

from __future__ import annotations

import os

from zkcert.calibration import Calibration
from zkcert.files.writing import write_file
from zkcert.public.kinds import ANNOUNCEMENT, CALIBRATION, ROOT
from zkcert.public.root import DatasetRoot
from zkcert.public.statement import Statement, announced

File = str | os.PathLike[str]


def save_root(root: DatasetRoot, path: File, *, force: bool = False) -> None:
    """Write a data.root file."""
    write_file(path, [root.to_bytes()], ROOT, force=force)


def save_announcement(statement: Statement, path: File, *, force: bool = False) -> None:
    """Write an announce.json."""
    write_file(path, [announced(statement)], ANNOUNCEMENT, force=force)


def save_calibration(calibration: Calibration, path: File, *, force: bool = False) -> None:
    """Write a calibration.json."""
    write_file(path, [calibration.to_bytes()], CALIBRATION, force=force)
