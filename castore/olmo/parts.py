"""The parts of an output directory of open-instruct: elements by their number, counted through all parts.

Parts are read, never mapped: somebody may be writing to them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from castore.errors import SourceError
from castore.format.samples import offsets_of
from castore.olmo.bounds import Bounds, KnownBounds, read_bounds
from castore.olmo.part_file import PartFile, check_unchanged

IDS, LABELS = 0, 1
"""The two files of a part."""

_HASH_ITEMS = 1 << 18
"""Elements that are read at once to be hashed alone: what the processor's cache holds of them."""


class ContentHash:
    """BLAKE3 over ids and labels of all documents, in the order and from the buffers in which they are used."""

    def __init__(self) -> None:
        self._hashers = blake3(), blake3()

    def saw(self, which: int, elements: NDArray[Any]) -> None:
        """Take the ids or labels of the documents that come next, in their stored width."""
        self._hashers[which].update(elements.data.cast("B") if elements.nbytes else b"")

    def digest(self, shape: str) -> str:
        """BLAKE3 over the shape of the folder, ids and labels, 64 hex digits."""
        whole = blake3(b"castore/folder-content 2\0" + shape.encode())
        for hasher in self._hashers:
            whole.update(hasher.digest())
        return whole.hexdigest()


@dataclass(frozen=True, slots=True)
class DirectoryPart:
    """One part: its files of ids and of labels, bytes of an id, tokens, boundaries."""

    files: tuple[PartFile, PartFile]
    id_bytes: int
    items: int
    bounds: Bounds


class Parts:
    """All parts of a directory.

    Args:
        shown: The directory as the user spelled it.
        names: Names of ids, labels and boundaries of every part, at least one.
        known: Boundaries that need not be parsed again.

    Attributes:
        id_bytes: Bytes of an id.
        starts: Token at which every part begins, and one past the last.

    Raises:
        SourceError: A file cannot be read, or parts contradict each other.
    """

    def __init__(self, shown: str, names: Sequence[tuple[str, str, str]], known: KnownBounds) -> None:
        self._shown = shown
        self._parts = [_open_part(shown, Path(shown), known, *files) for files in names]
        _check_parts(shown, self._parts)
        self.id_bytes = self._parts[0].id_bytes
        self.starts: list[int] = offsets_of(np.array([part.items for part in self._parts], np.int64)).tolist()

    def __len__(self) -> int:
        return len(self._parts)

    def __getitem__(self, part: int) -> DirectoryPart:
        return self._parts[part]

    def __iter__(self) -> Iterator[DirectoryPart]:
        return iter(self._parts)

    def dtype(self, which: int) -> np.dtype[Any]:
        """Type of the ids or labels as they are stored."""
        return np.dtype(np.uint8) if which == LABELS else np.dtype(f"<u{self.id_bytes}")

    @cached_property
    def bounds(self) -> KnownBounds:
        """The boundaries of all parts, for another directory that has the same."""
        return {part.bounds.stored: part.bounds.starts for part in self._parts}

    def elements(self, which: int, lo: int, hi: int) -> NDArray[Any]:
        """Ids or labels ``lo`` to ``hi``.

        Raises:
            SourceError: A file became shorter, or cannot be read.
        """
        return self.ranges(which, [(lo, hi)])

    def ranges(self, which: int, ranges: Sequence[tuple[int, int]]) -> NDArray[Any]:
        """Ids or labels of ranges, one after another.

        Raises:
            SourceError: As ``elements``.
        """
        found = np.empty(sum(hi - lo for lo, hi in ranges), self.dtype(which))
        if len(found):
            self._read_into(found, which, ranges)
        return found

    def _read_into(self, found: NDArray[Any], which: int, ranges: Sequence[tuple[int, int]]) -> None:
        width, room, at = found.itemsize, found.data.cast("B"), 0
        for lo, hi in ranges:
            part = bisect_right(self.starts, lo) - 1
            while lo < hi:
                base = self.starts[part]
                stop = min(hi, self.starts[part + 1])
                size = (stop - lo) * width
                self._parts[part].files[which].read_into(room[at : at + size], (lo - base) * width)
                lo, at, part = stop, at + size, part + 1

    def hash_all(self, seen: ContentHash) -> None:
        """Hash all ids and labels, as a use of them in turn would."""
        for which in (IDS, LABELS):
            # One buffer for all: memory that is new with every read costs more than the read.
            buffer = np.empty(_HASH_ITEMS, self.dtype(which))
            for lo in range(0, self.starts[-1], _HASH_ITEMS):
                hi = min(lo + _HASH_ITEMS, self.starts[-1])
                self._read_into(buffer[: hi - lo], which, [(lo, hi)])
                seen.saw(which, buffer[: hi - lo])

    def check_unchanged(self) -> None:
        """Make sure that no file was written to since it was opened.

        Raises:
            SourceError: One was; it is named.
        """
        for part in self._parts:
            for file in part.files:
                file.check_unchanged()
            check_unchanged(part.bounds.path, part.bounds.stamp)


def _open_part(
    shown: str, folder: Path, known: KnownBounds, ids_name: str, labels_name: str, bounds_name: str
) -> DirectoryPart:
    ids, labels = _opened(shown, folder / ids_name), _opened(shown, folder / labels_name)
    width = ids.size // labels.size if labels.size else 4
    if width not in (1, 2, 4, 8) or width * labels.size != ids.size:
        raise SourceError(shown, f"{ids_name} has {ids.size} bytes for the {labels.size} labels of {labels_name}")
    bounds = read_bounds(shown, folder / bounds_name, labels.size, known)
    return DirectoryPart((ids, labels), width, labels.size, bounds)


def _opened(shown: str, path: Path) -> PartFile:
    try:
        return PartFile(str(path))
    except OSError as error:
        raise SourceError(shown, f"{path.name}: {error.strerror}") from error


def _check_parts(shown: str, parts: Sequence[DirectoryPart]) -> None:
    """All parts have the same width, and all but the last the same size."""
    widths = {part.id_bytes for part in parts}
    if len(widths) > 1:
        raise SourceError(shown, f"parts have ids of {sorted(widths)} bytes: they are of different runs")
    sizes = [part.items for part in parts]
    odd = next((i for i, size in enumerate(sizes[:-1]) if size != sizes[0]), None)
    if odd is not None or (len(sizes) > 1 and sizes[-1] > sizes[0]):
        which = len(sizes) - 1 if odd is None else odd
        raise SourceError(
            shown,
            f"part {which} has {sizes[which]} tokens where part 0 has {sizes[0]}: a part is cut short or left over",
        )
