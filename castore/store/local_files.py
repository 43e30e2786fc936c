"""What a folder asks of the operating system: files that are written whole, made durable, linked and looked at.

Every failure is a ``BackendError`` of one line that names the file.
"""

# pathlib costs 2 to 5 ms to import and several microseconds an operation, on the way of every command and object.
# ruff: noqa: PTH105, PTH108, PTH116

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable

from castore.errors import BackendError

# A sync mostly waits, and the file system gathers those that wait for it: 256 files of 50 KB take 0.055 s one by one
# and 0.031 s in 8 threads; 16 and 32 are no better (ext4 on a quick virtual disk, 2 cores).
_SYNC_THREADS = 8

# os.open's own mode: the umask of the user decides, so that a group can share a repository. tempfile would say 0600.
_FILE_MODE = 0o666

_REASONS = {
    errno.ENOSPC: "disk full",
    errno.EDQUOT: "disk quota exceeded",
    errno.EACCES: "no permission",
    errno.EPERM: "no permission",
    errno.EROFS: "no permission: the file system is read-only",
    errno.ENOTDIR: "a part of the path is not a directory",
    errno.EISDIR: "is a directory",
    errno.EMFILE: "too many open files",
    errno.EXDEV: "is on another file system than the repository",
}
_TRANSIENT = frozenset(
    {errno.EAGAIN, errno.EBUSY, errno.EINTR, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ESTALE, errno.ETIMEDOUT}
)
_NO_HARD_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
ABSENT = (FileNotFoundError, NotADirectoryError)


def failed(action: str, path: str, error: OSError) -> BackendError:
    """The error to raise for one of the operating system: what could not be done, where, and why."""
    reason = _REASONS.get(error.errno or 0) or error.strerror or type(error).__name__
    return BackendError(f"{action} {path}: {reason}", transient=error.errno in _TRANSIENT)


def read_exactly(fd: int, size: int) -> bytes:
    """The first ``size`` bytes of a file, or fewer if it became shorter meanwhile."""
    # One os.read of the known size fills its result in place. A file object would grow a buffer and copy it.
    data = os.read(fd, size)
    if len(data) == size:
        return data
    parts = [data]
    missing = size - len(data)
    while missing and parts[-1]:
        parts.append(os.read(fd, missing))
        missing -= len(parts[-1])
    return b"".join(parts)


def write_all(fd: int, data: bytes) -> None:
    """Write all of ``data``, in as many calls as that takes."""
    written = os.write(fd, data)
    if written < len(data):
        rest = memoryview(data)[written:]
        while rest:
            rest = rest[os.write(fd, rest) :]


def _sync(path: str) -> None:
    try:
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise failed("cannot make durable", path, error) from error


def sync_all(paths: Iterable[str]) -> None:
    """Make files and folders durable, several at once."""
    paths = list(paths)
    if len(paths) < 2:
        for path in paths:
            _sync(path)
        return
    from concurrent.futures import ThreadPoolExecutor

    # A share for every thread: handing them over one by one costs as much as the syncs.
    with ThreadPoolExecutor(min(_SYNC_THREADS, len(paths))) as pool:
        for _ in pool.map(_sync_share, (paths[i::_SYNC_THREADS] for i in range(_SYNC_THREADS))):
            pass


def _sync_share(paths: list[str]) -> None:
    for path in paths:
        _sync(path)


def open_new(path: str) -> int:
    """A file descriptor for writing a file that must not be there yet."""
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _FILE_MODE)
    except OSError as error:
        raise failed("cannot write", path, error) from error


def replace(temp: str, path: str) -> None:
    """Give a file its name, in place of whatever has it."""
    try:
        os.replace(temp, path)
    except OSError as error:
        raise failed("cannot write", path, error) from error


def link(temp: str, path: str) -> bool:
    """Give a temporary file its name unless the name is taken; whether it got it."""
    try:
        os.link(temp, path)
    except OSError as error:
        # The answer to a link that worked can be lost, and NFS then repeats the request and hears EEXIST. Which file
        # has the name is the truth.
        if _same_file(temp, path):
            return True
        if isinstance(error, FileExistsError):
            return False
        if error.errno in _NO_HARD_LINKS:
            raise BackendError(f"cannot create {path}: no permission, or a file system without hard links") from error
        raise failed("cannot create", path, error) from error
    return True


def _same_file(a: str, b: str) -> bool:
    try:
        return os.path.samestat(os.stat(a), os.stat(b))
    except OSError:
        return False


def remove(path: str) -> None:
    """Remove a temporary file as well as possible: one that stays is swept when it is old."""
    try:
        os.unlink(path)
    except OSError:
        return


def modified(entry: os.DirEntry[str]) -> float:
    """When a file was modified, in seconds since 1970; infinity if it is gone."""
    try:
        return entry.stat(follow_symlinks=False).st_mtime
    except FileNotFoundError:
        return float("inf")  # removed by its owner or by another sweep


def is_older(path: str, than_s: float) -> bool:
    """Whether there is a file that was not modified since ``than_s``."""
    try:
        status = os.stat(path)
    except ABSENT:
        return False
    except OSError as error:
        raise failed("cannot look at", path, error) from error
    return stat.S_ISREG(status.st_mode) and status.st_mtime < than_s
