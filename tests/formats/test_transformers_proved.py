"""Transformers from module and data to a verified proof, by the commands that people type."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from tests.attending import GPT, ViT, spread
from zkcert import api, cli
from zkcert.data.dataset import load_dataset
from zkcert.errors import ProofRejected
from zkcert.public.config import ProbeConfig

CONFIG = ProbeConfig(steps=2, batch_size=2)
BEACON = "5a" * 32


def proved(place: Path, data: str | Path, **options: Any) -> dict[str, Path]:
    """model.pt of a folder, committed to, checked, announced, proved; the files."""
    files = {name: place / name for name in ("model.pt", "data.zkd", "data.root", "announce.json", "proof.bin")}
    api.commit(data, files["data.zkd"], **options)
    found = api.check(files["model.pt"], files["data.zkd"], config=CONFIG)
    assert found.passed and found.dry_run is not None and found.dry_run.difference < 1e-6
    api.announce(files["model.pt"], files["data.root"], files["announce.json"], tau="100", config=CONFIG)
    done = api.prove(
        files["model.pt"],
        files["data.zkd"],
        files["proof.bin"],
        announcement=files["announce.json"],
        beacon=BEACON,
    )
    measured = api.measure(files["model.pt"], files["data.zkd"], config=CONFIG, beacon=BEACON)
    assert abs(done.score - measured.score) < 1e-6
    return files


def verified(files: dict[str, Path]) -> None:
    pins = {"data_root": files["data.root"], "announcement": files["announce.json"], "beacon": BEACON}
    api.verify(files["proof.bin"], files["model.pt"], tau=100, config=CONFIG, **pins)
    with pytest.raises(ProofRejected):
        api.verify(files["proof.bin"], files["model.pt"], tau="0.000001", config=CONFIG, **pins)


@pytest.mark.parametrize(
    "module",
    [
        pytest.param(lambda: ViT(norm_first=False), id="class token, norms behind"),
        pytest.param(lambda: ViT(token=False, activation="gelu"), id="mean, norms first", marks=pytest.mark.slow),
    ],
)
def test_a_vision_transformer(tmp_path, module):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "d.npz", x=rng.integers(0, 256, (20, 2, 4, 6), dtype=np.uint8), y=np.arange(20) % 3)
    spec = {"shape": [2, 4, 6], "pad": 0, "mean": [0.5, 0.5], "std": [0.25, 0.25]}
    api.convert_model(spread(module()), tmp_path / "model.pt", input=spec)
    verified(proved(tmp_path, tmp_path / "d.npz"))


@pytest.mark.parametrize(("kind", "tied"), [("manual", True), pytest.param("apart", False, marks=pytest.mark.slow)])
def test_a_gpt(tmp_path, kind, tied):
    np.save(tmp_path / "t.npy", np.random.default_rng(0).integers(0, 7, 200))
    module: nn.Module = spread(GPT(kind=kind, tied=tied))
    api.convert_model(module, tmp_path / "model.pt", input={"shape": [1, 1, 6], "tokens": 7})
    verified(proved(tmp_path, tmp_path / "t.npy", context=6, classes=7))


OTHERS = {
    "rms": ("--statistic", "rms", "--variant", "asam-samsung", "--eta", "1/4"),
    "std": ("--statistic", "std", "--ddof", "1", "--variant", "asam-shifted"),
    "max": ("--statistic", "max", "--variant", "sam"),
    "std-log-ratio": ("--ddof", "1"),
}


@pytest.mark.parametrize("statistic", OTHERS)
def test_other_statistics_and_variants_of_tokens(run, statistic):
    """One value of s_t for a batch of windows, whatever is made of them: as of images, by the same options."""
    np.save("t.npy", np.random.default_rng(0).integers(0, 5, 60))
    api.convert_model(spread(GPT(5, 3, 4, 2)), "model.pt", input={"shape": [1, 1, 3], "tokens": 5})
    api.commit("t.npy", "data.zkd", context=3, classes=5)
    probe = ("--steps", "3", "--batch-size", "2", *OTHERS[statistic])
    assert run("announce", "model.pt", "data.root", "--tau", "100", *probe).code == 0
    reveal = () if statistic == "max" else ("--reveal-score",)
    done = run("prove", "model.pt", "data.zkd", "--announcement", "announce.json", "--beacon", BEACON, *reveal)
    assert done.code == 0, done.err
    found = run("measure", "model.pt", "data.zkd", *probe, "--beacon", BEACON, "--json").json
    s, ratios = (np.array(found["draws"][0][key]) for key in ("sharpness", "log_ratio"))
    wanted = {
        "rms": np.sqrt(np.mean(s**2)),
        "std": np.std(s, ddof=1),
        "max": s.max(),
        "std-log-ratio": np.std(ratios, ddof=1),
    }[statistic]
    assert found["score"] == pytest.approx(wanted, rel=1e-12)
    config = ",".join(f"{k}={v}" for k, v in json.loads(Path("announce.json").read_text())["config"].items())
    pins = ("--data-root", "data.root", "--announcement", "announce.json", "--beacon", BEACON, "--config", config)
    for command in ("verify", "python -m verifier"):
        done = run(command, "proof.bin", "model.pt", "--tau", "100", *pins)
        assert (done.code, done.err) == (0, "")
        if reveal:
            (line,) = (line for line in done.out.splitlines() if line.startswith("score "))
            assert float(line.split()[1]) == pytest.approx(wanted, rel=1e-5)
        assert run(command, "proof.bin", "model.pt", "--tau", "0.000001", *pins).code == 1
        assert run(command, "proof.bin", "model.pt", "--tau", "100", *pins[:-1], "steps=3,batch_size=2").code == 1


@pytest.mark.slow
def test_more_than_256_tokens_have_two_bytes(tmp_path):
    tokens = np.random.default_rng(0).integers(0, 300, 120)
    np.save(tmp_path / "t.npy", tokens)
    module = spread(GPT(300, 3, 4, 2))
    api.convert_model(module, tmp_path / "model.pt", input={"shape": [1, 1, 3], "tokens": 300})
    files = proved(tmp_path, tmp_path / "t.npy", context=3, classes=300)
    assert json.loads(files["data.root"].read_text())["schema"]["label_bytes"] == 2
    verified(files)


def test_from_a_text_by_commands(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text("to be, or not to be: that is the question\n" * 8)
    Path("net.py").write_text(
        "from tests.attending import GPT, spread\n\n\ndef make():\n    return spread(GPT(16, 6, 8, 2))\n"
    )
    tokens = len(load_dataset("text.txt", context=6, vocabulary="characters").names)
    assert tokens == 16

    def run(*arguments: str, code: int = 0) -> str:
        assert cli.main(list(arguments)) == code, capsys.readouterr().err
        return capsys.readouterr().out

    reading = ("--context", "6", "--vocabulary", "characters")
    assert "OBSTACLE" not in run("check", "net.py:make", "text.txt", *reading, "--steps", "2", "--batch-size", "2")
    run("convert", "net.py:make", "--shape", "6", "--tokens", "16", "-o", "model.pt")
    shown = run("commit", "text.txt", *reading, "--look")
    assert "windows of 6 tokens and the one behind, 16 tokens: \\u000a, \\u0020, ," in shown
    run("commit", "text.txt", *reading)
    assert "positions" in run("measure", "model.pt", "data.zkd", "--steps", "2", "--batch-size", "2")
    run("announce", "model.pt", "data.root", "--tau", "100", "--steps", "2", "--batch-size", "2")
    run("prove", "model.pt", "data.zkd", "--announcement", "announce.json", "--beacon", BEACON)
    pins = ("--config", "steps=2,batch_size=2", "--data-root", "data.root", "--announcement", "announce.json")
    said = run("verify", "proof.bin", "model.pt", "--tau", "100", *pins, "--beacon", BEACON)
    assert "windows of 6 tokens and the one behind" in said
    run("verify", "proof.bin", "model.pt", "--tau", "0.000001", *pins, "--beacon", BEACON, code=1)


def test_training_a_gpt(tmp_path):
    (path := tmp_path / "text.txt").write_text("to be, or not to be: that is the question\n" * 8)
    data = load_dataset(path, context=4, vocabulary="characters")
    found = api.train("gpt", data, tmp_path / "model.pt", epochs=1, batch_size=64, test=data)
    assert found.input == {"shape": [1, 1, 4], "tokens": 16} and found.classes == 16
    assert len(found.losses) == len(found.accuracies) == 1 and 0 <= found.accuracy <= 1
    measured = api.measure(tmp_path / "model.pt", data, config={"steps": 2, "batch_size": 20}, seed="a")
    assert measured.fit.n == 160
