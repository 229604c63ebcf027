"""What a model is made of: a model file, or a module in memory, of a Python file, an exported program, an ONNX file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zkcert.api.files import File, load_model, needs_extras
from zkcert.errors import UnusableInput, ZkcertError
from zkcert.public.graph import check_input
from zkcert.public.kinds import read_head
from zkcert.public.model import Model, byte_units, in_byte_units

if TYPE_CHECKING:
    from torch import nn

_KEYS = ("shape", "pad", "mean", "std")


@dataclass(frozen=True)
class Obstacle:
    """Something that stands in the way of a certificate: why, with what to do; of which layers, called at which
    lines of which source files; and the error that says so alone."""

    why: str
    layers: tuple[str, ...] = ()
    at: tuple[str, ...] = ()
    error: ZkcertError | None = None

    def line(self) -> str:
        """For people."""
        layers = f"layer{'s' if len(self.layers) > 1 else ''} {_few(self.layers)}: " if self.layers else ""
        return f"{layers}{self.why}{f' ({_few(self.at)})' if self.at else ''}"

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {"why": self.why, "layers": list(self.layers), "at": list(self.at)}


def _few(names: tuple[str, ...]) -> str:
    return ", ".join(names[:6]) + (f", ... ({len(names)} in all)" if len(names) > 6 else "")


@dataclass(frozen=True)
class Source:
    """What was found: a model, or what stands in its way; notes of what was folded or taken off, and warnings."""

    name: str
    model: Model | None
    obstacles: tuple[Obstacle, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def refusal(self) -> ZkcertError:
        """Of the first obstacle, saying how many there are."""
        error = self.obstacles[0].error or UnusableInput(self.obstacles[0].why)
        others = len(self.obstacles) - 1
        more = f" (and {others} more obstacles, which zkcert check lists)" if others else ""
        error.args = (f"{self.name}: {error}{more}",)
        return error


def is_module(source: object) -> bool:
    """Whether a source in memory is neither a file's name nor a Model."""
    return not isinstance(source, str | os.PathLike | Model)


def is_foreign(source: File) -> bool:
    """Whether a file is the source of a module, rather than a model file."""
    name = os.fspath(source)
    return _is_factory(name) or name.lower().endswith((".pt2", ".onnx"))


def _is_factory(name: str) -> bool:
    file, _, called = name.rpartition(":")
    return name.endswith(".py") or (file.endswith(".py") and called.isidentifier())


def read_source(
    source: Any,
    *,
    input: Mapping[str, Any] | None = None,
    weights: File | None = None,
    sample_shape: tuple[int, ...] | None = None,
    tokens: int | None = None,
) -> Source:
    """The model that a source describes, or all that stands in its way.

    source        a model file (.pt, .safetensors), FILE.py:NAME, an exported program (.pt2), an ONNX file; or a
                  Model or nn.Module in memory.
    input         any of shape, pad, mean and std of `Model`'s input, or shape and tokens; mean and std may be one
                  number for all channels.
    weights       a checkpoint, for FILE.py:NAME and modules.
    sample_shape  what the shape is, if nobody says; tokens: how many there are, likewise, of windows of them.

    Raises UnusableInput where there is nothing to look at.
    """
    if isinstance(source, Model):
        return Source("a model in memory", source)
    if not is_module(source) and not is_foreign(source):
        if weights is not None or input:
            raise UnusableInput(
                f"{os.fspath(source)}: a model file has weights and input of its own: leave the options out"
            )
        return Source(os.fspath(source), load_model(source))
    with needs_extras("reading modules"):
        import torch  # noqa: F401

        from zkcert.convert import examine
    module, known, notes = _module(source)
    name = type(source).__name__ if is_module(source) else os.fspath(source)
    if weights is not None:
        from zkcert.sources.checkpoint import load_weights
        from zkcert.sources.plain import unwrapped

        module, more = unwrapped(module)
        notes += more + load_weights(module, weights)
    spec = _input({**(known or {}), **(input or {})}, sample_shape, tokens)
    model, problems, more = examine(module, spec)
    grouped: dict[str, Obstacle] = {}
    for problem in problems:
        old = grouped.get(problem.why, Obstacle(problem.why, error=problem.error))
        layers = (*old.layers, problem.layer) if problem.layer and problem.layer not in old.layers else old.layers
        at = (*old.at, problem.at) if problem.at and problem.at not in old.at else old.at
        grouped[problem.why] = Obstacle(problem.why, layers, at, old.error)
    warnings = (f"{byte_units(spec)} (unless samples are float32 in these units)",) if in_byte_units(spec) else ()
    return Source(name, model, tuple(grouped.values()), tuple(notes + more), warnings)


