"""Windows of tokens: read as numpy would cut them, committed, shown, measured; odd files refused in a line."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tests.attending import GPT, spread
from zkcert import api
from zkcert.data import coding
from zkcert.data.committed import CommittedDataset, commit, schema_of
from zkcert.data.dataset import load_dataset
from zkcert.data.summary import TokenSummary
from zkcert.errors import UnusableInput
from zkcert.public.model import Model
from zkcert.public.root import DatasetRoot, Schema

TEXT = "to be, or not to be:\nthat is the question\n" * 3


def windows_of(stream, context: int, stride: int) -> list[list[int]]:
    return [list(stream[i : i + context + 1]) for i in range(0, len(stream) - context, stride)]


def rows(dataset) -> list[list[int]]:
    return np.hstack([dataset.x[:, 0, 0].astype(np.int64), dataset.y[:, None]]).tolist()


@settings(max_examples=60, deadline=None)
@given(
    tokens=arrays.arrays(
        st.sampled_from([np.uint8, np.uint16, np.int32, np.int64, ">u4"]),
        st.integers(3, 60),
        elements=st.integers(0, 255),
    ),
    context=st.integers(1, 9),
    stride=st.integers(1, 12) | st.none(),
)
def test_a_stream_is_cut_as_by_hand(tmp_path_factory, tokens, context, stride):
    np.save(path := tmp_path_factory.mktemp("stream") / "t.npy", tokens)
    wanted = windows_of(tokens.tolist(), context, stride or context)
    if not wanted:
        with pytest.raises(UnusableInput, match="make no window"):
            load_dataset(path, context=context, stride=stride)
        return
    for source in (path, str(path), tokens, torch.tensor(tokens.astype(np.int64))):
        found = load_dataset(source, context=context, stride=stride)
        assert rows(found) == wanted
        assert (found.kind, found.x.shape[1:], found.names) == ("tokens", (1, 1, context), ())
        assert found.classes == max(max(row) for row in wanted) + 1
        labels = found.labels(range(len(found)))
        assert labels.tolist() == [row[1:] for row in wanted]
    used = (len(wanted) - 1) * (stride or context) + context + 1
    assert any("make no window" in note for note in found.notes) == (used < len(tokens))


@settings(max_examples=40, deadline=None)
@given(
    tokens=arrays.arrays(np.int64, st.tuples(st.integers(1, 6), st.integers(2, 9)), elements=st.integers(0, 1000)),
    classes=st.integers(1001, 1023),
)
def test_rows_and_their_bytes(tokens, classes):
    found = load_dataset(tokens, context=tokens.shape[1] - 1)
    assert rows(found) == tokens.tolist()
    schema = schema_of(found, classes)
    encoded = coding.encode(schema, found.x, found.y)
    assert encoded.shape == (len(tokens), 2 * tokens.shape[1]) == (len(tokens), coding.sample_size(schema))
    assert (encoded.view("<u2") == tokens).all()
    assert (coding.images(schema, encoded) == found.x).all() and coding.images(schema, encoded).dtype == np.uint16
    assert (coding.labels(schema, encoded) == tokens[:, 1:]).all()
    small = Schema(256, "tokens", (1, 1, tokens.shape[1] - 1))
    assert coding.sample_size(small) == tokens.shape[1]


@settings(max_examples=40, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), min_size=4, max_size=80), context=st.integers(1, 3))
def test_texts_and_their_vocabularies(tmp_path_factory, text, context):
    (path := tmp_path_factory.mktemp("text") / "t.txt").write_bytes(text.encode())
    found = load_dataset(path, context=context, vocabulary="bytes")
    assert rows(found) == windows_of(text.encode(), context, context)
    assert (found.classes, found.names) == (256, ())
    characters = sorted(set(text))
    if len(characters) < 2:
        with pytest.raises(UnusableInput, match="one character only"):
            load_dataset(path, context=context, vocabulary="characters")
        return
    found = load_dataset(path, context=context, vocabulary="characters")
    assert rows(found) == windows_of([characters.index(c) for c in text], context, context)
    assert found.classes == len(found.names) == len(characters)
    decoded = [json.loads(f'"{name}"') if name.startswith("\\u") else name for name in found.names]
    assert decoded == characters or any(ord(c) > 0xFFFF for c in characters)
    assert load_dataset(path, context=context, vocabulary="characters", names=()).names == ()
    order = characters[::-1] + ["\U0001f600\u00e9"[0]] * ("\U0001f600" not in characters)
    (listed := path.parent / "v.json").write_text(json.dumps(order))
    found = load_dataset(path, context=context, vocabulary=str(listed))
    assert rows(found) == windows_of([order.index(c) for c in text], context, context)
    assert found.classes == len(order)


def test_commitment_and_file(tmp_path):
    (path := tmp_path / "t.txt").write_text(TEXT)
    root = commit(path_read := load_dataset(path, context=6, vocabulary="characters"), tmp_path / "d.zkd")
    schema = root.schema
    assert schema.to_dict() == {
        "classes": len(set(TEXT)),
        "kind": "tokens",
        "label_bytes": 1,
        "names": list(path_read.names),
        "shape": [1, 1, 6],
    }
    assert DatasetRoot.load(tmp_path / "d.root") == root
    assert schema.samples_text() == "windows of 6 tokens and the one behind"
    opened = CommittedDataset.open(tmp_path / "d.zkd")
    assert opened.root == root
    indices = range(opened.n)
    found = np.hstack([opened.images(indices)[:, 0, 0, :1].astype(np.int64), opened.labels(indices)])
    assert sorted(found.tolist()) == sorted(rows(path_read))
    look = api.look(path, context=6, vocabulary="characters")
    assert look.lines()[0].startswith(
        f"N       {opened.n} windows of 6 tokens and the one behind, {len(set(TEXT))} tokens:"
    )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"kind": "words"}, "the kind must be u8, q32 or tokens"),
        ({"shape": [1, 2, 6]}, r"the shape of tokens must be \[1, 1, L\]"),
        ({"label_bytes": 2}, "label byte"),
        ({"classes": 300}, "label byte"),
    ],
)
def test_schemas_are_checked(change, says):
    with pytest.raises(ValueError, match=says):
        Schema.from_dict({**Schema(7, "tokens", (1, 1, 6)).to_dict(), **change})


def test_what_is_shown_before_it_is_committed(tmp_path):
    x = np.array([[0, 1, 2], [0, 1, 2], [3, 3, 3], [5, 4, 0]])
    summary = TokenSummary.of(load_dataset(x, context=2).x, x[:, 2].copy())
    assert summary.counts == (1, 2, 2, 2, 1) and (summary.blank, summary.repeated) == (1, 1)
    texts = summary.warnings()
    assert any("repeat an earlier one" in text for text in texts) and any("one token only" in text for text in texts)
    assert summary.lines()[0] == "tokens  8 asked for, 5 different, 0 unused; windows: 1 of one token, 1 repeated"
    (path := tmp_path / "t.txt").write_text("a " * 40)
    look = api.look(path, context=8, vocabulary="characters")
    assert look.lines()[-1] == "often   '\\u0020': 36  'a': 36"


def test_vocabularies_that_no_model_has_are_warned_of():
    tokens = np.arange(2100).reshape(700, 3) % 1500
    summary = TokenSummary.of(load_dataset(tokens, context=2).x, tokens[:, 2].copy())
    says = "there are 1500 tokens, and a model of at most 1023 can be proved"
    assert says in summary.warnings() and says.replace("1500", "1024") in summary.warnings(1024)
    assert not any("can be proved" in text for text in summary.warnings(1023))
    with pytest.raises(UnusableInput, match="tokens up to 1499 do not fit 1000 of them"):
        schema_of(load_dataset(tokens, context=2), 1000)


def test_a_byte_order_mark_is_no_token(tmp_path):
    (path := tmp_path / "t.txt").write_bytes(TEXT.encode("utf-8-sig"))
    (plain := tmp_path / "p.txt").write_text(TEXT)
    found, wanted = (load_dataset(p, context=4, vocabulary="characters") for p in (path, plain))
    assert rows(found) == rows(wanted) and found.names == wanted.names
    assert set(found.notes) - set(wanted.notes) == {"the byte order mark at its beginning is left out"}
    path.write_bytes("".encode("utf-8-sig"))
    assert "holds no text" in refused(path, context=4, vocabulary="characters")


def refused(source, **options) -> str:
    with pytest.raises(UnusableInput) as caught:
        load_dataset(source, **options)
    text = str(caught.value)
    assert "\n" not in text and len(text) < 400
    return text


def test_odd_sources(tmp_path):
    def save(name, array):
        np.save(tmp_path / name, array)
        return tmp_path / name

    floats, wide = save("f.npy", np.zeros(9)), save("w.npy", np.arange(70000))
    assert "tokens are integers" in refused(floats, context=4)
    assert "tokens span -1 to 1" in refused(save("n.npy", np.array([-1, 0, 1] * 3)), context=4)
    assert "expected 0 to 65535" in refused(wide, context=4)
    assert "rows of 5 tokens are windows with a context of 4" in refused(save("r.npy", np.ones((3, 5), int)), context=5)
    assert "of shape (2, 3, 4)" in refused(save("c.npy", np.ones((2, 3, 4), int)), context=3)
    assert "holds no tokens" in refused(save("e.npy", np.zeros(0, int)), context=3)
    assert "3 tokens make no window of 4" in refused(save("s.npy", np.ones(3, int)), context=4)
    assert "need no vocabulary" in refused(wide, context=4, vocabulary="bytes")
    assert "of tokens say --context" in refused(wide)
    assert "say their length" in refused(wide, stride=4) and "say their length" in refused(wide, vocabulary="bytes")
    for bad in (0, -1, 1 << 17, 2.5, True):
        assert "must be an integer from 1" in refused(wide, context=bad)
    assert "without resize, label and values" in refused(wide, context=4, values="bytes")
    assert "is a directory" in refused(tmp_path, context=4)
    assert "one file" in refused([wide, floats], context=4)
    assert "but only 2 names" in refused(save("k.npy", np.arange(9)), context=4, names=["a", "b"])
    (other := tmp_path / "t.md").write_text(TEXT)
    assert "a .npy file of integers or a text (.txt)" in refused(other, context=4, vocabulary="bytes")
    (cut := tmp_path / "cut.npy").write_bytes(wide.read_bytes()[:-1])
    assert "its header says" in refused(cut, context=4)
    (objects := tmp_path / "o.npy").write_bytes(b"")
    np.save(objects, np.array([{}], object), allow_pickle=True)
    assert "Python objects" in refused(objects, context=4)


def test_odd_texts_and_vocabularies(tmp_path):
    def text(content, name="t.txt"):
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    good = text(TEXT.encode(), "good.txt")
    assert "a text needs a vocabulary" in refused(good, context=4)
    assert "holds no text" in refused(text(b""), context=4, vocabulary="characters")
    assert "no UTF-8 text (at byte 2)" in refused(text(b"ab\xff"), context=1, vocabulary="characters")
    many = "".join(map(chr, range(0x4E00, 0x4E00 + 1024)))
    assert "1024 different characters" in refused(text(many.encode()), context=4, vocabulary="characters")
    assert "leave --names out" in refused(good, context=4, vocabulary="characters", names=["a"])
    for content in (b"[]", b"{}", b"[1, 2]", b'["a", "a"]', b'["ab", "c"]', b'["\\ud800", "a"]', b"[" * 50000, b'"ab"'):
        assert "a vocabulary is characters" in refused(good, context=4, vocabulary=str(text(content, "v.json")))
    assert "No such file" in refused(good, context=4, vocabulary="letters")
    assert "characters that are not in the vocabulary: '\\n', ' '" in refused(
        good, context=4, vocabulary=str(text(b'["a", "b"]', "v.json"))
    )


def plain_probe(module, x, y, steps: int, batch: int, rho: float, lr: float) -> tuple[list[float], list[float]]:
    """Sharpness and loss of each step, in PyTorch's own words; the loss is the mean over all positions."""
    parameters = list(module.parameters())
    start = [p.detach().clone() for p in parameters]
    sharpness, losses = [], []

    def gradient(t):
        rows = slice(t * batch, (t + 1) * batch)
        loss = F.cross_entropy(module(x[rows]).reshape(-1, 7), y[rows].reshape(-1))
        return float(loss.detach()), torch.autograd.grad(loss, parameters)

    for t in range(steps):
        loss, g = gradient(t)
        scaled = [p.detach().abs() * d for p, d in zip(parameters, g, strict=True)]
        norm = math.sqrt(sum(float((s**2).sum()) for s in scaled))
        sharpness.append(rho * norm)
        losses.append(loss)
        kept = [p.detach().clone() for p in parameters]
        with torch.no_grad():
            for p, s in zip(parameters, scaled, strict=True):
                p += rho * p.abs() * s / norm
        _, g = gradient(t)
        with torch.no_grad():
            for p, old, d in zip(parameters, kept, g, strict=True):
                p.copy_(old - lr * d)
    with torch.no_grad():
        for p, old in zip(parameters, start, strict=True):
            p.copy_(old)
    return sharpness, losses


