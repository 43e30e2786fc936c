"""Reading an output directory of open-instruct, in the layout that OLMo-core trains from.

Parts are mapped, not read: a document is a slice of one part, or of several where it crosses their ends. Everything
that can contradict something else is compared when the folder is opened, so a folder that is incomplete, half-written
or mixed from two runs is refused with the reason.
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from castore.errors import SourceError
from castore.format.samples import TOKENS_MAX, Column, Samples, SpanColumn, offsets_of
from castore.olmo.files import (
    BOUNDS_LINE_MAX,
    GZIP_TIME,
    STATISTICS_FILE,
    TOKENIZER_FILE_BYTES_MAX,
    Statistics,
    part_names,
    read_statistics,
)
from castore.olmo.sources import integer_of
from castore.store.files import open_regular

_READ_BYTES = 1 << 20
_BOUNDS_BYTES = 1 << 24
"""Bytes of boundaries that are parsed at once."""

_ENDS_MAX = 4096
"""Documents of a part that are asked in which token documents end."""
_DIGITS_MAX = 18
"""Digits of a boundary: what fits 63 bits."""


class _FileDigest:
    """BLAKE3 of a file, of which some was read and hashed on other business already."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._hasher = blake3()
        self._done = 0

    def saw(self, offset: int, data: NDArray[Any]) -> None:
        """Take what somebody has just read at ``offset``, if it is what comes next."""
        if offset == self._done:
            self._hasher.update(data.data.cast("B"))
            self._done += data.nbytes

    def digest(self) -> bytes:
        """The digest; what nobody read is read now."""
        # Reading into one buffer costs a fraction of touching every page of a map.
        buffer = bytearray(_READ_BYTES)
        with open_regular(self._path) as file:
            file.seek(self._done)
            while count := file.readinto(buffer):
                self._hasher.update(memoryview(buffer)[:count])
                self._done += count
        return self._hasher.digest()


@dataclass(frozen=True, slots=True)
class _Part:
    """One part: ids in their stored width, labels as bytes, bounds of its documents int64[n, 2], files of both."""

    ids: NDArray[Any]
    labels: NDArray[np.uint8]
    bounds: NDArray[np.int64]
    bounds_stored: tuple[int, bytes]
    paths: tuple[Path, Path]
    digests: tuple[_FileDigest, _FileDigest]


