"""The folders of a place: made when they are needed, synced with what is in them, listed, and swept.

What is in them is judged here and nowhere else. A value is a regular file, or a link to one. A link to a folder is a
folder, if that lies outside of the repository: of another, paths would have no end. All else with the name of a key
stands where something may be that cannot be seen, and is never taken for absence.
"""

# pathlib costs 2 to 5 ms to import and several microseconds an operation, on the way of every command and object.
# ruff: noqa: PTH102, PTH112, PTH114, PTH116, PTH118, PTH120

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from operator import itemgetter
from time import time
from typing import NamedTuple, TypeVar

from castore.errors import BackendError
from castore.store.backend import NotAValueError, is_key
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

_INWARD = "a link into the repository itself"

_T = TypeVar("_T")


class Found(NamedTuple):
    """What a folder holds under the name of a key.

    Attributes:
        key: The key.
        path: The file.
        fault: What it is in place of a value or folder, or why it cannot be listed, as a sentence; else empty.
        is_folder: It is a folder; what it holds follows.
    """

    key: str
    path: str
    fault: str = ""
    is_folder: bool = False


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
        self._real_root = ""  # with its links followed, when that is needed
        self._judged: set[str] = set()  # folders of which it is known that they are no links into the repository
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
        self._judge(folder)
        for each in reversed(missing):
            try:
                os.mkdir(each, _FOLDER_MODE)
            except FileExistsError as error:
                if not os.path.isdir(each):
                    raise _no_folder(each, kind_of_file(each)) from error
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

    # ---- what is there

    def status(self, path: str) -> os.stat_result | None:
        """What the system says of a value; None if there is none.

        Raises:
            NotAValueError: Something else has its name, or hides whether it is there.
        """
        try:
            status = os.stat(path)
        except OSError as error:
            if not is_absence(error):
                raise failed("cannot look at", path, error) from error
            self.require_absent(path)
            return None
        if not stat.S_ISREG(status.st_mode):
            raise _no_value(path, kind_of_file(path))
        return status

    def require_absent(self, path: str) -> None:
        """Make sure that a file or folder that was not found is not there, and not merely hidden.

        Raises:
            NotAValueError: Something else has its name, or that of a folder above it.
        """
        kind = kind_of_file(path)
        if kind not in ("", "a file", "a folder"):  # those are there by now
            raise _no_value(path, kind)
        while not kind and len(path) > len(self._root):
            path = os.path.dirname(path)
            kind = kind_of_file(path)
        if kind not in ("", "a folder"):
            raise _no_folder(path, kind)
        if kind:
            self._judge(path)

    def below(self, folder: str, start: str) -> Iterator[Found]:
        """All in ``folder`` and below that has the name of a key, in the order of keys; folders before what they hold.

        Args:
            folder: The folder; nothing is in one that is absent.
            start: The key of the folder and a slash, or nothing.

        Raises:
            NotAValueError: Something else has its name.
            BackendError: It cannot be listed. What is below it and cannot be is found with a fault.
        """
        try:
            with os.scandir(folder) as entries:
                names = self._names(entries, start)
        except OSError as error:
            if not is_absence(error):
                raise failed("cannot list", folder, error) from error
            kind = kind_of_file(folder)
            if kind not in ("", "a folder"):
                raise _no_folder(folder, kind) from None
            self.require_absent(folder)
            return
        self._judge(folder)
        yield from self._below(folder, start, names, {os.path.realpath(folder)})

    def _below(
        self, folder: str, start: str, names: list[tuple[str, str | None]], entered: set[str]
    ) -> Iterator[Found]:
        for name, fault in names:
            path, key = os.path.join(folder, name.rstrip("/")), start + name.rstrip("/")
            if not name.endswith("/"):
                yield Found(key, path, (fault and f"{path} is {fault}, not a file of the repository") or "")
                continue
            if fault is None and not self._enter(path, entered):
                yield Found(key, path, f"{path} is {_INWARD}, not a folder of the repository", True)
                continue
            try:
                with os.scandir(path) as entries:
                    inner = self._names(entries, start + name)
            except ABSENT:
                continue  # it went while the listing ran
            except OSError as error:
                yield Found(key, path, str(failed("cannot list", path, error)), True)
                continue
            yield Found(key, path, "", True)
            yield from self._below(path, start + name, inner, entered)

    def _names(self, entries: Iterable[os.DirEntry[str]], start: str) -> list[tuple[str, str | None]]:
        """Names that are keys, sorted, with what each is if it is no value; of a link to a folder that is None.

        Folders have a slash, since they sort as their keys will: "a-b" comes before "a/b", though "a" before "a-b".
        """
        names: list[tuple[str, str | None]] = []
        for entry in entries:
            if not is_key(start + entry.name):
                continue
            if entry.is_file(follow_symlinks=False):
                names.append((entry.name, ""))
            elif entry.is_dir(follow_symlinks=False):
                names.append((entry.name + "/", ""))
            else:
                kind = kind_of_file(entry.path)
                if kind == "a folder":
                    names.append((entry.name + "/", None))
                elif kind:
                    names.append((entry.name, "" if kind == "a file" else kind))
        return sorted(names, key=itemgetter(0))

    def _enter(self, link: str, entered: set[str]) -> bool:
        """Whether a link to a folder may be followed: out of the repository, and to nothing that is listed already."""
        real = os.path.realpath(link)
        above = real
        while above not in entered:
            if above == os.path.dirname(above):
                break
            above = os.path.dirname(above)
        else:
            return False
        if self._is_inward(real):
            return False
        entered.add(real)
        return True

    def _judge(self, folder: str) -> None:
        """Refuse a folder to which links lead back into the repository: paths through it have no end."""
        if folder in self._judged or len(folder) <= len(self._root):
            return
        real = os.path.realpath(folder)
        if real != self._top() + folder[len(self._root) :] and self._is_inward(real):
            while not os.path.islink(folder) and len(folder) > len(self._root):
                folder = os.path.dirname(folder)
            raise _no_folder(folder, _INWARD)
        self._judged.add(folder)

    def _is_inward(self, real: str) -> bool:
        """Whether a folder, its links followed, is in the repository, or the repository in it."""
        return os.path.commonpath((real, self._top())) in (real, self._top())

    def _top(self) -> str:
        self._real_root = self._real_root or os.path.realpath(self._root)
        return self._real_root

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


