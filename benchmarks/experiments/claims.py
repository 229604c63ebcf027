"""The paper's claims, written down before the runs: docs/results/claims.toml, and when it was committed."""

from __future__ import annotations

import functools
import subprocess
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from blake3 import blake3

from benchmarks.experiments.report import CHECKOUT, INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED, Claim, Result, grid
from zkcert.errors import UnusableInput

PLACE = "docs/results/claims.toml"
"""In the checkout."""


@dataclass(frozen=True)
class Stated:
    """A claim of the paper, as the file has it: see its head for what each key is."""

    id: str
    place: str
    claim: str
    number: str
    experiment: str
    setting: str
    statistic: str
    baseline: str
    rule: str
    change: str


@functools.cache
def stated(checkout: Path = CHECKOUT) -> dict[str, Stated]:
    """All claims by id, in the order of the file. Raises UnusableInput."""
    path = checkout / PLACE
    try:
        return parsed(path.read_bytes())
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UnusableInput(f"{path}: not the file of claims ({error})") from error


def parsed(content: bytes) -> dict[str, Stated]:
    """The claims of such a file; ValueError, TypeError or KeyError if it is none."""
    found = [Stated(**entry) for entry in tomllib.loads(content.decode())["claim"]]
    for one in found:
        if empty := [field.name for field in fields(one) if not getattr(one, field.name)]:
            raise ValueError(f"{one.id}: nothing is said of {', '.join(empty)}")
    by_id = {one.id: one for one in found}
    if len(by_id) != len(found):
        raise ValueError("two claims have one id")
    return by_id


def judged(name: str, verdict: str, numbers: str) -> Claim:
    """The claim of that id with what became of it; its wording, its rule and the paper's number are the file's."""
    one = stated()[name]
    return Claim(one.claim, verdict, numbers, one.rule, id=name)


def all_of(verdicts: Sequence[str]) -> str:
    """Of a claim about several settings: reproduced if all are, not reproduced if any is not."""
    if NOT_REPRODUCED in verdicts:
        return NOT_REPRODUCED
    return REPRODUCED if verdicts and set(verdicts) == {REPRODUCED} else INCONCLUSIVE


def ledger(results: Sequence[Result]) -> str:
    """Markdown: a row for each claim of the file, with what became of it in these results, or that it was not run."""
    found = {claim.id: (claim, result) for result in results for claim in result.claims if claim.id}
    rows = []
    for one in stated().values():
        numbers, verdict = "", "not run yet"
        if one.id in found:
            claim, result = found[one.id]
            numbers = f"{claim.numbers} (profile {result.profile}, {result.seeds} seeds)"
            verdict = claim.verdict if result.claims_file else "void: the claim was not committed before the run"
        rows.append([f"{one.id}: {one.claim} ({one.place})", one.number, numbers, f"**{verdict}**", one.change])
    judged_now = sum(one.id in found for one in stated().values())
    lines = [
        "## The paper's claims",
        "",
        f"Of {len(rows)} claims {judged_now} have been run. Claims, rules, and what was known when they were written: "
        f"[claims.toml]({PLACE.removeprefix('docs/')}), committed before the runs.",
        "",
        *grid(["claim", "paper", "ours", "verdict", "what would change it"], rows, bold=3),
    ]
    return "\n".join(lines)


def record(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Of every result that judges claims: what was run when, by which code and which file of claims; JSON values."""
    return [
        {
            "name": result.name,
            "profile": result.profile,
            "seeds": result.seeds,
            "commit": result.commit,
            "started": result.started,
            "claims_file": result.claims_file,
            "verdicts": {claim.id: claim.verdict for claim in result.claims if claim.id},
        }
        for result in results
        if any(claim.id for claim in result.claims)
    ]


def stamp(checkout: Path = CHECKOUT) -> dict[str, str]:
    """When the file was last committed, for results to record: commit, its author's time (UTC), digest of the content.

    Empty if it is not committed as it is, or git does not tell: what is judged by it then is no result. Digest and
    author's time survive a rebase, which the commit's name does not.
    """
    try:
        content = (checkout / PLACE).read_bytes()
        commit, seconds = _git(checkout, "log", "-1", "--format=%H %at", "--", PLACE).split()
        if _git_bytes(checkout, "show", f"{commit}:{PLACE}") != content:
            return {}
    except (OSError, ValueError, subprocess.SubprocessError):
        return {}
    time = datetime.fromtimestamp(int(seconds), UTC).isoformat()
    return {"commit": commit, "time": time, "digest": blake3(content).hexdigest()}


def committed(checkout: Path = CHECKOUT) -> dict[str, tuple[str, bytes]]:
    """Every content the file has had, by digest: its author's time (UTC), and it; {} where git does not tell."""
    found: dict[str, tuple[str, bytes]] = {}
    try:
        for line in _git(checkout, "log", "--format=%H %at", "--", PLACE).splitlines():
            commit, seconds = line.split()
            content = _git_bytes(checkout, "show", f"{commit}:{PLACE}")
            time = datetime.fromtimestamp(int(seconds), UTC).isoformat()
            found[blake3(content).hexdigest()] = (time, content)  # the earliest of several
    except (OSError, ValueError, subprocess.SubprocessError):
        return {}
    return found


def _git(checkout: Path, *words: str) -> str:
    return _git_bytes(checkout, *words).decode().strip()


def _git_bytes(checkout: Path, *words: str) -> bytes:
    command = ["git", "-C", str(checkout), *words]
    return subprocess.run(command, capture_output=True, check=True, timeout=60).stdout
