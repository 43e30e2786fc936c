"""A folder that is written whole or not at all.

It is written beside its place under a hidden name and renamed at the end; a folder that it replaces is moved aside
under a hidden name meanwhile. A process that is killed leaves these. Their names say whose they are, and the next
export beside them removes those of processes that are gone (``_sweep``).
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from castore.errors import BackendError, InvalidInputError
from castore.export.mark import NotOursError, check_marked, remove_marked, write_mark
from castore.store.files import is_full, sync
from castore.store.processes import OWNER, is_dead, this_process

T = TypeVar("T")

LEFT_AGE_S = 7 * 24 * 3600
"""Age after which what a process of another machine left is taken for left: an export writes all the time."""

_NEW, _OLD = "new", "old"
_BESIDE = re.compile(rf"\.(.+)\.castore-({_NEW}|{_OLD})-({OWNER})-[0-9a-f]{{8}}", re.DOTALL)
_SHOWN_BYTES_MAX = 150
"""Bytes of the name of a folder in that of one beside it: file systems take 255 in all."""


def write_folder(folder: str, write: Callable[[Path], T], *, replace: bool = False) -> T:
    """Let ``write`` fill a folder beside ``folder`` and rename it when that is done.

    A mark that names all files is written with them (``castore.export.mark``).

    Args:
        folder: Must not exist or be empty, unless ``replace`` allows to replace what it holds.
        write: Writes durable files into the folder that it is given, and the names in it (``castore.store.files``).
        replace: Replace a folder that holds an earlier export, as its mark proves, and nothing else.

    Returns:
        What ``write`` returns.

    Raises:
        InvalidInputError: The folder holds something that may not be replaced, or cannot be written.
        BackendError: The operating system refused; the folder stays as it was.
    """
    if not folder:
        raise InvalidInputError("'' is no folder")
    shown = Path(folder)
    with _os_errors(shown):
        target = Path(os.path.realpath(folder))  # a link is followed, since the folder itself is renamed
        _sweep(target.parent)
        _check_target(target, shown, replace)
        target.parent.mkdir(parents=True, exist_ok=True)
        part = _beside(target, _NEW)
        try:
            part.mkdir()
            done = write(part)
            write_mark(part)
            old = _put_in_place(part, target, shown, replace)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
    if old is not None:
        _remove_old(old, shown)
    return done


def _check_target(target: Path, shown: Path, replace: bool) -> None:
    if not target.name:
        raise InvalidInputError(f"{shown} cannot be replaced: give a folder in it")
    if target.exists() and not target.is_dir():
        raise InvalidInputError(f"{shown} is not a folder")
    if not _holds_anything(target):
        return
    if not replace:
        raise _occupied(shown)
    check_marked(target, shown)


def _holds_anything(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _occupied(shown: Path) -> InvalidInputError:
    return InvalidInputError(
        f"{shown} already holds files: give another folder, or --replace to replace an earlier export"
    )


def _beside(target: Path, kind: str) -> Path:
    """A hidden name next to a folder that no other export uses, on this or another machine."""
    name = f".{_short(target.name)}.castore-{kind}-{this_process()}-{os.urandom(4).hex()}"
    return target.with_name(name)


def _short(name: str) -> str:
    return os.fsencode(name)[:_SHOWN_BYTES_MAX].decode("utf-8", "ignore")


class _os_errors:  # noqa: N801 - used as a function
    """Errors of the operating system as one line that names the folder."""

    def __init__(self, target: Path) -> None:
        self._target = target

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            said = f"{self._target}: {error.strerror or error}; nothing was left half-written"
            raise BackendError(said, full=is_full(error)) from error


def _put_in_place(part: Path, target: Path, shown: Path, replace: bool) -> Path | None:
    """Rename the finished folder; where it takes the place of another, that one's hidden name.

    All is as it was after any error, an interrupt included.
    """
    old = _beside(target, _OLD)
    try:
        if replace and _holds_anything(target):
            target.rename(old)
            check_marked(old, shown)  # once more: nothing can enter by its name any longer
        part.rename(target)  # takes the place of an empty folder, and of no other
        sync(target.parent)
    except BaseException as error:
        if not part.exists():
            target.rename(part)
        replaced = old.exists()
        if replaced:
            _give_back(old, target, shown)
        # Filled by somebody else meanwhile.
        if isinstance(error, OSError) and error.errno in (errno.ENOTEMPTY, errno.EEXIST) and not replaced:
            raise _occupied(shown) from error
        raise
    return old if old.exists() else None


def _give_back(old: Path, target: Path, shown: Path) -> None:
    try:
        old.rename(target)
    except OSError as error:  # somebody else took the name meanwhile
        raise BackendError(f"{shown} is not replaced; what it held before is {old}: {error.strerror}") from error


def _remove_old(old: Path, shown: Path) -> None:
    """Remove what was replaced, by the names in its mark."""
    try:
        remove_marked(old, check_marked(old, shown))
    except (OSError, NotOursError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise BackendError(
            f"{shown} is replaced, but what it held before is not removed, and is {old}: {reason}"
        ) from error


# ---- what others left


def _sweep(above: Path) -> None:
    """Remove from a folder what exports left there whose processes were killed.

    That is known of what is named after a process of this machine that is gone; and of another machine's where nothing
    was written for ``LEFT_AGE_S``. A folder that was being replaced when that happened gets its name back. What cannot
    be told, read or removed stays.
    """
    for path, shown, kind in list(_left_in(above)):
        with suppress(OSError, NotOursError):
            if kind == _NEW:
                shutil.rmtree(path)
                continue
            target = path.with_name(shown)
            if _short(shown) == shown and len(os.fsencode(shown)) < _SHOWN_BYTES_MAX and not os.path.lexists(target):
                path.rename(target)
            else:
                remove_marked(path, check_marked(path, path))


def _left_in(above: Path) -> Iterator[tuple[Path, str, str]]:
    """Folders beside others whose processes are gone: where, beside which name, and whether new or old."""
    with suppress(OSError), os.scandir(above) as entries:
        for entry in entries:
            named = _BESIDE.fullmatch(entry.name) if entry.name.startswith(".") else None
            if named and entry.is_dir(follow_symlinks=False) and (is_dead(named[3]) or _is_forgotten(entry.path)):
                yield Path(entry.path), named[1], named[2]


def _is_forgotten(folder: str) -> bool:
    """Whether nothing in a folder was written for long."""
    oldest = time.time() - LEFT_AGE_S
    newest = os.lstat(folder).st_mtime
    for inner, _, names in os.walk(folder):
        newest = max([newest, *(os.lstat(os.path.join(inner, name)).st_mtime for name in names)])  # noqa: PTH118
    return newest < oldest
