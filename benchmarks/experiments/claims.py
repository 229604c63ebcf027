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


@dataclass(frozen=True)
class Version:
    """The file as a commit has it; time: the author's, in UTC, which survives a rebase, as the digest does."""

    commit: str
    time: str
    content: bytes

    @property
    def digest(self) -> str:
        """BLAKE3 of the content."""
        return blake3(self.content).hexdigest()


def stamp(names: Sequence[str], checkout: Path = CHECKOUT) -> dict[str, str]:
    """Since when these claims have been worded as they are, for results to record: commit, time and digest of the file.

    That of the first commit since which they have not changed. Empty if the file is not committed as it is, or git does
    not tell: what is judged by it then is no result.
    """
    versions = committed(checkout)
    try:
        if not versions or versions[0].content != (checkout / PLACE).read_bytes():
            return {}
        now, since = parsed(versions[0].content), versions[0]
        for version in versions:
            then = parsed(version.content)
            if any(then.get(name) != now.get(name) for name in names):
                break
            since = version
    except (OSError, ValueError, TypeError, KeyError):
        return {}
    return {"commit": since.commit, "time": since.time, "digest": since.digest}


def committed(checkout: Path = CHECKOUT) -> list[Version]:
    """The file as every commit that changed it has it, the last one first; none where git does not tell."""
    found = []
    try:
        for line in _git(checkout, "log", "--format=%H %at", "--", PLACE).splitlines():
            commit, seconds = line.split()
            time = datetime.fromtimestamp(int(seconds), UTC).isoformat()
            found.append(Version(commit, time, _git_bytes(checkout, "show", f"{commit}:{PLACE}")))
    except (OSError, ValueError, subprocess.SubprocessError):
        return []
    return found


def oldest(value: Any, default: str) -> str:
    """The earliest time in any "made" in JSON values, however deep, and `default`: all in UTC, as text."""
    match value:
        case dict():
            own = [value["made"]] if isinstance(value.get("made"), str) else []
            return min([default, *own, *(oldest(item, default) for item in value.values())])
        case list() | tuple():
            return min([default, *(oldest(item, default) for item in value)])
    return default


def _git(checkout: Path, *words: str) -> str:
    return _git_bytes(checkout, *words).decode().strip()


def _git_bytes(checkout: Path, *words: str) -> bytes:
    command = ["git", "-C", str(checkout), *words]
    return subprocess.run(command, capture_output=True, check=True, timeout=60).stdout
