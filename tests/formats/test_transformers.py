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
        ({"tokens": 1}, "input tokens must be an integer from 2"),
        ({"tokens": 1024}, "at most 1023 tokens"),
        ({"shape": [2, 1, 6]}, "shape [1, 1, L]"),
        ({"pad": 0}, "exactly the fields"),
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


# ------------------------------------------------------------------------------------------ as other people write them

ORDERS = {
    "h 3 d": lambda z, h: z.unflatten(-1, (h, 3, -1)).permute(3, 0, 2, 1, 4),
    "h d 3": lambda z, h: z.unflatten(-1, (h, -1, 3)).permute(4, 0, 2, 1, 3),
    "d 3 h": lambda z, h: z.unflatten(-1, (-1, 3, h)).permute(3, 0, 4, 1, 2),
    "3 d h": lambda z, h: z.unflatten(-1, (3, -1, h)).permute(2, 0, 4, 1, 3),
    "3 h d": lambda z, h: z.unflatten(-1, (3, h, -1)).permute(2, 0, 3, 1, 4).flip(0),
}


class InOrder(nn.Module):
    """Heads whose queries, keys and values lie in some order; with a bias, or one added by hand."""

    def __init__(self, order: str, heads: int, bias: str) -> None:
        super().__init__()
        self.order, self.heads = ORDERS[order], heads
        self.e, self.qkv = nn.Embedding(7, 12), nn.Linear(12, 36, bias=bias == "own")
        self.more = nn.Parameter(torch.randn(36)) if bias == "added" else None
        self.h = nn.Linear(12, 7)

    def forward(self, x: Tensor) -> Tensor:
        x = self.e(x)
        z = self.qkv(x) if self.more is None else self.qkv(x) + self.more
        q, k, v = self.order(z, self.heads)
        return self.h(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2) + x)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("heads", "bias"), [(1, "own"), (3, "own"), (3, "none"), (3, "added"), (12, "own")])
def test_queries_keys_and_values_in_any_order(order, heads, bias):
    """Moved by a node where one can move them; otherwise the rows of the projection are, for good, and it is said."""
    module = spread(InOrder(order, heads, bias))
    model, problems, notes = examine(module, check_input(of_tokens(7, 6)))
    assert model is not None and not problems
    agree(module, model)
    moved = (order, heads) == ("h 3 d", 3)
    assert ops(model) == ["embedding", "conv2d", "attention", "add", "conv2d"] or not moved
    names = ["qkv.weight", {"own": "qkv.bias", "added": "more"}.get(bias)]
    wanted = f"{' and '.join(filter(None, names))}: rows in another order than the module's, all queries first, then "
    assert [note.startswith(wanted) for note in notes] == [True] * moved
    for name in filter(None, names):
        own = module.get_parameter(name).detach().double().numpy()
        found = model.params[name].reshape(own.shape)
        np.testing.assert_array_equal(np.sort(found, axis=0), np.sort(own, axis=0))
        assert (found == own).all() != moved


def test_keys_and_values_of_a_head_side_by_side():
    class Own(nn.Module):
        def __init__(self, change: nn.Module) -> None:
            super().__init__()
            self.e, self.q, self.kv = nn.Embedding(7, 8), nn.Linear(8, 8), nn.Linear(8, 20)
            self.h, self.change = nn.Linear(8, 7), change

        def forward(self, x: Tensor) -> Tensor:
            x = self.e(x)
            q, kv = (z.unflatten(-1, (2, -1)).transpose(1, 2) for z in (self.q(x), self.kv(x)[..., 2:18]))
            k, v = kv.chunk(2, -1)
            return self.h(F.scaled_dot_product_attention(self.change(q), k, v).transpose(1, 2).flatten(2))

    agree(module := spread(Own(nn.Tanh())), from_module(module, input=of_tokens(7, 6)))
    module = spread(Own(nn.Identity()))
    model = from_module(module, input=of_tokens(7, 6))
    agree(module, model)
    order = [*range(2, 6), *range(10, 14), *range(6, 10), *range(14, 18), 0, 1, 18, 19]
    np.testing.assert_array_equal(model.params["kv.bias"], module.kv.bias.detach().double().numpy()[order])


