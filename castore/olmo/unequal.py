"""Two output directories of open-instruct, element by element, at the speed of reading them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from castore.olmo.folder import OlmoCoreFolder
from castore.olmo.part_file import BLOCK_BYTES, unequal_blocks


def unequal_elements(
    a: OlmoCoreFolder, b: OlmoCoreFolder, which: int, a_lo: int, b_lo: int, count: int
) -> Iterator[NDArray[np.int64]]:
    """Where two ranges of equal length differ, block by block: offsets from their starts, ascending, none empty.

    Args:
        a, b: The directories.
        which: ``parts.IDS`` or ``parts.LABELS``.
        a_lo, b_lo: First element of either range, counted through all parts.
        count: Elements.

    Raises:
        SourceError: A file became shorter.
    """
    side_a, side_b = _Side(a, which), _Side(b, which)
    at = 0
    while at < count:
        (file_a, from_a, left_a), (file_b, from_b, left_b) = side_a.place(a_lo + at), side_b.place(b_lo + at)
        size = min(count - at, left_a, left_b)
        for lo, some in _blocks(side_a, side_b, file_a, file_b, from_a, from_b, size):
            elements_a = side_a.elements(file_a, from_a + lo, some)
            unequal = np.flatnonzero(elements_a != side_b.elements(file_b, from_b + lo, some))
            if len(unequal):
                yield at + lo + unequal
        at += size


def _blocks(
    a: _Side, b: _Side, file_a: int, file_b: int, a_lo: int, b_lo: int, count: int
) -> Iterator[tuple[int, int]]:
    """Ranges of elements that may differ: (offset, elements)."""
    if a.width == b.width:
        width = a.width
        ranges = a.files[file_a], b.files[file_b], a_lo * width, b_lo * width, count * width
        for offset, size in unequal_blocks(*ranges):
            yield offset // width, size // width
    else:
        step = BLOCK_BYTES // max(a.width, b.width)
        yield from ((at, min(step, count - at)) for at in range(0, count, step))


class _Side:
    """Elements of one directory."""

    def __init__(self, folder: OlmoCoreFolder, which: int) -> None:
        self.files = [part.files[which] for part in folder.parts]
        self._part_starts = folder.parts.starts
        self.width = folder.parts.dtype(which).itemsize

    def place(self, element: int) -> tuple[int, int, int]:
        """Part of an element, its number there, and how many there are from it to the part's end."""
        part = bisect_right(self._part_starts, element) - 1
        return part, element - self._part_starts[part], self._part_starts[part + 1] - element

    def elements(self, file: int, lo: int, count: int) -> NDArray[np.unsignedinteger]:
        """Elements of a part as numbers."""
        return np.frombuffer(self.files[file].read(lo * self.width, count * self.width), f"<u{self.width}")
