"""Checkpoints: what a long proof must not lose when it is interrupted.

A directory holds the digits of X, the leaves of the matrix commitment and a state file: the statement it is for, the
attempt's secret, the (private) trace, and the channel messages of the finished phases. Everything else is a
deterministic function of these, so a resumed prover replays the recorded messages as a verifier would, and goes on
with the next phase.

Pads, tails and masks may answer one set of challenges only. The state is therefore bound to the transcript at which the
attempt began (statement, beacon, hashes, parameters), to the digits, to the roots and to the source code: with all
of them equal, what follows is equal byte for byte, however often it is resumed. Anything else is refused.

The files are as secret as the data: readable by their owner only, and removed when the proof is written. Removed is not
erased: what a file system keeps of deleted files is beyond a program's reach.
"""

from __future__ import annotations

import base64
import errno
import fcntl
import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from prover.execution.run import Trace
from zkcert.core.code import MatrixCode
from zkcert.core.container import MAX_PROOF_BYTES
from zkcert.core.merkle import DIGEST_BYTES, U8Array
from zkcert.core.transcript import Transcript
from zkcert.errors import UnusableInput
from zkcert.files.writing import replacing, require_space
from zkcert.public.kinds import read_head
from zkcert.public.reading import opened, read_file
from zkcert.public.statement import Statement
from zkcert.public.strict_json import parse

FORMAT = "zkcert-checkpoint-1"
STATE, DIGITS, LEAVES, LOCK = "checkpoint.json", "digits.i32", "leaves.bin", "lock"
CHUNK = 1 << 24
_TRIES = 100
_STATE_BYTES = 1 << 21  # about the most that a state takes, and the one that replaces it
STATE_LIMIT = 1 << 26  # more than any is read
_OURS = re.compile(r"lock|\.?(checkpoint\.json|digits\.i32|leaves\.bin)(\.[0-9a-f]{16}\.tmp)?")


@dataclass
class Attempt:
    """The state of one attempt: `start` is the transcript it is bound to, `roots` and `messages` what it has said,
    `phases` those whose messages are complete."""

    secret: bytes
    start: bytes = b""
    roots: bytes = b""
    messages: bytes = b""
    phases: tuple[str, ...] = ()


class NoCheckpoint:
    """Keeps nothing: every attempt is new."""

    def attempt(self, transcript: Transcript) -> Attempt:
        """The attempt to begin or to continue at this transcript, the statement absorbed."""
        return Attempt(secrets.token_bytes(32), transcript.state)

    def digits(self, x: NDArray[np.int32]) -> None:
        """X is complete: int32 (data_end,)."""

    def leaves(self, code: MatrixCode) -> U8Array | None:
        """The leaves of the matrix commitment of the attempt to continue, uint8 (2^log_n, 32), if they are known."""
        return None

    def commit(self, attempt: Attempt, leaves: U8Array) -> None:
        """The attempt has its roots, and its matrix these leaves."""
        self.record(attempt)

    def record(self, attempt: Attempt) -> None:
        """The attempt has come further."""

    def forget(self) -> None:
        """The attempt is void: its secret must never be used again."""