WRITTEN: dict[str, Any] = {
    "a masked where": lambda m, a: torch.where(m.mask, a, -math.inf),
    "a where of what is masked": lambda m, a: torch.where(~m.mask, torch.finfo(a.dtype).min, a),
    "an added mask": lambda m, a: a + torch.full((6, 6), -math.inf).triu(1),
    "a softmax in float32": lambda m, a: a.masked_fill(~m.mask, -1e9).float(),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_masks_as_people_write_them(name):
    class Own(GPT):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mask", torch.ones(6, 6).tril().bool())
            self.qkv = nn.Linear(8, 24, bias=False)

        def forward(self, index: Tensor) -> Tensor:
            x = self.wte(index) + self.wpe.weight[:6]
            q, k, v = self.qkv(x).view(len(x), 6, 3, 2, 4).permute(2, 0, 3, 1, 4)
            a = WRITTEN[name](self, torch.einsum("bhid,bhjd->bhij", q * 4**-0.25, k * 4**-0.25))
            return self.lm_head((a.softmax(-1).type_as(v) @ v).transpose(1, 2).flatten(2))

    module = spread(Own())
    model, problems, notes = examine(module, check_input(of_tokens(7, 6)))
    assert model is not None and not problems
    assert [node["causal"] for node in model.graph if node["op"] == "attention"] == [True]
    narrow = "float32" in name
    assert notes == ["what the module computes in float32, whatever it reads, the model has in float64"] * narrow
    x = torch.randint(0, 7, (5, 6), generator=torch.Generator().manual_seed(1))
    found = to_module(model)(x[:, None, None])[:, :, 0].mT
    with torch.no_grad():
        torch.testing.assert_close(found, module.double()(x), rtol=1e-8, atol=1e-6 if narrow else 1e-8)


LAYERS: dict[str, Any] = {
    "leaky": lambda: nn.Sequential(nn.Linear(8, 16), nn.LeakyReLU(0.2), nn.Linear(16, 8)),
    "silu": lambda: nn.Sequential(nn.Linear(8, 16), nn.SiLU(), nn.Linear(16, 8)),
    "prelu": lambda: nn.Sequential(nn.Linear(8, 16), nn.PReLU(), nn.Linear(16, 8)),
    "glu": lambda: nn.Sequential(nn.Linear(8, 16), nn.GLU()),
    "relu, norm behind": lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
    "gelu, norm first": lambda: nn.TransformerEncoderLayer(8, 2, 16, 0.1, "gelu", batch_first=True, norm_first=True),
    "no biases": lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, bias=False),
    "a norm without a bias": lambda: nn.Sequential(nn.LayerNorm(8, bias=False), nn.Linear(8, 8)),
    "decoder": lambda: Twice(nn.TransformerDecoderLayer(8, 2, 16, batch_first=True)),
    "both": lambda: Twice(nn.Transformer(8, 2, 1, 1, 16, batch_first=True)),
}


class Twice(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x, x)


@pytest.mark.parametrize("name", LAYERS)
def test_layers_of_sequences(name):
    module = spread(nn.Sequential(nn.Embedding(7, 8), LAYERS[name](), nn.Linear(8, 7)))
    agree(module, from_module(module, input=of_tokens(7, 6)))


class Patches(nn.Module):
    """Of images 2x4x6, taken in some way; without positions; a mean, or a head that reads all of them."""

    def __init__(self, take: Any, width: int = 8, every: int = 0) -> None:
        super().__init__()
        self.take, self.first = take, nn.Linear(width, 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.head, self.every = nn.Linear(8 * (every or 1), 3), every

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer(self.first(self.take(x)))
        return self.head(x.flatten(1) if self.every else x.mean(1))


TAKEN: dict[str, tuple[Any, ...]] = {
    "unfold": (lambda x: F.unfold(x, 2, stride=2).mT,),
    "unfold both axes": (
        lambda x: x.unfold(2, 2, 2).unfold(3, 2, 2).permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2),
    ),
    "reshape": (lambda x: x.reshape(len(x), 2, 2, 2, 3, 2).permute(0, 2, 4, 3, 5, 1).reshape(len(x), 6, 8),),
    "rows": (lambda x: x.transpose(1, 2).flatten(2), 12),
    "columns": (lambda x: x.permute(0, 3, 1, 2).flatten(2), 8, 6),
    "pixels": (lambda x: x.flatten(2).mT, 2, 24),
}


@pytest.mark.parametrize("name", TAKEN)
def test_patches_as_people_take_them(name):
    module = spread(Patches(*TAKEN[name]))
    model, problems, notes = examine(module, check_input(IMAGES))
    assert model is not None and not problems
    agree(module, model)
    assert any("a linear layer of patches" in note for note in notes)
    own = module.first.weight.detach().double().numpy()
    np.testing.assert_array_equal(np.sort(model.params["first.weight"].reshape(own.shape)), np.sort(own))


def test_patches_that_overlap_are_refused():
    with pytest.raises(ZkcertError, match="mixes channels and positions"):
        from_module(spread(Patches(lambda x: F.unfold(x, 2, stride=(2, 1)).mT)), input=IMAGES)