def kind_of_file(path: str, *, links: bool = True) -> str:
    """What is under a name: ``a file``, ``a folder`` or something else; empty if there is nothing.

    Args:
        path: The name.
        links: Take a link for what it leads to.

    Raises:
        BackendError: It cannot be looked at.
    """
    try:
        mode = os.lstat(path).st_mode
        if links and stat.S_ISLNK(mode):
            try:
                mode = os.stat(path).st_mode
            except OSError as error:
                return _BROKEN_LINKS.get(error.errno or 0, "a link that cannot be followed")
    except OSError as error:
        if is_absence(error):
            return ""
        raise failed("cannot look at", path, error) from error
    return _KINDS.get(stat.S_IFMT(mode), "a device")


_KINDS = {
    stat.S_IFREG: "a file",
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a link",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
}
_BROKEN_LINKS = {
    errno.ENOENT: "a link that leads nowhere",
    errno.ENOTDIR: "a link that leads nowhere",
    errno.ELOOP: "a link that leads in a circle",
}


def require_replaceable(path: str) -> None:
    """Refuse to put a value in the place of what is none.

    Raises:
        NotAValueError: It is none.
    """
    kind = kind_of_file(path)
    if kind not in ("", "a file"):
        raise _no_value(path, kind)


def unavailable(path: str, error: OSError) -> BackendError:
    """The error to raise for a value that is there and cannot be opened: what is in its place, or why it cannot."""
    kind = "" if isinstance(error, PermissionError) else kind_of_file(path)
    return failed("cannot read", path, error) if kind in ("", "a file") else _no_value(path, kind)


def is_absence(error: OSError) -> bool:
    """Whether there is no file to be had under a path: for lack of it, or since a link above it leads in a circle."""
    return isinstance(error, ABSENT) or error.errno == errno.ELOOP


def _no_value(path: str, kind: str) -> NotAValueError:
    return NotAValueError(f"{path} is {kind}, not a file of the repository")


def _no_folder(path: str, kind: str) -> NotAValueError:
    return NotAValueError(f"{path} is {kind}, not a folder of the repository")


def distinct(pairs: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Of sorted pairs the first with each key."""
    last = None
    for pair in pairs:
        if pair[0] != last:
            yield pair
        last = pair[0]
