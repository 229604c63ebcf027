"""Files that appear complete or not at all, and of which nothing is left if the process dies.

A draft has no name while it is written, where the file system can do that (O_TMPFILE): whatever ends the process, the
system removes it. Elsewhere, and for the moment in which it takes the place of another file, its name is
``.NAME.<16 hexadecimal digits>.tmp``, mode and all. The process holds a lock (flock) on it; a file of such a name that
nobody holds was left by a process that died, and the next draft of NAME removes it.

A draft takes a free name so that no other file is ever replaced: with linkat, with renameat2(RENAME_NOREPLACE), or with
link. A file system that has none of these gets an empty file, made exclusively, which the draft then replaces; there, a
file that somebody writes into the empty one in between is lost, and what a killed process leaves is the empty file and
the draft, which the next draft removes. Without locks (some network mounts) nothing is removed.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import os
import re
import secrets
import shutil
import stat
import sys
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from zkcert.files.signals import held

UNNAMED = getattr(os, "O_TMPFILE", 0)
_DIRECTORY = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
_NOREPLACE = 1  # RENAME_NOREPLACE of renameat2
_LONGEST = 255 - len(f"..{'0' * 16}.tmp")


class Draft:
    """A file that takes the name `path` on `publish`; closed before that, it vanishes. Raises OSError.

    file    open for reading and writing, created with `mode` less the umask.
    """

    file: BinaryIO

    def __init__(self, path: Path, mode: int) -> None:
        self.path = path
        self.published = False
        self._name: str | None = None  # the temporary one, while there is one
        remove_dead(path)
        self._place = os.open(path.parent, _DIRECTORY)
        try:
            fd = self._unnamed(mode)
            self.file = os.fdopen(self._named(mode) if fd is None else fd, "w+b")
        except BaseException:
            self._discard()
            os.close(self._place)
            raise

    def __enter__(self) -> Draft:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _unnamed(self, mode: int) -> int | None:
        """A descriptor; None where a file needs a name."""
        if not UNNAMED or not os.path.exists("/proc/self/fd"):
            return None
        try:
            return _locked(os.open(".", UNNAMED | os.O_RDWR | os.O_CLOEXEC, mode, dir_fd=self._place))
        except OSError:  # not of this file system; or in earnest, and then `_named` fails as well
            return None

    def _named(self, mode: int) -> int:
        while True:
            self._name = _temporary(self.path.name)
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = _locked(os.open(self._name, flags, mode, dir_fd=self._place))
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(fd), os.stat(self._name, dir_fd=self._place)):
                    return fd
            os.close(fd)  # another process took it for dead before it was locked

    def publish(self, *, replace: bool = False) -> None:
        """Give it its name. Unless `replace`, FileExistsError if the name is taken, whenever that happened."""
        self.file.flush()
        os.fsync(self.file.fileno())
        with held():
            if replace:
                os.rename(self._with_name(), self.path.name, src_dir_fd=self._place, dst_dir_fd=self._place)
            else:
                self._take()
            self._name, self.published = None, True
        with suppress(OSError):  # the file is there; not every file system knows this of directories
            place = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(place)
            finally:
                os.close(place)

    def withdraw(self) -> None:
        """Remove the published file, unless another one has the name by now."""
        with held():
            if self.published and self._has(self.path.name):
                os.unlink(self.path.name, dir_fd=self._place)
            self.published = False

    def close(self) -> None:
        """Without `publish`, nothing stays."""
        with held():
            self._discard()
            os.close(self._place)
            with suppress(OSError):  # of what was not written; what is published was flushed
                self.file.close()

    def _discard(self) -> None:
        if self._name is not None:
            with suppress(FileNotFoundError):
                os.unlink(self._name, dir_fd=self._place)
            self._name = None

    def _has(self, name: str) -> bool:
        with suppress(FileNotFoundError):
            found = os.stat(name, dir_fd=self._place, follow_symlinks=False)
            return os.path.samestat(os.fstat(self.file.fileno()), found)
        return False

    def _link(self, name: str) -> None:
        """Name an unnamed file. (`os.link` follows the link in /proc only if a directory is given.)"""
        os.link(f"/proc/self/fd/{self.file.fileno()}", name, dst_dir_fd=self._place)

    def _with_name(self) -> str:
        """The temporary name, which it is given if it has none."""
        if self._name is None:
            name = _temporary(self.path.name)
            try:
                self._link(name)
                self._name = name
            except OSError:
                self._copy()
        assert self._name is not None
        return self._name

    def _copy(self) -> None:
        """A named file in the place of an unnamed one that cannot be given a name."""
        old = self.file
        self.file = os.fdopen(self._named(stat.S_IMODE(os.fstat(old.fileno()).st_mode)), "w+b")
        old.seek(0)
        shutil.copyfileobj(old, self.file)
        old.close()
        self.file.flush()
        os.fsync(self.file.fileno())

    def _take(self) -> None:
        final = self.path.name
        if self._name is None:
            try:
                return self._link(final)
            except FileExistsError:
                raise
            except OSError:
                self._copy()
        assert self._name is not None
        if rename_to_free(self._name, final, self._place):
            return
        try:
            os.link(self._name, final, src_dir_fd=self._place, dst_dir_fd=self._place)
        except FileExistsError:
            raise
        except OSError:
            os.close(os.open(final, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=self._place))
            try:
                os.rename(self._name, final, src_dir_fd=self._place, dst_dir_fd=self._place)
            except BaseException:
                os.unlink(final, dir_fd=self._place)
                raise
        else:
            os.unlink(self._name, dir_fd=self._place)


def rename_to_free(old: str, new: str, place: int) -> bool:
    """Rename within a directory unless the new name is taken (FileExistsError); False if the system cannot do that."""
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:
        return False
    sys.audit("os.rename", old, new, place, place)
    if call(place, os.fsencode(old), place, os.fsencode(new), ctypes.c_uint(_NOREPLACE)) == 0:
        return True
    if ctypes.get_errno() == errno.EEXIST:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), new)
    return False


def remove_dead(path: Path) -> None:
    """Remove what processes that died have left of drafts of `path`."""
    alive, dead = False, []
    pattern = re.compile(rf"\.{re.escape(_stem(path.name))}\.[0-9a-f]{{16}}\.tmp")
    with suppress(OSError):  # a directory that cannot be listed
        for name in sorted(os.listdir(path.parent)):
            if pattern.fullmatch(name):
                fd = _dead(path.parent / name)
                if fd is None:
                    alive = True
                else:
                    dead.append((path.parent / name, fd))
    for temporary, fd in dead:
        with suppress(OSError):
            if not alive and path.lstat().st_size == 0 and path.is_file():  # what `_take` made last of all
                path.unlink()
        with suppress(OSError):
            temporary.unlink()
        os.close(fd)


def _dead(temporary: Path) -> int | None:
    """A descriptor, and its lock, of a draft that no process holds; None for any other file."""
    try:
        fd = os.open(temporary, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if stat.S_ISREG(os.fstat(fd).st_mode):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(fd), temporary.lstat()):
                return fd
    except OSError:
        pass
    os.close(fd)
    return None


def _locked(fd: int) -> int:
    """The descriptor, its file locked as long as it is open, where the file system has locks.

    Waits: whoever took it for dead before that holds the lock until its name is gone.
    """
    with suppress(OSError):
        fcntl.flock(fd, fcntl.LOCK_EX)
    return fd


def _stem(name: str) -> str:
    """What temporary names of a file begin with: its own name, or a digest of one that is too long."""
    raw = os.fsencode(name)
    return name if len(raw) <= _LONGEST else hashlib.sha256(raw).hexdigest()[:32]


def _temporary(name: str) -> str:
    return f".{_stem(name)}.{secrets.token_hex(8)}.tmp"
