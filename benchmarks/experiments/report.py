"""Results: tables, a verdict per claim, and a figure, as JSON, Markdown and PNG; and all of them in one document."""

from __future__ import annotations

import json
import math
import os
import platform
import re
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from benchmarks.plots import save_figure
from zkcert.errors import UnusableInput
from zkcert.files.writing import replacing
from zkcert.public.kinds import read_head

REPRODUCED = "reproduced"
NOT_REPRODUCED = "not reproduced"
INCONCLUSIVE = "inconclusive at this scale"
VERDICTS = (REPRODUCED, NOT_REPRODUCED, INCONCLUSIVE)

CHECKOUT = Path(__file__).parents[2]
DPI = 100
MAX_FIGURE_BYTES = 150_000
TITLE = "# Results"
"""Of a figure that goes into docs/results."""

Cell = str | int | float | None

_MARKS = re.compile(r"[\\*~$]|<(?=[\w/!?])|(?<![^\W_])_|_(?![^\W_])|\](?=\()|&(?=#?\w+;)")
"""What Markdown on GitHub reads as more than itself within a line; an underscore inside a word is not."""
_BEGINNINGS = re.compile(r"^(\d*)(?=(?<=\d)[.)](?:\s|$)|(?<!\d)(?:[-+](?:\s|$)|[#>=]|--))")
"""Where a paragraph would become something else: a list, a heading, a quotation, a rule."""


@dataclass(frozen=True)
class Claim:
    """A claim, and what became of it.

    numbers  behind the verdict, for people.
    rule     that decided, part of the code that ran.
    id       of a claim of the paper in docs/results/claims.toml; "" of a question of ours.
    """

    claim: str
    verdict: str
    numbers: str
    rule: str
    id: str = ""

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise ValueError(f"the verdict must be one of {', '.join(VERDICTS)}")


@dataclass(frozen=True)
class Table:
    """Rows of cells under a title; numbers are shown with four significant digits."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True)
class Result:
    """What an experiment found.

    name, title  of the experiment; profile: "tiny", "small" or "paper"
    data         what the numbers rest on, as `datasets.Data.origin` has it
    seeds        how many; ours: what of the configuration is our choice
    tables, claims, and notes: paragraphs
    values       what the figure is drawn from, JSON values
    command, machine, date, seconds: of the run; commit: of the code that ran and judged, as `commit` has it
    started      when the run, or the oldest measurement in it, began, in UTC
    claims_file  the file of claims it was judged by, as `claims.stamp` has it
    """

    name: str
    title: str
    profile: str
    data: str
    seeds: int
    ours: str
    tables: Sequence[Table]
    claims: Sequence[Claim]
    notes: Sequence[str] = ()
    values: dict[str, Any] = field(default_factory=dict)
    command: str = ""
    machine: str = ""
    date: str = ""
    seconds: float = 0.0
    commit: str = ""
    started: str = ""
    claims_file: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON values; infinite and undefined numbers as text, for JSON has none."""
        return _plain(asdict(self))

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> Result:
        """Inverse of `to_dict`."""
        value = _restored(value)
        tables = [Table(**table) for table in value.pop("tables")]
        claims = [Claim(**claim) for claim in value.pop("claims")]
        return cls(tables=tables, claims=claims, **value)


_ODD = {"Infinity": math.inf, "-Infinity": -math.inf, "NaN": math.nan}


def _plain(value: Any) -> Any:
    match value:
        case dict():
            return {str(key): _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case bool() | int() | str() | None:
            return value
        case _:
            number = float(value)
            return (
                number if math.isfinite(number) else {math.inf: "Infinity", -math.inf: "-Infinity"}.get(number, "NaN")
            )


def _restored(value: Any) -> Any:
    match value:
        case dict():
            return {key: _restored(item) for key, item in value.items()}
        case list():
            return [_restored(item) for item in value]
        case str():
            return _ODD.get(value, value)
    return value


def machine() -> str:
    """The processor, its cores, and what runs on it."""
    import torch

    model = platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model)
    except OSError:
        pass
    gpu = f", {torch.cuda.get_device_name(0)}" if torch.cuda.is_available() else ""
    return f"{model}, {os.cpu_count()} cores{gpu}; Python {platform.python_version()}, PyTorch {torch.__version__}"