class OlmoCoreFolder:
    """An output directory of ``convert_sft_data_for_olmocore.py``, or of ``castore export``.

    Args:
        path: The folder.
        beside: A folder whose boundaries are not parsed again where these are stored alike.

    Attributes:
        path: As it was spelled.
        statistics: The parsed ``dataset_statistics.json``.
        lengths: Tokens of every document in order, uint32[n]. Documents that cross parts are joined.
        id_bytes: Bytes of one id.

    Raises:
        SourceError: The folder is no such directory, or its files contradict each other.
    """

    def __init__(self, path: str, beside: OlmoCoreFolder | None = None) -> None:
        self.path = path
        folder = Path(path)
        known = {} if beside is None else {part.bounds_stored: part.bounds for part in beside._parts}
        self.statistics = Statistics(read_statistics(path))
        self._parts: list[_Part] = [_open_part(path, folder, known, *names) for names in part_names(path)]
        _check_parts(path, self._parts)
        self.id_bytes = self._parts[0].ids.itemsize if self._parts else 4
        self._part_starts = offsets_of(np.array([len(part.ids) for part in self._parts], np.int64))
        self._starts = self._document_starts()
        lengths = np.diff(np.append(self._starts, self._part_starts[-1]))
        if len(lengths) and int(lengths.max()) > TOKENS_MAX:
            at = int(lengths.argmax())
            raise SourceError(path, f"document {at} has {lengths[at]} tokens: at most {TOKENS_MAX} are possible")
        self.lengths = lengths.astype(np.uint32)

    @property
    def tokens(self) -> int:
        """Tokens of all documents."""
        return int(self._part_starts[-1])

    @property
    def vocab_size(self) -> int:
        """The largest vocabulary whose ids have this width."""
        return 1 << min(8 * self.id_bytes, 63)

    @property
    def starts(self) -> NDArray[np.int64]:
        """Token at which every document begins, counted through all parts, int64[n]."""
        return self._starts

    @property
    def part_starts(self) -> list[int]:
        """Token at which every part begins, and one past the last."""
        return [int(start) for start in self._part_starts]

    @property
    def part_items(self) -> int | None:
        """Tokens of a full part; None where one part is all, which tells nothing of what would be a full one."""
        return len(self._parts[0].ids) if len(self._parts) > 1 else None

    def shuffled_count(self, otherwise: int = 0) -> int:
        """How many documents were shuffled, as far as the statistics tell; ``otherwise`` without statistics.

        Of a name that was twice in the mix they have the documents of both in the output, but count only the last
        one's before that.
        """
        total = 0
        for entry in self.statistics.datasets:
            kept = integer_of(entry.get("instances_after_transformation"), 0) or 0
            total += max(kept, integer_of(entry.get("final_instances_in_output"), 0) or 0)
        return total if self.statistics.datasets else otherwise

    @property
    def part_paths(self) -> list[tuple[Path, Path]]:
        """Files of ids and of labels of every part."""
        return [part.paths for part in self._parts]

    def fits(self, vocab_size: int) -> bool:
        """Whether ids of a vocabulary are written in this width: the smallest unsigned type that holds them."""
        return next(width for width in (1, 2, 4, 8) if vocab_size - 1 < 1 << 8 * width) == self.id_bytes

    @cached_property
    def files(self) -> Mapping[str, bytes]:
        """Files of the folder's ``tokenizer/`` by name, empty if there are none."""
        folder = Path(self.path) / "tokenizer"
        names = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "special_tokens_map.json")
        return {name: _tokenizer_file(self.path, folder / name) for name in names if (folder / name).is_file()}

    def digest(self) -> str:
        """BLAKE3 over shape, ids and labels of all parts, 64 hex digits: equal for equal data.

        What was read from front to back by ``samples`` before is not read again.
        """
        hasher = blake3(self.shape().encode())
        for part in self._parts:
            for file in part.digests:
                hasher.update(file.digest())
        return hasher.hexdigest()

    def shape(self) -> str:
        """BLAKE3 over width and boundaries, 64 hex digits: what can be told of the data without reading them."""
        hasher = blake3(self._starts.astype("<i8").tobytes())  # which documents were joined, the parts do not tell
        for part in self._parts:
            sizes = (part.ids.itemsize, len(part.ids), len(part.bounds))
            hasher.update(b"".join(size.to_bytes(8, "little") for size in sizes))
            hasher.update(part.bounds.astype("<i8").tobytes())
        return hasher.hexdigest()

    # ---- documents

    def samples(self, lo: int, hi: int) -> Samples:
        """Documents ``lo`` to ``hi`` with token_ids and labels_mask."""
        first, last = int(self._starts[lo]), self._stop(hi)
        lengths = self.lengths[lo:hi]
        return self._batch(lengths, self._gather(0, first, last, _read), self._gather(1, first, last, _read))

    def chosen(self, documents: NDArray[np.int64]) -> Samples:
        """The given documents in the given order, with token_ids and labels_mask."""
        starts = self._starts[documents].tolist()
        lengths = self.lengths[documents]
        stops = [start + length for start, length in zip(starts, lengths.tolist(), strict=True)]
        bounds = list(zip(starts, stops, strict=True))
        none = np.zeros(0, np.uint8)
        ids = np.concatenate([none, *(self._gather(0, *pair) for pair in bounds)])
        labels = np.concatenate([none, *(self._gather(1, *pair) for pair in bounds)])
        return self._batch(lengths, ids, labels)

    def _batch(self, lengths: NDArray[np.uint32], ids: NDArray[Any], labels: NDArray[np.uint8]) -> Samples:
        if ids.itemsize == 8 and len(ids) and int(ids.max()) >= 1 << 32:
            raise SourceError(self.path, f"token id {int(ids.max())} does not fit 32 bits")
        if len(labels) and int(labels.max()) > 1:
            raise SourceError(self.path, f"a label is {int(labels.max())}, not 0 or 1")
        columns: dict[str, Column] = {
            "token_ids": ids.astype(np.uint32, copy=False),
            "labels_mask": spans_of(labels, lengths),
        }
        return Samples(lengths, columns)

    def _stop(self, document: int) -> int:
        return int(self._starts[document]) if document < len(self._starts) else self.tokens

    def _gather(self, which: int, lo: int, hi: int, take: _Take | None = None) -> NDArray[Any]:
        """Elements ``lo`` to ``hi`` of the ids (0) or labels (1), over part ends where need be."""
        take = take or _slice
        index = int(np.searchsorted(self._part_starts, lo, side="right")) - 1
        if index < len(self._parts) and hi <= self._part_starts[index + 1]:
            base = int(self._part_starts[index])
            return take(self._parts[index], which, lo - base, hi - base)
        pieces = []
        while lo < hi:
            base, end = int(self._part_starts[index]), min(hi, int(self._part_starts[index + 1]))
            pieces.append(take(self._parts[index], which, lo - base, end - base))
            lo, index = end, index + 1
        return np.concatenate(pieces) if pieces else np.zeros(0, np.uint8)

    def _document_starts(self) -> NDArray[np.int64]:
        """Token at which every document begins. A part's first document goes on from the part before, or it is new.

        A document that reaches the end of a full part and one that begins the next are written alike; the number of
        documents in the statistics tells how many of them are one. Where that leaves a choice, or there are no
        statistics, a document that ends in the token that most documents end in is complete.
        """
        starts = [part.bounds[:, 0] + int(base) for part, base in zip(self._parts, self._part_starts, strict=False)]
        listed = sum(len(part) for part in starts)
        likely = self._joints() if len(self._parts) > 1 else []  # looking costs a page for every document looked at
        known = self.statistics.overall.get("total_instances")
        joined = sum(not complete for complete, _ in likely) if not isinstance(known, int) else listed - known
        if not 0 <= joined <= len(likely):
            raise SourceError(
                self.path,
                f"{STATISTICS_FILE} counts {known} documents, the boundaries list {listed} in {len(starts)} parts",
            )
        for _, part in likely[:joined]:
            starts[part] = starts[part][1:]
        return np.concatenate(starts) if starts else np.zeros(0, np.int64)

    def _joints(self) -> list[tuple[bool, int]]:
        """(whether the document before it looks complete, part) of all parts but the first, by how likely it does not.

        It does if it ends in the token that most of the others end in; and it is if going on made it longer than any
        can be, as after one that was cut at that length. Of those that end so, ones that go on as documents rarely
        begin come first: templates put the token behind every turn too.
        """
        ends = [part.bounds[: _ENDS_MAX + 1, 1][:-1] - 1 for part in self._parts]
        ends[-1] = self._parts[-1].bounds[:_ENDS_MAX, 1] - 1  # the last document of all is complete
        tokens = np.concatenate([part.ids[at] for part, at in zip(self._parts, ends, strict=True)])
        values, counts = np.unique(tokens, return_counts=True)
        usual = values[counts.argmax()]
        begun = [_two_at(part, part.bounds[at > 0 : _ENDS_MAX, 0]) for at, part in enumerate(self._parts)]
        pairs, times = np.unique(np.concatenate(begun), return_counts=True)
        often = dict(zip(pairs.tolist(), times.tolist(), strict=True))
        longest = integer_of(self.statistics.configuration.get("max_sequence_length"), None)
        joints = []
        for at, (part, after) in enumerate(pairwise(self._parts), 1):
            length = int(np.diff(part.bounds[-1])[0] + np.diff(after.bounds[0])[0])
            too_long = longest is not None and length > longest
            begins = often.get(int(_two_at(after, np.zeros(1, np.int64))[0]), 0)
            joints.append((too_long, bool(part.ids[-1] == usual), begins, at))
        return [(too_long or ended, at) for too_long, ended, _, at in sorted(joints)]


