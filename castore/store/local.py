"""A backend in a folder: NFS, Weka or a disk, shared by users and machines, without locks.

::

    <root>/<key>                         a value; whole and durable as soon as it has this name
    <root>/tmp/.castore-tmp-…            a put that is not flushed yet
    <root>/<folder>/.castore-tmp-…       a create under way in this folder
    <root>/tmp/.castore-expired/<key>.…  a value that is being removed for its age

A put writes a file under ``tmp/``; ``flush`` syncs all of them together, renames them into place and syncs the folders.
A create links a synced file to its name, which fails if the name exists: LINK is atomic on NFS too, where locks and
``exists`` are not to be trusted. What a killed process leaves behind is dot files, which no listing shows and which a
later writer removes when they are a day old.

``expire`` first renames the file aside, where nobody can touch it any more, and only then looks at its age: of a
renewal and a removal at the same moment one comes first. A file that proves renewed is linked back, and reading finds
it aside meanwhile, also if the process dies at that moment.
"""

# pathlib costs 2 to 5 ms to import and several microseconds an operation, on the way of every command and object.
# ruff: noqa: PTH100, PTH102, PTH104, PTH105, PTH108, PTH110, PTH112, PTH116, PTH118, PTH120, PTH208

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from heapq import merge
from time import time
from typing import TypeVar

from castore.errors import BackendError
from castore.store.backend import Entry, check_key, check_prefix, check_size, is_key

_TEMP_FOLDER = "tmp"
_TEMP_PREFIX = ".castore-tmp-"
_ASIDE_FOLDER = f"{_TEMP_FOLDER}/.castore-expired"
_TEMP_AGE_MAX_S = 24 * 3600  # nobody holds a put back for a day; a clock of another machine may be minutes wrong

# A writer that never flushes, from a generator that takes days: its temporary files must not become old.
_HELD_BACK_S = 3600
_HELD_BACK_FILES = 1 << 14

# A sync mostly waits, and the file system gathers those that wait for it: 256 files of 50 KB take 0.055 s one by one
# and 0.031 s in 8 threads; 16 and 32 are no better (ext4 on a quick virtual disk, 2 cores).
_SYNC_THREADS = 8

# os.open's own mode: the umask of the user decides, so that a group can share a repository. tempfile would say 0600.
_FILE_MODE = 0o666
_FOLDER_MODE = 0o777

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
_ABSENT = (FileNotFoundError, NotADirectoryError)

_T = TypeVar("_T")


