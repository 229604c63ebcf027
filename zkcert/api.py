"""The commands as functions. PyTorch, numba and the prover are imported only by those that need them.

Numbers of a configuration and thresholds may be text such as "0.05"; see `zkcert.config.parse_fraction`. All
functions raise the errors of `zkcert.errors`; an output file appears complete or not at all.
"""

from __future__ import annotations

import math
import os
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from blake3 import blake3

from zkcert.config import ProbeConfig
from zkcert.core.container import ProofFile
from zkcert.core.permutation import sample_indices
from zkcert.data import CommittedDataset, DatasetRoot, Schema, load_dataset, replacing
from zkcert.data import commit as commit_dataset
from zkcert.errors import MalformedProof, ProofRejected, ThresholdExceeded, UnusableInput, ZkcertError
from zkcert.files import ANNOUNCEMENT, PROOF, SAMPLES, SECRET, expecting
from zkcert.model import Model
from zkcert.statement import (
    MAX_TAU,
    Statement,
    check_tau,
    load_announcement,
    parse_beacon,
    save_announcement,
)

if TYPE_CHECKING:
    from circuits.compile import Trace
    from prover.resources import Estimate
    from verifier.__main__ import Verdict

File = str | os.PathLike[str]
CROSS_CHECK_LIMIT = 1e-5
"""Largest difference of a log ratio from the float64 reference at which a proof is written."""


class CrossCheckFailed(ZkcertError):
    """The fixed-point probe and the float64 reference disagree, or a fresh proof fails verification."""


@dataclass(frozen=True)
class PhaseTime:
    """A finished phase of proving; peak_rss_bytes is the most memory the process held during it (where the system does
    not tell: since the process began)."""

    name: str
    seconds: float
    peak_rss_bytes: int


Progress = Callable[[str, PhaseTime | None], None]
"""Called with a phase's name and None when it starts, and with its figures when it is done."""


# ------------------------------------------------------------------------------------ commit and announce


@dataclass(frozen=True)
class Commitment:
    """A committed dataset: `root` is public, the file `secret` is what proofs are made from."""

    root: DatasetRoot
    secret: Path
    public: Path
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "root": self.root.root.hex(),
            "N": self.root.n,
            "schema": self.root.schema.to_dict(),
            "secret": str(self.secret),
            "public": str(self.public),
            "seconds": round(self.seconds, 3),
        }


