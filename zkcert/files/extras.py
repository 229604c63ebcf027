"""What a command needs to be installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from zkcert.errors import UnusableInput


@contextmanager
def needs_extras(what: str, extra: str = "prove") -> Iterator[None]:
    """A package that the block imports and that is missing is an error of the installation: UnusableInput."""
    try:
        yield
    except ModuleNotFoundError as error:
        command = f"pip install -c constraints.txt -e '.[{extra}]'"
        raise UnusableInput(f"{what} needs {error.name}: {command} in the checkout") from error
