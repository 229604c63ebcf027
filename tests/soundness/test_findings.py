"""What adversarial readers of the specification and the code found, one test each, so that it stays mended."""

from __future__ import annotations

import io
import itertools
import json
import struct
import zipfile
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from circuits.argument import batching, identities
from circuits.argument.batching import weight_at
from circuits.compile import Certificate
from circuits.language.constraints import Circuit, expr, product
from circuits.language.forms import View
from circuits.language.sources import Axis, Sum, Table
from circuits.language.tensors import radix, unsigned
from circuits.net import Net
from circuits.windows import Windows
from tests.builders import Graph, tiny_mlp
from tests.toys import certified
from verifier.__main__ import main as verify_main
from verifier.files import verify_files
from verifier.verify import Expectations, verify_proof, warnings
from zkcert.api.files import load_root
from zkcert.core import field as ff
from zkcert.core.code import SPARE_TAIL, pad_code
from zkcert.core.container import ProofFile
from zkcert.core.padcode import query_points
from zkcert.core.transcript import Transcript
from zkcert.errors import MalformedProof, ProofRejected, RangeOverflow, UnusableInput
from zkcert.files.saving import save_announcement
from zkcert.foreign import model_file as other_model_file
from zkcert.public.config import ProbeConfig
from zkcert.public.kinds import kind_of
from zkcert.public.model import Model, input_affine
from zkcert.public.statement import Statement, load_announcement


def rank(m: np.ndarray) -> int:
    """Rank of (2, rows, columns) over F."""
    rows = [ff.f_list(np.ascontiguousarray(m[:, i])) for i in range(m.shape[1])]
    done = 0
    for c in range(m.shape[2]):
        pivot = next((i for i in range(done, len(rows)) if rows[i][c]), None)
        if pivot is None:
            continue
        rows[done], rows[pivot] = rows[pivot], rows[done]
        inverse = rows[done][c].inv()
        for i in range(done + 1, len(rows)):
            if rows[i][c]:
                k = rows[i][c] * inverse
                rows[i] = [x - k * y for x, y in zip(rows[i], rows[done], strict=True)]
        done += 1
    return done


def test_an_unqueried_pad_column_keeps_entropy_given_all_pads_and_the_queried_columns() -> None:
    code = pad_code(100, 20)
    block, tails = 1 << code.block_bits, (1 << code.block_bits) - code.message
    assert tails == code.queries + SPARE_TAIL
    queries = Transcript("rank").distinct_indices("q", code.queries + SPARE_TAIL, code.log_n)
    unit = np.zeros((2, tails, block), np.uint64)
    unit[0, np.arange(tails), code.message + np.arange(tails)] = 1
    coefficients = ff.f_ifft(unit)
    points = ff.f_powers(ff.f_array(query_points(code, queries)), block)
    m = np.stack([ff.f_matvec(points, np.ascontiguousarray(coefficients[:, i])) for i in range(tails)], axis=2)
    assert rank(m) == code.queries + SPARE_TAIL


def test_a_revealed_variance_beyond_its_limbs_is_refused_rather_than_reduced() -> None:
    case = tiny_mlp()
    for wrong in (-1, 1 << 110, 1 << 130):
        with pytest.raises(UnusableInput, match="revealed variance"):
            Certificate(case.plan).close(Fraction(3), wrong)


def test_a_proof_under_another_revealed_variance_with_the_same_digits_is_rejected() -> None:
    proved = certified(reveal_score=True)
    parts = ProofFile.parse(proved.proved.data)
    statement = Statement.parse_header(parts.header)
    assert statement.variance is not None
    forged = replace(statement, variance=statement.variance + (1 << 110))
    data = ProofFile(forged.header(), parts.hashes, parts.multiproof, parts.argument).to_bytes()
    with pytest.raises(ProofRejected):
        verify_proof(data, proved.model, Expectations(statement.tau))


