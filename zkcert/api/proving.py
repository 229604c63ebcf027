"""Prove."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from zkcert.api.beacons import own_beacon
from zkcert.api.certificate import announced
from zkcert.api.files import File, batches, check_device, load_model, needs_extras, open_dataset, raw_samples
from zkcert.api.fit import Fit, answer
from zkcert.api.notebook import phases_shown
from zkcert.api.phases import Phases, PhaseTime, Progress
from zkcert.api.samples import check_labels
from zkcert.api.workers import check_cluster, gathered
from zkcert.calibration import read_threshold
from zkcert.data.committed import CommittedDataset, Samples
from zkcert.data.normalised import input_values
from zkcert.errors import MalformedProof, ProofRejected, ThresholdExceeded, UnusableInput, ZkcertError
from zkcert.files.writing import NotWritten, check_output, keep_file, require_space
from zkcert.public.config import ProbeConfig
from zkcert.public.defaults import DEFAULT
from zkcert.public.kinds import PROOF, kind_of
from zkcert.public.model import Model
from zkcert.public.root import DatasetRoot
from zkcert.public.statement import Statement

if TYPE_CHECKING:
    from prover.checkpoint import Checkpoint
    from prover.cluster.driver import Cluster
    from prover.execution.run import Trace
    from prover.prove import Proved
    from prover.resources import Estimate

CROSS_CHECK_LIMIT = 1e-5
"""Largest difference of a log ratio (or of log s_t, see `compared`) from the float64 reference at which a proof is
written."""


def compared(config: ProbeConfig) -> str:
    """What of each step is compared with the float64 reference: what the statistic is of, as a logarithm."""
    return "log ratio" if config.of_steps.of_ratios else "log s_t"


class CrossCheckFailed(ZkcertError):
    """The fixed-point probe and the float64 reference disagree, or a fresh proof fails verification."""


@dataclass(frozen=True)
class ProofResult:
    """A written proof. `score` is private unless the statement reveals it, and so is `fit`, of the model to the samples
    drawn, always. `cross_check` is the largest |difference| of a log ratio from the float64 reference."""

    statement: Statement
    path: Path
    score: float
    fit: Fit
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
        from verifier.report import decimal_text, statement_dict

        return {
            "proof": str(self.path),
            "private": {
                "score": self.score,
                "cross_check": self.cross_check,
                "fit": self.fit.to_dict(),
                "warnings": list(self.fit.warnings),
            },
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
    beacon: File | None = None,
    chain: File | None = None,
    reveal_score: bool = False,
    device: str = "cpu",
    progress: Progress | None = None,
    planned: Callable[[Estimate], None] | None = None,
    warned: Callable[[str], None] | None = None,
    checkpoint: File | None = None,
    scratch: File | None = None,
    cluster: str | Cluster | None = None,
    force: bool = False,
) -> ProofResult:
    """Prove that the model's directional sharpness is at most tau on the samples the beacon draws; write `out`.

    model         a model file, .pt or .safetensors.
    data          a data.zkd file of `commit`.
    tau           a number or text such as "1.2", or a calibration.json, which fixes the configuration as well; None:
                  that of the announcement.
    config        of the probe; None: that of tau's file or of the announcement, else the default ProbeConfig.
    announcement  the announce.json of `announce`; what else is given must agree with it.
    beacon        hexadecimal, or the JSON file of a drand round, whose signature is checked: the round that the
                  announcement names, if it names one. None leaves the seed to the statement alone, which shows
                  verifiers less.
    chain         the name or the info.json of the round's chain; None: the chain the announcement names, if built in.
    reveal_score  put the exact score into the proof. A model that somebody else chose can be built so that its exact
                  score tells what single samples are: reveal that of your own models only.
    device        of the float64 reference, "cpu" or "cuda".
    progress      called with (name, None) when a phase begins, and with (name, PhaseTime) when it is done.
    planned       called with the estimate, before anything is computed.
    warned        called, before anything is computed, if the samples drawn do not seem to fit the model.
    force         replace a proof of that name, and go on although more memory seems to be needed than there is.
    checkpoint    a directory for the state of this proof: called again with the same arguments after an interruption,
                  prove goes on after the last finished phase. As secret as the data; removed at the end.
    scratch       a directory for a file without a name that holds the digits, four bytes each, in the place of memory.
                  As secret as the data; it vanishes with the process, or earlier. The proof is the same.
    cluster       "local:W" for W workers on this machine, or "ray://HOST:PORT" for one on each machine of a running Ray
                  cluster: they keep and hash the rows of the matrix and share the large trees. The proof is the same.

    Before anything is written the execution is compared with the float64 reference (CrossCheckFailed above
    CROSS_CHECK_LIMIT) and the proof is verified. Returns the ProofResult: `path`, `size` in bytes, `seconds`, and the
    private `score` and `fit`. Raises ThresholdExceeded if the score is above tau, and RangeOverflow or GradientTooSmall
    if the probe leaves the fixed-point range; all of these depend on private data. WorkerFailed if a worker of the
    cluster is lost. UnusableInput for the rest.
    """
    phases = Phases(phases_shown(progress))
    order = ordered(
        model,
        data,
        out,
        tau=tau,
        config=config,
        announcement=announcement,
        beacon=beacon,
        chain=chain,
        reveal_score=reveal_score,
        device=device,
        phases=phases,
        checkpoint=checkpoint,
        scratch=scratch,
        cluster=cluster,
        force=force,
    )
    if planned:
        planned(order.cost)
    for text in order.fit.warnings if warned else ():
        warned(text)
    from prover.checkpoint import Checkpoint
    from prover.cluster import WorkerFailed
    from prover.kernels.compiling import compile_clock
    from prover.scratch import Scratch

    sizes, statement = order.cost.sizes, order.statement
    file = nullcontext() if scratch is None else Scratch(Path(scratch), sizes.entries)
    state = nullcontext() if checkpoint is None else Checkpoint(Path(checkpoint), statement, reveal_score)
    with file as room, state as kept, compile_clock() as clock, gathered(cluster, phases) as team:
        phases.compiling = clock.seconds
        if kept:
            kept.require_space(sizes.entries, 1 << sizes.log_n)
        try:
            proved = made(
                statement,
                order.model,
                order.dataset,
                reveal_score=reveal_score,
                device=device,
                phases=phases,
                checkpoint=kept,
                x=None if room is None else room.x,
                cluster=team,
            )
        except WorkerFailed as error:
            rest = "no proof is written" if kept is None else f"the same command goes on from {checkpoint}"
            raise WorkerFailed(f"{error}; {rest}") from error
        if kept:
            with suppress(UnusableInput):  # of a full disk: the proof comes first
                kept.finish(proved.data)
        try:
            result = order.written(proved, phases.done, force)
        except NotWritten as error:
            if kept and error.kept:
                kept.remove()
            raise
        if kept:
            kept.remove()
    return result


@dataclass(frozen=True)
class Order:
    """A proof to be made, all arguments checked: where it goes, what it is made of, what it takes, and since when."""

    path: Path
    model: Model
    dataset: CommittedDataset
    statement: Statement
    cost: Estimate
    fit: Fit
    begun: float

    def written(self, proved: Proved, phases: Sequence[PhaseTime], force: bool) -> ProofResult:
        """Write the proof. Raises NotWritten."""
        keep_file(self.path, lambda: [proved.data], PROOF, force=force)
        assert proved.difference is not None
        seconds = time.perf_counter() - self.begun
        trace, size = proved.trace, len(proved.data)
        return ProofResult(
            proved.statement, self.path, trace.score, self.fit, proved.difference, size, seconds, tuple(phases)
        )


def ordered(
    model: File,
    data: File,
    out: File,
    *,
    phases: Phases,
    reveal_score: bool = False,
    device: str = "cpu",
    checkpoint: File | None = None,
    scratch: File | None = None,
    cluster: str | Cluster | None = None,
    force: bool = False,
    **about: Any,
) -> Order:
    """The order for a proof, arguments as those of `prove`: the phase "load"."""
    begun = time.perf_counter()
    check_cluster(cluster)
    try:
        inputs = (model, data, *(about.get(name) for name in ("announcement", "tau", "beacon", "chain")))
        path = check_output(out, PROOF, inputs=inputs, force=force)
    except UnusableInput as error:
        if checkpoint is not None and _removed(Path(checkpoint), Path(out)):
            raise UnusableInput(f"{error}; the checkpoint {checkpoint} was left over and is removed") from error
        raise
    with phases("load"):
        loaded, dataset, statement = intended(model, data, **about)
        if reveal_score and statement.config.statistic == "max":
            raise UnusableInput("the statistic max cannot be revealed: announce a tau just above it instead")
        with needs_extras("proving"):
            import prover.prove  # noqa: F401
            import zkcert.metric  # noqa: F401
            from prover.checkpoint import check_place
            from prover.resources import estimate as predict
            from prover.scratch import check_room
        if checkpoint is not None:
            if not os.fspath(checkpoint):
                raise UnusableInput("an empty name is given for the checkpoint: an unset variable?")
            check_place(Path(checkpoint))
        if scratch is not None and not os.fspath(scratch):
            raise UnusableInput("an empty name is given for the scratch file's directory: an unset variable?")
        check_device(device)
        cost = predict(statement, loaded)
        if not force:
            cost.require_memory(scratch is not None)
        require_space(path, cost.sizes.proof_bytes)
        if scratch is not None:
            check_room(Path(scratch), cost.scratch_file_bytes)
        fit = _fit(loaded, dataset, statement, device)
    return Order(path, loaded, dataset, statement, cost, fit, begun)


def made(
    statement: Statement,
    model: Model,
    dataset: Samples,
    *,
    reveal_score: bool,
    device: str,
    phases: Phases,
    checkpoint: Checkpoint | None = None,
    x: np.ndarray | None = None,
    cluster: Cluster | None = None,
) -> Proved:
    """A proof that was compared with the float64 reference and has verified itself; other arguments as those of
    `prove_statement`."""
    from prover.prove import prove_statement
    from verifier.verify import Expectations, verify_proof
    from zkcert.metric import directional_sharpness

    def check(trace: Trace, images: np.ndarray, labels: np.ndarray) -> float:
        inputs, targets = batches(statement.config, images, labels)
        reference = directional_sharpness(model, inputs, targets, statement.config, device)
        difference = trace.difference(reference)
        if not difference <= CROSS_CHECK_LIMIT:
            raise CrossCheckFailed(
                f"a {compared(statement.config)} differs from the float64 reference by {difference:.3g}, more than "
                f"{CROSS_CHECK_LIMIT:g}: the model amplifies rounding, so no proof is written"
            )
        return difference

    try:
        proved = prove_statement(
            statement,
            model,
            dataset,
            reveal_score=reveal_score,
            check=check,
            phase=phases if cluster is None else cluster.watched(phases),
            checkpoint=checkpoint,
            x=x,
            cluster=cluster,
        )
    except ThresholdExceeded as error:
        raise ThresholdExceeded(f"{error} (tau = {float(statement.tau):g}); no proof is written") from error
    if cluster is not None:
        cluster.end()
    with phases("self-check"):
        own = proved.statement
        expected = Expectations(own.tau, dataset.root, own.announcement_digest, own.beacon, own.config)
        try:
            verify_proof(proved.data, model, expected)
        except (ProofRejected, MalformedProof) as error:
            raise CrossCheckFailed(
                f"the new proof fails its own verification ({error}), so it is not written"
            ) from error
    return proved


class Intended(NamedTuple):
    """What a proof is made from, and its statement."""

    model: Model
    dataset: CommittedDataset
    statement: Statement


def intended(
    model: File,
    data: File,
    *,
    tau: object = None,
    config: ProbeConfig | None = None,
    announcement: File | None = None,
    beacon: File | None = None,
    chain: File | None = None,
) -> Intended:
    """What `prove` would prove with these arguments, the score being private."""
    before = None if announcement is None else announced(announcement)
    nonce = own_beacon(beacon, None if before is None else before.drand, chain)
    loaded, dataset = load_model(model), open_dataset(data)
    return Intended(loaded, dataset, replace(_statement(loaded, dataset.root, tau, config, before), beacon=nonce))


def _fit(model: Model, data: CommittedDataset, statement: Statement, device: str) -> Fit:
    """Of the model to the samples that the statement draws."""
    import torch

    from zkcert.metric import Network

    indices = statement.indices()
    inputs = torch.from_numpy(input_values(model.input, raw_samples(data.images(indices))))
    labels = torch.from_numpy(data.labels(indices))
    check_labels(model, labels.numpy())
    network = Network.of_model(model, device=device)
    return answer(network, inputs, labels, statement.config.batch_size).fit(model.classes)


def _removed(checkpoint: Path, proof: Path) -> bool:
    """Whether a killed process had left the checkpoint of the proof in that file; it is removed."""
    if not proof.is_file() or kind_of(proof) != PROOF:
        return False
    from prover.checkpoint import remove_finished

    return remove_finished(checkpoint, proof)


def _statement(
    model: Model, root: DatasetRoot, tau: object, config: ProbeConfig | None, announced: Statement | None
) -> Statement:
    """The statement without its beacon; what is given must agree with the announcement, if there is one."""
    if tau is not None:
        threshold, config, _ = read_threshold(tau, config)
    elif announced is not None:
        threshold = announced.tau
    else:
        raise UnusableInput("a threshold is needed: --tau, or an --announcement that holds one")
    if announced is None:
        return Statement.of(model, root, config or DEFAULT, threshold)
    statement = replace(Statement.of(model, root, config or announced.config, threshold), drand=announced.drand)
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
