"""Reading the input: local files of conversations as raw rows, grouped into blocks that survive edits.

A row is one JSON object as bytes; nothing here looks inside it. Rows come in *blocks*: consecutive rows, cut where
their content says so, so that an edited, added or removed row changes the block it is in and leaves the cuts around it
where they were. A block is the unit of work and of reuse.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np
from blake3 import blake3

from castore.errors import InvalidInputError, SourceError
from castore.ingest import readers
from castore.ingest.defaults import AUTO, FORMATS, MESSAGES_FORMAT
from castore.ingest.json_array import ArrayReader
from castore.ingest.parquet import ParquetReader
from castore.ingest.readers import (
    FileReader,
    IntArray,
    LinesReader,
    RowBatch,
    RowReader,
    begins_with_bracket,
    opened,
    too_long,
)
from castore.ingest.shapes import columns_of, missing, missing_column, shape_of
from castore.tree.split import TARGET_MAX, Splitter

BLOCK_BYTES_TARGET = 512 * 1024
"""Mean size of a block in bytes of rows: an eighth of a second of tokenizing, which is what an edited row costs."""

KEY_BYTES = 16
"""Length of a row key: a truncated BLAKE3, enough to pair rows and never used as an address."""

READ_SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".json", ".json.gz", ".json.zst", ".parquet")
"""Suffixes of the files that are read."""

# Added to the byte length of a row: many tiny rows must not pile up in one block.
_ROW_OVERHEAD_BYTES = 16


@dataclass(frozen=True, slots=True)
class RawRow:
    """One row of a source.

    Attributes:
        number: 0-based number among the rows of the file; blank lines have none.
        line: 1-based line for messages; where rows are not lines (Parquet, JSON array), ``number + 1``.
        data: One JSON object, without the line end.
        key: ``KEY_BYTES`` bytes, the truncated BLAKE3 of ``data``.
    """

    number: int
    line: int
    data: bytes
    key: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Rows of one file that follow one another: the unit of work and of reuse.

    Attributes:
        rows: The raw rows, each as in ``RawRow.data``.
        keys: Their keys one after another, ``KEY_BYTES`` bytes each. The keys say what the block holds.
        numbers: int64[len(rows)], row numbers, ascending; consecutive unless the rows were selected.
        lines: int64[len(rows)], 1-based line numbers for messages.
        byte_count: Sum of the lengths of the rows.
    """

    rows: tuple[bytes, ...]
    keys: bytes
    numbers: IntArray
    lines: IntArray
    byte_count: int

    @property
    def first_line(self) -> int:
        """1-based line of the first row."""
        return int(self.lines[0])

    def take(self, at: IntArray) -> Block:
        """Some of the rows, by their places in the block, ascending."""
        rows = tuple(self.rows[i] for i in at.tolist())
        keys = b"".join(self.keys[i * KEY_BYTES : (i + 1) * KEY_BYTES] for i in at.tolist())
        return Block(rows, keys, self.numbers[at], self.lines[at], sum(map(len, rows)))

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[RawRow]:
        for at, data in enumerate(self.rows):
            key = self.keys[at * KEY_BYTES : (at + 1) * KEY_BYTES]
            yield RawRow(int(self.numbers[at]), int(self.lines[at]), data, key)


