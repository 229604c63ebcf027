"""The commands end to end on a tiny model, and what they say to bad input: one line, an exit code, no files."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from blake3 import blake3

import verifier.__main__ as standalone
from tests.conftest import TINY_CLASSES, TINY_INPUT, Outcome, tiny_samples
from verifier.report import Verdict
from verifier.soundness import SoundnessTable, Term
from verifier.verify import Expectations, Report
from zkcert import api
from zkcert.convert import from_sequential
from zkcert.core.container import ProofFile
from zkcert.files.models import stored
from zkcert.files.saving import save_root
from zkcert.public.model import Model
from zkcert.public.model_file import Content, write
from zkcert.public.root import DatasetRoot
from zkcert.public.statement import Statement
from zkcert.zoo import mlp

PROBE = ("--steps", 2, "--batch-size", 2)


def sha256_of(path: str | Path) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def refused(outcome: Outcome, code: int, *words: str, line: str = "error: ") -> None:
    """The error is the last line on stderr, without a traceback, and says what it should."""
    last = outcome.err.splitlines()[-1]
    assert (outcome.code, last.startswith(line)) == (code, True), outcome
    assert "Traceback" not in outcome.err + outcome.out
    assert all(word in last for word in words), last


def files() -> set[str]:
    return {path.name for path in Path().iterdir()}


# ------------------------------------------------------------------------------------------ the whole path


def test_commit_announce_prove_verify_through_the_command_line(run, tiny):
    """Float samples, the sam variant and a revealed score: what the shared certificate does not have."""
    x, y = tiny_samples(1)
    np.savez("floats.npz", x=(x / np.float32(255)).astype(np.float32), y=y)
    done = run("commit", "floats.npz", "-o", "mine.zkd", "--json")
    assert done.code == 0
    assert done.json["N"] == len(x)
    assert done.json["schema"]["kind"] == "q32"
    assert DatasetRoot.load("mine.root").root.hex() == done.json["root"]

    options = ("--tau", "9/2", *PROBE, "--rho", "0.1", "--lr", "1e-3", "--variant", "sam")
    announced = run("announce", tiny.model, "mine.root", *options)
    assert announced.code == 0
    digest = json.loads(Path("announce.json").read_text())["digest"]
    assert f"digest  {digest}" in announced.out

    done = run("prove", tiny.model, "mine.zkd", "--announcement", "announce.json", "--beacon", "c0ffee",
               "--rho", "1/10", "--reveal-score", "--json")  # fmt: skip
    assert done.code == 0, done.err
    assert "Traceback" not in done.err
    assert "WARNING: --reveal-score: A model that somebody else chose" in done.err
    proved = done.json
    assert proved["announcement"] == digest
    assert proved["bytes"] == Path("proof.bin").stat().st_size
    assert proved["private"]["cross_check"] < 1e-7
    assert proved["statement"]["score"] == pytest.approx(proved["private"]["score"])
    assert {"load", "witness", "reference", "self-check"} <= {phase["name"] for phase in proved["phases"]}
    assert [line.split()[0] for line in done.err.splitlines() if " s  " in line][:3] == ["load", "witness", "reference"]

    pins = ("--announcement", digest, "--data-root", "mine.root", "--beacon", "C0FFEE")
    for command in ("verify", "python -m verifier"):
        checked = run(command, "proof.bin", tiny.model, "--tau", 5, *pins, "--json")
        assert (checked.code, checked.err) == (0, "")
        assert checked.json["accepted"] is True
        assert checked.json["score"] == pytest.approx(proved["private"]["score"])
        assert checked.json["tau"] == "4.5"
        starts = ["2 steps: ", "only 4 samples", "the configuration is not", "the draw takes 4 of only 40"]
        assert all(text.startswith(s) for text, s in zip(checked.json["warnings"], starts, strict=True))
        assert checked.json["sha256"] == {"model": sha256_of(tiny.model), "proof": sha256_of("proof.bin")}

    measured = run("measure", tiny.model, "mine.zkd", "--beacon", "c0ffee", *options[2:], "--json").json
    assert measured["score"] == pytest.approx(proved["private"]["score"], abs=1e-7)
    assert np.shape(measured["draws"][0]["indices"]) == (2, 2)
    assert files() == {"floats.npz", "mine.zkd", "mine.root", "announce.json", "proof.bin"}


@pytest.mark.parametrize("command", ["verify", "python -m verifier"])
def test_verify_prints_what_was_proved(run, tiny, command):
    done = run(command, tiny.proof, tiny.model, "--tau", "2.5")
    statement = tiny.result.statement
    assert (done.code, done.err) == (0, "")
    for text in (
        statement.circuit_digest.hex(),
        f"{statement.weights_digest.hex()} (99 parameters)",
        statement.dataset.root.hex(),
        "N = 40 samples, u8 1x3x4, 3 classes",
        "T = 2 batches of B = 2, rho 0.05, lr 0.0001, eps 0.00000001, asam-all, ddof 0",
        f"{statement.seed.hex()} from the beacon {tiny.beacon}",
        "<= tau = 2.5",
        "score         private",
        f"model file    sha256 {sha256_of(tiny.model)}\n",
        f"proof file    sha256 {sha256_of(tiny.proof)}\n",
        "soundness     a forger has to compute 2^",
        "a single attempt succeeds with a chance of at most 2^-",
        "WARNING: BEACON NOT CHECKED",
        "WARNING: NOT COMPARED WITH AN ANNOUNCEMENT",
        "WARNING: DATASET NOT CHECKED",
    ):
        assert text in done.out
    assert done.out.splitlines()[-1].startswith("ACCEPTED: the score is at most 2.5 (asked: 2.5)")


def test_verify_without_a_beacon_warns_loudly(run, tiny):
    statement = replace(tiny.result.statement, beacon=None)
    verdict = Verdict(
        Report(statement, standalone_table(), 99, 1),
        Expectations(statement.tau),
        0.0,
        "00" * 32,
        "11" * 32,
    )
    assert verdict.warnings[0].startswith("NO BEACON")
    assert any("from the statement alone: NO BEACON" in line for line in verdict.lines())


def standalone_table():
    return SoundnessTable((Term("all", -100.0),))


def test_console_scripts_and_modules_are_the_same_programs(tiny):
    arguments = [str(tiny.proof), str(tiny.model), "--tau", "2.4"]
    scripts = Path(sys.executable).parent
    for command in (
        [scripts / "verify"],
        [sys.executable, "-m", "verifier"],
        [scripts / "zkcert", "verify"],
        [sys.executable, "-m", "zkcert", "verify"],
    ):
        done = subprocess.run([*command, *arguments], capture_output=True, text=True)
        assert done.returncode == 1
        assert done.stderr.startswith("REJECTED tau: ")
        assert done.stdout == ""


def test_inspect_reads_the_statement_without_the_model(run, tiny):
    done = run("inspect", tiny.proof)
    assert done.code == 0
    assert tiny.result.statement.dataset.root.hex() in done.out
    assert "Nothing of this has been checked" in done.out
    found = run("inspect", tiny.proof, "--json").json
    assert found["bytes"] == tiny.result.size
    assert found["announcement"] == tiny.result.statement.announcement_digest.hex()


def test_inspect_prints_the_circuit_of_a_model(run, tiny):
    done = run("inspect", tiny.model, "--circuit", "--steps", "2", "--batch-size", "2")
    assert done.code == 0 and done.out.startswith("zkcert circuit 2\ntensor 0 sample/bytes 2 2,13 0:256:0\n")
    found = run("inspect", tiny.model, "--circuit", "--steps", "2", "--batch-size", "2", "--json").json
    assert "".join(f"{line}\n" for line in found["lines"]) == done.out
    assert found["digest"] == blake3(done.out.encode()).hexdigest()
    announced = run("inspect", tiny.model, "--circuit", "--announcement", tiny.announcement).out
    assert announced != done.out and announced.startswith("zkcert circuit 2\n")  # of another tau
    refused(run("inspect", tiny.proof, "--steps", "2"), 2, "for --circuit")
    refused(run("inspect", tiny.proof, "--circuit"), 2, "is a proof, where a model file is expected")


def test_help_explains_why_the_announcement_comes_first(run):
    for command in (["--help"], ["announce", "--help"], ["verify", "--help"], []):
        done = run(*command or ["--help"])
        assert (done.code, done.err) == (0, "")
        if command[1:]:
            assert "before the beacon exists" in " ".join(done.out.split())


def test_commit_refuses_to_replace_a_secret(run, tiny):
    assert run("commit", tiny.dataset).code == 0
    before = Path("data.zkd").read_bytes(), Path("data.root").read_bytes()
    for force in ((), ("--force",)):
        refused(run("commit", tiny.dataset, *force), 2, "data.zkd exists", "never replaced")
    Path("data.zkd").rename("kept.zkd")
    refused(run("commit", tiny.dataset), 2, "data.root exists", "--force")
    assert (Path("kept.zkd").read_bytes(), Path("data.root").read_bytes()) == before
    assert run("commit", tiny.dataset, "--force").code == 0
    assert Path("data.root").read_bytes() != before[1]


# ------------------------------------------------------------------------------------------ rejected proofs


def flipped(data: bytes, position: int) -> bytes:
    out = bytearray(data)
    out[position] ^= 1 << (position % 8)
    return bytes(out)


def forgeries(data: bytes) -> dict[str, bytes]:
    """Damaged proofs by name: of every section, its framing, and the whole."""
    parts = ProofFile.parse(data)
    header = 16 + 8
    hashes = header + len(parts.header) + 8
    multiproof = hashes + parts.hashes.nbytes + 8
    argument = multiproof + len(parts.multiproof) + 8
    rng = np.random.default_rng(3)
    lower = replace(Statement.parse_header(parts.header), tau=parts_tau(parts) / 2)
    flips = {
        "magic": 3,
        "length": 16,
        "header": header + 20,
        "hashes": hashes + 8,
        "multiproof": multiproof + 5,
        "roots": argument + 8 + 1,
        "messages": argument + 8 + 64 + 8 + 40,
        "last byte": len(data) - 1,
    } | {f"random {i}": int(rng.integers(argument, len(data))) for i in range(3)}
    return {f"flipped {name}": flipped(data, position) for name, position in flips.items()} | {
        "empty": b"",
        "cut short": data[:-1],
        "cut in half": data[: len(data) // 2],
        "extended": data + b"\0",
        "random": rng.bytes(5000),
        "magic and random": data[:16] + rng.bytes(5000),
        "another threshold": replace(parts, header=lower.header()).to_bytes(),
        "header of no JSON": replace(parts, header=b"{" * 2000).to_bytes(),
        "one hash fewer": replace(parts, hashes=parts.hashes[1:]).to_bytes(),
        "hashes swapped": replace(parts, hashes=parts.hashes[[1, 0, 2, 3]]).to_bytes(),
        "empty argument": replace(parts, argument=b"").to_bytes(),
    }


def parts_tau(parts: ProofFile):
    return Statement.parse_header(parts.header).tau


def test_damaged_proofs_are_rejected(run, tiny):
    for name, data in forgeries(tiny.proof.read_bytes()).items():
        Path("forged.bin").write_bytes(data)
        done = run("verify", "forged.bin", tiny.model, "--tau", 128, "--json")
        refused(done, 1, line="REJECTED ")
        assert len(done.err.splitlines()) == 1, name
        assert done.json["accepted"] is False
        assert done.json["check"], name
        assert done.err.strip() == f"REJECTED {done.json['reason']}"


@pytest.mark.parametrize("command", ["verify", "python -m verifier"])
def test_proof_of_something_else_is_rejected_by_name(run, tiny, tmp_path, command):
    params = {name: array.copy() for name, array in Model.load(tiny.model).params.items()}
    next(iter(params.values())).flat[0] += 2.0**-16
    genuine = Model.load(tiny.model)
    Model(genuine.graph, genuine.input, params).save("changed.safetensors")
    from_sequential(mlp(12, [5], TINY_CLASSES), input=TINY_INPUT).save("other.pt")
    root = DatasetRoot.load(tiny.root)
    save_root(replace(root, n=root.n - 1), "fewer.root")
    run("announce", tiny.model, tiny.root, "--tau", "2.5", *PROBE, "--eps", "1e-7", "-o", "other.json")
    for check, model, *options in (
        ("model", "changed.safetensors"),
        ("model", "other.pt"),
        ("tau", tiny.model, "--tau", "2.4999"),
        ("data-root", tiny.model, "--data-root", "00" * 32),
        ("data-root", tiny.model, "--data-root", "fewer.root"),
        ("announcement", tiny.model, "--announcement", "11" * 32),
        ("announcement", tiny.model, "--announcement", "other.json"),
        ("beacon", tiny.model, "--beacon", tiny.beacon + "00"),
    ):
        tau = () if "--tau" in options else ("--tau", 3)
        done = run(command, tiny.proof, model, *tau, *options)
        refused(done, 1, line=f"REJECTED {check}: ")
        assert (done.out, len(done.err.splitlines())) == ("", 1)


@pytest.mark.parametrize("command", ["verify", "python -m verifier"])
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["missing.bin", "MODEL", "--tau", 1], ["missing.bin"]),
        (["PROOF", "missing.pt", "--tau", 1], ["missing.pt"]),
        (["PROOF", ".", "--tau", 1], []),
        (["PROOF", "PROOF", "--tau", 1], ["model file"]),
        (["PROOF", "MODEL"], ["--tau"]),
        (["PROOF", "MODEL", "--tau", "x"], ["tau must be a number"]),
        (["PROOF", "MODEL", "--tau", "-1"], ["tau"]),
        (["PROOF", "MODEL", "--tau", "nan"], ["tau must be a number"]),
        (["PROOF", "MODEL", "--tau", 1, "--beacon", "xyz"], ["hexadecimal"]),
        (["PROOF", "MODEL", "--tau", 1, "--beacon", ""], ["beacon"]),
        (["PROOF", "MODEL", "--tau", 1, "--data-root", "abcd"], ["abcd"]),
        (["PROOF", "MODEL", "--tau", 1, "--data-root", "MODEL"], ["root"]),
        (["PROOF", "MODEL", "--tau", 1, "--announcement", "MODEL"], ["announcement"]),
        (["PROOF", "MODEL", "--tau", 1, "--nonsense"], ["--nonsense"]),
        (["PROOF", "MODEL", "more", "--tau", 1], ["more"]),
    ],
)
def test_verifiers_own_bad_input_is_unusable(run, tiny, command, arguments, words):
    names = {"PROOF": tiny.proof, "MODEL": tiny.model}
    done = run(command, *(names.get(argument, argument) for argument in arguments))
    refused(done, 2, *words)
    assert len(done.err.splitlines()) == 1
    assert done.out == ""


# ---------------------------------------------------------------------------------- the prover's bad input


def save_raw(path: str, graph: list[dict], state: dict[str, np.ndarray], spec: dict = TINY_INPUT) -> None:
    """A model file that Model itself would refuse to write."""
    tensors = {name: stored(array) for name, array in state.items()}
    Path(path).write_bytes(b"".join(write(Content(graph, spec, tensors, False))))


def tiny_parts(tiny) -> tuple[list[dict], dict[str, np.ndarray]]:
    model = Model.load(tiny.model)
    return model.graph, {name: array.copy() for name, array in model.params.items()}


def write_model(tiny, change: str) -> None:
    """bad.pt: the tiny model with one thing wrong."""
    graph, state = tiny_parts(tiny)
    spec, first = dict(TINY_INPUT), next(iter(state))
    match change:
        case "NaN":
            state[first].flat[3] = np.nan
        case "infinity":
            state[first].flat[3] = np.inf
        case "too large":
            state[first].flat[3] = 128.0
        case "activations":
            state = {name: np.full_like(array, 15.5) for name, array in state.items()}
            spec["mean"] = [-20.0]  # all inputs are large and positive, whatever samples are drawn
        case "shape":
            spec["shape"] = [1, 4, 3]
        case "layer":
            graph.insert(2, {"op": "gelu", "name": "odd-one"})
        case "code":
            torch.save(mlp(12, [6], TINY_CLASSES), "bad.pt")
            return
        case "no weights":
            graph, state = [{"op": "flatten", "name": "flatten"}], {}
    save_raw("bad.pt", graph, state, spec)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("NaN", ["fc1.weight", "NaN"]),
        ("infinity", ["fc1.weight", "NaN or infinity"]),
        ("too large", ["fc1.weight", "128", "weight decay"]),
        ("activations", ["exceeds the limit"]),
        ("shape", ["samples of shape [1, 4, 3], the dataset has [1, 3, 4]"]),
        ("layer", ["odd-one", "gelu", "has no circuit"]),
        ("code", ["bad.pt: not in the form zkcert writes", "zkcert convert"]),
        ("no weights", ["no weights"]),
    ],
)
def test_prove_refuses_a_bad_model(run, tiny, change, words):
    write_model(tiny, change)
    done = run("prove", "bad.pt", tiny.data, "--tau", 3, *PROBE, "--beacon", "00")
    refused(done, 2, *words)
    assert files() == {"bad.pt"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--steps", 20, "--batch-size", 3], ["need 60", "has 40"]),
        (["--steps", 1], ["steps"]),
        (["--steps", "two"], ["steps"]),
        (["--batch-size", 3, "--steps", 2, "--lr", "0.7"], ["batch_size/lr", "change lr"]),
        (["--rho", "9"], ["rho"]),
        (["--eps", "-1"], ["eps"]),
        (["--variant", "sgd"], ["variant", "asam-all"]),
        ([*PROBE, "--device", "abacus"], ["abacus"]),
        ([*PROBE, "--beacon", "0"], ["hexadecimal"]),
        ([*PROBE, "-o", "nowhere/proof.bin"], ["nowhere"]),
        ([*PROBE, "-o", "."], ["is a directory"]),
        (["--announcement", "missing.json"], ["missing.json"]),
        (["--nonsense"], ["--nonsense"]),
    ],
)
def test_prove_refuses_bad_options(run, tiny, options, words):
    refused(run("prove", tiny.model, tiny.data, "--tau", 3, *options), 2, *words)
    assert not files()


def test_prove_needs_a_threshold(run, tiny):
    refused(run("prove", tiny.model, tiny.data, *PROBE), 2, "--tau", "--announcement")


@pytest.mark.parametrize("damage", ["flip", "cut", "foreign", "missing", "directory", "empty"])
def test_prove_refuses_damaged_data(run, tiny, damage):
    data = tiny.data.read_bytes()
    content = {
        "flip": flipped(data, len(data) // 2),
        "cut": data[:-40],
        "foreign": tiny.proof.read_bytes(),
        "empty": b"",
    }
    if damage in content:
        Path("bad.zkd").write_bytes(content[damage])
    elif damage == "directory":
        Path("bad.zkd").mkdir()
    before = files()
    refused(run("prove", tiny.model, "bad.zkd", "--tau", 3, *PROBE, "--beacon", "00"), 2, "bad.zkd")
    refused(run("measure", tiny.model, "bad.zkd", *PROBE), 2, "bad.zkd")
    assert files() == before


def test_prove_refuses_labels_beyond_the_models_classes(run, tiny):
    x, y = tiny_samples()
    np.savez("labels.npz", x=x, y=y + 2)
    assert run("commit", "labels.npz").code == 0
    done = run("prove", tiny.model, "data.zkd", "--tau", 3, *PROBE, "--beacon", "00")
    refused(done, 2, "3 classes", "the dataset 5")
    refused(run("announce", tiny.model, "data.root", "--tau", 3, *PROBE), 2, "--classes 3, which no label may reach")
    refused(run("commit", "labels.npz", "--classes", 3, "-o", "few.zkd"), 2, "labels up to 4")
    assert files() == {"labels.npz", "data.zkd", "data.root"}


def test_announce_replaces_another_announcement_only_when_forced(run, tiny):
    options = ("announce", tiny.model, tiny.root, *PROBE, "--tau")
    assert run(*options, 3).code == 0
    first = Path("announce.json").read_bytes()
    assert run(*options, 3).code == 0
    refused(run(*options, 4), 2, "announce.json", "--force")
    assert Path("announce.json").read_bytes() == first
    assert run(*options, 4, "--force").code == 0
    assert Path("announce.json").read_bytes() != first


def test_prove_refuses_data_and_model_that_were_not_announced(run, tiny):
    assert run("commit", tiny.dataset).code == 0
    from_sequential(mlp(12, [6], TINY_CLASSES, seed=9), input=TINY_INPUT).save("other.pt")
    options = ("--announcement", tiny.announcement, "--beacon", "00")
    before = files()
    refused(run("prove", tiny.model, "data.zkd", *options), 2, "announcement", "dataset changed")
    refused(run("prove", "other.pt", tiny.data, *options), 2, "announcement", "weights changed")
    refused(run("prove", tiny.model, tiny.data, *options, "--steps", 3), 2, "configuration changed")
    assert files() == before


def test_score_above_tau_writes_no_proof_and_exits_with_one(run, tiny):
    tau = f"{tiny.result.score / 2:.6f}"
    done = run("prove", tiny.model, tiny.data, "--tau", tau, *PROBE, "--beacon", tiny.beacon)
    refused(done, 1, "score", "above tau", "no proof is written")
    assert not files()


def test_proving_without_beacon_or_announcement_warns(run, tiny):
    options = ("prove", tiny.model, tiny.data, "--tau", "0.00001", *PROBE)
    assert "WARNING: no --beacon" in run(*options).err
    assert "WARNING: no --announcement" in run(*options, "--beacon", "00").err
    refused(run("prove", tiny.model, "missing.zkd", *options[3:]), 2, "missing.zkd")
    assert "WARNING" not in run("prove", tiny.model, "missing.zkd", *options[3:]).err  # nothing but the error


@pytest.mark.parametrize(
    "arguments",
    [
        ["commit", "missing.npz"],
        ["commit", "DATA", "-o", "data.bin"],
        ["commit", "DATA", "-o", "nowhere/data.zkd"],
        ["commit", "MODEL"],
        ["announce", "MODEL", "DATA", "--tau", 1],
        ["announce", "MODEL", "missing.root", "--tau", 1],
        ["announce", "MODEL", "ROOT", "--tau", 200],
        ["announce", "MODEL", "ROOT"],
        ["inspect", "missing.bin"],
        ["measure", "MODEL", "missing.npz"],
        ["measure", "missing.pt", "DATA"],
        ["nonsense"],
    ],
)
def test_other_commands_refuse_bad_input(run, tiny, arguments: Sequence[object]):
    names = {"MODEL": tiny.model, "DATA": tiny.dataset, "ROOT": tiny.root}
    done = run(*(names.get(argument, argument) for argument in arguments))
    refused(done, 2)
    assert len(done.err.splitlines()) == 1
    assert not files()


def test_inspecting_what_is_no_proof_is_a_rejection(run, tiny):
    Path("empty").write_bytes(b"")
    for other in (__file__, "empty"):
        refused(run("inspect", other), 1, "not a zkcert proof", "zkcert prove", line="REJECTED format: ")
    refused(run("inspect", tiny.model), 1, "is a model file, where a proof is expected", line="REJECTED format: ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("verify", "MODEL", "PROOF", "--tau", 5), "proof.bin is a proof, where a model"),
        (("verify", "PROOF", "MODEL", "--tau", 5, "--data-root", "ANNOUNCED"), "is an announcement, where the public"),
        (("verify", "PROOF", "MODEL", "--tau", 5, "--announcement", "ROOT"), "(data.root), where an announcement"),
        (("prove", "SECRET", "MODEL", "--tau", 5), "data.zkd is the secret file"),
        (("prove", "MODEL", "DATA", "--tau", 5), "samples.npz is a dataset, where the secret file"),
        (("prove", "MODEL", "ROOT", "--tau", 5), "data.root is the public file"),
        (("prove", "MODEL", "SECRET", "--announcement", "MODEL"), "model.pt is a model file, where an announcement"),
        (("prove", "MODEL", "SECRET", "--announcement", "ROOT", "--steps", 2), "where an announcement"),
        (("announce", "ROOT", "MODEL", "--tau", 5), "data.root is the public file"),
        (("announce", "MODEL", "SECRET", "--tau", 5), "data.zkd is the secret file"),
        (("commit", "MODEL"), "model.pt is a model file, where a dataset"),
        (("measure", "DATA", "MODEL"), "samples.npz is a dataset, where a model file"),
        (("measure", "MODEL", "PROOF"), "proof.bin is a proof, where a dataset"),
        (("estimate", "DATA"), "samples.npz is a dataset, where a model file"),
    ],
)
def test_swapped_files_are_told_apart(run, tiny, arguments, words):
    names = {"MODEL": tiny.model, "DATA": tiny.dataset, "ROOT": tiny.root, "SECRET": tiny.data, "PROOF": tiny.proof}
    names["ANNOUNCED"] = tiny.announcement
    done = run(*(names.get(argument, argument) for argument in arguments))
    refused(done, 2, words)
    assert not files()


def test_estimate_prints_sizes_time_and_memory(run, tiny):
    done = run("estimate", tiny.model, *PROBE, "--data-root", tiny.root)
    assert done.code == 0
    for text in ("99; T = 2, B = 2", "table entries", "range checks", "available)", "--scratch DIR", " GB of disk"):
        assert text in done.out
    figures = run("estimate", tiny.model, *PROBE, "--json").json
    assert figures["proof_bytes"] == pytest.approx(tiny.result.size, rel=0.01)
    assert figures["seconds"] == pytest.approx(sum(figures["phases"].values()), abs=0.1)


def test_prove_with_a_scratch_file_leaves_the_proof_and_nothing_else(run, tiny):
    Path("room").mkdir()
    done = run("prove", tiny.model, tiny.data, "--announcement", tiny.announcement, "--beacon", tiny.beacon,
               "--scratch", "room")  # fmt: skip
    assert done.code == 0, done.err
    assert re.search(r"of memory and [0-9.]+ GB of disk", done.err)
    assert files() == {"room", "proof.bin"} and not list(Path("room").iterdir())
    assert run("verify", "proof.bin", tiny.model, "--tau", tiny.tau).code == 0


def test_prove_resumes_from_its_checkpoint_and_says_what_it_costs(run, tiny, monkeypatch):
    arguments = ("prove", tiny.model, tiny.data, "--announcement", tiny.announcement, "--beacon", tiny.beacon,
                 "--checkpoint", "kept")  # fmt: skip
    with monkeypatch.context() as patch:
        patch.setattr("prover.commit.MatrixCommitment.open", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        done = run(*arguments)
    refused(done, 130, "no proof was written; the same command goes on from kept", line="interrupted; ")
    assert files() == {"kept"}
    refused(run(*arguments[:6], "00", *arguments[7:]), 2, "the beacon differs")
    done = run(*arguments)
    assert done.code == 0, done.err
    assert files() == {"proof.bin"}
    assert " digits: about " in done.err
    assert "of memory" in done.out
    assert "range checks" not in done.out  # the phases are on stderr
    assert run("verify", "proof.bin", tiny.model, "--tau", tiny.tau).code == 0


def test_unexpected_system_errors_are_one_line(run, tiny, monkeypatch):
    for error, words in (
        (MemoryError(), ["out of memory"]),
        (PermissionError(13, "Permission denied", "somewhere"), ["somewhere: Permission denied"]),
    ):
        fail = Mock(side_effect=error)
        monkeypatch.setattr(api, "inspect", fail)
        refused(run("inspect", tiny.proof), 2, *words)
        monkeypatch.setattr(standalone, "verify_files", fail)
        refused(run("python -m verifier", tiny.proof, tiny.model, "--tau", 1), 2, *words)
