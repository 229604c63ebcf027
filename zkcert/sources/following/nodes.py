"""Nodes of the graph, parameters of the model, and in which arrangement a tensor has the entries of an output."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from circuits.layers import LAYERS
from zkcert.public.graph import output_shape
from zkcert.sources.following.entries import Seen, Source, array, equal, refuse


class Nodes:
    """The graph and the params so far, of a module; notes of what was changed."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.graph: list[dict[str, Any]] = []
        self.params: dict[str, np.ndarray] = {}
        self.notes: list[str] = []
        self._seen: dict[int, tuple[Tensor, Seen]] = {}
        self._used: dict[str, list[tuple[Tensor, str]]] = {}
        self._owners: dict[str, dict[str, Any]] = {}  # by parameter: the node that has it first
        self._path: list[str] = []
        self._computed: dict[int, Tensor] = {}  # of parameters alone
        self._folded: dict[str, Tensor] = {}

    @property
    def here(self) -> str:
        """The module that makes the call at hand."""
        return self._path[-1] if self._path else ""

    def note(self, t: Tensor, seen: Seen) -> None:
        self._seen[id(t)] = t, seen  # which keeps the tensor, and so its id

    def seen(self, t: Any) -> Seen | None:
        """What is known of a tensor."""
        found = self._seen.get(id(t)) if isinstance(t, Tensor) else None
        return found[1] if found and found[0] is t else None

    def compute(self, made: Iterable[Any]) -> None:
        """Note tensors that are computed of parameters alone."""
        self._computed |= {id(t): t for t in made if isinstance(t, Tensor)}

    def is_computed(self, t: Any) -> bool:
        return isinstance(t, Tensor) and self._computed.get(id(t)) is t

    def parameter(self, t: Any) -> Seen | None:
        """What is known of a tensor that a layer takes for its parameter; one that is computed becomes one."""
        if not self.is_computed(t):
            return self.seen(t)
        name = f"{self.here}.computed".strip(".")
        name = next(n for i in range(len(self._folded) + 1) if (n := f"{name}_{i}" if i else name) not in self._folded)
        self._folded[name] = t
        self.notes.append(f"{name}: what the module computes of its parameters is a parameter of the model")
        seen = Seen(Source("parameter", name, tuple(t.shape)), torch.arange(t.numel()).reshape(t.shape))
        self.note(t, seen)
        del self._computed[id(t)]
        return seen

    def picked(self, source: Source, channels: list[int]) -> Source:
        """An output of these channels of a source."""
        if channels == list(range(source.shape[0])):
            return source
        if (options := pick_of(channels)) is None:
            if len(set(channels)) < len(channels):
                refuse("heads share keys or values (grouped-query attention), which has no circuit: give each its own")
            refuse("channels in another order have no circuit: keep those of a head together")
        return self.emit({"op": "channels", **options}, [source], "channels")

    def with_rows_in_order(self, source: Source, channels: Sequence[int]) -> Source:
        """The output of a projection whose weight has these rows first, in this order, for good."""
        node = next((n for n in self.graph if n["name"] == source.name), {"op": ""})
        if node["op"] not in ("conv2d", "linear") or node.get("groups", 1) != 1:
            refuse(
                "channels in another order have a circuit if they are what a linear layer gives: keep those of a head "
                "together"
            )
        if source.reordered or any(source.name in n["inputs"] for n in self.graph):
            refuse(f"the channels of {source.name} are read in several orders: give each reader a layer of its own")
        chosen = set(channels)
        order = np.array([*channels, *(c for c in range(source.shape[0]) if c not in chosen)])
        names = [name for name in (node["weight"], node["bias"]) if name is not None]
        for name in names:
            self.params[name] = self.params[name][order]
            for of, used in self._used.items():
                self._used[of] = [(index[order] if own == name else index, own) for index, own in used]
        source.reordered = True
        self.notes.append(
            f"{' and '.join(names)}: rows in another order than the module's, all queries first, then keys and values"
        )
        return Source("node", source.name, source.shape)

    def in_line(self, source: Source) -> Source:
        return source if source.shape[1] == 1 else self.emit({"op": "line"}, [source], "line")

    def emit(self, node: dict[str, Any], inputs: Sequence[Source], wanted: str, path: str | None = None) -> Source:
        """A new node of the graph, called as a parameter's owner or, in the module at `path`, as wanted; and where its
        output is."""
        if any(source.reordered for source in inputs):
            refuse(
                f"it reads what attention reads in another order: {', '.join(s.name for s in inputs if s.reordered)}"
            )
        spec, known = LAYERS[node["op"]].spec, {n["name"] for n in self.graph}
        path = self.here if path is None else path
        stem = wanted.removesuffix("weight").rstrip("._") or wanted
        if wanted not in self.params:
            stem = f"{path}.{wanted}".strip(".")
        elif stem in known and path:
            stem = path  # which has another's parameter
        name, i = stem, 1
        while name in known:
            i += 1
            name = f"{stem}_{i}"
        given = {k: v for k, v in node.items() if k not in spec.options or v != spec.options[k][1]}
        full = {**given, "name": name, "inputs": [source.name for source in inputs]}
        for key in spec.arrays(fixed=False):
            owner = self._owners.setdefault(full[key], full) if full[key] else full
            tied = owner["op"] == "embedding" and node["op"] in ("conv2d", "unembedding") and key == "weight"
            if owner is not full and not tied:
                refuse(
                    f"shares {full[key]} with layer {owner['name']}; tied weights have a circuit as the table of an "
                    "embedding and the last layer only: give each a copy"
                )
        shape = output_shape(full, [list(source.shape) for source in inputs], self.params)
        self.graph.append(full)
        return Source("node", name, tuple(shape))

    def weight(self, source: Source, index: Tensor) -> str:
        """The name of the tensor of these entries of a parameter, which is kept for the model."""
        used = self._used.setdefault(source.name, [])
        flat = index.reshape(-1)
        if flat.unique().numel() != flat.numel():
            refuse(f"{source.name} is one number for several channels, which has no circuit: give each its own")
        for earlier, name in used:
            if equal(earlier.reshape(-1), flat) and earlier.squeeze().shape == index.squeeze().shape:
                return name
            if np.intersect1d(earlier.numpy(), flat.numpy()).size:
                refuse(f"parts of {source.name} are used several times: give each a copy")
        name = source.name if not used else f"{source.name}.{len(used) + 1}"
        folded = self._folded.get(source.name)
        values = (self.module.get_parameter(source.name) if folded is None else folded).detach().reshape(-1)
        self.params[name] = array(values[index])
        used.append((index, name))
        return name


def pick_of(channels: Sequence[int]) -> dict[str, int] | None:
    """The options of a node that picks these channels in this order, if there is one."""
    count, first = len(channels), min(channels)
    for groups in (1, *(g for g in range(2, count) if count % g == 0)):
        if list(channels) == [first + j % groups * (count // groups) + j // groups for j in range(count)]:
            return {"first": first, "count": count, **({"groups": groups} if groups > 1 else {})}
    return None