def commit(checkout: Path = CHECKOUT) -> str:
    """The checkout's git commit, "abc... with changes" if its files differ from it; "" if there is none to be found."""
    found = []
    for words in (["rev-parse", "--short=12", "HEAD"], ["status", "--porcelain", "--untracked-files=no"]):
        try:
            done = subprocess.run(["git", "-C", str(checkout), *words], capture_output=True, text=True, timeout=60)
        except (OSError, subprocess.TimeoutExpired):
            return ""
        if done.returncode:
            return ""
        found.append(done.stdout.strip())
    return found[0] + (" with changes" if found[1] else "")


def shown(cell: Cell) -> str:
    """A cell for people."""
    if cell is None:
        return ""
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)


def spread(values: Iterable[float]) -> str:
    """Mean and sample standard deviation, "0.123 ± 0.045"; of a single value only itself."""
    numbers = [float(v) for v in values]
    mean = math.fsum(numbers) / len(numbers)
    if len(numbers) == 1:
        return f"{mean:.3g}"
    if not math.isfinite(mean):
        return f"{mean:g} ± nan"
    deviation = math.sqrt(math.fsum((v - mean) ** 2 for v in numbers) / (len(numbers) - 1))
    return f"{mean:.3g} ± {deviation:.2g}"


def markdown(result: Result, figure: str | None = None) -> str:
    """The result as a section of a document; `figure` is the path of its PNG, relative to the document.

    A rule that decided several claims is written once, below them, and referred to by its number.
    """
    seconds = f"{result.seconds / 60:.1f} min" if result.seconds >= 60 else f"{result.seconds:.0f} s"
    code = f", code of commit {result.commit}" if result.commit else ""
    rules = list(dict.fromkeys(claim.rule for claim in result.claims))
    judged_by = ""
    if any(claim.id for claim in result.claims):
        known = result.claims_file
        judged_by = (
            "NOT COMMITTED before the run: no result" if not known else f"{known['commit'][:12]}, {known['time']}"
        )
        judged_by += f"; the run began {result.started}" if known else ""
    facts = {
        "Command": f"`{result.command}`, profile {result.profile}, {result.date}, {seconds}{code}.",
        "Machine": escaped(result.machine),
        "Data": escaped(result.data),
        "Seeds": f"{result.seeds}",
        "Our choices": escaped(result.ours),
        "Claims": f"as committed in {judged_by}." if judged_by else "",
    }
    lines = [f"## {escaped(result.title)}", "", *(f"- {name}: {fact}" for name, fact in facts.items() if fact), ""]
    rows = [
        [f"{c.id}: {c.claim}" if c.id else c.claim, f"**{c.verdict}**", c.numbers, f"{rules.index(c.rule) + 1}"]
        for c in result.claims
    ]
    lines += [*grid(["claim", "verdict", "numbers", "rule"], rows, bold=1), "", "The rules, by their numbers:", ""]
    lines += [f"{number}. {paragraph(rule)}" for number, rule in enumerate(rules, 1)]
    for table in result.tables:
        lines += ["", f"**{escaped(table.title)}**", "", *grid(table.columns, table.rows)]
    for note in result.notes:
        lines += ["", paragraph(note)]
    if figure is not None:
        lines += ["", f"![{_label(result.title)}]({quote(figure)})"]
    return "\n".join(lines) + "\n"


def grid(columns: Sequence[str], rows: Iterable[Sequence[Cell]], bold: int | None = None) -> Iterator[str]:
    """The lines of a table; cells of column `bold` are Markdown already."""
    yield "| " + " | ".join(_cell(column) for column in columns) + " |"
    yield "|" + " --- |" * len(columns)
    for row in rows:
        yield "| " + " | ".join(str(c) if i == bold else _cell(shown(c)) for i, c in enumerate(row)) + " |"


def escaped(text: str) -> str:
    """Text on a line of Markdown, so that all of it shows; `code` stays code."""
    parts = re.split(r"(`[^`]+`)", " ".join(text.split()))
    return "".join(part if i % 2 else _MARKS.sub(r"\\\g<0>", part) for i, part in enumerate(parts))


def paragraph(text: str) -> str:
    """Text as a paragraph of its own, in which nothing at the beginning makes it a list or a heading."""
    return _BEGINNINGS.sub(r"\1\\", escaped(text))


def _cell(text: str) -> str:
    return escaped(text).replace("|", "\\|")


def _label(text: str) -> str:
    return re.sub(r"[\[\]]", r"\\\g<0>", escaped(text))


