"""A tiny model with committed data, an announcement and one proof, made once per test session."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.closure import Entered
from verifier import __main__ as standalone
from zkcert import api, cli
from zkcert.public.config import ProbeConfig

TINY_INPUT = {"shape": [1, 3, 4], "pad": 0, "mean": [0.5], "std": [0.25]}
TINY_SAMPLES, TINY_CLASSES = 40, 3


@dataclass(frozen=True)
class Tiny:
    """Files of a finished certificate: T = 2, B = 2, a perceptron with 12 inputs. Tests must not change them."""

    place: Path
    config: ProbeConfig
    tau: str
    beacon: str
    result: api.ProofResult

    @property
    def model(self) -> Path:
        return self.place / "model.pt"

    @property
    def dataset(self) -> Path:
        """The samples in the clear, .npz."""
        return self.place / "samples.npz"

    @property
    def data(self) -> Path:
        return self.place / "data.zkd"

    @property
    def root(self) -> Path:
        return self.place / "data.root"

    @property
    def announcement(self) -> Path:
        return self.place / "announce.json"

    @property
    def proof(self) -> Path:
        return self.place / "proof.bin"


def tiny_samples(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Bytes (N, 1, 3, 4) and labels (N,)."""
    rng = np.random.default_rng(seed)
    y = np.arange(TINY_SAMPLES) % TINY_CLASSES
    return rng.integers(0, 256, (TINY_SAMPLES, 1, 3, 4), dtype=np.uint8), y


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """See `Tiny`."""
    from zkcert.convert import from_sequential
    from zkcert.zoo import mlp

    place = tmp_path_factory.mktemp("tiny")
    x, y = tiny_samples()
    np.savez(place / "samples.npz", x=x, y=y)
    from_sequential(mlp(12, [6], TINY_CLASSES), input=TINY_INPUT).save(place / "model.pt")
    api.commit(place / "samples.npz", place / "data.zkd")
    config, tau, beacon = ProbeConfig(steps=2, batch_size=2), "2.5", "b0a7" * 16
    model, data, announcement = place / "model.pt", place / "data.zkd", place / "announce.json"
    api.announce(model, place / "data.root", announcement, tau=tau, config=config)
    result = api.prove(model, data, place / "proof.bin", announcement=announcement, beacon=beacon)
    return Tiny(place, config, tau, beacon, result)


@dataclass(frozen=True)
class Outcome:
    """What a command ended with, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict:
        return json.loads(self.out)


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    """Run `zkcert ...` (or `verify ...` of python -m verifier) in an empty directory of its own."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> Outcome:
        argv = [str(argument) for argument in arguments]
        capsys.readouterr()
        code = standalone.main(argv[1:]) if argv[0] == "python -m verifier" else cli.main(argv)
        return Outcome(code, *capsys.readouterr())

    return call


ENTERED = os.environ.get("ZKCERT_ENTERED")


@pytest.fixture(scope="session", autouse=bool(ENTERED))
def entered() -> Iterator[Entered]:
    """With ZKCERT_ENTERED=FOLDER: notes there which lines the verifier enters, for `tests.closure`."""
    noted = Entered()
    noted.start()
    yield noted
    noted.write(str(ENTERED))


@pytest.fixture(autouse=bool(ENTERED))
def noted(entered: Entered) -> None:
    """Goes on with it in every test."""
    entered.start()
