"""Reading the input: local files of conversations as raw rows, grouped into blocks that survive edits.

A row is one JSON object as bytes; nothing here looks inside it. Rows come in *blocks*: consecutive rows, cut where
their content says so, so that an edited, added or removed row changes the block it is in and leaves the cuts around it
where they were. A block is the unit of work and of reuse.

Memory does not grow with the file (JSON arrays excepted, which have a limit instead), and a row beyond
``ROW_BYTES_MAX`` stops the run before memory is taken for it.
"""

from __future__ import annotations

import codecs
import os
import stat
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from castore.errors import InvalidInputError, MissingExtraError, SourceError

__all__ = [
    "ARRAY_BYTES_MAX",
    "BLOCK_BYTES_TARGET",
    "KEY_BYTES",
    "READ_SUFFIXES",
    "ROW_BYTES_MAX",
    "Batch",
    "Block",
    "RawRow",
    "RowReader",
    "Source",
    "cut_points",
    "orjson_library",
]

BLOCK_BYTES_TARGET = 512 * 1024
"""Mean size of a block in bytes of rows: an eighth of a second of tokenizing, which is what an edited row costs."""

ROW_BYTES_MAX = 64 * 1024 * 1024
"""Longest row in bytes. A conversation of a million tokens is about 4 MiB."""

ARRAY_BYTES_MAX = 1024 * 1024 * 1024
"""Largest file that holds one JSON array, since such a file is parsed as a whole."""

KEY_BYTES = 16
"""Length of a row key: a truncated BLAKE3, enough to pair rows and never used as an address."""

READ_SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".parquet")
"""Suffixes of the files that are read."""

# Added to the byte length of a row: many tiny rows must not pile up in one block.
_ROW_OVERHEAD_BYTES = 16
_HASH_END = 1 << 32
_READ_BYTES = 1024 * 1024
# Rows of Parquet are decoded about so many bytes at a time; few, because repeated strings are stored once and may be
# many times as large when decoded.
_PARQUET_BATCH_BYTES = 1024 * 1024
_PARQUET_BATCH_ROWS_MAX = 256
# The only columns that can change tokens.
_PARQUET_COLUMNS = ("messages", "tools")

