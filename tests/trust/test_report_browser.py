"""The report in a headless Chromium: nothing is loaded, letters can be read, keys reach everything, paper has it all.

With ZKCERT_PICTURES=FOLDER the screenshots and the printed page are kept there.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from tests.trust.browser import CONTRAST, Browser, browser, found
from tests.trust.pages import REVEALED, write_calibration
from zkcert import api
from zkcert.errors import ProofRejected

pytestmark = pytest.mark.skipif(found() is None, reason="no Chromium: apt-get install chromium")

PAGES = ("accepted", "rejected")
FOCUSED = """(e => [e.tagName, e.getAttribute("aria-label") || e.textContent, getComputedStyle(e).outlineStyle,
  e.getBoundingClientRect().left >= 0])(document.activeElement)"""
ENOUGH, SMALLEST = 4.5, 10.0
"""The contrast that WCAG 2 asks for at level AA, for letters of any size; their size in pixels."""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A report of a proof that reveals its score, with much left open; and of a rejected one."""
    place = tmp_path_factory.mktemp("pages")
    calibration = write_calibration(place / "calibration.json")
    files = REVEALED / "proof.bin", REVEALED / "model.pt"
    api.report(*files, place / "accepted.html", tau=calibration, data_root=REVEALED / "data.root")
    with pytest.raises(ProofRejected):
        api.report(*files, place / "rejected.html", tau=3)
    return {name: place / f"{name}.html" for name in PAGES}


@pytest.fixture(scope="module")
def started() -> Iterator[Browser]:
    with browser() as found:
        yield found


@pytest.fixture
def tab(started: Browser) -> Browser:
    """A screen of usual size."""
    started.shown_as()
    started.size(1200)
    return started


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """Where pictures go."""
    return Path(os.environ.get("ZKCERT_PICTURES", tmp_path))


@pytest.mark.parametrize("name", PAGES)
def test_it_loads_nothing_and_complains_of_nothing(tab, pages, name):
    tab.requests.clear()
    tab.said.clear()
    tab.open(pages[name])
    assert tab.requests == [pages[name].as_uri()] and tab.said == []
    # the style sheet is allowed by the page's policy, and a script would not be
    assert tab.evaluate("getComputedStyle(document.querySelector('.verdict')).display") == "grid"
    tab.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.ran = 1\">')")
    assert tab.evaluate("window.ran") is None


@pytest.mark.parametrize(
    ("media", "scheme"), [("screen", "light"), ("screen", "dark"), ("print", "light"), ("print", "dark")]
)
@pytest.mark.parametrize("name", PAGES)
def test_all_letters_have_contrast_and_fit(tab, pages, kept, name, media, scheme):
    tab.shown_as(media, scheme)
    for width in (1200, 360) if media == "screen" else (680,):  # between the margins of A4
        tab.size(width)
        tab.open(pages[name])
        texts = tab.evaluate(CONTRAST)
        assert len(texts) > (40 if name == "accepted" else 12)
        assert not [text for text in texts if text[0] < ENOUGH or text[2] < SMALLEST], (media, scheme)
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        assert tab.picture(kept / f"{name}-{media}-{scheme}-{width}.png").stat().st_size > 10_000


@pytest.mark.parametrize("name", PAGES)
def test_whoever_hears_it_finds_landmarks_headings_and_the_plot(tab, pages, name):
    tab.open(pages[name])
    roles = tab.roles()
    for role in ("banner", "main", "navigation", "contentinfo"):
        assert sum(found == role for found, _ in roles) == 1, role
    assert ("navigation", "Contents") in roles and ("region", "Verdict") in roles
    levels = tab.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map(h => +h.tagName[1])")
    assert levels[0] == 1 and levels.count(1) == 1 and all(b - a <= 1 for a, b in pairwise(levels))
    assert tab.evaluate("document.documentElement.lang") == "en"
    assert tab.evaluate("document.title").startswith(name.title())
    assert tab.evaluate("[...document.querySelectorAll('table')].every(t => t.caption && t.querySelector('th[scope]'))")
    ids = tab.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(set(ids)) == len(ids)
    named = "[...document.querySelectorAll('[aria-labelledby]')].map(e => e.getAttribute('aria-labelledby'))"
    used = [name for names in tab.evaluate(named) for name in names.split()]
    links = tab.evaluate("[...document.querySelectorAll('a')].map(a => a.getAttribute('href').slice(1))")
    assert set(used) | set(links) <= set(ids)
    if name == "accepted":
        (plot,) = (label for role, label in roles if role in ("image", "img", "SvgRoot") and label)
        assert "Scores of the calibration models" in plot


def test_keys_reach_every_link_and_show_where_they_are(tab, pages):
    tab.open(pages["accepted"])
    links = tab.evaluate("document.querySelectorAll('a, [tabindex=\"0\"]').length")
    seen = []
    for _ in range(links):
        tab.press("Tab")
        seen.append(tab.evaluate(FOCUSED))
    assert seen[0][:2] == ["A", "Skip to the verdict"]
    assert len({(tag, text) for tag, text, *_ in seen}) == links
    assert all(outline != "none" and inside for *_, outline, inside in seen), seen
    tab.open(pages["accepted"])
    tab.press("Tab")
    tab.press("Enter")
    assert tab.evaluate("location.hash") == "#verdict" and tab.evaluate("document.activeElement.id") == "verdict"


@pytest.mark.parametrize("name", PAGES)
def test_it_prints(tab, pages, kept, name):
    data = tab.print(kept / f"{name}.pdf").read_bytes()
    assert data.startswith(b"%PDF-")
    count = len(re.findall(rb"/Type\s*/Page\b", data))
    assert 1 <= count <= 9, count


def test_what_was_not_checked_is_as_large_as_what_was(tab, pages):
    tab.open(pages["accepted"])
    for kind in (".verdict", ".two"):
        good, left = tab.evaluate(
            f"[...document.querySelectorAll('{kind} > div')].map(d => {{"
            " const s = getComputedStyle(d.firstElementChild), place = d.getBoundingClientRect();"
            " return [d.className, s.fontSize, s.fontWeight, Math.round(place.width), Math.round(place.top)]; })"
        )
        assert (good[0], left[0]) == ("good", "open") and good[1:] == left[1:]