class LocalBackend:
    """A ``Backend`` in a folder of a local or network file system.

    Safe for any number of processes and machines at once; an instance is for one thread at a time. The folder is made
    by the first write. After a fork the child may go on using an instance: unflushed puts remain the parent's.

    Args:
        root: The folder. A relative one is taken from the working directory of this moment.
    """

    expires_in_one_step = True

    def __init__(self, root: str) -> None:
        self.url = root
        self._root = os.path.abspath(root)
        self._pid = os.getpid()
        self._pending: dict[str, str] = {}  # key -> its temporary file
        self._pending_since = 0.0  # when the first of them was written
        self._unsynced: set[str] = set()  # folders whose entries the next flush must make durable
        self._entered: set[str] = set()  # folders that are known to be durable in their parents
        self._made: set[str] = set()  # folders that this instance has seen
        self._settled = False  # whether what killed sweeps left aside was seen to
        self._swept: set[str] = set()  # folders that were searched for old temporary files

    def get(self, key: str, max_bytes: int) -> bytes | None:
        check_key(key)
        data = self._read(self._where(key), max_bytes)
        return data if data is not None else self._read_aside(key, max_bytes)

    def get_many(self, keys: Iterable[str], max_bytes: int) -> Iterator[tuple[str, bytes | None]]:
        return ((key, self.get(key, max_bytes)) for key in keys)

    def put(self, key: str, data: bytes) -> None:
        check_key(key)
        self._after_fork()
        now = time()
        if not self._pending:
            self._pending_since = now
        elif abs(now - self._pending_since) > _HELD_BACK_S or len(self._pending) >= _HELD_BACK_FILES:
            self.flush()
            self._pending_since = now
        temp = self._write_temp(os.path.join(self._root, _TEMP_FOLDER), data, sync=False)
        old = self._pending.pop(key, None)
        self._pending[key] = temp
        if old is not None:
            _remove(old)

    def flush(self) -> None:
        self._after_fork()
        pending, self._pending = self._pending, {}
        try:
            _sync_all(pending.values())
            for key, temp in pending.items():
                path = self._path(key)
                folder = os.path.dirname(path)
                self._within(folder, partial(_replace, temp, path))
                self._unsynced.add(folder)
            self._sync_folders(self._unsynced)
            self._unsynced = set()
        except BaseException:
            # Keys that were already renamed are whole and stay. The others are given up: the caller was told.
            for temp in pending.values():
                _remove(temp)
            raise

    def create(self, key: str, data: bytes) -> bool:
        check_key(key)
        self._after_fork()
        if key in self._pending:
            return False
        path = self._path(key)
        folder = os.path.dirname(path)
        self._make_folder(folder)
        temp = self._write_temp(folder, data, sync=True)
        try:
            won = _link(temp, path)
        finally:
            _remove(temp)
        if won:
            self._sync_folders({folder})
        return won

    def has(self, key: str) -> bool:
        check_key(key)
        path = self._where(key)
        try:
            return stat.S_ISREG(os.stat(path).st_mode)
        except _ABSENT:
            return False
        except OSError as error:
            raise _failed("cannot look at", path, error) from error

    def touch(self, key: str) -> bool:
        check_key(key)
        self._after_fork()
        if key in self._pending:
            return True
        path = self._path(key)
        try:
            os.utime(path)
        except _ABSENT:
            return False
        except PermissionError:
            return self._renew(key, path)
        except OSError as error:
            raise _failed("cannot touch", path, error) from error
        # Another process may have renamed it into place a moment ago and not synced the folder yet. Whoever relies on
        # the value being there must not depend on that process surviving.
        self._unsynced.add(os.path.dirname(path))
        return True

    def touch_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bool]]:
        return ((key, self.touch(key)) for key in keys)

    def list(self, prefix: str) -> Iterator[str]:
        return (key for key, _ in self._walk(prefix))

    def entries(self, prefix: str) -> Iterator[Entry]:
        for key, path in self._walk(prefix):
            try:
                status = os.stat(path)
            except _ABSENT:
                continue  # it went while the listing ran
            except OSError as error:
                raise _failed("cannot look at", path, error) from error
            yield Entry(key, status.st_size, status.st_mtime)

    def delete(self, key: str) -> bool:
        check_key(key)
        self._after_fork()
        temp = self._pending.pop(key, None)
        if temp is not None:
            _remove(temp)
        path = self._path(key)
        try:
            os.unlink(path)
        except (*_ABSENT, IsADirectoryError):
            return temp is not None
        except OSError as error:
            raise _failed("cannot delete", path, error) from error
        self._unsynced.add(os.path.dirname(path))
        return True

    def expire(self, key: str, before_s: float) -> bool:
        check_key(key)
        self._after_fork()
        path = self._path(key)
        self._settle(before_s)
        if key in self._pending or not _is_older(path, before_s):
            return False
        aside = f"{self._aside(key)}.{os.getpid()}-{os.urandom(4).hex()}"
        self._make_folder(os.path.dirname(aside))
        try:
            os.rename(path, aside)
        except _ABSENT:
            return False
        except OSError as error:
            raise _failed("cannot delete", path, error) from error
        self._unsynced.add(os.path.dirname(path))
        return self._decide(aside, path, before_s)

    def _decide(self, aside: str, path: str, before_s: float) -> bool:
        """Remove what lies aside if it is old, or else give it its name back; whether it was removed."""
        old = _is_older(aside, before_s)
        try:
            if not old and os.path.exists(aside):
                _link(aside, path)
            os.unlink(aside)
        except _ABSENT:
            return False  # another sweep decided
        except OSError as error:
            raise _failed("cannot delete", aside, error) from error
        except BackendError:
            if not os.path.exists(aside):
                return False  # so did one that takes younger values
            raise
        return old

    def _settle(self, before_s: float) -> None:
        """Decide, once, about what killed processes left aside: young values get their names back, old ones go."""
        if self._settled:
            return
        self._settled = True
        folder = os.path.join(self._root, _ASIDE_FOLDER)
        for above, _, names in os.walk(folder):
            for name in names:
                key = os.path.relpath(os.path.join(above, name.rpartition(".")[0]), folder)
                if is_key(key):
                    self._make_folder(os.path.dirname(self._path(key)))
                    self._decide(os.path.join(above, name), self._path(key), before_s)

    def _aside(self, key: str) -> str:
        return os.path.join(self._root, _ASIDE_FOLDER, key)

    def _read_aside(self, key: str, max_bytes: int) -> bytes | None:
        folder, name = os.path.split(self._aside(key))
        try:
            names = os.listdir(folder)
        except _ABSENT:
            return None
        except OSError as error:
            raise _failed("cannot list", folder, error) from error
        for found in names:
            if found.rpartition(".")[0] == name:
                data = self._read(os.path.join(folder, found), max_bytes)
                if data is not None:
                    return data
        # It may have got its name back between the two looks.
        return self._read(self._path(key), max_bytes)

    def _walk(self, prefix: str) -> Iterator[tuple[str, str]]:
        """All keys below a prefix with the files that hold them now, in order."""
        check_prefix(prefix)
        self._after_fork()
        start = prefix + "/" if prefix else ""
        pending = sorted((key, temp) for key, temp in self._pending.items() if key.startswith(start))
        folder = os.path.join(self._root, prefix) if prefix else self._root
        return _distinct(merge(pending, _walk(folder, start), key=_first))

    def _path(self, key: str) -> str:
        return os.path.join(self._root, key)

    def _where(self, key: str) -> str:
        """The file that holds the value now, if any does."""
        self._after_fork()
        return self._pending.get(key) or self._path(key)

    def _after_fork(self) -> None:
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._pending = {}
            self._unsynced = set()

    def _read(self, path: str, max_bytes: int) -> bytes | None:
        try:
            fd = os.open(path, os.O_RDONLY)
        except _ABSENT:
            return None
        except OSError as error:
            raise _failed("cannot read", path, error) from error
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                return None
            check_size(status.st_size, max_bytes, path)
            return _read_exactly(fd, status.st_size)
        except OSError as error:
            raise _failed("cannot read", path, error) from error
        finally:
            os.close(fd)

    def _renew(self, key: str, path: str) -> bool:
        """Renew the age of another user's file, which one may replace but not touch."""
        try:
            size = os.stat(path).st_size
        except OSError as error:
            raise _failed("cannot touch", path, error) from error
        data = self._read(path, size)
        if data is None:
            return False
        self.put(key, data)
        return True

    def _write_temp(self, folder: str, data: bytes, *, sync: bool) -> str:
        path = os.path.join(folder, f"{_TEMP_PREFIX}{os.getpid()}-{os.urandom(8).hex()}")
        fd = self._within(folder, partial(_open_new, path))
        self._sweep(folder)
        try:
            try:
                _write_all(fd, data)
                if sync:
                    os.fsync(fd)
            finally:
                os.close(fd)
        except OSError as error:
            _remove(path)
            raise _failed("cannot write", path, error) from error
        except BaseException:
            _remove(path)
            raise
        return path

    def _within(self, folder: str, action: Callable[[], _T]) -> _T:
        """Do something in a folder that may have to be made first; or again, if somebody removed it."""
        if folder in self._made:
            try:
                return action()
            except BackendError as error:
                if not isinstance(error.__cause__, FileNotFoundError):
                    raise
        self._make_folder(folder)
        self._made.add(folder)
        return action()

    def _make_folder(self, folder: str) -> None:
        missing = []
        while not os.path.isdir(folder):
            missing.append(folder)
            folder = os.path.dirname(folder)
        for each in reversed(missing):
            try:
                os.mkdir(each, _FOLDER_MODE)
            except FileExistsError as error:
                if not os.path.isdir(each):
                    raise BackendError(f"cannot make the folder {each}: a file has this name") from error
            except OSError as error:
                raise _failed("cannot make the folder", each, error) from error
        # What is below the root is synced with its contents; the way to the root would be nobody's business later.
        _sync_all([os.path.dirname(each) for each in missing if len(each) <= len(self._root)])

    def _sync_folders(self, folders: set[str]) -> None:
        """Make the entries of ``folders`` durable, and the folders themselves in theirs."""
        above: set[str] = set()
        for folder in folders:
            inner = folder
            while inner not in self._entered and len(inner) > len(self._root):
                # Another process may have made it and not synced its parent yet, so seeing it proves nothing.
                self._entered.add(inner)
                inner = os.path.dirname(inner)
                above.add(inner)
        try:
            _sync_all(folders | above)
        except BaseException:
            self._entered.clear()
            raise

    def _sweep(self, folder: str) -> None:
        """Remove old temporary files of processes that were killed, once per instance and folder."""
        if folder in self._swept:
            return
        self._swept.add(folder)
        oldest = time() - _TEMP_AGE_MAX_S
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name.startswith(_TEMP_PREFIX) and _modified(entry) < oldest:
                        _remove(entry.path)
        except OSError as error:
            raise _failed("cannot list", folder, error) from error