class Source:
    """A local file of conversations: JSON lines, a JSON array or Parquet, as its suffix says (``READ_SUFFIXES``).

    A ``.json`` file is a JSON array of objects or JSON lines, as its first byte says. The file must not change while it
    is in use; a change is noticed at the latest at the end of the pass that met it.

    Args:
        path: The file.
        block_bytes: Mean size of a block, in bytes of rows, at least 2.
        reader: Reads the rows in place of the reader for the suffix of ``path``, which is a name then.
        format_name: As for ``choose_format``, which is for the caller to call where a reader is given.

    Attributes:
        name: The path as it was spelled.
        format: The shape of the rows, never ``auto``.
        byte_count: Size on disk, the end of ``bytes_read``.
        split: The split that is read; a file has ``train`` alone.
        revision: The revision that was asked for; None of a file, which has none.
        warnings: Lines that the user should see.

    Raises:
        SourceError: Unknown suffix, no such file, not a regular file, or no permission to read it.
    """

    split = "train"
    revision: str | None = None
    warnings: tuple[str, ...] = ()

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        block_bytes: int = BLOCK_BYTES_TARGET,
        reader: RowReader | None = None,
        format_name: str = MESSAGES_FORMAT,
    ) -> None:
        if not 2 <= block_bytes < TARGET_MAX:
            raise InvalidInputError(f"block size {block_bytes} is not between 2 bytes and 4 GiB")
        self.name = os.fspath(path)
        self._reader = open_reader(self.name) if reader is None else reader
        self.format = MESSAGES_FORMAT
        self._block_bytes = block_bytes
        self._row_count: int | None = None
        if reader is None:
            self.choose_format(format_name)

    def choose_format(self, format_name: str) -> None:
        """Say what shape the rows are of; the columns to read are chosen for it.

        Args:
            format_name: ``auto`` finds it out from the first row that is of one.

        Raises:
            SourceError: The columns are not of this shape, or the first row is of two.
        """
        names = self._reader.names()
        said = None if names is None else missing(names, format_name)
        if said is not None:
            column = missing_column(names or (), format_name)
            raise SourceError(self.name, f"no column `{column}`" + (said and f": {said}"), field=column)
        self._reader.columns = columns_of(format_name)
        self.format = self._first_shape() if format_name == AUTO else format_name
        self._reader.columns = columns_of(self.format)

    def _first_shape(self) -> str:
        """Of the first row that has one; rows that are none at all are left to whoever parses them."""
        last: RawRow | None = None
        for block in self.blocks():
            for last in block:
                try:
                    row = json.loads(last.data)
                    found = shape_of(row) if isinstance(row, dict) else None
                except InvalidInputError as error:
                    raise SourceError(self.name, str(error), row=last.line) from None
                except (ValueError, RecursionError):
                    continue
                if found is not None:
                    return found
        if last is None:
            return MESSAGES_FORMAT
        formats = ", ".join(name for name in FORMATS if name != AUTO)
        raise SourceError(self.name, f"no row is of a shape that is known: castore reads {formats}")

    @property
    def byte_count(self) -> int:
        """Size of the file on disk in bytes."""
        return self._reader.byte_count

    @property
    def bytes_read(self) -> int:
        """How far the current pass has come, in bytes of the file on disk; for progress."""
        return self._reader.bytes_read

    @property
    def digest(self) -> str:
        """BLAKE3 of the content, 64 hex digits.

        JSON lines are digested decompressed, so that ``x.jsonl`` and any ``x.jsonl.gz`` of it agree; the other kinds by
        the bytes of the file. Known after ``blocks`` ran to its end or after ``row_count``; asked for earlier, it reads
        the file.
        """
        return self._reader.digest or self._reader.scan_digest()

    def row_count(self) -> int:
        """Number of rows, by a scan that parses nothing (Parquet: from the metadata). Read once, then remembered.

        Raises:
            SourceError: As ``blocks``.
        """
        if self._row_count is None:
            self._row_count = self._reader.count()
        return self._row_count

    def blocks(self) -> Iterator[Block]:
        """All rows, in file order.

        Raises:
            SourceError: The file cannot be read or decompressed, has a row beyond ``ROW_BYTES_MAX``, or changed since
                it was first opened. Blocks before the fault have been yielded.
            MissingExtraError: The library for this kind of file is not installed.
        """
        row_count = 0
        for block in self._cut(self._reader.batches(None)):
            row_count += len(block)
            yield block
        self._row_count = row_count

    def blocks_of(self, numbers: IntArray) -> Iterator[Block]:
        """Only the rows with these numbers, in file order, cut into blocks by the same rule.

        Reads no further than the last of them.

        Args:
            numbers: int64[k], 0-based row numbers, strictly ascending.

        Raises:
            InvalidInputError: The numbers are not strictly ascending or are not those of rows.
            SourceError: As ``blocks``.
        """
        wanted = np.asarray(numbers, np.int64)
        if wanted.ndim != 1 or (len(wanted) and wanted[0] < 0) or bool((np.diff(wanted) <= 0).any()):
            raise InvalidInputError("row numbers must be ascending, distinct and not negative")
        if not len(wanted):
            return
        found = 0
        for block in self._cut(self._chosen(wanted)):
            found += len(block)
            yield block
        if found != len(wanted):
            raise InvalidInputError(f"{self.name} has no row number {wanted[found]}")

    def _chosen(self, wanted: IntArray) -> Iterator[RowBatch]:
        for batch in self._reader.batches(wanted):
            lo = int(np.searchsorted(wanted, batch.numbers[0]))
            hi = int(np.searchsorted(wanted, batch.numbers[-1], side="right"))
            if lo < hi:
                yield batch.take(np.searchsorted(batch.numbers, wanted[lo:hi]))

    def _cut(self, batches: Iterator[RowBatch]) -> Iterator[Block]:
        """Give the rows keys and collect them into blocks.

        Blocks are runs by the rule of ``tree.split``, so that large rows end blocks more often than small ones and the
        chance per byte is even. The hash of a row is the head of its key, its weight its bytes and a constant.
        """
        splitter = Splitter(self._block_bytes)
        pending = _Uncut.empty()
        for batch in batches:
            weights = self._weights(batch)
            keys = b"".join([blake3(row).digest(KEY_BYTES) for row in batch.rows])
            pending = pending.extended(batch, keys)
            heads = np.frombuffer(keys, "<u4")[:: KEY_BYTES // 4].astype(np.uint64)
            sizes = splitter.push(heads, weights)
            yield from pending.blocks(sizes)
            pending = pending.after(sum(sizes))
        yield from pending.blocks(splitter.finish())

    def _weights(self, batch: RowBatch) -> IntArray:
        """int64[n]: what each row counts towards the size of a block. Refuses rows that are too long."""
        weights = np.fromiter(map(len, batch.rows), np.int64, len(batch.rows))
        over = weights > readers.ROW_BYTES_MAX
        if over.any():
            raise too_long(self.name, int(batch.lines[over.argmax()]))
        weights += _ROW_OVERHEAD_BYTES
        return weights


@dataclass(frozen=True, slots=True)
class _Uncut:
    """Rows with keys that are not in a block yet: fewer than ``2 * target`` bytes and one batch."""

    rows: list[bytes]
    keys: bytes
    numbers: IntArray
    lines: IntArray

    @classmethod
    def empty(cls) -> _Uncut:
        none = np.empty(0, np.int64)
        return cls([], b"", none, none)

    def extended(self, batch: RowBatch, keys: bytes) -> _Uncut:
        return _Uncut(
            self.rows + batch.rows,
            self.keys + keys,
            np.concatenate((self.numbers, batch.numbers)),
            np.concatenate((self.lines, batch.lines)),
        )

    def after(self, count: int) -> _Uncut:
        if not count:
            return self
        return _Uncut(self.rows[count:], self.keys[count * KEY_BYTES :], self.numbers[count:], self.lines[count:])

    def blocks(self, sizes: list[int]) -> Iterator[Block]:
        """The first rows as blocks of these sizes."""
        for lo, hi in pairwise(accumulate(sizes, initial=0)):
            rows = tuple(self.rows[lo:hi])
            yield Block(
                rows,
                self.keys[lo * KEY_BYTES : hi * KEY_BYTES],
                # Copies: a slice would keep the whole batch alive, and travel with the block to another process.
                self.numbers[lo:hi].copy(),
                self.lines[lo:hi].copy(),
                sum(map(len, rows)),
            )


def open_reader(name: str, path: str | None = None) -> FileReader:
    """The reader of a file, by its suffix.

    Args:
        name: For messages; its suffix counts.
        path: Where the file is, if not at ``name``.

    Raises:
        SourceError: Unknown suffix, or no such file.
    """
    lower, compression = name.lower(), None
    for suffix, kind in (".gz", "gzip"), (".zst", "zstd"):
        if lower.endswith((f".jsonl{suffix}", f".json{suffix}")):
            lower, compression = lower.removesuffix(suffix), kind
    if lower.endswith(".jsonl"):
        return LinesReader(name, path, compression=compression)
    if lower.endswith(".json"):
        kind_of = ArrayReader if begins_with_bracket(name, path, compression) else LinesReader
        return kind_of(name, path, compression=compression)
    if lower.endswith(".parquet"):
        return ParquetReader(name, path)
    with opened(name, path):
        pass
    raise SourceError(
        name, f"unknown kind of file: castore reads {', '.join(READ_SUFFIXES[:-1])} and {READ_SUFFIXES[-1]}"
    )
