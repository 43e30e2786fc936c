"""How far two output directories of open-instruct are equal, from their bytes alone: without numpy.

Directories that are equal are told so here. Where they differ, what was found equal need not be compared again.
"""

from __future__ import annotations

import json
import operator
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from castore.errors import SourceError
from castore.olmo.files import BOUNDS_LINE_MAX, GZIP_TIME, Statistics, part_names, read_statistics
from castore.olmo.part_file import PartFile, Stamp, check_unchanged, unequal_blocks
from castore.store.files import open_descriptor, read_exactly

_TEXT_BYTES = 1 << 20
"""Bytes of boundaries that are parsed at once: numbers of Python take thirty times that."""


class Agreement(NamedTuple):
    """What is equal of two directories that have the same parts and boundaries.

    Attributes:
        id_bytes: Bytes of an id, in both.
        tokens: Tokens of both.
        ids: Elements at the front of the ids that are equal, counted through all parts.
        labels: The same of the labels.
        samples: Documents of both, if all is equal and their boundaries agree with the statistics; else None.
        stamps: Of every file that was read, by path: it holds as long as they are the same.
    """

    id_bytes: int
    tokens: int
    ids: int
    labels: int
    samples: int | None
    stamps: Mapping[str, Stamp]

    def check_unchanged(self) -> None:
        """Make sure that nobody wrote to a file since.

        Raises:
            SourceError: Somebody did.
        """
        for path, stamp in self.stamps.items():
            check_unchanged(path, stamp)


class _PartPair(NamedTuple):
    """Files of one part on both sides, its tokens, and its boundaries as they are stored but for their time."""

    ids: tuple[str, str]
    labels: tuple[str, str]
    tokens: int
    id_bytes: int
    bounds: bytes


def agreement(a: str, b: str) -> Agreement | None:
    """How far two directories are equal; None if they do not have the same shape, or one of them is not in order.

    Raises:
        SourceError: A directory is incomplete, or changed while it was read.
    """
    stamps: dict[str, Stamp] = {}
    names = part_names(a)
    if names != part_names(b):
        return None
    statistics = Statistics(read_statistics(a)).overall, Statistics(read_statistics(b)).overall
    parts = [_part((a, b), *part, stamps) for part in names]
    known = [part for part in parts if part is not None]
    tokens = sum(part.tokens for part in known)
    documents = statistics[0].get("total_instances")
    said = [[of.get(field) for field in ("total_instances", "total_tokens")] for of in statistics]
    if len(known) < len(parts) or said != [[documents, tokens]] * 2 or not isinstance(documents, int):
        return None
    sizes = [part.tokens for part in known]
    if len({part.id_bytes for part in known}) > 1 or any(size != sizes[0] for size in sizes[:-1]):
        return None
    if sizes[-1] > sizes[0]:
        return None
    ids = _front([part.ids for part in known], sizes, known[0].id_bytes, stamps)
    labels = _front([part.labels for part in known], sizes, 1, stamps)
    whole = ids == labels == tokens
    samples = documents if whole and _counts_documents(known, documents) else None
    found = Agreement(known[0].id_bytes, tokens, ids, labels, samples, stamps)
    found.check_unchanged()
    return found


def _part(
    folders: tuple[str, str], ids_name: str, labels_name: str, bounds_name: str, stamps: dict[str, Stamp]
) -> _PartPair | None:
    """A part that both sides have in the same shape, else None."""
    try:
        a, b = ([os.path.join(folder, name) for name in (ids_name, labels_name)] for folder in folders)  # noqa: PTH118
        stamps.update({path: Stamp.of(os.stat(path)) for path in (*a, *b)})  # noqa: PTH116
        (ids, labels), others = ([stamps[path].size for path in side] for side in (a, b))
        paths = [os.path.join(folder, bounds_name) for folder in folders]  # noqa: PTH118
        bounds = [_stored_bounds(path, labels, stamps) for path in paths]
    except OSError:
        return None  # said where the directory is opened
    width = ids // labels if labels else 0
    if others != [ids, labels] or width not in (1, 2, 4, 8) or width * labels != ids:
        return None
    if bounds[0] is None or bounds[0] != bounds[1]:
        return None
    return _PartPair((a[0], b[0]), (a[1], b[1]), labels, width, bounds[0])