def _failed(action: str, path: str, error: OSError) -> BackendError:
    reason = _REASONS.get(error.errno or 0) or error.strerror or type(error).__name__
    return BackendError(f"{action} {path}: {reason}", transient=error.errno in _TRANSIENT)


def _read_exactly(fd: int, size: int) -> bytes:
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


def _write_all(fd: int, data: bytes) -> None:
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
        raise _failed("cannot make durable", path, error) from error


def _sync_all(paths: Iterable[str]) -> None:
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


def _open_new(path: str) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _FILE_MODE)
    except OSError as error:
        raise _failed("cannot write", path, error) from error


def _replace(temp: str, path: str) -> None:
    try:
        os.replace(temp, path)
    except OSError as error:
        raise _failed("cannot write", path, error) from error


def _link(temp: str, path: str) -> bool:
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
        raise _failed("cannot create", path, error) from error
    return True


def _same_file(a: str, b: str) -> bool:
    try:
        return os.path.samestat(os.stat(a), os.stat(b))
    except OSError:
        return False


def _remove(path: str) -> None:
    """Remove a temporary file as well as possible: one that stays is swept when it is old."""
    try:
        os.unlink(path)
    except OSError:
        return


def _modified(entry: os.DirEntry[str]) -> float:
    try:
        return entry.stat(follow_symlinks=False).st_mtime
    except FileNotFoundError:
        return float("inf")  # removed by its owner or by another sweep


