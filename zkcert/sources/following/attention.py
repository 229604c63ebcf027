"""Attention: products of queries and keys, what of them counts, shares, and products with values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from zkcert.sources.following.entries import BATCH, Expression, Heads, Scores, Seen, Source, equal, places, refuse
from zkcert.sources.following.layers import Layers
from zkcert.sources.following.nodes import pick_of

MASKED = -1e4
"""What is added to a score at least so far below 0 leaves nothing of its share."""


class Attending(Layers):
    """By the operations of PyTorch that are called: on_NAME(arguments)."""

    attends = False
    """Whether there are products of two outputs, as of queries and keys."""

    def called(self, name: str, func: Any, args: Any, kwargs: Any) -> Any:
        """Likewise, of scores too."""
        tensors = [t for t in args if isinstance(t, Tensor)]
        read = [s for t in tensors if (s := self.seen(t))]
        pairs = next((s for s in read if s.source.pairs), None)
        if pairs is None:
            return super().called(name, func, args, kwargs)
        numbers = [t for t in tensors if self.seen(t) is None and t.numel() > 1]
        if name == "add" and len(read) == 1 and numbers:
            return self.masked(pairs, numbers[0].expand(pairs.index.shape) < MASKED, numbers[0])
        if numbers or any(s.source is not pairs.source for s in read):
            refuse(
                "scores that are added to or multiplied by pair of positions have no circuit: only a causal mask has, "
                "by masked_fill with -inf"
            )
        return super().called(name, func, args, kwargs)

    def on_baddbmm(self, added: Tensor, one: Tensor, other: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Any:
        scores = self.on_bmm(one, other)
        if (beta, alpha) != (1, 1) or scores.source.kind != "scores" or self.seen(added):
            refuse("a product of outputs, with something added, has no circuit: attention with a causal mask has")
        return self.masked(scores, added.expand(scores.index.shape) < MASKED, added)

    def on_bmm(self, one: Tensor, other: Tensor) -> Seen:
        first, second = self.seen(one), self.seen(other)
        if first is None or second is None:
            refuse("a product of an output and fixed numbers has no circuit")
        self.attends |= "parameter" not in (first.source.kind, second.source.kind)
        if second.source.kind == "parameter" and (second.index == second.index[:1]).all():
            flat = replace(first, index=first.index.reshape(-1, first.index.shape[-1]))
            found = self.affine(flat, replace(second, index=second.index[0]), None)
            return replace(found, index=found.index.reshape(*first.index.shape[:-1], -1))
        if first.source.kind == second.source.kind == "node":
            return self.scored(first, second)
        if first.source.kind == "shares" and second.source.kind == "node":
            return self.attended(first, second)
        refuse("a product of outputs has no circuit: attention of positions to each other has")

    def _heads(self, seen: Seen) -> Heads:
        """Of [batch * heads, positions, channels]."""
        index = seen.index
        if seen.source.positions == 1:
            refuse("attention of a single position to itself gives its value: leave it out")
        b, c, p = places(seen.source, index)
        heads = len(index) // BATCH
        wanted = torch.arange(len(index))[:, None, None] // heads
        positions = torch.arange(index.shape[1])[None, :, None]
        if index.shape[1] != seen.source.positions or (b != wanted).any() or (p != positions).any():
            refuse("attention has a circuit from all positions of a sequence to all of them")
        if (c != c[:, :1]).any() or not equal(c[:heads], c[heads:]):
            refuse("attention with other channels at other positions has no circuit")
        return Heads(seen.source, c[:heads, 0])

    def scored(self, queries: Seen, keys: Seen) -> Seen:
        """Scores of queries [batch * heads, positions, channels] and keys, turned."""
        (queries, one), (keys, other) = self._apart(queries), self._apart(keys)
        q, k = self._heads(queries), self._heads(replace(keys, index=keys.index.mT))
        if q.channels.shape != k.channels.shape or q.source.positions != k.source.positions:
            refuse("attention to another sequence has no circuit")
        length = q.source.positions
        shape = (len(q.channels), length, length)
        index = torch.arange(BATCH * math.prod(shape)).reshape(-1, length, length)
        return Seen(Source("scores", "", shape, Scores(q, k, one * other)), index)

    def _apart(self, seen: Seen) -> tuple[Seen, float]:
        """Entries, or a function of them, and by what that was multiplied last."""
        e, factor = seen.expression, factor_of(seen.expression)
        if factor is not None:
            return seen, factor
        if e.called in ("mul", "div") and len(e.arguments) == 2 and isinstance(e.arguments[1], int | float):
            inner, own = self._apart(replace(seen, expression=e.arguments[0]))
            return inner, own * e.arguments[1] if e.called == "mul" else own / e.arguments[1]
        return self.resolve(seen), 1.0

    def _factor(self, seen: Seen) -> float:
        """By what scores were multiplied."""
        factor = factor_of(seen.expression)
        if factor is None:
            refuse("scores are changed otherwise than by a factor, which has no circuit")
        return factor

    def masked(self, seen: Seen, forbidden: Tensor, numbers: Tensor | None = None) -> Seen:
        """Scores of which some count for nothing."""
        pairs = self._pairs(seen)
        if numbers is not None and not ((numbers == 0) | (numbers < MASKED)).all():
            refuse("numbers that are added to scores have no circuit: only a causal mask has")
        scale = pairs.scale * self._factor(seen)
        heads, length = seen.source.shape[:2]
        wide = forbidden.expand(seen.index.shape).reshape(BATCH * heads, length, length)
        causal = torch.ones(length, length, dtype=torch.bool).triu(1)
        if wide.any() and not (wide == causal).all():
            refuse("this mask has no circuit: attention is to all positions, or to those up to one's own (causal)")
        made = Scores(pairs.queries, pairs.keys, scale, pairs.causal or bool(wide.any()))
        return Seen(Source("scores", "", seen.source.shape, made), seen.index, problems=seen.problems)

    def _pairs(self, seen: Seen) -> Scores:
        if seen.source.kind != "scores" or seen.source.pairs is None:
            refuse("this has a circuit for the scores of attention only")
        if not equal(seen.index.reshape(-1), torch.arange(seen.index.numel())):
            refuse("scores that were moved have no circuit")
        return seen.source.pairs

    def on_masked_fill(self, x: Tensor, mask: Tensor, value: Any) -> Seen:
        seen = self.seen(x)
        number = float(value)
        if seen is None or self.seen(mask) or not number < MASKED:
            refuse("masked_fill has a circuit for a causal mask of scores, with -inf")
        return self.masked(seen, mask)

    def on_where(self, mask: Tensor, x: Any, otherwise: Any) -> Seen:
        seen, forbidden = self.seen(x), ~mask.bool()
        if seen is None:
            seen, otherwise, forbidden = self.seen(otherwise), x, ~forbidden
        if seen is None or self.seen(mask) or self.seen(otherwise) or not (torch.as_tensor(otherwise) < MASKED).all():
            refuse("where has a circuit for a causal mask of scores, with -inf")
        return self.masked(seen, forbidden)

    def shares(self, x: Tensor, dim: int) -> Seen:
        seen = self.seen(x)
        if seen is None or seen.source.kind != "scores" or dim % x.dim() != x.dim() - 1:
            refuse("a softmax of something else than the scores of attention has no circuit: return the logits")
        pairs = self._pairs(seen)
        made = replace(pairs, scale=pairs.scale * self._factor(seen))
        return Seen(Source("shares", "", seen.source.shape, made), seen.index)

    def attended(self, shares: Seen, values: Seen) -> Seen:
        """What attention gives, [batch * heads, positions, channels]."""
        pairs = shares.source.pairs
        if shares.expression.function is not None or pairs is None:
            refuse("a function of the shares of attention has no circuit")
        if not equal(shares.index.reshape(-1), torch.arange(shares.index.numel())):
            refuse("shares that were moved have no circuit")
        resolved = self.resolve(values)
        v, (heads, count) = self._heads(resolved), pairs.queries.channels.shape
        if v.channels.shape != (heads, count) or v.source.positions != pairs.queries.source.positions:
            refuse("values of another number of heads, channels or positions than the queries have no circuit")
        if not math.isclose(pairs.scale * math.sqrt(count), 1, rel_tol=1e-6):
            by = pairs.scale * math.sqrt(count)
            refuse(
                f"scores are multiplied by {pairs.scale:.6g}: a circuit is for 1/sqrt({count}), what a head has: "
                f"multiply the weights of the queries by {by:.6g}, and take that"
            )
        read = self.together([pairs.queries, pairs.keys, v])
        made = self.emit({"op": "attention", "heads": heads, "causal": pairs.causal}, [self.in_line(read)], "attention")
        index = torch.arange(BATCH * math.prod(made.shape)).reshape(BATCH * heads, count, -1).mT
        return Seen(made, index)

    def together(self, parts: Sequence[Heads]) -> Source:
        """An output of the queries of all heads, then their keys, then their values."""
        parts = self.in_order(parts)
        if len({part.source for part in parts}) == 1 and pick_of(listed(parts)):
            return self.picked(parts[0].source, listed(parts))
        picked = [self.in_line(self.picked(part.source, listed([part]))) for part in parts]
        return self.emit({"op": "cat"}, picked, "cat")

    def in_order(self, parts: Sequence[Heads]) -> Sequence[Heads]:
        """The parts, which come from projections with their rows in order where no node picks their channels."""
        for source in dict.fromkeys(part.source for part in parts):
            mine = [part for part in parts if part.source is source]
            channels = listed(mine)
            picks = all(pick_of(listed([part])) for part in mine) or (len(mine) == len(parts) and pick_of(channels))
            if picks or len(set(channels)) < len(channels):
                continue
            ordered = self.with_rows_in_order(source, channels)
            places = iter(torch.arange(len(channels)).reshape(len(mine), *mine[0].channels.shape))
            parts = [replace(p, source=ordered, channels=next(places)) if p.source is source else p for p in parts]
        return parts


def listed(parts: Sequence[Heads]) -> list[int]:
    """Channels of an output, of all heads of a part before the next part."""
    return [c for part in parts for c in part.channels.reshape(-1).tolist()]


def factor_of(e: Expression) -> float | None:
    """By what an expression multiplies; None if it does something else."""
    at = torch.tensor([0.0, 1.0, -2.0, 0.3, -30.0], dtype=torch.float64)
    y = e.of(at)
    return float(y[1]) if torch.allclose(y, at * y[1], rtol=1e-12, atol=0) else None
