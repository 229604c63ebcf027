"""What the tests of tampering share."""

from __future__ import annotations

from fractions import Fraction

import pytest

from tests.toys import (
    certified,
)
from verifier.verify import Expectations, verify_proof
from zkcert.core.proof import Reader, section
from zkcert.errors import MalformedProof, ProofRejected

REJECTED = (ProofRejected, MalformedProof)

OPEN = Expectations(Fraction(128))


def check_of(verify, *args):
    """The name of the check that rejects, "malformed" if the bytes do not parse."""
    with pytest.raises(REJECTED) as caught:
        verify(*args)
    return getattr(caught.value, "check", "malformed")


def judge(data, model=None, expected=OPEN):
    return check_of(verify_proof, data, model or certified().model, expected)


OPENING_WORK = {f"opening/{kind}-nonce/{level}" for kind in ("proximity", "query") for level in range(1, 6)}

WORK = {"proof-of-work", *OPENING_WORK, "pads/nonce"}

CHAIN = WORK | {"opening/value", "opening/merkle/1"}

ARGUMENT = ["roots", "messages", "opening", "pad proof"]


def split_argument(data):
    reader = Reader(data)
    return [reader.section(1 << 28) for _ in ARGUMENT]


def join(parts):
    return b"".join(map(section, parts))
