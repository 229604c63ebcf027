"""From private data to proof.bin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from circuits.language.layout import SMALLEST_CUT
from circuits.net import RESIDUE_COST
from circuits.statement import certificate, start_transcript
from prover.execution.run import Trace, execute, fill_threshold
from prover.execution.witness import Witness
from prover.phase import Phase, no_phase
from zkcert.core.container import ProofFile
from zkcert.data.committed import Samples
from zkcert.errors import UnusableInput
from zkcert.public.model import Model
from zkcert.public.statement import Statement

from . import kernels
from .argument import prove_circuit
from .checkpoint import Checkpoint

if TYPE_CHECKING:
    from .cluster.driver import Cluster

Check = Callable[[Trace, np.ndarray, np.ndarray], float]
"""Compares a trace with a reference on (images, labels): raises, or returns the difference."""


@dataclass(frozen=True)
class Proved:
    """A finished proof: its bytes, the statement, and (private) the trace and what `check` said of it."""

    data: bytes
    statement: Statement
    trace: Trace
    difference: float | None = None


def prove_statement(
    statement: Statement,
    model: Model,
    dataset: Samples,
    *,
    reveal_score: bool = False,
    check: Check | None = None,
    phase: Phase = no_phase,
    checkpoint: Checkpoint | None = None,
    x: NDArray[np.int32] | None = None,
    smallest_cut: int = SMALLEST_CUT,
    residue_cost: int = RESIDUE_COST,
    cluster: Cluster | None = None,
) -> Proved:
    """Execute the probe, check it against `check` (the float reference), and prove it.

    With a `checkpoint` that an earlier call left behind, finished phases are not repeated. x: zeros, int32 (entries of
    X,), where X is kept, such as a `Scratch` has; None: in memory. smallest_cut, residue_cost: as `verify_proof` will
    use them. cluster: whose workers take part.

    Raises ThresholdExceeded if the score is above tau, RangeOverflow or GradientTooSmall if the probe leaves the
    fixed-point range, UnusableInput if dataset and statement differ. These errors depend on private data.
    """
    if statement.dataset != dataset.root:
        raise UnusableInput("the dataset is not the one of the statement (another root)")
    if not kernels.compiled():
        with phase("compiling (first run only)"):
            kernels.warm_up()
    config = statement.config
    indices = statement.indices()
    shape = (config.steps, config.batch_size)
    difference: float | None = None
    with phase("witness"):
        samples = dataset.sample_bytes(indices).reshape(*shape, -1)
        if int(dataset.labels(indices).max()) >= dataset.schema.classes:
            raise UnusableInput("a label is not below the number of classes")
        rho = dataset.rho(indices).reshape(*shape, -1)
        hashes = dataset.sample_hashes(indices)
        cert = certificate(statement, model, hashes, residue_cost)
        layout = cert.close(statement.tau, smallest_cut=smallest_cut)
        if checkpoint is None or checkpoint.trace is None:
            witness, trace = execute(cert, samples, rho, x)
        else:
            witness, trace, difference = Witness(layout, x), checkpoint.trace, checkpoint.difference
            checkpoint.load_digits(witness.x)
            check = None
    if check is not None:
        with phase("reference"):
            difference = check(trace, dataset.images(indices), dataset.labels(indices))
    if reveal_score:
        statement = replace(statement, variance=trace.variance)
    fill_threshold(cert, witness, trace)
    if statement.variance is not None:
        cert.reveal(statement.variance)
    if checkpoint is not None:
        checkpoint.executed(trace, difference)
    order = sorted(range(len(indices)), key=indices.__getitem__)
    multiproof = dataset.multiproof([indices[i] for i in order])
    transcript = start_transcript(statement, hashes, multiproof, layout)
    argument = prove_circuit(layout, witness, transcript, phase=phase, checkpoint=checkpoint, cluster=cluster)
    data = ProofFile(statement.header(), hashes, multiproof, argument).to_bytes()
    return Proved(data, statement, trace, difference)
