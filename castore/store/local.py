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

A value is a regular file or a link to one (``folders``). What else has its name, a link that leads nowhere for one, is
never taken for absence, replaced or removed: every method that meets it raises ``NotAValueError``. Nor is the file
removed for its age that a link leads to: it lies elsewhere, and is somebody else's.

``expire`` first renames the file aside, where nobody can touch it any more, and only then looks at its age: of a
renewal and a removal at the same moment one comes first. A file that proves renewed is linked back, and reading finds
it aside meanwhile, also if the process dies at that moment.
"""

# pathlib costs 2 to 5 ms to import and several microseconds an operation, on the way of every command and object.
# ruff: noqa: PTH100, PTH104, PTH108, PTH110, PTH114, PTH116, PTH118, PTH120, PTH208

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from functools import partial
from heapq import merge
from operator import itemgetter
from time import time

from castore.errors import BackendError
from castore.store.backend import (
    ListingEntry,
    NotAValueError,
    Part,
    check_key,
    check_part,
    check_prefix,
    check_size,
    is_key,
    part_bounds,
)
from castore.store.files import (
    ABSENT,
    failed,
    is_older,
    link,
    open_descriptor,
    read_exactly,
    remove,
    replace,
    sync_all,
)
from castore.store.folders import Folders, Found, distinct, is_absence, kind_of_file, require_replaceable, unavailable

_TEMP_FOLDER = "tmp"
_ASIDE_FOLDER = f"{_TEMP_FOLDER}/.castore-expired"

# A writer that never flushes, from a generator that takes days: its temporary files must not become old.
_HELD_BACK_S = 3600
_HELD_BACK_FILES = 1 << 14


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
        self._folders = Folders(self._root)
        self._settled = False  # whether what killed sweeps left aside was seen to

    @property
    def place(self) -> str:
        """The folder, wherever the working folder is by now."""
        return self._root

    def get(self, key: str, max_bytes: int) -> bytes | None:
        check_key(key)
        return self._read_value(key, 0, max_bytes, max_bytes)

    def get_many(self, keys: Iterable[str], max_bytes: int) -> Iterator[tuple[str, bytes | None]]:
        return ((key, self.get(key, max_bytes)) for key in keys)

    def get_part(self, key: str, start: int, length: int) -> bytes | None:
        check_part(key, length)
        return self._read_value(key, start, length)

    def get_parts(self, parts: Iterable[Part]) -> Iterator[tuple[Part, bytes | None]]:
        return ((part, self.get_part(*part)) for part in parts)

    def put(self, key: str, data: bytes) -> None:
        check_key(key)
        self._after_fork()
        now = time()
        if not self._pending:
            self._pending_since = now
        elif abs(now - self._pending_since) > _HELD_BACK_S or len(self._pending) >= _HELD_BACK_FILES:
            self.flush()
            self._pending_since = now
        temp = self._folders.write_temporary(os.path.join(self._root, _TEMP_FOLDER), data, sync=False)
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
                require_replaceable(path)
                folder = os.path.dirname(path)
                self._folders.within(folder, partial(replace, temp, path))
                self._folders.unsynced.add(folder)
            self._folders.sync()
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
        self._folders.make(folder)
        temp = self._folders.write_temporary(folder, data, sync=True)
        try:
            won = link(temp, path)
        finally:
            remove(temp)
        if won:
            self._folders.sync_these({folder})
        return won

    def has(self, key: str) -> bool:
        check_key(key)
        return self._folders.status(self._where(key)) is not None

    def touch(self, key: str) -> bool:
        check_key(key)
        self._after_fork()
        if key in self._pending:
            return True
        path = self._path(key)
        if self._folders.status(path) is None:  # which a pipe or folder would not say of itself
            return False
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
        self._folders.unsynced.add(os.path.dirname(path))
        return True

    def touch_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bool]]:
        return ((key, self.touch(key)) for key in keys)

    def _pending_below(self, prefix: str) -> list[tuple[str, str]]:
        check_prefix(prefix)
        self._after_fork()
        start = prefix + "/" if prefix else ""
        return sorted((key, temp) for key, temp in self._pending.items() if key.startswith(start))

    def list(self, prefix: str) -> Iterator[str]:
        return (key for key, _ in self._values(prefix))

    def entries(self, prefix: str) -> Iterator[ListingEntry]:
        for key, path in self._values(prefix):
            entry = self._described(key, path)
            if entry is not None:
                yield entry

    def everything(self, prefix: str, *, details: bool) -> Iterator[ListingEntry]:
        """As ``backend.everything`` says."""
        pending = self._pending_below(prefix)
        for key, temp in pending:
            entry = self._described(key, temp) if details else ListingEntry(key, 0, None)
            if entry is not None:
                yield entry
        waiting = dict(pending)
        for found in self._found(prefix):
            if found.key in waiting:
                continue
            if found.is_folder or not details:
                yield ListingEntry(found.key, 0, None, found.fault, found.is_folder)
            else:
                entry = self._described(found.key, found.path)
                if entry is not None:
                    yield entry._replace(fault=found.fault)

    def _values(self, prefix: str) -> Iterator[tuple[str, str]]:
        """Keys below a prefix with the files that hold them now, in order; what else has the name of a key among them.

        Raises:
            NotAValueError: A folder cannot be listed.
        """
        return distinct(merge(self._pending_below(prefix), self._files(prefix), key=itemgetter(0)))

    def _files(self, prefix: str) -> Iterator[tuple[str, str]]:
        for found in self._found(prefix):
            if not found.is_folder:
                yield found.key, found.path
            elif found.fault:
                raise NotAValueError(found.fault)

    def _found(self, prefix: str) -> Iterator[Found]:
        folder = os.path.join(self._root, prefix) if prefix else self._root
        return self._folders.below(folder, prefix + "/" if prefix else "")

    def _described(self, key: str, path: str) -> ListingEntry | None:
        """Size and time of a value, or of what is in its place; None if it went while the listing ran."""
        try:
            try:
                status = os.stat(path)
            except OSError:
                status = os.lstat(path)  # a link that leads nowhere
        except ABSENT:
            return None
        except OSError as error:
            raise failed("cannot look at", path, error) from error
        return ListingEntry(key, status.st_size, status.st_mtime)

    def delete(self, key: str) -> bool:
        check_key(key)
        self._after_fork()
        temp = self._pending.pop(key, None)
        if temp is not None:
            remove(temp)
        path = self._path(key)
        if self._folders.status(path) is None:
            return temp is not None
        try:
            os.unlink(path)
        except ABSENT:
            return temp is not None
        except OSError as error:
            raise failed("cannot delete", path, error) from error
        self._folders.unsynced.add(os.path.dirname(path))
        return True

    def expire(self, key: str, before_s: float) -> bool:
        check_key(key)
        self._after_fork()
        path = self._path(key)
        self._settle()
        status = None if key in self._pending else self._folders.status(path)
        if status is None or status.st_mtime >= before_s or os.path.islink(path):
            return False
        aside = f"{self._aside(key)}.{os.getpid()}-{os.urandom(4).hex()}"
        self._folders.make(os.path.dirname(aside))
        try:
            os.rename(path, aside)
        except ABSENT:
            return False
        except OSError as error:
            raise failed("cannot delete", path, error) from error
        self._folders.unsynced.add(os.path.dirname(path))
        return self._decide(aside, path, before_s)

    def _decide(self, aside: str, path: str, before_s: float) -> bool:
        """Remove what lies aside if it is old, or else give it its name back; whether it was removed.

        Of what is no file nothing is removed, and nothing gets a name.
        """
        if kind_of_file(aside, links=False) not in ("a file", ""):
            return False
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
        if kind_of_file(folder, links=False) == "a link":
            return  # a folder of somebody else's
        for above, _, names in os.walk(folder):
            for name in names:
                key = os.path.relpath(os.path.join(above, name.rpartition(".")[0]), folder)
                if is_key(key):
                    self._folders.make(os.path.dirname(self._path(key)))
                    self._decide(os.path.join(above, name), self._path(key), float("-inf"))

    def _aside(self, key: str) -> str:
        return os.path.join(self._root, _ASIDE_FOLDER, key)

    def _read_value(self, key: str, *wanted: int) -> bytes | None:
        """What ``_read`` reads, wherever the value is now."""
        data = self._read(self._where(key), *wanted)
        return data if data is not None else self._read_aside(key, *wanted)

    def _read_aside(self, key: str, *wanted: int) -> bytes | None:
        folder, name = os.path.split(self._aside(key))
        try:
            names = os.listdir(folder)
        except ABSENT:
            return None
        except OSError as error:
            raise failed("cannot list", folder, error) from error
        for found in names:
            if found.rpartition(".")[0] == name:
                data = self._read(os.path.join(folder, found), *wanted)
                if data is not None:
                    return data
        # It may have got its name back between the two looks.
        return self._read(self._path(key), *wanted)

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
            self._folders.unsynced = set()

    def _read(self, path: str, start: int, length: int, max_bytes: int | None = None) -> bytes | None:
        """A part of a file that must not be larger than ``max_bytes``; None if there is none."""
        try:
            fd, status = open_descriptor(path)
        except OSError as error:
            if not is_absence(error):
                raise unavailable(path, error) from error
            self._folders.require_absent(path)
            return None
        try:
            if max_bytes is not None:
                check_size(status.st_size, max_bytes, path)
            begin, end = part_bounds(status.st_size, start, length)
            return read_exactly(fd, end - begin, begin)
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
        data = self._read(path, 0, size, size)
        if data is None:
            return False
        self.put(key, data)
        return True
