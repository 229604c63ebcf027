"""Each refusal of the verifier's closure that no other of its tests meets, and what stands beside it."""

from __future__ import annotations

import gc
import io
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from signal import SIGINT, SIGPIPE
from unittest import mock

import numpy as np
import pytest

import circuits.limits
import circuits.probe
import verifier.verify
import zkcert
from circuits.argument import lookups
from circuits.argument.channel import Tape
from circuits.compile import Certificate, collector_paused, weight_digits
from circuits.graph import Connections
from circuits.language.constraints import BoundError, Circuit, Expr, expr, product
from circuits.language.forms import ZERO, View
from circuits.language.layout import Layout, prefix_eq, prefix_eq2, prefix_index
from circuits.language.sources import ONCE, Axis, Scaled, Source, Sum
from circuits.language.tensors import BIT, U22, Digit, Tensor, radix
from circuits.language.wide import Limbs, limb_forms
from circuits.listing import Listing
from circuits.statement import Quantized
from circuits.value import Value
from prover.argument import prove_circuit
from prover.execution.witness import Witness
from tests.builders import Graph, residual, tiny_cnn, tiny_mlp
from tests.soundness.test_limits import hostile_file
from tests.toys import (
    certified,
    light_grinding,
    prove_toy,
    random_fs,
    tiny_model,
    toy_circuit,
    toy_layout,
    toy_proof,
    toy_transcript,
    verify_toy,
)
from verifier.__main__ import main
from verifier.argument import verify_circuit
from verifier.output import print_verdict
from verifier.soundness import SoundnessTable, Term
from verifier.verify import Expectations, verify_proof, warnings
from zkcert.core.container import MAGIC, ProofFile
from zkcert.core.field import F
from zkcert.core.proof import section
from zkcert.errors import MalformedProof, ProofRejected, RangeOverflow, UnusableInput
from zkcert.public.config import ProbeConfig
from zkcert.public.graph import check_input
from zkcert.public.model import Model, input_affine
from zkcert.public.reading import read_file
from zkcert.public.root import DatasetRoot, Schema
from zkcert.public.statement import Statement, announced, load_announcement
from zkcert.public.strict_json import parse
from zkcert.public.torch_archive import pickled

# ------------------------------------------------------------------------------------------- the language of circuits


def a_tensor(*digits: Digit, unroll: int = 1) -> Tensor:
    return Circuit().tensor("t", unroll, (3,), digits or radix(U22))


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda t: View(t, (ONCE,)), r"t: 1 sources for \(1, 3\)"),
        (lambda t: View(t, (ONCE, Axis("a", 4))), "does not fit sizes"),
        (
            lambda t: View(replace(t, unroll=3), (Axis("a", 3), Axis("a", 3))),
            "two sources read the same axis",
        ),
        (lambda t: Sum(3, (1, 1)), "a Sum over 3 entries needs as many"),
        (lambda t: Scaled("a", (1, -1, 1), 3), "scaling 3 entries needs as many"),
        (lambda t: limb_forms(View(replace(t, digits=(Digit(U22, 5),)), (ONCE, Axis("a", 3)))), "not in radix"),
        (lambda t: (Value.of(t) + Value.of(t)).tensor, "a combination of tensors is not one tensor"),
        (lambda t: Value.of(t) + Value.of(replace(t, shape=(4,))), "one branch is flattened"),
    ],
)
def test_what_reads_a_tensor_wrongly_is_refused(make: Callable[[Tensor], object], why: str) -> None:
    with pytest.raises((ValueError, UnusableInput), match=why):
        make(a_tensor())


@pytest.mark.parametrize(
    ("out", "why"),
    [
        ((), "linear part uses axes"),
        ((Axis("a", 4),), "a has 4 indices, its source 3"),
    ],
)
def test_an_identity_over_other_axes_than_its_views_read_is_refused(out: tuple[Axis, ...], why: str) -> None:
    con = Circuit().constraint("c", out)
    with pytest.raises(ValueError, match=why):
        con.add("m", View(a_tensor(), (ONCE, Axis("a", 3))).whole())


def test_operands_whose_views_read_different_axes_are_refused() -> None:
    con = Circuit().constraint("c", (Axis("a", 3),))
    own, other = View(a_tensor(), (ONCE, Axis("a", 3))).whole(), View(a_tensor(), (ONCE, Sum(3))).whole()
    with pytest.raises(ValueError, match="the views of an operand read different axes"):
        con.add("m", product(own + other, own))


