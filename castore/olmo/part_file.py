"""A file of a directory that somebody may be writing to: read into memory of one's own, never mapped.

Touching a page of a map that is behind the end of a file which became shorter ends the process by a signal. A read says
so instead. Comparing costs a third of the user's time that maps do, for what is compared fits the processor's cache.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, NamedTuple

from castore.errors import SourceError
from castore.store.files import open_descriptor

BLOCK_BYTES = 1 << 18
"""Bytes of the blocks in which differences are told."""

WINDOW_BYTES = 1 << 20
"""Bytes of either file that are read and compared at once: what the processor's caches hold of both."""


class Stamp(NamedTuple):
    """By what a file is known to be another or to have been written to since."""

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Stamp:
        """The stamp of what the system says of a file."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


class PartFile:
    """A file that is open to be read at any place.

    Args:
        path: The file.

    Attributes:
        size: Bytes it had when it was opened.

    Raises:
        OSError: It cannot be opened, or is no file.
    """

    _fd = -1

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd, status = open_descriptor(path)
        self.stamp = Stamp.of(status)
        self.size = status.st_size

    def close(self) -> None:
        """Close the file."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> PartFile:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def read_into(self, buffer: Any, at: int) -> None:
        """Fill a buffer of bytes with those of the file from byte ``at`` on.

        Raises:
            SourceError: The file became shorter, or cannot be read.
        """
        try:
            count = os.preadv(self._fd, [buffer], at)
            if count == len(buffer):
                return
            rest = memoryview(buffer)[count:]
            while len(rest) and count:
                at += count
                count = os.preadv(self._fd, [rest], at)
                rest = rest[count:]
        except OSError as error:
            raise SourceError(self.path, error.strerror or "cannot be read") from error
        if len(rest):
            raise SourceError(self.path, "became shorter while it was read")

    def read(self, lo: int, size: int) -> bytearray:
        """Bytes ``lo`` to ``lo + size``.

        Raises:
            SourceError: As ``read_into``.
        """
        data = bytearray(size)
        self.read_into(data, lo)
        return data

    def check_unchanged(self) -> None:
        """Make sure that the file is the one that was opened, and that nobody wrote to it since.

        Raises:
            SourceError: It is not.
        """
        check_unchanged(self.path, self.stamp)


def check_unchanged(path: str, stamp: Stamp) -> None:
    """Make sure that a path is still that of a file with a stamp.

    Raises:
        SourceError: It is that of another one, the file was written to, or there is none.
    """
    try:
        now = Stamp.of(os.stat(path))  # noqa: PTH116 - pathlib costs start-up
    except OSError as error:
        raise SourceError(path, f"changed while it was read: {error.strerror}") from error
    if now == stamp:
        return
    how = "became shorter" if now.size < stamp.size else "became longer" if now.size > stamp.size else "changed"
    raise SourceError(path, f"{how} while it was read")


def unequal_blocks(a: PartFile, b: PartFile, a_lo: int, b_lo: int, size: int) -> Iterator[tuple[int, int]]:
    """Where ranges of two files differ: (offset from their starts, bytes) of every block that does, in order.

    Raises:
        SourceError: A file became shorter.
    """
    window_a, window_b = bytearray(min(WINDOW_BYTES, size)), bytearray(min(WINDOW_BYTES, size))
    for at in range(0, size, WINDOW_BYTES):
        length = min(WINDOW_BYTES, size - at)
        if length < len(window_a):
            del window_a[length:], window_b[length:]
        a.read_into(window_a, a_lo + at)
        b.read_into(window_b, b_lo + at)
        if window_a == window_b:
            continue
        for lo in range(0, length, BLOCK_BYTES):
            hi = min(lo + BLOCK_BYTES, length)
            if window_a[lo:hi] != window_b[lo:hi]:
                yield at + lo, hi - lo
