"""calibrate and mia from the command line, and --tau calibration.json everywhere."""

from __future__ import annotations

import json
from fractions import Fraction

import numpy as np
import pytest
import torch
from blake3 import blake3

import zkcert
from tests.soundness.test_imports import HEAVY, run_without
from zkcert import api
from zkcert.api.calibration import data_digest
from zkcert.api.samples import open_samples
from zkcert.calibration import load_calibration
from zkcert.cli import main
from zkcert.cli.calibration import spread
from zkcert.convert import from_module
from zkcert.data.normalised import input_values
from zkcert.errors import ProofRejected, UnusableInput
from zkcert.files.saving import save_calibration
from zkcert.metric import Network, Probe
from zkcert.metric.calibrate import assess
from zkcert.metric.membership import example_scores
from zkcert.public.model import Model
from zkcert.zoo import mlp

INPUT = {"shape": [1, 4, 4], "pad": 0, "mean": [0.5], "std": [0.25]}
DOUBT = "WARNING: calibration: 1 bad draws cannot resolve a risk of 0"  # of those that `pinned` makes
PROBE = ["--steps", "3", "--batch-size", "4", "--lr", "0.01"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Models m0 to m3, datasets of 40 samples: a and b with the same images, c, floats, and small of another shape."""
    place = tmp_path_factory.mktemp("place")
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (40, 1, 4, 4), dtype=np.uint8), rng.integers(0, 3, 40)
    np.savez(place / "a.npz", x=x, y=y)
    np.savez(place / "b.npz", x=x, y=(y + 1) % 3)
    np.savez(place / "c.npz", x=rng.integers(0, 256, (40, 1, 4, 4), dtype=np.uint8), y=y)
    np.savez(place / "floats.npz", x=(x / 255).astype(np.float32), y=y)
    np.savez(place / "small.npz", x=x[:, :, :3, :3], y=y)
    for seed in range(4):
        from_module(mlp(16, [6], 3, seed=seed), input=INPUT).save(place / f"m{seed}.pt")
    return place


def run(capsys, *arguments: object) -> tuple[int, str, str]:
    code = main([str(a) for a in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


# ------------------------------------------------------------------------------------------- calibrate


def test_calibrate_writes_what_it_prints_and_measure_agrees(place, tmp_path, capsys):
    out, plot = tmp_path / "calibration.json", tmp_path / "roc.png"
    models = [place / "m0.pt", place / "m1.pt", "--bad", place / "m2.pt", f"{place / 'm3.pt'}@{place / 'b.npz'}"]
    options = ["--data", place / "a.npz", "--draws", 3, "--seed", "s", "--risk", "0.2", "--plot", plot, "-o", out]
    code, text, _ = run(capsys, "calibrate", *models, *options, *PROBE, "--json")
    assert code == 0
    shown, made = json.loads(text), load_calibration(out)
    assert {k: v for k, v in shown.items() if k not in ("file", "gap", "warnings")} == json.loads(out.read_text())
    assert shown["warnings"] == made.warnings() and shown["gap"] == made.gap
    assert [m.name for m in made.good] == ["m0.pt", "m1.pt"] and [m.name for m in made.bad] == ["m2.pt", "m3.pt"]
    names = {source.digest: source.name for source in made.data}
    assert [names[m.data] for m in (*made.good, *made.bad)] == ["a.npz"] * 3 + ["b.npz"]
    assert plot.read_bytes().startswith(b"\x89PNG")
    for file, model, data in (("m1.pt", made.good[1], "a.npz"), ("m3.pt", made.bad[1], "b.npz")):
        for draw in range(3):
            seed = f"s/{model.model[:16]}/{draw}"
            code, text, _ = run(capsys, "measure", place / file, place / data, "--seed", seed, *PROBE, "--json")
            assert code == 0 and json.loads(text)["score"] == pytest.approx(model.scores[draw], rel=1e-12)


def test_calibrate_for_people(place, tmp_path, capsys):
    models = [place / "m0.pt", "--bad", place / "m1.pt", place / "m2.pt", "--data", place / "a.npz"]
    code, text, _ = run(capsys, "calibrate", *models, "--draws", 4, "-o", tmp_path / "c.json", *PROBE)
    made = load_calibration(tmp_path / "c.json")
    assert code == 0
    assert f"tau       {made.tau_text}, at a risk of 0.05" in text
    rows = {line.split()[0]: line for line in text.splitlines() if line.strip()}
    assert "of 8 bad draws" in rows["accepted"] and rows["accepted"].endswith(": tau was chosen on these")
    assert "of 4 good draws" in rows["rejected"] and "chosen" not in rows["rejected"]
    assert "not independent models" in text
    assert [line.split()[1] for line in text.splitlines() if line.startswith("│ m")] == ["m0.pt", "m1.pt", "m2.pt"]
    assert "WARNING: only 1 good model" in text
    assert all(f"WARNING: {warning}" in text for warning in made.warnings())


def test_classes_that_do_not_separate_are_a_loud_warning_and_no_failure(place, tmp_path, capsys):
    """Two untrained models of the same kind: nothing separates them."""
    bad = [f"{place / f'm{i}.pt'}@{place / 'a.npz'}" for i in (0, 1)]
    good = [f"{place / f'm{i}.pt'}@{place / 'a.npz'}" for i in (2, 3)]
    codes, texts = [], []
    for first, second in ((good, bad), (bad, good)):
        code, text, err = run(
            capsys,
            "calibrate",
            *first,
            "--bad",
            *second,
            "--draws",
            8,
            "-o",
            tmp_path / "c.json",
            *PROBE,
            "--force",
            "--json",
        )
        codes.append(code)
        assert all(warning in err for warning in json.loads(text)["warnings"])
        texts.append(text)
    assert codes == [0, 0]
    assert any("INVERTED" in text for text in texts)  # one of the two orders has an AUC below 1/2


def test_good_models_alone(place, tmp_path, capsys):
    code, text, _ = run(
        capsys, "calibrate", place / "m0.pt", "--data", place / "a.npz", "--draws", 3, "-o", tmp_path / "c.json", *PROBE
    )
    made = load_calibration(tmp_path / "c.json")
    assert code == 0 and made.auc is None and made.bad == ()
    assert "WARNING: NO BAD MODELS" in text and "AUC" not in text
    (rejected,) = (line for line in text.splitlines() if line.startswith("rejected"))
    assert "of 3 good draws" in rejected and rejected.endswith(": tau was chosen on these")
    assert max(made.good[0].scores) <= made.tau


def test_calibration_is_deterministic_and_takes_committed_data(place, tmp_path):
    api.commit(place / "a.npz", tmp_path / "data.zkd")
    found = []
    for name, data in (("1", place / "a.npz"), ("2", place / "a.npz"), ("3", tmp_path / "data.zkd")):
        api.calibrate(
            [place / "m0.pt"],
            [place / "m1.pt"],
            tmp_path / name,
            data=data,
            draws=2,
            config={"steps": 2, "batch_size": 4},
        )
        found.append(load_calibration(tmp_path / name))
    assert found[0] == found[1]
    committed = found[2].good[0]
    config, seeds = {"steps": 2, "batch_size": 4}, [f"/{committed.model[:16]}/{i}" for i in (0, 1)]
    wanted = [api.measure(place / "m0.pt", tmp_path / "data.zkd", config=config, seed=seed).score for seed in seeds]
    assert committed.scores == pytest.approx(wanted, rel=1e-12)
    root = api.files.load_root(tmp_path / "data.root").root.hex()
    assert [source.digest for source in found[2].data] == [root] != [source.digest for source in found[0].data]


def test_digest_of_data_depends_on_samples_labels_and_type(place):
    digests = [data_digest(open_samples(place / name)) for name in ("a.npz", "b.npz", "c.npz", "floats.npz", "a.npz")]
    assert len(set(digests)) == 4 and digests[0] == digests[4]
    with np.load(place / "a.npz") as a:
        head = b'zkcert/calibration/data/1{"N":40,"kind":"uint8","shape":[1,4,4]}'
        wanted = blake3(head + a["x"].tobytes() + a["y"].astype("<i8").tobytes()).hexdigest()
    assert digests[0] == wanted


def test_models_of_one_name_are_numbered_and_say_nothing_of_their_place(place, tmp_path):
    for i in (0, 1):
        (tmp_path / str(i)).mkdir()
        (tmp_path / str(i) / "model.pt").write_bytes((place / f"m{i}.pt").read_bytes())
    models = [tmp_path / str(i) / "model.pt" for i in (0, 1)]
    made = api.calibrate(models, out=None, data=place / "a.npz", draws=1, config={"steps": 2, "batch_size": 2})
    assert [m.name for m in made.good] == ["model.pt (1)", "model.pt (2)"]


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["m0.pt"], "which data"),
        (["m0.pt@none.npz"], "none.npz"),
        (["m0.pt@a.npz", "--bad", "m0.pt@a.npz"], "occurs twice"),
        (["m0.pt@a.npz", "--risk", "1"], "risk"),
        (["m0.pt@a.npz", "--risk", "much"], "risk must be a number"),
        (["m0.pt@a.npz", "--draws", "0"], "draws"),
        (["m0.pt@a.npz", "--steps", "1"], "steps must be an integer of at least 2"),
        (["m0.pt@a.npz", "--steps", "30"], "cannot draw"),
        (["m0.pt@a.npz", "--plot", "roc.txt"], "name of a plot"),
        (["m0.pt@a.npz", "-o", "none/c.json"], "existing directory"),
        (["a.npz@a.npz"], "a.npz"),
        (["m0.pt@small.npz"], "the model takes samples of shape [1, 4, 4], the dataset has [1, 3, 3]"),
        (["m0.pt@a.npz", "--dtype", "float16"], "dtype"),
        (["--bad", "m0.pt@a.npz"], "GOOD"),
    ],
)
def test_bad_input_of_calibrate_is_one_line(place, tmp_path, monkeypatch, capsys, arguments, what):
    monkeypatch.chdir(place)
    before = sorted(place.iterdir())
    output = [] if "-o" in arguments else ["-o", str(tmp_path / "c.json")]
    code, _, err = run(capsys, "calibrate", *arguments, *output)
    assert code == 2 and len(err.splitlines()) == 1 and what in err
    assert sorted(place.iterdir()) == before and not list(tmp_path.iterdir())


def test_every_file_after_bad_is_bad():
    assert spread(["g", "--bad", "a", "b", "--data", "d", "h"], "--bad") == [
        *("g", "--bad", "a", "--bad", "b", "--data", "d", "h")
    ]
    assert spread(["--bad=a", "b", "--bad", "c", "-o", "x"], "--bad") == [
        *("--bad", "a", "--bad", "b", "--bad", "c", "-o", "x")
    ]


# ------------------------------------------------------------------------------------------------- tau


def pinned(place, name: str, probe: Probe, score: float = 3.0):
    """A calibration whose tau is a little below `score`."""
    from zkcert.calibration import Scored, Source

    good, bad = (
        [Scored(kind, kind.encode().hex().ljust(64, "0"), "a" * 64, (value,))]
        for kind, value in (("g", 0.5), ("b", score))
    )
    made = assess(good, bad, probe, risk=Fraction(0), seed="", data=[Source("x", 9, "a" * 64)])
    save_calibration(made, place / name)
    return place / name


def test_verify_takes_a_calibration_and_insists_on_its_configuration(tiny, tmp_path, capsys):
    right = pinned(tmp_path, "right.json", Probe.of_config(tiny.config))
    other = pinned(tmp_path, "other.json", Probe(steps=2, batch_size=2, rho="0.1"))
    low = pinned(tmp_path, "low.json", Probe.of_config(tiny.config), 2.0)
    unprovable = pinned(tmp_path, "no.json", Probe(steps=2, batch_size=2, statistic="cv-sharpness"), 0.9)
    verdict = zkcert.verify(tiny.proof, tiny.model, tau=right)
    assert verdict.expected.tau == Fraction("2.999") and verdict.expected.config == tiny.config
    assert verdict.to_dict()["checked"]["config"] == tiny.config.canonical()
    plain = zkcert.verify(tiny.proof, tiny.model, tau="2.999", config=tiny.config).warnings
    doubts = load_calibration(right).warnings()
    assert doubts and verdict.warnings == plain + [f"calibration: {text}" for text in doubts]
    for file, check in ((other, "config"), (low, "tau")):
        with pytest.raises(ProofRejected) as caught:
            zkcert.verify(tiny.proof, tiny.model, tau=file)
        assert caught.value.check == check
    for file, wanted in ((right, 0), (other, 1), (low, 1), (unprovable, 2), (tiny.announcement, 2)):
        assert main(["verify", str(tiny.proof), str(tiny.model), "--tau", str(file)]) == wanted
    capsys.readouterr()
    with pytest.raises(UnusableInput, match="another configuration"):
        zkcert.verify(tiny.proof, tiny.model, tau=other, config=tiny.config)
    right.write_text(right.read_text().replace("2.999", "2.9"))
    assert main(["verify", str(tiny.proof), str(tiny.model), "--tau", str(right)]) == 2
    assert "tau is not what the scores and the risk give" in capsys.readouterr().err


def test_a_base_install_verifies_with_a_calibration_and_the_verifier_alone_with_its_numbers(tiny, tmp_path):
    file = pinned(tmp_path, "right.json", Probe.of_config(tiny.config))
    done = run_without(HEAVY | {"prover"}, "zkcert.cli", "verify", tiny.proof, tiny.model, "--tau", file)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert "(asked: 2.999)" in done.stdout
    config = ",".join(f"{name}={value}" for name, value in tiny.config.canonical().items())
    same = run_without(
        HEAVY | {"prover", "typer", "rich"},
        *("verifier.__main__", tiny.proof, tiny.model, "--tau", "2.999", "--config", config),
    )
    assert (same.returncode, same.stderr) == (0, ""), same.stderr
    numbers = [
        [line for line in text.splitlines() if "calibration: " not in line][:-1] for text in (done.stdout, same.stdout)
    ]
    order = [line for line in numbers[0] if line not in numbers[1]]  # which the verifier alone does not say
    assert order[0] == "order in time" and all(line.startswith("  ") for line in order[1:])
    assert [line for line in numbers[0] if line not in order] == numbers[1]
    refused = run_without(HEAVY, "verifier.__main__", tiny.proof, tiny.model, "--tau", file)
    assert refused.returncode == 2 and "tau must be a number" in refused.stderr


@pytest.mark.parametrize("command", ["calibrate", "mia"])
def test_a_missing_library_is_named_before_anything_is_computed(place, tmp_path, command):
    arguments = {
        "calibrate": [f"{place / 'm0.pt'}@{place / 'a.npz'}", "-o", tmp_path / "c.json"],
        "mia": [place / "m0.pt", place / "a.npz", place / "c.npz"],
    }
    done = run_without({"sklearn"}, "zkcert.cli", command, *arguments[command])
    assert done.returncode == 2 and not list(tmp_path.iterdir())
    assert "needs sklearn: pip install -c constraints.txt -e '.[metric]'" in done.stderr


def test_announce_and_prove_take_configuration_and_tau_from_a_calibration(tiny, tmp_path, capsys):
    right = pinned(tmp_path, "right.json", Probe.of_config(tiny.config))
    announcement, proof = tmp_path / "announce.json", tmp_path / "proof.bin"
    assert run(capsys, "announce", tiny.model, tiny.root, "--tau", right, "-o", announcement)[0] == 0
    fixed = api.announced(announcement)
    assert (fixed.tau, fixed.config) == (Fraction("2.999"), tiny.config)
    code, _, err = run(capsys, "announce", tiny.model, tiny.root, "--tau", right, "-o", tmp_path / "2", "--rho", "0.1")
    assert code == 2 and "rho must be 1/20" in err
    assert run(capsys, "announce", tiny.model, tiny.root, "--tau", right, "-o", tmp_path / "3", "--steps", 2)[0] == 0
    assert api.announced(tmp_path / "3") == fixed
    code, _, err = run(
        capsys, "prove", tiny.model, tiny.data, "--tau", right, "--announcement", tiny.announcement, "-o", proof
    )
    assert code == 2 and "tau changed" in err
    other = pinned(tmp_path, "other.json", Probe(steps=2, batch_size=2, rho="0.1"))
    code, _, err = run(
        capsys, "prove", tiny.model, tiny.data, "--tau", other, "--announcement", announcement, "-o", proof
    )
    assert code == 2 and "the configuration changed" in err and not proof.exists()
    code, out, err = run(capsys, "announce", tiny.model, tiny.root, "--tau", right, "-o", tmp_path / "4")
    assert code == 0 and DOUBT in err and DOUBT not in out
    code, _, err = run(capsys, "prove", tiny.model, tiny.data, "--tau", right, "--beacon", "00", "-o", proof)
    assert code == 0 and err.index(DOUBT) < err.index("witness")
    assert "WARNING: no --announcement" in err
    result = api.prove(tiny.model, tiny.data, proof, tau=right, beacon="00", force=True)
    assert (result.tau, result.statement.config) == (Fraction("2.999"), tiny.config)
    assert run(capsys, "verify", proof, tiny.model, "--tau", right)[0] == 0


def test_audit_takes_any_calibrated_probe(place, tmp_path, capsys):
    probe = Probe(steps=3, batch_size=4, variant="asam-samsung", statistic="cv-sharpness")
    for name, score, wanted in (("wide.json", 1.4, 0), ("narrow.json", 1e-6, 1)):
        file = pinned(tmp_path, name, probe, score)
        code, text, _ = run(capsys, "audit", place / "m0.pt", place / "a.npz", "--tau", file, "--seed", "x", "--json")
        assert code == wanted and json.loads(text)["probe"] == probe.to_dict()
        doubts = [f"calibration: {warning}" for warning in load_calibration(file).warnings()]
        assert json.loads(text)["warnings"][-len(doubts) :] == doubts and len(doubts) >= 3
        code, text, _ = run(capsys, "audit", place / "m0.pt", place / "a.npz", "--tau", file, "--seed", "x")
        assert code == wanted and DOUBT in text
    code, text, err = run(capsys, "audit", place / "m0.pt", place / "a.npz", "--tau", "100", *PROBE)
    assert code == 0 and DOUBT not in text + err


# ------------------------------------------------------------------------------------------------- mia


def test_mia_scores_the_examples_it_says(place, tmp_path, capsys):
    plot = tmp_path / "roc.svg"
    code, text, err = run(
        capsys, "mia", place / "m0.pt", place / "a.npz", place / "c.npz", "--samples", 12, "--seed", "s", "--steps", 3,
        "--lr", "0.01", "--plot", plot, "--json",
    )  # fmt: skip
    assert (code, err) == (0, "") and b"<svg" in plot.read_bytes()
    found = json.loads(text)
    model, probe = Model.load(place / "m0.pt"), Probe(steps=3, batch_size=1, lr="0.01")
    assert found["probe"] == probe.to_dict() and found["shared"] == 0 and found["warnings"] == []
    assert (found["members"], found["nonmembers"]) == (12, 12)
    parts = {}
    for kind, name in (("members", "a.npz"), ("nonmembers", "c.npz")):
        with np.load(place / name) as data:
            rows = open_samples(place / name).draw(f"s/{kind}", 12)
            x, y = torch.tensor(input_values(model.input, data["x"][rows])), torch.tensor(data["y"][rows])
        parts[kind] = example_scores(Network.of_model(model), x, y, probe)
    for score in ("loss", "static", "directional"):
        low, high = (getattr(parts[kind], score) for kind in ("members", "nonmembers"))
        wanted = np.mean([(a < b) + 0.5 * (a == b) for a in low for b in high])
        assert found["scores"][score]["auc"] == pytest.approx(wanted)


def test_mia_for_people_warns_of_shared_examples(place, capsys):
    code, text, _ = run(capsys, "mia", place / "m0.pt", place / "a.npz", place / "a.npz", "--samples", 40, "--steps", 2)
    assert code == 0 and "WARNING: 40 of the members drawn are among" in text
    rows = [line.split() for line in text.splitlines() if line.startswith("│")]
    assert [row[1] for row in rows] == ["loss", "static", "directional"]
    assert all(row[3] == "0.5000" for row in rows)  # the same examples on both sides


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_mia_warns_of_low_precision(place, capsys, dtype):
    files = [place / "m0.pt", place / "a.npz", place / "c.npz"]
    options = ["--samples", 4, "--steps", 2, "--dtype", dtype]
    code, text, err = run(capsys, "mia", *files, *options, "--json")
    found = json.loads(text)
    assert (
        code == 0
        and found["dtype"] == dtype
        and found["warnings"]
        == [f"in {dtype} the directional scores of well-fitted examples are rounding error: use float64"]
        * (dtype == "float32")
    )
    assert ("rounding error" in err) == (dtype == "float32")
    assert ("WARNING: in float32" in run(capsys, "mia", *files, *options)[1]) == (dtype == "float32")


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["m0.pt", "a.npz", "c.npz", "--samples", "41"], "it has 40"),
        (["m0.pt", "a.npz", "c.npz", "--samples", "1"], "at least 2"),
        (["m0.pt", "a.npz", "c.npz", "--samples", "4", "--eps", "0"], "positive eps"),
        (["m0.pt", "a.npz", "none.npz", "--samples", "4"], "none.npz"),
        (["m0.pt", "a.npz", "small.npz", "--samples", "4"], "the model takes samples of shape [1, 4, 4]"),
        (["m0.pt", "a.npz", "c.npz", "--batch-size", "2"], "--batch-size"),
        (["m0.pt", "a.npz", "c.npz", "--steps", "1"], "steps must be an integer of at least 2"),
        (["m0.pt", "a.npz", "c.npz", "--samples", "4", "--plot", "x.txt"], "name of a plot"),
    ],
)
def test_bad_input_of_mia_is_one_line(place, monkeypatch, capsys, arguments, what):
    monkeypatch.chdir(place)
    code, _, err = run(capsys, "mia", *arguments)
    assert code == 2 and len(err.splitlines()) == 1 and what in err


def test_mia_refuses_batches(place):
    with pytest.raises(UnusableInput, match="single examples"):
        api.mia(place / "m0.pt", place / "a.npz", place / "c.npz", samples=4, config=Probe(steps=2, batch_size=2))
