"""Two files compared byte for byte, at the speed of the memory and without numpy.

Comparing maps with the C library's ``memcmp`` costs half of reading both files into buffers: nothing is copied.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Callable, Iterator

from castore.errors import SourceError
from castore.store.files import open_descriptor

WINDOW_BYTES = 1 << 25
"""Bytes of a file that are mapped at once, so that a process does not seem to hold whole files."""

BLOCK_BYTES = 1 << 18
"""Bytes of the blocks in which differences are told."""


class ComparedFile:
    """A file that is open to be compared.

    Args:
        path: The file.

    Raises:
        SourceError: It cannot be opened.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self._file, _ = open_descriptor(path)
        except OSError as error:
            raise SourceError(path, error.strerror or "cannot be opened") from error

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def read(self, lo: int, size: int) -> bytes:
        """Bytes ``lo`` to ``lo + size``."""
        data = os.pread(self._file, size, lo)
        if len(data) != size:
            raise SourceError(self.path, "became shorter while it was read")
        return data

    def window(self, lo: int, size: int) -> tuple[mmap.mmap, int]:
        """A map that holds bytes ``lo`` to ``lo + size``, and where in it they begin."""
        # Pages of a file that became shorter cannot be touched: the process would be killed.
        if os.fstat(self._file).st_size < lo + size:
            raise SourceError(self.path, "became shorter while it was read")
        before = lo % mmap.ALLOCATIONGRANULARITY
        # Writable for ctypes alone; nothing is written, and nothing that were would reach the file.
        return mmap.mmap(self._file, before + size, access=mmap.ACCESS_COPY, offset=lo - before), before


def unequal_blocks(a: ComparedFile, b: ComparedFile, a_lo: int, b_lo: int, size: int) -> Iterator[tuple[int, int]]:
    """Where ranges of two files differ: (offset from their starts, bytes) of every block that does, in order.

    Raises:
        SourceError: A file became shorter.
    """
    compare = _memcmp()
    for at in range(0, size, WINDOW_BYTES):
        length = min(WINDOW_BYTES, size - at)
        (map_a, skip_a), (map_b, skip_b) = a.window(a_lo + at, length), b.window(b_lo + at, length)
        with map_a, map_b:
            for lo, count in _blocks(compare, map_a, map_b, skip_a, skip_b, length):
                yield at + lo, count


def _blocks(
    compare: Callable[[int, int, int], int], map_a: mmap.mmap, map_b: mmap.mmap, at_a: int, at_b: int, length: int
) -> list[tuple[int, int]]:
    hold_a, hold_b = ctypes.c_char.from_buffer(map_a), ctypes.c_char.from_buffer(map_b)
    try:
        start_a, start_b = ctypes.addressof(hold_a) + at_a, ctypes.addressof(hold_b) + at_b
        if compare(start_a, start_b, length) == 0:
            return []
        blocks = ((lo, min(BLOCK_BYTES, length - lo)) for lo in range(0, length, BLOCK_BYTES))
        return [(lo, count) for lo, count in blocks if compare(start_a + lo, start_b + lo, count) != 0]
    finally:
        del hold_a, hold_b  # they keep the maps from being closed, after Ctrl-C as long as it is on its way


def _memcmp() -> Callable[[int, int, int], int]:
    function = ctypes.CDLL(None).memcmp
    function.argtypes, function.restype = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t), ctypes.c_int
    return function
