"""The weights of a checkpoint, for a module that somebody else makes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from zkcert.errors import UnusableInput
from zkcert.files.extras import needs_extras
from zkcert.files.limits import memory_for
from zkcert.public.reading import File, opened

MAX_BYTES = 1 << 38
_WORK = 1 << 30  # bytes that reading may take beside four times the file's size
_INSIDE = ("state_dict", "model_state_dict", "model")
_PREFIXES = ("module.", "_orig_mod.")


def load_weights(module: nn.Module, path: File) -> list[str]:
    """Put the weights of a checkpoint (torch.save of a state_dict, perhaps inside "state_dict", "model_state_dict" or
    "model"; or .safetensors) into a module, under the names that DataParallel, torch.compile or Lightning gave them.

    Every tensor must find its place and every place its tensor. Returns notes of what was taken off. Raises
    UnusableInput.
    """
    name = os.fspath(path)
    state, notes = _state(name, _read(name))
    wanted = set(module.state_dict())
    for prefix in _PREFIXES * 2:
        if state and all(key.startswith(prefix) for key in state) and not wanted & set(state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
            notes.append(f"{name}: the prefix {prefix} is taken off all names")
    if not wanted & set(state):
        state, found = _inside(state, wanted)
        notes += [f"{name}: the prefix {prefix} is taken off all names" for prefix in found]
    for key in list(state):  # of torch.compile on a part
        if "_orig_mod." in key and key not in wanted and (new := key.replace("_orig_mod.", "")) in wanted:
            state[new] = state.pop(key)
    missing, more = sorted(wanted - set(state)), sorted(set(state) - wanted)
    counters = {key for key in missing if key.endswith("num_batches_tracked")}
    if set(missing) - counters or more:
        what = [f"it lacks {_listed(missing)}"] if missing else []
        what += [f"has {_listed(more)} beside"] if more else []
        raise UnusableInput(f"{name}: is of another module: {' and '.join(what)}")
    own = module.state_dict()
    for key, value in state.items():
        if value.shape != own[key].shape:
            raise UnusableInput(
                f"{name}: {key} has the shape {list(value.shape)}, in the module it has {list(own[key].shape)}"
            )
    module.load_state_dict(state, strict=not counters)
    return notes


def _read(name: str) -> Any:
    with opened(name, MAX_BYTES) as (file, size):
        head = file.read(9)
        file.seek(0)
        try:
            with memory_for(_WORK + 4 * size):
                if head[8:9] == b"{":
                    with needs_extras("reading .safetensors", "dev"):
                        from safetensors.torch import load

                    return load(file.read())
                return torch.load(file, map_location="cpu", weights_only=True)
        except UnusableInput:
            raise
        except MemoryError as error:
            raise UnusableInput(f"{name}: claims to hold far more than its {size} bytes") from error
        except Exception as error:
            text = " ".join(str(error).split())
            if "weights_only" in text or "Unsupported" in text or "WeightsUnpickler" in text:
                raise UnusableInput(
                    f"{name}: holds more than tensors and plain values, which is not unpickled, as that runs code: "
                    "save the state_dict alone, as torch.save(module.state_dict(), FILE)"
                ) from error
            raise UnusableInput(
                f"{name}: no sound checkpoint: write it as torch.save(module.state_dict(), FILE)"
            ) from error


def _state(name: str, content: Any) -> tuple[dict[str, Tensor], list[str]]:
    """The state_dict in a checkpoint."""
    notes: list[str] = []
    if isinstance(content, Mapping) and not _is_state(content):
        inside = [key for key in _INSIDE if isinstance(content.get(key), Mapping) and _is_state(content[key])]
        if len(inside) > 1:
            raise UnusableInput(f"{name}: holds {' and '.join(inside)}: save the one that is meant alone")
        if inside:
            notes = [f"{name}: the weights are those under {inside[0]!r}"]
            content = content[inside[0]]
    if not isinstance(content, Mapping) or not _is_state(content):
        raise UnusableInput(f"{name}: holds no state_dict: write torch.save(module.state_dict(), FILE)")
    return dict(content), notes


def _is_state(content: Mapping[Any, Any]) -> bool:
    return bool(content) and all(type(k) is str and isinstance(v, Tensor) for k, v in content.items())


def _inside(state: dict[str, Tensor], wanted: set[str]) -> tuple[dict[str, Tensor], list[str]]:
    """Without the name that a LightningModule gives the module, if all names begin with one that fits."""
    key = next(iter(sorted(wanted)), "")
    fitting = {name.removesuffix(key) for name in state if name.endswith(f".{key}")}
    for prefix in sorted(fitting):
        if all(name.startswith(prefix) for name in state):
            return {name.removeprefix(prefix): value for name, value in state.items()}, [prefix]
    return state, []


def _listed(names: list[str]) -> str:
    return ", ".join(ascii(name)[1:-1][:60] for name in names[:3]) + (
        f" ({len(names)} in all)" if len(names) > 3 else ""
    )
