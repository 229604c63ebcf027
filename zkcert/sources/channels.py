"""Channels that a traced module picks or reorders by hand: what torch.fx shows of slices, chunks and shuffles."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

import torch
from torch import fx

_PIECES = {torch.chunk, torch.split, torch.functional.split, "chunk", "split"}
_SHAPES = {torch.reshape, "view", "reshape"}
_TURNS = {torch.transpose, "transpose"}
_ALL = slice(None)


class Moved:
    """Which traced nodes give channels of others. `of` wants every node that calls something, in order."""

    def __init__(self) -> None:
        self._pieces: dict[fx.Node, tuple[fx.Node, list[int]]] = {}  # source, and the channels of each piece
        self._groups: dict[fx.Node, tuple[fx.Node, int, bool]] = {}  # source, groups, whether they are turned

    def of(self, node: fx.Node) -> tuple[fx.Node, dict[str, Any]] | bool:
        """The node whose channels it picks, and the fields of what does; True for one that only leads to such a node;
        False for any other."""
        read = node.args[0] if node.args and isinstance(node.args[0], fx.Node) else None
        shape = read.meta.get("shape", []) if read is not None else []
        if read in self._pieces and node.target is operator.getitem:
            source, counts = self._pieces[read]
            at = node.args[1]
            if not isinstance(at, int):
                return False
            at %= len(counts)
            return source, {"first": sum(counts[:at]), "count": counts[at]}
        if read in self._groups:
            return self._grouped(node, *self._groups[read])
        if node.target in _PIECES and "pieces" in node.meta and len(shape) in (2, 4):
            pieces = node.meta["pieces"]
            if all([*piece[:1], *piece[2:]] == [*shape[:1], *shape[2:]] for piece in pieces):
                assert read is not None
                self._pieces[node] = read, [piece[1] for piece in pieces]
                return True
        if node.target is operator.getitem and len(shape) in (2, 4):
            return self._sliced(node, read, shape)
        if node.target in _SHAPES and len(shape) == 4 and len(node.meta.get("shape", ())) == 5:
            batch, groups, own, *image = node.meta["shape"]
            if [batch, groups * own, *image] == shape:
                assert read is not None
                self._groups[node] = read, groups, False
                return True
        return False

    def _grouped(
        self, node: fx.Node, source: fx.Node, groups: int, turned: bool
    ) -> tuple[fx.Node, dict[str, Any]] | bool:
        """Of a node that reads channels in groups."""
        if node.target in _TURNS and list(node.args[1:]) in ([1, 2], [2, 1]):
            self._groups[node] = source, groups, not turned
            return True
        if node.target == "contiguous":
            self._groups[node] = source, groups, turned
            return True
        if node.target in _SHAPES and turned and node.meta.get("shape") == source.meta["shape"]:
            return source, {"first": 0, "count": source.meta["shape"][1], "groups": groups}
        return False

    def _sliced(self, node: fx.Node, read: Any, shape: list[int]) -> tuple[fx.Node, dict[str, Any]] | bool:
        """Of a slice of channels, such as x[:, :k]."""
        index = node.args[1]
        if not isinstance(index, tuple) or len(index) < 2 or any(part != _ALL for part in (index[0], *index[2:])):
            return False
        part = fx.node.map_arg(index[1], lambda n: n.meta.get("number", n))
        if not isinstance(part, slice) or part.step not in (None, 1):
            return False
        first, stop, _ = part.indices(shape[1])
        return (read, {"first": first, "count": stop - first}) if stop > first else False


def pieces(result: Any) -> Mapping[str, Any]:
    """What a node's meta says of a result that is a tuple of tensors: their shapes."""
    if isinstance(result, tuple | list) and result and all(isinstance(part, torch.Tensor) for part in result):
        return {"pieces": [list(part.shape) for part in result]}
    return {}
