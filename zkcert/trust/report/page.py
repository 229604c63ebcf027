"""The sections of a report, and the page of an accepted or a rejected proof."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from verifier.report import Verdict, decimal_text
from verifier.verify import REQUIRED_BITS
from zkcert import __version__
from zkcert.calibration import Calibration
from zkcert.public.config import ProbeConfig
from zkcert.trust.order import CHECKED, CLAIMED, MISSING, Step
from zkcert.trust.report.html import Child, document, element, others
from zkcert.trust.report.plot import kinds, plot, standing
from zkcert.trust.report.style import STYLE
from zkcert.trust.report.words import FIELDS, NAMES, NEVER, NO_YARDSTICK, claim, counted, meaning, plainly, points
from zkcert.trust.times import time_text

TITLE = "Certificate of directional sharpness: report of a verification"
SIGNS = {CHECKED: "✓", CLAIMED: "?", MISSING: "✗"}
Sections = dict[str, tuple[str, Iterable[Child]]]
"""By the name in links: title and content."""

MOST_MODELS = 60
"""Calibration models of a kind that the table lists."""


@dataclass(frozen=True)
class Given:
    """A file of the verification: what it is, its name, the SHA-256 of its content, its size in bytes."""

    role: str
    name: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Circumstances:
    """Files, the command that repeats the verification, the same for `python -m verifier` if it can, and when it was
    made, in seconds since 1970."""

    files: Sequence[Given]
    command: str
    alone: str | None
    made: int


def accepted(verdict: Verdict, steps: Sequence[Step], calibration: Calibration | None, around: Circumstances) -> str:
    """The page of an accepted proof."""
    known = points(verdict, steps)
    sections: Sections = {
        "meaning": ("What this means", [element("p", text) for text in meaning(verdict)]),
        "checked": ("What was checked, and what was not", _both(known, verdict.warnings)),
        "order": ("The order in time", _order(steps)),
        "score": ("The score", _score(verdict, calibration)),
        "configuration": ("Configuration", _configuration(verdict)),
        "files": ("Files, and how to repeat this", _files(around)),
        "soundness": ("Soundness", _soundness(verdict)),
        "statement": ("The statement", _statement(verdict)),
    }
    left = sum(step.state != CHECKED for step in known)
    warned = len(verdict.warnings)
    whole = not left and not warned
    beside = "Nothing left open" if whole else f"Not checked: {left} of {len(known)}" if left else "With warnings"
    open_ = [f"{counted(left, 'point')} left to somebody's word, or not even that"] if left else []
    open_ += [counted(warned, "warning")] if warned else []
    said = (
        "Every point that can be checked was. What no proof can show is said below."
        if whole
        else f"{'; '.join(open_)}. Each is listed below, and one of them may be enough to make the certificate "
        "worthless."
    )
    banner = element(
        "div",
        _half("good", "Accepted", claim(verdict) if calibration else f"{claim(verdict)} {NO_YARDSTICK}"),
        _half("good" if whole else "open", beside, said),
        class_="verdict",
    )
    return _page("Accepted", banner, sections, around)


def rejected(check: str, reason: str, around: Circumstances) -> str:
    """The page of a proof that was refused: by which check, and why."""
    banner = element(
        "div",
        _half(
            "bad",
            "Rejected",
            "This file was not accepted as a proof of what was asked for. Nothing is shown about the model.",
        ),
        _half("bad", f"Failed: {check}", others(reason)),
        class_="verdict",
    )
    text = (
        "A rejected proof shows nothing, neither for the model nor against it: the file may be damaged, or of a format "
        "that this program does not read, it may be about another model, dataset, threshold or beacon than was asked "
        "for, or somebody may have tried to deceive. The check that failed is named above. Checks after it were not "
        "made, so no more is said here."
    )
    sections: Sections = {
        "meaning": ("What this means", [element("p", text)]),
        "files": ("Files, and how to repeat this", _files(around)),
    }
    return _page("Rejected", banner, sections, around)


# ------------------------------------------------------------------------------------------------------ the page


def _page(word: str, banner: Element, sections: Sections, around: Circumstances) -> str:
    made = f"Made on {time_text(around.made)} by zkcert {__version__}, by the clock of whoever made it"
    links = [element("li", element("a", title, href=f"#{name}")) for name, (title, _) in sections.items()]
    body = (
        element("a", "Skip to the verdict", href="#verdict", class_="skip"),
        element("header", element("h1", TITLE), element("p", made), class_="top"),
        element(
            "main",
            element("section", banner, id="verdict", tabindex="-1", aria_label="Verdict"),
            element("nav", element("ul", links), aria_label="Contents"),
            (_section(name, title, content) for name, (title, content) in sections.items()),
        ),
        element(
            "footer",
            element(
                "p",
                "This page is one reader's account, signed by nobody. It proves nothing by itself: with the files that "
                "are listed, the command above says the same, or it is not true.",
            ),
        ),
    )
    return document(f"{word}: {TITLE}", STYLE, body)


def _section(name: str, title: str, content: Iterable[Child]) -> Element:
    heading = element("h2", title, id=f"{name}-title")
    return element("section", heading, content, id=name, aria_labelledby=f"{name}-title")


def _half(kind: str, title: str, text: Child) -> Element:
    return element("div", element("h2", title), element("p", text), class_=kind)


def _table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[Child]], numbers: Sequence[int] = ()) -> Element:
    """The first cell of a row is its head; `numbers`: columns that hold numbers; a row's cells may be an element tr."""

    def cell(at: int, content: Child) -> Element:
        kind = {"class_": "number"} if at in numbers else {}
        return element("td", content, **kind) if at else element("th", content, scope="row")

    head = element(
        "tr",
        (
            element("th", text, scope="col", **({"class_": "number"} if i in numbers else {}))
            for i, text in enumerate(heads)
        ),
    )
    body = (element("tr", (cell(i, content) for i, content in enumerate(row))) for row in rows)
    table = element("table", element("caption", caption), element("thead", head), element("tbody", body))
    return _scrolling(caption, table)


