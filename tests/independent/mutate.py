"""python -m tests.independent.mutate FOLDER: 100 changes of a proof or of a file beside it, all to be refused."""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from .errors import Reject
from .files import MAGIC, canonical, description, parse_json, read_model, read_proof, write_pt
from .statement import announcement_digest, weights_digest
from .transcript import u64
from .verify import Inputs, read_folder, verify

NAMES = ("header", "hashes", "multiproof", "roots", "messages", "opening", "pads")


def write(sections: dict[str, bytes]) -> bytes:
    """A proof file of sections."""
    argument = b"".join(u64(len(sections[n])) + sections[n] for n in NAMES[3:])
    return MAGIC + b"".join(u64(len(x)) + x for x in (*(sections[n] for n in NAMES[:3]), argument))


def announce(header: bytes) -> bytes:
    """announce.json of a header."""
    a = {k: v for k, v in parse_json(header, "header").items() if k not in ("beacon", "variance")}
    a["digest"] = announcement_digest({k: v for k, v in a.items()}).hex()
    return json.dumps(a, sort_keys=True, indent=1).encode() + b"\n"


def mutations(inputs: Inputs, rng: random.Random) -> Iterator[tuple[str, Inputs]]:
    """Exactly 100 changed inputs with a description."""
    proof = read_proof(inputs.proof)
    sections = {n: getattr(proof, n) for n in NAMES}
    assert write(sections) == inputs.proof

    def with_(**changed: bytes) -> Inputs:
        return replace(inputs, proof=write({**sections, **changed}))

    def flip(data: bytes, at: int, x: int) -> bytes:
        return data[:at] + bytes([data[at] ^ x]) + data[at + 1 :]

    # 42: a byte of each section, at its ends and inside
    for name in NAMES:
        n = len(sections[name])
        for at in (0, n - 1, *(rng.randrange(n) for _ in range(4))):
            yield f"{name} byte {at}", with_(**{name: flip(sections[name], at, 1 << rng.randrange(8))})
    # 16: any byte of the file, lengths and magic included
    for at in (0, 13, 14, 15, 16, 23, *(rng.randrange(len(inputs.proof)) for _ in range(10))):
        yield f"file byte {at}", replace(inputs, proof=flip(inputs.proof, at, 1 << rng.randrange(8)))
    # 14: truncated and extended
    for n in (0, 15, 16, 100, len(inputs.proof) // 2, len(inputs.proof) - 1):
        yield f"file of {n} bytes", replace(inputs, proof=inputs.proof[:n])
    yield "file and a byte", replace(inputs, proof=inputs.proof + b"\0")
    for name in NAMES:
        yield f"{name} and 32 bytes", with_(**{name: sections[name] + bytes(32)})
    # 4: swapped
    for a, b in (("messages", "opening"), ("opening", "pads"), ("header", "multiproof"), ("hashes", "multiproof")):
        yield f"{a}, {b} swapped", with_(**{a: sections[b], b: sections[a]})
    # 16: fields of the header, the announcement rewritten to fit
    header: dict = parse_json(proof.header, "header")
    c, d = header["config"], header["dataset"]
    other = "00" * 32
    changed: list[dict] = [
        {"tau": "21"},
        {"tau": "20/1"},
        {"tau": 20},
        {"beacon": "00"},
        {"beacon": None if header["beacon"] else "ff"},
        {"variance": "0"},
        {"circuit": other},
        {"weights": other},
        {"config": {**c, "rho": "1/21"}},
        {"config": {**c, "lr": "1/9999"}},
        {"config": {**c, "steps": c["steps"] + 1}},
        {"config": {**c, "variant": "sam" if c["variant"] != "sam" else "asam-all"}},
        {"config": {**c, "eps": "1/1000"}},
        {"dataset": {**d, "N": d["N"] + 1}},
        {"dataset": {**d, "root": other}},
        {"format": "zkcert-announcement-2"},
    ]
    for change in changed:
        raw = canonical({**header, **change})
        fitting = replace(with_(header=raw), announcement=announce(raw), root=None)
        yield f"header {list(change)[0]} {str(list(change.values())[0])[:40]}", fitting
    # 5: other files beside the proof
    root = json.loads(inputs.root)
    for key, value in (("N", root["N"] + 1), ("root", other)):
        raw = json.dumps({**root, key: value}, sort_keys=True).encode() + b"\n"
        yield f"data.root {key}", replace(inputs, root=raw)
    yield "data.root space", replace(inputs, root=inputs.root + b" ")
    raw = canonical({**header, "tau": "19"})
    yield "announce.json tau", replace(inputs, announcement=announce(raw))
    longer = inputs.announcement.replace(b'"digest": "', b'"digest": "0')
    yield "announce.json digest", replace(inputs, announcement=longer)
    # 3: another model: a number changed; the same with a header that fits; a byte of the file
    model = read_model(inputs.model_name, inputs.model)
    tensor = next(iter(model.tensors.values()))
    tensor.data = flip(tensor.data, 0, 1)
    blob = b"".join(t.data for t in model.tensors.values())
    text = description(model)
    zipped = inputs.model_name.endswith(".pt")
    new = write_pt(model) if zipped else u64(len(text)) + text + blob
    yield "another number in the model", replace(inputs, model=new)
    raw = canonical({**header, "weights": weights_digest(model).hex()})
    yield "another model, all digests fit", replace(with_(header=raw), model=new, announcement=announce(raw))
    yield "byte of the model file", replace(inputs, model=flip(inputs.model, len(inputs.model) // 2, 1))


def main() -> int:
    inputs = read_folder(Path(sys.argv[1]))
    verify(inputs)
    accepted: list[str] = []
    count, began = 0, time.perf_counter()
    for what, changed in mutations(inputs, random.Random(1)):
        count += 1
        try:
            verify(changed)
        except Reject as reject:
            print(f"  {what}: {reject}")
        else:
            accepted.append(what)
    print(f"{sys.argv[1]}: {count} mutations, {len(accepted)} accepted {accepted}, {time.perf_counter() - began:.0f} s")
    return int(bool(accepted))


if __name__ == "__main__":
    sys.exit(main())
