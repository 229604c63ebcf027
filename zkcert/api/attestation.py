"""Attestations: what a verifier says of a model and a proof, signed, in a form that other tools read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zkcert import __version__
from zkcert.api.files import File, needs_extras, read_passphrase
from zkcert.errors import ProofRejected
from zkcert.files.writing import check_output, write_file

if TYPE_CHECKING:
    from verifier.report import Verdict
    from zkcert.api.order import OrderedVerdict
    from zkcert.trust.order import Step

_KIND = "a signed attestation"
_SAME = ("circuit", "model", "dataset", "config", "beacon", "drand", "announcement", "seed", "tau", "score")
"""Entries of a verdict that are the proof's, and not its reader's."""


def _predicate(verdict: Verdict) -> dict[str, Any]:
    told = verdict.to_dict()
    del told["seconds"]
    return {"verifier": {"name": "zkcert", "version": __version__}, "verdict": told}


def attest(
    verdict: OrderedVerdict, proof: File, model: File, out: File, *, key: File, passphrase: File | None = None
) -> Path:
    """Sign a verdict: an in-toto Statement v1 about the two files, in a DSSE envelope. No file is replaced.

    key         a secret key in PEM, Ed25519 or P-256. passphrase: a file with its passphrase.

    Raises UnusableInput.
    """
    path = check_output(out, _KIND, inputs=(proof, model, key, passphrase))
    with needs_extras("signing an attestation", "trust"):
        from zkcert.trust.attestation import envelope, load_private, statement
    secret = load_private(key, read_passphrase(passphrase))
    subjects = {Path(model).name: verdict.model_sha256, Path(proof).name: verdict.proof_sha256}
    return write_file(path, [envelope(statement(subjects, _predicate(verdict)), secret)], _KIND)


def check_attestation(path: File, key: File, verdict: Verdict) -> Step:
    """That a key has attested what a verdict says of its two files. ProofRejected ("attestation"), UnusableInput."""
    with needs_extras("checking an attestation", "trust"):
        from zkcert.trust.attestation import check, load_public
    from zkcert.trust.order import CHECKED, Step

    found = check(path, load_public(key))
    own = {verdict.model_sha256: "the model", verdict.proof_sha256: "the proof"}
    for digest, what in own.items():
        if digest not in found.subjects:
            raise ProofRejected("attestation", f"{path}: it is not about {what}, whose SHA-256 is {digest}")
    told, mine = found.predicate.get("verdict"), verdict.to_dict()
    if not isinstance(told, Mapping) or any(told.get(name) != mine[name] for name in _SAME):
        raise ProofRejected("attestation", f"{path}: it says something else of these files than they show")
    return Step("attested", CHECKED, f"the key {found.signer[:8]}... says the same of these two files")
