"""Test vectors of the specification: `python -m benchmarks.vectors [--out FOLDER] [NAME ...]`.

Every layer type is in one of them. One folder per case, for whoever writes another verifier: the public files (model,
data.root, announce.json, proof.bin), the circuit's listing, the transcript line by line, and values.json with what is
computed on the way. Everything is made from fixed seeds, the "secret" randomness too: a second run writes the same
bytes. The data are random and nobody's.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import numpy as np

from circuits.argument.protocol import message_counts
from circuits.limits import column_weights
from circuits.listing import lines, listing_digest
from circuits.statement import certificate
from verifier.soundness import soundness
from verifier.verify import Expectations, verify_proof
from zkcert.core.code import pad_code
from zkcert.core.container import ProofFile
from zkcert.core.field import F, f_list
from zkcert.core.transcript import Transcript
from zkcert.data.committed import CommittedDataset, commit
from zkcert.data.dataset import load_dataset
from zkcert.files.saving import save_announcement, save_root
from zkcert.public.config import ProbeConfig
from zkcert.public.model import Model, input_affine
from zkcert.public.root import DatasetRoot
from zkcert.public.statement import Round, Statement, load_announcement
from zkcert.trust.drand import BUILT_IN

PLACE = Path(__file__).parent.parent / "docs" / "spec" / "vectors"
SAMPLES = 12


CHAIN = BUILT_IN["quicknet"]
ROUND = {
    "round": 657413,
    "randomness": "fc1873a13f3545aeade8401532ef5519920652eee6b0d2b19ca12643b87b3587",
    "signature": "b713718a38ae728dfd477991af2822e08d2f305e47718cef9f7848ce4050e7be41076862b98fad56e91a6b85b89cd97b",
}
"""A real round, of August 2023."""


@dataclass(frozen=True)
class Case:
    """A network by its nodes (weights are drawn), what the samples look like, what is asked of the probe.

    Samples of the kind "tokens" have the shape (1, 1, L), and the tokens are the classes.
    """

    nodes: Sequence[Mapping[str, Any]]
    shape: tuple[int, int, int]
    classes: int = 3
    pad: int = 0
    kind: str = "u8"
    config: ProbeConfig = field(default_factory=lambda: ProbeConfig(steps=2, batch_size=2))
    beacon: bytes | None = bytes(range(32))
    reveal: bool = False
    suffix: str = ".pt"
    round: Mapping[str, Any] | None = None  # of the public beacon's chain, as its servers give it; it gives the beacon


def linear(name: str, out: int, features: int, bias: bool = True) -> dict[str, Any]:
    return _affine("linear", name, (out, features), bias)


def conv(
    name: str,
    shape: tuple[int, ...],
    stride: tuple[int, int] = (1, 1),
    pad: tuple[int, int] = (0, 0),
    bias: bool = False,
    **more: Any,
) -> dict[str, Any]:
    return {**_affine("conv2d", name, shape, bias), "stride": list(stride), "padding": list(pad), **more}


def _affine(op: str, name: str, shape: tuple[int, ...], bias: bool) -> dict[str, Any]:
    tensors = {"weight": f"{name}.weight", "bias": f"{name}.bias" if bias else None}
    return {"op": op, "name": name, **tensors, "shape": shape}


def norm(name: str, channels: int) -> dict[str, Any]:
    tensors = {key: f"{name}.{key}" for key in ("weight", "bias", "mean", "var")}
    return {"op": "batchnorm2d", "name": name, **tensors, "eps": 1e-05, "shape": (channels,)}


def group(name: str, channels: int, groups: int, **more: Any) -> dict[str, Any]:
    tensors = {key: f"{name}.{key}" for key in ("weight", "bias")}
    return {"op": "groupnorm", "name": name, **tensors, "groups": groups, "eps": 1e-05, **more, "shape": (channels,)}


def own(op: str, name: str, *shape: int, weight: str | None = None, **more: Any) -> dict[str, Any]:
    """A node with one tensor, of that shape; of no shape for one that is there already."""
    return {"op": op, "name": name, "weight": weight or f"{name}.weight", **more, "shape": shape}


def pool(op: str, kernel: tuple[int, int], stride: tuple[int, int]) -> dict[str, Any]:
    return {"op": op, "name": op, "kernel": list(kernel), "stride": list(stride)}


def plain(op: str, name: str, **more: Any) -> dict[str, Any]:
    return {"op": op, "name": name, **more}


FLATTEN, RELU = plain("flatten", "flatten"), plain("relu", "relu")

CASES = {
    "linear": Case([FLATTEN, linear("fc", 3, 4)], (1, 2, 2)),
    # the announcement names a round of drand
    "drand": Case([FLATTEN, linear("fc", 3, 2)], (1, 1, 2), round=ROUND),
    # rectified outputs, q32 samples with padding, linear layers behind one another, the other format of models
    "conv-relu": Case(
        [
            conv("conv", (2, 2, 2, 3), pad=(1, 1), bias=True),
            RELU,
            conv("next", (2, 2, 3, 2), (2, 2)),
            FLATTEN,
            linear("hidden", 5, 8),
            plain("relu", "rectified"),
            linear("fc", 3, 5),
        ],
        (2, 3, 3),
        pad=1,
        kind="q32",
        config=ProbeConfig(steps=2, batch_size=2, rho=Fraction(3, 70), lr=Fraction(1, 37)),
        suffix=".safetensors",
    ),
    # windows that overlap and that leave entries out, a ReLU of its own, a LeakyReLU; sam, three steps of one sample,
    # no beacon, no eps, and a revealed score
    "pools": Case(
        [
            conv("conv", (2, 1, 1, 1)),
            pool("maxpool2d", (2, 2), (1, 1)),
            RELU,
            pool("avgpool2d", (2, 1), (1, 2)),
            plain("leaky_relu", "leaky", negative_slope=0.01),
            FLATTEN,
            linear("fc", 3, 8, bias=False),
        ],
        (1, 4, 4),
        config=ProbeConfig(steps=3, batch_size=1, variant="sam", eps=Fraction(0)),
        beacon=None,
        reveal=True,
    ),
    # what convolutional networks are made of: a padded pooling, groups, a dilation, a ReLU6, channels joined for a
    # pooling, and some of them shuffled for a convolution, divisors that differ, an adaptive pooling, a head of one
    # position
    "convolutional": Case(
        [
            conv("stem", (2, 1, 2, 2), bias=True),
            {**pool("maxpool2d", (3, 3), (2, 2)), "padding": [1, 1]},
            conv("depth", (4, 1, 3, 3), pad=(2, 2), groups=2, dilation=[2, 2], bias=True),
            plain("hardtanh", "clip", low=0.0, high=6.0),
            conv("point", (2, 4, 1, 1)),
            RELU,
            plain("cat", "pair", inputs=["relu", "maxpool2d"]),
            {**pool("avgpool2d", (2, 2), (1, 1)), "padding": [1, 1], "inside": True},
            plain("adaptiveavgpool2d", "adaptive", size=[2, 3]),
            conv("side", (1, 4, 1, 1), bias=True),
            plain("cat", "triple", inputs=["side", "adaptive"]),
            plain("channels", "shuffle", first=1, count=4, groups=2),
            conv("head", (3, 4, 1, 1), bias=True),
            plain("avgpool2d", "global", kernel=[2, 3], stride=[1, 1]),
            FLATTEN,
        ],
        (1, 6, 6),
    ),
    # congruences, under the rule as it is, of every kind: forward with a bias and a rectified output, input gradient,
    # gradient, perturbation, update; all sources that weigh; so many weights that a remainder of the update has two
    # digits; and what the rule leaves to carries
    "congruence": Case(
        [
            conv("point", (16, 1, 1, 1), bias=True),
            RELU,
            conv("conv", (256, 16, 2, 2), (4, 2), bias=True),
            plain("relu", "second"),
            conv("next", (3, 256, 2, 2)),
            plain("relu", "third"),
            FLATTEN,
            linear("fc", 3, 96),
        ],
        (1, 18, 18),
        config=ProbeConfig(steps=9, batch_size=1, lr=Fraction(1, 51)),
    ),
    # statistics of the samples themselves: of groups, at each position, of features; before a ReLU and not
    "statistics": Case(
        [
            group("samples", 2, 2),
            conv("conv", (4, 2, 1, 2), bias=True),
            group("each", 4, 2, each=True),
            RELU,
            conv("point", (2, 4, 1, 1)),
            group("all", 2, 1),
            FLATTEN,
            linear("hidden", 4, 8),
            group("features", 4, 1),
            linear("fc", 3, 4),
        ],
        (2, 2, 3),
        config=ProbeConfig(steps=2, batch_size=2, rho=Fraction(1, 1000)),
    ),
    # branches that are multiplied: a gate of one position, read first, before a ReLU; an output with itself;
    # slopes per channel and one for all; one logit as two
    "branches": Case(
        [
            conv("stem", (2, 1, 2, 2), bias=True),
            {**plain("prelu", "slopes", weight="slopes.weight"), "shape": (2,)},
            pool("avgpool2d", (2, 2), (2, 2)),
            conv("gate", (2, 2, 1, 1), bias=True),
            plain("multiply", "scaled", inputs=["gate", "slopes"]),
            RELU,
            plain("multiply", "square", inputs=["relu", "relu"]),
            FLATTEN,
            {**plain("prelu", "slope", weight="slope.weight"), "shape": (1,)},
            linear("fc", 1, 8),
            plain("binary", "binary"),
        ],
        (1, 3, 3),
        classes=2,
    ),
    # functions of single entries: by segments of two tables, one of which ends in a number and one in the argument
    "functions": Case(
        [
            conv("conv", (2, 1, 1, 1), bias=True),
            plain("hardswish", "swish"),
            plain("function", "tanh", function="tanh"),
            FLATTEN,
            linear("hidden", 3, 8),
            plain("hardsigmoid", "gate"),
            linear("middle", 3, 3),
            plain("function", "gelu", function="gelu_tanh"),
            linear("fc", 3, 3),
        ],
        (1, 2, 2),
    ),
    # a language model: a table read twice, learned positions, two heads that look back, whose keys and queries come out
    # of one convolution; more tokens than a byte has, a divisor above 2^22
    "tokens": Case(
        [
            own("embedding", "table", 259, 4),
            own("positions", "places", 4, 1, 3),
            group("before", 4, 1, each=True),
            conv("qkv", (12, 4, 1, 1), bias=True),
            plain("attention", "attention", heads=2, causal=True),
            conv("out", (4, 4, 1, 1)),
            plain("add", "block", inputs=["out", "places"]),
            own("unembedding", "head", weight="table.weight"),
        ],
        (1, 1, 3),
        classes=259,
        kind="tokens",
        config=ProbeConfig(steps=2, batch_size=2, lr=Fraction(1, 1 << 20)),
    ),
    # patches of an image as a sequence behind a class token; queries, keys and values of layers of their own
    "patches": Case(
        [
            conv("patch", (3, 1, 2, 2), (2, 2), bias=True),
            plain("line", "line"),
            own("prepend", "class", 3),
            conv("q", (3, 3, 1, 1), inputs=["class"]),
            conv("k", (3, 3, 1, 1), inputs=["class"], bias=True),
            conv("v", (3, 3, 1, 1), inputs=["class"]),
            plain("cat", "qkv", inputs=["q", "k", "v"]),
            plain("attention", "attention", heads=1, causal=False),
            plain("add", "block", inputs=["attention", "class"]),
            plain("take", "first", position=0),
            FLATTEN,
            linear("fc", 3, 3),
        ],
        (1, 4, 4),
    ),
    # a deviation of s_t itself, with a ddof and revealed; steps scaled by |w| + eta where a name says "weight"
    "sharpness": Case(
        [conv("conv", (2, 1, 1, 1), bias=True), RELU, FLATTEN, linear("fc", 3, 8)],
        (1, 2, 2),
        config=ProbeConfig(steps=3, batch_size=2, statistic="std", ddof=1, variant="asam-samsung", eta=Fraction(1, 3)),
        reveal=True,
    ),
    # shortcuts with and without a ReLU behind them, and long sums of values and of gradients
    "norm-add": Case(
        [
            norm("first", 2),
            conv("conv", (2, 2, 1, 1)),
            norm("second", 2),
            plain("add", "block", inputs=["second", "first"]),
            RELU,
            conv("a", (2, 2, 1, 1), bias=True),
            plain("add", "b", inputs=["a", "@input"]),
            plain("relu", "s"),
            conv("c", (2, 2, 1, 1), inputs=["b"]),
            plain("add", "d", inputs=["c", "s"]),
            plain("add", "e", inputs=["d", "b"]),
            plain("add", "f", inputs=["e", "e"]),
            plain("add", "g", inputs=["f", "b"]),
            FLATTEN,
            linear("fc", 3, 8),
        ],
        (2, 2, 2),
        config=ProbeConfig(steps=2, batch_size=2, rho=Fraction(1, 1000)),
    ),
}


def model_of(name: str) -> Model:
    """The case's network; its name is the seed of the weights."""
    case, rng = CASES[name], np.random.default_rng([*name.encode(), 1])
    graph, params = [], {}
    for node in case.nodes:
        shape = node.get("shape", ())
        graph.append({key: value for key, value in node.items() if key != "shape"})
        drawn: dict[str, np.ndarray] = {}
        if node["op"] == "batchnorm2d":
            drawn = {
                "weight": 1 + 0.3 * rng.standard_normal(shape),
                "bias": 0.3 * rng.standard_normal(shape),
                "mean": rng.standard_normal(shape),
                "var": np.exp(rng.uniform(-2, 2, shape)),
            }
        elif shape:
            drawn = {"weight": rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))}
            drawn["bias"] = 0.3 * rng.standard_normal(shape[0])
        params.update({node[key]: value.astype(np.float32) for key, value in drawn.items() if node.get(key)})
    channels = case.shape[0]
    spec = {"shape": list(case.shape), "pad": case.pad, "mean": [0.3] * channels, "std": [0.4] * channels}
    if case.kind == "tokens":
        spec = {"shape": list(case.shape), "tokens": case.classes}
    return Model(graph, spec, params)


