"""python -m tests.independent VECTOR_FOLDER: verify its proof and compare with what is stored beside it."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from .errors import Reject
from .verify import read_folder, verify


def differences(mine: object, stored: object, path: str = "") -> list[str]:
    """Where two values of JSON differ."""
    if isinstance(mine, dict) and isinstance(stored, dict):
        keys = sorted(set(mine) | set(stored))
        return [d for k in keys for d in differences(mine.get(k, "(none)"), stored.get(k, "(none)"), f"{path}/{k}")]
    return [] if mine == stored else [f"{path}: {str(mine)[:100]} is not {str(stored)[:100]}"]


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__)
        return 2
    folder = Path(sys.argv[1])
    began = time.perf_counter()
    try:
        result = verify(read_folder(folder))
    except Reject as reject:
        print(f"rejected: {reject}")
        return 1
    print(f"accepted: {folder.name}, {time.perf_counter() - began:.1f} s")
    status = 0
    if (folder / "circuit.txt").exists():
        equal = (folder / "circuit.txt").read_bytes() == result.listing
        print("circuit.txt:", "equal" if equal else "DIFFERENT")
        status |= not equal
    if (folder / "transcript.txt").exists():
        stored = (folder / "transcript.txt").read_text().splitlines()
        at = next((i for i, (a, b) in enumerate(zip(result.transcript, stored)) if a != b), None)
        equal = at is None and len(stored) == len(result.transcript)
        lengths = f"{len(result.transcript)} and {len(stored)} lines"
        print("transcript.txt:", "equal" if equal else f"DIFFERENT at line {at}; {lengths}")
        status |= not equal
    if (folder / "values.json").exists():
        found = differences(result.values, json.loads((folder / "values.json").read_text()))
        print("values.json:", "equal" if not found else "DIFFERENT\n  " + "\n  ".join(found))
        status |= bool(found)
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