def test_windows_over_huge_padded_inputs_are_refused_before_their_tables_are_built() -> None:
    with pytest.raises(UnusableInput, match="tables of all windows have more than 4194304 entries"):
        Net(2, 1).windows((1, 801, 801), (800, 800), {"stride": (1, 1), "padding": (0, 0)})


def test_a_circuit_that_cannot_close_is_unusable_input_and_not_a_crash() -> None:
    case = tiny_mlp()
    with pytest.raises(UnusableInput):
        Certificate(replace(case.plan, steps=1 << 20))


def test_a_model_without_weights_is_refused() -> None:
    graph = [{"op": "flatten", "name": "f"}]
    model = Model(graph, {"shape": [1, 1, 4], "pad": 0, "mean": [0.0], "std": [1.0]}, {})
    plan = replace(tiny_mlp().plan, graph=model.graph, weights={}, input=model.input, affine=([1], [0]))
    with pytest.raises(UnusableInput):
        Certificate(plan)


def test_hundreds_of_steps_with_log_ratios_of_one_sign_fit() -> None:
    case = Graph(np.random.default_rng(0), [1, 3, 4]).flatten().linear(4)
    certificate = Certificate(case.case(steps=400, batch=1, rho=Fraction(1, 1000)).plan)
    assert certificate.score.sum_y.tensor.bounds()[1] > 1024 << 39


def test_inputs_too_large_to_hash_are_refused_before_the_hash_matrix_is_built() -> None:
    plan = tiny_mlp().plan
    with pytest.raises(UnusableInput, match="too large to prove"):
        Certificate(replace(plan, input={**plan.input, "shape": [1, 4096, 4096]}))


def test_a_model_that_ends_in_a_flattened_convolution_of_several_positions_is_refused() -> None:
    rng = np.random.default_rng(0)
    case = Graph(rng, [1, 3, 4]).conv(4, (3, 3)).flatten().case()
    with pytest.raises(UnusableInput, match="linear layer"):
        Certificate(case.plan)


def test_pinning_the_dataset_pins_its_size_and_schema_too() -> None:
    proved = certified()
    statement = Statement.parse_header(ProofFile.parse(proved.proved.data).header)
    smaller = replace(statement.dataset, n=statement.dataset.n - 1)
    with pytest.raises(ProofRejected, match="data-root"):
        verify_proof(proved.proved.data, proved.model, Expectations(statement.tau, smaller))


def test_a_configuration_that_hides_the_score_is_pointed_out() -> None:
    statement = Statement.parse_header(ProofFile.parse(certified().proved.data).header)
    odd = replace(statement, config=ProbeConfig(steps=2, batch_size=1, eps=Fraction(1, 2), rho=Fraction(1, 5000)))
    text = " ".join(warnings(odd, Expectations(Fraction(1))))
    for word in ("eps", "rho", "samples", "root"):
        assert word in text


def test_sums_with_negative_weights_and_sources_of_the_wrong_length_are_refused() -> None:
    with pytest.raises(ValueError, match="non-negative"):
        Sum(2, (1, -1))
    circuit = Circuit()
    t = circuit.tensor("t", 1, (3,), radix(unsigned(4)))
    con = circuit.constraint("c", (Axis("a", 4),))
    with pytest.raises(ValueError, match="indices"):
        con.add("short", View(t, (Sum(1), Axis("a", 3))).whole())


def test_operands_mixing_axes_are_refused() -> None:
    circuit = Circuit()
    wide = circuit.tensor("wide", 1, (3, 2), radix(unsigned(4)))
    narrow = circuit.tensor("narrow", 1, (3,), radix(unsigned(4)))
    con = circuit.constraint("c", (Axis("a", 3), Axis("b", 2)))
    x = View(wide, (Sum(1), Axis("a", 3), Axis("b", 2))).whole()
    y = View(narrow, (Sum(1), Axis("a", 3))).whole()
    with pytest.raises(ValueError, match="different axes"):
        con.add("mixed", product(x + y, x))
    con.add("apart", product(x, x) + expr(y))