def commit(
    data: File | Sequence[File],
    out: File = "data.zkd",
    *,
    classes: int | None = None,
    force: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Commitment:
    """Commit to a dataset (see `zkcert.data.load_dataset`): the secret `out` and, beside it, the public .root.

    An existing commitment is replaced only with `force`: nothing more can be proved about a root whose secret
    file is gone. progress is called with (samples done, samples).
    """
    secret = Path(out)
    public = secret.with_suffix(".root")
    for path in (secret, public):
        if path.is_dir():
            raise UnusableInput(f"{path} is a directory")
        if path.exists() and not force:
            raise UnusableInput(
                f"{path} exists: replacing it makes its root useless, as no proof about it can be made any more; "
                "choose another name, or --force"
            )
    start = time.perf_counter()
    source = os.fspath(data) if isinstance(data, str | os.PathLike) else data
    with _expecting_samples(data):
        root = commit_dataset(source, secret, classes=classes, progress=progress)
    return Commitment(root, secret, public, time.perf_counter() - start)


@dataclass(frozen=True)
class Announcement:
    """What is fixed before the beacon exists; publish `digest`."""

    statement: Statement
    path: Path

    @property
    def digest(self) -> bytes:
        """32 bytes."""
        return self.statement.announcement_digest


def _announces(path: File, statement: Statement) -> bool:
    try:
        return load_announcement(os.fspath(path)).announcement_digest == statement.announcement_digest
    except UnusableInput:
        return False


def announce(
    model: File,
    data_root: File,
    out: File = "announce.json",
    *,
    tau: object,
    config: ProbeConfig | None = None,
    force: bool = False,
) -> Announcement:
    """Fix circuit, weights, dataset, configuration and threshold, so that a beacon can be drawn afterwards.

    The beacon decides which samples are drawn. Whoever knows it before the model is fixed can try tiny changes of
    the model until good samples come up; therefore announce first. Statements without a circuit are refused here.
    Another file of that name is replaced only with `force`: its digest may have been published.
    """
    from circuits.statement import certificate

    loaded, root = _load_model(model), _load_root(data_root)
    statement = Statement.of(loaded, root, config or ProbeConfig(), check_tau(tau))
    count = statement.config.steps * statement.config.batch_size
    certificate(statement, loaded, np.zeros((count, 160), np.uint64)).close(statement.tau)
    if not force and Path(out).exists() and not _announces(out, statement):
        raise UnusableInput(f"{out} exists and says something else: choose another name, or --force")
    save_announcement(statement, os.fspath(out))
    return Announcement(statement, Path(out))


def announced(path: File) -> Statement:
    """The statement that an announce.json fixes, without a beacon."""
    with expecting(path, ANNOUNCEMENT):
        return load_announcement(os.fspath(path))


# ------------------------------------------------------------------------------------------ estimate


def estimate(
    model: File, *, config: ProbeConfig | None = None, data_root: File | None = None, rates: File | None = None
) -> Estimate:
    """What a proof will take: exact sizes, and time and memory on this machine. Needs no data and computes no proof.

    data_root  data.root, for the number and kind of samples; None: 50,000 samples of bytes.
    rates      measured costs, of `python -m benchmarks.scaling`; None: the machine's own, or those shipped.
    """
    from prover.resources import Rates
    from prover.resources import estimate as predict

    loaded, config = _load_model(model), config or ProbeConfig()
    if data_root is None:
        channels, height, width = loaded.input["shape"]
        schema = Schema(loaded.classes, "u8", (channels, height, width))
        root = DatasetRoot(bytes(32), max(50_000, config.steps * config.batch_size), schema)
    else:
        root = _load_root(data_root)
    statement = Statement.of(loaded, root, config, Fraction(MAX_TAU))
    return predict(statement, loaded, None if rates is None else Rates.load(Path(rates)))


# --------------------------------------------------------------------------------------------- prove


@dataclass(frozen=True)
class ProofResult:
    """A written proof. `score` is private unless the statement reveals it; `cross_check` is the largest
    |difference| of a log ratio from the float64 reference on the same batches."""

    statement: Statement
    path: Path
    score: float
    cross_check: float
    size: int
    seconds: float
    phases: tuple[PhaseTime, ...]

    @property
    def tau(self) -> Fraction:
        return self.statement.tau

    @property
    def peak_rss_bytes(self) -> int:
        """The most memory the process held."""
        return max(phase.peak_rss_bytes for phase in self.phases)

    def to_dict(self) -> dict[str, Any]:
        """JSON values. What stands under "private" is not in the proof: keep it out of public logs."""
        from verifier.__main__ import decimal_text, statement_dict

        return {
            "proof": str(self.path),
            "private": {"score": self.score, "cross_check": self.cross_check},
            "tau": decimal_text(self.tau),
            "bytes": self.size,
            "seconds": round(self.seconds, 3),
            "peak_rss_bytes": self.peak_rss_bytes,
            "phases": [
                {"name": p.name, "seconds": round(p.seconds, 3), "peak_rss_bytes": p.peak_rss_bytes}
                for p in self.phases
            ],
            "announcement": self.statement.announcement_digest.hex(),
            "statement": statement_dict(self.statement),
        }


def prove(
    model: File,
    data: File,
    out: File = "proof.bin",
    *,
    tau: object = None,
    config: ProbeConfig | None = None,
    announcement: File | None = None,
    beacon: str | None = None,
    reveal_score: bool = False,
    device: str = "cpu",
    progress: Progress | None = None,
    planned: Callable[[Estimate], None] | None = None,
    checkpoint: File | None = None,
    force: bool = False,
) -> ProofResult:
    """Prove that the model's directional sharpness is at most tau on the samples the beacon draws; write `out`.

    data          a data.zkd file of `commit`.
    announcement  the announce.json of `announce`; what else is given must agree with it.
    beacon        hexadecimal; None leaves the seed to the statement alone, which shows verifiers less.
    device        of the float64 reference, "cpu" or "cuda".
    planned       called with the estimate, before anything is computed.
    force         go on although more memory seems to be needed than there is.
    checkpoint    a directory for the state of this proof: called again with the same arguments after an interruption,
                  prove goes on after the last finished phase. As secret as the data; removed at the end.

    Before anything is written the execution is compared with the float64 reference (CrossCheckFailed above
    CROSS_CHECK_LIMIT) and the proof is verified. Raises ThresholdExceeded if the score is above tau, and
    RangeOverflow or GradientTooSmall if the probe leaves the fixed-point range; all three depend on private data.
    """
    phases = _Phases(progress)
    start = time.perf_counter()
    path = Path(out)
    if path.is_dir() or not path.parent.is_dir():
        raise UnusableInput(f"{path}: not a file in an existing directory")
    nonce = parse_beacon(beacon)
    with phases("load"):
        before = None if announcement is None else announced(announcement)
        loaded, dataset = _load_model(model), _open_dataset(data)
        statement = _statement(loaded, dataset.root, tau, config, before).with_beacon(nonce)
        with _needs_extras("proving"):
            from prover.checkpoint import Checkpoint
            from prover.prove import prove_statement
            from prover.resources import estimate as predict
            from zkcert.metric import directional_sharpness
        _check_device(device)
        cost = predict(statement, loaded)
        if not force:
            cost.require_memory()
    if planned:
        planned(cost)
    from verifier.verify import Expectations, verify_proof

    def check(trace: Trace, images: np.ndarray, labels: np.ndarray) -> float:
        x, y = _batches(statement.config, images, labels)
        reference = directional_sharpness(loaded, x, y, statement.config, device)
        fixed = np.array([value / 2**32 for value in trace.ys])
        difference = float(np.abs(fixed - reference.log_ratio).max())
        if not difference <= CROSS_CHECK_LIMIT:
            raise CrossCheckFailed(
                f"a log ratio differs from the float64 reference by {difference:.3g}, more than "
                f"{CROSS_CHECK_LIMIT:g}: the model amplifies rounding, so no proof is written"
            )
        return difference

    state = nullcontext() if checkpoint is None else Checkpoint(Path(checkpoint), statement, reveal_score)
    with state as kept:
        try:
            proved = prove_statement(
                statement, loaded, dataset, reveal_score=reveal_score, check=check, phase=phases, checkpoint=kept
            )
        except ThresholdExceeded as error:
            raise ThresholdExceeded(f"{error} (tau = {float(statement.tau):g}); no proof is written") from error
        with phases("self-check"):
            own = proved.statement
            expected = Expectations(own.tau, dataset.root, own.announcement_digest, nonce, own.config)
            try:
                verify_proof(proved.data, loaded, expected)
            except (ProofRejected, MalformedProof) as error:
                raise CrossCheckFailed(
                    f"the new proof fails its own verification ({error}), so it is not written"
                ) from error
        with replacing(path, 0o666) as file:
            file.write(proved.data)
        if kept:
            kept.remove()
    seconds = time.perf_counter() - start
    assert proved.difference is not None
    return ProofResult(own, path, proved.trace.score, proved.difference, len(proved.data), seconds, tuple(phases.done))


def _statement(
    model: Model, root: DatasetRoot, tau: object, config: ProbeConfig | None, announced: Statement | None
) -> Statement:
    """The statement without its beacon; what is given must agree with the announcement, if there is one."""
    if announced is None:
        if tau is None:
            raise UnusableInput("a threshold is needed: --tau, or an --announcement that holds one")
        return Statement.of(model, root, config or ProbeConfig(), check_tau(tau))
    statement = Statement.of(model, root, config or announced.config, announced.tau if tau is None else check_tau(tau))
    for field, name in (
        ("circuit_digest", "the model's layers"),
        ("weights_digest", "the model's weights"),
        ("dataset", "the dataset"),
        ("config", "the configuration"),
        ("tau", "tau"),
    ):
        if getattr(statement, field) != getattr(announced, field):
            raise UnusableInput(f"the announcement does not fit: {name} changed")
    return statement


class _Phases:
    """A phase hook that keeps the figures and passes them on."""

    def __init__(self, progress: Progress | None) -> None:
        self.done: list[PhaseTime] = []
        self._progress = progress

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        if self._progress:
            self._progress(name, None)
        start = time.perf_counter()
        reset_peak_rss()
        yield
        self.done.append(PhaseTime(name, time.perf_counter() - start, peak_rss()))
        if self._progress:
            self._progress(name, self.done[-1])


def reset_peak_rss() -> None:
    """Make `peak_rss` count from here on, where the system allows it."""
    with suppress(OSError), open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def peak_rss() -> int:
    """Bytes of memory this process has held at most."""
    import resource
    import sys

    with suppress(OSError), open("/proc/self/status") as file:
        for line in file:
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


@contextmanager
def _needs_extras(what: str) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        raise UnusableInput(f"{what} needs {error.name}: pip install -e '.[prove]' in the checkout") from error


def _check_device(device: str) -> None:
    import torch

    if device not in ("cpu", "cuda") or (device == "cuda" and not torch.cuda.is_available()):
        raise UnusableInput(f"device {device[:40]} is not available; cpu always is")


def _load_model(path: File) -> Model:
    from verifier.__main__ import load_model

    return load_model(Path(path))


def _load_root(path: File) -> DatasetRoot:
    from verifier.__main__ import load_root

    return load_root(Path(path))


def _open_dataset(path: File) -> CommittedDataset:
    with expecting(path, SECRET):
        return CommittedDataset.open(os.fspath(path))


def _expecting_samples(data: File | Sequence[File]) -> AbstractContextManager[None]:
    return expecting(data, SAMPLES) if isinstance(data, str | os.PathLike) else nullcontext()


def _batches(config: ProbeConfig, images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Samples (T B, C, H, W) as the metric takes them: uint8, or int64 in Q31.32; labels (T, B)."""
    shape = (config.steps, config.batch_size)
    if images.dtype != np.uint8:
        images = np.floor(images.astype(np.float64) * 2.0**32 + 0.5).astype(np.int64)
    return images.reshape(*shape, *images.shape[1:]), labels.reshape(shape)


# --------------------------------------------------------------------------------- verify and inspect


def verify(
    proof: File,
    model: File,
    *,
    tau: object,
    data_root: File | None = None,
    announcement: File | None = None,
    beacon: str | None = None,
    config: ProbeConfig | None = None,
) -> Verdict:
    """Accept a proof file or raise; see `verifier.__main__.verify_files`. Imports neither PyTorch nor numba."""
    from verifier.__main__ import verify_files

    pins = [None if pin is None else os.fspath(pin) for pin in (data_root, announcement)]
    return verify_files(
        os.fspath(proof),
        os.fspath(model),
        tau=tau,
        data_root=pins[0],
        announcement=pins[1],
        beacon=beacon,
        config=config,
    )


@dataclass(frozen=True)
class Inspection:
    """What a proof says about itself; nothing of it has been checked. `sections`: name -> bytes."""

    statement: Statement
    sections: dict[str, int]
    size: int

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        from verifier.__main__ import statement_dict

        return {**statement_dict(self.statement), "bytes": self.size, "sections": self.sections}


def inspect(proof: File) -> Inspection:
    """The statement and the sizes of the sections of a proof file, without the model and without checking it."""
    from verifier.__main__ import read_proof

    data = read_proof(os.fspath(proof))
    with expecting(proof, PROOF):
        parts = ProofFile.parse(data)
    sections = {
        "header": len(parts.header),
        "sample hashes": parts.hashes.nbytes,
        "dataset multiproof": len(parts.multiproof),
        "argument": len(parts.argument),
    }
    try:
        statement = Statement.parse_header(parts.header)
    except UnusableInput as error:
        raise MalformedProof(str(error)) from error
    return Inspection(statement, sections, len(data))


# --------------------------------------------------------------------------------------------- measure


@dataclass(frozen=True)
class Measurement:
    """The float64 metric. indices (T, B); sharpness s_t, loss L_t and log_ratio y_t have T entries each."""

    config: ProbeConfig
    indices: tuple[tuple[int, ...], ...]
    sharpness: tuple[float, ...]
    loss: tuple[float, ...]
    log_ratio: tuple[float, ...]
    score: float

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "config": self.config.canonical(),
            "indices": [list(batch) for batch in self.indices],
            "sharpness": list(self.sharpness),
            "loss": list(self.loss),
            "log_ratio": list(self.log_ratio),
            "score": self.score,
        }


def measure(
    model: File,
    data: File | Sequence[File],
    *,
    config: ProbeConfig | None = None,
    beacon: str | None = None,
    seed: str | None = None,
    device: str = "cpu",
) -> Measurement:
    """The float64 metric on the batches a proof would use, without proving anything.

    Of a committed dataset (data.zkd), the samples are those that `beacon` draws, or no beacon; of any other dataset
    those that BLAKE3 of the text `seed` (default: empty) draws.
    """
    config = config or ProbeConfig()
    loaded = _load_model(model)
    if isinstance(data, str | os.PathLike) and _is_committed(data):
        if seed is not None:
            raise UnusableInput("the samples of a committed dataset follow from the beacon: no --seed")
        dataset = _open_dataset(data)
        statement = Statement.of(loaded, dataset.root, config, Fraction(MAX_TAU))  # tau does not move the seed
        indices = statement.with_beacon(parse_beacon(beacon)).indices()
        images, labels = dataset.images(indices), dataset.labels(indices)
    else:
        if beacon is not None:
            raise UnusableInput("a beacon draws from a committed dataset (data.zkd); use --seed")
        with _expecting_samples(data):
            plain = load_dataset(data)
        if list(plain.x.shape[1:]) != loaded.input["shape"]:
            raise UnusableInput(
                f"the model takes samples of shape {loaded.input['shape']}, the dataset has {list(plain.x.shape[1:])}"
            )
        key = blake3((seed or "").encode()).digest()
        indices = sample_indices(key, len(plain), config.steps * config.batch_size)
        images, labels = plain.x[indices], plain.y[indices]
    with _needs_extras("measuring"):
        from zkcert.metric import directional_sharpness
    _check_device(device)
    found = directional_sharpness(loaded, *_batches(config, images, labels), config, device)
    rows = np.reshape(indices, (config.steps, config.batch_size)).tolist()
    sharpness, loss, log_ratio = (tuple(v.tolist()) for v in (found.sharpness, found.loss, found.log_ratio))
    return Measurement(config, tuple(map(tuple, rows)), sharpness, loss, log_ratio, found.score)


def _is_committed(path: File) -> bool:
    """Whether a file begins as a .zkd does, or is called so."""
    try:
        with open(path, "rb") as file:
            return file.read(8) == b"zkcert-d" or Path(path).suffix == ".zkd"
    except OSError:
        return Path(path).suffix == ".zkd"


# ------------------------------------------------------------------------------------------------ demo


@dataclass(frozen=True)
class DemoResult:
    """What the demonstration made. `rejected`: each forgery and what the verifier said to it."""

    proof: ProofResult
    verdict: Verdict
    rejected: tuple[tuple[str, str], ...]


def demo(
    out: File | None = None,
    *,
    say: Callable[[str], None] = lambda text: None,
    progress: Progress | None = None,
    planned: Callable[[Estimate], None] | None = None,
) -> DemoResult:
    """The whole path on a small LeNet-5 and a slice of Fashion-MNIST, then three forgeries; no downloads.

    say is told what happens, line by line. With `out` the files stay in that directory.
    """
    with _needs_extras("the demonstration"), tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch if out is None else out)
        place.mkdir(parents=True, exist_ok=True)
        names = ("model.pt", "data.zkd", "data.root", "announce.json", "proof.bin")
        model, secret, root, announcement, proof = (place / name for name in names)
        if taken := [path for path in (model, secret, root, announcement, proof) if path.exists()]:
            raise UnusableInput(f"{taken[0]} exists; give a directory without earlier results")

        say("Provider: train LeNet-5 for a few seconds on 2,000 images of Fashion-MNIST.")
        dataset = Path(scratch) / "fashion.npz"
        train_lenet(model, dataset)
        say("Provider: commit to the images. data.root is public, data.zkd stays secret.")
        commitment = commit(dataset, secret)
        say(f"    root {commitment.root.root.hex()}, N = {commitment.root.n}")

        config = ProbeConfig(steps=5, batch_size=8)
        trials = [measure(model, dataset, config=config, seed=f"trial {i}").score for i in range(8)]
        tau = Fraction(math.ceil(20 * max(trials)), 10)
        say(
            f"Provider: the score depends on the samples drawn; eight trial draws give {min(trials):.3f} to "
            f"{max(trials):.3f}. The beacon will draw others, so tau needs room: twice the largest, {float(tau):g}."
        )
        say("Provider: announce model, dataset, configuration and tau, before the beacon exists.")
        announced = announce(model, root, announcement, tau=tau, config=config)
        say(f"    digest {announced.digest.hex()}")
        beacon = secrets.token_hex(32)
        say(f"Verifier: having seen the digest, choose a random beacon.\n    beacon {beacon}")
        say("Provider: prove. The beacon decides which 5 x 8 samples are drawn.")
        result = prove(
            model, secret, proof, announcement=announcement, beacon=beacon, progress=progress, planned=planned
        )
        say(
            f"    {result.size:,} bytes in {result.seconds:.1f} s; the score {result.score:.6f} stays private; "
            f"float64 reference within {result.cross_check:.1e}"
        )
        say("Verifier: check the proof. Only proof, model, data.root and announcement are needed.")
        verdict = verify(proof, model, tau=tau, data_root=root, announcement=announcement, beacon=beacon)
        for line in verdict.lines():
            say(f"    {line}")
        say("Three forgeries:")
        rejected = []
        for name, forged_proof, forged_model in _forgeries(proof, model, Path(scratch)):
            try:
                verify(forged_proof, forged_model, tau=tau)
            except ZkcertError as error:
                rejected.append((name, str(error)))
                say(f"    {name}: REJECTED {error}")
            else:
                raise CrossCheckFailed(f"the verifier accepted a forgery: {name}")
        if out is not None:
            say(f"Files are in {place}.")
        return DemoResult(result, verdict, tuple(rejected))


def train_lenet(model: Path, dataset: Path, epochs: int = 8) -> None:
    """Write the shipped slice of Fashion-MNIST as .npz, and a LeNet-5 trained on it for a few epochs."""
    import torch

    from zkcert.convert import from_sequential
    from zkcert.model import input_values
    from zkcert.zoo import LENET5_INPUT, fashion_mnist_small, lenet5, train

    x, y = fashion_mnist_small()
    np.savez(dataset, x=x, y=y)
    module = lenet5()
    inputs = torch.tensor(input_values(LENET5_INPUT, x), dtype=torch.float32)
    train(module, inputs, torch.tensor(y.astype(np.int64)), epochs=epochs)
    from_sequential(module, input=LENET5_INPUT).save(model)


def _forgeries(proof: Path, model: Path, scratch: Path) -> Iterator[tuple[str, Path, Path]]:
    """(what was done, proof, model): inputs a verifier must reject."""
    honest = ProofFile.parse(proof.read_bytes())
    argument = bytearray(honest.argument)
    argument[8 + 64 + 8 + 16] ^= 1  # past the roots: a byte of the second message
    forged = scratch / "forged.bin"
    forged.write_bytes(replace(honest, argument=bytes(argument)).to_bytes())
    yield "one bit of a message flipped (which changes all later challenges)", forged, model

    statement = Statement.parse_header(honest.header)
    lower = replace(statement, tau=statement.tau / 2)
    forged.write_bytes(replace(honest, header=lower.header()).to_bytes())
    yield "tau halved in the statement, the argument kept", forged, model

    genuine = Model.load(model)
    params = {name: array.copy() for name, array in genuine.tensors.items()}
    next(iter(params.values())).flat[0] += 2.0**-20
    changed = scratch / "changed.safetensors"
    Model(genuine.graph, genuine.input, params).save(changed)
    yield "the same proof for a model with one weight changed by 2^-20", proof, changed
