"""Check an argument for a circuit: read the messages, redo the reductions, check the opening and the pad proof."""

from __future__ import annotations

from circuits.channel import Blind
from circuits.layout import Layout
from circuits.limits import least_lengths
from circuits.protocol import message_counts, run
from zkcert.core.code import matrix_code, pad_code
from zkcert.core.proof import Reader
from zkcert.core.transcript import Transcript
from zkcert.errors import MalformedProof, ProofRejected

from .channel import VerifierChannel
from .opening import verify_opening
from .pads import verify_pads

SECTION_LIMIT = 1 << 28


def require_length(reader: Reader, size: int, *, siblings: bool = False) -> None:
    """MalformedProof unless the section has so many bytes, or at least so many if others (`siblings`) may follow.

    So nothing is computed for a proof that is too short for its circuit.
    """
    if len(reader.data) < size or (len(reader.data) > size and not siblings):
        raise MalformedProof(f"{reader.what}: {len(reader.data)} bytes, {'at least ' * siblings}{size} wanted")


def sections(data: bytes) -> tuple[Reader, Reader, Reader, Reader]:
    """Roots, messages, opening and pad proof of an argument; MalformedProof if it has no such sections."""
    reader = Reader(data)
    roots = Reader(reader.section(64), "roots")
    messages = Reader(reader.section(SECTION_LIMIT), "messages")
    opening = Reader(reader.section(SECTION_LIMIT), "opening")
    pad_proof = Reader(reader.section(SECTION_LIMIT), "pad proof")
    reader.end()
    return roots, messages, opening, pad_proof


def require_plausible(data: bytes, parameters: int) -> None:
    """MalformedProof for an argument shorter than any about a model with so many parameter tensors.

    Costs nothing, so that no circuit is built for a file that holds no argument.
    """
    roots, *rest = sections(data)
    for reader, least in zip((roots, *rest), (64, *least_lengths(parameters)), strict=True):
        require_length(reader, least, siblings=reader is not roots)


def verify_circuit(layout: Layout, transcript: Transcript, data: bytes) -> None:
    """Raises ProofRejected or MalformedProof unless `data` proves that the circuit has a witness.

    `transcript` must have absorbed the whole statement, exactly as the prover's.
    """
    roots, messages, opening, pad_proof = sections(data)
    matrix_root, pad_root = roots.take(32), roots.take(32)
    roots.end()

    code = matrix_code(layout.data_end)
    singles, triples = message_counts(layout, code.variables)
    pads = pad_code(singles, triples)
    require_length(messages, 16 * (singles + 2 * triples + 1) + 8)
    require_length(opening, code.opening_bytes, siblings=True)
    require_length(pad_proof, pads.opening_bytes, siblings=True)
    transcript.absorb("roots", matrix_root + pad_root)
    channel = VerifierChannel(transcript, messages)
    try:
        z = run(channel, Blind(), layout, code.variables)
    except ZeroDivisionError as error:  # a chance below 2^-100, whoever made the proof
        raise ProofRejected("challenge", "a challenge that is divided by is zero") from error
    messages.end()
    verify_opening(opening, transcript, code, matrix_root, z, channel.opened)
    tape = channel.tape
    weights = transcript.challenges("equations", len(tape.equations))
    verify_pads(pad_proof, transcript, pads, pad_root, tape.collapse(weights))
