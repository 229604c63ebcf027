"""proof.bin: magic, then four length-prefixed sections: header, sample hashes, dataset multi-proof, argument."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zkcert.errors import MalformedProof

from .field import P
from .proof import Reader, section

FORMAT = 5
MAGIC = b"zkcert proof %d\n\0" % FORMAT
MAX_PROOF_BYTES = 3 << 30
HEADER_LIMIT = 1 << 16
HASHES_LIMIT = 1 << 30
MULTIPROOF_LIMIT = 1 << 28
ARGUMENT_LIMIT = 1 << 30
HASH_ROWS = 160
READERS = {1: "0ced139", 2: "2ee662d", 3: "848f2bd", 4: "3c60b05"}
"""Earlier formats, and the last commit of zkcert that reads each."""


def _other(magic: bytes) -> str:
    """What is wrong with a file that does not begin with MAGIC."""
    if version := re.fullmatch(rb"zkcert proof ([1-9])\n\0", magic):
        found = int(version[1])
        older = f"zkcert at commit {READERS.get(found)} reads it, or have it proved again"
        advice = older if found in READERS else "a newer zkcert reads it"
        return f"a proof of format {found}; this zkcert reads format {FORMAT} ({advice})"
    return "not a zkcert proof: give the file that zkcert prove wrote"


@dataclass(frozen=True)
class ProofFile:
    """The sections of proof.bin. hashes: uint64 (T B, 160), canonical."""

    header: bytes
    hashes: NDArray[np.uint64]
    multiproof: bytes
    argument: bytes

    def to_bytes(self) -> bytes:
        parts = (self.header, self.hashes.astype("<u8").tobytes(), self.multiproof, self.argument)
        return MAGIC + b"".join(map(section, parts))

    @staticmethod
    def parse(data: bytes) -> ProofFile:
        """Strict inverse of `to_bytes`; raises MalformedProof."""
        if not data.startswith(MAGIC):
            raise MalformedProof(_other(data[: len(MAGIC)]), "proof", 0)
        reader = Reader(data)
        reader.take(len(MAGIC))
        header = reader.section(HEADER_LIMIT)
        raw = reader.section(HASHES_LIMIT)
        multiproof, argument = reader.section(MULTIPROOF_LIMIT), reader.section(ARGUMENT_LIMIT)
        reader.end()
        if not raw or len(raw) % (8 * HASH_ROWS):
            raise MalformedProof("sample hashes: not a whole number of hashes", "sample hashes", len(raw))
        hashes = np.frombuffer(raw, "<u8").astype(np.uint64).reshape(-1, HASH_ROWS)
        if (large := np.flatnonzero(hashes >= P)).size:
            raise MalformedProof("sample hashes: an entry is not below p", "sample hashes", 8 * int(large[0]))
        return ProofFile(header, hashes, multiproof, argument)