def test_an_identity_that_could_wrap_around_is_refused_and_says_what_to_make_smaller() -> None:
    wide = View(a_tensor(*radix(U22, U22)), (ONCE, Axis("a", 3))).whole()
    con = Circuit().constraint("c", (Axis("a", 3),))
    with pytest.raises(BoundError, match=r"^c/m: \|value\| can reach 2\^88, p is 2\^61-1$"):
        con.add("m", product(wide, wide))
    con = Circuit().constraint("c", (Axis("a", 3),), (Axis("b", 1 << 9), Axis("f", 2)))
    with pytest.raises(BoundError, match=r"it adds up 512 samples x 2 channels or features; take smaller batches or "):
        con.add("m", product(wide, wide))


def test_a_circuit_of_too_many_terms_is_refused_while_it_is_made() -> None:
    circuit = Circuit()
    circuit.size.most = 3
    con = circuit.constraint("c", (Axis("a", 3),))
    form = View(a_tensor(*radix(U22, U22)), (ONCE, Axis("a", 3))).whole()
    con.add("two", form)
    with pytest.raises(UnusableInput, match="more than 3 terms: fewer layers"):
        con.add("two more", form)


def test_nothing_is_a_form_without_terms() -> None:
    assert ZERO.primitive == (1, ZERO) and ZERO.bounds == (0, 0)
    one = Expr(linear=View(a_tensor(), (ONCE, Sum(3))).whole())
    assert (one + ZERO).linear == one.linear and one * 1 is one and expr(0) == Expr()


def test_limbs_can_be_read_twice() -> None:
    limbs = Limbs().add_const(5 << 22).add_const(1)
    assert limbs.parts == limbs.parts == [expr(1), expr(5)]


def test_digits_say_the_bounds_of_their_tensor() -> None:
    assert a_tensor(*radix(U22, BIT)).bounds() == (0, (1 << 23) - 1)


def test_a_source_that_the_listing_does_not_know_is_an_error() -> None:
    @dataclass(frozen=True)
    class Other(Source):
        size: int = 3

        def vector(self, vecs: object) -> np.ndarray:
            raise NotImplementedError

    with pytest.raises(TypeError, match="of no kind that is listed"):
        Listing(toy_layout()).source(Other())


@pytest.mark.parametrize("n", [0, 1, 3])
def test_prefixes_that_are_everything(n: int) -> None:
    r, z = random_fs(np.random.default_rng(n), n), random_fs(np.random.default_rng(n + 9), n)
    eq = [[a if i >> (n - 1 - j) & 1 else 1 - a for j, a in enumerate(p)] for p in (r, z) for i in range(1 << n)]
    at = [_product(row) for row in eq]
    first, second = at[: 1 << n], at[1 << n :]
    for length in (1 << n, (1 << n) + 1):
        assert prefix_eq(r, length) == 1
        assert prefix_eq2(r, z, length) == sum((a * b for a, b in zip(first, second, strict=True)), F.ZERO)
        assert prefix_index(r, length) == sum((a * i for i, a in enumerate(first)), F.ZERO)


def _product(values: list[F]) -> F:
    out = F.ONE
    for value in values:
        out = out * value
    return out


@pytest.mark.parametrize(
    ("limit", "why"),
    [("MAX_PIECES", "more than 1 blocks of digits"), ("MAX_COLUMNS", "columns, at most 1 can be proved")],
)
def test_too_many_columns_are_refused_before_they_are_placed(limit: str, why: str) -> None:
    with mock.patch(f"circuits.language.layout.{limit}", 1), pytest.raises(UnusableInput, match=why):
        Layout(toy_circuit())


def test_a_node_that_no_equation_reaches_adds_nothing() -> None:
    tape = Tape()
    kept, _ = tape.receive(F(5)), tape.receive(F(7))
    tape.assert_zero(kept, "five")
    form = tape.collapse([F(3)])
    assert form.const == 15 and not form.parts[0][:, 1].any()


# ------------------------------------------------------------------------------------------- the argument