class Checkpoint(NoCheckpoint):
    """A directory that outlives the process. Raises UnusableInput if what it holds does not belong to the statement."""

    def __init__(self, place: Path, statement: Statement, reveal_score: bool) -> None:
        """The statement with its beacon, before a score is revealed."""
        check_place(place)
        self.place = place
        known = (place / LOCK).exists()
        try:
            self._lock = _locked(place)
        except BlockingIOError as error:
            raise UnusableInput(f"{place} is the checkpoint of a proof that is being made right now") from error
        except OSError as error:
            raise UnusableInput(f"{place}: no checkpoint can be kept there ({error.strerror})") from error
        self._binding = {
            "statement": statement.header().decode(),
            "reveal_score": reveal_score,
            "code": CODE,
        }
        self.trace: Trace | None = None
        self.difference: float | None = None
        self._digits: str | None = None
        self._attempt: Attempt | None = None
        self._proof: str | None = None
        try:
            self._load()
        except BaseException:
            if not known:
                (place / LOCK).unlink()
            os.close(self._lock)
            raise
        self._clear(".*.tmp")

    # -- the state file

    def _load(self) -> None:
        path = self.place / STATE
        if not path.exists() or _erased(path):
            self._only_ours()
            path.unlink(missing_ok=True)
            return
        damaged = f"{path} is damaged; remove {self.place} to start again"
        try:
            value = parse(read_file(path, STATE_LIMIT))
            digest = value.pop("digest")
            if value["format"] != FORMAT or digest != _digest(value):
                raise ValueError("digest")
        except (UnusableInput, ValueError, TypeError, KeyError, AttributeError) as error:
            raise UnusableInput(damaged) from error
        for key, wanted in self._binding.items():
            if value["binding"][key] != wanted:
                raise UnusableInput(f"{self.place} {_mismatch(key, value['binding'][key], wanted)}")
        try:
            self.trace = Trace(**value["trace"])
            self.difference = value["difference"]
            self._digits = value["digits"]
            if value["attempt"] is not None:
                texts = dict(value["attempt"])
                phases = tuple(texts.pop("phases"))
                self._attempt = Attempt(**{k: base64.b64decode(v) for k, v in texts.items()}, phases=phases)
        except (TypeError, KeyError, ValueError) as error:
            raise UnusableInput(damaged) from error

    def _only_ours(self) -> None:
        """A directory with anything else in it is somebody's, and would not be cleared away."""
        if other := sorted(p.name for p in self.place.iterdir() if not _OURS.fullmatch(p.name)):
            raise UnusableInput(f"{self.place} holds {other[0]}: give a new or an empty directory for the checkpoint")

    def _save(self) -> None:
        assert self.trace is not None
        attempt = None
        if self._attempt is not None:
            fields = asdict(self._attempt)
            phases = fields.pop("phases")
            attempt = {k: base64.b64encode(v).decode() for k, v in fields.items()} | {"phases": phases}
        value = {
            "format": FORMAT,
            "binding": self._binding,
            "trace": asdict(self.trace),
            "difference": self.difference,
            "digits": self._digits,
            "attempt": attempt,
            "proof": self._proof,
        }
        value = json.loads(json.dumps(value))  # tuples become lists, as on reading
        with replacing(self.place / STATE, 0o600) as file:
            file.write(json.dumps(value | {"digest": _digest(value)}).encode())

    # -- execution

    def require_space(self, digits: int, leaves: int) -> None:
        """NotWritten unless there is room for that many digits and leaves, or for what of them is not there yet."""
        sizes = {DIGITS: 4 * digits, LEAVES: DIGEST_BYTES * leaves, STATE: _STATE_BYTES}
        missing = [size for name, size in sizes.items() if not (self.place / name).exists()]
        require_space(self.place, sum(missing))

    def executed(self, trace: Trace, difference: float | None) -> None:
        """What the execution found, and how far it is from the reference. Written with the digits."""
        self.trace, self.difference = trace, difference

    def load_digits(self, x: NDArray[np.int32]) -> None:
        """Fill x, int32 (data_end,), with the saved digits."""
        path = self.place / DIGITS
        digest = None
        try:
            with opened(path, x.nbytes) as (file, size):
                if size == x.nbytes == file.readinto(x.view(np.uint8).data):
                    digest = blake3(x.view(np.uint8), max_threads=blake3.AUTO).hexdigest()
        except UnusableInput as error:
            raise UnusableInput(f"{error}; remove {self.place} to start again") from error
        if digest is None or digest != self._digits:
            raise UnusableInput(f"{path} is damaged; remove {self.place} to start again")

    def digits(self, x: NDArray[np.int32]) -> None:
        if self._digits is not None:
            return
        h = blake3(max_threads=blake3.AUTO)
        with replacing(self.place / DIGITS, 0o600) as file:
            for start in range(0, len(x), CHUNK):
                part = x[start : start + CHUNK].view(np.uint8)
                h.update(part)
                file.write(part.data)
        self._digits = h.hexdigest()
        self._save()

    # -- attempts

    def attempt(self, transcript: Transcript) -> Attempt:
        if self._attempt is None:
            return super().attempt(transcript)
        if self._attempt.start != transcript.state:
            raise UnusableInput(f"{self.place} was made for another statement; remove it to start again")
        return self._attempt

    def leaves(self, code: MatrixCode) -> U8Array | None:
        if self._attempt is None or not self._attempt.roots:
            return None
        path = self.place / LEAVES
        try:
            with opened(path, DIGEST_BYTES << code.log_n) as (file, _):
                return np.fromfile(file, np.uint8).reshape(1 << code.log_n, DIGEST_BYTES)
        except (UnusableInput, ValueError) as error:
            raise UnusableInput(f"{path} is damaged; remove {self.place} to start again") from error

    def commit(self, attempt: Attempt, leaves: U8Array) -> None:
        with replacing(self.place / LEAVES, 0o600) as file:
            file.write(leaves.tobytes())
        self.record(attempt)

    def record(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._save()

    def forget(self) -> None:
        self._attempt = None
        try:
            self._save()
        except UnusableInput:
            (self.place / STATE).unlink(missing_ok=True)
            raise

    # -- the end

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the directory; what is in it stays, or nothing if there is no state worth keeping."""
        if not (self.place / STATE).exists():
            self._clear()
        os.close(self._lock)

    def finish(self, proof: bytes) -> None:
        """The proof is about to be written: should the process die before `remove`, see `remove_finished`."""
        self._proof = blake3(proof).hexdigest()
        self._save()

    def remove(self) -> None:
        """Remove the files, after the proof has been written; the last copy of the secret is overwritten first."""
        state = self.place / STATE
        if state.exists():
            with open(state, "r+b") as file:
                file.write(bytes(state.stat().st_size))
                file.flush()
                os.fsync(file.fileno())
        self._clear()

    def _clear(self, pattern: str = "*") -> None:
        """Remove the files of the pattern that are a checkpoint's, a killed process's half-written ones included."""
        _clear(self.place, pattern)


@contextmanager
def saving(checkpoint: NoCheckpoint, attempt: Attempt, name: str, messages: bytearray) -> Iterator[None]:
    """Record the messages at the end of the block, unless it only replayed what is recorded."""
    yield
    if name not in attempt.phases:
        attempt.messages, attempt.phases = bytes(messages), (*attempt.phases, name)
        checkpoint.record(attempt)


def remove_finished(place: Path, proof: Path) -> bool:
    """Remove a checkpoint that is of no use any more: of the proof that is in that file, or without a state. Whether
    there was one; nothing else is touched, nor what another process uses."""
    if not place.is_dir() or any(not _OURS.fullmatch(path.name) for path in place.iterdir()):
        return False
    try:
        lock = _locked(place)
    except OSError:
        return False
    try:
        state = place / STATE
        if state.exists() and not _erased(state):
            value = parse(read_file(state, STATE_LIMIT))
            if value["format"] != FORMAT or value["proof"] != blake3(read_file(proof, MAX_PROOF_BYTES)).hexdigest():
                return False
        _clear(place, "*")
        return True
    except (OSError, UnusableInput, ValueError, TypeError, KeyError):
        return False
    finally:
        os.close(lock)


def check_place(place: Path) -> None:
    """UnusableInput if no checkpoint can be in that directory, or be made there."""
    found = place
    while not os.path.lexists(found) and found != found.parent:
        found = found.parent
    if not found.is_dir():
        raise UnusableInput(f"{found} is no directory: give a new or an empty one for the checkpoint")


def _locked(place: Path) -> int:
    """A descriptor of the lock file, locked; the directory is made if there is none. BlockingIOError if another process
    has it, and other errors of the system."""
    for _ in range(_TRIES):
        with suppress(FileNotFoundError):  # a process that has finished removes file and directory
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(place / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(lock), os.stat(place / LOCK)):
                    return lock
            except BaseException:
                os.close(lock)
                raise
            os.close(lock)
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(place))


def _erased(state: Path) -> bool:
    """Whether `remove` has overwritten the state, and died before the end."""
    with suppress(UnusableInput):
        return read_head(state, 1) == b"\0"
    return False


def _clear(place: Path, pattern: str) -> None:
    """Remove the files of the pattern that are a checkpoint's, the lock last, and the directory if it is empty then."""
    with suppress(FileNotFoundError):
        found = [path for path in place.glob(pattern) if _OURS.fullmatch(path.name)]
        for path in sorted(found, key=lambda path: (path.name == LOCK, path.name == STATE)):
            path.unlink(missing_ok=True)
    with suppress(OSError):  # there is more in it, or a new checkpoint by now
        place.rmdir()


def code_digest() -> str:
    """BLAKE3 of the source files a proof depends on, hexadecimal."""
    root, h = Path(__file__).parent.parent, blake3()
    for path in sorted(p for package in ("circuits", "prover", "zkcert") for p in (root / package).rglob("*.py")):
        content = path.read_bytes()
        h.update(f"{path.relative_to(root).as_posix()} {len(content)}\n".encode() + content)
    return h.hexdigest()


CODE = code_digest()  # of the code that runs, not of what lies on the disk later


def _digest(value: dict[str, Any]) -> str:
    return blake3(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _mismatch(key: str, saved: Any, wanted: Any) -> str:
    """What is wrong with a checkpoint whose binding differs, as the rest of a sentence."""
    if key == "code":
        return "was written by another version of zkcert; remove it to start again"
    if key == "reveal_score":
        return f"was begun {'with' if saved else 'without'} --reveal-score"
    names = {"circuit": "model", "weights": "model", "config": "configuration"}
    before, after = json.loads(saved), json.loads(wanted)
    changed = next((names.get(k, k) for k in after if before.get(k) != after[k]), "statement")
    return f"is the checkpoint of another statement: the {changed} differs"
