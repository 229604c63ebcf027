"""The files of a verification, which nobody vouches for, and their verdict."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from zkcert.core.container import MAX_PROOF_BYTES
from zkcert.errors import UnusableInput
from zkcert.public.config import ProbeConfig, read_config
from zkcert.public.model import MAX_FILE_BYTES, Model
from zkcert.public.reading import read_file
from zkcert.public.root import DatasetRoot
from zkcert.public.statement import check_tau, load_announcement, parse_beacon

from .report import Verdict
from .verify import Expectations, verify_proof

DIGEST = re.compile(r"(0x)?[0-9a-fA-F]{64}")


def read_proof(path: str | Path) -> bytes:
    """The bytes of a proof; UnusableInput if it cannot be read, or is far too large."""
    return read_file(path, MAX_PROOF_BYTES)


def read_model(path: str | Path) -> tuple[Model, bytes]:
    """The model of a file, and the bytes it was read from; UnusableInput also for one without weights."""
    data = read_file(path, MAX_FILE_BYTES)
    model = Model.parse(data, path)
    if not model.params:
        raise UnusableInput(f"{path}: the model has no weights")
    return model, data


def verify_files(
    proof: str | Path,
    model: str | Path,
    *,
    tau: object,
    data_root: str | Path | None = None,
    announcement: str | Path | None = None,
    beacon: str | None = None,
    config: ProbeConfig | str | Path | None = None,
    doubts: Sequence[str] = (),
) -> Verdict:
    """Accept a proof file, or raise ProofRejected or MalformedProof; UnusableInput for the verifier's own input.

    The proven threshold must be at most the number `tau`. `data_root` is a data.root file or the 64 hexadecimal digits
    of a root, `announcement` an announce.json or its digest, `beacon` hexadecimal, `config` a ProbeConfig or what
    `read_config` takes; None leaves the point open, and the verdict's warnings say what that means. `doubts`: warnings
    about `tau`, of whoever chose it.
    """
    root = None if data_root is None else _digest(data_root) or DatasetRoot.load(data_root)
    announced = None
    if announcement is not None:
        announced = _digest(announcement) or load_announcement(announcement).announcement_digest
    wanted = config if config is None or isinstance(config, ProbeConfig) else read_config(config)
    expected = Expectations(check_tau(tau), root, announced, parse_beacon(beacon), wanted)
    loaded, data = read_model(model)
    model_sha256, data = sha256(data).hexdigest(), read_proof(proof)
    start = time.perf_counter()
    report = verify_proof(data, loaded, expected)
    seconds = time.perf_counter() - start
    return Verdict(report, expected, seconds, model_sha256, sha256(data).hexdigest(), tuple(doubts))


def _digest(value: str | Path) -> bytes | None:
    """The 32 bytes that 64 hexadecimal digits denote; None for anything else, which is a file's name."""
    text = str(value)
    return bytes.fromhex(text.removeprefix("0x")) if DIGEST.fullmatch(text) else None
