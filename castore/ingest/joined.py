"""Several files, or ranges of rows of them, as the rows of one source."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from blake3 import blake3

from castore.ingest.readers import FileReader, IntArray, RowBatch, RowReader


@dataclass(frozen=True, slots=True)
class JoinedPart:
    """Rows ``lo`` to ``hi`` of the files of a reader; ``hi`` None: to its end."""

    reader: FileReader
    lo: int = 0
    hi: int | None = None


class JoinedReader(RowReader):
    """Rows of several files, numbered through.

    Args:
        name: As the user spelled it.
        parts: In order. A file is there once for each range of it.
    """

    def __init__(self, name: str, parts: Sequence[JoinedPart]) -> None:
        super().__init__(name)
        self._parts = parts
        self._counts: dict[int, int] = {}

    def names(self) -> list[str] | None:
        """Those of all files together; None if any has rows of names of their own."""
        every = [part.reader.names() for part in self._parts]
        known = [names for names in every if names is not None]
        return list(dict.fromkeys(name for names in known for name in names)) if len(known) == len(every) else None

    @property
    def byte_count(self) -> int:
        """Size of the files on disk; of each as often as it is read."""
        return sum(part.reader.byte_count for part in self._parts)

    def batches(self, wanted: IntArray | None) -> Iterator[RowBatch]:
        """As ``RowReader`` says. The digest is that of the rows as lines, however they are divided into files."""
        hasher = blake3()
        first = self.bytes_read = 0
        done = 0
        for at, part in enumerate(self._parts):
            part.reader.columns = self.columns
            if wanted is not None:
                after = first + self._count(at)
                inner = wanted[np.searchsorted(wanted, first) : np.searchsorted(wanted, after)] - first
                found = self._rows(part, inner) if len(inner) else iter(())
            else:
                after = first
                found = self._rows(part, None)
            for batch in found:
                if wanted is None:
                    hasher.update(b"".join(row + b"\n" for row in batch.rows))
                    after += len(batch.rows)
                numbers = batch.numbers + first
                yield RowBatch(batch.rows, numbers, numbers + 1)
                self.bytes_read = done + part.reader.bytes_read
            first, done = after, done + part.reader.byte_count
            self.bytes_read = done
        if wanted is None:
            self.settle(hasher.hexdigest())

    def count(self) -> int:
        """As ``RowReader`` says."""
        return sum(self._count(at) for at in range(len(self._parts)))

    def scan_digest(self) -> str:
        """As ``RowReader`` says."""
        for _ in self.batches(None):
            pass
        assert self.digest is not None
        return self.digest

    def _count(self, at: int) -> int:
        part = self._parts[at]
        if at not in self._counts:
            self._counts[at] = (part.reader.count() if part.hi is None else part.hi) - part.lo
        return self._counts[at]

    def _rows(self, part: JoinedPart, wanted: IntArray | None) -> Iterator[RowBatch]:
        """Rows of a part, numbered from its first."""
        if part.hi is not None and wanted is None:
            wanted = np.arange(part.hi - part.lo, dtype=np.int64)
        chosen = None if wanted is None else wanted + part.lo
        if chosen is not None and not len(chosen):
            return
        for batch in part.reader.batches(chosen):
            kept = batch if chosen is None else batch.take(np.flatnonzero(np.isin(batch.numbers, chosen)))
            if len(kept.rows):
                numbers = kept.numbers - part.lo
                yield RowBatch(kept.rows, numbers, numbers + 1)
