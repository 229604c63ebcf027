"""Reports to look at, and what they are made of."""

from __future__ import annotations

from fractions import Fraction
from html.parser import HTMLParser
from pathlib import Path

from zkcert.calibration import Calibration, Scored, Source
from zkcert.files.saving import save_calibration
from zkcert.metric import Probe
from zkcert.metric.calibrate import assess
from zkcert.public.config import ProbeConfig

VECTORS = Path(__file__).parents[2] / "docs" / "spec" / "vectors"
REVEALED = VECTORS / "pools"
"""A stored proof that reveals its score, without a beacon; it shows a score of at most 20."""

CONFIG = ProbeConfig(steps=3, batch_size=1, variant="sam", eps=Fraction(0))


def scored(name: str, *scores: float) -> Scored:
    return Scored(name, name.encode().hex().ljust(64, "0")[:64], "d" * 64, scores)


def calibrated(good: int = 3, bad: int = 2, name: str = "m") -> Calibration:
    """Models of which the good ones score from 1 to 4, and the bad ones so much that tau is above 20."""
    models = [scored(f"{name} {i}", 1.0 + i % 3, 1.5 + i % 3) for i in range(good)]
    others = [scored(f"{name} b{i}", 22.0 + i / 2, 23.5 + i / 2) for i in range(bad)]
    source = [Source("data.npz", 100, "d" * 64)]
    return assess(models, others, Probe.of_config(CONFIG), risk=Fraction(0), seed="s", data=source)


def write_calibration(path: Path, **options: object) -> Path:
    save_calibration(calibrated(**options), path)  # type: ignore[arg-type]
    return path


class Shape(HTMLParser):
    """What a page is made of: its elements with the names of their attributes, in order; its text; its links."""

    VOID = ("meta",)

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, tuple[str, ...]]] = []
        self.texts: list[str] = []
        self.links: list[str] = []
        self.style = ""
        self.policy = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open, self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, tuple(name for name, _ in attrs)))
        given = dict(attrs)
        self.links += [value or "" for name, value in attrs if name in ("href", "src", "action", "xlink:href")]
        if given.get("http-equiv") == "Content-Security-Policy":
            self.policy = given["content"] or ""
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "style":
            self.style += data
        else:
            self.texts.append(data)

    @property
    def text(self) -> str:
        """All of it, with single spaces."""
        return " ".join("".join(self.texts).split())
