"""Two output directories of open-instruct, element by element, at the speed of reading them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from castore.errors import SourceError
from castore.store.olmo_core import OlmoCoreFolder

_BLOCK_BYTES = 1 << 20
"""Bytes compared at once: two of them stay in the processor's cache."""

IDS, LABELS = 0, 1


def unequal_elements(
    a: OlmoCoreFolder, b: OlmoCoreFolder, which: int, a_lo: int, b_lo: int, count: int
) -> Iterator[NDArray[np.int64]]:
    """Where two stretches of equal length differ, block by block: offsets from their starts, ascending, none empty.

    Args:
        a, b: The directories.
        which: ``IDS`` or ``LABELS``.
        a_lo, b_lo: First element of either stretch, counted through all parts.
        count: Elements.

    Raises:
        SourceError: A file became shorter.
    """
    with ExitStack() as stack:
        side_a, side_b = _Side(a, which, stack), _Side(b, which, stack)
        step = _BLOCK_BYTES // max(side_a.width, side_b.width)
        for at in range(0, count, step):
            size = min(step, count - at)
            raw_a, raw_b = side_a.read(a_lo + at, size), side_b.read(b_lo + at, size)
            if side_a.width == side_b.width and raw_a == raw_b:
                continue
            unequal = side_a.elements(raw_a, size) != side_b.elements(raw_b, size)
            if unequal.any():
                yield at + np.flatnonzero(unequal)


class _Side:
    """Elements of one directory, read into a buffer of its own."""

    def __init__(self, folder: OlmoCoreFolder, which: int, stack: ExitStack) -> None:
        self._files = [_opened(paths[which], stack) for paths in folder.part_paths]
        self._paths = [paths[which] for paths in folder.part_paths]
        self._part_starts: Sequence[int] = folder.part_starts
        self.width = folder.id_bytes if which == IDS else 1
        self._buffer = bytearray()

    def read(self, lo: int, count: int) -> bytearray:
        """The bytes of elements from ``lo`` on; good until the next call."""
        if len(self._buffer) != count * self.width:
            self._buffer = bytearray(count * self.width)
        view = memoryview(self._buffer)
        part = int(np.searchsorted(self._part_starts, lo, side="right")) - 1
        while len(view):
            offset = (lo - int(self._part_starts[part])) * self.width
            size = min(len(view), (int(self._part_starts[part + 1]) - lo) * self.width)
            got = os.preadv(self._files[part], [view[:size]], offset)
            if got == 0 and size:
                raise SourceError(str(self._paths[part]), "became shorter while it was read")
            view, lo = view[got:], lo + got // self.width
            if got % self.width:
                raise SourceError(str(self._paths[part]), "became shorter while it was read")
            part += lo == self._part_starts[part + 1]
        return self._buffer

    def elements(self, raw: bytearray, count: int) -> NDArray[np.unsignedinteger]:
        """Bytes as numbers."""
        return np.frombuffer(raw, f"<u{self.width}", count)


def _opened(path: Path, stack: ExitStack) -> int:
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise SourceError(str(path), error.strerror or "cannot be opened") from error
    stack.callback(os.close, file)
    return file