@pytest.mark.parametrize(("shape", "says"), [([3, 1, 8], "[batch, C, L]"), ([1, 8, 3], "[batch, H, W]")])
def test_series(shape, says):
    """Samples of channels in one row, or of rows that are positions."""

    class Series(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv1d(3, 8, 3, padding=1) if shape[1] == 1 else nn.Linear(3, 8)
            self.layer, self.head = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)
            return self.head(self.layer(x.mT if shape[1] == 1 else x).mean(1))

    module = spread(Series())
    spec = {"shape": shape, "pad": 0, "mean": [0.5] * shape[0], "std": [0.25] * shape[0]}
    model, problems, notes = examine(module, check_input(spec))
    assert model is not None and not problems and says in notes[0]
    x = torch.randn(5, *shape, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(to_module(model)(x), module.double()(x.squeeze(1 + shape.index(1))))


# ------------------------------------------------------------------------------------------ refusals


class Words(nn.Module):
    """Parts of which tests make networks of tokens that have no circuit."""

    def __init__(self) -> None:
        super().__init__()
        self.e, self.p, self.h = nn.Embedding(7, 8), nn.Parameter(torch.randn(1, 6, 8)), nn.Linear(8, 7)
        self.qkv, self.n = nn.Linear(8, 24), nn.LayerNorm(8)
        self.mha, self.rms = nn.MultiheadAttention(8, 2, batch_first=True), nn.RMSNorm(8)
        self.bias, self.gate = nn.Parameter(torch.randn(2, 6, 6)), nn.Parameter(torch.randn(1))
        self.h2, self.short = nn.Linear(8, 16), nn.Embedding(7, 8, max_norm=1)
        self.conv, self.table = nn.Conv1d(8, 8, 3), nn.Parameter(torch.randn(8, 8))
        self.register_buffer("waves", torch.randn(1, 6, 8))

    def attend(self, x: Tensor, change: Any) -> Tensor:
        q, k, v = (t.view(len(x), 6, 2, 4).transpose(1, 2) for t in self.qkv(x).chunk(3, -1))
        return (change(q @ k.mT / 2).softmax(-1) @ v).transpose(1, 2).flatten(2)

    def attend_in_turn(self, z: Tensor) -> Tensor:
        """Queries, keys and values of a head side by side."""
        q, k, v = z.view(len(z), 6, 2, 3, 4).transpose(1, 2).unbind(3)
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)

    def attend_together(self, x: Tensor) -> Tensor:
        """Both heads read the same keys and values."""
        q, k, v = self.h2(x).view(len(x), 6, 4, 4).transpose(1, 2).split([2, 1, 1], 1)
        return F.scaled_dot_product_attention(q, k.expand_as(q), v.expand_as(q)).transpose(1, 2).flatten(2)


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
    "a bare LayerNorm": (lambda m, x: m.h(F.layer_norm(m.e(x), (8,))), "alone, with a weight"),
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
    "heads of a function": (
        lambda m, x: m.h(m.attend_in_turn(F.relu(m.qkv(m.e(x))))),
        "what a linear layer gives",
    ),
    "heads, and then more of what they read": (
        lambda m, x: m.h(m.attend_in_turn(z := m.qkv(m.e(x))) + z[..., :8]),
        "reads what attention reads in another order: qkv",
    ),
    "heads, and more of what they read before": (
        lambda m, x: m.h(m.n(F.relu(z := m.qkv(m.e(x)))[..., :8]) + m.attend_in_turn(z)),
        "the channels of qkv are read in several orders",
    ),
    "keys of two heads": (lambda m, x: m.h(m.attend_together(m.e(x))), "heads share keys or values"),
    "one factor": (lambda m, x: m.h(m.n(y := m.e(x)) * m.gate + y), "gate is one number for several channels"),
    "one bias": (lambda m, x: m.h((m.e(x) @ m.table) + m.gate), "gate is one number for several channels"),
    "weights that change": (lambda m, x: m.h(m.short(x)), "short: an embedding with max_norm changes its weights"),
    "the largest": (lambda m, x: m.h((y := m.e(x)) + y.max(1, keepdim=True).values), "take one position, or the mean"),
    "a function by name": (lambda m, x: m.h(F.mish(m.e(x))), "mish has no circuit: use relu, gelu"),
    "before the sequence": (lambda m, x: m.h(m.conv(F.pad(m.e(x).mT, (2, 0))).mT), "pad in the convolution"),
    "a class token behind": (lambda m, x: m.h(torch.cat([m.e(x), m.p[:, :1].expand(len(x), 1, 8)], 1)), "token before"),
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


def test_recurrent_layers_are_named():
    class Recurrent(Words):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(8, 8, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.h(self.lstm(self.e(x))[0])

    with pytest.raises(ZkcertError, match="layer lstm: LSTM: recurrent layers have no circuit"):
        from_module(Recurrent().eval(), input=of_tokens(7, 6))


@pytest.mark.parametrize(
    ("tokens", "says"),
    [(6, r"the last layer must output \[6, 1, 6\], not \[7, 1, 6\]"), (8, "a row for each of 8 tokens")],
)
def test_another_number_of_tokens_is_named(tokens, says):
    with pytest.raises(ZkcertError, match=says):
        from_module(spread(GPT()), input=of_tokens(tokens, 6))


def test_a_window_of_one_token_is_refused():
    with pytest.raises(ZkcertError, match="the window has one token"):
        from_module(spread(GPT(length=1)), input=of_tokens(7, 1))


def test_what_pytorch_computes_otherwise_in_evaluation_mode_is_refused():
    """Its fast path has the exact GELU for each nn.GELU, whatever its form."""
    module = spread(ViT(activation=nn.GELU("tanh")))
    with pytest.raises(ZkcertError, match="fast path"):
        from_module(module, input=IMAGES)
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        agree(module, from_module(module, input=IMAGES))
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


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
