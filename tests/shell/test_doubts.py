"""What the verifier says of a statement that is proved but worth little, and how to insist on a configuration."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import pytest

import verifier.__main__ as standalone
import zkcert
from verifier.doubts import differences, statement_doubts
from zkcert import cli
from zkcert.errors import ProofRejected, UnusableInput
from zkcert.public.config import ProbeConfig, read_config

DEFAULT = ProbeConfig()
MANY = 10**6


def said(n: int = MANY, chosen: bool = True, **options: object) -> str:
    return " | ".join(statement_doubts(ProbeConfig(**options), n, chosen))


def test_the_default_configuration_on_enough_data_is_not_doubted():
    assert statement_doubts(DEFAULT, MANY, False) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rho": "0.001", "eps": "1e-4"}, "THE SCORE MAY MEAN NOTHING: eps / rho^2 = 100 (default 4e-06)"),
        ({"rho": "0.0001"}, "THE SCORE MAY MEAN NOTHING: eps / rho^2 = 1 "),
        ({"eps": "1e-4"}, "THE SCORE MAY MEAN NOTHING: eps / rho^2 = 0.04 "),
        ({"rho": "0.01", "eps": "1e-8"}, "eps / rho^2 = 0.0001 (default 4e-06) is high"),
        ({"lr": "0.01"}, "THE PROBE MOVES THE MODEL: lr = 0.01 (default 0.0001)"),
        ({"lr": "8", "batch_size": 8}, "THE PROBE MOVES THE MODEL"),
        ({"lr": "1/1600000", "batch_size": 2}, "leaves the weights where they are"),
        ({"rho": "2"}, "rho = 2 (default 0.05) moves the weights so far"),
        ({"batch_size": 64}, "batches of 64 average differences away"),
        ({"steps": 3}, "3 steps: the deviation of so few values"),
        ({"steps": 3, "batch_size": 3, "lr": "3e-4"}, "only 9 samples were probed"),
    ],
)
def test_configurations_that_say_little_are_pointed_out_even_if_asked_for(options, words):
    assert words in said(**options)


@pytest.mark.parametrize(
    "options", [{"rho": "0.1"}, {"rho": "0.02"}, {"rho": "0.001", "eps": "0"}, {"lr": "1e-3"}, {"variant": "sam"}]
)
def test_others_are_called_different_and_no_more(options):
    assert said(**options) == ""
    (text,) = statement_doubts(ProbeConfig(**options), MANY, False)
    assert text.startswith("the configuration is not the default: ")


def test_every_difference_from_the_default_is_named():
    other = ProbeConfig(steps=5, batch_size=8, rho="0.1", lr="1e-3", eps="0", variant="sam")
    wanted = [
        "steps is 5, not 10", "batch_size is 8, not 16", "rho is 1/10, not 1/20", "lr is 1/1000, not 1/10000",
        "eps is 0, not 1/100000000", "variant is sam, not asam-all",
    ]  # fmt: skip
    assert differences(other, DEFAULT) == wanted
    assert "; ".join(wanted) in said(chosen=False, **{k: getattr(other, k) for k in ProbeConfig.__dataclass_fields__})


@pytest.mark.parametrize(("n", "warned"), [(799, True), (800, False)])
def test_a_dataset_that_is_nearly_all_drawn_is_pointed_out(n, warned):
    assert ("the draw takes 40 of only" in said(n, steps=5, batch_size=8)) == warned


# --------------------------------------------------------------------------------------- insisting on one


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("steps=5,batch_size=8", ProbeConfig(steps=5, batch_size=8)),
        (" rho = 1/10 , eps=0", ProbeConfig(rho="0.1", eps=0)),
        ("variant=sam", ProbeConfig(variant="sam")),
        ('{"steps": 5, "batch_size": 8, "rho": 0.05}', ProbeConfig(steps=5, batch_size=8)),
        ('{"eps": 1e-7, "lr": "1/10000"}', ProbeConfig(eps="1e-7")),
        (json.dumps(DEFAULT.canonical()), DEFAULT),
        ("{}", DEFAULT),
    ],
)
def test_configurations_are_read_from_text_and_files(tmp_path, text, wanted):
    if text.startswith("{"):
        (tmp_path / "c.json").write_text(text)
        assert read_config(tmp_path / "c.json") == wanted
    else:
        assert read_config(text) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "steps=5,steps=6", "step=5", "steps=", "steps=5.0", "rho=x", "steps=5,", "=", "rho=0.05=1", "steps=-5",
        '{"steps": 5, "steps": 5}', '{"steps": 5', "[]", "[[1, 2]]", "5", "null", '{"steps": "5"}', '{"steps": true}',
        '{"rho": NaN}', '{"rho": null}', '{"rho": {"a": 1}}', '{"a": 1}', " " * 5000 + "{}", "missing",
    ],
)  # fmt: skip
def test_other_texts_are_refused(tmp_path, text):
    source: str | Path = text
    if "=" not in text and text != "missing":
        source = tmp_path / "c.json"
        source.write_text(text)
    with pytest.raises(UnusableInput):
        read_config(source)


@pytest.mark.parametrize("command", ["verify", "python -m verifier"])
def test_another_configuration_is_rejected_and_the_difference_named(capsys, tiny, tmp_path, command):
    def run(*options: object) -> tuple[int, str, str]:
        arguments = [str(a) for a in (tiny.proof, tiny.model, "--tau", 3, *options)]
        capsys.readouterr()
        code = standalone.main(arguments) if command != "verify" else cli.main(["verify", *arguments])
        return code, *capsys.readouterr()

    code, out, err = run("--config", "steps=2,batch_size=2,rho=0.001")
    assert (code, out) == (1, "")
    assert err.startswith("REJECTED config: ") and "rho is 1/20, not 1/1000" in err and "steps" not in err
    assert run("--config", "steps=2")[0] == 1  # what is left out has its default
    assert run("--config", "steps=2,steps=2")[0] == 2
    (tmp_path / "c.json").write_text('{"steps": 2, "batch_size": 2}')
    code, out, _ = run("--config", tmp_path / "c.json", "--json")
    assert code == 0
    found = json.loads(out)
    assert found["checked"]["config"] == tiny.config.canonical()
    assert not any("not the default" in text for text in found["warnings"])
    assert any("not the default: steps is 2, not 10" in text for text in json.loads(run("--json")[1])["warnings"])
    assert any("the draw takes 4 of only 40 samples" in text for text in found["warnings"])


def test_python_takes_the_same(tiny):
    assert zkcert.verify(tiny.proof, tiny.model, tau=3, config="steps=2,batch_size=2").expected.config == tiny.config
    with pytest.raises(ProofRejected, match="eps is 1/100000000, not 0"):
        zkcert.verify(tiny.proof, tiny.model, tau=3, config="steps=2,batch_size=2,eps=0")


def test_announcing_says_what_a_verifier_would_be_told(capsys, tiny, tmp_path):
    options = ["--tau", "2.5", "--rho", "1e-3", "--eps", "1e-4", "--steps", "2", "--batch-size", "2", "--json"]
    out = tmp_path / "a.json"
    assert cli.main(["announce", str(tiny.model), str(tiny.root), "-o", str(out), *options]) == 0
    shown, err = capsys.readouterr()
    found = json.loads(shown)
    assert found["digest"] == json.loads(out.read_text())["digest"]
    assert found["statement"]["config"]["rho"] == "1/1000" and found["announcement"] == str(out)
    assert found["warnings"][0].startswith("THE SCORE MAY MEAN NOTHING")
    assert all(f"WARNING: {text}" in err for text in found["warnings"])


def test_eps_over_rho_squared_is_what_hides_a_model():
    """The score of random sharpnesses and losses depends on rho and eps by their ratio only, and vanishes with it."""
    import numpy as np

    rng = np.random.default_rng(0)
    ratios = rng.uniform(1, 100, 10)  # ||T g||^2 / L of ordinary models

    def score(rho: str, eps: str) -> float:
        config = ProbeConfig(rho=rho, eps=eps)
        return float(np.std(np.log(float(config.rho) ** 2 * ratios + float(config.eps))))

    assert score("0.001", "1e-8") == pytest.approx(score("0.1", "1e-4"), rel=1e-12)
    assert score("0.05", "0") == pytest.approx(score("0.001", "0"), rel=1e-12)
    assert score("0.001", "1e-4") < 0.2 * score("0.05", "1e-8")
    assert Fraction("1e-4") / Fraction("0.001") ** 2 == 100
