"""Write a model file anew, in zkcert's own form."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zkcert.api.files import File
from zkcert.files.writing import check_output, output
from zkcert.foreign import model_file as other_model_file
from zkcert.public import model_file
from zkcert.public.kinds import MODEL, expecting
from zkcert.public.model import MAX_FILE_BYTES, Model, naming
from zkcert.public.reading import read_file


@dataclass(frozen=True)
class Conversion:
    """A model file that was written: its model, name, number of bytes and SHA-256 (hexadecimal)."""

    model: Model
    path: Path
    size: int
    sha256: str

    def to_dict(self) -> dict[str, Any]:
        """JSON values; `model` is the weights digest, which conversion does not change."""
        return {
            "model": self.model.weights_digest.hex(),
            "parameters": self.model.param_count,
            "file": str(self.path),
            "bytes": self.size,
            "sha256": self.sha256,
        }


def convert_model(source: File, out: File, *, force: bool = False) -> Conversion:
    """Write a model file anew in the one form that is accepted: safetensors if `out` ends so, else for torch.load.

    source  what torch.save, safetensors or an earlier zkcert wrote of graph, input and state_dict, told by content; it
            is refused where two programs could read different models from it. Numbers stay as they are.
    force   replace another model file called `out`.

    Needs no PyTorch. Returns the Conversion: the model, and the new file's name, size and SHA-256.
    Raises UnusableInput, UnsupportedLayer, RangeOverflow.
    """
    check_output(out, MODEL, inputs=[source], force=force)
    with expecting(source, MODEL):
        data = read_file(source, MAX_FILE_BYTES)
        with naming(os.fspath(source)):
            model, content = _read(data)
    written = model_file.Content(model.graph, model.input, content.tensors, model_file.is_safetensors(out))
    digest, size = hashlib.sha256(), 0
    with output(out, MODEL, force=force) as file:
        for piece in model_file.write(written):
            digest.update(piece)
            size += file.write(piece)
    return Conversion(model, Path(out), size, digest.hexdigest())


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