def _scrolling(label: str, content: Element) -> Element:
    """What may be wider than a screen; keys move it as well."""
    return element("div", content, class_="wide", tabindex="0", role="region", aria_label=label)


def _state(step: Step) -> Element:
    return element("span", f"{SIGNS[step.state]} {step.state}", class_=f"state {step.state}")


def _hex(data: bytes | str) -> Element:
    return element("span", data if isinstance(data, str) else data.hex(), class_="hex")


# -------------------------------------------------------------------------------------------- whoever decides


def _both(known: Sequence[Step], warnings: Sequence[str]) -> list[Child]:
    """Two lists of the same weight: what was checked, what was not; then warnings, and what no proof shows."""

    def listed(step: Step) -> Element:
        name = element("strong", NAMES.get(step.name, step.name))
        state = None if step.state == CHECKED else (" (", _state(step), ")")
        return element("li", name, state, ": ", others(plainly(step.text)), ".")

    done, left = ([step for step in known if (step.state == CHECKED) is good] for good in (True, False))
    nothing = element("p", "Nothing: every point that can be checked was.")
    return [
        element(
            "div",
            element("div", element("h3", "Checked"), element("ul", map(listed, done)), class_="good"),
            element(
                "div",
                element("h3", "Not checked"),
                element("ul", map(listed, left)) if left else nothing,
                class_="open" if left else "good",
            ),
            class_="two",
        ),
        element(
            "p",
            "Checked: shown by what the verifier holds. Claimed: somebody's word. Missing: not even that. Where a text "
            "says you, it means the verifier, who made this page.",
        ),
        element("h3", "Warnings"),
        element("ul", (element("li", text) for text in warnings)) if warnings else element("p", "None."),
        element("h3", "What no such proof shows"),
        element("ul", (element("li", text) for text in NEVER)),
    ]


def _order(steps: Sequence[Step]) -> list[Child]:
    rows = [
        (NAMES.get(s.name, s.name), _state(s), "" if s.time is None else time_text(s.time), others(s.text))
        for s in steps
    ]
    return [
        element(
            "p",
            "The beacon decides which samples are drawn. Whoever knows it before everything else is fixed can try tiny "
            "changes until good samples come up, and no proof shows that. So the order counts:",
        ),
        _table("Steps in the order of time", ("Step", "State", "Time (UTC)", "What is known"), rows),
    ]


def _score(verdict: Verdict, calibration: Calibration | None) -> list[Child]:
    tau, score = verdict.report.statement.tau, verdict.report.score
    text = "It is private." if score is None else f"It is {score:.9f}, which the proof reveals and proves."
    out: list[Child] = [element("p", f"{text} The proven threshold, tau, is {decimal_text(tau)}.")]
    if calibration is None:
        return [
            *out,
            element(
                "p",
                "No calibration was given, so this page cannot say whether that is low or high: scores mean something "
                "beside those of other models, under the same configuration (--tau calibration.json).",
            ),
        ]
    rows: list[tuple[Child, ...]] = [
        (others(model.name), kind, str(len(model.scores)), *(f"{value:.4f}" for value in _spread(model.scores)))
        for kind, models in kinds(calibration)
        for model in models[:MOST_MODELS]
    ]
    more = sum(max(0, len(models) - MOST_MODELS) for _, models in kinds(calibration))
    what, value = ("tau", float(tau)) if score is None else ("this score", score)
    return [
        *out,
        element(
            "p",
            "The threshold that was asked for comes from a calibration: models whose quality its maker says to know, "
            f"with their scores. Of these, {standing(calibration, value, what)}.",
        ),
        element(
            "figure",
            _scrolling("Plot", plot(calibration, float(tau), score)),
            element("figcaption", "A dot is the score of a good model in one draw, a square that of a bad one."),
        ),
        _table(
            "Scores of the calibration models",
            ("Model", "Said to be", "Draws", "Least", "Mean", "Largest"),
            rows,
            (2, 3, 4, 5),
        ),
        element("p", f"{more} more models are not listed.") if more else None,
    ]


