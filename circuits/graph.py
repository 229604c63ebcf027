"""What a model graph connects: which nodes read which, and which need a gradient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from zkcert.graph import SAMPLES

Node = Mapping[str, Any]


class Connections:
    """inputs[i]: the nodes that node i reads, -1 for the samples; readers[i]: the nodes that read node i, with
    repetitions; reaches[i]: whether node i or one before it on some way to it has weights."""

    def __init__(self, graph: Sequence[Node]) -> None:
        place = {SAMPLES: -1}
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
            self.reaches.append(bool(node.get("weight")) or any(self.reached(j) for j in self.inputs[i]))

    def reached(self, i: int) -> bool:
        """Whether the gradient at the output of node i is needed; never at the samples."""
        return i >= 0 and self.reaches[i]

    def rectified(self, graph: Sequence[Node], i: int) -> tuple[int, tuple[int, ...]] | None:
        """(relu, others) if nothing but one ReLU reads node i plus the earlier nodes `others`; else None."""
        others: tuple[int, ...] = ()
        for _ in range(2):
            if len(self.readers[i]) != 1:
                return None
            (reader,) = self.readers[i]
            if graph[reader]["op"] == "relu":
                return reader, others
            if graph[reader]["op"] != "add" or others:
                return None
            others = tuple(j for j in self.inputs[reader] if j != i)
            if any(j > i for j in others):
                return None
            i = reader
        return None
