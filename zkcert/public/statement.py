"""The public statement of a certificate, its announcement and its seed. What is here is all a proof is about."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from blake3 import blake3

from zkcert.core.permutation import sample_indices
from zkcert.errors import UnusableInput
from zkcert.public.config import ProbeConfig, canonical_json, parse_fraction
from zkcert.public.model import Model
from zkcert.public.reading import read_file
from zkcert.public.root import MAX_SAMPLES, DatasetRoot
from zkcert.public.strict_json import as_written

VERSION = "zkcert-5"
"""Of the proof system: what transcripts begin with."""

DRAW_VERSION = "zkcert-3"
"""Of the probe: what seeds begin with. It changes when an announcement means something else, not with every VERSION: so
one announcement and one beacon are one draw, whichever version proves it."""

ANNOUNCEMENT_FORMAT = "zkcert-announcement-3"
"""It changes with DRAW_VERSION."""

ROUND_FORMAT = f"{ANNOUNCEMENT_FORMAT}-drand"
"""Of an announcement that names the round its beacon comes from."""

MAX_ROUND = 1 << 40
MAX_BEACON_BYTES = 128
MAX_TAU = 128
_MAX_ANNOUNCEMENT = 1 << 20


def check_tau(value: object) -> Fraction:
    """tau as an exact rational; UnusableInput outside [0, 128] or with a denominator of 2^40 or more."""
    tau = parse_fraction(value, "tau")
    if not 0 <= tau <= MAX_TAU or tau.denominator >= 1 << 40:
        raise UnusableInput(f"tau must lie between 0 and {MAX_TAU}, with a denominator below 2^40, not {value}")
    return tau


def parse_beacon(text: str | None) -> bytes | None:
    """A beacon given as hexadecimal text; UnusableInput if it is not 1 to 128 bytes of it."""
    if text is None:
        return None
    try:
        beacon = bytes.fromhex(text.removeprefix("0x"))
    except ValueError as error:
        raise UnusableInput(f"the beacon must be an even number of hexadecimal digits, not {text[:40]!r}") from error
    if not 1 <= len(beacon) <= MAX_BEACON_BYTES:
        raise UnusableInput(f"the beacon must have 1 to {MAX_BEACON_BYTES} bytes")
    return beacon


def require_fit(model: Model, dataset: DatasetRoot, config: ProbeConfig) -> None:
    """UnusableInput unless the data have the shape and the classes of the model, and are enough for the draw."""
    if (dataset.schema.kind == "tokens") != ("tokens" in model.input):
        reads = "windows of tokens" if "tokens" in model.input else "samples of numbers"
        raise UnusableInput(f"the model reads {reads}, the dataset has {dataset.schema.samples_text()}")
    if list(dataset.schema.shape) != list(model.input["shape"]):
        shape, advice = model.input["shape"], " (say --context)" if "tokens" in model.input else ""
        raise UnusableInput(
            f"the model takes samples of shape {shape}, the dataset has {list(dataset.schema.shape)}{advice}"
        )
    if dataset.schema.classes != model.classes:
        advice = f"commit with --classes {model.classes}"
        if dataset.schema.classes > model.classes:
            advice = f"commit with --classes {model.classes}, which no label may reach"
        what = "tokens" if "tokens" in model.input else "classes"
        raise UnusableInput(f"the model has {model.classes} {what}, the dataset {dataset.schema.classes} ({advice})")
    wanted = config.steps * config.batch_size
    if wanted > dataset.n:
        raise UnusableInput(
            f"{config.steps} steps of {config.batch_size} samples need {wanted}; the dataset has {dataset.n}"
        )


@dataclass(frozen=True)
class Round:
    """A round of a drand chain: the chain's hash, 32 bytes, and a number from 1 to 2^40 - 1."""

    chain: bytes
    number: int

    @staticmethod
    def of(value: Mapping[str, Any]) -> Round:
        """Of what an announcement holds; ValueError if that is out of place."""
        chain, number = bytes.fromhex(value["chain"]), value["round"]
        if len(chain) != 32 or type(number) is not int or not 1 <= number < MAX_ROUND:
            raise ValueError("bad round")
        return Round(chain, number)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {"chain": self.chain.hex(), "round": self.number}


