"""Conversion of transformers: what converts computes the same, what does not says why in a line."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.attending import GPT, ViT, spread
from zkcert.convert import examine, from_module, to_module
from zkcert.errors import UnusableInput, ZkcertError
from zkcert.public.graph import check_input
from zkcert.public.model import Model

IMAGES = {"shape": [2, 4, 6], "pad": 0, "mean": [0.5, 0.5], "std": [0.25, 0.25]}


def of_tokens(tokens: int, length: int) -> dict[str, Any]:
    return {"shape": [1, 1, length], "tokens": tokens}


def agree(module: nn.Module, model: Model, seed: int = 3) -> None:
    """Both compute the same, on other samples than those that conversion looked at."""
    generator = torch.Generator().manual_seed(seed)
    own = module.double().eval()
    if "tokens" in model.input:
        x = torch.randint(0, model.input["tokens"], (5, model.input["shape"][2]), generator=generator)
        found = to_module(model)(x[:, None, None])[:, :, 0].mT
    else:
        x = torch.randn(5, *model.input_shape, generator=generator, dtype=torch.float64)
        found = to_module(model)(x)
    with torch.no_grad():
        expected = own(x)
        expected = getattr(expected, "logits", expected)
    assert expected.shape == found.shape
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)


def ops(model: Model) -> list[str]:
    return [node["op"] for node in model.graph]


@pytest.mark.parametrize("kind", ["manual", "sdpa", "full", "apart"])
@pytest.mark.parametrize("tied", [True, False])
def test_gpts_as_people_write_them(kind, tied):
    module = spread(GPT(kind=kind, tied=tied, layers=2, block=9))
    model = from_module(module, input=of_tokens(7, 6))
    agree(module, model)
    assert ops(model)[:2] == ["embedding", "positions"]
    attention = [node for node in model.graph if node["op"] == "attention"]
    assert [(node["heads"], node["causal"]) for node in attention] == [(2, kind in ("manual", "sdpa"))] * 2
    assert model.graph[-1]["weight"] == ("wte.weight" if tied else "lm_head.weight")
    assert model.params["wpe.weight"].shape == (8, 1, 6)
    unused = 3 * 8  # of the positions behind the window
    assert model.param_count == sum(p.numel() for p in module.parameters()) - unused


@pytest.mark.parametrize("token", [True, False])
@pytest.mark.parametrize("options", [{}, {"norm_first": False}, {"batch_first": False}, {"activation": "gelu"}])
def test_vision_transformers_with_pytorch_s_encoder(token, options):
    class Turned(ViT):
        def forward(self, x: Tensor) -> Tensor:
            x = self.patches(x).flatten(2).permute(2, 0, 1)
            return self.head(self.encoder(x + self.positions.transpose(0, 1)).mean(dim=0))

    module = spread(Turned(token=False, **options) if "batch_first" in options else ViT(token=token, **options))
    model = from_module(module, input=IMAGES)
    agree(module, model)
    assert ("prepend" in ops(model)) == ("take" in ops(model)) == (module.cls is not None)
    assert "line" in ops(model)
    assert model.param_count == sum(p.numel() for p in module.parameters())


@settings(max_examples=15, deadline=None)
@given(
    tokens=st.integers(2, 9),
    length=st.integers(2, 7),
    heads=st.integers(1, 3),
    own=st.integers(1, 3),
    layers=st.integers(1, 2),
    kind=st.sampled_from(["manual", "sdpa", "apart"]),
    seed=st.integers(0, 99),
)
def test_of_any_size(tokens, length, heads, own, layers, kind, seed):
    if heads * own < 2:
        return
    module = spread(GPT(tokens, length, heads * own, heads, layers, kind), seed)
    agree(module, from_module(module, input=of_tokens(tokens, length)), seed)


def test_a_model_file_keeps_the_tied_weight_once(tmp_path):
    model = from_module(spread(GPT()), input=of_tokens(7, 6))
    for name in ("model.pt", "model.safetensors"):
        model.save(tmp_path / name)
        again = Model.load(tmp_path / name)
        assert (again.graph, again.input, list(again.params)) == (model.graph, model.input, list(model.params))
        assert again.weights_digest == model.weights_digest
    assert model.classes == 7 and model.shapes[-1] == [7, 1, 6]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"tokens": 1}, "input tokens must be 1 integers from 2"),
        ({"tokens": 1024}, "at most 1023 tokens"),
        ({"shape": [2, 1, 6]}, "shape [1, 1, L]"),
        ({"pad": 0}, "exactly the keys"),
        ({"shape": [1, 1]}, "input shape"),
    ],
)
def test_inputs_of_tokens_are_checked(change, says):
    with pytest.raises(UnusableInput, match=says.replace("[", r"\[")):
        check_input({**of_tokens(7, 6), **change})


def test_tied_weights_have_one_form():
    """Twice in the graph is for an embedding and the convolution behind it alone."""
    model = from_module(spread(GPT()), input=of_tokens(7, 6))
    graph = [dict(node) for node in model.graph]
    other = next(node for node in graph if node["op"] == "groupnorm" and node["weight"] != "ln_f.weight")
    other["weight"] = "ln_f.weight"
    params = {k: v for k, v in model.params.items() if any(k in node.values() for node in graph)}
    with pytest.raises(UnusableInput, match=r"tensor ln_f.weight is used twice"):
        Model(graph, model.input, params)


# ------------------------------------------------------------------------------------------ refusals


class Words(nn.Module):
    """Parts of which tests make networks of tokens that have no circuit."""

    def __init__(self) -> None:
        super().__init__()
        self.e, self.p, self.h = nn.Embedding(7, 8), nn.Parameter(torch.randn(1, 6, 8)), nn.Linear(8, 7)
        self.qkv, self.n = nn.Linear(8, 24), nn.LayerNorm(8)
        self.mha, self.rms = nn.MultiheadAttention(8, 2, batch_first=True), nn.RMSNorm(8)
        self.bias = nn.Parameter(torch.randn(2, 6, 6))
        self.register_buffer("waves", torch.randn(1, 6, 8))

    def attend(self, x: Tensor, change: Any) -> Tensor:
        q, k, v = (t.view(len(x), 6, 2, 4).transpose(1, 2) for t in self.qkv(x).chunk(3, -1))
        return (change(q @ k.mT / 2).softmax(-1) @ v).transpose(1, 2).flatten(2)

    def attend_in_turn(self, x: Tensor) -> Tensor:
        """Queries, keys and values of a head side by side."""
        q, k, v = self.qkv(x).view(len(x), 6, 2, 3, 4).transpose(1, 2).unbind(3)
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def outside(length: int) -> Tensor:
    return torch.ones(length, length).triu(1) + torch.ones(length, length).tril(-3) > 0


REFUSED = {
    "fixed positions": (lambda m, x: m.h(m.e(x) + m.waves), "fixed numbers"),
    "a scaled embedding": (lambda m, x: m.h(m.e(x) * math.sqrt(8)), "multiplied by a number"),
    "relative positions": (lambda m, x: m.h(m.attend(m.e(x), lambda a: a + m.bias)), "only a causal mask has"),
    "linear biases": (lambda m, x: m.h(m.attend(m.e(x), lambda a: a - torch.arange(6.0))), "only a causal mask has"),
    "a window": (lambda m, x: m.h(m.attend(m.e(x), lambda a: a.masked_fill(outside(6), -math.inf))), "this mask"),
    "another scale": (
        lambda m, x: m.h(m.attend(m.e(x), lambda a: a * 2)),
        r"scores are multiplied by 1: .*1/sqrt\(4\)",
    ),
    "a mask of tokens": (lambda m, x: m.h(m.mha(*[m.e(x)] * 3, key_padding_mask=x == 0)[0]), "of the tokens"),
    "RMSNorm": (lambda m, x: m.h(m.rms(m.e(x))), "RMSNorm"),
    "a bare LayerNorm": (lambda m, x: m.h(F.layer_norm(m.e(x), (8,))), "with weight and bias"),
    "probabilities": (lambda m, x: m.h(m.e(x)).softmax(-1), "return the logits"),
    "log probabilities": (lambda m, x: m.h(m.e(x)).log_softmax(-1), "return the logits"),
    "a decision": (lambda m, x: m.h(m.e(x)) if m.e(x).sum() > 0 else m.h(m.n(m.e(x))), "decides by values"),
    "a tuple": (lambda m, x: (m.h(m.e(x)), None), "returns a tuple"),
    "the last position": (lambda m, x: m.h(m.e(x))[:, -1], "for each position"),
    "turned positions": (lambda m, x: m.h(m.e(x)).flip(1), "another order"),
    "another sequence": (lambda m, x: m.h(m.mha((y := m.e(x)), y[:, :3], y[:, :3])[0]), "a slice of some positions"),
    "channels of positions": (lambda m, x: m.h((m.e(x) + m.p).flatten(1).view(len(x), 8, 6).mT), "mixes channels"),
    "dropout": (lambda m, x: m.h(F.dropout(m.e(x), 0.1)), "if dropout is on"),
    "a square": (lambda m, x: m.h(F.relu(m.e(x)) ** 2), "a square"),
    "another function": (lambda m, x: m.h((y := m.e(x)) * torch.sigmoid(1.702 * y)), "the function that ends in"),
    "a batch of two": (lambda m, x: m.h(m.e(x).view(2, 6, 8)), "batch of three"),
    "one sample for another": (lambda m, x: m.h(m.n(m.e(x).flip(0))), "another order"),
    "weights for two layers": (lambda m, x: m.h(m.n(m.n(m.e(x)))), "shares n.weight with layer n; tied weights"),
    "heads apart": (lambda m, x: m.h(m.attend_in_turn(m.e(x))), "keep those of a head together"),
    "nothing of the tokens": (lambda m, x: m.h(m.p.expand(len(x), -1, -1)), "does not follow from the samples"),
    "words of themselves": (lambda m, x: m.h(m.e((x + 1) % 7)), "of the tokens has no circuit"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_circuit_is_refused_in_a_line(name):
    call, says = REFUSED[name]
    own = type("Own", (Words,), {"forward": lambda self, x: call(self, x)})
    model, problems, _ = examine(own().eval(), check_input(of_tokens(7, 6)))
    assert model is None and problems
    texts = [str(problem.error) for problem in problems]
    assert all("\n" not in text and len(text) < 400 for text in texts)
    with pytest.raises(ZkcertError, match=says):
        from_module(own().eval(), input=of_tokens(7, 6))


def test_every_layer_that_has_no_circuit_is_named_with_its_line():
    class Two(Words):
        def forward(self, x: Tensor) -> Tensor:
            y = self.n(self.e(x)) + self.waves
            return self.h(self.rms(y))

    _, problems, _ = examine(Two().eval(), check_input(of_tokens(7, 6)))
    layers = [problem.layer for problem in problems]
    assert "rms" in layers and len(layers) >= 2
    assert all(problem.at.startswith("test_transformers.py:") for problem in problems)


def test_attention_that_does_not_convert_is_told_apart_from_other_calls():
    """The reasons are those of the attention, and not what torch.fx makes of reshapes."""

    class Gated(ViT):
        def forward(self, x: Tensor) -> Tensor:
            x = self.patches(x).flatten(2).transpose(1, 2)
            scores = (x @ x.mT / math.sqrt(8)).softmax(-1)
            return self.head((scores**2 @ x).mean(dim=1))

    with pytest.raises(ZkcertError, match="a function of the shares of attention has no circuit"):
        from_module(Gated(token=False).eval(), input=IMAGES)


# ------------------------------------------------------------------------------------------ other packages


def test_gpt2_of_transformers():
    transformers = pytest.importorskip("transformers")
    for attention in ("sdpa", "eager"):
        config = transformers.GPT2Config(
            vocab_size=9, n_positions=8, n_embd=8, n_layer=2, n_head=2, attn_implementation=attention
        )
        module = transformers.GPT2LMHeadModel(config).eval()
        model = from_module(module, input=of_tokens(9, 5))
        agree(module, model)
        weight = module.transformer.h[0].attn.c_attn.weight.detach().double().numpy()
        found = model.params["transformer.h.0.attn.c_attn.weight"]
        np.testing.assert_array_equal(found[:, :, 0, 0], weight.T)
        assert [node["function"] for node in model.graph if node["op"] == "function"] == ["gelu_tanh"] * 2
        assert module.config.use_cache


def test_vit_of_timm():
    timm = pytest.importorskip("timm")
    for options in ({}, {"class_token": False, "global_pool": "avg"}, {"init_values": 0.1}):
        module = timm.models.vision_transformer.VisionTransformer(
            img_size=8, patch_size=4, embed_dim=12, depth=1, num_heads=3, num_classes=5, **options
        )
        spec = {"shape": [3, 8, 8], "pad": 0, "mean": [0.5] * 3, "std": [0.5] * 3}
        module = spread(module)
        agree(module, from_module(module, input=spec))
