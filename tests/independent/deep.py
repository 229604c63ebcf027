"""python -m tests.independent.deep VECTOR_FOLDER: each algebraic check by itself.

All challenges and positions are those of the stored proof, whatever is changed; nonces count as right, and so do all
leaves below the stored siblings: so a changed element is refused by an equation or not at all.
"""

from __future__ import annotations

import random
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

from . import commitment
from .errors import Reject
from .field import El
from .files import read_proof
from .mutate import NAMES, write
from .transcript import Transcript
from .verify import read_folder, verify

draws: list[list[El]] = []
weights: list[list[int]] = []
positions: list[list[int]] = []
roots: dict[tuple[bytes, bytes], bytes] = {}  # by name and siblings
queue: list = []
real_draw, real_positions, real_root = Transcript.draw, Transcript.positions, commitment.merkle_root
real_integers = Transcript.integers


def record() -> None:
    """Remember what is drawn and the roots that are computed."""

    def draw(self: Transcript, label: str, n: int) -> list[El]:
        draws.append(real_draw(self, label, n))
        return draws[-1]

    def pos(self: Transcript, label: str, t: int, m: int) -> list[int]:
        positions.append(real_positions(self, label, t, m))
        return positions[-1]

    def integers(self: Transcript, label: str, n: int, bound: int) -> list[int]:
        weights.append(real_integers(self, label, n, bound))
        return weights[-1]

    def root(name: bytes, depth: int, leaves: dict[int, bytes], proof: bytes) -> bytes:
        value = real_root(name, depth, leaves, proof)
        roots[name, proof] = value
        return value

    Transcript.draw, Transcript.positions, commitment.merkle_root = draw, pos, root
    Transcript.integers = integers


def freeze() -> None:
    """Give back what was remembered."""

    def draw(self: Transcript, label: str, n: int) -> list[El]:
        self.first = self.first or (label, [])
        return queue[0].pop(0)

    Transcript.draw = draw
    Transcript.positions = lambda self, label, t, m: queue[1].pop(0)
    Transcript.integers = lambda self, label, n, bound: queue[2].pop(0)
    Transcript.grind = lambda self, nonce, what: None
    Transcript.absorb = lambda self, label, data: None
    commitment.merkle_root = lambda name, depth, leaves, proof: roots.get((name, proof), b"")


def main() -> int:
    inputs = read_folder(Path(sys.argv[1]))
    record()
    values = verify(inputs).values
    shape, parts = values["matrix"], values["circuit"]["parameters"]["rows"]
    freeze()
    proof = read_proof(inputs.proof)
    sections = {n: getattr(proof, n) for n in NAMES}
    rng, checks, began, accepted = random.Random(2), Counter(), time.perf_counter(), []

    def attempt(what: str, raw: bytes) -> None:
        queue[:] = [[list(d) for d in draws], list(positions), list(weights)]
        try:
            verify(replace(inputs, proof=raw))
        except Reject as reject:
            checks[f"{what.split()[0]}: {reject}"] += 1
        else:
            accepted.append(what)

    attempt("nothing", inputs.proof)
    assert accepted == ["nothing"], checks
    accepted.clear()
    h = 40 + 48 * shape["tail"]  # of the opening: behind nonce, root and tails stand h, h', a nonce, columns
    column = h + 40 + 16 * parts[0] * shape["queries"]
    wanted: tuple[tuple[str, int, list[int]], ...] = (
        ("messages", 40, []),
        ("opening", 16, [40, h - 1, h, h + 16, h + 40, column - 1, column]),
        ("pads", 16, [0, 4096, 8192, 12287, 12288, 16384, 20479]),
    )
    for name, count, chosen in wanted:
        data = sections[name]
        for at in sorted(chosen + [rng.randrange(40, len(data)) for _ in range(count)]):
            changed = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
            attempt(f"{name} {at} of {len(data)}", write({**sections, name: changed}))
    for at in sorted(rng.randrange(len(proof.hashes)) for _ in range(4)):
        changed = proof.hashes[:at] + bytes([proof.hashes[at] ^ 1]) + proof.hashes[at + 1 :]
        attempt(f"hashes {at}", write({**sections, "hashes": changed}))
    for check, n in checks.items():
        print(f"  {n:3} {check}")
    print(f"accepted: {accepted} (nonces count as right here)")
    print(f"{time.perf_counter() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
