"""Boundaries of a part: gzipped lines of ``start,end``, one a document that touches the part."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from castore.errors import SourceError
from castore.olmo.files import BOUNDS_LINE_MAX, GZIP_TIME
from castore.olmo.part_file import Stamp
from castore.store.files import open_regular

_READ_BYTES = 1 << 20
_BOUNDS_BYTES = 1 << 21
"""Bytes of boundaries that are parsed at once: memory for them is some twenty times that."""

_DIGITS_MAX = 18
"""Digits of a boundary: what fits 63 bits."""


class StoredBounds(NamedTuple):
    """By what boundaries are known again: tokens of the part, and BLAKE3 of the file but for the time in its header."""

    items: int
    digest: bytes


class Bounds(NamedTuple):
    """Boundaries of a part.

    Attributes:
        starts: Token at which every document begins, int64[n], ascending from 0: each ends where the next begins.
        stored: By what they are known again.
        path: The file that they were read from.
        stamp: Its stamp at that time.
    """

    starts: NDArray[np.int64]
    stored: StoredBounds
    path: str
    stamp: Stamp


KnownBounds: TypeAlias = Mapping[StoredBounds, NDArray[np.int64]]
"""Starts of boundaries that were read before."""


def read_bounds(shown: str, path: Path, items: int, known: KnownBounds) -> Bounds:
    """Boundaries of a part of so many tokens, which must cover it without a gap.

    The digest is that of the very bytes that were parsed.

    Args:
        shown: The directory, for messages.
        path: The file.
        items: Tokens of the part.
        known: Boundaries that need not be parsed again.

    Raises:
        SourceError: The file cannot be read, or holds something else.
    """
    try:
        with open_regular(path) as file:
            stamp = Stamp.of(os.fstat(file.fileno()))
            if known:
                stored = StoredBounds(items, _Hashed(file).digest())
                if stored in known:
                    return Bounds(known[stored], stored, str(path), stamp)
                file.seek(0)
            hashed = _Hashed(file)
            with gzip.GzipFile(fileobj=hashed) as text:  # type: ignore[call-overload]  # all it calls is read
                bounds = _bounds_in(text, items)
            stored = StoredBounds(items, hashed.digest())
    except (OSError, EOFError, zlib.error) as error:
        raise SourceError(shown, f"{path.name}: {getattr(error, 'strerror', None) or error}") from error
    if bounds is None:
        raise SourceError(shown, f"{path.name} does not hold lines of start,end")
    if len(bounds) > items:
        raise SourceError(shown, f"{path.name} lists more documents than the part has tokens")
    edges = np.append(bounds[:, 0], items)
    if len(bounds) == 0 or edges[0] != 0 or np.any(edges[1:] != bounds[:, 1]) or np.any(np.diff(edges) <= 0):
        bad = np.flatnonzero((edges[1:] != bounds[:, 1]) | (np.diff(edges) <= 0))
        line = int(bad[0]) + 1 if len(bad) else 1
        raise SourceError(shown, f"{path.name}, line {line}: documents do not cover the {items} tokens without a gap")
    return Bounds(edges[:-1], stored, str(path), stamp)


class _Hashed:
    """A gzip file whose bytes, but for the time in its header, are hashed as they are read."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._hasher = blake3()
        self._at = 0

    def read(self, size: int) -> bytes:
        """As a file's."""
        data: bytes = self._file.read(size)
        before, behind = (max(edge - self._at, 0) for edge in (GZIP_TIME.start, GZIP_TIME.stop))
        self._hasher.update(data[:before])
        self._hasher.update(data[behind:])
        self._at += len(data)
        return data

    def digest(self) -> bytes:
        """BLAKE3 of the file; what is left of it is read now."""
        while self.read(_READ_BYTES):
            pass
        return self._hasher.digest()


def _bounds_in(file: gzip.GzipFile, items: int) -> NDArray[np.int64] | None:
    """Lines of two numbers as int64[n, 2]; None if the file holds something else.

    Memory is taken for what is there, never for what a part of so many items could have. Reading ends where documents
    do not ascend, or there are more than items: the file is refused whatever follows.
    """
    found = [np.zeros((0, 2), np.int64)]
    rest, count, last = b"", 0, -1
    while data := file.read(_BOUNDS_BYTES):
        lines, end, rest = (rest + data).rpartition(b"\n")
        if len(rest) > BOUNDS_LINE_MAX:
            return None
        bounds = _parsed_bounds(lines + end)
        if bounds is None:
            return None
        found.append(bounds)
        count += len(bounds)
        starts = np.append(last, bounds[:, 0])
        if count > items or np.any(np.diff(starts) <= 0):
            return np.concatenate(found)
        last = int(starts[-1])
    return None if rest else np.concatenate(found)


def _parsed_bounds(text: bytes) -> NDArray[np.int64] | None:
    """Lines of two numbers as int64[n, 2], None if the text is something else."""
    if text.translate(None, b"0123456789,\n"):
        return None
    characters = np.frombuffer(text, np.uint8)
    stops = np.flatnonzero(characters < ord("0"))  # commas and ends of lines
    marks = characters[stops]
    if len(stops) % 2 or np.any(marks[0::2] != ord(",")) or np.any(marks[1::2] != ord("\n")):
        return None
    widths = np.diff(stops, prepend=-1) - 1
    if len(text) and (len(stops) == 0 or stops[-1] != len(text) - 1 or widths.min() < 1 or widths.max() > _DIGITS_MAX):
        return None
    # Whole text at once: many times faster than an object a number. Widths were checked, so nothing overflows.
    return np.fromstring(text.replace(b"\n", b",").decode(), np.int64, sep=",").reshape(-1, 2)