def _spread(scores: Sequence[float]) -> tuple[float, float, float]:
    return min(scores), sum(scores) / len(scores), max(scores)


# ----------------------------------------------------------------------------------------------- an engineer


def _statistic(config: ProbeConfig) -> dict[str, int | str]:
    """The configuration, its statistic included."""
    return {**config.canonical(), "statistic": config.statistic}


def _configuration(verdict: Verdict) -> list[Child]:
    report, expected = verdict.report, verdict.expected
    config, usual = report.statement.config.canonical(), {"eta": "none", **_statistic(ProbeConfig())}
    config |= _statistic(report.statement.config)
    rows = [
        (
            element("code", name),
            FIELDS[name],
            str(value),
            str(usual[name]),
            "yes" if value == usual[name] else element("strong", "NO: it differs", class_="state claimed"),
        )
        for name, value in config.items()
    ]
    insisted = (
        "The verifier insisted on it." if expected.config else "Nobody insisted on it: it is the provider's choice."
    )
    differs = [name for name, value in config.items() if value != usual[name]]
    text = f"It differs from the default in {', '.join(differs)}." if differs else "It is the default."
    table = _table("The probe", ("Entry", "Meaning", "Value", "Default", "The default?"), rows)
    cost = (
        f"The model has {report.parameters:,} parameters. The proof has {report.proof_bytes:,} bytes, and was checked "
        f"in {verdict.seconds:.1f} s."
    )
    return [element("p", f"{insisted} {text}"), table, element("p", cost)]


def _files(around: Circumstances) -> list[Child]:
    rows = [
        (file.role, element("code", others(file.name)), f"{file.size:,}", _hex(file.sha256)) for file in around.files
    ]
    out: list[Child] = [
        _table("Files of this verification, as they were read", ("What", "Name", "Bytes", "SHA-256"), rows, (2,)),
        element("p", "In a folder with these files, this command checks the same again:"),
        element("pre", element("code", around.command)),
    ]
    if around.alone is not None:
        out += [
            element(
                "p",
                "The verifier alone, which needs numpy, blake3 and pycryptodome only, checks the proof, and nothing "
                "around it (witnesses, time stamps, authorities, the signature of the beacon):",
            ),
            element("pre", element("code", around.alone)),
        ]
    return out


# ------------------------------------------------------------------------------------------- a cryptographer


def _soundness(verdict: Verdict) -> list[Child]:
    table = verdict.report.soundness
    rows: list[tuple[Child, ...]] = [
        (term.name, f"{term.error:.1f}", str(term.grind) if term.grind else "", f"{term.work:.1f}")
        for term in table.terms
    ]
    rows.append(("All of them", f"{-table.attempt_bits:.2f}", "", f"{-table.bits:.2f}"))
    caption = "log2 of the chance that a false statement survives, by the way to cheat"
    listed = _table(caption, ("Term", "One attempt", "Ground by, bits", "For each hash"), rows, (1, 2, 3))
    list(listed.iter("tr"))[-1].set("class", "sum")
    return [
        element(
            "p",
            f"A single attempt succeeds with a chance of at most 2^-{table.attempt_bits:.2f}. Where a round is ground, "
            f"an attempt costs many hashes, so that a forger has to compute at least 2^{table.bits:.1f} of them; the "
            f"verifier demands 2^{REQUIRED_BITS}.",
        ),
        element(
            "p",
            "This holds in the random-oracle model, under collision resistance of BLAKE3 (128 bits) and the hardness "
            "of SIS, by which the samples are hashed, with unique-decoding analysis. There is no trusted setup. The "
            "terms are explained in docs/spec/soundness.md, what a proof hides in docs/spec/zero-knowledge.md.",
        ),
        listed,
    ]


def _statement(verdict: Verdict) -> list[Child]:
    statement = verdict.report.statement
    data, drand = statement.dataset, statement.drand
    shape = "x".join(map(str, data.schema.shape))
    values: dict[str, Child] = {
        "Circuit (BLAKE3 of the network)": _hex(statement.circuit_digest),
        "Weights": _hex(statement.weights_digest),
        "Root of the dataset": _hex(data.root),
        "Samples": (f"{data.n:,}, {data.schema.kind} {shape}, ", others(data.schema.classes_text())),
        "Configuration": _hex(statement.config.digest),
        "Announcement": _hex(statement.announcement_digest),
        "Public round": "none is named" if drand is None else (f"{drand.number} of drand's chain ", _hex(drand.chain)),
        "Beacon": "none" if statement.beacon is None else _hex(statement.beacon),
        "Seed of the draw": _hex(statement.seed),
        "tau": decimal_text(statement.tau),
        "Variance": "private" if statement.variance is None else f"{statement.variance} (revealed, exact)",
    }
    rows = list(values.items())
    return [
        element("p", "What the proof is bound to; docs/spec/statement.md says how each is computed."),
        _table("The public statement", ("Entry", "Value"), rows),
    ]
