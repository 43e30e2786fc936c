"""Readers of files of conversations: JSON lines and JSON arrays, plain or compressed; their rows in batches.

Memory does not grow with the file (JSON arrays excepted, which have a limit instead), and a row beyond
``ROW_BYTES_MAX`` stops the run before memory is taken for it.
"""

from __future__ import annotations

import codecs
import os
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from castore.errors import MissingExtraError, SourceError
from castore.ingest.defaults import MESSAGES_FORMAT
from castore.ingest.shapes import columns_of
from castore.store.files import open_regular
from castore.store.zstd_stream import zstd_pieces

ROW_BYTES_MAX = 64 * 1024 * 1024
"""Longest row in bytes. A conversation of a million tokens is about 4 MiB."""

ARRAY_BYTES_MAX = 1024 * 1024 * 1024
"""Largest file that holds one JSON array, since such a file is parsed as a whole."""

_READ_BYTES = 1024 * 1024

DAMAGE = (zlib.error, EOFError, ValueError)
"""What reading compressed data raises."""

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class RowBatch:
    """Some rows as a reader found them: at least one; ``numbers`` and ``lines`` are int64[len(rows)], ascending."""

    rows: list[bytes]
    numbers: IntArray
    lines: IntArray

    def take(self, at: IntArray) -> RowBatch:
        """The rows at these positions, which ascend."""
        if len(at) == len(self.rows):
            return self
        return RowBatch([self.rows[i] for i in at.tolist()], self.numbers[at], self.lines[at])


class RowReader(ABC):
    """What a ``Source`` reads rows from.

    Attributes:
        name: As the user spelled it.
        columns: Those that are taken of a file of columns, in the order in which they stand in a row.
        digest: Of the content, 64 hex digits; None until a whole pass settled it.
        bytes_read: How far the current pass has come, at most ``byte_count``.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.columns = columns_of(MESSAGES_FORMAT)
        self.digest: str | None = None
        self.bytes_read = 0

    def names(self) -> list[str] | None:
        """Names of all columns; None where each row has its own."""
        return None

    @property
    @abstractmethod
    def byte_count(self) -> int:
        """Size in bytes."""

    @abstractmethod
    def batches(self, wanted: IntArray | None) -> Iterator[RowBatch]:
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


class FileReader(RowReader):
    """One kind of file. Opens it anew for each pass and holds no handle between passes.

    Args:
        name: For messages.
        path: Where the file is, if not at ``name``.
    """

    def __init__(self, name: str, path: str | None = None) -> None:
        super().__init__(name)
        self._path = name if path is None else path
        self.stamp: tuple[int, int] = (0, 0)
        with opened(name, self._path) as file:
            self.stamp = _stamp(file)

    @property
    def byte_count(self) -> int:
        """Size of the file on disk."""
        return self.stamp[0]

    def scan_digest(self) -> str:
        """Digest of the bytes of the file, by reading them."""
        hasher = blake3()
        with self.reading() as file:
            while piece := file.read(_READ_BYTES):
                hasher.update(piece)
        return self.settle(hasher.hexdigest())

    @contextmanager
    def reading(self) -> Iterator[BinaryIO]:
        """The open file, which must not have changed since it was first opened, nor change in the meantime."""
        with opened(self.name, self._path) as file:
            self._check_unchanged(file)
            yield file
            self._check_unchanged(file)

    def _check_unchanged(self, file: BinaryIO) -> None:
        if _stamp(file) != self.stamp:
            raise self.changed()


class TextReader(FileReader):
    """Text, plain or compressed; its digest is that of the text, so that it is the same however it is compressed."""

    def __init__(self, name: str, path: str | None = None, *, compression: str | None = None) -> None:
        super().__init__(name, path)
        self._compression = compression

    def pieces(self, file: BinaryIO) -> Iterator[bytes]:
        """The text in pieces of bounded size; keeps ``bytes_read`` up to date."""
        self.bytes_read = 0
        for piece in unpacked(file, self._compression):
            self.bytes_read = file.tell()
            yield piece

    def damaged(self, error: Exception, row: int | None) -> SourceError:
        """The error of compressed data that cannot be unpacked."""
        where = "" if row is None else " in or soon after this row"
        return SourceError(
            self.name, f"{self._compression} data is damaged or cut short{where} ({one_line(error)})", row=row
        )


class LinesReader(TextReader):
    """JSON lines."""

    def batches(self, wanted: IntArray | None) -> Iterator[RowBatch]:
        """As ``RowReader`` says."""
        number = 0
        for rows, lines in self._lines():
            numbers = np.arange(number, number + len(rows), dtype=np.int64)
            yield RowBatch(rows, numbers, lines)
            number += len(rows)
            if wanted is not None and number > wanted[-1]:
                return

    def count(self) -> int:
        """As ``RowReader`` says."""
        return sum(len(rows) for rows, _ in self._lines())

    def scan_digest(self) -> str:
        """As ``RowReader`` says."""
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
        with self.reading() as file:
            try:
                for piece in self.pieces(file):
                    hasher.update(piece)
                    if lines := joiner.feed(piece):
                        yield lines
            except DAMAGE as error:
                raise self.damaged(error, joiner.line_count + 1) from error
        yield joiner.finish()


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
            raise too_long(self._name, self.line_count + 1)
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


def begins_with_bracket(name: str, path: str | None = None, compression: str | None = None) -> bool:
    """True if the first byte of the text that is not blank opens an array; False also of damaged text."""
    head = b""
    with opened(name, name if path is None else path) as file, suppress(*DAMAGE):
        for piece in unpacked(file, compression):
            head = (head + piece).removeprefix(codecs.BOM_UTF8).lstrip()
            if len(head) > len(codecs.BOM_UTF8):
                break
    return head.startswith(b"[")


def unpacked(file: BinaryIO, compression: str | None) -> Iterator[bytes]:
    """Text of a file in pieces of bounded size.

    Args:
        file: As it is on disk.
        compression: ``gzip``, ``zstd`` or None.

    Raises:
        zlib.error, ValueError, EOFError: Damaged data, or data cut short (``DAMAGE``).
    """
    if compression == "gzip":
        return _inflated(file)
    if compression == "zstd":
        return zstd_pieces(file)
    return iter(lambda: file.read(_READ_BYTES), b"")


@contextmanager
def opened(name: str, path: str | None = None) -> Iterator[BinaryIO]:
    """A file open for reading, if it is a regular one: it is read more than once, which a pipe cannot be.

    Args:
        name: For messages.
        path: Where the file is, if not at ``name``.

    Raises:
        SourceError: It is something else, is not there, may not be read, or fails while it is read.
    """
    path = name if path is None else path
    if "\0" in path or not path:
        raise SourceError(repr(name), "not a file name")
    try:
        with open_regular(path) as file:
            yield file
    except OSError as error:
        raise SourceError(name, one_line(error.strerror or error)) from error


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


def orjson_library() -> Any:
    """The library that reads and writes JSON quickly; MissingExtraError if it is not installed."""
    try:
        import orjson
    except ImportError as error:
        raise MissingExtraError("orjson", "tokenize") from error
    return orjson


def too_long(name: str, line: int) -> SourceError:
    """The error of a row over the limit."""
    return SourceError(name, f"longer than {ROW_BYTES_MAX} bytes, the limit of one row", row=line)


def one_line(error: object) -> str:
    """An error's text on one line."""
    return " ".join(str(error).split())