def _stored_bounds(path: str, tokens: int, stamps: dict[str, Stamp]) -> bytes | None:
    """A file of boundaries as it is, but for the time in its header; None if it is too large to be one."""
    fd, status = open_descriptor(path)
    try:
        if status.st_size > BOUNDS_LINE_MAX * (tokens + 2):
            return None
        stamps[path] = Stamp.of(status)
        data = read_exactly(fd, status.st_size)
    finally:
        os.close(fd)
    return data[: GZIP_TIME.start] + data[GZIP_TIME.stop :]


def _front(pairs: Sequence[tuple[str, str]], sizes: Sequence[int], width: int, stamps: Mapping[str, Stamp]) -> int:
    """Equal elements at the front of the files of all parts."""
    before = 0
    for (path_a, path_b), size in zip(pairs, sizes, strict=True):
        with _opened(path_a, stamps) as file_a, _opened(path_b, stamps) as file_b:
            first = next(unequal_blocks(file_a, file_b, 0, 0, size * width), None)
        if first is not None:
            return before + first[0] // width
        before += size
    return before


def _opened(path: str, stamps: Mapping[str, Stamp]) -> PartFile:
    try:
        file = PartFile(path)
    except OSError as error:
        raise SourceError(path, error.strerror or "cannot be opened") from error
    if file.stamp != stamps[path]:
        raise SourceError(path, "changed while it was read")
    return file


def _counts_documents(parts: Sequence[_PartPair], documents: int) -> bool:
    """Whether the boundaries list so many documents; one that crosses parts is listed in both of them."""
    lines = 0
    for part in parts:
        found = _lines_that_cover(part.bounds, part.tokens)
        if found is None:
            return False
        lines += found
    return 0 <= lines - documents < len(parts)


def _lines_that_cover(bounds: bytes, tokens: int) -> int | None:
    """How many lines of start,end cover so many tokens without a gap; None if they do not."""
    lines, at, rest = 0, 0, b""
    try:
        for text in _texts(bounds):
            whole, end, rest = (rest + text).rpartition(b"\n")
            stop = _stop(whole + end, at)
            if stop is None or stop > tokens or len(rest) > BOUNDS_LINE_MAX:
                return None
            lines, at = lines + whole.count(b"\n") + len(end), stop
    except zlib.error:
        return None
    return lines if lines and at == tokens and not rest else None


def _texts(bounds: bytes) -> Iterator[bytes]:
    """The text of stored boundaries, some at a time; ``zlib.error`` if they are not one gzip member and no more."""
    decompressor = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    yield decompressor.decompress(bounds[: GZIP_TIME.start] + bytes(4), _TEXT_BYTES)
    rest = bounds[GZIP_TIME.start :]
    while not decompressor.eof:
        text = decompressor.decompress(rest, _TEXT_BYTES)
        rest = decompressor.unconsumed_tail
        if not text and not rest and not decompressor.eof:
            raise zlib.error("is cut short")
        yield text
    if decompressor.unused_data or rest:
        raise zlib.error("holds more")


def _stop(text: bytes, start: int) -> int | None:
    """Where lines of start,end that follow one another end, if they begin at a token; None if they do not."""
    if not text:
        return start
    if text.translate(None, b"0123456789") != b",\n" * text.count(b"\n"):
        return None
    try:
        # The quickest way to numbers without numpy, whose import takes twice as long for 1 GB.
        numbers = json.loads(b"[%b]" % text[:-1].replace(b"\n", b","))
    except ValueError:  # also of zeros in front, which are none of our business here
        return None
    starts, stops = numbers[0::2], numbers[1::2]
    if starts[0] != start or starts[1:] != stops[:-1] or not all(map(operator.lt, starts, stops)):
        return None
    found: int = stops[-1]
    return found
