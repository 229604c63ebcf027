"""HTML from elements: whatever others wrote is text in it, never markup."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from hashlib import sha256
from typing import TypeAlias
from xml.etree.ElementTree import Element, tostring

Child: TypeAlias = "str | Element | Iterable[Child] | None"

GENERATOR = "zkcert report"
"""What the page names as its maker; see `zkcert.public.kinds`."""


def clean(text: str) -> str:
    """The text without characters that cannot be seen (controls, marks of direction, lone surrogates): these are
    written as Python would."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


def element(name: str, /, *children: Child, **attributes: str) -> Element:
    """An element. Attributes are written class_, aria_label; None among the children is left out."""
    given = {key.rstrip("_").replace("_", "-"): clean(value) for key, value in attributes.items()}
    made = Element(name, given)
    _append(made, children)
    return made


def _append(parent: Element, children: Iterable[Child]) -> None:
    for child in children:
        if child is None:
            continue
        if isinstance(child, Element):
            parent.append(child)
        elif isinstance(child, str):
            if len(parent):
                parent[-1].tail = (parent[-1].tail or "") + clean(child)
            else:
                parent.text = (parent.text or "") + clean(child)
        else:
            _append(parent, child)


def others(text: str) -> Element:
    """What somebody else wrote: set apart, so that its direction of writing stays its own."""
    return element("bdi", text)


def document(title: str, style: str, body: Iterable[Child]) -> str:
    """A page that loads nothing and runs nothing: its policy allows the one style sheet, by its hash."""
    hashed = base64.b64encode(sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{hashed}'; base-uri 'none'; form-action 'none'"
    sheet = Element("style")
    sheet.text = style
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="generator", content=GENERATOR),
        element("meta", name="referrer", content="no-referrer"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        sheet,
    )
    page = element("html", head, element("body", body), lang="en")
    return f"<!DOCTYPE html>\n{tostring(page, encoding='unicode', method='html')}\n"