def test_equal_tables_of_windows_have_equal_content() -> None:
    made: dict[Table, np.ndarray] = {}
    pairs = [(1, 1), (1, 2), (2, 1)]
    for height, width, kernel, stride, pad in itertools.product((1, 3, 4), (1, 3, 4), pairs, pairs, [(0, 0), (0, 1)]):
        if height >= kernel[0] and width >= kernel[1] and pad[1] < kernel[1]:
            windows = Windows(height, width, kernel, stride, pad)
            for table in (windows.reads(), windows.readers(), windows.pairs(), windows.pairs_of()):
                assert np.array_equal(made.setdefault(table, table.index), table.index), table
                assert table.shape == table.index.shape
    assert len(made) > 100


INPUT = {"shape": [1, 3, 3], "pad": 0, "mean": [0.0], "std": [1.0]}


def certificate_of(model: Model) -> Certificate:
    plan = replace(
        tiny_mlp().plan,
        graph=model.graph,
        input=model.input,
        affine=input_affine(model.input, "u8"),
        weights={name: model.quantized(name) for name in model.params},
        classes=model.classes,
        constants=model.constants,
    )
    return Certificate(plan)


def filled(*shape: int) -> np.ndarray:
    return np.full(shape, 0.1, np.float32)


def test_a_flattened_and_a_spatial_branch_before_a_relu_are_refused() -> None:
    graph = [
        {"op": "conv2d", "name": "c", "weight": "c.w", "bias": None, "stride": [1, 1], "padding": [0, 0]},
        {"op": "flatten", "name": "f"},
        {"op": "linear", "name": "l", "weight": "l.w", "bias": None},
        {"op": "add", "name": "a", "inputs": ["l", "f"]},
        {"op": "relu", "name": "r"},
        {"op": "linear", "name": "o", "weight": "o.w", "bias": None},
    ]
    model = Model(graph, INPUT, {"c.w": filled(2, 1, 2, 2), "l.w": filled(8, 8), "o.w": filled(2, 8)})
    with pytest.raises(UnusableInput, match="flattened"):
        certificate_of(model)


def test_a_huge_mean_is_out_of_range() -> None:
    norm = {"op": "batchnorm2d", "name": "b", "weight": "w", "bias": "bb", "mean": "m", "var": "v", "eps": 1e-5}
    graph = [norm, {"op": "flatten", "name": "f"}, {"op": "linear", "name": "o", "weight": "o.w", "bias": None}]
    params = {"w": filled(1), "bb": filled(1), "m": np.array([1.7e308]), "v": filled(1), "o.w": filled(2, 9)}
    with pytest.raises(RangeOverflow, match="mean"):
        Model(graph, INPUT, params)