def test_a_circuit_of_one_digit_and_one_of_several_trees_are_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    circuit = Circuit()
    t = circuit.tensor("bit", 1, (), radix(BIT))
    con = circuit.constraint("c", ())
    con.add("is one", expr(View(t, (ONCE,)).whole()) - 1)
    layout = Layout(circuit, smallest_cut=1)
    witness = Witness(layout)
    witness.put(t, np.ones(1, np.int64))
    with light_grinding():
        verify_circuit(layout, toy_transcript(), prove_circuit(layout, witness, toy_transcript()))
    monkeypatch.setattr(lookups, "TREE_BITS", 6)
    assert len(lookups.digit_trees(toy_layout())) > 1
    verify_toy(prove_toy())


def test_a_challenge_that_is_divided_by_and_is_zero_is_a_rejection() -> None:
    with (
        mock.patch("verifier.argument.run", side_effect=ZeroDivisionError("inverse of zero in F")),
        pytest.raises(ProofRejected, match=r"^challenge: a challenge that is divided by is zero") as caught,
    ):
        verify_toy(toy_proof())
    assert caught.value.check == "challenge"


# ------------------------------------------------------------------------------------------- from model to circuit


def test_what_no_circuit_is_for_is_refused() -> None:
    case = tiny_mlp()
    for changes, why in (
        ({"classes": 1}, "1 classes: between 2 and 1023 are supported"),
        ({"classes": 7}, r"the model has \(4,\) outputs, the dataset 7 classes"),
    ):
        with pytest.raises(UnusableInput, match=why):
            Certificate(replace(case.plan, **changes))
    rng = np.random.default_rng(0)
    with pytest.raises(UnusableInput, match=r"must end in a linear layer or in one position .* has 2 pos"):
        Certificate(Graph(rng, [1, 3, 4]).conv(2, (3, 3)).flatten().case().plan)


class Weightless(Connections):
    """Of a graph whose last node has no weights before it; no reader lets one through."""

    def __init__(self, graph: list[dict[str, object]]) -> None:
        super().__init__(graph)
        self.reaches[-1] = False


def test_a_model_without_weights_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("circuits.compile.Connections", Weightless)
    with pytest.raises(UnusableInput, match="the model has no weights to perturb"):
        Certificate(tiny_mlp().plan)


def test_branches_that_are_flattened_and_others_have_no_sum() -> None:
    """The reader of models refuses such sums, so that the circuit is asked itself."""
    case = tiny_cnn()
    last = case.plan.graph[-1]["name"]
    image = case.plan.graph[0]["name"]
    graph = [*case.plan.graph, {"op": "add", "name": "sum", "inputs": [last, image]}]
    with pytest.raises(UnusableInput, match="layer sum: one branch is flattened, the other is not"):
        Certificate(replace(case.plan, graph=graph))
    graph = [*graph, {"op": "relu", "name": "r"}]
    with pytest.raises(UnusableInput, match="layer r: one branch is flattened, the other is not"):
        Certificate(replace(case.plan, graph=graph))


def test_a_layer_that_the_circuit_refuses_is_named_but_an_identity_that_could_wrap_names_itself() -> None:
    plan = tiny_cnn().plan
    with mock.patch("circuits.net.MAX_TABLES", 8), pytest.raises(UnusableInput, match=r"^layer conv2d0: the tables of"):
        Certificate(plan)
    with mock.patch("circuits.language.wide.P", 1 << 70), pytest.raises(BoundError, match=r"^conv2d0/forward/"):
        Certificate(plan)


def test_a_shortcut_to_a_later_layer_leaves_the_layer_its_output() -> None:
    """The second summand of a sum is committed after the first: it cannot be what a ReLU's combination leaves out."""
    g = Graph(np.random.default_rng(0), [2, 3, 3]).conv(2, (1, 1))
    early = g.last
    g.conv(2, (1, 1)).read("@input").add(early).add(early).relu()
    connections = Connections(g.nodes)
    assert [connections.rectified(i) for i in range(2)] == [None, None]
    assert any(Connections(residual().plan.graph).rectified(i) for i in range(5))


def test_thresholds_and_variances_out_of_their_range_are_refused() -> None:
    certificate = Certificate(tiny_mlp().plan)
    with pytest.raises(UnusableInput, match="is below the charged error of the fixed-point score"):
        certificate.close(Fraction(0))
    certificate.close(Fraction(1))
    for variance in (-1, 5 << 64):
        with pytest.raises(UnusableInput, match="the revealed variance does not lie between 0 and"):
            certificate.reveal(variance)