def _anchor(title: str) -> str:
    """What GitHub calls a heading in links: without marks but hyphens, in lower case, joined by hyphens."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def save(result: Result, out: Path, draw: Callable[[Result, Any], None], size: tuple[float, float]) -> None:
    """Write NAME.json, NAME.md and NAME.png into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    figure = out / f"{result.name}.png"
    save_figure(figure, lambda canvas: draw(result, canvas), size, DPI)
    saved = json.dumps(result.to_dict(), indent=1, allow_nan=False) + "\n"
    _write(out / f"{result.name}.json", saved.encode())
    _write(out / f"{result.name}.md", markdown(result, figure.name if figure.exists() else None).encode())


def load(path: Path) -> Result:
    """A result that `save` wrote; UnusableInput for anything else."""
    try:
        return Result.from_dict(json.loads(path.read_text()))
    except OSError as error:
        raise UnusableInput(f"{path}: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UnusableInput(f"{path}: not a result ({error})") from error


def collect(
    out: Path,
    names: Sequence[str],
    target: Path,
    command: str,
    preface: str = "",
    ledger: Callable[[Sequence[Result]], str] | None = None,
) -> list[str]:
    """Write one document of the results in `out`, those of `names` that are there.

    Figures are linked where they are if that is below the document, or else copied into results/ beside it.
    command  that writes the document, `preface`: Markdown to come before the results.
    ledger   of the results: Markdown about the claims that have an id; the others follow it in a table of their own.

    Returns the names of those found; UnusableInput if there are none, or a figure is too large to be kept.
    """
    results = [load(out / f"{name}.json") for name in names if (out / f"{name}.json").exists()]
    if not results:
        raise UnusableInput(f"{out}: no results of {', '.join(names)}")
    if target.exists() and not (target.is_file() and read_head(target, len(TITLE)) == TITLE.encode()):
        raise UnusableInput(f"{target} exists and is not such a document: choose another name")
    sections = [markdown(result, _linked(out / f"{result.name}.png", target.parent)) for result in results]
    _write(target, "\n".join([_head(results, command, preface, ledger), *sections]).encode())
    return [result.name for result in results]


def _linked(figure: Path, directory: Path) -> str | None:
    """The path of a figure relative to the directory of a document, copied there if it is not below; None without."""
    if not figure.exists():
        return None
    if figure.resolve().is_relative_to(directory.resolve()):
        return figure.resolve().relative_to(directory.resolve()).as_posix()
    if figure.stat().st_size > MAX_FIGURE_BYTES:
        raise UnusableInput(f"{figure}: {figure.stat().st_size} bytes, at most {MAX_FIGURE_BYTES} are kept")
    _write(directory / "results" / figure.name, figure.read_bytes())
    return f"results/{figure.name}"


def _head(
    results: Sequence[Result], command: str, preface: str, ledger: Callable[[Sequence[Result]], str] | None
) -> str:
    claims = [(r.title, claim) for r in results for claim in r.claims if ledger is None or not claim.id]
    found = [f"{sum(claim.verdict == verdict for _, claim in claims)} {verdict}" for verdict in VERDICTS]
    rows = [
        f"| [{_label(title.partition(':')[0])}](#{_anchor(title)}) | {_cell(claim.claim)} | **{claim.verdict}** |"
        for title, claim in claims
    ]
    lines = [
        TITLE,
        "",
        "What became of claims of arXiv 2606.25004, and of questions of ours, at the scale given with each. Written by",
        f"`{command}`",
        "from what the commands below saved. Every verdict follows from a rule that is part of the code that ran, and",
        "is given with it; this document repeats the verdicts of the runs, by the code of the commit named with each,",
        "and judges nothing anew. Means are over all seeds run; ± is the sample standard deviation. Times are of the",
        "command; models that its cache held were not trained again.",
    ]
    if tiny := [result.title.partition(":")[0] for result in results if result.profile == "tiny"]:
        lines += [
            "",
            f"**Of profile tiny, which tests the code and says nothing about the claims: {', '.join(tiny)}.**",
        ]
    lines += ["", preface.strip()] if preface.strip() else []
    lines += ["", ledger(results).strip()] if ledger else []
    if not claims:
        return "\n".join([*lines, ""])
    lines += ["", f"Of {len(claims)} {'questions of ours' if ledger else 'claims'}: {', '.join(found)}.", ""]
    return "\n".join([*lines, "| experiment | claim | verdict |", "| --- | --- | --- |", *rows, ""])


def _write(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UnusableInput(f"{path.parent}: cannot be written ({error.strerror})") from error
    with replacing(path, 0o644) as file:
        file.write(content)
