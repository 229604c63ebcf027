"""The application that commands register with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from verifier.__main__ import EXIT_CODES
from zkcert import __version__

INTERRUPTED = 130
"""The exit code of what Ctrl-C ended."""

GROUPS = {
    "See it work": ("demo",),
    "Make and check certificates": ("check", "commit", "announce", "estimate", "prove", "verify", "report", "inspect"),
    "Trust around a proof": ("provider", "witness", "authority"),
    "Measure and train": ("train", "measure", "audit", "calibrate", "mia"),
    "Mend files": ("convert", "root"),
}
"""The commands as the help shows them."""

TERMS = {
    "score": "Directional sharpness: how much a model's sharpness differs from one mini-batch to the next.",
    "tau": "The threshold: a certificate says that the score is at most tau.",
    "data.zkd": "A committed dataset, secret. Its root, in data.root, is public and fixes every sample.",
    "beacon": "Random hexadecimal digits that nobody could foresee; they decide which samples are drawn.",
    "T, B": "Mini-batches drawn, and samples in each of them.",
    "rho, lr, eps": "Numbers of the probe, which computes the score; as a rule their defaults.",
    "asam-all, sam": "Variants of the probe: each weight is moved in proportion to its size, or not.",
    "u8, q32": "Kinds of samples: bytes, or numbers with 32 bits after the point (of float32 data).",
}
"""What the help's words mean."""


class GroupedCommands(TyperGroup):
    """Shows the commands in GROUPS, each with its sentence, and TERMS."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """One section for each group; what is in none comes last."""
        known = [name for names in GROUPS.values() for name in names]
        others = tuple(name for name in self.list_commands(ctx) if name not in known)
        for title, names in {**GROUPS, "More": others}.items():
            commands = [(name, self.get_command(ctx, name)) for name in names]
            rows = [(name, command.get_short_help_str(limit=100)) for name, command in commands if command]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """The words."""
        with formatter.section("Words"):
            formatter.write_dl(list(TERMS.items()))


app = typer.Typer(
    name="zkcert",
    cls=GroupedCommands,
    help="Zero-knowledge certificates of directional sharpness: prove that a public model's score on committed "
    f"private data is at most a threshold, without showing data or score. {EXIT_CODES.capitalize()}. "
    "COMMAND --help says more.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"zkcert {__version__}")
        raise typer.Exit


@app.callback()
def program(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Options of the program itself."""


class Interrupted(Exception):
    """Ctrl-C, or another signal; the text says what is left behind."""


@contextmanager
def leaving(text: str | None) -> Iterator[None]:
    """Ctrl-C, or another signal, during the block leaves something behind, unless text is None: say what."""
    try:
        yield
    except KeyboardInterrupt as error:
        if text is None:
            raise
        raise Interrupted(text) from error