def _is_older(path: str, than_s: float) -> bool:
    """Whether there is a file that was not modified since ``than_s``."""
    try:
        status = os.stat(path)
    except _ABSENT:
        return False
    except OSError as error:
        raise _failed("cannot look at", path, error) from error
    return stat.S_ISREG(status.st_mode) and status.st_mtime < than_s


def _first(pair: tuple[str, str]) -> str:
    return pair[0]


def _walk(folder: str, start: str) -> Iterator[tuple[str, str]]:
    """All keys in ``folder`` and below with their files, in order; ``start`` is the key of the folder and a slash."""
    try:
        with os.scandir(folder) as entries:
            # A folder sorts as its keys will: "a-b" comes before "a/b", though "a" comes before "a-b".
            names = sorted(
                entry.name + "/" if entry.is_dir() else entry.name
                for entry in entries
                if is_key(start + entry.name) and (entry.is_dir() or entry.is_file())
            )
    except _ABSENT:
        return
    except OSError as error:
        raise _failed("cannot list", folder, error) from error
    for name in names:
        path = os.path.join(folder, name)
        if name.endswith("/"):
            yield from _walk(path[:-1], start + name)
        else:
            yield start + name, path


def _distinct(pairs: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Of sorted pairs the first with each key."""
    last = None
    for pair in pairs:
        if pair[0] != last:
            yield pair
        last = pair[0]
