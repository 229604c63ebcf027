"""Random small networks of sequences: of tokens, or of patches of images."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from tests.builders import VARIANTS, Case, Graph


def random_sequence(seed: int, **options: Any) -> Case:
    """One or two embeddings, or a convolution; up to four of what sequences go through; logits by a table, which may be
    that of the embedding, by a convolution, or of one position. Options as for `build`."""
    rng = np.random.default_rng([seed, 26])
    pick = lambda *values: values[int(rng.integers(len(values)))]  # noqa: E731
    length, tokens, of_tokens = int(rng.integers(1, 5)), int(rng.integers(2, 6)), bool(rng.random() < 0.7)
    if of_tokens:
        g = Graph(rng, [1, 1, length]).embedding(tokens, pick(1, 2, 6))
        if rng.random() < 0.2:
            first, channels = g.last, g.shape[0]
            g.branch("@input").embedding(tokens, channels).add(first)
    else:
        g = Graph(rng, [1, 2, 3]).conv(pick(2, 3), (1, 2), pad=(0, pick(0, 1))).moved("line")
    for _ in range(int(rng.integers(1, 5))):
        _extend(g, rng, pick, of_tokens)
    chosen = {"steps": pick(2, 3), "batch": pick(1, 2, 3), "variant": pick(*VARIANTS), "rho": Fraction(1, 1000)}
    chosen |= {"divisor": pick(37, 400, 3 << 20, (1 << 22) - 1, 1 << 22), "seed": seed}
    if of_tokens:
        chosen["label_bytes"] = pick(1, 1, 2)
        tables = [g.params[node["weight"]] for node in g.nodes if node["op"] == "embedding"]
        tied = len(tables) == 1 and tables[0].shape[1] == g.shape[0]
        if tied and rng.random() < 0.7:
            g.unembedding()
        elif rng.random() < 0.5:
            g._own("unembedding", (tokens, g.shape[0]))
        else:
            g.conv(tokens, (1, 1))
    else:
        chosen["kind"] = pick("u8", "q32")
        if rng.random() < 0.5:
            g._own("unembedding", (3, g.shape[0])).relu()
        g = g.moved("take", position=int(rng.integers(g.shape[2]))).flatten().linear(3)
    return g.case(**{**chosen, **options})


def _extend(g: Graph, rng: np.random.Generator, pick: Any, of_tokens: bool) -> None:
    """One layer more, or a block with a shortcut."""
    what = pick("positions", "attention", "attention", "block", "join", "norm", "point", "prepend", "relu")
    stem, channels = g.last, g.shape[0]
    if what == "positions":
        g.positions()
    elif what == "attention":
        heads, own = pick((1, 1), (2, 1), (1, 3))
        g.conv(3 * heads * own, (1, 1), bias=bool(rng.random() < 0.7)).attention(heads, bool(rng.random() < 0.5))
    elif what == "block":
        g.conv(3 * channels, (1, 1)).attention(1, bool(rng.random() < 0.5)).conv(channels, (1, 1)).add(stem)
    elif what == "join":
        g.cat(stem, stem).attention(pick(1, channels), True)
        if rng.random() < 0.5:
            g.cat(stem).channels(0, 2 * channels, 2).moved("line")
    elif what == "norm":
        g.conv(2, (1, 1)).group_norm(1, each=True, bias=bool(rng.random() < 0.7))
    elif what == "point":
        g.conv(pick(2, 4), (1, 1), groups=pick(1, 1, 2) if channels % 2 == 0 else 1)
    elif what == "prepend" and not of_tokens:
        g.prepend()
    elif what == "relu":
        g.relu()