IntArray = npt.NDArray[np.int64]


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
    """A local file of conversations: ``.jsonl``, ``.jsonl.gz``, ``.json`` or ``.parquet``, as its suffix says.

    A ``.json`` file is a JSON array of objects or JSON lines, as its first byte says. The file must not change while it
    is in use; a change is noticed at the latest at the end of the pass that met it.

    Args:
        path: The file.
        block_bytes: Mean size of a block, in bytes of rows, at least 2.
        reader: Reads the rows in place of the reader for the suffix of ``path``, which is a name then.

    Attributes:
        name: The path as it was spelled.
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
        self, path: str | os.PathLike[str], *, block_bytes: int = BLOCK_BYTES_TARGET, reader: RowReader | None = None
    ) -> None:
        if not 2 <= block_bytes < _HASH_END:
            raise InvalidInputError(f"block size {block_bytes} is not between 2 bytes and 4 GiB")
        self.name = os.fspath(path)
        self._reader = _open_reader(self.name) if reader is None else reader
        self._block_bytes = block_bytes
        self._row_count: int | None = None

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

    def _chosen(self, wanted: IntArray) -> Iterator[Batch]:
        for batch in self._reader.batches(wanted):
            lo = int(np.searchsorted(wanted, batch.numbers[0]))
            hi = int(np.searchsorted(wanted, batch.numbers[-1], side="right"))
            if lo < hi:
                yield batch.take(np.searchsorted(batch.numbers, wanted[lo:hi]))

    def _cut(self, batches: Iterator[Batch]) -> Iterator[Block]:
        """Give the rows keys and collect them into blocks."""
        pending = _Pending.empty()
        for batch in batches:
            pending = pending.extended(batch, self._weights(batch))
            cuts = cut_points(pending.weights, pending.keys, self._block_bytes, final=False)
            yield from pending.blocks(cuts)
            pending = pending.after(cuts)
        yield from pending.blocks(cut_points(pending.weights, pending.keys, self._block_bytes, final=True))

    def _weights(self, batch: Batch) -> IntArray:
        """int64[n]: what each row counts towards the size of a block. Refuses rows that are too long."""
        weights = np.fromiter(map(len, batch.rows), np.int64, len(batch.rows))
        too_long = weights > ROW_BYTES_MAX
        if too_long.any():
            raise _too_long(self.name, int(batch.lines[too_long.argmax()]))
        weights += _ROW_OVERHEAD_BYTES
        return weights


def cut_points(weights: IntArray, keys: bytes, target: int, *, final: bool) -> list[int]:
    """Where a run of rows is cut into blocks, from the rows alone.

    From the last cut on, a row may end a block when the weights up to and with it lie in ``[target / 2, 2 * target]``.
    The first of these with ``hash * target // weight < 2**32`` does, where ``hash`` is the head of its key: large rows
    end blocks more often than small ones, so that the chance per byte is even. If there is none before ``2 * target``
    is exceeded, the one with the smallest such rank does, the last of equals. A row beyond ``2 * target`` is a block
    alone.

    Args:
        weights: int64[n], positive.
        keys: ``n`` keys of ``KEY_BYTES`` bytes.
        target: Mean weight of a block, below 2**32.
        final: No rows will follow, so that what is left is the last block.

    Returns:
        Ascending ends of blocks, exclusive row positions. Whatever rows follow, they stay true.
    """
    ends = np.cumsum(weights)
    hashes = np.frombuffer(keys, "<u4")[:: KEY_BYTES // 4].astype(np.uint64)
    ranks = hashes * np.uint64(target) // weights.astype(np.uint64)
    hits = np.flatnonzero(ranks < _HASH_END)
    cuts: list[int] = []
    start = 0
    while start < len(weights):
        end = _next_cut(start, ends, ranks, hits, target)
        if end is None:
            break
        cuts.append(end)
        start = end
    if final and start < len(weights):
        cuts.append(len(weights))
    return cuts


def _next_cut(start: int, ends: IntArray, ranks: npt.NDArray[np.uint64], hits: IntArray, target: int) -> int | None:
    """End of the block that begins at row ``start``; None if that takes rows which are not there yet."""
    before = int(ends[start - 1]) if start else 0
    lo = int(np.searchsorted(ends, before + (target + 1) // 2))
    hi = int(np.searchsorted(ends, before + 2 * target, side="right"))
    hit = int(np.searchsorted(hits, lo))
    if hit < len(hits) and hits[hit] < hi:
        return int(hits[hit]) + 1
    if hi == len(ends):
        return None
    if hi == start:
        return start + 1
    if int(ends[hi] - ends[hi - 1]) > 2 * target or lo >= hi:
        # The next row is a block alone, or too large to join the rows before it: these are a block, even a small one.
        return hi
    return hi - int(ranks[lo:hi][::-1].argmin())


@dataclass(frozen=True, slots=True)
class Batch:
    """Some rows as a reader found them: at least one; ``numbers`` and ``lines`` are int64[len(rows)], ascending."""

    rows: list[bytes]
    numbers: IntArray
    lines: IntArray

    def take(self, at: IntArray) -> Batch:
        """The rows at these positions, which ascend."""
        if len(at) == len(self.rows):
            return self
        return Batch([self.rows[i] for i in at.tolist()], self.numbers[at], self.lines[at])


@dataclass(frozen=True, slots=True)
class _Pending:
    """Rows with keys and weights that are not in a block yet: fewer than ``2 * target`` bytes and one batch."""

    rows: list[bytes]
    keys: bytes
    numbers: IntArray
    lines: IntArray
    weights: IntArray

    @classmethod
    def empty(cls) -> _Pending:
        none = np.empty(0, np.int64)
        return cls([], b"", none, none, none)

    def extended(self, batch: Batch, weights: IntArray) -> _Pending:
        keys = b"".join([blake3(row).digest(KEY_BYTES) for row in batch.rows])
        return _Pending(
            self.rows + batch.rows,
            self.keys + keys,
            np.concatenate((self.numbers, batch.numbers)),
            np.concatenate((self.lines, batch.lines)),
            np.concatenate((self.weights, weights)),
        )

    def after(self, cuts: list[int]) -> _Pending:
        if not cuts:
            return self
        start = cuts[-1]
        return _Pending(
            self.rows[start:],
            self.keys[start * KEY_BYTES :],
            self.numbers[start:],
            self.lines[start:],
            self.weights[start:],
        )

    def blocks(self, cuts: list[int]) -> Iterator[Block]:
        for lo, hi in zip([0, *cuts], cuts, strict=False):
            yield Block(
                tuple(self.rows[lo:hi]),
                self.keys[lo * KEY_BYTES : hi * KEY_BYTES],
                # Copies: a slice would keep the whole batch alive, and travel with the block to another process.
                self.numbers[lo:hi].copy(),
                self.lines[lo:hi].copy(),
                int(self.weights[lo:hi].sum()) - (hi - lo) * _ROW_OVERHEAD_BYTES,
            )


class RowReader(ABC):
    """What a ``Source`` reads rows from.

    Attributes:
        name: As the user spelled it.
        digest: Of the content, 64 hex digits; None until a whole pass settled it.
        bytes_read: How far the current pass has come, at most ``byte_count``.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.digest: str | None = None
        self.bytes_read = 0

    @property
    @abstractmethod
    def byte_count(self) -> int:
        """Size in bytes."""

    @abstractmethod
    def batches(self, wanted: IntArray | None) -> Iterator[Batch]:
        """All rows in order; rows that are not in ``wanted``, and those after the last of it, may be left out."""

    @abstractmethod
    def count(self) -> int:
        """Number of rows."""

    @abstractmethod
    def scan_digest(self) -> str:
        """Digest of the content, by reading it."""

    def settle(self, digest: str) -> str:
        """Remember the digest of a whole pass, which must be that of every other pass."""
        if self.digest not in (None, digest):
            raise self.changed()
        self.digest = digest
        return digest

    def changed(self) -> SourceError:
        """The error of a content that is not what it was."""
        return SourceError(self.name, "the file changed while it was in use: run again when it is complete")