def test_measure_is_the_probe_of_the_module(tmp_path):
    """Tied weights count once; on the committed windows, and on those in memory."""
    tokens = np.random.default_rng(5).integers(0, 7, (40, 7))
    module = spread(GPT()).double()
    with torch.no_grad():
        for p in module.parameters():
            p.copy_((p * 2**20).round() / 2**20)
    api.convert_model(module, tmp_path / "model.pt", input={"shape": [1, 1, 6], "tokens": 7})
    np.save(tmp_path / "t.npy", tokens)
    api.commit(tmp_path / "t.npy", tmp_path / "d.zkd", context=6, classes=7, keep_order=True)
    probe = {"steps": 3, "batch_size": 4}
    for data in (tmp_path / "d.zkd", load_dataset(tokens, context=6)):
        found = api.measure(tmp_path / "model.pt", data, config=probe, seed="x")
        taken = torch.tensor(tokens[np.ravel(found.draws[0].indices)])
        sharpness, losses = plain_probe(module, taken[:, :-1], taken[:, 1:], 3, 4, 0.05, 1e-4)
        np.testing.assert_allclose(found.draws[0].sharpness, sharpness, rtol=1e-9)
        np.testing.assert_allclose(found.draws[0].loss, losses, rtol=1e-12)
        with torch.no_grad():
            right = module(taken[:, :-1]).argmax(-1) == taken[:, 1:]
        assert (found.fit.correct, found.fit.n, found.fit.what) == (int(right.sum()), 72, "positions")
        assert "positions" in found.fit.line()
        audit = api.audit(tmp_path / "model.pt", data, tau="100", config=probe, seed="x")
        assert audit.score == found.score