@dataclass(frozen=True)
class Statement:
    """ "The probe `config`, on the samples the seed draws from `dataset`, of this model, scores at most `tau`."

    circuit_digest and weights_digest are 32 bytes each; `beacon` is None where no public randomness was used;
    `variance` is what the statistic gathers of the steps' values (for the usual one T^2 times the exact variance of the
    log ratios, in units of 2^-64) if the score is public; `drand` is the round that the announcement names as the
    beacon's source, whether or not `beacon` is that round's randomness.
    """

    circuit_digest: bytes
    weights_digest: bytes
    dataset: DatasetRoot
    config: ProbeConfig
    tau: Fraction
    beacon: bytes | None = None
    variance: int | None = None
    drand: Round | None = None

    @staticmethod
    def of(model: Model, dataset: DatasetRoot, config: ProbeConfig, tau: Fraction) -> Statement:
        """The statement before its beacon. Raises UnusableInput where model, data and config do not fit."""
        require_fit(model, dataset, config)
        return Statement(circuit_digest(model), model.weights_digest, dataset, config, tau)

    def announcement(self) -> dict[str, Any]:
        """What is fixed before the beacon exists."""
        named = {} if self.drand is None else {"drand": self.drand.to_dict()}
        return {
            **named,
            "circuit": self.circuit_digest.hex(),
            "config": self.config.canonical(),
            "dataset": self.dataset.to_dict(),
            "format": ROUND_FORMAT if named else ANNOUNCEMENT_FORMAT,
            "tau": str(self.tau),
            "weights": self.weights_digest.hex(),
        }

    @property
    def announcement_digest(self) -> bytes:
        """BLAKE3 of the canonical announcement, 32 bytes: what is published before the beacon."""
        return blake3(b"zkcert/announcement/1" + canonical_json(self.announcement()).encode()).digest()

    @property
    def seed(self) -> bytes:
        """r = H(version, circuit, C, weights, H(N, schema, root), beacon): the key that draws the samples."""
        beacon = b"\0" if self.beacon is None else b"\1" + self.beacon
        parts = [
            DRAW_VERSION.encode(),
            self.circuit_digest,
            self.config.digest,
            self.weights_digest,
            self.dataset.commitment_digest(),
            beacon,
        ]
        return blake3(b"zkcert/seed/1" + b"".join(len(p).to_bytes(8, "little") + p for p in parts)).digest()

    def indices(self) -> list[int]:
        """The T B sample indices, step after step."""
        return sample_indices(self.seed, self.dataset.n, self.config.steps * self.config.batch_size)

    def header(self) -> bytes:
        """The statement as canonical JSON: the header of proof.bin."""
        beacon = None if self.beacon is None else self.beacon.hex()
        variance = None if self.variance is None else str(self.variance)
        return canonical_json({**self.announcement(), "beacon": beacon, "variance": variance}).encode()

    @staticmethod
    def parse_header(data: bytes) -> Statement:
        """Inverse of `header` on untrusted bytes; UnusableInput unless they are canonical."""
        try:
            return as_written(data, Statement._from, Statement.header)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise UnusableInput(f"the proof's header does not parse ({error})") from error

    @staticmethod
    def _from(value: Mapping[str, Any]) -> Statement:
        drand = Round.of(value["drand"]) if value["format"] == ROUND_FORMAT else None
        if value["format"] not in (ANNOUNCEMENT_FORMAT, ROUND_FORMAT):
            raise ValueError("of no format, or that of another version of zkcert: announce again")
        dataset = DatasetRoot.from_dict(value["dataset"])
        if dataset.n == MAX_SAMPLES:
            raise ValueError("too many samples")
        variance = value.get("variance")
        if variance is not None and (not isinstance(variance, str) or not variance.isdigit() or len(variance) > 40):
            raise ValueError("bad variance")
        circuit, weights = bytes.fromhex(value["circuit"]), bytes.fromhex(value["weights"])
        if len(circuit) != 32 or len(weights) != 32:
            raise ValueError("bad digest")
        return Statement(
            circuit,
            weights,
            dataset,
            ProbeConfig.from_canonical(value["config"]),
            check_tau(value["tau"]),
            parse_beacon(value.get("beacon")),
            None if variance is None else int(variance),
            drand,
        )


def circuit_digest(model: Model) -> bytes:
    """BLAKE3 of the canonical JSON of graph and input, 32 bytes."""
    return blake3(b"zkcert/circuit/1" + model.circuit_digest_json().encode()).digest()


def announced(statement: Statement) -> bytes:
    """The content of announce.json; the digest is for the reader's convenience, and checked on loading."""
    content = {**statement.announcement(), "digest": statement.announcement_digest.hex()}
    return (json.dumps(content, sort_keys=True, indent=1) + "\n").encode()


def load_announcement(path: str | Path) -> Statement:
    """Read announce.json; UnusableInput if it is damaged, its digest does not match, or it is not, byte for byte, what
    `announced` gives."""
    raw = read_file(path, _MAX_ANNOUNCEMENT)

    advice = "take the file that zkcert announce wrote, as it is"
    try:
        return as_written(raw, Statement._from, announced)
    except (TypeError, KeyError, AttributeError) as error:
        raise UnusableInput(f"{path} is not an announcement; {advice}") from error
    except (ValueError, UnusableInput) as error:
        raise UnusableInput(f"{path} is not an announcement ({error}); {advice}") from error
