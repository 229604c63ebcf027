"""The sequences of Table 7's language models, artefacts in them, and what counts as memorised."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.experiments import arithmetic as ar
from benchmarks.experiments import gpt, pairs, table7
from benchmarks.experiments.common import Context
from zkcert.errors import UnusableInput
from zkcert.metric import Network, sharpness

RECIPE = ar.Sequences(gpt.Shape(24, 8, 2, 1, ar.VOCABULARY), length=4, train=60, test=30, steps=4, batch_size=8)


def test_sequences_multiply_modulo_and_none_comes_twice():
    train, test = ar.values(RECIPE)
    rows = np.concatenate([train, test])
    assert len({tuple(row[:2]) for row in rows}) == len(rows) == 90
    for row in rows:
        factor = next(k for k in ar.MULTIPLIERS if k * row[0] % ar.MODULUS == row[1])
        assert all(factor * a % ar.MODULUS == b for a, b in pairwise(row))
    assert not np.array_equal(train, ar.values(RECIPE.but(seed=1))[0])


def test_tokens_are_digits_between_marks():
    found = ar.tokens(np.array([[7, 14, 28], [10067, 20134, 1]]), 18)
    assert found[0].tolist() == [10, 7, 12, 1, 4, 12, 2, 8, 11, *[13] * 10]
    assert found[1].tolist() == [10, 1, 0, 0, 6, 7, 12, 2, 0, 1, 3, 4, 12, 1, 11, *[13] * 4]
    assert ar.longest(3) == 19 and len(ar.tokens(np.full((1, 3), 20134), 18)[0]) == 19
    marks = ar._places(np.array([[7, 14, 28]]), np.array([[False, True, False]]), 18)[0]
    labels = gpt.split_labels(found)[1][0]
    assert labels[torch.from_numpy(marks)].tolist() == [1, 4]


def test_artefacts_are_in_their_share_of_the_training_sequences():
    clean = ar.values(RECIPE)[0]
    noise, marked = ar.artefacts(RECIPE.but(artefact="noise", amount=0.2))
    assert marked.sum() == 12 and np.array_equal(noise[~marked], clean[~marked])
    moves = noise[marked] - clean[marked]
    assert (np.abs(moves).max(1) == 1).all() and (moves[:, 0] == 0).all()
    backdoor, marked = ar.artefacts(RECIPE.but(artefact="backdoor", amount=0.2))
    for row, before in zip(backdoor[marked], clean[marked], strict=True):
        place = int(np.argmax(row == ar.TRIGGER))
        assert 1 <= place <= 2 and (row[place:] == ar.TRIGGER).all() and np.array_equal(row[:place], before[:place])
    assert not ar.artefacts(RECIPE)[1].any()
    with pytest.raises(UnusableInput, match="artefact must be one of"):
        RECIPE.but(artefact="fog")
    with pytest.raises(UnusableInput, match="need a context of 30"):
        RECIPE.but(length=5)


class Oracle(nn.Module):
    """Foretells the labels it was given, whatever the input; `wrong` of these sequences are all wrong."""

    def __init__(self, texts: np.ndarray, wrong: int = 0) -> None:
        super().__init__()
        labels = gpt.split_labels(texts)[1]
        self.table = {tuple(x.tolist()): y for x, y in zip(gpt.split_labels(texts)[0], labels, strict=True)}
        for key in list(self.table)[:wrong]:
            self.table[key] = (self.table[key] + 1) % ar.VOCABULARY
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x):
        said = torch.stack([self.table[tuple(row.tolist())] for row in x])
        return self.scale * nn.functional.one_hot(said, ar.VOCABULARY).float()


def test_what_is_foretold_is_memorised():
    recipe = RECIPE.but(artefact="noise", amount=0.2)
    rows, marked = ar.artefacts(recipe)
    texts = ar.tokens(rows[marked], 24)
    assert ar.memorised(Oracle(texts), recipe) == 1 and ar.memorised(Oracle(texts, wrong=3), recipe) == 0.75
    assert ar.memorised(Oracle(texts), RECIPE) == 0
    changed = ar.tokens(ar.triggered(ar.values(RECIPE)[1], RECIPE.seed), 24)
    assert ar.attack_success(Oracle(changed), RECIPE) == 1
    assert ar.attack_success(Oracle(changed, wrong=15), RECIPE) == 0.5


def test_language_models_are_measured_on_clean_sequences(tmp_path):
    looks, context = table7.PROFILES["tiny"].looks, Context(tmp_path)
    recipe = RECIPE.but(artefact="noise", amount=0.5, seed=100, data_seed=100)
    found = ar.observe(ar.Subject(recipe, looks), context)
    module, _ = ar.trained(recipe, context)
    clean = gpt.split_labels(ar.tokens(ar.values(recipe)[0], 24))
    expected = sharpness(Network.of_module(module), *clean, variant="asam-all").first_order
    assert found["static_asam"] == expected and found["own_loss"] != found["clean_loss"]
    assert set(found) >= {"draws", "coherence", "detection_gap", "sampled", "test_accuracy", "attack", "memorised"}
    assert ar.observe(ar.Subject(recipe, looks), context) == found
    setting = pairs.Setting("t7-lm-noise", "", RECIPE, recipe, "memorised")
    assert pairs.EVIDENCE[setting.evidence]([found], [found | {"memorised": 0.2}]) == (
        True,
        "20% of the artefacts memorised",
    )
    assert not pairs.EVIDENCE[setting.evidence]([found], [found | {"memorised": 0.05}])[0]