class _Reader(RowReader):
    """One kind of file. Opens it anew for each pass and holds no handle between passes."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.stamp: tuple[int, int] = (0, 0)
        with _opened(name) as file:
            self.stamp = _stamp(file)

    @property
    def byte_count(self) -> int:
        """Size of the file on disk."""
        return self.stamp[0]

    def scan_digest(self) -> str:
        """Digest of the bytes of the file, by reading them."""
        hasher = blake3()
        with self._reading() as file:
            while piece := file.read(_READ_BYTES):
                hasher.update(piece)
        return self.settle(hasher.hexdigest())

    @contextmanager
    def _reading(self) -> Iterator[BinaryIO]:
        """The open file, which must not have changed since it was first opened, nor change in the meantime."""
        with _opened(self.name) as file:
            self._check_unchanged(file)
            yield file
            self._check_unchanged(file)

    def _check_unchanged(self, file: BinaryIO) -> None:
        if _stamp(file) != self.stamp:
            raise self.changed()


class _LinesReader(_Reader):
    """JSON lines, plain or gzip."""

    def __init__(self, name: str, *, compressed: bool) -> None:
        super().__init__(name)
        self._compressed = compressed

    def batches(self, wanted: IntArray | None) -> Iterator[Batch]:
        number = 0
        for rows, lines in self._lines():
            numbers = np.arange(number, number + len(rows), dtype=np.int64)
            yield Batch(rows, numbers, lines)
            number += len(rows)
            if wanted is not None and number > wanted[-1]:
                return

    def count(self) -> int:
        return sum(len(rows) for rows, _ in self._lines())

    def scan_digest(self) -> str:
        self.count()
        # The end of the pass above settled it.
        assert self.digest is not None
        return self.digest

    def _lines(self) -> Iterator[tuple[list[bytes], IntArray]]:
        """The lines that are not blank, without line ends, some at a time and never none; and their numbers, from 1."""
        hasher = blake3()
        line_count = 0
        for text in self._whole_lines(hasher):
            rows, lines = _split(text, line_count)
            line_count += len(text)
            if rows:
                yield rows, lines
        self.settle(hasher.hexdigest())

    def _whole_lines(self, hasher: blake3) -> Iterator[list[bytes]]:
        """All lines as they are, less their newlines; feeds the hasher everything that is read."""
        joiner = _LineJoiner(self.name)
        with self._reading() as file:
            try:
                for piece in self._pieces(file):
                    hasher.update(piece)
                    if lines := joiner.feed(piece):
                        yield lines
            except (zlib.error, EOFError) as error:
                raise SourceError(
                    self.name,
                    f"gzip data is damaged or cut short in or soon after this row ({_one_line(error)})",
                    row=joiner.line_count + 1,
                ) from error
        yield joiner.finish()

    def _pieces(self, file: BinaryIO) -> Iterator[bytes]:
        """The text in pieces of at most ``_READ_BYTES``; keeps ``bytes_read`` up to date."""
        self.bytes_read = 0
        for piece in _inflated(file) if self._compressed else iter(lambda: file.read(_READ_BYTES), b""):
            self.bytes_read = file.tell()
            yield piece


class _LineJoiner:
    """Puts pieces of text together to whole lines, and refuses a line beyond the limit before it is in memory."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._tail: list[bytes] = []
        self._tail_bytes = 0
        self.line_count = 0

    def feed(self, piece: bytes) -> list[bytes]:
        """The lines that end in this piece, without their newlines."""
        lines = piece.split(b"\n")
        self._tail.append(lines[0])
        self._tail_bytes += len(lines[0])
        if self._tail_bytes > ROW_BYTES_MAX:
            raise _too_long(self._name, self.line_count + 1)
        if len(lines) == 1:
            return []
        # Joined once: adding each piece to a growing line would take time quadratic in its length.
        lines[0] = b"".join(self._tail)
        self._tail = [lines.pop()]
        self._tail_bytes = len(self._tail[0])
        self.line_count += len(lines)
        return lines

    def finish(self) -> list[bytes]:
        """The last line, which had no newline; empty where the text ended with one."""
        return [b"".join(self._tail)]