def test_weights_beyond_their_digits_are_refused() -> None:
    assert weight_digits(np.array([(1 << 39) - 1, 1 - (1 << 39)])).shape == (2, 2)
    with pytest.raises(RangeOverflow, match="weights"):
        weight_digits(np.array([1 << 39]))


def test_quantised_weights_are_a_mapping_of_the_model() -> None:
    model = tiny_model()
    weights = Quantized(model)
    assert list(weights) == list(model.params) and len(weights) == len(model.params)


@pytest.mark.parametrize(
    ("where", "value", "why"),
    [
        (circuits.probe, "MAX_TERMS", "squares in one sum, at most 1"),
        (circuits.limits, "MAX_MESSAGES", "messages, at most 1: fewer layers"),
        (circuits.limits, "MAX_WEIGHTS", "weights of columns, at most 1: take fewer steps or layers"),
    ],
)
def test_sizes_that_a_built_circuit_shows_are_limited(where: object, value: str, why: str) -> None:
    with mock.patch.object(where, value, 1), pytest.raises(UnusableInput, match=why):
        Certificate(tiny_mlp().plan).close(Fraction(30))


def test_the_collector_runs_again_afterwards() -> None:
    gc.disable()
    with collector_paused():
        assert not gc.isenabled()
    assert not gc.isenabled()
    gc.enable()
    with collector_paused():
        assert not gc.isenabled()
    assert gc.isenabled()


# ------------------------------------------------------------------------------------------- models


def normed(**changes: np.ndarray) -> Model:
    g = Graph(np.random.default_rng(0), [2, 2, 2]).norm().flatten().linear(3)
    name = g.nodes[0]["name"]
    return Model(g.nodes, g.spec, {**g.params, **{f"{name}.{key}": array for key, array in changes.items()}})


@pytest.mark.parametrize(
    ("changes", "error", "why"),
    [
        ({"var": np.array([1.0, -1e-9])}, UnusableInput, "variances must be from 0 to 2"),
        ({"var": np.array([1.0, 2.0**64])}, UnusableInput, "variances must be from 0 to 2"),
        ({"mean": np.array([0.0, 1e300])}, RangeOverflow, "its mean or 1 / sqrt"),
        ({"mean": np.array([2048.0, 0.0])}, RangeOverflow, "its mean or 1 / sqrt"),
        ({"weight": np.array([1.0, 100.0]), "var": np.array([1.0, 0.01])}, RangeOverflow, r"channel 1: weight / sqrt"),
        ({"bias": np.zeros(3)}, UnusableInput, r"its tensors must have shape \[C\]"),
    ],
)
def test_statistics_that_no_batch_norm_is_for_are_refused(
    changes: dict[str, np.ndarray], error: type[Exception], why: str
) -> None:
    normed()
    with pytest.raises(error, match=why):
        normed(**changes)


@pytest.mark.parametrize(
    ("spec", "kind", "error", "why"),
    [
        ({"mean": [0.5], "std": [0.5]}, "f32", UnusableInput, "kind of samples must be u8 or q32, not 'f32'"),
        ({"mean": [127.5], "std": [64.0]}, "u8", UnusableInput, r"units of 0\.\.255.*divide mean and std by 255"),
        ({"mean": [0.0], "std": [2.0**-12]}, "u8", RangeOverflow, "input.*check mean and std"),
    ],
)
def test_normalisations_that_fit_no_sample_are_refused(
    spec: dict[str, list[float]], kind: str, error: type[Exception], why: str
) -> None:
    with pytest.raises(error, match=why):
        input_affine(spec, kind)


def test_an_input_that_is_no_dictionary_is_refused() -> None:
    with pytest.raises(UnusableInput, match="must be a dictionary with the keys shape, pad, mean, std"):
        check_input([1, 28, 28])


def test_what_has_no_place_in_a_model_file_is_not_written() -> None:
    with pytest.raises(TypeError, match="bytes has no place in a model file"):
        pickled(b"", {}, {})
    with pytest.raises(ValueError, match="2\\^31 numbers"):
        pickled(1 << 31, {}, {})


# ------------------------------------------------------------------------------------------- statements and roots


