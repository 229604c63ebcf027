"""How to install what a benchmark needs besides the base install."""

from __future__ import annotations


def install(*extras: str) -> str:
    """The command that installs extras of pyproject.toml; to be run in the checkout."""
    return f'pip install -c constraints.txt -e ".[{",".join(extras)}]" in the checkout'