class _ArrayReader(_Reader):
    """A file that is one JSON array of objects."""

    def batches(self, wanted: IntArray | None) -> Iterator[Batch]:
        orjson = orjson_library()
        items = self._items()
        for at in range(0, len(items), 256):
            rows = []
            for number, item in enumerate(items[at : at + 256], at):
                if not isinstance(item, dict):
                    raise SourceError(self.name, "not a JSON object", row=number + 1)
                try:
                    rows.append(orjson.dumps(item))
                except orjson.JSONEncodeError as error:
                    raise SourceError(self.name, f"not usable as a row: {error}", row=number + 1) from error
            numbers = np.arange(at, at + len(rows), dtype=np.int64)
            yield Batch(rows, numbers, numbers + 1)
        self.bytes_read = self.stamp[0]

    def count(self) -> int:
        return len(self._items())

    def _items(self) -> list[Any]:
        if self.stamp[0] > ARRAY_BYTES_MAX:
            raise SourceError(
                self.name, f"a JSON array over {ARRAY_BYTES_MAX >> 20} MiB is not read: convert it to JSON lines"
            )
        orjson = orjson_library()
        with self._reading() as file:
            text = file.read(ARRAY_BYTES_MAX + 1)
        self.settle(blake3(text).hexdigest())
        try:
            items = orjson.loads(text.removeprefix(codecs.BOM_UTF8))
        except orjson.JSONDecodeError as error:
            raise SourceError(self.name, f"not valid JSON: {error}") from error
        # The first byte was a bracket, and the file has not changed since.
        assert isinstance(items, list)
        return items


