"""Files that are one JSON array; its items are found as bytes, without judging what is in them."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from typing import Any

import numpy as np
from blake3 import blake3

from castore.errors import SourceError
from castore.ingest import readers
from castore.ingest.readers import DAMAGE, IntArray, RowBatch, TextReader, orjson_library

# A string is passed over as a whole; a quotation mark that ends nowhere is found as such.
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|["\[\]{},]', re.DOTALL)

# Digits that may be an integer of more than 64 bits.
_MANY_DIGITS = re.compile(rb"[0-9]{19}")

_BATCH_ROWS = 256


class ArrayReader(TextReader):
    """A file that is one JSON array of objects."""

    def batches(self, wanted: IntArray | None) -> Iterator[RowBatch]:
        """As ``RowReader`` says."""
        rows, at = self._rows(), 0
        while some := [*islice(rows, _BATCH_ROWS)]:
            numbers = np.arange(at, at + len(some), dtype=np.int64)
            yield RowBatch(some, numbers, numbers + 1)
            at += len(some)
            if wanted is not None and at > wanted[-1]:
                return
        self.bytes_read = self.stamp[0]

    def count(self) -> int:
        """As ``RowReader`` says."""
        return sum(1 for _ in self._rows())

    def scan_digest(self) -> str:
        """As ``RowReader`` says."""
        self._text()
        assert self.digest is not None
        return self.digest

    def _rows(self) -> Iterator[bytes]:
        orjson = orjson_library()
        try:
            yield from array_rows(self._text().removeprefix(codecs.BOM_UTF8), orjson)
        except ArrayError as error:
            raise SourceError(self.name, f"not valid JSON: {error}", row=error.item + 1) from error

    def _text(self) -> bytes:
        pieces, size = [], 0
        with self.reading() as file:
            try:
                for piece in self.pieces(file):
                    size += len(piece)
                    if size > readers.ARRAY_BYTES_MAX:
                        raise SourceError(
                            self.name,
                            f"a JSON array over {readers.ARRAY_BYTES_MAX >> 20} MiB is not read: "
                            "convert it to JSON lines",
                        )
                    pieces.append(piece)
            except DAMAGE as error:
                raise self.damaged(error, None) from error
        text = b"".join(pieces)
        self.settle(blake3(text).hexdigest())
        return text


class ArrayError(Exception):
    """A text is no array; ``item`` is the 0-based number of the item in or behind which that shows."""

    def __init__(self, reason: str, item: int) -> None:
        super().__init__(reason)
        self.item = item


def array_rows(text: bytes, orjson: Any) -> Iterator[bytes]:
    """The items of an array as rows: each compact, if nothing is lost by that, else as it is written.

    So an item is the row that it would be as a line, and is refused or accepted as that.

    Args:
        text: Of the file, an opening bracket in front.
        orjson: The library.

    Raises:
        ArrayError: Brackets, strings or what is behind the end do not fit. Items in front have been given.
    """
    done = 0
    if not _MANY_DIGITS.search(text):
        # Where an item is at fault, or nested deeper than orjson writes, it is found below.
        with suppress(orjson.JSONDecodeError, orjson.JSONEncodeError):
            items = orjson.loads(text)
            for at, item in enumerate(items):
                items[at] = None  # what was given need not stay in memory
                row = orjson.dumps(item)
                done += 1
                yield row
            return
    for item in islice(_items(text), done, None):
        yield _compact(item, orjson)


def _compact(item: bytes, orjson: Any) -> bytes:
    if _MANY_DIGITS.search(item):
        return item
    try:
        compact: bytes = orjson.dumps(orjson.loads(item))
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        return item
    return compact


def _items(text: bytes) -> Iterator[bytes]:
    depth = count = begin = 0
    for token in _TOKEN.finditer(text):
        mark = text[token.start() : token.start() + 1]
        if mark in b"[{":
            depth += 1
            if depth == 1:
                begin = token.end()
        elif mark in b"]}":
            depth -= 1
            if depth == 0:
                last = text[begin : token.start()].strip()
                if last or count:
                    yield last
                if text[token.end() :].strip():
                    raise ArrayError("something stands behind the end of the array", count)
                return
        elif mark == b",":
            if depth == 1:
                yield text[begin : token.start()].strip()
                begin = token.end()
                count += 1
        elif token.end() == token.start() + 1:
            raise ArrayError("a string has no end", count)
    raise ArrayError("the array has no end", count)