def test_the_stride_of_an_axis_of_length_one_is_ignored() -> None:
    def text(s: str) -> bytes:
        return b"X" + struct.pack("<I", len(s)) + s.encode()

    storage = text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + b"K\x01tQK\x00K\x01\x85"
    stride = b"\x8a\x0a" + (1 << 70).to_bytes(10, "little") + b"\x85\x89"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n((" + storage + stride + b"ccollections\nOrderedDict\n)RtR"
    head = b"\x80\x02}(" + text("graph") + b"]" + text("input") + b"}" + text("state_dict")
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("m/data.pkl", head + b"}(" + text("w") + tensor + b"uu.")
        archive.writestr("m/data/0", bytes(4))
        archive.writestr("m/version", "3")
    with pytest.raises(UnusableInput, match="graph"):  # what is wrong is the empty graph
        Model.of(other_model_file.read(file.getvalue()))


def test_too_many_channels_or_windows_are_refused_before_anything_grows() -> None:
    wide = {"shape": [2000, 1, 1], "pad": 0, "mean": [0.0] * 2000, "std": [1.0] * 2000}
    head = [{"op": "flatten", "name": "f"}, {"op": "linear", "name": "o", "weight": "o.w", "bias": None}]
    with pytest.raises(UnusableInput, match="too many channels"):
        certificate_of(Model(head, wide, {"o.w": filled(2, 2000)}))
    convs = [
        {"op": "conv2d", "name": f"c{i}", "weight": f"c{i}.w", "bias": None, "stride": [1, 1], "padding": [15, 15]}
        for i in range(6)
    ]
    params = {f"c{i}.w": filled(1, 1, 31, 31) for i in range(6)} | {"o.w": filled(2, 64 * 64)}
    large = {"shape": [1, 64, 64], "pad": 0, "mean": [0.0], "std": [1.0]}
    with pytest.raises(UnusableInput, match="tables of all windows"):
        certificate_of(Model([*convs, *head], large, params))


def test_an_internal_error_is_no_verdict(monkeypatch, capsys) -> None:
    monkeypatch.setattr("verifier.__main__.verify_files", mock.Mock(side_effect=KeyError("defect")))
    assert verify_main(["proof.bin", "model.pt", "--tau", "1"]) == 2
    assert "internal error" in capsys.readouterr().err


def test_channels_whose_views_would_be_huge_are_refused() -> None:
    plan = tiny_mlp().plan
    wide = {**plan.input, "shape": [1024, 16, 16], "mean": [0.0] * 1024, "std": [1.0] * 1024}
    with pytest.raises(UnusableInput, match="too many channels"):
        Certificate(replace(plan, input=wide, affine=([1] * 1024, [0] * 1024)))


def test_the_weights_of_many_terms_do_not_depend_on_how_they_are_chunked(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def both(layout, claims, weights, z):
        whole = weight_at(layout, claims, weights, z)
        monkeypatch.setattr(batching, "CHUNK", 1)
        assert weight_at(layout, claims, weights, z) == whole
        seen.append(len(claims))
        return whole

    monkeypatch.setattr(batching, "weight_at", both)
    proved = certified()
    verify_proof(proved.proved.data, proved.model, Expectations(proved.statement.tau))
    assert seen and seen[0] > 10


def test_a_link_does_not_depend_on_how_its_matrix_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identities, "LINK_COLUMNS", 5)
    proved = certified()
    verify_proof(proved.proved.data, proved.model, Expectations(proved.statement.tau))


@pytest.mark.parametrize("content", [b'{"format": []}', b'{"format": {}}', b"PK\3\4" + bytes(60), b"PK\3\4", b"PK"])
def test_files_of_a_strange_kind_are_of_no_kind_and_refused_in_a_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    kind_of(path)
    with pytest.raises(UnusableInput):
        load_root(path)
    with pytest.raises(UnusableInput):
        load_announcement(path)
    with pytest.raises(MalformedProof):
        verify_files(path, saved_model(tmp_path), tau=1)


def saved_model(place: Path) -> Path:
    certified().model.save(place / "model.safetensors")
    return place / "model.safetensors"


def test_announcements_are_read_within_a_limit_and_say_each_thing_once(tmp_path: Path) -> None:
    path = tmp_path / "announce.json"
    save_announcement(certified().statement, path)
    text = path.read_text()
    assert load_announcement(path).announcement_digest == certified().statement.announcement_digest
    for hostile, why in (
        (text.replace("{", '{"tau": "1",', 1), "a key occurs twice"),
        (json.dumps(json.loads(text)), "edited or reformatted"),
        (text.replace("\n", "\r\n"), "edited or reformatted"),
        (text.replace('"digest": "', '"digest": "0'), "edited or reformatted"),
        (text + " " * (1 << 20), "more than"),
    ):
        path.write_bytes(hostile.encode())
        with pytest.raises(UnusableInput, match=why):
            load_announcement(path)