def test_models_and_data_that_do_not_fit(tmp_path):
    module = spread(GPT())
    api.convert_model(module, tmp_path / "model.pt", input={"shape": [1, 1, 6], "tokens": 7})
    tokens = np.random.default_rng(5).integers(0, 7, (40, 7))
    images = np.zeros((9, 1, 1, 6), np.uint8), np.arange(9) % 7

    def says(data, text):
        with pytest.raises(UnusableInput, match=text):
            api.measure(tmp_path / "model.pt", data, config={"steps": 2, "batch_size": 2})

    says(images, "the model reads windows of tokens, the data are samples, u8 1x1x6: say --context")
    says(load_dataset(tokens[:, :5], context=4), r"samples of shape \[1, 1, 6\], .* \[1, 1, 4\] \(say --context\)")
    says(load_dataset(tokens + 1, context=6), "tokens must be below 7|labels must be integers from 0 to 6")
    model = Model.load(tmp_path / "model.pt")
    data = DatasetRoot(bytes(32), 100, Schema(7, "tokens", (1, 1, 6)))
    from zkcert.public.config import ProbeConfig
    from zkcert.public.statement import require_fit

    config = ProbeConfig(steps=2, batch_size=2)
    require_fit(model, data, config)
    for schema, text in (
        (Schema(7, "u8", (1, 1, 6)), "the model reads windows of tokens"),
        (Schema(8, "tokens", (1, 1, 6)), "the model has 7 tokens, the dataset 8"),
        (Schema(7, "tokens", (1, 1, 5)), r"the dataset has \[1, 1, 5\] \(say --context\)"),
    ):
        with pytest.raises(UnusableInput, match=text):
            require_fit(model, replace(data, schema=schema), config)
