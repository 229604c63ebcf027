"""What a model graph connects: which nodes read which, and which need a gradient."""

from __future__ import annotations

from collections.abc import Sequence

from .layers import LAYERS
from .layers.spec import LayerSpec, Node

SAMPLES = "@input"  # what "inputs" call the samples; no name of a node
MAX_TERMS = 4  # of a sum of branches, or of gradients, that every reader adds up itself


class Connections:
    """inputs[i]: the nodes that node i reads, -1 for the samples; readers[i]: the nodes that read node i, with
    repetitions; reaches[i]: whether node i or one before it on some way to it has weights.

    sums, gradient_sums: the nodes whose output, or the gradient at it, is a sum of so many terms (more than `most`)
    that it is a tensor of its own, or is one because of joined channels. Reading k branches then costs k once, and not
    for each of its readers.
    """

    def __init__(self, graph: Sequence[Node], most: int = MAX_TERMS) -> None:
        place = {SAMPLES: -1}
        self.specs: list[LayerSpec] = [LAYERS[node["op"]].spec for node in graph]
        self.inputs: list[tuple[int, ...]] = []
        self.readers: list[list[int]] = [[] for _ in graph]
        self.reaches: list[bool] = []
        for i, node in enumerate(graph):
            names = node.get("inputs")
            self.inputs.append((i - 1,) if names is None else tuple(place[name] for name in names))
            place[node["name"]] = i
            for j in self.inputs[i]:
                if j >= 0:
                    self.readers[j].append(i)
            self.reaches.append(self.specs[i].trained or any(self.reached(j) for j in self.inputs[i]))
        self.sums, self.gradient_sums = self._sums(most), self._gradient_sums(most)

    def _sums(self, most: int) -> frozenset[int]:
        """An add and a cat have as many terms as what they read, any other node one; a flatten passes them on. Joined
        channels are a tensor where an add or a layer with parameters reads them."""
        terms, joined, sums = {-1: 1}, {-1: False}, []
        for i, spec in enumerate(self.specs):
            terms[i] = sum(terms[j] for j in self.inputs[i]) if spec.transparent else 1
            joined[i] = spec.moves or (spec.transparent and any(joined[j] for j in self.inputs[i]))
            readers = [self.specs[j] for j in self.readers[i]]
            long = terms[i] > most and [reader.rectifies for reader in readers] != [True]
            if long or (joined[i] and any(reader.adds or reader.trained for reader in readers)):
                sums.append(i)
                terms[i], joined[i] = 1, False
        return frozenset(sums)

    def _gradient_sums(self, most: int) -> frozenset[int]:
        """The gradient at an output has a term for each reader, and for an add, a cat or a flatten those of its own. Of
        channels that a cat joined it is a tensor at a layer with parameters, or that splits channels."""
        terms, joined, sums = [1] * len(self.specs), [False] * len(self.specs), []
        for i in reversed(range(len(self.specs) - 1)):
            terms[i] = sum(terms[j] if self.specs[j].transparent else 1 for j in self.readers[i])
            joined[i] = any(self.specs[j].moves or (self.specs[j].transparent and joined[j]) for j in self.readers[i])
            whole = self.specs[i].trained or self.specs[i].splits
            if self.reaches[i] and (terms[i] > most or (joined[i] and whole)):
                sums.append(i)
                terms[i], joined[i] = 1, False
        return frozenset(sums)

    def reached(self, i: int) -> bool:
        """Whether the gradient at the output of node i is needed; never at the samples."""
        return i >= 0 and self.reaches[i]

    def rectified(self, i: int) -> tuple[int, tuple[int, ...]] | None:
        """(relu, others) if nothing but one ReLU reads node i plus the earlier nodes `others`; else None."""
        others: tuple[int, ...] = ()
        while True:  # at most twice: an add has other summands
            if len(self.readers[i]) != 1:
                return None
            (reader,) = self.readers[i]
            if self.specs[reader].rectifies:
                return reader, others
            if not self.specs[reader].adds or others:
                return None
            others = tuple(j for j in self.inputs[reader] if j != i)
            if any(j > i for j in others):
                return None
            i = reader
