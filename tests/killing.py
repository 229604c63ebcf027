"""Commands in processes of their own that are killed just before they change a directory.

`python -m tests.killing` imports everything once and forks for every request on stdin, one JSON object a line. The
process counts its calls that create, link, rename or remove something in its directory, by their audit events, and
kills itself before the one asked for.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from zkcert.public.config import ProbeConfig

CHANGES = {"os.link": 2, "os.rename": 2, "os.remove": 1, "os.mkdir": 1, "os.rmdir": 1}
"""Events, and how many of their arguments are names."""

FILE_SYSTEMS = ("unnamed", "named", "links", "weakest")
"""With files that have no name; without; without renameat2 as well; without hard links, too."""


@dataclass(frozen=True)
class Done:
    """How a process ended: exit code, or minus the signal; what it printed; how many changes it made or began."""

    code: int
    out: str
    err: str
    changes: int


class Killer:
    """The server, as the tests see it."""

    def __init__(self) -> None:
        root = Path(__file__).parent.parent
        environment = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.killing"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=root,
            env=environment,
        )

    def __call__(self, place: Path, *arguments: object, **options: Any) -> Done:
        """Run a command in `place`; options are those of `perform`."""
        assert self._server.stdin and self._server.stdout
        request = {"place": str(place), "arguments": [str(a) for a in arguments], **options}
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return Done(**json.loads(self._server.stdout.readline()))

    def close(self) -> None:
        with self._server:  # which closes the pipes and waits
            pass


# ----------------------------------------------------------------------------------------------- the server


def main() -> None:
    import torch

    from zkcert import cli

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch, contextlib.redirect_stdout(sys.stderr), toy_proofs():
        warm_up(Path(scratch))
    for line in sys.stdin:
        request = json.loads(line)
        reader, writer = os.pipe()
        process = os.fork()
        if process == 0:
            code = 99
            try:
                os.close(reader)
                code = perform(cli.main, writer, **request)
                sys.stdout.flush()
            finally:
                os._exit(code)
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            changes = len(pipe.read())
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        out, err = (Path(f"{request['place']}.{name}") for name in ("out", "err"))
        print(
            json.dumps({"code": code, "out": out.read_text(), "err": err.read_text(), "changes": changes}), flush=True
        )


def warm_up(place: Path) -> None:
    """Import, compile and measure what the forked processes will need."""
    from zkcert import api

    np.savez(place / "d.npz", x=np.zeros((4, 1, 2, 2), np.uint8), y=np.arange(4) % 2)
    api.train("mlp", place / "d.npz", place / "model.pt", hidden=[2], epochs=1)
    api.commit(place / "d.npz", place / "data.zkd")
    config = ProbeConfig(steps=2, batch_size=2)
    api.prove(place / "model.pt", place / "data.zkd", place / "proof.bin", tau=9, config=config)


def perform(
    run: Callable[[list[str]], int],
    writer: int,
    place: str,
    arguments: list[str],
    stop: int | None = None,
    sign: str = "KILL",
    file_system: str = "unnamed",
    toy: bool = True,
) -> int:
    """In the forked process: run a command in `place`; before change number `stop`, from 0, it gets a signal.

    toy   proofs are about a toy circuit, whatever the statement; everything that touches files is real.
    """
    from zkcert.files import signals

    os.chdir(place)
    for name, fd in (("out", 1), ("err", 2)):
        os.dup2(os.open(f"{place}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), fd)
    os.umask(0o022)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # which a terminal's `nohup` has the tests ignore
    signals.install()
    count = 0

    def hook(event: str, given: tuple[Any, ...]) -> None:
        nonlocal count
        if event == "open":
            path, _, flags = given
            created = flags & os.O_CREAT or flags & os.O_TMPFILE == os.O_TMPFILE
            names = (path,) if created and isinstance(path, str | bytes) else ()
        else:
            names = given[: CHANGES.get(event, 0)]
        if any(not (text := os.fsdecode(name)).startswith("/") or text.startswith(place) for name in names):
            if count == stop:
                os.kill(os.getpid(), getattr(signal, f"SIG{sign}"))
            count += 1
            os.write(writer, b".")

    with limited(file_system), toy_proofs() if toy else contextlib.nullcontext():
        sys.addaudithook(hook)
        return run(arguments)


@contextlib.contextmanager
def limited(file_system: str) -> Iterator[None]:
    """A file system that can do less."""
    from zkcert.files import drafts

    def no_links(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    level = FILE_SYSTEMS.index(file_system)
    with (
        mock.patch.object(drafts, "UNNAMED", drafts.UNNAMED if level < 1 else 0),
        mock.patch.object(drafts, "rename_to_free", drafts.rename_to_free if level < 2 else lambda *_: False),
        mock.patch.object(os, "link", os.link if level < 3 else no_links),
    ):
        yield


@contextlib.contextmanager
def toy_proofs() -> Iterator[None]:
    """A toy circuit's argument in the place of the statement's, with all that concerns checkpoints."""
    from prover.argument import prove_circuit
    from prover.execution.run import Trace
    from prover.prove import Proved
    from tests import toys
    from zkcert.core.container import ProofFile

    def prove_statement(statement: Any, model: Any, dataset: Any, *, checkpoint: Any, phase: Any, **_: Any) -> Proved:
        indices = sorted(statement.indices())
        if checkpoint is not None:
            witness, trace = toys.toy_witness(), checkpoint.trace or Trace([0], [0], [1], [1])
            if checkpoint.trace is not None:
                checkpoint.load_digits(witness.x)
            checkpoint.executed(trace, 0.0)
        argument = prove_circuit(
            toys.toy_layout(), toys.toy_witness(), toys.toy_transcript(), phase=phase, checkpoint=checkpoint
        )
        parts = ProofFile(statement.header(), dataset.sample_hashes(indices), dataset.multiproof(indices), argument)
        return Proved(parts.to_bytes(), statement, Trace([0], [0], [1], [1]), 0.0)

    with (
        toys.light_grinding(),
        mock.patch("prover.prove.prove_statement", prove_statement),
        mock.patch("verifier.verify.verify_proof"),
    ):
        yield


if __name__ == "__main__":
    main()