def _two_at(part: _Part, at: NDArray[np.int64]) -> NDArray[np.uint64]:
    """The token at each place and the one after it, as one number."""
    two = part.ids[at], part.ids[np.minimum(at + 1, len(part.ids) - 1)]
    return two[0].astype(np.uint64) << np.uint64(32) | two[1].astype(np.uint64)


def _tokenizer_file(shown: str, path: Path) -> bytes:
    try:
        with open_regular(path) as file:
            data = file.read(TOKENIZER_FILE_BYTES_MAX + 1)
    except OSError as error:
        raise SourceError(shown, f"tokenizer/{path.name}: {error.strerror}") from error
    if len(data) > TOKENIZER_FILE_BYTES_MAX:
        raise SourceError(shown, f"tokenizer/{path.name} is larger than {TOKENIZER_FILE_BYTES_MAX} bytes")
    return data


def spans_of(labels: NDArray[np.uint8], lengths: NDArray[Any]) -> SpanColumn:
    """Maximal true spans within each document.

    Args:
        labels: uint8[sum(lengths)] of 0 and 1.
        lengths: Elements of each document.
    """
    return SpanColumn.of_mask(labels.view(np.bool_), lengths)


_Take: TypeAlias = "Callable[[_Part, int, int, int], NDArray[Any]]"
"""Elements ``[lo, hi)`` of the ids (0) or labels (1) of a part."""


