"""The argument of a proof, that a circuit has a witness: read, redo the reductions, check the opening and the pads."""

from __future__ import annotations

from dataclasses import dataclass

from circuits.argument.channel import Channel
from circuits.argument.claims import Oracle
from circuits.argument.protocol import draw_weights, message_counts, run
from circuits.language.layout import Layout
from circuits.limits import least_lengths
from zkcert.core.code import MatrixCode, PadCode, pad_code
from zkcert.core.field import ELEMENT_BYTES
from zkcert.core.merkle import DIGEST_BYTES
from zkcert.core.proof import Reader
from zkcert.core.transcript import Transcript
from zkcert.errors import ProofRejected

from .opening import verify_opening
from .pads import verify_pads

SECTION_LIMIT = 1 << 28
ROOTS_BYTES = 3 * DIGEST_BYTES
NONCE_BYTES = 8


@dataclass(frozen=True)
class Argument:
    """The sections of an argument's bytes."""

    roots: Reader
    messages: Reader
    opening: Reader
    pads: Reader

    @staticmethod
    def read(data: bytes) -> Argument:
        """MalformedProof if it has no such sections."""
        reader = Reader(data)
        parts = [Reader(reader.section(ROOTS_BYTES), "roots")]
        parts += [Reader(reader.section(SECTION_LIMIT), name) for name in ("messages", "opening", "pad proof")]
        reader.end()
        return Argument(*parts)


def require_lengths(argument: Argument, messages: int, opening: int, pads: int, *, least: bool = False) -> None:
    """MalformedProof unless the sections have so many bytes: opening and pad proof at least, as siblings follow, and if
    `least` the messages, too. So nothing is computed for a proof that is too short for its circuit."""
    for reader, size, more in (
        (argument.roots, ROOTS_BYTES, False),
        (argument.messages, messages, least),
        (argument.opening, opening, True),
        (argument.pads, pads, True),
    ):
        found = len(reader.data)
        if found < size or (found > size and not more):
            raise reader.malformed(f"{found} bytes, {'at least ' * more}{size} wanted")


def require_plausible(data: bytes, parameters: int) -> None:
    """MalformedProof for an argument shorter than any about a model with so many parameter tensors.

    Costs nothing, so that no circuit is built for a file that holds no argument.
    """
    argument = Argument.read(data)
    messages, opening, pads = least_lengths(parameters)
    require_lengths(argument, messages, opening, pads, least=True)


def read_argument(data: bytes, layout: Layout) -> tuple[Argument, MatrixCode, PadCode]:
    """The sections, of the lengths that the circuit gives them, and the shapes of its two commitments."""
    argument, code = Argument.read(data), layout.code
    singles, triples = message_counts(layout, code.variables)
    pads = pad_code(singles, triples)
    nonces = 1 + bool(layout.circuit.draws.of)
    messages = ELEMENT_BYTES * (singles + 2 * triples + 1) + NONCE_BYTES * nonces
    require_lengths(argument, messages, code.opening_bytes, pads.opening_bytes)
    return argument, code, pads


def verify_circuit(layout: Layout, transcript: Transcript, data: bytes) -> None:
    """Raises ProofRejected or MalformedProof unless `data` proves that the circuit has a witness.

    docs/spec/argument.md, commitment.md. `transcript` must have absorbed the whole statement, exactly as the prover's.
    """
    argument, code, pads = read_argument(data, layout)
    matrix_root, pad_root, late_root = [argument.roots.take(DIGEST_BYTES) for _ in range(3)]
    transcript.absorb("roots", matrix_root + pad_root)
    channel = Channel(transcript, argument.messages)
    draw_weights(channel, layout.circuit)
    transcript.absorb("late-root", late_root)

    # all identities and range checks become hidden equations, and one claim X~(z) = value
    try:
        z = run(channel, Oracle(), layout, code.variables)
    except ZeroDivisionError as error:  # a chance below 2^-100, whoever made the proof
        raise ProofRejected("challenge", "a challenge that is divided by is zero") from error
    argument.messages.end()

    # the committed matrix has that value
    verify_opening(argument.opening, transcript, code, [matrix_root, late_root], z, channel.opened)

    # the committed pads, taken off the messages, satisfy every hidden equation
    weights = transcript.challenges("equations", len(channel.tape.equations))
    verify_pads(argument.pads, transcript, pads, pad_root, channel.tape.collapse(weights))