def _module(source: Any) -> tuple[nn.Module, Mapping[str, Any] | None, list[str]]:
    """The module, what is known of its input, and notes."""
    from torch import nn

    if is_module(source):
        if not isinstance(source, nn.Module):
            raise UnusableInput(f"expected a model file, an nn.Module or a Model, not {type(source).__name__}")
        return source, None, []
    name = os.fspath(source)
    if _is_factory(name):
        from zkcert.sources.python_file import made_by

        module, spec = made_by(name)
        return module, spec, []
    read_head(name, 1)  # what is no file is said in the usual words
    if name.lower().endswith(".pt2"):
        from zkcert.sources.exported import read_exported

        return read_exported(name)
    from zkcert.sources.onnx_file import read_onnx

    return read_onnx(name)


def _input(given: Mapping[str, Any], sample_shape: tuple[int, ...] | None, tokens: int | None = None) -> dict[str, Any]:
    """The whole input; UnusableInput, which says what is missing."""
    if given.get("tokens", tokens) is not None:
        shape = given.get("shape") or sample_shape
        if others := sorted(set(given) - {"shape", "tokens", "reads"}):
            raise UnusableInput(f"a model of tokens has no {others[0]}: its input is shape and tokens")
        if shape is None:
            raise UnusableInput("how many tokens a window has is not known: say it, as --shape 64")
        return check_input({"shape": list(shape), "tokens": given.get("tokens", tokens)})
    if unknown := set(given) - {*_KEYS, "reads"}:
        raise UnusableInput(f"input has the keys {', '.join(_KEYS)}, not {ascii(sorted(map(str, unknown))[0])[:40]}")
    spec = {key: value for key, value in given.items() if value is not None}
    if (reads := spec.pop("reads", None)) is not None and "shape" not in spec:
        pad = spec.get("pad", 0)
        spec["shape"] = [reads[0], *(n - 2 * (pad if type(pad) is int else 0) for n in reads[1:])]
    if "shape" not in spec and sample_shape is not None:
        spec["shape"] = list(sample_shape)
    if "shape" not in spec:
        raise UnusableInput(
            "the shape of the samples is not known: say it, as --shape 3x32x32 (channels first), or of windows of "
            "tokens --shape 64 --tokens 256"
        )
    if "mean" not in spec or "std" not in spec:
        row = list(spec["shape"])[:2] == [1, 1]
        raise UnusableInput(
            "how samples are normalised for the module is not known: say it, as --mean 0.49,0.48,0.45 --std "
            "0.25,0.24,0.26; --mean 0 --std 1 if bytes are divided by 255 and nothing else"
            + "; if it reads tokens, say how many there are, as --tokens 256"
            * row
        )
    shape = spec["shape"]
    channels = shape[0] if isinstance(shape, list | tuple) and shape and type(shape[0]) is int else 1
    for key in ("mean", "std"):
        value = spec[key]
        values = [value] if isinstance(value, int | float) else list(value)
        spec[key] = [float(v) for v in (values * channels if len(values) == 1 else values)]
    return check_input({"pad": 0, **spec, "shape": list(shape)})
