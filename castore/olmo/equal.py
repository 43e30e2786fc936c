"""How far two output directories of open-instruct are equal, from their bytes alone: without numpy.

Directories that are equal are told so here. Where they differ, what was found equal need not be compared again.
"""

from __future__ import annotations

import json
import operator
import os
import zlib
from collections.abc import Sequence
from typing import NamedTuple

from castore.olmo.file_compare import ComparedFile, unequal_blocks
from castore.olmo.files import BOUNDS_LINE_MAX, GZIP_TIME, Statistics, part_names, read_statistics
from castore.store.files import open_regular


class Agreement(NamedTuple):
    """What is equal of two directories that have the same parts and boundaries.

    Attributes:
        id_bytes: Bytes of an id, in both.
        tokens: Tokens of both.
        ids: Elements at the front of the ids that are equal, counted through all parts.
        labels: The same of the labels.
        samples: Documents of both, if all is equal and their boundaries agree with the statistics; else None.
    """

    id_bytes: int
    tokens: int
    ids: int
    labels: int
    samples: int | None


class _PartPair(NamedTuple):
    """Files of one part on both sides, its tokens, and its boundaries as they are stored."""

    ids: tuple[str, str]
    labels: tuple[str, str]
    tokens: int
    id_bytes: int
    bounds: bytes


def agreement(a: str, b: str) -> Agreement | None:
    """How far two directories are equal; None if they do not have the same shape, or one of them is not in order.

    Raises:
        SourceError: A directory is incomplete, or a file became shorter.
    """
    names = part_names(a)
    if names != part_names(b):
        return None
    statistics = Statistics(read_statistics(a)).overall, Statistics(read_statistics(b)).overall
    parts = [_part((a, b), *part) for part in names]
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
    ids = _front([part.ids for part in known], sizes, known[0].id_bytes)
    labels = _front([part.labels for part in known], sizes, 1)
    whole = ids == labels == tokens
    samples = documents if whole and _counts_documents(known, documents) else None
    return Agreement(known[0].id_bytes, tokens, ids, labels, samples)


def _part(folders: tuple[str, str], ids_name: str, labels_name: str, bounds_name: str) -> _PartPair | None:
    """A part that both sides have in the same shape, else None."""
    try:
        a, b = ([os.path.join(folder, name) for name in (ids_name, labels_name)] for folder in folders)  # noqa: PTH118
        (ids, labels), others = ([os.stat(path).st_size for path in side] for side in (a, b))  # noqa: PTH116
        bounds = [_stored_bounds(os.path.join(folder, bounds_name), labels) for folder in folders]  # noqa: PTH118
    except OSError:
        return None  # said where the directory is opened
    width = ids // labels if labels else 0
    if others != [ids, labels] or width not in (1, 2, 4, 8) or width * labels != ids:
        return None
    if bounds[0] is None or bounds[0] != bounds[1]:
        return None
    return _PartPair((a[0], b[0]), (a[1], b[1]), labels, width, bounds[0])


def _stored_bounds(path: str, tokens: int) -> bytes | None:
    """A file of boundaries as it is, but for the time in its header; None if it is too large to be one."""
    with open_regular(path) as file:
        if os.fstat(file.fileno()).st_size > BOUNDS_LINE_MAX * (tokens + 2):
            return None
        data = file.read()
    return data[: GZIP_TIME.start] + data[GZIP_TIME.stop :]


def _front(pairs: Sequence[tuple[str, str]], sizes: Sequence[int], width: int) -> int:
    """Equal elements at the front of the files of all parts."""
    before = 0
    for (path_a, path_b), size in zip(pairs, sizes, strict=True):
        file_a = ComparedFile(path_a)
        try:
            file_b = ComparedFile(path_b)
            try:
                first = next(unequal_blocks(file_a, file_b, 0, 0, size * width), None)
            finally:
                file_b.close()
        finally:
            file_a.close()
        if first is not None:
            return before + first[0] // width
        before += size
    return before


def _counts_documents(parts: Sequence[_PartPair], documents: int) -> bool:
    """Whether the boundaries list so many documents; one that crosses parts is listed in both of them."""
    lines = 0
    for part in parts:
        limit = BOUNDS_LINE_MAX * (part.tokens + 1)
        try:
            decompressor = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
            text = decompressor.decompress(part.bounds[: GZIP_TIME.start] + bytes(4), limit)
            text += decompressor.decompress(part.bounds[GZIP_TIME.start :], limit)
        except zlib.error:
            return False
        if not decompressor.eof or decompressor.unused_data or not _covers(text, part.tokens):
            return False
        lines += text.count(b"\n")
    return 0 <= lines - documents < len(parts)


def _covers(text: bytes, tokens: int) -> bool:
    """Whether lines of start,end cover so many tokens without a gap."""
    if text.translate(None, b"0123456789") != b",\n" * text.count(b"\n"):
        return False
    try:
        # The quickest way to numbers without numpy, whose import takes twice as long for 1 GB.
        numbers = json.loads(b"[%b]" % text[:-1].replace(b"\n", b","))
    except ValueError:  # also of zeros in front, which are none of our business here
        return False
    starts, stops = numbers[0::2], numbers[1::2]
    if not numbers or starts[0] != 0 or stops[-1] != tokens:
        return False
    return starts[1:] == stops[:-1] and all(map(operator.lt, starts, stops))
