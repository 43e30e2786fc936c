"""The one way to open a file, to write a whole one, and to name, link and sync it.

Files of others are opened by ``open_regular``, and files are written by ``WholeFile`` and ``write_whole``. An
``OSError`` is the caller's, who knows whose file it was. What keeps the values of a repository (``local``) is at the
end: there every failure is a ``BackendError`` of one line that names the file.
"""

# pathlib costs 2 to 5 ms to import and several microseconds an operation, on the way of every command and object.
# ruff: noqa: PTH105, PTH108, PTH116, PTH118, PTH120, SIM115

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from io import BufferedReader
from types import TracebackType
from typing import BinaryIO

from castore.errors import BackendError
from castore.store.processes import is_dead, this_process

# A sync mostly waits, and the file system gathers those that wait for it: 256 files of 50 KB take 0.055 s one by one
# and 0.031 s in 8 threads; 16 and 32 are no better (ext4 on a quick virtual disk, 2 cores).
_SYNC_THREADS = 8

# os.open's own mode: the umask of the user decides, so that a group can share a repository. tempfile would say 0600.
_FILE_MODE = 0o666
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL

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


TEMP_PREFIX = ".castore-tmp-"
"""What names of temporary files begin with; no listing shows them, and old ones are swept."""

BUFFER_BYTES = 1 << 20
"""Bytes that are gathered before a file is written to."""


class NotRegularError(OSError):
    """There is a folder, a pipe, a socket or a device where a file was to be opened."""


def open_descriptor(path: str | os.PathLike[str], *, pipes: bool = False) -> tuple[int, os.stat_result]:
    """Open a file for reading, only if it is a file: a pipe would be waited for, and a device may never end.

    Args:
        path: The file.
        pipes: Take a pipe too that somebody writes to, as a shell makes of ``<(command)``; one without a writer is
            empty.

    Returns:
        The descriptor, to be closed by the caller, and what the system says of the file.

    Raises:
        NotRegularError: It is something else.
        OSError: It cannot be opened.
    """
    # Looked at when it is open, so that nothing takes its place; without waiting, as opening a pipe otherwise does.
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        status = os.fstat(fd)
        mode = status.st_mode
        if stat.S_ISDIR(mode):
            raise NotRegularError(errno.EISDIR, "is a directory", os.fspath(path))
        if pipes and stat.S_ISFIFO(mode):
            os.set_blocking(fd, True)
        elif not stat.S_ISREG(mode):
            raise NotRegularError(errno.EINVAL, "is not a regular file", os.fspath(path))
    except BaseException:
        os.close(fd)
        raise
    return fd, status


def open_regular(path: str | os.PathLike[str], *, pipes: bool = False) -> BufferedReader:
    """As ``open_descriptor``, for reading through a buffer."""
    return open(open_descriptor(path, pipes=pipes)[0], "rb")


class WholeFile:
    """A file that others see whole or not at all: it gets its name when all of it is written.

    As a context manager it is finished, or given up after an error.

    Args:
        path: Whatever has this name is replaced.
        durable: Sync it before it gets the name. The name is durable when its folder is synced (``sync``).

    Attributes:
        file: To write to.
        temp: The name of it meanwhile, in the same folder.

    Raises:
        OSError: In any call; nothing of it stays.
    """

    def __init__(self, path: str | os.PathLike[str], *, durable: bool = True) -> None:
        self._path, self._durable = os.fspath(path), durable
        self.temp = temporary_name(os.path.dirname(self._path))
        fd = os.open(self.temp, _NEW, _FILE_MODE)
        self.file: BinaryIO = open(fd, "wb", buffering=BUFFER_BYTES)
        self._is_named = False

    def __enter__(self) -> BinaryIO:
        return self.file

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if error is None:
            self.finish()
        else:
            self.close()

    def finish(self) -> None:
        """Make the file what its name means."""
        try:
            self.file.flush()
            if self._durable:
                os.fsync(self.file.fileno())
            self.file.close()
            os.replace(self.temp, self._path)
            self._is_named = True
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give the file up, unless it is finished."""
        if self._is_named:
            return
        remove(self.temp)
        with suppress(OSError):  # of what was in the buffer, for a file that is gone
            self.file.close()


def write_whole(path: str | os.PathLike[str], data: bytes, *, durable: bool = True) -> None:
    """Write a file as ``WholeFile`` does.

    Raises:
        OSError: It cannot be written; what had the name stays.
    """
    with WholeFile(path, durable=durable) as file:
        file.write(data)


def temporary_name(folder: str) -> str:
    """A name for a file in a folder that no other process uses, here or on another machine."""
    return os.path.join(folder, f"{TEMP_PREFIX}{this_process()}-{os.urandom(8).hex()}")


def is_left(name: str) -> bool:
    """Whether a file has a name of ``temporary_name``, of a process that is known to be gone."""
    owner = name.removeprefix(TEMP_PREFIX).rpartition("-")[0]
    return name.startswith(TEMP_PREFIX) and owner.count("-") == 2 and is_dead(owner)


def sweep(folder: str) -> None:
    """Remove the temporary files that processes left in a folder that are known to be gone, as well as possible."""
    with suppress(OSError), os.scandir(folder or ".") as entries:
        for entry in entries:
            if is_left(entry.name) and entry.is_file(follow_symlinks=False):
                remove(entry.path)


def write_at(fd: int, data: memoryview, at: int) -> None:
    """Write all of ``data`` (bytes) from byte ``at`` of a file on, in as many calls as that takes."""
    while len(data):
        count = os.pwrite(fd, data, at)
        data, at = data[count:], at + count


def sync(path: str | os.PathLike[str]) -> None:
    """Make a file durable, or the names in a folder.

    Raises:
        OSError: The system refuses.
    """
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


# ---- values of a repository


def failed(action: str, path: str, error: OSError) -> BackendError:
    """The error to raise for one of the operating system: what could not be done, where, and why."""
    reason = _REASONS.get(error.errno or 0) or error.strerror or type(error).__name__
    return BackendError(f"{action} {path}: {reason}", transient=error.errno in _TRANSIENT, full=is_full(error))


def is_full(error: OSError) -> bool:
    """Whether there is no more room: on the disk, or in what this user may take of it."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def read_exactly(fd: int, size: int, at: int = 0) -> bytes:
    """``size`` bytes of a file from byte ``at`` on, or fewer if it became shorter meanwhile."""
    # One os.pread of the known size fills its result in place. A file object would grow a buffer and copy it.
    data = os.pread(fd, size, at)
    if len(data) == size:
        return data
    parts = [data]
    read = len(data)
    while read < size and parts[-1]:
        parts.append(os.pread(fd, size - read, at + read))
        read += len(parts[-1])
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
        sync(path)
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
        return os.open(path, _NEW, _FILE_MODE)
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