@contextmanager
def fixed_randomness() -> Iterator[None]:
    """The bytes 0, 1, 2, ... for every secret; for vectors alone."""
    with mock.patch("secrets.token_bytes", lambda size=32: bytes(i % 256 for i in range(size))):
        yield


def write_case(name: str, place: Path) -> None:
    """Make the files of a case anew."""
    from prover.prove import prove_statement

    case, model, rng = CASES[name], model_of(name), np.random.default_rng([*name.encode(), 2])
    x = rng.integers(0, 256, (SAMPLES, *case.shape), np.uint8)
    samples = x if case.kind == "u8" else (x / 128 - 1).astype(np.float32)
    windows = rng.integers(0, case.classes, (SAMPLES, case.shape[2] + 1)) if case.kind == "tokens" else None
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    with fixed_randomness(), TemporaryDirectory() as folder:
        data = Path(folder)
        if windows is None:
            np.savez(data / "data.npz", x=samples, y=rng.integers(0, case.classes, SAMPLES))
            commit(data / "data.npz", data / "data.zkd", classes=case.classes)
        else:
            np.save(data / "data.npy", windows)
            commit(load_dataset(data / "data.npy", context=case.shape[2]), data / "data.zkd", classes=case.classes)
        dataset = CommittedDataset.open(data / "data.zkd")
        model.save(place / f"model{case.suffix}")
        save_root(dataset.root, place / "data.root")
        statement, beacon = Statement.of(model, dataset.root, case.config, Fraction(20)), case.beacon
        if case.round is not None:
            statement = replace(statement, drand=Round(CHAIN.hash, case.round["round"]))
            beacon = sha256(bytes.fromhex(case.round["signature"])).digest()
            (place / "round.json").write_text(json.dumps(case.round, indent=1) + "\n")
        save_announcement(statement, place / "announce.json")
        proved = prove_statement(replace(statement, beacon=beacon), model, dataset, reveal_score=case.reveal)
        (place / "proof.bin").write_bytes(proved.data)
    for file, content in derived(place).items():
        (place / file).write_text(content)