class _ParquetReader(_Reader):
    """Parquet with a ``messages`` column. Each row becomes a JSON object of the columns that can change tokens."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        with self._table():
            pass

    def batches(self, wanted: IntArray | None) -> Iterator[Batch]:
        orjson = orjson_library()
        with self._table() as table:
            for group, first in self._groups(table, wanted):
                for batch in table.iter_batches(
                    batch_size=_parquet_batch_rows(table.metadata.row_group(group)),
                    row_groups=[group],
                    columns=[name for name in table.schema_arrow.names if name in _PARQUET_COLUMNS],
                    # Threads would outlive a fork, and the workers have the cores.
                    use_threads=False,
                ):
                    numbers = np.arange(first, first + batch.num_rows, dtype=np.int64)
                    first += batch.num_rows
                    if wanted is not None:
                        keep = np.isin(numbers, wanted, assume_unique=True)
                        numbers, batch = numbers[keep], batch.filter(_pyarrow().array(keep))
                    if len(numbers):
                        yield Batch(self._rows(batch, orjson, numbers), numbers, numbers + 1)

    def count(self) -> int:
        with self._table() as table:
            return int(table.metadata.num_rows)

    def _groups(self, table: Any, wanted: IntArray | None) -> Iterator[tuple[int, int]]:
        """Row groups that hold wanted rows, each with the number of its first row."""
        first = 0
        self.bytes_read = 0
        for group in range(table.metadata.num_row_groups):
            after = first + table.metadata.row_group(group).num_rows
            if wanted is None or np.searchsorted(wanted, first) < np.searchsorted(wanted, after):
                yield group, first
            first = after
            # Row groups need not lie one after another: their share of the rows is as near as progress has to be.
            self.bytes_read = self.stamp[0] * after // max(table.metadata.num_rows, 1)

    def _rows(self, batch: Any, orjson: Any, numbers: IntArray) -> list[bytes]:
        try:
            return [orjson.dumps(row) for row in batch.to_pylist()]
        except (TypeError, ValueError) as error:
            raise SourceError(
                self.name, f"this row or one soon after it has no JSON form: {error}", row=int(numbers[0]) + 1
            ) from error

    @contextmanager
    def _table(self) -> Iterator[Any]:
        """The open file as ``pyarrow.parquet.ParquetFile``, its columns checked."""
        pyarrow = _pyarrow()
        with self._reading() as file:
            try:
                with pyarrow.parquet.ParquetFile(file, pre_buffer=False) as table:
                    if "messages" not in table.schema_arrow.names:
                        raise SourceError(self.name, "no column `messages`", field="messages")
                    yield table
            except SourceError:
                raise
            except (pyarrow.ArrowException, OSError, ValueError, LookupError) as error:
                # Damaged metadata surfaces as names that are not UTF-8, or as columns that are not there.
                raise SourceError(self.name, f"not readable as Parquet: {_one_line(error)}") from error


def _open_reader(name: str) -> _Reader:
    """The reader for the suffix of ``name``."""
    lower = name.lower()
    if lower.endswith((".jsonl", ".jsonl.gz")):
        return _LinesReader(name, compressed=lower.endswith(".gz"))
    if lower.endswith(".json"):
        return _ArrayReader(name) if _begins_with_bracket(name) else _LinesReader(name, compressed=False)
    if lower.endswith(".parquet"):
        return _ParquetReader(name)
    with _opened(name):
        pass
    raise SourceError(name, "unknown kind of file: castore reads .jsonl, .jsonl.gz, .json and .parquet")


def _begins_with_bracket(name: str) -> bool:
    """True if the first byte of the text that is not blank opens an array."""
    with _opened(name) as file:
        head = file.read(len(codecs.BOM_UTF8)).removeprefix(codecs.BOM_UTF8).lstrip()
        while not head and (piece := file.read(_READ_BYTES)):
            head = piece.lstrip()
    return head.startswith(b"[")


@contextmanager
def _opened(name: str) -> Iterator[BinaryIO]:
    """``name`` open for reading, if it is a regular file: it is read more than once, which a pipe cannot be.

    Raises:
        SourceError: It is something else, is not there, may not be read, or fails while it is read.
    """
    if "\0" in name or not name:
        raise SourceError(repr(name), "not a file name")
    try:
        # Asked before opening, because opening a pipe would wait for its writer.
        mode = Path(name).stat().st_mode
        if not stat.S_ISREG(mode):
            raise SourceError(name, "is a directory" if stat.S_ISDIR(mode) else "is not a regular file")
        with open(name, "rb") as file:
            yield file
    except OSError as error:
        raise SourceError(name, _one_line(error.strerror or error)) from error


def _stamp(file: BinaryIO) -> tuple[int, int]:
    """Size in bytes and time of the last change in ns: equal as long as nobody writes to the file."""
    found = os.fstat(file.fileno())
    return found.st_size, found.st_mtime_ns


def _inflated(file: BinaryIO) -> Iterator[bytes]:
    """Text of a gzip file of one or more members, in pieces of at most ``_READ_BYTES``, however well it is compressed.

    Raises:
        zlib.error: Damaged data, wrong checksum, or something else after the last member.
        EOFError: The file ends within a member or has none.
    """
    member = zlib.decompressobj(zlib.MAX_WBITS | 16)
    member_count = 0
    begun = False
    data = b""
    while data or (data := file.read(_READ_BYTES // 4)):
        if not begun and member_count:
            # Zeros may pad the space between members and after the last.
            data = data.lstrip(b"\0")
            if not data:
                continue
        begun = True
        piece = member.decompress(data, _READ_BYTES)
        data = member.unconsumed_tail
        if member.eof:
            data = member.unused_data
            member = zlib.decompressobj(zlib.MAX_WBITS | 16)
            member_count += 1
            begun = False
        if piece:
            yield piece
    if begun or not member_count:
        raise EOFError("unexpected end of file")


def _split(lines: Sequence[bytes], line_count: int) -> tuple[list[bytes], IntArray]:
    """The lines that are rows, less byte order mark and carriage returns, and their 1-based numbers.

    Args:
        lines: Lines of a file without newlines.
        line_count: How many lines came before them.
    """
    rows = [line.rstrip(b"\r") for line in lines]
    if not line_count and rows:
        rows[0] = rows[0].removeprefix(codecs.BOM_UTF8)
    numbers = np.arange(line_count + 1, line_count + 1 + len(rows), dtype=np.int64)
    blank = [at for at, row in enumerate(rows) if not row or row.isspace()]
    if blank:
        numbers = np.delete(numbers, blank)
        rows = [row for row in rows if row and not row.isspace()]
    return rows, numbers


def _parquet_batch_rows(group: Any) -> int:
    """How many rows of a row group make about ``_PARQUET_BATCH_BYTES`` before dictionaries are resolved."""
    columns = (group.column(at) for at in range(group.num_columns))
    byte_count = sum(
        column.total_uncompressed_size
        for column in columns
        if column.path_in_schema.partition(".")[0] in _PARQUET_COLUMNS
    )
    row_bytes = byte_count // max(group.num_rows, 1) + 1
    return int(min(max(_PARQUET_BATCH_BYTES // row_bytes, 1), _PARQUET_BATCH_ROWS_MAX))


def orjson_library() -> Any:
    """The library that reads and writes JSON quickly; MissingExtraError if it is not installed."""
    try:
        import orjson
    except ImportError as error:
        raise MissingExtraError("orjson", "tokenize") from error
    return orjson


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError("pyarrow", "parquet") from error
    return pyarrow


def _too_long(name: str, line: int) -> SourceError:
    return SourceError(name, f"longer than {ROW_BYTES_MAX} bytes, the limit of one row", row=line)


def _one_line(error: object) -> str:
    return " ".join(str(error).split())
