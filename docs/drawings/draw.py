"""The drawings of docs/ARCHITECTURE.md: `python docs/drawings/draw.py` writes the four .svg files beside it.

Line counts are code lines, without blanks, comments and docstrings, counted when this is run.
"""

from __future__ import annotations

import sys
from html import escape
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent.parent))

from tests.closure import closure, code_lines  # noqa: E402

INK, SOFT, PAPER = "#1f2933", "#6b7785", "#ffffff"
SECRET, PUBLIC, TRUSTED, PLAIN = "#fbe3dd", "#e2efe4", "#dfe9f6", "#f1f3f5"


class Drawing:
    """An SVG of width x height, with a title for readers that do not see it."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self.parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
            f'font-family="Helvetica, Arial, sans-serif" font-size="13" role="img">',
            f"<title>{escape(title)}</title>",
            '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
            f'orient="auto-start-reverse"><path d="M0 0L10 5L0 10z" fill="{INK}"/></marker></defs>',
            f'<rect width="{width}" height="{height}" fill="{PAPER}"/>',
        ]

    def text(
        self, x: float, y: float, line: str, anchor: str = "middle", bold: bool = False, soft: bool = False
    ) -> None:
        style = f'text-anchor="{anchor}" fill="{SOFT if soft else INK}"'
        style += ' font-weight="bold"' if bold else ' font-size="11.5"'
        self.parts.append(f'<text x="{x:g}" y="{y:g}" {style}>{escape(line)}</text>')

    def box(self, x: float, y: float, w: float, h: float, lines: list[str], fill: str = PLAIN) -> None:
        """A box with centred lines, the first of them bold."""
        self.parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}" rx="5" fill="{fill}" stroke="{SOFT}"/>'
        )
        top = y + h / 2 - 8.5 * (len(lines) - 1) + 4.5
        for i, line in enumerate(lines):
            self.text(x + w / 2, top + 17 * i, line, bold=i == 0, soft=i > 0)

    def arrow(self, x1: float, y1: float, x2: float, y2: float, label: str = "", dashed: bool = False) -> None:
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        self.parts.append(
            f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" stroke="{INK}" marker-end="url(#tip)"{dash}/>'
        )
        if label:
            self.text((x1 + x2) / 2, (y1 + y2) / 2 - 5, label, soft=True)

    def line(self, x1: float, y1: float, x2: float, y2: float, dashed: bool = False) -> None:
        dash = ' stroke-dasharray="3 4"' if dashed else ""
        self.parts.append(f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" stroke="{SOFT}"{dash}/>')

    def save(self, name: str) -> None:
        (HERE / name).write_text("\n".join([*self.parts, "</svg>"]) + "\n")


def time_line() -> None:
    """Who does what when, and who holds which file."""
    d = Drawing(860, 560, "Commit, announce, beacon, prove, verify: who holds which file")
    columns = {"provider": 150, "public": 430, "verifier": 710}
    for name, x in columns.items():
        d.text(x, 28, name, bold=True)
        d.line(x, 40, x, 545, dashed=True)
    steps = [
        ("1  commit", 60, "data.zkd: samples, randomness, order", "data.root: a Merkle root, N, shape"),
        ("2  announce", 155, "", "announce.json: model, root, configuration, tau"),
        ("4  prove", 345, "the drawn samples, the score", "proof.bin: statement, sample hashes, argument"),
    ]
    for name, y, kept, shown in steps:
        d.box(45, y, 210, 58 if kept else 42, [name, *([kept] if kept else [])], SECRET if kept else PLAIN)
        d.box(310, y, 240, 42, shown.split(": ", 1), PUBLIC)
        d.arrow(255, y + 21, 310, y + 21)
    d.box(605, 250, 210, 58, ["3  beacon", "not known before step 2 is public"], TRUSTED)
    d.arrow(605, 279, 257, 279)
    d.box(45, 258, 210, 42, ["seed", "hash of announcement and beacon"])
    d.arrow(150, 300, 150, 345)
    d.box(605, 440, 210, 58, ["5  verify", "accepted, or the check that fails"], TRUSTED)
    d.arrow(550, 366, 690, 440, "")
    d.arrow(550, 176, 800, 440, "", dashed=True)
    d.arrow(550, 81, 812, 440, "", dashed=True)
    d.box(310, 448, 240, 42, ["model.pt", "graph, normalisation, weights"], PUBLIC)
    d.arrow(550, 469, 605, 469)
    d.text(150, 525, "red: never leaves the provider", soft=True)
    d.text(430, 525, "green: anybody may have it", soft=True)
    d.text(710, 525, "dashed: what the verifier pins", soft=True)
    d.save("timeline.svg")


def count(folder: str, *, of: list[Path] | None = None, without: tuple[str, ...] = ()) -> int:
    """Code lines of a folder of the project, or of those of the given files that lie in it."""
    root = HERE.parent.parent
    files = [f for f in of if (root / folder) in f.parents] if of is not None else (root / folder).rglob("*.py")
    return sum(len(code_lines(f)) for f in files if not any((root / w) in f.parents for w in without))


def rooms() -> None:
    """The rooms, the line of trust, and how much there is to read below it."""
    d = Drawing(860, 600, "The rooms of the code, and the line of trust")
    read = list(closure())
    shell = ("zkcert/core", "zkcert/public")
    d.box(
        40,
        25,
        780,
        62,
        [
            "shell: zkcert",
            f"cli, api, convert, data, files, metric, calibration · {count('zkcert', without=shell):,} lines",
        ],
    )
    d.box(40, 140, 300, 92, ["prover", "executors, kernels, commitments", f"{count('prover'):,} lines"], SECRET)
    d.box(
        520,
        140,
        300,
        92,
        ["verifier", "the protocol, stage by stage", f"{count('verifier', of=read):,} lines"],
        TRUSTED,
    )
    d.arrow(190, 87, 190, 140)
    d.arrow(670, 87, 670, 140)
    d.line(20, 255, 500, 255, dashed=True)
    d.line(500, 255, 500, 115, dashed=True)
    d.line(500, 115, 845, 115, dashed=True)
    d.text(28, 272, "line of trust: a cryptographer reads what is below and to the right of it", "start", soft=True)
    d.box(
        40,
        292,
        780,
        52,
        [
            "zkcert/public",
            f"model, root, statement: files nobody vouches for · {count('zkcert/public', of=read):,} lines",
        ],
        TRUSTED,
    )
    d.arrow(190, 232, 190, 292)
    d.arrow(670, 232, 670, 292)
    d.box(40, 372, 780, 128, ["circuits: declarations only"], TRUSTED)
    inner = [
        ("layers", "one file a type"),
        ("head", "softmax, exp, ln, score"),
        ("argument", "reductions, both sides"),
        ("language", "tensors, identities"),
    ]
    for i, (name, what) in enumerate(inner):
        d.box(55 + 190 * i, 395, 180, 40, [name, f"{what} · {count(f'circuits/{name}', of=read):,}"], PAPER)
    rest = count("circuits", of=read) - sum(count(f"circuits/{name}", of=read) for name, _ in inner)
    d.text(430, 480, f"probe, samples, compile, statement: {rest:,} lines", soft=True)
    d.parts = [p.replace('y="440.5"', 'y="388"') for p in d.parts]
    d.arrow(430, 344, 430, 372)
    d.box(
        40,
        528,
        780,
        48,
        ["zkcert/core", f"field, transcript, Merkle trees, codes, SIS · {count('zkcert/core', of=read):,} lines"],
        TRUSTED,
    )
    d.arrow(430, 500, 430, 528)
    total = sum(len(code_lines(f)) for f in read)
    d.text(812, 133, f"python -m verifier: {total:,} lines in {len(read)} files", "end", soft=True)
    d.save("rooms.svg")


def digit() -> None:
    """One digit, from its tensor to an opened column."""
    d = Drawing(860, 430, "One digit, from its tensor to an opened column")
    top = [
        ("value", "z[b, o, s] of pass p", "2^32 times a real, exact"),
        ("digits", "z = d0 + 2^22 d1", "each in an exact range"),
        ("column", "one digit, one block, one p", "axes padded to 2^k"),
        ("X", "all columns, sorted", "then multiplicities"),
    ]
    bottom = [
        ("row", "X_2c + i X_2c+1", "then t + 8 random values"),
        ("codeword", "values at the powers of w", "rate about 1/2"),
        ("leaf", "hash of one position", "of all rows"),
        ("opened column", "t positions", "after the combined rows"),
    ]
    for i, (name, *more) in enumerate(top):
        d.box(25 + 210 * i, 40, 180, 76, [name, *more])
        if i:
            d.arrow(25 + 210 * i - 30, 78, 25 + 210 * i, 78)
    for i, (name, *more) in enumerate(bottom):
        x = 25 + 210 * (3 - i)
        d.box(x, 300, 180, 76, [name, *more], PUBLIC if i > 1 else PLAIN)
        if i:
            d.arrow(x + 210, 338, x + 180, 338)
    d.arrow(745, 116, 745, 300)
    d.box(235, 170, 180, 76, ["range check", "1 / (alpha - digit)", "equals the tables' sum"], TRUSTED)
    d.box(445, 170, 180, 76, ["identities", "integers below p", "one claim each"], TRUSTED)
    d.arrow(325, 116, 325, 170)
    d.arrow(535, 116, 535, 170)
    d.box(25, 170, 180, 76, ["last claim", "X~(z), masked", "from powers of xi"], TRUSTED)
    d.arrow(235, 208, 205, 208)
    d.line(535, 246, 535, 268)
    d.line(535, 268, 115, 268)
    d.arrow(115, 268, 115, 246)
    d.arrow(60, 246, 60, 300, dashed=True)
    d.text(430, 412, "blue: what the verifier concludes; green: what it sees; the rest it never sees", soft=True)
    d.save("digit.svg")


def messages() -> None:
    """The transcript as a message chart."""
    rows = [
        (0, "statement, circuit, indices, sample hashes, multi-proof, parameters"),
        (1, "roots of the matrix and of the pads"),
        (-1, "per constraint: member weights, a point for each axis"),
        (1, "per constraint: h; two values a round; the operands' ends (all masked)"),
        (-1, "public tensors and links: digit weights, points"),
        (1, "nonce (16 bits)"),
        (-1, "alpha"),
        (1, "roots of the fraction trees; two values a round; ends, layer by layer"),
        (-1, "xi"),
        (1, "two values a round; X~(z)"),
        (1, "nonce; root of level 2, tails, h, h'"),
        (1, "nonce (then: positions of the columns)"),
        (1, "columns and multi-proof; for each level below: sum-check, root or rows, columns"),
        (-1, "one weight for each hidden equation; weights of the pad tests"),
        (1, "three polynomials, nonce, pad columns and multi-proof"),
    ]
    d = Drawing(860, 90 + 34 * len(rows), "The transcript as a message chart")
    d.text(110, 28, "prover", bold=True)
    d.text(750, 28, "transcript (verifier)", bold=True)
    for x in (110, 750):
        d.line(x, 40, x, 70 + 34 * len(rows))
    for i, (way, what) in enumerate(rows):
        y = 72 + 34 * i
        if way:
            d.arrow(*((110, y, 750, y) if way > 0 else (750, y, 110, y)), dashed=way < 0)
            d.text(430, y - 6, what)
        else:
            d.box(130, y - 24, 600, 26, [what], PUBLIC)
    d.text(430, 82 + 34 * len(rows), "dashed: challenges, hashed from all that precedes", soft=True)
    d.save("transcript.svg")


if __name__ == "__main__":
    time_line()
    rooms()
    digit()
    messages()