def test_headers_that_are_not_what_the_statement_would_write_are_refused() -> None:
    """Of a public number, a digest, a dataset that is none; and of the same statement in other words."""
    header = certified().statement.header()
    values = json.loads(header)
    assert Statement.parse_header(header).header() == header
    for changes in (
        {"variance": 5},
        {"variance": "-5"},
        {"variance": "1" * 41},
        {"circuit": "00"},
        {"weights": values["weights"] + "00"},
        {"format": "zkcert-announcement-2"},
        {"dataset": {**values["dataset"], "N": 0}},
        {"dataset": {**values["dataset"], "N": 1 << 40}},
        {"dataset": {**values["dataset"], "root": "00"}},
    ):
        text = json.dumps({**values, **changes}, sort_keys=True, separators=(",", ":")).encode()
        with pytest.raises(UnusableInput, match="the proof's header does not parse"):
            Statement.parse_header(text)
    for text in (json.dumps(values).encode(), header.replace(b'"tau":"30"', b'"tau":"30/1"')):
        with pytest.raises(UnusableInput, match="the proof's header does not parse"):
            Statement.parse_header(text)


def test_announcements_that_are_none_are_refused(tmp_path: os.PathLike[str]) -> None:
    path = os.path.join(tmp_path, "announce.json")

    def written(data: bytes) -> str:
        with open(path, "wb") as file:
            file.write(data)
        return path

    data = announced(certified().statement)
    assert load_announcement(written(data)) == replace(certified().statement, beacon=None)
    other = json.loads(data)["digest"]
    for changed, why in (
        (data.replace(other.encode(), b"0" * 64), "it was edited or reformatted"),
        (b"[]\n", "is not an announcement; take the file"),
        (b"{}\n", "is not an announcement; take the file"),
        (b"{", "it is cut short"),
    ):
        with pytest.raises(UnusableInput, match=why):
            load_announcement(written(changed))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"more": 1}, "a schema has the keys"),
        ({"classes": 0}, "the number of classes must be within 1 and 65536"),
        ({"kind": "f32"}, "the kind must be u8, q32 or tokens"),
        ({"shape": [1, 2]}, "the shape must be three positive integers"),
        ({"shape": [1, 1 << 13, 1 << 12]}, "a sample has at most 16777216 values"),
        ({"label_bytes": 2}, r"10 classes need 1 label byte\(s\)"),
    ],
)
def test_schemas_that_are_none_are_refused(changes: dict[str, object], why: str) -> None:
    schema = Schema(10, "u8", (1, 2, 3)).to_dict()
    assert Schema.from_dict(schema) == Schema(10, "u8", (1, 2, 3))
    with pytest.raises(ValueError, match=why):
        Schema.from_dict({**schema, **changes})


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"more": 1}, "it was edited or reformatted"),
        ({"format": "zkcert-root-0"}, "it was edited or reformatted"),
        ({"N": 0}, "N must be within 1 and"),
        ({"root": "AB" * 32}, "the root must be 64 lower-case hexadecimal digits"),
    ],
)
def test_roots_that_are_none_are_refused(tmp_path: os.PathLike[str], changes: dict[str, object], why: str) -> None:
    root = DatasetRoot(bytes(32), 3, Schema(2, "u8", (1, 2, 2)))
    path = os.path.join(tmp_path, "data.root")
    for data in (root.to_bytes(), json.dumps({**json.loads(root.to_bytes()), **changes}, sort_keys=True).encode()):
        with open(path, "wb") as file:
            file.write(data)
        if data == root.to_bytes():
            assert DatasetRoot.load(path) == root
    with pytest.raises(UnusableInput, match=why):
        DatasetRoot.load(path)


def test_zkcert_has_its_public_names_and_no_others() -> None:
    assert dir(zkcert) == zkcert.__all__ and zkcert.ProofRejected is ProofRejected
    with pytest.raises(AttributeError, match="module 'zkcert' has no attribute 'nonsense'"):
        zkcert.nonsense  # noqa: B018


def test_names_and_numbers_that_are_none_are_refused() -> None:
    with pytest.raises(UnusableInput, match="an empty name is given where a file is expected"):
        read_file("", 1)
    with pytest.raises(ValueError, match="a number has more than 4000 digits"):
        parse("1" * 4001)


