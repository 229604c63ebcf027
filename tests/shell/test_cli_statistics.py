"""Statistics of s_t, a ddof and variants with an eta, from a calibration to a report: every command names them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import Tiny
from zkcert import api
from zkcert.errors import ProofRejected, UnusableInput
from zkcert.public.config import ProbeConfig

BEACON = "57a7" * 16
OPTIONS = {
    "rms": ("--variant", "asam-samsung", "--eta", "0.25"),
    "std": ("--ddof", 1, "--variant", "asam-shifted"),
    "max": (),
}
CONFIGS = {
    "rms": ProbeConfig(steps=3, batch_size=2, statistic="rms", variant="asam-samsung", eta=Fraction(1, 4)),
    "std": ProbeConfig(steps=3, batch_size=2, statistic="std", ddof=1, variant="asam-shifted"),
    "max": ProbeConfig(steps=3, batch_size=2, statistic="max"),
}
TAU = "0.5"


def texts(config: ProbeConfig) -> str:
    """Of --config."""
    return ",".join(f"{name}={value}" for name, value in config.canonical().items())


@dataclass(frozen=True)
class Made:
    name: str
    announcement: Path
    proof: Path
    score: float

    @property
    def config(self) -> ProbeConfig:
        return CONFIGS[self.name]


@pytest.fixture(scope="module")
def made(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Made]:
    """A proof of a statistic, by its name."""
    known: dict[str, Made] = {}

    def make(name: str) -> Made:
        if name not in known:
            place = tmp_path_factory.mktemp(name)
            announcement, proof = place / "announce.json", place / "proof.bin"
            api.announce(tiny.model, tiny.root, announcement, tau=TAU, config=CONFIGS[name])
            result = api.prove(
                tiny.model, tiny.data, proof, announcement=announcement, beacon=BEACON, reveal_score=name == "std"
            )
            assert result.cross_check < 1e-6
            known[name] = Made(name, announcement, proof, result.score)
        return known[name]

    return make


@pytest.mark.parametrize("name", CONFIGS)
def test_options_are_those_of_the_configuration(run, tiny, name):
    options = ("--steps", 3, "--batch-size", 2, "--statistic", name, *OPTIONS[name])
    assert run("announce", tiny.model, tiny.root, "--tau", TAU, *options).code == 0
    assert json.loads(Path("announce.json").read_text())["config"] == CONFIGS[name].canonical()
    measured = run("measure", tiny.model, tiny.data, *options, "--beacon", BEACON, "--json").json
    sharpness = np.array(measured["draws"][0]["sharpness"])
    wanted = {"rms": np.sqrt(np.mean(sharpness**2)), "std": np.std(sharpness, ddof=1), "max": sharpness.max()}
    assert measured["score"] == pytest.approx(wanted[name], rel=1e-12)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_proof_is_verified_and_called_by_its_statistic(run, tiny, made, name):
    proof = made(name)
    measured = api.measure(tiny.model, tiny.data, config=proof.config, beacon=BEACON)
    assert proof.score == pytest.approx(measured.score, rel=1e-6)
    text = {"rms": "rms of s_t", "std": "std of s_t with ddof 1", "max": "max of s_t"}[name]
    pins = ("--config", texts(proof.config), "--data-root", tiny.root, "--beacon", BEACON)
    for command in ("verify", "python -m verifier"):
        done = run(command, proof.proof, tiny.model, "--tau", TAU, *pins, "--announcement", proof.announcement)
        assert (done.code, done.err) == (0, "")
        assert f"\nclaim         {text} of the fixed-point probe <= tau = 0.5\n" in done.out
        assert f"\nACCEPTED: the {text} is at most 0.5 (asked: 0.5)" in done.out
        assert f", {name}, ddof {proof.config.ddof}\n" in done.out and "directional sharpness of" not in done.out
        assert (f"score         {proof.score:.9f} (revealed)" in done.out) == (name == "std")
        lower = run(command, proof.proof, tiny.model, "--tau", "0.00001", *pins)
        assert (lower.code, lower.err) == (
            1, f"REJECTED tau: the proof shows a {text} of at most 0.5, not 1e-05\n"
        )  # fmt: skip
    shown = run("inspect", proof.proof).out
    assert f"claim         {text} of the fixed-point probe <= tau = 0.5\n" in shown
    if proof.config.eta is not None:
        assert f"{proof.config.variant} with eta {float(proof.config.eta):g}, " in shown


@pytest.mark.parametrize("name", CONFIGS)
def test_who_expects_the_usual_statistic_refuses_another_in_one_line(run, tiny, made, name):
    proof = made(name)
    for command in ("verify", "python -m verifier"):
        done = run(command, proof.proof, tiny.model, "--tau", 3, "--announcement", proof.announcement)
        assert (done.code, done.out) == (1, "")
        assert done.err == (
            f"REJECTED config: the proof is about the {name} of s_t, not about std-log-ratio; insist with --config "
            f"statistic={name}\n"
        )
        done = run(command, proof.proof, tiny.model, "--tau", 3, "--config", "steps=3,batch_size=2")
        assert done.code == 1 and done.err.count("\n") == 1
        assert done.err.startswith("REJECTED config: the proof is about another configuration of the probe: ")
        assert f"statistic is {name}, not std-log-ratio" in done.err
        other = "max" if name == "rms" else "rms"
        done = run(command, proof.proof, tiny.model, "--tau", 3, "--config", f"steps=3,batch_size=2,statistic={other}")
        assert done.code == 1 and f"statistic is {name}, not {other}" in done.err


def test_who_expects_a_statistic_refuses_the_usual_one(run, tiny):
    done = run("verify", tiny.proof, tiny.model, "--tau", 3, "--config", "steps=2,batch_size=2,statistic=rms")
    assert done.code == 1 and "REJECTED config: " in done.err and "statistic is std-log-ratio, not rms" in done.err


def test_a_proof_about_another_eta_or_ddof_is_refused(tiny, made):
    for name, change in (("rms", {"eta": "1/3"}), ("std", {"ddof": 0}), ("rms", {"variant": "asam-shifted"})):
        proof = made(name)
        fields = {key: getattr(proof.config, key) for key in ProbeConfig.__dataclass_fields__}
        with pytest.raises(ProofRejected, match="another configuration"):
            api.verify(proof.proof, tiny.model, tau=TAU, config=ProbeConfig(**{**fields, **change}))


def test_a_calibration_pins_the_statistic(run, tiny, made):
    """Its tau is one of its own statistic; audits and verifiers go by it."""
    options = ("--steps", 3, "--batch-size", 2, "--statistic", "rms", *OPTIONS["rms"], "--draws", 3)
    assert run("calibrate", tiny.model, "--data", tiny.data, *options).code == 0
    pinned = json.loads(Path("calibration.json").read_text())["probe"]
    assert (pinned["statistic"], pinned["variant"], pinned["eta"]) == ("rms", "asam-samsung", "1/4")
    audited = run("audit", tiny.model, tiny.data, "--tau", "calibration.json")
    assert audited.code in (0, 1) and "; asam-samsung, rms\n" in audited.out
    for name in ("std", "max"):
        proof = made(name)
        done = run("verify", proof.proof, tiny.model, "--tau", "calibration.json")
        assert done.code == 1 and "REJECTED" in done.err
    done = run("verify", tiny.proof, tiny.model, "--tau", "calibration.json")
    assert done.code == 1 and "REJECTED" in done.err


def test_reports_and_cards_call_it_by_name(run, tiny, made):
    proof = made("rms")
    pins = ("--config", texts(proof.config), "--data-root", tiny.root, "--beacon", BEACON)
    given = (proof.proof, tiny.model, "--tau", TAU, *pins, "--announcement", proof.announcement)
    assert run("report", *given, "-o", "report.html").code == 0
    page = Path("report.html").read_text()
    for words in (
        "The rms of s_t of this model file is at most 0.5, as was asked for.",
        "is here the root mean square of the sharpness s_t itself",
        "statistic",
        "asam-samsung",
    ):
        assert words in page
    assert "The score of this model file is at most" not in page and "says how much that differs" not in page
    assert run("verify", *given, "--model-card", "card.md").code == 0
    card = Path("card.md").read_text()
    assert "the rms of s_t is at most 0.5" in card and "eta 0.25, statistic rms" in card


def test_a_largest_value_is_not_revealed(tiny, made, tmp_path):
    with pytest.raises(UnusableInput, match="max cannot be revealed"):
        api.prove(
            tiny.model, tiny.data, tmp_path / "p", announcement=made("max").announcement, beacon=BEACON,
            reveal_score=True,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--statistic", "median"), "statistic must be one of std-log-ratio, std, rms, max"),
        (("--statistic", "std-sharpness"), "statistic must be one of"),
        (("--statistic", "rms", "--ddof", 1), "ddof is of a deviation"),
        (("--steps", 3, "--ddof", 3), "ddof must be an integer from 0 to 2"),
        (("--eta", "0.1"), "eta is of the variants asam-samsung and asam-shifted"),
        (("--variant", "asam-shifted", "--eta", "8"), "eta must lie in (0, 8)"),
    ],
)
def test_what_does_not_go_together_is_one_line(run, tiny, options, words):
    done = run("announce", tiny.model, tiny.root, "--tau", TAU, "--batch-size", 2, *options)
    assert done.code == 2 and words in done.err and done.err.count("\n") == 1
    assert not Path("announce.json").exists()
