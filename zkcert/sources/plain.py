"""A module without its packaging, that computes the same in evaluation mode."""

from __future__ import annotations

import copy
from typing import Any, cast

from torch import Tensor, nn
from torch.nn.utils import parametrize, prune
from torch.nn.utils.spectral_norm import SpectralNorm, remove_spectral_norm
from torch.nn.utils.weight_norm import WeightNorm, remove_weight_norm

_WRAPPERS = {"DataParallel": "module", "DistributedDataParallel": "module", "OptimizedModule": "_orig_mod"}
"""What has a module inside, which it calls: of PyTorch, by name; where it keeps it."""


def unwrapped(module: nn.Module) -> tuple[nn.Module, list[str]]:
    """The module inside DataParallel and torch.compile, and what was taken off."""
    notes = []
    while (place := _WRAPPERS.get(type(module).__name__)) and type(module).__module__.startswith("torch."):
        notes.append(f"{type(module).__name__} taken off")
        module = getattr(module, place)
    return module, notes


def plain(module: nn.Module) -> tuple[nn.Module, list[str]]:
    """A copy, on the CPU and in evaluation mode, whose weights are stored as they are used: weight-norm, spectral-norm,
    pruning and other parametrisations are computed once. With what was done, a note each."""
    module, notes = unwrapped(module)
    # what hooks computed at the last call cannot be copied otherwise
    computed = (v for m in module.modules() for v in vars(m).values() if isinstance(v, Tensor) and not v.is_leaf)
    module = copy.deepcopy(module, {id(value): value.detach().clone() for value in computed}).cpu().eval()
    for path, child in list(module.named_modules()):
        for name, inner in list(child.named_children()):
            taken, more = unwrapped(inner)
            if more:
                setattr(child, name, taken)
                notes += [f"{f'{path}.{name}'.strip('.')}: {text}" for text in more]
    for path, child in list(module.named_modules()):
        notes += [f"{path or 'the module'}: {text}" for text in _folded(child)]
    return module, notes


def _folded(m: nn.Module) -> list[str]:
    out = []
    if parametrize.is_parametrized(m):
        parametrizations: Any = m.parametrizations
        for name in list(parametrizations.keys()):
            kinds = ", ".join(type(p).__name__.strip("_") for p in parametrizations[name])
            parametrize.remove_parametrizations(m, name, leave_parametrized=True)
            out.append(f"{name} is stored as {kinds} computes it")
    for hook in list(m._forward_pre_hooks.values()):
        if isinstance(hook, prune.BasePruningMethod):
            name, remove = hook._tensor_name, cast(Any, prune.remove)
            remove(m, name)
            out.append(f"{name} is stored as it was pruned")
        elif isinstance(hook, WeightNorm | SpectralNorm):
            name = hook.name
            (remove_weight_norm if isinstance(hook, WeightNorm) else remove_spectral_norm)(m, name)
            out.append(f"{name} is stored as {type(hook).__name__} computes it")
    return out