# ------------------------------------------------------------------------------------------- proofs and verdicts


def test_sample_hashes_that_are_not_whole_are_refused() -> None:
    proof = ProofFile.parse(certified().proved.data)
    for raw in (b"", bytes(8), proof.hashes.astype("<u8").tobytes()[:-8]):
        parts = (proof.header, raw, proof.multiproof, proof.argument)
        with pytest.raises(MalformedProof, match="sample hashes: not a whole number of hashes"):
            ProofFile.parse(MAGIC + b"".join(map(section, parts)))


def test_a_circuit_whose_argument_costs_a_forger_too_little_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifier.verify, "soundness", lambda layout: SoundnessTable((Term("all", -99.0),)))
    with pytest.raises(ProofRejected, match=r"^soundness: 99\.0 bits of work, 100 required"):
        verify_proof(certified().proved.data, certified().model, Expectations(Fraction(30)))


def test_a_report_says_the_score_that_is_revealed_and_no_other() -> None:
    report = verify_proof(certified().proved.data, certified().model, Expectations(Fraction(30)))
    assert report.score is None
    statement = replace(report.statement, variance=16 << 64)  # T^2 = 4 times a variance of 4
    assert replace(report, statement=statement).score == 2.0


def test_a_root_that_is_pinned_by_its_digest_alone_is_pointed_out() -> None:
    statement = certified().statement
    found = warnings(statement, Expectations(Fraction(1), statement.dataset.root))
    assert any(text.startswith("only the 32-byte root is pinned") for text in found)


def test_data_that_the_model_does_not_take_are_refused() -> None:
    """Samples of another shape, of more classes or fewer, and fewer than the configuration draws."""
    model, config = tiny_model(), ProbeConfig(steps=2, batch_size=1, lr=Fraction(1, 100))
    proof = ProofFile.parse(hostile_file(model, config))
    statement = Statement.parse_header(proof.header)
    for schema, n, why in (
        (replace(statement.dataset.schema, shape=(1, 4, 3)), 2, "the model takes samples of shape"),
        (replace(statement.dataset.schema, classes=3), 2, r"commit with --classes 4\)"),
        (replace(statement.dataset.schema, classes=5), 2, "commit with --classes 4, which no label may reach"),
        (statement.dataset.schema, 1, "2 steps of 1 samples need 2; the dataset has 1"),
    ):
        other = replace(statement, dataset=replace(statement.dataset, schema=schema, n=n))
        with pytest.raises(ProofRejected, match=why) as caught:
            verify_proof(replace(proof, header=other.header()).to_bytes(), model, Expectations(Fraction(30)))
        assert caught.value.check == "statement"


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (KeyboardInterrupt(), 128 + SIGINT, "interrupted; nothing was verified"),
        (KeyError("a defect"), 2, "internal error, nothing was verified: KeyError: 'a defect'"),
    ],
)
def test_what_ends_a_verification_before_its_verdict_is_no_verdict(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException, code: int, line: str
) -> None:
    monkeypatch.setattr("verifier.__main__.verify_files", mock.Mock(side_effect=error))
    assert main(["proof.bin", "model.pt", "--tau", "1"]) == code
    assert capsys.readouterr() == ("", f"{line}\n")


class Refusing(io.StringIO):
    """A stream that cannot be written to."""

    def __init__(self, error: OSError) -> None:
        super().__init__()
        self.error = error

    def flush(self) -> None:
        raise self.error


def test_a_verdict_that_nobody_can_read_is_no_acceptance(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is an error, unless the verdict is one already; a closed pipe ends like any program's."""
    read = io.StringIO()
    monkeypatch.setattr("sys.stderr", read)
    for error, code, expected, line in (
        (OSError(28, "No space left on device"), 0, 2, "error: input/output: No space left on device\n"),
        (OSError(28, "No space left on device"), 1, 1, "REJECTED it\n"),
        (BrokenPipeError(32, "Broken pipe"), 0, 128 + SIGPIPE, ""),
    ):
        monkeypatch.setattr("sys.stdout", Refusing(error))
        assert print_verdict("ACCEPTED", code, "REJECTED it" if code else "") == expected
        assert read.getvalue() == line
        read.seek(0)
        read.truncate()
    monkeypatch.setattr("sys.stdout", None)
    assert print_verdict("", 0) == 0
