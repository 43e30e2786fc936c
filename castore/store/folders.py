"""The folders of a place: made when they are needed, synced with what is in them, listed, and swept."""

# pathlib costs 2 to 5 ms to import and several microseconds an operation, on the way of every command and object.
# ruff: noqa: PTH102, PTH112, PTH118, PTH120

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from time import time
from typing import TypeVar

from castore.errors import BackendError
from castore.store.backend import is_key
from castore.store.files import (
    ABSENT,
    TEMP_PREFIX,
    failed,
    is_left,
    modified,
    open_new,
    remove,
    sync_all,
    temporary_name,
    write_all,
)

_TEMP_AGE_MAX_S = 24 * 3600  # nobody holds a put back for a day; a clock of another machine may be minutes wrong

_FOLDER_MODE = 0o777  # less the umask, as of files

_T = TypeVar("_T")


class Folders:
    """What one instance of a backend knows of the folders below its root.

    Args:
        root: The root, absolute.

    Attributes:
        unsynced: Folders whose names the next ``sync`` must make durable.

    Raises:
        BackendError: In any call.
    """

    def __init__(self, root: str) -> None:
        self._root = root
        self.unsynced: set[str] = set()
        self._entered: set[str] = set()  # folders that are known to be durable in their parents
        self._made: set[str] = set()  # folders that this instance has seen
        self._swept: set[str] = set()  # folders that were searched for old temporary files

    def write_temporary(self, folder: str, data: bytes, *, sync: bool) -> str:
        """Write a temporary file in a folder, which is made if it is missing; its path."""
        path = temporary_name(folder)
        fd = self.within(folder, partial(open_new, path))
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

    def within(self, folder: str, action: Callable[[], _T]) -> _T:
        """Do something in a folder that may have to be made first; or again, if somebody removed it."""
        if folder in self._made:
            try:
                return action()
            except BackendError as error:
                if not isinstance(error.__cause__, FileNotFoundError):
                    raise
        self.make(folder)
        self._made.add(folder)
        return action()

    def make(self, folder: str) -> None:
        """Make a folder with those above it that are missing."""
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

    def sync(self) -> None:
        """Make durable what is ``unsynced``."""
        self.sync_these(self.unsynced)
        self.unsynced = set()

    def sync_these(self, folders: set[str]) -> None:
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
        """Remove temporary files of processes that are gone, once per instance and folder.

        Of another machine's processes nobody knows that, so theirs go when they are old.
        """
        if folder in self._swept:
            return
        self._swept.add(folder)
        oldest = time() - _TEMP_AGE_MAX_S
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name.startswith(TEMP_PREFIX) and (is_left(entry.name) or modified(entry) < oldest):
                        remove(entry.path)
        except OSError as error:
            raise failed("cannot list", folder, error) from error


def keys_below(folder: str, start: str) -> Iterator[tuple[str, str]]:
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
            yield from keys_below(path[:-1], start + name)
        else:
            yield start + name, path


def distinct(pairs: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Of sorted pairs the first with each key."""
    last = None
    for pair in pairs:
        if pair[0] != last:
            yield pair
        last = pair[0]
