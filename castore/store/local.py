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
# ruff: noqa: PTH100, PTH102, PTH104, PTH108, PTH110, PTH112, PTH116, PTH118, PTH120, PTH208

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from heapq import merge
from time import time
from typing import TypeVar

from castore.errors import BackendError
from castore.store.backend import Entry, check_key, check_prefix, check_size, is_key
from castore.store.files import (
    ABSENT,
    TEMP_PREFIX,
    NotRegularError,
    failed,
    is_older,
    link,
    modified,
    open_descriptor,
    open_new,
    read_exactly,
    remove,
    replace,
    sync_all,
    temporary_name,
    write_all,
)

_TEMP_FOLDER = "tmp"
_ASIDE_FOLDER = f"{_TEMP_FOLDER}/.castore-expired"
_TEMP_AGE_MAX_S = 24 * 3600  # nobody holds a put back for a day; a clock of another machine may be minutes wrong

# A writer that never flushes, from a generator that takes days: its temporary files must not become old.
_HELD_BACK_S = 3600
_HELD_BACK_FILES = 1 << 14

_FOLDER_MODE = 0o777  # less the umask, as of files

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

    @property
    def place(self) -> str:
        """The folder, wherever the working folder is by now."""
        return self._root

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
            remove(old)

    def flush(self) -> None:
        self._after_fork()
        pending, self._pending = self._pending, {}
        try:
            sync_all(pending.values())
            for key, temp in pending.items():
                path = self._path(key)
                folder = os.path.dirname(path)
                self._within(folder, partial(replace, temp, path))
                self._unsynced.add(folder)
            self._sync_folders(self._unsynced)
            self._unsynced = set()
        except BaseException:
            # Keys that were already renamed are whole and stay. The others are given up: the caller was told.
            for temp in pending.values():
                remove(temp)
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
            won = link(temp, path)
        finally:
            remove(temp)
        if won:
            self._sync_folders({folder})
        return won

    def has(self, key: str) -> bool:
        check_key(key)
        path = self._where(key)
        try:
            return stat.S_ISREG(os.stat(path).st_mode)
        except ABSENT:
            return False
        except OSError as error:
            raise failed("cannot look at", path, error) from error

    def touch(self, key: str) -> bool:
        check_key(key)
        self._after_fork()
        if key in self._pending:
            return True
        path = self._path(key)
        try:
            os.utime(path)
        except ABSENT:
            return False
        except PermissionError:
            return self._renew(key, path)
        except OSError as error:
            raise failed("cannot touch", path, error) from error
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
            except ABSENT:
                continue  # it went while the listing ran
            except OSError as error:
                raise failed("cannot look at", path, error) from error
            yield Entry(key, status.st_size, status.st_mtime)

    def delete(self, key: str) -> bool:
        check_key(key)
        self._after_fork()
        temp = self._pending.pop(key, None)
        if temp is not None:
            remove(temp)
        path = self._path(key)
        try:
            os.unlink(path)
        except (*ABSENT, IsADirectoryError):
            return temp is not None
        except OSError as error:
            raise failed("cannot delete", path, error) from error
        self._unsynced.add(os.path.dirname(path))
        return True

    def expire(self, key: str, before_s: float) -> bool:
        check_key(key)
        self._after_fork()
        path = self._path(key)
        self._settle()
        if key in self._pending or not is_older(path, before_s):
            return False
        aside = f"{self._aside(key)}.{os.getpid()}-{os.urandom(4).hex()}"
        self._make_folder(os.path.dirname(aside))
        try:
            os.rename(path, aside)
        except ABSENT:
            return False
        except OSError as error:
            raise failed("cannot delete", path, error) from error
        self._unsynced.add(os.path.dirname(path))
        return self._decide(aside, path, before_s)

    def _decide(self, aside: str, path: str, before_s: float) -> bool:
        """Remove what lies aside if it is old, or else give it its name back; whether it was removed."""
        old = is_older(aside, before_s)
        try:
            if not old and os.path.exists(aside):
                link(aside, path)
            os.unlink(aside)
        except ABSENT:
            return False  # another sweep decided
        except OSError as error:
            raise failed("cannot delete", aside, error) from error
        except BackendError:
            if not os.path.exists(aside):
                return False  # so did one that takes younger values
            raise
        return old

    def _settle(self) -> None:
        """Give what killed processes left aside its name back, once.

        Whatever its age: it may have been renewed and named in the moment before, and have become old since. The next
        collection finds it in its listing and looks whether it is in use.
        """
        if self._settled:
            return
        self._settled = True
        folder = os.path.join(self._root, _ASIDE_FOLDER)
        for above, _, names in os.walk(folder):
            for name in names:
                key = os.path.relpath(os.path.join(above, name.rpartition(".")[0]), folder)
                if is_key(key):
                    self._make_folder(os.path.dirname(self._path(key)))
                    self._decide(os.path.join(above, name), self._path(key), float("-inf"))

    def _aside(self, key: str) -> str:
        return os.path.join(self._root, _ASIDE_FOLDER, key)

    def _read_aside(self, key: str, max_bytes: int) -> bytes | None:
        folder, name = os.path.split(self._aside(key))
        try:
            names = os.listdir(folder)
        except ABSENT:
            return None
        except OSError as error:
            raise failed("cannot list", folder, error) from error
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
            fd, status = open_descriptor(path)
        except (*ABSENT, NotRegularError):
            return None
        except OSError as error:
            raise failed("cannot read", path, error) from error
        try:
            check_size(status.st_size, max_bytes, path)
            return read_exactly(fd, status.st_size)
        except OSError as error:
            raise failed("cannot read", path, error) from error
        finally:
            os.close(fd)

    def _renew(self, key: str, path: str) -> bool:
        """Renew the age of another user's file, which one may replace but not touch."""
        try:
            size = os.stat(path).st_size
        except OSError as error:
            raise failed("cannot touch", path, error) from error
        data = self._read(path, size)
        if data is None:
            return False
        self.put(key, data)
        return True

    def _write_temp(self, folder: str, data: bytes, *, sync: bool) -> str:
        path = temporary_name(folder)
        fd = self._within(folder, partial(open_new, path))
        self._sweep(folder)
        try:
            try:
                write_all(fd, data)
                if sync:
                    os.fsync(fd)
            finally:
                os.close(fd)
        except OSError as error:
            remove(path)
            raise failed("cannot write", path, error) from error
        except BaseException:
            remove(path)
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
                raise failed("cannot make the folder", each, error) from error
        # What is below the root is synced with its contents; the way to the root would be nobody's business later.
        sync_all([os.path.dirname(each) for each in missing if len(each) <= len(self._root)])

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
            sync_all(folders | above)
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
                    if entry.name.startswith(TEMP_PREFIX) and modified(entry) < oldest:
                        remove(entry.path)
        except OSError as error:
            raise failed("cannot list", folder, error) from error


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
    except ABSENT:
        return
    except OSError as error:
        raise failed("cannot list", folder, error) from error
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
