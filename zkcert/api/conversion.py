"""Write a model file: anew, or of a module."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zkcert.api.files import File
from zkcert.api.sources import is_foreign, is_module, read_source
from zkcert.files.models import model_pieces
from zkcert.files.writing import check_output, output
from zkcert.foreign import model_file as other_model_file
from zkcert.public import model_file
from zkcert.public.kinds import MODEL, expecting
from zkcert.public.model import MAX_FILE_BYTES, Model, naming
from zkcert.public.reading import read_file


@dataclass(frozen=True)
class Conversion:
    """A model file that was written: its model, name, number of bytes and SHA-256 (hexadecimal); notes of what was
    folded or taken off, and warnings."""

    model: Model
    path: Path
    size: int
    sha256: str
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON values; `model` is the weights digest, which conversion of a model file does not change."""
        return {
            "model": self.model.weights_digest.hex(),
            "parameters": self.model.param_count,
            "file": str(self.path),
            "bytes": self.size,
            "sha256": self.sha256,
            "notes": list(self.notes),
            "warnings": list(self.warnings),
        }


def convert_model(
    source: Any,
    out: File,
    *,
    input: Mapping[str, Any] | None = None,
    weights: File | None = None,
    force: bool = False,
) -> Conversion:
    """Write a model file in the one form that is accepted: safetensors if `out` ends so, else for torch.load.

    source   what torch.save, safetensors or an earlier zkcert wrote of graph, input and state_dict, told by content; it
             is refused where two programs could read different models from it. Numbers stay as they are; this needs no
             PyTorch. Or what a model is made of: FILE.py:NAME, a function, class or module of a Python file, which is
             run; an exported program (.pt2), whose loading may run code; an ONNX file; an nn.Module in memory.
    input    of such a module: {"shape": [C, H, W], "pad": 0, "mean": ..., "std": ...}, see
             `zkcert.convert.from_module`; mean and std may be one number for all channels.
    weights  a checkpoint for the module that FILE.py:NAME makes: a state_dict, also inside "state_dict" or
             "model_state_dict", with the prefixes of DataParallel, torch.compile or Lightning.
    force    replace another model file called `out`.

    Returns the Conversion: the model, and the new file's name, size and SHA-256; `notes` say what was folded or taken
    off. Raises UnusableInput, UnsupportedLayer, RangeOverflow; `check` says everything that stands in the way at once.
    """
    check_output(out, MODEL, inputs=[source, weights], force=force)
    foreign = is_module(source) or (not isinstance(source, Model) and is_foreign(source))
    if foreign or weights is not None or input:
        found = read_source(source, input=input, weights=weights)
        if found.model is None:
            raise found.refusal
        return _written(found.model, model_pieces(found.model, out), out, force, found.notes, found.warnings)
    if isinstance(source, Model):
        return _written(source, model_pieces(source, out), out, force)
    with expecting(source, MODEL):
        data = read_file(source, MAX_FILE_BYTES)
        with naming(os.fspath(source)):
            model, content = _read(data)
    written = model_file.Content(model.graph, model.input, content.tensors, model_file.is_safetensors(out))
    return _written(model, model_file.write(written), out, force)


def _written(
    model: Model,
    pieces: Iterable[bytes],
    out: File,
    force: bool,
    notes: tuple[str, ...] = (),
    warnings: tuple[str, ...] = (),
) -> Conversion:
    digest, size = hashlib.sha256(), 0
    with output(out, MODEL, force=force) as file:
        for piece in pieces:
            digest.update(piece)
            size += file.write(piece)
    return Conversion(model, Path(out), size, digest.hexdigest(), notes, warnings)


def _read(data: bytes) -> tuple[Model, model_file.Content]:
    """The model, and what the file holds, in the graph's order."""
    try:
        content = model_file.read(data)
        model = Model.of(content)
        model_file.check_form(data, model.stored(content))
    except model_file.NotAsWritten:
        content = other_model_file.read(data)
        model = Model.of(content)
    return model, model.stored(content)
