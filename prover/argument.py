"""Prove that a witness satisfies a circuit: commitment, reductions, opening, pad proof."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy

import numpy as np
from blake3 import blake3

from circuits.argument.protocol import Phase, message_counts, no_phase, run
from circuits.language.layout import Layout
from prover.execution.witness import Witness
from zkcert.core.code import matrix_code
from zkcert.core.proof import section
from zkcert.core.transcript import Transcript
from zkcert.errors import UnusableInput

from . import kernels
from .channel import Pads, ProverChannel, Resumed
from .checkpoint import NoCheckpoint, saving
from .commit import MatrixCommitment, UnluckyMasks
from .oracle import ProverOracle, count_multiplicities
from .pads import PadCommitment


def prove_circuit(
    layout: Layout,
    witness: Witness,
    transcript: Transcript,
    *,
    phase: Phase = no_phase,
    strict: bool = False,
    checkpoint: NoCheckpoint | None = None,
) -> bytes:
    """The argument as bytes: roots, messages, opening, pad proof, each a length-prefixed section.

    `transcript` must have absorbed the whole statement. Fresh randomness is drawn for every call. With `strict`, a
    witness that breaks a constraint raises ProofRejected naming it instead of giving a proof that will be rejected.
    An interrupted attempt goes on where its checkpoint stands, with the randomness and the messages recorded there.
    """
    checkpoint = checkpoint or NoCheckpoint()
    while True:
        try:
            return attempt(layout, witness, copy(transcript), phase, strict, checkpoint)
        except UnluckyMasks:  # about once in 2^120: all randomness is drawn afresh
            checkpoint.forget()


def attempt(
    layout: Layout, witness: Witness, transcript: Transcript, phase: Phase, strict: bool, checkpoint: NoCheckpoint
) -> bytes:
    """One run with randomness of its own; raises UnluckyMasks if the masking rows' weights are dependent."""
    code = matrix_code(layout.data_end)
    state = checkpoint.attempt(transcript)
    x = witness.x
    # Bound to the statement: even a secret that is restored by mistake gives other pads under other challenges.
    secret = blake3(transcript.state, key=state.secret).digest()
    with phase("multiplicities"):
        count_multiplicities(layout, x)
        checkpoint.digits(x)
        pads = Pads.draw(secret, *message_counts(layout, code.variables))
    with phase("commit"):
        matrix = MatrixCommitment(x, code, secret, checkpoint.leaves(code))
        pad_commitment = PadCommitment(pads, secret)
        roots = matrix.root + pad_commitment.root
        if not state.roots:
            state.roots = roots
            checkpoint.commit(state, matrix.columns.leaves)
        if state.roots != roots:
            raise UnusableInput("the checkpoint holds the roots of another commitment; start again without it")
    transcript.absorb("roots", roots)
    channel = ProverChannel(transcript, pads, strict, state.messages)

    @contextmanager
    def saved(name: str) -> Iterator[None]:
        with phase(name), saving(checkpoint, state, name, channel.messages):
            yield

    masks = np.ascontiguousarray(matrix.masks)
    oracle = Resumed(channel, layout, lambda: ProverOracle(layout, witness, x, masks, code, strict))
    z = run(channel, oracle, layout, code.variables, phase=saved)
    assert message_counts(layout, code.variables) == (channel.tape.singles, channel.tape.triples)
    kernels.release()
    with phase("open"):
        opening = matrix.open(transcript, z)
    with phase("pads"):
        weights = transcript.challenges("equations", len(channel.tape.equations))
        pad_proof = pad_commitment.prove(transcript, channel.tape.collapse(weights))
    return b"".join(map(section, (roots, bytes(channel.messages), opening, pad_proof)))
