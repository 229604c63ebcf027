"""All steps of a verifier (README.md, "How a verifier proceeds")."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .argument import Argument, column_weights, counts
from .circuit import Builder
from .commitment import PadShape, check_opening, check_pads, check_samples, pad_shape
from .errors import require
from .field import P
from .files import canonical, read_announcement, read_model, read_proof, read_root
from .language import PRIMES, lay_out, listing, term_count
from .soundness import security, terms
from .statement import (
    announcement_digest,
    check_fit,
    check_schema,
    config_digest,
    dataset_digest,
    drawn,
    parse_header,
    seed,
)
from .transcript import H, Transcript, u64


@dataclass
class Inputs:
    """The files of a verification; what a reader insists on may be left out."""

    proof: bytes
    model_name: str
    model: bytes
    root: bytes | None = None
    announcement: bytes | None = None


def read_folder(folder: Path) -> Inputs:
    """The files of a folder of the test vectors."""
    model = next(p for p in sorted(folder.iterdir()) if p.name.startswith("model."))
    files = [folder / name for name in ("data.root", "announce.json")]
    return Inputs((folder / "proof.bin").read_bytes(), model.name, model.read_bytes(), *(f.read_bytes() for f in files))


@dataclass
class Result:
    """What was computed on the way, in the terms of values.json, listing and transcript."""

    values: dict
    listing: bytes
    transcript: list[str]


def pads_length(pads: PadShape) -> int:
    """The bytes of a pad proof, but for the nonce and the multi-proof."""
    return 16 * ((5 << pads.b) + pads.t * (pads.rows + 3))


def verify(inputs: Inputs, residue_cost: int = 10) -> Result:
    """Check a proof; raises Reject with the name of the check that fails.

    `residue_cost`: see Builder; for proofs that were made for another constant than the specification's.
    """
    proof = read_proof(inputs.proof)
    s = parse_header(proof.header)
    model = read_model(inputs.model_name, inputs.model)
    check_fit(s, model)
    digest = announcement_digest(s.announcement).hex()
    if inputs.root is not None:
        root = read_root(inputs.root)
        check_schema(root["schema"])
        mine = {"N": s.samples, "root": s.root.hex(), "schema": s.schema}
        require(mine == {k: root[k] for k in mine}, "data.root", "another dataset than the statement's")
    if inputs.announcement is not None:
        announced = read_announcement(inputs.announcement)
        same = canonical(announced) == canonical({**s.announcement, "digest": digest})  # as bytes: 2 == 2.0
        require(same, "announce.json", "another announcement")
    # lengths, before a circuit is built
    tensors = len(model.parameters)
    least = pad_shape(2 * tensors, 4 * tensors)
    require(len(proof.messages) >= 16 * (10 * tensors + 1) + 8, "malformed", "length of the messages")
    require(len(proof.opening) >= 6 << 15, "malformed", "length of the opening")
    require(len(proof.pads) >= pads_length(least), "malformed", "length of the pad proof")
    # drawn samples
    r = seed(s)
    count = s.steps * s.batch
    require(len(proof.hashes) == 1280 * count, "malformed", "number of sample hashes")
    words = (int.from_bytes(proof.hashes[at : at + 8], "little") for at in range(0, len(proof.hashes), 8))
    require(all(w < P for w in words), "malformed", "an entry of a sample hash is not below p")
    indices = drawn(r, s.samples, count)
    check_samples(s.samples, s.root, indices, proof.hashes, proof.multiproof)
    # circuit
    b = Builder(s, model, residue_cost)
    circuit = b.c
    n_terms = term_count(circuit)
    require(n_terms <= 1 << 16, "limits", "terms")
    layout = lay_out(circuit)
    text = listing(circuit, layout)
    shape = layout.shape
    sent = counts(circuit, layout, shape.variables)
    pads = pad_shape(sent.singles, sent.triples)
    weights = column_weights(circuit)
    require(sent.singles + 2 * sent.triples <= 1 << 19, "limits", "hidden elements")
    require(weights <= 1 << 27, "limits", "column weights")
    # lengths
    messages = 16 * (sent.singles + 2 * sent.triples + 1) + (16 if circuit.draws else 8)
    require(len(proof.messages) == messages, "malformed", "length of the messages")
    opening = 3 * shape.tail + 2 + shape.t * shape.rows + (2 << shape.levels[-1].k)
    opening += sum(2 * level.rounds + level.t * level.rows for level in shape.levels)
    require(len(proof.opening) >= 16 * opening, "malformed", "length of the opening")
    require(len(proof.pads) >= pads_length(pads), "malformed", "length of the pad proof")
    # soundness
    table = terms(circuit, layout, shape, pads, sent)
    work, attempt = security(table)
    require(work >= 100, "soundness", f"{work:.2f} bits")
    # transcript
    parameters = {
        "data_end": layout.data_end,
        "digits": layout.digit_count,
        "log_n": shape.m,
        "queries": shape.t,
        "row_bits": shape.k,
        "rows": list(shape.parts),
        "levels": [[level.k, level.rows, level.m, level.t] for level in shape.levels],
        "tables": layout.tables,
    }
    tr = Transcript()
    tr.absorb("statement", proof.header)
    tr.absorb("listing", H(text))
    tr.absorb("indices", b"".join(map(u64, indices)))
    tr.absorb("sample-hashes", proof.hashes)
    tr.absorb("dataset-multiproof", proof.multiproof)
    tr.absorb("parameters", canonical(parameters))
    tr.absorb("roots", proof.roots[:64])
    late_root = proof.roots[64:]
    argument = Argument(tr, circuit, layout, proof.messages, shape.variables, b.public_digits, proof.hashes, late_root)
    used = (argument.singles, argument.triples)
    require(used == (sent.singles, sent.triples), "internal", f"counts {used} {sent}")
    roots = [proof.roots[:32], late_root]
    positions = check_opening(tr, proof.opening, roots, shape, argument.z, argument.opened)
    pad_queries = check_pads(tr, proof.pads, proof.roots[32:64], pads, argument.equations)

    def pair(xs: list) -> list:
        return [[x.a, x.b] for x in xs]

    assert tr.first is not None
    values = {
        "statement": {
            "circuit": s.announcement["circuit"],
            "weights": s.announcement["weights"],
            "config": config_digest(s.announcement["config"]).hex(),
            "dataset": dataset_digest(s.schema, s.samples, s.root).hex(),
            "announcement": digest,
            **({"drand": s.announcement["drand"]} if "drand" in s.announcement else {}),
            "beacon": None if s.beacon is None else s.beacon.hex(),
            "seed": r.hex(),
            "indices": indices,
            "divisor": s.divisor,
            "input": {"A": b.input_a, "C": b.input_c},
            "norms": {k: {"A": v.scale, "m": v.mean} for k, v in b.norms.items()},
            "tau_units": b.tau_units,
        },
        "circuit": {
            "listing": H(text).hex(),
            "parameters": parameters,
            "terms": n_terms,
            "column_weights": weights,
            "singles": sent.singles,
            "triples": sent.triples,
        },
        "matrix": {
            "row_bits": shape.k,
            "data_rows": shape.data_rows[0],
            "mask_row": shape.rows - 4,
            "rows": shape.rows,
            "log_n": shape.m,
            "queries": shape.t,
            "tail": shape.tail,
            "variables": shape.variables,
        },
        "levels": [
            {"row_bits": v.k, "rows": v.rows, "log_n": v.m, "queries": v.t, "rounds": v.rounds} for v in shape.levels
        ],
        "pads": {
            "block_bits": pads.b,
            "message": pads.message,
            "single_rows": pads.single_rows,
            "triple_rows": pads.triple_rows,
            "log_n": pads.b + 4,
            "queries": pads.t,
        },
        "draws": {f"weights/{axis}/{PRIMES[i]}": v[:8] for (axis, i), v in argument.draws.items()},
        "first_challenge": {"label": tr.first[0], "values": pair(tr.first[1])},
        "alpha": pair([argument.alpha]),
        "xi": pair([argument.xi]),
        "z": pair(argument.z),
        "opened": pair([argument.opened])[0],
        "queries": positions,
        "pad_queries": pad_queries,
        "equations": len(argument.equations),
        "soundness": {
            "bits": round(work, 6),
            "attempt_bits": round(attempt, 6),
            "terms": {k: [round(e, 6), g] for k, (e, g) in table.items()},
        },
    }
    return Result(values, text, tr.lines)