# ------------------------------------------------------------------------------------------- what is computed


@contextmanager
def heard() -> Iterator[list[tuple[str, str, Any, bytes]]]:
    """All that transcripts absorb and draw in the block: kind, label, content, state afterwards."""
    log: list[tuple[str, str, Any, bytes]] = []

    def listening(name: str) -> Any:
        original = getattr(Transcript, name)

        def call(self: Transcript, label: str, *args: Any) -> Any:
            out = original(self, label, *args)
            log.append((name, label, args[0] if name == "absorb" else out, self.state))
            return out

        return mock.patch.object(Transcript, name, call)

    with ExitStack() as stack:
        for name in ("absorb", "challenge", "challenges", "challenge_array", "integers", "distinct_indices"):
            stack.enter_context(listening(name))
        yield log


def derived(place: Path) -> dict[str, str]:
    """The texts beside a case's public files: circuit.txt, transcript.txt, values.json."""
    (path,) = place.glob("model.*")
    model, data = Model.load(path), (place / "proof.bin").read_bytes()
    announced, file = load_announcement(place / "announce.json"), ProofFile.parse(data)
    statement = Statement.parse_header(file.header)
    pins = Expectations(
        statement.tau,
        DatasetRoot.load(place / "data.root"),
        announced.announcement_digest,
        statement.beacon,
        announced.config,
    )
    with heard() as log:
        verify_proof(data, model, pins)
    layout = certificate(statement, model, file.hashes).close(statement.tau, statement.variance)
    code = layout.code
    named = {} if statement.drand is None else {"drand": statement.drand.to_dict()}
    singles, triples = message_counts(layout, code.variables)
    pads, table = pad_code(singles, triples), soundness(layout)
    absorbed = {label: content for kind, label, content, _ in log if kind == "absorb"}
    drawn: dict[str, list[Any]] = {}
    for kind, label, content, _ in log:
        if kind != "absorb":
            drawn.setdefault(label, []).append(content)
    first = next(i for i, entry in enumerate(log) if entry[0] not in ("absorb", "integers"))
    slope, offset = input_affine(model.input, statement.dataset.schema.kind)
    values = {
        "statement": {
            "circuit": statement.circuit_digest.hex(),
            "weights": statement.weights_digest.hex(),
            "config": statement.config.digest.hex(),
            "dataset": statement.dataset.commitment_digest().hex(),
            "announcement": statement.announcement_digest.hex(),
            **named,
            "beacon": None if statement.beacon is None else statement.beacon.hex(),
            "seed": statement.seed.hex(),
            "indices": statement.indices(),
            "divisor": statement.config.divisor,
            "input": {"A": slope, "C": offset},
            "norms": {name: {"A": known["factors"], "m": known["means"]} for name, known in model.constants.items()},
            "tau_units": statement.config.of_steps.tau_units(statement.tau, model.classes),
        },
        "circuit": {
            "listing": listing_digest(layout).hex(),
            "parameters": json.loads(absorbed["parameters"]),
            "terms": layout.circuit.size.terms,
            "column_weights": column_weights(layout),
            "singles": singles,
            "triples": triples,
        },
        "matrix": {
            "row_bits": code.row_bits,
            "data_rows": code.data_rows[0],
            "mask_row": code.mask_row,
            "rows": code.rows,
            "log_n": code.log_n,
            "queries": code.queries,
            "tail": code.tail,
            "variables": code.variables,
        },
        "levels": [
            {"row_bits": v.row_bits, "rows": v.rows, "log_n": v.log_n, "queries": v.queries, "rounds": v.rounds}
            for v in code.levels
        ],
        "pads": {
            "block_bits": pads.block_bits,
            "message": pads.message,
            "single_rows": pads.single_rows,
            "triple_rows": pads.triple_rows,
            "log_n": pads.log_n,
            "queries": pads.queries,
        },
        "draws": {label: content[:8].tolist() for kind, label, content, _ in log if kind == "integers"},
        "first_challenge": {"label": log[first][1], "values": _elements(log[first][2])},
        "alpha": _elements(drawn["alpha"][0]),
        "xi": _elements(drawn["batch"][0]),
        "z": [_elements(r)[0] for r in reversed(drawn["rho/batch"])],
        "opened": _pairs(absorbed["opened"])[0],
        "queries": [drawn[f"queries/{level}"][0] for level in range(1, 2 + len(code.levels))],
        "pad_queries": drawn["pads/queries"][0],
        "equations": len(drawn["equations"][0]),
        "soundness": {
            "bits": round(table.bits, 6),
            "attempt_bits": round(table.attempt_bits, 6),
            "terms": {term.name: [round(term.error, 6), term.grind] for term in table.terms},
        },
    }
    return {
        "circuit.txt": "".join(f"{line}\n" for line in lines(layout)),
        "transcript.txt": "".join(f"{_line(*entry)}\n" for entry in log),
        "values.json": _text(values) + "\n",
    }


