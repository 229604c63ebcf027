"""Prove that a witness satisfies a circuit: commitment, reductions, opening, pad proof."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from typing import TYPE_CHECKING

from blake3 import blake3

from circuits.argument.batching import batch
from circuits.argument.lookups import range_check
from circuits.argument.protocol import draw_weights, identity_claims, message_counts
from circuits.language.layout import Layout
from prover.execution.witness import Witness
from zkcert.core.proof import section
from zkcert.core.transcript import Transcript
from zkcert.errors import UnusableInput

from . import kernels
from .channel import Pads, ProverChannel, Resumed
from .checkpoint import NoCheckpoint, saving
from .combinations import fill_combinations
from .commit import MatrixCommitment, Part, UnluckyMasks
from .oracle import ProverOracle, count_multiplicities
from .pads import PadCommitment
from .phase import Phase, no_phase
from .trees import digit_tree

if TYPE_CHECKING:
    from .cluster.driver import Cluster


def prove_circuit(
    layout: Layout,
    witness: Witness,
    transcript: Transcript,
    *,
    phase: Phase = no_phase,
    strict: bool = False,
    checkpoint: NoCheckpoint | None = None,
    cluster: Cluster | None = None,
) -> bytes:
    """The argument as bytes: roots, messages, opening, pad proof, each a length-prefixed section.

    `transcript` must have absorbed the whole statement. Fresh randomness is drawn for every call. With `strict`, a
    witness that breaks a constraint raises ProofRejected naming it instead of giving a proof that will be rejected.
    An interrupted attempt goes on where its checkpoint stands, with the randomness and the messages recorded there.
    The workers of a `cluster` take part; the bytes are the same.
    """
    checkpoint = checkpoint or NoCheckpoint()
    while True:
        try:
            return attempt(layout, witness, copy(transcript), phase, strict, checkpoint, cluster)
        except UnluckyMasks:  # about once in 2^120: all randomness is drawn afresh
            checkpoint.forget()


def attempt(
    layout: Layout,
    witness: Witness,
    transcript: Transcript,
    phase: Phase,
    strict: bool,
    checkpoint: NoCheckpoint,
    cluster: Cluster | None,
) -> bytes:
    """One run with randomness of its own; raises UnluckyMasks if the masking rows' weights are dependent."""
    code, start = layout.code, layout.late_start
    state = checkpoint.attempt(transcript)
    x = witness.x
    make_part, make_tree = (Part, digit_tree) if cluster is None else (cluster.part, cluster.digit_tree)
    # Bound to the statement: even a secret that is restored by mistake gives other pads under other challenges.
    secret = blake3(transcript.state, key=state.secret).digest()
    with phase("commit"):
        checkpoint.digits(x)
        pads = Pads.draw(secret, *message_counts(layout, code.variables))
        matrix = MatrixCommitment(code, make_part)
        first = matrix.commit(x[:start], secret, checkpoint.leaves(code))
        pad_commitment = PadCommitment(pads, secret)
    transcript.absorb("roots", first.root + pad_commitment.root)
    channel = ProverChannel(transcript, pads, strict, state.messages)
    with phase("late digits"):
        draw_weights(channel, layout.circuit)
        fill_combinations(witness)
        count_multiplicities(layout, x)
        # Bound to the weights: tails of the second part answer one set of challenges only.
        second = matrix.commit(x[start:], blake3(transcript.state, key=secret).digest())
        roots = first.root + pad_commitment.root + second.root
        if not state.roots:
            state.roots = roots
            checkpoint.commit(state, first.columns.leaves)
        if state.roots != roots:
            raise UnusableInput("the checkpoint holds the roots of another commitment; start again without it")
    transcript.absorb("late-root", second.root)

    @contextmanager
    def saved(name: str) -> Iterator[None]:
        with phase(name), saving(checkpoint, state, name, channel.messages):
            yield

    oracle = Resumed(channel, lambda: ProverOracle(layout, witness, x, matrix.masks, code, strict, make_tree))
    # `circuits.argument.protocol.run`, phase by phase
    with saved("constraints"):
        claims = identity_claims(channel, oracle, layout.circuit)
    with saved("range checks"):
        claims += range_check(channel, oracle, layout)
    with saved("batch"):
        oracle.check(claims, channel)
        z = batch(channel, oracle, layout, claims, code.variables)
    assert message_counts(layout, code.variables) == (channel.tape.singles, channel.tape.triples)
    kernels.release()
    with phase("open"):
        opening = matrix.open(transcript, z)
    with phase("pads"):
        weights = transcript.challenges("equations", len(channel.tape.equations))
        pad_proof = pad_commitment.prove(transcript, channel.tape.collapse(weights))
    return b"".join(map(section, (roots, bytes(channel.messages), opening, pad_proof)))
