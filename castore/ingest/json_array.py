"""Items of a JSON array as bytes, found without judging what is in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from typing import Any

# A string is passed over as a whole; a quotation mark that ends nowhere is found as such.
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|["\[\]{},]', re.DOTALL)

# Digits that may be an integer of more than 64 bits.
_MANY_DIGITS = re.compile(rb"[0-9]{19}")


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
