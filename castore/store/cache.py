"""Objects of remote repositories that were read before, in a folder of this user.

::

    <folder>/objects/<ab>/<64 digits>     a frame, as a repository has it
    <folder>/stores/<64 digits>           a note that a store creates atomically (``atomic_create``)

Only objects are kept: they are named by their content, so that what is kept cannot become old, and whoever reads one
checks its digest as ever. Any number of processes may use one folder. Files are written whole under a temporary name
and renamed; what was not read for longest goes first when the folder grows beyond its limit.
"""

# ruff: noqa: PTH100, PTH113, PTH116, PTH111, PTH112, PTH118, PTH103, PTH120, PTH108

from __future__ import annotations

import os
from contextlib import suppress

from castore.errors import InvalidInputError
from castore.store.byte_sizes import bytes_in
from castore.store.files import TEMP_PREFIX, open_descriptor, read_exactly, write_whole

CACHE_SIZE_DEFAULT = 10 * 2**30
"""Bytes."""

_OBJECTS = "objects"
# When a process looks at the whole folder: after it has written this part of the limit, and at its first write if
# nobody has looked for an hour. A look takes a second with 100,000 files.
_LOOK_EVERY = 20
_LOOK_AGE_S = 3600.0
_LOOKED = "looked"
_KEPT_SHARE = 0.9  # of the limit, after a removal: not every write should cause one
_TEMP_AGE_MAX_S = 3600.0
# The time of a file says when it was read last, to the hour: a write for every read would be too many.
_READ_GRAIN_S = 3600.0


class ObjectCache:
    """Frames by storage key, in a folder.

    Nothing that goes wrong here is an error of the caller's: what cannot be read is absent, what cannot be written is
    not kept.

    Args:
        folder: Made when something is kept.
        limit_bytes: What its files may take together, about.
    """

    def __init__(self, folder: str, limit_bytes: int) -> None:
        self._folder = folder
        self._limit = limit_bytes
        self._written: int | None = None  # since the last look at the whole folder; None before the first

    def get(self, key: str, max_bytes: int) -> bytes | None:
        """The frame that was kept under a key, not verified; None if there is none."""
        path = self._path(key)
        try:
            fd, status = open_descriptor(path)
            try:
                if status.st_size > max_bytes:
                    return None
                data = read_exactly(fd, status.st_size)
            finally:
                os.close(fd)
        except OSError:
            return None
        from time import time

        if abs(time() - status.st_mtime) > _READ_GRAIN_S:
            with suppress(OSError):
                os.utime(path)
        return data

    def has(self, key: str) -> bool:
        """Whether a frame is kept under a key; it may be gone at the next moment."""
        return os.path.isfile(self._path(key))

    def put(self, key: str, frame: bytes) -> None:
        """Keep a frame that was verified."""
        if len(frame) > self._limit // 2:
            return
        with suppress(OSError):
            keep_file(self._path(key), frame)
        if self._written is None:
            self._written = self._limit if self._is_unwatched() else 0
        self._written += len(frame)
        if self._written > self._limit // _LOOK_EVERY:
            self._written = 0
            with suppress(OSError):
                keep_file(self._path(_LOOKED), b"")
                self._shrink()

    def drop(self, key: str) -> None:
        """Forget what proved wrong."""
        with suppress(OSError):
            os.unlink(self._path(key))

    def _path(self, key: str) -> str:
        return os.path.join(self._folder, key)

    def _is_unwatched(self) -> bool:
        from time import time

        try:
            return abs(time() - os.stat(self._path(_LOOKED)).st_mtime) > _LOOK_AGE_S
        except OSError:
            return True

    def _shrink(self) -> None:
        from time import time

        now = time()
        found: list[tuple[float, int, str]] = []
        for above, _, names in os.walk(os.path.join(self._folder, _OBJECTS)):
            for name in names:
                path = os.path.join(above, name)
                try:
                    status = os.stat(path)
                except OSError:
                    continue  # another process removed it
                if name.startswith(TEMP_PREFIX) and now - status.st_mtime > _TEMP_AGE_MAX_S:
                    with suppress(OSError):
                        os.unlink(path)
                else:
                    found.append((status.st_mtime, status.st_size, path))
        total = sum(size for _, size, _ in found)
        if total <= self._limit:
            return
        found.sort()
        for _, size, path in found:
            if total <= self._limit * _KEPT_SHARE:
                return
            with suppress(OSError):
                os.unlink(path)
            total -= size


def cache_folder() -> str | None:
    """The folder of this user: ``CASTORE_CACHE``, else where caches are kept here; None if nothing is to be kept."""
    if cache_size() == 0:
        return None
    folder = os.environ.get("CASTORE_CACHE")
    if folder:
        return os.path.abspath(folder)
    home = os.path.expanduser("~")
    if not os.path.isdir(home):
        return None
    import sys

    if sys.platform == "darwin":
        return f"{home}/Library/Caches/castore"
    return os.path.join(os.environ.get("XDG_CACHE_HOME") or f"{home}/.cache", "castore")


def cache_size() -> int:
    """What the cache may take, in bytes: ``CASTORE_CACHE_SIZE`` such as ``500M`` or ``20G``; 0 for no cache.

    Raises:
        InvalidInputError: The variable says something else.
    """
    text = os.environ.get("CASTORE_CACHE_SIZE", "").strip()
    if not text:
        return CACHE_SIZE_DEFAULT
    size = bytes_in(text)
    if size is None:
        raise InvalidInputError(f"CASTORE_CACHE_SIZE is {text[:40]!r}: write bytes, or 500M, or 20G; 0 for no cache")
    return size


def open_cache() -> ObjectCache | None:
    """The cache of this user; None if there is to be none."""
    folder = cache_folder()
    return None if folder is None else ObjectCache(folder, cache_size())


def keep_file(path: str, data: bytes) -> None:
    """Write a file of the cache and the folder that it is in. Not made durable: it can be had again.

    Raises:
        OSError: It cannot be written.
    """
    os.makedirs(os.path.dirname(path), exist_ok=True)
    write_whole(path, data, durable=False)