def _slice(part: _Part, which: int, lo: int, hi: int) -> NDArray[Any]:
    """Through the map: for documents here and there."""
    return (part.labels if which else part.ids)[lo:hi]


def _read(part: _Part, which: int, lo: int, hi: int) -> NDArray[Any]:
    """Through a buffer: for all documents in turn. A map would keep every page of the file in memory."""
    mapped = part.labels if which else part.ids
    path = part.paths[which]
    try:
        elements = np.fromfile(path, mapped.dtype, hi - lo, offset=lo * mapped.itemsize)
    except OSError as error:
        raise SourceError(str(path), error.strerror or "cannot be read") from error
    if len(elements) != hi - lo:
        raise SourceError(str(path), "became shorter while it was read")
    part.digests[which].saw(lo * mapped.itemsize, elements)
    return elements


# ---- opening


_Stored: TypeAlias = "tuple[int, bytes]"
"""Tokens of a part, and BLAKE3 of its boundaries as they are stored, but for the time in their header."""

_Known: TypeAlias = "Mapping[_Stored, NDArray[np.int64]]"


def _open_part(shown: str, folder: Path, known: _Known, ids_name: str, labels_name: str, bounds_name: str) -> _Part:
    labels = _mapped(shown, folder / labels_name, np.dtype(np.uint8))
    raw = _mapped(shown, folder / ids_name, np.dtype(np.uint8))
    width = len(raw) // len(labels) if len(labels) else 4
    if width not in (1, 2, 4, 8) or width * len(labels) != len(raw):
        raise SourceError(shown, f"{ids_name} has {len(raw)} bytes for the {len(labels)} labels of {labels_name}")
    bounds, stored = _read_bounds(shown, folder / bounds_name, len(labels), known)
    paths = folder / ids_name, folder / labels_name
    digests = _FileDigest(paths[0]), _FileDigest(paths[1])
    return _Part(raw.view(f"<u{width}"), labels, bounds, stored, paths, digests)


def _mapped(shown: str, path: Path, dtype: np.dtype[Any]) -> NDArray[Any]:
    try:
        with open_regular(path) as file:
            if os.fstat(file.fileno()).st_size == 0:
                return np.zeros(0, dtype)
            # An ndarray over the map: a memmap's own slices cost several times as much.
            return np.asarray(np.memmap(file, dtype, mode="r")).view(np.ndarray)
    except OSError as error:
        raise SourceError(shown, f"{path.name}: {error.strerror}") from error


def _read_bounds(shown: str, path: Path, items: int, known: _Known) -> tuple[NDArray[np.int64], _Stored]:
    """Boundaries of a part, int64[n, 2], which must cover it without a gap; and by what they are known again."""
    try:
        stored = items, _stored_digest(path)
        if stored in known:
            return known[stored], stored
        with open_regular(path) as compressed, gzip.open(compressed) as file:
            bounds = _bounds_in(file, items)
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
    return bounds, stored


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


def _stored_digest(path: Path) -> bytes:
    with open_regular(path) as file:
        head = bytearray(file.read(GZIP_TIME.stop))
        head[GZIP_TIME] = b""
        hasher, buffer = blake3(head), bytearray(_READ_BYTES)
        while count := file.readinto(buffer):
            hasher.update(memoryview(buffer)[:count])
    return hasher.digest()


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


def _check_parts(shown: str, parts: Sequence[_Part]) -> None:
    """All parts have the same width, and all but the last the same size."""
    widths = {part.ids.itemsize for part in parts}
    if len(widths) > 1:
        raise SourceError(shown, f"parts have ids of {sorted(widths)} bytes: they are of different runs")
    sizes = [len(part.ids) for part in parts]
    odd = next((i for i, size in enumerate(sizes[:-1]) if size != sizes[0]), None)
    if odd is not None or (len(sizes) > 1 and sizes[-1] > sizes[0]):
        which = len(sizes) - 1 if odd is None else odd
        raise SourceError(
            shown,
            f"part {which} has {sizes[which]} tokens where part 0 has {sizes[0]}: a part is cut short or left over",
        )


def check_statistics(folder: OlmoCoreFolder) -> None:
    """Compare the counts of the statistics with the files.

    Raises:
        SourceError: They are of another run.
    """
    found = {"total_instances": len(folder.lengths), "total_tokens": folder.tokens}
    for field, count in found.items():
        said = folder.statistics.overall.get(field)
        if isinstance(said, int) and said != count:
            raise SourceError(folder.path, f"{STATISTICS_FILE} says {field} {said}, the files hold {count}")