def _text(value: Any, depth: int = 2) -> str:
    """JSON with the keys of the outermost `depth` levels each on a line of its own."""
    if not depth or not isinstance(value, dict):
        return json.dumps(value, separators=(",", ": "))
    indent = " " * (3 - depth)
    return ",".join(f"\n{indent}{json.dumps(key)}: {_text(x, depth - 1)}" for key, x in value.items()).join("{}")


def _line(kind: str, label: str, content: Any, state: bytes) -> str:
    """Kind, label, how much, and the first bytes of the state afterwards."""
    if kind == "absorb":
        return f"absorb {label} {len(content)} {state[:6].hex()}"
    if kind in ("distinct_indices", "integers"):
        return f"{'integers' if kind == 'integers' else 'positions'} {label} {len(content)} {state[:6].hex()}"
    return f"draw {label} {len(_elements(content))} {state[:6].hex()}"


def _elements(drawn: Any) -> list[list[int]]:
    """Field elements as pairs of integers."""
    values = f_list(drawn) if isinstance(drawn, np.ndarray) else [drawn] if isinstance(drawn, F) else drawn
    return [[x.re, x.im] for x in values]


def _pairs(data: bytes) -> list[list[int]]:
    return np.frombuffer(data, "<u8").reshape(-1, 2).tolist()


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.vectors", description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(CASES)}; all if none is given")
    parser.add_argument("--out", type=Path, default=PLACE, help="the folder of the folders")
    args = parser.parse_args(argv)
    if unknown := sorted(set(args.names) - set(CASES)):
        parser.error(f"no case {unknown[0]}; there are {', '.join(CASES)}")
    for name in args.names or CASES:
        write_case(name, args.out / name)
        size = sum(path.stat().st_size for path in (args.out / name).iterdir())
        print(f"{name:<12} {size:>10,} bytes")


if __name__ == "__main__":
    main()
